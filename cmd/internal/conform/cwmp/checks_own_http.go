package conformcwmp

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/icholy/digest"
)

// ownHTTPChecks fill holes of the catalogue: HTTP as servers and networks really speak it.
var ownHTTPChecks = map[string]check{
	"OWN-01": {run: func(ctx context.Context, b *bench) error {
		b.rawAnswer("GetParameterValues", time.Millisecond, func(body []byte) []byte { return plainAnswer("200 OK", "Content-Type: text/xml\r\n", body, len(body)) })
		_, err := b.get(ctx, b.code())
		return err
	}},
	"OWN-02": {run: cookieRules},
	"OWN-03": {run: func(ctx context.Context, b *bench) error {
		b.rawAnswer("GetParameterValues", 0, func(body []byte) []byte {
			return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nConnection: close\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n%X;part=1;q=\"a;b\"\r\n%s\r\n%X\r\n%s\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n",
				100, body[:100], len(body)-100, body[100:])
		})
		if _, err := b.get(ctx, b.code()); err != nil {
			return err
		}
		_, err := b.get(ctx, b.code())
		return err
	}},
	"OWN-04": {run: func(ctx context.Context, b *bench) error {
		return b.notCarriedOut(ctx, func(body []byte) []byte {
			var buf bytes.Buffer
			z := gzip.NewWriter(&buf)
			_, _ = z.Write(body) // to memory
			_ = z.Close()
			coded := buf.Bytes()
			coded[len(coded)-6] ^= 0x55 // its sum
			return plainAnswer("200 OK", "Content-Type: text/xml\r\nContent-Encoding: gzip\r\n", coded, len(coded))
		})
	}},
	"OWN-05": {run: func(ctx context.Context, b *bench) error {
		return b.notCarriedOut(ctx, func(body []byte) []byte {
			return plainAnswer("200 OK", "Content-Type: text/xml\r\n", body, len(body)+10)
		})
	}},
	"OWN-06": {run: redirectLoop},
	"OWN-07": {run: strangerHost},
	"OWN-08": {run: func(ctx context.Context, b *bench) error {
		b.tap.onAfter(func(x *exchange) bool { // what would be 204
			if x.Status == http.StatusNoContent && len(x.RespBody) == 0 {
				x.Raw = []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			}
			return false
		})
		for range 2 {
			if _, err := b.newSession(ctx); err != nil {
				return err
			}
			if _, err := b.get(ctx, b.code()); err != nil {
				return err
			}
		}
		b.endSession(ctx)
		mark := b.tap.mark()
		return b.quiet(ctx, mark, time.Second) // a session that failed would be tried again
	}},
	"OWN-09": {run: func(ctx context.Context, b *bench) error {
		b.rawAnswer("GetParameterValues", 0, func(body []byte) []byte { return plainAnswer("200 OK", "", body, len(body)) })
		_, err := b.get(ctx, b.code())
		return err
	}},
	"OWN-10": {run: func(ctx context.Context, b *bench) error {
		return b.ownChallenge(ctx, []string{`Basic realm="other", Negotiate`, `Digest realm="acs", nonce="n0", algorithm=SHA3-999, qop="auth"`,
			`Digest realm="acs", nonce="n1", algorithm=MD5, qop="auth-int,auth", charset=UTF-8`},
			digest.Challenge{Realm: "acs", Nonce: "n1", Algorithm: "MD5", QOP: []string{"auth"}})
	}},
	"OWN-11": {run: func(ctx context.Context, b *bench) error {
		b.tap.onAfter(func(x *exchange) bool {
			b.tap.rotate() // the nonce in use is stale, the announced one is good
			b.tap.mu.Lock()
			x.RespHeader.Set("Authentication-Info", `nextnonce="`+b.tap.auth.nonce+`", qop=auth`)
			b.tap.mu.Unlock()
			return false
		})
		mark := b.tap.mark()
		for range 4 {
			if _, err := b.get(ctx, b.code()); err != nil {
				return err
			}
		}
		refused := 0
		for _, x := range b.tap.since(mark) {
			if x.refused {
				refused++
			}
		}
		b.observe("%d of %d messages were challenged", refused, len(b.tap.since(mark)))
		return nil
	}},
	"OWN-12": {run: func(ctx context.Context, b *bench) error {
		return b.ownChallenge(ctx, []string{`Digest realm="the \"ACS\", inner", nonce="a,b=c", opaque="x\\y"`}, digest.Challenge{Realm: `the "ACS", inner`, Nonce: "a,b=c", Opaque: `x\y`})
	}},
	"OWN-13": {run: func(ctx context.Context, b *bench) error {
		return b.retried(ctx, func(x *exchange) {
			x.Status, x.RespHeader = http.StatusOK, http.Header{"Content-Type": {"text/html"}}
			x.RespBody = []byte("<!DOCTYPE html><html><head><title>Welcome</title></head><body><p>Please log in<br></body></html>")
		}, time.Second, 2*time.Second, true)
	}},
	"OWN-14": {run: func(ctx context.Context, b *bench) error {
		return b.retried(ctx, func(x *exchange) {
			x.Status, x.RespHeader = http.StatusInternalServerError, http.Header{"Content-Type": {"text/xml"}}
			x.RespBody = []byte(`<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body><e:Fault><faultcode>e:Server</faultcode><faultstring>no</faultstring></e:Fault></e:Body></e:Envelope>`)
		}, time.Second, 2*time.Second, true)
	}},
	"OWN-15": {run: func(ctx context.Context, b *bench) error {
		b.rawAnswer("GetParameterValues", 0, func(body []byte) []byte {
			return append([]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"), plainAnswer("200 OK", "Content-Type: text/xml\r\n", body, len(body))...)
		})
		_, err := b.get(ctx, b.code())
		return err
	}},
}

