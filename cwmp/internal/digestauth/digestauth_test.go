package digestauth

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/icholy/digest"
)

func lookup(user string) (string, bool) {
	if user == "acs" {
		return "secret", true
	}
	return "", false
}

type client struct {
	t       *testing.T
	auth    *Authenticator
	binding string
	now     time.Time
}

func start(t *testing.T, opt Options) *client {
	c := &client{t: t, now: time.Unix(1_700_000_000, 0), binding: "c1"}
	opt.Realm, opt.Now = "cpe", func() time.Time { return c.now }
	var err error
	if c.auth, err = New(opt); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *client) challenge() *digest.Challenge {
	h := http.Header{}
	c.auth.Challenge(h, c.binding, false)
	chal, err := digest.FindChallenge(h)
	if err != nil {
		c.t.Fatal(err)
	}
	return chal
}

func (c *client) credentials(chal *digest.Challenge, o digest.Options) *digest.Credentials {
	if o.Method == "" {
		o.Method = "GET"
	}
	if o.URI == "" {
		o.URI = "/path"
	}
	if o.Username == "" {
		o.Username, o.Password = "acs", "secret"
	}
	cred, err := digest.Digest(chal, o)
	if err != nil {
		c.t.Fatal(err)
	}
	return cred
}

func (c *client) check(line, target string) Verdict {
	r := httptest.NewRequest("GET", target, nil)
	if line != "" {
		r.Header.Set("Authorization", line)
	}
	return c.auth.Check(r, c.binding, lookup)
}

func TestVerdicts(t *testing.T) {
	c := start(t, Options{Algorithms: []string{"SHA-256", "MD5"}})
	for name, test := range map[string]struct {
		opt    digest.Options
		target string
		mend   func(*digest.Credentials)
		want   Verdict
	}{
		"right":           {want: OK},
		"query in target": {target: "/path?x=1", want: OK},
		"query in uri":    {opt: digest.Options{URI: "/path?x=1"}, want: OK},
		"absolute uri":    {opt: digest.Options{URI: "http://cpe:7547/path"}, want: OK},
		"upper case":      {mend: func(c *digest.Credentials) { c.Response = strings.ToUpper(c.Response) }, want: OK},
		"other path":      {opt: digest.Options{URI: "/other"}},
		"password":        {opt: digest.Options{Username: "acs", Password: "wrong"}},
		"user":            {opt: digest.Options{Username: "root", Password: ""}},
		"method":          {opt: digest.Options{Method: "POST"}},
		"realm":           {mend: func(c *digest.Credentials) { c.Realm = "x" }},
		"algorithm":       {mend: func(c *digest.Credentials) { c.Algorithm = "SHA-512" }},
		"nc zero":         {mend: func(c *digest.Credentials) { c.Nc = 0 }},
		"auth-int":        {mend: func(c *digest.Credentials) { c.QOP = "auth-int" }},
		"short response":  {mend: func(c *digest.Credentials) { c.Response = "" }},
	} {
		cred := c.credentials(c.challenge(), test.opt)
		if test.mend != nil {
			test.mend(cred)
		}
		if test.target == "" {
			test.target = "/path"
		}
		if got := c.check(cred.String(), test.target); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
	for line, want := range map[string]Verdict{
		"": Missing, "Basic YTpi": Refused, "Digest ": Refused, "Digest nc=zz": Refused, "Digest username=\"": Refused,
		"Digest username=\"" + strings.Repeat("x", 5000) + "\"": Refused,
	} {
		if got := c.check(line, "/path"); got != want {
			t.Errorf("%.30q: %d, want %d", line, got, want)
		}
	}
}

func TestReplayAndAge(t *testing.T) {
	c := start(t, Options{Life: time.Minute})
	chal := c.challenge()
	one := c.credentials(chal, digest.Options{Count: 1, Cnonce: "x"}).String()
	if c.check(one, "/path") != OK || c.check(one, "/path") != Stale {
		t.Error("replay of nc=1")
	}
	three := c.credentials(chal, digest.Options{Count: 3, Cnonce: "x"}).String()
	two := c.credentials(chal, digest.Options{Count: 2, Cnonce: "x"}).String()
	if c.check(three, "/path") != OK || c.check(two, "/path") != Stale {
		t.Error("nc going back")
	}
	c.now = c.now.Add(61 * time.Second)
	if c.check(c.credentials(chal, digest.Options{Count: 9, Cnonce: "x"}).String(), "/path") != Stale {
		t.Error("old nonce")
	}
	chal = c.challenge()
	c.binding = "c2"
	if c.check(c.credentials(chal, digest.Options{}).String(), "/path") != Stale {
		t.Error("nonce of another binding")
	}
	forged := *chal
	forged.Nonce = strings.Repeat("A", len(chal.Nonce))
	if c.check(c.credentials(&forged, digest.Options{}).String(), "/path") != Stale {
		t.Error("forged nonce")
	}
	chal = c.challenge()
	chal.QOP = nil // RFC 2069
	old := c.credentials(chal, digest.Options{}).String()
	if c.check(old, "/path") != OK || c.check(old, "/path") != Stale {
		t.Error("credentials without qop")
	}
}

// A full table must neither grow nor let a nonce that was pushed out be used again.
func TestTableBound(t *testing.T) {
	c := start(t, Options{MaxNonces: 8})
	first := c.credentials(c.challenge(), digest.Options{}).String()
	if c.check(first, "/path") != OK {
		t.Fatal("first")
	}
	for range 100 {
		c.now = c.now.Add(time.Millisecond)
		if c.check(c.credentials(c.challenge(), digest.Options{}).String(), "/path") != OK {
			t.Fatal("refused")
		}
		if len(c.auth.used) > 8 || len(c.auth.order) > 8 {
			t.Fatalf("%d nonces kept", len(c.auth.used))
		}
	}
	if c.check(first, "/path") != Stale {
		t.Error("a nonce that was pushed out was accepted again")
	}
	c.now = c.now.Add(2 * time.Minute)
	if c.check(c.credentials(c.challenge(), digest.Options{}).String(), "/path") != OK || len(c.auth.used) != 1 {
		t.Errorf("%d nonces after expiry", len(c.auth.used))
	}
}

func TestOptions(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("no realm")
	}
	if _, err := New(Options{Realm: "x", Algorithms: []string{"FOO"}}); err == nil {
		t.Error("algorithm FOO")
	}
}

// Whatever is in the header, nothing panics and nothing but the right response is accepted.
func FuzzCheck(f *testing.F) {
	f.Add(`Digest username="acs", realm="cpe", nonce="n", uri="/path", response="0", qop=auth, nc=00000001, cnonce="c"`)
	f.Add(`Digest username="acs", realm="cpe", nonce="", uri="http://x/path?y", algorithm=MD5, response=""`)
	f.Add(`Digest nc=ffffffff`)
	auth, err := New(Options{Realm: "cpe", Algorithms: []string{"MD5", "SHA-256", "MD5-sess"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, line string) {
		r := httptest.NewRequest("GET", "/path", nil)
		r.Header.Set("Authorization", line)
		if auth.Check(r, "", lookup) == OK {
			t.Error("accepted without a nonce of ours")
		}
	})
}
