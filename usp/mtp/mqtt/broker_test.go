package mqtt

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"twinspan/usp/mtp/mtptest"
)

// broker is a real MQTT broker in the process, with switches for faults and a record of what clients sent.
type broker struct {
	mochi.HookBase
	t    testing.TB
	srv  *mochi.Server
	addr string

	qos0, noRetain bool   // capabilities that CONNACK tells
	maxPacket      uint32 // likewise

	mu           sync.Mutex
	responseInfo string
	topics       []string // subscribe-topic user properties of CONNACK
	serverAlive  uint16
	password     string
	refuse       map[string]bool // filters that are refused
	got          []packets.Packet
	seen         chan struct{} // signalled for every packet
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func startBroker(t testing.TB, change func(*broker), tlsConfig *tls.Config) *broker {
	t.Helper()
	b := &broker{t: t, addr: freePort(t), refuse: map[string]bool{}, seen: make(chan struct{}, 10_000)}
	if change != nil {
		change(b)
	}
	b.start(tlsConfig)
	t.Cleanup(b.stop)
	return b
}

func (b *broker) start(tlsConfig *tls.Config) {
	caps := mochi.NewDefaultServerCapabilities()
	if b.qos0 {
		caps.MaximumQos = 0
	}
	b.srv = mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler), Capabilities: caps})
	if err := b.srv.AddHook(b, nil); err != nil {
		b.t.Fatal(err)
	}
	if err := b.srv.AddListener(listeners.NewTCP(listeners.Config{ID: "t", Address: b.addr, TLSConfig: tlsConfig})); err != nil {
		b.t.Fatal(err)
	}
	if err := b.srv.Serve(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *broker) stop() { b.srv.Close() }

func (b *broker) ID() string { return "test" }
func (b *broker) Provides(h byte) bool {
	return bytes.Contains([]byte{mochi.OnConnectAuthenticate, mochi.OnACLCheck, mochi.OnPacketRead, mochi.OnPacketEncode}, []byte{h})
}

func (b *broker) OnConnectAuthenticate(_ *mochi.Client, pk packets.Packet) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.password == "" || string(pk.Connect.Password) == b.password
}

func (b *broker) OnACLCheck(_ *mochi.Client, topic string, write bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return write || !b.refuse[topic] && !b.refuse["*"]
}

func (b *broker) OnPacketRead(_ *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	b.mu.Lock()
	b.got = append(b.got, pk)
	b.mu.Unlock()
	b.seen <- struct{}{}
	return pk, nil
}

func (b *broker) OnPacketEncode(_ *mochi.Client, pk packets.Packet) packets.Packet {
	if pk.FixedHeader.Type == packets.Connack {
		b.mu.Lock()
		defer b.mu.Unlock()
		pk.Properties.ResponseInfo = b.responseInfo
		for _, t := range b.topics {
			pk.Properties.User = append(pk.Properties.User, packets.UserProperty{Key: "subscribe-topic", Val: t})
		}
		if b.noRetain { // the broker itself does not tell this, nor its packet size
			pk.Properties.RetainAvailable, pk.Properties.RetainAvailableFlag = 0, true
		}
		pk.Properties.MaximumPacketSize = b.maxPacket
		if b.serverAlive > 0 {
			pk.Properties.ServerKeepAlive, pk.Properties.ServerKeepAliveFlag = b.serverAlive, true
		}
	}
	return pk
}

// wait gives the first packet of a type that was received since the last forget, waiting for it. CONNECT does not pass
// OnPacketRead in decoded form of every field, so tests look at the session's client for it.
func (b *broker) wait(typ byte) packets.Packet {
	b.t.Helper()
	timeout := time.After(mtptest.Wait)
	for {
		b.mu.Lock()
		for _, pk := range b.got {
			if pk.FixedHeader.Type == typ {
				b.mu.Unlock()
				return pk
			}
		}
		b.mu.Unlock()
		select {
		case <-b.seen:
		case <-timeout:
			b.t.Fatalf("broker got no packet of type %d", typ)
		}
	}
}

func (b *broker) count(typ byte) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, pk := range b.got {
		if pk.FixedHeader.Type == typ {
			n++
		}
	}
	return n
}

func (b *broker) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = nil
}

// startMosquitto starts a real mosquitto on loopback. Where it is not installed the test fails, unless TWINSPAN_NO_PEERS=1
// says that peers are not wanted here.
func startMosquitto(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/mosquitto") // where Debian has it, outside the PATH of users
	}
	if err != nil {
		if os.Getenv("TWINSPAN_NO_PEERS") == "1" {
			t.Skip("mosquitto is not installed and TWINSPAN_NO_PEERS=1 allows to do without")
		}
		t.Fatal("mosquitto is not on PATH: install it, or set TWINSPAN_NO_PEERS=1 to test without it")
	}
	addr := freePort(t)
	_, port, _ := net.SplitHostPort(addr)
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "listener %s 127.0.0.1\nallow_anonymous true\npersistence false\nlog_dest stderr\n", port), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-c", conf)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("mosquitto said:\n%s", log.String())
		}
	})
	for deadline := time.Now().Add(mtptest.Wait); ; time.Sleep(5 * time.Millisecond) {
		nc, err := net.Dial("tcp", addr)
		if err == nil {
			nc.Close()
			return addr
		}
		if time.Now().After(deadline) {
			t.Fatalf("mosquitto does not listen: %v", err)
		}
	}
}

// scripted is a broker's side of one raw connection, for faults that a correct broker cannot be made to commit.
func scripted(t *testing.T, serve func(nc net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer nc.Close()
				nc.SetDeadline(time.Now().Add(mtptest.Wait))
				serve(nc)
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

// readPacket reads one MQTT packet of a client.
func readPacket(nc net.Conn) (typ byte, err error) {
	var h [1]byte
	if _, err = io.ReadFull(nc, h[:]); err != nil {
		return 0, err
	}
	n, shift := 0, 0
	for {
		var b [1]byte
		if _, err = io.ReadFull(nc, b[:]); err != nil {
			return 0, err
		}
		n |= int(b[0]&0x7f) << shift
		if shift += 7; b[0]&0x80 == 0 {
			break
		}
	}
	_, err = io.CopyN(io.Discard, nc, int64(n))
	return h[0] >> 4, err
}
