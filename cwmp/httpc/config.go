package httpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"time"
)

// Limits and defaults.
const (
	DefaultTimeout          = 60 * time.Second
	MinTimeout              = 30 * time.Second // TR-069 3.4.1: not less
	DefaultConnectTimeout   = 30 * time.Second
	DefaultMaxResponseBytes = 1 << 20
	MaxRedirects            = 5 // in a row
	maxChallenges           = 3 // answered for one POST
	maxCookies              = 64
	maxCookieBytes          = 4096
	maxHeaderBytes          = 64 << 10
	maxDrain                = 64 << 10 // of a body nobody reads, to keep the connection
	keepAliveMargin         = 500 * time.Millisecond
	exchangeFactor          = 10 // a POST with its answer may last so many timeouts
)

// Secret is a text that does not print itself.
type Secret string

func (Secret) String() string   { return "[redacted]" }
func (Secret) GoString() string { return "[redacted]" }

// LogValue keeps the text out of logs.
func (Secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// Compression is the Content-Encoding of what is sent (ManagementServer.HTTPCompression).
type Compression string

// The values of HTTPCompression.
const (
	NoCompression Compression = ""
	GZIP          Compression = "gzip"
	Deflate       Compression = "deflate"
)

// Config of a Client. Only URL is required.
type Config struct {
	URL      string // ManagementServer.URL; http or https, without user information
	Username string // empty: no authentication is tried
	Password Secret

	// Timeout is how long the ACS may be silent: until the first byte of the answer, and between two reads or writes.
	// At least 30 s; 0 means 60 s. A shorter wait is the business of the context given to Post.
	Timeout          time.Duration
	ConnectTimeout   time.Duration // TCP and TLS each; 0 means 30 s
	MaxResponseBytes int           // after decompression; 0 means 1 MiB
	Compression      Compression
	UserAgent        string // empty means "twinspan"

	RootCAs      *x509.CertPool    // nil: the roots of the system
	Certificates []tls.Certificate // the CPE's own
	ServerName   string            // instead of the URL's host, for SNI and the name check of that host
	// TimeKnown is asked before each TLS handshake; while it returns false, validity dates of certificates are not
	// looked at (TR-069 3.3). nil: the time is known.
	TimeKnown func() bool
	// LegacyCiphers adds the RSA key exchange suites, among them the one that TR-069 3.3 names, for old ACSs.
	LegacyCiphers bool

	BasicInClear   bool // answer a Basic challenge over plain HTTP
	AllowDowngrade bool // follow a redirect from https to http
	TrustRedirects bool // send credentials also to another host after a redirect

	// DialContext replaces the dialer (to bind to an interface, or in tests). Called from the goroutines of net/http.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	Logger      *slog.Logger // nil: nothing is logged
}

// Validate reports what is wrong with a Config, naming the field.
func (c *Config) Validate() error {
	u, err := url.Parse(c.URL)
	if err != nil {
		return errors.New("URL: cannot be parsed") // the error of url.Parse would show it
	}
	if err := checkURL(u); err != nil {
		return fmt.Errorf("URL: %w", err)
	}
	if c.Timeout != 0 && c.Timeout < MinTimeout {
		return fmt.Errorf("Timeout: %v is below the %v of TR-069", c.Timeout, MinTimeout)
	}
	if c.ConnectTimeout < 0 || c.MaxResponseBytes < 0 {
		return errors.New("ConnectTimeout, MaxResponseBytes: must not be negative")
	}
	switch c.Compression {
	case NoCompression, GZIP, Deflate:
	default:
		return fmt.Errorf("Compression: %q is not known", string(c.Compression))
	}
	return nil
}

func checkURL(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("scheme %q is neither http nor https", u.Scheme)
	case u.Hostname() == "":
		return errors.New("no host")
	case u.User != nil:
		return errors.New("user information is not allowed")
	}
	return nil
}

// Client holds what outlives a session. It is safe for concurrent use.
type Client struct {
	cfg   Config
	url   *url.URL
	cache tls.ClientSessionCache
	log   *slog.Logger

	mu     sync.Mutex
	scheme authScheme // the scheme the ACS asked for last
}

// New makes a Client. Nothing is sent.
func New(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("httpc: %w", err)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = DefaultConnectTimeout
	}
	if cfg.MaxResponseBytes == 0 {
		cfg.MaxResponseBytes = DefaultMaxResponseBytes
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "twinspan"
	}
	if cfg.DialContext == nil {
		cfg.DialContext = (&net.Dialer{Timeout: cfg.ConnectTimeout, KeepAlive: 30 * time.Second}).DialContext
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	u, _ := url.Parse(cfg.URL) // checked by Validate
	u.Fragment = ""
	return &Client{cfg: cfg, url: u, cache: tls.NewLRUClientSessionCache(4), log: log}, nil
}

func (c *Client) knownScheme() authScheme {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.scheme
}

func (c *Client) rememberScheme(s authScheme) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.scheme = s
}
