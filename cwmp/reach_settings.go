//go:build !omit_reach

package cwmp

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"twinspan/cwmp/connreq/udp"
	"twinspan/cwmp/connreq/xmpp"
	"twinspan/cwmp/lwnotif"
	"twinspan/datamodel"
	"twinspan/store"
)

// xmppPath is the object whose connections may carry connection requests.
const xmppPath = "Device.XMPP."

// maxXMPPServers bounds the rows of Server. that are tried.
const maxXMPPServers = 16

// reachSettings is what the data model says about the ways to this CPE beside HTTP, at one revision.
type reachSettings struct {
	udp       bool // the data model has it
	stun      udp.Config
	stunOn    bool
	xmppRow   string // canonical path of the connection that ConnReqXMPPConnection names; "" for none
	xmpp      xmpp.Config
	xmppOn    bool
	allowed   []string
	lightUsed bool
	light     lwnotif.Config // without what the session settings know
}

// reader reads stored values with the model's defaults; it may see secrets.
type reader struct {
	schema *datamodel.Schema
	v      *store.Version
}

func (r reader) text(path string) string {
	if l, ok := r.v.Leaf(path); ok {
		return l.Value
	}
	if m, ok := r.schema.Lookup(path); ok && m.Param != nil {
		if f := m.Param.Facts(datamodel.CWMP); f != nil && f.HasDefault {
			return f.Default
		}
	}
	return ""
}

func (r reader) is(path string) bool { return r.text(path) == "true" }

func (r reader) number(path string) int64 {
	n, err := strconv.ParseInt(r.text(path), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (r reader) seconds(path string) time.Duration {
	return time.Duration(min(max(r.number(path), -1), 1<<32)) * time.Second
}

func (r reader) known(path string) bool {
	m, ok := r.schema.Lookup(path)
	return ok && m.Param != nil
}

// readReach reads the settings; set has the ACS's URL, whose host is the default of several of them.
func readReach(schema *datamodel.Schema, v *store.Version, set settings) reachSettings {
	r := reader{schema, v}
	host := ""
	if u, err := url.Parse(set.url); err == nil {
		host = u.Hostname()
	}
	s := reachSettings{udp: r.known(msPath + "UDPConnectionRequestAddress"), stunOn: r.is(msPath + "STUNEnable")}
	if s.stunOn {
		s.stun = stunSettings(r, host)
	}
	if list := r.text(msPath + "ConnReqAllowedJabberIDs"); list != "" {
		s.allowed = splitList(list)
	}
	if row := strings.TrimSuffix(r.text(msPath+"ConnReqXMPPConnection"), "."); row != "" {
		s.xmppRow = row + "."
		s.xmppOn = r.is(s.xmppRow + "Enable")
		s.xmpp = xmppSettings(r, s.xmppRow)
	}
	s.lightUsed = slices.Contains(splitList(r.text(msPath+"LightweightNotificationProtocolsUsed")), "UDP")
	s.light = lwnotif.Config{Host: r.text(msPath + "UDPLightweightNotificationHost"), Port: int(r.number(msPath + "UDPLightweightNotificationPort")),
		Username: set.username, Password: set.password, Interval: r.seconds(msPath + "LightweightNotificationTriggerInterval"),
		Reference: knownTime(r.text(msPath + "LightweightNotificationTriggerTime"))}
	if s.light.Host == "" { // TR-181 UDPLightweightNotificationHost: empty is the ACS's host
		s.light.Host = host
	}
	return s
}

func splitList(text string) []string {
	var out []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}

// stunSettings gives the STUN half of the UDP configuration.
func stunSettings(r reader, acsHost string) udp.Config {
	cfg := udp.Config{Username: r.text(msPath + "STUNUsername"), Password: r.text(msPath + "STUNPassword"),
		KeepAliveMin: r.seconds(msPath + "STUNMinimumKeepAlivePeriod"), KeepAliveMax: r.seconds(msPath + "STUNMaximumKeepAlivePeriod")}
	if cfg.Username == "" || cfg.Password == "" {
		cfg.Username, cfg.Password = "", ""
	}
	if cfg.KeepAliveMin > 0 && cfg.KeepAliveMax > 0 { // set one after the other, they may contradict each other for a while
		cfg.KeepAliveMax = max(cfg.KeepAliveMin, cfg.KeepAliveMax)
	}
	cfg.Server = r.text(msPath + "STUNServerAddress")
	if cfg.Server == "" { // TR-181 STUNServerAddress: empty is the ACS's host
		cfg.Server = acsHost
	}
	if port := r.number(msPath + "STUNServerPort"); cfg.Server != "" && port > 0 && port < 1<<16 {
		cfg.Server += ":" + strconv.FormatInt(port, 10)
	}
	return cfg
}

// xmppSettings reads one row of Device.XMPP.Connection.
func xmppSettings(r reader, row string) xmpp.Config {
	cfg := xmpp.Config{Username: r.text(row + "Username"), Domain: r.text(row + "Domain"), Resource: r.text(row + "Resource"),
		Password: r.text(row + "Password"), UseTLS: r.is(row + "UseTLS"),
		KeepAlive: r.seconds(row + "KeepAliveInterval"), RetryInitial: r.seconds(row + "ServerRetryInitialInterval"),
		RetryMultiplier: uint32(r.number(row + "ServerRetryIntervalMultiplier")), RetryMax: r.seconds(row + "ServerRetryMaxInterval")}
	switch { // TR-181 KeepAliveInterval: -1 is the client's own, 0 is none
	case cfg.KeepAlive < 0:
		cfg.KeepAlive = 0
	case cfg.KeepAlive == 0:
		cfg.KeepAlive = -1
	}
	switch r.text(row + "ServerConnectAlgorithm") {
	case "DNS":
		cfg.Servers = []xmpp.Target{{Host: cfg.Domain}}
	case "ServerTable":
		cfg.Servers = xmppServers(r, row+"Server.")
		if len(cfg.Servers) == 0 {
			cfg.Servers = []xmpp.Target{{}} // is refused: misconfigured
		}
	}
	return cfg
}

// xmppServers lists the enabled rows of a Server. table, the lowest Priority first.
func xmppServers(r reader, table string) []xmpp.Target {
	var list []xmpp.Target
	var priorities []int64
	for _, n := range r.v.Instances(table) {
		row := table + strconv.FormatUint(uint64(n), 10) + "."
		if !r.is(row + "Enable") {
			continue
		}
		priority, at := r.number(row+"Priority"), 0
		for at < len(list) && priorities[at] <= priority {
			at++
		}
		list, priorities = append(list, xmpp.Target{}), append(priorities, 0)
		copy(list[at+1:], list[at:])
		copy(priorities[at+1:], priorities[at:])
		list[at], priorities[at] = xmpp.Target{Host: r.text(row + "ServerAddress"), Port: int(r.number(row + "Port"))}, priority
	}
	return list[:min(len(list), maxXMPPServers)]
}
