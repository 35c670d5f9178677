package uds

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"twinspan/usp/mtp/mtptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	agentID = "os::012345-1"
	cliID   = "self::cli"
)

func newServer(t testing.TB, path string, change func(*ServerConfig)) *Server {
	t.Helper()
	cfg := DefaultServerConfig()
	cfg.Path, cfg.EndpointID = path, agentID
	if change != nil {
		change(&cfg)
	}
	s, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newClient(t testing.TB, path string, change func(*ClientConfig)) *Client {
	t.Helper()
	cfg := DefaultClientConfig()
	cfg.Path, cfg.EndpointID, cfg.RetryMin, cfg.RetryMax = path, cliID, 10*time.Millisecond, 20*time.Millisecond
	if change != nil {
		change(&cfg)
	}
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func socket(t testing.TB) string { return filepath.Join(t.TempDir(), "usp.sock") }

func TestSuite(t *testing.T) {
	mtptest.Run(t, func(t *testing.T) mtptest.Bed {
		path := socket(t)
		s, c := newServer(t, path, nil), newClient(t, path, nil)
		return mtptest.Bed{
			Client: c, Server: s, ToClient: cliID, MaxRecord: 1 << 20,
			Drop: func() {
				if l := c.link.Load(); l != nil {
					l.nc.Close()
				}
			},
			Garbage: func(t *testing.T) {
				for _, b := range [][]byte{[]byte("GET / HTTP/1.0\r\n\r\n"), {0x5f, 0x55, 0x53, 0x50, 0xff, 0xff, 0xff, 0xff}, {0x5f}, nil} {
					nc := dial(t, path)
					nc.Write(b)
					nc.(*net.UnixConn).CloseWrite()
					io.Copy(io.Discard, nc) // until the server hangs up
					nc.Close()
				}
			},
		}
	})
}

func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	var nc net.Conn
	var err error
	for deadline := time.Now().Add(mtptest.Wait); ; time.Sleep(time.Millisecond) {
		if nc, err = net.Dial("unix", path); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	nc.SetDeadline(time.Now().Add(mtptest.Wait))
	t.Cleanup(func() { nc.Close() })
	return nc
}

// TestGoldenFrame compares with the example of the standard.
func TestGoldenFrame(t *testing.T) {
	const id = "os::00256D-0123456789"
	want := "5f555350" + "0000001a" + "01" + "00000015" + hex.EncodeToString([]byte(id))
	if got := hex.EncodeToString(appendFrame(nil, tlvHandshake, []byte(id))); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func frame(parts ...any) []byte { // type, value, type, value ...
	var body []byte
	for i := 0; i < len(parts); i += 2 {
		v := []byte(parts[i+1].(string))
		body = append(body, byte(parts[i].(int)), byte(len(v)>>24), byte(len(v)>>16), byte(len(v)>>8), byte(len(v)))
		body = append(body, v...)
	}
	n := len(body)
	return append([]byte{0x5f, 0x55, 0x53, 0x50, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, body...)
}

// expect reads one frame of one TLV.
func expect(t *testing.T, nc net.Conn, typ byte) string {
	t.Helper()
	body, err := readFrame(nc, 1<<20)
	if err != nil {
		t.Fatalf("waiting for a frame of type %d: %v", typ, err)
	}
	got, v, _, err := nextTLV(body)
	if err != nil || got != typ {
		t.Fatalf("frame of type %d (%q) %v, want %d", got, v, err, typ)
	}
	return string(v)
}

func expectEOF(t *testing.T, nc net.Conn) {
	t.Helper()
	if n, err := nc.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the connection is still open: %d %v", n, err)
	}
}

func TestHandshakeOrder(t *testing.T) {
	path := socket(t)
	p := mtptest.Start(t, newServer(t, path, nil), nil)
	nc := dial(t, path)
	nc.Write(frame(tlvRecord, "too early")) // R-UDS.20
	nc.Write(frame(99, "what?", tlvHandshake, cliID))
	if got := expect(t, nc, tlvHandshake); got != agentID { // R-UDS.17
		t.Errorf("server is %q", got)
	}
	if st := p.Up(); st.Peer.Claimed != cliID || !st.Peer.Local {
		t.Errorf("peer %+v", st.Peer)
	}
	nc.Write(frame(tlvHandshake, "self::other", 7, "new kind", tlvRecord, "one", tlvRecord, "two")) // R-UDS.15, R-UDS.19
	for _, want := range []string{"one", "two"} {
		if in := p.Next(); string(in.Record) != want || in.From.Claimed != cliID {
			t.Errorf("got %q from %q, want %q", in.Record, in.From.Claimed, want)
		}
	}
	nc.Write(frame(tlvError, "I do not like you")) // R-UDS.25
	if d := p.Down(); !strings.Contains(d.Reason, "I do not like you") {
		t.Errorf("reason %q", d.Reason)
	}
	expectEOF(t, nc)
}

func TestServerReportsFaults(t *testing.T) {
	path := socket(t)
	p := mtptest.Start(t, newServer(t, path, func(c *ServerConfig) { c.MaxRecord = 1000 }), nil)
	for _, c := range []struct {
		name      string
		handshake bool
		bytes     []byte
	}{
		{"empty endpoint id", false, frame(tlvHandshake, "")}, // R-UDS.21
		{"endpoint id with a blank", false, frame(tlvHandshake, "a b")},
		{"no sync", false, []byte("HELLO WORLD")}, // R-UDS.24
		{"no sync after handshake", true, []byte("HELLO WORLD")},
		{"frame too long", true, []byte{0x5f, 0x55, 0x53, 0x50, 0xff, 0xff, 0xff, 0xff}},
		{"frame too short", true, []byte{0x5f, 0x55, 0x53, 0x50, 0, 0, 0, 4, 3, 0, 0, 0}},
		{"TLV longer than the frame", true, []byte{0x5f, 0x55, 0x53, 0x50, 0, 0, 0, 6, 3, 0, 0, 0, 9, 1}},
		{"rest of a TLV", true, append([]byte{0x5f, 0x55, 0x53, 0x50, 0, 0, 0, 7}, 3, 0, 0, 0, 1, 1, 3)},
		{"empty record", true, frame(tlvRecord, "")},
		{"record over the limit", true, frame(tlvRecord, strings.Repeat("x", 1001))},
	} {
		nc := dial(t, path)
		if c.handshake {
			nc.Write(frame(tlvHandshake, cliID))
			expect(t, nc, tlvHandshake)
			p.Up()
		}
		nc.Write(c.bytes)
		if c.name == "rest of a TLV" {
			p.Next() // the first TLV is in order
		}
		if text := expect(t, nc, tlvError); text == "" {
			t.Errorf("%s: no text", c.name)
		}
		expectEOF(t, nc)
		if c.handshake {
			p.Down()
		}
	}
	nc := dial(t, path)
	nc.Write(append(frame(tlvHandshake, cliID), frame(tlvRecord, "bad")...))
	expect(t, nc, tlvHandshake)
	p.Next().Reject("not a record") // R-UDS.23
	if text := expect(t, nc, tlvError); text != "not a record" {
		t.Errorf("error %q", text)
	}
	expectEOF(t, nc)
}

func TestHandshakeTimeouts(t *testing.T) {
	path := socket(t)
	mtptest.Start(t, newServer(t, path, func(c *ServerConfig) { c.HandshakeTimeout = 50 * time.Millisecond }), nil)
	nc := dial(t, path)
	expectEOF(t, nc) // the server does not wait for ever
	mute := socket(t)
	ln, err := net.Listen("unix", mute)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c := mtptest.Start(t, newClient(t, mute, func(c *ClientConfig) { c.HandshakeTimeout = 50 * time.Millisecond }), nil)
	if f := c.Failed(); !strings.Contains(f.Reason, "no handshake within") { // R-UDS.18
		t.Errorf("reason %q", f.Reason)
	}
	c.Stop()
}

func TestClientSpeaksFirst(t *testing.T) { // R-UDS.16
	path := socket(t)
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c := mtptest.Start(t, newClient(t, path, nil), nil)
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(mtptest.Wait))
	if got := expect(t, nc, tlvHandshake); got != cliID {
		t.Errorf("client is %q", got)
	}
	nc.Write(frame(tlvHandshake, agentID))
	if st := c.Up(); st.Peer.Claimed != agentID {
		t.Errorf("peer %+v", st.Peer)
	}
	c.Send("", []byte("rec"))
	if got := expect(t, nc, tlvRecord); got != "rec" {
		t.Errorf("record %q", got)
	}
}

func TestSocketFile(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	path := socket(t)
	p := mtptest.Start(t, newServer(t, path, nil), nil)
	dial(t, path).Close()
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v %v", fi, err)
	}
	second := mtptest.Start(t, newServer(t, path, nil), nil)
	if f := second.Failed(); !strings.Contains(f.Reason, "another process listens") {
		t.Errorf("reason %q", f.Reason)
	}
	second.Stop()
	dial(t, path).Close() // the first was not harmed
	p.Stop()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket is still there: %v", err)
	}
}

