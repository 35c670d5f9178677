package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"twinspan/datamodel"
	"twinspan/store"
)

// Limits of one Change.
const (
	maxOps      = 16384 // a SetParameterValues has one for each parameter
	maxSettings = 65536
	// maxAttempts is how often a change is staged anew because live values were missing or the candidate that the
	// providers had prepared was overtaken by another commit.
	maxAttempts = 8
	// maxRounds is how often a change is staged anew inside one transaction because the final state was inconsistent.
	maxRounds = 16
)

var (
	errFetch   = errors.New("live values are missing")
	errPrepare = errors.New("the candidate is not prepared")
)

// Apply carries out one transaction. It returns after fsync, and after the providers concerned have applied it or
// their budget of 5 s is over (Result.Applied=false).
//
// A provider that vetoes the candidate fails the whole change. A provider that fails to apply it makes the engine put
// everything back in a transaction of its own by writer sys:rollback; the error is then Applying.
func (e *Engine) Apply(ctx context.Context, w Writer, c Change) (Result, error) {
	res, r, err := e.apply(ctx, w, c, 0)
	if err == nil {
		e.act(w, r.actions())
	}
	return res, err
}

func (e *Engine) apply(ctx context.Context, w Writer, c Change, since uint64) (Result, *run, error) {
	if err := checkLimits(&c); err != nil {
		return Result{Outcomes: make([]Outcome, len(c.Ops))}, nil, err
	}
	r := &run{e: e, w: w, c: &c, cat: e.cat.Load(), now: time.Now(), since: since,
		live: &staged{}, masked: map[maskKey]error{}}
	defer r.announce()
	r.waited = e.wait < 0 || c.DryRun
	changed := false
	if !c.DryRun && !w.System {
		if err := e.throttle(ctx, w.Name); err != nil {
			return r.result(0), nil, asStoreError(err)
		}
		defer func() {
			if !changed {
				e.rates.refund(w.Name)
			}
		}()
	}
	meta := store.Meta{Writer: w.Name, Ref: c.Ref, Kind: kindOf(&c)}
	if w.Protocol != 0 && !w.System {
		meta.Protocol = w.Protocol.String()
	}
	r.forecast()
	since0 := r.now
	for attempts := 0; attempts < maxAttempts; attempts++ {
		var commit store.Commit
		var err error
		if c.DryRun {
			head := e.store.Head()
			_, err = head.OverlayAs(meta, r.stage)
			commit = store.Commit{Rev: head.Rev(), Version: head}
		} else {
			leave := func() {}
			if !w.System {
				cost, bytes := c.size()
				leave, err = e.queue.enter(ctx, w.Name, weightOf(e.order(e.store.Head()), w.Class), cost, bytes, since0)
			}
			if err == nil {
				commit, err = e.store.Update(ctx, meta, r.stage)
				leave()
			}
		}
		switch {
		case err == nil:
			changed = commit.Changed
			return e.committed(ctx, r, commit)
		case errors.Is(err, errHeld):
			attempts-- // bounded by the patience
			e.await(ctx, r)
		case errors.Is(err, errFetch):
			r.fetch(ctx)
		case errors.Is(err, errPrepare):
			if err := e.prepare(ctx, r); err != nil {
				e.windows.abandon(r.window)
				return r.result(r.base), r, err
			}
		default:
			e.applies.drop(r.job)
			e.windows.abandon(r.window)
			if r.failed == nil {
				e.owners.touch() // what the commit was to take along
			}
			return r.result(r.base), r, asStoreError(err)
		}
	}
	e.windows.abandon(r.window)
	return r.result(r.base), r, datamodel.Fail(datamodel.Resources, "", "the tree changes faster than the change can be prepared")
}

// asStoreError gives errors of other packages the one type.
func asStoreError(err error) error {
	var de *datamodel.Error
	if errors.As(err, &de) {
		return err
	}
	if errors.Is(err, store.ErrFull) {
		return &datamodel.Error{Reason: datamodel.Resources, Text: "the database or the disk it is on is full", Err: err}
	}
	return &datamodel.Error{Reason: datamodel.Internal, Err: err}
}

// size of a change for the queue: leaves, and bytes of names and values.
func (c *Change) size() (leaves, bytes int) {
	for i := range c.Ops {
		leaves += max(1, len(c.Ops[i].Settings))
		bytes += len(c.Ops[i].Path)
		for _, s := range c.Ops[i].Settings {
			bytes += len(s.Name) + len(s.Value)
		}
	}
	return leaves, bytes
}

