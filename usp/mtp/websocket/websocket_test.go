package websocket

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"twinspan/usp"
	"twinspan/usp/mtp"
	"twinspan/usp/mtp/internal/testca"
	"twinspan/usp/mtp/mtptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	agentID = "os::012345-A%20B"
	ctrlID  = "self::ctrl"
)

var fast = usp.Backoff{Min: 20 * time.Millisecond, Multiplier: 1000}

// freePort gives a loopback address on which nobody listens.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func newServer(t testing.TB, change func(*ServerConfig)) *Server {
	t.Helper()
	cfg := DefaultServerConfig()
	cfg.Addr, cfg.EndpointID, cfg.AllowPlain = freePort(t), ctrlID, true
	if change != nil {
		change(&cfg)
	}
	s, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newClient(t testing.TB, url string, change func(*ClientConfig)) *Client {
	t.Helper()
	cfg := DefaultClientConfig()
	cfg.URL, cfg.EndpointID, cfg.Backoff = url, agentID, fast
	if change != nil {
		change(&cfg)
	}
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSuite(t *testing.T) {
	mtptest.Run(t, func(t *testing.T) mtptest.Bed {
		s := newServer(t, nil)
		c := newClient(t, "ws://"+s.cfg.Addr+"/usp?x=1", nil)
		return mtptest.Bed{
			Client: c, Server: s, ToClient: agentID, MaxRecord: 1 << 20,
			Drop: func() {
				if l := c.link.Load(); l != nil {
					l.nc.Close()
				}
			},
			Garbage: func(t *testing.T) {
				nc, err := net.Dial("tcp", s.cfg.Addr)
				if err != nil {
					t.Fatal(err)
				}
				defer nc.Close()
				fmt.Fprintf(nc, "GET /usp HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
					"Sec-WebSocket-Protocol: v1.usp\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
				nc.Read(make([]byte, 4096))
				nc.Write([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"))
				nc.SetReadDeadline(time.Now().Add(mtptest.Wait))
				io.Copy(io.Discard, nc) // until the server hangs up
			},
		}
	})
}

// dial opens a session as a foreign client would.
func dial(t *testing.T, s *Server, query string, header http.Header, protocols ...string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	d := websocket.Dialer{Subprotocols: protocols, HandshakeTimeout: mtptest.Wait}
	ws, resp, err := d.Dial("ws://"+s.cfg.Addr+s.cfg.Path+query, header)
	if err == nil {
		t.Cleanup(func() { ws.Close() })
		ws.SetReadDeadline(time.Now().Add(mtptest.Wait))
	}
	return ws, resp, err
}

func startServer(t *testing.T, change func(*ServerConfig)) (*Server, *mtptest.Peer) {
	t.Helper()
	s := newServer(t, change)
	p := mtptest.Start(t, s, nil)
	for deadline := time.Now().Add(mtptest.Wait); s.Addr() == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("server does not listen")
		}
	}
	return s, p
}

func TestHandshake(t *testing.T) {
	s, p := startServer(t, nil)
	for _, c := range []struct {
		name, query string
		header      http.Header
		protocols   []string
		status      int
		claimed     string
	}{
		{"eid", "?eid=os::1%2520x", nil, []string{"v1.usp"}, 101, "os::1%20x"}, // R-WS.10c
		{"eid among others", "?a=b&eid=self::x", nil, []string{"other", "v1.usp"}, 101, "self::x"},
		{"nothing", "", nil, []string{"v1.usp"}, 101, ""}, // R-WS.11c
		{"old extension", "", http.Header{"Sec-WebSocket-Extensions": {`foo, bbf-usp-protocol; eid="self::old"`}}, []string{"v1.usp"}, 101, "self::old"},
		{"no subprotocol", "?eid=self::x", nil, nil, 400, ""}, // R-WS.12a
		{"wrong subprotocol", "?eid=self::x", nil, []string{"v2.usp"}, 400, ""},
		{"bad eid", "?eid=a%20b", nil, []string{"v1.usp"}, 400, ""},
		{"foreign origin", "", http.Header{"Origin": {"http://evil.example"}}, []string{"v1.usp"}, 403, ""},
	} {
		ws, resp, err := dial(t, s, c.query, c.header, c.protocols...)
		if resp == nil || resp.StatusCode != c.status {
			t.Errorf("%s: %v %v, want %d", c.name, resp, err, c.status)
			continue
		}
		if err != nil {
			continue
		}
		if got := ws.Subprotocol(); got != "v1.usp" { // R-WS.11
			t.Errorf("%s: subprotocol %q", c.name, got)
		}
		if st := p.Up(); st.Peer.Claimed != c.claimed || st.Peer.Encrypted {
			t.Errorf("%s: peer %+v, want %q", c.name, st.Peer, c.claimed)
		}
		ext := resp.Header.Get("Sec-Websocket-Extensions")
		if want := `bbf-usp-protocol; eid="` + ctrlID + `"`; c.name == "old extension" && ext != want || c.name != "old extension" && ext != "" { // R-WS.11a
			t.Errorf("%s: extension %q", c.name, ext)
		}
		ws.Close()
		p.Down()
	}
	if resp, err := http.Get("http://" + s.cfg.Addr + "/other"); err != nil || resp.StatusCode != 404 {
		t.Errorf("other path: %v %v", resp, err)
	} else {
		resp.Body.Close()
	}
	http.DefaultClient.CloseIdleConnections()
}

// closeCode reads until the peer closes.
func closeCode(t *testing.T, ws *websocket.Conn) int {
	t.Helper()
	ws.SetReadDeadline(time.Now().Add(mtptest.Wait))
	for {
		if _, _, err := ws.ReadMessage(); err != nil {
			ce, ok := err.(*websocket.CloseError)
			if !ok {
				t.Fatalf("connection ended without a close frame: %v", err)
			}
			return ce.Code
		}
	}
}

func TestCloseCodes(t *testing.T) {
	s, p := startServer(t, func(c *ServerConfig) { c.MaxRecord = 1000 })
	open := func() *websocket.Conn {
		ws, _, err := dial(t, s, "", nil, "v1.usp")
		if err != nil {
			t.Fatal(err)
		}
		p.Up()
		return ws
	}
	ws := open()
	ws.WriteMessage(websocket.TextMessage, []byte("hi"))
	if c := closeCode(t, ws); c != 1003 { // R-WS.14, R-WS.16
		t.Errorf("text message: %d", c)
	}
	ws = open()
	ws.WriteMessage(websocket.BinaryMessage, []byte("bad"))
	p.Next().Reject(strings.Repeat("é", 100)) // longer than a control frame
	ws.WriteMessage(websocket.BinaryMessage, []byte("late"))
	if c := closeCode(t, ws); c != 1003 { // TP-469 7.6
		t.Errorf("rejected: %d", c)
	}
	p.Down()
	p.Quiet(20 * time.Millisecond) // "late" is not delivered
	ws = open()
	ws.WriteMessage(websocket.BinaryMessage, nil)
	if c := closeCode(t, ws); c != 1003 {
		t.Errorf("empty message: %d", c)
	}
	ws = open()
	ws.WriteMessage(websocket.BinaryMessage, make([]byte, 1001))
	if c := closeCode(t, ws); c != 1009 {
		t.Errorf("too large: %d", c)
	}
	ws = open()
	ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, "bye"), time.Now().Add(time.Second))
	if c := closeCode(t, ws); c != 1000 { // TP-469 7.4
		t.Errorf("close answered with %d", c)
	}
	ws = open()
	go p.Stop()
	if c := closeCode(t, ws); c != 1001 {
		t.Errorf("server stops: %d", c)
	}
	p.Stop()
}

