package conformcwmp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"twinspan/cwmp/acs"
	"twinspan/cwmp/soap"
)

var eventChecks = map[string]check{
	"EVT-01": {needs: []ability{canFresh}, run: func(_ context.Context, b *bench) error {
		for _, x := range b.tap.since(0) {
			if m := x.inform(); m != nil {
				b.observe("%s", events(m))
				if !hasEvent(m, "0 BOOTSTRAP") || !hasEvent(m, "1 BOOT") {
					return fmt.Errorf("the first Inform has %s", events(m))
				}
				return nil
			}
		}
		return errNothingCame
	}},
	"EVT-02": {needs: []ability{canRestart}, run: func(ctx context.Context, b *bench) error {
		b.endSession(ctx)
		x, err := b.restart(ctx)
		if err != nil {
			return err
		}
		b.observe("%s", events(x.inform()))
		if !hasEvent(x.inform(), "1 BOOT") || hasEvent(x.inform(), "0 BOOTSTRAP") {
			return fmt.Errorf("the Inform after a restart has %s", events(x.inform()))
		}
		return nil
	}},
	"EVT-03": {run: newACS},
	"EVT-04": {run: func(ctx context.Context, b *bench) error {
		if err := b.set(ctx, "", b.ms("URL"), b.url()); err != nil {
			return err
		}
		x, err := b.newSession(ctx)
		if err != nil {
			return err
		}
		if hasEvent(x.inform(), "0 BOOTSTRAP") {
			return errors.New("the same URL caused a BOOTSTRAP")
		}
		return nil
	}},
	"EVT-06": {needs: []ability{canLocal}, run: bootstrapDrops},
	"EVT-07": {run: func(ctx context.Context, b *bench) error {
		if err := b.fastRetry(ctx); err != nil {
			return err
		}
		if err := b.periodic(ctx, 1); err != nil {
			return err
		}
		b.refuseInforms(3, unavailable)
		mark := b.tap.mark()
		b.endSession(ctx)
		x, err := b.tap.wait(ctx, mark, func(x *exchange) bool { m := x.inform(); return m != nil && m.RetryCount >= 3 })
		if err != nil {
			return fmt.Errorf("no third retry: %w", err)
		}
		b.observe("%s, RetryCount %d", events(x.inform()), x.inform().RetryCount)
		if n := count(x.inform(), "2 PERIODIC"); n != 1 {
			return fmt.Errorf("2 PERIODIC is there %d times", n)
		}
		return nil
	}},
	"EVT-09": {run: func(ctx context.Context, b *bench) error {
		if err := b.fastRetry(ctx); err != nil {
			return err
		}
		if err := b.schedule(ctx, "K1", 1); err != nil {
			return err
		}
		if err := b.schedule(ctx, "K2", 2); err != nil {
			return err
		}
		stop := b.refuseInforms(-1, unavailable)
		b.endSession(ctx)
		if err := pause(ctx, 3*time.Second); err != nil {
			return err
		}
		mark := b.tap.mark()
		stop()
		x, err := b.inform(ctx, mark, "M ScheduleInform", 6*time.Second)
		if err != nil {
			return err
		}
		m := x.inform()
		b.observe("%s", events(m))
		if count(m, "3 SCHEDULED") != 1 || !hasKey(m, "M ScheduleInform", "K1") || !hasKey(m, "M ScheduleInform", "K2") || count(m, "M ScheduleInform") != 2 {
			return fmt.Errorf("the Inform has %s", events(m))
		}
		return nil
	}},
	"EVT-10": {needs: []ability{canLocal}, run: passiveChange},
	"EVT-12": {run: func(ctx context.Context, b *bench) error {
		if err := b.fastRetry(ctx); err != nil {
			return err
		}
		b.endSession(ctx)
		b.refuseInforms(-1, func(x *exchange) { x.Cut = true })
		mark := b.tap.mark()
		if err := b.request(ctx); err != nil {
			return err
		}
		x, err := b.inform(ctx, mark, "6 CONNECTION REQUEST", 5*time.Second)
		if err != nil {
			return err
		}
		if err := pause(ctx, 4*time.Second); err != nil {
			return err
		}
		for _, e := range b.tap.since(b.after(x)) {
			// The same POST once more over a new connection is HTTP's doing, not a retry of the session.
			if m := e.inform(); m != nil && (m.RetryCount > 0 || e.At.Sub(x.At) > time.Second) {
				return fmt.Errorf("a session was tried again for %s", events(m))
			}
		}
		return nil
	}},
	"EVT-14": {run: retryRequested},
	"EVT-15": {run: func(ctx context.Context, b *bench) error {
		for _, code := range []soap.FaultCode{soap.ACSRequestDenied, soap.ACSInternalError} {
			if err := b.completeRefused(ctx, code); err != nil {
				return err
			}
		}
		return nil
	}},
	"EVT-16": {run: func(ctx context.Context, b *bench) error {
		x, err := b.reboot(ctx, "RK1")
		if err != nil {
			return err
		}
		m := x.inform()
		if !hasKey(m, "1 BOOT", "") || !hasKey(m, "M Reboot", "RK1") {
			return fmt.Errorf("the Inform after Reboot has %s", events(m))
		}
		return nil
	}},
	"EVT-21": {run: func(ctx context.Context, b *bench) error {
		if err := b.schedule(ctx, "told", 1); err != nil {
			return err
		}
		acked := false
		b.tap.onAfter(func(x *exchange) bool {
			switch {
			case x.inform() != nil && hasEvent(x.inform(), "M ScheduleInform"):
				acked = true
			case acked && len(x.Body) == 0:
				x.Cut = true
			}
			return false
		})
		mark := b.tap.mark()
		b.endSession(ctx)
		if _, err := b.inform(ctx, mark, "M ScheduleInform", 5*time.Second); err != nil {
			return err
		}
		if err := pause(ctx, 300*time.Millisecond); err != nil {
			return err
		}
		b.tap.clearHooks()
		x, err := b.newSession(ctx)
		if err != nil {
			return err
		}
		b.observe("next: %s", events(x.inform()))
		if hasEvent(x.inform(), "M ScheduleInform") || hasEvent(x.inform(), "3 SCHEDULED") {
			return fmt.Errorf("acknowledged events are told again: %s", events(x.inform()))
		}
		return nil
	}},
	"EVT-22": {needs: []ability{canLocal}, limit: 90 * time.Second, run: func(ctx context.Context, b *bench) error {
		if err := b.heartbeat(ctx); err != nil {
			return err
		}
		name, err := b.text(ctx)
		if err != nil {
			return err
		}
		if err := b.notify(ctx, 1, name); err != nil {
			return err
		}
		mark := b.tap.mark()
		b.endSession(ctx)
		if err := b.local(ctx, name+"=pending"); err != nil {
			return err
		}
		x, err := b.inform(ctx, mark, "14 HEARTBEAT", 40*time.Second)
		if err != nil {
			return err
		}
		if len(x.inform().Event) != 1 {
			return fmt.Errorf("with the heartbeat came %s", events(x.inform()))
		}
		return nil
	}},
}

