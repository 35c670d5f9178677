package websocket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"twinspan/usp/mtp"
	"twinspan/usp/mtp/internal/outbox"
)

const (
	subprotocol  = "v1.usp" // R-WS.9
	writeTimeout = 10 * time.Second
	closeGrace   = time.Second // how long we wait for the peer's half of the closing handshake
	batchSize    = 64 << 10    // bytes that one write gathers, and the largest buffer that is kept
	readBuffer   = 4096
)

// buffers holds write buffers: idle connections keep none.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}

// link is one open WebSocket.
type link struct {
	id        uint64
	ws        *websocket.Conn
	nc        net.Conn
	client    bool
	peer      mtp.Identity
	q         *outbox.Queue
	maxRecord int
	ping      time.Duration // 0: no pings and no read deadline

	pongs   chan []byte // answers to pings, cap 1: only the newest matters
	used    atomic.Bool // it was sent a record
	closing atomic.Bool // no record is delivered any more
	closeC  chan []byte // payload of the close frame to send, cap 1: the first wins

	nextExtend time.Time // reader only: when the read deadline is moved again
	scratch    []byte    // reader only
}

func newLink(ws *websocket.Conn, client bool, peer mtp.Identity, maxRecord int, ping time.Duration) *link {
	return &link{
		id: mtp.NextLinkID(), ws: ws, nc: ws.NetConn(), client: client, peer: peer, q: outbox.New(maxRecord),
		maxRecord: maxRecord, ping: ping, pongs: make(chan []byte, 1), closeC: make(chan []byte, 1),
	}
}

func (l *link) send(ctx context.Context, record []byte) error {
	l.used.Store(true)
	return l.q.Send(ctx, outbox.Item{Record: record})
}

// shut begins the closing handshake. Non-blocking, any goroutine.
func (l *link) shut(code int, reason string) {
	l.closing.Store(true)
	select {
	case l.closeC <- closePayload(code, reason):
	default:
	}
}

// reject is Inbound.Reject. R-WS.16
func (l *link) reject(reason string) { l.shut(websocket.CloseUnsupportedData, reason) }

// serve runs the link until it ends or ctx ends, and returns why. The calling goroutine reads; one more writes, and has
// ended when serve returns.
func (l *link) serve(ctx context.Context, h mtp.Handler, onState func(mtp.State)) (reason string) {
	linkCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.prepare()
	onState(mtp.State{Up: true, LinkID: l.id, Peer: l.peer, Send: l.send,
		Close: func(reason string) { l.shut(websocket.ClosePolicyViolation, reason) }})
	readerDone := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { l.write(ctx, cancel, readerDone) })
	// A peer that does not read may hold the writer in a write; when we stop, it is not waited for as long as usual.
	unhook := context.AfterFunc(ctx, func() { l.nc.SetWriteDeadline(time.Now().Add(closeGrace)) })
	defer unhook()
	err := l.read(linkCtx, h)
	close(readerDone)
	l.q.Close()
	wg.Wait()
	l.nc.Close()
	reason = why(err)
	if ctx.Err() != nil {
		reason = "stopped"
	}
	onState(mtp.State{LinkID: l.id, Reason: reason})
	return reason
}

// prepare sets the library's limits and takes all writing away from it. (It still answers protocol violations with a
// close frame by itself; that is one write of its own on a dying connection.)
func (l *link) prepare() {
	l.ws.SetReadLimit(int64(l.maxRecord))
	l.extend()
	l.ws.SetPingHandler(func(data string) error { // R-WS.13, R-WS.17
		l.extend()
		select {
		case l.pongs <- []byte(data):
		default:
		}
		return nil
	})
	l.ws.SetPongHandler(func(string) error { l.extend(); return nil }) // unsolicited ones too: TP-469 7.7
	l.ws.SetCloseHandler(func(code int, _ string) error {              // R-WS.8, TP-469 7.4
		if code == websocket.CloseNoStatusReceived {
			code = 0
		}
		l.shut(code, "")
		return nil
	})
}

// extend moves the read deadline, at most four times in a ping interval since each move costs a timer.
func (l *link) extend() {
	if l.ping == 0 {
		return
	}
	now := time.Now()
	if now.Before(l.nextExtend) || l.closing.Load() {
		return
	}
	l.nextExtend = now.Add(l.ping / 4)
	l.nc.SetReadDeadline(now.Add(2*l.ping + l.ping/4))
	if l.closing.Load() { // the writer may have set the short deadline just before
		l.nc.SetReadDeadline(now.Add(closeGrace))
	}
}

