package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"twinspan/datamodel"
	"twinspan/store"
	"twinspan/usp"
	"twinspan/usp/mtp"
	"twinspan/usp/uspmsg"
)

// What nobody set reads as what counts, and may be written back.
func TestDefaultsCanBeWrittenBack(t *testing.T) {
	r := newRig(t)
	for path, want := range map[string]string{"PeriodicNotifInterval": "86400", "MTP.1.Order": "1"} {
		object, name := datamodel.SplitParam(controllerPath + "1." + path)
		v, ok := r.c1.get1(object + name)
		if !ok || v != want {
			t.Errorf("%s reads %q", path, v)
		}
		if m := r.c1.Set(false, set(object, "!"+name, v)); m.GetBody().GetError() != nil {
			t.Errorf("%s cannot be written back: %v", path, m)
		}
	}
	if c := r.agent.controllers().byID[c2ID]; c.interval != 24*time.Hour || c.mtps[0].order != 1 {
		t.Errorf("the agent goes by %s and %d", c.interval, c.mtps[0].order)
	}
}

// A Subscription counts for everything that is committed after it: long before MaxSubscriptionChangeAdoptionTime.
func TestSubscriptionsCountAtOnce(t *testing.T) {
	r := newRig(t)
	c := r.c1
	for i := range 50 {
		id := fmt.Sprint("s", i)
		row := c.subscribe(id, "ValueChange", controllerPath+"*.ProvisioningCode")
		c.Set(false, set(controllerPath+"2.", "!ProvisioningCode", id))
		if n := c.note(soon); n.SubscriptionId != id || n.GetValueChange().GetParamValue() != id {
			t.Fatalf("%d: %v", i, n.Notify)
		}
		c.Delete(false, row)
		c.Set(false, set(controllerPath+"2.", "!ProvisioningCode", "after "+id)) // and the deletion does, too: the next note is of the next one
	}
}

// A thousand Subscriptions that all match: each is told or counted as dropped, in order, and the agent goes on.
func TestThousandSubscriptions(t *testing.T) {
	r := newRig(t)
	c := r.c1
	for i := range 10 {
		var objs []*uspmsg.Add_CreateObject
		for k := range 100 {
			objs = append(objs, create(subPath, "!Enable", "true", "!ID", fmt.Sprintf("t%d-%d", i, k), "!NotifType", "ValueChange", "!ReferenceList", controllerPath+"2.ProvisioningCode"))
		}
		c.mustAdd(objs...)
	}
	r.settle()
	c.Set(false, set(controllerPath+"2.", "!ProvisioningCode", "x"))
	r.settle()
	for late := time.Now().Add(soon); ; time.Sleep(5 * time.Millisecond) {
		if s := r.agent.Stats(); s.Notified+s.Dropped == 1000 {
			if s.Notified < uint64(min(1000, r.agent.opt.Limits.Notifications)) {
				t.Errorf("%+v", s)
			}
			break
		} else if time.Now().After(late) {
			t.Fatalf("%+v", s)
		}
	}
	if m := c.Delete(false, subPath+"*."); len(m.GetBody().GetResponse().GetDeleteResp().GetDeletedObjResults()[0].GetOperStatus().GetOperSuccess().GetAffectedPaths()) != 1000 {
		t.Errorf("%.300v", m)
	}
}

// A Controller that deletes its own row gets its answer, hears of its end, and is a stranger from then on.
func TestControllerDeletesItself(t *testing.T) {
	r := newRig(t)
	r.c2.flaky = true
	r.c2.subscribe("end", "ObjectDeletion", controllerPath+"*.")
	_, answer := r.c2.post(&uspmsg.Request{ReqType: &uspmsg.Request_Delete{Delete: &uspmsg.Delete{ObjPaths: []string{controllerPath + "2."}}}})
	select {
	case m := <-answer:
		if m.GetBody().GetResponse().GetDeleteResp() == nil {
			t.Errorf("%v", m)
		}
	case <-time.After(soon):
		t.Error("no answer")
	}
	if n := r.c2.note(soon); n.GetObjDeletion().GetObjPath() != controllerPath+"2." {
		t.Errorf("%v", n.Notify)
	}
	if p := newRawPeer(t, r.agent, false, mtp.Identity{Local: true}, 801); p.answered(c2ID, agentID) {
		t.Error("the deleted Controller is still served")
	}
	if v, ok := r.c1.get1("Device.LocalAgent.ControllerNumberOfEntries"); !ok || v != "1" {
		t.Errorf("%q Controllers", v)
	}
}

