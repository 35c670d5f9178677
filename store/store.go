package store

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// lazyDelay is how long cursors and refused lines wait for a commit to ride in before they get one of their own.
const lazyDelay = time.Second

// maxFailed is how often the delay doubles while lazy commits fail: up to about a minute.
const maxFailed = 6

// Failpoints, in the order in which a batch passes them.
const (
	failBegin   = "begin"   // transactions staged, nothing written
	failWrite   = "write"   // pages changed in memory, nothing written
	failCommit  = "commit"  // on disk and visible, but the sync is said to have failed
	failPublish = "publish" // durable, not yet published; an error is ignored
)

// Store is an open database. Safe for concurrent use.
type Store struct {
	opt   Options
	salt  *[16]byte
	disk  *disk // nil: memory only. Owned by who has the turn, but for reading the journal
	head  atomic.Pointer[Version]
	queue chan *request
	wake  chan struct{} // something lazy began to wait
	quit  chan struct{}
	done  chan struct{} // the writer has ended
	close sync.Once
	err   error // of Close

	turn    sync.Mutex   // of who writes: a caller of Update that finds nobody at it, else the writer goroutine
	waiting atomic.Int64 // callers that left their request to the writer goroutine

	mu      sync.Mutex
	changed chan struct{}
	armed   bool // the writer goroutine has or will set its timer for what is lazy
	recent  recent
	cursors map[string]uint64
	dirty   map[string]bool // cursors that are not durable
	closed  bool

	refused  []*Entry   // waiting to be journaled; changed with the turn and mu
	failed   int        // of the turn: lazy commits that failed since the last that did not
	inflight []*request // of the turn
	lone     bool       // of the turn: the last batch was one transaction
	count    struct {
		commits, batches, fsyncs, noops, refused, dropped, bytes atomic.Uint64
	}
}

// request is one Update on its way.
type request struct {
	state atomic.Int32 // 0 waiting, 1 taken by the writer, 2 given up by the caller
	meta  Meta
	fn    func(tx *Tx) error
	tx    *Tx
	entry *Entry
	res   Commit
	err   error
	over  bool          // answered; of the turn
	done  chan struct{} // nil: the caller itself has the turn
}

// OpenMemory is the same store without a file: the in-memory twin for tests and tools. Close it like any other.
func OpenMemory(o Options) *Store {
	salt := newSalt()
	return start(o.withDefaults(), nil, newVersion(salt), nil, 0)
}

// start begins to serve; first is the oldest revision in the journal.
func start(o Options, d *disk, v *Version, cursors map[string]uint64, first uint64) *Store {
	if cursors == nil {
		cursors = map[string]uint64{}
	}
	s := &Store{
		opt: o, salt: v.salt, disk: d, queue: make(chan *request, MaxWaiting), wake: make(chan struct{}, 1),
		quit: make(chan struct{}), done: make(chan struct{}), changed: make(chan struct{}),
		cursors: cursors, dirty: map[string]bool{},
	}
	s.recent.init(o, d != nil, v.rev, first)
	s.head.Store(v)
	go s.write()
	return s
}

// Head is the newest committed version. It never blocks, and works after Close too.
func (s *Store) Head() *Version { return s.head.Load() }

// Update runs fn against the newest version and commits what it staged. If fn returns an error nothing is committed and that
// error is returned. A panic in fn is returned as an error. Returns after fsync.
//
// One fn runs at a time: on the caller's goroutine if nobody else writes, which saves waking two goroutines, else on the
// writer goroutine or that of another caller.
//
// fn runs once. It must not call Update or Close, must not block and must have no effect outside its Tx. A ctx that
// ends while the transaction waits takes it out of the queue; once fn runs, its end is waited for.
//
// If the file cannot be written, every transaction of the batch gets the error (wrapping ErrFull when there is no
// room), the head stays what it was, and later Updates try again.
func (s *Store) Update(ctx context.Context, m Meta, fn func(tx *Tx) error) (Commit, error) {
	for _, t := range [4]string{m.Writer, m.Protocol, m.Ref, m.Kind} {
		if len(t) > MaxName {
			return Commit{}, fmt.Errorf("%w: %.40q...: at most %d bytes", ErrFull, t, MaxName)
		}
	}
	if err := ctx.Err(); err != nil {
		return Commit{}, err
	}
	select {
	case <-s.quit:
		return Commit{}, ErrClosed
	default:
	}
	r := &request{meta: m, fn: fn}
	if s.waiting.Load() == 0 && s.turn.TryLock() { // nobody is overtaken
		return s.direct(r)
	}
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	r.done = make(chan struct{})
	select {
	case s.queue <- r:
	case <-ctx.Done():
		return Commit{}, ctx.Err()
	case <-s.quit:
		return Commit{}, ErrClosed
	}
	select {
	case <-r.done:
		return r.res, r.err
	case <-s.done:
	case <-ctx.Done():
		if r.state.CompareAndSwap(0, 2) {
			return Commit{}, ctx.Err()
		}
		select {
		case <-r.done:
			return r.res, r.err
		case <-s.done:
		}
	}
	select { // the writer has ended; it may have answered before
	case <-r.done:
		return r.res, r.err
	default:
		return Commit{}, ErrClosed
	}
}

