package diag

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"twinspan/datamodel"
)

const errMaxHops = "Error_MaxHopCountExceeded"

// reverseTime bounds all reverse lookups of one trace.
const reverseTime = 5 * time.Second

// hop is one router on the way.
type hop struct {
	addr  netip.Addr
	code  int
	times []time.Duration // one for each try, 0 without an answer
}

// traceRoute is TraceRoute(): echo requests with a growing hop limit.
func (p *Provider) traceRoute(ctx context.Context, r *run) error {
	host := r.args.host("Host")
	tries := int(r.args.number("NumberOfTries", 3, 1, 3))
	timeout := r.args.millis("Timeout", 5*time.Second)
	size := int(r.args.number("DataBlockSize", 38, 1, 65535))
	most := int(r.args.number("MaxHopCount", 30, 1, 64))
	v, err := p.via(r)
	if err != nil {
		return err
	}
	at, err := p.find(ctx, host, v)
	if err != nil {
		return err
	}
	r.set("IPAddressUsed", at.local.WithZone("").String())
	r.number("ResponseTime", 0) // stays so when no route is found
	q, err := p.newProber(ctx, at, v, true)
	if err != nil {
		return err
	}
	defer q.close()
	var hops []hop
	end := exceeded
	for ttl := 1; ttl <= most && end == exceeded && err == nil; ttl++ {
		var h hop
		if h, end, err = q.hop(ctx, ttl, tries, size, timeout); err == nil {
			hops = append(hops, h)
		}
	}
	p.routeHops(ctx, r, hops)
	switch {
	case err != nil && ctx.Err() == nil && errors.Is(err, syscall.EMSGSIZE):
		return datamodel.Fail(datamodel.CommandFailed, "", "DataBlockSize is more than one packet can carry")
	case err != nil:
		return errors.Join(ctx.Err(), sendStatus(err))
	case end == echoReply:
		r.number("ResponseTime", wholeMillis(answered(hops[len(hops)-1].times)))
		return nil
	case end == notReachable:
		return status(errNoRoute, errors.New("a router says that the host cannot be reached"))
	}
	return status(errMaxHops, errors.New("the host was not reached"))
}

// hop probes one distance. end is exceeded while the way goes on.
func (q *prober) hop(ctx context.Context, ttl, tries, size int, timeout time.Duration) (h hop, end fate, err error) {
	end = exceeded
	if err := q.conn.setTTL(ttl); err != nil {
		return h, end, errors.Join(ctx.Err(), err)
	}
	for try := range tries {
		a, err := q.probe(ctx, ttl*4+try, size, timeout)
		if err != nil {
			return h, end, err
		}
		rtt := time.Duration(0)
		if a.fate != noAnswer {
			rtt = max(a.rtt, 1)
			h.addr, h.code = a.from, a.code
		}
		h.times = append(h.times, rtt)
		if a.fate == echoReply || a.fate == notReachable && end != echoReply {
			end = a.fate
		}
	}
	return h, end, nil
}

// routeHops writes the rows: names where they are known, times rounded up, 0 for a lost answer.
func (p *Provider) routeHops(ctx context.Context, r *run, hops []hop) {
	ctx, cancel := context.WithTimeout(ctx, reverseTime)
	defer cancel()
	for i, h := range hops {
		row := "RouteHops." + strconv.Itoa(i+1) + "."
		name, addr := "", ""
		if h.addr.IsValid() {
			addr = h.addr.WithZone("").String()
			if names, err := p.names.LookupAddr(ctx, addr); err == nil && len(names) > 0 {
				name = strings.TrimSuffix(names[0], ".")
			}
		}
		if name == "" || len(name) > 256 { // without a name the address takes its place
			name, addr = addr, ""
		}
		r.set(row+"Host", name)
		r.set(row+"HostAddress", addr)
		r.number(row+"ErrorCode", uint64(h.code))
		times := make([]string, len(h.times))
		for i, t := range h.times {
			times[i] = strconv.FormatUint(wholeMillis(t), 10)
		}
		r.set(row+"RTTimes", strings.Join(times, ","))
	}
}

// wholeMillis rounds up, so that an answer is never 0.
func wholeMillis(d time.Duration) uint64 {
	return clip32(int64((d + time.Millisecond - 1) / time.Millisecond))
}

// answered is the mean of the times that are not 0.
func answered(times []time.Duration) time.Duration {
	var s series
	for _, t := range times {
		if t > 0 {
			s.add(t)
		}
	}
	return s.mean()
}