// hastyBroker hands a request over before anything else happens on its link.
type hastyBroker struct {
	brokerEnd
	first []byte
}

func (b *hastyBroker) Run(ctx context.Context, h mtp.Handler, onState func(mtp.State)) error {
	onState(mtp.State{Up: true, LinkID: 900, ReplyTopic: "usp/agent"})
	h.HandleRecord(ctx, mtp.Inbound{Record: b.first, From: mtp.Identity{Encrypted: true, Broker: true}, Transport: "MQTT", LinkID: 900, Reject: func(string) {}})
	<-ctx.Done()
	return nil
}

// A request without response topic that comes in the instant in which the link comes up is answered, after the Connect record.
func TestRequestBeforeConnectRecord(t *testing.T) {
	r := newRig(t, func(p *datamodel.Profile, o *Options) {
		o.Trust.AllowBroker = true
		for k, v := range map[string]string{"Device.MQTT.Client.1.Enable": "true", "Device.MQTT.Client.1.BrokerAddress": "broker", "Device.MQTT.Client.1.TransportProtocol": "TLS",
			"Device.LocalAgent.MTP.1.Enable": "true", "Device.LocalAgent.MTP.1.Protocol": "MQTT", "Device.LocalAgent.MTP.1.MQTT.Reference": "Device.MQTT.Client.1",
			controllerPath + "2.MTP.2.Enable": "true", controllerPath + "2.MTP.2.Protocol": "MQTT", controllerPath + "2.MTP.2.MQTT.Topic": "usp/two"} {
			p.Factory[k] = v
		}
	})
	for range 20 {
		r.stop()
		b := &hastyBroker{brokerEnd: brokerEnd{out: make(chan sent, 16)},
			first: encode(t, messageRecord(t, c2ID, &uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: []string{"Device.LocalAgent.EndpointID"}}}}))}
		r.factory.ends["broker"] = b
		r.start()
		r.c1.waitUp()
		r.c2.waitUp()
		for connected, answered := false, false; !answered; {
			select {
			case s := <-b.out:
				rec, err := usp.OpenRecord(s.rec, c2ID, usp.DefaultLimits())
				if err != nil || s.dest != "usp/two" {
					t.Fatalf("%v to %q", err, s.dest)
				}
				if rec.Kind == usp.KindMQTTConnect {
					connected = true
				} else if rec.Kind == usp.KindMessage {
					answered = true
					if !connected {
						t.Fatal("the answer left before the Connect record")
					}
				}
			case <-time.After(soon):
				t.Fatal("no answer")
			}
		}
	}
}

// listenEnd is a server that listens, and whom nobody visits.
type listenEnd struct{}

func (listenEnd) Run(ctx context.Context, _ mtp.Handler, onState func(mtp.State)) error {
	onState(mtp.State{Up: true})
	<-ctx.Done()
	return nil
}
func (listenEnd) Send(context.Context, string, []byte) error { return mtp.ErrNotConnected }

func TestListeningIsUp(t *testing.T) {
	r := newRig(t, func(_ *datamodel.Profile, o *Options) { o.Trust.AllowPlaintext = true })
	r.factory.mu.Lock()
	r.factory.ends["/here"] = listenEnd{}
	r.factory.mu.Unlock()
	row := r.c1.mustAdd(create(mtpPath, "!Enable", "true", "!Protocol", "WebSocket", "!WebSocket.Path", "/here", "!WebSocket.Port", "9", "!WebSocket.EnableEncryption", "false"))[0]
	for late := time.Now().Add(soon); ; time.Sleep(5 * time.Millisecond) {
		v, _ := r.c1.get1(row + "Status")
		if v == "Up" {
			break
		} else if time.Now().After(late) {
			t.Fatalf("Status is %q", v)
		}
	}
	if v, _ := r.c1.get1("Device.LocalAgent.EndpointID"); v != agentID {
		t.Error("not alive")
	}
}

