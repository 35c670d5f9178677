package agent

import (
	"context"
	"maps"
	"testing"
	"time"

	"twinspan/datamodel"
	"twinspan/usp"
	"twinspan/usp/mtp"
	"twinspan/usp/uspmsg"
	"twinspan/usp/usprecord"
	"twinspan/usp/wire"
)

// imageBox takes firmware downloads.
type imageBox struct{ got chan datamodel.Invocation }

func (*imageBox) Name() string     { return "images" }
func (*imageBox) Serves() []string { return nil }
func (*imageBox) Read(context.Context, datamodel.ObjectRef, []string, func(string, string)) error {
	return nil
}
func (*imageBox) Commands() []string {
	return []string{"Device.DeviceInfo.FirmwareImage.{i}.Download()"}
}
func (b *imageBox) Run(_ context.Context, inv datamodel.Invocation) (map[string]string, error) {
	b.got <- inv
	return nil, nil
}

// Device managers ask for firmware by version, and with an argument that has no name.
func TestFieldFirmwareDownload(t *testing.T) {
	box := &imageBox{got: make(chan datamodel.Invocation, 2)}
	r := newRig(t, func(p *datamodel.Profile, _ *Options) {
		p.Factory["Device.DeviceInfo.FirmwareImage.1.Version"] = "0.9"
		p.Factory["Device.DeviceInfo.FirmwareImage.2.Version"] = "1.0"
	})
	r.stop()
	r.devices = []datamodel.Provider{box}
	r.start()
	r.c1.waitUp()
	r.c1.subscribe("done", "OperationComplete", "Device.DeviceInfo.FirmwareImage.*.Download()")
	m := r.c1.ask(&uspmsg.Request{ReqType: &uspmsg.Request_Operate{Operate: &uspmsg.Operate{
		Command: `Device.DeviceInfo.FirmwareImage.[Version=="1.0"].Download()`, CommandKey: "fw", SendResp: true,
		InputArgs: map[string]string{"AutoActivate": "true", "FileSize": "1024", "URL": "http://files.example/image", "Username": "user", "": ""}}}})
	res := m.GetBody().GetResponse().GetOperateResp().GetOperationResults()
	if len(res) != 1 || res[0].ExecutedCommand != "Device.DeviceInfo.FirmwareImage.2.Download()" || res[0].GetReqObjPath() == "" {
		t.Fatalf("%v", m)
	}
	inv := <-box.got
	want := map[string]string{"AutoActivate": "true", "FileSize": "1024", "URL": "http://files.example/image", "Username": "user"}
	if inv.Command != "Device.DeviceInfo.FirmwareImage.2.Download()" || !maps.Equal(inv.Args, want) {
		t.Errorf("%s %v", inv.Command, inv.Args)
	}
	if n := r.c1.note(soon).GetOperComplete(); n.GetCommandKey() != "fw" || n.GetCmdFailure() != nil {
		t.Errorf("%v", n)
	}
}

func TestMalformedAlias(t *testing.T) { // TP-469 1.88
	r := newRig(t)
	for _, partial := range []bool{false, true} {
		m := r.c1.Add(partial, create(subPath, "Alias", "1-bad", "!ID", "add88", "!NotifType", "ValueChange", "!ReferenceList", "Device.LocalAgent.SoftwareVersion"))
		e := m.GetBody().GetError()
		if failure := m.GetBody().GetResponse().GetAddResp(); partial && (failure == nil || failure.CreatedObjResults[0].OperStatus.GetOperFailure() == nil) ||
			!partial && (e == nil || len(e.ParamErrs) != 1 || e.ParamErrs[0].ErrCode != usp.CodeInvalidValue) {
			t.Errorf("partial %v: %v", partial, m)
		}
	}
	if n := len(r.store.Head().Instances(subPath)); n != 0 {
		t.Errorf("%d rows", n)
	}
}

// A management Controller and one that only collects, with the Endpoint IDs that are in use, each with its own Role.
func TestFieldControllersSideBySide(t *testing.T) {
	const manager, collector = "self:a1b2:manager-1", "ops::00005E-Collector%20A-7"
	r := newRig(t, limited, func(p *datamodel.Profile, _ *Options) {
		p.Factory["Device.LocalAgent.Controller.1.EndpointID"] = manager
		p.Factory["Device.LocalAgent.Controller.2.EndpointID"] = collector
		p.Factory["Device.LocalAgent.Controller.2.AssignedRole"] = roleTable + "2"
		for k, v := range map[string]string{"Permission.1.Order": "1", "Permission.1.Enable": "true", "Permission.1.Targets": "Device.", "Permission.1.Param": "r---",
			"Permission.1.Obj": "----", "Permission.1.InstantiatedObj": "----", "Permission.1.CommandEvent": "----"} {
			p.Factory[roleTable+"2."+k] = v
		}
	})
	r.c1.eid, r.c2.eid = manager, collector
	for _, c := range []*ctl{r.c1, r.c2} {
		if v, ok := c.get1("Device.LocalAgent.EndpointID"); !ok || v != agentID {
			t.Errorf("%s reads %q", c.eid, v)
		}
	}
	if m := r.c1.Set(false, set("Device.LocalAgent.Controller.2.", "!ProvisioningCode", "x")); m.GetBody().GetError() != nil {
		t.Errorf("the manager may not write: %v", m)
	}
	if m := r.c2.Set(false, set("Device.LocalAgent.Controller.2.", "!ProvisioningCode", "y")); m.GetBody().GetError().GetErrCode() != usp.CodePermissionDenied {
		t.Errorf("the collector may write: %v", m)
	}
}

