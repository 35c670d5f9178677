package udp

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// fakeNet is a network in memory: a STUN server, a NAT with a lifetime of bindings in front of private addresses, and
// sockets. Under synctest its time is synthetic.
type fakeNet struct {
	mu       sync.Mutex
	socks    map[netip.AddrPort]*fakeConn
	server   *stunServer
	lifetime time.Duration                      // of a binding since the last datagram from inside; 0: no NAT
	open     bool                               // anyone may send to a binding, else only addresses that were sent to
	bindings map[netip.AddrPort]*binding        // by inside address
	outside  map[netip.AddrPort]*binding        // by outside address
	next     uint16                             // outside port
	drop     func(from, to netip.AddrPort) bool // fault switch
	sent     int                                // datagrams to the server
}

type binding struct {
	inside, outside netip.AddrPort
	last            time.Time
	peers           map[netip.AddrPort]bool
}

var (
	serverAddr = netip.MustParseAddrPort("203.0.113.1:3478")
	natAddr    = netip.MustParseAddr("198.51.100.7")
	cpeAddr    = netip.MustParseAddr("10.0.0.2")
)

func newFakeNet(lifetime time.Duration) *fakeNet {
	n := &fakeNet{socks: map[netip.AddrPort]*fakeConn{}, lifetime: lifetime, bindings: map[netip.AddrPort]*binding{},
		outside: map[netip.AddrPort]*binding{}, next: 40000, server: &stunServer{}}
	return n
}

type fakeConn struct {
	n      *fakeNet
	addr   netip.AddrPort
	in     chan []byte
	closed chan struct{}
	once   sync.Once
}

func (n *fakeNet) listen(_, address string) (net.PacketConn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	ip := cpeAddr
	if host != "" {
		ip = netip.MustParseAddr(host)
	}
	p, _ := netip.ParseAddrPort("0.0.0.0:" + port)
	n.mu.Lock()
	defer n.mu.Unlock()
	number := p.Port()
	if number == 0 {
		n.next++
		number = n.next
	}
	c := &fakeConn{n: n, addr: netip.AddrPortFrom(ip, number), in: make(chan []byte, 256), closed: make(chan struct{})}
	n.socks[c.addr] = c
	return c, nil
}

func (c *fakeConn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case d := <-c.in:
		return copy(b, d), &net.UDPAddr{}, nil
	case <-c.closed:
		return 0, nil, net.ErrClosed
	}
}

func (c *fakeConn) WriteTo(b []byte, to net.Addr) (int, error) {
	c.n.send(c.addr, addrPort(to), append([]byte(nil), b...))
	return len(b), nil
}

func (c *fakeConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}
func (c *fakeConn) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(c.addr) }
func (c *fakeConn) SetDeadline(time.Time) error      { return nil }
func (c *fakeConn) SetReadDeadline(time.Time) error  { return nil }
func (c *fakeConn) SetWriteDeadline(time.Time) error { return nil }

// send carries a datagram, through the NAT on the way out and on the way in.
func (n *fakeNet) send(from, to netip.AddrPort, data []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.drop != nil && n.drop(from, to) {
		return
	}
	if n.lifetime > 0 && from.Addr().IsPrivate() && !to.Addr().IsPrivate() {
		b := n.bindings[from]
		if b == nil || time.Since(b.last) > n.lifetime {
			n.next++
			b = &binding{inside: from, outside: netip.AddrPortFrom(natAddr, n.next), peers: map[netip.AddrPort]bool{}}
			n.bindings[from], n.outside[b.outside] = b, b
		}
		b.last = time.Now()
		b.peers[to] = true
		from = b.outside
	}
	n.deliver(from, to, data)
}

func (n *fakeNet) deliver(from, to netip.AddrPort, data []byte) {
	if to == serverAddr {
		n.sent++
		for _, r := range n.server.handle(data, from) {
			n.deliver(serverAddr, r.to, r.data)
		}
		return
	}
	if b := n.outside[to]; b != nil { // only what goes out refreshes, as in most NATs
		if time.Since(b.last) > n.lifetime || !n.open && !b.peers[from] {
			return
		}
		to = b.inside
	}
	if c := n.socks[to]; c != nil {
		select {
		case c.in <- data:
		default:
		}
	}
}

