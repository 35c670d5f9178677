package linux

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"twinspan/datamodel"
)

// arpComplete is the flag of a neighbour that has answered (linux/if_arp.h).
const arpComplete = 0x2

// hostTable numbers the neighbours. A host keeps its number as long as the kernel lists it; numbers are not used
// again before they wrap.
type hostTable struct {
	byMAC map[string]*host
	next  uint32
}

type host struct {
	n      uint32
	mac    string
	dev    string
	active bool
	since  time.Time // active or inactive since; zero: since before we looked
	ips    []hostIP
	nextIP uint32
	seen   bool
}

type hostIP struct {
	n    uint32
	addr string
	seen bool
}

// refresh reads the neighbours and brings the table up to date. The caller holds p.mu.
func (p *Provider) refreshHosts() {
	t := &p.hosts
	if t.byMAC == nil {
		t.byMAC = map[string]*host{}
	}
	first := t.next == 0
	for _, h := range t.byMAC {
		h.seen = false
		for i := range h.ips {
			h.ips[i].seen = false
		}
	}
	active := map[string]bool{}
	lines := strings.Split(p.text("proc/net/arp"), "\n")
	for _, line := range lines[min(1, len(lines)):] { // the first line is a heading
		f := strings.Fields(line)
		if len(f) < 6 || f[3] == "00:00:00:00:00:00" || p.o.HostInterfaces != nil && !matches(p.o.HostInterfaces, f[5]) {
			continue
		}
		if a, err := netip.ParseAddr(f[0]); err != nil || !a.Is4() || len(f[3]) > 64 || !validIfname(f[5]) {
			continue
		}
		mac := strings.ToUpper(f[3])
		h := t.byMAC[mac]
		if h == nil {
			if len(t.byMAC) >= maxHosts {
				p.log.Warn("more hosts than are listed", "listed", maxHosts)
				break
			}
			t.next = nextNumber(t.next)
			h = &host{n: t.next, mac: mac}
			t.byMAC[mac] = h
		}
		h.seen, h.dev = true, f[5]
		flags, _ := strconv.ParseUint(f[2], 0, 32)
		active[mac] = active[mac] || flags&arpComplete != 0
		h.addIP(f[0])
	}
	now := p.o.Now()
	for mac, h := range t.byMAC {
		if !h.seen {
			delete(t.byMAC, mac)
			continue
		}
		if h.active != active[mac] {
			h.active = active[mac]
			if !first {
				h.since = now
			}
		}
		h.ips = slices.DeleteFunc(h.ips, func(ip hostIP) bool { return !ip.seen })
	}
}

func nextNumber(n uint32) uint32 {
	if n == math.MaxUint32 {
		return 1
	}
	return n + 1
}

func (h *host) addIP(addr string) {
	for i := range h.ips {
		if h.ips[i].addr == addr {
			h.ips[i].seen = true
			return
		}
	}
	if len(h.ips) < maxHostIPs {
		h.nextIP = nextNumber(h.nextIP)
		h.ips = append(h.ips, hostIP{n: h.nextIP, addr: addr, seen: true})
	}
}

func (p *Provider) hostRows() ([]uint32, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refreshHosts()
	out := make([]uint32, 0, len(p.hosts.byMAC))
	for _, h := range p.hosts.byMAC {
		out = append(out, h.n)
	}
	slices.Sort(out)
	return out, nil
}

func (p *Provider) hostAddressRows(table string) ([]uint32, error) {
	_, n, rest := rowPath(table, hostTab)
	if rest != "IPv4Address." {
		return nil, fmt.Errorf("linux: %s is not a table of this provider", table)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts.numbered(n)
	if h == nil {
		return nil, nil
	}
	out := make([]uint32, 0, len(h.ips))
	for _, ip := range h.ips {
		out = append(out, ip.n)
	}
	return out, nil
}

func (t *hostTable) numbered(n uint32) *host {
	for _, h := range t.byMAC {
		if h.n == n {
			return h
		}
	}
	return nil
}

// host reads a host as it was when its table was last listed.
func (p *Provider) host(obj datamodel.ObjectRef) reader {
	_, n, rest := rowPath(obj.Path, hostTab)
	p.mu.Lock()
	found := p.hosts.numbered(n)
	if found == nil {
		p.mu.Unlock()
		return nil
	}
	h := *found
	h.ips = slices.Clone(h.ips)
	p.mu.Unlock()
	if rest != "" {
		return h.address(rest)
	}
	return func(name string) (string, bool) {
		switch name {
		case "PhysAddress":
			return h.mac, true
		case "IPAddress":
			if len(h.ips) == 0 {
				return "", true
			}
			return h.ips[0].addr, true
		case "Active":
			return boolText(h.active), true
		case "ActiveLastChange":
			if h.since.IsZero() {
				return datamodel.UnknownTime, true
			}
			return h.since.UTC().Format("2006-01-02T15:04:05Z"), true
		case "HostName":
			return p.leaseName(h.mac), true
		case "InterfaceType":
			return p.interfaceType(h.dev), true
		case "Layer3Interface":
			if obj.Stored == nil {
				return "", false
			}
			return p.rowNamed(obj.Stored, ipTable, h.dev), true
		case "Layer1Interface":
			if n, ok := p.netif(h.dev); ok && n.isEthernet() && obj.Stored != nil {
				return p.rowNamed(obj.Stored, ethTable, h.dev), true
			}
		}
		return "", false
	}
}

func (h *host) address(rest string) reader {
	num, ok := strings.CutPrefix(rest, "IPv4Address.")
	n, err := strconv.ParseUint(strings.TrimSuffix(num, "."), 10, 32)
	if !ok || err != nil {
		return nil
	}
	return func(name string) (string, bool) {
		for _, ip := range h.ips {
			if ip.n == uint32(n) && name == "IPAddress" {
				return ip.addr, true
			}
		}
		return "", false
	}
}

func (p *Provider) interfaceType(dev string) string {
	n, ok := p.netif(dev)
	switch {
	case ok && (n.has("wireless") || n.has("phy80211")):
		return "Wi-Fi"
	case ok && n.isEthernet():
		return "Ethernet"
	}
	return "Other" // a bridge does not say behind which port a host is
}

// leaseName finds a host's name in the leases: "expiry mac address name client-id", name * if there is none.
func (p *Provider) leaseName(mac string) string {
	if p.o.Leases == "" {
		return ""
	}
	for line := range strings.Lines(p.text(p.o.Leases)) {
		if f := strings.Fields(line); len(f) >= 4 && strings.EqualFold(f[1], mac) && f[3] != "*" {
			return clip(f[3], 64)
		}
	}
	return ""
}
