package conformcwmp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"twinspan/cwmp/connreq/xmpp"
)

const (
	xmppDomain   = "xmpp.test"
	xmppPassword = "stream-secret"
)

// xmppServer is a prosody on the loopback with the accounts cpe, acs and stranger; close ends it.
type xmppServer struct {
	port   string
	dir    string
	cmd    *exec.Cmd
	exited chan struct{}
}

// xmppServer starts prosody; an error that is a verdict says that this machine has none.
func (b *bench) xmppServer(ctx context.Context) (s *xmppServer, err error) {
	binary, err := exec.LookPath("prosody")
	if err != nil {
		return nil, notShown("prosody is not installed")
	}
	s = &xmppServer{exited: make(chan struct{})}
	if s.dir, err = os.MkdirTemp("", "twinspan-conform-xmpp-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.port, err = freePort(); err != nil {
		return nil, err
	}
	cfg, err := b.ca.server(leaf{dns: []string{xmppDomain}}, nil)
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(cfg.Certificates[0].PrivateKey)
	if err != nil {
		return nil, err
	}
	accounts := filepath.Join(s.dir, "data", "xmpp%2etest", "accounts")
	files := map[string][]byte{"cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cfg.Certificates[0].Certificate[0]}),
		"key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})}
	for _, user := range []string{"cpe", "acs", "stranger"} {
		files[filepath.Join("data", "xmpp%2etest", "accounts", user+".dat")] = fmt.Appendf(nil, "return { [\"password\"] = %q };", xmppPassword)
	}
	files["prosody.cfg.lua"] = fmt.Appendf(nil, `run_as_root = true
daemonize = false
pidfile = %q
data_path = %q
log = { error = "*console" }
interfaces = { "127.0.0.1" }
c2s_ports = { %s }
c2s_direct_tls_ports = {}
modules_enabled = { "saslauth", "tls", "ping", "disco" }
modules_disabled = { "s2s" }
authentication = "internal_plain"
c2s_require_encryption = true
ssl = { certificate = %q, key = %q }
VirtualHost %q
`, filepath.Join(s.dir, "pid"), filepath.Join(s.dir, "data"), s.port, filepath.Join(s.dir, "cert.pem"), filepath.Join(s.dir, "key.pem"), xmppDomain)
	if err := os.MkdirAll(accounts, 0o755); err != nil {
		return nil, err
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(s.dir, name), data, 0o600); err != nil {
			return nil, err
		}
	}
	s.cmd = exec.Command(binary, "-F", "--config", filepath.Join(s.dir, "prosody.cfg.lua"))
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		return nil, err
	}
	go func() { // ends with the process; joined by close
		_ = s.cmd.Wait()
		close(s.exited)
	}()
	for {
		if conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", s.port)); err == nil {
			return s, conn.Close()
		}
		select {
		case <-s.exited:
			return nil, notShown("prosody does not start on this machine")
		case <-ctx.Done():
			return nil, errors.New("prosody does not listen")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (s *xmppServer) close() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill() // gone already: fine
		<-s.exited
	}
	_ = os.RemoveAll(s.dir) // of a laboratory
}

// overXMPP is Annex K.
func overXMPP(ctx context.Context, b *bench) error {
	table := b.root + "XMPP.Connection."
	if err := b.need(ctx, table, b.ms("ConnReqXMPPConnection"), b.ms("SupportedConnReqMethods")); err != nil {
		return err
	}
	if v, err := b.get(ctx, b.ms("SupportedConnReqMethods")); err != nil || !strings.Contains(v, "XMPP") {
		return errors.Join(err, notApplicable("SupportedConnReqMethods is %q", v))
	}
	s, err := b.xmppServer(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	row, err := b.add(ctx, table, "")
	if err != nil {
		return err
	}
	server, err := b.add(ctx, row+"Server.", "")
	if err != nil {
		return err
	}
	if err := b.set(ctx, "", row+"Username", "cpe", row+"Domain", xmppDomain, row+"Resource", "cwmp", row+"Password", xmppPassword, row+"UseTLS", "true",
		row+"ServerConnectAlgorithm", "ServerTable", row+"ServerRetryInitialInterval", "1", server+"ServerAddress", "127.0.0.1", server+"Port", s.port, server+"Enable", "true",
		row+"Enable", "true", b.ms("ConnReqAllowedJabberIDs"), "acs@"+xmppDomain); err != nil {
		return err
	}
	if err := b.set(ctx, "", b.ms("ConnReqXMPPConnection"), strings.TrimSuffix(row, ".")); err != nil {
		return err
	}
	mark := b.tap.mark()
	b.endSession(ctx)
	x, err := b.inform(ctx, mark, "4 VALUE CHANGE", 20*time.Second) // ConnReqJabberID is active by default
	if err != nil {
		return err
	}
	jid, _ := informValue(x.inform(), b.ms("ConnReqJabberID"))
	if jid != "cpe@"+xmppDomain+"/cwmp" {
		return fmt.Errorf("ConnReqJabberID is %q", jid)
	}
	b.endSession(ctx)
	roots := x509.NewCertPool()
	roots.AddCert(b.ca.cert)
	port, err := strconv.Atoi(s.port)
	if err != nil {
		return err
	}
	ask := func(user, password string) error {
		return xmpp.Ask(ctx, xmpp.Config{Username: user, Domain: xmppDomain, Resource: "console", Password: xmppPassword, UseTLS: true, TLS: &tls.Config{RootCAs: roots},
			Servers: []xmpp.Target{{Host: "127.0.0.1", Port: port}}}, jid, b.crUser, password)
	}
	mark = b.tap.mark()
	for _, bad := range [][2]string{{"acs", "not " + b.crPass}, {"stranger", b.crPass}} {
		var refused *xmpp.RefusedError
		if err := ask(bad[0], bad[1]); !errors.As(err, &refused) {
			return fmt.Errorf("a request of %s was not refused: %v", bad[0], err)
		}
		b.observe("%s: %s", bad[0], refused.Condition)
	}
	if err := b.quiet(ctx, mark, time.Second); err != nil {
		return err
	}
	if err := ask("acs", b.crPass); err != nil {
		return err
	}
	_, err = b.inform(ctx, mark, "6 CONNECTION REQUEST", 10*time.Second)
	return err
}
