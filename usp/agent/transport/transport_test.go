package transport_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"go.uber.org/goleak"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/datamodel/tr181"
	"twinspan/store"
	"twinspan/usp/agent"
	"twinspan/usp/agent/transport"
	"twinspan/usp/controller"
	"twinspan/usp/mtp"
	"twinspan/usp/mtp/mqtt"
	"twinspan/usp/mtp/uds"
	"twinspan/usp/mtp/websocket"
	"twinspan/usp/uspmsg"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const agentID = "os::012345-1"

// device is an agent over real transports that nobody has configured yet.
func device(t *testing.T, socket string, more ...func(*datamodel.Profile, *transport.Config, *agent.Options)) *bridge.Engine {
	t.Helper()
	role := "Device.LocalAgent.ControllerTrust.Role.1."
	prof := &datamodel.Profile{Name: "test", Supports: []string{"Device.LocalAgent.", "Device.DeviceInfo.", "Device.MQTT.", "Device.UnixDomainSockets.",
		"Device.Boot!", "Device.ScheduleTimer()"},
		Factory: map[string]string{role + "Enable": "true", role + "Name": "full", role + "Permission.1.Enable": "true", role + "Permission.1.Targets": "Device.",
			role + "Permission.1.Param": "rw-n", role + "Permission.1.Obj": "rw-n", role + "Permission.1.InstantiatedObj": "rw-n", role + "Permission.1.CommandEvent": "r-xn"}}
	cfg := transport.Config{Listen: "127.0.0.1"}
	o := agent.Options{EndpointID: agentID, Trust: agent.TrustPolicy{AllowPlaintext: true, AllowBroker: true}, Local: &agent.LocalListener{Path: socket}}
	for _, fn := range more {
		fn(prof, &cfg, &o)
	}
	schema, err := tr181.Load(prof)
	if err != nil {
		t.Fatal(err)
	}
	st := store.OpenMemory(store.Options{})
	eng, err := bridge.New(bridge.Options{Schema: schema, Profile: prof, Store: st})
	if err != nil {
		t.Fatal(err)
	}
	f, err := transport.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	o.Engine, o.Factory = eng, f
	a, err := agent.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := eng.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := a.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.Close()
		eng.Close()
		st.Close()
	})
	return eng
}

