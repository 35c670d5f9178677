package agent

import (
	"sync"
	"time"

	"twinspan/bridge"
	"twinspan/usp"
	"twinspan/usp/mtp"
	"twinspan/usp/uspmsg"
)

// maxLinks bounds the links whose birth is remembered; beyond it all count as old.
const maxLinks = 4096

// linkTable knows since when each link is up, and which Controllers are at the other end of one.
type linkTable struct {
	mu sync.Mutex
	m  map[uint64]linkBirth
}

type linkBirth struct {
	at   time.Time
	peer string // Endpoint ID at the other end; "" behind a broker or unknown
}

func (t *linkTable) state(s mtp.State, peer string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case s.LinkID == 0:
	case !s.Up:
		delete(t.m, s.LinkID)
	default:
		if t.m == nil || len(t.m) >= maxLinks {
			t.m = map[uint64]linkBirth{}
		}
		t.m[s.LinkID] = linkBirth{time.Now(), peer}
	}
}

func (t *linkTable) birth(id uint64) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.m[id].at
}

func (t *linkTable) peers() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for _, l := range t.m {
		if l.peer != "" {
			out = append(out, l.peer)
		}
	}
	return out
}

// InContact reports whether an enabled Controller of class main is at the other end of a link. Behind a broker nobody
// can tell; what such a Controller sends is observed instead.
func (a *Agent) InContact() bool {
	for _, eid := range a.links.peers() {
		if c := a.controllers().byID[eid]; c == nil || !c.enabled {
			continue
		}
		if p := a.knownPeer(eid); p != nil && !p.local && p.writer().Class == bridge.ClassMain {
			return true
		}
	}
	return false
}

// seenEvery bounds how often one Controller's records are observed.
const seenEvery = 100 * time.Millisecond

// saw tells the bridge that a Controller was heard.
func (p *peer) saw() {
	if p.local {
		return
	}
	p.mu.Lock()
	due := time.Since(p.seen) >= seenEvery
	if due {
		p.seen = time.Now()
	}
	p.mu.Unlock()
	if due {
		w := p.writer()
		p.a.engine.Observe(bridge.Observation{Kind: bridge.SawController, Writer: w.Name, Class: w.Class, OK: true})
	}
}

// judged tells the bridge how a request of a Controller ended; m is nil for one that was answered as it wanted.
func (r *request) judged(m *uspmsg.Msg, write bool) {
	if r.p.local {
		return
	}
	o := bridge.Observation{Kind: bridge.SawRequest, Writer: r.w.Name, Class: r.w.Class}
	code := m.GetBody().GetError().GetErrCode()
	o.OK = code != usp.CodeInternal && code != usp.CodeResourcesExceeded
	r.a.engine.Observe(o)
	if write {
		o.Kind, o.OK = bridge.SawWrite, code == 0 && !notDone(m.GetBody().GetResponse())
		r.a.engine.Observe(o)
	}
}

// notDone reports whether a response has something that was not done.
func notDone(resp *uspmsg.Response) bool {
	for _, u := range resp.GetSetResp().GetUpdatedObjResults() {
		if u.GetOperStatus().GetOperFailure() != nil {
			return true
		}
	}
	for _, u := range resp.GetAddResp().GetCreatedObjResults() {
		if u.GetOperStatus().GetOperFailure() != nil {
			return true
		}
	}
	for _, u := range resp.GetDeleteResp().GetDeletedObjResults() {
		if u.GetOperStatus().GetOperFailure() != nil {
			return true
		}
	}
	return false
}

// notified tells the bridge what became of a notification that wanted an answer.
func (o *outbox) notified(n *note, ok bool) {
	if o.direct != nil || !n.retry || n.onboard || o.a.engine == nil {
		return
	}
	ob := bridge.Observation{Kind: bridge.SawNotify, Writer: "usp:" + o.endpoint, OK: ok}
	if !n.first.IsZero() { // the answer can overtake the end of Send
		ob.Delay = time.Since(n.first)
	}
	o.a.engine.Observe(ob)
}
