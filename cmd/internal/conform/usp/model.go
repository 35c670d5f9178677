package usp

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"twinspan/usp/uspmsg"
)

type (
	supported = uspmsg.GetSupportedDMResp_SupportedObjectResult
	dmResult  = uspmsg.GetSupportedDMResp_RequestedObjectResult
)

// what a GetSupportedDM asks for.
type what struct{ first, commands, events, params, keys bool }

var everything = what{commands: true, events: true, params: true, keys: true}

func (w what) firstLevel() what { w.first = true; return w }

func (t *T) supported(w what, paths ...string) []*dmResult {
	m := t.ask(t.main, &uspmsg.Request{ReqType: &uspmsg.Request_GetSupportedDm{GetSupportedDm: &uspmsg.GetSupportedDM{ObjPaths: paths,
		FirstLevelOnly: w.first, ReturnCommands: w.commands, ReturnEvents: w.events, ReturnParams: w.params, ReturnUniqueKeySets: w.keys}}})
	resp := t.response(m).GetGetSupportedDmResp()
	t.want(resp != nil, "the answer is no GetSupportedDMResp")
	t.want(len(resp.GetReqObjResults()) == len(paths), "%d results for %d paths", len(resp.GetReqObjResults()), len(paths))
	for i, r := range resp.GetReqObjResults() {
		t.want(r.GetReqObjPath() == paths[i], "req_obj_path %q instead of %q", r.GetReqObjPath(), paths[i])
		seen := map[string]bool{}
		for _, o := range r.GetSupportedObjs() {
			t.want(!seen[o.GetSupportedObjPath()], "%s came twice", o.GetSupportedObjPath())
			seen[o.GetSupportedObjPath()] = true
			t.entry(o)
		}
	}
	return resp.GetReqObjResults()
}

