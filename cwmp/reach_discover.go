//go:build !omit_reach

package cwmp

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"twinspan/bridge"
	"twinspan/cwmp/discovery"
	"twinspan/datamodel"
	"twinspan/store"
)

// dhcpOffer is what a DHCP server offers.
type dhcpOffer = discovery.Result

// discoverAfter is how many sessions in a row must have failed before an ACS that somebody chose is given up for one that
// DHCP offers: with the standard retry times that is about an hour. DISC-06
const discoverAfter = 10

// discover watches the files of the DHCP clients: goroutine of Run, ends with ctx.
func (c *CPE) discover(ctx context.Context) {
	w, err := discovery.New(discovery.Config{Files: c.o.DiscoveryFiles, Logger: c.log, Every: c.o.DiscoveryEvery,
		Found: func(r discovery.Result) {
			_ = c.call(ctx, func() error { c.offered = r; c.takeOffer(ctx); return nil })
		}})
	if err != nil { // Options.validate has checked the same
		c.log.Error("dhcp options cannot be watched", "error", err)
		return
	}
	if err := w.Run(ctx); err != nil {
		c.log.Error("dhcp options are no longer watched", "error", err)
	}
}

// takeOffer follows what DHCP offers where nobody else has spoken: values of the factory, of an earlier offer, and none at
// all. What an ACS, a Controller or a user set stays (DISC-05), but for a URL where nobody has answered for long (DISC-06).
// The URL has its effect when the session in progress is over, by the rules of any change of it (DISC-09, EVT-04).
func (c *CPE) takeOffer(ctx context.Context) {
	o := c.offered
	if o.Empty() || c.halted {
		return
	}
	head := c.e.Store().Head()
	want := map[string]string{}
	if o.URL != "" && (free(head, msPath+"URL") || c.failures >= discoverAfter) {
		want[msPath+"URL"] = o.URL
	}
	if o.ProvisioningCode != "" && free(head, "Device.DeviceInfo.ProvisioningCode") {
		want["Device.DeviceInfo.ProvisioningCode"] = o.ProvisioningCode
	}
	if o.RetryMinimum != 0 && free(head, msPath+"CWMPRetryMinimumWaitInterval") {
		want[msPath+"CWMPRetryMinimumWaitInterval"] = strconv.FormatUint(uint64(o.RetryMinimum), 10)
	}
	if o.RetryMultiplier != 0 && free(head, msPath+"CWMPRetryIntervalMultiplier") {
		want[msPath+"CWMPRetryIntervalMultiplier"] = strconv.FormatUint(uint64(o.RetryMultiplier), 10)
	}
	for path, value := range want {
		l, ok := head.Leaf(path)
		if _, known := c.e.Schema().Lookup(path); !known || ok && l.Value == value {
			delete(want, path)
		}
	}
	if len(want) == 0 {
		return
	}
	c.log.Info("values taken from dhcp", "source", o.Source, "count", len(want))
	change := bridge.Change{Ref: "dhcp"} // not atomic: each value for itself
	for _, path := range slices.Sorted(maps.Keys(want)) {
		object, name := datamodel.SplitParam(path)
		change.Ops = append(change.Ops, bridge.Op{Kind: bridge.OpSet, Path: object, Settings: []bridge.Setting{{Name: name, Value: want[path], Required: true}}})
	}
	res, err := c.e.Apply(ctx, systemWriter, change)
	if err := changeError(res, err); err != nil {
		c.log.Error("values from dhcp cannot be set", "error", err)
	}
}

// free reports whether nobody but the factory or this CPE itself has set a parameter, or it is empty.
func free(v *store.Version, path string) bool {
	l, ok := v.Leaf(path)
	return !ok || l.Value == "" || l.Writer == systemName || l.Flags&store.Factory != 0
}
