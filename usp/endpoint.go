package usp

import (
	"errors"
	"fmt"
	"strings"
)

// URNPrefix stands before an Endpoint ID in certificates (subjectAltName URI) and nowhere else.
const URNPrefix = "urn:bbf:usp:id:"

// Limits of Endpoint IDs.
const (
	// MaxInstanceID is the longest instance-id in characters, percent-encoding counted.
	MaxInstanceID = 50
	// MaxForeignID is the longest Endpoint ID that we take from a peer's record, in bytes. Peers in the field use IDs of
	// forms that the standard does not know, so only length and alphabet are checked there.
	MaxForeignID = 256
)

// EndpointID is an Endpoint ID taken apart.
type EndpointID struct {
	Scheme    string // "oui", "os", ...
	Authority string // "" for many schemes
	Instance  string // percent-encoded as given
}

// String gives the bare form as it stands in records.
func (e EndpointID) String() string { return e.Scheme + ":" + e.Authority + ":" + e.Instance }

// URN gives the form used in certificates.
func (e EndpointID) URN() string { return URNPrefix + e.String() }

// schemes lists the authority schemes with the check of each authority-id. R-ARC.2a
var schemes = map[string]func(authority string) bool{
	"oui":   func(a string) bool { return (len(a) == 6 || len(a) == 7 || len(a) == 9) && allIn(a, isHex) },
	"cid":   func(a string) bool { return len(a) == 6 && allIn(a, isHex) },
	"pen":   func(a string) bool { return a != "" && len(a) <= 10 && allIn(a, isDigit) },
	"self":  func(a string) bool { return len(a) <= 6 && allIn(a, isUnreserved) },
	"user":  func(a string) bool { return len(a) <= 6 && allIn(a, isUnreserved) },
	"os":    isEmpty,
	"ops":   isEmpty,
	"uuid":  isEmpty,
	"imei":  isEmpty,
	"fqdn":  isEmpty,
	"proto": func(a string) bool { return len(a) <= 6 && allIn(a, isUnreserved) && !strings.Contains(a, ".") },
	"doc":   func(a string) bool { return len(a) <= 6 && allIn(a, isUnreserved) },
}

// ParseEndpointID takes an Endpoint ID in bare form apart and checks it strictly, as our own and configured IDs need it.
// For IDs that come out of records use CheckForeignID.
func ParseEndpointID(s string) (EndpointID, error) {
	parts := strings.SplitN(s, ":", 3)
	if len(parts) != 3 {
		return EndpointID{}, fmt.Errorf("usp: endpoint id %q is not scheme:authority:instance", clip(s))
	}
	e := EndpointID{Scheme: parts[0], Authority: parts[1], Instance: parts[2]}
	check, ok := schemes[e.Scheme]
	if !ok {
		return EndpointID{}, fmt.Errorf("usp: endpoint id %q: unknown scheme", clip(s)) // R-ARC.2a
	}
	if !check(e.Authority) {
		return EndpointID{}, fmt.Errorf("usp: endpoint id %q: bad authority for scheme %s", clip(s), e.Scheme)
	}
	if err := checkInstance(e.Instance); err != nil {
		return EndpointID{}, fmt.Errorf("usp: endpoint id %q: %w", clip(s), err)
	}
	if err := checkSchemeInstance(e.Scheme, e.Instance); err != nil {
		return EndpointID{}, fmt.Errorf("usp: endpoint id %q: %w", clip(s), err)
	}
	return e, nil
}

// ParseURN is ParseEndpointID for the form used in certificates; the prefix is compared without regard to case, as
// RFC 8141 wants it for its fixed part.
func ParseURN(s string) (EndpointID, error) {
	if len(s) < len(URNPrefix) || !strings.EqualFold(s[:len(URNPrefix)], URNPrefix) {
		return EndpointID{}, fmt.Errorf("usp: %q does not begin with %s", clip(s), URNPrefix)
	}
	return ParseEndpointID(s[len(URNPrefix):])
}

