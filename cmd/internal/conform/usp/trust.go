package usp

import (
	"fmt"
	"slices"
	"strings"
	"time"

	core "twinspan/usp"
	"twinspan/usp/mtp/websocket"
	"twinspan/usp/uspmsg"
)

const (
	trustTable = local + "ControllerTrust."
	roleTable  = trustTable + "Role."
)

// rights of one Permission, in the order of the model's parameters.
type rights struct{ param, obj, inst, cmd string }

var all = rights{"rw-n", "rw-n", "rw-n", "r-xn"}

// permission adds a row to a Role; an empty order leaves Order to the agent, as most tests of the plan do.
func (t *T) permission(role, targets string, r rights, order string) string {
	s := []setting{req("Enable", "true"), req("Targets", targets), req("Param", r.param), req("Obj", r.obj), req("InstantiatedObj", r.inst), req("CommandEvent", r.cmd)}
	if order != "" {
		s = append(s, req("Order", order))
	}
	return t.made(obj(role+"Permission.", s...))[0]
}

// secondRole gives the second Controller a Role of its own, which may do everything until the test adds a Permission.
func (t *T) secondRole() (role string) {
	role = t.made(obj(roleTable, req("Enable", "true"), req("Name", fmt.Sprintf("conform-%d", time.Now().UnixNano()))))[0]
	t.permission(role, "Device.", all, "1")
	t.assign(role)
	return role
}

// assign replaces the Roles of the second Controller until the end of the test.
func (t *T) assign(role string) {
	row := t.controllerRow(t.second)
	old := t.value(row + "AssignedRole")
	t.later(func() { t.write(row, req("AssignedRole", old)) })
	t.write(row, req("AssignedRole", strings.TrimSuffix(role, ".")))
}

// denied checks an Error 7006.
func (t *T) denied(m *uspmsg.Msg) *uspmsg.Error {
	e := m.GetBody().GetError()
	t.want(e != nil, "%s instead of an Error", core.TypeOf(m))
	t.want(e.GetErrCode() == 7006, "Error %d instead of 7006%s", e.GetErrCode(), paramErrs(e))
	return e
}

func (t *T) addedBy(p *Peer, partial bool, o object) []*uspmsg.AddResp_CreatedObjectResult {
	return t.response(t.addMsg(p, partial, o)).GetAddResp().GetCreatedObjResults()
}

func rightsTests() map[string]test {
	// with gives the second Controller a Role whose newest Permission is this one.
	with := func(targets string, r rights, then func(t *T)) test {
		return test{run: func(t *T) {
			t.permission(t.secondRole(), targets, r, "")
			then(t)
		}}
	}
	return map[string]test{
		"2.1":  {run: func(t *T) { misaddressed(t, t.cfg.AgentID, t.cfg.AgentID) }},
		"2.2":  {run: func(t *T) { misaddressed(t, t.main.ID, "self::conform-nobody") }},
		"2.9":  {run: stranger},
		"2.10": {run: func(t *T) { t.made(obj(roleTable, req("Enable", "true"), req("Name", "conform-210"))) }},
		"2.11": with(subs, rights{"rw--", "rw--", "rw--", "r---"}, func(t *T) {
			t.added(t.addedBy(t.second, false, subscription("add211"))[0])
		}),
		"2.12": with(subs, rights{"rw--", "r---", "rw--", "r---"}, func(t *T) {
			t.denied(t.addMsg(t.second, false, subscription("add212")))
			t.noSubscription("add212")
		}),
		"2.13": with(subs, rights{"rw--", "rw--", "rw--", "r---"}, func(t *T) {
			row := t.added(t.addedBy(t.second, false, subscription("add213"))[0]).GetInstantiatedPath()
			m := t.response(t.del(t.second, false, strings.TrimSuffix(row, "."))) // the plan leaves the final dot out
			t.deleted(m.GetDeleteResp().GetDeletedObjResults()[0], row)
		}),
		"2.14": with(subs, rights{"rw--", "rw--", "r---", "r---"}, func(t *T) {
			row := t.added(t.addedBy(t.second, false, subscription("add214"))[0]).GetInstantiatedPath()
			t.denied(t.del(t.second, false, row))
			t.holds(row+"ID", "add214")
		}),
		"2.15": with(subs, rights{"rw--", "rw--", "rw--", "r---"}, func(t *T) {
			row := t.made(subscription("add215"))[0]
			res := t.response(t.set(t.second, false, obj(row, req("Enable", "false")))).GetSetResp().GetUpdatedObjResults()
			t.updated(res[0], 1, "Enable")
			t.holds(row+"Enable", "false")
		}),
		"2.16": with(subs, rights{"r---", "rw--", "rw--", "r---"}, func(t *T) {
			row := t.made(subscription("add216"))[0]
			e := t.denied(t.set(t.second, false, obj(row, req("Enable", "false"))))
			for _, p := range e.GetParamErrs() {
				t.fits(p.GetErrCode(), []uint32{7006})
			}
			t.holds(row+"Enable", "true")
		}),
		"2.17": with("Device.Reboot()", rights{"r---", "r---", "r---", "r-x-"}, func(t *T) {
			m, s := t.main.Mark(), t.second.Mark()
			r := t.operate(t.second, "Device.Reboot()", "test217", nil)
			t.want(r.GetReqOutputArgs() != nil, "no req_output_args: %v", r)
			t.back(m, s)
		}),
		"2.18": with("Device.Reboot()", rights{"r---", "r---", "r---", "r---"}, executeDenied),
		"2.19": {run: func(t *T) { notifyRight(t, "rw-n") }},
		"2.20": {run: func(t *T) { notifyRight(t, "rw--") }, slow: true},
		"2.21": {run: highestOrder},
		"2.22": {run: hiddenParameter},
		"2.23": {run: func(t *T) { addDeniedParent(t, true) }},
		"2.24": {run: func(t *T) { addDeniedParent(t, false) }},
		"2.25": with(subs+"*.Enable", rights{"r---", "r---", "r---", "r---"}, func(t *T) {
			o := obj(subs, req("ID", "add225"), req("NotifType", "ValueChange"), req("ReferenceList", local+"SoftwareVersion"))
			row := t.added(t.addedBy(t.second, false, o)[0]).GetInstantiatedPath()
			t.holds(row+"Enable", "false")
		}),
		"2.26": with(subs+"*.Enable", rights{"r---", "r---", "r---", "r---"}, func(t *T) {
			res := t.addedBy(t.second, true, subscription("add26"))
			t.want(len(res) == 1 && res[0].GetOperStatus().GetOperFailure().GetErrCode() == 7006, "no oper_failure 7006: %v", res)
			t.noSubscription("add26")
		}),
		"2.27": {run: securedParameter},
		"3.1":  {run: malformedRecord},
		"4.1":  {run: overTLS, own: true},
	}
}

