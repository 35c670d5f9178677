package agent

import (
	"context"
	"strconv"
	"strings"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/store"
	"twinspan/usp/agent/subscribe"
)

// Device.LocalAgent.Threshold., Watchdog. and (monitor.go) Monitor.: events that a Controller orders for itself. All of it
// belongs to the notifier's goroutine.

const (
	thresholdPath = "Device.LocalAgent.Threshold."
	watchdogPath  = "Device.LocalAgent.Watchdog."
	// maxRules bounds the enabled rows of each table, maxObserved the values that one Threshold compares.
	maxRules    = 64
	maxObserved = 256
	operators   = "Rise,Fall,Cross,Eq,NotEq"
)

// rules are the enabled rows.
type rules struct {
	index      *subscribe.Index // of Thresholds, by number
	thresholds map[uint32]*threshold
	dogs       map[string]*watchdog // by row
	watched    *subscribe.Index     // of Monitors, by number
	monitors   map[uint32]*monitor
}

type threshold struct {
	row, operator, controller string
	limit                     int64
	single                    bool
	ref                       string
	last                      map[string]int64
}

type watchdog struct {
	row, controller string
	reload          time.Duration
	until           time.Time
	expired         bool
}

func newRules() rules {
	return rules{index: subscribe.New(), watched: subscribe.New(), monitors: map[uint32]*monitor{}, thresholds: map[uint32]*threshold{}, dogs: map[string]*watchdog{}}
}

// loadRules reads both tables again; rows that did not change go on as they were.
func (n *notifier) loadRules(ctx context.Context, v *store.Version) {
	r := reader{v: v, s: n.a.schema}
	old := n.rules.thresholds
	for num, t := range old {
		n.countRef(t.ref, -1)
		n.rules.index.Remove(num)
	}
	n.rules.thresholds = map[uint32]*threshold{}
	r.rows(thresholdPath, func(num uint32, row string) {
		if !r.flag(row+"Enable") || len(n.rules.thresholds) >= maxRules {
			return
		}
		limit, err := strconv.ParseInt(strings.TrimSpace(r.str(row+"ThresholdValue")), 10, 64)
		ref, ok := datamodel.ToCanonical(datamodel.USP, strings.TrimSuffix(r.str(row+"ReferencePath"), ".")+"."+r.str(row+"ThresholdParam"))
		if err != nil || !ok {
			n.a.slow.Warn("usp_threshold_unusable", "row", row)
			return
		}
		t := &threshold{row: row, operator: r.str(row + "ThresholdOperator"), controller: r.ref(row + "Controller"), limit: limit,
			single: r.str(row+"OperatingMode") == "Single", ref: ref}
		if bad := n.rules.index.Put(&subscribe.Sub{Num: num, Kind: subscribe.ValueChange, Refs: []string{ref}}); len(bad) > 0 {
			n.a.slow.Warn("usp_threshold_unusable", "row", row)
			return
		}
		if was := old[num]; was != nil && was.ref == ref {
			t.last = was.last
		} else {
			now := map[string]string{}
			n.observe(ctx, ref, now)
			t.last = map[string]int64{}
			for path, text := range now {
				if val, err := strconv.ParseInt(text, 10, 64); err == nil {
					t.last[path] = val
				}
			}
		}
		n.rules.thresholds[num] = t
		n.countRef(ref, 1)
	})
	dogs := map[string]*watchdog{}
	r.rows(watchdogPath, func(_ uint32, row string) {
		reload := r.seconds(row + "ReloadTimerValue")
		if !r.flag(row+"Enable") || reload == 0 || len(dogs) >= maxRules {
			return
		}
		d := n.rules.dogs[row]
		if d == nil || d.reload != reload {
			d = &watchdog{row: row, reload: reload, until: time.Now().Add(reload)}
		}
		d.controller = r.ref(row + "Controller")
		dogs[row] = d
	})
	n.rules.dogs = dogs
	n.showDogs()
	n.loadMonitors(ctx, v)
}

// observe reads what a rule compares with from now on: parameters, and those of objects.
func (n *notifier) observe(ctx context.Context, ref string, out map[string]string) {
	view := n.a.engine.View(n.a.system)
	matches, err := view.Resolve(shown(ref), datamodel.ResolvePolicy{Want: datamodel.WantParam | datamodel.WantObject})
	if err != nil {
		return
	}
	put := func(path, value string) bool {
		path, _ = datamodel.ToCanonical(datamodel.USP, path)
		if m, ok := n.a.schema.Lookup(path); ok && m.Param != nil {
			if f := m.Param.Any(); !f.Secured && !f.Hidden {
				out[path] = value
			}
		}
		return len(out) < maxObserved
	}
	for _, m := range matches[:min(len(matches), maxObserved)] {
		if m.Param != nil {
			if text, err := view.Value(ctx, m); err == nil && !put(m.Path, text) {
				return
			}
			continue
		}
		_ = view.Objects(m, 0, func(o datamodel.Match) bool {
			_ = view.Params(ctx, o, func(p *datamodel.Param, v string) bool { return put(o.Path+p.Name, v) })
			return len(out) < maxObserved
		})
	}
}

