package cwmp

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"twinspan/bridge"
	"twinspan/cwmp/soap"
	"twinspan/datamodel"
)

// EVT-01, INF-02, INF-05: the first Inform.
func TestEVT01FirstContact(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	r.ended(1)
	if got := r.acs.methods(0); !slices.Equal(got, []string{"Inform", "-"}) {
		t.Errorf("messages %v", got)
	}
	m := inform(r.acs.session(0))
	if got := eventCodes(m); !slices.Equal(got, []string{"0 BOOTSTRAP", "1 BOOT"}) {
		t.Errorf("events %v", got)
	}
	if m.RetryCount != 0 || m.MaxEnvelopes != 1 {
		t.Errorf("RetryCount %d, MaxEnvelopes %d", m.RetryCount, m.MaxEnvelopes)
	}
	if m.DeviceID != (soap.DeviceID{Manufacturer: "Example", OUI: "00D09E", ProductClass: "Box", SerialNumber: "SN 1"}) {
		t.Errorf("DeviceId %+v", m.DeviceID)
	}
	for _, name := range []string{"Device.RootDataModelVersion", "Device.DeviceInfo.HardwareVersion", "Device.DeviceInfo.SoftwareVersion",
		"Device.DeviceInfo.ProvisioningCode", "Device.ManagementServer.ParameterKey", "Device.ManagementServer.ConnectionRequestURL",
		"Device.ManagementServer.AliasBasedAddressing"} {
		if _, ok := informed(m, name); !ok {
			t.Errorf("%s is missing", name)
		}
	}
	if v, _ := informed(m, "Device.RootDataModelVersion"); v != "2.19" {
		t.Errorf("RootDataModelVersion %q", v)
	}
	head := r.acs.session(0)[0].Header
	if head.SessionTimeout < 30 || strings.Join(head.SupportedCWMPVersions, ",") != "1.0,1.1,1.2,1.3,1.4" { // SES-18, VER-01
		t.Errorf("header %+v", head)
	}
	if r.acs.session(0)[0].Namespace != soap.NSCWMP12 { // VER-06
		t.Errorf("namespace %s", r.acs.session(0)[0].Namespace)
	}
}

// EVT-02: a restart is a BOOT, not a BOOTSTRAP; undelivered events of before are told.
func TestEVT02Restart(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	r.ended(1)
	r.restart()
	r.ended(2)
	if got := eventCodes(inform(r.acs.session(1))); !slices.Equal(got, []string{"1 BOOT"}) {
		t.Errorf("events %v", got)
	}
}

func TestHoldRequests(t *testing.T) {
	t.Parallel()
	hold := true
	tests := []struct {
		name string
		// script answers message n of the session that has a TransferComplete to send.
		script func(a *scriptedACS) func(n int, env *soap.Envelope) (int, *soap.Envelope, bool)
		want   []string
	}{
		{"no hold: TransferComplete at once", func(a *scriptedACS) func(int, *soap.Envelope) (int, *soap.Envelope, bool) { return nil },
			[]string{"Inform", "TransferComplete", "-"}},
		{"SES-08 held until an RPC releases", func(a *scriptedACS) func(int, *soap.Envelope) (int, *soap.Envelope, bool) {
			return func(n int, env *soap.Envelope) (int, *soap.Envelope, bool) {
				switch n {
				case 0:
					e := a.usual(env)
					e.Header.HoldRequests = &hold
					return 0, e, true
				case 1:
					e := a.rpc(&soap.GetRPCMethods{})
					e.Header.HoldRequests = &hold
					return 0, e, true
				case 2:
					off := false
					e := a.rpc(&soap.GetRPCMethods{})
					e.Header.HoldRequests = &off
					return 0, e, true
				}
				return 0, nil, false
			}
		}, []string{"Inform", "-", "GetRPCMethodsResponse", "GetRPCMethodsResponse", "TransferComplete", "-"}},
		{"SES-09 an empty answer releases", func(a *scriptedACS) func(int, *soap.Envelope) (int, *soap.Envelope, bool) {
			return func(n int, env *soap.Envelope) (int, *soap.Envelope, bool) {
				if n == 0 {
					e := a.usual(env)
					e.Header.HoldRequests = &hold
					return 0, e, true
				}
				return 0, nil, false
			}
		}, []string{"Inform", "-", "TransferComplete", "-"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil, nil)
			r.ended(1)
			r.acs.script(tt.script(r.acs))
			r.cpe.call(r.ctx(), func() error {
				r.cpe.transfers = append(r.cpe.transfers, &transfer{ID: "1", CommandKey: "K", State: transferQueued})
				r.cpe.finishTransfer(r.cpe.transfers[0], time.Now(), nil)
				return nil
			})
			r.ended(2)
			if got := r.acs.methods(1); !slices.Equal(got, tt.want) {
				t.Errorf("messages %v, want %v", got, tt.want)
			}
		})
	}
}

