package usp

import (
	"strings"
	"time"
)

func notifyTests() map[string]test {
	return map[string]test{
		"1.52":  {run: valueChange},
		"1.53":  {run: deletedSubscription, slow: true},
		"1.54":  {run: notifyRetry, slow: true},
		"1.55":  {run: timeToLive, slow: true},
		"1.56":  {run: notifExpiration, slow: true},
		"1.57":  {run: objectCreation},
		"1.58":  {run: objectDeletion},
		"1.59":  {run: periodic, slow: true},
		"1.60":  {run: func(t *T) { t.onBoardRequest() }},
		"1.78":  {run: controllerDeleted, own: true},
		"1.84":  {run: wildcardReference},
		"1.93":  {run: func(t *T) { triggered(t, "Config") }},
		"1.94":  {run: func(t *T) { triggered(t, "NotifyAndConfig") }},
		"1.101": {run: func(t *T) { t.onBoardRequest(); t.holds(t.controllerRow(t.main)+"OnBoardingComplete", "false") }},
		"1.102": {run: onBoardingRepeats, slow: true},
		"1.103": {run: onBoardingDoesNotRepeat, slow: true},
	}
}

// provisioning is the parameter that the plan changes; the old value comes back.
func (t *T) provisioning() (row string, change func(value string)) {
	row = t.controllerRow(t.main)
	return row, func(value string) { t.write(row, req("ProvisioningCode", value)) }
}

// watch subscribes to ProvisioningCode.
func (t *T) watch(id string, more ...setting) (sub, param string, change func(string)) {
	row, change := t.provisioning()
	param = row + "ProvisioningCode"
	change("before-" + id)
	o := obj(subs, append([]setting{req("ID", id), req("Enable", "true"), req("NotifType", "ValueChange"), req("ReferenceList", param)}, more...)...)
	return t.made(o)[0], param, change
}

func (t *T) valueChanged(from int, id, param, value string) *Arrival {
	a := t.await(t.main, from, 10*time.Second, "Notify of "+id, notified(id))
	v := a.notify().GetValueChange()
	t.want(v != nil, "the Notify is no value_change: %v", a.notify())
	t.want(v.GetParamPath() == param && v.GetParamValue() == value, "value_change says %s = %q instead of %s = %q", v.GetParamPath(), v.GetParamValue(), param, value)
	return a
}

func valueChange(t *T) {
	_, param, change := t.watch("notify52")
	from := t.main.Mark()
	change("after52")
	t.valueChanged(from, "notify52", param, "after52")
}

func deletedSubscription(t *T) {
	sub, param, change := t.watch("notify53")
	from := t.main.Mark()
	change("once53")
	t.valueChanged(from, "notify53", param, "once53")
	t.deleted(t.delResults(false, sub)[0], sub)
	from = t.main.Mark()
	change("again53")
	t.silence(t.main, from, 20*time.Second, "Notify of a deleted Subscription", notified("notify53"))
}

// retryFrom sets the retry parameters that the plan's windows are computed from.
func (t *T) retryFrom(seconds string) {
	t.write(t.controllerRow(t.main), req("USPNotifRetryMinimumWaitInterval", seconds), req("USPNotifRetryIntervalMultiplier", "2000"))
}

// slack is added to windows that the agent draws from: what the runner's own machine may take.
const slack = 500 * time.Millisecond

func (t *T) window(name string, d, low, high time.Duration) {
	t.see("%s after %.1f s", name, d.Seconds())
	t.want(d >= low-slack/5 && d <= high+slack, "%s came after %.1f s, outside of %s to %s", name, d.Seconds(), low, high)
}

func notifyRetry(t *T) {
	t.retryFrom("5")
	_, param, change := t.watch("notify54", req("NotifRetry", "true"))
	t.main.ack.Store(false)
	t.later(func() { t.main.ack.Store(true) })
	from := t.main.Mark()
	change("retry54")
	first := t.valueChanged(from, "notify54", param, "retry54")
	t.want(first.notify().GetSendResp(), "send_resp is false though NotifRetry is true")
	var at []time.Time
	t.sleep(31 * time.Second)
	for _, a := range t.main.All(from, notified("notify54")) {
		at = append(at, a.At)
	}
	t.want(len(at) >= 3, "%d transmissions in 31 s instead of 3", len(at))
	t.window("first retry", at[1].Sub(at[0]), 5*time.Second, 10*time.Second)
	t.window("second retry", at[2].Sub(at[1]), 10*time.Second, 20*time.Second)
}

