package datamodel

import (
	"strconv"
	"strings"
)

// Selector decides for one loader, element by element, what a profile supports. Not for concurrent use.
type Selector struct {
	profile  *Profile
	objects  map[string]rule            // subtree patterns by object path, without a final {i}.
	elements map[string]map[string]rule // patterns for one element by object path and name
	used     []bool

	lastObject string // cache: loaders ask for all elements of one object in a row
	lastRule   rule
	lastNames  map[string]rule
}

// rule is a pattern's position in Supports plus one (0: no pattern) and its sign.
type rule struct {
	rank int
	take bool
}

// Selector prepares the decisions of p. A nil profile selects everything.
func (p *Profile) Selector() *Selector {
	s := &Selector{profile: p}
	if p == nil {
		return s
	}
	s.objects = make(map[string]rule)
	s.elements = make(map[string]map[string]rule)
	s.used = make([]bool, len(p.Supports))
	for i, pattern := range p.Supports {
		path, negative := strings.CutPrefix(pattern, "-")
		r := rule{rank: i + 1, take: !negative}
		object, name := SplitParam(path)
		object = tableForm(object)
		if name == "" {
			s.objects[object] = r
			continue
		}
		names := s.elements[object]
		if names == nil {
			names = make(map[string]rule)
			s.elements[object] = names
		}
		names[name] = r
	}
	return s
}

// tableForm takes a final "{i}." away, so that a table and its rows are one key.
func tableForm(object string) string { return strings.TrimSuffix(object, instanceSegment+".") }

// Keep reports whether the profile takes in the element name of object, a supported path ending in a dot; with an
// empty name, whether it takes in the object for its own sake.
func (s *Selector) Keep(object, name string) bool {
	if s.profile == nil {
		return true
	}
	s.enter(object)
	r := s.lastRule
	if name != "" {
		if e, ok := s.lastNames[name]; ok {
			s.used[e.rank-1] = true
			if e.rank > r.rank {
				r = e
			}
		}
	}
	return r.take
}

// Excluded reports whether the element was taken away by its own name, not only by an object above it.
func (s *Selector) Excluded(object, name string) bool {
	if s.profile == nil {
		return false
	}
	s.enter(object)
	e, ok := s.lastNames[name]
	return ok && !e.take && e.rank > s.lastRule.rank
}

func (s *Selector) enter(object string) {
	if object == s.lastObject {
		return
	}
	s.lastObject, s.lastRule = object, rule{}
	for i := 0; i < len(object); i++ {
		if object[i] != '.' {
			continue
		}
		prefix := object[:i+1]
		if strings.HasSuffix(prefix, instanceSegment+".") {
			continue // the table before it was looked up already
		}
		if r, ok := s.objects[prefix]; ok {
			s.used[r.rank-1] = true
			if r.rank > s.lastRule.rank {
				s.lastRule = r
			}
		}
	}
	s.lastNames = s.elements[tableForm(object)]
}

// Unmatched returns an error for the first pattern that matched nothing Keep was asked for; a loader calls it when it
// has asked for every element of the model. A pattern that repeats an earlier one counts as matched.
func (s *Selector) Unmatched() error {
	if s.profile == nil {
		return nil
	}
	for i, pattern := range s.profile.Supports {
		if s.used[i] || s.overridden(pattern, i+1) {
			continue
		}
		return s.profile.fail("supports["+strconv.Itoa(i)+"]", `"`+pattern+`" is not in the data model`)
	}
	return nil
}

// overridden reports whether a later pattern for the very same path took the place of this one.
func (s *Selector) overridden(pattern string, rank int) bool {
	object, name := SplitParam(strings.TrimPrefix(pattern, "-"))
	object = tableForm(object)
	if name == "" {
		return s.objects[object].rank > rank
	}
	return s.elements[object][name].rank > rank
}

// Supported reports whether the profile takes in an element, given by its canonical supported or instance path. The
// last pattern that matches counts. An object above something supported is supported too. A nil profile supports
// everything.
func (p *Profile) Supported(path string) bool {
	if p == nil {
		return true
	}
	path = SupportedPath(path)
	object, name := SplitParam(path)
	s := p.Selector()
	if s.Keep(object, name) {
		return true
	}
	if name != "" {
		return false
	}
	for _, pattern := range p.Supports {
		if strings.HasPrefix(pattern, "-") {
			continue
		}
		below, ok := strings.CutPrefix(pattern, tableForm(object))
		if !ok || below == "" {
			continue
		}
		if o, n := SplitParam(pattern); s.Keep(o, n) {
			return true
		}
	}
	return false
}
