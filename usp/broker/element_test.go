package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"twinspan/usp"
	"twinspan/usp/service/clock"
	"twinspan/usp/uspmsg"
)

// A Service may have single elements of an object that is the agent's own.
func TestSingleElementsInAnObjectOfTheAgent(t *testing.T) {
	r := newRig(t)
	ctx := timed(t)
	const object, param, command = "Device.DeviceInfo.", "X_Own", "X_Do()"
	value := "v"
	f := r.fake("self::fake")
	f.behave(func(id string, req *uspmsg.Request) *uspmsg.Msg {
		switch {
		case req.GetGetSupportedDm() != nil: // more than was registered, as a Service of an older version tells
			o := &uspmsg.GetSupportedDMResp_SupportedObjectResult{SupportedObjPath: object,
				SupportedParams:   []*uspmsg.GetSupportedDMResp_SupportedParamResult{{ParamName: param}, {ParamName: "SerialNumber"}},
				SupportedCommands: []*uspmsg.GetSupportedDMResp_SupportedCommandResult{{CommandName: command}}}
			resp := &uspmsg.GetSupportedDMResp{}
			for _, p := range req.GetGetSupportedDm().GetObjPaths() {
				resp.ReqObjResults = append(resp.ReqObjResults, &uspmsg.GetSupportedDMResp_RequestedObjectResult{ReqObjPath: p,
					SupportedObjs: []*uspmsg.GetSupportedDMResp_SupportedObjectResult{o}})
			}
			return usp.NewResponse(id, &uspmsg.Response{RespType: &uspmsg.Response_GetSupportedDmResp{GetSupportedDmResp: resp}})
		case req.GetGet() != nil && req.GetGet().GetParamPaths()[0] == object+param:
			return getResp(id, valuesAt(object+param, object, param, value, "SerialNumber", "forged"))
		case req.GetSet() != nil:
			u := req.GetSet().GetUpdateObjs()[0]
			value = u.GetParamSettings()[0].GetValue()
			return usp.NewResponse(id, &uspmsg.Response{RespType: &uspmsg.Response_SetResp{SetResp: &uspmsg.SetResp{
				UpdatedObjResults: []*uspmsg.SetResp_UpdatedObjectResult{{RequestedPath: u.GetObjPath(), OperStatus: &uspmsg.SetResp_UpdatedObjectResult_OperationStatus{
					OperStatus: &uspmsg.SetResp_UpdatedObjectResult_OperationStatus_OperSuccess{OperSuccess: &uspmsg.SetResp_UpdatedObjectResult_OperationStatus_OperationSuccess{
						UpdatedInstResults: []*uspmsg.SetResp_UpdatedInstanceResult{{AffectedPath: object, UpdatedParams: map[string]string{param: value}}}}}}}}}}})
		case req.GetOperate() != nil:
			return operated(id, req.GetOperate().GetCommand())
		}
		return simple(id, req)
	})
	if codes := f.register(false, object+param, object+command); !slices.Equal(codes, []uint32{0, 0}) {
		t.Fatal(codes)
	}
	r.eventually("the row", func() bool { return strings.Contains(r.rows(), "fake") })
	if v, err := r.full.Value(ctx, object+param); err != nil || v != "v" {
		t.Errorf("%q %v", v, err)
	}
	all, err := r.full.GetDepth(ctx, 1, object)
	if err != nil || all[object+param] != "v" || all[object+"SerialNumber"] != "1" {
		t.Errorf("%v %v", all, err)
	}
	if all, err := r.full.GetDepth(ctx, 1, "Device."); err != nil || all[object+param] != "" {
		t.Errorf("too deep: %v %v", all[object+param], err)
	}
	check(t, r.full.Set(ctx, map[string]string{object + param: "new"}))
	if v, err := r.full.Value(ctx, object+param); err != nil || v != "new" {
		t.Errorf("%q %v", v, err)
	}
	check(t, r.full.Set(ctx, map[string]string{object + "ProvisioningCode": "own"}))
	if out, _, err := r.full.Operate(ctx, object+command, "", nil); err != nil || out["Out"] != "done" {
		t.Errorf("%v %v", out, err)
	}
	res, err := r.full.SupportedDM(ctx, false, object)
	check(t, err)
	seen := map[string]int{}
	for _, o := range res[0].GetSupportedObjs() {
		if o.GetSupportedObjPath() == object {
			for _, p := range o.GetSupportedParams() {
				seen[p.GetParamName()]++
			}
		}
	}
	if seen[param] != 1 || seen["SerialNumber"] != 1 {
		t.Errorf("%v", seen)
	}
	if res, err := r.full.SupportedDM(ctx, false, object+param); err != nil || res[0].GetErrCode() != 0 || len(res[0].GetSupportedObjs()) != 1 {
		t.Errorf("%v %v", res, err)
	}
}

