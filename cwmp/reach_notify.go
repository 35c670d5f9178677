//go:build !omit_reach

package cwmp

import (
	"context"

	"twinspan/bridge"
	"twinspan/cwmp/lwnotif"
	"twinspan/cwmp/soap"
	"twinspan/datamodel"
	"twinspan/store"
)

// reachBuilt tells that these parts are in the program.
const reachBuilt = true

// maxLightLive bounds the live parameters that are compared for lightweight notification.
const maxLightLive = 256

// lightWatch is what lightweight notification has to compare, because it is in no journal. Owned by the Run goroutine.
type lightWatch struct {
	stale bool
	live  []lightParam
}

type lightParam struct {
	match datamodel.Match
	last  string
	known bool
}

// configureLight gives the sender its settings; it runs while lightweight notification is in use. LWN-02
func (r *reach) configureLight(ctx context.Context) {
	if !r.set.lightUsed {
		if r.light == nil {
			return
		}
		r.light.stop()
		r.light = nil
		r.sender = lwnotif.New(r.c.log) // what waited is dropped
		return
	}
	cfg := r.set.light
	id := r.c.deviceID(ctx, r.c.e.View(acsWriter))
	cfg.Device = lwnotif.Device{OUI: id.oui, ProductClass: id.productClass, SerialNumber: id.serial}
	if err := r.sender.Configure(cfg); err != nil {
		r.c.log.Error("lightweight notification cannot be configured", "error", err)
		return
	}
	if r.light == nil {
		r.watch = lightWatch{stale: true}
		sender := r.sender
		r.light = startWorker(func(ctx context.Context) {
			if err := sender.Run(ctx); err != nil { // only a second Run fails
				r.c.log.Error("lightweight notification ended", "error", err)
			}
		})
	}
}

// committed tells changes of stored parameters. The ACS is not told of its own (DESIGN invariant 7). LWN-01
func (r *reach) committed(ctx context.Context, v *bridge.View, e *store.Entry) {
	if r.light == nil {
		return
	}
	for _, d := range e.Deltas {
		switch d.Op {
		case store.DeltaSet, store.DeltaUnset:
			if e.Meta.Writer == writerName || d.Old == d.New && d.HadOld {
				continue
			}
			m, ok := v.Schema().Lookup(d.Path)
			if !ok || m.Param == nil || m.Param.Facts(datamodel.CWMP) == nil {
				continue
			}
			m.Path = d.Path
			if n := notification(v, m); lightweight(n) {
				r.tell(ctx, v, d.Path, n)
			}
		case store.DeltaAddRow, store.DeltaDeleteRow:
			r.watch.stale = true
			if e.Meta.Writer == writerName {
				r.watch.recount(countOf(v, d.Path), d.Op)
			}
		default:
			r.watch.stale = true
		}
	}
}

// recount keeps what the ACS knows of a number of rows right when it added or deleted one itself.
func (w *lightWatch) recount(path string, op store.DeltaOp) {
	for i := range w.live {
		if p := &w.live[i]; path != "" && canonicalPath(p.match.Path) == path {
			p.last = recount(p.last, op)
		}
	}
}

// tell hands the present value, as the ACS may see it, to the sender.
func (r *reach) tell(ctx context.Context, v *bridge.View, canonical string, n int) {
	name, ok := datamodel.FromCanonical(datamodel.CWMP, canonical)
	if !ok {
		return
	}
	ms, err := resolve(v, name)
	if err != nil || len(ms) != 1 || ms[0].Param == nil {
		return
	}
	value, err := v.Value(ctx, ms[0])
	if err != nil {
		return
	}
	r.sender.Changed(lwnotif.Param{Name: ms[0].Path, Type: lightType(ms[0].Param), Value: value}, lightActive(n))
}

// lightType names a type as a notification does, which knows no SOAP encoding.
func lightType(p *datamodel.Param) string {
	if t := wireType(p); t != soap.Base64 {
		return t.String()
	}
	return "xsd:base64Binary"
}

// compare looks at live parameters with lightweight notification. What is seen for the first time is taken as known.
func (r *reach) compare(ctx context.Context, v *bridge.View) {
	if r.light == nil {
		return
	}
	if r.watch.stale {
		r.watch.stale = false
		r.listLight(v)
	}
	for i := range r.watch.live {
		p := &r.watch.live[i]
		if _, stored := v.Version().Leaf(canonicalPath(p.match.Path)); stored {
			continue // the journal tells
		}
		value, err := v.Value(ctx, p.match)
		if err != nil {
			continue
		}
		if p.known && value != p.last {
			if n := notification(v, p.match); lightweight(n) {
				r.sender.Changed(lwnotif.Param{Name: p.match.Path, Type: lightType(p.match.Param), Value: value}, lightActive(n))
			}
		}
		p.last, p.known = value, true
	}
}

// listLight makes the list of live parameters to compare, keeping what is known of them.
func (r *reach) listLight(v *bridge.View) {
	old := map[string]lightParam{}
	for _, p := range r.watch.live {
		old[p.match.Path] = p
	}
	r.watch.live = nil
	add := func(m datamodel.Match) bool {
		if len(r.watch.live) >= maxLightLive {
			return false
		}
		if m.Param.Facts(datamodel.CWMP) == nil || !lightweight(notification(v, m)) {
			return true
		}
		if _, stored := v.Version().Leaf(canonicalPath(m.Path)); stored {
			return true
		}
		p := old[m.Path]
		p.match = m
		r.watch.live = append(r.watch.live, p)
		return true
	}
	v.Version().Attrs(func(path string, a store.Attr) bool {
		if !lightweight(int(a.Notification)) {
			return true
		}
		name, ok := datamodel.FromCanonical(datamodel.CWMP, path)
		if !ok {
			return true
		}
		ms, err := v.Resolve(name, datamodel.ResolvePolicy{AllowTable: true})
		if err != nil {
			return true
		}
		for _, m := range ms {
			if m.Param != nil {
				if !add(m) {
					return false
				}
				continue
			}
			v.Objects(m, 0, func(o datamodel.Match) bool {
				for _, p := range o.Object.Params {
					leaf := o
					leaf.Param, leaf.Path = p, o.Path+p.Name
					if !add(leaf) {
						return false
					}
				}
				return true
			})
		}
		return len(r.watch.live) < maxLightLive
	})
}
