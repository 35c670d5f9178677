package udp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runner is a Listener at work.
type runner struct {
	*Listener
	requested atomic.Int64
	mu        sync.Mutex
	states    []State
	stop      func()
}

func run(t testing.TB, cfg Config) *runner {
	t.Helper()
	r := &runner{}
	if cfg.Credentials == nil {
		cfg.Credentials = func() (string, string) { return "cpe", "secret" }
	}
	cfg.Requested = func() { r.requested.Add(1) }
	cfg.Changed = func(s State) { r.mu.Lock(); defer r.mu.Unlock(); r.states = append(r.states, s) }
	l, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Listener = l
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	r.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(r.stop)
	return r
}

func (r *runner) state() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.states) == 0 {
		return State{}
	}
	return r.states[len(r.states)-1]
}

// inNet is a config for a CPE inside the fake network.
func inNet(n *fakeNet) Config {
	return Config{Server: serverAddr.String(), ListenPacket: n.listen,
		LocalAddr: func(netip.AddrPort) (netip.Addr, error) { return cpeAddr, nil },
		Resolve:   func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{serverAddr.Addr()}, nil }}
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain for " + what)
		}
	}
}

func TestSearch(t *testing.T) {
	for name, c := range map[string]struct {
		lifetime, low, high time.Duration
		open                bool
		want                func(time.Duration) bool
	}{
		"in between":      {170 * time.Second, 20 * time.Second, 300 * time.Second, true, func(d time.Duration) bool { return d > 130*time.Second && d < 170*time.Second }},
		"strict filter":   {60 * time.Second, 20 * time.Second, 300 * time.Second, false, func(d time.Duration) bool { return d > 45*time.Second && d < 60*time.Second }},
		"above maximum":   {time.Hour, 20 * time.Second, 90 * time.Second, false, func(d time.Duration) bool { return d == 90*time.Second }},
		"no search":       {time.Hour, 25 * time.Second, 25 * time.Second, false, func(d time.Duration) bool { return d == 25*time.Second }},
		"below minimum":   {21 * time.Second, 20 * time.Second, 300 * time.Second, false, func(d time.Duration) bool { return d >= 20*time.Second && d < 21*time.Second }},
		"no maximum":      {24 * time.Hour, 20 * time.Second, -1, false, func(d time.Duration) bool { return d == time.Hour }},
		"no NAT":          {0, 20 * time.Second, 600 * time.Second, false, func(d time.Duration) bool { return d == 600*time.Second }},
		"binding too few": {5 * time.Second, 20 * time.Second, 300 * time.Second, false, func(d time.Duration) bool { return d == 20*time.Second }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newFakeNet(c.lifetime)
				n.open = c.open
				cfg := inNet(n)
				cfg.KeepAliveMin, cfg.KeepAliveMax = c.low, c.high
				r := run(t, cfg)
				time.Sleep(6 * time.Hour)
				synctest.Wait()
				s := r.state()
				if s.Searching || !c.want(s.KeepAlive) || s.Failed != "" {
					t.Errorf("%+v", s)
				}
				if s.NATDetected() != (c.lifetime > 0) || c.lifetime > 0 && s.Mapped.Addr() != natAddr {
					t.Errorf("%+v", s)
				}
				// From here on the binding stays, and the requests come at the period found.
				if c.lifetime > c.low {
					before := s.Mapped
					n.do(func() { n.sent = 0 })
					time.Sleep(10 * s.KeepAlive)
					synctest.Wait()
					n.do(func() {
						if n.sent < 9 || n.sent > 11 {
							t.Errorf("%d requests in ten periods", n.sent)
						}
					})
					if r.state().Mapped != before {
						t.Error("the binding was lost")
					}
				}
				r.stop()
			})
		})
	}
}

func TestBindingChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(time.Hour)
		n.server.username, n.server.password = "cpe01", "stun secret"
		cfg := inNet(n)
		cfg.KeepAliveMin, cfg.KeepAliveMax = 30*time.Second, 30*time.Second
		cfg.Username, cfg.Password = "cpe01", "stun secret"
		r := run(t, cfg)
		time.Sleep(time.Second)
		synctest.Wait()
		first := r.state()
		if !first.NATDetected() || first.Address() != first.Mapped.String() || first.Local != netip.AddrPortFrom(cpeAddr, 7547) {
			t.Fatalf("%+v", first)
		}
		n.forget()
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if s := r.state(); s.Mapped == first.Mapped || !s.Mapped.IsValid() {
			t.Errorf("%+v", s)
		}
		seen := n.server.requests()
		last := seen[len(seen)-1]
		if len(seen) != 3 || !last.BindingChange || seen[1].BindingChange || seen[0].BindingChange {
			t.Errorf("%d requests, %+v", len(seen), last)
		}
		for _, m := range seen { // TR-069 G.2.1.3
			if !m.Binding || m.Username != "cpe01" || !m.Proved("stun secret") || m.Response.IsValid() {
				t.Errorf("%+v", m)
			}
		}
		r.stop()
	})
}

