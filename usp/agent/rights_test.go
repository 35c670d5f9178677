package agent

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"twinspan/datamodel"
	"twinspan/usp"
	"twinspan/usp/mtp"
	"twinspan/usp/mtp/memory"
	"twinspan/usp/uspmsg"
)

const roleTable = "Device.LocalAgent.ControllerTrust.Role."

// limited gives Controller 2 a role of its own that may read everything, and Controller 1 the right to change it.
func limited(p *datamodel.Profile, _ *Options) {
	for k, v := range map[string]string{"Enable": "true", "Name": "limited", "Alias": "limited", "Permission.1.Enable": "true", "Permission.1.Order": "1",
		"Permission.1.Targets": "Device.", "Permission.1.Param": "r---", "Permission.1.Obj": "r---",
		"Permission.1.InstantiatedObj": "r---", "Permission.1.CommandEvent": "r---"} {
		p.Factory[roleTable+"2."+k] = v
	}
	p.Factory["Device.LocalAgent.Controller.2.AssignedRole"] = "Device.LocalAgent.ControllerTrust.Role.2"
}

// permit adds a Permission without an Order, as the certification tests do: it must win at once.
func permit(c *ctl, targets string, kv ...string) string {
	args := append([]string{"!Enable", "true", "!Targets", targets}, kv...)
	return c.mustAdd(create(roleTable+"2.Permission.", args...))[0]
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	r := newRig(t, limited)
	admin, c := r.c1, r.c2
	subs := "Device.LocalAgent.Subscription."
	if e := errOf(t, c.Add(false, goodSub("p0"))); e.ErrCode != usp.CodePermissionDenied { // TP-469 2.12
		t.Errorf("2.12: %v", e)
	}
	permit(admin, subs, "Param", "rw--", "Obj", "rw--", "InstantiatedObj", "r---", "CommandEvent", "r-x-")
	row := c.mustAdd(goodSub("p1"))[0]                                                           // TP-469 2.11
	if e := errOf(t, c.Delete(false, row[:len(row)-1])); e.ErrCode != usp.CodePermissionDenied { // TP-469 2.14
		t.Errorf("2.14: %v", e)
	}
	if m := c.Set(false, set(row, "!Enable", "false")); m.GetBody().GetResponse() == nil { // TP-469 2.15
		t.Errorf("2.15: %v", m)
	}
	permit(admin, subs, "Param", "r---", "Obj", "r---", "InstantiatedObj", "rw--", "CommandEvent", "r---")
	if e := errOf(t, c.Set(false, set(row, "!Enable", "true"))); e.ErrCode != usp.CodePermissionDenied { // TP-469 2.16
		t.Errorf("2.16: %v", e)
	}
	if m := c.Delete(false, row); m.GetBody().GetResponse() == nil { // TP-469 2.13
		t.Errorf("2.13: %v", m)
	}
	// TP-469 2.18: send_resp is not set.
	_, w := c.operate("Device.ScheduleTimer()", "k", false, "DelaySeconds", "1")
	select {
	case m := <-w:
		if f := m.GetBody().GetResponse().GetOperateResp().GetOperationResults()[0].GetCmdFailure(); f.GetErrCode() != usp.CodePermissionDenied {
			t.Errorf("2.18: %v", m)
		}
	case <-time.After(soon):
		t.Error("2.18: no answer")
	}
	// TP-469 2.25, 2.26
	permit(admin, subs, "Param", "rw--", "Obj", "rw--", "InstantiatedObj", "rw--", "CommandEvent", "r---")
	permit(admin, subs+"*.Enable", "Param", "r---", "Obj", "r---", "InstantiatedObj", "r---", "CommandEvent", "r---")
	row = c.mustAdd(sub("ID", "p25", "NotifType", "ValueChange", "ReferenceList", "Device.LocalAgent.SoftwareVersion"))[0]
	if v, _ := c.get1(row + "Enable"); v != "false" {
		t.Errorf("2.25: %s", v)
	}
	res := c.Add(true, sub("ID", "p26", "!Enable", "true")).GetBody().GetResponse().GetAddResp().GetCreatedObjResults()
	if f := res[0].GetOperStatus().GetOperFailure(); f.GetErrCode() != usp.CodePermissionDenied {
		t.Errorf("2.26: %v", res)
	}
}

