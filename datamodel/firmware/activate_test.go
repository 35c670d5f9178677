package firmware

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"twinspan/datamodel"
)

type row struct{ start, end, mode, retries, message string }

func timeWindows(rows ...row) map[string]string {
	args := map[string]string{}
	for i, w := range rows {
		p := "TimeWindow." + strconv.Itoa(len(rows)-i) + "." // not in order of time
		for name, v := range map[string]string{"Start": w.start, "End": w.end, "Mode": w.mode, "MaxRetries": w.retries, "UserMessage": w.message} {
			if v != "" {
				args[p+name] = v
			}
		}
	}
	return args
}

// loaded is a device with a second image that can be activated.
func loaded(t *testing.T, change func(*Options)) *rig {
	r := newRig(t, change)
	r.m.o.Fetch = give(Image("2.0.0", nil, true))
	if err := r.run(t.Context(), "2", "Download()", map[string]string{"URL": "http://h/x", "AutoActivate": "false"}); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWindows(t *testing.T) {
	idleAfter := func(d time.Duration) func() func(*Options) {
		return func() func(*Options) {
			began := time.Now()
			return func(o *Options) { o.Idle = func(context.Context) bool { return time.Since(began) >= d } }
		}
	}
	answers := func(list ...bool) func() func(*Options) {
		return func() func(*Options) {
			return func(o *Options) {
				o.Ask = func(_ context.Context, message string) (bool, error) {
					if message != "Update now?" {
						return false, errors.New("another message: " + message)
					}
					yes := list[0]
					list = list[1:]
					return yes, nil
				}
			}
		}
	}
	for _, c := range []struct {
		name   string
		change func() func(*Options)
		rows   []row
		after  time.Duration // until the end of the command
		text   string        // of its error
	}{
		{"no window", nil, nil, 0, ""},
		{"at once", nil, []row{{start: "0", end: "5", mode: "Immediately"}}, 0, ""},
		{"later", nil, []row{{start: "3600", end: "7200", mode: "Immediately"}}, time.Hour, ""},
		{"any time", nil, []row{{start: "100", end: "200", mode: "AnyTime"}}, 125 * time.Second, ""},
		{"the first of two", nil, []row{{start: "10", end: "20", mode: "Immediately"}, {start: "30", end: "40", mode: "Immediately"}}, 10 * time.Second, ""},
		{"idle", idleAfter(25 * time.Second), []row{{start: "0", end: "100", mode: "WhenIdle"}}, 30 * time.Second, ""},
		{"idle in the second window", idleAfter(25 * time.Second), []row{{start: "0", end: "15", mode: "WhenIdle"}, {start: "60", end: "90", mode: "WhenIdle"}}, time.Minute, ""},
		{"never idle", idleAfter(time.Hour), []row{{start: "0", end: "15", mode: "WhenIdle"}}, 15 * time.Second, "not idle"},
		{"consent", answers(true), []row{{start: "5", end: "15", mode: "ConfirmationNeeded", message: "Update now?"}}, 5 * time.Second, ""},
		{"no consent", answers(false), []row{{start: "5", end: "15", mode: "ConfirmationNeeded", message: "Update now?"}}, 5 * time.Second, "did not consent"},
		{"consent at the second try", answers(false, true), []row{{start: "5", end: "60", mode: "ConfirmationNeeded", message: "Update now?", retries: "1"}}, 15 * time.Second, ""},
		{"the device's own number of tries", answers(false, false, false, false), []row{{start: "0", end: "600", mode: "ConfirmationNeeded", message: "Update now?", retries: "-1"}}, time.Minute, "did not consent"},
		{"no time for another try", answers(false, true), []row{{start: "0", end: "9", mode: "ConfirmationNeeded", message: "Update now?", retries: "1"}}, 9 * time.Second, "did not consent"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := loaded(t, nil)
				if c.change != nil {
					c.change()(&r.m.o)
				}
				r.m.random = func() float64 { return 0.5 }
				began := time.Now()
				err := r.run(t.Context(), "2", "Activate()", timeWindows(c.rows...))
				if got := time.Since(began); got != c.after {
					t.Errorf("it ended after %v, not %v", got, c.after)
				}
				if c.text == "" && err != nil || c.text != "" && (err == nil || !strings.Contains(err.Error(), c.text) || reason(err) != datamodel.CommandFailed) {
					t.Errorf("error %v, want %q", err, c.text)
				}
				if restarts := len(r.restarts); (err == nil) != (restarts == 1) {
					t.Errorf("%d restarts, error %v", restarts, err)
				}
				if err != nil {
					r.wants("2", available, "2.0.0")
				}
				r.m.Close()
			})
		})
	}
}

func TestActivateIsCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := loaded(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(30*time.Second, cancel)
		if err := r.run(ctx, "2", "Activate()", timeWindows(row{start: "60", end: "90", mode: "Immediately"})); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		time.Sleep(time.Hour)
		if len(r.restarts) != 0 || r.m.s.Trial != nil {
			t.Error("it was activated all the same")
		}
		r.wants("2", available, "2.0.0")
		r.m.Close()
	})
}

func TestBadWindows(t *testing.T) {
	r := loaded(t, nil)
	one := row{start: "0", end: "10", mode: "Immediately"}
	for name, args := range map[string]map[string]string{
		"no mode":       timeWindows(row{start: "0", end: "10"}),
		"no end":        timeWindows(row{start: "0", mode: "AnyTime"}),
		"end first":     timeWindows(row{start: "10", end: "10", mode: "AnyTime"}),
		"far away":      timeWindows(row{start: "0", end: "4294967295", mode: "AnyTime"}),
		"nobody to ask": timeWindows(row{start: "0", end: "10", mode: "ConfirmationNeeded"}),
		"overlap":       timeWindows(row{start: "0", end: "10", mode: "AnyTime"}, row{start: "9", end: "20", mode: "AnyTime"}),
		"too many":      timeWindows(one, one, one, one, one, one),
		"no number":     timeWindows(row{start: "x", end: "10", mode: "AnyTime"}),
		"bad retries":   timeWindows(row{start: "0", end: "10", mode: "AnyTime", retries: "x"}),
	} {
		if err := r.run(t.Context(), "2", "Activate()", args); reason(err) != datamodel.InvalidArgs {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := r.run(t.Context(), "1", "Activate()", nil); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("the image that runs: %v", err)
	}
	if len(r.restarts) != 0 {
		t.Error("a restart was asked for")
	}
}