// A period that was long enough and is not any more is searched anew.
func TestNATWithShorterLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(200 * time.Second)
		cfg := inNet(n)
		cfg.KeepAliveMin, cfg.KeepAliveMax = 20*time.Second, 400*time.Second
		r := run(t, cfg)
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if s := r.state(); s.KeepAlive < 150*time.Second {
			t.Errorf("%+v", s)
		}
		n.do(func() { n.lifetime = 50 * time.Second })
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if s := r.state(); s.KeepAlive < 40*time.Second || s.KeepAlive > 50*time.Second || s.Searching {
			t.Errorf("%+v", s)
		}
		r.stop()
	})
}

func TestServerTrouble(t *testing.T) {
	for name, c := range map[string]struct {
		fault  func(*stunServer)
		failed string // part of State.Failed; "" means that it works
	}{
		"silent":                {func(s *stunServer) { s.silent = true }, "does not answer"},
		"wrong password":        {func(s *stunServer) { s.username, s.password = "cpe01", "other" }, "answers 401"},
		"refused":               {func(s *stunServer) { s.code = 431 }, "answers 431"},
		"overload":              {func(s *stunServer) { s.code = 500 }, "answers 500"},
		"forged":                {func(s *stunServer) { s.badMAC = true }, "does not answer"},
		"no address":            {func(s *stunServer) { s.noMapped = true }, "without MAPPED-ADDRESS"},
		"no RESPONSE-ADDRESS":   {func(s *stunServer) { s.noResponse = true }, ""},
		"RESPONSE-ADDRESS: 420": {func(s *stunServer) { s.refuse = true }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newFakeNet(100 * time.Second)
				n.server.set(c.fault)
				cfg := inNet(n)
				cfg.KeepAliveMin, cfg.KeepAliveMax = 20*time.Second, 300*time.Second
				cfg.Username, cfg.Password = "cpe01", "secret"
				r := run(t, cfg)
				time.Sleep(time.Hour)
				synctest.Wait()
				s := r.state()
				if c.failed == "" {
					if s.Failed != "" || s.KeepAlive != 20*time.Second || s.Searching {
						t.Errorf("%+v", s)
					}
					r.stop()
					return
				}
				if !strings.Contains(s.Failed, c.failed) || s.Mapped.IsValid() {
					t.Errorf("%+v", s)
				}
				n.do(func() { // 30 s, 60 s, … 10 min: not more than a dozen rounds in an hour
					if n.sent > 12*maxSends {
						t.Errorf("%d requests in an hour", n.sent)
					}
				})
				n.server.set(func(s *stunServer) {
					s.silent, s.code, s.badMAC, s.noMapped, s.username, s.password = false, 0, false, false, "cpe01", "secret"
				})
				time.Sleep(11 * time.Minute)
				synctest.Wait()
				if s := r.state(); s.Failed != "" || !s.Mapped.IsValid() {
					t.Errorf("does not recover: %+v", s)
				}
				r.stop()
			})
		})
	}
}

func TestLossAndLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(time.Hour)
		count, lookups := 0, 0
		n.drop = func(_, to netip.AddrPort) bool { count++; return to == serverAddr && count%4 != 0 }
		cfg := inNet(n)
		cfg.Server = "stun.example"
		cfg.Resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
			if lookups++; lookups < 3 || host != "stun.example" {
				return nil, errors.New("no such host")
			}
			return []netip.Addr{serverAddr.Addr()}, nil
		}
		cfg.KeepAliveMin, cfg.KeepAliveMax = 30*time.Second, 30*time.Second
		r := run(t, cfg)
		time.Sleep(20 * time.Second)
		if s := r.state(); !strings.Contains(s.Failed, "not found") {
			t.Errorf("%+v", s)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if s := r.state(); s.Failed != "" || !s.Mapped.IsValid() {
			t.Errorf("three of four are lost: %+v", s)
		}
		r.stop()
	})
}

