package cwmp

import (
	"slices"
	"strings"
	"testing"

	"twinspan/cwmp/soap"
	"twinspan/datamodel"
)

func valuesOf(t testing.TB, m soap.Message) map[string]string {
	t.Helper()
	a, ok := m.(*soap.GetParameterValuesResponse)
	if !ok {
		t.Fatalf("got %#v", m)
	}
	out := map[string]string{}
	for _, v := range a.ParameterList {
		out[v.Name] = v.Value
	}
	return out
}

// ALI-01 to ALI-05, ALI-09.
func TestALI02AliasAddressing(t *testing.T) {
	t.Parallel()
	const table, iface = "Device.NAT.PortMapping.", "Device.IP.Interface."
	r := newRig(t, nil, nil)
	get := func(names ...string) soap.Message { return &soap.GetParameterValues{ParameterNames: names} }
	set := func(kv ...string) soap.Message { return &soap.SetParameterValues{ParameterList: values(kv...)} }
	a := r.run(
		&soap.AddObject{ObjectName: table + "[web1].", ParameterKey: "K1"},                                                                           // 0
		&soap.AddObject{ObjectName: table + "[web1].", ParameterKey: "K2"},                                                                           // 1 ALI-03
		get(table+"[web1].Alias", msPath+"AliasBasedAddressing", parameterKeyPath),                                                                   // 2
		set(iface+"1.Alias", "wan", table+"[web1].ExternalPort", " 8080 ", table+"[web1].Interface", iface+"[cpe-none]"),                             // 3
		set(iface+"1.Alias", "wan", table+"[web1].ExternalPort", " 8080 "),                                                                           // 4
		set(table+"[web1].Interface", iface+"[wan]"),                                                                                                 // 5
		get(table+"[web1].ExternalPort", table+"[web1].Interface"),                                                                                   // 6
		set(msPath+"InstanceMode", "InstanceAlias"),                                                                                                  // 7
		get(table+"1.ExternalPort", table+"[web1].Interface", iface+"1.Enable"),                                                                      // 8 ALI-04
		&soap.GetParameterNames{ParameterPath: table, NextLevel: true},                                                                               // 9
		&soap.GetParameterAttributes{ParameterNames: []string{table + "[web1].Enable"}},                                                              // 10
		&soap.SetParameterAttributes{ParameterList: []soap.SetAttribute{{Name: table + "[web1].Enable", NotificationChange: true, Notification: 1}}}, // 11
		get(table+"[nobody].Enable"),                                                                                                                 // 12
		set(table+"[web1].ExternalPort", "1", table+"1.ExternalPort", "2"),                                                                           // 13 SPV-06 by two names
		get(table+`[Alias=="web1"].Enable`),                                                                                                          // 14
		set(table+"[web1].ExternalPort", "many", table+"[web1.Enable", "1"),                                                                          // 15
		get(table+"*.ExternalPort"))
	if m, ok := a[0].(*soap.AddObjectResponse); !ok || m.InstanceNumber != 1 {
		t.Fatalf("add: %#v", a[0])
	}
	wantFault(t, a[1], soap.InvalidArguments)
	if v := valuesOf(t, a[2]); v[table+"1.Alias"] != "web1" || v[msPath+"AliasBasedAddressing"] != "true" || v[parameterKeyPath] != "K1" {
		t.Errorf("after adding: %v", v)
	}
	wantFault(t, a[3], soap.InvalidArguments)
	for _, i := range []int{4, 5, 7, 11} {
		if _, ok := a[i].(*soap.Fault); ok {
			t.Fatalf("%d: %#v", i, a[i])
		}
	}
	if v := valuesOf(t, a[6]); v[table+"1.ExternalPort"] != "8080" || v[table+"1.Interface"] != iface+"1" {
		t.Errorf("by number: %v", v)
	}
	if v := valuesOf(t, a[8]); v[table+"[web1].ExternalPort"] != "8080" || v[table+"[web1].Interface"] != iface+"[wan]" || v[iface+"[wan].Enable"] != "true" {
		t.Errorf("by alias: %v", v)
	}
	if n := names(a[9]); !slices.Equal(n, []string{table + "[web1]."}) {
		t.Errorf("names: %v", n)
	}
	if n := a[10].(*soap.GetParameterAttributesResponse).ParameterList[0].Name; n != table+"[web1].Enable" {
		t.Errorf("attributes of %s", n)
	}
	wantFault(t, a[12], soap.InvalidParameterName)
	wantFault(t, a[13], soap.InvalidArguments)
	wantFault(t, a[14], soap.InvalidParameterName)
	f := wantFault(t, a[15], soap.InvalidArguments)
	if l := f.SetParameterValuesFault; len(l) != 2 || l[0].FaultCode != soap.InvalidParameterType && l[0].FaultCode != soap.InvalidParameterValue || l[1].FaultCode != soap.InvalidParameterName {
		t.Errorf("faults %+v", l)
	}
	if v := valuesOf(t, a[16]); v[table+"[web1].ExternalPort"] != "8080" {
		t.Errorf("wildcard: %v", v)
	}
	// the Inform speaks aliases, too
	n := r.acs.count()
	r.usp(table+"1.Enable", "true")
	r.wait("the change to arrive", func() bool {
		seen := false
		r.cpe.call(r.ctx(), func() error { seen = len(r.cpe.changes.pending) > 0; return nil })
		return seen
	})
	r.cpe.requested()
	r.ended(n + 1)
	told := false
	for i := n; i < r.acs.count(); i++ {
		_, ok := informed(inform(r.acs.session(i)), table+"[web1].Enable")
		told = told || ok
	}
	if !told {
		t.Error("the Inform does not name the row by its alias")
	}
	if _, ok := r.rpc(&soap.DeleteObject{ObjectName: table + "[web1]."}).(*soap.DeleteObjectResponse); !ok {
		t.Error("row not deleted by its alias")
	}
}

