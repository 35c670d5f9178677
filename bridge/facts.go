package bridge

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"twinspan/datamodel"
	"twinspan/store"
)

// context is what all verdicts of one transaction share, as the journal keeps it: "phase class epoch".
func contextText(phase Phase, class string, epoch uint64) string {
	return string(phase) + " " + url.QueryEscape(class) + " " + strconv.FormatUint(epoch, 10)
}

// ownFacts are the facts of a proposal that has an owner and nothing else: leaves of one commit of one writer have the same.
type ownFacts struct {
	owner, class string
	rev          uint64
	text         string
}

// factsOf is p.facts, remembered where most leaves of a change say the same.
func (r *run) factsOf(p *Proposal) string {
	if p.Owner == "" || len(p.CoOwners) > 0 || p.Creator != "" || p.Held.By != "" || p.Frozen.Winner != "" || p.Flips != 0 || p.Unseen != 0 ||
		p.HasAccess || p.Create || p.Delete || p.Waited || p.Session || p.Old == "" && p.New == "" {
		return p.facts()
	}
	o := &r.ownFacts
	if o.text == "" || o.owner != p.Owner || o.class != p.OwnerClass || o.rev != p.OwnerRev {
		*o = ownFacts{p.Owner, p.OwnerClass, p.OwnerRev, p.facts()}
	}
	return o.text
}

// facts writes down what a verdict was made from beside what the journal line says anyway. ProposalOf reads it.
func (p *Proposal) facts() string {
	var b strings.Builder
	put := func(key, value string) {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(key)
		b.WriteString(value)
	}
	if p.Owner != "" {
		put("o=", url.QueryEscape(p.Owner)+"/"+url.QueryEscape(p.OwnerClass)+"/"+strconv.FormatUint(p.OwnerRev, 10))
	}
	for _, c := range p.CoOwners {
		put("co=", url.QueryEscape(c.Writer)+"/"+url.QueryEscape(c.Class))
	}
	if p.Creator != "" {
		put("by=", url.QueryEscape(p.Creator))
	}
	if h := p.Held; h.By != "" {
		put("h=", url.QueryEscape(h.By)+"/"+string(h.Kind)+"/"+strconv.FormatUint(h.ID, 10)+"/"+strconv.Itoa(h.RetryAfter))
	}
	if f := p.Frozen; f.Winner != "" {
		put("f=", url.QueryEscape(f.Winner)+"/"+strconv.FormatInt(f.Until, 10))
	}
	if p.Flips != 0 {
		put("n=", strconv.Itoa(p.Flips))
	}
	if p.Unseen != 0 {
		put("u=", strconv.FormatUint(p.Unseen, 10))
	}
	if p.HasAccess {
		put("a=", url.QueryEscape(strings.Join(p.Access, ",")))
	}
	for _, f := range [...]struct {
		on   bool
		name string
	}{{p.Create, "create"}, {p.Delete, "delete"}, {p.Waited, "waited"}, {p.Session, "session"},
		{!p.Create && !p.Delete && p.Old == "" && p.New == "", "differs"}} {
		if f.on {
			put(f.name, "")
		}
	}
	return b.String()
}

// ProposalOf rebuilds from a journal line what the Arbiter was asked. ok is false for lines that no verdict stands
// behind (the system's own, lines older than the journal's facts). Values of secrets are hashes on both sides, which
// compare like the values.
func ProposalOf(e *store.Entry, d *store.Delta) (p Proposal, epoch uint64, ok bool) {
	ctx := strings.Split(e.Meta.Context, " ")
	if len(ctx) != 3 || d.Verdict == "" || d.Rule == "" || !judged(d) {
		return p, 0, false
	}
	class, err := url.QueryUnescape(ctx[1])
	if err != nil {
		return p, 0, false
	}
	epoch, err = strconv.ParseUint(ctx[2], 10, 64)
	if err != nil {
		return p, 0, false
	}
	p = Proposal{Phase: Phase(ctx[0]), Writer: Writer{Name: e.Meta.Writer, Class: class}, Path: d.Path, Old: d.Old, New: d.New}
	switch e.Meta.Protocol {
	case datamodel.CWMP.String():
		p.Writer.Protocol = datamodel.CWMP
	case datamodel.USP.String():
		p.Writer.Protocol = datamodel.USP
	}
	if d.Op == store.DeltaAddRow {
		p.Path = parentPath(d.Path)
	}
	if d.Facts == "" {
		return p, epoch, true
	}
	for _, f := range strings.Split(d.Facts, " ") {
		key, value, _ := strings.Cut(f, "=")
		if err := p.fact(key, value); err != nil {
			return p, 0, false
		}
	}
	return p, epoch, true
}

// judged tells lines with a verdict of the Arbiter from what the engine adds.
func judged(d *store.Delta) bool {
	switch word, _, _ := strings.Cut(d.Verdict, " "); strings.TrimSuffix(word, ":") {
	case "allow", "take", "yield":
	default:
		return false
	}
	switch d.Rule {
	case "sys", ruleReachable, "phase:moving", "phase:edge", "phase:rescue": // said by the phase's guard before any policy
		return false
	}
	return d.Op != store.DeltaAttr && d.Op != store.DeltaNote
}

func (p *Proposal) fact(key, value string) error {
	parts := strings.Split(value, "/")
	for i := range parts {
		text, err := url.QueryUnescape(parts[i])
		if err != nil {
			return err
		}
		parts[i] = text
	}
	want := map[string]int{"o": 3, "co": 2, "by": 1, "h": 4, "f": 2, "n": 1, "u": 1, "a": 1}[key]
	if want != 0 && len(parts) != want {
		return fmt.Errorf("bridge: journal fact %q", key)
	}
	var err error
	switch key {
	case "o":
		p.Owner, p.OwnerClass = parts[0], parts[1]
		p.OwnerRev, err = strconv.ParseUint(parts[2], 10, 64)
	case "co":
		p.CoOwners = append(p.CoOwners, Claim{parts[0], parts[1]})
	case "by":
		p.Creator = parts[0]
	case "h":
		p.Held = Held{By: parts[0], Kind: HoldKind(parts[1])}
		if p.Held.ID, err = strconv.ParseUint(parts[2], 10, 64); err == nil {
			p.Held.RetryAfter, err = strconv.Atoi(parts[3])
		}
	case "f":
		p.Frozen.Winner = parts[0]
		p.Frozen.Until, err = strconv.ParseInt(parts[1], 10, 64)
	case "n":
		p.Flips, err = strconv.Atoi(parts[0])
	case "u":
		p.Unseen, err = strconv.ParseUint(parts[0], 10, 64)
	case "a":
		p.HasAccess = true
		if parts[0] != "" {
			p.Access = strings.Split(parts[0], ",")
		}
	case "create":
		p.Create = true
	case "delete":
		p.Delete = true
	case "waited":
		p.Waited = true
	case "session":
		p.Session = true
	case "differs":
		p.Old, p.New = "", "\x00"
	default:
		err = fmt.Errorf("bridge: journal fact %q", key)
	}
	return err
}
