package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"twinspan/usp"
)

// sink is a Controller's end as an outbox sees it.
type sink struct {
	mu    sync.Mutex
	times []time.Time
	ids   []string
	fail  error
}

func (s *sink) send(_ context.Context, rec []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	s.times = append(s.times, time.Now())
	r, err := usp.OpenRecord(rec, c1ID, usp.DefaultLimits())
	if err == nil {
		s.ids = append(s.ids, string(r.Payload))
	}
	return nil
}

func (s *sink) count() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.times) }

// bareAgent has just enough for an outbox.
func bareAgent() *Agent {
	o := Options{EndpointID: agentID, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	o.Limits.fill()
	return &Agent{opt: o, slow: newSlowLog(o.Log), calls: make(chan func(*notifier), 8), stopped: make(chan struct{})}
}

func startOutbox(t *testing.T, s *sink, up *atomic.Bool) (*outbox, func()) {
	o := newOutbox(bareAgent(), c1ID)
	o.configure([]route{{up: up.Load, send: s.send}}, usp.DefaultBackoff())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); o.run(ctx) }()
	return o, func() { cancel(); <-done }
}

func TestRetryTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, up := &sink{}, new(atomic.Bool)
		up.Store(true)
		o, stop := startOutbox(t, s, up)
		defer stop()
		o.put(&note{msgID: "a", payload: []byte("a"), retry: true})
		time.Sleep(6 * time.Hour)
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.times) < 12 {
			t.Fatalf("%d transmissions", len(s.times))
		}
		for n := 1; n < len(s.times); n++ { // R-NOT.1, R-NOT.2, TP-469 1.54
			low, high := usp.DefaultBackoff().Range(n)
			if d := s.times[n].Sub(s.times[n-1]); d < low || d > high+time.Millisecond {
				t.Errorf("retry %d after %s, want %s to %s", n, d, low, high)
			}
			if s.ids[n] != s.ids[0] {
				t.Errorf("retry %d is another message", n)
			}
		}
	})
}

func TestRetryEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, up := &sink{}, new(atomic.Bool)
		up.Store(true)
		o, stop := startOutbox(t, s, up)
		defer stop()
		o.put(&note{msgID: "a", payload: []byte("a"), retry: true})
		o.put(&note{msgID: "b", payload: []byte("b"), retry: true, expire: 20 * time.Second}) // TP-469 1.56
		o.put(&note{msgID: "c", payload: []byte("c")})
		time.Sleep(time.Second)
		if s.count() != 3 {
			t.Fatalf("%d sent", s.count())
		}
		o.answered("unknown")
		o.answered("a")
		time.Sleep(time.Hour)
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, at := range s.times[3:] {
			if s.ids[3+i] != "b" || at.Sub(s.times[0]) > 20*time.Second {
				t.Errorf("%s sent %s after the first", s.ids[3+i], at.Sub(s.times[0]))
			}
		}
		if len(s.times) < 4 {
			t.Error("never repeated")
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.bytes != 0 || len(o.waiting)+len(o.queue) != 0 {
			t.Errorf("left over: %d bytes", o.bytes)
		}
	})
}

// An answer that comes while Send has not returned yet must count.
func TestAnswerOvertakesSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox(bareAgent(), c1ID)
		n := 0
		o.configure([]route{{up: func() bool { return true }, send: func(context.Context, []byte) error {
			n++
			o.answered("a")
			return nil
		}}}, usp.DefaultBackoff())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); o.run(ctx) }()
		o.put(&note{msgID: "a", payload: []byte("a"), retry: true})
		time.Sleep(time.Hour)
		cancel()
		<-done
		if n != 1 {
			t.Errorf("sent %d times", n)
		}
	})
}

func TestUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, up := &sink{}, new(atomic.Bool)
		o, stop := startOutbox(t, s, up)
		defer stop()
		for i := range 5 {
			o.put(&note{msgID: fmt.Sprint(i), payload: []byte(fmt.Sprint(i)), retry: i%2 == 0})
		}
		time.Sleep(time.Hour)
		if s.count() != 0 {
			t.Fatal("sent without a link")
		}
		s.mu.Lock()
		s.fail = errors.New("broken")
		s.mu.Unlock()
		up.Store(true)
		o.linkUp()
		time.Sleep(3500 * time.Millisecond)
		s.mu.Lock()
		s.fail = nil
		s.mu.Unlock()
		time.Sleep(2 * time.Second)
		if s.count() != 5 {
			t.Fatalf("%d sent after the link came back", s.count())
		}
		for i := range 5 {
			if s.ids[i] != fmt.Sprint(i) {
				t.Errorf("order %v", s.ids)
			}
		}
	})
}

// An unresponsive recipient costs bounded memory, and the newest values win.
func TestOutboxBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, up := &sink{}, new(atomic.Bool)
		o, stop := startOutbox(t, s, up)
		defer stop()
		lim := o.a.opt.Limits
		o.put(&note{msgID: "ob", payload: []byte("ob"), retry: true, onboard: true})
		for i := range 10_000 {
			o.put(&note{sub: 1, path: fmt.Sprint("p", i%50), msgID: fmt.Sprint(i), payload: make([]byte, 100), retry: i%2 == 0})
			o.put(&note{sub: 2, msgID: fmt.Sprint("e", i), payload: make([]byte, 3000)})
		}
		o.mu.Lock()
		total := 0
		kept := false
		for _, n := range append(append([]*note{}, o.queue...), o.waiting...) {
			total += len(n.payload)
			kept = kept || n.onboard
		}
		if len(o.queue)+len(o.waiting) > lim.Notifications || o.bytes > lim.NotifyBytes || total != o.bytes {
			t.Errorf("%d notes, %d bytes, counted %d", len(o.queue)+len(o.waiting), o.bytes, total)
		}
		last := o.queue[len(o.queue)-1]
		o.mu.Unlock()
		if !kept {
			t.Error("the OnBoardRequest was dropped")
		}
		if last.msgID != "e9999" {
			t.Errorf("the newest is %s", last.msgID)
		}
		if o.a.counts.dropped.Load() == 0 {
			t.Error("nothing was counted as dropped")
		}
		o.forgetSub(1)
		o.forgetSub(2)
		o.forgetOnboard()
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.bytes != 0 {
			t.Errorf("%d bytes left", o.bytes)
		}
	})
}
