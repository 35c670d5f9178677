package diag

import (
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// meter measures one throughput test (TR-143) over all its connections.
type meter struct {
	counters func(ifname string) (rx, tx uint64, err error)
	planned  int // connections

	mu       sync.Mutex
	conns    []*connMeter
	ifname   string
	firstROM reading
	lastEOM  reading
	begun    int
	fullFrom reading       // when the last connection began to transfer
	fullTo   reading       // when the first one ended
	begin    chan struct{} // closed at the first BOM
	bom      reading       // at that moment
}

// reading is a look at all counters at one moment.
type reading struct {
	at               time.Time
	testRx, testTx   uint64 // of the connections of the test
	totalRx, totalTx uint64 // of the interface
}

// connMeter measures one connection. Its times are guarded by the mu of its meter.
type connMeter struct {
	m                 *meter
	rx, tx            atomic.Uint64
	openReq, openResp time.Time
	rom, bom, eom     time.Time
	startRx, startTx  uint64  // when the request was sent: what the handshake took does not count
	start, end        reading // at ROM and EOM
}

func newMeter(connections int, counters func(string) (uint64, uint64, error)) *meter {
	m := &meter{counters: counters, planned: connections, begin: make(chan struct{})}
	for range connections {
		m.conns = append(m.conns, &connMeter{m: m})
	}
	return m
}

// read looks at the counters. mu is held. Without counters of the interface those of the test stand for them.
func (m *meter) read() reading {
	r := reading{at: time.Now()}
	for _, c := range m.conns {
		r.testRx += c.rx.Load()
		r.testTx += c.tx.Load()
	}
	r.totalRx, r.totalTx = r.testRx, r.testTx
	if rx, tx, err := m.counters(m.ifname); m.ifname != "" && err == nil {
		r.totalRx, r.totalTx = rx, tx
	}
	return r
}

func (m *meter) reading() reading {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.read()
}

// opened books a connection that was asked for at req and stands now. As with ROM and BOM the first one counts: a
// redirection is part of the test.
func (c *connMeter) opened(req time.Time, conn net.Conn) {
	now := time.Now()
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	if !c.openReq.IsZero() {
		return
	}
	c.openReq, c.openResp = req, now
	if a, ok := conn.LocalAddr().(*net.TCPAddr); ok && c.m.ifname == "" {
		c.m.ifname = interfaceOf(a.AddrPort().Addr().Unmap())
	}
}

// request books the start of the request, ROM.
func (c *connMeter) request() {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	if !c.rom.IsZero() {
		return
	}
	c.startRx, c.startTx = c.rx.Load(), c.tx.Load()
	c.start = c.m.read()
	c.rom = c.start.at
	if c.m.firstROM.at.IsZero() {
		c.m.firstROM = c.start
	}
}

// transfer books the first byte of the test traffic, BOM. Only the first call counts.
func (c *connMeter) transfer() {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	if !c.bom.IsZero() {
		return
	}
	now := c.m.read()
	c.bom = now.at
	c.m.begun++
	if c.m.begun == 1 {
		c.m.bom = now
		close(c.m.begin)
	}
	if c.m.begun == c.m.planned && c.m.fullTo.at.IsZero() {
		c.m.fullFrom = now
	}
}

// done books the end of the test traffic, EOM.
func (c *connMeter) done() {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	c.end = c.m.read()
	c.eom = c.end.at
	if c.m.fullTo.at.IsZero() {
		c.m.fullTo = c.end
	}
	c.m.lastEOM = c.end
}

// meteredConn counts the bytes of a connection and ends when its peer is silent for too long.
type meteredConn struct {
	net.Conn
	c         *connMeter
	readIdle  time.Duration // 0: reads wait for ever
	writeIdle time.Duration
}

func (c *meteredConn) Read(b []byte) (int, error) {
	if c.readIdle > 0 {
		if err := c.SetReadDeadline(time.Now().Add(c.readIdle)); err != nil {
			return 0, err
		}
	}
	n, err := c.Conn.Read(b)
	c.c.rx.Add(uint64(max(n, 0)))
	return n, err
}

func (c *meteredConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.writeIdle)); err != nil {
		return 0, err
	}
	c.c.tx.Add(uint64(len(b))) // before, since the answer may be there before Write returns
	n, err := c.Conn.Write(b)
	c.c.tx.Add(-uint64(len(b) - n))
	return n, err
}

// report writes the results. test is TestBytesReceived or TestBytesSent.
func (m *meter) report(r *run, test string, perConnection bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	testOf := func(a, b reading) uint64 {
		if test == "TestBytesSent" {
			return sub(b.testTx, a.testTx)
		}
		return sub(b.testRx, a.testRx)
	}
	var req, resp, rom, bom, eom time.Time
	var bytes uint64
	for i, c := range m.conns {
		req, resp = later(req, c.openReq), later(resp, c.openResp)
		rom, bom, eom = earlier(rom, c.rom), earlier(bom, c.bom), later(eom, c.eom)
		own := c.bytes(test)
		bytes += own
		if !perConnection {
			continue
		}
		row := "PerConnectionResult." + strconv.Itoa(i+1) + "."
		r.time(row+"TCPOpenRequestTime", c.openReq)
		r.time(row+"TCPOpenResponseTime", c.openResp)
		r.time(row+"ROMTime", c.rom)
		r.time(row+"BOMTime", c.bom)
		r.time(row+"EOMTime", c.eom)
		r.number(row+test, own)
		r.number(row+"TotalBytesReceived", sub(c.end.totalRx, c.start.totalRx))
		r.number(row+"TotalBytesSent", sub(c.end.totalTx, c.start.totalTx))
	}
	r.time("TCPOpenRequestTime", req)
	r.time("TCPOpenResponseTime", resp)
	r.time("ROMTime", rom)
	r.time("BOMTime", bom)
	r.time("EOMTime", eom)
	r.number(test, bytes)
	r.number("TotalBytesReceived", sub(m.lastEOM.totalRx, m.firstROM.totalRx))
	r.number("TotalBytesSent", sub(m.lastEOM.totalTx, m.firstROM.totalTx))
	// Full loading is when all connections transfer; there may be no such time.
	from, to := m.fullFrom, m.fullTo
	if from.at.IsZero() || to.at.Before(from.at) {
		from, to = reading{}, reading{}
	}
	r.number(test+"UnderFullLoading", testOf(from, to))
	r.number("TotalBytesReceivedUnderFullLoading", sub(to.totalRx, from.totalRx))
	r.number("TotalBytesSentUnderFullLoading", sub(to.totalTx, from.totalTx))
	r.micros("PeriodOfFullLoading", to.at.Sub(from.at))
}

// bytes of the test that a connection carried, with the HTTP headers.
func (c *connMeter) bytes(test string) uint64 {
	if c.bom.IsZero() {
		return 0
	}
	if test == "TestBytesSent" {
		return sub(c.tx.Load(), c.startTx)
	}
	return sub(c.rx.Load(), c.startRx)
}

// sub is a-b, 0 for counters that went back.
func sub(a, b uint64) uint64 {
	if a < b {
		return 0
	}
	return a - b
}

func later(a, b time.Time) time.Time {
	if a.IsZero() || b.After(a) {
		return b
	}
	return a
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
