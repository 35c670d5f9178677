package bridge

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"twinspan/datamodel"
	"twinspan/store"
)

// applyJob is a committed change on its way to the device.
type applyJob struct {
	run       *run // nil: cannot be put back (factory reset)
	writes    []datamodel.Write
	base      *store.Version // what it was staged on: how to put it back
	committed bool
	rev       uint64
	done      chan struct{}
	err       error
}

// applyQueue hands jobs over in the order of their transactions: jobs come in on the store's writer goroutine, and the
// first one is waited for until its fate is known.
type applyQueue struct {
	mu   sync.Mutex
	jobs []*applyJob
	wake chan struct{}
}

func (q *applyQueue) stage(r *run, writes []datamodel.Write, base *store.Version) *applyJob {
	j := &applyJob{run: r, writes: writes, base: base, done: make(chan struct{})}
	q.mu.Lock()
	q.jobs = append(q.jobs, j)
	q.mu.Unlock()
	return j
}

func (q *applyQueue) commit(j *applyJob, rev uint64) {
	q.mu.Lock()
	j.committed, j.rev = true, rev
	q.mu.Unlock()
	q.signal()
}

// drop takes a job out whose transaction came to nothing, or is staged anew.
func (q *applyQueue) drop(j *applyJob) {
	if j == nil {
		return
	}
	q.mu.Lock()
	for i, o := range q.jobs {
		if o == j {
			q.jobs = append(q.jobs[:i], q.jobs[i+1:]...)
			break
		}
	}
	q.mu.Unlock()
	q.signal()
}

func (q *applyQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next is the first job if its transaction is committed.
func (q *applyQueue) next() *applyJob {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.jobs) == 0 || !q.jobs[0].committed {
		return nil
	}
	j := q.jobs[0]
	q.jobs = q.jobs[1:]
	return j
}

func (q *applyQueue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.jobs) == 0
}

// applyLoop carries committed changes out, one after the other. It ends with ctx; what is left is re-driven at the next
// start. What was committed up to start is carried out first and at once, and nothing of it a second time.
func (e *Engine) applyLoop(ctx context.Context, start *store.Version) {
	defer e.wg.Done()
	if !e.cat.Load().hasAppliers() {
		return
	}
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	driven := e.redrive(ctx, start)
	for {
		for j := e.applies.next(); j != nil && ctx.Err() == nil; j = e.applies.next() {
			if j.rev <= driven {
				close(j.done)
				continue
			}
			e.carryOut(ctx, j)
		}
		if ctx.Err() != nil {
			return
		}
		// What needs no provider moves the position too, now and then, so that the journal is not trimmed past it. The
		// head is read first: a job that is not in the queue yet belongs to a later revision.
		head := e.store.Head().Rev()
		if old, _ := e.store.Cursor(appliedCursor); e.applies.empty() && head > old+appliedLag {
			e.applied(head)
		}
		select {
		case <-ctx.Done():
			return
		case <-e.applies.wake:
		case <-tick.C:
		}
	}
}

// appliedLag is how many revisions without work for a provider the applied position may lie behind.
const appliedLag = 256

func (e *Engine) carryOut(ctx context.Context, j *applyJob) {
	defer close(j.done)
	touched, err := e.drive(ctx, e.split(e.cat.Load(), j.writes))
	if ctx.Err() != nil {
		return // the cursor stays: the next start does it again
	}
	if err != nil {
		j.err = err
		if j.run != nil {
			e.putBack(ctx, j, touched)
		}
	}
	e.applied(j.rev)
}

func (e *Engine) applied(rev uint64) {
	if old, _ := e.store.Cursor(appliedCursor); rev > old {
		if err := e.store.SetCursor(appliedCursor, rev); err != nil && !errors.Is(err, store.ErrClosed) {
			e.log.Error("applied revision could not be kept", "revision", rev, "error", err)
		}
	}
}

// drive has each provider apply its writes and stops at the first that fails; it returns those it called.
func (e *Engine) drive(ctx context.Context, batches []providerWrites) (touched []*provided, err error) {
	for _, b := range batches {
		touched = append(touched, b.p)
		if err := e.call(ctx, b.p, "Apply", applyHard, func(ctx context.Context) error {
			return b.p.applier.Apply(ctx, b.writes)
		}); err != nil {
			e.log.Error("provider could not apply", "provider", b.p.Name(), "writes", len(b.writes), "error", err)
			return touched, err
		}
	}
	return touched, nil
}

