package conformcwmp

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

var httpChecks = map[string]check{
	"HTTP-02": {run: func(ctx context.Context, b *bench) error {
		b.tap.onAfter(func(x *exchange) bool { x.ChunkBytes = 7; return false })
		return b.alive(ctx)
	}},
	"HTTP-04": {run: func(ctx context.Context, b *bench) error { return b.redirected(ctx, http.StatusFound) }},
	"HTTP-05": {run: func(ctx context.Context, b *bench) error { return b.redirected(ctx, http.StatusTemporaryRedirect) }},
	"HTTP-06": {run: redirectChain},
	"HTTP-07": {run: func(ctx context.Context, b *bench) error {
		if err := b.redirected(ctx, http.StatusFound); err != nil {
			return err
		}
		b.tap.clearHooks()
		x, err := b.newSession(ctx)
		if err != nil {
			return err
		}
		if x.Listener != b.base {
			return fmt.Errorf("the next session starts at %s", x.Listener)
		}
		return nil
	}},
	"HTTP-09": {needs: []ability{canTrust}, run: downgrade},
	"HTTP-11": {run: staleNonce},
	"HTTP-12": {run: func(ctx context.Context, b *bench) error {
		b.endSession(ctx)
		b.tap.setAuth("Digest", "SHA-256")
		short, cancel := context.WithTimeout(ctx, 4*time.Second)
		_, err := b.newSession(short)
		cancel()
		if err == nil {
			b.observe("answered")
			return nil
		}
		b.observe("the session failed: %v", err)
		b.tap.setAuth("Digest", "MD5")
		return b.alive(ctx)
	}},
	"HTTP-13": {needs: []ability{canTrust}, run: basicOverTLS},
	"HTTP-16": {run: challengedAgain},
	"HTTP-17": {run: challengeConnections},
	"HTTP-19": {run: basicInClear},
	"HTTP-20": {run: endlessChallenge},
	"HTTP-21": {needs: []ability{canFresh}, run: factoryUserName},
	"HTTP-22": {run: compression},
	"HTTP-23": {run: codingRefused},
	"HTTP-24": {run: func(ctx context.Context, b *bench) error {
		b.endSession(ctx)
		b.tap.onAfter(gzipAnswer)
		short, cancel := brief(ctx)
		_, err := b.newSession(short)
		if err == nil {
			_, err = b.get(short, b.code())
		}
		cancel()
		b.observe("the session: %s", outcome(err))
		b.tap.clearHooks()
		return b.alive(ctx)
	}},
	"HTTP-25": {run: func(ctx context.Context, b *bench) error {
		b.endSession(ctx)
		b.tap.onAfter(func(x *exchange) bool { x.HTTP10 = len(x.RespBody) > 0; return false })
		return b.alive(ctx)
	}},
}

// redirected sends the session of one Inform elsewhere and sees that it stays there.
func (b *bench) redirected(ctx context.Context, status int) error {
	b.endSession(ctx)
	b.tap.setAuth("", "") // whether credentials follow is another question
	other, err := b.tap.listen(hostOf(b.base)+":0", nil)
	if err != nil {
		return err
	}
	b.tap.onBefore(func(x *exchange) bool {
		if x.Listener == other || x.inform() == nil {
			return false
		}
		x.Status, x.RespHeader = status, http.Header{"Location": {other + "/elsewhere"}}
		return true
	})
	mark := b.tap.mark()
	if _, err := b.newSession(ctx); err != nil {
		return err
	}
	again, err := b.tap.wait(ctx, mark, func(x *exchange) bool { return x.Listener == other })
	if err != nil {
		return fmt.Errorf("the redirect was not followed: %w", err)
	}
	first := b.tap.since(mark)[0]
	switch {
	case again.Method != http.MethodPost:
		return fmt.Errorf("the request was repeated as %s", again.Method)
	case !bytes.Equal(again.Body, first.Body):
		return errors.New("the repeated request has another body")
	case again.Path != "/elsewhere":
		return fmt.Errorf("the repeated request went to %s", again.Path)
	}
	if err := b.wantValue(ctx, b.ms("URL"), b.url()); err != nil {
		return fmt.Errorf("after a redirect: %w", err)
	}
	for _, x := range b.tap.since(b.after(again)) {
		if x.Listener != other {
			return errors.New("a later message of the session went back to the old place")
		}
	}
	b.observe("the %d answer moved the session to another port and path", status)
	return nil
}

