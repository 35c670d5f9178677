package cwmp

import (
	"slices"
	"testing"
	"time"

	"twinspan/cwmp/soap"
)

const (
	zonePath = "Device.Time.LocalTimeZone"
	ntpPath  = "Device.Time.Enable"
)

func (r *rig) notify(name string, n int) {
	r.t.Helper()
	m := r.rpc(&soap.SetParameterAttributes{ParameterList: []soap.SetAttribute{{Name: name, NotificationChange: true, Notification: n}}})
	if _, ok := m.(*soap.SetParameterAttributesResponse); !ok {
		r.t.Fatalf("SetParameterAttributes %s: %#v", name, m)
	}
}

// settle lets the CPE take in what was committed.
func (r *rig) settle() {
	r.t.Helper()
	r.wait("the journal to be taken in", func() bool {
		seen := false
		r.cpe.call(r.ctx(), func() error {
			rev, _ := r.store.Cursor(writerName)
			seen = r.cpe.changes.rev >= r.store.Head().Rev() || rev >= r.store.Head().Rev()
			return nil
		})
		return seen
	})
}

// COEX-01: an active parameter changed by a Controller opens a session; ParameterKey is not touched. The ACS's own change of
// it does not (DESIGN invariant 7).
func TestCOEX01ActiveChange(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	r.notify(zonePath, 2)
	r.rpc(&soap.SetParameterValues{ParameterKey: "PK", ParameterList: values(zonePath, "own")})
	n := r.acs.count()
	r.settle()
	time.Sleep(400 * time.Millisecond)
	if r.acs.count() != n {
		t.Fatalf("the ACS was told of its own change: %v", eventCodes(inform(r.acs.session(n))))
	}
	r.sys(zonePath, "foreign")
	r.ended(n + 1)
	m := inform(r.acs.session(n))
	if got := eventCodes(m); !slices.Equal(got, []string{"4 VALUE CHANGE"}) {
		t.Errorf("events %v", got)
	}
	if v, _ := informed(m, zonePath); v != "foreign" {
		t.Errorf("reported %q", v)
	}
	if v, _ := informed(m, "Device.ManagementServer.ParameterKey"); v != "PK" {
		t.Errorf("ParameterKey %q", v)
	}
	// Reported once.
	r.run(&soap.GetRPCMethods{})
	if got := eventCodes(inform(r.acs.session(n + 1))); !slices.Equal(got, []string{"6 CONNECTION REQUEST"}) {
		t.Errorf("later events %v", got)
	}
}

// EVT-10: passive changes wait for the next Inform. ATT-18: back to the known value is no change.
func TestEVT10Passive(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	r.rpc(&soap.SetParameterValues{ParameterList: values(zonePath, "A")})
	r.notify(zonePath, 1)
	n := r.acs.count()
	r.sys(zonePath, "B")
	r.settle()
	time.Sleep(300 * time.Millisecond)
	if r.acs.count() != n {
		t.Fatal("a passive change opened a session")
	}
	r.run(&soap.GetRPCMethods{})
	m := inform(r.acs.session(n))
	if got := eventCodes(m); !slices.Equal(got, []string{"4 VALUE CHANGE", "6 CONNECTION REQUEST"}) {
		t.Errorf("events %v", got)
	}
	if v, _ := informed(m, zonePath); v != "B" {
		t.Errorf("reported %q", v)
	}
	r.sys(zonePath, "C")
	r.sys(zonePath, "B")
	r.settle()
	r.run(&soap.GetRPCMethods{})
	if got := eventCodes(inform(r.acs.session(n + 1))); !slices.Equal(got, []string{"6 CONNECTION REQUEST"}) {
		t.Errorf("toggled back: %v", got)
	}
}

// A passive change that was not told survives a restart, because the journal is read again.
func TestPassiveSurvivesRestart(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	r.notify(zonePath, 1)
	r.sys(zonePath, "B")
	r.settle()
	n := r.acs.count()
	r.restart()
	r.ended(n + 1)
	m := inform(r.acs.session(n))
	if v, _ := informed(m, zonePath); v != "B" || !slices.Equal(eventCodes(m), []string{"1 BOOT", "4 VALUE CHANGE"}) {
		t.Errorf("first Inform after the restart: %q %v", v, eventCodes(m))
	}
}

// ATT-17: several active changes at once, one Inform with the final values. ATT-19: the throttle holds it back, other
// reasons not.
func TestATT19Throttle(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	r.rpc(&soap.SetParameterValues{ParameterList: values("Device.ManagementServer.DefaultActiveNotificationThrottle", "1")})
	r.notify(zonePath, 2)
	r.notify(ntpPath, 2)
	n := r.acs.count()
	start := time.Now()
	r.usp(zonePath, "X")
	r.usp(zonePath, "Y")
	r.usp(ntpPath, "true")
	r.ended(n + 1)
	if d := time.Since(start); d < 500*time.Millisecond {
		t.Errorf("told after %v", d)
	}
	m := inform(r.acs.session(n))
	if v, _ := informed(m, zonePath); v != "Y" {
		t.Errorf("reported %q", v)
	}
	if v, ok := informed(m, ntpPath); !ok || v != "true" {
		t.Errorf("second parameter %q", v)
	}
}

