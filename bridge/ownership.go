package bridge

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"twinspan/datamodel"
	"twinspan/store"
)

// Limits of what is remembered beside the store's own "who wrote it last".
const (
	maxCoOwned  = 128 // leaves with co-owners
	maxCoOwners = 8   // of one leaf
	maxReleased = 128
	maxMarks    = 64
	arbRecord   = "arbitration"
	flushEvery  = time.Minute
)

// owners is what ownership needs beyond the writer that the store keeps with every leaf: who else asserted the value,
// what was given up, and how old revisions are. Sparse, in one record, written with the next commit or within a minute.
type owners struct {
	mu       sync.Mutex
	co       map[string]coOwned
	released []released
	asserted map[string]uint64 // by path: revision at which the owner last asserted a value that is old
	marks    []mark            // ascending
	dirty    bool
	saved    time.Time
}

type coOwned struct {
	Rev     uint64  `json:"rev"` // of the leaf; a change ends it
	Writers []Claim `json:"writers"`
}

type released struct {
	Writer, Path string
	Rev          uint64
}

// mark: all revisions up to Rev were there at a time.
type mark struct {
	Unix int64
	Rev  uint64
}

// savedState is the record.
type savedState struct {
	Co       map[string]coOwned `json:"co,omitempty"`
	Released []released         `json:"released,omitempty"`
	Asserted map[string]uint64  `json:"asserted,omitempty"`
	Marks    []mark             `json:"marks,omitempty"`
	Frozen   []savedFreeze      `json:"frozen,omitempty"`
}

type savedFreeze struct {
	Path, Winner string
	Until        int64
	Level        int
}

// load takes up what was saved; what cannot be read is as if it had never been.
func (e *Engine) loadArbitration(now time.Time) {
	data, ok := e.store.Head().Record(stateBucket, arbRecord)
	if !ok {
		return
	}
	var s savedState
	if err := json.Unmarshal(data, &s); err != nil {
		e.log.Error("the arbitration's state could not be read", "error", err)
		return
	}
	o := &e.owners
	o.co, o.released, o.asserted, o.marks = s.Co, s.Released, s.Asserted, s.Marks
	for _, f := range s.Frozen {
		until := time.Unix(f.Until, 0)
		if until.Sub(now) > freezeMost { // the clock went back
			until = now.Add(freezeMost)
		}
		l := e.fights.leaf(f.Path, now)
		l.winner, l.until, l.level = f.Winner, until, f.Level
	}
}

func (o *owners) touch() {
	o.mu.Lock()
	o.dirty = true
	o.mu.Unlock()
}

// saveArbitration stages the record if there is something new, in somebody else's commit (own=false) at most once in a
// minute: two masters that assert the same for ever must not make every commit larger.
func (e *Engine) saveArbitration(tx *store.Tx, now time.Time, own bool) error {
	o := &e.owners
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.dirty || !own && now.Sub(o.saved) < flushEvery {
		return nil
	}
	s := savedState{Co: o.co, Released: o.released, Asserted: o.asserted, Marks: o.marks}
	for _, f := range e.fights.frozen(now) {
		s.Frozen = append(s.Frozen, savedFreeze{f.Path, f.Winner, f.Until.Unix(), f.Level})
	}
	data, err := json.Marshal(&s)
	if err != nil {
		return err
	}
	if len(data) > store.MaxRecord {
		return nil // bounded by the limits above; long paths only
	}
	if err := tx.PutRecord(stateBucket, arbRecord, data); err != nil {
		return err
	}
	o.dirty, o.saved = false, now
	return nil
}

// flushArbitration writes what no commit has taken along.
func (e *Engine) flushArbitration(ctx context.Context) {
	o := &e.owners
	o.mu.Lock()
	dirty := o.dirty
	o.mu.Unlock()
	if !dirty {
		return
	}
	if _, err := e.store.Update(ctx, store.Meta{Writer: sysPrefix + "arbitration", Kind: "record"}, func(tx *store.Tx) error {
		return e.saveArbitration(tx, time.Now(), true)
	}); err != nil {
		o.touch()
	}
}

func (e *Engine) flushLoop(ctx context.Context) {
	defer e.wg.Done()
	t := time.NewTicker(flushEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			e.flushArbitration(ctx)
		}
	}
}

// clockValid: a device without a set clock begins in 1970; ages are not judged then.
func clockValid(now time.Time) bool { return now.Year() >= 2024 }

