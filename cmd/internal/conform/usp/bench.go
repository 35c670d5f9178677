package usp

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"twinspan/usp/mtp"
	"twinspan/usp/mtp/mqtt"
	"twinspan/usp/mtp/websocket"
)

// Who is who on the bench.
const (
	mainID    = "self::conform-main"
	secondID  = "self::conform-second"
	strangeID = "self::conform-stranger"
)

// bench is one agent with the two Controllers that manage it.
type bench struct {
	cfg          *Config
	dir          string
	agent        Agent
	setup        Setup
	broker       *broker // nil for an external one
	mosquitto    *mosquitto
	main, second *Peer
	tls          *authority // nil without TLS

	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// variant is what a test wants changed of the usual bench.
type variant struct {
	tls     bool
	expired bool // the certificates of Controllers and broker ended a day ago
	noClock bool // the agent does not know the time
	silent  bool // nobody waits for the agent's connect records
	noPeers bool // the test plays the Controller's end of the MTP itself
	// mainPort is where the test itself listens for the agent's connection to the main Controller.
	mainPort int
	script   *script // how the broker behaves
	password string
}

// openBench starts broker or listeners, the two Controllers and the agent, and waits for the agent's connect records.
func openBench(ctx context.Context, cfg *Config, v variant) (_ *bench, err error) {
	dir, err := os.MkdirTemp(cfg.Dir, "conform-")
	if err != nil {
		return nil, err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	b := &bench{cfg: cfg, dir: dir, cancel: cancel, agent: cfg.Agent(dir)}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w; the agent's log ends: %s", err, lastBytes(b.agent.Log(), 600))
			b.close()
		}
	}()
	b.setup = Setup{MTP: cfg.MTP, AgentID: cfg.AgentID, NoClock: v.noClock}
	if v.tls || cfg.Broker == Mosquitto && cfg.MTP == "mqtt" && v.script == nil {
		if b.tls, err = newAuthority(dir, cfg.AgentID, v.expired); err != nil {
			return nil, err
		}
		b.setup.CAFile, b.setup.CertFile, b.setup.KeyFile = b.tls.caFile, b.tls.agentCert, b.tls.agentKey
	}
	if cfg.MTP == "mqtt" {
		err = b.overMQTT(ctx, v)
	} else {
		err = b.overWebSocket(run, v)
	}
	if err != nil {
		return nil, err
	}
	for _, p := range []*Peer{b.main, b.second} {
		if p != nil && cfg.MTP == "mqtt" {
			b.runPeer(run, p)
			if err := within(ctx, 10*time.Second, p.waitUp); err != nil {
				return nil, fmt.Errorf("broker: %w", err)
			}
		}
	}
	if err := b.agent.Start(ctx, b.setup); err != nil {
		return nil, err
	}
	if v.noPeers || v.silent {
		return b, nil
	}
	for _, p := range []*Peer{b.main, b.second} {
		if _, err := waitFor(ctx, p, 0, 35*time.Second, isConnect); err != nil {
			return nil, fmt.Errorf("no connect record for %s: %w", p.ID, err)
		}
	}
	return b, nil
}

func lastBytes(s string, n int) string {
	if len(s) > n {
		s = s[len(s)-n:]
	}
	return s
}

func within(ctx context.Context, d time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return f(ctx)
}

func waitFor(ctx context.Context, p *Peer, from int, d time.Duration, fits func(*Arrival) bool) (a *Arrival, err error) {
	err = within(ctx, d, func(ctx context.Context) error { a, err = p.Wait(ctx, from, fits); return err })
	return a, err
}

func (b *bench) runPeer(ctx context.Context, p *Peer) {
	b.wg.Go(func() { _ = p.run(ctx) }) // ends with the bench; an unreachable agent is what the tests see
}

func (b *bench) alter(t mtp.Transport) mtp.Transport {
	if b.cfg.Alter != nil {
		return b.cfg.Alter(t)
	}
	return t
}

