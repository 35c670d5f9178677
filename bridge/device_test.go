package bridge

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"twinspan/datamodel"
	"twinspan/store"
)

// box is a device part with fault switches.
type box struct {
	name string
	mu   sync.Mutex

	serves  []string
	values  map[string]string // full path -> value
	reads   int
	readErr func() error

	lists []string
	live  map[string][]uint32

	applies   []string
	veto      func([]datamodel.Write) error
	applyErr  func([]datamodel.Write) error
	applied   []string
	preparing int

	rows    []datamodel.Row
	rowsErr error
	syncs   []string
	changed chan struct{}

	commands []string
	runFn    func(ctx context.Context, inv datamodel.Invocation) (map[string]string, error)
}

func (b *box) Name() string     { return b.name }
func (b *box) Serves() []string { return b.serves }
func (b *box) Read(_ context.Context, obj datamodel.ObjectRef, params []string, yield func(string, string)) error {
	b.mu.Lock()
	b.reads++
	f := b.readErr
	b.mu.Unlock()
	if f != nil {
		if err := f(); err != nil {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range params {
		if v, ok := b.values[obj.Path+p]; ok {
			yield(p, v)
		}
	}
	return nil
}
func (b *box) Lists() []string { return b.lists }
func (b *box) Instances(_ context.Context, table string) ([]uint32, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.live[table], nil
}

func (b *box) change(fn func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fn()
}
func (b *box) Applies() []string { return b.applies }
func (b *box) Prepare(_ context.Context, ws []datamodel.Write) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.preparing++
	if b.veto != nil {
		return b.veto(ws)
	}
	return nil
}
func (b *box) Apply(_ context.Context, ws []datamodel.Write) error {
	b.mu.Lock()
	f := b.applyErr
	b.mu.Unlock()
	if f != nil {
		if err := f(ws); err != nil {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range ws {
		switch {
		case w.Added:
			b.applied = append(b.applied, "+"+w.Path)
		case w.Deleted:
			b.applied = append(b.applied, "-"+w.Path)
		default:
			b.applied = append(b.applied, w.Path+"="+w.Value)
		}
	}
	return nil
}
func (b *box) log() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := strings.Join(b.applied, " ")
	b.applied = nil
	return s
}
func (b *box) Rows(context.Context) ([]datamodel.Row, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rowsErr != nil {
		return nil, b.rowsErr
	}
	return slices.Clone(b.rows), nil
}
func (b *box) Syncs() []string          { return b.syncs }
func (b *box) Changed() <-chan struct{} { return b.changed }
func (b *box) Commands() []string       { return b.commands }
func (b *box) Run(ctx context.Context, inv datamodel.Invocation) (map[string]string, error) {
	return b.runFn(ctx, inv)
}

func with(ps ...datamodel.Provider) func(*Options) {
	return func(o *Options) { o.Providers = append(o.Providers, ps...) }
}

func TestLiveValues(t *testing.T) {
	b := &box{name: "sys", serves: []string{"Device.DeviceInfo.UpTime", "Device.DeviceInfo.MemoryStatus.", "Device.WiFi."},
		values: map[string]string{"Device.DeviceInfo.UpTime": "42", "Device.DeviceInfo.MemoryStatus.Free": "7"}}
	r := newRig(t, with(b))
	r.is(mainC, "Device.DeviceInfo.UpTime", "42")
	r.is(acs, "Device.DeviceInfo.MemoryStatus.Free", "7")
	r.is(acs, "Device.DeviceInfo.MemoryStatus.Total", "0") // not known to the provider
	b.reads = 0
	v := r.View(mainC)
	ms, _ := v.Resolve("Device.DeviceInfo.MemoryStatus.", datamodel.ResolvePolicy{})
	n := 0
	if err := v.Params(context.Background(), ms[0], func(*datamodel.Param, string) bool { n++; return true }); err != nil || n < 2 {
		t.Fatal(n, err)
	}
	if b.reads != 1 {
		t.Fatalf("%d provider calls for one object", b.reads)
	}
	b.readErr = func() error { panic("driver") }
	r.is(mainC, "Device.DeviceInfo.UpTime", "0")
	if got := ids(r.rows("Device.DeviceInfo.")); got != "" {
		t.Fatal(got)
	}
	if _, ok := r.store.Head().Leaf("Device.DeviceInfo.UpTime"); ok {
		t.Fatal("a live value was stored")
	}
}

func TestSlowProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		b := &box{name: "slow", serves: []string{"Device.DeviceInfo.UpTime"}, readErr: func() error { <-release; return nil }}
		r := newRig(t, with(b))
		begin := time.Now()
		for range maxStuck {
			r.is(mainC, "Device.DeviceInfo.UpTime", "0")
		}
		if took := time.Since(begin); took != maxStuck*readBudget {
			t.Fatalf("%d reads took %s", maxStuck, took)
		}
		begin = time.Now()
		r.is(mainC, "Device.DeviceInfo.UpTime", "0")
		if time.Since(begin) != 0 {
			t.Fatal("a provider that hangs is still asked")
		}
		close(release)
		synctest.Wait()
		b.mu.Lock()
		b.readErr, b.values = nil, map[string]string{"Device.DeviceInfo.UpTime": "9"}
		b.mu.Unlock()
		r.is(mainC, "Device.DeviceInfo.UpTime", "9")
	})
}

