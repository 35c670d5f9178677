package xmpp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"twinspan/cwmp/internal/xmpptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type runner struct {
	*Client
	requested atomic.Int64
	mu        sync.Mutex
	states    []State
	allowed   []string
	stop      func()
}

func (r *runner) state() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.states) == 0 {
		return State{}
	}
	return r.states[len(r.states)-1]
}

func (r *runner) had(s Status) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.states, func(x State) bool { return x.Status == s })
}

func run(t testing.TB, cfg Config) *runner {
	t.Helper()
	r := &runner{}
	if cfg.Username == "" {
		cfg.Username, cfg.Domain, cfg.Resource, cfg.Password = "cpe1", testDomain, "cwmp", "stream secret"
	}
	cfg.Credentials = func() (string, string) { return "acs", "secret" }
	cfg.Requested = func() { r.requested.Add(1) }
	cfg.Changed = func(s State) { r.mu.Lock(); defer r.mu.Unlock(); r.states = append(r.states, s) }
	cfg.Allowed = func() []string { r.mu.Lock(); defer r.mu.Unlock(); return r.allowed }
	if cfg.RetryInitial == 0 {
		cfg.RetryInitial = time.Minute
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Client = c
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	r.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(r.stop)
	return r
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain for " + what)
		}
	}
}

// against is the configuration for a fake server.
func against(s *fakeServer) Config {
	return Config{Servers: []Target{s.target()}, UseTLS: true, TLS: &tls.Config{RootCAs: s.pool}}
}

func TestConnect(t *testing.T) {
	for name, c := range map[string]struct {
		f      faults
		useTLS bool
		want   string
	}{
		"TLS and SCRAM":       {faults{}, true, "SCRAM-SHA-256 tls=true"},
		"TLS and PLAIN":       {faults{mechanisms: []string{"PLAIN", "X-OTHER"}}, true, "PLAIN tls=true"},
		"in clear":            {faults{}, false, "SCRAM-SHA-256 tls=false"},
		"server demands it":   {faults{requireTLS: true}, false, "SCRAM-SHA-256 tls=true"},
		"proof in challenge":  {faults{lateSuccess: true}, true, "SCRAM-SHA-256 tls=true"},
		"session of RFC 3921": {faults{needSession: true}, true, "SCRAM-SHA-256 tls=true"},
		"only TLS offered":    {faults{features: "<stream:features><starttls xmlns='" + nsTLS + "'/></stream:features>"}, false, "SCRAM-SHA-256 tls=true"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startFake(t, c.f)
			cfg := against(s)
			cfg.UseTLS = c.useTLS
			r := run(t, cfg)
			until(t, "the connection", func() bool { return r.state().Status == Enabled })
			if got := s.logins(); len(got) != 1 || got[0] != c.want {
				t.Errorf("%v", got)
			}
			if st := r.state(); st.JabberID != "cpe1@"+testDomain+"/cwmp" || st.TLS != strings.HasSuffix(c.want, "true") || st.Since.IsZero() {
				t.Errorf("%+v", st)
			}
			until(t, "presence", func() bool {
				return slices.ContainsFunc(s.stanzas(), func(x string) bool { return strings.HasPrefix(x, "presence") })
			})
		})
	}
}

