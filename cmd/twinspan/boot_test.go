package main

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"twinspan/usp/controller"
	"twinspan/usp/mtp/websocket"
	"twinspan/usp/uspmsg"
)

// A Reboot() that a Controller asks for is told to it by Boot! with its command_key, though the hook ended the machine;
// the next start is a plain one again.
func TestBootTellsWhoRebooted(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
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
	boots := make(chan map[string]string, 16)
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
	r := configure(t, fmt.Sprintf("[hooks]\nreboot = [\"true\"]\n[usp]\nallow_plaintext = true\n[[usp.controller]]\nendpoint_id = \"self::manager\"\n[usp.controller.websocket]\nhost = \"127.0.0.1\"\nport = %d\npath = \"/usp\"\n", port))
	r.start()
	if err := c.WaitConnect(ctx); err != nil {
		t.Fatal(err)
	}
	_, _, err = c.Add(ctx, "Device.LocalAgent.Subscription.", map[string]string{"Enable": "true", "ID": "boot", "NotifType": "Event", "ReferenceList": "Device.Boot!", "Persistent": "true"})
	if err != nil {
		t.Fatal(err)
	}
	next := func(cause, key string) {
		t.Helper()
		select {
		case b := <-boots:
			if b["Cause"] != cause || b["CommandKey"] != key {
				t.Errorf("%v, want %s %q", b, cause, key)
			}
		case <-ctx.Done():
			t.Fatalf("no Boot! for %s; it said %s", cause, r.log)
		}
	}
	if _, _, err := c.Operate(ctx, "Device.Reboot()", "boot-77", map[string]string{"Reason": "test"}); err != nil {
		t.Fatal(err)
	}
	next("RemoteReboot", "boot-77")
	r.await()
	r.must("operate", "Device.Reboot()")
	next("LocalReboot", "")
	r.end()
	r.start()
	next("LocalReboot", "")
}