// SES-26: what changes during a session waits for the next one. A change after the Inform was frozen is not lost.
func TestSES26ChangeDuringSession(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	r.notify(zonePath, 2)
	n := r.acs.count()
	r.acs.script(func(i int, env *soap.Envelope) (int, *soap.Envelope, bool) {
		if len(r.acs.sessions) == n+1 && i == 1 {
			r.usp(zonePath, "late")
		}
		return 0, nil, false
	})
	r.usp(zonePath, "early")
	r.ended(n + 2)
	if v, _ := informed(inform(r.acs.session(n)), zonePath); v != "early" {
		t.Errorf("first Inform %q", v)
	}
	m := inform(r.acs.session(n + 1))
	if v, _ := informed(m, zonePath); v != "late" || !slices.Equal(eventCodes(m), []string{"4 VALUE CHANGE"}) {
		t.Errorf("second Inform %q %v", v, eventCodes(m))
	}
}

// An unacknowledged Inform keeps its changes and reports current values next time.
func TestChangeKeptOverFailure(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	r.notify(zonePath, 2)
	n := r.acs.count()
	r.acs.script(func(i int, env *soap.Envelope) (int, *soap.Envelope, bool) {
		return 500, nil, len(r.acs.sessions) == n+1
	})
	r.usp(zonePath, "one")
	r.ended(n + 1)
	r.usp(zonePath, "two") // RTY-05: a new change is tried at once, the count goes on
	r.ended(n + 2)
	m := inform(r.acs.session(n + 1))
	if v, _ := informed(m, zonePath); v != "two" || m.RetryCount != 1 {
		t.Errorf("%q, RetryCount %d", v, m.RetryCount)
	}
}

// Live values: a new software version after a restart (DL-12), a status that follows the ACS's own write (SPV-19), the
// number of rows (ADD-08), and not the number the ACS changed itself.
func TestLiveValues(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	const status, count = "Device.IP.Interface.2.Status", "Device.NAT.PortMappingNumberOfEntries"
	r.notify(status, 2)
	r.notify(count, 2)
	n := r.acs.count()
	r.rpc(&soap.SetParameterValues{ParameterList: values("Device.IP.Interface.2.Enable", "true")})
	r.wait("the status to be told", func() bool {
		for i := n; i < r.acs.count(); i++ {
			if v, ok := informed(inform(r.acs.session(i)), status); ok && v == "Up" {
				return true
			}
		}
		return false
	})
	r.ended(r.acs.count())
	n = r.acs.count()
	r.rpc(&soap.AddObject{ObjectName: "Device.NAT.PortMapping."})
	time.Sleep(300 * time.Millisecond)
	if r.acs.count() != n+1 {
		t.Errorf("own AddObject was told: %v", eventCodes(inform(r.acs.session(n+1))))
	}
	r.ended(r.acs.count())
	n = r.acs.count()
	r.stop()
	r.start()
	r.ended(n + 1)
	if got := eventCodes(inform(r.acs.session(n))); !slices.Equal(got, []string{"1 BOOT"}) {
		t.Errorf("restart with nothing new: %v", got)
	}
	r.sim.Set("Device.DeviceInfo.SoftwareVersion", "sw2")
	r.ended(n + 2)
	m := inform(r.acs.session(n + 1))
	if v, _ := informed(m, "Device.DeviceInfo.SoftwareVersion"); v != "sw2" || !slices.Equal(eventCodes(m), []string{"4 VALUE CHANGE"}) {
		t.Errorf("new version: %q %v", v, eventCodes(m))
	}
}

// ATT-01 and the InformParameter table: IPT-02, IPT-04, IPT-05, INF-12.
func TestInformParameter(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	const row = "Device.ManagementServer.InformParameter.1."
	a := r.run(&soap.AddObject{ObjectName: "Device.ManagementServer.InformParameter."},
		&soap.SetParameterValues{ParameterList: values(row+"ParameterName", "Device.IP.Interface.*.Enable", row+"Enable", "true", row+"EventList", "6 CONNECTION REQUEST")},
		&soap.SetParameterValues{ParameterList: values(row+"ParameterName", "Device.DeviceInfo.SoftwareVersion")},
		&soap.SetParameterValues{ParameterList: values(row+"EventList", "1 BOOT,4 VALUE CHANGE")})
	if _, ok := a[1].(*soap.SetParameterValuesResponse); !ok {
		t.Fatalf("%#v", a[1])
	}
	for _, bad := range a[2:] {
		f := wantFault(t, bad, soap.InvalidArguments)
		if len(f.SetParameterValuesFault) != 1 || f.SetParameterValuesFault[0].FaultCode != 9007 {
			t.Errorf("faults %+v", f)
		}
	}
	n := r.acs.count()
	r.run(&soap.GetRPCMethods{})
	m := inform(r.acs.session(n))
	for _, name := range []string{"Device.IP.Interface.1.Enable", "Device.IP.Interface.2.Enable"} {
		if _, ok := informed(m, name); !ok {
			t.Errorf("%s is missing", name)
		}
	}
	seen := map[string]bool{}
	for _, p := range m.ParameterList {
		if seen[p.Name] {
			t.Errorf("%s twice", p.Name)
		}
		seen[p.Name] = true
	}
	r.restart()
	r.ended(n + 2)
	if _, ok := informed(inform(r.acs.session(n+1)), "Device.IP.Interface.1.Enable"); ok {
		t.Error("parameter sent with another event")
	}
}