// CheckProduction reports why this ID may not be given to a product: schemes for prototypes and documentation, and the
// numbers that belong to the Broadband Forum.
func (e EndpointID) CheckProduction() error {
	switch {
	case e.Scheme == "proto" || e.Scheme == "doc":
		return fmt.Errorf("usp: endpoint id %s: scheme %s is not for products", e, e.Scheme) // R-ARC.4
	case e.Scheme == "oui" && strings.EqualFold(e.Authority, "00256D"),
		(e.Scheme == "os" || e.Scheme == "ops") && strings.HasPrefix(strings.ToUpper(e.Instance), "00256D-"),
		e.Scheme == "pen" && strings.TrimLeft(e.Authority, "0") == "3561":
		return fmt.Errorf("usp: endpoint id %s uses a number of the Broadband Forum", e) // R-ARC.3
	}
	return nil
}

// EndpointIDFor makes the Endpoint ID of a device from the numbers it also tells an ACS: os:: without a product class,
// ops:: with one. Characters outside the alphabet are percent-encoded.
func EndpointIDFor(oui, productClass, serial string) (EndpointID, error) {
	e := EndpointID{Scheme: "os", Instance: strings.ToUpper(oui) + "-" + encodeInstance(serial)}
	if productClass != "" {
		e.Scheme, e.Instance = "ops", strings.ToUpper(oui)+"-"+encodeInstance(productClass)+"-"+encodeInstance(serial)
	}
	return ParseEndpointID(e.String())
}

// CheckForeignID checks an Endpoint ID of a peer as far as safety needs it: 1 to MaxForeignID bytes of printable ASCII
// without blanks.
func CheckForeignID(s string) error {
	if s == "" {
		return errors.New("usp: endpoint id is empty")
	}
	if len(s) > MaxForeignID {
		return fmt.Errorf("usp: endpoint id of %d bytes is longer than %d", len(s), MaxForeignID)
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return fmt.Errorf("usp: endpoint id %q holds a character that is not printable ASCII", clip(s))
		}
	}
	return nil
}

func checkInstance(s string) error {
	if s == "" {
		return errors.New("instance-id is empty")
	}
	if len(s) > MaxInstanceID {
		return fmt.Errorf("instance-id has %d characters, at most %d are allowed", len(s), MaxInstanceID) // R-ARC.6
	}
	for i := 0; i < len(s); i++ {
		switch {
		case isInstanceChar(s[i]):
		case s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			i += 2
		default:
			return fmt.Errorf("instance-id holds %q, allowed are letters, digits, '-', '.', '_' and %%HH", s[i]) // R-ARC.5
		}
	}
	return nil
}

// checkSchemeInstance checks what a scheme says about its instance-id.
func checkSchemeInstance(scheme, s string) error {
	switch scheme {
	case "os", "ops":
		parts := strings.Split(s, "-")
		if len(parts[0]) != 6 || !allIn(parts[0], isHex) {
			return errors.New("instance-id does not begin with an OUI of six hexadecimal digits")
		}
		if need := map[string]int{"os": 2, "ops": 3}[scheme]; len(parts) < need || parts[len(parts)-1] == "" {
			return fmt.Errorf("instance-id of scheme %s needs %d parts joined by '-'", scheme, need)
		}
	case "uuid":
		ok := len(s) == 36
		for i := 0; ok && i < len(s); i++ {
			if i == 8 || i == 13 || i == 18 || i == 23 {
				ok = s[i] == '-'
			} else {
				ok = isHex(s[i])
			}
		}
		if !ok {
			return errors.New("instance-id is not a UUID")
		}
	case "imei":
		if len(s) < 14 || len(s) > 16 || !allIn(s, isDigit) {
			return errors.New("instance-id is not an IMEI of 14 to 16 digits")
		}
	case "fqdn":
		for _, label := range strings.Split(s, ".") {
			if label == "" || strings.Trim(label, "-") != label || strings.ContainsAny(label, "_%") {
				return errors.New("instance-id is not a fully qualified domain name")
			}
		}
	}
	return nil
}

func encodeInstance(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if isInstanceChar(s[i]) {
			b.WriteByte(s[i])
		} else {
			b.WriteByte('%')
			b.WriteByte(digits[s[i]>>4])
			b.WriteByte(digits[s[i]&15])
		}
	}
	return b.String()
}

func isEmpty(s string) bool { return s == "" }
func isDigit(c byte) bool   { return c >= '0' && c <= '9' }
func isHex(c byte) bool     { return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' }
func isInstanceChar(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '.' || c == '_'
}
func isUnreserved(c byte) bool { return isInstanceChar(c) || c == '~' }

func allIn(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}

// clip shortens foreign text for an error message.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