// A Controller that sends a message at once, without Connect record, in another minor version, is answered.
func TestFieldNoConnectRecord(t *testing.T) {
	r := newRig(t)
	for i, version := range []string{"1.0", "1.3", "1.4", "1.9"} {
		p := newRawPeer(t, r.agent, false, mtp.Identity{Local: true}, uint64(400+i))
		rec := messageRecord(t, c1ID, &uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: []string{"Device.LocalAgent.EndpointID"}}}})
		rec.Version = version
		p.send(encode(t, rec))
		select {
		case <-p.got:
		case <-time.After(soon):
			t.Errorf("version %s: no answer", version)
		}
	}
}

// messageRecord is a plain record of one request.
func messageRecord(t testing.TB, from string, req *uspmsg.Request) *usprecord.Record {
	t.Helper()
	b, err := usp.WrapMessage(from, agentID, usp.NewRequest("field", req))
	if err != nil {
		t.Fatal(err)
	}
	rec, err := usp.OpenRecord(b, agentID, usp.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return rec.Raw
}

func encode(t testing.TB, rec *usprecord.Record) []byte {
	t.Helper()
	b, err := wire.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// brokerEnd is a link to a broker that names no response topics.
type brokerEnd struct {
	in  chan []byte
	out chan sent
}

type sent struct {
	dest string
	rec  []byte
}

func (b *brokerEnd) Run(ctx context.Context, h mtp.Handler, onState func(mtp.State)) error {
	onState(mtp.State{Up: true, LinkID: 900, ReplyTopic: "usp/agent"})
	for {
		select {
		case <-ctx.Done():
			return nil
		case rec := <-b.in:
			h.HandleRecord(ctx, mtp.Inbound{Record: rec, From: mtp.Identity{Encrypted: true, Broker: true}, Transport: "MQTT", LinkID: 900, Reject: func(string) {}})
		}
	}
}

func (b *brokerEnd) Send(_ context.Context, dest string, rec []byte) error {
	b.out <- sent{dest, rec}
	return nil
}

// A Controller behind a broker that names no response topic is answered on its configured one.
func TestFieldNoResponseTopic(t *testing.T) {
	r := newRig(t, func(p *datamodel.Profile, o *Options) {
		o.Trust.AllowBroker = true
		for k, v := range map[string]string{"Device.MQTT.Client.1.Enable": "true", "Device.MQTT.Client.1.BrokerAddress": "broker", "Device.MQTT.Client.1.TransportProtocol": "TLS",
			"Device.LocalAgent.MTP.1.Enable": "true", "Device.LocalAgent.MTP.1.Protocol": "MQTT", "Device.LocalAgent.MTP.1.MQTT.Reference": "Device.MQTT.Client.1",
			"Device.LocalAgent.Controller.2.MTP.2.Enable": "true", "Device.LocalAgent.Controller.2.MTP.2.Protocol": "MQTT",
			"Device.LocalAgent.Controller.2.MTP.2.MQTT.Topic":             "usp/controller/two",
			"Device.LocalAgent.Controller.2.MTP.2.MQTT.AgentMTPReference": "Device.LocalAgent.MTP.1"} {
			p.Factory[k] = v
		}
	})
	r.stop()
	b := &brokerEnd{in: make(chan []byte, 1), out: make(chan sent, 16)}
	r.factory.ends["broker"] = b
	r.start()
	r.c1.waitUp()
	r.c2.waitUp()
	for asked := false; ; {
		select {
		case s := <-b.out:
			rec, err := usp.OpenRecord(s.rec, c2ID, usp.DefaultLimits())
			if err != nil || s.dest != "usp/controller/two" {
				t.Fatalf("%v to %q", err, s.dest)
			}
			switch {
			case rec.Kind == usp.KindMessage && asked:
				return
			case rec.Kind == usp.KindMQTTConnect && !asked: // the link is known to be up: before that the agent has no way to answer
				asked = true
				b.in <- encode(t, messageRecord(t, c2ID, &uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: []string{"Device.LocalAgent.EndpointID"}}}}))
			}
		case <-time.After(soon):
			t.Fatal("no answer")
		}
	}
}
