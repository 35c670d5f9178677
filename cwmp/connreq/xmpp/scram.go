package xmpp

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

// Rounds of hashing that a server may ask for: below, the password is too cheap to guess, above, a small device is busy
// for seconds (RFC 7677 4 asks for 4096 at least).
const (
	minIterations = 4096
	maxIterations = 600_000
	maxChallenge  = 4096 // bytes
)

// ErrAuthentication is wrapped when server and client do not accept each other.
var ErrAuthentication = errors.New("xmpp: authentication failed")

func notProved(text string) error { return fmt.Errorf("%w: %s", ErrAuthentication, text) }

// scram is one SCRAM exchange of the client (RFC 5802, RFC 7677), without channel binding.
type scram struct {
	hash           func() hash.Hash
	size           int
	user, password string
	nonce          string
	authMessage    string
	salted         []byte
}

func newSCRAM(mechanism, user, password, nonce string) (*scram, error) {
	s := &scram{user: user, password: password, nonce: nonce}
	switch mechanism {
	case "SCRAM-SHA-1":
		s.hash, s.size = sha1.New, sha1.Size
	case "SCRAM-SHA-256":
		s.hash, s.size = sha256.New, sha256.Size
	default:
		return nil, fmt.Errorf("xmpp: unknown mechanism %q", mechanism)
	}
	return s, nil
}

func (s *scram) bare() string {
	return "n=" + strings.NewReplacer("=", "=3D", ",", "=2C").Replace(s.user) + ",r=" + s.nonce
}

// first is the client's first message.
func (s *scram) first() string { return "n,," + s.bare() }

// final answers the server's first message with the proof.
func (s *scram) final(challenge string) (string, error) {
	if len(challenge) > maxChallenge {
		return "", notProved("the challenge is too long")
	}
	var nonce, saltText, rounds string
	for i, field := range strings.Split(challenge, ",") {
		switch {
		case strings.HasPrefix(field, "m="): // RFC 5802 5.1: an extension that must be understood
			return "", notProved("the challenge needs an unknown extension")
		case i == 0 && strings.HasPrefix(field, "r="):
			nonce = field[2:]
		case i == 1 && strings.HasPrefix(field, "s="):
			saltText = field[2:]
		case i == 2 && strings.HasPrefix(field, "i="):
			rounds = field[2:]
		}
	}
	salt, err := base64.StdEncoding.DecodeString(saltText)
	n, err2 := strconv.Atoi(rounds)
	switch {
	case err != nil || len(salt) == 0 || err2 != nil:
		return "", notProved("the challenge is malformed")
	case !strings.HasPrefix(nonce, s.nonce) || len(nonce) == len(s.nonce):
		return "", notProved("the nonce is not ours")
	case n < minIterations || n > maxIterations:
		return "", notProved(fmt.Sprintf("%d iterations, %d to %d are possible", n, minIterations, maxIterations))
	}
	if s.salted, err = pbkdf2.Key(s.hash, s.password, salt, n, s.size); err != nil {
		return "", fmt.Errorf("xmpp: %w", err)
	}
	withoutProof := "c=biws,r=" + nonce
	s.authMessage = s.bare() + "," + challenge + "," + withoutProof
	client := s.mac(s.salted, "Client Key")
	stored := s.hash()
	stored.Write(client)
	proof := s.mac(stored.Sum(nil), s.authMessage)
	for i := range proof {
		proof[i] ^= client[i]
	}
	return withoutProof + ",p=" + base64.StdEncoding.EncodeToString(proof), nil
}

// verify checks the server's last message: it must know the password too.
func (s *scram) verify(message string) error {
	field, _, _ := strings.Cut(message, ",")
	text, ok := strings.CutPrefix(field, "v=")
	got, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || s.salted == nil || !hmac.Equal(got, s.mac(s.mac(s.salted, "Server Key"), s.authMessage)) {
		return notProved("the server does not know the password")
	}
	return nil
}

func (s *scram) mac(key []byte, text string) []byte {
	m := hmac.New(s.hash, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}
