package bridge

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Proposal is one leaf that somebody wants to change, with all an Arbiter may look at.
type Proposal struct {
	Writer     Writer
	Path       string // canonical: a parameter; a table for a new row; a row that is to be deleted
	New, Old   string // canonical; both empty for rows
	Owner      string // writer name that last asserted the leaf, "" = factory, default or the system
	OwnerClass string // its class when it last wrote, "" = unknown
	OwnerRev   uint64
	Create     bool // a new row, or a parameter of one
	Delete     bool
	// Access is the TR-069 AccessList in force on the leaf, if one was ever set (HasAccess): who beside the ACS may write.
	Access    []string
	HasAccess bool
	// Unseen is the revision of a foreign change that the writer cannot know of, since it reads through a session
	// shield that was opened before it; 0 = none.
	Unseen uint64
}

// VerdictKind of an Arbiter.
type VerdictKind uint8

const (
	Allow VerdictKind = iota
	NoOp              // same value: the writer becomes co-owner
	Take              // allowed, ownership moves
	Yield             // refused
)

var verdictNames = [...]string{"allow", "noop", "take", "yield"}

func (k VerdictKind) String() string {
	if int(k) < len(verdictNames) {
		return verdictNames[k]
	}
	return "unknown"
}

// Verdict with the rule that gave it. Text tells a refused writer who owns the path and what to do.
type Verdict struct {
	Kind VerdictKind
	Rule string
	Text string
	// Static marks a refusal that does not depend on the values or the owner: this writer cannot write here in this
	// phase. It is answered like a missing right, and View.Writable says so beforehand.
	Static bool
}

// Arbiter is a pure function of its arguments, so that verdicts can be replayed from the journal. It runs on the
// store's writer goroutine and must not block.
type Arbiter interface {
	Decide(p Proposal) Verdict
}

// Phase of the migration from CWMP to USP.
type Phase string

const (
	PhaseCWMPOnly Phase = "cwmp-only" // USP writes nothing
	PhaseShadow   Phase = "shadow"    // USP writes are evaluated: equal is fine, different is refused
	PhaseDualCWMP Phase = "dual-cwmp" // both, the ACS first
	PhaseDualUSP  Phase = "dual-usp"  // both, USP first
	PhaseUSPOnly  Phase = "usp-only"  // CWMP writes nothing
)

// Classes of writers.
const (
	ClassACS  = "acs"
	ClassMain = "main" // the operator's own Controllers
	ClassUser = "user" // the local user: command line, page
	ClassApps = "apps" // Controllers with a narrow task
	ClassSys  = "sys"  // the device itself; above all others, owns nothing
)

// order gives the classes that may write in a phase, the strongest first.
var order = map[Phase][]string{
	PhaseCWMPOnly: {ClassACS, ClassUser},
	PhaseShadow:   {ClassACS, ClassUser},
	PhaseDualCWMP: {ClassACS, ClassMain, ClassUser, ClassApps},
	PhaseDualUSP:  {ClassMain, ClassACS, ClassUser, ClassApps},
	PhaseUSPOnly:  {ClassMain, ClassUser, ClassApps},
}

// Conflict says what happens to a different value for a leaf that somebody else owns.
type Conflict string

const (
	OnPriority Conflict = "priority" // the class order of the phase decides; equals overwrite each other
	OnYield    Conflict = "yield"    // the owner keeps it, whoever asks
	OnTake     Conflict = "take"     // the writer gets it, whoever owns it
	OnLast     Conflict = "last"     // the last writer counts
)

// Rule changes how conflicts under a path are decided.
type Rule struct {
	ID string
	// Path is a canonical path; "*" stands for one element, a final "**" for everything below, {a,b} for alternatives.
	// The most specific rule counts: the one with more literal elements, then the one with the longer pattern.
	Path       string
	OnConflict Conflict
	// Writers, if not empty, are the only classes that may write here. It may also name classes that have no place in
	// the phase's order: they may write here all the same.
	Writers []string
	// Phases, if not empty, are the phases in which the rule counts.
	Phases []Phase
}

// ownRules hold what the standard itself says of ownership; a rule of the caller that is at least as specific wins.
var ownRules = []Rule{
	// Subscriptions belong to their Recipient. In shadow a Controller must be able to subscribe, though its writes to
	// the device are only evaluated.
	{ID: "own:subscription", Path: "Device.LocalAgent.Subscription.**", OnConflict: OnPriority,
		Writers: []string{ClassACS, ClassMain, ClassUser, ClassApps}, Phases: []Phase{PhaseShadow}},
}

