package conformcwmp

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"twinspan/cwmp/soap"
)

var retryChecks = map[string]check{
	"RTY-01": {limit: 2 * time.Minute, run: retryWindows},
	"RTY-02": {run: func(ctx context.Context, b *bench) error {
		waits, err := b.waits(ctx, 3, 2, 1000)
		if err != nil {
			return err
		}
		for _, w := range waits {
			if !within(w, 2*time.Second, 2*time.Second) {
				return fmt.Errorf("a wait of %v instead of 2 s", w)
			}
		}
		return nil
	}},
	"RTY-04": {needs: []ability{canFresh}, run: func(ctx context.Context, b *bench) error {
		twin, err := b.twin(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = twin.close() }() // it was only for one figure
		one, err := b.waits(ctx, 1, 5, 2000)
		if err != nil {
			return err
		}
		two, err := twin.waits(ctx, 1, 5, 2000)
		if err != nil {
			return err
		}
		b.observe("%.3f s and %.3f s", one[0].Seconds(), two[0].Seconds())
		if d := one[0] - two[0]; d < 5*time.Millisecond && d > -5*time.Millisecond {
			return fmt.Errorf("both CPEs waited %v", one[0])
		}
		return nil
	}},
	"RTY-05": {needs: []ability{canLocal}, run: func(ctx context.Context, b *bench) error {
		if err := b.notify(ctx, 2, b.code()); err != nil {
			return err
		}
		return b.duringBackOff(ctx, "4 VALUE CHANGE", func() error { return b.local(ctx, b.code()+"=now") })
	}},
	"RTY-06": {run: func(ctx context.Context, b *bench) error {
		return b.duringBackOff(ctx, "6 CONNECTION REQUEST", func() error { return b.request(ctx) })
	}},
	"RTY-07": {run: func(ctx context.Context, b *bench) error {
		if _, err := b.waits(ctx, 4, 1, 1200); err != nil {
			return err
		}
		if _, err := b.newSession(ctx); err != nil { // a success, unless the last retry was one
			return err
		}
		waits, err := b.waits(ctx, 1, 1, 1200)
		if err != nil {
			return err
		}
		if !within(waits[0], time.Second, 1200*time.Millisecond) {
			return fmt.Errorf("after a success the first wait is %v", waits[0])
		}
		return nil
	}},
	"RTY-08": {needs: []ability{canRestart}, run: func(ctx context.Context, b *bench) error {
		if _, err := b.waits(ctx, 3, 1, 2000); err != nil { // the next window would be 8 to 16 s
			return err
		}
		b.endSession(ctx)
		stop := b.refuseInforms(2, unavailable)
		defer stop()
		first, err := b.restart(ctx)
		if err != nil {
			return err
		}
		again, err := b.tap.waitInform(ctx, b.after(first), nil)
		if err != nil {
			return err
		}
		wait := again.At.Sub(first.Done)
		b.observe("first wait after the restart: %.2f s", wait.Seconds())
		if !within(wait, time.Second, 2*time.Second) {
			return fmt.Errorf("the first wait after a restart is %v", wait)
		}
		return nil
	}},
	"RTY-09": {run: func(ctx context.Context, b *bench) error {
		for _, c := range []struct{ name, value string }{{"CWMPRetryMinimumWaitInterval", "0"}, {"CWMPRetryMinimumWaitInterval", "65536"},
			{"CWMPRetryIntervalMultiplier", "999"}, {"CWMPRetryIntervalMultiplier", "65536"}} {
			name := b.ms(c.name)
			if err := b.wantSetFault(b.set(ctx, "", name, c.value), c.name+"="+c.value, map[string][]soap.FaultCode{name: {soap.InvalidParameterValue}}); err != nil {
				return err
			}
		}
		return nil
	}},
	"RTY-10": {run: func(ctx context.Context, b *bench) error {
		if err := b.fastRetry(ctx); err != nil {
			return err
		}
		_, err := b.get(ctx, b.root+"NoSuchThing")
		if err := b.wantFault(err, "an unknown name", soap.InvalidParameterName); err != nil {
			return err
		}
		b.endSession(ctx)
		return b.quiet(ctx, b.tap.mark(), 2500*time.Millisecond)
	}},
}

// waits lets n sessions fail and returns the waits after each, with the retry parameters given; the session after the last
// wait succeeds and is held.
func (b *bench) waits(ctx context.Context, n, minimum, multiplier int) ([]time.Duration, error) {
	if err := b.set(ctx, "", b.ms("CWMPRetryMinimumWaitInterval"), strconv.Itoa(minimum), b.ms("CWMPRetryIntervalMultiplier"), strconv.Itoa(multiplier)); err != nil {
		return nil, err
	}
	if err := b.schedule(ctx, "wait", 1); err != nil {
		return nil, err
	}
	b.refuseInforms(n, unavailable)
	mark := b.tap.mark()
	b.endSession(ctx)
	b.holdNext()
	x, err := b.inform(ctx, mark, "M ScheduleInform", 5*time.Second)
	if err != nil {
		return nil, err
	}
	var out []time.Duration
	for i := range n {
		next, err := b.tap.waitInform(ctx, b.after(x), nil)
		if err != nil {
			return nil, fmt.Errorf("retry %d did not come: %w", i+1, err)
		}
		out = append(out, next.At.Sub(x.Done))
		if got := next.inform().RetryCount; got != uint32(i+1) {
			return nil, fmt.Errorf("RetryCount is %d at retry %d", got, i+1)
		}
		x = next
	}
	b.observe("minimum %d s, multiplier %d: waits %s", minimum, multiplier, seconds(out))
	return out, nil
}

