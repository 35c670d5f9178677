package agent

import (
	"slices"
	"testing"

	"twinspan/datamodel"
	"twinspan/usp"
	"twinspan/usp/uspmsg"
)

func optStrict(_ *datamodel.Profile, o *Options) { o.StrictDelete = true }

func (c *ctl) instances(first bool, paths ...string) []*uspmsg.GetInstancesResp_RequestedPathResult {
	c.t.Helper()
	m := c.ask(&uspmsg.Request{ReqType: &uspmsg.Request_GetInstances{GetInstances: &uspmsg.GetInstances{ObjPaths: paths, FirstLevelOnly: first}}})
	if m.GetBody().GetResponse().GetGetInstancesResp() == nil {
		c.t.Fatalf("GetInstances: %v", m)
	}
	return m.GetBody().GetResponse().GetGetInstancesResp().ReqPathResults
}

func TestGetInstances(t *testing.T) {
	r := newRig(t)
	c := r.c1
	c.mustAdd(create("Device.LocalAgent.Controller.1.BootParameter.", "ParameterName", "Device.LocalAgent.UpTime"))
	cases := []struct {
		name  string
		first bool
		path  string
		code  uint32
		want  []string
	}{
		{"1.66", true, "Device.LocalAgent.Controller.", 0, []string{"Device.LocalAgent.Controller.1.", "Device.LocalAgent.Controller.2."}},
		{"1.67", false, "Device.LocalAgent.Controller.", 0, []string{"Device.LocalAgent.Controller.1.", "Device.LocalAgent.Controller.1.BootParameter.1.",
			"Device.LocalAgent.Controller.1.MTP.1.", "Device.LocalAgent.Controller.2.", "Device.LocalAgent.Controller.2.MTP.1."}},
		{"1.70", true, "Device.LocalAgent.Controller.*.MTP.", 0, []string{"Device.LocalAgent.Controller.1.MTP.1.", "Device.LocalAgent.Controller.2.MTP.1."}},
		{"1.71", true, `Device.LocalAgent.Controller.[Alias=="ctl-1"].BootParameter.`, 0, []string{"Device.LocalAgent.Controller.1.BootParameter.1."}},
		{"1.83", true, `Device.LocalAgent.Controller.[Alias=="nobody"].BootParameter.`, 0, nil},
		{"not a table", true, "Device.LocalAgent.", usp.CodeNotATable, nil},
		{"unknown", true, "Device.Nothing.", usp.CodeInvalidPath, nil},
		{"missing", true, "Device.LocalAgent.Controller.9.MTP.", usp.CodeObjectDoesNotExist, nil},
	}
	for _, k := range cases {
		res := c.instances(k.first, k.path)
		if len(res) != 1 || res[0].RequestedPath != k.path || res[0].ErrCode != k.code {
			t.Errorf("%s: %v", k.name, res)
			continue
		}
		var got []string
		for _, i := range res[0].CurrInsts {
			got = append(got, i.InstantiatedObjPath)
		}
		slices.Sort(got)
		if !slices.Equal(got, k.want) {
			t.Errorf("%s: %v, want %v", k.name, got, k.want)
		}
	}
	keys := c.instances(true, "Device.LocalAgent.Controller.")[0].CurrInsts[0].UniqueKeys
	if keys["EndpointID"] != c1ID || keys["Alias"] != "ctl-1" {
		t.Errorf("keys %v", keys)
	}
	if two := c.instances(true, "Device.LocalAgent.Controller.", "Device.LocalAgent.MTP."); len(two) != 2 { // TP-469 1.68
		t.Errorf("1.68: %v", two)
	}
}

func (c *ctl) supported(req *uspmsg.GetSupportedDM) []*supResult {
	c.t.Helper()
	m := c.ask(&uspmsg.Request{ReqType: &uspmsg.Request_GetSupportedDm{GetSupportedDm: req}})
	if m.GetBody().GetResponse().GetGetSupportedDmResp() == nil {
		c.t.Fatalf("GetSupportedDM: %v", m)
	}
	return m.GetBody().GetResponse().GetGetSupportedDmResp().ReqObjResults
}

func everything(paths ...string) *uspmsg.GetSupportedDM {
	return &uspmsg.GetSupportedDM{ObjPaths: paths, ReturnCommands: true, ReturnEvents: true, ReturnParams: true, ReturnUniqueKeySets: true}
}

