package transport_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"twinspan/datamodel"
	"twinspan/usp/agent"
	"twinspan/usp/agent/transport"
	"twinspan/usp/mtp"
	"twinspan/usp/mtp/websocket"
)

// selfSigned makes a certificate that names an Endpoint ID and nobody vouches for.
func selfSigned(t *testing.T, eid string, ends time.Time) (cert tls.Certificate, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	tpl := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: eid}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: ends,
		URIs: []*url.URL{{Scheme: "urn", Opaque: "bbf:usp:id:" + eid}}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
	for name, b := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, certFile, keyFile
}

const trustRow = "Device.LocalAgent.ControllerTrust."

// trusting is an agent that listens with TLS and lets strangers in, with the UntrustedRole and one Challenge.
func trusting(t *testing.T, more map[string]string) (port int) {
	port = freePort(t)
	_, certFile, keyFile := selfSigned(t, agentID, time.Now().Add(time.Hour))
	device(t, filepath.Join(t.TempDir(), "cli.sock"), func(p *datamodel.Profile, c *transport.Config, o *agent.Options) {
		c.TLS = mtp.TLSFiles{CertFile: certFile, KeyFile: keyFile, CAFile: certFile}
		o.Trust = agent.TrustPolicy{Roots: x509.NewCertPool()}
		role := trustRow + "Role.2."
		for k, v := range map[string]string{
			"Device.LocalAgent.MTP.1.Enable": "true", "Device.LocalAgent.MTP.1.Protocol": "WebSocket", "Device.LocalAgent.MTP.1.WebSocket.Port": fmt.Sprint(port),
			"Device.LocalAgent.MTP.1.WebSocket.Path": "/usp", "Device.LocalAgent.MTP.1.WebSocket.EnableEncryption": "true",
			role + "Enable": "true", role + "Name": "untrusted", role + "Permission.1.Enable": "true", role + "Permission.1.Targets": trustRow,
			role + "Permission.1.Param": "r---", role + "Permission.1.Obj": "r---", role + "Permission.1.InstantiatedObj": "r---", role + "Permission.1.CommandEvent": "r-x-",
			trustRow + "UntrustedRole": trustRow + "Role.2", trustRow + "TOFUAllowed": "true",
			trustRow + "Challenge.1.Enable": "true", trustRow + "Challenge.1.Alias": "ch", trustRow + "Challenge.1.Type": "Passphrase",
			trustRow + "Challenge.1.Value": base64.StdEncoding.EncodeToString([]byte("open sesame")), trustRow + "Challenge.1.Role": trustRow + "Role.1",
			trustRow + "Challenge.1.Retries": "2", trustRow + "Challenge.1.LockoutPeriod": "1",
		} {
			p.Factory[k] = v
		}
		for k, v := range more {
			p.Factory[k] = v
		}
	})
	return port
}

func dialer(t *testing.T, eid string, port int, cert tls.Certificate) *websocket.Client {
	t.Helper()
	wc := websocket.DefaultClientConfig()
	wc.URL, wc.EndpointID = fmt.Sprintf("wss://127.0.0.1:%d/usp", port), eid
	wc.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true} //nolint:gosec // the agent's own trust is tested
	wc.Backoff.Min = 50 * time.Millisecond
	c, err := websocket.NewClient(wc)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A self-signed Controller starts untrusted, its certificate is remembered, and it is lifted by a Challenge.
