package uds

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
	"unicode/utf8"

	"twinspan/usp"
	"twinspan/usp/mtp"
	"twinspan/usp/mtp/internal/outbox"
)

const (
	writeTimeout = 10 * time.Second
	closeGrace   = time.Second
	batchSize    = 64 << 10
)

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}

// link is one connection after its handshake.
type link struct {
	id        uint64
	nc        net.Conn
	br        *bufio.Reader
	peer      mtp.Identity
	q         *outbox.Queue
	maxRecord int
	fail      chan string // text of the Error TLV to send before closing, cap 1: the first wins
	failed    chan struct{}
	failOnce  sync.Once
}

func newLink(nc net.Conn, br *bufio.Reader, claimed string, maxRecord int) *link {
	return &link{id: mtp.NextLinkID(), nc: nc, br: br, peer: mtp.Identity{Claimed: claimed, Local: true},
		q: outbox.New(maxRecord), maxRecord: maxRecord, fail: make(chan string, 1), failed: make(chan struct{})}
}

func (l *link) send(ctx context.Context, record []byte) error {
	return l.q.Send(ctx, outbox.Item{Record: record})
}

// reject is Inbound.Reject: Error TLV and close. R-UDS.23
func (l *link) reject(reason string) {
	l.failOnce.Do(func() {
		l.fail <- clipText(reason)
		close(l.failed)
	})
}

// serve runs the link until it or ctx ends and returns why. The calling goroutine reads; one more writes, and has ended
// when serve returns.
func (l *link) serve(ctx context.Context, h mtp.Handler, onState func(mtp.State)) string {
	linkCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	onState(mtp.State{Up: true, LinkID: l.id, Peer: l.peer, Send: l.send})
	readerDone := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { l.write(ctx, cancel, readerDone) })
	unhook := context.AfterFunc(ctx, func() { l.nc.SetWriteDeadline(time.Now().Add(closeGrace)) })
	defer unhook()
	err := l.read(linkCtx, h)
	if errors.Is(err, errFrame) {
		l.reject(err.Error()) // R-UDS.24
	}
	close(readerDone)
	l.q.Close()
	wg.Wait()
	l.nc.Close()
	reason := err.Error()
	if errors.Is(err, io.EOF) {
		reason = "the peer closed the connection"
	}
	select {
	case <-l.failed:
		if !errors.Is(err, errFrame) {
			reason = "the peer's record was rejected"
		}
	default:
	}
	if ctx.Err() != nil {
		reason = "stopped"
	}
	onState(mtp.State{LinkID: l.id, Reason: reason})
	return reason
}

// read delivers records until the connection fails; it always returns why.
func (l *link) read(ctx context.Context, h mtp.Handler) error {
	in := mtp.Inbound{From: l.peer, Transport: "UDS", Reply: l.send, Reject: l.reject, LinkID: l.id}
	for {
		body, err := readFrame(l.br, l.maxRecord+frameSlack)
		if err != nil {
			return err
		}
		for len(body) > 0 {
			var typ byte
			var value []byte
			if typ, value, body, err = nextTLV(body); err != nil {
				return err
			}
			switch typ {
			case tlvError: // R-UDS.25
				return fmt.Errorf("peer reports: %q", clipText(string(value)))
			case tlvRecord: // R-UDS.22
				if len(value) == 0 || len(value) > l.maxRecord {
					return fmt.Errorf("%w: record of %d bytes", errFrame, len(value))
				}
				select {
				case <-l.failed: // nothing is delivered after a rejection
				default:
					in.Record = value
					h.HandleRecord(ctx, in)
				}
			}
			// A late handshake is ignored (R-UDS.19), and so is what we do not know (R-UDS.15).
		}
	}
}

// write is the one goroutine that writes. It ends when the reader has ended; ending the connection ends the reader.
func (l *link) write(ctx context.Context, broken func(), readerDone <-chan struct{}) {
	w := &writer{link: l, ctx: ctx, broken: broken}
	stop := ctx.Done()
	for {
		select {
		case <-l.q.Wake():
			w.records()
		case <-stop:
			stop = nil
			w.records()
			l.nc.Close()
		case text := <-l.fail:
			w.records()
			w.flush(appendFrame(nil, tlvError, []byte(text)))
			l.nc.Close()
		case <-readerDone:
			select {
			case text := <-l.fail:
				w.flush(appendFrame(nil, tlvError, []byte(text)))
			default:
			}
			return
		}
	}
}

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
	bp := buffers.Get().(*[]byte)
	buf := (*bp)[:0]
	for i, it := range w.items {
		buf = appendFrame(buf, tlvRecord, it.Record)
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

// awaitHandshake reads until the peer's handshake. Records before it are ignored (R-UDS.20). The caller has set a read
// deadline.
func awaitHandshake(br *bufio.Reader, maxRecord int) (claimed string, err error) {
	for {
		body, err := readFrame(br, maxRecord+frameSlack)
		if err != nil {
			return "", err
		}
		for len(body) > 0 {
			var typ byte
			var value []byte
			if typ, value, body, err = nextTLV(body); err != nil {
				return "", err
			}
			switch typ {
			case tlvError:
				return "", fmt.Errorf("peer reports: %q", clipText(string(value)))
			case tlvHandshake:
				if err := usp.CheckForeignID(string(value)); err != nil { // R-UDS.21
					return "", fmt.Errorf("%w: handshake: %w", errFrame, err)
				}
				return string(value), nil
			}
		}
	}
}

// writeNow writes one small frame during the handshake.
func writeNow(nc net.Conn, typ byte, value string) error {
	nc.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := nc.Write(appendFrame(nil, typ, []byte(value)))
	return err
}

func clipText(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
		for len(s) > 0 && !utf8.ValidString(s[max(0, len(s)-utf8.UTFMax):]) {
			s = s[:len(s)-1]
		}
	}
	return s
}
