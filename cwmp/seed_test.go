package cwmp

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"twinspan/bridge"
	"twinspan/bridge/conversion"
	"twinspan/cwmp/soap"
	"twinspan/datamodel"
	"twinspan/datamodel/sim"
	"twinspan/datamodel/tr181"
	"twinspan/store"
)

// legacyState is a generated state of an older client, with what the first Inform must tell because of it.
type legacyState struct {
	text      string
	bootstrap bool     // due
	events    []string // exactly these
	changed   []string
	completes []string // CommandKeys
	values    map[string]string
}

const newSoftware = "sw2"

func generateLegacy(r *rand.Rand) legacyState {
	s := legacyState{events: []string{"1 BOOT"}, values: map[string]string{}}
	root := "Device."
	model := "tr181"
	if r.IntN(3) == 0 {
		root, model = "InternetGatewayDevice.", "tr098"
	}
	lines := []string{}
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	attributes, pendingOps := false, false
	value := func(path, text string) {
		add("value %s%s %q", root, path, text)
		s.values["Device."+path] = text
	}
	value("ManagementServer.URL", fmt.Sprintf("https://ACS%d.example.org:%d/%%7Ebox?x=%d&y", r.IntN(9), 1+r.IntN(65535), r.IntN(100)))
	value("ManagementServer.Username", fmt.Sprintf("u%d %d", r.IntN(1000), r.IntN(10)))
	value("ManagementServer.PeriodicInformInterval", strconv.Itoa(3600+r.IntN(100000)))
	if r.IntN(2) == 0 {
		value("ManagementServer.PeriodicInformTime", "2026-01-01T03:07:11Z")
	}
	// What the device reports itself: only what the ACS watches and knows otherwise is news.
	if r.IntN(4) > 0 {
		if old := "sw" + strconv.Itoa(1+r.IntN(2)); old != newSoftware {
			s.changed = append(s.changed, "Device.DeviceInfo.SoftwareVersion")
			add("value %sDeviceInfo.SoftwareVersion %q", root, old)
		} else {
			add("value %sDeviceInfo.SoftwareVersion %q", root, old)
		}
	}
	add("value %sDeviceInfo.UpTime %q", root, strconv.Itoa(r.IntN(1e6))) // not watched
	for i := range r.IntN(4) {
		path := fmt.Sprintf("Time.NTPServer%d", i+1)
		add("value %s%s %q", root, path, "pool") // residue in both models
	}
	if model == "tr181" {
		n := 1 + r.IntN(3)
		for i := range n {
			row := 2 + 3*i + r.IntN(3)
			path := fmt.Sprintf("NAT.PortMapping.%d.", row)
			value(path+"ExternalPort", strconv.Itoa(1000+r.IntN(1000)))
			value(path+"Alias", fmt.Sprintf("a-%d", row))
			if r.IntN(2) == 0 {
				add("attr %s%sExternalPort notification=%d", root, path, 1+r.IntN(2))
				attributes = true
				if r.IntN(3) == 0 {
					add("told %s%sExternalPort %q", root, path, "77")
					s.changed = append(s.changed, "Device."+path+"ExternalPort")
				}
			}
		}
		add("next Device.NAT.PortMapping. %d", 20+r.IntN(100))
	}
	if r.IntN(2) == 0 {
		n := r.IntN(2)
		add("attr %sDeviceInfo. notification=%d access=Subscriber,X_LAN", root, n)
		attributes = true
		if n == 1 { // then the ACS wants to know that, too
			s.changed = append(s.changed, "Device.DeviceInfo.UpTime")
		}
	}
	if r.IntN(3) > 0 {
		key := "fw" + strconv.Itoa(r.IntN(100))
		add("download %q delivered type=\"1 Firmware Upgrade Image\" url=\"http://f.example/i\" start=2026-05-05T05:05:05Z", key)
		s.events, s.completes = append(s.events, "7 TRANSFER COMPLETE", "M Download "+key), append(s.completes, key)
		pendingOps = true
	}
	if r.IntN(4) == 0 {
		key := "up" + strconv.Itoa(r.IntN(100))
		add("upload %q done type=\"1 Vendor Configuration File\" fault=9011 text=\"no\" start=2026-05-05T05:05:05Z complete=2026-05-05T05:06:05Z", key)
		s.events, s.completes = append(s.events, "7 TRANSFER COMPLETE", "M Upload "+key), append(s.completes, key)
		pendingOps = true
	}
	for i := range r.IntN(3) {
		add("event \"M Reboot\" \"rb-%d\"", i)
		s.events = append(s.events, fmt.Sprintf("M Reboot rb-%d", i))
	}
	if r.IntN(4) == 0 {
		add("schedule-inform \"si\" 2099-01-01T00:00:00Z")
		pendingOps = true
	}
	if r.IntN(5) == 0 {
		add("event \"2 PERIODIC\"")
		s.events = append(s.events, "2 PERIODIC")
	}
	key := ""
	if r.IntN(2) == 0 {
		key = "pk" + strconv.Itoa(r.IntN(1000))
		add("parameter-key %q", key)
		s.values["Device.ManagementServer.ParameterKey"] = key
	}
	mark := []string{"yes", "yes", "yes", "unknown", "no"}[r.IntN(5)]
	s.bootstrap = mark == "no" || mark == "unknown" && key == "" && !attributes && !pendingOps
	if len(s.changed) > 0 {
		s.events = append(s.events, "4 VALUE CHANGE")
	}
	r.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	s.text = "twinspan-import 1\nsource \"gen\"\nmodel " + model + "\nbootstrapped " + mark + "\n" + strings.Join(lines, "\n") + "\nend\n"
	slices.Sort(s.events)
	s.events = slices.Compact(s.events)
	slices.Sort(s.changed)
	return s
}

