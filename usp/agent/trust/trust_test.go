package trust

import (
	"context"
	"fmt"
	"testing"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/datamodel/tr181"
	"twinspan/store"
)

const eid = "self::one"

type fixture struct {
	*Table
	st *store.Store
}

func newFixture(t testing.TB, values map[string]string) *fixture {
	t.Helper()
	schema, err := tr181.Load(&datamodel.Profile{Name: "test", Supports: []string{"Device.LocalAgent.", "Device.WiFi.", "Device.IP."}})
	if err != nil {
		t.Fatal(err)
	}
	st := store.OpenMemory(store.Options{})
	t.Cleanup(func() { st.Close() })
	f := &fixture{New(schema, st.Head), st}
	f.set(t, map[string]string{"Device.LocalAgent.Controller.1.EndpointID": eid, "Device.LocalAgent.Controller.1.Enable": "true",
		"Device.LocalAgent.Controller.1.AssignedRole": "Device.LocalAgent.ControllerTrust.Role.1"})
	f.set(t, values)
	return f
}

// set writes values, making rows as needed.
func (f *fixture) set(t testing.TB, values map[string]string) {
	t.Helper()
	_, err := f.st.Update(context.Background(), store.Meta{Writer: "test"}, func(tx *store.Tx) error { return stage(tx, values) })
	if err != nil {
		t.Fatal(err)
	}
}

func stage(tx *store.Tx, values map[string]string) error {
	for path, v := range values {
		for i := 0; i < len(path); i++ {
			if path[i] != '.' || i == 0 {
				continue
			}
			j := i - 1
			for path[j] >= '0' && path[j] <= '9' {
				j--
			}
			if path[j] != '.' || j == i-1 {
				continue
			}
			var n uint32
			fmt.Sscan(path[j+1:i], &n)
			if !tx.View().HasInstance(path[:j+1], n) {
				if err := tx.AddRowAt(path[:j+1], n); err != nil {
					return err
				}
			}
		}
		if err := tx.Set(path, v, 0); err != nil {
			return err
		}
	}
	return nil
}

func perm(role, n int, order, targets, param, obj, inst, cmd string) map[string]string {
	r := fmt.Sprintf("Device.LocalAgent.ControllerTrust.Role.%d.", role)
	p := fmt.Sprintf("%sPermission.%d.", r, n)
	return map[string]string{r + "Enable": "true", r + "Name": fmt.Sprintf("r%d", role), p + "Enable": "true", p + "Order": order,
		p + "Targets": targets, p + "Param": param, p + "Obj": obj, p + "InstantiatedObj": inst, p + "CommandEvent": cmd}
}