func TestLister(t *testing.T) {
	const table = "Device.DHCPv4.Server.Pool.1.Client."
	b := &box{name: "leases", lists: []string{"Device.DHCPv4.Server.Pool.{i}.Client."}, serves: []string{"Device.DHCPv4.Server.Pool.{i}.Client.{i}."},
		live: map[string][]uint32{table: {3, 8}}, values: map[string]string{table + "8.Chaddr": "00:11:22:33:44:55", table + "8.Active": "1"}}
	r := newRig(t, with(b))
	r.do(mainC, whole(add("Device.DHCPv4.Server.Pool.")))
	r.is(mainC, "Device.DHCPv4.Server.Pool.1.ClientNumberOfEntries", "2")
	r.is(mainC, table+"8.Chaddr", "00:11:22:33:44:55")
	r.is(mainC, table+"[Active==true].Chaddr", "00:11:22:33:44:55")
	r.refuse(mainC, whole(add(table)), datamodel.NotCreatable)
	r.refuse(mainC, whole(set(table+"8.", "Active", "false")), datamodel.NotWritable)
	r.refuse(mainC, whole(set(table+"8.", "Alias", "x")), datamodel.NotWritable)
	r.refuse(mainC, whole(set(table+"9.", "Active", "false")), datamodel.NoInstance)
	n := int8(1)
	r.refuse(acs, whole(Op{Kind: OpAttr, Path: table + "8.Active", Attr: &AttrChange{Notification: &n}}), datamodel.Refused)
	r.do(acs, whole(Op{Kind: OpAttr, Path: table, Attr: &AttrChange{Notification: &n}}))
	v := r.View(acs)
	if ms, err := v.Resolve(table+"8.Active", datamodel.ResolvePolicy{}); err != nil || v.Attr(ms[0]).Notification != 1 {
		t.Fatal(ms, err)
	}
	r.refuse(mainC, whole(del(table+"8.")), datamodel.NotDeletable)
}

func TestSetBySearchOverLiveValue(t *testing.T) {
	b := &box{name: "links", serves: []string{"Device.Ethernet.Interface.{i}.Status"},
		values: map[string]string{"Device.Ethernet.Interface.1.Status": "Up"}}
	r := newRig(t, with(b))
	res := r.do(mainC, whole(set(`Device.Ethernet.Interface.[Status=="Up"].`, "Enable", "true")))
	if !res.Changed || len(res.Outcomes[0].Objects) != 1 {
		t.Fatalf("%+v", res)
	}
	b.values["Device.Ethernet.Interface.1.Status"] = "Down"
	res = r.do(mainC, whole(set(`Device.Ethernet.Interface.[Status=="Up"].`, "Enable", "false")))
	if res.Changed {
		t.Fatalf("%+v", res)
	}
}

