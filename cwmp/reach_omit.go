//go:build omit_reach

package cwmp

import (
	"context"
	"errors"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/store"
)

// This file stands in for reach*.go in a program built with omit_reach: without UDP and XMPP connection requests,
// lightweight notifications and discovery by DHCP. The parameters say so, and what would switch them on is refused.

const (
	reachBuilt    = false
	discoverAfter = 1 << 30
)

type dhcpOffer struct{}

type reach struct{ hint chan struct{} }

func newReach(*CPE) *reach { return &reach{} }

func (*reach) configure(context.Context, settings)                   {}
func (*reach) show()                                                 {}
func (*reach) close()                                                {}
func (*reach) committed(context.Context, *bridge.View, *store.Entry) {}
func (*reach) compare(context.Context, *bridge.View)                 {}
func (c *CPE) discover(context.Context)                              {}
func (c *CPE) takeOffer(context.Context)                             {}
func touchesReach(*store.Entry) bool                                 { return false }

func (o *Options) checkReach() error {
	if len(o.DiscoveryFiles) > 0 {
		return errors.New("cwmp: Options.DiscoveryFiles: discovery by DHCP is not in this build; the tag omit_reach left it out")
	}
	if o.UDPListen != "" && o.UDPListen != "off" {
		return errors.New("cwmp: Options.UDPListen: UDP connection requests are not in this build; the tag omit_reach left them out")
	}
	return nil
}

// reachProvider says that there is HTTP only.
type reachProvider struct{}

func newReachProvider(*datamodel.Schema) *reachProvider { return &reachProvider{} }

var withoutReach = map[string]string{"SupportedConnReqMethods": "HTTP", "NATDetected": "false", "UDPConnectionRequestAddress": "",
	"ConnReqJabberID": "", "LightweightNotificationProtocolsSupported": ""}

// reachOff are the parameters that would switch on what is not built, with the value that leaves it off.
var reachOff = map[string]string{"STUNEnable": "false", "ConnReqXMPPConnection": "", "LightweightNotificationProtocolsUsed": ""}

// Name implements datamodel.Provider.
func (*reachProvider) Name() string { return "cwmp-reach" }

// Serves implements datamodel.Provider.
func (*reachProvider) Serves() []string {
	var out []string
	for name := range withoutReach {
		out = append(out, msPath+name)
	}
	return out
}

// Read implements datamodel.Provider.
func (*reachProvider) Read(_ context.Context, obj datamodel.ObjectRef, params []string, yield func(name, value string)) error {
	for _, name := range params {
		if value, ok := withoutReach[name]; ok && obj.Path == msPath {
			yield(name, value)
		}
	}
	return nil
}

// Applies implements datamodel.Applier.
func (*reachProvider) Applies() []string {
	var out []string
	for name := range reachOff {
		out = append(out, msPath+name)
	}
	return out
}

// Prepare refuses what is not built.
func (*reachProvider) Prepare(_ context.Context, writes []datamodel.Write) error {
	for _, w := range writes {
		if w.Deleted || w.Added || len(w.Path) < len(msPath) {
			continue
		}
		if off, ok := reachOff[w.Path[len(msPath):]]; ok && w.Value != off {
			return datamodel.Fail(datamodel.InvalidValue, w.Path, "not built into this device")
		}
	}
	return nil
}

// Apply implements datamodel.Applier.
func (*reachProvider) Apply(context.Context, []datamodel.Write) error { return nil }