// heartbeat switches it on at its shortest interval.
func (b *bench) heartbeat(ctx context.Context) error {
	policy := b.ms("HeartbeatPolicy.")
	if err := b.need(ctx, policy+"Enable", policy+"ReportingInterval"); err != nil {
		return err
	}
	if err := b.set(ctx, "", policy+"ReportingInterval", "30", policy+"Enable", "true"); err != nil {
		return notApplicable("the heartbeat cannot be switched on: %v", err)
	}
	return nil
}

func newACS(ctx context.Context, b *bench) error {
	other, err := b.tap.listen(hostOf(b.base)+":0", nil)
	if err != nil {
		return err
	}
	n := b.dev.Sessions()
	x, err := b.moveTo(ctx, other+"/acs", 10*time.Second)
	if err != nil {
		return err
	}
	if b.dev.Sessions() <= n {
		return errors.New("the session with the old ACS did not end in order")
	}
	b.observe("at the new ACS: %s", events(x.inform()))
	if !hasEvent(x.inform(), "0 BOOTSTRAP") {
		return fmt.Errorf("the first Inform at the new URL has %s", events(x.inform()))
	}
	return nil
}

func bootstrapDrops(ctx context.Context, b *bench) error {
	if err := b.notify(ctx, 2, b.code()); err != nil {
		return err
	}
	other, err := b.tap.listen(hostOf(b.base)+":0", nil)
	if err != nil {
		return err
	}
	if err := b.local(ctx, b.code()+"=undelivered"); err != nil { // pending until the session ends
		return err
	}
	if err := b.schedule(ctx, "undelivered", 1); err != nil {
		return err
	}
	if err := pause(ctx, 1300*time.Millisecond); err != nil {
		return err
	}
	x, err := b.moveTo(ctx, other+"/acs", 10*time.Second)
	if err != nil {
		return err
	}
	b.observe("at the new ACS: %s", events(x.inform()))
	for _, e := range x.inform().Event {
		if e.EventCode != "0 BOOTSTRAP" && e.EventCode != "1 BOOT" {
			return fmt.Errorf("beside BOOTSTRAP there is %s", e.EventCode)
		}
	}
	if !hasEvent(x.inform(), "0 BOOTSTRAP") {
		return fmt.Errorf("the first Inform at the new URL has %s", events(x.inform()))
	}
	return nil
}

