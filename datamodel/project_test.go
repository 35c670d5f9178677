package datamodel

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestProject(t *testing.T) {
	const gone = "-"
	tests := []struct{ canonical, cwmp, usp string }{
		{"", "", ""},
		{"Device.", "Device.", "Device."},
		{"Device.LocalAgent.", "Device.USPAgent.", "Device.LocalAgent."},
		{"Device.LocalAgent", "Device.USPAgent", "Device.LocalAgent"},
		{"Device.LocalAgent.Controller.{i}.EndpointID", "Device.USPAgent.Controller.{i}.EndpointID", "Device.LocalAgent.Controller.{i}.EndpointID"},
		{`Device.LocalAgent.Controller.[Enable==true].`, `Device.USPAgent.Controller.[Enable==true].`, `Device.LocalAgent.Controller.[Enable==true].`},
		{"Device.LocalAgent.AddCertificate()", "Device.USPAgent.AddCertificate()", "Device.LocalAgent.AddCertificate()"},
		{"Device.ManagementServer.", "Device.ManagementServer.", "Device.CWMPManagementServer."},
		{"Device.ManagementServer.EnableCWMP", "Device.ManagementServer.EnableCWMP", "Device.CWMPManagementServer.EnableCWMP"},
		{"Device.ManagementServerX.", "Device.ManagementServerX.", "Device.ManagementServerX."},
		{"Device.MQTT.Client.1.Enable", "Device.MQTT.Client.1.Enable", "Device.MQTT.Client.1.Enable"},
		{gone, "Device.LocalAgent.Controller.1.", "Device.USPAgent.Controller.1."},
		{gone, "Device.LocalAgent", "Device.USPAgent"},
		{gone, "Device.CWMPManagementServer.EnableCWMP", "Device.ManagementServer.EnableCWMP"},
	}
	for _, tt := range tests {
		for proto, spelled := range map[Protocol]string{CWMP: tt.cwmp, USP: tt.usp} {
			c, ok := ToCanonical(proto, spelled)
			if tt.canonical == gone {
				if ok {
					t.Errorf("ToCanonical(%v, %s) = %s", proto, spelled, c)
				}
				continue
			}
			if !ok || c != tt.canonical {
				t.Errorf("ToCanonical(%v, %s) = %s %v, want %s", proto, spelled, c, ok, tt.canonical)
			}
			if s, ok := FromCanonical(proto, tt.canonical); !ok || s != spelled {
				t.Errorf("FromCanonical(%v, %s) = %s %v, want %s", proto, tt.canonical, s, ok, spelled)
			}
		}
	}
	for _, wrong := range []string{"Device.USPAgent.", "Device.CWMPManagementServer.EnableCWMP"} {
		if c, ok := FromCanonical(USP, wrong); ok {
			t.Errorf("FromCanonical(usp, %s) = %s, though it is not canonical", wrong, c)
		}
	}
}

func TestProjectValue(t *testing.T) {
	ref := &Facts{Type: TypeString, PathRef: &PathRef{Target: "row"}}
	refs := &Facts{Type: TypeString, List: true, PathRef: &PathRef{Target: "row"}}
	text := &Facts{Type: TypeString}
	tests := []struct {
		f               *Facts
		cwmp, canonical string
	}{
		{ref, "Device.USPAgent.Controller.1", "Device.LocalAgent.Controller.1"},
		{ref, "Device.IP.Interface.1", "Device.IP.Interface.1"},
		{ref, "", ""},
		{refs, "Device.USPAgent.Controller.1,Device.IP.Interface.1", "Device.LocalAgent.Controller.1,Device.IP.Interface.1"},
		{refs, "", ""},
		{text, "Device.USPAgent.Controller.1", "Device.USPAgent.Controller.1"},
	}
	for _, tt := range tests {
		if got := ToCanonicalValue(CWMP, tt.f, tt.cwmp); got != tt.canonical {
			t.Errorf("to: %s -> %s", tt.cwmp, got)
		}
		if got := FromCanonicalValue(CWMP, tt.f, tt.canonical); got != tt.cwmp {
			t.Errorf("from: %s -> %s", tt.canonical, got)
		}
		if got := FromCanonicalValue(USP, tt.f, tt.canonical); got != tt.canonical {
			t.Errorf("usp: %s -> %s", tt.canonical, got)
		}
	}
}

// TestProjectBijection: on every text, ToCanonical and FromCanonical undo each other wherever they are defined, and
// two texts never become one.
func TestProjectBijection(t *testing.T) {
	heads := []string{"Device.", "Device.LocalAgent", "Device.USPAgent", "Device.ManagementServer", "Device.CWMPManagementServer",
		"Device.MQTT", "Device.Local", "Device.LocalAgent.Controller.1", "IGD", ""}
	gen := rapid.Custom(func(t *rapid.T) string {
		return rapid.SampledFrom(heads).Draw(t, "head") + rapid.StringMatching(`(\.[A-Za-z]{0,4}){0,3}\.?`).Draw(t, "tail")
	})
	rapid.Check(t, func(t *rapid.T) {
		proto := rapid.SampledFrom([]Protocol{CWMP, USP}).Draw(t, "proto")
		s := gen.Draw(t, "path")
		if c, ok := ToCanonical(proto, s); ok {
			if back, ok := FromCanonical(proto, c); !ok || back != s {
				t.Fatalf("%v: %s -> %s -> %s %v", proto, s, c, back, ok)
			}
		}
		if p, ok := FromCanonical(proto, s); ok {
			if back, ok := ToCanonical(proto, p); !ok || back != s {
				t.Fatalf("%v: canonical %s -> %s -> %s %v", proto, s, p, back, ok)
			}
		}
	})
}

// TestProjectTable: the quick test sees every name of the table, and no prefix begins another.
func TestProjectTable(t *testing.T) {
	var all []string
	for _, p := range projections {
		for _, s := range []string{p.canonical, p.spelled[0], p.spelled[1]} {
			if !strings.HasSuffix(s, ".") || !strings.HasPrefix(s, "Device.") || !projectable(s) {
				t.Errorf("%s", s)
			}
			if !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	for _, a := range all {
		for _, b := range all {
			if a != b && strings.HasPrefix(a, b) {
				t.Errorf("%s begins %s", b, a)
			}
		}
	}
}

func TestViewChildren(t *testing.T) {
	root := testSchema().Root()
	for proto, want := range map[Protocol]string{
		USP:  "BulkData Ethernet IP LocalAgent CWMPManagementServer Time",
		CWMP: "BulkData Ethernet IP USPAgent ManagementServer Time",
	} {
		var names []string
		ViewChildren(proto, root, func(name string, child *Object) bool {
			names = append(names, name)
			if spelled, ok := FromCanonical(proto, child.Path); !ok || spelled != root.Path+name+"." {
				t.Errorf("%v %s is called %s", proto, child.Path, name)
			}
			return true
		})
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%v: %s, want %s", proto, got, want)
		}
	}
	agent := root.Child("LocalAgent")
	ViewChildren(CWMP, agent, func(name string, _ *Object) bool {
		if name == "Subscription" {
			t.Error("CWMP sees the subscriptions")
		}
		return true
	})
}

func BenchmarkToCanonical(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		ToCanonical(CWMP, "Device.IP.Interface.1.Enable")
		ToCanonical(USP, "Device.LocalAgent.Controller.1.Enable")
	}
}
