package bridge

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"twinspan/datamodel"
)

// Limits of the queues before the arbiter.
const (
	maxQueued      = 32        // changes of one writer that wait
	maxQueuedBytes = 256 << 10 // of names and values in them; one change may be larger
	maxInflight    = 32        // changes at the store at a time: they share its fsync
	quantum        = 64        // leaves a turn, times the weight of the class
	maxCost        = 1024      // what a large change counts for
	oldAge         = 2 * time.Second
	maxPatience    = 2 * time.Second // for a lease, a session, or the rate
)

// scheduler lets changes through to the store: deficit round robin over the writers, so that one who sends much waits for
// itself and not the others for it. What has waited for 2 s goes first.
type scheduler struct {
	mu       sync.Mutex
	inflight int
	most     int
	queues   map[string]*writerQueue
	ring     []*writerQueue // those that have something
	at       int            // whose turn it is
	fresh    bool           // it has not had its quantum yet
}

type writerQueue struct {
	name    string
	weight  int
	deficit int
	list    []*ticket
	bytes   int
}

type ticket struct {
	cost, bytes int
	since       time.Time
	ready       chan struct{}
	granted     bool
}

// weightOf a class in the order of the phase.
func weightOf(o *ClassOrder, class string) int {
	if o != nil && class == o.Primary() {
		return 4
	}
	if class == ClassApps {
		return 1
	}
	return 2
}

// enter waits for the turn of a change. since is when it was handed in: a change that is staged again keeps its age.
func (s *scheduler) enter(ctx context.Context, writer string, weight, cost, bytes int, since time.Time) (leave func(), err error) {
	s.mu.Lock()
	if s.inflight < s.most && len(s.ring) == 0 {
		s.inflight++
		s.mu.Unlock()
		return s.leave, nil
	}
	q := s.queues[writer]
	if q == nil {
		q = &writerQueue{name: writer}
		s.queues[writer] = q
	}
	q.weight = weight
	if len(q.list) >= maxQueued || len(q.list) > 0 && q.bytes+bytes > maxQueuedBytes {
		n := len(q.list)
		s.mu.Unlock()
		return nil, datamodel.Fail(datamodel.Resources, "", fmt.Sprintf("%d changes of yours are waiting; retry after 1 s", n))
	}
	t := &ticket{cost: min(max(cost, 1), maxCost), bytes: bytes, since: since, ready: make(chan struct{})}
	if len(q.list) == 0 {
		s.ring = append(s.ring, q)
	}
	q.list = append(q.list, t)
	q.bytes += bytes
	s.dispatch()
	s.mu.Unlock()
	select {
	case <-t.ready:
		return s.leave, nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.granted {
		s.inflight--
	} else if i := slices.Index(q.list, t); i >= 0 {
		s.take(q, i)
	}
	s.dispatch()
	return nil, ctx.Err()
}

func (s *scheduler) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inflight--
	s.dispatch()
}

// take removes a ticket from its queue, and the queue from the ring when it was the last.
func (s *scheduler) take(q *writerQueue, i int) *ticket {
	t := q.list[i]
	q.list = slices.Delete(q.list, i, i+1)
	q.bytes -= t.bytes
	if len(q.list) > 0 {
		return t
	}
	delete(s.queues, q.name)
	k := slices.Index(s.ring, q)
	s.ring = slices.Delete(s.ring, k, k+1)
	if k == s.at {
		s.fresh = true
	} else if k < s.at {
		s.at--
	}
	return t
}

// dispatch grants what there is room for.
func (s *scheduler) dispatch() {
	now := time.Now()
	for s.inflight < s.most && len(s.ring) > 0 {
		t := s.next(now)
		t.granted = true
		s.inflight++
		close(t.ready)
	}
}

// next picks the ticket whose turn it is; the ring is not empty.
func (s *scheduler) next(now time.Time) *ticket {
	var oldest *writerQueue
	for _, q := range s.ring {
		if now.Sub(q.list[0].since) > oldAge && (oldest == nil || q.list[0].since.Before(oldest.list[0].since)) {
			oldest = q
		}
	}
	if oldest != nil {
		return s.take(oldest, 0)
	}
	for {
		if s.at >= len(s.ring) {
			s.at, s.fresh = 0, true
		}
		q := s.ring[s.at]
		if s.fresh {
			q.deficit += quantum * q.weight
			s.fresh = false
		}
		if q.deficit >= q.list[0].cost {
			q.deficit -= q.list[0].cost
			return s.take(q, 0)
		}
		s.at, s.fresh = s.at+1, true
	}
}

// waiting is the number of changes of a writer that wait.
func (s *scheduler) waiting(writer string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.queues[writer]; q != nil {
		return len(q.list)
	}
	return 0
}

// Waiting is how many changes of a writer wait for their turn.
func (e *Engine) Waiting(writer string) int { return e.queue.waiting(writer) }

// rates bounds the commits of each Controller: a token bucket of burst commits that fills at a rate. Changes that commit
// nothing cost nothing.
type rates struct {
	mu     sync.Mutex
	rate   float64 // a second; 0 = no limit
	burst  float64
	bucket map[string]*bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

const maxBuckets = 256

// reserve takes a token, from the future if need be, and says how long to wait for it. ok is false if that is too long.
func (r *rates) reserve(writer string, now time.Time) (wait time.Duration, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rate <= 0 || !strings.HasPrefix(writer, "usp:") {
		return 0, true
	}
	b := r.bucket[writer]
	if b == nil {
		for name, o := range r.bucket {
			if len(r.bucket) < maxBuckets {
				break
			}
			delete(r.bucket, name)
			_ = o
		}
		b = &bucket{tokens: r.burst, at: now}
		if r.bucket == nil {
			r.bucket = map[string]*bucket{}
		}
		r.bucket[writer] = b
	}
	b.tokens = min(r.burst, b.tokens+r.rate*now.Sub(b.at).Seconds())
	b.at = now
	wait = time.Duration(max(0, 1-b.tokens) / r.rate * float64(time.Second))
	if wait > maxPatience {
		return wait, false
	}
	b.tokens--
	return wait, true
}

// refund gives a token back.
func (r *rates) refund(writer string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b := r.bucket[writer]; b != nil {
		b.tokens = min(r.burst, b.tokens+1)
	}
}

// SetRate bounds the commits of each Controller to rate a second after the first burst; 0 takes the bound away.
func (e *Engine) SetRate(rate, burst float64) {
	e.rates.mu.Lock()
	defer e.rates.mu.Unlock()
	e.rates.rate, e.rates.burst = rate, max(burst, 1)
}

// throttle waits for a token.
func (e *Engine) throttle(ctx context.Context, writer string) error {
	wait, ok := e.rates.reserve(writer, time.Now())
	if !ok {
		return datamodel.Fail(datamodel.Resources, "", fmt.Sprintf("too many commits; retry after %d s", seconds(wait)))
	}
	if wait == 0 {
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		e.rates.refund(writer)
		return ctx.Err()
	case <-e.done:
		return errClosed
	}
}