func manage(t *testing.T, eid string, tr mtp.Transport, notes chan *uspmsg.Notify) *controller.Controller {
	t.Helper()
	c, err := controller.New(controller.Config{EndpointID: eid, AgentID: agentID, Transport: tr, OnNotify: func(n *uspmsg.Notify) {
		if notes != nil {
			notes <- n
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return c
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

var acs = bridge.Writer{Name: "cwmp", Protocol: datamodel.CWMP, Class: bridge.ClassACS}

// provision writes as an ACS does: the rows of the other protocol's name.
func provision(t *testing.T, eng *bridge.Engine, ops ...bridge.Op) []string {
	t.Helper()
	res, err := eng.Apply(t.Context(), acs, bridge.Change{Atomic: true, Ref: "session", Ops: ops})
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, o := range res.Outcomes {
		rows = append(rows, o.Objects[0].Path)
	}
	return rows
}

func op(kind bridge.OpKind, path string, kv ...string) bridge.Op {
	o := bridge.Op{Kind: kind, Path: path}
	for i := 0; i+1 < len(kv); i += 2 {
		o.Settings = append(o.Settings, bridge.Setting{Name: kv[i], Value: kv[i+1], Required: true})
	}
	return o
}

// An ACS brings the USP side up by writing Device.USPAgent., and the command line works all the time.
func TestBroughtUpByACS(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "cli.sock")
	eng := device(t, socket)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	cc := uds.DefaultClientConfig()
	cc.Path, cc.EndpointID, cc.RetryMin, cc.RetryMax = socket, "self::cli", 10*time.Millisecond, 20*time.Millisecond
	cli, err := uds.NewClient(cc)
	if err != nil {
		t.Fatal(err)
	}
	cliNotes := make(chan *uspmsg.Notify, 16)
	shell := manage(t, "self::cli", cli, cliNotes)
	if err := shell.WaitUp(ctx); err != nil {
		t.Fatal(err)
	}
	if v, err := shell.Value(ctx, "Device.LocalAgent.EndpointID"); err != nil || v != agentID {
		t.Fatalf("%q %v", v, err)
	}
	if _, err := shell.Subscribe(ctx, "watch", "ValueChange", false, "Device.LocalAgent.Controller."); err != nil {
		t.Fatal(err)
	}

	// A Controller that waits for the agent.
	sc := websocket.DefaultServerConfig()
	port := freePort(t)
	sc.Addr, sc.EndpointID, sc.AllowPlain = fmt.Sprintf("127.0.0.1:%d", port), "self::main", true
	srv, err := websocket.NewServer(sc)
	if err != nil {
		t.Fatal(err)
	}
	notes := make(chan *uspmsg.Notify, 16)
	main := manage(t, "self::main", srv, notes)

	// First the Controller, then its MTP, as AddObject and SetParameterValues come.
	row := provision(t, eng, op(bridge.OpAdd, "Device.USPAgent.Controller.", "EndpointID", "self::main", "AssignedRole", "Device.USPAgent.ControllerTrust.Role.1"))[0]
	m := provision(t, eng, op(bridge.OpAdd, row+"MTP.", "Protocol", "WebSocket"))[0]
	provision(t, eng, op(bridge.OpSet, m, "Enable", "true", "WebSocket.Host", "127.0.0.1", "WebSocket.Port", fmt.Sprint(port), "WebSocket.Path", "/usp",
		"WebSocket.EnableEncryption", "false"), op(bridge.OpSet, row, "Enable", "true"))
	if err := main.WaitConnect(ctx); err != nil { // R-MTP.6
		t.Fatal(err)
	}
	select {
	case n := <-notes:
		if n.GetOnBoardReq() == nil { // R-NOT.5: OnBoardingComplete is false by default
			t.Errorf("%v", n)
		}
	case <-ctx.Done():
		t.Fatal("no OnBoardRequest")
	}
	if _, err := main.Subscribe(ctx, "s", "ValueChange", true, "Device.LocalAgent.Controller.1.ProvisioningCode"); err != nil {
		t.Fatal(err)
	}
	provision(t, eng, op(bridge.OpSet, row, "ProvisioningCode", "from-acs"))
	for who, ch := range map[string]chan *uspmsg.Notify{"main": notes, "cli": cliNotes} {
		for got := false; !got; {
			select {
			case n := <-ch:
				got = n.GetValueChange().GetParamValue() == "from-acs"
			case <-ctx.Done():
				t.Fatalf("%s is not told", who)
			}
		}
	}

	// The server of the agent itself, and a second Controller that connects to it.
	port = freePort(t)
	provision(t, eng, op(bridge.OpAdd, "Device.USPAgent.Controller.", "EndpointID", "self::second", "Enable", "true", "AssignedRole", "Device.USPAgent.ControllerTrust.Role.1"),
		op(bridge.OpAdd, "Device.USPAgent.MTP.", "Enable", "true", "Protocol", "WebSocket", "WebSocket.Port", fmt.Sprint(port), "WebSocket.Path", "/agent",
			"WebSocket.EnableEncryption", "false"))
	wc := websocket.DefaultClientConfig()
	wc.URL, wc.EndpointID = fmt.Sprintf("ws://127.0.0.1:%d/agent", port), "self::second"
	wc.Backoff.Min = 20 * time.Millisecond
	dial, err := websocket.NewClient(wc)
	if err != nil {
		t.Fatal(err)
	}
	notes2 := make(chan *uspmsg.Notify, 16)
	second := manage(t, "self::second", dial, notes2)
	if err := second.WaitConnect(ctx); err != nil {
		t.Fatal(err)
	}
	select {
	case n := <-notes2: // over the link that the Controller opened
		if n.GetOnBoardReq() == nil {
			t.Errorf("%v", n)
		}
	case <-ctx.Done():
		t.Fatal("no OnBoardRequest over the server's link")
	}
	if v, err := second.Value(ctx, "Device.LocalAgent.MTP.1.Status"); err != nil || v != "Up" {
		t.Errorf("status %q %v", v, err)
	}
	// R-WS.4: main has a session that the agent opened, so it gets no second one here.
	wc.EndpointID = "self::main"
	again, err := websocket.NewClient(wc)
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan string, 16)
	dialCtx, stopDial := context.WithCancel(ctx)
	joined := make(chan error, 1)
	go func() { // ends with dialCtx
		joined <- again.Run(dialCtx, nil, func(s mtp.State) {
			select {
			case refused <- s.Reason:
			default:
			}
		})
	}()
	if why := <-refused; !strings.Contains(why, "409") {
		t.Errorf("a second session: %q", why)
	}
	stopDial()
	<-joined
	// Switched off again: the link goes.
	provision(t, eng, op(bridge.OpSet, row, "Enable", "false"))
	for {
		c, stop := context.WithTimeout(ctx, 200*time.Millisecond)
		_, err := main.Value(c, "Device.LocalAgent.UpTime")
		stop()
		if err != nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatal("a disabled Controller is served")
		}
	}
}

// allow is a broker's hook that lets everybody do everything.
type allow struct{ mochi.HookBase }

func (*allow) ID() string                                               { return "allow" }
func (*allow) Provides(h byte) bool                                     { return h == mochi.OnConnectAuthenticate || h == mochi.OnACLCheck }
func (*allow) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }
func (*allow) OnACLCheck(*mochi.Client, string, bool) bool              { return true }

// startBroker runs an MQTT broker.
func startBroker(t *testing.T, port int) {
	t.Helper()
	srv := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := srv.AddHook(new(allow), nil); err != nil {
		t.Fatal(err)
	}
	if err := srv.AddListener(listeners.NewTCP(listeners.Config{ID: "t", Address: fmt.Sprintf("127.0.0.1:%d", port)})); err != nil {
		t.Fatal(err)
	}
	if err := srv.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Close() })
}

