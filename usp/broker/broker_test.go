package broker_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"twinspan/datamodel"
	"twinspan/usp/broker"
	"twinspan/usp/controller"
	"twinspan/usp/service/clock"
	"twinspan/usp/uspmsg"
)

func timed(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// code is the USP code of an error of a Controller, 0 for none.
func code(err error) uint32 {
	var e *controller.Error
	if errors.As(err, &e) {
		if len(e.Params) > 0 {
			return e.Params[0].Code
		}
		return e.Code
	}
	return 0
}

// The life of a Service: registered, managed through the agent, gone.
func TestAServiceIsManagedThroughTheAgent(t *testing.T) {
	r := newRig(t)
	ctx := timed(t)
	if _, err := r.full.Value(ctx, clock.Path+"Time"); code(err) != 7026 {
		t.Errorf("before there is a service: %v", err)
	}
	k := r.clock("self::clock")

	if v, err := r.full.Value(ctx, clock.Path+"Time"); err != nil || len(v) < 20 {
		t.Errorf("Time %q %v", v, err)
	}
	check(t, r.full.Set(ctx, map[string]string{clock.Path + "Offset": "90"}))
	if v, err := r.full.Value(ctx, clock.Path+"Offset"); err != nil || v != "90" {
		t.Errorf("Offset %q %v", v, err)
	}
	if err := r.full.Set(ctx, map[string]string{clock.Path + "Offset": "9000"}); code(err) != 7012 {
		t.Errorf("the service's refusal: %v", err)
	}
	row, keys, err := r.full.Add(ctx, clock.Path+"Alarm.", map[string]string{"Name": "early", "At": "06:30"})
	if err != nil || row != clock.Path+"Alarm.1." || keys["Name"] != "early" {
		t.Fatalf("%q %v %v", row, keys, err)
	}
	if _, _, err := r.full.Add(ctx, clock.Path+"Alarm.", map[string]string{"Name": "early"}); code(err) != 7025 {
		t.Errorf("a taken key: %v", err)
	}
	if _, _, err := r.full.Add(ctx, clock.Path+"Alarm.", map[string]string{"Name": "late", "At": "22:00"}); err != nil {
		t.Fatal(err)
	}
	if v, err := r.full.Value(ctx, clock.Path+`Alarm.[At=="22:00"].Name`); err != nil || v != "late" {
		t.Errorf("search %q %v", v, err)
	}
	rows, err := r.full.Instances(ctx, clock.Path+"Alarm.", true)
	if err != nil || len(rows) != 2 || rows[0].GetUniqueKeys()["Name"] != "early" {
		t.Errorf("%v %v", rows, err)
	}
	check(t, r.full.Set(ctx, map[string]string{clock.Path + "Alarm.*.Enable": "true"}))
	if v, err := r.full.Get(ctx, clock.Path+"Alarm.*.Enable"); err != nil || len(v) != 2 || v[row+"Enable"] != "true" {
		t.Errorf("%v %v", v, err)
	}
	gone, err := r.full.Delete(ctx, clock.Path+`Alarm.[Name=="early"].`)
	if err != nil || len(gone) != 1 || gone[0] != row {
		t.Errorf("%v %v", gone, err)
	}
	out, _, err := r.full.Operate(ctx, clock.Path+"Now()", "k", nil)
	if err != nil || len(out["Time"]) < 20 {
		t.Errorf("%v %v", out, err)
	}
	all, err := r.full.Get(ctx, "Device.")
	if err != nil || all[clock.Path+"Offset"] != "90" || all["Device.DeviceInfo.SerialNumber"] != "1" || all[clock.Path+"Alarm.2.At"] != "22:00" {
		t.Errorf("%d values of Device., %v", len(all), err)
	}
	for _, path := range []string{clock.Path + "Nothing", clock.Path + "Alarm.9.", clock.Path + "Alarm.2.Nothing"} {
		if _, err := r.full.Get(ctx, path); code(err) != 7026 {
			t.Errorf("%s: %v", path, err)
		}
	}
	check(t, k.Close())
	r.eventually("the end of the row", func() bool { return !strings.Contains(r.rows(), "clock") })
	if _, err := r.full.Value(ctx, clock.Path+"Time"); code(err) != 7026 {
		t.Errorf("after its end: %v", err)
	}
}

// max_depth counts on below the place where a Service begins.
func TestDepthReachesIntoAService(t *testing.T) {
	r := newRig(t)
	ctx := timed(t)
	r.clock("self::clock")
	if _, _, err := r.full.Add(ctx, clock.Path+"Alarm.", map[string]string{"Name": "one"}); err != nil {
		t.Fatal(err)
	}
	for depth, want := range map[uint32][2]bool{1: {false, false}, 2: {true, false}, 3: {true, true}, 0: {true, true}} {
		all, err := r.full.GetDepth(ctx, depth, "Device.")
		check(t, err)
		_, top := all[clock.Path+"Offset"]
		_, row := all[clock.Path+"Alarm.1.Name"]
		if top != want[0] || row != want[1] {
			t.Errorf("max_depth %d: object %v, row %v", depth, top, row)
		}
	}
}

func TestSupportedDataModelOfAService(t *testing.T) {
	r := newRig(t)
	ctx := timed(t)
	r.clock("self::clock")
	ask := func(first bool, path string) map[string]*uspmsg.GetSupportedDMResp_SupportedObjectResult {
		t.Helper()
		res, err := r.full.SupportedDM(ctx, first, path)
		check(t, err)
		if len(res) != 1 || res[0].GetErrCode() != 0 {
			t.Fatalf("%s: %v", path, res)
		}
		out := map[string]*uspmsg.GetSupportedDMResp_SupportedObjectResult{}
		for _, o := range res[0].GetSupportedObjs() {
			out[o.GetSupportedObjPath()] = o
		}
		return out
	}
	for _, path := range []string{"Device.", clock.Path, strings.TrimSuffix(clock.Path, ".")} {
		got := ask(false, path)
		c, a := got[clock.Path], got[clock.Path+"Alarm.{i}."]
		if len(c.GetSupportedParams()) != 3 || len(c.GetSupportedCommands()) != 2 || len(c.GetSupportedEvents()) != 1 ||
			a.GetAccess() != uspmsg.GetSupportedDMResp_OBJ_ADD_DELETE || len(a.GetUniqueKeySets()) != 1 {
			t.Errorf("%s: %v %v", path, c, a)
		}
		if path != "Device." && len(got) != 2 {
			t.Errorf("%s: %d objects", path, len(got))
		}
	}
	got := ask(true, "Device.")
	if c := got[clock.Path]; c == nil || len(c.GetSupportedParams()) != 0 || got[clock.Path+"Alarm.{i}."] != nil || got["Device.DeviceInfo."] == nil {
		t.Errorf("first level: %v", got)
	}
	if got := ask(true, clock.Path); len(got) != 2 || len(got[clock.Path].GetSupportedParams()) != 3 || len(got[clock.Path+"Alarm.{i}."].GetSupportedParams()) != 0 {
		t.Errorf("first level of the clock: %v", got)
	}
	if got := ask(false, clock.Path+"Now()"); len(got) != 1 || len(got[clock.Path].GetSupportedCommands()) != 1 || len(got[clock.Path].GetSupportedParams()) != 0 {
		t.Errorf("one command: %v", got)
	}
	if got := ask(false, clock.Path+"Alarm.{i}."); len(got) != 1 || len(got[clock.Path+"Alarm.{i}."].GetSupportedParams()) != 3 {
		t.Errorf("the table: %v", got)
	}
	for _, path := range []string{clock.Path + "Nothing.", clock.Path + "Nothing"} {
		res, err := r.full.SupportedDM(ctx, false, path)
		if err != nil || res[0].GetErrCode() != 7026 {
			t.Errorf("%s: %v %v", path, res, err)
		}
	}
}

// What a role does not give is refused by the Broker, not by the Service, which lets the Broker do everything.
func TestRolesCountForServices(t *testing.T) {
	r := newRig(t)
	ctx := timed(t)
	r.clock("self::clock")
	if v, err := r.little.Value(ctx, clock.Path+"Time"); err != nil || v == "" {
		t.Errorf("%q %v", v, err)
	}
	if out, _, err := r.little.Operate(ctx, clock.Path+"Now()", "", nil); err != nil || out["Time"] == "" {
		t.Errorf("%v %v", out, err)
	}
	if _, err := r.little.Value(ctx, clock.Path+"Offset"); code(err) != 7026 {
		t.Errorf("Offset: %v", err)
	}
	if v, _ := r.little.Get(ctx, "Device."); v[clock.Path+"Offset"] != "" || v[clock.Path+"Time"] == "" {
		t.Errorf("Device.: %v", v)
	}
	if err := r.little.Set(ctx, map[string]string{clock.Path + "Offset": "5"}); code(err) != 7006 {
		t.Errorf("Set: %v", err)
	}
	if _, _, err := r.little.Add(ctx, clock.Path+"Alarm.", map[string]string{"Name": "x"}); code(err) != 7006 {
		t.Errorf("Add: %v", err)
	}
	if _, _, err := r.full.Add(ctx, clock.Path+"Alarm.", map[string]string{"Name": "x"}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{clock.Path + "Alarm.1.", clock.Path + "Alarm.*.", clock.Path + `Alarm.[Name=="x"].`} {
		if _, err := r.little.Delete(ctx, path); code(err) != 7006 {
			t.Errorf("Delete %s: %v", path, err)
		}
	}
	if rows, err := r.little.Instances(ctx, clock.Path+"Alarm.", true); len(rows) != 0 {
		t.Errorf("Instances: %v %v", rows, err)
	}
	if _, _, err := r.little.Operate(ctx, clock.Path+"Countdown()", "", map[string]string{"Seconds": "0"}); code(err) != 7006 {
		t.Errorf("Operate: %v", err)
	}
	res, err := r.little.SupportedDM(ctx, false, clock.Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range res[0].GetSupportedObjs() {
		if len(o.GetSupportedParams()) > 1 || strings.Contains(o.GetSupportedObjPath(), "Alarm") {
			t.Errorf("told of %v", o)
		}
	}
	if rows, err := r.full.Instances(ctx, clock.Path+"Alarm.", true); err != nil || len(rows) != 1 {
		t.Errorf("something was done: %v %v", rows, err)
	}
}

func setOf(partial bool, values ...string) *uspmsg.Request {
	m := &uspmsg.Set{AllowPartial: partial}
	for i := 0; i < len(values); i += 3 {
		m.UpdateObjs = append(m.UpdateObjs, &uspmsg.Set_UpdateObject{ObjPath: values[i],
			ParamSettings: []*uspmsg.Set_UpdateParamSetting{{Param: values[i+1], Value: values[i+2], Required: true}}})
	}
	return &uspmsg.Request{ReqType: &uspmsg.Request_Set{Set: m}}
}

// A Set across the agent and a Service: with allow_partial each does its part, without it nothing is done.
func TestSetAcrossAgentAndService(t *testing.T) {
	r := newRig(t)
	ctx := timed(t)
	r.clock("self::clock")
	const own = "Device.DeviceInfo."
	resp, err := r.full.Request(ctx, setOf(true, clock.Path, "Offset", "7", own, "ProvisioningCode", "P1", clock.Path, "Offset", "bad", own, "Nothing", "x"))
	check(t, err)
	var got []string
	for _, u := range resp.GetSetResp().GetUpdatedObjResults() {
		word := "done"
		if u.GetOperStatus().GetOperFailure() != nil {
			word = "failed"
		}
		got = append(got, u.GetRequestedPath()+" "+word)
	}
	want := []string{clock.Path + " done", own + " done", clock.Path + " failed", own + " failed"}
	if strings.Join(got, ",") != strings.Join(want, ",") {
		t.Errorf("got %v", got)
	}
	if v, err := r.full.Get(ctx, own+"ProvisioningCode", clock.Path+"Offset"); err != nil || v[own+"ProvisioningCode"] != "P1" || v[clock.Path+"Offset"] != "7" {
		t.Errorf("%v %v", v, err)
	}
	if _, err := r.full.Request(ctx, setOf(false, own, "ProvisioningCode", "P2", clock.Path, "Offset", "8")); code(err) != 7002 {
		t.Errorf("all or nothing: %v", err)
	}
	if v, err := r.full.Get(ctx, own+"ProvisioningCode", clock.Path+"Offset"); err != nil || v[own+"ProvisioningCode"] != "P1" || v[clock.Path+"Offset"] != "7" {
		t.Errorf("half done: %v %v", v, err)
	}
}

// A search tells the values that it compares: a row whose value a role hides is not found by it.
func TestSearchesDoNotTellWhatARoleHides(t *testing.T) {
	r := newRig(t, func(_ *broker.Options, p *datamodel.Profile) {
		row := "Device.LocalAgent.ControllerTrust.Role.2."
		for k, v := range map[string]string{"Permission.1.Targets": "Device.X_TWINSPAN-EXAMPLE_Clock.", "Permission.1.Order": "0", "Permission.2.Enable": "true", "Permission.2.Order": "9",
			"Permission.2.Targets": clock.Path + "Alarm.1.At", "Permission.2.Param": "-w--", "Permission.2.Obj": "----", "Permission.2.InstantiatedObj": "----", "Permission.2.CommandEvent": "----"} {
			p.Factory[row+k] = v
		}
	})
	ctx := timed(t)
	r.clock("self::clock")
	for _, name := range []string{"a", "b"} {
		if _, _, err := r.full.Add(ctx, clock.Path+"Alarm.", map[string]string{"Name": name, "At": "07:00"}); err != nil {
			t.Fatal(err)
		}
	}
	search := clock.Path + `Alarm.[At=="07:00"].`
	if v, err := r.full.Get(ctx, search); err != nil || v[clock.Path+"Alarm.1.Name"] != "a" {
		t.Fatalf("%v %v", v, err)
	}
	if v, err := r.little.Get(ctx, search); err != nil || v[clock.Path+"Alarm.1.Name"] != "" || v[clock.Path+"Alarm.2.Name"] != "b" {
		t.Errorf("Get: %v %v", v, err)
	}
	if v, err := r.little.Get(ctx, clock.Path+"Alarm.1.Name"); err != nil || len(v) != 1 {
		t.Errorf("what is not hidden: %v %v", v, err)
	}
	if err := r.little.Set(ctx, map[string]string{search + "Enable": "true"}); code(err) != 7006 {
		t.Errorf("Set: %v", err)
	}
}
