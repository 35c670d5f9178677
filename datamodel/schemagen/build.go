package schemagen

import (
	"fmt"
	"sort"
	"strings"

	"twinspan/datamodel"
)

// Build compiles rows of both protocols, in any order and in each protocol's spelling, into one schema of canonical
// paths. Where the two protocols' objects differ in what a Schema holds once, the looser wins: the smaller
// minEntries, the larger maxEntries, the union of the unique keys.
func Build(name, version string, rows []Row) (*datamodel.Schema, error) {
	rows, err := Canonical(rows)
	if err != nil {
		return nil, err
	}
	b := &builder{objects: map[string]*datamodel.Object{}, facts: map[string]*datamodel.Facts{}}
	for i := range rows {
		if rows[i].Kind != KindObject {
			continue
		}
		if err := b.object(&rows[i]); err != nil {
			return nil, err
		}
	}
	for i := range rows {
		if err := b.element(rows, i); err != nil {
			return nil, fmt.Errorf("%s: %w", rows[i].Path, err)
		}
	}
	root := b.objects[rootPath]
	if root == nil {
		return nil, fmt.Errorf("no object %s", rootPath)
	}
	if err := b.finish(root); err != nil {
		return nil, err
	}
	return datamodel.NewSchema(name, version, root), nil
}

type builder struct {
	objects map[string]*datamodel.Object
	facts   map[string]*datamodel.Facts // by their text, so that equal ones are shared
}

// object adds an object; rows are sorted, so that its parent is there already.
func (b *builder) object(r *Row) error {
	o := b.objects[r.Path]
	if o != nil {
		return b.mergeObject(o, r)
	}
	multi := strings.HasSuffix(r.Path, ".{i}.")
	table := strings.TrimSuffix(r.Path, "{i}.")
	above, name := datamodel.SplitParam(strings.TrimSuffix(table, "."))
	o = &datamodel.Object{
		Path: r.Path, Name: name, Multi: multi, Protocols: r.Protocols,
		MinEntries: r.MinEntries, MaxEntries: r.MaxEntries, NumEntries: r.NumEntries, Enable: r.Enable, Keys: r.Keys,
	}
	setAccess(o, r)
	if above != "" {
		o.Parent = b.objects[above]
		if o.Parent == nil {
			return fmt.Errorf("%s: no object %s above it", r.Path, above)
		}
		o.Parent.Children = append(o.Parent.Children, o)
	}
	b.objects[r.Path] = o
	return nil
}

func setAccess(o *datamodel.Object, r *Row) {
	for _, proto := range []datamodel.Protocol{datamodel.CWMP, datamodel.USP} {
		if r.Protocols.Has(proto) {
			o.SetAccess(proto, r.Facts.Access)
		}
	}
}

func (b *builder) mergeObject(o *datamodel.Object, r *Row) error {
	o.Protocols |= r.Protocols
	setAccess(o, r)
	o.MinEntries = min(o.MinEntries, r.MinEntries)
	if o.MaxEntries >= 0 {
		o.MaxEntries = max(o.MaxEntries, r.MaxEntries)
		if r.MaxEntries < 0 {
			o.MaxEntries = -1
		}
	}
	for _, pair := range []struct{ have, more *string }{{&o.NumEntries, &r.NumEntries}, {&o.Enable, &r.Enable}} {
		if *pair.have == "" {
			*pair.have = *pair.more
		} else if *pair.more != "" && *pair.more != *pair.have {
			return fmt.Errorf("%s: %s in one protocol, %s in the other", r.Path, *pair.have, *pair.more)
		}
	}
	for _, k := range r.Keys {
		known := false
		for _, have := range o.Keys {
			known = known || (have.Functional == k.Functional && strings.Join(have.Params, "+") == strings.Join(k.Params, "+"))
		}
		if !known {
			o.Keys = append(o.Keys, k)
		}
	}
	return nil
}

