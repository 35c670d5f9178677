package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/store"
	"twinspan/usp/agent/trust"
)

// consumer is the name of the agent's position in the journal.
const consumer = "usp/notify"

// Agent is a USP agent. Safe for concurrent use.
type Agent struct {
	opt    Options
	engine *bridge.Engine
	store  *store.Store
	schema *datamodel.Schema
	trust  *trust.Table
	system bridge.Writer
	slow   *slowLog
	born   time.Time
	runID  string // of this run, to know the records of earlier ones

	dir  atomic.Pointer[directory]
	dogs atomic.Pointer[map[string]watchdog]
	seen atomic.Uint64 // newest commit that the notifier has told
	held atomic.Bool   // the manager waits for seen to go on

	resubscribing atomic.Bool // Options.Services is about to be told of all Subscriptions
	requests      requestTable
	status        statusTable
	links         linkTable
	owners        ownerTable
	counts        counters
	certs         certTable
	tofu          tofuTable
	pending       challenges

	certMu  sync.Mutex // one change of the Certificate table at a time
	peersMu sync.Mutex
	peers   map[string]*peer
	locals  map[uint64]*peer
	adoptMu sync.Mutex
	slots   chan struct{}

	events chan queued                    // to the notifier
	calls  chan func(n *notifier)         // to the notifier
	jobs   chan func(ctx context.Context) // to the janitor
	wakes  chan struct{}                  // to the manager
	resets chan func(s Spec) bool         // to the manager

	mu      sync.Mutex
	base    func() (context.Context, bool) // the run's context while it runs
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	stopped chan struct{}
	started bool
	closed  bool

	dialled sync.Map // Endpoint ID -> *runner: WebSocket sessions that the agent opened and that are up
}

// queued is an event on its way to the notifier; done is called after it was dealt with.
type queued struct {
	bridge.Event
	done func(bridge.Event)
}

type counters struct {
	requests, refused, unsent, notified, dropped atomic.Uint64
}

// Stats are counters since New.
type Stats struct {
	Requests uint64 // answered or being answered
	Refused  uint64 // records that were not believed or not understood
	Unsent   uint64 // answers that could not be sent
	Notified uint64 // Notify requests sent, repetitions included
	Dropped  uint64 // Notify requests given up for lack of room
}

// New builds an agent and registers it as a provider of the engine, which must not be started yet.
func New(o Options) (*Agent, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	a := &Agent{opt: o, engine: o.Engine, store: o.Engine.Store(), schema: o.Engine.Schema(), born: time.Now(), runID: rand.Text()[:8],
		system: bridge.Writer{Name: "sys:usp", Protocol: datamodel.USP, Class: "sys", System: true},
		slow:   newSlowLog(o.Log), peers: map[string]*peer{}, locals: map[uint64]*peer{},
		slots: make(chan struct{}, o.Limits.Requests), events: make(chan queued, 64), calls: make(chan func(*notifier), 64),
		jobs: make(chan func(context.Context), 64), wakes: make(chan struct{}, 1), resets: make(chan func(Spec) bool, 16),
		stopped: make(chan struct{})}
	a.trust = trust.New(a.schema, a.store.Head)
	// The model bounds these two to 1 and above and names no default: what is read must be what counts, and be writable.
	for path, value := range map[string]string{"1.PeriodicNotifInterval": "86400", "1.MTP.1.Order": "1"} {
		if m, ok := a.schema.Lookup(controllerPath + path); ok && m.Param != nil {
			m.Param.SetDefault(value)
		}
	}
	a.requests = requestTable{rows: map[uint32]*asyncRequest{}, all: o.Limits.Commands, perPeer: o.Limits.PeerCommands}
	if err := a.engine.AddProvider(&provider{a}); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if t, ok := o.Factory.(Truster); ok {
		t.TrustBy(a.acceptLink)
	}
	return a, nil
}

// EndpointID of the agent.
func (a *Agent) EndpointID() string { return a.opt.EndpointID }

// Stats reads the counters.
func (a *Agent) Stats() Stats {
	c := &a.counts
	return Stats{Requests: c.requests.Load(), Refused: c.refused.Load(), Unsent: c.unsent.Load(),
		Notified: c.notified.Load(), Dropped: c.dropped.Load()}
}

// Start begins to work; the engine must have been started. The agent works until Close or the end of ctx.
func (a *Agent) Start(ctx context.Context) error {
	a.mu.Lock()
	if a.started || a.closed {
		a.mu.Unlock()
		return errors.New("agent: Start after Start or Close")
	}
	a.started = true
	run, cancel := context.WithCancel(ctx)
	a.cancel = cancel
	a.base = func() (context.Context, bool) { return run, run.Err() == nil }
	a.mu.Unlock()
	context.AfterFunc(run, func() { close(a.stopped) })
	if err := a.sweep(run); err != nil {
		_ = a.Close()
		return fmt.Errorf("agent: remove what does not outlive a restart: %w", err)
	}
	if err := a.disinherit(run); err != nil {
		_ = a.Close()
		return fmt.Errorf("agent: forget roles of certificates: %w", err)
	}
	w, err := a.engine.Watch(consumer)
	if err != nil {
		_ = a.Close()
		return fmt.Errorf("agent: %w", err)
	}
	a.seen.Store(a.store.Head().Rev())
	n := newNotifier(a)
	a.spawn("janitor", a.janitor)
	a.spawn("notifier", n.run)
	a.spawn("feeder", func(ctx context.Context) { a.feed(ctx, w) })
	a.spawn("manager", newManager(a).run)
	a.reconfigure()
	a.resumeTimers()
	return nil
}

