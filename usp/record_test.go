package usp

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"twinspan/usp/uspmsg"
	"twinspan/usp/usprecord"
	"twinspan/usp/wire"
)

const (
	self = "os::012345-AGENT"
	peer = "self::ctrl"
)

func getMsg(id string, paths ...string) *uspmsg.Msg {
	return NewRequest(id, &uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: paths}}})
}

func mustWrap(t testing.TB, from, to string, m *uspmsg.Msg) []byte {
	t.Helper()
	b, err := WrapMessage(from, to, m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestWrapEqualsGenerated compares the hand-written record encoding with the generated one, byte for byte.
func TestWrapEqualsGenerated(t *testing.T) {
	m := getMsg("m1", "Device.DeviceInfo.", strings.Repeat("x", 300))
	payload, err := wire.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	want, err := wire.Marshal(&usprecord.Record{
		Version: Version, ToId: self, FromId: peer,
		RecordType: &usprecord.Record_NoSessionContext{NoSessionContext: &usprecord.NoSessionContextRecord{Payload: payload}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := mustWrap(t, peer, self, m); !bytes.Equal(got, want) {
		t.Errorf("WrapMessage\n got %x\nwant %x", got, want)
	}
	if got := WrapPayload(peer, self, payload); !bytes.Equal(got, want) {
		t.Errorf("WrapPayload\n got %x\nwant %x", got, want)
	}
}

func TestOpenRecordKinds(t *testing.T) {
	for _, c := range []struct {
		name string
		data []byte
		kind Kind
	}{
		{"message", mustWrap(t, peer, self, getMsg("1", "Device.")), KindMessage},
		{"websocket", WebSocketConnect(peer, self), KindWebSocketConnect},
		{"uds", UDSConnect(peer, self), KindUDSConnect},
		{"mqtt", MQTTConnect(peer, self, "usp/c"), KindMQTTConnect},
		{"stomp", STOMPConnect(peer, self, "usp.c"), KindSTOMPConnect},
		{"disconnect", DisconnectRecord(peer, self, CodeSessionTerminated, "bye"), KindDisconnect},
	} {
		r, err := OpenRecord(c.data, self, DefaultLimits())
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if r.Kind != c.kind || r.From != peer || r.To != self || r.Version != Version {
			t.Errorf("%s: got %+v", c.name, r)
		}
	}
	r, err := OpenRecord(MQTTConnect(peer, self, "usp/c"), self, DefaultLimits())
	if err != nil || r.Raw.GetMqttConnect().GetSubscribedTopic() != "usp/c" || r.Raw.GetMqttConnect().GetVersion() != usprecord.MQTTConnectRecord_V5 {
		t.Errorf("mqtt connect: %v %v", r, err)
	}
}

func marshalRecord(t testing.TB, change func(*usprecord.Record)) []byte {
	t.Helper()
	r := &usprecord.Record{Version: Version, ToId: self, FromId: peer,
		RecordType: &usprecord.Record_NoSessionContext{NoSessionContext: &usprecord.NoSessionContextRecord{Payload: []byte{1}}}}
	change(r)
	b, err := wire.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOpenRecordRefuses(t *testing.T) {
	session := func(change func(r *usprecord.Record, s *usprecord.SessionContextRecord)) []byte {
		return marshalRecord(t, func(r *usprecord.Record) {
			s := &usprecord.SessionContextRecord{SessionId: 2, SequenceId: 1, ExpectedId: 1}
			r.RecordType = &usprecord.Record_SessionContext{SessionContext: s}
			change(r, s)
		})
	}
	good := marshalRecord(t, func(*usprecord.Record) {})
	for _, c := range []struct {
		name string
		data []byte
		code uint32
		act  Action
	}{
		{"empty", nil, CodeInvalidRecordValue, Reject},
		{"garbage", []byte("GET / HTTP/1.1\r\n\r\n"), CodeRecordUnparsable, Reject},
		{"truncated", good[:len(good)-1], CodeRecordUnparsable, Reject},
		{"too large", make([]byte, 1<<20+1), CodeRecordUnparsable, Reject},
		{"not UTF-8", protowire.AppendString(protowire.AppendTag(nil, fieldFrom, protowire.BytesType), "\xff"), CodeRecordUnparsable, Reject},
		{"no record type", marshalRecord(t, func(r *usprecord.Record) { r.RecordType = nil }), CodeRecordUnparsable, Ignore},
		{"two record types", append(bytes.Clone(good), 0x4a, 0), CodeRecordUnparsable, Ignore},
		{"unknown record type", append(marshalRecord(t, func(r *usprecord.Record) { r.RecordType = nil }), 0x72, 0), CodeRecordUnparsable, Ignore},
		{"no from_id", marshalRecord(t, func(r *usprecord.Record) { r.FromId = "" }), CodeInvalidRecordValue, Reject},
		{"long from_id", marshalRecord(t, func(r *usprecord.Record) { r.FromId = strings.Repeat("a", MaxForeignID+1) }), CodeInvalidRecordValue, Reject},
		{"from_id with line break", marshalRecord(t, func(r *usprecord.Record) { r.FromId = "self::a\nb" }), CodeInvalidRecordValue, Reject},
		{"no to_id", marshalRecord(t, func(r *usprecord.Record) { r.ToId = "" }), CodeInvalidRecordValue, Ignore},
		{"to somebody else", marshalRecord(t, func(r *usprecord.Record) { r.ToId = "self::x" }), CodeInvalidRecordValue, Ignore}, // TP-469 2.2
		{"from ourselves", marshalRecord(t, func(r *usprecord.Record) { r.FromId = self }), CodeInvalidRecordValue, Ignore},      // TP-469 2.1
		{"version 2", marshalRecord(t, func(r *usprecord.Record) { r.Version = "2.0" }), CodeInvalidRecordValue, Ignore},
		{"no version", marshalRecord(t, func(r *usprecord.Record) { r.Version = "" }), CodeInvalidRecordValue, Ignore},
		{"empty payload", marshalRecord(t, func(r *usprecord.Record) { r.GetNoSessionContext().Payload = nil }), CodeInvalidRecordValue, Ignore},
		{"TLS without context", marshalRecord(t, func(r *usprecord.Record) { r.PayloadSecurity = usprecord.Record_TLS12 }), CodeInvalidRecordValue, Ignore},
		{"unknown security", marshalRecord(t, func(r *usprecord.Record) { r.PayloadSecurity = 9 }), CodeInvalidRecordValue, Ignore},
		{"unknown MQTT version", marshalRecord(t, func(r *usprecord.Record) {
			r.RecordType = &usprecord.Record_MqttConnect{MqttConnect: &usprecord.MQTTConnectRecord{Version: 7}}
		}), CodeInvalidRecordValue, Ignore},
		{"session", session(func(*usprecord.Record, *usprecord.SessionContextRecord) {}), CodeSessionContextForbidden, Disconnect},
		{"secure session", session(func(r *usprecord.Record, _ *usprecord.SessionContextRecord) {
			r.PayloadSecurity = usprecord.Record_TLS12
		}), CodeSecureSessionUnsupp, Disconnect},
		{"segments", session(func(_ *usprecord.Record, s *usprecord.SessionContextRecord) {
			s.PayloadSarState = usprecord.SessionContextRecord_BEGIN
		}), CodeSARUnsupported, Disconnect},
	} {
		_, err := OpenRecord(c.data, self, DefaultLimits())
		var re *RecordError
		if !errors.As(err, &re) {
			t.Errorf("%s: error %v is no RecordError", c.name, err)
			continue
		}
		if re.Code != c.code || re.Action != c.act {
			t.Errorf("%s: code %d action %d, want %d %d (%s)", c.name, re.Code, re.Action, c.code, c.act, re.Text)
		}
		if re.Action == Disconnect && re.Peer != peer {
			t.Errorf("%s: nobody to answer to: %+v", c.name, re)
		}
	}
	for _, v := range []string{"1.0", "1.3", "1.4", "1.99"} {
		if _, err := OpenRecord(marshalRecord(t, func(r *usprecord.Record) { r.Version = v }), self, DefaultLimits()); err != nil {
			t.Errorf("version %s refused: %v", v, err)
		}
	}
}

func TestWrapRefusesInvalidText(t *testing.T) {
	if _, err := WrapMessage(self, peer, getMsg("1", "\xff")); err == nil {
		t.Error("a path that is not UTF-8 was encoded")
	}
}

func BenchmarkOpenDecode(b *testing.B) {
	data := mustWrap(b, peer, self, getMsg("12345", "Device.DeviceInfo.SoftwareVersion"))
	b.ReportAllocs()
	for b.Loop() {
		r, err := OpenRecord(data, self, DefaultLimits())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := DecodeMessage(r.Payload, DefaultLimits()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWrap(b *testing.B) {
	m := getMsg("12345", "Device.DeviceInfo.SoftwareVersion")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := WrapMessage(self, peer, m); err != nil {
			b.Fatal(err)
		}
	}
}
