package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
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

// notifier decides who is told what. Its goroutine owns everything in it; the others send it events and closures.
type notifier struct {
	a           *Agent
	index       *subscribe.Index
	prev        *store.Version // a state before the commit at hand, for rows that are gone
	history     []*store.Version
	periodic    map[string]*schedule
	boarding    map[string]*boarding
	triggered   bool                 // the commit at hand is one of TriggerConfigSettings
	triggers    map[uint32]time.Time // when a Subscription configured last, or will
	rules       rules
	live        map[string]int // references that may name live values -> Subscriptions that have them
	liveChanged bool
	looked      time.Time           // when the clock was looked at
	wall        time.Time           // and what it said then, without the monotonic reading
	tells       map[string]*telling // records of commands whose end is being told
	record      string              // the one of the event at hand
	bootID      string              // prefix of msg_ids, new in every run
	seq         uint64
}

// schedule is the Periodic! timer of one Controller.
type schedule struct {
	interval time.Duration
	phase    time.Time
	next     time.Time
}

// boarding is the onboarding of one Controller.
type boarding struct {
	running   bool      // an OnBoardRequest is queued or waits for its answer
	restartAt time.Time // OnBoardingRestartTime after the answer
	done      bool      // answered in this run
}

func newNotifier(a *Agent) *notifier {
	var id [6]byte
	_, _ = rand.Read(id[:]) // never fails
	return &notifier{a: a, index: subscribe.New(), rules: newRules(), periodic: map[string]*schedule{}, boarding: map[string]*boarding{}, triggers: map[uint32]time.Time{},
		live: map[string]int{}, tells: map[string]*telling{}, bootID: hex.EncodeToString(id[:])}
}

// run is the notifier goroutine.
func (n *notifier) run(ctx context.Context) {
	a := n.a
	v := a.store.Head()
	n.prev = v
	n.remember(v)
	n.loadAll(v)
	n.loadRules(ctx, v)
	n.watchLive()
	n.refresh()
	if b := a.opt.Boot; b != nil {
		n.event(ctx, n.boot(b))
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(n.tick(ctx))
		select {
		case <-ctx.Done():
			return
		case fn := <-a.calls:
			fn(n)
		case ev := <-a.events:
			n.event(ctx, ev.Event)
			if ev.done != nil {
				ev.done(ev.Event)
			}
		case <-timer.C:
		}
	}
}

// event tells everybody concerned of one event.
func (n *notifier) event(ctx context.Context, ev bridge.Event) {
	defer func(outer string) { n.record = outer }(n.record)
	if n.record = ev.Record; n.record != "" {
		t := n.tells[n.record]
		if t == nil {
			t = &telling{}
			n.tells[n.record] = t
		}
		t.all = ev.Kind == bridge.EventModel || !movesFile(ev.Path)
	}
	switch ev.Kind {
	case bridge.EventCommit:
		if ev.Entry != nil {
			n.commit(ctx, ev.Entry)
		}
	case bridge.EventLive:
		n.valueChange(ctx, ev.Path, ev.Value, false)
	case bridge.EventModel:
		n.modelEvent(ev)
	case bridge.EventOperated:
		n.operated(ev)
	case bridge.EventResync:
		n.resync()
	}
}

// resync begins anew after a gap in the events: what happened in it cannot be told any more.
func (n *notifier) resync() {
	n.a.opt.Log.Warn("usp_events_lost")
	head := n.a.store.Head()
	var all []uint32
	n.index.All(func(s *subscribe.Sub) { all = append(all, s.Num) })
	for _, num := range all {
		if !head.HasInstance(subPath, num) {
			n.load(head, num, nil)
		}
	}
	n.loadAll(head)
	n.loadRules(context.Background(), head)
	n.watchLive()
	n.refresh()
	n.a.seen.Store(head.Rev())
	n.a.reconfigure()
	n.history = append(n.history[:0], head)
	n.prev = head
}

