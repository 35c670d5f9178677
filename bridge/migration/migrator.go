package migration

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/store"
)

// Records of the migration. A factory reset drops them: the device is then in its factory phase again.
const (
	bucket      = "migration"
	stateKey    = "state"
	phaseKey    = "phase" // the phase alone, for the arbiter of every transaction
	metersKey   = "meters"
	movePrefix  = "move/"
	maxMoves    = 16
	controllers = "Device.LocalAgent.Controller."
)

// tickLeast bounds how often time is looked at.
const tickLeast = 50 * time.Millisecond

// Options of Open.
type Options struct {
	Config  Config
	Initial Phase // of a device that was never moved
	// Damped counts the leaves that are frozen now; nil: none.
	Damped func() int
	// InContact reports whether a Controller is at the other end of a link right now, beside what is heard of them; nil: no.
	InContact func() bool
	// WANUp reports whether there is a way to the outside; nil: yes. Called at every tick and from many goroutines.
	WANUp func() bool
	// Slot is the firmware that ran before; nil: there is none to try before a rescue.
	Slot Slot
	// Object is the path of the vendor's object, where events come from: "Device.X_EXAMPLE-COM_Migration.".
	Object string
	Emit   func(bridge.Event) // of its events; nil: Engine.Emit
	Log    *slog.Logger
}

// Slot is the firmware before this one. A rescue is for what a step back does not mend.
type Slot interface {
	// Untried reports whether there is an earlier image that was not started since the Controllers were lost. It must be
	// cheap, and keep what it knows over the restart that Try makes.
	Untried() bool
	// Try starts it. It returns at once; an error means that it cannot be tried.
	Try(ctx context.Context) error
}

// Move is one line of the history.
type Move struct {
	Epoch uint64    `json:"epoch"`
	Time  time.Time `json:"time"`
	From  Phase     `json:"from"`
	To    Phase     `json:"to"`
	By    string    `json:"by"`
	Cause string    `json:"cause"`
	// Result is pending, done or "rolled back".
	Result string `json:"result"`
}

// Migrator runs the phase machine of one device. Safe for concurrent use.
type Migrator struct {
	engine  *bridge.Engine
	cfg     Config
	opt     Options
	log     *slog.Logger
	meters  *meters
	intents intents
	gauges  atomic.Pointer[gauges]
	order   atomic.Pointer[order]
	state   atomic.Pointer[State] // the newest that is in force; changed with mu held
	noSlot  atomic.Bool           // it cannot be tried
	known   atomic.Pointer[Facts] // as of the newest tick, for the sealer

	mu      sync.Mutex
	saved   State // as the store has it
	movedAt time.Time
	ticked  time.Time
	checked time.Time
	stuck   time.Time // since when changes have waited for the device
	late    func()    // tells of what the start did
	tried   bool      // the previous firmware
	reset   bool      // a factory reset took the records: nothing is written any more
}

// gauges are figures that are measured at each check.
type gauges struct {
	damped, projection  int
	converged           bool
	coverage, agreement float64
	asserted, both      uint64
	unapplied           time.Duration
	drift               []Difference
}

// Open reads where the migration stands, takes back what a restart ended, and puts the order of the phase in force. It
// must be called before any head starts.
func Open(ctx context.Context, e *bridge.Engine, o Options) (*Migrator, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, fmt.Errorf("migration: %w", err)
	}
	if rank(o.Initial) < 0 {
		return nil, fmt.Errorf("migration: initial phase %q is none", o.Initial)
	}
	m := &Migrator{engine: e, cfg: o.Config, opt: o, log: o.Log, meters: newMeters(o.Config.longest())}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	if m.opt.Emit == nil {
		m.opt.Emit = e.Emit
	}
	m.intents.leafs = map[string]*intent{}
	m.gauges.Store(&gauges{coverage: 1, agreement: 1})
	if err := m.load(ctx); err != nil {
		return nil, err
	}
	m.enforce()
	e.SetPhaseSource(phaseOf)
	e.SetVeto(m.veto)
	e.SetSealer(m.seal)
	e.SetObserver(func(ob bridge.Observation) {
		if missed := ob.Kind == bridge.SawSession || ob.Kind == bridge.SawNotify; missed && !ob.OK && !m.wanUp() {
			return // not the manager's fault
		}
		m.meters.observe(ob, m.state.Load().Phase == bridge.PhaseShadow)
	})
	m.fold()
	return m, nil
}