// settings is the number of them in all operations.
func (c *Change) settings() (n int) {
	for i := range c.Ops {
		n += len(c.Ops[i].Settings)
	}
	return n
}

func checkLimits(c *Change) error {
	n := c.settings()
	if len(c.Ops) > maxOps || n > maxSettings {
		return datamodel.Fail(datamodel.Resources, "", fmt.Sprintf("%d operations with %d settings, at most %d with %d are taken",
			len(c.Ops), n, maxOps, maxSettings))
	}
	return nil
}

func kindOf(c *Change) string {
	if len(c.Ops) == 0 {
		return "record"
	}
	return [...]string{"set", "add", "delete", "attr"}[min(int(c.Ops[0].Kind), 3)]
}

func storeReason(err error) datamodel.Reason {
	if errors.Is(err, store.ErrFull) {
		return datamodel.Resources
	}
	return datamodel.Internal
}

// committed waits for the providers and builds the result.
func (e *Engine) committed(ctx context.Context, r *run, commit store.Commit) (Result, *run, error) {
	if commit.Changed && r.learn {
		e.classes.learned(r.w)
	}
	e.opened(r.window, commit)
	r.done, r.rev = commit.Changed, commit.Rev
	res := r.result(commit.Rev)
	res.Changed = commit.Changed
	res.Applied = true
	if r.job == nil {
		return res, r, nil
	}
	e.applies.commit(r.job, commit.Rev)
	if !e.running.Load() {
		res.Applied = false
		return res, r, nil
	}
	t := time.NewTimer(applyBudget)
	defer t.Stop()
	select {
	case <-r.job.done:
		if r.job.err != nil {
			res.Applied = false
			return res, r, &datamodel.Error{Reason: datamodel.Applying, Text: "put back by sys:rollback", Err: r.job.err}
		}
	case <-t.C:
		res.Applied = false
	case <-ctx.Done():
		res.Applied = false
	case <-e.done:
		res.Applied = false
	}
	return res, r, nil
}

// maskKey names a setting (or, with setting -1, a whole object) of an operation.
type maskKey struct {
	op      int
	obj     string // canonical object; the table for a new row
	setting int
}

// effect is one thing that staging did, in order. Rolling an operation back truncates the list.
type effect struct {
	op     store.DeltaOp
	path   string
	value  string
	flags  store.Flags
	attr   store.Attr
	object *datamodel.Object
	param  *datamodel.Param
	from   maskKey
	same   bool // the store holds it already
	act    bool // a CWMP command parameter: acts, is not stored
	// command: it is the command of the same name, run after the commit
	command bool
	// what the journal says
	verdict, rule string
	asked         bool   // the arbiter was
	owner, facts  string // of what it was asked
	freeze        string
}

// remember keeps what the arbiter was asked about an effect.
func (r *run) remember(ef *effect, p *Proposal) {
	ef.asked, ef.owner, ef.facts = true, p.Owner, r.factsOf(p)
}

// run is one Change on its way. stage may run several times; everything it learns it throws away at its beginning,
// except what was fetched or prepared outside.
type run struct {
	e     *Engine
	w     Writer
	c     *Change
	cat   *catalog
	arb   Arbiter
	now   time.Time
	since uint64 // shielded sessions: revision of their snapshot

	live     *staged
	pure     [][]pureValue     // by operation and setting
	plain    []datamodel.Match // by operation: what its path means if the rows on it exist; no Object: not known
	one      [1]datamodel.Match
	prepared []datamodel.Write
	job      *applyJob

	tx      *store.Tx
	careful bool // every operation a savepoint
	base    uint64
	baseV   *store.Version
	masked  map[maskKey]error
	vetoed  map[maskKey]error // by providers, of candidates before this one
	out     []Outcome
	objects []ObjectOutcome // room for out
	params  []ParamOutcome
	effects []effect
	refused []refusal
	blamed  []refusal       // found by check; survives the rounds
	present map[string]bool // Controllers that are there and enabled
	failed  error
	learn   bool // the writer's class is new and rides in this commit
	window  *window

	// Of the arbitration.
	phase    Phase
	creators bool
	old      uint64 // revisions up to it are older than the owner's time to live,
	half     uint64 // and up to this than half of it
	asserts  []assertion
	held     []string // paths that the change must wait for
	waited   bool
	patience time.Time
	adding   Verdict // on the row that is being added
	addingAs *Proposal
	asking   Proposal // about the leaf at hand
	ownFacts ownFacts
	guarded  error // an IfRevision did not hold
	tell     []ConflictRow
	asked    *Confirm // the change itself asks for a confirmation, by ConfirmWithin
	lost     []OwnershipLoss
	done     bool // committed, as rev
	rev      uint64
}

