package cwmp

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"twinspan/bridge"
	"twinspan/cwmp/soap"
	"twinspan/datamodel"
	"twinspan/datamodel/sim"
)

const (
	pingObject  = "Device.IP.Diagnostics.IPPing."
	traceObject = "Device.IP.Diagnostics.TraceRoute."
)

// testLab simulates tests: what they were asked and what they answer.
type testLab struct {
	mu   sync.Mutex
	args []map[string]string
	out  map[string]string
	err  error
	sim  *sim.Provider
}

func (l *testLab) set(err error, kv ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err, l.out = err, map[string]string{}
	for i := 0; i < len(kv); i += 2 {
		l.out[kv[i]] = kv[i+1]
	}
}

func (l *testLab) runs() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.args)
}

func (l *testLab) behaviour(takes time.Duration) sim.Behaviour {
	return sim.Behaviour{Takes: takes, Func: func(inv datamodel.Invocation) (map[string]string, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.args = append(l.args, inv.Args)
		return l.out, l.err
	}}
}

func newTestRig(t testing.TB, takes time.Duration) (*rig, *testLab) {
	lab := &testLab{}
	return newRig(t, func(o *Options) {
		p := sim.New("tests")
		lab.sim = p
		p.Command("Device.IP.Diagnostics.IPPing()", lab.behaviour(takes))
		p.Command("Device.IP.Diagnostics.TraceRoute()", lab.behaviour(takes))
		if err := o.Engine.AddProvider(p); err != nil {
			t.Fatal(err)
		}
	}, nil), lab
}

func (r *rig) set(kv ...string) soap.Message {
	r.t.Helper()
	return r.rpc(&soap.SetParameterValues{ParameterList: values(kv...)})
}

// sessionWith waits for a session after the first n with an event.
func (r *rig) sessionWith(n int, code string) {
	r.t.Helper()
	r.wait(code, func() bool {
		for i := n; i < r.acs.count(); i++ {
			for _, e := range inform(r.acs.session(i)).Event {
				if e.EventCode == code {
					return true
				}
			}
		}
		return false
	})
}

// DIA-01 to DIA-04, DIA-07, DIA-12.
func TestDIA01Test(t *testing.T) {
	t.Parallel()
	r, lab := newTestRig(t, 0)
	lab.set(nil, "Status", "Complete", "SuccessCount", "3", "AverageResponseTime", "12", "IPAddressUsed", "192.0.2.7")
	r.ended(1)
	n := r.acs.count()
	if m, ok := r.set(pingObject+"Host", "192.0.2.1", pingObject+"NumberOfRepetitions", "3", pingObject+stateParam, "Requested").(*soap.SetParameterValuesResponse); !ok {
		t.Fatalf("refused: %#v", m)
	}
	r.sessionWith(n, evDiagnostics)
	lab.mu.Lock()
	args := lab.args[0]
	lab.mu.Unlock()
	if args["Host"] != "192.0.2.1" || args["NumberOfRepetitions"] != "3" {
		t.Errorf("arguments %v", args)
	}
	got := valuesOf(t, r.rpc(&soap.GetParameterValues{ParameterNames: []string{pingObject}}))
	if got[pingObject+stateParam] != "Complete" || got[pingObject+"SuccessCount"] != "3" || got[pingObject+"IPAddressUsed"] != "192.0.2.7" {
		t.Errorf("results %v", got)
	}
	// a setting alone: state None, nothing runs
	r.set(pingObject+"Timeout", "500")
	if s := r.get(pingObject + stateParam); s != stateNone || lab.runs() != 1 {
		t.Errorf("after a setting: %s, %d runs", s, lab.runs())
	}
	// an error is a result, and old results are gone
	lab.set(nil, "Status", "Error_CannotResolveHostName")
	n = r.acs.count()
	r.set(pingObject+stateParam, "Requested")
	r.sessionWith(n, evDiagnostics)
	got = valuesOf(t, r.rpc(&soap.GetParameterValues{ParameterNames: []string{pingObject}}))
	if got[pingObject+stateParam] != "Error_CannotResolveHostName" || got[pingObject+"SuccessCount"] != "0" || got[pingObject+"IPAddressUsed"] != "" {
		t.Errorf("results of the error %v", got)
	}
	for name, tt := range map[string]struct {
		err  error
		kv   []string
		want string
	}{
		"a failure":       {errors.New("no socket"), nil, stateInternal},
		"bad arguments":   {datamodel.Fail(datamodel.InvalidArgs, "", "Host"), nil, stateOther},
		"an unknown word": {nil, []string{"Status", "Error_Sunspots"}, stateOther},
		"no word":         {nil, []string{"SuccessCount", "1"}, stateComplete},
	} {
		lab.set(tt.err, tt.kv...)
		n = r.acs.count()
		r.set(pingObject+stateParam, "Requested")
		r.sessionWith(n, evDiagnostics)
		if s := r.get(pingObject + stateParam); s != tt.want {
			t.Errorf("%s: %s", name, s)
		}
	}
	r.restart()
	if s := r.get(pingObject + stateParam); s != stateNone {
		t.Errorf("after a restart: %s", s)
	}
}

