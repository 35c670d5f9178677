package bridge

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"twinspan/datamodel"
	"twinspan/store"
)

func (r *run) policy() datamodel.ResolvePolicy {
	return datamodel.ResolvePolicy{Want: datamodel.WantObject, MissingIsError: true, CWMPAlias: r.w.Protocol == datamodel.CWMP}
}

func (r *run) spell(path string) string { return spell(r.w.Protocol, path) }

// resolve finds what an operation means. ok is false when the outcome is already complete.
func (r *run) resolve(op *Op, pol datamodel.ResolvePolicy, o *Outcome) ([]datamodel.Match, bool) {
	ms, err := r.tree().resolve(op.Path, pol)
	if err != nil {
		if !op.MissingOK || datamodel.ReasonOf(err) != datamodel.NoInstance {
			o.Err = err
		}
		return nil, false
	}
	return ms, true
}

// opSet stages a Set. A search path is atomic whatever the change says: R-SET.2a.
func (r *run) opSet(i int, op *Op, o *Outcome) {
	ms, ok := r.resolve(op, r.policy(), o)
	if !ok {
		return
	}
	o.Objects = make([]ObjectOutcome, len(ms))
	for k, m := range ms {
		oo := &o.Objects[k]
		oo.Path = r.spell(m.Path)
		key := maskKey{i, m.Path, -1}
		if err := r.masked[key]; err != nil {
			oo.Err = err
		} else {
			r.settings(key, m.Object, m.Path, op.Settings, nil, oo)
		}
		if oo.Err != nil && o.Err == nil {
			o.Err = oo.Err
			if !r.c.AllErrors { // R-SET.2b
				o.Objects = o.Objects[:k+1]
				return
			}
		}
	}
}

// settings stages the parameters of one object. create is nil, or the set of parameters that count as required because
// they are keys of a new row.
func (r *run) settings(key maskKey, obj *datamodel.Object, path string, list []Setting, create map[string]bool, oo *ObjectOutcome) {
	sp, mark := r.tx.Savepoint(), len(r.effects)
	oo.Params = make([]ParamOutcome, len(list))
	for j := range list {
		s := &list[j]
		po := &oo.Params[j]
		po.Name = s.Name
		k := key
		k.setting = j
		m, value, err := r.setting(k, obj, path, s, create != nil)
		if err != nil {
			po.Err = err
			if oo.Err == nil && (s.Required || create[s.Name]) { // R-SET.2, R-ADD.3
				oo.Err = &datamodel.Error{Reason: datamodel.RequiredFailed, Path: oo.Path, Err: err}
			}
			continue
		}
		if !r.w.may(r.baseV, m.Path, ReadParam) { // R-SET.3
			po.Hide = true
			continue
		}
		f := r.facts(m.Param)
		if !f.Hidden && !f.Command && (!f.Secured || r.w.secured(r.baseV)) {
			po.Value = outValue(r.w.Protocol, f, value)
		}
	}
	if oo.Err != nil {
		r.tx.RollbackTo(sp)
		r.effects = r.effects[:mark]
	}
}

// facts as the writer's protocol has them; the system knows all.
func (r *run) facts(p *datamodel.Param) *datamodel.Facts {
	if f := factsOf(p, r.w.Protocol); f != nil || !r.w.System {
		return f
	}
	return p.Any()
}

// setting validates, authorises, arbitrates and stages one parameter.
func (r *run) setting(key maskKey, obj *datamodel.Object, path string, s *Setting, create bool) (datamodel.Match, string, error) {
	m, err := r.param(obj, path, s.Name)
	if err != nil {
		return m, "", err
	}
	if err := r.masked[key]; err != nil {
		return m, "", err
	}
	f := r.facts(m.Param)
	old, stored := r.tx.View().Leaf(m.Path)
	if err := r.access(m, f, old, stored, create); err != nil {
		return m, "", err
	}
	value, err := r.canonical(m, f, s.Value)
	if err != nil {
		return m, "", err
	}
	if f.Command { // TR-069: writing acts, nothing is kept
		r.effects = append(r.effects, effect{op: store.DeltaSet, path: m.Path, value: value, object: m.Object, param: m.Param,
			from: key, act: true})
		return m, value, nil
	}
	now := old.Value
	if !stored {
		now = defaultOf(m.Param, f)
	}
	if !create && r.w.Protocol == datamodel.USP && !r.w.System && now != "" && now != value && frozen(m.Param) { // R-KEY.1
		return m, "", datamodel.Fail(datamodel.NotWritable, r.spell(m.Path), "a non-functional unique key never changes")
	}
	return m, value, r.put(key, m, old, stored, now, value, create)
}

