package bridge

import (
	"slices"
	"sync"
	"time"

	"twinspan/datamodel"
)

// MaxConflicts bounds the remembered conflicts.
const MaxConflicts = 64

// ConflictRow tells of refusals: one row for what a writer is refused at a path by a rule, with a count, not one for
// every try.
type ConflictRow struct {
	ID           uint64
	First, Last  time.Time
	Path         string // canonical
	Loser        string
	Winner       string // owner or holder, "" if nobody
	Verdict      string
	Rule         string
	Reason       datamodel.Reason
	Count        uint64
	Acknowledged bool
}

// conflicts is the ring of them.
type conflicts struct {
	mu    sync.Mutex
	rows  []*conflictRow
	seq   uint64
	total uint64
	tell  func(ConflictRow)
	lost  func([]OwnershipLoss)
}

// OwnershipLoss tells of one leaf that a writer took from its owner.
type OwnershipLoss struct {
	Path          string // canonical
	Owner, Writer string // before and now
	Rule          string
	Revision      uint64
}

// OnOwnershipLost has f called after each commit that took leaves from their owners, with all of them, on the goroutine
// of the writer and outside all locks; it must not call Apply. Before Start.
func (e *Engine) OnOwnershipLost(f func([]OwnershipLoss)) { e.conflicts.lost = f }

type conflictRow struct {
	ConflictRow
	value string // that was refused last; compared only, never shown
}

// add counts a refusal. fresh says that it is worth a line in the journal and an event: the first, another value, and
// then the tenth, the hundredth ...
func (c *conflicts) add(n *refusal, loser string, now time.Time) (row ConflictRow, fresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total++
	i := slices.IndexFunc(c.rows, func(r *conflictRow) bool {
		return r.Path == n.path && r.Loser == loser && r.Rule == n.rule && r.Reason == n.reason
	})
	var r *conflictRow
	if i >= 0 {
		r = c.rows[i]
		c.rows = append(slices.Delete(c.rows, i, i+1), r)
	} else {
		if len(c.rows) >= MaxConflicts {
			c.rows = slices.Delete(c.rows, 0, 1)
		}
		c.seq++
		r = &conflictRow{ConflictRow: ConflictRow{ID: c.seq, First: now, Path: n.path, Loser: loser, Rule: n.rule, Reason: n.reason}}
		c.rows = append(c.rows, r)
	}
	fresh = r.Count == 0 || r.value != n.p.New
	r.Count++
	for k := uint64(10); k <= r.Count; k *= 10 {
		fresh = fresh || k == r.Count
	}
	r.Last, r.Winner, r.Verdict, r.value = now, n.winner(), n.verdict, n.p.New
	if fresh {
		r.Acknowledged = false
	}
	return r.ConflictRow, fresh
}

// Conflicts lists them, the latest last.
func (e *Engine) Conflicts() []ConflictRow {
	c := &e.conflicts
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]ConflictRow, len(c.rows))
	for i, r := range c.rows {
		out[i] = r.ConflictRow
	}
	return out
}

// ConflictCount is the number of refused leaves since the start.
func (e *Engine) ConflictCount() uint64 {
	e.conflicts.mu.Lock()
	defer e.conflicts.mu.Unlock()
	return e.conflicts.total
}

// AcknowledgeConflict marks a row as seen; false if it is gone.
func (e *Engine) AcknowledgeConflict(id uint64) bool {
	c := &e.conflicts
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.rows {
		if r.ID == id {
			r.Acknowledged = true
			return true
		}
	}
	return false
}

// OnConflict has f called for refusals that are worth telling: new ones, another value, the tenth of the same, and so on.
// f runs on the goroutine of the refused writer, outside all locks, and must not call Apply. Before Start.
func (e *Engine) OnConflict(f func(ConflictRow)) { e.conflicts.tell = f }
