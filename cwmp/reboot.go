package cwmp

import (
	"context"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
)

// Restarts: by RPC, and by the parameters DelayReboot and ScheduleReboot (TR-181 ManagementServer). All of them wait for the
// end of the session; only the RPC has an "M Reboot" event.

// armReboot takes DelayReboot and ScheduleReboot over. A delay counts from the end of the session that set it. At a start
// (first) a delay of before is done: it reads -1 after the restart.
func (c *CPE) armReboot(ctx context.Context, old settings, now time.Time, first bool) {
	if first {
		if c.set.delayReboot >= 0 {
			c.set.delayReboot = -1
			c.putSystem(ctx, msPath+"DelayReboot", "-1")
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
		c.putSystem(ctx, msPath+"DelayReboot", "-1")
	}
	c.rebootAt, c.scheduledAt = time.Time{}, time.Time{}
	c.restart = &RestartCause{Kind: RestartReboot}
}

// putSystem sets a parameter, by its path in CWMP's spelling, as the device itself.
func (c *CPE) putSystem(ctx context.Context, path, value string) {
	object, name := datamodel.SplitParam(path)
	res, err := c.e.Apply(ctx, systemWriter, bridge.Change{Atomic: true, Ref: "cpe", Ops: []bridge.Op{{Kind: bridge.OpSet, Path: object,
		Settings: []bridge.Setting{{Name: name, Value: value, Required: true}}}}})
	if err := changeError(res, err); err != nil {
		c.log.Warn("parameter cannot be set", "path", path, "error", err)
	}
}

// queueReboot makes the restart certain before the answer leaves (RB-01, RB-02).
func (c *CPE) queueReboot(ctx context.Context, key string) error {
	before := append([]event(nil), c.queue.list...)
	c.queue.caused(bridge.CauseRebootRPC, key)
	if err := c.save(ctx); err != nil {
		c.queue.list = before
		return err
	}
	if c.restart == nil {
		c.restart = &RestartCause{Kind: RestartReboot, CommandKey: key}
	}
	return nil
}

func (c *CPE) queueFactoryReset() error {
	c.reset = true
	c.restart = &RestartCause{Kind: RestartFactoryReset}
	return nil
}

// restartIfDue restarts the device when a session has asked for it and is over (TR-069 A.3.2.9).
func (c *CPE) restartIfDue(ctx context.Context, now time.Time) error {
	if c.restart == nil || c.running != nil {
		return nil
	}
	if !c.restartAsked.IsZero() { // a Rebooter is at work
		if now.Sub(c.restartAsked) > restartGrace {
			c.log.Error("restart did not happen")
			c.restart, c.restartAsked = nil, time.Time{}
		}
		return nil
	}
	cause := *c.restart
	if c.reset {
		c.reset = false
		if err := c.e.FactoryReset(ctx, acsWriter); err != nil { // FR-01, FR-02: the records go with the tree
			c.log.Error("factory reset failed", "error", err)
			c.restart = nil
			return nil
		}
		c.halted = true
	}
	if c.o.Rebooter == nil {
		return &RestartError{Cause: cause}
	}
	c.restartAsked = now
	if err := c.o.Rebooter.Restart(ctx, cause); err != nil {
		c.log.Error("restart failed", "error", err)
		if cause.Kind == RestartFactoryReset { // the records are gone: begin anew in place
			return &RestartError{Cause: cause}
		}
		c.restart, c.restartAsked = nil, time.Time{}
	}
	return nil
}
