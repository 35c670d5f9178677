package datamodel

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func i64(n int64) *int64 { return &n }

func TestCanonical(t *testing.T) {
	str, boolean, num := Facts{Type: TypeString}, Facts{Type: TypeBoolean}, Facts{Type: TypeInt}
	sized := Facts{Type: TypeString, Size: []Range{{Min: i64(2), Max: i64(3)}}}
	enum := Facts{Type: TypeString, Enum: []EnumValue{{Value: "Up"}, {Value: "Down", Deprecated: true}}}
	mac := Facts{Type: TypeString, Patterns: []string{"", "([0-9A-Fa-f][0-9A-Fa-f]:){5}([0-9A-Fa-f][0-9A-Fa-f])"}}
	ranged := Facts{Type: TypeInt, Range: []Range{{Min: i64(-1), Max: i64(-1)}, {Min: i64(10), Max: i64(20), Step: 5}}}
	list := Facts{Type: TypeUnsignedInt, List: true, ListSize: []Range{{Min: i64(0), Max: i64(3)}}, ListLen: []Range{{Max: i64(7)}}}
	enumList := enum
	enumList.List = true
	row := Facts{Type: TypeString, PathRef: &PathRef{Target: "row"}}
	rows := row
	rows.List = true
	when, b64, hexa := Facts{Type: TypeDateTime}, Facts{Type: TypeBase64, Size: []Range{{Max: i64(3)}}}, Facts{Type: TypeHexBinary, Size: []Range{{Max: i64(2)}}}
	dec := Facts{Type: TypeDecimal, Range: []Range{{Min: i64(-2), Max: i64(2)}}}
	ip, ip6 := Facts{Type: TypeString, Named: "IPAddress"}, Facts{Type: TypeString, Named: "IPv6Address"}
	prefix := Facts{Type: TypeString, Named: "IPPrefix"}
	alias := Facts{Type: TypeString, Named: "Alias"}
	tests := []struct {
		f    Facts
		in   string
		want string
		err  Reason // when want is "!"
	}{
		{str, "", "", 0}, {str, " a b ", " a b ", 0}, {str, "ä\t\n", "ä\t\n", 0},
		{str, "a\x00", "!", InvalidType}, {str, "a\xff", "!", InvalidType}, {str, "a\ufffe", "!", InvalidType},
		{str, "\ufffd", "\ufffd", 0}, {str, strings.Repeat("x", MaxValueLen+1), "!", InvalidValue},
		{sized, "äöü", "äöü", 0}, {sized, "a", "!", InvalidValue}, {sized, "abcd", "!", InvalidValue},
		{enum, "Up", "Up", 0}, {enum, "Down", "Down", 0}, {enum, "up", "!", InvalidValue}, {enum, "", "!", InvalidValue},
		{mac, "", "", 0}, {mac, "00:11:22:aa:BB:cc", "00:11:22:aa:BB:cc", 0}, {mac, "x00:11:22:aa:BB:cc", "!", InvalidValue},
		{mac, "00:11:22:aa:BB:cc\n", "!", InvalidValue},
		{alias, "", "", 0}, {alias, "cpe-1", "cpe-1", 0}, {alias, "Z", "Z", 0}, {alias, "1-bad", "!", InvalidValue}, {alias, " a", "!", InvalidValue}, {alias, "ä", "!", InvalidValue},
		{boolean, "1", "true", 0}, {boolean, " true ", "true", 0}, {boolean, "0", "false", 0}, {boolean, "TRUE", "!", InvalidType}, {boolean, "", "!", InvalidType},
		{num, "+5", "5", 0}, {num, "005", "5", 0}, {num, "-0", "0", 0}, {num, "-2147483648", "-2147483648", 0},
		{num, "2147483648", "!", InvalidValue}, {num, "5.0", "!", InvalidType}, {num, "", "!", InvalidType}, {num, "0x5", "!", InvalidType}, {num, "٣", "!", InvalidType},
		{Facts{Type: TypeUnsignedInt}, "4294967295", "4294967295", 0}, {Facts{Type: TypeUnsignedInt}, "-1", "!", InvalidValue},
		{Facts{Type: TypeLong}, "-9223372036854775808", "-9223372036854775808", 0}, {Facts{Type: TypeLong}, "9223372036854775808", "!", InvalidValue},
		{Facts{Type: TypeUnsignedLong}, "18446744073709551615", "18446744073709551615", 0}, {Facts{Type: TypeUnsignedLong}, "18446744073709551616", "!", InvalidValue},
		{ranged, "-1", "-1", 0}, {ranged, "15", "15", 0}, {ranged, "16", "!", InvalidValue}, {ranged, "0", "!", InvalidValue}, {ranged, "25", "!", InvalidValue},
		{dec, "1.50", "1.5", 0}, {dec, "+.5", "0.5", 0}, {dec, "-0.0", "0", 0}, {dec, "2.", "2", 0}, {dec, "-2.0001", "!", InvalidValue}, {dec, "1e3", "!", InvalidType}, {dec, ".", "!", InvalidType},
		{dec, strings.Repeat("1", 70), "!", InvalidType},
		{list, "1, 02 ,+3", "1,2,3", 0}, {list, "", "", 0}, {list, " ", "", 0}, {list, "1,2,3,4", "!", InvalidValue}, {list, "1,,2", "!", InvalidType}, {list, "100,200,300", "!", InvalidValue}, {list, "1,x", "!", InvalidType},
		{enumList, "Up, Down", "Up,Down", 0}, {enumList, "Up,Sideways", "!", InvalidValue},
		{row, "Device.IP.Interface.1.", "Device.IP.Interface.1", 0}, {row, "Device.IP.Interface.1", "Device.IP.Interface.1", 0}, {row, "", "", 0},
		{rows, `Device.A.[B=="x,y"]. , Device.C.1.`, `Device.A.[B=="x,y"],Device.C.1`, 0},
		{when, "2026-01-31T23:59:59+01:00", "2026-01-31T22:59:59Z", 0}, {when, "2026-01-31T23:59:59", "2026-01-31T23:59:59Z", 0},
		{when, "2026-01-31T23:59:59.1200Z", "2026-01-31T23:59:59.120000Z", 0}, {when, "2026-01-31T23:59:59.1234567891Z", "2026-01-31T23:59:59.123456789Z", 0},
		{when, "2026-01-31T24:00:00Z", "2026-02-01T00:00:00Z", 0}, {when, UnknownTime, UnknownTime, 0}, {when, InfiniteTime, InfiniteTime, 0},
		{when, "0001-01-03T03:04:05Z", "0001-01-03T03:04:05Z", 0}, {when, "0001-01-03T03:04:05+01:00", "!", InvalidValue},
		{when, "9999-12-31T23:59:59-01:00", "!", InvalidValue}, {when, "2026-02-30T00:00:00Z", "!", InvalidType}, {when, "2026-01-31", "!", InvalidType},
		{when, "2026-01-31 10:00:00Z", "!", InvalidType}, {when, "2026-01-31T10:00:00.Z", "!", InvalidType}, {when, "2026-01-31T10:00:00,5Z", "!", InvalidType}, {when, "", "!", InvalidType},
		{b64, "YWJj", "YWJj", 0}, {b64, " YW\nI= ", "YWI=", 0}, {b64, "YWJjZA==", "!", InvalidValue}, {b64, "YWI", "!", InvalidType}, {b64, "YWJ=", "!", InvalidType}, {b64, "", "", 0},
		{hexa, "0aFf", "0AFF", 0}, {hexa, "0", "!", InvalidType}, {hexa, "0x", "!", InvalidType}, {hexa, "010203", "!", InvalidValue}, {hexa, "", "", 0},
		{ip, "192.0.2.1", "192.0.2.1", 0}, {ip, "2001:db8::1", "2001:db8::1", 0}, {ip, "", "", 0}, {ip, "192.0.2", "!", InvalidValue}, {ip, "fe80::1%eth0", "!", InvalidValue},
		{ip6, "::", "::", 0}, {ip6, "192.0.2.1", "!", InvalidValue},
		{prefix, "192.0.2.0/24", "192.0.2.0/24", 0}, {prefix, "/60", "/60", 0}, {prefix, "192.0.2.0/33", "!", InvalidValue}, {prefix, "x", "!", InvalidValue},
	}
	for _, tt := range tests {
		got, err := tt.f.Canonical(tt.in)
		if tt.want == "!" {
			if err == nil || ReasonOf(err) != tt.err {
				t.Errorf("%.40q as type %d: got %q %v, want reason %q", tt.in, tt.f.Type, got, err, tt.err)
			} else if len(tt.in) > 3 && strings.Contains(err.Error(), tt.in) {
				t.Errorf("the error repeats the value: %v", err)
			}
			continue
		}
		if err != nil || got != tt.want {
			t.Errorf("%.40q as type %d: got %q %v, want %q", tt.in, tt.f.Type, got, err, tt.want)
		}
	}
}

