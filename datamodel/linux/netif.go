package linux

import (
	"context"
	"math"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"twinspan/datamodel"
)

// Flags of an interface (linux/if.h).
const (
	flagUp       = 0x1
	flagLoopback = 0x8
)

// Hardware types of an interface (linux/if_arp.h).
const (
	typeEther  = 1
	typeTunnel = 768 // IPIP; 769 is its IPv6 sibling
	typeSIT    = 776
	typeGRE    = 778
	typeNone   = 0xFFFE // tun, WireGuard
)

// netif is what sysfs says of one interface.
type netif struct {
	p    *Provider
	name string
	dir  string
}

// validIfname keeps a stored name from becoming a path to somewhere else.
func validIfname(name string) bool {
	return name != "" && len(name) <= 15 && name != "." && name != ".." && !strings.ContainsAny(name, "/ \x00")
}

func (p *Provider) netif(name string) (netif, bool) {
	if !validIfname(name) {
		return netif{}, false
	}
	n := netif{p, name, "sys/class/net/" + name}
	return n, p.exists(n.dir)
}

// netifs lists the interfaces that are reported, by name.
func (p *Provider) netifs() ([]netif, error) {
	dir, err := os.Open(p.path("sys/class/net"))
	if err != nil {
		if os.IsNotExist(err) {
			return nil, nil
		}
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var out []netif
	for _, name := range names {
		if matches(p.o.Ignore, name) {
			continue
		}
		n, ok := p.netif(name)
		if !ok || !n.has("type") { // bonding_masters is a file
			continue
		}
		if len(out) == maxInterfaces {
			p.log.Warn("more interfaces than are reported", "reported", maxInterfaces)
			break
		}
		out = append(out, n)
	}
	return out, nil
}

func (n netif) text(file string) string  { return strings.TrimSpace(n.p.text(n.dir + "/" + file)) }
func (n netif) has(file string) bool     { return n.p.exists(n.dir + "/" + file) }
func (n netif) flags() uint64            { v, _ := n.p.number(n.dir + "/flags"); return v }
func (n netif) hardware() uint64         { v, _ := n.p.number(n.dir + "/type"); return v }
func (n netif) isLoopback() bool         { return n.flags()&flagLoopback != 0 }
func (n netif) isUp() bool               { return n.flags()&flagUp != 0 }
func (n netif) count(file string) uint64 { v, _ := n.p.number(n.dir + "/statistics/" + file); return v }

// isEthernet: a port with hardware behind it, or one that a container or virtual machine calls like one. Bridges,
// VLANs, bonds, tunnels and radios have tables of their own in the data model.
func (n netif) isEthernet() bool {
	if n.hardware() != typeEther || n.isLoopback() || n.has("wireless") || n.has("phy80211") || n.has("bridge") ||
		n.has("bonding") || n.has("tun_flags") || strings.Contains(n.text("uevent"), "DEVTYPE=vlan") {
		return false
	}
	return n.has("device") || matches([]string{"eth[0-9]*", "en[ospx]*", "lan[0-9]*", "wan*"}, n.name)
}

// isIP: everything that carries addresses, but not the ports of a bridge or bond.
func (n netif) isIP() bool {
	if n.has("brport") || n.has("bonding_slave") {
		return false
	}
	return n.isLoopback() || n.isEthernet() || len(n.ipv4()) > 0 || len(n.ipv6()) > 0
}

func (n netif) ipv4() []netip.Prefix {
	if n.p.o.IPv4 == nil {
		return nil
	}
	out, err := n.p.o.IPv4(n.name)
	if err != nil {
		n.p.log.Debug("cannot read addresses", "interface", n.name, "error", err)
	}
	if len(out) > maxAddresses {
		out = out[:maxAddresses]
	}
	return out
}

// ipv6Address is a line of /proc/net/if_inet6.
type ipv6Address struct {
	addr  netip.Addr
	bits  int
	flags uint64
}

// Flags of an IPv6 address (linux/if_addr.h).
const (
	addrTemporary  = 0x01
	addrOptimistic = 0x04
	addrDadFailed  = 0x08
	addrDeprecated = 0x20
	addrTentative  = 0x40
	addrPermanent  = 0x80
)

func (n netif) ipv6() []ipv6Address {
	var out []ipv6Address
	for line := range strings.Lines(n.p.text("proc/net/if_inet6")) {
		f := strings.Fields(line)
		if len(f) != 6 || f[5] != n.name || len(f[0]) != 32 || len(out) == maxAddresses {
			continue
		}
		var b [16]byte
		ok := true
		for i := range b {
			v, err := strconv.ParseUint(f[0][2*i:2*i+2], 16, 8)
			b[i], ok = byte(v), ok && err == nil
		}
		bits, err := strconv.ParseUint(f[2], 16, 8)
		flags, err2 := strconv.ParseUint(f[4], 16, 32)
		if ok && err == nil && err2 == nil {
			out = append(out, ipv6Address{netip.AddrFrom16(b), int(bits), flags})
		}
	}
	return out
}

// Rows implements datamodel.Syncer: Ethernet interfaces first, so that IP interfaces can refer to them.
func (p *Provider) Rows(ctx context.Context) ([]datamodel.Row, error) {
	all, err := p.netifs()
	if err != nil {
		return nil, err
	}
	var eths, ips []datamodel.Row
	for _, n := range all {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if n.isEthernet() {
			eths = append(eths, n.row(ethTable, n.ethValue, "Enable", "DuplexMode", "MaxBitRate"))
		}
		if n.isIP() {
			r := n.row(ipTable, n.ipValue, "Enable", "IPv4Enable", "IPv6Enable", "Loopback", "MaxMTUSize")
			r.Sub = n.addressRows()
			ips = append(ips, r)
		}
		p.lastChange(n) // the hint that brought us here may be a change of status
	}
	return append(eths, ips...), nil
}

// row has the present values of what a manager could write, so that what is stored does not contradict what is read.
func (n netif) row(table string, read reader, names ...string) datamodel.Row {
	values := map[string]string{"Name": n.name}
	for _, name := range names {
		if v, ok := read(name); ok {
			values[name] = v
		}
	}
	return datamodel.Row{Table: table, Key: "Name", Values: values}
}

func (n netif) addressRows() []datamodel.Row {
	var out []datamodel.Row
	seen := map[string]bool{}
	add := func(table string, addr netip.Addr, values map[string]string) {
		key := addr.WithZone("").String()
		if seen[key] {
			return
		}
		seen[key] = true
		values["IPAddress"], values["Enable"] = key, "true"
		out = append(out, datamodel.Row{Table: table, Key: "IPAddress", Values: values})
	}
	for _, a := range n.ipv4() {
		add("IPv4Address.", a.Addr(), map[string]string{"SubnetMask": mask4(a.Bits())})
	}
	for _, a := range n.ipv6() {
		add("IPv6Address.", a.addr, map[string]string{})
	}
	return out
}

func mask4(bits int) string {
	m := uint32(math.MaxUint32) << (32 - bits)
	if bits == 0 {
		m = 0
	}
	return netip.AddrFrom4([4]byte{byte(m >> 24), byte(m >> 16), byte(m >> 8), byte(m)}).String()
}

// rowPath cuts the path of the outer row out of an object path: table "Device.IP.Interface.", row ".../3.".
func rowPath(path, table string) (row string, n uint32, rest string) {
	num, rest, _ := strings.Cut(path[len(table):], ".")
	v, _ := strconv.ParseUint(num, 10, 32)
	return table + num + ".", uint32(v), rest
}

// known finds the interface of a row by its stored Name and remembers the row.
func (p *Provider) known(obj datamodel.ObjectRef, table string) (n netif, rest string, ok bool) {
	row, num, rest := rowPath(obj.Path, table)
	if obj.Stored == nil {
		return netif{}, "", false
	}
	name := obj.Stored(row + "Name")
	n, ok = p.netif(name)
	if ok {
		p.mu.Lock()
		if len(p.rowOf) < 4*maxInterfaces {
			p.rowOf[table+name] = num
		}
		p.mu.Unlock()
	}
	return n, rest, ok
}

// maxRowScan is how far instance numbers are tried when the row of an interface is looked for.
const maxRowScan = 1024

// rowNamed finds the row of a table by the stored Name; "" if there is none.
func (p *Provider) rowNamed(stored func(string) string, table, name string) string {
	at := func(n uint32) string { return table + strconv.FormatUint(uint64(n), 10) }
	p.mu.Lock()
	n := p.rowOf[table+name]
	p.mu.Unlock()
	if n != 0 && stored(at(n)+".Name") == name {
		return at(n)
	}
	for n = 1; n <= maxRowScan; n++ {
		if stored(at(n)+".Name") == name {
			p.mu.Lock()
			p.rowOf[table+name] = n
			p.mu.Unlock()
			return at(n)
		}
	}
	return ""
}

func boolText(b bool) string { return strconv.FormatBool(b) }

// status maps operstate (RFC 2863) to the words of the data model.
func (n netif) status() string {
	switch n.text("operstate") {
	case "up":
		return "Up"
	case "down":
		return "Down"
	case "dormant", "testing":
		return "Dormant"
	case "notpresent":
		return "NotPresent"
	case "lowerlayerdown":
		return "LowerLayerDown"
	}
	if n.isLoopback() && n.isUp() { // the kernel never says more of it than unknown
		return "Up"
	}
	return "Unknown"
}

func (p *Provider) ethernet(obj datamodel.ObjectRef) reader {
	n, rest, ok := p.known(obj, ethTable)
	if !ok {
		return p.vanished(obj, ethTable)
	}
	if rest == "Stats." {
		return n.statistics
	}
	if rest != "" {
		return nil
	}
	return n.ethValue
}

func (n netif) ethValue(name string) (string, bool) {
	switch name {
	case "Enable":
		return boolText(n.isUp()), true
	case "Status":
		return n.status(), true
	case "LastChange":
		return n.p.lastChange(n), true
	case "Upstream":
		return boolText(n.p.isUpstream(n.name)), true
	case "MACAddress":
		mac := strings.ToUpper(n.text("address"))
		return mac, len(mac) == 17
	case "CurrentBitRate": // Mbit/s; -1 or unreadable while there is no link
		mbit, err := strconv.ParseInt(n.text("speed"), 10, 32)
		return strconv.FormatInt(max(mbit, 0), 10), err == nil
	case "CurrentDuplexMode":
		switch n.text("duplex") {
		case "full":
			return "Full", true
		case "half":
			return "Half", true
		}
		return "Unknown", true
	case "DuplexMode", "MaxBitRate":
		return n.linkValue(name)
	}
	return "", false
}

// vanished is the reader of a stored row whose interface is gone until the next sync.
func (p *Provider) vanished(obj datamodel.ObjectRef, table string) reader {
	if _, _, rest := rowPath(obj.Path, table); rest != "" {
		return nil
	}
	return func(name string) (string, bool) { return "NotPresent", name == "Status" }
}

// isUpstream: the default route leaves through the interface.
func (p *Provider) isUpstream(name string) bool {
	for line := range strings.Lines(p.text("proc/net/route")) {
		if f := strings.Fields(line); len(f) > 7 && f[0] == name && f[1] == "00000000" && f[7] == "00000000" {
			return true
		}
	}
	return false
}

// linkSettings is what a driver was told about its link, as opposed to what it negotiated.
type linkSettings struct {
	duplex string // DuplexMode: Auto, Half, Full
	mbit   int32  // MaxBitRate: -1 for the most that the other end can do
}

// linkValue gives DuplexMode and MaxBitRate where the driver tells.
func (n netif) linkValue(name string) (string, bool) {
	if n.p.link == nil {
		return "", false
	}
	l, err := n.p.link(n.name)
	if err != nil {
		n.p.log.Debug("cannot read link settings", "interface", n.name, "error", err)
		return "", false
	}
	if name == "DuplexMode" {
		return l.duplex, true
	}
	return strconv.FormatInt(int64(l.mbit), 10), true
}

// statistics: names of the data model and of the kernel; those with 32 bits wrap (StatsCounter32).
var statistics = map[string]struct {
	file string
	wide bool
}{
	"BytesReceived": {"rx_bytes", true}, "BytesSent": {"tx_bytes", true},
	"PacketsReceived": {"rx_packets", true}, "PacketsSent": {"tx_packets", true},
	"ErrorsReceived": {"rx_errors", false}, "ErrorsSent": {"tx_errors", false},
	"DiscardPacketsReceived": {"rx_dropped", false}, "DiscardPacketsSent": {"tx_dropped", false},
	"MulticastPacketsReceived": {"multicast", true}, "Collisions": {"collisions", true},
}

func (n netif) statistics(name string) (string, bool) {
	s, ok := statistics[name]
	if !ok {
		return "", false
	}
	v := n.count(s.file)
	if !s.wide {
		v &= math.MaxUint32
	}
	return strconv.FormatUint(v, 10), true
}

func (p *Provider) ipCapable(name string) (string, bool) {
	switch name {
	case "IPv4Capable", "IPv4Enable": // what the kernel has it cannot switch off
		return boolText(p.ipv4On()), true
	case "IPv6Capable":
		return boolText(p.exists("proc/net/if_inet6")), true
	case "IPv6Enable":
		return boolText(p.ipv6On()), true
	case "IPv4Status":
		return enabled(p.ipv4On()), true
	case "IPv6Status":
		return enabled(p.ipv6On()), true
	}
	return "", false
}

func (p *Provider) ipv4On() bool { return p.exists("proc/net/route") }

func (p *Provider) ipv6On() bool {
	off, ok := p.number("proc/sys/net/ipv6/conf/all/disable_ipv6")
	return ok && off == 0
}

func (p *Provider) ip(obj datamodel.ObjectRef) reader {
	n, rest, ok := p.known(obj, ipTable)
	switch {
	case !ok:
		return p.vanished(obj, ipTable)
	case rest == "Stats.":
		return n.statistics
	case strings.HasPrefix(rest, "IPv4Address."):
		return n.ipv4Status(obj)
	case strings.HasPrefix(rest, "IPv6Address."):
		return n.ipv6Status(obj)
	case rest != "":
		return nil
	}
	return func(name string) (string, bool) {
		if name == "LowerLayers" {
			if !n.isEthernet() || obj.Stored(obj.Path+name) != "" {
				return "", false
			}
			row := p.rowNamed(obj.Stored, ethTable, n.name)
			return row, row != ""
		}
		return n.ipValue(name)
	}
}

func (n netif) ipValue(name string) (string, bool) {
	switch name {
	case "Enable":
		return boolText(n.isUp()), true
	case "IPv4Enable": // the kernel has no switch for one interface
		return "true", true
	case "IPv6Enable":
		off, ok := n.p.number("proc/sys/net/ipv6/conf/" + n.name + "/disable_ipv6")
		return boolText(off == 0), ok
	case "Status":
		return n.status(), true
	case "LastChange":
		return n.p.lastChange(n), true
	case "Type":
		return n.ipType(), true
	case "Loopback":
		return boolText(n.isLoopback()), true
	case "MaxMTUSize":
		mtu, ok := n.p.number(n.dir + "/mtu")
		return strconv.FormatUint(min(max(mtu, 64), 65535), 10), ok // loopback has 65536, the model's range ends before
	}
	return "", false
}

// linkState is the status of an interface and since when it has it.
type linkState struct {
	status string
	since  time.Time
}

// lastChange is the number of seconds since the status changed, as far as the provider saw it: at every read and at
// every hint. An interface whose carrier came up at most once since the machine started counts from that start, another
// one from when it was first seen.
func (p *Provider) lastChange(n netif) string {
	now, status := p.o.Now(), n.status()
	p.mu.Lock()
	defer p.mu.Unlock()
	l, ok := p.links[n.name]
	if !ok || l.status != status {
		l = linkState{status, now}
		if changes, known := p.number(n.dir + "/carrier_changes"); !ok && known && changes <= 2 {
			up, _ := strconv.ParseFloat(strings.SplitN(p.text("proc/uptime"), " ", 2)[0], 64)
			l.since = now.Add(-time.Duration(min(max(up, 0), maxUptime) * float64(time.Second)))
		}
		if ok || len(p.links) < maxInterfaces {
			p.links[n.name] = l
		}
	}
	return strconv.FormatInt(int64(max(0, now.Sub(l.since))/time.Second), 10)
}

// maxUptime keeps a time.Duration from overflowing, in seconds.
const maxUptime = 100 * 365 * 24 * 3600

func (n netif) ipType() string {
	if n.isLoopback() {
		return "Loopback"
	}
	switch n.hardware() {
	case typeTunnel, typeTunnel + 1, typeSIT, typeGRE, typeNone:
		return "Tunnel"
	}
	return "Normal"
}

func (n netif) ipv4Status(obj datamodel.ObjectRef) reader {
	want := obj.Stored(obj.Path + "IPAddress")
	return func(name string) (string, bool) {
		if name != "Status" {
			return "", false
		}
		present := slices.ContainsFunc(n.ipv4(), func(a netip.Prefix) bool { return a.Addr().String() == want })
		return addressStatus(present, n), true
	}
}

func addressStatus(present bool, n netif) string { return enabled(present && n.isUp()) }

func enabled(b bool) string {
	if b {
		return "Enabled"
	}
	return "Disabled"
}

func (n netif) ipv6Status(obj datamodel.ObjectRef) reader {
	want := obj.Stored(obj.Path + "IPAddress")
	all := n.ipv6()
	at := slices.IndexFunc(all, func(a ipv6Address) bool { return a.addr.String() == want })
	return func(name string) (string, bool) {
		switch {
		case name == "Status":
			return addressStatus(at >= 0, n), true
		case name == "IPAddressStatus" && at < 0:
			return "Invalid", true
		case name == "IPAddressStatus":
			return all[at].state(), true
		case name == "Origin" && at >= 0:
			return all[at].origin(), true
		}
		return "", false
	}
}

// state is the IPAddressStatus of an address, by the flags that say most.
func (a ipv6Address) state() string {
	switch {
	case a.flags&addrDadFailed != 0:
		return "Duplicate"
	case a.flags&addrOptimistic != 0:
		return "Optimistic"
	case a.flags&addrTentative != 0:
		return "Tentative"
	case a.flags&addrDeprecated != 0:
		return "Deprecated"
	}
	return "Preferred"
}

// origin is a guess from what the kernel knows: it makes link-local, loopback and temporary addresses itself; another
// one that does not last forever came by router advertisement with /64 and by DHCPv6 with /128.
func (a ipv6Address) origin() string {
	switch {
	case a.addr.IsLoopback():
		return "WellKnown"
	case a.addr.IsLinkLocalUnicast(), a.flags&addrTemporary != 0:
		return "AutoConfigured"
	case a.flags&addrPermanent != 0:
		return "Static"
	case a.bits == 128:
		return "DHCPv6"
	}
	return "AutoConfigured"
}