// putBack undoes a committed change that the device refused, in a transaction of its own: what others changed since
// stays. Then the providers that had heard of the change hear of its end. Records of heads are not put back.
func (e *Engine) putBack(ctx context.Context, j *applyJob, touched []*provided) {
	r := j.run
	c, err := e.store.Update(ctx, store.Meta{Writer: sysPrefix + "rollback", Ref: r.c.Ref, Kind: "rollback"}, func(tx *store.Tx) error {
		for i := len(r.effects) - 1; i >= 0; i-- {
			if err := e.undo(tx, j, &r.effects[i]); err != nil && !errors.Is(err, store.ErrMissing) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		e.log.Error("a change that the device refused could not be put back", "revision", j.rev, "error", err)
		return
	}
	e.log.Warn("a change that the device refused was put back", "revision", j.rev, "writer", r.w.Name, "by_revision", c.Rev)
	if c.Entry == nil {
		return
	}
	for _, b := range e.split(e.cat.Load(), e.writesOf(c.Entry.Deltas, c.Version)) {
		for _, p := range touched {
			if p == b.p {
				if _, err := e.drive(ctx, []providerWrites{b}); err != nil {
					e.log.Error("the device does not go back", "provider", p.Name(), "error", err)
				}
			}
		}
	}
}

func (e *Engine) undo(tx *store.Tx, j *applyJob, ef *effect) error {
	if ef.same || ef.act {
		return nil
	}
	switch ef.op {
	case store.DeltaSet:
		l, ok := tx.Staged().Leaf(ef.path)
		if !ok || l.Rev != j.rev && l.Rev <= tx.Base().Rev() {
			return nil // gone, or changed by somebody else since
		}
		if old, ok := j.base.Leaf(ef.path); ok {
			return tx.Set(ef.path, old.Value, old.Flags)
		}
		return tx.Unset(ef.path)
	case store.DeltaAddRow:
		return tx.DeleteRow(ef.path)
	case store.DeltaDeleteRow:
		return restoreRow(tx, j.base, ef.object, ef.path)
	case store.DeltaAttr:
		if old, ok := j.base.Attr(ef.path); ok {
			return tx.SetAttr(ef.path, old)
		}
		return tx.SetAttr(ef.path, store.Attr{Notification: -1})
	}
	return nil
}

// restoreRow brings a row back as it was in an older version, with everything below it.
func restoreRow(tx *store.Tx, from *store.Version, obj *datamodel.Object, path string) error {
	table := parentPath(path)
	n, err := strconv.ParseUint(strings.TrimSuffix(path[len(table):], "."), 10, 32)
	if err != nil || !from.HasInstance(table, uint32(n)) {
		return nil //nolint:nilerr // it was made by the same change
	}
	if err := tx.AddRowAt(table, uint32(n)); err != nil {
		return err
	}
	if err := restoreTables(tx, from, obj, path); err != nil {
		return err
	}
	from.Walk(path, func(leaf string, l store.Leaf) bool {
		err = tx.Set(leaf, l.Value, l.Flags)
		return err == nil
	})
	if err != nil {
		return err
	}
	from.Attrs(func(at string, a store.Attr) bool {
		if strings.HasPrefix(at, path) {
			err = tx.SetAttr(at, a)
		}
		return err == nil
	})
	return err
}

// restoreTables brings the rows below an object back, without their values.
func restoreTables(tx *store.Tx, from *store.Version, obj *datamodel.Object, path string) error {
	for _, c := range obj.Children {
		below := path + c.Name + "."
		if !c.Multi {
			if err := restoreTables(tx, from, c, below); err != nil {
				return err
			}
			continue
		}
		for _, n := range from.Instances(below) {
			if err := tx.AddRowAt(below, n); err != nil {
				return err
			}
			if err := restoreTables(tx, from, c, below+strconv.FormatUint(uint64(n), 10)+"."); err != nil {
				return err
			}
		}
	}
	return nil
}

// writesOf turns journal lines into writes with the values of a version, one for each path.
func (e *Engine) writesOf(deltas []store.Delta, v *store.Version) []datamodel.Write {
	var out []datamodel.Write
	at := map[string]int{}
	for _, d := range deltas {
		w := datamodel.Write{Path: d.Path}
		switch d.Op {
		case store.DeltaSet, store.DeltaUnset:
			if l, ok := v.Leaf(d.Path); ok {
				w.Value = l.Value
			} else if m, ok := e.schema.Lookup(d.Path); ok && m.Param != nil && rowsExist(v, d.Path, 0) {
				w.Value = defaultOf(m.Param, m.Param.Any())
			} else {
				continue // its row is gone, which has its own line
			}
		case store.DeltaAddRow, store.DeltaDeleteRow:
			_, there := v.Row(d.Path)
			w.Added, w.Deleted = there, !there
		default:
			continue
		}
		if i, ok := at[d.Path]; ok {
			out[i] = w
			continue
		}
		at[d.Path] = len(out)
		out = append(out, w)
	}
	return out
}

// redrive applies what was committed but not applied when the engine last stopped. When the journal no longer reaches
// back, everything stored is applied: Apply is idempotent. It returns the revision up to which
// nothing is left to apply.
func (e *Engine) redrive(ctx context.Context, head *store.Version) (driven uint64) {
	cat := e.cat.Load()
	after, _ := e.store.Cursor(appliedCursor)
	last := after
	var deltas []store.Delta
	err := e.store.Journal(after, func(en *store.Entry) bool {
		if en.Rev > head.Rev() {
			return false
		}
		last = en.Rev
		if en.Meta.Kind != "sync" { // those came from the device
			deltas = append(deltas, en.Deltas...)
		}
		return true
	})
	if errors.Is(err, store.ErrCursorGone) {
		deltas, last = deltas[:0], head.Rev()
		head.Walk("", func(path string, _ store.Leaf) bool {
			deltas = append(deltas, store.Delta{Op: store.DeltaSet, Path: path})
			return true
		})
	} else if err != nil {
		e.log.Error("journal could not be read", "error", err)
		return 0
	}
	batches := e.split(cat, e.writesOf(deltas, head))
	driven = last
	for try := 1; len(batches) > 0; try++ {
		_, err := e.drive(ctx, batches)
		if err == nil || ctx.Err() != nil {
			break
		}
		if try == 3 {
			e.log.Error("what was committed before the restart could not be applied", "error", err)
			driven = 0
			break
		}
		select {
		case <-ctx.Done():
			return 0
		case <-time.After(time.Second):
		}
	}
	if ctx.Err() == nil {
		e.applied(last)
	}
	return driven
}