// misaddressed sends a Get in a record that the agent must not answer at all.
func misaddressed(t *T, from, to string) {
	rec, err := core.WrapMessage(from, to, core.NewRequest("misaddressed", &uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: []string{local + "EndpointID"}}}}))
	t.want(err == nil, "%v", err)
	mark := t.main.Mark()
	t.want(t.main.Raw(t.ctx, rec) == nil, "the record could not be sent")
	t.silence(t.main, mark, 3*time.Second, "answer", func(a *Arrival) bool { return a.notify() == nil })
	t.holds(local+"EndpointID", t.cfg.AgentID) // and it lives
}

func malformedRecord(t *T) {
	for _, bytes := range [][]byte{{0xff, 0xff, 0xff, 0xff}, []byte("this is no record"), {0x0a, 0x7f, 0x31}} {
		mark := t.main.Mark()
		t.want(t.main.Raw(t.ctx, bytes) == nil, "the record could not be sent")
		a, err := waitFor(t.ctx, t.main, mark, 2*time.Second, func(a *Arrival) bool { return a.notify() == nil })
		switch {
		case err != nil:
			t.see("ignored")
		case a.Bad == nil && a.Record.Kind == core.KindDisconnect:
			t.see("disconnect record %s", a.Record.Raw.GetDisconnect().GetReason())
		case a.Bad == nil && isConnect(a):
			t.see("closed and connected anew")
		default:
			t.fail("answered by %v", a)
		}
		t.alive()
	}
}

func overTLS(t *T) {
	t.open(variant{tls: true})
	m := t.ask(t.main, &uspmsg.Request{ReqType: &uspmsg.Request_GetSupportedProtocol{GetSupportedProtocol: &uspmsg.GetSupportedProtocol{ControllerSupportedProtocolVersions: "1.3,1.4"}}})
	v := t.response(m).GetGetSupportedProtocolResp().GetAgentSupportedProtocolVersions()
	t.want(v != "", "no versions")
	t.see("versions %s over TLS only", v)
}

