package httpc

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seen is what a test server noted of one request.
type seen struct {
	method, path, body, auth, remote string
	header                           http.Header
	contentLength                    int64
}

// server notes every request and answers by the script, one function a request; the last one repeats.
type server struct {
	*httptest.Server
	mu   sync.Mutex
	reqs []seen
}

func serve(t *testing.T, secure bool, script ...http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		n := len(s.reqs)
		s.reqs = append(s.reqs, seen{r.Method, r.URL.RequestURI(), string(body), r.Header.Get("Authorization"), r.RemoteAddr, r.Header.Clone(), r.ContentLength})
		s.mu.Unlock()
		script[min(n, len(script)-1)](w, r)
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

func (s *server) requests() []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]seen(nil), s.reqs...)
}

func answer(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
}

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

func open(t *testing.T, cfg Config) *Session {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := c.Session()
	t.Cleanup(s.Close)
	return s
}

func post(t *testing.T, s *Session, body string) *Response {
	t.Helper()
	r, err := s.Post(t.Context(), []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// toLoopback sends every name to this machine.
func toLoopback(ctx context.Context, network, address string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:"+port)
}

func TestHeadersOnTheWire(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan string, 2)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		r := bufio.NewReader(c)
		for range 2 {
			var head strings.Builder
			length := 0
			for {
				line, err := r.ReadString('\n')
				if err != nil || line == "\r\n" {
					break
				}
				head.WriteString(line)
				fmt.Sscanf(line, "Content-Length: %d", &length)
			}
			_, _ = io.CopyN(io.Discard, r, int64(length))
			got <- head.String()
			_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	}()
	s := open(t, Config{URL: "http://" + l.Addr().String() + "/acs"})
	post(t, s, "<x/>")
	post(t, s, "")
	soap, empty := <-got, <-got
	if !strings.Contains(soap, "\r\nSOAPAction: \r\n") { // exact spelling, no value
		t.Errorf("no bare SOAPAction in %q", soap)
	}
	if !strings.Contains(soap, "\r\nContent-Type: text/xml; charset=utf-8\r\n") || strings.Contains(soap, "Accept-Encoding") {
		t.Errorf("header %q", soap)
	}
	if !strings.HasPrefix(soap, "POST /acs HTTP/1.1\r\n") {
		t.Errorf("request line of %q", soap)
	}
	for _, unwanted := range []string{"SOAPAction", "Content-Type"} {
		if strings.Contains(empty, unwanted) {
			t.Errorf("empty POST has %s: %q", unwanted, empty)
		}
	}
	if !strings.Contains(empty, "\r\nContent-Length: 0\r\n") {
		t.Errorf("empty POST without length: %q", empty)
	}
}

func TestOneConnectionForTheSession(t *testing.T) {
	srv := serve(t, false, answer("<a/>"))
	s := open(t, Config{URL: srv.URL})
	for range 20 {
		post(t, s, "<x/>")
	}
	for _, r := range srv.requests() {
		if r.remote != srv.requests()[0].remote {
			t.Fatal("more than one connection")
		}
	}
	if st := s.Stats(); st.Connections != 1 || st.Posts != 20 || st.Received != 80 || st.Sent != 80 {
		t.Errorf("stats %+v", st)
	}
}

func TestCleanCloseOpensAnotherConnection(t *testing.T) {
	srv := serve(t, false, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "7"})
		_, _ = io.WriteString(w, "<a/>")
	})
	s := open(t, Config{URL: srv.URL})
	for range 3 {
		post(t, s, "<x/>")
	}
	reqs := srv.requests()
	if reqs[0].remote == reqs[1].remote || reqs[1].remote == reqs[2].remote {
		t.Error("connection was not closed")
	}
	if reqs[2].header.Get("Cookie") != "session=7" {
		t.Errorf("cookie lost: %q", reqs[2].header.Get("Cookie"))
	}
}

func TestCookies(t *testing.T) {
	long := strings.Repeat("v", 500)
	srv := serve(t, false,
		status(200, "Set-Cookie", "a=1; Path=/", "Set-Cookie", "b="+long+"; Path=/acs", "Set-Cookie", "c=3; Path=/elsewhere"),
		status(200, "Set-Cookie", "a=; Max-Age=0; Path=/"),
		answer(""))
	client, err := New(Config{URL: srv.URL + "/acs"})
	if err != nil {
		t.Fatal(err)
	}
	s := client.Session()
	defer s.Close()
	for range 3 {
		post(t, s, "<x/>")
	}
	reqs := srv.requests()
	if c := reqs[1].header.Get("Cookie"); !strings.Contains(c, "a=1") || !strings.Contains(c, "b="+long) || strings.Contains(c, "c=3") {
		t.Errorf("second request has %q", c)
	}
	if c := reqs[2].header.Get("Cookie"); c != "b="+long {
		t.Errorf("after deletion %q", c)
	}
	other := client.Session() // cookies end with the session
	defer other.Close()
	post(t, other, "<x/>")
	if c := srv.requests()[3].header.Get("Cookie"); c != "" {
		t.Errorf("next session has %q", c)
	}
}

