package xmpp

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// prosody starts the XMPP server of that name on loopback, with accounts cpe1 and acs and everything below a temporary
// folder. It fails when it is not installed; TWINSPAN_NO_PEERS=1 says that this machine has no peers to test against.
func prosody(t *testing.T, cert tls.Certificate, settings string) Target {
	t.Helper()
	binary, err := exec.LookPath("prosody")
	if err != nil {
		if os.Getenv("TWINSPAN_NO_PEERS") == "1" {
			t.Skip("prosody is not installed, and TWINSPAN_NO_PEERS=1 excuses it")
		}
		t.Fatal("prosody is not installed (Debian: apt-get install prosody); TWINSPAN_NO_PEERS=1 leaves the tests against it out")
	}
	dir := t.TempDir()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	free.Close()
	certFile, keyFile := writeCertificate(t, cert, dir)
	accounts := filepath.Join(dir, "data", "xmpp%2etest", "accounts")
	if err := os.MkdirAll(accounts, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"cpe1", "acs"} {
		if err := os.WriteFile(filepath.Join(accounts, user+".dat"), []byte(`return { ["password"] = "stream secret" };`), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	config := fmt.Sprintf(`
run_as_root = true
daemonize = false
pidfile = %q
data_path = %q
log = { info = "*console" }
interfaces = { "127.0.0.1" }
c2s_ports = { %d }
c2s_direct_tls_ports = {}
modules_enabled = { "saslauth", "tls", "ping", "disco" }
modules_disabled = { "s2s" }
authentication = "internal_plain"
ssl = { certificate = %q, key = %q }
%s
VirtualHost "xmpp.test"
`, filepath.Join(dir, "pid"), filepath.Join(dir, "data"), port, certFile, keyFile, settings)
	file := filepath.Join(dir, "prosody.cfg.lua")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "-F", "--config", file)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("prosody:\n%s", out.String())
		}
	})
	address := net.JoinHostPort("127.0.0.1", fmt.Sprint(port))
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return Target{"127.0.0.1", port}
		}
		select {
		case <-ended:
			t.Fatalf("prosody ended:\n%s", out.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("prosody does not listen")
		}
	}
}

// asACS logs in as acs and sends one IQ; it returns the answer's type and condition.
func asACS(t *testing.T, cfg Config, stanza string) string {
	t.Helper()
	cfg.Username, cfg.Domain, cfg.Resource, cfg.Password = "acs", testDomain, "console", "stream secret"
	cfg.Credentials, cfg.Requested = func() (string, string) { return "", "" }, func() {}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	target := cfg.Servers[0]
	conn, err := net.Dial("tcp", net.JoinHostPort(target.Host, fmt.Sprint(target.Port)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	s := &session{c: c, raw: conn, conn: conn, prefix: "x"}
	if _, err := s.negotiate(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := s.send(stanza); err != nil {
		t.Fatal(err)
	}
	for {
		e, err := s.in.next()
		if err != nil {
			t.Fatal(err)
		}
		if !e.is(nsClient, "iq") || e.attr("id") != "ask" {
			continue
		}
		answer := e.attr("type")
		if x := e.child(nsClient, "error"); x != nil {
			answer += " " + x.condition()
		}
		return answer
	}
}

func TestProsody(t *testing.T) {
	cert, pool := certificate(t, testDomain)
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
			cfg := Config{Servers: []Target{prosody(t, cert, c.settings)}, UseTLS: c.useTLS, TLS: &tls.Config{RootCAs: pool}, KeepAlive: 50 * time.Millisecond}
			r := run(t, cfg)
			until(t, "the connection", func() bool { return r.state().Status == Enabled })
			st := r.state()
			if st.JabberID != "cpe1@xmpp.test/cwmp" || st.TLS != c.tls {
				t.Errorf("%+v", st)
			}
			stanza := func(user, password string) string {
				return strings.ReplaceAll(connectionRequest("ask", "", user, password), "cpe1@xmpp.test/cwmp", st.JabberID)
			}
			if got := asACS(t, cfg, stanza("acs", "secret")); got != "result" || r.requested.Load() != 1 {
				t.Errorf("%s, %d sessions", got, r.requested.Load())
			}
			if got := asACS(t, cfg, stanza("acs", "wrong")); got != "error not-authorized" {
				t.Error(got)
			}
			r.mu.Lock()
			r.allowed = []string{"acs@xmpp.test/other"}
			r.mu.Unlock()
			if got := asACS(t, cfg, stanza("acs", "secret")); got != "error service-unavailable" || r.requested.Load() != 1 {
				t.Errorf("%s, %d sessions", got, r.requested.Load())
			}
			r.mu.Lock()
			r.allowed = []string{"acs@xmpp.test"}
			r.mu.Unlock()
			if got := asACS(t, cfg, stanza("acs", "secret")); got != "result" {
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
	cert, pool := certificate(t, testDomain)
	target := prosody(t, cert, "c2s_require_encryption = true")
	cfg := Config{Servers: []Target{target}, UseTLS: true, TLS: &tls.Config{RootCAs: pool}, Random: func() float64 { return 0.999 },
		Username: "cpe1", Domain: testDomain, Resource: "cwmp", Password: "wrong"}
	r := run(t, cfg)
	until(t, "the refusal", func() bool { return r.had(AuthenticationFailure) })
	cfg.Password, cfg.TLS = "stream secret", &tls.Config{RootCAs: nil}
	r = run(t, cfg)
	until(t, "distrust", func() bool { return r.had(Misconfigured) })
}

// A cut line: the server may still hold the old stream; the device comes back.
func TestProsodyRestart(t *testing.T) {
	cert, pool := certificate(t, testDomain)
	cfg := Config{Servers: []Target{prosody(t, cert, "c2s_require_encryption = true")}, UseTLS: true, TLS: &tls.Config{RootCAs: pool},
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
