package connreq

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icholy/digest"
	"go.uber.org/goleak"

	"twinspan/cwmp/acs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fixture struct {
	*Server
	url       string
	requested atomic.Int64
	user      atomic.Value
}

func start(t testing.TB, change func(*Config)) *fixture {
	t.Helper()
	f := &fixture{}
	f.user.Store("acs")
	cfg := Config{
		Address: "127.0.0.1:0", Path: NewPath(), Burst: 1000, PerMinute: 60,
		Credentials: func() (string, string) { return f.user.Load().(string), "secret" },
		Requested:   func() { f.requested.Add(1) },
	}
	if change != nil {
		change(&cfg)
	}
	s, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	f.Server = s
	f.url = URL(netip.MustParseAddr("127.0.0.1"), s.Port(), cfg.Path)
	return f
}

// calls waits until Requested was called n times: it comes after the answer. One call too many is seen too.
func (f *fixture) calls(t *testing.T, n int64) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for f.requested.Load() < n && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if got := f.requested.Load(); got != n {
		t.Errorf("Requested was called %d times, want %d", got, n)
	}
}

func ask(t *testing.T, url, user, password string) int {
	t.Helper()
	code, err := acs.ConnectionRequest(t.Context(), url, user, password)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func TestAnswers(t *testing.T) {
	f := start(t, nil)
	base := strings.TrimSuffix(f.url, f.cfg.Path)
	accepted := int64(0)
	for _, c := range []struct {
		name, url, user, password string
		want                      int
	}{
		{"right", f.url, "acs", "secret", 200},
		{"with query", f.url + "?x=1&y=2", "acs", "secret", 200},
		{"wrong password", f.url, "acs", "Secret", 401},
		{"wrong user", f.url, "root", "secret", 401},
		{"empty pair", f.url, "", "", 401},
		{"wrong path", base + "/", "acs", "secret", 404},
		{"longer path", f.url + "/x", "acs", "secret", 404},
	} {
		if got := ask(t, c.url, c.user, c.password); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
		if c.want == 200 {
			accepted++
		}
		f.calls(t, accepted)
	}
	f.user.Store("other") // new credentials work at once, the old ones no more
	if ask(t, f.url, "acs", "secret") != 401 || ask(t, f.url, "other", "secret") != 200 {
		t.Error("change of credentials")
	}
	f.user.Store("") // factory state: refused, not open
	if ask(t, f.url, "", "secret") != 401 || ask(t, f.url, "", "") != 401 {
		t.Error("empty user name was accepted")
	}
}

// exchange sends raw text and returns the answer.
func exchange(t *testing.T, f *fixture, request string) (*http.Response, string) {
	t.Helper()
	c, err := net.Dial("tcp", f.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(c, request)
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil, ""
	}
	defer r.Body.Close()
	body, _ := io.ReadAll(r.Body)
	return r, string(body)
}

func TestRawRequests(t *testing.T) {
	f := start(t, nil)
	get := "GET " + f.cfg.Path + " HTTP/1.1\r\nHost: x\r\n"
	for name, c := range map[string]struct {
		request string
		want    int
	}{
		"no credentials":  {get + "\r\n", 401},
		"basic":           {get + "Authorization: Basic YWNzOnNlY3JldA==\r\n\r\n", 401},
		"garbage digest":  {get + "Authorization: Digest username=\"acs\r\n\r\n", 401},
		"absolute form":   {"GET " + f.url + " HTTP/1.1\r\nHost: x\r\n\r\n", 401},
		"HTTP/1.0":        {"GET " + f.cfg.Path + " HTTP/1.0\r\n\r\n", 401},
		"HEAD":            {"HEAD " + f.cfg.Path + " HTTP/1.1\r\nHost: x\r\n\r\n", 405},
		"POST":            {"POST " + f.cfg.Path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", 405},
		"OPTIONS":         {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 405},
		"GET with body":   {get + "Content-Length: 3\r\n\r\nabc", 400},
		"chunked body":    {get + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 400},
		"other path":      {"GET /other HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		"escaped path":    {"GET /%2e" + f.cfg.Path + " HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		"header too long": {get + "X: " + strings.Repeat("y", 64<<10) + "\r\n\r\n", 431},
		"no HTTP":         {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400},
	} {
		r, body := exchange(t, f, c.request)
		if r == nil || r.StatusCode != c.want {
			t.Errorf("%s: %+v", name, r)
			continue
		}
		if c.want == 401 && (body != "" || len(r.Header.Values("WWW-Authenticate")) != 2) {
			t.Errorf("%s: %v %q", name, r.Header, body)
		}
	}
	if f.requested.Load() != 0 {
		t.Error("a session was asked for")
	}
}

// authorization makes the header for a challenge of the server.
func authorization(t *testing.T, f *fixture, algorithm, uri string, count int) (string, *digest.Challenge) {
	t.Helper()
	r, _ := exchange(t, f, "GET "+f.cfg.Path+" HTTP/1.1\r\nHost: x\r\n\r\n")
	for _, line := range r.Header.Values("WWW-Authenticate") {
		chal, err := digest.ParseChallenge(line)
		if err != nil || chal.Algorithm != algorithm {
			continue
		}
		cred, err := digest.Digest(chal, digest.Options{Method: "GET", URI: uri, Username: "acs", Password: "secret", Count: count, Cnonce: "c"})
		if err != nil {
			t.Fatal(err)
		}
		return cred.String(), chal
	}
	t.Fatal("no challenge for " + algorithm)
	return "", nil
}

func TestDigestDetails(t *testing.T) {
	f := start(t, nil)
	send := func(target, auth string) *http.Response {
		r, _ := exchange(t, f, "GET "+target+" HTTP/1.1\r\nHost: x\r\nAuthorization: "+auth+"\r\n\r\n")
		return r
	}
	for _, algorithm := range []string{"MD5", "SHA-256"} {
		auth, _ := authorization(t, f, algorithm, f.cfg.Path, 1)
		if r := send(f.cfg.Path, auth); r.StatusCode != 200 || r.ContentLength != 0 {
			t.Errorf("%s: %v", algorithm, r)
		}
		r := send(f.cfg.Path, auth) // replay of the nonce count
		if r.StatusCode != 401 || !strings.Contains(r.Header.Get("WWW-Authenticate"), "stale=true") {
			t.Errorf("replay: %v", r)
		}
	}
	auth, _ := authorization(t, f, "MD5", "/other", 1)
	if r := send(f.cfg.Path, auth); r.StatusCode != 401 {
		t.Error("uri of another path was accepted")
	}
	auth, _ = authorization(t, f, "MD5", f.cfg.Path+"?id=7", 1)
	if r := send(f.cfg.Path+"?id=8", auth); r.StatusCode != 200 {
		t.Error("the query was looked at")
	}
}

func TestRateLimit(t *testing.T) {
	f := start(t, func(c *Config) { c.Burst, c.PerMinute = 3, 60*20 })
	codes := map[int]int{}
	for range 6 {
		codes[ask(t, f.url, "acs", "secret")]++
	}
	if codes[200] < 3 || codes[503] < 1 {
		t.Errorf("%v", codes)
	}
	f.calls(t, int64(codes[200]))
	time.Sleep(120 * time.Millisecond) // two more have been refilled
	if code := ask(t, f.url, "acs", "secret"); code != 200 {
		t.Errorf("the limit does not recover: %d", code)
	}
	f = start(t, func(c *Config) { c.Burst, c.PerMinute = 1, 1 })
	ask(t, f.url, "acs", "secret")
	auth, _ := authorization(t, f, "MD5", f.cfg.Path, 1)
	r, _ := exchange(t, f, "GET "+f.cfg.Path+" HTTP/1.1\r\nHost: x\r\nAuthorization: "+auth+"\r\n\r\n")
	if r.StatusCode != 503 || r.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("%v", r)
	}
}

func TestInSession(t *testing.T) {
	busy := atomic.Bool{}
	busy.Store(true)
	f := start(t, func(c *Config) { c.RefuseInSession, c.InSession = true, busy.Load })
	if code := ask(t, f.url, "acs", "secret"); code != 503 {
		t.Error(code)
	}
	busy.Store(false)
	if code := ask(t, f.url, "acs", "secret"); code != 200 {
		t.Error(code)
	}
	f.calls(t, 1)
	if st := f.Stats(); st.InSession != 1 || st.Accepted != 1 || st.Unauthorized != 2 {
		t.Errorf("%+v", st)
	}
}

// The answer must have left when Requested is called: here the asker reads it while Requested waits.
func TestAnswerComesFirst(t *testing.T) {
	release := make(chan struct{})
	entered := make(chan struct{})
	f := start(t, func(c *Config) { c.Requested = func() { close(entered); <-release } })
	if code := ask(t, f.url, "acs", "secret"); code != 200 {
		t.Error(code)
	}
	<-entered
	closed := make(chan struct{})
	go func() { _ = f.Close(); close(closed) }()
	select {
	case <-closed:
		t.Error("Close did not wait for Requested")
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	<-closed
	if err := f.Close(); err != nil {
		t.Error("second Close:", err)
	}
	if c, err := net.Dial("tcp", f.addr.String()); err == nil {
		c.Close()
		t.Error("still listening")
	}
}

func TestConnectionBound(t *testing.T) {
	f := start(t, func(c *Config) { c.MaxConnections = 4 })
	var idle []net.Conn
	for range 4 {
		c, err := net.Dial("tcp", f.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	// The bound is reached once the server has accepted the four.
	var r *http.Response
	for range 100 {
		if r, _ = exchange(t, f, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n"); r != nil && r.StatusCode == 503 {
			break
		}
	}
	if r == nil || r.StatusCode != 503 || r.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("%+v", r)
	}
	for _, c := range idle {
		c.Close()
	}
	for range 100 {
		if code, err := acs.ConnectionRequest(t.Context(), f.url, "acs", "secret"); err == nil && code == 200 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Error("does not recover")
}

func TestSlowHeader(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the five seconds of the header limit")
	}
	t.Parallel()
	f := start(t, nil)
	c, err := net.Dial("tcp", f.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost:")
	_ = c.SetReadDeadline(time.Now().Add(2 * patience))
	begin := time.Now()
	_, _ = io.Copy(io.Discard, c)
	if d := time.Since(begin); d > patience+3*time.Second {
		t.Errorf("a half header is kept for %v", d)
	}
}

// A flood is refused without growing anything.
func TestFlood(t *testing.T) {
	f := start(t, nil)
	flood := func(n int) map[int]int {
		codes := map[int]int{}
		for i := range n {
			auth := ""
			if i%2 == 1 {
				auth = fmt.Sprintf("Authorization: Digest username=\"acs\", realm=%q, nonce=\"n%d\", uri=%q, response=\"%032d\"\r\n", DefaultRealm, i, f.cfg.Path, i)
			}
			if r, _ := exchange(t, f, "GET "+f.cfg.Path+" HTTP/1.1\r\nHost: x\r\n"+auth+"\r\n"); r != nil {
				codes[r.StatusCode]++
			}
		}
		return codes
	}
	flood(200)
	heap := liveHeap()
	codes := flood(2000)
	if codes[503] == 0 || codes[200] != 0 || codes[401]+codes[503] < 1900 {
		t.Errorf("%v", codes)
	}
	if grown := int64(liveHeap()) - int64(heap); grown > 512<<10 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	if f.requested.Load() != 0 {
		t.Error("Requested was called")
	}
}

func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestURL(t *testing.T) {
	for _, c := range []struct{ ip, want string }{
		{"192.0.2.7", "http://192.0.2.7:7547/p"},
		{"2001:db8::7", "http://[2001:db8::7]:7547/p"},
	} {
		if got := URL(netip.MustParseAddr(c.ip), 7547, "/p"); got != c.want {
			t.Error(got)
		}
	}
	if a, b := NewPath(), NewPath(); a == b || len(a) < 20 || a[0] != '/' {
		t.Error(a, b)
	}
}

func TestValidate(t *testing.T) {
	good := Config{Path: "/x", Credentials: func() (string, string) { return "", "" }, Requested: func() {}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Config){
		"Path":            func(c *Config) { c.Path = "x" },
		"query":           func(c *Config) { c.Path = "/x?y" },
		"Credentials":     func(c *Config) { c.Credentials = nil },
		"Requested":       func(c *Config) { c.Requested = nil },
		"RefuseInSession": func(c *Config) { c.RefuseInSession = true },
		"MaxConnections":  func(c *Config) { c.MaxConnections = -1 },
	} {
		bad := good
		change(&bad)
		if _, err := Start(bad); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	taken := start(t, nil)
	good.Address = taken.addr.String()
	if _, err := Start(good); err == nil {
		t.Error("two servers on one port")
	}
}

// BenchmarkFlood is one refused request over a connection of its own, client included.
func BenchmarkFlood(b *testing.B) {
	f := start(b, nil)
	request := []byte("GET " + f.cfg.Path + " HTTP/1.1\r\nHost: x\r\n\r\n")
	buf := make([]byte, 1024)
	b.ReportAllocs()
	for b.Loop() {
		c, err := net.Dial("tcp", f.addr.String())
		if err != nil {
			b.Fatal(err)
		}
		_, _ = c.Write(request)
		_, _ = c.Read(buf)
		_ = c.Close()
	}
}
