package policy

import (
	"context"
	"fmt"
	"log/slog"
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

// example is the file of the documentation.
const example = `version = 1
name    = "operator-default"
[defaults]
on_conflict = "priority"
owner_ttl   = "90d"
[classes]
acs  = ["cwmp"]
main = ["usp:self::oper-main"]
apps = ["role:WiFiOptimizer", "usp:self::app*"]
user = ["lan:*"]
[order]
cwmp-only = ["acs","user"]
shadow    = ["acs","user"]
dual-cwmp = ["acs","main","user","apps"]
dual-usp  = ["main","acs","user","apps"]
usp-only  = ["main","user","apps"]
[[rule]]
id = "wan"
path = "Device.{PPP,IP,DHCPv4.Client}.**"
owner = "$primary"
on_conflict = "yield"
confirm = true
[[rule]]
id = "time-user"
path = "Device.Time.**"
writers = ["acs","main","user","apps"]
on_conflict = "last"
damp = true
[[rule]]
id = "telemetry"
path = "Device.BulkData.Profile.*.**"
on_conflict = "creator"
[[rule]]
id = "cwmp-own"
path = "Device.ManagementServer.**"
writers = ["acs","cli","$primary"]
on_conflict = "yield"
[[rule]]
id = "fw"
resource = "fw"
queue = 3
phase.dual-usp.writers = ["main"]
[accesslist]
honor = ["cwmp-only","shadow","dual-cwmp"]
usp_entity = "X_EXAMPLE-COM_USP"
[limits]
commits_per_second = 5
burst = 10
`

func parse(t testing.TB, text string) *Policy {
	t.Helper()
	p, err := Parse(text, bridge.PhaseDualCWMP)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestExample(t *testing.T) {
	p := parse(t, example)
	if rate, burst := p.Rate(); rate != 5 || burst != 10 || p.TTL != 90*24*time.Hour {
		t.Fatal(rate, burst, p.TTL)
	}
	main := bridge.Writer{Name: "usp:self::oper-main", Class: "main", Protocol: datamodel.USP}
	acs := bridge.Writer{Name: "cwmp", Class: "acs", Protocol: datamodel.CWMP}
	app := bridge.Writer{Name: "usp:self::app1", Class: "apps", Protocol: datamodel.USP}
	for _, c := range []struct {
		name   string
		phase  bridge.Phase
		w      bridge.Writer
		path   string
		owner  string
		class  string
		kind   bridge.VerdictKind
		rule   string
		static bool
	}{
		{"nobody's: the primary class owns it", bridge.PhaseDualCWMP, main, "Device.IP.Interface.1.Enable", "", "", bridge.Yield, "wan", false},
		{"nobody's: the primary class may", bridge.PhaseDualCWMP, acs, "Device.IP.Interface.1.Enable", "", "", bridge.Allow, "wan", false},
		{"the primary class changes with the phase", bridge.PhaseDualUSP, main, "Device.IP.Interface.1.Enable", "", "", bridge.Allow, "wan", false},
		{"last", bridge.PhaseDualCWMP, app, "Device.Time.Enable", "cwmp", "acs", bridge.Take, "time-user", false},
		{"default", bridge.PhaseDualCWMP, app, "Device.DeviceInfo.ProvisioningCode", "cwmp", "acs", bridge.Yield, "default", false},
		{"writers", bridge.PhaseDualCWMP, main, "Device.ManagementServer.URL", "", "", bridge.Yield, "cwmp-own", true},
		{"$primary", bridge.PhaseDualUSP, main, "Device.ManagementServer.URL", "", "", bridge.Allow, "cwmp-own", false},
		{"outside the phase", bridge.PhaseCWMPOnly, main, "Device.DeviceInfo.ProvisioningCode", "", "", bridge.Yield, "phase:cwmp-only", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := p.Orders().Decide(bridge.Proposal{Phase: c.phase, Writer: c.w, Path: c.path, Old: "a", New: "b", Owner: c.owner, OwnerClass: c.class})
			if v.Kind != c.kind || v.Rule != c.rule || v.Static != c.static {
				t.Errorf("%+v", v)
			}
		})
	}
	if v := p.Orders().Decide(bridge.Proposal{Writer: app, Path: "Device.BulkData.Profile.1.Enable", New: "b", Creator: main.Name}); v.Kind != bridge.Yield {
		t.Errorf("not its row: %+v", v)
	}
	if v := p.Orders().At(bridge.PhaseDualUSP).Resource(acs, "fw"); v.Kind != bridge.Yield {
		t.Errorf("firmware by the ACS: %+v", v)
	}
	if v := p.Orders().At(bridge.PhaseDualCWMP).Resource(acs, "fw"); v.Kind != bridge.Allow || v.Queue != 3 {
		t.Errorf("firmware by the ACS: %+v", v)
	}
	for writer, want := range map[string]string{"usp:self::oper-main": "main", "usp:self::app7": "apps", "lan:anna": "user", "usp:x": ""} {
		if got := p.Class(writer, nil); got != want {
			t.Errorf("%s is %q", writer, got)
		}
	}
	if got := p.Class("usp:x", []string{"WiFiOptimizer"}); got != "apps" {
		t.Errorf("by role: %q", got)
	}
}

func TestBadFiles(t *testing.T) {
	rule := func(s string) string { return "version = 1\n[[rule]]\n" + s }
	for name, c := range map[string]struct{ text, want string }{
		"syntax":         {"version = = 1", "line 1"},
		"version":        {"version = 2", "version 1"},
		"unknown key":    {"version = 1\nfoo = 2", "unknown key foo"},
		"unknown word":   {"version = 1\n[defaults]\non_conflict = \"maybe\"", "maybe"},
		"ttl":            {"version = 1\n[defaults]\nowner_ttl = \"soon\"", "owner_ttl"},
		"tie":            {rule("id='a'\npath='Device.*.Enable'\n[[rule]]\nid='b'\npath='Device.Time.*'"), "equally specific"},
		"no path":        {rule("id='a'"), "either path or resource"},
		"both":           {rule("id='a'\npath='Device.Time.'\nresource='fw'"), "either path or resource"},
		"no id":          {rule("path='Device.Time.'"), "an id"},
		"twice":          {rule("id='a'\npath='Device.Time.'\n[[rule]]\nid='a'\npath='Device.IP.'"), "twice"},
		"class":          {rule("id='a'\npath='Device.Time.'\nwriters=['nobody']"), "nobody"},
		"owner":          {rule("id='a'\npath='Device.Time.'\nowner='cwmp'"), "no class"},
		"phase":          {rule("id='a'\npath='Device.Time.'\nphase.later.writers=['acs']"), "later"},
		"order":          {"version = 1\n[order]\ndual-usp=['boss']", "boss"},
		"sys":            {"version = 1\n[classes]\nsys=['cwmp']", "classes.sys"},
		"deep wildcard":  {rule("id='a'\npath='Device.**.Enable'"), "end only"},
		"not the device": {rule("id='a'\npath='Gerät.'"), "begin with Device"},
		"queue":          {rule("id='a'\npath='Device.Time.'\nqueue=1"), "queue = 1"},
		"long queue":     {rule("id='a'\nresource='fw'\nqueue=99"), "queue = 99"},
		"confirm":        {rule("id='a'\nresource='fw'\nconfirm=true"), "confirm is for"},
		"confirm_within": {"version = 1\n[defaults]\nconfirm_within='2h'", "confirm_within"},
		"large":          {"version = 1\n#" + strings.Repeat("x", MaxFile), "at most"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse(c.text, bridge.PhaseDualCWMP); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestLint(t *testing.T) {
	schema := loadSchema(t)
	if f := parse(t, example).Lint(schema); len(f) != 1 || !strings.Contains(f[0].Text, "BulkData") { // not on the small test device
		t.Errorf("the example: %v", f)
	}
	for name, c := range map[string]struct{ text, want string }{
		"shadowed":  {"[[rule]]\nid='wide'\npath='Device.Time.**'\n[[rule]]\nid='narrow'\npath='Device.Time.*.**'", "rule wide: never counts"},
		"typo":      {"[[rule]]\nid='a'\npath='Device.Tiem.**'", "nothing there"},
		"locked":    {"[[rule]]\nid='a'\npath='Device.ManagementServer.**'\nwriters=['apps']\n[order]\ncwmp-only=['acs']\n[classes]\nnobody=['usp:x']\n[[rule]]\nid='b'\npath='Device.LocalAgent.**'\nwriters=['nobody']", ""},
		"empty":     {"[order]\nshadow=[]", "phase shadow: no class may write"},
		"confirm":   {"[[rule]]\nid='a'\npath='Device.LocalAgent.**'\nconfirm=true", "cannot confirm"},
		"no wait":   {"[[rule]]\nid='a'\nresource='boot'\nqueue=1", "do not wait"},
		"free path": {"[[rule]]\nid='a'\npath='Device.ManagementServer.**'\non_conflict='last'", "depends"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			for _, f := range parse(t, "version = 1\n"+c.text).Lint(schema) {
				got += f.String() + "\n"
			}
			if !strings.Contains(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func loadSchema(t testing.TB) *datamodel.Schema {
	t.Helper()
	s, err := tr181.Load(profile())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func profile() *datamodel.Profile {
	return &datamodel.Profile{Name: "test", Supports: []string{"Device.LocalAgent.", "Device.ManagementServer.", "Device.IP.", "Device.Time.",
		"Device.DeviceInfo.", "Device.DHCPv4.", "Device.PPP."}}
}

// TestLive: a good file takes over and says what it changes, a bad one leaves the one before in force, also over a
// restart. No committed value changes by it (P15).
func TestLive(t *testing.T) {
	ctx := context.Background()
	db := store.OpenMemory(store.Options{})
	defer db.Close()
	file := filepath.Join(t.TempDir(), "policy.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	acs := bridge.Writer{Name: "cwmp", Protocol: datamodel.CWMP, Class: "acs"}
	user := bridge.Writer{Name: "cli", Protocol: datamodel.USP, Class: "user"}
	set := func(e *bridge.Engine, w bridge.Writer, value string) error {
		_, err := e.Apply(ctx, w, bridge.Change{Atomic: true, Ops: []bridge.Op{{Kind: bridge.OpSet, Path: "Device.DeviceInfo.",
			Settings: []bridge.Setting{{Name: "ProvisioningCode", Value: value, Required: true}}}}})
		return err
	}
	open := func() (*bridge.Engine, *Live) {
		t.Helper()
		p, fileErr, err := First(file, bridge.PhaseDualCWMP, db)
		if err != nil {
			t.Fatal(err)
		}
		e, err := bridge.New(bridge.Options{Schema: loadSchema(t), Profile: profile(), Store: db, Arbiter: p.Orders()})
		if err != nil {
			t.Fatal(err)
		}
		l := NewLive(e, file, bridge.PhaseDualCWMP, p, fileErr, slog.New(slog.DiscardHandler))
		if err := e.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if err := l.Start(ctx); err != nil {
			t.Fatal(err)
		}
		return e, l
	}
	if _, _, err := First(file, bridge.PhaseDualCWMP, db); err == nil {
		t.Fatal("a policy out of nothing")
	}
	write("version = 1\nname = 'one'")
	e, l := open()
	if err := set(e, acs, "a"); err != nil {
		t.Fatal(err)
	}
	if err := set(e, user, "b"); err == nil {
		t.Fatal("the user goes before the ACS")
	}
	time.Sleep(1200 * time.Millisecond) // refusals are journaled lazily
	write("version = 1\nname = 'two'\n[defaults]\non_conflict = 'take'")
	report, _, err := l.Reload(ctx)
	if err != nil || report.Differ != 1 || report.Judged != 2 || !strings.Contains(report.First[0].String(), "cli at Device.DeviceInfo.ProvisioningCode: was yield") {
		t.Fatalf("%+v %v", report, err)
	}
	if st := l.Status(); st.Name != "two" || st.Epoch != 2 || st.Status != "Active" {
		t.Fatalf("%+v", st)
	}
	if leaf, _ := db.Head().Leaf("Device.DeviceInfo.ProvisioningCode"); leaf.Value != "a" {
		t.Fatal("loading a policy changed a value")
	}
	if err := set(e, user, "b"); err != nil {
		t.Fatal(err)
	}
	// A rule that would have asked for a confirmation differs, too; the line says so afterwards, and then it does not.
	const confirming = "version = 1\nname = 'two'\n[defaults]\non_conflict = 'take'\nconfirm_within = '1h'\n[[rule]]\nid = 'slow'\npath = 'Device.DeviceInfo.**'\non_conflict = 'take'\nconfirm = true"
	if report, _, err := l.Try(confirming); err != nil || !strings.Contains(fmt.Sprint(report.First), "would be take confirm by rule slow") {
		t.Fatalf("%+v %v", report, err)
	}
	write("version = 1\n[[rule]]")
	if _, _, err := l.Reload(ctx); err == nil {
		t.Fatal("a bad file was loaded")
	}
	if st := l.Status(); st.Name != "two" || st.Status != "Error" || st.LastError == "" {
		t.Fatalf("%+v", st)
	}
	if err := set(e, acs, "c"); err != nil {
		t.Fatal(err)
	}
	rev := db.Head().Rev()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e, l = open() // with the bad file
	defer e.Close()
	if st := l.Status(); st.Name != "two" || st.Epoch != 2 || st.Status != "Error" || db.Head().Rev() != rev {
		t.Fatalf("%+v, revision %d of %d", st, db.Head().Rev(), rev)
	}
}

func TestExplain(t *testing.T) {
	x := parse(t, example).Explain(bridge.PhaseDualCWMP, "Device.IP.Interface.1.Enable", "usp:self::oper-main", "")
	if x.Within != bridge.DefaultConfirm {
		t.Error("no time to confirm:", x.Within)
	}
	if class, v := parse(t, example).ExplainResource(bridge.PhaseDualUSP, "fw", "cwmp", "acs"); class != "acs" || v.Kind != bridge.Yield || v.Rule != "fw" {
		t.Errorf("%s %+v", class, v)
	}
	if x.Class != "main" || x.Rule.ID != "wan" || x.Fresh.Kind != bridge.Yield || len(x.Against) != 4 {
		t.Fatalf("%+v", x)
	}
}

// FuzzParse: whatever comes, an error or a policy that can decide.
func FuzzParse(f *testing.F) {
	f.Add(example)
	f.Add("version = 1\n[[rule]]\nid='a'\npath='Device.{A,B}.*.**'")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(text, bridge.PhaseShadow)
		if err != nil {
			return
		}
		p.Lint(nil)
		for _, phase := range bridge.Phases() {
			p.Explain(phase, "Device.IP.Interface.1.Enable", "cwmp", "acs")
		}
	})
}