// forget drops the bindings, as a NAT that restarts.
func (n *fakeNet) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.bindings, n.outside = map[netip.AddrPort]*binding{}, map[netip.AddrPort]*binding{}
}

func (n *fakeNet) do(fn func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fn()
}

// stunServer answers Binding Requests and keeps them. Its switches make it misbehave.
type stunServer struct {
	mu         sync.Mutex
	silent     bool
	code       int  // answer with this error
	noResponse bool // answers to the source whatever RESPONSE-ADDRESS says
	refuse     bool // answers RESPONSE-ADDRESS with 420
	username   string
	password   string
	badMAC     bool
	noMapped   bool
	seen       []*Message
}

type reply struct {
	to   netip.AddrPort
	data []byte
}

func (s *stunServer) handle(data []byte, from netip.AddrPort) []reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := Decode(data)
	if err != nil || m.Type != BindingRequest {
		return nil
	}
	s.seen = append(s.seen, m)
	if s.silent {
		return nil
	}
	out := &Message{Type: BindingResponse, Transaction: m.Transaction, Mapped: from}
	to := from
	switch {
	case s.code != 0:
		out = &Message{Type: BindingErrorResponse, Transaction: m.Transaction, ErrorCode: s.code, Reason: "no"}
	case s.password != "" && (!m.Proved(s.password) || m.Username != s.username):
		out = &Message{Type: BindingErrorResponse, Transaction: m.Transaction, ErrorCode: 401, Reason: "who"}
	case m.Response.IsValid() && s.refuse:
		out = &Message{Type: BindingErrorResponse, Transaction: m.Transaction, ErrorCode: 420, Unknown: []uint16{attrResponseAddress}}
	case m.Response.IsValid() && !s.noResponse:
		to = m.Response
	}
	if s.noMapped {
		out.Mapped = netip.AddrPort{}
	}
	key := s.password
	if out.ErrorCode == 401 {
		key = ""
	}
	if s.badMAC {
		key = "another"
	}
	raw, err := out.Encode(key)
	if err != nil {
		return nil
	}
	return []reply{{to, raw}}
}

func (s *stunServer) set(fn func(*stunServer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(s)
}

func (s *stunServer) requests() []*Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Message(nil), s.seen...)
}

// serveSTUN runs the server on a real socket.
func serveSTUN(t testing.TB, s *stunServer) netip.AddrPort {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			for _, r := range s.handle(buf[:n], addrPort(from)) {
				_, _ = conn.WriteTo(r.data, net.UDPAddrFromAddrPort(r.to))
			}
		}
	})
	t.Cleanup(func() { conn.Close(); wg.Wait() })
	return addrPort(conn.LocalAddr())
}

// natRelay rewrites addresses between a client and the server on real sockets: what comes to its inner address leaves from
// an outer socket of its own for each source, and back. It returns the inner address, which the client takes for the server.
func natRelay(t testing.TB, server netip.AddrPort) netip.AddrPort {
	inner, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	outer := map[string]net.PacketConn{}
	closed := false
	pump := func(out net.PacketConn, to net.Addr) {
		buf := make([]byte, 2048)
		for {
			n, _, err := out.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = inner.WriteTo(buf[:n], to)
		}
	}
	wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := inner.ReadFrom(buf)
			if err != nil {
				return
			}
			mu.Lock()
			out := outer[from.String()]
			if out == nil && !closed {
				if out, err = net.ListenPacket("udp", "127.0.0.1:0"); err == nil {
					outer[from.String()] = out
					wg.Go(func() { pump(out, from) })
				}
			}
			mu.Unlock()
			if out != nil {
				_, _ = out.WriteTo(buf[:n], net.UDPAddrFromAddrPort(server))
			}
		}
	})
	t.Cleanup(func() {
		inner.Close()
		mu.Lock()
		closed = true
		for _, c := range outer {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return addrPort(inner.LocalAddr())
}
