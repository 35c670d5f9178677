package migration

import (
	"context"
	"hash/fnv"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/store"
)

// Limits of the report.
const (
	maxAsserted = 4096 // leaves whose assertions are remembered; the oldest go
	maxListed   = 500  // differences that are listed
	maxShown    = 64   // bytes of a value that is shown
)

// said is what one side wanted of a leaf when it last said so.
type said struct {
	hash    uint64
	shown   string
	writer  string
	rev     uint64
	refused bool
}

// intent is what both sides wanted of a leaf.
type intent struct {
	acs, usp said
}

// intents remember who asserted what, from the journal. Safe for concurrent use.
type intents struct {
	mu    sync.Mutex
	leafs map[string]*intent
}

// side of a writer: the ACS, or a Controller; the local user and the system take no side.
func side(writer string) (acs, usp bool) {
	return writer == "cwmp", strings.HasPrefix(writer, "usp:")
}

// take reads one journal entry and counts its lines.
func (in *intents) take(e *store.Entry) (written, refused uint32) {
	acs, usp := side(e.Meta.Writer)
	in.mu.Lock()
	defer in.mu.Unlock()
	for i := range e.Deltas {
		d := &e.Deltas[i]
		switch d.Op {
		case store.DeltaDeleteRow:
			maps.DeleteFunc(in.leafs, func(path string, _ *intent) bool { return strings.HasPrefix(path, d.Path) })
			continue
		case store.DeltaSet, store.DeltaRefused:
		default:
			continue
		}
		if !acs && !usp || strings.HasSuffix(d.Path, ".") || d.Rule == "sys" { // ParameterKey and what the engine filled in are nobody's wish
			continue
		}
		if d.Op == store.DeltaRefused {
			refused++
		} else {
			written++
		}
		in.assert(d.Path, acs, said{hash: hashOf(d.New), shown: shown(d.New), writer: e.Meta.Writer, rev: e.Rev, refused: d.Op == store.DeltaRefused})
	}
	return written, refused
}

// assert is called with mu held.
func (in *intents) assert(path string, acs bool, s said) {
	it := in.leafs[path]
	if it == nil {
		if len(in.leafs) >= maxAsserted {
			in.forget()
		}
		it = &intent{}
		in.leafs[path] = it
	}
	if acs {
		it.acs = s
	} else {
		it.usp = s
	}
}

// forget drops the eighth that was asserted longest ago.
func (in *intents) forget() {
	newest := func(it *intent) uint64 { return max(it.acs.rev, it.usp.rev) }
	paths := slices.Collect(maps.Keys(in.leafs))
	sort.Slice(paths, func(i, j int) bool { return newest(in.leafs[paths[i]]) < newest(in.leafs[paths[j]]) })
	for _, p := range paths[:len(paths)/8] {
		delete(in.leafs, p)
	}
}

func hashOf(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	return h.Sum64()
}

func shown(s string) string {
	if len(s) > maxShown {
		return strings.ToValidUTF8(s[:maxShown-1], "") + "…"
	}
	return strings.Clone(s)
}

// Difference is one leaf of the report on which the two sides are not one.
type Difference struct {
	Path string `json:"path"`
	// Kind is differ, acs-only, usp-only or projection.
	Kind string `json:"kind"`
	ACS  string `json:"acs,omitempty"` // as it wanted it, shortened; secrets are hashes
	USP  string `json:"usp,omitempty"`
	By   string `json:"usp_writer,omitempty"`
	// Refused names the side whose wish was refused.
	Refused string `json:"refused,omitempty"`
	Since   uint64 `json:"since_revision"`
}

// Report says how far the two sides have converged.
type Report struct {
	Phase      Phase   `json:"phase"`
	Revision   uint64  `json:"revision"`
	ACS        int     `json:"acs_asserted"`
	USP        int     `json:"usp_asserted"`
	Both       int     `json:"both_asserted"`
	Agree      int     `json:"agree"`
	Coverage   float64 `json:"coverage"`  // of the ACS's leaves, those that USP has asserted too
	Agreement  float64 `json:"agreement"` // of those that both asserted, those on which they agree
	Projection int     `json:"projection_diff"`
	Compared   int     `json:"projection_compared"`
	// Differences is sorted by path and cut at 500; More is how many are left out.
	Differences []Difference `json:"differences"`
	More        int          `json:"more,omitempty"`
}

