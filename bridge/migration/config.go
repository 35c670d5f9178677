package migration

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"twinspan/bridge"
)

// Condition is one line of a gate: a KPI over a window within its bounds. Nil bounds do not count.
type Condition struct {
	Phase   Phase
	KPI     KPI
	Min     *float64
	Max     *float64
	Window  time.Duration
	Samples uint64 // fewer: no answer
}

// Config is what an operator may set. All times can be compressed; nothing is skipped.
type Config struct {
	Rules
	CheckEvery time.Duration // of the gates
	// ContactLife is for how long a sign of a Controller counts as contact.
	ContactLife time.Duration
	Gates       []Condition
}

// maxConditions bounds the gates.
const maxConditions = 64

// Default is the cautious one.
func Default() Config {
	at := func(p Phase, k KPI, bound float64, upper bool, window time.Duration, samples uint64) Condition {
		c := Condition{Phase: p, KPI: k, Window: window, Samples: samples}
		if upper {
			c.Max = &bound
		} else {
			c.Min = &bound
		}
		return c
	}
	const day = 24 * time.Hour
	c := Config{
		Rules: Rules{Windows: map[Phase]time.Duration{bridge.PhaseShadow: time.Hour, bridge.PhaseDualCWMP: time.Hour, bridge.PhaseDualUSP: day, bridge.PhaseUSPOnly: 3 * day},
			FailedChecks: 3, UnclearHold: day, Rescue: RescueProbation, LostAfter: day, StableFor: time.Hour},
		CheckEvery: 5 * time.Minute, ContactLife: 15 * time.Minute,
	}
	for _, g := range []struct {
		p                    Phase
		window               time.Duration
		session, requests    float64
		n                    uint64
		delay, lost, reboots float64
	}{
		{bridge.PhaseDualCWMP, day, 0.99, 0.99, 100, 10, 0.001, 1},
		{bridge.PhaseDualUSP, 7 * day, 0.995, 0.995, 500, 5, 0, 2},
		{bridge.PhaseUSPOnly, 14 * day, 0.999, 0.999, 1000, 5, 0, 3},
	} {
		c.Gates = append(c.Gates, at(g.p, KPISession, g.session, false, g.window, 100), at(g.p, KPIRequests, g.requests, false, g.window, g.n),
			at(g.p, KPIDelay, g.delay, true, g.window, 1), at(g.p, KPILost, g.lost, true, g.window, 1),
			at(g.p, KPIProjection, 0, true, 0, 0), at(g.p, KPIUnapplied, 60, true, 0, 0), at(g.p, KPIReboots, g.reboots, false, 0, 0))
	}
	c.Gates = append(c.Gates, at(bridge.PhaseDualCWMP, KPICWMP, 0.98, false, day, 1), at(bridge.PhaseDualCWMP, KPIShadow, 0.005, true, day, 1),
		at(bridge.PhaseDualUSP, KPICWMP, 0.98, false, 7*day, 1), at(bridge.PhaseDualUSP, KPIConflicts, 0.01, true, 7*day, 1),
		at(bridge.PhaseDualUSP, KPIDamped, 0, true, 0, 0), at(bridge.PhaseDualUSP, KPIAgreement, 0.995, false, 0, 1),
		at(bridge.PhaseDualUSP, KPIOps, 1, false, 7*day, 0),
		at(bridge.PhaseUSPOnly, KPIConflicts, 0.001, true, 14*day, 1), at(bridge.PhaseUSPOnly, KPIDamped, 0, true, 0, 0),
		at(bridge.PhaseUSPOnly, KPIAgreement, 0.999, false, 0, 1), at(bridge.PhaseUSPOnly, KPIOps, 1, false, 14*day, 0))
	return c
}

// Replace puts an operator's conditions in the place of the usual ones, for each phase that they speak of.
func (c *Config) Replace(gates []Condition) {
	c.Gates = slices.DeleteFunc(slices.Clone(c.Gates), func(g Condition) bool {
		return slices.ContainsFunc(gates, func(n Condition) bool { return n.Phase == g.Phase })
	})
	c.Gates = append(c.Gates, gates...)
}

// Validate names everything that is wrong.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, p := range slices.Sorted(maps.Keys(c.Windows)) {
		if rank(p) < 1 {
			bad("confirm: there is no move into %q", p)
		} else if c.Windows[p] < time.Second {
			bad("confirm.%s = %s: at least 1s", p, c.Windows[p])
		}
	}
	if c.FailedChecks < 1 {
		bad("failed_checks = %d: at least 1", c.FailedChecks)
	}
	for _, d := range []struct {
		key string
		d   time.Duration
	}{{"check_interval", c.CheckEvery}, {"contact_life", c.ContactLife}, {"hold_after", c.UnclearHold}, {"rescue_after", c.LostAfter}, {"rescue_stable", c.StableFor}} {
		if d.d < 50*time.Millisecond {
			bad("%s = %s: at least 50ms", d.key, d.d)
		}
	}
	if !slices.Contains([]string{RescueOff, RescueProbation, RescueAlways}, c.Rescue) {
		bad("rescue = %q: must be one of off, probation, always", c.Rescue)
	}
	if c.Auto != "" && (rank(c.Auto) < 1 || c.Auto == bridge.PhaseUSPOnly) {
		bad("auto = %q: must be empty or one of shadow, dual-cwmp, dual-usp", c.Auto)
	}
	if len(c.Gates) > maxConditions {
		bad("%d gate conditions, at most %d are taken", len(c.Gates), maxConditions)
	}
	for _, g := range c.Gates {
		switch {
		case rank(g.Phase) < 2:
			bad("gate: %q has none", g.Phase)
		case !slices.Contains(kpis, g.KPI):
			bad("gate of %s: unknown kpi %q", g.Phase, g.KPI)
		case g.Min == nil && g.Max == nil:
			bad("gate of %s: %s needs min or max", g.Phase, g.KPI)
		case g.Window < 0:
			bad("gate of %s: %s has a negative window", g.Phase, g.KPI)
		}
	}
	return errors.Join(errs...)
}

// longest window of all gates.
func (c *Config) longest() time.Duration {
	d := time.Second
	for _, g := range c.Gates {
		d = max(d, g.Window)
	}
	return d
}
