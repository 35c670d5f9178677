package diag

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"twinspan/datamodel"
)

// peer is a UDP echo server with faults.
type peer struct {
	lose   func(n int) bool // the nth packet
	spoil  func(n int, b []byte) []byte
	delay  time.Duration
	twice  bool
	plus   bool
	mu     sync.Mutex
	served int
}

func startPeer(t testing.TB, p *peer) (port uint16) {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 1<<16)
		for n := 1; ; n++ {
			size, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			p.mu.Lock()
			p.served = n
			p.mu.Unlock()
			out := b[:size]
			if p.lose != nil && p.lose(n) {
				continue
			}
			if p.plus {
				plusFields(out, uint32(n), 1000, 1500, 3)
			}
			if p.spoil != nil {
				out = p.spoil(n, out)
			}
			time.Sleep(p.delay)
			c.WriteToUDPAddrPort(out, from)
			if p.twice {
				c.WriteToUDPAddrPort(out, from)
			}
		}
	})
	t.Cleanup(func() {
		c.Close()
		wg.Wait()
	})
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

const udpEcho = ipDiag + "UDPEchoDiagnostics()"

func TestUDPEcho(t *testing.T) {
	p := provider(t, Options{})
	for name, c := range map[string]struct {
		peer     *peer
		size     string
		ok, lost string
	}{
		"plain":           {&peer{}, "24", "5", "0"},
		"plus":            {&peer{plus: true}, "64", "5", "0"},
		"tiny":            {&peer{}, "1", "5", "0"},
		"just too short":  {&peer{}, "19", "5", "0"},
		"large":           {&peer{}, "9000", "5", "0"},
		"loses":           {&peer{lose: func(n int) bool { return n == 2 || n == 5 }}, "24", "3", "2"},
		"answers twice":   {&peer{twice: true, plus: true}, "32", "5", "0"},
		"spoils the data": {&peer{spoil: func(n int, b []byte) []byte { b[len(b)-1] ^= byte(n & 1); return b }}, "40", "2", "3"},
		"cuts":            {&peer{spoil: func(n int, b []byte) []byte { return b[:len(b)-n%2] }}, "24", "2", "3"},
		"too late":        {&peer{delay: 600 * time.Millisecond}, "24", "0", "5"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			port := startPeer(t, c.peer)
			timeout := "5000"
			if c.lost != "0" {
				timeout = "400"
			}
			out := runs(t, provider(t, Options{}), udpEcho, "Host", "four.test", "Port", strconv.Itoa(int(port)), "NumberOfRepetitions", "5",
				"Timeout", timeout, "InterTransmissionTime", "1", "DataBlockSize", c.size, "EnableIndividualPacketResults", "true", "DSCP", "8")
			checkWhole(t, udpEcho, out)
			if out["Status"] != complete || out["SuccessCount"] != c.ok || out["FailureCount"] != c.lost || out["IPAddressUsed"] != "127.0.0.1" {
				t.Errorf("%v", out)
			}
			if out["IndividualPacketResult.1.TestGenSN"] != "1" || out["IndividualPacketResult.6.TestGenSN"] != "" {
				t.Errorf("%v", out)
			}
			if name == "plus" && (out["IndividualPacketResult.2.TestRespSN"] != "2" || out["IndividualPacketResult.2.TestRespRcvTimeStamp"] != "1000" ||
				out["IndividualPacketResult.2.TestRespReplyTimeStamp"] != "1500" || out["IndividualPacketResult.2.TestRespReplyFailureCount"] != "3") {
				t.Errorf("%v", out)
			}
			if name == "loses" && (out["IndividualPacketResult.2.PacketSuccess"] != "false" || out["IndividualPacketResult.3.PacketSuccess"] != "true" ||
				out["IndividualPacketResult.2.PacketReceiveTime"] != datamodel.UnknownTime) {
				t.Errorf("%v", out)
			}
		})
	}
	// Nobody listens: refused packets are lost packets.
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(c.LocalAddr().(*net.UDPAddr).Port)
	c.Close()
	out := runs(t, p, udpEcho, "Host", "127.0.0.1", "Port", port, "NumberOfRepetitions", "3", "Timeout", "50", "InterTransmissionTime", "1")
	if out["Status"] != complete || out["FailureCount"] != "3" {
		t.Errorf("%v", out)
	}
	fails(t, p, datamodel.CommandFailed, udpEcho, "Host", "127.0.0.1", "Port", port, "DataBlockSize", "65535")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := p.Run(ctx, invocation(udpEcho, "Host", "127.0.0.1", "Port", port, "Timeout", "9000")); err == nil {
		t.Error("not canceled")
	}
}