func TestFragmentsAndControlFrames(t *testing.T) {
	s, p := startServer(t, nil)
	ws, _, err := dial(t, s, "", nil, "v1.usp")
	if err != nil {
		t.Fatal(err)
	}
	p.Up()
	ws.WriteControl(websocket.PongMessage, []byte("nobody asked"), time.Now().Add(time.Second)) // TP-469 7.7
	w, _ := ws.NextWriter(websocket.BinaryMessage)
	want := make([]byte, 20_000) // the library's client splits it in five
	for i := range want {
		want[i] = byte(i)
	}
	w.Write(want)
	w.Close()
	if got := p.Next().Record; !bytes.Equal(got, want) { // R-WS.14b, TP-469 7.12
		t.Fatalf("reassembled %d bytes", len(got))
	}
	pong := make(chan string, 1)
	ws.SetPongHandler(func(s string) error { pong <- s; return nil })
	ws.WriteControl(websocket.PingMessage, []byte("you there?"), time.Now().Add(time.Second))
	go ws.ReadMessage()
	select {
	case s := <-pong:
		if s != "you there?" {
			t.Errorf("pong %q", s)
		}
	case <-time.After(mtptest.Wait):
		t.Error("no pong")
	}
}

// TestClientDoesNotFragment looks at the raw bytes of a client. R-WS.14a
func TestClientDoesNotFragment(t *testing.T) {
	rec := bytes.Repeat([]byte("0123456789"), 20_000)
	for _, n := range []int{1, 7, 125, 126, 65535, 65536, 200_000} {
		f := appendFrame(nil, opBinary, rec[:n], true)
		pipe := bytes.NewBuffer(f)
		var h [14]byte
		if _, err := io.ReadFull(pipe, h[:2]); err != nil || h[0] != 0x82 || h[1]&0x80 == 0 {
			t.Fatalf("%d bytes: head %x", n, h[:2])
		}
		skip, length := 0, int(h[1]&0x7f)
		switch length {
		case 126:
			skip = 2
		case 127:
			skip = 8
		}
		ext := pipe.Next(skip)
		if skip > 0 {
			length = 0
			for _, b := range ext {
				length = length<<8 | int(b)
			}
		}
		key := pipe.Next(4)
		body := pipe.Bytes()
		if length != n || len(body) != n {
			t.Fatalf("%d bytes: length %d, body %d", n, length, len(body))
		}
		for i := range body {
			if body[i]^key[i%4] != rec[i] {
				t.Fatalf("%d bytes: byte %d is masked wrongly", n, i)
			}
		}
	}
}

