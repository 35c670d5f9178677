package broker_test

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"twinspan/usp"
	"twinspan/usp/mtp"
	"twinspan/usp/mtp/uds"
	"twinspan/usp/uspmsg"
)

const fakePath = "Device.X_FAKE."

// fake is a Service by hand: what it answers, and whether at all, is the test's affair.
type fake struct {
	t   testing.TB
	eid string
	c   *uds.Client
	ups chan bool // the link came up or went down
	end func()    // ends it before the test does

	mu     sync.Mutex
	answer func(id string, r *uspmsg.Request) *uspmsg.Msg // nil: as a simple Service does; a nil message: not at all
	got    chan *uspmsg.Msg                               // answers of the Broker
	seq    int
}

func (r *rig) fake(eid string) *fake {
	r.t.Helper()
	c := uds.DefaultClientConfig()
	c.Path, c.EndpointID, c.RetryMin, c.RetryMax, c.MaxRecord = r.socket(), eid, 10*time.Millisecond, 20*time.Millisecond, 8<<20
	f := &fake{t: r.t, eid: eid, c: must(uds.NewClient(c))(r.t), ups: make(chan bool, 1000), got: make(chan *uspmsg.Msg, 100)}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = f.c.Run(ctx, f, func(s mtp.State) {
			if s.LinkID != 0 {
				f.ups <- s.Up
			}
		})
	})
	f.end = func() { cancel(); wg.Wait() }
	r.t.Cleanup(f.end)
	f.link(true)
	return f
}

// link waits for the link to come up or to go down.
func (f *fake) link(up bool) {
	f.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case got := <-f.ups:
			if got == up {
				return
			}
		case <-timeout:
			f.t.Fatalf("the link of %s: not %v", f.eid, up)
		}
	}
}

func (f *fake) behave(answer func(id string, r *uspmsg.Request) *uspmsg.Msg) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

// HandleRecord implements mtp.Handler.
func (f *fake) HandleRecord(ctx context.Context, in mtp.Inbound) {
	rec, err := usp.OpenRecord(in.Record, f.eid, usp.DefaultLimits())
	if err != nil || rec.Kind != usp.KindMessage {
		f.t.Errorf("record from the Broker: %v", err)
		return
	}
	m, err := usp.DecodeMessage(rec.Payload, usp.DefaultLimits())
	if err != nil {
		f.t.Error(err)
		return
	}
	req := m.GetBody().GetRequest()
	if req == nil {
		select {
		case f.got <- m:
		default:
		}
		return
	}
	f.mu.Lock()
	answer := f.answer
	f.mu.Unlock()
	id := m.GetHeader().GetMsgId()
	var a *uspmsg.Msg
	if answer != nil {
		a = answer(id, req)
	} else {
		a = simple(id, req)
	}
	if a != nil {
		f.send(a)
	}
}

func (f *fake) send(m *uspmsg.Msg) {
	rec, err := usp.WrapMessage(f.eid, agentID, m)
	if err == nil {
		err = f.c.Send(context.Background(), "", rec)
	}
	if err != nil {
		f.t.Logf("%s: %v", f.eid, err)
	}
}

// ask sends a request to the Broker and waits for the answer.
func (f *fake) ask(r *uspmsg.Request) *uspmsg.Msg {
	f.t.Helper()
	f.seq++
	id := "f" + strconv.Itoa(f.seq)
	f.send(usp.NewRequest(id, r))
	timeout := time.After(patience)
	for {
		select {
		case m := <-f.got:
			if m.GetHeader().GetMsgId() == id {
				return m
			}
		case <-timeout:
			f.t.Fatal("the Broker does not answer")
		}
	}
}

// register asks for paths and returns the codes of the results, or of the Error.
func (f *fake) register(partial bool, paths ...string) []uint32 {
	f.t.Helper()
	m := &uspmsg.Register{AllowPartial: partial}
	for _, p := range paths {
		m.RegPaths = append(m.RegPaths, &uspmsg.Register_RegistrationPath{Path: p})
	}
	a := f.ask(&uspmsg.Request{ReqType: &uspmsg.Request_Register{Register: m}})
	if e := a.GetBody().GetError(); e != nil {
		return []uint32{e.GetErrCode()}
	}
	var codes []uint32
	for i, r := range a.GetBody().GetResponse().GetRegisterResp().GetRegisteredPathResults() {
		if r.GetRequestedPath() != paths[i] {
			f.t.Errorf("answered for %q", r.GetRequestedPath())
		}
		codes = append(codes, r.GetOperStatus().GetOperFailure().GetErrCode())
	}
	return codes
}