var legacyProfile = &datamodel.Profile{Name: "test", Supports: testSupports, Factory: map[string]string{
	"Device.ManagementServer.URL": "http://factory.example/", "Device.NAT.PortMapping.1.ExternalPort": "1",
}}

// firstInform starts an engine and a CPE on db as an agent would, and gives what the first Inform would tell.
func firstInform(t *testing.T, schema *datamodel.Schema, db *store.Store, text string, now time.Time) (job sessionJob, err error) {
	t.Helper()
	p := sim.New("sim")
	for name, v := range map[string]string{"Manufacturer": "Example", "ManufacturerOUI": "00D09E", "ProductClass": "Box", "SerialNumber": "1", "HardwareVersion": "hw1", "SoftwareVersion": newSoftware} {
		p.Set("Device.DeviceInfo."+name, v)
	}
	p.Counter("Device.DeviceInfo.UpTime", 0, 1)
	o := bridge.Options{Schema: schema, Profile: legacyProfile, Store: db, Providers: []datamodel.Provider{p}}
	o.Seed = func(context.Context) (*bridge.Seed, error) {
		f, err := conversion.Parse([]byte(text))
		if err != nil {
			return nil, err
		}
		return f.Seed(now, func(tx *store.Tx, _ *conversion.Report, found *conversion.Outcome) ([]bridge.Record, error) {
			return Seed(schema, tx.View(), f, found, now)
		}), nil
	}
	e, err := bridge.New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	c, err := New(Options{Engine: e, DataDir: t.TempDir(), Listen: "off", LivePoll: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context()); err != nil {
		return job, err
	}
	told := make(chan sessionJob, 1)
	c.session = func(ctx context.Context, _ settings) sessionResult {
		var job sessionJob
		if err := c.call(ctx, func() error { job = c.freeze(ctx); return nil }); err != nil {
			return sessionResult{err: err}
		}
		select {
		case told <- job:
		default:
		}
		return sessionResult{err: errStopped}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	select {
	case job = <-told:
	case err = <-done:
		t.Fatalf("the CPE ended: %v", err)
	case <-time.After(30 * time.Second):
		t.Error("no session")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	return job, nil
}

// P10: of 1,000 generated states, whole and cut off, none makes a bootstrapped device say BOOTSTRAP; every Download that was over is
// reported, and nothing is told as changed but what did change.
func TestImportNeverBootstraps(t *testing.T) {
	schema, err := tr181.Load(legacyProfile)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(10, 98))
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	bootstraps, cut := 0, 0
	for i := range 1000 {
		s := generateLegacy(r)
		db := store.OpenMemory(store.Options{})
		if i%4 == 0 { // the power went while the file was written: nothing may happen until it is whole
			cut++
			at := r.IntN(len(s.text) - 1)
			if _, err := firstInform(t, schema, db, s.text[:at], now); err == nil {
				t.Fatalf("a file cut off after %d bytes was taken:\n%s", at, s.text[:at])
			}
			if rev := db.Head().Rev(); rev != 0 {
				t.Fatalf("a file cut off after %d bytes left revision %d", at, rev)
			}
		}
		job, err := firstInform(t, schema, db, s.text, now)
		if err != nil {
			t.Fatalf("state %d: %v\n%s", i, err, s.text)
		}
		var events, completes []string
		for _, e := range job.events {
			events = append(events, strings.TrimSpace(e.Code+" "+e.Key))
		}
		slices.Sort(events)
		want := s.events
		if s.bootstrap { // a new ACS is told nothing of before
			bootstraps++
			want = []string{"0 BOOTSTRAP", "1 BOOT"}
			s.completes, s.changed = nil, nil
		}
		if !slices.Equal(events, want) {
			t.Fatalf("state %d: events %q, want %q\n%s", i, events, want, s.text)
		}
		if slices.Sort(job.changed); !slices.Equal(job.changed, s.changed) {
			t.Fatalf("state %d: changed %q, want %q\n%s", i, job.changed, s.changed, s.text)
		}
		for _, d := range job.completes {
			tc, ok := d.body.(*soap.TransferComplete)
			if !ok || tc.StartTime.IsZero() || tc.CompleteTime.IsZero() || (tc.FaultStruct.FaultCode == 0) != strings.HasPrefix(tc.CommandKey, "fw") {
				t.Fatalf("state %d: %+v\n%s", i, d.body, s.text)
			}
			completes = append(completes, tc.CommandKey)
		}
		slices.Sort(completes)
		if slices.Sort(s.completes); !slices.Equal(completes, s.completes) {
			t.Fatalf("state %d: TransferComplete %q, want %q\n%s", i, completes, s.completes, s.text)
		}
		for _, path := range slices.Sorted(maps.Keys(s.values)) {
			if l, _ := db.Head().Leaf(path); l.Value != s.values[path] {
				t.Fatalf("state %d: %s = %q, want %q\n%s", i, path, l.Value, s.values[path], s.text)
			}
		}
		if !s.bootstrap && strings.Contains(s.text, "next ") && db.Head().HasInstance("Device.NAT.PortMapping.", 1) {
			t.Fatalf("state %d: a row that the old client had not is there", i)
		}
		db.Close()
	}
	if bootstraps == 0 || cut < 200 {
		t.Errorf("the states prove nothing: %d with BOOTSTRAP, %d cut off", bootstraps, cut)
	}
}