// stranger lets an unknown Controller come, who gets a row with the UntrustedRole.
func stranger(t *T) {
	role := t.made(obj(roleTable, req("Enable", "true"), req("Name", "conform-untrusted")))[0]
	t.permission(role, local, rights{"r---", "r---", "r---", "r---"}, "")
	old := t.value(trustTable + "UntrustedRole")
	t.later(func() { t.write(trustTable, req("UntrustedRole", old)) })
	t.write(trustTable, req("UntrustedRole", strings.TrimSuffix(role, ".")))
	p := t.visitor(strangeID)
	t.later(func() { t.drop(ctls + `[EndpointID=="` + strangeID + `"].`) })
	rec, err := core.WrapMessage(p.ID, p.Agent, core.NewRequest("stranger", &uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: []string{local + "EndpointID"}}}}))
	t.want(err == nil && p.Raw(t.ctx, rec) == nil, "the record could not be sent: %v", err)
	for range 50 {
		if len(t.rows(ctls+`[EndpointID=="`+strangeID+`"].EndpointID`)) == 1 {
			t.holds(t.controllerRow(p)+"AssignedRole", strings.TrimSuffix(role, "."))
			return
		}
		t.sleep(100 * time.Millisecond)
	}
	t.fail("no Controller row for the stranger")
}

// visitor is a third Controller that comes to the agent by itself: to its topic, or to its WebSocket server.
func (t *T) visitor(id string) *Peer {
	if t.cfg.MTP == "mqtt" {
		r := t.b.setup.Controllers[0]
		r.Topic += "/visitor"
		p, err := t.b.mqttPeer(r, id)
		t.want(err == nil, "%v", err)
		t.start(p)
		return p
	}
	p, err := t.dialAgent(t.agentServer(), id)
	t.want(err == nil, "%v", err)
	t.want(within(t.ctx, 20*time.Second, p.waitUp) == nil, "%s could not connect", p.ID)
	return p
}

// dialAgent is a Controller that dials the agent's WebSocket server.
func (t *T) dialAgent(url, id string) (*Peer, error) {
	wc := websocket.DefaultClientConfig()
	wc.URL, wc.EndpointID = url, id
	wc.Backoff.Min = time.Second
	c, err := websocket.NewClient(wc)
	if err != nil {
		return nil, err
	}
	p := newPeer(id, t.cfg.AgentID, t.cfg.AgentID, c)
	t.begin(p)
	return p, nil
}

// start runs a further Controller until the end of the test, and waits until it is connected.
func (t *T) start(p *Peer) {
	t.begin(p)
	t.want(within(t.ctx, 20*time.Second, p.waitUp) == nil, "%s could not connect", p.ID)
}

// begin runs a further Controller until the end of the test.
func (t *T) begin(p *Peer) {
	ctx, stop := contextWithCancel(t)
	done := make(chan struct{})
	go func() { // ends with the test, which joins it
		defer close(done)
		_ = p.run(ctx)
	}()
	t.later(func() { stop(); <-done })
}

// agentServer makes the agent listen for WebSockets and returns its URL.
func (t *T) agentServer() string {
	port, err := freePort()
	t.want(err == nil, "%v", err)
	t.made(obj(local+"MTP.", req("Enable", "true"), req("Protocol", "WebSocket"), req("WebSocket.Port", fmt.Sprint(port)),
		req("WebSocket.Path", "/usp"), req("WebSocket.EnableEncryption", "false")))
	return fmt.Sprintf("ws://127.0.0.1:%d/usp", port)
}

func executeDenied(t *T) {
	// send_resp stays unset, as in the plan: a failure is told nevertheless.
	from := t.second.Mark()
	id := t.tell(t.second, "Device.Reboot()", "test218", nil)
	a := t.await(t.second, from, answerIn, "answer", func(a *Arrival) bool {
		return a.Msg != nil && a.Msg.GetHeader().GetMsgId() == id && a.Msg.GetBody().GetRequest() == nil
	})
	r := t.response(a.Msg).GetOperateResp().GetOperationResults()
	t.want(len(r) == 1 && r[0].GetCmdFailure().GetErrCode() == 7006, "no cmd_failure 7006: %v", r)
}

// notifyRight subscribes without and with the right to be told; the Subscription itself is accepted in both cases.
func notifyRight(t *T, param string) {
	row := t.controllerRow(t.second)
	t.permission(t.secondRole(), row+"PeriodicNotifInterval", rights{param, "rw--", "rw--", "r---"}, "")
	t.later(func() { t.write(row, req("PeriodicNotifInterval", "86400")) })
	o := obj(subs, req("ID", "notify219"), req("Enable", "true"), req("NotifType", "ValueChange"), req("ReferenceList", row+"PeriodicNotifInterval"))
	t.added(t.addedBy(t.second, false, o)[0])
	from := t.second.Mark()
	res := t.response(t.set(t.second, false, obj(row, req("PeriodicNotifInterval", "7531")))).GetSetResp().GetUpdatedObjResults()
	t.updated(res[0], 1, "PeriodicNotifInterval")
	if param[3] != 'n' {
		t.silence(t.second, from, 30*time.Second, "Notify without the right", notified("notify219"))
		return
	}
	a := t.await(t.second, from, 10*time.Second, "Notify", notified("notify219"))
	t.want(a.notify().GetValueChange().GetParamPath() == row+"PeriodicNotifInterval" && a.notify().GetValueChange().GetParamValue() == "7531", "%v", a.notify())
}

