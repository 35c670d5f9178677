package modules

import (
	"crypto/sha1" // RFC 4122 4.3: version 5 is made with it
	"encoding/hex"
	"io"
	"strconv"
	"strings"
)

const (
	magic    = "twinspan-module 1"
	maxHead  = 8 << 10
	maxExecs = 8 // execution units of one deployment unit
)

// manifest is the head of a package.
type manifest struct {
	name, version, vendor, description, uuid, environment string
	disk, memory                                          int // KiB
	units                                                 []string
}

// readManifest reads the head; r is read up to maxHead only.
func readManifest(r io.Reader) (*manifest, *Fault) {
	head, err := io.ReadAll(io.LimitReader(r, maxHead))
	if err != nil {
		return nil, &Fault{Reason: Corrupted, Err: err}
	}
	text, _, ended := strings.Cut(strings.ReplaceAll(string(head), "\r\n", "\n"), "\n\n")
	if !ended && len(head) == maxHead {
		return nil, fail(Corrupted, "its head does not end")
	}
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if lines[0] != magic {
		return nil, fail(Corrupted, "it does not begin as one")
	}
	m := &manifest{}
	for _, line := range lines[1:] {
		key, value, ok := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if !ok || !m.set(key, value) {
			return nil, fail(Corrupted, "its head has a bad line")
		}
	}
	if m.name == "" || m.version == "" || len(m.units) == 0 {
		return nil, fail(Corrupted, "its head needs name, version and unit")
	}
	return m, nil
}

// set takes one line; keys that are not known are left to later versions.
func (m *manifest) set(key, value string) bool {
	limit := 256
	var to *string
	switch key {
	case "name":
		to = &m.name
	case "version":
		to, limit = &m.version, 32
	case "vendor":
		to, limit = &m.vendor, 128
	case "description":
		to = &m.description
	case "environment":
		to, limit = &m.environment, 64
	case "uuid":
		m.uuid = strings.ToLower(value)
		return ValidUUID(value)
	case "unit":
		m.units = append(m.units, value)
		return value != "" && len(value) <= 64 && len(m.units) <= maxExecs
	case "disk", "memory":
		n, err := strconv.Atoi(value)
		if key == "disk" {
			m.disk = n
		} else {
			m.memory = n
		}
		return err == nil && n >= 0 && n < 1<<30
	default:
		return true
	}
	*to = value
	return len(value) <= limit
}

// ValidUUID checks the form of RFC 4122.
func ValidUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (s[i] == '-') || !dash && !strings.ContainsRune("0123456789abcdefABCDEF", rune(s[i])) {
			return false
		}
	}
	return true
}

// uuidSpace is the name space for URLs of RFC 4122 appendix C.
var uuidSpace = [16]byte{0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8}

// makeUUID gives the same UUID for the same vendor and name on every device: version 5 (TR-069 Annex H).
func makeUUID(vendor, name string) string {
	h := sha1.New()
	h.Write(uuidSpace[:])
	h.Write([]byte(vendor + "." + name))
	u := h.Sum(nil)[:16]
	u[6], u[8] = u[6]&0x0f|0x50, u[8]&0x3f|0x80
	x := hex.EncodeToString(u)
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}

// compareVersions compares dotted versions: numbers as numbers, all else as text; a missing part is lower.
func compareVersions(a, b string) int {
	for a != "" || b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		if x == y {
			continue
		}
		n, errX := strconv.ParseUint(x, 10, 64)
		m, errY := strconv.ParseUint(y, 10, 64)
		switch {
		case errX == nil && errY == nil && n < m, (errX != nil || errY != nil) && x < y:
			return -1
		case errX == nil && errY == nil && n == m:
			continue
		}
		return 1
	}
	return 0
}
