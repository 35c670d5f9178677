package bridge

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"twinspan/datamodel"
	"twinspan/datamodel/tr181"
	"twinspan/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testProfile is a small device with a bit of everything: provisioning objects, tables with references, counters.
func testProfile() *datamodel.Profile {
	return &datamodel.Profile{
		Name: "test",
		Supports: []string{"Device.LocalAgent.", "Device.ManagementServer.", "Device.IP.", "Device.Ethernet.", "Device.Time.",
			"Device.DeviceInfo.", "Device.DHCPv4.", "Device.MQTT.", "Device.PPP.", "Device.Reboot()", "Device.FactoryReset()",
			"Device.Boot!"},
		Factory: map[string]string{
			"Device.DeviceInfo.SoftwareVersion":         "1.0",
			"Device.DeviceInfo.ProvisioningCode":        "factory",
			"Device.LocalAgent.EndpointID":              "os::012345-1",
			"Device.LocalAgent.Controller.1.Alias":      "first",
			"Device.LocalAgent.Controller.1.Enable":     "true",
			"Device.Ethernet.Interface.1.Name":          "eth0",
			"Device.IP.Interface.1.Name":                "wan",
			"Device.IP.Interface.1.LowerLayers":         "Device.Ethernet.Interface.1",
			"Device.IP.Interface.2.Alias":               "lan",
			"Device.ManagementServer.URL":               "http://acs.twinspan.example/",
			"Device.ManagementServer.Password":          "geheim",
			"Device.LocalAgent.Controller.1.EndpointID": "self::main",
		},
		MaxRows: map[string]int{"Device.DHCPv4.Server.Pool.": 3},
	}
}

var (
	acs   = Writer{Name: "cwmp", Protocol: datamodel.CWMP, Class: ClassACS}
	mainC = Writer{Name: "usp:self::main", Protocol: datamodel.USP, Class: ClassMain}
	appC  = Writer{Name: "usp:self::app", Protocol: datamodel.USP, Class: ClassApps}
	user  = Writer{Name: "cli", Protocol: datamodel.USP, Class: ClassUser}
)

// storeKind is what newRig stores in; TestOnFile changes it.
var storeKind = "memory"

// TestOnFile runs what the others say of the engine over a real database file, which must verify afterwards.
func TestOnFile(t *testing.T) {
	storeKind = "file"
	defer func() { storeKind = "memory" }()
	for _, c := range []struct {
		name string
		test func(*testing.T)
	}{
		{"FirstStart", TestFirstStart}, {"SetAndNoop", TestSetAndNoop}, {"Phases", TestPhases}, {"AddGeneratesKeys", TestAddGeneratesKeys},
		{"CWMPAddObject", TestCWMPAddObject}, {"TruthTable", TestTruthTable}, {"SearchPathSetIsHolistic", TestSearchPathSetIsHolistic},
		{"UniqueKeysOverTheWholeMessage", TestUniqueKeysOverTheWholeMessage}, {"DeleteCascade", TestDeleteCascade},
		{"DeletePartial", TestDeletePartial}, {"Guard", TestGuard}, {"SystemAndRecords", TestSystemAndRecordsRideInTheCommit},
		{"Reachable", TestReachable}, {"Attributes", TestAttributes}, {"ConflictNamesOwner", TestConflictNamesOwner},
		{"Differential", TestDifferential}, {"PrepareAndApply", TestPrepareAndApply}, {"ApplyFailureIsPutBack", TestApplyFailureIsPutBack},
		{"ApplyOrder", TestApplyOrder}, {"Syncer", TestSyncer}, {"FactoryReset", TestFactoryReset}, {"Shield", TestShield},
		{"ShieldWhenUSPIsFirst", TestShieldWhenUSPIsFirst}, {"Rights", TestRights}, {"Secrets", TestSecrets}, {"PhaseChange", TestPhaseChange},
	} {
		t.Run(c.name, c.test)
	}
}

type rig struct {
	*Engine
	t testing.TB
}

func loadSchema(t testing.TB, p *datamodel.Profile) *datamodel.Schema {
	t.Helper()
	s, err := tr181.Load(p)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newRig(t testing.TB, change ...func(*Options)) *rig {
	t.Helper()
	p := testProfile()
	o := Options{Schema: loadSchema(t, p), Profile: p, Store: store.OpenMemory(store.Options{})}
	if storeKind == "file" {
		onFile(t, filepath.Join(t.TempDir(), "db"))(&o)
	}
	for _, c := range change {
		c(&o)
	}
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if err := o.Store.Close(); err != nil {
			t.Error(err)
		}
	})
	return &rig{e, t}
}

