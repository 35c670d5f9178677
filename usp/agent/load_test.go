package agent

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twinspan/datamodel"
	"twinspan/store"
	"twinspan/usp"
	"twinspan/usp/mtp"
	"twinspan/usp/uspmsg"
)

// Requests of one peer that touch the same place keep their order, although they run at the same time.
func TestWriteOrder(t *testing.T) {
	r := newRig(t)
	c := r.c1
	for round := range 20 {
		var waits []chan *uspmsg.Msg
		for i := range 16 {
			_, w := c.post(&uspmsg.Request{ReqType: &uspmsg.Request_Set{Set: &uspmsg.Set{UpdateObjs: []*uspmsg.Set_UpdateObject{
				set("Device.LocalAgent.Controller.1.", "ProvisioningCode", fmt.Sprint(round, "-", i))}}}})
			waits = append(waits, w)
		}
		for _, w := range waits {
			<-w
		}
		if v, _ := c.get1("Device.LocalAgent.Controller.1.ProvisioningCode"); v != fmt.Sprint(round, "-", 15) {
			t.Fatalf("the last value is %s", v)
		}
	}
}

// A second request with the msg_id of one that is still running is dropped.
func TestDuplicateMsgID(t *testing.T) { // R-MSG.4
	box := &slowBoot{runs: make(chan struct{}, 8), gate: make(chan struct{})}
	r := newRig(t, func(p *datamodel.Profile, _ *Options) { p.Supports = append(p.Supports, "Device.Reboot()") })
	r.stop()
	r.devices = []datamodel.Provider{box}
	r.start()
	r.c1.waitUp()
	h := r.agent.Handler(false)
	answers := make(chan struct{}, 8)
	rec, err := usp.WrapMessage(c1ID, agentID, usp.NewRequest("same", &uspmsg.Request{ReqType: &uspmsg.Request_Operate{Operate: &uspmsg.Operate{Command: "Device.Reboot()", SendResp: true}}}))
	if err != nil {
		t.Fatal(err)
	}
	send := func() {
		h.HandleRecord(context.Background(), mtp.Inbound{Record: rec, From: mtp.Identity{Local: true}, LinkID: 3, Reject: func(string) {},
			Reply: func(context.Context, []byte) error { answers <- struct{}{}; return nil }})
	}
	wait := func(what string, c <-chan struct{}) {
		t.Helper()
		select {
		case <-c:
		case <-time.After(soon):
			t.Fatalf("no %s", what)
		}
	}
	send()
	wait("run", box.runs)
	send()
	box.gate <- struct{}{}
	wait("answer", answers)
	send() // the answer is there, so the id is free again
	wait("second run", box.runs)
	box.gate <- struct{}{}
	wait("second answer", answers)
	if len(box.runs) > 0 || len(answers) > 0 {
		t.Error("the duplicate was carried out")
	}
}

// slowBoot is a synchronous command that takes as long as the test wants.
type slowBoot struct{ runs, gate chan struct{} }

func (*slowBoot) Name() string     { return "slow" }
func (*slowBoot) Serves() []string { return nil }
func (*slowBoot) Read(context.Context, datamodel.ObjectRef, []string, func(string, string)) error {
	return nil
}
func (*slowBoot) Commands() []string { return []string{"Device.Reboot()"} }
func (b *slowBoot) Run(context.Context, datamodel.Invocation) (map[string]string, error) {
	b.runs <- struct{}{}
	<-b.gate
	return nil, nil
}