// SES-10: after an empty message while nothing was held, no request of the CPE's own follows in the session.
func TestSES10NoRequestAfterEmpty(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	r.ended(1)
	arrived, held := make(chan struct{}), make(chan struct{})
	r.acs.script(func(n int, env *soap.Envelope) (int, *soap.Envelope, bool) {
		if len(r.acs.sessions) != 2 {
			return 0, nil, false
		}
		if n == 1 {
			return 0, r.acs.rpc(&soap.GetRPCMethods{}), true
		}
		if n == 2 {
			close(arrived)
			<-held
		}
		return 0, nil, false
	})
	r.cpe.requested()
	<-arrived
	r.cpe.call(r.ctx(), func() error {
		r.cpe.transfers = append(r.cpe.transfers, &transfer{ID: "1", CommandKey: "K", State: transferQueued})
		r.cpe.finishTransfer(r.cpe.transfers[0], time.Now(), nil)
		return nil
	})
	close(held)
	r.ended(3)
	if got := r.acs.methods(1); !slices.Equal(got, []string{"Inform", "-", "GetRPCMethodsResponse"}) {
		t.Errorf("messages %v", got)
	}
	if got := r.acs.methods(2); !slices.Equal(got, []string{"Inform", "TransferComplete", "-"}) {
		t.Errorf("next session %v", got)
	}
}

// What goes wrong with the Inform fails the session, keeps the events and is tried again with RetryCount 1.
func TestInformFailures(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		bad  func(a *scriptedACS, env *soap.Envelope) (int, *soap.Envelope)
	}{
		{"SES-07 wrong cwmp:ID", func(a *scriptedACS, env *soap.Envelope) (int, *soap.Envelope) {
			return 0, &soap.Envelope{Header: soap.Header{ID: "other"}, Body: &soap.InformResponse{MaxEnvelopes: 1}}
		}},
		{"SES-23 HTTP 500", func(a *scriptedACS, env *soap.Envelope) (int, *soap.Envelope) {
			return http.StatusInternalServerError, nil
		}},
		{"SES-25 fault 8001", func(a *scriptedACS, env *soap.Envelope) (int, *soap.Envelope) {
			return 0, &soap.Envelope{Header: soap.Header{ID: env.Header.ID}, Body: soap.NewFault(soap.ACSRequestDenied, "")}
		}},
		{"VER-04 version 9.9", func(a *scriptedACS, env *soap.Envelope) (int, *soap.Envelope) {
			return 0, &soap.Envelope{Header: soap.Header{ID: env.Header.ID, UseCWMPVersion: "9.9"}, Body: &soap.InformResponse{MaxEnvelopes: 1}}
		}},
		{"an empty answer", func(a *scriptedACS, env *soap.Envelope) (int, *soap.Envelope) { return http.StatusNoContent, nil }},
		{"a request instead", func(a *scriptedACS, env *soap.Envelope) (int, *soap.Envelope) { return 0, a.rpc(&soap.GetRPCMethods{}) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil, map[string]string{"Device.ManagementServer.EnableCWMP": "false"})
			first := true
			r.acs.script(func(n int, env *soap.Envelope) (int, *soap.Envelope, bool) {
				if n == 0 && first {
					first = false
					status, reply := tt.bad(r.acs, env)
					return status, reply, true
				}
				return 0, nil, false
			})
			start := time.Now()
			r.sys("Device.ManagementServer.EnableCWMP", "true")
			r.ended(2)
			if d := time.Since(start); d < time.Second {
				t.Errorf("tried again after %v", d)
			}
			if got := r.acs.methods(0); !slices.Equal(got, []string{"Inform"}) {
				t.Errorf("failed session %v", got)
			}
			m := inform(r.acs.session(1))
			if got := eventCodes(m); !slices.Equal(got, []string{"0 BOOTSTRAP", "1 BOOT"}) || m.RetryCount != 1 {
				t.Errorf("events %v, RetryCount %d", got, m.RetryCount)
			}
		})
	}
}

