package usp

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"twinspan/cmd/internal/conform"
	core "twinspan/usp"
	"twinspan/usp/uspmsg"
)

// T is a test while it runs. Methods that find something wrong end the test, by a panic that the runner catches, as
// package testing ends tests: that keeps a metric of ten points readable.
type T struct {
	ctx          context.Context
	cfg          *Config
	b            *bench
	main, second *Peer
	seen         []string // evidence
	trace        []string // evidence and every answer, for tests that fail
	cleanup      []func()
}

// stop ends a test.
type stop struct {
	verdict conform.Verdict
	text    string
}

// Names that nearly every test uses.
const (
	subs     = "Device.LocalAgent.Subscription."
	ctls     = "Device.LocalAgent.Controller."
	invalid  = "Device.LocalAgent.InvalidObject."
	answerIn = 15 * time.Second // for one answer
)

func (t *T) fail(format string, args ...any) {
	panic(stop{conform.Fail, fmt.Sprintf(format, args...)})
}

func (t *T) want(ok bool, format string, args ...any) {
	if !ok {
		t.fail(format, args...)
	}
}

func (t *T) see(format string, args ...any) {
	t.seen = append(t.seen, fmt.Sprintf(format, args...))
	t.trace = append(t.trace, t.seen[len(t.seen)-1])
}

func (t *T) later(f func()) { t.cleanup = append(t.cleanup, f) }

func (t *T) sleep(d time.Duration) {
	if err := sleep(t.ctx, d); err != nil {
		t.fail("the run was stopped: %v", err)
	}
}

// Requests.

type setting struct {
	name, value string
	required    bool
}

func req(name, value string) setting { return setting{name, value, true} }
func opt(name, value string) setting { return setting{name, value, false} }

// object is one element of an Add or Set.
type object struct {
	path     string
	settings []setting
}

func obj(path string, s ...setting) object { return object{path, s} }

// ask sends a request as a Controller and returns whatever answers.
func (t *T) ask(p *Peer, r *uspmsg.Request) *uspmsg.Msg {
	ctx, cancel := context.WithTimeout(t.ctx, t.cfg.wait(answerIn))
	defer cancel()
	m, err := p.Request(ctx, r)
	if err != nil {
		t.fail("%v", err)
	}
	if e := m.GetBody().GetError(); e != nil {
		t.see("Error %d %s%s", e.GetErrCode(), e.GetErrMsg(), paramErrs(e))
	} else {
		t.trace = append(t.trace, core.TypeOf(m).String())
	}
	return m
}

func paramErrs(e *uspmsg.Error) string {
	var b strings.Builder
	for _, p := range e.GetParamErrs() {
		fmt.Fprintf(&b, "; %s: %d %s", p.GetParamPath(), p.GetErrCode(), p.GetErrMsg())
	}
	return b.String()
}

func addRequest(partial bool, objs []object) *uspmsg.Request {
	m := &uspmsg.Add{AllowPartial: partial}
	for _, o := range objs {
		c := &uspmsg.Add_CreateObject{ObjPath: o.path}
		for _, s := range o.settings {
			c.ParamSettings = append(c.ParamSettings, &uspmsg.Add_CreateParamSetting{Param: s.name, Value: s.value, Required: s.required})
		}
		m.CreateObjs = append(m.CreateObjs, c)
	}
	return &uspmsg.Request{ReqType: &uspmsg.Request_Add{Add: m}}
}

func (t *T) addMsg(p *Peer, partial bool, objs ...object) *uspmsg.Msg {
	m := t.ask(p, addRequest(partial, objs))
	for _, r := range m.GetBody().GetResponse().GetAddResp().GetCreatedObjResults() { // whatever was made goes away again
		if row := r.GetOperStatus().GetOperSuccess().GetInstantiatedPath(); row != "" {
			t.later(func() { t.drop(row) })
		}
	}
	return m
}

// drop deletes rows that may be gone already.
func (t *T) drop(paths ...string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), answerIn)
	defer cancel()
	_, err := t.main.Request(ctx, deleteRequest(true, paths))
	if err != nil {
		panic(stop{conform.Fail, fmt.Sprintf("tidying up: %v", err)})
	}
}

func deleteRequest(partial bool, paths []string) *uspmsg.Request {
	return &uspmsg.Request{ReqType: &uspmsg.Request_Delete{Delete: &uspmsg.Delete{AllowPartial: partial, ObjPaths: paths}}}
}

