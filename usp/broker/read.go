package broker

import (
	"context"
	"log/slog"
	"strings"
	"sync"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/usp"
	"twinspan/usp/agent"
	"twinspan/usp/uspmsg"
	"twinspan/usp/wire"
)

type (
	agentRequest = agent.ServiceRequest
	getResult    = uspmsg.GetResp_RequestedPathResult
)

// Serve implements agent.Services.
func (b *Broker) Serve(ctx context.Context, q *agentRequest) (m *uspmsg.Msg, mine bool) {
	rs := *b.routes.Load()
	if len(rs) == 0 {
		return nil, false
	}
	switch t := q.Body.GetReqType().(type) {
	case *uspmsg.Request_Get:
		if !concerns(rs, true, t.Get.GetParamPaths()...) {
			return nil, false
		}
		m = b.get(ctx, q, rs, t.Get)
	case *uspmsg.Request_GetInstances:
		if !concerns(rs, false, t.GetInstances.GetObjPaths()...) {
			return nil, false
		}
		m = b.getInstances(ctx, q, rs, t.GetInstances)
	case *uspmsg.Request_GetSupportedDm:
		if !concerns(rs, true, t.GetSupportedDm.GetObjPaths()...) {
			return nil, false
		}
		m = b.supported(ctx, q, rs, t.GetSupportedDm)
	case *uspmsg.Request_Set, *uspmsg.Request_Add, *uspmsg.Request_Delete:
		return b.write(ctx, q, rs)
	case *uspmsg.Request_Operate:
		p, ok := locate(t.Operate.GetCommand())
		if !ok {
			return nil, false
		}
		s := rs.at(p.base)
		if s == nil {
			return nil, false
		}
		return b.operate(ctx, q, s, p, t.Operate), true
	default:
		return nil, false
	}
	if n, err := wire.Measure(m); err == nil && n.Size > b.opt.Limits.Response {
		m = usp.ErrorMessage(q.ID, usp.Fault{Code: usp.CodeResourcesExceeded, Text: "the answer is too large; ask for less"})
	}
	return m, true
}

// concerns reports whether a path names something of a Service, or with above also something that holds it.
func concerns(rs routes, above bool, paths ...string) bool {
	for _, path := range paths {
		p, ok := locate(path)
		if !ok {
			continue
		}
		if rs.at(p.base) != nil {
			return true
		}
		found := false
		if above {
			rs.below(p.base, func(*route) { found = true })
		}
		if found {
			return true
		}
	}
	return false
}

// errFollow: what lies behind a reference may belong to somebody else.
func errFollow(path string) error {
	return datamodel.Fail(datamodel.NotSupported, path, "references cannot be followed through a USP Service")
}

// visiblePath judges a path that a Controller asks a Service for.
func visiblePath(q *agentRequest, p place) error {
	if p.follow {
		return errFollow(p.text)
	}
	right := bridge.ReadParam
	if strings.HasSuffix(p.text, ".") {
		right = bridge.ReadObj
	}
	if !q.Allowed(p.judged(), right) { // R-GET.1
		return datamodel.Fail(datamodel.NotSupported, p.text, "")
	}
	for _, name := range p.compared { // a search tells what it compares
		if !q.Allowed(name, bridge.ReadParam) {
			return datamodel.Fail(datamodel.NotSupported, p.text, "")
		}
	}
	return nil
}

// job is a Get that one Service is asked: paths of one depth.
type job struct {
	svc   *service
	depth uint32
	paths []string
	at    []int // which requested paths they belong to
	exact []bool
	got   []*getResult
	err   error
}

