package broker_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"twinspan/datamodel"
	"twinspan/usp"
	"twinspan/usp/broker"
	"twinspan/usp/mtp"
	"twinspan/usp/mtp/uds"
	"twinspan/usp/service/clock"
	"twinspan/usp/uspmsg"
)

func TestConflictsOfRegistration(t *testing.T) {
	r := newRig(t)
	a, b := r.fake("self::a"), r.fake("self::b")
	for _, f := range []*fake{a, b} { // their data models never come
		f.behave(func(string, *uspmsg.Request) *uspmsg.Msg { return nil })
	}
	wants := func(what string, got []uint32, want ...uint32) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	wants("own parts of the agent", a.register(true, "Device.", "Device.DeviceInfo.", "Device.DeviceInfo.UpTime", "Device.LocalAgent.X_A.", "Device.USPAgent.",
		"Device.Boot!", "Device.IP.Interface.X_A."), 7008, 7029, 7029, 7029, 7029, 0, 7028)
	wants("no paths", a.register(true, "", "Device.X_A.{i}.", "Device.X_A.1.", "Device.X_A.*.", "Device.X_A.[B==1].", "Other.X.", "Device.X_A..B", "Device.X_A.B#1+."),
		7008, 7008, 7008, 7008, 7008, 7026, 7008, 7008)
	wants("free ones", a.register(false, "Device.X_A.", "Device.X_B.C.", "Device.DeviceInfo.X_Own", "Device.X_E.Do()", "Device.X_E.Done!"), 0, 0, 0, 0, 0)
	wants("once more", a.register(false, "Device.X_A.", "Device.X_A.Below."), 0, 0)
	wants("taken", b.register(true, "Device.X_A.", "Device.X_A", "Device.X_A.B.C.", "Device.X_B.", "Device.X_Bystander.", "Device.DeviceInfo.X_Own", "Device.X_E.Do()", "Device.X_E."),
		7029, 7029, 7029, 7029, 0, 7029, 7029, 7029)
	wants("all or nothing", b.register(false, "Device.X_F.", "Device.X_A."), 7028)
	wants("nothing of it", a.register(false, "Device.X_F."), 0)
	wants("above another of the same message", b.register(true, "Device.X_G.H.", "Device.X_G."), 0, 7029)

	wants("not mine", b.deregister("Device.X_A.", "Device.X_Unknown.", "Device.X_G."), 7031, 7030, 7030)
	wants("mine", a.deregister("Device.X_A."), 0)
	wants("free again", b.register(false, "Device.X_A."), 0)
	wants("everything", a.deregister(""), 0)
	wants("free again", b.register(false, "Device.X_B.", "Device.X_F."), 0, 0)
	wants("an empty message", a.register(true), 7004)
}

func TestBoundsOfRegistration(t *testing.T) {
	r := newRig(t, func(o *broker.Options, p *datamodel.Profile) {
		o.Limits.Paths, o.Limits.Services, o.Limits.Objects = 3, 2, 2
		p.Factory["Device.USPServices.Trust.1.EndpointID"], p.Factory["Device.USPServices.Trust.1.TargetPaths"] = "self::a", "Device.X_A.,Device.X_B"
	})
	a := r.fake("self::a")
	if got := a.register(true, "Device.X_A.B.", "Device.X_A.C.", "Device.X_Z.", "Device.X_B.D.", "Device.X_A.E."); !slices.Equal(got, []uint32{0, 0, 7006, 0, 7005}) {
		t.Errorf("%v", got)
	}
	b := r.fake("self::b")
	if got := b.register(true, "Device.X_Y."); !slices.Equal(got, []uint32{7006}) {
		t.Errorf("%v", got)
	}
	// A third one gets an Error TLV instead of a handshake.
	c := uds.DefaultClientConfig()
	c.Path, c.EndpointID = r.socket(), "self::c"
	third := must(uds.NewClient(c))(t)
	ctx, cancel := context.WithCancel(t.Context())
	why := make(chan string, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = third.Run(ctx, nil, func(s mtp.State) {
			select {
			case why <- s.Reason:
			default:
			}
		})
	})
	select {
	case s := <-why:
		if s == "" { // the Error TLV may come too late to be read
			t.Error("a third service is connected")
		}
	case <-time.After(patience):
		t.Error("a third service is not refused")
	}
	cancel()
	wg.Wait()
	// A data model of three objects is too large: what would be over the limit is registered no longer.
	const left = "DataModelPaths:Device.X_A.B.,Device.X_A.C. "
	r.eventually("the third path to go", func() bool { return strings.Contains(r.rows(), left) })
	if got := a.deregister("Device.X_B.D.", "Device.X_A.B."); !slices.Equal(got, []uint32{7030, 0}) {
		t.Errorf("%v", got)
	}
}