// response fails the test unless the message is a response; an Error is shown.
func (t *T) response(m *uspmsg.Msg) *uspmsg.Response {
	r := m.GetBody().GetResponse()
	if r == nil {
		e := m.GetBody().GetError()
		t.fail("Error %d %s%s instead of a response", e.GetErrCode(), e.GetErrMsg(), paramErrs(e))
	}
	return r
}

// add sends an Add as the main Controller and returns its results.
func (t *T) add(partial bool, objs ...object) []*uspmsg.AddResp_CreatedObjectResult {
	resp := t.response(t.addMsg(t.main, partial, objs...)).GetAddResp()
	t.want(resp != nil, "the answer is no AddResp")
	return resp.GetCreatedObjResults()
}

// made is add of rows that must all be made without any fault; it returns their paths.
func (t *T) made(objs ...object) []string {
	var rows []string
	for _, r := range t.add(false, objs...) {
		rows = append(rows, t.added(r).GetInstantiatedPath())
	}
	return rows
}

// added is the success of one result, without param_errs.
func (t *T) added(r *uspmsg.AddResp_CreatedObjectResult) *uspmsg.AddResp_CreatedObjectResult_OperationStatus_OperationSuccess {
	s := r.GetOperStatus().GetOperSuccess()
	if s == nil {
		f := r.GetOperStatus().GetOperFailure()
		t.fail("oper_failure %d %s for %s", f.GetErrCode(), f.GetErrMsg(), r.GetRequestedPath())
	}
	t.want(len(s.GetParamErrs()) == 0, "param_errs in a valid Add: %v", s.GetParamErrs())
	t.want(numeric.MatchString(s.GetInstantiatedPath()), "instantiated_path %q is not an instance path", s.GetInstantiatedPath())
	return s
}

// numeric: an instance path by instance number only.
var numeric = regexp.MustCompile(`^Device\.([A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+\.[1-9][0-9]*\.$`)

func (t *T) set(p *Peer, partial bool, objs ...object) *uspmsg.Msg {
	m := &uspmsg.Set{AllowPartial: partial}
	for _, o := range objs {
		c := &uspmsg.Set_UpdateObject{ObjPath: o.path}
		for _, s := range o.settings {
			c.ParamSettings = append(c.ParamSettings, &uspmsg.Set_UpdateParamSetting{Param: s.name, Value: s.value, Required: s.required})
		}
		m.UpdateObjs = append(m.UpdateObjs, c)
	}
	return t.ask(p, &uspmsg.Request{ReqType: &uspmsg.Request_Set{Set: m}})
}

// setResults of a Set that must be answered by a SetResp.
func (t *T) setResults(partial bool, objs ...object) []*uspmsg.SetResp_UpdatedObjectResult {
	resp := t.response(t.set(t.main, partial, objs...)).GetSetResp()
	t.want(resp != nil, "the answer is no SetResp")
	return resp.GetUpdatedObjResults()
}

// updated checks that a result is a success with n instances that hold exactly the named parameters.
func (t *T) updated(r *uspmsg.SetResp_UpdatedObjectResult, n int, params ...string) []*uspmsg.SetResp_UpdatedInstanceResult {
	s := r.GetOperStatus().GetOperSuccess()
	t.want(s != nil, "%s: no oper_success but %v", r.GetRequestedPath(), r.GetOperStatus().GetOperFailure())
	t.want(len(s.GetUpdatedInstResults()) == n, "%s: %d updated instances instead of %d", r.GetRequestedPath(), len(s.GetUpdatedInstResults()), n)
	for _, i := range s.GetUpdatedInstResults() {
		t.want(numeric.MatchString(i.GetAffectedPath()), "affected_path %q is not an instance path by number", i.GetAffectedPath())
		got := slices.Sorted(maps.Keys(i.GetUpdatedParams()))
		t.want(slices.Equal(got, params), "updated_params of %s are %v instead of %v", i.GetAffectedPath(), got, params)
	}
	return s.GetUpdatedInstResults()
}

// write sets parameters that the bench needs set.
func (t *T) write(path string, s ...setting) {
	for _, r := range t.setResults(false, obj(path, s...)) {
		t.want(r.GetOperStatus().GetOperSuccess() != nil && len(r.GetOperStatus().GetOperSuccess().GetUpdatedInstResults()) > 0, "%s was not set: %v", path, r)
	}
}

func (t *T) del(p *Peer, partial bool, paths ...string) *uspmsg.Msg {
	return t.ask(p, deleteRequest(partial, paths))
}

