package conformcwmp

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"twinspan/cmd/internal/conform"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if builtIn != "" {
		_ = os.RemoveAll(builtIn)
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

var builtIn string

// agentBinary builds the agent once for all tests.
var agentBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "twinspan-conform-test-")
	if err != nil {
		return "", err
	}
	builtIn = dir
	return BuildAgent(dir)
})

func agentOptions(t *testing.T) Options {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and runs the agent")
	}
	binary, err := agentBinary()
	if err != nil {
		t.Fatal(err)
	}
	return Options{Parallel: 6, NewDriver: func() (Driver, error) { return newAgentDriver(binary) }}
}

func TestCatalogueIsCovered(t *testing.T) {
	rows, err := Catalogue()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) < 249 {
		t.Errorf("only %d rows", len(rows))
	}
	known := map[string]bool{}
	for _, r := range rows {
		known[r.ID] = true
		c, ok := checks()[r.ID]
		switch {
		case !ok:
			t.Errorf("%s has no check and no reason why", r.ID)
		case (c.run == nil) == (c.verdict == nil):
			t.Errorf("%s needs either a function or a verdict", r.ID)
		}
		if r.Title == "" || !strings.Contains("MSOD", r.Level) || !strings.HasPrefix(r.ID, r.Area+"-") {
			t.Errorf("row %+v", r)
		}
	}
	for id := range checks() {
		if !known[id] {
			t.Errorf("the check %s has no row", id)
		}
	}
}

// quick are checks of every area that take a second at most.
const quick = "SES-0*,SES-1[1-9],SES-2[12],SES-29,SES-3*,HTTP-0[24],HTTP-1[1367],HTTP-2[1245],TLS-08,INF-0[2356],INF-1[0-2],EVT-0[1-4],EVT-1[0-4],EVT-16," +
	"RTY-0[569],VER-*,CR-0[16],CR-1[3-8],RPC-*,GPN-*,GPV-*,SPV-*,ATT-0*,ATT-1[0-7],ADD-*,ALI-*,DL-0[1-5],DL-1*,DL-2*,UL-*,RB-*,FR-01,SI-02,PER-05,IPT-*,SEC-03,COEX-0[15],SDL-0[24],CAN-02,QUE-*,HBT-02,DIA-02,DIA-1*,DU-0[1-4],OWN-0[239],OWN-1[02],OWN-2[03567],OWN-3[01],OWN-4*,OWN-54"

func TestAgentConforms(t *testing.T) {
	o := agentOptions(t)
	all, err := Catalogue()
	if err != nil {
		t.Fatal(err)
	}
	picked, err := conform.Select(all, quick)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, c := range picked {
		// Waits are the business of the whole run: `twinspan-lab conform cwmp`.
		if !map[string]bool{"SES-18": true, "EVT-12": true, "EVT-14": true, "ADD-04": true, "INF-11": true, "SES-10": true}[c.ID] {
			ids = append(ids, c.ID)
		}
	}
	o.Only = strings.Join(ids, ",")
	began := time.Now()
	report, err := Conformance(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s in %.1f s", report.Summary(), time.Since(began).Seconds())
	for _, r := range report.Results() {
		if r.Verdict == conform.Fail {
			t.Errorf("%s %s: %s\n%s", r.ID, r.Title, r.Reason, strings.Join(r.Observed, "\n"))
		}
	}
	if n := report.Count(); n[conform.Pass] < len(ids)*3/4 {
		t.Errorf("only %d of %d pass", n[conform.Pass], len(ids))
	}
}

// in replaces text in messages of one method.
func in(method, old, with string) func(x *exchange) {
	return func(x *exchange) {
		if x.method() == method {
			x.Body = bytes.ReplaceAll(x.Body, []byte(old), []byte(with))
		}
	}
}

// match replaces a pattern in messages of one method.
func match(method, pattern, with string) func(x *exchange) {
	re := regexp.MustCompile(pattern)
	return func(x *exchange) {
		if x.method() == method {
			x.Body = re.ReplaceAll(x.Body, []byte(with))
		}
	}
}

// asked replaces a pattern in requests of one method on their way to the CPE.
func asked(method, pattern, with string) func(x *exchange) {
	re := regexp.MustCompile(pattern)
	return func(x *exchange) {
		if x.Raw == nil && bytes.Contains(x.RespBody, []byte(method)) {
			x.RespBody = re.ReplaceAll(x.RespBody, []byte(with))
		}
	}
}

// openDoor is a connection request server that takes everything, for CPEs that tell its address.
func openDoor(t *testing.T) func(x *exchange) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(s.Close)
	return match("Inform", `(ConnectionRequestURL</Name>\s*<Value[^>]*>)[^<]*`, "${1}"+s.URL+"/guess-me-if-you-can")
}