func TestRefusedServers(t *testing.T) {
	_, stranger := xmpptest.Certificate(t, testDomain)
	for name, c := range map[string]struct {
		f      faults
		want   Status
		change func(*Config)
	}{
		"no TLS":             {faults{noTLS: true}, Misconfigured, nil}, // downgrade
		"TLS refused":        {faults{refuseTLS: true}, Misconfigured, nil},
		"untrusted":          {faults{}, Misconfigured, func(c *Config) { c.TLS = &tls.Config{RootCAs: stranger} }},
		"PLAIN in clear":     {faults{noTLS: true, mechanisms: []string{"PLAIN"}}, Misconfigured, func(c *Config) { c.UseTLS = false }},
		"no mechanism":       {faults{mechanisms: []string{"X-OTHER"}}, Misconfigured, nil},
		"wrong password":     {faults{}, AuthenticationFailure, func(c *Config) { c.Password = "other" }},
		"wrong PLAIN":        {faults{mechanisms: []string{"PLAIN"}}, AuthenticationFailure, func(c *Config) { c.Password = "other" }},
		"account disabled":   {faults{failure: "account-disabled"}, AuthenticationFailure, nil},
		"for now":            {faults{failure: "temporary-auth-failure"}, Failed, nil},
		"server lies":        {faults{wrongProof: true}, AuthenticationFailure, nil},
		"foreign nonce":      {faults{foreignNonce: true}, AuthenticationFailure, nil},
		"few iterations":     {faults{iterations: 1}, AuthenticationFailure, nil},
		"endless iterations": {faults{iterations: 2_000_000_000}, AuthenticationFailure, nil},
		"conflict":           {faults{bindError: true}, Misconfigured, nil},
		"no resource":        {faults{bareJID: true}, Failed, nil},
		"injection":          {faults{inject: "<stream:features/>"}, Failed, nil},
		"hangs up":           {faults{hangUp: true}, Failed, nil},
		"not XMPP":           {faults{head: "HTTP/1.1 400 Bad Request\r\n\r\n"}, Failed, nil},
		"old version":        {faults{head: "<stream:stream xmlns:stream='" + nsStream + "' xmlns='jabber:client'>"}, Failed, nil},
		"other root":         {faults{head: "<stream>"}, Failed, nil},
		"DTD":                {faults{head: "<!DOCTYPE x [<!ENTITY a 'b'>]>"}, Failed, nil},
		"huge head":          {faults{head: "<stream:stream x='" + strings.Repeat("y", 2*maxStanza)}, Failed, nil},
		"no features":        {faults{features: "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"}, Failed, nil},
		"deep features":      {faults{features: "<stream:features>" + strings.Repeat("<a>", 100)}, Failed, nil},
		"many features":      {faults{features: "<stream:features>" + strings.Repeat("<a/>", 1000)}, Failed, nil},
		"huge features":      {faults{features: "<stream:features>" + strings.Repeat("text", maxStanza)}, Failed, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startFake(t, c.f)
			cfg := against(s)
			if c.change != nil {
				c.change(&cfg)
			}
			cfg.Random = func() float64 { return 0.999 } // a minute nearly: one attempt is seen
			pw := cfg.Password
			if pw != "" {
				cfg.Username, cfg.Domain, cfg.Resource = "cpe1", testDomain, "cwmp"
			}
			r := run(t, cfg)
			until(t, "the refusal", func() bool { return r.had(c.want) })
			if r.had(Enabled) || s.connections() != 1 {
				t.Errorf("%+v, %d connections", r.state(), s.connections())
			}
		})
	}
}

func connectionRequest(id, from, user, password string) string {
	if from != "" {
		from = " from='" + from + "'"
	}
	return fmt.Sprintf("<iq type='get' id='%s'%s to='cpe1@%s/cwmp'><connectionRequest xmlns='%s'><username>%s</username><password>%s</password></connectionRequest></iq>",
		id, from, testDomain, nsConnReq, user, password)
}