var (
	supportedPath = regexp.MustCompile(`^Device\.((\{i\}|[A-Za-z_][A-Za-z0-9_-]*)\.)*$`)
	relativeName  = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_-]*\.(\{i\}\.)?)*[A-Za-z_][A-Za-z0-9_-]*$`)
)

// entry checks the metadata of one object.
func (t *T) entry(o *supported) {
	path := o.GetSupportedObjPath()
	t.want(supportedPath.MatchString(path), "supported_obj_path %q", path)
	t.want(o.GetIsMultiInstance() == strings.HasSuffix(path, ".{i}."), "is_multi_instance of %s is %v", path, o.GetIsMultiInstance())
	for _, p := range o.GetSupportedParams() {
		t.want(relativeName.MatchString(p.GetParamName()) && !strings.Contains(p.GetParamName(), "."), "%s: param_name %q", path, p.GetParamName())
		t.want(p.GetValueType() != 0 && p.GetValueChange() != 0, "%s%s: value_type %v, value_change %v", path, p.GetParamName(), p.GetValueType(), p.GetValueChange())
	}
	for _, c := range o.GetSupportedCommands() {
		name, ok := strings.CutSuffix(c.GetCommandName(), "()")
		t.want(ok && relativeName.MatchString(name), "%s: command_name %q", path, c.GetCommandName())
		t.want(c.GetCommandType() != 0, "%s%s has no command_type", path, c.GetCommandName())
		for _, a := range append(slices.Clone(c.GetInputArgNames()), c.GetOutputArgNames()...) {
			t.want(relativeName.MatchString(a), "%s%s: argument %q", path, c.GetCommandName(), a)
		}
	}
	for _, e := range o.GetSupportedEvents() {
		name, ok := strings.CutSuffix(e.GetEventName(), "!")
		t.want(ok && relativeName.MatchString(name), "%s: event_name %q", path, e.GetEventName())
		for _, a := range e.GetArgNames() {
			t.want(relativeName.MatchString(a), "%s%s: argument %q", path, e.GetEventName(), a)
		}
	}
	for _, k := range o.GetUniqueKeySets() {
		t.want(len(k.GetKeyNames()) > 0, "%s has an empty key set", path)
		for _, n := range k.GetKeyNames() {
			t.want(relativeName.MatchString(n), "%s: key %q", path, n)
		}
	}
}

// entries of the one result without error, by path.
func (t *T) entries(r *dmResult) map[string]*supported {
	t.want(r.GetErrCode() == 0, "%s: err_code %d %s", r.GetReqObjPath(), r.GetErrCode(), r.GetErrMsg())
	out := map[string]*supported{}
	for _, o := range r.GetSupportedObjs() {
		out[o.GetSupportedObjPath()] = o
	}
	return out
}

func bare(o *supported) bool {
	return len(o.GetSupportedParams())+len(o.GetSupportedCommands())+len(o.GetSupportedEvents())+len(o.GetUniqueKeySets()) == 0
}

// children of an object are exactly one level below it.
func (t *T) firstLevel(objs map[string]*supported, parent string) {
	n := 0
	for path := range objs {
		if path == parent {
			continue
		}
		rest, ok := strings.CutPrefix(path, parent)
		t.want(ok && (strings.Count(rest, ".") == 1 || strings.Count(rest, ".") == 2 && strings.HasSuffix(rest, ".{i}.")), "%s is not directly below %s", path, parent)
		n++
	}
	t.want(objs[parent] != nil && n > 0, "%s with %d children", parent, n)
}

func (t *T) hasKeySets(o *supported, sets ...string) {
	var got []string
	for _, k := range o.GetUniqueKeySets() {
		names := slices.Clone(k.GetKeyNames())
		slices.Sort(names)
		got = append(got, strings.Join(names, "+"))
	}
	slices.Sort(got)
	slices.Sort(sets)
	t.want(slices.Equal(got, sets), "key sets of %s are %v instead of %v", o.GetSupportedObjPath(), got, sets)
}

func modelTests() map[string]test {
	row := subs + "{i}."
	return map[string]test{
		"1.72": {run: func(t *T) {
			objs := t.entries(t.supported(everything, local)[0])
			for _, path := range []string{local, row, ctls + "{i}.", ctls + "{i}.MTP.{i}."} {
				t.want(objs[path] != nil && len(objs[path].GetSupportedParams()) > 0, "%s or its parameters are missing", path)
			}
			t.hasKeySets(objs[row], "Alias", "ID+Recipient")
		}},
		"1.73": {run: func(t *T) {
			objs := t.entries(t.supported(everything.firstLevel(), local)[0])
			t.firstLevel(objs, local)
			t.want(len(objs[local].GetSupportedParams()) > 0 && len(objs[local].GetUniqueKeySets()) == 0, "%s: no parameters, or key sets", local)
			for path, o := range objs {
				t.want(path == local || len(o.GetSupportedParams())+len(o.GetSupportedCommands())+len(o.GetSupportedEvents()) == 0, "child %s has contents", path)
			}
		}},
		"1.74": {run: func(t *T) {
			objs := t.entries(t.supported(what{first: true}, local)[0])
			t.firstLevel(objs, local)
			for path, o := range objs {
				t.want(bare(o), "%s has contents", path)
			}
		}},
		"1.75": {run: func(t *T) {
			for _, r := range t.supported(everything.firstLevel(), ctls+"{i}.", local+"MTP.{i}.") {
				objs := t.entries(r)
				t.firstLevel(objs, r.GetReqObjPath())
				t.want(len(objs[r.GetReqObjPath()].GetSupportedParams()) > 0, "%s has no parameters", r.GetReqObjPath())
				for path, o := range objs { // key sets of children: the plan contradicts itself, both are right
					t.want(path == r.GetReqObjPath() || len(o.GetSupportedParams())+len(o.GetSupportedCommands())+len(o.GetSupportedEvents()) == 0, "child %s has contents", path)
				}
			}
		}},
		"1.76": {run: func(t *T) {
			objs := t.entries(t.supported(everything, "Device.")[0])
			t.see("%d objects", len(objs))
			for _, path := range []string{"Device.", "Device.DeviceInfo.", row} {
				t.want(objs[path] != nil, "%s is missing", path)
			}
			for path := range objs {
				t.want(!strings.HasPrefix(path, "Device.USPAgent.") && !strings.HasPrefix(path, "Device.ManagementServer."), "%s belongs to CWMP", path)
			}
		}},
		"1.77": {run: func(t *T) {
			r := t.supported(everything, local+"UnsupportedObject.")[0]
			t.fits(r.GetErrCode(), []uint32{7026, 7016})
		}},
		"1.80": {run: func(t *T) {
			m := t.ask(t.main, &uspmsg.Request{ReqType: &uspmsg.Request_GetSupportedProtocol{GetSupportedProtocol: &uspmsg.GetSupportedProtocol{ControllerSupportedProtocolVersions: "1.3,1.4"}}})
			v := t.response(m).GetGetSupportedProtocolResp().GetAgentSupportedProtocolVersions()
			t.want(regexp.MustCompile(`^[0-9]+\.[0-9]+( ?, ?[0-9]+\.[0-9]+)*$`).MatchString(v), "versions %q", v)
			t.see("versions %s", v)
		}},
		"1.97": {run: func(t *T) {
			n, args := 0, false
			for _, o := range t.entries(t.supported(what{commands: true}, "Device.")[0]) {
				t.want(len(o.GetSupportedParams())+len(o.GetSupportedEvents())+len(o.GetUniqueKeySets()) == 0, "%s has more than commands", o.GetSupportedObjPath())
				for _, c := range o.GetSupportedCommands() {
					n++
					args = args || len(c.GetInputArgNames()) > 0
				}
			}
			t.see("%d commands", n)
			t.want(args, "no command among %d has input arguments", n)
		}},
		"1.98": {run: func(t *T) {
			n, args := 0, false
			for _, o := range t.entries(t.supported(what{events: true}, "Device.")[0]) {
				t.want(len(o.GetSupportedParams())+len(o.GetSupportedCommands())+len(o.GetUniqueKeySets()) == 0, "%s has more than events", o.GetSupportedObjPath())
				for _, e := range o.GetSupportedEvents() {
					n++
					args = args || len(e.GetArgNames()) > 0
				}
			}
			t.see("%d events", n)
			t.want(args, "no event among %d has arguments", n)
		}},
		"1.99": {run: func(t *T) {
			objs := t.entries(t.supported(what{keys: true}, strings.TrimSuffix(subs, "."))[0]) // no final dot
			t.want(len(objs) == 1 && objs[row] != nil, "%d objects", len(objs))
			t.hasKeySets(objs[row], "Alias", "ID+Recipient")
			t.want(len(objs[row].GetSupportedParams())+len(objs[row].GetSupportedCommands())+len(objs[row].GetSupportedEvents()) == 0, "more than key sets")
		}},
		"1.105": {run: leafTest("Device.", "Reboot()")},
		"1.106": {run: leafTest("Device.", "Boot!")},
		"1.107": {run: leafTest(local, "EndpointID")},
	}
}

// leafTest asks for one command, event or parameter and wants it alone.
func leafTest(object, name string) func(t *T) {
	return func(t *T) {
		o := t.entries(t.supported(everything, object+name)[0])
		t.want(len(o) == 1 && o[object] != nil, "%d objects", len(o))
		var got []string
		for _, c := range o[object].GetSupportedCommands() {
			got = append(got, c.GetCommandName())
		}
		for _, e := range o[object].GetSupportedEvents() {
			got = append(got, e.GetEventName())
		}
		for _, p := range o[object].GetSupportedParams() {
			got = append(got, p.GetParamName())
		}
		t.want(slices.Equal(got, []string{name}) && len(o[object].GetUniqueKeySets()) == 0, "%v and %d key sets", got, len(o[object].GetUniqueKeySets()))
	}
}

func operateTests() map[string]test {
	return map[string]test{
		"1.61": {run: func(t *T) {
			m, s := t.main.Mark(), t.second.Mark()
			r := t.operate(t.main, "Device.Reboot()", "test61", nil)
			t.want(r.GetReqOutputArgs() != nil && len(r.GetReqOutputArgs().GetOutputArgs()) == 0, "req_output_args: %v", r)
			t.back(m, s)
		}},
		"1.62": {run: func(t *T) {
			m, s := t.main.Mark(), t.second.Mark()
			t.tell(t.main, "Device.Reboot()", "test62", nil)
			t.back(m, s)
		}},
		"1.64":  {run: func(t *T) { asynchronous(t, "test64", true, 2*time.Second) }},
		"1.65":  {run: func(t *T) { asynchronous(t, "test65", false, 2*time.Second) }},
		"1.79":  {run: func(t *T) { asynchronous(t, "test79", true, 30*time.Second) }, slow: true},
		"9.11":  {run: func(t *T) { asynchronous(t, "test911", true, 60*time.Second) }, slow: true},
		"1.91":  {run: unknownArgument},
		"1.100": {run: missingArgument, slow: true},
	}
}

func (t *T) operateMsg(p *Peer, command, key string, args map[string]string) *uspmsg.Msg {
	return t.ask(p, &uspmsg.Request{ReqType: &uspmsg.Request_Operate{Operate: &uspmsg.Operate{Command: command, CommandKey: key, SendResp: true, InputArgs: args}}})
}

// operate runs a command that must have exactly one result without failure.
func (t *T) operate(p *Peer, command, key string, args map[string]string) *uspmsg.OperateResp_OperationResult {
	r := t.operation(p, command, key, args)
	t.want(r.GetCmdFailure() == nil, "%s: cmd_failure %d %s", command, r.GetCmdFailure().GetErrCode(), r.GetCmdFailure().GetErrMsg())
	return r
}

func (t *T) operation(p *Peer, command, key string, args map[string]string) *uspmsg.OperateResp_OperationResult {
	resp := t.response(t.operateMsg(p, command, key, args)).GetOperateResp()
	t.want(resp != nil && len(resp.GetOperationResults()) == 1, "OperateResp: %v", resp)
	r := resp.GetOperationResults()[0]
	t.want(r.GetExecutedCommand() == command, "executed_command %q instead of %q", r.GetExecutedCommand(), command)
	return r
}

// tell sends an Operate that wants no response.
func (t *T) tell(p *Peer, command, key string, args map[string]string) string {
	id, err := p.send(t.ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Operate{Operate: &uspmsg.Operate{Command: command, CommandKey: key, InputArgs: args}}})
	t.want(err == nil, "%s: %v", command, err)
	return id
}

// back waits until the agent has connected again after a reboot.
func (t *T) back(main, second int) {
	t.await(t.main, main, 40*time.Second, "connect record after the reboot", isConnect)
	t.await(t.second, second, 40*time.Second, "connect record after the reboot at the second Controller", isConnect)
	t.holds(local+"EndpointID", t.cfg.AgentID)
}

// timerDone subscribes to the completion of Device.ScheduleTimer().
func (t *T) timerDone(id string) {
	t.made(obj(subs, req("ID", id), req("Enable", "true"), req("NotifType", "OperationComplete"), req("ReferenceList", "Device.ScheduleTimer()")))
}

func asynchronous(t *T, key string, answer bool, delay time.Duration) {
	t.timerDone(key)
	from := t.main.Mark()
	began := time.Now()
	args := map[string]string{"DelaySeconds": seconds(delay)}
	id := ""
	if answer {
		r := t.operate(t.main, "Device.ScheduleTimer()", key, args)
		t.want(strings.HasPrefix(r.GetReqObjPath(), local+"Request.") && numeric.MatchString(r.GetReqObjPath()), "req_obj_path %q", r.GetReqObjPath())
		t.holds(r.GetReqObjPath()+"CommandKey", key)
	} else {
		id = t.tell(t.main, "Device.ScheduleTimer()", key, args)
	}
	a := t.await(t.main, from, delay+10*time.Second, "OperationComplete", notified(key))
	o := a.notify().GetOperComplete()
	t.want(o.GetObjPath() == "Device." && o.GetCommandName() == "ScheduleTimer()" && o.GetCommandKey() == key, "oper_complete: %v", o)
	t.want(o.GetCmdFailure() == nil, "oper_complete: %v", o)
	t.window("OperationComplete", a.At.Sub(began), delay-time.Second, delay+3*time.Second)
	if !answer {
		none := t.main.All(from, func(a *Arrival) bool {
			return a.Msg.GetHeader().GetMsgId() == id && a.Msg.GetBody().GetRequest() == nil
		})
		t.want(len(none) == 0, "an answer came though send_resp was false: %v", none)
	}
}

func unknownArgument(t *T) {
	r := t.operate(t.main, "Device.ScheduleTimer()", "test91", map[string]string{"DelaySeconds": "1", "InvalidInputArg": "5"})
	t.want(r.GetReqObjPath() != "", "no req_obj_path")
	t.sleep(1500 * time.Millisecond)
}

func missingArgument(t *T) {
	t.timerDone("test100")
	from := t.main.Mark()
	before := len(t.instances(true, local+"Request.")[0].GetCurrInsts())
	r := t.operation(t.main, "Device.ScheduleTimer()", "test100", nil)
	t.want(r.GetCmdFailure().GetErrCode() == 7027, "no cmd_failure 7027 but %v", r)
	t.want(len(t.instances(true, local+"Request.")[0].GetCurrInsts()) == before, "a Request row was left behind")
	t.silence(t.main, from, 120*time.Second, "OperationComplete", notified("test100"))
}
