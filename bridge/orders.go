package bridge

import (
	"context"
	"fmt"
	"time"

	"twinspan/store"
)

// Orders is the arbitration of all phases: each Proposal is judged by the order of its own phase, so that a change of
// phase counts from the very commit that makes it. Immutable, pure.
type Orders struct {
	initial  Phase
	by       map[Phase]*ClassOrder
	ownerTTL time.Duration
	epoch    uint64
}

// Phases lists all phases in the order of a migration.
func Phases() []Phase {
	return []Phase{PhaseCWMPOnly, PhaseShadow, PhaseDualCWMP, PhaseDualUSP, PhaseUSPOnly}
}

// NewOrders builds the order of every phase; initial counts where a Proposal names none that is known. ownerTTL is how
// long a claim counts after it was last asserted, 0 for ever.
func NewOrders(initial Phase, ownerTTL time.Duration, build func(Phase) (*ClassOrder, error)) (*Orders, error) {
	o := &Orders{initial: initial, by: map[Phase]*ClassOrder{}, ownerTTL: ownerTTL}
	for _, p := range Phases() {
		c, err := build(p)
		if err != nil {
			return nil, err
		}
		o.by[p] = c
	}
	if o.by[initial] == nil {
		return nil, fmt.Errorf("bridge: unknown phase %q", initial)
	}
	return o, nil
}

// WithEpoch is the same with a number that the journal carries: it tells one loading of a policy from the next.
func (o *Orders) WithEpoch(n uint64) *Orders {
	c := *o
	c.epoch = n
	return &c
}

// Epoch of WithEpoch.
func (o *Orders) Epoch() uint64 { return o.epoch }

// OwnerTTL is how long a claim counts.
func (o *Orders) OwnerTTL() time.Duration { return o.ownerTTL }

// Phase that counts where none is named.
func (o *Orders) Phase() Phase { return o.initial }

// At is the order of a phase.
func (o *Orders) At(p Phase) *ClassOrder {
	if c := o.by[p]; c != nil {
		return c
	}
	return o.by[o.initial]
}

// Decide implements Arbiter.
func (o *Orders) Decide(p Proposal) Verdict { return o.At(p.Phase).Decide(p) }

// At is the order itself, whatever the phase: it was made for one.
func (c *ClassOrder) At(Phase) *ClassOrder { return c }

// orderAt is what both arbiters of this package can do beside deciding.
type orderAt interface {
	At(Phase) *ClassOrder
	Phase() Phase
}

// PhaseAt is the phase in force in a version of the tree.
func (e *Engine) PhaseAt(v *store.Version) Phase {
	if f := e.phase.Load(); f != nil {
		if p := (*f)(v); p != "" {
			return p
		}
	}
	if o, ok := e.Arbiter().(orderAt); ok {
		return o.Phase()
	}
	return ""
}

// PhaseNow is the phase in force.
func (e *Engine) PhaseNow() Phase { return e.PhaseAt(e.store.Head()) }

// SetPhaseSource tells the engine where the phase of a version is written down. f runs on the store's writer goroutine,
// for every transaction: it must be fast and pure. "" leaves it to the Arbiter.
func (e *Engine) SetPhaseSource(f func(v *store.Version) Phase) { e.phase.Store(&f) }

// SwapArbiter puts another arbiter in force from a commit of its own on, together with what stage writes. If it fails
// the one before stays in force.
func (e *Engine) SwapArbiter(ctx context.Context, a Arbiter, stage func(tx *store.Tx) error) error {
	var old Arbiter
	_, err := e.store.Update(ctx, store.Meta{Writer: sysPrefix + "policy", Kind: "policy"}, func(tx *store.Tx) error {
		if err := stage(tx); err != nil {
			return err
		}
		old = e.Arbiter()
		e.SetArbiter(a) // here, so that no transaction comes between; what shares the commit's fsync fails with it
		return nil
	})
	if err != nil && old != nil {
		e.SetArbiter(old)
	}
	return err
}

// order of the version, nil if the Arbiter is none of this package.
func (e *Engine) order(v *store.Version) *ClassOrder {
	if o, ok := e.Arbiter().(orderAt); ok {
		return o.At(e.PhaseAt(v))
	}
	return nil
}
