//go:build !omit_firmware

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"twinspan/cwmp/acs"
	"twinspan/cwmp/soap"
	"twinspan/datamodel/firmware"
	"twinspan/usp/controller"
	"twinspan/usp/mtp/websocket"
	"twinspan/usp/uspmsg"
)

const imageRows = "Device.DeviceInfo.FirmwareImage."

// imageServer serves /VERSION as an image of that version; "bad" is an image that does not start.
func imageServer(t *testing.T) string {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		version := strings.TrimPrefix(r.URL.Path, "/")
		w.Write(firmware.Image(version, []byte("image "+version), version != "bad"))
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/"
}

// cloud is a Controller that listens, and what it heard.
type cloud struct {
	*controller.Controller
	t      *testing.T
	ctx    context.Context
	heard  chan *uspmsg.Notify
	config string
}

func newCloud(t *testing.T) *cloud {
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that the agent can be told before the server runs
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	sc := websocket.DefaultServerConfig()
	sc.Addr, sc.EndpointID, sc.AllowPlain = fmt.Sprintf("127.0.0.1:%d", port), "self::manager", true
	srv, err := websocket.NewServer(sc)
	if err != nil {
		t.Fatal(err)
	}
	c := &cloud{t: t, heard: make(chan *uspmsg.Notify, 64)}
	c.Controller, err = controller.New(controller.Config{EndpointID: "self::manager", AgentID: "os::00005E-TEST1", Transport: srv, OnNotify: func(n *uspmsg.Notify) {
		if n.GetOnBoardReq() == nil {
			c.heard <- n
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	c.ctx = ctx
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Run(ctx) // a broken link is what the test sees
	}()
	t.Cleanup(func() { cancel(); <-done })
	c.config = fmt.Sprintf("[usp]\nallow_plaintext = true\n[[usp.controller]]\nendpoint_id = \"self::manager\"\n[usp.controller.websocket]\nhost = \"127.0.0.1\"\nport = %d\npath = \"/usp\"\n", port)
	return c
}

func (c *cloud) subscribe(id, kind, path string) {
	c.t.Helper()
	if _, _, err := c.Add(c.ctx, "Device.LocalAgent.Subscription.", map[string]string{"Enable": "true", "ID": id, "NotifType": kind, "ReferenceList": path, "Persistent": "true", "NotifRetry": "true"}); err != nil {
		c.t.Fatal(err)
	}
}

// next waits for a notification of one subscription; others are passed over.
func (c *cloud) next(id string) *uspmsg.Notify {
	c.t.Helper()
	for {
		select {
		case n := <-c.heard:
			if n.GetSubscriptionId() == id {
				return n
			}
		case <-c.ctx.Done():
			c.t.Fatalf("no notification of %s", id)
		}
	}
}

func (c *cloud) holds(path, want string) {
	c.t.Helper()
	if got, err := c.Value(c.ctx, path); err != nil || got != want {
		c.t.Errorf("%s is %q, %v; want %q", path, got, err, want)
	}
}

// A device manager of the field: the row by its Version, AutoActivate, FileSize, Username, and an argument without a name.
func TestFirmwareByUSP(t *testing.T) {
	t.Parallel()
	url, c := imageServer(t), newCloud(t)
	r := configure(t, "[firmware]\nbanks = \"simulated\"\n"+c.config)
	r.start()
	if err := c.WaitConnect(c.ctx); err != nil {
		t.Fatal(err)
	}
	c.subscribe("boot", "Event", "Device.Boot!")
	c.subscribe("moved", "Event", "Device.LocalAgent.TransferComplete!")
	c.subscribe("done", "OperationComplete", imageRows+"*.Download()")
	if _, _, err := c.Operate(c.ctx, imageRows+`[Name=="bank2"].Download()`, "one", map[string]string{"URL": url + "1.0", "AutoActivate": "false"}); err != nil {
		t.Fatal(err)
	}
	c.next("done")
	c.holds(imageRows+"2.Status", "Available")
	size := len(firmware.Image("3.0", []byte("image 3.0"), true))
	_, row, err := c.Operate(c.ctx, imageRows+`[Version=="1.0"].Download()`, "two", map[string]string{"URL": url + "3.0?token=secret", "AutoActivate": "true",
		"FileSize": strconv.Itoa(size), "Username": "u", "Password": "secret", "": "ignored"})
	if err != nil || row == "" {
		t.Fatalf("row %q, %v", row, err)
	}
	if o := c.next("done").GetOperComplete(); o.GetCmdFailure() != nil || o.GetCommandKey() != "two" {
		t.Errorf("%v", o)
	}
	p := c.next("moved").GetEvent().GetParams()
	for p["CommandKey"] == "one" {
		p = c.next("moved").GetEvent().GetParams()
	}
	for name, want := range map[string]string{"Command": imageRows + "2.Download()", "CommandKey": "two", "Requestor": "self::manager", "TransferType": "Download",
		"Affected": imageRows + "2", "TransferURL": url + "3.0", "FaultCode": "0", "FaultString": ""} {
		if p[name] != want {
			t.Errorf("TransferComplete! %s is %q, want %q", name, p[name], want)
		}
	}
	b := c.next("boot").GetEvent().GetParams()
	if b["FirmwareUpdated"] != "true" || b["CommandKey"] != "two" || b["Cause"] != "RemoteReboot" {
		t.Errorf("Boot! %v", b)
	}
	c.holds("Device.DeviceInfo.SoftwareVersion", "3.0")
	c.holds("Device.DeviceInfo.ActiveFirmwareImage", imageRows+"2")
	c.holds("Device.DeviceInfo.BootFirmwareImage", imageRows+"2")
	// Back, by hand: BootFirmwareImage and a reboot.
	if err := c.Set(c.ctx, map[string]string{"Device.DeviceInfo.BootFirmwareImage": imageRows + "9"}); err == nil {
		t.Error("an image that does not exist was chosen")
	}
	if err := c.Set(c.ctx, map[string]string{"Device.DeviceInfo.BootFirmwareImage": imageRows + "1"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Operate(c.ctx, "Device.Reboot()", "back", nil); err != nil {
		t.Fatal(err)
	}
	if b := c.next("boot").GetEvent().GetParams(); b["FirmwareUpdated"] != "true" || b["CommandKey"] != "back" {
		t.Errorf("Boot! %v", b)
	}
	c.holds("Device.DeviceInfo.ActiveFirmwareImage", imageRows+"1")
}

// A Download of the ACS ends in the same banks: TransferComplete after the new image runs, and Controllers are told of it.
func TestFirmwareByCWMP(t *testing.T) {
	t.Parallel()
	url, c := imageServer(t), newCloud(t)
	server, err := acs.Start(acs.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	r := configure(t, "[firmware]\nbanks = \"simulated\"\n"+c.config)
	text, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	fixed := strings.Replace(string(text), "[cwmp]\n", fmt.Sprintf("[cwmp]\nallow_plaintext = true\nurl = %q\n", server.URL()), 1)
	if err := os.WriteFile(r.config, []byte(fixed), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	if err := c.WaitConnect(c.ctx); err != nil {
		t.Fatal(err)
	}
	c.subscribe("moved", "Event", "Device.LocalAgent.TransferComplete!")
	c.subscribe("boot", "Event", "Device.Boot!")
	dev, err := server.WaitDevice(c.ctx)
	if err != nil {
		t.Fatal(err)
	}
	download := func(key, version string) soap.TransferComplete {
		t.Helper()
		n := len(dev.TransferCompletes())
		if err := c.Set(c.ctx, map[string]string{"Device.DeviceInfo.ProvisioningCode": "wake-" + key}); err != nil { // a change that the ACS is told of
			t.Fatal(err)
		}
		if _, err := dev.Call(c.ctx, &soap.Download{CommandKey: key, FileType: "1 Firmware Upgrade Image", URL: url + version}); err != nil {
			t.Fatal(err)
		}
		for len(dev.TransferCompletes()) == n {
			if c.ctx.Err() != nil {
				t.Fatalf("no TransferComplete for %s", key)
			}
			time.Sleep(20 * time.Millisecond)
		}
		return dev.TransferCompletes()[n]
	}
	tc := download("FW", "2.0")
	if tc.CommandKey != "FW" || tc.FaultStruct.FaultCode != 0 {
		t.Errorf("%+v", tc)
	}
	in, _ := dev.LastInform()
	if v, _ := in.Value("Device.DeviceInfo.SoftwareVersion"); v != "2.0" || !in.HasEvent("1 BOOT") || !in.HasEvent("7 TRANSFER COMPLETE") || !in.HasEvent("M Download") || !in.HasEvent("4 VALUE CHANGE") {
		t.Errorf("SoftwareVersion %s, events %v", v, in.Inform.Event)
	}
	if p := c.next("moved").GetEvent().GetParams(); p["Command"] != "" || p["CommandKey"] != "" || p["Requestor"] != "" || p["FaultCode"] != "0" || p["Affected"] != imageRows+"2" || p["TransferURL"] != url+"2.0" {
		t.Errorf("TransferComplete! %v", p)
	}
	// What a Controller has fetched is told to the ACS, if it wants to know.
	if err := c.Set(c.ctx, map[string]string{"Device.DeviceInfo.ProvisioningCode": "wake-policy"}); err != nil {
		t.Fatal(err)
	}
	if _, err := dev.SetValues(c.ctx, "", soap.ParameterValue{Name: "Device.ManagementServer.AutonomousTransferCompletePolicy.Enable", Value: "1", Type: soap.Boolean}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Operate(c.ctx, imageRows+"1.Download()", "usp", map[string]string{"URL": url + "2.1", "AutoActivate": "false"}); err != nil {
		t.Fatal(err)
	}
	told := func() *soap.AutonomousTransferComplete {
		for _, m := range dev.Requests() {
			if a, ok := m.(*soap.AutonomousTransferComplete); ok {
				return a
			}
		}
		return nil
	}
	for told() == nil {
		if c.ctx.Err() != nil {
			t.Fatal("no AutonomousTransferComplete")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if a := told(); !a.IsDownload || a.FileType != "1 Firmware Upgrade Image" || a.TransferURL != url+"2.1" || a.FaultStruct.FaultCode != 0 {
		t.Errorf("%+v", a)
	}
	if p := c.next("moved").GetEvent().GetParams(); p["CommandKey"] != "usp" || p["Affected"] != imageRows+"1" {
		t.Errorf("TransferComplete! %v", p)
	}
	// One that does not start: the old image runs, and the ACS never hears of a success.
	if tc := download("BAD", "bad"); tc.CommandKey != "BAD" || tc.FaultStruct.FaultCode != 9010 || !strings.Contains(tc.FaultStruct.FaultString, "does not run") {
		t.Errorf("%+v", tc)
	}
	c.holds("Device.DeviceInfo.SoftwareVersion", "2.0")
	c.holds(imageRows+"1.Status", "ActivationFailed")
	r.end()
	if v := server.Violations(); len(v) > 0 {
		t.Errorf("violations: %v", v)
	}
}

// Nobody is reached with the new image: the one before comes back.
func TestFirmwareFallsBack(t *testing.T) {
	t.Parallel()
	url := imageServer(t)
	r := configure(t, "[firmware]\nbanks = \"simulated\"\nconfirm_within = \"200ms\"\n")
	r.start()
	r.must("operate", imageRows+"2.Download()", "URL="+url+"2.0", "AutoActivate=true")
	deadline := time.Now().Add(40 * time.Second)
	for {
		status, out, _ := r.do("get", imageRows+"2.BootFailureLog")
		if status == exitDone && strings.Contains(out, "no manager was reached within 200ms") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no fallback: %q; the agent said %s", out, r.log)
		}
		time.Sleep(20 * time.Millisecond)
	}
	for path, want := range map[string]string{"Device.DeviceInfo.ActiveFirmwareImage": imageRows + "1", "Device.DeviceInfo.BootFirmwareImage": imageRows + "2",
		imageRows + "2.Status": "ActivationFailed", imageRows + "1.Status": "Active"} {
		if got := r.must("get", path); got != path+" = "+want+"\n" {
			t.Errorf("%s", got)
		}
	}
	if _, err := os.Stat(filepath.Join(r.data, "firmware", "state.json")); err != nil {
		t.Error(err)
	}
}

func TestFirmwareConfig(t *testing.T) {
	for text, want := range map[string]string{
		"[firmware]\nbanks = \"three\"\n":                                        "must be one of",
		"[firmware]\nbanks = \"command\"\n":                                      "need each other",
		"[firmware]\ncommand = [\"x\"]\n":                                        "need each other",
		"[firmware]\nbanks = \"simulated\"\n[hooks]\ninstall = [\"x\"]\n":        "only one place",
		"[firmware]\nbanks = \"simulated\"\nconfirm_within = \"-1s\"\n":          "must be 0",
		"[firmware]\nbanks = \"simulated\"\n[firmware.tls]\nca_file = \"/no\"\n": "firmware.tls",
		"[firmware]\nask = [\"x\"]\n":                                            "without firmware.banks",
		"[firmware]\nbanks = \"simulated\"\nidle = [\"/no/x\"]\n":                "firmware.idle",
		"[firmware]\nbanks = \"command\"\ncommand = [\"/bin/false\"]\n":          "the program for the banks failed",
	} {
		r := configure(t, text)
		log := &safeBuffer{}
		if status := dispatch(t.Context(), []string{"run", "--config", r.config}, log, log); status != exitFailed || !strings.Contains(log.String(), want) {
			t.Errorf("%q: exit %d, %s", text, status, log)
		}
	}
	// Not configured: no rows, and a word about it.
	r := configure(t, "")
	r.start()
	if status, _, errOut := r.do("operate", imageRows+"1.Download()", "URL=http://h/x", "AutoActivate=true"); status != exitFailed || !strings.Contains(errOut, "does not exist") {
		t.Errorf("exit %d, %q", status, errOut)
	}
}