func TestHiding(t *testing.T) {
	r := newRig(t, limited)
	admin, c := r.c1, r.c2
	boot := "Device.LocalAgent.Controller.2.BootParameter."
	row := admin.mustAdd(create(boot, "ParameterName", "Device.LocalAgent.UpTime", "Enable", "true"))[0]
	if v, ok := c.get1(row + "ParameterName"); !ok || v != "Device.LocalAgent.UpTime" {
		t.Fatalf("%q %v", v, ok)
	}
	permit(admin, "Device.LocalAgent.Controller.*.BootParameter.*.ParameterName", "Param", "----") // TP-469 2.22
	res := c.Get(0, row)[0]
	if res.ErrCode != 0 || len(res.ResolvedPathResults) != 1 {
		t.Fatalf("2.22: %v", res)
	}
	if _, there := res.ResolvedPathResults[0].ResultParams["ParameterName"]; there || len(res.ResolvedPathResults[0].ResultParams) == 0 {
		t.Errorf("2.22: %v", res)
	}
	if res := c.Get(0, row+"ParameterName")[0]; res.ErrCode != usp.CodeInvalidPath { // R-GET.1
		t.Errorf("R-GET.1: %v", res)
	}
	// A search by what may not be read matches nothing, or is not there.
	if res := c.Get(0, `Device.LocalAgent.Controller.2.BootParameter.[ParameterName=="Device.LocalAgent.UpTime"].`)[0]; len(res.ResolvedPathResults) != 0 {
		t.Errorf("search: %v", res)
	}
	for _, k := range c.instances(true, boot)[0].CurrInsts { // R-GIN.1
		if _, there := k.UniqueKeys["ParameterName"]; there {
			t.Errorf("R-GIN.1: %v", k)
		}
	}
	permit(admin, boot, "Param", "----", "Obj", "----", "InstantiatedObj", "----") // TP-469 2.21
	for _, o := range c.Get(0, "Device.LocalAgent.Controller.2.")[0].ResolvedPathResults {
		if o.ResolvedPath == row {
			t.Errorf("2.21: %v", o)
		}
	}
	if n := len(c.instances(false, "Device.LocalAgent.Controller.")[0].CurrInsts); n != 4 { // R-GIN.0
		t.Errorf("R-GIN.0: %d", n)
	}
	permit(admin, "Device.MQTT.", "Param", "----", "Obj", "----", "InstantiatedObj", "----", "CommandEvent", "----")
	if res := c.Get(0, "Device.MQTT.")[0]; res.ErrCode != usp.CodeInvalidPath {
		t.Errorf("R-GET.1: %v", res)
	}
	for _, o := range c.supported(everything("Device."))[0].SupportedObjs { // R-GSP.0
		if o.SupportedObjPath == "Device.MQTT.Client.{i}." {
			t.Errorf("R-GSP.0: %v", o.SupportedObjPath)
		}
	}
	if res := c.supported(everything("Device.MQTT."))[0]; res.ErrCode != usp.CodeInvalidPath {
		t.Errorf("R-GSP.0: %v", res.ErrCode)
	}
}

func TestWildcardAddDenied(t *testing.T) {
	r := newRig(t, limited)
	admin, c := r.c1, r.c2
	permit(admin, "Device.LocalAgent.Controller.1.BootParameter", "Param", "rw--", "Obj", "rw--", "InstantiatedObj", "rw--")
	permit(admin, "Device.LocalAgent.Controller.2.BootParameter", "Param", "rw--", "Obj", "r---", "InstantiatedObj", "rw--")
	obj := create("Device.LocalAgent.Controller.*.BootParameter", "!Enable", "true", "!ParameterName", "Device.LocalAgent.UpTime")
	res := c.Add(true, obj).GetBody().GetResponse().GetAddResp().GetCreatedObjResults()
	if len(res) != 2 || res[0].GetOperStatus().GetOperSuccess() == nil || res[1].GetOperStatus().GetOperFailure().GetErrCode() != usp.CodePermissionDenied {
		t.Errorf("2.23: %v", res)
	}
	obj = create("Device.LocalAgent.Controller.*.BootParameter", "!Enable", "true", "!ParameterName", "Device.LocalAgent.EndpointID")
	e := errOf(t, c.Add(false, obj))
	if e.ErrCode != usp.CodePermissionDenied || len(e.ParamErrs) != 1 || e.ParamErrs[0].ErrCode != usp.CodePermissionDenied ||
		e.ParamErrs[0].ParamPath != "Device.LocalAgent.Controller.2.BootParameter." {
		t.Errorf("2.24: %v", e)
	}
}

