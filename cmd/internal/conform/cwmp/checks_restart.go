package conformcwmp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"twinspan/cwmp/soap"
)

var restartChecks = map[string]check{
	"RB-01": {run: func(ctx context.Context, b *bench) error {
		n := b.dev.Sessions()
		if _, err := b.call(ctx, &soap.Reboot{CommandKey: "RB"}); err != nil {
			return err
		}
		mark := b.tap.mark()
		if err := b.quiet(ctx, mark, 700*time.Millisecond); err != nil {
			return fmt.Errorf("before the session ended: %w", err)
		}
		b.endSession(ctx)
		if b.dev.Sessions() != n+1 {
			return errors.New("the session did not end in order")
		}
		_, err := b.tap.waitInform(ctx, mark, func(m *soap.Inform) bool { return hasEvent(m, "1 BOOT") })
		return err
	}},
	"RB-02": {run: func(ctx context.Context, b *bench) error {
		if _, err := b.call(ctx, &soap.Reboot{CommandKey: "RB"}); err != nil {
			return err
		}
		if err := b.set(ctx, "", b.code(), "before-the-reboot"); err != nil {
			return err
		}
		mark := b.tap.mark()
		b.endSession(ctx)
		b.holdNext()
		if _, err := b.tap.waitInform(ctx, mark, func(m *soap.Inform) bool { return hasEvent(m, "1 BOOT") }); err != nil {
			return err
		}
		return b.wantValue(ctx, b.code(), "before-the-reboot")
	}},
	"RB-03": {run: func(ctx context.Context, b *bench) error {
		key := strings.Repeat("k", 33)
		mark := b.tap.mark()
		if _, err := b.call(ctx, &soap.Reboot{CommandKey: key}); err != nil {
			return b.wantFault(err, "33 characters", soap.InvalidArguments)
		}
		b.endSession(ctx)
		x, err := b.inform(ctx, mark, "M Reboot", 30*time.Second)
		if err != nil {
			return err
		}
		if !hasKey(x.inform(), "M Reboot", key) {
			return fmt.Errorf("the key was cut: %s", events(x.inform()))
		}
		return nil
	}},
	"FR-01": {needs: []ability{canFresh}, run: factoryReset},
	"FR-02": {needs: []ability{canFresh}, run: func(ctx context.Context, b *bench) error {
		f, err := b.fileServer()
		if err != nil {
			return err
		}
		if _, err := b.call(ctx, &soap.Download{CommandKey: "gone", FileType: configType, URL: f.base + "/missing", DelaySeconds: 2}); err != nil {
			return err
		}
		if err := b.schedule(ctx, "gone", 2); err != nil {
			return err
		}
		mark := b.tap.mark()
		if _, err := b.call(ctx, &soap.FactoryReset{}); err != nil {
			return err
		}
		b.endSession(ctx)
		if err := pause(ctx, 4*time.Second); err != nil {
			return err
		}
		seen := false
		for _, x := range b.tap.since(mark) {
			if m := x.inform(); m != nil && !x.refused {
				seen = true
				b.observe("%s", events(m))
				for _, e := range m.Event {
					if strings.HasPrefix(e.EventCode, "M ") || e.EventCode == "7 TRANSFER COMPLETE" || e.EventCode == "3 SCHEDULED" {
						return fmt.Errorf("after the reset came %s", events(m))
					}
				}
			}
		}
		if !seen {
			return errNothingCame
		}
		if len(f.got("/missing")) > 0 {
			return errors.New("the transfer was made after the reset")
		}
		return nil
	}},
}

func factoryReset(ctx context.Context, b *bench) error {
	original, err := b.get(ctx, b.code())
	if err != nil {
		return err
	}
	if err := b.set(ctx, "changed", b.code(), "changed"); err != nil {
		return err
	}
	name, err := b.text(ctx)
	if err != nil {
		return err
	}
	list, err := b.attributes(ctx, name)
	if err != nil {
		return err
	}
	normal := list[name].Notification
	if err := b.notify(ctx, 2, name); err != nil {
		return err
	}
	n := b.dev.Sessions()
	if _, err := b.call(ctx, &soap.FactoryReset{}); err != nil {
		return err
	}
	mark := b.tap.mark()
	b.endSession(ctx)
	if b.dev.Sessions() != n+1 {
		return errors.New("the session did not end in order")
	}
	b.holdNext()
	x, err := b.tap.waitInform(ctx, mark, nil)
	if err != nil {
		return err
	}
	b.observe("%s", events(x.inform()))
	if !hasEvent(x.inform(), "0 BOOTSTRAP") || !hasEvent(x.inform(), "1 BOOT") {
		return fmt.Errorf("the Inform after the reset has %s", events(x.inform()))
	}
	for parameter, want := range map[string]string{b.ms("ParameterKey"): "", b.code(): original, b.ms("URL"): b.url(), b.ms("ConnectionRequestUsername"): ""} {
		if err := b.wantValue(ctx, parameter, want); err != nil {
			return err
		}
	}
	return b.wantNotification(ctx, name, normal)
}
