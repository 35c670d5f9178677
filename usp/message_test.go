package usp

import (
	"bytes"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"twinspan/usp/uspmsg"
	"twinspan/usp/wire"
)

func encode(t testing.TB, m wire.Message) []byte {
	t.Helper()
	b, err := wire.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// lenDelim appends one length-delimited field.
func lenDelim(b []byte, num protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), v)
}

func TestDecodeMessageRefuses(t *testing.T) {
	header := lenDelim(nil, 1, encode(t, &uspmsg.Header{MsgId: "7", MsgType: uspmsg.Header_GET}))
	body := func(req []byte) []byte { return lenDelim(bytes.Clone(header), 2, lenDelim(nil, 1, req)) }
	request := func(r *uspmsg.Request) []byte { return encode(t, NewRequest("7", r)) }
	response := func(r *uspmsg.Response) []byte { return encode(t, NewResponse("7", r)) }
	good := encode(t, getMsg("7", "Device."))
	many := &uspmsg.Get{}
	for range 60_000 {
		many.ParamPaths = append(many.ParamPaths, "")
	}
	unknownType := getMsg("7", "Device.")
	unknownType.Header.MsgType = 99
	for _, c := range []struct {
		name   string
		data   []byte
		code   uint32
		answer bool
	}{
		{"empty", nil, CodeInvalidArguments, false},
		{"no header", lenDelim(nil, 2, lenDelim(nil, 1, lenDelim(nil, 1, nil))), CodeInvalidArguments, false},
		{"empty msg_id", encode(t, getMsg("", "Device.")), CodeInvalidArguments, false},
		{"long msg_id", encode(t, getMsg(strings.Repeat("x", MaxMsgID+1), "Device.")), CodeInvalidArguments, false},
		{"no body", header, CodeInvalidArguments, false},
		{"empty body", lenDelim(bytes.Clone(header), 2, nil), CodeInvalidArguments, false},
		{"empty request", body(nil), CodeInvalidArguments, true},
		{"unknown request", body(lenDelim(nil, 77, nil)), CodeMessageNotSupported, true},
		{"two requests in one", body(lenDelim(lenDelim(nil, 1, nil), 4, nil)), CodeInvalidArguments, true},
		{"two bodies", append(bytes.Clone(good), good...), CodeInvalidArguments, true},
		{"truncated", good[:len(good)-2], CodeMessageFailed, false},
		{"bad text", body(lenDelim(nil, 1, lenDelim(nil, 1, []byte{0xff}))), CodeMessageFailed, true},
		{"unknown msg_type", encode(t, unknownType), CodeInvalidArguments, true},
		{"too many paths", request(&uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: many}}), CodeResourcesExceeded, true},
		{"notify of nothing", request(&uspmsg.Request{ReqType: &uspmsg.Request_Notify{Notify: &uspmsg.Notify{}}}), CodeInvalidArguments, true},
		{"empty response", response(&uspmsg.Response{}), CodeInvalidArguments, false},
		{"set response without status", response(&uspmsg.Response{RespType: &uspmsg.Response_SetResp{SetResp: &uspmsg.SetResp{
			UpdatedObjResults: []*uspmsg.SetResp_UpdatedObjectResult{{RequestedPath: "Device."}}}}}), CodeInvalidArguments, false},
		{"unknown enum in response", response(&uspmsg.Response{RespType: &uspmsg.Response_GetSupportedDmResp{GetSupportedDmResp: &uspmsg.GetSupportedDMResp{
			ReqObjResults: []*uspmsg.GetSupportedDMResp_RequestedObjectResult{{SupportedObjs: []*uspmsg.GetSupportedDMResp_SupportedObjectResult{{Access: 9}}}}}}}), CodeInvalidArguments, false},
	} {
		_, err := DecodeMessage(c.data, DefaultLimits())
		var me *MessageError
		if !errors.As(err, &me) {
			t.Errorf("%s: error %v is no MessageError", c.name, err)
			continue
		}
		if me.Code != c.code || me.Answer != c.answer {
			t.Errorf("%s: code %d answer %t (%s), want %d %t", c.name, me.Code, me.Answer, me.Text, c.code, c.answer)
		}
		if r := me.Reply(); me.Answer && (r.Header.MsgId != "7" || r.Body.GetError().GetErrCode() != c.code) {
			t.Errorf("%s: reply %v", c.name, r)
		}
	}
}

func TestDecodeMessageTolerates(t *testing.T) {
	wrongType := getMsg("1", "Device.")
	wrongType.Header.MsgType = uspmsg.Header_SET // R-MSG.10
	for name, data := range map[string][]byte{
		"wrong msg_type":   encode(t, wrongType),
		"no paths":         encode(t, getMsg("1")),
		"unknown field":    lenDelim(encode(t, getMsg("1", "Device.")), 99, []byte("x")),
		"error":            encode(t, ErrorMessage("1", Fault{Code: 7000, Text: "x"})),
		"newer major code": encode(t, ErrorMessage("1", Fault{Code: 7999, Text: "x"})),
	} {
		if _, err := DecodeMessage(data, DefaultLimits()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAmplification proves that a message full of empty elements is refused before memory is spent on it.
func TestAmplification(t *testing.T) {
	var inner []byte
	for range 250_000 {
		inner = lenDelim(inner, 2, nil) // create_objs
	}
	data := lenDelim(lenDelim(nil, 1, encode(t, &uspmsg.Header{MsgId: "1"})), 2, lenDelim(nil, 1, lenDelim(nil, 5, inner)))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := DecodeMessage(data, DefaultLimits())
	runtime.ReadMemStats(&after)
	var me *MessageError
	if !errors.As(err, &me) || me.Code != CodeResourcesExceeded {
		t.Fatalf("got %v", err)
	}
	if spent := after.TotalAlloc - before.TotalAlloc; spent > 256<<10 {
		t.Errorf("refusing cost %d bytes", spent)
	}
}

// TestTypeOf makes every alternative of both oneofs and compares its msg_type with the name of the field, so that a
// forgotten case shows.
func TestTypeOf(t *testing.T) {
	for _, side := range []interface{ OneofWrappers() []any }{&uspmsg.Request{}, &uspmsg.Response{}} {
		for _, alternative := range side.OneofWrappers() {
			w := reflect.New(reflect.TypeOf(alternative).Elem())
			f := w.Elem().Type().Field(0)
			w.Elem().Field(0).Set(reflect.New(f.Type.Elem()))
			m := &uspmsg.Msg{Header: &uspmsg.Header{MsgId: "1"}, Body: &uspmsg.Body{}}
			switch side.(type) {
			case *uspmsg.Request:
				r := &uspmsg.Request{}
				reflect.ValueOf(r).Elem().FieldByName("ReqType").Set(w)
				m.Body.MsgBody = &uspmsg.Body_Request{Request: r}
			case *uspmsg.Response:
				r := &uspmsg.Response{}
				reflect.ValueOf(r).Elem().FieldByName("RespType").Set(w)
				m.Body.MsgBody = &uspmsg.Body_Response{Response: r}
			}
			_, name, _ := strings.Cut(f.Tag.Get("protobuf"), "name=")
			name, _, _ = strings.Cut(name, ",")
			want := strings.Replace(strings.ToUpper(name), "PROTOCOL", "PROTO", 1)
			if got := TypeOf(m).String(); got != want {
				t.Errorf("%s: msg_type %s, want %s", name, got, want)
			}
		}
	}
}
