package diag

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"

	"twinspan/datamodel"
)

// wire is a socket into a network of the test's making: answers gets each request and its hop limit.
type wire struct {
	answers func(seq, ttl int, data []byte, id int) (msg icmp.Message, from string)

	mu       sync.Mutex
	ttl      int
	deadline time.Time
	in       chan packet
	closed   chan struct{}
	once     sync.Once
	writeErr error
}

type packet struct {
	b    []byte
	from string
}

func newWire(answers func(seq, ttl int, data []byte, id int) (icmp.Message, string)) *wire {
	return &wire{answers: answers, in: make(chan packet, 100), closed: make(chan struct{}), ttl: 64}
}

func (w *wire) WriteTo(b []byte, _ net.Addr) (int, error) {
	if w.writeErr != nil {
		return 0, w.writeErr
	}
	m, err := icmp.ParseMessage(1, b)
	if err != nil {
		return 0, err
	}
	e := m.Body.(*icmp.Echo)
	w.mu.Lock()
	msg, from := w.answers(e.Seq, w.ttl, e.Data, e.ID)
	w.mu.Unlock()
	if msg.Type == nil {
		return len(b), nil // lost
	}
	if msg.Body == nil { // an error, which quotes the packet
		quoted := append([]byte{0x45, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1}, b...)
		msg.Body = &icmp.TimeExceeded{Data: quoted}
		if msg.Type == ipv4.ICMPTypeDestinationUnreachable {
			msg.Body = &icmp.DstUnreach{Data: quoted}
		}
	}
	out, err := msg.Marshal(nil)
	if err != nil {
		return 0, err
	}
	w.in <- packet{out, from}
	return len(b), nil
}

func (w *wire) ReadFrom(b []byte) (int, net.Addr, error) {
	t := time.NewTimer(time.Until(w.deadline))
	defer t.Stop()
	select {
	case p := <-w.in:
		return copy(b, p.b), &net.IPAddr{IP: net.ParseIP(p.from)}, nil
	case <-t.C:
		return 0, nil, os.ErrDeadlineExceeded
	case <-w.closed:
		return 0, nil, net.ErrClosed
	}
}
func (w *wire) SetReadDeadline(t time.Time) error { w.deadline = t; return nil }
func (w *wire) LocalAddr() net.Addr               { return &net.IPAddr{} }
func (w *wire) setTTL(ttl int) error              { w.ttl = ttl; return nil }
func (w *wire) setClass(int) error                { return nil }
func (w *wire) Close() error                      { w.once.Do(func() { close(w.closed) }); return nil }

func echoOf(seq, id int, data []byte) icmp.Message {
	return icmp.Message{Type: ipv4.ICMPTypeEchoReply, Body: &icmp.Echo{ID: id, Seq: seq, Data: data}}
}

// onWire puts a provider on a wire.
func onWire(p *Provider, w *wire) {
	p.listen = func(_, _ netip.Addr, _ bool) (icmpConn, error) { return w, nil }
}