func TestRequests(t *testing.T) {
	s := startFake(t, faults{})
	cfg := against(s)
	cfg.PerMinute = 4
	r := run(t, cfg)
	until(t, "the connection", func() bool { return r.state().Status == Enabled })
	count := int64(0)
	ask := func(name, stanza, want string, accepted bool) {
		t.Helper()
		s.say(stanza)
		until(t, name, func() bool { return slices.Contains(s.stanzas(), want) })
		if accepted {
			count++
			until(t, name, func() bool { return r.requested.Load() == count })
		} else if r.requested.Load() != count {
			t.Errorf("%s: a session was asked for", name)
		}
	}
	const acs = "acs@xmpp.test/a"
	ask("good", connectionRequest("1", acs, "acs", "secret"), "iq result 1 "+acs+" ", true)
	ask("wrong password", connectionRequest("2", acs, "acs", "other"), "iq error 2 "+acs+" not-authorized", false)
	ask("wrong user", connectionRequest("3", acs, "", "secret"), "iq error 3 "+acs+" not-authorized", false)
	ask("no credentials", "<iq type='get' id='4' from='a@b'><connectionRequest xmlns='"+nsConnReq+"'/></iq>", "iq error 4 a@b not-authorized", false)
	ask("set", strings.Replace(connectionRequest("5", acs, "acs", "secret"), "'get'", "'set'", 1), "iq error 5 "+acs+" service-unavailable", false)
	ask("other namespace", strings.Replace(connectionRequest("6", acs, "acs", "secret"), "xmppConnReq-1-0", "x", 1), "iq error 6 "+acs+" service-unavailable", false)
	ask("unknown", "<iq type='get' id='7' from='a@b'><query xmlns='jabber:iq:version'/></iq>", "iq error 7 a@b service-unavailable", false)
	ask("ping", "<iq type='get' id='8' from='xmpp.test'><ping xmlns='"+nsPing+"'/></iq>", "iq result 8 xmpp.test ", false)
	r.mu.Lock()
	r.allowed = []string{"ACS@xmpp.test", "boss@xmpp.test/desk"}
	r.mu.Unlock()
	ask("bare listed", connectionRequest("11", "acs@XMPP.test/any", "acs", "secret"), "iq result 11 acs@XMPP.test/any ", true)
	ask("full listed", connectionRequest("12", "boss@xmpp.test/desk", "acs", "secret"), "iq result 12 boss@xmpp.test/desk ", true)
	ask("other resource", connectionRequest("13", "boss@xmpp.test/home", "acs", "secret"), "iq error 13 boss@xmpp.test/home service-unavailable", false)
	ask("not listed", connectionRequest("14", "x@xmpp.test/a", "acs", "secret"), "iq error 14 x@xmpp.test/a service-unavailable", false)
	ask("own account", connectionRequest("15", "", "acs", "secret"), "iq error 15  service-unavailable", false)
	ask("fourth", connectionRequest("16", acs, "acs", "secret"), "iq result 16 "+acs+" ", true)
	ask("over the rate", connectionRequest("17", acs, "acs", "secret"), "iq error 17 "+acs+" resource-constraint", false)
	// No answer to these: messages, presence, answers, and requests without id; blanks in between are nothing.
	before := len(s.stanzas())
	s.say("   \n<message from='x@y'><connectionRequest xmlns='" + nsConnReq + "'/></message><presence from='x@y' type='subscribe'/>" +
		"<iq type='result' id='99'/><iq type='error' id='98'/><iq type='get'><x/></iq><iq id='97'/> ")
	ask("the end", "<iq type='get' id='100' from='a&amp;b@c/&apos;&lt;'><x xmlns='y'/></iq>", "iq error 100 a&b@c/'< service-unavailable", false)
	if got := s.stanzas(); len(got) != before+1 {
		t.Errorf("%q", got[before:])
	}
	if st := r.Stats(); st.Accepted != 4 || st.Refused != 6 || st.Limited != 1 || st.ReceivedErrors != 1 || st.SentErrors == 0 || st.Connections != 1 {
		t.Errorf("%+v", st)
	}
}

func TestHostileStanzas(t *testing.T) {
	for name, text := range map[string]string{
		"comment":      "<!-- x -->",
		"instruction":  "<?php x?>",
		"DTD":          "<!DOCTYPE x>",
		"entity":       "<message>&lol;</message>",
		"mismatch":     "<a></b>",
		"deep":         strings.Repeat("<a>", maxDepth+1),
		"wide":         "<a>" + strings.Repeat("<b/>", maxNodes),
		"large":        "<a>" + strings.Repeat("x", maxStanza),
		"large name":   "<" + strings.Repeat("x", maxStanza+10),
		"text":         "hello",
		"stream error": "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
		"end":          "</stream:stream>",
		"inside":       "<iq><!-- x --></iq>",
		"not UTF-8":    "<a>\xff\xfe</a>",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startFake(t, faults{})
			cfg := against(s)
			cfg.Random = func() float64 { return 0.999 }
			r := run(t, cfg)
			until(t, "the connection", func() bool { return r.state().Status == Enabled })
			s.say(text)
			until(t, "the end of the stream", func() bool { return r.state().Status == Failed })
			if st := r.state(); st.JabberID == "" { // TR-181: kept while the link is lost
				t.Errorf("%+v", st)
			}
		})
	}
}

// A flood of stanzas is answered up to a rate.
func TestFlood(t *testing.T) {
	s := startFake(t, faults{})
	r := run(t, against(s))
	until(t, "the connection", func() bool { return r.state().Status == Enabled })
	s.say(strings.Repeat(connectionRequest("f", "x@y/z", "acs", "wrong"), 2000))
	until(t, "the flood", func() bool { return r.Stats().Received >= 2000 })
	if n := len(s.stanzas()); n > 10*stanzasPerSecond {
		t.Errorf("%d answers", n)
	}
	if r.state().Status != Enabled || r.requested.Load() != 0 {
		t.Errorf("%+v", r.state())
	}
}

func TestReconnect(t *testing.T) {
	s := startFake(t, faults{})
	cfg := against(s)
	cfg.Random = func() float64 { return 0.0002 } // of a minute: 12 ms
	dead := Target{"127.0.0.1", 1}
	cfg.Servers = []Target{dead, s.target()} // the first does not answer: the second is used
	r := run(t, cfg)
	until(t, "the connection", func() bool { return r.state().Status == Enabled })
	for i := range 3 {
		s.cut()
		until(t, "a new connection", func() bool { return r.Stats().Connections == int64(i+2) && r.state().Status == Enabled })
	}
	s.say(connectionRequest("1", "a@b/c", "acs", "secret"))
	until(t, "the request", func() bool { return r.requested.Load() == 1 })
}

