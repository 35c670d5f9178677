package diag

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"twinspan/datamodel"
)

const nsLookup = dnsDiag + "NSLookupDiagnostics()"

// nameServer answers over UDP and TCP as a function says; nil bytes are no answer.
func nameServer(t testing.TB, answer func(q dnsmessage.Message, tcp bool) []byte) (port uint16) {
	t.Helper()
	var c *net.UDPConn
	var l net.Listener
	for try := 0; ; try++ { // one port for both, and others take ports too
		var err error
		if c, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
			t.Fatal(err)
		}
		port = c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		if l, err = net.Listen("tcp4", c.LocalAddr().String()); err == nil {
			break
		}
		c.Close()
		if try == 20 {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 512)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			var q dnsmessage.Message
			if q.Unpack(b[:n]) == nil {
				if out := answer(q, false); out != nil {
					c.WriteToUDPAddrPort(out, from)
				}
			}
		}
	})
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			var size [2]byte
			io.ReadFull(conn, size[:])
			b := make([]byte, binary.BigEndian.Uint16(size[:]))
			io.ReadFull(conn, b)
			var q dnsmessage.Message
			if q.Unpack(b) == nil {
				out := answer(q, true)
				conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...))
			}
			conn.Close()
		}
	})
	t.Cleanup(func() {
		c.Close()
		l.Close()
		wg.Wait()
	})
	return port
}

// zone answers what it has for a name: addresses of both families.
type zone struct {
	addrs     []string
	alias     string
	code      dnsmessage.RCode
	authority bool
	truncate  bool
	noIPv6    bool // drops those questions
	drop      func(n int) bool
	spoil     func([]byte) []byte
	bare      bool // without the question

	mu sync.Mutex
	n  int
}

func (z *zone) answer(q dnsmessage.Message, tcp bool) []byte {
	z.mu.Lock()
	z.n++
	n := z.n
	z.mu.Unlock()
	question := q.Questions[0]
	if z.drop != nil && z.drop(n) || z.noIPv6 && question.Type == dnsmessage.TypeAAAA {
		return nil
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, Authoritative: z.authority, RCode: z.code}, Questions: q.Questions}
	if z.bare {
		m.Questions = nil
	}
	owner := question.Name
	if z.alias != "" {
		target := dnsmessage.MustNewName(z.alias)
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: owner, Class: dnsmessage.ClassINET}, Body: &dnsmessage.CNAMEResource{CNAME: target}})
		owner = target
	}
	for _, s := range z.addrs {
		a := netip.MustParseAddr(s)
		h := dnsmessage.ResourceHeader{Name: owner, Class: dnsmessage.ClassINET}
		switch {
		case a.Is4() && question.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && question.Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	if z.truncate && !tcp {
		m.Truncated, m.Answers = true, nil
	}
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	if z.spoil != nil {
		b = z.spoil(b)
	}
	return b
}

func TestNSLookup(t *testing.T) {
	many := []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6", "192.0.2.7", "192.0.2.8", "192.0.2.9", "192.0.2.10", "192.0.2.11"}
	for name, c := range map[string]struct {
		zone   *zone
		status string
		addrs  string
		kind   string
		host   string
	}{
		"both families":     {&zone{addrs: []string{"192.0.2.1", "2001:db8::1"}}, lookupOK, "192.0.2.1,2001:db8::1", "NonAuthoritative", "www.example.com"},
		"authoritative":     {&zone{addrs: []string{"192.0.2.1"}, authority: true}, lookupOK, "192.0.2.1", "Authoritative", "www.example.com"},
		"alias":             {&zone{addrs: []string{"192.0.2.1"}, alias: "real.example.net."}, lookupOK, "192.0.2.1", "NonAuthoritative", "real.example.net"},
		"at most ten":       {&zone{addrs: many}, lookupOK, strings.Join(many[:10], ","), "NonAuthoritative", "www.example.com"},
		"over TCP":          {&zone{addrs: []string{"192.0.2.1", "2001:db8::1"}, truncate: true}, lookupOK, "192.0.2.1,2001:db8::1", "NonAuthoritative", "www.example.com"},
		"one family silent": {&zone{addrs: []string{"192.0.2.1"}, noIPv6: true}, lookupOK, "192.0.2.1", "NonAuthoritative", "www.example.com"},
		"no such name":      {&zone{code: dnsmessage.RCodeNameError, authority: true}, lookupNoName, "", "Authoritative", ""},
		"no address":        {&zone{}, lookupNoName, "", "NonAuthoritative", ""},
		"refused":           {&zone{code: dnsmessage.RCodeRefused}, lookupNoServer, "", "None", ""},
		"refused, bare":     {&zone{code: dnsmessage.RCodeRefused, bare: true}, lookupNoServer, "", "None", ""},
		"fails":             {&zone{code: dnsmessage.RCodeServerFailure}, errOther, "", "None", ""},
		"silent":            {&zone{drop: func(int) bool { return true }}, lookupTimeout, "", "None", ""},
		"damaged":           {&zone{addrs: many[:1], spoil: func(b []byte) []byte { return b[:len(b)-3] }}, lookupTimeout, "", "None", ""},
		"of somebody else":  {&zone{addrs: many[:1], spoil: func(b []byte) []byte { b[0]++; return b }}, lookupTimeout, "", "None", ""},
		"other question":    {&zone{addrs: many[:1], spoil: func(b []byte) []byte { return bytes.Replace(b, []byte("www"), []byte("wwx"), 1) }}, lookupTimeout, "", "None", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := provider(t, Options{})
			p.dnsPort = nameServer(t, c.zone.answer)
			timeout := "5000"
			if c.status == lookupTimeout || c.zone.noIPv6 {
				timeout = "250"
			}
			out := runs(t, p, nsLookup, "HostName", "www.example.com", "DNSServer", "127.0.0.1", "Timeout", timeout, "NumberOfRepetitions", "2")
			checkWhole(t, nsLookup, out)
			good := "0"
			if c.status == lookupOK {
				good = "2"
			}
			if out["Status"] != complete || out["SuccessCount"] != good {
				t.Errorf("%v", out)
			}
			for i := 1; i <= 2; i++ {
				row := "Result." + strconv.Itoa(i) + "."
				if out[row+"Status"] != c.status || out[row+"IPAddresses"] != c.addrs || out[row+"AnswerType"] != c.kind ||
					out[row+"HostNameReturned"] != c.host || out[row+"DNSServerIP"] != "127.0.0.1" {
					t.Errorf("%v", out)
				}
			}
		})
	}
}