// param finds a setting's parameter: name is relative, with dots, in the writer's spelling.
func (r *run) param(obj *datamodel.Object, path, name string) (datamodel.Match, error) {
	full := path + name
	if strings.IndexByte(name, '.') < 0 {
		if p := obj.Param(name); p != nil && r.facts(p) != nil {
			return datamodel.Match{Path: full, Object: obj, Param: p}, nil
		}
		return datamodel.Match{Path: full}, datamodel.Fail(datamodel.NotSupported, r.spell(path)+name, "")
	}
	full = r.spell(path) + name
	canonical, ok := toCanonical(r.w.Protocol, full)
	if !ok {
		return datamodel.Match{Path: full}, datamodel.Fail(datamodel.NotSupported, full, "")
	}
	m, ok := r.e.schema.Lookup(canonical)
	if !ok || m.Param == nil || r.facts(m.Param) == nil {
		return datamodel.Match{Path: canonical}, datamodel.Fail(datamodel.NotSupported, full, "")
	}
	if !rowsExist(r.tx.View(), canonical, len(path)) {
		return m, datamodel.Fail(datamodel.NoInstance, full, "")
	}
	return m, nil
}

// rowsExist checks the instance numbers of a canonical path from byte `from` on.
func rowsExist(v *store.Version, path string, from int) bool {
	for {
		dot := strings.IndexByte(path[from:], '.')
		if dot < 0 {
			return true
		}
		if n, err := strconv.ParseUint(path[from:from+dot], 10, 32); err == nil && !v.HasInstance(path[:from], uint32(n)) {
			return false
		}
		from += dot + 1
	}
}

// access applies the schema's access and the writer's rights.
func (r *run) access(m datamodel.Match, f *datamodel.Facts, old store.Leaf, stored, create bool) error {
	if r.cat.counts[m.Param] != nil {
		return datamodel.Fail(datamodel.NotWritable, r.spell(m.Path), "computed from the rows")
	}
	if r.w.System {
		return nil
	}
	switch f.Access {
	case datamodel.ReadOnly:
		return datamodel.Fail(datamodel.NotWritable, r.spell(m.Path), "read-only")
	case datamodel.WriteOnceReadOnly:
		if !create && stored && (old.Value != "" || old.Flags&store.Written != 0) {
			return datamodel.Fail(datamodel.NotWritable, r.spell(m.Path), "was written once already")
		}
	}
	if !r.w.may(r.baseV, m.Path, WriteParam) {
		return datamodel.Fail(datamodel.Denied, r.spell(m.Path), "")
	}
	return nil
}

// canonical brings a value into the form that is stored; references lose their spelling and their unique keys.
func (r *run) canonical(m datamodel.Match, f *datamodel.Facts, value string) (string, error) {
	if f.PathRef != nil && value != "" && r.w.Protocol != 0 {
		t := r.tree()
		items := []string{value}
		if f.List {
			items = strings.Split(value, ",")
		}
		for i, it := range items {
			items[i], _ = datamodel.CanonicalReference(r.e.schema, t, r.w.Protocol, f, strings.TrimSpace(it))
		}
		value = strings.Join(items, ",")
	}
	value, err := f.Canonical(value)
	if err != nil {
		return "", asAsked(err, r.spell(m.Path))
	}
	return value, nil
}

// frozen: part of a non-functional unique key of its row.
func frozen(p *datamodel.Param) bool {
	for _, k := range p.Object.Keys {
		if !k.Functional && slices.Contains(k.Params, p.Name) {
			return true
		}
	}
	return false
}

func keyParam(p *datamodel.Param) bool {
	return slices.ContainsFunc(p.Object.Keys, func(k datamodel.UniqueKey) bool { return slices.Contains(k.Params, p.Name) })
}