// A peer that floods and never reads costs bounded goroutines and memory, and others are served meanwhile.
func TestFlood(t *testing.T) {
	r := newRig(t, func(_ *datamodel.Profile, o *Options) {
		o.Limits.PeerRequests, o.Trust.AllowBroker = 8, true
	})
	h := r.agent.Handler(false)
	rec, err := usp.WrapMessage(c2ID, agentID, usp.NewRequest("x", &uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: []string{"Device."}}}}))
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	block := make(chan struct{})
	stuck := func(ctx context.Context, _ []byte) error {
		select {
		case <-block:
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	ctx, hangup := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Add(1)
	go func() { // one connection that is read until the bound, then no more
		defer wg.Done()
		for i := range 1000 {
			if ctx.Err() != nil {
				return
			}
			one, _ := usp.WrapMessage(c2ID, agentID, usp.NewRequest(fmt.Sprint(i), &uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: []string{"Device."}}}}))
			h.HandleRecord(ctx, mtp.Inbound{Record: one, From: mtp.Identity{Local: true}, LinkID: 11, Reject: func(string) {}, Reply: stuck})
		}
	}()
	time.Sleep(100 * time.Millisecond)
	if n := runtime.NumGoroutine() - before; n > 8+8 {
		t.Errorf("%d goroutines for one flooding peer", n)
	}
	if v, ok := r.c1.get1("Device.LocalAgent.EndpointID"); !ok || v != agentID {
		t.Error("another Controller is not served")
	}
	// Over a broker the answer is a refusal at once.
	refused := make(chan []byte, 1)
	h.HandleRecord(context.Background(), mtp.Inbound{Record: rec, From: mtp.Identity{Encrypted: true, Broker: true}, LinkID: 12, Reject: func(string) {},
		Reply: func(_ context.Context, b []byte) error { refused <- b; return nil }})
	select {
	case b := <-refused:
		o, err := usp.OpenRecord(b, c2ID, usp.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		m, err := usp.DecodeMessage(o.Payload, usp.DefaultLimits())
		if err != nil || m.GetBody().GetError().GetErrCode() != usp.CodeResourcesExceeded {
			t.Errorf("%v %v", m, err)
		}
	case <-time.After(soon):
		t.Error("no answer over the broker")
	}
	hangup()
	close(block)
	wg.Wait()
}

