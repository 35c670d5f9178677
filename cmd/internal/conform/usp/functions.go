package usp

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"twinspan/usp/mtp/mqtt"
	"twinspan/usp/mtp/websocket"
)

func functionTests() map[string]test {
	return map[string]test{
		"9.2":  {run: addCertificate, own: true},
		"9.9":  {run: newController},
		"9.10": {run: bootEvent},
	}
}

// newController adds a Controller and lets the agent onboard it.
func newController(t *T) {
	const id = "self::conform-new"
	link := []setting{req("Enable", "true")}
	var p *Peer
	if t.cfg.MTP == "mqtt" {
		r := t.b.setup.Controllers[0]
		r.Topic += "/new"
		var err error
		p, err = t.b.mqttPeer(r, id)
		t.want(err == nil, "%v", err)
		t.start(p)
		agentMTP := t.rows(local + `MTP.[Protocol=="MQTT"].Protocol`)
		t.want(len(agentMTP) > 0, "the agent has no MTP row for MQTT")
		link = append(link, req("Protocol", "MQTT"), req("MQTT.Topic", r.Topic), req("MQTT.AgentMTPReference", strings.TrimSuffix(agentMTP[0], ".")))
	} else {
		var more []setting
		p, more = t.listen(id, nil)
		link = append(link, more...)
	}
	role := t.value(t.controllerRow(t.main) + "AssignedRole")
	row := t.made(obj(ctls, req("Alias", "conform-new"), req("EndpointID", id), req("Enable", "true"), req("AssignedRole", role)))[0]
	t.made(obj(row+"MTP.", link...))
	t.operate(t.main, row+"SendOnBoardRequest()", "", nil)
	a := t.await(p, 0, 30*time.Second, "OnBoardRequest at the new Controller", isOnBoard)
	t.want(a.notify().GetSubscriptionId() == "", "subscription_id %q", a.notify().GetSubscriptionId())
	t.want(len(p.All(0, isConnect)) > 0, "no connect record at the new Controller")
}

// bootEvent wants the BootParameters in the ParameterMap of Boot!.
func bootEvent(t *T) {
	row := t.controllerRow(t.main)
	t.made(bootParameter(row+"BootParameter.", "Device.DeviceInfo.BootFirmwareImage", "true"))
	t.made(obj(subs, req("ID", "notify910"), req("Enable", "true"), req("Persistent", "true"), req("NotifType", "Event"), req("ReferenceList", "Device.Boot!")))
	m, s := t.main.Mark(), t.second.Mark()
	t.operate(t.main, "Device.Reboot()", "test910", nil)
	t.back(m, s)
	a := t.await(t.main, m, 20*time.Second, "Boot!", notified("notify910"))
	e := a.notify().GetEvent()
	t.want(e.GetEventName() == "Boot!" && e.GetObjPath() == "Device.", "the event is %v", a.notify())
	t.want(strings.Contains(e.GetParams()["ParameterMap"], "Device.DeviceInfo.BootFirmwareImage"), "ParameterMap is %q", e.GetParams()["ParameterMap"])
	t.see("Boot! %v", e.GetParams())
}

// listen starts one more Controller that listens for WebSockets, and returns how the agent reaches it.
func (t *T) listen(id string, conf *tls.Config) (*Peer, []setting) {
	wc := websocket.DefaultServerConfig()
	wc.Addr, wc.EndpointID, wc.AllowPlain, wc.TLS = "127.0.0.1:0", id, conf == nil, conf
	srv, err := websocket.NewServer(wc)
	t.want(err == nil, "%v", err)
	p := newPeer(id, t.cfg.AgentID, t.cfg.AgentID, t.b.alter(srv))
	t.begin(p)
	t.eventually(5*time.Second, func() bool { return srv.Addr() != nil }, "cannot listen")
	return p, []setting{req("Protocol", "WebSocket"), req("WebSocket.Host", "127.0.0.1"), req("WebSocket.Port", fmt.Sprint(srv.Addr().(*net.TCPAddr).Port)),
		req("WebSocket.Path", "/usp"), req("WebSocket.EnableEncryption", strconv.FormatBool(conf != nil))}
}