func hostOf(base string) string {
	_, rest, _ := strings.Cut(base, "://")
	host, _, err := net.SplitHostPort(rest)
	if err != nil {
		return rest
	}
	return host
}

func portOf(base string) string { return base[strings.LastIndex(base, ":")+1:] }

func redirectChain(ctx context.Context, b *bench) error {
	b.tap.setAuth("", "")
	chain := func(n int) {
		b.tap.clearHooks()
		b.tap.onBefore(func(x *exchange) bool {
			if x.inform() == nil || n == 0 {
				return false
			}
			n--
			x.Status, x.RespHeader = http.StatusFound, http.Header{"Location": {fmt.Sprintf("%s/hop%d", b.base, n)}}
			return true
		})
	}
	b.endSession(ctx)
	chain(5)
	if _, err := b.newSession(ctx); err != nil {
		return err
	}
	if _, err := b.get(ctx, b.code()); err != nil {
		return fmt.Errorf("after 5 redirects: %w", err)
	}
	b.endSession(ctx)
	chain(6)
	short, cancel := brief(ctx)
	_, err := b.newSession(short)
	if err == nil {
		_, err = b.get(short, b.code())
	}
	cancel()
	b.observe("after 6 redirects: %s", outcome(err))
	b.tap.clearHooks()
	return b.alive(ctx)
}

// moveTo sets ManagementServer.URL and waits for the Inform there, which is held.
func (b *bench) moveTo(ctx context.Context, url string, patience time.Duration) (*exchange, error) {
	if err := b.set(ctx, "", b.ms("URL"), url); err != nil {
		return nil, err
	}
	mark := b.tap.mark()
	b.endSession(ctx)
	b.holdNext()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	scheme, rest, _ := strings.Cut(url, "://")
	host, _, _ := strings.Cut(rest, "/")
	x, err := b.tap.wait(ctx, mark, func(x *exchange) bool {
		return x.inform() != nil && !x.refused && strings.HasPrefix(x.Listener, scheme+"://") && portOf(x.Listener) == portOf("//"+host)
	})
	if err != nil {
		return nil, fmt.Errorf("no Inform at %s within %v", url, patience)
	}
	return x, b.tap.answered(ctx, x)
}

// secure opens one more way in over TLS and returns its port.
func (b *bench) secure(l leaf, hello func(*tls.ClientHelloInfo)) (port string, err error) {
	cfg, err := b.ca.server(l, hello)
	if err != nil {
		return "", err
	}
	base, err := b.tap.listen("127.0.0.1:0", cfg)
	if err != nil {
		return "", err
	}
	return portOf(base), nil
}

var loopback = net.IPv4(127, 0, 0, 1)

func downgrade(ctx context.Context, b *bench) error {
	port, err := b.secure(leaf{ips: []net.IP{loopback}}, nil)
	if err != nil {
		return err
	}
	if _, err := b.moveTo(ctx, "https://127.0.0.1:"+port+"/acs", 5*time.Second); err != nil {
		return err
	}
	b.endSession(ctx)
	b.tap.onBefore(func(x *exchange) bool {
		if x.Listener == b.base {
			return false
		}
		x.Status, x.RespHeader = http.StatusFound, http.Header{"Location": {b.url()}}
		return true
	})
	mark := b.tap.mark()
	b.holdNext()
	if err := b.request(ctx); err != nil {
		return err
	}
	if err := pause(ctx, 1500*time.Millisecond); err != nil {
		return err
	}
	followed := false
	for _, x := range b.tap.since(mark) {
		if x.Listener == b.base {
			followed = true
			if x.Header.Get("Authorization") != "" {
				return errors.New("the redirect to http was followed with credentials")
			}
		}
	}
	if len(b.tap.since(mark)) == 0 {
		return errors.New("no session came that could be redirected")
	}
	b.observe("followed without credentials: %v", followed)
	return nil
}

func staleNonce(ctx context.Context, b *bench) error {
	x, err := b.newSession(ctx)
	if err != nil {
		return err
	}
	if _, err := b.get(ctx, b.code()); err != nil {
		return err
	}
	b.tap.rotate()
	if _, err := b.get(ctx, b.code()); err != nil {
		return fmt.Errorf("after stale=true: %w", err)
	}
	if _, err := b.get(ctx, b.code()); err != nil {
		return fmt.Errorf("after stale=true: %w", err)
	}
	list := b.tap.since(b.after(x))
	for i, e := range list {
		if e.refused && i+1 < len(list) && !bytes.Equal(e.Wire, list[i+1].Wire) {
			return errors.New("after 401 another message came than the one that was refused")
		}
		if e.inform() != nil {
			return errors.New("the session was given up")
		}
	}
	b.observe("the same message came again with the new nonce")
	return nil
}