func TestZeroIsCanonical(t *testing.T) {
	for typ := TypeString; typ <= TypeHexBinary; typ++ {
		for _, list := range []bool{false, true} {
			f := &Facts{Type: typ, List: list}
			if c, err := f.Canonical(f.Zero()); err != nil || c != f.Zero() {
				t.Errorf("type %d list %v: %q %v", typ, list, c, err)
			}
		}
	}
}

// genText makes texts that are likely to be values of the type, and some that are not.
func genText(typ Type) *rapid.Generator[string] {
	digits := rapid.StringMatching(`[+-]?[0-9]{0,22}(\.[0-9]{0,5})?`)
	switch typ {
	case TypeBoolean:
		return rapid.SampledFrom([]string{"1", "0", "true", "false", " true", "yes"})
	case TypeDateTime:
		return rapid.StringMatching(`[0-9]{3}[1-9]-(0[1-9]|1[0-2])-[0-2][1-9]T(0[0-9]|1[0-9]|2[0-4]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,11})?(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9])?`)
	case TypeBase64:
		return rapid.StringMatching(`([A-Za-z0-9+/]{4}){0,3}([A-Za-z0-9+/]{2}==)?`)
	case TypeHexBinary:
		return rapid.StringMatching(`([0-9a-fA-F]{2}){0,5}`)
	case TypeString:
		return rapid.String()
	}
	return digits
}

