package firmware

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"twinspan/datamodel"
	"twinspan/datamodel/webfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a device that can be started again and again on the same files.
type rig struct {
	t        testing.TB
	dir      string
	o        Options
	values   map[string]string // stored parameters
	m        *Manager
	restarts chan string // reasons, "!" before those of fallbacks
	step     func(string)
}

func newRig(t testing.TB, change func(*Options)) *rig {
	r := &rig{t: t, dir: t.TempDir(), restarts: make(chan string, 16), values: map[string]string{
		table + "1.Name": "bank1", table + "1.Available": "true", table + "2.Name": "bank2", table + "2.Available": "true"}}
	r.o = Options{Dir: r.dir, MaxSize: 1 << 20, Fetch: webfile.New(nil, nil).Fetch, Restart: func(_ context.Context, reason string, fallback bool) {
		if fallback {
			reason = "!" + reason
		}
		r.restarts <- reason
	}}
	if change != nil {
		change(&r.o)
	}
	r.start()
	t.Cleanup(func() { r.m.Close() })
	return r
}

// start starts the device.
func (r *rig) start() {
	r.t.Helper()
	if r.m != nil {
		r.m.Close()
	}
	banks, err := OpenSimulated(filepath.Join(r.dir, "banks"), "1.0.0")
	if err != nil {
		r.t.Fatal(err)
	}
	o := r.o
	o.Banks, o.step = banks, r.step
	if r.m, err = New(r.t.Context(), o); err != nil {
		r.t.Fatal(err)
	}
	r.m.revertWait, r.m.reachEvery = 10*time.Millisecond, 10*time.Millisecond
	r.m.Attach(r.stored)
}

func (r *rig) stored(path string) string { return r.values[path] }

// boot starts the device and lets it prove itself.
func (r *rig) boot() {
	r.t.Helper()
	r.start()
	r.m.Start()
}

// proven waits until a manager that was heard has ended the trial.
func (r *rig) proven() {
	r.t.Helper()
	r.m.Contact()
	r.m.wg.Wait()
	if r.m.s.Trial != nil {
		r.t.Fatalf("still on trial: %+v", r.m.s.Trial)
	}
}

func (r *rig) restarted() string {
	r.t.Helper()
	select {
	case s := <-r.restarts:
		return s
	case <-time.After(30 * time.Second):
		r.t.Fatal("no restart was asked for")
		return ""
	}
}

func (r *rig) run(ctx context.Context, row, command string, args map[string]string) error {
	_, err := r.m.Run(ctx, datamodel.Invocation{Command: table + row + "." + command, Args: args,
		Object: datamodel.ObjectRef{Path: table + row + ".", Stored: r.stored}})
	return err
}

func (r *rig) read(row string) map[string]string {
	out := map[string]string{}
	path, params := info, []string{"ActiveFirmwareImage", "BootFirmwareImage"}
	if row != "" {
		path, params = table+row+".", []string{"Status", "Version", "BootFailureLog"}
	}
	if err := r.m.Read(r.t.Context(), datamodel.ObjectRef{Path: path, Stored: r.stored}, params, func(n, v string) { out[n] = v }); err != nil {
		r.t.Fatal(err)
	}
	return out
}

// wants compares Status, and Version where it is not "-".
func (r *rig) wants(row, status, version string) {
	r.t.Helper()
	if got := r.read(row); got["Status"] != status || version != "-" && got["Version"] != version {
		r.t.Errorf("FirmwareImage.%s: %v, want Status %s and Version %s", row, got, status, version)
	}
}

func (r *rig) runs(row string) {
	r.t.Helper()
	if got := r.read("")["ActiveFirmwareImage"]; got != table+row {
		r.t.Errorf("ActiveFirmwareImage is %s, want row %s", got, row)
	}
}

// tidy checks what the directory must always be like.
func (r *rig) tidy() {
	r.t.Helper()
	err := filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if path != r.dir && st.Mode().Perm() != want {
			r.t.Errorf("%s has mode %o", path, st.Mode().Perm())
		}
		if strings.HasSuffix(path, ".part") || strings.HasSuffix(path, ".new") {
			r.t.Errorf("%s was left behind", path)
		}
		return nil
	})
	if err != nil {
		r.t.Error(err)
	}
}

// give is a Fetch that delivers an image.
func give(image []byte) func(context.Context, webfile.Request, *os.File) error {
	return func(_ context.Context, _ webfile.Request, dst *os.File) error {
		_, err := dst.Write(image)
		return err
	}
}

func reason(err error) datamodel.Reason {
	var e *datamodel.Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return 0
}
