package modules

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/datamodel/tr181"
	"twinspan/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is an engine with software modules over a database file that can be reopened, and a file server that is a map.
type rig struct {
	t      *testing.T
	file   string
	db     *store.Store
	engine *bridge.Engine
	m      *Modules

	mu    sync.Mutex
	files map[string]string
	hold  chan struct{} // if set, a fetch waits for it
	asked int
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, file: filepath.Join(t.TempDir(), "db"), files: map[string]string{}}
	r.open()
	t.Cleanup(r.close)
	return r
}

func (r *rig) open() {
	profile := &datamodel.Profile{Name: "test", Supports: []string{"Device.SoftwareModules.", "Device.DeviceInfo.", "Device.LocalAgent."}}
	schema, err := tr181.Load(profile)
	if err != nil {
		r.t.Fatal(err)
	}
	if r.db, err = store.Open(r.file, store.Options{NoSync: true}); err != nil {
		r.t.Fatal(err)
	}
	if r.engine, err = bridge.New(bridge.Options{Schema: schema, Profile: profile, Store: r.db}); err != nil {
		r.t.Fatal(err)
	}
	r.m, err = New(Options{Engine: r.engine, Dir: filepath.Dir(r.file), MaxUnits: 4, Fetch: r.fetch,
		Environments: []Environment{{Name: "one", Type: "Linux", Disk: 100}, {Name: "two", Type: "Other"}}})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.engine.AddProvider(r.m); err != nil {
		r.t.Fatal(err)
	}
	if err := r.engine.Start(context.Background()); err != nil {
		r.t.Fatal(err)
	}
	if err := r.m.Restore(context.Background()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) close() {
	if err := r.engine.Close(); err != nil {
		r.t.Error(err)
	}
	if err := r.db.Close(); err != nil {
		r.t.Error(err)
	}
}

func (r *rig) fetch(ctx context.Context, url, user, password string, _ int64, to *os.File) error {
	r.mu.Lock()
	text, ok := r.files[url]
	r.asked++
	hold := r.hold
	r.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if !ok {
		return &Fault{Reason: NoFile}
	}
	_, err := to.WriteString(text)
	return err
}

// pack makes a package.
func pack(name, version string, more ...string) string {
	return magic + "\nname: " + name + "\nversion: " + version + "\nvendor: V\n" + strings.Join(append(more, "unit: daemon"), "\n") + "\n\nbody"
}

func (r *rig) do(q Request) Result {
	r.t.Helper()
	if q.By == "" {
		q.By = "cwmp"
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return r.m.Do(ctx, q)
}

func (r *rig) value(path string) string {
	r.t.Helper()
	v := r.engine.View(bridge.Writer{Name: "t", Protocol: datamodel.USP})
	ms, err := v.Resolve(path, datamodel.ResolvePolicy{Want: datamodel.WantParam})
	if err != nil || len(ms) != 1 {
		return fmt.Sprint("?", err)
	}
	text, err := v.Value(context.Background(), ms[0])
	if err != nil {
		return err.Error()
	}
	return text
}

const (
	uuidA = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	uuidB = "6ba7b811-9dad-11d1-80b4-00c04fd430c9"
)

// TR-069 A.4.1.10 and A.5.1: every rule with its reason; what fails leaves the tables as they were.
func TestRules(t *testing.T) {
	r := newRig(t)
	r.files = map[string]string{"http://h/1": pack("hello", "1.2", "disk: 60"), "http://h/2": pack("hello", "1.10", "disk: 70"), "http://h/other": pack("other", "9"),
		"http://h/big": pack("big", "1", "disk: 60"), "http://h/alien": pack("alien", "1", "environment: Else"), "http://h/junk": "PK\x03\x04", "http://h/uuid": pack("u", "1", "uuid: "+uuidB)}
	off := bridge.Change{Atomic: true, Ops: []bridge.Op{set("Device.SoftwareModules.ExecEnv.2.", "Enable", "false")}}
	if _, err := r.engine.Apply(t.Context(), bridge.Writer{Name: "cwmp", Protocol: datamodel.CWMP, Class: bridge.ClassACS}, off); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		q    Request
		want Reason
		rows int
	}{
		{Request{Kind: Install, UUID: "nonsense", URL: "http://h/1"}, InvalidUUID, 0},
		{Request{Kind: Install}, InvalidArguments, 0},
		{Request{Kind: Install, URL: "http://user:secret@x/hello"}, InvalidArguments, 0},
		{Request{Kind: Install, URL: "ftp://h/1"}, BadProtocol, 0},
		{Request{Kind: Install, URL: "http://h/1", Env: "Device.SoftwareModules.ExecEnv.9"}, UnknownEnv, 0},
		{Request{Kind: Install, URL: "http://h/1", Env: "Device.SoftwareModules.ExecEnv.2"}, DisabledEnv, 0},
		{Request{Kind: Install, URL: "http://h/none"}, NoFile, 0},
		{Request{Kind: Install, URL: "http://h/junk"}, Corrupted, 0},
		{Request{Kind: Install, URL: "http://h/alien"}, Mismatch, 0},
		{Request{Kind: Update, UUID: uuidA}, UnknownUnit, 0},
		{Request{Kind: Install, UUID: uuidA, URL: "http://h/1"}, 0, 1},
		{Request{Kind: Install, UUID: uuidA, URL: "http://h/1"}, Duplicate, 1},
		{Request{Kind: Install, URL: "http://h/big"}, Exhausted, 1},
		{Request{Kind: Update, UUID: uuidA}, VersionExists, 1},
		{Request{Kind: Update, UUID: uuidA, URL: "http://h/other"}, Corrupted, 1},
		{Request{Kind: Update, UUID: uuidA, Version: "7", URL: "http://h/2"}, UnknownUnit, 1},
		{Request{Kind: Update, UUID: uuidA, Version: "1.2", URL: "http://h/2"}, 0, 1},
		{Request{Kind: Update, UUID: uuidA, URL: "http://h/1"}, Downgrade, 1},
		{Request{Kind: Update}, InvalidArguments, 1},
		{Request{Kind: Update, URL: "http://h/nobody"}, UnknownUnit, 1},
		{Request{Kind: Uninstall, UUID: uuidA, Version: "1.2"}, UnknownUnit, 1},
		{Request{Kind: Uninstall}, InvalidUUID, 1},
		{Request{Kind: Uninstall, UUID: uuidA, Version: "1.10"}, 0, 0},
		{Request{Kind: Uninstall, UUID: uuidA}, UnknownUnit, 0},
		{Request{Kind: Install, URL: "http://h/uuid"}, 0, 1},
		{Request{Kind: Install, UUID: uuidA, URL: "http://h/1"}, 0, 2},
		{Request{Kind: "Other", UUID: uuidA}, InvalidArguments, 2},
	} {
		res := r.do(c.q)
		got := Reason(0)
		if res.Fault != nil {
			got = res.Fault.Reason
		}
		v := r.db.Head()
		if got != c.want || len(rows(v, units)) != c.rows || len(rows(v, execs)) != c.rows || res.Ended.Before(res.Began) {
			t.Fatalf("%d %+v: %+v, %v rows, %v units", i, c.q, res, rows(v, units), rows(v, execs))
		}
		for _, row := range rows(v, units) {
			if s := text(v, row+"Status"); s != "Installed" {
				t.Errorf("%d: %s", i, s)
			}
		}
		if (got == 0) != (res.State != "Failed") {
			t.Errorf("%d: state %s", i, res.State)
		}
	}
	if got := r.value("Device.SoftwareModules.DeploymentUnit.3.UUID"); !ValidUUID(got) && !strings.HasPrefix(got, "?") {
		t.Error(got)
	}
	if a, b := makeUUID("V", "x"), makeUUID("V", "x"); a != b || !ValidUUID(a) || a[14] != '5' || a == makeUUID("V", "y") {
		t.Error(a, b)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(r.file), "module-*")); err != nil || len(left) > 0 {
		t.Errorf("files %v %v", left, err)
	}
}

