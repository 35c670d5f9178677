package policy

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"twinspan/bridge"
	"twinspan/store"
)

// SimulateEntries is how much of the journal's end a new policy is tried on.
const SimulateEntries = 500

// maxDifferences bounds a report.
const maxDifferences = 64

// Report says what another policy would have made of the last changes.
type Report struct {
	Entries int // looked at
	Judged  int // verdicts among them
	Differ  int // of those
	First   []Difference
}

// Difference is one verdict that would be another.
type Difference struct {
	Revision uint64
	Writer   string
	Path     string
	Was, Now string // "allow by rule wan", "yield by rule default", "take confirm by rule lan"
}

func (d Difference) String() string {
	return fmt.Sprintf("revision %d: %s at %s: was %s, would be %s", d.Revision, d.Writer, d.Path, d.Was, d.Now)
}

// Simulate judges the last entries of the journal anew, each with the state of the arbitration that it was judged with.
// A writer's class is what the policy says of it now, without roles, or else what it was.
func (p *Policy) Simulate(s *store.Store) (Report, error) {
	var r Report
	after := uint64(0)
	if head := s.Head().Rev(); head > SimulateEntries {
		after = head - SimulateEntries
	}
	if start := s.JournalStart(); start > 0 && after+1 < start {
		after = start - 1
	}
	err := s.Journal(after, func(e *store.Entry) bool {
		r.Entries++
		for i := range e.Deltas {
			d := &e.Deltas[i]
			prop, _, ok := bridge.ProposalOf(e, d)
			if !ok {
				continue
			}
			r.Judged++
			if class := p.Class(prop.Writer.Name, nil); class != "" {
				prop.Writer.Class = class
			}
			v := p.orders.Decide(prop)
			was, now := word(d.Verdict), v.Kind.String()
			if strings.HasSuffix(d.Verdict, bridge.ConfirmMark) {
				was += bridge.ConfirmMark
			}
			if v.Confirm {
				now += bridge.ConfirmMark
			}
			if wasAllowed(d) != (v.Kind != bridge.Yield) || v.Kind != bridge.Yield && strings.HasSuffix(d.Verdict, bridge.ConfirmMark) != v.Confirm {
				r.Differ++
				if len(r.First) < maxDifferences {
					r.First = append(r.First, Difference{e.Rev, e.Meta.Writer, d.Path, was + " by rule " + d.Rule, now + " by rule " + v.Rule})
				}
			}
		}
		return true
	})
	if errors.Is(err, store.ErrCursorGone) { // trimmed while we looked
		err = nil
	}
	return r, err
}

func wasAllowed(d *store.Delta) bool { return d.Op != store.DeltaRefused }

func word(verdict string) string {
	w, _, _ := strings.Cut(verdict, " ")
	return strings.TrimSuffix(w, ":")
}

// Explanation of how a writer fares at a path.
type Explanation struct {
	Phase   bridge.Phase
	Class   string
	Rule    bridge.Rule
	Fresh   bridge.Verdict // for what nobody owns
	Against []Fare         // by class of an owner
	// Within is the time to confirm where the rule wants it.
	Within time.Duration
}

// ExplainResource says how a writer fares who runs a command that needs a resource ("fw", "boot").
func (p *Policy) ExplainResource(phase bridge.Phase, resource, writer, class string) (string, bridge.Verdict) {
	if c := p.Class(writer, nil); c != "" {
		class = c
	}
	return class, p.orders.At(phase).Resource(bridge.Writer{Name: writer, Class: class}, resource)
}

// Fare is the verdict on a value that a writer of a class owns.
type Fare struct {
	Owner   string
	Verdict bridge.Verdict
}

// Explain says which rule counts for a writer at a canonical path in a phase, and what comes of it. class is that of the
// writer if [classes] does not say.
func (p *Policy) Explain(phase bridge.Phase, path, writer, class string) Explanation {
	if c := p.Class(writer, nil); c != "" {
		class = c
	}
	order := p.orders.At(phase)
	x := Explanation{Phase: phase, Class: class, Rule: order.RuleFor(path)}
	prop := bridge.Proposal{Phase: phase, Writer: bridge.Writer{Name: writer, Class: class}, Path: path, Old: "a", New: "b"}
	if x.Fresh = order.Decide(prop); x.Rule.Confirm {
		if x.Within = p.within; x.Within == 0 {
			x.Within = bridge.DefaultConfirm
		}
	}
	for _, owner := range p.classes() {
		prop.Owner, prop.OwnerClass, prop.Creator = "another "+owner, owner, "another "+owner
		x.Against = append(x.Against, Fare{owner, order.Decide(prop)})
	}
	return x
}
