package datamodel

import "strings"

// maxRefDepth bounds references whose value is addressed by a unique key that is again behind a reference.
const maxRefDepth = 4

// exprMatcher is a search expression made ready for one table: parameters looked up, constants read once.
type exprMatcher struct {
	obj   *Object
	terms []term
}

type term struct {
	object string // relative path of the object that holds the parameter: "", "Stats."
	param  *Param
	is     func(value string) bool
	cmp    *Comparison // when references are followed: nothing can be prepared
}

// matcher returns the prepared expression of a step. Behind a reference different tables may meet one step, so the
// table is compared.
func (r *resolver) matcher(obj *Object, st *Step) (*exprMatcher, error) {
	if m := r.cache[st]; m != nil && m.obj == obj {
		return m, nil
	}
	m := &exprMatcher{obj: obj, terms: make([]term, 0, len(st.Expr))}
	for i := range st.Expr {
		t, err := r.term(obj, &st.Expr[i])
		if err != nil {
			return nil, err
		}
		m.terms = append(m.terms, t)
	}
	if r.cache == nil {
		r.cache = map[*Step]*exprMatcher{}
	}
	r.cache[st] = m
	return m, nil
}

func (r *resolver) term(obj *Object, c *Comparison) (term, error) {
	rel := ""
	for i := range c.Param {
		st := &c.Param[i]
		switch {
		case st.Kind == StepFollow:
			if _, err := r.reference(obj, st.Name); err != nil {
				return term{}, err
			}
			return term{cmp: c}, nil
		case i == len(c.Param)-1:
			p := obj.Param(st.Name)
			if p == nil || !p.Protocols.Has(r.proto) {
				return term{}, r.notSupported("the expression names an unknown parameter " + rel + st.Name)
			}
			is, err := r.comparator(p, c)
			return term{object: rel, param: p, is: is}, err
		}
		child := obj.Child(st.Name)
		if child == nil || !child.Protocols.Has(r.proto) {
			return term{}, r.notSupported("the expression names an unknown object " + rel + st.Name + ".")
		}
		if child.Multi {
			return term{}, r.syntax("the expression enters the table " + rel + st.Name + ".")
		}
		obj = child
		rel += st.Name + "."
	}
	return term{}, r.syntax("empty expression")
}

// comparator prepares one comparison; its errors name the parameter.
func (r *resolver) comparator(p *Param, c *Comparison) (func(string) bool, error) {
	f := p.Facts(r.proto)
	if f.Hidden {
		// A hidden value reads as empty for everybody, so it must not be found by guessing either.
		empty := f.Zero()
		is, err := f.matcher(c.Op, c.Const, c.Quoted)
		if err != nil {
			return nil, r.misfit(p, err)
		}
		return func(string) bool { return is(empty) }, nil
	}
	is, err := f.matcher(c.Op, ToCanonicalValue(r.proto, f, c.Const), c.Quoted)
	if err != nil {
		return nil, r.misfit(p, err)
	}
	return is, nil
}

func (r *resolver) misfit(p *Param, err error) error {
	e := *err.(*Error)
	e.Path, e.Text = r.path.raw, p.Name+": "+e.Text
	return &e
}

// match: all comparisons hold for the row.
func (m *exprMatcher) match(r *resolver, obj *Object, row string) (bool, error) {
	for i := range m.terms {
		t := &m.terms[i]
		if t.cmp != nil {
			ok, err := r.compareBehind(obj, row, t.cmp.Param, t.cmp)
			if err != nil || !ok {
				return false, err
			}
			continue
		}
		v, ok := r.read(t.param, row+t.object+t.param.Name)
		if !ok || !t.is(v) {
			return false, nil
		}
	}
	return true, nil
}

// read is a parameter's value as an expression sees it: not at all if the asker may not read it (R-GIN.0).
func (r *resolver) read(p *Param, path string) (string, bool) {
	if !r.visible(path, ParamPath) {
		return "", false
	}
	v, ok := r.tree.Value(p, path)
	if !ok {
		v = p.Facts(r.proto).Zero()
	}
	return v, true
}

