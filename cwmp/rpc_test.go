package cwmp

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"twinspan/cwmp/soap"
)

// RPC-01, RPC-02, RPC-03: the list is exactly what works.
func TestRPC01Methods(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	list := r.rpc(&soap.GetRPCMethods{}).(*soap.GetRPCMethodsResponse).MethodList
	for _, name := range []string{"GetRPCMethods", "SetParameterValues", "GetParameterValues", "GetParameterNames", "SetParameterAttributes",
		"GetParameterAttributes", "AddObject", "DeleteObject", "Reboot", "Download", "FactoryReset", "ScheduleInform", "Upload"} {
		if !slices.Contains(list, name) {
			t.Errorf("%s is missing", name)
		}
	}
	all := []soap.Message{&soap.GetParameterValues{}, &soap.GetParameterNames{ParameterPath: "x"}, &soap.SetParameterValues{},
		&soap.GetParameterAttributes{}, &soap.SetParameterAttributes{}, &soap.AddObject{}, &soap.DeleteObject{},
		&soap.ScheduleInform{}, &soap.Download{}, &soap.Upload{}, &soap.GetAllQueuedTransfers{}, &soap.GetQueuedTransfers{},
		&soap.ScheduleDownload{}, &soap.CancelTransfer{}, &soap.ChangeDUState{Operations: []soap.DUOperation{{Kind: soap.Uninstall}}},
		&soap.SetVouchers{}, &soap.GetOptions{}}
	for i, answer := range r.run(all...) {
		f, isFault := answer.(*soap.Fault)
		unsupported := isFault && f.Code == soap.MethodNotSupported
		if listed := slices.Contains(list, all[i].Method()); listed == unsupported {
			t.Errorf("%s: listed %v, answer %#v", all[i].Method(), listed, answer)
		}
	}
}

func names(m soap.Message) []string {
	var out []string
	for _, p := range m.(*soap.GetParameterNamesResponse).ParameterList {
		out = append(out, p.Name)
	}
	return out
}

func TestGetParameterNames(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	ask := func(path string, next bool) soap.Message {
		return &soap.GetParameterNames{ParameterPath: path, NextLevel: next}
	}
	a := r.run(ask("", true), ask("", false), ask("Device.", true), ask("Device.NAT.", false), ask("Device.DeviceInfo.SoftwareVersion", false),
		ask("Device.DeviceInfo.SoftwareVersion", true), ask("Device.Nonsense.", false), ask("Device.DeviceInfo", false),
		ask("Device.NAT.PortMapping.", true), ask("Device.IP.Interface.", true), ask("Device.IP.Interface.*.Status", false),
		ask("Device.IP.Interface.9.", true))
	if got := names(a[0]); !slices.Equal(got, []string{"Device."}) {
		t.Errorf("empty path, next level: %v", got)
	}
	whole := names(a[1]) // GPN-02
	for _, want := range []string{"Device.", "Device.IP.Interface.", "Device.IP.Interface.1.", "Device.IP.Interface.1.Enable", "Device.USPAgent.", "Device.ManagementServer.EnableCWMP"} {
		if !slices.Contains(whole, want) {
			t.Errorf("whole tree lacks %s", want)
		}
	}
	sorted := slices.Sorted(slices.Values(whole))
	if len(slices.Compact(sorted)) != len(whole) {
		t.Error("whole tree has names twice")
	}
	for _, n := range whole {
		if strings.HasPrefix(n, "Device.LocalAgent.") || strings.HasSuffix(n, "()") || strings.HasSuffix(n, "!") {
			t.Errorf("%s is not CWMP's", n)
		}
	}
	top := names(a[2]) // GPN-03
	if slices.Contains(top, "Device.") || !slices.Contains(top, "Device.IP.") || !slices.Contains(top, "Device.RootDataModelVersion") {
		t.Errorf("top level: %v", top)
	}
	for _, n := range top {
		if strings.Count(strings.TrimSuffix(n, "."), ".") != 1 {
			t.Errorf("%s is no direct child", n)
		}
	}
	nat := names(a[3]) // GPN-04
	if nat[0] != "Device.NAT." || !slices.Contains(nat, "Device.NAT.PortMapping.") || !slices.Contains(nat, "Device.NAT.PortMappingNumberOfEntries") {
		t.Errorf("subtree: %v", nat)
	}
	if got := names(a[4]); !slices.Equal(got, []string{"Device.DeviceInfo.SoftwareVersion"}) { // GPN-05
		t.Errorf("leaf: %v", got)
	}
	wantFault(t, a[5], soap.InvalidArguments)     // GPN-06
	wantFault(t, a[6], soap.InvalidParameterName) // GPN-07
	wantFault(t, a[7], soap.InvalidParameterName) // GPN-08
	if got := names(a[8]); len(got) != 0 {        // GPN-09
		t.Errorf("empty table: %v", got)
	}
	rows := names(a[9]) // GPN-10
	if !slices.Equal(rows, []string{"Device.IP.Interface.1.", "Device.IP.Interface.2."}) {
		t.Errorf("rows: %v", rows)
	}
	if got := names(a[10]); !slices.Equal(got, []string{"Device.IP.Interface.1.Status", "Device.IP.Interface.2.Status"}) { // GPN-11
		t.Errorf("wildcard: %v", got)
	}
	wantFault(t, a[11], soap.InvalidParameterName)
	for _, p := range a[3].(*soap.GetParameterNamesResponse).ParameterList {
		if want := p.Name != "Device.NAT."; strings.HasSuffix(p.Name, ".") && p.Writable != want {
			t.Errorf("%s: Writable %v", p.Name, p.Writable)
		}
	}
}

