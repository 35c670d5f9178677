package firmware

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"twinspan/datamodel"
	"twinspan/datamodel/providertest"
	"twinspan/datamodel/tr181"
)

var auto = map[string]string{"URL": "http://h/x", "AutoActivate": "true"}

func (r *rig) deploy(row, version string, starts bool) {
	r.t.Helper()
	r.m.o.Fetch = give(Image(version, []byte(version), starts))
	if err := r.run(r.t.Context(), row, "Download()", auto); err != nil {
		r.t.Fatal(err)
	}
	r.restarted()
}

func TestNewImageProvesItself(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Confirm = time.Hour })
	if r.m.Updated() || r.m.Version() != "1.0.0" {
		t.Errorf("at first: %v %s", r.m.Updated(), r.m.Version())
	}
	r.deploy("2", "2.0.0", true)
	if !r.m.Pending() {
		t.Error("the restart is not pending")
	}
	r.boot()
	r.runs("2")
	r.wants("2", active, "2.0.0")
	r.wants("1", available, "1.0.0")
	if !r.m.Updated() || r.m.Version() != "2.0.0" {
		t.Errorf("new image: %v %s", r.m.Updated(), r.m.Version())
	}
	r.boot() // nobody was told yet
	if !r.m.Updated() {
		t.Error("the update is forgotten though no manager heard of it")
	}
	r.proven()
	r.boot()
	r.runs("2")
	if r.m.Updated() {
		t.Error("an update is told twice")
	}
}

// What the first manager asks for counts him as reached, however fast it comes.
func TestFirstContactAsksForMore(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Confirm = time.Hour })
	r.deploy("2", "2.0.0", true)
	r.start()
	r.m.waiting.Store(true) // as after Start, but nobody listens yet
	r.m.Contact()
	r.m.o.Fetch = give(Image("2.1.0", nil, true))
	if err := r.run(t.Context(), "1", "Download()", map[string]string{"URL": "http://h/x", "AutoActivate": "false"}); err != nil {
		t.Error(err)
	}
	r.wants("1", available, "2.1.0")
}

func TestReachedWithoutARecord(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Confirm, o.Reached = time.Hour, func() bool { return true } })
	r.deploy("2", "2.0.0", true)
	r.boot()
	r.m.wg.Wait() // the look every five seconds
	if r.m.s.Trial != nil {
		t.Error("still on trial")
	}
}

func TestFallbackWithoutManager(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Confirm = 20 * time.Millisecond })
	r.deploy("2", "2.0.0", true)
	r.boot()
	if got := r.restarted(); !strings.HasPrefix(got, "!firmware: no manager was reached") {
		t.Errorf("restart: %s", got)
	}
	r.boot()
	r.runs("1")
	r.wants("2", activationFailed, "2.0.0")
	if got := r.read("2")["BootFailureLog"]; got != "no manager was reached within 20ms" {
		t.Errorf("BootFailureLog %q", got)
	}
	if got := r.read("")["BootFirmwareImage"]; got != table+"2" { // TR-181: not rewritten by a fallback
		t.Errorf("BootFirmwareImage %s", got)
	}
	if r.m.Updated() {
		t.Error("a fallback counts as an update")
	}
	r.boot() // and it stays so
	r.runs("1")
	if err := r.run(t.Context(), "2", "Activate()", nil); err == nil || !strings.Contains(err.Error(), "ActivationFailed") {
		t.Errorf("Activate of a failed image: %v", err)
	}
	r.deploy("2", "3.0.0", true)
	if got := r.read("2")["BootFailureLog"]; got != "" {
		t.Errorf("BootFailureLog of the next image %q", got)
	}
	r.m.o.Confirm = time.Hour
	r.o.Confirm = time.Hour
	r.boot()
	r.runs("2")
	r.proven()
}