func TestCanonicalIdempotent(t *testing.T) {
	accepted := 0
	rapid.Check(t, func(t *rapid.T) {
		f := &Facts{
			Type: Type(rapid.IntRange(int(TypeString), int(TypeHexBinary)).Draw(t, "type")),
			List: rapid.Bool().Draw(t, "list"),
		}
		if f.Type == TypeString && rapid.Bool().Draw(t, "ref") {
			f.PathRef = &PathRef{Target: "row"}
		}
		text := genText(f.Type).Draw(t, "text")
		if f.List {
			text = strings.Join(rapid.SliceOfN(genText(f.Type), 0, 4).Draw(t, "items"), " , ")
		}
		c, err := f.Canonical(text)
		if err != nil {
			return
		}
		accepted++
		again, err := f.Canonical(c)
		if err != nil || again != c {
			t.Fatalf("type %d: %q -> %q -> %q %v", f.Type, text, c, again, err)
		}
		if f.List || f.Type == TypeString {
			return
		}
		if ok, err := f.Compare(OpEq, c, text, false); err != nil || !ok {
			t.Fatalf("type %d: %q does not equal its own text %q: %v", f.Type, c, text, err)
		}
	})
	if accepted < 20 {
		t.Errorf("only %d texts were accepted", accepted)
	}
}

