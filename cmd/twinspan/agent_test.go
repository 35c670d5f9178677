package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is an agent in this process, driven through the program's own verbs.
type running struct {
	t      *testing.T
	config string
	data   string
	stop   context.CancelFunc
	exit   chan int
	log    *safeBuffer
}

// safeBuffer is written by the agent and read by the test.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// configure writes a configuration without any peer: the command line is the only manager.
func configure(t *testing.T, extra string) *running {
	t.Helper()
	dir := t.TempDir()
	r := &running{t: t, config: filepath.Join(dir, "agent.toml"), data: filepath.Join(dir, "data"), log: &safeBuffer{}}
	text := fmt.Sprintf("data = %q\n[device]\nserial_number = \"TEST1\"\n[cwmp]\nconnection_request_listen = \"\"\n[log]\nlevel = \"error\"\n", r.data) + extra
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *running) start() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r.stop, r.exit = cancel, make(chan int, 1)
	go func() { r.exit <- dispatch(ctx, []string{"run", "--config", r.config}, r.log, r.log) }()
	r.t.Cleanup(func() { r.end() })
	r.await()
}

// await returns when the command-line socket takes connections.
func (r *running) await() {
	r.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		if nc, err := net.Dial("unix", filepath.Join(r.data, "twinspan.sock")); err == nil {
			nc.Close()
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("the agent does not listen; it said:\n%s", r.log)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// end stops the agent once and returns its exit status.
func (r *running) end() int {
	if r.stop == nil {
		return exitDone
	}
	r.stop()
	r.stop = nil
	return <-r.exit
}

// do runs one verb against the agent.
func (r *running) do(verb string, args ...string) (status int, out, errOut string) {
	var o, e bytes.Buffer
	status = dispatch(r.t.Context(), append([]string{verb, "--socket", filepath.Join(r.data, "twinspan.sock")}, args...), &o, &e)
	return status, o.String(), e.String()
}

// must runs a verb that has to succeed.
func (r *running) must(verb string, args ...string) string {
	r.t.Helper()
	status, out, errOut := r.do(verb, args...)
	if status != exitDone {
		r.t.Fatalf("%s %v: exit %d: %s", verb, args, status, errOut)
	}
	return out
}

func TestTheCommandLineManagesARunningAgent(t *testing.T) {
	r := configure(t, "")
	r.start()
	const table = "Device.NAT.PortMapping."

	if out := r.must("get", "Device.DeviceInfo.SerialNumber"); out != "Device.DeviceInfo.SerialNumber = TEST1\n" {
		t.Errorf("get: %q", out)
	}
	row := strings.Fields(r.must("add", table, "Description=web", "ExternalPort=8080", "Protocol=TCP"))[0]
	if !strings.HasPrefix(row, table) {
		t.Fatalf("add answered %q", row)
	}
	if out := r.must("get", row+"RemoteHost"); out != row+"RemoteHost = \n" {
		t.Errorf("the default of a key parameter: %q", out)
	}
	if status, _, errOut := r.do("add", table, "ExternalPort=8080", "Protocol=TCP"); status != exitFailed || !strings.Contains(errOut, "7025") {
		t.Errorf("the same mapping twice: exit %d, %q", status, errOut)
	}
	if out := r.must("set", row+"Description=a = b"); out != row+"Description = a = b\n" {
		t.Errorf("set: %q", out)
	}
	if out := r.must("instances", table); !strings.Contains(out, row) || !strings.Contains(out, "ExternalPort=8080") {
		t.Errorf("instances: %q", out)
	}
	if out := r.must("schema", "Device.Time."); !strings.Contains(out, "CurrentLocalTime") {
		t.Errorf("schema: %q", out)
	}
	var values map[string]string
	if err := json.Unmarshal([]byte(r.must("get", "--json", table+`[ExternalPort==8080].Description`)), &values); err != nil || values[row+"Description"] != "a = b" {
		t.Errorf("get --json: %v, %v", values, err)
	}
	if out := r.must("journal", "--path", row); !strings.Contains(out, `cli  `) || !strings.Contains(out, `"web" -> "a = b"`) {
		t.Errorf("journal: %q", out)
	}
	if out := r.must("del", row); out != "deleted "+row+"\n" {
		t.Errorf("del: %q", out)
	}
	for _, c := range []struct {
		verb, arg, text string
	}{
		{"get", "Device.Nonsense.", "7026"},
		{"get", "Device.[", "7008"},
		{"set", "Device.DeviceInfo.SerialNumber=2", "7013"},
		{"set", row + "Description=gone", "7016"},
		{"operate", "Device.Nonsense()", "70"},
	} {
		if status, _, errOut := r.do(c.verb, c.arg); status != exitFailed || !strings.Contains(errOut, c.text) {
			t.Errorf("%s %s: exit %d, %q; want a failure with %s", c.verb, c.arg, status, errOut, c.text)
		}
	}
	if status := r.end(); status != exitDone {
		t.Errorf("the agent ended with %d: %s", status, r.log)
	}
	if status, out, errOut := r.do("store", "check", filepath.Join(r.data, databaseName)); status != exitDone {
		t.Errorf("store check: %d %s %s", status, out, errOut)
	}
}

func TestWatchPrintsChangesOfOthers(t *testing.T) {
	r := configure(t, "")
	r.start()
	ctx, cancel := context.WithCancel(t.Context())
	out := &safeBuffer{}
	done := make(chan int, 1)
	go func() {
		done <- dispatch(ctx, []string{"watch", "--socket", filepath.Join(r.data, "twinspan.sock"), "Device.Time.LocalTimeZone"}, out, out)
	}()
	deadline := time.Now().Add(10 * time.Second)
	for i := 0; !strings.Contains(out.String(), "ValueChange"); i++ { // until the subscription is in force
		r.must("set", fmt.Sprintf("Device.Time.LocalTimeZone=UTC%d", i%10))
		if time.Now().After(deadline) {
			t.Fatalf("watch printed %q", out)
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	if status := <-done; status != exitDone {
		t.Errorf("watch ended with %d", status)
	}
	if rows := r.must("instances", subscriptionTable); rows != "" {
		t.Errorf("watch left its subscription behind: %q", rows)
	}
}

func TestRebootStartsTheAgentAnewWithItsData(t *testing.T) {
	r := configure(t, "")
	r.start()
	r.must("set", "Device.Time.LocalTimeZone=CET-1")
	before := r.must("get", "--json", "Device.LocalAgent.UpTime")
	r.must("operate", "Device.Reboot()")
	deadline := time.Now().Add(30 * time.Second)
	for { // the socket goes and comes again
		status, out, _ := r.do("get", "Device.Time.LocalTimeZone")
		if status == exitDone && out == "Device.Time.LocalTimeZone = CET-1\n" {
			if _, journal, _ := r.do("journal", "-n", "5"); journal != "" {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("not back; before: %s; it said %s", before, r.log)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestStartsThatCannotWorkSayWhy(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(r *running)
		extra   string
		want    string
	}{
		"unknown profile":  {extra: "[[bridge.rule]]\nid=\"x\"\npath=\"Device.Time.\"\non_conflict=\"last\"\n", prepare: func(r *running) { edit(r.t, r.config, `serial_number`, "profile = \"nosuch\"\nserial_number") }, want: "nosuch"},
		"factory value":    {extra: "[factory]\n\"Device.Time.Enable\" = \"perhaps\"\n", want: "Device.Time.Enable"},
		"factory path":     {extra: "[factory]\n\"Device.Nonsense\" = \"1\"\n", want: "Device.Nonsense"},
		"corrupt database": {prepare: corrupt, want: "kept aside as"},
		"missing CA file":  {extra: "[usp.tls]\nca_file = \"/nonexistent.pem\"\n", want: "/nonexistent.pem"},
		"no reboot hook":   {extra: "[hooks]\nreboot = [\"/nonexistent/reboot\"]\n", want: "hooks.reboot"},
		"no socket folder": {extra: "[cli]\nsocket = \"/nonexistent/twinspan.sock\"\n", want: "cli.socket"},
		"open data folder": {prepare: openDir, want: "chmod 700"},
	} {
		t.Run(name, func(t *testing.T) {
			r := configure(t, c.extra)
			if c.prepare != nil {
				c.prepare(r)
			}
			var out, errOut bytes.Buffer
			status := dispatch(t.Context(), []string{"run", "--config", r.config}, &out, &errOut)
			if status != exitFailed || !strings.Contains(errOut.String(), c.want) {
				t.Errorf("exit %d, %q; want a failure that names %q", status, errOut.String(), c.want)
			}
		})
	}
}

func edit(t *testing.T, file, old, new string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(b, []byte(old), []byte(new), 1), 0o600); err != nil {
		t.Fatal(err)
	}
}

func openDir(r *running) {
	t := r.t
	t.Helper()
	if err := os.Mkdir(r.data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(r.data, 0o777); err != nil {
		t.Fatal(err)
	}
}

// corrupt leaves a database that is none; it must be kept aside, never replaced.
func corrupt(r *running) {
	t := r.t
	t.Helper()
	if err := os.Mkdir(r.data, 0o700); err != nil {
		t.Fatal(err)
	}
	text := bytes.Repeat([]byte("not a database "), 4096)
	if err := os.WriteFile(filepath.Join(r.data, databaseName), text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		kept, err := filepath.Glob(filepath.Join(r.data, databaseName+".corrupt-*"))
		if err != nil || len(kept) != 1 {
			t.Errorf("kept aside: %v, %v", kept, err)
			return
		}
		if b, err := os.ReadFile(kept[0]); err != nil || !bytes.Equal(b, text) {
			t.Errorf("what was kept aside is not what was there (%v)", err)
		}
	})
}

func TestADatabaseHasOneUser(t *testing.T) {
	r := configure(t, "")
	r.start()
	var out, errOut bytes.Buffer
	if status := dispatch(t.Context(), []string{"run", "--config", r.config}, &out, &errOut); status != exitFailed || !strings.Contains(errOut.String(), "in use") {
		t.Errorf("a second agent on the same data: exit %d, %q", status, errOut.String())
	}
	if out := r.must("get", "Device.DeviceInfo.SerialNumber"); !strings.Contains(out, "TEST1") {
		t.Errorf("the first one answers %q", out)
	}
}

// An ACS that knows RSA key exchange only is reached when the configuration says so, and not otherwise.
func TestLegacyCiphersByConfigurationOnly(t *testing.T) {
	posts := make(chan struct{}, 64)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		select {
		case posts <- struct{}{}:
		default:
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	refused := make(chan struct{}, 64)
	srv.TLS = &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}}
	srv.Config.ErrorLog = log.New(writerFunc(func() {
		select {
		case refused <- struct{}{}:
		default:
		}
	}), "", 0)
	srv.StartTLS()
	defer srv.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		legacy string
		want   chan struct{}
	}{{"false", refused}, {"true", posts}} {
		r := configure(t, "[cwmp.tls]\nca_file = "+strconv.Quote(ca)+"\n")
		edit(t, r.config, "[cwmp]\n", "[cwmp]\nlegacy_ciphers = "+c.legacy+"\nurl = "+strconv.Quote(srv.URL+"/")+"\n")
		r.start()
		select {
		case <-c.want:
		case <-time.After(30 * time.Second):
			t.Errorf("legacy_ciphers = %s: not seen; it said %s", c.legacy, r.log)
		}
		r.end()
		if c.legacy == "false" && len(posts) > 0 {
			t.Error("RSA key exchange was offered unasked")
		}
	}
}

type writerFunc func()

func (f writerFunc) Write(b []byte) (int, error) { f(); return len(b), nil }