func TestNSLookupServer(t *testing.T) {
	p := provider(t, Options{})
	var asked string
	var mu sync.Mutex
	z := zone{addrs: []string{"192.0.2.1"}, drop: func(n int) bool { return n <= 2 }}
	p.dnsPort = nameServer(t, func(q dnsmessage.Message, tcp bool) []byte {
		mu.Lock()
		asked = q.Questions[0].Name.String()
		mu.Unlock()
		return z.answer(q, tcp)
	})
	p.servers = func() ([]netip.Addr, string) { return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, "lan.test" }
	// The server of the system and its domain; the first repetition is lost.
	out := runs(t, p, nsLookup, "HostName", "printer", "Timeout", "250", "NumberOfRepetitions", "3", "Interface", "Device.IP.Interface.1")
	mu.Lock()
	name := asked
	mu.Unlock()
	if out["SuccessCount"] != "2" || out["Result.1.Status"] != lookupTimeout || out["Result.3.Status"] != lookupOK || name != "printer.lan.test." {
		t.Errorf("%s %v", name, out)
	}
	// By name, which the system resolves.
	if out := runs(t, p, nsLookup, "HostName", "a.b", "DNSServer", "four.test", "Timeout", "1000"); out["SuccessCount"] != "1" {
		t.Errorf("%v", out)
	}
	for _, server := range []string{"nowhere.test", ""} {
		p.servers = func() ([]netip.Addr, string) { return nil, "" }
		if out := runs(t, p, nsLookup, "HostName", "a.b", "DNSServer", server); out["Status"] != errServerName {
			t.Errorf("%v", out)
		}
	}
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	p.dnsPort = c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	c.Close()
	if out := runs(t, p, nsLookup, "HostName", "a.b", "DNSServer", "127.0.0.1"); out["Status"] != complete || out["Result.1.Status"] != lookupNoServer {
		t.Errorf("%v", out)
	}
	fails(t, p, datamodel.InvalidArgs, nsLookup, "HostName", strings.Repeat("a", 70)+".b", "DNSServer", "127.0.0.1")
}

func TestParseResolvConf(t *testing.T) {
	servers, domain := parseResolvConf(strings.NewReader("# x\nnameserver 192.0.2.53\nnameserver bad\nnameserver 2001:db8::53\nsearch a.test b.test\nnameserver"))
	if len(servers) != 2 || servers[1] != netip.MustParseAddr("2001:db8::53") || domain != "a.test" {
		t.Errorf("%v %q", servers, domain)
	}
}

func FuzzDecodeAnswer(f *testing.F) {
	name := dnsmessage.MustNewName("www.example.com.")
	for _, z := range []*zone{{addrs: []string{"192.0.2.1", "2001:db8::1"}}, {alias: "x.example.net.", addrs: []string{"192.0.2.1"}}, {code: 5, bare: true}} {
		for _, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
			f.Add(z.answer(dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{{Name: name, Type: kind, Class: dnsmessage.ClassINET}}}, false))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
			a, err := decodeAnswer(b, 7, name, kind)
			if err != nil {
				continue
			}
			if len(a.addrs) > maxRecords {
				t.Errorf("%d addresses", len(a.addrs))
			}
			for _, addr := range a.addrs {
				if !addr.IsValid() {
					t.Error("an invalid address")
				}
			}
			summary([2]*dnsAnswer{a, nil}, 0)
		}
	})
}
