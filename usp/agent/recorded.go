package agent

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
)

// What a Controller was answered about an asynchronous command must come true even if the power fails: it is told how the
// command ended. A record is written before the command is answered, becomes its result when it ends, and goes when those
// who are subscribed have been told. A restart ends what still runs; ScheduleTimer() has records of its own.

const (
	commandBucket = "usp/commands"
	// maxRecorded bounds the records; commands over it run, and are forgotten at a restart.
	maxRecorded = 96
	// maxRecordedBytes bounds one record. A larger result is not told after a restart.
	maxRecordedBytes = 64 << 10
	// recordLook is how often it is looked whether all were told.
	recordLook = time.Second
)

// recordedCommand is the record of a command that runs, or has ended and is not told yet.
type recordedCommand struct {
	Path       string            `json:"path"`
	Key        string            `json:"key,omitempty"`
	Originator string            `json:"originator"`
	Cause      string            `json:"cause"`
	Input      map[string]string `json:"input,omitempty"` // what TransferComplete! tells of it
	Start      time.Time         `json:"start"`
	End        time.Time         `json:"end,omitzero"` // zero: it runs
	Failed     bool              `json:"failed,omitempty"`
	Reason     datamodel.Reason  `json:"reason,omitempty"`
	Text       string            `json:"text,omitempty"`
	Output     map[string]string `json:"output,omitempty"`
}

// record makes a command that is about to be answered durable; "" if there is no room for that.
func (a *Agent) record(ctx context.Context, c *recordedCommand) string {
	n := 0
	_ = a.store.Records(commandBucket, func(string, []byte) bool { n++; return true })
	key := a.runID + rand.Text()[:8]
	if n >= maxRecorded || !a.putCommand(ctx, key, c) {
		a.opt.Log.Warn("usp_command_not_recorded", "command", c.Path)
		return ""
	}
	return key
}

// ended makes the result of a command durable and returns its record's key; "" if it has none.
func (a *Agent) ended(key string, req *asyncRequest, ev *bridge.Event) string {
	if key == "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), a.opt.Limits.RequestTime)
	defer cancel()
	c := &recordedCommand{Path: ev.Path, Key: req.key, Originator: req.originator, Cause: ev.Cause, Input: forTransfer(ev.Input), Start: ev.Start,
		End: time.Now(), Output: ev.Args}
	if ev.Err != nil {
		var e *datamodel.Error
		c.Failed, c.Output = true, nil
		if errors.As(ev.Err, &e) {
			c.Reason, c.Text = e.Reason, e.Text
		}
	}
	if a.putCommand(ctx, key, c) {
		return key
	}
	a.putCommand(ctx, key, nil) // better nothing than a failure that was none
	return ""
}

// forTransfer keeps what TransferComplete! tells of a command's arguments.
func forTransfer(args map[string]string) map[string]string {
	out := map[string]string{}
	for _, name := range []string{"URL", "FileSize", "TargetFileName", "CheckSum", "CheckSumAlgorithm"} {
		if v := args[name]; v != "" {
			out[name] = v
		}
	}
	if i := strings.IndexAny(out["URL"], "?#"); i >= 0 { // may hold what is secret
		out["URL"] = out["URL"][:i]
	}
	return out
}

// putCommand writes a record, or removes it when c is nil.
func (a *Agent) putCommand(ctx context.Context, key string, c *recordedCommand) bool {
	var data []byte
	if c != nil {
		var err error
		if data, err = json.Marshal(c); err != nil || len(data) > maxRecordedBytes {
			return false
		}
	}
	_, err := a.engine.Apply(ctx, a.system, bridge.Change{Atomic: true, Ref: "command",
		Records: []bridge.Record{{Bucket: commandBucket, Key: key, Data: data}}})
	if err != nil {
		a.opt.Log.Error("usp_command_record_not_written", "error", err.Error())
	}
	return err == nil
}

// Recover tells how the commands of before the restart ended: those that ran then have failed, and what had ended without
// everybody's having been told is told again, to Controllers only. Call it once after Start, when all who follow the engine's
// events do.
func (a *Agent) Recover(ctx context.Context) {
	found := map[string]*recordedCommand{}
	err := a.store.Records(commandBucket, func(key string, data []byte) bool {
		c := &recordedCommand{}
		if err := json.Unmarshal(data, c); err != nil {
			a.opt.Log.Error("usp_command_record_unreadable", "key", key, "error", err.Error())
			return true
		}
		if !strings.HasPrefix(key, a.runID) { // else it is of this run
			found[key] = c
		}
		return true
	})
	if err != nil {
		a.opt.Log.Error("usp_commands_not_recovered", "error", err.Error())
	}
	for key, c := range found {
		tell := a.inject
		if c.End.IsZero() {
			c.End, c.Failed, c.Reason, c.Text = time.Now(), true, datamodel.CommandFailed, "the agent was restarted before the command ended"
			if !a.putCommand(ctx, key, c) {
				continue
			}
			tell = a.engine.Emit
		}
		ev := bridge.Event{Path: c.Path, Args: c.Output, Cause: c.Cause, Input: c.Input, Start: c.Start, Time: c.End, Record: key}
		if c.Failed {
			ev.Err = &datamodel.Error{Reason: c.Reason, Path: c.Path, Text: c.Text}
		}
		a.tellEnd(tell, &asyncRequest{originator: c.Originator, command: c.Path, key: c.Key}, ev)
	}
}

// telling is a record whose events are on their way to those who are subscribed. Owned by the notifier.
type telling struct {
	all   bool // no further event follows
	notes []told
}

type told struct {
	out   *outbox
	msgID string
}

// told looks which records have done their work and removes them.
func (n *notifier) told() (wait time.Duration) {
	for key, t := range n.tells {
		left := t.notes[:0]
		for _, m := range t.notes {
			if m.out.has(m.msgID) {
				left = append(left, m)
			}
		}
		if t.notes = left; len(left) > 0 || !t.all {
			continue
		}
		delete(n.tells, key)
		n.a.later(func(ctx context.Context) { n.a.putCommand(ctx, key, nil) })
	}
	if len(n.tells) == 0 {
		return time.Hour
	}
	return recordLook
}

// has reports whether a notification still waits to be sent or answered.
func (o *outbox) has(msgID string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false
	}
	for _, list := range [][]*note{o.queue, o.waiting} {
		for _, n := range list {
			if n.msgID == msgID {
				return true
			}
		}
	}
	return o.hand != nil && o.hand.msgID == msgID
}