// otherBroker starts one more broker with TLS and a Controller behind it, and returns how the agent reaches it.
func (t *T) otherBroker(id string, conf *tls.Config, ca *authority) (*Peer, []setting) {
	br, err := startBroker(conf, newScript(t.cfg))
	t.want(err == nil, "%v", err)
	t.later(func() { _ = br.Close() })
	mc := mqtt.Default()
	mc.Broker = fmt.Sprintf("mqtts://%s", net.JoinHostPort(br.Host, strconv.Itoa(br.Port)))
	mc.EndpointID, mc.ResponseTopic, mc.TLS = id, "conform/vouched", ca.client
	tr, err := mqtt.NewClient(mc)
	t.want(err == nil, "%v", err)
	p := newPeer(id, t.cfg.AgentID, "conform/vouching", t.b.alter(tr))
	t.start(p)
	client := t.made(obj("Device.MQTT.Client.", req("Name", "conform92"), req("Enable", "true"), req("ProtocolVersion", "5.0"), req("TransportProtocol", "TLS"),
		req("BrokerAddress", br.Host), req("BrokerPort", strconv.Itoa(br.Port))))[0]
	row := t.made(obj(local+"MTP.", req("Enable", "true"), req("Protocol", "MQTT"), req("MQTT.Reference", strings.TrimSuffix(client, ".")),
		req("MQTT.ResponseTopicConfigured", "conform/vouching")))[0]
	return p, []setting{req("Protocol", "MQTT"), req("MQTT.Topic", mc.ResponseTopic), req("MQTT.AgentMTPReference", strings.TrimSuffix(row, "."))}
}

// addCertificate adds the certificate of an authority that the agent does not know, lets it connect to a Controller that
// the authority vouches for, and takes it away again.
func addCertificate(t *T) {
	t.open(variant{tls: true})
	dir, err := os.MkdirTemp(t.b.dir, "other")
	t.want(err == nil, "%v", err)
	other, err := newAuthority(dir, t.cfg.AgentID, false)
	t.want(err == nil, "%v", err)
	pem, err := os.ReadFile(other.caFile)
	t.want(err == nil, "%v", err)
	t.operate(t.main, local+"AddCertificate()", "", map[string]string{"Alias": "conform92", "Certificate": string(pem)})
	rows := t.rows(local + `Certificate.[Alias=="conform92"].`)
	t.want(len(rows) == 1, "%d Certificate rows have the Alias", len(rows))
	role := t.value(t.controllerRow(t.main) + "AssignedRole")
	t.made(obj(trustTable+"Credential.", req("Enable", "true"), req("Role", role), req("Credential", strings.TrimSuffix(rows[0], ".")), req("AllowedUses", "MTP-and-USP")))
	const id = "self::conform-vouched"
	cert, err := other.issue(4, "127.0.0.1", id)
	t.want(err == nil, "%v", err)
	conf := other.server.Clone()
	conf.Certificates = []tls.Certificate{cert}
	conf.ClientCAs = t.b.tls.server.ClientCAs // the agent's own certificate comes from the bench's authority
	var p *Peer
	var link []setting
	if t.cfg.MTP == "mqtt" {
		p, link = t.otherBroker(id, conf, other)
	} else {
		p, link = t.listen(id, conf)
	}
	row := t.made(obj(ctls, req("EndpointID", p.ID), req("Enable", "true"), req("AssignedRole", role)))[0]
	t.made(obj(row+"MTP.", append([]setting{req("Enable", "true")}, link...)...))
	t.await(p, 0, 20*time.Second, "connect record over TLS with the new certificate", isConnect)
	t.operate(t.main, rows[0]+"Delete()", "", nil)
	t.want(len(t.rows(local+`Certificate.[Alias=="conform92"].`)) == 0, "the certificate is still there")
}