func TestPing(t *testing.T) {
	s := startFake(t, faults{})
	cfg := against(s)
	cfg.KeepAlive = 10 * time.Millisecond
	r := run(t, cfg)
	until(t, "pings", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.pings > 3 })
	if r.Stats().Connections != 1 { // an error is an answer, too
		t.Errorf("%+v", r.Stats())
	}
}

// pipeDial connects to a scripted end in memory, for synthetic time.
func TestTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var times []time.Duration
		begin := time.Now()
		cfg := Config{Random: func() float64 { return 0.5 }, Servers: []Target{{Host: "x"}},
			Dial: func(context.Context, string, string) (net.Conn, error) {
				times = append(times, time.Since(begin))
				return nil, errors.New("no")
			}}
		r := run(t, cfg)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		r.stop()
		// 0, then half of 60·2^(n-1): 30, 60, 120, … up to half of 30720 s.
		want := []time.Duration{0, 30, 90, 210, 450, 930, 1890, 3810, 7650, 15330, 30690, 46050, 61410, 76770}
		if len(times) != len(want) {
			t.Fatalf("%v", times)
		}
		for i := range want {
			if times[i] != want[i]*time.Second {
				t.Errorf("%d: %v, want %v s", i, times[i], int(want[i]))
			}
		}
		if r.state().Status != ServerNotPresent {
			t.Errorf("%+v", r.state())
		}
	})
}

// A server that accepts and then says nothing is left after the patience.
func TestSilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ends []net.Conn
		cfg := Config{Random: func() float64 { return 0.999 }, Servers: []Target{{Host: "x"}},
			Dial: func(context.Context, string, string) (net.Conn, error) {
				a, b := net.Pipe()
				ends = append(ends, b)
				go func() { // takes everything, answers nothing; ends with the pipe
					buf := make([]byte, 512)
					for {
						if _, err := b.Read(buf); err != nil {
							return
						}
					}
				}()
				return a, nil
			}}
		r := run(t, cfg)
		time.Sleep(talkPatience + time.Second)
		synctest.Wait()
		if r.state().Status != Failed {
			t.Errorf("%+v", r.state())
		}
		r.stop()
		for _, e := range ends {
			e.Close()
		}
	})
}

func TestSRV(t *testing.T) {
	s := startFake(t, faults{})
	cfg := against(s)
	cfg.Servers = nil
	cfg.LookupSRV = func(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
		if service != "xmpp-client" || proto != "tcp" || name != testDomain {
			t.Error(service, proto, name)
		}
		return "", []*net.SRV{{Target: "127.0.0.1.", Port: uint16(s.target().Port)}}, nil
	}
	r := run(t, cfg)
	until(t, "the connection", func() bool { return r.state().Status == Enabled })
	c, _ := New(Config{Username: "u", Domain: "d.test", Password: "p", Credentials: r.cfg.Credentials, Requested: func() {},
		LookupSRV: func(context.Context, string, string, string) (string, []*net.SRV, error) {
			return "", nil, errors.New("none")
		}})
	if got := c.targets(t.Context()); len(got) != 1 || got[0].Host != "d.test" {
		t.Errorf("%v", got)
	}
}

func TestRetryWait(t *testing.T) {
	for _, c := range []struct {
		n    int
		r    float64
		want time.Duration
	}{{0, 1, 0}, {1, 0, 0}, {1, 1, 60 * time.Second}, {2, 1, 120 * time.Second}, {10, 1, 30720 * time.Second}, {11, 1, 30720 * time.Second}, {1000000, 1, 30720 * time.Second}} {
		if got := RetryWait(c.n, DefaultRetry, DefaultMultiplier, DefaultRetryMax, c.r); got != c.want {
			t.Errorf("%d: %v", c.n, got)
		}
	}
}

func TestAllowed(t *testing.T) {
	for _, c := range []struct {
		list []string
		from string
		want bool
	}{
		{nil, "anybody@x/y", true},
		{[]string{"a@b"}, "a@b/c", true}, {[]string{"a@b"}, "a@b", true}, {[]string{"A@B"}, "a@b/c", true},
		{[]string{"a@b/c"}, "a@b/c", true}, {[]string{"a@b/c"}, "a@b/C", false}, {[]string{"a@b/c"}, "a@b", false},
		{[]string{"a@b"}, "a@bc", false}, {[]string{"b"}, "a@b", false}, {[]string{"b"}, "b", true}, {[]string{""}, "", false},
		{[]string{"x@y", " a@b "}, "a@b/c", true},
	} {
		if got := allowed(c.list, c.from); got != c.want {
			t.Errorf("%v %q: %v", c.list, c.from, got)
		}
	}
}