// plainAnswer is an HTTP/1.1 answer whose Content-Length may lie.
func plainAnswer(status, header string, body []byte, length int) []byte {
	return append(fmt.Appendf(nil, "HTTP/1.1 %s\r\n%sContent-Length: %d\r\nConnection: close\r\n\r\n", status, header, length), body...)
}

// rawAnswer makes the next request with a method go out as make has it.
func (b *bench) rawAnswer(method string, pause time.Duration, make func(body []byte) []byte) {
	var once sync.Once
	b.tap.onAfter(func(x *exchange) bool {
		if x.reply() == method {
			once.Do(func() { x.Raw, x.RawPause = make(x.RespBody), pause })
		}
		return false
	})
}

// notCarriedOut sends a SetParameterValues that is whole but for its transport; the CPE must not take it.
func (b *bench) notCarriedOut(ctx context.Context, make func(body []byte) []byte) error {
	if err := b.set(ctx, "", b.code(), "before"); err != nil {
		return err
	}
	b.rawAnswer("SetParameterValues", 0, make)
	short, cancel := brief(ctx)
	defer cancel()
	if _, err := b.setRaw(short, "", b.code(), "after"); err == nil {
		return errors.New("it was carried out and answered")
	}
	b.tap.clearHooks()
	if err := b.alive(ctx); err != nil {
		return err
	}
	return b.wantValue(ctx, b.code(), "before")
}

// cookieRules wants RFC 6265 for what a CPE needs of it.
func cookieRules(ctx context.Context, b *bench) error {
	if _, err := b.informAnswer(ctx, func(x *exchange) {
		for _, c := range []string{"plain=1", "root=1; Path=/", "own=1; Path=" + x.Path, "elsewhere=1; Path=/other", "secure=1; Path=/; Secure", "gone=1; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
			"zero=1; Path=/; Max-Age=0", "later=1; Path=/; Max-Age=3600", "foreign=1; Path=/; Domain=example.com", `odd=a="b"; Path=/; HttpOnly; SameSite=Lax; Unknown=x`, "bad name=1; Path=/", "=1; Path=/"} {
			x.RespHeader.Add("Set-Cookie", c)
		}
	}); err != nil {
		return err
	}
	if _, err := b.get(ctx, b.code()); err != nil {
		return err
	}
	x := b.lastExchange("GetParameterValuesResponse")
	b.observe("Cookie: %s", x.Header.Get("Cookie"))
	for _, name := range []string{"plain", "root", "own", "later"} {
		if v, ok := cookieOf(x, name); !ok || v != "1" {
			return fmt.Errorf("the cookie %s did not come back: %q", name, x.Header.Get("Cookie"))
		}
	}
	local := net.ParseIP(hostOf(b.base)).IsLoopback() // counts as secure to many
	for _, name := range []string{"elsewhere", "secure", "gone", "zero", "foreign"} {
		if _, ok := cookieOf(x, name); ok && !(local && name == "secure") {
			return fmt.Errorf("the cookie %s came back: %q", name, x.Header.Get("Cookie"))
		}
	}
	return nil
}

