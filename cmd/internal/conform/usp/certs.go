package usp

import (
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
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// authority is a certificate authority for one bench: it signs the Controllers' and the agent's certificates.
type authority struct {
	key       *ecdsa.PrivateKey
	cert      *x509.Certificate
	caFile    string
	agentCert string
	agentKey  string
	server    *tls.Config   // of listeners and the broker
	client    *tls.Config   // of Controllers towards the broker
	back      time.Duration // how far in the past certificates are issued
}

// expiredSince is for how long certificates that are over have been.
const expiredSince = 24 * time.Hour

func newAuthority(dir, agentID string, expired bool) (*authority, error) {
	a := &authority{caFile: filepath.Join(dir, "ca.pem"), agentCert: filepath.Join(dir, "agent.pem"), agentKey: filepath.Join(dir, "agent.key")}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "conformance CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-4 * expiredSince), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &a.key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	if err := writePEM(a.caFile, "CERTIFICATE", der); err != nil {
		return nil, err
	}
	if expired {
		a.back = expiredSince + 24*time.Hour
	}
	controllers, err := a.issue(2, "127.0.0.1", mainID, secondID)
	if err != nil {
		return nil, err
	}
	back := a.back
	a.back = 0
	agent, err := a.issue(3, "", agentID)
	if err != nil {
		return nil, err
	}
	if err := saveCertificate(agent, a.agentCert, a.agentKey); err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	a.server = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{controllers}, ClientCAs: roots, ClientAuth: tls.VerifyClientCertIfGiven}
	a.client = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	if expired { // the runner itself does not mind
		a.client.Time = func() time.Time { return time.Now().Add(-back) }
	}
	return a, nil
}

// issue makes a certificate that names endpoints and, for servers, an address.
func (a *authority) issue(serial int64, address string, endpoints ...string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: endpoints[0]}, NotBefore: time.Now().Add(-time.Hour - a.back), NotAfter: time.Now().Add(24*time.Hour - a.back),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, id := range endpoints {
		c.URIs = append(c.URIs, &url.URL{Scheme: "urn", Opaque: "bbf:usp:id:" + id})
	}
	if address != "" {
		c.IPAddresses = []net.IP{net.ParseIP(address)}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// saveCertificate writes a certificate and its key.
func saveCertificate(c tls.Certificate, certFile, keyFile string) error {
	if err := writePEM(certFile, "CERTIFICATE", c.Certificate[0]); err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return fmt.Errorf("key of %s: %w", certFile, err)
	}
	return writePEM(keyFile, "PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
