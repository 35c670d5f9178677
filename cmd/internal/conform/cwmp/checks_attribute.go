package conformcwmp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"twinspan/cwmp/soap"
)

var attributeChecks = map[string]check{
	"ATT-01": {run: func(ctx context.Context, b *bench) error {
		list, err := b.attributes(ctx, b.root+"DeviceInfo.")
		if err != nil {
			return err
		}
		b.observe("%d leaves", len(list))
		for name, a := range list {
			if strings.HasSuffix(name, ".") || a.Notification < 0 || a.Notification > 6 {
				return fmt.Errorf("%s has notification %d", name, a.Notification)
			}
		}
		if _, ok := list[b.code()]; !ok {
			return fmt.Errorf("%s is missing", b.code())
		}
		return nil
	}},
	"ATT-02": {run: func(ctx context.Context, b *bench) error {
		list, err := b.attributes(ctx, "")
		if err != nil {
			return err
		}
		b.observe("%d leaves", len(list))
		if _, ok := list[b.ms("URL")]; !ok || len(list) < 20 {
			return errors.New("the tree is not whole")
		}
		return nil
	}},
	"ATT-05": {run: func(ctx context.Context, b *bench) error {
		name, err := b.text(ctx)
		if err != nil {
			return err
		}
		if err := b.notify(ctx, 1, name); err != nil {
			return err
		}
		if _, err := b.call(ctx, &soap.SetParameterAttributes{ParameterList: []soap.SetAttribute{{Name: name, Notification: 2}}}); err != nil {
			return err
		}
		return b.wantNotification(ctx, name, 1)
	}},
	"ATT-06": {run: func(ctx context.Context, b *bench) error {
		name := b.root + "DeviceInfo.UpTime"
		if err := b.need(ctx, name); err != nil {
			return err
		}
		err := b.notify(ctx, 2, name)
		if err == nil {
			b.observe("accepted")
			return b.wantNotification(ctx, name, 2)
		}
		return b.wantFault(err, "active notification of UpTime", soap.NotificationRejected)
	}},
	"ATT-07": {run: func(ctx context.Context, b *bench) error {
		types := map[soap.Type]string{}
		list, err := b.values(ctx, b.root)
		if err != nil {
			return err
		}
		for _, v := range list {
			if _, ok := types[v.Type]; !ok || strings.Contains(types[v.Type], "ProcessStatus") {
				types[v.Type] = v.Name
			}
		}
		for t, name := range types {
			if err := b.notify(ctx, 1, name); err != nil {
				return fmt.Errorf("%s of type %s: %w", name, t, err)
			}
		}
		b.observe("%d types", len(types))
		return nil
	}},
	"ATT-09": {run: func(ctx context.Context, b *bench) error {
		if v, err := b.get(ctx, b.ms("LightweightNotificationProtocolsSupported")); err == nil && v != "" {
			return notApplicable("the CPE has lightweight notifications over %s", v)
		}
		name, err := b.text(ctx)
		if err != nil {
			return err
		}
		for level := 3; level <= 6; level++ {
			if err := b.wantFault(b.notify(ctx, level, name), fmt.Sprint("notification ", level), soap.InvalidArguments, soap.NotificationRejected); err != nil {
				return err
			}
		}
		return nil
	}},
	"ATT-10": {run: func(ctx context.Context, b *bench) error {
		table, leaf, err := b.table(ctx)
		if err != nil {
			return err
		}
		row, err := b.add(ctx, table, "")
		if err != nil {
			return err
		}
		if err := b.notify(ctx, 1, table); err != nil {
			return err
		}
		list, err := b.attributes(ctx, table)
		if err != nil {
			return err
		}
		for name, a := range list {
			if a.Notification != 1 {
				return fmt.Errorf("%s has notification %d", name, a.Notification)
			}
		}
		if _, ok := list[row+leaf]; !ok {
			return errors.New("the row is missing")
		}
		later, err := b.add(ctx, table, "")
		if err != nil {
			return err
		}
		list, err = b.attributes(ctx, later+leaf)
		b.observe("a row made later has notification %d", list[later+leaf].Notification)
		return err
	}},
	"ATT-11": {run: func(ctx context.Context, b *bench) error {
		name, err := b.text(ctx)
		if err != nil {
			return err
		}
		if err := b.notify(ctx, 1, name); err != nil {
			return err
		}
		if err := b.wantFault(b.notify(ctx, 2, name, b.root+"NoSuchThing"), "one unknown of two", soap.InvalidParameterName); err != nil {
			return err
		}
		return b.wantNotification(ctx, name, 1)
	}},
	"ATT-12": {run: func(ctx context.Context, b *bench) error {
		name, err := b.text(ctx)
		if err != nil {
			return err
		}
		want := []string{"X_0005B9_Installer"}
		if _, err := b.call(ctx, &soap.SetParameterAttributes{ParameterList: []soap.SetAttribute{{Name: name, AccessListChange: true, AccessList: want}}}); err != nil {
			return err
		}
		list, err := b.attributes(ctx, name)
		if err != nil {
			return err
		}
		if !slices.Equal(list[name].AccessList, want) {
			return fmt.Errorf("the AccessList is %q", list[name].AccessList)
		}
		return nil
	}},
	"ATT-14": {needs: []ability{canRestart}, run: func(ctx context.Context, b *bench) error {
		name, err := b.text(ctx)
		if err != nil {
			return err
		}
		if err := b.notify(ctx, 1, name); err != nil {
			return err
		}
		if _, err := b.restart(ctx); err != nil {
			return err
		}
		return b.wantNotification(ctx, name, 1)
	}},
	"ATT-15": {run: func(ctx context.Context, b *bench) error {
		table, leaf, err := b.table(ctx)
		if err != nil {
			return err
		}
		fresh, err := b.add(ctx, table, "")
		if err != nil {
			return err
		}
		list, err := b.attributes(ctx, fresh+leaf)
		if err != nil {
			return err
		}
		normal := list[fresh+leaf].Notification
		if err := b.notify(ctx, 2, fresh+leaf); err != nil {
			return err
		}
		if err := b.del(ctx, fresh, ""); err != nil {
			return err
		}
		next, err := b.add(ctx, table, "")
		if err != nil {
			return err
		}
		b.observe("deleted %s, made %s", fresh, next)
		return b.wantNotification(ctx, next+leaf, normal)
	}},
	"ATT-16": {run: func(ctx context.Context, b *bench) error {
		name, err := b.text(ctx)
		if err != nil {
			return err
		}
		result := -1
		for range 2 {
			err := b.call2(ctx, &soap.SetParameterAttributes{ParameterList: []soap.SetAttribute{
				{Name: parentOf(name), NotificationChange: true, Notification: 1}, {Name: name, NotificationChange: true, Notification: 2}}})
			if err != nil {
				return b.wantFault(err, "the same leaf twice", soap.InvalidArguments)
			}
			list, err := b.attributes(ctx, name)
			if err != nil {
				return err
			}
			if result >= 0 && result != list[name].Notification {
				return errors.New("the outcome is not stable")
			}
			result = list[name].Notification
		}
		b.observe("path with 1, then name with 2: notification %d", result)
		if result != 2 {
			return fmt.Errorf("the order of the list does not decide: notification %d", result)
		}
		return nil
	}},
	"ATT-17": {needs: []ability{canLocal}, run: fiveChanges},
	"ATT-18": {needs: []ability{canLocal}, run: func(ctx context.Context, b *bench) error {
		if err := b.notify(ctx, 2, b.code()); err != nil {
			return err
		}
		old, err := b.get(ctx, b.code())
		if err != nil {
			return err
		}
		if err := b.local(ctx, b.code()+"=there"); err != nil { // in the session, so that both come before the next one
			return err
		}
		if err := b.local(ctx, b.code()+"="+old); err != nil {
			return err
		}
		mark := b.tap.mark()
		b.endSession(ctx)
		if err := pause(ctx, 1500*time.Millisecond); err != nil {
			return err
		}
		for _, x := range b.tap.since(mark) {
			if m := x.inform(); m != nil {
				if v, ok := informValue(m, b.code()); ok && v != old {
					return fmt.Errorf("a stale value is reported: %q", v)
				}
				b.observe("%s", events(m))
			}
		}
		return nil
	}},
	"ATT-19": {needs: []ability{canLocal}, run: throttle},
}

