package firmware

import (
	"context"
	"strconv"
	"strings"
	"time"

	"twinspan/datamodel"
)

// Modes of a TimeWindow.
const (
	anyTime     = "AnyTime"
	whenIdle    = "WhenIdle"
	askTheUser  = "ConfirmationNeeded"
	maxWindows  = 5
	ownRetries  = 3 // MaxRetries -1
	retryWait   = 10 * time.Second
	idleLook    = 10 * time.Second
	maxWindowAt = 366 * 24 * time.Hour
)

// window of an Activate(), counted from its arrival.
type window struct {
	start, end time.Duration
	mode       string
	message    string
	retries    int
}

// windows reads the argument TimeWindow.{i}., in order of time. Without any, the image is activated at once.
func (m *Manager) windows(inv datamodel.Invocation) ([]window, error) {
	bad := func(text string) ([]window, error) {
		return nil, datamodel.Fail(datamodel.InvalidArgs, inv.Command, text)
	}
	seen := map[string]bool{}
	for name := range inv.Args {
		if rest, ok := strings.CutPrefix(name, "TimeWindow."); ok {
			n, _, _ := strings.Cut(rest, ".")
			seen[n] = true
		}
	}
	if len(seen) > maxWindows {
		return bad("there are more than " + strconv.Itoa(maxWindows) + " TimeWindow rows")
	}
	var out []window
	for n := range seen {
		arg := func(name string) string { return inv.Args["TimeWindow."+n+"."+name] }
		w := window{mode: arg("Mode"), message: arg("UserMessage")}
		start, err1 := strconv.ParseUint(arg("Start"), 10, 32)
		end, err2 := strconv.ParseUint(arg("End"), 10, 32)
		if err1 != nil || err2 != nil || w.mode == "" {
			return bad("TimeWindow." + n + " needs Start, End and Mode")
		}
		w.start, w.end = time.Duration(start)*time.Second, time.Duration(end)*time.Second
		if w.end <= w.start || w.end > maxWindowAt {
			return bad("TimeWindow." + n + ": End must be after Start, and within a year")
		}
		if w.mode == askTheUser && m.o.Ask == nil {
			return bad("TimeWindow." + n + ": this device has no way to ask a user (ConfirmationNeeded)")
		}
		if s := arg("MaxRetries"); s != "" {
			if w.retries, err1 = strconv.Atoi(s); err1 != nil {
				return bad("TimeWindow." + n + ": MaxRetries is not a number")
			}
			if w.retries < 0 {
				w.retries = ownRetries
			}
		}
		i := len(out)
		for i > 0 && out[i-1].start > w.start {
			i--
		}
		out = append(out[:i], append([]window{w}, out[i:]...)...)
	}
	for i := range out {
		if i > 0 && out[i].start < out[i-1].end {
			return bad("the TimeWindow rows overlap")
		}
	}
	return out, nil
}

// activate is FirmwareImage.{i}.Activate().
func (m *Manager) activate(ctx context.Context, inv datamodel.Invocation, bank string) error {
	ws, err := m.windows(inv)
	if err != nil {
		return err
	}
	err = m.locked(func() error {
		if bank == m.lay.Active {
			return datamodel.Fail(datamodel.CommandFailed, inv.Command, "this image runs already")
		}
		return m.bootable(inv.Command, bank)
	})
	if err != nil {
		return err
	}
	if len(ws) == 0 {
		return m.switchTo(ctx, inv.Command, bank)
	}
	began := time.Now()
	text := "not activated within the time windows"
	for _, w := range ws {
		err := m.inWindow(ctx, inv.Command, bank, w, began)
		if err == nil || ctx.Err() != nil {
			return err
		}
		m.log.Warn("a time window passed without activation", "bank", bank, "error", err)
		text = "not activated within the time windows: " + err.Error()
	}
	return datamodel.Fail(datamodel.CommandFailed, inv.Command, text)
}

// inWindow tries in one window, as often as it says.
func (m *Manager) inWindow(ctx context.Context, command, bank string, w window, began time.Time) error {
	at := w.start
	if w.mode == anyTime { // TP-469 9.5; not all devices of a fleet at the same time
		at += time.Duration(float64(w.end-w.start) / 2 * m.random())
	}
	if err := sleep(ctx, time.Until(began.Add(at))); err != nil {
		return err // TP-469 9.8
	}
	end := began.Add(w.end)
	err := error(datamodel.Fail(datamodel.CommandFailed, "", "the window was over"))
	for try := 0; try <= w.retries && time.Now().Before(end); try++ {
		if try > 0 {
			if e := sleep(ctx, min(time.Duration(try)*retryWait, time.Until(end))); e != nil {
				return e
			}
			if !time.Now().Before(end) {
				break
			}
		}
		if err = m.ready(ctx, w, end); err == nil {
			err = m.switchTo(ctx, command, bank)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// ready waits for what the mode of a window asks for.
func (m *Manager) ready(ctx context.Context, w window, end time.Time) error {
	switch w.mode {
	case whenIdle:
		c, cancel := context.WithDeadline(ctx, end)
		defer cancel()
		for m.o.Idle != nil && !m.o.Idle(c) {
			if err := sleep(ctx, min(idleLook, time.Until(end))); err != nil {
				return err
			}
			if !time.Now().Before(end) {
				return datamodel.Fail(datamodel.CommandFailed, "", "the device was not idle")
			}
		}
	case askTheUser:
		c, cancel := context.WithDeadline(ctx, end)
		defer cancel()
		yes, err := m.o.Ask(c, w.message)
		if err != nil || !yes {
			return datamodel.Fail(datamodel.CommandFailed, "", "the user did not consent")
		}
	}
	return nil
}