// Close stops everything and waits for it. Idempotent.
func (a *Agent) Close() error {
	a.mu.Lock()
	a.closed = true
	cancel := a.cancel
	a.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	a.wg.Wait()
	return nil
}

// spawn starts a goroutine that ends with the agent; Close waits for it. A panic in it is logged, not passed on: what a
// peer sends must never stop the process.
func (a *Agent) spawn(what string, fn func(ctx context.Context)) bool {
	a.mu.Lock()
	if a.closed || a.base == nil {
		a.mu.Unlock()
		return false
	}
	ctx, ok := a.base()
	if !ok {
		a.mu.Unlock()
		return false
	}
	a.wg.Add(1)
	a.mu.Unlock()
	go func() {
		defer a.wg.Done()
		defer func() {
			if r := recover(); r != nil {
				a.opt.Log.Error("usp_panic", "goroutine", what, "panic", fmt.Sprint(r))
			}
		}()
		fn(ctx)
	}()
	return true
}

// feed hands the engine's events to the notifier, in order, and marks them as delivered when they are queued for
// their recipients.
func (a *Agent) feed(ctx context.Context, w *bridge.Watcher) {
	defer w.Close()
	for {
		ev, err := w.Next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				a.opt.Log.Error("usp_watch_ended", "error", err.Error())
			}
			return
		}
		select {
		case a.events <- queued{Event: ev, done: w.Ack}:
		case <-ctx.Done():
			return
		}
	}
}

// inject gives the notifier an event that the engine knows nothing of.
func (a *Agent) inject(ev bridge.Event) {
	select {
	case a.events <- queued{Event: ev}:
	case <-a.stopped:
	}
}

// do runs fn on the notifier goroutine, later.
func (a *Agent) do(fn func(n *notifier)) {
	select {
	case a.calls <- fn:
	case <-a.stopped:
	}
}

// later runs fn on the janitor goroutine: commits that the agent makes on its own account.
func (a *Agent) later(fn func(ctx context.Context)) {
	select {
	case a.jobs <- fn:
	case <-a.stopped:
	}
}

func (a *Agent) janitor(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case fn := <-a.jobs:
			c, cancel := context.WithTimeout(ctx, a.opt.Limits.RequestTime)
			fn(c)
			cancel()
		}
	}
}

// reconfigure makes the manager look at the tree.
func (a *Agent) reconfigure() {
	select {
	case a.wakes <- struct{}{}:
	default:
	}
}

// reconnect restarts the transports that match.
func (a *Agent) reconnect(match func(s Spec) bool) {
	select {
	case a.resets <- match:
	case <-a.stopped:
	}
}

// sweep removes Subscriptions that do not outlive a restart: those without Persistent, and those of local peers.
func (a *Agent) sweep(ctx context.Context) error {
	var gone []uint32
	r := reader{v: a.store.Head(), s: a.schema}
	r.rows(subPath, func(n uint32, row string) {
		if !r.flag(row+"Persistent") || r.str(row+"Recipient") == "" {
			gone = append(gone, n)
		}
	})
	return a.deleteSubs(ctx, gone)
}

// deleteSubs deletes Subscription rows, those that are still there.
func (a *Agent) deleteSubs(ctx context.Context, nums []uint32) error {
	head := a.store.Head()
	c := bridge.Change{Ref: "subscription"}
	for _, n := range nums {
		if head.HasInstance(subPath, n) {
			c.Ops = append(c.Ops, bridge.Op{Kind: bridge.OpDelete, MissingOK: true, Path: subPath + strconv.FormatUint(uint64(n), 10) + "."})
		}
	}
	if len(c.Ops) == 0 {
		return nil
	}
	if _, err := a.engine.Apply(ctx, a.system, c); err != nil && ctx.Err() == nil {
		a.opt.Log.Error("usp_subscription_removal_failed", "error", err.Error())
		return err
	}
	return nil
}

// knownPeer is peerOf without making one.
func (a *Agent) knownPeer(eid string) *peer {
	a.peersMu.Lock()
	defer a.peersMu.Unlock()
	return a.peers[eid]
}

// ownerTable knows which local connection made which Subscription: those rows have no Recipient to tell.
type ownerTable struct {
	mu   sync.Mutex
	subs map[uint32]*peer
}

func (t *ownerTable) put(num uint32, p *peer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.subs == nil {
		t.subs = map[uint32]*peer{}
	}
	t.subs[num] = p
}

func (t *ownerTable) of(num uint32) *peer {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.subs[num]
}

// take removes and returns the Subscriptions of a connection.
func (t *ownerTable) take(p *peer) []uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []uint32
	for n, q := range t.subs {
		if q == p {
			out = append(out, n)
			delete(t.subs, n)
		}
	}
	return out
}

// drop forgets a Subscription that was deleted.
func (t *ownerTable) drop(num uint32) {
	t.mu.Lock()
	delete(t.subs, num)
	t.mu.Unlock()
}