// commit tells of one commit: what changed, then what it means for the agent's own tables. A Subscription that this
// commit makes is not told of its own birth; one that it deletes is told of what went with it.
func (n *notifier) commit(ctx context.Context, e *store.Entry) {
	head := n.a.store.Head()
	n.before(e.Rev)
	if n.index.Len() > 0 || len(n.rules.thresholds) > 0 || len(n.rules.monitors) > 0 {
		n.tell(ctx, e, head)
	}
	subs, ctrl, link, rules := map[uint32]map[string]string{}, false, false, false
	for i := range e.Deltas {
		d := &e.Deltas[i]
		if d.Op == store.DeltaRefused || d.Op == store.DeltaAttr || d.Op == store.DeltaNote {
			continue
		}
		switch {
		case strings.HasPrefix(d.Path, subPath):
			if num := instance(d.Path, subPath); num != 0 {
				noteRow(subs, num, d)
			}
		case strings.HasPrefix(d.Path, thresholdPath), strings.HasPrefix(d.Path, watchdogPath), strings.HasPrefix(d.Path, monitorPath):
			rules = true
		case strings.HasPrefix(d.Path, controllerPath):
			ctrl, link = true, true
		case strings.HasPrefix(d.Path, mtpPath), strings.HasPrefix(d.Path, mqttPath), strings.HasPrefix(d.Path, udsPath):
			link = true
		}
	}
	n.triggered = strings.HasPrefix(e.Meta.Ref, triggerRef)
	for num, over := range subs {
		n.load(head, num, over)
	}
	if rules {
		n.loadRules(ctx, head)
	}
	n.watchLive()
	if ctrl {
		n.refresh()
	}
	n.a.seen.Store(max(n.a.seen.Load(), e.Rev))
	if n.a.held.Swap(false) || link {
		n.a.reconfigure()
	}
	n.remember(head)
}

// noteRow collects what one commit wrote into a row; nil when it deleted the row.
func noteRow(rows map[uint32]map[string]string, num uint32, d *store.Delta) {
	over, seen := rows[num]
	if d.Op == store.DeltaDeleteRow {
		rows[num] = nil
		return
	}
	if seen && over == nil {
		return
	}
	if !seen {
		over = map[string]string{}
		rows[num] = over
	}
	if d.Op == store.DeltaSet {
		over[d.Path] = d.New
	}
}

// maxHistory is how many past versions are kept while the notifier is behind.
const maxHistory = 16

// remember keeps a version, because it comes before commits still to be told.
func (n *notifier) remember(v *store.Version) {
	if l := len(n.history); l > 0 && n.history[l-1].Rev() >= v.Rev() {
		return
	}
	if len(n.history) == maxHistory { // the oldest stays: it comes before all that is still to be told
		n.history = append(n.history[:1], n.history[2:]...)
	}
	n.history = append(n.history, v)
}

// before sets prev to the newest kept version that is older than a commit. When the notifier is behind, the newest
// version of all has that commit in it already, and perhaps others.
func (n *notifier) before(rev uint64) {
	if rev == 0 { // of a row that is not stored
		n.prev = n.history[len(n.history)-1]
		return
	}
	for len(n.history) > 1 && n.history[1].Rev() < rev {
		n.history[0] = nil
		n.history = n.history[1:]
	}
	n.prev = n.history[0]
}

// tell finds the subscribers of every change in a commit.
func (n *notifier) tell(ctx context.Context, e *store.Entry, head *store.Version) {
	added := map[string]bool{}
	counted := map[string]bool{} // tables whose number of rows changed
	for i := range e.Deltas {
		d := &e.Deltas[i]
		switch d.Op {
		case store.DeltaAddRow:
			added[d.Path] = true
			counted[tableOf(d.Path)] = true
		case store.DeltaDeleteRow:
			counted[tableOf(d.Path)] = true
		}
	}
	told := bridge.Told(bridge.CauseOf(e.Meta.Writer)).Notify // DESIGN invariant 7: everybody is told of everybody's changes
	tells := func(kind string) bool { return slices.Contains(told, kind) }
	for i := range e.Deltas {
		d := &e.Deltas[i]
		switch d.Op {
		case store.DeltaAddRow:
			if tells("ObjectCreation") {
				n.created(ctx, d.Path)
			}
		case store.DeltaDeleteRow:
			if tells("ObjectDeletion") {
				n.deleted(d.Path)
			}
		case store.DeltaSet:
			if !tells("ValueChange") {
				continue
			}
			// The values of a new row are told by ObjectCreation, not one by one.
			if !inRow(added, d.Path) && !(d.HadOld && d.Old == d.New) && !n.sameAsDefault(d) {
				n.valueChange(ctx, d.Path, d.New, d.Secret)
			}
		case store.DeltaUnset:
			if def, ok := n.defaultOf(d.Path); ok && def != d.Old {
				n.valueChange(ctx, d.Path, def, d.Secret)
			}
		}
	}
	for table := range counted {
		n.counted(ctx, head, table)
	}
}