func basicOverTLS(ctx context.Context, b *bench) error {
	port, err := b.secure(leaf{ips: []net.IP{loopback}}, nil)
	if err != nil {
		return err
	}
	b.tap.setAuth("", "")
	if err := b.set(ctx, "", b.ms("PeriodicInformEnable"), "false"); err != nil {
		return err
	}
	url := "https://127.0.0.1:" + port + "/acs"
	if err := b.set(ctx, "", b.ms("URL"), url); err != nil {
		return err
	}
	b.tap.setAuth("Basic", "")
	mark := b.tap.mark()
	b.endSession(ctx)
	b.holdNext()
	x, err := b.tap.waitInform(ctx, mark, nil)
	if err != nil {
		return fmt.Errorf("Basic over TLS was not answered: %w", err)
	}
	if !strings.HasPrefix(x.Header.Get("Authorization"), "Basic ") {
		return errors.New("no Basic credentials")
	}
	mark = b.tap.mark()
	if _, err := b.newSession(ctx); err != nil {
		return err
	}
	if b.tap.since(mark)[0].refused {
		return errors.New("the second session waited for the challenge again")
	}
	b.observe("Basic at once in the second session")
	return nil
}

func challengedAgain(ctx context.Context, b *bench) error {
	x, err := b.newSession(ctx)
	if err != nil {
		return err
	}
	cnonces := map[string]map[string]bool{} // by connection
	b.tap.onAfter(func(x *exchange) bool { x.RespHeader.Set("Connection", "close"); return false })
	for range 3 {
		b.tap.setAuth("Digest", "MD5")
		if _, err := b.get(ctx, b.code()); err != nil {
			return fmt.Errorf("challenged in the session: %w", err)
		}
	}
	seen := map[string]string{}
	for _, e := range b.tap.since(b.after(x) - 1) {
		c := e.digestField("cnonce")
		if c == "" {
			continue
		}
		if cnonces[e.Conn] == nil {
			cnonces[e.Conn] = map[string]bool{}
		}
		cnonces[e.Conn][c] = true
		if other, ok := seen[c]; ok && other != e.Conn {
			return errors.New("the same cnonce was used on two TCP connections")
		}
		seen[c] = e.Conn
	}
	if len(cnonces) < 2 {
		return errors.New("fewer than two connections carried credentials")
	}
	b.observe("%d cnonces on %d connections", len(seen), len(cnonces))
	return nil
}

func challengeConnections(ctx context.Context, b *bench) error {
	for _, closing := range []bool{false, true} {
		b.endSession(ctx)
		b.tap.setAuth("Digest", "MD5")
		b.tap.mu.Lock()
		b.tap.closeRefused = closing
		b.tap.mu.Unlock()
		mark := b.tap.mark()
		if _, err := b.newSession(ctx); err != nil {
			return err
		}
		list := b.tap.since(mark)
		refused := -1
		for i, x := range list {
			if x.refused {
				refused = i
			}
		}
		if refused < 0 || refused+1 >= len(list) {
			return errors.New("the challenge was not seen")
		}
		if same := list[refused].Conn == list[refused+1].Conn; same == closing {
			return fmt.Errorf("with Connection: close %v the request was repeated on the same connection %v", closing, same)
		}
	}
	return nil
}

func basicInClear(ctx context.Context, b *bench) error {
	if err := b.fastRetry(ctx); err != nil {
		return err
	}
	b.endSession(ctx)
	b.tap.setAuth("Basic", "")
	mark := b.tap.mark()
	if err := b.request(ctx); err != nil {
		return err
	}
	if err := pause(ctx, 2500*time.Millisecond); err != nil {
		return err
	}
	list := b.tap.since(mark)
	if len(list) == 0 {
		return errors.New("no session came that could be challenged")
	}
	for _, x := range list {
		if strings.HasPrefix(x.Header.Get("Authorization"), "Basic") {
			return errors.New("the password was sent in clear")
		}
	}
	b.observe("%d POSTs, none with Basic credentials", len(list))
	return nil
}

