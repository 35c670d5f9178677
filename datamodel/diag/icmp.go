package diag

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"twinspan/datamodel"
)

// icmpConn is a socket that sends and receives ICMP of one family.
type icmpConn interface {
	WriteTo(b []byte, to net.Addr) (int, error)
	ReadFrom(b []byte) (int, net.Addr, error)
	SetReadDeadline(time.Time) error
	LocalAddr() net.Addr
	Close() error
	setTTL(ttl int) error
	setClass(class int) error // DSCP and ECN
}

// socket is a real one.
type socket struct {
	*icmp.PacketConn
	v6 bool
}

func (s socket) setTTL(ttl int) error {
	if s.v6 {
		return s.IPv6PacketConn().SetHopLimit(ttl)
	}
	return s.IPv4PacketConn().SetTTL(ttl)
}

func (s socket) setClass(class int) error {
	if s.v6 {
		return s.IPv6PacketConn().SetTrafficClass(class)
	}
	return s.IPv4PacketConn().SetTOS(class)
}

// listenICMP opens a socket: one that needs no rights where the system allows it, else a raw one. The former does not
// hear what routers say of a packet, so with errorsToo only a raw one will do.
func listenICMP(dst, src netip.Addr, errorsToo bool) (icmpConn, error) {
	plain, raw, local := "udp4", "ip4:icmp", "0.0.0.0"
	if dst.Is6() {
		plain, raw, local = "udp6", "ip6:ipv6-icmp", "::"
	}
	if src.IsValid() {
		local = src.String()
	}
	if !errorsToo {
		if c, err := icmp.ListenPacket(plain, local); err == nil {
			return socket{c, dst.Is6()}, nil
		}
	}
	c, err := icmp.ListenPacket(raw, local)
	if err != nil {
		return nil, err
	}
	return socket{c, dst.Is6()}, nil
}

// ICMP types.
const (
	v4EchoReply   = 0
	v4Unreachable = 3
	v4Exceeded    = 11
	v6Unreachable = 1
	v6Exceeded    = 3
	v6EchoReply   = 129
)

// prober sends echo requests and waits for what becomes of them. One goroutine at a time.
type prober struct {
	conn   icmpConn
	dst    netip.Addr
	to     net.Addr
	id     int
	cookie [8]byte
	buf    []byte
	stop   func() bool
}

// newProber opens a socket that ends with ctx. Close it.
func (p *Provider) newProber(ctx context.Context, at path, v via, errorsToo bool) (*prober, error) {
	conn, err := p.listen(at.dst, at.src, errorsToo)
	if err != nil {
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
			return nil, datamodel.Fail(datamodel.CommandFailed, "", "the system does not let this agent open an ICMP socket (CAP_NET_RAW)")
		}
		return nil, sendStatus(err)
	}
	q := &prober{conn: conn, dst: at.dst, buf: make([]byte, 1<<16)}
	var random [10]byte
	rand.Read(random[:]) //nolint:errcheck // never fails
	q.id = int(binary.BigEndian.Uint16(random[:]))
	copy(q.cookie[:], random[2:])
	q.to = &net.IPAddr{IP: at.dst.AsSlice(), Zone: at.dst.Zone()}
	if u, ok := conn.LocalAddr().(*net.UDPAddr); ok { // unprivileged: the kernel chose the identifier
		q.id = u.Port
		q.to = &net.UDPAddr{IP: at.dst.AsSlice(), Zone: at.dst.Zone()}
	}
	if v.dscp != 0 {
		if err := conn.setClass(v.dscp << 2); err != nil {
			conn.Close()
			return nil, status(errInternal, err)
		}
	}
	q.stop = context.AfterFunc(ctx, func() { conn.Close() }) // wakes the reader
	return q, nil
}

func (q *prober) close() {
	q.stop()
	q.conn.Close()
}

// Kinds of what becomes of an echo request.
type fate uint8

const (
	noAnswer fate = iota
	echoReply
	exceeded     // a router says that the hop limit was reached
	notReachable // a router or the host says that it cannot be delivered
)

type reply struct {
	fate fate
	code int // of the ICMP message
	from netip.Addr
	rtt  time.Duration
}

// probe sends one request with size bytes of data and waits. An error is one of the socket or of ctx.
func (q *prober) probe(ctx context.Context, seq, size int, timeout time.Duration) (reply, error) {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i)
	}
	copy(data, q.cookie[:])
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: q.id, Seq: seq & 0xFFFF, Data: data}}
	if q.dst.Is6() {
		m.Type = ipv6.ICMPTypeEchoRequest // the kernel computes the checksum
	}
	b, err := m.Marshal(nil)
	if err != nil {
		return reply{}, err
	}
	start := time.Now()
	if _, err := q.conn.WriteTo(b, q.to); err != nil {
		return reply{}, errors.Join(ctx.Err(), err)
	}
	if err := q.conn.SetReadDeadline(start.Add(timeout)); err != nil {
		return reply{}, errors.Join(ctx.Err(), err)
	}
	for {
		n, from, err := q.conn.ReadFrom(q.buf)
		rtt := time.Since(start)
		if ctx.Err() != nil {
			return reply{}, ctx.Err()
		}
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				return reply{}, nil
			}
			if unreachable(err) || errors.Is(err, syscall.ECONNREFUSED) { // an error queued on the socket
				return reply{fate: notReachable, rtt: rtt}, nil
			}
			return reply{}, err
		}
		a, ok := decodeICMP(q.dst.Is6(), q.buf[:n])
		if !ok || a.id != q.id || a.seq != seq&0xFFFF {
			continue
		}
		peer := addrOf(from)
		if a.fate == echoReply && (peer.WithZone("") != q.dst.WithZone("") || !bytes.Equal(a.data, data)) {
			continue
		}
		return reply{fate: a.fate, code: a.code, from: peer, rtt: rtt}, nil
	}
}