func merge(ms ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range ms {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

func TestTargets(t *testing.T) {
	cases := []struct {
		targets string
		path    string
		want    bool
	}{
		{"Device.", "Device.WiFi.Radio.1.Channel", true},
		{"Device", "Device.WiFi.Radio.1.Channel", true},
		{"Device.WiFi.", "Device.WiFi.", true},
		{"Device.WiFi", "Device.WiFi.Radio.1.Channel", true},
		{"Device.WiFi.", "Device.WiFiX.Radio", false},
		{"Device.IP.,Device.WiFi.", "Device.WiFi.Radio.1.Channel", true},
		{"Device.IP., Device.WiFi.", "Device.WiFi.Radio.1.Channel", true},
		{"Device.WiFi.Radio.1.", "Device.WiFi.Radio.1.Channel", true},
		{"Device.WiFi.Radio.1.", "Device.WiFi.Radio.10.Channel", false},
		{"Device.WiFi.Radio.1.", "Device.WiFi.Radio.", false},
		{"Device.WiFi.Radio.*.", "Device.WiFi.Radio.10.Channel", true},
		{"Device.WiFi.Radio.*.", "Device.WiFi.Radio.", false},
		{"Device.WiFi.Radio.{i}.Channel", "Device.WiFi.Radio.10.Channel", true},
		{"Device.WiFi.Radio.*.Channel", "Device.WiFi.Radio.10.Enable", false},
		{"Device.WiFi.Radio.*.Channel", "Device.WiFi.Radio.{i}.Channel", true},
		{"Device.WiFi.Radio.1.Channel", "Device.WiFi.Radio.1.Channel", true},
		{"Device.WiFi.Radio.1.Channel", "Device.WiFi.Radio.1.Channels", false},
		{"Device.WiFi.Reset()", "Device.WiFi.Reset()", true},
		{"Device.WiFi.Radio.[Channel==6].", "Device.WiFi.Radio.1.Enable", true},
		{"Device.WiFi.Radio.[Channel==6].", "Device.WiFi.Radio.2.Enable", false},
		{`Device.WiFi.Radio.[Alias=="a"&&Channel>5].`, "Device.WiFi.Radio.1.Enable", true},
		{"Device.WiFi.Radio.[Channel==6].", "Device.WiFi.Radio.{i}.Enable", true},
		{"Device.WiFi.Radio.[Nothing==6].", "Device.WiFi.Radio.1.Enable", false},
		{"Device.WiFi.Radio.[", "Device.WiFi.Radio.1.Enable", false},
		{"", "Device.WiFi.Radio.1.Enable", false},
	}
	for _, c := range cases {
		f := newFixture(t, merge(perm(1, 1, "1", c.targets, "r---", "----", "----", "----"), map[string]string{
			"Device.WiFi.Radio.1.Channel": "6", "Device.WiFi.Radio.1.Alias": "a", "Device.WiFi.Radio.2.Channel": "7", "Device.WiFi.Radio.10.Channel": "1"}))
		if got := f.Endpoint(eid).Allow(f.st.Head(), c.path, bridge.ReadParam); got != c.want {
			t.Errorf("Targets=%q %s: %v", c.targets, c.path, got)
		}
	}
}

func TestOrderAndUnion(t *testing.T) {
	f := newFixture(t, merge(
		perm(1, 1, "1", "Device.", "rw-n", "rw--", "r---", "r-x-"),
		perm(1, 2, "5", "Device.WiFi.", "r---", "----", "----", "----"), // wins completely
		perm(1, 3, "3", "Device.WiFi.", "rw--", "rw--", "rw--", "r-xn"),
		perm(2, 1, "0", "Device.WiFi.Radio.1.Channel", "-w--", "----", "----", "----")))
	r := f.Endpoint(eid)
	check := func(path string, right bridge.Right, want bool) {
		t.Helper()
		if got := r.Allow(f.st.Head(), path, right); got != want {
			t.Errorf("%s %d: %v", path, right, got)
		}
	}
	check("Device.IP.Interface.1.Enable", bridge.WriteParam, true)
	check("Device.IP.Interface.1.Enable", bridge.NotifyParam, true)
	check("Device.IP.Interface.", bridge.NotifyObj, false)
	check("Device.IP.Diagnostics.IPPing()", bridge.Operate, true)
	check("Device.WiFi.Radio.1.Channel", bridge.ReadParam, true)
	check("Device.WiFi.Radio.1.Channel", bridge.WriteParam, false)
	check("Device.WiFi.Radio.", bridge.AddRow, false)
	// A second role adds to the first.
	f.set(t, map[string]string{"Device.LocalAgent.Controller.1.AssignedRole": "Device.LocalAgent.ControllerTrust.Role.1,Device.LocalAgent.ControllerTrust.Role.2."})
	check("Device.WiFi.Radio.1.Channel", bridge.WriteParam, true)
	check("Device.WiFi.Radio.2.Channel", bridge.WriteParam, false)
	// An inherited one too.
	f.set(t, map[string]string{"Device.LocalAgent.Controller.1.AssignedRole": "", "Device.LocalAgent.Controller.1.InheritedRole": "Device.LocalAgent.ControllerTrust.Role.2"})
	check("Device.WiFi.Radio.1.Channel", bridge.WriteParam, true)
	check("Device.WiFi.Radio.1.Channel", bridge.ReadParam, false)
	f.set(t, map[string]string{"Device.LocalAgent.ControllerTrust.Role.2.Enable": "false"})
	check("Device.WiFi.Radio.1.Channel", bridge.WriteParam, false)
	f.set(t, map[string]string{"Device.LocalAgent.ControllerTrust.Role.2.Enable": "true", "Device.LocalAgent.ControllerTrust.BannedRole": "Device.LocalAgent.ControllerTrust.Role.2"})
	check("Device.WiFi.Radio.1.Channel", bridge.WriteParam, false)
	if !r.Banned(f.st.Head()) {
		t.Error("not banned")
	}
	if f.Endpoint("self::nobody").Allow(f.st.Head(), "Device.IP.", bridge.ReadObj) {
		t.Error("a stranger has rights")
	}
	if r.Allow(f.st.Head(), "Device.IP.", bridge.Right(200)) {
		t.Error("an unknown right is granted")
	}
}

// A deleted Permission counts no more, although nothing newer is stored below it.
func TestDeletedPermission(t *testing.T) {
	f := newFixture(t, merge(perm(1, 1, "1", "Device.", "r---", "r---", "----", "----"), perm(1, 2, "2", "Device.WiFi.", "rw--", "r---", "----", "----")))
	r := f.Endpoint(eid)
	if !r.Allow(f.st.Head(), "Device.WiFi.Radio.1.Channel", bridge.WriteParam) {
		t.Fatal("not allowed")
	}
	if _, err := f.st.Update(context.Background(), store.Meta{}, func(tx *store.Tx) error {
		return tx.DeleteRow("Device.LocalAgent.ControllerTrust.Role.1.Permission.2.")
	}); err != nil {
		t.Fatal(err)
	}
	if r.Allow(f.st.Head(), "Device.WiFi.Radio.1.Channel", bridge.WriteParam) {
		t.Error("a deleted Permission still allows")
	}
}

// What is staged and rolled back must not stay in the cache, even if its revision is used again.
func TestStagedVersions(t *testing.T) {
	f := newFixture(t, perm(1, 1, "1", "Device.", "r---", "r---", "----", "----"))
	r := f.Endpoint(eid)
	path := "Device.WiFi.Radio.1.Channel"
	rollback := fmt.Errorf("rolled back")
	_, err := f.st.Update(context.Background(), store.Meta{}, func(tx *store.Tx) error {
		if err := tx.Set("Device.LocalAgent.ControllerTrust.Role.1.Permission.1.Param", "rw--", 0); err != nil {
			return err
		}
		if !r.Allow(tx.View(), path, bridge.WriteParam) {
			t.Error("the staged version is not seen")
		}
		return rollback
	})
	if err == nil {
		t.Fatal("no rollback")
	}
	f.set(t, map[string]string{"Device.LocalAgent.ControllerTrust.TOFUAllowed": "true"}) // the same revision, other content
	if r.Allow(f.st.Head(), path, bridge.WriteParam) {
		t.Error("a rolled back Permission allows")
	}
}

func TestRoleByName(t *testing.T) {
	f := newFixture(t, perm(1, 1, "1", "Device.WiFi.", "r---", "r---", "----", "----"))
	r := f.Role("r1")
	if !r.Allow(f.st.Head(), "Device.WiFi.", bridge.ReadObj) || r.Allow(f.st.Head(), "Device.IP.", bridge.ReadObj) || r.Secured(f.st.Head()) {
		t.Error("wrong rights")
	}
	f.set(t, map[string]string{"Device.LocalAgent.ControllerTrust.SecuredRoles": "Device.LocalAgent.ControllerTrust.Role.1"})
	if !r.Secured(f.st.Head()) {
		t.Error("not secured")
	}
	if f.Role("none").Allow(f.st.Head(), "Device.WiFi.", bridge.ReadObj) {
		t.Error("an unknown role allows")
	}
}

func FuzzTarget(f *testing.F) {
	for _, s := range []string{"Device.", "Device.WiFi.Radio.*.", "Device.WiFi.Radio.[Channel==6].Enable", "Device.A.{i}.B", "Device.Ref+.X", "[", "Device.*", ""} {
		f.Add(s, "Device.WiFi.Radio.1.Channel")
	}
	schema, err := tr181.Load(&datamodel.Profile{Name: "test", Supports: []string{"Device.WiFi."}})
	if err != nil {
		f.Fatal(err)
	}
	st := store.OpenMemory(store.Options{})
	defer st.Close()
	tab := New(schema, st.Head)
	f.Fuzz(func(t *testing.T, text, path string) {
		target, ok := parseTarget(text)
		covers := target.covers(tab, st.Head(), path)
		if !ok && covers && target.segs != nil {
			t.Errorf("%q cannot be read but covers %q", text, path)
		}
	})
}

func BenchmarkAllow(b *testing.B) {
	values := perm(1, 1, "1", "Device.", "rw-n", "rw-n", "rw-n", "r-xn")
	f := newFixture(b, values)
	r := f.Endpoint(eid)
	v := f.st.Head()
	b.ReportAllocs()
	for b.Loop() {
		if !r.Allow(v, "Device.WiFi.Radio.1.Channel", bridge.ReadParam) {
			b.Fatal("denied")
		}
	}
}

func BenchmarkAllow20(b *testing.B) {
	values := map[string]string{}
	for i := 1; i <= 20; i++ {
		values = merge(values, perm(1, i, fmt.Sprint(i), fmt.Sprintf("Device.IP.Interface.%d.,Device.WiFi.SSID.*.", i), "rw-n", "rw-n", "rw-n", "r-xn"))
	}
	values = merge(values, perm(1, 21, "0", "Device.", "r---", "r---", "r---", "r---"))
	f := newFixture(b, values)
	r := f.Endpoint(eid)
	v := f.st.Head()
	b.ReportAllocs()
	for b.Loop() {
		if !r.Allow(v, "Device.WiFi.Radio.1.Channel", bridge.ReadParam) {
			b.Fatal("denied")
		}
	}
}