func TestGetParameterValues(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, map[string]string{"Device.ManagementServer.Password": "geheim", "Device.ManagementServer.ConnectionRequestPassword": "geheim"})
	ask := func(names ...string) soap.Message { return &soap.GetParameterValues{ParameterNames: names} }
	a := r.run(ask(""), ask("Device.ManagementServer."), ask("Device.Nonsense"), ask("Device.DeviceInfo.SoftwareVersion", "Device.Nonsense", "Device.DeviceInfo.HardwareVersion"),
		ask("Device.NAT.PortMapping."), ask("Device.IP.Interface.7.Enable"), ask("Device.DeviceInfo.SoftwareVersion", "Device.DeviceInfo.SoftwareVersion"),
		ask("Device.IP.Interface.1.Reset"), ask("Device.IP.Interface.*.Enable"), &soap.GetParameterNames{ParameterPath: "Device."}, ask("Device.IP.Interface.1.[x]"))
	whole := a[0].(*soap.GetParameterValuesResponse).ParameterList
	var leaves []string
	for _, n := range names(a[9]) {
		if !strings.HasSuffix(n, ".") {
			leaves = append(leaves, n)
		}
	}
	var read []string
	for _, v := range whole {
		read = append(read, v.Name)
		if v.Type == soap.NoType {
			t.Errorf("%s has no type", v.Name)
		}
		if strings.Contains(v.Value, "geheim") {
			t.Errorf("%s shows a secret", v.Name)
		}
	}
	slices.Sort(leaves)
	slices.Sort(read)
	if !slices.Equal(leaves, read) { // GPN-12
		t.Errorf("%d names, %d values", len(leaves), len(read))
	}
	for _, v := range a[1].(*soap.GetParameterValuesResponse).ParameterList { // GPV-02
		if !strings.HasPrefix(v.Name, "Device.ManagementServer.") || strings.HasSuffix(v.Name, ".") {
			t.Errorf("%s in Device.ManagementServer.", v.Name)
		}
		if v.Name == "Device.ManagementServer.Password" && v.Value != "" { // GPV-10
			t.Errorf("password is readable")
		}
	}
	wantFault(t, a[2], soap.InvalidParameterName)                                // GPV-04
	wantFault(t, a[3], soap.InvalidParameterName)                                // GPV-05
	if n := len(a[4].(*soap.GetParameterValuesResponse).ParameterList); n != 0 { // GPV-06
		t.Errorf("empty table: %d values", n)
	}
	wantFault(t, a[5], soap.InvalidParameterName) // GPV-07
	if n := len(a[6].(*soap.GetParameterValuesResponse).ParameterList); n != 2 {
		t.Errorf("same name twice: %d values", n) // GPV-08
	}
	if v := a[7].(*soap.GetParameterValuesResponse).ParameterList[0]; v.Value != "false" || v.Type != soap.Boolean { // GPV-11
		t.Errorf("command parameter %+v", v)
	}
	if n := len(a[8].(*soap.GetParameterValuesResponse).ParameterList); n != 2 {
		t.Errorf("wildcard: %d values", n)
	}
	wantFault(t, a[10], soap.InvalidParameterName)
}

