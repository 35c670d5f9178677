//go:build !omit_reach

package cwmp

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"twinspan/cwmp/connreq/xmpp"
	"twinspan/datamodel"
)

// reachView is what the data model shows of reach, made by the owner, read from the bridge's goroutines.
type reachView struct {
	methods    string // SupportedConnReqMethods
	udpAddress string
	nat        bool
	row        string // of the XMPP connection in use
	xmpp       xmpp.State
	client     *xmpp.Client // nil: not running
}

// reachProvider makes the live half of the parameters appear that tell how this CPE can be reached.
type reachProvider struct {
	schema *datamodel.Schema
	view   atomic.Pointer[reachView]
}

func newReachProvider(s *datamodel.Schema) *reachProvider {
	p := &reachProvider{schema: s}
	p.view.Store(&reachView{methods: "HTTP"})
	return p
}

// Name implements datamodel.Provider.
func (p *reachProvider) Name() string { return "cwmp-reach" }

// Serves implements datamodel.Provider.
func (p *reachProvider) Serves() []string {
	out := []string{xmppPath + "SupportedServerConnectAlgorithms"}
	for _, name := range []string{"SupportedConnReqMethods", "NATDetected", "UDPConnectionRequestAddress", "ConnReqJabberID",
		"LightweightNotificationProtocolsSupported"} {
		out = append(out, msPath+name)
	}
	for _, name := range []string{"Status", "JabberID", "TLSEstablished", "LastChangeDate", "Stats.ReceivedMessages", "Stats.TransmittedMessages",
		"Stats.ReceivedErrorMessages", "Stats.TransmittedErrorMessages"} {
		out = append(out, xmppPath+"Connection.{i}."+name)
	}
	return out
}

// Read implements datamodel.Provider.
func (p *reachProvider) Read(_ context.Context, obj datamodel.ObjectRef, params []string, yield func(name, value string)) error {
	view := p.view.Load()
	for _, name := range params {
		value, ok := "", true
		switch obj.Path {
		case msPath:
			value, ok = p.management(view, name)
		case xmppPath:
			value, ok = "DNS-SRV,DNS,ServerTable", name == "SupportedServerConnectAlgorithms"
		default:
			value, ok = connection(view, obj, name)
		}
		if ok {
			yield(name, value)
		}
	}
	return nil
}

func (p *reachProvider) management(view *reachView, name string) (string, bool) {
	switch name {
	case "SupportedConnReqMethods":
		methods := view.methods
		if _, ok := p.schema.Lookup(xmppPath + "Connection.{i}."); !ok { // not in the profile
			methods = strings.TrimSuffix(methods, ",XMPP")
		}
		return methods, true
	case "NATDetected":
		return strconv.FormatBool(view.nat), true
	case "UDPConnectionRequestAddress":
		return view.udpAddress, true
	case "ConnReqJabberID":
		return view.xmpp.JabberID, true
	case "LightweightNotificationProtocolsSupported":
		return "UDP", true
	}
	return "", false
}

// connection gives the values of one row of Device.XMPP.Connection.
func connection(view *reachView, obj datamodel.ObjectRef, name string) (string, bool) {
	row, stats := strings.CutSuffix(obj.Path, "Stats.")
	state, counts := xmpp.State{}, xmpp.Stats{}
	if view.row == row {
		state = view.xmpp
		if view.client != nil {
			counts = view.client.Stats()
		}
	}
	if stats {
		switch name {
		case "ReceivedMessages":
			return counter32(counts.Received), true
		case "TransmittedMessages":
			return counter32(counts.Sent), true
		case "ReceivedErrorMessages":
			return counter32(counts.ReceivedErrors), true
		case "TransmittedErrorMessages":
			return counter32(counts.SentErrors), true
		}
		return "", false
	}
	switch name {
	case "Status":
		switch {
		case obj.Stored != nil && obj.Stored(row+"Enable") != "true":
			return "Disabled", true
		case state.Status == "": // no service uses this connection
			return "Dormant", true
		}
		return string(state.Status), true
	case "JabberID":
		return state.JabberID, true
	case "TLSEstablished":
		return strconv.FormatBool(state.TLS), true
	case "LastChangeDate":
		if state.Since.IsZero() {
			return "0001-01-01T00:00:00Z", true
		}
		return state.Since.UTC().Format(time.RFC3339), true
	}
	return "", false
}

// counter32 wraps as the model's unsignedInt does.
func counter32(n int64) string { return strconv.FormatUint(uint64(uint32(n)), 10) }

// Applies implements datamodel.Applier.
func (p *reachProvider) Applies() []string {
	return []string{msPath + "LightweightNotificationProtocolsUsed", xmppPath + "Connection.{i}.ServerConnectAlgorithm"}
}

// Prepare refuses what this CPE cannot do.
func (p *reachProvider) Prepare(_ context.Context, writes []datamodel.Write) error {
	for _, w := range writes {
		switch {
		case w.Deleted || w.Added:
		case strings.HasSuffix(w.Path, ".LightweightNotificationProtocolsUsed") && w.Value != "" && w.Value != "UDP":
			return datamodel.Fail(datamodel.InvalidValue, w.Path, "UDP is the one protocol that is supported")
		case strings.HasSuffix(w.Path, ".ServerConnectAlgorithm") && w.Value != "DNS-SRV" && w.Value != "DNS" && w.Value != "ServerTable":
			return datamodel.Fail(datamodel.InvalidValue, w.Path, "not supported by this device")
		}
	}
	return nil
}

// Apply implements datamodel.Applier: the CPE follows the journal instead.
func (p *reachProvider) Apply(context.Context, []datamodel.Write) error { return nil }
