package udp

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestRequestRoundTrip(t *testing.T) {
	r := Request{Timestamp: 1120673700, ID: 1234, User: "CPE 57689+ü&=?", Cnonce: "xX/ä"}
	raw := r.Encode("192.0.2.1:7547", "pass word")
	got, err := ParseRequest(raw)
	if err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	if got.Timestamp != r.Timestamp || got.ID != r.ID || got.User != r.User || got.Cnonce != r.Cnonce {
		t.Errorf("%+v", got)
	}
	if !got.Signed("pass word") || got.Signed("password") || got.Signed("") {
		t.Error("signature")
	}
}

// The signature was made by other means: HMAC-SHA1 with key "password" over "11206737001234CPE57689XX".
func TestSignatureVector(t *testing.T) {
	const sig = "7CBBB7C0F062FDC66B200CBB479C8C4970F21B8F"
	raw := "GET http://10.1.1.1:8080?ts=1120673700&id=1234&un=CPE57689&cn=XX&sig=" + sig + " HTTP/1.1\r\n\r\n"
	r, err := ParseRequest([]byte(raw))
	if err != nil || !r.Signed("password") {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := ParseRequest([]byte(strings.Replace(raw, sig, strings.ToLower(sig), 1))); err != nil {
		t.Error("lower case:", err)
	}
}

func TestRequestForms(t *testing.T) {
	sig := strings.Repeat("0a", 20)
	query := "ts=1&id=2&un=u&cn=c&sig=" + sig
	for name, c := range map[string]struct {
		text string
		ok   bool
	}{
		"plain":             {"GET http://h:1?" + query + " HTTP/1.1\r\n\r\n", true},
		"slash":             {"GET http://h:1/?" + query + " HTTP/1.1\r\n\r\n", true},
		"IPv6":              {"GET http://[2001:db8::1]:1?" + query + " HTTP/1.1\r\n\r\n", true},
		"host only":         {"GET http://h?" + query + " HTTP/1.1\r\n\r\n", true},
		"headers":           {"GET http://h:1?" + query + " HTTP/1.1\r\nHost: h:1\r\nContent-Length: 0\r\nX: y\r\n\r\n", true},
		"other argument":    {"GET http://h:1?" + query + "&x=y HTTP/1.1\r\n\r\n", true},
		"other order":       {"GET http://h:1?sig=" + sig + "&cn=c&un=u&id=2&ts=1 HTTP/1.1\r\n\r\n", true},
		"empty cnonce":      {"GET http://h:1?ts=1&id=2&un=u&cn=&sig=" + sig + " HTTP/1.1\r\n\r\n", true},
		"empty":             {"", false},
		"no empty line":     {"GET http://h:1?" + query + " HTTP/1.1\r\n", false},
		"body":              {"GET http://h:1?" + query + " HTTP/1.1\r\n\r\nx", false},
		"announced body":    {"GET http://h:1?" + query + " HTTP/1.1\r\nContent-Length: 1\r\n\r\n", false},
		"chunked":           {"GET http://h:1?" + query + " HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", false},
		"POST":              {"POST http://h:1?" + query + " HTTP/1.1\r\n\r\n", false},
		"HTTP/1.0":          {"GET http://h:1?" + query + " HTTP/1.0\r\n\r\n", false},
		"https":             {"GET https://h:1?" + query + " HTTP/1.1\r\n\r\n", false},
		"relative":          {"GET /?" + query + " HTTP/1.1\r\nHost: h\r\n\r\n", false},
		"path":              {"GET http://h:1/x?" + query + " HTTP/1.1\r\n\r\n", false},
		"no query":          {"GET http://h:1 HTTP/1.1\r\n\r\n", false},
		"no host":           {"GET http://?" + query + " HTTP/1.1\r\n\r\n", false},
		"user in host":      {"GET http://u@h?" + query + " HTTP/1.1\r\n\r\n", false},
		"twice":             {"GET http://h:1?" + query + "&ts=2 HTTP/1.1\r\n\r\n", false},
		"missing":           {"GET http://h:1?ts=1&id=2&un=u&sig=" + sig + " HTTP/1.1\r\n\r\n", false},
		"negative ts":       {"GET http://h:1?ts=-1&id=2&un=u&cn=c&sig=" + sig + " HTTP/1.1\r\n\r\n", false},
		"text id":           {"GET http://h:1?ts=1&id=x&un=u&cn=c&sig=" + sig + " HTTP/1.1\r\n\r\n", false},
		"short sig":         {"GET http://h:1?ts=1&id=2&un=u&cn=c&sig=0a HTTP/1.1\r\n\r\n", false},
		"bad escape":        {"GET http://h:1?ts=1&id=2&un=%z&cn=c&sig=" + sig + " HTTP/1.1\r\n\r\n", false},
		"no UTF-8":          {"GET http://h:1?ts=1&id=2&un=%ff&cn=c&sig=" + sig + " HTTP/1.1\r\n\r\n", false},
		"long user":         {"GET http://h:1?ts=1&id=2&un=" + strings.Repeat("u", 257) + "&cn=c&sig=" + sig + " HTTP/1.1\r\n\r\n", false},
		"header w/o name":   {"GET http://h:1?" + query + " HTTP/1.1\r\nxyz\r\n\r\n", false},
		"two requests":      {"GET http://h:1?" + query + " HTTP/1.1\r\n\r\nGET http://h:1?" + query + " HTTP/1.1\r\n\r\n", false},
		"larger than limit": {"GET http://h:1?" + query + " HTTP/1.1\r\nX: " + strings.Repeat("y", 2048) + "\r\n\r\n", false},
	} {
		r, err := ParseRequest([]byte(c.text))
		if (err == nil) != c.ok || (err != nil && (r != nil || !errors.Is(err, ErrRequest))) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGuard(t *testing.T) {
	var g guard
	now := time.Unix(1000, 0)
	ask := func(ts, id uint64, user, password string) error {
		r, err := ParseRequest((&Request{Timestamp: ts, ID: id, User: user, Cnonce: "c"}).Encode("h", password))
		if err != nil {
			t.Fatal(err)
		}
		return g.check(r, "cpe", "secret", now)
	}
	for i, c := range []struct {
		ts, id         uint64
		user, password string
		ok             bool
	}{
		{1000, 1, "cpe", "secret", true},
		{1000, 1, "cpe", "secret", false}, // repeated
		{1000, 2, "cpe", "secret", true},  // another one in the same second
		{1000, 1, "cpe", "secret", false}, // the first again: still known
		{999, 3, "cpe", "secret", false},  // older
		{1001, 3, "cpe", "wrong", false},
		{1001, 3, "else", "secret", false},
		{1001, 3, "", "secret", false},
		{1001, 3, "cpe", "secret", true},          // and none of the bad ones has moved anything
		{1001 + 90000, 4, "cpe", "secret", false}, // more than a day ahead
		{1002, 1, "cpe", "secret", true},          // an ID may come again later
	} {
		if err := ask(c.ts, c.id, c.user, c.password); (err == nil) != c.ok {
			t.Errorf("%d: %v", i, err)
		}
	}
	for id := range uint64(2 * maxSeen) {
		_ = ask(1003, id, "cpe", "secret")
	}
	if len(g.seen) != maxSeen {
		t.Error(len(g.seen))
	}
	r, _ := ParseRequest((&Request{Timestamp: 2000, ID: 1}).Encode("h", "x"))
	for _, pair := range [][2]string{{"", "x"}, {"", ""}, {"cpe", ""}} { // factory state: nobody may
		if g.check(r, pair[0], pair[1], now) == nil {
			t.Errorf("%q accepted", pair)
		}
	}
	far, _ := ParseRequest((&Request{Timestamp: 1 << 40, ID: 1, User: "cpe"}).Encode("h", "secret"))
	if err := g.check(far, "cpe", "secret", time.Time{}); err != nil { // our clock is not known
		t.Error(err)
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add((&Request{Timestamp: 1, ID: 2, User: "u", Cnonce: "c"}).Encode("192.0.2.1:7547", "p"))
	f.Add([]byte("GET http://h:1/?ts=1&id=2&un=%41&cn=+&sig=" + strings.Repeat("0a", 20) + " HTTP/1.1\r\nHost: x\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRequest(data)
		if err != nil {
			return
		}
		if len(r.User) > maxField || len(r.Signature) != 20 {
			t.Fatalf("%+v", r)
		}
		again, err := ParseRequest(r.Encode("h", "p"))
		if err != nil || again.User != r.User || again.Cnonce != r.Cnonce || again.ID != r.ID || !again.Signed("p") {
			t.Fatalf("%+v %+v %v", r, again, err)
		}
	})
}
