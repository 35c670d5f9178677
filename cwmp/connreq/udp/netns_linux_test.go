package udp

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inNamespace runs fn on a thread inside a network namespace. Sockets made there stay there.
func inNamespace(name string, fn func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine and takes the namespace with it
		f, err := os.Open("/run/netns/" + name)
		if err == nil {
			defer f.Close()
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = fn()
		}
		result <- err
	}()
	return <-result
}

func listenIn(name string) func(network, address string) (net.PacketConn, error) {
	return func(network, address string) (conn net.PacketConn, err error) {
		err = inNamespace(name, func() (err error) { conn, err = net.ListenPacket(network, address); return err })
		return conn, err
	}
}

// namespaces builds CPE - NAT - server with the masquerading of the kernel. It returns the names of the two ends.
func namespaces(t *testing.T, timeout int) (cpe, server string) {
	t.Helper()
	name := func(part string) string { return fmt.Sprintf("tsudp%d%s", os.Getpid(), part) }
	ip := func(args ...string) error {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("no nft on this machine; the NAT of TestThroughNAT and TestSearch stands in for the kernel's")
	}
	cpe, nat, server := name("c"), name("n"), name("s")
	for _, ns := range []string{cpe, nat, server} {
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
		"-n C link add veth0 type veth peer name veth0 netns N", "-n S link add veth1 type veth peer name veth1 netns N",
		"-n C addr add 10.0.0.2/30 dev veth0", "-n N addr add 10.0.0.1/30 dev veth0",
		"-n S addr add 198.51.100.1/24 dev veth1", "-n N addr add 198.51.100.7/24 dev veth1",
		"-n C link set veth0 up", "-n N link set veth0 up", "-n S link set veth1 up", "-n N link set veth1 up",
		"-n C route add default via 10.0.0.1",
	} {
		args := strings.Fields(line)
		for i, a := range args {
			switch a {
			case "C":
				args[i] = cpe
			case "N":
				args[i] = nat
			case "S":
				args[i] = server
			}
		}
		if err := ip(args...); err != nil {
			t.Fatal(err)
		}
	}
	if err := ip("netns", "exec", nat, "nft", "add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }; add rule ip nat post oifname veth1 masquerade"); err != nil {
		t.Skipf("no NAT of the kernel on this machine: %v", err)
	}
	script := fmt.Sprintf(`set -e
nft 'add table ip f; add chain ip f pass { type filter hook forward priority 0; }; add rule ip f pass iifname veth1 ct state new drop'
cd /proc/sys/net; echo 1 > ipv4/ip_forward
echo %[1]d > netfilter/nf_conntrack_udp_timeout; echo %[1]d > netfilter/nf_conntrack_udp_timeout_stream`, timeout)
	if err := ip("netns", "exec", nat, "sh", "-c", script); err != nil {
		t.Fatal(err)
	}
	return cpe, server
}

// TestKernelNAT goes through the masquerading of Linux, which forgets a binding after two seconds of silence: with
// keep-alives every second a request comes through at any time, with rare ones it does not.
func TestKernelNAT(t *testing.T) {
	cpe, serverSpace := namespaces(t, 2)
	conn, err := listenIn(serverSpace)("udp4", "198.51.100.1:3478")
	if err != nil {
		t.Fatal(err)
	}
	server := &stunServer{}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			for _, r := range server.handle(buf[:n], addrPort(from)) {
				_, _ = conn.WriteTo(r.data, net.UDPAddrFromAddrPort(r.to))
			}
		}
	})
	t.Cleanup(func() { conn.Close(); wg.Wait() })
	start := func(period time.Duration) *runner {
		return run(t, Config{Address: "0.0.0.0:0", Server: "198.51.100.1", KeepAliveMin: period, KeepAliveMax: period, ListenPacket: listenIn(cpe),
			LocalAddr: func(s netip.AddrPort) (ip netip.Addr, err error) {
				err = inNamespace(cpe, func() (err error) { ip, err = routeTo(s); return err })
				return ip, err
			}})
	}
	ask := func(r *runner, id uint64) { // from the address of the STUN server: this NAT lets nobody else in
		s := r.state()
		raw := (&Request{Timestamp: uint64(time.Now().Unix()), ID: id, User: "cpe"}).Encode(s.Address(), "secret")
		_, _ = conn.WriteTo(raw, net.UDPAddrFromAddrPort(s.Mapped))
	}
	often := start(time.Second)
	rare := start(20 * time.Second)
	until(t, "the addresses", func() bool { return often.state().Mapped.IsValid() && rare.state().Mapped.IsValid() })
	for _, r := range []*runner{often, rare} {
		s := r.state()
		if !s.NATDetected() || s.Mapped.Addr() != netip.MustParseAddr("198.51.100.7") || s.Local.Addr() != netip.MustParseAddr("10.0.0.2") {
			t.Errorf("%+v", s)
		}
		ask(r, 1)
		until(t, "the first request", func() bool { return r.requested.Load() == 1 })
	}
	time.Sleep(4 * time.Second)
	ask(often, 2)
	ask(rare, 2)
	until(t, "the second request", func() bool { return often.requested.Load() == 2 })
	time.Sleep(200 * time.Millisecond)
	if rare.requested.Load() != 1 {
		t.Error("the NAT of this test forgets nothing: the test shows nothing")
	}
}
