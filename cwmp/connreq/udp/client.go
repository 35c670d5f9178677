package udp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Retransmission of RFC 3489 9.3: after 100 ms, doubled up to 1.6 s, nine times in all; 1.6 s after the last it has failed.
const (
	firstWait = 100 * time.Millisecond
	longWait  = 1600 * time.Millisecond
	maxSends  = 9
)

// client is the STUN side of a Listener. All of it belongs to the goroutine in Run.
type client struct {
	l        *Listener
	wg       *sync.WaitGroup
	resolved chan resolution
	server   netip.AddrPort
	state    State
	told     State // what Changed was called with
	failures int
	at       time.Time // when tick has something to do
	step     step
	tx       *transaction

	// The search for the longest silence that the binding survives: low is known to be survived, high is known not to
	// be, or the limit if not failed.
	low, high time.Duration
	failed    bool // high was tried
	second    net.PacketConn
	settled   bool // the search is over
}

// step is what the next tick does when no transaction is open.
type step int

const (
	doResolve step = iota
	doBind
	doProbe
)

type resolution struct {
	server netip.AddrPort
	err    error
}

// transaction is a request on its way.
type transaction struct {
	id     TransactionID
	raw    []byte
	probe  bool
	change bool // carried BINDING-CHANGE
	sends  int
	wait   time.Duration
}

func newClient(l *Listener, wg *sync.WaitGroup) *client {
	c := &client{l: l, wg: wg, resolved: make(chan resolution, 1), low: l.cfg.KeepAliveMin, high: l.cfg.KeepAliveMax}
	c.settled = c.low >= c.high
	c.state.KeepAlive, c.state.Searching = c.low, !c.settled
	return c
}

// start looks the server up, in a goroutine that Run joins. The address may change over time: it is done anew after a failure.
func (c *client) start(ctx context.Context, now time.Time) {
	c.at = now.Add(time.Hour)
	host, port, err := splitServer(c.l.cfg.Server)
	if err != nil {
		c.resolved <- resolution{err: err}
		return
	}
	c.wg.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, resolvePatience)
		defer cancel()
		r := resolution{}
		if ip, err := netip.ParseAddr(host); err == nil {
			r.server = netip.AddrPortFrom(ip.Unmap(), port)
		} else if list, err := c.l.cfg.Resolve(ctx, host); err != nil {
			r.err = err
		} else if len(list) == 0 {
			r.err = fmt.Errorf("%s has no IPv4 address", host)
		} else {
			r.server = netip.AddrPortFrom(list[0].Unmap(), port)
		}
		c.resolved <- r // never blocks: there is one lookup at a time, and room for its result
	})
}

func (c *client) serverFound(r resolution, now time.Time) {
	if r.err == nil && !r.server.Addr().Is4() {
		r.err = fmt.Errorf("%v is not IPv4", r.server)
	}
	if r.err != nil {
		c.fail("the STUN server is not found: "+r.err.Error(), now)
		return
	}
	c.server = r.server
	c.bind(false, now)
}

// bind sends a Binding Request from the socket that hears requests.
func (c *client) bind(change bool, now time.Time) {
	c.begin(&Message{Type: BindingRequest, Transaction: NewTransactionID(), Binding: true, BindingChange: change,
		Username: c.l.cfg.Username}, false, now) // TR-069 G.2.1.3
}

// probe asks, from the second socket, for an answer to the binding of the first one.
func (c *client) probe(ctx context.Context, now time.Time) {
	if c.second == nil {
		host := ""
		if ip := c.l.local.Addr(); !ip.IsUnspecified() {
			host = ip.String()
		}
		conn, err := c.l.cfg.ListenPacket("udp", net.JoinHostPort(host, "0"))
		if err != nil {
			c.l.log.Warn("no second port to search the keep-alive period with", "error", err)
			c.settle(c.l.cfg.KeepAliveMin)
			c.bind(false, now)
			return
		}
		c.second = conn
		c.wg.Go(func() { c.l.read(conn, true, nil) })
	}
	c.begin(&Message{Type: BindingRequest, Transaction: NewTransactionID(), Response: c.state.Mapped,
		Username: c.l.cfg.Username}, true, now)
}

func (c *client) begin(m *Message, probe bool, now time.Time) {
	raw, err := m.Encode(c.l.cfg.Password)
	if err != nil {
		c.fail(err.Error(), now)
		return
	}
	c.tx = &transaction{id: m.Transaction, raw: raw, probe: probe, change: m.BindingChange, wait: firstWait}
	c.send(now)
}

func (c *client) send(now time.Time) {
	conn := c.l.conn
	if c.tx.probe {
		conn = c.second
	}
	// An error (no route, say) is one more datagram that gets no answer.
	if _, err := conn.WriteTo(c.tx.raw, net.UDPAddrFromAddrPort(c.server)); err != nil {
		c.l.log.Debug("stun request not sent", "error", err)
	}
	c.tx.sends++
	c.at = now.Add(c.tx.wait)
	c.tx.wait = min(2*c.tx.wait, longWait)
}

