package usp

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	core "twinspan/usp"
	"twinspan/usp/uspmsg"
	"twinspan/usp/usprecord"
)

// client1 is the agent's connection to the broker for the main Controller, client2 for the second one, as the driver
// configures them.
const (
	client1 = "Device.MQTT.Client.1."
	client2 = "Device.MQTT.Client.2."
)

// mqttTests watch the agent's packets at the embedded broker, whatever broker the other tests use; so each has a bench of
// its own.
func mqttTests() map[string]test {
	own := func(v variant, f func(t *T, s *script)) test {
		return test{own: true, run: func(t *T) {
			s := newScript(t.cfg)
			v := v
			v.script = s
			t.open(v)
			f(t, s)
		}}
	}
	slow := func(x test) test { x.slow = true; return x }
	return map[string]test{
		"11.1": {run: mqttModel},
		"11.2": own(variant{password: "conform-secret"}, func(t *T, s *script) {
			pk := s.await(t, 0, time.Second, "CONNECT", ofType(packets.Connect)).Pk
			t.want(pk.ProtocolVersion == 5, "version %d", pk.ProtocolVersion)
			t.want(string(pk.Connect.Username) == "conform" && string(pk.Connect.Password) == "conform-secret", "user name %q, password of %d bytes", pk.Connect.Username, len(pk.Connect.Password))
			t.want(userProperty(pk, "usp-endpoint-id") == t.cfg.AgentID, "usp-endpoint-id %q", userProperty(pk, "usp-endpoint-id"))
		}),
		"11.3": own(variant{tls: true}, func(t *T, s *script) {
			m, se := t.main.Mark(), t.second.Mark()
			t.operate(t.main, "Device.Reboot()", "", nil)
			t.back(m, se)
			t.ok(t.get("Device.DeviceInfo.")[0], -1)
			t.see("the broker listens on TLS 1.2 or later only")
		}),
		"11.4": own(variant{}, func(t *T, s *script) {
			seen := s.await(t, 0, time.Second, "CONNECT", ofType(packets.Connect))
			t.want(seen.Pk.Connect.ClientIdentifier == "" || seen.Empty, "the first CONNECT carries ClientID %q", seen.Pk.Connect.ClientIdentifier)
			t.eventually(3*time.Second, func() bool { return slices.Contains(s.clientIDs(), t.value(client1+"ClientID")) },
				"ClientID is not among those that the broker assigned: %v", s.clientIDs())
		}),
		"11.5":  own(variant{}, clientIDStays),
		"11.6":  slow(own(variant{}, connectRetry)),
		"11.7":  slow(own(variant{}, keepAlive)),
		"11.8":  own(variant{}, brokerHints),
		"11.9":  own(variant{}, subscriptionRow),
		"11.10": own(variant{}, noTopic),
		"11.11": slow(own(variant{}, subscribeRefused)),
		"11.12": own(variant{}, func(t *T, s *script) {
			mark := s.mark()
			t.holds(local+"EndpointID", t.cfg.AgentID)
			pk := s.await(t, mark, 5*time.Second, "PUBLISH to the Controller's topic", func(e *packetSeen) bool {
				return e.Pk.FixedHeader.Type == packets.Publish && e.Pk.TopicName == t.b.setup.Controllers[0].Topic
			}).Pk
			t.want(pk.Properties.ContentType == "usp.msg", "Content Type %q", pk.Properties.ContentType)
			t.want(slices.Contains(s.topics(), pk.Properties.ResponseTopic), "Response Topic %q is not subscribed: %v", pk.Properties.ResponseTopic, s.topics())
		}),
		"11.13": own(variant{}, func(t *T, s *script) {
			for qos := range 2 {
				topic := fmt.Sprintf("conform/qos%d", qos)
				t.made(obj(client1+"Subscription.", req("Enable", "true"), req("Topic", topic), req("QoS", fmt.Sprint(qos))))
				sub := s.await(t, 0, 10*time.Second, "SUBSCRIBE to "+topic, subscribes(topic)).Pk
				for _, f := range sub.Filters {
					t.want(f.Filter != topic || int(f.Qos) == qos, "QoS %d instead of %d", f.Qos, qos)
				}
				t.getVia(topic, byte(qos), "usp.msg", t.b.setup.Controllers[0].Topic)
			}
		}),
		"11.14": own(variant{}, func(t *T, s *script) {
			mark := s.mark()
			r := t.b.setup.Controllers[0]
			r.Topic += "/reply/%2F/here" // an unusual topic of the same Controller
			p, err := t.b.mqttPeer(r, mainID)
			t.want(err == nil, "%v", err)
			t.start(p)
			t.ask(p, &uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: []string{local + "EndpointID"}}}})
			pk := s.await(t, mark, 5*time.Second, "PUBLISH to the Response Topic", func(e *packetSeen) bool {
				return e.Pk.FixedHeader.Type == packets.Publish && e.Pk.TopicName == r.Topic
			}).Pk
			t.want(pk.Properties.ResponseTopic != "", "the answer has no Response Topic of the agent")
		}),
		"11.15": own(variant{}, func(t *T, s *script) {
			for _, kind := range []string{"usp.msg", "application/vnd.bbf.usp.msg"} {
				t.getVia(t.b.setup.Controllers[0].AgentTopic, 1, kind, t.b.setup.Controllers[0].Topic)
			}
		}),
		"11.16": own(variant{}, reconnects),
		"11.17": own(variant{}, connectRecord),
	}
}

