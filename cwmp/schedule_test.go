package cwmp

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"twinspan/bridge"
	"twinspan/cwmp/acs"
	"twinspan/cwmp/soap"
	"twinspan/datamodel"
	"twinspan/datamodel/tr181"
	"twinspan/store"
)

// bubble runs a CPE on synthetic time whose sessions are answered by outcome, without a network.
func bubble(t *testing.T, factory map[string]string, outcome func(n int, c *CPE, job sessionJob) sessionResult, test func(c *CPE, starts func() []time.Time)) {
	synctest.Test(t, func(t *testing.T) {
		st := store.OpenMemory(store.Options{})
		defer st.Close()
		values := map[string]string{"Device.ManagementServer.URL": "http://acs.invalid/", "Device.ManagementServer.PeriodicInformEnable": "false"}
		for k, v := range factory {
			values[k] = v
		}
		profile := &datamodel.Profile{Supports: []string{"Device.DeviceInfo.", "Device.ManagementServer."}, Factory: values}
		schema, err := tr181.Load(profile)
		if err != nil {
			t.Fatal(err)
		}
		e, err := bridge.New(bridge.Options{Schema: schema, Profile: profile, Store: st})
		if err != nil {
			t.Fatal(err)
		}
		c, err := New(Options{Engine: e, DataDir: t.TempDir(), Listen: "off"})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var at []time.Time
		c.session = func(ctx context.Context, set settings) sessionResult {
			mu.Lock()
			at = append(at, time.Now())
			n := len(at)
			mu.Unlock()
			var job sessionJob
			c.call(ctx, func() error { job = c.freeze(ctx); return nil })
			res := outcome(n, c, job)
			if res.informed {
				c.call(ctx, func() error { return c.informed(ctx, job) })
			}
			return res
		}
		if err := e.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- c.Run(t.Context()) }()
		test(c, func() []time.Time { synctest.Wait(); mu.Lock(); defer mu.Unlock(); return slices.Clone(at) })
		c.Close()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		e.Close()
		synctest.Wait()
	})
}

var errTest = errors.New("refused")

// RTY-01, RTY-07: the waits of twelve refused sessions lie in their windows; success starts anew.
func TestRTY01Waits(t *testing.T) {
	fail := func(n int, c *CPE, job sessionJob) sessionResult {
		if n == 13 {
			return sessionResult{informed: true}
		}
		return sessionResult{err: errTest}
	}
	bubble(t, nil, fail, func(c *CPE, starts func() []time.Time) {
		time.Sleep(10 * time.Hour)
		at := starts()
		if len(at) != 13 {
			t.Fatalf("%d sessions", len(at))
		}
		lo := 5 * time.Second
		for i := 1; i < 13; i++ {
			if d := at[i].Sub(at[i-1]); d < lo || d > 2*lo {
				t.Errorf("wait %d was %v, not in [%v, %v]", i, d, lo, 2*lo)
			}
			if i < 10 {
				lo *= 2
			}
		}
		c.requested() // the count began anew: the next failure waits 5 to 10 seconds... but a connection request is not repeated
		time.Sleep(time.Hour)
		if n := len(starts()); n != 14 {
			t.Errorf("%d sessions after a failed connection request", n)
		}
		c.call(context.Background(), func() error { c.queue.add(evMReboot, "x"); c.wanted = true; return nil })
		time.Sleep(30 * time.Second)
		at = starts()
		if len(at) < 16 {
			t.Fatalf("%d sessions", len(at))
		}
		if d := at[15].Sub(at[14]); d < 10*time.Second || d > 20*time.Second {
			t.Errorf("wait after the second failure %v", d)
		}
	})
}

// RTY-05, RTY-06: a new event does not wait for the retry and does not reset the count; EVT-07: the same event again does
// neither.
func TestRTY05NewEventDuringBackOff(t *testing.T) {
	var retries []int
	fail := func(n int, c *CPE, job sessionJob) sessionResult {
		retries = append(retries, job.retryCount)
		return sessionResult{err: errTest}
	}
	bubble(t, map[string]string{"Device.ManagementServer.CWMPRetryMinimumWaitInterval": "1000"}, fail, func(c *CPE, starts func() []time.Time) {
		time.Sleep(time.Minute)
		if n := len(starts()); n != 1 {
			t.Fatalf("%d sessions", n)
		}
		c.requested()
		time.Sleep(time.Second)
		if n := len(starts()); n != 2 {
			t.Errorf("%d sessions after a connection request in the back-off", n)
		}
		if retries[1] != 1 {
			t.Errorf("RetryCount %d", retries[1])
		}
	})
}

// PER-01 on synthetic time: one session a minute, the first within the first minute.
func TestPER01Sessions(t *testing.T) {
	ok := func(n int, c *CPE, job sessionJob) sessionResult { return sessionResult{informed: true} }
	bubble(t, map[string]string{"Device.ManagementServer.PeriodicInformEnable": "true", "Device.ManagementServer.PeriodicInformInterval": "60"}, ok,
		func(c *CPE, starts func() []time.Time) {
			time.Sleep(time.Hour)
			at := starts()
			if len(at) != 61 {
				t.Fatalf("%d sessions in an hour", len(at))
			}
			for i := 2; i < len(at); i++ {
				if d := at[i].Sub(at[i-1]); d < 59*time.Second || d > 61*time.Second {
					t.Errorf("session %d after %v", i, d)
				}
			}
		})
}