// direct is an Update whose caller has the turn.
func (s *Store) direct(r *request) (Commit, error) {
	select {
	case <-s.quit: // the last turn is the writer goroutine's
		s.turn.Unlock()
		return Commit{}, ErrClosed
	default:
	}
	s.lead(r)
	return r.res, r.err
}

// lead takes a batch through, r and what else waits, and gives up the turn.
func (s *Store) lead(r *request) {
	ended := false
	defer func() {
		if !ended { // fn called runtime.Goexit (a test's FailNow, say), which cannot be stopped: answer what hangs on this goroutine
			for _, r := range s.inflight {
				r.answer(Commit{}, errors.New("store: transaction ended its goroutine"))
			}
		}
		s.turn.Unlock()
	}()
	s.batch(s.collect(r))
	ended = true
}

// write is the writer goroutine: it serves the callers that did not get the turn, and what is lazy. Close ends it.
func (s *Store) write() {
	ended := false
	defer func() {
		if ended {
			close(s.done)
			return
		}
		go s.write() // a transaction has ended this goroutine
	}()
	timer := time.NewTimer(lazyDelay)
	timer.Stop()
	s.turn.Lock()
	s.rearm(timer)
	s.turn.Unlock()
	for {
		select {
		case r := <-s.queue:
			s.turn.Lock()
			s.lead(r)
		case <-s.wake:
			timer.Reset(lazyDelay)
		case <-timer.C:
			s.turn.Lock()
			s.flush()
			s.rearm(timer)
			s.turn.Unlock()
		case <-s.quit:
			for more := true; more; {
				select {
				case r := <-s.queue:
					s.turn.Lock()
					s.lead(r)
				default:
					more = false
				}
			}
			s.turn.Lock()
			s.err = s.shut()
			s.turn.Unlock()
			ended = true
			return
		}
	}
}

// arm has the writer goroutine set its timer; the caller has mu.
func (s *Store) arm() {
	if s.armed {
		return
	}
	s.armed = true
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// rearm sets the writer goroutine's timer if something lazy waits.
func (s *Store) rearm(timer *time.Timer) {
	lazy := s.lazy()
	s.mu.Lock()
	s.armed = lazy
	s.mu.Unlock()
	if lazy {
		timer.Reset(lazyDelay << min(s.failed, maxFailed))
	}
}

// collect takes what else is waiting. Callers that were answered by the last batch and are about to come again are let
// run first; a lone writer finds nobody else to run and waits for nothing.
func (s *Store) collect(r *request) []*request {
	batch := append(s.inflight[:0], r)
	if r.done == nil && s.lone && s.waiting.Load() == 0 {
		return batch // nobody came while the last was written: to let others run wakes a thread, for nothing
	}
	for tries := 0; tries < 3; tries++ {
		n := len(batch)
	drain:
		for len(batch) < MaxBatch {
			select {
			case r := <-s.queue:
				batch = append(batch, r)
			default:
				break drain
			}
		}
		if tries > 0 && len(batch) == n {
			break
		}
		runtime.Gosched()
	}
	s.inflight, s.lone = batch, len(batch) == 1
	return batch
}

// batch runs the transactions one after the other, each on top of those before it, commits them together and answers.
func (s *Store) batch(batch []*request) {
	top := s.head.Load()
	var staged []*request
	for _, r := range batch {
		if !r.state.CompareAndSwap(0, 1) {
			continue
		}
		r.res = Commit{Rev: top.rev, Version: top}
		tx := newTx(top, r.meta, top.rev+1)
		r.err = run(tx, r.fn)
		switch {
		case r.err != nil:
			s.count.refused.Add(1)
			s.refuse(tx)
		case !tx.changed():
			s.count.noops.Add(1)
			s.refuse(tx)
		default:
			top = tx.View()
			r.tx = tx
			r.entry = &Entry{Rev: top.rev, Time: s.opt.Now().UTC(), Meta: tx.meta, Deltas: tx.deltas()}
			r.res = Commit{Rev: top.rev, Changed: true, Version: top, Entry: r.entry}
			staged = append(staged, r)
		}
		tx.end()
	}
	var err error
	if len(staged) > 0 {
		err = s.commit(top, staged)
	}
	for _, r := range batch {
		if r.state.Load() != 1 {
			continue
		}
		// Also who changed nothing may have answered from what is lost now. DESIGN invariant 1.
		if err != nil && r.err == nil {
			r.res, r.err = Commit{}, err
		}
		r.answer(r.res, r.err)
	}
	clear(batch)
	s.inflight = batch[:0]
}

func (r *request) answer(c Commit, err error) {
	if r.over {
		return
	}
	r.res, r.err, r.tx, r.over = c, err, nil, true
	if r.done != nil {
		close(r.done)
	}
}

// run calls fn and turns a panic into an error.
func run(tx *Tx, fn func(tx *Tx) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{Value: p, Stack: debug.Stack()}
		}
	}()
	return fn(tx)
}