// A socket file that somebody deletes, or puts another socket in place of, comes back; what took its place is not touched.
func TestLostSocketIsMadeAgain(t *testing.T) {
	path := socket(t)
	s := newServer(t, path, nil)
	s.retry = 20 * time.Millisecond
	p := mtptest.Start(t, s, nil)
	nc := dial(t, path)
	nc.Write(frame(tlvHandshake, cliID))
	expect(t, nc, tlvHandshake)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if f := p.Failed(); !strings.Contains(f.Reason, "socket was lost") {
		t.Errorf("reason %q", f.Reason)
	}
	nc = dial(t, path)
	nc.Write(frame(tlvHandshake, cliID))
	expect(t, nc, tlvHandshake)

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for f := p.Failed(); !strings.Contains(f.Reason, "not a socket"); f = p.Failed() {
	}
	p.Stop()
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("file: %q %v", b, err)
	}
}

func TestStaleSocket(t *testing.T) {
	path := socket(t)
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	// Somebody listens without our lock: not touched.
	first := mtptest.Start(t, newServer(t, path, nil), nil)
	if f := first.Failed(); !strings.Contains(f.Reason, "another process listens") {
		t.Errorf("reason %q", f.Reason)
	}
	first.Stop()
	ln.Close() // a dead process leaves the file
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	mtptest.Start(t, newServer(t, path, nil), nil)
	nc := dial(t, path) // refused until the server has replaced the file
	nc.Write(frame(tlvHandshake, cliID))
	expect(t, nc, tlvHandshake)
}

