package datamodel

import (
	"fmt"
	"strconv"
	"strings"
)

// MaxResolveWork bounds the rows, references and results that one path may visit, so that a short hostile path with
// many wildcards and references cannot hold the agent. Beyond it Resolve answers Resources.
const MaxResolveWork = 1 << 20

// Tree is the instantiated data model that Resolve reads, in canonical paths.
type Tree interface {
	// Instances returns the instance numbers of a table ("Device.IP.Interface.") in ascending order. The slice is
	// only read.
	Instances(table string) []uint32
	// HasInstance is Instances with one number asked for.
	HasInstance(table string, n uint32) bool
	// Value returns the current canonical value of a parameter; for search expressions and references. Secured values
	// that the asker may not see are "".
	Value(p *Param, path string) (string, bool)
}

// ResolvePolicy is what the message at hand does with the corners of resolution.
type ResolvePolicy struct {
	// Want restricts what the path may name; 0 = anything. Another kind of path is a PathSyntax error.
	Want PathWant
	// Visible is asked for what the path ends in, for every row that a wildcard or expression meets, and for every
	// parameter that an expression or a followed reference reads; nil = all. Objects merely passed through are not
	// asked for. An invisible element is treated as not in the supported data model (R-GET.1); invisible rows of a
	// search, and rows whose searched parameter is invisible, are passed over (R-GIN.0).
	Visible func(instancePath string, kind PathKind) bool
	// MissingIsError: a non-search path whose instance is missing is a NoInstance error, else an empty result.
	MissingIsError bool
	// AllowTable lets a path name a table itself (Get, GetInstances, Add); else it is a NoInstance error.
	AllowTable bool
	// CWMPAlias reads [name] as an alias (TR-069 3.6.1); else it is a PathSyntax error.
	CWMPAlias bool
}

// PathWant is a set of PathKinds.
type PathWant uint8

const (
	WantObject PathWant = 1 << iota
	WantParam
	WantCommand
	WantEvent
)

// Match is one thing a path resolved to.
type Match struct {
	Path    string  // canonical instance path
	Object  *Object // the object, or the one that holds Param, Command or Event
	Table   bool    // Path is the table itself, not a row
	Param   *Param
	Command *Command
	Event   *Event
}

// Resolve finds what a parsed canonical path names for one protocol. Order: depth first, ascending instance numbers;
// nothing is returned twice.
//
// The path is first checked against the schema as far as that can be done without the tree, so an unknown name is
// reported also below a table that has no rows. What Resolve decides:
//
//   - the empty path is Device. for CWMP and an error for USP;
//   - expressions and followed references are errors for CWMP, {i} is an error for both;
//   - a search that matches nothing is an empty result, never an error (R-GET.1a); only when rows matched and what the
//     path ends in is invisible in all of them it is NotSupported (R-GET.1);
//   - an empty or dangling reference leads nowhere: a missing instance, or in a search nothing;
//   - constants compared with reference parameters are in the spelling of proto and are made canonical first.
//
// Errors: NotSupported, NoInstance, PathSyntax (also an operator or constant that does not fit the type), Resources.
// The errors' Path is the path as given, which callers replace where the asker's spelling differs.
func Resolve(s *Schema, t Tree, proto Protocol, p Path, pol ResolvePolicy) ([]Match, error) {
	if pol.Want != 0 && pol.Want&(1<<p.Kind) == 0 {
		return nil, Fail(PathSyntax, p.raw, "the path names "+kindText[p.Kind]+", which is not expected here")
	}
	r := resolver{schema: s, tree: t, proto: proto, path: p, pol: pol, search: p.IsSearch()}
	root := s.Root()
	if len(p.Steps) == 0 {
		if proto != CWMP {
			return nil, Fail(PathSyntax, "", "the path is empty")
		}
		err := r.emitObject(root, root.Path, false)
		return r.out, err
	}
	if !startsAt(root, p) || len(p.Steps) == 1 && p.Kind != ObjectPath {
		return nil, Fail(NotSupported, p.raw, "paths begin with "+root.Path)
	}
	if err := r.check(root, p.Steps[1:], p.Kind); err != nil {
		return nil, err
	}
	if p.IsPlain() {
		err := r.plain(root, p.Steps[1:])
		return r.out, err
	}
	for i := range p.Steps {
		if p.Steps[i].Kind == StepFollow {
			r.seen = map[string]bool{}
			break
		}
	}
	if err := r.walk(root, root.Path, false, p.Steps[1:]); err != nil {
		return nil, err
	}
	if len(r.out) == 0 {
		if r.hidden { // R-GET.1
			return nil, Fail(NotSupported, p.raw, "")
		}
		if r.missing && !r.search && pol.MissingIsError {
			return nil, Fail(NoInstance, p.raw, "")
		}
	}
	return r.out, nil
}