func operated(id, command string) *uspmsg.Msg {
	return usp.NewResponse(id, &uspmsg.Response{RespType: &uspmsg.Response_OperateResp{OperateResp: &uspmsg.OperateResp{
		OperationResults: []*uspmsg.OperateResp_OperationResult{{ExecutedCommand: command, OperationResp: &uspmsg.OperateResp_OperationResult_ReqOutputArgs{
			ReqOutputArgs: &uspmsg.OperateResp_OperationResult_OutputArgs{OutputArgs: map[string]string{"Out": "done"}}}}}}}})
}

// A search in a command runs it in each row, on its own; a row of another object that a Service slips in is left out.
func TestCommandInEveryRow(t *testing.T) {
	r := newRig(t)
	ctx := timed(t)
	f := r.fake("self::fake")
	ran := make(chan string, 10)
	f.behave(func(id string, req *uspmsg.Request) *uspmsg.Msg {
		switch {
		case req.GetGetSupportedDm() != nil:
			return modelResp(id, []string{fakePath}, fakePath, fakePath+"T.{i}.")
		case req.GetGet() != nil && strings.HasPrefix(req.GetGet().GetParamPaths()[0], fakePath):
			res := valuesAt(req.GetGet().GetParamPaths()[0], fakePath+"T.1.", "A", "")
			for _, row := range []string{fakePath + "T.3.", "Device.LocalAgent.Controller.1.", fakePath} {
				res.ResolvedPathResults = append(res.ResolvedPathResults, valuesAt("", row, "A", "").ResolvedPathResults...)
			}
			return getResp(id, res)
		case req.GetOperate() != nil:
			ran <- req.GetOperate().GetCommand()
			return operated(id, req.GetOperate().GetCommand())
		}
		return simple(id, req)
	})
	f.up(r, fakePath)
	operate := func(command string, answer bool) (*uspmsg.OperateResp, error) {
		resp, err := r.full.Request(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Operate{Operate: &uspmsg.Operate{Command: command, SendResp: answer}}})
		return resp.GetOperateResp(), err
	}
	resp, err := operate(fakePath+"T.*.Do()", true)
	check(t, err)
	var got []string
	for _, x := range resp.GetOperationResults() {
		got = append(got, x.GetExecutedCommand())
	}
	want := []string{fakePath + "T.1.Do()", fakePath + "T.3.Do()"}
	if !slices.Equal(got, want) || <-ran != want[0] || <-ran != want[1] {
		t.Errorf("ran %v", got)
	}
	if _, err := operate(fakePath+"T.1.Nothing()", true); code(err) != 7026 {
		t.Errorf("%v", err)
	}
	// Without send_resp only failures are told. // TP-469 1.65
	check(t, r.full.Send(ctx, usp.NewRequest("quiet", &uspmsg.Request{ReqType: &uspmsg.Request_Operate{Operate: &uspmsg.Operate{Command: fakePath + "Do()"}}})))
	if c := <-ran; c != fakePath+"Do()" {
		t.Errorf("ran %s", c)
	}
}

// BenchmarkGetFromAService is a Get of one parameter: Controller, agent, Service and back, over two Unix sockets.
func BenchmarkGetFromAService(b *testing.B) {
	b.Run("agent", func(b *testing.B) { benchGet(b, "Device.DeviceInfo.SerialNumber") })
	b.Run("service", func(b *testing.B) { benchGet(b, clock.Path+"Offset") })
}

func benchGet(b *testing.B, path string) {
	r := newRig(b)
	r.clock("self::clock")
	ctx := b.Context()
	b.ResetTimer()
	for b.Loop() {
		if _, err := r.full.Value(ctx, path); err != nil {
			b.Fatal(fmt.Sprint(path, err))
		}
	}
}