// What a Service says that it had not registered, or was not asked for, reaches nobody.
func TestAServiceSpeaksForItselfOnly(t *testing.T) {
	r := newRig(t)
	ctx := timed(t)
	f := r.fake("self::fake")
	f.behave(func(id string, req *uspmsg.Request) *uspmsg.Msg {
		if g := req.GetGetSupportedDm(); g != nil {
			return modelResp(id, g.GetObjPaths(), fakePath, "Device.DeviceInfo.", "Device.LocalAgent.", "Device.X_FAKE.T.{i}.", "Device.X_OTHER.", "nonsense", "")
		}
		if g := req.GetGet(); g != nil && strings.HasPrefix(g.GetParamPaths()[0], "Device.X") {
			res := valuesAt(g.GetParamPaths()[0], fakePath, "A", "v", "B", "v")
			for _, object := range []string{"Device.DeviceInfo.", "Device.LocalAgent.Controller.1.", "Device.X_OTHER.", "Device.", "", "Device.X_FAKE.*."} {
				res.ResolvedPathResults = append(res.ResolvedPathResults, valuesAt("", object, "SerialNumber", "forged", "X_FAKE.", "forged", "A", "forged").ResolvedPathResults...)
			}
			return getResp(id, res)
		}
		return simple(id, req)
	})
	f.up(r, fakePath)
	got, err := r.full.Get(ctx, fakePath)
	if err != nil || len(got) != 2 {
		t.Errorf("%v %v", got, err)
	}
	if got, err := r.full.Get(ctx, "Device."); err != nil || got["Device.DeviceInfo.SerialNumber"] != "1" || strings.Contains(fmt.Sprint(got), "forged") {
		t.Errorf("Device. has %d values, the forged ones among them, %v", len(got), err)
	}
	res, err := r.full.SupportedDM(ctx, false, "Device.")
	check(t, err)
	n := 0
	for _, o := range res[0].GetSupportedObjs() {
		if strings.Contains(o.GetSupportedObjPath(), "X_OTHER") {
			t.Errorf("told of %s", o.GetSupportedObjPath())
		}
		if o.GetSupportedObjPath() == "Device.DeviceInfo." {
			n++
		}
	}
	if n != 1 {
		t.Errorf("Device.DeviceInfo. is told %d times", n)
	}
	// The references of the Service could lead anywhere.
	if _, err := r.full.Get(ctx, "Device.X_FAKE.Ref+.Name"); code(err) != 7026 {
		t.Errorf("%v", err)
	}
	// Notifications: of a Subscription that is not there, of another kind, of somebody else's path. The last one is in order.
	if _, err := r.full.Subscribe(ctx, "vc", "ValueChange", false, fakePath+"A"); err != nil {
		t.Fatal(err)
	}
	var ours string
	f.behave(func(id string, req *uspmsg.Request) *uspmsg.Msg { return simple(id, req) })
	notify := func(sub, path, value string) {
		f.send(usp.NewRequest("n", &uspmsg.Request{ReqType: &uspmsg.Request_Notify{Notify: &uspmsg.Notify{SubscriptionId: sub,
			Notification: &uspmsg.Notify_ValueChange_{ValueChange: &uspmsg.Notify_ValueChange{ParamPath: path, ParamValue: value}}}}}))
	}
	r.eventually("the notification that is in order", func() bool {
		for n := range 5 {
			ours = fmt.Sprintf("twinspan-broker-%d", n)
			notify(ours, "Device.DeviceInfo.SerialNumber", "forged")
			notify(ours, "Device.X_OTHER.A", "forged")
			f.send(usp.NewRequest("e", &uspmsg.Request{ReqType: &uspmsg.Request_Notify{Notify: &uspmsg.Notify{SubscriptionId: ours,
				Notification: &uspmsg.Notify_Event_{Event: &uspmsg.Notify_Event{ObjPath: fakePath, EventName: "forged!"}}}}}))
			notify(ours, fakePath+"A", "right")
		}
		notify("other", fakePath+"A", "forged")
		select {
		case n := <-r.full.notes:
			if n.GetValueChange().GetParamValue() != "right" || n.GetSubscriptionId() != "vc" {
				t.Errorf("told %v", n)
			}
			return true
		case <-time.After(50 * time.Millisecond):
			return false
		}
	})
}

