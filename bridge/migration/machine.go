package migration

import (
	"slices"
	"strings"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
)

// Phase of the migration; the bridge's five and the rescue.
type Phase = bridge.Phase

// Rescue is the phase of a device that lost all its Controllers after CWMP had been switched off for good: CWMP is on
// again, and the ACS may repair what USP needs.
const Rescue Phase = "rescue"

// path is the way forward.
var path = []Phase{bridge.PhaseCWMPOnly, bridge.PhaseShadow, bridge.PhaseDualCWMP, bridge.PhaseDualUSP, bridge.PhaseUSPOnly}

func rank(p Phase) int { return slices.Index(path, p) }

// State is where the migration stands. It is a plain value: Next makes a new one, and the store keeps it.
type State struct {
	Phase Phase
	Epoch uint64 // number of moves made
	// Pending is open while the move into Phase waits for its confirmation.
	Pending Pending
	// Watched: the phase was entered by a move, so that its gate goes on being checked.
	Watched    bool
	Held       bool // no move forward
	HoldBy     string
	HoldReason string
	Fails      int           // failed checks of the gate in a row
	Unclear    time.Duration // for how long the gate has had no answer
	Lost       time.Duration // usp-only: for how long no Controller was in contact
	Stable     time.Duration // rescue: for how long one has been
	Reboots    int           // since the phase was entered
}

// Pending is a move that is not confirmed yet; empty when From is.
type Pending struct {
	From    Phase
	By      string
	Token   string
	Left    time.Duration // of the confirm window
	Survive bool          // a restart does not end it
}

// Open reports whether a move waits for its confirmation.
func (p Pending) Open() bool { return p.From != "" }

// CWMPOn is what EnableCWMP must be in a state that the machine has moved to.
func (s State) CWMPOn() bool { return s.Phase != bridge.PhaseUSPOnly }

// Kind of an Event.
type Kind uint8

// The events. Start is the start of the agent, before any manager can reach it; Tick is time that has passed.
const (
	Request Kind = iota
	Confirm
	Rollback
	Hold
	Release
	Tick
	Start
)

// Event is something that may move the machine.
type Event struct {
	Kind  Kind
	By    string // writer's name
	Class string
	To    Phase  // Request
	Token string // Request and Tick: for a new window; Confirm: what the confirmer holds
	// Fresh: the connection that carries the confirmation was opened after the move.
	Fresh   bool
	Within  time.Duration // Request: confirm window, 0 for the usual one
	Survive bool
	Reason  string        // Hold
	Elapsed time.Duration // Tick: by the monotonic clock, so that setting the clock moves nothing
	Check   bool          // Tick: the gate is due
}

// Verdict of a gate.
type Verdict uint8

// The verdicts. A gate that has not seen enough says Unclear, which holds.
const (
	Unclear Verdict = iota
	Pass
	Fail
)

func (v Verdict) String() string { return [...]string{"Inconclusive", "Pass", "Fail"}[v] }

// Facts are what the machine must know of the world.
type Facts struct {
	Controllers int  // enabled Controllers with a way to reach them
	USPUp       bool // a Controller is in contact
	ACSKnown    bool // there is an ACS URL
	ACSSecure   bool // and it is https
	ACSDown     bool // the newest session failed
	WANUp       bool
	// Slot: the firmware before this one is still to be tried before a rescue.
	Slot  bool
	Gates [5]Verdict // to enter a phase, by its place on the path
	Stay  Verdict    // of the gate of the phase in force, without what counts at the entry only
}

// Rules are times and policy.
type Rules struct {
	// Windows are the usual confirm windows by the phase that is entered.
	Windows map[Phase]time.Duration
	// FailedChecks in a row move back; UnclearHold without an answer holds.
	FailedChecks int
	UnclearHold  time.Duration
	// Rescue: RescueOff, RescueProbation (CWMP comes back while usp-only is not confirmed), RescueAlways.
	Rescue string
	// LostAfter without a Controller begins the rescue; StableFor with one ends it.
	LostAfter, StableFor time.Duration
	// Auto is the last phase that is entered without being asked for, once its gate passes; "" for none.
	Auto Phase
}

// Rescue policies.
const (
	RescueOff       = "off"
	RescueProbation = "probation"
	RescueAlways    = "always"
)