func (f *fake) deregister(paths ...string) []uint32 {
	f.t.Helper()
	a := f.ask(&uspmsg.Request{ReqType: &uspmsg.Request_Deregister{Deregister: &uspmsg.Deregister{Paths: paths}}})
	var codes []uint32
	for _, r := range a.GetBody().GetResponse().GetDeregisterResp().GetDeregisteredPathResults() {
		codes = append(codes, r.GetOperStatus().GetOperFailure().GetErrCode())
	}
	return codes
}

func getResp(id string, results ...*uspmsg.GetResp_RequestedPathResult) *uspmsg.Msg {
	return usp.NewResponse(id, &uspmsg.Response{RespType: &uspmsg.Response_GetResp{GetResp: &uspmsg.GetResp{ReqPathResults: results}}})
}

func valuesAt(path, object string, values ...string) *uspmsg.GetResp_RequestedPathResult {
	r := &uspmsg.GetResp_ResolvedPathResult{ResolvedPath: object, ResultParams: map[string]string{}}
	for i := 0; i < len(values); i += 2 {
		r.ResultParams[values[i]] = values[i+1]
	}
	return &uspmsg.GetResp_RequestedPathResult{RequestedPath: path, ResolvedPathResults: []*uspmsg.GetResp_ResolvedPathResult{r}}
}

func modelResp(id string, asked []string, objects ...string) *uspmsg.Msg {
	resp := &uspmsg.GetSupportedDMResp{}
	for _, path := range asked {
		res := &uspmsg.GetSupportedDMResp_RequestedObjectResult{ReqObjPath: path}
		for _, o := range objects {
			res.SupportedObjs = append(res.SupportedObjs, &uspmsg.GetSupportedDMResp_SupportedObjectResult{SupportedObjPath: o,
				SupportedParams:   []*uspmsg.GetSupportedDMResp_SupportedParamResult{{ParamName: "A"}, {ParamName: "B"}},
				SupportedCommands: []*uspmsg.GetSupportedDMResp_SupportedCommandResult{{CommandName: "Do()", CommandType: uspmsg.GetSupportedDMResp_CMD_SYNC}}})
		}
		resp.ReqObjResults = append(resp.ReqObjResults, res)
	}
	return usp.NewResponse(id, &uspmsg.Response{RespType: &uspmsg.Response_GetSupportedDmResp{GetSupportedDmResp: resp}})
}

// simple is a Service with two parameters, whose value is always "v".
func simple(id string, r *uspmsg.Request) *uspmsg.Msg {
	switch t := r.GetReqType().(type) {
	case *uspmsg.Request_GetSupportedDm:
		paths := t.GetSupportedDm.GetObjPaths()
		return modelResp(id, paths, paths...)
	case *uspmsg.Request_Get:
		var out []*uspmsg.GetResp_RequestedPathResult
		for _, p := range t.Get.GetParamPaths() {
			if strings.HasPrefix(p, subTable) {
				out = append(out, &uspmsg.GetResp_RequestedPathResult{RequestedPath: p})
				continue
			}
			object, name := p[:strings.LastIndexByte(p, '.')+1], p[strings.LastIndexByte(p, '.')+1:]
			if name == "" {
				out = append(out, valuesAt(p, object, "A", "v", "B", "v"))
			} else {
				out = append(out, valuesAt(p, object, name, "v"))
			}
		}
		return getResp(id, out...)
	case *uspmsg.Request_Add:
		resp := &uspmsg.AddResp{}
		for i, o := range t.Add.GetCreateObjs() {
			resp.CreatedObjResults = append(resp.CreatedObjResults, &uspmsg.AddResp_CreatedObjectResult{RequestedPath: o.GetObjPath(),
				OperStatus: &uspmsg.AddResp_CreatedObjectResult_OperationStatus{OperStatus: &uspmsg.AddResp_CreatedObjectResult_OperationStatus_OperSuccess{
					OperSuccess: &uspmsg.AddResp_CreatedObjectResult_OperationStatus_OperationSuccess{InstantiatedPath: o.GetObjPath() + strconv.Itoa(i+1) + "."}}}})
		}
		return usp.NewResponse(id, &uspmsg.Response{RespType: &uspmsg.Response_AddResp{AddResp: resp}})
	}
	return usp.ErrorMessage(id, usp.Fault{Code: 7001, Text: "no"})
}

// up registers a path and waits until it is in operation.
func (f *fake) up(r *rig, path string) {
	f.t.Helper()
	if codes := f.register(false, path); len(codes) != 1 || codes[0] != 0 {
		f.t.Fatalf("register %s: %v", path, codes)
	}
	r.eventually("the row of "+f.eid, func() bool { return strings.Contains(r.rows(), f.eid) })
}
