package bridge

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"twinspan/datamodel"
	"twinspan/store"
)

// errHeld: somebody holds what the change is about; it is staged again when that ends or patience does.
var errHeld = errors.New("held by somebody else")

// ruleReachable is the safety invariant that a manager stays reachable.
const ruleReachable = "reachable"

// refusal is one leaf that a writer did not get.
type refusal struct {
	path, verdict, rule string
	reason              datamodel.Reason
	p                   Proposal
	freeze              string
	secret              bool
}

func (n *refusal) winner() string {
	switch {
	case n.freeze != "":
		return n.freeze
	case n.reason == datamodel.Leased || n.reason == datamodel.Confirming:
		return n.p.Held.By
	case n.reason == datamodel.Damped:
		return n.p.Frozen.Winner
	}
	return n.p.Owner
}

// assertion is a NoOp: the writer relies on the value that is there.
type assertion struct {
	p   Proposal
	rev uint64
}

// snapshot completes a Proposal with the state of the arbitration.
func (r *run) snapshot(p *Proposal) {
	p.Phase, p.Waited = r.phase, r.waited
	e := r.e
	e.claims.on(p, r.now)
	if by, ok := strings.CutPrefix(p.Held.By, "usp:"); ok && p.Held.Kind == HeldByLease && r.e.classes.of(p.Held.By) != ClassUser && !r.manages(by) {
		p.Held = Held{} // its Controller is gone
	}
	e.windows.on(p)
	e.fights.on(p, r.now)
	if r.creators {
		if row := nearestRow(p.Path); row != "" {
			made, _ := r.tx.Staged().Row(row)
			if !strings.HasPrefix(made.Writer, sysPrefix) {
				p.Creator = made.Writer
			}
		}
	}
}

// nearestRow is the row that a path is or lies in, "" for none.
func nearestRow(path string) string {
	for p := path; p != ""; p = parentPath(p) {
		if strings.HasSuffix(p, ".") {
			parent := parentPath(p)
			if _, ok := rowNumber(p[len(parent) : len(p)-1]); ok {
				return p
			}
		}
	}
	return ""
}

// decide asks the arbiter. A refusal comes back as an error and is noted for the journal; the text of an allowing
// verdict is what the journal says.
func (r *run) decide(p *Proposal, secret bool) (Verdict, error) {
	r.snapshot(p)
	v, vetoed := r.e.vetoed(p)
	if !vetoed {
		v = r.arb.Decide(*p)
	}
	switch v.Kind {
	case Wait:
		r.held = append(r.held, p.Path)
		return v, r.e.styled(datamodel.Fail(datamodel.Leased, r.spell(p.Path), v.Text))
	case Yield:
		reason := v.Reason
		if reason == 0 {
			reason = datamodel.Refused
		}
		if v.Static { // USP 7006; CWMP 9008 for a parameter, 9001 for a row
			reason = datamodel.Denied
			if r.w.Protocol == datamodel.CWMP && !strings.HasSuffix(p.Path, ".") {
				reason = datamodel.NotWritable
			}
		}
		r.refused = append(r.refused, refusal{path: p.Path, verdict: "yield: " + v.Text, rule: v.Rule, reason: reason, p: *p, freeze: v.Freeze, secret: secret})
		return v, r.e.styled(datamodel.Fail(reason, r.spell(p.Path), v.Text))
	}
	v.Text = v.Kind.String()
	if p.Unseen != 0 {
		v.Text += " overwrote_unseen=" + strconv.FormatUint(p.Unseen, 10)
	}
	if v.Confirm {
		v.Text += ConfirmMark
	}
	return v, nil
}

// styled marks a refusal with the codes that the operator wants for it.
func (e *Engine) styled(err *datamodel.Error) error {
	if err.Reason.Arbitrated() {
		err.Style = e.style
	}
	return err
}

