package vendor_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"twinspan/bridge"
	"twinspan/bridge/policy"
	"twinspan/bridge/vendor"
	"twinspan/datamodel"
	"twinspan/datamodel/tr181"
	"twinspan/store"
)

const object = "Device.X_TWINSPAN-EXAMPLE_Migration."

var (
	acs   = bridge.Writer{Name: "cwmp", Protocol: datamodel.CWMP, Class: bridge.ClassACS}
	local = bridge.Writer{Name: "cli", Protocol: datamodel.USP, Class: bridge.ClassUser}
)

func arbitrated(t *testing.T) (*bridge.Engine, string) {
	t.Helper()
	p := &datamodel.Profile{Name: "test", Supports: []string{"Device.DeviceInfo.", "Device.Time.", "Device.LocalAgent.", "Device.ManagementServer."}}
	schema, err := tr181.Load(p)
	if err != nil {
		t.Fatal(err)
	}
	prefix, _ := vendor.Prefix("twinspan.example")
	if err := vendor.Extend(schema.Root(), prefix, &vendor.Content{}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "policy.toml")
	if err := os.WriteFile(file, []byte("version = 1\nname = 'test'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	db := store.OpenMemory(store.Options{})
	pol, fileErr, err := policy.First(file, bridge.PhaseDualCWMP, db)
	if err != nil {
		t.Fatal(err)
	}
	e, err := bridge.New(bridge.Options{Schema: schema, Profile: p, Store: db, Arbiter: pol.Orders(), GuardParam: object + vendor.GuardParam})
	if err != nil {
		t.Fatal(err)
	}
	own := vendor.New(e, prefix, &vendor.Content{})
	own.SetPolicy(policy.NewLive(e, file, bridge.PhaseDualCWMP, pol, fileErr, slog.New(slog.DiscardHandler)))
	if err := e.AddProvider(own); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		db.Close()
	})
	return e, file
}

func operate(t *testing.T, e *bridge.Engine, name string, args map[string]string) (map[string]string, error) {
	t.Helper()
	op, err := e.Command(local, object+name, args)
	if err != nil {
		return nil, err
	}
	return op.Run(context.Background())
}

