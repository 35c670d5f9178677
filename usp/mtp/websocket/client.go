package websocket

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"twinspan/usp"
	"twinspan/usp/mtp"
)

// ClientConfig of a side that dials.
type ClientConfig struct {
	URL        string      // ws:// or wss://, with path and optional query
	EndpointID string      // our own
	TLS        *tls.Config // for wss; nil: system roots, no client certificate
	// Header is added to the handshake request (authorisation towards proxies); may be nil.
	Header http.Header

	Backoff          usp.Backoff   // SessionRetryMinimumWaitInterval, SessionRetryIntervalMultiplier. R-WS.19
	PingInterval     time.Duration // 0: none; else at least 1 s. R-WS.18
	HandshakeTimeout time.Duration
	MaxRecord        int // bytes, both directions
}

// DefaultClientConfig has everything but URL and EndpointID.
func DefaultClientConfig() ClientConfig {
	return ClientConfig{Backoff: usp.DefaultBackoff(), PingInterval: 30 * time.Second,
		HandshakeTimeout: 30 * time.Second, MaxRecord: usp.DefaultLimits().RecordSize}
}

// Validate reports what can never work.
func (c ClientConfig) Validate() error {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "ws" && u.Scheme != "wss" {
		return fmt.Errorf("websocket: URL %q is not ws://host/path or wss://host/path", c.URL)
	}
	if u.Fragment != "" || u.User != nil {
		return fmt.Errorf("websocket: URL of host %s has a fragment or a user name", u.Host)
	}
	if err := usp.CheckForeignID(c.EndpointID); err != nil {
		return fmt.Errorf("websocket: own endpoint id: %w", err)
	}
	return checkCommon(c.PingInterval, c.HandshakeTimeout, c.MaxRecord, c.Backoff.Validate())
}

func checkCommon(ping, handshake time.Duration, maxRecord int, err error) error {
	switch {
	case err != nil:
		return err
	case ping < 0 || ping > 0 && ping < 10*time.Millisecond:
		return fmt.Errorf("websocket: ping interval %s is too short", ping)
	case handshake <= 0:
		return fmt.Errorf("websocket: handshake timeout %s is not positive", handshake)
	case maxRecord < 512:
		return fmt.Errorf("websocket: record limit %d is below 512 bytes", maxRecord)
	}
	return nil
}

// Client is one connection that is kept up. It implements mtp.Transport.
type Client struct {
	cfg  ClientConfig
	uri  string
	link atomic.Pointer[link]
}

var _ mtp.Transport = (*Client)(nil)

// NewClient checks the configuration; Run dials.
func NewClient(cfg ClientConfig) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Client{cfg: cfg, uri: withEID(cfg.URL, cfg.EndpointID)}, nil
}

// withEID adds the eid query. The Endpoint ID is opaque in a URI: its percent signs are escaped. R-WS.10b, R-WS.10c
func withEID(uri, eid string) string {
	sep := "?"
	if strings.Contains(uri, "?") {
		sep = "&"
	}
	// The characters of Endpoint IDs stand in a query as they are; a foreign one that could end the query is escaped.
	r := strings.NewReplacer("%", "%25", "&", "%26", "#", "%23", "+", "%2B")
	return uri + sep + "eid=" + r.Replace(eid)
}

// Run implements mtp.Transport.
func (c *Client) Run(ctx context.Context, h mtp.Handler, onState func(mtp.State)) error {
	for retry := 0; ctx.Err() == nil; {
		l, err := c.dial(ctx)
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			onState(mtp.State{Reason: err.Error()})
		} else {
			retry = 0 // R-WS.20
			c.link.Store(l)
			l.serve(ctx, h, func(s mtp.State) {
				if !s.Up {
					c.link.Store(nil)
				}
				onState(s)
			})
		}
		retry++
		select { // R-WS.19
		case <-time.After(c.cfg.Backoff.Wait(retry)):
		case <-ctx.Done():
		}
	}
	return nil
}

// Send implements mtp.Transport; dest is ignored.
func (c *Client) Send(ctx context.Context, _ string, record []byte) error {
	l := c.link.Load()
	if l == nil {
		return mtp.ErrNotConnected
	}
	return l.send(ctx, record)
}

func (c *Client) dial(ctx context.Context) (*link, error) {
	var nd net.Dialer // TCP_NODELAY is Go's default
	d := websocket.Dialer{
		NetDialContext: nd.DialContext, TLSClientConfig: clientTLS(c.cfg.TLS), HandshakeTimeout: c.cfg.HandshakeTimeout,
		ReadBufferSize: readBuffer, WriteBufferSize: 256, // we write ourselves; the library writes the handshake only
		Subprotocols: []string{subprotocol}, // R-WS.10
	}
	ws, resp, err := d.DialContext(ctx, c.uri, c.cfg.Header) // R-WS.5, R-WS.7
	if err != nil {
		if errors.Is(err, websocket.ErrBadHandshake) && resp != nil {
			return nil, fmt.Errorf("server refused the handshake: %s", resp.Status)
		}
		return nil, fmt.Errorf("cannot connect: %w", err)
	}
	if ws.Subprotocol() != subprotocol { // R-WS.12
		ws.Close()
		return nil, errors.New("server did not agree to subprotocol " + subprotocol)
	}
	// R-WS.11b: nothing is asked of Sec-WebSocket-Extensions.
	peer := mtp.Identity{}
	if tc, ok := ws.NetConn().(*tls.Conn); ok {
		cs := tc.ConnectionState()
		peer = mtp.PeerIdentity(&cs)
	}
	return newLink(ws, true, peer, c.cfg.MaxRecord, c.cfg.PingInterval), nil
}

func clientTLS(c *tls.Config) *tls.Config {
	if c == nil {
		return &tls.Config{MinVersion: tls.VersionTLS12} // R-WS.22
	}
	return c
}
