package migration

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
)

// quantum is the step of time of the exploration; every limit is a few of them, so that the state space is finite.
const quantum = time.Second

func smallRules(rescue string, auto Phase) *Rules {
	return &Rules{Windows: map[Phase]time.Duration{bridge.PhaseShadow: 2 * quantum, bridge.PhaseDualCWMP: 2 * quantum, bridge.PhaseDualUSP: 2 * quantum, bridge.PhaseUSPOnly: 3 * quantum},
		FailedChecks: 2, UnclearHold: 2 * quantum, Rescue: rescue, LostAfter: 2 * quantum, StableFor: 2 * quantum, Auto: auto}
}

// world is what may be the case outside.
type world struct{ acs, usp, secure, dark, nameless bool }

func (w world) facts(gate Verdict) Facts {
	f := Facts{Controllers: 1, USPUp: w.usp, ACSKnown: !w.nameless, ACSSecure: w.secure, ACSDown: !w.acs, WANUp: !w.dark, Stay: gate}
	for i := range f.Gates {
		f.Gates[i] = gate
	}
	return f
}

func worlds() (out []world) {
	for i := range 8 {
		out = append(out, world{acs: i&1 != 0, usp: i&2 != 0, secure: i&4 != 0})
	}
	return append(out, world{secure: true, dark: true}, // the line is down: nobody is there
		world{nameless: true}, world{nameless: true, usp: true}) // no ACS was ever configured
}

// events is everything that anybody may do, and all that may befall the device. A power cut is a Start from the state
// that was kept; links that go down are another world; a clock that jumps is time that is not in Elapsed.
func events() (out []Event) {
	type who struct{ name, class string }
	for _, w := range []who{{"cwmp", bridge.ClassACS}, {"usp:main", bridge.ClassMain}, {"usp:app", bridge.ClassApps}, {"cli", bridge.ClassUser}} {
		for _, p := range append([]Phase{Rescue, "nowhere"}, path...) {
			for _, survive := range []bool{false, true} {
				if survive && (w.class != bridge.ClassMain || rank(p) < rank(bridge.PhaseDualUSP)) {
					continue // nothing depends on who asked for it
				}
				out = append(out, Event{Kind: Request, By: w.name, Class: w.class, To: p, Token: "t", Survive: survive})
			}
		}
		for _, fresh := range []bool{false, true} {
			for _, token := range []string{"", "t", "wrong"} {
				out = append(out, Event{Kind: Confirm, By: w.name, Class: w.class, Token: token, Fresh: fresh})
			}
		}
		out = append(out, Event{Kind: Rollback, By: w.name, Class: w.class}, Event{Kind: Hold, By: w.name, Class: w.class}, Event{Kind: Release, By: w.name, Class: w.class})
	}
	return append(out, Event{Kind: Start}, Event{Kind: Tick, Elapsed: quantum, Token: "t"}, Event{Kind: Tick, Elapsed: quantum, Check: true, Token: "t"}, Event{Kind: Tick, Elapsed: 100 * quantum, Check: true, Token: "t"})
}

// node is a state as far as behaviour goes: counters without influence are cut off.
func node(s State) State {
	s.Epoch, s.Reboots, s.HoldReason = 0, 0, ""
	s.Lost, s.Stable, s.Unclear = min(s.Lost, 3*quantum), min(s.Stable, 3*quantum), min(s.Unclear, 3*quantum)
	return s
}

// explore visits every state that can be reached, and tells how.
func explore(t *testing.T, r *Rules, begin []Phase, visit func(from State, ev Event, f Facts, w world, to State, c Change, err error)) map[State]string {
	t.Helper()
	how := map[State]string{}
	var queue []State
	for _, p := range begin {
		queue = append(queue, State{Phase: p})
		how[State{Phase: p}] = string(p)
	}
	evs := events()
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		for _, w := range worlds() {
			for _, gate := range []Verdict{Unclear, Pass, Fail} {
				f := w.facts(gate)
				for _, ev := range evs {
					next, c, err := Next(r, s, ev, f)
					visit(s, ev, f, w, next, c, err)
					if n := node(next); how[n] == "" {
						how[n] = fmt.Sprintf("%s\n  %+v %+v gate=%v -> %+v", how[s], ev, w, gate, n)
						queue = append(queue, n)
					}
				}
			}
		}
		if len(how) > 5000 {
			t.Fatal("the state space does not end")
		}
	}
	return how
}