// load reads the state and makes the step that a restart is.
func (m *Migrator) load(ctx context.Context) error {
	v := m.engine.Store().Head()
	s := State{Phase: m.opt.Initial}
	data, known := v.Record(bucket, stateKey)
	if known {
		if err := json.Unmarshal(data, &s); err != nil {
			return fmt.Errorf("migration: state: %w", err)
		}
	}
	m.saved = s
	m.state.Store(&s)
	if data, ok := v.Record(bucket, metersKey); ok {
		var k kept
		if err := json.Unmarshal(data, &k); err == nil { // figures of an older form are lost, no more
			m.meters.restore(k)
		}
	}
	m.ticked, m.checked = time.Now(), time.Now()
	if !known {
		return m.commit(ctx, s, Change{})
	}
	next, c, err := Next(&m.cfg.Rules, s, Event{Kind: Start}, Facts{})
	if err != nil {
		return err
	}
	return m.commit(ctx, next, c)
}

// Run lets time pass until ctx ends: deadlines, gates, the journal. One call.
func (m *Migrator) Run(ctx context.Context) error {
	w, err := m.engine.Watch("")
	if err != nil {
		return fmt.Errorf("migration: %w", err)
	}
	defer w.Close()
	var wg sync.WaitGroup
	wg.Go(func() { m.follow(ctx, w) })
	defer wg.Wait()
	every := max(min(m.cfg.CheckEvery/4, 2*time.Second), tickLeast)
	if m.late != nil {
		m.late()
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		m.Tick(ctx)
		select {
		case <-ctx.Done():
			m.mu.Lock()
			defer m.mu.Unlock()
			m.keepMeters()
			return nil
		case <-t.C:
		}
	}
}

// follow reads the journal for the convergence report and for moves that were made by writing EnableCWMP.
func (m *Migrator) follow(ctx context.Context, w *bridge.Watcher) {
	for {
		ev, err := w.Next(ctx)
		if err != nil {
			return
		}
		if ev.Kind != bridge.EventCommit || ev.Entry == nil {
			continue
		}
		m.meters.writes(m.intents.take(ev.Entry))
		if slices.ContainsFunc(ev.Entry.Deltas, func(d store.Delta) bool { return d.Path == enableCWMP && d.Op != store.DeltaRefused }) {
			m.adopt()
		}
	}
}

// fold takes in what the journal holds from before the start.
func (m *Migrator) fold() {
	st := m.engine.Store()
	_ = st.Journal(st.JournalStart()-1, func(e *store.Entry) bool { m.intents.take(e); return true }) // what was trimmed is unknown
}

// adopt takes over a state that came with a change of somebody else, by seal.
func (m *Migrator) adopt() {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.engine.Store().Head().Record(bucket, stateKey)
	var s State
	if !ok || json.Unmarshal(data, &s) != nil || s.Epoch <= m.saved.Epoch {
		return
	}
	c := Change{From: m.saved.Phase, To: s.Phase, Cause: CauseRequest, By: s.Pending.By, Back: rank(s.Phase) < rank(m.saved.Phase)}
	m.saved, m.movedAt = s, time.Now()
	m.state.Store(&s)
	m.enforce()
	m.tell(s, c)
}

// enforce puts the order of the state in force. With mu held, or before Run.
func (m *Migrator) enforce() {
	s := m.state.Load()
	f := m.facts()
	m.known.Store(&f)
	o := &order{phase: s.Phase}
	ask := func(kind Kind, to Phase) error {
		n, _, err := Next(&m.cfg.Rules, *s, Event{Kind: kind, To: to, By: "usp:", Class: bridge.ClassMain, Token: "probe"}, f)
		if err == nil && n.CWMPOn() == s.CWMPOn() {
			err = refuse("phase " + string(s.Phase) + " has no such edge")
		}
		return err
	}
	o.off, o.on = ask(Request, bridge.PhaseUSPOnly), ask(Rollback, "")
	m.order.Store(o)
}

