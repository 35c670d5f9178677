package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/datamodel/tr181"
	"twinspan/store"
	"twinspan/usp"
	"twinspan/usp/mtp"
	"twinspan/usp/mtp/memory"
	"twinspan/usp/uspmsg"
	"twinspan/usp/usprecord"
	"twinspan/usp/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	agentID = "os::012345-1"
	c1ID    = "self::one"
	c2ID    = "self::two"
)

func testProfile() *datamodel.Profile {
	p := &datamodel.Profile{
		Name: "test",
		Supports: []string{"Device.LocalAgent.", "Device.DeviceInfo.", "Device.MQTT.", "Device.UnixDomainSockets.", "Device.IP.",
			"Device.Boot!", "Device.ScheduleTimer()", "Device.ManagementServer."},
		Factory: map[string]string{
			"Device.DeviceInfo.ManufacturerOUI": "012345",
			"Device.DeviceInfo.ProductClass":    "box",
			"Device.DeviceInfo.SerialNumber":    "1",
			"Device.IP.Interface.1.Name":        "wan",
			"Device.IP.Interface.2.Name":        "lan",
			"Device.MQTT.Client.1.Name":         "broker",
			"Device.MQTT.Client.1.Password":     "secret",
		},
	}
	role := "Device.LocalAgent.ControllerTrust.Role.1."
	for k, v := range map[string]string{"Enable": "true", "Name": "full", "Permission.1.Enable": "true", "Permission.1.Order": "1",
		"Permission.1.Targets": "Device.", "Permission.1.Param": "rw-n", "Permission.1.Obj": "rw-n",
		"Permission.1.InstantiatedObj": "rw-n", "Permission.1.CommandEvent": "r-xn"} {
		p.Factory[role+k] = v
	}
	for i, eid := range []string{c1ID, c2ID} {
		row := fmt.Sprintf("Device.LocalAgent.Controller.%d.", i+1)
		for k, v := range map[string]string{"Enable": "true", "EndpointID": eid, "Alias": fmt.Sprintf("ctl-%d", i+1),
			"AssignedRole": "Device.LocalAgent.ControllerTrust.Role.1", "OnBoardingComplete": "true",
			"MTP.1.Enable": "true", "MTP.1.Protocol": "WebSocket", "MTP.1.WebSocket.Host": eid, "MTP.1.WebSocket.Port": "1"} {
			p.Factory[row+k] = v
		}
	}
	return p
}

// memFactory gives the agent's ends of memory transports, by Controller.
type memFactory struct {
	mu    sync.Mutex
	ends  map[string]mtp.Transport
	specs []Spec
}

func (f *memFactory) New(s Spec) (mtp.Transport, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.specs = append(f.specs, s)
	name := s.Host
	if name == "" {
		name = s.Path
	}
	if t := f.ends[name]; t != nil {
		return t, nil
	}
	return nil, errors.New("nothing there")
}

// rig is a device with an agent and two Controllers around it.
type rig struct {
	t       testing.TB
	prof    *datamodel.Profile
	opt     Options
	devices []datamodel.Provider
	engine  *bridge.Engine
	store   *store.Store
	agent   *Agent
	factory *memFactory
	c1, c2  *ctl
}

type rigOption func(*datamodel.Profile, *Options)

func newRig(t testing.TB, opts ...rigOption) *rig {
	t.Helper()
	prof := testProfile()
	o := Options{EndpointID: agentID, SoftwareVersion: "1.2.3"}
	for _, f := range opts {
		f(prof, &o)
	}
	r := &rig{t: t, prof: prof, opt: o, store: store.OpenMemory(store.Options{}), factory: &memFactory{ends: map[string]mtp.Transport{}}}
	r.c1, r.c2 = r.controller(c1ID), r.controller(c2ID)
	r.start()
	t.Cleanup(func() {
		r.stop()
		r.c1.close()
		r.c2.close()
		if err := r.store.Close(); err != nil {
			t.Error(err)
		}
	})
	r.c1.waitUp()
	r.c2.waitUp()
	return r
}

