package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"twinspan/usp/service/clock"
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

func TestServicesConfiguration(t *testing.T) {
	for _, extra := range []string{"[services]\nmode = \"0066\"\n", "[services]\nmode = \"rw\"\n", "[services]\nmax = 0\n", "[services]\nmax = 1000\n", "[services]\nsockets = \"x\"\n"} {
		r := configure(t, extra)
		if _, err := loadConfig(r.config); err == nil || !strings.Contains(err.Error(), "services.") {
			t.Errorf("%q: %v", extra, err)
		}
	}
}