func (b *builder) element(rows []Row, i int) error {
	r := &rows[i]
	owner, argument := r.splitPath()
	path, name := datamodel.SplitParam(owner)
	o := b.objects[path]
	if r.Kind == KindObject {
		return nil
	}
	if o == nil {
		return fmt.Errorf("no object %s", path)
	}
	switch r.Kind {
	case KindParam:
		return b.param(o, name, r)
	case KindCommand:
		if r.Protocols != datamodel.USP || !strings.HasSuffix(name, "()") {
			return fmt.Errorf("commands exist in USP only and end in ()")
		}
		o.Commands = append(o.Commands, &datamodel.Command{Name: name, Object: o, Async: r.Async})
	case KindEvent:
		if r.Protocols != datamodel.USP || !strings.HasSuffix(name, "!") {
			return fmt.Errorf("events exist in USP only and end in !")
		}
		o.Events = append(o.Events, &datamodel.Event{Name: name, Object: o})
	case KindInput, KindOutput:
		c := o.Command(name)
		if c == nil {
			return fmt.Errorf("no command %s", owner)
		}
		list := &c.Inputs
		if r.Kind == KindOutput {
			list = &c.Outputs
		}
		*list = append(*list, datamodel.Argument{Name: argument, Facts: b.share(&r.Facts)})
	case KindEventArg:
		e := o.Event(name)
		if e == nil {
			return fmt.Errorf("no event %s", owner)
		}
		e.Args = append(e.Args, datamodel.Argument{Name: argument, Facts: b.share(&r.Facts)})
	}
	return nil
}

// param adds a parameter; the rows of its two protocols may differ in their facts, not in their type.
func (b *builder) param(o *datamodel.Object, name string, r *Row) error {
	f := b.share(&r.Facts)
	var facts [2]*datamodel.Facts
	if n := len(o.Params); n > 0 && o.Params[n-1].Name == name {
		facts = [2]*datamodel.Facts{o.Params[n-1].Facts(datamodel.CWMP), o.Params[n-1].Facts(datamodel.USP)}
		o.Params = o.Params[:n-1]
	}
	if r.Protocols.Has(datamodel.CWMP) {
		facts[0] = f
	}
	if r.Protocols.Has(datamodel.USP) {
		facts[1] = f
	}
	if facts[0] != nil && facts[1] != nil && (facts[0].Type != facts[1].Type || facts[0].List != facts[1].List) {
		return fmt.Errorf("the protocols give it different types")
	}
	p := datamodel.NewParam(name, facts[0], facts[1])
	p.Object = o
	o.Params = append(o.Params, p)
	return nil
}

// share returns one pointer for equal facts.
func (b *builder) share(f *datamodel.Facts) *datamodel.Facts {
	key := formatRow(&Row{Kind: KindParam, Facts: *f, DefaultKind: defaultKey(f)})
	if known, ok := b.facts[key]; ok {
		return known
	}
	b.facts[key] = f
	return f
}

func defaultKey(f *datamodel.Facts) string {
	switch {
	case f.FactoryOnly:
		return "factory"
	case f.HasDefault:
		return "object"
	}
	return ""
}

// finish sorts everything and checks what rows alone cannot show.
func (b *builder) finish(root *datamodel.Object) error {
	var err error
	root.Walk(func(o *datamodel.Object) bool {
		sort.Slice(o.Children, func(i, j int) bool { return o.Children[i].Name < o.Children[j].Name })
		sort.Slice(o.Params, func(i, j int) bool { return o.Params[i].Name < o.Params[j].Name })
		sort.Slice(o.Commands, func(i, j int) bool { return o.Commands[i].Name < o.Commands[j].Name })
		sort.Slice(o.Events, func(i, j int) bool { return o.Events[i].Name < o.Events[j].Name })
		for i := 1; i < len(o.Children); i++ {
			if o.Children[i].Name == o.Children[i-1].Name {
				err = fmt.Errorf("%s: a table for one protocol, a single object for the other", o.Children[i].Path)
				return false
			}
		}
		for _, k := range o.Keys {
			for _, name := range k.Params {
				if o.Param(name) == nil {
					err = fmt.Errorf("%s: unique key parameter %s does not exist", o.Path, name)
					return false
				}
			}
		}
		if o.NumEntries != "" && (o.Parent == nil || o.Parent.Param(o.NumEntries) == nil) {
			err = fmt.Errorf("%s: parameter %s does not exist above it", o.Path, o.NumEntries)
		}
		if o.Enable != "" && o.Param(o.Enable) == nil {
			err = fmt.Errorf("%s: enable parameter %s does not exist", o.Path, o.Enable)
		}
		return err == nil
	})
	return err
}
