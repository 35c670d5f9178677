package cwmp

import (
	"slices"
	"sort"
	"strings"

	"twinspan/bridge"
)

// Event codes (TR-069 table 7).
const (
	evBootstrap         = "0 BOOTSTRAP"
	evBoot              = "1 BOOT"
	evPeriodic          = "2 PERIODIC"
	evScheduled         = "3 SCHEDULED"
	evValueChange       = "4 VALUE CHANGE"
	evConnectionRequest = "6 CONNECTION REQUEST"
	evTransferComplete  = "7 TRANSFER COMPLETE"
	evDiagnostics       = "8 DIAGNOSTICS COMPLETE"
	evRequestDownload   = "9 REQUEST DOWNLOAD"
	evAutonomous        = "10 AUTONOMOUS TRANSFER COMPLETE"
	evDUComplete        = "11 DU STATE CHANGE COMPLETE"
	evAutonomousDU      = "12 AUTONOMOUS DU STATE CHANGE COMPLETE"
	evHeartbeat         = "14 HEARTBEAT"
	evMReboot           = "M Reboot"
	evMScheduleInform   = "M ScheduleInform"
	evMDownload         = "M Download"
	evMScheduleDownload = "M ScheduleDownload"
	evMUpload           = "M Upload"
	evMChangeDUState    = "M ChangeDUState"
)

const (
	// maxInformEvents is the length limit of EventStruct[] in the schema (cwmp-1-4.xsd). INF-11
	maxInformEvents = 64
	// maxQueuedEvents bounds the queue; of what is over it the oldest M entries are dropped.
	maxQueuedEvents = 128
)

// event is one entry of an Inform's Event array.
type event struct {
	Code string `json:"code"`
	Key  string `json:"key,omitempty"` // CommandKey, M events only
	// Seq tells entries apart, so that only what an Inform carried is taken off when it was acknowledged.
	Seq uint64 `json:"seq"`
	// inflight: an Inform in progress carries it; the same cause arising now is another event.
	inflight bool
}

// multiple reports whether one entry per cause is kept (the M events).
func (e event) multiple() bool { return strings.HasPrefix(e.Code, "M ") }

// persistent reports whether the event must survive a restart (TR-069 3.7.1.5, table 7: never dropped).
func (e event) persistent() bool {
	switch e.Code {
	case evBootstrap, evPeriodic, evScheduled, evTransferComplete, evAutonomous, evDUComplete, evAutonomousDU:
		return true
	}
	return e.multiple()
}

// needsOwnResponse reports whether an acknowledged Inform is not enough: the method that belongs to the event has to be
// answered (TR-069 3.7.1.5).
func (e event) needsOwnResponse() bool {
	switch e.Code {
	case evTransferComplete, evMDownload, evMUpload, evMScheduleDownload, evAutonomous, evDUComplete, evMChangeDUState, evAutonomousDU:
		return true
	}
	return false
}

// eventQueue is what the ACS has not been told yet, in order of arising. "4 VALUE CHANGE" is not kept here: it follows from
// the pending changes when an Inform is built. Owned by the Run goroutine.
type eventQueue struct {
	list []event
	next uint64
}

// add queues an event and reports whether it is new; a single-type event that is queued already is the same event
// (EVT-07: "2 PERIODIC" once, not three times).
func (q *eventQueue) add(code, key string) bool {
	e := event{Code: code, Key: key}
	if !e.multiple() && slices.ContainsFunc(q.list, func(o event) bool { return o.Code == code && !o.inflight }) {
		return false
	}
	q.next++
	e.Seq = q.next
	if code == evBootstrap { // TR-069 3.7.1.5: drops every other undelivered event; a boot that happened stays true
		q.list = slices.DeleteFunc(q.list, func(o event) bool { return o.Code != evBoot })
	}
	q.list = append(q.list, e)
	if len(q.list) > maxQueuedEvents {
		i := slices.IndexFunc(q.list, event.multiple)
		q.list = slices.Delete(q.list, max(i, 0), max(i, 0)+1)
	}
	return true
}

// caused queues what the ACS sees of a cause; M events carry the key.
func (q *eventQueue) caused(c bridge.Cause, key string) {
	for _, code := range bridge.Told(c).Inform {
		switch {
		case strings.HasPrefix(code, "M "):
			q.add(code, key)
		case code != evBoot: // every start has its own
			q.add(code, "")
		}
	}
}

func (q *eventQueue) has(code string) bool {
	return slices.ContainsFunc(q.list, func(e event) bool { return e.Code == code })
}

// drop removes events by what they are.
func (q *eventQueue) drop(match func(event) bool) bool {
	n := len(q.list)
	q.list = slices.DeleteFunc(q.list, match)
	return len(q.list) != n
}

// freeze gives the list for one Inform: sorted as the table is, single events first, at most 64 entries, the oldest M entries
// left out when there are more. INF-11
func (q *eventQueue) freeze(valueChange bool) []event {
	for i := range q.list {
		q.list[i].inflight = true
	}
	list := slices.Clone(q.list)
	if valueChange {
		list = append(list, event{Code: evValueChange})
	}
	sort.SliceStable(list, func(i, j int) bool { return eventOrder(list[i].Code) < eventOrder(list[j].Code) })
	for len(list) > maxInformEvents {
		i := slices.IndexFunc(list, event.multiple)
		if i < 0 {
			return list[:maxInformEvents]
		}
		list = slices.Delete(list, i, i+1)
	}
	return list
}

// eventOrder is the number before the blank; M and vendor events come after the numbered ones.
func eventOrder(code string) int {
	n := 0
	for i := 0; i < len(code) && code[i] >= '0' && code[i] <= '9'; i++ {
		n = n*10 + int(code[i]-'0')
	}
	if n == 0 && !strings.HasPrefix(code, "0") {
		return 1000
	}
	return n
}

// informed takes off what an acknowledged Inform has delivered.
func (q *eventQueue) informed(delivered []event) {
	q.drop(func(e event) bool {
		return !e.needsOwnResponse() && slices.ContainsFunc(delivered, func(d event) bool { return d.Seq == e.Seq && d.Seq != 0 })
	})
}

// thaw ends an Inform that was not acknowledged, or a session: nothing is in flight any more, and a single event that arose
// twice meanwhile is one.
func (q *eventQueue) thaw() {
	seen := map[string]bool{}
	for i := 0; i < len(q.list); i++ {
		q.list[i].inflight = false
		if e := q.list[i]; !e.multiple() {
			if seen[e.Code] {
				q.list = slices.Delete(q.list, i, i+1)
				i--
			}
			seen[e.Code] = true
		}
	}
}

// persistent is the part of the queue that is written to the store.
func (q *eventQueue) persistent() []event {
	var out []event
	for _, e := range q.list {
		if e.persistent() {
			out = append(out, e)
		}
	}
	return out
}

// restore fills the queue after a restart.
func (q *eventQueue) restore(list []event) {
	q.list = q.list[:0]
	for _, e := range list {
		if len(q.list) < maxQueuedEvents && len(e.Code) <= 64 {
			q.next = max(q.next, e.Seq)
			q.list = append(q.list, e)
		}
	}
}
