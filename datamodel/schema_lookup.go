package datamodel

import "strings"

// instanceSegment is what stands for an instance number in a supported path.
const instanceSegment = "{i}"

// Lookup finds an instance or supported path ("Device.IP.Interface.1.Enable", "Device.IP.Interface.{i}.") in the
// schema only, in O(depth · log width) and without allocation. It says nothing about which instances exist. Wildcards,
// expressions and aliases are not found.
//
// Object is always set: it is the object named, or the one that holds the Param, Command or Event, of which at most
// one is set. Table is true for a table's own path ("Device.IP.Interface."). Match.Path is the path as given.
func (s *Schema) Lookup(path string) (m Match, ok bool) {
	if s == nil || s.root == nil {
		return Match{}, false
	}
	rest, found := strings.CutPrefix(path, s.root.Path)
	if !found {
		return Match{}, false
	}
	o := s.root
	for rest != "" {
		dot := strings.IndexByte(rest, '.')
		if dot < 0 {
			return lookupLeaf(o, path, rest)
		}
		o = o.Child(rest[:dot])
		if o == nil {
			return Match{}, false
		}
		rest = rest[dot+1:]
		if !o.Multi {
			continue
		}
		if rest == "" {
			return Match{Path: path, Object: o, Table: true}, true
		}
		dot = strings.IndexByte(rest, '.')
		if dot < 0 || (rest[:dot] != instanceSegment && !isInstanceNumber(rest[:dot])) {
			return Match{}, false
		}
		rest = rest[dot+1:]
	}
	return Match{Path: path, Object: o}, true
}

func lookupLeaf(o *Object, path, name string) (Match, bool) {
	m := Match{Path: path, Object: o}
	switch name[len(name)-1] {
	case ')':
		m.Command = o.Command(name)
		return m, m.Command != nil
	case '!':
		m.Event = o.Event(name)
		return m, m.Event != nil
	}
	m.Param = o.Param(name)
	return m, m.Param != nil
}

// Walk calls visit for o and every object below it, parents first, siblings by name, until visit returns false.
func (o *Object) Walk(visit func(*Object) bool) bool {
	if !visit(o) {
		return false
	}
	for _, c := range o.Children {
		if !c.Walk(visit) {
			return false
		}
	}
	return true
}

// SplitParam splits "Device.A.1.B" into "Device.A.1." and "B". The name of an object path, which ends in a dot, is
// empty; the object of a text without a dot is empty.
func SplitParam(path string) (object, name string) {
	i := strings.LastIndexByte(path, '.') + 1
	return path[:i], path[i:]
}

// SupportedPath replaces the instance numbers of an instance path: "Device.A.1.B" -> "Device.A.{i}.B". A path without
// instance numbers is returned as it is, without allocation.
func SupportedPath(instance string) string {
	if !hasInstanceNumber(instance) {
		return instance
	}
	var b strings.Builder
	b.Grow(len(instance) + 2*len(instanceSegment))
	for rest := instance; ; {
		segment, tail, more := strings.Cut(rest, ".")
		if isInstanceNumber(segment) {
			segment = instanceSegment
		}
		b.WriteString(segment)
		if !more {
			return b.String()
		}
		b.WriteByte('.')
		rest = tail
	}
}

func hasInstanceNumber(path string) bool {
	for i := 0; i+1 < len(path); i++ {
		if path[i] == '.' && path[i+1] >= '0' && path[i+1] <= '9' {
			end := strings.IndexByte(path[i+1:], '.')
			if end < 0 {
				end = len(path) - i - 1
			}
			if isInstanceNumber(path[i+1 : i+1+end]) {
				return true
			}
		}
	}
	return false
}

// isInstanceNumber accepts 1 to 4294967295 without leading zeros (TR-106 3.1: instance numbers are positive).
func isInstanceNumber(s string) bool {
	if len(s) == 0 || len(s) > 10 || s[0] == '0' {
		return false
	}
	n := uint64(0)
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
		n = n*10 + uint64(s[i]-'0')
	}
	return n <= 1<<32-1
}