func timeToLive(t *T) {
	began := time.Now()
	sub, param, change := t.watch("notify55", req("TimeToLive", "20"))
	from := t.main.Mark()
	change("alive55")
	t.valueChanged(from, "notify55", param, "alive55")
	t.sleep(time.Until(began.Add(23 * time.Second)))
	for _, i := range t.instances(true, subs)[0].GetCurrInsts() {
		t.want(i.GetInstantiatedObjPath() != sub, "%s outlived its TimeToLive", sub)
	}
	from = t.main.Mark()
	change("dead55")
	t.silence(t.main, from, 5*time.Second, "Notify of an expired Subscription", notified("notify55"))
}

func notifExpiration(t *T) {
	t.retryFrom("5")
	_, param, change := t.watch("notify56", req("NotifRetry", "true"), req("NotifExpiration", "20"))
	t.main.ack.Store(false)
	t.later(func() { t.main.ack.Store(true) })
	from := t.main.Mark()
	change("expire56")
	first := t.valueChanged(from, "notify56", param, "expire56")
	t.sleep(50 * time.Second)
	early, late := 0, 0
	for _, a := range t.main.All(from, notified("notify56")) {
		if a.At.Sub(first.At) <= 20*time.Second+slack {
			early++
		} else {
			late++
		}
	}
	t.see("%d transmissions within 20 s, %d afterwards", early, late)
	t.want(early >= 2, "no retry within 20 s")
	t.want(late == 0, "%d retries after NotifExpiration", late)
}

func objectCreation(t *T) {
	row := t.controllerRow(t.main)
	t.made(obj(subs, req("ID", "notify57"), req("Enable", "true"), req("NotifType", "ObjectCreation"), req("ReferenceList", subs)))
	from := t.main.Mark()
	made := t.made(subscription("made57"))[0]
	c := t.await(t.main, from, 10*time.Second, "Notify of notify57", notified("notify57")).notify().GetObjCreation()
	t.want(c != nil, "no obj_creation")
	t.want(c.GetObjPath() == made, "obj_path %q instead of %q", c.GetObjPath(), made)
	t.completeKeys(c.GetUniqueKeys(), "Alias", "ID", "Recipient")
	t.want(c.GetUniqueKeys()["ID"] == "made57" && strings.HasPrefix(row, c.GetUniqueKeys()["Recipient"]), "unique_keys: %v", c.GetUniqueKeys())
}

func objectDeletion(t *T) {
	rows := t.made(subscription("gone58"))
	t.made(obj(subs, req("ID", "notify58"), req("Enable", "true"), req("NotifType", "ObjectDeletion"), req("ReferenceList", rows[0])))
	from := t.main.Mark()
	t.deleted(t.delResults(false, rows[0])[0], rows[0])
	d := t.await(t.main, from, 10*time.Second, "Notify of notify58", notified("notify58")).notify().GetObjDeletion()
	t.want(d != nil && d.GetObjPath() == rows[0], "obj_deletion: %v", d)
}

func periodic(t *T) {
	row := t.controllerRow(t.main)
	t.later(func() { t.write(row, req("PeriodicNotifInterval", "86400")) })
	t.write(row, req("PeriodicNotifInterval", "60"))
	t.made(obj(subs, req("ID", "notify59"), req("Enable", "true"), req("NotifType", "Event"), req("ReferenceList", local+"Periodic!")))
	from := t.main.Mark()
	first := t.await(t.main, from, 66*time.Second, "first Periodic!", notified("notify59"))
	e := first.notify().GetEvent()
	t.want(e.GetObjPath() == local && e.GetEventName() == "Periodic!", "the event is %v", first.notify())
	ctxFrom := t.main.Mark()
	second := t.await(t.main, ctxFrom, 66*time.Second, "second Periodic!", notified("notify59"))
	t.window("second Periodic!", second.At.Sub(first.At), 56*time.Second, 64*time.Second)
}

func isOnBoard(a *Arrival) bool { return a.notify() != nil && a.notify().GetOnBoardReq() != nil }

