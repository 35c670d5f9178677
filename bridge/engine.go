package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"twinspan/datamodel"
	"twinspan/store"
)

// Names of the bridge's own records and writers.
const (
	ownBucket     = "bridge/"
	writersBucket = ownBucket + "writers" // writer name -> class
	bucketsBucket = ownBucket + "buckets" // buckets that heads have used
	stateBucket   = ownBucket + "state"
	sysPrefix     = "sys:"
	appliedCursor = "bridge.applied"
)

// Options of New.
type Options struct {
	Schema    *datamodel.Schema
	Profile   *datamodel.Profile // nil: no factory values, no limits on rows
	Store     *store.Store       // stays the caller's, who closes it after the engine
	Providers []datamodel.Provider
	Arbiter   Arbiter // nil: NewClassOrder(PhaseDualCWMP)
	Log       *slog.Logger
	// ShieldLife and ShieldIdle bound a Shield: since it was opened (300 s), since it was last used (60 s).
	ShieldLife, ShieldIdle time.Duration
	// ShieldChanges bounds the commits of others that a Shield may lie behind (4096).
	ShieldChanges uint64
	// Wait bounds how long a change waits for a lease or an open session (2 s); negative: not at all.
	Wait time.Duration
	// Rate bounds the commits of each Controller a second, after the first Burst (0: no bound).
	Rate, Burst float64
	// Seed, if not nil, is asked once, at the first start of a database, for what was before; see Seed.
	Seed func(ctx context.Context) (*Seed, error)
	// Style of the codes for refusals by arbitration.
	Style datamodel.FaultStyle
	// GuardParam is the canonical path of the parameter by which a manager guards a change (IfRevision); "": none.
	GuardParam string
	// ConfirmParam is that of the parameter by which a manager makes a change provisional (ConfirmWithin); "": none.
	ConfirmParam string
}

// Engine is the bridge. Safe for concurrent use.
type Engine struct {
	schema  *datamodel.Schema
	profile *datamodel.Profile
	store   *store.Store
	log     *slog.Logger
	cat     atomic.Pointer[catalog]
	arb     atomic.Pointer[Arbiter]
	maxRows map[*datamodel.Object]int
	shield  shieldLimits
	phase   atomic.Pointer[func(*store.Version) Phase]
	style   datamodel.FaultStyle
	wait    time.Duration
	guard   string
	confirm string
	seed    func(context.Context) (*Seed, error)

	claims    claims
	fights    fights
	owners    owners
	conflicts conflicts
	queue     scheduler
	rates     rates

	classes classes
	applies applyQueue
	events  events
	holds   holds
	live    liveWatch
	windows windows
	sealer  atomic.Pointer[func(tx *store.Tx, w Writer) error]
	observe atomic.Pointer[func(Observation)]
	veto    atomic.Pointer[func(p *Proposal) (Verdict, bool)]

	acting  atomic.Int32
	running atomic.Bool // the apply loop is there to wait for

	mu        sync.Mutex
	providers []*provided
	started   bool
	closed    bool
	stop      context.CancelFunc
	resync    []chan struct{} // one for each syncer
	consumers map[string]bool
	done      chan struct{} // closed by Close
	wg        sync.WaitGroup
}

// New builds the engine; Start initialises factory values and provider rows and begins to work.
func New(o Options) (*Engine, error) {
	if o.Schema == nil || o.Store == nil {
		return nil, errors.New("bridge: Schema and Store are required")
	}
	e := &Engine{schema: o.Schema, profile: o.Profile, store: o.Store, log: o.Log, seed: o.Seed, maxRows: map[*datamodel.Object]int{},
		shield: shieldLimits{o.ShieldLife, o.ShieldIdle, o.ShieldChanges}.withDefaults(),
		done:   make(chan struct{}), consumers: map[string]bool{}}
	e.style, e.wait, e.guard, e.confirm = o.Style, o.Wait, o.GuardParam, o.ConfirmParam
	if e.wait == 0 {
		e.wait = maxPatience
	}
	e.queue = scheduler{most: maxInflight, queues: map[string]*writerQueue{}}
	e.SetRate(o.Rate, o.Burst)
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.profile == nil {
		e.profile = &datamodel.Profile{}
	}
	arb := o.Arbiter
	if arb == nil {
		order, err := NewClassOrder(PhaseDualCWMP)
		if err != nil {
			return nil, err
		}
		arb = order
	}
	e.arb.Store(&arb)
	for path, n := range e.profile.MaxRows {
		if m, ok := e.schema.Lookup(path); ok && m.Object.Multi && m.Param == nil {
			e.maxRows[m.Object] = n
		}
	}
	e.limitRows(e.schema.Root())
	e.classes.load(o.Store)
	e.loadArbitration(time.Now())
	e.applies.wake = make(chan struct{}, 1)
	e.events.wake = make(chan struct{})
	e.live = liveWatch{want: map[string][]string{}, wake: make(chan struct{}, 1)}
	for _, p := range o.Providers {
		e.providers = append(e.providers, newProvided(p))
	}
	cat, err := newCatalog(e.schema, e.providers)
	if err != nil {
		return nil, err
	}
	e.cat.Store(cat)
	return e, nil
}

