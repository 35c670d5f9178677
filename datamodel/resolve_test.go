package datamodel

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// testSchema is a small hand-made part of TR-181 with both projections in it.
func testSchema() *Schema {
	root := &Object{Path: "Device.", Name: "Device", Protocols: Both}
	add := func(parent *Object, name string, multi bool, proto Protocol, params ...*Param) *Object {
		o := &Object{Name: name, Multi: multi, Parent: parent, Protocols: proto, Path: parent.Path + name + "."}
		if multi {
			o.Path += "{i}."
		}
		for _, p := range params {
			p.Object = o
		}
		slices.SortFunc(params, func(a, b *Param) int { return cmp.Compare(a.Name, b.Name) })
		o.Params = params
		parent.Children = append(parent.Children, o)
		slices.SortFunc(parent.Children, func(a, b *Object) int { return cmp.Compare(a.Name, b.Name) })
		return o
	}
	both := func(name string, f Facts) *Param { return NewParam(name, &f, &f) }
	str := Facts{Type: TypeString}
	boolean := Facts{Type: TypeBoolean}
	num := Facts{Type: TypeUnsignedInt}
	ref := Facts{Type: TypeString, PathRef: &PathRef{Strong: true, Target: "row"}}
	refs := ref
	refs.List = true

	ip := add(root, "IP", false, Both, both("InterfaceNumberOfEntries", num))
	ipif := add(ip, "Interface", true, Both, both("Alias", str), both("Enable", boolean), both("Name", str),
		both("LowerLayers", refs), both("MaxMTUSize", num), both("Secret", Facts{Type: TypeString, Hidden: true}),
		both("LastChange", Facts{Type: TypeDateTime}), both("Flags", Facts{Type: TypeString, List: true}))
	ipif.Keys = []UniqueKey{{Params: []string{"Alias"}}}
	add(ipif, "Stats", false, Both, both("BytesSent", Facts{Type: TypeUnsignedLong}))
	add(ipif, "IPv4Address", true, Both, both("IPAddress", str), both("Enable", boolean))
	eth := add(root, "Ethernet", false, Both)
	ethif := add(eth, "Interface", true, Both, both("Name", str), both("Enable", boolean), both("LowerLayers", refs))
	add(ethif, "Stats", false, Both, both("BytesSent", Facts{Type: TypeUnsignedLong}))
	add(root, "Time", false, Both, both("Enable", boolean))
	agent := add(root, "LocalAgent", false, Both, both("EndpointID", str), NewParam("AddCertificate", &str, nil))
	add(agent, "Controller", true, Both, both("EndpointID", str), both("Enable", boolean))
	add(agent, "Subscription", true, USP, NewParam("ID", nil, &str), NewParam("Recipient", nil, &ref))
	agent.Commands = []*Command{{Name: "AddCertificate()", Object: agent}}
	add(root, "ManagementServer", false, Both, NewParam("URL", &str, nil), both("EnableCWMP", boolean))
	bulk := add(root, "BulkData", false, Both)
	add(bulk, "Profile", true, Both, both("Controller", ref), both("Name", str))
	root.Commands = []*Command{{Name: "Reboot()", Object: root}}
	root.Events = []*Event{{Name: "Boot!", Object: root}}
	return NewSchema("Device", "test", root)
}

func testTree() *MemTree {
	t := NewMemTree()
	for i, n := range []string{"lo", "eth0", "eth1", "wan"} {
		row := fmt.Sprintf("Device.IP.Interface.%d.", i+1)
		t.Set(row+"Name", n)
		t.Set(row+"Alias", "cpe-"+n)
		t.Set(row+"Enable", fmt.Sprint(i != 2))
		t.Set(row+"MaxMTUSize", fmt.Sprint(1000+i*250))
		t.Set(row+"Secret", "s3cret")
		t.Set(row+"Flags", "up,"+n)
		t.Set(row+"LastChange", fmt.Sprintf("2026-01-0%dT00:00:00Z", i+1))
		t.Set(row+"Stats.BytesSent", fmt.Sprint(uint64(1)<<63+uint64(i)))
	}
	t.Set("Device.IP.Interface.2.LowerLayers", "Device.Ethernet.Interface.1")
	t.Set("Device.IP.Interface.3.LowerLayers", "Device.Ethernet.Interface.2, Device.Ethernet.Interface.1")
	t.Set("Device.IP.Interface.4.LowerLayers", "Device.Ethernet.Interface.9")
	t.Set("Device.IP.Interface.2.IPv4Address.1.IPAddress", "192.0.2.1")
	t.Set("Device.IP.Interface.2.IPv4Address.3.IPAddress", "192.0.2.3")
	t.Set("Device.Ethernet.Interface.1.Name", "eth0")
	t.Set("Device.Ethernet.Interface.2.Name", "eth1")
	t.Set("Device.Ethernet.Interface.1.Enable", "true")
	t.Set("Device.LocalAgent.Controller.1.EndpointID", "proto::a")
	t.Set("Device.LocalAgent.Controller.2.EndpointID", "proto::b")
	t.Set("Device.LocalAgent.Subscription.1.Recipient", "Device.LocalAgent.Controller.2")
	t.Set("Device.BulkData.Profile.1.Controller", "Device.LocalAgent.Controller.1")
	t.Set("Device.BulkData.Profile.2.Controller", `Device.LocalAgent.Controller.[EndpointID=="proto::b"]`)
	t.AddRow("Device.BulkData.Profile.3.")
	return t
}

