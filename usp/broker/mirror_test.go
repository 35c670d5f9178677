package broker_test

import (
	"strings"
	"testing"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/usp/service/clock"
	"twinspan/usp/uspmsg"
)

const subTable = "Device.LocalAgent.Subscription."

// mirrors counts the Subscriptions that a clock has, but the Broker's own.
func mirrors(k *clock.Clock) int {
	n := 0
	v := k.Engine.Store().Head()
	for range v.Instances(subTable) {
		n++
	}
	return max(0, n-1)
}

func TestSubscriptionsAreMirrored(t *testing.T) {
	r := newRig(t)
	ctx := timed(t)
	k := r.clock("self::clock")
	rows := map[string]string{}
	for id, s := range map[string][2]string{"vc": {"ValueChange", clock.Path + "Offset"}, "all": {"ValueChange", "Device."}, "oc": {"ObjectCreation", clock.Path + "Alarm."},
		"od": {"ObjectDeletion", clock.Path + "Alarm.*."}, "ev": {"Event", clock.Path + "Tick!"}, "own": {"ValueChange", "Device.DeviceInfo.ProvisioningCode"}} {
		row, err := r.full.Subscribe(ctx, id, s[0], true, s[1])
		check(t, err)
		rows[id] = row
	}
	r.eventually("five mirrored subscriptions", func() bool { return mirrors(k) == 5 })
	seen := func(what, id string, fn func(*uspmsg.Notify) bool) {
		t.Helper()
		n := r.full.note(t, what, func(n *uspmsg.Notify) bool { return n.GetSubscriptionId() == id && fn(n) })
		if !n.GetSendResp() {
			t.Errorf("%s is not repeated", what)
		}
	}
	check(t, r.full.Set(ctx, map[string]string{clock.Path + "Offset": "30"}))
	changed := func(n *uspmsg.Notify) bool {
		return n.GetValueChange().GetParamPath() == clock.Path+"Offset" && n.GetValueChange().GetParamValue() == "30"
	}
	got := map[string]bool{}
	for len(got) < 2 {
		n := r.full.note(t, "the change", changed)
		got[n.GetSubscriptionId()] = true
	}
	if !got["vc"] || !got["all"] {
		t.Errorf("told %v", got)
	}
	row, _, err := r.full.Add(ctx, clock.Path+"Alarm.", map[string]string{"Name": "a"})
	check(t, err)
	seen("creation", "oc", func(n *uspmsg.Notify) bool {
		return n.GetObjCreation().GetObjPath() == row && n.GetObjCreation().GetUniqueKeys()["Name"] == "a"
	})
	if _, err := r.full.Delete(ctx, row); err != nil {
		t.Fatal(err)
	}
	seen("deletion", "od", func(n *uspmsg.Notify) bool { return n.GetObjDeletion().GetObjPath() == row })
	k.Ring()
	tick := func(n *uspmsg.Notify) bool {
		return n.GetEvent().GetEventName() == "Tick!" && n.GetEvent().GetParams()["Time"] != ""
	}
	seen("event", "ev", tick)

	// The link breaks: the Service lives, its old Subscriptions are replaced, not doubled.
	k.Drop()
	r.eventually("the row to go", func() bool { return !strings.Contains(r.rows(), "self::clock") })
	r.eventually("the row to come back", func() bool { return strings.Contains(r.rows(), "self::clock") })
	r.eventually("mirrored again", func() bool { return mirrors(k) == 5 })
	k.Ring()
	seen("event after a broken link", "ev", tick)

	// It is started anew, and knows nothing.
	check(t, k.Close())
	r.eventually("the row to go", func() bool { return !strings.Contains(r.rows(), "self::clock") })
	k = r.clock("self::clock")
	r.eventually("mirrored at the new one", func() bool { return mirrors(k) == 5 })
	k.Ring()
	seen("event after a restart", "ev", tick)

	// A row that is changed or goes takes its mirror along.
	check(t, r.full.Set(ctx, map[string]string{rows["vc"] + "Enable": "false"}))
	if _, err := r.full.Delete(ctx, rows["oc"], rows["od"], rows["all"]); err != nil {
		t.Fatal(err)
	}
	r.eventually("one mirrored subscription", func() bool { return mirrors(k) == 1 })
	if n := len(r.full.notes); n != 0 {
		for range n {
			if n := <-r.full.notes; n.GetEvent() != nil {
				t.Errorf("told twice: %v", n)
			}
		}
	}
}

