package conformcwmp

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"twinspan/cwmp/soap"
)

// window is a TimeWindow at once.
func window(start, end uint32, mode string) soap.TimeWindow {
	return soap.TimeWindow{WindowStart: start, WindowEnd: end, WindowMode: mode, MaxRetries: 0}
}

var scheduleChecks = map[string]check{
	"SDL-02": {run: func(ctx context.Context, b *bench) error {
		if err := b.needRPC(ctx, "ScheduleDownload"); err != nil {
			return err
		}
		const mode = "1 At Any Time"
		for what, list := range map[string][]soap.TimeWindow{
			"overlapping windows": {window(10, 100, mode), window(50, 200, mode)},
			"end before start":    {window(100, 10, mode)},
			"no window":           {},
			"three windows":       {window(10, 20, mode), window(30, 40, mode), window(50, 60, mode)},
		} {
			_, err := b.call(ctx, &soap.ScheduleDownload{CommandKey: "w", FileType: configType, URL: b.base + "/x", TimeWindowList: list})
			if err := b.wantFault(err, what, soap.InvalidArguments); err != nil {
				return err
			}
		}
		return nil
	}},
	"SDL-04": {run: func(ctx context.Context, b *bench) error {
		if err := b.needRPC(ctx, "ScheduleDownload"); err != nil {
			return err
		}
		_, err := b.call(ctx, &soap.ScheduleDownload{CommandKey: "w", FileType: configType, URL: b.base + "/x",
			TimeWindowList: []soap.TimeWindow{window(10, 100, "4 Confirmation Needed")}})
		return b.wantFault(err, "4 Confirmation Needed", soap.InvalidArguments)
	}},
	"SDL-05": {needs: []ability{canRestart}, run: func(ctx context.Context, b *bench) error {
		if err := b.needRPC(ctx, "ScheduleDownload"); err != nil {
			return err
		}
		f, err := b.fileServer()
		if err != nil {
			return err
		}
		if _, err := b.call(ctx, &soap.ScheduleDownload{CommandKey: "kept", FileType: configType, URL: f.base + "/missing",
			TimeWindowList: []soap.TimeWindow{window(3, 30, "1 At Any Time")}}); err != nil {
			return err
		}
		mark := b.tap.mark()
		b.endSession(ctx)
		if _, err := b.restart(ctx); err != nil {
			return err
		}
		b.endSession(ctx)
		_, _, err = b.completed(ctx, mark, "kept")
		return err
	}},
	"CAN-02": {run: func(ctx context.Context, b *bench) error {
		if err := b.needRPC(ctx, "CancelTransfer"); err != nil {
			return err
		}
		_, err := b.call(ctx, &soap.CancelTransfer{CommandKey: "nobody knows"})
		return err
	}},
	"CAN-04": {run: func(ctx context.Context, b *bench) error {
		if err := b.needRPC(ctx, "CancelTransfer"); err != nil {
			return err
		}
		f, err := b.fileServer()
		if err != nil {
			return err
		}
		for range 2 {
			if _, err := b.call(ctx, &soap.Download{CommandKey: "both", FileType: configType, URL: f.base + "/missing", DelaySeconds: 2}); err != nil {
				return err
			}
		}
		if _, err := b.call(ctx, &soap.CancelTransfer{CommandKey: "both"}); err != nil {
			return err
		}
		mark := b.tap.mark()
		b.endSession(ctx)
		if err := b.quiet(ctx, mark, 4*time.Second); err != nil {
			return err
		}
		if len(f.got("/missing")) > 0 {
			return errors.New("a cancelled transfer was made")
		}
		return nil
	}},
	"QUE-01": {run: func(ctx context.Context, b *bench) error {
		if err := b.needRPC(ctx, "GetAllQueuedTransfers"); err != nil {
			return err
		}
		for want := range 3 {
			m, err := b.call(ctx, &soap.GetAllQueuedTransfers{})
			if err != nil {
				return err
			}
			list := m.(*soap.GetAllQueuedTransfersResponse).TransferList
			if len(list) != want {
				return fmt.Errorf("%d transfers are in the queue instead of %d", len(list), want)
			}
			for i, t := range list {
				if t.State != 1 || !t.IsDownload || t.FileType != configType || t.FileSize != uint32(10+i) || t.TargetFileName != "target" {
					return fmt.Errorf("the queue has %+v", t)
				}
			}
			if _, err := b.call(ctx, &soap.Download{CommandKey: fmt.Sprint(want), FileType: configType, URL: b.base + "/x", DelaySeconds: 3600,
				FileSize: uint32(10 + want), TargetFileName: "target"}); err != nil {
				return err
			}
		}
		return nil
	}},
	"SI-02": {run: func(ctx context.Context, b *bench) error {
		if err := b.needRPC(ctx, "ScheduleInform"); err != nil {
			return err
		}
		_, err := b.call(ctx, &soap.ScheduleInform{CommandKey: "zero"})
		return b.wantFault(err, "DelaySeconds 0", soap.InvalidArguments)
	}},
	"IPT-02": {run: func(ctx context.Context, b *bench) error {
		name := b.root + "DeviceInfo.UpTime"
		if _, err := b.informParameter(ctx, name, "2 PERIODIC"); err != nil {
			return err
		}
		x, err := b.newSession(ctx)
		if err != nil {
			return err
		}
		if _, ok := informValue(x.inform(), name); ok {
			return fmt.Errorf("an Inform with %s carries it", events(x.inform()))
		}
		if err := b.periodic(ctx, 1); err != nil {
			return err
		}
		mark := b.tap.mark()
		b.endSession(ctx)
		if x, err = b.inform(ctx, mark, "2 PERIODIC", 5*time.Second); err != nil {
			return err
		}
		if _, ok := informValue(x.inform(), name); !ok {
			return errors.New("the periodic Inform does not carry it")
		}
		return nil
	}},
	"IPT-04": {run: func(ctx context.Context, b *bench) error {
		row, err := b.informParameter(ctx, b.root+"NoSuchThing.*.Status", "")
		if err != nil {
			return err
		}
		x, err := b.newSession(ctx)
		if err != nil {
			return err
		}
		for _, p := range x.inform().ParameterList {
			if p.Name == "" || strings.Contains(p.Name, "NoSuchThing") {
				return fmt.Errorf("the Inform has the entry %q", p.Name)
			}
		}
		name := row + "ParameterName"
		return b.wantSetFault(b.set(ctx, "", name, b.root+"DeviceInfo.SoftwareVersion"), "a forced parameter", map[string][]soap.FaultCode{name: {soap.InvalidParameterValue}})
	}},
	"IPT-05": {run: func(ctx context.Context, b *bench) error {
		table := b.root + "IP.Interface."
		if err := b.need(ctx, table); err != nil {
			return err
		}
		list, err := b.values(ctx, table)
		if err != nil {
			return err
		}
		pattern := regexp.MustCompile(`\.IP\.Interface\.[0-9]+\.Status$`)
		if _, err := b.informParameter(ctx, table+"*.Status", ""); err != nil {
			return err
		}
		x, err := b.newSession(ctx)
		if err != nil {
			return err
		}
		n := 0
		for _, v := range list {
			if pattern.MatchString(v.Name) {
				n++
				if _, ok := informValue(x.inform(), v.Name); !ok {
					return fmt.Errorf("the Inform lacks %s", v.Name)
				}
			}
		}
		b.observe("%d rows", n)
		if n == 0 {
			return notApplicable("there is no IP interface")
		}
		return nil
	}},
	"HBT-01": {limit: 2 * time.Minute, run: func(ctx context.Context, b *bench) error {
		if err := b.heartbeat(ctx); err != nil {
			return err
		}
		mark := b.tap.mark()
		b.endSession(ctx)
		one, err := b.inform(ctx, mark, "14 HEARTBEAT", 40*time.Second)
		if err != nil {
			return err
		}
		two, err := b.inform(ctx, b.after(one), "14 HEARTBEAT", 40*time.Second)
		if err != nil {
			return err
		}
		d := two.At.Sub(one.At)
		b.observe("%.2f s apart", d.Seconds())
		// Either may have been late on a busy machine, neither can have been early; 30 s are the shortest interval there is.
		if !within(d, 30*time.Second-lateness, 30*time.Second+lateness) {
			return fmt.Errorf("%v apart", d)
		}
		return nil
	}},
	"HBT-02": {run: func(ctx context.Context, b *bench) error {
		if err := b.heartbeat(ctx); err != nil {
			return err
		}
		name := b.ms("HeartbeatPolicy.ReportingInterval")
		return b.wantSetFault(b.set(ctx, "", name, "29"), "29 s", map[string][]soap.FaultCode{name: {soap.InvalidParameterValue}})
	}},
}

// informParameter adds a row that is on.
func (b *bench) informParameter(ctx context.Context, name, list string) (string, error) {
	table := b.ms("InformParameter.")
	if err := b.need(ctx, table); err != nil {
		return "", err
	}
	row, err := b.add(ctx, table, "")
	if err != nil {
		return "", err
	}
	return row, b.set(ctx, "", row+"ParameterName", name, row+"EventList", list, row+"Enable", "true")
}
