package bridge

import (
	"slices"
	"strconv"
	"strings"

	"twinspan/datamodel"
	"twinspan/store"
)

// opAdd stages new rows, one in each table that the path names.
func (r *run) opAdd(i int, op *Op, o *Outcome) {
	pol := r.policy()
	pol.AllowTable = true
	ms, ok := r.resolve(op, pol, o)
	if !ok {
		return
	}
	settings := op.Settings
	if op.Alias != "" {
		settings = append([]Setting{{Name: "Alias", Value: op.Alias, Required: true}}, settings...)
	}
	o.Objects = make([]ObjectOutcome, len(ms))
	bad := 0
	for k, m := range ms {
		oo := &o.Objects[k]
		oo.Path = r.spell(m.Path)
		sp, mark := r.tx.Savepoint(), len(r.effects)
		r.addRow(i, m, settings, oo)
		if oo.Err == nil {
			continue
		}
		r.tx.RollbackTo(sp)
		r.effects = r.effects[:mark]
		if bad++; r.c.Atomic || bad == len(ms) { // R-ADD.2a
			o.Err = oo.Err
		}
	}
}

// addRow stages one row. The errors of its settings are in oo.Params; oo.Err says that it was not made.
func (r *run) addRow(i int, m datamodel.Match, settings []Setting, oo *ObjectOutcome) {
	key := maskKey{i, m.Path, -1}
	if err := r.masked[key]; err != nil {
		oo.Err = err
		return
	}
	if oo.Err = r.mayAdd(m); oo.Err != nil {
		return
	}
	n, err := r.tx.AddRow(m.Path)
	if err != nil {
		oo.Err = r.storeError(m.Path, err)
		return
	}
	row := m.Path + strconv.FormatUint(uint64(n), 10) + "."
	oo.Path = r.spell(row)
	ef := effect{op: store.DeltaAddRow, path: row, object: m.Object, from: key}
	if !r.w.System {
		ef.verdict, ef.rule = r.adding.Text, r.adding.Rule
		r.remember(&ef, r.addingAs)
	}
	r.effects = append(r.effects, ef)
	required := map[string]bool{}
	for _, k := range m.Object.Keys { // usp.md 4.6: given keys are required
		for _, name := range k.Params {
			required[name] = true
		}
	}
	r.settings(key, m.Object, row, settings, required, oo)
	if oo.Err != nil {
		return
	}
	if oo.Err = r.fill(key, m.Object, m.Path, row, n, settings); oo.Err != nil {
		return
	}
	oo.Keys = r.keys(m.Object, row)
}

// mayAdd checks that the writer can add a row to a table, and that there is room.
func (r *run) mayAdd(m datamodel.Match) error {
	path := r.spell(m.Path)
	switch {
	case !m.Table:
		return datamodel.Fail(datamodel.NotTable, path, "")
	case r.cat.lists[m.Object] != nil, !r.w.System && m.Object.Access(r.w.Protocol) != datamodel.ReadWrite:
		return datamodel.Fail(datamodel.NotCreatable, path, "")
	case !r.w.may(r.baseV, m.Path, AddRow):
		return datamodel.Fail(datamodel.Denied, path, "")
	}
	rows := len(r.tx.Staged().Instances(m.Path))
	if limit, ok := r.e.maxRows[m.Object]; ok && rows >= limit {
		return datamodel.Fail(datamodel.Resources, path, "at most "+strconv.Itoa(limit)+" rows")
	}
	if r.w.System {
		return nil
	}
	p := Proposal{Writer: r.w, Path: m.Path, Create: true}
	v, err := r.decide(&p, false)
	r.adding, r.addingAs = v, &p
	return err
}

