package broker

import (
	"context"
	"strings"
	"sync"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/usp"
	"twinspan/usp/uspmsg"
)

// result is one result of Set, Add or Delete: of the type that the response lists.
type result struct {
	path string
	any  any
}

// writing is one Set, Add or Delete in the terms that all three have in common.
type writing struct {
	partial bool
	at      usp.Where
	paths   []string
	// pick makes the request for some of the objects; results takes a response apart, build puts one together; failed makes
	// the result of an object that was not done.
	pick    func(at []int) *uspmsg.Request
	results func(r *uspmsg.Response) []result
	failed  func(path string, f usp.Fault) result
	build   func(list []result) *uspmsg.Response
	// judge asks for the rights to do it to the object that p names; rows are those that a search matches. strip takes out of
	// a result what the Controller may not read and what is not the Service's.
	judge func(q *agentRequest, s *service, i int, rows []string) error
	strip func(q *agentRequest, s *service, r *result)
	// parent: a search is about the parents of what is named (Add).
	parent bool
}

// share is what one Service is asked of a writing.
type share struct {
	svc *service
	at  []int
	got []result
	m   *uspmsg.Msg // its Error
	err error
}

// write answers Set, Add and Delete. mine is false when nothing of it concerns a Service.
func (b *Broker) write(ctx context.Context, q *agentRequest, rs routes) (m *uspmsg.Msg, mine bool) {
	w := writingOf(q.Body)
	places := make([]place, len(w.paths))
	owners := make([]*service, len(w.paths))
	var own []int
	for i, path := range w.paths {
		p, ok := locate(dotted(path))
		places[i] = p
		if ok {
			if owners[i] = rs.at(p.base); owners[i] == nil {
				owners[i] = settingsOwner(rs, p, q.Body.GetSet(), i)
			}
		}
		if owners[i] == nil {
			own = append(own, i)
		}
		mine = mine || owners[i] != nil
	}
	if !mine {
		return nil, false
	}
	var shares []*share
	early := map[int]result{}
	for i, svc := range owners {
		if svc == nil {
			continue
		}
		if err := b.judge(ctx, q, w, svc, places[i], i); err != nil {
			f := usp.ErrorFrom(err, w.at)
			if !w.partial {
				return usp.ErrorMessage(q.ID, f, &uspmsg.Error_ParamError{ParamPath: w.paths[i], ErrCode: f.Code, ErrMsg: f.Text}), true
			}
			early[i] = w.failed(w.paths[i], f)
			continue
		}
		shares = put(shares, svc, i)
	}
	if !w.partial && len(shares)+min(len(own), 1) > 1 {
		return usp.ErrorMessage(q.ID, usp.Fault{Code: usp.CodeRequestDenied,
			Text: "with allow_partial=false all objects must belong to one USP Service, or all to the agent; nothing was done"}), true
	}
	var wg sync.WaitGroup
	for _, s := range shares {
		wg.Go(func() { s.run(ctx, b, w) })
	}
	var ownResults []result
	if len(own) > 0 {
		part := q.Own(ctx, w.pick(own))
		if part.GetBody().GetError() != nil {
			for _, i := range own { // the agent refused its part as a whole; the Services' parts stand
				e := part.GetBody().GetError()
				early[i] = w.failed(w.paths[i], usp.Fault{Code: e.GetErrCode(), Text: e.GetErrMsg()})
			}
			own = nil
		} else {
			ownResults = w.results(part.GetBody().GetResponse())
		}
	}
	wg.Wait()
	return b.merged(q, w, owners, shares, ownResults, early), true
}

func put(shares []*share, svc *service, i int) []*share {
	for _, s := range shares {
		if s.svc == svc {
			s.at = append(s.at, i)
			return shares
		}
	}
	return append(shares, &share{svc: svc, at: []int{i}})
}

// settingsOwner: an object of the agent, or above a Service's, with settings that all are one Service's registered parameters.
func settingsOwner(rs routes, p place, set *uspmsg.Set, i int) (svc *service) {
	if set == nil || p.search || p.follow {
		return nil
	}
	for n, ps := range set.GetUpdateObjs()[i].GetParamSettings() {
		s := rs.at(p.base + "." + ps.GetParam())
		if s == nil || n > 0 && s != svc {
			return nil
		}
		svc = s
	}
	return svc
}

func dotted(path string) string {
	if strings.HasSuffix(path, ".") {
		return path
	}
	return path + "."
}

// judge asks for the rights to one object, for a search to every row that it matches now.
func (b *Broker) judge(ctx context.Context, q *agentRequest, w *writing, svc *service, p place, i int) error {
	if p.follow {
		return errFollow(p.text)
	}
	rows := []string{p.text}
	if p.search {
		for _, name := range p.compared {
			if !q.Allowed(name, bridge.ReadParam) {
				return datamodel.Fail(datamodel.Denied, p.text, "the search compares what must not be read")
			}
		}
		ask, tail := p.text, ""
		if w.parent {
			ask, tail = parentOf(p.text)
		}
		found, err := b.resolve(ctx, svc, ask)
		if err != nil {
			return err
		}
		rows = rows[:0]
		for _, r := range found {
			if !p.comparable(q, r) {
				return datamodel.Fail(datamodel.Denied, p.text, "the search compares what must not be read")
			}
			rows = append(rows, r+tail)
		}
		rows = append(rows, p.base+".")
	}
	return w.judge(q, svc, i, rows)
}

