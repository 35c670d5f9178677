package udp

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// Message types of classic STUN (RFC 3489 11.1).
const (
	BindingRequest       = 0x0001
	BindingResponse      = 0x0101
	BindingErrorResponse = 0x0111
)

// Attributes (RFC 3489 11.2; the last two TR-069 G.2.1.3). Below 0x8000 a receiver must know them.
const (
	attrMappedAddress            = 0x0001
	attrResponseAddress          = 0x0002
	attrUsername                 = 0x0006
	attrMessageIntegrity         = 0x0008
	attrErrorCode                = 0x0009
	attrUnknownAttributes        = 0x000A
	attrConnectionRequestBinding = 0xC001
	attrBindingChange            = 0xC002
)

// connectionRequestBinding is the value of the attribute, with the blank at its end. TR-069 G.2.1.3
const connectionRequestBinding = "dslforum.org/TR-111 "

const (
	stunHeader    = 20
	maxAttributes = 32
	maxUsername   = 512
)

// TransactionID of a request and its response: 128 bits, all of them random in classic STUN.
type TransactionID [16]byte

// NewTransactionID returns one that nobody can guess, which is what proves a response.
func NewTransactionID() (id TransactionID) {
	_, _ = rand.Read(id[:]) // never fails
	if [4]byte(id[:4]) == [4]byte{0x21, 0x12, 0xa4, 0x42} {
		id[0] ^= 0x80 // the cookie of RFC 5389 would make another protocol of it
	}
	return id
}

// Message is a classic STUN message with the attributes that Annex G needs.
type Message struct {
	Type          uint16
	Transaction   TransactionID
	Mapped        netip.AddrPort // MAPPED-ADDRESS
	Response      netip.AddrPort // RESPONSE-ADDRESS
	Username      string         // padded by blanks to a multiple of four on the wire
	Binding       bool           // CONNECTION-REQUEST-BINDING
	BindingChange bool           // BINDING-CHANGE
	ErrorCode     int            // of a BindingErrorResponse: 300 to 699
	Reason        string
	Unknown       []uint16 // attributes of a received message that must be understood and are not

	integrity int // offset of MESSAGE-INTEGRITY in raw, 0 without
	raw       []byte
}

// ErrSTUN is wrapped by every error about a STUN message.
var ErrSTUN = errors.New("udp: malformed STUN message")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrSTUN}, args...)...)
}

// Encode makes the datagram. With a key MESSAGE-INTEGRITY is appended, the last attribute as it must be.
func (m *Message) Encode(key string) ([]byte, error) {
	b := make([]byte, stunHeader, 256)
	binary.BigEndian.PutUint16(b, m.Type)
	copy(b[4:], m.Transaction[:])
	for _, a := range []struct {
		attr uint16
		addr netip.AddrPort
	}{{attrMappedAddress, m.Mapped}, {attrResponseAddress, m.Response}} {
		if !a.addr.IsValid() {
			continue
		}
		ip := a.addr.Addr().Unmap()
		if !ip.Is4() {
			return nil, fmt.Errorf("udp: %v: classic STUN carries IPv4 only", ip)
		}
		b = appendAttr(b, a.attr, append(binary.BigEndian.AppendUint16([]byte{0, 1}, a.addr.Port()), ip.AsSlice()...))
	}
	if m.Binding {
		b = appendAttr(b, attrConnectionRequestBinding, []byte(connectionRequestBinding))
	}
	if m.BindingChange {
		b = appendAttr(b, attrBindingChange, nil)
	}
	if m.Username != "" {
		name := []byte(m.Username)
		if len(name) > maxUsername {
			return nil, fmt.Errorf("udp: a user name of %d bytes", len(name))
		}
		for len(name)%4 != 0 { // TR-069 G.2.1.3
			name = append(name, ' ')
		}
		b = appendAttr(b, attrUsername, name)
	}
	if m.ErrorCode != 0 {
		text := []byte(m.Reason)
		for len(text)%4 != 0 {
			text = append(text, ' ')
		}
		b = appendAttr(b, attrErrorCode, append([]byte{0, 0, byte(m.ErrorCode / 100), byte(m.ErrorCode % 100)}, text...))
	}
	if len(m.Unknown) > 0 {
		var list []byte
		for _, a := range m.Unknown {
			list = binary.BigEndian.AppendUint16(list, a)
		}
		if len(m.Unknown)%2 == 1 { // RFC 3489 11.2.10: one is repeated to fill four bytes
			list = binary.BigEndian.AppendUint16(list, m.Unknown[0])
		}
		b = appendAttr(b, attrUnknownAttributes, list)
	}
	if key != "" {
		b = appendAttr(b, attrMessageIntegrity, make([]byte, sha1.Size))
	}
	if len(b)-stunHeader > 0xffff {
		return nil, errors.New("udp: the STUN message is too long")
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)-stunHeader))
	if key != "" { // over everything before the attribute, with the length that counts it
		at := len(b) - sha1.Size - 4
		copy(b[at+4:], integrity(b[:at], key))
	}
	return b, nil
}

