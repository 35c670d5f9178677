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
	"sync"
	"syscall"
	"time"

	"twinspan/usp"
	"twinspan/usp/mtp"
)

// ServerConfig of a side that listens.
type ServerConfig struct {
	Path             string      // of the socket; its folder must exist
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
	cfg   ServerConfig
	log   *slog.Logger
	retry time.Duration // until a socket that could not be made, or was lost, is made again; also how often it is looked for

	mu   sync.Mutex
	byID map[string]*link // newest link of a claim
}

var _ mtp.Transport = (*Server)(nil)

// NewServer checks the configuration; Run listens.
func NewServer(cfg ServerConfig) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: cfg.Log, retry: 5 * time.Second, byID: map[string]*link{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s, nil
}

// Run implements mtp.Transport: it listens until ctx ends. When the socket cannot be made (another process listens, the
// folder is missing or lacks rights) it tries again every five seconds and reports each failure. A socket that somebody
// deleted is noticed within five seconds: its sessions end, and it is made again.
func (s *Server) Run(ctx context.Context, h mtp.Handler, onState func(mtp.State)) error {
	for ctx.Err() == nil {
		err := s.listenAndServe(ctx, h, onState)
		if ctx.Err() != nil {
			break
		}
		onState(mtp.State{Reason: err.Error()})
		select {
		case <-ctx.Done():
		case <-time.After(s.retry):
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
	outer := ctx
	ctx, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	unhook := context.AfterFunc(ctx, func() { ln.Close() })
	defer unhook()
	defer ln.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.guard(ctx, lose) })
	onState(mtp.State{Up: true})
	room := make(chan struct{}, s.cfg.MaxConnections)
	for {
		nc, err := ln.Accept() // R-UDS.3
		if err != nil {
			if outer.Err() != nil {
				return nil
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED) {
				s.log.Warn("usp uds accept failed", "error", err)
				time.Sleep(100 * time.Millisecond) // out of descriptors: let others give some back
				continue
			}
			lose(err)
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

// guard owns the socket's file. It calls lose when the file is gone or replaced, since nobody can reach the listener any more,
// and removes it at the end unless something else stands there by then.
func (s *Server) guard(ctx context.Context, lose context.CancelCauseFunc) {
	bound, err := os.Lstat(s.cfg.Path)
	t := time.NewTicker(s.retry)
	defer t.Stop()
	for done := false; err == nil; {
		select {
		case <-ctx.Done():
			done = true
		case <-t.C:
		}
		now, e := os.Lstat(s.cfg.Path)
		switch {
		case e != nil:
			err = e
		case !os.SameFile(bound, now):
			err = errors.New("another file took its place")
		case done:
			os.Remove(s.cfg.Path) // a file that stays is replaced by the next listener
			return
		}
	}
	s.log.Warn("usp uds socket was lost", "path", s.cfg.Path, "error", err)
	lose(fmt.Errorf("uds: socket was lost: %w", err))
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
func (s *Server) listen(ctx context.Context) (ln *net.UnixListener, unlock func(), err error) {
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
	l, err := lc.Listen(ctx, "unix", s.cfg.Path)
	if err != nil {
		return nil, nil, fmt.Errorf("uds: listen: %w", err)
	}
	ln = l.(*net.UnixListener)
	ln.SetUnlinkOnClose(false)                              // guard removes the file, if it is still this one
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