func TestNotifyRight(t *testing.T) {
	t.Parallel()
	r := newRig(t, limited)
	admin, c := r.c1, r.c2
	permit(admin, "Device.LocalAgent.Subscription.", "Param", "rw--", "Obj", "rw--", "InstantiatedObj", "rw--")
	row := permit(admin, "Device.LocalAgent.Controller.", "Param", "rw--", "Obj", "r---")
	c.subscribe("v", "ValueChange", "Device.LocalAgent.Controller.2.PeriodicNotifInterval")
	c.Set(false, set("Device.LocalAgent.Controller.2.", "PeriodicNotifInterval", "3600"))
	r.settle()
	c.quiet(while) // TP-469 2.20
	admin.Set(false, set(row, "Param", "rw-n"))
	c.Set(false, set("Device.LocalAgent.Controller.2.", "PeriodicNotifInterval", "7200"))
	if n := c.note(soon); n.GetValueChange().GetParamValue() != "7200" { // TP-469 2.19
		t.Errorf("%v", n.Notify)
	}
}

func TestSecuredRoles(t *testing.T) {
	r := newRig(t)
	c := r.c1
	c.subscribe("pw", "ValueChange", "Device.MQTT.Client.1.Password")
	if v, ok := c.get1("Device.MQTT.Client.1.Password"); !ok || v != "" {
		t.Errorf("2.27: %q", v)
	}
	c.Set(false, set("Device.MQTT.Client.1.", "Password", "other"))
	if n := c.note(soon); n.GetValueChange().GetParamValue() != "" {
		t.Errorf("2.27: told %q", n.GetValueChange().GetParamValue())
	}
	c.Set(false, set("Device.LocalAgent.ControllerTrust.", "!SecuredRoles", "Device.LocalAgent.ControllerTrust.Role.1"))
	if v, _ := c.get1("Device.MQTT.Client.1.Password"); v != "other" {
		t.Errorf("2.27: %q", v)
	}
	c.Set(false, set("Device.MQTT.Client.1.", "Password", "third"))
	if n := c.note(soon); n.GetValueChange().GetParamValue() != "third" {
		t.Errorf("2.27: told %q", n.GetValueChange().GetParamValue())
	}
}

// rawPeer sends records over a link with an identity of its own.
type rawPeer struct {
	t       *testing.T
	got     chan []byte
	send    func(rec []byte)
	refused bool // the last record was not believed
}

func newRawPeer(t *testing.T, a *Agent, local bool, id mtp.Identity, link uint64) *rawPeer {
	p := &rawPeer{t: t, got: make(chan []byte, 64)}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	h := a.Handler(local)
	p.send = func(rec []byte) {
		before := a.Stats().Refused
		defer func() { p.refused = a.Stats().Refused != before }()
		h.HandleRecord(ctx, mtp.Inbound{Record: rec, From: id, Transport: "Test", LinkID: link, Reject: func(string) { p.got <- []byte("rejected") },
			Reply: func(_ context.Context, r []byte) error { p.got <- r; return nil }})
	}
	return p
}

func (p *rawPeer) answered(from, to string) bool {
	p.t.Helper()
	rec, err := usp.WrapMessage(from, to, usp.NewRequest("x", &uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: []string{"Device.LocalAgent.EndpointID"}}}}))
	if err != nil {
		p.t.Fatal(err)
	}
	p.send(rec)
	return p.heard(from)
}

// heard waits a little for an answer.
func (p *rawPeer) heard(from string) bool {
	p.t.Helper()
	wait := soon
	if p.refused { // no need to wait long for nothing
		wait = 20 * time.Millisecond
	}
	late := time.After(wait)
	for {
		select {
		case b := <-p.got:
			if r, err := usp.OpenRecord(b, from, usp.DefaultLimits()); err != nil {
				if string(b) != "rejected" {
					continue // for another
				}
			} else {
				if m, err := usp.DecodeMessage(r.Payload, usp.DefaultLimits()); err == nil && m.GetBody().GetRequest() != nil {
					continue // an OnBoardRequest, say
				}
			}
			return true
		case <-late:
			return false
		}
	}
}