func highestOrder(t *T) {
	row := t.controllerRow(t.second)
	boot := t.made(bootParameter(row+"BootParameter.", local+"EndpointID", "true"))[0]
	role := t.secondRole()
	target := row + "BootParameter."
	none := rights{"----", "----", "----", "----"}
	t.permission(role, target, none, "10")
	seen := func() bool {
		return slices.ContainsFunc(t.getMsg(t.second, 0, target)[0].GetResolvedPathResults(), func(o *getObject) bool { return o.GetResolvedPath() == boot })
	}
	t.want(!seen(), "%s is visible though nothing allows it", boot)
	t.permission(role, target, rights{"rw--", "rw--", "rw--", "r---"}, "11")
	t.want(seen(), "%s is hidden though the highest Order allows it", boot)
	t.permission(role, target, none, "12")
	t.want(!seen(), "%s is visible though the highest Order hides it", boot)
}

func hiddenParameter(t *T) {
	row := t.controllerRow(t.second)
	boot := t.made(bootParameter(row+"BootParameter.", local+"EndpointID", "true"))[0]
	role := t.secondRole()
	t.permission(role, row+"BootParameter.", rights{"rw--", "rw--", "rw--", "r---"}, "")
	t.permission(role, row+"BootParameter.*.ParameterName", rights{"----", "----", "----", "----"}, "")
	o := t.ok(t.getMsg(t.second, 0, boot)[0], 1)[0]
	_, shown := o.GetResultParams()["ParameterName"]
	t.want(!shown, "ParameterName is shown")
	t.want(o.GetResultParams()["Enable"] == "true", "Enable is missing: %v", o.GetResultParams())
}

func addDeniedParent(t *T, partial bool) {
	main, second := t.controllerRow(t.main), t.controllerRow(t.second)
	role := t.secondRole()
	t.permission(role, main+"BootParameter.", rights{"rw--", "rw--", "rw--", "r---"}, "11")
	t.permission(role, second+"BootParameter.", rights{"rw--", "r---", "rw--", "r---"}, "12")
	path := ctls + "*.BootParameter."
	m := t.addMsg(t.second, partial, bootParameter(path, local+"UpTime", "true"))
	rows := func() int { return len(t.rows(ctls + `*.BootParameter.[ParameterName=="` + local + `UpTime"].`)) }
	if !partial {
		e := t.denied(m)
		t.want(len(e.GetParamErrs()) == 1, "%d param_errs", len(e.GetParamErrs()))
		p := e.GetParamErrs()[0]
		t.want(p.GetErrCode() == 7006 && p.GetParamPath() == second+"BootParameter.", "param_errs: %d %s", p.GetErrCode(), p.GetParamPath())
		t.want(rows() == 0, "rows were made")
		return
	}
	res := t.response(m).GetAddResp().GetCreatedObjResults()
	t.want(len(res) == 2, "%d results", len(res))
	good, bad := 0, 0
	for _, r := range res {
		t.want(r.GetRequestedPath() == path, "requested_path %q", r.GetRequestedPath())
		if s := r.GetOperStatus().GetOperSuccess(); s != nil {
			good++
			t.want(strings.HasPrefix(s.GetInstantiatedPath(), main), "a row was made below the wrong Controller: %s", s.GetInstantiatedPath())
		} else {
			bad++
			t.fits(r.GetOperStatus().GetOperFailure().GetErrCode(), []uint32{7006})
		}
	}
	t.want(good == 1 && bad == 1 && rows() == 1, "%d rows made, %d refused, %d seen", good, bad, rows())
}

func securedParameter(t *T) {
	role := t.secondRole()
	old := t.value(trustTable + "SecuredRoles")
	t.later(func() { t.write(trustTable, req("SecuredRoles", old)) })
	t.write(trustTable, req("SecuredRoles", ""))
	user := t.made(obj("Device.Users.User.", req("Username", "conform227"), req("Password", "secret-227")))[0]
	got := t.valueAs(t.second, user+"Password")
	t.want(got == "", "the secured value is shown to a Role that is not in SecuredRoles: %q", got)
	t.write(trustTable, req("SecuredRoles", strings.TrimSuffix(role, ".")))
	got = t.valueAs(t.second, user+"Password")
	t.want(got == "secret-227", "a secured Role reads %q", got)
}