// A msg_id may be longer than what the journal keeps of it.
func TestLongMsgID(t *testing.T) {
	r := newRig(t)
	p := newRawPeer(t, r.agent, false, mtp.Identity{Local: true}, 4711)
	id := strings.Repeat("x", usp.MaxMsgID)
	rec, err := usp.WrapMessage(c1ID, agentID, usp.NewRequest(id, &uspmsg.Request{ReqType: &uspmsg.Request_Set{Set: &uspmsg.Set{UpdateObjs: []*uspmsg.Set_UpdateObject{
		set("Device.LocalAgent.Controller.1.", "!ProvisioningCode", "long")}}}}))
	if err != nil {
		t.Fatal(err)
	}
	p.send(rec)
	o, err := usp.OpenRecord(<-p.got, c1ID, usp.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	m, err := usp.DecodeMessage(o.Payload, usp.DefaultLimits())
	if err != nil || m.Header.MsgId != id || m.GetBody().GetResponse().GetSetResp() == nil {
		t.Errorf("%v %v", m, err)
	}
}

// slowDevice takes its time to accept a write.
type slowDevice struct{ hold chan struct{} }

func (*slowDevice) Name() string     { return "slow" }
func (*slowDevice) Serves() []string { return nil }
func (*slowDevice) Read(context.Context, datamodel.ObjectRef, []string, func(string, string)) error {
	return nil
}
func (*slowDevice) Applies() []string { return []string{"Device.IP."} }
func (d *slowDevice) Prepare(ctx context.Context, _ []datamodel.Write) error {
	select {
	case <-d.hold:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
func (*slowDevice) Apply(context.Context, []datamodel.Write) error { return nil }

// A Get does not wait for a Set that takes long, not even one of the same Controller.
func TestGetBesideSet(t *testing.T) {
	dev := &slowDevice{hold: make(chan struct{})}
	r := newRig(t)
	r.stop()
	r.devices = []datamodel.Provider{dev}
	r.start()
	r.c1.waitUp()
	_, w := r.c1.post(&uspmsg.Request{ReqType: &uspmsg.Request_Set{Set: &uspmsg.Set{UpdateObjs: []*uspmsg.Set_UpdateObject{set("Device.IP.Interface.1.", "Enable", "true")}}}})
	for range 10 {
		if v, ok := r.c1.get1("Device.LocalAgent.EndpointID"); !ok || v != agentID {
			t.Fatal("no answer")
		}
	}
	select {
	case m := <-w:
		t.Fatalf("the Set did not wait: %v", m)
	default:
	}
	close(dev.hold)
	select {
	case <-w:
	case <-time.After(soon):
		t.Fatal("the Set is not answered")
	}
}

// Everything at once, with links that break: nothing hangs, nothing is lost for good.
func TestStress(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.c2.flaky = true
	end := time.Now().Add(2 * time.Second)
	var wg sync.WaitGroup
	h := r.agent.Handler(false)
	wg.Go(func() {
		for i := 0; time.Now().Before(end); i++ {
			time.Sleep(30 * time.Millisecond)
			r.c2.end.Break()
		}
	})
	for w := range 4 {
		wg.Go(func() {
			for i := 0; time.Now().Before(end); i++ {
				var req *uspmsg.Request
				switch i % 5 {
				case 0:
					req = &uspmsg.Request{ReqType: &uspmsg.Request_Add{Add: &uspmsg.Add{AllowPartial: true, CreateObjs: []*uspmsg.Add_CreateObject{
						sub("Enable", "true", "NotifType", "ValueChange", "NotifRetry", "true", "TimeToLive", "1", "ReferenceList", "Device.LocalAgent.Controller.*.ProvisioningCode")}}}}
				case 1, 2:
					req = &uspmsg.Request{ReqType: &uspmsg.Request_Set{Set: &uspmsg.Set{UpdateObjs: []*uspmsg.Set_UpdateObject{
						set("Device.LocalAgent.Controller.2.", "ProvisioningCode", fmt.Sprint(w, i), "Enable", fmt.Sprint(i%9 != 1))}}}}
				case 3:
					req = &uspmsg.Request{ReqType: &uspmsg.Request_Delete{Delete: &uspmsg.Delete{AllowPartial: true, ObjPaths: []string{"Device.LocalAgent.Subscription.[NotifExpiration==0]."}}}}
				case 4:
					req = &uspmsg.Request{ReqType: &uspmsg.Request_Operate{Operate: &uspmsg.Operate{Command: "Device.LocalAgent.Controller.*.SendOnBoardRequest()", SendResp: true}}}
				}
				from := []string{c1ID, c2ID}[w%2]
				rec, err := usp.WrapMessage(from, agentID, usp.NewRequest(fmt.Sprint(w, "-", i), req))
				if err != nil {
					t.Error(err)
					return
				}
				h.HandleRecord(context.Background(), mtp.Inbound{Record: rec, From: mtp.Identity{Local: true}, LinkID: 1, Reject: func(string) {},
					Reply: func(context.Context, []byte) error { return nil }})
			}
		})
	}
	wg.Wait()
	for late := time.Now().Add(soon); len(r.agent.slots) > 0; time.Sleep(time.Millisecond) { // what still runs deletes Subscriptions, too
		if time.Now().After(late) {
			t.Fatal("requests do not end")
		}
	}
	r.c1.Delete(true, "Device.LocalAgent.Subscription.*.")
	r.c1.Set(false, set("Device.LocalAgent.Controller.2.", "Enable", "true"))
	r.settle()
	for len(r.c1.notes) > 0 {
		<-r.c1.notes
	}
	r.c1.subscribe("alive", "ValueChange", "Device.LocalAgent.Controller.1.ProvisioningCode")
	r.c1.Set(false, set("Device.LocalAgent.Controller.1.", "ProvisioningCode", "alive"))
	deadline := time.After(soon)
	for {
		select {
		case n := <-r.c1.notes:
			if n.GetValueChange().GetParamValue() == "alive" {
				return
			}
		case <-deadline:
			t.Fatal("no notification after the storm")
		}
	}
}

// An answer that the transport does not take becomes a refusal.
func TestAnswerTooLarge(t *testing.T) {
	r := newRig(t)
	var got []byte
	p := r.agent.peerOf(c1ID)
	r.agent.serve(context.Background(), p, mtp.Inbound{Reply: func(_ context.Context, rec []byte) error {
		if len(rec) > 1000 {
			return mtp.ErrTooLarge
		}
		got = rec
		return nil
	}}, "big", &uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: []string{"Device."}}}}, nil)
	o, err := usp.OpenRecord(got, c1ID, usp.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	m, err := usp.DecodeMessage(o.Payload, usp.DefaultLimits())
	if err != nil || m.Header.MsgId != "big" || m.GetBody().GetError().GetErrCode() != usp.CodeResourcesExceeded {
		t.Errorf("%v %v", m, err)
	}
	r.agent.opt.Limits.ResponseSize = 1000
	if e := errOf(t, r.c1.ask(&uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: []string{"Device."}}}})); e.ErrCode != usp.CodeResourcesExceeded {
		t.Errorf("%v", e)
	}
	if e := errOf(t, r.c1.ask(&uspmsg.Request{ReqType: &uspmsg.Request_GetInstances{GetInstances: &uspmsg.GetInstances{ObjPaths: []string{
		"Device.LocalAgent.Controller.", "Device.IP.Interface.", "Device.IP.Interface.", "Device.LocalAgent.Controller.", "Device.LocalAgent.Controller.",
		"Device.LocalAgent.Controller.", "Device.LocalAgent.Controller.", "Device.LocalAgent.Controller.", "Device.LocalAgent.Controller."}}}})); e.ErrCode != usp.CodeResourcesExceeded {
		t.Errorf("%v", e)
	}
}

