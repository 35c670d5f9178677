// Package outbox is the bounded queue between those who send records and the one goroutine that writes them to a link.
//
// Senders wait only as long as their context allows, the writer takes everything there is at once (so that many small
// records become one system call), and what waits is bounded in number and in bytes. After Close nothing goes in any
// more; what is inside can still be taken, so that a farewell gets out.
package outbox

import (
	"context"
	"fmt"
	"sync"

	"twinspan/usp/mtp"
)

// Item is one record on its way; Dest is empty for point-to-point links.
type Item struct {
	Dest   string
	Record []byte
	Reply  bool // an answer, not a notification (MQTT: other RETAIN setting)
}

// Queue is safe for concurrent use; one goroutine takes.
type Queue struct {
	maxItems, maxBytes, maxRecord int
	wake                          chan struct{}

	mu     sync.Mutex
	items  []Item
	bytes  int
	closed bool
	room   chan struct{} // closed when room appears; nil while nobody waits
}

// Limits of a queue by default: 256 records and 4 MiB, whichever comes first; one record always fits.
const (
	DefaultItems = 256
	DefaultBytes = 4 << 20
)

// New makes a queue for records of at most maxRecord bytes.
func New(maxRecord int) *Queue {
	return &Queue{maxItems: DefaultItems, maxBytes: DefaultBytes, maxRecord: maxRecord, wake: make(chan struct{}, 1)}
}

// Send puts one item in, waiting for room until ctx ends. Errors: mtp.ErrTooLarge, mtp.ErrNotConnected (closed),
// mtp.ErrBusy.
func (q *Queue) Send(ctx context.Context, it Item) error {
	if len(it.Record) > q.maxRecord {
		return fmt.Errorf("%w: %d bytes, at most %d", mtp.ErrTooLarge, len(it.Record), q.maxRecord)
	}
	if len(it.Record) == 0 {
		return fmt.Errorf("mtp: record is empty")
	}
	for {
		q.mu.Lock()
		if q.closed {
			q.mu.Unlock()
			return mtp.ErrNotConnected
		}
		if len(q.items) == 0 || len(q.items) < q.maxItems && q.bytes+len(it.Record) <= q.maxBytes {
			q.items = append(q.items, it)
			q.bytes += len(it.Record)
			q.mu.Unlock()
			select {
			case q.wake <- struct{}{}:
			default:
			}
			return nil
		}
		if q.room == nil {
			q.room = make(chan struct{})
		}
		room := q.room
		q.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", mtp.ErrBusy, ctx.Err())
		}
	}
}

// Wake receives when there may be something to take.
func (q *Queue) Wake() <-chan struct{} { return q.wake }

// Take appends everything queued to buf[:0] and empties the queue. buf may be what an earlier Take returned.
func (q *Queue) Take(buf []Item) []Item {
	q.mu.Lock()
	defer q.mu.Unlock()
	buf = append(buf[:0], q.items...)
	clear(q.items)
	if cap(q.items) > q.maxItems {
		q.items = nil
	}
	q.items, q.bytes = q.items[:0], 0
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
	return buf
}

// Close refuses further items and frees those who wait. Idempotent.
func (q *Queue) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
}
