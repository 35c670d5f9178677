package usp

import (
	"strings"
	"testing"
)

func TestParseEndpointID(t *testing.T) {
	for s, ok := range map[string]bool{
		"oui:012345:thing":          true,
		"oui:0123456:thing":         true, // 28-bit block
		"oui:012345678:thing":       true, // 36-bit block
		"oui:01234567:thing":        false,
		"oui::thing":                false,
		"oui:01234G:thing":          false,
		"cid:3AA3F8:x":              true,
		"cid:3AA3F:x":               false,
		"pen:1234:x":                true,
		"pen::x":                    false,
		"pen:12a:x":                 false,
		"self::x":                   true,
		"self:abc:x":                true,
		"self:abcdefg:x":            false,
		"user:abcdef:x":             true,
		"os::012345-0123456789":     true,
		"os:1:012345-0123456789":    false,
		"os::0123456789":            false,
		"os::012345-":               false,
		"ops::012345-Box%20One-SN1": true,
		"ops::012345-SN1":           false,
		"uuid::f81d4fae-7dec-11d0-a765-00a0c91e6bf6": true,
		"uuid::f81d4fae7dec11d0a76500a0c91e6bf6":     false,
		"imei::990000862471854":                      true,
		"imei::99000086247185x":                      false,
		"fqdn::acs.example.com":                      true,
		"fqdn::-x.example.com":                       false,
		"fqdn::a..b":                                 false,
		"proto:a.b:x":                                false,
		"proto::my_controller":                       true,
		"doc::agent":                                 true,
		"nobody::x":                                  false,
		"self::":                                     false,
		"self:x":                                     false,
		"":                                           false,
		"self::a:b":                                  false,
		"self::a b":                                  false,
		"self::a%2":                                  false,
		"self::a%2G":                                 false,
		"self::%41":                                  true,
		"self::" + strings.Repeat("a", MaxInstanceID):   true,
		"self::" + strings.Repeat("a", MaxInstanceID+1): false,
		"self::" + strings.Repeat("a", 48) + "%41":      false, // encoded text counts
		"SELF::x":      false,
		"self::\u00e9": false,
		"oui:012345:" + strings.Repeat("%41", 17)[:50-2]:   true,
		"oui:012345:" + strings.Repeat("%41", 17) + "1234": false,
	} {
		e, err := ParseEndpointID(s)
		if (err == nil) != ok {
			t.Errorf("%q: error %v, want ok=%t", s, err, ok)
		}
		if err == nil && e.String() != s {
			t.Errorf("%q became %q", s, e)
		}
		if ok {
			if u, err := ParseURN(e.URN()); err != nil || u != e {
				t.Errorf("%q: URN %q came back as %v, %v", s, e.URN(), u, err)
			}
		}
	}
	if _, err := ParseURN("self::x"); err == nil {
		t.Error("a bare id was taken for a URN")
	}
}

func TestCheckProduction(t *testing.T) {
	for s, ok := range map[string]bool{
		"os::012345-1": true, "os::00256D-1": false, "ops::00256d-P-1": false, "oui:00256d:1": false,
		"pen:3561:1": false, "pen:03561:1": false, "pen:35610:1": true, "proto::x": false, "doc::x": false, "self::x": true,
	} {
		e, err := ParseEndpointID(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.CheckProduction(); (err == nil) != ok {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestEndpointIDFor(t *testing.T) {
	for _, c := range []struct{ oui, class, serial, want string }{
		{"012345", "", "SN 1", "os::012345-SN%201"},
		{"a12345", "Box/One", "7", "ops::A12345-Box%2FOne-7"},
		{"12345", "", "1", ""},
		{"012345", strings.Repeat("é", 20), "1", ""},
	} {
		e, err := EndpointIDFor(c.oui, c.class, c.serial)
		if (err != nil) != (c.want == "") || err == nil && e.String() != c.want {
			t.Errorf("%v: got %v, %v", c, e, err)
		}
	}
}
