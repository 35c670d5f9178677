package diag

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"twinspan/datamodel"
)

const echoConfig = ipDiag + "UDPEchoConfig."

// neverEchoed are ports of services that answer whatever they get: two of them would talk for ever.
var neverEchoed = map[uint16]bool{7: true, 13: true, 17: true, 19: true, 37: true}

// echoServer is the UDP echo server of UDPEchoConfig. It answers one source address only (TR-143), so that it cannot be
// used to reflect traffic; without one it does not run.
type echoServer struct {
	p *Provider

	apply sync.Mutex // held over a change: one at a time

	mu     sync.Mutex
	closed bool
	stored func(path string) string
	conf   map[string]string // by name, from writes since the start
	now    *echoSocket       // nil: not running
	counts echoCounts
}

// echoCounts are the statistics since the server was last enabled.
type echoCounts struct {
	packetsIn, packetsOut, bytesIn, bytesOut uint64
	failures                                 uint64
	first, last                              time.Time
}

// echoSettings are what makes a server; a change of any starts it anew.
type echoSettings struct {
	source netip.Addr
	bind   netip.Addr // not valid: any
	port   uint16
	plus   bool
}

type echoSocket struct {
	echoSettings
	conn *net.UDPConn
	done chan struct{}
}

// Applies implements datamodel.Applier.
func (*Provider) Applies() []string { return []string{echoConfig} }

// Prepare implements datamodel.Applier.
func (p *Provider) Prepare(_ context.Context, writes []datamodel.Write) error {
	for _, w := range writes {
		switch _, name := datamodel.SplitParam(w.Path); name {
		case "UDPPort":
			if n, err := strconv.ParseUint(w.Value, 10, 64); err != nil || n > 65535 {
				return datamodel.Fail(datamodel.InvalidValue, w.Path, "a port is at most 65535")
			}
		case "SourceIPAddress":
			if _, err := netip.ParseAddr(w.Value); w.Value != "" && err != nil {
				return datamodel.Fail(datamodel.InvalidValue, w.Path, "not an IP address")
			}
		}
	}
	return nil
}

// Apply implements datamodel.Applier: it starts, restarts or stops the echo server.
func (p *Provider) Apply(ctx context.Context, writes []datamodel.Write) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s := p.echo
	s.apply.Lock()
	defer s.apply.Unlock()
	s.mu.Lock()
	for _, w := range writes {
		if name, ok := strings.CutPrefix(w.Path, echoConfig); ok {
			s.conf[name] = w.Value
		}
	}
	s.mu.Unlock()
	return s.update()
}

// Attach gives the provider stored values by canonical parameter path, "" for none. Call it once the bridge has
// started: it starts the echo server when that is enabled. stored may be called from any goroutine until Close.
func (p *Provider) Attach(stored func(path string) string) {
	s := p.echo
	s.apply.Lock()
	defer s.apply.Unlock()
	s.mu.Lock()
	s.stored = stored
	s.mu.Unlock()
	if err := s.update(); err != nil {
		p.log.Error("the UDP echo server cannot start", "error", err)
	}
}

// value of a setting: written since the start, or stored. mu is held.
func (s *echoServer) value(name string) string {
	if v, ok := s.conf[name]; ok {
		return v
	}
	if s.stored != nil {
		return s.stored(echoConfig + name)
	}
	return ""
}

// settings reads the configuration; enabled is false while it is incomplete.
func (s *echoServer) settings() (set echoSettings, enabled bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.value("Enable") != "true" {
		return set, false, nil
	}
	set.plus = s.value("EchoPlusEnabled") == "true"
	port, _ := strconv.ParseUint(s.value("UDPPort"), 10, 16)
	set.port = uint16(port)
	if set.source, err = netip.ParseAddr(s.value("SourceIPAddress")); err != nil || port == 0 {
		s.p.log.Info("the UDP echo server waits for SourceIPAddress and UDPPort")
		return set, false, nil
	}
	set.source = set.source.Unmap().WithZone("")
	ref := strings.TrimSuffix(s.value("Interface"), ".")
	if ref == "" {
		return set, true, nil
	}
	if s.stored == nil {
		return set, false, nil // Attach will start it
	}
	addrs, err := s.p.addresses(s.stored(ref + ".Name"))
	if err != nil {
		return set, false, fmt.Errorf("interface %s: %w", ref, err)
	}
	var ok bool
	if set.bind, ok = sourceFor(set.source, addrs); !ok {
		return set, false, fmt.Errorf("interface %s has no address of the family of SourceIPAddress", ref)
	}
	return set, true, nil
}

// update makes the server what the configuration says. apply is held.
func (s *echoServer) update() error {
	set, enabled, err := s.settings()
	s.mu.Lock()
	old := s.now
	s.mu.Unlock()
	if err == nil && enabled && old != nil && old.echoSettings == set {
		return nil
	}
	if old != nil {
		s.stop(old)
	}
	if err != nil || !enabled {
		return err
	}
	network, local := "udp4", netip.IPv4Unspecified()
	if set.source.Is6() {
		network, local = "udp6", netip.IPv6Unspecified()
	}
	if set.bind.IsValid() {
		local = set.bind
	}
	conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, set.port)))
	if err != nil {
		return err
	}
	sock := &echoSocket{echoSettings: set, conn: conn, done: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return conn.Close()
	}
	s.now, s.counts = sock, echoCounts{} // counters begin anew with each start
	go s.serve(sock)
	return nil
}

