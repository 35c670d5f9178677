package udp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

var sample = Message{Type: BindingRequest, Transaction: TransactionID{1, 2, 3, 15: 9}, Binding: true, BindingChange: true,
	Username: "cpe01", Response: netip.MustParseAddrPort("198.51.100.7:4711")}

func TestEncode(t *testing.T) {
	raw, err := sample.Encode("key")
	if err != nil {
		t.Fatal(err)
	}
	// Header, RESPONSE-ADDRESS, CONNECTION-REQUEST-BINDING, BINDING-CHANGE, USERNAME with three blanks; then the integrity.
	want := "0001004c" + "01020300000000000000000000000009" + "00020008" + "00011267c6336407" +
		"c0010014" + hex.EncodeToString([]byte("dslforum.org/TR-111 ")) + "c0020000" + "00060008" + "6370653031202020" + "00080014"
	if got := hex.EncodeToString(raw); !strings.HasPrefix(got, want) || len(raw) != 20+76 {
		t.Errorf("\n%s\n%s", got, want)
	}
	// The text before the integrity is 72 bytes, padded to 128. Made by other means, with the key "key".
	const mac = "ef10ee39aaedc7d8c4a4a27fee0ab74fd3e1a0ac"
	if got := hex.EncodeToString(raw[len(raw)-20:]); got != mac {
		t.Errorf("integrity %s", got)
	}
	m, err := Decode(raw)
	if err != nil || !m.Proved("key") || m.Proved("other") || m.Proved("") || !m.HasIntegrity() {
		t.Fatal(m, err)
	}
	m.raw, m.integrity = nil, 0
	if !reflect.DeepEqual(*m, sample) {
		t.Errorf("%+v", m)
	}
}

func TestIntegrityPadding(t *testing.T) {
	for n := range 70 {
		text := bytes.Repeat([]byte{'x'}, n)
		padded := append(bytes.Clone(text), make([]byte, (64-n%64)%64)...)
		if !bytes.Equal(integrity(text, "k"), integrity(padded, "k")) {
			t.Errorf("%d bytes", n)
		}
	}
	m := Message{Type: BindingResponse, Mapped: netip.MustParseAddrPort("192.0.2.1:5")}
	raw, _ := m.Encode("k")
	raw[len(raw)-25] ^= 1
	if got, err := Decode(raw); err != nil || got.Proved("k") {
		t.Error("changed text is proved")
	}
}

func TestDecodeMalformed(t *testing.T) {
	head := func(n byte) []byte { return append([]byte{0, 1, 0, n}, make([]byte, 16)...) }
	for name, data := range map[string][]byte{
		"empty":           {},
		"short":           make([]byte, 19),
		"letter":          []byte("GET http://h?x HTTP/1.1\r\n\r\n"),
		"length":          head(4),
		"half attribute":  append(head(2), 0, 1),
		"attribute":       append(head(4), 0, 6, 0, 1),
		"address":         append(head(8), 0, 1, 0, 4, 0, 1, 0, 1),
		"IPv6 address":    append(head(24), append([]byte{0, 1, 0, 20, 0, 2}, make([]byte, 18)...)...),
		"integrity":       append(head(4), 0, 8, 0, 0),
		"error code":      append(head(4), 0, 9, 0, 0),
		"error class":     append(head(8), 0, 9, 0, 4, 0, 0, 1, 1),
		"error number":    append(head(8), 0, 9, 0, 4, 0, 0, 4, 100),
		"many attributes": append([]byte{0, 1, 0, 132}, append(make([]byte, 16), bytes.Repeat([]byte{0xff, 0, 0, 0}, 33)...)...),
		"too long":        make([]byte, maxDatagram+1),
	} {
		if m, err := Decode(data); !errors.Is(err, ErrSTUN) || m != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecodeLenient(t *testing.T) {
	// An unknown attribute that must be understood, one that need not, and a user name after the integrity.
	raw, _ := (&Message{Type: BindingResponse, Mapped: netip.MustParseAddrPort("192.0.2.1:5")}).Encode("k")
	raw = appendAttr(raw, attrUsername, []byte("evil"))
	raw[3] += 8
	m, err := Decode(raw)
	if err != nil || m.Username != "" {
		t.Error(m, err)
	}
	b := appendAttr(appendAttr(make([]byte, 20), 0x7777, nil), 0x8022, []byte("abc\x00"))
	b[3] = byte(len(b) - 20)
	if m, err := Decode(b); err != nil || len(m.Unknown) != 1 {
		t.Error(m, err)
	}
	e := Message{Type: BindingErrorResponse, ErrorCode: 420, Reason: "Unknown", Unknown: []uint16{2}}
	raw, _ = e.Encode("")
	if m, err := Decode(raw); err != nil || m.ErrorCode != 420 || m.Reason != "Unknown " {
		t.Error(m, err)
	}
}

func TestEncodeRefuses(t *testing.T) {
	for _, m := range []Message{{Username: strings.Repeat("u", maxUsername+1)}, {Mapped: netip.MustParseAddrPort("[2001:db8::1]:1")}} {
		if _, err := m.Encode(""); err == nil {
			t.Errorf("%+v", m)
		}
	}
}

func TestTransactionID(t *testing.T) {
	if a, b := NewTransactionID(), NewTransactionID(); a == b {
		t.Error("twice the same")
	}
}

func FuzzDecode(f *testing.F) {
	raw, _ := sample.Encode("key")
	f.Add(raw)
	raw, _ = (&Message{Type: BindingErrorResponse, ErrorCode: 401, Reason: "no"}).Encode("")
	f.Add(raw)
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Decode(data)
		if err != nil {
			return
		}
		m.Proved("key")
		raw, err := m.Encode("key")
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(raw)
		if err != nil || !again.Proved("key") || again.Mapped != m.Mapped || again.Response != m.Response ||
			again.Username != m.Username || again.Binding != m.Binding || again.ErrorCode != m.ErrorCode {
			t.Fatalf("%+v\n%+v\n%v", m, again, err)
		}
	})
}
