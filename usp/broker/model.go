package broker

import (
	"context"
	"log/slog"
	"strings"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/usp"
	"twinspan/usp/uspmsg"
)

type (
	supObject = uspmsg.GetSupportedDMResp_SupportedObjectResult
	supResult = uspmsg.GetSupportedDMResp_RequestedObjectResult
)

// maxModelPath bounds the paths that a Service may tell of, in bytes.
const maxModelPath = datamodel.MaxPathLen

// model is what a Service supports of one registered path. Immutable.
type model struct {
	uri     string
	object  bool         // the registered path is an object
	objects []*supObject // only what belongs to the registered path
	async   bool         // has an asynchronous command
}

// learn asks for the data model of every registered path that is new, and puts what is known into operation.
func (s *service) learn(ctx context.Context) {
	b := s.b
	var todo, asked []string
	b.mu.Lock()
	s.mu.Lock()
	for i, base := range s.paths {
		if s.models[base] == nil {
			todo, asked = append(todo, base), append(asked, s.asked[i])
		}
	}
	s.mu.Unlock()
	b.mu.Unlock()
	if len(todo) == 0 {
		return
	}
	m, err := s.ask(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_GetSupportedDm{GetSupportedDm: &uspmsg.GetSupportedDM{ObjPaths: asked,
		ReturnCommands: true, ReturnEvents: true, ReturnParams: true, ReturnUniqueKeySets: true}}}, b.opt.Limits.Time)
	if ctx.Err() != nil {
		return
	}
	found := map[string]*model{}
	why := ""
	switch e := m.GetBody().GetError(); {
	case err != nil:
		why = err.Error()
	case e != nil:
		why = e.GetErrMsg()
	default:
		found, why = s.accept(todo, asked, m.GetBody().GetResponse().GetGetSupportedDmResp())
	}
	s.follow(ctx, found) // before anybody can start a command whose end would be missed
	added := uint32(0)
	b.mu.Lock()
	s.mu.Lock()
	for base, md := range found {
		s.models[base] = md
	}
	s.mu.Unlock()
	// What the Service cannot describe is registered no longer: nobody could tell its Controllers what they may ask for.
	for _, base := range todo {
		if i := s.registered(base); i >= 0 && found[base] == nil {
			b.rarely(slog.LevelWarn, "service_model_refused", s.endpoint, "path", s.asked[i], "reason", why)
			s.paths, s.asked = without(s.paths, i), without(s.asked, i)
		}
	}
	if len(s.paths) > 0 && s.row == 0 && !s.ended {
		b.next++
		s.row, added = b.next, b.next
	}
	b.rebuild()
	b.mu.Unlock()
	if added != 0 {
		b.agent.ServiceRow(rowPath(added), true)
	}
	b.agent.Resubscribe()
}

// accept checks a Service's data model and cuts it down to what was registered. why tells of the last thing refused.
func (s *service) accept(bases, asked []string, resp *uspmsg.GetSupportedDMResp) (found map[string]*model, why string) {
	lim := &s.b.opt.Limits
	found = map[string]*model{}
	why = "the path is missing in the answer"
	s.mu.Lock()
	objects, elements := 0, 0
	for _, m := range s.models {
		for _, o := range m.objects {
			objects, elements = objects+1, elements+weight(o)
		}
	}
	s.mu.Unlock()
	for _, res := range resp.GetReqObjResults() {
		i := indexOf(asked, res.GetReqObjPath())
		if i < 0 {
			continue
		}
		if res.GetErrCode() != 0 {
			why = clip(res.GetErrMsg())
			continue
		}
		m := &model{uri: clip(res.GetDataModelInstUri())}
		fits := true
		for _, o := range res.GetSupportedObjs() {
			if o = cut(o, bases[i]); o == nil {
				continue
			}
			objects, elements = objects+1, elements+weight(o)
			if fits = objects <= lim.Objects && elements <= lim.Elements; !fits {
				break
			}
			m.object = m.object || strings.TrimSuffix(o.SupportedObjPath, ".") == bases[i]
			for _, c := range o.SupportedCommands {
				m.async = m.async || c.CommandType == uspmsg.GetSupportedDMResp_CMD_ASYNC
			}
			m.objects = append(m.objects, o)
		}
		switch {
		case !fits:
			return found, "the data model is too large"
		case len(m.objects) == 0:
			why = "the USP Service does not support what it registered"
		default:
			found[bases[i]] = m
		}
	}
	return found, why
}

