package usp

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"twinspan/usp/uspmsg"
	"twinspan/usp/usprecord"
	"twinspan/usp/wire"
)

// Versions of USP as this project speaks them.
const (
	// Version stands in every record we send.
	Version = "1.4"
	// SupportedVersions is the list of GetSupportedProtocol and OnBoardRequest.
	SupportedVersions = "1.0,1.1,1.2,1.3,1.4"
)

// Kind says what a record is for.
type Kind uint8

const (
	// KindMessage carries a Message in Record.Payload.
	KindMessage Kind = iota + 1
	KindWebSocketConnect
	KindMQTTConnect
	KindSTOMPConnect
	KindUDSConnect
	KindDisconnect
)

// Record is an opened record whose addressing and form are in order. Whether From may be believed is for the caller: it
// must be compared with what the transport proved.
type Record struct {
	Kind    Kind
	Version string
	From    string
	To      string
	Payload []byte            // KindMessage only: the encoded Message, not empty
	Raw     *usprecord.Record // the rest: connect and disconnect contents, signature, certificate
}

// Action is what the standard wants done about a record that cannot be used.
type Action uint8

const (
	// Ignore drops the record without a trace on the wire.
	Ignore Action = iota
	// Reject tells the transport that it was garbage (Inbound.Reject).
	Reject
	// Disconnect answers Peer with a Disconnect record of the error's Code and Text (DisconnectRecord builds it).
	Disconnect
)

// RecordError says why a record was refused.
type RecordError struct {
	Code   uint32 // 7100-7106
	Text   string
	Action Action
	Peer   string // from_id where it could be read and has a valid form
}

func (e *RecordError) Error() string {
	return fmt.Sprintf("usp: record refused (%d): %s", e.Code, e.Text)
}

// OpenRecord decodes and checks one record addressed to self. Errors are *RecordError.
func OpenRecord(data []byte, self string, lim Limits) (*Record, error) {
	if len(data) > lim.RecordSize {
		return nil, &RecordError{Code: CodeRecordUnparsable, Action: Reject,
			Text: fmt.Sprintf("record of %d bytes is larger than %d", len(data), lim.RecordSize)}
	}
	raw, items := new(usprecord.Record), lim.Items
	if err := wire.Scan(data, raw, &items); err != nil {
		act := Reject
		if errors.Is(err, wire.ErrOneof) {
			act = Ignore // R-ENC.4
		}
		return nil, &RecordError{Code: CodeRecordUnparsable, Text: err.Error(), Action: act}
	}
	if err := wire.Unmarshal(data, raw); err != nil {
		return nil, &RecordError{Code: CodeRecordUnparsable, Text: "not a USP record", Action: Reject} // R-ENC.1
	}
	if err := checkAddresses(raw, self); err != nil {
		return nil, err
	}
	r := &Record{Version: raw.Version, From: raw.FromId, To: raw.ToId, Raw: raw}
	if err := r.classify(); err != nil {
		return nil, err
	}
	return r, nil
}

func checkAddresses(raw *usprecord.Record, self string) error {
	if err := CheckForeignID(raw.FromId); err != nil { // R-MTP.4b
		return &RecordError{Code: CodeInvalidRecordValue, Text: "from_id: " + err.Error(), Action: Reject}
	}
	if raw.ToId != self {
		// R-E2E.1; also what a forgotten to_id gets.
		return &RecordError{Code: CodeInvalidRecordValue, Text: "record is addressed to somebody else", Action: Ignore, Peer: raw.FromId}
	}
	if raw.FromId == self {
		// R-ARC.2, TP-469 2.1
		return &RecordError{Code: CodeInvalidRecordValue, Text: "record comes from our own endpoint id", Action: Ignore, Peer: raw.FromId}
	}
	if !isVersion(raw.Version) { // R-MTP.4b; any 1.x is taken, peers of every minor version are in the field
		return &RecordError{Code: CodeInvalidRecordValue, Text: fmt.Sprintf("version %q is not 1.x", clip(raw.Version)), Action: Ignore, Peer: raw.FromId}
	}
	return nil
}

// isVersion accepts "1." and up to three digits.
func isVersion(s string) bool {
	return len(s) >= 3 && len(s) <= 5 && s[:2] == "1." && allIn(s[2:], isDigit)
}

