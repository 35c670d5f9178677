package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"twinspan/cwmp/acs"
	"twinspan/cwmp/soap"
)

const (
	object  = "Device.X_TWINSPAN-EXAMPLE_Migration."
	waitFor = 20 * time.Second
	zone    = "Device.Time.LocalTimeZone"
	code    = "Device.DeviceInfo.ProvisioningCode"
)

const testPolicy = `version = 1
name = "test"
[defaults]
confirm_within = "1h"
[[rule]]
id = "wan"
path = "Device.Time.Client.**"
confirm = true
[[rule]]
id = "fw"
resource = "fw"
queue = 2
`

// managed is an agent with an ACS, a policy file and the metrics listener; the command line is its Controller.
type managed struct {
	*running
	acs     *acs.Server
	device  *acs.Device
	policy  string
	metrics string
}

func manage(t *testing.T, phase string) *managed {
	t.Helper()
	server, err := acs.Start(acs.Config{Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	m := &managed{acs: server, policy: filepath.Join(t.TempDir(), "policy.toml"), metrics: l.Addr().String()}
	m.write(t, testPolicy)
	m.running = configure(t, "")
	text := fmt.Sprintf("data = %q\n[device]\nserial_number = \"TEST1\"\n[bridge]\nphase = %q\npolicy = %q\nmetrics_listen = %q\n[bridge.migration]\ncheck_interval = \"100ms\"\n"+
		"[cwmp]\nurl = %q\nallow_plaintext = true\nconnection_request_listen = \"127.0.0.1:0\"\n[log]\nlevel = \"error\"\n[factory]\n"+
		"\"Device.ManagementServer.ConnectionRequestUsername\" = \"u\"\n\"Device.ManagementServer.ConnectionRequestPassword\" = \"p\"\n\"Device.Time.Client.1.Alias\" = \"cpe-1\"\n",
		m.data, phase, m.policy, m.metrics, server.URL())
	if err := os.WriteFile(m.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m.start()
	ctx, cancel := context.WithTimeout(t.Context(), waitFor)
	defer cancel()
	if m.device, err = server.WaitDevice(ctx); err != nil {
		t.Fatal(err, m.log)
	}
	m.device.SetConnectionRequestAuth("u", "p")
	if err := m.device.WaitIdle(ctx, 1); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *managed) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(m.policy, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// session has the ACS call in a session of its own.
func (m *managed) session(do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(m.t.Context(), waitFor)
	defer cancel()
	n := m.device.Sessions()
	release := m.device.Hold()
	var err error
	for ctx.Err() == nil { // a session may be ending
		if err = m.device.ConnectionRequest(ctx); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err == nil {
		err = do(ctx)
	}
	release()
	if idle := m.device.WaitIdle(ctx, n+1); idle != nil {
		m.t.Fatal("the session does not end:", idle)
	}
	return err
}

func (m *managed) spv(pairs ...string) error {
	req := &soap.SetParameterValues{ParameterKey: "k"}
	for i := 0; i+1 < len(pairs); i += 2 {
		req.ParameterList = append(req.ParameterList, soap.ParameterValue{Name: pairs[i], Value: pairs[i+1]})
	}
	return m.session(func(ctx context.Context) error {
		_, err := m.device.Call(ctx, req)
		var f *soap.Fault
		if errors.As(err, &f) {
			for _, p := range f.SetParameterValuesFault {
				err = fmt.Errorf("%w; %s %d %s", err, p.ParameterName, p.FaultCode, p.FaultString)
			}
		}
		return err
	})
}

// gpv reads below a path as the ACS does.
func (m *managed) gpv(path string) map[string]string {
	m.t.Helper()
	out := map[string]string{}
	err := m.session(func(ctx context.Context) error {
		vs, err := m.device.GetValues(ctx, path)
		for _, v := range vs {
			out[v.Name] = v.Value
		}
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

// get reads below a path over USP.
func (m *managed) get(path string) map[string]string {
	m.t.Helper()
	out := map[string]string{}
	if err := json.Unmarshal([]byte(m.must("get", "--json", path)), &out); err != nil {
		m.t.Fatal(err)
	}
	return out
}

// until repeats a look until it pleases.
func until(t *testing.T, what string, look func() bool) {
	t.Helper()
	for end := time.Now().Add(waitFor); !look(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not in time:", what)
		}
	}
}

// listen collects what a verb prints until the returned function ends it.
func (m *managed) listen(args ...string) *safeBuffer {
	m.t.Helper()
	out := &safeBuffer{}
	ctx, cancel := context.WithCancel(m.t.Context())
	done := make(chan int, 1)
	before := strings.Count(m.must("instances", subscriptionTable), "\n")
	go func() {
		done <- dispatch(ctx, append([]string{"watch", "--socket", filepath.Join(m.data, "twinspan.sock"), "--json"}, args...), out, out)
	}()
	m.t.Cleanup(func() { cancel(); <-done })
	until(m.t, "the subscription", func() bool { return strings.Count(m.must("instances", subscriptionTable), "\n") > before })
	return out
}

// events of a name that were printed.
func events(t *testing.T, out *safeBuffer, name string) (list []map[string]string) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(out.String()))
	for {
		var n notification
		if err := dec.Decode(&n); err != nil {
			return list
		}
		if n.Path == object+name {
			list = append(list, n.Args)
		}
	}
}

// TestProvisional: commit-confirmed writes over both protocols and the command line, by wish and by policy.
func TestProvisional(t *testing.T) {
	m := manage(t, "dual-cwmp")
	m.write(t, testPolicy+"[[rule]]\nid='code'\npath='Device.DeviceInfo.'\non_conflict='take'\n")
	m.must("policy", "reload")
	told := m.listen("--type", "Event", object)

	// The command line: put back by hand, by its deadline, confirmed.
	m.must("set", "--confirm", "600s@mine", zone+"=UTC1")
	if out := m.must("confirm"); !strings.HasPrefix(out, "mine: revision ") || !strings.Contains(out, "of cli waits ") || !strings.Contains(out, zone) {
		t.Errorf("confirm: %q", out)
	}
	if err := m.spv(zone, "UTC9"); err == nil || !strings.Contains(err.Error(), "9001") || !strings.Contains(err.Error(), "waits for confirmation") {
		t.Errorf("the ACS inside the window of another: %v", err)
	}
	m.must("confirm", "--cancel", "mine")
	if v := m.get(zone)[zone]; v != "" {
		t.Errorf("after the cancellation: %q", v)
	}
	m.must("set", "--confirm", "1s", zone+"=UTC2")
	until(t, "the deadline", func() bool { return m.get(zone)[zone] == "" })
	m.must("set", "--confirm", "600s@again", zone+"=UTC3")
	m.must("confirm", "again")
	if v := m.get(zone)[zone]; v != "UTC3" {
		t.Errorf("confirmed and gone: %q", v)
	}
	for _, bad := range []string{"0s", "soon", "100h", "60s@a b"} {
		if status, _, errOut := m.do("set", "--confirm", bad, zone+"=UTC4"); status == exitDone {
			t.Errorf("--confirm %s was taken", bad)
		} else if v := m.get(zone)[zone]; v != "UTC3" {
			t.Errorf("--confirm %s: %s, and yet %q", bad, errOut, v)
		}
	}

	// The ACS asks for it in the same SetParameterValues, and confirms in its next session.
	if err := m.spv(code, "x", object+"ConfirmWithin", "600@acs"); err != nil {
		t.Fatal(err)
	}
	if out := m.gpv(object + "Confirmation."); len(out) != 5 {
		t.Errorf("the window as the ACS reads it: %v", out)
	}
	if status, _, errOut := m.do("set", code+"=y"); status != exitFailed || !strings.Contains(errOut, "7813") {
		t.Errorf("the user inside the window of the ACS: %d %s", status, errOut)
	}
	if err := m.spv(object+"ConfirmChange", "acs"); err != nil {
		t.Fatal(err)
	}
	until(t, "the confirmation", func() bool { return m.must("confirm") == "" })
	if v := m.get(code)[code]; v != "x" {
		t.Errorf("confirmed and gone: %q", v)
	}

	// The policy asks for it. Without an ID the ACS means what it waits for.
	const server = "Device.Time.Client.1.Servers"
	if err := m.spv(server, "ntp1.example"); err != nil {
		t.Fatal(err)
	}
	if err := m.spv(server, "ntp2.example"); err != nil {
		t.Fatal(err)
	}
	if err := m.spv(object+"CancelChange", "1"); err != nil {
		t.Fatal(err)
	}
	until(t, "the rollback", func() bool { return m.get(server)[server] == "" })
	m.must("set", server+"=ntp3.example")
	var rows []map[string]string
	if err := json.Unmarshal([]byte(m.must("confirm", "--json")), &rows); err != nil || len(rows) != 1 || rows[0]["Writer"] != "cli" {
		t.Fatalf("%v %v", rows, err)
	}

	// A restart inside the window puts back first.
	until(t, "ConfirmRequired!", func() bool { return len(events(t, told, "ConfirmRequired!")) == 7 })
	if status := m.end(); status != exitDone {
		t.Fatal(status)
	}
	m.start()
	until(t, "the agent", func() bool { status, _, _ := m.do("get", server); return status == exitDone })
	if v := m.get(server)[server]; v != "" {
		t.Errorf("after the restart: %q", v)
	}
	back := events(t, told, "RolledBack!")
	want := []string{"cli by cli", "cli by deadline", "cwmp by cwmp"}
	if len(back) != len(want) {
		t.Fatalf("%d times put back: %v", len(back), back)
	}
	for i, b := range back {
		if b["By"]+" by "+b["Cause"] != want[i] || b["ID"] == "" || b["Paths"] == "" || b["Revision"] == "" {
			t.Errorf("%v, want %s", b, want[i])
		}
	}
	if v := m.acs.Violations(); len(v) > 0 {
		t.Error(v)
	}
}

// TestBridgeEvents: subscribers are told of lost ownership, of drift and of policies, once each.
func TestBridgeEvents(t *testing.T) {
	m := manage(t, "dual-cwmp")
	told := m.listen("--type", "Event", object)
	m.must("set", code+"=user", zone+"=UTC1")
	if err := m.spv(code, "acs", zone, "UTC2"); err != nil {
		t.Fatal(err)
	}
	if err := m.spv(code, "acs2"); err != nil { // its own by now
		t.Fatal(err)
	}
	m.write(t, testPolicy+"[[rule]]\nid='user'\npath='Device.DeviceInfo.'\non_conflict='take'\n")
	m.must("policy", "reload")
	m.write(t, "version = 9")
	if status, _, _ := m.do("policy", "reload"); status != exitFailed {
		t.Error("a bad policy was loaded")
	}
	m.must("set", code+"=again")
	until(t, "the events", func() bool { return len(events(t, told, "OwnershipLost!")) >= 2 })
	lost := events(t, told, "OwnershipLost!")
	if len(lost) != 2 || lost[0]["Owner"] != "cli" || lost[0]["By"] != "cwmp" || lost[0]["Count"] != "2" || !strings.Contains(lost[0]["Paths"], code) ||
		lost[1]["Owner"] != "cwmp" || lost[1]["By"] != "cli" || lost[1]["Rule"] != "user" || lost[1]["Paths"] != code {
		t.Errorf("%v", lost)
	}
	loaded := events(t, told, "PolicyReloaded!")
	if len(loaded) != 2 || loaded[0]["Status"] != "Active" || loaded[0]["Epoch"] != "2" || loaded[0]["Error"] != "" ||
		loaded[1]["Status"] != "Error" || !strings.Contains(loaded[1]["Error"], "version") || loaded[1]["Epoch"] != "2" {
		t.Errorf("%v", loaded)
	}
}

// TestBridgeVerbs: every verb about arbitration and migration, for people and as JSON.
func TestBridgeVerbs(t *testing.T) {
	m := manage(t, "dual-cwmp")
	if err := m.spv(code, "acs"); err != nil {
		t.Fatal(err)
	}
	if status, _, errOut := m.do("set", code+"=user"); status != exitFailed || !strings.Contains(errOut, "7810") {
		t.Fatal(status, errOut)
	}
	m.must("set", zone+"=UTC1")
	m.must("operate", object+"AcquireLease()", "Paths="+zone, "Duration=60")
	for _, c := range []struct {
		args []string
		want string // a regular expression for the readable form
		json string // something in the JSON
	}{
		{[]string{"conflicts"}, `Count=1  Path=` + code + `  Loser=cli  Winner=cwmp  Rule=default`, `"Loser": "cli"`},
		{[]string{"owners", "Device.DeviceInfo."}, `Path=` + code + `  Writer=cwmp  Class=acs`, `"Writer": "cwmp"`},
		{[]string{"owners", "--offset", "1"}, `Path=` + zone + `  Writer=cli`, `"Class": "user"`},
		{[]string{"leases"}, `Writer=cli  Paths=` + zone + `  Expires=20`, `"Contended": "false"`},
		{[]string{"phase"}, `phase dual-cwmp, epoch \d+, acs goes first`, `"phase": "dual-cwmp"`},
		{[]string{"gates"}, `dual-usp: (Inconclusive|Fail|Pass)`, `"Name": "usp_session"`},
		{[]string{"drift"}, `^$`, `[]`},
		{[]string{"convergence"}, `the ACS asserted 1 leaves, USP 0, both 0; they agree on 0\n(?s:.*)acs-only   ` + code + ` = "acs"`, `"acs_asserted": 1`},
		{[]string{"journal", "--path", code}, `cwmp .* set .*\n +set ` + code + `: "[^"]*" -> "acs"  \[allow by rule default\]`, `"writer": "cwmp"`},
		{[]string{"policy", "explain", "Device.Time.Client.1.Servers", "cwmp"}, `cwmp is of class acs, rule wan \(on_conflict = priority\)(?s:.*)within 3600 s`, `"ConfirmWithin": "3600"`},
		{[]string{"policy", "explain", "fw", "cwmp"}, `cwmp is of class acs: allow by rule fw, up to 2 wait`, `"Queue": "2"`},
		{[]string{"policy", "simulate", m.policy}, `0 of \d+ verdicts in the last \d+ entries`, `"Differ": "0"`},
		{[]string{"policy", "reload"}, `0 of \d+ verdicts`, `"Differ": "0"`},
		{[]string{"policy", "check", m.policy}, `policy "test", 2 rules, hash [0-9a-f]{16}`, ""},
		{[]string{"confirm"}, `^$`, `[]`},
		{[]string{"phase", "hold", "--reason", "weekend"}, `held: cli weekend`, `"held": true`},
		{[]string{"phase", "release"}, `acs goes first\n$`, `"held": false`},
	} {
		name := strings.Join(c.args, " ")
		var out string
		until(t, name, func() bool { // refusals are journaled within a second
			out = m.must(c.args[0], c.args[1:]...)
			return regexp.MustCompile(c.want).MatchString(out)
		})
		if c.json == "" {
			continue
		}
		out = m.must(c.args[0], append([]string{"--json"}, c.args[1:]...)...)
		if !json.Valid([]byte(out)) || !strings.Contains(out, c.json) {
			t.Errorf("%s --json: %s; want %s", name, out, c.json)
		}
	}
	for _, args := range [][]string{{"policy"}, {"policy", "frobnicate"}, {"confirm", "a", "b"}, {"leases", "x", "--nonsense"}, {"phase", "--nonsense"}} {
		if status, _, _ := m.do(args[0], args[1:]...); status != exitUsage {
			t.Errorf("%v: exit %d", args, status)
		}
	}
	for _, args := range [][]string{{"phase", "sideways"}, {"policy", "explain", "Device.Nonsense", "cwmp"}, {"confirm", "nothing"}, {"policy", "check", "/nonexistent"}} {
		if status, _, errOut := m.do(args[0], args[1:]...); status != exitFailed || errOut == "" {
			t.Errorf("%v: exit %d %q", args, status, errOut)
		}
	}
}

// TestVendorObjectInBothProtocols: the ACS and a Controller read the same of the maker's object, and each finds its own
// triggers there.
func TestVendorObjectInBothProtocols(t *testing.T) {
	m := manage(t, "dual-cwmp")
	if err := m.spv(code, "acs"); err != nil {
		t.Fatal(err)
	}
	_, _, _ = m.do("set", code+"=user") // refused
	moving := map[string]bool{"Value": true, "Samples": true, "Status": true, "FailedChecks": true, "Failed": true, "Inconclusive": true, "Revision": true, "LastSession": true}
	var fromACS, fromUSP map[string]string
	until(t, "both views the same", func() bool {
		fromUSP, fromACS = m.get(object), m.gpv(object)
		for path, v := range fromUSP {
			name := path[strings.LastIndexByte(path, '.')+1:]
			if w, ok := fromACS[path]; !ok || w != v && !moving[name] && !strings.HasPrefix(path, object+"Journal.") {
				if !strings.HasPrefix(path, object+"Journal.") {
					return false
				}
			}
		}
		return true
	})
	for _, name := range []string{"Phase", "Epoch", "PrimaryClass", "Held", "Kpi.1.Name", "Gate.1.Status", "Owner.1.Path", "Conflict.1.Loser", "Journal.", "Writer.1.Name", "KpiNumberOfEntries"} {
		found := false
		for path := range fromACS {
			found = found || strings.HasPrefix(path, object+name)
		}
		if !found {
			t.Errorf("%s is not there", name)
		}
	}
	if cwmp := m.get(object + "CWMP."); cwmp[object+"CWMP.Enabled"] != "true" || cwmp[object+"CWMP.LastSessionOK"] != "true" || cwmp[object+"CWMP.RescueReady"] != "false" ||
		len(cwmp[object+"CWMP.ACSURLHash"]) != 16 || cwmp[object+"CWMP.LastSession"] == "" {
		t.Errorf("what Controllers know of the CWMP side: %v", cwmp)
	}
	// Triggers: command parameters here, commands there.
	names := map[string]bool{}
	if err := m.session(func(ctx context.Context) error {
		resp, err := m.device.Call(ctx, &soap.GetParameterNames{ParameterPath: object, NextLevel: true})
		if r, ok := resp.(*soap.GetParameterNamesResponse); ok {
			for _, p := range r.ParameterList {
				names[strings.TrimPrefix(p.Name, object)] = p.Writable
			}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	model := m.must("schema", object)
	for trigger, command := range map[string]string{"RequestedPhase": "RequestPhase()", "Confirm": "Confirm()", "Rollback": "Rollback()", "Hold": "Hold()", "Release": "Release()",
		"ConfirmChange": "ConfirmChange()", "CancelChange": "CancelChange()", "IfRevision": "IfRevision", "ConfirmWithin": "ConfirmWithin"} {
		if !names[trigger] {
			t.Errorf("the ACS has no %s to write", trigger)
		}
		if !strings.Contains(model, command) {
			t.Errorf("USP has no %s", command)
		}
	}
	for event := range map[string]bool{"PhaseChanged!": true, "ConfirmRequired!": true, "RolledBack!": true, "Conflict!": true, "OwnershipLost!": true, "DriftDetected!": true,
		"GateFailed!": true, "PolicyReloaded!": true, "RescueEntered!": true} {
		if !strings.Contains(model, event) {
			t.Errorf("USP has no %s", event)
		}
	}
	if err := m.spv(code, "acs3", object+"IfRevision", "1@"+code); err == nil || !strings.Contains(err.Error(), "9007") {
		t.Errorf("a guard that does not hold: %v", err)
	}
	if err := m.spv(object+"Hold", "by the ACS"); err != nil {
		t.Fatal(err)
	}
	until(t, "the hold", func() bool { return m.get(object + "Held")[object+"Held"] == "true" })
	if err := m.spv(object+"RequestedPhase", "sideways"); err == nil {
		t.Error("a phase that is none")
	}
	if v := m.acs.Violations(); len(v) > 0 {
		t.Error(v)
	}
}

// TestJournalIsALogFile: both sides fetch the whole journal by the standard means for log files; secrets are hashes in it.
func TestJournalIsALogFile(t *testing.T) {
	if !haveDiag {
		t.Log("without the diagnostics there is no Upload() over USP")
	}
	files := make(chan string, 8)
	depot := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		files <- string(b)
	}))
	t.Cleanup(func() { depot.CloseClientConnections(); depot.Close() }) // after the agent
	m := manage(t, "dual-cwmp")
	if err := m.spv(code, "acs", "Device.ManagementServer.ConnectionRequestPassword", "p", "Device.ManagementServer.STUNPassword", "ge heim\nrev=1"); err != nil {
		t.Log("no STUN in this build or profile:", err)
		if err := m.spv(code, "acs"); err != nil {
			t.Fatal(err)
		}
	}
	m.must("set", zone+"=x\n2026-01-01T00:00:00.000Z rev=1 writer=forged")
	check := func(how string) {
		t.Helper()
		select {
		case text := <-files:
			for _, want := range []string{" writer=cwmp kind=set", "set " + code + `: "" -> "acs"  [allow by rule default]`, " writer=sys:factory "} {
				if !strings.Contains(text, want) {
					t.Errorf("%s: no %q in\n%s", how, want, text)
				}
			}
			if strings.Contains(text, "\n2026-01-01") || strings.Contains(text, "ge heim") || strings.Contains(text, `"p"`) {
				t.Errorf("%s: a forged line or a secret:\n%s", how, text)
			}
			if n := strings.Count(text, "\n2"); n < 2 {
				t.Errorf("%s: %d entries", how, n+1)
			}
		case <-time.After(waitFor):
			t.Fatal(how, "sends nothing")
		}
	}
	for _, kind := range []string{"2 Vendor Log File", "4 Vendor Log File 1"} {
		if err := m.session(func(ctx context.Context) error {
			_, err := m.device.Call(ctx, &soap.Upload{CommandKey: kind, FileType: kind, URL: depot.URL + "/log"})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		check(kind)
	}
	if err := m.session(func(ctx context.Context) error {
		_, err := m.device.Call(ctx, &soap.Upload{CommandKey: "none", FileType: "4 Vendor Log File 9", URL: depot.URL + "/none"})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	until(t, "three reports", func() bool { return len(m.device.TransferCompletes()) == 3 })
	if last := m.device.TransferCompletes()[2]; last.FaultStruct.FaultCode == 0 {
		t.Errorf("a log file that is not there: %+v", last)
	}
	if haveDiag {
		rows := m.get("Device.DeviceInfo.VendorLogFile.")
		if rows["Device.DeviceInfo.VendorLogFile.1.Name"] != "journal" {
			t.Fatalf("%v", rows)
		}
		m.must("operate", "Device.DeviceInfo.VendorLogFile.1.Upload()", "URL="+depot.URL+"/usp", "Username=", "Password=")
		check("Upload()")
	}
}

// TestMetrics: one scrape at a time, as Prometheus reads it; everything else is refused.
func TestMetrics(t *testing.T) {
	m := manage(t, "dual-cwmp")
	resp, err := http.Get("http://" + m.metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatal(err, resp.Status, resp.Header)
	}
	sample := regexp.MustCompile(`^([a-z_]+)(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? (\S+)$`)
	types, seen := map[string]bool{}, map[string]bool{}
	for _, line := range strings.Split(strings.TrimSpace(string(body)), "\n") {
		if f := strings.Fields(line); strings.HasPrefix(line, "# TYPE ") && len(f) == 4 {
			types[f[2]] = true
			continue
		} else if strings.HasPrefix(line, "#") {
			continue
		}
		p := sample.FindStringSubmatch(line)
		if p == nil {
			t.Fatalf("not a sample: %q", line)
		}
		if _, err := strconv.ParseFloat(p[4], 64); err != nil {
			t.Errorf("%q: %v", line, err)
		}
		if !types[p[1]] {
			t.Errorf("%s has no TYPE", p[1])
		}
		if key := p[1] + p[2]; seen[key] {
			t.Errorf("%s is there twice", key)
		} else {
			seen[key] = true
		}
	}
	for _, k := range []string{"usp_session", "cwmp_session", "conflict_rate", "damped", "agreement", "dual-cwmp"} {
		if !strings.Contains(string(body), `"`+k+`"`) {
			t.Errorf("no %s in\n%s", k, body)
		}
	}
	for _, request := range []string{"POST /metrics HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET /metrics/x HTTP/1.0\r\n\r\n", strings.Repeat("x", 9<<10) + "\r\n\r\n"} {
		c, err := net.Dial("tcp", m.metrics)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(waitFor))
		_, _ = io.WriteString(c, request)
		answer, _ := io.ReadAll(c)
		c.Close()
		if strings.Contains(string(answer), "200 OK") || strings.Contains(string(answer), "usp_session") {
			t.Errorf("%.20q was answered %.60q", request, answer)
		}
	}
	if resp, err := http.Get("http://" + m.metrics + "/metrics"); err != nil || resp.StatusCode != 200 {
		t.Error("it does not answer any more:", err)
	} else {
		resp.Body.Close()
	}
	http.DefaultClient.CloseIdleConnections()
}