func indexOf(list []string, s string) int {
	for i := range list {
		if list[i] == s {
			return i
		}
	}
	return -1
}

// weight counts what an object holds.
func weight(o *supObject) int {
	n := len(o.SupportedParams) + len(o.UniqueKeySets) + len(o.DivergentPaths)
	for _, c := range o.SupportedCommands {
		n += 1 + len(c.InputArgNames) + len(c.OutputArgNames)
	}
	for _, e := range o.SupportedEvents {
		n += 1 + len(e.ArgNames)
	}
	return n
}

// cut leaves of an object what belongs to a registered path, nil if nothing does.
func cut(o *supObject, base string) *supObject {
	p, ok := locate(o.GetSupportedObjPath())
	if !ok || p.follow || len(o.SupportedObjPath) > maxModelPath || !strings.HasSuffix(o.SupportedObjPath, ".") {
		return nil
	}
	if within(base, p.base) {
		return o
	}
	if !within(p.base, base) {
		return nil
	}
	// A single element was registered: the object around it is not the Service's.
	c := &supObject{SupportedObjPath: o.SupportedObjPath, IsMultiInstance: o.IsMultiInstance}
	for _, x := range o.SupportedParams {
		if o.SupportedObjPath+x.GetParamName() == base {
			c.SupportedParams = append(c.SupportedParams, x)
		}
	}
	for _, x := range o.SupportedCommands {
		if o.SupportedObjPath+x.GetCommandName() == base {
			c.SupportedCommands = append(c.SupportedCommands, x)
		}
	}
	for _, x := range o.SupportedEvents {
		if o.SupportedObjPath+x.GetEventName() == base {
			c.SupportedEvents = append(c.SupportedEvents, x)
		}
	}
	if weight(c) == 0 {
		return nil
	}
	return c
}

// command finds a command by its path with {i}.
func (s *service) command(base string) *uspmsg.GetSupportedDMResp_SupportedCommandResult {
	s.mu.Lock()
	defer s.mu.Unlock()
	for top, m := range s.models {
		if !within(top, base) {
			continue
		}
		object, name := datamodel.SplitParam(base)
		for _, o := range m.objects {
			if o.SupportedObjPath != object {
				continue
			}
			for _, c := range o.SupportedCommands {
				if c.CommandName == name {
					return c
				}
			}
		}
	}
	return nil
}

// supported answers GetSupportedDM out of what the Services have told, and the agent for the rest.
func (b *Broker) supported(ctx context.Context, q *agentRequest, rs routes, m *uspmsg.GetSupportedDM) *uspmsg.Msg {
	resp := &uspmsg.GetSupportedDMResp{}
	for _, path := range m.GetObjPaths() {
		var res *supResult
		p, ok := locate(path)
		svc := (*service)(nil)
		if ok {
			svc = rs.at(p.base)
		}
		if svc == nil {
			part := &uspmsg.GetSupportedDM{ObjPaths: []string{path}, FirstLevelOnly: m.GetFirstLevelOnly(), ReturnCommands: m.GetReturnCommands(),
				ReturnEvents: m.GetReturnEvents(), ReturnParams: m.GetReturnParams(), ReturnUniqueKeySets: m.GetReturnUniqueKeySets()}
			own := q.Own(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_GetSupportedDm{GetSupportedDm: part}})
			if own.GetBody().GetError() != nil {
				return own
			}
			if list := own.GetBody().GetResponse().GetGetSupportedDmResp().GetReqObjResults(); len(list) == 1 {
				res = list[0]
			} else {
				res = &supResult{ReqObjPath: path}
			}
		} else {
			res = &supResult{ReqObjPath: path}
		}
		if ok {
			b.describe(q, rs, svc, p, m, res)
		}
		if svc != nil && len(res.SupportedObjs) == 0 {
			res.ErrCode, res.ErrMsg = usp.CodeInvalidPath, "not in the supported data model" // R-GSP.0
		}
		resp.ReqObjResults = append(resp.ReqObjResults, res)
	}
	return usp.NewResponse(q.ID, &uspmsg.Response{RespType: &uspmsg.Response_GetSupportedDmResp{GetSupportedDmResp: resp}})
}

