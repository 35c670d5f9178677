package bridge

import (
	"time"

	"twinspan/datamodel"
	"twinspan/store"
)

// ObservationKind says what a head saw.
type ObservationKind uint8

const (
	SawController ObservationKind = iota // an authenticated record of a remote Controller
	SawRequest                           // a USP request was answered; OK: not by 7003 or 7005
	SawWrite                             // a USP Set, Add or Delete was answered; OK: nothing was refused
	SawNotify                            // a notification that wanted an answer got it after Delay; not OK: it was given up
	SawSession                           // a CWMP session ended; OK: as the standard wants it
	SawOperation                         // a command of a Controller ended; OK: it succeeded
)

// Observation is what a head saw of one of its managers. Gates are decided by it.
type Observation struct {
	Kind   ObservationKind
	Writer string
	Class  string
	OK     bool
	Delay  time.Duration
}

// Observe hands an observation to the observer, if there is one. It must be cheap for the heads: the observer counts,
// and never blocks.
func (e *Engine) Observe(o Observation) {
	if fn := e.observe.Load(); fn != nil {
		(*fn)(o)
	}
}

// SetObserver makes fn hear every Observe from now on, called from many goroutines at once.
func (e *Engine) SetObserver(fn func(Observation)) { e.observe.Store(&fn) }

// AlsoObserve adds a listener to the one of SetObserver, which must have been called before if it is called at all.
func (e *Engine) AlsoObserve(fn func(Observation)) {
	old := e.observe.Load()
	if old == nil {
		e.SetObserver(fn)
		return
	}
	e.SetObserver(func(o Observation) { (*old)(o); fn(o) })
}

// SetSealer makes fn part of every change: called like Change.Seal, after it, with who makes the change. nil ends it.
func (e *Engine) SetSealer(fn func(tx *store.Tx, w Writer) error) {
	if fn == nil {
		e.sealer.Store(nil)
		return
	}
	e.sealer.Store(&fn)
}

// SetVeto makes fn judge every proposal of a manager before the Arbiter does; with ok its verdict counts. It runs on the
// store's writer goroutine: it must be fast and must not call the engine.
func (e *Engine) SetVeto(fn func(p *Proposal) (v Verdict, ok bool)) { e.veto.Store(&fn) }

func (e *Engine) vetoed(p *Proposal) (Verdict, bool) {
	fn := e.veto.Load()
	if fn == nil || p.Writer.System {
		return Verdict{}, false
	}
	return (*fn)(p)
}

// Unapplied is how many committed changes wait for the device.
func (e *Engine) Unapplied() int {
	e.applies.mu.Lock()
	defer e.applies.mu.Unlock()
	return len(e.applies.jobs)
}

func (w *Writer) caller() datamodel.Caller {
	return datamodel.Caller{Name: w.Name, Class: w.Class, ConnectedAt: w.ConnectedAt}
}

// Writers lists the writers that have committed something, by name, with their class when they last did.
func (e *Engine) Writers() []Claim {
	e.classes.mu.Lock()
	defer e.classes.mu.Unlock()
	out := make([]Claim, 0, len(e.classes.known))
	for _, name := range sortedKeys(e.classes.known) {
		out = append(out, Claim{name, e.classes.known[name]})
	}
	return out
}
