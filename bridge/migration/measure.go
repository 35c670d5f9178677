package migration

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"twinspan/bridge"
)

// measure takes the figures that are not counted.
func (m *Migrator) measure(ctx context.Context, now time.Time) {
	g := &gauges{coverage: 1, agreement: 1}
	if m.opt.Damped != nil {
		g.damped = m.opt.Damped()
	}
	if m.engine.Unapplied() == 0 {
		m.stuck = time.Time{}
	} else if m.stuck.IsZero() {
		m.stuck = now
	} else {
		g.unapplied = now.Sub(m.stuck)
	}
	if r, err := m.Convergence(ctx); err == nil {
		g.converged, g.projection, g.coverage, g.agreement = true, r.Projection, r.Coverage, r.Agreement
		g.asserted, g.both, g.drift = uint64(r.ACS), uint64(r.Both), drifts(r.Differences)
	}
	m.drifted(m.gauges.Swap(g).drift, g.drift)
}

// drifted tells of drift that was not there at the check before.
func (m *Migrator) drifted(before, now []Difference) {
	for _, d := range now {
		if m.opt.Object == "" || slices.ContainsFunc(before, func(o Difference) bool { return o.Path == d.Path && o.Kind == d.Kind }) {
			continue
		}
		m.opt.Emit(bridge.Event{Kind: bridge.EventModel, Path: m.opt.Object, Name: "DriftDetected!", Args: map[string]string{
			"Path": d.Path, "Kind": d.Kind, "ACSValue": d.ACS, "USPValue": d.USP, "Since": strconv.FormatUint(d.Since, 10)}})
	}
}

// keepMeters makes the figures survive a restart.
func (m *Migrator) keepMeters() {
	if m.reset {
		return
	}
	mt := m.meters
	mt.mu.Lock()
	data, err := json.Marshal(kept{mt.step, mt.at, mt.seen, mt.rings})
	mt.mu.Unlock()
	if err == nil {
		_, err = m.engine.Apply(context.Background(), bridge.Writer{Name: "sys:migration", Class: bridge.ClassSys, System: true},
			bridge.Change{Ref: "meters", Records: []bridge.Record{{Bucket: bucket, Key: metersKey, Data: data}}})
	}
	if err != nil {
		m.log.Error("the figures of the gates could not be kept", "error", err)
	}
}