// PanicError is what Update returns when its function panicked. Error does not show the value's text, which may hold
// anything.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("store: panic in a transaction (%T)", e.Value)
}

// refuse keeps the refused lines of a transaction that changed nothing for a later commit.
func (s *Store) refuse(tx *Tx) {
	lines := tx.refused()
	if len(lines) == 0 {
		return
	}
	if len(s.refused) >= MaxRefused {
		s.count.dropped.Add(1)
		return
	}
	e := &Entry{Time: s.opt.Now().UTC(), Meta: tx.meta, Deltas: lines}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = append(s.refused, e)
	s.arm()
}

// lazy reports whether anything waits for a commit to ride in.
func (s *Store) lazy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.refused) > 0 || len(s.dirty) > 0
}

// flush commits what is lazy on its own. A failure is not reported: it is tried again with the next commit, or after
// twice the time.
func (s *Store) flush() {
	if !s.lazy() {
		return
	}
	if s.commit(s.head.Load(), nil) != nil {
		s.failed++
	} else {
		s.failed = 0
	}
}

// commit makes a batch durable together with everything lazy, and publishes it.
func (s *Store) commit(top *Version, staged []*request) error {
	b := &batch{staged: staged}
	for _, r := range staged {
		b.entries = append(b.entries, r.entry)
	}
	if len(s.refused) > 0 { // each its own revision, after those of the batch
		v := *top
		for _, e := range s.refused {
			v.rev++
			c := *e
			c.Rev = v.rev
			b.entries = append(b.entries, &c)
		}
		top = &v
	}
	b.top = top
	s.mu.Lock()
	b.cursors = make(map[string]uint64, len(s.dirty))
	for c := range s.dirty {
		if rev, ok := s.cursors[c]; ok {
			b.cursors[c] = rev
		} else {
			b.gone = append(b.gone, c)
		}
	}
	s.mu.Unlock()
	sizes, err := s.save(b)
	if err != nil {
		return err
	}
	s.count.commits.Add(uint64(len(b.entries)))
	s.count.batches.Add(1)
	s.publish(b, sizes)
	return nil
}

// save writes the batch to disk, if there is one, and returns the encoded sizes of the journal entries.
func (s *Store) save(b *batch) ([]int, error) {
	if s.disk == nil {
		if err := failpoint(s.opt, failBegin); err != nil {
			return nil, err
		}
		sizes := make([]int, len(b.entries))
		var buf []byte
		for i, e := range b.entries {
			buf = encodeEntry(buf[:0], e)
			sizes[i] = len(buf)
		}
		return sizes, nil
	}
	n, sizes, err := s.disk.commit(b)
	s.count.bytes.Add(uint64(n))
	if err != nil {
		return nil, fmt.Errorf("store: commit: %w", err)
	}
	if !s.opt.NoSync {
		s.count.fsyncs.Add(1)
	}
	return sizes, nil
}