// limitRows takes the model's maxEntries where it is lower than the profile's.
func (e *Engine) limitRows(o *datamodel.Object) {
	if o.Multi && o.MaxEntries > 0 {
		if n, ok := e.maxRows[o]; !ok || n > o.MaxEntries {
			e.maxRows[o] = o.MaxEntries
		}
	}
	for _, c := range o.Children {
		e.limitRows(c)
	}
}

// AddProvider registers a head's own live values and commands; before Start.
func (e *Engine) AddProvider(p datamodel.Provider) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.started || e.closed {
		return errors.New("bridge: providers are added before Start")
	}
	ps := append(append([]*provided(nil), e.providers...), newProvided(p))
	cat, err := newCatalog(e.schema, ps)
	if err != nil {
		return err
	}
	e.providers = ps
	e.cat.Store(cat)
	return nil
}

// Start writes the factory values at first start, brings the provider rows up to date, has the providers apply what
// was committed but not applied before the last stop, and begins to work in the background until Close. ctx bounds the
// start only.
func (e *Engine) Start(ctx context.Context) error {
	e.mu.Lock()
	if e.started || e.closed {
		e.mu.Unlock()
		return errors.New("bridge: started already, or closed")
	}
	e.started = true
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	e.stop = stop
	e.mu.Unlock()
	if err := e.factory(ctx); err != nil {
		return err
	}
	if err := e.restoreFirst(ctx); err != nil {
		return err
	}
	for _, p := range e.providers {
		if p.syncer == nil {
			continue
		}
		err := e.syncRows(ctx, p)
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			e.log.Error("provider rows could not be synced", "provider", p.Name(), "error", err)
		}
		again := make(chan struct{}, 1)
		e.mu.Lock()
		e.resync = append(e.resync, again)
		e.mu.Unlock()
		if e.enter() {
			go e.syncLoop(work, p, again, err != nil)
		}
	}
	if e.enter() {
		go e.liveLoop(work)
	}
	if e.enter() {
		go e.flushLoop(work)
	}
	if e.enter() {
		e.running.Store(true)
		go e.applyLoop(work, e.store.Head())
	}
	return nil
}

// Close ends all background work and waits for it; provider calls that ignore their context are given 3 s. It does not
// close the store. Idempotent.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	if e.stop != nil {
		e.stop()
	}
	close(e.done)
	started := e.started
	e.mu.Unlock()
	if started {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		e.flushArbitration(ctx)
		cancel()
	}
	e.windows.stop()
	idle := make(chan struct{})
	go func() {
		e.wg.Wait()
		close(idle)
	}()
	t := time.NewTimer(3 * time.Second)
	defer t.Stop()
	select {
	case <-idle:
		return nil
	case <-t.C:
		return errors.New("bridge: a provider did not come back from a call")
	}
}

// enter counts a goroutine that Close waits for; false after Close.
func (e *Engine) enter() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.wg.Add(1)
	return true
}

// Schema is the data model of this device.
func (e *Engine) Schema() *datamodel.Schema { return e.schema }

// Store is what the engine writes to. Heads may keep records in it; parameters are written through Apply only.
func (e *Engine) Store() *store.Store { return e.store }

// Arbiter in force.
func (e *Engine) Arbiter() Arbiter { return *e.arb.Load() }

// SetArbiter puts another one in force from the next transaction on.
func (e *Engine) SetArbiter(a Arbiter) { e.arb.Store(&a) }

// classes remembers which class a writer had when it last committed, so that an owner can be ranked while it is away
// and after a restart.
type classes struct {
	mu    sync.Mutex
	known map[string]string
}

// maxWriters bounds the remembered ones; others are ranked by their name.
const maxWriters = 256

func (c *classes) load(s *store.Store) {
	c.known = map[string]string{}
	s.Head().Records(writersBucket, func(name string, class []byte) bool {
		c.known[name] = string(class)
		return true
	})
}

func (c *classes) of(writer string) string {
	c.mu.Lock()
	class, ok := c.known[writer]
	c.mu.Unlock()
	if ok {
		return class
	}
	return ClassOf(writer)
}

// ClassOf guesses the class of a writer from its name, where nothing better is known; "" for none.
func ClassOf(writer string) string {
	switch {
	case writer == "cwmp":
		return ClassACS
	case writer == "cli", strings.HasPrefix(writer, "lan:"):
		return ClassUser
	case strings.HasPrefix(writer, "usp:"):
		return ClassMain
	}
	return ""
}

func (c *classes) unknown(w Writer) bool {
	if w.System || w.Class == "" || w.Name == "" {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[w.Name] != w.Class && len(c.known) < maxWriters
}

func (c *classes) put(tx *store.Tx, w Writer) error {
	if err := tx.PutRecord(writersBucket, w.Name, []byte(w.Class)); err != nil {
		return fmt.Errorf("bridge: writer %s: %w", w.Name, err)
	}
	return nil
}

func (c *classes) learned(w Writer) {
	if c.unknown(w) {
		c.mu.Lock()
		c.known[w.Name] = w.Class
		c.mu.Unlock()
	}
}
