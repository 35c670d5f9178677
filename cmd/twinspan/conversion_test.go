//go:build !omit_import

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"twinspan/cwmp/acs"
	"twinspan/cwmp/soap"
	"twinspan/usp/controller"
	"twinspan/usp/mtp/websocket"
	"twinspan/usp/uspmsg"
)

// oldState is what a CWMP client left that had just installed this firmware on the ACS's order.
const oldState = `twinspan-import 1
source "oldcwmp"
version "3.1"
model tr181
bootstrapped yes
parameter-key "PK-17"
value Device.ManagementServer.URL %q
value Device.ManagementServer.Username "Old%%User"
value Device.ManagementServer.Password "s3cret"
value Device.ManagementServer.PeriodicInformEnable "true"
value Device.ManagementServer.PeriodicInformInterval "7200"
value Device.ManagementServer.PeriodicInformTime "2026-01-01T03:07:11Z"
value Device.ManagementServer.ConnectionRequestUsername "cr"
value Device.ManagementServer.ConnectionRequestPassword "cr3t"
value Device.DeviceInfo.SoftwareVersion "1.9-old"      # reported as changed
value Device.DeviceInfo.ProvisioningCode "code.one"
value Device.NAT.PortMapping.7.ExternalPort "8080"
value Device.NAT.PortMapping.7.Alias "web"
value Device.NAT.PortMapping.7.Protocol "TCP"
row Device.NAT.PortMapping.4.
next Device.NAT.PortMapping. 12
value Device.Time.Client.3.Servers "ntp.old.example"
value Device.X_OLD_Thing.Color "blue"
value Device.X_OLD_Thing.Password "hush"
attr Device.NAT.PortMapping.7.ExternalPort notification=2 access=Subscriber
attr Device.Time.Client.3.Servers notification=1
told Device.Time.Client.3.Servers "ntp.told.example"
event "M Reboot" "rb-1"
schedule-inform "si-1" 2099-01-01T00:00:00Z
download "fw-2026" delivered type="1 Firmware Upgrade Image" url="http://files.example/fw?token=1" start=2026-11-22T05:00:00Z
end
`

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "old.import")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The first Inform of the real agent after a conversion has exactly the events that are due, and the ACS finds the device it knows.
func TestConversionImportEndToEnd(t *testing.T) {
	srv, err := acs.Start(acs.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	file := writeFile(t, fmt.Sprintf(oldState, srv.URL()))
	r := configure(t, fmt.Sprintf("[import]\nfile = %q\n", file))
	r.edit("serial_number = \"TEST1\"\n", "serial_number = \"TEST1\"\nsoftware_version = \"2.0\"\n")
	r.edit("connection_request_listen = \"\"\n", "connection_request_listen = \"127.0.0.1:0\"\nallow_plaintext = true\nurl = \"http://factory.example/\"\n")
	r.start()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	dev, err := srv.WaitDevice(ctx)
	if err != nil {
		t.Fatalf("%v; the agent said %s", err, r.log)
	}
	if err := dev.WaitIdle(ctx, 1); err != nil {
		t.Fatal(err)
	}
	first := dev.Informs()[0]
	var codes []string
	for _, e := range first.Inform.Event {
		codes = append(codes, strings.TrimSpace(e.EventCode+" "+e.CommandKey))
	}
	want := []string{"1 BOOT", "4 VALUE CHANGE", "7 TRANSFER COMPLETE", "M Download fw-2026", "M Reboot rb-1"}
	if slices.Sort(codes); !slices.Equal(codes, want) {
		t.Errorf("first Inform: %q, want %q", codes, want)
	}
	for path, value := range map[string]string{"Device.ManagementServer.ParameterKey": "PK-17", "Device.DeviceInfo.SoftwareVersion": "2.0", "Device.Time.Client.3.Servers": "ntp.old.example"} {
		if got, ok := first.Value(path); !ok || got != value {
			t.Errorf("first Inform: %s = %q (%v), want %q", path, got, ok, value)
		}
	}
	tc := dev.TransferCompletes()
	if len(tc) != 1 || tc[0].CommandKey != "fw-2026" || tc[0].FaultStruct.FaultCode != 0 || !tc[0].StartTime.Equal(time.Date(2026, 11, 22, 5, 0, 0, 0, time.UTC)) {
		t.Errorf("TransferComplete: %+v", tc)
	}
	dev.SetConnectionRequestAuth("cr", "cr3t") // as before
	release := dev.Hold()
	if err := dev.ConnectionRequest(ctx); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"Device.ManagementServer.URL": srv.URL(), "Device.ManagementServer.Username": "Old%User", "Device.ManagementServer.PeriodicInformTime": "2026-01-01T03:07:11Z",
		"Device.NAT.PortMapping.7.Alias": "web", "Device.NAT.PortMappingNumberOfEntries": "2", "Device.X_TWINSPAN-EXAMPLE_Migration.Import.Left": "2",
		"Device.X_TWINSPAN-EXAMPLE_Migration.Import.Status": "Imported", "Device.X_TWINSPAN-EXAMPLE_Migration.Import.Evidence": "Flag",
		"Device.X_TWINSPAN-EXAMPLE_Migration.Import.ResidueNumberOfEntries": "2", "Device.X_TWINSPAN-EXAMPLE_Migration.Import.Residue.1.LegacyPath": "Device.X_OLD_Thing.Color",
		"Device.X_TWINSPAN-EXAMPLE_Migration.Import.Residue.1.Value": "blue"} {
		got, err := dev.GetValues(ctx, path)
		if err != nil || len(got) != 1 || got[0].Value != want {
			t.Errorf("%s: %v %v, want %q", path, got, err, want)
		}
	}
	got, err := dev.GetValues(ctx, "Device.X_TWINSPAN-EXAMPLE_Migration.Import.Residue.2.")
	if err != nil || strings.Contains(fmt.Sprint(got), "hush") || !strings.Contains(fmt.Sprint(got), "sha256:") {
		t.Errorf("the residue shows a secret, or nothing of it: %v %v", got, err)
	}
	attrs, err := dev.Call(ctx, &soap.GetParameterAttributes{ParameterNames: []string{"Device.NAT.PortMapping.7.ExternalPort"}})
	if a, ok := attrs.(*soap.GetParameterAttributesResponse); err != nil || !ok || a.ParameterList[0].Notification != 2 || len(a.ParameterList[0].AccessList) != 1 {
		t.Errorf("attributes: %+v %v", attrs, err)
	}
	added, err := dev.Call(ctx, &soap.AddObject{ObjectName: "Device.NAT.PortMapping."})
	if a, ok := added.(*soap.AddObjectResponse); err != nil || !ok || a.InstanceNumber != 12 {
		t.Errorf("the next row: %+v %v, want number 12", added, err)
	}
	if out := r.must("journal", "-n", "400"); !strings.Contains(out, "sys:import") || strings.Contains(out, "s3cret") {
		t.Errorf("the journal does not tell of the import, or shows a secret:\n%s", out)
	}
	release()
	if err := dev.WaitIdle(ctx, 2); err != nil {
		t.Fatal(err)
	}
	// Neither a restart imports again, nor does the file matter any more.
	if err := os.WriteFile(file, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := dev.Sessions()
	r.end()
	r.start()
	if err := dev.WaitIdle(ctx, n+1); err != nil {
		t.Fatal(err)
	}
	last, _ := dev.LastInform()
	for _, e := range last.Inform.Event { // the address for connection requests has a new port
		if e.EventCode != "1 BOOT" && e.EventCode != "4 VALUE CHANGE" {
			t.Errorf("Inform after the next start: %v, want 1 BOOT", last.Inform.Event)
		}
	}
	if v := srv.Violations(); len(v) > 0 {
		t.Errorf("violations of TR-069: %v", v)
	}
}

// A file that cannot be taken keeps the agent from starting, unless the operator wants a new device instead.
func TestConversionImportRefusesToStart(t *testing.T) {
	srv, err := acs.Start(acs.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	whole := fmt.Sprintf(oldState, srv.URL())
	for name, c := range map[string]struct{ text, says string }{
		"cut off":   {whole[:len(whole)/2], "line "},
		"no end":    {strings.TrimSuffix(whole, "end\n"), "not whole"},
		"unknown":   {strings.Replace(whole, "parameter-key", "parameterkey", 1), "line 6: unknown statement"},
		"no ACS":    {"twinspan-import 1\nsource x\nmodel tr181\nbootstrapped yes\nend\n", "by which ACS"},
		"bad value": {strings.Replace(whole, "\"PK-17\"", "\"PK-17", 1), "line 6: "},
	} {
		r := configure(t, fmt.Sprintf("[import]\nfile = %q\n", writeFile(t, c.text)))
		var out bytes.Buffer
		if status := dispatch(t.Context(), []string{"run", "--config", r.config}, &out, &out); status != exitFailed || !strings.Contains(out.String(), c.says) {
			t.Errorf("%s: exit %d: %s", name, status, out.String())
		}
	}
	if n := srv.Counters().Informs; n != 0 {
		t.Fatalf("%d Informs of agents that must not start", n)
	}
}

// An operator who would rather have a new device than none gets one, and is told.
func TestConversionImportBootstrapsIfAsked(t *testing.T) {
	for name, text := range map[string]string{
		"cut off": oldState[:len(oldState)/2],
		"no ACS":  "twinspan-import 1\nsource x\nmodel tr181\nbootstrapped yes\nvalue Device.ManagementServer.URL \"\"\nend\n",
	} {
		srv, err := acs.Start(acs.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer srv.Close()
		r := configure(t, fmt.Sprintf("[import]\nfile = %q\non_error = \"bootstrap\"\n", writeFile(t, text)))
		r.edit("[cwmp]\n", fmt.Sprintf("[cwmp]\nallow_plaintext = true\nurl = %q\n", srv.URL()))
		r.start()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		dev, err := srv.WaitDevice(ctx)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if in := dev.Informs()[0]; !in.HasEvent("0 BOOTSTRAP") {
			t.Errorf("%s: first Inform: %v", name, in.Inform.Event)
		}
		if out := r.must("get", "Device.X_TWINSPAN-EXAMPLE_Migration.Import.Status"); !strings.Contains(out, "Failed") {
			t.Errorf("%s: Import.Status: %s", name, out)
		}
		r.end()
	}
}

// What is imported once is not imported again in place of a database that was lost.
func TestConversionImportNotAfterDamage(t *testing.T) {
	r := configure(t, fmt.Sprintf("[import]\nfile = %q\n", writeFile(t, fmt.Sprintf(oldState, "http://acs.example/"))))
	if err := os.MkdirAll(r.data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.data, databaseName+".corrupt-1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	if out := r.must("get", "Device.X_TWINSPAN-EXAMPLE_Migration.Import.Status"); !strings.Contains(out, "None") {
		t.Errorf("Import.Status: %s", out)
	}
}

// A Controller that is there from the start is told that the ACS had the firmware replaced.
func TestConversionImportTellsBoot(t *testing.T) {
	sc := websocket.DefaultServerConfig()
	sc.Addr, sc.EndpointID, sc.AllowPlain = freePort(t), "self::manager", true
	srv, err := websocket.NewServer(sc)
	if err != nil {
		t.Fatal(err)
	}
	boots := make(chan map[string]string, 4)
	c, err := controller.New(controller.Config{EndpointID: "self::manager", AgentID: "os::00005E-TEST1", Transport: srv, OnNotify: func(n *uspmsg.Notify) {
		if e := n.GetEvent(); e.GetEventName() == "Boot!" {
			boots <- e.GetParams()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	defer func() { cancel(); <-done }()
	_, port, _ := strings.Cut(sc.Addr, ":")
	const sub = "\"Device.LocalAgent.Subscription.1."
	r := configure(t, fmt.Sprintf("[import]\nfile = %q\n[factory]\n"+sub+"Enable\" = \"true\"\n"+sub+"ID\" = \"boot\"\n"+sub+"NotifType\" = \"Event\"\n"+sub+"ReferenceList\" = \"Device.Boot!\"\n"+sub+"Persistent\" = \"true\"\n"+sub+"Recipient\" = \"Device.LocalAgent.Controller.1\"\n"+
		"[usp]\nallow_plaintext = true\n[[usp.controller]]\nendpoint_id = \"self::manager\"\n[usp.controller.websocket]\nhost = \"127.0.0.1\"\nport = %s\npath = \"/usp\"\n",
		writeFile(t, fmt.Sprintf(oldState, "http://127.0.0.1:9/")), port))
	r.start()
	next := func(cause, updated string) {
		t.Helper()
		select {
		case b := <-boots:
			if b["Cause"] != cause || b["CommandKey"] != "" || b["FirmwareUpdated"] != updated {
				t.Errorf("Boot! says %v", b)
			}
		case <-ctx.Done():
			t.Fatalf("no Boot!; it said %s", r.log)
		}
	}
	next("RemoteReboot", "true")
	r.end()
	r.start()
	next("LocalReboot", "false")
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestImportCheck(t *testing.T) {
	file := writeFile(t, fmt.Sprintf(oldState, "http://acs.example/"))
	var out, errOut bytes.Buffer
	if status := dispatch(t.Context(), []string{"import", file, "--check"}, &out, &errOut); status != exitDone {
		t.Fatalf("exit %d: %s", status, errOut.String())
	}
	for _, want := range []string{"no BOOTSTRAP (evidence: Flag)", "3 pending operations", "residue: 2", `Device.X_OLD_Thing.Color = "blue"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "hush") {
		t.Errorf("a secret is shown:\n%s", out.String())
	}
	for _, args := range [][]string{{"import", file}, {"import", "--check"}, {"import", "--check", file, file}} {
		if status := dispatch(t.Context(), args, &out, &errOut); status != exitUsage {
			t.Errorf("%v: exit %d", args, status)
		}
	}
	if status := dispatch(t.Context(), []string{"import", "--check", writeFile(t, "twinspan-import 1\n")}, &out, &errOut); status != exitFailed {
		t.Errorf("a file that is not whole: exit %d", status)
	}
}

// edit changes the configuration before the start.
func (r *running) edit(from, to string) {
	r.t.Helper()
	text, err := os.ReadFile(r.config)
	if err != nil || !strings.Contains(string(text), from) {
		r.t.Fatalf("no %q in the configuration (%v)", from, err)
	}
	if err := os.WriteFile(r.config, []byte(strings.Replace(string(text), from, to, 1)), 0o600); err != nil {
		r.t.Fatal(err)
	}
}
