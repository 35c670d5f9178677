package conformcwmp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"twinspan/cwmp/acs"
)

var requestChecks = map[string]check{
	"CR-01": {run: func(ctx context.Context, b *bench) error {
		b.endSession(ctx)
		mark := b.tap.mark()
		resp, err := b.plainRequest(ctx, http.MethodGet, "", "")
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusUnauthorized || !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Digest ") {
			return fmt.Errorf("the answer is %d %q", resp.StatusCode, resp.Header.Get("WWW-Authenticate"))
		}
		return b.quiet(ctx, mark, time.Second)
	}},
	"CR-04": {run: func(ctx context.Context, b *bench) error {
		b.endSession(ctx)
		mark := b.tap.mark()
		resp, err := b.plainRequest(ctx, http.MethodGet, "", "basic")
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusUnauthorized {
			return fmt.Errorf("Basic credentials are answered %d", resp.StatusCode)
		}
		return b.quiet(ctx, mark, time.Second)
	}},
	"CR-05": {run: func(ctx context.Context, b *bench) error {
		b.endSession(ctx)
		mark := b.tap.mark()
		for _, c := range []struct{ method, path string }{{http.MethodPost, ""}, {http.MethodHead, ""}, {http.MethodGet, "/elsewhere"}} {
			resp, err := b.plainRequest(ctx, c.method, c.path, "")
			if err != nil {
				b.observe("%s %s: closed", c.method, c.path)
				continue
			}
			b.observe("%s %s: %d", c.method, c.path, resp.StatusCode)
			if resp.StatusCode < 400 {
				return fmt.Errorf("%s %s is answered %d", c.method, c.path, resp.StatusCode)
			}
		}
		return b.quiet(ctx, mark, time.Second)
	}},
	"CR-06": {run: func(ctx context.Context, b *bench) error {
		b.endSession(ctx)
		url, err := b.crURL()
		if err != nil {
			return err
		}
		if err := b.settled(ctx); err != nil {
			return err
		}
		mark := b.tap.mark()
		status, err := acs.ConnectionRequest(ctx, url+"?x=1", b.crUser, b.crPass)
		if err != nil {
			return err
		}
		if status != http.StatusOK && status != http.StatusNoContent {
			return fmt.Errorf("with a query the answer is %d", status)
		}
		_, err = b.inform(ctx, mark, "6 CONNECTION REQUEST", 5*time.Second)
		return err
	}},
	"CR-08": {run: func(ctx context.Context, b *bench) error {
		b.endSession(ctx)
		mark := b.tap.mark()
		resp, err := b.plainRequest(ctx, http.MethodGet, "", "uri")
		if err != nil {
			return err
		}
		b.observe("status %d", resp.StatusCode)
		if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusBadRequest {
			return fmt.Errorf("a digest for another URI is answered %d", resp.StatusCode)
		}
		return b.quiet(ctx, mark, time.Second)
	}},
	"CR-09": {run: fiveRequests},
	"CR-11": {run: hundredRequests},
	"CR-13": {run: func(ctx context.Context, b *bench) error {
		for range 3 {
			b.endSession(ctx)
			if err := b.settled(ctx); err != nil {
				return err
			}
			mark := b.tap.mark()
			if err := b.request(ctx); err != nil {
				return err
			}
			answered := time.Now()
			x, err := b.tap.waitInform(ctx, mark, nil)
			if err != nil {
				return err
			}
			lead := x.At.Sub(answered)
			b.observe("the Inform came %.1f ms after the answer was read", float64(lead.Microseconds())/1000)
			if lead < -20*time.Millisecond { // the reader of the answer may have been scheduled late
				return fmt.Errorf("the Inform came %v before the answer", -lead)
			}
		}
		return nil
	}},
	"CR-15": {run: func(ctx context.Context, b *bench) error {
		url, err := b.crURL()
		if err != nil {
			return err
		}
		b.observe("%s", url)
		m := regexp.MustCompile(`^http://[^/]+/(.*)$`).FindStringSubmatch(url)
		if m == nil {
			return fmt.Errorf("ConnectionRequestURL is %s", url)
		}
		if len(m[1]) < 8 {
			return fmt.Errorf("the path %q can be guessed", m[1])
		}
		if !has(b.driver, canFresh) {
			return nil
		}
		twin, err := b.twin(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = twin.close() }() // it was only for its URL
		other, err := twin.crURL()
		if err != nil {
			return err
		}
		if strings.HasSuffix(other, "/"+m[1]) {
			return errors.New("two CPEs have the same path")
		}
		return nil
	}},
	"CR-16": {run: func(ctx context.Context, b *bench) error {
		oldUser, oldPass := b.crUser, b.crPass
		if err := b.set(ctx, "", b.ms("ConnectionRequestUsername"), "new", b.ms("ConnectionRequestPassword"), "new-secret"); err != nil {
			return err
		}
		if err := b.wantValue(ctx, b.ms("ConnectionRequestPassword"), ""); err != nil {
			return err
		}
		b.crUser, b.crPass = "new", "new-secret"
		b.dev.SetConnectionRequestAuth(b.crUser, b.crPass)
		if _, err := b.newSession(ctx); err != nil {
			return fmt.Errorf("with the new credentials: %w", err)
		}
		b.endSession(ctx)
		status, err := b.connect(ctx, oldUser, oldPass)
		if err != nil {
			return err
		}
		if status != http.StatusUnauthorized {
			return fmt.Errorf("the old credentials are answered %d", status)
		}
		return nil
	}},
	"CR-17": {raw: true, needs: []ability{canFresh}, run: func(ctx context.Context, b *bench) error {
		if err := b.meetNow(ctx); err != nil {
			return err
		}
		if err := pause(ctx, 300*time.Millisecond); err != nil { // the first session ends by itself
			return err
		}
		mark := b.tap.mark()
		for _, user := range []string{"", "anybody"} {
			status, err := b.connect(ctx, user, "")
			if err != nil {
				return err
			}
			b.observe("user %q without password: %d", user, status)
			if status < 400 {
				return fmt.Errorf("user %q without password is answered %d", user, status)
			}
		}
		return b.quiet(ctx, mark, time.Second)
	}},
	"CR-18": {run: func(ctx context.Context, b *bench) error {
		if err := b.need(ctx, b.ms("HTTPConnectionRequestEnable")); err != nil {
			return err
		}
		url, err := b.crURL()
		if err != nil {
			return err
		}
		if err := b.set(ctx, "", b.ms("HTTPConnectionRequestEnable"), "false"); err != nil {
			return err
		}
		if err := b.schedule(ctx, "look", 1); err != nil {
			return err
		}
		mark := b.tap.mark()
		b.endSession(ctx)
		x, err := b.inform(ctx, mark, "M ScheduleInform", 5*time.Second)
		if err != nil {
			return err
		}
		if v, ok := informValue(x.inform(), b.ms("ConnectionRequestURL")); !ok || v != "" {
			return fmt.Errorf("ConnectionRequestURL is %q", v)
		}
		short, cancel := brief(ctx)
		defer cancel()
		if status, err := acs.ConnectionRequest(short, url, b.crUser, b.crPass); err == nil {
			return fmt.Errorf("the port is still open: %d", status)
		}
		return nil
	}},
}

