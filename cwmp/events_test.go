package cwmp

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func codes(list []event) []string {
	var out []string
	for _, e := range list {
		out = append(out, e.Code+"/"+e.Key)
	}
	return out
}

func TestEventQueue(t *testing.T) {
	tests := []struct {
		name string
		add  [][2]string
		want []string
	}{
		{"EVT-07 single events once", [][2]string{{evPeriodic, ""}, {evPeriodic, ""}, {evPeriodic, ""}}, []string{"2 PERIODIC/"}},
		{"EVT-09 one M entry for each cause", [][2]string{{evScheduled, ""}, {evMScheduleInform, "K1"}, {evScheduled, ""}, {evMScheduleInform, "K2"}},
			[]string{"3 SCHEDULED/", "M ScheduleInform/K1", "M ScheduleInform/K2"}},
		{"EVT-06 bootstrap drops the others", [][2]string{{evMReboot, "R"}, {evPeriodic, ""}, {evBootstrap, ""}}, []string{"0 BOOTSTRAP/"}},
		{"EVT-01 a boot that happened stays", [][2]string{{evBoot, ""}, {evMReboot, "R"}, {evBootstrap, ""}}, []string{"0 BOOTSTRAP/", "1 BOOT/"}},
		{"numbered events before M events", [][2]string{{evMReboot, "R"}, {evTransferComplete, ""}, {evBoot, ""}},
			[]string{"1 BOOT/", "7 TRANSFER COMPLETE/", "M Reboot/R"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var q eventQueue
			for _, a := range tt.add {
				q.add(a[0], a[1])
			}
			if got := codes(q.freeze(false)); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// INF-11: never more than 64 entries, the oldest M entries are the ones left out.
func TestINF11EventLimit(t *testing.T) {
	var q eventQueue
	q.add(evScheduled, "")
	for i := range 70 {
		q.add(evMScheduleInform, fmt.Sprint(i))
	}
	got := q.freeze(true)
	if len(got) != maxInformEvents {
		t.Fatalf("%d events", len(got))
	}
	if got[0].Code != evScheduled || got[1].Code != evValueChange || got[63].Key != "69" || got[2].Key != "8" {
		t.Errorf("first %v %v %v, last %v", got[0], got[1], got[2], got[63])
	}
	for i := range 1000 {
		q.add(evMReboot, fmt.Sprint(i))
	}
	if len(q.list) > maxQueuedEvents {
		t.Errorf("queue grew to %d", len(q.list))
	}
}

// An event that arises while its like is on the way is another event; when the Inform fails they are one again.
func TestEventInFlight(t *testing.T) {
	var q eventQueue
	q.add(evConnectionRequest, "")
	sent := q.freeze(false)
	if !q.add(evConnectionRequest, "") {
		t.Fatal("the second request was swallowed by the one in flight")
	}
	q.informed(sent)
	if got := codes(q.list); !slices.Equal(got, []string{"6 CONNECTION REQUEST/"}) {
		t.Errorf("after the acknowledged Inform: %q", got)
	}
	q.freeze(false)
	q.add(evConnectionRequest, "")
	q.thaw()
	if len(q.list) != 1 {
		t.Errorf("after the failed Inform: %q", codes(q.list))
	}
}

// EVT-21: an acknowledged Inform delivers, except what waits for its own response.
func TestEVT21Delivered(t *testing.T) {
	var q eventQueue
	for _, e := range [][2]string{{evBoot, ""}, {evMReboot, "R"}, {evTransferComplete, ""}, {evMDownload, "D"}} {
		q.add(e[0], e[1])
	}
	q.informed(q.freeze(false))
	if got := codes(q.list); !slices.Equal(got, []string{"7 TRANSFER COMPLETE/", "M Download/D"}) {
		t.Errorf("left: %q", got)
	}
}

func TestPersistentEvents(t *testing.T) {
	var q eventQueue
	for _, code := range []string{evBoot, evPeriodic, evScheduled, evConnectionRequest, evTransferComplete, evMReboot} {
		q.add(code, "")
	}
	want := []string{"2 PERIODIC/", "3 SCHEDULED/", "7 TRANSFER COMPLETE/", "M Reboot/"}
	if got := codes(q.persistent()); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	var r eventQueue
	r.restore(q.persistent())
	r.add(evMDownload, "new")
	if last := r.list[len(r.list)-1].Seq; last <= q.list[len(q.list)-1].Seq {
		t.Errorf("sequence number %d after a restart was used before", last)
	}
}

// PER-02, PER-03: the phase is absolute, with a reference in the past or in the future.
func TestPER03Phase(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	now := at("2026-05-01T10:00:30Z")
	for _, tt := range []struct{ ref, want string }{
		{"2030-01-01T00:00:07Z", "2026-05-01T10:01:07Z"},
		{"2020-01-01T00:00:07Z", "2026-05-01T10:01:07Z"},
		{"2026-05-01T10:00:30Z", "2026-05-01T10:01:30Z"},
		{"2026-05-01T10:01:30Z", "2026-05-01T10:01:30Z"},
	} {
		if got := nextPeriodic(now, at(tt.ref), time.Minute); !got.Equal(at(tt.want)) {
			t.Errorf("reference %s: %s, want %s", tt.ref, got.UTC(), tt.want)
		}
	}
}

func TestPeriodicSchedule(t *testing.T) {
	start := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	t.Run("PER-01 free phase is random and keeps the interval", func(t *testing.T) {
		var p periodic
		p.configure(start, true, time.Minute, time.Time{}, true, 0.25)
		if want := start.Add(45 * time.Second); !p.at.Equal(want) {
			t.Fatalf("first at %v", p.at)
		}
		count := 0
		for s := 0; s < 3600; s++ {
			if p.due(start.Add(time.Duration(s) * time.Second)) {
				count++
			}
		}
		if count != 60 {
			t.Errorf("%d in an hour", count)
		}
	})
	t.Run("PER-04 off", func(t *testing.T) {
		var p periodic
		p.configure(start, true, time.Minute, time.Time{}, true, 0)
		p.configure(start, false, time.Minute, time.Time{}, false, 0)
		if p.due(start.Add(time.Hour)) {
			t.Error("due although off")
		}
	})
	t.Run("PER-07 clock steps give neither burst nor stall", func(t *testing.T) {
		var p periodic
		p.configure(start, true, time.Minute, start.Add(7*time.Second), true, 0)
		now, count := start.Add(5*time.Hour), 0
		for range 10 {
			if p.due(now) {
				count++
			}
		}
		if count != 1 {
			t.Errorf("%d events after a step forward", count)
		}
		now = start.Add(-24 * time.Hour)
		p.due(now)
		if d := p.at.Sub(now); d <= 0 || d > time.Minute {
			t.Errorf("after a step back the next is in %v", d)
		}
	})
	t.Run("a new interval counts from now", func(t *testing.T) {
		var p periodic
		p.configure(start, true, time.Hour, time.Time{}, true, 0)
		p.configure(start.Add(time.Minute), true, 10*time.Second, time.Time{}, false, 0)
		if want := start.Add(70 * time.Second); !p.at.Equal(want) {
			t.Errorf("next at %v", p.at)
		}
		at := p.at
		p.configure(start.Add(65*time.Second), true, 10*time.Second, time.Time{}, false, 0)
		if !p.at.Equal(at) {
			t.Error("unchanged settings moved the phase")
		}
	})
}
