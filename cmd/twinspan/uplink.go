package main

import (
	"context"
	"strings"
	"sync"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/datamodel/linux"
)

// uplinkLife is how long an answer about the uplink counts.
const uplinkLife = time.Second

// uplink tells whether there is a way to the managers at all: by the Status of an IP interface, or by the kernel's default
// route. A device that never had a default route since the start is taken for one that needs none.
func (o *office) uplink(where string) func() bool {
	if where == "off" {
		return nil
	}
	look := func() (up, known bool) { return linux.HasDefaultRoute("") }
	had := false
	if where != "" {
		had = true
		path := strings.TrimSuffix(where, ".") + ".Status"
		look = func() (up, known bool) {
			v := o.engine.View(bridge.Writer{Name: "sys:migration", Class: bridge.ClassSys, System: true})
			ms, err := v.Resolve(path, datamodel.ResolvePolicy{Want: datamodel.WantParam})
			if err != nil || len(ms) != 1 {
				return false, false
			}
			ctx, cancel := context.WithTimeout(context.Background(), uplinkLife)
			defer cancel()
			status, err := v.Value(ctx, ms[0])
			return status == "Up", err == nil
		}
	}
	var mu sync.Mutex
	var at time.Time
	last := true
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); at.IsZero() || now.Sub(at) >= uplinkLife {
			up, known := look()
			had = had || up
			at, last = now, up || !had || !known // what nobody can tell is no excuse
		}
		return last
	}
}
