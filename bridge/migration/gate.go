package migration

import (
	"strings"
	"time"

	"twinspan/bridge"
)

// Reading is a KPI as it stands.
type Reading struct {
	KPI     KPI           `json:"kpi"`
	Value   float64       `json:"value"`
	Samples uint64        `json:"samples"`
	Window  time.Duration `json:"window"`
}

// GateStatus is a gate as it stands.
type GateStatus struct {
	Phase   Phase   `json:"phase"`
	Verdict Verdict `json:"-"`
	Status  string  `json:"status"`
	// Failed and Unclear are the conditions that stand in the way, in a sentence each.
	Failed  []string `json:"failed,omitempty"`
	Unclear []string `json:"unclear,omitempty"`
	Checks  int      `json:"failed_checks"`
}

// entryOnly are the KPIs that count when a phase is entered, not for staying in it.
func entryOnly(k KPI) bool { return k == KPIReboots || k == KPIOps || k == KPIShadow }

// read is a KPI over a window, and whether that long has been watched at all.
func (m *Migrator) read(k KPI, window time.Duration) (r Reading, enough bool) {
	r = Reading{KPI: k, Window: window}
	g := m.gauges.Load()
	var seen time.Duration
	r.Value, r.Samples, seen = m.meters.value(k, window)
	switch k {
	case KPIDamped:
		r.Value, r.Samples = float64(g.damped), 1
	case KPIProjection:
		r.Value, r.Samples = float64(g.projection), one64(g.converged)
	case KPICoverage:
		r.Value, r.Samples = g.coverage, g.asserted
	case KPIAgreement:
		r.Value, r.Samples = g.agreement, g.both
	case KPIUnapplied:
		r.Value, r.Samples = g.unapplied.Seconds(), 1
	case KPIReboots:
		r.Value, r.Samples = float64(m.state.Load().Reboots), 1
	}
	return r, seen >= window
}

func one64(ok bool) uint64 { return uint64(one(ok)) }

// gate judges the conditions of a phase.
func (m *Migrator) gate(p Phase, entry bool) GateStatus {
	out := GateStatus{Phase: p}
	for _, c := range m.cfg.Gates {
		if c.Phase != p || !entry && entryOnly(c.KPI) {
			continue
		}
		r, enough := m.read(c.KPI, c.Window)
		var b strings.Builder
		b.WriteString(string(c.KPI) + " is " + format(r.Value))
		switch {
		case r.Samples < c.Samples || !enough:
			b.WriteString(", not enough was seen")
			out.Unclear = append(out.Unclear, b.String())
		case c.Min != nil && r.Value < *c.Min:
			b.WriteString(", must be at least " + format(*c.Min))
			out.Failed = append(out.Failed, b.String())
		case c.Max != nil && r.Value > *c.Max:
			b.WriteString(", must be at most " + format(*c.Max))
			out.Failed = append(out.Failed, b.String())
		}
	}
	switch {
	case len(out.Failed) > 0:
		out.Verdict = Fail
	case len(out.Unclear) > 0:
		out.Verdict = Unclear
	default:
		out.Verdict = Pass
	}
	out.Status = out.Verdict.String()
	return out
}

// Gates are all gates as they stand; Checks is set for the phase in force.
func (m *Migrator) Gates() []GateStatus {
	s := m.state.Load()
	var out []GateStatus
	for _, p := range path[2:] {
		g := m.gate(p, true)
		if p == s.Phase {
			g.Checks = s.Fails
		}
		out = append(out, g)
	}
	return out
}

// KPIs are all figures over the longest window that a gate looks at.
func (m *Migrator) KPIs() []Reading {
	var out []Reading
	for _, k := range kpis {
		window := time.Duration(0)
		for _, c := range m.cfg.Gates {
			if c.KPI == k {
				window = max(window, c.Window)
			}
		}
		if window == 0 {
			window = m.cfg.longest()
		}
		r, _ := m.read(k, window)
		out = append(out, r)
	}
	return out
}

// ACS is what Controllers may know of the CWMP side.
type ACS struct {
	Enabled bool
	URL     string
	// Ready: a rescue would go there.
	Ready bool
	Last  time.Time // end of the newest session since the start; zero for none
	OK    bool      // how it ended
}

// ACS tells of the CWMP side.
func (m *Migrator) ACS() ACS {
	v := m.engine.Store().Head()
	on, _ := v.Leaf(enableCWMP)
	url, _ := v.Leaf(acsURL)
	a := ACS{Enabled: on.Value == "true", URL: url.Value}
	a.Ready = m.cfg.Rescue != RescueOff && strings.HasPrefix(strings.ToLower(a.URL), "https://")
	m.meters.mu.Lock()
	defer m.meters.mu.Unlock()
	a.Last, a.OK = m.meters.session, !m.meters.acsDown && !m.meters.session.IsZero()
	return a
}

// facts finds out what the machine must know.
func (m *Migrator) facts() Facts {
	v := m.engine.Store().Head()
	f := Facts{Controllers: m.controllers(v), USPUp: m.inContact()}
	acs, _ := v.Leaf(acsURL)
	f.ACSKnown, f.ACSSecure = acs.Value != "", strings.HasPrefix(strings.ToLower(acs.Value), "https://")
	m.meters.mu.Lock()
	f.ACSDown = m.meters.acsDown
	m.meters.mu.Unlock()
	f.WANUp = m.wanUp()
	f.Slot = m.opt.Slot != nil && !m.noSlot.Load() && m.opt.Slot.Untried()
	f.Gates[0], f.Gates[1] = Pass, Pass
	for i, p := range path[2:] {
		f.Gates[i+2] = m.gate(p, true).Verdict
	}
	f.Stay = Pass
	if s := m.state.Load(); rank(s.Phase) >= rank(bridge.PhaseDualCWMP) {
		f.Stay = m.gate(s.Phase, false).Verdict
	}
	return f
}