func TestAdmission(t *testing.T) {
	tls := func(ids ...string) mtp.Identity { return mtp.Identity{Encrypted: true, EndpointIDs: ids} }
	broker := mtp.Identity{Encrypted: true, Broker: true}
	cases := []struct {
		name   string
		trust  TrustPolicy
		id     mtp.Identity
		from   string
		to     string
		answer bool
	}{
		{"certificate names the sender", TrustPolicy{}, tls(c1ID), c1ID, agentID, true},
		{"certificate names another", TrustPolicy{}, tls(c2ID), c1ID, agentID, false},
		{"certificate names nobody", TrustPolicy{}, tls(), c1ID, agentID, false},
		{"plaintext", TrustPolicy{}, mtp.Identity{Claimed: c1ID}, c1ID, agentID, false},
		{"plaintext allowed", TrustPolicy{AllowPlaintext: true}, mtp.Identity{}, c1ID, agentID, true},
		{"plaintext, another name claimed", TrustPolicy{AllowPlaintext: true}, mtp.Identity{Claimed: c2ID}, c1ID, agentID, false},
		{"plaintext broker", TrustPolicy{AllowBroker: true}, mtp.Identity{Broker: true}, c1ID, agentID, false},
		{"broker not trusted", TrustPolicy{}, broker, c1ID, agentID, false},
		{"broker trusted", TrustPolicy{AllowBroker: true}, broker, c1ID, agentID, true},
		{"stranger", TrustPolicy{AllowBroker: true}, broker, "self::nobody", agentID, false},
		{"proven stranger, no untrusted role", TrustPolicy{}, tls("self::nobody"), "self::nobody", agentID, false},
		{"from ourselves", TrustPolicy{AllowPlaintext: true}, tls(agentID), agentID, agentID, false}, // TP-469 2.1
		{"to another", TrustPolicy{}, tls(c1ID), c1ID, "os::012345-2", false},                        // TP-469 2.2
		{"socket", TrustPolicy{}, mtp.Identity{Local: true, Claimed: c1ID}, c1ID, agentID, true},
		{"socket, another name", TrustPolicy{}, mtp.Identity{Local: true, Claimed: c2ID}, c1ID, agentID, false},
	}
	for i, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			r := newRig(t, func(_ *datamodel.Profile, o *Options) { o.Trust = k.trust })
			if got := newRawPeer(t, r.agent, false, k.id, uint64(1000+i)).answered(k.from, k.to); got != k.answer {
				t.Errorf("answered: %v, want %v", got, k.answer)
			}
		})
	}
}

func TestDisabledAndBanned(t *testing.T) {
	r := newRig(t)
	p := newRawPeer(t, r.agent, false, mtp.Identity{Encrypted: true, EndpointIDs: []string{c2ID}}, 77)
	if !p.answered(c2ID, agentID) {
		t.Fatal("not answered")
	}
	r.c1.Set(false, set("Device.LocalAgent.Controller.2.", "Enable", "false"))
	if p.answered(c2ID, agentID) {
		t.Error("a disabled Controller is answered")
	}
	r.c1.Set(false, set("Device.LocalAgent.Controller.2.", "Enable", "true"))
	if !p.answered(c2ID, agentID) {
		t.Error("not answered after Enable")
	}
	row := r.c1.mustAdd(create(roleTable, "Name", "banned", "Enable", "true"))[0]
	r.c1.Set(false, set("Device.LocalAgent.ControllerTrust.", "!BannedRole", row), set("Device.LocalAgent.Controller.2.", "!AssignedRole", row))
	if p.answered(c2ID, agentID) {
		t.Error("a banned Controller is answered")
	}
}

func TestUntrusted(t *testing.T) {
	r := newRig(t, limited, func(p *datamodel.Profile, o *Options) {
		p.Factory["Device.LocalAgent.ControllerTrust.UntrustedRole"] = roleTable + "2"
		p.Factory["Device.LocalAgent.Controller.2.AssignedRole"] = roleTable + "1"
		o.Limits.Untrusted = 2
	})
	for i, want := range []bool{true, true, false} { // bounded
		eid := "self::stranger" + string(rune('a'+i))
		p := newRawPeer(t, r.agent, false, mtp.Identity{Encrypted: true, EndpointIDs: []string{eid}}, uint64(50+i))
		if got := p.answered(eid, agentID); got != want {
			t.Errorf("%s: %v", eid, got)
		}
	}
	if v, _ := r.c1.get1(`Device.LocalAgent.Controller.[EndpointID=="self::strangera"].AssignedRole`); v != roleTable+"2" { // TP-469 2.9
		t.Errorf("2.9: %q", v)
	}
}

