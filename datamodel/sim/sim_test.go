package sim

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"twinspan/datamodel"
	"twinspan/datamodel/providertest"
	"twinspan/datamodel/tr181"
)

func schema(t *testing.T) *datamodel.Schema {
	t.Helper()
	s, err := tr181.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const (
	ethStatus = "Device.Ethernet.Interface.{i}.Status"
	ethEnable = "Device.Ethernet.Interface.1.Enable"
	ping      = "Device.IP.Diagnostics.IPPing()"
)

func TestSuite(t *testing.T) {
	p := New("sim")
	p.Set("Device.DeviceInfo.SoftwareVersion", "1.0")
	p.Counter("Device.Ethernet.Interface.{i}.Stats.BytesSent", 5, 1500)
	p.Follow(ethStatus, "Enable", "Up", "Down")
	p.Set("Device.Hosts.Host.{i}.IPAddress", "192.0.2.7")
	p.Table("Device.Hosts.Host.", 4, 2)
	p.SetRows([]string{"Device.Ethernet.Interface."},
		datamodel.Row{Table: "Device.Ethernet.Interface.", Key: "Name", Values: map[string]string{"Name": "eth0"}},
		datamodel.Row{Table: "Device.Ethernet.Interface.", Key: "Name", Values: map[string]string{"Name": "eth1"}})
	p.Command(ping, Behaviour{Takes: time.Millisecond, Output: map[string]string{"Status": "Complete", "SuccessCount": "3"}})
	providertest.Run(t, providertest.Case{
		Provider: p, Schema: schema(t), MinValues: 1 + 2 + 2 + 2,
		Writes: []datamodel.Write{{Path: ethEnable, Value: "true"}},
		Runs:   []datamodel.Invocation{{Command: ping}},
	})
	if got := p.Applied(); len(got) != 2 || got[0].Path != ethEnable {
		t.Errorf("applied %v", got)
	}
}

func read(t *testing.T, p *Provider, object, name string, stored map[string]string) string {
	t.Helper()
	got := "-"
	err := p.Read(context.Background(), datamodel.ObjectRef{Path: object, Stored: func(s string) string { return stored[s] }},
		[]string{name}, func(_, v string) { got = v })
	if err != nil {
		return "error: " + err.Error()
	}
	return got
}

func TestValuesOverTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New("sim")
		p.Counter("Device.Ethernet.Interface.{i}.Stats.BytesSent", 10, 2.5)
		p.Set("Device.Ethernet.Interface.{i}.Name", "any")
		p.Set("Device.Ethernet.Interface.2.Name", "eth2")
		p.FollowAfter(ethStatus, "Enable", "Up", "Down", time.Second)
		time.Sleep(4 * time.Second)
		if got := read(t, p, "Device.Ethernet.Interface.1.Stats.", "BytesSent", nil); got != "20" {
			t.Errorf("the counter is %s", got)
		}
		if a, b := read(t, p, "Device.Ethernet.Interface.1.", "Name", nil), read(t, p, "Device.Ethernet.Interface.2.", "Name", nil); a != "any" || b != "eth2" {
			t.Errorf("names %s %s", a, b)
		}
		p.Unset("Device.Ethernet.Interface.{i}.Name")
		if got := read(t, p, "Device.Ethernet.Interface.1.", "Name", nil); got != "-" {
			t.Errorf("an unset value reads %s", got)
		}
		status := func() string {
			return read(t, p, "Device.Ethernet.Interface.1.", "Status", map[string]string{ethEnable: "true"})
		}
		if got := status(); got != "Up" {
			t.Errorf("from the stored value: %s", got)
		}
		apply := func(v string) {
			if err := p.Apply(t.Context(), []datamodel.Write{{Path: ethEnable, Value: v}}); err != nil {
				t.Fatal(err)
			}
		}
		apply("false")
		if got := status(); got != "Up" {
			t.Errorf("before the delay: %s", got)
		}
		time.Sleep(600 * time.Millisecond)
		apply("false") // the repetition does not start the delay anew
		time.Sleep(600 * time.Millisecond)
		if got := status(); got != "Down" {
			t.Errorf("after the delay: %s", got)
		}
		if err := p.Apply(t.Context(), []datamodel.Write{{Path: "Device.Ethernet.Interface.1.", Deleted: true}}); err != nil {
			t.Fatal(err)
		}
		if got := status(); got != "Up" {
			t.Errorf("after the row was deleted: %s", got)
		}
	})
}

