package xmpp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// RefusedError is what the other side answered to a connection request.
type RefusedError struct{ Condition string }

func (e *RefusedError) Error() string {
	return "xmpp: connection request refused: " + e.Condition
}

// Ask is the other side, an ACS: it logs in with cfg (whose Credentials and Requested are not used), asks the CPE with the
// full Jabber ID to for a session, and logs out. A refusal is a *RefusedError. ctx must end some time.
func Ask(ctx context.Context, cfg Config, to, user, password string) error {
	cfg.Credentials, cfg.Requested, cfg.Changed = func() (string, string) { return "", "" }, func() {}, nil
	c, err := New(cfg)
	if err != nil {
		return err
	}
	var failed error
	for _, t := range c.targets(ctx) {
		port := t.Port
		if port == 0 {
			port = DefaultPort
		}
		conn, err := c.cfg.Dial(ctx, "tcp", net.JoinHostPort(t.Host, strconv.Itoa(port)))
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		return c.ask(ctx, conn, to, user, password)
	}
	return &dialError{failed}
}

func (c *Client) ask(ctx context.Context, conn net.Conn, to, user, password string) error {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(talkPatience))
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	s := &session{c: c, raw: conn, conn: conn, prefix: "ask"}
	if _, err := s.negotiate(ctx); err != nil {
		return err
	}
	id := s.id()
	if err := s.send(fmt.Sprintf("<iq type='get' id='%s' to='%s'><connectionRequest xmlns='%s'><username>%s</username><password>%s</password></connectionRequest></iq>",
		id, esc(to), nsConnReq, esc(user), esc(password))); err != nil {
		return err
	}
	for {
		e, err := s.in.next()
		if err != nil {
			return err
		}
		if !e.is(nsClient, "iq") || e.attr("id") != id {
			continue
		}
		switch e.attr("type") {
		case "result":
			s.farewell()
			return nil
		case "error":
			if x := e.child(nsClient, "error"); x != nil {
				return &RefusedError{x.condition()}
			}
			return &RefusedError{"unknown"}
		}
	}
}
