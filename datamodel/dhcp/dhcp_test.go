package dhcp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// vector is option 125 with the ACS URL http://a/ as sub-option 11 of the Broadband Forum, after another vendor's part.
const vector = "0000000902" + "0100" + "00000de90b" + "0b09" + "687474703a2f2f612f"

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseVendor(t *testing.T) {
	v4, err := ParseV4Vendor(unhex(t, vector))
	if err != nil {
		t.Fatal(err)
	}
	if url, ok := Text(v4.Of(BroadbandForum), 11); !ok || url != "http://a/" {
		t.Errorf("%q %v", url, ok)
	}
	if got := v4.Of(9); len(got) != 1 || got[0].Code != 1 || len(got[0].Value) != 0 {
		t.Errorf("%v", got)
	}
	v6, err := ParseV6Vendor(unhex(t, "00000de9"+"00010009"+"687474703a2f2f612f"+"00020002"+"7000"))
	if err != nil {
		t.Fatal(err)
	}
	if code, ok := Text(v6.SubOptions, 2); !ok || code != "p" || v6.Enterprise != BroadbandForum { // the NUL is gone
		t.Errorf("%q %+v", code, v6)
	}
	v43, err := ParseV4(unhex(t, "000001026162ff03"))
	if err != nil || len(v43) != 1 || string(v43[0].Value) != "ab" {
		t.Errorf("%v %v", v43, err)
	}
}

