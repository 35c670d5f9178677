package bridge

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"twinspan/datamodel"
	"twinspan/store"
)

// View is one consistent version seen through a writer. Cheap to make; safe for concurrent use; hold it as long as
// wanted (it pins memory only). Live values are read when they are asked for and are as of then.
//
// A View answers in the spelling of its writer's protocol, and takes the Matches it gave.
type View struct {
	e   *Engine
	w   Writer
	v   *store.Version
	cat *catalog
	err error // an expired shield: every read answers it
}

func (e *Engine) viewAt(w Writer, v *store.Version) *View {
	return &View{e: e, w: w, v: v, cat: e.cat.Load()}
}

// View shows the newest version to w.
func (e *Engine) View(w Writer) *View { return e.viewAt(w, e.store.Head()) }

// Revision of the version shown. It is valid in a Guard.
func (v *View) Revision() uint64 { return v.v.Rev() }

// Schema is the data model of this device for all protocols.
func (v *View) Schema() *datamodel.Schema { return v.e.schema }

// Version is the store's version behind the view: canonical paths, no rights, no masks.
func (v *View) Version() *store.Version { return v.v }

// Writer is who looks.
func (v *View) Writer() Writer { return v.w }

func (v *View) tree() *tree {
	return &tree{w: &v.w, cat: v.cat, s: v.e.schema, v: v.v, base: v.v, live: &direct{e: v.e, cat: v.cat}}
}

// Resolve parses and resolves a path in the writer's spelling. Match.Path is in the writer's spelling too. Objects and
// parameters that the writer may not read are treated as not supported (R-GET.1), except when only commands are
// wanted: a command that may not be run is refused by Command, not hidden. The empty path is the root object.
func (v *View) Resolve(path string, pol datamodel.ResolvePolicy) ([]datamodel.Match, error) {
	if v.err != nil {
		return nil, v.err
	}
	if v.w.Rights != nil && !v.w.System && pol.Want != datamodel.WantCommand {
		pol.Visible = v.readable(pol.Visible)
	}
	ms, err := v.tree().resolve(path, pol)
	for i := range ms {
		ms[i].Path = v.spell(ms[i].Path)
	}
	return ms, err
}

// readable narrows what the caller wants to see to what the writer may read.
func (v *View) readable(asked func(string, datamodel.PathKind) bool) func(string, datamodel.PathKind) bool {
	return func(path string, kind datamodel.PathKind) bool {
		switch kind {
		case datamodel.ObjectPath:
			if !v.w.may(v.v, path, ReadObj) { // R-GET.1
				return false
			}
		case datamodel.ParamPath:
			if !v.w.may(v.v, path, ReadParam) {
				return false
			}
		}
		return asked == nil || asked(path, kind)
	}
}

// resolve takes the writer's spelling and gives canonical matches. Errors name the path as it was asked.
func (t *tree) resolve(path string, pol datamodel.ResolvePolicy) ([]datamodel.Match, error) {
	if path == "" {
		return []datamodel.Match{{Path: t.s.Root().Path, Object: t.s.Root()}}, nil
	}
	canonical, ok := toCanonical(t.w.Protocol, path)
	if !ok {
		return nil, datamodel.Fail(datamodel.NotSupported, path, "")
	}
	p, err := datamodel.ParsePath(canonical)
	if err != nil {
		return nil, asAsked(err, path)
	}
	proto := t.w.Protocol
	if proto == 0 && !p.IsPlain() { // expressions need the facts of one protocol
		proto = datamodel.USP
	}
	ms, err := datamodel.Resolve(t.s, t, proto, p, pol)
	if proto != t.w.Protocol && datamodel.ReasonOf(err) == datamodel.NotSupported {
		ms, err = datamodel.Resolve(t.s, t, datamodel.CWMP, p, pol)
	}
	if err != nil {
		return nil, asAsked(err, path)
	}
	return ms, nil
}

func asAsked(err error, path string) error {
	var e *datamodel.Error
	if errors.As(err, &e) {
		c := *e
		c.Path = path
		return &c
	}
	return &datamodel.Error{Reason: datamodel.Internal, Path: path, Err: err}
}

func (v *View) spell(canonical string) string { return spell(v.w.Protocol, canonical) }

// spell gives the protocol's spelling; a path that protocol has none for stays canonical (logs only).
func spell(proto datamodel.Protocol, canonical string) string {
	if proto == 0 {
		return canonical
	}
	if s, ok := datamodel.FromCanonical(proto, canonical); ok {
		return s
	}
	return canonical
}

// toCanonical is datamodel.ToCanonical; writers without a protocol (sys:) speak canonical.
func toCanonical(proto datamodel.Protocol, path string) (string, bool) {
	if proto == 0 {
		return path, true
	}
	return datamodel.ToCanonical(proto, path)
}

// factsOf gives what a protocol says of a parameter; writers without a protocol see all.
func factsOf(p *datamodel.Param, proto datamodel.Protocol) *datamodel.Facts {
	if proto == 0 {
		return p.Any()
	}
	return p.Facts(proto)
}