func addrOf(a net.Addr) netip.Addr {
	var ip net.IP
	switch a := a.(type) {
	case *net.IPAddr:
		ip = a.IP
	case *net.UDPAddr:
		ip = a.IP
	}
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}

// answer is an ICMP message about an echo request.
type answer struct {
	fate    fate
	code    int
	id, seq int
	data    []byte // of an echo reply
}

// decodeICMP reads a message that answers an echo request; ok is false for everything else. b starts with the ICMP
// header. In an error the request is quoted, with its IP header.
func decodeICMP(v6 bool, b []byte) (a answer, ok bool) {
	if len(b) < 8 {
		return a, false
	}
	a.code = int(b[1])
	reply, gone, late := byte(v4EchoReply), byte(v4Unreachable), byte(v4Exceeded)
	if v6 {
		reply, gone, late = v6EchoReply, v6Unreachable, v6Exceeded
	}
	switch b[0] {
	case reply:
		a.fate, a.data = echoReply, b[8:]
		a.id, a.seq = int(binary.BigEndian.Uint16(b[4:])), int(binary.BigEndian.Uint16(b[6:]))
		return a, true
	case gone:
		a.fate = notReachable
	case late:
		a.fate = exceeded
	default:
		return a, false
	}
	quoted := b[8:]
	request, header := byte(8), 40
	if v6 {
		request = 128
		if len(quoted) < header || quoted[0]>>4 != 6 || quoted[6] != 58 {
			return a, false
		}
	} else {
		if len(quoted) < 20 || quoted[0]>>4 != 4 || quoted[9] != 1 {
			return a, false
		}
		header = int(quoted[0]&15) * 4
	}
	if header < 20 || len(quoted) < header+8 || quoted[header] != request {
		return a, false
	}
	quoted = quoted[header:]
	a.id, a.seq = int(binary.BigEndian.Uint16(quoted[4:])), int(binary.BigEndian.Uint16(quoted[6:]))
	return a, true
}

// series are the response times of a run of packets.
type series struct {
	ok, failed int
	sum        time.Duration
	min, max   time.Duration
}

func (s *series) add(d time.Duration) {
	if s.ok == 0 || d < s.min {
		s.min = d
	}
	s.max = max(s.max, d)
	s.sum += d
	s.ok++
}

// mean is 0 without a success, as are min and max.
func (s *series) mean() time.Duration {
	if s.ok == 0 {
		return 0
	}
	return s.sum / time.Duration(s.ok)
}

// ping is IPPing().
func (p *Provider) ping(ctx context.Context, r *run) error {
	host := r.args.host("Host")
	repeat := int(r.args.number("NumberOfRepetitions", 3, 1, maxRepetitions))
	timeout := r.args.millis("Timeout", time.Second)
	size := int(r.args.number("DataBlockSize", 64, 1, 65535))
	v, err := p.via(r)
	if err != nil {
		return err
	}
	at, err := p.find(ctx, host, v)
	if err != nil {
		return err
	}
	r.set("IPAddressUsed", at.local.WithZone("").String())
	var s series
	err = p.pings(ctx, at, v, repeat, size, timeout, &s)
	r.number("SuccessCount", uint64(s.ok))
	r.number("FailureCount", uint64(s.failed))
	r.millis("AverageResponseTime", s.mean())
	r.millis("MinimumResponseTime", s.min)
	r.millis("MaximumResponseTime", s.max)
	r.micros("AverageResponseTimeDetailed", s.mean())
	r.micros("MinimumResponseTimeDetailed", s.min)
	r.micros("MaximumResponseTimeDetailed", s.max)
	return err
}

// pings sends the echo requests of one host, one after the other.
func (p *Provider) pings(ctx context.Context, at path, v via, repeat, size int, timeout time.Duration, s *series) error {
	q, err := p.newProber(ctx, at, v, false)
	if err != nil {
		return err
	}
	defer q.close()
	for i := range repeat {
		start := time.Now()
		a, err := q.probe(ctx, i+1, size, timeout)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, syscall.EMSGSIZE):
			return datamodel.Fail(datamodel.CommandFailed, "", "DataBlockSize is more than one packet can carry")
		case err != nil && s.ok == 0:
			s.failed += repeat - i
			return sendStatus(err)
		case err == nil && a.fate == echoReply:
			s.add(a.rtt)
		default:
			s.failed++
		}
		if i+1 < repeat {
			if err := sleep(ctx, p.pace-time.Since(start)); err != nil {
				return err
			}
		}
	}
	return nil
}