// Causes of moves.
const (
	CauseRequest   = "request"
	CauseDeadline  = "deadline"
	CauseRestart   = "restart"
	CauseGate      = "gate"
	CauseLost      = "no Controller"
	CauseContact   = "contact restored"
	CauseConfirmed = "confirmed"
	CauseHold      = "hold"
	CauseRelease   = "release"
)

// Change says what Next did beside counting time. Zero Cause: nothing that must be kept.
type Change struct {
	From, To Phase
	Cause    string
	By       string
	Back     bool // a move back
}

func refuse(text string) error { return datamodel.Fail(datamodel.Refused, "", text) }

// Next is the whole migration: what becomes of a state by an event. It is pure. An error leaves the state as it is; its
// text is for whoever asked.
func Next(r *Rules, s State, ev Event, f Facts) (State, Change, error) {
	m := mover{r: r, s: s, ev: &ev, f: &f}
	if err := m.next(); err != nil {
		return s, Change{}, err
	}
	return m.s, m.c, nil
}

// mover works one event out.
type mover struct {
	r  *Rules
	s  State
	c  Change
	ev *Event
	f  *Facts
}

func (m *mover) next() error {
	switch m.ev.Kind {
	case Request:
		return m.request()
	case Confirm:
		return m.confirm()
	case Rollback:
		return m.rollback()
	case Hold, Release:
		return m.hold()
	case Tick:
		m.tick()
		return nil
	case Start:
		m.start()
		return nil
	}
	return datamodel.Fail(datamodel.InvalidArgs, "", "unknown event")
}

// enter moves into a phase. Without a window the move needs no confirmation.
func (m *mover) enter(to Phase, cause, by string, p Pending) {
	s := &m.s
	m.c = Change{From: s.Phase, To: to, Cause: cause, By: by, Back: rank(to) < rank(s.Phase) && s.Phase != Rescue}
	m.s = State{Phase: to, Epoch: s.Epoch + 1, Pending: p, Watched: p.Open(), Held: s.Held, HoldBy: s.HoldBy, HoldReason: s.HoldReason}
}

// note says that something must be kept though the phase stays.
func (m *mover) note(cause, by string) {
	m.c = Change{From: m.s.Phase, To: m.s.Phase, Cause: cause, By: by}
}

// may says who may ask for a move forward into a phase. Two keys: a Controller alone cannot take the device from the
// ACS, since the ACS can hold; the ACS cannot be taken away before USP has proved itself at the gate.
var may = map[Phase][]string{
	bridge.PhaseShadow:   {bridge.ClassACS, bridge.ClassUser, bridge.ClassSys},
	bridge.PhaseDualCWMP: {bridge.ClassACS, bridge.ClassUser, bridge.ClassSys},
	bridge.PhaseDualUSP:  {bridge.ClassACS, bridge.ClassMain, bridge.ClassUser, bridge.ClassSys},
	bridge.PhaseUSPOnly:  {bridge.ClassMain, bridge.ClassUser},
}

func (m *mover) request() error {
	s, ev := &m.s, m.ev
	to := rank(ev.To)
	switch {
	case to < 0:
		return datamodel.Fail(datamodel.InvalidValue, "", "there is no phase "+string(ev.To)+" to ask for")
	case ev.To == s.Phase:
		return nil // a repeated request is none
	case s.Phase == Rescue:
		return m.fromRescue()
	case s.Pending.Open() && ev.To == s.Pending.From:
		return m.rollback()
	case to < rank(s.Phase):
		return m.backward(ev.To)
	case s.Pending.Open():
		return refuse("the move from " + string(s.Pending.From) + " to " + string(s.Phase) + " waits for its confirmation: confirm it, or roll back")
	case s.Held:
		return refuse("held by " + s.HoldBy + " (" + s.HoldReason + "): release it first")
	case to != rank(s.Phase)+1:
		return refuse("one step at a time: the next phase is " + string(path[rank(s.Phase)+1]))
	case !slices.Contains(may[ev.To], ev.Class):
		return refuse("class " + ev.Class + " cannot ask for " + string(ev.To))
	case m.f.Controllers == 0:
		return refuse("no Controller is enabled with a way to reach it")
	case m.f.Gates[to] != Pass:
		return refuse("the gate of " + string(ev.To) + " says " + m.f.Gates[to].String())
	case ev.Token == "":
		return datamodel.Fail(datamodel.Internal, "", "a move needs a token")
	}
	within := ev.Within
	if within <= 0 {
		within = m.r.Windows[ev.To]
	}
	m.enter(ev.To, CauseRequest, ev.By, Pending{From: s.Phase, By: ev.By, Token: ev.Token, Left: max(within, time.Second), Survive: ev.Survive})
	return nil
}