func resolveText(t *testing.T, s *Schema, tree Tree, proto Protocol, path string, pol ResolvePolicy) string {
	t.Helper()
	p, err := ParsePath(path)
	if err != nil {
		return "parse: " + err.Error()
	}
	ms, err := Resolve(s, tree, proto, p, pol)
	if err != nil {
		return "error: " + ReasonOf(err).String()
	}
	var out []string
	for _, m := range ms {
		text := m.Path
		if m.Table {
			text += " table"
		}
		for _, set := range []bool{m.Param != nil, m.Command != nil, m.Event != nil} {
			if set {
				text += "*"
			}
		}
		out = append(out, text)
	}
	return strings.ReplaceAll(strings.Join(out, " "), "Device.", "")
}

func TestResolve(t *testing.T) {
	s, tree := testSchema(), testTree()
	strict := ResolvePolicy{MissingIsError: true, AllowTable: true}
	noTable := ResolvePolicy{MissingIsError: true}
	soft := ResolvePolicy{}
	alias := ResolvePolicy{MissingIsError: true, AllowTable: true, CWMPAlias: true}
	tests := []struct {
		proto Protocol
		path  string
		pol   ResolvePolicy
		want  string
	}{
		{USP, "Device.", strict, ""}, // the replaced "Device." is empty: see below
		{USP, "", strict, "error: invalid path syntax"},
		{USP, "Device.IP.", strict, "IP."},
		{USP, "Device.IP.Interface.", strict, "IP.Interface. table"},
		{USP, "Device.IP.Interface.", noTable, "error: object does not exist"},
		{USP, "Device.IP.Interface.2.", noTable, "IP.Interface.2."},
		{USP, "Device.IP.Interface.2.Enable", strict, "IP.Interface.2.Enable*"},
		{USP, "Device.IP.Interface.9.Enable", strict, "error: object does not exist"},
		{USP, "Device.IP.Interface.9.Enable", soft, ""},
		{USP, "Device.IP.Interface.9.Bogus", soft, "error: not in the supported data model"},
		{USP, "Device.IP.Interface.Enable", strict, "error: not in the supported data model"},
		{USP, "Device.IP.2.", strict, "error: not in the supported data model"},
		{USP, "Device.IP", strict, "error: not in the supported data model"},
		{USP, "Device", strict, "error: not in the supported data model"},
		{USP, "InternetGatewayDevice.", strict, "error: not in the supported data model"},
		{USP, "Device.IP.Interface.{i}.Enable", strict, "error: invalid path syntax"},
		{USP, "Device.IP.Interface.*.Enable", strict, "IP.Interface.1.Enable* IP.Interface.2.Enable* IP.Interface.3.Enable* IP.Interface.4.Enable*"},
		{USP, "Device.IP.Interface.*.Bogus", strict, "error: not in the supported data model"},
		{USP, "Device.IP.Interface.*.IPv4Address.*.", strict, "IP.Interface.2.IPv4Address.1. IP.Interface.2.IPv4Address.3."},
		{USP, "Device.IP.Interface.*.IPv4Address.", strict, "IP.Interface.1.IPv4Address. table IP.Interface.2.IPv4Address. table IP.Interface.3.IPv4Address. table IP.Interface.4.IPv4Address. table"},
		{USP, "Device.IP.Interface.3.IPv4Address.*.IPAddress", strict, ""},
		{USP, `Device.IP.Interface.[Name=="eth0"].`, strict, "IP.Interface.2."},
		{USP, `Device.IP.Interface.[Name=="none"].`, strict, ""},
		{USP, `Device.IP.Interface.[Name!="eth0"&&Enable==1].`, strict, "IP.Interface.1. IP.Interface.4."},
		{USP, `Device.IP.Interface.[MaxMTUSize>=1250&&MaxMTUSize<01750].`, strict, "IP.Interface.2. IP.Interface.3."},
		{USP, `Device.IP.Interface.[Stats.BytesSent>9223372036854775809].`, strict, "IP.Interface.3. IP.Interface.4."},
		{USP, `Device.IP.Interface.[LastChange>2026-01-02T01:00:00+02:00].`, strict, "IP.Interface.2. IP.Interface.3. IP.Interface.4."},
		{USP, `Device.IP.Interface.[Flags~="eth1"].`, strict, "IP.Interface.3."},
		{USP, `Device.IP.Interface.[Flags=="up, wan"].`, strict, "IP.Interface.4."},
		{USP, `Device.IP.Interface.[Name<"eth0"].`, strict, "error: invalid path syntax"},
		{USP, `Device.IP.Interface.[Name==eth0].`, strict, "error: invalid path syntax"},
		{USP, `Device.IP.Interface.[Enable=="true"].`, strict, "error: invalid path syntax"},
		{USP, `Device.IP.Interface.[Enable>false].`, strict, "error: invalid path syntax"},
		{USP, `Device.IP.Interface.[MaxMTUSize~=3].`, strict, "error: invalid path syntax"},
		{USP, `Device.IP.Interface.[LastChange<0001-01-01T00:00:00Z].`, strict, "error: invalid path syntax"},
		{USP, `Device.IP.Interface.[LastChange!=0001-01-01T00:00:00Z].Name`, strict, "IP.Interface.1.Name* IP.Interface.2.Name* IP.Interface.3.Name* IP.Interface.4.Name*"},
		{USP, `Device.IP.Interface.[Bogus==1].`, strict, "error: not in the supported data model"},
		{USP, `Device.IP.Interface.[IPv4Address.Enable==true].`, strict, "error: invalid path syntax"},
		{USP, `Device.IP.Interface.[Secret=="s3cret"].`, strict, ""},
		{USP, `Device.IP.Interface.[LowerLayers+.Name=="eth1"].`, strict, "IP.Interface.3."},
		{USP, `Device.IP.Interface.[LowerLayers#*+.Name=="eth0"].`, strict, "IP.Interface.2. IP.Interface.3."},
		{USP, `Device.IP.Interface.[cpe-lo].`, strict, "error: invalid path syntax"},
		{USP, "Device.IP.Interface.2.LowerLayers+.Name", strict, "Ethernet.Interface.1.Name*"},
		{USP, "Device.IP.Interface.2.LowerLayers+.", strict, "Ethernet.Interface.1."},
		{USP, "Device.IP.Interface.3.LowerLayers+.Name", strict, "Ethernet.Interface.2.Name*"},
		{USP, "Device.IP.Interface.3.LowerLayers#2+.Stats.BytesSent", strict, "Ethernet.Interface.1.Stats.BytesSent*"},
		{USP, "Device.IP.Interface.3.LowerLayers#3+.Name", strict, "error: object does not exist"},
		{USP, "Device.IP.Interface.3.LowerLayers#3+.Name", soft, ""},
		{USP, "Device.IP.Interface.*.LowerLayers#*+.Name", strict, "Ethernet.Interface.1.Name* Ethernet.Interface.2.Name*"},
		{USP, "Device.IP.Interface.4.LowerLayers+.Name", strict, "error: object does not exist"},
		{USP, "Device.IP.Interface.1.LowerLayers+.Name", strict, "error: object does not exist"},
		{USP, "Device.IP.Interface.2.LowerLayers+.Bogus", strict, "error: not in the supported data model"},
		{USP, "Device.IP.Interface.2.Enable+.Name", strict, "error: invalid path syntax"},
		{USP, "Device.BulkData.Profile.2.Controller+.EndpointID", strict, "LocalAgent.Controller.2.EndpointID*"},
		{USP, `Device.BulkData.Profile.[Controller=="Device.LocalAgent.Controller.1."].`, strict, "BulkData.Profile.1."},
		{USP, "Device.Reboot()", strict, "Reboot()*"},
		{USP, "Device.Boot!", strict, "Boot!*"},
		{USP, "Device.Bogus()", strict, "error: not in the supported data model"},
		{USP, "Device.IP.Interface.1.Enable", ResolvePolicy{Want: WantObject}, "error: invalid path syntax"},
		{USP, "Device.IP.Interface.1.Enable", ResolvePolicy{Want: WantObject | WantParam}, "IP.Interface.1.Enable*"},

		{CWMP, "", strict, ""},
		{CWMP, "Device.IP.Interface.*.Enable", strict, "IP.Interface.1.Enable* IP.Interface.2.Enable* IP.Interface.3.Enable* IP.Interface.4.Enable*"},
		{CWMP, "Device.IP.Interface.[cpe-wan].Enable", alias, "IP.Interface.4.Enable*"},
		{CWMP, "Device.IP.Interface.[cpe-none].Enable", alias, "error: object does not exist"},
		{CWMP, "Device.IP.Interface.[cpe-wan].Enable", strict, "error: invalid path syntax"},
		{CWMP, "Device.Ethernet.Interface.[eth0].Enable", alias, "error: not in the supported data model"},
		{CWMP, `Device.IP.Interface.[Name=="eth0"].`, alias, "error: invalid path syntax"},
		{CWMP, "Device.IP.Interface.2.LowerLayers+.Name", alias, "error: invalid path syntax"},
		{CWMP, "Device.Reboot()", strict, "error: not in the supported data model"},
		{CWMP, "Device.LocalAgent.Subscription.1.", strict, "error: not in the supported data model"},
		{CWMP, "Device.LocalAgent.AddCertificate", strict, "LocalAgent.AddCertificate*"},
		{USP, "Device.LocalAgent.AddCertificate", strict, "error: not in the supported data model"},
		{USP, "Device.ManagementServer.EnableCWMP", strict, "ManagementServer.EnableCWMP*"},
		{USP, "Device.ManagementServer.URL", strict, "error: not in the supported data model"},
	}
	for _, tt := range tests {
		if got := resolveText(t, s, tree, tt.proto, tt.path, tt.pol); got != tt.want {
			t.Errorf("%v %s %+v:\n got %s\nwant %s", tt.proto, tt.path, tt.pol, got, tt.want)
		}
	}
	for _, proto := range []Protocol{USP, CWMP} {
		raw := map[Protocol]string{USP: "Device.", CWMP: ""}[proto]
		p, _ := ParsePath(raw)
		if ms, err := Resolve(s, tree, proto, p, strict); err != nil || len(ms) != 1 || ms[0].Path != "Device." || ms[0].Object != s.Root() {
			t.Errorf("%v root: %v %v", proto, ms, err)
		}
	}
}