// many makes a rig with a tree of about 3,000 parameters and n subscriptions that concern nothing.
func many(b testing.TB, rows, subs int) *rig {
	r := newRig(b, func(p *datamodel.Profile, _ *Options) {
		for i := 1; i <= rows; i++ {
			p.Factory[fmt.Sprintf("Device.IP.Interface.%d.Name", i)] = fmt.Sprint("if", i)
		}
	})
	var objs []*uspmsg.Add_CreateObject
	for i := range subs {
		objs = append(objs, sub("!Enable", "true", "!ID", fmt.Sprint("s", i), "!NotifType", "ValueChange", "!ReferenceList", fmt.Sprintf("Device.IP.Interface.%d.Enable", i+1)))
		if len(objs) == 1000 || i == subs-1 {
			r.c1.mustAdd(objs...)
			objs = nil
		}
	}
	if subs > 0 {
		r.settle()
	}
	return r
}

func (r *rig) serveOnce(b testing.TB, req *uspmsg.Request) int {
	p := r.agent.peerOf(c1ID)
	size := 0
	r.agent.serve(context.Background(), p, mtp.Inbound{Reply: func(_ context.Context, rec []byte) error { size = len(rec); return nil }}, "bench", req, nil)
	if size == 0 {
		b.Fatal("no answer")
	}
	return size
}

func BenchmarkGetOne(b *testing.B) {
	r := newRig(b)
	req := &uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: []string{"Device.LocalAgent.Controller.1.ProvisioningCode"}}}}
	b.ReportAllocs()
	for b.Loop() {
		r.serveOnce(b, req)
	}
}

func BenchmarkGetDevice(b *testing.B) {
	r := many(b, 150, 0)
	n := 0
	for _, o := range r.c1.Get(0, "Device.")[0].ResolvedPathResults {
		n += len(o.ResultParams)
	}
	req := &uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: []string{"Device."}}}}
	b.ReportAllocs()
	for b.Loop() {
		r.serveOnce(b, req)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/param")
	b.ReportMetric(float64(n), "params")
}

func BenchmarkSet(b *testing.B) {
	for _, subs := range []int{0, 10_000} {
		b.Run(fmt.Sprint(subs), func(b *testing.B) {
			r := many(b, 1, subs)
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				i++
				r.serveOnce(b, &uspmsg.Request{ReqType: &uspmsg.Request_Set{Set: &uspmsg.Set{UpdateObjs: []*uspmsg.Set_UpdateObject{
					set("Device.LocalAgent.Controller.1.", "ProvisioningCode", fmt.Sprint(i))}}}})
			}
		})
	}
}

// BenchmarkDurableSet writes to a real file: one request after the other, and sixteen at a time of one Controller, which
// share fsyncs as long as they do not touch the same leaf.
func BenchmarkDurableSet(b *testing.B) {
	for _, flight := range []int{1, 16} {
		b.Run(fmt.Sprint(flight), func(b *testing.B) {
			r := newRig(b)
			r.stop()
			if err := r.store.Close(); err != nil {
				b.Fatal(err)
			}
			var err error
			if r.store, err = store.Open(filepath.Join(b.TempDir(), "bench.db"), store.Options{}); err != nil {
				b.Fatal(err)
			}
			r.start()
			r.c1.waitUp()
			var rows []string
			for range flight {
				rows = append(rows, r.c1.mustAdd(create("Device.IP.Interface."))...)
			}
			var n atomic.Int64
			b.SetParallelism((flight + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
			if flight == 1 {
				for b.Loop() {
					r.c1.Set(false, set(rows[0], "MaxMTUSize", fmt.Sprint(64+n.Add(1)%60000)))
				}
				return
			}
			var worker atomic.Int64
			b.RunParallel(func(pb *testing.PB) {
				row := rows[int(worker.Add(1)-1)%flight]
				for pb.Next() {
					r.c1.Set(false, set(row, "MaxMTUSize", fmt.Sprint(64+n.Add(1)%60000)))
				}
			})
		})
	}
}
