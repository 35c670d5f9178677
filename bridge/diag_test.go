package bridge_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/datamodel/diag"
	"twinspan/datamodel/tr181"
	"twinspan/store"
)

var controller = bridge.Writer{Name: "usp:self::test", Protocol: datamodel.USP, Class: bridge.ClassMain}

// agent is the bridge with the provider, as a program wires them.
func agent(t *testing.T, db *store.Store) (e *bridge.Engine, end func()) {
	t.Helper()
	profile := &datamodel.Profile{Supports: []string{"Device.IP.", "Device.DeviceInfo.", "Device.DNS.", "Device.SelfTestDiagnostics()"},
		Factory: map[string]string{"Device.IP.Interface.1.Name": "lo"}}
	schema, err := tr181.Load(profile)
	if err != nil {
		t.Fatal(err)
	}
	p, err := diag.New(diag.Options{LogFiles: []diag.LogFile{{Name: "agent", Write: func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, "started\n")
		return err
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	if e, err = bridge.New(bridge.Options{Schema: schema, Profile: profile, Store: db, Providers: []datamodel.Provider{p}}); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	p.Attach(func(path string) string { leaf, _ := db.Head().Leaf(path); return leaf.Value })
	return e, func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

func operate(t *testing.T, e *bridge.Engine, path string, args map[string]string) map[string]string {
	t.Helper()
	op, err := e.Command(controller, path, args)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := op.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The commands, the echo server and the rows work through the bridge, and the server is there again after a restart.
func TestThroughTheBridge(t *testing.T) {
	db := store.OpenMemory(store.Options{})
	defer db.Close()
	e, end := agent(t, db)
	var got string
	depot := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = string(b)
	}))
	defer depot.Close()
	operate(t, e, "Device.DeviceInfo.VendorLogFile.1.Upload()", map[string]string{"URL": depot.URL, "Username": "", "Password": ""})
	if got != "started\n" {
		t.Errorf("uploaded %q", got)
	}
	out := operate(t, e, "Device.IP.Diagnostics.DownloadDiagnostics()", map[string]string{"DownloadURL": depot.URL, "Interface": "Device.IP.Interface.1"})
	if out["Status"] != "Complete" || out["IPAddressUsed"] != "127.0.0.1" {
		t.Errorf("%v", out)
	}
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(c.LocalAddr().(*net.UDPAddr).Port)
	// While the port is taken the change is carried back.
	enable := bridge.Change{Atomic: true, Ops: []bridge.Op{{Kind: bridge.OpSet, Path: "Device.IP.Diagnostics.UDPEchoConfig.", Settings: []bridge.Setting{
		{Name: "Enable", Value: "true", Required: true}, {Name: "UDPPort", Value: port, Required: true},
		{Name: "SourceIPAddress", Value: "127.0.0.1", Required: true}, {Name: "Interface", Value: "Device.IP.Interface.1", Required: true}}}}}
	if _, err := e.Apply(context.Background(), controller, enable); err == nil {
		t.Error("a taken port is no error")
	}
	c.Close()
	if _, err := e.Apply(context.Background(), controller, enable); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		out := operate(t, e, "Device.IP.Diagnostics.UDPEchoDiagnostics()", map[string]string{"Host": "127.0.0.1", "Port": port, "Timeout": "2000"})
		if out["Status"] != "Complete" || out["SuccessCount"] != "1" {
			t.Errorf("%v", out)
		}
		end()
		e, end = agent(t, db)
	}
	// Reset needs a hook.
	op, err := e.Command(controller, "Device.IP.Interface.1.Reset()", nil)
	if err == nil {
		_, err = op.Run(context.Background())
	}
	if datamodel.ReasonOf(err) != datamodel.NotImplemented {
		t.Errorf("%v", err)
	}
	// A second run of the same test waits for nobody: it is refused.
	first, err := e.Command(controller, "Device.SelfTestDiagnostics()", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Command(controller, "Device.SelfTestDiagnostics()", nil); datamodel.ReasonOf(err) != datamodel.Resources {
		t.Errorf("%v", err)
	}
	first.Cancel()
	end()
}