func TestImageThatDoesNotStart(t *testing.T) {
	r := newRig(t, nil)
	r.deploy("2", "2.0.0", false)
	r.boot()
	r.runs("1")
	r.wants("2", activationFailed, "2.0.0")
	if got := r.read("2")["BootFailureLog"]; !strings.Contains(got, "boot loader started bank1") {
		t.Errorf("BootFailureLog %q", got)
	}
}

func TestImageThatRestartsForEver(t *testing.T) {
	r := newRig(t, nil)
	r.deploy("2", "2.0.0", true)
	for range maxStarts {
		r.boot()
		r.runs("2")
	}
	r.boot()
	if got := r.restarted(); !strings.Contains(got, "started 3 times") {
		t.Errorf("restart: %s", got)
	}
	r.boot()
	r.runs("1")
	r.wants("2", activationFailed, "2.0.0")
}

// setBoot writes BootFirmwareImage as the bridge does.
func (r *rig) setBoot(row string) error {
	w := []datamodel.Write{{Path: info + "BootFirmwareImage", Value: row}}
	if err := r.m.Prepare(r.t.Context(), w); err != nil {
		return err
	}
	return r.m.Apply(r.t.Context(), w)
}

func TestBootFirmwareImage(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Fetch = give(Image("2.0.0", nil, true)) })
	for _, bad := range []string{"", table + "2", table + "7", "Device.DeviceInfo"} {
		if err := r.setBoot(bad); reason(err) != datamodel.InvalidValue {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := r.run(t.Context(), "2", "Download()", map[string]string{"URL": "http://h/x", "AutoActivate": "false"}); err != nil {
		t.Fatal(err)
	}
	hide := []datamodel.Write{{Path: table + "2.Available", Value: "false"}}
	if err := r.m.Prepare(t.Context(), hide); err != nil {
		t.Errorf("an image that nobody needs: %v", err)
	}
	r.values[table+"2.Available"] = "false"
	if err := r.setBoot(table + "2"); err == nil {
		t.Error("an image that is not Available was chosen")
	}
	r.values[table+"2.Available"] = "true"
	for range 2 { // Apply may be repeated
		if err := r.setBoot(table + "2"); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.m.Prepare(t.Context(), hide); err == nil {
		t.Error("the image of the next start was made unavailable")
	}
	if len(r.restarts) != 0 {
		t.Error("the device restarts by itself")
	}
	// Changed his mind, and back.
	for _, row := range []string{"1", "2"} {
		if err := r.setBoot(table + row); err != nil {
			t.Fatal(err)
		}
	}
	r.boot()
	r.runs("2")
	if err := r.setBoot(table + "1"); err == nil {
		t.Error("the choice was changed while the image is on trial")
	}
	r.proven()
}

// What the store has is applied anew after a restart and put back after a failure of somebody else: only the second counts.
func TestBootFirmwareImageAppliedAnew(t *testing.T) {
	r := newRig(t, nil)
	write := func(value string) {
		t.Helper()
		if err := r.m.Apply(t.Context(), []datamodel.Write{{Path: info + "BootFirmwareImage", Value: value}}); err != nil {
			t.Fatal(err)
		}
	}
	chosen := func(row string) {
		t.Helper()
		if got := r.read("")["BootFirmwareImage"]; got != table+row {
			t.Errorf("BootFirmwareImage is %s, want row %s", got, row)
		}
	}
	r.deploy("2", "2.0.0", true)
	r.boot()
	write(table + "1") // what somebody had set before
	chosen("2")
	r.proven()
	for _, old := range []string{"", table + "2"} {
		if err := r.setBoot(table + "1"); err != nil {
			t.Fatal(err)
		}
		chosen("1")
		write(old)
		chosen("2")
	}
	r.boot()
	r.runs("2")
}

// The ACS's Download ends in the same banks.
func TestInstall(t *testing.T) {
	r := newRig(t, nil)
	file := func(image []byte) string {
		name := filepath.Join(r.dir, "acs.bin")
		if err := os.WriteFile(name, image, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	if _, err := r.m.Install(t.Context(), file([]byte("junk\n")), "K"); err == nil || !strings.Contains(err.Error(), ErrImage.Error()) {
		t.Errorf("junk: %v", err)
	}
	os.Remove(filepath.Join(r.dir, "acs.bin"))
	r.wants("2", validationFailed, "")
	image := Image("2.0.0", []byte("x"), true)
	restart, err := r.m.Install(t.Context(), file(image), "K")
	if err != nil || !restart {
		t.Fatalf("%v %v", restart, err)
	}
	if err := r.m.Installed("K"); err == nil {
		t.Error("it runs before the restart")
	}
	r.boot()
	if err := r.m.Installed("K"); err != nil {
		t.Errorf("it runs: %v", err)
	}
	if got := r.m.Affected(); got != table+"2" {
		t.Errorf("Affected %q", got)
	}
	if r.m.Installed("other") == nil {
		t.Error("an unknown Download is known")
	}
	r.proven()
	// The power went before the CPE wrote down that it was installed: the same Download begins anew.
	if restart, err := r.m.Install(t.Context(), file(image), "K"); err != nil || restart {
		t.Errorf("again: %v %v", restart, err)
	}
	r.wants("1", available, "1.0.0")
	os.Remove(filepath.Join(r.dir, "acs.bin"))
	// One that does not start is a failure afterwards.
	if _, err := r.m.Install(t.Context(), file(Image("3.0.0", nil, false)), "L"); err != nil {
		t.Fatal(err)
	}
	r.boot()
	r.runs("2")
	if err := r.m.Installed("L"); err == nil || !strings.Contains(err.Error(), "boot loader started bank2") {
		t.Errorf("an image that does not start: %v", err)
	}
	r.tidy()
}

// cut is the end of the power.
type cut struct{ at string }

// TestPowerCutAtEveryStep ends the power at every step of a whole update: by a Controller with an image that proves itself, with one that
// does not, and by the ACS. It wants a device that runs one of both images, knows what it does, and takes the next update.
func TestPowerCutAtEveryStep(t *testing.T) {
	for _, kind := range []string{"good", "bad", "acs"} {
		steps := 0
		for done := false; !done; steps++ {
			r := newRig(t, nil)
			at := r.update(kind, steps)
			done = at == ""
			r.settle(at)
			if kind == "acs" && r.m.Installed("K") == nil != (r.m.Version() == "2.0.0") {
				t.Errorf("%s runs, and Installed says %v", r.m.Version(), r.m.Installed("K"))
			}
			r.deploy(r.other(), "3.0.0", true)
			r.boot()
			if r.m.Version() != "3.0.0" {
				t.Errorf("cut %q: the next update ended in %s", at, r.m.Version())
			}
			r.proven()
			r.tidy()
			r.m.Close()
			if t.Failed() {
				t.Fatalf("after a cut at %q (%s, step %d)", at, kind, steps)
			}
		}
		if steps < 10 {
			t.Errorf("only %d steps were cut", steps)
		}
		t.Logf("%s: %d steps", kind, steps)
	}
}

// other is the row that does not run.
func (r *rig) other() string {
	if r.m.lay.Active == "bank1" {
		return "2"
	}
	return "1"
}

// update runs a whole update and ends the power at a step; it returns the name of that step, "" when there was none left.
func (r *rig) update(kind string, step int) (at string) {
	n := 0
	r.step = func(name string) {
		if n == step {
			panic(cut{name})
		}
		n++
	}
	defer func() {
		r.step = nil
		if c, ok := recover().(cut); ok {
			at = c.at
			r.m = nil // it is gone
		}
	}()
	r.start()
	r.m.o.Fetch = give(Image("2.0.0", []byte("new"), true))
	if kind == "acs" {
		file := filepath.Join(r.t.TempDir(), "image")
		if err := os.WriteFile(file, Image("2.0.0", []byte("new"), true), 0o600); err != nil {
			r.t.Fatal(err)
		}
		if _, err := r.m.Install(r.t.Context(), file, "K"); err != nil {
			r.t.Fatal(err)
		}
	} else if err := r.run(r.t.Context(), "2", "Download()", auto); err != nil {
		r.t.Fatal(err)
	}
	r.start()
	if kind != "bad" {
		r.m.confirm()
		return ""
	}
	r.m.goBack("test")
	r.start()
	return ""
}

// settle starts the device until it stays as it is.
func (r *rig) settle(at string) {
	r.t.Helper()
	for len(r.restarts) > 0 {
		<-r.restarts
	}
	for range 5 {
		r.boot()
		for _, row := range []string{"1", "2"} {
			if s := r.read(row)["Status"]; s == downloading || s == validating || s == "" {
				r.t.Errorf("cut %q: Status %q after a start", at, s)
			}
		}
		if v := r.m.Version(); v != "1.0.0" && v != "2.0.0" {
			r.t.Errorf("cut %q: version %q runs", at, v)
		}
		if r.m.revert != "" {
			r.restarted()
			continue
		}
		if l, _ := r.m.o.Banks.Layout(r.t.Context()); l.Next != l.Active && r.m.s.Trial == nil {
			r.t.Errorf("cut %q: the boot loader would try %s without a trial", at, l.Next)
		}
		r.proven()
		return
	}
	r.t.Errorf("cut %q: the device does not settle", at)
}

func TestSuite(t *testing.T) {
	schema, err := tr181.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, nil)
	providertest.Run(t, providertest.Case{Provider: r.m, Schema: schema, MinValues: 7,
		Writes: []datamodel.Write{{Path: info + "BootFirmwareImage", Value: table + "1"}}})
}

func TestDamagedState(t *testing.T) {
	r := newRig(t, nil)
	for _, text := range []string{"", "{", `{"banks":[]}`, "null"} {
		if err := os.WriteFile(filepath.Join(r.dir, stateFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		o := r.m.o
		m, err := New(t.Context(), o)
		if text != "null" && err == nil {
			t.Errorf("%q was taken", text)
		}
		if m != nil {
			m.Close()
		}
	}
}

// TestImageBeforeThisOne: a device that lost its managers starts the image that ran before, once; it stays if it reaches one.
func TestImageBeforeThisOne(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Confirm = time.Hour })
	if r.m.Untried() || r.m.Try(t.Context()) == nil {
		t.Error("there was no image before")
	}
	r.deploy("2", "2.0.0", true)
	if !r.m.Untried() {
		t.Error("a trial is under way: a rescue waits for its end")
	}
	r.boot()
	r.m.Contact()
	r.proven()
	r.boot()
	if !r.m.Untried() {
		t.Fatal("the image before is not known after a restart")
	}
	if err := r.m.Try(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := r.restarted(); !strings.HasPrefix(got, "!firmware: back to bank1") {
		t.Errorf("restart: %s", got)
	}
	if err := r.m.Try(t.Context()); err != nil { // told twice
		t.Error(err)
	}
	r.o.Confirm = 20 * time.Millisecond
	r.boot()
	r.runs("1")
	r.restarted() // it reaches nobody
	r.boot()
	r.runs("2")
	r.wants("1", activationFailed, "1.0.0")
	if r.m.Untried() || r.m.Try(t.Context()) == nil {
		t.Error("an image that reached nobody is tried again")
	}

	r.o.Confirm = time.Hour
	r.deploy("1", "3.0.0", true)
	r.boot()
	r.m.Contact()
	r.proven()
	if !r.m.Untried() {
		t.Fatal("2.0.0 ran before 3.0.0")
	}
	if err := r.m.Try(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.restarted()
	r.boot()
	r.m.Contact()
	r.proven()
	r.runs("2")
	r.values[table+"1.Available"] = "false"
	if r.m.Untried() {
		t.Error("an image that is set to be not Available is tried")
	}
	r.values[table+"1.Available"] = "true"
	if !r.m.Untried() {
		t.Error("3.0.0 ran before")
	}
}