// fromRescue ends a rescue by hand. CWMP stays on, so that nothing needs to be confirmed.
func (m *mover) fromRescue() error {
	if m.ev.To != bridge.PhaseDualUSP {
		return refuse("a rescue ends in " + string(bridge.PhaseDualUSP))
	}
	if m.ev.Class == bridge.ClassApps {
		return refuse("class " + m.ev.Class + " cannot end a rescue")
	}
	m.enter(m.ev.To, CauseRequest, m.ev.By, Pending{})
	return nil
}

// backward is a move to an earlier phase. CWMP is on in all of them: there is nothing to confirm.
func (m *mover) backward(to Phase) error {
	switch {
	case m.ev.Class == bridge.ClassApps:
		return refuse("class " + m.ev.Class + " cannot move the phase")
	case m.s.Phase == bridge.PhaseUSPOnly && to != bridge.PhaseDualUSP:
		return refuse("one step at a time: the phase before is " + string(bridge.PhaseDualUSP))
	case rank(to) < rank(bridge.PhaseDualCWMP) && !m.f.ACSKnown:
		return datamodel.Fail(datamodel.Unrecoverable, "", "in "+string(to)+" only the ACS writes, and there is none: set its URL first")
	}
	m.enter(to, CauseRequest, m.ev.By, Pending{})
	return nil
}

func (m *mover) rollback() error {
	switch {
	case m.ev.Class == bridge.ClassApps:
		return refuse("class " + m.ev.Class + " cannot move the phase")
	case m.s.Pending.Open():
		m.enter(m.s.Pending.From, CauseRequest, m.ev.By, Pending{})
		return nil
	case m.s.Phase == Rescue:
		return refuse("a rescue ends by a request for " + string(bridge.PhaseDualUSP))
	case rank(m.s.Phase) == 0:
		return refuse("there is no phase before " + string(m.s.Phase))
	}
	return m.backward(path[rank(m.s.Phase)-1])
}

// confirm makes a move permanent. It must come over a connection that is younger than the move: only then has the
// confirmer shown that it still finds the device. What makes USP come first must be confirmed over USP.
func (m *mover) confirm() error {
	s, ev := &m.s, m.ev
	p := &s.Pending
	switch {
	case !p.Open():
		return datamodel.Fail(datamodel.NoInstance, "", "no move waits for a confirmation")
	case ev.By != p.By && ev.Token != p.Token && !strings.HasPrefix(p.By, "sys:"):
		return refuse("the token is not that of the pending move, and " + p.By + " asked for it")
	case ev.Token != "" && ev.Token != p.Token:
		return refuse("the token is not that of the pending move")
	case !ev.Fresh:
		return refuse("a confirmation counts only over a connection opened after the move: connect anew")
	case rank(s.Phase) >= rank(bridge.PhaseDualUSP) && ev.Class != bridge.ClassMain:
		return refuse("a main Controller must confirm " + string(s.Phase) + ", not class " + ev.Class)
	case ev.Class == bridge.ClassApps:
		return refuse("class " + ev.Class + " cannot confirm a move")
	case s.Phase == bridge.PhaseUSPOnly && m.f.Stay == Fail:
		return refuse("the gate of " + string(s.Phase) + " does not pass any more")
	}
	m.confirmed(ev.By)
	return nil
}

func (m *mover) confirmed(by string) {
	m.note(CauseConfirmed, by)
	m.s.Pending = Pending{}
}

func (m *mover) hold() error {
	s, ev := &m.s, m.ev
	cause := CauseHold
	switch {
	case ev.Class == bridge.ClassApps:
		return refuse("class " + ev.Class + " cannot hold the migration")
	case ev.Kind == Hold:
		s.Held, s.HoldBy, s.HoldReason = true, ev.By, ev.Reason
	case !s.Held:
		return nil
	case ev.Class == bridge.ClassMain && s.HoldBy != ev.By:
		return refuse("held by " + s.HoldBy + ": a Controller can release only its own hold")
	default:
		s.Held, s.HoldBy, s.HoldReason = false, "", ""
		cause = CauseRelease
	}
	m.note(cause, ev.By)
	return nil
}

