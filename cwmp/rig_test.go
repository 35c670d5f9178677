package cwmp

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"twinspan/bridge"
	"twinspan/cwmp/soap"
	"twinspan/datamodel"
	"twinspan/datamodel/sim"
	"twinspan/datamodel/tr181"
	"twinspan/store"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		f.Value.Set("8") // the tests wait for timers more than they compute
	}
	goleak.VerifyTestMain(m)
}

// scriptedACS is an HTTP server that plays an ACS message by message and breaks rules on demand. It keeps everything that
// the CPE sent.
type scriptedACS struct {
	t   testing.TB
	srv *httptest.Server

	mu       sync.Mutex
	sessions [][]*soap.Envelope // messages of each session; nil for an empty one
	queue    []soap.Message     // RPCs for the next empty message or response
	// answer, if set, is asked first; ok=false leaves the message to the default behaviour. n counts within the session.
	answer func(n int, env *soap.Envelope) (status int, reply *soap.Envelope, ok bool)
	nextID int
	news   chan struct{}
}

func newACS(t testing.TB) *scriptedACS {
	a := &scriptedACS{t: t, news: make(chan struct{}, 1)}
	a.srv = httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(a.srv.Close)
	return a
}

func (a *scriptedACS) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var env *soap.Envelope
	if len(body) > 0 {
		if env, err = soap.Decode(body, soap.Options{Strict: true, Limits: soap.Limits{MaxBytes: 64 << 20, MaxElements: 1 << 20, MaxList: 1 << 20, MaxAttributes: 1 << 20}}); err != nil {
			a.t.Errorf("the CPE sent what cannot be decoded: %v\n%s", err, body[:min(len(body), 2000)])
			w.WriteHeader(http.StatusBadRequest)
			return
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if env != nil && env.Body.Method() == "Inform" {
		a.sessions = append(a.sessions, nil)
	}
	if len(a.sessions) == 0 {
		a.t.Errorf("a session began with %v", env)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s := &a.sessions[len(a.sessions)-1]
	*s = append(*s, env)
	defer func() {
		select {
		case a.news <- struct{}{}:
		default:
		}
	}()
	if a.answer != nil {
		if status, reply, ok := a.answer(len(*s)-1, env); ok {
			a.write(w, status, reply)
			return
		}
	}
	a.write(w, 0, a.usual(env))
}

// usual is what a correct ACS answers.
func (a *scriptedACS) usual(env *soap.Envelope) *soap.Envelope {
	if env != nil && soap.IsRequest(env.Body) {
		reply := &soap.Envelope{Header: soap.Header{ID: env.Header.ID}}
		switch env.Body.(type) {
		case *soap.Inform:
			reply.Body = &soap.InformResponse{MaxEnvelopes: 1}
		case *soap.TransferComplete:
			reply.Body = &soap.TransferCompleteResponse{}
		default:
			reply.Body = soap.NewFault(soap.ACSMethodNotSupported, "")
		}
		return reply
	}
	if len(a.queue) == 0 {
		return nil
	}
	m := a.queue[0]
	a.queue = a.queue[1:]
	return a.rpc(m)
}

func (a *scriptedACS) rpc(m soap.Message) *soap.Envelope {
	a.nextID++
	return &soap.Envelope{Header: soap.Header{ID: "acs-" + strconv.Itoa(a.nextID)}, Body: m}
}

func (a *scriptedACS) write(w http.ResponseWriter, status int, env *soap.Envelope) {
	if status != 0 && status != http.StatusOK {
		w.WriteHeader(status)
		return
	}
	if env == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", `text/xml; charset="utf-8"`)
	if err := soap.Encode(w, env); err != nil {
		a.t.Errorf("encode: %v", err)
	}
}

// script sets the fault switch.
func (a *scriptedACS) script(fn func(n int, env *soap.Envelope) (int, *soap.Envelope, bool)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = fn
}

func (a *scriptedACS) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.sessions)
}

// session returns the messages of session i.
func (a *scriptedACS) session(i int) []*soap.Envelope {
	a.mu.Lock()
	defer a.mu.Unlock()
	if i >= len(a.sessions) {
		return nil
	}
	return slices.Clone(a.sessions[i])
}

// methods lists what the CPE sent in session i; "-" is an empty message.
func (a *scriptedACS) methods(i int) []string {
	var out []string
	for _, env := range a.session(i) {
		if env == nil {
			out = append(out, "-")
		} else {
			out = append(out, env.Body.Method())
		}
	}
	return out
}

func inform(msgs []*soap.Envelope) *soap.Inform {
	if len(msgs) == 0 || msgs[0] == nil {
		return &soap.Inform{}
	}
	m, _ := msgs[0].Body.(*soap.Inform)
	return m
}

