package httpc

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/icholy/digest"
)

// digestServer checks credentials by the formulas of RFC 2617 and 7616 written out, and can be told to misbehave.
type digestServer struct {
	mu        sync.Mutex
	algorithm string
	nonce     int
	perConn   bool // nonces are bound to the connection
	expire    int  // answer stale on this request number
	n         int
	lastNC    map[string]int
	used      map[string]string // cnonce -> connection
	problems  []string
}

func (d *digestServer) hash(parts ...string) string {
	s := strings.Join(parts, ":")
	if strings.HasPrefix(d.algorithm, "SHA-256") {
		h := sha256.Sum256([]byte(s))
		return hex.EncodeToString(h[:])
	}
	h := md5.Sum([]byte(s))
	return hex.EncodeToString(h[:])
}

func (d *digestServer) nonceFor(r *http.Request) string {
	if d.perConn {
		return fmt.Sprintf("%s-%d", r.RemoteAddr, d.nonce)
	}
	return fmt.Sprint("nonce-", d.nonce)
}

func (d *digestServer) challenge(w http.ResponseWriter, r *http.Request, stale bool) {
	line := fmt.Sprintf(`Basic realm="x", Digest Realm="acs, \"inner\"", nonce=%q, opaque="o=,q", qop="auth-int, auth"`, d.nonceFor(r))
	if d.algorithm != "" {
		line += ", algorithm=" + d.algorithm
	}
	if stale {
		line += ", stale=TRUE"
	}
	w.Header().Set("WWW-Authenticate", line)
	w.WriteHeader(401)
	_, _ = w.Write([]byte("please authenticate"))
}

func (d *digestServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.n++
	cred, err := digest.ParseCredentials(r.Header.Get("Authorization"))
	if err != nil {
		d.challenge(w, r, false)
		return
	}
	if d.n == d.expire {
		d.nonce++
		d.challenge(w, r, true)
		return
	}
	a1 := d.hash("user é", `acs, "inner"`, "pass:word")
	if strings.HasSuffix(d.algorithm, "-sess") {
		a1 = d.hash(a1, cred.Nonce, cred.Cnonce)
	}
	want := d.hash(a1, cred.Nonce, fmt.Sprintf("%08x", cred.Nc), cred.Cnonce, "auth", d.hash("POST", r.URL.RequestURI()))
	switch {
	case cred.Nonce != d.nonceFor(r):
		d.challenge(w, r, false)
		return
	case cred.Response != want || cred.Opaque != "o=,q" || cred.URI != r.URL.RequestURI() || cred.Algorithm != d.algorithm:
		d.problems = append(d.problems, "wrong response: "+r.Header.Get("Authorization"))
		d.challenge(w, r, false)
		return
	}
	key := cred.Nonce + cred.Cnonce
	if cred.Nc != d.lastNC[key]+1 {
		d.problems = append(d.problems, fmt.Sprintf("nc %d after %d", cred.Nc, d.lastNC[key]))
	}
	d.lastNC[key] = cred.Nc
	if c, seen := d.used[cred.Cnonce]; seen && c != r.RemoteAddr {
		d.problems = append(d.problems, "cnonce used on two connections")
	}
	d.used[cred.Cnonce] = r.RemoteAddr
	_, _ = w.Write([]byte("<a/>"))
}

func newDigest(algorithm string) *digestServer {
	return &digestServer{algorithm: algorithm, lastNC: map[string]int{}, used: map[string]string{}}
}

// HTTP-16, TR-069 3.4.5: a cnonce belongs to one connection, also when the ACS closes it in the moment of the next message.
func TestCnonceOfAClosingConnection(t *testing.T) {
	d := newDigest("MD5")
	srv := serve(t, false, d.ServeHTTP)
	s := open(t, Config{URL: srv.URL, Username: "user é", Password: "pass:word"})
	for range 5 {
		if string(post(t, s, "<x/>").Body) != "<a/>" {
			t.Fatal("no answer")
		}
		s.transport.CloseIdleConnections()
		s.alive.Add(1) // the credentials are made before the session learns of it
		if string(post(t, s, "<x/>").Body) != "<a/>" {
			t.Fatal("no answer")
		}
		s.alive.Add(-1)
	}
	if len(d.problems) > 0 {
		t.Errorf("%d times %s", len(d.problems), d.problems[0])
	}
	if n := len(srv.requests()); n != 11 {
		t.Errorf("%d requests for 10 messages and a challenge", n)
	}
}

