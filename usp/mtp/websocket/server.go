package websocket

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"twinspan/usp"
	"twinspan/usp/mtp"
)

// ServerConfig of a side that listens.
type ServerConfig struct {
	Addr       string // host:port
	Path       string // absolute path of the resource. R-WS.2
	EndpointID string // our own
	TLS        *tls.Config
	// AllowPlain must be set to listen without TLS.
	AllowPlain bool

	MaxConnections int // sessions at a time; further ones get 503
	// Greets says that whoever is welcome here is sent a record at once, as an agent does: when there is no room, the oldest session
	// that was sent none is a stranger's and gives way.
	Greets           bool
	PingInterval     time.Duration
	HandshakeTimeout time.Duration
	MaxRecord        int          // bytes, both directions
	Log              *slog.Logger // nil: none
}

// DefaultServerConfig has everything but Addr, EndpointID and TLS.
func DefaultServerConfig() ServerConfig {
	return ServerConfig{Path: "/usp", MaxConnections: 32, PingInterval: 60 * time.Second,
		HandshakeTimeout: 10 * time.Second, MaxRecord: usp.DefaultLimits().RecordSize}
}

// Validate reports what can never work.
func (c ServerConfig) Validate() error {
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		return fmt.Errorf("websocket: listen address %q: %w", c.Addr, err)
	}
	if !strings.HasPrefix(c.Path, "/") || strings.ContainsAny(c.Path, "?#") {
		return fmt.Errorf("websocket: path %q is not an absolute path", c.Path)
	}
	if c.TLS == nil && !c.AllowPlain {
		return errors.New("websocket: server has no TLS configuration and plain connections are not allowed") // R-MTP.0
	}
	if c.TLS != nil && c.AllowPlain {
		return errors.New("websocket: server has a TLS configuration and yet allows plain connections")
	}
	if c.MaxConnections < 1 {
		return fmt.Errorf("websocket: connection limit %d is below 1", c.MaxConnections)
	}
	if err := usp.CheckForeignID(c.EndpointID); err != nil {
		return fmt.Errorf("websocket: own endpoint id: %w", err)
	}
	return checkCommon(c.PingInterval, c.HandshakeTimeout, c.MaxRecord, nil)
}

// Server accepts connections. It implements mtp.Transport; dest of Send is the Endpoint ID that the peer claimed.
type Server struct {
	cfg      ServerConfig
	log      *slog.Logger
	upgrader websocket.Upgrader
	addr     atomic.Pointer[net.TCPAddr]
	admit    atomic.Pointer[func(string) bool]

	mu       sync.Mutex
	links    map[*link]struct{}
	silent   []*link          // oldest first: sessions that were sent no record when last looked at
	byID     map[string]*link // newest link of a claim
	sessions int              // counted from before the handshake
}

var _ mtp.Transport = (*Server)(nil)

// NewServer checks the configuration; Run listens.
func NewServer(cfg ServerConfig) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: cfg.Log, links: map[*link]struct{}{}, byID: map[string]*link{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.upgrader = websocket.Upgrader{HandshakeTimeout: cfg.HandshakeTimeout, ReadBufferSize: readBuffer, WriteBufferSize: 256,
		Subprotocols: []string{subprotocol}} // R-WS.11
	return s, nil
}

// Addr is where Run listens, nil before.
func (s *Server) Addr() net.Addr {
	if a := s.addr.Load(); a != nil {
		return a
	}
	return nil
}

// SetAdmit sets who is asked, before a session is accepted, whether the endpoint that the peer claims to be may have one;
// false refuses the handshake. Safe for concurrent use.
func (s *Server) SetAdmit(admit func(endpoint string) bool) { s.admit.Store(&admit) }

// Run implements mtp.Transport: it listens until ctx ends. An address that cannot be bound is tried again every five
// seconds, since interfaces come up late on a device.
func (s *Server) Run(ctx context.Context, h mtp.Handler, onState func(mtp.State)) error {
	var ln net.Listener
	for {
		var lc net.ListenConfig
		var err error
		if ln, err = lc.Listen(ctx, "tcp", s.cfg.Addr); err == nil {
			break
		}
		if ctx.Err() != nil {
			return nil
		}
		onState(mtp.State{Reason: err.Error()})
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(5 * time.Second):
		}
	}
	if a, ok := ln.Addr().(*net.TCPAddr); ok {
		s.addr.Store(a)
	}
	ln = &limitListener{Listener: ln, room: make(chan struct{}, s.cfg.MaxConnections+16)}
	if s.cfg.TLS != nil {
		t := s.cfg.TLS.Clone()
		t.NextProtos = []string{"http/1.1"}
		ln = tls.NewListener(ln, t)
	}
	var wg sync.WaitGroup // handlers: the HTTP server does not wait for hijacked connections
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != s.cfg.Path {
			http.NotFound(w, r)
			return
		}
		wg.Add(1)
		defer wg.Done()
		s.accept(ctx, w, r, h, onState)
	})
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: s.cfg.HandshakeTimeout, IdleTimeout: s.cfg.HandshakeTimeout,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
	onState(mtp.State{Up: true})
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	var err error
	select {
	case <-ctx.Done():
		srv.Close()
		<-served
	case err = <-served:
		onState(mtp.State{Reason: "listener failed: " + err.Error()})
	}
	s.closeAll()
	wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("websocket: serve %s: %w", s.cfg.Addr, err)
}

func (s *Server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.links {
		l.shut(websocket.CloseGoingAway, "")
	}
}

// Send implements mtp.Transport.
func (s *Server) Send(ctx context.Context, dest string, record []byte) error {
	s.mu.Lock()
	l := s.byID[dest]
	s.mu.Unlock()
	if l == nil {
		return mtp.ErrNotConnected
	}
	return l.send(ctx, record)
}