func TestCookieFlood(t *testing.T) {
	srv := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		for i := range 100 {
			http.SetCookie(w, &http.Cookie{Name: fmt.Sprintf("%p%d", r, i), Value: "x"})
		}
	})
	s := open(t, Config{URL: srv.URL})
	for range 5 {
		post(t, s, "<x/>")
	}
	if n := len(s.jar.Cookies(s.target)); n > maxCookies {
		t.Errorf("%d cookies kept", n)
	}
}

func TestRedirects(t *testing.T) {
	for _, code := range []int{301, 302, 307, 308} {
		end := serve(t, false, answer("<a/>"))
		start := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", end.URL+"/other?q=1")
			w.WriteHeader(code)
		})
		client, err := New(Config{URL: start.URL})
		if err != nil {
			t.Fatal(err)
		}
		s := client.Session()
		if string(post(t, s, "<inform/>").Body) != "<a/>" {
			t.Fatal("answer lost")
		}
		post(t, s, "<more/>")
		got := end.requests()
		if len(got) != 2 || got[0].method != "POST" || got[0].body != "<inform/>" || got[0].path != "/other?q=1" || got[0].header["Soapaction"] == nil {
			t.Fatalf("%d: target got %+v", code, got)
		}
		if len(start.requests()) != 1 {
			t.Fatal("the second message went to the old place")
		}
		s.Close()
		next := client.Session() // only for the remaining session
		post(t, next, "<x/>")
		next.Close()
		if len(start.requests()) != 2 {
			t.Fatal("the next session did not start at the configured URL")
		}
	}
}

func TestRedirectLimit(t *testing.T) {
	hops := 0
	srv := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		if hops--; hops < 0 {
			return
		}
		w.Header().Set("Location", fmt.Sprintf("/%d", hops))
		w.WriteHeader(302)
	})
	hops = 5
	post(t, open(t, Config{URL: srv.URL}), "<x/>")
	hops = 6
	_, err := open(t, Config{URL: srv.URL}).Post(t.Context(), []byte("<x/>"))
	if !errors.Is(err, ErrRedirectLimit) {
		t.Errorf("six redirects: %v", err)
	}
}

func TestRedirectRefused(t *testing.T) {
	for _, location := range []string{"", "ftp://127.0.0.1/", "http://", "http://[::1", "://"} {
		srv := serve(t, false, status(302, "Location", location))
		if r, err := open(t, Config{URL: srv.URL}).Post(t.Context(), []byte("<x/>")); err == nil {
			t.Errorf("Location %q gives %+v", location, r)
		}
	}
}

func TestRedirectKeepsCredentialsHome(t *testing.T) {
	challenge := status(401, "WWW-Authenticate", `Digest realm="r", nonce="n", qop="auth"`)
	for _, trust := range []bool{false, true} {
		end := serve(t, false, challenge, answer("<a/>"))
		other := strings.Replace(end.URL, "127.0.0.1", "localhost", 1)
		start := serve(t, false, status(302, "Location", other))
		s := open(t, Config{URL: start.URL, Username: "u", Password: "p", TrustRedirects: trust,
			DialContext: toLoopback})
		_, err := s.Post(t.Context(), []byte("<x/>"))
		if trust && err != nil || !trust && !errors.Is(err, ErrNoCredentials) {
			t.Errorf("trust %v: %v", trust, err)
		}
		for _, r := range end.requests() {
			if !trust && r.auth != "" {
				t.Error("credentials were sent to another host")
			}
		}
	}
}

