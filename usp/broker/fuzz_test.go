package broker_test

import (
	"testing"
	"time"

	"twinspan/usp"
	"twinspan/usp/uspmsg"
	"twinspan/usp/wire"
)

// FuzzServiceMessage sends whatever bytes as a message of a Service: the agent goes on, its own tree is as it was, and the Service can
// still register.
func FuzzServiceMessage(f *testing.F) {
	r := newRig(f)
	bad := r.fake("self::bad")
	bad.up(r, fakePath)
	ctx := f.Context()
	for _, m := range []*uspmsg.Msg{
		usp.NewRequest("1", &uspmsg.Request{ReqType: &uspmsg.Request_Register{Register: &uspmsg.Register{RegPaths: []*uspmsg.Register_RegistrationPath{{Path: "Device.X_A."}, {Path: "Device."}}}}}),
		usp.NewRequest("1", &uspmsg.Request{ReqType: &uspmsg.Request_Deregister{Deregister: &uspmsg.Deregister{Paths: []string{"", "Device.X_A."}}}}),
		usp.NewRequest("1", &uspmsg.Request{ReqType: &uspmsg.Request_Notify{Notify: &uspmsg.Notify{SubscriptionId: "twinspan-broker-0", SendResp: true,
			Notification: &uspmsg.Notify_OperComplete{OperComplete: &uspmsg.Notify_OperationComplete{ObjPath: fakePath, CommandName: "Do()",
				OperationResp: &uspmsg.Notify_OperationComplete_ReqOutputArgs{ReqOutputArgs: &uspmsg.Notify_OperationComplete_OutputArgs{OutputArgs: map[string]string{"a": "b"}}}}}}}}),
		getResp("b1", valuesAt(fakePath, fakePath, "A", "x")), modelResp("b1", []string{fakePath}, fakePath, "Device."),
		usp.ErrorMessage("b1", usp.Fault{Code: 7000, Text: "x"}),
	} {
		payload, err := wire.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) == 0 || len(payload) > 64<<10 {
			return
		}
		_ = bad.c.Send(ctx, "", usp.WrapPayload(bad.eid, agentID, payload))
		if v, err := r.full.Value(ctx, "Device.DeviceInfo.SerialNumber"); err != nil || v != "1" {
			t.Fatalf("%q %v", v, err)
		}
		// A link that was ended comes back, and registering works on it.
		m := usp.NewRequest("again", &uspmsg.Request{ReqType: &uspmsg.Request_Register{Register: &uspmsg.Register{RegPaths: []*uspmsg.Register_RegistrationPath{{Path: fakePath}}}}})
		deadline := time.Now().Add(patience)
		for {
			bad.send(m)
			select {
			case a := <-bad.got:
				if a.GetHeader().GetMsgId() == "again" && a.GetBody().GetResponse().GetRegisterResp() != nil {
					return
				}
			case <-time.After(100 * time.Millisecond):
			}
			if time.Now().After(deadline) {
				t.Fatal("the Broker does not register any more")
			}
		}
	})
}
