package agent

import (
	"context"
	"sort"
	"strconv"
	"strings"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/store"
	"twinspan/usp/agent/subscribe"
	"twinspan/usp/agent/trust"
)

// Device.LocalAgent.Monitor.: changes collected over an interval and told at once. Owned by the notifier's goroutine.

const (
	monitorPath = "Device.LocalAgent.Monitor."
	// minMonitor is the shortest Interval that is kept; maxChanges is how many changes one OnChange! tells, later ones of
	// the same interval are left out.
	minMonitor = 100 * time.Millisecond
	maxChanges = 256
)

type monitor struct {
	row, controller string
	refs            []string
	interval        time.Duration
	last            map[string]string
	changes         []change
	due             time.Time // when the changes are told
}

type change struct {
	path, old, value string
	at               time.Time
}

// loadMonitors reads the table again; what was collected stays.
func (n *notifier) loadMonitors(ctx context.Context, v *store.Version) {
	r := reader{v: v, s: n.a.schema}
	old := n.rules.monitors
	for num, m := range old {
		for _, ref := range m.refs {
			n.countRef(ref, -1)
		}
		n.rules.watched.Remove(num)
	}
	n.rules.monitors = map[uint32]*monitor{}
	r.rows(monitorPath, func(num uint32, row string) {
		if !r.flag(row+"Enable") || len(n.rules.monitors) >= maxRules {
			return
		}
		us, _ := strconv.ParseUint(r.str(row+"Interval"), 10, 32)
		m := &monitor{row: row, controller: r.ref(row + "Controller"), interval: max(minMonitor, time.Duration(us)*time.Microsecond)}
		for _, ref := range trust.SplitPaths(r.str(row + "ReferenceList")) {
			if c, ok := datamodel.ToCanonical(datamodel.USP, ref); ok {
				m.refs = append(m.refs, c)
			}
		}
		for _, bad := range n.rules.watched.Put(&subscribe.Sub{Num: num, Kind: subscribe.ValueChange, Refs: m.refs}) {
			n.a.slow.Warn("usp_monitor_reference", "row", row, "reference", bad)
		}
		if was := old[num]; was != nil && strings.Join(was.refs, ",") == strings.Join(m.refs, ",") {
			m.last, m.changes, m.due = was.last, was.changes, was.due
		} else {
			m.last = map[string]string{}
			for _, ref := range m.refs {
				n.observe(ctx, ref, m.last)
			}
		}
		n.rules.monitors[num] = m
		for _, ref := range m.refs {
			n.countRef(ref, 1)
		}
	})
}

// collect notes a change for every Monitor that names it, if its Controller may read the value.
func (n *notifier) collect(path, value string) {
	n.rules.watched.Match(subscribe.ValueChange, path, n, func(s *subscribe.Sub) {
		m := n.rules.monitors[s.Num]
		if m == nil {
			return
		}
		c := n.a.controllers().byRow[m.controller]
		if c == nil || !c.enabled {
			return
		}
		if rights := n.a.peerOf(c.endpoint).rights; rights != nil && !rights.Allow(n.a.store.Head(), path, bridge.ReadParam) {
			return
		}
		now := time.Now()
		if len(m.changes) == 0 {
			m.due = now.Add(m.interval)
		}
		if len(m.changes) < maxChanges {
			m.changes = append(m.changes, change{path: path, old: m.last[path], value: value, at: now})
		}
		if _, known := m.last[path]; known || len(m.last) < maxObserved {
			m.last[path] = value
		}
	})
}

// report tells what Monitors collected, and returns the time until the next has something to tell.
func (n *notifier) report(now time.Time) time.Duration {
	wait := time.Hour
	for _, m := range n.rules.monitors {
		switch {
		case len(m.changes) == 0:
		case now.Before(m.due):
			wait = min(wait, m.due.Sub(now))
		default:
			args := changeSet(m.changes)
			m.changes = nil
			n.ordered(m.controller, bridge.Event{Path: m.row, Name: "OnChange!", Args: args}, "")
		}
	}
	return wait
}

// changeSet spells changes as the event's arguments, by object.
func changeSet(changes []change) map[string]string {
	byObject := map[string][]change{}
	for _, c := range changes {
		object, _ := datamodel.SplitParam(c.path)
		byObject[object] = append(byObject[object], c)
	}
	objects := make([]string, 0, len(byObject))
	for o := range byObject {
		objects = append(objects, o)
	}
	sort.Strings(objects)
	args := map[string]string{}
	for i, o := range objects {
		set := "ChangeSet." + strconv.Itoa(i+1) + "."
		args[set+"ObjectPath"] = shown(o)
		for j, c := range byObject[o] {
			_, name := datamodel.SplitParam(c.path)
			p := set + "Parameter." + strconv.Itoa(j+1) + "."
			args[p+"Name"], args[p+"OldValue"], args[p+"Value"] = name, clipText(c.old, 256), clipText(c.value, 256)
			args[p+"ChangeTime"] = c.at.UTC().Format(time.RFC3339Nano)
		}
	}
	return args
}
