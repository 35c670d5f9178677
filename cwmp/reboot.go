package cwmp

import (
	"context"
	"time"

	"twinspan/bridge"
)

// Restarts: by RPC, and by the parameters DelayReboot and ScheduleReboot (TR-181 ManagementServer). All of them wait for the
// end of the session; only the RPC has an "M Reboot" event.

// armReboot takes DelayReboot and ScheduleReboot over. A delay counts from the end of the session that set it. At a start
// (first) a delay of before is done: it reads -1 after the restart.
func (c *CPE) armReboot(ctx context.Context, old settings, now time.Time, first bool) {
	if first {
		if c.set.delayReboot >= 0 {
			c.set.delayReboot = -1
			c.putSystem(ctx, "DelayReboot", "-1")
		}
	} else if c.set.delayReboot != old.delayReboot {
		c.rebootAt = time.Time{}
		if c.set.delayReboot >= 0 {
			c.rebootAt = now.Add(time.Duration(c.set.delayReboot) * time.Second)
		}
	}
	if first || !c.set.scheduleReboot.Equal(old.scheduleReboot) {
		c.scheduledAt = time.Time{}
		if c.set.scheduleReboot.After(now) { // a time that has passed asks for nothing
			c.scheduledAt = c.set.scheduleReboot
		}
	}
}

// rebootDue turns a due order into a restart.
func (c *CPE) rebootDue(ctx context.Context, now time.Time) {
	due := func(at time.Time) bool { return !at.IsZero() && !now.Before(at) }
	if c.running != nil || c.restart != nil || !due(c.rebootAt) && !due(c.scheduledAt) {
		return
	}
	if due(c.rebootAt) {
		c.set.delayReboot = -1
		c.putSystem(ctx, "DelayReboot", "-1")
	}
	c.rebootAt, c.scheduledAt = time.Time{}, time.Time{}
	c.restart = &RestartCause{Kind: RestartReboot}
}

// putSystem sets a parameter of Device.ManagementServer. as the device itself.
func (c *CPE) putSystem(ctx context.Context, name, value string) {
	res, err := c.e.Apply(ctx, systemWriter, bridge.Change{Atomic: true, Ref: "cpe", Ops: []bridge.Op{{Kind: bridge.OpSet, Path: msPath,
		Settings: []bridge.Setting{{Name: name, Value: value, Required: true}}}}})
	if err := changeError(res, err); err != nil {
		c.log.Warn("parameter cannot be set", "name", name, "error", err)
	}
}
