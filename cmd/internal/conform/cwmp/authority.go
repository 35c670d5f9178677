package conformcwmp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/icholy/digest"
)

// authority is a certificate authority for one bench; file holds its certificate for the CPE.
type authority struct {
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
	// lenient is a planted fault: every certificate is a good one, as if the CPE took the bad ones.
	lenient bool
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "twinspan conformance CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().AddDate(-20, 0, 0), NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	a := &authority{key: key, next: 1}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp("", "twinspan-conform-ca-")
	if err != nil {
		return nil, err
	}
	a.file = f.Name()
	if err := pem.Encode(f, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
		return nil, err
	}
	return a, f.Close()
}

func (a *authority) close() error { return os.Remove(a.file) }

// leaf says what a server's certificate looks like.
type leaf struct {
	commonName string
	dns        []string
	ips        []net.IP
	expired    bool
	selfSigned bool
}

// server makes a TLS configuration with such a certificate; hello, if not nil, sees every ClientHello.
func (a *authority) server(l leaf, hello func(*tls.ClientHelloInfo)) (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if a.lenient {
		l = leaf{dns: []string{"localhost"}, ips: []net.IP{net.IPv4(127, 0, 0, 1)}}
	}
	a.next++
	t := &x509.Certificate{SerialNumber: big.NewInt(a.next), Subject: pkix.Name{CommonName: l.commonName}, DNSNames: l.dns, IPAddresses: l.ips,
		NotBefore: time.Now().AddDate(-10, 0, 0), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if l.expired {
		t.NotAfter = time.Now().AddDate(0, 0, -1)
	}
	parent, signer := a.cert, a.key
	if l.selfSigned {
		parent, signer = t, key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	if hello != nil {
		cfg.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			hello(h)
			return nil, nil
		}
	}
	return cfg, nil
}

// answerChallenge computes digest credentials for a URI that need not be the one asked for.
func answerChallenge(h http.Header, method, uri, user, password string) (string, error) {
	chal, err := digest.FindChallenge(h)
	if err != nil {
		return "", err
	}
	cred, err := digest.Digest(chal, digest.Options{Method: method, URI: uri, Username: user, Password: password, Count: 1})
	if err != nil {
		return "", err
	}
	return cred.String(), nil
}