func (v *View) canonical(path string) string {
	if c, ok := toCanonical(v.w.Protocol, path); ok {
		return c
	}
	return path
}

// Value reads one parameter: live value, else stored, else default, else the type's zero. Secured and hidden values
// read as "", CWMP command parameters as false or empty. Denied parameters answer NotSupported (R-GET.1).
func (v *View) Value(ctx context.Context, m datamodel.Match) (string, error) {
	if v.err != nil {
		return "", v.err
	}
	if m.Param == nil {
		return "", datamodel.Fail(datamodel.NotSupported, m.Path, "not a parameter")
	}
	f := factsOf(m.Param, v.w.Protocol)
	if f == nil {
		return "", datamodel.Fail(datamodel.NotSupported, m.Path, "")
	}
	path := v.canonical(m.Path)
	if !v.w.may(v.v, path, ReadParam) {
		return "", datamodel.Fail(datamodel.NotSupported, m.Path, "")
	}
	if f.Hidden || f.Secured && !v.w.secured(v.v) {
		return "", nil
	}
	if f.Command {
		return f.Zero(), nil
	}
	if child := v.cat.counts[m.Param]; child != nil {
		t := v.tree()
		return t.count(child, path[:len(path)-len(m.Param.Name)]+child.Name+"."), nil
	}
	if v.cat.liveFor(m.Param) != nil {
		got := v.e.readObject(ctx, v.cat, v.v, m.Param.Object, path[:len(path)-len(m.Param.Name)], m.Param)
		if val, ok := got[m.Param.Name]; ok {
			return v.out(f, val), nil
		}
	}
	if l, ok := v.v.Leaf(path); ok {
		return v.out(f, l.Value), nil
	}
	return v.out(f, defaultOf(m.Param, f)), nil
}

// out puts reference values into the writer's spelling.
func (v *View) out(f *datamodel.Facts, value string) string {
	return outValue(v.w.Protocol, f, value)
}

func outValue(proto datamodel.Protocol, f *datamodel.Facts, value string) string {
	if f.PathRef == nil || proto == 0 {
		return value
	}
	return datamodel.FromCanonicalValue(proto, f, value)
}

