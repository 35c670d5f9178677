package migration

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/datamodel/tr181"
	"twinspan/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// device opens an engine with a migrator over a database file.
func device(t *testing.T, file string) (*bridge.Engine, *Migrator, func()) {
	t.Helper()
	st, err := store.Open(file, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := &datamodel.Profile{Name: "test", Supports: []string{"Device.LocalAgent.", "Device.ManagementServer.", "Device.Time."},
		Factory: map[string]string{"Device.ManagementServer.URL": "https://acs.twinspan.example/", "Device.ManagementServer.EnableCWMP": "true",
			"Device.LocalAgent.Controller.1.Enable": "true", "Device.LocalAgent.Controller.1.EndpointID": "self::m", "Device.LocalAgent.Controller.1.MTP.1.Enable": "true"}}
	schema, err := tr181.Load(p)
	if err != nil {
		t.Fatal(err)
	}
	e, err := bridge.New(bridge.Options{Schema: schema, Profile: p, Store: st})
	if err == nil {
		err = e.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	cfg := Default()
	cfg.Gates = nil
	m, err := Open(t.Context(), e, Options{Config: cfg, Initial: bridge.PhaseDualUSP})
	if err != nil {
		t.Fatal(err)
	}
	return e, m, func() { e.Close(); st.Close() }
}

var main1 = datamodel.Caller{Name: "usp:self::m", Class: bridge.ClassMain}

func cwmpOn(e *bridge.Engine) string {
	l, _ := e.Store().Head().Leaf(enableCWMP)
	return l.Value
}

// TestPowerCutInsideTheWindow: what is on the disk at any moment of a move opens as a whole state, and comes back.
func TestPowerCutInsideTheWindow(t *testing.T) {
	dir := t.TempDir()
	e, m, stop := device(t, filepath.Join(dir, "db"))
	token, err := m.Request(t.Context(), main1, bridge.PhaseUSPOnly, Ask{})
	if err != nil || token == "" {
		t.Fatal(token, err)
	}
	if cwmpOn(e) != "false" || m.Phase() != bridge.PhaseUSPOnly {
		t.Fatal(cwmpOn(e), m.Phase())
	}
	image, err := os.ReadFile(filepath.Join(dir, "db")) // the power is cut here
	if err != nil {
		t.Fatal(err)
	}
	stop()
	cut := filepath.Join(dir, "cut")
	if err := os.WriteFile(cut, image, 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	e, m, stop = device(t, cut)
	defer stop()
	if cwmpOn(e) != "true" || m.Phase() != bridge.PhaseDualUSP || time.Since(began) > 5*time.Second {
		t.Fatalf("EnableCWMP %s in phase %s after %s", cwmpOn(e), m.Phase(), time.Since(began))
	}
	moves := m.Moves()
	if len(moves) != 2 || !strings.Contains(moves[0].Result, CauseRestart) || moves[1].By != "sys:rollback" {
		t.Fatalf("%+v", moves)
	}
}

// TestEnableCWMPIsARequest: written directly it takes the same edge, window and all, or none.
func TestEnableCWMPIsARequest(t *testing.T) {
	e, m, stop := device(t, filepath.Join(t.TempDir(), "db"))
	defer stop()
	off := bridge.Change{Atomic: true, Ops: []bridge.Op{{Kind: bridge.OpSet, Path: "Device.ManagementServer.", Settings: []bridge.Setting{{Name: "EnableCWMP", Value: "false", Required: true}}}}}
	if _, err := e.Apply(context.Background(), bridge.Writer{Name: "cwmp", Protocol: datamodel.CWMP, Class: bridge.ClassACS}, off); err == nil {
		t.Fatal("the ACS switched CWMP off")
	}
	off.Ops[0].Path = "Device.CWMPManagementServer."
	w := bridge.Writer{Name: "usp:self::m", Protocol: datamodel.USP, Class: bridge.ClassMain}
	if _, err := e.Apply(context.Background(), w, off); err != nil {
		t.Fatal(err)
	}
	m.adopt()
	if s := m.State(); s.Phase != bridge.PhaseUSPOnly || !s.Pending.Open() || cwmpOn(e) != "false" {
		t.Fatalf("%+v", s)
	}
	if err := m.Confirm(t.Context(), main1, ""); err == nil {
		t.Fatal("confirmed over a connection of unknown age")
	}
	fresh := main1
	fresh.ConnectedAt = time.Now()
	if err := m.Confirm(t.Context(), fresh, ""); err != nil {
		t.Fatal(err)
	}
}
