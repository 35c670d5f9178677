package agent

import (
	"context"
	"sort"
	"strconv"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/store"
	"twinspan/usp"
	"twinspan/usp/agent/subscribe"
	"twinspan/usp/agent/trust"
	"twinspan/usp/uspmsg"
	"twinspan/usp/wire"
)

// The notifier's tables and timers: Subscription rows, TimeToLive, Periodic!, onboarding.

// loadAll fills the index at start.
func (n *notifier) loadAll(v *store.Version) {
	for _, num := range v.Instances(subPath) {
		n.load(v, num, nil)
	}
}

// load reads one Subscription row again. What was queued for it goes when it is gone or disabled.
//
// over is what the commit at hand wrote into the row, nil if that deleted it. It counts when the newest version has
// lost the row already: until the notifier gets to that commit the Subscription is to be told.
func (n *notifier) load(v *store.Version, num uint32, over map[string]string) {
	r := reader{v: v, s: n.a.schema}
	there := v.HasInstance(subPath, num)
	if !there && over != nil {
		r.v, r.over, there = n.prev, over, true
	}
	var s *subscribe.Sub
	if there {
		s = n.read(r, num)
	}
	if s == nil {
		if old, had := n.index.Get(num); had {
			// A Subscription that ends itself as it fires (NotifyAndConfig) is still to be told.
			if p := n.recipient(old); p != nil && n.stillThere(old) && !n.triggered {
				p.out.forgetSub(num)
			}
			n.index.Remove(num)
			n.countLive(old, -1)
			n.a.subscribed(num, nil)
		}
		if !there {
			n.a.owners.drop(num)
		}
		return
	}
	if old, had := n.index.Get(num); had {
		n.countLive(old, -1)
	}
	for _, bad := range n.index.Put(s) {
		n.a.slow.Warn("usp_subscription_reference", "subscription", num, "reference", bad)
	}
	n.countLive(s, 1)
	n.a.subscribed(num, s)
}

// countLive keeps account of the references that may name values which no commit tells of: objects, searches, and
// parameters that nobody can write.
func (n *notifier) countLive(s *subscribe.Sub, by int) {
	if s.Kind != subscribe.ValueChange {
		return
	}
	for _, ref := range s.Refs {
		n.countRef(ref, by)
	}
}

func (n *notifier) countRef(ref string, by int) {
	if !searches(ref) {
		m, ok := n.a.schema.Lookup(ref)
		if !ok {
			return
		}
		if m.Param != nil {
			if f := m.Param.Any(); f.Access != datamodel.ReadOnly || ignoresChange(f) {
				return
			}
		}
	}
	before := n.live[ref]
	if n.live[ref] = before + by; before+by <= 0 {
		delete(n.live, ref)
	}
	n.liveChanged = n.liveChanged || (before == 0) != (before+by <= 0)
}

// maxLive is how many distinct references to live values are watched, as many as the bridge takes.
const maxLive = 512

// watchLive tells the bridge which live values Subscriptions want to hear of.
func (n *notifier) watchLive() {
	if !n.liveChanged {
		return
	}
	n.liveChanged = false
	paths := make([]string, 0, len(n.live))
	for ref := range n.live {
		paths = append(paths, ref)
	}
	sort.Strings(paths)
	if len(paths) > maxLive {
		n.a.slow.Warn("usp_live_values_unwatched", "references", len(paths), "limit", maxLive)
		paths = paths[:maxLive]
	}
	if err := n.a.engine.WatchLive(consumer, paths); err != nil {
		n.a.slow.Warn("usp_live_values_unwatched", "error", err.Error())
	}
}

// stillThere reports whether the recipient of a Subscription exists. When its Controller went with it, what is queued
// may leave, the news of that end included.
func (n *notifier) stillThere(s *subscribe.Sub) bool {
	return s.Recipient == "" || n.a.controllers().byRow[s.Recipient] != nil
}

