package mqtt

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	writeTimeout = 10 * time.Second
	// inboundBytes bounds what was read and not yet handled: beyond it nothing more is read (one packet always is).
	inboundBytes = 4 << 20
	publishType  = 3 // of a packet
)

var errPacket = errors.New("broker sent a packet over the size limit")

// guard stands between the library and the network. It refuses a packet by the length in its fixed header, since the
// library would allocate that length at once (up to 256 MB); it buffers reading, because the library reads headers byte
// by byte; it makes one write of every packet; it bounds the time of a write and the bytes that wait for the handler. The library holds Lock while it writes
// one packet.
type guard struct {
	net.Conn
	br    *bufio.Reader
	most  int
	phase phase
	typ   byte
	left  int // of the body
	shift uint

	inMu    sync.Mutex
	inRoom  *sync.Cond // on inMu
	inSizes []int      // of the PUBLISH packets that were read and not handled, oldest first
	inBytes int        // their sum
	closed  bool

	// broken is called when reading failed, before the library knows, and with nil when the library closed the connection:
	// it frees a handler that the library would wait for, and a SUBSCRIBE that waits for the library.
	broken func(error)

	mu       sync.Mutex
	out      []byte
	deadline time.Time
	err      error
}

type phase uint8

const (
	atType phase = iota
	atLength
	atBody
)

func newGuard(nc net.Conn, most int, broken func(error)) *guard {
	g := &guard{Conn: nc, br: bufio.NewReaderSize(nc, 4096), most: most, broken: broken}
	g.inRoom = sync.NewCond(&g.inMu)
	return g
}

// Read implements net.Conn. Only one goroutine reads at a time, as the library promises.
func (g *guard) Read(p []byte) (int, error) {
	n, err := g.read(p)
	if err != nil {
		g.broken(err)
	}
	return n, err
}

func (g *guard) read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	switch g.phase {
	case atType:
		b, err := g.br.ReadByte()
		if err != nil {
			return 0, err
		}
		p[0], g.phase, g.typ, g.left, g.shift = b, atLength, b>>4, 0, 0
		if g.typ == publishType && b>>1&3 > 1 {
			return 0, errors.New("broker sent QoS 2, which was not asked for")
		}
		return 1, nil
	case atLength:
		b, err := g.br.ReadByte()
		if err != nil {
			return 0, err
		}
		if g.shift > 21 {
			return 0, errors.New("broker sent a malformed length")
		}
		g.left |= int(b&0x7f) << g.shift
		g.shift += 7
		if g.left > g.most {
			return 0, fmt.Errorf("%w: %d bytes, at most %d", errPacket, g.left, g.most)
		}
		if b&0x80 == 0 {
			g.phase = atBody
			if g.left == 0 {
				g.phase = atType
			}
			if g.typ == publishType && !g.admit(g.left) {
				return 0, net.ErrClosed
			}
		}
		p[0] = b
		return 1, nil
	default:
		n, err := g.br.Read(p[:min(len(p), g.left)])
		if g.left -= n; g.left == 0 {
			g.phase = atType
		}
		return n, err
	}
}

// admit waits until a PUBLISH of n bytes may be read; false: the connection was closed.
func (g *guard) admit(n int) bool {
	g.inMu.Lock()
	defer g.inMu.Unlock()
	for !g.closed && len(g.inSizes) > 0 && g.inBytes+n > inboundBytes {
		g.inRoom.Wait()
	}
	g.inSizes = append(g.inSizes, n)
	g.inBytes += n
	return !g.closed
}

// handled tells that the oldest PUBLISH is done with.
func (g *guard) handled() {
	g.inMu.Lock()
	defer g.inMu.Unlock()
	if len(g.inSizes) > 0 {
		g.inBytes -= g.inSizes[0]
		g.inSizes = g.inSizes[1:]
	}
	g.inRoom.Signal()
}

// Close implements net.Conn.
func (g *guard) Close() error {
	g.inMu.Lock()
	g.closed = true
	g.inMu.Unlock()
	g.inRoom.Broadcast()
	g.broken(nil)
	return g.Conn.Close()
}

// Lock begins a packet.
func (g *guard) Lock() { g.mu.Lock() }

// Unlock ends a packet and writes it. A failure closes the connection, which the reader notices.
func (g *guard) Unlock() {
	defer g.mu.Unlock()
	if len(g.out) > 0 && g.err == nil {
		if now := time.Now(); g.deadline.Sub(now) < writeTimeout-time.Second {
			g.deadline = now.Add(writeTimeout)
			g.Conn.SetWriteDeadline(g.deadline)
		}
		if _, g.err = g.Conn.Write(g.out); g.err != nil {
			g.Close()
		}
	}
	if g.out = g.out[:0]; cap(g.out) > 64<<10 {
		g.out = nil
	}
}

// Write implements net.Conn; the caller holds Lock.
func (g *guard) Write(p []byte) (int, error) {
	if g.err != nil {
		return 0, g.err
	}
	g.out = append(g.out, p...)
	return len(p), nil
}

// hurry lets a write that is stuck fail soon.
func (g *guard) hurry() { g.Conn.SetWriteDeadline(time.Now().Add(time.Second)) }
