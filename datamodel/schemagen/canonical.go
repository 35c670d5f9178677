package schemagen

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"twinspan/datamodel"
)

const rootPath = "Device."

// canonicalPath is the projection of a source path; a path that is canonical already stays.
func canonicalPath(proto datamodel.Protocol, path string) string {
	if canonical, ok := datamodel.ToCanonical(proto, path); ok {
		return canonical
	}
	return path
}

// Canonical merges rows of both protocols into one list of canonical paths, sorted: deleted elements and whatever is
// below them are gone, references are absolute and canonical, and what both protocols say alike is one row. Rows that
// are canonical already stay as they are.
func Canonical(rows []Row) ([]Row, error) {
	gone := deletedPaths(rows)
	c := canonicalizer{paths: make(map[string]datamodel.Protocol, len(rows))}
	for i := range rows {
		c.paths[rows[i].Path] |= rows[i].Protocols
	}
	type key struct {
		path  string
		kind  Kind
		proto datamodel.Protocol
	}
	byKey := make(map[key]Row, len(rows))
	var order []key
	for i := range rows {
		for _, proto := range []datamodel.Protocol{datamodel.CWMP, datamodel.USP} {
			if !rows[i].Protocols.Has(proto) || gone.has(proto, rows[i].Path) {
				continue
			}
			r := rows[i]
			r.Protocols = proto
			if err := c.refs(&r, proto); err != nil {
				return nil, fmt.Errorf("%s: %w", r.Path, err)
			}
			r.Path = canonicalPath(proto, r.Path)
			if !strings.HasPrefix(r.Path, rootPath) {
				return nil, fmt.Errorf("%s: not below %s", r.Path, rootPath)
			}
			k := key{r.Path, r.Kind, proto}
			if _, twice := byKey[k]; twice {
				return nil, fmt.Errorf("%s: described twice for %s", r.Path, proto)
			}
			byKey[k] = r
			order = append(order, k)
		}
	}
	var out []Row
	for _, k := range order {
		r := byKey[k]
		other, both := byKey[key{k.path, k.kind, datamodel.Both &^ k.proto}]
		if both {
			other.Protocols = r.Protocols
			if formatRow(&r) == formatRow(&other) {
				if k.proto == datamodel.USP {
					continue // written with the CWMP row
				}
				r.Protocols = datamodel.Both
			}
		}
		out = append(out, r)
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := &out[i], &out[j]
		if a.Path != b.Path {
			return a.Path < b.Path
		}
		if a.Kind != b.Kind {
			return a.Kind < b.Kind
		}
		return a.Protocols < b.Protocols
	})
	return out, nil
}

// canonicalizer knows the paths of the source, per protocol.
type canonicalizer struct {
	paths map[string]datamodel.Protocol
}

// deletions holds the deleted elements of each protocol in its own spelling.
type deletions map[datamodel.Protocol]map[string]bool

func deletedPaths(rows []Row) deletions {
	d := deletions{datamodel.CWMP: {}, datamodel.USP: {}}
	for i := range rows {
		if rows[i].Facts.Status != "deleted" {
			continue
		}
		for proto, paths := range d {
			if rows[i].Protocols.Has(proto) {
				paths[rows[i].Path] = true
			}
		}
	}
	return d
}

// has reports whether the element, an object above it or the command or event it belongs to is deleted.
func (d deletions) has(proto datamodel.Protocol, path string) bool {
	paths := d[proto]
	if paths[path] {
		return true
	}
	for i := 0; i < len(path); i++ {
		if (path[i] == '.' && paths[path[:i+1]]) || (path[i] == ' ' && paths[path[:i]]) {
			return true
		}
	}
	return false
}

func (c *canonicalizer) refs(r *Row, proto datamodel.Protocol) error {
	if ref := r.Facts.PathRef; ref != nil {
		parents := make([]string, 0, len(ref.Parents))
		for _, p := range ref.Parents {
			abs, err := c.absolute(r, proto, p)
			if err != nil {
				return err
			}
			if !strings.HasSuffix(abs, ".") {
				abs += "."
			}
			if ref.Target == "row" { // rows are named by their table; a few references write {i} behind it
				abs = strings.TrimSuffix(abs, "{i}.")
			}
			// A reference to anything below the root refers to anything.
			if abs != rootPath {
				parents = append(parents, canonicalPath(proto, abs))
			}
		}
		r.Facts.PathRef = &datamodel.PathRef{Strong: ref.Strong, Target: ref.Target, Parents: parents}
	}
	if r.Facts.EnumRef != "" {
		abs, err := c.absolute(r, proto, r.Facts.EnumRef)
		if err != nil {
			return err
		}
		r.Facts.EnumRef = canonicalPath(proto, abs)
	}
	return nil
}

// absolute resolves a path of the source relative to the row that holds it (TR-106 path name scopes): "." starts at
// the root; any other start is below the object, command or event; every "#" goes up one of these, a table counting as
// one with its {i}. TR-181 has references with one "#" too many; where the target does not exist, but does with one
// less, that is meant.
func (c *canonicalizer) absolute(r *Row, proto datamodel.Protocol, path string) (string, error) {
	if strings.HasPrefix(path, rootPath) {
		return path, nil
	}
	if rest, ok := strings.CutPrefix(path, "."); ok {
		return rootPath + rest, nil
	}
	up := len(path) - len(strings.TrimLeft(path, "#"))
	target := strings.TrimPrefix(path[up:], ".")
	owner, argument := r.splitPath()
	scope, _ := datamodel.SplitParam(owner)
	if argument != "" {
		object, _ := datamodel.SplitParam(argument)
		if up == 0 { // a sibling of an argument is an argument
			return owner + argumentWord[r.Kind] + object + target, nil
		}
		scope = owner + "." + object
	}
	base, err := climb(scope, up)
	if err == nil && !c.exists(proto, base+target) && up > 1 {
		if lower, err := climb(scope, up-1); err == nil && c.exists(proto, lower+target) {
			base = lower
		}
	}
	if err != nil {
		return "", fmt.Errorf("reference %q: %w", path, err)
	}
	return base + target, nil
}

func climb(scope string, up int) (string, error) {
	for range up {
		scope = strings.TrimSuffix(strings.TrimSuffix(scope, "{i}."), ".")
		i := strings.LastIndexByte(scope, '.')
		if i < 0 {
			return "", errors.New("leads above the root")
		}
		scope = scope[:i+1]
	}
	return scope, nil
}

// exists reports whether a source path names an object, a table or a parameter.
func (c *canonicalizer) exists(proto datamodel.Protocol, path string) bool {
	return c.paths[path].Has(proto) || c.paths[path+"{i}."].Has(proto)
}
