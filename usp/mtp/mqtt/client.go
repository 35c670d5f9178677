package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/session"
	"github.com/eclipse/paho.golang/paho/session/state"

	"twinspan/usp/mtp"
	"twinspan/usp/mtp/internal/outbox"
)

const (
	contentType     = "usp.msg"                     // R-MQTT.27
	contentTypeLong = "application/vnd.bbf.usp.msg" // R-MQTT.27a
	// receiveMaximum is how many packets the broker may send without acknowledgement. It is generous, because some brokers
	// lose the order of what exceeds it; the bytes are bounded by guard.
	receiveMaximum = 1024
	packetSlack    = 16 << 10 // of a packet beside the record: topics and properties
	packetTimeout  = 10 * time.Second
)

// ErrNoTopic is returned by Run when the MTP must be disabled: neither configuration nor broker name a topic that we could
// be reached on. R-MQTT.16
var ErrNoTopic = errors.New("mqtt: no topic to be reached on is configured or told by the broker")

// Client is one broker connection that is kept up. It implements mtp.Transport; dest of Send is a topic.
type Client struct {
	cfg    Config
	addr   string
	secure bool
	log    *slog.Logger

	session session.SessionManager // kept over connections when the broker keeps its half, else nil
	link    atomic.Pointer[link]
	resub   chan struct{} // cap 1: subscriptions changed

	connected bool // Run only: a connection was made before, whose session may be there

	mu       sync.Mutex
	clientID string
	subs     []Subscription
}

var _ mtp.Transport = (*Client)(nil)

// NewClient checks the configuration; Run connects.
func NewClient(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	addr, secure, err := cfg.address()
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, addr: addr, secure: secure, log: cfg.Log, clientID: cfg.ClientID,
		subs: append([]Subscription(nil), cfg.Subscriptions...), resub: make(chan struct{}, 1)}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if cfg.SessionExpiry > 0 {
		c.session = state.NewInMemory()
	}
	return c, nil
}

// SetSubscriptions replaces the configured filters, also of a connection that is up: what is new gets a SUBSCRIBE, what is
// gone an UNSUBSCRIBE (R-MQTT.34). Safe for concurrent use, does not wait.
func (c *Client) SetSubscriptions(subs []Subscription) error {
	for _, s := range subs {
		if err := checkSubscription(s); err != nil {
			return err
		}
	}
	c.mu.Lock()
	c.subs = append([]Subscription(nil), subs...)
	c.mu.Unlock()
	select {
	case c.resub <- struct{}{}:
	default:
	}
	return nil
}

// Run implements mtp.Transport. It returns ErrNoTopic when the MTP must be disabled.
func (c *Client) Run(ctx context.Context, h mtp.Handler, onState func(mtp.State)) error {
	for retry := 0; ctx.Err() == nil; {
		established, err := c.session1(ctx, h, onState)
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, ErrNoTopic) {
			onState(mtp.State{Reason: err.Error()})
			return err
		}
		if established {
			retry = 0
		} else {
			onState(mtp.State{Reason: err.Error()})
		}
		retry++
		select { // R-MQTT.10, R-MQTT.33
		case <-time.After(c.cfg.Retry.Wait(retry)):
		case <-ctx.Done():
		}
	}
	return nil
}

// Send implements mtp.Transport.
func (c *Client) Send(ctx context.Context, dest string, record []byte) error {
	return c.send(ctx, outbox.Item{Dest: dest, Record: record})
}

func (c *Client) send(ctx context.Context, it outbox.Item) error {
	l := c.link.Load()
	if l == nil {
		return mtp.ErrNotConnected
	}
	if err := checkTopic(it.Dest); err != nil {
		return fmt.Errorf("mqtt: destination: %w", err)
	}
	if size := len(it.Record) + len(it.Dest) + len(l.replyTopic) + 64; l.maxPacket > 0 && size > l.maxPacket {
		return fmt.Errorf("%w: packet of %d bytes, the broker takes %d", mtp.ErrTooLarge, size, l.maxPacket)
	}
	return l.q.Send(ctx, it)
}

// link is one connection to the broker.
type link struct {
	id         uint64
	cli        *paho.Client
	guard      *guard
	peer       mtp.Identity
	q          *outbox.Queue
	qos        byte
	mayRetain  bool
	maxPacket  int // of the broker, 0: unlimited
	replyTopic string

	ready  chan struct{} // closed once the link was reported up
	mu     sync.Mutex
	reason string        // the first one counts
	told   chan struct{} // closed once there is a reason
}

func (l *link) fail(reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reason == "" {
		l.reason = reason
		close(l.told)
	}
}

// awaitReason gives the library the moment that it takes between giving up and telling why.
func (l *link) awaitReason() {
	select {
	case <-l.told:
	case <-time.After(100 * time.Millisecond):
	}
}

func (l *link) why() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reason
}

