package bridge

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"twinspan/datamodel"
	"twinspan/store"
)

// live is where a tree gets what is not stored. There are two: direct asks the providers, staged answers from what was
// fetched before, since nothing may block on the store's writer goroutine.
type live interface {
	// values returns the live parameters of one object instance (canonical path).
	values(v *store.Version, o *datamodel.Object, path string) map[string]string
	// rows returns the rows of a table that is not stored.
	rows(o *datamodel.Object, table string) []uint32
}

// direct asks the providers, each object once for its own lifetime (one message).
type direct struct {
	e    *Engine
	cat  *catalog
	vals map[string]map[string]string
	tabs map[string][]uint32
}

func (d *direct) values(v *store.Version, o *datamodel.Object, path string) map[string]string {
	if m, ok := d.vals[path]; ok {
		return m
	}
	m := d.e.readObject(context.Background(), d.cat, v, o, path, nil)
	if d.vals == nil {
		d.vals = map[string]map[string]string{}
	}
	d.vals[path] = m
	return m
}

func (d *direct) rows(o *datamodel.Object, table string) []uint32 {
	if r, ok := d.tabs[table]; ok {
		return r
	}
	r := d.e.listRows(context.Background(), d.cat.lists[o], table)
	if d.tabs == nil {
		d.tabs = map[string][]uint32{}
	}
	d.tabs[table] = r
	return r
}

// listRows asks a Lister. Trouble is logged and gives an empty table.
func (e *Engine) listRows(ctx context.Context, p *provided, table string) []uint32 {
	res := make(chan []uint32, 1)
	err := e.call(ctx, p, "Instances", readBudget, func(ctx context.Context) error {
		ns, err := p.lister.Instances(ctx, table)
		if err == nil && !slices.IsSorted(ns) {
			ns = slices.Clone(ns)
			slices.Sort(ns)
		}
		res <- ns
		return err
	})
	if err != nil {
		if p.mayWarn() {
			e.log.Warn("provider could not list rows", "provider", p.Name(), "table", table, "error", err)
		}
		return nil
	}
	return <-res
}

// readObject reads the live values of one object: one call for each provider that serves some of it. only restricts
// the parameters (nil: all).
func (e *Engine) readObject(ctx context.Context, cat *catalog, v *store.Version, o *datamodel.Object, path string, only *datamodel.Param) map[string]string {
	type batch struct {
		p     *provided
		names []string
	}
	var batches []batch
	add := func(p *datamodel.Param) {
		d := cat.liveFor(p)
		if d == nil || cat.counts[p] != nil {
			return
		}
		for i := range batches {
			if batches[i].p == d {
				batches[i].names = append(batches[i].names, p.Name)
				return
			}
		}
		batches = append(batches, batch{d, []string{p.Name}})
	}
	if only != nil {
		add(only)
	} else {
		for _, p := range o.Params {
			add(p)
		}
	}
	var out map[string]string
	for _, b := range batches {
		got, err := e.readFrom(ctx, b.p, v, o, path, b.names)
		if err != nil {
			if b.p.mayWarn() {
				e.log.Warn("provider could not read", "provider", b.p.Name(), "object", path, "error", err)
			}
			continue
		}
		if out == nil {
			out = got
			continue
		}
		for k, val := range got {
			out[k] = val
		}
	}
	return out
}

func (e *Engine) readFrom(ctx context.Context, p *provided, v *store.Version, o *datamodel.Object, path string, names []string) (map[string]string, error) {
	res := make(chan map[string]string, 1)
	err := e.call(ctx, p, "Read", readBudget, func(ctx context.Context) error {
		got := make(map[string]string, len(names))
		err := p.Read(ctx, objectRef(v, o, path), names, func(name, value string) { got[name] = value })
		res <- got
		return err
	})
	if err != nil {
		return nil, err
	}
	got := <-res
	for name, value := range got {
		prm := o.Param(name)
		if prm == nil {
			delete(got, name)
			continue
		}
		if prm.Any().Type == datamodel.TypeBoolean { // the one non-canonical form that drivers really give
			switch value {
			case "0":
				got[name] = "false"
			case "1":
				got[name] = "true"
			}
		}
	}
	return got, nil
}

func objectRef(v *store.Version, o *datamodel.Object, path string) datamodel.ObjectRef {
	return datamodel.ObjectRef{Path: path, Schema: o, Stored: func(p string) string {
		l, _ := v.Leaf(p)
		return l.Value
	}}
}

