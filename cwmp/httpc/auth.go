package httpc

import (
	"crypto/md5" // TR-069 3.4.5 requires it
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/icholy/digest"
)

type authScheme uint8

const (
	schemeUnknown authScheme = iota
	schemeBasic
	schemeDigest
)

// authState is what a Session knows of the authentication at one place.
type authState struct {
	scheme    authScheme
	challenge *digest.Challenge
	sess      bool // the algorithm is the -sess variant
	cnonce    string
	nc        int
}

// renew starts a new TCP connection: a new cnonce, counted from 1 (TR-069 3.4.5).
func (a *authState) renew() { a.cnonce, a.nc = "", 0 }

// header makes the Authorization value for the next request, "" when there is nothing to send.
func (a *authState) header(cfg *Config, u *url.URL) (string, error) {
	switch a.scheme {
	case schemeBasic:
		pair := cfg.Username + ":" + string(cfg.Password)
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair)), nil
	case schemeDigest:
		return a.digest(cfg, u)
	}
	return "", nil
}

func (a *authState) digest(cfg *Config, u *url.URL) (string, error) {
	if a.cnonce == "" {
		a.cnonce, a.nc = rand.Text(), 0
	}
	a.nc++
	chal := *a.challenge
	opt := digest.Options{
		Method: http.MethodPost, URI: u.RequestURI(), Count: a.nc,
		Username: cfg.Username, Password: string(cfg.Password), Cnonce: a.cnonce,
	}
	if a.sess { // RFC 2617 3.2.2.2: A1 of the session
		chal.Algorithm = chal.Algorithm[:len(chal.Algorithm)-len("-sess")]
		h := newHash(chal.Algorithm)
		opt.A1 = hexHash(h, hexHash(h, cfg.Username+":"+chal.Realm+":"+string(cfg.Password))+":"+chal.Nonce+":"+a.cnonce)
	}
	cred, err := digest.Digest(&chal, opt)
	if err != nil {
		return "", fmt.Errorf("httpc: %w", err)
	}
	cred.Algorithm = a.challenge.Algorithm
	return cred.String(), nil
}

func hexHash(h hash.Hash, s string) string {
	h.Reset()
	h.Write([]byte(s))
	return hex.EncodeToString(h.Sum(nil))
}

func newHash(algorithm string) hash.Hash {
	switch strings.ToUpper(algorithm) {
	case "SHA-256":
		return sha256.New()
	case "SHA-512-256":
		return sha512.New512_256()
	}
	return md5.New()
}

// offer is what a 401 asked for.
type offer struct {
	digest *digest.Challenge
	sess   bool
	basic  bool
}

// readOffer takes the first Digest challenge that can be answered, as the server lists them in its order of preference
// (RFC 7616 3.7), and notes whether Basic is offered.
func readOffer(h http.Header) (offer, error) {
	var o offer
	for _, line := range h.Values("WWW-Authenticate") {
		for _, c := range splitChallenges(line) {
			switch {
			case strings.EqualFold(c.scheme, "Basic"):
				o.basic = true
			case strings.EqualFold(c.scheme, "Digest") && o.digest == nil:
				if chal, sess, ok := c.digest(); ok {
					o.digest, o.sess = chal, sess
				}
			}
		}
	}
	if o.digest == nil && !o.basic {
		return o, errors.New("httpc: the ACS asks for no authentication that is supported")
	}
	return o, nil
}

// challenge is one challenge of a WWW-Authenticate header, names in lower case.
type challenge struct {
	scheme string
	params map[string]string
}

const maxChallengeParams = 64

// digest turns the parameters into a Challenge; ok is false when it cannot be answered.
func (c *challenge) digest() (chal *digest.Challenge, sess, ok bool) {
	chal = &digest.Challenge{
		Realm: c.params["realm"], Nonce: c.params["nonce"], Opaque: c.params["opaque"], Algorithm: c.params["algorithm"],
		Stale: strings.EqualFold(c.params["stale"], "true"), Userhash: strings.EqualFold(c.params["userhash"], "true"),
	}
	if q, given := c.params["qop"]; given {
		for _, one := range strings.Split(q, ",") {
			chal.QOP = append(chal.QOP, strings.ToLower(strings.TrimSpace(one)))
		}
		if !slices.Contains(chal.QOP, "auth") {
			return nil, false, false
		}
		chal.QOP = []string{"auth"}
	}
	algorithm := strings.ToUpper(chal.Algorithm)
	if base, cut := strings.CutSuffix(algorithm, "-SESS"); cut {
		algorithm, sess = base, true
		if len(chal.QOP) == 0 {
			return nil, false, false // the server could not know the cnonce
		}
	}
	switch algorithm {
	case "", "MD5", "SHA-256", "SHA-512-256":
	default:
		return nil, false, false
	}
	return chal, sess, chal.Nonce != ""
}

// splitChallenges reads a header that may hold several challenges (RFC 9110 11.6.1). What it cannot read it leaves out.
func splitChallenges(s string) []challenge {
	var out []challenge
	for {
		s = strings.TrimLeft(s, ", \t")
		word, rest := token(s)
		if word == "" {
			return out
		}
		s = rest
		after := strings.TrimLeft(s, " \t")
		if !strings.HasPrefix(after, "=") || len(out) == 0 { // a scheme, not a parameter
			out = append(out, challenge{scheme: word, params: map[string]string{}})
			s = after
			continue
		}
		value, rest := paramValue(strings.TrimLeft(after[1:], " \t"))
		s = rest
		params := out[len(out)-1].params
		if _, twice := params[strings.ToLower(word)]; !twice && len(params) < maxChallengeParams {
			params[strings.ToLower(word)] = value
		}
	}
}

func token(s string) (word, rest string) {
	i := strings.IndexAny(s, " \t,=\"")
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i:]
}

func paramValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		i := strings.IndexAny(s, " \t,")
		if i < 0 {
			return s, ""
		}
		return s[:i], s[i:]
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if i++; i < len(s) {
				b.WriteByte(s[i])
			}
		case '"':
			return b.String(), s[i+1:]
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), ""
}