func (n *notifier) read(r reader, num uint32) *subscribe.Sub {
	row := subPath + strconv.FormatUint(uint64(num), 10) + "."
	if !r.flag(row + "Enable") {
		return nil
	}
	kind, ok := subscribe.ParseKind(r.str(row + "NotifType"))
	if !ok {
		return nil
	}
	s := &subscribe.Sub{Num: num, ID: r.str(row + "ID"), Recipient: r.ref(row + "Recipient"), Kind: kind,
		Retry: r.flag(row + "NotifRetry"), Expiration: r.seconds(row + "NotifExpiration")}
	r.readTrigger(row, s)
	for _, ref := range trust.SplitPaths(r.str(row + "ReferenceList")) {
		if c, ok := datamodel.ToCanonical(datamodel.USP, ref); ok {
			s.Refs = append(s.Refs, c)
		}
	}
	if ttl := r.seconds(row + "TimeToLive"); ttl > 0 {
		if made := parseTime(r.str(row + "CreationDate")); !made.IsZero() {
			s.Deadline = made.Add(ttl)
		}
	}
	return s
}

// refresh follows a change of the Controller table.
func (n *notifier) refresh() {
	d := n.a.controllers()
	now := time.Now()
	for _, c := range d.list {
		if !c.enabled || c.endpoint == "" {
			delete(n.periodic, c.row)
			n.endBoarding(c)
			continue
		}
		n.schedule(c, now)
		b := n.boarding[c.row]
		if b == nil {
			b = &boarding{}
			n.boarding[c.row] = b
		}
		switch {
		case !c.onboard: // complete
			n.endBoarding(c)
		case !b.running && !b.done: // R-NOT.5
			n.sendOnboard(c, b)
		case b.done && b.restartAt.IsZero() && c.restart > 0:
			b.restartAt = now.Add(c.restart)
		case c.restart == 0:
			b.restartAt = time.Time{}
		}
	}
	for row := range n.periodic {
		if d.byRow[row] == nil {
			delete(n.periodic, row)
		}
	}
	for row := range n.boarding {
		if d.byRow[row] == nil {
			delete(n.boarding, row)
		}
	}
}

func (n *notifier) schedule(c *controller, now time.Time) {
	if c.interval <= 0 {
		delete(n.periodic, c.row)
		return
	}
	s := n.periodic[c.row]
	if s != nil && s.interval == c.interval && s.phase.Equal(c.phase) {
		return
	}
	s = &schedule{interval: c.interval, phase: c.phase}
	s.next = s.after(now)
	n.periodic[c.row] = s
}

// after is when a Periodic! is due next: at PeriodicNotifTime and whole intervals from it, where there is one.
func (s *schedule) after(now time.Time) time.Time {
	if s.phase.IsZero() {
		return now.Add(s.interval)
	}
	past := now.Sub(s.phase) % s.interval
	if past < 0 {
		past += s.interval
	}
	return now.Add(s.interval - past)
}

const (
	clockLook = time.Minute     // how often the clock is looked at while something hangs on it
	clockJump = 2 * time.Second // less is drift
)

// clock follows a clock that was set since the last look. What counts seconds goes on counting: TimeToLive moves with the clock; what
// names a time of day is computed anew.
func (n *notifier) clock(now time.Time) {
	was, wall := n.looked, n.wall
	n.looked, n.wall = now, now.Round(0)
	d := n.wall.Sub(wall) - now.Sub(was)
	if was.IsZero() || d < clockJump && d > -clockJump {
		return
	}
	n.a.opt.Log.Info("usp_clock_was_set", "by_seconds", int64(d/time.Second))
	n.index.Shift(d)
	for _, s := range n.periodic {
		if !s.phase.IsZero() {
			s.next = s.after(now)
		}
	}
}

func (n *notifier) endBoarding(c *controller) {
	b := n.boarding[c.row]
	if b == nil {
		return
	}
	if b.running {
		if p := n.a.knownPeer(c.endpoint); p != nil {
			p.out.forgetOnboard()
		}
	}
	delete(n.boarding, c.row)
}

