package xmpptest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Domain of the server, and Password of its accounts cpe1 and acs.
const (
	Domain   = "xmpp.test"
	Password = "stream secret"
)

// Certificate makes a self-signed one for a name, and the pool that trusts it.
func Certificate(t testing.TB, name string) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// writeCertificate stores one as PEM files.
func writeCertificate(t testing.TB, c tls.Certificate, dir string) (certFile, keyFile string) {
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, b := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: c.Certificate[0]}, keyFile: {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// Prosody starts the XMPP server of that name on loopback, with accounts cpe1 and acs and everything below a temporary
// folder. It fails when it is not installed; TWINSPAN_NO_PEERS=1 says that this machine has no peers to test against.
func Prosody(t *testing.T, cert tls.Certificate, settings string) (host string, port int) {
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
	port = free.Addr().(*net.TCPAddr).Port
	free.Close()
	certFile, keyFile := writeCertificate(t, cert, dir)
	accounts := filepath.Join(dir, "data", "xmpp%2etest", "accounts")
	if err := os.MkdirAll(accounts, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"cpe1", "acs"} {
		if err := os.WriteFile(filepath.Join(accounts, user+".dat"), []byte(`return { ["password"] = "`+Password+`" };`), 0o644); err != nil {
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
VirtualHost "`+Domain+`"
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
			return "127.0.0.1", port
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
