package agent

import (
	"testing"

	"twinspan/usp"
	"twinspan/usp/uspmsg"
)

func errOf(t *testing.T, m *uspmsg.Msg) *uspmsg.Error {
	t.Helper()
	e := m.GetBody().GetError()
	if e == nil {
		t.Fatalf("want an Error, got %v", m)
	}
	return e
}

func sub(kv ...string) *uspmsg.Add_CreateObject {
	return create("Device.LocalAgent.Subscription.", kv...)
}

func goodSub(id string) *uspmsg.Add_CreateObject {
	return sub("!Enable", "true", "!ID", id, "!NotifType", "ValueChange", "!ReferenceList", "Device.LocalAgent.SoftwareVersion")
}

func (c *ctl) subIDs() map[string]bool {
	out := map[string]bool{}
	for _, r := range c.Get(0, "Device.LocalAgent.Subscription.*.ID") {
		for _, o := range r.ResolvedPathResults {
			out[o.ResultParams["ID"]] = true
		}
	}
	return out
}

func TestAdd(t *testing.T) {
	r := newRig(t)
	c := r.c1
	for _, partial := range []bool{false, true} { // TP-469 1.1, 1.2
		m := c.Add(partial, goodSub(map[bool]string{false: "add1", true: "add2"}[partial]))
		res := m.GetBody().GetResponse().GetAddResp().GetCreatedObjResults()
		if len(res) != 1 || res[0].GetOperStatus().GetOperSuccess() == nil {
			t.Fatalf("partial=%v: %v", partial, m)
		}
		s := res[0].OperStatus.GetOperSuccess()
		if len(s.ParamErrs) != 0 || len(s.UniqueKeys) != 3 || s.UniqueKeys["Recipient"] != "Device.LocalAgent.Controller.1" {
			t.Errorf("partial=%v: %v", partial, s)
		}
	}
	// TP-469 1.3
	e := errOf(t, c.Add(false, sub("!Enable", "InvalidValue", "!ID", "add3", "NotifType", "ValueChange")))
	if e.ErrCode != usp.CodeInvalidArguments || len(e.ParamErrs) != 1 || e.ParamErrs[0].ErrCode != usp.CodeInvalidType {
		t.Errorf("1.3: %v", e)
	}
	// TP-469 1.4, 1.6
	e = errOf(t, c.Add(false, goodSub("add6"), create("Device.LocalAgent.InvalidObject.")))
	if e.ErrCode != usp.CodeInvalidArguments || len(e.ParamErrs) != 1 || e.ParamErrs[0].ParamPath != "Device.LocalAgent.InvalidObject." ||
		e.ParamErrs[0].ErrCode != usp.CodeInvalidPath {
		t.Errorf("1.6: %v", e)
	}
	// TP-469 1.7
	e = errOf(t, c.Add(false, sub("!Enable", "x", "!ID", "add71"), goodSub("add72")))
	if len(e.ParamErrs) != 1 {
		t.Errorf("1.7: %v", e)
	}
	// TP-469 1.8
	res := c.Add(true, sub("!Enable", "x", "!ID", "add8")).GetBody().GetResponse().GetAddResp().GetCreatedObjResults()
	if len(res) != 1 || res[0].GetOperStatus().GetOperFailure() == nil {
		t.Errorf("1.8: %v", res)
	}
	// TP-469 1.9
	res = c.Add(true, goodSub("add91"), sub("!ID", "add91", "!InvalidParameter", "IrrelevantValue")).GetBody().GetResponse().GetAddResp().GetCreatedObjResults()
	if len(res) != 2 || res[0].GetOperStatus().GetOperSuccess() == nil || res[1].GetOperStatus().GetOperFailure() == nil {
		t.Errorf("1.9: %v", res)
	}
	// TP-469 1.10
	m := c.Add(false, create(`Device.LocalAgent.Controller.[EndpointID=="`+c1ID+`"&&Alias=="ctl-1"].BootParameter.`, "!Enable", "true", "!ParameterName", "Device.LocalAgent.SoftwareVersion"))
	if s := m.GetBody().GetResponse().GetAddResp().GetCreatedObjResults()[0].GetOperStatus().GetOperSuccess(); s.GetInstantiatedPath() != "Device.LocalAgent.Controller.1.BootParameter.1." || len(s.UniqueKeys) != 2 {
		t.Errorf("1.10: %v", m)
	}
	// TP-469 1.81
	m = c.Add(false, sub("Enable", "true", "NotifType", "ValueChange", "ReferenceList", "Device.LocalAgent.SoftwareVersion"),
		sub("Enable", "true", "NotifType", "ValueChange", "ReferenceList", "Device.LocalAgent.SoftwareVersion"))
	res = m.GetBody().GetResponse().GetAddResp().GetCreatedObjResults()
	if len(res) != 2 {
		t.Fatalf("1.81: %v", m)
	}
	a, b := res[0].GetOperStatus().GetOperSuccess().GetUniqueKeys(), res[1].GetOperStatus().GetOperSuccess().GetUniqueKeys()
	if a["ID"] == "" || a["Alias"] == "" || a["ID"] == b["ID"] || a["Alias"] == b["Alias"] || a["Recipient"] != b["Recipient"] {
		t.Errorf("1.81: %v %v", a, b)
	}
	// TP-469 1.95
	m = c.Add(false, create("Device.LocalAgent.Controller.[Enable==true].BootParameter.", "!Enable", "true", "!ParameterName", "Device.LocalAgent.UpTime"))
	if res = m.GetBody().GetResponse().GetAddResp().GetCreatedObjResults(); len(res) != 2 || res[0].RequestedPath != res[1].RequestedPath {
		t.Errorf("1.95: %v", m)
	}
	ids := c.subIDs()
	for _, gone := range []string{"add3", "add6", "add71", "add72", "add8"} {
		if ids[gone] {
			t.Errorf("row %s exists", gone)
		}
	}
	for _, there := range []string{"add1", "add2", "add91"} {
		if !ids[there] {
			t.Errorf("row %s is missing", there)
		}
	}
}

