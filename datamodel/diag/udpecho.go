package diag

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"

	"twinspan/datamodel"
)

// echoHeader is the length of the fields of a UDP Echo Plus packet (TR-143, section on UDP Echo Plus): five numbers of
// 32 bits. Data follows. A shorter packet is a plain echo.
const echoHeader = 20

// echoPacket are the fields of a UDP Echo Plus packet.
type echoPacket struct {
	genSN     uint32 // set by the client
	respSN    uint32 // counts the answers of the server
	received  uint32 // µs of the server's clock, rolling over
	replied   uint32
	notServed uint32 // answers that the server could not send
}

// decodeEcho reads the fields; ok is false when the packet is too short to have them.
func decodeEcho(b []byte) (e echoPacket, ok bool) {
	if len(b) < echoHeader {
		return e, false
	}
	n := binary.BigEndian.Uint32
	return echoPacket{n(b), n(b[4:]), n(b[8:]), n(b[12:]), n(b[16:])}, true
}

// encode writes the fields over the start of b, which is long enough.
func (e echoPacket) encode(b []byte) {
	for i, v := range [...]uint32{e.genSN, e.respSN, e.received, e.replied, e.notServed} {
		binary.BigEndian.PutUint32(b[4*i:], v)
	}
}

// echoResult is what became of one packet.
type echoResult struct {
	sent, received time.Time
	answered       bool
	fields         echoPacket
}

// echoTest is one UDP echo client. Its packets are on the way together, sent with a gap between them.
type echoTest struct {
	at      path
	v       via
	port    uint16
	repeat  int
	size    int
	timeout time.Duration
	gap     time.Duration

	s       series
	results []echoResult // one for each packet sent

	mu      sync.Mutex
	pending int
	sentAll bool
	done    chan struct{}
	once    sync.Once
	pattern []byte
}

// run sends the packets and waits until each is answered or late. Errors: statuses, ctx.
func (e *echoTest) run(ctx context.Context) error {
	d := net.Dialer{Control: markSocket(e.v)}
	if e.at.src.IsValid() {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(e.at.src, 0))
	}
	c, err := d.DialContext(ctx, "udp", netip.AddrPortFrom(e.at.dst, e.port).String())
	if err != nil {
		return sendStatus(err)
	}
	e.results = make([]echoResult, 0, e.repeat)
	e.done = make(chan struct{})
	e.pattern = make([]byte, e.size)
	rand.Read(e.pattern) //nolint:errcheck // never fails
	if e.size >= echoHeader {
		clear(e.pattern[:echoHeader])
	}
	var wg sync.WaitGroup
	wg.Go(func() { e.receive(c) })
	err = e.send(ctx, c)
	if err == nil {
		err = e.wait(ctx)
	}
	c.Close() // ends the receiver
	wg.Wait()
	for i := range e.results {
		if r := &e.results[i]; r.answered {
			e.s.add(r.received.Sub(r.sent))
		} else {
			e.s.failed++
		}
	}
	return err
}

// packet is the nth packet, counted from 1. A small one has only the low bytes of its number.
func (e *echoTest) packet(n int) []byte {
	b := bytes.Clone(e.pattern)
	if e.size >= echoHeader {
		echoPacket{genSN: uint32(n)}.encode(b)
		return b
	}
	var sn [4]byte
	binary.BigEndian.PutUint32(sn[:], uint32(n))
	copy(b, sn[4-min(4, e.size):])
	return b
}

func (e *echoTest) send(ctx context.Context, c net.Conn) error {
	for n := 1; n <= e.repeat; n++ {
		b := e.packet(n)
		e.mu.Lock()
		e.results = append(e.results, echoResult{sent: time.Now()})
		e.pending++
		e.sentAll = n == e.repeat
		e.mu.Unlock()
		_, err := c.Write(b)
		if errors.Is(err, syscall.ECONNREFUSED) { // of an earlier packet: nobody listens there
			_, err = c.Write(b)
		}
		switch {
		case errors.Is(err, syscall.EMSGSIZE):
			return datamodel.Fail(datamodel.CommandFailed, "", "DataBlockSize is more than one packet can carry")
		case err != nil && n == 1 && !errors.Is(err, syscall.ECONNREFUSED):
			return sendStatus(err)
		}
		if n < e.repeat {
			if err := sleep(ctx, e.gap); err != nil {
				return err
			}
		}
	}
	return nil
}