// onBoardRequest makes the agent send an OnBoardRequest and checks it; afterwards onboarding is complete again.
func (t *T) onBoardRequest() *Arrival {
	row := t.controllerRow(t.main)
	if r := t.getMsg(t.main, 0, row+"OnBoardingComplete")[0]; r.GetErrCode() == 0 {
		t.later(func() { t.write(row, req("OnBoardingComplete", "true")) })
	}
	from := t.main.Mark()
	t.operate(t.main, row+"SendOnBoardRequest()", "", nil)
	a := t.await(t.main, from, 20*time.Second, "OnBoardRequest", isOnBoard)
	n := a.notify()
	t.want(n.GetSubscriptionId() == "", "subscription_id is %q, should be empty", n.GetSubscriptionId())
	t.want(n.GetSendResp(), "send_resp is false")
	o := n.GetOnBoardReq()
	t.want(o.GetOui() != "" && o.GetProductClass() != "" && o.GetSerialNumber() != "" && o.GetAgentSupportedProtocolVersions() != "", "on_board_req is incomplete: %v", o)
	if r := t.get("Device.DeviceInfo.SerialNumber")[0]; r.GetErrCode() == 0 {
		t.holds("Device.DeviceInfo.SerialNumber", o.GetSerialNumber())
		t.holds("Device.DeviceInfo.ManufacturerOUI", o.GetOui())
		t.holds("Device.DeviceInfo.ProductClass", o.GetProductClass())
	}
	return a
}

func onBoardingRepeats(t *T) {
	row := t.controllerRow(t.main)
	t.write(row, req("OnBoardingRestartTime", "60"))
	first := t.onBoardRequest()
	second := t.await(t.main, t.main.Mark(), 75*time.Second, "second OnBoardRequest", isOnBoard)
	t.window("second OnBoardRequest", second.At.Sub(first.At), 58*time.Second, 66*time.Second)
	t.write(row, req("OnBoardingComplete", "true"))
	t.silence(t.main, t.main.Mark(), 70*time.Second, "OnBoardRequest after OnBoardingComplete", isOnBoard)
}

func onBoardingDoesNotRepeat(t *T) {
	t.write(t.controllerRow(t.main), req("OnBoardingRestartTime", "0"))
	t.onBoardRequest()
	t.silence(t.main, t.main.Mark(), 60*time.Second, "second OnBoardRequest", isOnBoard)
}

// controllerDeleted needs an agent of its own: the second Controller is gone afterwards.
func controllerDeleted(t *T) {
	t.open(variant{})
	row := t.controllerRow(t.second)
	m := t.ask(t.second, addRequest(false, []object{subscription("notify78"), subscription("other78")}))
	t.response(m)
	t.want(len(t.rows(subs+`[Recipient=="`+strings.TrimSuffix(row, ".")+`"].`)) == 2, "the second Controller has not two Subscriptions")
	t.deleted(t.delResults(false, row)[0], row)
	t.noSubscription("notify78", "other78")
}

func wildcardReference(t *T) {
	table := t.controllerRow(t.main) + "BootParameter."
	old := t.made(bootParameter(table, local+"EndpointID", "true"))[0]
	t.made(obj(subs, req("ID", "notify84"), req("Enable", "true"), req("NotifType", "ValueChange"), req("ReferenceList", ctls+"*.BootParameter.*.Enable")))
	later := t.made(bootParameter(table, local+"UpTime", "true"))[0] // searches are evaluated over time
	for _, row := range []string{old, later} {
		from := t.main.Mark()
		for _, r := range t.setResults(false, obj(strings.TrimSuffix(row, "."), req("Enable", "false"))) { // no final dot
			t.updated(r, 1, "Enable")
		}
		t.valueChanged(from, "notify84", row+"Enable", "false")
	}
}

func triggered(t *T, action string) {
	sub, param, change := t.watch("trigger"+action, req("TriggerAction", action))
	t.write(sub, req("TriggerConfigSettings", sub+"Enable=false"))
	from := t.main.Mark()
	change("trigger-" + action)
	if action == "NotifyAndConfig" {
		t.valueChanged(from, "trigger"+action, param, "trigger-"+action)
	}
	for range 40 {
		if t.value(sub+"Enable") == "false" {
			if action == "Config" {
				t.want(len(t.main.All(from, notified("trigger"+action))) == 0, "a Notify came though the action is Config")
			}
			return
		}
		t.sleep(100 * time.Millisecond)
	}
	t.fail("the Subscription did not disable itself")
}