func mqttModel(t *T) {
	var missing []string
	have := map[string]bool{}
	for _, r := range t.supported(everything, "Device.MQTT.", local+"MTP.", ctls) {
		for path, o := range t.entries(r) {
			for _, p := range o.GetSupportedParams() {
				have[path+p.GetParamName()] = true
			}
		}
	}
	// The profiles MQTTClientCon:1, MQTTClientSubscribe:1, MQTTAgent:1 and MQTTController:2 of TR-181; MessageRetryTime is for 3.1.1.
	for object, names := range map[string]string{
		"Device.MQTT.":                             "ClientNumberOfEntries",
		"Device.MQTT.Capabilities.":                "ProtocolVersionsSupported TransportProtocolSupported",
		"Device.MQTT.Client.{i}.":                  "Enable Status ProtocolVersion BrokerAddress BrokerPort CleanSession KeepAliveTime Name ClientID Username Password TransportProtocol ConnectRetryTime ConnectRetryIntervalMultiplier ConnectRetryMaxInterval ResponseInformation SubscriptionNumberOfEntries",
		"Device.MQTT.Client.{i}.Stats.":            "BrokerConnectionEstablished MQTTMessagesSent MQTTMessagesReceived ConnectionErrors",
		"Device.MQTT.Client.{i}.Subscription.{i}.": "Topic QoS Enable",
		local + "MTP.{i}.MQTT.":                    "Reference ResponseTopicConfigured ResponseTopicDiscovered",
		local + "Controller.{i}.MTP.{i}.MQTT.":     "AgentMTPReference Topic",
	} {
		for _, n := range strings.Fields(names) {
			if !have[object+n] {
				missing = append(missing, object+n)
			}
		}
	}
	slices.Sort(missing)
	t.want(len(missing) == 0, "not supported: %v", missing)
}

// getVia publishes a Get to a topic of the agent and waits for the answer on a topic of the Controller.
func (t *T) getVia(topic string, qos byte, contentType, reply string) {
	id := fmt.Sprintf("via-%s-%d-%s", topic, qos, contentType)
	rec, err := core.WrapMessage(mainID, t.cfg.AgentID, core.NewRequest(id, &uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: []string{local + "EndpointID"}}}}))
	t.want(err == nil, "%v", err)
	from := t.main.Mark()
	err = t.b.broker.publish(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos}, TopicName: topic, Payload: rec, PacketID: uint16(qos),
		Properties: packets.Properties{ContentType: contentType, ResponseTopic: reply}})
	t.want(err == nil, "publish: %v", err)
	a := t.await(t.main, from, 5*time.Second, "answer to a Get through "+topic+" as "+contentType, func(a *Arrival) bool { return a.Msg.GetHeader().GetMsgId() == id })
	t.want(a.Msg.GetBody().GetResponse().GetGetResp() != nil, "the answer is no GetResp")
}