// Fault 8005 to Inform: the same Inform again in the same session, bounded.
func TestInformRetryRequest(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, map[string]string{"Device.ManagementServer.EnableCWMP": "false"})
	count := 0
	r.acs.script(func(n int, env *soap.Envelope) (int, *soap.Envelope, bool) {
		if env != nil && env.Body.Method() == "Inform" {
			if count++; count <= 2 {
				return 0, &soap.Envelope{Header: soap.Header{ID: env.Header.ID}, Body: soap.NewFault(soap.ACSRetryRequest, "")}, true
			}
		}
		return 0, nil, false
	})
	start := time.Now()
	r.sys("Device.ManagementServer.EnableCWMP", "true")
	r.ended(3) // the scripted server counts a session for each Inform
	if d := time.Since(start); d > 900*time.Millisecond {
		t.Errorf("repetition took %v: it waited for the retry", d)
	}
	if m := inform(r.acs.session(2)); m.RetryCount != 0 {
		t.Errorf("RetryCount %d", m.RetryCount)
	}
}

// VER-02, VER-03: the namespace of the answers follows the ACS.
func TestVER03Namespace(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ reply, use, want string }{
		{soap.NSCWMP10, "", soap.NSCWMP10}, {soap.NSCWMP12, "1.1", soap.NSCWMP11}, {soap.NSCWMP12, "1.4", soap.NSCWMP12}, {soap.NSCWMP14, "", soap.NSCWMP12},
	} {
		r := newRig(t, nil, nil)
		r.ended(1)
		r.acs.script(func(n int, env *soap.Envelope) (int, *soap.Envelope, bool) {
			if n == 0 {
				e := r.acs.usual(env)
				e.Namespace, e.Header.UseCWMPVersion = tt.reply, tt.use
				return 0, e, true
			}
			return 0, nil, false
		})
		r.rpc(&soap.GetRPCMethods{})
		if got := r.acs.session(1)[2].Namespace; got != tt.want {
			t.Errorf("%+v: namespace %s", tt, got)
		}
		r.stop()
	}
}

// SES-04: the ID comes back exactly. SES-32: a fault that answers nothing is answered by nothing.
func TestSES04EchoAndStrayFault(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	r.ended(1)
	const id = "a b/<&é-1"
	r.acs.script(func(n int, env *soap.Envelope) (int, *soap.Envelope, bool) {
		switch n {
		case 1:
			return 0, &soap.Envelope{Header: soap.Header{ID: id}, Body: &soap.GetRPCMethods{}}, true
		case 2:
			return 0, &soap.Envelope{Header: soap.Header{ID: "x"}, Body: soap.NewFault(soap.ACSInternalError, "")}, true
		}
		return 0, nil, false
	})
	r.cpe.requested()
	r.ended(2)
	if got := r.acs.methods(1); !slices.Equal(got, []string{"Inform", "-", "GetRPCMethodsResponse", "-"}) {
		t.Fatalf("messages %v", got)
	}
	if got := r.acs.session(1)[2].Header.ID; got != id {
		t.Errorf("ID %q", got)
	}
}