// TestCompareOrder: the decimal comparison agrees with that of small integers and is a total order.
func TestCompareOrder(t *testing.T) {
	f := &Facts{Type: TypeLong}
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64().Draw(t, "a"), rapid.Int64().Draw(t, "b")
		for op, want := range map[Op]bool{OpEq: a == b, OpNe: a != b, OpLt: a < b, OpLe: a <= b, OpGt: a > b, OpGe: a >= b} {
			got, err := f.Compare(op, fmt.Sprint(a), fmt.Sprint(b), false)
			if err != nil || got != want {
				t.Fatalf("%d %v %d: %v %v", a, op, b, got, err)
			}
		}
	})
}

func TestCompare(t *testing.T) {
	tests := []struct {
		f        Facts
		op       Op
		value    string
		constant string
		quoted   bool
		want     string // "true", "false" or "!"
	}{
		{Facts{Type: TypeDecimal}, OpLt, "1.5", "1.50001", false, "true"},
		{Facts{Type: TypeDecimal}, OpGt, "-1.5", "-1.6", false, "true"},
		{Facts{Type: TypeInt}, OpEq, "123", "+0123", false, "true"},
		{Facts{Type: TypeInt}, OpLt, "123", "99999999999999999999", false, "true"},
		{Facts{Type: TypeInt}, OpEq, "123", "12a", false, "!"},
		{Facts{Type: TypeInt}, OpEq, "123", "123", true, "!"},
		{Facts{Type: TypeInt}, OpNe, "garbage", "123", false, "false"},
		{Facts{Type: TypeHexBinary}, OpEq, "0A", "0a", false, "true"},
		{Facts{Type: TypeHexBinary}, OpEq, "0A", "0a", true, "true"},
		{Facts{Type: TypeHexBinary}, OpLt, "0A", "0B", false, "!"},
		{Facts{Type: TypeBase64}, OpNe, "YQ==", "Yg==", false, "true"},
		{Facts{Type: TypeDateTime}, OpLt, UnknownTime, "2026-01-01T00:00:00Z", false, "false"},
		{Facts{Type: TypeDateTime}, OpEq, UnknownTime, UnknownTime, false, "true"},
		{Facts{Type: TypeDateTime}, OpGe, "2026-01-01T00:00:00Z", UnknownTime, false, "!"},
		{Facts{Type: TypeDateTime}, OpLt, "0001-01-02T00:00:00Z", "2026-01-01T00:00:00Z", false, "false"},
		{Facts{Type: TypeDateTime}, OpLt, "0001-01-02T00:00:00Z", "0001-01-03T00:00:00Z", false, "true"},
		{Facts{Type: TypeDateTime}, OpLt, "2026-01-01T00:00:00Z", "soon", false, "!"},
		{Facts{Type: TypeUnsignedInt, List: true}, OpHas, "1,22,3", "022", false, "true"},
		{Facts{Type: TypeUnsignedInt, List: true}, OpHas, "1,22,3", "2", false, "false"},
		{Facts{Type: TypeUnsignedInt, List: true}, OpEq, "1,22", "01, 22", false, "true"},
		{Facts{Type: TypeUnsignedInt, List: true}, OpGt, "1,22", "1", false, "!"},
		{Facts{Type: TypeString, List: true}, OpHas, "a,b", "b", false, "!"},
		{Facts{Type: TypeString}, OpHas, "a,b", "b", true, "!"},
		{Facts{Type: TypeString}, OpGe, "a", "b", true, "!"},
	}
	for _, tt := range tests {
		got, err := tt.f.Compare(tt.op, tt.value, tt.constant, tt.quoted)
		text := fmt.Sprint(got)
		if err != nil {
			text = "!"
			if ReasonOf(err) != PathSyntax {
				t.Errorf("reason of %v", err)
			}
		}
		if text != tt.want {
			t.Errorf("%q %v %q: got %s (%v), want %s", tt.value, tt.op, tt.constant, text, err, tt.want)
		}
	}
}