func TestSet(t *testing.T) {
	r := newRig(t)
	c := r.c1
	rows := c.mustAdd(goodSub("s1"), goodSub("s2"))
	ok := func(name string, m *uspmsg.Msg, results, instances int) []*uspmsg.SetResp_UpdatedObjectResult {
		t.Helper()
		res := m.GetBody().GetResponse().GetSetResp().GetUpdatedObjResults()
		if len(res) != results {
			t.Fatalf("%s: %v", name, m)
		}
		for _, x := range res {
			s := x.GetOperStatus().GetOperSuccess()
			if s == nil || len(s.UpdatedInstResults) != instances {
				t.Fatalf("%s: %v", name, m)
			}
			for _, i := range s.UpdatedInstResults {
				if len(i.UpdatedParams) != 1 || i.UpdatedParams["NotifRetry"] == "" {
					t.Errorf("%s: %v", name, i)
				}
			}
		}
		return res
	}
	ok("1.11", c.Set(false, set(rows[0], "NotifRetry", "true")), 1, 1)
	ok("1.12", c.Set(true, set(rows[0], "NotifRetry", "false")), 1, 1)
	ok("1.13", c.Set(false, set(rows[0], "NotifRetry", "true"), set(rows[1], "NotifRetry", "true")), 2, 1)
	e := errOf(t, c.Set(false, set(rows[0], "!InvalidParameter", "x"))) // TP-469 1.14
	if len(e.ParamErrs) != 1 || e.ParamErrs[0].ParamPath != rows[0]+"InvalidParameter" || e.ParamErrs[0].ErrCode != usp.CodeUnsupportedParameter {
		t.Errorf("1.14: %v", e)
	}
	e = errOf(t, c.Set(false, set(rows[0], "!NotifRetry", "false"), set(rows[1], "!InvalidParameter", "x"))) // TP-469 1.15
	if len(e.ParamErrs) != 1 {
		t.Errorf("1.15: %v", e)
	}
	if v, _ := c.get1(rows[0] + "NotifRetry"); v != "true" {
		t.Errorf("1.15: not rolled back: %s", v)
	}
	m := c.Set(true, set(rows[0], "!NotifRetry", "false"), set(rows[1], "!InvalidParameter", "x")) // TP-469 1.16
	res := m.GetBody().GetResponse().GetSetResp().GetUpdatedObjResults()
	if len(res) != 2 || res[0].GetOperStatus().GetOperSuccess() == nil || res[1].GetOperStatus().GetOperFailure() == nil {
		t.Fatalf("1.16: %v", m)
	}
	f := res[1].OperStatus.GetOperFailure()
	if f.ErrCode != usp.CodeRequiredFailed || len(f.UpdatedInstFailures) != 1 || f.UpdatedInstFailures[0].AffectedPath != rows[1] ||
		len(f.UpdatedInstFailures[0].ParamErrs) != 1 || f.UpdatedInstFailures[0].ParamErrs[0].Param != "InvalidParameter" {
		t.Errorf("1.16: %v", f)
	}
	if v, _ := c.get1(rows[0] + "NotifRetry"); v != "false" {
		t.Errorf("1.16: %s", v)
	}
	for _, partial := range []bool{true, false} { // TP-469 1.17: also with allow_partial=false
		res = ok("1.17", c.Set(partial, set(rows[0], "NotifRetry", "true", "InvalidParameter", "x")), 1, 1)
		if pe := res[0].OperStatus.GetOperSuccess().UpdatedInstResults[0].ParamErrs; len(pe) != 1 || pe[0].Param != "InvalidParameter" {
			t.Errorf("1.17: %v", pe)
		}
	}
	res = ok("1.18", c.Set(false, set(`Device.LocalAgent.Subscription.[ID=="s1"&&Recipient=="Device.LocalAgent.Controller.1"].`, "NotifRetry", "false")), 1, 1)
	if p := res[0].OperStatus.GetOperSuccess().UpdatedInstResults[0].AffectedPath; p != rows[0] {
		t.Errorf("1.18: %s", p)
	}
	ok("1.19", c.Set(false, set("Device.LocalAgent.Subscription.*.", "NotifRetry", "true")), 1, 2)
	e = errOf(t, c.Set(false, set("Device.LocalAgent.Subscription.*.", "!InvalidParameter", "x"))) // TP-469 1.20
	if len(e.ParamErrs) < 1 || e.ParamErrs[0].ParamPath != rows[0]+"InvalidParameter" {
		t.Errorf("1.20: %v", e)
	}
	m = c.Set(true, set("Device.LocalAgent.Subscription.*.", "!Enable", "Invalid")) // TP-469 1.21
	f = m.GetBody().GetResponse().GetSetResp().GetUpdatedObjResults()[0].GetOperStatus().GetOperFailure()
	if len(f.GetUpdatedInstFailures()) < 1 || len(f.UpdatedInstFailures[0].ParamErrs) != 1 {
		t.Errorf("1.21: %v", m)
	}
	c.Set(false, set(rows[0], "NotifExpiration", "5"), set(rows[1], "NotifExpiration", "10"))
	ok("1.22", c.Set(false, set("Device.LocalAgent.Subscription.[NotifExpiration<10].", "NotifRetry", "false")), 1, 1)
	m = c.Set(false, set(`Device.LocalAgent.Subscription.[ID=="none"].`, "NotifRetry", "true")) // TP-469 1.23
	if res = m.GetBody().GetResponse().GetSetResp().GetUpdatedObjResults(); len(res) != 1 || res[0].GetOperStatus().GetOperSuccess() == nil ||
		len(res[0].OperStatus.GetOperSuccess().UpdatedInstResults) != 0 {
		t.Errorf("1.23: %v", m)
	}
	// TP-469 1.96, 1.104
	e = errOf(t, c.Set(false, set(rows[0], "!ID", "other")))
	if e.ErrCode != usp.CodeInvalidArguments || e.ParamErrs[0].ErrCode != usp.CodeNotWritable {
		t.Errorf("1.96: %v", e)
	}
	c.mustAdd(sub("Alias", "mine", "ID", "s3"))
	errOf(t, c.Set(false, set(`Device.LocalAgent.Subscription.[ID=="s3"].`, "!Alias", "other")))
	// A missing instance.
	e = errOf(t, c.Set(false, set("Device.LocalAgent.Subscription.999.", "Enable", "true")))
	if e.ErrCode != usp.CodeObjectDoesNotExist {
		t.Errorf("missing instance: %v", e)
	}
}

