package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"twinspan/datamodel"
	"twinspan/store"
)

// Limits of provisional changes.
const (
	maxWindows = 4
	// MinConfirm and MaxConfirm bound how long a provisional change may wait for its confirmation.
	MinConfirm = time.Second
	MaxConfirm = time.Hour
	// DefaultConfirm is RFC 6241's.
	DefaultConfirm = 10 * time.Minute
	maxConfirmID   = 64
	maxInverse     = 2048 // steps of one inverse
)

// confirmBucket holds the open windows with what puts their changes back, secrets included; it is purged with them.
const confirmBucket = ownBucket + "confirm"

// Confirm makes a change provisional: what it did is put back unless Engine.Confirm comes within the time. While the
// window is open, others cannot write what it wrote, so that putting back is exact; what they write elsewhere stays. A
// restart inside the window puts back first, before the heads start.
type Confirm struct {
	ID     string        // chosen by the writer, unique among the open ones, at most 64 bytes; "": the engine makes one
	Within time.Duration // MinConfirm to MaxConfirm; 0: DefaultConfirm
	// policy: a rule asks for it. What one writer changes under such rules until it confirms is one window.
	policy bool
}

// Window is an open provisional change.
type Window struct {
	ID       string
	Writer   string
	Revision uint64
	Paths    []string // canonical; what others cannot write meanwhile, with everything below
	Deadline time.Time
}

// window is a Window with how to undo it. What is exported of it is the record.
type window struct {
	ID     string        `json:"id"`
	Writer string        `json:"writer"`
	Rev    uint64        `json:"rev"`
	Within time.Duration `json:"within"`
	Paths  []string      `json:"paths"`
	Steps  []inverse     `json:"steps"`
	Policy bool          `json:"policy,omitempty"`

	prev     *window   // that this one takes up and goes on with, once it is committed
	made     time.Time // monotonic; the commit
	deadline time.Time
	timer    *time.Timer
	over     bool
}

// inverse is one step back. Steps are carried out in order.
type inverse struct {
	Op    store.DeltaOp `json:"op"`
	Path  string        `json:"path"`
	Value string        `json:"value,omitempty"`
	Flags store.Flags   `json:"flags,omitempty"`
	Row   uint32        `json:"row,omitempty"`
	Attr  *store.Attr   `json:"attr,omitempty"`
	// Fresh: the leaf belongs to a row that an earlier step brings back, so that nobody can have changed it since.
	Fresh bool `json:"fresh,omitempty"`
}

// windows are the open ones. The list is read on the store's writer goroutine, where a change that is being staged is
// entered before anybody else's can be judged.
type windows struct {
	mu   sync.Mutex
	open []*window
	tell func(w Window, what string)
}

// find a committed one, by its ID or, with "", by the writer whose policy asked for it.
func (ws *windows) find(id, writer string) *window {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.open {
		if !w.made.IsZero() && (id != "" && w.ID == id || id == "" && w.Policy && w.Writer == writer) {
			return w
		}
	}
	return nil
}

// enter adds a window, or puts it in the place of old, its earlier staging.
func (ws *windows) enter(w, old *window) error {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	at, most := -1, maxWindows
	for i, o := range ws.open {
		switch {
		case o == old:
			at = i
		case o == w.prev:
			most++
		case o.ID == w.ID:
			return datamodel.Fail(datamodel.Refused, "", "a change with the confirm id "+w.ID+" is open already")
		}
	}
	if at >= 0 {
		ws.open[at] = w
		return nil
	}
	if len(ws.open) >= most {
		return datamodel.Fail(datamodel.Resources, "", "at most "+strconv.Itoa(maxWindows)+" changes may wait for their confirmation")
	}
	ws.open = append(ws.open, w)
	return nil
}

// abandon removes a window whose change came to nothing, or that has ended.
func (ws *windows) abandon(w *window) {
	if w == nil {
		return
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w.over = true
	if w.timer != nil {
		w.timer.Stop()
	}
	ws.open = slices.DeleteFunc(ws.open, func(o *window) bool { return o == w })
}

func (ws *windows) stop() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.open {
		if w.timer != nil {
			w.timer.Stop()
		}
	}
}

// on fills in who waits for a confirmation of what covers the path.
func (ws *windows) on(p *Proposal) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.open {
		if w.Writer == p.Writer.Name {
			continue
		}
		for _, covered := range w.Paths {
			if !intersects(covered, p.Path) {
				continue
			}
			p.Held = Held{By: w.Writer, Kind: HeldByConfirm, ID: w.Rev, RetryAfter: int(w.Within / time.Second)}
			if !w.deadline.IsZero() {
				p.Held.RetryAfter = max(int(time.Until(w.deadline)/time.Second), 1)
			}
			return
		}
	}
}

