package store

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"io"
)

// secretPrefix begins the text that stands for a secret value in the journal.
const secretPrefix = "sha256:"

// hashSecret returns what the journal shows of a secret: it tells whether two values of one path are equal, and
// nothing between paths or between devices. DESIGN invariant 11.
func hashSecret(salt *[16]byte, path, value string) string {
	h := hmac.New(sha256.New, salt[:])
	_, _ = io.WriteString(h, path)
	_, _ = h.Write([]byte{0})
	_, _ = io.WriteString(h, value)
	return secretPrefix + hex.EncodeToString(h.Sum(nil)[:16])
}

func newSalt() *[16]byte {
	salt := new([16]byte)
	_, _ = rand.Read(salt[:]) // never fails
	return salt
}