func (b *bench) call2(ctx context.Context, m soap.Message) error {
	_, err := b.call(ctx, m)
	return err
}

func (b *bench) wantNotification(ctx context.Context, name string, want int) error {
	list, err := b.attributes(ctx, name)
	if err != nil {
		return err
	}
	a, ok := list[name]
	if !ok || a.Notification != want {
		return fmt.Errorf("%s has notification %d instead of %d", name, a.Notification, want)
	}
	return nil
}

func fiveChanges(ctx context.Context, b *bench) error {
	table, leaf, err := b.table(ctx)
	if err != nil {
		return err
	}
	var names []string
	for range 5 {
		row, err := b.add(ctx, table, "")
		if err != nil {
			return err
		}
		names = append(names, row+leaf)
	}
	if err := b.notify(ctx, 2, names...); err != nil {
		return err
	}
	if _, err := b.newSession(ctx); err != nil { // what a session wrote may be its own as long as it lasts
		return err
	}
	mark := b.tap.mark()
	for round := range 2 { // during the session; the second values are the final ones
		var settings []string
		for i, n := range names {
			settings = append(settings, fmt.Sprintf("%s=final-%d-%d", n, round, i))
		}
		if err := b.local(ctx, settings...); err != nil {
			return err
		}
	}
	b.endSession(ctx)
	x, err := b.inform(ctx, mark, "4 VALUE CHANGE", 5*time.Second)
	if err != nil {
		return err
	}
	for i, n := range names {
		if v, _ := informValue(x.inform(), n); v != fmt.Sprintf("final-1-%d", i) {
			return fmt.Errorf("%s is reported as %q", n, v)
		}
	}
	b.endSession(ctx)
	return b.quiet(ctx, b.after(x)+2, time.Second)
}

func throttle(ctx context.Context, b *bench) error {
	name := b.ms("DefaultActiveNotificationThrottle")
	if err := b.need(ctx, name); err != nil {
		return err
	}
	b.observe("with a throttle of 5 s")
	if err := b.set(ctx, "", name, "5"); err != nil {
		return err
	}
	if err := b.notify(ctx, 2, b.code()); err != nil {
		return err
	}
	mark := b.tap.mark()
	b.endSession(ctx)
	ended := time.Now()
	if err := b.local(ctx, b.code()+"=throttled"); err != nil {
		return err
	}
	if err := b.quiet(ctx, mark, 2*time.Second); err != nil {
		return err
	}
	x, err := b.inform(ctx, mark, "4 VALUE CHANGE", 8*time.Second)
	if err != nil {
		return err
	}
	wait := x.At.Sub(ended)
	b.observe("told %.1f s after the session", wait.Seconds())
	if wait < 4500*time.Millisecond {
		return fmt.Errorf("told %v after the session", wait)
	}
	return b.alive(ctx) // another reason is not delayed
}