func (b *bench) overMQTT(ctx context.Context, v variant) error {
	host, port := b.cfg.Broker, 0
	if v.script != nil || v.expired {
		host = ""
	}
	prefix := "conform/" + filepath.Base(b.dir) + "/"
	switch host {
	case Mosquitto:
		m, err := startMosquitto(ctx, b.dir, b.tls)
		if err != nil {
			return err
		}
		b.mosquitto = m
		host, port = "127.0.0.1", m.Port
	case "":
		var conf *tls.Config
		if v.tls {
			conf = b.tls.server
		}
		s := v.script
		if s == nil {
			s = newScript(b.cfg)
		}
		br, err := startBroker(conf, s)
		if err != nil {
			return err
		}
		b.broker = br
		host, port = br.Host, br.Port
	default:
		h, p, err := net.SplitHostPort(host)
		if err != nil {
			return fmt.Errorf("broker %q: %w", host, err)
		}
		n, err := strconv.Atoi(p)
		if err != nil {
			return fmt.Errorf("broker %q: %w", host, err)
		}
		host, port = h, n
		b.setup.CAFile = b.cfg.BrokerCA
	}
	secure := b.tls != nil || b.cfg.BrokerCA != "" && v.script == nil
	for i, id := range []string{mainID, secondID} {
		r := Reach{ID: id, Host: host, Port: port, TLS: secure, Topic: fmt.Sprintf("%scontroller%d", prefix, i+1), AgentTopic: fmt.Sprintf("%sagent%d", prefix, i+1)}
		if b.cfg.AgentTopic != "" {
			r.AgentTopic = b.cfg.AgentTopic
		}
		if v.password != "" {
			r.Username, r.Password = "conform", v.password
		}
		b.setup.Controllers = append(b.setup.Controllers, r)
		if v.noPeers && i == 1 {
			continue
		}
		p, err := b.mqttPeer(r, id)
		if err != nil {
			return err
		}
		if i == 0 {
			b.main = p
		} else {
			b.second = p
		}
	}
	return nil
}

// mqttPeer is a Controller at a broker that answers where Reach says.
func (b *bench) mqttPeer(r Reach, id string) (*Peer, error) {
	mc := mqtt.Default()
	mc.Broker = fmt.Sprintf("mqtt://%s", net.JoinHostPort(r.Host, strconv.Itoa(r.Port)))
	mc.EndpointID, mc.ResponseTopic, mc.MaxRecord = id, r.Topic, limits().RecordSize
	mc.Username, mc.Password = r.Username, r.Password
	if r.TLS {
		mc.Broker = "mqtts" + mc.Broker[4:]
		conf, err := b.peerTLS()
		if err != nil {
			return nil, err
		}
		mc.TLS = conf
	}
	tr, err := mqtt.NewClient(mc)
	if err != nil {
		return nil, err
	}
	return newPeer(id, b.cfg.AgentID, r.AgentTopic, b.alter(tr)), nil
}

func (b *bench) peerTLS() (*tls.Config, error) {
	if b.tls != nil {
		return b.tls.client, nil
	}
	return mtp.TLSFiles{CAFile: b.cfg.BrokerCA}.Client()
}

func (b *bench) overWebSocket(ctx context.Context, v variant) error {
	for i, id := range []string{mainID, secondID} {
		r := Reach{ID: id, Host: "127.0.0.1", TLS: v.tls}
		if v.noPeers && i == 0 {
			r.Port = v.mainPort
			b.setup.Controllers = append(b.setup.Controllers, r)
			return nil // one Controller is enough
		}
		wc := websocket.DefaultServerConfig()
		wc.Addr, wc.EndpointID, wc.AllowPlain, wc.MaxRecord = "127.0.0.1:0", id, !v.tls, limits().RecordSize
		if i < len(b.cfg.Listen) {
			wc.Addr = b.cfg.Listen[i]
		}
		if v.tls {
			wc.TLS = b.tls.server
		}
		srv, err := websocket.NewServer(wc)
		if err != nil {
			return err
		}
		p := newPeer(id, b.cfg.AgentID, b.cfg.AgentID, b.alter(srv))
		b.runPeer(ctx, p)
		err = within(ctx, 5*time.Second, func(ctx context.Context) error {
			for srv.Addr() == nil {
				if sleep(ctx, time.Millisecond) != nil {
					return fmt.Errorf("cannot listen on %s", wc.Addr)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		r.Port = srv.Addr().(*net.TCPAddr).Port
		b.setup.Controllers = append(b.setup.Controllers, r)
		if i == 0 {
			b.main = p
		} else {
			b.second = p
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close ends everything that was started.
func (b *bench) close() {
	_ = b.agent.Stop(context.Background()) // an agent that has to be killed was seen to fail already, or nothing depends on it
	b.cancel()
	b.wg.Wait()
	if b.broker != nil {
		_ = b.broker.Close()
	}
	if b.mosquitto != nil {
		_ = b.mosquitto.Close()
	}
	_ = os.RemoveAll(b.dir)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

func contextWithCancel(t *T) (context.Context, context.CancelFunc) {
	return context.WithCancel(context.WithoutCancel(t.ctx))
}