// uspWrites: in these phases a Controller can repair the device.
func uspWrites(s State) bool {
	return rank(s.Phase) >= rank(bridge.PhaseDualCWMP)
}

// TestSomeManagerStaysReachable is DESIGN invariant 8 for every state that can be reached, under every sequence of
// requests, checks, restarts, power cuts and links that come and go.
func TestSomeManagerStaysReachable(t *testing.T) {
	for _, rescue := range []string{RescueOff, RescueProbation, RescueAlways} {
		for _, auto := range []Phase{"", bridge.PhaseDualUSP} {
			if auto != "" && rescue != RescueProbation {
				continue // one does not depend on the other
			}
			r := smallRules(rescue, auto)
			steps := 0
			how := explore(t, r, path, func(from State, ev Event, f Facts, w world, to State, c Change, err error) {
				steps++
				safe(t, from, ev, f, w, to, c, err)
			})
			if len(how) < 100 {
				t.Fatalf("only %d states: the exploration is broken", len(how))
			}
			t.Logf("rescue %s, auto %q: %d states, %d steps", rescue, auto, len(how), steps)
			for s, way := range how {
				for _, w := range worlds() {
					for _, gate := range []Verdict{Unclear, Pass, Fail} {
						settles(t, r, s, w, gate, way)
					}
				}
			}
		}
	}
}

// safe is what every single step must keep.
func safe(t *testing.T, from State, ev Event, f Facts, w world, to State, c Change, err error) {
	t.Helper()
	bad := func(why string) { t.Fatalf("%s:\n%+v\n%+v %+v\n-> %+v %+v %v", why, from, ev, f, to, c, err) }
	if err != nil && to != from {
		bad("a refused event moved the state")
	}
	if err != nil && datamodel.ReasonOf(err) == datamodel.Internal {
		bad("internal error")
	}
	if rank(to.Phase) < 0 && to.Phase != Rescue {
		bad("unknown phase")
	}
	if (to.Epoch != from.Epoch) != (c.From != c.To) || to.Phase != from.Phase && c.From == c.To {
		bad("a move without an epoch, or the reverse")
	}
	if !to.CWMPOn() && from.CWMPOn() { // the one dangerous edge
		switch {
		case !to.Pending.Open():
			bad("CWMP is switched off without a window")
		case f.Gates[4] != Pass || from.Phase != bridge.PhaseDualUSP || from.Held || from.Pending.Open():
			bad("CWMP is switched off past its gate")
		case ev.Class != bridge.ClassMain && ev.Class != bridge.ClassUser:
			bad("CWMP is switched off by somebody who may not")
		}
	}
	if from.Pending.Open() && !to.Pending.Open() && to.Phase == from.Phase && from.Phase != bridge.PhaseShadow {
		if ev.Kind != Confirm || !ev.Fresh || ev.Class == bridge.ClassApps {
			bad("a window closed without a confirmation over a new connection")
		}
		if rank(to.Phase) >= rank(bridge.PhaseDualUSP) && ev.Class != bridge.ClassMain {
			bad("USP comes first without a Controller having confirmed it")
		}
	}
	if from.Pending.Open() && ev.Kind == Start && !from.Pending.Survive && to.Phase != from.Pending.From {
		bad("a restart inside a window did not restore")
	}
	if w.dark && ev.Kind == Tick && (to.Lost > from.Lost || to.Fails > from.Fails || to.Unclear > from.Unclear || to.Held && !from.Held) {
		bad("somebody was missed while the line was down")
	}
	if to.Phase == Rescue && from.Phase != Rescue && (!f.ACSSecure || !f.WANUp || from.Phase != bridge.PhaseUSPOnly || f.USPUp) {
		bad("rescue without need, or to an ACS that is not the stored https one")
	}
	if ev.Class == bridge.ClassApps && (to.Phase != from.Phase || to.Held != from.Held) {
		bad("an app moved the phase")
	}
	if err == nil && rank(to.Phase) > rank(from.Phase) && from.Held && from.Phase != Rescue {
		bad("a move forward while held")
	}
}