// ClassOrder is the first arbitration: the class order of a phase, refined by rules. Immutable, pure.
type ClassOrder struct {
	phase Phase
	rank  map[string]int // lower is stronger
	rules []compiledRule // most specific first
}

type compiledRule struct {
	Rule
	elems   []string
	literal int
}

// maxRules bounds a policy.
const maxRules = 256

// NewClassOrder builds the arbiter of a phase. Two rules that are equally specific and can match the same path are an
// error, never a tie at run time; so are unknown phases, conflict words and malformed patterns.
func NewClassOrder(phase Phase, rules ...Rule) (*ClassOrder, error) {
	classes, ok := order[phase]
	if !ok {
		return nil, fmt.Errorf("bridge: unknown phase %q", phase)
	}
	c := &ClassOrder{phase: phase, rank: map[string]int{}}
	for i, name := range classes {
		c.rank[name] = i
	}
	if len(rules) > maxRules {
		return nil, fmt.Errorf("bridge: %d rules, at most %d are taken", len(rules), maxRules)
	}
	for i, r := range append(slices.Clone(rules), ownRules...) {
		own := i >= len(rules)
		if len(r.Phases) > 0 && !slices.Contains(r.Phases, phase) {
			continue
		}
		cs, err := compileRule(r)
		if err != nil {
			return nil, err
		}
		for _, n := range cs {
			if old := c.tied(n); old == "" {
				c.rules = append(c.rules, n)
			} else if !own {
				return nil, fmt.Errorf("bridge: rules %q and %q are equally specific for the same paths", old, r.ID)
			}
		}
	}
	slices.SortStableFunc(c.rules, func(a, b compiledRule) int {
		if a.literal != b.literal {
			return b.literal - a.literal
		}
		return len(b.elems) - len(a.elems)
	})
	return c, nil
}

// Phase the order was made for.
func (c *ClassOrder) Phase() Phase { return c.phase }

// tied finds a rule that is as specific as n and can match what n matches.
func (c *ClassOrder) tied(n compiledRule) string {
	for _, o := range c.rules {
		if o.literal == n.literal && len(o.elems) == len(n.elems) && overlap(o.elems, n.elems) {
			return o.ID
		}
	}
	return ""
}

func overlap(a, b []string) bool {
	for i := range a {
		if a[i] == "**" || b[i] == "**" {
			return true
		}
		if a[i] != b[i] && a[i] != "*" && b[i] != "*" {
			return false
		}
	}
	return true
}

func compileRule(r Rule) ([]compiledRule, error) {
	bad := func(why string) error { return fmt.Errorf("bridge: rule %q, path %q: %s", r.ID, r.Path, why) }
	switch r.OnConflict {
	case "":
		r.OnConflict = OnPriority
	case OnPriority, OnYield, OnTake, OnLast:
	default:
		return nil, bad("unknown on_conflict " + string(r.OnConflict))
	}
	paths, err := alternatives(r.Path, 0)
	if err != nil {
		return nil, bad(err.Error())
	}
	var out []compiledRule
	for _, p := range paths {
		c := compiledRule{Rule: r, elems: strings.Split(strings.TrimSuffix(p, "."), ".")}
		for i, e := range c.elems {
			switch {
			case e == "":
				return nil, bad("empty element")
			case e == "**" && i != len(c.elems)-1:
				return nil, bad("** is allowed at the end only")
			case e != "*" && e != "**":
				c.literal++
			}
		}
		if c.elems[0] != "Device" {
			return nil, bad("does not begin with Device")
		}
		out = append(out, c)
	}
	return out, nil
}

// alternatives expands {a,b}; at most 64 results.
func alternatives(p string, depth int) ([]string, error) {
	open := strings.IndexByte(p, '{')
	if open < 0 {
		if strings.IndexByte(p, '}') >= 0 {
			return nil, fmt.Errorf("} without {")
		}
		return []string{p}, nil
	}
	end := strings.IndexByte(p, '}')
	if end < open || depth > 5 {
		return nil, fmt.Errorf("braces do not match or nest too deeply")
	}
	var out []string
	for _, alt := range strings.Split(p[open+1:end], ",") {
		more, err := alternatives(p[:open]+alt+p[end+1:], depth+1)
		if err != nil {
			return nil, err
		}
		if out = append(out, more...); len(out) > 64 {
			return nil, fmt.Errorf("more than 64 alternatives")
		}
	}
	return out, nil
}

func (r *compiledRule) matches(path string) bool {
	rest := strings.TrimSuffix(path, ".")
	for _, e := range r.elems {
		if e == "**" {
			return true
		}
		if rest == "" {
			return false
		}
		elem, tail, _ := strings.Cut(rest, ".")
		if e != "*" && e != elem {
			return false
		}
		rest = tail
	}
	return rest == ""
}