func TestDelete(t *testing.T) {
	r := newRig(t)
	c := r.c1
	rows := c.mustAdd(goodSub("d1"), goodSub("d2"), goodSub("d3"), goodSub("d4"))
	affected := func(name string, m *uspmsg.Msg, want ...int) []*uspmsg.DeleteResp_DeletedObjectResult {
		t.Helper()
		res := m.GetBody().GetResponse().GetDeleteResp().GetDeletedObjResults()
		if len(res) != len(want) {
			t.Fatalf("%s: %v", name, m)
		}
		for i, n := range want {
			s := res[i].GetOperStatus().GetOperSuccess()
			if n < 0 {
				if res[i].GetOperStatus().GetOperFailure() == nil {
					t.Errorf("%s: %v", name, res[i])
				}
			} else if s == nil || len(s.AffectedPaths) != n {
				t.Errorf("%s: %v", name, res[i])
			}
		}
		return res
	}
	affected("1.24", c.Delete(false, rows[0]), 1)
	affected("1.25", c.Delete(false, rows[0]), 0)
	e := errOf(t, c.Delete(false, "Device.LocalAgent.InvalidObject."))
	if len(e.ParamErrs) != 1 || e.ParamErrs[0].ParamPath != "Device.LocalAgent.InvalidObject." || e.ErrCode != usp.CodeInvalidArguments {
		t.Errorf("1.26: %v", e)
	}
	e = errOf(t, c.Delete(false, rows[1], "Device.LocalAgent.InvalidObject.")) // TP-469 1.28
	if len(e.ParamErrs) != 1 || e.ParamErrs[0].ParamPath != "Device.LocalAgent.InvalidObject." || !c.subIDs()["d2"] {
		t.Errorf("1.28: %v", e)
	}
	affected("1.29", c.Delete(true, rows[0]), 0)
	affected("1.30", c.Delete(true, "Device.LocalAgent.InvalidObject."), -1)
	affected("1.31", c.Delete(true, rows[1], "Device.LocalAgent.InvalidObject."), 1, -1)
	affected("1.32", c.Delete(true, rows[2], rows[0]), 1, 0)
	c.mustAdd(create("Device.LocalAgent.Controller.1.BootParameter.", "ParameterName", "Device.LocalAgent.UpTime", "Enable", "true"))
	path := `Device.LocalAgent.Controller.[EndpointID=="` + c1ID + `"&&Alias=="ctl-1"].BootParameter.1.`
	if res := affected("1.33", c.Delete(false, path), 1); res[0].RequestedPath != path {
		t.Errorf("1.33: %v", res)
	}
	affected("1.90", c.Delete(false, "Device.LocalAgent.Subscription.[Enable==false]."), 0)
	affected("1.34", c.Delete(false, "Device.LocalAgent.Subscription.*."), 1)
	if n := len(c.subIDs()); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	// TP-469 2.13: without the final dot
	row := c.mustAdd(goodSub("d5"))[0]
	affected("2.13", c.Delete(false, row[:len(row)-1]), 1)
	errOf(t, c.Delete(false, "Device.LocalAgent.Subscription."))
}

