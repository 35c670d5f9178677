package cwmp

import "time"

// nextPeriodic is the next moment of a periodic Inform strictly after now: reference + n*interval, reference in the past or
// in the future (TR-181 ManagementServer.PeriodicInformTime; PER-02, PER-03). interval must be positive.
func nextPeriodic(now, reference time.Time, interval time.Duration) time.Time {
	since := now.Sub(reference)
	// Sub saturates at 292 years; such references are refused before (unknown time) or are in practice impossible.
	n := since / interval
	if since < 0 && since%interval != 0 {
		n-- // floor, not truncation
	}
	return reference.Add((n + 1) * interval)
}

// periodic is the schedule of "2 PERIODIC". The zero value is off. Owned by the Run goroutine.
type periodic struct {
	enabled   bool
	interval  time.Duration
	reference time.Time // zero: free phase
	at        time.Time // next moment; zero when off
}

// configure takes new settings over. With a free phase a new interval counts from now, and the first moment after a start
// (first=true) is random within the interval, so that a fleet that was switched on together spreads. PER-01
func (p *periodic) configure(now time.Time, enabled bool, interval time.Duration, reference time.Time, first bool, random float64) {
	if p.enabled == enabled && p.interval == interval && p.reference.Equal(reference) && !first {
		return
	}
	p.enabled, p.interval, p.reference = enabled && interval > 0, interval, reference
	switch {
	case !p.enabled:
		p.at = time.Time{}
	case !reference.IsZero():
		p.at = nextPeriodic(now.Round(0), reference, interval)
	case first:
		p.at = now.Add(time.Duration(float64(interval) * (1 - random))) // in (0, interval]
	default:
		p.at = now.Add(interval)
	}
}

// due reports whether the moment has come and sets the next one. Moments that were missed (a suspended machine, a stepped
// clock) give one event, not a burst; a clock that went back does not stall the schedule. PER-07
func (p *periodic) due(now time.Time) bool {
	if p.at.IsZero() {
		return false
	}
	if !p.reference.IsZero() {
		now = now.Round(0) // wall clock: the phase is absolute
		if p.at.Sub(now) > p.interval {
			p.at = nextPeriodic(now, p.reference, p.interval)
		}
		if now.Before(p.at) {
			return false
		}
		p.at = nextPeriodic(now, p.reference, p.interval)
		return true
	}
	if now.Before(p.at) {
		return false
	}
	late := now.Sub(p.at)
	p.at = p.at.Add((late/p.interval + 1) * p.interval)
	return true
}
