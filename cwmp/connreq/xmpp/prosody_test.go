package xmpp

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"twinspan/cwmp/internal/xmpptest"
)

// target starts the server.
func target(t *testing.T, cert tls.Certificate, settings string) Target {
	t.Helper()
	host, port := xmpptest.Prosody(t, cert, settings)
	return Target{host, port}
}

// asACS asks as the account acs and returns what came back: "" or the condition.
func asACS(t *testing.T, cfg Config, to, user, password string) string {
	t.Helper()
	cfg.Username, cfg.Domain, cfg.Resource, cfg.Password = "acs", testDomain, "console", xmpptest.Password
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := Ask(ctx, cfg, to, user, password)
	var refused *RefusedError
	if errors.As(err, &refused) {
		return refused.Condition
	}
	if err != nil {
		t.Fatal(err)
	}
	return ""
}

func TestProsody(t *testing.T) {
	cert, pool := xmpptest.Certificate(t, testDomain)
	for name, c := range map[string]struct {
		settings string
		useTLS   bool
		tls      bool
	}{
		"TLS demanded by it":  {"c2s_require_encryption = true", false, true},
		"TLS demanded by us":  {"c2s_require_encryption = false", true, true},
		"in clear with SCRAM": {"c2s_require_encryption = false", false, false},
		"SCRAM-SHA-1 only":    {`c2s_require_encryption = true; disable_sasl_mechanisms = { "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "PLAIN" }`, true, true},
		"PLAIN only":          {`c2s_require_encryption = true; disable_sasl_mechanisms = { "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS" }`, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := Config{Servers: []Target{target(t, cert, c.settings)}, UseTLS: c.useTLS, TLS: &tls.Config{RootCAs: pool}, KeepAlive: 50 * time.Millisecond}
			r := run(t, cfg)
			until(t, "the connection", func() bool { return r.state().Status == Enabled })
			st := r.state()
			if st.JabberID != "cpe1@xmpp.test/cwmp" || st.TLS != c.tls {
				t.Errorf("%+v", st)
			}
			if got := asACS(t, cfg, st.JabberID, "acs", "secret"); got != "" || r.requested.Load() != 1 {
				t.Errorf("%s, %d sessions", got, r.requested.Load())
			}
			if got := asACS(t, cfg, st.JabberID, "acs", "wrong"); got != "not-authorized" {
				t.Error(got)
			}
			r.mu.Lock()
			r.allowed = []string{"acs@xmpp.test/other"}
			r.mu.Unlock()
			if got := asACS(t, cfg, st.JabberID, "acs", "secret"); got != "service-unavailable" || r.requested.Load() != 1 {
				t.Errorf("%s, %d sessions", got, r.requested.Load())
			}
			r.mu.Lock()
			r.allowed = []string{"acs@xmpp.test"}
			r.mu.Unlock()
			if got := asACS(t, cfg, st.JabberID, "acs", "secret"); got != "" {
				t.Error(got)
			}
			until(t, "pings that are answered", func() bool { return r.Stats().Received > 8 })
			if n := r.Stats().Connections; n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

func TestProsodyRefuses(t *testing.T) {
	cert, pool := xmpptest.Certificate(t, testDomain)
	cfg := Config{Servers: []Target{target(t, cert, "c2s_require_encryption = true")}, UseTLS: true, TLS: &tls.Config{RootCAs: pool}, Random: func() float64 { return 0.999 },
		Username: "cpe1", Domain: testDomain, Resource: "cwmp", Password: "wrong"}
	r := run(t, cfg)
	until(t, "the refusal", func() bool { return r.had(AuthenticationFailure) })
	cfg.Password, cfg.TLS = "stream secret", &tls.Config{RootCAs: nil}
	r = run(t, cfg)
	until(t, "distrust", func() bool { return r.had(Misconfigured) })
}

// A cut line: the server may still hold the old stream; the device comes back.
func TestProsodyRestart(t *testing.T) {
	cert, pool := xmpptest.Certificate(t, testDomain)
	cfg := Config{Servers: []Target{target(t, cert, "c2s_require_encryption = true")}, UseTLS: true, TLS: &tls.Config{RootCAs: pool},
		Random: func() float64 { return 0.0002 }}
	var mu sync.Mutex
	var conns []net.Conn
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err == nil {
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
		}
		return c, err
	}
	r := run(t, cfg)
	until(t, "the connection", func() bool { return r.state().Status == Enabled })
	mu.Lock()
	_ = conns[0].Close() // the line is cut under the stream
	mu.Unlock()
	until(t, "another connection", func() bool { return r.Stats().Connections == 2 && r.state().Status == Enabled })
	if got := r.state().JabberID; !strings.HasPrefix(got, "cpe1@xmpp.test/") {
		t.Error(got)
	}
}