// freePort is one that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return strconv.Itoa(c.LocalAddr().(*net.UDPAddr).Port)
}

func writes(kv ...string) []datamodel.Write {
	var out []datamodel.Write
	for i := 0; i < len(kv); i += 2 {
		out = append(out, datamodel.Write{Path: echoConfig + kv[i], Value: kv[i+1]})
	}
	return out
}

func apply(t *testing.T, p *Provider, kv ...string) {
	t.Helper()
	if err := p.Prepare(context.Background(), writes(kv...)); err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(context.Background(), writes(kv...)); err != nil {
		t.Fatal(err)
	}
}

func statistic(t *testing.T, p *Provider, name string) string {
	t.Helper()
	v := "-"
	if err := p.Read(context.Background(), datamodel.ObjectRef{Path: echoConfig}, []string{name}, func(_, value string) { v = value }); err != nil {
		t.Error(err)
	}
	return v
}

// waitFor a statistic: the server counts a moment after it answered.
func waitFor(t *testing.T, p *Provider, name, want string) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if statistic(t, p, name) == want {
			return
		}
	}
	t.Errorf("%s is %s, want %s", name, statistic(t, p, name), want)
}

func TestEchoServer(t *testing.T) {
	p := provider(t, Options{})
	port := freePort(t)
	apply(t, p, "Enable", "true") // incomplete: it waits
	if statistic(t, p, "PacketsReceived") != "0" || p.echo.now != nil {
		t.Error("runs without a source address")
	}
	apply(t, p, "UDPPort", port, "SourceIPAddress", "127.0.0.1", "EchoPlusEnabled", "true")
	client := func(size, n string) map[string]string {
		return runs(t, p, udpEcho, "Host", "127.0.0.1", "Port", port, "NumberOfRepetitions", n, "Timeout", "1000", "DataBlockSize", size,
			"InterTransmissionTime", "1", "EnableIndividualPacketResults", "true")
	}
	out := client("100", "4")
	if out["SuccessCount"] != "4" || out["IndividualPacketResult.4.TestRespSN"] != "4" || out["IndividualPacketResult.4.TestRespReplyTimeStamp"] == "0" {
		t.Errorf("%v", out)
	}
	waitFor(t, p, "PacketsResponded", "4")
	waitFor(t, p, "BytesReceived", "400")
	waitFor(t, p, "BytesResponded", "400")
	first, last := statistic(t, p, "TimeFirstPacketReceived"), statistic(t, p, "TimeLastPacketReceived")
	if first == datamodel.UnknownTime || first > last {
		t.Errorf("first %s, last %s", first, last)
	}
	apply(t, p, "EchoPlusEnabled", "true") // again: nothing changes
	if statistic(t, p, "PacketsReceived") != "4" {
		t.Error("a repeated Apply restarted the server")
	}
	apply(t, p, "EchoPlusEnabled", "false") // counters begin anew
	if out := client("100", "1"); out["SuccessCount"] != "1" || out["IndividualPacketResult.1.TestRespSN"] != "0" {
		t.Errorf("%v", out)
	}
	waitFor(t, p, "PacketsReceived", "1")
	// Others are not served.
	apply(t, p, "SourceIPAddress", "127.0.0.9")
	out = runs(t, p, udpEcho, "Host", "127.0.0.1", "Port", port, "Timeout", "50")
	if out["SuccessCount"] != "0" || statistic(t, p, "PacketsReceived") != "0" {
		t.Errorf("%v", out)
	}
	apply(t, p, "Enable", "false")
	if p.echo.now != nil {
		t.Error("still there")
	}
	// A port that is taken is an error of Apply, which the bridge puts back.
	n, _ := strconv.Atoi(port)
	c, err := net.ListenUDP("udp4", &net.UDPAddr{Port: n})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := p.Apply(context.Background(), writes("Enable", "true", "SourceIPAddress", "127.0.0.1")); err == nil {
		t.Error("a taken port is no error")
	}
	for _, w := range [][]string{{"UDPPort", "65536"}, {"SourceIPAddress", "x"}} {
		if err := p.Prepare(context.Background(), writes(w...)); datamodel.ReasonOf(err) != datamodel.InvalidValue {
			t.Errorf("%v: %v", w, err)
		}
	}
}

