package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/store"
	"twinspan/usp/agent/subscribe"
)

// triggerPause is the shortest time between two times that one Subscription configures something: two of them that undo
// each other's work must not write to the flash for ever as fast as it can.
const triggerPause = time.Second

// triggerRef begins the reference of commits by TriggerConfigSettings.
const triggerRef = "trigger:"

// maxTriggerSettings is how many entries TriggerConfigSettings may have.
const maxTriggerSettings = 16

// triggerSettings reads TriggerConfigSettings: entries path=value separated by commas, where a value may be quoted and a path may
// be a search path.
func triggerSettings(text string) ([]bridge.Op, error) {
	var ops []bridge.Op
	entries := splitOutside(text, ',')
	if len(entries) > maxTriggerSettings {
		return nil, fmt.Errorf("%d settings, %d are allowed", len(entries), maxTriggerSettings)
	}
	for _, e := range entries {
		if e = strings.TrimSpace(e); e == "" {
			continue
		}
		parts := splitOutside(e, '=')
		path, value := strings.TrimSpace(parts[0]), strings.TrimSpace(strings.TrimPrefix(e, parts[0]+"="))
		dot := strings.LastIndexByte(path, '.') + 1
		if len(parts) < 2 || dot == 0 || dot == len(path) || !strings.HasPrefix(path, "Device.") {
			return nil, fmt.Errorf("%q is not of the form path=value", e)
		}
		if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
			value = value[1 : n-1]
		}
		s := bridge.Setting{Name: path[dot:], Value: value, Required: true}
		i := slices.IndexFunc(ops, func(o bridge.Op) bool { return o.Path == path[:dot] })
		if i < 0 {
			ops = append(ops, bridge.Op{Kind: bridge.OpSet, Path: path[:dot]})
			i = len(ops) - 1
		}
		ops[i].Settings = append(ops[i].Settings, s)
	}
	return ops, nil
}

// splitOutside splits at a separator that is neither in quotes nor in brackets.
func splitOutside(s string, sep byte) []string {
	var out []string
	start, depth, quoted := 0, 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[':
			depth++
		case c == ']' && depth > 0:
			depth--
		case c == sep && depth == 0:
			out = append(out, s[start:i])
			start = i + 1
		}
	}
	return append(out, s[start:])
}

// checkTrigger refuses settings that could never be applied, so that nobody believes they were set up.
func (r *request) checkTrigger(ops []bridge.Op) error {
	for _, op := range ops {
		if !within(trimLocalSub, literal(op.Path)) && !within(literal(op.Path), trimLocalSub) {
			continue
		}
		for _, s := range op.Settings {
			if s.Name != "TriggerConfigSettings" {
				continue
			}
			if _, err := triggerSettings(s.Value); err != nil {
				return datamodel.Fail(datamodel.InvalidValue, op.Path+s.Name, err.Error())
			}
		}
	}
	return nil
}

const trimLocalSub = "Device.LocalAgent.Subscription"

// readTrigger takes TriggerAction and TriggerConfigSettings of a row over. // TP-469 1.93, 1.94
func (r reader) readTrigger(row string, s *subscribe.Sub) {
	action := r.str(row + "TriggerAction")
	s.Silent = action == "Config"
	if action == "Config" || action == "NotifyAndConfig" {
		s.Settings = r.str(row + "TriggerConfigSettings")
		l, _ := r.v.Leaf(row + "TriggerConfigSettings")
		s.SettingsBy = l.Writer
	}
}

// bothRights are what each of two has.
type bothRights [2]bridge.Rights

func (b bothRights) Allow(v *store.Version, path string, right bridge.Right) bool {
	return b[0].Allow(v, path, right) && b[1].Allow(v, path, right)
}

func (b bothRights) Secured(v *store.Version) bool { return b[0].Secured(v) && b[1].Secured(v) }

// triggerWriter is the recipient of a Subscription, without the rights that another Controller lacks who wrote its settings: who may
// write Subscriptions must not get the rights of all their recipients.
func (a *Agent) triggerWriter(t target) bridge.Writer {
	w := t.writer
	by, remote := strings.CutPrefix(t.sub.SettingsBy, "usp:")
	if !remote || t.sub.SettingsBy == w.Name {
		return w
	}
	w.Rights = bothRights{a.trust.Endpoint(by), w.Rights}
	if t.writer.Rights == nil {
		w.Rights = a.trust.Endpoint(by)
	}
	return w
}

// trigger applies what a Subscription that fired wants set, with the rights of its recipient. Triggers that come within
// triggerPause are one.
func (n *notifier) trigger(t target) {
	ops, err := triggerSettings(t.sub.Settings)
	if err != nil || len(ops) == 0 {
		return // a row of an older version; new ones are checked when they are written
	}
	now := time.Now()
	due := n.triggers[t.sub.Num]
	if due.After(now) {
		return // one is waiting and will see this
	}
	if due = due.Add(triggerPause); due.Before(now) {
		due = now
	}
	for num, at := range n.triggers {
		if at.Before(now.Add(-triggerPause)) {
			delete(n.triggers, num)
		}
	}
	n.triggers[t.sub.Num] = due
	a, id, writer := n.a, t.sub.ID, n.a.triggerWriter(t)
	a.spawn("trigger", func(ctx context.Context) {
		wait := time.NewTimer(time.Until(due))
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(ctx, a.opt.Limits.RequestTime)
		defer cancel()
		res, err := a.engine.Apply(ctx, writer, bridge.Change{Atomic: true, Ref: triggerRef + id, Ops: ops})
		if err == nil {
			err = firstError(res)
		}
		if err != nil && ctx.Err() == nil {
			a.slow.Warn("usp_trigger_failed", "subscription", id, "error", err.Error())
		}
	})
}
