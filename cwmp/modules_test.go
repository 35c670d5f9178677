package cwmp

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"twinspan/bridge"
	"twinspan/cwmp/acs"
	"twinspan/cwmp/soap"
	"twinspan/store"
)

// simModules is a simulated device with deployment units.
type simModules struct {
	mu        sync.Mutex
	installed map[string]string // UUID -> version
	block     chan struct{}     // if set, every operation waits for it
	calls     int
}

func (s *simModules) Change(ctx context.Context, op soap.DUOperation) (soap.DUResult, error) {
	s.mu.Lock()
	s.calls++
	block := s.block
	s.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return soap.DUResult{}, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fail := func(code soap.FaultCode) (soap.DUResult, error) {
		return soap.DUResult{}, soap.NewFault(code, "simulated")
	}
	_, known := s.installed[op.UUID]
	switch op.Kind {
	case soap.Install:
		switch {
		case strings.Contains(op.ExecutionEnvRef, "99"):
			return fail(soap.UnknownExecutionEnv)
		case strings.Contains(op.URL, "missing"):
			return fail(soap.CannotAccessFile)
		case strings.Contains(op.URL, "panic"):
			panic("simulated")
		case strings.Contains(op.URL, "odd"):
			return soap.DUResult{}, errors.New("no such thing")
		case known:
			return fail(soap.DuplicateDU)
		}
		s.installed[op.UUID] = "1.0"
	case soap.Update:
		if !known {
			return fail(soap.UnknownDU)
		}
		s.installed[op.UUID] = op.Version
	case soap.Uninstall:
		if !known {
			return fail(soap.UnknownDU)
		}
		delete(s.installed, op.UUID)
		return soap.DUResult{CurrentState: "Uninstalled", Resolved: true}, nil
	}
	return soap.DUResult{CurrentState: "Installed", Version: s.installed[op.UUID], Resolved: true, DeploymentUnitRef: "Device.SoftwareModules.DeploymentUnit.1"}, nil
}

const (
	uuid1 = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	uuid2 = "6ba7b811-9dad-11d1-80b4-00c04fd430c8"
)

func (r *serverRig) call(m soap.Message) (soap.Message, error) {
	r.t.Helper()
	r.cpe.requested()
	return r.dev.Call(r.ctx(), m)
}

func requestsOf[T soap.Message](r *serverRig) (out []T) {
	for _, m := range r.dev.Requests() {
		if a, ok := m.(T); ok {
			out = append(out, a)
		}
	}
	return out
}

// DU-01 to DU-04: results in the order of the operations, each its own; the events; Controllers are told, too.
func TestDU01ChangeDUState(t *testing.T) {
	t.Parallel()
	mods := &simModules{installed: map[string]string{}}
	r := newServerRig(t, acs.Config{Strict: true}, func(o *Options) { o.Modules = mods }, nil)
	r.idle(1)
	watcher, err := r.engine.Watch("")
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	ops := []soap.DUOperation{
		{Kind: soap.Install, UUID: uuid1, URL: "http://h/missing", Password: "geheim"},
		{Kind: soap.Install, UUID: uuid1, URL: "http://h/good", Username: "u", Password: "geheim"},
		{Kind: soap.Install, UUID: uuid1, URL: "http://h/good"},
		{Kind: soap.Update, UUID: uuid1, Version: "2.0"},
		{Kind: soap.Uninstall, UUID: "nonsense"},
		{Kind: soap.Uninstall, UUID: uuid2},
		{Kind: soap.Install, URL: "http://h/x", ExecutionEnvRef: "Device.SoftwareModules.ExecEnv.99"},
		{Kind: soap.Install, URL: "http://h/panic"},
		{Kind: soap.Install, URL: "http://h/odd"},
		{Kind: soap.Uninstall, UUID: uuid1},
	}
	if _, err := r.call(&soap.ChangeDUState{Operations: ops, CommandKey: "du"}); err != nil {
		t.Fatal(err)
	}
	in, err := r.dev.WaitInform(r.ctx(), func(in *acs.InformRecord) bool { return in.HasEvent(evDUComplete) })
	if err != nil || !slices.ContainsFunc(in.Inform.Event, func(e soap.Event) bool { return e.EventCode == evMChangeDUState && e.CommandKey == "du" }) {
		t.Fatalf("%v, events %v", err, in.Inform.Event)
	}
	r.rig.wait("the report", func() bool { return len(requestsOf[*soap.DUStateChangeComplete](r)) == 1 })
	m := requestsOf[*soap.DUStateChangeComplete](r)[0]
	want := []soap.FaultCode{9016, 0, 9026, 0, 9022, 9028, 9023, 9001, 9001, 0}
	if m.CommandKey != "du" || len(m.Results) != len(want) {
		t.Fatalf("report %+v", m)
	}
	for i, res := range m.Results {
		state := []string{"Installed", "Installed", "Uninstalled"}[ops[i].Kind-1]
		if want[i] != 0 {
			state = "Failed"
		}
		if res.Fault.FaultCode != want[i] || res.CurrentState != state || res.CompleteTime.IsZero() {
			t.Errorf("result %d: %+v", i, res)
		}
	}
	if v := m.Results[3].Version; v != "2.0" {
		t.Errorf("version %s", v)
	}
	told := 0
	for told < len(ops) {
		ev, err := watcher.Next(r.ctx())
		if err != nil {
			t.Fatal(err)
		}
		if ev.Name == duEvent {
			if want := operationNames[ops[told].Kind]; ev.Args["OperationPerformed"] != want || ev.Cause != writerName {
				t.Errorf("event %d: %+v", told, ev)
			}
			told++
		}
	}
	r.rig.wait("nothing to be left", func() bool {
		left := -1
		r.cpe.call(r.ctx(), func() error { left = len(r.cpe.modules.jobs) + len(r.cpe.queue.list); return nil })
		return left == 0
	})
	r.clean()
}