// Params yields the readable parameters of one object instance in name order with their values. Parameters without
// read right are left out (R-GET.4). One provider call serves the whole object.
func (v *View) Params(ctx context.Context, obj datamodel.Match, yield func(p *datamodel.Param, value string) bool) error {
	if v.err != nil {
		return v.err
	}
	if obj.Table || obj.Object == nil || len(obj.Object.Params) == 0 {
		return nil
	}
	path := v.canonical(obj.Path)
	var liveVals map[string]string
	if v.cat.objects[obj.Object] != nil || v.cat.partly[obj.Object] {
		liveVals = v.e.readObject(ctx, v.cat, v.v, obj.Object, path, nil)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	node := leavesOf(v.v, path)
	for _, p := range obj.Object.Params {
		f := factsOf(p, v.w.Protocol)
		if f == nil || v.w.Rights != nil && !v.w.may(v.v, path+p.Name, ReadParam) { // R-GET.4
			continue
		}
		if !yield(p, v.valueOf(p, f, path, &node, liveVals)) {
			return nil
		}
	}
	return nil
}

func (v *View) valueOf(p *datamodel.Param, f *datamodel.Facts, path string, node *leaves, liveVals map[string]string) string {
	switch {
	case f.Hidden, f.Secured && !v.w.secured(v.v):
		return ""
	case f.Command:
		return f.Zero()
	}
	if child := v.cat.counts[p]; child != nil {
		return v.tree().count(child, path+child.Name+".")
	}
	if liveVals != nil {
		if val, ok := liveVals[p.Name]; ok {
			return v.out(f, val)
		}
	}
	if val, ok := node.get(p.Name); ok {
		return v.out(f, val)
	}
	return v.out(f, defaultOf(p, f))
}

// Objects yields obj itself and the object instances below it, depth first; tables are not yielded, their rows are.
// depth 0 is unlimited, 1 obj only (a table: its rows), as Get.max_depth counts (R-GET.5). Objects that the writer may
// not read are left out; what is below them is judged on its own.
func (v *View) Objects(obj datamodel.Match, depth int, yield func(m datamodel.Match) bool) error {
	if v.err != nil {
		return v.err
	}
	if obj.Object == nil || obj.Param != nil || obj.Command != nil || obj.Event != nil {
		return datamodel.Fail(datamodel.NotSupported, obj.Path, "not an object")
	}
	if depth <= 0 {
		depth = 1 << 30
	}
	w := &objectWalk{v: v, t: v.tree(), yield: yield}
	path := v.canonical(obj.Path)
	if obj.Table {
		w.table(obj.Object, path, depth)
	} else {
		w.object(obj.Object, path, depth)
	}
	return nil
}

type objectWalk struct {
	v     *View
	t     *tree
	yield func(datamodel.Match) bool
}

func (w *objectWalk) object(o *datamodel.Object, path string, depth int) bool {
	if w.v.w.may(w.v.v, path, ReadObj) { // R-GET.1
		if !w.yield(datamodel.Match{Path: w.v.spell(path), Object: o}) {
			return false
		}
	}
	if depth <= 1 {
		return true
	}
	for _, c := range o.Children {
		if !c.Protocols.Has(w.v.w.Protocol) {
			continue
		}
		below := path + c.Name + "."
		if c.Multi {
			if !w.table(c, below, depth-1) {
				return false
			}
		} else if !w.object(c, below, depth-1) {
			return false
		}
	}
	return true
}

func (w *objectWalk) table(o *datamodel.Object, table string, depth int) bool {
	for _, n := range w.t.rows(o, table) {
		if !w.object(o, table+strconv.FormatUint(uint64(n), 10)+".", depth) {
			return false
		}
	}
	return true
}

// Keys returns the readable unique-key parameters of a row (R-ADD.6, R-GIN.1).
func (v *View) Keys(ctx context.Context, row datamodel.Match) map[string]string {
	if v.err != nil || row.Object == nil || len(row.Object.Keys) == 0 {
		return nil
	}
	out := map[string]string{}
	for _, k := range row.Object.Keys {
		for _, name := range k.Params {
			p := row.Object.Param(name)
			if _, done := out[name]; done || p == nil {
				continue
			}
			if val, err := v.Value(ctx, datamodel.Match{Path: row.Path + name, Object: row.Object, Param: p}); err == nil {
				out[name] = val
			}
		}
	}
	return out
}

// Attr returns the effective CWMP attributes of a parameter: set on itself, on the nearest partial path, or default.
// Notification and access list are inherited each on its own.
func (v *View) Attr(m datamodel.Match) store.Attr {
	return effectiveAttr(v.v, v.canonical(m.Path), m.Param)
}

// accessList is the AccessList in force on a parameter; has is false if none was ever set there or above.
func accessList(v *store.Version, path string) (list []string, has bool) {
	a := v.NearestAttr(path)
	if !a.HasAccess {
		return nil, false
	}
	return a.AccessList, true
}

func effectiveAttr(v *store.Version, path string, p *datamodel.Param) store.Attr {
	out := v.NearestAttr(path)
	forced := ""
	if p != nil {
		if f := p.Facts(datamodel.CWMP); f != nil {
			forced = f.ActiveNotify
		}
	}
	switch {
	case forced == "forceEnabled": // cannot be changed
		out.Notification = 2
	case out.Notification < 0 && forced == "forceDefaultEnabled":
		out.Notification = 2
	case out.Notification < 0:
		out.Notification = 0
	}
	if !out.HasAccess {
		out.AccessList = []string{"Subscriber"} // TR-069 A.3.2.4: the factory default lets everybody write
	}
	return out
}

// parentPath gives "Device.A." for "Device.A.B" and "Device.A.B.", "" for "Device.".
func parentPath(path string) string {
	return path[:strings.LastIndexByte(strings.TrimSuffix(path, "."), '.')+1]
}

// Writable reports what GetParameterNames calls Writable: parameter settable, table addable, row deletable, by the
// schema and for this writer in this phase; who owns it now does not matter.
func (v *View) Writable(m datamodel.Match) bool {
	path := v.canonical(m.Path)
	switch {
	case m.Param != nil:
		f := factsOf(m.Param, v.w.Protocol)
		if f == nil || f.Access == datamodel.ReadOnly {
			return false
		}
		if f.Access == datamodel.WriteOnceReadOnly {
			if l, ok := v.v.Leaf(path); ok && (l.Value != "" || l.Flags&store.Written != 0) {
				return false
			}
		}
	case m.Object == nil || !m.Object.Multi || m.Object.Access(v.w.Protocol) != datamodel.ReadWrite:
		return false
	}
	p := Proposal{Phase: v.e.PhaseAt(v.v), Writer: v.w, Path: path, Create: m.Param == nil && m.Table, Delete: m.Param == nil && !m.Table,
		New: "\x00"} // no value of a parameter
	if verdict, vetoed := v.e.vetoed(&p); vetoed {
		return !verdict.Static
	}
	return !v.e.Arbiter().Decide(p).Static
}

// leaves looks up the stored values of one object instance without building a new path for each.
type leaves struct {
	v   *store.Version
	buf []byte
	n   int
}

func leavesOf(v *store.Version, path string) leaves {
	buf := make([]byte, len(path), len(path)+48)
	copy(buf, path)
	return leaves{v: v, buf: buf, n: len(path)}
}

func (l *leaves) get(name string) (string, bool) {
	l.buf = append(l.buf[:l.n], name...)
	leaf, ok := l.v.Leaf(string(l.buf))
	return leaf.Value, ok
}
