package proto

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"twinspan/usp/proto/internal/refmsg"
	"twinspan/usp/uspmsg"
	"twinspan/usp/wire"
)

// setMessage is a Set of four parameters as a Controller sends it.
func setMessage(b *testing.B) []byte {
	set := &uspmsg.Set{UpdateObjs: []*uspmsg.Set_UpdateObject{{ObjPath: "Device.Time.Client.1."}, {ObjPath: "Device.Time.Client.2."}}}
	for _, o := range set.UpdateObjs {
		o.ParamSettings = []*uspmsg.Set_UpdateParamSetting{
			{Param: "Servers", Value: "ntp.operator.example", Required: true}, {Param: "Enable", Value: "true", Required: true},
		}
	}
	m := &uspmsg.Msg{
		Header: &uspmsg.Header{MsgId: "msg-4711", MsgType: uspmsg.Header_SET},
		Body:   &uspmsg.Body{MsgBody: &uspmsg.Body_Request{Request: &uspmsg.Request{ReqType: &uspmsg.Request_Set{Set: set}}}},
	}
	out, err := wire.Marshal(m)
	if err != nil {
		b.Fatal(err)
	}
	return out
}

// The names say which side is measured: ours, or the protobuf runtime for comparison.
func BenchmarkDecodeOurs(b *testing.B) {
	in := setMessage(b)
	b.ReportAllocs()
	for b.Loop() {
		items := 100
		m := new(uspmsg.Msg)
		if wire.Scan(in, m, &items) != nil || wire.Unmarshal(in, m) != nil {
			b.Fatal("not decoded")
		}
	}
}

func BenchmarkDecodeRuntime(b *testing.B) {
	in := setMessage(b)
	b.ReportAllocs()
	for b.Loop() {
		if proto.Unmarshal(in, new(refmsg.Msg)) != nil {
			b.Fatal("not decoded")
		}
	}
}

func BenchmarkEncodeOurs(b *testing.B) {
	m := new(uspmsg.Msg)
	if err := wire.Unmarshal(setMessage(b), m); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wire.Marshal(m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeRuntime(b *testing.B) {
	m := new(refmsg.Msg)
	if err := proto.Unmarshal(setMessage(b), m); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := proto.Marshal(m); err != nil {
			b.Fatal(err)
		}
	}
}
