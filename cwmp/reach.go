//go:build !omit_reach

package cwmp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"twinspan/cwmp/connreq/udp"
	"twinspan/cwmp/connreq/xmpp"
	"twinspan/cwmp/lwnotif"
	"twinspan/store"
)

// reach is everything beside HTTP by which an ACS can wake this CPE, and the lightweight notifications. It belongs to the
// goroutine in Run; what its own goroutines learn comes in through atomics and a hint.
type reach struct {
	c   *CPE
	set reachSettings

	udp       *worker
	udpKey    string
	udpPort   int
	udpFailed bool        // the port could not be opened; logged once
	udpDown   atomic.Bool // the socket failed while it was in use
	udpState  atomic.Pointer[udp.State]

	xmpp       *worker
	xmppKey    string
	xmppClient *xmpp.Client
	xmppState  atomic.Pointer[xmpp.State]

	pair    atomic.Pointer[credentials]
	allowed atomic.Pointer[[]string]
	// hint says that a state has changed: one that waits is enough.
	hint chan struct{}

	sender *lwnotif.Sender
	light  *worker
	watch  lightWatch
}

// worker is a goroutine with an owner: stop ends and joins it.
type worker struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func startWorker(run func(ctx context.Context)) *worker {
	ctx, cancel := context.WithCancel(context.Background())
	w := &worker{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		run(ctx)
	}()
	return w
}

// stop is for a nil worker too.
func (w *worker) stop() {
	if w != nil {
		w.cancel()
		<-w.done
	}
}

func newReach(c *CPE) *reach {
	r := &reach{c: c, hint: make(chan struct{}, 1), sender: lwnotif.New(c.log)}
	r.pair.Store(&credentials{})
	r.allowed.Store(new([]string))
	return r
}

// wake tells the owner that a state has changed; it never waits. Called from any goroutine.
func (r *reach) wake() {
	select {
	case r.hint <- struct{}{}:
	default:
	}
}

// configure follows the settings: starts, stops and starts anew what they change. Between sessions only.
func (r *reach) configure(ctx context.Context, set settings) {
	c := r.c
	r.set = readReach(c.e.Schema(), c.e.Store().Head(), set)
	r.pair.Store(&credentials{set.connReqUser, set.connReqSecret})
	allowed := r.set.allowed
	r.allowed.Store(&allowed)
	if !set.enabled {
		r.set.udp, r.set.stunOn, r.set.xmppOn, r.set.lightUsed = false, false, false, false
	}
	r.configureUDP()
	r.configureXMPP()
	r.configureLight(ctx)
	r.show()
}

// configureUDP opens the port while somebody could ask through it: with credentials, or with STUN.
func (r *reach) configureUDP() {
	c := r.c
	address := c.o.UDPListen
	if address == "" {
		address = c.o.Listen
	}
	pair := r.pair.Load()
	want := r.set.udp && address != "off" && (r.set.stunOn || pair.user != "" && pair.password != "")
	cfg := r.set.stun
	key := ""
	if want {
		key = fmt.Sprintf("%s %q %q %q %v %v", address, cfg.Server, cfg.Username, cfg.Password, cfg.KeepAliveMin, cfg.KeepAliveMax)
	}
	if r.udpDown.Load() {
		r.closeUDP()
	}
	if key == r.udpKey {
		return
	}
	r.closeUDP()
	if !want {
		return
	}
	cfg.Address, cfg.PerMinute, cfg.Logger = address, c.o.RequestsPerMinute, c.log
	cfg.Credentials = func() (string, string) { p := r.pair.Load(); return p.user, p.password }
	cfg.Requested = c.requested
	cfg.Changed = func(s udp.State) { r.udpState.Store(&s); r.wake() }
	cfg.Now = func() time.Time {
		if c.o.TimeKnown != nil && !c.o.TimeKnown() {
			return time.Time{}
		}
		return time.Now()
	}
	l, err := udp.Listen(cfg)
	if err != nil { // tried again whenever the settings are looked at
		if !r.udpFailed {
			c.log.Error("udp connection requests cannot be heard", "listen", address, "error", err)
		}
		r.udpFailed = true
		return
	}
	r.udpFailed, r.udpKey, r.udpPort = false, key, l.Port()
	r.udp = startWorker(func(ctx context.Context) {
		if err := l.Run(ctx); err != nil {
			c.log.Error("udp connection requests are no longer heard", "error", err)
			r.udpDown.Store(true) // opened anew when the settings are looked at next
			r.wake()
		}
	})
}