// session1 makes one connection and serves it to its end. established says that the link was up.
func (c *Client) session1(ctx context.Context, h mtp.Handler, onState func(mtp.State)) (established bool, err error) {
	linkCtx, cancel := context.WithCancel(ctx)
	defer cancel() // first of all frees a handler that waits
	l, ca, err := c.connect(linkCtx, cancel, h)
	if err != nil {
		return false, err
	}
	c.connected = true
	assigned := ""
	if p := ca.Properties; p != nil && p.AssignedClientID != "" { // R-MQTT.9, R-MQTT.11
		assigned = p.AssignedClientID
		c.mu.Lock()
		c.clientID = assigned
		c.mu.Unlock()
	}
	subs, err := c.subscribe(linkCtx, l, ca)
	if err != nil {
		lost := linkCtx.Err() != nil && ctx.Err() == nil
		cancel()
		c.disconnect(l)
		if lost {
			l.awaitReason()
			err = fmt.Errorf("connection lost while subscribing: %s", l.why())
		}
		return false, err
	}
	c.link.Store(l)
	onState(mtp.State{Up: true, LinkID: l.id, Peer: l.peer, ReplyTopic: l.replyTopic, ClientID: assigned})
	close(l.ready)
	c.serve(ctx, linkCtx, l, subs)
	c.link.Store(nil)
	l.q.Close()
	cancel()
	if ctx.Err() != nil {
		l.fail("stopped")
	}
	c.disconnect(l) // R-MQTT.35; on a dead connection only the joining remains
	l.fail("connection lost")
	reason := l.why()
	onState(mtp.State{LinkID: l.id, Reason: reason})
	return true, errors.New(reason)
}

func (c *Client) disconnect(l *link) {
	l.guard.hurry()
	if err := l.cli.Disconnect(&paho.Disconnect{ReasonCode: 0}); err != nil {
		c.log.Debug("usp mqtt disconnect not sent", "error", err)
	}
	<-l.cli.Done()
}

// connect dials and exchanges CONNECT and CONNACK. R-MQTT.3, R-MQTT.6
func (c *Client) connect(ctx context.Context, broken func(), h mtp.Handler) (*link, *paho.Connack, error) {
	dialCtx, cancel := context.WithTimeout(ctx, c.cfg.ConnectTimeout)
	defer cancel()
	nc, peer, err := c.dial(dialCtx)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot connect: %w", err)
	}
	l := &link{id: mtp.NextLinkID(), peer: peer, q: outbox.New(c.cfg.MaxRecord), ready: make(chan struct{}), told: make(chan struct{})}
	l.guard = newGuard(nc, c.cfg.MaxRecord+packetSlack, func(err error) {
		if err != nil {
			l.fail("connection lost: " + err.Error())
		}
		broken()
	})
	l.cli = paho.NewClient(paho.ClientConfig{
		Conn: l.guard, Session: c.session, PacketTimeout: packetTimeout, AuthHandler: noAuth{l},
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			c.received(ctx, l, h, p.Packet)
			return true, nil
		}},
		OnClientError: func(err error) { l.fail("connection lost: " + err.Error()) },
		OnServerDisconnect: func(d *paho.Disconnect) {
			l.fail(fmt.Sprintf("broker closed the connection with reason 0x%02x", d.ReasonCode))
		},
	})
	ca, err := l.cli.Connect(dialCtx, c.connectPacket())
	if err != nil {
		l.guard.Close()
		if ca != nil {
			return nil, nil, fmt.Errorf("broker refused the connection with reason 0x%02x", ca.ReasonCode)
		}
		if reason := l.why(); reason != "" {
			return nil, nil, errors.New(reason)
		}
		return nil, nil, fmt.Errorf("no connection to the broker: %w", err)
	}
	l.qos, l.mayRetain = c.cfg.PublishQoS, true
	if p := ca.Properties; p != nil {
		if p.MaximumQoS != nil {
			l.qos = min(l.qos, *p.MaximumQoS)
		}
		if p.MaximumPacketSize != nil {
			l.maxPacket = int(*p.MaximumPacketSize)
		}
		l.mayRetain = p.RetainAvailable
	}
	return l, ca, nil
}

// noAuth ends a connection whose broker wants the extended authentication that we never offered. Without a handler the
// library would call a nil one, and the process would end.
type noAuth struct{ l *link }

func (a noAuth) Authenticate(*paho.Auth) *paho.Auth {
	a.l.fail("broker wants extended authentication")
	a.l.guard.Close()
	return &paho.Auth{}
}

func (a noAuth) Authenticated() {}

func (c *Client) dial(ctx context.Context) (net.Conn, mtp.Identity, error) {
	if !c.secure {
		var d net.Dialer
		nc, err := d.DialContext(ctx, "tcp", c.addr)
		return nc, mtp.Identity{Broker: true}, err
	}
	cfg := c.cfg.TLS
	if cfg == nil {
		cfg = &tls.Config{MinVersion: tls.VersionTLS12} // R-MQTT.48
	}
	d := tls.Dialer{Config: cfg}
	nc, err := d.DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return nil, mtp.Identity{}, err
	}
	cs := nc.(*tls.Conn).ConnectionState()
	peer := mtp.PeerIdentity(&cs)
	peer.Broker = true
	return nc, peer, nil
}