func TestSetParameterValues(t *testing.T) {
	t.Parallel()
	const prov, iface = "Device.DeviceInfo.ProvisioningCode", "Device.IP.Interface.1."
	tests := []struct {
		name   string
		set    []string
		faults map[string]soap.FaultCode // nil: success
		top    soap.FaultCode
	}{
		{"SPV-03 read-only", []string{prov, "new", "Device.DeviceInfo.SoftwareVersion", "x"}, map[string]soap.FaultCode{"Device.DeviceInfo.SoftwareVersion": 9008}, 9003},
		{"SPV-04 unknown and wrong", []string{"Device.IP.Nonsense", "1", iface + "MaxMTUSize", "many", prov, "new"},
			map[string]soap.FaultCode{"Device.IP.Nonsense": 9005, iface + "MaxMTUSize": 9006}, 9003},
		{"SPV-09 no boolean", []string{iface + "Enable", "yes"}, map[string]soap.FaultCode{iface + "Enable": 9007}, 9003},
		{"SPV-11 partial path", []string{iface, "1", "Device.ManagementServer.PeriodicInformInterval", "0"},
			map[string]soap.FaultCode{iface: 9005, "Device.ManagementServer.PeriodicInformInterval": 9007}, 9003},
		{"RTY-09 out of range", []string{"Device.ManagementServer.CWMPRetryMinimumWaitInterval", "0"},
			map[string]soap.FaultCode{"Device.ManagementServer.CWMPRetryMinimumWaitInterval": 9007}, 9003},
		{"PER-05 interval 0", []string{"Device.ManagementServer.PeriodicInformInterval", "0"},
			map[string]soap.FaultCode{"Device.ManagementServer.PeriodicInformInterval": 9007}, 9003},
		{"SPV-06 twice", []string{prov, "a", prov, "b"}, map[string]soap.FaultCode{}, 9003},
		{"unknown row", []string{"Device.IP.Interface.99.Enable", "1"}, map[string]soap.FaultCode{"Device.IP.Interface.99.Enable": 9005}, 9003},
		{"no URL", []string{"Device.ManagementServer.URL", "gopher://x/"}, map[string]soap.FaultCode{"Device.ManagementServer.URL": 9007}, 9003},
	}
	r := newRig(t, nil, nil)
	r.rpc(&soap.SetParameterValues{ParameterKey: "before", ParameterList: values(prov, "old")})
	var rpcs []soap.Message
	for _, tt := range tests {
		rpcs = append(rpcs, &soap.SetParameterValues{ParameterKey: "after", ParameterList: values(tt.set...)})
	}
	rpcs = append(rpcs, &soap.GetParameterValues{ParameterNames: []string{prov, "Device.ManagementServer.ParameterKey"}})
	answers := r.run(rpcs...)
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := wantFault(t, answers[i], tt.top)
			got := map[string]soap.FaultCode{}
			for _, p := range f.SetParameterValuesFault {
				got[p.ParameterName] = p.FaultCode
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.faults) {
				t.Errorf("faults %v, want %v", got, tt.faults)
			}
		})
	}
	left := answers[len(tests)].(*soap.GetParameterValuesResponse).ParameterList
	if left[0].Value != "old" || left[1].Value != "before" { // all or nothing, ParameterKey with it
		t.Errorf("after the faults: %+v", left)
	}
}

