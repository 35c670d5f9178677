package linux

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Flags of routes (linux/route.h).
const (
	routeUp     = 0x1
	routeReject = 0x200
)

// HasDefaultRoute reports whether the kernel has a default route of IPv4 or IPv6 over anything but the loopback, that is a
// way out. root is "" for the real machine. known is false where the kernel does not tell.
func HasDefaultRoute(root string) (up, known bool) {
	if root == "" {
		root = "/"
	}
	for _, f := range []struct {
		file                     string
		dest, bits, flags, iface int
		zero, all                string
	}{{"route", 1, 7, 3, 0, "00000000", "00000000"}, {"ipv6_route", 0, 1, 8, 9, strings.Repeat("0", 32), "00"}} {
		text, err := os.ReadFile(filepath.Join(root, "proc/net", f.file))
		if err != nil {
			continue
		}
		known = true
		for _, line := range strings.Split(string(text), "\n") {
			c := strings.Fields(line)
			if len(c) <= max(f.bits, f.flags, f.iface) || c[f.dest] != f.zero || c[f.bits] != f.all || c[f.iface] == "lo" {
				continue
			}
			if n, err := strconv.ParseUint(c[f.flags], 16, 32); err == nil && n&routeUp != 0 && n&routeReject == 0 {
				return true, true
			}
		}
	}
	return false, known
}