// settles: in a world that stays as it is, without anybody asking for anything, a manager that is there gets the say.
func settles(t *testing.T, r *Rules, s State, w world, gate Verdict, way string) {
	t.Helper()
	begin := s
	for range 12 {
		s, _, _ = Next(r, s, Event{Kind: Tick, Elapsed: quantum, Check: true, Token: "t"}, w.facts(gate))
	}
	acs := w.acs && s.CWMPOn()
	usp := w.usp && uspWrites(s)
	// What the operator has chosen: once usp-only is confirmed, CWMP comes back only if the policy says so, over https.
	given := begin.Phase == bridge.PhaseUSPOnly && !begin.Pending.Open() && (r.Rescue != RescueAlways || !w.secure)
	switch {
	case acs || usp:
	case w.acs && !w.usp && !given:
		t.Fatalf("the ACS is there and cannot reach the device: %+v -> %+v in %+v gate %v\n%s", begin, s, w, gate, way)
	case w.usp && !w.acs && (uspWrites(begin) || begin.Phase == Rescue) && !begin.Pending.Open():
		t.Fatalf("USP had been confirmed, is there, and lost the device: %+v -> %+v in %+v gate %v\n%s", begin, s, w, gate, way)
	case w.usp && w.acs:
		t.Fatalf("both are there and neither has the device: %+v -> %+v gate %v\n%s", begin, s, gate, way)
	}
}

// TestExplorationFindsPlantedFaults: the invariants can fail.
func TestExplorationFindsPlantedFaults(t *testing.T) {
	r := smallRules(RescueProbation, "")
	s := State{Phase: bridge.PhaseUSPOnly} // on probation it would come back; here somebody forgot the window
	for range 12 {
		s, _, _ = Next(r, s, Event{Kind: Tick, Elapsed: quantum, Check: true}, world{acs: true}.facts(Pass))
	}
	if s.CWMPOn() {
		t.Fatal("a confirmed usp-only without rescue came back to CWMP: the invariant would not see a lost window")
	}
	s = State{Phase: bridge.PhaseUSPOnly, Pending: Pending{From: bridge.PhaseDualUSP, By: "usp:main", Token: "t", Left: quantum}}
	if s, _, _ = Next(r, s, Event{Kind: Tick, Elapsed: quantum}, world{usp: true}.facts(Pass)); s.Phase != bridge.PhaseDualUSP {
		t.Fatalf("%+v", s)
	}
}