func (r *run) result(rev uint64) Result {
	out := r.out
	if out == nil {
		out = make([]Outcome, len(r.c.Ops))
	}
	return Result{Revision: rev, Outcomes: out}
}

func (r *run) tree() *tree {
	return &tree{w: &r.w, cat: r.cat, s: r.e.schema, v: r.tx.Staged(), base: r.baseV, live: r.live}
}

// stage runs on the store's writer goroutine, against the newest version.
func (r *run) stage(tx *store.Tx) error {
	r.e.applies.drop(r.job)
	r.job = nil
	r.tx, r.baseV, r.base = tx, tx.Base(), tx.Base().Rev()
	clear(r.masked)
	for k, err := range r.vetoed {
		r.masked[k] = err
	}
	clear(r.present)
	r.blamed = r.blamed[:0]
	r.arbitration()
	if err := r.guards(); err != nil {
		return err
	}
	settings := r.c.settings()
	tx.Expect(settings)
	if cap(r.effects) < settings {
		r.effects = make([]effect, 0, settings)
	}
	start := tx.Savepoint()
	for round := 0; ; round++ {
		r.effects, r.refused, r.failed = r.effects[:0], r.refused[:0], nil
		r.asserts, r.held, r.guarded, r.asked = r.asserts[:0], r.held[:0], nil, nil
		if !r.ops(start) {
			r.careful = true
			tx.RollbackTo(start)
			round--
			continue
		}
		if r.live.missed() {
			return errFetch
		}
		if len(r.held) > 0 {
			return errHeld
		}
		if r.guarded != nil {
			for i := range r.out { // survivors would look as if they had been committed
				if r.out[i].Err == nil && !r.c.Atomic {
					r.out[i].Err = r.guarded
				}
			}
			r.failed = r.guarded
		}
		if r.failed != nil || !r.check() {
			break
		}
		if round == maxRounds {
			return datamodel.Fail(datamodel.ValueConflict, "", "the final state is inconsistent")
		}
		tx.RollbackTo(start)
	}
	if r.failed != nil {
		r.settle(false)
		return r.failed
	}
	if err := r.own(); err != nil {
		return err
	}
	if writes := r.writes(); len(writes) > 0 {
		if !slices.Equal(writes, r.prepared) {
			r.prepared = writes
			return errPrepare
		}
		if !r.c.DryRun {
			r.job = r.e.applies.stage(r, writes, r.baseV)
		}
	}
	r.settle(true)
	if r.changing() && !r.c.DryRun {
		return r.e.saveArbitration(tx, r.now, false)
	}
	return nil
}

// arbitration takes what all verdicts of the transaction share.
func (r *run) arbitration() {
	r.now, r.arb = time.Now(), r.e.Arbiter()
	r.phase = r.e.PhaseAt(r.baseV)
	r.creators = false
	var epoch uint64
	if o := r.e.order(r.baseV); o != nil {
		r.creators = o.asksCreator()
	}
	if o, ok := r.arb.(interface{ Epoch() uint64 }); ok {
		epoch = o.Epoch()
	}
	r.tx.SetContext(contextText(r.phase, r.w.Class, epoch))
	if ttl := r.e.ownerTTL(); ttl > 0 {
		r.half = r.e.owners.age(r.now, ttl/2, r.base, false)
		r.old = r.e.owners.age(r.now, ttl, r.base, !r.c.DryRun)
	}
}

// guards checks the If-Revision preconditions against the newest version.
func (r *run) guards() error {
	for _, g := range r.c.Guards {
		path := g.Path
		if path == "" {
			path = r.e.schema.Root().Path
		} else if c, ok := toCanonical(r.w.Protocol, path); ok {
			path = c
		}
		newest := r.baseV.SubtreeRev(path)
		if newest > g.Rev || g.Rev > r.base {
			return datamodel.Fail(datamodel.Guard, g.Path, "expected revision "+strconv.FormatUint(g.Rev, 10)+
				", is "+strconv.FormatUint(newest, 10))
		}
	}
	return nil
}