func secretFlag(p *datamodel.Param) store.Flags {
	for _, proto := range [...]datamodel.Protocol{datamodel.CWMP, datamodel.USP} {
		if f := p.Facts(proto); f != nil && (f.Hidden || f.Secured) {
			return store.Secret
		}
	}
	return 0
}

func writeOnce(p *datamodel.Param) bool {
	f := p.Facts(datamodel.USP)
	return f != nil && f.Access == datamodel.WriteOnceReadOnly
}

// put arbitrates one leaf and stages it.
func (r *run) put(key maskKey, m datamodel.Match, old store.Leaf, stored bool, now, value string, create bool) error {
	ef := effect{op: store.DeltaSet, path: m.Path, value: value, object: m.Object, param: m.Param, from: key, flags: secretFlag(m.Param)}
	if writeOnce(m.Param) && !r.w.System {
		ef.flags |= store.Written
	}
	if r.w.System {
		if stored && old.Value == value {
			ef.same = true
		}
	} else {
		p := Proposal{Writer: r.w, Path: m.Path, New: value, Old: now, Create: create}
		if stored && !create {
			r.owner(&p, old.Writer, old.Rev, old.Flags)
		}
		v, err := r.decide(&p)
		if err != nil {
			return err
		}
		ef.verdict, ef.rule = v.Text, v.Rule
		ef.same = v.Kind == NoOp
	}
	if !ef.same {
		if err := r.tx.Set(m.Path, value, ef.flags); err != nil {
			return r.storeError(m.Path, err)
		}
	} else {
		ef.flags = old.Flags
	}
	r.effects = append(r.effects, ef)
	return nil
}

// owner fills in who holds a leaf or row. The factory and the system own nothing.
func (r *run) owner(p *Proposal, writer string, rev uint64, flags store.Flags) {
	if flags&store.Factory != 0 || strings.HasPrefix(writer, sysPrefix) || writer == "" {
		return
	}
	p.Owner, p.OwnerRev, p.OwnerClass = writer, rev, r.e.classes.of(writer)
	if r.since != 0 && rev > r.since && writer != r.w.Name {
		p.Unseen = rev
	}
}

// decide asks the arbiter. A refusal comes back as an error and is noted for the journal; the text of an allowing
// verdict is what the journal says.
func (r *run) decide(p *Proposal) (Verdict, error) {
	v := r.arb.Decide(*p)
	if v.Kind == Yield {
		r.refused = append(r.refused, refusal{p.Path, "yield: " + v.Text, v.Rule})
		return v, datamodel.Fail(datamodel.Refused, r.spell(p.Path), v.Text)
	}
	v.Text = v.Kind.String()
	if p.Unseen != 0 {
		v.Text += " overwrote_unseen=" + strconv.FormatUint(p.Unseen, 10)
	}
	return v, nil
}

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
	r.effects = append(r.effects, effect{op: store.DeltaAddRow, path: row, object: m.Object, from: key})
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
	rows := len(r.tx.View().Instances(m.Path))
	if limit, ok := r.e.maxRows[m.Object]; ok && rows >= limit {
		return datamodel.Fail(datamodel.Resources, path, "at most "+strconv.Itoa(limit)+" rows")
	}
	if r.w.System {
		return nil
	}
	_, err := r.decide(&Proposal{Writer: r.w, Path: m.Path, Create: true})
	return err
}

