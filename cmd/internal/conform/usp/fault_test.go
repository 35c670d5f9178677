package usp

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/mochi-mqtt/server/v2/packets"

	"twinspan/usp/mtp"
	"twinspan/usp/uspmsg"
	"twinspan/usp/usprecord"
	"twinspan/usp/wire"
)

// liar is a transport whose agent lies: it alters the messages of the agent before the Controller sees them.
type liar struct {
	mtp.Transport
	lie func(*uspmsg.Msg) action
	mu  sync.Mutex
	hit *atomic.Bool // shared by both Controllers
}

// action is what became of one message.
type action uint8

const (
	kept action = iota
	altered
	dropped
	twice
)

func (l *liar) Run(ctx context.Context, h mtp.Handler, onState func(mtp.State)) error {
	return l.Transport.Run(ctx, &liarHandler{l, h}, onState)
}

type liarHandler struct {
	l *liar
	h mtp.Handler
}

func (h *liarHandler) HandleRecord(ctx context.Context, in mtp.Inbound) {
	var rec usprecord.Record
	var msg uspmsg.Msg
	if wire.Unmarshal(in.Record, &rec) != nil || rec.GetNoSessionContext() == nil || wire.Unmarshal(rec.GetNoSessionContext().GetPayload(), &msg) != nil {
		h.h.HandleRecord(ctx, in)
		return
	}
	h.l.mu.Lock()
	what := h.l.lie(&msg)
	if what != kept {
		h.l.hit.Store(true)
	}
	h.l.mu.Unlock()
	if what == dropped {
		return
	}
	if what != kept {
		rec.GetNoSessionContext().Payload, _ = wire.Marshal(&msg) // a decoded message can be encoded
		in.Record, _ = wire.Marshal(&rec)
	}
	h.h.HandleRecord(ctx, in)
	if what == twice {
		h.h.HandleRecord(ctx, in)
	}
}

// lie makes an alteration of one kind of response.
func lie[R any](pick func(*uspmsg.Response) R, change func(R) bool) func(*uspmsg.Msg) action {
	return func(m *uspmsg.Msg) action {
		r := m.GetBody().GetResponse()
		if r == nil || !change(pick(r)) {
			return kept
		}
		return altered
	}
}

func lieError(change func(*uspmsg.Error) bool) func(*uspmsg.Msg) action {
	return func(m *uspmsg.Msg) action {
		if e := m.GetBody().GetError(); e == nil || !change(e) {
			return kept
		}
		return altered
	}
}

func lieNotify(change func(*uspmsg.Notify) action) func(*uspmsg.Msg) action {
	return func(m *uspmsg.Msg) action {
		if n := m.GetBody().GetRequest().GetNotify(); n != nil {
			return change(n)
		}
		return kept
	}
}