func TestGetSupportedDM(t *testing.T) {
	r := newRig(t)
	c := r.c1
	// TP-469 1.72, 1.76
	res := c.supported(everything("Device."))[0]
	objs := map[string]*supObject{}
	for _, o := range res.SupportedObjs {
		objs[o.SupportedObjPath] = o
	}
	if res.ErrCode != 0 || objs["Device.LocalAgent.Subscription.{i}."] == nil || objs["Device.USPAgent."] != nil || objs["Device.ManagementServer."] != nil {
		t.Fatalf("1.76: %d objects, code %d", len(objs), res.ErrCode)
	}
	s := objs["Device.LocalAgent.Subscription.{i}."]
	if s.Access != uspmsg.GetSupportedDMResp_OBJ_ADD_DELETE || !s.IsMultiInstance || len(s.UniqueKeySets) != 2 {
		t.Errorf("subscription: %v", s)
	}
	for _, p := range s.SupportedParams {
		switch p.ParamName {
		case "Alias": // writeOnceReadOnly
			if p.Access != uspmsg.GetSupportedDMResp_PARAM_READ_WRITE || p.ValueType != uspmsg.GetSupportedDMResp_PARAM_STRING {
				t.Errorf("%v", p)
			}
		case "Recipient":
			if p.Access != uspmsg.GetSupportedDMResp_PARAM_READ_ONLY {
				t.Errorf("%v", p)
			}
		case "NotifExpiration":
			if p.ValueType != uspmsg.GetSupportedDMResp_PARAM_UNSIGNED_INT {
				t.Errorf("%v", p)
			}
		}
	}
	for _, p := range objs["Device.LocalAgent."].SupportedParams {
		if p.ParamName == "UpTime" && p.ValueChange != uspmsg.GetSupportedDMResp_VALUE_CHANGE_WILL_IGNORE {
			t.Errorf("%v", p)
		}
	}
	// TP-469 1.73, 1.74
	req := everything("Device.LocalAgent.")
	req.FirstLevelOnly = true
	for i, o := range c.supported(req)[0].SupportedObjs {
		full := len(o.SupportedParams) > 0 || len(o.SupportedCommands) > 0 || len(o.SupportedEvents) > 0
		if full != (i == 0) {
			t.Errorf("1.73: %v", o.SupportedObjPath)
		}
	}
	for _, o := range c.supported(&uspmsg.GetSupportedDM{ObjPaths: []string{"Device.LocalAgent."}, FirstLevelOnly: true})[0].SupportedObjs {
		if len(o.SupportedParams)+len(o.SupportedCommands)+len(o.SupportedEvents)+len(o.UniqueKeySets) > 0 {
			t.Errorf("1.74: %v", o)
		}
	}
	// TP-469 1.77
	if res := c.supported(everything("Device.LocalAgent.Nothing.")); len(res) != 1 || res[0].ErrCode != usp.CodeInvalidPath {
		t.Errorf("1.77: %v", res)
	}
	// TP-469 1.99
	sets := c.supported(&uspmsg.GetSupportedDM{ObjPaths: []string{"Device.LocalAgent.Subscription"}, ReturnUniqueKeySets: true})
	if len(sets) != 1 || len(sets[0].SupportedObjs) != 1 || len(sets[0].SupportedObjs[0].UniqueKeySets) != 2 {
		t.Errorf("1.99: %v", sets)
	}
	// TP-469 1.105, 1.106, 1.107
	one := c.supported(everything("Device.ScheduleTimer()", "Device.Boot!", "Device.LocalAgent.EndpointID"))
	count := func(o *supObject) [4]int {
		return [4]int{len(o.SupportedCommands), len(o.SupportedEvents), len(o.SupportedParams), len(o.UniqueKeySets)}
	}
	for i, want := range [][4]int{{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}} {
		if len(one[i].SupportedObjs) != 1 || count(one[i].SupportedObjs[0]) != want {
			t.Errorf("1.105-107: %v", one[i])
		}
	}
	cmd := one[0].SupportedObjs[0].SupportedCommands[0]
	if cmd.CommandType != uspmsg.GetSupportedDMResp_CMD_ASYNC || !slices.Contains(cmd.InputArgNames, "DelaySeconds") {
		t.Errorf("%v", cmd)
	}
	// Paths of things that exist, and of things that do not.
	for path, code := range map[string]uint32{"Device.LocalAgent.Controller.1.": 0, "Device.LocalAgent.Controller.{i}.MTP.{i}.": 0,
		"Device.LocalAgent.Controller.{i}.MTP": 0, "Device.LocalAgent.Controller.9.": usp.CodeObjectDoesNotExist,
		"Device.LocalAgent.Controller.{i}.MTP.1.": usp.CodeInvalidPathSyntax, "Device.LocalAgent.Controller.*.": usp.CodeInvalidPathSyntax} {
		if res := c.supported(everything(path)); res[0].ErrCode != code {
			t.Errorf("%s: %d %s", path, res[0].ErrCode, res[0].ErrMsg)
		}
	}
	m := c.ask(&uspmsg.Request{ReqType: &uspmsg.Request_GetSupportedProtocol{GetSupportedProtocol: &uspmsg.GetSupportedProtocol{}}}) // TP-469 1.80
	if m.GetBody().GetResponse().GetGetSupportedProtocolResp().GetAgentSupportedProtocolVersions() != usp.SupportedVersions {
		t.Errorf("1.80: %v", m)
	}
	if e := errOf(t, c.ask(&uspmsg.Request{ReqType: &uspmsg.Request_Register{Register: &uspmsg.Register{}}})); e.ErrCode != usp.CodeMessageNotSupported {
		t.Errorf("Register: %v", e)
	}
}
