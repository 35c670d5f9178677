package acs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"twinspan/cwmp/internal/digestauth"
	"twinspan/cwmp/soap"
)

// AuthMode is how devices must authenticate.
type AuthMode uint8

// The modes.
const (
	NoAuth AuthMode = iota
	Basic
	Digest
)

// Bounds of what is kept.
const (
	maxDevices    = 1000
	maxQueue      = 1000 // calls waiting for one device
	maxRecords    = 1000 // Informs, transfers and requests kept for one device, and violations; older ones go first
	maxBody       = 16 << 20
	defaultHold   = 20 * time.Second
	cookieName    = "acs-session"
	closePatience = 5 * time.Second
)

// Config of a Server. The zero value is an open server over plain HTTP on a free port of the loopback.
type Config struct {
	Address    string // default "127.0.0.1:0"
	Path       string // default "/acs"
	TLS        *tls.Config
	Auth       AuthMode
	Algorithms []string // of Digest; default MD5
	// NoncePerConnection ties digest nonces to the TCP connection, as some ACSs do.
	NoncePerConnection bool
	Username, Password string
	// UseCWMPVersion is sent in InformResponse when the CPE lists it among its SupportedCWMPVersions.
	UseCWMPVersion string
	// Namespace of the envelopes; default cwmp-1-2.
	Namespace string
	// Strict notes deviations from the schema as violations (xsi:type, arrayType counts, lengths). They are accepted.
	Strict  bool
	MaxHold time.Duration // how long one POST may wait in a held session; default 20 s
	Logger  *slog.Logger
}

// Counters of a Server.
type Counters struct {
	Connections, Posts, EmptyPosts, Informs, Sessions, Unauthorized, Refused int
	BytesIn, BytesOut                                                        int64
}

// Server is a running ACS.
type Server struct {
	cfg      Config
	log      *slog.Logger
	listener net.Listener
	http     *http.Server
	auth     *digestauth.Authenticator
	served   chan struct{}
	closed   chan struct{}
	once     sync.Once

	mu         sync.Mutex
	devices    map[string]*Device
	order      []*Device
	sessions   map[string]*session
	faults     []*Fault
	counters   Counters
	violations []string
	changed    chan struct{} // closed and replaced at every change that somebody may wait for
}

// Start listens and serves until Close.
func Start(cfg Config) (*Server, error) {
	if cfg.Address == "" {
		cfg.Address = "127.0.0.1:0"
	}
	if cfg.Path == "" {
		cfg.Path = "/acs"
	}
	if cfg.MaxHold <= 0 {
		cfg.MaxHold = defaultHold
	}
	auth, err := digestauth.New(digestauth.Options{Realm: "acs", Algorithms: cfg.Algorithms, Life: 10 * time.Minute, MaxNonces: 4096})
	if err != nil {
		return nil, fmt.Errorf("acs: %w", err)
	}
	listener, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("acs: %w", err)
	}
	s := &Server{
		cfg: cfg, log: cfg.Logger, listener: listener, auth: auth,
		served: make(chan struct{}), closed: make(chan struct{}), changed: make(chan struct{}),
		devices: map[string]*Device{}, sessions: map[string]*session{},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.http = &http.Server{
		Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog:  slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ConnState: s.connState,
	}
	s.http.Protocols = new(http.Protocols)
	s.http.Protocols.SetHTTP1(true)
	if cfg.TLS != nil {
		listener = tls.NewListener(listener, cfg.TLS)
	}
	go func() {
		defer close(s.served)
		_ = s.http.Serve(listener)
	}()
	return s, nil
}

func (s *Server) connState(_ net.Conn, state http.ConnState) {
	if state == http.StateNew {
		s.mu.Lock()
		s.counters.Connections++
		s.mu.Unlock()
	}
}

// URL is what a CPE's ManagementServer.URL must be. The host is the address listened on.
func (s *Server) URL() string {
	scheme := "http"
	if s.cfg.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + s.listener.Addr().String() + s.cfg.Path
}

// Close ends all sessions and waits for the server to stop.
func (s *Server) Close() {
	s.once.Do(func() {
		close(s.closed)
		ctx, cancel := context.WithTimeout(context.Background(), closePatience)
		defer cancel()
		if err := s.http.Shutdown(ctx); err != nil {
			_ = s.http.Close()
		}
		s.mu.Lock()
		for _, d := range s.order {
			d.failAll(ErrClosed)
		}
		s.notify()
		s.mu.Unlock()
	})
	<-s.served
}

// ErrClosed is returned by waiting methods when the server is closed.
var ErrClosed = errors.New("acs: server closed")

// notify wakes everybody who waits for a change; the lock is held.
func (s *Server) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// wait calls ready, under the lock, until it returns true.
func (s *Server) wait(ctx context.Context, ready func() bool) error {
	for {
		s.mu.Lock()
		done, changed := ready(), s.changed
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.closed:
			return ErrClosed
		}
	}
}

// Device returns the device with an identity as in DeviceKey, known or not yet: calls to it wait for its first session.
// It returns nil when the bound of 1,000 devices is reached.
func (s *Server) Device(key string) *Device {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.device(key)
}

// DeviceKey is OUI-ProductClass-SerialNumber.
func DeviceKey(id soap.DeviceID) string {
	return id.OUI + "-" + id.ProductClass + "-" + id.SerialNumber
}

func (s *Server) device(key string) *Device {
	if d := s.devices[key]; d != nil {
		return d
	}
	if len(s.devices) >= maxDevices {
		return nil
	}
	d := &Device{server: s, Key: key}
	s.devices[key] = d
	s.order = append(s.order, d)
	return d
}

// Devices that sent an Inform, in the order of their first one.
func (s *Server) Devices() []*Device {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.informed()
}

func (s *Server) informed() []*Device {
	var out []*Device
	for _, d := range s.order {
		if len(d.informs) > 0 {
			out = append(out, d)
		}
	}
	return out
}

// WaitDevice waits for the first Inform of any device.
func (s *Server) WaitDevice(ctx context.Context) (*Device, error) {
	var d *Device
	err := s.wait(ctx, func() bool {
		if all := s.informed(); len(all) > 0 {
			d = all[0]
		}
		return d != nil
	})
	return d, err
}

// Counters returns a copy of the counters.
func (s *Server) Counters() Counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counters
}

// Violations lists what devices did against the protocol, oldest first; at most the last 1,000.
func (s *Server) Violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.violations...)
}

// violation notes one; the lock is held.
func (s *Server) violation(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.log.Warn("cpe breaks the protocol", "what", text)
	s.violations = keep(s.violations, text)
}

// keep appends within the bound.
func keep[T any](list []T, v T) []T {
	if len(list) >= maxRecords {
		list = append(list[:0], list[1:]...)
	}
	return append(list, v)
}
