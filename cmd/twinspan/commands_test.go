package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"twinspan/usp"
	"twinspan/usp/controller"
	"twinspan/usp/mtp/websocket"
	"twinspan/usp/uspmsg"
)

// manager is a Controller over WebSocket that waits for what commands tell.
type manager struct {
	*controller.Controller
	t    *testing.T
	ctx  context.Context
	done chan *uspmsg.Notify_OperationComplete
	next int
}

// newManager starts a Controller and an agent that dials it; extra is more configuration, of tables only.
func newManager(t *testing.T, extra string) (*manager, *running) {
	t.Helper()
	m := &manager{t: t, done: make(chan *uspmsg.Notify_OperationComplete, 64)}
	sc := websocket.DefaultServerConfig()
	sc.Addr, sc.EndpointID, sc.AllowPlain = "127.0.0.1:0", "self::manager", true
	srv, err := websocket.NewServer(sc)
	if err != nil {
		t.Fatal(err)
	}
	m.Controller, err = controller.New(controller.Config{EndpointID: "self::manager", AgentID: "os::00005E-TEST1", Transport: srv, OnNotify: func(n *uspmsg.Notify) {
		if oc := n.GetOperComplete(); oc != nil {
			m.done <- oc
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	m.ctx = ctx
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := m.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
	for srv.Addr() == nil {
		if ctx.Err() != nil {
			t.Fatal("cannot listen")
		}
		time.Sleep(time.Millisecond)
	}
	r := configure(t, fmt.Sprintf("[usp]\nallow_plaintext = true\n[[usp.controller]]\nendpoint_id = \"self::manager\"\n[usp.controller.websocket]\nhost = \"127.0.0.1\"\nport = %d\npath = \"/usp\"\n%s",
		srv.Addr().(*net.TCPAddr).Port, extra))
	r.start()
	if err := m.WaitConnect(ctx); err != nil {
		t.Fatalf("%v; the agent said %s", err, r.log)
	}
	if _, err := m.Subscribe(ctx, "done", "OperationComplete", false, "Device."); err != nil {
		t.Fatal(err)
	}
	return m, r
}

// begin starts an asynchronous command and returns its Request row.
func (m *manager) begin(command string, args map[string]string) (key, row string) {
	m.t.Helper()
	m.next++
	key = fmt.Sprint("key-", m.next)
	_, row, err := m.Operate(m.ctx, command, key, args)
	if err != nil {
		m.t.Fatalf("%s: %v", command, err)
	}
	return key, row
}

// end waits for the end of a command.
func (m *manager) end(key string) *uspmsg.Notify_OperationComplete {
	m.t.Helper()
	for {
		select {
		case oc := <-m.done:
			if oc.GetCommandKey() == key {
				return oc
			}
		case <-m.ctx.Done():
			m.t.Fatalf("no OperationComplete for %s", key)
		}
	}
}

// run is begin and end of a command that must succeed.
func (m *manager) run(command string, args map[string]string) map[string]string {
	m.t.Helper()
	key, _ := m.begin(command, args)
	oc := m.end(key)
	if f := oc.GetCmdFailure(); f != nil {
		m.t.Fatalf("%s: %d %s", command, f.GetErrCode(), f.GetErrMsg())
	}
	return oc.GetReqOutputArgs().GetOutputArgs()
}

// shelf is a file server that takes and gives files.
type shelf struct {
	mu    sync.Mutex
	files map[string][]byte
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodGet {
		w.Write(s.files[r.URL.Path])
		return
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, 8<<20))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.files[r.URL.Path] = b
	w.WriteHeader(http.StatusCreated)
}

func (s *shelf) text(path string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.files[path])
}

// from are the arguments of a transfer without credentials, which the model makes mandatory all the same.
func from(url string) map[string]string {
	return map[string]string{"URL": url, "Username": "", "Password": ""}
}

// What a Controller commands is done: files are moved and put in force, hooks run, the device tests itself.
func TestCommandsDoRealWork(t *testing.T) {
	dir := t.TempDir()
	hook := filepath.Join(dir, "reset")
	m, _ := newManager(t, fmt.Sprintf("[providers.linux]\n[providers.diag]\nreset_interface = [\"/bin/sh\", \"-c\", 'echo \"$0\" > %s']\n", hook))
	store := &shelf{files: map[string][]byte{}}
	srv := httptest.NewServer(store)
	defer srv.Close()
	const zone = "Device.Time.LocalTimeZone"
	set := func(v string) {
		t.Helper()
		if err := m.Set(m.ctx, map[string]string{zone: v}); err != nil {
			t.Fatal(err)
		}
	}

	set("CET-1")
	m.run("Device.DeviceInfo.VendorConfigFile.1.Backup()", from(srv.URL+"/config"))
	if text := store.text("/config"); !strings.Contains(text, `"`+zone+`": "CET-1"`) || strings.Contains(text, "ManagementServer") {
		t.Errorf("the backup is %.300q", text)
	}
	set("JST-9")
	m.run("Device.DeviceInfo.VendorConfigFile.1.Restore()", from(srv.URL+"/config"))
	if v, err := m.Value(m.ctx, zone); err != nil || v != "CET-1" {
		t.Errorf("after Restore() it is %q %v", v, err)
	}
	store.files["/bad"] = []byte("no configuration")
	key, _ := m.begin("Device.DeviceInfo.VendorConfigFile.1.Restore()", from(srv.URL+"/bad"))
	if m.end(key).GetCmdFailure() == nil {
		t.Error("nonsense was restored")
	}
	m.run("Device.DeviceInfo.VendorLogFile.1.Upload()", from(srv.URL+"/log"))
	if text := store.text("/log"); !strings.Contains(text, `"CET-1" -> "JST-9"`) {
		t.Errorf("the log is %.300q", text)
	}
	if out := m.run("Device.SelfTestDiagnostics()", nil); out["Results"] == "" {
		t.Errorf("self test: %v", out)
	}
	if _, _, err := m.Operate(m.ctx, `Device.IP.Interface.[Name=="lo"].Reset()`, "", nil); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(hook); err != nil || strings.TrimSpace(string(b)) != "lo" {
		t.Errorf("the reset hook got %q %v", b, err)
	}

	// What a Controller may not read is in none of its files.
	if _, _, err := m.Add(m.ctx, "Device.LocalAgent.ControllerTrust.Role.1.Permission.", map[string]string{"Enable": "true", "Order": "9", "Targets": zone,
		"Param": "----", "Obj": "----", "InstantiatedObj": "----", "CommandEvent": "----"}); err != nil {
		t.Fatal(err)
	}
	m.run("Device.DeviceInfo.VendorConfigFile.1.Backup()", from(srv.URL+"/config"))
	m.run("Device.DeviceInfo.VendorLogFile.1.Upload()", from(srv.URL+"/log"))
	if config, log := store.text("/config"), store.text("/log"); strings.Contains(config, `"`+zone+`": `) || strings.Contains(log, "JST-9") || !strings.Contains(config, "{") || !strings.Contains(log, "rev=") {
		t.Errorf("a file tells what its reader may not know: %.300q %.300q", config, log)
	}
}

// A timer that was promised comes true though the agent ended meanwhile.
func TestScheduleTimerOutlivesTheAgent(t *testing.T) {
	m, r := newManager(t, "")
	if _, _, err := m.Add(m.ctx, "Device.LocalAgent.Subscription.", map[string]string{"ID": "kept", "Enable": "true", "Persistent": "true",
		"NotifType": "OperationComplete", "ReferenceList": "Device.ScheduleTimer()"}); err != nil {
		t.Fatal(err)
	}
	key, row := m.begin("Device.ScheduleTimer()", map[string]string{"DelaySeconds": "3"})
	m.Forget()
	r.end()
	r.start()
	if err := m.WaitConnect(m.ctx); err != nil {
		t.Fatal(err)
	}
	if v, err := m.Value(m.ctx, row+"CommandKey"); err != nil || v != key {
		t.Errorf("the Request row says %q %v", v, err)
	}
	if oc := m.end(key); oc.GetCmdFailure() != nil {
		t.Errorf("%v", oc)
	}
}

// Commands of one Controller are bounded in number, and each can be taken back.
func TestCommandsAreBoundedAndCanceled(t *testing.T) {
	m, _ := newManager(t, "")
	rows := map[string]string{}
	for range 8 {
		key, row := m.begin("Device.ScheduleTimer()", map[string]string{"DelaySeconds": "3600"})
		rows[key] = row
	}
	if _, _, err := m.Operate(m.ctx, "Device.ScheduleTimer()", "one-too-many", map[string]string{"DelaySeconds": "3600"}); err == nil || !strings.Contains(err.Error(), "7005") {
		t.Errorf("the ninth: %v", err)
	}
	for key, row := range rows {
		if v, err := m.Value(m.ctx, row+"Status"); err != nil || v != "Active" && v != "Requested" {
			t.Errorf("%s is %q %v", row, v, err)
		}
		if _, _, err := m.Operate(m.ctx, row+"Cancel()", "", nil); err != nil {
			t.Error(err)
		}
		if oc := m.end(key); oc.GetCmdFailure() == nil {
			t.Errorf("%s ended well", key)
		}
	}
	if _, err := m.Value(m.ctx, "Device.LocalAgent.Request.1.Status"); err == nil {
		t.Error("a Request row is left")
	}
	m.run("Device.ScheduleTimer()", map[string]string{"DelaySeconds": "1"}) // there is room again
}

// The right to run Restore() is not the right to write what the file holds: one setting that its Controller may not write, of
// whatever value, and nothing is restored.
func TestRestoreNeedsTheRights(t *testing.T) {
	m, _ := newManager(t, "[providers.linux]\n[providers.diag]\n")
	store := &shelf{files: map[string][]byte{}}
	srv := httptest.NewServer(store)
	defer srv.Close()
	const zone, ntp, command = "Device.Time.LocalTimeZone", "Device.Time.Enable", "Device.DeviceInfo.VendorConfigFile.1.Restore()"
	set := func(z, n string) {
		t.Helper()
		if err := m.Set(m.ctx, map[string]string{zone: z, ntp: n}); err != nil {
			t.Fatal(err)
		}
	}
	is := func(z, n string) {
		t.Helper()
		for path, want := range map[string]string{zone: z, ntp: n} {
			if v, err := m.Value(m.ctx, path); err != nil || v != want {
				t.Errorf("%s is %q, want %q: %v", path, v, want, err)
			}
		}
	}
	set("CET-1", "true")
	m.run("Device.DeviceInfo.VendorConfigFile.1.Backup()", from(srv.URL+"/config"))
	set("JST-9", "false")
	row, _, err := m.Add(m.ctx, "Device.LocalAgent.ControllerTrust.Role.1.Permission.", map[string]string{"Enable": "true", "Order": "9", "Targets": zone,
		"Param": "r--n", "Obj": "r--n", "InstantiatedObj": "r--n", "CommandEvent": "r-xn"})
	if err != nil {
		t.Fatal(err)
	}
	key, _ := m.begin(command, from(srv.URL+"/config"))
	f := m.end(key).GetCmdFailure()
	if f.GetErrCode() != usp.CodePermissionDenied || !strings.Contains(f.GetErrMsg(), zone) {
		t.Errorf("restored without the right on %s: %v", zone, f)
	}
	is("JST-9", "false")
	if _, err := m.Delete(m.ctx, row); err != nil {
		t.Fatal(err)
	}
	m.run(command, from(srv.URL+"/config"))
	is("CET-1", "true")
}

// A command that a restart ends is told as failed after it.
func TestRestartEndsACommand(t *testing.T) {
	m, r := newManager(t, "[providers.linux]\n[providers.diag]\n")
	if _, _, err := m.Add(m.ctx, "Device.LocalAgent.Subscription.", map[string]string{"Enable": "true", "Persistent": "true", "ID": "ended",
		"NotifType": "OperationComplete", "ReferenceList": "Device.DeviceInfo."}); err != nil {
		t.Fatal(err)
	}
	asked, over := make(chan struct{}, 8), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-over
	}))
	defer srv.Close()
	defer close(over)
	key, _ := m.begin("Device.DeviceInfo.VendorConfigFile.1.Restore()", from(srv.URL+"/slow"))
	<-asked
	if status := r.end(); status != 0 {
		t.Fatalf("status %d", status)
	}
	r.start()
	if f := m.end(key).GetCmdFailure(); f.GetErrCode() != usp.CodeCommandFailure || !strings.Contains(f.GetErrMsg(), "restarted") {
		t.Errorf("told %v", f)
	}
}
