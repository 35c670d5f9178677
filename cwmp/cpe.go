package cwmp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"twinspan/bridge"
	"twinspan/cwmp/httpc"
	"twinspan/cwmp/soap"
	"twinspan/datamodel"
)

const (
	// sessionGap is the shortest pause between two sessions: some servers still hold the old one at once after its end.
	sessionGap = 200 * time.Millisecond
	// resetGrace is how long no session starts after a factory reset by somebody else, who will restart the agent: "0 BOOTSTRAP"
	// and "1 BOOT" belong into one Inform.
	resetGrace = 5 * time.Second
	// restartGrace is how long a Rebooter has, before sessions go on as if the restart had not been asked for.
	restartGrace = 5 * time.Minute
)

// CPE is the agent's CWMP side. Make it with New before Engine.Start; call Run once.
type CPE struct {
	o    Options
	e    *bridge.Engine
	log  *slog.Logger
	prov *provider
	// reachable shows how this CPE can be reached beside HTTP.
	reachable *reachProvider
	forced    []string // forced Inform parameters, CWMP's spelling
	tasks     chan func()
	// requests holds the one connection request that waits for the owner.
	requests chan struct{}
	client   atomic.Pointer[cachedClient]
	applying atomic.Bool // the transfer in progress can no longer be canceled

	mu      sync.Mutex
	started bool
	cancel  context.CancelFunc
	done    chan struct{} // closed when Run has returned

	// Seams for tests.
	random  func() float64
	gap     time.Duration
	session func(ctx context.Context, set settings) sessionResult

	// The rest belongs to the goroutine in Run.
	state
}

// state is the mutable state of a CPE, owned by the goroutine in Run.
type state struct {
	set       settings
	mark      bootMark
	queue     eventQueue
	changes   changes
	periodic  periodic
	heartbeat periodic
	schedules []schedule
	transfers []*transfer
	tests     tests
	modules   modules
	saved     map[string]string // records as last written, to write only what differs

	wanted    bool // an event calls for a session at once
	beat      bool // a heartbeat is due
	beating   bool // the session in progress is one
	activeNew bool // an active change calls for one, when the throttle allows
	failures  int  // RetryCount
	retryAt   time.Time
	endedAt   time.Time // end of the newest session
	offer     int       // newest CWMP version to offer, index into supportedVersions

	running      context.CancelFunc // a session is in progress
	sessionDone  chan sessionResult
	moving       string // ID of the transfer in progress
	stopMoving   context.CancelFunc
	transferDone chan transferResult
	restart      *RestartCause
	restartAsked time.Time
	rebootAt     time.Time         // DelayReboot
	scheduledAt  time.Time         // ScheduleReboot
	refused      httpc.Compression // what the ACS refused with status 415
	reset        bool
	quietUntil   time.Time // no session before
	bootRev      uint64    // newest revision when Run began
	halted       bool      // after a factory reset: nothing may be written any more
	pollAt       time.Time
	frozenRev    uint64 // up to which the journal was taken in when the Inform in progress was built
	ackEvent     func(bridge.Event)
	server       *connServer
	requested9   []*soap.RequestDownload // wait for the session of "9 REQUEST DOWNLOAD"
	told9        int                     // so many are in the session in progress
	acsMethods   []string                // what the ACS says that it can do; nil: not asked yet
	reach        *reach
	offered      dhcpOffer // what DHCP offers
}

// schedule is one ScheduleInform that waits.
type schedule struct {
	CommandKey string    `json:"key,omitempty"`
	At         time.Time `json:"at"`
}

// bootMark remembers which ACS this device has reported to first contact.
type bootMark struct {
	URL  string `json:"url"`
	Path string `json:"path"` // of the connection-request URL; random, kept
}

type transferResult struct {
	id        string
	installed bool
	err       error
	start     time.Time
}

// errStopped is what call returns when the CPE is shutting down.
var errStopped = errors.New("cwmp: stopped")