func (s *echoServer) stop(sock *echoSocket) {
	sock.conn.Close()
	<-sock.done
	s.mu.Lock()
	s.now = nil
	s.mu.Unlock()
}

func (s *echoServer) close() {
	s.apply.Lock()
	defer s.apply.Unlock()
	s.mu.Lock()
	s.closed = true
	old := s.now
	s.mu.Unlock()
	if old != nil {
		s.stop(old)
	}
}

// control is the part of a packet that says which of our addresses it was sent to, so that the answer comes from there.
type control interface {
	read(b []byte) (n int, from net.Addr, answer func([]byte) error, err error)
}

type control4 struct{ *ipv4.PacketConn }

func (c control4) read(b []byte) (int, net.Addr, func([]byte) error, error) {
	n, cm, from, err := c.ReadFrom(b)
	return n, from, func(b []byte) error {
		var out *ipv4.ControlMessage
		if cm != nil {
			out = &ipv4.ControlMessage{Src: cm.Dst}
		}
		_, err := c.WriteTo(b, out, from)
		return err
	}, err
}

type control6 struct{ *ipv6.PacketConn }

func (c control6) read(b []byte) (int, net.Addr, func([]byte) error, error) {
	n, cm, from, err := c.ReadFrom(b)
	return n, from, func(b []byte) error {
		var out *ipv6.ControlMessage
		if cm != nil {
			out = &ipv6.ControlMessage{Src: cm.Dst}
		}
		_, err := c.WriteTo(b, out, from)
		return err
	}, err
}

// serve answers until the socket is closed.
func (s *echoServer) serve(sock *echoSocket) {
	defer close(sock.done)
	var c control
	var err error
	if sock.source.Is4() {
		pc := ipv4.NewPacketConn(sock.conn)
		err, c = pc.SetControlMessage(ipv4.FlagDst, true), control4{pc}
	} else {
		pc := ipv6.NewPacketConn(sock.conn)
		err, c = pc.SetControlMessage(ipv6.FlagDst, true), control6{pc}
	}
	if err != nil {
		s.p.log.Debug("the UDP echo server answers from the address that routing chooses", "error", err)
	}
	clock := time.Now()
	buf := make([]byte, 1<<16)
	for {
		n, from, answer, err := c.read(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if sleep(s.p.end, 10*time.Millisecond) != nil { // an error that stays must not spin
				return
			}
			continue
		}
		peer, _ := from.(*net.UDPAddr)
		if peer == nil || addrOf(peer).WithZone("") != sock.source || neverEchoed[uint16(peer.Port)] {
			continue // TR-143: only the one source is served
		}
		s.answer(sock, buf[:n], clock, answer)
	}
}

// answer books one packet and sends it back.
func (s *echoServer) answer(sock *echoSocket, b []byte, clock time.Time, send func([]byte) error) {
	now := time.Now()
	s.mu.Lock()
	c := &s.counts
	c.packetsIn++
	c.bytesIn += uint64(len(b))
	if c.first.IsZero() {
		c.first = now
	}
	c.last = now
	sn, failures := c.packetsOut+1, c.failures
	s.mu.Unlock()
	if sock.plus {
		plusFields(b, uint32(sn), uint32(now.Sub(clock).Microseconds()), uint32(time.Since(clock).Microseconds()), uint32(failures))
	}
	err := send(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		c.failures++
		return
	}
	c.packetsOut++
	c.bytesOut += uint64(len(b))
}

// plusFields fills in what an Echo Plus server says; a packet that is too short stays as it is.
func plusFields(b []byte, sn, received, replied, failures uint32) {
	if e, ok := decodeEcho(b); ok {
		e.respSN, e.received, e.replied, e.notServed = sn, received, replied, failures
		e.encode(b)
	}
}

// read gives the statistics.
func (s *echoServer) read(name string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.counts
	number := func(n uint64) (string, bool) { return strconv.FormatUint(n&(1<<32-1), 10), true } // rolls over
	switch name {
	case "EchoPlusSupported":
		return "true", true
	case "PacketsReceived":
		return number(c.packetsIn)
	case "PacketsResponded":
		return number(c.packetsOut)
	case "BytesReceived":
		return number(c.bytesIn)
	case "BytesResponded":
		return number(c.bytesOut)
	case "TimeFirstPacketReceived":
		return canonical(c.first), true
	case "TimeLastPacketReceived":
		return canonical(c.last), true
	}
	return "", false
}

// canonical is lexical without final zeros: the form of values that are read.
func canonical(t time.Time) string {
	if t.IsZero() {
		return datamodel.UnknownTime
	}
	return t.UTC().Format("2006-01-02T15:04:05.999999Z")
}
