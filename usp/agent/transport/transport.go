package transport

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	"twinspan/usp"
	"twinspan/usp/agent"
	"twinspan/usp/mtp"
	"twinspan/usp/mtp/uds"
	"twinspan/usp/mtp/websocket"
)

// Config of a Factory.
type Config struct {
	TLS mtp.TLSFiles // own certificate, trusted roots
	// Listen is the address that servers listen on; empty: all.
	Listen string
	// MaxRecord is the largest record in both directions, in bytes; 0: usp.DefaultLimits.
	MaxRecord int
	Log       *slog.Logger
}

// Factory implements agent.Factory.
type Factory struct {
	cfg Config
}

// New checks the configuration; TLS files are read when a transport needs them, so that they can be replaced.
func New(c Config) (*Factory, error) {
	if c.MaxRecord == 0 {
		c.MaxRecord = usp.DefaultLimits().RecordSize
	}
	if c.MaxRecord < 512 {
		return nil, fmt.Errorf("transport: record limit %d is below 512 bytes", c.MaxRecord)
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		return nil, fmt.Errorf("transport: certificate file %q and key file %q must be given together", c.TLS.CertFile, c.TLS.KeyFile)
	}
	return &Factory{cfg: c}, nil
}

// TrustBy implements agent.Truster. Call it before the first New.
func (f *Factory) TrustBy(judge func(chain []*x509.Certificate, name string) error) {
	f.cfg.TLS.Unknown = judge
}

// New implements agent.Factory.
func (f *Factory) New(s agent.Spec) (mtp.Transport, error) {
	switch s.Kind {
	case "WebSocketClient":
		return f.webSocketClient(s)
	case "WebSocketServer":
		return f.webSocketServer(s)
	case "UDSListen":
		c := uds.DefaultServerConfig()
		c.Path, c.EndpointID, c.MaxRecord, c.Log = s.Path, s.Endpoint, f.cfg.MaxRecord, f.cfg.Log
		if s.Mode != 0 {
			c.Mode = fs.FileMode(s.Mode) & os.ModePerm
		}
		return built(uds.NewServer(c))
	case "UDSConnect":
		c := uds.DefaultClientConfig()
		c.Path, c.EndpointID, c.MaxRecord = s.Path, s.Endpoint, f.cfg.MaxRecord
		return built(uds.NewClient(c))
	case "MQTT":
		return f.mqtt(s)
	}
	return nil, fmt.Errorf("transport: kind %q is not supported", s.Kind)
}

// built keeps a nil pointer from becoming a transport that is not nil.
func built[T mtp.Transport](t T, err error) (mtp.Transport, error) {
	if err != nil {
		return nil, err
	}
	return t, nil
}

func (f *Factory) client(encrypted bool, host string) (*tls.Config, error) {
	if !encrypted {
		return nil, nil
	}
	files := f.cfg.TLS
	if files.ServerName == "" {
		files.ServerName = host
	}
	return files.Client()
}

func (f *Factory) webSocketClient(s agent.Spec) (mtp.Transport, error) {
	c := websocket.DefaultClientConfig()
	var err error
	if c.TLS, err = f.client(s.Encrypted, s.Host); err != nil {
		return nil, err
	}
	u := url.URL{Scheme: "ws", Host: net.JoinHostPort(s.Host, strconv.Itoa(s.Port))}
	if s.Encrypted {
		u.Scheme = "wss"
	}
	path, query, _ := strings.Cut(s.Path, "?")
	u.Path, u.RawQuery = "/"+strings.TrimPrefix(path, "/"), query
	c.URL, c.EndpointID, c.MaxRecord = u.String(), s.Endpoint, f.cfg.MaxRecord
	if s.KeepAlive > 0 {
		c.PingInterval = s.KeepAlive
	}
	c.Backoff = backoff(s, c.Backoff)
	return built(websocket.NewClient(c))
}

func (f *Factory) webSocketServer(s agent.Spec) (mtp.Transport, error) {
	c := websocket.DefaultServerConfig()
	if s.Encrypted {
		var err error
		if c.TLS, err = f.cfg.TLS.Server(); err != nil {
			return nil, err
		}
	} else {
		c.AllowPlain = true
	}
	c.Addr, c.EndpointID = net.JoinHostPort(f.cfg.Listen, strconv.Itoa(s.Port)), s.Endpoint
	if s.Path != "" {
		c.Path = "/" + strings.TrimPrefix(s.Path, "/")
	}
	if s.KeepAlive > 0 {
		c.PingInterval = s.KeepAlive
	}
	c.MaxRecord, c.Log, c.Greets = f.cfg.MaxRecord, f.cfg.Log, true
	return built(websocket.NewServer(c))
}

// backoff takes the data model's values where they make sense.
func backoff(s agent.Spec, def usp.Backoff) usp.Backoff {
	b := usp.Backoff{Min: s.RetryMin, Multiplier: s.RetryMul, Max: s.RetryMax}
	if b.Validate() != nil {
		return def
	}
	return b
}