// canICMP reports whether this machine lets the test open real ICMP sockets. Where it does not, the tests on the wire
// of the test's making still check everything but the socket itself.
func canICMP(raw bool) bool {
	c, err := listenICMP(netip.MustParseAddr("127.0.0.1"), netip.Addr{}, raw)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

func TestPingLoopback(t *testing.T) {
	p := provider(t, Options{})
	if !canICMP(false) {
		// What a machine without the right must say.
		fails(t, p, datamodel.CommandFailed, ipDiag+"IPPing()", "Host", "four.test")
		t.Log("no ICMP sockets on this machine: checked the refusal")
		return
	}
	for _, c := range []struct{ host, version, used string }{
		{"127.0.0.1", "Any", "127.0.0.1"}, {"four.test", "IPv4", "127.0.0.1"}, {"both.test", "IPv4", "127.0.0.1"},
		{"::1", "Any", "::1"}, {"both.test", "IPv6", "::1"},
	} {
		if strings.Contains(c.used, ":") {
			if _, err := localFor(netip.IPv6Loopback()); err != nil {
				t.Logf("no IPv6 here: %v", err)
				continue
			}
		}
		out := runs(t, p, ipDiag+"IPPing()", "Host", c.host, "ProtocolVersion", c.version, "NumberOfRepetitions", "3",
			"Timeout", "2000", "DataBlockSize", "1400", "DSCP", "10")
		checkWhole(t, ipDiag+"IPPing()", out)
		if out["Status"] != complete || out["SuccessCount"] != "3" || out["FailureCount"] != "0" || out["IPAddressUsed"] != c.used {
			t.Errorf("%v: %v", c, out)
		}
		least, _ := strconv.Atoi(out["MinimumResponseTimeDetailed"])
		most, _ := strconv.Atoi(out["MaximumResponseTimeDetailed"])
		mean, _ := strconv.Atoi(out["AverageResponseTimeDetailed"])
		if least < 1 || least > mean || mean > most || most > 2e6 {
			t.Errorf("times %d, %d, %d µs", least, mean, most)
		}
	}
	// By the interface: its address is the source.
	out := runs(t, p, ipDiag+"IPPing()", "Host", "127.0.0.2", "Interface", "Device.IP.Interface.1", "NumberOfRepetitions", "1")
	if out["SuccessCount"] != "1" || out["IPAddressUsed"] != "127.0.0.1" {
		t.Errorf("%v", out)
	}
	// The smallest and the largest packets; what no packet can carry is refused.
	for size, want := range map[string]string{"1": "1", "65507": "1"} {
		if out := runs(t, p, ipDiag+"IPPing()", "Host", "127.0.0.1", "DataBlockSize", size, "NumberOfRepetitions", "1"); out["SuccessCount"] != want {
			t.Errorf("%s bytes: %v", size, out)
		}
	}
	fails(t, p, datamodel.CommandFailed, ipDiag+"IPPing()", "Host", "127.0.0.1", "DataBlockSize", "65535")
}

func TestPingCanceled(t *testing.T) {
	p := provider(t, Options{})
	onWire(p, newWire(func(int, int, []byte, int) (icmp.Message, string) { return icmp.Message{}, "" }))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := p.Run(ctx, invocation(ipDiag+"IPPing()", "Host", "four.test", "Timeout", "60000"))
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

func TestPingErrors(t *testing.T) {
	p := provider(t, Options{})
	for host, want := range map[string]string{"nowhere.test": errResolve, "::1": errResolve} {
		if out := runs(t, p, ipDiag+"IPPing()", "Host", host, "ProtocolVersion", "IPv4"); out["Status"] != want {
			t.Errorf("%s: %v", host, out)
		}
	}
	// Some are lost, some come back from elsewhere or with other data.
	onWire(p, newWire(func(seq, _ int, data []byte, id int) (icmp.Message, string) {
		switch seq {
		case 1:
			return icmp.Message{}, ""
		case 2:
			return echoOf(seq, id, data), "127.0.0.9"
		case 3:
			return echoOf(seq, id, append([]byte{^data[0]}, data[1:]...)), "127.0.0.1"
		case 4:
			return icmp.Message{Type: ipv4.ICMPTypeDestinationUnreachable, Code: 1}, "127.0.0.7"
		}
		return echoOf(seq, id, data), "127.0.0.1"
	}))
	out := runs(t, p, ipDiag+"IPPing()", "Host", "four.test", "NumberOfRepetitions", "6", "Timeout", "20")
	if out["Status"] != complete || out["SuccessCount"] != "2" || out["FailureCount"] != "4" {
		t.Errorf("%v", out)
	}
	w := newWire(nil)
	w.writeErr = syscall.ENETUNREACH
	onWire(p, w)
	if out := runs(t, p, ipDiag+"IPPing()", "Host", "four.test"); out["Status"] != errNoRoute || out["FailureCount"] != "3" {
		t.Errorf("%v", out)
	}
	p.listen = func(_, _ netip.Addr, _ bool) (icmpConn, error) {
		return nil, os.NewSyscallError("socket", syscall.EPERM)
	}
	fails(t, p, datamodel.CommandFailed, ipDiag+"IPPing()", "Host", "four.test")
	p.addresses = func(string) ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("fd00::9")}, nil }
	if out := runs(t, p, ipDiag+"IPPing()", "Host", "four.test", "Interface", "Device.IP.Interface.1."); out["Status"] != errNoRoute {
		t.Errorf("%v", out)
	}
}

func TestTraceLoopback(t *testing.T) {
	p := provider(t, Options{})
	if !canICMP(true) {
		fails(t, p, datamodel.CommandFailed, ipDiag+"TraceRoute()", "Host", "four.test")
		t.Log("no raw ICMP sockets on this machine: checked the refusal")
		return
	}
	p.names = names{"four.test": {"127.0.0.1"}}
	out := runs(t, p, ipDiag+"TraceRoute()", "Host", "four.test", "ProtocolVersion", "Any")
	checkWhole(t, ipDiag+"TraceRoute()", out)
	if out["Status"] != complete || out["RouteHops.1.Host"] != "four.test" || out["RouteHops.1.HostAddress"] != "127.0.0.1" ||
		out["RouteHops.1.RTTimes"] != "1,1,1" || out["ResponseTime"] != "1" || out["RouteHops.2.Host"] != "" {
		t.Errorf("%v", out)
	}
}

