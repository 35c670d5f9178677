package connreq

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"twinspan/cwmp/internal/digestauth"
)

// Defaults and limits.
const (
	DefaultRealm          = "connection request"
	DefaultMaxConnections = 16
	DefaultPerMinute      = 10 // accepted requests
	DefaultBurst          = 10
	looksPerSecond        = 100 // requests whose credentials are looked at, whatever they are
	looksBurst            = 100
	maxHeader             = 8 << 10
	patience              = 5 * time.Second // for a header, for an answer, for the next request after a 401
	nonceLife             = time.Minute
)

// Config of a Server. Path, Credentials and Requested are required.
type Config struct {
	Address string // host:port; default ":7547"
	// Path that must be asked for, beginning with "/"; hard to guess and kept over restarts.
	Path  string
	Realm string
	// Credentials returns the present ConnectionRequestUsername and Password; an empty one refuses everything. Called
	// from the goroutines of the server, once for each request with credentials.
	Credentials func() (user, password string)
	// Requested is called for each accepted request, after the answer has been sent. It must not block.
	Requested func()

	// RefuseInSession answers 503 while InSession reports true; otherwise requests are accepted then too, and the
	// session that they ask for comes after the running one.
	RefuseInSession bool
	InSession       func() bool

	MaxConnections int // at the same time; default 16
	PerMinute      int // accepted requests, refilled evenly; default 10
	Burst          int // accepted requests in a row; default 10

	// Listen replaces net.Listen (to bind to an interface, or in tests).
	Listen func(network, address string) (net.Listener, error)
	Logger *slog.Logger
}

// Validate reports what is wrong with a Config, naming the field.
func (c *Config) Validate() error {
	switch {
	case !strings.HasPrefix(c.Path, "/") || len(c.Path) > 200 || strings.ContainsAny(c.Path, "?# %\r\n"):
		return errors.New("Path: must begin with / and have no query, blank or escape")
	case c.Credentials == nil:
		return errors.New("Credentials: missing")
	case c.Requested == nil:
		return errors.New("Requested: missing")
	case c.RefuseInSession && c.InSession == nil:
		return errors.New("RefuseInSession needs InSession")
	case c.MaxConnections < 0 || c.PerMinute < 0 || c.Burst < 0:
		return errors.New("MaxConnections, PerMinute, Burst: must not be negative")
	}
	return nil
}

// Stats counts answers since Start.
type Stats struct {
	Accepted, Unauthorized, Limited, InSession, NotFound int64
	Overflow                                             int64 // connections refused because there were too many
}

// Server answers connection requests until Close.
type Server struct {
	cfg    Config
	log    *slog.Logger
	auth   *digestauth.Authenticator
	looks  *rate.Limiter
	accept *rate.Limiter
	http   *http.Server
	addr   net.Addr
	served chan struct{}

	running sync.RWMutex // held for reading by every handler, so that Close can wait for them
	closed  bool

	accepted, unauthorized, limited, inSession, notFound, overflow atomic.Int64
}

// NewPath returns a path that cannot be guessed.
func NewPath() string { return "/" + strings.ToLower(rand.Text()) }

// URL is the ConnectionRequestURL for an address of the device: always http (TR-069 3.2.2).
func URL(address netip.Addr, port int, path string) string {
	return "http://" + net.JoinHostPort(address.WithZone("").String(), strconv.Itoa(port)) + path
}

// Start listens and serves.
func Start(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("connreq: %w", err)
	}
	setDefaults(&cfg)
	// MD5 comes first because some ACSs look only at the first challenge, and know no other.
	auth, err := digestauth.New(digestauth.Options{Realm: cfg.Realm, Algorithms: []string{"MD5", "SHA-256"}, Life: nonceLife})
	if err != nil {
		return nil, fmt.Errorf("connreq: %w", err)
	}
	listener, err := cfg.Listen("tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("connreq: %w", err)
	}
	s := &Server{
		cfg: cfg, log: cfg.Logger, auth: auth, addr: listener.Addr(), served: make(chan struct{}),
		looks:  rate.NewLimiter(looksPerSecond, looksBurst),
		accept: rate.NewLimiter(rate.Limit(float64(cfg.PerMinute)/60), cfg.Burst),
	}
	s.http = &http.Server{
		Handler: http.HandlerFunc(s.serve), MaxHeaderBytes: maxHeader, DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout: patience, ReadTimeout: patience, WriteTimeout: patience, IdleTimeout: patience,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // what strangers send is not worth a line each
	}
	s.http.Protocols = new(http.Protocols)
	s.http.Protocols.SetHTTP1(true)
	go func() {
		defer close(s.served)
		_ = s.http.Serve(&boundListener{Listener: listener, server: s})
	}()
	return s, nil
}