// An asynchronous command is a row of the agent, and its end is told to whom the agent's own would be.
func TestAsynchronousCommandsOfAService(t *testing.T) {
	r := newRig(t)
	ctx := timed(t)
	k := r.clock("self::clock")
	if _, err := r.full.Subscribe(ctx, "done", "OperationComplete", false, clock.Path); err != nil {
		t.Fatal(err)
	}
	r.eventually("the Broker's own subscription", func() bool { return len(k.Engine.Store().Head().Instances(subTable)) == 1 })
	complete := func(key string) *uspmsg.Notify_OperationComplete {
		t.Helper()
		return r.full.note(t, "completion of "+key, func(n *uspmsg.Notify) bool {
			return n.GetOperComplete().GetCommandName() == "Countdown()" && n.GetOperComplete().GetCommandKey() == key
		}).GetOperComplete()
	}
	run := func(key, seconds string) string {
		t.Helper()
		_, row, err := r.full.Operate(ctx, clock.Path+"Countdown()", key, map[string]string{"Seconds": seconds})
		check(t, err)
		return row
	}
	run("quick", "0")
	if c := complete("quick"); c.GetObjPath() != clock.Path || c.GetReqOutputArgs().GetOutputArgs()["Time"] == "" {
		t.Errorf("%v", c)
	}
	row := run("slow", "3000")
	if v, err := r.full.Get(ctx, row); err != nil || v[row+"Command"] != clock.Path+"Countdown()" || v[row+"CommandKey"] != "slow" || v[row+"Originator"] != fullID {
		t.Errorf("%v %v", v, err)
	}
	if _, _, err := r.full.Operate(ctx, clock.Path+"Countdown()", "slow", map[string]string{"Seconds": "3000"}); code(err) != 7005 {
		t.Errorf("the same key at the same time: %v", err)
	}
	if _, _, err := r.full.Operate(ctx, row+"Cancel()", "", nil); err != nil {
		t.Fatal(err)
	}
	if c := complete("slow"); c.GetCmdFailure().GetErrCode() != 7023 {
		t.Errorf("canceled: %v", c)
	}
	r.eventually("the service to cancel", func() bool {
		rows, err := k.Engine.View(bridge.Writer{Name: "sys:test", Protocol: datamodel.USP, System: true}).Resolve("Device.LocalAgent.Request.*.", datamodel.ResolvePolicy{})
		return err == nil && len(rows) == 0
	})
	if _, _, err := r.full.Operate(ctx, clock.Path+"Countdown()", "bad", map[string]string{"Seconds": "99999"}); code(err) != 7027 {
		t.Errorf("bad arguments: %v", err)
	}
	run("lost", "3000")
	check(t, k.Close())
	if c := complete("lost"); c.GetCmdFailure() == nil {
		t.Errorf("the service went away: %v", c)
	}
}

// Restarting the Broker's side, too: a Subscription that was there before the Service is mirrored when it comes.
func TestSubscriptionBeforeService(t *testing.T) {
	r := newRig(t)
	ctx := timed(t)
	if _, err := r.full.Subscribe(ctx, "ev", "Event", false, clock.Path+"Tick!"); err != nil {
		t.Fatal(err)
	}
	k := r.clock("self::clock")
	r.eventually("mirrored", func() bool { return mirrors(k) == 1 })
	k.Ring()
	r.full.note(t, "Tick!", func(n *uspmsg.Notify) bool { return n.GetSubscriptionId() == "ev" && n.GetEvent() != nil })
}
