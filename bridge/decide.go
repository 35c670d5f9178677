package bridge

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"twinspan/datamodel"
)

var defaultRule = compiledRule{Rule: Rule{ID: "default", OnConflict: OnPriority}}

func (c *ClassOrder) rule(path string) *compiledRule {
	if r := c.trie.find(strings.TrimSuffix(path, "."), nil); r != nil {
		return r
	}
	return &defaultRule
}

// RuleFor is the rule that counts for a canonical path.
func (c *ClassOrder) RuleFor(path string) Rule { return c.rule(path).Rule }

// Rank of a class, 0 the strongest; ok is false for a class that has no place in the phase.
func (c *ClassOrder) Rank(class string) (rank int, ok bool) {
	rank, ok = c.rank[class]
	return rank, ok
}

// Primary is the class that goes first.
func (c *ClassOrder) Primary() string {
	if len(c.classes) == 0 {
		return ""
	}
	return c.classes[0]
}

// asksCreator tells the engine to fill in Proposal.Creator.
func (c *ClassOrder) asksCreator() bool { return c.creators }

// admits reports whether a list of classes and writers names a writer.
func (c *ClassOrder) admits(list []string, w Writer) bool {
	return slices.ContainsFunc(list, func(s string) bool {
		if s == "$primary" {
			s = c.Primary()
		}
		if stem, open := strings.CutSuffix(s, "*"); open {
			return strings.HasPrefix(w.Name, stem)
		}
		return s != "" && (s == w.Class || s == w.Name)
	})
}

// Resource decides whether a writer may run commands that need a resource.
func (c *ClassOrder) Resource(w Writer, resource string) Verdict {
	if w.System || w.Class == ClassSys {
		return Verdict{Kind: Allow, Rule: "sys"}
	}
	for _, r := range c.resources {
		if stem, open := strings.CutSuffix(r.Resource, "*"); r.Resource != resource && !(open && strings.HasPrefix(resource, stem)) {
			continue
		}
		if len(r.Writers) > 0 && !c.admits(r.Writers, w) {
			return bar(Verdict{Kind: Yield, Rule: r.ID, Text: "rule " + r.ID + " admits only " + strings.Join(r.Writers, ", ") +
				" to " + resource + "; change the rule"})
		}
		return Verdict{Kind: Allow, Rule: r.ID, Queue: r.Queue}
	}
	return Verdict{Kind: Allow, Rule: defaultRule.ID}
}

// Decide implements Arbiter. Order of evaluation: the system, the same value, the rule and the phase (who may write here
// at all), who holds the path, who was fought over it, what a shielded session cannot know of, ownership by the rule's
// on_conflict, the class order. Safety is judged on the final state of the whole change, after all verdicts, and cannot
// be overruled by any.
//
// A lease does not make anybody wait for what ownership would refuse anyway: that is answered at once.
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
		if !c.admits(r.Writers, p.Writer) {
			return bar(c.yield(p, rule, "rule "+rule+" admits only "+strings.Join(r.Writers, ", "), "change the rule"))
		}
		if !ranked {
			rank = len(c.rank) // after all that have a place
		}
	} else if !ranked {
		return c.outside(p)
	}
	handed := false
	if p.HasAccess && c.honor {
		if !c.admitted(p) {
			return bar(c.yield(p, "accesslist", "the ACS keeps it by its AccessList ["+strings.Join(p.Access, ",")+"]", "have the ACS change the list"))
		}
		handed = p.Writer.Protocol == datamodel.USP && c.namesUSP(p.Access)
	}
	v := c.owned(p, r, rank, handed)
	if v.Kind == Yield && v.Reason != datamodel.Damped {
		return v
	}
	if h := c.held(p, r); h.Kind != Allow {
		return h
	}
	if p.Frozen.Winner != "" && p.Frozen.Winner != p.Writer.Name && !r.NoDamp {
		return c.damped(p, rule, p.Frozen.Winner, " until "+time.Unix(p.Frozen.Until, 0).UTC().Format(time.RFC3339))
	}
	v.Confirm = r.Confirm && v.Kind != Yield
	return v
}

// held judges leases, sessions and confirm windows; Allow: nothing stands in the way.
func (c *ClassOrder) held(p Proposal, r *compiledRule) Verdict {
	h := p.Held
	if h.By == "" && p.Session && r.SessionClaims {
		h = Held{By: "cwmp", Kind: HeldBySession, RetryAfter: 60}
	}
	if h.By == "" || h.By == p.Writer.Name {
		return Verdict{}
	}
	if h.Kind == HeldByConfirm {
		v := c.yield(p, r.ID, "waits for confirmation "+strconv.FormatUint(h.ID, 10)+" by "+h.By,
			"confirm or cancel it, or retry after "+strconv.Itoa(h.RetryAfter)+" s")
		v.Reason = datamodel.Confirming
		return v
	}
	what := "an open session of " + h.By
	if h.Kind == HeldByLease {
		what = "lease " + strconv.FormatUint(h.ID, 10) + " of " + h.By
	}
	v := c.yield(p, r.ID, "held by "+what, "retry after "+strconv.Itoa(h.RetryAfter)+" s")
	v.Reason = datamodel.Leased
	if !p.Waited {
		v.Kind = Wait
	}
	return v
}