// compareBehind evaluates a comparison whose parameter is behind references; one target that satisfies it is enough.
func (r *resolver) compareBehind(obj *Object, path string, steps []Step, c *Comparison) (bool, error) {
	st := &steps[0]
	if st.Kind == StepFollow {
		found := false
		err := r.followed(obj, path, st, func(target *Object, targetPath string) error {
			if found {
				return nil
			}
			ok, err := r.compareBehind(target, targetPath, steps[1:], c)
			found = ok
			return err
		})
		return found, err
	}
	if len(steps) == 1 {
		p := obj.Param(st.Name)
		if p == nil || !p.Protocols.Has(r.proto) {
			return false, nil
		}
		is, err := r.comparator(p, c)
		if err != nil {
			return false, err
		}
		v, ok := r.read(p, path+st.Name)
		return ok && is(v), nil
	}
	child := obj.Child(st.Name)
	if child == nil || child.Multi || !child.Protocols.Has(r.proto) {
		return false, nil
	}
	return r.compareBehind(child, path+st.Name+".", steps[1:], c)
}

// followed calls fn for each object that the reference parameter of a step leads to (usp.md 2.5): the first for +, the
// n-th for #n+, all for #*+. Targets that do not exist are skipped and remembered as missing.
func (r *resolver) followed(obj *Object, path string, st *Step, fn func(*Object, string) error) error {
	p, err := r.reference(obj, st.Name)
	if err != nil {
		if ReasonOf(err) == NotSupported {
			return r.unknown()
		}
		return err
	}
	paramPath := path + st.Name
	if !r.visible(paramPath, ParamPath) {
		if !r.search {
			return r.notSupported("")
		}
		r.hidden = true
		return nil
	}
	value, _ := r.tree.Value(p, paramPath)
	refs := []string{value}
	if p.Facts(r.proto).List {
		refs = splitList(value, true) // also where the model does not say that it is a reference
	}
	if st.N > 0 {
		if int(st.N) > len(refs) {
			r.missing = true
			return nil
		}
		refs = refs[st.N-1 : st.N]
	}
	for _, ref := range refs {
		if err := r.spend(1); err != nil {
			return err
		}
		target, targetPath, ok := r.target(ref)
		if !ok {
			r.missing = true
			continue
		}
		if err := fn(target, targetPath); err != nil {
			return err
		}
	}
	return nil
}

// target finds the object instance that a canonical reference value names, by instance numbers or unique keys
// (R-ARC.11).
func (r *resolver) target(ref string) (*Object, string, bool) {
	if ref == "" || r.depth >= maxRefDepth {
		return nil, "", false
	}
	if !strings.HasSuffix(ref, ".") {
		ref += "."
	}
	p, err := ParsePath(ref)
	if err != nil {
		return nil, "", false
	}
	sub := resolver{
		schema: r.schema, tree: r.tree, proto: r.proto, path: p, search: p.IsSearch(),
		depth: r.depth + 1, work: r.work,
	}
	root := r.schema.Root()
	if !startsAt(root, p) || sub.check(root, p.Steps[1:], ObjectPath) != nil {
		return nil, "", false
	}
	if p.IsPlain() {
		err = sub.plain(root, p.Steps[1:])
	} else {
		err = sub.walk(root, root.Path, false, p.Steps[1:])
	}
	r.work = sub.work
	if err != nil || len(sub.out) != 1 {
		return nil, "", false
	}
	return sub.out[0].Object, sub.out[0].Path, true
}

// CanonicalReference checks one reference value (an item, for lists) that a manager of proto wants to store: it is
// made canonical, addresses by unique key become instance numbers (R-ARC.11), the final dot goes. exists says whether
// the target is in the tree; strong references without target are refused by the caller (R-ARC.12). A weak reference
// that cannot be resolved comes back as it was given, in canonical spelling. Parameter references are only spelled.
func CanonicalReference(s *Schema, t Tree, proto Protocol, f *Facts, value string) (canonical string, exists bool) {
	if value == "" {
		return "", true
	}
	c, ok := ToCanonical(proto, value)
	if !ok {
		return value, false
	}
	if f.PathRef != nil && f.PathRef.Target == "parameter" {
		p, err := ParsePath(c)
		if err != nil || p.Kind != ParamPath {
			return c, false
		}
		m, err := Resolve(s, t, proto, p, ResolvePolicy{Want: WantParam})
		return c, err == nil && len(m) == 1
	}
	r := resolver{schema: s, tree: t, proto: proto}
	_, path, ok := r.target(c)
	if !ok {
		return strings.TrimSuffix(c, "."), false
	}
	return path[:len(path)-1], true
}