func clientIDStays(t *T, s *script) {
	id := ""
	t.eventually(3*time.Second, func() bool { id = t.value(client1 + "ClientID"); return id != "" }, "ClientID stays empty")
	mark := s.mark()
	m, se := t.main.Mark(), t.second.Mark()
	t.operate(t.main, "Device.Reboot()", "", nil)
	t.back(m, se)
	got := s.all(mark, ofType(packets.Connect))
	t.want(slices.ContainsFunc(got, func(e packetSeen) bool { return e.Pk.Connect.ClientIdentifier == id && !e.Empty }), "no CONNECT after the reboot has ClientID %q", id)
}

// retryParams of both clients, short enough for a test.
func (t *T) retryParams(seconds string) {
	for _, c := range []string{client2, client1} { // that of the main Controller last: it may connect anew
		t.write(c, req("ConnectRetryTime", seconds), req("ConnectRetryIntervalMultiplier", "2000"))
	}
	t.alive()
}

func connectRetry(t *T, s *script) {
	t.retryParams("3")
	t.sleep(time.Second) // a client may connect anew for changed parameters
	t.want(t.b.broker.Close() == nil, "the broker does not stop")
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", t.b.broker.Port))
	t.want(err == nil, "%v", err)
	gone := time.Now()
	attempts := make(chan time.Time, 64)
	done := make(chan struct{})
	go func() { // ends with the listener
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			var b [256]byte
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			n, _ := c.Read(b[:])
			// The Controllers of the runner try, too: the agent's CONNECT names it.
			if strings.Contains(string(b[:n]), t.cfg.AgentID) {
				select {
				case attempts <- time.Now():
				default:
				}
			}
			_ = c.Close()
		}
	}()
	defer func() { _ = l.Close(); <-done }()
	// Two clients of the agent dial, each by the same windows: the first retry of the earlier one comes in [3 s, 6 s].
	var at []time.Time
	ctx, cancel := context.WithTimeout(t.ctx, 19*time.Second)
	defer cancel()
	for {
		select {
		case a := <-attempts:
			at = append(at, a)
			continue
		case <-ctx.Done():
		}
		break
	}
	t.want(len(at) >= 4, "%d attempts in 19 s, at least 4 of two clients expected", len(at))
	t.window("first retry", at[0].Sub(gone), 0, 6*time.Second+slack)
	t.want(at[2].Sub(at[0]) > 2*time.Second, "three attempts of two clients within %s", at[2].Sub(at[0]))
	t.window("second retry", at[2].Sub(at[0]), 3*time.Second, 15*time.Second)
}

func keepAlive(t *T, s *script) {
	s.set(func(s *script) { s.serverKeepAlive = 30 })
	mark := s.mark()
	t.write(client2, req("KeepAliveTime", "60"))
	m, se := t.main.Mark(), t.second.Mark()
	t.operate(t.main, "Device.Reboot()", "", nil)
	t.back(m, se)
	asked := s.all(mark, func(e *packetSeen) bool {
		return e.Pk.FixedHeader.Type == packets.Connect && e.Pk.Connect.Keepalive == 60
	})
	t.want(len(asked) > 0, "no CONNECT with keep-alive 60")
	last := s.mark()
	began := time.Now()
	p := s.await(t, last, 45*time.Second, "PINGREQ", ofType(packets.Pingreq))
	t.see("PINGREQ %.0f s after the last packet", p.At.Sub(began).Seconds())
}

func brokerHints(t *T, s *script) {
	s.set(func(s *script) { s.hint, s.info = "conform/hint", "conform/info" })
	mark := s.mark()
	t.want(t.b.agent.Restart(t.ctx) == nil, "no restart")
	pk := s.await(t, mark, 20*time.Second, "CONNECT", ofType(packets.Connect)).Pk
	t.want(pk.Properties.RequestResponseInfo == 1, "Request Response Information is %d", pk.Properties.RequestResponseInfo)
	for _, topic := range []string{"conform/hint", "conform/info"} {
		s.await(t, mark, 10*time.Second, "SUBSCRIBE to "+topic, subscribes(topic))
	}
}