func TestOneSessionPerEndpoint(t *testing.T) { // R-WS.4, TP-469 7.2
	s, p := startServer(t, nil)
	first, _, err := dial(t, s, "?eid=self::x", nil, "v1.usp")
	if err != nil {
		t.Fatal(err)
	}
	p.Up()
	second, _, err := dial(t, s, "?eid=self::x", nil, "v1.usp")
	if err != nil {
		t.Fatal(err)
	}
	p.Up()
	if c := closeCode(t, first); c != 1008 {
		t.Errorf("older session closed with %d", c)
	}
	p.Down()
	p.Send("self::x", []byte("to the newer"))
	if _, m, err := second.ReadMessage(); err != nil || string(m) != "to the newer" {
		t.Errorf("newer session: %q %v", m, err)
	}
}

func TestConnectionLimit(t *testing.T) {
	s, p := startServer(t, func(c *ServerConfig) { c.MaxConnections = 2 })
	var open []*websocket.Conn
	for range 2 {
		ws, _, err := dial(t, s, "", nil, "v1.usp")
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, ws)
		if err := p.Up().Send(t.Context(), []byte("welcome")); err != nil {
			t.Fatal(err)
		}
	}
	if _, resp, _ := dial(t, s, "", nil, "v1.usp"); resp == nil || resp.StatusCode != 503 {
		t.Errorf("third session: %v", resp)
	}
	open[0].Close()
	p.Down()
	deadline := time.Now().Add(mtptest.Wait)
	for {
		if _, _, err := dial(t, s, "", nil, "v1.usp"); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("place is not freed: %v", err)
		}
	}
}