// TestResolveVisibility: R-GET.1, R-GET.1a, R-GIN.0.
func TestResolveVisibility(t *testing.T) {
	s, tree := testSchema(), testTree()
	hide := func(paths ...string) ResolvePolicy {
		return ResolvePolicy{MissingIsError: true, AllowTable: true, Visible: func(path string, _ PathKind) bool {
			return !slices.Contains(paths, strings.TrimPrefix(path, "Device."))
		}}
	}
	tests := []struct {
		path string
		pol  ResolvePolicy
		want string
	}{
		{"Device.IP.Interface.1.Enable", hide("IP.Interface.1.Enable"), "error: not in the supported data model"},
		{"Device.IP.Interface.1.", hide("IP.Interface.1."), "error: not in the supported data model"},
		{"Device.IP.Interface.1.Enable", hide("IP.Interface.1.", "IP."), "IP.Interface.1.Enable*"},
		{"Device.IP.Interface.*.", hide("IP.Interface.1.", "IP.Interface.3."), "IP.Interface.2. IP.Interface.4."},
		{"Device.Ethernet.Interface.*.Enable", hide("Ethernet.Interface.1."), "Ethernet.Interface.2.Enable*"},
		{"Device.Ethernet.Interface.*.Enable", hide("Ethernet.Interface.1.Enable", "Ethernet.Interface.2.Enable"), "error: not in the supported data model"},
		{"Device.Ethernet.Interface.*.Enable", hide("Ethernet.Interface.1.", "Ethernet.Interface.2."), ""},
		{`Device.IP.Interface.[Enable==true].`, hide("IP.Interface.1.Enable"), "IP.Interface.2. IP.Interface.4."},
		{`Device.IP.Interface.[Enable!=true].`, hide("IP.Interface.1.Enable"), "IP.Interface.3."},
		{"Device.IP.Interface.2.LowerLayers+.Name", hide("IP.Interface.2.LowerLayers"), "error: not in the supported data model"},
	}
	for _, tt := range tests {
		if got := resolveText(t, s, tree, USP, tt.path, tt.pol); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.path, got, tt.want)
		}
	}
}