// counted tells of a ...NumberOfEntries parameter, which is computed and never in a commit.
func (n *notifier) counted(ctx context.Context, head *store.Version, table string) {
	m, ok := n.a.schema.Lookup(table)
	if !ok || m.Object == nil || m.Object.NumEntries == "" {
		return
	}
	i := strings.LastIndexByte(strings.TrimSuffix(table, "."), '.')
	if table == requestPath || table == servicesPath { // not stored: the bridge watches it as a live value
		return
	}
	n.valueChange(ctx, table[:i+1]+m.Object.NumEntries, strconv.Itoa(len(head.Instances(table))), false)
}

// tableOf cuts the instance number off a row.
func tableOf(row string) string {
	s := strings.TrimSuffix(row, ".")
	return s[:strings.LastIndexByte(s, '.')+1]
}

// inRow reports whether path lies in one of the rows.
func inRow(rows map[string]bool, path string) bool {
	if len(rows) == 0 {
		return false
	}
	for i := len(path) - 1; i > 0; i-- {
		if path[i] == '.' && rows[path[:i+1]] {
			return true
		}
	}
	return false
}

func (n *notifier) defaultOf(path string) (string, bool) {
	m, ok := n.a.schema.Lookup(path)
	if !ok || m.Param == nil {
		return "", false
	}
	f := m.Param.Any()
	if f.HasDefault {
		return f.Default, true
	}
	return f.Zero(), true
}

// sameAsDefault: the first stored value of a parameter that had it already by default.
func (n *notifier) sameAsDefault(d *store.Delta) bool {
	if d.HadOld || d.Secret {
		return false
	}
	def, ok := n.defaultOf(d.Path)
	return ok && def == d.New
}

// Holds and Names implement subscribe.Ask.

func (n *notifier) Holds(row string, expr []datamodel.Comparison) bool {
	return n.a.trust.Holds(n.a.store.Head(), row, expr) || n.a.trust.Holds(n.prev, row, expr)
}

func (n *notifier) Names(ref, path string) bool {
	matches, err := n.a.engine.View(n.a.system).Resolve(shown(ref), datamodel.ResolvePolicy{AllowTable: true})
	if err != nil {
		return false
	}
	for _, m := range matches {
		p := strings.TrimSuffix(m.Path, ".")
		if c, ok := datamodel.ToCanonical(datamodel.USP, p); ok {
			p = c
		}
		if within(p, strings.TrimSuffix(path, ".")) {
			return true
		}
	}
	return false
}

// target is one Subscription with its recipient.
type target struct {
	sub    *subscribe.Sub
	out    *outbox
	writer bridge.Writer
}

// recipients calls fn for every Subscription that concerns the element and whose recipient may be told.
func (n *notifier) recipients(k subscribe.Kind, path string, right bridge.Right, only string, fn func(t target)) {
	n.index.Match(k, path, n, func(s *subscribe.Sub) {
		p := n.recipient(s)
		if p == nil || only != "" && p.endpoint != only {
			return
		}
		t := target{sub: s, out: p.out, writer: p.writer()}
		asked := path
		if t.writer.Rights != nil && !t.writer.Rights.Allow(n.rightsVersion(p), asked, right) { // TP-469 2.20
			return
		}
		fn(t)
	})
}

// rightsVersion is the version by which a recipient's rights are judged: the newest, or the one before if the
// Controller has just been deleted, so that it still hears of that.
func (n *notifier) rightsVersion(p *peer) *store.Version {
	head := n.a.store.Head()
	if p.rights != nil && !p.local && trust.FindController(head, p.endpoint) == "" {
		return n.prev
	}
	return head
}

// recipient finds who a Subscription is for; nil when the Controller is unknown or disabled.
func (n *notifier) recipient(s *subscribe.Sub) *peer {
	if s.Recipient == "" {
		return n.a.owners.of(s.Num)
	}
	c := n.a.controllers().byRow[s.Recipient]
	if c == nil { // deleted by the commit at hand: told a last time
		eid := reader{v: n.prev, s: n.a.schema}.str(s.Recipient + "EndpointID")
		if eid == "" {
			return nil
		}
		return n.a.knownPeer(eid)
	}
	if c.endpoint == "" || !c.enabled && !(reader{v: n.prev, s: n.a.schema}).flag(s.Recipient+"Enable") {
		return nil
	}
	return n.a.peerOf(c.endpoint)
}