func TestLocalPeer(t *testing.T) {
	r := newRig(t, func(_ *datamodel.Profile, o *Options) { o.Local = &LocalListener{Path: "/run/test.sock"} })
	// The rig's factory has no local listener: the transport is run here.
	ctx, hangup := context.WithCancel(context.Background())
	a, b := memory.New(memory.Default())
	cli := &ctl{t: t, eid: "self::cli", end: b, waits: map[string]chan *uspmsg.Msg{}, notes: make(chan noted, 16), up: make(chan struct{}, 1), ack: true}
	cli.done.Add(2)
	go func() { defer cli.done.Done(); _ = b.Run(ctx, cli, func(s mtp.State) { cli.up <- struct{}{} }) }()
	go func() {
		defer cli.done.Done()
		_ = a.Run(ctx, r.agent.Handler(true), func(mtp.State) {})
	}()
	cli.waitUp()
	row := cli.subscribe("watch", "ValueChange", "Device.LocalAgent.Controller.1.")
	r.settle()
	r.c1.Set(false, set("Device.LocalAgent.Controller.1.", "ProvisioningCode", "seen"))
	if n := cli.note(soon); n.GetValueChange().GetParamValue() != "seen" {
		t.Errorf("%v", n.Notify)
	}
	r.c1.quiet(while)
	p := newRawPeer(t, r.agent, true, mtp.Identity{Local: true}, 9999)
	if p.answered(c1ID, agentID) {
		t.Error("another name is answered over the local listener")
	}
	hangup()
	cli.done.Wait()
	deadline := time.Now().Add(soon)
	for r.store.Head().HasInstance(subPath, instance(row, subPath)) {
		if time.Now().After(deadline) {
			t.Fatal("the subscription outlives its connection")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A listener that cannot be had is told in the log: nothing else is heard of the socket of the command line.
func TestListenerFailureIsLogged(t *testing.T) {
	var out bytes.Buffer
	a := &Agent{slow: newSlowLog(slog.New(slog.NewTextHandler(&out, nil)))}
	r := &runner{a: a, key: localKey, spec: Spec{Kind: "UDSListen"}}
	r.state(mtp.State{Reason: "uds: listen: no such folder"})
	if !strings.Contains(out.String(), "level=WARN") || !strings.Contains(out.String(), "no such folder") {
		t.Errorf("logged %q", out.String())
	}
}

// Who may write Subscriptions does not get, by TriggerConfigSettings, the rights of another Controller that receives one.
func TestTriggerWithAnothersRights(t *testing.T) {
	t.Parallel()
	r := newRig(t, limited)
	admin, c := r.c1, r.c2
	subs := "Device.LocalAgent.Subscription."
	permit(admin, subs, "Param", "rw--", "Obj", "rw--", "InstantiatedObj", "rw--", "CommandEvent", "r---")
	code, done := "Device.LocalAgent.Controller.1.ProvisioningCode", "Device.LocalAgent.Controller.2.ProvisioningCode"
	first := admin.subscribe("first", "ValueChange", code, "TriggerAction", "NotifyAndConfig")
	second := admin.subscribe("second", "ValueChange", code, "TriggerAction", "NotifyAndConfig")
	theft := roleTable + "2.Permission.1.Param=rw-n"
	if m := c.Set(false, set(first, "!TriggerConfigSettings", theft)); m.GetBody().GetError() != nil {
		t.Fatalf("%v", m) // it may be written, it is of no use
	}
	admin.Set(false, set(second, "!TriggerConfigSettings", done+"=fired"))
	r.settle()
	admin.Set(false, set("Device.LocalAgent.Controller.1.", "!ProvisioningCode", "fire"))
	deadline := time.Now().Add(soon)
	for v := ""; v != "fired" && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		v, _ = admin.get1(done)
	}
	if v, _ := admin.get1(done); v != "fired" {
		t.Error("the recipient's own settings were not applied")
	}
	for until := time.Now().Add(200 * time.Millisecond); time.Now().Before(until); time.Sleep(5 * time.Millisecond) { // both began together
		if v, _ := admin.get1(roleTable + "2.Permission.1.Param"); v == "rw-n" {
			t.Fatal("a Controller has given itself rights")
		}
	}
}

// A search tells what it compares: in the agent's own tree a row whose value is hidden is not found by it.
func TestSearchComparesWhatIsHidden(t *testing.T) {
	t.Parallel()
	r := newRig(t, limited)
	admin, c := r.c1, r.c2
	admin.Set(false, set("Device.LocalAgent.Controller.1.", "!ProvisioningCode", "code"))
	search := `Device.LocalAgent.Controller.[ProvisioningCode=="code"].EndpointID`
	if v, _ := c.get1(search); v != c1ID {
		t.Fatalf("before: %q", v)
	}
	permit(admin, "Device.LocalAgent.Controller.1.ProvisioningCode", "Param", "----", "Obj", "----", "InstantiatedObj", "----", "CommandEvent", "----")
	if v, _ := c.get1(search); v != "" {
		t.Errorf("found %q", v)
	}
}