// wait ends when all packets are answered, or the last one is late.
func (e *echoTest) wait(ctx context.Context) error {
	e.mu.Lock()
	if e.pending == 0 {
		e.finished()
	}
	e.mu.Unlock()
	t := time.NewTimer(e.timeout)
	defer t.Stop()
	select {
	case <-e.done:
	case <-t.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

func (e *echoTest) finished() { e.once.Do(func() { close(e.done) }) }

// receive books answers until the socket is closed.
func (e *echoTest) receive(c net.Conn) {
	buf := make([]byte, 1<<16)
	for {
		n, err := c.Read(buf)
		now := time.Now()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			e.book(buf[:n], now)
		} else if !errors.Is(err, syscall.ECONNREFUSED) && !unreachable(err) {
			return
		}
	}
}

// book finds the packet that b answers: the oldest one open that has its number and its data.
func (e *echoTest) book(b []byte, now time.Time) {
	if len(b) != e.size {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	fields, plus := decodeEcho(b)
	if plus {
		if n := int64(fields.genSN); n >= 1 && n <= int64(len(e.results)) && bytes.Equal(b[echoHeader:], e.pattern[echoHeader:]) {
			e.take(&e.results[n-1], fields, now)
		}
		return
	}
	for i := range e.results {
		if r := &e.results[i]; !r.answered && bytes.Equal(b, e.packet(i+1)) && e.take(r, fields, now) {
			return
		}
	}
}

func (e *echoTest) take(r *echoResult, fields echoPacket, now time.Time) bool {
	if r.answered || now.Sub(r.sent) > e.timeout {
		return false
	}
	r.answered, r.received, r.fields = true, now, fields
	e.pending--
	if e.sentAll && e.pending == 0 {
		e.finished()
	}
	return true
}

// udpEcho is UDPEchoDiagnostics().
func (p *Provider) udpEcho(ctx context.Context, r *run) error {
	host := r.args.host("Host")
	e := echoTest{
		port:    uint16(r.args.number("Port", 7, 1, 65535)),
		repeat:  int(r.args.number("NumberOfRepetitions", 1, 1, maxRepetitions)),
		timeout: r.args.millis("Timeout", 5*time.Second),
		size:    int(r.args.number("DataBlockSize", 24, 1, 65535)),
		gap:     time.Duration(r.args.number("InterTransmissionTime", 100, 1, 65535)) * time.Millisecond,
	}
	single := r.args.flag("EnableIndividualPacketResults")
	var err error
	if e.v, err = p.via(r); err != nil {
		return err
	}
	if e.at, err = p.find(ctx, host, e.v); err != nil {
		return err
	}
	r.set("IPAddressUsed", e.at.local.WithZone("").String())
	err = e.run(ctx)
	r.number("SuccessCount", uint64(e.s.ok))
	r.number("FailureCount", uint64(e.s.failed))
	r.micros("AverageResponseTime", e.s.mean())
	r.micros("MinimumResponseTime", e.s.min)
	r.micros("MaximumResponseTime", e.s.max)
	if single {
		for i, res := range e.results[:min(len(e.results), maxEchoResults)] {
			res.row(r, "IndividualPacketResult."+strconv.Itoa(i+1)+".", i+1)
		}
	}
	return err
}

func (res echoResult) row(r *run, row string, sn int) {
	r.set(row+"PacketSuccess", strconv.FormatBool(res.answered))
	r.time(row+"PacketSendTime", res.sent)
	r.time(row+"PacketReceiveTime", res.received)
	r.number(row+"TestGenSN", uint64(sn))
	r.number(row+"TestRespSN", uint64(res.fields.respSN))
	r.number(row+"TestRespRcvTimeStamp", uint64(res.fields.received))
	r.number(row+"TestRespReplyTimeStamp", uint64(res.fields.replied))
	r.number(row+"TestRespReplyFailureCount", uint64(res.fields.notServed))
}
