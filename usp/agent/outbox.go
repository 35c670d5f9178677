package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"twinspan/usp"
	"twinspan/usp/mtp"
)

// note is one Notify request on its way to one recipient.
type note struct {
	sub     uint32 // Subscription row, 0 for OnBoardRequest
	path    string // of a ValueChange, for coalescing
	msgID   string
	payload []byte // the encoded message; a retry sends the same bytes // R-NOT.1
	retry   bool   // send_resp: wait for the answer
	expire  time.Duration
	onboard bool

	first time.Time // first transmission
	last  time.Time // newest transmission
	tries int
	next  time.Time
}

// route is one way to a Controller.
type route struct {
	up   func() bool
	send func(ctx context.Context, record []byte) error
}

// outbox sends the notifications of one recipient, in order, one at a time. Its goroutine is the only one that waits for
// the recipient's links, so that an unreachable Controller delays nobody else.
type outbox struct {
	a        *Agent
	endpoint string
	direct   func(ctx context.Context, record []byte) error // local peers: the one link there is

	mu      sync.Mutex
	queue   []*note
	waiting []*note // sent, not answered; in order of transmission
	bytes   int
	routes  []route          // configured, in order of preference
	learned map[uint64]route // links that the Controller opened
	backoff usp.Backoff
	dropped uint64
	hand    *note // being sent
	settled bool  // hand was answered or dropped meanwhile
	pause   time.Time
	closed  bool
	linger  time.Time

	wake chan struct{}
}

func newOutbox(a *Agent, endpoint string) *outbox {
	return &outbox{a: a, endpoint: endpoint, learned: map[uint64]route{}, backoff: usp.DefaultBackoff(), wake: make(chan struct{}, 1)}
}

// linkUp makes the outbox try at once.
func (o *outbox) linkUp() {
	o.mu.Lock()
	o.pause = time.Time{}
	o.mu.Unlock()
	o.poke()
}

func (o *outbox) poke() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// put queues a notification. When the bounds are reached the oldest go; an unsent ValueChange of the same parameter for
// the same Subscription is replaced as soon as half the room is taken, since only the newest value matters to somebody
// who is that far behind.
func (o *outbox) put(n *note) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	lim := &o.a.opt.Limits
	if n.path != "" && (len(o.queue) > lim.Notifications/2 || o.bytes > lim.NotifyBytes/2) {
		for i, q := range o.queue {
			if q.sub == n.sub && q.path == n.path {
				o.cut(&o.queue, i)
				break
			}
		}
	}
	for len(o.queue)+len(o.waiting) >= lim.Notifications || o.bytes+len(n.payload) > lim.NotifyBytes {
		if !o.dropOldest() {
			o.dropped++
			o.a.counts.dropped.Add(1)
			return
		}
	}
	o.queue = append(o.queue, n)
	o.bytes += len(n.payload)
	o.poke()
}

// dropOldest makes room: answered late before sent late, never an OnBoardRequest.
func (o *outbox) dropOldest() bool {
	for _, list := range []*[]*note{&o.waiting, &o.queue} {
		for i, q := range *list {
			if !q.onboard {
				o.cut(list, i)
				o.dropped++
				o.a.counts.dropped.Add(1)
				o.a.slow.Warn("usp_notification_dropped", "to", o.endpoint, "dropped", o.dropped)
				return true
			}
		}
	}
	return false
}

// cut removes one note of a list.
func (o *outbox) cut(list *[]*note, i int) {
	o.bytes -= len((*list)[i].payload)
	*list = append((*list)[:i], (*list)[i+1:]...)
}

func (o *outbox) remove(match func(*note) bool) (removed []*note) {
	for _, list := range []*[]*note{&o.queue, &o.waiting} {
		keep := (*list)[:0]
		for _, n := range *list {
			if match(n) {
				o.bytes -= len(n.payload)
				removed = append(removed, n)
			} else {
				keep = append(keep, n)
			}
		}
		clear((*list)[len(keep):])
		*list = keep
	}
	return removed
}

// answered ends the wait for one NotifyResp or Error. // R-NOT.3
func (o *outbox) answered(msgID string) {
	o.mu.Lock()
	removed := o.remove(func(n *note) bool { return n.msgID == msgID && n.tries > 0 })
	if h := o.hand; h != nil && h.msgID == msgID && !o.settled { // the answer can overtake the end of Send
		o.settled = true
		removed = append(removed, h)
	}
	o.mu.Unlock()
	for _, n := range removed {
		o.notified(n, true)
		if n.onboard {
			eid := o.endpoint
			o.a.do(func(n *notifier) { n.onboardAnswered(eid) })
		}
	}
	if len(removed) > 0 {
		o.poke()
	}
}

// forgetSub drops everything of a Subscription that is gone. // TP-469 1.53
func (o *outbox) forgetSub(sub uint32) {
	o.mu.Lock()
	gone := func(n *note) bool { return n.sub == sub && !n.onboard }
	o.remove(gone)
	o.settled = o.settled || o.hand != nil && gone(o.hand)
	o.mu.Unlock()
}

func (o *outbox) forgetOnboard() {
	o.mu.Lock()
	o.remove(func(n *note) bool { return n.onboard })
	o.settled = o.settled || o.hand != nil && o.hand.onboard
	o.mu.Unlock()
}