// tree is what datamodel.Resolve walks: a version, the providers, and the rights of the one who asks.
type tree struct {
	w   *Writer
	cat *catalog
	s   *datamodel.Schema
	v   *store.Version
	// base is what rights are judged by; it differs from v inside a transaction.
	base *store.Version
	live live
}

func (t *tree) listed(table string) *datamodel.Object {
	if len(t.cat.lists) == 0 {
		return nil
	}
	if m, ok := t.s.Lookup(table); ok && t.cat.lists[m.Object] != nil {
		return m.Object
	}
	return nil
}

// rows of a table whose schema object is known.
func (t *tree) rows(o *datamodel.Object, table string) []uint32 {
	if len(t.cat.lists) != 0 && t.cat.lists[o] != nil {
		return t.live.rows(o, table)
	}
	return t.v.Instances(table)
}

func (t *tree) Instances(table string) []uint32 {
	if o := t.listed(table); o != nil {
		return t.live.rows(o, table)
	}
	return t.v.Instances(table)
}

func (t *tree) HasInstance(table string, n uint32) bool {
	if o := t.listed(table); o != nil {
		_, ok := slices.BinarySearch(t.live.rows(o, table), n)
		return ok
	}
	return t.v.HasInstance(table, n)
}

// count is the value of a NumberOfEntries parameter: it is computed from the rows, never stored.
func (t *tree) count(child *datamodel.Object, table string) string {
	return strconv.Itoa(len(t.rows(child, table)))
}

// Value serves search expressions and references: what the writer may not read does not match (usp.md 7.5).
func (t *tree) Value(p *datamodel.Param, path string) (string, bool) {
	f := factsOf(p, t.w.Protocol)
	if f == nil || !t.w.may(t.base, path, ReadParam) {
		return "", false
	}
	if f.Hidden || f.Secured && !t.w.secured(t.base) {
		return "", true
	}
	return t.raw(p, f, path), true
}

// raw is the canonical value without rights and masks: live, stored, default, zero.
func (t *tree) raw(p *datamodel.Param, f *datamodel.Facts, path string) string {
	if child := t.cat.counts[p]; child != nil {
		return t.count(child, path[:len(path)-len(p.Name)]+child.Name+".")
	}
	if t.cat.liveFor(p) != nil {
		obj := path[:len(path)-len(p.Name)]
		if val, ok := t.live.values(t.v, p.Object, obj)[p.Name]; ok {
			return val
		}
	}
	if l, ok := t.v.Leaf(path); ok {
		return l.Value
	}
	return defaultOf(p, f)
}

// may reports a right of the writer, true for everything without Rights.
func (w *Writer) may(v *store.Version, path string, r Right) bool {
	return w.Rights == nil || w.System || w.Rights.Allow(v, path, r)
}

// Shows reports whether the writer may read the value, or know of the row, at a canonical path: for what is told of several paths
// by one command. A Writer without Rights may.
func (w Writer) Shows(v *store.Version, path string) bool {
	if strings.HasSuffix(path, ".") {
		return w.may(v, path, ReadInst)
	}
	return w.may(v, path, ReadParam)
}

// Visible is an entry with the lines that the writer may see, nil if none is left.
func (w Writer) Visible(v *store.Version, e *store.Entry) *store.Entry {
	if w.Rights == nil || w.System {
		return e
	}
	kept := *e
	kept.Deltas = nil
	for i := range e.Deltas {
		if w.Shows(v, e.Deltas[i].Path) {
			kept.Deltas = append(kept.Deltas, e.Deltas[i])
		}
	}
	if len(kept.Deltas) == 0 {
		return nil
	}
	return &kept
}

// secured reports whether secured values may be read. Without Rights only internal writers may: the ACS has no
// SecuredRoles (usp.md 15.3, 8).
func (w *Writer) secured(v *store.Version) bool {
	return w.System || w.Rights != nil && w.Rights.Secured(v)
}

// defaultOf is the value of a parameter that nobody wrote. A factory default counts only outside tables: rows made by
// a manager start without it.
func defaultOf(p *datamodel.Param, f *datamodel.Facts) string {
	if f.HasDefault && (!f.FactoryOnly || !inTable(p.Object)) {
		return f.Default
	}
	return f.Zero()
}

func inTable(o *datamodel.Object) bool {
	for ; o != nil; o = o.Parent {
		if o.Multi {
			return true
		}
	}
	return false
}