// intersects: one is the other, or lies below it.
func intersects(a, b string) bool {
	return a == b || strings.HasSuffix(a, ".") && strings.HasPrefix(b, a) || strings.HasSuffix(b, ".") && strings.HasPrefix(a, b)
}

// seal stages what rides with the change: the confirm window, and what Change.Seal and the engine's sealer add.
func (r *run) seal() error {
	if c := r.confirmation(); c != nil && r.changing() {
		if err := r.provisional(c); err != nil {
			return err
		}
	}
	if r.c.Seal != nil {
		if err := r.c.Seal(r.tx); err != nil {
			return err
		}
	}
	if fn := r.e.sealer.Load(); fn != nil {
		return (*fn)(r.tx, r.w)
	}
	return nil
}

// provisional stages the record of a confirm window and enters the window.
func (r *run) provisional(c *Confirm) error {
	w := &window{ID: c.ID, Writer: r.w.Name, Within: c.Within, Rev: r.tx.View().Rev()}
	if w.Within == 0 {
		w.Within = DefaultConfirm
	}
	if w.ID == "" {
		w.ID = "r" + strconv.FormatUint(w.Rev, 10)
	}
	if len(w.ID) > maxConfirmID || w.Within < MinConfirm || w.Within > MaxConfirm {
		return datamodel.Fail(datamodel.InvalidArgs, "", "a provisional change needs an id of at most "+strconv.Itoa(maxConfirmID)+
			" bytes and "+MinConfirm.String()+" to "+MaxConfirm.String()+" to be confirmed in")
	}
	r.inverse(w)
	if c.policy {
		w.Policy = true
		r.goOn(w)
	}
	if len(w.Steps) > maxInverse {
		return datamodel.Fail(datamodel.Resources, "", "the change is too large to be provisional: putting it back takes more than "+
			strconv.Itoa(maxInverse)+" steps")
	}
	data, err := json.Marshal(w)
	if err != nil {
		return &datamodel.Error{Reason: datamodel.Internal, Err: err}
	}
	if err := r.tx.PutRecord(confirmBucket, w.ID, data); err != nil {
		return r.storeError("", err)
	}
	if r.c.DryRun {
		return nil
	}
	if err := r.e.windows.enter(w, r.window); err != nil {
		return err
	}
	r.window = w
	return nil
}

// inverse lists the steps that undo the change, the last effect first, and the paths that it touched.
func (r *run) inverse(w *window) {
	done := map[string]bool{}
	for i := len(r.effects) - 1; i >= 0; i-- {
		ef := &r.effects[i]
		if ef.same || ef.act {
			continue
		}
		key := ef.op.String() + " " + ef.path
		if done[key] {
			continue
		}
		done[key] = true
		w.Paths = append(w.Paths, ef.path)
		switch ef.op {
		case store.DeltaSet:
			if old, ok := r.baseV.Leaf(ef.path); ok {
				w.Steps = append(w.Steps, inverse{Op: store.DeltaSet, Path: ef.path, Value: old.Value, Flags: old.Flags})
			} else if rowsExist(r.baseV, ef.path, 0) {
				w.Steps = append(w.Steps, inverse{Op: store.DeltaUnset, Path: ef.path})
			}
		case store.DeltaAddRow:
			w.Steps = append(w.Steps, inverse{Op: store.DeltaDeleteRow, Path: ef.path})
		case store.DeltaDeleteRow:
			w.restoreRow(r.baseV, ef.object, ef.path)
		case store.DeltaAttr:
			old, ok := r.baseV.Attr(ef.path)
			if !ok {
				old = store.Attr{Notification: -1}
			}
			w.Steps = append(w.Steps, inverse{Op: store.DeltaAttr, Path: ef.path, Attr: &old})
		}
	}
	w.sortPaths()
}

func (w *window) sortPaths() {
	slices.Sort(w.Paths)
	w.Paths = slices.Compact(w.Paths)
}

