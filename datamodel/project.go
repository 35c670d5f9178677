package datamodel

import "strings"

// A projection is one part of the tree that the two protocols spell differently. The whole subtree is renamed; which
// objects, parameters, commands and events below it exist for a protocol is said by the schema alone (Protocols), so
// Device.CWMPManagementServer. over USP is an object that holds nothing but EnableCWMP, although its canonical form
// Device.ManagementServer. holds the whole link to the ACS.
type projection struct {
	canonical string    // what the store, the schema and the policies say
	spelled   [2]string // by Protocol.index(): CWMP, USP
}

// projections is the declared data behind DESIGN invariant 6; only this table knows both spellings. A prefix names an
// object, ends in a dot, and no prefix may be the start of another one.
var projections = [...]projection{
	{canonical: "Device.LocalAgent.", spelled: [2]string{"Device.USPAgent.", "Device.LocalAgent."}},
	{canonical: "Device.ManagementServer.", spelled: [2]string{"Device.ManagementServer.", "Device.CWMPManagementServer."}},
}

// ToCanonical rewrites a path text from the spelling of proto to the canonical one; FromCanonical is its inverse: each
// undoes the other wherever ok is true. They apply to object, table, parameter, command, event, search, supported and
// partial paths, and to references that lack the final dot. Texts that need no rewriting are returned as they are
// without allocation. ok=false: the path is spelled in a way that proto does not have (Device.LocalAgent. over CWMP,
// Device.ManagementServer. over USP; for FromCanonical, a text that is not canonical).
func ToCanonical(proto Protocol, path string) (canonical string, ok bool) {
	if !projectable(path) {
		return path, true
	}
	for i := range projections {
		p := &projections[i]
		from := p.spelled[proto.index()]
		if rest, ok := below(path, from); ok {
			return renamed(path, rest, from, p.canonical), true
		}
		if p.names(path) {
			return "", false
		}
	}
	return path, true
}

// FromCanonical rewrites a canonical path text to the spelling of proto, see ToCanonical.
func FromCanonical(proto Protocol, canonical string) (path string, ok bool) {
	if !projectable(canonical) {
		return canonical, true
	}
	for i := range projections {
		p := &projections[i]
		if rest, ok := below(canonical, p.canonical); ok {
			return renamed(canonical, rest, p.canonical, p.spelled[proto.index()]), true
		}
		if p.names(canonical) {
			return "", false
		}
	}
	return canonical, true
}

// projectable is a quick no for nearly all paths: the letter after "Device." begins none of the table's names.
func projectable(path string) bool {
	const at = len("Device.")
	if len(path) <= at {
		return false
	}
	switch path[at] {
	case 'L', 'U', 'M', 'C': // proved against the table by a test
		return true
	}
	return false
}

// names reports whether any of the spellings of p is at the start of path.
func (p *projection) names(path string) bool {
	for _, s := range [...]string{p.canonical, p.spelled[0], p.spelled[1]} {
		if _, ok := below(path, s); ok {
			return true
		}
	}
	return false
}

// below cuts an object prefix off path; "Device.USPAgent" without its dot counts as "Device.USPAgent.".
func below(path, prefix string) (rest string, ok bool) {
	if rest, ok := strings.CutPrefix(path, prefix); ok {
		return rest, true
	}
	return "", path == prefix[:len(prefix)-1]
}

func renamed(path, rest, from, to string) string {
	switch {
	case from == to:
		return path
	case len(path) < len(from): // without the final dot
		return to[:len(to)-1]
	}
	return to + rest
}

// ToCanonicalValue rewrites reference values (parameters with PathRef, lists included) from the spelling of proto to
// the canonical one. A reference into a part that proto spells differently is left as it is: it then refers to
// nothing, and validation of strong references refuses it. Values of other parameters are returned unchanged.
func ToCanonicalValue(proto Protocol, f *Facts, value string) string {
	return projectValue(f, value, proto, ToCanonical)
}

// FromCanonicalValue is the inverse of ToCanonicalValue.
func FromCanonicalValue(proto Protocol, f *Facts, value string) string {
	return projectValue(f, value, proto, FromCanonical)
}

func projectValue(f *Facts, value string, proto Protocol, project func(Protocol, string) (string, bool)) string {
	if f == nil || f.PathRef == nil || value == "" {
		return value
	}
	if !f.List {
		if out, ok := project(proto, value); ok {
			return out
		}
		return value
	}
	items := f.Items(value)
	changed := false
	for i, it := range items {
		if out, ok := project(proto, it); ok && out != it {
			items[i], changed = out, true
		}
	}
	if !changed {
		return value
	}
	return strings.Join(items, ",")
}

// ViewChildren yields the child objects of obj that exist for proto, in the order of their canonical names, each with
// the name that proto calls it. It is how a walker (Get of a subtree, GetParameterNames, GetSupportedDM) sees where
// the parts that are spelled differently appear: below Device. USP finds LocalAgent and CWMPManagementServer, CWMP
// finds USPAgent and ManagementServer. Paths built from the names equal FromCanonical of the canonical ones.
func ViewChildren(proto Protocol, obj *Object, yield func(name string, child *Object) bool) {
	for _, c := range obj.Children {
		if c.Protocols.Has(proto) && !yield(ViewName(proto, c), c) {
			return
		}
	}
}

// ViewName is the last name of an object as proto spells it.
func ViewName(proto Protocol, obj *Object) string {
	for i := range projections {
		if p := &projections[i]; obj.Path == p.canonical {
			return lastName(p.spelled[proto.index()])
		}
	}
	return obj.Name
}

func lastName(objectPath string) string {
	s := objectPath[:len(objectPath)-1]
	return s[strings.LastIndexByte(s, '.')+1:]
}