func (c *Client) connectPacket() *paho.Connect {
	c.mu.Lock()
	id := c.clientID
	c.mu.Unlock()
	rm, size := uint16(receiveMaximum), uint32(c.cfg.MaxRecord+packetSlack)
	cp := &paho.Connect{
		ClientID: id, KeepAlive: uint16(c.cfg.KeepAlive / time.Second), CleanStart: c.cfg.CleanStart && (c.session == nil || !c.connected), // R-MQTT.14
		Username: c.cfg.Username, UsernameFlag: c.cfg.Username != "", // R-MQTT.7
		Password: []byte(c.cfg.Password), PasswordFlag: c.cfg.Password != "",
		Properties: &paho.ConnectProperties{
			RequestResponseInfo: true, // R-MQTT.12
			RequestProblemInfo:  true,
			ReceiveMaximum:      &rm, MaximumPacketSize: &size,
			User: paho.UserProperties{{Key: "usp-endpoint-id", Value: c.cfg.EndpointID}}, // R-MQTT.13
		},
	}
	if c.cfg.SessionExpiry > 0 {
		s := uint32(c.cfg.SessionExpiry / time.Second)
		cp.Properties.SessionExpiryInterval = &s
	}
	return cp
}

// serve writes what is queued until the connection or ctx ends.
func (c *Client) serve(ctx, linkCtx context.Context, l *link, subs *subscriptions) {
	unhook := context.AfterFunc(ctx, l.guard.hurry)
	defer unhook()
	var items []outbox.Item
	for {
		select {
		case <-l.q.Wake():
			if items = l.q.Take(items); !c.publish(ctx, l, items) {
				return
			}
		case <-c.resub:
			if err := c.resubscribe(ctx, l, subs); err != nil {
				l.fail("cannot change subscriptions: " + err.Error())
				return
			}
		case <-l.cli.Done():
			l.awaitReason()
			return
		case <-linkCtx.Done():
			if ctx.Err() == nil { // reading failed, or the library gave up
				l.awaitReason()
				return
			}
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			c.publish(last, l, l.q.Take(items)) // a farewell may be waiting
			return
		}
	}
}

// publish sends items in order and reports whether the connection is still good.
func (c *Client) publish(ctx context.Context, l *link, items []outbox.Item) bool {
	ok := true
	for i, it := range items {
		items[i] = outbox.Item{}
		if !ok {
			continue
		}
		retain := c.cfg.RetainNotify
		if it.Reply {
			retain = c.cfg.RetainResponse
		}
		_, err := l.cli.PublishWithOptions(ctx, &paho.Publish{
			Topic: it.Dest, QoS: l.qos, Retain: retain && l.mayRetain, Payload: it.Record, // R-MQTT.18, R-MQTT.19, R-MQTT.20
			Properties: &paho.PublishProperties{ContentType: contentType, ResponseTopic: l.replyTopic}, // R-MQTT.21, R-MQTT.22, R-MQTT.23, R-MQTT.27
		}, paho.PublishOptions{Method: paho.PublishMethod_AsyncSend})
		switch {
		case err == nil:
		case errors.Is(err, paho.ErrInvalidArguments):
			c.log.Warn("usp mqtt record not sent", "error", err, "topic", it.Dest)
		case errors.Is(err, context.DeadlineExceeded):
			l.fail("broker does not acknowledge")
			ok = false
		default:
			l.fail("cannot publish: " + err.Error())
			ok = false
		}
	}
	return ok
}

// received is called by the library's goroutine for each PUBLISH.
func (c *Client) received(ctx context.Context, l *link, h mtp.Handler, p *paho.Publish) {
	defer l.guard.handled()
	select {
	case <-l.ready:
	case <-ctx.Done():
		return
	}
	var respond string
	if p.Properties != nil {
		switch p.Properties.ContentType {
		case contentType, contentTypeLong: // R-MQTT.27a
		case "": // some Controllers in the field send none
		default:
			c.log.Debug("usp mqtt packet ignored", "reason", "content type", "content_type", clip(p.Properties.ContentType))
			return
		}
		respond = p.Properties.ResponseTopic
	}
	if len(p.Payload) == 0 || len(p.Payload) > c.cfg.MaxRecord {
		c.log.Debug("usp mqtt packet ignored", "reason", "record size", "bytes", len(p.Payload))
		return
	}
	in := mtp.Inbound{Record: p.Payload, From: l.peer, Transport: "MQTT", LinkID: l.id, Again: p.Duplicate(),
		Reject: func(reason string) { c.log.Debug("usp mqtt record dropped", "reason", reason) }}
	if respond != "" && checkTopic(respond) == nil {
		in.Reply = func(ctx context.Context, record []byte) error { // R-MQTT.26
			return c.send(ctx, outbox.Item{Dest: respond, Record: record, Reply: true})
		}
	}
	h.HandleRecord(ctx, in)
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80]
	}
	return s
}