// seal rides with every change: a manager's write of EnableCWMP becomes the move that it stands for, in the same commit.
// It runs on the store's writer goroutine.
func (m *Migrator) seal(tx *store.Tx, w bridge.Writer) error {
	if w.System {
		return nil
	}
	now, ok := tx.View().Leaf(enableCWMP)
	old, had := tx.Base().Leaf(enableCWMP)
	if !ok || had && old.Value == now.Value {
		return nil
	}
	data, ok := tx.Record(bucket, stateKey)
	var s State
	if !ok || json.Unmarshal(data, &s) != nil {
		return refuse("the state of the migration is not known")
	}
	live := m.state.Load()
	if s.Epoch != live.Epoch {
		return refuse("the phase is being moved: try again")
	}
	ev := Event{Kind: Request, To: bridge.PhaseUSPOnly, By: w.Name, Class: w.Class, Token: rand.Text()}
	if now.Value == "true" {
		ev.Kind, ev.To = Rollback, ""
	}
	next, c, err := Next(&m.cfg.Rules, *live, ev, *m.known.Load())
	if err != nil {
		return err
	}
	if next.CWMPOn() != (now.Value == "true") {
		return refuse("EnableCWMP stays as phase " + string(live.Phase) + " needs it")
	}
	return m.record(tx, next, c, time.Now())
}

// record stages the state and the line of history.
func (m *Migrator) record(tx *store.Tx, s State, c Change, now time.Time) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := errors.Join(tx.PutRecord(bucket, stateKey, data), tx.PutRecord(bucket, phaseKey, []byte(s.Phase))); err != nil {
		return err
	}
	if c.Cause == "" {
		return nil
	}
	return m.history(tx, s, c, now)
}

func moveKey(epoch uint64) string { return movePrefix + fmt.Sprintf("%020d", epoch) }

// history writes the line of a move, closes that of the move before, and drops what is beyond the limit.
func (m *Migrator) history(tx *store.Tx, s State, c Change, now time.Time) error {
	put := func(mv Move) error {
		data, err := json.Marshal(mv)
		if err != nil {
			return err
		}
		return tx.PutRecord(bucket, moveKey(mv.Epoch), data)
	}
	if c.From == c.To { // confirmed, held: no move, but perhaps the end of one
		var mv Move
		if data, ok := tx.Record(bucket, moveKey(s.Epoch)); ok && c.Cause == CauseConfirmed && json.Unmarshal(data, &mv) == nil {
			mv.Result = "confirmed by " + c.By
			return put(mv)
		}
		return nil
	}
	var before Move
	if data, ok := tx.Record(bucket, moveKey(s.Epoch-1)); ok && json.Unmarshal(data, &before) == nil && before.Result == "pending" {
		before.Result = "rolled back: " + c.Cause
		if err := put(before); err != nil {
			return err
		}
	}
	mv := Move{Epoch: s.Epoch, Time: now.UTC(), From: c.From, To: c.To, By: c.By, Cause: c.Cause, Result: "done"}
	if s.Pending.Open() {
		mv.Result = "pending"
	}
	if s.Epoch > maxMoves {
		if err := tx.DeleteRecord(bucket, moveKey(s.Epoch-maxMoves)); err != nil {
			return err
		}
	}
	return put(mv)
}

var errReset = errors.New("migration: the records are gone")

// commit makes a new state durable and puts it in force. With mu held, or before Run.
func (m *Migrator) commit(ctx context.Context, s State, c Change) error {
	if m.reset {
		return nil
	}
	moved := c.From != c.To
	if moved && m.order.Load() != nil { // the hand-over: first nobody's writes pass, then what is under way is through with the commit itself
		o := *m.order.Load()
		o.moving = true
		m.order.Store(&o)
	}
	ch := bridge.Change{Ref: "epoch " + strconv.FormatUint(s.Epoch, 10), Atomic: true, Records: []bridge.Record{{Bucket: bucket, Key: "epoch", Data: strconv.AppendUint(nil, s.Epoch, 10)}},
		Seal: func(tx *store.Tx) error {
			data, ok := tx.Record(bucket, stateKey)
			var there State
			if ok && json.Unmarshal(data, &there) == nil && there.Epoch != m.saved.Epoch {
				return refuse("the phase was moved by somebody else meanwhile")
			}
			if !ok && m.saved.Epoch+uint64(m.saved.Reboots) > 0 {
				return errReset
			}
			return m.record(tx, s, c, time.Now())
		}}
	if moved && s.CWMPOn() != m.saved.CWMPOn() {
		ch.System = map[string]string{enableCWMP: strconv.FormatBool(s.CWMPOn())}
	}
	_, err := m.engine.Apply(ctx, bridge.Writer{Name: "sys:migration", Class: bridge.ClassSys, System: true}, ch)
	switch {
	case errors.Is(err, errReset):
		m.reset = true
		return nil
	case err != nil:
		if m.order.Load() != nil {
			m.enforce()
		}
		return fmt.Errorf("migration: %w", err)
	}
	m.saved = s
	m.state.Store(&s)
	if moved {
		m.movedAt = time.Now()
	}
	if c.Cause == "" {
		return nil
	}
	if m.order.Load() == nil { // nobody is there yet to hear of it
		if c.From != c.To {
			m.late = func() { m.tell(s, c) }
		}
		return nil
	}
	m.enforce()
	m.tell(s, c)
	return nil
}