// tick does what is due.
func (c *client) tick(ctx context.Context, now time.Time) {
	if now.Before(c.at) {
		return
	}
	switch {
	case c.tx != nil && c.tx.sends < maxSends:
		c.send(now)
	case c.tx != nil && c.tx.probe: // TR-069 G.2.1.2: no answer came through, the binding was gone
		c.tx = nil
		c.high, c.failed = c.candidate(), true
		c.bind(false, now)
	case c.tx != nil:
		c.tx = nil
		c.fail("the STUN server does not answer", now)
	case c.step == doResolve:
		c.start(ctx, now)
	case c.step == doProbe:
		c.probe(ctx, now)
	default:
		c.bind(false, now)
	}
}

// fail backs off and looks the server up anew.
func (c *client) fail(reason string, now time.Time) {
	wait := min(max(c.l.cfg.KeepAliveMin, firstRetry)<<min(c.failures, 10), max(c.l.cfg.KeepAliveMin, lastRetry))
	c.failures++
	c.step, c.at = doResolve, now.Add(wait)
	if c.state.Failed != reason {
		c.l.log.Warn("stun failed", "reason", reason, "retry_in", wait)
	}
	c.show(func(s *State) { s.Failed = reason })
}

// response takes a message of the server. Only the transaction proves it: nobody else knows the 128 bits.
func (c *client) response(ctx context.Context, m *Message, second bool, now time.Time) {
	if c.tx == nil || m.Transaction != c.tx.id || m.Type != BindingResponse && m.Type != BindingErrorResponse {
		return
	}
	if m.HasIntegrity() && c.l.cfg.Password != "" && !m.Proved(c.l.cfg.Password) { // RFC 3489 9.4: discard
		c.l.log.Debug("stun response with wrong integrity")
		return
	}
	tx := c.tx
	switch {
	case tx.probe && !second && m.Type == BindingResponse: // the binding survived the silence
		c.tx = nil
		c.low = c.candidate()
		c.bind(false, now)
	case tx.probe && second: // the server does not do RESPONSE-ADDRESS: it answered where the request came from
		c.tx = nil
		c.l.log.Info("stun server without RESPONSE-ADDRESS: minimum keep-alive period used", "code", m.ErrorCode)
		c.settle(c.l.cfg.KeepAliveMin)
		c.bind(false, now)
	case tx.probe || second:
	case m.Type == BindingErrorResponse:
		c.tx = nil
		c.fail(fmt.Sprintf("the STUN server answers %d", m.ErrorCode), now)
	case !m.Mapped.IsValid():
		c.tx = nil
		c.fail("the STUN server answers without MAPPED-ADDRESS", now)
	default:
		c.bound(m.Mapped, tx, now)
	}
}

// bound takes a mapped address in and plans what comes next.
func (c *client) bound(mapped netip.AddrPort, tx *transaction, now time.Time) {
	c.tx, c.failures = nil, 0
	old := c.state.Mapped
	local := c.l.local
	if ip := local.Addr(); !ip.IsValid() || ip.IsUnspecified() {
		ip, err := c.l.cfg.LocalAddr(c.server)
		if err != nil {
			c.fail("this device has no address on the way to the STUN server: "+err.Error(), now)
			return
		}
		local = netip.AddrPortFrom(ip, local.Port())
	}
	moved := old.IsValid() && old != mapped
	if moved && c.settled && c.state.KeepAlive > c.l.cfg.KeepAliveMin && local == c.state.Local {
		// What was long enough is not any more: search anew below it.
		c.low, c.high, c.failed, c.settled = c.l.cfg.KeepAliveMin, c.state.KeepAlive, true, false
	}
	c.plan(now)
	c.show(func(s *State) { s.Mapped, s.Local, s.Failed = mapped, local, "" })
	if moved && !tx.change { // TR-069 G.2.1.3: tell at once
		c.bind(true, now)
	}
}

// candidate is the silence that is tried next; 0 when the search is over.
func (c *client) candidate() time.Duration {
	if c.settled {
		return 0
	}
	if !c.failed {
		if c.low >= c.high {
			return 0
		}
		return min(2*c.low, c.high)
	}
	if c.high-c.low <= max(c.low/16, time.Second) {
		return 0
	}
	return (c.low + c.high) / 2
}

// plan decides what follows a good binding.
func (c *client) plan(now time.Time) {
	if wait := c.candidate(); wait > 0 { // TR-069 G.2.1.2: silence, then the second port asks
		c.step, c.at = doProbe, now.Add(wait)
		c.state.KeepAlive, c.state.Searching = c.low, true
		return
	}
	if !c.settled {
		keep := c.low
		if c.failed { // a little less than what was survived: timers of a NAT are coarse
			keep = max(c.l.cfg.KeepAliveMin, c.low-c.low/16)
		}
		c.settle(keep)
	}
	c.step, c.at = doBind, now.Add(c.state.KeepAlive)
}

// settle ends the search.
func (c *client) settle(keep time.Duration) {
	c.settled = true
	c.endSearch()
	c.show(func(s *State) { s.KeepAlive, s.Searching = keep, false })
	c.l.log.Debug("keep-alive period of the NAT binding", "seconds", keep.Seconds())
}

func (c *client) endSearch() {
	if c.second != nil {
		_ = c.second.Close()
		c.second = nil
	}
}

// show tells the owner when something has changed.
func (c *client) show(change func(*State)) {
	change(&c.state)
	if c.state != c.told {
		c.told = c.state
		c.l.cfg.Changed(c.state)
	}
}
