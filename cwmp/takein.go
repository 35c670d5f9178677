package cwmp

import (
	"context"
	"errors"
	"time"

	"twinspan/bridge"
	"twinspan/store"
)

// takeInWait bounds the wait for the journal entry of a version that can be seen already: it follows at once.
const takeInWait = time.Second

// takeIn returns the newest view after taking in the journal up to it. Whoever compares what the ACS knows with what is there
// uses this view: else a row that the ACS made itself would look like somebody else's until the follower has seen it, and
// whether the ACS is told would depend on which goroutine is faster (DESIGN invariant 7).
func (c *CPE) takeIn(ctx context.Context) *bridge.View {
	v := c.e.View(acsWriter)
	s, want := c.e.Store(), v.Version().Rev()
	deadline := time.NewTimer(takeInWait)
	defer deadline.Stop()
	for c.changes.rev < want {
		more := s.Changed()
		err := s.Journal(c.changes.rev, func(e *store.Entry) bool {
			if e.Rev > want { // not in the view
				return false
			}
			c.tookIn(ctx, v, e)
			return true
		})
		switch {
		case c.changes.rev >= want:
		case errors.Is(err, store.ErrCursorGone):
			c.log.Warn("journal was trimmed: changes before it are told without knowing what they replaced")
			start := s.JournalStart() - 1
			v = c.e.View(acsWriter) // everything up to start is in it
			want = v.Version().Rev()
			if c.changes.missed(v, start) {
				c.activeNew = true
			}
		case err != nil:
			if !errors.Is(err, store.ErrClosed) {
				c.log.Error("journal cannot be read", "error", err)
			}
			return v
		default:
			select {
			case <-more:
			case <-deadline.C:
				return v
			case <-ctx.Done():
				return v
			}
		}
	}
	if c.changes.stale { // newly watched values become known now, not at the next poll
		c.pollAt = time.Time{}
	}
	return v
}

// tookIn takes one entry in.
func (c *CPE) tookIn(ctx context.Context, v *bridge.View, e *store.Entry) {
	if e.Meta.Kind == "factory-reset" { // wasReset does the rest
		if e.Rev > c.changes.pendingAt {
			c.changes.pending = map[string]*pending{}
		}
		if e.Rev > c.changes.knownAt {
			c.changes.known = map[string]string{}
		}
		c.changes.rev, c.changes.stale = e.Rev, true
		return
	}
	if c.changes.commit(v, e) {
		c.activeNew = true
	}
	if e.Rev > c.changes.pendingAt {
		c.reach.committed(ctx, v, e)
	}
}