// publish makes a durable batch visible: the head first, then the journal, then those who wait for a change.
func (s *Store) publish(b *batch, sizes []int) {
	_ = failpoint(s.opt, failPublish)
	s.head.Store(b.top)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = nil
	for c, rev := range b.cursors {
		if now, ok := s.cursors[c]; ok && now == rev {
			delete(s.dirty, c)
		}
	}
	for _, c := range b.gone {
		if _, ok := s.cursors[c]; !ok {
			delete(s.dirty, c)
		}
	}
	for i, e := range b.entries {
		s.recent.add(e, sizes[i])
	}
	if s.disk != nil {
		s.recent.first = s.disk.mark.first
	}
	if len(b.entries) > 0 {
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

func failpoint(o Options, stage string) error {
	if o.fail == nil {
		return nil
	}
	return o.fail(stage)
}

// Recovered says why the newest commit found in the file was incomplete when it was opened, so that the one before is in force;
// nil if nothing of the kind happened. A power cut during a commit does that, and the commit was then not acknowledged; after
// damage of the newest pages it may have been.
func (s *Store) Recovered() error {
	if s.disk == nil {
		return nil
	}
	return s.disk.lost
}

// Record reads a head's own record from the newest commit. The data must not be changed.
func (s *Store) Record(bucket, key string) ([]byte, bool, error) {
	data, ok := s.Head().Record(bucket, key)
	return data, ok, nil
}

// Records visits a head's own records of one bucket in the newest commit, keys ascending, until fn returns false.
func (s *Store) Records(bucket string, fn func(key string, data []byte) bool) error {
	s.Head().Records(bucket, fn)
	return nil
}

// Cursor and SetCursor keep a consumer's durable position. SetCursor is lazy: it is made durable with the next commit
// or within a second, so that acknowledging costs no fsync of its own.
func (s *Store) Cursor(consumer string) (uint64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rev, ok := s.cursors[consumer]
	return rev, ok
}

// SetCursor moves a consumer's position, forwards or backwards, to a revision that is committed.
func (s *Store) SetCursor(consumer string, rev uint64) error {
	if consumer == "" || len(consumer) > MaxName {
		return fmt.Errorf("store: consumer %.40q: a name has 1 to %d bytes", consumer, MaxName)
	}
	if head := s.Head().Rev(); rev > head {
		return fmt.Errorf("store: cursor of %s: revision %d is newer than the newest commit %d", consumer, rev, head)
	}
	return s.moveCursor(consumer, rev, true)
}

// DeleteCursor forgets a consumer, as lazily.
func (s *Store) DeleteCursor(consumer string) error { return s.moveCursor(consumer, 0, false) }

func (s *Store) moveCursor(consumer string, rev uint64, keep bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	old, had := s.cursors[consumer]
	if had == keep && old == rev {
		return nil
	}
	switch {
	case !keep:
		delete(s.cursors, consumer)
	case !had && len(s.cursors) >= MaxCursors:
		return fmt.Errorf("%w: more than %d consumers", ErrFull, MaxCursors)
	default:
		s.cursors[consumer] = rev
	}
	if s.disk == nil {
		return nil
	}
	s.dirty[consumer] = true
	s.arm()
	return nil
}

// Cursors lists the consumers in ascending order.
func (s *Store) Cursors() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]string, 0, len(s.cursors))
	for c := range s.cursors {
		out = append(out, c)
	}
	slices.Sort(out)
	return out
}

// Changed returns a channel that is closed at the next commit, and by Close. Take the channel first, then read the
// journal, then wait: so no commit is missed.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Stats returns the counters.
func (s *Store) Stats() Stats {
	c := &s.count
	st := Stats{
		Commits: c.commits.Load(), Batches: c.batches.Load(), Fsyncs: c.fsyncs.Load(), NoOps: c.noops.Load(),
		Refused: c.refused.Load(), RefusedDropped: c.dropped.Load(), BytesWritten: c.bytes.Load(),
	}
	if s.disk != nil {
		st.FileSize = s.disk.size()
	}
	return st
}

// Close waits for running Updates, makes cursors durable and closes the file. Idempotent: later calls wait for the
// first and return the same error.
func (s *Store) Close() error {
	s.close.Do(func() { close(s.quit) })
	<-s.done
	return s.err
}

// shut is the writer's last act.
func (s *Store) shut() error {
	s.mu.Lock()
	s.closed = true // no cursor moves any more
	s.mu.Unlock()
	var err error
	if s.lazy() {
		err = s.commit(s.head.Load(), nil)
	}
	s.mu.Lock()
	close(s.changed)
	s.mu.Unlock()
	if s.disk != nil {
		err = errors.Join(err, s.disk.close())
	}
	return err
}