func setDefaults(cfg *Config) {
	if cfg.Address == "" {
		cfg.Address = ":7547"
	}
	if cfg.Realm == "" {
		cfg.Realm = DefaultRealm
	}
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = DefaultMaxConnections
	}
	if cfg.PerMinute == 0 {
		cfg.PerMinute = DefaultPerMinute
	}
	if cfg.Burst == 0 {
		cfg.Burst = DefaultBurst
	}
	if cfg.Listen == nil {
		cfg.Listen = net.Listen
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
}

// Port that is listened on.
func (s *Server) Port() int {
	if a, ok := s.addr.(*net.TCPAddr); ok {
		return a.Port
	}
	return 0
}

// Stats of the server so far.
func (s *Server) Stats() Stats {
	return Stats{Accepted: s.accepted.Load(), Unauthorized: s.unauthorized.Load(), Limited: s.limited.Load(),
		InSession: s.inSession.Load(), NotFound: s.notFound.Load(), Overflow: s.overflow.Load()}
}

// Close stops the server.
func (s *Server) Close() error {
	err := s.http.Close()
	<-s.served
	s.running.Lock()
	s.closed = true
	s.running.Unlock()
	if err != nil {
		return fmt.Errorf("connreq: %w", err)
	}
	return nil
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.running.RLock()
	defer s.running.RUnlock()
	if s.closed {
		return
	}
	switch {
	case r.Method != http.MethodGet: // TR-069 3.2.2
		w.Header().Set("Allow", http.MethodGet)
		s.end(w, http.StatusMethodNotAllowed, &s.notFound)
	case r.ContentLength != 0:
		s.end(w, http.StatusBadRequest, &s.notFound)
	case subtle.ConstantTimeCompare([]byte(r.URL.Path), []byte(s.cfg.Path)) != 1: // the query is not looked at
		s.end(w, http.StatusNotFound, &s.notFound)
	case !s.looks.Allow():
		s.end(w, http.StatusServiceUnavailable, &s.limited)
	default:
		s.authenticate(w, r)
	}
}

// end answers without body and closes the connection.
func (s *Server) end(w http.ResponseWriter, status int, counter *atomic.Int64) {
	counter.Add(1)
	w.Header().Set("Connection", "close")
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(status)
}

func (s *Server) authenticate(w http.ResponseWriter, r *http.Request) {
	verdict := s.auth.Check(r, "", s.lookup)
	switch {
	case verdict != digestauth.OK: // TR-069 3.2.2: digest is required
		s.unauthorized.Add(1)
		s.auth.Challenge(w.Header(), "", verdict == digestauth.Stale)
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusUnauthorized)
	case s.cfg.RefuseInSession && s.cfg.InSession():
		s.end(w, http.StatusServiceUnavailable, &s.inSession) // TR-069 3.2.2
	case !s.accept.Allow(): // TR-069 3.2.2: 503, without WWW-Authenticate
		s.log.Warn("connection request refused by the rate limit", "per_minute", s.cfg.PerMinute)
		s.end(w, http.StatusServiceUnavailable, &s.limited)
	default:
		s.end(w, http.StatusOK, &s.accepted)
		// TR-069 3.2.2: the answer leaves before the session starts.
		if err := http.NewResponseController(w).Flush(); err != nil {
			s.log.Debug("the asker of a connection request has gone", "error", err)
		}
		s.cfg.Requested()
	}
}

func (s *Server) lookup(user string) (string, bool) {
	want, password := s.cfg.Credentials()
	if want == "" || password == "" {
		return "", false
	}
	return password, subtle.ConstantTimeCompare([]byte(user), []byte(want)) == 1
}

// busy is what a connection over the bound gets, without anything being read.
const busy = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

// boundListener refuses connections over the bound at once, rather than letting them wait in the kernel.
type boundListener struct {
	net.Listener
	server *Server
	open   atomic.Int64
}

func (l *boundListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Load() < int64(l.server.cfg.MaxConnections) {
			l.open.Add(1)
			return &boundConn{Conn: c, listener: l}, nil
		}
		l.server.overflow.Add(1)
		_ = c.SetDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = c.Write([]byte(busy)) // fits the socket buffer: does not wait
		_ = c.Close()
	}
}

type boundConn struct {
	net.Conn
	listener *boundListener
	once     sync.Once
}

func (c *boundConn) Close() error {
	c.once.Do(func() { c.listener.open.Add(-1) })
	return c.Conn.Close()
}
