package usp

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// packetSeen is one packet that the agent sent.
type packetSeen struct {
	At    time.Time
	Pk    packets.Packet
	Conn  *mochi.Client
	Empty bool // a CONNECT without ClientID
}

// script is how the embedded broker behaves beyond what a broker does, and what it saw of the agent.
type script struct {
	mochi.HookBase
	agentID string
	lie     func(*packets.Packet) bool // Config.packets

	mu              sync.Mutex
	log             []packetSeen
	wake            chan struct{}
	agents          map[*mochi.Client]bool
	refuse          bool // every SUBSCRIBE of the agent
	hint, info      string
	serverKeepAlive uint16
}

func newScript(cfg *Config) *script {
	return &script{agentID: cfg.AgentID, lie: cfg.packets, wake: make(chan struct{}), agents: map[*mochi.Client]bool{}}
}

// Provides implements mochi.Hook.
func (s *script) Provides(b byte) bool {
	return bytes.Contains([]byte{mochi.OnConnectAuthenticate, mochi.OnACLCheck, mochi.OnPacketRead, mochi.OnPacketEncode}, []byte{b})
}

func (s *script) set(f func(*script)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

// OnConnectAuthenticate lets everybody in.
func (s *script) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }

// OnACLCheck lets everybody do everything, but the agent may be refused to subscribe.
func (s *script) OnACLCheck(cl *mochi.Client, _ string, write bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return write || !s.refuse || !s.agents[cl]
}

// OnPacketRead records what the agent sends.
func (s *script) OnPacketRead(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pk.FixedHeader.Type == packets.Connect && userProperty(pk, "usp-endpoint-id") == s.agentID {
		s.agents[cl] = true
	}
	told := pk
	if s.agents[cl] && len(s.log) < maxArrivals && (s.lie == nil || s.lie(&told)) {
		s.log = append(s.log, packetSeen{At: time.Now(), Pk: told, Conn: cl, Empty: pk.Connect.ClientIdentifier == ""})
		close(s.wake)
		s.wake = make(chan struct{})
	}
	return pk, nil
}

// OnPacketEncode gives the agent's CONNACK what the test wants in it.
func (s *script) OnPacketEncode(cl *mochi.Client, pk packets.Packet) packets.Packet {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pk.FixedHeader.Type != packets.Connack || !s.agents[cl] {
		return pk
	}
	if s.hint != "" {
		pk.Properties.User = append(slices.Clone(pk.Properties.User), packets.UserProperty{Key: "subscribe-topic", Val: s.hint})
	}
	if s.info != "" {
		pk.Properties.ResponseInfo = s.info
		pk.Mods.AllowResponseInfo = true
	}
	if s.serverKeepAlive != 0 {
		pk.Properties.ServerKeepAlive, pk.Properties.ServerKeepAliveFlag = s.serverKeepAlive, true
	}
	return pk
}

func userProperty(pk packets.Packet, key string) string {
	for _, u := range pk.Properties.User {
		if u.Key == key {
			return u.Val
		}
	}
	return ""
}

func ofType(kind byte) func(*packetSeen) bool {
	return func(e *packetSeen) bool { return e.Pk.FixedHeader.Type == kind }
}

func subscribes(topic string) func(*packetSeen) bool {
	return func(e *packetSeen) bool {
		return e.Pk.FixedHeader.Type == packets.Subscribe && slices.ContainsFunc(e.Pk.Filters, func(f packets.Subscription) bool { return f.Filter == topic })
	}
}

func (s *script) mark() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.log)
}

func (s *script) all(from int, fits func(*packetSeen) bool) []packetSeen {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []packetSeen
	for _, e := range s.log[from:] {
		if fits(&e) {
			out = append(out, e)
		}
	}
	return out
}

// await waits for a packet of the agent.
func (s *script) await(t *T, from int, d time.Duration, what string, fits func(*packetSeen) bool) packetSeen {
	ctx, cancel := context.WithTimeout(t.ctx, t.cfg.wait(d))
	defer cancel()
	for {
		s.mu.Lock()
		wake := s.wake
		s.mu.Unlock()
		if got := s.all(from, fits); len(got) > 0 {
			t.see("%s", what)
			return got[0]
		}
		select {
		case <-wake:
		case <-ctx.Done():
			t.fail("no %s of the agent within %s", what, d)
		}
	}
}

// topics that the agent asked for.
func (s *script) topics() []string {
	var out []string
	for _, e := range s.all(0, ofType(packets.Subscribe)) {
		for _, f := range e.Pk.Filters {
			out = append(out, f.Filter)
		}
	}
	return out
}

// clientIDs that the agent's connections have at the broker.
func (s *script) clientIDs() []string {
	var out []string
	for _, e := range s.all(0, ofType(packets.Connect)) {
		out = append(out, e.Conn.ID)
	}
	return out
}

// broker is an embedded MQTT broker on loopback.
type broker struct {
	server *mochi.Server
	inline *mochi.Client
	Host   string
	Port   int
	end    sync.Once
}

func startBroker(conf *tls.Config, s *script) (*broker, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	if conf != nil {
		l = tls.NewListener(l, conf)
	}
	srv := mochi.New(&mochi.Options{InlineClient: true, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := srv.AddHook(s, nil); err != nil {
		return nil, err
	}
	if err := srv.AddListener(listeners.NewNet("loopback", l)); err != nil {
		return nil, err
	}
	if err := srv.Serve(); err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	inline := srv.NewClient(nil, "local", "conform-inline", true)
	inline.Properties.ProtocolVersion = 5
	srv.Clients.Add(inline)
	return &broker{server: srv, inline: inline, Host: "127.0.0.1", Port: port}, nil
}

// publish publishes a packet as it is.
func (b *broker) publish(pk packets.Packet) error {
	pk.FixedHeader.Qos = min(pk.FixedHeader.Qos, 1)
	return b.server.InjectPacket(b.inline, pk)
}

// Close disconnects all clients and joins the broker's goroutines.
func (b *broker) Close() (err error) {
	b.end.Do(func() { err = b.server.Close() })
	return err
}