func TestPrepareAndApply(t *testing.T) {
	b := &box{name: "net", applies: []string{"Device.IP.", "Device.Ethernet.Interface.{i}.Stats.Reset"}}
	r := newRig(t, with(b))
	waitFor(t, func() bool { return b.log() != "" }) // the factory values
	r.do(mainC, whole(set("Device.IP.Interface.1.", "Enable", "true", "MaxMTUSize", "1400"), set("Device.Time.", "Enable", "true")))
	if got := b.log(); got != "Device.IP.Interface.1.Enable=true Device.IP.Interface.1.MaxMTUSize=1400" {
		t.Fatal(got)
	}
	r.do(mainC, whole(add("Device.IP.Interface."), del("Device.IP.Interface.2.")))
	if got := b.log(); got != "+Device.IP.Interface.3. Device.IP.Interface.3.Alias=cpe-3 -Device.IP.Interface.2." {
		t.Fatal(got)
	}
	b.veto = func(ws []datamodel.Write) error {
		if slices.ContainsFunc(ws, func(w datamodel.Write) bool { return w.Value == "9000" }) {
			return errors.New("no jumbo frames")
		}
		return nil
	}
	refused := r.refuse(mainC, whole(set("Device.IP.Interface.1.", "MaxMTUSize", "9000")), datamodel.ValueConflict)
	if !strings.Contains(refused.Error(), "no jumbo frames") {
		t.Fatal(refused)
	}
	b.veto = func([]datamodel.Write) error { panic("driver") }
	r.refuse(mainC, whole(set("Device.IP.Interface.1.", "MaxMTUSize", "1300")), datamodel.ValueConflict)
	// A veto that names its write blames that setting alone; without allow_partial=false the others are made.
	b.veto = func(ws []datamodel.Write) error {
		var errs []error
		for _, w := range ws {
			if w.Value == "9000" || w.Value == "9001" {
				errs = append(errs, datamodel.Fail(datamodel.InvalidValue, w.Path, "no jumbo frames"))
			}
		}
		return errors.Join(errs...)
	}
	all := whole(set("Device.IP.Interface.1.", "Enable", "false"), set("Device.IP.Interface.1.", "MaxMTUSize", "9000"), set("Device.IP.Interface.3.", "MaxMTUSize", "9001"))
	all.AllErrors = true
	res, err := r.Apply(context.Background(), acs, all)
	if err == nil || res.Changed || res.Outcomes[0].Err != nil || res.Outcomes[0].Objects[0].Params[0].Err != nil {
		t.Fatalf("%+v %v", res, err)
	}
	for _, o := range res.Outcomes[1:] {
		if got := o.Objects[0].Params[0].Err; datamodel.ReasonOf(got) != datamodel.InvalidValue || !strings.Contains(got.Error(), "MaxMTUSize") {
			t.Error(got)
		}
	}
	all.Atomic = false
	if res, err = r.Apply(context.Background(), mainC, all); err != nil || !res.Changed || res.Outcomes[1].Objects[0].Params[0].Err == nil {
		t.Fatalf("%+v %v", res, err)
	}
	if got := b.log(); got != "Device.IP.Interface.1.Enable=false" {
		t.Error(got)
	}
	b.veto = nil
	// A CWMP command parameter acts and is not stored.
	res = r.do(acs, whole(set("Device.Ethernet.Interface.1.Stats.", "Reset", "1")))
	if got := b.log(); got != "Device.Ethernet.Interface.1.Stats.Reset=true" || res.Changed {
		t.Fatal(got, res)
	}
	r.is(acs, "Device.Ethernet.Interface.1.Stats.Reset", "false")
}

func waitFor(t testing.TB, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatal("did not happen within 5 s")
}

func TestApplyFailureIsPutBack(t *testing.T) {
	b := &box{name: "net", applies: []string{"Device.IP.", "Device.DHCPv4."}}
	r := newRig(t, with(b))
	r.do(mainC, whole(add("Device.IP.Interface.1.IPv4Address.", "IPAddress", "192.0.2.1")))
	r.do(mainC, whole(set("Device.IP.Interface.1.", "Enable", "true"), add("Device.DHCPv4.Server.Pool.", "Interface", "Device.IP.Interface.1")))
	before := dump(r.store.Head())
	b.log()
	b.applyErr = func(ws []datamodel.Write) error {
		if slices.ContainsFunc(ws, func(w datamodel.Write) bool { return w.Value == "1234" }) {
			return errors.New("the driver says no")
		}
		return nil
	}
	_, err := r.Apply(context.Background(), mainC, whole(
		set("Device.IP.Interface.2.", "MaxMTUSize", "1234", "Enable", "true"),
		add("Device.IP.Interface.", "Enable", "true"),
		del("Device.IP.Interface.1.")))
	if datamodel.ReasonOf(err) != datamodel.Applying || !strings.Contains(err.Error(), "the driver says no") {
		t.Fatal(err)
	}
	if after := dump(r.store.Head()); after != before {
		t.Fatalf("not put back:\n%s\n%s", before, after)
	}
	entries, _ := r.Journal(0, 0)
	if last := entries[len(entries)-1].Meta; last.Writer != "sys:rollback" || last.Kind != "rollback" {
		t.Fatalf("%+v", last)
	}
	if got := b.log(); !strings.Contains(got, "+Device.IP.Interface.1. ") || !strings.Contains(got, "-Device.IP.Interface.3.") {
		t.Fatalf("the device was not told: %s", got)
	}
}

// dump shows values and rows, not revisions.
func dump(v *store.Version) string {
	var b strings.Builder
	v.Walk("", func(path string, l store.Leaf) bool {
		fmt.Fprintf(&b, "%s=%s\n", path, l.Value)
		return true
	})
	_, rows := v.Len()
	fmt.Fprintf(&b, "%d rows", rows)
	return b.String()
}

