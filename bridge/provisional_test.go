package bridge

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"twinspan/datamodel"
)

// confirmRule makes what is written below Device.Time. and the main table of pools provisional.
func confirmRule(t *testing.T, within time.Duration) func(*Options) {
	return func(o *Options) {
		orders, err := NewOrders(PhaseDualCWMP, 0, func(p Phase) (*ClassOrder, error) {
			return NewOrder(p, OrderOptions{ConfirmWithin: within}, Rule{ID: "time", Path: "Device.Time.**", Confirm: true},
				Rule{ID: "pools", Path: "Device.DHCPv4.Server.Pool.**", Confirm: true})
		})
		if err != nil {
			t.Fatal(err)
		}
		o.Arbiter = orders
	}
}

func fresh(w Writer) Writer {
	w.ConnectedAt = time.Now()
	return w
}

// TestRuleConfirm: a rule makes a change provisional that its writer knows nothing of; what it writes there until it
// confirms is one window; others are kept out and lose nothing when it is put back.
func TestRuleConfirm(t *testing.T) {
	var mu sync.Mutex
	var told []string
	r := newRig(t, confirmRule(t, time.Hour))
	r.windows.tell = func(w Window, what string) { mu.Lock(); told = append(told, w.Writer+" "+what); mu.Unlock() }
	ctx := context.Background()

	r.do(mainC, whole(set("Device.DeviceInfo.", "ProvisioningCode", "free"))) // no rule
	if len(r.Windows()) != 0 {
		t.Fatal(r.Windows())
	}
	r.do(mainC, whole(set("Device.Time.", "Enable", "true"), set("Device.DeviceInfo.", "ProvisioningCode", "with it")))
	r.do(mainC, whole(set("Device.Time.", "LocalTimeZone", "UTC1"), add("Device.DHCPv4.Server.Pool.", "LeaseTime", "60")))
	r.do(mainC, whole(set("Device.Time.", "LocalTimeZone", "UTC2")))
	ws := r.Windows()
	if len(ws) != 1 || len(ws[0].Paths) < 4 {
		t.Fatal("not one window for all:", ws)
	}
	r.refuse(acs, whole(set("Device.Time.", "LocalTimeZone", "UTC9")), datamodel.Confirming)
	r.do(acs, whole(set("Device.IP.Interface.1.", "Enable", "true")))
	if err := r.Confirm(ctx, mainC, ws[0].ID, 0); datamodel.ReasonOf(err) != datamodel.Refused {
		t.Fatal("confirmed over an old connection:", err)
	}
	if err := r.CancelConfirm(ctx, mainC, ""); err != nil { // "": the window that the policy asked for
		t.Fatal(err)
	}
	r.is(mainC, "Device.Time.Enable", "false")
	r.is(mainC, "Device.Time.LocalTimeZone", "")
	r.is(mainC, "Device.DeviceInfo.ProvisioningCode", "free")
	r.is(mainC, "Device.IP.Interface.1.Enable", "true")
	if n := r.Store().Head().Instances("Device.DHCPv4.Server.Pool."); len(n) != 0 {
		t.Fatal("a row is left:", n)
	}
	// Confirmed: it stays, and so does the deletion of what the rule covers.
	r.do(acs, whole(add("Device.DHCPv4.Server.Pool.", "LeaseTime", "60"), set("Device.Time.", "Enable", "true")))
	if err := r.Confirm(ctx, fresh(acs), "", 0); err != nil {
		t.Fatal(err)
	}
	r.is(acs, "Device.Time.Enable", "true")
	r.do(acs, whole(del("Device.DHCPv4.Server.Pool.2.")))
	if ws := r.Windows(); len(ws) != 1 {
		t.Fatal(ws)
	}
	if err := r.CancelConfirm(ctx, acs, ""); err != nil {
		t.Fatal(err)
	}
	r.is(acs, "Device.DHCPv4.Server.Pool.2.LeaseTime", "60")
	mu.Lock()
	defer mu.Unlock()
	want := []string{"usp:self::main opened", "usp:self::main opened", "usp:self::main opened", "usp:self::main usp:self::main",
		"cwmp opened", "cwmp confirmed", "cwmp opened", "cwmp cwmp"}
	if len(told) != len(want) {
		t.Fatal(told)
	}
	for i := range want {
		if told[i] != want[i] {
			t.Errorf("told %q, want %q", told[i], want[i])
		}
	}
}

// TestRuleConfirmDeadline: nobody confirms.
func TestRuleConfirmDeadline(t *testing.T) {
	r := newRig(t, confirmRule(t, MinConfirm))
	r.do(acs, whole(set("Device.Time.", "Enable", "true")))
	r.do(acs, whole(set("Device.Time.", "LocalTimeZone", "UTC1")))
	for end := time.Now().Add(20 * time.Second); len(r.Windows()) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("still open:", r.Windows())
		}
	}
	r.is(acs, "Device.Time.Enable", "false")
	r.is(acs, "Device.Time.LocalTimeZone", "")
}

