package uds

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"twinspan/usp"
	"twinspan/usp/mtp"
)

// ServerConfig of a side that listens.
type ServerConfig struct {
	Path             string      // of the socket; its folder is made if missing
	Mode             fs.FileMode // of the socket
	EndpointID       string      // our own
	MaxConnections   int
	HandshakeTimeout time.Duration // how long a client may take for its handshake
	MaxRecord        int           // bytes, both directions
	Log              *slog.Logger  // nil: none
}

// DefaultServerConfig has everything but Path and EndpointID.
func DefaultServerConfig() ServerConfig {
	return ServerConfig{Mode: 0o600, MaxConnections: 32, HandshakeTimeout: 30 * time.Second, MaxRecord: usp.DefaultLimits().RecordSize}
}

// Validate reports what can never work.
func (c ServerConfig) Validate() error {
	if c.Mode&^0o777 != 0 || c.Mode&0o600 != 0o600 {
		return fmt.Errorf("uds: socket mode %o is not between 0600 and 0777", c.Mode)
	}
	if c.MaxConnections < 1 {
		return fmt.Errorf("uds: connection limit %d is below 1", c.MaxConnections)
	}
	return checkCommon(c.Path, c.EndpointID, c.HandshakeTimeout, c.MaxRecord)
}

// Server accepts connections. It implements mtp.Transport; dest of Send is the Endpoint ID that the peer claimed.
type Server struct {
	cfg ServerConfig
	log *slog.Logger

	mu   sync.Mutex
	byID map[string]*link // newest link of a claim
}

var _ mtp.Transport = (*Server)(nil)

// NewServer checks the configuration; Run listens.
func NewServer(cfg ServerConfig) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: cfg.Log, byID: map[string]*link{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s, nil
}

// Run implements mtp.Transport: it listens until ctx ends. When the socket cannot be made (another process listens, the
// folder is missing rights) it tries again every five seconds and reports each failure.
func (s *Server) Run(ctx context.Context, h mtp.Handler, onState func(mtp.State)) error {
	for ctx.Err() == nil {
		err := s.listenAndServe(ctx, h, onState)
		if ctx.Err() != nil {
			break
		}
		onState(mtp.State{Reason: err.Error()})
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Second):
		}
	}
	return nil
}

func (s *Server) listenAndServe(ctx context.Context, h mtp.Handler, onState func(mtp.State)) error {
	ln, unlock, err := s.listen(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	unhook := context.AfterFunc(ctx, func() { ln.Close() })
	defer unhook()
	defer ln.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	room := make(chan struct{}, s.cfg.MaxConnections)
	for {
		nc, err := ln.Accept() // R-UDS.3
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED) {
				s.log.Warn("usp uds accept failed", "error", err)
				time.Sleep(100 * time.Millisecond) // out of descriptors: let others give some back
				continue
			}
			return fmt.Errorf("uds: accept: %w", err)
		}
		select {
		case room <- struct{}{}:
		default:
			s.log.Warn("usp uds session refused", "reason", "too many sessions", "limit", s.cfg.MaxConnections)
			nc.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			nc.Write(appendFrame(nil, tlvError, []byte("too many sessions")))
			nc.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-room }()
			s.accept(ctx, nc, h, onState)
		})
	}
}

// accept does the handshake and serves one connection.
func (s *Server) accept(ctx context.Context, nc net.Conn, h mtp.Handler, onState func(mtp.State)) {
	defer nc.Close()
	unhook := context.AfterFunc(ctx, func() { nc.SetReadDeadline(time.Unix(1, 0)) })
	nc.SetReadDeadline(time.Now().Add(s.cfg.HandshakeTimeout))
	br := bufio.NewReaderSize(nc, 4096)
	claimed, err := awaitHandshake(br, s.cfg.MaxRecord)
	if err != nil {
		unhook()
		if errors.Is(err, errFrame) {
			writeNow(nc, tlvError, clipText(err.Error())) // R-UDS.21, R-UDS.24
		}
		s.log.Debug("usp uds handshake failed", "error", err)
		return
	}
	if err := writeNow(nc, tlvHandshake, s.cfg.EndpointID); err != nil { // R-UDS.17
		unhook()
		return
	}
	if !unhook() {
		return // ctx ended
	}
	nc.SetDeadline(time.Time{})
	l := newLink(nc, br, claimed, s.cfg.MaxRecord)
	s.mu.Lock()
	s.byID[claimed] = l
	s.mu.Unlock()
	l.serve(ctx, h, func(st mtp.State) {
		if !st.Up {
			s.mu.Lock()
			if s.byID[claimed] == l {
				delete(s.byID, claimed)
			}
			s.mu.Unlock()
		}
		onState(st)
	})
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

// listen binds the socket with its final mode, after it made sure that nobody else has it. R-UDS.2
func (s *Server) listen(ctx context.Context) (ln net.Listener, unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(s.cfg.Path), 0o755); err != nil {
		return nil, nil, fmt.Errorf("uds: make folder of the socket: %w", err)
	}
	lock, err := os.OpenFile(s.cfg.Path+".lock", os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("uds: open lock file: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, nil, fmt.Errorf("uds: another process listens on %s", s.cfg.Path)
	}
	release := func() { lock.Close() } // closing gives the lock back; the file stays, removing it would race
	defer func() {
		if err != nil {
			release()
		}
	}()
	if err := removeStale(s.cfg.Path); err != nil {
		return nil, nil, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		// The kernel gives the file the mode that the socket has at bind, less umask: no moment with a wider mode.
		var err error
		if e := rc.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), uint32(s.cfg.Mode)) }); e != nil {
			return e
		}
		return err
	}}
	if ln, err = lc.Listen(ctx, "unix", s.cfg.Path); err != nil {
		return nil, nil, fmt.Errorf("uds: listen: %w", err)
	}
	if err = os.Chmod(s.cfg.Path, s.cfg.Mode); err != nil { // umask may have taken wanted bits away
		ln.Close()
		return nil, nil, fmt.Errorf("uds: set mode of the socket: %w", err)
	}
	return ln, release, nil
}

// removeStale removes a socket that a dead process left. Anything else in its place is an error.
func removeStale(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("uds: look at %s: %w", path, err)
	}
	if fi.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("uds: %s exists and is not a socket", path)
	}
	nc, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		nc.Close()
		return fmt.Errorf("uds: another process listens on %s", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("uds: cannot tell whether %s is in use: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("uds: remove stale socket: %w", err)
	}
	return nil
}