// classify sets Kind and Payload.
func (r *Record) classify() error { // returns *RecordError only
	refuse := func(code uint32, act Action, text string) error {
		return &RecordError{Code: code, Text: text, Action: act, Peer: r.From}
	}
	sec := r.Raw.PayloadSecurity
	if _, known := usprecord.Record_PayloadSecurity_name[int32(sec)]; !known {
		return refuse(CodeInvalidRecordValue, Ignore, fmt.Sprintf("unknown payload_security %d", sec)) // R-ENC.2
	}
	switch t := r.Raw.RecordType.(type) {
	case *usprecord.Record_NoSessionContext:
		if sec != usprecord.Record_PLAINTEXT {
			return refuse(CodeInvalidRecordValue, Ignore, "payload_security TLS12 needs a session context")
		}
		if len(t.NoSessionContext.GetPayload()) == 0 {
			return refuse(CodeInvalidRecordValue, Ignore, "no_session_context without payload") // R-E2E.26
		}
		r.Kind, r.Payload = KindMessage, t.NoSessionContext.Payload
	case *usprecord.Record_SessionContext:
		s := t.SessionContext
		switch {
		case sec == usprecord.Record_TLS12:
			return refuse(CodeSecureSessionUnsupp, Disconnect, "secure session contexts are not supported")
		case s.GetPayloadSarState() != usprecord.SessionContextRecord_NONE || s.GetPayloadrecSarState() != usprecord.SessionContextRecord_NONE:
			return refuse(CodeSARUnsupported, Disconnect, "segmentation is not supported")
		}
		return refuse(CodeSessionContextForbidden, Disconnect, "session contexts are not allowed") // R-E2E.6a
	case *usprecord.Record_WebsocketConnect:
		r.Kind = KindWebSocketConnect
	case *usprecord.Record_MqttConnect:
		if _, known := usprecord.MQTTConnectRecord_MQTTVersion_name[int32(t.MqttConnect.GetVersion())]; !known {
			return refuse(CodeInvalidRecordValue, Ignore, "unknown MQTT version in mqtt_connect") // R-ENC.2
		}
		r.Kind = KindMQTTConnect
	case *usprecord.Record_StompConnect:
		if _, known := usprecord.STOMPConnectRecord_STOMPVersion_name[int32(t.StompConnect.GetVersion())]; !known {
			return refuse(CodeInvalidRecordValue, Ignore, "unknown STOMP version in stomp_connect") // R-ENC.2
		}
		r.Kind = KindSTOMPConnect
	case *usprecord.Record_UdsConnect:
		r.Kind = KindUDSConnect
	case *usprecord.Record_Disconnect:
		r.Kind = KindDisconnect
	default:
		return refuse(CodeRecordUnparsable, Ignore, "record without a known record_type") // R-ENC.4
	}
	return nil
}

// Field numbers of the record as WrapMessage writes them.
const (
	fieldVersion   = 1
	fieldTo        = 2
	fieldFrom      = 3
	fieldNoSession = 7
	fieldPayload   = 2 // in NoSessionContextRecord
)

// WrapMessage encodes a Message into a plaintext record without session context. The message is encoded once, straight
// into the record.
func WrapMessage(from, to string, m *uspmsg.Msg) ([]byte, error) {
	sized, err := wire.Measure(m)
	if err != nil {
		return nil, fmt.Errorf("usp: encode message: %w", err)
	}
	b := appendHead(nil, from, to, sized.Size+16)
	return sized.Append(appendPayloadHead(b, sized.Size)), nil
}

// WrapPayload makes a record of an encoded Message.
func WrapPayload(from, to string, payload []byte) []byte {
	b := appendHead(nil, from, to, len(payload)+16)
	return append(appendPayloadHead(b, len(payload)), payload...)
}

func appendPayloadHead(b []byte, size int) []byte {
	b = protowire.AppendTag(b, fieldNoSession, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(protowire.SizeTag(fieldPayload)+protowire.SizeBytes(size)))
	b = protowire.AppendTag(b, fieldPayload, protowire.BytesType)
	return protowire.AppendVarint(b, uint64(size))
}

// appendHead writes the fields that every record has; payload_security PLAINTEXT is the zero value. R-MTP.4b
func appendHead(b []byte, from, to string, room int) []byte {
	if b == nil {
		b = make([]byte, 0, len(from)+len(to)+len(Version)+12+room)
	}
	for _, f := range [...]struct {
		num protowire.Number
		s   string
	}{{fieldVersion, Version}, {fieldTo, to}, {fieldFrom, from}} {
		b = protowire.AppendTag(b, f.num, protowire.BytesType)
		b = protowire.AppendString(b, f.s)
	}
	return b
}

func wrapRaw(from, to string, set func(*usprecord.Record)) []byte {
	r := &usprecord.Record{Version: Version, ToId: to, FromId: from}
	set(r)
	b, err := wire.Marshal(r)
	if err != nil {
		// Only invalid UTF-8 can do this; IDs are checked where they enter, topics by the broker. An empty slice is
		// refused by every transport.
		return nil
	}
	return b
}

// WebSocketConnect is the first record on a WebSocket. R-MTP.6
func WebSocketConnect(from, to string) []byte {
	return wrapRaw(from, to, func(r *usprecord.Record) {
		r.RecordType = &usprecord.Record_WebsocketConnect{WebsocketConnect: &usprecord.WebSocketConnectRecord{}}
	})
}

// UDSConnect is the first record on a Unix domain socket. R-MTP.6
func UDSConnect(from, to string) []byte {
	return wrapRaw(from, to, func(r *usprecord.Record) {
		r.RecordType = &usprecord.Record_UdsConnect{UdsConnect: &usprecord.UDSConnectRecord{}}
	})
}

// MQTTConnect is the first record over an MQTT 5 broker; topic is the sender's own reply-to topic. R-MTP.6
func MQTTConnect(from, to, topic string) []byte {
	return wrapRaw(from, to, func(r *usprecord.Record) {
		r.RecordType = &usprecord.Record_MqttConnect{MqttConnect: &usprecord.MQTTConnectRecord{
			Version: usprecord.MQTTConnectRecord_V5, SubscribedTopic: topic,
		}}
	})
}

// STOMPConnect is the first record over a STOMP server.
func STOMPConnect(from, to, destination string) []byte {
	return wrapRaw(from, to, func(r *usprecord.Record) {
		r.RecordType = &usprecord.Record_StompConnect{StompConnect: &usprecord.STOMPConnectRecord{
			Version: usprecord.STOMPConnectRecord_V1_2, SubscribedDestination: destination,
		}}
	})
}

// DisconnectRecord says goodbye with a reason. R-MTP.7, R-MTP.9
func DisconnectRecord(from, to string, code uint32, reason string) []byte {
	return wrapRaw(from, to, func(r *usprecord.Record) {
		r.RecordType = &usprecord.Record_Disconnect{Disconnect: &usprecord.DisconnectRecord{ReasonCode: code, Reason: reason}}
	})
}
