package digestauth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/icholy/digest"
)

// Options of an Authenticator. Zero fields stand for their defaults.
type Options struct {
	Realm string // required
	// Algorithms offered, in this order: MD5, SHA-256, SHA-512-256, each also with -sess. Default MD5.
	Algorithms []string
	Life       time.Duration    // of a nonce; default 1 minute
	MaxNonces  int              // used nonces remembered; default 256
	Now        func() time.Time // default time.Now
}

// maxAuthorization is the longest Authorization header that is parsed.
const maxAuthorization = 4096

// Verdict of Check.
type Verdict uint8

// The verdicts. Stale means right credentials with a nonce that is too old.
const (
	Refused Verdict = iota
	Missing
	Stale
	OK
)

// Authenticator checks credentials.
type Authenticator struct {
	opt    Options
	secret [32]byte

	mu    sync.Mutex
	used  map[string]use
	order []string  // keys of used, oldest use first
	floor time.Time // nonces issued at or before this are stale
}

type use struct {
	nc     int
	issued time.Time
}

// New makes an Authenticator with a secret of its own.
func New(opt Options) (*Authenticator, error) {
	if opt.Realm == "" {
		return nil, errors.New("digestauth: no realm")
	}
	if len(opt.Algorithms) == 0 {
		opt.Algorithms = []string{"MD5"}
	}
	for _, a := range opt.Algorithms {
		if !digest.CanDigest(&digest.Challenge{Algorithm: plain(a)}) {
			return nil, fmt.Errorf("digestauth: algorithm %q is not supported", a)
		}
	}
	if opt.Life <= 0 {
		opt.Life = time.Minute
	}
	if opt.MaxNonces <= 0 {
		opt.MaxNonces = 256
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	a := &Authenticator{opt: opt, used: map[string]use{}}
	if _, err := rand.Read(a.secret[:]); err != nil {
		return nil, fmt.Errorf("digestauth: %w", err)
	}
	return a, nil
}

// Challenge adds a WWW-Authenticate header for each algorithm. binding ties the nonce to something of the request that
// Check must see again, such as the connection; it may be empty.
func (a *Authenticator) Challenge(h http.Header, binding string, stale bool) {
	nonce := a.nonce(binding)
	for _, algorithm := range a.opt.Algorithms {
		c := digest.Challenge{Realm: a.opt.Realm, Nonce: nonce, Algorithm: algorithm, QOP: []string{"auth"}, Stale: stale}
		h.Add("WWW-Authenticate", c.String())
	}
}

// nonceLen is time, random and seal.
const (
	nonceTime = 8
	nonceHead = nonceTime + 8
	nonceLen  = nonceHead + 16
)

func (a *Authenticator) nonce(binding string) string {
	var b [nonceLen]byte
	binary.BigEndian.PutUint64(b[:], uint64(a.opt.Now().UnixNano()))
	_, _ = rand.Read(b[nonceTime:nonceHead]) // never fails
	copy(b[nonceHead:], a.seal(b[:nonceHead], binding))
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func (a *Authenticator) seal(head []byte, binding string) []byte {
	m := hmac.New(sha256.New, a.secret[:])
	m.Write(head)
	m.Write([]byte(binding))
	return m.Sum(nil)[:nonceLen-nonceHead]
}

// issued returns when a nonce was made; ok is false when this Authenticator did not make it for this binding.
func (a *Authenticator) issued(nonce, binding string) (at time.Time, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(nonce)
	if err != nil || len(b) != nonceLen || subtle.ConstantTimeCompare(b[nonceHead:], a.seal(b[:nonceHead], binding)) != 1 {
		return time.Time{}, false
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(b))), true
}

// Check judges the Authorization header of r. lookup returns the password of a user; ok false refuses.
func (a *Authenticator) Check(r *http.Request, binding string, lookup func(user string) (password string, ok bool)) Verdict {
	line := r.Header.Get("Authorization")
	if line == "" {
		return Missing
	}
	if len(line) > maxAuthorization {
		return Refused
	}
	cred, err := digest.ParseCredentials(line)
	if err != nil || cred.Realm != a.opt.Realm || !a.offered(cred.Algorithm) || !samePath(cred.URI, r.URL) {
		return Refused
	}
	if cred.QOP != "" && (cred.QOP != "auth" || cred.Nc < 1 || cred.Cnonce == "") {
		return Refused
	}
	password, known := lookup(cred.Username)
	want, err := expected(cred, r.Method, password)
	if err != nil {
		return Refused
	}
	// The comparison is made also for an unknown user, and takes the same time for every wrong response.
	if subtle.ConstantTimeCompare([]byte(want), []byte(strings.ToLower(cred.Response))) != 1 || !known {
		return Refused
	}
	return a.spend(cred, binding)
}

func (a *Authenticator) offered(algorithm string) bool {
	if algorithm == "" {
		algorithm = "MD5"
	}
	for _, o := range a.opt.Algorithms {
		if strings.EqualFold(o, algorithm) {
			return true
		}
	}
	return false
}

// samePath compares the digest uri with the request without their queries: TR-069 3.2.2 has the CPE ignore the query.
func samePath(uri string, asked *url.URL) bool {
	u, err := url.Parse(uri)
	return err == nil && u.Path == asked.Path
}

// expected computes the response that the right password gives.
func expected(cred *digest.Credentials, method, password string) (string, error) {
	chal := &digest.Challenge{Realm: cred.Realm, Nonce: cred.Nonce, Algorithm: plain(cred.Algorithm)}
	if cred.QOP != "" {
		chal.QOP = []string{"auth"}
	}
	opt := digest.Options{Method: method, URI: cred.URI, Username: cred.Username, Password: password, Cnonce: cred.Cnonce, Count: cred.Nc}
	if plain(cred.Algorithm) != cred.Algorithm {
		opt.A1 = sessionA1(cred, password)
	}
	c, err := digest.Digest(chal, opt)
	if err != nil {
		return "", err
	}
	return c.Response, nil
}

// spend counts a use of a nonce whose credentials were right.
func (a *Authenticator) spend(cred *digest.Credentials, binding string) Verdict {
	at, mine := a.issued(cred.Nonce, binding)
	now := a.opt.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if age := now.Sub(at); !mine || age > a.opt.Life || age < -time.Second || !at.After(a.floor) {
		return Stale
	}
	nc := max(cred.Nc, 1)
	if cred.QOP == "" {
		nc = 1
	}
	last, seen := a.used[cred.Nonce]
	if nc <= last.nc { // replay (RFC 2617 3.2.2)
		return Stale
	}
	if !seen {
		a.expire(now)
		a.order = append(a.order, cred.Nonce)
	}
	if cred.QOP == "" {
		nc = int(^uint32(0) >> 1) // spent
	}
	a.used[cred.Nonce] = use{nc: nc, issued: at}
	return OK
}

// expire makes room for one more.
func (a *Authenticator) expire(now time.Time) {
	for len(a.order) > 0 {
		oldest := a.used[a.order[0]]
		if len(a.order) < a.opt.MaxNonces && now.Sub(oldest.issued) <= a.opt.Life {
			return
		}
		if now.Sub(oldest.issued) <= a.opt.Life && oldest.issued.After(a.floor) {
			a.floor = oldest.issued
		}
		delete(a.used, a.order[0])
		a.order = a.order[1:]
	}
}

func plain(algorithm string) string {
	if len(algorithm) > 5 && strings.EqualFold(algorithm[len(algorithm)-5:], "-sess") {
		return algorithm[:len(algorithm)-5]
	}
	return algorithm
}