// ALI-06 to ALI-08: rows that SetParameterValues makes, and that vanish with it.
func TestALI06AutoCreate(t *testing.T) {
	t.Parallel()
	const table = "Device.NAT.PortMapping."
	r := newRig(t, nil, nil)
	set := func(key string, kv ...string) soap.Message {
		return &soap.SetParameterValues{ParameterKey: key, ParameterList: values(kv...)}
	}
	rows := func() []string { return names(r.rpc(&soap.GetParameterNames{ParameterPath: table, NextLevel: true})) }
	f := wantFault(t, r.rpc(set("off", table+"[a].ExternalPort", "1")), soap.InvalidArguments) // ALI-07
	if l := f.SetParameterValuesFault; len(l) != 1 || l[0].FaultCode != soap.InvalidParameterName || len(rows()) != 0 {
		t.Errorf("without AutoCreateInstances: %+v, rows %v", l, rows())
	}
	if _, ok := r.rpc(set("", autoCreatePath, "true")).(*soap.SetParameterValuesResponse); !ok {
		t.Fatal("AutoCreateInstances refused")
	}
	a := r.run(
		set("bad", table+"[a].ExternalPort", "1", "Device.DeviceInfo.SoftwareVersion", "x"),                            // ALI-08
		set("bad", table+"[a].ExternalPort", "1", "Device.DeviceInfo.", "x"),                                           // with a bad name
		set("bad", table+"[a].ExternalPort", "many"),                                                                   // with a bad value in the row
		set("bad", "Device.IP.Interface.[x].Nonsense", "1"),                                                            // with a bad parameter in the row
		set("bad", table+"[a].Enable", "1", table+"[b].Enable", "1", table+"[c].Enable", "1", table+"[d].Enable", "1")) // no room for four
	for i, want := range []soap.FaultCode{9003, 9003, 9003, 9003, 9004} {
		wantFault(t, a[i], want)
	}
	if got := rows(); len(got) != 0 {
		t.Fatalf("rows left behind: %v", got)
	}
	ok := r.rpc(set("good", table+"[a].ExternalPort", "1", table+"[a].Enable", "1", table+"[b].ExternalPort", "2"))
	if _, good := ok.(*soap.SetParameterValuesResponse); !good {
		t.Fatalf("got %#v", ok)
	}
	v := valuesOf(t, r.rpc(&soap.GetParameterValues{ParameterNames: []string{table, parameterKeyPath}}))
	found := map[string]string{}
	for name, value := range v {
		if strings.HasSuffix(name, ".Alias") {
			found[value] = v[strings.TrimSuffix(name, "Alias")+"ExternalPort"]
		}
	}
	if len(found) != 2 || found["a"] != "1" || found["b"] != "2" || v[parameterKeyPath] != "good" {
		t.Errorf("rows %v", v)
	}
}

func TestAliased(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"Device.A.[x].B.[y-1].C": "Device.A.[x].|Device.A.[x].B.[y-1].", "Device.A.1.B": "", "Device.A.[x]": "!", "Device.A[x].B": "!",
		"Device.A.[].B": "!", "Device.A.[1x].B": "!", "Device.A.[x==1].B": "!", "Device.A.[x.B": "!", "Device.A.x].B": "!", "[x].B": "!", "Device.A.[x.y].B": "Device.A.[x.y].",
	} {
		rows, ok := aliased(path)
		got := strings.Join(rows, "|")
		if !ok {
			got = "!"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

func FuzzAliased(f *testing.F) {
	f.Add("Device.A.[x].B")
	f.Add("Device.A.[x].[y].")
	f.Fuzz(func(t *testing.T, path string) {
		rows, ok := aliased(path)
		for _, row := range rows {
			if _, _, split := splitAlias(row); ok && (!split || !strings.HasPrefix(path, row)) {
				t.Errorf("%q gives row %q", path, row)
			}
		}
		schemaPath(path)
		_, _ = datamodel.ParsePath(path)
	})
}