// DU-05: a request survives a restart; the operation in progress has failed, the rest is done; secrets go with their operation.
func TestDU05Restart(t *testing.T) {
	t.Parallel()
	mods := &simModules{installed: map[string]string{}, block: make(chan struct{})}
	r := newServerRig(t, acs.Config{}, func(o *Options) { o.Modules = mods }, nil)
	r.idle(1)
	if _, err := r.call(&soap.ChangeDUState{CommandKey: "k", Operations: []soap.DUOperation{
		{Kind: soap.Install, UUID: uuid1, URL: "http://h/a", Password: "geheim"}, {Kind: soap.Install, UUID: uuid2, URL: "http://h/b"}}}); err != nil {
		t.Fatal(err)
	}
	r.rig.wait("the first operation", func() bool { mods.mu.Lock(); defer mods.mu.Unlock(); return mods.calls == 1 })
	r.rig.stop() // the operation ends without a result, as a power cut leaves it
	mods.block = nil
	r.store, _ = store.Open(r.file, store.Options{NoSync: true})
	r.store.Records(duBucket, func(_ string, data []byte) bool {
		if !strings.Contains(string(data), `"started":true`) {
			t.Errorf("record %s", data)
		}
		return true
	})
	r.store.Close()
	r.rig.start()
	r.rig.wait("the report", func() bool { return len(requestsOf[*soap.DUStateChangeComplete](r)) >= 1 })
	m := requestsOf[*soap.DUStateChangeComplete](r)
	last := m[len(m)-1]
	if len(last.Results) != 2 || last.Results[0].Fault.FaultCode != soap.RequestDenied || last.Results[1].Fault.FaultCode != 0 || mods.calls != 2 {
		t.Errorf("results %+v", last.Results)
	}
}

// outcomes is a simModules that knows what became of an operation.
type outcomes struct {
	simModules
	known  map[string]soap.DUResult
	forgot []string
}

func (o *outcomes) Change(ctx context.Context, op soap.DUOperation) (soap.DUResult, error) {
	id := OperationID(ctx)
	o.mu.Lock()
	o.known[id] = soap.DUResult{CurrentState: "Installed", Version: "7", Resolved: true, StartTime: time.Unix(1e9, 0)}
	o.mu.Unlock()
	return o.simModules.Change(ctx, op)
}

func (o *outcomes) Outcome(id string) (soap.DUResult, error, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	res, ok := o.known[id]
	return res, nil, ok
}

func (o *outcomes) Forget(_ context.Context, id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.known, id)
	o.forgot = append(o.forgot, id)
}

// DU-05: an operation that was carried out right before the power cut is reported as what it was.
func TestDU05Outcome(t *testing.T) {
	t.Parallel()
	mods := &outcomes{simModules: simModules{installed: map[string]string{}, block: make(chan struct{})}, known: map[string]soap.DUResult{}}
	r := newServerRig(t, acs.Config{}, func(o *Options) { o.Modules = mods }, nil)
	r.idle(1)
	if _, err := r.call(&soap.ChangeDUState{CommandKey: "k", Operations: []soap.DUOperation{
		{Kind: soap.Install, UUID: uuid1, URL: "http://h/a"}, {Kind: soap.Install, UUID: uuid2, URL: "http://h/b"}}}); err != nil {
		t.Fatal(err)
	}
	r.rig.wait("the first operation", func() bool { mods.mu.Lock(); defer mods.mu.Unlock(); return mods.calls == 1 })
	r.rig.stop()
	mods.block = nil
	r.rig.start()
	r.rig.wait("the report", func() bool { return len(requestsOf[*soap.DUStateChangeComplete](r)) >= 1 })
	m := requestsOf[*soap.DUStateChangeComplete](r)
	first := m[len(m)-1].Results[0]
	if len(m[len(m)-1].Results) != 2 || first.Fault.FaultCode != 0 || first.Version != "7" || first.CurrentState != "Installed" || first.StartTime.Unix() != 1e9 {
		t.Errorf("%+v", m[len(m)-1])
	}
	mods.mu.Lock()
	defer mods.mu.Unlock()
	if len(mods.forgot) != 2 || mods.forgot[0] == mods.forgot[1] || !strings.HasSuffix(mods.forgot[0], "-0") || len(mods.known) != 0 || mods.calls != 2 {
		t.Errorf("%+v", mods)
	}
}

