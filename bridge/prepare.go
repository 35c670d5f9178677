package bridge

import (
	"context"
	"errors"
	"slices"

	"twinspan/datamodel"
	"twinspan/store"
)

// writes lists what providers must hear of: one entry a path, the last value, in order of the first mention.
func (r *run) writes() []datamodel.Write {
	if !r.cat.hasAppliers() {
		return nil
	}
	var out []datamodel.Write
	at := map[string]int{}
	for i := range r.effects {
		ef := &r.effects[i]
		if ef.same || ef.command || ef.op == store.DeltaAttr {
			continue
		}
		wanted := false
		r.cat.appliers(ef.object, ef.param, func(*provided) { wanted = true })
		if !wanted {
			continue
		}
		w := datamodel.Write{Path: ef.path, Value: ef.value, Deleted: ef.op == store.DeltaDeleteRow, Added: ef.op == store.DeltaAddRow}
		if ef.act {
			w.By = r.w.caller()
		}
		if k, ok := at[ef.path]; ok {
			out[k] = w
			continue
		}
		at[ef.path] = len(out)
		out = append(out, w)
	}
	return out
}

// prepare asks every provider concerned for its veto, outside the store's transaction. A veto that names a write of the candidate
// fails that setting alone, when the candidate is staged again; any other fails the change. The next stage compares the candidate
// with the one that was prepared.
func (e *Engine) prepare(ctx context.Context, r *run) error {
	for _, b := range e.split(r.cat, r.prepared) {
		err := e.call(ctx, b.p, "Prepare", prepareBudget, func(ctx context.Context) error {
			return b.p.applier.Prepare(ctx, b.writes)
		})
		if err == nil || r.veto(err) {
			continue
		}
		var de *datamodel.Error
		if errors.As(err, &de) {
			c := *de
			c.Path = spell(r.w.Protocol, c.Path)
			err = &c
		} else {
			err = &datamodel.Error{Reason: datamodel.ValueConflict, Text: "the device refuses it", Err: err}
		}
		for i := range r.out {
			if r.out[i].Err == nil {
				r.out[i].Err = err
			}
		}
		return err
	}
	return nil
}

// veto blames the settings whose writes an error names (it may be several, joined) and reports whether all of it could be blamed.
func (r *run) veto(err error) bool {
	if list, ok := err.(interface{ Unwrap() []error }); ok {
		all := true
		for _, one := range list.Unwrap() {
			all = r.veto(one) && all
		}
		return all
	}
	var de *datamodel.Error
	if !errors.As(err, &de) || de.Path == "" {
		return false
	}
	blamed := false
	for i := range r.effects {
		if ef := &r.effects[i]; ef.path == de.Path && ef.from.op >= 0 && !ef.same {
			c := *de
			c.Path = spell(r.w.Protocol, c.Path)
			if r.vetoed == nil {
				r.vetoed = map[maskKey]error{}
			}
			r.vetoed[ef.from], blamed = &c, true
		}
	}
	return blamed
}

type providerWrites struct {
	p      *provided
	writes []datamodel.Write
}

// split gives each applier what it asked for.
func (e *Engine) split(cat *catalog, writes []datamodel.Write) []providerWrites {
	var out []providerWrites
	for _, w := range writes {
		m, ok := e.schema.Lookup(w.Path)
		if !ok {
			continue
		}
		cat.appliers(m.Object, m.Param, func(p *provided) {
			i := slices.IndexFunc(out, func(b providerWrites) bool { return b.p == p })
			if i < 0 {
				i = len(out)
				out = append(out, providerWrites{p: p})
			}
			if ws := out[i].writes; len(ws) == 0 || ws[len(ws)-1].Path != w.Path {
				out[i].writes = append(out[i].writes, w)
			}
		})
	}
	return out
}

// staged answers live values inside a transaction from what was fetched before; what is not there is noted, fetched
// outside, and the change is staged again.
type staged struct {
	vals  map[string]map[string]string
	tabs  map[string][]uint32
	wantV map[string]*datamodel.Object
	wantT map[string]*datamodel.Object
}

func (s *staged) values(_ *store.Version, o *datamodel.Object, path string) map[string]string {
	m, ok := s.vals[path]
	if !ok {
		if s.wantV == nil {
			s.wantV = map[string]*datamodel.Object{}
		}
		s.wantV[path] = o
	}
	return m
}

func (s *staged) rows(o *datamodel.Object, table string) []uint32 {
	t, ok := s.tabs[table]
	if !ok {
		if s.wantT == nil {
			s.wantT = map[string]*datamodel.Object{}
		}
		s.wantT[table] = o
	}
	return t
}

func (s *staged) missed() bool { return len(s.wantV)+len(s.wantT) > 0 }

func (r *run) fetch(ctx context.Context) {
	s := r.live
	if s.vals == nil {
		s.vals, s.tabs = map[string]map[string]string{}, map[string][]uint32{}
	}
	head := r.e.store.Head()
	for path, o := range s.wantV {
		s.vals[path] = r.e.readObject(ctx, r.cat, head, o, path, nil)
	}
	for table, o := range s.wantT {
		s.tabs[table] = r.e.listRows(ctx, r.cat.lists[o], table)
	}
	s.wantV, s.wantT = nil, nil
}