var defaultRule = compiledRule{Rule: Rule{ID: "default", OnConflict: OnPriority}}

func (c *ClassOrder) rule(path string) *compiledRule {
	for i := range c.rules {
		if c.rules[i].matches(path) {
			return &c.rules[i]
		}
	}
	return &defaultRule
}

// Decide implements Arbiter. Order of evaluation: the system, the same value, who may write here at all in this phase,
// what a shielded session cannot know of, ownership by the rule's on_conflict.
func (c *ClassOrder) Decide(p Proposal) Verdict {
	r := c.rule(p.Path)
	rule := r.ID
	if p.Writer.System || p.Writer.Class == ClassSys {
		return Verdict{Kind: Allow, Rule: "sys"}
	}
	if !p.Create && !p.Delete && p.New == p.Old {
		return Verdict{Kind: NoOp, Rule: rule}
	}
	rank, ranked := c.rank[p.Writer.Class]
	if len(r.Writers) > 0 {
		if !slices.Contains(r.Writers, p.Writer.Class) {
			return bar(c.yield(p, rule, "rule "+rule+" admits only "+strings.Join(r.Writers, ", "), "change the rule"))
		}
		if !ranked {
			rank = len(c.rank) // after all that have a place
		}
	} else if !ranked {
		return c.outside(p)
	}
	if p.HasAccess && c.honorsAccessList() && !admitted(p) {
		return bar(c.yield(p, "accesslist", "the ACS keeps it by its AccessList ["+strings.Join(p.Access, ",")+"]", "have the ACS change the list"))
	}
	if p.Unseen != 0 && (c.phase == PhaseDualUSP || c.phase == PhaseUSPOnly) {
		return c.yield(p, "unseen", "changed in revision "+strconv.FormatUint(p.Unseen, 10)+" since the session began",
			"read it again in a new session")
	}
	if p.Owner == "" || p.Owner == p.Writer.Name {
		return Verdict{Kind: Allow, Rule: rule}
	}
	switch r.OnConflict {
	case OnYield:
		return c.yield(p, rule, "rule "+rule+" leaves it to its owner", "let the owner change it, or change the rule")
	case OnTake, OnLast:
		return Verdict{Kind: Take, Rule: rule}
	}
	ownerRank, known := c.rank[p.OwnerClass]
	if known && ownerRank < rank {
		return c.yield(p, rule, "in phase "+string(c.phase)+" class "+p.OwnerClass+" goes before "+p.Writer.Class,
			"let the owner change it, or move the phase")
	}
	return Verdict{Kind: Take, Rule: rule}
}

// outside refuses a class that does not write in this phase.
func (c *ClassOrder) outside(p Proposal) Verdict {
	rule := "phase:" + string(c.phase)
	if c.phase == PhaseShadow {
		return c.yield(p, rule, "shadow: differs", "leave it, or move the phase")
	}
	return bar(c.yield(p, rule, "in phase "+string(c.phase)+" class "+p.Writer.Class+" does not write", "move the phase"))
}

func bar(v Verdict) Verdict {
	v.Static = true
	return v
}

// honorsAccessList: while the ACS goes first, its AccessList counts for the others (TR-069 A.3.2.4).
func (c *ClassOrder) honorsAccessList() bool {
	return c.phase != PhaseDualUSP && c.phase != PhaseUSPOnly
}

// admitted reports whether an AccessList lets a writer in: the ACS always; everybody else by the one standard entity;
// Controllers also by a vendor entity that ends in _USP.
func admitted(p Proposal) bool {
	return p.Writer.Class == ClassACS || slices.ContainsFunc(p.Access, func(entity string) bool {
		return entity == "Subscriber" || p.Writer.Class != ClassUser && strings.HasPrefix(entity, "X_") && strings.HasSuffix(entity, "_USP")
	})
}

// yield builds the text of a refusal: owner, since when, rule, remedy.
func (c *ClassOrder) yield(p Proposal, rule, why, remedy string) Verdict {
	var b strings.Builder
	b.WriteString(why)
	if p.Owner != "" && p.Owner != p.Writer.Name {
		b.WriteString("; owner " + p.Owner)
		if p.OwnerRev != 0 {
			b.WriteString(" since revision " + strconv.FormatUint(p.OwnerRev, 10))
		}
	}
	b.WriteString("; rule " + rule + "; " + remedy)
	return Verdict{Kind: Yield, Rule: rule, Text: b.String()}
}
