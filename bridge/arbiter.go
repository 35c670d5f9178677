package bridge

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"twinspan/datamodel"
)

// Proposal is one leaf that somebody wants to change, with all an Arbiter may look at: the snapshot of the arbitration's
// state as far as it concerns the leaf. The journal keeps it (ProposalOf), so that verdicts can be replayed.
type Proposal struct {
	Phase      Phase // of the transaction; "" = the one the Arbiter was made for
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
	// CoOwners asserted the value that is there without having changed it; the owner and the writer are not among them.
	CoOwners []Claim
	Creator  string // writer that made the row, or the row of the parameter; only filled in for rules that ask for it
	Held     Held   // who else holds the path for a while
	Waited   bool   // the writer's patience is over: no more Wait
	Session  bool   // somebody else has a session open
	Frozen   Frozen // two writers fought over the leaf
	Flips    int    // how often it went from one writer to another lately
}

// Claim is a writer with a stake in a leaf, and its class.
type Claim struct{ Writer, Class string }

// HoldKind says why a path is held.
type HoldKind string

const (
	HeldByLease   HoldKind = "lease"   // somebody took a lease
	HeldBySession HoldKind = "session" // an open CWMP session has written it
	HeldByConfirm HoldKind = "confirm" // a change waits for its confirmation
)

// Held names who holds a path; By is empty if nobody else does.
type Held struct {
	By         string
	Kind       HoldKind
	ID         uint64 // fencing token of the lease, id of the confirm window
	RetryAfter int    // seconds until it ends by itself at the latest
}

// Frozen says that only Winner may change a leaf until a time (seconds since 1970).
type Frozen struct {
	Winner string
	Until  int64
}

// VerdictKind of an Arbiter.
type VerdictKind uint8

const (
	Allow VerdictKind = iota
	NoOp              // same value: the writer becomes co-owner
	Take              // allowed, ownership moves
	Yield             // refused
	Wait              // somebody holds it for a moment: ask again, with Waited in the end
)

var verdictNames = [...]string{"allow", "noop", "take", "yield", "wait"}

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
	// Reason of a refusal; 0 stands for Refused.
	Reason datamodel.Reason
	// Freeze names the writer that the leaf is left to from now on, since two writers fight over it.
	Freeze string
	// Confirm: the change counts only once it is confirmed.
	Confirm bool
	// Queue of the rule, for a resource.
	Queue int
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
	OnLast     Conflict = "last"     // the last writer counts, until two writers begin to fight
	OnCreator  Conflict = "creator"  // only who made the row changes it and what is in it
)

// Rule changes how conflicts under a path are decided.
type Rule struct {
	ID string
	// Path is a canonical path; "*" stands for one element, a final "**" for everything below, {a,b} for alternatives.
	// The most specific rule counts: the one with more literal elements, then the one with the longer pattern.
	Path       string
	OnConflict Conflict
	// Writers, if not empty, are the only classes that may write here: a class, "$primary" (the first class of the
	// phase), or a writer's name, in which a final * stands for any end. Classes without a place in the phase's order may
	// be named: they may write here all the same.
	Writers []string
	// Phases, if not empty, are the phases in which the rule counts.
	Phases []Phase
	// Owner is the class ("$primary" too) that owns what nobody has written yet.
	Owner string
	// NoDamp lets writers fight for ever.
	NoDamp bool
	// SessionClaims holds everything here for the ACS while its session is open.
	SessionClaims bool
	// Confirm makes every change here provisional: it is put back unless it is confirmed in OrderOptions.ConfirmWithin.
	Confirm bool
	// Resource, instead of Path, names what commands need ("fw", "boot", "diag:*"); only Writers, Phases and Queue count.
	Resource string
	// Queue is how many commands may wait for the resource while another one has it; 0: none, they are refused.
	Queue int
}

// ownRules hold what the standard itself says of ownership; a rule of the caller that is at least as specific wins.
var ownRules = []Rule{
	// Subscriptions belong to their Recipient. In shadow a Controller must be able to subscribe, though its writes to
	// the device are only evaluated.
	{ID: "own:subscription", Path: "Device.LocalAgent.Subscription.**", OnConflict: OnPriority,
		Writers: []string{ClassACS, ClassMain, ClassUser, ClassApps}, Phases: []Phase{PhaseShadow}},
}

