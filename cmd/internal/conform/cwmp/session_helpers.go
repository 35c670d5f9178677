package conformcwmp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"twinspan/cwmp/soap"
)

// swap changes the answer to an Inform.
func swap(old, with string) func(x *exchange) {
	return func(x *exchange) { x.RespBody = []byte(strings.Replace(string(x.RespBody), old, with, 1)) }
}

func swapText(old, with string) func(string) string {
	return func(s string) string { return strings.Replace(s, old, with, 1) }
}

func outcome(err error) string {
	if err == nil {
		return "accepted"
	}
	return err.Error()
}

// informAnswer opens a new session whose first Inform is answered as edit wants.
func (b *bench) informAnswer(ctx context.Context, edit func(x *exchange)) (*exchange, error) {
	b.endSession(ctx)
	var once sync.Once
	b.tap.onAfter(func(x *exchange) bool {
		if x.inform() != nil {
			once.Do(func() { edit(x) })
		}
		return false
	})
	return b.newSession(ctx)
}

// refuseInforms answers the next n Informs by how, n < 0 for all; it returns a function that stops it.
func (b *bench) refuseInforms(n int, how func(x *exchange)) (stop func()) {
	var mu sync.Mutex
	return b.tap.onBefore(func(x *exchange) bool {
		mu.Lock()
		defer mu.Unlock()
		if x.inform() == nil || n == 0 {
			return false
		}
		n--
		x.RespHeader = http.Header{}
		how(x)
		return true
	})
}

func unavailable(x *exchange) { x.Status = http.StatusServiceUnavailable }

// fastRetry makes the CPE wait one second before every retry.
func (b *bench) fastRetry(ctx context.Context) error {
	b.observe("with CWMPRetryMinimumWaitInterval 1 and CWMPRetryIntervalMultiplier 1000")
	return b.set(ctx, "", b.ms("CWMPRetryMinimumWaitInterval"), "1", b.ms("CWMPRetryIntervalMultiplier"), "1000")
}

// schedule asks for an event that must not be lost, or says that the CPE has no such.
func (b *bench) schedule(ctx context.Context, key string, seconds uint32) error {
	if err := b.needRPC(ctx, "ScheduleInform"); err != nil {
		return err
	}
	_, err := b.call(ctx, &soap.ScheduleInform{CommandKey: key, DelaySeconds: seconds})
	return err
}

func hasKey(m *soap.Inform, code, key string) bool {
	return slices.ContainsFunc(m.Event, func(e soap.Event) bool { return e.EventCode == code && e.CommandKey == key })
}

// retried lets the session of an M ScheduleInform fail once and sees when and how it comes again.
func (b *bench) retried(ctx context.Context, refuse func(x *exchange), low, high time.Duration, fast bool) error {
	if fast {
		if err := b.fastRetry(ctx); err != nil {
			return err
		}
	}
	if err := b.schedule(ctx, "kept", 1); err != nil {
		return err
	}
	if refuse != nil {
		b.refuseInforms(1, refuse)
	}
	mark := b.tap.mark()
	b.endSession(ctx)
	b.holdNext()
	first, err := b.inform(ctx, mark, "M ScheduleInform", 5*time.Second)
	if err != nil {
		return err
	}
	again, err := b.tap.waitInform(ctx, b.after(first), nil)
	if err != nil {
		return fmt.Errorf("no retry: %w", err)
	}
	m := again.inform()
	wait := again.At.Sub(first.Done)
	b.observe("retry after %.2f s, RetryCount %d, %s", wait.Seconds(), m.RetryCount, events(m))
	switch {
	case m.RetryCount != 1:
		return fmt.Errorf("RetryCount is %d instead of 1", m.RetryCount)
	case !hasKey(m, "M ScheduleInform", "kept"):
		return fmt.Errorf("the event was lost: %s", events(m))
	case !within(wait, low, high):
		return fmt.Errorf("the retry came after %v, not within %v and %v", wait, low, high)
	}
	return nil
}

// slack is what measuring over a busy machine may be off.
const slack = 700 * time.Millisecond

// lateness is what one moment may be late where only the distance between two of them counts.
const lateness = 3 * time.Second

func within(d, low, high time.Duration) bool { return d > low-slack/4 && d < high+slack }

// after is the mark behind an exchange.
func (b *bench) after(x *exchange) int {
	list := b.tap.since(0)
	return slices.Index(list, x) + 1
}

// methodsSince names what the CPE sent from the exchange on.
func (b *bench) methodsSince(x *exchange) (out []string) {
	for _, e := range b.tap.since(b.after(x) - 1) {
		if e.refused {
			continue
		}
		name := e.method()
		if name == "" {
			name = "empty"
		}
		out = append(out, name)
	}
	return out
}

func (b *bench) connections(x *exchange) map[string]bool {
	out := map[string]bool{}
	for _, e := range b.tap.since(b.after(x) - 1) {
		out[e.Conn] = true
	}
	return out
}

func (b *bench) oneEnvelopeEach() error {
	for _, x := range b.tap.since(0) {
		if n := strings.Count(string(x.Body), ":Envelope>"); len(x.Body) > 0 && n != 1 {
			return fmt.Errorf("a POST held %d envelopes", n)
		}
	}
	return nil
}

// alive opens a new session and reads something.
func (b *bench) alive(ctx context.Context) error {
	if _, err := b.newSession(ctx); err != nil {
		return fmt.Errorf("afterwards: %w", err)
	}
	if _, err := b.get(ctx, b.code()); err != nil {
		return fmt.Errorf("afterwards: %w", err)
	}
	return nil
}

// brief is for calls that a CPE may leave unanswered.
func brief(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, 2*time.Second)
}

// worksOrEnds accepts a session that goes on or ends, and wants a CPE that lives.
func (b *bench) worksOrEnds(ctx context.Context) error {
	short, cancel := brief(ctx)
	defer cancel()
	_, err := b.get(short, b.code())
	b.observe("the session: %s", outcome(err))
	b.tap.clearHooks()
	return b.alive(ctx)
}

// survives sends an impossible message: a fault or the end of the session may follow, and the CPE lives.
func (b *bench) survives(ctx context.Context, edit func(string) string) error {
	short, cancel := brief(ctx)
	defer cancel()
	mark := b.tap.mark()
	_, err := b.edited(short, &soap.GetRPCMethods{}, edit)
	if err == nil {
		return errors.New("it was answered as if it were a request")
	}
	b.observe("answer: %s", outcome(err))
	for _, x := range b.tap.since(mark) {
		if m := x.method(); m != "" && m != "Fault" && m != "Inform" {
			return fmt.Errorf("it was answered by %s", m)
		}
	}
	return b.alive(ctx)
}
