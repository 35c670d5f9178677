package bridge

import (
	"strings"

	"twinspan/datamodel"
)

// pureValue is what can be said of a setting without the tree.
type pureValue struct {
	param *datamodel.Param
	value string
	err   error
}

// forecast does outside the store's writer goroutine what needs no tree: the canonical form of values under plain
// paths. References are left to the transaction.
func (r *run) forecast() {
	r.pure, r.plain = make([][]pureValue, len(r.c.Ops)), make([]datamodel.Match, len(r.c.Ops))
	all := make([]pureValue, r.c.settings())
	for i := range r.c.Ops {
		op := &r.c.Ops[i]
		if len(op.Settings) == 0 || op.Alias != "" || strings.ContainsAny(op.Path, "*[#+") {
			continue
		}
		object, ok := toCanonical(r.w.Protocol, op.Path)
		if !ok {
			continue
		}
		m, ok := r.e.schema.Lookup(object)
		if !ok {
			continue
		}
		if op.Kind == OpSet && r.plainly(m, object) {
			r.plain[i] = m
		}
		for j := range op.Settings {
			p := m.Object.Param(op.Settings[j].Name)
			if p == nil {
				continue
			}
			if f := r.facts(p); f != nil && f.PathRef == nil {
				value, err := f.Canonical(op.Settings[j].Value)
				if n := len(op.Settings); r.pure[i] == nil {
					r.pure[i], all = all[:n:n], all[n:]
				}
				r.pure[i][j] = pureValue{p, value, err}
			}
		}
	}
}

// plainly reports whether a path without searches is that of an object which the writer's protocol knows, so that resolving it has
// but to find the rows.
func (r *run) plainly(m datamodel.Match, path string) bool {
	if r.w.Protocol == 0 || m.Table || path[len(path)-1] != '.' || strings.IndexByte(path, '{') >= 0 {
		return false
	}
	for o := m.Object; o.Parent != nil; o = o.Parent {
		if !o.Protocols.Has(r.w.Protocol) {
			return false
		}
	}
	return true
}