// Invariant 2: a provider that takes its time over a veto holds up nobody else, and only for its budget.
func TestSlowPrepareHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		b := &box{name: "net", applies: []string{"Device.Time."}}
		r := newRig(t, with(b))
		synctest.Wait()
		b.change(func() {
			b.veto = func([]datamodel.Write) error { b.mu.Unlock(); <-release; b.mu.Lock(); return nil }
		})
		begin := time.Now()
		refused := make(chan error)
		go func() {
			_, err := r.Apply(context.Background(), acs, whole(set("Device.Time.", "Enable", "true")))
			refused <- err
		}()
		synctest.Wait()
		r.do(mainC, whole(set("Device.DeviceInfo.", "ProvisioningCode", "x")))
		r.is(acs, "Device.DeviceInfo.ProvisioningCode", "x")
		if took := time.Since(begin); took != 0 {
			t.Fatalf("others waited %s", took)
		}
		if err := <-refused; datamodel.ReasonOf(err) != datamodel.ValueConflict || time.Since(begin) != prepareBudget {
			t.Fatal(err, time.Since(begin))
		}
		r.is(acs, "Device.Time.Enable", "false")
		close(release)
	})
}

func TestSlowApplyIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &box{name: "net", applies: []string{"Device.Time."}}
		r := newRig(t, with(b))
		release := make(chan struct{})
		b.applyErr = func([]datamodel.Write) error { <-release; return nil }
		begin := time.Now()
		res, err := r.Apply(context.Background(), mainC, whole(set("Device.Time.", "Enable", "true")))
		if err != nil || res.Applied || !res.Changed || time.Since(begin) != applyBudget {
			t.Fatal(res, err, time.Since(begin))
		}
		close(release)
		synctest.Wait()
		if got := b.log(); got != "Device.Time.Enable=true" {
			t.Fatal(got)
		}
	})
}

func TestRedriveAtStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	p := testProfile()
	schema := loadSchema(t, p)
	for round, want := range []string{"", "Device.Time.Enable=true"} {
		s, err := store.Open(path, store.Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		b := &box{name: "net", applies: []string{"Device.Time."}}
		e, err := New(Options{Schema: schema, Profile: p, Store: s, Providers: []datamodel.Provider{b}})
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 { // not started: committed, never applied
			res, err := e.Apply(t.Context(), mainC, whole(set("Device.Time.", "Enable", "true")))
			if err != nil || res.Applied {
				t.Fatal(res, err)
			}
		} else {
			if err := e.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			waitFor(t, func() bool { rev, _ := s.Cursor(appliedCursor); return rev == s.Head().Rev() })
		}
		if got := b.log(); got != want {
			t.Fatalf("round %d applied %q", round, got)
		}
		e.Close()
		s.Close()
	}
}

// What was committed before the start is in the journal and in the queue: the device hears of it once.
func TestRedriveIsOnce(t *testing.T) {
	s := store.OpenMemory(store.Options{})
	defer s.Close()
	p := testProfile()
	b := &box{name: "net", applies: []string{"Device.Time."}}
	e, err := New(Options{Schema: loadSchema(t, p), Profile: p, Store: s, Providers: []datamodel.Provider{b}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, err := e.Apply(t.Context(), mainC, whole(set("Device.Time.", "Enable", "true"))); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return e.Unapplied() == 0 })
	if _, err := e.Apply(t.Context(), mainC, whole(set("Device.Time.", "Enable", "false"))); err != nil { // in order: nothing is left before it
		t.Fatal(err)
	}
	if got := b.log(); got != "Device.Time.Enable=true Device.Time.Enable=false" {
		t.Fatal(got)
	}
}

// Whoever has the result of a command finds what it needed free again.
func TestResourceIsFreeWithTheResult(t *testing.T) {
	b := &box{name: "boot", commands: []string{"Device.Reboot()"}, runFn: func(context.Context, datamodel.Invocation) (map[string]string, error) { return nil, nil }}
	r := newRig(t, with(b))
	for i := range 20000 {
		op, err := r.Command(mainC, "Device.Reboot()", nil)
		if err == nil {
			_, err = op.Run(t.Context())
		}
		if err != nil {
			t.Fatal(i, err)
		}
	}
}