func passiveChange(ctx context.Context, b *bench) error {
	name, err := b.text(ctx)
	if err != nil {
		return err
	}
	if err := b.notify(ctx, 1, name); err != nil {
		return err
	}
	b.endSession(ctx)
	mark := b.tap.mark()
	if err := b.local(ctx, name+"=passive"); err != nil {
		return err
	}
	if err := b.quiet(ctx, mark, 1500*time.Millisecond); err != nil {
		return err
	}
	x, err := b.newSession(ctx)
	if err != nil {
		return err
	}
	v, _ := informValue(x.inform(), name)
	b.observe("%s, the parameter is %q", events(x.inform()), v)
	if !hasEvent(x.inform(), "4 VALUE CHANGE") || v != "passive" {
		return fmt.Errorf("the next Inform has %s and %q", events(x.inform()), v)
	}
	return nil
}

func retryRequested(ctx context.Context, b *bench) error {
	if err := b.pendingTransfer(ctx, "8005"); err != nil {
		return err
	}
	b.acs.Inject(acs.Fault{Stage: acs.OnRequest, FaultCode: soap.ACSRetryRequest, Times: 2})
	mark := b.tap.mark()
	b.endSession(ctx)
	x, err := b.inform(ctx, mark, "7 TRANSFER COMPLETE", 10*time.Second)
	if err != nil {
		return err
	}
	if err := pause(ctx, 700*time.Millisecond); err != nil {
		return err
	}
	list := b.methodsSince(x)[1:]
	if i := slices.Index(list, "Inform"); i >= 0 {
		list = list[:i]
	}
	n := 0
	for _, m := range list {
		if m == "TransferComplete" {
			n++
		}
	}
	b.observe("TransferComplete %d times in the session", n)
	if n < 2 || n > 6 {
		return fmt.Errorf("TransferComplete was sent %d times in the session", n)
	}
	return nil
}

func (b *bench) completeRefused(ctx context.Context, code soap.FaultCode) error {
	if err := b.fastRetry(ctx); err != nil {
		return err
	}
	if err := b.pendingTransfer(ctx, fmt.Sprint(code)); err != nil {
		return err
	}
	remove := b.acs.Inject(acs.Fault{Stage: acs.OnRequest, FaultCode: code})
	defer remove()
	mark := b.tap.mark()
	b.endSession(ctx)
	if _, err := b.inform(ctx, mark, "7 TRANSFER COMPLETE", 10*time.Second); err != nil {
		return err
	}
	if err := pause(ctx, 3500*time.Millisecond); err != nil {
		return err
	}
	n, sessions := 0, 0
	for _, x := range b.tap.since(mark) {
		switch {
		case x.method() == "TransferComplete":
			n++
		case x.inform() != nil && !x.refused:
			sessions++
		}
	}
	b.observe("fault %d: %d TransferComplete in %d sessions within 3.5 s", code, n, sessions)
	if n > 8 {
		return fmt.Errorf("fault %d: TransferComplete was sent %d times in 3.5 s", code, n)
	}
	remove()
	_, err := b.newSession(ctx)
	return err
}

// reboot calls Reboot and waits for the Inform after it.
func (b *bench) reboot(ctx context.Context, key string) (*exchange, error) {
	if _, err := b.call(ctx, &soap.Reboot{CommandKey: key}); err != nil {
		return nil, err
	}
	mark := b.tap.mark()
	b.endSession(ctx)
	b.holdNext()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	x, err := b.tap.waitInform(ctx, mark, func(m *soap.Inform) bool { return hasEvent(m, "1 BOOT") })
	if err != nil {
		return nil, fmt.Errorf("no BOOT after Reboot: %w", err)
	}
	b.observe("after Reboot: %s", events(x.inform()))
	return x, nil
}