// TestPlantedFaults shows for every area that a check of it turns red when the CPE misbehaves.
func TestPlantedFaults(t *testing.T) {
	o := agentOptions(t)
	var secret atomic.Pointer[string]
	plants := map[string]func(x *exchange){
		"SES-04": in("GetParameterValuesResponse", "é-1</cwmp:ID>", "e-1</cwmp:ID>"),
		"SES-21": func(x *exchange) {
			x.Header.Set("Cookie", strings.ReplaceAll(x.Header.Get("Cookie"), "two=2", "two=3"))
		},
		"HTTP-04": func(x *exchange) { // another body at the new place
			if x.Path == "/elsewhere" {
				x.Body = bytes.Replace(x.Body, []byte("<MaxEnvelopes>1</MaxEnvelopes>"), []byte("<MaxEnvelopes>1</MaxEnvelopes> "), 1)
			}
		},
		"TLS-06": nil, // lenient
		"INF-02": in("Inform", "RootDataModelVersion", "RootDataModelVersio"),
		"INF-06": in("Inform", "EventStruct[", "EventStruct[1"),
		"EVT-01": in("Inform", "0 BOOTSTRAP", "2 PERIODIC"),
		"EVT-21": match("Inform", `<EventCode>6 CONNECTION REQUEST</EventCode>`, "<EventCode>3 SCHEDULED</EventCode>"),
		"RTY-06": match("Inform", `<RetryCount>[0-9]+<`, "<RetryCount>0<"),
		"VER-06": match("Inform", `urn:dslforum-org:cwmp-1-2`, "urn:dslforum-org:cwmp-1-4"),
		"CR-01":  openDoor(t),
		"RPC-05": in("Fault", "CWMP fault", "CWMP Fault"),
		"GPN-04": in("GetParameterNamesResponse", "Device.DeviceInfo.SerialNumber", "Device.DeviceInfo.Serial"),
		"GPV-12": match("GetParameterValuesResponse", `(xsd:boolean">)[^<]*`, "${1}yes"),
		"GPV-17": in("GetParameterValuesResponse", "&lt;", "&amp;lt;"),
		"SPV-03": in("Fault", "9008", "9007"),
		"ATT-05": in("GetParameterAttributesResponse", "<Notification>1<", "<Notification>2<"),
		"ADD-01": match("AddObjectResponse", `<InstanceNumber>[0-9]+<`, "<InstanceNumber>99<"),
		"ALI-01": match("Inform", `(AliasBasedAddressing</Name>\s*<Value[^>]*>)[^<]*`, "${1}maybe"),
		"DL-20":  match("TransferComplete", `(?s)(<StartTime>.*</StartTime>)(\s*)(<CompleteTime>.*</CompleteTime>)`, "$3$2$1"),
		"UL-04":  in("Fault", "9003", "9002"),
		"RB-03": func(x *exchange) {
			in("Fault", "9003", "9001")(x)
			in("Inform", strings.Repeat("k", 33), strings.Repeat("k", 32))(x)
		},
		"FR-01":  in("Inform", "0 BOOTSTRAP", "2 PERIODIC"),
		"SI-02":  in("Fault", "9003", "9002"),
		"PER-05": in("Fault", "9007", "9006"),
		"IPT-02": in("Inform", "DeviceInfo.UpTime", "DeviceInfo.Up"),
		"SEC-03": in("GetParameterValuesResponse", "by-the-acs", "by-the-user"),
		"SDL-02": in("Fault", "9003", "9002"),
		"CAN-02": in("CancelTransferResponse", "cwmp:CancelTransferResponse", "cwmp:CancelTransferDone"),
		"QUE-01": in("GetAllQueuedTransfersResponse", "<State>1<", "<State>2<"),
		"HBT-02": in("Fault", "9007", "9006"),
		"DIA-15": func(x *exchange) {
			in("Fault", "9007", "9006")(x)
			in("GetParameterValuesResponse", ">None<", ">Complete<")(x)
		},
		"COEX-01": in("Inform", ">mine<", ">other<"),
		"DISC-04": in("Inform", "0 BOOTSTRAP", "2 PERIODIC"),
		"DU-03":   in("DUStateChangeComplete", ">9028<", ">9001<"),
		"STUN-04": in("Inform", "6 CONNECTION REQUEST", "3 SCHEDULED"),
		"BLK-01":  match("GetParameterValuesResponse", `(BulkData\.Protocols</Name>\s*<Value[^>]*>)[^<]*`, "${1}HTTP"), // said, not done
		"OWN-02": func(x *exchange) {
			if c := x.Header.Get("Cookie"); c != "" {
				x.Header.Set("Cookie", c+"; gone=1")
			}
		},
		"OWN-26": in("GetParameterValuesResponse", "two  spaces", "two spaces"),
		"OWN-43": match("Fault", `(?s)(<SetParameterValuesFault>.*</SetParameterValuesFault>)`, "$1$1"),
		"OWN-47": func(x *exchange) { // what answers caught
			if s := secret.Load(); s != nil {
				match("GetParameterValuesResponse", `(ManagementServer\.ConnectionRequestPassword</Name>\s*<Value[^>]*>)`, "${1}"+*s)(x)
			}
		},
	}
	// What the CPE gets is changed behind the runner's back, as if it did something else than it was asked.
	answers := map[string]func(x *exchange){
		"ATC-02": asked("SetParameterValues", `(AutonomousTransferCompletePolicy\.Enable</Name>\s*<Value[^>]*>)false`, "${1}true"),
		"OWN-47": func(x *exchange) {
			if s := regexp.MustCompile(`S3cret-[A-Z0-9]+`).FindString(string(x.RespBody)); s != "" {
				secret.Store(&s)
			}
		},
		"LWN-02": asked("SetParameterValues", `(LightweightNotificationProtocolsUsed</Name>\s*<Value[^>]*>)(</Value>)`, "${1}UDP$2"),
		"OWN-21": asked("SetParameterValues", `(?s)<cwmp:SetParameterValues.*</cwmp:SetParameterValues>(<cwmp:SetParameterValues)`, "$1"),
		"OWN-20": asked("SetParameterValues", ` soap-env:mustUnderstand="1">1</x:Deal>`, ">1</x:Deal>"),
		"OWN-22": asked("SetParameterValues", `<!DOCTYPE soap-env:Envelope>`, ""),
	}
	planted := map[string]bool{}
	all, err := Catalogue()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if _, ok := plants[c.ID]; ok || answers[c.ID] != nil {
			planted[c.Area] = true
		}
	}
	for _, c := range all {
		if !planted[c.Area] {
			t.Errorf("area %s has no planted fault", c.Area)
			planted[c.Area] = true
		}
	}
	limit := make(chan struct{}, 6)
	var wg sync.WaitGroup
	for id := range answers {
		if _, both := plants[id]; !both {
			plants[id] = nil
		}
	}
	for id, plant := range plants {
		wg.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			o := o
			o.Only, o.Parallel, o.plant, o.plantAnswer = id, 1, plant, answers[id]
			o.lenient = plant == nil && o.plantAnswer == nil
			report, err := Conformance(t.Context(), o)
			if err != nil {
				t.Errorf("%s: %v", id, err)
				return
			}
			if r := report.Results(); len(r) != 1 || r[0].Verdict != conform.Fail || strings.Contains(r[0].Reason, "preparing the CPE") {
				t.Errorf("%s does not notice the planted fault: %+v", id, r)
			} else {
				t.Logf("%s: %s", id, r[0].Reason)
			}
			if report.Err() == nil {
				t.Errorf("%s: the run is said to be fine", id)
			}
		})
	}
	wg.Wait()
}

