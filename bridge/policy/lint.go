package policy

import (
	"fmt"
	"strings"

	"twinspan/bridge"
	"twinspan/datamodel"
)

// Finding is something that is legal and yet probably not meant.
type Finding struct {
	Rule string // "" for the file as a whole
	Text string
}

func (f Finding) String() string {
	if f.Rule == "" {
		return f.Text
	}
	return "rule " + f.Rule + ": " + f.Text
}

// critical are the paths on which the reachability of the device rests.
var critical = []string{"Device.ManagementServer.URL", "Device.ManagementServer.EnableCWMP", "Device.LocalAgent.Controller.1.Enable",
	"Device.LocalAgent.Controller.1.MTP.1.Enable", "Device.LocalAgent.MTP.1.Enable"}

// Lint looks for rules that never count, paths that the device does not have (schema may be nil), phases in which nobody
// may write what keeps the device reachable, and writers that no phase ranks.
func (p *Policy) Lint(schema *datamodel.Schema) []Finding {
	var out []Finding
	say := func(rule, format string, a ...any) { out = append(out, Finding{rule, fmt.Sprintf(format, a...)}) }
	for _, r := range p.File.Rules {
		if r.Path == "" {
			if r.Queue > 0 && (r.Resource == "boot" || r.Resource == "factory") {
				say(r.ID, "queue: %s is taken by commands that do not wait", r.Resource)
			}
			continue
		}
		paths, err := bridge.Alternatives(tail(r.Path))
		if err != nil {
			continue // Parse has told
		}
		shadowed := 0
		for _, path := range paths {
			if schema != nil && !known(schema.Root(), path) {
				say(r.ID, "path %s: this device has nothing there", path)
			}
			if by := p.shadowedBy(r, path); by != "" {
				shadowed++
				if shadowed == len(paths) {
					say(r.ID, "never counts: rule %s is more specific and covers all of it", by)
				}
			}
		}
	}
	for _, phase := range bridge.Phases() {
		p.lintPhase(phase, say)
	}
	return out
}

// lintPhase checks that the safety invariants have somebody who can keep them.
func (p *Policy) lintPhase(phase bridge.Phase, say func(string, string, ...any)) {
	order := p.orders.At(phase)
	if order.Primary() == "" {
		say("", "phase %s: no class may write", phase)
		return
	}
	for _, path := range critical {
		r := order.RuleFor(path)
		anybody := false
		for _, class := range p.classes() {
			if _, ranked := order.Rank(class); !ranked && len(r.Writers) == 0 {
				continue
			}
			v := order.Decide(bridge.Proposal{Writer: bridge.Writer{Name: "?", Class: class}, Path: path, New: "\x00"})
			anybody = anybody || !v.Static
		}
		for _, w := range r.Writers {
			anybody = anybody || writerName(w)
		}
		if !anybody {
			say(r.ID, "phase %s: nobody may write %s, on which reaching the device depends", phase, path)
		}
		if r.Confirm && strings.Contains(path, ".MTP.") {
			say(r.ID, "phase %s: confirm on %s also concerns the links that a confirmation comes over: who is cut off cannot confirm, and is put back", phase, path)
		}
		if r.OnConflict == bridge.OnTake || r.OnConflict == bridge.OnLast {
			say(r.ID, "phase %s: on_conflict = %q lets anybody change %s, on which reaching the device depends", phase, string(r.OnConflict), path)
		}
	}
}

// shadowedBy finds a more specific rule that covers a whole pattern.
func (p *Policy) shadowedBy(r Rule, pattern string) string {
	a := strings.Split(strings.TrimSuffix(pattern, "."), ".")
	for _, o := range p.File.Rules {
		if o.ID == r.ID || o.Path == "" {
			continue
		}
		paths, err := bridge.Alternatives(tail(o.Path))
		if err != nil {
			continue
		}
		for _, q := range paths {
			b := strings.Split(strings.TrimSuffix(q, "."), ".")
			if (literals(b) > literals(a) || literals(b) == literals(a) && len(b) > len(a)) && covers(b, a) {
				return o.ID
			}
		}
	}
	return ""
}

func literals(elems []string) int {
	n := 0
	for _, e := range elems {
		if e != "*" && e != "**" {
			n++
		}
	}
	return n
}

// covers: every parameter that matches b matches a. An object's own parameters count as what is below it.
func covers(a, b []string) bool {
	for i := range a {
		if a[i] == "**" {
			return true
		}
		if i >= len(b) {
			return false
		}
		if b[i] == "**" { // something below: it has one element at least
			return a[i] == "*" && i == len(a)-2 && a[i+1] == "**"
		}
		if a[i] != "*" && a[i] != b[i] {
			return false
		}
	}
	return len(a) == len(b)
}

// known: the device has something that a pattern matches.
func known(o *datamodel.Object, pattern string) bool {
	elems := strings.Split(strings.TrimSuffix(pattern, "."), ".")
	return knownBelow(o, elems[1:])
}

func knownBelow(o *datamodel.Object, elems []string) bool {
	if len(elems) == 0 || elems[0] == "**" {
		return true
	}
	e, rest := elems[0], elems[1:]
	for _, c := range o.Children {
		if e != "*" && c.Name != e {
			continue
		}
		if !c.Multi {
			if knownBelow(c, rest) {
				return true
			}
			continue
		}
		// The table itself, or a row of it.
		if len(rest) == 0 || rest[0] == "**" {
			return true
		}
		if (rest[0] == "*" || strings.Trim(rest[0], "0123456789") == "") && knownBelow(c, rest[1:]) {
			return true
		}
	}
	if len(rest) > 0 {
		return false
	}
	for _, q := range o.Params {
		if e == "*" || q.Name == e {
			return true
		}
	}
	return false
}