func TestVersions(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"1.2", "1.10", -1}, {"1.10", "1.2", 1}, {"1", "1", 0}, {"1.0", "1", 1}, {"1.a", "1.b", -1}, {"01", "1", 0}, {"2", "1.9.9", 1}} {
		if got := compareVersions(c.a, c.b); got != c.want {
			t.Errorf("%s %s: %d", c.a, c.b, got)
		}
	}
}

func FuzzManifest(f *testing.F) {
	f.Add(pack("a", "1"))
	f.Add(magic + "\nunit: x\r\nuuid: " + uuidA)
	f.Fuzz(func(t *testing.T, s string) {
		m, fault := readManifest(strings.NewReader(s))
		if (m == nil) == (fault == nil) {
			t.Fatal(m, fault)
		}
		if m != nil && (m.name == "" || len(m.units) == 0 || len(m.units) > maxExecs) {
			t.Fatal(m)
		}
	})
}

// R-SMM.0 and the promise of the package comment: after a power cut in the middle an operation has failed and the tables are whole, after one
// behind it the result is there.
func TestPowerCut(t *testing.T) {
	r := newRig(t)
	r.files["http://h/1"], r.files["http://h/2"] = pack("hello", "1"), pack("hello", "2")
	if res := r.do(Request{ID: "job-1", Kind: Install, UUID: uuidA, URL: "http://h/1"}); res.Fault != nil {
		t.Fatal(res.Fault)
	}
	for i, q := range []Request{{ID: "job-2", Kind: Install, UUID: uuidB, URL: "http://h/2"}, {ID: commandPrefix + "3", By: "usp:x", Kind: Update, UUID: uuidA, URL: "http://h/2"}} {
		r.mu.Lock()
		r.hold = make(chan struct{})
		before := r.asked
		r.mu.Unlock()
		done := make(chan Result, 1)
		go func() { done <- r.do(q) }()
		for began := time.Now(); ; time.Sleep(time.Millisecond) {
			r.mu.Lock()
			n := r.asked
			r.mu.Unlock()
			if n > before {
				break
			}
			if time.Since(began) > 30*time.Second {
				t.Fatal("no fetch")
			}
		}
		// What the disk holds now is what a power cut leaves.
		image, err := os.ReadFile(r.file)
		if err != nil {
			t.Fatal(err)
		}
		close(r.hold)
		<-done
		r.close()
		if err := os.WriteFile(r.file, image, 0o600); err != nil {
			t.Fatal(err)
		}
		r.hold = nil
		r.open()
		res, ok := r.m.Outcome(q.ID)
		if !ok || res.Fault == nil || res.Fault.Reason != Denied || res.State != "Failed" {
			t.Errorf("%d: %+v %v", i, res, ok)
		}
		v := r.db.Head()
		if all := rows(v, units); len(all) != 1 || text(v, all[0]+"Status") != "Installed" || text(v, all[0]+"Version") != "1" {
			t.Errorf("%d: rows %v", i, all)
		}
	}
	if res, ok := r.m.Outcome("job-1"); !ok || res.Fault != nil || res.UUID != uuidA || res.Row != "Device.SoftwareModules.DeploymentUnit.1." || len(res.Execs) != 1 {
		t.Errorf("%+v %v", res, ok)
	}
	w, err := r.engine.Watch("")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.m.Tell(t.Context())
	r.m.Tell(t.Context()) // told once
	ev := nextModel(t, w)
	if ev.Name != "DUStateChange!" || ev.Cause != "usp:x" || ev.Args["CurrentState"] != "Failed" || ev.Args["Fault.FaultCode"] != "7022" {
		t.Errorf("%+v", ev)
	}
	r.m.Forget(t.Context(), "job-1")
	r.m.Forget(t.Context(), "job-2")
	left := 0
	r.db.Head().Records(bucket, func(string, []byte) bool { left++; return true })
	if left != 0 {
		t.Errorf("%d records are left", left)
	}
}