// A clock that is set moves no TimeToLive, and finds the time of day of Periodic! again.
func TestClockIsSet(t *testing.T) {
	r := newRig(t)
	c := r.c1
	row := c.subscribe("hour", "ValueChange", controllerPath+"1.ProvisioningCode", "TimeToLive", "3600")
	c.Set(false, set(controllerPath+"1.", "!PeriodicNotifInterval", "7200", "!PeriodicNotifTime", "2020-01-01T00:00:00Z"))
	r.settle()
	type look struct {
		deadline, next time.Time
	}
	see := func(jump time.Duration) look {
		out := make(chan look)
		r.agent.do(func(n *notifier) {
			now := time.Now()
			n.wall, n.looked = now.Round(0).Add(-jump), now // the clock said something else a moment ago
			n.clock(now)
			s, _ := n.index.Get(instance(row, subPath))
			out <- look{s.Deadline, n.periodic[controllerPath+"1."].next}
		})
		return <-out
	}
	before := see(0)
	after := see(40 * 365 * 24 * time.Hour)
	if d := after.deadline.Sub(before.deadline); d != 40*365*24*time.Hour {
		t.Errorf("TimeToLive moved by %s", d)
	}
	if d := time.Until(after.next); d <= 0 || d > 2*time.Hour || after.next.UTC().Minute() != 0 {
		t.Errorf("the next Periodic! is at %s", after.next)
	}
	if back := see(-40 * 365 * 24 * time.Hour); back.deadline.Sub(before.deadline) != 0 {
		t.Errorf("and back: %s", back.deadline.Sub(before.deadline))
	}
	if drift := see(time.Second); drift.deadline != before.deadline {
		t.Error("a second of drift is a jump")
	}
	if v, _ := c.get1(row + "ID"); v != "hour" {
		t.Error("the Subscription is gone")
	}
}

// A ScheduleTimer() whose time lies in the future of a clock that was lost waits as long as was asked for, not for decades.
func TestTimerWithLostClock(t *testing.T) {
	r := newRig(t)
	c := r.c1
	c.subscribe("kept", "OperationComplete", "Device.", "Persistent", "true")
	r.stop()
	data, err := json.Marshal(timer{Due: time.Now().AddDate(30, 0, 0), Originator: c1ID, Key: "lost", Delay: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.store.Update(t.Context(), store.Meta{Writer: "sys:test"}, func(tx *store.Tx) error { return tx.PutRecord(timerBucket, "x", data) }); err != nil {
		t.Fatal(err)
	}
	r.start()
	c.waitUp()
	if n := c.note(soon).GetOperComplete(); n.GetCommandKey() != "lost" || n.GetCmdFailure() != nil {
		t.Errorf("%v", n)
	}
}

// Links of strangers end when they were silent for too long; one believed record is enough.
func TestStrangersAreSentAway(t *testing.T) {
	var table tofuTable
	closed := make(chan string, 8)
	link := func(id uint64) mtp.State {
		return mtp.State{Up: true, LinkID: id, Close: func(string) { closed <- fmt.Sprint(id) }}
	}
	table.watch(link(1), 0)
	if l := table.links[1]; l == nil || l.after != strangerLimit || !l.once {
		t.Fatalf("%+v", l)
	}
	table.heard(1)
	if table.links[1] != nil {
		t.Error("still watched after a believed record")
	}
	table.watch(link(2), time.Millisecond) // TOFUInactivityTimer
	select {
	case id := <-closed:
		if id != "2" {
			t.Error(id)
		}
	case <-time.After(soon):
		t.Error("not closed")
	}
	table.forget(2)
}
