package main

import (
	"testing"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/datamodel/tr181"
	"twinspan/store"
)

// TestUplink: the interface's Status decides; one that is not there is no excuse for managers that are missed.
func TestUplink(t *testing.T) {
	p := &datamodel.Profile{Name: "test", Supports: []string{"Device.IP.", "Device.ManagementServer."}, Factory: map[string]string{"Device.IP.Interface.1.Alias": "wan"}}
	schema, err := tr181.Load(p)
	if err != nil {
		t.Fatal(err)
	}
	db := store.OpenMemory(store.Options{})
	defer db.Close()
	e, err := bridge.New(bridge.Options{Schema: schema, Profile: p, Store: db})
	if err == nil {
		err = e.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	status := func(v string) {
		t.Helper()
		_, err := e.Apply(t.Context(), bridge.Writer{Name: "sys:test", Class: bridge.ClassSys, System: true}, bridge.Change{Atomic: true, Ops: []bridge.Op{
			{Kind: bridge.OpSet, Path: "Device.IP.Interface.1.", Settings: []bridge.Setting{{Name: "Status", Value: v, Required: true}}}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	o := &office{engine: e}
	status("Down")
	if o.uplink("Device.IP.Interface.1.")() {
		t.Error("up without an uplink")
	}
	status("Up")
	up := o.uplink("Device.IP.Interface.1")
	if !up() {
		t.Error("down with an uplink")
	}
	status("LowerLayerDown")
	for end := time.Now().Add(waitFor); up(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the end of the uplink is not seen")
		}
	}
	if !o.uplink("Device.IP.Interface.7.")() {
		t.Error("an interface that is not there holds everything up")
	}
	if o.uplink("off") != nil {
		t.Error("off asks")
	}
	for _, bad := range []string{"eth0", "Device.Time."} {
		if b := (BridgeConfig{Migration: MigrationConfig{WAN: bad}}); b.validateMigration() == nil {
			t.Errorf("wan = %q was taken", bad)
		}
	}
}
