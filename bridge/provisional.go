package bridge

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"twinspan/datamodel"
	"twinspan/store"
)

// ConfirmMark ends a verdict in the journal that counts only once the change is confirmed.
const ConfirmMark = " confirm"

// What a listener of OnWindow is told beside the reasons for which a change is put back: "deadline", "restart", or the
// name of the writer who cancelled it.
const (
	WindowOpened    = "opened"
	WindowConfirmed = "confirmed"
)

// OnWindow has f called when a provisional change is committed, confirmed or put back, outside all locks, also during
// Start. It must not call Apply. Before Start.
func (e *Engine) OnWindow(f func(w Window, what string)) { e.windows.tell = f }

func (e *Engine) tellWindow(w *window, what string) {
	if f := e.windows.tell; f != nil {
		f(w.shown(), what)
	}
}

func (w *window) shown() Window { return Window{w.ID, w.Writer, w.Rev, w.Paths, w.deadline} }

// stored reports whether the store still waits for this window. One that a later change of its writer went on with is
// over, though its timer may not know yet.
func (w *window) stored(tx *store.Tx) bool {
	data, open := tx.Record(confirmBucket, w.ID)
	var there struct {
		Rev uint64 `json:"rev"`
	}
	return open && json.Unmarshal(data, &there) == nil && there.Rev == w.Rev
}

// ask takes a value of the parameter ConfirmWithin: SECONDS or SECONDS@ID. What is wrong with it fails the whole change:
// nobody wants the rest without the way back.
func (r *run) ask(m datamodel.Match, value string) error {
	text, id, _ := strings.Cut(strings.TrimSpace(value), "@")
	n, err := strconv.ParseUint(text, 10, 32)
	d := time.Duration(n) * time.Second
	if err != nil || d < MinConfirm || d > MaxConfirm || len(id) > maxConfirmID || strings.ContainsAny(id, " ,") {
		r.guarded = datamodel.Fail(datamodel.InvalidValue, r.spell(m.Path), "must be SECONDS or SECONDS@ID, with "+MinConfirm.String()+" to "+
			MaxConfirm.String()+" and an id of at most "+strconv.Itoa(maxConfirmID)+" bytes")
		return r.guarded
	}
	r.asked = &Confirm{ID: id, Within: d}
	return nil
}

// confirmation is what makes the change provisional: its maker's own wish, or a rule over something that it changes.
func (r *run) confirmation() *Confirm {
	switch {
	case r.c.Confirm != nil:
		return r.c.Confirm
	case r.asked != nil || r.w.System:
		return r.asked
	}
	for i := range r.effects {
		if ef := &r.effects[i]; !ef.same && !ef.act && strings.HasSuffix(ef.verdict, ConfirmMark) {
			c := &Confirm{policy: true}
			if o := r.e.order(r.baseV); o != nil {
				c.Within = o.within
			}
			return c
		}
	}
	return nil
}

// goOn makes a window that a rule asks for the continuation of the one that the writer has open already: one
// confirmation is enough for both, and the deadline counts anew. RFC 6241 8.4.1 has the same.
func (r *run) goOn(w *window) {
	prev := r.e.windows.find("", w.Writer)
	if prev == nil || !prev.stored(r.tx) {
		return
	}
	w.ID, w.prev = prev.ID, prev
	w.Steps = append(w.Steps, prev.Steps...) // back to before the second change, then to before the first
	w.Paths = append(slices.Clone(w.Paths), prev.Paths...)
	w.sortPaths()
}
