package agent

import (
	"sync"
	"time"

	"twinspan/usp/mtp"
)

// tofuTable ends links of unknown self-signed peers that send no believed record for TOFUInactivityTimer.
type tofuTable struct {
	mu    sync.Mutex
	links map[uint64]*tofuLink
}

type tofuLink struct {
	after time.Duration
	timer *time.Timer
}

// strangerTime is how long the link of a peer may be silent; 0: as long as it likes.
func (a *Agent) strangerTime(id mtp.Identity, c *controller, refused error) time.Duration {
	if !id.Unverified || c != nil && refused == nil || a.judge(id.Chain).link {
		return 0
	}
	return reader{v: a.store.Head(), s: a.schema}.seconds(trustPath + "TOFUInactivityTimer")
}

// watch begins the time of a link.
func (t *tofuTable) watch(s mtp.State, after time.Duration) {
	if after <= 0 || s.Close == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.links == nil {
		t.links = map[uint64]*tofuLink{}
	}
	t.links[s.LinkID] = &tofuLink{after: after, timer: time.AfterFunc(after, func() { s.Close("no USP traffic") })}
}

// heard begins the time anew.
func (t *tofuTable) heard(link uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.links[link]; l != nil {
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