// parentOf splits the path of a table into the object that holds it and its name with dot.
func parentOf(table string) (object, name string) {
	s := strings.TrimSuffix(table, ".")
	i := strings.LastIndexByte(s, '.') + 1
	return table[:i], table[i:]
}

// resolve asks a Service which objects a search path matches.
func (b *Broker) resolve(ctx context.Context, svc *service, path string) ([]string, error) {
	j := &job{svc: svc, depth: 1, paths: []string{path}}
	if j.run(ctx, b); j.err != nil {
		return nil, j.err
	}
	if code := j.got[0].GetErrCode(); code != 0 {
		return nil, reasoned(code, j.got[0].GetErrMsg())
	}
	asked, _ := locate(path)
	var rows []string
	for _, r := range j.got[0].GetResolvedPathResults() {
		p, ok := locate(r.GetResolvedPath())
		if ok && !p.search && !p.follow && p.base == asked.base && strings.HasSuffix(p.text, ".") {
			rows = append(rows, p.text)
		}
	}
	return rows, nil
}

// run asks the Service for its share.
func (s *share) run(ctx context.Context, b *Broker, w *writing) {
	m, err := s.svc.ask(ctx, w.pick(s.at), b.opt.Limits.Time)
	switch {
	case err != nil:
		s.err = err
		return
	case m.GetBody().GetError() != nil:
		s.m = m
		return
	}
	s.got = w.results(m.GetBody().GetResponse())
	paths := map[string]bool{}
	for _, i := range s.at {
		paths[w.paths[i]] = true
	}
	told := map[string]bool{}
	for _, r := range s.got {
		if !paths[r.path] {
			s.got, s.err = nil, datamodel.Fail(datamodel.Internal, "", "the "+s.svc.name()+" answered for other paths than it was asked")
			return
		}
		told[r.path] = true
	}
	if len(told) < len(paths) || len(s.got) < len(s.at) {
		s.got, s.err = nil, datamodel.Fail(datamodel.Internal, "", "the "+s.svc.name()+" did not answer for all that it was asked")
	}
}

// merged puts the results into the order in which their objects were asked for.
func (b *Broker) merged(q *agentRequest, w *writing, owners []*service, shares []*share, own []result, early map[int]result) *uspmsg.Msg {
	for _, s := range shares {
		var f usp.Fault
		switch {
		case s.err != nil:
			f = usp.ErrorFrom(s.err, w.at)
		case s.m != nil:
			e := s.m.GetBody().GetError()
			f = usp.Fault{Code: e.GetErrCode(), Text: clip(e.GetErrMsg())}
			if !w.partial {
				return usp.ErrorMessage(q.ID, f, e.GetParamErrs()...)
			}
		default:
			for i := range s.got {
				w.strip(q, s.svc, &s.got[i])
			}
			continue
		}
		if !w.partial {
			return usp.ErrorMessage(q.ID, f)
		}
		for _, i := range s.at {
			early[i] = w.failed(w.paths[i], f)
		}
		s.got = nil
	}
	var out []result
	take := func(list *[]result, path string) {
		// A search has one result for each parent that it matched; they follow each other.
		for n := 0; len(*list) > 0 && (n == 0 || (*list)[0].path == path && strings.ContainsAny(path, "*[")); n++ {
			out = append(out, (*list)[0])
			*list = (*list)[1:]
		}
	}
	for i, path := range w.paths {
		if r, done := early[i]; done {
			out = append(out, r)
			continue
		}
		if owners[i] == nil {
			take(&own, path)
			continue
		}
		for _, s := range shares {
			if s.svc == owners[i] {
				take(&s.got, path)
			}
		}
	}
	return usp.NewResponse(q.ID, w.build(out))
}

// mayWrite asks for the right to write the settings of an object.
func mayWrite(q *agentRequest, s *service, rows []string, param string) error {
	if strings.ContainsAny(param, "*[]+#{} ") || param == "" {
		return datamodel.Fail(datamodel.InvalidArgs, param, "not the name of a parameter")
	}
	for _, row := range rows {
		if p, ok := locate(row + param); !ok || !s.owns(p.base) {
			return datamodel.Fail(datamodel.NotSupported, row+param, "")
		}
		if !q.Allowed(row+param, bridge.WriteParam) {
			return datamodel.Fail(datamodel.Denied, row+param, "")
		}
	}
	return nil
}

// readableMap takes out of values what the Controller may not read.
func readableMap(q *agentRequest, object string, values map[string]string) {
	for name := range values {
		if !q.Allowed(object+name, bridge.ReadParam) {
			delete(values, name)
		}
	}
}

// instancePath reports whether a Service's answer names something that is its own.
func (s *service) instancePath(path string) bool {
	p, ok := locate(path)
	return ok && !p.search && !p.follow && strings.HasSuffix(path, ".") && s.owns(p.base)
}
