package migration

import (
	"strings"

	"twinspan/bridge"
	"twinspan/store"
)

const (
	enableCWMP = "Device.ManagementServer.EnableCWMP"
	acsURL     = "Device.ManagementServer.URL"
)

// order is what proposals are judged by before the arbiter: one immutable value for each state.
type order struct {
	phase  Phase
	moving bool // a move is being committed: nobody's writes pass
	// off and on are nil where the edge that EnableCWMP stands for would be taken, for class main and user.
	off, on error
}

// veto is the phase's own say, before the arbiter's.
func (m *Migrator) veto(p *bridge.Proposal) (bridge.Verdict, bool) {
	o := m.order.Load()
	if p.Writer.Class == bridge.ClassSys || p.New == p.Old && !p.Create && !p.Delete {
		return bridge.Verdict{}, false
	}
	probe := p.New == "\x00" // only asks whether it could ever be written
	switch {
	case o.moving && !probe:
		return bridge.Verdict{Kind: bridge.Yield, Rule: "phase:moving", Text: "the phase is being moved; rule phase:moving; try again in a second"}, true
	case p.Path == enableCWMP && !probe:
		return edge(o, p), true
	case o.phase == Rescue && p.Writer.Class == bridge.ClassACS && !rescued(p.Path):
		return bridge.Verdict{Kind: bridge.Yield, Rule: "phase:rescue", Static: true,
			Text: "in a rescue the ACS repairs only what USP needs; rule phase:rescue; end the rescue by asking for dual-usp"}, true
	}
	return bridge.Verdict{}, false
}

// phaseOf reads the phase that a version is in; a rescue is judged like dual-cwmp.
func phaseOf(v *store.Version) Phase {
	data, _ := v.Record(bucket, phaseKey)
	if p := Phase(data); p != Rescue {
		return p
	}
	return bridge.PhaseDualCWMP
}

// edge judges EnableCWMP written directly: a request for an edge of the machine, never a way round it.
func edge(o *order, p *bridge.Proposal) bridge.Verdict {
	err, to := o.off, bridge.PhaseUSPOnly
	if p.New == "true" {
		err, to = o.on, bridge.PhaseDualUSP
	}
	if p.Writer.Class != bridge.ClassMain && p.Writer.Class != bridge.ClassUser {
		err = refuse("class " + p.Writer.Class + " cannot ask for " + string(to))
	}
	if err != nil {
		return bridge.Verdict{Kind: bridge.Yield, Rule: "phase:edge",
			Text: "writing EnableCWMP asks for phase " + string(to) + ": " + err.Error() + "; rule phase:edge; meet the gate, or roll back"}
	}
	return bridge.Verdict{Kind: bridge.Take, Rule: "phase:edge"}
}

// rescueSubset is what an ACS may write in a rescue: what brings Controllers back.
var rescueSubset = []string{"Device.LocalAgent.", "Device.MQTT.", "Device.STOMP.", "Device.WebSocket.", "Device.UnixDomainSockets.", "Device.Time.", "Device.DNS.",
	"Device.Security.", "Device.IP.", "Device.PPP.", "Device.DHCPv4.Client.", "Device.DHCPv6.Client.", "Device.Ethernet.", "Device.DSL.", "Device.PTM.", "Device.ATM.",
	"Device.Cellular.", "Device.Routing.", "Device.ManagementServer.", "Device.X_"}

func rescued(path string) bool {
	for _, p := range rescueSubset {
		if strings.HasPrefix(path, p) {
			return true
		}
	}
	return false
}