// ops stages every operation. Each is taken back if it fails. A savepoint for each would have everything above it copied for each, so
// the first attempt does without: ok is false when an operation failed after it had staged something, and ops is to begin anew at
// start, carefully.
func (r *run) ops(start store.Savepoint) (ok bool) {
	r.out = make([]Outcome, len(r.c.Ops))
	r.objects, r.params = make([]ObjectOutcome, len(r.c.Ops)), make([]ParamOutcome, r.c.settings())
	for i := range r.c.Ops {
		op := &r.c.Ops[i]
		sp, mark, size := start, len(r.effects), r.tx.Staging()
		if r.careful && i > 0 {
			sp = r.tx.Savepoint()
		}
		o := &r.out[i]
		switch op.Kind {
		case OpSet:
			r.opSet(i, op, o)
		case OpAdd:
			r.opAdd(i, op, o)
		case OpDelete:
			r.opDelete(i, op, o)
		case OpAttr:
			r.opAttr(op, o)
		default:
			o.Err = datamodel.Fail(datamodel.InvalidArgs, op.Path, "unknown operation")
		}
		if o.Err == nil {
			continue
		}
		last := r.c.Atomic && !r.c.AllErrors // nothing of the transaction remains
		if r.tx.Staging() != size && !last { // R-SET.0, R-ADD.0, R-DEL.0: the others go on as if this one had not been
			if i > 0 && !r.careful {
				return false
			}
			r.tx.RollbackTo(sp)
		}
		r.effects = r.effects[:mark]
		if r.c.Atomic { // R-SET.1, R-ADD.1, R-DEL.1
			if r.failed == nil {
				r.failed = o.Err
			}
			if last {
				break
			}
		}
	}
	return true
}

// own stages what heads and the engine themselves add to a change that succeeds.
func (r *run) own() error {
	for _, path := range sortedKeys(r.c.System) {
		value := r.c.System[path]
		m, ok := r.e.schema.Lookup(path)
		if !ok || m.Param == nil {
			return datamodel.Fail(datamodel.NotSupported, path, "not a parameter of this device")
		}
		value, err := m.Param.Any().Canonical(value)
		if err != nil {
			return asAsked(err, path)
		}
		old, had := r.tx.Staged().Leaf(path)
		if had && old.Value == value {
			continue
		}
		if err := r.tx.Set(path, value, secretFlag(m.Param)); err != nil {
			return r.storeError(path, err)
		}
		r.effects = append(r.effects, effect{op: store.DeltaSet, path: path, value: value, object: m.Object, param: m.Param,
			from: maskKey{op: -1}, flags: secretFlag(m.Param), verdict: "sys", rule: "sys"})
	}
	for i, rec := range r.c.Records {
		if strings.HasPrefix(rec.Bucket, ownBucket) {
			return datamodel.Fail(datamodel.Internal, "", "bucket "+rec.Bucket+" belongs to the bridge")
		}
		if err := r.tx.PutRecord(rec.Bucket, rec.Key, rec.Data); err != nil {
			return r.storeError("", err)
		}
		if i > 0 && rec.Bucket == r.c.Records[i-1].Bucket {
			continue
		}
		if err := r.tx.PutRecord(bucketsBucket, rec.Bucket, []byte{1}); err != nil { // FactoryReset must find it
			return r.storeError("", err)
		}
	}
	if err := r.seal(); err != nil {
		return err
	}
	if r.learn = r.changing() && r.e.classes.unknown(r.w); r.learn {
		return r.e.classes.put(r.tx, r.w)
	}
	return nil
}

// changing reports whether the store will have something new to keep.
func (r *run) changing() bool {
	for i := range r.effects {
		if ef := &r.effects[i]; !ef.same && !ef.act {
			return true
		}
	}
	return false
}

// actions are the commands that the change's command parameters stand for; canonical paths.
func (r *run) actions() []string {
	var out []string
	if r.c.DryRun {
		return nil
	}
	for i := range r.effects {
		if r.effects[i].command {
			out = append(out, r.effects[i].path+"()")
		}
	}
	return out
}

func (r *run) storeError(path string, err error) error {
	return &datamodel.Error{Reason: storeReason(err), Path: spell(r.w.Protocol, path), Err: err}
}

func sortedKeys[V any](m map[string]V) []string {
	if len(m) == 0 {
		return nil
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
