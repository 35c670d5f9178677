package udp

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of a request.
const (
	maxDatagram = 2048
	maxField    = 256 // un and cn, decoded
	maxSeen     = 16  // requests remembered for the newest second
	maxAhead    = 24 * time.Hour
)

// Request is a UDP connection request (TR-069 G.2.2.3).
type Request struct {
	Timestamp uint64 // ts: seconds since 1970 by the clock of the ACS
	ID        uint64 // id: differs for each request, equal in its repetitions
	User      string // un
	Cnonce    string // cn
	Signature []byte // sig: 20 bytes; set by ParseRequest, made by Encode

	tsText, idText string // as received: the signature covers the text
}

// ErrRequest is wrapped by every error about a datagram. Nobody is told of it: there is no answer to a bad request.
var ErrRequest = errors.New("udp: no valid connection request")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrRequest}, args...)...)
}

// ParseRequest takes a datagram apart: an HTTP/1.1 GET without body, of an absolute URI with an empty path. It does not
// check the signature.
func ParseRequest(datagram []byte) (*Request, error) {
	if len(datagram) > maxDatagram {
		return nil, bad("%d bytes", len(datagram))
	}
	text := string(datagram)
	end := strings.Index(text, "\r\n\r\n")
	if end < 0 || end+4 != len(text) {
		return nil, bad("does not end with an empty line")
	}
	line, headers, _ := strings.Cut(text[:end], "\r\n")
	if err := checkHeaders(headers); err != nil {
		return nil, err
	}
	method, rest, _ := strings.Cut(line, " ")
	target, version, ok := strings.Cut(rest, " ")
	if !ok || method != "GET" || version != "HTTP/1.1" {
		return nil, bad("not a GET of HTTP/1.1")
	}
	rest, ok = strings.CutPrefix(target, "http://")
	if !ok {
		return nil, bad("not an absolute http URI")
	}
	host, query, ok := strings.Cut(rest, "?")
	if host, _ = strings.CutSuffix(host, "/"); !ok || host == "" || strings.ContainsAny(host, "/#@") {
		return nil, bad("host, an empty path and a query are needed")
	}
	return parseQuery(query)
}

// checkHeaders lets any header pass that is one, but none that announces a body.
func checkHeaders(headers string) error {
	if headers == "" {
		return nil
	}
	for h := range strings.SplitSeq(headers, "\r\n") {
		name, value, ok := strings.Cut(h, ":")
		if !ok || name == "" || strings.ContainsAny(h, "\r\n\x00") {
			return bad("a header without name")
		}
		switch strings.ToLower(name) {
		case "transfer-encoding":
			return bad("a body")
		case "content-length":
			if strings.TrimSpace(value) != "0" {
				return bad("a body")
			}
		}
	}
	return nil
}

// parseQuery takes the form-urlencoded arguments: each of the five once, others are passed over.
func parseQuery(query string) (*Request, error) {
	r := &Request{}
	have := map[string]string{}
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		switch name {
		case "ts", "id", "un", "cn", "sig":
		default:
			continue
		}
		if _, twice := have[name]; twice {
			return nil, bad("%s twice", name)
		}
		plain, err := url.QueryUnescape(value)
		if err != nil || len(plain) > maxField || !utf8.ValidString(plain) {
			return nil, bad("%s cannot be decoded", name)
		}
		have[name] = plain
	}
	if len(have) != 5 {
		return nil, bad("%d of 5 arguments", len(have))
	}
	r.tsText, r.idText, r.User, r.Cnonce = have["ts"], have["id"], have["un"], have["cn"]
	var err1, err2, err3 error
	r.Timestamp, err1 = strconv.ParseUint(r.tsText, 10, 64)
	r.ID, err2 = strconv.ParseUint(r.idText, 10, 64)
	r.Signature, err3 = hex.DecodeString(have["sig"])
	if err := errors.Join(err1, err2, err3); err != nil || len(r.Signature) != sha1.Size {
		return nil, bad("ts, id or sig is not a number")
	}
	return r, nil
}

// Encode makes the datagram: the ACS's side. host is the UDPConnectionRequestAddress. An ACS sends it several times.
func (r *Request) Encode(host, password string) []byte {
	ts, id := strconv.FormatUint(r.Timestamp, 10), strconv.FormatUint(r.ID, 10)
	sig := sign(password, ts, id, r.User, r.Cnonce)
	return fmt.Appendf(nil, "GET http://%s?ts=%s&id=%s&un=%s&cn=%s&sig=%s HTTP/1.1\r\nHost: %s\r\n\r\n", host, ts, id,
		url.QueryEscape(r.User), url.QueryEscape(r.Cnonce), strings.ToUpper(hex.EncodeToString(sig)), host)
}

// Signed reports whether the signature was made with the password (G.2.2.3: HMAC-SHA1 over ts, id, un and cn).
func (r *Request) Signed(password string) bool {
	return hmac.Equal(r.Signature, sign(password, r.tsText, r.idText, r.User, r.Cnonce))
}

func sign(password, ts, id, user, cnonce string) []byte {
	m := hmac.New(sha1.New, []byte(password))
	m.Write([]byte(ts + id + user + cnonce))
	return m.Sum(nil)
}

// guard decides which good requests are new. Not for concurrent use.
type guard struct {
	newest uint64
	seen   []uint64 // IDs at newest
}

// check reports why a request does not count; a nil error means that it does, and is remembered. TR-069 G.2.2.3
func (g *guard) check(r *Request, user, password string, now time.Time) error {
	switch {
	case user == "" || password == "":
		return bad("no credentials are set")
	case subtle.ConstantTimeCompare([]byte(r.User), []byte(user)) != 1:
		return bad("unknown user")
	case !r.Signed(password):
		return bad("wrong signature")
	case r.Timestamp < g.newest:
		return bad("older than the newest")
	case !now.IsZero() && r.Timestamp > uint64(now.Add(maxAhead).Unix()):
		return bad("from the future")
	}
	if r.Timestamp > g.newest {
		g.newest, g.seen = r.Timestamp, g.seen[:0]
	}
	for _, id := range g.seen {
		if id == r.ID {
			return errRepeated
		}
	}
	if len(g.seen) == maxSeen {
		return bad("more than %d in one second", maxSeen)
	}
	g.seen = append(g.seen, r.ID)
	return nil
}

// errRepeated is the one refusal that is no trouble: an ACS sends everything several times. STUN-04
var errRepeated = errors.New("udp: seen before")