// get answers Get.
func (b *Broker) get(ctx context.Context, q *agentRequest, rs routes, m *uspmsg.Get) *uspmsg.Msg {
	results := make([]*getResult, len(m.GetParamPaths()))
	var own []string
	var ownAt []int
	var jobs []*job
	add := func(svc *service, depth uint32, path string, at int, exact bool) {
		for _, j := range jobs {
			if j.svc == svc && j.depth == depth {
				j.paths, j.at, j.exact = append(j.paths, path), append(j.at, at), append(j.exact, exact)
				return
			}
		}
		jobs = append(jobs, &job{svc: svc, depth: depth, paths: []string{path}, at: []int{at}, exact: []bool{exact}})
	}
	for i, path := range m.GetParamPaths() {
		results[i] = &getResult{RequestedPath: path}
		p, ok := locate(path)
		if !ok {
			own, ownAt = append(own, path), append(ownAt, i)
			continue
		}
		if svc := rs.at(p.base); svc != nil {
			if err := visiblePath(q, p); err != nil {
				f := usp.ErrorFrom(err, usp.AtGet)
				results[i].ErrCode, results[i].ErrMsg = f.Code, f.Text
				continue
			}
			add(svc, m.GetMaxDepth(), path, i, true)
			continue
		}
		own, ownAt = append(own, path), append(ownAt, i)
		if !strings.HasSuffix(path, ".") {
			continue
		}
		rs.below(p.base, func(r *route) {
			depth := m.GetMaxDepth()
			if levels := r.depth(p.base); depth != 0 {
				if depth <= levels {
					return
				}
				depth -= levels
			}
			if n := lastName(r.base); !strings.HasSuffix(n, "()") && !strings.HasSuffix(n, "!") {
				add(r.svc, depth, r.asked(), i, false)
			}
		})
	}
	var wg sync.WaitGroup
	for _, j := range jobs {
		wg.Go(func() { j.run(ctx, b) })
	}
	if len(own) > 0 {
		part := q.Own(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: own, MaxDepth: m.GetMaxDepth()}}})
		list := part.GetBody().GetResponse().GetGetResp().GetReqPathResults()
		if part.GetBody().GetError() != nil || len(list) != len(own) {
			wg.Wait()
			return part
		}
		for i, r := range list {
			results[ownAt[i]] = r
		}
	}
	wg.Wait()
	for _, j := range jobs {
		for i, at := range j.at {
			j.merge(q, i, results[at])
		}
	}
	return usp.NewResponse(q.ID, &uspmsg.Response{RespType: &uspmsg.Response_GetResp{GetResp: &uspmsg.GetResp{ReqPathResults: results}}})
}

func (j *job) run(ctx context.Context, b *Broker) {
	m, err := j.svc.ask(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: j.paths, MaxDepth: j.depth}}}, b.opt.Limits.Time)
	if err != nil {
		j.err = err
		return
	}
	if e := m.GetBody().GetError(); e != nil {
		j.err = j.svc.refusal(e)
		return
	}
	j.got = m.GetBody().GetResponse().GetGetResp().GetReqPathResults()
	ok := len(j.got) == len(j.paths)
	for i := 0; ok && i < len(j.got); i++ {
		ok = j.got[i].GetRequestedPath() == j.paths[i]
	}
	if !ok {
		j.err = datamodel.Fail(datamodel.Internal, "", "the "+j.svc.name()+" answered for other paths than it was asked")
	}
}

// merge adds what the Service gave for one path to the result of a requested path.
func (j *job) merge(q *agentRequest, i int, res *getResult) {
	fail := func(code uint32, text string) {
		if j.exact[i] { // a path above loses only the Service's part
			res.ErrCode, res.ErrMsg, res.ResolvedPathResults = code, text, nil
			return
		}
		j.svc.b.rarely(slog.LevelWarn, "service_part_missing", j.svc.endpoint, "path", res.GetRequestedPath(), "reason", text)
	}
	if j.err != nil {
		f := usp.ErrorFrom(j.err, usp.AtGet)
		fail(f.Code, f.Text)
		return
	}
	got := j.got[i]
	if got.GetErrCode() != 0 {
		fail(got.GetErrCode(), clip(got.GetErrMsg()))
		return
	}
	before := len(res.ResolvedPathResults)
	asked, _ := locate(j.paths[i])
	for _, r := range got.GetResolvedPathResults() {
		if j.readable(q, r) && asked.comparable(q, r.GetResolvedPath()) {
			res.ResolvedPathResults = append(res.ResolvedPathResults, r)
		}
	}
	if len(res.ResolvedPathResults) > before && res.ErrCode == usp.CodeInvalidPath {
		res.ErrCode, res.ErrMsg = 0, "" // an object that only Services have something of
	}
}

// readable leaves of a resolved path what the Service registered and the Controller may read. // R-GET.4
func (j *job) readable(q *agentRequest, r *uspmsg.GetResp_ResolvedPathResult) bool {
	p, ok := locate(r.GetResolvedPath())
	if !ok || p.search || p.follow || !strings.HasSuffix(p.text, ".") {
		return false
	}
	for name := range r.ResultParams {
		if !plain(name) || !j.svc.owns(p.base+"."+name) || !q.Allowed(p.text+name, bridge.ReadParam) {
			delete(r.ResultParams, name)
		}
	}
	return len(r.ResultParams) > 0
}