// start makes engine and agent on the rig's store.
func (r *rig) start() {
	r.t.Helper()
	schema, err := tr181.Load(r.prof)
	if err != nil {
		r.t.Fatal(err)
	}
	if r.engine, err = bridge.New(bridge.Options{Schema: schema, Profile: r.prof, Store: r.store, Providers: r.devices}); err != nil {
		r.t.Fatal(err)
	}
	o := r.opt
	o.Engine, o.Factory = r.engine, r.factory
	if r.agent, err = New(o); err != nil {
		r.t.Fatal(err)
	}
	if err := r.engine.Start(context.Background()); err != nil {
		r.t.Fatal(err)
	}
	if err := r.agent.Start(context.Background()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) stop() {
	r.t.Helper()
	if err := r.agent.Close(); err != nil {
		r.t.Error(err)
	}
	if err := r.engine.Close(); err != nil {
		r.t.Error(err)
	}
}

// restart is what a reboot is to the agent.
func (r *rig) restart() {
	r.t.Helper()
	r.stop()
	r.start()
	r.c1.waitUp()
	r.c2.waitUp()
}

// controller makes a Controller behind a memory transport.
func (r *rig) controller(eid string) *ctl {
	a, b := memory.New(memory.Default())
	r.factory.ends[eid] = a
	c := &ctl{t: r.t, eid: eid, end: b, waits: map[string]chan *uspmsg.Msg{}, notes: make(chan noted, 4096),
		records: make(chan *usprecord.Record, 256), up: make(chan struct{}, 16), ack: true}
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	c.done.Add(1)
	go func() {
		defer c.done.Done()
		if err := b.Run(ctx, c, func(s mtp.State) {
			if s.Up {
				select {
				case c.up <- struct{}{}:
				default:
				}
			}
		}); err != nil {
			r.t.Error(err)
		}
	}()
	return c
}

type noted struct {
	*uspmsg.Notify
	msgID string
	at    time.Time
}

// ctl is a Controller of the tests.
type ctl struct {
	t      testing.TB
	eid    string
	end    *memory.End
	cancel context.CancelFunc
	flaky  bool // the test breaks the link: what cannot be sent is lost
	done   sync.WaitGroup
	up     chan struct{}

	mu      sync.Mutex
	seq     int
	ack     bool
	waits   map[string]chan *uspmsg.Msg
	notes   chan noted
	records chan *usprecord.Record
}

func (c *ctl) close() { c.cancel(); c.done.Wait() }

func (c *ctl) waitUp() {
	c.t.Helper()
	select {
	case <-c.up:
	case <-time.After(soon):
		c.t.Fatalf("%s: no link", c.eid)
	}
}

func (c *ctl) setAck(on bool) { c.mu.Lock(); c.ack = on; c.mu.Unlock() }

// HandleRecord implements mtp.Handler.
func (c *ctl) HandleRecord(ctx context.Context, in mtp.Inbound) {
	var rec usprecord.Record
	if err := wire.Unmarshal(in.Record, &rec); err != nil {
		c.t.Errorf("bad record from the agent: %v", err)
		return
	}
	payload := rec.GetNoSessionContext().GetPayload()
	if payload == nil {
		c.records <- &rec
		return
	}
	m, err := usp.DecodeMessage(payload, usp.Limits{RecordSize: 64 << 20, Items: 10_000_000})
	if err != nil {
		c.t.Errorf("bad message from the agent: %v", err)
		return
	}
	if n := m.GetBody().GetRequest().GetNotify(); n != nil {
		c.mu.Lock()
		ack := c.ack
		c.mu.Unlock()
		if ack && n.SendResp {
			c.send(usp.NewResponse(m.Header.MsgId, &uspmsg.Response{RespType: &uspmsg.Response_NotifyResp{
				NotifyResp: &uspmsg.NotifyResp{SubscriptionId: n.SubscriptionId}}}))
		}
		select {
		case c.notes <- noted{n, m.Header.MsgId, time.Now()}:
		default:
		}
		return
	}
	c.mu.Lock()
	w := c.waits[m.Header.MsgId]
	delete(c.waits, m.Header.MsgId)
	c.mu.Unlock()
	if w != nil {
		w <- m
	}
}

func (c *ctl) send(m *uspmsg.Msg) {
	rec, err := usp.WrapMessage(c.eid, agentID, m)
	if err != nil {
		c.t.Error(err)
		return
	}
	c.sendRaw(rec)
}

func (c *ctl) sendRaw(rec []byte) {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	if err := c.end.Send(ctx, "", rec); err != nil && !(c.flaky && errors.Is(err, mtp.ErrNotConnected)) {
		c.t.Errorf("send: %v", err)
	}
}

// ask sends a request and waits for the answer.
func (c *ctl) ask(req *uspmsg.Request) *uspmsg.Msg {
	c.t.Helper()
	id, w := c.post(req)
	select {
	case m := <-w:
		return m
	case <-time.After(soon):
		c.t.Fatalf("no answer to %s", id)
		return nil
	}
}

func (c *ctl) post(req *uspmsg.Request) (string, chan *uspmsg.Msg) {
	c.mu.Lock()
	c.seq++
	id := "m" + strconv.Itoa(c.seq)
	w := make(chan *uspmsg.Msg, 1)
	c.waits[id] = w
	c.mu.Unlock()
	c.send(usp.NewRequest(id, req))
	return id, w
}

func (c *ctl) note(within time.Duration) *noted {
	c.t.Helper()
	select {
	case n := <-c.notes:
		return &n
	case <-time.After(within):
		c.t.Fatalf("%s: no notification within %s", c.eid, within)
		return nil
	}
}

func (c *ctl) quiet(d time.Duration) {
	c.t.Helper()
	select {
	case n := <-c.notes:
		c.t.Fatalf("%s: unexpected notification %v", c.eid, n.Notify)
	case <-time.After(d):
	}
}

// kv is a list of settings: name, value pairs.
func set(path string, kv ...string) *uspmsg.Set_UpdateObject {
	o := &uspmsg.Set_UpdateObject{ObjPath: path}
	for i := 0; i+1 < len(kv); i += 2 {
		name, req := required(kv[i])
		o.ParamSettings = append(o.ParamSettings, &uspmsg.Set_UpdateParamSetting{Param: name, Value: kv[i+1], Required: req})
	}
	return o
}

// required: a name with ! in front is a required one.
func required(name string) (string, bool) {
	if name[0] == '!' {
		return name[1:], true
	}
	return name, false
}

func create(path string, kv ...string) *uspmsg.Add_CreateObject {
	o := &uspmsg.Add_CreateObject{ObjPath: path}
	for i := 0; i+1 < len(kv); i += 2 {
		name, req := required(kv[i])
		o.ParamSettings = append(o.ParamSettings, &uspmsg.Add_CreateParamSetting{Param: name, Value: kv[i+1], Required: req})
	}
	return o
}

func (c *ctl) Set(partial bool, objs ...*uspmsg.Set_UpdateObject) *uspmsg.Msg {
	c.t.Helper()
	return c.ask(&uspmsg.Request{ReqType: &uspmsg.Request_Set{Set: &uspmsg.Set{AllowPartial: partial, UpdateObjs: objs}}})
}

func (c *ctl) Add(partial bool, objs ...*uspmsg.Add_CreateObject) *uspmsg.Msg {
	c.t.Helper()
	return c.ask(&uspmsg.Request{ReqType: &uspmsg.Request_Add{Add: &uspmsg.Add{AllowPartial: partial, CreateObjs: objs}}})
}

func (c *ctl) Delete(partial bool, paths ...string) *uspmsg.Msg {
	c.t.Helper()
	return c.ask(&uspmsg.Request{ReqType: &uspmsg.Request_Delete{Delete: &uspmsg.Delete{AllowPartial: partial, ObjPaths: paths}}})
}

func (c *ctl) Get(depth uint32, paths ...string) []*uspmsg.GetResp_RequestedPathResult {
	c.t.Helper()
	m := c.ask(&uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: paths, MaxDepth: depth}}})
	if m.GetBody().GetResponse().GetGetResp() == nil {
		c.t.Fatalf("Get %v: %v", paths, m)
	}
	return m.GetBody().GetResponse().GetGetResp().ReqPathResults
}

