package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"

	"twinspan/usp"
	"twinspan/usp/mtp"
	"twinspan/usp/uspmsg"
)

// Bounds of a controller.
const (
	maxInFlight = 1024 // requests waiting for their response
	notifyQueue = 1024 // notifications waiting for OnNotify
)

// ErrTooManyRequests is returned when maxInFlight requests wait already.
var ErrTooManyRequests = errors.New("controller: too many requests in flight")

// Config of a Controller. EndpointID and Transport are required.
type Config struct {
	EndpointID string // our own
	// AgentID is the agent that is managed; empty: whoever the peer of the link says it is (a Unix domain socket).
	AgentID   string
	Transport mtp.Transport
	// Topic is the agent's topic on a broker; empty: learned from its mqtt_connect record.
	Topic string
	// OnNotify receives notifications; nil: they are answered and dropped.
	OnNotify func(*uspmsg.Notify)
	// OnRecord sees records that carry no message: connects and disconnects. Called from the transport's reader.
	OnRecord func(*usp.Record)
	// IgnoreNotify receives notifications without answering them: a Controller that never acknowledges.
	IgnoreNotify bool
	Limits       usp.Limits // zero: usp.DefaultLimits
	Log          *slog.Logger
}

// Error is what an agent answered instead of doing what was asked.
type Error struct {
	Code   uint32
	Text   string
	Path   string // the path it is about, where known
	Params []ParamError
}

// ParamError is the fault of one parameter or object.
type ParamError struct {
	Path string
	Code uint32
	Text string
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%d %s", e.Code, e.Text)
	if e.Path != "" {
		s = e.Path + ": " + s
	}
	for _, p := range e.Params {
		if len(e.Params) == 1 && p.Code == e.Code && p.Text == e.Text {
			return p.Path + ": " + s // the one fault, told twice
		}
		s += fmt.Sprintf("; %s: %d %s", p.Path, p.Code, p.Text)
	}
	return s
}

// Controller manages one agent over one transport. Safe for concurrent use.
type Controller struct {
	cfg    Config
	prefix string
	nextID atomic.Uint64
	notify chan *uspmsg.Notify
	topic  atomic.Pointer[string]
	agent  atomic.Pointer[string]

	mu        sync.Mutex
	reason    string // why the last attempt to connect failed
	pending   map[string]chan *uspmsg.Msg
	up        bool
	link      uint64        // the newest link while up
	connected bool          // the agent's connect record was seen on this link
	changed   chan struct{} // closed and replaced when up or connected change
}

var instances atomic.Uint64

// New checks the configuration; Run connects.
func New(cfg Config) (*Controller, error) {
	if err := usp.CheckForeignID(cfg.EndpointID); err != nil {
		return nil, fmt.Errorf("controller: EndpointID: %w", err)
	}
	if cfg.AgentID != "" {
		if err := usp.CheckForeignID(cfg.AgentID); err != nil {
			return nil, fmt.Errorf("controller: AgentID: %w", err)
		}
	}
	if cfg.Transport == nil {
		return nil, errors.New("controller: Transport is missing")
	}
	if cfg.Limits == (usp.Limits{}) {
		cfg.Limits = usp.DefaultLimits()
		cfg.Limits.RecordSize = 16 << 20 // answers of an agent may be larger than what it takes
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Controller{cfg: cfg, prefix: strconv.FormatUint(instances.Add(1), 36) + "-", notify: make(chan *uspmsg.Notify, notifyQueue),
		pending: map[string]chan *uspmsg.Msg{}, changed: make(chan struct{})}
	topic := cfg.Topic
	if topic == "" {
		topic = cfg.AgentID // what a listening transport knows its peer by
	}
	c.topic.Store(&topic)
	c.agent.Store(&cfg.AgentID)
	return c, nil
}

// Run keeps the transport up until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { // owner: Run; ends with ctx
		for {
			select {
			case n := <-c.notify:
				if c.cfg.OnNotify != nil {
					c.cfg.OnNotify(n)
				}
			case <-ctx.Done():
				return
			}
		}
	})
	err := c.cfg.Transport.Run(ctx, handler{c}, c.state)
	cancel()
	wg.Wait()
	return err
}

// state follows the link.
func (c *Controller) state(s mtp.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.LinkID == 0 { // no link: a server that listens, or a failed attempt
		if !s.Up {
			c.cfg.Log.Debug("usp link attempt failed", "reason", s.Reason)
			c.reason = s.Reason
		}
		return
	}
	if !s.Up && s.LinkID != c.link {
		return // an older link, that a newer session of the agent replaced
	}
	if s.Up && c.cfg.AgentID == "" {
		c.agent.Store(&s.Peer.Claimed)
	}
	c.up, c.link = s.Up, s.LinkID
	if s.Up {
		c.connected = false
	} else {
		c.connected = false
		for id, ch := range c.pending {
			close(ch)
			delete(c.pending, id)
		}
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Controller) wait(ctx context.Context, ready func() bool) error {
	for {
		c.mu.Lock()
		ok, changed := ready(), c.changed
		c.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.reason != "" {
				return fmt.Errorf("%w: %s", ctx.Err(), c.reason)
			}
			return ctx.Err()
		}
	}
}

// AgentID is the configured or learned Endpoint ID of the agent.
func (c *Controller) AgentID() string { return *c.agent.Load() }

// WaitUp waits until the link is up.
func (c *Controller) WaitUp(ctx context.Context) error {
	return c.wait(ctx, func() bool { return c.up })
}