func TestArbitrationCommands(t *testing.T) {
	e, file := arbitrated(t)
	run := func(name string, args map[string]string) map[string]string {
		t.Helper()
		out, err := operate(t, e, name, args)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return out
	}
	set := func(w bridge.Writer, kv ...string) error {
		c := bridge.Change{Atomic: true}
		for i := 0; i < len(kv); i += 2 {
			obj, name := datamodel.SplitParam(kv[i])
			c.Ops = append(c.Ops, bridge.Op{Kind: bridge.OpSet, Path: obj, Settings: []bridge.Setting{{Name: name, Value: kv[i+1], Required: true}}})
		}
		_, err := e.Apply(context.Background(), w, c)
		return err
	}
	const code = "Device.DeviceInfo.ProvisioningCode"
	if err := set(acs, code, "acs"); err != nil {
		t.Fatal(err)
	}
	if err := set(local, code, "local"); err == nil {
		t.Fatal("the ACS does not go first")
	}
	if out := run("ListConflicts()", nil); out["Conflict.1.Path"] != code || out["Conflict.1.Loser"] != "cli" || out["Conflict.1.Winner"] != "cwmp" || out["Conflict.1.Count"] != "1" {
		t.Errorf("%v", out)
	}
	run("AcknowledgeConflict()", map[string]string{"ID": "1"})
	if out := run("ListConflicts()", nil); out["Conflict.1.Acknowledged"] != "true" {
		t.Errorf("%v", out)
	}
	if out := run("ListOwners()", map[string]string{"Path": "Device.DeviceInfo."}); out["Owner.1.Writer"] != "cwmp" || out["Owner.1.Path"] != code || out["More"] != "false" {
		t.Errorf("%v", out)
	}
	lease := run("AcquireLease()", map[string]string{"Paths": "Device.Time., " + code, "Duration": "60"})
	if out := run("ListLeases()", nil); out["Lease.1.ID"] != lease["ID"] || out["Lease.1.Paths"] != "Device.Time.,"+code || out["Lease.1.Writer"] != "cli" {
		t.Errorf("%v", out)
	}
	run("RenewLease()", map[string]string{"ID": lease["ID"], "Duration": "90"})
	run("ReleaseLease()", map[string]string{"ID": lease["ID"]})
	if _, err := operate(t, e, "ReleaseLease()", map[string]string{"ID": lease["ID"]}); err == nil {
		t.Error("released twice")
	}
	if _, err := operate(t, e, "AcquireLease()", map[string]string{"Paths": "Device.Nothing.", "Duration": "60"}); datamodel.ReasonOf(err) != datamodel.NotSupported {
		t.Error(err)
	}
	if out := run("ExplainPolicy()", map[string]string{"Path": code, "Writer": "cli"}); out["Rule"] != "default" || out["Class"] != "user" || out["Against.1.Verdict"] != "yield" {
		t.Errorf("%v", out)
	}
	if err := os.WriteFile(file, []byte("version = 1\nname = 'mine'\n[defaults]\non_conflict = 'last'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run("ReloadPolicy()", nil)
	if err := set(local, code, "local"); err != nil {
		t.Fatal(err)
	}
	if out := run("ReleaseOwnership()", map[string]string{"Path": "Device.DeviceInfo."}); out["Count"] != "1" {
		t.Errorf("%v", out)
	}
	if _, err := operate(t, e, "SimulatePolicy()", map[string]string{"Text": "version = 9"}); err == nil || !strings.Contains(err.Error(), "version 1") {
		t.Error(err)
	}
	// IfRevision in the spelling of both protocols.
	if err := set(acs, "Device.Time.LocalTimeZone", "UTC", object+vendor.GuardParam, "0@"+code); err == nil {
		t.Error("a guard that does not hold was passed")
	}
	for _, w := range []bridge.Writer{acs, local} {
		v := e.View(w)
		ms, err := v.Resolve(object+vendor.GuardParam, datamodel.ResolvePolicy{Want: datamodel.WantParam})
		if err != nil || len(ms) != 1 {
			t.Fatal(err)
		}
		if value, err := v.Value(context.Background(), ms[0]); value != "" || err != nil {
			t.Errorf("%s reads %q (%v)", w.Name, value, err)
		}
		if !v.Writable(ms[0]) {
			t.Errorf("%s cannot write it", w.Name)
		}
		if err := set(w, "Device.Time.LocalTimeZone", w.Name, object+vendor.GuardParam, "99999@"+code); err == nil {
			t.Error("a revision of the future holds")
		}
	}
}

// only gives the rights to everything below some paths.
type only []string

func (o only) Allow(_ *store.Version, path string, _ bridge.Right) bool {
	for _, top := range o {
		if strings.HasPrefix(path, top) {
			return true
		}
	}
	return false
}

func (only) Secured(*store.Version) bool { return false }

// The journal tells nobody what he may not read.
func TestJournalWithRights(t *testing.T) {
	e, _ := arbitrated(t)
	for _, path := range []string{"Device.DeviceInfo.ProvisioningCode", "Device.Time.LocalTimeZone"} {
		object, name := datamodel.SplitParam(path)
		if _, err := e.Apply(t.Context(), acs, bridge.Change{Atomic: true, Ops: []bridge.Op{{Kind: bridge.OpSet, Path: object, Settings: []bridge.Setting{{Name: name, Value: "hidden", Required: true}}}}}); err != nil {
			t.Fatal(err)
		}
	}
	little := bridge.Writer{Name: "usp:little", Protocol: datamodel.USP, Class: bridge.ClassMain, Rights: only{object, "Device.Time."}}
	op, err := e.Command(little, object+"GetJournal()", nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := op.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lines := ""
	for name, value := range out {
		if strings.HasSuffix(name, ".Path") {
			lines += value + " "
		}
	}
	if strings.TrimSpace(lines) != "Device.Time.LocalTimeZone" {
		t.Errorf("told of %s", lines)
	}
	if out, err := operate(t, e, "GetJournal()", nil); err != nil || out["Entry.2.Change.1.Path"] == "" {
		t.Errorf("the command line sees %v %v", out, err)
	}
}