func (t *T) delResults(partial bool, paths ...string) []*uspmsg.DeleteResp_DeletedObjectResult {
	resp := t.response(t.del(t.main, partial, paths...)).GetDeleteResp()
	t.want(resp != nil, "the answer is no DeleteResp")
	res := resp.GetDeletedObjResults()
	t.want(len(res) == len(paths), "%d results for %d paths", len(res), len(paths))
	for i, r := range res {
		t.want(r.GetRequestedPath() == paths[i], "requested_path %q instead of %q", r.GetRequestedPath(), paths[i])
	}
	return res
}

// deleted checks that a result is a success that lists exactly these rows.
func (t *T) deleted(r *uspmsg.DeleteResp_DeletedObjectResult, rows ...string) {
	s := r.GetOperStatus().GetOperSuccess()
	t.want(s != nil, "%s: no oper_success but %v", r.GetRequestedPath(), r.GetOperStatus().GetOperFailure())
	t.want(len(s.GetUnaffectedPathErrs()) == 0, "%s: unaffected %v", r.GetRequestedPath(), s.GetUnaffectedPathErrs())
	got := slices.Sorted(slices.Values(s.GetAffectedPaths()))
	slices.Sort(rows)
	t.want(slices.Equal(got, rows), "%s: affected_paths %v instead of %v", r.GetRequestedPath(), got, rows)
}

func (t *T) getMsg(p *Peer, depth uint32, paths ...string) []*uspmsg.GetResp_RequestedPathResult {
	m := t.ask(p, &uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: paths, MaxDepth: depth}}})
	resp := t.response(m).GetGetResp()
	t.want(resp != nil, "the answer is no GetResp")
	res := resp.GetReqPathResults()
	t.want(len(res) == len(paths), "%d req_path_results for %d paths", len(res), len(paths))
	for i, r := range res {
		t.want(r.GetRequestedPath() == paths[i], "requested_path %q instead of %q", r.GetRequestedPath(), paths[i])
		for _, o := range r.GetResolvedPathResults() {
			t.want(strings.HasSuffix(o.GetResolvedPath(), ".") && !strings.ContainsAny(o.GetResolvedPath(), "[*"), "resolved_path %q is not one object", o.GetResolvedPath())
			for k := range o.GetResultParams() {
				t.want(!strings.Contains(k, "."), "result_params of %s holds %q, which is not its own", o.GetResolvedPath(), k)
			}
		}
	}
	return res
}

// get reads paths as the main Controller.
func (t *T) get(paths ...string) []*uspmsg.GetResp_RequestedPathResult {
	return t.getMsg(t.main, 0, paths...)
}

// ok checks that a result is no error and has n objects.
func (t *T) ok(r *uspmsg.GetResp_RequestedPathResult, n int) []*uspmsg.GetResp_ResolvedPathResult {
	t.want(r.GetErrCode() == 0, "%s: err_code %d %s", r.GetRequestedPath(), r.GetErrCode(), r.GetErrMsg())
	t.want(n < 0 || len(r.GetResolvedPathResults()) == n, "%s: %d resolved paths instead of %d", r.GetRequestedPath(), len(r.GetResolvedPathResults()), n)
	return r.GetResolvedPathResults()
}

// object checks that one resolved result is this object with exactly these parameters; no names: any.
func (t *T) object(o *uspmsg.GetResp_ResolvedPathResult, path string, names ...string) {
	t.want(o.GetResolvedPath() == path, "resolved_path %q instead of %q", o.GetResolvedPath(), path)
	if len(names) > 0 {
		got := slices.Sorted(maps.Keys(o.GetResultParams()))
		slices.Sort(names)
		t.want(slices.Equal(got, names), "%s has %v instead of %v", path, got, names)
	}
}

// value reads one parameter.
func (t *T) value(path string) string { return t.valueAs(t.main, path) }

func (t *T) valueAs(p *Peer, path string) string {
	i := strings.LastIndexByte(path, '.') + 1
	o := t.ok(t.getMsg(p, 0, path)[0], 1)[0]
	v, there := o.GetResultParams()[path[i:]]
	t.want(there, "%s is not in the answer to its Get", path)
	return v
}

func (t *T) holds(path, want string) {
	got := t.value(path)
	t.want(got == want, "%s is %q instead of %q", path, got, want)
}

// rows that match a search path, sorted.
func (t *T) rows(path string) []string {
	var out []string
	for _, o := range t.ok(t.get(path)[0], -1) {
		out = append(out, o.GetResolvedPath())
	}
	slices.Sort(out)
	return out
}

