package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"twinspan/usp/controller"
	"twinspan/usp/mtp/uds"
	"twinspan/usp/service/clock"
	"twinspan/usp/uspmsg"
)

// The example service and the command line, with the agent between them.
func TestAServiceBehindTheAgent(t *testing.T) {
	dir, err := os.MkdirTemp("", "svc") // short, for the length of socket paths
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "broker")
	r := configure(t, fmt.Sprintf("[services]\nenabled = true\nsocket = %q\nmode = \"0660\"\n", socket))
	r.start()
	k, err := clock.New(clock.Config{EndpointID: "self::clock", Socket: socket, RetryMin: 10 * time.Millisecond, RetryMax: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	deadline := time.Now().Add(20 * time.Second)
	for status := exitFailed; status != exitDone; {
		if status, _, _ = r.do("get", clock.Path+"Offset"); time.Now().After(deadline) {
			t.Fatalf("no service; the agent said:\n%s", r.log)
		}
	}
	if st, err := os.Stat(socket); err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("socket: %v %v", st, err)
	}
	r.must("set", clock.Path+"Offset=60")
	if out := r.must("get", clock.Path+"Offset"); out != clock.Path+"Offset = 60\n" {
		t.Errorf("%q", out)
	}
	if out := r.must("get", "Device.USPServices.USPService."); !strings.Contains(out, "EndpointID = self::clock") || !strings.Contains(out, "DataModelPaths = "+clock.Path) {
		t.Errorf("%q", out)
	}
	if out := r.must("operate", clock.Path+"Now()"); !strings.Contains(out, "Time") {
		t.Errorf("%q", out)
	}
	// What is written to a service is nobody's in the agent: no line of the journal, no store.
	if out := r.must("journal"); strings.Contains(out, "Offset") {
		t.Errorf("the journal knows of it: %s", out)
	}
}

// A Service that is a Controller, too, needs no configuration but the Role of them all; it cannot pass for a remote Controller.
func TestControllersOfServices(t *testing.T) {
	dir, err := os.MkdirTemp("", "svc")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket, agentSocket := filepath.Join(dir, "broker"), filepath.Join(dir, "agent")
	r := configure(t, fmt.Sprintf("[usp]\nallow_plaintext = true\n[[usp.controller]]\nendpoint_id = \"self::remote\"\n[usp.controller.websocket]\nhost = \"127.0.0.1\"\nport = 1\n"+
		"[services]\nenabled = true\nsocket = %q\ncontroller_socket = %q\ncontroller_role = \"Full Access\"\n", socket, agentSocket))
	r.start()
	k, err := clock.New(clock.Config{EndpointID: "self::clock", Socket: socket, RetryMin: 10 * time.Millisecond, RetryMax: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	notes := make(chan *uspmsg.Notify, 100)
	connect := func(eid string) *controller.Controller {
		t.Helper()
		u := uds.DefaultClientConfig()
		u.Path, u.EndpointID, u.RetryMin, u.RetryMax = agentSocket, eid, 10*time.Millisecond, 20*time.Millisecond
		tr, err := uds.NewClient(u)
		if err != nil {
			t.Fatal(err)
		}
		c, err := controller.New(controller.Config{EndpointID: eid, Transport: tr, OnNotify: func(n *uspmsg.Notify) {
			if n.GetOnBoardReq() == nil {
				notes <- n
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		run, stop := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = c.Run(run) }()
		t.Cleanup(func() { stop(); <-done })
		if err := c.WaitUp(ctx); err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := connect("self::clock")
	if err := c.WaitConnect(ctx); err != nil { // R-MTP.6: the agent greets
		t.Fatal(err)
	}
	if _, err := c.Subscribe(ctx, "s", "ValueChange", true, clock.Path+"Offset"); err != nil {
		t.Fatal(err)
	}
	for ctx.Err() == nil && len(notes) == 0 { // until the subscription is mirrored
		r.must("set", fmt.Sprintf("%sOffset=%d", clock.Path, time.Now().Nanosecond()%800))
		time.Sleep(10 * time.Millisecond)
	}
	if n := <-notes; n.GetSubscriptionId() != "s" || n.GetValueChange().GetParamPath() != clock.Path+"Offset" {
		t.Errorf("%v", n)
	}
	if out := r.must("get", "Device.USPServices.USPService.1.HasController"); !strings.Contains(out, "= true") {
		t.Errorf("%q", out)
	}
	if out := r.must("get", `Device.LocalAgent.Controller.[EndpointID=="self::clock"].InheritedRole`); !strings.Contains(out, "Role.1") {
		t.Errorf("%q", out)
	}
	impostor := connect("self::remote")
	short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	if v, err := impostor.Value(short, "Device.DeviceInfo.SerialNumber"); err == nil {
		t.Errorf("an impostor reads %q", v)
	}
}

func TestServicesConfiguration(t *testing.T) {
	for extra, want := range map[string]string{
		"enabled = true\nmode = \"0066\"\n": "services.mode", "enabled = true\nmode = \"rw\"\n": "services.mode", "enabled = true\nmax = 0\n": "services.max",
		"enabled = true\nmax = 1000\n": "services.max", "sockets = \"x\"\n": "services.sockets", "enabled = true\nsocket = \"\"\n": "services.socket",
		"socket = \"/tmp/x\"\n": "services.enabled",
	} {
		r := configure(t, "[services]\n"+extra)
		if _, err := loadConfig(r.config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", extra, err)
		}
	}
	r := configure(t, "[services]\nenabled = true\nsocket = \"/nonexistent/x\"\n")
	if c, err := loadConfig(r.config); err != nil || c.checkMachine() == nil || !strings.Contains(c.checkMachine().Error(), "services.socket") {
		t.Errorf("a folder that is not there: %v", err)
	}
}