// start is a restart: what was not confirmed is taken back before anybody can connect.
func (m *mover) start() {
	s := &m.s
	s.Stable, s.Fails = 0, 0
	if s.Pending.Open() && !s.Pending.Survive {
		m.enter(s.Pending.From, CauseRestart, "sys:rollback", Pending{})
		return
	}
	s.Reboots++
	m.note(CauseRestart, "sys:migration")
}

func (m *mover) tick() {
	s, ev, f := &m.s, m.ev, m.f
	if s.Pending.Open() {
		if s.Pending.Left -= ev.Elapsed; s.Pending.Left <= 0 {
			m.enter(s.Pending.From, CauseDeadline, "sys:rollback", Pending{})
			return
		}
		if s.Phase == bridge.PhaseShadow && f.USPUp { // a Controller has answered: that is what the window waited for
			m.confirmed("sys:migration")
			return
		}
	}
	switch s.Phase {
	case bridge.PhaseUSPOnly:
		switch {
		case f.USPUp:
			s.Lost = 0
		case f.WANUp: // without a way out nobody is missed
			s.Lost += ev.Elapsed
		}
		if s.Lost >= m.r.LostAfter && m.rescue() {
			return
		}
	case Rescue:
		if s.Stable += ev.Elapsed; !f.USPUp {
			s.Stable = 0
		}
		if s.Stable >= m.r.StableFor {
			m.enter(bridge.PhaseDualUSP, CauseContact, "sys:rescue", Pending{})
			return
		}
	}
	if rank(s.Phase) > 0 && s.Watched && f.Stay == Unclear && f.WANUp {
		s.Unclear += ev.Elapsed
	}
	if !ev.Check || !f.WANUp { // a gate says nothing of the managers while the line is down
		return
	}
	if m.check(); m.c.Cause == "" {
		m.forward()
	}
}

// rescue brings CWMP back. On probation that is the rollback that the window would end in anyway; afterwards the device
// goes only to the stored ACS, over https: whoever can block USP must not be able to downgrade the device.
func (m *mover) rescue() bool {
	if m.s.Pending.Open() {
		m.enter(m.s.Pending.From, CauseLost, "sys:rescue", Pending{})
		return true
	}
	if m.r.Rescue != RescueAlways || !m.f.ACSSecure || !m.f.WANUp || m.f.Slot {
		return false
	}
	m.enter(Rescue, CauseLost, "sys:rescue", Pending{})
	m.c.Back = true
	return true
}

// check looks whether the phase still deserves to be in force.
func (m *mover) check() {
	s := &m.s
	at := rank(s.Phase)
	if at <= 0 || !s.Watched || s.Phase == bridge.PhaseUSPOnly && !s.Pending.Open() {
		return
	}
	switch m.f.Stay {
	case Pass:
		s.Fails, s.Unclear = 0, 0
	case Unclear:
		if s.Unclear >= m.r.UnclearHold && !s.Held {
			m.holdBack("the gate of " + string(s.Phase) + " has no answer")
			m.note(CauseHold, s.HoldBy)
		}
	case Fail:
		s.Unclear = 0
		if s.Fails++; s.Fails < m.r.FailedChecks {
			return
		}
		back, why := path[at-1], "the gate of "+string(s.Phase)+" failed"
		if s.Pending.Open() {
			back = s.Pending.From
		}
		if rank(back) < rank(bridge.PhaseDualCWMP) && !s.Pending.Open() && (m.f.ACSDown || !m.f.ACSKnown) {
			s.Fails = m.r.FailedChecks // where only the ACS writes, and it does not answer, nobody would be left
			return
		}
		m.enter(back, CauseGate, "sys:rollback", Pending{})
		m.holdBack(why)
	}
}

// holdBack keeps what has failed from being tried again at once.
func (m *mover) holdBack(why string) {
	m.s.Held, m.s.HoldBy, m.s.HoldReason = true, "sys:migration", why
}

// forward moves on by itself where policy allows it.
func (m *mover) forward() {
	at := rank(m.s.Phase)
	if m.r.Auto == "" || at < 0 || at >= rank(m.r.Auto) || m.s.Pending.Open() || m.r.Auto == bridge.PhaseUSPOnly {
		return
	}
	token := m.ev.Token
	m.ev = &Event{Kind: Request, To: path[at+1], By: "sys:policy", Class: bridge.ClassSys, Token: token}
	_ = m.request() // refused: not yet
}
