package agent

import (
	"sync"
	"time"

	"twinspan/usp/mtp"
)

// strangerLimit is how long the link of a peer that nobody knows may be there without a believed record.
const strangerLimit = 30 * time.Second

// tofuTable ends links of peers that nobody knows and that send no believed record: of self-signed ones whenever
// TOFUInactivityTimer is over, of others when strangerLimit is.
type tofuTable struct {
	mu    sync.Mutex
	links map[uint64]*tofuLink
}

type tofuLink struct {
	after time.Duration
	once  bool // one believed record is enough
	timer *time.Timer
}

// strangerTime is how long the link of a self-signed peer may be silent; 0: as long as it likes.
func (a *Agent) strangerTime(id mtp.Identity, c *controller, refused error) time.Duration {
	if !id.Unverified || c != nil && refused == nil || a.judge(id.Chain).link {
		return 0
	}
	return reader{v: a.store.Head(), s: a.schema}.seconds(trustPath + "TOFUInactivityTimer")
}

// watch begins the time of a link.
func (t *tofuTable) watch(s mtp.State, after time.Duration) {
	if s.Close == nil {
		return
	}
	once := after <= 0
	if once {
		after = strangerLimit
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.links == nil {
		t.links = map[uint64]*tofuLink{}
	}
	t.links[s.LinkID] = &tofuLink{after: after, once: once, timer: time.AfterFunc(after, func() { s.Close("no USP traffic") })}
}

// heard begins the time anew.
func (t *tofuTable) heard(link uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch l := t.links[link]; {
	case l == nil:
	case l.once:
		l.timer.Stop()
		delete(t.links, link)
	default:
		l.timer.Reset(l.after)
	}
}

// forget is for a link that ended.
func (t *tofuTable) forget(link uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.links[link]; l != nil {
		l.timer.Stop()
		delete(t.links, link)
	}
}