// EVT-12: a connection request is not tried again.
func TestEVT12ConnectionRequestOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	r.ended(1)
	r.acs.script(func(n int, env *soap.Envelope) (int, *soap.Envelope, bool) {
		return http.StatusServiceUnavailable, nil, true
	})
	r.cpe.requested()
	r.ended(2)
	if got := eventCodes(inform(r.acs.session(1))); !slices.Equal(got, []string{"6 CONNECTION REQUEST"}) {
		t.Errorf("events %v", got)
	}
	time.Sleep(1500 * time.Millisecond) // the retry would come after one second
	if n := r.acs.count(); n != 2 {
		t.Errorf("%d sessions", n)
	}
}

// EVT-16, RB-01, RB-02: Reboot is answered, the session ends, then one restart; the next Inform has BOOT and M Reboot.
func TestEVT16Reboot(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	answers := r.run(&soap.Reboot{CommandKey: "RK1"}, &soap.GetRPCMethods{})
	if _, ok := answers[0].(*soap.RebootResponse); !ok {
		t.Fatalf("answer %#v", answers[0])
	}
	err := <-r.result
	restart, ok := err.(*RestartError)
	if !ok || restart.Cause != (RestartCause{Kind: RestartReboot, CommandKey: "RK1"}) {
		t.Fatalf("Run returned %v", err)
	}
	n := r.acs.count()
	r.restart()
	r.ended(n + 1)
	if got := eventCodes(inform(r.acs.session(n))); !slices.Equal(got, []string{"1 BOOT", "M Reboot RK1"}) {
		t.Errorf("events %v with %v", got, inform(r.acs.session(n)).ParameterList)
	}
	r.restart()
	r.ended(n + 2)
	if got := eventCodes(inform(r.acs.session(n + 1))); !slices.Equal(got, []string{"1 BOOT"}) {
		t.Errorf("events after the next restart %v", got)
	}
}

// FR-01, FR-02: everything is as new.
func TestFR01FactoryReset(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	r.rpc(&soap.SetParameterValues{ParameterKey: "PK", ParameterList: values("Device.DeviceInfo.ProvisioningCode", "x")})
	r.rpc(&soap.ScheduleInform{CommandKey: "S", DelaySeconds: 3600})
	r.rpc(&soap.FactoryReset{})
	err := <-r.result
	if restart, ok := err.(*RestartError); !ok || restart.Cause.Kind != RestartFactoryReset {
		t.Fatalf("Run returned %v", err)
	}
	n := r.acs.count()
	r.restart()
	r.ended(n + 1)
	m := inform(r.acs.session(n))
	if got := eventCodes(m); !slices.Equal(got, []string{"0 BOOTSTRAP", "1 BOOT"}) {
		t.Errorf("events %v", got)
	}
	if v, _ := informed(m, "Device.ManagementServer.ParameterKey"); v != "" {
		t.Errorf("ParameterKey %q", v)
	}
	if v, _ := informed(m, "Device.DeviceInfo.ProvisioningCode"); v != "" {
		t.Errorf("ProvisioningCode %q", v)
	}
	r.cpe.call(r.ctx(), func() error {
		if len(r.cpe.schedules) != 0 {
			t.Error("a ScheduleInform survived")
		}
		return nil
	})
}

