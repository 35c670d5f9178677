package bridge

import (
	"context"
	"strconv"
	"time"

	"twinspan/datamodel"
)

// Limits of live watching.
const (
	livePoll        = 5 * time.Second
	maxLivePaths    = 512  // of one consumer
	maxLiveWatchers = 16   // consumers
	maxLiveObjects  = 2048 // object instances read in one round; what is over is not watched
)

// liveWatch is what consumers want to be told of, and what was seen last.
type liveWatch struct {
	want map[string][]string // consumer -> canonical paths
	wake chan struct{}
}

// WatchLive says of which live values a consumer wants EventLive: canonical parameter, object or search paths; an
// object path stands for everything below it except what changes by nature (counters, CWMP's canDeny), which must be
// named as parameters. It replaces what the consumer said before; no paths end it. Stored values need not be named:
// their commits are events anyway. The number of rows that come and go unstored counts as a live value.
//
// Values are compared every 5 s, and when a provider hints that its rows changed. A value seen for the first time is
// not an event. Events are for everybody who watches, not only for the one who asked.
func (e *Engine) WatchLive(consumer string, paths []string) error {
	if len(paths) > maxLivePaths {
		return datamodel.Fail(datamodel.Resources, "", "at most "+strconv.Itoa(maxLivePaths)+" live paths")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return errClosed
	}
	w := &e.live
	if _, known := w.want[consumer]; !known && len(w.want) >= maxLiveWatchers {
		return datamodel.Fail(datamodel.Resources, "", "at most "+strconv.Itoa(maxLiveWatchers)+" consumers of live values")
	}
	if len(paths) == 0 {
		delete(w.want, consumer)
	} else {
		w.want[consumer] = append([]string(nil), paths...)
	}
	e.hintLive()
	return nil
}

// hintLive makes the next comparison come at once.
func (e *Engine) hintLive() {
	select {
	case e.live.wake <- struct{}{}:
	default:
	}
}

// liveLoop compares live values until ctx ends. It reads nothing while nobody watches.
func (e *Engine) liveLoop(ctx context.Context) {
	defer e.wg.Done()
	tick := time.NewTicker(livePoll)
	tick.Stop()
	defer tick.Stop()
	var last map[string]string
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-e.live.wake:
		}
		if last = e.compareLive(ctx, last); last == nil {
			tick.Stop()
		} else {
			tick.Reset(livePoll)
		}
	}
}

// compareLive reads what is watched once and emits what differs from the last round. nil: nobody watches.
func (e *Engine) compareLive(ctx context.Context, last map[string]string) map[string]string {
	e.mu.Lock()
	var paths []string
	for _, ps := range e.live.want {
		paths = append(paths, ps...)
	}
	e.mu.Unlock()
	if len(paths) == 0 {
		return nil
	}
	v := e.View(sys("live"))
	now := make(map[string]string, len(last))
	objects := map[string]datamodel.Match{}
	named := map[string]bool{} // parameters asked for by name
	for _, path := range paths {
		ms, err := v.Resolve(path, datamodel.ResolvePolicy{AllowTable: true})
		if err != nil {
			continue // it may exist later
		}
		for _, m := range ms {
			switch {
			case m.Param != nil:
				named[m.Path] = true
				at := m.Path[:len(m.Path)-len(m.Param.Name)]
				objects[at] = datamodel.Match{Object: m.Object, Table: objects[at].Table}
			case m.Command == nil && m.Event == nil:
				_ = v.Objects(m, 0, func(o datamodel.Match) bool {
					o.Table = true // stands for "all parameters" here
					objects[o.Path] = o
					return len(objects) < maxLiveObjects
				})
			}
		}
	}
	for _, path := range sortedKeys(objects) {
		o := objects[path]
		for name, value := range e.liveValues(ctx, v, o.Object, path) {
			p := o.Object.Param(name)
			if !named[path+name] && (!o.Table || restless(p)) {
				continue
			}
			now[path+name] = value
			if old, seen := last[path+name]; seen && old != value && secretFlag(p) == 0 {
				e.Emit(Event{Kind: EventLive, Path: path + name, Value: value})
			}
		}
	}
	return now
}

// liveValues are the values of an object that no commit tells of.
func (e *Engine) liveValues(ctx context.Context, v *View, o *datamodel.Object, path string) map[string]string {
	var out map[string]string
	if v.cat.objects[o] != nil || v.cat.partly[o] {
		out = e.readObject(ctx, v.cat, v.v, o, path, nil)
	}
	if len(v.cat.lists) == 0 {
		return out
	}
	for _, c := range o.Children {
		if v.cat.lists[c] == nil || c.NumEntries == "" {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[c.NumEntries] = v.tree().count(c, path+c.Name+".")
	}
	return out
}

// restless values change all the time: telling of each change would be noise.
func restless(p *datamodel.Param) bool {
	if p == nil {
		return true
	}
	f := p.Any()
	if f.Named == "StatsCounter32" || f.Named == "StatsCounter64" {
		return true
	}
	c := p.Facts(datamodel.CWMP)
	return c != nil && c.ActiveNotify == "canDeny"
}