func nextModel(t *testing.T, w *bridge.Watcher) bridge.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		ev, err := w.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if ev.Kind == bridge.EventModel {
			return ev
		}
	}
}

// The USP commands, the event, execution units and environments.
func TestCommands(t *testing.T) {
	r := newRig(t)
	r.files["http://h/1"], r.files["http://h/2"] = pack("hello", "1", "unit: second"), pack("hello", "2")
	ctl := bridge.Writer{Name: "usp:self::ctl", Protocol: datamodel.USP, Class: bridge.ClassMain}
	w, err := r.engine.Watch("")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	run := func(path string, args map[string]string) (map[string]string, error) {
		op, err := r.engine.Command(ctl, path, args)
		if err != nil {
			return nil, err
		}
		return op.Run(t.Context())
	}
	const sm = "Device.SoftwareModules."
	out, err := run(sm+"InstallDU()", map[string]string{"URL": "http://h/1"})
	if err != nil || out["Version"] != "1" || !ValidUUID(out["UUID"]) || out["ExecEnvRef"] != sm+"ExecEnv.1" {
		t.Fatalf("%v %v", out, err)
	}
	if ev := nextModel(t, w); ev.Args["OperationPerformed"] != "Install" || ev.Args["CurrentState"] != "Installed" || ev.Args["Resolved"] != "true" ||
		ev.Args["DeploymentUnitRef"] != sm+"DeploymentUnit.1" || ev.Args["ExecutionUnitRefList"] != sm+"ExecutionUnit.1,"+sm+"ExecutionUnit.2" || ev.Args["Fault.FaultCode"] != "0" {
		t.Errorf("%+v", ev)
	}
	if got := r.value(sm + "DeploymentUnit.1.ExecutionUnitList"); got != sm+"ExecutionUnit.1,"+sm+"ExecutionUnit.2" {
		t.Error(got)
	}
	for _, bad := range []map[string]string{{}, {"URL": "http://h/1", "Privileged": "true"}, {"URL": "http://h/1", "RequiredRoles": "Device.LocalAgent.ControllerTrust.Role.1"}} {
		if _, err := run(sm+"InstallDU()", bad); datamodel.ReasonOf(err) != datamodel.InvalidArgs {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if _, err := run(sm+"InstallDU()", map[string]string{"URL": "http://h/1"}); datamodel.ReasonOf(err) != datamodel.CommandFailed {
		t.Error(err)
	}
	if ev := nextModel(t, w); ev.Args["Fault.FaultCode"] != "7226" || ev.Args["CurrentState"] != "Failed" {
		t.Errorf("%+v", ev)
	}
	if got := r.value(sm + "ExecutionUnit.1.Status"); got != "Idle" {
		t.Error(got)
	}
	if _, err := run(sm+"ExecutionUnit.1.SetRequestedState()", map[string]string{"RequestedState": "Active"}); err != nil {
		t.Fatal(err)
	}
	if got := r.value(sm+"ExecutionUnit.1.Status") + " " + r.value(sm+"ExecEnv.1.ActiveExecutionUnits"); got != "Active "+sm+"ExecutionUnit.1" {
		t.Error(got)
	}
	enable := func(value string) {
		if _, err := r.engine.Apply(t.Context(), ctl, bridge.Change{Atomic: true, Ops: []bridge.Op{set(sm+"ExecEnv.1.", "Enable", value)}}); err != nil {
			t.Fatal(err)
		}
	}
	enable("false")
	if got := r.value(sm+"ExecutionUnit.1.Status") + r.value(sm+"ExecutionUnit.1.ExecutionFaultCode") + r.value(sm+"ExecEnv.1.Status"); got != "IdleUnStartableDisabled" {
		t.Error(got)
	}
	if _, err := run(sm+"ExecutionUnit.2.SetRequestedState()", map[string]string{"RequestedState": "Active"}); datamodel.ReasonOf(err) != datamodel.InvalidValue {
		t.Error(err)
	}
	enable("true")
	// CWMP's face of the same.
	acs := bridge.Writer{Name: "cwmp", Protocol: datamodel.CWMP, Class: bridge.ClassACS}
	if res, err := r.engine.Apply(t.Context(), acs, bridge.Change{Atomic: true, Ops: []bridge.Op{set(sm+"ExecutionUnit.2.", "RequestedState", "Active")}}); err != nil || !res.Applied {
		t.Fatal(res, err)
	}
	if got := r.value(sm + "ExecutionUnit.2.Status"); got != "Active" {
		t.Error(got)
	}
	if _, err := run(sm+"DeploymentUnit.1.Update()", map[string]string{"URL": "http://h/2"}); err != nil {
		t.Fatal(err)
	}
	if ev := nextModel(t, w); ev.Args["OperationPerformed"] != "Update" || ev.Args["Version"] != "2" || ev.Args["ExecutionUnitRefList"] != sm+"ExecutionUnit.1" {
		t.Errorf("%+v", ev)
	}
	if _, err := run(sm+"DeploymentUnit.1.Uninstall()", nil); err != nil {
		t.Fatal(err)
	}
	if ev := nextModel(t, w); ev.Args["OperationPerformed"] != "Uninstall" || ev.Args["CurrentState"] != "Uninstalled" {
		t.Errorf("%+v", ev)
	}
	if v := r.db.Head(); len(rows(v, units))+len(rows(v, execs)) != 0 {
		t.Error("rows are left")
	}
}

func TestNoSpaceForAPackage(t *testing.T) {
	r := newRig(t)
	r.m.o.Fetch = func(_ context.Context, _, _, _ string, _ int64, to *os.File) error {
		return fmt.Errorf("store: %w", &os.PathError{Op: "write", Path: to.Name(), Err: syscall.ENOSPC})
	}
	res := r.m.Do(t.Context(), Request{Kind: Install, URL: "http://x/a"})
	if res.Fault == nil || res.Fault.Reason != Exhausted {
		t.Errorf("%+v", res.Fault)
	}
	if n := len(rows(r.m.head(), units)); n != 0 {
		t.Errorf("%d units are left", n)
	}
}
