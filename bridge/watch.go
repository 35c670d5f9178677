package bridge

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"twinspan/datamodel"
	"twinspan/store"
)

// EventKind of Watch.
type EventKind uint8

const (
	EventCommit   EventKind = iota // Entry is set
	EventModel                     // a data-model event: Path "Device.", Name "Boot!"
	EventOperated                  // an asynchronous command ended
	EventLive                      // a live value changed that somebody asked to watch: Path, Value
	// EventResync: something between the last event and this one is lost (the journal no longer reaches back to the
	// cursor, or too many events came while nobody read). The consumer compares with the tree at Rev instead.
	EventResync
)

// Event is something a head may have to tell its managers. Paths are canonical.
type Event struct {
	Kind  EventKind
	Entry *store.Entry
	Path  string
	Name  string
	Value string
	Args  map[string]string
	// ArgsFor computes arguments that differ by recipient (Boot! ParameterMap); nil for most.
	ArgsFor func(recipient string) map[string]string
	Only    string // the one recipient Endpoint ID, "" = everybody subscribed
	Cause   string // writer that caused it, "" for the device itself
	Key     string // command key
	Err     error  // EventOperated: the command failed
	// Input of an operated command without credentials, and when it began.
	Input map[string]string
	Start time.Time
	// Record is for the head that told the event: what it keeps of it until it was heard. "" for most.
	Record string
	Time   time.Time
	Rev    uint64 // revision of the newest commit when it happened; of the commit itself for EventCommit
}

const (
	maxEvents    = 1024 // in-memory events kept for slow consumers
	maxConsumers = 64
	watchChunk   = 64 // journal entries read at a time
)

// events is the ring of what is not in the journal.
type events struct {
	mu    sync.Mutex
	ring  []Event
	first uint64 // sequence number of ring[0]
	wake  chan struct{}
}

// Emit adds an event to the common order, after all that is committed by now. It never blocks: slow consumers lose the
// oldest events and are told by EventResync.
func (e *Engine) Emit(ev Event) {
	if ev.Time.IsZero() {
		ev.Time = time.Now()
	}
	q := &e.events
	q.mu.Lock()
	defer q.mu.Unlock()
	ev.Rev = e.store.Head().Rev()
	if len(q.ring) >= maxEvents {
		q.ring = append(q.ring[:0:0], q.ring[maxEvents/4:]...)
		q.first += maxEvents / 4
	}
	q.ring = append(q.ring, ev)
	close(q.wake)
	q.wake = make(chan struct{})
}

// at returns the event with a sequence number. lost says that it is no longer there.
func (q *events) at(seq uint64) (ev *Event, lost bool, wake <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if seq < q.first {
		return nil, true, q.wake
	}
	if i := seq - q.first; i < uint64(len(q.ring)) {
		c := q.ring[i]
		return &c, false, q.wake
	}
	return nil, false, q.wake
}

func (q *events) end() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.first + uint64(len(q.ring))
}

func (q *events) start() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.first
}

// Watcher reads events in order. One goroutine uses it; Close may come from another.
type Watcher struct {
	e        *Engine
	consumer string
	rev      uint64 // newest commit delivered
	seq      uint64 // next in-memory event
	buf      []*store.Entry
	acked    uint64
	once     sync.Once
	done     chan struct{}
}

// Watch opens the event stream for a consumer at its durable position. A name that was never used before, and the
// empty name, whose position is not kept, begin with the newest commit. A name can be open once.
func (e *Engine) Watch(consumer string) (*Watcher, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errClosed
	}
	if consumer != "" {
		if e.consumers[consumer] {
			return nil, datamodel.Fail(datamodel.Resources, "", "consumer "+consumer+" is open already")
		}
		if len(e.consumers) >= maxConsumers {
			return nil, datamodel.Fail(datamodel.Resources, "", "at most "+strconv.Itoa(maxConsumers)+" consumers")
		}
	}
	w := &Watcher{e: e, consumer: consumer, seq: e.events.end(), done: make(chan struct{})}
	w.rev = e.store.Head().Rev()
	if consumer != "" {
		if rev, ok := e.store.Cursor(consumer); ok {
			w.rev = min(rev, w.rev)
		} else if err := e.store.SetCursor(consumer, w.rev); err != nil {
			return nil, err
		}
		e.consumers[consumer] = true
	}
	w.acked = w.rev
	return w, nil
}

