package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
)

// Device.ScheduleTimer() is the one command here that outlives a restart: the model wants it. What must be known
// afterwards is a record beside the journal; the time is that of the clock.

const (
	timerBucket  = "usp/timers"
	timerCommand = "Device.ScheduleTimer()"
)

// timer is the record of a running ScheduleTimer().
type timer struct {
	Due        time.Time `json:"due"`
	Originator string    `json:"originator"`
	Key        string    `json:"key"`
	Delay      uint32    `json:"delay"` // seconds that were asked for
}

// outlives reports whether a command goes on after a restart of the agent.
func (a *Agent) outlives(path string) bool { return path == timerCommand }

// recorded is a timer whose record was written before the command was answered.
type recorded struct {
	id  string
	due time.Time
}

type recordedKey struct{}

// recordTimer makes a ScheduleTimer() durable.
func (a *Agent) recordTimer(ctx context.Context, originator, commandKey, delay string) (recorded, error) {
	n, err := strconv.ParseUint(delay, 10, 32)
	if err != nil {
		return recorded{}, datamodel.Fail(datamodel.InvalidArgs, timerCommand, "DelaySeconds is not a number")
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	t := timer{Due: time.Now().Add(time.Duration(n) * time.Second), Originator: originator, Key: commandKey, Delay: uint32(n)}
	data, err := json.Marshal(t)
	if err != nil {
		return recorded{}, err
	}
	rec := recorded{id: hex.EncodeToString(id[:]), due: t.Due}
	return rec, a.putTimer(ctx, rec.id, data)
}

// scheduleTimer carries ScheduleTimer() out. It was recorded before the Controller got its answer; only a caller of
// another kind has that done here.
func (a *Agent) scheduleTimer(ctx context.Context, delay string) error {
	rec, ok := ctx.Value(recordedKey{}).(recorded)
	if !ok {
		endpoint, key, _ := Caller(ctx)
		var err error
		if rec, err = a.recordTimer(ctx, endpoint, key, delay); err != nil {
			return err
		}
	}
	return a.waitTimer(ctx, rec.id, rec.due)
}

// waitTimer waits until a timer is due and removes its record, unless the agent stops before.
func (a *Agent) waitTimer(ctx context.Context, key string, due time.Time) error {
	var err error
	for left := time.Until(due); left > 0 && err == nil; left = time.Until(due) {
		t := time.NewTimer(min(left, clockLook)) // a timer that was resumed goes by the clock, which may be set meanwhile
		select {
		case <-t.C:
		case <-ctx.Done():
			err = ctx.Err()
		}
		t.Stop()
	}
	if a.stopping() {
		return err // resumeTimers finds it again
	}
	c, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.opt.Limits.RequestTime)
	defer cancel()
	if e := a.putTimer(c, key, nil); e != nil {
		a.opt.Log.Warn("usp_timer_record_not_removed", "error", e.Error())
	}
	return err
}

func (a *Agent) putTimer(ctx context.Context, key string, data []byte) error {
	_, err := a.engine.Apply(ctx, a.system, bridge.Change{Atomic: true, Ref: "timer",
		Records: []bridge.Record{{Bucket: timerBucket, Key: key, Data: data}}})
	return err
}

// stopping reports whether the agent is on its way down.
func (a *Agent) stopping() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || a.base == nil {
		return true
	}
	_, runs := a.base()
	return !runs
}

// resumeTimers goes on with what ran before the restart. A timer that is overdue ends at once.
func (a *Agent) resumeTimers() {
	err := a.store.Records(timerBucket, func(key string, data []byte) bool {
		var t timer
		if err := json.Unmarshal(data, &t); err != nil {
			a.opt.Log.Error("usp_timer_record_unreadable", "key", key, "error", err.Error())
			return true
		}
		req, err := a.requests.begin(t.Originator, timerCommand, t.Key)
		if err != nil {
			a.opt.Log.Error("usp_timer_not_resumed", "key", key, "error", err.Error())
			return true
		}
		a.spawn("command", func(base context.Context) {
			ctx, cancel := context.WithCancel(base)
			defer cancel()
			req.activate(cancel)
			// A clock that stands before the time of the command was lost with the power: the whole delay is the most.
			due := t.Due
			if most := time.Now().Add(time.Duration(t.Delay) * time.Second); t.Delay > 0 && due.After(most) {
				due = most
			}
			err := a.waitTimer(ctx, key, due)
			if base.Err() != nil {
				return
			}
			if err != nil {
				err = datamodel.Fail(datamodel.CommandCanceled, timerCommand, "")
			}
			a.complete(req, bridge.Event{Path: timerCommand, Cause: "usp:" + t.Originator, Err: err})
		})
		return true
	})
	if err != nil {
		a.opt.Log.Error("usp_timers_not_resumed", "error", err.Error())
	}
}
