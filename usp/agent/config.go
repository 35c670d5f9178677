package agent

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	"twinspan/datamodel"
	"twinspan/store"
	"twinspan/usp"
)

// Canonical paths of the agent's own configuration.
const (
	localAgent     = "Device.LocalAgent."
	controllerPath = "Device.LocalAgent.Controller."
	mtpPath        = "Device.LocalAgent.MTP."
	subPath        = "Device.LocalAgent.Subscription."
	requestPath    = "Device.LocalAgent.Request."
	mqttPath       = "Device.MQTT.Client."
	udsPath        = "Device.UnixDomainSockets."
	deviceInfo     = "Device.DeviceInfo."
)

// reader reads configuration of one version: stored values, else the model's defaults.
type reader struct {
	v *store.Version
	s *datamodel.Schema
	// over are values that count before those of v.
	over map[string]string
}

func (r reader) str(path string) string {
	if val, ok := r.over[path]; ok {
		return val
	}
	if l, ok := r.v.Leaf(path); ok {
		return l.Value
	}
	if m, ok := r.s.Lookup(path); ok && m.Param != nil {
		if f := m.Param.Any(); f.HasDefault && !f.FactoryOnly {
			return f.Default
		}
	}
	return ""
}

func (r reader) flag(path string) bool { return r.str(path) == "true" }

func (r reader) num(path string, def int) int {
	n, err := strconv.Atoi(r.str(path))
	if err != nil {
		return def
	}
	return n
}

func (r reader) seconds(path string) time.Duration {
	n, err := strconv.ParseUint(r.str(path), 10, 32)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// rows yields the rows of a table with their paths.
func (r reader) rows(table string, fn func(n uint32, row string)) {
	for _, n := range r.v.Instances(table) {
		fn(n, table+strconv.FormatUint(uint64(n), 10)+".")
	}
}

// ref reads a reference and gives it a final dot; "" stays "".
func (r reader) ref(path string) string {
	s := strings.TrimSuffix(r.str(path), ".")
	if s == "" {
		return ""
	}
	return s + "."
}

// controller is one row of Device.LocalAgent.Controller.
type controller struct {
	num      uint32
	row      string // with final dot
	endpoint string
	enabled  bool
	retry    usp.Backoff // of notifications
	interval time.Duration
	phase    time.Time // PeriodicNotifTime, zero: unknown
	onboard  bool      // OnBoardingComplete exists and is false
	restart  time.Duration
	mtps     []controllerMTP // enabled ones, by Order
}

// controllerMTP is one enabled row of Controller.{i}.MTP.
type controllerMTP struct {
	row      string
	protocol string
	order    int
	agentMTP string // MQTT.AgentMTPReference with final dot
	topic    string
	link     string // key of the transport that serves it
}

// directory is the Controller table of one version, compiled.
type directory struct {
	version *store.Version
	rev     uint64
	list    []*controller
	byID    map[string]*controller // enabled or not
	byRow   map[string]*controller
}

// controllers returns the Controller table as it is in the newest version. // R-SEC.1
func (a *Agent) controllers() *directory {
	v := a.store.Head()
	d := a.dir.Load()
	if d != nil && d.version == v {
		return d
	}
	rev := v.SubtreeRev(controllerPath)
	if d != nil && d.rev == rev {
		n := *d
		n.version = v
		a.dir.Store(&n)
		return &n
	}
	d = a.readDirectory(v)
	d.rev = rev
	a.dir.Store(d)
	return d
}

func (a *Agent) readDirectory(v *store.Version) *directory {
	d := &directory{version: v, byID: map[string]*controller{}, byRow: map[string]*controller{}}
	r := reader{v: v, s: a.schema}
	r.rows(controllerPath, func(n uint32, row string) {
		c := &controller{num: n, row: row, endpoint: r.str(row + "EndpointID"), enabled: r.flag(row + "Enable")}
		c.retry = usp.DefaultBackoff()
		if m := r.seconds(row + "USPNotifRetryMinimumWaitInterval"); m > 0 {
			c.retry.Min = m
		}
		c.retry.Multiplier = r.num(row+"USPNotifRetryIntervalMultiplier", c.retry.Multiplier)
		c.interval = r.seconds(row + "PeriodicNotifInterval")
		c.phase = parseTime(r.str(row + "PeriodicNotifTime"))
		if _, ok := a.schema.Lookup(row + "OnBoardingComplete"); ok {
			c.onboard = !r.flag(row + "OnBoardingComplete")
		}
		c.restart = r.seconds(row + "OnBoardingRestartTime")
		r.rows(row+"MTP.", func(_ uint32, mrow string) {
			if !r.flag(mrow + "Enable") {
				return
			}
			m := controllerMTP{row: mrow, protocol: r.str(mrow + "Protocol"), order: r.num(mrow+"Order", 1)}
			m.agentMTP = r.ref(mrow + "MQTT.AgentMTPReference")
			m.topic = r.str(mrow + "MQTT.Topic")
			c.mtps = append(c.mtps, m)
		})
		sort.SliceStable(c.mtps, func(i, j int) bool { return c.mtps[i].order < c.mtps[j].order })
		d.list = append(d.list, c)
		d.byRow[row] = c
		if c.endpoint != "" && (d.byID[c.endpoint] == nil || c.enabled) {
			d.byID[c.endpoint] = c
		}
	})
	return d
}

// parseTime reads a dateTime; unknown time (year 1) and errors are the zero time.
func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t
}