// The whole of it on real sockets: server, NAT, and the ACS sending to the outer address.
func TestThroughNAT(t *testing.T) {
	server := &stunServer{}
	nat := natRelay(t, serveSTUN(t, server))
	r := run(t, Config{Address: "127.0.0.1:0", Server: nat.String(), KeepAliveMin: time.Second, KeepAliveMax: time.Second})
	until(t, "the mapped address", func() bool { return r.state().Mapped.IsValid() })
	s := r.state()
	if !s.NATDetected() || int(s.Local.Port()) != r.Port() {
		t.Errorf("%+v", s)
	}
	acs, err := net.Dial("udp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer acs.Close()
	ask := Request{Timestamp: uint64(time.Now().Unix()), ID: 7, User: "cpe", Cnonce: "x"}
	for range 3 { // STUN-04
		_, _ = acs.Write(ask.Encode(s.Address(), "secret"))
	}
	until(t, "the repetitions", func() bool { return r.Stats().Repeated == 2 })
	if r.requested.Load() != 1 {
		t.Errorf("%d sessions", r.requested.Load())
	}
	ask.ID++
	_, _ = acs.Write(ask.Encode(s.Address(), "wrong"))
	_, _ = acs.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	until(t, "the refusals", func() bool { return r.Stats().Refused == 2 })
	if r.requested.Load() != 1 {
		t.Error("accepted")
	}
}

func TestNoNAT(t *testing.T) {
	r := run(t, Config{Address: "127.0.0.1:0", Server: serveSTUN(t, &stunServer{}).String(), KeepAliveMin: time.Second, KeepAliveMax: time.Second})
	until(t, "the address", func() bool { return r.state().Mapped.IsValid() })
	if s := r.state(); s.NATDetected() || s.Address() != s.Local.String() {
		t.Errorf("%+v", s)
	}
}

// Strangers get no answer, cost no memory and start nothing.
func TestHostile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(time.Hour)
		cfg := inNet(n)
		cfg.KeepAliveMin, cfg.KeepAliveMax = 30*time.Second, 30*time.Second
		r := run(t, cfg)
		time.Sleep(time.Second)
		synctest.Wait()
		before := r.state()
		to := netip.AddrPortFrom(cpeAddr, 7547)
		evil := netip.MustParseAddrPort("10.0.0.66:5")
		forged, _ := (&Message{Type: BindingResponse, Transaction: NewTransactionID(), Mapped: netip.MustParseAddrPort("192.0.2.66:1")}).Encode("")
		ask, _ := (&Message{Type: BindingRequest, Transaction: NewTransactionID()}).Encode("")
		good := (&Request{Timestamp: 1, ID: 1, User: "cpe"}).Encode("h", "secret")
		for i := range 5000 {
			for _, d := range [][]byte{forged, ask, {0}, make([]byte, 3000), []byte("GET http://x?ts=1 HTTP/1.1\r\n\r\n")} {
				n.send(evil, to, d)
			}
			if i%100 == 0 {
				synctest.Wait()
			}
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if r.state() != before || r.requested.Load() != 0 {
			t.Errorf("%+v %d", r.state(), r.requested.Load())
		}
		n.do(func() {
			if c := n.socks[evil]; c != nil || n.sent != 1 {
				t.Errorf("something was sent: %d", n.sent)
			}
		})
		n.send(evil, to, good) // and it still works
		synctest.Wait()
		if r.requested.Load() != 1 || r.Stats().Limited == 0 {
			t.Errorf("%+v", r.Stats())
		}
		for i := range uint64(100) { // a flood of good ones
			n.send(evil, to, (&Request{Timestamp: 2 + i, ID: 1, User: "cpe"}).Encode("h", "secret"))
			time.Sleep(20 * time.Millisecond)
		}
		synctest.Wait()
		if got := r.requested.Load(); got > 1+DefaultPerMinute {
			t.Errorf("%d accepted", got)
		}
		r.stop()
	})
}

func TestLifecycle(t *testing.T) {
	l, err := Listen(Config{Address: "127.0.0.1:0", Credentials: func() (string, string) { return "", "" }, Requested: func() {}})
	if err != nil {
		t.Fatal(err)
	}
	if l.Port() == 0 || l.Close() != nil || l.Close() != nil {
		t.Error("Close")
	}
	if err := l.Run(t.Context()); err == nil {
		t.Error("Run without a socket")
	}
	if err := l.Run(t.Context()); err == nil {
		t.Error("a second Run")
	}
}

func TestValidate(t *testing.T) {
	good := Config{Credentials: func() (string, string) { return "", "" }, Requested: func() {}}
	if err := good.Default().Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Config){
		"Credentials":  func(c *Config) { c.Credentials = nil },
		"Requested":    func(c *Config) { c.Requested = nil },
		"Server":       func(c *Config) { c.Server = "x:0" },
		"Username":     func(c *Config) { c.Username = "x" },
		"KeepAliveMin": func(c *Config) { c.KeepAliveMin = time.Millisecond },
		"KeepAliveMax": func(c *Config) { c.KeepAliveMin, c.KeepAliveMax = 10*time.Second, 5*time.Second },
		"PerMinute":    func(c *Config) { c.PerMinute = -1 },
	} {
		bad := good
		change(&bad)
		if _, err := Listen(bad); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	taken := run(t, Config{Address: "127.0.0.1:0"})
	good.Address = taken.local.String()
	if _, err := Listen(good); err == nil {
		t.Error("two listeners on one port")
	}
}
