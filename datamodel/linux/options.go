package linux

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path"
	"time"
)

// Options of New. The zero value reports this machine.
type Options struct {
	// Root is the directory below which proc/, sys/ and etc/ are; "" is "/". Another one is for tests and containers:
	// then there are neither IPv4 addresses (but see IPv4) nor change hints nor the kernel's clock state.
	Root string
	// What the machine does not know of itself, or should say otherwise; "" takes DMI, the device tree or os-release.
	Manufacturer, ManufacturerOUI, ProductClass, ModelName, SerialNumber, HardwareVersion, SoftwareVersion string
	// Leases is a file of DHCP leases in the format of dnsmasq, for the names of hosts; "" means none.
	Leases string
	// Ignore are patterns (path.Match) of interface names that are not reported; nil is DefaultIgnore.
	Ignore []string
	// HostInterfaces are patterns of the interfaces whose neighbours are hosts; nil is all.
	HostInterfaces []string

	Log *slog.Logger // nil: no log
	// IPv4 gives the IPv4 addresses of an interface; nil asks the kernel, if Root is "/".
	IPv4 func(name string) ([]netip.Prefix, error)
	Now  func() time.Time // nil: time.Now
}

// DefaultIgnore are interfaces that exist for the machine's own purposes only.
var DefaultIgnore = []string{"veth*", "ifb*", "dummy*", "docker*", "br-*", "virbr*", "sit0", "tunl0", "ip6tnl0", "gre0",
	"gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6gre0"}

// ParseOptions reads the table [providers.linux] of a device profile. Keys: root, manufacturer, manufacturer_oui,
// product_class, model_name, serial_number, hardware_version, software_version, leases (texts), ignore,
// host_interfaces (lists of patterns). Errors name the key.
func ParseOptions(table map[string]any) (Options, error) {
	var o Options
	texts := map[string]*string{
		"root": &o.Root, "manufacturer": &o.Manufacturer, "manufacturer_oui": &o.ManufacturerOUI, "product_class": &o.ProductClass,
		"model_name": &o.ModelName, "serial_number": &o.SerialNumber, "hardware_version": &o.HardwareVersion,
		"software_version": &o.SoftwareVersion, "leases": &o.Leases,
	}
	lists := map[string]*[]string{"ignore": &o.Ignore, "host_interfaces": &o.HostInterfaces}
	for key, v := range table {
		if dst := texts[key]; dst != nil {
			s, ok := v.(string)
			if !ok {
				return o, fmt.Errorf("linux: %s is not a text", key)
			}
			*dst = s
			continue
		}
		dst := lists[key]
		if dst == nil {
			return o, fmt.Errorf("linux: unknown key %s", key)
		}
		items, ok := v.([]any)
		if !ok {
			return o, fmt.Errorf("linux: %s is not a list of texts", key)
		}
		*dst = []string{}
		for _, it := range items {
			s, ok := it.(string)
			if !ok {
				return o, fmt.Errorf("linux: %s is not a list of texts", key)
			}
			*dst = append(*dst, s)
		}
	}
	return o, o.validate()
}

func (o *Options) validate() error {
	for key, list := range map[string][]string{"ignore": o.Ignore, "host_interfaces": o.HostInterfaces} {
		for _, p := range list {
			if _, err := path.Match(p, ""); err != nil {
				return fmt.Errorf("linux: %s: pattern %q: %w", key, p, err)
			}
		}
	}
	return nil
}

func matches(patterns []string, name string) bool {
	for _, p := range patterns {
		if ok, _ := path.Match(p, name); ok {
			return true
		}
	}
	return false
}

// kernelIPv4 is Options.IPv4 of the real machine.
func kernelIPv4(name string) ([]netip.Prefix, error) {
	ifc, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	addrs, err := ifc.Addrs()
	if err != nil {
		return nil, err
	}
	var out []netip.Prefix
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			out = append(out, p)
		}
	}
	return out, nil
}
