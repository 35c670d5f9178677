package agent

import (
	"strings"
	"testing"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/usp"
	"twinspan/usp/uspmsg"
)

const (
	soon  = 20 * time.Second // for what must come: processors may be busy
	while = 100 * time.Millisecond
)

func (c *ctl) operate(cmd, key string, resp bool, kv ...string) (string, chan *uspmsg.Msg) {
	args := map[string]string{}
	for i := 0; i+1 < len(kv); i += 2 {
		args[kv[i]] = kv[i+1]
	}
	return c.post(&uspmsg.Request{ReqType: &uspmsg.Request_Operate{Operate: &uspmsg.Operate{Command: cmd, CommandKey: key, SendResp: resp, InputArgs: args}}})
}

func (c *ctl) operateResp(cmd, key string, kv ...string) *opResult {
	c.t.Helper()
	_, w := c.operate(cmd, key, true, kv...)
	select {
	case m := <-w:
		res := m.GetBody().GetResponse().GetOperateResp().GetOperationResults()
		if len(res) != 1 {
			c.t.Fatalf("Operate %s: %v", cmd, m)
		}
		return res[0]
	case <-time.After(soon):
		c.t.Fatalf("Operate %s: no answer", cmd)
		return nil
	}
}

func TestValueChange(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.c1
	row := c.subscribe("Notify52", "ValueChange", "Device.LocalAgent.Controller.1.ProvisioningCode")
	c.Set(false, set("Device.LocalAgent.Controller.1.", "ProvisioningCode", "new")) // the originator is told too
	n := c.note(soon)
	if n.SubscriptionId != "Notify52" || n.GetValueChange().GetParamPath() != "Device.LocalAgent.Controller.1.ProvisioningCode" ||
		n.GetValueChange().GetParamValue() != "new" || n.SendResp {
		t.Fatalf("1.52: %v", n.Notify)
	}
	// The same value again is no change.
	c.Set(false, set("Device.LocalAgent.Controller.1.", "ProvisioningCode", "new"))
	// Somebody else's change, over the other protocol's spelling.
	_, err := r.engine.Apply(t.Context(), bridge.Writer{Name: "cwmp", Protocol: datamodel.CWMP, Class: bridge.ClassACS},
		bridge.Change{Atomic: true, Ops: []bridge.Op{{Kind: bridge.OpSet, Path: "Device.USPAgent.Controller.1.",
			Settings: []bridge.Setting{{Name: "ProvisioningCode", Value: "acs", Required: true}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if n := c.note(soon); n.GetValueChange().GetParamValue() != "acs" {
		t.Fatalf("%v", n.Notify)
	}
	c.Delete(false, row)
	c.Set(false, set("Device.LocalAgent.Controller.1.", "ProvisioningCode", "after"))
	r.settle()
	c.quiet(while) // TP-469 1.53
}

func TestValueChangeSearch(t *testing.T) {
	r := newRig(t)
	c := r.c1
	// TP-469 1.84: rows made after the subscription count.
	c.subscribe("w", "ValueChange", "Device.LocalAgent.Controller.*.BootParameter.*.Enable")
	c.subscribe("e", "ValueChange", "Device.LocalAgent.Controller.[EndpointID==\""+c2ID+"\"].ProvisioningCode")
	c.subscribe("n", "ValueChange", "Device.LocalAgent.Controller.1.BootParameterNumberOfEntries")
	c.subscribe("o", "ValueChange", "Device.LocalAgent.Controller.2.MTP.")
	row := c.mustAdd(create("Device.LocalAgent.Controller.1.BootParameter.", "ParameterName", "Device.LocalAgent.UpTime", "Enable", "false"))[0]
	if n := c.note(soon); n.SubscriptionId != "n" || n.GetValueChange().GetParamValue() != "1" {
		t.Fatalf("%v", n.Notify)
	}
	c.Set(false, set(row, "Enable", "true"))
	if n := c.note(soon); n.SubscriptionId != "w" || n.GetValueChange().GetParamPath() != row+"Enable" {
		t.Fatalf("%v", n.Notify)
	}
	c.Set(false, set("Device.LocalAgent.Controller.*.", "ProvisioningCode", "both"))
	if n := c.note(soon); n.SubscriptionId != "e" || n.GetValueChange().GetParamPath() != "Device.LocalAgent.Controller.2.ProvisioningCode" {
		t.Fatalf("%v", n.Notify)
	}
	c.Set(false, set("Device.LocalAgent.Controller.2.MTP.1.", "Order", "7"))
	if n := c.note(soon); n.SubscriptionId != "o" {
		t.Fatalf("%v", n.Notify)
	}
	c.quiet(while)
}

func TestObjectNotifications(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.c1
	c.subscribe("created", "ObjectCreation", "Device.LocalAgent.Subscription.")
	c.subscribe("deleted", "ObjectDeletion", "Device.LocalAgent.Subscription.*.")
	n := c.note(soon) // of the second subscription
	if n.SubscriptionId != "created" || n.GetObjCreation().GetObjPath() != "Device.LocalAgent.Subscription.2." {
		t.Fatalf("%v", n.Notify)
	}
	if k := n.GetObjCreation().GetUniqueKeys(); k["ID"] != "deleted" || k["Recipient"] != "Device.LocalAgent.Controller.1" || k["Alias"] == "" { // TP-469 1.57
		t.Errorf("keys %v", k)
	}
	// TP-469 1.6: what is rolled back is not told.
	errOf(t, c.Add(false, goodSub("x"), create("Device.Nothing.")))
	r.settle()
	c.quiet(while)
	row := c.mustAdd(goodSub("y"))[0]
	c.note(soon)
	c.Delete(false, row)
	if n := c.note(soon); n.SubscriptionId != "deleted" || n.GetObjDeletion().GetObjPath() != row { // TP-469 1.58
		t.Fatalf("%v", n.Notify)
	}
}

// A deleted Controller hears of its end, also when the notifier comes to its commits only after the deletion.
func TestControllerDeleted(t *testing.T) {
	for _, late := range []bool{false, true} {
		r := newRig(t)
		gate := make(chan struct{})
		if late {
			r.agent.do(func(*notifier) { <-gate })
		}
		r.c2.subscribe("last", "ObjectDeletion", "Device.LocalAgent.Controller.*.")
		r.c1.subscribe("mine", "ObjectDeletion", "Device.LocalAgent.Controller.*.")
		r.c1.Delete(false, "Device.LocalAgent.Controller.2.")
		close(gate)
		if ids := r.c1.subIDs(); ids["last"] || !ids["mine"] { // TP-469 1.78
			t.Errorf("late=%v: subscriptions left: %v", late, ids)
		}
		for _, c := range []*ctl{r.c1, r.c2} { // the deleted one hears of it too
			if n := c.note(soon); n.GetObjDeletion().GetObjPath() != "Device.LocalAgent.Controller.2." {
				t.Errorf("late=%v %s: %v", late, c.eid, n.Notify)
			}
		}
	}
}

func TestOperate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.c1
	c.subscribe("done", "OperationComplete", "Device.ScheduleTimer()")
	watcher, err := r.engine.Watch("")
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	began := time.Now()
	res := c.operateResp("Device.ScheduleTimer()", "test79", "DelaySeconds", "1", "Unknown", "x", "Password", "geheim") // TP-469 1.79, 1.91
	if res.ExecutedCommand != "Device.ScheduleTimer()" || !strings.HasPrefix(res.GetReqObjPath(), requestPath) {
		t.Fatalf("1.79: %v", res)
	}
	if v, _ := c.get1(res.GetReqObjPath() + "Status"); v != "Active" && v != "Requested" {
		t.Errorf("status %q", v)
	}
	if v, _ := c.get1(res.GetReqObjPath() + "Originator"); v != c1ID {
		t.Errorf("originator %q", v)
	}
	// The same command with the same key while it runs.
	if f := c.operateResp("Device.ScheduleTimer()", "test79", "DelaySeconds", "1").GetCmdFailure(); f.GetErrCode() != usp.CodeResourcesExceeded {
		t.Errorf("twice: %v", f)
	}
	n := c.note(soon).GetOperComplete()
	if n.GetObjPath() != "Device." || n.GetCommandName() != "ScheduleTimer()" || n.GetCommandKey() != "test79" || n.GetReqOutputArgs() == nil {
		t.Errorf("%v", n)
	}
	for { // what other heads hear of it
		ev, err := watcher.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if ev.Kind != bridge.EventOperated {
			continue
		}
		if ev.Input["DelaySeconds"] != "1" || ev.Input["Password"] != "" || ev.Start.Before(began) || ev.Cause != "usp:"+c1ID || ev.Key != "test79" {
			t.Errorf("event %+v", ev)
		}
		break
	}
	if _, there := c.get1(res.GetReqObjPath() + "Status"); there { // R-OPR.0
		t.Error("the Request row is still there")
	}
	// TP-469 1.100
	if f := c.operateResp("Device.ScheduleTimer()", "k").GetCmdFailure(); f.GetErrCode() != usp.CodeInvalidCommandArgs {
		t.Errorf("1.100: %v", f)
	}
	// TP-469 1.65
	_, w := c.operate("Device.ScheduleTimer()", "test65", false, "DelaySeconds", "1")
	if n := c.note(soon).GetOperComplete(); n.GetCommandKey() != "test65" {
		t.Errorf("1.65: %v", n)
	}
	select {
	case m := <-w:
		t.Errorf("1.65: %v", m)
	default:
	}
	// Cancel
	res = c.operateResp("Device.ScheduleTimer()", "long", "DelaySeconds", "100")
	if x := c.operateResp(res.GetReqObjPath()+"Cancel()", ""); x.GetReqOutputArgs() == nil {
		t.Errorf("cancel: %v", x)
	}
	if n := c.note(soon).GetOperComplete(); n.GetCmdFailure().GetErrCode() != usp.CodeCommandCanceled || n.GetCommandKey() != "long" {
		t.Errorf("%v", n)
	}
	// Unknown command.
	if e := errOf(t, c.ask(&uspmsg.Request{ReqType: &uspmsg.Request_Operate{Operate: &uspmsg.Operate{Command: "Device.Nothing()", SendResp: true}}})); e.ErrCode != usp.CodeInvalidPath {
		t.Errorf("%v", e)
	}
	// A search that matches nothing.
	m := c.ask(&uspmsg.Request{ReqType: &uspmsg.Request_Operate{Operate: &uspmsg.Operate{Command: "Device.LocalAgent.Request.*.Cancel()", SendResp: true}}})
	if rs := m.GetBody().GetResponse().GetOperateResp(); rs == nil || len(rs.OperationResults) != 0 {
		t.Errorf("%v", m)
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.c1
	c.subscribe("p", "Event", "Device.LocalAgent.Periodic!", "NotifRetry", "true")
	r.c2.subscribe("p2", "Event", "Device.LocalAgent.")
	began := time.Now()
	c.Set(false, set("Device.LocalAgent.Controller.1.", "PeriodicNotifInterval", "1"))
	a, b := c.note(soon), c.note(soon) // TP-469 1.59
	if a.GetEvent().GetEventName() != "Periodic!" || a.GetEvent().GetObjPath() != "Device.LocalAgent." || !a.SendResp {
		t.Errorf("%v", a.Notify)
	}
	if d := b.at.Sub(began); d < 2*time.Second {
		t.Errorf("two intervals in %s", d)
	}
	r.c2.quiet(while) // each Controller has its own
}

func TestTimeToLive(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.c1
	row := c.subscribe("short", "ValueChange", "Device.LocalAgent.Controller.1.ProvisioningCode", "TimeToLive", "1")
	deadline := time.Now().Add(soon)
	for {
		if _, there := c.get1(row + "ID"); !there {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("1.55: the row outlives its time")
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.Set(false, set("Device.LocalAgent.Controller.1.", "ProvisioningCode", "late"))
	r.settle()
	c.quiet(while)
}

func TestOnBoard(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(p *datamodel.Profile, _ *Options) {
		p.Factory["Device.LocalAgent.Controller.2.OnBoardingComplete"] = "false"
	})
	n := r.c2.note(soon)
	ob := n.GetOnBoardReq()
	if ob == nil || n.SubscriptionId != "" || !n.SendResp || ob.Oui != "012345" || ob.ProductClass != "box" || ob.SerialNumber != "1" ||
		ob.AgentSupportedProtocolVersions != usp.SupportedVersions {
		t.Fatalf("R-NOT.5: %v", n.Notify)
	}
	r.c1.quiet(while)
	// TP-469 1.60, 1.101
	r.c1.operateResp("Device.LocalAgent.Controller.1.SendOnBoardRequest()", "")
	if n := r.c1.note(soon); n.GetOnBoardReq() == nil {
		t.Fatalf("1.60: %v", n.Notify)
	}
	if v, _ := r.c1.get1("Device.LocalAgent.Controller.1.OnBoardingComplete"); v != "false" {
		t.Errorf("1.101: %s", v)
	}
	// TP-469 1.102, 1.103
	r.c1.quiet(1200 * time.Millisecond)
	r.c1.Set(false, set("Device.LocalAgent.Controller.1.", "OnBoardingRestartTime", "1"))
	if n := r.c1.note(soon); n.GetOnBoardReq() == nil {
		t.Fatalf("1.102: %v", n.Notify)
	}
	r.c1.Set(false, set("Device.LocalAgent.Controller.1.", "OnBoardingComplete", "true"))
	for len(r.c1.notes) > 0 {
		<-r.c1.notes
	}
	r.c1.quiet(1300 * time.Millisecond)
}

func TestBoot(t *testing.T) {
	r := newRig(t, func(p *datamodel.Profile, o *Options) {
		o.Boot = &BootInfo{Cause: "LocalReboot", Reason: "test"}
		for k, v := range map[string]string{"Alias": "boot", "Enable": "true", "ID": "boot", "NotifType": "Event", "ReferenceList": "Device.Boot!",
			"Persistent": "true", "Recipient": "Device.LocalAgent.Controller.1"} {
			p.Factory["Device.LocalAgent.Subscription.1."+k] = v
		}
		for k, v := range map[string]string{"Alias": "gone", "Enable": "true", "ID": "gone", "NotifType": "Event", "ReferenceList": "Device.Boot!",
			"Recipient": "Device.LocalAgent.Controller.1"} {
			p.Factory["Device.LocalAgent.Subscription.2."+k] = v
		}
		p.Factory["Device.LocalAgent.Controller.1.BootParameter.1.Enable"] = "true"
		p.Factory["Device.LocalAgent.Controller.1.BootParameter.1.ParameterName"] = "Device.LocalAgent.SoftwareVersion"
	})
	n := r.c1.note(soon)
	e := n.GetEvent()
	if n.SubscriptionId != "boot" || e.GetObjPath() != "Device." || e.GetEventName() != "Boot!" || e.Params["Cause"] != "LocalReboot" ||
		e.Params["FirmwareUpdated"] != "false" || e.Params["ParameterMap"] != `{"Device.LocalAgent.SoftwareVersion":"1.2.3"}` {
		t.Fatalf("%v", n.Notify)
	}
	if ids := r.c1.subIDs(); ids["gone"] || !ids["boot"] { // Persistent=false
		t.Errorf("%v", ids)
	}
	if rec := <-r.c1.records; rec.GetWebsocketConnect() == nil { // R-MTP.6, before anything else
		t.Errorf("first record: %v", rec)
	}
}

func TestTriggerAction(t *testing.T) { // TP-469 1.93, 1.94
	t.Parallel()
	r := newRig(t)
	c := r.c1
	param := "Device.LocalAgent.Controller.1.ProvisioningCode"
	both := c.subscribe("both", "ValueChange", param, "TriggerAction", "NotifyAndConfig")
	mute := c.subscribe("mute", "ValueChange", param, "TriggerAction", "Config")
	c.Set(false, set(both, "!TriggerConfigSettings", both+"Enable=false, Device.LocalAgent.Controller.[EndpointID==\""+c2ID+"\"].ProvisioningCode=\"a,b\""))
	c.Set(false, set(mute, "!TriggerConfigSettings", mute+"Enable=false"))
	r.settle()
	c.Set(false, set("Device.LocalAgent.Controller.1.", "!ProvisioningCode", "fire"))
	if n := c.note(soon); n.SubscriptionId != "both" {
		t.Errorf("%v", n)
	}
	want := map[string]string{both + "Enable": "false", mute + "Enable": "false", "Device.LocalAgent.Controller.2.ProvisioningCode": "a,b"}
	for deadline := time.Now().Add(soon); len(want) > 0 && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		for path, value := range want {
			if v, _ := c.get1(path); v == value {
				delete(want, path)
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("not configured: %v", want)
	}
	c.quiet(while) // "mute" told nobody
	e := errOf(t, c.Set(false, set(both, "!TriggerConfigSettings", "no path")))
	if !strings.Contains(e.ErrMsg, "path=value") {
		t.Errorf("%v", e)
	}
}

// Two Subscriptions that undo each other's work are slowed down.
func TestTriggersThatFight(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.c1
	param := "Device.LocalAgent.Controller.1.ProvisioningCode"
	for _, v := range []string{"a", "b"} {
		c.subscribe(v, "ValueChange", param, "TriggerAction", "Config", "TriggerConfigSettings", param+"="+v)
	}
	c.Set(false, set("Device.LocalAgent.Controller.1.", "!ProvisioningCode", "fire"))
	r.settle()
	before, began := r.store.Head().Rev(), time.Now()
	time.Sleep(1200 * time.Millisecond)
	if n, d := r.store.Head().Rev()-before, time.Since(began); float64(n) > 4+3*d.Seconds() {
		t.Errorf("%d commits in %s", n, d)
	}
}

func TestTriggerSettings(t *testing.T) {
	ops, err := triggerSettings(`Device.A.1.X=1, Device.A.1.Y="p,q=r" ,Device.B.[Z=="k=,"].W=`)
	if err != nil || len(ops) != 2 || len(ops[0].Settings) != 2 || ops[0].Settings[1].Value != "p,q=r" || ops[1].Path != `Device.B.[Z=="k=,"].` || ops[1].Settings[0] != (bridge.Setting{Name: "W", Required: true}) {
		t.Errorf("%+v %v", ops, err)
	}
	for _, bad := range []string{"x", "=1", "Device.A.", "Device.A.=1", "A.B=1", strings.Repeat("Device.A.B=1,", 17)} {
		if _, err := triggerSettings(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// The whole way: a Notify that is not answered comes again as the same message.
func TestNotifyRetry(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.c1
	c.Set(false, set("Device.LocalAgent.Controller.1.", "!USPNotifRetryMinimumWaitInterval", "1", "!USPNotifRetryIntervalMultiplier", "1000"))
	c.subscribe("again", "ValueChange", "Device.LocalAgent.Controller.1.ProvisioningCode", "NotifRetry", "true")
	c.setAck(false)
	began := time.Now()
	c.Set(false, set("Device.LocalAgent.Controller.1.", "ProvisioningCode", "x"))
	first, second := c.note(soon), c.note(soon)
	if first.msgID != second.msgID || !first.SendResp || second.GetValueChange().GetParamValue() != "x" {
		t.Errorf("%v %v", first, second)
	}
	if d := second.at.Sub(began); d < time.Second { // R-NOT.1: 1 s, since the multiplier is 1
		t.Errorf("repeated after %s", d)
	}
	c.setAck(true)
	c.note(soon)                                          // this one is answered
	for quiet, late := false, time.After(soon); !quiet; { // the next may be on its way already
		select {
		case <-c.notes:
		case <-time.After(1500 * time.Millisecond):
			quiet = true
		case <-late:
			t.Fatal("the answer ends nothing")
		}
	}
}
