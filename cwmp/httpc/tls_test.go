package httpc

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// authority issues certificates for one test.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

var serial int64

type certOption func(*x509.Certificate)

func validFrom(from, to time.Duration) certOption {
	return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(from), time.Now().Add(to) }
}

func names(dns ...string) certOption { return func(c *x509.Certificate) { c.DNSNames = dns } }

func addresses(ips ...string) certOption {
	return func(c *x509.Certificate) {
		for _, ip := range ips {
			c.IPAddresses = append(c.IPAddresses, net.ParseIP(ip))
		}
	}
}

func common(cn string) certOption { return func(c *x509.Certificate) { c.Subject.CommonName = cn } }

func template(opts []certOption) *x509.Certificate {
	serial++
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, o := range opts {
		o(c)
	}
	return c
}

func sign(t *testing.T, c *x509.Certificate, key crypto.Signer, by *authority) *x509.Certificate {
	t.Helper()
	parent, signer := c, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func ecKey(t *testing.T) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newAuthority(t *testing.T, by *authority, opts ...certOption) *authority {
	c := template(opts)
	c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage = true, true, x509.KeyUsageCertSign, nil
	key := ecKey(t)
	return &authority{cert: sign(t, c, key, by), key: key}
}

func (a *authority) issue(t *testing.T, key crypto.Signer, opts ...certOption) tls.Certificate {
	leaf := sign(t, template(opts), key, a)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw, a.cert.Raw}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func tlsServer(t *testing.T, cfg *tls.Config, h http.HandlerFunc) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.TLS = cfg
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func TestCertificates(t *testing.T) {
	root := newAuthority(t, nil, common("root"))
	middle := newAuthority(t, root, common("middle"))
	stranger := newAuthority(t, nil, common("stranger"))
	shifted := validFrom(-48*time.Hour, -24*time.Hour)
	oldMiddle := newAuthority(t, root, common("old middle"), validFrom(-72*time.Hour, -20*time.Hour))
	known, unknown := func() bool { return true }, func() bool { return false }
	for _, c := range []struct {
		name string
		cert tls.Certificate
		host string
		time func() bool
		ok   bool
	}{
		{"DNS name in SAN", middle.issue(t, ecKey(t), names("acs.example")), "acs.example", nil, true},
		{"wildcard SAN", middle.issue(t, ecKey(t), names("*.example.net")), "acs.example.net", known, true},
		{"SAN wins over CN", middle.issue(t, ecKey(t), common("acs.example"), names("other.example")), "acs.example", nil, false},
		{"CN alone", middle.issue(t, ecKey(t), common("acs.example")), "acs.example", nil, false},
		{"IP in SAN", middle.issue(t, ecKey(t), addresses("127.0.0.1")), "127.0.0.1", nil, true},
		{"IP not in SAN", middle.issue(t, ecKey(t), names("127.0.0.1")), "127.0.0.1", nil, false},
		{"unknown root", stranger.issue(t, ecKey(t), names("acs.example")), "acs.example", nil, false},
		{"expired", middle.issue(t, ecKey(t), names("acs.example"), shifted), "acs.example", known, false},
		{"expired, time unknown", middle.issue(t, ecKey(t), names("acs.example"), validFrom(-30*time.Minute, -time.Minute)), "acs.example", unknown, true},
		{"not yet valid, time unknown", middle.issue(t, ecKey(t), names("acs.example"), validFrom(30*time.Minute, 90*time.Minute)), "acs.example", unknown, true},
		{"not yet valid", middle.issue(t, ecKey(t), names("acs.example"), validFrom(time.Minute, time.Hour)), "acs.example", nil, false},
		{"wrong name, time unknown", middle.issue(t, ecKey(t), names("other.example"), shifted), "acs.example", unknown, false},
		{"unknown root, time unknown", stranger.issue(t, ecKey(t), names("acs.example")), "acs.example", unknown, false},
		{"never valid together", oldMiddle.issue(t, ecKey(t), names("acs.example")), "acs.example", unknown, false},
		{"IP wrong, time unknown", middle.issue(t, ecKey(t), addresses("127.0.0.2")), "127.0.0.1", unknown, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var sni string
			requests := 0
			srv := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{c.cert}, GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
				sni = h.ServerName
				return nil, nil
			}}, func(http.ResponseWriter, *http.Request) { requests++ })
			s := open(t, Config{URL: urlFor(srv, c.host), RootCAs: root.pool(), TimeKnown: c.time, DialContext: toLoopback})
			_, err := s.Post(t.Context(), []byte("<x/>"))
			if (err == nil) != c.ok {
				t.Fatalf("error %v", err)
			}
			if !c.ok && requests > 0 {
				t.Error("something was sent to an unproved server")
			}
			if net.ParseIP(c.host) == nil && sni != c.host {
				t.Errorf("server_name %q", sni)
			}
		})
	}
}

