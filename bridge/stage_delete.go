package bridge

import (
	"slices"
	"strconv"
	"strings"

	"twinspan/datamodel"
	"twinspan/store"
)

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
	var asked *Proposal
	if !r.w.System {
		p := Proposal{Writer: r.w, Path: m.Path, Delete: true}
		r.owner(&p, row.Writer, row.Rev, 0)
		var err error
		if verdict, err = r.decide(&p, false); err != nil {
			return err
		}
		asked = &p
		// Every leaf below must be deletable by its own rule.
		order := r.e.order(r.baseV)
		v.Walk(m.Path, func(leaf string, l store.Leaf) bool {
			if order != nil && !verdict.Confirm && order.rule(leaf).Confirm {
				verdict.Confirm = true
				verdict.Text += ConfirmMark
			}
			p := Proposal{Writer: r.w, Path: leaf, Old: l.Value, Delete: true}
			r.owner(&p, l.Writer, l.Rev, l.Flags)
			if p.Owner == "" || p.Owner == r.w.Name {
				return true
			}
			_, err = r.decide(&p, l.Flags&store.Secret != 0)
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	at := len(r.effects)
	err := r.remove(key, m.Object, m.Path, verdict.Text, verdict.Rule)
	if err == nil && asked != nil {
		r.remember(&r.effects[at], asked)
	}
	return err
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
		if _, ok := r.tx.Staged().Leaf(h.path); !ok { // its row went already
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