// TestRuleConfirmRestart: a restart puts all of a window back that went on over several changes.
func TestRuleConfirmRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	r, stop := killEngine(t, path)
	o := Options{}
	confirmRule(t, time.Hour)(&o)
	r.SetArbiter(o.Arbiter)
	r.do(acs, whole(set("Device.Time.", "Enable", "true")))
	r.do(acs, whole(set("Device.Time.", "Enable", "false", "LocalTimeZone", "UTC1")))
	r.do(acs, whole(set("Device.Time.", "Enable", "true")))
	stop()
	r, stop = killEngine(t, path)
	defer stop()
	r.is(acs, "Device.Time.Enable", "false")
	r.is(acs, "Device.Time.LocalTimeZone", "")
	if len(r.Windows()) != 0 {
		t.Fatal("the window is still open")
	}
}

// TestOwnershipLost: who loses leaves by a commit is told of, once, with who has them now; a refused change takes nothing.
func TestOwnershipLost(t *testing.T) {
	var lost []OwnershipLoss
	r := newRig(t)
	r.OnOwnershipLost(func(l []OwnershipLoss) { lost = append(lost, l...) })
	r.do(mainC, whole(set("Device.Time.", "Enable", "true", "LocalTimeZone", "UTC1")))
	r.do(mainC, whole(set("Device.Time.", "Enable", "false")))
	if len(lost) != 0 {
		t.Fatal(lost)
	}
	r.refuse(acs, whole(set("Device.Time.", "Enable", "true"), set("Device.DeviceInfo.", "SoftwareVersion", "2")), datamodel.NotWritable)
	if len(lost) != 0 {
		t.Fatal("told of what was not committed:", lost)
	}
	res := r.do(acs, whole(set("Device.Time.", "Enable", "true", "LocalTimeZone", "UTC2")))
	if len(lost) != 2 || lost[0] != (OwnershipLoss{"Device.Time.Enable", "usp:self::main", "cwmp", "default", res.Revision}) {
		t.Fatal(lost)
	}
}

// TestResourceQueue: with queue = 2 two asynchronous commands wait for the one that runs, in order, and a third is
// refused; who gives up leaves the queue; a synchronous command never waits.
func TestResourceQueue(t *testing.T) {
	running, release := make(chan string, 8), make(chan struct{})
	b := &box{name: "fw", commands: []string{"Device.DeviceInfo.FirmwareImage.{i}.Download()", "Device.Reboot()"}}
	b.runFn = func(ctx context.Context, inv datamodel.Invocation) (map[string]string, error) {
		running <- inv.By.Name
		select {
		case <-release:
		case <-ctx.Done():
		}
		return nil, ctx.Err()
	}
	r := newRig(t, with(b), func(o *Options) {
		o.Profile.Factory["Device.DeviceInfo.FirmwareImage.1.Alias"] = "a"
		order, err := NewClassOrder(PhaseDualCWMP, Rule{ID: "fw", Resource: "fw", Queue: 2}, Rule{ID: "boot", Resource: "boot", Queue: 2})
		if err != nil {
			t.Fatal(err)
		}
		o.Arbiter = order
	})
	ctx, giveUp := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	start := func(w Writer, ctx context.Context) {
		t.Helper()
		op, err := r.Command(w, "Device.DeviceInfo.FirmwareImage.1.Download()", map[string]string{"URL": "http://f.twinspan.example/", "AutoActivate": "false"})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { _, _ = op.Run(ctx) })
	}
	refused := func(want datamodel.Reason) {
		t.Helper()
		_, err := r.Command(user, "Device.DeviceInfo.FirmwareImage.1.Download()", map[string]string{"URL": "http://f.twinspan.example/", "AutoActivate": "false"})
		if datamodel.ReasonOf(err) != want {
			t.Fatal(err)
		}
	}
	start(mainC, context.Background())
	if got := <-running; got != mainC.Name {
		t.Fatal(got)
	}
	start(appC, ctx)
	start(user, context.Background())
	refused(datamodel.Resources)
	giveUp()
	for end := time.Now().Add(20 * time.Second); len(r.waitingFor("fw")) != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("who gave up still waits")
		}
	}
	start(mainC, context.Background())
	refused(datamodel.Resources)
	for _, want := range []string{user.Name, mainC.Name} {
		release <- struct{}{}
		if got := <-running; got != want {
			t.Fatalf("%s runs, want %s", got, want)
		}
	}
	release <- struct{}{}
	wg.Wait()
	free, err := r.Hold("fw", "x")
	if err != nil {
		t.Fatal(err)
	}
	free()
	free, _ = r.Hold("boot", "x")
	if _, err := r.Command(mainC, "Device.Reboot()", nil); datamodel.ReasonOf(err) != datamodel.Resources {
		t.Fatal("a synchronous command waits:", err)
	}
	free()
}

func (e *Engine) waitingFor(resource string) []*place {
	e.holds.mu.Lock()
	defer e.holds.mu.Unlock()
	return e.holds.queues[resource]
}