// Spec is one transport as the data model wants it. Two equal Specs mean the same connection: the manager restarts a
// transport exactly when its Spec changes.
type Spec struct {
	// Kind is "MQTT", "WebSocketServer", "WebSocketClient", "UDSListen", "UDSConnect".
	Kind string
	// Row is the row that asks for it: Device.LocalAgent.MTP.{i}. or Device.LocalAgent.Controller.{i}.MTP.{i}., "" for
	// the local listener.
	Row string
	// Endpoint is our own Endpoint ID, Peer the one expected at the other end of a point-to-point client, else "".
	Endpoint, Peer string
	Encrypted      bool

	// WebSocket and UDS.
	Host      string
	Port      int
	Path      string
	KeepAlive time.Duration
	RetryMin  time.Duration
	RetryMul  int
	RetryMax  time.Duration
	Mode      uint32 // file mode of a UDS listener

	MQTT MQTTSpec
}

// MQTTSpec is Device.MQTT.Client.{i}. and the MTP's own part. Comparable.
type MQTTSpec struct {
	Client          string // row of Device.MQTT.Client.
	Version         string // "5.0", "3.1.1"
	Transport       string // "TCP/IP", "TLS", "WebSocket", "WebSocketTLS"
	ClientID        string
	Username        string
	Password        string
	CleanStart      bool
	SessionExpiry   time.Duration
	RequestRespInfo bool
	ResponseTopic   string // ResponseTopicConfigured
	QoS             int
	RetainNotify    bool // of any Controller behind this client
	RetainResponse  bool
	Topics          string // enabled Subscription topics: "topic\x00qos\n" lines, so that Spec stays comparable
	WillTopic       string
	WillValue       string
	WillQoS         int
	WillRetain      bool
}

// String leaves the password out, wherever a Spec is printed.
func (m MQTTSpec) String() string {
	return fmt.Sprintf("{%s version %q transport %q client_id %q}", m.Client, m.Version, m.Transport, m.ClientID)
}

// wanted is what should run at one version: transports by key, and the routes to every Controller.
type wanted struct {
	specs    map[string]Spec
	problems map[string]string // row -> why it cannot run
}

// desired computes the wanted transports. It also fills in the link of every controller MTP of d.
func (a *Agent) desired(v *store.Version, d *directory) wanted {
	w := wanted{specs: map[string]Spec{}, problems: map[string]string{}}
	r := reader{v: v, s: a.schema}
	var mqttRows []string
	r.rows(mtpPath, func(_ uint32, row string) {
		if !r.flag(row + "Enable") {
			return
		}
		switch proto := r.str(row + "Protocol"); proto {
		case "MQTT":
			mqttRows = append(mqttRows, row)
			a.wantMQTT(r, row, &w)
		case "WebSocket":
			if !r.flag(row+"WebSocket.EnableEncryption") && !a.opt.Trust.AllowPlaintext {
				w.problems[row] = "links without encryption are not allowed"
				return
			}
			w.specs[row] = Spec{Kind: "WebSocketServer", Row: row, Endpoint: a.opt.EndpointID,
				Encrypted: r.flag(row + "WebSocket.EnableEncryption"), Port: r.num(row+"WebSocket.Port", 8443),
				Path: r.str(row + "WebSocket.Path"), KeepAlive: r.seconds(row + "WebSocket.KeepAliveInterval")}
		case "UDS":
			a.wantUDS(r, row, r.ref(row+"UDS.UnixDomainSocketRef"), "", &w)
		case "":
			w.problems[row] = "Protocol is not set"
		default:
			w.problems[row] = "Protocol " + proto + " is not supported"
		}
	})
	for _, c := range d.list {
		if !c.enabled || c.endpoint == "" {
			continue
		}
		for i := range c.mtps {
			m := &c.mtps[i]
			switch m.protocol {
			case "MQTT":
				m.link = m.agentMTP
				if m.link == "" && len(mqttRows) == 1 {
					m.link = mqttRows[0]
				}
				if s, ok := w.specs[m.link]; ok {
					s.MQTT.RetainNotify = s.MQTT.RetainNotify || r.flag(m.row+"MQTT.PublishRetainNotify")
					s.MQTT.RetainResponse = s.MQTT.RetainResponse || r.flag(m.row+"MQTT.PublishRetainResponse")
					w.specs[m.link] = s
				}
			case "WebSocket":
				m.link = m.row
				a.wantWebSocketClient(r, c, m.row, &w)
			case "UDS":
				m.link = m.row
				a.wantUDS(r, m.row, r.ref(m.row+"UDS.UnixDomainSocketRef"), c.endpoint, &w)
			}
		}
	}
	if l := a.opt.ServiceSocket; l != nil {
		w.specs[servicesKey] = Spec{Kind: "UDSListen", Endpoint: a.opt.EndpointID, Path: l.Path, Mode: l.Mode}
	}
	if l := a.opt.Local; l != nil {
		w.specs[localKey] = Spec{Kind: "UDSListen", Endpoint: a.opt.EndpointID, Path: l.Path, Mode: 0o600}
	}
	return w
}