// fill gives a new row what the device has to provide: values for unique keys that were not given (R-ADD.5), and who
// made it and when, where the model has read-only parameters for that.
func (r *run) fill(key maskKey, obj *datamodel.Object, table, row string, n uint32, given []Setting) error {
	has := func(name string) bool {
		_, ok := r.tx.Staged().Leaf(row + name)
		return ok || slices.ContainsFunc(given, func(s Setting) bool { return s.Name == name })
	}
	set := func(p *datamodel.Param, value string) error {
		value, err := p.Any().Canonical(value)
		if err != nil { // the model forbids what we would generate: leave it to the default
			return nil //nolint:nilerr // see above
		}
		flags := secretFlag(p)
		if err := r.tx.Set(row+p.Name, value, flags); err != nil {
			return r.storeError(row+p.Name, err)
		}
		r.effects = append(r.effects, effect{op: store.DeltaSet, path: row + p.Name, value: value, object: obj, param: p,
			from: key, flags: flags, verdict: "generated", rule: "sys"})
		return nil
	}
	for _, p := range obj.Params {
		if has(p.Name) {
			continue
		}
		if value := r.madeBy(p); value != "" {
			if err := set(p, value); err != nil {
				return err
			}
		}
	}
	for _, k := range obj.Keys {
		for _, name := range k.Params {
			p := obj.Param(name)
			if p == nil || has(name) || emptyCounts(p, len(k.Params)) {
				continue
			}
			if value := r.generate(p, table, row, n, len(k.Params) == 1); value != "" {
				if err := set(p, value); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// madeBy gives Recipient, Controller and CreationDate of new rows (usp.md 9.1): the row of the writing Controller.
func (r *run) madeBy(p *datamodel.Param) string {
	f := p.Any()
	if f.Access != datamodel.ReadOnly {
		return ""
	}
	switch p.Name {
	case "Recipient", "Controller":
		if f.PathRef == nil || !f.PathRef.Strong {
			return ""
		}
		endpoint, ok := strings.CutPrefix(r.w.Name, "usp:")
		if !ok {
			return ""
		}
		const table = "Device.LocalAgent.Controller."
		v := r.tx.View()
		for _, n := range v.Instances(table) {
			row := table + strconv.FormatUint(uint64(n), 10)
			if l, ok := v.Leaf(row + ".EndpointID"); ok && l.Value == endpoint {
				return row
			}
		}
	case "CreationDate":
		if f.Type == datamodel.TypeDateTime {
			return r.now.UTC().Format("2006-01-02T15:04:05Z")
		}
	}
	return ""
}

// generate invents a value for a key parameter of a new row; "" leaves it to the default. What a person could not have
// meant (enumerations, references, patterns) is not invented. CWMP rows start with an empty functional key, which the
// ACS fills in later (usp.md 15.3); such rows are incomplete and collide with nothing.
func (r *run) generate(p *datamodel.Param, table, row string, n uint32, alone bool) string {
	f := p.Any()
	if f.Access == datamodel.ReadOnly || f.PathRef != nil || len(f.Enum) > 0 || f.EnumRef != "" || len(f.Patterns) > 0 || f.List {
		return ""
	}
	switch f.Type {
	case datamodel.TypeString:
		if p.Name != "Alias" && (r.w.Protocol == datamodel.CWMP || f.Named != "") {
			return ""
		}
		value := "cpe-" + strconv.FormatUint(uint64(n), 10)
		for i := 2; r.taken(p, table, row, value); i++ {
			value = "cpe-" + strconv.FormatUint(uint64(n), 10) + "-" + strconv.Itoa(i)
		}
		return value
	case datamodel.TypeInt, datamodel.TypeUnsignedInt, datamodel.TypeLong, datamodel.TypeUnsignedLong:
		if alone {
			return r.nextFree(p, f, table, row)
		}
	}
	return ""
}

func (r *run) siblings(table, row string, fn func(sibling string) bool) {
	for _, n := range r.tx.View().Instances(table) {
		if s := table + strconv.FormatUint(uint64(n), 10) + "."; s != row && !fn(s) {
			return
		}
	}
}

func (r *run) taken(p *datamodel.Param, table, row, value string) bool {
	found := false
	r.siblings(table, row, func(s string) bool {
		l, ok := r.tx.Staged().Leaf(s + p.Name)
		found = ok && l.Value == value
		return !found
	})
	return found
}

// nextFree is one more than the greatest value in the table, or the smallest free one if that is out of range.
func (r *run) nextFree(p *datamodel.Param, f *datamodel.Facts, table, row string) string {
	used := map[int64]bool{}
	next := int64(1)
	r.siblings(table, row, func(s string) bool {
		l, ok := r.tx.Staged().Leaf(s + p.Name)
		if !ok {
			l.Value = defaultOf(p, f)
		}
		if v, err := strconv.ParseInt(l.Value, 10, 64); err == nil {
			used[v] = true
			next = max(next, v+1)
		}
		return true
	})
	if v, err := f.Canonical(strconv.FormatInt(next, 10)); err == nil {
		return v
	}
	for i := int64(0); i <= int64(len(used)); i++ {
		if !used[i] {
			if v, err := f.Canonical(strconv.FormatInt(i, 10)); err == nil {
				return v
			}
		}
	}
	return ""
}

// keys are the readable unique keys of a staged row (R-ADD.6).
func (r *run) keys(obj *datamodel.Object, row string) map[string]string {
	out := map[string]string{}
	t := r.tree()
	for _, k := range obj.Keys {
		for _, name := range k.Params {
			p := obj.Param(name)
			if p == nil || factsOf(p, r.w.Protocol) == nil || r.cat.liveFor(p) != nil {
				continue
			}
			if val, ok := t.Value(p, row+name); ok {
				out[name] = outValue(r.w.Protocol, factsOf(p, r.w.Protocol), val)
			}
		}
	}
	return out
}
