package agent

import (
	"context"
	"testing"
	"time"

	"twinspan/usp"
	"twinspan/usp/mtp"
	"twinspan/usp/uspmsg"
	"twinspan/usp/wire"
)

// FuzzMessage gives the dispatcher any decodable request. It runs on the test's goroutine, so that a panic is seen.
func FuzzMessage(f *testing.F) {
	for _, req := range []*uspmsg.Request{
		{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: []string{"Device.LocalAgent.", "Device.LocalAgent.Controller.[Enable==true].MTP.*.", "Device.LocalAgent.Controller.1.AssignedRole#1+.Name"}, MaxDepth: 2}}},
		{ReqType: &uspmsg.Request_GetInstances{GetInstances: &uspmsg.GetInstances{ObjPaths: []string{"Device.LocalAgent.Controller.", "Device.LocalAgent.Controller.*.MTP."}}}},
		{ReqType: &uspmsg.Request_GetSupportedDm{GetSupportedDm: everything("Device.LocalAgent.Controller.{i}.MTP.", "Device.LocalAgent.Subscription", "Device.Boot!")}},
		{ReqType: &uspmsg.Request_Set{Set: &uspmsg.Set{AllowPartial: true, UpdateObjs: []*uspmsg.Set_UpdateObject{
			set("Device.LocalAgent.Controller.*.", "!ProvisioningCode", "x", "PeriodicNotifInterval", "5"), set("Device.Nothing.", "A", "b")}}}},
		{ReqType: &uspmsg.Request_Add{Add: &uspmsg.Add{AllowPartial: true, CreateObjs: []*uspmsg.Add_CreateObject{goodSub("f"), create("Device.LocalAgent.Controller.*.BootParameter", "Enable", "1")}}}},
		{ReqType: &uspmsg.Request_Delete{Delete: &uspmsg.Delete{AllowPartial: true, ObjPaths: []string{"Device.LocalAgent.Subscription.*.", "Device.LocalAgent.", "Device.LocalAgent.Subscription.9"}}}},
		{ReqType: &uspmsg.Request_Operate{Operate: &uspmsg.Operate{Command: "Device.LocalAgent.Request.*.Cancel()", SendResp: true}}},
		{ReqType: &uspmsg.Request_Operate{Operate: &uspmsg.Operate{Command: "Device.ScheduleTimer()", CommandKey: "k", InputArgs: map[string]string{"DelaySeconds": "1"}}}},
		{ReqType: &uspmsg.Request_Notify{Notify: &uspmsg.Notify{SubscriptionId: "x", Notification: &uspmsg.Notify_Event_{Event: &uspmsg.Notify_Event{}}}}},
		{ReqType: &uspmsg.Request_GetSupportedProtocol{GetSupportedProtocol: &uspmsg.GetSupportedProtocol{}}},
	} {
		b, err := wire.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	r := newRig(f)
	p := r.agent.peerOf(c1ID)
	n := 0
	f.Fuzz(func(t *testing.T, b []byte) {
		req := new(uspmsg.Request)
		if wire.Unmarshal(b, req) != nil {
			return
		}
		payload, err := wire.Marshal(usp.NewRequest("fuzz", req))
		if err != nil {
			return
		}
		m, err := usp.DecodeMessage(payload, usp.DefaultLimits())
		if err != nil {
			return
		}
		if n++; n%200 == 0 { // keep the tree small
			p.a.serve(context.Background(), p, mtp.Inbound{}, "clean", &uspmsg.Request{ReqType: &uspmsg.Request_Delete{Delete: &uspmsg.Delete{
				AllowPartial: true, ObjPaths: []string{"Device.LocalAgent.Subscription.*."}}}}, nil)
		}
		answers := 0
		in := mtp.Inbound{From: mtp.Identity{Local: true}, Reject: func(string) {}, Reply: func(_ context.Context, rec []byte) error {
			answers++
			if _, err := usp.OpenRecord(rec, c1ID, usp.Limits{RecordSize: 64 << 20, Items: 1 << 24}); err != nil {
				t.Errorf("the answer is no record: %v", err)
			}
			return nil
		}}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		p.a.serve(ctx, p, in, "fuzz", m.GetBody().GetRequest(), p.ticketAndLeave(req))
		if op := req.GetOperate(); answers != 1 && (op == nil || op.SendResp) {
			t.Errorf("%d answers", answers)
		}
	})
}

// ticketAndLeave exercises the ordering without keeping a place.
func (p *peer) ticketAndLeave(req *uspmsg.Request) *writeSlot {
	p.leave(p.ticket(req))
	return nil
}

// FuzzRecord gives the agent any bytes as a record.
func FuzzRecord(f *testing.F) {
	rec, err := usp.WrapMessage(c1ID, agentID, usp.NewRequest("x", &uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: []string{"Device.LocalAgent.UpTime"}}}}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(rec)
	f.Add(usp.DisconnectRecord(c1ID, agentID, 7105, "bye"))
	f.Add(usp.WebSocketConnect(c1ID, agentID))
	f.Add([]byte{})
	r := newRig(f)
	h := r.agent.Handler(false)
	f.Fuzz(func(_ *testing.T, b []byte) {
		h.HandleRecord(context.Background(), mtp.Inbound{Record: b, From: mtp.Identity{Local: true}, LinkID: 5, Transport: "Fuzz",
			Reject: func(string) {}, Reply: func(context.Context, []byte) error { return nil }})
	})
}