// localKey names the local listener among the transports.
const localKey = "local"

// servicesKey names the socket for the Controllers of USP Services among them.
const servicesKey = "services"

func (a *Agent) wantWebSocketClient(r reader, c *controller, row string, w *wanted) {
	ws := row + "WebSocket."
	s := Spec{Kind: "WebSocketClient", Row: row, Endpoint: a.opt.EndpointID, Peer: c.endpoint,
		Encrypted: r.flag(ws + "EnableEncryption"), Host: r.str(ws + "Host"), Port: r.num(ws+"Port", 0),
		Path: r.str(ws + "Path"), KeepAlive: r.seconds(ws + "KeepAliveInterval"),
		RetryMin: r.seconds(ws + "SessionRetryMinimumWaitInterval"), RetryMul: r.num(ws+"SessionRetryIntervalMultiplier", 2000)}
	if s.Host == "" {
		return // a Controller that connects to us
	}
	if s.Port == 0 {
		s.Port = map[bool]int{true: 443, false: 80}[s.Encrypted]
	}
	if !s.Encrypted && !a.opt.Trust.AllowPlaintext {
		w.problems[row] = "links without encryption are not allowed"
		return
	}
	w.specs[row] = s
}

func (a *Agent) wantUDS(r reader, row, ref, peer string, w *wanted) {
	if ref == "" {
		w.problems[row] = "UDS.UnixDomainSocketRef is not set"
		return
	}
	s := Spec{Kind: "UDSListen", Row: row, Endpoint: a.opt.EndpointID, Peer: peer, Path: r.str(ref + "Path"), Mode: 0o600}
	if r.str(ref+"Mode") == "Connect" {
		s.Kind = "UDSConnect"
	}
	if s.Path == "" {
		w.problems[row] = ref + "Path is not set"
		return
	}
	w.specs[row] = s
}

func (a *Agent) wantMQTT(r reader, row string, w *wanted) {
	client := r.ref(row + "MQTT.Reference")
	if client == "" || !strings.HasPrefix(client, mqttPath) {
		w.problems[row] = "MQTT.Reference does not name a row of " + mqttPath
		return
	}
	if !r.flag(client + "Enable") {
		w.problems[row] = client + "Enable is false"
		return
	}
	m := MQTTSpec{Client: client, Version: r.str(client + "ProtocolVersion"), Transport: r.str(client + "TransportProtocol"),
		ClientID: r.str(client + "ClientID"), Username: r.str(client + "Username"), Password: r.str(client + "Password"),
		CleanStart: r.flag(client + "CleanStart"), SessionExpiry: r.seconds(client + "SessionExpiryInterval"),
		RequestRespInfo: r.flag(client + "RequestResponseInfo"), ResponseTopic: r.str(row + "MQTT.ResponseTopicConfigured"),
		QoS: r.num(row+"MQTT.PublishQoS", 0)}
	if r.flag(client + "WillEnable") {
		m.WillTopic, m.WillValue = r.str(client+"WillTopic"), r.str(client+"WillValue")
		m.WillQoS, m.WillRetain = r.num(client+"WillQoS", 0), r.flag(client+"WillRetain")
	}
	var topics []string
	r.rows(client+"Subscription.", func(_ uint32, sub string) {
		if topic := r.str(sub + "Topic"); r.flag(sub+"Enable") && topic != "" {
			topics = append(topics, topic+"\x00"+r.str(sub+"QoS"))
		}
	})
	sort.Strings(topics)
	m.Topics = strings.Join(topics, "\n")
	s := Spec{Kind: "MQTT", Row: row, Endpoint: a.opt.EndpointID, Host: r.str(client + "BrokerAddress"),
		Port: r.num(client+"BrokerPort", 1883), KeepAlive: r.seconds(client + "KeepAliveTime"),
		RetryMin: r.seconds(client + "ConnectRetryTime"), RetryMul: r.num(client+"ConnectRetryIntervalMultiplier", 2000),
		RetryMax: r.seconds(client + "ConnectRetryMaxInterval"), MQTT: m}
	s.Encrypted = strings.HasSuffix(m.Transport, "TLS")
	switch {
	case s.Host == "":
		w.problems[row] = client + "BrokerAddress is not set"
	case !s.Encrypted && !a.opt.Trust.AllowPlaintext:
		w.problems[row] = "links without encryption are not allowed"
	default:
		w.specs[row] = s
	}
}