func seconds(list []time.Duration) string {
	var out []string
	for _, d := range list {
		out = append(out, fmt.Sprintf("%.2f s", d.Seconds()))
	}
	return strings.Join(out, ", ")
}

// retryWindows uses a small minimum and multiplier, so that twelve attempts fit into a minute; the formula is the same.
func retryWindows(ctx context.Context, b *bench) error {
	const attempts, k = 12, 1.2
	waits, err := b.waits(ctx, attempts, 1, 1200)
	if err != nil {
		return err
	}
	low := 1.0
	for i, w := range waits {
		if !within(w, time.Duration(low*float64(time.Second)), time.Duration(low*k*float64(time.Second))) {
			return fmt.Errorf("wait %d is %.2f s, its window is %.2f to %.2f s", i+1, w.Seconds(), low, low*k)
		}
		if i < 9 { // the tenth window is the last one
			low *= k
		}
	}
	return nil
}

// duringBackOff lets a session fail and sees that a new reason starts one at once.
func (b *bench) duringBackOff(ctx context.Context, event string, cause func() error) error {
	if err := b.schedule(ctx, "waiting", 1); err != nil {
		return err
	}
	b.refuseInforms(1, unavailable)
	mark := b.tap.mark()
	b.endSession(ctx)
	x, err := b.inform(ctx, mark, "M ScheduleInform", 5*time.Second)
	if err != nil {
		return err
	}
	if err := pause(ctx, 200*time.Millisecond); err != nil {
		return err
	}
	if err := cause(); err != nil {
		return err
	}
	next, err := b.inform(ctx, b.after(x), event, 3*time.Second)
	if err != nil {
		return err
	}
	m := next.inform()
	b.observe("%.2f s after the failure: %s, RetryCount %d", next.At.Sub(x.Done).Seconds(), events(m), m.RetryCount)
	if !hasKey(m, "M ScheduleInform", "waiting") {
		return fmt.Errorf("the kept event is missing: %s", events(m))
	}
	if m.RetryCount != 1 {
		return fmt.Errorf("RetryCount is %d", m.RetryCount)
	}
	return nil
}

var periodicChecks = map[string]check{
	"PER-01": {run: func(ctx context.Context, b *bench) error {
		if err := b.setUnlessRefused(ctx, b.ms("PeriodicInformTime"), "0001-01-01T00:00:00Z"); err != nil {
			return err
		}
		_, err := b.periods(ctx, 2, 4)
		return err
	}},
	"PER-02": {run: func(ctx context.Context, b *bench) error { return b.phase(ctx, "2020-01-01T00:00:01Z", 1) }},
	"PER-03": {run: func(ctx context.Context, b *bench) error { return b.phase(ctx, "2100-01-01T00:00:02Z", 2) }},
	"PER-04": {run: func(ctx context.Context, b *bench) error {
		if err := b.set(ctx, "", b.ms("PeriodicInformEnable"), "false", b.ms("PeriodicInformInterval"), "1"); err != nil {
			return err
		}
		b.endSession(ctx)
		if err := b.quiet(ctx, b.tap.mark(), 2500*time.Millisecond); err != nil {
			return err
		}
		return b.alive(ctx)
	}},
	"PER-05": {run: func(ctx context.Context, b *bench) error {
		name := b.ms("PeriodicInformInterval")
		return b.wantSetFault(b.set(ctx, "", name, "0"), "an interval of 0", map[string][]soap.FaultCode{name: {soap.InvalidParameterValue}})
	}},
	"PER-07": {verdict: notShown("the clock of the machine would have to be set")},
}

func (b *bench) setUnlessRefused(ctx context.Context, name, value string) error {
	err := b.set(ctx, "", name, value)
	if err != nil && faultCode(err) == 0 {
		return err
	}
	return nil
}

// periods wants n periodic Informs at their distance and returns their times.
func (b *bench) periods(ctx context.Context, interval, n int) ([]time.Time, error) {
	if err := b.periodic(ctx, interval); err != nil {
		return nil, err
	}
	mark := b.tap.mark()
	b.endSession(ctx)
	var at []time.Time
	for range n {
		x, err := b.inform(ctx, mark, "2 PERIODIC", time.Duration(interval+3)*time.Second)
		if err != nil {
			return nil, err
		}
		at = append(at, x.At)
		mark = b.after(x)
	}
	for i := 1; i < n; i++ {
		d := at[i].Sub(at[i-1])
		if want := time.Duration(interval) * time.Second; d < want-slack || d > want+slack {
			return nil, fmt.Errorf("two periodic Informs are %v apart instead of %v", d, want)
		}
	}
	b.observe("interval %d s (shortened): %d Informs over %.2f s", interval, n, at[n-1].Sub(at[0]).Seconds())
	return at, nil
}

// phase wants periodic Informs every 5 seconds at a phase, in seconds after the full five.
func (b *bench) phase(ctx context.Context, reference string, second int) error {
	if err := b.set(ctx, "", b.ms("PeriodicInformTime"), reference); err != nil {
		return err
	}
	at, err := b.periods(ctx, 5, 3)
	if err != nil {
		return err
	}
	for _, t := range at {
		off := (time.Duration(t.UnixMilli()%5000)*time.Millisecond - time.Duration(second)*time.Second + 5*time.Second) % (5 * time.Second)
		if off > 2500*time.Millisecond {
			off -= 5 * time.Second
		}
		if off > slack || off < -slack {
			return fmt.Errorf("an Inform came %v off the phase of %s", off, reference)
		}
		b.observe("%.3f s off the phase", off.Seconds())
	}
	return nil
}
