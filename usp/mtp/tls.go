package mtp

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// urnPrefix stands before Endpoint IDs in certificates. (Package usp has the parser; it stands above this package.)
const urnPrefix = "urn:bbf:usp:id:"

// TLSFiles names what a TLS side needs. Client and Server build configurations of TLS 1.2 or later from it.
type TLSFiles struct {
	CAFile     string // PEM, trusted roots; empty: the system's
	CertFile   string // PEM, own certificate with chain; both or none of CertFile and KeyFile
	KeyFile    string
	ServerName string // name expected in the peer's certificate; empty: the host dialled
	// AnyClient lets a server accept peers without certificate. R-MTP.1 wants one, so this is for closed networks.
	AnyClient bool
	// ClockSet tells whether the clock is trustworthy. While it returns false, validity dates are not looked at, since a
	// device without battery wakes up in 1970 (R-MTP.2, R-WS.23). nil: always.
	ClockSet func() bool
	// Unknown is asked about a peer whose certificate does not lead to the roots or does not name the host: nil lets it in
	// all the same. name is the host that was dialled, empty for a server. The chain holds at least one certificate whose
	// key the peer has. nil refuses them all.
	Unknown func(chain []*x509.Certificate, name string) error
}

// own reports whether the library's verification has to be replaced by ours.
func (f TLSFiles) own() bool { return f.ClockSet != nil || f.Unknown != nil }

func (f TLSFiles) verify(cs tls.ConnectionState, roots *x509.CertPool, name string, usage x509.ExtKeyUsage) error {
	err := verifyPeer(cs, roots, name, usage, f.ClockSet == nil || f.ClockSet())
	if err != nil && f.Unknown != nil && len(cs.PeerCertificates) > 0 {
		return f.Unknown(cs.PeerCertificates, name)
	}
	return err
}

func (f TLSFiles) load() (roots *x509.CertPool, certs []tls.Certificate, err error) {
	if f.CAFile != "" {
		pem, err := os.ReadFile(f.CAFile)
		if err != nil {
			return nil, nil, fmt.Errorf("mtp: read CA file: %w", err)
		}
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, nil, fmt.Errorf("mtp: %s holds no certificate", f.CAFile)
		}
	}
	if (f.CertFile == "") != (f.KeyFile == "") {
		return nil, nil, fmt.Errorf("mtp: certificate file %q and key file %q must be given together", f.CertFile, f.KeyFile)
	}
	if f.CertFile != "" {
		c, err := tls.LoadX509KeyPair(f.CertFile, f.KeyFile)
		if err != nil {
			return nil, nil, fmt.Errorf("mtp: load certificate: %w", err)
		}
		certs = []tls.Certificate{c}
	}
	return roots, certs, nil
}

// Client builds the configuration of a side that dials.
func (f TLSFiles) Client() (*tls.Config, error) {
	roots, certs, err := f.load()
	if err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: certs, ServerName: f.ServerName} // R-MQTT.48
	if f.own() {
		// The library's own check cannot leave the dates out nor ask about strangers, so the same check is done here.
		c.InsecureSkipVerify = true
		c.VerifyConnection = func(cs tls.ConnectionState) error {
			name := f.ServerName
			if name == "" {
				name = cs.ServerName
			}
			if name == "" { // the library keeps no name of an address that was dialled
				return errors.New("mtp: TLSFiles.ServerName is needed to dial an address")
			}
			return f.verify(cs, roots, name, x509.ExtKeyUsageServerAuth)
		}
	}
	return c, nil
}

// Server builds the configuration of a side that listens.
func (f TLSFiles) Server() (*tls.Config, error) {
	roots, certs, err := f.load()
	if err != nil {
		return nil, err
	}
	if len(certs) == 0 {
		return nil, errors.New("mtp: a TLS server needs a certificate")
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ClientCAs: roots, Certificates: certs, ClientAuth: tls.RequireAndVerifyClientCert} // R-MTP.1
	if f.AnyClient {
		c.ClientAuth = tls.VerifyClientCertIfGiven
	}
	if f.own() {
		if f.Unknown != nil {
			c.ClientCAs = nil // clients that see a list keep certificates of other issuers to themselves
		}
		c.ClientAuth = tls.RequireAnyClientCert
		if f.AnyClient {
			c.ClientAuth = tls.RequestClientCert
		}
		c.VerifyConnection = func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return nil // only with AnyClient
			}
			return f.verify(cs, roots, "", x509.ExtKeyUsageClientAuth)
		}
	}
	return c, nil
}

func verifyPeer(cs tls.ConnectionState, roots *x509.CertPool, name string, usage x509.ExtKeyUsage, clock bool) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("mtp: the peer sent no certificate") // R-MTP.1
	}
	opt := x509.VerifyOptions{Roots: roots, DNSName: name, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{usage}}
	for _, c := range cs.PeerCertificates[1:] {
		opt.Intermediates.AddCert(c)
	}
	if !clock { // R-MTP.2; with a clock the library compares with now: R-MTP.3
		opt.CurrentTime = LatestStart(cs.PeerCertificates)
	}
	_, err := cs.PeerCertificates[0].Verify(opt)
	return err
}

// LatestStart is a moment at which every certificate of a chain has begun to be valid; never the zero time.
func LatestStart(chain []*x509.Certificate) time.Time {
	at := time.Unix(0, 0)
	for _, c := range chain {
		if t := c.NotBefore.Add(time.Second); t.After(at) {
			at = t
		}
	}
	return at
}

// PeerIdentity is the Identity that a TLS connection proves.
func PeerIdentity(cs *tls.ConnectionState) Identity {
	id := Identity{Encrypted: true}
	if len(cs.PeerCertificates) == 0 {
		return id
	}
	leaf := cs.PeerCertificates[0]
	id.Chain, id.Unverified = cs.PeerCertificates, len(cs.VerifiedChains) == 0
	sum := sha256.Sum256(leaf.Raw)
	id.Fingerprint = hex.EncodeToString(sum[:])
	for _, u := range leaf.URIs {
		// u.String would normalise percent-encoding, which is significant in Endpoint IDs: the opaque part is as sent.
		s := u.Scheme + ":" + u.Opaque
		if len(s) > len(urnPrefix) && strings.EqualFold(s[:len(urnPrefix)], urnPrefix) {
			id.EndpointIDs = append(id.EndpointIDs, s[len(urnPrefix):])
		}
	}
	return id
}