// ClassOrder is the arbitration of one phase: the class order, refined by rules. Immutable, pure.
type ClassOrder struct {
	phase     Phase
	classes   []string       // strongest first
	rank      map[string]int // lower is stronger
	rules     []compiledRule // most specific first
	resources []Rule
	trie      ruleNode
	creators  bool // a rule asks who made a row
	honor     bool // the TR-069 AccessList counts
	entity    string
	within    time.Duration
}

// OrderOptions change what NewClassOrder takes for granted.
type OrderOptions struct {
	Classes    []string // strongest first; nil: those of the phase
	AccessList *bool    // whether the AccessList counts in this phase; nil: while the ACS goes first
	USPEntity  string   // AccessList entity that hands a parameter to USP; "": any X_..._USP
	// ConfirmWithin is the time for what rules with Confirm ask for, MinConfirm to MaxConfirm; 0: DefaultConfirm.
	ConfirmWithin time.Duration
}

type compiledRule struct {
	Rule
	elems   []string
	literal int
	at      int // place in the order of specificity
}

// ruleNode is a node of the rules by path element. What a rule's pattern has in common with others is walked once.
type ruleNode struct {
	next map[string]*ruleNode
	star *ruleNode
	deep *compiledRule // ends here with **
	end  *compiledRule
}

func (n *ruleNode) add(r *compiledRule) {
	for _, e := range r.elems {
		switch e {
		case "**":
			n.deep = r
			return
		case "*":
			if n.star == nil {
				n.star = &ruleNode{}
			}
			n = n.star
		default:
			c := n.next[e]
			if c == nil {
				c = &ruleNode{}
				if n.next == nil {
					n.next = map[string]*ruleNode{}
				}
				n.next[e] = c
			}
			n = c
		}
	}
	n.end = r
}

// find returns the most specific rule for what is left of a path.
func (n *ruleNode) find(rest string, best *compiledRule) *compiledRule {
	better := func(r *compiledRule) {
		if r != nil && (best == nil || r.at < best.at) {
			best = r
		}
	}
	better(n.deep)
	if rest == "" {
		better(n.end)
		return best
	}
	elem, tail, _ := strings.Cut(rest, ".")
	if c := n.next[elem]; c != nil {
		best = c.find(tail, best)
	}
	if n.star != nil {
		best = n.star.find(tail, best)
	}
	return best
}

// maxRules bounds a policy.
const maxRules = 256

// NewClassOrder builds the arbiter of a phase. Two rules that are equally specific and can match the same path are an
// error, never a tie at run time; so are unknown phases, conflict words and malformed patterns.
func NewClassOrder(phase Phase, rules ...Rule) (*ClassOrder, error) {
	return NewOrder(phase, OrderOptions{}, rules...)
}

// NewOrder is NewClassOrder with options.
func NewOrder(phase Phase, o OrderOptions, rules ...Rule) (*ClassOrder, error) {
	classes, ok := order[phase]
	if !ok {
		return nil, fmt.Errorf("bridge: unknown phase %q", phase)
	}
	if o.Classes != nil {
		classes = o.Classes
	}
	c := &ClassOrder{phase: phase, classes: classes, rank: map[string]int{}, entity: o.USPEntity, within: o.ConfirmWithin,
		honor: phase != PhaseDualUSP && phase != PhaseUSPOnly}
	if o.AccessList != nil {
		c.honor = *o.AccessList
	}
	for i, name := range classes {
		if _, twice := c.rank[name]; twice || name == "" || name == ClassSys {
			return nil, fmt.Errorf("bridge: class %q in the order of phase %s is empty, reserved or there twice", name, phase)
		}
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
		if r.Resource != "" {
			if r.Path != "" {
				return nil, fmt.Errorf("bridge: rule %q has both a path and a resource", r.ID)
			}
			c.resources = append(c.resources, r)
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
	// sort, not slices: an instance of the generic sort for each kind of struct is paid for by the agent's size.
	sort.SliceStable(c.rules, func(i, j int) bool {
		a, b := &c.rules[i], &c.rules[j]
		if a.literal != b.literal {
			return a.literal > b.literal
		}
		return len(a.elems) > len(b.elems)
	})
	for i := range c.rules {
		c.rules[i].at = i
		c.trie.add(&c.rules[i])
		c.creators = c.creators || c.rules[i].OnConflict == OnCreator
	}
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
	case OnPriority, OnYield, OnTake, OnLast, OnCreator:
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

// Alternatives expands the {a,b} of a rule's path; at most 64 results.
func Alternatives(path string) ([]string, error) { return alternatives(path, 0) }

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