// TestResolveWork: wildcards and references multiply; the work is bounded.
func TestResolveWork(t *testing.T) {
	s, tree := testSchema(), NewMemTree()
	var all []string
	for i := 1; i <= 100; i++ {
		all = append(all, fmt.Sprintf("Device.Ethernet.Interface.%d", i))
	}
	for i := 1; i <= 100; i++ {
		tree.Set(fmt.Sprintf("Device.Ethernet.Interface.%d.LowerLayers", i), strings.Join(all, ","))
	}
	got := resolveText(t, s, tree, USP, "Device.Ethernet.Interface.*."+strings.Repeat("LowerLayers#*+.", 20), ResolvePolicy{})
	if want := "error: resources exceeded"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestCanonicalReference(t *testing.T) {
	s, tree := testSchema(), testTree()
	row := &Facts{Type: TypeString, PathRef: &PathRef{Target: "row"}}
	param := &Facts{Type: TypeString, PathRef: &PathRef{Target: "parameter"}}
	tests := []struct {
		proto  Protocol
		f      *Facts
		in     string
		want   string
		exists bool
	}{
		{USP, row, "", "", true},
		{USP, row, "Device.IP.Interface.1", "Device.IP.Interface.1", true},
		{USP, row, "Device.IP.Interface.1.", "Device.IP.Interface.1", true},
		{USP, row, `Device.IP.Interface.[Name=="wan"].`, "Device.IP.Interface.4", true},
		{USP, row, "Device.IP.Interface.7", "Device.IP.Interface.7", false},
		{CWMP, row, "Device.USPAgent.Controller.1", "Device.LocalAgent.Controller.1", true},
		{CWMP, row, "Device.LocalAgent.Controller.1", "Device.LocalAgent.Controller.1", false},
		{USP, row, "nonsense", "nonsense", false},
		{USP, param, "Device.IP.Interface.1.Enable", "Device.IP.Interface.1.Enable", true},
		{USP, param, "Device.CWMPManagementServer.EnableCWMP", "Device.ManagementServer.EnableCWMP", true},
		{USP, param, "Device.IP.Interface.1.Bogus", "Device.IP.Interface.1.Bogus", false},
	}
	for _, tt := range tests {
		if got, ok := CanonicalReference(s, tree, tt.proto, tt.f, tt.in); got != tt.want || ok != tt.exists {
			t.Errorf("%v %s: got %q %v, want %q %v", tt.proto, tt.in, got, ok, tt.want, tt.exists)
		}
	}
}

func bigTree(rows int) *MemTree {
	t := NewMemTree()
	for i := 1; i <= rows; i++ {
		row := fmt.Sprintf("Device.IP.Interface.%d.", i)
		t.Set(row+"Name", fmt.Sprintf("if%d", i))
		t.Set(row+"MaxMTUSize", fmt.Sprint(i))
	}
	return t
}

func BenchmarkResolvePlain(b *testing.B) {
	s, tree := testSchema(), testTree()
	p, _ := ParsePath("Device.IP.Interface.2.Stats.BytesSent")
	pol := ResolvePolicy{MissingIsError: true}
	b.ReportAllocs()
	for b.Loop() {
		if ms, err := Resolve(s, tree, USP, p, pol); err != nil || len(ms) != 1 {
			b.Fatal(ms, err)
		}
	}
}

func BenchmarkParsePath(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParsePath("Device.IP.Interface.2.Stats.BytesSent"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkResolveSearch10000(b *testing.B) {
	s, tree := testSchema(), bigTree(10000)
	for _, path := range []string{`Device.IP.Interface.[Name=="if5000"].`, "Device.IP.Interface.[MaxMTUSize>9990].Enable"} {
		p, err := ParsePath(path)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(path, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if ms, err := Resolve(s, tree, USP, p, ResolvePolicy{}); err != nil || len(ms) == 0 {
					b.Fatal(ms, err)
				}
			}
		})
	}
}
