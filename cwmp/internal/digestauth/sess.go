package digestauth

import (
	"crypto/md5" // RFC 2617
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"strings"

	"github.com/icholy/digest"
)

// sessionA1 is A1 of the -sess algorithms (RFC 2617 3.2.2.2), which the digest library leaves to its caller.
func sessionA1(cred *digest.Credentials, password string) string {
	var h hash.Hash
	switch strings.ToUpper(plain(cred.Algorithm)) {
	case "SHA-256":
		h = sha256.New()
	case "SHA-512-256":
		h = sha512.New512_256()
	default:
		h = md5.New()
	}
	sum := func(s string) string {
		h.Reset()
		h.Write([]byte(s))
		return hex.EncodeToString(h.Sum(nil))
	}
	return sum(sum(cred.Username+":"+cred.Realm+":"+password) + ":" + cred.Nonce + ":" + cred.Cnonce)
}