// Convergence compares what both sides asserted, as far as the journal remembers, and reads every stored leaf through
// both views. A leaf on which somebody else's value was found in place already counts for both who want it.
func (m *Migrator) Convergence(ctx context.Context) (Report, error) {
	v := m.engine.Store().Head()
	r := Report{Phase: m.state.Load().Phase, Revision: v.Rev(), Coverage: 1, Agreement: 1}
	in := &m.intents
	in.mu.Lock()
	for _, path := range slices.Sorted(maps.Keys(in.leafs)) {
		it := in.leafs[path]
		d := Difference{Path: path, ACS: it.acs.shown, USP: it.usp.shown, By: it.usp.writer, Since: max(it.acs.rev, it.usp.rev)}
		switch {
		case it.acs.rev != 0 && it.usp.rev != 0:
			r.ACS++
			r.USP++
			r.Both++
			if it.acs.hash == it.usp.hash {
				r.Agree++
				continue
			}
			d.Kind = "differ"
			switch {
			case it.acs.refused:
				d.Refused = "acs"
			case it.usp.refused:
				d.Refused = "usp"
			}
		case it.acs.rev != 0:
			r.ACS++
			d.Kind = "acs-only"
		default:
			r.USP++
			d.Kind = "usp-only"
		}
		r.list(d)
	}
	in.mu.Unlock()
	if r.ACS > 0 {
		r.Coverage = float64(r.Both) / float64(r.ACS)
	}
	if r.Both > 0 {
		r.Agreement = float64(r.Agree) / float64(r.Both)
	}
	return r, m.compareViews(ctx, &r)
}

func (r *Report) list(d Difference) {
	if len(r.Differences) >= maxListed {
		r.More++
		return
	}
	r.Differences = append(r.Differences, d)
}

// compareViews reads every stored leaf that both protocols have through both views: DESIGN invariant 6 on this device.
func (m *Migrator) compareViews(ctx context.Context, r *Report) error {
	cwmp := m.engine.View(bridge.Writer{Name: "sys:migration", Protocol: datamodel.CWMP})
	usp := m.engine.View(bridge.Writer{Name: "sys:migration", Protocol: datamodel.USP})
	schema := m.engine.Schema()
	see := func(v *bridge.View, p datamodel.Protocol, path string, match datamodel.Match) (string, bool) {
		spelt, ok := datamodel.FromCanonical(p, path)
		if !ok {
			return "", false
		}
		match.Path = spelt
		value, err := v.Value(ctx, match)
		if err != nil {
			return "", false
		}
		return datamodel.ToCanonicalValue(p, match.Param.Facts(p), value), true
	}
	v := m.engine.Store().Head()
	v.Walk("", func(path string, l store.Leaf) bool {
		match, ok := schema.Lookup(path)
		if !ok || match.Param == nil || match.Param.Facts(datamodel.CWMP) == nil || match.Param.Facts(datamodel.USP) == nil || l.Flags&store.Secret != 0 {
			return ctx.Err() == nil
		}
		a, okA := see(cwmp, datamodel.CWMP, path, match)
		b, okB := see(usp, datamodel.USP, path, match)
		r.Compared++
		if okA != okB || a != b {
			r.Projection++
			r.list(Difference{Path: path, Kind: "projection", ACS: shown(a), USP: shown(b), Since: l.Rev})
		}
		return ctx.Err() == nil
	})
	return ctx.Err()
}

// Drift is what the two sides did not agree on at the newest check, the first 64 by path. Values are hashes.
func (m *Migrator) Drift() []Difference { return m.gauges.Load().drift }

// maxDrift is how many lines of drift are kept for reading.
const maxDrift = 64

// drifts picks what is drift: the sides want different things, or the views show different things.
func drifts(all []Difference) (out []Difference) {
	for _, d := range all {
		if (d.Kind == "differ" || d.Kind == "projection") && len(out) < maxDrift {
			if d.ACS != "" {
				d.ACS = hex(d.ACS)
			}
			if d.USP != "" {
				d.USP = hex(d.USP)
			}
			out = append(out, d)
		}
	}
	return out
}

func hex(s string) string { return strconv.FormatUint(hashOf(s), 16) }