// Services that do not answer, or nonsense, cost their own requests only.
func TestServicesThatMisbehave(t *testing.T) {
	t.Parallel() // mostly waiting
	r := newRig(t, func(o *broker.Options, _ *datamodel.Profile) {
		o.Limits.Time, o.Limits.CommandTime = time.Second, time.Second
	})
	ctx := timed(t)
	f := r.fake("self::fake")
	f.up(r, fakePath)
	wants := func(what string, want uint32) {
		t.Helper()
		v, err := r.full.Value(ctx, fakePath+"A")
		for n := 0; n < 2 && want == 0 && err != nil; n++ { // a busy machine may make a good service late
			v, err = r.full.Value(ctx, fakePath+"A")
		}
		if code(err) != want || want == 0 && v != "v" {
			t.Errorf("%s: %q %v, want %d", what, v, err, want)
		}
		if v, err := r.full.Value(ctx, "Device.DeviceInfo.SerialNumber"); err != nil || v != "1" {
			t.Errorf("%s: the agent itself: %q %v", what, v, err)
		}
	}
	wants("as it should be", 0)
	f.behave(func(id string, req *uspmsg.Request) *uspmsg.Msg { return simple("wrong"+id, req) })
	wants("another msg_id", 7003)
	f.behave(nil)
	wants("recovered", 0)
	f.behave(func(id string, req *uspmsg.Request) *uspmsg.Msg {
		f.send(simple("wrong"+id, req))
		f.send(simple(id, req))
		return simple(id, req) // twice
	})
	wants("too many answers", 0)
	f.behave(func(id string, req *uspmsg.Request) *uspmsg.Msg { return modelResp(id, []string{fakePath}, fakePath) })
	wants("an answer to something else", 7003)
	f.behave(func(id string, req *uspmsg.Request) *uspmsg.Msg { return getResp(id) })
	wants("an empty answer", 7003)
	f.behave(func(id string, req *uspmsg.Request) *uspmsg.Msg {
		return getResp(id, valuesAt("Device.Else", fakePath, "A", "x"))
	})
	wants("for another path", 7003)
	f.behave(func(id string, req *uspmsg.Request) *uspmsg.Msg {
		return usp.ErrorMessage(id, usp.Fault{Code: 7005, Text: strings.Repeat("no", 5000)})
	})
	wants("an Error", 7005)
	f.behave(func(id string, req *uspmsg.Request) *uspmsg.Msg {
		if req.GetGet() == nil {
			return simple(id, req)
		}
		res := valuesAt(fakePath+"A", fakePath)
		for i := range 60_000 {
			res.ResolvedPathResults[0].ResultParams[fmt.Sprint("P", i)] = ""
		}
		return getResp(id, res)
	})
	wants("more elements than a message may have", 7003)
	f.behave(func(id string, req *uspmsg.Request) *uspmsg.Msg {
		return getResp(id, valuesAt(fakePath+"A", fakePath, "A", strings.Repeat("x", 2<<20)))
	})
	wants("a record over the limit", 7003) // which ends the link
	f.link(false)
	f.link(true)
	r.eventually("the row to go", func() bool { return !strings.Contains(r.rows(), "fake") })
	wants("not registered any more", 7026)
	f.behave(nil)
	f.up(r, fakePath)
	wants("registered again", 0)

	f.behave(func(string, *uspmsg.Request) *uspmsg.Msg { return nil })
	for i := range 3 {
		wants(fmt.Sprint("silence ", i), 7003)
	}
	f.link(false) // after three silences
	r.eventually("the row to go", func() bool { return !strings.Contains(r.rows(), "fake") })
	wants("given up", 7026)
}

// A Service of the same name cannot push the first one out, nor speak in its name.
func TestOneLinkForEachService(t *testing.T) {
	r := newRig(t)
	ctx := timed(t)
	f := r.fake("self::fake")
	f.up(r, fakePath)
	twin := r.fake("self::fake")
	twin.send(usp.NewRequest("1", &uspmsg.Request{ReqType: &uspmsg.Request_Register{Register: &uspmsg.Register{RegPaths: []*uspmsg.Register_RegistrationPath{{Path: "Device.X_TWIN."}}}}}))
	twin.link(false)
	other := r.fake("self::other")
	rec, err := usp.WrapMessage("self::fake", agentID, usp.NewRequest("1", &uspmsg.Request{ReqType: &uspmsg.Request_Deregister{Deregister: &uspmsg.Deregister{Paths: []string{""}}}}))
	check(t, err)
	check(t, other.c.Send(ctx, "", rec))
	other.link(false)
	if v, err := r.full.Value(ctx, fakePath+"A"); err != nil || v != "v" {
		t.Errorf("%q %v", v, err)
	}
}

