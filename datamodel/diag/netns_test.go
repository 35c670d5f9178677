package diag

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"twinspan/datamodel"
)

// inside is set in the process that runs in the namespace of the client.
const inside = "TWINSPAN_DIAG_NAMESPACE"

// TestNetwork builds client - router - server of network namespaces and runs TestInside in the client's. It needs root
// and iproute2; the tests on the wire of icmp_test.go check the same rules without.
func TestNetwork(t *testing.T) {
	if os.Getenv(inside) != "" {
		return
	}
	t.Parallel() // it mostly waits
	name := func(part string) string { return fmt.Sprintf("tsdiag%d%s", os.Getpid(), part) }
	ip := func(args ...string) error {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	c, r, s := name("c"), name("r"), name("s")
	for _, ns := range []string{c, r, s} {
		if err := ip("netns", "add", ns); err != nil {
			t.Skipf("no network namespaces on this machine, which need root and iproute2: %v", err)
		}
		t.Cleanup(func() {
			if err := ip("netns", "del", ns); err != nil {
				t.Error(err)
			}
		})
	}
	for _, line := range []string{
		"-n C link add veth0 type veth peer name veth0 netns R",
		"-n S link add veth1 type veth peer name veth1 netns R",
		"-n C addr add 192.0.2.2/30 dev veth0", "-n R addr add 192.0.2.1/30 dev veth0",
		"-n S addr add 198.51.100.2/30 dev veth1", "-n R addr add 198.51.100.1/30 dev veth1",
		"-n C addr add 2001:db8:1::2/64 dev veth0 nodad", "-n R addr add 2001:db8:1::1/64 dev veth0 nodad",
		"-n S addr add 2001:db8:2::2/64 dev veth1 nodad", "-n R addr add 2001:db8:2::1/64 dev veth1 nodad",
		"-n C link set lo up", "-n S link set lo up", "-n C link set veth0 up", "-n R link set veth0 up", "-n S link set veth1 up", "-n R link set veth1 up",
		"-n C route add 198.51.100.0/24 via 192.0.2.1", "-n S route add default via 198.51.100.1", "-n R route add prohibit 198.51.100.128/25",
		"-n C -6 route add 2001:db8:2::/64 via 2001:db8:1::1", "-n S -6 route add default via 2001:db8:2::1",
		"netns exec R sh -c A", "netns exec C sh -c B",
	} {
		args := strings.Fields(line)
		for i, a := range args {
			switch a {
			case "C":
				args[i] = c
			case "R":
				args[i] = r
			case "S":
				args[i] = s
			case "A": // a router; and no limit on how often it tells of an error
				args[i] = "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding; echo 0 > /proc/sys/net/ipv4/icmp_ratemask; echo 0 > /proc/sys/net/ipv6/icmp/ratelimit"
			case "B": // lets everybody ping, but not in the first run of TestInside
				args[i] = "echo 1 0 > /proc/sys/net/ipv4/ping_group_range"
			}
		}
		if err := ip(args...); err != nil {
			t.Fatal(err)
		}
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, socket := range []string{"raw", "unprivileged"} {
		if socket == "unprivileged" {
			if err := ip("netns", "exec", c, "sh", "-c", "echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range"); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("ip", "netns", "exec", c, exe, "-test.run=^TestInside$", "-test.v", "-test.timeout=30s", "-test.fuzzcachedir="+t.TempDir())
		cmd.Env = append(os.Environ(), inside+"="+socket)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestInside") {
			t.Errorf("%s: %v\n%s", socket, err, out)
		}
	}
}

// TestInside runs in the namespace of the client.
func TestInside(t *testing.T) {
	kind := os.Getenv(inside)
	if kind == "" {
		return // TestNetwork starts it
	}
	p := provider(t, Options{})
	p.names = names{"server.test": {"198.51.100.2", "2001:db8:2::2"}, "router.test": {"192.0.2.1", "2001:db8:1::1"}}
	const ping, trace = ipDiag + "IPPing()", ipDiag + "TraceRoute()"
	for _, version := range []string{"IPv4", "IPv6"} { // until the neighbours have found each other
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
			if out := runs(t, p, ping, "Host", "server.test", "ProtocolVersion", version, "NumberOfRepetitions", "1", "Timeout", "200"); out["SuccessCount"] == "1" {
				break
			}
		}
	}
	for version, used := range map[string]string{"IPv4": "192.0.2.2", "IPv6": "2001:db8:1::2"} {
		out := runs(t, p, ping, "Host", "server.test", "ProtocolVersion", version, "NumberOfRepetitions", "3", "Timeout", "2000", "DataBlockSize", "3000", "DSCP", "46")
		if out["Status"] != complete || out["SuccessCount"] != "3" || out["IPAddressUsed"] != used {
			t.Errorf("%v", out)
		}
		out = runs(t, p, trace, "Host", "server.test", "ProtocolVersion", version, "Timeout", "2000")
		if out["Status"] != complete || out["RouteHops.1.Host"] != "router.test" || out["RouteHops.2.Host"] != "server.test" || out["RouteHops.3.Host"] != "" ||
			strings.Contains(out["RouteHops.1.RTTimes"], "0") || out["IPAddressUsed"] != used {
			t.Errorf("%v", out)
		}
		if out := runs(t, p, trace, "Host", "server.test", "ProtocolVersion", version, "Timeout", "2000", "MaxHopCount", "1"); out["Status"] != errMaxHops {
			t.Errorf("%v", out)
		}
	}
	if out := runs(t, p, ping, "Host", "203.0.113.1"); out["Status"] != errNoRoute {
		t.Errorf("no route: %v", out)
	}
	if out := runs(t, p, trace, "Host", "198.51.100.200", "Timeout", "2000"); out["Status"] != errNoRoute || out["RouteHops.1.ErrorCode"] != "13" {
		t.Errorf("prohibited: %v", out)
	}
	if out := runs(t, p, ping, "Host", "198.51.100.200", "Timeout", "300", "NumberOfRepetitions", "2"); out["Status"] != complete || out["FailureCount"] != "2" {
		t.Errorf("prohibited: %v", out)
	}
	conn, err := p.listen(netip.MustParseAddr("192.0.2.1"), netip.Addr{}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, plain := conn.LocalAddr().(*net.UDPAddr); plain != (kind == "unprivileged") {
		t.Errorf("the socket is %T", conn.LocalAddr())
	}
	// The echo server on any address answers from the one that was asked.
	port := freePort(t)
	apply(t, p, "Enable", "true", "UDPPort", port, "SourceIPAddress", "192.0.2.2")
	if out := runs(t, p, udpEcho, "Host", "192.0.2.2", "Port", port, "Timeout", "1000"); out["SuccessCount"] != "1" {
		t.Errorf("%v", out)
	}
}

func TestDialIsCanceled(t *testing.T) {
	p := provider(t, Options{})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := p.Run(ctx, invocation(downloadTest, "DownloadURL", "http://slow.test/")); err == nil {
		t.Error("not canceled")
	}
	inv := invocation(upload1, "URL", "http://slow.test/")
	p.o.LogFiles = []LogFile{LogFileFrom("/dev/null")}
	inv.Object.Stored = stored(logTab+"1.Name", "/dev/null")
	ctx, cancel = context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := p.Run(ctx, inv); err == nil || datamodel.ReasonOf(err) == datamodel.CommandFailed {
		t.Errorf("%v", err)
	}
}