func subscriptionRow(t *T, s *script) {
	const topic = "conform/extra"
	mark := s.mark()
	row := t.made(obj(client1+"Subscription.", req("Enable", "true"), req("Topic", topic)))[0]
	s.await(t, mark, 10*time.Second, "SUBSCRIBE to "+topic, subscribes(topic))
	t.getVia(topic, 1, "usp.msg", t.b.setup.Controllers[0].Topic)
	mark = s.mark()
	t.write(strings.TrimSuffix(row, "."), req("Enable", "false"))
	s.await(t, mark, 10*time.Second, "UNSUBSCRIBE from "+topic, func(e *packetSeen) bool {
		return e.Pk.FixedHeader.Type == packets.Unsubscribe && slices.ContainsFunc(e.Pk.Filters, func(f packets.Subscription) bool { return f.Filter == topic })
	})
}

func noTopic(t *T, s *script) {
	mark := s.mark()
	t.write(local+"MTP.2.MQTT.", req("ResponseTopicConfigured", ""))
	c := s.await(t, mark, 20*time.Second, "CONNECT", ofType(packets.Connect))
	s.await(t, mark, 10*time.Second, "DISCONNECT", func(e *packetSeen) bool {
		return e.Pk.FixedHeader.Type == packets.Disconnect && e.Conn == c.Conn
	})
	t.want(len(s.all(mark, func(e *packetSeen) bool { return e.Pk.FixedHeader.Type == packets.Publish && e.Conn == c.Conn })) == 0, "it published although nobody can answer")
}

func subscribeRefused(t *T, s *script) {
	t.write(t.controllerRow(t.main), req("PeriodicNotifInterval", "10"))
	t.made(obj(subs, req("ID", "notify1111"), req("Enable", "true"), req("Persistent", "true"), req("NotifType", "Event"), req("ReferenceList", local+"Periodic!")))
	s.set(func(s *script) { s.refuse = true })
	mark := s.mark()
	t.cleanup = t.cleanup[:1] // the agent cannot be reached any more, and ends with its bench
	t.want(t.b.agent.Restart(t.ctx) == nil, "no restart")
	c := s.await(t, mark, 20*time.Second, "SUBSCRIBE", ofType(packets.Subscribe))
	s.await(t, mark, 20*time.Second, "DISCONNECT", func(e *packetSeen) bool {
		return e.Pk.FixedHeader.Type == packets.Disconnect && e.Conn == c.Conn
	})
	t.sleep(120 * time.Second)
	n := len(s.all(mark, func(e *packetSeen) bool { return e.Pk.FixedHeader.Type == packets.Publish && e.At.After(c.At) }))
	t.want(n == 0, "%d records were published", n)
	t.see("no PUBLISH for 120 s")
}

func reconnects(t *T, s *script) {
	t.retryParams("2")
	t.sleep(500 * time.Millisecond)
	var cl *mochi.Client
	conn := s.all(0, ofType(packets.Connect))
	for _, c := range conn {
		if got, ok := t.b.broker.server.Clients.Get(c.Conn.ID); ok && !got.Closed() {
			cl = got
		}
	}
	t.want(cl != nil, "the agent is not connected")
	mark := s.mark()
	_ = t.b.broker.server.DisconnectClient(cl, packets.ErrAdministrativeAction)
	began := time.Now()
	c := s.await(t, mark, 15*time.Second, "CONNECT", ofType(packets.Connect))
	t.window("reconnect", c.At.Sub(began), 2*time.Second, 4*time.Second)
	t.alive()
}

func connectRecord(t *T, s *script) {
	m := t.main.Mark()
	t.want(t.b.agent.Restart(t.ctx) == nil, "no restart")
	a := t.await(t.main, m, 30*time.Second, "connect record", isConnect)
	r := a.Record.Raw.GetMqttConnect()
	t.want(r.GetVersion() == usprecord.MQTTConnectRecord_V5, "version %v", r.GetVersion())
	t.want(slices.Contains(s.topics(), r.GetSubscribedTopic()), "subscribed_topic %q is not among %v", r.GetSubscribedTopic(), s.topics())
	t.alive()
}