// describe adds what Services have at, or below, one requested path.
func (b *Broker) describe(q *agentRequest, rs routes, svc *service, p place, m *uspmsg.GetSupportedDM, res *supResult) {
	if p.search || p.follow {
		if svc != nil {
			res.ErrCode, res.ErrMsg = usp.CodeInvalidPathSyntax, "search paths are not for GetSupportedDM"
		}
		return
	}
	for i := range rs {
		r := &rs[i]
		if !within(r.base, p.base) && !within(p.base, r.base) {
			continue
		}
		r.svc.mu.Lock()
		md := r.svc.models[r.base]
		r.svc.mu.Unlock()
		if md == nil {
			continue
		}
		// A path without final dot names an element, unless an object has that name. // TP-469 1.99, 1.105
		element := svc != nil && !strings.HasSuffix(p.text, ".") && !md.has(p.base)
		before := len(res.SupportedObjs)
		for _, o := range md.objects {
			if d := visible(q, o, p.base, element, m); d != nil {
				res.SupportedObjs = append(res.SupportedObjs, d)
			}
		}
		if len(res.SupportedObjs) > before {
			if res.ErrCode == usp.CodeInvalidPath {
				res.ErrCode, res.ErrMsg = 0, ""
			}
			if res.DataModelInstUri == "" {
				res.DataModelInstUri = md.uri
			}
		}
	}
}

func (m *model) has(base string) bool {
	for _, o := range m.objects {
		if p := strings.TrimSuffix(o.SupportedObjPath, "."); p == base || p == base+".{i}" {
			return true
		}
	}
	return false
}

// visible makes what a Controller is told of one object of a Service, nil for nothing. base is what it asked for: with element
// a parameter, command or event, for which the flags do not count.
func visible(q *agentRequest, o *supObject, base string, element bool, m *uspmsg.GetSupportedDM) *supObject {
	path := strings.TrimSuffix(o.SupportedObjPath, ".")
	d := &supObject{SupportedObjPath: o.SupportedObjPath, Access: o.Access, IsMultiInstance: o.IsMultiInstance}
	switch {
	case element:
		if path+"."+lastName(base) != base {
			return nil
		}
	case !within(base, path) || !q.Allowed(o.SupportedObjPath, bridge.ReadObj): // R-GSP.0
		return nil
	case m.GetFirstLevelOnly() && path != base && path != base+".{i}":
		below := strings.TrimPrefix(strings.TrimPrefix(path, base+"."), "{i}.")
		if strings.Contains(strings.TrimSuffix(below, ".{i}"), ".") {
			return nil
		}
		return d
	}
	wanted := func(flag bool, name string, right bridge.Right) bool {
		full := o.SupportedObjPath + name
		return (flag && !element || element && full == base) && q.Allowed(full, right)
	}
	for _, x := range o.SupportedParams {
		if wanted(m.GetReturnParams(), x.ParamName, bridge.ReadParam) {
			d.SupportedParams = append(d.SupportedParams, x)
		}
	}
	for _, x := range o.SupportedCommands {
		if wanted(m.GetReturnCommands(), x.CommandName, bridge.ReadCommand) {
			d.SupportedCommands = append(d.SupportedCommands, x)
		}
	}
	for _, x := range o.SupportedEvents {
		if wanted(m.GetReturnEvents(), x.EventName, bridge.ReadCommand) {
			d.SupportedEvents = append(d.SupportedEvents, x)
		}
	}
	if m.GetReturnUniqueKeySets() && !element {
		d.UniqueKeySets = o.UniqueKeySets
	}
	if element && weight(d) == 0 {
		return nil
	}
	return d
}

func lastName(base string) string { return base[strings.LastIndexByte(base, '.')+1:] }

// clip bounds a text of a Service.
func clip(s string) string {
	const most = 256
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return s
}
