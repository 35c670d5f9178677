package tr181

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"twinspan/datamodel"
	"twinspan/datamodel/tr181/compact"
)

func TestEncodeIsInverseOfDecode(t *testing.T) {
	again, err := compact.Encode(loadAll(t))
	if err != nil {
		t.Fatal(err)
	}
	if string(again) != unpacked {
		t.Fatalf("encoding the decoded model gives other bytes (%d instead of %d)", len(again), len(unpacked))
	}
}

func TestProfileRestrictsTheSchema(t *testing.T) {
	s, err := Load(&datamodel.Profile{Supports: []string{
		"Device.IP.Interface.",
		"-Device.IP.Interface.{i}.Stats.",
		"-Device.IP.Interface.{i}.Name",
		"-Device.IP.Interface.{i}.Enable",
		"Device.IP.Interface.{i}.Stats.BytesSent",
		"Device.Ethernet.Interface.{i}.MACAddress",
		"Device.LocalAgent.TransferComplete!",
		"Device.Reboot()",
	}})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		"Device.IP.Interface.{i}.Status":           true,
		"Device.IP.Interface.1.Status":             true,
		"Device.IP.Interface.":                     true,
		"Device.IP.InterfaceNumberOfEntries":       true, // comes with its table
		"Device.IP.Interface.{i}.Stats.BytesSent":  true,
		"Device.IP.Interface.{i}.Stats.Reset()":    false,
		"Device.IP.Interface.{i}.Name":             false,
		"Device.IP.IPv4Capable":                    false,
		"Device.IP.":                               true, // an object above something supported
		"Device.IP.Diagnostics.":                   false,
		"Device.Ethernet.Interface.{i}.MACAddress": true,
		"Device.Ethernet.Interface.{i}.Enable":     false,
		"Device.LocalAgent.TransferComplete!":      true,
		"Device.LocalAgent.Periodic!":              false,
		"Device.Reboot()":                          true,
		"Device.FactoryReset()":                    false,
	} {
		if _, ok := s.Lookup(path); ok != want {
			t.Errorf("%s: found %v, expected %v", path, ok, want)
		}
	}
	m, _ := s.Lookup("Device.IP.Interface.{i}.")
	if len(m.Object.Keys) != 1 || m.Object.Keys[0].Params[0] != "Alias" {
		t.Errorf("unique keys with an unsupported parameter must go: %v", m.Object.Keys)
	}
	if m.Object.Enable != "" || m.Object.NumEntries != "InterfaceNumberOfEntries" {
		t.Errorf("Enable %q, NumEntries %q", m.Object.Enable, m.Object.NumEntries)
	}
}

// TestSchemaInvariants: what every user of a Schema relies on.
func TestSchemaInvariants(t *testing.T) {
	facts := map[*datamodel.Facts]bool{}
	loadAll(t).Root().Walk(func(o *datamodel.Object) bool {
		if !slices.IsSortedFunc(o.Children, func(a, b *datamodel.Object) int { return strings.Compare(a.Name, b.Name) }) ||
			!slices.IsSortedFunc(o.Params, func(a, b *datamodel.Param) int { return strings.Compare(a.Name, b.Name) }) {
			t.Errorf("%s is not sorted", o.Path)
		}
		for _, p := range o.Params {
			if p.Object != o || o.Param(p.Name) != p || p.Protocols == 0 {
				t.Errorf("%s%s: broken parameter", o.Path, p.Name)
			}
			facts[p.Any()] = true
		}
		for _, c := range o.Children {
			if c.Parent != o || o.Child(c.Name) != c || !strings.HasPrefix(c.Path, o.Path) {
				t.Errorf("%s: broken child %s", o.Path, c.Path)
			}
			// Whoever can see an object can see those above it.
			if !o.Protocols.Has(c.Protocols) {
				t.Errorf("%s exists in %s, below %s in %s", c.Path, c.Protocols, o.Path, o.Protocols)
			}
		}
		return true
	})
	if len(facts) > 3000 {
		t.Errorf("%d different facts: equal ones are not shared", len(facts))
	}
}

func TestProfileErrorsNameTheEntry(t *testing.T) {
	for _, c := range []struct {
		p    datamodel.Profile
		want string
	}{
		{datamodel.Profile{Name: "x", Supports: []string{"Device.IP.", "Device.Ipp."}}, `supports[1]: "Device.Ipp."`},
		{datamodel.Profile{Supports: []string{"Device.IP."}, Factory: map[string]string{"Device.Time.Enable": "true"}},
			`factory."Device.Time.Enable": no such parameter`},
		{datamodel.Profile{Supports: []string{"Device.Time."}, Factory: map[string]string{"Device.Time.Enable": "maybe"}},
			`factory."Device.Time.Enable": invalid type`},
		{datamodel.Profile{Supports: []string{"Device.Time."}, MaxRows: map[string]int{"Device.Time.": 3}},
			`max_rows."Device.Time.": no such table`},
	} {
		_, err := Load(&c.p)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, expected %s", err, c.want)
		}
	}
}

func TestLoadFileRefusesDamage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "model.bin")
	for _, c := range []struct {
		name, data, want string
	}{
		{"empty", "", "not a compiled data model"},
		{"text", strings.Repeat("Device.\n", 100), "not a compiled data model"},
		{"cut", unpacked[:len(unpacked)/2], "checksum"},
		{"bit", unpacked[:9000] + string(unpacked[9000]^1) + unpacked[9001:], "checksum"},
	} {
		if err := os.WriteFile(file, []byte(c.data), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadFile(file, nil); err == nil || !strings.Contains(err.Error(), c.want) ||
			!strings.Contains(err.Error(), file) {
			t.Errorf("%s: error %v, expected %s", c.name, err, c.want)
		}
	}
	if _, err := LoadFile(filepath.Join(t.TempDir(), "none"), nil); err == nil {
		t.Error("a missing file gives no error")
	}
}

func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestHeapBudget(t *testing.T) {
	before := liveHeap()
	s := loadAll(t)
	used := int64(liveHeap()) - int64(before)
	t.Logf("whole model: %d bytes live", used)
	if used > 2_500_000 {
		t.Errorf("the whole model takes %d bytes of heap, budget 2.5 MB", used)
	}
	runtime.KeepAlive(s)
	if len(unpacked) > 600_000 {
		t.Errorf("the embedded form has %d bytes, budget 0.6 MB", len(unpacked))
	}
}

// BenchmarkLoad: the budget is 15 ms for the whole model.
func BenchmarkLoad(b *testing.B) {
	for name, p := range map[string]*datamodel.Profile{
		"all": nil,
		"ip":  {Supports: []string{"Device.IP.", "Device.LocalAgent."}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Load(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	s := loadAll(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := s.Lookup("Device.IP.Interface.1.IPv4Address.2.IPAddress"); !ok {
			b.Fatal("not found")
		}
	}
}