func TestDigest(t *testing.T) {
	for _, algorithm := range []string{"", "MD5", "MD5-sess", "SHA-256", "SHA-256-sess"} {
		for _, perConn := range []bool{false, true} {
			t.Run(fmt.Sprint(algorithm, perConn), func(t *testing.T) {
				d := newDigest(algorithm)
				d.perConn, d.expire = perConn, 4
				srv := serve(t, false, d.ServeHTTP)
				s := open(t, Config{URL: srv.URL + "/a?b=c", Username: "user é", Password: "pass:word"})
				for i := range 5 {
					if string(post(t, s, "<x/>").Body) != "<a/>" {
						t.Fatal("no answer")
					}
					if i == 3 {
						s.transport.CloseIdleConnections() // as if the ACS had closed it
					}
				}
				if len(d.problems) > 0 {
					t.Fatal(d.problems)
				}
				// 401, 200 | 200 | stale, 200 | 200 | new connection: preemptive, refused only when nonces are bound
				want := 7
				if perConn {
					want = 8
				}
				if n := len(srv.requests()); n != want {
					t.Errorf("%d requests for 5 messages, want %d", n, want)
				}
				if perConn && srv.requests()[0].remote != srv.requests()[1].remote {
					t.Error("the answer to the challenge came over another connection")
				}
			})
		}
	}
}

func TestWrongPassword(t *testing.T) {
	d := newDigest("MD5")
	srv := serve(t, false, d.ServeHTTP)
	_, err := open(t, Config{URL: srv.URL, Username: "user é", Password: "wrong"}).Post(t.Context(), []byte("<x/>"))
	if !errors.Is(err, ErrUnauthorized) || len(srv.requests()) != 2 {
		t.Errorf("%v after %d requests", err, len(srv.requests()))
	}
}

func TestChallengedForEver(t *testing.T) {
	n := 0
	srv := serve(t, false, func(w http.ResponseWriter, _ *http.Request) {
		n++
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Digest realm="r", nonce="%d", qop="auth", stale=true`, n))
		w.WriteHeader(401)
	})
	_, err := open(t, Config{URL: srv.URL, Username: "u", Password: "p"}).Post(t.Context(), []byte("<x/>"))
	if !errors.Is(err, ErrUnauthorized) || n > 1+maxChallenges {
		t.Errorf("%v after %d requests", err, n)
	}
}

func TestNoUsableChallenge(t *testing.T) {
	for _, line := range []string{"", "Negotiate", `Digest realm="r"`, `Digest realm="r", nonce="n", qop="auth-int"`,
		`Digest realm="r", nonce="n", algorithm=FOO, qop="auth"`, `Digest realm="r", nonce="n", algorithm=MD5-sess`, `====,,,"""`} {
		srv := serve(t, false, status(401, "WWW-Authenticate", line))
		_, err := open(t, Config{URL: srv.URL, Username: "u", Password: "p"}).Post(t.Context(), []byte("<x/>"))
		if !errors.Is(err, ErrUnauthorized) || len(srv.requests()) != 1 {
			t.Errorf("%q: %v", line, err)
		}
	}
}

func TestNoCredentials(t *testing.T) {
	srv := serve(t, false, status(401, "WWW-Authenticate", `Digest realm="r", nonce="n"`))
	if _, err := open(t, Config{URL: srv.URL}).Post(t.Context(), []byte("<x/>")); !errors.Is(err, ErrNoCredentials) {
		t.Error(err)
	}
}

func TestBasicOverPlainHTTP(t *testing.T) {
	basic := func(w http.ResponseWriter, r *http.Request) {
		if u, p, ok := r.BasicAuth(); !ok || u != "u" || p != "p" {
			w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
			w.WriteHeader(401)
		}
	}
	srv := serve(t, false, basic)
	_, err := open(t, Config{URL: srv.URL, Username: "u", Password: "p"}).Post(t.Context(), []byte("<x/>"))
	if !errors.Is(err, ErrBasicInClear) || srv.requests()[0].auth != "" || len(srv.requests()) != 1 {
		t.Error(err)
	}
	s := open(t, Config{URL: srv.URL, Username: "u", Password: "p", BasicInClear: true})
	post(t, s, "<x/>")
	post(t, s, "<x/>")
	if n := len(srv.requests()); n != 4 { // refused, challenged, answered, preemptive
		t.Errorf("%d requests", n)
	}
	_, err = open(t, Config{URL: srv.URL, Username: "u", Password: "wrong", BasicInClear: true}).Post(t.Context(), []byte("<x/>"))
	if !errors.Is(err, ErrUnauthorized) {
		t.Error(err)
	}
}

func TestSplitChallenges(t *testing.T) {
	got := splitChallenges(`Negotiate, Digest realm="a \"b\", c", Nonce=n1 , qop="auth", Basic realm="x"`)
	if len(got) != 3 || got[0].scheme != "Negotiate" || got[1].params["realm"] != `a "b", c` || got[1].params["nonce"] != "n1" || got[2].scheme != "Basic" {
		t.Errorf("%+v", got)
	}
}

func FuzzSplitChallenges(f *testing.F) {
	f.Add(`Digest realm="a", nonce="b", qop="auth,auth-int", algorithm=MD5-sess`)
	f.Add(`Basic realm="\`)
	f.Add(`a=b, c ="d`)
	f.Fuzz(func(t *testing.T, line string) {
		for _, c := range splitChallenges(line) {
			c.digest()
		}
	})
}