// restoreRow lists what brings a deleted row back, with everything below it.
func (w *window) restoreRow(from *store.Version, obj *datamodel.Object, path string) {
	table := parentPath(path)
	n, err := parseRow(path[len(table):])
	if err != nil || !from.HasInstance(table, n) {
		return // it was made by the same change
	}
	w.Steps = append(w.Steps, inverse{Op: store.DeltaAddRow, Path: table, Row: n})
	w.restoreTables(from, obj, path)
	from.Walk(path, func(leaf string, l store.Leaf) bool {
		w.Steps = append(w.Steps, inverse{Op: store.DeltaSet, Path: leaf, Value: l.Value, Flags: l.Flags, Fresh: true})
		return len(w.Steps) <= maxInverse
	})
	from.Attrs(func(at string, a store.Attr) bool {
		if strings.HasPrefix(at, path) {
			w.Steps = append(w.Steps, inverse{Op: store.DeltaAttr, Path: at, Attr: &a})
		}
		return len(w.Steps) <= maxInverse
	})
}

func (w *window) restoreTables(from *store.Version, obj *datamodel.Object, path string) {
	for _, c := range obj.Children {
		below := path + c.Name + "."
		if !c.Multi {
			w.restoreTables(from, c, below)
			continue
		}
		for _, n := range from.Instances(below) {
			w.Steps = append(w.Steps, inverse{Op: store.DeltaAddRow, Path: below, Row: n})
			w.restoreTables(from, c, below+strconv.FormatUint(uint64(n), 10)+".")
		}
	}
}

// undo stages the steps. A leaf that somebody else has changed since in spite of everything (the system may) stays.
func (w *window) undo(tx *store.Tx) error {
	base := tx.Base().Rev()
	mine := func(rev uint64, writer string) bool { return rev == w.Rev || writer == w.Writer || rev > base }
	for i := range w.Steps {
		st := &w.Steps[i]
		var err error
		switch st.Op {
		case store.DeltaSet, store.DeltaUnset:
			if l, ok := tx.Staged().Leaf(st.Path); !st.Fresh && ok && !mine(l.Rev, l.Writer) {
				continue
			}
			if st.Op == store.DeltaUnset {
				err = tx.Unset(st.Path)
			} else {
				err = tx.Set(st.Path, st.Value, st.Flags)
			}
		case store.DeltaDeleteRow:
			if row, ok := tx.Staged().Row(st.Path); ok && mine(row.Rev, row.Writer) {
				err = tx.DeleteRow(st.Path)
			}
		case store.DeltaAddRow:
			if !tx.Staged().HasInstance(st.Path, st.Row) {
				err = tx.AddRowAt(st.Path, st.Row)
			}
		case store.DeltaAttr:
			err = tx.SetAttr(st.Path, *st.Attr)
		}
		if err != nil && !errors.Is(err, store.ErrMissing) {
			return err
		}
	}
	return tx.DeleteRecord(confirmBucket, w.ID)
}

// opened starts the clock of a window whose change is committed.
func (e *Engine) opened(w *window, commit store.Commit) {
	if w == nil {
		return
	}
	if !commit.Changed {
		e.windows.abandon(w)
		return
	}
	if w.prev != nil {
		e.windows.abandon(w.prev)
		w.prev = nil
	}
	e.windows.mu.Lock()
	w.made = time.Now()
	w.deadline = w.made.Add(w.Within)
	e.arm(w, w.Within)
	e.windows.mu.Unlock()
	e.tellWindow(w, WindowOpened)
}

// arm is called with windows.mu held.
func (e *Engine) arm(w *window, d time.Duration) {
	if w.timer != nil {
		w.timer.Stop()
	}
	w.timer = time.AfterFunc(d, func() {
		if !e.enter() {
			return // the next start puts it back
		}
		defer e.wg.Done()
		ctx, cancel := context.WithTimeout(context.Background(), applyBudget)
		defer cancel()
		if err := e.revert(ctx, w, "deadline"); err != nil {
			e.log.Error("a change that was not confirmed could not be put back", "confirm", w.ID, "error", err)
			e.windows.mu.Lock()
			defer e.windows.mu.Unlock()
			if !w.over {
				e.arm(w, time.Second)
			}
		}
	})
}

// Windows lists the provisional changes.
func (e *Engine) Windows() []Window {
	e.windows.mu.Lock()
	defer e.windows.mu.Unlock()
	out := make([]Window, 0, len(e.windows.open))
	for _, w := range e.windows.open {
		if !w.made.IsZero() {
			out = append(out, w.shown())
		}
	}
	return out
}

