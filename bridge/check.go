package bridge

import (
	"slices"
	"sort"
	"strconv"
	"strings"

	"twinspan/datamodel"
	"twinspan/store"
)

// tuple is the value of a unique key of a row; ok is false while a part of it is empty.
func (r *run) tuple(obj *datamodel.Object, k *datamodel.UniqueKey, row string) (string, bool) {
	parts := make([]string, 0, len(k.Params))
	for _, name := range k.Params {
		p := obj.Param(name)
		if p == nil || r.cat.liveFor(p) != nil {
			return "", false
		}
		l, ok := r.tx.Staged().Leaf(row + name)
		if !ok {
			l.Value = defaultOf(p, p.Any())
		}
		if l.Value == "" && !emptyCounts(p, len(k.Params)) {
			return "", false
		}
		parts = append(parts, l.Value)
	}
	return strings.Join(parts, "\x00"), true
}

// emptyCounts tells whether "" is a value like any other in a unique key of several parameters: the model's own default for new
// rows says so (the RemoteHost of a port mapping: any host). Elsewhere an empty part means that the key is not given yet.
func emptyCounts(p *datamodel.Param, parts int) bool {
	f := p.Any()
	return parts > 1 && f.HasDefault && !f.FactoryOnly && f.Default == ""
}

// check looks at the final staged state: unique keys, strong references, a manager that stays reachable. What is wrong
// is blamed on the setting that did it; check reports whether there is something new to blame.
func (r *run) check() bool {
	before := len(r.masked)
	r.checkKeys()
	if !r.w.System {
		r.checkRefs()
		r.checkReachable()
	}
	return len(r.masked) > before
}

func (r *run) blame(k maskKey, reason datamodel.Reason, path, text string) {
	if _, done := r.masked[k]; !done && k.op >= 0 {
		r.masked[k] = datamodel.Fail(reason, r.spell(path), text)
	}
}

// checkKeys judges uniqueness after the whole change (usp.md 4.0), so that values may be swapped in one message.
func (r *run) checkKeys() {
	type touch struct {
		row  string
		obj  *datamodel.Object
		from maskKey
		seq  int
	}
	tables := map[string]map[string]touch{} // table -> row -> last touch of a key
	for i := range r.effects {
		ef := &r.effects[i]
		row := ef.path
		switch {
		case ef.op == store.DeltaAddRow:
		case ef.op == store.DeltaSet && ef.param != nil && !ef.same && ef.object.Multi && keyParam(ef.param):
			row = ef.path[:len(ef.path)-len(ef.param.Name)]
		default:
			continue
		}
		table := parentPath(row)
		if tables[table] == nil {
			tables[table] = map[string]touch{}
		}
		old, had := tables[table][row]
		t := touch{row, ef.object, ef.from, i}
		if had && ef.from.setting < 0 && old.from.setting >= 0 {
			t.from = old.from // a generated value does not take the blame from a given one
		}
		tables[table][row] = t
	}
	v := r.tx.View()
	for table, touched := range tables {
		var obj *datamodel.Object
		for _, t := range touched {
			obj = t.obj
		}
		for ki := range obj.Keys {
			k := &obj.Keys[ki]
			seen := map[string]string{}
			rows := slices.Clone(v.Instances(table))
			// Untouched rows first, then in the order of their last touch: the later one takes the blame.
			path := func(n uint32) string { return table + strconv.FormatUint(uint64(n), 10) + "." }
			seq := func(n uint32) int {
				if t, ok := touched[path(n)]; ok {
					return t.seq
				}
				return -1
			}
			sort.SliceStable(rows, func(i, j int) bool { return seq(rows[i]) < seq(rows[j]) })
			for _, n := range rows {
				row := path(n)
				val, ok := r.tuple(obj, k, row)
				if !ok {
					continue
				}
				other, dup := seen[val]
				if !dup {
					seen[val] = row
				} else if t, mine := touched[row]; mine {
					r.blame(t.from, datamodel.DuplicateKey, row, strings.Join(k.Params, "+")+" is taken by "+r.spell(other))
				}
			}
		}
	}
}

// checkRefs: strong references name something that exists (R-ARC.12).
func (r *run) checkRefs() {
	var t *tree
	for i := range r.effects {
		ef := &r.effects[i]
		if ef.op != store.DeltaSet || ef.same || ef.act || ef.param == nil || ef.value == "" || ef.rule == "reference" || !isStrong(ef.param) {
			continue
		}
		f := ef.param.Any()
		items := []string{ef.value}
		if f.List {
			items = strings.Split(ef.value, ",")
		}
		if l, ok := r.tx.Staged().Leaf(ef.path); !ok || l.Value != ef.value {
			continue // overwritten or deleted since
		}
		if t == nil {
			t = r.tree()
		}
		for _, it := range items {
			if it == "" {
				continue
			}
			if !r.refersTo(t, f, it) {
				r.blame(ef.from, datamodel.InvalidValue, ef.path, "refers to "+r.spell(it)+", which does not exist or is not allowed here")
				break
			}
		}
	}
}

func (r *run) refersTo(t *tree, f *datamodel.Facts, item string) bool {
	path := item
	if f.PathRef.Target != "parameter" {
		path += "."
	}
	m, ok := r.e.schema.Lookup(path)
	if !ok || m.Table {
		return false
	}
	if !t.exists(path) {
		return false
	}
	if f.PathRef.Target != "row" || len(f.PathRef.Parents) == 0 {
		return true
	}
	return slices.ContainsFunc(f.PathRef.Parents, func(parent string) bool {
		return m.Object.TablePath() == parent || m.Object.Path == parent
	})
}

// exists checks every row on a canonical path.
func (t *tree) exists(path string) bool {
	from := 0
	for {
		dot := strings.IndexByte(path[from:], '.')
		if dot < 0 {
			return true
		}
		if n, ok := rowNumber(path[from : from+dot]); ok && !t.HasInstance(path[:from], n) {
			return false
		}
		from += dot + 1
	}
}