var errClosed = datamodel.Fail(datamodel.Internal, "", "the bridge is closed")

// Next returns the next event after the durable position, waiting for it. It ends with ctx, Close of the watcher or of
// the engine.
func (w *Watcher) Next(ctx context.Context) (Event, error) {
	for {
		changed := w.e.store.Changed()
		ev, lost, wake := w.e.events.at(w.seq)
		if lost {
			w.seq = w.e.events.start()
			return Event{Kind: EventResync, Time: time.Now(), Rev: w.rev}, nil
		}
		if ev != nil && ev.Rev <= w.rev {
			w.seq++
			return *ev, nil
		}
		if len(w.buf) == 0 {
			if gone, err := w.read(); err != nil {
				return Event{}, err
			} else if gone {
				w.rev = w.e.store.Head().Rev()
				return Event{Kind: EventResync, Time: time.Now(), Rev: w.rev}, nil
			}
		}
		if len(w.buf) > 0 {
			en := w.buf[0]
			w.buf = w.buf[1:]
			w.rev = en.Rev
			return Event{Kind: EventCommit, Entry: en, Cause: en.Meta.Writer, Time: en.Time, Rev: en.Rev}, nil
		}
		select {
		case <-ctx.Done():
			return Event{}, ctx.Err()
		case <-w.done:
			return Event{}, errClosed
		case <-w.e.done:
			return Event{}, errClosed
		case <-changed:
		case <-wake:
		}
	}
}

func (w *Watcher) read() (gone bool, err error) {
	err = w.e.store.Journal(w.rev, func(en *store.Entry) bool {
		w.buf = append(w.buf, en)
		return len(w.buf) < watchChunk
	})
	if errors.Is(err, store.ErrCursorGone) {
		w.buf = nil
		return true, nil
	}
	return false, err
}

// Ack makes everything up to ev delivered: it is not seen again after a restart. Lazy: a power cut within about a
// second may bring it back.
func (w *Watcher) Ack(ev Event) {
	if w.consumer == "" || ev.Rev <= w.acked {
		return
	}
	if err := w.e.store.SetCursor(w.consumer, ev.Rev); err != nil {
		if !errors.Is(err, store.ErrClosed) {
			w.e.log.Error("consumer position could not be kept", "consumer", w.consumer, "error", err)
		}
		return
	}
	w.acked = ev.Rev
}

// Close ends the watcher; a waiting Next returns. The durable position stays. Idempotent.
func (w *Watcher) Close() {
	w.once.Do(func() {
		close(w.done)
		if w.consumer != "" {
			w.e.mu.Lock()
			delete(w.e.consumers, w.consumer)
			w.e.mu.Unlock()
		}
	})
}

// Journal returns the journal entries after a revision, oldest first, at most limit of them (0: 100): who changed what,
// when, by which verdict and rule. Values of secrets are salted hashes. Entries are shared and must not be changed.
// When the journal no longer reaches back it begins with the oldest entry there is.
func (e *Engine) Journal(after uint64, limit int) ([]*store.Entry, error) {
	if limit <= 0 {
		limit = 100
	}
	var out []*store.Entry
	read := func(after uint64) error {
		return e.store.Journal(after, func(en *store.Entry) bool {
			out = append(out, en)
			return len(out) < limit
		})
	}
	err := read(after)
	if errors.Is(err, store.ErrCursorGone) {
		out = out[:0]
		err = read(e.store.JournalStart() - 1)
	}
	return out, err
}