// Confirm makes a provisional change permanent; with a deadline it moves the end of the window instead. The same
// principal must confirm, over a connection that was opened after the change was committed: this is the proof that it
// can still reach the device.
//
// Errors: NoInstance (no such window), Refused (somebody else's, or an old connection), InvalidArgs (deadline out of
// bounds).
func (e *Engine) Confirm(ctx context.Context, by Writer, id string, deadline time.Duration) error {
	w, err := e.windowOf(by, id)
	if err != nil {
		return err
	}
	if !by.System && !by.ConnectedAt.After(w.made) {
		return datamodel.Fail(datamodel.Refused, "", "a confirmation counts only over a connection opened after the change: connect anew")
	}
	if deadline > 0 {
		if deadline < MinConfirm || deadline > MaxConfirm {
			return datamodel.Fail(datamodel.InvalidArgs, "", "the new deadline is "+MinConfirm.String()+" to "+MaxConfirm.String())
		}
		e.windows.mu.Lock()
		defer e.windows.mu.Unlock()
		if !w.over {
			w.deadline = time.Now().Add(deadline)
			e.arm(w, deadline)
		}
		return nil
	}
	_, err = e.store.Update(ctx, store.Meta{Writer: by.Name, Ref: id, Kind: "confirm"}, func(tx *store.Tx) error {
		if !w.stored(tx) {
			return errWindow
		}
		return tx.DeleteRecord(confirmBucket, w.ID)
	})
	if errors.Is(err, errWindow) {
		return errWindow
	}
	if err != nil {
		return &datamodel.Error{Reason: storeReason(err), Err: err}
	}
	e.windows.abandon(w)
	e.tellWindow(w, WindowConfirmed)
	return nil
}

var errWindow = datamodel.Fail(datamodel.NoInstance, "", "no change waits for this confirmation")

// CancelConfirm puts a provisional change back at once. The writer itself, the local user and the system may.
func (e *Engine) CancelConfirm(ctx context.Context, by Writer, id string) error {
	w, err := e.windowOf(by, id)
	if err != nil {
		return err
	}
	return e.revert(ctx, w, by.Name)
}

func (e *Engine) windowOf(by Writer, id string) (*window, error) {
	w := e.windows.find(id, by.Name)
	if w == nil {
		return nil, errWindow
	}
	if w.Writer != by.Name && !by.System && by.Class != ClassUser {
		return nil, datamodel.Fail(datamodel.Refused, "", "the change is "+w.Writer+"'s to confirm")
	}
	return w, nil
}

// revert puts a provisional change back in one commit and has the providers follow.
func (e *Engine) revert(ctx context.Context, w *window, why string) error {
	var job *applyJob
	commit, err := e.store.Update(ctx, store.Meta{Writer: sysPrefix + "rollback", Ref: w.ID, Kind: "rollback"}, func(tx *store.Tx) error {
		e.applies.drop(job)
		if !w.stored(tx) {
			return errWindow
		}
		if err := w.undo(tx); err != nil {
			return err
		}
		if e.cat.Load().hasAppliers() {
			job = e.applies.stage(nil, nil, tx.Base())
		}
		return nil
	})
	if err != nil {
		e.applies.drop(job)
		if errors.Is(err, errWindow) {
			e.windows.abandon(w)
			return errWindow
		}
		return &datamodel.Error{Reason: storeReason(err), Err: err}
	}
	if job != nil {
		if commit.Entry != nil {
			job.writes = e.writesOf(commit.Entry.Deltas, commit.Version)
		}
		e.applies.commit(job, commit.Rev)
	}
	e.windows.abandon(w)
	e.log.Warn("a change that was not confirmed was put back", "confirm", w.ID, "writer", w.Writer, "revision", w.Rev, "by_revision", commit.Rev, "why", why)
	e.tellWindow(w, why)
	return nil
}

// restoreFirst puts back what was provisional when the engine last ended, before anything else is done: whoever made it
// did not get to confirm it. RFC 6241 8.4.1 asks for it after a reboot.
func (e *Engine) restoreFirst(ctx context.Context) error {
	var ws []*window
	var bad error
	e.store.Head().Records(confirmBucket, func(id string, data []byte) bool {
		w := &window{}
		if err := json.Unmarshal(data, w); err != nil {
			bad = &datamodel.Error{Reason: datamodel.Internal, Text: "provisional change " + id, Err: err}
			return false
		}
		ws = append(ws, w)
		return true
	})
	if bad != nil {
		return bad
	}
	sort.Slice(ws, func(i, j int) bool { return ws[i].Rev > ws[j].Rev }) // the newest first
	for _, w := range ws {
		if err := e.revert(ctx, w, "restart"); err != nil {
			return err
		}
	}
	return nil
}