// owned judges by ownership and class.
func (c *ClassOrder) owned(p Proposal, r *compiledRule, rank int, handed bool) Verdict {
	rule := r.ID
	if p.Unseen != 0 && (c.phase == PhaseDualUSP || c.phase == PhaseUSPOnly) {
		return c.yield(p, "unseen", "changed in revision "+strconv.FormatUint(p.Unseen, 10)+" since the session began",
			"read it again in a new session")
	}
	if r.OnConflict == OnCreator && p.Creator != "" && p.Creator != p.Writer.Name {
		return c.yield(p, rule, "rule "+rule+" leaves it to "+p.Creator+", who made the row", "let it change the row, or change the rule")
	}
	owner, class := p.Owner, p.OwnerClass
	if owner == "" && r.Owner != "" && !c.admits([]string{r.Owner}, p.Writer) {
		if class = r.Owner; class == "$primary" {
			class = c.Primary()
		}
		owner = "class " + class
	}
	if handed { // the ACS gave it to USP by its AccessList
		if owner == "" || owner == p.Writer.Name {
			return Verdict{Kind: Allow, Rule: "accesslist"}
		}
		if class == ClassACS {
			return Verdict{Kind: Take, Rule: "accesslist"}
		}
	}
	if owner == p.Writer.Name { // its own, but a stronger one relies on the value too
		owner = ""
		if r.OnConflict == OnPriority {
			for _, co := range p.CoOwners {
				if k, ok := c.rank[co.Class]; ok && k < rank {
					owner, class = co.Writer, co.Class
					break
				}
			}
		}
	}
	if owner == "" {
		return Verdict{Kind: Allow, Rule: rule}
	}
	switch r.OnConflict {
	case OnYield:
		return c.yield(p, rule, "rule "+rule+" leaves it to its owner", "let the owner change it, or change the rule")
	case OnTake, OnLast, OnCreator:
		return c.take(p, r, rank)
	}
	if k, known := c.rank[class]; known && k < rank {
		v := c.yield(p, rule, "in phase "+string(c.phase)+" class "+class+" goes before "+p.Writer.Class,
			"let the owner change it, or move the phase")
		return v
	}
	return c.take(p, r, rank)
}

// dampAfter is the number of alternations that makes a fight.
const dampAfter = 3

// take lets a writer have what somebody else owns. The third time that happens in a while, the leaf is left to who goes
// first by class, and between equals to who has it.
func (c *ClassOrder) take(p Proposal, r *compiledRule, rank int) Verdict {
	if p.Owner == "" || p.Owner == p.Writer.Name || r.NoDamp || p.Delete || p.Frozen.Winner != "" || p.Flips+1 < dampAfter {
		return Verdict{Kind: Take, Rule: r.ID}
	}
	if k, known := c.rank[p.OwnerClass]; known && k <= rank {
		v := c.damped(p, r.ID, p.Owner, "")
		v.Freeze = p.Owner
		return v
	}
	return Verdict{Kind: Take, Rule: r.ID, Freeze: p.Writer.Name}
}

func (c *ClassOrder) damped(p Proposal, rule, winner, until string) Verdict {
	v := c.yield(p, rule, "two writers fought over it: left to "+winner+until, "stop setting it, or settle with a rule who owns it")
	v.Reason = datamodel.Damped
	return v
}

// outside refuses a class that does not write in this phase.
func (c *ClassOrder) outside(p Proposal) Verdict {
	rule := "phase:" + string(c.phase)
	if c.phase == PhaseShadow {
		v := c.yield(p, rule, "shadow: differs", "leave it, or move the phase")
		v.Reason = datamodel.Shadowed
		return v
	}
	return bar(c.yield(p, rule, "in phase "+string(c.phase)+" class "+p.Writer.Class+" does not write", "move the phase"))
}

func bar(v Verdict) Verdict {
	v.Static = true
	return v
}

// admitted reports whether an AccessList lets a writer in (TR-069 A.3.2.4): the ACS always; everybody else by the one
// standard entity; Controllers also by the vendor entity.
func (c *ClassOrder) admitted(p Proposal) bool {
	return p.Writer.Class == ClassACS || slices.Contains(p.Access, "Subscriber") || p.Writer.Class != ClassUser && c.namesUSP(p.Access)
}

// namesUSP: the list has the vendor entity by which the ACS hands a parameter to USP.
func (c *ClassOrder) namesUSP(list []string) bool {
	return slices.ContainsFunc(list, func(entity string) bool {
		if c.entity != "" {
			return entity == c.entity
		}
		return strings.HasPrefix(entity, "X_") && strings.HasSuffix(entity, "_USP")
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
	return Verdict{Kind: Yield, Rule: rule, Text: b.String(), Reason: datamodel.Refused}
}
