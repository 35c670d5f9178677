package bridge

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"twinspan/datamodel"
	"twinspan/store"
)

// shieldLimits bound what a session may pin.
type shieldLimits struct {
	life, idle time.Duration
	changes    uint64
}

func (l shieldLimits) withDefaults() shieldLimits {
	if l.life <= 0 {
		l.life = 300 * time.Second
	}
	if l.idle <= 0 {
		l.idle = 60 * time.Second
	}
	if l.changes == 0 {
		l.changes = 4096
	}
	return l
}

// Shield is the isolated view of one CWMP session (DESIGN invariant 5): the version at the InformResponse plus the
// session's own writes. Others write on meanwhile. Its life is bounded; after that View and Apply answer an error and
// the head closes the session. Safe for concurrent use.
type Shield struct {
	e      *Engine
	w      Writer
	opened time.Time
	since  uint64

	mu   sync.Mutex
	v    *store.Version // the overlay
	used time.Time
	err  error
	acts []string // commands that wait for the end of the session
	held *claim   // what the session has written, against others
}

// Shield opens one at the newest version. // TR-069 3.7.1.1
func (e *Engine) Shield(w Writer) *Shield {
	now := time.Now()
	v := e.store.Head()
	s := &Shield{e: e, w: w, opened: now, used: now, v: v, since: v.Rev(), held: &claim{kind: HeldBySession, by: w.Name, since: now}}
	s.hold(now)
	return s
}

// Since is the revision of the snapshot.
func (s *Shield) Since() uint64 { return s.since }

// touch checks the limits. Called with mu held.
func (s *Shield) touch() error {
	now := time.Now()
	l := s.e.shield
	switch {
	case s.err != nil:
		return s.err
	case now.Sub(s.opened) > l.life:
		s.err = expired(fmt.Sprintf("the session is older than %s", l.life))
	case now.Sub(s.used) > l.idle:
		s.err = expired(fmt.Sprintf("the session was idle for more than %s", l.idle))
	case s.e.store.Head().Rev()-s.since > l.changes:
		s.err = expired(fmt.Sprintf("more than %d revisions since the session began", l.changes))
	}
	if s.err != nil {
		s.v = s.e.store.Head() // lets the snapshot go
		s.e.claims.end(s.held)
		return s.err
	}
	s.used = now
	s.hold(now)
	return nil
}

// hold keeps what the session has written for it as long as the session lives (bridge.md 2.7).
func (s *Shield) hold(now time.Time) {
	c := &s.e.claims
	c.mu.Lock()
	defer c.mu.Unlock()
	s.held.expires = s.opened.Add(s.e.shield.life)
	if idle := now.Add(s.e.shield.idle); idle.Before(s.held.expires) {
		s.held.expires = idle
	}
	if _, there := c.all[s.held]; !there && len(c.all) < maxClaims {
		c.add(s.held)
	}
}

func expired(why string) error {
	return datamodel.Fail(datamodel.Resources, "", why+": its isolated view has ended, open a new session")
}

// View shows the session's state. After the end of the shield the view answers every read with the error.
func (s *Shield) View() *View {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.touch()
	v := s.e.viewAt(s.w, s.v)
	v.err = err
	return v
}

// Apply writes to the real tree, through arbitration; what it did is then seen in the session's view. A change to
// something that somebody else has changed since the session began says so in the journal (overwrote_unseen). What
// somebody else has deleted since is refused, not reported as missing: the session still sees it. Commands that a
// parameter stands for (Reset) run when the shield is closed, so that they cannot cut the session.
func (s *Shield) Apply(ctx context.Context, c Change) (Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.touch(); err != nil {
		return Result{Outcomes: make([]Outcome, len(c.Ops))}, err
	}
	res, r, err := s.e.apply(ctx, s.w, c, s.since)
	s.used = time.Now()
	if err == nil && r != nil && !c.DryRun {
		s.replay(r)
		s.e.claims.cover(s.held, r.written())
		if len(s.acts) < maxSettings {
			s.acts = append(s.acts, r.actions()...)
		}
	}
	for i := range res.Outcomes {
		if o := &res.Outcomes[i]; datamodel.ReasonOf(o.Err) == datamodel.NoInstance && s.sees(c.Ops[i].Path) {
			old := o.Err
			o.Err = datamodel.Fail(datamodel.Refused, c.Ops[i].Path, "was deleted by somebody else since the session began")
			if err == old {
				err = o.Err
			}
		}
	}
	return res, err
}

// written lists what a change wrote.
func (r *run) written() []string {
	var out []string
	for i := range r.effects {
		if ef := &r.effects[i]; !ef.act && ef.op != store.DeltaAttr && ef.asked {
			out = append(out, ef.path)
		}
	}
	return out
}

// sees reports whether the session's own view has what a path names.
func (s *Shield) sees(path string) bool {
	v := s.e.viewAt(s.w, s.v)
	ms, err := v.Resolve(path, datamodel.ResolvePolicy{MissingIsError: true, AllowTable: true, CWMPAlias: true})
	return err == nil && len(ms) > 0
}

// replay stages the effects of an own change on the overlay. Rows that only others know are left out.
func (s *Shield) replay(r *run) {
	v, err := s.v.OverlayAs(store.Meta{Writer: s.w.Name}, func(tx *store.Tx) error {
		for i := range r.effects {
			ef := &r.effects[i]
			if ef.act {
				continue
			}
			switch ef.op {
			case store.DeltaSet:
				_ = tx.Set(ef.path, ef.value, ef.flags) // fails only where a row is not seen
			case store.DeltaAddRow:
				table := parentPath(ef.path)
				if n, err := parseRow(ef.path[len(table):]); err == nil {
					_ = tx.AddRowAt(table, n)
				}
			case store.DeltaDeleteRow:
				_ = tx.DeleteRow(ef.path)
			case store.DeltaAttr:
				_ = tx.SetAttr(ef.path, ef.attr)
			}
		}
		return nil
	})
	if err != nil {
		s.e.log.Error("session view could not follow an own change", "error", err)
		s.err = expired("the session's view could not follow its own change")
		return
	}
	s.v = v
}

func parseRow(s string) (uint32, error) {
	n, err := strconv.ParseUint(strings.TrimSuffix(s, "."), 10, 32)
	return uint32(n), err
}

// Close ends the shield and lets the session's commands run. Idempotent.
func (s *Shield) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.e.act(s.w, s.acts)
	s.acts = nil
	if s.err == nil {
		s.err = datamodel.Fail(datamodel.Resources, "", "the session is closed")
	}
	s.v = s.e.store.Head()
	s.e.claims.end(s.held)
}