func TestBodies(t *testing.T) {
	gz := func(s string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = io.WriteString(w, s)
		_ = w.Close()
		return b.String()
	}
	zl := func(s string) string {
		var b bytes.Buffer
		w := zlib.NewWriter(&b)
		_, _ = io.WriteString(w, s)
		_ = w.Close()
		return b.String()
	}
	coded := func(coding, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", coding)
			w.Header().Set("Content-Type", `text/xml; charset="ISO-8859-1"`)
			_, _ = io.WriteString(w, body)
		}
	}
	big := strings.Repeat("x", 100_000)
	for name, c := range map[string]struct {
		h    http.HandlerFunc
		want string
		cut  bool
		fail bool
	}{
		"plain":     {h: answer("<a/>"), want: "<a/>"},
		"empty 200": {h: answer("")},
		"blank 200": {h: answer("\r\n")},
		"204":       {h: status(204)},
		"gzip":      {h: coded("gzip", gz("<a/>")), want: "<a/>"},
		"deflate":   {h: coded("deflate", zl("<a/>")), want: "<a/>"},
		"empty gz":  {h: coded("gzip", "")},
		"bad gzip":  {h: coded("gzip", "not gzip at all"), fail: true},
		"cut gzip":  {h: coded("gzip", gz("<abcdefg/>")[:20]), fail: true},
		"brotli":    {h: coded("br", "?"), fail: true},
		"limit":     {h: answer(big[:65536]), want: big[:65536]},
		"too long":  {h: answer(big), want: big[:65536], cut: true},
		"bomb":      {h: coded("gzip", gz(strings.Repeat("\x00", 8<<20))), want: strings.Repeat("\x00", 65536), cut: true},
		"chunked": {h: func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < 70; i += 7 {
				_, _ = io.WriteString(w, big[:7])
				w.(http.Flusher).Flush()
			}
		}, want: big[:70]},
	} {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, false, c.h)
			s := open(t, Config{URL: srv.URL, MaxResponseBytes: 65536})
			r, err := s.Post(t.Context(), []byte("<x/>"))
			if c.fail {
				if err == nil {
					t.Fatal("accepted")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if string(r.Body) != c.want || r.Truncated != c.cut {
				t.Fatalf("%d bytes, truncated %v", len(r.Body), r.Truncated)
			}
			if name == "gzip" && r.Charset != "ISO-8859-1" {
				t.Errorf("charset %q", r.Charset)
			}
			if !c.cut { // the connection is used again
				post(t, s, "<y/>")
				if s.Stats().Connections != 1 {
					t.Errorf("%d connections", s.Stats().Connections)
				}
			}
		})
	}
}

func TestCompressedRequest(t *testing.T) {
	for _, coding := range []Compression{GZIP, Deflate} {
		srv := serve(t, false, answer("<a/>"), status(415))
		s := open(t, Config{URL: srv.URL, Compression: coding})
		post(t, s, "<hello/>")
		r := srv.requests()[0]
		if r.header.Get("Content-Encoding") != string(coding) || r.header.Get("Accept-Encoding") == "" {
			t.Errorf("header %v", r.header)
		}
		plain, err := decompress(strings.NewReader(r.body), string(coding))
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(plain); string(b) != "<hello/>" {
			t.Errorf("body %q", b)
		}
		_, err = s.Post(t.Context(), []byte("<x/>"))
		var st *StatusError
		if !errors.As(err, &st) || st.Code != 415 {
			t.Errorf("415 gives %v", err)
		}
	}
}

func TestStatusErrors(t *testing.T) {
	for _, code := range []int{400, 403, 404, 500, 501, 503, 201} {
		srv := serve(t, false, status(code, "Retry-After", "120"))
		_, err := open(t, Config{URL: srv.URL}).Post(t.Context(), []byte("<x/>"))
		var st *StatusError
		if !errors.As(err, &st) || st.Code != code || st.RetryAfter != 2*time.Minute {
			t.Errorf("%d gives %v", code, err)
		}
	}
}

// raw answers one connection with bytes, then closes.
func raw(t *testing.T, text string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(c)
			if req, err := http.ReadRequest(r); err == nil {
				_, _ = io.Copy(io.Discard, req.Body)
			}
			_, _ = io.WriteString(c, text)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return "http://" + l.Addr().String()
}

func TestMisbehavingServers(t *testing.T) {
	if r := post(t, open(t, Config{URL: raw(t, "HTTP/1.0 200 OK\r\nContent-Type: text/xml\r\n\r\n<a/>")}), "<x/>"); string(r.Body) != "<a/>" {
		t.Errorf("HTTP/1.0 body %q", r.Body)
	}
	for _, text := range []string{
		"", "garbage\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n<a/>", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 200<<10) + "\r\n\r\n",
	} {
		if r, err := open(t, Config{URL: raw(t, text)}).Post(t.Context(), []byte("<x/>")); err == nil {
			t.Errorf("%.40q gives %+v", text, r)
		}
	}
}