// settle, at the end of a staging that counts, takes the arbitration's state along: who was refused, who took what from
// whom, who relies on what. On the store's writer goroutine, so in the order of commits.
func (r *run) settle(done bool) {
	if r.c.DryRun {
		return
	}
	refused := append(r.refused, r.blamed...)
	for i := range refused {
		n := &refused[i]
		row, fresh := r.e.conflicts.add(n, r.w.Name, r.now)
		if n.freeze != "" {
			r.e.fights.freeze(n.path, n.freeze, r.now)
			r.e.owners.touch()
		}
		if !fresh {
			continue
		}
		r.tell = append(r.tell, row)
		n.p.New = strings.TrimSuffix(n.p.New, "\x00")
		r.tx.Note(store.Note{Op: store.DeltaRefused, Path: n.path, Old: n.p.Old, New: n.p.New, Secret: n.secret, Verdict: n.verdict, Rule: n.rule, Facts: n.p.facts()})
	}
	r.lost = r.lost[:0]
	if !done {
		return
	}
	for i := range r.asserts {
		a := &r.asserts[i]
		r.e.owners.asserts(a.p.Path, a.rev, &a.p, r.base, r.half)
	}
	for i := range r.effects {
		ef := &r.effects[i]
		if ef.same || ef.act || ef.verdict == "" {
			continue
		}
		if ef.op == store.DeltaSet && ef.asked {
			r.e.owners.changed(ef.path)
			if strings.HasPrefix(ef.verdict, Take.String()) {
				r.e.fights.took(ef.path, r.now)
				r.lost = append(r.lost, OwnershipLoss{Path: ef.path, Owner: ef.owner, Rule: ef.rule})
			}
			if ef.freeze != "" {
				r.e.fights.freeze(ef.path, ef.freeze, r.now)
				r.e.owners.touch()
			}
		}
		r.tx.Note(store.Note{Path: ef.path, Verdict: ef.verdict, Rule: ef.rule, Facts: ef.facts})
	}
}

// announce tells of conflicts, outside all locks.
func (r *run) announce() {
	if f := r.e.conflicts.tell; f != nil {
		for _, row := range r.tell {
			f(row)
		}
	}
	r.tell = nil
	if f := r.e.conflicts.lost; f != nil && r.done {
		for i := range r.lost {
			r.lost[i].Writer, r.lost[i].Revision = r.w.Name, r.rev
		}
		if len(r.lost) > 0 {
			f(r.lost)
		}
	}
	r.lost = nil
}

// await waits for the end of what holds a change up, at most until its patience is over.
func (e *Engine) await(ctx context.Context, r *run) {
	if r.patience.IsZero() {
		r.patience = time.Now().Add(e.wait)
	}
	ended := e.claims.ended() // first the channel, then a look: nothing is missed
	now := time.Now()
	left := r.patience.Sub(now)
	still := false
	for _, path := range r.held {
		p := Proposal{Path: path, Writer: r.w}
		e.claims.on(&p, now)
		still = still || p.Held.By != "" || p.Session
		if p.Held.By != "" {
			e.claims.contend(path, r.w.Name, now)
			left = min(left, time.Duration(p.Held.RetryAfter)*time.Second)
		}
	}
	if still && left > 0 {
		t := time.NewTimer(left)
		defer t.Stop()
		select {
		case <-ended:
		case <-t.C:
		case <-ctx.Done():
			r.waited = true
		case <-e.done:
			r.waited = true
		}
	}
	r.waited = r.waited || !time.Now().Before(r.patience)
}

// guard judges a value of the parameter IfRevision: "rev" or "rev@path", path in the writer's spelling. It fails the
// whole change, whatever else may fail in part.
func (r *run) guard(m datamodel.Match, value string) error {
	text, path, _ := strings.Cut(strings.TrimSpace(value), "@")
	rev, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return datamodel.Fail(datamodel.InvalidValue, r.spell(m.Path), "must be REVISION or REVISION@PATH")
	}
	canonical := r.e.schema.Root().Path
	if path != "" {
		c, ok := toCanonical(r.w.Protocol, path)
		if ok {
			_, ok = r.e.schema.Lookup(c)
		}
		if !ok {
			return datamodel.Fail(datamodel.InvalidValue, r.spell(m.Path), "no such path: "+path)
		}
		canonical = c
	}
	newest := r.baseV.SubtreeRev(canonical)
	if newest <= rev && rev <= r.base {
		return nil
	}
	f := r.e.styled(datamodel.Fail(datamodel.Guard, r.spell(m.Path), "expected revision "+text+", is "+strconv.FormatUint(newest, 10)))
	r.guarded = f
	return f
}

// writerKey is where the writer of a command is in its context.
type writerKey struct{}

// WriterFrom is who runs a command, for the providers that carry it out. ok is false outside Run.
func WriterFrom(ctx context.Context) (Writer, bool) {
	w, ok := ctx.Value(writerKey{}).(Writer)
	return w, ok
}
