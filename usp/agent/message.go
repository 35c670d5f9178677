package agent

import (
	"context"
	"strings"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/usp"
	"twinspan/usp/mtp"
	"twinspan/usp/uspmsg"
)

// request is one request while it is being answered.
type request struct {
	a  *Agent
	p  *peer
	id string
	w  bridge.Writer
}

// serve answers one request. It runs on a goroutine of its own.
func (a *Agent) serve(ctx context.Context, p *peer, in mtp.Inbound, id string, req *uspmsg.Request, ticket *writeSlot) {
	r := &request{a: a, p: p, id: id, w: p.writer()}
	r.w.ConnectedAt = a.links.birth(in.LinkID)
	ticket.wait(ctx)
	a.counts.requests.Add(1)
	if m, mine := r.toServices(ctx, req); mine { // not judged: how a Service does is not how the agent does
		if m != nil {
			a.answer(ctx, p, in, m)
		}
		return
	}
	switch t := req.GetReqType().(type) {
	case *uspmsg.Request_Get:
		payload, err := r.get(ctx, t.Get)
		if err != nil {
			m := r.fault(err)
			r.judged(m, false)
			a.answer(ctx, p, in, m)
			return
		}
		r.judged(nil, false)
		a.reply(ctx, p, in, id, usp.WrapPayload(a.opt.EndpointID, p.endpoint, payload))
	case *uspmsg.Request_GetInstances:
		a.answer(ctx, p, in, r.getInstances(ctx, t.GetInstances))
	case *uspmsg.Request_GetSupportedDm:
		a.answer(ctx, p, in, r.getSupportedDM(t.GetSupportedDm))
	case *uspmsg.Request_GetSupportedProtocol:
		a.answer(ctx, p, in, usp.NewResponse(id, &uspmsg.Response{RespType: &uspmsg.Response_GetSupportedProtocolResp{
			GetSupportedProtocolResp: &uspmsg.GetSupportedProtocolResp{AgentSupportedProtocolVersions: usp.SupportedVersions}}}))
	case *uspmsg.Request_Set:
		m := r.set(ctx, t.Set)
		r.judged(m, true)
		a.answer(ctx, p, in, m)
	case *uspmsg.Request_Add:
		m := r.add(ctx, t.Add)
		r.judged(m, true)
		a.answer(ctx, p, in, m)
	case *uspmsg.Request_Delete:
		m := r.del(ctx, t.Delete)
		r.judged(m, true)
		a.answer(ctx, p, in, m)
	case *uspmsg.Request_Operate:
		if m := r.operate(ctx, t.Operate); m != nil {
			a.answer(ctx, p, in, m)
		}
	default:
		// Notify, Register and Deregister are for Controllers to receive. // R-MSG.1
		a.answer(ctx, p, in, usp.ErrorMessage(id, usp.Fault{Code: usp.CodeMessageNotSupported, Text: "an agent does not take this request"}))
	}
}

func (r *request) view() *bridge.View { return r.a.engine.View(r.w) }

// resolve resolves a path of a peer. The empty path, which means the root over CWMP, is no path in USP.
func resolve(v *bridge.View, path string, pol datamodel.ResolvePolicy) ([]datamodel.Match, error) {
	if path == "" {
		return nil, datamodel.Fail(datamodel.PathSyntax, path, "the path is empty")
	}
	return v.Resolve(path, pol)
}

// fault is an Error message for the whole request.
func (r *request) fault(err error) *uspmsg.Msg {
	return usp.ErrorMessage(r.id, usp.ErrorFrom(err, usp.AtPath))
}

// response wraps a response.
func (r *request) response(resp *uspmsg.Response) *uspmsg.Msg { return usp.NewResponse(r.id, resp) }

// allowed asks for one right of the peer.
func (r *request) allowed(v *bridge.View, path string, right bridge.Right) bool {
	if r.w.Rights == nil {
		return true
	}
	if c, ok := datamodel.ToCanonical(datamodel.USP, path); ok {
		path = c
	}
	return r.w.Rights.Allow(v.Version(), path, right)
}

// withDot gives an object path its final dot where a Controller left it out (TP-469 1.84, 1.99, 2.13, 2.23). Commands,
// events and paths that end in an expression inside quotes stay as they are.
func withDot(path string) string {
	if strings.HasSuffix(path, ".") || strings.HasSuffix(path, "()") || strings.HasSuffix(path, "!") {
		return path
	}
	return path + "."
}

// shown spells a canonical path for USP.
func shown(path string) string {
	s, _ := datamodel.FromCanonical(datamodel.USP, path)
	return s
}
