package linux

import (
	"os"
	"path/filepath"
	"testing"
)

func TestHasDefaultRoute(t *testing.T) {
	const head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
	const lan = "eth1\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
	zero := "00000000000000000000000000000000"
	for name, c := range map[string]struct {
		v4, v6    string
		up, known bool
	}{
		"nothing is told": {"", "", false, false},
		"only the LAN":    {head + lan, "", false, true},
		"IPv4":            {head + lan + "eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n", "", true, true},
		"IPv4 down":       {head + "eth0\t00000000\t0101A8C0\t0002\t0\t0\t0\t00000000\t0\t0\t0\n", "", false, true},
		"IPv6 rejecting":  {head, zero + " 00 " + zero + " 00 " + zero + " ffffffff 00000001 00000000 00200200 lo\n" + zero + " 00 " + zero + " 00 " + zero + " ffffffff 00000001 00000000 00000201 eth0\n", false, true},
		"IPv6":            {head, zero + " 00 " + zero + " 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n", true, true},
		"damaged":         {"x\n00000000", zero + " 00 zz\n", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if err := os.MkdirAll(filepath.Join(root, "proc/net"), 0o700); err != nil {
				t.Fatal(err)
			}
			for file, text := range map[string]string{"route": c.v4, "ipv6_route": c.v6} {
				if text != "" {
					if err := os.WriteFile(filepath.Join(root, "proc/net", file), []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			if up, known := HasDefaultRoute(root); up != c.up || known != c.known {
				t.Errorf("up %v, known %v", up, known)
			}
		})
	}
}