func onFile(t testing.TB, path string) func(*Options) {
	return func(o *Options) {
		s, err := store.Open(path, store.Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		o.Store.Close()
		o.Store = s
		t.Cleanup(func() { // before the directory goes, after the store is closed
			s.Close()
			if problems, err := store.Check(path); err != nil || len(problems) > 0 {
				t.Errorf("the database does not verify: %v %v", problems, err)
			}
		})
	}
}

func atPhase(t testing.TB, p Phase, rules ...Rule) func(*Options) {
	return func(o *Options) {
		a, err := NewClassOrder(p, rules...)
		if err != nil {
			t.Fatal(err)
		}
		o.Arbiter = a
	}
}

func set(path string, kv ...string) Op {
	op := Op{Kind: OpSet, Path: path}
	for i := 0; i < len(kv); i += 2 {
		op.Settings = append(op.Settings, Setting{Name: kv[i], Value: kv[i+1], Required: true})
	}
	return op
}

func optional(op Op) Op {
	for i := range op.Settings {
		op.Settings[i].Required = false
	}
	return op
}

func add(path string, kv ...string) Op {
	op := set(path, kv...)
	op.Kind = OpAdd
	return op
}

func del(path string) Op { return Op{Kind: OpDelete, Path: path} }

func whole(ops ...Op) Change   { return Change{Ref: "test", Ops: ops, Atomic: true} }
func partial(ops ...Op) Change { return Change{Ref: "test", Ops: ops} }

func (r *rig) do(w Writer, c Change) Result {
	r.t.Helper()
	res, err := r.Apply(context.Background(), w, c)
	if err != nil {
		r.t.Fatalf("%s: %v", w.Name, err)
	}
	return res
}

func (r *rig) refuse(w Writer, c Change, want datamodel.Reason) error {
	r.t.Helper()
	before := r.store.Head().Rev()
	_, err := r.Apply(context.Background(), w, c)
	if err == nil {
		r.t.Fatalf("%s: was accepted, want %s", w.Name, want)
	}
	if got := deepest(err); got != want {
		r.t.Fatalf("%s: %v (%s), want %s", w.Name, err, got, want)
	}
	if now := r.store.Head().Rev(); now != before {
		r.t.Fatalf("a refused change made revision %d of %d", now, before)
	}
	return err
}

// deepest looks behind RequiredFailed.
func deepest(err error) datamodel.Reason {
	reason := datamodel.ReasonOf(err)
	for e := err; e != nil && reason == datamodel.RequiredFailed; {
		var de *datamodel.Error
		if !errors.As(e, &de) || de.Err == nil {
			break
		}
		e = de.Err
		reason = datamodel.ReasonOf(e)
	}
	return reason
}

func (v *View) get(path string) (string, error) {
	ms, err := v.Resolve(path, datamodel.ResolvePolicy{Want: datamodel.WantParam, MissingIsError: true, CWMPAlias: true})
	if err != nil {
		return "", err
	}
	if len(ms) != 1 {
		return "", fmt.Errorf("%s: %d matches", path, len(ms))
	}
	return v.Value(context.Background(), ms[0])
}

func (r *rig) is(w Writer, path, want string) {
	r.t.Helper()
	got, err := r.View(w).get(path)
	if err != nil {
		r.t.Fatal(err)
	}
	if got != want {
		r.t.Fatalf("%s is %q for %s, want %q", path, got, w.Name, want)
	}
}

func TestFirstStart(t *testing.T) {
	r := newRig(t)
	r.is(acs, "Device.DeviceInfo.SoftwareVersion", "1.0")
	r.is(acs, "Device.USPAgent.Controller.1.EndpointID", "self::main") // invariant 6
	r.is(mainC, "Device.LocalAgent.Controller.1.EndpointID", "self::main")
	r.is(mainC, "Device.CWMPManagementServer.EnableCWMP", "true")
	r.is(acs, "Device.ManagementServer.EnableCWMP", "true")
	r.is(acs, "Device.ManagementServer.Password", "") // hidden
	r.is(acs, "Device.IP.InterfaceNumberOfEntries", "2")
	r.is(acs, "Device.IP.Interface.1.Alias", "cpe-1")
	if n := r.store.Head().Rev(); n != 1 {
		t.Fatalf("first start made %d commits, want 1", n)
	}
	if _, err := r.View(acs).get("Device.LocalAgent.EndpointID"); datamodel.ReasonOf(err) != datamodel.NotSupported {
		t.Fatalf("USP spelling over CWMP: %v", err)
	}
}

func TestSetAndNoop(t *testing.T) {
	r := newRig(t)
	res := r.do(acs, whole(set("Device.Time.", "Enable", "1", "LocalTimeZone", "CET")))
	if !res.Changed || res.Revision != 2 || !res.Applied {
		t.Fatalf("%+v", res)
	}
	r.is(mainC, "Device.Time.Enable", "true")
	res = r.do(mainC, whole(set("Device.Time.", "Enable", "true")))
	if res.Changed || res.Revision != 2 {
		t.Fatalf("the same value made a commit: %+v", res)
	}
	if v := res.Outcomes[0].Objects[0].Params[0].Value; v != "true" {
		t.Fatalf("value after the change is %q", v)
	}
}

func TestPhases(t *testing.T) {
	write := func(w Writer, value string) (Writer, Change) {
		return w, whole(set("Device.DeviceInfo.", "ProvisioningCode", value))
	}
	for _, c := range []struct {
		phase         Phase
		first, second Writer
		allowed       bool
	}{
		{PhaseCWMPOnly, acs, acs, true},
		{PhaseCWMPOnly, acs, mainC, false},
		{PhaseShadow, acs, mainC, false},
		{PhaseDualCWMP, acs, mainC, false},
		{PhaseDualCWMP, mainC, acs, true},
		{PhaseDualCWMP, mainC, appC, false},
		{PhaseDualUSP, mainC, acs, false},
		{PhaseDualUSP, acs, mainC, true},
		{PhaseUSPOnly, mainC, acs, false},
		{PhaseUSPOnly, mainC, user, false},
		{PhaseUSPOnly, user, mainC, true},
	} {
		t.Run(fmt.Sprintf("%s/%s/%s", c.phase, c.first.Class, c.second.Class), func(t *testing.T) {
			r := newRig(t, atPhase(t, c.phase))
			r.do(write(c.first, "one.example"))
			w, ch := write(c.second, "two.example")
			if c.allowed {
				r.do(w, ch)
				return
			}
			want := datamodel.Refused
			if c.phase == PhaseCWMPOnly {
				want = datamodel.Denied // cannot write at all
			} else if c.phase == PhaseShadow {
				want = datamodel.Shadowed
			} else if c.phase == PhaseUSPOnly && c.second.Class == ClassACS {
				want = datamodel.NotWritable
			}
			err := r.refuse(w, ch, want)
			for _, want := range []string{"rule ", "phase"} { // invariant 9
				if !strings.Contains(err.Error(), want) {
					t.Errorf("refusal %q does not name the %s", err, want)
				}
			}
			w, ch = write(c.second, "one.example") // the same value is fine in every phase
			r.do(w, ch)
		})
	}
}

func TestFileStoreRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	p := testProfile()
	schema := loadSchema(t, p)
	open := func() (*Engine, *store.Store) {
		s, err := store.Open(path, store.Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		e, err := New(Options{Schema: schema, Profile: p, Store: s})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		return e, s
	}
	e, s := open()
	if _, err := e.Apply(context.Background(), appC, whole(set("Device.DeviceInfo.", "ProvisioningCode", "app.example"))); err != nil {
		t.Fatal(err)
	}
	e.Close()
	s.Close()
	e, s = open()
	defer s.Close()
	defer e.Close()
	if s.Head().Rev() != 2 {
		t.Fatalf("the restart made commits: revision %d", s.Head().Rev())
	}
	// The class of an owner that is away is known: apps is weaker than user.
	if _, err := e.Apply(context.Background(), user, whole(set("Device.DeviceInfo.", "ProvisioningCode", "user.example"))); err != nil {
		t.Fatal(err)
	}
	_, err := e.Apply(context.Background(), appC, whole(set("Device.DeviceInfo.", "ProvisioningCode", "app2.example")))
	if datamodel.ReasonOf(errors.Unwrap(err)) != datamodel.Refused || !strings.Contains(err.Error(), "owner cli since revision 3") {
		t.Fatalf("%v", err)
	}
}
