package usp

import (
	"errors"
	"path/filepath"
	"reflect"
	"testing"

	"twinspan/usp/uspmsg"
	"twinspan/usp/wire"
)

// seedMessages are one message of every kind that a fuzzer should know.
func seedMessages() []*uspmsg.Msg {
	m := map[string]string{"Name": "v"}
	return []*uspmsg.Msg{
		getMsg("1", "Device.DeviceInfo.", "Device.IP.Interface.*.Enable"),
		NewRequest("2", &uspmsg.Request{ReqType: &uspmsg.Request_Set{Set: &uspmsg.Set{AllowPartial: true, UpdateObjs: []*uspmsg.Set_UpdateObject{
			{ObjPath: "Device.X.", ParamSettings: []*uspmsg.Set_UpdateParamSetting{{Param: "A", Value: "1", Required: true}}}}}}}),
		NewRequest("3", &uspmsg.Request{ReqType: &uspmsg.Request_Operate{Operate: &uspmsg.Operate{Command: "Device.Reboot()", CommandKey: "k", SendResp: true, InputArgs: m}}}),
		NewRequest("4", &uspmsg.Request{ReqType: &uspmsg.Request_Notify{Notify: &uspmsg.Notify{SubscriptionId: "s", SendResp: true,
			Notification: &uspmsg.Notify_Event_{Event: &uspmsg.Notify_Event{ObjPath: "Device.", EventName: "Boot!", Params: m}}}}}),
		NewResponse("5", &uspmsg.Response{RespType: &uspmsg.Response_GetResp{GetResp: &uspmsg.GetResp{ReqPathResults: []*uspmsg.GetResp_RequestedPathResult{
			{RequestedPath: "Device.", ResolvedPathResults: []*uspmsg.GetResp_ResolvedPathResult{{ResolvedPath: "Device.", ResultParams: m}}}}}}}),
		NewResponse("6", &uspmsg.Response{RespType: &uspmsg.Response_SetResp{SetResp: &uspmsg.SetResp{UpdatedObjResults: []*uspmsg.SetResp_UpdatedObjectResult{
			{RequestedPath: "Device.", OperStatus: &uspmsg.SetResp_UpdatedObjectResult_OperationStatus{
				OperStatus: &uspmsg.SetResp_UpdatedObjectResult_OperationStatus_OperSuccess{
					OperSuccess: &uspmsg.SetResp_UpdatedObjectResult_OperationStatus_OperationSuccess{}}}}}}}}),
		ErrorMessage("7", Fault{Code: CodeInternal, Text: "x"}, &uspmsg.Error_ParamError{ParamPath: "Device.X", ErrCode: 7010}),
	}
}

// FuzzMessage: whatever decodes is valid, encodes again, and decodes to an equal message; whatever does not gives a
// *MessageError whose reply can be sent.
func FuzzMessage(f *testing.F) {
	for _, m := range seedMessages() {
		f.Add(encode(f, m))
	}
	lim := Limits{RecordSize: 64 << 10, Items: 1000}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := DecodeMessage(data, lim)
		if err != nil {
			var me *MessageError
			if !errors.As(err, &me) || me.Code == 0 || me.Text == "" {
				t.Fatalf("error %#v", err)
			}
			if me.Answer {
				if _, err := WrapMessage(self, peer, me.Reply()); err != nil {
					t.Fatalf("reply cannot be sent: %v", err)
				}
			}
			return
		}
		out, err := wire.Marshal(m)
		if err != nil {
			t.Fatalf("encode: %v", err)
		}
		again, err := DecodeMessage(out, lim)
		if err != nil {
			t.Fatalf("decode again: %v", err)
		}
		if !reflect.DeepEqual(m, again) {
			t.Fatalf("changed:\n%v\n%v", m, again)
		}
		if TypeOf(m) == uspmsg.Header_ERROR && m.Body.GetError() == nil {
			t.Fatal("a message without a type was taken")
		}
	})
}

// FuzzRecord: as FuzzMessage, and the payload of a record survives wrapping.
func FuzzRecord(f *testing.F) {
	for _, m := range seedMessages() {
		f.Add(mustWrap(f, peer, self, m))
	}
	f.Add(WebSocketConnect(peer, self))
	f.Add(MQTTConnect(peer, self, "a/b"))
	f.Add(DisconnectRecord(peer, self, CodeSessionTerminated, "bye"))
	lim := Limits{RecordSize: 64 << 10, Items: 1000}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := OpenRecord(data, self, lim)
		if err != nil {
			var re *RecordError
			if !errors.As(err, &re) || re.Code < 7100 || re.Text == "" || re.Action == Disconnect && re.Peer == "" {
				t.Fatalf("error %#v", err)
			}
			return
		}
		if r.Kind != KindMessage {
			out, err := wire.Marshal(r.Raw)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := OpenRecord(out, self, lim); err != nil || again.Kind != r.Kind {
				t.Fatalf("record changed: %v %v", again, err)
			}
			return
		}
		again, err := OpenRecord(WrapPayload(r.From, r.To, r.Payload), self, Limits{RecordSize: 128 << 10, Items: 1000})
		if err != nil || string(again.Payload) != string(r.Payload) || again.From != r.From {
			t.Fatalf("payload changed: %v", err)
		}
	})
}

// TestCorpusIsThere: the corpus in testdata/fuzz is part of the tests; an empty folder would go unnoticed.
func TestCorpusIsThere(t *testing.T) {
	for _, name := range []string{"FuzzRecord", "FuzzMessage"} {
		if files, _ := filepath.Glob(filepath.Join("testdata", "fuzz", name, "*")); len(files) < 3 {
			t.Errorf("%s has %d corpus files", name, len(files))
		}
	}
}