// fault checks that a message is an Error with exactly n param_errs, each with a fitting code, and returns them.
func (t *T) fault(m *uspmsg.Msg, n int, codes ...uint32) []*uspmsg.Error_ParamError {
	e := m.GetBody().GetError()
	t.want(e != nil, "%s instead of an Error", core.TypeOf(m))
	t.fits(e.GetErrCode(), append(outerCodes, codes...))
	if n >= 0 {
		t.want(len(e.GetParamErrs()) == n, "%d param_errs instead of %d", len(e.GetParamErrs()), n)
	} else {
		t.want(len(e.GetParamErrs()) >= -n, "%d param_errs instead of %d at least", len(e.GetParamErrs()), -n)
	}
	for _, p := range e.GetParamErrs() {
		t.fits(p.GetErrCode(), codes)
	}
	return e.GetParamErrs()
}

// outerCodes fit an Error that param_errs explain.
var outerCodes = []uint32{7000, 7004, 7009, 7015, 7017, 7020, 7021}

// Codes that fit, by situation.
var (
	badValue     = []uint32{7011, 7012}
	noObject     = []uint32{7026, 7016}
	noParameter  = []uint32{7010, 7026}
	objectFailed = []uint32{7004, 7015, 7017, 7020, 7021}
	frozen       = []uint32{7013, 7012, 7014, 7004}
)

func (t *T) fits(code uint32, codes []uint32) {
	t.want(slices.Contains(codes, code), "err_code %d does not fit; it should be of %v", code, codes)
}

// subscription is a valid Subscription to a parameter that never changes.
func subscription(id string, more ...setting) object {
	return obj(subs, append([]setting{req("ID", id), req("Enable", "true"), req("NotifType", "ValueChange"),
		req("ReferenceList", "Device.LocalAgent.SoftwareVersion")}, more...)...)
}

// silence fails when something that fits arrives within d.
func (t *T) silence(p *Peer, from int, d time.Duration, what string, fits func(*Arrival) bool) {
	ctx, cancel := context.WithTimeout(t.ctx, d)
	defer cancel()
	if a, err := p.Wait(ctx, from, fits); err == nil {
		t.fail("%s came after all: %v", what, a.Msg)
	}
	t.see("no %s for %s", what, d)
}

// await waits for something that fits.
func (t *T) await(p *Peer, from int, d time.Duration, what string, fits func(*Arrival) bool) *Arrival {
	a, err := waitFor(t.ctx, p, from, t.cfg.wait(d), fits)
	if err != nil {
		t.fail("no %s within %s", what, d)
	}
	t.see("%s", what)
	return a
}

// notified fits a Notify of one subscription.
func notified(id string) func(*Arrival) bool {
	return func(a *Arrival) bool {
		return a.notify() != nil && strings.EqualFold(a.notify().GetSubscriptionId(), id)
	}
}

// controllerRow is the row of a Controller.
func (t *T) controllerRow(p *Peer) string {
	rows := t.rows(ctls + `[EndpointID=="` + p.ID + `"].EndpointID`)
	t.want(len(rows) == 1, "%d Controller rows for %s", len(rows), p.ID)
	return rows[0]
}

func seconds(d time.Duration) string { return fmt.Sprintf("%d", int(d/time.Second)) }

// open gives the test a bench of its own, which ends with it.
func (t *T) open(v variant) {
	b, err := openBench(t.ctx, t.cfg, v)
	if err != nil {
		t.fail("%v", err)
	}
	t.b, t.main, t.second = b, b.main, b.second
	t.cleanup = append([]func(){b.close}, t.cleanup...) // last of all
}

// alive waits until the agent answers, which after a lost connection takes as long as its back-off.
func (t *T) alive() {
	ask := &uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: []string{local + "EndpointID"}}}}
	for began := time.Now(); time.Since(began) < 40*time.Second; {
		ctx, cancel := context.WithTimeout(t.ctx, 2*time.Second)
		_, err := t.main.Request(ctx, ask)
		cancel()
		if err == nil {
			return
		}
		t.sleep(50 * time.Millisecond)
	}
	t.fail("the agent does not answer any more")
}

// eventually waits until something holds.
func (t *T) eventually(d time.Duration, f func() bool, format string, args ...any) {
	for began := time.Now(); !f(); t.sleep(50 * time.Millisecond) {
		if time.Since(began) > d {
			t.fail(format, args...)
		}
	}
}