// New makes the CPE and registers its provider with the engine, so it must be called before Engine.Start.
func New(o Options) (*CPE, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	c := &CPE{o: o, e: o.Engine, log: o.Log.With("part", "cwmp"), tasks: make(chan func()), requests: make(chan struct{}, 1), done: make(chan struct{}),
		random: rand.Float64, gap: sessionGap, prov: newProvider(o.Engine.Schema()), reachable: newReachProvider(o.Engine.Schema()), forced: forcedInform(o.Engine.Schema())}
	c.session = c.runSession
	if c.o.WriteLog == nil {
		c.o.WriteLog = func(ctx context.Context, w io.Writer) error { return bridge.WriteJournal(ctx, c.e.Store(), w) }
	}
	if c.o.Transferer == nil {
		c.o.Transferer = NewTransferer(o)
	}
	for _, p := range []datamodel.Provider{c.prov, c.reachable} {
		if err := c.e.AddProvider(p); err != nil {
			return nil, fmt.Errorf("cwmp: register provider: %w", err)
		}
	}
	return c, nil
}

// Run serves until ctx ends or Close is called, and joins everything it started. It returns nil then, *RestartError when the
// ACS asked for a restart that the caller has to carry out, or an error when the CPE cannot work at all because its records
// cannot be read. It can be called once.
func (c *CPE) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	if c.started {
		c.mu.Unlock()
		return errors.New("cwmp: Run was called before, or Close")
	}
	c.started, c.cancel = true, cancel
	c.mu.Unlock()
	defer close(c.done)

	c.sessionDone, c.transferDone = make(chan sessionResult, 1), make(chan transferResult, 1)
	c.offer = len(supportedVersions) - 1
	if err := c.restore(); err != nil {
		return err
	}
	c.server, c.reach = newConnServer(c), newReach(c)
	watcher, err := c.e.Watch(writerName)
	if err != nil {
		return fmt.Errorf("cwmp: watch the journal: %w", err)
	}
	c.ackEvent = watcher.Ack
	if c.o.Started != nil {
		c.o.Started(ctx)
	}
	var wg sync.WaitGroup
	wg.Go(func() { c.follow(ctx, watcher) })
	if len(c.o.DiscoveryFiles) > 0 {
		wg.Go(func() { c.discover(ctx) })
	}
	err = c.loop(ctx)
	cancel()
	c.stop()
	c.tests.wg.Wait()
	c.modules.wg.Wait()
	wg.Wait()
	watcher.Close()
	c.server.close()
	c.reach.close()
	return err
}

// Close ends Run and waits for it. Idempotent; a CPE that never ran cannot run afterwards.
func (c *CPE) Close() error {
	c.mu.Lock()
	c.started = true
	ran := c.cancel != nil
	if ran {
		c.cancel()
	}
	c.mu.Unlock()
	if ran {
		<-c.done
	}
	return nil
}

// follow takes the journal in: goroutine of Run, ends with ctx.
func (c *CPE) follow(ctx context.Context, w *bridge.Watcher) {
	for {
		ev, err := w.Next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				c.log.Error("journal cannot be followed", "error", err)
			}
			return
		}
		if c.call(ctx, func() error { c.happened(ctx, ev); return nil }) != nil {
			return
		}
	}
}

// call runs fn on the goroutine that owns the state and waits for it.
func (c *CPE) call(ctx context.Context, fn func() error) error {
	result := make(chan error, 1)
	select {
	case c.tasks <- func() { result <- fn() }:
	case <-ctx.Done():
		return errStopped
	case <-c.done:
		return errStopped
	}
	return <-result // the owner runs what it has taken
}

// loop owns the state.
func (c *CPE) loop(ctx context.Context) error {
	c.boot(ctx)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		c.tick(ctx, now)
		if err := c.restartIfDue(ctx, now); err != nil {
			return err
		}
		if start, _ := c.plan(now); start {
			c.startSession(ctx)
		}
		timer.Reset(max(0, c.nextWake(now).Sub(now)))
		select {
		case <-ctx.Done():
			return nil
		case fn := <-c.tasks:
			fn()
		case <-c.requests:
			c.queue.add(evConnectionRequest, "")
			c.wanted = true
		case <-c.reach.hint:
			c.reach.show()
		case res := <-c.sessionDone:
			c.sessionEnded(ctx, res)
		case res := <-c.transferDone:
			c.transferEnded(ctx, res)
		case <-timer.C:
		}
	}
}

// stop waits for the session and the transfer, whose contexts have ended.
func (c *CPE) stop() {
	for c.running != nil || c.moving != "" {
		select {
		case fn := <-c.tasks:
			fn()
		case <-c.sessionDone:
			c.running = nil
		case <-c.transferDone:
			c.moving = ""
		}
	}
}

