package agent

import (
	"testing"
	"time"

	"twinspan/bridge"
)

// A Threshold tells its own Controller, and in the mode Single only once.
func TestThreshold(t *testing.T) {
	r := newRig(t)
	const param = "PeriodicNotifInterval"
	r.c1.Set(false, set("Device.LocalAgent.Controller.2.", "!"+param, "1000"))
	for _, c := range []*ctl{r.c1, r.c2} {
		c.subscribe("t", "Event", thresholdPath)
	}
	row := r.c1.mustAdd(create(thresholdPath, "!Enable", "true", "!ReferencePath", "Device.LocalAgent.Controller.*.", "!ThresholdParam", param,
		"!ThresholdOperator", "Rise", "!ThresholdValue", "2000"))[0]
	once := r.c1.mustAdd(create(thresholdPath, "!Enable", "true", "!ReferencePath", "Device.LocalAgent.Controller.2.", "!ThresholdParam", param,
		"!ThresholdOperator", "Fall", "!ThresholdValue", "500", "!OperatingMode", "Single"))[0]
	r.settle()
	change := func(v string) {
		t.Helper()
		r.c1.Set(false, set("Device.LocalAgent.Controller.2.", "!"+param, v))
		r.settle()
	}
	told := func(object, value string) {
		t.Helper()
		e := r.c1.note(soon).GetEvent()
		if e.GetObjPath() != object || e.GetEventName() != "Triggered!" || e.GetParams()["ParamPath"] != "Device.LocalAgent.Controller.2."+param || e.GetParams()["ParamValue"] != value {
			t.Errorf("%v, want %s %s", e, object, value)
		}
	}
	change("1999")
	change("2000")
	told(row, "2000")
	change("3000") // above already
	change("500")
	told(once, "500")
	change("2500")
	told(row, "2500")
	change("100") // Single is over
	r.c1.quiet(while)
	r.c2.quiet(while)
	if v, _ := r.c1.get1(once + "Enable"); v != "false" {
		t.Errorf("a Single Threshold is still enabled: %s", v)
	}
	if v, _ := r.c1.get1("Device.LocalAgent.SupportedThresholdOperator"); v != operators {
		t.Errorf("%q", v)
	}
}

func TestThresholdOperators(t *testing.T) {
	for _, k := range []struct {
		op       string
		was, val int64
		hit      bool
	}{
		{"Rise", 9, 10, true}, {"Rise", 10, 11, false}, {"Rise", 11, 9, false}, {"Fall", 11, 10, true}, {"Fall", 10, 9, false},
		{"Cross", 9, 11, true}, {"Cross", 11, 9, true}, {"Cross", 11, 12, false}, {"Eq", 9, 10, true}, {"Eq", 9, 11, false},
		{"NotEq", 10, 9, true}, {"NotEq", 9, 8, false}, {"", 9, 10, false},
	} {
		if got := (&threshold{operator: k.op, limit: 10}).hit(k.was, k.val); got != k.hit {
			t.Errorf("%s %d -> %d: %v", k.op, k.was, k.val, got)
		}
	}
}

func TestWatchdog(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.c1.subscribe("w", "Event", watchdogPath)
	r.c2.subscribe("w", "Event", watchdogPath)
	row := r.c1.mustAdd(create(watchdogPath, "!Enable", "true", "!ReloadTimerValue", "4", "!Reference", "job", "!SeverityIndication", "Major"))[0]
	r.settle()
	if v, _ := r.c1.get1(row + "Status"); v != "Active" {
		t.Errorf("Status %q", v)
	}
	time.Sleep(time.Second)
	reset := time.Now()
	if res := r.c1.result(row+"Reset()", nil); res.GetCmdFailure() != nil {
		t.Fatal(res)
	}
	note := r.c1.note(soon)
	if d := note.at.Sub(reset); d < 4*time.Second {
		t.Errorf("over %s after the Reset()", d)
	}
	e := note.GetEvent()
	if e.GetObjPath() != row || e.GetEventName() != "Watchdog!" || e.GetParams()["Reference"] != "job" || e.GetParams()["SeverityIndication"] != "Major" || e.GetParams()["ReloadTimerValue"] != "4" {
		t.Errorf("%v", e)
	}
	if v, _ := r.c1.get1(row + "Status"); v != "Expired" {
		t.Errorf("Status %q", v)
	}
	r.c2.quiet(while)
}

// TransferComplete! goes to those whose policy wants the result.
func TestTransferCompletePolicy(t *testing.T) {
	r := newRig(t)
	for c, filter := range map[*ctl]string{r.c1: "Success", r.c2: "Failure"} {
		row := map[*ctl]string{r.c1: "Device.LocalAgent.Controller.1.", r.c2: "Device.LocalAgent.Controller.2."}[c]
		if m := r.c1.Set(false, set(row+"TransferCompletePolicy.", "!ResultTypeFilter", filter)); m.GetBody().GetError() != nil {
			t.Fatal(m)
		}
		c.subscribe("x", "Event", "Device.LocalAgent.TransferComplete!")
	}
	r.settle()
	for _, code := range []string{"0", "7002"} {
		r.engine.Emit(bridge.Event{Kind: bridge.EventModel, Path: "Device.LocalAgent.", Name: "TransferComplete!", Args: map[string]string{"FaultCode": code}})
	}
	if e := r.c1.note(soon).GetEvent(); e.GetParams()["FaultCode"] != "0" {
		t.Errorf("%v", e)
	}
	if e := r.c2.note(soon).GetEvent(); e.GetParams()["FaultCode"] != "7002" {
		t.Errorf("%v", e)
	}
	r.c1.quiet(while)
	r.c2.quiet(while)
}

// A Monitor tells the changes of an interval at once, with the values before.
func TestMonitor(t *testing.T) {
	r := newRig(t)
	r.c1.Set(false, set("Device.LocalAgent.Controller.2.", "!ProvisioningCode", "before"))
	for _, c := range []*ctl{r.c1, r.c2} {
		c.subscribe("m", "Event", monitorPath)
	}
	row := r.c1.mustAdd(create(monitorPath, "!Enable", "true", "!Interval", "300000", "!ReferenceList", "Device.LocalAgent.Controller.2.,Device.IP.Interface.*.Name"))[0]
	r.settle()
	start := time.Now()
	for _, v := range []string{"one", "two"} {
		r.c1.Set(false, set("Device.LocalAgent.Controller.2.", "!ProvisioningCode", v))
	}
	r.c1.Set(false, set("Device.LocalAgent.Controller.1.", "!ProvisioningCode", "other"))
	e := r.c1.note(soon).GetEvent()
	if e.GetObjPath() != row || e.GetEventName() != "OnChange!" || time.Since(start) < 250*time.Millisecond {
		t.Fatalf("%v after %s", e, time.Since(start))
	}
	p := e.GetParams()
	for name, want := range map[string]string{"ObjectPath": "Device.LocalAgent.Controller.2.", "Parameter.1.Name": "ProvisioningCode", "Parameter.1.OldValue": "before",
		"Parameter.1.Value": "one", "Parameter.2.OldValue": "one", "Parameter.2.Value": "two"} {
		if p["ChangeSet.1."+name] != want {
			t.Errorf("%s is %q, want %q", name, p["ChangeSet.1."+name], want)
		}
	}
	if _, more := p["ChangeSet.2.ObjectPath"]; more || p["ChangeSet.1.Parameter.3.Name"] != "" {
		t.Errorf("%v", p)
	}
	r.c1.quiet(400 * time.Millisecond)
	r.c2.quiet(while)
}