func TestEchoServerAttach(t *testing.T) {
	p := provider(t, Options{})
	port := freePort(t)
	// What the bridge drives after a restart comes before Attach: it must wait for what it does not know.
	apply(t, p, "Enable", "true", "UDPPort", port, "SourceIPAddress", "127.0.0.1", "Interface", "Device.IP.Interface.1")
	if p.echo.now != nil {
		t.Error("runs on any interface")
	}
	p.Attach(stored(echoConfig+"Enable", "true", echoConfig+"UDPPort", port, echoConfig+"SourceIPAddress", "127.0.0.1",
		echoConfig+"Interface", "Device.IP.Interface.1", "Device.IP.Interface.1.Name", "lo"))
	if out := runs(t, p, udpEcho, "Host", "127.0.0.1", "Port", port, "Timeout", "1000"); out["SuccessCount"] != "1" {
		t.Errorf("%v", out)
	}
	if p.echo.now.bind != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("bound to %v", p.echo.now.bind)
	}
}

// Two servers that echo each other must not talk for ever.
func TestEchoNoLoop(t *testing.T) {
	p := provider(t, Options{})
	port := freePort(t)
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 19})
	if err != nil {
		t.Logf("port 19 cannot be had (%v): checking the rule only", err)
		if !neverEchoed[19] || !neverEchoed[7] {
			t.Error("would answer")
		}
		return
	}
	defer c.Close()
	apply(t, p, "Enable", "true", "UDPPort", port, "SourceIPAddress", "127.0.0.1")
	n, _ := strconv.Atoi(port)
	to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: n}
	if _, err := c.WriteTo([]byte("hello"), to); err != nil {
		t.Fatal(err)
	}
	if out := runs(t, p, udpEcho, "Host", "127.0.0.1", "Port", port, "Timeout", "1000"); out["SuccessCount"] != "1" {
		t.Errorf("%v", out)
	}
	waitFor(t, p, "PacketsReceived", "1")
}

func FuzzEcho(f *testing.F) {
	f.Add([]byte("12345678901234567890123"), uint32(1), uint32(2))
	f.Add([]byte{}, uint32(0), uint32(0))
	f.Fuzz(func(t *testing.T, b []byte, sn, at uint32) {
		if len(b) > 1<<16 {
			return
		}
		was := bytes.Clone(b)
		plusFields(b, sn, at, at, sn)
		e, ok := decodeEcho(b)
		if ok != (len(b) >= echoHeader) {
			t.Fatalf("%d bytes: %v", len(b), ok)
		}
		if !ok {
			if !bytes.Equal(b, was) {
				t.Error("a short packet was changed")
			}
			return
		}
		if e.respSN != sn || e.replied != at || e.genSN != binary.BigEndian.Uint32(was) || !bytes.Equal(b[echoHeader:], was[echoHeader:]) {
			t.Errorf("%+v", e)
		}
		// A client takes it without harm.
		test := echoTest{size: len(b), timeout: time.Second, done: make(chan struct{}), pattern: make([]byte, len(b)),
			results: []echoResult{{sent: time.Now()}}, pending: 1, sentAll: true}
		test.book(b, time.Now())
		if test.pending < 0 {
			t.Error("more answers than packets")
		}
	})
}
