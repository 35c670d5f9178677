package migration

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"twinspan/bridge"
)

// KPI names one figure.
type KPI string

// The KPIs. Ratios are 0 to 1; delays are seconds.
const (
	KPISession    KPI = "usp_session"     // share of the time in which a main Controller was in contact
	KPIRequests   KPI = "usp_req_ok"      // share of requests not answered by 7003 or 7005
	KPIDelay      KPI = "notify_delay"    // p99 from sending a notification to its answer
	KPILost       KPI = "notify_lost"     // share of notifications given up
	KPICWMP       KPI = "cwmp_session"    // share of CWMP sessions that ended well
	KPIConflicts  KPI = "conflict_rate"   // refused leaves to written leaves
	KPIShadow     KPI = "shadow_diff"     // share of USP writes refused
	KPIDamped     KPI = "damped"          // leaves frozen now
	KPIProjection KPI = "projection_diff" // leaves that the two views do not show alike
	KPICoverage   KPI = "coverage"        // share of the ACS's leaves that USP has asserted too
	KPIAgreement  KPI = "agreement"       // share of those asserted by both that agree
	KPIUnapplied  KPI = "unapplied"       // seconds for which committed changes have waited for the device
	KPIOps        KPI = "usp_ops"         // commands of Controllers that succeeded
	KPIReboots    KPI = "reboots"         // restarts since the phase was entered
)

// kpis in the order of the table.
var kpis = []KPI{KPISession, KPIRequests, KPIDelay, KPILost, KPICWMP, KPIConflicts, KPIShadow, KPIDamped, KPIProjection,
	KPICoverage, KPIAgreement, KPIUnapplied, KPIOps, KPIReboots}

// slots is how many steps a window has at most.
const slots = 120

// delays are the upper ends of the steps in which delays are counted, in seconds.
var delays = [...]float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 300}

// slot is what was seen in one step of time.
type slot struct {
	Good  uint32               `json:"g,omitempty"`
	Total uint32               `json:"t,omitempty"`
	Delay *[len(delays)]uint32 `json:"d,omitempty"`
}

// ring counts one figure over time.
type ring [slots]slot

// meters are the figures that are counted by what happens. Safe for concurrent use.
type meters struct {
	mu      sync.Mutex
	step    time.Duration // of one slot
	rings   map[KPI]*ring
	at      int           // slot that is being filled
	filled  time.Duration // of it
	seen    time.Duration // how long has been watched in all
	contact time.Time     // newest sign of a main Controller
	acsDown bool
	session time.Time // end of the newest CWMP session
}

func newMeters(longest time.Duration) *meters {
	m := &meters{step: max(longest/slots, 10*time.Millisecond), rings: map[KPI]*ring{}}
	for _, k := range []KPI{KPISession, KPIRequests, KPIDelay, KPILost, KPICWMP, KPIConflicts, KPIShadow, KPIOps} {
		m.rings[k] = new(ring)
	}
	return m
}

// count adds to a figure; with mu held.
func (m *meters) count(k KPI, good, total uint32) {
	s := &m.rings[k][m.at]
	s.Good += good
	s.Total += total
}

func one(ok bool) uint32 {
	if ok {
		return 1
	}
	return 0
}

// observe takes in what a head saw.
func (m *meters) observe(o bridge.Observation, shadow bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch o.Kind {
	case bridge.SawController:
		if o.Class == bridge.ClassMain {
			m.contact = time.Now()
		}
	case bridge.SawRequest:
		m.count(KPIRequests, one(o.OK), 1)
	case bridge.SawWrite:
		if shadow {
			m.count(KPIShadow, one(!o.OK), 1)
		}
	case bridge.SawNotify:
		m.count(KPILost, one(!o.OK), 1)
		if o.OK {
			m.delay(o.Delay)
		}
	case bridge.SawSession:
		m.count(KPICWMP, one(o.OK), 1)
		m.acsDown, m.session = !o.OK, time.Now()
	case bridge.SawOperation:
		if strings.HasPrefix(o.Writer, "usp:") {
			m.count(KPIOps, one(o.OK), 1)
		}
	}
}

func (m *meters) delay(d time.Duration) {
	s := &m.rings[KPIDelay][m.at]
	if s.Delay == nil {
		s.Delay = new([len(delays)]uint32)
	}
	i := slices.IndexFunc(delays[:], func(end float64) bool { return d.Seconds() <= end })
	if i < 0 {
		i = len(delays) - 1
	}
	s.Delay[i]++
	s.Total++
}

// writes takes in what one journal entry says.
func (m *meters) writes(written, refused uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count(KPIConflicts, refused, written+refused)
}

// inContact reports whether a main Controller was heard within life.
func (m *meters) inContact(life time.Duration) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.contact.IsZero() && time.Since(m.contact) <= life
}

// pass lets time go on; it reports whether a slot was completed. Without a way to the outside (wan) nobody is missed.
func (m *meters) pass(d time.Duration, up, wan bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if up || wan {
		m.count(KPISession, one(up), 1)
	}
	m.filled += d
	m.seen += d
	if m.filled < m.step {
		return false
	}
	for ; m.filled >= m.step; m.filled -= m.step {
		m.at = (m.at + 1) % slots
		for _, r := range m.rings {
			r[m.at] = slot{}
		}
	}
	return true
}

// value is a figure over a window.
func (m *meters) value(k KPI, window time.Duration) (v float64, samples uint64, seen time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.rings[k]
	if r == nil {
		return 0, 0, m.seen
	}
	n := min(int((window+m.step-1)/m.step)+1, slots)
	var good, total uint64
	var hist [len(delays)]uint64
	for i := range n {
		s := &r[(m.at-i+slots)%slots]
		good += uint64(s.Good)
		total += uint64(s.Total)
		if s.Delay != nil {
			for j, c := range s.Delay {
				hist[j] += uint64(c)
			}
		}
	}
	switch {
	case k == KPIOps:
		return float64(good), total, m.seen
	case total == 0:
		return 0, 0, m.seen
	case k == KPIDelay:
		return p99(hist[:], total), total, m.seen
	}
	return float64(good) / float64(total), total, m.seen
}

// p99 is the upper end of the step in which the 99th percentile lies.
func p99(hist []uint64, total uint64) float64 {
	want := total - total/100
	var sum uint64
	for i, c := range hist {
		if sum += c; sum >= want {
			return delays[i]
		}
	}
	return delays[len(delays)-1]
}

// kept is the form in which the meters survive a restart.
type kept struct {
	Step  time.Duration `json:"step"`
	At    int           `json:"at"`
	Seen  time.Duration `json:"seen"`
	Rings map[KPI]*ring `json:"rings"`
}

// restore takes kept meters over, if they have the same steps.
func (m *meters) restore(k kept) {
	if k.Step != m.step || k.At < 0 || k.At >= slots || k.Seen < 0 {
		return
	}
	for name := range m.rings {
		if r := k.Rings[name]; r != nil {
			m.rings[name] = r
		}
	}
	m.at, m.seen = k.At, k.Seen
}

// format writes a figure the way it is shown everywhere.
func format(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }
