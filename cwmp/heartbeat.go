package cwmp

import (
	"strconv"
	"time"

	"twinspan/datamodel"
)

// minHeartbeat is the shortest ReportingInterval (TR-181 HeartbeatPolicy). HBT-02
const minHeartbeat = 30 * time.Second

// heartbeatPolicy is Device.ManagementServer.HeartbeatPolicy.
type heartbeatPolicy struct {
	enabled   bool
	interval  time.Duration
	reference time.Time
}

func readHeartbeat(get func(name, fallback string) string) heartbeatPolicy {
	seconds, _ := strconv.ParseUint(get("HeartbeatPolicy.ReportingInterval", "0"), 10, 32)
	return heartbeatPolicy{enabled: get("HeartbeatPolicy.Enable", "false") == "true", interval: time.Duration(seconds) * time.Second,
		reference: knownTime(get("HeartbeatPolicy.InitiationTime", ""))}
}

// configureHeartbeat takes the policy over; the moments follow the rule of the periodic Inform (TR-069 Annex O).
func (c *CPE) configureHeartbeat(now time.Time, first bool) {
	p := c.set.heartbeat
	c.heartbeat.configure(now, p.enabled && p.interval >= minHeartbeat, p.interval, p.reference, first, c.random())
	if !c.heartbeat.enabled {
		c.beat = false
	}
}

// heartbeatDue reports whether a session for "14 HEARTBEAT" alone starts now. It waits for whatever else is to be told, and as
// long as other sessions fail: a heartbeat must not add to that. HBT-03
func (c *CPE) heartbeatDue(now time.Time) bool {
	if c.heartbeat.due(now) && c.set.enabled {
		c.beat = true
	}
	return c.beat && !c.wanted && !c.activeNew && c.retryAt.IsZero()
}

// freezeHeartbeat gives the Inform of a heartbeat: no other event, no changes, nothing to deliver.
func (c *CPE) freezeHeartbeat() sessionJob {
	return sessionJob{heartbeat: true, events: []event{{Code: evHeartbeat}}, retryCount: c.failures, offer: c.offer}
}

// checkHeartbeat refuses an interval that would be ignored.
func checkHeartbeat(path, value string) error {
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil || time.Duration(n)*time.Second < minHeartbeat {
		return datamodel.Fail(datamodel.InvalidValue, path, "30 seconds at least")
	}
	return nil
}