// plain reports whether a text is the name of a single parameter.
func plain(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-':
		default:
			return false
		}
	}
	return name != ""
}

// owns reports whether a path, with {i} and without final dot, belongs to the Service.
func (s *service) owns(base string) bool { return s.b.routes.Load().at(base) == s }

// refusal is a Service's Error message as an error of ours.
func (s *service) refusal(e *uspmsg.Error) error {
	return reasoned(e.GetErrCode(), e.GetErrMsg())
}

// reasoned turns a code of a Service into the reason that has it.
func reasoned(code uint32, text string) error {
	reason := datamodel.CommandFailed
	switch code {
	case usp.CodePermissionDenied:
		reason = datamodel.Denied
	case usp.CodeResourcesExceeded:
		reason = datamodel.Resources
	case usp.CodeInvalidPath:
		reason = datamodel.NotSupported
	case usp.CodeInvalidPathSyntax:
		reason = datamodel.PathSyntax
	case usp.CodeInvalidArguments, usp.CodeInvalidCommandArgs:
		reason = datamodel.InvalidArgs
	case usp.CodeObjectDoesNotExist:
		reason = datamodel.NoInstance
	case usp.CodeCommandCanceled:
		reason = datamodel.CommandCanceled
	case usp.CodeInternal, usp.CodeMessageFailed, usp.CodeMessageNotSupported:
		reason = datamodel.Internal
	}
	return datamodel.Fail(reason, "", clip(text))
}

// getInstances answers GetInstances.
func (b *Broker) getInstances(ctx context.Context, q *agentRequest, rs routes, m *uspmsg.GetInstances) *uspmsg.Msg {
	resp := &uspmsg.GetInstancesResp{}
	for _, path := range m.GetObjPaths() {
		p, ok := locate(path)
		var svc *service
		if ok {
			svc = rs.at(p.base)
		}
		req := &uspmsg.Request{ReqType: &uspmsg.Request_GetInstances{GetInstances: &uspmsg.GetInstances{ObjPaths: []string{path}, FirstLevelOnly: m.GetFirstLevelOnly()}}}
		if svc == nil {
			own := q.Own(ctx, req)
			if own.GetBody().GetError() != nil {
				return own
			}
			resp.ReqPathResults = append(resp.ReqPathResults, own.GetBody().GetResponse().GetGetInstancesResp().GetReqPathResults()...)
			continue
		}
		res := &uspmsg.GetInstancesResp_RequestedPathResult{RequestedPath: path}
		list, err := b.instances(ctx, q, svc, p, req)
		if err != nil {
			f := usp.ErrorFrom(err, usp.AtPath)
			res.ErrCode, res.ErrMsg = f.Code, f.Text
		}
		res.CurrInsts = list
		resp.ReqPathResults = append(resp.ReqPathResults, res)
	}
	return usp.NewResponse(q.ID, &uspmsg.Response{RespType: &uspmsg.Response_GetInstancesResp{GetInstancesResp: resp}})
}

func (b *Broker) instances(ctx context.Context, q *agentRequest, svc *service, p place, req *uspmsg.Request) ([]*uspmsg.GetInstancesResp_CurrInstance, error) {
	if err := visiblePath(q, p); err != nil {
		return nil, err
	}
	m, err := svc.ask(ctx, req, b.opt.Limits.Time)
	if err != nil {
		return nil, err
	}
	if e := m.GetBody().GetError(); e != nil {
		return nil, svc.refusal(e)
	}
	list := m.GetBody().GetResponse().GetGetInstancesResp().GetReqPathResults()
	if len(list) != 1 || list[0].GetRequestedPath() != p.text {
		return nil, datamodel.Fail(datamodel.Internal, p.text, "the "+svc.name()+" answered for other paths than it was asked")
	}
	if list[0].GetErrCode() != 0 {
		return nil, reasoned(list[0].GetErrCode(), list[0].GetErrMsg())
	}
	var out []*uspmsg.GetInstancesResp_CurrInstance
	for _, i := range list[0].GetCurrInsts() {
		at, ok := locate(i.GetInstantiatedObjPath())
		if !ok || at.search || at.follow || !svc.owns(at.base) || !q.Allowed(at.text, bridge.ReadInst) || !p.comparable(q, at.text) { // R-GIN.0
			continue
		}
		for name := range i.UniqueKeys {
			if !q.Allowed(at.text+name, bridge.ReadParam) {
				delete(i.UniqueKeys, name)
			}
		}
		out = append(out, i)
	}
	return out, nil
}
