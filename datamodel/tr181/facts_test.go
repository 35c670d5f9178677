package tr181

import (
	"slices"
	"sort"
	"strings"
	"testing"

	"twinspan/datamodel"
)

func loadAll(t testing.TB) *datamodel.Schema {
	t.Helper()
	s, err := Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestElementCounts compares with the number of live elements (objects, parameters, commands and events) that two
// independent expansions of TR-181 Issue 2 Amendment 19 Corrigendum 1 agree on.
func TestElementCounts(t *testing.T) {
	count := map[datamodel.Protocol]int{}
	loadAll(t).Root().Walk(func(o *datamodel.Object) bool {
		for _, proto := range []datamodel.Protocol{datamodel.CWMP, datamodel.USP} {
			if o.Protocols.Has(proto) {
				count[proto]++
			}
			for _, p := range o.Params {
				if p.Facts(proto) != nil {
					count[proto]++
				}
			}
		}
		count[datamodel.USP] += len(o.Commands) + len(o.Events)
		return true
	})
	if count[datamodel.CWMP] != 8070 || count[datamodel.USP] != 7620 {
		t.Errorf("%d CWMP and %d USP elements, expected 8070 and 7620", count[datamodel.CWMP], count[datamodel.USP])
	}
}

// TestForcedInform: the parameters of every Inform of a Device:2 (TR-181 Table "Forced Inform Parameters").
func TestForcedInform(t *testing.T) {
	var got []string
	loadAll(t).Root().Walk(func(o *datamodel.Object) bool {
		for _, p := range o.Params {
			if f := p.Facts(datamodel.CWMP); f != nil && f.ForcedInform {
				got = append(got, p.Path())
			}
		}
		return true
	})
	sort.Strings(got)
	want := []string{
		"Device.DeviceInfo.HardwareVersion",
		"Device.DeviceInfo.ProvisioningCode",
		"Device.DeviceInfo.SoftwareVersion",
		"Device.ManagementServer.AliasBasedAddressing",
		"Device.ManagementServer.ConnectionRequestURL",
		"Device.ManagementServer.ParameterKey",
		"Device.RootDataModelVersion",
	}
	if !slices.Equal(got, want) {
		t.Errorf("forced Inform parameters:\n%s", strings.Join(got, "\n"))
	}
}

func TestUniqueKeys(t *testing.T) {
	s := loadAll(t)
	for _, c := range []struct {
		table string
		keys  []string // N: non-functional, F: functional
	}{
		{"Device.IP.Interface.{i}.", []string{"N:Alias", "N:Name"}},
		{"Device.LocalAgent.Subscription.{i}.", []string{"N:Alias", "N:Recipient+ID"}},
		{"Device.LocalAgent.Controller.{i}.", []string{"N:Alias", "F:EndpointID"}},
		{"Device.LocalAgent.Certificate.{i}.", []string{"N:Alias", "F:SerialNumber+Issuer"}},
		{"Device.Bridging.Bridge.{i}.VLANPort.{i}.", []string{"N:Alias", "F:VLAN+Port"}},
		{"Device.NAT.PortMapping.{i}.", []string{"N:Alias", "F:RemoteHost+ExternalPort+Protocol"}},
	} {
		m, ok := s.Lookup(c.table)
		if !ok {
			t.Errorf("%s: not found", c.table)
			continue
		}
		var got []string
		for _, k := range m.Object.Keys {
			kind := "N:"
			if k.Functional {
				kind = "F:"
			}
			got = append(got, kind+strings.Join(k.Params, "+"))
		}
		if !slices.Equal(got, c.keys) {
			t.Errorf("%s: unique keys %v, expected %v", c.table, got, c.keys)
		}
	}
}

// TestProtocolTraps holds what differs between the protocols and was got wrong elsewhere.
func TestProtocolTraps(t *testing.T) {
	s := loadAll(t)
	param := func(path string) *datamodel.Param {
		t.Helper()
		m, ok := s.Lookup(path)
		if !ok || m.Param == nil {
			t.Fatalf("%s: not found", path)
		}
		return m.Param
	}
	alias := param("Device.IP.Interface.{i}.Alias")
	if alias.Facts(datamodel.CWMP).Access != datamodel.ReadWrite ||
		alias.Facts(datamodel.USP).Access != datamodel.WriteOnceReadOnly || alias.Any().Named != "Alias" {
		t.Error("Alias is readWrite for CWMP and writeOnceReadOnly for USP")
	}
	if enable := param("Device.ManagementServer.EnableCWMP"); enable.Protocols != datamodel.Both {
		t.Errorf("EnableCWMP exists in %v", enable.Protocols)
	}
	if url := param("Device.ManagementServer.URL"); url.Protocols != datamodel.CWMP {
		t.Errorf("ManagementServer.URL exists in %v", url.Protocols)
	}
	if sub := param("Device.LocalAgent.Subscription.{i}.ID"); sub.Protocols != datamodel.USP {
		t.Errorf("Subscription exists in %v", sub.Protocols)
	}
	if p := param("Device.LocalAgent.Controller.{i}.SendOnBoardRequest"); p.Protocols != datamodel.CWMP ||
		!p.Any().Command {
		t.Error("SendOnBoardRequest is a CWMP command parameter")
	}
	// What resets an interface's counters is a parameter in one protocol, a command in the other.
	if p := param("Device.IP.Interface.{i}.Stats.Reset"); p.Protocols != datamodel.CWMP {
		t.Errorf("Stats.Reset exists in %v", p.Protocols)
	}
	if m, ok := s.Lookup("Device.IP.Interface.{i}.Stats.Reset()"); !ok || m.Command.Async {
		t.Error("Stats.Reset() is a synchronous command")
	}
	// Values that differ by protocol.
	if encodings := param("Device.BulkData.EncodingTypes"); len(encodings.Facts(datamodel.CWMP).Enum) != 4 ||
		len(encodings.Facts(datamodel.USP).Enum) != 2 {
		t.Error("BulkData.EncodingTypes lost XML and XDR in USP only")
	}
	// A default refined without its facets keeps them.
	lower := param("Device.IP.Interface.{i}.LowerLayers").Any()
	if !lower.List || lower.PathRef == nil || !lower.PathRef.Strong || len(lower.ListLen) != 1 || !lower.HasDefault {
		t.Errorf("LowerLayers is a list of strong references of at most 1024 characters: %+v", lower)
	}
	if password := param("Device.ManagementServer.Password").Any(); !password.Secured && !password.Hidden {
		t.Error("ManagementServer.Password is a secret")
	}
	for _, gone := range []string{"Device.Time.NTPServer1", "Device.WiFi.MultiAP.", "Device.LocalAgent.MTP.{i}.CoAP.Port"} {
		if _, ok := s.Lookup(gone); ok {
			t.Errorf("%s is deleted", gone)
		}
	}
}

func TestReferencesAreCanonicalAndExist(t *testing.T) {
	s := loadAll(t)
	check := func(owner string, f *datamodel.Facts) {
		if f == nil {
			return
		}
		if f.PathRef != nil {
			for _, parent := range f.PathRef.Parents {
				m, ok := s.Lookup(parent)
				if !ok || (f.PathRef.Target == "row" && !m.Table) {
					t.Errorf("%s refers to rows of %s, which is no table", owner, parent)
				}
			}
		}
		if f.EnumRef != "" && !strings.Contains(f.EnumRef, " output ") {
			if m, ok := s.Lookup(f.EnumRef); !ok || m.Param == nil {
				t.Errorf("%s takes its words from %s, which does not exist", owner, f.EnumRef)
			}
		}
	}
	s.Root().Walk(func(o *datamodel.Object) bool {
		for _, p := range o.Params {
			check(p.Path(), p.Facts(datamodel.CWMP))
			check(p.Path(), p.Facts(datamodel.USP))
		}
		for _, c := range o.Commands {
			for _, a := range slices.Concat(c.Inputs, c.Outputs) {
				check(o.Path+c.Name+" "+a.Name, a.Facts)
			}
		}
		return true
	})
	for path, parents := range map[string][]string{
		"Device.LocalAgent.Subscription.{i}.Recipient":                   {"Device.LocalAgent.Controller."},
		"Device.LocalAgent.ControllerTrust.UntrustedRole":                {"Device.LocalAgent.ControllerTrust.Role."},
		"Device.LocalAgent.Controller.{i}.AssignedRole":                  {"Device.LocalAgent.ControllerTrust.Role."},
		"Device.LocalAgent.MTP.{i}.WebSocket.Interfaces":                 {"Device.IP.Interface."},
		"Device.IP.Interface.{i}.IPv6Address.{i}.Prefix":                 {"Device.IP.Interface.{i}.IPv6Prefix."},
		"Device.DeviceInfo.ActiveFirmwareImage":                          {"Device.DeviceInfo.FirmwareImage."},
		"Device.SoftwareModules.ExecutionUnit.{i}.AssociatedProcessList": {"Device.DeviceInfo.ProcessStatus.Process."},
	} {
		m, ok := s.Lookup(path)
		if !ok || m.Param == nil {
			t.Errorf("%s: not found", path)
			continue
		}
		for _, proto := range []datamodel.Protocol{datamodel.CWMP, datamodel.USP} {
			if f := m.Param.Facts(proto); f != nil && (f.PathRef == nil || !slices.Equal(f.PathRef.Parents, parents)) {
				t.Errorf("%s (%s): refers to %+v, expected %v", path, proto, f.PathRef, parents)
			}
		}
	}
}

// TestDefaultsFitTheirTypes proves defaults and facets against each other.
func TestDefaultsFitTheirTypes(t *testing.T) {
	check := func(path string, f *datamodel.Facts) {
		if f == nil || !f.HasDefault {
			return
		}
		if _, err := f.Canonical(f.Default); err != nil {
			t.Errorf("%s: default %q: %v", path, f.Default, err)
		}
	}
	loadAll(t).Root().Walk(func(o *datamodel.Object) bool {
		for _, p := range o.Params {
			check(p.Path(), p.Facts(datamodel.CWMP))
			check(p.Path(), p.Facts(datamodel.USP))
		}
		for _, c := range o.Commands {
			for _, a := range c.Inputs {
				check(o.Path+c.Name+" "+a.Name, a.Facts)
			}
		}
		return true
	})
}

func TestPatternsCompile(t *testing.T) {
	seen := map[string]bool{}
	loadAll(t).Root().Walk(func(o *datamodel.Object) bool {
		for _, p := range o.Params {
			f := p.Any()
			key := strings.Join(f.Patterns, " || ")
			if len(f.Patterns) == 0 || seen[key] {
				continue
			}
			seen[key] = true
			bare := datamodel.Facts{Patterns: f.Patterns}
			if _, err := bare.Canonical("~"); err == nil || datamodel.ReasonOf(err) == datamodel.Internal {
				t.Errorf("%s: pattern %q: %v", p.Path(), key, err)
			}
		}
		return true
	})
	if len(seen) < 20 {
		t.Errorf("only %d patterns", len(seen))
	}
}