func TestDeleteStrict(t *testing.T) {
	r := newRig(t, optStrict)
	e := errOf(t, r.c1.Delete(false, "Device.LocalAgent.Subscription.77."))
	if e.ErrCode != usp.CodeObjectDoesNotExist {
		t.Errorf("%v", e)
	}
}

func TestGet(t *testing.T) {
	r := newRig(t)
	c := r.c1
	one := func(name, path string, code uint32, objects int) *uspmsg.GetResp_RequestedPathResult {
		t.Helper()
		res := c.Get(0, path)
		if len(res) != 1 || res[0].RequestedPath != path || res[0].ErrCode != code || len(res[0].ResolvedPathResults) != objects {
			t.Fatalf("%s: %v", name, res)
		}
		return res[0]
	}
	res := one("1.36", "Device.LocalAgent.EndpointID", 0, 1)
	if o := res.ResolvedPathResults[0]; o.ResolvedPath != "Device.LocalAgent." || o.ResultParams["EndpointID"] != agentID || len(o.ResultParams) != 1 {
		t.Errorf("1.36: %v", o)
	}
	if two := c.Get(0, "Device.LocalAgent.EndpointID", "Device.LocalAgent.SoftwareVersion"); len(two) != 2 || two[1].ResolvedPathResults[0].ResultParams["SoftwareVersion"] != "1.2.3" {
		t.Errorf("1.37: %v", two)
	}
	one("1.82", "Device.LocalAgent.Subscription.[Enable==true].", 0, 0)
	one("1.87", "Device.LocalAgent.Subscription.", 0, 0)
	rows := c.mustAdd(goodSub("g1"), sub("ID", "g2", "Enable", "false"))
	c.Set(false, set(rows[0], "NotifExpiration", "10"), set(rows[1], "NotifExpiration", "9"))
	one("1.40", rows[0], 0, 1)
	one("1.41", "Device.LocalAgent.InvalidParameter", usp.CodeInvalidPath, 0)
	if two := c.Get(0, "Device.LocalAgent.EndpointID", "Device.LocalAgent.Nope"); two[0].ErrCode != 0 || two[1].ErrCode != usp.CodeInvalidPath {
		t.Errorf("1.42: %v", two)
	}
	one("R-GET.0", "Device.LocalAgent.Subscription.999.", usp.CodeInvalidPath, 0)
	one("syntax", "Device.LocalAgent..", usp.CodeInvalidPathSyntax, 0)
	res = one("1.43", `Device.LocalAgent.Subscription.[ID=="g1"&&Recipient=="Device.LocalAgent.Controller.1"].Enable`, 0, 1)
	if res.ResolvedPathResults[0].ResolvedPath != rows[0] {
		t.Errorf("1.43: %v", res)
	}
	one("1.44", "Device.LocalAgent.Subscription.*.Enable", 0, 2)
	one("1.45", "Device.LocalAgent.Subscription.*.", 0, 2)
	one("1.46", "Device.LocalAgent.Subscription.[Enable==true].", 0, 1)
	one("1.47", "Device.LocalAgent.Subscription.[Enable!=true].", 0, 1)
	one("1.48", "Device.LocalAgent.Subscription.[NotifExpiration>9].", 0, 1)
	one("1.49", "Device.LocalAgent.Subscription.[NotifExpiration<10].", 0, 1)
	one("1.50", "Device.LocalAgent.Subscription.[NotifExpiration>=9].", 0, 2)
	one("1.51", "Device.LocalAgent.Subscription.[NotifExpiration <= 9].", 0, 1)
	one("1.86", "Device.LocalAgent.Subscription.[NotifRetry==true].", 0, 0)
	// TP-469 1.39, 1.89
	n1 := len(c.Get(1, "Device.LocalAgent.")[0].ResolvedPathResults)
	n2 := len(c.Get(2, "Device.LocalAgent.")[0].ResolvedPathResults)
	all := c.Get(0, "Device.LocalAgent.")[0].ResolvedPathResults
	if n1 != 1 || n2 <= n1 || len(all) <= n2 {
		t.Errorf("1.89: %d %d %d", n1, n2, len(all))
	}
	for _, o := range all {
		for k := range o.ResultParams {
			for _, ch := range k {
				if ch == '.' {
					t.Fatalf("1.39: key %s is not relative", k)
				}
			}
		}
	}
	// Secured values read as empty.
	if v, ok := c.get1("Device.MQTT.Client.1.Password"); !ok || v != "" {
		t.Errorf("password: %q %v", v, ok)
	}
}