// The exchange of RFC 5802 5 and RFC 7677 3.
func TestSCRAMVectors(t *testing.T) {
	for _, c := range []struct{ mechanism, nonce, challenge, final, server string }{
		{"SCRAM-SHA-1", "fyko+d2lbbFgONRv9qkxdawL", "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
			"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", "v=rmF9pqV8S7suAoZWja4dJRkFsKQ="},
		{"SCRAM-SHA-256", "rOprNGfwEbeRWgbNEkqO", "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
			"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="},
	} {
		s, err := newSCRAM(c.mechanism, "user", "pencil", c.nonce)
		if err != nil {
			t.Fatal(err)
		}
		if s.first() != "n,,n=user,r="+c.nonce {
			t.Error(s.first())
		}
		if got, err := s.final(c.challenge); err != nil || got != c.final {
			t.Errorf("%q %v", got, err)
		}
		if err := s.verify(c.server); err != nil {
			t.Error(err)
		}
		for _, bad := range []string{"", "v=", "v=AAAA", "e=other-error", "x" + c.server} {
			if s.verify(bad) == nil {
				t.Errorf("%q was taken", bad)
			}
		}
	}
	s, _ := newSCRAM("SCRAM-SHA-1", "a=b,c", "p", "n")
	if s.first() != "n,,n=a=3Db=2Cc,r=n" {
		t.Error(s.first())
	}
	for _, bad := range []string{"", "r=n,s=AAAA,i=4096", "m=x,r=nn,s=AAAA,i=4096", "r=nn,s=,i=4096", "r=nn,s=AAAA", "r=nn,s=!,i=4096", "r=nn,s=AAAA,i=-1", strings.Repeat("x", 5000)} {
		if _, err := s.final(bad); !errors.Is(err, ErrAuthentication) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
	if s.verify("v=AAAA") == nil {
		t.Error("verified before the challenge")
	}
	if _, err := newSCRAM("SCRAM-MD5", "", "", ""); err == nil {
		t.Error("unknown mechanism")
	}
}

func TestValidate(t *testing.T) {
	good := Config{Username: "u", Domain: "d", Password: "p", Credentials: func() (string, string) { return "", "" }, Requested: func() {}}
	if _, err := New(good); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Config){
		"Domain":          func(c *Config) { c.Domain = "a@b" },
		"Username":        func(c *Config) { c.Username = "" },
		"Resource":        func(c *Config) { c.Resource = "\n" },
		"Password":        func(c *Config) { c.Password = "" },
		"Servers":         func(c *Config) { c.Servers = []Target{{Host: "x", Port: 70000}} },
		"RetryMultiplier": func(c *Config) { c.RetryMultiplier = 10 },
		"Credentials":     func(c *Config) { c.Credentials = nil },
		"Requested":       func(c *Config) { c.Requested = nil },
		"PerMinute":       func(c *Config) { c.PerMinute = -1 },
	} {
		bad := good
		change(&bad)
		if _, err := New(bad); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzStream reads whatever a server may send.
func FuzzStream(f *testing.F) {
	head := "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='" + nsStream + "' version='1.0'>"
	f.Add([]byte(head + "<stream:features><starttls xmlns='" + nsTLS + "'/></stream:features>"))
	f.Add([]byte(head + connectionRequest("1", "a@b/c", "u", "p") + " \n</stream:stream>"))
	f.Add([]byte(head + "<a><b/></a><!-- x -->"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := newReader(strings.NewReader(string(data)))
		if _, err := r.open(); err != nil {
			return
		}
		for range 1000 {
			e, err := r.next()
			if err != nil {
				return
			}
			e.condition()
			if strings.ContainsAny(esc(e.text), "<>") {
				t.Fatal("not escaped")
			}
		}
	})
}

func FuzzSCRAM(f *testing.F) {
	f.Add("r=nonceX,s=AAAA,i=4096", "v=AAAA")
	f.Fuzz(func(t *testing.T, challenge, proof string) {
		if strings.Contains(challenge, "i=") && !strings.Contains(challenge, "i=4096") {
			return // the rounds are bounded, but take time
		}
		s, _ := newSCRAM("SCRAM-SHA-1", "u", "p", "nonce")
		if _, err := s.final(challenge); err == nil && s.verify(proof) == nil {
			t.Fatal("a guess was proved")
		}
	})
}