// R-SEC.6, R-SEC.7, R-SEC.8, R-SEC.16, R-SEC.17
func TestSelfSignedController(t *testing.T) {
	port := trusting(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cert, _, _ := selfSigned(t, "self::stranger", time.Now().Add(time.Hour))
	c := manage(t, "self::stranger", dialer(t, "self::stranger", port, cert), nil)
	if err := c.WaitUp(ctx); err != nil {
		t.Fatal(err)
	}
	if v, err := c.Value(ctx, trustRow+"Challenge.1.Alias"); err != nil || v != "ch" {
		t.Fatalf("%q %v", v, err)
	}
	if v, err := c.Value(ctx, trustRow+"Challenge.1.Value"); v != "" {
		t.Fatalf("the secret is shown: %q %v", v, err)
	}
	if v, err := c.Value(ctx, "Device.LocalAgent.EndpointID"); err == nil {
		t.Fatalf("a stranger reads %q", v)
	}
	ask := func() (map[string]string, error) {
		out, _, err := c.Operate(ctx, trustRow+"RequestChallenge()", "k", map[string]string{"ChallengeRef": trustRow + "Challenge.1."})
		return out, err
	}
	answer := func(id, value string) error {
		_, _, err := c.Operate(ctx, trustRow+"ChallengeResponse()", "k", map[string]string{"ChallengeID": id, "Value": base64.StdEncoding.EncodeToString([]byte(value))})
		return err
	}
	wants := func(err error, what string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v instead of %s", err, what)
		}
	}
	q, err := ask()
	if err != nil || q["ChallengeID"] == "" {
		t.Fatalf("%v %v", q, err)
	}
	_, err = ask()
	wants(err, "7002") // one at a time
	wants(answer("nonsense", "open sesame"), "ChallengeID")
	wants(answer(q["ChallengeID"], "a guess"), "wrong")
	wants(answer(q["ChallengeID"], "another"), "wrong")
	wants(answer(q["ChallengeID"], "open sesame"), "7002") // locked out, however right
	deadline := time.Now().Add(5 * time.Second)
	for err = answer(q["ChallengeID"], "open sesame"); err != nil && time.Now().Before(deadline); err = answer(q["ChallengeID"], "open sesame") {
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	if v, err := c.Value(ctx, `Device.LocalAgent.Controller.[EndpointID=="self::stranger"].AssignedRole`); err != nil || v != trustRow+"Role.1" {
		t.Errorf("%q %v", v, err)
	}
	if v, err := c.Value(ctx, `Device.LocalAgent.Controller.[EndpointID=="self::stranger"].Credential`); err != nil || v != "Device.LocalAgent.Certificate.1" {
		t.Errorf("Credential %q %v", v, err)
	}
	out, _, err := c.Operate(ctx, "Device.LocalAgent.Certificate.1.GetFingerprint()", "", map[string]string{"FingerprintAlgorithm": "SHA-256"})
	if err != nil || len(out["Fingerprint"]) != 64 {
		t.Errorf("%v %v", out, err)
	}
	// Somebody else with the same name and another certificate never gets in.
	other, _, _ := selfSigned(t, "self::stranger", time.Now().Add(time.Hour))
	refused(t, dialer(t, "self::stranger", port, other))
	expired, _, _ := selfSigned(t, "self::late", time.Now().Add(-time.Hour))
	refused(t, dialer(t, "self::late", port, expired))
	if _, err := c.Value(ctx, "Device.LocalAgent.EndpointID"); err != nil {
		t.Error(err)
	}
}

// ended runs a transport until its link goes or cannot be made, and returns why.
func ended(t *testing.T, tr mtp.Transport) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	down := make(chan string, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tr.Run(ctx, silent{}, func(s mtp.State) {
			if !s.Up && !strings.Contains(s.Reason, "connection refused") { // the listener comes up meanwhile
				down <- s.Reason
			}
		})
	}()
	defer func() { cancel(); <-done }()
	select {
	case why := <-down:
		return why
	case <-ctx.Done():
		t.Fatal("the link stays")
		return ""
	}
}

type silent struct{}

func (silent) HandleRecord(context.Context, mtp.Inbound) {}

func refused(t *testing.T, tr mtp.Transport) {
	t.Helper()
	if why := ended(t, tr); !strings.Contains(why, "certificate") && !strings.Contains(why, "connection reset") && !strings.Contains(why, "tls") && !strings.Contains(why, "EOF") {
		t.Errorf("ended by %q", why)
	}
}

// A stranger that says nothing is put out after TOFUInactivityTimer; without TOFUAllowed it does not get in.
func TestSilentStranger(t *testing.T) {
	cert, _, _ := selfSigned(t, "self::silent", time.Now().Add(time.Hour))
	port := trusting(t, map[string]string{trustRow + "TOFUInactivityTimer": "1"})
	if why := ended(t, dialer(t, "self::silent", port, cert)); !strings.Contains(why, "no USP traffic") {
		t.Errorf("ended by %q", why)
	}
	port = trusting(t, map[string]string{trustRow + "TOFUAllowed": "false"})
	refused(t, dialer(t, "self::silent", port, cert))
}
