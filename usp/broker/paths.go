package broker

import (
	"strings"

	"twinspan/bridge"
	"twinspan/datamodel"
)

// place says where a path points, for comparing with registered paths.
type place struct {
	// base is the path without its final dot, with {i} in place of everything that stands for an instance.
	base string
	text string // as asked
	// search: it may name several things, or none. follow: it goes through a reference.
	search, follow bool
	compared       []string // the parameters that its expressions compare, with {i}
}

// locate parses a path; ok is false for what cannot be parsed or is the empty path.
func locate(text string) (p place, ok bool) {
	parsed, err := datamodel.ParsePath(text)
	if err != nil || len(parsed.Steps) == 0 {
		return p, false
	}
	p.text = text
	var b strings.Builder
	for i, s := range parsed.Steps {
		if i > 0 {
			b.WriteByte('.')
		}
		switch s.Kind {
		case datamodel.StepName:
			b.WriteString(s.Name)
			continue
		case datamodel.StepFollow, datamodel.StepAlias:
			p.follow = true
			b.WriteString(s.Name)
			continue
		case datamodel.StepExpr:
			p.search = true
			for _, c := range s.Expr {
				compared := b.String() + "{i}"
				for _, step := range c.Param {
					p.follow = p.follow || step.Kind != datamodel.StepName
					compared += "." + step.Name
				}
				p.compared = append(p.compared, compared)
			}
		case datamodel.StepAny:
			p.search = true
		}
		b.WriteString("{i}")
	}
	p.base = b.String()
	return p, true
}

// judged is the path by which a right is asked: the very path, or for a search the one with {i}.
func (p place) judged() string {
	if !p.search {
		return p.text
	}
	if strings.HasSuffix(p.text, ".") {
		return p.base + "."
	}
	return p.base
}

// comparable reports whether a Controller may read what the expressions of p compare in one row that they matched: a row that is
// shown, or acted on, tells what its values are.
func (p place) comparable(q *agentRequest, row string) bool {
	steps := strings.Split(row, ".")
	for _, name := range p.compared {
		at := strings.Split(name, ".")
		for i := range at {
			if at[i] == "{i}" && i < len(steps) {
				at[i] = steps[i]
			}
		}
		if !q.Allowed(strings.Join(at, "."), bridge.ReadParam) {
			return false
		}
	}
	return true
}

// within reports whether base names what top names, or something below it.
func within(top, base string) bool {
	return strings.HasPrefix(base, top) && (len(base) == len(top) || base[len(top)] == '.')
}

// route is one registered path of a Service that is in operation.
type route struct {
	base   string // without final dot
	object bool   // the Service says that it is an object
	svc    *service
}

// at finds the Service that has what a path names.
func (rs routes) at(base string) *service {
	for i := range rs {
		if within(rs[i].base, base) {
			return rs[i].svc
		}
	}
	return nil
}

// below yields the routes strictly below an object.
func (rs routes) below(base string, fn func(r *route)) {
	for i := range rs {
		if len(rs[i].base) > len(base) && within(base, rs[i].base) {
			fn(&rs[i])
		}
	}
}

// routes are all registered paths in operation. Immutable.
type routes []route

// asked is the path by which a Service is asked for all of a registered path.
func (r *route) asked() string {
	if r.object {
		return r.base + "."
	}
	return r.base
}

// depth is how many levels of objects lie between an object and a registered path below it.
func (r *route) depth(base string) uint32 {
	n := strings.Count(r.base[len(base):], ".")
	if !r.object {
		n--
	}
	return uint32(n)
}