// boot decides what the first Inform tells.
func (c *CPE) boot(ctx context.Context) {
	c.queue.add(evBoot, "")
	c.wanted = true
	c.resumeTransfers(ctx, time.Now())
	c.ensureUsername(ctx)
	c.ensureModelVersion(ctx)
	c.resetTests(ctx)
	c.refresh(ctx, true)
	c.changes.stale = true
	c.changes.compare(ctx, c.takeIn(ctx)) // the first Inform tells what changed before the restart, too
	c.changes.recall(c.e.View(acsWriter))
	c.save(ctx)
}

// refresh takes over what Device.ManagementServer. says now. Only called between sessions, so that a change takes effect
// when the session in progress is over.
func (c *CPE) refresh(ctx context.Context, first bool) {
	old := c.set
	c.set = readSettings(c.e.Schema(), c.e.Store().Head())
	now := time.Now()
	if c.set.url != "" && c.set.url != c.mark.URL { // TR-069 3.7.1.5: first contact, or the URL changed. EVT-03, EVT-04
		c.log.Info("new ACS", "first", c.mark.URL == "")
		c.mark.URL = c.set.url
		c.queue.add(evBootstrap, "")
		c.schedules, c.transfers = nil, c.keepMoving()
		c.requested9, c.acsMethods, c.modules.jobs = nil, nil, nil
		c.changes.pending, c.changes.known, c.changes.stale = map[string]*pending{}, map[string]string{}, true
		c.changes.told = nil
		c.failures, c.retryAt, c.wanted = 0, time.Time{}, true
		c.offer = len(supportedVersions) - 1
		c.save(ctx)
	}
	c.armReboot(ctx, old, now, first)
	if c.set.compression != c.refused {
		c.refused = ""
	} else {
		c.set.compression = "" // the ACS answered 415: not again until the setting changes
	}
	c.periodic.configure(now, c.set.periodicEnable, c.set.periodicInterval, c.set.periodicTime, first, c.random())
	c.configureHeartbeat(now, first)
	if !first && c.set.enabled && !old.enabled {
		c.log.Info("cwmp enabled")
		if c.periodic.enabled && c.queue.add(evPeriodic, "") { // moments passed unseen
			c.wanted = true
		}
	}
	if !first && !c.set.enabled && old.enabled {
		c.log.Info("cwmp disabled")
	}
	c.server.configure(c.set)
	c.reach.configure(ctx, c.set)
	c.showAddress()
}

// happened takes one event of the bridge in.
func (c *CPE) happened(ctx context.Context, ev bridge.Event) {
	c.takeIn(ctx)
	if ev.Kind == bridge.EventCommit && ev.Entry != nil && ev.Entry.Meta.Kind == "factory-reset" {
		if ev.Rev > c.bootRev { // one of before the start has had its effect
			c.wasReset(ctx, ev.Rev)
		}
	} else if ev.Kind == bridge.EventCommit && ev.Entry != nil {
		if c.running == nil && (touchesManagement(ev.Entry) || touchesReach(ev.Entry)) {
			c.refresh(ctx, false)
		}
	}
	if ev.Kind == bridge.EventModel {
		c.moduleChanged(ctx, ev)
	}
	if ev.Kind == bridge.EventOperated {
		c.operated(ctx, ev)
	}
	if ev.Kind == bridge.EventLive || ev.Kind == bridge.EventModel && slices.Contains(bridge.Told(bridge.CausePhase).Notify, ev.Name) {
		c.pollAt = time.Now()
	}
	c.acknowledge()
}

// wasReset begins anew after a factory reset by anybody: the records went with the tree.
func (c *CPE) wasReset(ctx context.Context, rev uint64) {
	if c.halted {
		return
	}
	c.queue, c.schedules, c.transfers, c.mark, c.set = eventQueue{}, nil, nil, bootMark{Path: c.mark.Path}, settings{}
	c.saved, c.changes = map[string]string{}, changes{pending: map[string]*pending{}, known: map[string]string{}, stale: true, rev: rev}
	c.quietUntil = time.Now().Add(resetGrace)
	c.dropTests()
	c.modules.jobs = nil
	if c.running == nil {
		c.refresh(ctx, true)
		c.takeOffer(ctx)
	}
}

// acknowledge moves the durable position in the journal forward as long as nothing before it waits to be told: after a
// restart the journal is read again from there, and the pending changes arise anew.
func (c *CPE) acknowledge() {
	if len(c.changes.pending) == 0 && c.ackEvent != nil {
		c.ackEvent(bridge.Event{Rev: c.changes.rev})
	}
}