// faults are lies, and for each the tests that must see it.
var faults = []struct {
	name string
	ids  []string
	lie  func(*uspmsg.Msg) action
}{
	{"a refusal with another code", []string{"2.12", "2.16"}, lieError(func(e *uspmsg.Error) bool {
		was := e.ErrCode
		e.ErrCode = 7004
		return was == 7006
	})},
	{"a hidden parameter that is shown", []string{"2.22"}, lie((*uspmsg.Response).GetGetResp, func(r *uspmsg.GetResp) bool {
		did := false
		for _, o := range r.GetReqPathResults() {
			for _, p := range o.GetResolvedPathResults() {
				if strings.Contains(p.GetResolvedPath(), ".BootParameter.") {
					p.ResultParams["ParameterName"], did = "x", true
				}
			}
		}
		return did
	})},
	{"a secured value that is shown", []string{"2.27"}, lie((*uspmsg.Response).GetGetResp, func(r *uspmsg.GetResp) bool {
		did := false
		for _, o := range r.GetReqPathResults() {
			for _, p := range o.GetResolvedPathResults() {
				if v, there := p.GetResultParams()["Password"]; there && v == "" {
					p.ResultParams["Password"], did = "secret-227", true
				}
			}
		}
		return did
	})},
	{"a command that is refused without a word", []string{"2.18"}, func(m *uspmsg.Msg) action {
		if m.GetBody().GetResponse().GetOperateResp() != nil {
			return dropped
		}
		return kept
	}},
	{"a parent that is not refused", []string{"2.23"}, lie((*uspmsg.Response).GetAddResp, func(r *uspmsg.AddResp) bool {
		if len(r.GetCreatedObjResults()) < 2 {
			return false
		}
		r.CreatedObjResults = r.CreatedObjResults[:1]
		return true
	})},
	{"a version that is not told", []string{"4.1"}, lie((*uspmsg.Response).GetGetSupportedProtocolResp, func(r *uspmsg.GetSupportedProtocolResp) bool {
		if r != nil {
			r.AgentSupportedProtocolVersions = ""
		}
		return r != nil
	})},
	{"an agent that does not live any more", []string{"2.1", "3.1"}, func(m *uspmsg.Msg) action {
		if m.GetBody().GetResponse().GetGetResp() != nil {
			return dropped
		}
		return kept
	}},
	{"a new Controller that is not greeted", []string{"9.9"}, lieNotify(func(n *uspmsg.Notify) action {
		if n.GetOnBoardReq() == nil {
			return kept
		}
		n.SubscriptionId = "x"
		return altered
	})},
	{"a Boot! without its BootParameters", []string{"9.10"}, lieNotify(func(n *uspmsg.Notify) action {
		if n.GetEvent().GetEventName() != "Boot!" {
			return kept
		}
		delete(n.GetEvent().GetParams(), "ParameterMap")
		return altered
	})},
	{"a command that did something else", []string{"1.92"}, lieNotify(func(n *uspmsg.Notify) action {
		out := n.GetOperComplete().GetReqOutputArgs().GetOutputArgs()
		if out["SuccessCount"] == "" {
			return kept
		}
		out["SuccessCount"] = "9"
		return altered
	})},
	{"a failed transfer that is told as a success", []string{"9.6"}, lieNotify(func(n *uspmsg.Notify) action {
		if n.GetEvent().GetEventName() != "TransferComplete!" {
			return kept
		}
		n.GetEvent().Params["FaultCode"] = "0"
		return altered
	})},
	{"an image with a wrong checksum that can be activated", []string{"9.6"}, lie((*uspmsg.Response).GetGetResp, func(r *uspmsg.GetResp) bool {
		did := false
		for _, o := range r.GetReqPathResults() {
			for _, p := range o.GetResolvedPathResults() {
				if p.GetResultParams()["Status"] == "ValidationFailed" {
					p.ResultParams["Status"], did = "Available", true
				}
			}
		}
		return did
	})},
	{"an Error without its param_errs", []string{"1.3", "1.14"}, lieError(func(e *uspmsg.Error) bool { e.ParamErrs = nil; return true })},
	{"a param_err with a code that does not fit", []string{"1.4"}, lieError(func(e *uspmsg.Error) bool {
		if len(e.ParamErrs) == 0 {
			return false
		}
		e.ParamErrs[0].ErrCode = 7006
		return true
	})},
	{"a param_path by search", []string{"1.20"}, lieError(func(e *uspmsg.Error) bool {
		if len(e.ParamErrs) == 0 {
			return false
		}
		e.ParamErrs[0].ParamPath = subs + "*.InvalidParameter"
		return true
	})},
	{"a unique key is missing", []string{"1.1", "1.81"}, lie((*uspmsg.Response).GetAddResp, func(r *uspmsg.AddResp) bool {
		for _, o := range r.GetCreatedObjResults() {
			delete(o.GetOperStatus().GetOperSuccess().GetUniqueKeys(), "Recipient")
		}
		return r != nil
	})},
	{"an affected path that echoes the search", []string{"1.18"}, lie((*uspmsg.Response).GetSetResp, func(r *uspmsg.SetResp) bool {
		for _, o := range r.GetUpdatedObjResults() {
			for _, i := range o.GetOperStatus().GetOperSuccess().GetUpdatedInstResults() {
				i.AffectedPath = o.GetRequestedPath()
			}
		}
		return r != nil
	})},
	{"a Set that forgets one of its rows", []string{"1.19"}, lie((*uspmsg.Response).GetSetResp, func(r *uspmsg.SetResp) bool {
		for _, o := range r.GetUpdatedObjResults() {
			if s := o.GetOperStatus().GetOperSuccess(); len(s.GetUpdatedInstResults()) > 1 {
				s.UpdatedInstResults = s.UpdatedInstResults[1:]
				return true
			}
		}
		return false
	})},
	{"a deletion that is not told", []string{"1.24", "1.34"}, lie((*uspmsg.Response).GetDeleteResp, func(r *uspmsg.DeleteResp) bool {
		did := false
		for _, o := range r.GetDeletedObjResults() {
			if s := o.GetOperStatus().GetOperSuccess(); len(s.GetAffectedPaths()) > 0 {
				s.AffectedPaths, did = nil, true
			}
		}
		return did
	})},
	{"a Get that says all is well with an unknown parameter", []string{"1.41"}, lie((*uspmsg.Response).GetGetResp, func(r *uspmsg.GetResp) bool {
		for _, o := range r.GetReqPathResults() {
			o.ErrCode = 0
		}
		return r != nil
	})},
	{"an empty table that is an error", []string{"1.82"}, lie((*uspmsg.Response).GetGetResp, func(r *uspmsg.GetResp) bool {
		for _, o := range r.GetReqPathResults() {
			if len(o.GetResolvedPathResults()) == 0 {
				o.ErrCode = 7026
				return true
			}
		}
		return false
	})},
	{"keys that are not relative", []string{"1.39"}, lie((*uspmsg.Response).GetGetResp, func(r *uspmsg.GetResp) bool {
		for _, o := range r.GetReqPathResults() {
			for _, p := range o.GetResolvedPathResults() {
				p.ResultParams["Sub.Name"] = "x"
			}
		}
		return r != nil
	})},
	{"a Notify that never comes", []string{"1.52"}, lieNotify(func(*uspmsg.Notify) action { return dropped })},
	{"a value_change with the path of the search", []string{"1.84"}, lieNotify(func(n *uspmsg.Notify) action {
		if n.GetValueChange() == nil {
			return kept
		}
		n.GetValueChange().ParamPath = ctls + "*.BootParameter.*.Enable"
		return altered
	})},
	{"an OnBoardRequest that names a subscription", []string{"1.60"}, lieNotify(func(n *uspmsg.Notify) action {
		if n.GetOnBoardReq() == nil {
			return kept
		}
		n.SubscriptionId = "x"
		return altered
	})},
	{"a first level with contents of children", []string{"1.73"}, lie((*uspmsg.Response).GetGetSupportedDmResp, func(r *uspmsg.GetSupportedDMResp) bool {
		for _, o := range r.GetReqObjResults() {
			for _, s := range o.GetSupportedObjs() {
				if s.GetSupportedObjPath() != local {
					s.SupportedEvents = append(s.SupportedEvents, &uspmsg.GetSupportedDMResp_SupportedEventResult{EventName: "Boot!"})
				}
			}
		}
		return r != nil
	})},
	{"a key set is missing", []string{"1.99"}, lie((*uspmsg.Response).GetGetSupportedDmResp, func(r *uspmsg.GetSupportedDMResp) bool {
		for _, o := range r.GetReqObjResults() {
			for _, s := range o.GetSupportedObjs() {
				if len(s.GetUniqueKeySets()) > 1 {
					s.UniqueKeySets = s.UniqueKeySets[1:]
				}
			}
		}
		return r != nil
	})},
	{"an asynchronous command without its row", []string{"1.64"}, lie((*uspmsg.Response).GetOperateResp, func(r *uspmsg.OperateResp) bool {
		did := false
		for _, o := range r.GetOperationResults() {
			if strings.HasPrefix(o.GetReqObjPath(), local) {
				o.OperationResp, did = &uspmsg.OperateResp_OperationResult_ReqOutputArgs{ReqOutputArgs: &uspmsg.OperateResp_OperationResult_OutputArgs{}}, true
			}
		}
		return did
	})},
}