// age is the newest revision that is older than ttl; 0: none is known to be. With keep it also remembers how old
// revisions are now.
func (o *owners) age(now time.Time, ttl time.Duration, rev uint64, keep bool) uint64 {
	if ttl <= 0 || !clockValid(now) {
		return 0
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	limit := now.Add(-ttl).Unix()
	var old uint64
	past := -1
	for i, m := range o.marks {
		if m.Unix <= limit {
			old, past = m.Rev, i
		}
	}
	if keep && (len(o.marks) == 0 || now.Unix()-o.marks[len(o.marks)-1].Unix >= int64(ttl/32/time.Second)+1) {
		if past > 0 {
			o.marks = slices.Delete(o.marks, 0, past)
		}
		if len(o.marks) >= maxMarks {
			o.marks = o.marks[1:]
		}
		o.marks = append(o.marks, mark{now.Unix(), rev})
		o.dirty = true
	}
	return old
}

// ended reports whether a writer's claim on what it wrote in a revision was given up or is older than ttl.
func (o *owners) ended(path, writer string, rev, old uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if rev <= old && o.asserted[path] <= old {
		return true
	}
	return slices.ContainsFunc(o.released, func(r released) bool {
		return r.Writer == writer && rev <= r.Rev && o.asserted[path] <= r.Rev && (r.Path == path || strings.HasSuffix(r.Path, ".") && strings.HasPrefix(path, r.Path))
	})
}

// others are the co-owners of a leaf beside two writers.
func (o *owners) others(path string, rev uint64, owner, writer string) []Claim {
	o.mu.Lock()
	defer o.mu.Unlock()
	c, ok := o.co[path]
	if !ok || c.Rev != rev {
		return nil
	}
	var out []Claim
	for _, w := range c.Writers {
		if w.Writer != owner && w.Writer != writer {
			out = append(out, w)
		}
	}
	return out
}

// asserts notes that a writer set the value that is there already. old is the age from which on an owner's assertion is
// worth remembering.
func (o *owners) asserts(path string, rev uint64, p *Proposal, now, old uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p.Owner == p.Writer.Name || p.Owner == "" {
		if p.Owner == p.Writer.Name && rev <= old && o.asserted[path] <= old {
			o.asserted = bounded(o.asserted, maxCoOwned, func(v uint64) uint64 { return v })
			o.asserted[path] = now
			o.dirty = true
		}
		return
	}
	c := o.co[path]
	if c.Rev != rev {
		c = coOwned{Rev: rev}
	}
	me := Claim{p.Writer.Name, p.Writer.Class}
	if slices.Contains(c.Writers, me) || len(c.Writers) >= maxCoOwners {
		return
	}
	c.Writers = append(slices.Clone(c.Writers), me)
	o.co = bounded(o.co, maxCoOwned, func(c coOwned) uint64 { return c.Rev })
	o.co[path] = c
	o.dirty = true
}

// bounded makes room for one more by dropping the entry with the lowest revision.
func bounded[V any](m map[string]V, most int, rev func(V) uint64) map[string]V {
	if m == nil {
		m = map[string]V{}
	}
	for len(m) >= most {
		worst, low := "", uint64(0)
		for k, v := range m {
			if r := rev(v); worst == "" || r < low {
				worst, low = k, r
			}
		}
		delete(m, worst)
	}
	return m
}

// changed forgets what was remembered of a leaf's old value.
func (o *owners) changed(path string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, co := o.co[path]
	_, as := o.asserted[path]
	if co || as {
		delete(o.co, path)
		delete(o.asserted, path)
		o.dirty = true
	}
}

// OwnedLeaf tells who owns a leaf.
type OwnedLeaf struct {
	Path     string // canonical
	Writer   string
	Class    string
	Rev      uint64 // since
	CoOwners []Claim
	Rule     string // that decides about it
}

// Owners lists the leaves at or below a canonical prefix that a manager owns, in order of paths: at most limit of them
// after the first offset. more says that there are others.
func (e *Engine) Owners(prefix string, offset, limit int) (list []OwnedLeaf, more bool) {
	v := e.store.Head()
	r := &run{e: e, baseV: v, base: v.Rev(), now: time.Now()}
	r.old = e.owners.age(r.now, e.ownerTTL(), v.Rev(), false)
	order := e.order(v)
	v.Walk("", func(path string, l store.Leaf) bool {
		if !related(prefix, path) && prefix != "" {
			return true
		}
		p := Proposal{Path: path}
		r.owner(&p, l.Writer, l.Rev, l.Flags)
		if p.Owner == "" {
			return true
		}
		if offset > 0 {
			offset--
			return true
		}
		if len(list) >= limit {
			more = true
			return false
		}
		o := OwnedLeaf{Path: path, Writer: p.Owner, Class: p.OwnerClass, Rev: p.OwnerRev, CoOwners: p.CoOwners}
		if order != nil {
			o.Rule = order.RuleFor(path).ID
		}
		list = append(list, o)
		return true
	})
	return list, more
}

// ReleaseOwnership gives up what w owns at or below a path in its spelling ("" = everything): whoever comes next may have
// it, a co-owner first. It returns how many leaves that were.
func (e *Engine) ReleaseOwnership(ctx context.Context, w Writer, path string) (int, error) {
	canonical := e.schema.Root().Path
	if path != "" {
		c, ok := toCanonical(w.Protocol, path)
		if !ok {
			return 0, datamodel.Fail(datamodel.NotSupported, path, "")
		}
		canonical = c
	}
	n := 0
	meta := store.Meta{Writer: w.Name, Kind: "release"}
	if w.Protocol != 0 {
		meta.Protocol = w.Protocol.String()
	}
	o := &e.owners
	_, err := e.store.Update(ctx, meta, func(tx *store.Tx) error {
		base := tx.Base()
		base.Walk("", func(path string, l store.Leaf) bool {
			if l.Writer == w.Name && (path == canonical || strings.HasSuffix(canonical, ".") && strings.HasPrefix(path, canonical)) {
				n++
			}
			return true
		})
		if n == 0 {
			return nil
		}
		o.mu.Lock()
		o.released = slices.DeleteFunc(o.released, func(r released) bool {
			return r.Writer == w.Name && (r.Path == canonical || strings.HasSuffix(canonical, ".") && strings.HasPrefix(r.Path, canonical))
		})
		if len(o.released) >= maxReleased {
			o.mu.Unlock()
			return tooMany("releases are remembered", maxReleased, 3600)
		}
		o.released = append(o.released, released{w.Name, canonical, base.Rev()})
		o.dirty = true
		o.mu.Unlock()
		tx.Note(store.Note{Op: store.DeltaNote, Path: canonical, Verdict: "release", Rule: "owner", New: strconv.Itoa(n)})
		return e.saveArbitration(tx, time.Now(), true)
	})
	if err != nil {
		o.touch()
		return 0, err
	}
	return n, nil
}

func (e *Engine) ownerTTL() time.Duration {
	if o, ok := e.Arbiter().(interface{ OwnerTTL() time.Duration }); ok {
		return o.OwnerTTL()
	}
	return 0
}