// compare looks at a new value with every Threshold that names it.
func (n *notifier) compare(path, text string) {
	val, err := strconv.ParseInt(text, 10, 64)
	if err != nil { // thresholds are of integers
		return
	}
	n.rules.index.Match(subscribe.ValueChange, path, n, func(s *subscribe.Sub) {
		t := n.rules.thresholds[s.Num]
		if t == nil {
			return
		}
		was, known := t.last[path]
		if known || len(t.last) < maxObserved {
			t.last[path] = val
		}
		if !known || !t.hit(was, val) {
			return
		}
		n.ordered(t.controller, bridge.Event{Path: t.row, Name: "Triggered!", Args: map[string]string{"ParamPath": shown(path), "ParamValue": text}}, path)
		if t.single {
			delete(n.rules.thresholds, s.Num) // at once; the row follows
			n.countRef(t.ref, -1)
			row := t.row
			n.a.background(func(ctx context.Context) {
				_, err := n.a.engine.Apply(ctx, n.a.system, bridge.Change{Atomic: true, Ref: "threshold", Ops: []bridge.Op{{Kind: bridge.OpSet, Path: row, MissingOK: true,
					Settings: []bridge.Setting{{Name: "Enable", Value: "false", Required: true}}}}})
				if err != nil && ctx.Err() == nil {
					n.a.opt.Log.Warn("usp_threshold_not_disabled", "row", row, "error", err.Error())
				}
			})
		}
	})
}

// hit tells whether going from was to val triggers.
func (t *threshold) hit(was, val int64) bool {
	rise, fall := was < t.limit && val >= t.limit, was > t.limit && val <= t.limit
	switch t.operator {
	case "Rise":
		return rise
	case "Fall":
		return fall
	case "Cross":
		return rise || fall
	case "Eq":
		return was != t.limit && val == t.limit
	case "NotEq":
		return was == t.limit && val != t.limit
	}
	return false
}

// ordered tells the Controller that made a rule, and nobody else, if it may read what it is about.
func (n *notifier) ordered(controller string, ev bridge.Event, about string) {
	c := n.a.controllers().byRow[controller]
	if c == nil || !c.enabled {
		return
	}
	if rights := n.a.peerOf(c.endpoint).rights; about != "" && rights != nil && !rights.Allow(n.a.store.Head(), about, bridge.ReadParam) {
		return
	}
	ev.Kind, ev.Only, ev.Time = bridge.EventModel, c.endpoint, time.Now()
	n.modelEvent(ev)
}

// watchdogs lets those bark whose time is over, and returns the time until the next one's is.
func (n *notifier) watchdogs(now time.Time) time.Duration {
	wait := time.Hour
	for _, d := range n.rules.dogs {
		switch {
		case d.expired:
		case now.Before(d.until):
			wait = min(wait, d.until.Sub(now))
		default:
			d.expired = true
			n.showDogs()
			r := reader{v: n.a.store.Head(), s: n.a.schema}
			n.ordered(d.controller, bridge.Event{Path: d.row, Name: "Watchdog!", Args: map[string]string{"Reference": r.str(d.row + "Reference"),
				"ReloadTimerValue": r.str(d.row + "ReloadTimerValue"), "SeverityIndication": r.str(d.row + "SeverityIndication")}}, "")
		}
	}
	return wait
}

// pat is Watchdog.{i}.Reset().
func (n *notifier) pat(row string) {
	if d := n.rules.dogs[row]; d != nil {
		d.until, d.expired = time.Now().Add(d.reload), false
		n.showDogs()
	}
}

// showDogs gives the provider a copy.
func (n *notifier) showDogs() {
	out := make(map[string]watchdog, len(n.rules.dogs))
	for row, d := range n.rules.dogs {
		out[row] = *d
	}
	n.a.dogs.Store(&out)
}

// readWatchdog is the live part of a row.
func (a *Agent) readWatchdog(row string, yield func(name, value string)) {
	status, left := "Inactive", time.Duration(0)
	if all := a.dogs.Load(); all != nil {
		if d, ok := (*all)[row]; ok {
			status, left = "Active", max(0, time.Until(d.until))
			if d.expired {
				status, left = "Expired", 0
			}
		}
	}
	yield("Status", status)
	yield("RemainingTimerValue", strconv.FormatInt(int64((left+time.Second-1)/time.Second), 10))
}