// The same over a broker: Device.MQTT. and Device.USPAgent. written by an ACS.
func TestBroughtUpOverMQTT(t *testing.T) {
	eng := device(t, filepath.Join(t.TempDir(), "cli.sock"))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	port := freePort(t)
	startBroker(t, port)
	cfg := mqtt.Default()
	cfg.Broker, cfg.EndpointID, cfg.ResponseTopic = fmt.Sprintf("mqtt://127.0.0.1:%d", port), "self::main", "usp/controller"
	tr, err := mqtt.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	notes := make(chan *uspmsg.Notify, 16)
	c := manage(t, "self::main", tr, notes)
	if err := c.WaitUp(ctx); err != nil {
		t.Fatal(err)
	}
	rows := provision(t, eng,
		op(bridge.OpAdd, "Device.MQTT.Client.", "Enable", "true", "BrokerAddress", "127.0.0.1", "BrokerPort", fmt.Sprint(port), "ProtocolVersion", "5.0"),
		op(bridge.OpAdd, "Device.USPAgent.MTP.", "Enable", "true", "Protocol", "MQTT", "MQTT.ResponseTopicConfigured", "usp/agent"),
		op(bridge.OpAdd, "Device.USPAgent.Controller.", "EndpointID", "self::main", "Enable", "true", "AssignedRole", "Device.USPAgent.ControllerTrust.Role.1"))
	provision(t, eng, op(bridge.OpSet, rows[1], "MQTT.Reference", strings.TrimSuffix(rows[0], ".")))
	m := provision(t, eng, op(bridge.OpAdd, rows[2]+"MTP.", "Protocol", "MQTT", "MQTT.Topic", "usp/controller"))[0]
	provision(t, eng, op(bridge.OpSet, m, "Enable", "true", "MQTT.AgentMTPReference", strings.TrimSuffix(rows[1], ".")))
	if err := c.WaitConnect(ctx); err != nil { // R-MTP.6: mqtt_connect tells the agent's topic
		t.Fatal(err)
	}
	select {
	case n := <-notes:
		if n.GetOnBoardReq() == nil {
			t.Errorf("%v", n)
		}
	case <-ctx.Done():
		t.Fatal("no OnBoardRequest")
	}
	for path, want := range map[string]string{"Device.MQTT.Client.1.Status": "Connected", "Device.LocalAgent.MTP.1.Status": "Up",
		"Device.LocalAgent.MTP.1.MQTT.ResponseTopicDiscovered": ""} {
		if v, err := c.Value(ctx, path); err != nil || want != "" && v != want {
			t.Errorf("%s is %q, %v", path, v, err)
		}
	}
	// R-MQTT.9: the identifier that the broker gave is kept, and keeping it does not break the connection.
	deadline := time.Now().Add(5 * time.Second)
	for {
		if v, err := c.Value(ctx, "Device.MQTT.Client.1.ClientID"); err == nil && v != "" {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("ClientID %q %v", v, err)
		}
	}
	if _, err := c.Subscribe(ctx, "s", "ValueChange", true, "Device.LocalAgent.Controller.1.ProvisioningCode"); err != nil {
		t.Fatal(err)
	}
	provision(t, eng, op(bridge.OpSet, rows[2], "ProvisioningCode", "over-mqtt"))
	for {
		select {
		case n := <-notes:
			if n.GetValueChange().GetParamValue() != "over-mqtt" {
				continue
			}
		case <-ctx.Done():
			t.Fatal("not told")
		}
		break
	}
	// R-MQTT.34: a new topic is subscribed on the live connection.
	c.Forget()
	if _, _, err := c.Add(ctx, "Device.MQTT.Client.1.Subscription.", map[string]string{"Enable": "true", "Topic": "usp/extra"}); err != nil {
		t.Fatal(err)
	}
	short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	if err := c.WaitConnect(short); err == nil {
		t.Error("a new topic made the agent connect anew")
	}
	if v, err := c.Value(ctx, "Device.MQTT.Client.1.Subscription.1.Status"); err != nil || v != "Subscribed" {
		t.Errorf("Status %q %v", v, err)
	}
}

func TestRefusedSpecs(t *testing.T) {
	f, err := transport.New(transport.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []agent.Spec{{Kind: "Pigeon"}, {Kind: "UDSListen"}, {Kind: "UDSConnect"}, {Kind: "WebSocketServer", Encrypted: true, Port: 1},
		{Kind: "MQTT", Host: "h", Port: 1, MQTT: agent.MQTTSpec{Version: "3.1.1"}}, {Kind: "MQTT", Host: "h", Port: 1, MQTT: agent.MQTTSpec{Transport: "WebSocket"}}} {
		if tr, err := f.New(s); err == nil || tr != nil {
			t.Errorf("%+v is taken", s)
		}
	}
	if _, err := transport.New(transport.Config{TLS: mtp.TLSFiles{CertFile: "x"}}); err == nil {
		t.Error("a certificate without key is taken")
	}
	if _, err := transport.New(transport.Config{MaxRecord: 1}); err == nil {
		t.Error("a record limit of one byte is taken")
	}
}