func endlessChallenge(ctx context.Context, b *bench) error {
	b.endSession(ctx)
	b.tap.mu.Lock()
	b.tap.auth.password = "nobody knows"
	b.tap.mu.Unlock()
	mark := b.tap.mark()
	if err := b.request(ctx); err != nil {
		return err
	}
	if err := pause(ctx, 4*time.Second); err != nil {
		return err
	}
	n := len(b.tap.since(mark))
	b.observe("%d POSTs in 4 s", n)
	if n == 0 || n > 8 {
		return fmt.Errorf("%d POSTs in 4 s", n)
	}
	b.tap.mu.Lock()
	b.tap.auth.password = b.password
	b.tap.mu.Unlock()
	return b.alive(ctx)
}

func factoryUserName(ctx context.Context, b *bench) error {
	escape := func(s string) string {
		var out strings.Builder
		for _, c := range []byte(s) {
			if c == '_' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' {
				out.WriteByte(c)
			} else {
				fmt.Fprintf(&out, "%%%02X", c)
			}
		}
		return out.String()
	}
	x := b.lastExchange("Inform")
	id := x.inform().DeviceID
	want := escape(id.OUI) + "-" + escape(id.ProductClass) + "-" + escape(id.SerialNumber)
	if id.ProductClass == "" {
		want = escape(id.OUI) + "-" + escape(id.SerialNumber)
	}
	if got := x.digestField("username"); got != want {
		return fmt.Errorf("the CPE authenticates as %q instead of %q", got, want)
	}
	return b.wantValue(ctx, b.ms("Username"), want)
}

func gzipAnswer(x *exchange) bool {
	if len(x.RespBody) == 0 {
		return false
	}
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	_, _ = z.Write(x.RespBody) // to memory
	_ = z.Close()
	x.RespBody = buf.Bytes()
	x.RespHeader.Set("Content-Encoding", "gzip")
	return false
}

// needGzip switches compression on, for CPEs that have it.
func (b *bench) needGzip(ctx context.Context) error {
	if err := b.need(ctx, b.ms("HTTPCompressionSupported"), b.ms("HTTPCompression")); err != nil {
		return err
	}
	list, err := b.get(ctx, b.ms("HTTPCompressionSupported"))
	if err != nil {
		return err
	}
	if !strings.Contains(list, "GZIP") {
		return notApplicable("HTTPCompressionSupported is %q", list)
	}
	return b.set(ctx, "", b.ms("HTTPCompression"), "GZIP")
}

func compression(ctx context.Context, b *bench) error {
	if err := b.needGzip(ctx); err != nil {
		return err
	}
	b.tap.onAfter(gzipAnswer)
	x, err := b.newSession(ctx)
	if err != nil {
		return err
	}
	if _, err := b.get(ctx, b.code()); err != nil {
		return err
	}
	for _, e := range b.tap.since(b.after(x) - 1) {
		if len(e.Wire) > 0 && e.Header.Get("Content-Encoding") != "gzip" {
			return fmt.Errorf("%s was sent without coding", e.method())
		}
	}
	b.observe("the Inform has %d bytes on the wire and %d inside", len(x.Wire), len(x.Body))
	return nil
}

func codingRefused(ctx context.Context, b *bench) error {
	if err := b.needGzip(ctx); err != nil {
		return err
	}
	if err := b.fastRetry(ctx); err != nil {
		return err
	}
	b.endSession(ctx)
	var mu sync.Mutex
	refused := 0
	b.tap.onBefore(func(x *exchange) bool {
		if x.Header.Get("Content-Encoding") == "" {
			return false
		}
		mu.Lock()
		refused++
		mu.Unlock()
		x.Status, x.RespHeader = http.StatusUnsupportedMediaType, http.Header{}
		return true
	})
	mark := b.tap.mark()
	b.holdNext()
	if err := b.request(ctx); err != nil {
		return err
	}
	// The connection request is not retried by itself, so a reason that is follows it.
	_, err := b.tap.wait(ctx, mark, func(x *exchange) bool { return x.inform() != nil && x.Header.Get("Content-Encoding") != "" })
	if err != nil {
		return fmt.Errorf("no coded message came: %w", err)
	}
	if err := pause(ctx, 2500*time.Millisecond); err != nil {
		return err
	}
	mu.Lock()
	n := refused
	mu.Unlock()
	if n > 2 {
		return fmt.Errorf("415 was met %d times", n)
	}
	if _, err := b.newSession(ctx); err != nil {
		return fmt.Errorf("after 415: %w", err)
	}
	x := b.lastExchange("Inform")
	if x.Header.Get("Content-Encoding") != "" {
		return errors.New("the session after 415 is coded")
	}
	_, err = b.get(ctx, b.code())
	return err
}