// tick lets due things happen.
func (c *CPE) tick(ctx context.Context, now time.Time) {
	changed := false
	if c.periodic.due(now) && c.set.enabled && c.queue.add(evPeriodic, "") {
		c.wanted = true
	}
	kept := c.schedules[:0:0]
	for _, s := range c.schedules {
		if now.Before(s.At) {
			kept = append(kept, s)
			continue
		}
		c.queue.caused(bridge.CauseScheduleInform, s.CommandKey) // EVT-09: "3 SCHEDULED" once, beside one M entry for each cause
		c.wanted, changed = true, true
	}
	c.schedules = kept
	if changed {
		c.save(ctx)
	}
	if c.running == nil && !now.Before(c.pollAt) {
		c.checkAddress(ctx)
		v := c.takeIn(ctx)
		c.pollAt = now.Add(c.o.LivePoll)
		if c.changes.compare(ctx, v) {
			c.activeNew = true
		}
		c.reach.compare(ctx, v)
	}
	c.startTransfer(ctx, now)
	c.startTests(ctx)
	c.startModules(ctx)
	c.rebootDue(ctx, now)
}

// plan decides whether a session starts now, and else when it may (TR-069 3.2.1, 3.2.1.1).
func (c *CPE) plan(now time.Time) (start bool, at time.Time) {
	if c.running != nil || !c.set.usable() || c.restart != nil {
		return false, time.Time{}
	}
	if now.Before(c.quietUntil) {
		return false, c.quietUntil
	}
	consider := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	gap := func(d time.Duration) time.Time {
		if c.endedAt.IsZero() {
			return now
		}
		return c.endedAt.Add(max(d, c.gap))
	}
	if c.wanted { // RTY-05, RTY-06: a new event does not wait for the retry
		consider(gap(0))
	}
	if c.activeNew { // ATT-19: only sessions for active notification alone are throttled
		consider(gap(c.set.throttle))
	}
	if c.heartbeatDue(now) {
		consider(gap(0))
	}
	if !c.retryAt.IsZero() {
		consider(c.retryAt)
	}
	return !at.IsZero() && !now.Before(at), at
}

// nextWake is when the loop has to look again.
func (c *CPE) nextWake(now time.Time) time.Time {
	wake := now.Add(time.Hour)
	earlier := func(t time.Time) {
		if !t.IsZero() && t.Before(wake) {
			wake = t
		}
	}
	if _, at := c.plan(now); !at.IsZero() {
		earlier(at)
	}
	for _, p := range [...]*periodic{&c.periodic, &c.heartbeat} {
		at := p.at
		if d := at.Sub(now.Round(0)); !p.reference.IsZero() && !at.IsZero() {
			at = now.Add(min(d, time.Minute)) // the wall clock may be stepped: look once a minute
		}
		earlier(at)
	}
	for _, s := range c.schedules {
		earlier(s.At)
	}
	if c.running == nil {
		earlier(c.pollAt)
		earlier(c.nextTransfer())
	}
	if c.running == nil && c.restart == nil {
		earlier(c.rebootAt)
		if !c.scheduledAt.IsZero() { // wall clock
			earlier(now.Add(min(c.scheduledAt.Sub(now.Round(0)), time.Minute)))
		}
	}
	if c.restart != nil {
		earlier(c.restartAsked.Add(restartGrace))
	}
	return wake
}

// startSession opens the one session.
func (c *CPE) startSession(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	c.running = cancel
	if c.beating = c.beat && !c.wanted && !c.activeNew && c.retryAt.IsZero(); c.beating {
		c.beat = false
	}
	c.wanted, c.activeNew, c.retryAt = false, false, time.Time{}
	run, set := c.session, c.set
	go func() { // joined by stop through sessionDone
		var res sessionResult
		defer func() {
			if r := recover(); r != nil {
				res.err = fmt.Errorf("cwmp: session panicked: %v", r)
			}
			c.sessionDone <- res
		}()
		res = run(ctx, set)
	}()
}