func eventCodes(m *soap.Inform) []string {
	var out []string
	for _, e := range m.Event {
		out = append(out, strings.TrimSuffix(e.EventCode+" "+e.CommandKey, " "))
	}
	return out
}

func informed(m *soap.Inform, name string) (string, bool) {
	for _, p := range m.ParameterList {
		if p.Name == name {
			return p.Value, true
		}
	}
	return "", false
}

// rig is a CPE with everything below it, against a scripted ACS.
type rig struct {
	journal  int // entries kept, 0: the default
	t        testing.TB
	acs      *scriptedACS
	dir      string
	file     string
	store    *store.Store
	engine   *bridge.Engine
	sim      *sim.Provider
	cpe      *CPE
	cancel   context.CancelFunc
	result   chan error
	opts     func(*Options)
	extra    map[string]string // factory values
	listen   string            // the same after a restart
	software string            // version
}

// freeAddress finds a port that is free now.
func freeAddress(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

var testSupports = []string{"Device.RootDataModelVersion", "Device.DeviceInfo.", "Device.ManagementServer.", "Device.Time.", "Device.NAT.",
	"Device.IP.", "Device.Users.", "Device.LocalAgent.", "Device.Ethernet.", "Device.Reboot()", "Device.WiFi.SSID.", "Device.XMPP."}

func newRig(t testing.TB, opts func(*Options), extra map[string]string) *rig {
	r := &rig{t: t, acs: newACS(t), dir: t.TempDir(), opts: opts, extra: extra, software: "sw1"}
	r.file = filepath.Join(r.dir, "store.db")
	r.start()
	t.Cleanup(r.stop)
	return r
}

func (r *rig) start() {
	r.t.Helper()
	var err error
	if r.store, err = store.Open(r.file, store.Options{NoSync: true, JournalEntries: r.journal}); err != nil {
		r.t.Fatal(err)
	}
	profile := &datamodel.Profile{Name: "test", Supports: testSupports, MaxRows: map[string]int{"Device.NAT.PortMapping.": 3}, Factory: map[string]string{
		"Device.ManagementServer.URL":                          r.acs.srv.URL,
		"Device.ManagementServer.PeriodicInformEnable":         "false",
		"Device.ManagementServer.PeriodicInformInterval":       "86400",
		"Device.ManagementServer.CWMPRetryMinimumWaitInterval": "1",
		"Device.ManagementServer.CWMPRetryIntervalMultiplier":  "1000",
		"Device.DeviceInfo.ProvisioningCode":                   "",
		"Device.IP.Interface.1.Enable":                         "true",
		"Device.IP.Interface.2.Enable":                         "false",
	}}
	for k, v := range r.extra {
		profile.Factory[k] = v
	}
	schema, err := tr181.Load(profile)
	if err != nil {
		r.t.Fatal(err)
	}
	r.sim = sim.New("sim")
	for name, v := range map[string]string{"DeviceInfo.Manufacturer": "Example", "DeviceInfo.ManufacturerOUI": "00D09E",
		"DeviceInfo.ProductClass": "Box", "DeviceInfo.SerialNumber": "SN 1", "DeviceInfo.HardwareVersion": "hw1",
		"DeviceInfo.SoftwareVersion": r.software} {
		r.sim.Set("Device."+name, v)
	}
	r.sim.Counter("Device.DeviceInfo.UpTime", 0, 1)
	r.sim.Follow("Device.IP.Interface.{i}.Status", "Enable", "Up", "Down")
	r.engine, err = bridge.New(bridge.Options{Schema: schema, Profile: profile, Store: r.store, Providers: []datamodel.Provider{r.sim}})
	if err != nil {
		r.t.Fatal(err)
	}
	if r.listen == "" {
		r.listen = freeAddress(r.t)
	}
	o := Options{Engine: r.engine, DataDir: r.dir, Listen: r.listen, LivePoll: 50 * time.Millisecond}
	if r.opts != nil {
		r.opts(&o)
	}
	if r.cpe, err = New(o); err != nil {
		r.t.Fatal(err)
	}
	r.cpe.gap = 20 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	if err := r.engine.Start(ctx); err != nil {
		r.t.Fatal(err)
	}
	r.result = make(chan error, 1)
	cpe, result := r.cpe, r.result
	go func() { result <- cpe.Run(ctx) }()
}

func (r *rig) stop() {
	if r.cpe == nil {
		return
	}
	r.cpe.Close()
	r.cancel()
	r.engine.Close()
	r.store.Close()
	r.cpe = nil
}

// restart stops everything and starts it again on the same store.
func (r *rig) restart() {
	r.stop()
	r.start()
}

// wait polls for a condition that the ACS or the device reaches by itself.
func (r *rig) wait(what string, cond func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			var log strings.Builder
			for i := range r.acs.count() {
				fmt.Fprintf(&log, "\n  %d: %v %v", i, r.acs.methods(i), eventCodes(inform(r.acs.session(i))))
			}
			r.t.Fatalf("waited in vain for %s; sessions:%s", what, log.String())
		}
		select {
		case <-r.acs.news:
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// ended waits until n sessions are over and the CPE has drawn its conclusions.
func (r *rig) ended(n int) {
	r.t.Helper()
	r.wait(fmt.Sprintf("the end of session %d", n-1), func() bool {
		if r.acs.count() < n {
			return false
		}
		idle := false
		if r.cpe.call(r.ctx(), func() error { idle = r.cpe.running == nil; return nil }) != nil {
			return true // Run has returned
		}
		return idle
	})
}

func (r *rig) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	r.t.Cleanup(cancel)
	return ctx
}

// run has the ACS send RPCs in a session of their own and returns the answers.
func (r *rig) run(rpcs ...soap.Message) []soap.Message {
	r.t.Helper()
	r.ended(1)
	n := r.acs.count()
	r.acs.mu.Lock()
	r.acs.queue = append(r.acs.queue, rpcs...)
	r.acs.mu.Unlock()
	r.cpe.requested()
	r.ended(n + 1)
	var out []soap.Message
	for _, env := range r.acs.session(n) {
		if env != nil && !soap.IsRequest(env.Body) {
			out = append(out, env.Body)
		}
	}
	if len(out) != len(rpcs) {
		r.t.Fatalf("%d RPCs, %d answers: %v", len(rpcs), len(out), r.acs.methods(n))
	}
	return out
}

func (r *rig) rpc(m soap.Message) soap.Message { r.t.Helper(); return r.run(m)[0] }

// get reads one value over CWMP.
func (r *rig) get(name string) string {
	r.t.Helper()
	m, ok := r.rpc(&soap.GetParameterValues{ParameterNames: []string{name}}).(*soap.GetParameterValuesResponse)
	if !ok || len(m.ParameterList) != 1 {
		r.t.Fatalf("reading %s gave %v", name, m)
	}
	return m.ParameterList[0].Value
}

// usp writes as a USP Controller.
func (r *rig) usp(path, value string) {
	r.t.Helper()
	obj, name := datamodel.SplitParam(path)
	res, err := r.engine.Apply(r.ctx(), bridge.Writer{Name: "usp:self::ctl", Protocol: datamodel.USP, Class: "main"}, bridge.Change{Atomic: true,
		Ops: []bridge.Op{{Kind: bridge.OpSet, Path: obj, Settings: []bridge.Setting{{Name: name, Value: value, Required: true}}}}})
	if err := changeError(res, err); err != nil {
		r.t.Fatalf("usp sets %s: %v", path, err)
	}
}

// sys writes as the device itself, for what is not in USP's tree.
func (r *rig) sys(path, value string) {
	r.t.Helper()
	obj, name := datamodel.SplitParam(path)
	res, err := r.engine.Apply(r.ctx(), bridge.Writer{Name: "sys:test", Protocol: datamodel.CWMP, Class: "sys", System: true}, bridge.Change{Atomic: true,
		Ops: []bridge.Op{{Kind: bridge.OpSet, Path: obj, Settings: []bridge.Setting{{Name: name, Value: value, Required: true}}}}})
	if err := changeError(res, err); err != nil {
		r.t.Fatalf("sys sets %s: %v", path, err)
	}
}

func wantFault(t testing.TB, m soap.Message, code soap.FaultCode) *soap.Fault {
	t.Helper()
	f, ok := m.(*soap.Fault)
	if !ok || f.Code != code {
		t.Fatalf("got %#v, want fault %d", m, code)
	}
	return f
}

func values(kv ...string) []soap.ParameterValue {
	var out []soap.ParameterValue
	for i := 0; i < len(kv); i += 2 {
		out = append(out, soap.ParameterValue{Name: kv[i], Value: kv[i+1], Type: soap.String})
	}
	return out
}

// mustEngine makes an engine that is not started.
func mustEngine(t testing.TB) *bridge.Engine {
	st := store.OpenMemory(store.Options{})
	t.Cleanup(func() { st.Close() })
	schema, err := tr181.Load(&datamodel.Profile{Supports: testSupports})
	if err != nil {
		t.Fatal(err)
	}
	e, err := bridge.New(bridge.Options{Schema: schema, Store: st})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}