// Without an implementation the RPC does not exist; limits are kept.
func TestDULimits(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	op := soap.DUOperation{Kind: soap.Install, URL: "http://h/a"}
	wantFault(t, r.rpc(&soap.ChangeDUState{Operations: []soap.DUOperation{op}}), soap.MethodNotSupported)
	if m := r.rpc(&soap.GetRPCMethods{}).(*soap.GetRPCMethodsResponse); slices.Contains(m.MethodList, "ChangeDUState") {
		t.Error("ChangeDUState is listed")
	}
	mods := &simModules{installed: map[string]string{}, block: make(chan struct{})}
	s := newRig(t, func(o *Options) { o.Modules = mods }, nil)
	if m := s.rpc(&soap.GetRPCMethods{}).(*soap.GetRPCMethodsResponse); !slices.Contains(m.MethodList, "ChangeDUState") {
		t.Error("ChangeDUState is not listed")
	}
	wantFault(t, s.rpc(&soap.ChangeDUState{Operations: slices.Repeat([]soap.DUOperation{op}, maxModuleOps+1)}), soap.ResourcesExceeded)
	var rpcs []soap.Message
	for range maxModuleJobs + 1 {
		rpcs = append(rpcs, &soap.ChangeDUState{Operations: []soap.DUOperation{op}})
	}
	a := s.run(rpcs...)
	wantFault(t, a[maxModuleJobs], soap.ResourcesExceeded)
	if _, ok := a[maxModuleJobs-1].(*soap.ChangeDUStateResponse); !ok {
		t.Errorf("%#v", a[maxModuleJobs-1])
	}
}

// DU-08: what a Controller did, by DUStateChangeComplPolicy.
func TestDU08Autonomous(t *testing.T) {
	t.Parallel()
	r := newServerRig(t, acs.Config{Strict: true}, nil, nil)
	r.idle(1)
	changed := func(uuid, operation, fault string) {
		r.engine.Emit(bridge.Event{Kind: bridge.EventModel, Path: duObject, Name: duEvent, Cause: "usp:self::ctl", Args: map[string]string{"UUID": uuid,
			"OperationPerformed": operation, "CurrentState": "Installed", "Resolved": "true", "StartTime": "2026-01-02T03:04:05Z", "Fault.FaultCode": fault}})
	}
	r.cpe.call(r.ctx(), func() error { // the policy is off
		r.cpe.moduleChanged(r.ctx(), bridge.Event{Kind: bridge.EventModel, Name: duEvent, Args: map[string]string{"OperationPerformed": "Install"}, Time: time.Now()})
		return nil
	})
	const policy = msPath + "DUStateChangeComplPolicy."
	r.sys(policy+"Enable", "true")
	r.sys(policy+"OperationTypeFilter", "Install,Update")
	r.sys(policy+"FaultCodeFilter", "9016")
	changed(uuid1, "Install", "0")
	changed(uuid1, "Uninstall", "0")
	changed(uuid2, "Update", "9016")
	changed(uuid2, "Update", "9001")
	if _, err := r.dev.WaitInform(r.ctx(), func(in *acs.InformRecord) bool { return in.HasEvent(evAutonomousDU) }); err != nil {
		t.Fatal(err)
	}
	r.rig.wait("both reports", func() bool { return len(requestsOf[*soap.AutonomousDUStateChangeComplete](r)) == 2 })
	time.Sleep(50 * time.Millisecond)
	m := requestsOf[*soap.AutonomousDUStateChangeComplete](r)
	if a := m[0].Results[0]; len(m) != 2 || a.UUID != uuid1 || a.OperationPerformed != "Install" || !a.Resolved || a.StartTime.Year() != 2026 {
		t.Errorf("first of %d: %+v", len(m), a)
	}
	if b := m[1].Results[0]; b.UUID != uuid2 || b.Fault.FaultCode != 9016 {
		t.Errorf("second %+v", b)
	}
	r.clean()
}