// accept handles one handshake and serves the session. R-WS.6, R-WS.7
func (s *Server) accept(ctx context.Context, w http.ResponseWriter, r *http.Request, h mtp.Handler, onState func(mtp.State)) {
	offered := false
	for _, p := range websocket.Subprotocols(r) {
		offered = offered || p == subprotocol
	}
	if !offered { // R-WS.12a
		http.Error(w, "subprotocol "+subprotocol+" is needed", http.StatusBadRequest)
		return
	}
	ext, extID := oldExtension(r.Header)
	peer := mtp.Identity{}
	if r.TLS != nil {
		peer = mtp.PeerIdentity(r.TLS)
	}
	if peer.Claimed = r.URL.Query().Get("eid"); peer.Claimed == "" {
		peer.Claimed = extID // R-WS.11c: neither is demanded
	}
	if peer.Claimed != "" && usp.CheckForeignID(peer.Claimed) != nil {
		http.Error(w, "eid is not an Endpoint ID", http.StatusBadRequest)
		return
	}
	if admit := s.admit.Load(); admit != nil && peer.Claimed != "" && !(*admit)(peer.Claimed) { // R-WS.4
		http.Error(w, "a session with this endpoint is open", http.StatusConflict)
		return
	}
	if !s.reserve() {
		s.log.Warn("usp websocket session refused", "reason", "too many sessions", "limit", s.cfg.MaxConnections, "remote", r.RemoteAddr)
		http.Error(w, "too many sessions", http.StatusServiceUnavailable)
		return
	}
	defer s.unreserve()
	var answer http.Header
	if ext { // R-WS.11a. The spelling keeps the library, which forbids the canonical one, from refusing.
		answer = http.Header{"Sec-WebSocket-Extensions": {`bbf-usp-protocol; eid="` + s.cfg.EndpointID + `"`}}
	}
	ws, err := s.upgrader.Upgrade(w, r, answer)
	if err != nil {
		s.log.Debug("usp websocket handshake failed", "error", err, "remote", r.RemoteAddr)
		return
	}
	l := newLink(ws, false, peer, s.cfg.MaxRecord, s.cfg.PingInterval)
	if !s.enter(l) {
		l.shut(websocket.ClosePolicyViolation, "another session of this endpoint is open")
		l.serve(ctx, nopHandler{}, func(mtp.State) {})
		return
	}
	defer s.leave(l)
	l.serve(ctx, h, func(st mtp.State) {
		if !st.Up {
			s.leave(l)
		}
		onState(st)
	})
}

type nopHandler struct{}

func (nopHandler) HandleRecord(context.Context, mtp.Inbound) {}

func (s *Server) reserve() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions >= s.cfg.MaxConnections && !(s.cfg.Greets && s.evict()) {
		return false
	}
	s.sessions++
	return true
}

// evict ends the oldest session that was never sent a record: strangers must not keep Controllers out, who are greeted as soon
// as they are there and answered when they ask. Its place is taken before its closing handshake ends; the bound on connections
// holds all the same.
func (s *Server) evict() bool {
	for len(s.silent) > 0 {
		l := s.silent[0]
		s.silent = s.silent[1:]
		if _, open := s.links[l]; open && !l.used.Load() && !l.closing.Load() {
			l.shut(websocket.CloseTryAgainLater, "no USP traffic, and others want the place")
			return true
		}
	}
	return false
}

func (s *Server) unreserve() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions--
}

// enter makes l the session of its endpoint; an older one is closed. R-WS.4, TP-469 7.2
func (s *Server) enter(l *link) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id := l.peer.Claimed; id != "" {
		if old := s.byID[id]; old != nil {
			if proves(old.peer, id) && !proves(l.peer, id) {
				return false // a mere claim does not push out who proved it
			}
			old.shut(websocket.ClosePolicyViolation, "replaced by a newer session of this endpoint")
		}
		s.byID[id] = l
	}
	s.links[l] = struct{}{}
	s.silent = append(s.silent, l)
	return true
}

// leave is called once the link is down, and again when its goroutine ends.
func (s *Server) leave(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.links, l)
	for i, q := range s.silent {
		if q == l {
			s.silent = append(s.silent[:i], s.silent[i+1:]...)
			break
		}
	}
	if s.byID[l.peer.Claimed] == l {
		delete(s.byID, l.peer.Claimed)
	}
}

func proves(id mtp.Identity, eid string) bool {
	for _, e := range id.EndpointIDs {
		if e == eid {
			return true
		}
	}
	return false
}

// oldExtension looks for the extension by which clients of USP 1.2 and before told their Endpoint ID.
func oldExtension(h http.Header) (found bool, eid string) {
	for _, line := range h.Values("Sec-Websocket-Extensions") {
		for _, ext := range strings.Split(line, ",") {
			name, params, _ := strings.Cut(ext, ";")
			if strings.TrimSpace(name) != "bbf-usp-protocol" {
				continue
			}
			found = true
			for _, p := range strings.Split(params, ";") {
				if k, v, ok := strings.Cut(p, "="); ok && strings.TrimSpace(k) == "eid" {
					eid = strings.Trim(strings.TrimSpace(v), `"`)
				}
			}
		}
	}
	return found, eid
}

// limitListener bounds connections before any handshake: what is over the limit is closed at once.
type limitListener struct {
	net.Listener
	room chan struct{}
}

func (l *limitListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.room <- struct{}{}:
			return &limitConn{Conn: c, release: sync.OnceFunc(func() { <-l.room })}, nil
		default:
			c.Close()
		}
	}
}

type limitConn struct {
	net.Conn
	release func()
}

func (c *limitConn) Close() error {
	c.release()
	return c.Conn.Close()
}