// A factory reset by somebody else, and the restart that follows: one Inform with both events.
func TestForeignFactoryReset(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	r.rpc(&soap.ScheduleInform{CommandKey: "S", DelaySeconds: 3600})
	n := r.acs.count()
	if err := r.engine.FactoryReset(r.ctx(), bridge.Writer{Name: "usp:self::ctl", Protocol: datamodel.USP, Class: "main"}); err != nil {
		t.Fatal(err)
	}
	r.settle()
	time.Sleep(100 * time.Millisecond)
	if r.acs.count() != n {
		t.Errorf("a session before the restart: %v", eventCodes(inform(r.acs.session(n))))
	}
	r.restart()
	r.ended(n + 1)
	if got := eventCodes(inform(r.acs.session(n))); !slices.Equal(got, []string{"0 BOOTSTRAP", "1 BOOT"}) {
		t.Errorf("events %v", got)
	}
	r.cpe.call(r.ctx(), func() error {
		if len(r.cpe.schedules) != 0 {
			t.Error("a ScheduleInform survived")
		}
		return nil
	})
}

// EVT-03, EVT-04: the URL changed by the ACS: this session ends normally, BOOTSTRAP goes to the new one; the same value
// again is no change.
func TestEVT03NewURL(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	other := newACS(t)
	r.rpc(&soap.SetParameterValues{ParameterList: values("Device.ManagementServer.URL", r.acs.srv.URL)})
	n := r.acs.count()
	r.rpc(&soap.SetParameterValues{ParameterList: values("Device.ManagementServer.URL", other.srv.URL)})
	r.wait("the new ACS", func() bool { return other.count() == 1 })
	if got := eventCodes(inform(other.session(0))); !slices.Equal(got, []string{"0 BOOTSTRAP"}) {
		t.Errorf("events %v", got)
	}
	if got := r.acs.methods(n); !slices.Equal(got, []string{"Inform", "-", "SetParameterValuesResponse"}) {
		t.Errorf("last session with the old ACS %v", got)
	}
	if r.acs.count() != n+1 {
		t.Errorf("%d sessions with the old ACS", r.acs.count())
	}
}

// ScheduleInform: SI-02, EVT-09.
func TestEVT09ScheduleInform(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	wantFault(t, r.rpc(&soap.ScheduleInform{DelaySeconds: 0, CommandKey: "x"}), soap.InvalidArguments)
	n := r.acs.count()
	r.run(&soap.ScheduleInform{CommandKey: "K1", DelaySeconds: 1}, &soap.ScheduleInform{CommandKey: "K2", DelaySeconds: 1})
	r.restart() // they survive
	r.wait("both scheduled Informs", func() bool {
		var got []string
		for i := n + 1; i < r.acs.count(); i++ {
			got = append(got, eventCodes(inform(r.acs.session(i)))...)
		}
		return slices.Contains(got, "3 SCHEDULED") && slices.Contains(got, "M ScheduleInform K1") && slices.Contains(got, "M ScheduleInform K2")
	})
}

// PER-01, PER-04 over the wire, and EnableCWMP.
func TestPeriodicAndEnable(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	r.ended(1)
	r.rpc(&soap.SetParameterValues{ParameterList: values("Device.ManagementServer.PeriodicInformInterval", "1", "Device.ManagementServer.PeriodicInformEnable", "true")})
	n := r.acs.count()
	r.ended(n + 2)
	if got := eventCodes(inform(r.acs.session(n + 1))); !slices.Equal(got, []string{"2 PERIODIC"}) {
		t.Errorf("events %v", got)
	}
	r.sys("Device.ManagementServer.EnableCWMP", "false")
	time.Sleep(50 * time.Millisecond)
	r.wait("the end of a session in progress", func() bool {
		idle := false
		r.cpe.call(r.ctx(), func() error { idle = r.cpe.running == nil && !r.cpe.set.enabled; return nil })
		return idle
	})
	n = r.acs.count()
	r.cpe.requested()
	time.Sleep(1300 * time.Millisecond)
	if r.acs.count() != n {
		t.Errorf("%d sessions while disabled", r.acs.count()-n)
	}
	r.sys("Device.ManagementServer.EnableCWMP", "true")
	r.ended(n + 1)
}