// freeze fixes what the Inform of the session in progress tells; what arises later waits for the next session.
func (c *CPE) freeze(ctx context.Context) sessionJob {
	if c.beating {
		return c.freezeHeartbeat()
	}
	if c.queue.has(evBootstrap) { // everything is news to a new ACS: what it is told now is what it knows
		c.changes.pending, c.changes.known = map[string]*pending{}, map[string]string{}
	}
	c.changes.compare(ctx, c.takeIn(ctx))
	c.activeNew = false // goes out with this very Inform
	changed := c.changes.freeze(maxInformParams)
	c.frozenRev = c.changes.rev
	job := sessionJob{events: c.queue.freeze(len(changed) > 0), changed: changed, retryCount: c.failures, offer: c.offer}
	job.completes = c.deliveries()
	return job
}

// informed takes off what an acknowledged Inform has delivered.
func (c *CPE) informed(ctx context.Context, job sessionJob) error {
	if job.heartbeat {
		return nil
	}
	c.queue.informed(job.events)
	c.changes.thaw(true)
	c.changes.recalled()
	c.failures = 0 // TR-069 3.2.1.1: success is the acknowledged Inform
	if len(c.changes.pending) == 0 {
		c.acknowledge()
	} else if c.ackEvent != nil && len(job.changed) < maxInformParams {
		c.ackEvent(bridge.Event{Rev: c.frozenRev})
	}
	return c.save(ctx)
}

// sessionEnded decides what follows a session.
func (c *CPE) sessionEnded(ctx context.Context, res sessionResult) {
	c.running()
	c.running = nil
	c.endedAt = time.Now()
	if ctx.Err() == nil {
		c.e.Observe(bridge.Observation{Kind: bridge.SawSession, Writer: writerName, Class: bridge.ClassACS, OK: res.informed && res.err == nil})
	}
	c.changes.thaw(false)
	c.takeIn(ctx)                   // what the session wrote itself is not told, whoever is faster
	if c.beating && !res.informed { // not tried again: the next one comes at its time
		c.beating = false
		c.log.Warn("heartbeat failed", "error", res.err)
		c.refresh(ctx, false)
		return
	}
	c.beating = false
	if !res.informed {
		// TR-069 3.7.1.5: a connection request is not tried again. EVT-12
		c.queue.drop(func(e event) bool { return e.Code == evConnectionRequest && e.inflight })
	}
	leftover := false // events of this session's Inform that still wait for their own response
	for _, e := range c.queue.list {
		leftover = leftover || e.inflight
	}
	c.queue.thaw()
	_, act := c.changes.due()
	c.activeNew = c.activeNew && len(c.changes.pending) > 0 // the ACS may have written over what was to be told
	switch {
	case res.informed && res.err == nil && !leftover:
		c.log.Debug("session ended")
	case res.informed && !leftover: // RTY-10: success for retry purposes
		c.log.Warn("session ended early", "error", res.err)
	case len(c.queue.list) > 0 || act:
		c.failures++
		c.retryAt = c.endedAt.Add(RetryWait(c.failures, c.set.retryMinimum, c.set.retryMultiplier, c.random()))
		c.log.Warn("session failed", "error", res.err, "retry_count", c.failures, "retry_in", c.retryAt.Sub(c.endedAt).Round(time.Millisecond))
	default:
		c.failures++
		c.log.Warn("session failed", "error", res.err, "retry_count", c.failures)
	}
	if res.informed && act { // arose during the session, or did not fit into the Inform: SES-26
		c.activeNew = true
	}
	var status *httpc.StatusError
	if errors.As(res.err, &status) && status.Code == http.StatusUnsupportedMediaType { // TR-069 3.4.7, HTTP-23
		c.refused = c.set.compression
	}
	if res.versionRefused { // fault 8006: try an older version next time, and never stop
		if c.offer--; c.offer < 0 {
			c.offer = len(supportedVersions) - 1
		}
	}
	if res.informed {
		c.requested9 = c.requested9[min(c.told9, len(c.requested9)):]
	}
	c.told9 = 0
	c.releaseTransfers(c.endedAt)
	c.refresh(ctx, false)
	if c.failures >= discoverAfter {
		c.takeOffer(ctx)
	}
	c.save(ctx)
}

// queueSchedule keeps a ScheduleInform.
func (c *CPE) queueSchedule(ctx context.Context, key string, at time.Time) error {
	if len(c.schedules) >= maxSchedules {
		return errTooManySchedules
	}
	c.schedules = append(c.schedules, schedule{CommandKey: key, At: at.Round(0)})
	if err := c.save(ctx); err != nil {
		c.schedules = c.schedules[:len(c.schedules)-1]
		return err
	}
	return nil
}