// WaitConnect waits until the agent sent its connect record on the present link (R-MTP.6).
func (c *Controller) WaitConnect(ctx context.Context) error {
	return c.wait(ctx, func() bool { return c.up && c.connected })
}

// Up reports whether the link is up.
func (c *Controller) Up() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up
}

// Forget drops what is known of the agent, so that WaitConnect waits for its next connect record: over a broker nothing tells
// that the agent went away.
func (c *Controller) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.connected = false
}

// Request sends one request and waits for its response. An Error message is returned as *Error.
func (c *Controller) Request(ctx context.Context, r *uspmsg.Request) (*uspmsg.Response, error) {
	id := c.prefix + strconv.FormatUint(c.nextID.Add(1), 36)
	ch := make(chan *uspmsg.Msg, 1)
	c.mu.Lock()
	if len(c.pending) >= maxInFlight {
		c.mu.Unlock()
		return nil, ErrTooManyRequests
	}
	c.pending[id] = ch
	c.mu.Unlock()
	forget := func() {
		c.mu.Lock()
		delete(c.pending, id)
		c.mu.Unlock()
	}
	if err := c.Send(ctx, usp.NewRequest(id, r)); err != nil {
		forget()
		return nil, err
	}
	select {
	case m, ok := <-ch:
		if !ok {
			return nil, mtp.ErrNotConnected
		}
		if e := m.GetBody().GetError(); e != nil {
			return nil, fromMessage(e)
		}
		return m.GetBody().GetResponse(), nil
	case <-ctx.Done():
		forget()
		return nil, ctx.Err()
	}
}

func fromMessage(e *uspmsg.Error) *Error {
	out := &Error{Code: e.GetErrCode(), Text: e.GetErrMsg()}
	for _, p := range e.GetParamErrs() {
		out.Params = append(out.Params, ParamError{Path: p.GetParamPath(), Code: p.GetErrCode(), Text: p.GetErrMsg()})
	}
	return out
}

// Send sends one message and waits for nothing.
func (c *Controller) Send(ctx context.Context, m *uspmsg.Msg) error {
	rec, err := usp.WrapMessage(c.cfg.EndpointID, c.AgentID(), m)
	if err != nil {
		return err
	}
	return c.Raw(ctx, rec)
}

// Raw sends the bytes of a record as they are: for tests that need a peer who misbehaves.
func (c *Controller) Raw(ctx context.Context, record []byte) error {
	return c.cfg.Transport.Send(ctx, *c.topic.Load(), record)
}

// handler receives for a Controller without showing HandleRecord among its methods.
type handler struct{ c *Controller }

// HandleRecord implements mtp.Handler.
func (h handler) HandleRecord(ctx context.Context, in mtp.Inbound) {
	c := h.c
	rec, err := usp.OpenRecord(in.Record, c.cfg.EndpointID, c.cfg.Limits)
	if err != nil {
		c.cfg.Log.Warn("usp record dropped", "error", err)
		return
	}
	if rec.From != c.AgentID() {
		return // another agent on the same broker
	}
	if rec.Kind != usp.KindMessage {
		c.otherRecord(rec, in.LinkID)
		return
	}
	m, err := usp.DecodeMessage(rec.Payload, c.cfg.Limits)
	if err != nil {
		c.cfg.Log.Warn("usp message dropped", "error", err)
		return
	}
	if n := m.GetBody().GetRequest().GetNotify(); n != nil {
		c.notified(ctx, in, m.GetHeader().GetMsgId(), n)
		return
	}
	id := m.GetHeader().GetMsgId()
	c.mu.Lock()
	ch := c.pending[id]
	delete(c.pending, id)
	c.mu.Unlock()
	if ch != nil { // R-MSG.9: what nobody waits for is dropped
		ch <- m
	}
}

func (c *Controller) otherRecord(rec *usp.Record, link uint64) {
	if rec.Kind == usp.KindMQTTConnect && c.cfg.Topic == "" {
		if t := rec.Raw.GetMqttConnect().GetSubscribedTopic(); t != "" {
			c.topic.Store(&t)
		}
	}
	c.mu.Lock()
	if link == c.link {
		c.connected = rec.Kind != usp.KindDisconnect
		close(c.changed)
		c.changed = make(chan struct{})
	}
	c.mu.Unlock()
	if c.cfg.OnRecord != nil {
		c.cfg.OnRecord(rec)
	}
}

// notified queues a notification and then acknowledges it, so that none is acknowledged and lost.
func (c *Controller) notified(ctx context.Context, in mtp.Inbound, id string, n *uspmsg.Notify) {
	select {
	case c.notify <- n:
	default:
		c.cfg.Log.Warn("usp notification not taken", "reason", "queue full")
		return
	}
	if !n.GetSendResp() || c.cfg.IgnoreNotify { // R-NOT.8
		return
	}
	resp := usp.NewResponse(id, &uspmsg.Response{RespType: &uspmsg.Response_NotifyResp{NotifyResp: &uspmsg.NotifyResp{SubscriptionId: n.GetSubscriptionId()}}})
	rec, err := usp.WrapMessage(c.cfg.EndpointID, c.AgentID(), resp)
	switch {
	case err != nil:
	case in.Reply != nil:
		err = in.Reply(ctx, rec) // R-NOT.10
	default: // a broker's record without Response Topic
		err = c.Raw(ctx, rec)
	}
	if err != nil {
		c.cfg.Log.Warn("usp notify response not sent", "error", err)
	}
}