// Strangers that only sit there give way, the oldest first; who was greeted stays.
func TestStrangersGiveWay(t *testing.T) {
	s, p := startServer(t, func(c *ServerConfig) { c.MaxConnections, c.Greets = 32, true })
	greeted, _, err := dial(t, s, "?eid=self::known", nil, "v1.usp")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Up().Send(t.Context(), []byte("welcome")); err != nil {
		t.Fatal(err)
	}
	var idle []*websocket.Conn
	for range 31 {
		ws, _, err := dial(t, s, "", nil, "v1.usp")
		if err != nil {
			t.Fatal(err)
		}
		p.Up()
		idle = append(idle, ws)
	}
	for i := range 3 {
		if _, _, err := dial(t, s, "?eid=self::controller", nil, "v1.usp"); err != nil {
			t.Fatalf("Controller %d finds no place: %v", i, err)
		}
		if code := closeCode(t, idle[i]); code != 1013 {
			t.Errorf("stranger %d was closed with %d", i, code)
		}
	}
	if _, m, err := greeted.ReadMessage(); err != nil || string(m) != "welcome" {
		t.Errorf("%q %v", m, err)
	}
	p.Send("self::known", []byte("still there"))
	if _, m, err := greeted.ReadMessage(); err != nil || string(m) != "still there" {
		t.Errorf("%q %v", m, err)
	}
}

func TestSilentPeer(t *testing.T) {
	_, p := startServer(t, func(c *ServerConfig) { c.PingInterval = 50 * time.Millisecond })
	s := p.Tr.(*Server)
	if _, _, err := dial(t, s, "", nil, "v1.usp"); err != nil { // never reads: pings are not answered
		t.Fatal(err)
	}
	p.Up()
	if d := p.Down(); !strings.Contains(d.Reason, "silent") {
		t.Errorf("reason %q", d.Reason)
	}
	// One that answers pings stays.
	c := mtptest.Start(t, newClient(t, "ws://"+s.cfg.Addr+"/usp", nil), nil)
	up := c.Up()
	time.Sleep(300 * time.Millisecond)
	c.Send("", []byte("x"))
	if in := p.Next(); in.From.Claimed != agentID || up.LinkID == 0 {
		t.Errorf("from %+v", in.From)
	}
	c.Stop()
}

// TestPeerThatDoesNotRead: the sender gets ErrBusy in time, and Run returns although a write is stuck.
func TestPeerThatDoesNotRead(t *testing.T) {
	s, p := startServer(t, nil)
	if _, _, err := dial(t, s, "?eid=self::x", nil, "v1.usp"); err != nil {
		t.Fatal(err)
	}
	p.Up()
	var err error
	for range 100 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err = s.Send(ctx, "self::x", make([]byte, 1<<20))
		cancel()
		if err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), mtp.ErrBusy.Error()) {
		t.Errorf("Send into a full queue: %v", err)
	}
	start := time.Now()
	p.Stop()
	if d := time.Since(start); d > 4*time.Second {
		t.Errorf("Run took %s to return", d)
	}
}

func TestTLS(t *testing.T) {
	ca := testca.New(t)
	sc, sk := ca.Valid(ctrlID)
	cc, ck := ca.Valid(agentID)
	serverTLS, err := mtp.TLSFiles{CAFile: ca.File, CertFile: sc, KeyFile: sk}.Server()
	if err != nil {
		t.Fatal(err)
	}
	clientTLS, err := mtp.TLSFiles{CAFile: ca.File, CertFile: cc, KeyFile: ck}.Client()
	if err != nil {
		t.Fatal(err)
	}
	s, sp := startServer(t, func(c *ServerConfig) { c.AllowPlain, c.TLS = false, serverTLS })
	c := mtptest.Start(t, newClient(t, "wss://"+s.cfg.Addr+"/usp", func(c *ClientConfig) { c.TLS = clientTLS }), nil)
	up := c.Up()
	if !up.Peer.Encrypted || len(up.Peer.EndpointIDs) != 1 || up.Peer.EndpointIDs[0] != ctrlID || len(up.Peer.Fingerprint) != 64 {
		t.Errorf("client sees %+v", up.Peer)
	}
	c.Send("", []byte("secret"))
	if in := sp.Next(); !in.From.Encrypted || len(in.From.EndpointIDs) != 1 || in.From.EndpointIDs[0] != agentID || string(in.Record) != "secret" {
		t.Errorf("server sees %+v", in.From)
	}
	// A claim without certificate cannot push out the proved session: here it does not even get in.
	plain, err := mtp.TLSFiles{CAFile: ca.File}.Client()
	if err != nil {
		t.Fatal(err)
	}
	x := mtptest.Start(t, newClient(t, "wss://"+s.cfg.Addr+"/usp", func(c *ClientConfig) { c.TLS = plain }), nil)
	if f := x.Failed(); f.Reason == "" {
		t.Error("no reason")
	}
	x.Stop()
}