func TestMalformed(t *testing.T) {
	for name, c := range map[string]struct {
		parse func([]byte) error
		data  []byte
	}{
		"43 no length":     {v4, []byte{1}},
		"43 too short":     {v4, []byte{1, 2, 'a'}},
		"43 too long":      {v4, make([]byte, MaxOption+1)},
		"43 too many":      {v4, bytes.Repeat([]byte{1, 0}, MaxSubOptions+1)},
		"125 no number":    {v4Vend, []byte{0, 0, 13, 233}},
		"125 too short":    {v4Vend, []byte{0, 0, 13, 233, 2, 1}},
		"125 inner":        {v4Vend, []byte{0, 0, 13, 233, 2, 1, 1}},
		"125 too many":     {v4Vend, bytes.Repeat([]byte{0, 0, 13, 233, 0}, MaxSubOptions+1)},
		"17 empty":         {v6, nil},
		"17 half header":   {v6, []byte{0, 0, 13, 233, 0, 1, 0}},
		"17 too short":     {v6, []byte{0, 0, 13, 233, 0, 1, 0, 2, 'a'}},
		"17 too many":      {v6, append([]byte{0, 0, 13, 233}, bytes.Repeat([]byte{0, 1, 0, 0}, MaxSubOptions+1)...)},
		"17 larger than 1": {v6, make([]byte, MaxOption+1)},
	} {
		if err := c.parse(c.data); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func v4(b []byte) error     { _, err := ParseV4(b); return err }
func v4Vend(b []byte) error { _, err := ParseV4Vendor(b); return err }
func v6(b []byte) error     { _, err := ParseV6Vendor(b); return err }

func TestText(t *testing.T) {
	for _, value := range []string{"", "\x00\x00", "a\nb", "\xff", "a\x7f"} {
		if text, ok := Text([]SubOption{{1, []byte(value)}}, 1); ok {
			t.Errorf("%q gave %q", value, text)
		}
	}
	if _, ok := Text(nil, 1); ok {
		t.Error("absent")
	}
}

func TestFile(t *testing.T) {
	plain := unhex(t, "010161")
	for name, c := range map[string]struct {
		text string
		want Options
	}{
		"udhcpc":           {"ip=192.0.2.1\nopt43=010161\nopt125=" + vector + "\n", Options{V4Encapsulated: plain, V4Vendor: unhex(t, vector)}},
		"odhcp6c":          {"export OPTION_17=\"00000de900010000\"\n", Options{V6Vendor: [][]byte{unhex(t, "00000de900010000")}}},
		"dhclient hook":    {"new_vendor_encapsulated_options='1:1:61'\n", Options{V4Encapsulated: plain}},
		"dhclient leases":  {"lease {\n  option vendor-encapsulated-options 1:1:62;\n}\nlease {\n  option vendor-encapsulated-options 1:1:61;\n}\n", Options{V4Encapsulated: plain}},
		"newest without":   {"lease {\n  option vendor-encapsulated-options 1:1:62;\n}\nlease {\n  option routers 192.0.2.1;\n}\n", Options{}},
		"dhclient 6":       {"  option dhcp6.vendor-opts 0:0:d:e9;\n", Options{V6Vendor: [][]byte{unhex(t, "00000de9")}}},
		"networkd":         {"VENDOR_SPECIFIC=010161\nOPTION_125=" + vector, Options{V4Encapsulated: plain, V4Vendor: unhex(t, vector)}},
		"hexadecimal sign": {"opt43=0x010161", Options{V4Encapsulated: plain}},
		"bare URL":         {"opt43=http://acs.example/", Options{V4Encapsulated: []byte("http://acs.example/")}},
		"empty":            {"opt43=\n", Options{}},
		"something else":   {"\x00\x01\nopt44=zz\noption x\n", Options{}},
	} {
		got, err := Parse([]byte(c.text))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
	for _, text := range []string{"opt43=zz", "opt43=1:100:1", "opt17=0", strings.Repeat("opt17=00\n", 17), strings.Repeat("x", MaxFile+1), "opt43=" + strings.Repeat("0", 3*MaxOption+2)} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%.40q was taken", text)
		}
	}
}

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lease")
	if _, err := ReadFile(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("opt43=010161\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if o, err := ReadFile(path); err != nil || o.Empty() {
		t.Error(o, err)
	}
	if err := os.WriteFile(path, []byte("opt43=0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(path); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}

func TestAppendRefuses(t *testing.T) {
	long := make([]byte, 256)
	if _, err := AppendV4(nil, SubOption{1, long}); err == nil {
		t.Error("too long")
	}
	if _, err := AppendV4(nil, SubOption{0, nil}); err == nil {
		t.Error("padding as code")
	}
	if _, err := AppendV4Vendor(nil, VendorOption{1, []SubOption{{1, long[:200]}, {2, long[:200]}}}); err == nil {
		t.Error("too much")
	}
	if _, err := AppendV6Vendor(nil, VendorOption{1, []SubOption{{1, make([]byte, 1<<16)}}}); err == nil {
		t.Error("too long for v6")
	}
}

// FuzzOptions decodes, encodes and decodes again.
func FuzzOptions(f *testing.F) {
	f.Add(unhex(f, vector))
	f.Add(unhex(f, "00000de9"+"00010001"+"61"))
	f.Add([]byte{0, 1, 1, 'a', 255, 9})
	f.Fuzz(func(t *testing.T, data []byte) {
		if list, err := ParseV4(data); err == nil {
			raw, err := AppendV4(nil, list...)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := ParseV4(raw); err != nil || !reflect.DeepEqual(list, again) {
				t.Fatalf("%v %v %v", list, again, err)
			}
		}
		if list, err := ParseV4Vendor(data); err == nil {
			var raw []byte
			for _, v := range list {
				if raw, err = AppendV4Vendor(raw, v); err != nil {
					t.Fatal(err)
				}
			}
			if again, err := ParseV4Vendor(raw); err != nil || !reflect.DeepEqual(list, again) {
				t.Fatalf("%v %v %v", list, again, err)
			}
		}
		if v, err := ParseV6Vendor(data); err == nil {
			raw, err := AppendV6Vendor(nil, v)
			if err != nil || !bytes.Equal(raw, data) {
				t.Fatalf("%x %x %v", raw, data, err)
			}
		}
	})
}

func FuzzFile(f *testing.F) {
	f.Add([]byte("opt43=010161\n"))
	f.Add([]byte("lease {\n option vendor-encapsulated-options 1:1:61;\n}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := Parse(data)
		if err != nil && !o.Empty() {
			t.Fatal("an error and a result")
		}
	})
}