// startsAt: the first element is the name of the root object.
func startsAt(root *Object, p Path) bool {
	return p.Steps[0].Kind == StepName && p.Steps[0].Name == root.Path[:len(root.Path)-1]
}

var kindText = [...]string{ObjectPath: "an object", ParamPath: "a parameter", CommandPath: "a command", EventPath: "an event"}

type resolver struct {
	schema *Schema
	tree   Tree
	proto  Protocol
	path   Path
	pol    ResolvePolicy
	search bool

	out     []Match
	seen    map[string]bool // only when references are followed: two may lead to one object
	missing bool            // an instance or reference target does not exist
	hidden  bool            // something the path ends in was invisible
	work    int
	depth   int // of references whose value is itself addressed by unique key
	cache   map[*Step]*exprMatcher
}

func (r *resolver) notSupported(text string) *Error { return Fail(NotSupported, r.path.raw, text) }
func (r *resolver) syntax(text string) *Error       { return Fail(PathSyntax, r.path.raw, text) }

func (r *resolver) spend(n int) error {
	if r.work += n; r.work > MaxResolveWork {
		return Fail(Resources, r.path.raw, fmt.Sprintf("the path visits more than %d places", MaxResolveWork))
	}
	return nil
}

func (r *resolver) visible(path string, kind PathKind) bool {
	return r.pol.Visible == nil || r.pol.Visible(path, kind)
}

// check walks the schema alone, up to the first followed reference.
func (r *resolver) check(obj *Object, steps []Step, kind PathKind) error {
	table := false
	for i := range steps {
		st := &steps[i]
		last := i == len(steps)-1
		if table && st.Kind != StepName && st.Kind != StepFollow {
			if err := r.checkInstance(obj, st); err != nil {
				return err
			}
			table = false
			continue
		}
		switch {
		case st.Kind == StepTemplate:
			return r.syntax("{i} is only for supported paths; an instance is needed here")
		case st.Kind != StepName && st.Kind != StepFollow:
			return r.notSupported(obj.Path + " is not a table")
		case table:
			return r.notSupported("an instance is needed after " + obj.TablePath())
		case last && kind != ObjectPath:
			return r.checkLeaf(obj, st.Name, kind)
		case st.Kind == StepFollow:
			_, err := r.reference(obj, st.Name)
			return err
		}
		child := obj.Child(st.Name)
		if child == nil || !child.Protocols.Has(r.proto) {
			return r.notSupported("")
		}
		obj, table = child, child.Multi
	}
	if table && !r.pol.AllowTable {
		return Fail(NoInstance, r.path.raw, "the path names a table, a row of it is needed")
	}
	return nil
}

func (r *resolver) checkInstance(obj *Object, st *Step) error {
	switch st.Kind {
	case StepTemplate:
		return r.syntax("{i} is only for supported paths; an instance is needed here")
	case StepAlias:
		if !r.pol.CWMPAlias {
			return r.syntax("[" + st.Name + "] has no comparison operator")
		}
		if a := obj.Param("Alias"); a == nil || a.Facts(r.proto) == nil {
			return r.notSupported(obj.TablePath() + " has no Alias")
		}
	case StepExpr:
		if r.proto == CWMP {
			return r.syntax("CWMP has no search expressions")
		}
		_, err := r.matcher(obj, st)
		return err
	}
	return nil
}

func (r *resolver) checkLeaf(obj *Object, name string, kind PathKind) error {
	if _, ok := r.leaf(obj, name, kind); !ok {
		return r.notSupported("")
	}
	return nil
}

// leaf looks up what a path ends in.
func (r *resolver) leaf(obj *Object, name string, kind PathKind) (Match, bool) {
	m := Match{Object: obj}
	switch kind {
	case ParamPath:
		m.Param = obj.Param(name)
		return m, m.Param != nil && m.Param.Protocols.Has(r.proto)
	case CommandPath:
		m.Command = obj.Command(name)
		return m, m.Command != nil && r.proto == USP
	case EventPath:
		m.Event = obj.Event(name)
		return m, m.Event != nil && r.proto == USP
	}
	return m, false
}

// reference returns the parameter behind Name+.
func (r *resolver) reference(obj *Object, name string) (*Param, error) {
	if r.proto == CWMP {
		return nil, r.syntax("CWMP does not follow references in paths")
	}
	p := obj.Param(name)
	if p == nil || !p.Protocols.Has(r.proto) {
		return nil, r.notSupported(obj.Path + name)
	}
	f := p.Facts(r.proto)
	// LowerLayers and a few others carry row references without the model saying so; any free string may.
	if f.Type != TypeString || len(f.Enum) > 0 || f.PathRef != nil && f.PathRef.Target == "parameter" {
		return nil, r.syntax(name + " is not a reference to an object")
	}
	return p, nil
}