func (l *link) read(ctx context.Context, h mtp.Handler) error {
	in := mtp.Inbound{From: l.peer, Transport: "WebSocket", Reply: l.send, Reject: l.reject, LinkID: l.id}
	for {
		typ, r, err := l.ws.NextReader() // reassembles fragments: R-WS.14b
		if err != nil {
			return err
		}
		if typ != websocket.BinaryMessage { // R-WS.14
			l.reject("USP records are binary messages")
			if _, err := io.Copy(io.Discard, r); err != nil {
				return err
			}
			continue
		}
		in.Record, err = l.readRecord(r)
		if err != nil {
			return err
		}
		l.extend()
		if l.closing.Load() {
			continue // wait for the peer's close frame
		}
		if len(in.Record) == 0 {
			l.reject("empty record")
			continue
		}
		h.HandleRecord(ctx, in)
	}
}

// readRecord reads one message into memory of its own. Small ones pass through a kept buffer, so that each costs one
// allocation of its exact size.
func (l *link) readRecord(r io.Reader) ([]byte, error) {
	if l.scratch == nil {
		l.scratch = make([]byte, readBuffer)
	}
	buf, n := l.scratch, 0
	for {
		if n == len(buf) {
			bigger := make([]byte, min(2*len(buf), l.maxRecord+1))
			copy(bigger, buf)
			buf = bigger
		}
		m, err := r.Read(buf[n:])
		n += m
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	if len(buf) > len(l.scratch) {
		return buf[:n:n], nil
	}
	return bytes.Clone(buf[:n]), nil
}

// write is the one goroutine that writes. It ends when the reader has ended. broken frees a handler that waits for room
// in the queue when a write has failed.
func (l *link) write(ctx context.Context, broken func(), readerDone <-chan struct{}) {
	var tick <-chan time.Time
	if l.ping > 0 {
		t := time.NewTicker(l.ping) // R-WS.17
		defer t.Stop()
		tick = t.C
	}
	w := &writer{link: l, ctx: ctx, broken: broken}
	stop, closeC := ctx.Done(), l.closeC
	for {
		select {
		case <-l.q.Wake():
			w.records()
		case data := <-l.pongs:
			w.control(opPong, data)
		case <-tick:
			w.control(opPing, nil)
		case <-stop:
			stop = nil
			l.shut(websocket.CloseGoingAway, "")
		case payload := <-closeC:
			closeC = nil
			w.records() // what was sent before the end goes out before the end
			w.control(opClose, payload)
			w.err = net.ErrClosed                            // nothing after a close frame
			l.nc.SetReadDeadline(time.Now().Add(closeGrace)) // R-WS.8: wait for the other half, but not for ever
		case <-readerDone:
			select {
			case payload := <-closeC: // the peer closed: answer
				w.control(opClose, payload)
			default:
			}
			return
		}
	}
}

// writer is the state of the writing goroutine.
type writer struct {
	*link
	ctx      context.Context // of the goroutine that owns this struct
	broken   func()
	items    []outbox.Item
	deadline time.Time
	err      error // sticky
}

func (w *writer) records() {
	w.items = w.q.Take(w.items)
	if w.err != nil {
		clear(w.items)
		return
	}
	bp := buffers.Get().(*[]byte)
	buf := (*bp)[:0]
	for i, it := range w.items {
		buf = appendFrame(buf, opBinary, it.Record, w.client)
		w.items[i] = outbox.Item{}
		if len(buf) >= batchSize {
			w.flush(buf)
			buf = buf[:0]
		}
	}
	if len(buf) > 0 {
		w.flush(buf)
	}
	if cap(buf) <= 2*batchSize {
		*bp = buf
		buffers.Put(bp)
	}
}

func (w *writer) control(op byte, payload []byte) {
	if len(payload) <= 125 {
		w.flush(appendFrame(make([]byte, 0, len(payload)+8), op, payload, w.client))
	}
}

// flush writes. A failed write closes the connection, which ends the reader. The deadline moves only when a second of it is
// used up.
func (w *writer) flush(b []byte) {
	if w.err != nil {
		return
	}
	if now := time.Now(); w.ctx.Err() != nil {
		w.nc.SetWriteDeadline(now.Add(closeGrace))
	} else if w.deadline.Sub(now) < writeTimeout-time.Second {
		w.deadline = now.Add(writeTimeout)
		w.nc.SetWriteDeadline(w.deadline)
	}
	if _, err := w.nc.Write(b); err != nil {
		w.err = err
		w.q.Close()
		w.broken()
		w.nc.Close()
	}
}

// why turns a read error into a sentence.
func why(err error) string {
	var ce *websocket.CloseError
	var ne net.Error
	switch {
	case errors.As(err, &ce):
		if ce.Text != "" {
			return fmt.Sprintf("peer closed with status %d: %.123q", ce.Code, ce.Text)
		}
		return fmt.Sprintf("peer closed with status %d", ce.Code)
	case errors.Is(err, websocket.ErrReadLimit):
		return "peer sent a record over the size limit"
	case errors.As(err, &ne) && ne.Timeout():
		return "peer is silent"
	case err == nil:
		return "closed"
	}
	return "connection lost: " + err.Error()
}