// A path that is deregistered, or a link that breaks, while a request is under way.
func TestServiceChangesWhileARequestIsUnderWay(t *testing.T) {
	r := newRig(t)
	ctx := timed(t)
	f := r.fake("self::fake")
	f.up(r, fakePath)
	ask := func() (waiting chan string, done chan error) {
		waiting, done = make(chan string, 10), make(chan error, 1)
		f.behave(func(id string, req *uspmsg.Request) *uspmsg.Msg {
			if g := req.GetGet(); g != nil && strings.HasPrefix(g.GetParamPaths()[0], fakePath) {
				waiting <- id
				return nil
			}
			return simple(id, req)
		})
		go func() { // ends with the request
			_, err := r.full.Value(ctx, fakePath+"A")
			done <- err
		}()
		return waiting, done
	}
	waiting, done := ask()
	id := <-waiting
	if got := f.deregister(fakePath); !slices.Equal(got, []uint32{0}) {
		t.Fatal(got)
	}
	f.send(getResp(id, valuesAt(fakePath+"A", fakePath, "A", "late")))
	if err := <-done; code(err) != 7026 { // the answer came, but what it tells is nobody's any more
		t.Errorf("%v", err)
	}
	f.behave(nil)
	f.up(r, fakePath)
	waiting, done = ask()
	<-waiting
	check(t, f.c.Send(ctx, "", []byte{0xff})) // no record: the Broker ends the link
	if err := <-done; code(err) != 7003 || !strings.Contains(err.Error(), "went away") {
		t.Errorf("%v", err)
	}
}

// Who comes and goes leaves nothing behind.
func TestServicesComeAndGo(t *testing.T) {
	r := newRig(t)
	for i := range 40 {
		f := r.fake(fmt.Sprint("self::fake", i))
		f.up(r, fakePath) // the same path each time
		if i%2 == 0 {
			check(t, f.c.Send(t.Context(), "", usp.DisconnectRecord(f.eid, agentID, usp.CodeSessionTerminated, "done")))
		} else {
			check(t, f.c.Send(t.Context(), "", []byte{0xff}))
		}
		f.link(false)
		f.end()
		r.eventually("its end", func() bool { return !strings.Contains(r.rows(), f.eid) })
	}
	r.eventually("no service", func() bool { return len(r.broker.Endpoints()) == 0 })
}

// A notification reaches who may hear of it, whatever its Subscription names.
func TestRolesCountForNotifications(t *testing.T) {
	r := newRig(t)
	ctx := timed(t)
	f := r.fake("self::fake")
	subs := make(chan string, 10)
	f.behave(func(id string, req *uspmsg.Request) *uspmsg.Msg {
		if a := req.GetAdd(); a != nil {
			for _, p := range a.GetCreateObjs()[0].GetParamSettings() {
				if p.GetParam() == "ID" {
					subs <- p.GetValue()
				}
			}
		}
		return simple(id, req)
	})
	f.up(r, clock.Path)
	if _, err := r.little.Subscribe(ctx, "s", "ValueChange", false, clock.Path+"Time", clock.Path+"Offset"); err != nil {
		t.Fatal(err)
	}
	sub := <-subs
	for _, name := range []string{"Offset", "Time"} {
		f.send(usp.NewRequest("n"+name, &uspmsg.Request{ReqType: &uspmsg.Request_Notify{Notify: &uspmsg.Notify{SubscriptionId: sub, SendResp: true,
			Notification: &uspmsg.Notify_ValueChange_{ValueChange: &uspmsg.Notify_ValueChange{ParamPath: clock.Path + name, ParamValue: "v"}}}}}))
	}
	n := r.little.note(t, "a change", func(n *uspmsg.Notify) bool { return n.GetValueChange() != nil })
	if n.GetValueChange().GetParamPath() != clock.Path+"Time" || n.GetSubscriptionId() != "s" {
		t.Errorf("%v", n)
	}
	timeout := time.After(patience)
	for seen := 0; seen < 2; { // the Service gets its answers
		select {
		case m := <-f.got:
			if m.GetBody().GetResponse().GetNotifyResp().GetSubscriptionId() == sub {
				seen++
			}
		case <-timeout:
			t.Fatal("no NotifyResp")
		}
	}
}

// A command whose end nobody would hear of is not begun.
func TestServiceThatDoesNotLetItselfBeFollowed(t *testing.T) {
	r := newRig(t)
	ctx := timed(t)
	f := r.fake("self::fake")
	f.behave(func(id string, req *uspmsg.Request) *uspmsg.Msg {
		switch {
		case req.GetGetSupportedDm() != nil:
			m := modelResp(id, []string{fakePath}, fakePath)
			o := m.GetBody().GetResponse().GetGetSupportedDmResp().GetReqObjResults()[0].GetSupportedObjs()[0]
			o.SupportedCommands[0].CommandType = uspmsg.GetSupportedDMResp_CMD_ASYNC
			return m
		case req.GetAdd() != nil:
			return usp.ErrorMessage(id, usp.Fault{Code: 7005, Text: "no room"})
		case req.GetOperate() != nil:
			t.Error("it was begun")
		}
		return simple(id, req)
	})
	f.up(r, fakePath)
	if _, _, err := r.full.Operate(ctx, fakePath+"Do()", "k", nil); code(err) != 7022 {
		t.Errorf("%v", err)
	}
}