// EVT-07: three refused periodic sessions leave one "2 PERIODIC", and it is in the store.
func TestEVT07PeriodicOnce(t *testing.T) {
	var last []event
	fail := func(n int, c *CPE, job sessionJob) sessionResult {
		last = job.events
		return sessionResult{informed: n == 1, err: errTest}
	}
	bubble(t, map[string]string{"Device.ManagementServer.PeriodicInformEnable": "true", "Device.ManagementServer.PeriodicInformInterval": "30"}, fail,
		func(c *CPE, starts func() []time.Time) {
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			if got := codes(last); !slices.Equal(got, []string{"2 PERIODIC/"}) {
				t.Errorf("events %v", got)
			}
			if _, ok, _ := c.e.Store().Record(recordBucket, recEvents); !ok {
				t.Error("the event is not in the store")
			}
		})
}

// A session that panics is a failed session.
func TestSessionPanic(t *testing.T) {
	bubble(t, nil, func(n int, c *CPE, job sessionJob) sessionResult {
		if n == 1 {
			panic("boom")
		}
		return sessionResult{informed: true}
	}, func(c *CPE, starts func() []time.Time) {
		time.Sleep(time.Minute)
		if n := len(starts()); n != 2 {
			t.Errorf("%d sessions", n)
		}
	})
}

type fakeRebooter struct{ asked chan RestartCause }

func (f fakeRebooter) Restart(_ context.Context, c RestartCause) error { f.asked <- c; return nil }

// DelayReboot counts from the end of the session, reads -1 afterwards, and gives no M Reboot.
func TestDelayReboot(t *testing.T) {
	t.Parallel()
	f := fakeRebooter{make(chan RestartCause, 1)}
	r := newRig(t, func(o *Options) { o.Rebooter = f }, nil)
	r.rpc(&soap.SetParameterValues{ParameterList: values("Device.ManagementServer.DelayReboot", "1")})
	select {
	case c := <-f.asked:
		if c != (RestartCause{Kind: RestartReboot}) {
			t.Errorf("cause %+v", c)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("no restart")
	}
	n := r.acs.count()
	r.cpe.requested()
	time.Sleep(200 * time.Millisecond)
	if r.acs.count() != n {
		t.Error("a session after the restart was asked for")
	}
	r.restart()
	r.ended(n + 1)
	if got := eventCodes(inform(r.acs.session(n))); !slices.Equal(got, []string{"1 BOOT"}) {
		t.Errorf("events %v", got)
	}
	if v := r.get("Device.ManagementServer.DelayReboot"); v != "-1" {
		t.Errorf("DelayReboot %s", v)
	}
}

// ScheduleReboot at a time, by somebody else.
func TestScheduleReboot(t *testing.T) {
	t.Parallel()
	f := fakeRebooter{make(chan RestartCause, 1)}
	r := newRig(t, func(o *Options) { o.Rebooter = f }, nil)
	r.ended(1)
	r.sys("Device.ManagementServer.ScheduleReboot", time.Now().Add(1500*time.Millisecond).UTC().Format(time.RFC3339))
	select {
	case <-f.asked:
	case <-time.After(20 * time.Second):
		t.Fatal("no restart")
	}
}

// A test that nobody carries out cannot be requested.
func TestUnbuilt(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	f := wantFault(t, r.rpc(&soap.SetParameterValues{ParameterList: values("Device.IP.Diagnostics.IPPing.DiagnosticsState", "Requested")}), soap.InvalidArguments)
	if len(f.SetParameterValuesFault) != 1 || f.SetParameterValuesFault[0].FaultCode != soap.InvalidParameterValue {
		t.Errorf("IPPing: %+v", f)
	}
}

// HTTP-22, HTTP-23: compression, and an ACS that refuses it.
func TestHTTP23Compression(t *testing.T) {
	t.Parallel()
	r := newServerRig(t, acs.Config{}, nil, map[string]string{"Device.ManagementServer.HTTPCompression": "GZIP"})
	r.idle(1)
	r.clean()
	r.server.Inject(acs.Fault{Stage: acs.OnInform, Status: 415, Times: 1})
	r.cpe.requested()
	r.rig.wait("the refusal", func() bool {
		refused := false
		r.cpe.call(r.ctx(), func() error { refused = r.cpe.refused != "" && r.cpe.set.compression == ""; return nil })
		return refused
	})
	r.cpe.requested()
	r.idle(2)
}

// Fault 8006: an older version is offered next time.
func TestVersionRefused(t *testing.T) {
	t.Parallel()
	r := newServerRig(t, acs.Config{}, nil, nil, acs.Fault{Stage: acs.OnInform, FaultCode: soap.ACSVersionIncompatible, Times: 2})
	r.idle(1)
	in := r.dev.Informs()
	if len(in) != 3 {
		t.Fatalf("%d Informs", len(in))
	}
	if len(in[0].Header.SupportedCWMPVersions) == 0 || len(in[1].Header.SupportedCWMPVersions) != 0 || in[1].Header.SessionTimeout == 0 || in[2].Header.SessionTimeout != 0 {
		t.Errorf("headers %+v, %+v, %+v", in[0].Header, in[1].Header, in[2].Header)
	}
}