// learn and forget keep the links that a Controller opened itself.
func (o *outbox) learn(id uint64, send func(ctx context.Context, record []byte) error) {
	o.mu.Lock()
	o.learned[id] = route{up: func() bool { return true }, send: send}
	o.pause = time.Time{}
	o.mu.Unlock()
	o.poke()
}

func (o *outbox) forget(id uint64) {
	o.mu.Lock()
	delete(o.learned, id)
	o.mu.Unlock()
}

func (o *outbox) configure(routes []route, b usp.Backoff) {
	if b.Validate() != nil {
		b = usp.DefaultBackoff()
	}
	o.mu.Lock()
	if b != o.backoff { // also of what was sent while the change was on its way here
		for _, n := range o.waiting {
			n.next = n.last.Add(b.Wait(n.tries))
		}
	}
	o.routes, o.backoff, o.pause = routes, b, time.Time{}
	o.mu.Unlock()
	o.poke()
}

// close ends the outbox when its unsent notes have left, after linger at the latest.
func (o *outbox) close(linger time.Duration) {
	o.mu.Lock()
	o.closed, o.linger = true, time.Now().Add(linger)
	o.mu.Unlock()
	o.poke()
}

// idle reports whether nothing unsent is left that could be sent now.
func (o *outbox) idle() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queue) == 0 && o.hand == nil
}

// run sends until the outbox is closed or ctx ends.
func (o *outbox) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		n, wait, done := o.pick()
		if done {
			return
		}
		if n != nil {
			o.transmit(ctx, n)
			if ctx.Err() == nil {
				continue
			}
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-o.wake:
		case <-timer.C:
		}
	}
}

// pick finds what to send now, or how long there is nothing to do. Notes whose NotifExpiration is over are dropped.
// R-NOT.2
func (o *outbox) pick() (n *note, wait time.Duration, done bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	for _, n := range o.remove(func(n *note) bool { return n.tries > 0 && n.expire > 0 && now.Sub(n.first) >= n.expire }) { // TP-469 1.56
		o.notified(n, false)
	}
	if o.closed && (len(o.queue) == 0 || !now.Before(o.linger)) {
		return nil, 0, true
	}
	wait = time.Hour
	if o.closed {
		wait = o.linger.Sub(now)
	}
	reachable := o.reachable()
	if reachable && now.Before(o.pause) {
		reachable, wait = false, min(wait, o.pause.Sub(now))
	}
	if reachable && len(o.queue) > 0 {
		n = o.queue[0]
		o.queue = o.queue[1:]
		o.bytes -= len(n.payload)
		o.hand, o.settled = n, false
		return n, 0, false
	}
	for i, w := range o.waiting {
		due := w.next.Sub(now)
		if due <= 0 && reachable {
			o.cut(&o.waiting, i)
			o.hand, o.settled = w, false
			return w, 0, false
		}
		if due > 0 && reachable {
			wait = min(wait, due)
		}
		if w.expire > 0 {
			wait = min(wait, max(w.first.Add(w.expire).Sub(now), 0)+time.Millisecond)
		}
	}
	return nil, wait, false
}

func (o *outbox) reachable() bool {
	if o.direct != nil || len(o.learned) > 0 {
		return true
	}
	for _, r := range o.routes {
		if r.up() {
			return true
		}
	}
	return false
}

// transmit sends one note over the first way that takes it. A note that wants an answer is sent again later, all others
// are done with the first transport that accepts them.
func (o *outbox) transmit(ctx context.Context, n *note) {
	rec := usp.WrapPayload(o.a.opt.EndpointID, o.endpoint, n.payload)
	o.mu.Lock()
	ways := make([]route, 0, len(o.routes)+len(o.learned)+1)
	if o.direct != nil {
		ways = append(ways, route{up: func() bool { return true }, send: o.direct})
	}
	ways = append(ways, o.routes...)
	for _, r := range o.learned {
		ways = append(ways, r)
	}
	o.mu.Unlock()
	sent := false
	tooLarge := false
	for _, w := range ways {
		if !w.up() {
			continue
		}
		c, cancel := context.WithTimeout(ctx, sendTime)
		err := w.send(c, rec)
		cancel()
		if err == nil {
			sent = true
			break
		}
		tooLarge = tooLarge || errors.Is(err, mtp.ErrTooLarge)
		o.a.slow.Info("usp_send_failed", "to", o.endpoint, "error", err.Error())
	}
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	settled := o.settled
	o.hand, o.settled = nil, false
	switch {
	case settled:
		return
	case !sent && tooLarge:
		o.a.counts.dropped.Add(1)
		return
	case !sent && n.tries == 0:
		// Not transmitted yet: it stays first in the queue and waits for a link, or a second.
		o.queue = append([]*note{n}, o.queue...)
		o.bytes += len(n.payload)
		o.pause = now.Add(time.Second)
		return
	case sent:
		o.a.counts.notified.Add(1)
	}
	if !n.retry {
		return
	}
	n.tries++
	if n.first.IsZero() {
		n.first = now
	}
	n.last = now
	n.next = now.Add(o.backoff.Wait(n.tries)) // R-NOT.1, R-NOT.2, TP-469 1.54
	o.waiting = append(o.waiting, n)
	o.bytes += len(n.payload)
}