// plain resolves a path of names and numbers that check has passed: it is its own result.
func (r *resolver) plain(obj *Object, steps []Step) error {
	raw := r.path.raw
	end := len(obj.Path)
	table := false
	for i := range steps {
		st := &steps[i]
		if i == len(steps)-1 && r.path.Kind != ObjectPath {
			return r.emitLeaf(obj, raw, st.Name)
		}
		start := end
		end += strings.IndexByte(raw[end:], '.') + 1
		if st.Kind == StepName {
			obj = obj.Child(st.Name)
			table = obj.Multi
			continue
		}
		table = false
		if !r.tree.HasInstance(raw[:start], st.N) {
			if r.pol.MissingIsError {
				return Fail(NoInstance, raw, "")
			}
			return nil
		}
	}
	return r.emitObject(obj, raw, table)
}

func (r *resolver) emitObject(obj *Object, path string, table bool) error {
	if table && !r.pol.AllowTable { // only behind a followed reference: check saw the others
		return Fail(NoInstance, r.path.raw, "the path names a table, a row of it is needed")
	}
	return r.emit(Match{Path: path, Object: obj, Table: table}, ObjectPath)
}

func (r *resolver) emitLeaf(obj *Object, path, name string) error {
	m, ok := r.leaf(obj, name, r.path.Kind)
	if !ok { // only behind a followed reference
		return r.unknown()
	}
	m.Path = path
	return r.emit(m, r.path.Kind)
}

func (r *resolver) emit(m Match, kind PathKind) error {
	if err := r.spend(1); err != nil {
		return err
	}
	if !r.visible(m.Path, kind) { // R-GET.1
		if !r.search {
			return r.notSupported("")
		}
		r.hidden = true
		return nil
	}
	if r.seen != nil {
		if r.seen[m.Path] {
			return nil
		}
		r.seen[m.Path] = true
	}
	r.out = append(r.out, m)
	return nil
}

// unknown is for names that turn out not to exist in the object a reference led to.
func (r *resolver) unknown() error {
	if r.search {
		return nil
	}
	return r.notSupported("")
}

// walk goes on from an object whose instance path is path.
func (r *resolver) walk(obj *Object, path string, table bool, steps []Step) error {
	if len(steps) == 0 {
		return r.emitObject(obj, path, table)
	}
	st := &steps[0]
	if table {
		return r.rows(obj, path, st, steps[1:])
	}
	switch st.Kind {
	case StepName:
		if len(steps) == 1 && r.path.Kind != ObjectPath {
			return r.emitLeaf(obj, path+st.Name, st.Name)
		}
		child := obj.Child(st.Name)
		if child == nil || !child.Protocols.Has(r.proto) {
			return r.unknown()
		}
		return r.walk(child, path+st.Name+".", child.Multi, steps[1:])
	case StepFollow:
		return r.followed(obj, path, st, func(target *Object, targetPath string) error {
			return r.walk(target, targetPath, false, steps[1:])
		})
	}
	return r.unknown()
}

// rows goes on from the rows of a table that a step selects.
func (r *resolver) rows(obj *Object, table string, st *Step, rest []Step) error {
	switch st.Kind {
	case StepInstance:
		if !r.tree.HasInstance(table, st.N) {
			r.missing = true
			return nil
		}
		return r.walk(obj, table+strconv.FormatUint(uint64(st.N), 10)+".", false, rest)
	case StepAny: // R-ARC.10
		return r.eachRow(obj, table, func(row string) error { return r.walk(obj, row, false, rest) })
	case StepExpr: // R-ARC.9
		m, err := r.matcher(obj, st)
		if err != nil {
			if ReasonOf(err) == NotSupported {
				return r.unknown()
			}
			return err
		}
		return r.eachRow(obj, table, func(row string) error {
			ok, err := m.match(r, obj, row)
			if err != nil || !ok {
				return err
			}
			return r.walk(obj, row, false, rest)
		})
	case StepAlias: // TR-069 3.6.1
		return r.aliasRow(obj, table, st.Name, rest)
	}
	return r.unknown()
}

func (r *resolver) eachRow(obj *Object, table string, fn func(row string) error) error {
	buf := append(make([]byte, 0, len(table)+len("4294967295.")), table...)
	for _, n := range r.tree.Instances(table) {
		if err := r.spend(1); err != nil {
			return err
		}
		row := string(append(strconv.AppendUint(buf, uint64(n), 10), '.'))
		if !r.visible(row, ObjectPath) { // R-GIN.0
			continue
		}
		if err := fn(row); err != nil {
			return err
		}
	}
	return nil
}

func (r *resolver) aliasRow(obj *Object, table, alias string, rest []Step) error {
	p := obj.Param("Alias")
	if p == nil {
		return r.unknown()
	}
	for _, n := range r.tree.Instances(table) {
		if err := r.spend(1); err != nil {
			return err
		}
		row := table + strconv.FormatUint(uint64(n), 10) + "."
		if v, ok := r.tree.Value(p, row+"Alias"); ok && v == alias {
			return r.walk(obj, row, false, rest)
		}
	}
	r.missing = true
	return nil
}