// SPV-02, SPV-10, SPV-16, SPV-17, SPV-20, GPV-12.
func TestSetParameterValuesGood(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	typed := func(kind soap.Type, kv ...string) *soap.SetParameterValues {
		list := values(kv...)
		for i := range list {
			list[i].Type = kind
		}
		return &soap.SetParameterValues{ParameterKey: "K", ParameterList: list}
	}
	const mtu, prov = "Device.IP.Interface.1.MaxMTUSize", "Device.DeviceInfo.ProvisioningCode"
	for _, m := range []*soap.SetParameterValues{typed(soap.UnsignedInt, mtu, " 1400 "), typed(soap.String, mtu, " 1400\n"), typed(soap.UnsignedInt, mtu, "+1401"), typed(soap.UnsignedInt, mtu, "01402"),
		typed(soap.String, prov, " <&> \"é\" "), typed(soap.Boolean, "Device.IP.Interface.1.Enable", "1"), typed(soap.Boolean, "Device.IP.Interface.1.Enable", "true")} {
		a, ok := r.rpc(m).(*soap.SetParameterValuesResponse)
		if !ok || a.Status != 0 {
			t.Errorf("%v: %#v", m.ParameterList, a)
		}
	}
	if v := r.get(mtu); v != "1402" {
		t.Errorf("%s = %q", mtu, v)
	}
	if v := r.get(prov); v != " <&> \"é\" " { // GPV-17
		t.Errorf("%s = %q", prov, v)
	}
	if v := r.get("Device.ManagementServer.ParameterKey"); v != "K" {
		t.Errorf("ParameterKey %q", v)
	}
	r.restart()
	if v := r.get(mtu); v != "1402" {
		t.Errorf("after a restart %s = %q", mtu, v)
	}
	r.rpc(&soap.SetParameterValues{ParameterKey: "", ParameterList: values(prov, "x")})
	if v := r.get("Device.ManagementServer.ParameterKey"); v != "" {
		t.Errorf("ParameterKey %q", v)
	}
}

// ADD-01, ADD-04 to ADD-07, ADD-09.
func TestAddDeleteObject(t *testing.T) {
	t.Parallel()
	const table = "Device.NAT.PortMapping."
	r := newRig(t, nil, nil)
	a := r.run(&soap.AddObject{ObjectName: table, ParameterKey: "K1"}, &soap.AddObject{ObjectName: table, ParameterKey: "K2"},
		&soap.DeleteObject{ObjectName: table + "1.", ParameterKey: "K3"}, &soap.AddObject{ObjectName: table, ParameterKey: "K4"},
		&soap.GetParameterValues{ParameterNames: []string{"Device.NAT.PortMappingNumberOfEntries", "Device.ManagementServer.ParameterKey", table + "3.Enable"}})
	for i, want := range []uint32{1, 2, 0, 3} { // numbers are not used twice
		if want == 0 {
			if _, ok := a[i].(*soap.DeleteObjectResponse); !ok {
				t.Fatalf("delete: %#v", a[i])
			}
		} else if got, ok := a[i].(*soap.AddObjectResponse); !ok || got.InstanceNumber != want {
			t.Fatalf("add %d: %#v", i, a[i])
		}
	}
	v := a[4].(*soap.GetParameterValuesResponse).ParameterList
	if v[0].Value != "2" || v[1].Value != "K4" || v[2].Value != "false" {
		t.Errorf("after adding: %+v", v)
	}
	if _, ok := r.rpc(&soap.AddObject{ObjectName: table}).(*soap.AddObjectResponse); !ok {
		t.Error("third row refused")
	}
	r.rpc(&soap.SetParameterValues{ParameterKey: "K5", ParameterList: values("Device.DeviceInfo.ProvisioningCode", "x")})
	a = r.run(&soap.AddObject{ObjectName: table, ParameterKey: "bad"}, // ADD-04: full
		&soap.DeleteObject{ObjectName: table + "1.", ParameterKey: "bad"}, &soap.DeleteObject{ObjectName: table, ParameterKey: "bad"},
		&soap.DeleteObject{ObjectName: "Device.NAT.", ParameterKey: "bad"}, &soap.AddObject{ObjectName: "Device.NAT.PortMapping", ParameterKey: "bad"},
		&soap.AddObject{ObjectName: table + "2.", ParameterKey: "bad"}, &soap.AddObject{ObjectName: "Device.Nonsense.", ParameterKey: "bad"},
		&soap.AddObject{ObjectName: "Device.DeviceInfo.", ParameterKey: "bad"})
	for i, code := range []soap.FaultCode{9004, 9005, 9005, 9005, 9005, 9005, 9005, 9005} {
		wantFault(t, a[i], code)
	}
	if v := r.get("Device.ManagementServer.ParameterKey"); v != "K5" { // ADD-07
		t.Errorf("ParameterKey %q", v)
	}
	r.restart()
	if got := names(r.rpc(&soap.GetParameterNames{ParameterPath: table, NextLevel: true})); !slices.Equal(got, []string{table + "2.", table + "3.", table + "4."}) {
		t.Errorf("rows after a restart %v", got)
	}
}

