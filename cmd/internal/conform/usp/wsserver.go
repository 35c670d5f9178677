package usp

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// wsSeen is one frame, or another event of a session.
type wsSeen struct {
	at   time.Time
	op   byte
	data []byte
	conn *wsConn
}

// wsServer is a WebSocket server with every frame in the hand of the test (RFC 6455), as no library gives it. It agrees to
// the subprotocol and sends no extensions.
type wsServer struct {
	ln  net.Listener
	lie func(op byte, data []byte) bool // Config.frames
	wg  sync.WaitGroup

	mu       sync.Mutex
	log      []wsSeen
	wake     chan struct{}
	conns    map[*wsConn]bool
	last     *wsConn
	refusing bool
}

// wsConn is one session.
type wsConn struct {
	nc net.Conn
	mu sync.Mutex
}

func newWSServer(cfg *Config) (*wsServer, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &wsServer{ln: ln, lie: cfg.frames, wake: make(chan struct{}), conns: map[*wsConn]bool{}}
	s.wg.Go(func() { // ends with the listener; joined by close
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			c := &wsConn{nc: nc}
			s.mu.Lock()
			s.conns[c] = true
			s.mu.Unlock()
			s.wg.Go(func() { // ends with the connection
				s.serve(c)
				_ = nc.Close()
				s.seen(c, opGone, nil)
				s.mu.Lock()
				delete(s.conns, c)
				if s.last == c {
					s.last = nil
				}
				s.mu.Unlock()
			})
		}
	})
	return s, nil
}

func (s *wsServer) port() int { return s.ln.Addr().(*net.TCPAddr).Port }

func (s *wsServer) close() {
	_ = s.ln.Close()
	s.mu.Lock()
	for c := range s.conns {
		_ = c.nc.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *wsServer) refuse(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusing = on
}

func (s *wsServer) newest() *wsConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

func (s *wsServer) seen(c *wsConn, op byte, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.log) < maxArrivals && (s.lie == nil || s.lie(op, data)) {
		s.log = append(s.log, wsSeen{at: time.Now(), op: op, data: data, conn: c})
	}
	if op == opOpen {
		s.last = c
	}
	close(s.wake)
	s.wake = make(chan struct{})
}

func (s *wsServer) mark() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.log)
}

// await waits for an event from a position on.
func (s *wsServer) await(t *T, from int, d time.Duration, what string, fits func(*wsSeen) bool) wsSeen {
	timeout := time.NewTimer(t.cfg.wait(d))
	defer timeout.Stop()
	for {
		s.mu.Lock()
		for ; from < len(s.log); from++ {
			if e := s.log[from]; fits(&e) {
				s.mu.Unlock()
				t.see("%s", what)
				return e
			}
		}
		wake := s.wake
		s.mu.Unlock()
		select {
		case <-wake:
		case <-timeout.C:
			t.fail("no %s of the agent within %s", what, d)
		case <-t.ctx.Done():
			t.fail("the run was stopped")
		}
	}
}

// session waits for the agent's session and its connect record.
func (s *wsServer) session(t *T) *wsConn {
	c := s.await(t, 0, 20*time.Second, "handshake", func(e *wsSeen) bool { return e.op == opOpen }).conn
	s.await(t, 0, 10*time.Second, "connect record", func(e *wsSeen) bool { return e.conn == c && e.op == opBinary })
	return c
}

// maxFrame bounds one frame of the agent.
const maxFrame = 64 << 20

func (s *wsServer) serve(c *wsConn) {
	r := bufio.NewReader(c.nc)
	req, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	s.mu.Lock()
	refusing := s.refusing
	s.mu.Unlock()
	if refusing {
		_, _ = io.WriteString(c.nc, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		s.seen(c, opRefused, nil)
		return
	}
	sum := sha1.Sum([]byte(req.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 4.2.2
	_, err = fmt.Fprintf(c.nc, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: v1.usp\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	if err != nil {
		return
	}
	s.seen(c, opOpen, []byte(req.URL.RequestURI()))
	var whole []byte
	for {
		fin, op, data, err := readFrame(r)
		if err != nil {
			return
		}
		switch {
		case op == opPing:
			_ = c.frame(true, opPong, data) // a session that is gone ends the reading, too
		case op >= opClose:
			s.seen(c, op, data)
			if op == opClose {
				return
			}
		default:
			if whole = append(whole, data...); len(whole) > maxFrame {
				return
			}
			if fin {
				s.seen(c, opBinary, whole)
				whole = nil
			}
		}
	}
}

func readFrame(r *bufio.Reader) (fin bool, op byte, data []byte, err error) {
	var h [14]byte
	if _, err = io.ReadFull(r, h[:2]); err != nil {
		return
	}
	n := uint64(h[1] & 0x7f)
	switch n {
	case 126:
		if _, err = io.ReadFull(r, h[2:4]); err != nil {
			return
		}
		n = uint64(binary.BigEndian.Uint16(h[2:4]))
	case 127:
		if _, err = io.ReadFull(r, h[2:10]); err != nil {
			return
		}
		n = binary.BigEndian.Uint64(h[2:10])
	}
	if n > maxFrame {
		return false, 0, nil, fmt.Errorf("frame of %d bytes", n)
	}
	var key [4]byte
	if h[1]&0x80 == 0 {
		return false, 0, nil, fmt.Errorf("a client's frame is not masked")
	}
	if _, err = io.ReadFull(r, key[:]); err != nil {
		return
	}
	data = make([]byte, n)
	if _, err = io.ReadFull(r, data); err != nil {
		return
	}
	for i := range data {
		data[i] ^= key[i&3]
	}
	return h[0]&0x80 != 0, h[0] & 0x0f, data, nil
}

// frame writes one frame, unmasked as a server does.
func (c *wsConn) frame(fin bool, op byte, data []byte) error {
	b := []byte{op, 0}
	if fin {
		b[0] |= 0x80
	}
	switch n := len(data); {
	case n < 126:
		b[1] = byte(n)
	case n < 1<<16:
		b[1] = 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] = 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.nc.Write(append(b, data...))
	return err
}

func (c *wsConn) write(t *T, fin bool, op byte, data []byte) {
	if err := c.frame(fin, op, data); err != nil {
		t.fail("the agent's session is gone: %v", err)
	}
}

// drop ends the TCP connection without a word.
func (c *wsConn) drop() { _ = c.nc.Close() }