// notify queues one notification.
func (n *notifier) notify(t target, m *uspmsg.Notify, path string) {
	if t.sub.Settings != "" {
		n.trigger(t)
	}
	if t.sub.Silent {
		return
	}
	m.SubscriptionId = t.sub.ID // R-NOT.7
	m.SendResp = t.sub.Retry
	n.seq++
	id := n.bootID + "-" + strconv.FormatUint(n.seq, 10)
	payload, err := wire.Marshal(usp.NewRequest(id, &uspmsg.Request{ReqType: &uspmsg.Request_Notify{Notify: m}}))
	if err != nil {
		n.a.opt.Log.Error("usp_encode_failed", "subscription", t.sub.ID, "error", err.Error())
		return
	}
	if n.record != "" {
		l := n.tells[n.record]
		l.notes = append(l.notes, told{t.out, id})
	}
	t.out.put(&note{sub: t.sub.Num, path: path, msgID: id, payload: payload, retry: t.sub.Retry, expire: t.sub.Expiration})
}

func (n *notifier) valueChange(_ context.Context, path, value string, secret bool) {
	m, ok := n.a.schema.Lookup(path)
	if !ok || m.Param == nil {
		return
	}
	f := m.Param.Facts(datamodel.USP)
	if f == nil || ignoresChange(f) {
		return
	}
	if !secret && !f.Hidden && !f.Secured {
		if len(n.rules.thresholds) > 0 {
			n.compare(path, value)
		}
		if len(n.rules.monitors) > 0 {
			n.collect(path, datamodel.FromCanonicalValue(datamodel.USP, f, value))
		}
	}
	n.recipients(subscribe.ValueChange, path, bridge.NotifyParam, "", func(t target) {
		val := value
		switch {
		case f.Hidden:
			val = ""
		case f.Secured:
			val = ""
			if r := t.writer.Rights; r == nil || r.Secured(n.a.store.Head()) {
				if l, stored := n.a.store.Head().Leaf(path); stored {
					val = l.Value
				}
			}
		case secret:
			val = "" // the journal holds a hash only
		default:
			val = datamodel.FromCanonicalValue(datamodel.USP, f, val)
		}
		n.notify(t, &uspmsg.Notify{Notification: &uspmsg.Notify_ValueChange_{ValueChange: &uspmsg.Notify_ValueChange{
			ParamPath: shown(path), ParamValue: strings.ToValidUTF8(val, "\uFFFD")}}}, path)
	})
}

func (n *notifier) created(ctx context.Context, row string) {
	n.recipients(subscribe.ObjectCreation, tableOf(row), bridge.NotifyObj, "", func(t target) {
		keys := map[string]string{}
		if m, ok := n.a.schema.Lookup(row); ok {
			m.Path = shown(row)
			keys = n.a.engine.View(t.writer).Keys(ctx, m)
		}
		n.notify(t, &uspmsg.Notify{Notification: &uspmsg.Notify_ObjCreation{ObjCreation: &uspmsg.Notify_ObjectCreation{
			ObjPath: shown(row), UniqueKeys: keys}}}, "")
	})
}

// deleted tells of a row and of the rows that were in it.
func (n *notifier) deleted(row string) {
	n.deletedOne(row)
	if !n.index.Below(subscribe.ObjectDeletion, row) {
		return
	}
	seen := map[string]bool{}
	n.prev.Walk(row, func(path string, _ store.Leaf) bool {
		for i := len(row); i < len(path); i++ {
			if path[i] == '.' && path[i-1] >= '0' && path[i-1] <= '9' {
				if r := path[:i+1]; !seen[r] && isInstance(r) {
					seen[r] = true
					n.deletedOne(r)
				}
			}
		}
		return true
	})
}

// isInstance reports whether the last element of an object path is a number.
func isInstance(path string) bool {
	s := strings.TrimSuffix(path, ".")
	_, err := strconv.ParseUint(s[strings.LastIndexByte(s, '.')+1:], 10, 32)
	return err == nil
}

func (n *notifier) deletedOne(row string) {
	n.recipients(subscribe.ObjectDeletion, row, bridge.NotifyInst, "", func(t target) {
		n.notify(t, &uspmsg.Notify{Notification: &uspmsg.Notify_ObjDeletion{ObjDeletion: &uspmsg.Notify_ObjectDeletion{ObjPath: shown(row)}}}, "")
	})
}