func TestServerNameOverride(t *testing.T) {
	root := newAuthority(t, nil)
	cert := root.issue(t, ecKey(t), names("acs.example"))
	srv := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{cert}}, func(http.ResponseWriter, *http.Request) {})
	post(t, open(t, Config{URL: srv.URL, RootCAs: root.pool(), ServerName: "acs.example"}), "<x/>")
}

func TestClientCertificate(t *testing.T) {
	root := newAuthority(t, nil)
	cert := root.issue(t, ecKey(t), names("acs.example"), addresses("127.0.0.1"))
	subject := ""
	srv := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: root.pool()},
		func(_ http.ResponseWriter, r *http.Request) { subject = r.TLS.PeerCertificates[0].Subject.CommonName })
	if _, err := open(t, Config{URL: srv.URL, RootCAs: root.pool()}).Post(t.Context(), nil); err == nil {
		t.Error("served without a certificate")
	}
	own := root.issue(t, ecKey(t), common("00D09E-Box-42"))
	post(t, open(t, Config{URL: srv.URL, RootCAs: root.pool(), Certificates: []tls.Certificate{own}}), "")
	if subject != "00D09E-Box-42" {
		t.Errorf("server saw %q", subject)
	}
}

func TestVersionsAndSuites(t *testing.T) {
	root := newAuthority(t, nil)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	cert := root.issue(t, rsaKey, addresses("127.0.0.1"))
	for _, c := range []struct {
		name   string
		cfg    *tls.Config
		legacy bool
		ok     bool
	}{
		{"TLS 1.1 only", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, true, false},
		{"TLS 1.2", &tls.Config{MaxVersion: tls.VersionTLS12}, false, true},
		{"RSA key exchange", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}}, false, false},
		{"RSA key exchange, legacy", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}}, true, true},
		{"TLS 1.3, legacy", &tls.Config{}, true, true},
	} {
		c.cfg.Certificates = []tls.Certificate{cert}
		proto := ""
		srv := tlsServer(t, c.cfg, func(_ http.ResponseWriter, r *http.Request) { proto = r.Proto })
		_, err := open(t, Config{URL: srv.URL, RootCAs: root.pool(), LegacyCiphers: c.legacy}).Post(t.Context(), []byte("<x/>"))
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.ok && proto != "HTTP/1.1" {
			t.Errorf("%s: %s", c.name, proto)
		}
	}
}

func TestBasicUnaskedOverTLS(t *testing.T) {
	root := newAuthority(t, nil)
	cert := root.issue(t, ecKey(t), addresses("127.0.0.1"))
	var auth []string
	digest := false
	srv := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{cert}}, func(w http.ResponseWriter, r *http.Request) {
		auth = append(auth, strings.SplitN(r.Header.Get("Authorization")+" ", " ", 2)[0])
		_, _, basic := r.BasicAuth()
		switch {
		case digest && !strings.HasPrefix(r.Header.Get("Authorization"), "Digest "):
			w.Header().Set("WWW-Authenticate", `Digest realm="r", nonce="n", qop="auth"`)
			w.WriteHeader(401)
		case !digest && !basic:
			w.WriteHeader(500)
		}
	})
	client, err := New(Config{URL: srv.URL, RootCAs: root.pool(), Username: "u", Password: "p"})
	if err != nil {
		t.Fatal(err)
	}
	run := func() {
		s := client.Session()
		defer s.Close()
		post(t, s, "<x/>")
		post(t, s, "<y/>")
	}
	run()
	if strings.Join(auth, ",") != "Basic,Basic" {
		t.Error(auth)
	}
	auth, digest = nil, true
	run()
	run() // now the scheme is known: Basic is not sent again
	if strings.Join(auth, ",") != "Basic,Digest,Digest,,Digest,Digest" {
		t.Errorf("%q", auth)
	}
}

func TestDowngrade(t *testing.T) {
	plain := serve(t, false, answer("<a/>"))
	root := newAuthority(t, nil)
	cert := root.issue(t, ecKey(t), addresses("127.0.0.1"))
	srv := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{cert}}, status(307, "Location", plain.URL))
	cfg := Config{URL: srv.URL, RootCAs: root.pool(), Username: "u", Password: "p"}
	if _, err := open(t, cfg).Post(t.Context(), []byte("<x/>")); !errors.Is(err, ErrDowngrade) || len(plain.requests()) > 0 {
		t.Errorf("downgrade: %v", err)
	}
	cfg.AllowDowngrade = true
	post(t, open(t, cfg), "<x/>")
	if r := plain.requests()[0]; r.auth != "" {
		t.Errorf("Basic was sent in clear after a downgrade: %s", r.auth)
	}
}

func urlFor(srv *httptest.Server, host string) string {
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	return "https://" + net.JoinHostPort(host, port) + "/"
}