func (r *reach) closeUDP() {
	r.udp.stop()
	r.udp, r.udpKey, r.udpPort = nil, "", 0
	r.udpState.Store(nil)
	r.udpDown.Store(false)
}

// configureXMPP runs the client of the connection that ConnReqXMPPConnection names. TR-069 Annex K
func (r *reach) configureXMPP() {
	c := r.c
	cfg := r.set.xmpp
	key := ""
	if r.set.xmppRow != "" && r.set.xmppOn {
		key = fmt.Sprintf("%s %q %q %q %q %v %v %v %v %v %d", r.set.xmppRow, cfg.Username, cfg.Domain, cfg.Resource, cfg.Password, cfg.UseTLS,
			cfg.KeepAlive, cfg.RetryInitial, cfg.RetryMax, cfg.Servers, cfg.RetryMultiplier)
	}
	if key == r.xmppKey {
		return
	}
	r.closeXMPP()
	r.xmppKey = key
	if key == "" {
		return
	}
	cfg.TLS = &tls.Config{RootCAs: c.o.RootCAs}
	cfg.PerMinute, cfg.Logger = c.o.RequestsPerMinute, c.log
	cfg.Credentials = func() (string, string) { p := r.pair.Load(); return p.user, p.password }
	cfg.Allowed = func() []string { return *r.allowed.Load() }
	cfg.Requested = c.requested
	cfg.Changed = func(s xmpp.State) { r.xmppState.Store(&s); r.wake() }
	client, err := xmpp.New(cfg)
	if err != nil {
		c.log.Error("xmpp connection cannot be used", "row", r.set.xmppRow, "error", err)
		r.xmppState.Store(&xmpp.State{Status: xmpp.Misconfigured, Since: time.Now()})
		return
	}
	r.xmppClient = client
	r.xmpp = startWorker(func(ctx context.Context) {
		if err := client.Run(ctx); err != nil { // only a second Run fails
			c.log.Error("xmpp connection ended", "error", err)
		}
	})
}

func (r *reach) closeXMPP() {
	r.xmpp.stop()
	r.xmpp, r.xmppKey, r.xmppClient = nil, "", nil
	r.xmppState.Store(nil)
}

// show puts the addresses where the provider reads them. Owner goroutine only.
func (r *reach) show() {
	view := &reachView{methods: "HTTP"}
	if r.c.o.UDPListen != "off" && (r.c.o.UDPListen != "" || r.c.o.Listen != "off") {
		view.methods += ",STUN"
	}
	view.methods += ",XMPP"
	state := r.udpState.Load()
	switch {
	case r.udp == nil || r.udpDown.Load():
	case r.set.stunOn && state != nil: // TR-181 UDPConnectionRequestAddress: what STUN has found
		view.udpAddress, view.nat = state.Address(), state.NATDetected()
	case !r.set.stunOn && r.c.server.host != "": // else the local address that is listened on
		view.udpAddress = net.JoinHostPort(r.c.server.host, strconv.Itoa(r.udpPort))
	}
	if x := r.xmppState.Load(); x != nil {
		view.row, view.xmpp, view.client = r.set.xmppRow, *x, r.xmppClient
	} else if r.set.xmppRow != "" {
		view.row, view.xmpp.Status = r.set.xmppRow, "Disabled"
	}
	before := r.c.reachable.view.Swap(view)
	if before.udpAddress != view.udpAddress || before.nat != view.nat || before.xmpp.JabberID != view.xmpp.JabberID {
		r.c.pollAt = time.Time{} // the ACS may watch them: "4 VALUE CHANGE"
	}
}

// close ends and joins everything.
func (r *reach) close() {
	r.closeUDP()
	r.closeXMPP()
	r.light.stop()
	r.light = nil
}

// touchesReach reports whether a commit changed an XMPP connection.
func touchesReach(e *store.Entry) bool {
	for _, d := range e.Deltas {
		if strings.HasPrefix(d.Path, xmppPath) {
			return true
		}
	}
	return false
}

// checkReach is part of Options.validate.
func (o *Options) checkReach() error {
	if o.UDPListen != "" && o.UDPListen != "off" {
		if _, _, err := net.SplitHostPort(o.UDPListen); err != nil {
			return fmt.Errorf("cwmp: Options.UDPListen: %w", err)
		}
	}
	if len(o.DiscoveryFiles) > 8 || o.DiscoveryEvery < 0 {
		return errors.New("cwmp: Options.DiscoveryFiles: 8 at most, DiscoveryEvery not negative")
	}
	return nil
}