// onboardNow begins onboarding of one Controller anew.
func (n *notifier) onboardNow(row string) {
	c := n.a.controllers().byRow[row]
	if c == nil || !c.enabled || c.endpoint == "" {
		return
	}
	b := &boarding{}
	n.boarding[row] = b
	n.a.peerOf(c.endpoint).out.forgetOnboard()
	n.sendOnboard(c, b)
}

// sendOnboard queues an OnBoardRequest: no subscription, answer wanted, no end but the answer. // R-NOT.6, R-NOT.6a
func (n *notifier) sendOnboard(c *controller, b *boarding) {
	ctx, cancel := context.WithTimeout(context.Background(), sendTime)
	defer cancel()
	view := n.a.engine.View(n.a.system)
	value := func(name string) string {
		m, ok := n.a.schema.Lookup(deviceInfo + name)
		if !ok {
			return ""
		}
		m.Path = deviceInfo + name
		v, err := view.Value(ctx, m)
		if err != nil {
			return ""
		}
		return v
	}
	n.seq++
	id := n.bootID + "-" + strconv.FormatUint(n.seq, 10)
	payload, err := wire.Marshal(usp.NewRequest(id, &uspmsg.Request{ReqType: &uspmsg.Request_Notify{Notify: &uspmsg.Notify{
		SendResp: true,
		Notification: &uspmsg.Notify_OnBoardReq{OnBoardReq: &uspmsg.Notify_OnBoardRequest{
			Oui: value("ManufacturerOUI"), ProductClass: value("ProductClass"), SerialNumber: value("SerialNumber"),
			AgentSupportedProtocolVersions: usp.SupportedVersions}},
	}}}))
	if err != nil {
		n.a.opt.Log.Error("usp_encode_failed", "to", c.endpoint, "error", err.Error())
		return
	}
	b.running, b.restartAt = true, time.Time{}
	n.a.peerOf(c.endpoint).out.put(&note{msgID: id, payload: payload, retry: true, onboard: true})
}

// onboardAnswered starts the timer for the next OnBoardRequest, if one is wanted. // TP-469 1.102, 1.103
func (n *notifier) onboardAnswered(eid string) {
	c := n.a.controllers().byID[eid]
	if c == nil {
		return
	}
	b := n.boarding[c.row]
	if b == nil {
		return
	}
	b.running, b.done, b.restartAt = false, true, time.Time{}
	if c.restart > 0 && c.onboard {
		b.restartAt = time.Now().Add(c.restart)
	}
}

// tick does what is due and returns the time until the next thing is.
func (n *notifier) tick(ctx context.Context) time.Duration {
	now := time.Now()
	wait := time.Hour
	n.clock(now)
	if nums := n.index.Expired(now); len(nums) > 0 { // TP-469 1.55
		for _, num := range nums {
			if old, had := n.index.Get(num); had {
				n.countLive(old, -1)
			}
			n.index.Remove(num)
		}
		n.watchLive()
		n.a.later(func(ctx context.Context) { n.a.deleteSubs(ctx, nums) })
	}
	if d := n.index.NextDeadline(); !d.IsZero() {
		wait = min(wait, d.Sub(now), clockLook)
	}
	for row, s := range n.periodic {
		if !s.phase.IsZero() {
			wait = min(wait, clockLook)
		}
		if !now.Before(s.next) {
			if c := n.a.controllers().byRow[row]; c != nil {
				n.event(ctx, bridge.Event{Kind: bridge.EventModel, Path: localAgent, Name: "Periodic!", Only: c.endpoint, Time: now})
			}
			// Missed ones are not made up for.
			s.next = s.next.Add((now.Sub(s.next)/s.interval + 1) * s.interval)
		}
		wait = min(wait, s.next.Sub(now))
	}
	for row, b := range n.boarding {
		if b.restartAt.IsZero() {
			continue
		}
		if !now.Before(b.restartAt) {
			if c := n.a.controllers().byRow[row]; c != nil && c.onboard && c.enabled {
				n.sendOnboard(c, b)
			}
			b.restartAt = time.Time{}
			continue
		}
		wait = min(wait, b.restartAt.Sub(now))
	}
	wait = min(wait, n.watchdogs(now), n.report(now), n.told())
	return max(wait, 0)
}
