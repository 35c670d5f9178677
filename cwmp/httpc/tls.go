package httpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

// legacySuites are offered beside Go's own when Config.LegacyCiphers is set; the first is the one of TR-069 3.3.
var legacySuites = []uint16{
	tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA,
	tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
}

// tlsConfig for one host. The name is checked by crypto/tls: DNS names against the SANs only, IP literals against the
// iPAddress SANs (TR-069 3.3, RFC 6125).
func (c *Client) tlsConfig(host string) *tls.Config {
	cfg := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		RootCAs:            c.cfg.RootCAs,
		Certificates:       c.cfg.Certificates,
		ServerName:         host,
		ClientSessionCache: c.cache,
	}
	if c.cfg.ServerName != "" && host == c.url.Hostname() {
		cfg.ServerName = c.cfg.ServerName
	}
	if c.cfg.LegacyCiphers {
		for _, suite := range tls.CipherSuites() {
			cfg.CipherSuites = append(cfg.CipherSuites, suite.ID)
		}
		cfg.CipherSuites = append(cfg.CipherSuites, legacySuites...)
	}
	if c.cfg.TimeKnown != nil && !c.cfg.TimeKnown() { // TR-069 3.3: dates are ignored only until the time is known
		name := cfg.ServerName
		cfg.ClientSessionCache = nil // a ticket of a chain checked without dates must not outlive that time
		cfg.InsecureSkipVerify = true
		cfg.VerifyConnection = func(state tls.ConnectionState) error {
			return verifyWithoutDates(state.PeerCertificates, c.cfg.RootCAs, name)
		}
	}
	return cfg
}

// verifyWithoutDates checks chain and name as crypto/tls does, at a moment at which the certificates themselves say
// that they were all valid: the beginning or end of one of them.
func verifyWithoutDates(chain []*x509.Certificate, roots *x509.CertPool, name string) error {
	if len(chain) == 0 {
		return errors.New("httpc: the ACS sent no certificate")
	}
	opts := x509.VerifyOptions{Roots: roots, DNSName: name, Intermediates: x509.NewCertPool()}
	for _, cert := range chain[1:] {
		opts.Intermediates.AddCert(cert)
	}
	var err error
	for _, cert := range chain[:min(len(chain), 8)] {
		for _, at := range []time.Time{cert.NotBefore, cert.NotAfter} {
			opts.CurrentTime = at
			if _, err = chain[0].Verify(opts); err == nil {
				return nil
			}
		}
	}
	return fmt.Errorf("httpc: certificate of the ACS: %w", err)
}

// conn tells the session when its connection has gone, and bounds how long one write may take.
type conn struct {
	net.Conn
	timeout time.Duration
	alive   *atomic.Int32
	closed  atomic.Bool
}

func (c *conn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *conn) Close() error {
	if !c.closed.Swap(true) {
		c.alive.Add(-1)
	}
	return c.Conn.Close()
}

func (s *Session) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if s.pinned.Load() {
		return nil, errNewConnection
	}
	ctx, cancel := context.WithTimeout(ctx, s.client.cfg.ConnectTimeout)
	defer cancel()
	raw, err := s.client.cfg.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	s.alive.Add(1)
	s.connections.Add(1)
	return &conn{Conn: raw, timeout: s.client.cfg.Timeout, alive: &s.alive}, nil
}

func (s *Session) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	raw, err := s.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.client.cfg.ConnectTimeout)
	defer cancel()
	secured := tls.Client(raw, s.client.tlsConfig(host))
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return secured, nil
}
