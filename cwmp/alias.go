package cwmp

import (
	"context"
	"strings"

	"twinspan/bridge"
	"twinspan/datamodel"
)

// This file is alias-based addressing (TR-069 3.6.1): [alias] in the place of an instance number. What the ACS sends may hold
// both; what it gets holds aliases when InstanceMode says so.

const (
	instanceModePath = msPath + "InstanceMode"
	autoCreatePath   = msPath + "AutoCreateInstances"
)

// speller writes paths and references for the ACS. A nil speller leaves numbers. It is for one answer.
type speller struct {
	ctx   context.Context
	v     *bridge.View
	cache map[string]string
}

// newSpeller follows InstanceMode as v has it. ALI-04
func newSpeller(ctx context.Context, v *bridge.View) *speller {
	if l, ok := v.Version().Leaf(instanceModePath); !ok || l.Value != "InstanceAlias" {
		return nil
	}
	return &speller{ctx: ctx, v: v, cache: map[string]string{}}
}

// path spells the path of an object, row, table or parameter.
func (p *speller) path(path string) string {
	if p == nil {
		return path
	}
	i := strings.LastIndexByte(path, '.') + 1
	return p.object(path[:i]) + path[i:]
}

func (p *speller) object(path string) string {
	if path == "" {
		return ""
	}
	if out, ok := p.cache[path]; ok {
		return out
	}
	i := strings.LastIndexByte(path[:len(path)-1], '.') + 1
	last := path[i : len(path)-1]
	if last[0] >= '0' && last[0] <= '9' {
		if a := p.alias(path); a != "" {
			last = "[" + a + "]"
		}
	}
	out := p.object(path[:i]) + last + "."
	p.cache[path] = out
	return out
}

// alias of a row, empty where there is none that could be used as an address.
func (p *speller) alias(row string) string {
	m, ok := p.v.Schema().Lookup(canonicalPath(row))
	if !ok || m.Object == nil {
		return ""
	}
	prm := m.Object.Param("Alias")
	if prm == nil || prm.Facts(datamodel.CWMP) == nil {
		return ""
	}
	value, err := p.v.Value(p.ctx, datamodel.Match{Path: row + "Alias", Object: m.Object, Param: prm})
	if err != nil || !usableAlias(value) {
		return ""
	}
	return value
}

// value spells the references that a value holds.
func (p *speller) value(prm *datamodel.Param, value string) string {
	if p == nil || value == "" {
		return value
	}
	return eachReference(prm, value, func(ref string) string {
		object := strings.TrimSuffix(ref, ".") + "."
		if m, ok := p.v.Schema().Lookup(canonicalPath(object)); ok && m.Param == nil {
			return strings.TrimSuffix(p.object(object), ".")
		}
		return p.path(ref)
	})
}

func eachReference(prm *datamodel.Param, value string, fn func(string) string) string {
	f := prm.Facts(datamodel.CWMP)
	if f == nil || f.PathRef == nil {
		return value
	}
	if !f.List {
		return fn(value)
	}
	items := strings.Split(value, ",")
	for i, it := range items {
		items[i] = fn(strings.TrimSpace(it))
	}
	return strings.Join(items, ",")
}

// usableAlias reports whether a text can stand in brackets.
func usableAlias(s string) bool {
	if s == "" || len(s) > 64 || !(s[0] >= 'a' && s[0] <= 'z' || s[0] >= 'A' && s[0] <= 'Z' || s[0] == '_') {
		return false
	}
	return !strings.ContainsAny(s, "[]=!<>~\"&\x00\t\n\r")
}

// numbered gives a path of the ACS with numbers; as it is where it has no alias, or a row is missing.
func numbered(v *bridge.View, path string) string {
	if !strings.Contains(path, "[") {
		return path
	}
	object, name := datamodel.SplitParam(path)
	ms, err := v.Resolve(object, aliasPolicy)
	if err != nil || len(ms) != 1 {
		return path
	}
	return ms[0].Path + name
}

var aliasPolicy = datamodel.ResolvePolicy{Want: datamodel.WantObject, MissingIsError: true, AllowTable: true, CWMPAlias: true}

// schemaPath makes a path that may hold aliases fit for looking up what the model says.
func schemaPath(path string) string {
	for {
		i := strings.IndexByte(path, '[')
		j := strings.IndexByte(path, ']')
		if i < 0 || j < i {
			return canonicalPath(path)
		}
		path = path[:i] + "1" + path[j+1:]
	}
}

// aliased finds the [alias] elements of a path: the path of each row, and what is inside. ok is false when brackets are used
// for anything else.
func aliased(path string) (rows []string, ok bool) {
	for at := 0; ; {
		i := strings.IndexByte(path[at:], '[')
		if i < 0 {
			return rows, !strings.Contains(path[at:], "]")
		}
		i += at
		j := strings.IndexByte(path[i:], ']')
		if j < 0 {
			return nil, false
		}
		j += i
		if i == 0 || path[i-1] != '.' || j+1 >= len(path) || path[j+1] != '.' || !usableAlias(path[i+1:j]) || strings.Contains(path[at:i], "]") {
			return nil, false
		}
		rows = append(rows, path[:j+2])
		at = j + 1
	}
}

// splitAlias splits the path of a row by alias into its table and the alias.
func splitAlias(row string) (table, alias string, ok bool) {
	if !strings.HasSuffix(row, "].") {
		return "", "", false
	}
	i := strings.LastIndexByte(row, '[')
	if i <= 0 {
		return "", "", false
	}
	return row[:i], row[i+1 : len(row)-2], true
}

// autoRows lists what SetParameterValues has to make before it can set: the rows that the names address by alias and that are
// missing (TR-069 A.3.2.1). They are part of the change and vanish with it. ALI-06, ALI-08
func autoRows(v *bridge.View, names []string) (ops []bridge.Op, rows []string) {
	if l, ok := v.Version().Leaf(autoCreatePath); !ok || l.Value != "true" { // ALI-07
		return nil, nil
	}
	done := map[string]bool{}
	for _, name := range names {
		need, _ := aliased(name)
		for _, row := range need {
			if done[row] {
				continue
			}
			done[row] = true
			if _, err := v.Resolve(row, aliasPolicy); datamodel.ReasonOf(err) != datamodel.NoInstance {
				continue
			}
			table, alias, _ := splitAlias(row)
			ops = append(ops, bridge.Op{Kind: bridge.OpAdd, Path: table, Alias: alias})
			rows = append(rows, row)
		}
	}
	return ops, rows
}