func TestRunArguments(t *testing.T) {
	for _, args := range [][]string{{"--only", "NO-SUCH", "--agent", "/nowhere"}, {"--wait"}, {"stray"}, {"--agent", "/nowhere/twinspan", "--only", "SES-04"}, {"--listen", ":1", "--agent", "/x"}, {"--unknown"}} {
		var out bytes.Buffer
		if err := Run(t.Context(), args, &out); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
	var out bytes.Buffer
	if err := Run(t.Context(), []string{"--list", "--only", "GPN-*"}, &out); err != nil || strings.Count(out.String(), "\n") != 12 {
		t.Errorf("%v\n%s", err, &out)
	}
}

// TestOneCPE drives the agent as any other CPE: by a shell command, one CPE for all checks.
func TestOneCPE(t *testing.T) {
	o := agentOptions(t)
	binary, err := agentBinary()
	if err != nil || o.Parallel == 0 {
		t.Fatal(err)
	}
	dir := t.TempDir()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`#!/bin/sh
umask 077
printf '%%s' "$ACS_PASSWORD" > %[1]s/password
cat > %[1]s/agent.toml <<END
[device]
serial_number = "ONE"
[cwmp]
url = "$ACS_URL"
password_file = "%[1]s/password"
allow_plaintext = true
connection_request_listen = "127.0.0.1:%[2]s"
[usp]
enabled = false
END
exec %[3]s run --config %[1]s/agent.toml --data %[1]s/data
`, dir, port, binary)
	name := filepath.Join(dir, "start")
	if err := os.WriteFile(name, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	json, md := filepath.Join(dir, "report.json"), filepath.Join(dir, "report.md")
	err = Run(ctx, []string{"--cpe-command", name, "--only", "GPN-03,SPV-03,EVT-02,ATT-17,FR-01", "--json", json, "--markdown", md}, &out)
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if !strings.Contains(out.String(), "3 pass, 0 fail, 0 not applicable, 2 not shown") {
		t.Errorf("%s", &out)
	}
	for _, f := range []string{json, md} {
		if b, err := os.ReadFile(f); err != nil || !bytes.Contains(b, []byte("SPV-03")) {
			t.Errorf("%s: %v %s", f, err, b)
		}
	}
}