func appendAttr(b []byte, kind uint16, value []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

// integrity is HMAC-SHA1 over the text, padded by zeros to a multiple of 64 bytes (RFC 3489 11.2.8).
func integrity(text []byte, key string) []byte {
	m := hmac.New(sha1.New, []byte(key))
	m.Write(text)
	if over := len(text) % 64; over != 0 {
		m.Write(make([]byte, 64-over))
	}
	return m.Sum(nil)
}

// IsSTUN tells a STUN message from a connection request, which begins with a letter.
func IsSTUN(datagram []byte) bool { return len(datagram) >= stunHeader && datagram[0]&0xc0 == 0 }

// Decode takes a datagram apart. It keeps a copy.
func Decode(datagram []byte) (*Message, error) {
	if !IsSTUN(datagram) {
		return nil, malformed("no header")
	}
	if len(datagram) > maxDatagram {
		return nil, malformed("%d bytes", len(datagram))
	}
	if n := int(binary.BigEndian.Uint16(datagram[2:])); n != len(datagram)-stunHeader {
		return nil, malformed("length %d, %d bytes follow", n, len(datagram)-stunHeader)
	}
	m := &Message{Type: binary.BigEndian.Uint16(datagram), raw: append([]byte(nil), datagram...)}
	copy(m.Transaction[:], datagram[4:])
	count := 0
	for at := stunHeader; at < len(m.raw); {
		if len(m.raw)-at < 4 {
			return nil, malformed("%d bytes where an attribute should be", len(m.raw)-at)
		}
		kind, n := binary.BigEndian.Uint16(m.raw[at:]), int(binary.BigEndian.Uint16(m.raw[at+2:]))
		if n > len(m.raw)-at-4 {
			return nil, malformed("attribute %#x says %d bytes", kind, n)
		}
		if count++; count > maxAttributes {
			return nil, malformed("more than %d attributes", maxAttributes)
		}
		if m.integrity == 0 { // RFC 3489 11.2.8: what follows MESSAGE-INTEGRITY is not proved by it
			if err := m.attribute(kind, at, m.raw[at+4:at+4+n]); err != nil {
				return nil, err
			}
		}
		at += 4 + n
		if pad := (4 - n%4) % 4; pad != 0 && at+pad <= len(m.raw) { // servers of today pad; classic values need none
			at += pad
		}
	}
	return m, nil
}

func (m *Message) attribute(kind uint16, at int, value []byte) error {
	var err error
	switch kind {
	case attrMappedAddress:
		m.Mapped, err = address(value)
	case attrResponseAddress:
		m.Response, err = address(value)
	case attrUsername:
		if len(value) > maxUsername {
			return malformed("a user name of %d bytes", len(value))
		}
		for len(value) > 0 && value[len(value)-1] == ' ' {
			value = value[:len(value)-1]
		}
		m.Username = string(value)
	case attrMessageIntegrity:
		if len(value) != sha1.Size {
			return malformed("MESSAGE-INTEGRITY of %d bytes", len(value))
		}
		m.integrity = at
	case attrErrorCode:
		if len(value) < 4 {
			return malformed("ERROR-CODE of %d bytes", len(value))
		}
		m.ErrorCode = int(value[2]&7)*100 + int(value[3])
		if m.ErrorCode < 300 || m.ErrorCode > 699 || value[3] > 99 {
			return malformed("error code %d", m.ErrorCode)
		}
		m.Reason = string(value[4:])
	case attrUnknownAttributes: // only of use to people: the error code says it
	case attrConnectionRequestBinding:
		m.Binding = string(value) == connectionRequestBinding
	case attrBindingChange:
		m.BindingChange = true
	case 0x0003, 0x0004, 0x0005, 0x000b: // CHANGE-REQUEST, SOURCE-ADDRESS, CHANGED-ADDRESS, REFLECTED-FROM: not needed
	default:
		if kind < 0x8000 {
			m.Unknown = append(m.Unknown, kind)
		}
	}
	return err
}

func address(value []byte) (netip.AddrPort, error) {
	if len(value) != 8 || value[1] != 1 {
		return netip.AddrPort{}, malformed("an address of %d bytes that is not IPv4", len(value))
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(value[4:])), binary.BigEndian.Uint16(value[2:])), nil
}

// HasIntegrity reports whether a decoded message carries MESSAGE-INTEGRITY.
func (m *Message) HasIntegrity() bool { return m.integrity != 0 }

// Proved reports whether MESSAGE-INTEGRITY of a decoded message was made with the key. Servers of today make it over the
// text without padding; both are taken.
func (m *Message) Proved(key string) bool {
	if m.integrity == 0 || key == "" {
		return false
	}
	got, text := m.raw[m.integrity+4:m.integrity+4+sha1.Size], m.raw[:m.integrity]
	if hmac.Equal(got, integrity(text, key)) {
		return true
	}
	h := hmac.New(sha1.New, []byte(key))
	h.Write(text)
	return hmac.Equal(got, h.Sum(nil))
}
