package dhcp

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// MaxFile bounds a hook or lease file, in bytes.
const MaxFile = 256 << 10

// Options are the raw vendor options of a lease; nil is absent.
type Options struct {
	V4Encapsulated []byte   // DHCPv4 option 43
	V4Vendor       []byte   // DHCPv4 option 125
	V6Vendor       [][]byte // DHCPv6 option 17, which may occur once for each enterprise
}

// Empty reports whether there is nothing in it.
func (o Options) Empty() bool {
	return o.V4Encapsulated == nil && o.V4Vendor == nil && len(o.V6Vendor) == 0
}

type optionKind int

const (
	unknownOption optionKind = iota
	v4Encapsulated
	v4Vendor
	v6Vendor
)

// names maps what DHCP clients call the options, in lower case, to what they are.
var names = map[string]optionKind{
	"opt43": v4Encapsulated, "option_43": v4Encapsulated, "vendor_specific": v4Encapsulated,
	"vendor_encapsulated_options": v4Encapsulated,
	"opt125":                      v4Vendor, "option_125": v4Vendor, "vivso": v4Vendor, "vendor_identifying_options": v4Vendor,
	"unknown_125": v4Vendor,
	"opt17":       v6Vendor, "option_17": v6Vendor, "dhcp6_vendor_opts": v6Vendor, "dhcp6_vivso": v6Vendor,
	"dhcp6_unknown_17": v6Vendor,
}

// ReadFile reads a hook or lease file; see the package comment. A file that does not exist gives an error that is
// fs.ErrNotExist.
func ReadFile(path string) (Options, error) {
	f, err := os.Open(path)
	if err != nil {
		return Options{}, fmt.Errorf("dhcp: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return Options{}, fmt.Errorf("dhcp: %w", err)
	}
	o, err := Parse(data)
	if err != nil {
		return Options{}, fmt.Errorf("dhcp: %s: %w", path, err)
	}
	return o, nil
}

// Parse is ReadFile for text at hand.
func Parse(data []byte) (Options, error) {
	var o Options
	if len(data) > MaxFile {
		return o, fmt.Errorf("larger than %d bytes", MaxFile)
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		name, value, ok := splitLine(line)
		if !ok {
			// A lease file holds one block for each lease, the newest last: an option of an older one is no more.
			if l := strings.TrimSpace(line); strings.HasPrefix(l, "lease ") || strings.HasPrefix(l, "lease6 ") {
				o = Options{}
			}
			continue
		}
		kind := names[name]
		if kind == unknownOption {
			continue
		}
		raw, err := decodeHex(value)
		if err != nil {
			return Options{}, fmt.Errorf("%s: %w", name, err)
		}
		switch kind {
		case v4Encapsulated:
			o.V4Encapsulated = raw
		case v4Vendor:
			o.V4Vendor = raw
		case v6Vendor:
			if len(o.V6Vendor) == 16 {
				return Options{}, errors.New("more than 16 vendor options")
			}
			o.V6Vendor = append(o.V6Vendor, raw)
		}
	}
	return o, nil
}

// splitLine takes "name=value" of a hook's environment and "option name value;" of a lease file apart, and brings the name
// into the form of the table.
func splitLine(line string) (name, value string, ok bool) {
	line = strings.TrimSuffix(strings.TrimSpace(line), ";")
	if rest, lease := strings.CutPrefix(line, "option "); lease {
		name, value, ok = strings.Cut(rest, " ")
	} else {
		name, value, ok = strings.Cut(strings.TrimPrefix(line, "export "), "=")
	}
	if !ok || len(name) > 64 {
		return "", "", false
	}
	name = strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToLower(strings.TrimSpace(name)))
	return strings.TrimPrefix(name, "new_"), strings.Trim(strings.TrimSpace(value), `"'`), true
}

// decodeHex takes "0115…", "01:15:…", "1:15:…" and "0x0115…". Text that is no hexadecimal is taken as it is: some clients
// write option 43 so when a server put a bare URL into it.
func decodeHex(text string) ([]byte, error) {
	if len(text) > 3*MaxOption {
		return nil, malformed("longer than %d bytes", MaxOption)
	}
	if text == "" {
		return nil, nil
	}
	if !strings.Contains(text, ":") || strings.Contains(text, "/") {
		raw, err := hex.DecodeString(strings.TrimPrefix(strings.TrimPrefix(text, "0x"), "0X"))
		if err == nil {
			return raw, nil
		}
		if strings.HasPrefix(text, "http://") || strings.HasPrefix(text, "https://") {
			return []byte(text), nil
		}
		return nil, malformed("not hexadecimal")
	}
	parts := strings.Split(text, ":")
	raw := make([]byte, 0, len(parts))
	for _, p := range parts {
		if len(p) == 1 {
			p = "0" + p
		}
		b, err := hex.DecodeString(p)
		if err != nil || len(b) != 1 {
			return nil, malformed("%q is not a byte", p[:min(len(p), 8)])
		}
		raw = append(raw, b[0])
	}
	return raw, nil
}