// modelEvent tells of an event of the data model. ev.Path is the object.
func (n *notifier) modelEvent(ev bridge.Event) {
	n.recipients(subscribe.Event, ev.Path+ev.Name, bridge.NotifyCommand, ev.Only, func(t target) {
		args := ev.Args
		if ev.Name == "TransferComplete!" && !n.wantsTransfer(t.sub.Recipient, args) {
			return
		}
		if ev.ArgsFor != nil {
			args = ev.ArgsFor(t.out.endpoint)
		}
		n.notify(t, &uspmsg.Notify{Notification: &uspmsg.Notify_Event_{Event: &uspmsg.Notify_Event{
			ObjPath: shown(ev.Path), EventName: ev.Name, Params: valid(args)}}}, "")
	})
}

// wantsTransfer applies TransferCompletePolicy of a recipient.
func (n *notifier) wantsTransfer(controller string, args map[string]string) bool {
	failed := args["FaultCode"] != "" && args["FaultCode"] != "0"
	switch (reader{v: n.a.store.Head(), s: n.a.schema}).str(controller + "TransferCompletePolicy.ResultTypeFilter") {
	case "Success":
		return !failed
	case "Failure":
		return failed
	}
	return true
}

// operated tells that an asynchronous command ended. ev.Path is the command.
func (n *notifier) operated(ev bridge.Event) {
	object, name := datamodel.SplitParam(ev.Path)
	oc := &uspmsg.Notify_OperationComplete{ObjPath: shown(object), CommandName: name, CommandKey: ev.Key}
	if ev.Err != nil {
		f := usp.ErrorFrom(ev.Err, usp.AtCommand)
		oc.OperationResp = &uspmsg.Notify_OperationComplete_CmdFailure{
			CmdFailure: &uspmsg.Notify_OperationComplete_CommandFailure{ErrCode: f.Code, ErrMsg: f.Text}}
	} else {
		oc.OperationResp = &uspmsg.Notify_OperationComplete_ReqOutputArgs{
			ReqOutputArgs: &uspmsg.Notify_OperationComplete_OutputArgs{OutputArgs: valid(ev.Args)}}
	}
	n.recipients(subscribe.OperationComplete, ev.Path, bridge.NotifyCommand, ev.Only, func(t target) {
		n.notify(t, &uspmsg.Notify{Notification: &uspmsg.Notify_OperComplete{OperComplete: oc}}, "")
	})
}

// valid makes foreign texts fit for protobuf strings.
func valid(args map[string]string) map[string]string {
	out := make(map[string]string, len(args))
	for k, v := range args {
		out[k] = strings.ToValidUTF8(v, "\uFFFD")
	}
	return out
}

// boot builds Device.Boot!; the ParameterMap differs by recipient.
func (n *notifier) boot(b *BootInfo) bridge.Event {
	return bridge.Event{Kind: bridge.EventModel, Path: "Device.", Name: "Boot!", Time: time.Now(), ArgsFor: func(eid string) map[string]string {
		args := map[string]string{"CommandKey": b.CommandKey, "Cause": b.Cause, "Reason": b.Reason,
			"FirmwareUpdated": strconv.FormatBool(b.FirmwareUpdated), "ParameterMap": "{}"}
		if p, err := json.Marshal(n.bootParameters(eid)); err == nil {
			args["ParameterMap"] = string(p)
		}
		return args
	}}
}

// maxBootParameters bounds one ParameterMap.
const maxBootParameters = 1000

// bootParameters reads what Controller.{i}.BootParameter.{i}. of one recipient asks for, as far as it may read it.
func (n *notifier) bootParameters(eid string) map[string]string {
	out := map[string]string{}
	c := n.a.controllers().byID[eid]
	if c == nil {
		return out
	}
	ctx, cancel := context.WithTimeout(context.Background(), sendTime)
	defer cancel()
	r := reader{v: n.a.store.Head(), s: n.a.schema}
	view := n.a.engine.View(n.a.peerOf(eid).writer())
	r.rows(c.row+"BootParameter.", func(_ uint32, row string) {
		if !r.flag(row + "Enable") {
			return
		}
		matches, err := view.Resolve(r.str(row+"ParameterName"), datamodel.ResolvePolicy{Want: datamodel.WantObject | datamodel.WantParam})
		if err != nil {
			return
		}
		for _, m := range matches {
			if m.Param != nil {
				if v, err := view.Value(ctx, m); err == nil && len(out) < maxBootParameters {
					out[m.Path] = v
				}
				continue
			}
			_ = view.Objects(m, 0, func(o datamodel.Match) bool {
				_ = view.Params(ctx, o, func(p *datamodel.Param, v string) bool {
					if len(out) < maxBootParameters {
						out[o.Path+p.Name] = v
					}
					return true
				})
				return len(out) < maxBootParameters
			})
		}
	})
	return out
}