// tell emits the events of a change, the old primary last.
func (m *Migrator) tell(s State, c Change) {
	m.log.Info("migration", "from", c.From, "to", c.To, "cause", c.Cause, "by", c.By, "epoch", s.Epoch, "pending", s.Pending.Open())
	if m.opt.Object == "" || c.Cause == "" {
		return
	}
	emit := func(name string, args map[string]string) {
		args["Phase"], args["Epoch"] = string(s.Phase), strconv.FormatUint(s.Epoch, 10)
		m.opt.Emit(bridge.Event{Kind: bridge.EventModel, Path: m.opt.Object, Name: name, Args: args, Cause: c.By})
	}
	if c.Cause == CauseGate {
		emit("GateFailed!", map[string]string{"Gate": string(c.From)})
	}
	if c.From != c.To && c.Back && c.By == "sys:rollback" {
		emit("RolledBack!", map[string]string{"From": string(c.From), "Cause": c.Cause})
	}
	if s.Phase == Rescue {
		emit("RescueEntered!", map[string]string{"Cause": c.Cause})
	}
	if c.From != c.To {
		emit("PhaseChanged!", map[string]string{"From": string(c.From), "By": c.By, "Cause": c.Cause})
	}
	if s.Pending.Open() && c.From != c.To {
		emit("ConfirmRequired!", map[string]string{"By": c.By, "Seconds": strconv.Itoa(int(s.Pending.Left.Seconds()))})
	}
}

// step carries one event out. It returns the new state.
func (m *Migrator) step(ctx context.Context, ev Event) (State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := *m.state.Load()
	next, c, err := Next(&m.cfg.Rules, s, ev, m.facts())
	if err != nil {
		return s, err
	}
	if c.Cause == "" {
		m.state.Store(&next)
		return next, nil
	}
	return next, m.commit(ctx, next, c)
}

// Ask says how a move is to be confirmed.
type Ask struct {
	Within  time.Duration // 0: the usual window
	Survive bool          // a restart does not end the window
	Reason  string
}

// Request asks for a move. The token is empty when the move needs no confirmation.
func (m *Migrator) Request(ctx context.Context, by datamodel.Caller, to Phase, a Ask) (token string, err error) {
	if a.Within < 0 || a.Within > 30*24*time.Hour {
		return "", datamodel.Fail(datamodel.InvalidArgs, "", "a confirm window is at most 30 days")
	}
	s, err := m.step(ctx, Event{Kind: Request, By: by.Name, Class: by.Class, To: to, Token: rand.Text(), Within: a.Within, Survive: a.Survive})
	if s.Pending.By != by.Name {
		return "", err // somebody else's
	}
	return s.Pending.Token, err
}

// Check says what Request would answer, without doing it.
func (m *Migrator) Check(by datamodel.Caller, to Phase) error {
	_, _, err := Next(&m.cfg.Rules, *m.state.Load(), Event{Kind: Request, By: by.Name, Class: by.Class, To: to, Token: "probe"}, m.facts())
	return err
}

// Confirm makes the pending move permanent.
func (m *Migrator) Confirm(ctx context.Context, by datamodel.Caller, token string) error {
	m.mu.Lock()
	moved := m.movedAt
	m.mu.Unlock()
	_, err := m.step(ctx, Event{Kind: Confirm, By: by.Name, Class: by.Class, Token: token, Fresh: by.ConnectedAt.After(moved)})
	return err
}

