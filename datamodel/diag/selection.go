package diag

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"
)

// contestant is one host of a server selection.
type contestant struct {
	host string
	at   path
	s    series
	err  error
}

// serverSelection is ServerSelectionDiagnostics(): all hosts at once, the one with the lowest mean wins.
func (p *Provider) serverSelection(ctx context.Context, r *run) error {
	var hosts []*contestant
	for _, h := range strings.Split(r.args.m["HostList"], ",") {
		if h = strings.TrimSpace(h); h != "" {
			hosts = append(hosts, &contestant{host: h})
		}
	}
	if len(hosts) == 0 || len(hosts) > maxHosts {
		r.args.fail("HostList", "must have 1 to 10 hosts")
	}
	udp := r.args.m["Protocol"] == "UDP Echo"
	if !udp && r.args.m["Protocol"] != "ICMP" {
		r.args.fail("Protocol", "must be ICMP or UDP Echo")
	}
	repeat := int(r.args.number("NumberOfRepetitions", 1, 1, maxRepetitions))
	timeout := r.args.millis("Timeout", time.Second)
	v, err := p.via(r)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for _, c := range hosts {
		wg.Go(func() {
			if c.at, c.err = p.find(ctx, c.host, v); c.err != nil {
				return
			}
			if !udp {
				c.err = p.pings(ctx, c.at, v, repeat, selectionSize, timeout, &c.s)
				return
			}
			e := echoTest{at: c.at, v: v, port: p.echoPort, repeat: repeat, size: selectionSize, timeout: timeout, gap: p.pace}
			c.err = e.run(ctx)
			c.s = e.s
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return choose(r, hosts)
}

// selectionSize is the data of a packet, since there is no argument for it.
const selectionSize = 32

// choose writes the results of the fastest host. Hosts that failed are out of the race, as long as one did not.
func choose(r *run, hosts []*contestant) error {
	var best *contestant
	for _, c := range hosts {
		if c.s.ok > 0 && (best == nil || c.s.mean() < best.s.mean()) {
			best = c
		}
	}
	if best == nil {
		best = hosts[0]
		r.set("FastestHost", "")
		err := best.err
		if err == nil {
			err = status(errOther, errors.New("no host answered"))
		}
		return err
	}
	r.set("FastestHost", best.host)
	r.set("IPAddressUsed", best.at.local.WithZone("").String())
	r.micros("MinimumResponseTime", best.s.min)
	r.micros("AverageResponseTime", best.s.mean())
	r.micros("MaximumResponseTime", best.s.max)
	return nil
}
