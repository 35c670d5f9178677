package usp

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	core "twinspan/usp"
	"twinspan/usp/uspmsg"
)

// webSocketTests of section 7. Where frames matter, the Controller's end is a server that this package writes itself.
func webSocketTests() map[string]test {
	raw := func(f func(t *T, s *wsServer)) test {
		return test{own: true, run: func(t *T) {
			s, err := newWSServer(t.cfg)
			t.want(err == nil, "%v", err)
			t.later(s.close)
			b, err := openBench(t.ctx, t.cfg, variant{noPeers: true, mainPort: s.port()})
			t.want(err == nil, "%v", err)
			t.b = b
			t.later(b.close)
			f(t, s)
		}}
	}
	return map[string]test{
		"7.1": {run: func(t *T) {
			m, s := t.main.Mark(), t.second.Mark()
			t.operate(t.main, "Device.Reboot()", "", nil)
			t.back(m, s)
			t.ok(t.get("Device.DeviceInfo.")[0], -1)
		}},
		"7.2": {run: oneSession, own: true},
		"7.4": raw(func(t *T, s *wsServer) {
			c := s.session(t)
			from := s.mark()
			c.write(t, true, opClose, binary.BigEndian.AppendUint16(nil, 1000))
			s.await(t, from, 10*time.Second, "Close frame", func(e *wsSeen) bool { return e.conn == c && e.op == opClose })
			s.await(t, from, 10*time.Second, "end of the TCP connection", func(e *wsSeen) bool { return e.conn == c && e.op == opGone })
		}),
		"7.7": raw(func(t *T, s *wsServer) {
			c := s.session(t)
			from := s.mark()
			c.write(t, true, opPong, []byte("unsolicited"))
			c.write(t, true, opPing, []byte("are you there"))
			e := s.await(t, from, 60*time.Second, "Pong", func(e *wsSeen) bool { return e.conn == c && e.op == opPong })
			t.want(string(e.data) == "are you there", "the Pong carries %q", e.data)
			c.get(t, s, 1)
		}),
		"7.8": raw(retriesHandshake),
		"7.9": {own: true, run: func(t *T) {
			t.open(variant{tls: true})
			t.ok(t.get("Device.DeviceInfo.")[0], -1)
			t.see("the listeners accept TLS 1.2 or later only")
		}},
		"7.10": raw(func(t *T, s *wsServer) {
			c := s.session(t)
			from := s.mark()
			c.drop()
			e := s.await(t, from, 45*time.Second, "handshake", func(e *wsSeen) bool { return e.op == opOpen })
			rec := s.await(t, from, 30*time.Second, "record", func(r *wsSeen) bool { return r.conn == e.conn && r.op == opBinary })
			r, err := core.OpenRecord(rec.data, mainID, limits())
			t.want(err == nil && r.Kind == core.KindWebSocketConnect, "the first record is no websocket_connect: %v %v", r, err)
			t.window("websocket_connect", rec.at.Sub(e.at), 0, 30*time.Second)
		}),
		"7.11": raw(func(t *T, s *wsServer) { s.session(t).get(t, s, 1) }),
		"7.12": raw(func(t *T, s *wsServer) { s.session(t).get(t, s, 4) }),
	}
}

// get sends a Get in so many frames and wants its answer.
func (c *wsConn) get(t *T, s *wsServer, frames int) {
	id := fmt.Sprintf("raw-%d-%d", frames, time.Now().UnixNano())
	c.request(t, s, id, frames, &uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: []string{local + "EndpointID"}}}})
}

// request sends a request in so many frames and returns its response.
func (c *wsConn) request(t *T, s *wsServer, id string, frames int, r *uspmsg.Request) *uspmsg.Response {
	rec, err := core.WrapMessage(mainID, t.cfg.AgentID, core.NewRequest(id, r))
	t.want(err == nil, "%v", err)
	from := s.mark()
	chunks := slices.Collect(slices.Chunk(rec, len(rec)/frames+1))
	for i, part := range chunks {
		op := byte(opContinuation)
		if i == 0 {
			op = opBinary
		}
		c.write(t, i == len(chunks)-1, op, part)
	}
	var msg *uspmsg.Msg
	s.await(t, from, answerIn, "answer", func(e *wsSeen) bool {
		if e.op != opBinary {
			return false
		}
		r, err := core.OpenRecord(e.data, mainID, limits())
		if err != nil || r.Kind != core.KindMessage {
			return false
		}
		m, err := core.DecodeMessage(r.Payload, limits())
		if err != nil || m.GetHeader().GetMsgId() != id {
			return false
		}
		msg = m
		return true
	})
	return t.response(msg)
}

func retriesHandshake(t *T, s *wsServer) {
	c := s.session(t)
	res := c.request(t, s, "retry", 1, &uspmsg.Request{ReqType: &uspmsg.Request_Set{Set: &uspmsg.Set{UpdateObjs: []*uspmsg.Set_UpdateObject{{
		ObjPath: ctls + "1.MTP.1.WebSocket.", ParamSettings: []*uspmsg.Set_UpdateParamSetting{
			{Param: "SessionRetryMinimumWaitInterval", Value: "2", Required: true}, {Param: "SessionRetryIntervalMultiplier", Value: "2000", Required: true}}}}}}})
	t.want(len(res.GetSetResp().GetUpdatedObjResults()) == 1, "%v", res)
	t.sleep(time.Second) // the agent may open its session anew for changed parameters
	t.eventually(15*time.Second, func() bool { return s.newest() != nil }, "no session")
	s.refuse(true)
	from := s.mark()
	began := time.Now()
	s.newest().drop()
	handshake := func(e *wsSeen) bool { return e.op == opRefused }
	first := s.await(t, from, 15*time.Second, "first attempt", handshake)
	second := s.await(t, from, 20*time.Second, "second attempt", func(e *wsSeen) bool { return handshake(e) && e.at.After(first.at) })
	t.window("first attempt", first.at.Sub(began), 2*time.Second, 4*time.Second)
	t.window("second attempt", second.at.Sub(first.at), 4*time.Second, 8*time.Second)
	s.refuse(false)
	s.await(t, from, 40*time.Second, "session", func(e *wsSeen) bool { return e.op == opOpen })
}

// oneSession lets the main Controller dial the agent although the agent's own session to it is up.
func oneSession(t *T) {
	t.open(variant{})
	url := t.agentServer()
	v, err := t.dialAgent(url, mainID)
	t.want(err == nil, "%v", err)
	deadline := time.Now().Add(15 * time.Second)
	for {
		switch {
		case v.downs() > 0 || time.Now().After(deadline) && !v.isUp():
			t.see("the second session was refused or closed")
			t.alive()
			return
		case t.main.downs() > 0:
			t.see("the first session was closed")
			return
		case time.Now().After(deadline):
			t.fail("two sessions of one Controller are open beside each other")
		}
		t.sleep(50 * time.Millisecond)
	}
}

// Opcodes of RFC 6455 5.2, and what else a session shows.
const (
	opContinuation = 0x0
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
	opOpen         = 0x80 // the handshake was done
	opRefused      = 0x81 // the handshake was refused
	opGone         = 0x82 // the TCP connection ended
)