// TestUnprovedClaimIsRefused: the server accepts clients without certificate, but not in place of one with.
func TestUnprovedClaimIsRefused(t *testing.T) {
	ca := testca.New(t)
	sc, sk := ca.Valid(ctrlID)
	cc, ck := ca.Valid(agentID)
	serverTLS, err := mtp.TLSFiles{CAFile: ca.File, CertFile: sc, KeyFile: sk, AnyClient: true}.Server()
	if err != nil {
		t.Fatal(err)
	}
	proved, _ := mtp.TLSFiles{CAFile: ca.File, CertFile: cc, KeyFile: ck}.Client()
	bare, _ := mtp.TLSFiles{CAFile: ca.File}.Client()
	s, _ := startServer(t, func(c *ServerConfig) { c.AllowPlain, c.TLS = false, serverTLS })
	good := mtptest.Start(t, newClient(t, "wss://"+s.cfg.Addr+"/usp", func(c *ClientConfig) { c.TLS = proved }), nil)
	good.Up()
	bad := mtptest.Start(t, newClient(t, "wss://"+s.cfg.Addr+"/usp", func(c *ClientConfig) { c.TLS = bare }), nil)
	if d := bad.Down(); !strings.Contains(d.Reason, "1008") {
		t.Errorf("intruder: %q", d.Reason)
	}
	bad.Stop()
	good.Send("", []byte("x"))
	s.mu.Lock()
	ok := s.byID[agentID] != nil && proves(s.byID[agentID].peer, agentID)
	s.mu.Unlock()
	if !ok {
		t.Error("the proved session is gone")
	}
}

// TestCertificateDates: an expired certificate counts only once the clock is set. R-MTP.2, R-MTP.3
func TestCertificateDates(t *testing.T) {
	ca := testca.New(t)
	sc, sk := ca.Issue(ctrlID, time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour))
	serverTLS, err := mtp.TLSFiles{CertFile: sc, KeyFile: sk, AnyClient: true}.Server()
	if err != nil {
		t.Fatal(err)
	}
	s, _ := startServer(t, func(c *ServerConfig) { c.AllowPlain, c.TLS = false, serverTLS })
	for _, clock := range []bool{true, false} {
		cfg, err := mtp.TLSFiles{CAFile: ca.File, ServerName: "127.0.0.1", ClockSet: func() bool { return clock }}.Client()
		if err != nil {
			t.Fatal(err)
		}
		c := mtptest.Start(t, newClient(t, "wss://"+s.cfg.Addr+"/usp", func(c *ClientConfig) { c.TLS = cfg }), nil)
		if clock {
			if f := c.Failed(); !strings.Contains(f.Reason, "expired") {
				t.Errorf("reason %q", f.Reason)
			}
		} else {
			c.Up()
		}
		c.Stop()
	}
	// Without a clock the issuer and the name still count.
	other := testca.New(t)
	cfg, _ := mtp.TLSFiles{CAFile: other.File, ServerName: "127.0.0.1", ClockSet: func() bool { return false }}.Client()
	c := mtptest.Start(t, newClient(t, "wss://"+s.cfg.Addr+"/usp", func(c *ClientConfig) { c.TLS = cfg }), nil)
	if f := c.Failed(); !strings.Contains(f.Reason, "unknown authority") {
		t.Errorf("reason %q", f.Reason)
	}
	c.Stop()
}

