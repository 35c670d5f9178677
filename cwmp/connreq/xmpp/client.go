package xmpp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Stats counts since New.
type Stats struct {
	Received, Sent             int64 // stanzas
	ReceivedErrors, SentErrors int64 // of them, those of type error
	Accepted, Refused, Limited int64 // connection requests
	Connections                int64 // streams that got as far as a bound resource
}

// Client keeps a stream open while Run runs.
type Client struct {
	cfg    Config
	log    *slog.Logger
	looks  *rate.Limiter
	accept *rate.Limiter
	ran    atomic.Bool
	state  State // of the goroutine in Run

	received, sent, receivedErrors, sentErrors, accepted, refused, limited, connections atomic.Int64
}

// New makes a Client; nothing is connected before Run.
func New(cfg Config) (*Client, error) {
	cfg = cfg.Default()
	if cfg.Random == nil {
		cfg.Random = mathrand.Float64
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Client{cfg: cfg, log: cfg.Logger, looks: rate.NewLimiter(stanzasPerSecond, stanzasPerSecond),
		accept: rate.NewLimiter(rate.Limit(float64(cfg.PerMinute)/60), cfg.PerMinute)}, nil
}

// Stats so far.
func (c *Client) Stats() Stats {
	return Stats{Received: c.received.Load(), Sent: c.sent.Load(), ReceivedErrors: c.receivedErrors.Load(), SentErrors: c.sentErrors.Load(),
		Accepted: c.accepted.Load(), Refused: c.refused.Load(), Limited: c.limited.Load(), Connections: c.connections.Load()}
}

// Run connects and connects anew until ctx ends, and joins everything it started. It returns nil then. It can be called once.
func (c *Client) Run(ctx context.Context) error {
	if c.ran.Swap(true) {
		return errors.New("xmpp: Run was called before")
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		c.show(Connecting, func(s *State) { s.TLS = false })
		bound, err := c.attempt(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if bound { // it had worked: the count begins anew, but a loss is the first failure. TR-069 Annex K
			failures = 0
		}
		failures++
		wait := RetryWait(failures, c.cfg.RetryInitial, c.cfg.RetryMultiplier, c.cfg.RetryMax, c.cfg.Random())
		c.show(statusOf(err), func(s *State) { s.TLS = false })
		c.log.Warn("xmpp connection lost", "error", err, "failures", failures, "retry_in", wait.Round(time.Millisecond))
		timer.Reset(wait)
	}
}

// misconfigured is trouble that only another setting mends.
type misconfigured struct{ text string }

func (e *misconfigured) Error() string { return "xmpp: " + e.text }

func statusOf(err error) Status {
	var m *misconfigured
	var dial *dialError
	switch {
	case errors.As(err, &m):
		return Misconfigured
	case errors.Is(err, ErrAuthentication):
		return AuthenticationFailure
	case errors.As(err, &dial):
		return ServerNotPresent
	}
	return Failed
}

func (c *Client) show(status Status, change func(*State)) {
	before := c.state
	c.state.Status = status
	if change != nil {
		change(&c.state)
	}
	if c.state != before {
		c.state.Since = time.Now()
		c.cfg.Changed(c.state)
	}
}

// dialError says that no server could be reached.
type dialError struct{ err error }

func (e *dialError) Error() string { return "xmpp: no server reached: " + e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// targets lists the servers, in order.
func (c *Client) targets(ctx context.Context) []Target {
	if len(c.cfg.Servers) > 0 {
		return c.cfg.Servers
	}
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	_, list, err := c.cfg.LookupSRV(ctx, "xmpp-client", "tcp", c.cfg.Domain) // RFC 6120 3.2.1; sorted by priority and weight
	var out []Target
	for _, s := range list {
		if host := strings.TrimSuffix(s.Target, "."); host != "" && len(out) < maxTargets {
			out = append(out, Target{host, int(s.Port)})
		}
	}
	if err != nil || len(out) == 0 { // RFC 6120 3.2.2
		return []Target{{Host: c.cfg.Domain}}
	}
	return out
}

// attempt tries the servers until one is reached, and serves over it until it is lost. bound reports that it got as far as a
// bound resource.
func (c *Client) attempt(ctx context.Context) (bound bool, err error) {
	var failed error
	for _, t := range c.targets(ctx) {
		port := t.Port
		if port == 0 {
			port = DefaultPort
		}
		dialCtx, cancel := context.WithTimeout(ctx, dialPatience)
		conn, err := c.cfg.Dial(dialCtx, "tcp", net.JoinHostPort(t.Host, strconv.Itoa(port)))
		cancel()
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		return c.serve(ctx, conn)
	}
	return false, &dialError{failed}
}

// serve negotiates and hears stanzas until the stream ends.
func (c *Client) serve(ctx context.Context, conn net.Conn) (bound bool, err error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	s := &session{c: c, raw: conn, conn: conn, prefix: rand.Text()[:8]}
	defer func() { _ = s.conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(talkPatience))
	if ctx.Err() != nil { // the end came between AfterFunc and the deadline
		return false, ctx.Err()
	}
	jid, err := s.negotiate(ctx)
	if err != nil {
		return false, err
	}
	_ = conn.SetDeadline(time.Time{})
	c.connections.Add(1)
	c.show(Enabled, func(st *State) { st.JabberID, st.TLS = jid, s.tls })
	c.log.Info("xmpp connection established", "tls", s.tls)
	// What arrives is read by a goroutine of its own, joined below: a stanza at a time.
	type arrival struct {
		stanza *element
		err    error
	}
	arrivals, done, quit := make(chan arrival), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			e, err := s.in.next()
			select {
			case arrivals <- arrival{e, err}:
			case <-quit:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	defer func() {
		close(quit)
		_ = s.raw.Close()
		<-done
	}()
	var quiet *time.Timer
	var silence <-chan time.Time
	if c.cfg.KeepAlive > 0 {
		quiet = time.NewTimer(c.cfg.KeepAlive)
		defer quiet.Stop()
		silence = quiet.C
	}
	asked := false // a ping waits for its answer
	for {
		select {
		case <-ctx.Done():
			s.farewell()
			return true, ctx.Err()
		case a := <-arrivals:
			if a.err != nil {
				return true, a.err
			}
			if quiet != nil {
				asked = false
				quiet.Reset(c.cfg.KeepAlive)
			}
			if err := s.handle(a.stanza, jid); err != nil {
				return true, err
			}
		case <-silence:
			if asked {
				return true, errors.New("xmpp: the server does not answer a ping")
			}
			asked = true
			quiet.Reset(talkPatience)
			if err := s.send(fmt.Sprintf("<iq type='get' id='%s' to='%s'><ping xmlns='%s'/></iq>", s.id(), esc(c.cfg.Domain), nsPing)); err != nil {
				return true, err
			}
		}
	}
}

// session is one connection. It belongs to the goroutine in Run, but for in, which is the reader's after negotiation.
type session struct {
	c      *Client
	raw    net.Conn // TCP
	conn   net.Conn // TCP or TLS
	in     *reader
	tls    bool
	prefix string
	count  int
}

func (s *session) id() string {
	s.count++
	return s.prefix + strconv.Itoa(s.count)
}

// write sends text that is no stanza.
func (s *session) write(text string) error {
	_ = s.conn.SetWriteDeadline(time.Now().Add(writePatience))
	if _, err := io.WriteString(s.conn, text); err != nil {
		return fmt.Errorf("xmpp: %w", err)
	}
	return nil
}

// send sends a stanza.
func (s *session) send(stanza string) error {
	s.c.sent.Add(1)
	return s.write(stanza)
}

// farewell closes the stream politely, when the connection lets it: its deadline is in the past already, so a short one is set.
func (s *session) farewell() {
	_ = s.raw.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	_, _ = io.WriteString(s.conn, "</stream:stream>")
}

// handle answers a stanza.
func (s *session) handle(e *element, jid string) error {
	c := s.c
	c.received.Add(1)
	kind := e.attr("type")
	if kind == "error" {
		c.receivedErrors.Add(1)
	}
	if !e.is(nsClient, "iq") || kind != "get" && kind != "set" { // messages, presence and answers: nothing to do
		return nil
	}
	if !c.looks.Allow() { // a flood: not even answered
		c.limited.Add(1)
		return nil
	}
	from, id := e.attr("from"), e.attr("id")
	request := e.child(nsConnReq, "connectionRequest")
	switch {
	case id == "" || len(id) > 1024 || len(from) > 3072:
		return nil
	case kind == "get" && request != nil && len(e.children) == 1:
		return s.request(request, from, id, jid)
	case kind == "get" && e.child(nsPing, "ping") != nil && len(e.children) == 1:
		return s.send(answer(id, from, "result", ""))
	}
	return s.refuse(id, from, "cancel", "service-unavailable") // RFC 6120 8.4
}

// request takes a connection request. TR-069 Annex K
func (s *session) request(r *element, from, id, jid string) error {
	c := s.c
	sender := from
	if sender == "" { // RFC 6120 8.1.2.1: from our own account
		sender, _, _ = strings.Cut(jid, "/")
	}
	if !allowed(c.cfg.Allowed(), sender) {
		c.refused.Add(1)
		c.log.Warn("xmpp connection request from a Jabber ID that is not allowed")
		return s.refuse(id, from, "cancel", "service-unavailable")
	}
	text := func(name string) string {
		if e := r.child(nsConnReq, name); e != nil {
			return e.text
		}
		return ""
	}
	user, password := c.cfg.Credentials()
	if user == "" || password == "" || !same(text("username"), user) || !same(text("password"), password) {
		c.refused.Add(1)
		return s.refuse(id, from, "auth", "not-authorized")
	}
	if !c.accept.Allow() {
		c.limited.Add(1)
		c.log.Warn("xmpp connection request refused by the rate limit", "per_minute", c.cfg.PerMinute)
		return s.refuse(id, from, "wait", "resource-constraint")
	}
	c.accepted.Add(1)
	err := s.send(answer(id, from, "result", ""))
	c.cfg.Requested() // after the answer, and even if that was lost: the request was good
	return err
}

func (s *session) refuse(id, to, kind, condition string) error {
	s.c.sentErrors.Add(1)
	return s.send(answer(id, to, "error", fmt.Sprintf("<error type='%s'><%s xmlns='%s'/></error>", kind, condition, nsStanzas)))
}

func answer(id, to, kind, body string) string {
	if to != "" {
		to = " to='" + esc(to) + "'"
	}
	return "<iq type='" + kind + "' id='" + esc(id) + "'" + to + ">" + body + "</iq>"
}