func TestOtherFilesAreKept(t *testing.T) {
	path := socket(t)
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := mtptest.Start(t, newServer(t, path, nil), nil)
	if f := p.Failed(); !strings.Contains(f.Reason, "not a socket") {
		t.Errorf("reason %q", f.Reason)
	}
	p.Stop()
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("file: %q %v", b, err)
	}
}

func TestConnectionLimit(t *testing.T) {
	path := socket(t)
	mtptest.Start(t, newServer(t, path, func(c *ServerConfig) { c.MaxConnections = 1 }), nil)
	first := dial(t, path)
	first.Write(frame(tlvHandshake, cliID))
	expect(t, first, tlvHandshake)
	if text := expect(t, dial(t, path), tlvError); text != "too many sessions" {
		t.Errorf("error %q", text)
	}
}

func TestValidate(t *testing.T) {
	for name, change := range map[string]func(*ServerConfig){
		"no path":   func(c *ServerConfig) { c.Path = "" },
		"long path": func(c *ServerConfig) { c.Path = strings.Repeat("x", 108) },
		"mode":      func(c *ServerConfig) { c.Mode = 0o400 },
		"no id":     func(c *ServerConfig) { c.EndpointID = "" },
		"sessions":  func(c *ServerConfig) { c.MaxConnections = 0 },
		"handshake": func(c *ServerConfig) { c.HandshakeTimeout = 0 },
		"record":    func(c *ServerConfig) { c.MaxRecord = 1 },
	} {
		c := DefaultServerConfig()
		c.Path, c.EndpointID = "x", agentID
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&c)
		if _, err := NewServer(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	c := DefaultClientConfig()
	c.Path, c.EndpointID, c.RetryMax = "x", cliID, 0
	if _, err := NewClient(c); err == nil {
		t.Error("empty retry range: accepted")
	}
}

// FuzzFrame: whatever is read as a frame is cut into TLVs without panic and without touching bytes outside.
func FuzzFrame(f *testing.F) {
	f.Add(frame(tlvHandshake, cliID))
	f.Add(frame(tlvRecord, "x", tlvError, "y"))
	f.Add([]byte{0x5f, 0x55, 0x53, 0x50, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0x5f, 0x55, 0x53, 0x50, 0, 0, 0, 6, 3, 0, 0, 0, 9, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		body, err := readFrame(bufio.NewReader(bytes.NewReader(data)), 1<<16)
		if err != nil {
			return
		}
		var again []byte
		for rest := body; len(rest) > 0; {
			typ, v, r, err := nextTLV(rest)
			if err != nil {
				if !errors.Is(err, errFrame) {
					t.Fatal(err)
				}
				return
			}
			again = append(again, appendFrame(nil, typ, v)[headerSize:]...)
			rest = r
		}
		if !bytes.Equal(again, body) {
			t.Fatal("TLVs changed")
		}
	})
}

func TestClipText(t *testing.T) {
	for _, s := range []string{"", "short", strings.Repeat("é", maxText), "x" + strings.Repeat("é", maxText)} {
		c := clipText(s)
		if len(c) > maxText || !strings.HasPrefix(s, c) || strings.ToValidUTF8(c, "") != c {
			t.Errorf("%d bytes became %d: %s", len(s), len(c), fmt.Sprintf("%q", c[max(0, len(c)-4):]))
		}
	}
}
