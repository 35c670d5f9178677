package cwmp

import (
	"testing"
	"time"

	"twinspan/cwmp/acs"
	"twinspan/cwmp/soap"
)

// HBT-01 to HBT-03: a heartbeat comes at its time, alone, and is not tried again.
func TestHBT01Heartbeat(t *testing.T) {
	t.Parallel()
	r := newServerRig(t, acs.Config{Strict: true}, nil, nil)
	r.idle(1)
	const policy = msPath + "HeartbeatPolicy."
	set := func(kv ...string) error {
		_, err := r.dev.SetValues(r.ctx(), "", values(kv...)...)
		return err
	}
	r.cpe.requested()
	if err := set(policy+"ReportingInterval", "29"); err == nil {
		t.Error("29 seconds were accepted")
	} else if f, ok := err.(*soap.Fault); !ok || len(f.SetParameterValuesFault) != 1 || f.SetParameterValuesFault[0].FaultCode != soap.InvalidParameterValue {
		t.Errorf("29 seconds: %v", err)
	}
	r.idle(2)
	r.cpe.requested()
	at := time.Now().Add(1500 * time.Millisecond)
	if err := set(policy+"ReportingInterval", "30", policy+"InitiationTime", at.UTC().Format("2006-01-02T15:04:05.000Z"), policy+"Enable", "true"); err != nil {
		t.Fatal(err)
	}
	r.idle(3)
	r.usp("Device.Time.LocalTimeZone", "UTC+1") // not watched
	in, err := r.dev.WaitEvent(r.ctx(), time.Now(), evHeartbeat)
	if err != nil {
		t.Fatal(err)
	}
	if len(in.Inform.Event) != 1 || in.Inform.RetryCount != 0 || in.At.Before(at) || in.At.Sub(at) > time.Second {
		t.Errorf("events %v, %v after its time", in.Inform.Event, in.At.Sub(at))
	}
	r.idle(4)
	// the next one meets an ACS that fails: nothing is tried again, and what waits is not touched
	r.server.Inject(acs.Fault{Stage: acs.OnInform, Status: 500, Times: 1})
	n := len(r.dev.Informs())
	r.cpe.call(r.ctx(), func() error { r.cpe.queue.add(evPeriodic, ""); r.cpe.beat = true; return nil })
	r.rig.wait("the failed heartbeat", func() bool {
		over := false
		r.cpe.call(r.ctx(), func() error {
			over = !r.cpe.beat && r.cpe.running == nil && r.cpe.retryAt.IsZero() && r.cpe.failures == 0
			return nil
		})
		return over && len(r.dev.Informs()) == n+1
	})
	time.Sleep(100 * time.Millisecond)
	if got := len(r.dev.Informs()); got != n+1 {
		t.Errorf("%d Informs more", got-n-1)
	}
	r.cpe.requested()
	last, err := r.dev.WaitEvent(r.ctx(), time.Now(), evPeriodic)
	if err != nil || last.HasEvent(evHeartbeat) {
		t.Errorf("%v, events %v", err, last.Inform.Event)
	}
	r.clean()
}

// While other sessions fail a heartbeat waits.
func TestHBT03Waits(t *testing.T) {
	t.Parallel()
	c := &CPE{random: func() float64 { return 0 }}
	now := time.Now()
	c.set.enabled = true
	c.heartbeat.configure(now.Add(-time.Minute), true, 30*time.Second, time.Time{}, false, 0)
	c.retryAt = now.Add(time.Hour)
	if c.heartbeatDue(now) {
		t.Error("a heartbeat beside a retry")
	}
	c.retryAt = time.Time{}
	if !c.heartbeatDue(now) {
		t.Error("no heartbeat after it")
	}
	if c.heartbeat.due(now) {
		t.Error("two heartbeats")
	}
}