func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New("sim")
		p.Set("Device.DeviceInfo.SoftwareVersion", "1.0")
		p.Takes("Device.Ethernet.")
		p.Table("Device.Hosts.Host.", 1)
		boom := errors.New("boom")
		get := func() string { return read(t, p, "Device.DeviceInfo.", "SoftwareVersion", nil) }

		p.SetFaults(Faults{Read: boom})
		if got := get(); got != "error: boom" {
			t.Error(got)
		}
		if _, err := p.Instances(t.Context(), "Device.Hosts.Host."); !errors.Is(err, boom) {
			t.Error(err)
		}
		p.SetFaults(Faults{SlowRead: time.Minute})
		start := time.Now()
		if got := get(); got != "1.0" || time.Since(start) != time.Minute {
			t.Errorf("%s after %v", got, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.Instances(ctx, "Device.Hosts.Host."); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		p.SetFaults(Faults{Panic: true})
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			get()
		}()
		p.SetFaults(Faults{Veto: boom, VetoPath: "Device.Ethernet.Interface.1."})
		if err := p.Prepare(t.Context(), []datamodel.Write{{Path: ethEnable}}); !errors.Is(err, boom) {
			t.Error(err)
		}
		if err := p.Prepare(t.Context(), []datamodel.Write{{Path: "Device.Ethernet.Interface.2.Enable"}}); err != nil {
			t.Error(err)
		}
		p.SetFaults(Faults{Apply: boom})
		if err := p.Apply(t.Context(), []datamodel.Write{{Path: ethEnable}}); !errors.Is(err, boom) || len(p.Applied()) != 0 {
			t.Error(err, p.Applied())
		}
		p.SetFaults(Faults{})
		if got := get(); got != "1.0" {
			t.Error(got)
		}
		if c := p.Calls(); c.Read != 4 || c.Instances != 2 || c.Prepare != 2 || c.Apply != 1 {
			t.Errorf("%+v", c)
		}
	})
}

func TestRowsComeAndGo(t *testing.T) {
	p := New("sim")
	p.Table("Device.Hosts.Host.")
	p.AddRow("Device.Hosts.Host.", 3)
	p.AddRow("Device.Hosts.Host.", 1)
	p.AddRow("Device.Hosts.Host.", 1)
	got, err := p.Instances(t.Context(), "Device.Hosts.Host.")
	if err != nil || !slices.Equal(got, []uint32{1, 3}) {
		t.Fatal(got, err)
	}
	p.RemoveRow("Device.Hosts.Host.", 1)
	if again, _ := p.Instances(t.Context(), "Device.Hosts.Host."); !slices.Equal(again, []uint32{3}) || !slices.Equal(got, []uint32{1, 3}) {
		t.Error(again, got)
	}
	p.SetRows([]string{"Device.Ethernet.Interface."})
	p.SetRows(nil) // two hints become one
	<-p.Changed()
	select {
	case <-p.Changed():
		t.Error("two hints")
	default:
	}
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New("sim")
		p.Command(ping, Behaviour{Takes: time.Hour, Output: map[string]string{"Status": "Complete"}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := p.Run(ctx, datamodel.Invocation{Command: ping}); datamodel.ReasonOf(err) != datamodel.CommandCanceled {
			t.Error(err)
		}
		if out, err := p.Run(t.Context(), datamodel.Invocation{Command: ping}); err != nil || out["Status"] != "Complete" {
			t.Error(out, err)
		}
		p.Command(ping, Behaviour{Fault: datamodel.Fail(datamodel.CommandFailed, ping, "no route")})
		if _, err := p.Run(t.Context(), datamodel.Invocation{Command: ping}); datamodel.ReasonOf(err) != datamodel.CommandFailed {
			t.Error(err)
		}
	})
}

func TestConfigure(t *testing.T) {
	p := New("sim")
	err := p.Configure(map[string]any{
		"values":   map[string]any{"Device.DeviceInfo.SoftwareVersion": "2.1", "Device.DeviceInfo.UpTime": "uptime", "Device.Ethernet.Interface.{i}.Stats.BytesSent": "counter 7 0"},
		"follow":   map[string]any{ethStatus: "Enable Up Down 50ms"},
		"rows":     map[string]any{"Device.Hosts.Host.": []any{int64(2), int64(1)}},
		"commands": map[string]any{ping: map[string]any{"takes": "1ms", "fault": "", "output": map[string]any{"SuccessCount": int64(3)}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, p, "Device.Ethernet.Interface.9.Stats.", "BytesSent", nil); got != "7" {
		t.Error(got)
	}
	if out, err := p.Run(t.Context(), datamodel.Invocation{Command: ping}); err != nil || out["SuccessCount"] != "3" {
		t.Error(out, err)
	}
	if got := p.Serves(); len(got) != 4 {
		t.Error(got)
	}
	for _, bad := range []map[string]any{
		{"values": "x"}, {"nonsense": map[string]any{"a": "b"}}, {"values": map[string]any{"Device.A": "counter x"}},
		{"follow": map[string]any{"Device.A.B": "Enable Up"}}, {"follow": map[string]any{"Device.A.B": "Enable Up Down soon"}},
		{"rows": map[string]any{"Device.A.": []any{int64(0)}}}, {"rows": map[string]any{"Device.A.": "1"}},
		{"commands": map[string]any{"Device.A()": map[string]any{"takes": "x"}}},
		{"commands": map[string]any{"Device.A()": map[string]any{"speed": "x"}}},
	} {
		if err := New("sim").Configure(bad); err == nil || !strings.HasPrefix(err.Error(), "sim: ") {
			t.Errorf("%v: %v", bad, err)
		}
	}
}
