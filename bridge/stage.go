package bridge

import (
	"errors"
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

// targets is resolve for an operation that sets.
func (r *run) targets(i int, op *Op, o *Outcome) ([]datamodel.Match, bool) {
	if i < len(r.plain) && r.plain[i].Object != nil && r.tree().exists(r.plain[i].Path) {
		r.one[0] = r.plain[i]
		return r.one[:], true
	}
	return r.resolve(op, r.policy(), o)
}

// opSet stages a Set. A search path is atomic whatever the change says: R-SET.2a.
func (r *run) opSet(i int, op *Op, o *Outcome) {
	ms, ok := r.targets(i, op, o)
	if !ok {
		return
	}
	o.Objects = take(&r.objects, len(ms))
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

// take cuts n off the front of what there is room for, or makes new room.
func take[T any](room *[]T, n int) []T {
	if n > len(*room) {
		return make([]T, n)
	}
	out := (*room)[:n:n]
	*room = (*room)[n:]
	return out
}

// settings stages the parameters of one object. create is nil, or the set of parameters that count as required because
// they are keys of a new row. What was staged of an object that failed is rolled back by the caller.
func (r *run) settings(key maskKey, obj *datamodel.Object, path string, list []Setting, create map[string]bool, oo *ObjectOutcome) {
	oo.Params = take(&r.params, len(list))
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
	old, stored := r.tx.Staged().Leaf(m.Path)
	if err := r.access(m, f, old, stored, create); err != nil {
		return m, "", err
	}
	value, err := r.canonical(key, m, f, s.Value)
	if err != nil {
		return m, "", err
	}
	if m.Path == r.e.guard && m.Path != "" {
		return m, "", r.guard(m, value)
	}
	if m.Path == r.e.confirm && m.Path != "" {
		return m, "", r.ask(m, value)
	}
	if f.Command {
		return m, value, r.act(key, m, f, value)
	}
	now := r.current(m, f, old, stored, value)
	if !create && r.w.Protocol == datamodel.USP && !r.w.System && now != "" && now != value && frozen(m.Param) { // R-KEY.1
		return m, "", datamodel.Fail(datamodel.NotWritable, r.spell(m.Path), "a non-functional unique key never changes")
	}
	return m, value, r.put(key, m, old, stored, now, value, create)
}

// act stages a CWMP command parameter: writing it acts, nothing is kept. One with a USP command of the same name is that
// command; others go to the providers that apply writes.
func (r *run) act(key maskKey, m datamodel.Match, f *datamodel.Facts, value string) error {
	if f.Type == datamodel.TypeBoolean && value == "false" {
		return nil
	}
	p := Proposal{Writer: r.w, Path: m.Path, New: value}
	if !r.w.System {
		if _, err := r.decide(&p, false); err != nil {
			return err
		}
	}
	ef := effect{op: store.DeltaSet, path: m.Path, value: value, object: m.Object, param: m.Param, from: key, act: true}
	wanted := false
	if c := m.Object.Command(m.Param.Name + "()"); c != nil && f.Type == datamodel.TypeBoolean && r.cat.commands[c] != nil {
		ef.command, wanted = true, true
	} else {
		r.cat.appliers(m.Object, m.Param, func(*provided) { wanted = true })
	}
	if !wanted {
		return datamodel.Fail(datamodel.NotImplemented, r.spell(m.Path), "no provider carries it out")
	}
	r.effects = append(r.effects, ef)
	return nil
}

// current is the value that a new one is compared with. Where the device serves the parameter live, what it says counts
// if nothing is stored, and when the stored value would make a write look superfluous that the device needs.
func (r *run) current(m datamodel.Match, f *datamodel.Facts, old store.Leaf, stored bool, value string) string {
	now := old.Value
	if !stored {
		now = defaultOf(m.Param, f)
	}
	if r.cat.liveFor(m.Param) == nil || stored && now != value {
		return now
	}
	if lv, ok := r.live.values(r.baseV, m.Param.Object, m.Path[:len(m.Path)-len(m.Param.Name)])[m.Param.Name]; ok {
		return lv
	}
	return now
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
	if !rowsExist(r.tx.Staged(), canonical, len(path)) {
		return m, datamodel.Fail(datamodel.NoInstance, full, "")
	}
	return m, nil
}

// rowNumber reads an element of a canonical path as an instance number.
func rowNumber(elem string) (uint32, bool) {
	if elem == "" || elem[0] > '9' { // a name: an error would have to be made of it
		return 0, false
	}
	n, err := strconv.ParseUint(elem, 10, 32)
	return uint32(n), err == nil
}

// rowsExist checks the instance numbers of a canonical path from byte `from` on.
func rowsExist(v *store.Version, path string, from int) bool {
	for {
		dot := strings.IndexByte(path[from:], '.')
		if dot < 0 {
			return true
		}
		if n, ok := rowNumber(path[from : from+dot]); ok && !v.HasInstance(path[:from], n) {
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
func (r *run) canonical(key maskKey, m datamodel.Match, f *datamodel.Facts, value string) (string, error) {
	if pure := r.pure[key.op]; key.setting < len(pure) && pure[key.setting].param == m.Param {
		known := &pure[key.setting]
		if known.err != nil {
			return "", asAsked(known.err, r.spell(m.Path))
		}
		return known.value, nil
	}
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
	at := len(r.effects)
	r.effects = append(r.effects, effect{op: store.DeltaSet, path: m.Path, value: value, object: m.Object, param: m.Param, from: key,
		flags: secretFlag(m.Param)})
	err := r.judge(&r.effects[at], m, old, stored, now, value, create)
	if err != nil {
		r.effects = r.effects[:at]
	}
	return err
}

// judge arbitrates the effect on a leaf and stages it.
func (r *run) judge(ef *effect, m datamodel.Match, old store.Leaf, stored bool, now, value string, create bool) error {
	if writeOnce(m.Param) && !r.w.System {
		ef.flags |= store.Written
	}
	if r.w.System {
		if stored && old.Value == value {
			ef.same = true
		}
	} else {
		p := &r.asking
		*p = Proposal{Writer: r.w, Path: m.Path, New: value, Old: now, Create: create}
		if stored && !create {
			r.owner(p, old.Writer, old.Rev, old.Flags)
		}
		if r.w.Protocol != datamodel.CWMP && !create {
			p.Access, p.HasAccess = accessList(r.tx.Staged(), m.Path)
		}
		v, err := r.decide(p, ef.flags&store.Secret != 0)
		if err != nil {
			return err
		}
		ef.verdict, ef.rule, ef.freeze = v.Text, v.Rule, v.Freeze
		r.remember(ef, p)
		if ef.same = v.Kind == NoOp; ef.same && stored {
			r.asserts = append(r.asserts, assertion{*p, old.Rev})
		}
	}
	if !ef.same {
		err := r.tx.Set(m.Path, value, ef.flags)
		if errors.Is(err, store.ErrMissing) {
			return datamodel.Fail(datamodel.NotWritable, r.spell(m.Path), "the row comes from the device and keeps no values")
		}
		if err != nil {
			return r.storeError(m.Path, err)
		}
	} else {
		ef.flags = old.Flags
	}
	return nil
}

// manages reports whether a Controller is still there and enabled, asked of the version the transaction began with.
func (r *run) manages(endpoint string) bool {
	if known, ok := r.present[endpoint]; ok {
		return known
	}
	found := false
	for _, n := range r.baseV.Instances(controllerTable) {
		row := controllerTable + strconv.FormatUint(uint64(n), 10) + "."
		if l, ok := r.baseV.Leaf(row + "EndpointID"); ok && l.Value == endpoint {
			on, _ := r.baseV.Leaf(row + "Enable")
			found = on.Value == "true"
			break
		}
	}
	if r.present == nil {
		r.present = map[string]bool{}
	}
	r.present[endpoint] = found
	return found
}

// owner fills in who holds a leaf or row. The factory and the system own nothing, and the ownership of a Controller
// ends when its row is deleted or disabled.
func (r *run) owner(p *Proposal, writer string, rev uint64, flags store.Flags) {
	if flags&store.Factory != 0 || strings.HasPrefix(writer, sysPrefix) || writer == "" {
		return
	}
	if r.since != 0 && rev > r.since && writer != r.w.Name {
		p.Unseen = rev // also by a writer who owns nothing any more
	}
	class := r.e.classes.of(writer)
	var others []Claim
	for _, co := range r.e.owners.others(p.Path, rev, writer, p.Writer.Name) {
		if r.there(co.Writer, co.Class) {
			others = append(others, co)
		}
	}
	switch {
	case r.there(writer, class) && !r.e.owners.ended(p.Path, writer, rev, r.old):
		p.Owner, p.OwnerRev, p.OwnerClass, p.CoOwners = writer, rev, class, others
	case len(others) > 0: // its claim has ended, a co-owner's has not
		p.Owner, p.OwnerRev, p.OwnerClass, p.CoOwners = others[0].Writer, rev, others[0].Class, others[1:]
	}
}

// there: the claims of a Controller end when its row is deleted or disabled.
func (r *run) there(writer, class string) bool {
	endpoint, ok := strings.CutPrefix(writer, "usp:")
	return !ok || class == ClassUser || r.manages(endpoint)
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
				a, _ := r.tx.Staged().Attr(path)
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
		a, had := r.tx.Staged().Attr(m.Path)
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
	err := r.tx.SetAttr(path, a)
	if errors.Is(err, store.ErrMissing) {
		return datamodel.Fail(datamodel.Refused, r.spell(path), "the row comes from the device and keeps no attributes: set them on the table")
	}
	if err != nil {
		return r.storeError(path, err)
	}
	r.effects = append(r.effects, effect{op: store.DeltaAttr, path: path, attr: a, object: m.Object, param: m.Param, verdict: "allow"})
	return nil
}