func TestSilence(t *testing.T) {
	release := make(chan struct{})
	wait := func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}
	drip := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, "<a>")
		w.(http.Flusher).Flush()
		wait(w, r)
	}
	defer close(release)
	for name, h := range map[string]http.HandlerFunc{"header": wait, "body": drip} {
		srv := serve(t, false, h)
		c, err := New(Config{URL: srv.URL})
		if err != nil {
			t.Fatal(err)
		}
		c.cfg.Timeout = 100 * time.Millisecond // Validate allows no less than 30 s
		s := c.Session()
		if _, err := s.Post(t.Context(), []byte("<x/>")); !errors.Is(err, ErrStalled) {
			t.Errorf("silent %s: %v", name, err)
		}
		s.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		c.cfg.Timeout = time.Minute
		s = c.Session()
		if _, err := s.Post(ctx, []byte("<x/>")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("context and silent %s: %v", name, err)
		}
		cancel()
		s.Close()
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "URL"},
		{Config{URL: "ftp://x/"}, "scheme"},
		{Config{URL: "http://"}, "no host"},
		{Config{URL: "http://u:secretpass@h/"}, "user information"},
		{Config{URL: "http://u:secretpass@h:port/"}, "URL"},
		{Config{URL: "http://h/", Timeout: time.Second}, "Timeout"},
		{Config{URL: "http://h/", Compression: "br"}, "Compression"},
		{Config{URL: "http://h/", MaxResponseBytes: -1}, "MaxResponseBytes"},
	} {
		_, err := New(c.cfg)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secretpass") {
			t.Errorf("%+v: %v", c.cfg.URL, err)
		}
	}
}

func TestSecretDoesNotPrint(t *testing.T) {
	cfg := Config{URL: "http://h/", Username: "u", Password: "hunter2"}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "cfg", cfg, "password", cfg.Password)
	all := fmt.Sprintf("%v %+v %#v %s", cfg, cfg, cfg, cfg.Password) + log.String()
	if strings.Contains(all, "hunter2") {
		t.Error(all)
	}
}

// An ACS may close an idle connection at any time between two messages, without announcing it.
func TestSilentClose(t *testing.T) {
	srv := serve(t, false, answer("<a/>"))
	s := open(t, Config{URL: srv.URL})
	for range 5 {
		post(t, s, "<x/>")
		srv.CloseClientConnections()
		for deadline := time.Now().Add(5 * time.Second); s.alive.Load() > 0 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
	}
	if st := s.Stats(); st.Connections != 5 {
		t.Errorf("%+v", st)
	}
}

// What follows a 401 or a redirect is the whole message again, however big it is.
func TestBigBodyIsRepeated(t *testing.T) {
	big := strings.Repeat("<p>0123456789</p>", 200_000) // 3.4 MB
	d := newDigest("MD5")
	end := serve(t, false, d.ServeHTTP)
	start := serve(t, false, status(307, "Location", end.URL))
	s := open(t, Config{URL: start.URL, Username: "user é", Password: "pass:word"})
	post(t, s, big)
	for i, r := range append(start.requests(), end.requests()...) {
		if r.body != big || r.contentLength != int64(len(big)) {
			t.Errorf("request %d has %d bytes", i, len(r.body))
		}
	}
	if len(end.requests()) != 2 {
		t.Errorf("%d requests", len(end.requests()))
	}
}

func TestConnectTimeouts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel, answers nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	never := func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	for name, cfg := range map[string]Config{
		"TLS handshake": {URL: "https://" + l.Addr().String()},
		"TCP":           {URL: "http://192.0.2.1/", DialContext: never},
	} {
		cfg.ConnectTimeout = 50 * time.Millisecond
		begin := time.Now()
		_, err := open(t, cfg).Post(t.Context(), []byte("<x/>"))
		if !errors.Is(err, ErrStalled) || time.Since(begin) > 10*time.Second {
			t.Errorf("%s: %v after %v", name, err, time.Since(begin))
		}
	}
	closed := l.Addr().String()
	l.Close()
	if _, err := open(t, Config{URL: "http://" + closed}).Post(t.Context(), nil); err == nil || errors.Is(err, ErrStalled) {
		t.Errorf("refused connection: %v", err)
	}
}

// A connection that the ACS is about to close as idle is not used any more: the message could get lost.
func TestAnnouncedClose(t *testing.T) {
	srv := serve(t, false, status(200, "Keep-Alive", "timeout=1, max=100"))
	s := open(t, Config{URL: srv.URL})
	for range 3 {
		post(t, s, "<x/>")
	}
	if n := s.Stats().Connections; n != 1 {
		t.Errorf("%d connections for three messages at once", n)
	}
	time.Sleep(600 * time.Millisecond)
	post(t, s, "<x/>")
	if n := s.Stats().Connections; n != 2 {
		t.Errorf("%d connections after the announced time", n)
	}
	for header, want := range map[string]bool{"": false, "timeout": false, "timeout=-1": false, "max=5, Timeout=30": true, "timeout=99999999999": false} {
		if keepUntil(header).IsZero() == want {
			t.Errorf("%q", header)
		}
	}
}

// An ACS that takes a message and dies may have processed it: it is not sent again.
func TestNothingIsSentTwice(t *testing.T) {
	srv := serve(t, false, answer("<a/>"), func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	s := open(t, Config{URL: srv.URL})
	post(t, s, "<x/>")
	if _, err := s.Post(t.Context(), []byte("<y/>")); err == nil {
		t.Error("no error")
	}
	if n := len(srv.requests()); n != 2 {
		t.Errorf("%d requests", n)
	}
}