func TestTraceRoute(t *testing.T) {
	p := provider(t, Options{})
	p.names = names{"four.test": {"127.0.0.1"}, "router.test": {"192.0.2.1"}}
	run := func(goal int, final icmp.Message, kv ...string) map[string]string {
		t.Helper()
		onWire(p, newWire(func(seq, ttl int, data []byte, id int) (icmp.Message, string) {
			switch {
			case ttl < goal && ttl == 2 && seq%4 == 1: // the second try is lost
				return icmp.Message{}, ""
			case ttl < goal:
				return icmp.Message{Type: ipv4.ICMPTypeTimeExceeded}, "192.0.2." + strconv.Itoa(ttl)
			case final.Type != nil:
				return final, "192.0.2.99"
			}
			return echoOf(seq, id, data), "127.0.0.1"
		}))
		return runs(t, p, ipDiag+"TraceRoute()", append([]string{"Host", "four.test", "Timeout", "20"}, kv...)...)
	}
	out := run(4, icmp.Message{})
	if out["Status"] != complete || out["RouteHops.1.Host"] != "router.test" || out["RouteHops.1.HostAddress"] != "192.0.2.1" ||
		out["RouteHops.2.Host"] != "192.0.2.2" || out["RouteHops.2.HostAddress"] != "" || out["RouteHops.2.RTTimes"] != "1,0,1" ||
		out["RouteHops.4.Host"] != "four.test" || out["RouteHops.5.Host"] != "" {
		t.Errorf("%v", out)
	}
	if out := run(9, icmp.Message{}, "MaxHopCount", "3", "NumberOfTries", "1"); out["Status"] != errMaxHops || out["ResponseTime"] != "0" ||
		out["RouteHops.3.Host"] != "192.0.2.3" || out["RouteHops.4.Host"] != "" {
		t.Errorf("%v", out)
	}
	out = run(2, icmp.Message{Type: ipv4.ICMPTypeDestinationUnreachable, Code: 13})
	if out["Status"] != errNoRoute || out["RouteHops.2.ErrorCode"] != "13" || out["RouteHops.2.Host"] != "192.0.2.99" {
		t.Errorf("%v", out)
	}
}

func TestServerSelection(t *testing.T) {
	p := provider(t, Options{})
	p.names = names{"fast.test": {"127.0.0.1"}, "slow.test.": {"127.0.0.2"}, "lost.test": {"127.0.0.3"}, "late.test": {"127.0.0.2"}}
	p.listen = func(dst, _ netip.Addr, _ bool) (icmpConn, error) {
		return newWire(func(seq, _ int, data []byte, id int) (icmp.Message, string) {
			switch dst.String() {
			case "127.0.0.3":
				return icmp.Message{}, ""
			case "127.0.0.2":
				time.Sleep(20 * time.Millisecond)
			}
			return echoOf(seq, id, data), dst.String()
		}), nil
	}
	const command = ipDiag + "ServerSelectionDiagnostics()"
	out := runs(t, p, command, "HostList", "late.test, lost.test,nowhere.test,fast.test", "Protocol", "ICMP", "NumberOfRepetitions", "2", "Timeout", "100")
	checkWhole(t, command, out)
	if out["Status"] != complete || out["FastestHost"] != "fast.test" || out["IPAddressUsed"] != "127.0.0.1" {
		t.Errorf("%v", out)
	}
	if out := runs(t, p, command, "HostList", "nowhere.test", "Protocol", "ICMP"); out["Status"] != errResolve {
		t.Errorf("%v", out)
	}
	if out := runs(t, p, command, "HostList", "lost.test", "Protocol", "ICMP", "Timeout", "20"); out["Status"] != errOther || out["FastestHost"] != "" {
		t.Errorf("%v", out)
	}
	// Over UDP, against the echo peer.
	port := startPeer(t, &peer{})
	p.echoPort = port
	out = runs(t, p, command, "HostList", "fast.test", "Protocol", "UDP Echo", "NumberOfRepetitions", "3", "Timeout", "1000")
	if out["Status"] != complete || out["FastestHost"] != "fast.test" || out["MinimumResponseTime"] == "0" {
		t.Errorf("%v", out)
	}
}

func FuzzDecodeICMP(f *testing.F) {
	echo, _ := (&icmp.Message{Type: ipv4.ICMPTypeEchoReply, Body: &icmp.Echo{ID: 7, Seq: 9, Data: []byte("x")}}).Marshal(nil)
	f.Add(false, echo)
	f.Add(true, append([]byte{3, 0, 0, 0, 0, 0, 0, 0, 0x60, 0, 0, 0, 0, 8, 58}, make([]byte, 41)...))
	f.Add(false, []byte{11, 0, 0, 0, 0, 0, 0, 0, 0x4F, 0, 0, 0, 0, 0, 0, 0, 1, 1})
	f.Fuzz(func(t *testing.T, v6 bool, b []byte) {
		a, ok := decodeICMP(v6, b)
		if ok && (a.fate == noAnswer || a.id < 0 || a.id > 0xFFFF || a.seq < 0 || a.seq > 0xFFFF) {
			t.Errorf("%+v", a)
		}
		if ok && a.fate == echoReply && len(a.data) != len(b)-8 {
			t.Errorf("%d of %d bytes", len(a.data), len(b))
		}
	})
}
