package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"twinspan/bridge"
	"twinspan/cwmp"
	"twinspan/cwmp/soap"
	"twinspan/usp/agent"
)

// notified is the set of kinds that a watcher printed; events count by their name.
func notified(out *safeBuffer, into map[string]bool) {
	dec := json.NewDecoder(strings.NewReader(out.String()))
	for {
		var n notification
		if dec.Decode(&n) != nil {
			return
		}
		if n.Type == "Event" {
			n.Type = n.Path[strings.LastIndexByte(n.Path, '.')+1:]
		}
		into[n.Type] = true
	}
}

// informed is the set of event codes since the n-th Inform, but those of the sessions that the test itself asks for.
func (m *managed) informed(n int) map[string]bool {
	out := map[string]bool{}
	for _, r := range m.device.Informs()[n:] {
		for _, e := range r.Inform.Event {
			if e.EventCode != "6 CONNECTION REQUEST" {
				out[e.EventCode] = true
			}
		}
	}
	return out
}

// TestCausality compares row by row what both heads really send with the table that they look up.
func TestCausality(t *testing.T) {
	m := manage(t, "dual-cwmp")
	depot := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	t.Cleanup(func() { depot.CloseClientConnections(); depot.Close() })
	if err := m.session(func(ctx context.Context) error {
		_, err := m.device.Call(ctx, &soap.SetParameterAttributes{ParameterList: []soap.SetAttribute{{Name: zone, NotificationChange: true, Notification: 2}}})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	const policy = "Device.ManagementServer.AutonomousTransferCompletePolicy."
	if err := m.spv(policy+"Enable", "true", policy+"TransferTypeFilter", "Both", policy+"FileTypeFilter", "4 Vendor Log File"); err != nil {
		t.Fatal(err)
	}
	kinds := []string{"ValueChange", "ObjectCreation", "ObjectDeletion", "OperationComplete", "Event"}
	call := func(req soap.Message) func() error {
		return func() error {
			return m.session(func(ctx context.Context) error { _, err := m.device.Call(ctx, req); return err })
		}
	}
	const table = "Device.NAT.PortMapping."
	const echo = "Device.IP.Diagnostics.UDPEchoDiagnostics."
	marks := 0
	for _, c := range []struct {
		cause bridge.Cause
		path  string // that Controllers subscribe to, with Device.LocalAgent. for events
		do    func() error
	}{
		{bridge.CauseACSWrite, table, func() error {
			return m.session(func(ctx context.Context) error {
				resp, err := m.device.Call(ctx, &soap.AddObject{ObjectName: table})
				if err != nil {
					return err
				}
				row := fmt.Sprintf("%s%d.", table, resp.(*soap.AddObjectResponse).InstanceNumber)
				if _, err := m.device.SetValues(ctx, "", soap.ParameterValue{Name: row + "Description", Value: "x"}); err != nil {
					return err
				}
				_, err = m.device.Call(ctx, &soap.DeleteObject{ObjectName: row})
				return err
			})
		}},
		{bridge.CauseWrite, table, func() error {
			row := strings.Fields(m.must("add", table, "Protocol=TCP", "ExternalPort=99"))[0]
			m.must("set", row+"Description=x", zone+"=CET-1")
			m.must("del", row)
			return nil
		}},
		{bridge.CauseScheduleInform, table, call(&soap.ScheduleInform{DelaySeconds: 1, CommandKey: "s"})},
		{bridge.CauseScheduleTimer, "Device.ScheduleTimer()", func() error { m.must("operate", "Device.ScheduleTimer()", "DelaySeconds=1"); return nil }},
		{bridge.CauseUploadRPC, table, call(&soap.Upload{CommandKey: "u", FileType: "2 Vendor Log File", URL: depot.URL + "/u"})},
		{bridge.CauseDownloadRPC, table, call(&soap.Download{CommandKey: "d", FileType: "3 Vendor Configuration File", URL: depot.URL + "/d"})},
		{bridge.CauseTransfer, "Device.DeviceInfo.VendorLogFile.", func() error {
			m.must("operate", "Device.DeviceInfo.VendorLogFile.1.Upload()", "URL="+depot.URL+"/f", "Username=", "Password=")
			return nil
		}},
		{bridge.CauseDiagnosticsState, "Device.IP.", func() error {
			return m.spv(echo+"Host", "127.0.0.1", echo+"Port", "9", echo+"NumberOfRepetitions", "1", echo+"Timeout", "100", echo+"DiagnosticsState", "Requested")
		}},
		{bridge.CauseDiagnostics, "Device.IP.Diagnostics.", func() error {
			_, _, _ = m.do("operate", "Device.IP.Diagnostics.UDPEchoDiagnostics()", "Host=127.0.0.1", "Port=9", "NumberOfRepetitions=1", "Timeout=100")
			return nil
		}},
		{bridge.CausePhase, object, func() error { m.must("phase", "shadow"); return nil }},
	} {
		row := bridge.Told(c.cause)
		t.Run(row.Text, func(t *testing.T) {
			if !haveDiag && (c.cause == bridge.CauseTransfer || c.cause == bridge.CauseDiagnosticsState || c.cause == bridge.CauseDiagnostics) {
				t.Logf("%s: not in this build", row.Text)
				return
			}
			m.t = t
			var outs []*safeBuffer
			for _, kind := range kinds {
				paths := []string{"--type", kind, c.path, zone}
				switch {
				case kind == "Event":
					paths = []string{"--type", kind, "Device.LocalAgent.", object}
				case strings.HasSuffix(c.path, "()") && kind != "OperationComplete":
					paths = []string{"--type", kind, "Device.Time."}
				case kind == "OperationComplete" && c.path != "Device.DeviceInfo.VendorLogFile." && !strings.HasSuffix(c.path, "()"):
					paths = []string{"--type", kind, "Device.IP.Diagnostics."}
				case kind == "ObjectDeletion":
					paths = []string{"--type", kind, table + "*."}
				case kind == "ObjectCreation":
					paths = []string{"--type", kind, table}
				case strings.HasPrefix(c.path, "Device.IP.") || c.path == object:
					paths = []string{"--type", kind, zone}
				}
				outs = append(outs, m.listen(paths...))
			}
			before := len(m.device.Informs())
			if err := c.do(); err != nil {
				t.Fatal(err)
			}
			got := map[string]bool{}
			all := func() bool {
				for _, o := range outs {
					notified(o, got)
				}
				for _, want := range row.Notify {
					if !got[want] && c.cause != bridge.CausePhase {
						return false
					}
				}
				have := m.informed(before)
				for _, want := range row.Inform {
					if !have[want] {
						return false
					}
				}
				return true
			}
			defer func() {
				if t.Failed() {
					t.Logf("the ACS saw %v, Controllers %v; want %v and %v", m.informed(before), got, row.Inform, row.Notify)
				}
			}()
			until(t, row.Text, all)
			// Something that both are told of comes last: what else there was has arrived by then.
			if c.cause != bridge.CausePhase {
				seen := m.informed(before)
				n := len(m.device.Informs())
				marks++
				m.must("set", fmt.Sprintf("%s=UTC%d", zone, marks))
				until(t, "the mark", func() bool { return m.informed(n)["4 VALUE CHANGE"] })
				for code := range seen {
					if !slices.Contains(row.Inform, code) {
						t.Errorf("the ACS was told %s", code)
					}
				}
			}
			all()
			for kind := range got {
				if !slices.Contains(row.Notify, kind) && kind != "ValueChange" && kind != "Conflict!" && kind != "OwnershipLost!" {
					t.Errorf("Controllers were told %s", kind)
				}
			}
		})
		m.t = t
	}
}

// TestCausalityOfRestarts: the Inform after a restart, and what Boot! says, are those of the table.
func TestCausalityOfRestarts(t *testing.T) {
	m := manage(t, "dual-cwmp")
	for _, c := range []struct {
		cause bridge.Cause
		do    func() error
	}{
		{bridge.CauseRebootRPC, func() error {
			return m.session(func(ctx context.Context) error {
				_, err := m.device.Call(ctx, &soap.Reboot{CommandKey: "r"})
				return err
			})
		}},
		{bridge.CauseLocalReboot, func() error { m.must("operate", "Device.Reboot()"); return nil }},
		{bridge.CauseLocalFactoryReset, func() error { m.must("operate", "Device.FactoryReset()"); return nil }},
	} {
		row := bridge.Told(c.cause)
		before := len(m.device.Informs())
		if err := c.do(); err != nil {
			t.Fatal(err)
		}
		until(t, row.Text, func() bool { return m.informed(before)["1 BOOT"] })
		got := m.informed(before)
		delete(got, "4 VALUE CHANGE") // the port of the connection requests is a new one
		for _, code := range row.Inform {
			if !got[code] {
				t.Errorf("%s: no %s in %v", row.Text, code, got)
			}
		}
		if len(got) != len(row.Inform) {
			t.Errorf("%s: the ACS sees %v, the table says %v", row.Text, got, row.Inform)
		}
		until(t, "the command line", func() bool { status, _, _ := m.do("get", zone); return status == exitDone })
		if err := m.device.WaitIdle(t.Context(), len(m.device.Informs())); err != nil {
			t.Fatal(err)
		}
	}
	for cause, boot := range map[bridge.Cause]*agent.BootInfo{
		bridge.CauseRebootRPC:       bootAfter(&cwmp.RestartError{Cause: cwmp.RestartCause{Kind: cwmp.RestartReboot, CommandKey: "k"}}),
		bridge.CauseFactoryResetRPC: bootAfter(&cwmp.RestartError{Cause: cwmp.RestartCause{Kind: cwmp.RestartFactoryReset}}),
		bridge.CauseReboot:          bootTold(bridge.CauseReboot, "k", ""), bridge.CauseFactoryReset: bootTold(bridge.CauseFactoryReset, "k", ""),
		bridge.CauseLocalReboot: bootTold(bridge.CauseLocalReboot, "k", ""), bridge.CauseLocalFactoryReset: bootTold(bridge.CauseLocalFactoryReset, "k", ""),
	} {
		if row := bridge.Told(cause); boot.Cause != row.Boot || (boot.CommandKey == "k") != row.Key {
			t.Errorf("%s: %+v", row.Text, boot)
		}
	}
}