// settled waits until the CPE takes its connection request credentials.
func (b *bench) settled(ctx context.Context) error { return pause(ctx, 100*time.Millisecond) }

// plainRequest makes one request to the connection request server. how: "" nothing, "basic" Basic credentials, "uri" a right
// digest for another URI.
func (b *bench) plainRequest(ctx context.Context, method, path, how string) (*http.Response, error) {
	url, err := b.crURL()
	if err != nil {
		return nil, err
	}
	if path != "" {
		url = url[:strings.Index(url[len("http://"):], "/")+len("http://")] + path
	}
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	switch how {
	case "basic":
		req.SetBasicAuth(b.crUser, b.crPass)
	case "uri":
		first, err := b.plainRequest(ctx, method, path, "")
		if err != nil {
			return nil, err
		}
		cred, err := answerChallenge(first.Header, method, "/another", b.crUser, b.crPass)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", cred)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	return resp, resp.Body.Close()
}

func fiveRequests(ctx context.Context, b *bench) error {
	b.endSession(ctx)
	if err := b.settled(ctx); err != nil {
		return err
	}
	b.tap.onBefore(func(x *exchange) bool { // the session is slow to begin, so that no request was handled yet
		if x.inform() != nil {
			time.Sleep(300 * time.Millisecond)
		}
		return false
	})
	mark := b.tap.mark()
	type answer struct {
		status int
		err    error
	}
	answers := make(chan answer, 5)
	for range 5 {
		go func() { // joined by the five answers below
			status, err := b.connect(ctx, b.crUser, b.crPass)
			answers <- answer{status, err}
		}()
	}
	var got []int
	for range 5 {
		a := <-answers
		if a.err != nil {
			return a.err
		}
		got = append(got, a.status)
		if a.status != 200 && a.status != 204 && a.status != 503 {
			return fmt.Errorf("a valid request is answered %d", a.status)
		}
	}
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	sessions := 0
	for _, x := range b.tap.since(mark) {
		if m := x.inform(); m != nil && !x.refused {
			sessions++
			if n := count(m, "6 CONNECTION REQUEST"); n != 1 {
				return fmt.Errorf("an Inform has %s", events(m))
			}
		}
	}
	b.observe("answers %v, %d session(s)", got, sessions)
	if sessions != 1 {
		return fmt.Errorf("five requests made %d sessions", sessions)
	}
	return nil
}

func hundredRequests(ctx context.Context, b *bench) error {
	b.endSession(ctx)
	if err := b.settled(ctx); err != nil {
		return err
	}
	statuses := map[int]int{}
	for range 100 {
		status, err := b.connect(ctx, b.crUser, b.crPass)
		if err != nil {
			return err
		}
		statuses[status]++
	}
	b.observe("100 requests: %v", statuses)
	if statuses[http.StatusServiceUnavailable] == 0 {
		return fmt.Errorf("no request was refused: %v", statuses)
	}
	began := time.Now()
	if err := b.request(ctx); err != nil { // waits while it is 503
		return err
	}
	b.observe("the next one was taken after %.1f s", time.Since(began).Seconds())
	return nil
}
