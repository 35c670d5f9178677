package httpc

import (
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"testing"
	"time"
)

// TestJarAgainstNetHTTP lets ours and net/http/cookiejar take the same Set-Cookie headers and compares what they would send.
func TestJarAgainstNetHTTP(t *testing.T) {
	urls := []string{
		"http://acs.example.net/", "https://acs.example.net/", "http://acs.example.net", "http://acs.example.net/cwmp/in", "http://acs.example.net/cwmp/",
		"http://acs.example.net/cwmpx", "https://example.net/cwmp", "http://ACS.example.net:7547/cwmp", "http://other.acs.example.net/cwmp",
		"http://192.0.2.1/cwmp", "http://acs/cwmp", "http://evil.test/", "http://xacs.example.net/",
	}
	headers := []string{
		"a=1", "a=2", "a=; Max-Age=0", "b=1; Path=/", "b=2; Path=/cwmp", "b=3; Path=/cwmp/", "c=1; Domain=example.net", "c=2; Domain=.acs.example.net",
		"c=3; Domain=other.test", "d=1; Secure", "e=1; Max-Age=60", "e=2; Expires=Thu, 01 Jan 1970 00:00:01 GMT", "f=1; Path=relative",
		"g=1; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:01 GMT", "h=1; Domain=192.0.2.1", "i=1; HttpOnly", "j=\"x y\"", "k=1; Domain=ACS.Example.Net",
		"l=1; Domain=acs", "m=1; Domain=.", "n=1; Domain=2.1",
	}
	var read []*http.Cookie
	for _, h := range headers {
		c, err := http.ParseSetCookie(h)
		if err != nil {
			t.Fatalf("%s: %v", h, err)
		}
		read = append(read, c)
	}
	parsed := make([]*url.URL, len(urls))
	for i, u := range urls {
		var err error
		if parsed[i], err = url.Parse(u); err != nil {
			t.Fatal(err)
		}
	}
	for _, from := range parsed {
		theirs, _ := cookiejar.New(nil)
		ours := &jar{}
		for i, c := range read {
			if c.Name == "m" { // a bare dot: no domain at all, RFC 6265 5.2.3; net/http refuses it
				continue
			}
			theirs.SetCookies(from, []*http.Cookie{c})
			ours.set(from, c, time.Now())
			for _, to := range parsed {
				want, got := fmt.Sprint(theirs.Cookies(to)), fmt.Sprint(ours.cookies(to, time.Now()))
				if want != got && !samePlain(theirs.Cookies(to), ours.cookies(to, time.Now())) {
					t.Fatalf("from %s after %q, to %s: %s, net/http sends %s", from, headers[i], to, got, want)
				}
			}
		}
	}
}

// samePlain compares name and value; net/http also carries how a value was quoted.
func samePlain(a, b []*http.Cookie) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Name != b[i].Name || a[i].Value != b[i].Value {
			return false
		}
	}
	return true
}

func TestJarRefusesTopLevelDomain(t *testing.T) {
	u, _ := url.Parse("http://acs.test/")
	j := &jar{}
	j.set(u, &http.Cookie{Name: "a", Value: "1", Domain: "test"}, time.Now())
	if len(j.list) != 0 {
		t.Errorf("taken: %+v", j.list)
	}
}

func TestJarForgetsWithTime(t *testing.T) {
	u, _ := url.Parse("http://acs.test/")
	j, now := &jar{}, time.Now()
	j.set(u, &http.Cookie{Name: "a", Value: "1", MaxAge: 10}, now)
	if len(j.cookies(u, now.Add(9*time.Second))) != 1 || len(j.cookies(u, now.Add(10*time.Second))) != 0 {
		t.Error("Max-Age is not kept")
	}
}
