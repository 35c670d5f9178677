package bridge

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"twinspan/datamodel"
	"twinspan/store"
)

func seeded(s *Seed, asked *int) func(*Options) {
	return func(o *Options) {
		o.Seed = func(context.Context) (*Seed, error) { *asked++; return s, nil }
	}
}

// What was before keeps its numbers; the device's own rows are found again, and what has no place is told.
func TestSeed(t *testing.T) {
	port := func(name string) datamodel.Row {
		return datamodel.Row{Table: "Device.Ethernet.Interface.", Key: "Name", Values: map[string]string{"Name": name}}
	}
	b := &box{name: "linux", rows: []datamodel.Row{port("eth0"), port("eth7")}, syncs: []string{"Device.Ethernet.Interface."}}
	var left []SeedLeft
	asked := 0
	s := &Seed{Ref: "old 1", Rows: []string{"Device.IP.Interface.9.", "Device.DeviceInfo.Processor.1."}, Next: map[string]int{"Device.IP.Interface.": 30, "Device.PPP.Interface.": 5},
		Values: []SeedValue{
			{Path: "Device.ManagementServer.URL", Value: "http://ACS.example:80/%7e"},
			{Path: "Device.ManagementServer.Password", Value: "old secret"},
			{Path: "Device.ManagementServer.ParameterKey", Value: "pk"},
			{Path: "Device.Ethernet.Interface.7.Name", Value: "eth7"},
			{Path: "Device.Ethernet.Interface.7.Alias", Value: "uplink"},
			{Path: "Device.Ethernet.Interface.8.Name", Value: "gone"},
			{Path: "Device.IP.Interface.4.Alias", Value: "four"},
			{Path: "Device.IP.Interface.4.IPv4Address.3.IPAddress", Value: "192.0.2.1"},
			{Path: "Device.DHCPv4.Server.Pool.1.Alias", Value: "a"}, {Path: "Device.DHCPv4.Server.Pool.2.Alias", Value: "b"},
			{Path: "Device.DHCPv4.Server.Pool.3.Alias", Value: "c"}, {Path: "Device.DHCPv4.Server.Pool.4.Alias", Value: "d"},
			{Path: "Device.Time.Enable", Value: "perhaps"},
			{Path: "Device.LocalAgent.Controller.2.EndpointID", Value: "self::thief"},
			{Path: "Device.DeviceInfo.SoftwareVersion", Value: "0.9"},
			{Path: "Device.Nowhere", Value: "x"},
			{Path: "Device.DeviceInfo.ProvisioningCode", Value: "dhcp's", Factory: true},
		},
		Attrs: map[string]store.Attr{"Device.IP.Interface.4.Alias": {Notification: 2}, "Device.IP.Interface.5.Alias": {Notification: 2}},
		Finish: func(tx *store.Tx, l []SeedLeft) ([]Record, error) {
			left = l
			return []Record{{"import", "x", []byte("1")}}, nil
		}}
	file := filepath.Join(t.TempDir(), "db")
	r := newRig(t, with(b), onFile(t, file), seeded(s, &asked))
	for path, want := range map[string]string{"Device.ManagementServer.URL": "http://ACS.example:80/%7e", "Device.ManagementServer.ParameterKey": "pk", "Device.IP.Interface.4.Alias": "four",
		"Device.DeviceInfo.ProvisioningCode": "dhcp's", "Device.Ethernet.Interface.7.Alias": "uplink"} {
		r.is(acs, path, want)
	}
	if l, _ := r.store.Head().Leaf("Device.ManagementServer.Password"); l.Value != "old secret" || l.Flags&store.Secret == 0 {
		t.Errorf("%+v", l)
	}
	if l, _ := r.store.Head().Leaf("Device.DeviceInfo.ProvisioningCode"); l.Flags&store.Factory == 0 || l.Writer != "sys:import" {
		t.Errorf("%+v", l)
	}
	// The factory's rows 1 and 2 of a table that the old agent knew do not come back; in one that the device fills they do.
	for table, want := range map[string]string{"Device.IP.Interface.": "4 9", "Device.Ethernet.Interface.": "1 7", "Device.DHCPv4.Server.Pool.": "1 2 3", "Device.LocalAgent.Controller.": "1"} {
		if got := ids(r.rows(table)); got != want {
			t.Errorf("%s: rows %s, want %s", table, got, want)
		}
	}
	if a, ok := r.store.Head().Attr("Device.IP.Interface.4.Alias"); !ok || a.Notification != 2 {
		t.Errorf("%+v %v", a, ok)
	}
	told := map[string]SeedLeft{}
	for _, l := range left {
		told[l.Path] = l
	}
	for _, path := range []string{"Device.DeviceInfo.Processor.1.", "Device.DHCPv4.Server.Pool.4.Alias", "Device.Time.Enable", "Device.LocalAgent.Controller.2.EndpointID", "Device.Nowhere", "Device.IP.Interface.5.Alias", "Device.DeviceInfo.SoftwareVersion"} {
		if told[path].Reason == "" {
			t.Errorf("%s went without a word", path)
		}
	}
	if len(told) != 7 || !told["Device.DeviceInfo.SoftwareVersion"].Live || !told["Device.IP.Interface.5.Alias"].Attrs {
		t.Errorf("%+v", left)
	}
	if e := r.entry(1); e.Meta.Writer != "sys:import" || e.Meta.Ref != "old 1" || e.Meta.Kind != "factory" {
		t.Errorf("%+v", e.Meta)
	}
	if res := r.do(acs, whole(add("Device.IP.Interface."), add("Device.PPP.Interface."))); len(res.Outcomes) != 2 || res.Outcomes[0].Objects[0].Path != "Device.IP.Interface.30." || res.Outcomes[1].Objects[0].Path != "Device.PPP.Interface.5." {
		t.Errorf("%+v", res.Outcomes)
	}
	if err := r.FactoryReset(context.Background(), sys("reset")); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.store.Head().Record("import", "x"); ok {
		t.Error("a factory reset left the import's record")
	}
	r.is(acs, "Device.ManagementServer.URL", "http://acs.twinspan.example/")
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

// A first start that fails leaves nothing, and is the first start again.
func TestSeedIsAllOrNothing(t *testing.T) {
	p := testProfile()
	db := store.OpenMemory(store.Options{})
	defer db.Close()
	fail := errors.New("fail")
	finish := func(*store.Tx, []SeedLeft) ([]Record, error) { return nil, fail }
	start := func(seed func(context.Context) (*Seed, error)) error {
		e, err := New(Options{Schema: loadSchema(t, p), Profile: p, Store: db, Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		return e.Start(t.Context())
	}
	s := &Seed{Values: []SeedValue{{Path: "Device.ManagementServer.URL", Value: "http://old/"}}, Finish: finish}
	if err := start(func(context.Context) (*Seed, error) { return nil, fail }); !errors.Is(err, fail) {
		t.Errorf("unreadable: %v", err)
	}
	if err := start(func(context.Context) (*Seed, error) { return s, nil }); !errors.Is(err, fail) {
		t.Errorf("failed at its end: %v", err)
	}
	if rev := db.Head().Rev(); rev != 0 {
		t.Fatalf("revision %d", rev)
	}
	s.Finish = nil
	if err := start(func(context.Context) (*Seed, error) { return s, nil }); err != nil {
		t.Fatal(err)
	}
	if l, _ := db.Head().Leaf("Device.ManagementServer.URL"); l.Value != "http://old/" {
		t.Errorf("%+v", l)
	}
}

func TestTrySeed(t *testing.T) {
	p := testProfile()
	db := store.OpenMemory(store.Options{})
	defer db.Close()
	e, err := New(Options{Schema: loadSchema(t, p), Profile: p, Store: db})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	finished := false
	if err := e.TrySeed(t.Context(), &Seed{Rows: []string{"Device.IP.Interface.3."}, Finish: func(tx *store.Tx, _ []SeedLeft) ([]Record, error) {
		finished = tx.Staged().HasInstance("Device.IP.Interface.", 3)
		return nil, nil
	}}); err != nil || !finished || db.Head().Rev() != 0 {
		t.Errorf("%v %v, revision %d", err, finished, db.Head().Rev())
	}
}