func TestSyncer(t *testing.T) {
	port := func(name string) datamodel.Row {
		return datamodel.Row{Table: "Device.Ethernet.Interface.", Key: "Name", Values: map[string]string{"Name": name, "Upstream": "true"}}
	}
	ip := datamodel.Row{Table: "Device.IP.Interface.", Key: "Name", Values: map[string]string{"Name": "eth0", "Enable": "true"},
		Sub: []datamodel.Row{{Table: "IPv4Address.", Key: "IPAddress", Values: map[string]string{"IPAddress": "192.0.2.7"}}}}
	b := &box{name: "linux", rows: []datamodel.Row{port("eth0"), port("eth1"), ip},
		syncs: []string{"Device.Ethernet.Interface.", "Device.IP.Interface."}, changed: make(chan struct{}, 1)}
	r := newRig(t, with(b))
	if got := ids(r.rows("Device.Ethernet.Interface.")); got != "1 2" { // row 1 is from the factory, found by its key
		t.Fatal(got)
	}
	r.is(acs, "Device.Ethernet.Interface.2.Alias", "cpe-2")
	r.is(acs, "Device.IP.Interface.3.IPv4Address.1.IPAddress", "192.0.2.7")
	if m := r.entry(r.store.Head().Rev()).Meta; m.Writer != "sys:linux" || m.Kind != "sync" {
		t.Fatalf("%+v", m)
	}
	r.do(mainC, whole(set("Device.IP.Interface.1.", "LowerLayers", "Device.Ethernet.Interface.2")))
	r.do(mainC, whole(add("Device.IP.Interface.3.IPv4Address.", "IPAddress", "198.51.100.1")))
	rev := r.store.Head().Rev()
	b.mu.Lock()
	ip.Sub = nil
	b.rows = []datamodel.Row{port("eth2"), ip}
	b.mu.Unlock()
	b.changed <- struct{}{}
	waitFor(t, func() bool { return r.store.Head().Rev() > rev })
	if got := ids(r.rows("Device.Ethernet.Interface.")); got != "1 3" { // eth0 is the factory's and stays
		t.Fatal(got)
	}
	r.is(mainC, "Device.IP.Interface.1.LowerLayers", "")
	if got := ids(r.rows("Device.IP.Interface.3.IPv4Address.")); got != "2" { // the manager's own address stays
		t.Fatal(got)
	}
	b.changed <- struct{}{}
	time.Sleep(resyncDelay + 50*time.Millisecond)
	if now := r.store.Head().Rev(); now != rev+1 {
		t.Fatalf("a hint without a change made a commit: %d", now)
	}
}

func TestSyncerIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &box{name: "late", syncs: []string{"Device.Ethernet.Interface."}, rowsErr: errors.New("not yet"), rows: []datamodel.Row{
			{Table: "Device.Ethernet.Interface.", Key: "Name", Values: map[string]string{"Name": "eth5"}}}, changed: make(chan struct{})}
		r := newRig(t, with(b))
		time.Sleep(20 * time.Second)
		b.change(func() { b.rowsErr = nil })
		close(b.changed) // against the contract
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if got := ids(r.rows("Device.Ethernet.Interface.")); got != "1 2" {
			t.Fatal(got)
		}
	})
}

func (r *rig) entry(rev uint64) *store.Entry {
	r.t.Helper()
	es, err := r.Journal(rev-1, 1)
	if err != nil || len(es) != 1 {
		r.t.Fatal(es, err)
	}
	return es[0]
}

func TestFactoryReset(t *testing.T) {
	b := &box{name: "linux", syncs: []string{"Device.Ethernet.Interface."}, rows: []datamodel.Row{
		{Table: "Device.Ethernet.Interface.", Key: "Name", Values: map[string]string{"Name": "eth9"}}}}
	r := newRig(t, with(b))
	before := dump(r.store.Head())
	n := int8(2)
	c := whole(set("Device.Time.", "Enable", "true"), add("Device.IP.Interface."), set("Device.DeviceInfo.", "ProvisioningCode", "x"),
		set("Device.Ethernet.Interface.2.", "Enable", "true"), Op{Kind: OpAttr, Path: "Device.Time.", Attr: &AttrChange{Notification: &n}})
	c.Records = []Record{{"cwmp/events", "1", []byte("e")}, {"usp/boot", "1", []byte("b")}}
	r.do(acs, c)
	r.do(mainC, whole(del("Device.IP.Interface.1.")))
	rev := r.store.Head().Rev()
	if err := r.FactoryReset(context.Background(), sys("reset"), "usp/boot"); err != nil {
		t.Fatal(err)
	}
	if after := dump(r.store.Head()); after != before {
		t.Fatalf("\n%s\n%s", before, after)
	}
	if now := r.store.Head().Rev(); now != rev+1 {
		t.Fatalf("%d commits", now-rev)
	}
	if _, ok := r.store.Head().Record("cwmp/events", "1"); ok {
		t.Fatal("a record survived")
	}
	if _, ok := r.store.Head().Record("usp/boot", "1"); !ok {
		t.Fatal("a kept record is gone")
	}
	r.store.Head().Attrs(func(path string, _ store.Attr) bool { t.Errorf("attribute of %s survived", path); return true })
}