func TestClientNeedsSubprotocol(t *testing.T) { // R-WS.12
	var up websocket.Upgrader
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	uris := make(chan string, 100)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case uris <- r.RequestURI:
		default:
		}
		if ws, err := up.Upgrade(w, r, nil); err == nil {
			ws.Close()
		}
	})}
	go srv.Serve(ln)
	defer srv.Close()
	c := mtptest.Start(t, newClient(t, "ws://"+ln.Addr().String()+"/a/b?c=d", nil), nil)
	if f := c.Failed(); !strings.Contains(f.Reason, "v1.usp") {
		t.Errorf("reason %q", f.Reason)
	}
	c.Stop()
	if got := <-uris; got != "/a/b?c=d&eid=os::012345-A%2520B" { // R-WS.10b, R-WS.10c
		t.Errorf("request %s", got)
	}
}

func TestValidate(t *testing.T) {
	client := func(f func(*ClientConfig)) error {
		c := DefaultClientConfig()
		c.URL, c.EndpointID = "wss://h/p", agentID
		f(&c)
		return c.Validate()
	}
	server := func(f func(*ServerConfig)) error {
		c := DefaultServerConfig()
		c.Addr, c.EndpointID, c.AllowPlain = ":8443", agentID, true
		f(&c)
		return c.Validate()
	}
	if err := client(func(*ClientConfig) {}); err != nil {
		t.Error(err)
	}
	if err := server(func(*ServerConfig) {}); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"http URL":     client(func(c *ClientConfig) { c.URL = "http://h/" }),
		"no host":      client(func(c *ClientConfig) { c.URL = "ws:///x" }),
		"password":     client(func(c *ClientConfig) { c.URL = "ws://u:geheim@h/x" }),
		"no id":        client(func(c *ClientConfig) { c.EndpointID = "" }),
		"back-off":     client(func(c *ClientConfig) { c.Backoff.Multiplier = 1 }),
		"ping":         client(func(c *ClientConfig) { c.PingInterval = 1 }),
		"handshake":    client(func(c *ClientConfig) { c.HandshakeTimeout = 0 }),
		"record":       client(func(c *ClientConfig) { c.MaxRecord = 10 }),
		"no port":      server(func(c *ServerConfig) { c.Addr = "localhost" }),
		"path":         server(func(c *ServerConfig) { c.Path = "usp" }),
		"plain":        server(func(c *ServerConfig) { c.AllowPlain = false }),
		"no sessions":  server(func(c *ServerConfig) { c.MaxConnections = 0 }),
		"no server id": server(func(c *ServerConfig) { c.EndpointID = "" }),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: the message shows a password: %v", name, err)
		}
	}
}

func benchPair(b *testing.B) (*Client, chan struct{}) {
	s := newServer(b, nil)
	mtptest.Start(b, s, func(ctx context.Context, in mtp.Inbound) {
		if err := in.Reply(ctx, in.Record); err != nil && ctx.Err() == nil {
			b.Error(err)
		}
	})
	got := make(chan struct{}, 1024)
	c := newClient(b, "ws://"+s.cfg.Addr+"/usp", nil)
	mtptest.Start(b, c, func(context.Context, mtp.Inbound) { got <- struct{}{} }).Up()
	return c, got
}

// BenchmarkRoundTrip is one record there and back over loopback, one at a time.
func BenchmarkRoundTrip(b *testing.B) {
	c, got := benchPair(b)
	rec := make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Send(b.Context(), "", rec); err != nil {
			b.Fatal(err)
		}
		<-got
	}
}

// BenchmarkRoundTrip16 keeps 16 records in flight.
func BenchmarkRoundTrip16(b *testing.B) {
	c, got := benchPair(b)
	rec := make([]byte, 100)
	for range 16 {
		if err := c.Send(b.Context(), "", rec); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		<-got
		if err := c.Send(b.Context(), "", rec); err != nil {
			b.Fatal(err)
		}
	}
}
