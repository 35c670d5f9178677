package dhcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// BroadbandForum is the enterprise number under which both CWMP and USP put their sub-options.
const BroadbandForum = 3561

// Limits.
const (
	MaxOption     = 64 << 10 // bytes of one option
	MaxSubOptions = 256      // in one option
)

// ErrMalformed is wrapped by every decoding error.
var ErrMalformed = errors.New("dhcp: malformed option")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

// SubOption is one code and its value.
type SubOption struct {
	Code  uint16 // DHCPv4: 0 to 255
	Value []byte
}

// VendorOption is what one enterprise says in option 125 or 17.
type VendorOption struct {
	Enterprise uint32
	SubOptions []SubOption
}

// VendorOptions is a decoded option 125 or 17.
type VendorOptions []VendorOption

// Of gathers the sub-options of an enterprise, in order.
func (v VendorOptions) Of(enterprise uint32) []SubOption {
	var out []SubOption
	for _, o := range v {
		if o.Enterprise == enterprise {
			out = append(out, o.SubOptions...)
		}
	}
	return out
}

// Text returns the value of the first sub-option with the code as text without trailing NULs, which some servers append.
// ok is false when there is none, when it is empty, and when it is no printable UTF-8.
func Text(list []SubOption, code uint16) (text string, ok bool) {
	for _, s := range list {
		if s.Code != code {
			continue
		}
		text = strings.TrimRight(string(s.Value), "\x00")
		if text == "" || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return "", false
		}
		return text, true
	}
	return "", false
}

// ParseV4 decodes a list of one-byte codes and lengths: DHCPv4 option 43. Code 0 is padding, code 255 ends the list
// (RFC 2132 8.4).
func ParseV4(data []byte) ([]SubOption, error) {
	if len(data) > MaxOption {
		return nil, malformed("%d bytes are more than %d", len(data), MaxOption)
	}
	var out []SubOption
	for i := 0; i < len(data); {
		code := data[i]
		i++
		if code == 0 {
			continue
		}
		if code == 255 {
			break
		}
		if i == len(data) {
			return nil, malformed("sub-option %d without length", code)
		}
		n := int(data[i])
		i++
		if n > len(data)-i {
			return nil, malformed("sub-option %d says %d bytes, %d are left", code, n, len(data)-i)
		}
		if len(out) == MaxSubOptions {
			return nil, malformed("more than %d sub-options", MaxSubOptions)
		}
		out = append(out, SubOption{Code: uint16(code), Value: append([]byte(nil), data[i:i+n]...)})
		i += n
	}
	return out, nil
}

// ParseV4Vendor decodes DHCPv4 option 125 (RFC 3925 4): enterprise number, length, sub-options; several times.
func ParseV4Vendor(data []byte) (VendorOptions, error) {
	if len(data) > MaxOption {
		return nil, malformed("%d bytes are more than %d", len(data), MaxOption)
	}
	var out VendorOptions
	for len(data) > 0 {
		if len(data) < 5 {
			return nil, malformed("%d bytes where an enterprise number should be", len(data))
		}
		v := VendorOption{Enterprise: binary.BigEndian.Uint32(data)}
		n := int(data[4])
		data = data[5:]
		if n > len(data) {
			return nil, malformed("enterprise %d says %d bytes, %d are left", v.Enterprise, n, len(data))
		}
		var err error
		if v.SubOptions, err = ParseV4(data[:n]); err != nil {
			return nil, err
		}
		data = data[n:]
		if len(out) == MaxSubOptions {
			return nil, malformed("more than %d enterprises", MaxSubOptions)
		}
		out = append(out, v)
	}
	return out, nil
}

// ParseV6Vendor decodes one DHCPv6 option 17 (RFC 8415 21.17): enterprise number, then codes and lengths of two bytes each.
func ParseV6Vendor(data []byte) (VendorOption, error) {
	if len(data) > MaxOption {
		return VendorOption{}, malformed("%d bytes are more than %d", len(data), MaxOption)
	}
	if len(data) < 4 {
		return VendorOption{}, malformed("%d bytes where an enterprise number should be", len(data))
	}
	v := VendorOption{Enterprise: binary.BigEndian.Uint32(data)}
	for data = data[4:]; len(data) > 0; {
		if len(data) < 4 {
			return VendorOption{}, malformed("%d bytes where a sub-option should be", len(data))
		}
		code, n := binary.BigEndian.Uint16(data), int(binary.BigEndian.Uint16(data[2:]))
		data = data[4:]
		if n > len(data) {
			return VendorOption{}, malformed("sub-option %d says %d bytes, %d are left", code, n, len(data))
		}
		if len(v.SubOptions) == MaxSubOptions {
			return VendorOption{}, malformed("more than %d sub-options", MaxSubOptions)
		}
		v.SubOptions = append(v.SubOptions, SubOption{Code: code, Value: append([]byte(nil), data[:n]...)})
		data = data[n:]
	}
	return v, nil
}

// AppendV4 appends sub-options as option 43 holds them, and option 125 after its enterprise number and length.
func AppendV4(dst []byte, list ...SubOption) ([]byte, error) {
	for _, s := range list {
		if s.Code == 0 || s.Code > 254 || len(s.Value) > 255 {
			return nil, malformed("sub-option %d of %d bytes does not fit DHCPv4", s.Code, len(s.Value))
		}
		dst = append(dst, byte(s.Code), byte(len(s.Value)))
		dst = append(dst, s.Value...)
	}
	return dst, nil
}

// AppendV4Vendor appends one enterprise's part of option 125.
func AppendV4Vendor(dst []byte, v VendorOption) ([]byte, error) {
	body, err := AppendV4(nil, v.SubOptions...)
	if err != nil {
		return nil, err
	}
	if len(body) > 255 {
		return nil, malformed("enterprise %d has %d bytes, 255 at most", v.Enterprise, len(body))
	}
	dst = binary.BigEndian.AppendUint32(dst, v.Enterprise)
	return append(append(dst, byte(len(body))), body...), nil
}

// AppendV6Vendor appends the value of a DHCPv6 option 17.
func AppendV6Vendor(dst []byte, v VendorOption) ([]byte, error) {
	dst = binary.BigEndian.AppendUint32(dst, v.Enterprise)
	for _, s := range v.SubOptions {
		if len(s.Value) > 0xffff {
			return nil, malformed("sub-option %d has %d bytes, 65535 at most", s.Code, len(s.Value))
		}
		dst = binary.BigEndian.AppendUint16(dst, s.Code)
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(s.Value)))
		dst = append(dst, s.Value...)
	}
	return dst, nil
}
