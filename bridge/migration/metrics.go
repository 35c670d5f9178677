package migration

import (
	"fmt"
	"io"
	"strings"
)

// WriteMetrics writes every figure in the text format of Prometheus, version 0.0.4.
func (m *Migrator) WriteMetrics(w io.Writer) error {
	var b strings.Builder
	family := func(name, kind, help string) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
	}
	s := m.State()
	family("twinspan_phase", "gauge", "The phase in force has 1.")
	for _, p := range append(append([]Phase(nil), path...), Rescue) {
		fmt.Fprintf(&b, "twinspan_phase{phase=%q} %d\n", string(p), one(p == s.Phase))
	}
	family("twinspan_phase_moves_total", "counter", "Moves of the phase since the first start.")
	fmt.Fprintf(&b, "twinspan_phase_moves_total %d\n", s.Epoch)
	family("twinspan_phase_pending_seconds", "gauge", "What is left of the confirm window, 0 when none is open.")
	fmt.Fprintf(&b, "twinspan_phase_pending_seconds %s\n", format(s.Pending.Left.Seconds()))
	family("twinspan_phase_held", "gauge", "1 when moves forward are held.")
	fmt.Fprintf(&b, "twinspan_phase_held %d\n", one(s.Held))
	family("twinspan_revision", "counter", "Newest commit.")
	fmt.Fprintf(&b, "twinspan_revision %d\n", m.engine.Store().Head().Rev())
	readings := m.KPIs()
	family("twinspan_kpi", "gauge", "Figures that the gates look at: ratios, or seconds.")
	for _, r := range readings {
		fmt.Fprintf(&b, "twinspan_kpi{kpi=%q} %s\n", string(r.KPI), format(r.Value))
	}
	family("twinspan_kpi_samples", "gauge", "How many observations a figure is made from.")
	for _, r := range readings {
		fmt.Fprintf(&b, "twinspan_kpi_samples{kpi=%q} %d\n", string(r.KPI), r.Samples)
	}
	family("twinspan_gate", "gauge", "Gates by the phase they open: 1 pass, 0 fail, -1 inconclusive.")
	for _, g := range m.Gates() {
		fmt.Fprintf(&b, "twinspan_gate{phase=%q} %d\n", string(g.Phase), map[Verdict]int{Pass: 1, Fail: 0, Unclear: -1}[g.Verdict])
	}
	_, err := io.WriteString(w, b.String())
	return err
}
