package trust

import (
	"strconv"
	"strings"

	"twinspan/datamodel"
	"twinspan/store"
)

// target is one entry of Permission.Targets.
type target struct {
	// base is a literal path without final dot: it covers itself and everything below.
	base string
	// segs is set instead of base when there is a wildcard or an expression; prefix is its literal part, with final dot.
	prefix string
	segs   []segment
}

type segment struct {
	name string // literal, "" for a wildcard
	expr []datamodel.Comparison
	any  bool
}

// parseTarget accepts every form in use: with and without a final dot, {i} for a wildcard, search expressions. ok is
// false for a text that cannot be evaluated; the target then covers its literal part.
func parseTarget(text string) (t target, ok bool) {
	text = strings.TrimSpace(text)
	if !strings.ContainsAny(text, "*[{+#") {
		if c, known := datamodel.ToCanonical(datamodel.USP, text); known {
			text = c
		}
		return target{base: trimDot(text)}, text != ""
	}
	literal := text[:strings.IndexAny(text, "*[{+#")]
	if i := strings.LastIndexByte(literal, '.'); i >= 0 {
		literal = literal[:i]
	}
	p, err := datamodel.ParsePath(text)
	if err != nil {
		p, err = datamodel.ParsePath(text + ".") // a row without its final dot
	}
	if err != nil {
		return target{base: literal}, false
	}
	t.prefix = literal + "."
	for _, s := range p.Steps {
		switch s.Kind {
		case datamodel.StepName:
			t.segs = append(t.segs, segment{name: s.Name})
		case datamodel.StepInstance:
			t.segs = append(t.segs, segment{name: strconv.FormatUint(uint64(s.N), 10)})
		case datamodel.StepAny, datamodel.StepTemplate:
			t.segs = append(t.segs, segment{any: true})
		case datamodel.StepExpr:
			for _, c := range s.Expr {
				for _, step := range c.Param {
					if step.Kind != datamodel.StepName {
						return target{base: literal}, false
					}
				}
			}
			t.segs = append(t.segs, segment{expr: s.Expr})
		default:
			return target{base: literal}, false
		}
	}
	return t, true
}

// covers reports whether a canonical path is what the target names or lies below it. A path of the supported data model
// ({i} for an instance) is covered if some instance could be.
func (t *target) covers(tab *Table, v *store.Version, path string) bool {
	if t.segs == nil {
		n := len(t.base)
		return len(path) >= n && path[:n] == t.base && (len(path) == n || path[n] == '.')
	}
	if !strings.HasPrefix(path, t.prefix) && !strings.Contains(path, "{i}") {
		return false
	}
	rest := path
	for i := range t.segs {
		if rest == "" {
			return false // the target is deeper than the path
		}
		word, tail := rest, ""
		if d := strings.IndexByte(rest, '.'); d >= 0 {
			word, tail = rest[:d], rest[d+1:]
		}
		s := &t.segs[i]
		switch {
		case word == "{i}" && (s.any || s.expr != nil || isNumber(s.name)): // some instance could be meant
		case s.any:
			if !isNumber(word) {
				return false
			}
		case s.expr != nil:
			row := path[:len(path)-len(rest)+len(word)] + "."
			if !isNumber(word) || !tab.Holds(v, row, s.expr) {
				return false
			}
		case s.name != word:
			return false
		}
		rest = tail
	}
	return true
}

// SplitPaths splits a list of paths at the commas outside of expressions; blanks around commas are dropped.
func SplitPaths(s string) []string {
	var out []string
	depth, quoted, from := 0, false, 0
	cut := func(to int) {
		for from < to && s[from] == ' ' {
			from++
		}
		if from < to {
			out = append(out, s[from:to])
		}
		from = to + 1
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' && depth > 0:
			quoted = !quoted
		case quoted:
		case c == '[':
			depth++
		case c == ']' && depth > 0:
			depth--
		case c == ',' && depth == 0:
			cut(i)
		}
	}
	cut(len(s))
	return out
}

// Holds evaluates an expression on a row of the tree. Stored values and defaults count; live values do not.
func (t *Table) Holds(v *store.Version, row string, expr []datamodel.Comparison) bool {
	for _, c := range expr {
		path := row
		for i, s := range c.Param {
			if i > 0 {
				path += "."
			}
			path += s.Name
		}
		m, ok := t.schema.Lookup(path)
		if !ok || m.Param == nil {
			return false
		}
		f := m.Param.Any()
		val := f.Zero()
		if l, stored := v.Leaf(path); stored {
			val = l.Value
		} else if f.HasDefault {
			val = f.Default
		}
		if yes, err := f.Compare(c.Op, val, c.Const, c.Quoted); err != nil || !yes {
			return false
		}
	}
	return true
}

func isNumber(s string) bool {
	return s != "" && s[0] >= '0' && s[0] <= '9'
}