// unsigned is a transport that takes the signature off what the Controller sends: to the runner the agent looks like one that
// checks none.
type unsigned struct{ mtp.Transport }

func (u unsigned) Send(ctx context.Context, dest string, record []byte) error {
	var rec usprecord.Record
	if wire.Unmarshal(record, &rec) == nil && len(rec.GetMacSignature()) > 0 {
		rec.MacSignature, rec.SenderCert = nil, nil
		record, _ = wire.Marshal(&rec) // a decoded record can be encoded
	}
	return u.Transport.Send(ctx, dest, record)
}

// timeless is an agent that never knows the time.
type timeless struct{ Agent }

func (a timeless) Start(ctx context.Context, s Setup) error {
	s.NoClock = true
	return a.Agent.Start(ctx, s)
}

// lowFaults are lies below the messages: in the packets of MQTT and the frames of WebSocket.
var lowFaults = []struct {
	name    string
	id, mtp string
	packets func(*packets.Packet) bool
	frames  func(op byte, data []byte) bool
}{
	{name: "a CONNECT that does not name the agent", id: "11.2", mtp: "mqtt", packets: func(p *packets.Packet) bool {
		if p.FixedHeader.Type == packets.Connect {
			p.Properties.User = nil
		}
		return true
	}},
	{name: "a PUBLISH without Content Type", id: "11.12", mtp: "mqtt", packets: func(p *packets.Packet) bool {
		p.Properties.ContentType = ""
		return true
	}},
	{name: "a topic that is never left", id: "11.9", mtp: "mqtt", packets: func(p *packets.Packet) bool { return p.FixedHeader.Type != packets.Unsubscribe }},
	{name: "a connection without topic that stays", id: "11.10", mtp: "mqtt", packets: func(p *packets.Packet) bool { return p.FixedHeader.Type != packets.Disconnect }},
	{name: "a ClientID that changes", id: "11.5", mtp: "mqtt", packets: func(p *packets.Packet) bool {
		p.Connect.ClientIdentifier += "x"
		return true
	}},
	{name: "a Pong with other data", id: "7.7", mtp: "ws", frames: func(op byte, data []byte) bool {
		if op == opPong {
			data[0] ^= 1
		}
		return true
	}},
	{name: "a Close that is not answered", id: "7.4", mtp: "ws", frames: func(op byte, _ []byte) bool { return op != opClose }},
	{name: "an answer that is lost", id: "7.12", mtp: "ws", frames: func() func(byte, []byte) bool {
		seen := 0
		return func(op byte, _ []byte) bool {
			if op == opBinary {
				seen++
			}
			return op != opBinary || seen == 1 // only the connect record
		}
	}()},
}