func TestPatterns(t *testing.T) {
	tests := []struct {
		xsd, yes, no string // words separated by spaces
	}{
		{`[0-9A-F]{6}`, "00AB1F", "00ab1f 00AB1F0 x00AB1F"},
		{`a|b`, "a b", "ab aa"},
		{`\d+(\.\d+)*`, "1 1.2.3 ٣", "1. .1"},
		{`^a$`, "^a$", "a"},
		{`[^a\d]\w\W\s?`, "bx-", "axx 1x- bxx"},
		{`\i\c*`, "_a-b.c :x", "-a 1a"},
		{`([0-9]{1,15}?[BKMGT])`, "10K", "K"},
		{`[\w.-]+`, "a.b-c", "a/b"},
	}
	for _, tt := range tests {
		if err := CheckPattern(tt.xsd); err != nil {
			t.Error(err)
			continue
		}
		f := &Facts{Type: TypeString, Patterns: []string{tt.xsd}}
		for want, words := range map[bool]string{true: tt.yes, false: tt.no} {
			for _, w := range strings.Fields(words) {
				if _, err := f.Canonical(w); (err == nil) != want {
					t.Errorf("%s on %q: %v, want %v", tt.xsd, w, err, want)
				}
			}
		}
	}
	if _, err := (&Facts{Patterns: []string{"."}}).Canonical("\r"); err == nil {
		t.Error("a dot matched a carriage return")
	}
	for _, bad := range []string{`[a-z-[aeiou]]`, `\p{IsGreek}`, `a{1,2000}`, `(`, `a\`} {
		if CheckPattern(bad) == nil {
			t.Errorf("%s compiles", bad)
		}
		if _, err := (&Facts{Patterns: []string{bad}}).Canonical("a"); ReasonOf(err) != Internal || err == nil {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestPatternCacheIsBounded(t *testing.T) {
	for i := range 3 * maxPatterns {
		if _, err := (&Facts{Patterns: []string{fmt.Sprintf("x%d", i)}}).Canonical(fmt.Sprintf("x%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	patterns.RLock()
	defer patterns.RUnlock()
	if n := len(patterns.m); n > maxPatterns {
		t.Errorf("%d patterns are cached", n)
	}
}

func TestSplitList(t *testing.T) {
	for in, want := range map[string][]string{
		"": nil, "  ": nil, "a": {"a"}, " a , b ": {"a", "b"}, ",": {"", ""}, "a,": {"a", ""},
	} {
		if got := splitList(in, false); !slices.Equal(got, want) {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func FuzzCanonical(f *testing.F) {
	f.Add(uint8(0), false, "text")
	f.Add(uint8(7), false, "2026-01-31T24:00:00.5+01:00")
	f.Add(uint8(6), true, "1.5, -0.0")
	f.Add(uint8(8), false, "YW I=")
	f.Fuzz(func(t *testing.T, typ uint8, list bool, text string) {
		facts := &Facts{Type: Type(typ % uint8(TypeHexBinary+1)), List: list}
		c, err := facts.Canonical(text)
		if err != nil {
			if r := ReasonOf(err); r != InvalidType && r != InvalidValue {
				t.Fatalf("reason %v", r)
			}
			return
		}
		if again, err := facts.Canonical(c); err != nil || again != c {
			t.Fatalf("%q -> %q -> %q %v", text, c, again, err)
		}
	})
}

func BenchmarkCanonical(b *testing.B) {
	b.ReportAllocs()
	mac := &Facts{Type: TypeString, Size: []Range{{Max: i64(17)}}, Patterns: []string{"", "([0-9A-Fa-f][0-9A-Fa-f]:){5}([0-9A-Fa-f][0-9A-Fa-f])"}}
	num := &Facts{Type: TypeUnsignedInt, Range: []Range{{Min: i64(64), Max: i64(65535)}}}
	for b.Loop() {
		if _, err := mac.Canonical("00:11:22:33:44:55"); err != nil {
			b.Fatal(err)
		}
		if _, err := num.Canonical("1500"); err != nil {
			b.Fatal(err)
		}
	}
}