func redirectLoop(ctx context.Context, b *bench) error {
	b.endSession(ctx)
	b.tap.setAuth("", "")
	b.tap.onBefore(func(x *exchange) bool {
		next := "/a"
		if x.Path == "/a" {
			next = "/b"
		}
		x.Status, x.RespHeader = http.StatusFound, http.Header{"Location": {b.base + next}}
		return true
	})
	mark := b.tap.mark()
	if err := b.request(ctx); err != nil {
		return err
	}
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	n := len(b.tap.since(mark))
	b.observe("%d POSTs in 2 s", n)
	if n < 2 || n > 12 {
		return fmt.Errorf("%d POSTs in 2 s", n)
	}
	b.tap.clearHooks()
	return b.alive(ctx)
}

// strangerHost redirects to another name of the same machine, which asks for credentials.
func strangerHost(ctx context.Context, b *bench) error {
	other, err := b.tap.listen("127.0.0.1:0", nil)
	if err != nil {
		return err
	}
	if err := b.fastRetry(ctx); err != nil {
		return err
	}
	b.endSession(ctx)
	b.tap.onBefore(func(x *exchange) bool {
		if x.Listener == other || x.inform() == nil {
			return false
		}
		x.Status, x.RespHeader = http.StatusTemporaryRedirect, http.Header{"Location": {"http://localhost:" + portOf(other) + "/acs"}}
		return true
	})
	mark := b.tap.mark()
	if err := b.request(ctx); err != nil {
		return err
	}
	if err := pause(ctx, 1500*time.Millisecond); err != nil {
		return err
	}
	there := 0
	for _, x := range b.tap.since(mark) {
		if x.Listener != other {
			continue
		}
		there++
		if x.Header.Get("Authorization") != "" {
			return errors.New("the credentials of the ACS went to another host")
		}
	}
	b.observe("%d POSTs reached the other host, none with credentials", there)
	if len(b.tap.since(mark)) == 0 {
		return errors.New("no session came that could be redirected")
	}
	b.tap.clearHooks()
	return b.alive(ctx)
}

// ownChallenge lets every message be challenged in other words than the tap's, and checks the answer.
func (b *bench) ownChallenge(ctx context.Context, lines []string, c digest.Challenge) error {
	b.endSession(ctx)
	b.tap.setAuth("", "")
	var mu sync.Mutex
	good := 0
	b.tap.onBefore(func(x *exchange) bool {
		cred, err := digest.ParseCredentials(x.Header.Get("Authorization"))
		if err == nil && cred.Nonce == c.Nonce && cred.Realm == c.Realm && cred.Opaque == c.Opaque {
			want, err := digest.Digest(&c, digest.Options{Method: x.Method, URI: cred.URI, Username: cred.Username, Password: b.password, Count: cred.Nc, Cnonce: cred.Cnonce})
			if err == nil && want.Response == cred.Response {
				mu.Lock()
				good++
				mu.Unlock()
				return false
			}
		}
		x.Status, x.RespHeader, x.refused = http.StatusUnauthorized, http.Header{"Www-Authenticate": lines}, true
		return true
	})
	short, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	if _, err := b.newSession(short); err != nil {
		return fmt.Errorf("%s is not answered: %w", strings.Join(lines, ", "), err)
	}
	if _, err := b.get(short, b.code()); err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	b.observe("%d messages were authenticated", good)
	return nil
}