// DIA-05, DIA-06, DIA-14, DIA-15, and a run of a Controller at the same time.
func TestDIA05Orders(t *testing.T) {
	t.Parallel()
	r, lab := newTestRig(t, 5*time.Second)
	lab.set(nil, "Status", "Complete")
	for value, path := range map[string]string{"Complete": pingObject, "None": pingObject, "requested": pingObject, "Requested": "Device.IP.Diagnostics.UploadDiagnostics."} {
		f, ok := r.set(path+stateParam, value, "Device.DeviceInfo.ProvisioningCode", "x").(*soap.Fault)
		if !ok || len(f.SetParameterValuesFault) != 1 || f.SetParameterValuesFault[0].FaultCode != soap.InvalidParameterValue {
			t.Errorf("%s %s: %#v", path, value, f)
		}
	}
	n := r.acs.count()
	for _, stop := range [][]string{{pingObject + stateParam, "Canceled"}, {pingObject + "Timeout", "7"}} {
		r.set(pingObject+"Host", "h", pingObject+stateParam, "Requested")
		r.wait("the start", func() bool {
			runs := false
			r.cpe.call(r.ctx(), func() error { c := r.cpe.tests.byPath[pingObject]; runs = c != nil && c.cancel != nil; return nil })
			return runs
		})
		if s := r.get(pingObject + stateParam); s != stateRequested {
			t.Errorf("while running: %s", s)
		}
		if m, ok := r.set(stop...).(*soap.SetParameterValuesResponse); !ok {
			t.Fatalf("%v: %#v", stop, m)
		}
		if s := r.get(pingObject + stateParam); s != stateNone {
			t.Errorf("after %v: %s", stop, s)
		}
	}
	r.wait("the end of what was stopped", func() bool {
		free, err := r.engine.Hold("diag:Device.IP.Diagnostics.IPPing()", "test")
		if err == nil {
			free()
		}
		return err == nil
	})
	lab.sim.Command("Device.IP.Diagnostics.IPPing()", lab.behaviour(200*time.Millisecond))
	for i := n; i < r.acs.count(); i++ {
		for _, e := range inform(r.acs.session(i)).Event {
			if e.EventCode == evDiagnostics {
				t.Error("event of a test that was stopped")
			}
		}
	}
	if lab.runs() != 0 {
		t.Errorf("%d runs", lab.runs())
	}
	op, err := r.engine.Command(bridge.Writer{Name: "usp:self::ctl", Protocol: datamodel.USP, Class: "main"}, "Device.IP.Diagnostics.IPPing()", map[string]string{"Host": "usp",
		"NumberOfRepetitions": "1", "Timeout": "1", "DataBlockSize": "1", "DSCP": "0", "ProtocolVersion": "Any", "Interface": ""})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, err := op.Run(context.Background()); done <- err }()
	n = r.acs.count()
	r.set(pingObject+stateParam, "Requested")
	r.sessionWith(n, evDiagnostics)
	if err := <-done; err != nil || lab.runs() != 2 {
		t.Errorf("%v, %d runs", err, lab.runs())
	}
}

// DIA-08: results with rows; a new run replaces them.
func TestDIA08Rows(t *testing.T) {
	t.Parallel()
	r, lab := newTestRig(t, 0)
	hops := traceObject + "RouteHops."
	for run, out := range [][]string{
		{"Status", "Complete", "ResponseTime", "9", "RouteHops.1.Host", "a", "RouteHops.1.HostAddress", "192.0.2.1", "RouteHops.2.Host", "b", "RouteHops.x.Host", "junk"},
		{"Status", "Error_MaxHopCountExceeded", "RouteHops.1.Host", "c"},
	} {
		lab.set(nil, out...)
		r.ended(1)
		n := r.acs.count()
		r.set(traceObject+"Host", "h", traceObject+stateParam, "Requested")
		r.sessionWith(n, evDiagnostics)
		got := valuesOf(t, r.rpc(&soap.GetParameterValues{ParameterNames: []string{traceObject}}))
		count, hosts := got[traceObject+"RouteHopsNumberOfEntries"], ""
		for _, row := range names(r.rpc(&soap.GetParameterNames{ParameterPath: hops, NextLevel: true})) {
			hosts += got[row+"Host"]
		}
		if want := []string{"2 ab", "1 c"}[run]; count+" "+hosts != want || got[traceObject+stateParam] != out[1] {
			t.Errorf("run %d: %v", run, got)
		}
	}
}
