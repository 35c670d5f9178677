package agent

import (
	"testing"
	"time"
)

// ScheduleTimer() outlives a restart; other commands, and Subscriptions without Persistent, do not.
func TestRestart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.c1
	c.subscribe("kept", "OperationComplete", "Device.", "Persistent", "true")
	c.subscribe("lost", "OperationComplete", "Device.")
	began := time.Now()
	if res := c.operateResp("Device.ScheduleTimer()", "over", "DelaySeconds", "2"); res.GetReqObjPath() == "" {
		t.Fatal(res)
	}
	if res := c.operateResp("Device.ScheduleTimer()", "canceled", "DelaySeconds", "100"); c.operateResp(res.GetReqObjPath()+"Cancel()", "").GetReqOutputArgs() == nil {
		t.Fatal(res)
	}
	for range 2 {
		if n := c.note(soon).GetOperComplete(); n.GetCommandKey() != "canceled" {
			t.Fatal(n)
		}
	}
	for len(c.records) > 0 {
		<-c.records
	}
	r.restart()
	if rec := <-c.records; rec.GetDisconnect() == nil { // R-MTP.7
		t.Errorf("not a goodbye: %v", rec)
	}
	if rec := <-c.records; rec.GetWebsocketConnect() == nil { // R-MTP.6
		t.Errorf("not a connect: %v", rec)
	}
	if ids := c.subIDs(); !ids["kept"] || ids["lost"] {
		t.Errorf("subscriptions %v", ids)
	}
	if v, _ := c.get1("Device.LocalAgent.Request.1.CommandKey"); v != "over" {
		t.Errorf("the Request row is not back: %q", v)
	}
	n := c.note(soon)
	if d := time.Since(began); d < 1900*time.Millisecond {
		t.Errorf("ended after %s", d)
	}
	if oc := n.GetOperComplete(); n.SubscriptionId != "kept" || oc.GetCommandKey() != "over" || oc.GetReqOutputArgs() == nil {
		t.Errorf("%v", n.Notify)
	}
	c.quiet(while)
	r.settle()
	if err := r.store.Records(timerBucket, func(key string, _ []byte) bool { t.Errorf("record %s is left", key); return true }); err != nil {
		t.Error(err)
	}
}