// TestWholeWay goes from cwmp-only to usp-only and is told at each step why it cannot go faster.
func TestWholeWay(t *testing.T) {
	r := smallRules(RescueProbation, "")
	s := State{Phase: bridge.PhaseCWMPOnly}
	pass := world{acs: true, usp: true, secure: true}.facts(Pass)
	step := func(ev Event, f Facts, wantErr string) {
		t.Helper()
		n, _, err := Next(r, s, ev, f)
		if wantErr == "" && err != nil || wantErr != "" && (err == nil || !strings.Contains(err.Error(), wantErr)) {
			t.Fatalf("%+v: %v, want %q", ev, err, wantErr)
		}
		s = n
	}
	acs, main := func(k Kind, to Phase) Event {
		return Event{Kind: k, To: to, By: "cwmp", Class: bridge.ClassACS, Token: "t", Fresh: true}
	}, func(k Kind, to Phase) Event {
		return Event{Kind: k, To: to, By: "usp:m", Class: bridge.ClassMain, Token: "t", Fresh: true}
	}
	step(main(Request, bridge.PhaseShadow), pass, "class main cannot ask")
	step(acs(Request, bridge.PhaseDualUSP), pass, "one step at a time")
	step(acs(Request, bridge.PhaseShadow), Facts{}, "no Controller")
	step(acs(Request, bridge.PhaseShadow), pass, "")
	step(acs(Request, bridge.PhaseDualCWMP), pass, "waits for its confirmation")
	step(Event{Kind: Tick, Elapsed: quantum}, pass, "") // the Controller answered
	step(acs(Request, bridge.PhaseDualCWMP), world{acs: true, usp: true}.facts(Unclear), "Inconclusive")
	step(acs(Request, bridge.PhaseDualCWMP), pass, "")
	step(acs(Confirm, ""), pass, "")
	step(acs(Hold, ""), pass, "")
	step(main(Request, bridge.PhaseDualUSP), pass, "held by cwmp")
	step(main(Release, ""), pass, "only its own hold")
	step(acs(Release, ""), pass, "")
	step(main(Request, bridge.PhaseDualUSP), pass, "")
	step(acs(Confirm, ""), pass, "a main Controller must confirm")
	step(main(Confirm, ""), pass, "")
	step(acs(Request, bridge.PhaseUSPOnly), pass, "class acs cannot ask")
	step(main(Request, bridge.PhaseUSPOnly), pass, "")
	old := main(Confirm, "")
	old.Fresh = false
	step(old, pass, "connection opened after")
	step(main(Confirm, ""), pass, "")
	if s.Phase != bridge.PhaseUSPOnly || s.Pending.Open() || s.CWMPOn() {
		t.Fatalf("%+v", s)
	}
	step(main(Rollback, ""), pass, "")
	if s.Phase != bridge.PhaseDualUSP || !s.CWMPOn() {
		t.Fatalf("%+v", s)
	}
}

// image is a firmware to go back to.
type image struct{ tries int }

func (s *image) Untried() bool             { return s.tries == 0 }
func (s *image) Try(context.Context) error { s.tries++; return nil }

// TestSlotBeforeRescue: the firmware before is tried once, then the rescue comes; with the line down neither does.
func TestSlotBeforeRescue(t *testing.T) {
	r := smallRules(RescueAlways, "")
	lost := State{Phase: bridge.PhaseUSPOnly, Lost: 2 * quantum}
	tick := Event{Kind: Tick, Elapsed: quantum, Check: true}
	gone := world{acs: true, secure: true}.facts(Pass)
	gone.Slot = true
	s, _, _ := Next(r, lost, tick, gone)
	if s.Phase != bridge.PhaseUSPOnly {
		t.Fatalf("a rescue before the firmware was tried: %+v", s)
	}
	gone.Slot = false
	if s, _, _ = Next(r, s, tick, gone); s.Phase != Rescue {
		t.Fatalf("no rescue: %+v", s)
	}
	if s, _, _ = Next(r, lost, tick, world{secure: true, dark: true}.facts(Fail)); s != lost {
		t.Fatalf("time ran while the line was down: %+v", s)
	}

	e, m, stop := device(t, filepath.Join(t.TempDir(), "db"))
	defer stop()
	up, before := true, &image{}
	m.opt.WANUp, m.opt.Slot = func() bool { return up }, before
	m.cfg.LostAfter, m.cfg.Rescue = time.Millisecond, RescueAlways
	m.state.Store(&State{Phase: bridge.PhaseUSPOnly})
	up = false
	for range 3 {
		time.Sleep(2 * time.Millisecond)
		m.Tick(t.Context())
	}
	e.Observe(bridge.Observation{Kind: bridge.SawSession})
	if before.tries != 0 || m.State().Lost != 0 || m.meters.acsDown {
		t.Fatalf("%d tries, %+v with the line down", before.tries, m.State())
	}
	up = true
	time.Sleep(2 * time.Millisecond)
	m.Tick(t.Context())
	if before.tries != 1 || m.Phase() != bridge.PhaseUSPOnly {
		t.Fatal(before.tries, m.Phase())
	}
	time.Sleep(2 * time.Millisecond)
	m.Tick(t.Context())
	if before.tries != 1 || m.Phase() != Rescue {
		t.Fatal(before.tries, m.Phase())
	}
}