// Rollback takes the pending move back, or goes to the phase before.
func (m *Migrator) Rollback(ctx context.Context, by datamodel.Caller) error {
	_, err := m.step(ctx, Event{Kind: Rollback, By: by.Name, Class: by.Class})
	return err
}

// Hold stops all moves forward; Release lets them go on.
func (m *Migrator) Hold(ctx context.Context, by datamodel.Caller, reason string) error {
	_, err := m.step(ctx, Event{Kind: Hold, By: by.Name, Class: by.Class, Reason: shown(reason)})
	return err
}

// Release ends a hold.
func (m *Migrator) Release(ctx context.Context, by datamodel.Caller) error {
	_, err := m.step(ctx, Event{Kind: Release, By: by.Name, Class: by.Class})
	return err
}

// State of the migration now.
func (m *Migrator) State() State { return *m.state.Load() }

// Phase in force.
func (m *Migrator) Phase() Phase { return m.state.Load().Phase }

// Moves is the history, oldest first.
func (m *Migrator) Moves() []Move {
	var out []Move
	m.engine.Store().Head().Records(bucket, func(key string, data []byte) bool {
		var mv Move
		if len(key) > len(movePrefix) && key[:len(movePrefix)] == movePrefix && json.Unmarshal(data, &mv) == nil {
			out = append(out, mv)
		}
		return true
	})
	return out
}

// Tick lets the time since the last one pass. Run calls it; tests may.
func (m *Migrator) Tick(ctx context.Context) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	elapsed := now.Sub(m.ticked) // monotonic: setting the clock changes nothing
	m.ticked = now
	check := now.Sub(m.checked) >= m.cfg.CheckEvery
	if check {
		m.checked = now
		m.measure(ctx, now)
	}
	if m.meters.pass(elapsed, m.inContact(), m.wanUp()) && m.meters.step >= time.Hour {
		m.keepMeters()
	}
	s := *m.state.Load()
	f := m.facts()
	m.known.Store(&f)
	next, c, err := Next(&m.cfg.Rules, s, Event{Kind: Tick, Elapsed: elapsed, Check: check, Token: rand.Text()}, f)
	if err != nil {
		return
	}
	if f.Slot && next.Phase == bridge.PhaseUSPOnly && !next.Pending.Open() && next.Lost >= m.cfg.LostAfter && f.WANUp && !m.tried {
		m.tried = true
		if err := m.opt.Slot.Try(ctx); err != nil {
			m.noSlot.Store(true)
			m.log.Error("the firmware before this one cannot be tried before a rescue", "error", err)
		}
	}
	if c.Cause == "" && !m.worthKeeping(next) {
		m.state.Store(&next)
		if check {
			m.enforce()
		}
		return
	}
	if err := m.commit(ctx, next, c); err != nil {
		m.log.Error("phase cannot be moved", "from", s.Phase, "to", next.Phase, "cause", c.Cause, "error", err)
	}
}

func (m *Migrator) wanUp() bool { return m.opt.WANUp == nil || m.opt.WANUp() }

// inContact reports whether a main Controller was heard of late, or is connected.
func (m *Migrator) inContact() bool {
	return m.meters.inContact(m.cfg.ContactLife) || m.opt.InContact != nil && m.opt.InContact()
}

// worthKeeping: clocks that must survive a restart are written in steps of a 24th, so that they do not wear the flash.
func (m *Migrator) worthKeeping(s State) bool {
	if d := s.Lost - m.saved.Lost; d >= m.cfg.LostAfter/24 || s.Lost == 0 && m.saved.Lost != 0 {
		return true
	}
	return s.Pending.Survive && m.saved.Pending.Left-s.Pending.Left >= max(m.cfg.Windows[s.Phase]/24, time.Second)
}

// controllers counts the enabled Controllers that have an enabled MTP.
func (m *Migrator) controllers(v *store.Version) int {
	n := 0
	on := func(path string) bool { l, ok := v.Leaf(path); return ok && l.Value == "true" }
	for _, i := range v.Instances(controllers) {
		row := controllers + strconv.FormatUint(uint64(i), 10) + "."
		if !on(row + "Enable") {
			continue
		}
		for _, j := range v.Instances(row + "MTP.") {
			if on(row + "MTP." + strconv.FormatUint(uint64(j), 10) + ".Enable") {
				n++
				break
			}
		}
	}
	return n
}
