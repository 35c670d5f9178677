package agent

import (
	"strings"
	"sync"
)

// linkStatus is what is visible of a transport.
type linkStatus struct {
	wanted   bool
	up       bool
	failed   bool // cannot work as configured
	reason   string
	topic    string
	clientID string
	client   string // row of Device.MQTT.Client.
	retries  int
}

// mtp is Device.LocalAgent.MTP.{i}.Status.
func (s linkStatus) mtp() string {
	switch {
	case s.up:
		return "Up"
	case s.failed:
		return "Error"
	}
	return "Down"
}

// clientStatus is Device.MQTT.Client.{i}.Status.
func (s linkStatus) clientStatus(used, enabled bool) string {
	switch {
	case !enabled:
		return "Disabled"
	case !used || s.failed:
		return "Error_Misconfigured"
	case s.up:
		return "Connected"
	case s.retries > 0:
		return "Error_BrokerUnreachable"
	}
	return "Connecting"
}

// statusTable is read by the provider and written by transports and the manager.
type statusTable struct {
	mu sync.Mutex
	m  map[string]*linkStatus
}

func (t *statusTable) get(key string) linkStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.m[key]; s != nil {
		return *s
	}
	return linkStatus{}
}

func (t *statusTable) update(key string, fn func(*linkStatus)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.m[key]; s != nil {
		fn(s)
	}
}

// client finds the transport that uses a row of Device.MQTT.Client.
func (t *statusTable) client(row string) (linkStatus, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.m {
		if s.client == row && row != "" {
			return *s, true
		}
	}
	return linkStatus{}, false
}

// reset keeps entries for what is wanted and for what cannot be.
func (t *statusTable) reset(w wanted) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.m
	t.m = map[string]*linkStatus{}
	for key, s := range w.specs {
		st := old[key]
		if st == nil {
			st = &linkStatus{}
		}
		st.wanted, st.client = true, s.MQTT.Client
		t.m[key] = st
	}
	for row, why := range w.problems {
		t.m[row] = &linkStatus{failed: true, reason: why}
	}
}

// Problems tells why a configured transport does not run, for health reports: row of the tree -> sentence.
func (a *Agent) Problems() map[string]string {
	a.status.mu.Lock()
	defer a.status.mu.Unlock()
	out := map[string]string{}
	for key, s := range a.status.m {
		if !s.up && s.reason != "" {
			out[strings.TrimSuffix(key, ".")] = s.reason
		}
	}
	return out
}