// fill gives a new row what the device has to provide: values for unique keys that were not given (R-ADD.5), and who
// made it and when, where the model has read-only parameters for that.
func (r *run) fill(key maskKey, obj *datamodel.Object, table, row string, n uint32, given []Setting) error {
	has := func(name string) bool {
		_, ok := r.tx.View().Leaf(row + name)
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
			if p == nil || has(name) {
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
		l, ok := r.tx.View().Leaf(s + p.Name)
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
		l, ok := r.tx.View().Leaf(s + p.Name)
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

// opDelete stages the deletion of rows and of what refers to them.
func (r *run) opDelete(i int, op *Op, o *Outcome) {
	ms, ok := r.resolve(op, r.policy(), o)
	if !ok {
		return
	}
	for _, m := range ms {
		oo := ObjectOutcome{Path: r.spell(m.Path)}
		sp, mark := r.tx.Savepoint(), len(r.effects)
		key := maskKey{i, m.Path, -1}
		if err := r.masked[key]; err != nil {
			oo.Err = err
		} else {
			oo.Err = r.deleteRow(key, m)
		}
		if oo.Err != nil {
			r.tx.RollbackTo(sp)
			r.effects = r.effects[:mark]
			if r.c.Atomic && o.Err == nil { // R-DEL.1
				o.Err = oo.Err
			}
		}
		if r.w.may(r.baseV, m.Path, ReadObj) { // R-DEL.2, R-DEL.4
			o.Objects = append(o.Objects, oo)
		}
	}
}

func (r *run) deleteRow(key maskKey, m datamodel.Match) error {
	path := r.spell(m.Path)
	switch {
	case m.Table || !m.Object.Multi:
		return datamodel.Fail(datamodel.NotDeletable, path, "not a row of a table")
	case r.cat.lists[m.Object] != nil, !r.w.System && m.Object.Access(r.w.Protocol) != datamodel.ReadWrite:
		return datamodel.Fail(datamodel.NotDeletable, path, "")
	case !r.w.may(r.baseV, m.Path, DeleteRow):
		return datamodel.Fail(datamodel.Denied, path, "")
	}
	v := r.tx.View()
	row, ok := v.Row(m.Path)
	if !ok { // went away with a row deleted before in the same operation
		return nil
	}
	verdict := Verdict{}
	if !r.w.System {
		p := Proposal{Writer: r.w, Path: m.Path, Delete: true}
		r.owner(&p, row.Writer, row.Rev, 0)
		var err error
		if verdict, err = r.decide(&p); err != nil {
			return err
		}
		// Every leaf below must be deletable by its own rule (bridge.md 2.5).
		v.Walk(m.Path, func(leaf string, l store.Leaf) bool {
			p := Proposal{Writer: r.w, Path: leaf, Old: l.Value, Delete: true}
			r.owner(&p, l.Writer, l.Rev, l.Flags)
			if p.Owner == "" || p.Owner == r.w.Name {
				return true
			}
			_, err = r.decide(&p)
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	return r.remove(key, m.Object, m.Path, verdict.Text, verdict.Rule)
}

// remove stages the deletion of a row and lets strong references follow.
func (r *run) remove(key maskKey, obj *datamodel.Object, path, verdict, rule string) error {
	if err := r.tx.DeleteRow(path); err != nil {
		return r.storeError(path, err)
	}
	r.effects = append(r.effects, effect{op: store.DeltaDeleteRow, path: path, object: obj, from: key, verdict: verdict, rule: rule})
	return r.cascade(key, path)
}

// cascade empties strong references to a deleted row and to what was below it; a list loses the item. A row that such
// a reference identifies (a non-functional key: Subscription.Recipient) cannot go on without it and is deleted too.
func (r *run) cascade(key maskKey, deleted string) error {
	gone := strings.TrimSuffix(deleted, ".")
	refers := func(item string) bool {
		return strings.HasPrefix(item, gone) && (len(item) == len(gone) || item[len(gone)] == '.')
	}
	type hit struct {
		p    *datamodel.Param
		path string
		l    store.Leaf
	}
	var hits []hit
	v := r.tx.View()
	for _, p := range r.cat.strong {
		eachInstance(v, p.Object, func(obj string) {
			if l, ok := v.Leaf(obj + p.Name); ok && strings.Contains(l.Value, gone) {
				hits = append(hits, hit{p, obj + p.Name, l})
			}
		})
	}
	for _, h := range hits {
		items := strings.Split(h.l.Value, ",")
		kept := slices.DeleteFunc(slices.Clone(items), refers)
		if len(kept) == len(items) {
			continue
		}
		row := h.path[:len(h.path)-len(h.p.Name)]
		if _, ok := r.tx.View().Leaf(h.path); !ok { // its row went already
			continue
		}
		if h.p.Object.Multi && frozen(h.p) {
			if err := r.remove(key, h.p.Object, row, "cascade", "reference"); err != nil {
				return err
			}
			continue
		}
		value := strings.Join(kept, ",")
		if err := r.tx.Set(h.path, value, h.l.Flags); err != nil {
			return r.storeError(h.path, err)
		}
		r.effects = append(r.effects, effect{op: store.DeltaSet, path: h.path, value: value, object: h.p.Object, param: h.p,
			from: key, flags: h.l.Flags, verdict: "cascade", rule: "reference"})
	}
	return nil
}

// eachInstance calls fn with the instance path of every stored instance of a schema object.
func eachInstance(v *store.Version, o *datamodel.Object, fn func(path string)) {
	if o.Parent == nil {
		fn(o.Path)
		return
	}
	eachInstance(v, o.Parent, func(parent string) {
		path := parent + o.Name + "."
		if !o.Multi {
			fn(path)
			return
		}
		for _, n := range v.Instances(path) {
			fn(path + strconv.FormatUint(uint64(n), 10) + ".")
		}
	})
}

// opAttr stages CWMP attributes. A partial path speaks for everything below it: what was said there before of the same
// attribute is forgotten.
func (r *run) opAttr(op *Op, o *Outcome) {
	if op.Attr == nil {
		return
	}
	pol := datamodel.ResolvePolicy{Want: datamodel.WantObject | datamodel.WantParam, MissingIsError: true, AllowTable: true,
		CWMPAlias: r.w.Protocol == datamodel.CWMP}
	ms, ok := r.resolve(op, pol, o)
	if !ok {
		return
	}
	for _, m := range ms {
		if m.Param == nil {
			var below []string
			r.tx.View().Attrs(func(path string, _ store.Attr) bool {
				if strings.HasPrefix(path, m.Path) && path != m.Path {
					below = append(below, path)
				}
				return true
			})
			for _, path := range below {
				a, _ := r.tx.View().Attr(path)
				if op.Attr.Notification != nil {
					a.Notification = -1
				}
				if op.Attr.AccessList != nil {
					a.HasAccess, a.AccessList = false, nil
				}
				if o.Err = r.setAttr(path, a, m); o.Err != nil {
					return
				}
			}
		}
		a, had := r.tx.View().Attr(m.Path)
		if !had {
			a = store.Attr{Notification: -1}
		}
		if n := op.Attr.Notification; n != nil {
			a.Notification = *n
		}
		if l := op.Attr.AccessList; l != nil {
			a.HasAccess, a.AccessList = true, *l
		}
		if o.Err = r.setAttr(m.Path, a, m); o.Err != nil {
			return
		}
		o.Objects = append(o.Objects, ObjectOutcome{Path: r.spell(m.Path)})
	}
}

func (r *run) setAttr(path string, a store.Attr, m datamodel.Match) error {
	if a.Notification < -1 || a.Notification > 6 {
		return datamodel.Fail(datamodel.InvalidValue, r.spell(path), "notification is 0 to 6")
	}
	if err := r.tx.SetAttr(path, a); err != nil {
		return r.storeError(path, err)
	}
	r.effects = append(r.effects, effect{op: store.DeltaAttr, path: path, attr: a, object: m.Object, param: m.Param, verdict: "allow"})
	return nil
}

// tuple is the value of a unique key of a row; ok is false while a part of it is empty.
func (r *run) tuple(obj *datamodel.Object, k *datamodel.UniqueKey, row string) (string, bool) {
	parts := make([]string, 0, len(k.Params))
	for _, name := range k.Params {
		p := obj.Param(name)
		if p == nil || r.cat.liveFor(p) != nil {
			return "", false
		}
		l, ok := r.tx.View().Leaf(row + name)
		if !ok {
			l.Value = defaultOf(p, p.Any())
		}
		if l.Value == "" {
			return "", false
		}
		parts = append(parts, l.Value)
	}
	return strings.Join(parts, "\x00"), true
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
			slices.SortStableFunc(rows, func(a, b uint32) int { return cmp.Compare(seq(a), seq(b)) })
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
		if l, ok := r.tx.View().Leaf(ef.path); !ok || l.Value != ef.value {
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
		if n, err := strconv.ParseUint(path[from:from+dot], 10, 32); err == nil && !t.HasInstance(path[:from], uint32(n)) {
			return false
		}
		from += dot + 1
	}
}
