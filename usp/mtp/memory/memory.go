// Package memory is an MTP without a network: two transports joined in the process, for tests of what stands above MTPs
// and as the reference of the suite in mtptest.
//
//	a, b := memory.New(memory.Default())
//
// The link is up while both Run. Break cuts it once, as a lost connection would; it comes back by itself. Records pass in
// order; one that is too large is refused by Send; those in flight when the link ends are lost.
package memory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"twinspan/usp/mtp"
	"twinspan/usp/mtp/internal/outbox"
)

// Config of a pair.
type Config struct {
	MaxRecord int           // bytes
	Retry     time.Duration // wait before the link comes back after Break
	// Identities of the two ends as the other sees them.
	A, B mtp.Identity
	// Transport is the name in Inbound.Transport.
	Transport string
}

// Default is 1 MiB and 10 ms.
func Default() Config {
	return Config{MaxRecord: 1 << 20, Retry: 10 * time.Millisecond, Transport: "Memory",
		A: mtp.Identity{Local: true}, B: mtp.Identity{Local: true}}
}

// hub joins the two ends.
type hub struct {
	cfg  Config
	mu   sync.Mutex
	ends [2]*End
	want [2]*run // non-nil while Run is active
	link *link
}

type run struct {
	links chan *link // one at a time
}

type link struct {
	id     uint64
	q      [2]*outbox.Queue // q[i] holds what goes to end i
	done   chan struct{}
	once   sync.Once
	reason string
}

func (l *link) end(reason string) {
	l.once.Do(func() {
		l.reason = reason
		close(l.done)
		l.q[0].Close()
		l.q[1].Close()
	})
}

// End is one of the two transports.
type End struct {
	h *hub
	i int
}

var _ mtp.Transport = (*End)(nil)

// New makes a pair.
func New(cfg Config) (a, b *End) {
	h := &hub{cfg: cfg}
	h.ends = [2]*End{{h, 0}, {h, 1}}
	return h.ends[0], h.ends[1]
}

// Break ends the link as a network failure would.
func (e *End) Break() {
	e.h.mu.Lock()
	l := e.h.link
	e.h.mu.Unlock()
	if l != nil {
		l.end("broken by test")
	}
}

// Run implements mtp.Transport. It must not be called a second time before it returned.
func (e *End) Run(ctx context.Context, h mtp.Handler, onState func(mtp.State)) error {
	r := &run{links: make(chan *link, 1)}
	e.h.mu.Lock()
	if e.h.want[e.i] != nil {
		e.h.mu.Unlock()
		return errors.New("memory: Run is active already")
	}
	e.h.want[e.i] = r
	e.h.joinLocked()
	e.h.mu.Unlock()
	defer func() {
		e.h.mu.Lock()
		e.h.want[e.i] = nil
		l := e.h.link
		e.h.mu.Unlock()
		if l != nil {
			l.end("the other end stopped")
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case l := <-r.links:
			e.serve(ctx, l, h, onState)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(e.h.cfg.Retry):
			}
			e.h.mu.Lock()
			if e.h.link == l {
				e.h.link = nil
			}
			e.h.joinLocked()
			e.h.mu.Unlock()
		}
	}
}

// joinLocked makes a link when both ends wait for one.
func (h *hub) joinLocked() {
	if h.want[0] == nil || h.want[1] == nil || h.link != nil && !h.link.ended() {
		return
	}
	if len(h.want[0].links) > 0 || len(h.want[1].links) > 0 {
		return
	}
	h.link = &link{id: mtp.NextLinkID(), done: make(chan struct{}),
		q: [2]*outbox.Queue{outbox.New(h.cfg.MaxRecord), outbox.New(h.cfg.MaxRecord)}}
	h.want[0].links <- h.link
	h.want[1].links <- h.link
}

func (l *link) ended() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// Send implements mtp.Transport; dest is ignored.
func (e *End) Send(ctx context.Context, _ string, record []byte) error {
	e.h.mu.Lock()
	l := e.h.link
	e.h.mu.Unlock()
	if l == nil || l.ended() {
		if len(record) > e.h.cfg.MaxRecord {
			return fmt.Errorf("%w: %d bytes", mtp.ErrTooLarge, len(record))
		}
		return mtp.ErrNotConnected
	}
	return l.q[1-e.i].Send(ctx, outbox.Item{Record: record})
}

// serve delivers until the link or ctx ends.
func (e *End) serve(ctx context.Context, l *link, h mtp.Handler, onState func(mtp.State)) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	send := func(ctx context.Context, rec []byte) error {
		return l.q[1-e.i].Send(ctx, outbox.Item{Record: rec})
	}
	peer := e.h.cfg.B
	if e.i == 1 {
		peer = e.h.cfg.A
	}
	onState(mtp.State{Up: true, LinkID: l.id, Peer: peer, Send: send})
	defer func() {
		l.end("stopped")
		onState(mtp.State{LinkID: l.id, Reason: l.reason})
	}()
	in := mtp.Inbound{From: peer, Transport: e.h.cfg.Transport, LinkID: l.id, Reply: send,
		Reject: func(reason string) { l.end("rejected: " + reason) }}
	q := l.q[e.i]
	var items []outbox.Item
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.done:
			return
		case <-q.Wake():
			items = q.Take(items)
			for _, it := range items {
				if l.ended() || ctx.Err() != nil {
					return
				}
				in.Record = it.Record
				h.HandleRecord(ctx, in)
			}
		}
	}
}