func TestAttributes(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	const prov, name, up, en = "Device.DeviceInfo.ProvisioningCode", "Device.Time.LocalTimeZone", "Device.DeviceInfo.UpTime", "Device.IP.Interface.1.Enable"
	set := func(list ...soap.SetAttribute) soap.Message { return &soap.SetParameterAttributes{ParameterList: list} }
	n := func(name string, v int) soap.SetAttribute {
		return soap.SetAttribute{Name: name, NotificationChange: true, Notification: v}
	}
	get := func(names ...string) soap.Message { return &soap.GetParameterAttributes{ParameterNames: names} }
	a := r.run(
		set(n(name, 1)),                        // 0
		set(n(up, 2)),                          // 1 ATT-06
		set(n(up, 1)),                          // 2 ATT-07
		set(n(up, 5)),                          // 3 ATT-06, lightweight
		set(n(en, 2), n("Device.Nonsense", 1)), // 4 ATT-11
		set(soap.SetAttribute{Name: name, Notification: 2}),                                                    // 5 ATT-05
		set(soap.SetAttribute{Name: name, AccessListChange: true, AccessList: []string{"X_0005B9_Installer"}}), // 6 ATT-12
		set(n("Device.IP.Interface.2.", 1), n("Device.IP.Interface.2.Enable", 0)),                              // 7 ATT-10, ATT-16
		set(n(prov, 0)), // 8 cannot be switched off
		get(name, up, en, prov, "Device.IP.Interface.2.Enable", "Device.IP.Interface.2.Name"), // 9
		get(""),                 // 10 ATT-02
		get("Device.Nonsense."), // 11
		set(n("Device.", 2)))    // 12: counters below
	for _, i := range []int{0, 2, 5, 6, 7, 8} {
		if _, ok := a[i].(*soap.SetParameterAttributesResponse); !ok {
			t.Errorf("%d: %#v", i, a[i])
		}
	}
	wantFault(t, a[1], soap.NotificationRejected)
	wantFault(t, a[3], soap.NotificationRejected)
	wantFault(t, a[4], soap.InvalidParameterName)
	wantFault(t, a[11], soap.InvalidParameterName)
	wantFault(t, a[12], soap.NotificationRejected)
	check := func(a soap.Message) {
		t.Helper()
		got := a.(*soap.GetParameterAttributesResponse).ParameterList
		for i, want := range []int{1, 1, 0, 2, 0, 1} {
			if got[i].Notification != want {
				t.Errorf("%s: Notification %d, want %d", got[i].Name, got[i].Notification, want)
			}
		}
		if !slices.Equal(got[0].AccessList, []string{"X_0005B9_Installer"}) {
			t.Errorf("AccessList %v", got[0].AccessList)
		}
	}
	check(a[9])
	if len(a[10].(*soap.GetParameterAttributesResponse).ParameterList) < 100 {
		t.Error("the whole tree is small")
	}
	r.restart() // ATT-14
	check(r.rpc(get(name, up, en, prov, "Device.IP.Interface.2.Enable", "Device.IP.Interface.2.Name")))
}

// The isolated view: a write of another manager during the session is not seen in it (DESIGN invariant 5).
func TestShield(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	r.ended(1)
	const zone = "Device.Time.LocalTimeZone"
	read := func() *soap.Envelope { return r.acs.rpc(&soap.GetParameterValues{ParameterNames: []string{zone}}) }
	r.acs.script(func(n int, env *soap.Envelope) (int, *soap.Envelope, bool) {
		if len(r.acs.sessions) != 2 {
			return 0, nil, false
		}
		switch n {
		case 1:
			return 0, read(), true
		case 2:
			r.usp(zone, "UTC+1")
			return 0, read(), true
		}
		return 0, nil, false
	})
	r.cpe.requested()
	r.ended(2)
	msgs := r.acs.session(1)
	before := msgs[2].Body.(*soap.GetParameterValuesResponse).ParameterList[0].Value
	after := msgs[3].Body.(*soap.GetParameterValuesResponse).ParameterList[0].Value
	if before != after {
		t.Errorf("the session saw %q become %q", before, after)
	}
	if v := r.get(zone); v != "UTC+1" {
		t.Errorf("the next session reads %q", v)
	}
}