func TestCommands(t *testing.T) {
	const ping = "Device.IP.Diagnostics.IPPing()"
	started, release := make(chan struct{}, 1), make(chan struct{})
	var got datamodel.Invocation
	b := &box{name: "diag", commands: []string{ping, "Device.Reboot()"}}
	b.runFn = func(ctx context.Context, inv datamodel.Invocation) (map[string]string, error) {
		got = inv
		switch inv.Args["Host"] {
		case "panic":
			panic("driver")
		case "fail":
			return nil, errors.New("no route")
		}
		started <- struct{}{}
		select {
		case <-release:
			return map[string]string{"Status": "Complete"}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	r := newRig(t, with(b))
	ctx := context.Background()
	args := func(kv ...string) map[string]string {
		m := map[string]string{"DataBlockSize": "64", "NumberOfRepetitions": "3", "ProtocolVersion": "Any", "Timeout": "1000",
			"NumberOfTries": "1", "MaxHopCount": "3"}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	if _, err := r.Command(mainC, ping, args()); datamodel.ReasonOf(err) != datamodel.InvalidArgs { // R-OPR.5
		t.Fatal(err)
	}
	if _, err := r.Command(mainC, ping, args("Host", "h", "Timeout", "soon")); datamodel.ReasonOf(err) != datamodel.InvalidArgs {
		t.Fatal(err)
	}
	if _, err := r.Command(mainC, "Device.IP.Diagnostics.TraceRoute()", args("Host", "h")); datamodel.ReasonOf(err) != datamodel.NotImplemented {
		t.Fatal(err)
	}
	if _, err := r.Command(mainC, "Device.IP.Interface.9.Stats.Reset()", nil); datamodel.ReasonOf(err) != datamodel.NoInstance {
		t.Fatal(err)
	}
	if _, err := r.Command(mainC, "Device.Nope()", nil); datamodel.ReasonOf(err) != datamodel.NotSupported {
		t.Fatal(err)
	}
	op, err := r.Command(mainC, ping, args("Host", "h", "Unknown", "x", "NumberOfRepetitions", "04")) // R-OPR.6
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Command(appC, ping, args("Host", "h")); datamodel.ReasonOf(err) != datamodel.Resources || !strings.Contains(err.Error(), mainC.Name) { // R-OPR.3
		t.Fatal(err)
	}
	done := make(chan map[string]string)
	go func() {
		out, _ := op.Run(ctx)
		done <- out
	}()
	<-started
	if _, ok := got.Args["Unknown"]; ok || got.Args["NumberOfRepetitions"] != "4" || got.Command != ping || got.Object.Path != "Device.IP.Diagnostics." {
		t.Fatalf("%+v", got)
	}
	release <- struct{}{}
	if out := <-done; out["Status"] != "Complete" {
		t.Fatal(out)
	}
	if _, err := op.Run(ctx); err == nil {
		t.Fatal("ran twice")
	}
	for host, want := range map[string]datamodel.Reason{"panic": datamodel.CommandFailed, "fail": datamodel.CommandFailed} {
		op, err := r.Command(mainC, ping, args("Host", host))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := op.Run(ctx); datamodel.ReasonOf(err) != want {
			t.Fatal(err)
		}
	}
	op, err = r.Command(mainC, ping, args("Host", "h"))
	if err != nil {
		t.Fatal(err)
	}
	cctx, cancel := context.WithCancel(ctx)
	go func() { <-started; cancel() }()
	if _, err := op.Run(cctx); datamodel.ReasonOf(err) != datamodel.CommandCanceled {
		t.Fatal(err)
	}
	op, err = r.Command(mainC, "Device.Reboot()", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Hold("boot", "cwmp"); err == nil {
		t.Fatal("resource has two holders")
	}
	op.Cancel()
	free, err := r.Hold("boot", "cwmp")
	if err != nil {
		t.Fatal(err)
	}
	free()
	free()
}

// One operation, two faces: the CWMP command parameter runs the USP command, in a session after its end.
func TestCommandParameter(t *testing.T) {
	ran := make(chan string, 4)
	b := &box{name: "agent", commands: []string{"Device.LocalAgent.Controller.{i}.SendOnBoardRequest()"}}
	b.runFn = func(_ context.Context, inv datamodel.Invocation) (map[string]string, error) {
		ran <- inv.Command
		return nil, nil
	}
	r := newRig(t, with(b))
	const row = "Device.USPAgent.Controller.1."
	if res := r.do(acs, whole(set(row, "SendOnBoardRequest", "true"))); res.Changed {
		t.Fatal("a command parameter was stored")
	}
	if got := <-ran; got != "Device.LocalAgent.Controller.1.SendOnBoardRequest()" {
		t.Fatal(got)
	}
	r.is(acs, row+"SendOnBoardRequest", "false")
	s := r.Shield(acs)
	if _, err := s.Apply(t.Context(), whole(set(row, "SendOnBoardRequest", "1"))); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-ran:
		t.Fatal("ran inside the session", got)
	case <-time.After(20 * time.Millisecond):
	}
	s.Close()
	s.Close()
	<-ran
	r.do(acs, whole(set(row, "SendOnBoardRequest", "false"))) // does nothing
	r.refuse(acs, whole(set("Device.IP.Interface.1.", "Reset", "true")), datamodel.NotImplemented)
	r.refuse(acs, whole(set(row, "SendOnBoardRequest", "true", "PeriodicNotifInterval", "0")), datamodel.InvalidValue)
	if len(ran) != 0 {
		t.Fatal("a refused change acted")
	}
}

func TestProviderClash(t *testing.T) {
	p := testProfile()
	s := store.OpenMemory(store.Options{})
	defer s.Close()
	a, b := &box{name: "a", serves: []string{"Device.Time."}}, &box{name: "b", serves: []string{"Device.Time."}}
	if _, err := New(Options{Schema: loadSchema(t, p), Profile: p, Store: s, Providers: []datamodel.Provider{a, b}}); err == nil || !strings.Contains(err.Error(), "a and b") {
		t.Fatal(err)
	}
	r := newRig(t)
	if err := r.AddProvider(a); err == nil {
		t.Fatal("a provider was added after Start")
	}
}

func TestBadFactory(t *testing.T) {
	p := testProfile()
	schema := loadSchema(t, p)
	p.Factory["Device.Time.Enable"] = "perhaps"
	p.Factory["Device.Nope"] = "1"
	s := store.OpenMemory(store.Options{})
	defer s.Close()
	e, err := New(Options{Schema: schema, Profile: p, Store: s})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	err = e.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "Device.Time.Enable") || !strings.Contains(err.Error(), "Device.Nope") {
		t.Fatal(err)
	}
	if s.Head().Rev() != 0 {
		t.Fatal("half a factory was committed")
	}
}

func TestWatchLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const table = "Device.DHCPv4.Server.Pool.1.Client."
		b := &box{name: "links", serves: []string{"Device.Ethernet.Interface.{i}.Status", "Device.DeviceInfo.UpTime"},
			lists: []string{"Device.DHCPv4.Server.Pool.{i}.Client."}, live: map[string][]uint32{table: {1}},
			values: map[string]string{"Device.Ethernet.Interface.1.Status": "Down", "Device.DeviceInfo.UpTime": "1"}}
		r := newRig(t, with(b))
		r.do(mainC, whole(add("Device.DHCPv4.Server.Pool.")))
		w, err := r.Watch("")
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		for _, ps := range [][]string{{"Device.Ethernet.", "Device.DeviceInfo.", `Device.DHCPv4.Server.Pool.*.`}} {
			if err := r.WatchLive("usp", ps); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		b.change(func() {
			b.values["Device.Ethernet.Interface.1.Status"] = "Up"
			b.values["Device.DeviceInfo.UpTime"] = "2" // changes by nature: not told of for an object path
			b.live[table] = nil
		})
		time.Sleep(livePoll + time.Second)
		synctest.Wait()
		got := map[string]string{}
		for range 2 {
			ev, err := w.Next(t.Context())
			if err != nil || ev.Kind != EventLive {
				t.Fatal(ev, err)
			}
			got[ev.Path] = ev.Value
		}
		if got["Device.Ethernet.Interface.1.Status"] != "Up" || got["Device.DHCPv4.Server.Pool.1.ClientNumberOfEntries"] != "0" {
			t.Fatal(got)
		}
		if err := r.WatchLive("cwmp", []string{"Device.DeviceInfo.UpTime"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		b.change(func() { b.values["Device.DeviceInfo.UpTime"] = "3" })
		time.Sleep(livePoll + time.Second)
		if ev, err := w.Next(t.Context()); err != nil || ev.Path != "Device.DeviceInfo.UpTime" || ev.Value != "3" {
			t.Fatal(ev, err)
		}
		for _, c := range []string{"usp", "cwmp"} {
			if err := r.WatchLive(c, nil); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		b.change(func() { b.reads = 0 })
		time.Sleep(time.Minute)
		b.change(func() {
			if b.reads != 0 {
				t.Error("values are read though nobody watches")
			}
		})
		if err := r.WatchLive("x", make([]string, maxLivePaths+1)); datamodel.ReasonOf(err) != datamodel.Resources {
			t.Fatal(err)
		}
	})
}

func TestSetOfLiveParameter(t *testing.T) {
	const path = "Device.Ethernet.Interface.1.Enable"
	b := &box{name: "net", serves: []string{path[:len("Device.Ethernet.Interface.")] + "{i}.Enable"}, applies: []string{"Device.Ethernet."},
		values: map[string]string{path: "true"}}
	r := newRig(t, with(b))
	waitFor(t, func() bool { return b.log() != "" })
	set := func(v string) Result { return r.do(mainC, whole(set("Device.Ethernet.Interface.1.", "Enable", v))) }
	if res := set("false"); !res.Changed || b.log() != path+"=false" { // equal to the default, but not to the device
		t.Fatal("superfluous?", res)
	}
	b.values[path] = "false"
	if res := set("false"); res.Changed || b.log() != "" {
		t.Fatal(res)
	}
	b.values[path] = "true" // the device drifted: the same value is applied again, without a commit
	if res := set("false"); res.Changed || b.log() != path+"=false" {
		t.Fatal(res)
	}
}

func TestFactoryResetIsApplied(t *testing.T) {
	b := &box{name: "net", applies: []string{"Device.Time.", "Device.IP."}}
	r := newRig(t, with(b))
	waitFor(t, func() bool { return b.log() != "" })
	r.do(mainC, whole(set("Device.Time.", "Enable", "true"), add("Device.IP.Interface.")))
	b.log()
	if err := r.FactoryReset(context.Background(), mainC); err != nil {
		t.Fatal(err)
	}
	var got string
	waitFor(t, func() bool {
		got += b.log()
		return strings.Contains(got, "Device.Time.Enable=false") && strings.Contains(got, "-Device.IP.Interface.3.")
	})
}

// TestApplyOrder: the device sees the changes of concurrent writers in the order of their commits, and what somebody
// else wrote in the meantime survives when a change is put back.
func TestApplyOrder(t *testing.T) {
	b := &box{name: "net", applies: []string{"Device.DeviceInfo.ProvisioningCode", "Device.Time.LocalTimeZone"}}
	r := newRig(t, with(b), atPhase(t, PhaseDualCWMP, Rule{ID: "last", Path: "Device.**", OnConflict: OnLast, NoDamp: true}))
	waitFor(t, func() bool { return b.log() != "" })
	var wg sync.WaitGroup
	for i, w := range []Writer{acs, mainC, appC, user} {
		wg.Go(func() {
			for k := range 40 {
				if res, err := r.Apply(context.Background(), w, whole(set("Device.DeviceInfo.", "ProvisioningCode", fmt.Sprintf("%d-%d", i, k)))); err != nil || !res.Applied {
					t.Error(res, err)
				}
			}
		})
	}
	wg.Wait()
	var journal []string
	entries, err := r.Journal(1, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, en := range entries {
		for _, d := range en.Deltas {
			if d.Op == store.DeltaSet {
				journal = append(journal, d.Path+"="+d.New)
			}
		}
	}
	if got := b.log(); got != strings.Join(journal, " ") || len(journal) != 160 {
		t.Fatalf("%d commits\njournal %v\ndevice  %s", len(journal), journal, got)
	}
	hold := make(chan struct{})
	b.change(func() {
		b.applyErr = func(ws []datamodel.Write) error {
			if ws[0].Value == "bad" {
				<-hold
				return errors.New("no")
			}
			return nil
		}
	})
	failed := make(chan error)
	go func() {
		_, err := r.Apply(context.Background(), acs, whole(set("Device.DeviceInfo.", "ProvisioningCode", "bad"), set("Device.Time.", "LocalTimeZone", "bad")))
		failed <- err
	}()
	waitFor(t, func() bool { l, _ := r.store.Head().Leaf("Device.Time.LocalTimeZone"); return l.Value == "bad" })
	later := make(chan error)
	go func() {
		_, err := r.Apply(context.Background(), mainC, whole(set("Device.Time.", "LocalTimeZone", "UTC")))
		later <- err
	}()
	waitFor(t, func() bool { l, _ := r.store.Head().Leaf("Device.Time.LocalTimeZone"); return l.Value == "UTC" })
	close(hold)
	if err := <-failed; datamodel.ReasonOf(err) != datamodel.Applying {
		t.Fatal(err)
	}
	if err := <-later; err != nil {
		t.Fatal(err)
	}
	r.is(acs, "Device.Time.LocalTimeZone", "UTC")
	if got := mustGet(t, r, "Device.DeviceInfo.ProvisioningCode"); got == "bad" {
		t.Fatal("not put back")
	}
}
