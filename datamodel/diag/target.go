package diag

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"twinspan/datamodel"
)

// resolveTime bounds one resolution of a name.
const resolveTime = 10 * time.Second

// path is where packets go, and from where.
type path struct {
	dst   netip.Addr
	src   netip.Addr // not valid: routing chooses
	local netip.Addr // what src is, or what routing chose
}

// via is how a test wants to reach hosts.
type via struct {
	version  string // Any, IPv4, IPv6; "" is Any
	bound    bool   // an Interface was given
	sources  []netip.Addr
	dscp     int
	priority int // Ethernet priority, -1: none
}

// via reads the arguments Interface, ProtocolVersion, DSCP and EthernetPriority.
func (p *Provider) via(r *run) (via, error) {
	v := via{version: r.args.m["ProtocolVersion"], dscp: int(r.args.number("DSCP", 0, 0, 63)), priority: -1}
	if r.args.m["EthernetPriority"] != "" {
		v.priority = int(r.args.number("EthernetPriority", 0, 0, 7))
	}
	switch v.version {
	case "", "Any", "IPv4", "IPv6":
	default:
		r.args.fail("ProtocolVersion", "must be Any, IPv4 or IPv6")
	}
	if r.args.err != nil {
		return v, r.args.err
	}
	ref := strings.TrimSuffix(r.args.m["Interface"], ".")
	if ref == "" {
		return v, nil // routing decides
	}
	name := ""
	if r.inv.Object.Stored != nil {
		name = r.inv.Object.Stored(ref + ".Name")
	}
	if name == "" {
		r.args.fail("Interface", "names no interface of the system")
		return v, r.args.err
	}
	var err error
	if v.sources, err = p.addresses(name); err != nil || len(v.sources) == 0 {
		return v, status(errNoRoute, fmt.Errorf("interface %s has no address: %w", name, errors.Join(err, syscall.EADDRNOTAVAIL)))
	}
	v.bound = true
	return v, nil
}

// find resolves a host and chooses the source address.
func (p *Provider) find(ctx context.Context, host string, v via) (path, error) {
	addrs, err := p.lookup(ctx, host, v.version)
	if err != nil {
		return path{}, err
	}
	for _, dst := range addrs {
		if !v.bound {
			local, err := localFor(dst)
			if err != nil {
				if dst == addrs[len(addrs)-1] {
					return path{dst: dst}, sendStatus(err)
				}
				continue
			}
			return path{dst: dst, local: local}, nil
		}
		if src, ok := sourceFor(dst, v.sources); ok {
			return path{dst: dst, src: src, local: src}, nil
		}
	}
	return path{dst: addrs[0]}, status(errNoRoute, errors.New("the interface has no address of that family"))
}

// lookup returns at least one address, or a status.
func (p *Provider) lookup(ctx context.Context, host, version string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		a = a.Unmap()
		if version == "IPv4" && !a.Is4() || version == "IPv6" && a.Is4() {
			return nil, status(errResolve, errors.New("the address is not of the wanted protocol version"))
		}
		return []netip.Addr{a}, nil
	}
	network := map[string]string{"IPv4": "ip4", "IPv6": "ip6"}[version]
	if network == "" {
		network = "ip"
	}
	limited, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	addrs, err := p.names.LookupNetIP(limited, network, host)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err == nil && len(addrs) == 0 {
		err = errors.New("no address")
	}
	if err != nil {
		return nil, status(errResolve, err)
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, nil
}

// sourceFor picks the source of dst's family, with the scope of dst if there is one.
func sourceFor(dst netip.Addr, sources []netip.Addr) (netip.Addr, bool) {
	best, score := netip.Addr{}, -1
	for _, s := range sources {
		if s.Is4() != dst.Is4() {
			continue
		}
		n := 0
		if s.IsLinkLocalUnicast() == dst.IsLinkLocalUnicast() {
			n += 2
		}
		if s.IsLoopback() == dst.IsLoopback() {
			n++
		}
		if n > score {
			best, score = s, n
		}
	}
	return best, score >= 0
}

// localFor asks routing for the source address; nothing is sent.
func localFor(dst netip.Addr) (netip.Addr, error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(dst, 9)))
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().WithZone(""), nil
}

// sendStatus says what an error of the socket means for a test.
func sendStatus(err error) error {
	if unreachable(err) {
		return status(errNoRoute, err)
	}
	return status(errInternal, err)
}

func unreachable(err error) bool {
	for _, e := range []error{syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EHOSTDOWN, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// kernelAddresses are the addresses of an interface.
func kernelAddresses(name string) ([]netip.Addr, error) {
	ifc, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	list, err := ifc.Addrs()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, a := range list {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		addr := prefix.Addr().Unmap()
		if addr.Is6() && addr.IsLinkLocalUnicast() {
			addr = addr.WithZone(name)
		}
		out = append(out, addr)
	}
	return out, nil
}

// interfaceOf names the interface that has an address, "" if there is none.
func interfaceOf(addr netip.Addr) string {
	list, err := net.Interfaces()
	if err != nil {
		return ""
	}
	for _, ifc := range list {
		addrs, err := ifc.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == addr.WithZone("").Unmap() {
				return ifc.Name
			}
		}
	}
	return ""
}

// sysfsCounters are the bytes that an interface received and sent.
func sysfsCounters(name string) (rx, tx uint64, err error) {
	if name == "" || strings.ContainsAny(name, "/ \x00") || name == "." || name == ".." {
		return 0, 0, os.ErrNotExist
	}
	read := func(file string) uint64 {
		b, e := os.ReadFile("/sys/class/net/" + name + "/statistics/" + file)
		if e != nil {
			err = e
			return 0
		}
		n, e := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
		if e != nil {
			err = e
		}
		return n
	}
	return read("rx_bytes"), read("tx_bytes"), err
}

// ifname is the system name of the interface an invocation is about.
func ifname(inv datamodel.Invocation) string {
	if inv.Object.Stored == nil {
		return ""
	}
	return inv.Object.Stored(strings.TrimSuffix(inv.Object.Path, "Stats.") + "Name")
}