// get1 reads one parameter; ok is false when it is not there.
func (c *ctl) get1(path string) (string, bool) {
	c.t.Helper()
	for _, r := range c.Get(0, path) {
		for _, o := range r.ResolvedPathResults {
			for _, v := range o.ResultParams {
				return v, true
			}
		}
	}
	return "", false
}

// mustAdd adds rows and returns their paths.
func (c *ctl) mustAdd(objs ...*uspmsg.Add_CreateObject) []string {
	c.t.Helper()
	m := c.Add(false, objs...)
	resp := m.GetBody().GetResponse().GetAddResp()
	if resp == nil {
		c.t.Fatalf("Add: %v", m)
	}
	var out []string
	for _, r := range resp.CreatedObjResults {
		s := r.GetOperStatus().GetOperSuccess()
		if s == nil || len(s.ParamErrs) > 0 {
			c.t.Fatalf("Add: %v", r)
		}
		out = append(out, s.InstantiatedPath)
	}
	return out
}

func (c *ctl) subscribe(id, typ, ref string, kv ...string) string {
	c.t.Helper()
	args := append([]string{"!Enable", "true", "!ID", id, "!NotifType", typ, "!ReferenceList", ref}, kv...)
	return c.mustAdd(create(subPath, args...))[0]
}

// settle waits until the notifier has seen everything committed so far.
func (r *rig) settle() {
	r.t.Helper()
	rev := r.store.Head().Rev()
	deadline := time.Now().Add(30 * time.Second)
	for {
		if cur, ok := r.store.Cursor(consumer); ok && cur >= rev {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatal("the notifier does not follow")
		}
		time.Sleep(2 * time.Millisecond)
	}
}
