package soap

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var requests = []string{
	"GetRPCMethods", "SetParameterValues", "GetParameterValues", "GetParameterNames", "SetParameterAttributes",
	"GetParameterAttributes", "AddObject", "DeleteObject", "Reboot", "Download", "FactoryReset", "Upload",
	"ScheduleInform", "GetAllQueuedTransfers", "GetQueuedTransfers", "ScheduleDownload", "CancelTransfer",
	"ChangeDUState", "SetVouchers", "GetOptions", "Inform", "TransferComplete", "AutonomousTransferComplete",
	"DUStateChangeComplete", "AutonomousDUStateChangeComplete", "RequestDownload", "Kicked",
}

func allMethods() []string {
	var all []string
	for _, m := range requests {
		all = append(all, m, m+"Response")
	}
	return all
}

// xmlText draws texts that XML can carry, with the characters that need care among them.
func xmlText(t *rapid.T, label string, max int) string {
	return rapid.StringOfN(rapid.SampledFrom([]rune("aZ09 ._-<>&\"'\t\n\r]é漢\U0001F600/\\%")), 0, max, -1).Draw(t, label)
}

// draw fills any message of this package with values in the range of its schema.
func draw(t *rapid.T, v reflect.Value, name string) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Unix(rapid.Int64Range(-62135596800, 253402300799).Draw(t, name), 0).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if field.Type.Kind() == reflect.Func || field.Name == "Count" {
				continue
			}
			if v.Type() == reflect.TypeFor[DUOperation]() {
				drawOperation(t, v)
				return
			}
			draw(t, v.Field(i), field.Name)
		}
		if v.Type() == reflect.TypeFor[SetAttribute]() {
			a := v.Addr().Interface().(*SetAttribute)
			if !a.NotificationChange {
				a.Notification = 0
			}
			if !a.AccessListChange {
				a.AccessList = nil
			}
		}
	case reflect.Slice:
		if n := rapid.IntRange(0, 4).Draw(t, "n"); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				draw(t, v.Index(i), name)
			}
		}
	case reflect.String:
		v.SetString(xmlText(t, name, 32))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, name))
	case reflect.Uint32:
		v.SetUint(uint64(rapid.Uint32().Draw(t, name)))
	case reflect.Uint16:
		v.SetUint(uint64(rapid.Uint16Range(8000, 9999).Draw(t, name)))
	case reflect.Uint8: // Type
		v.SetUint(uint64(rapid.Uint8Range(0, uint8(Decimal)).Draw(t, name)))
	case reflect.Int:
		low, high := 0, 1
		switch name {
		case "State":
			low, high = 1, 3
		case "Notification":
			high = 6
		case "MaxRetries":
			low, high = -1, 100
		}
		v.SetInt(int64(rapid.IntRange(low, high).Draw(t, name)))
	default:
		panic("draw: " + v.Type().String())
	}
}

func drawOperation(t *rapid.T, v reflect.Value) {
	op := DUOperation{Kind: DUOperationKind(rapid.IntRange(1, 3).Draw(t, "kind")), UUID: xmlText(t, "uuid", 8)}
	if op.Kind != Install {
		op.Version = xmlText(t, "version", 8)
	}
	if op.Kind != Uninstall {
		op.URL, op.Username, op.Password = xmlText(t, "url", 8), xmlText(t, "user", 8), xmlText(t, "pass", 8)
	}
	if op.Kind != Update {
		op.ExecutionEnvRef = xmlText(t, "env", 8)
	}
	v.Set(reflect.ValueOf(op))
}

func TestEveryMethodIsKnown(t *testing.T) {
	for _, name := range allMethods() {
		m := New(name)
		if m == nil || m.Method() != name {
			t.Errorf("New(%q) = %v", name, m)
			continue
		}
		if got, want := IsRequest(m), !strings.HasSuffix(name, "Response"); got != want {
			t.Errorf("IsRequest(%s) = %v", name, got)
		}
	}
	if New("X_Foo") != nil {
		t.Error("New knows an unknown method")
	}
}

// Every message that can be written reads back the same, in the strict reading too (lengths aside).
func TestRoundTrip(t *testing.T) {
	for _, name := range allMethods() {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				m := New(name)
				draw(t, reflect.ValueOf(m).Elem(), name)
				if done, ok := m.(*DUStateChangeComplete); ok {
					for i := range done.Results {
						done.Results[i].OperationPerformed = "" // only in the autonomous variant
					}
				}
				in := &Envelope{Namespace: NSCWMP12, Header: Header{ID: xmlText(t, "id", 16), HasID: true}, Body: m}
				if rapid.Bool().Draw(t, "hold given") {
					in.Header.HoldRequests = new(rapid.Bool().Draw(t, "hold"))
				}
				in.Header.SessionTimeout = rapid.Uint32().Draw(t, "timeout")
				body, err := Append(nil, in)
				if err != nil {
					t.Fatal(err)
				}
				out, err := Decode(body, Options{})
				if err != nil {
					t.Fatalf("%v in\n%s", err, body)
				}
				if !reflect.DeepEqual(in, out) {
					t.Fatalf("in  %+v\nout %+v\n%s", in.Body, out.Body, body)
				}
				var stream bytes.Buffer
				if err := Encode(&stream, out); err != nil || !bytes.Equal(stream.Bytes(), body) {
					t.Fatalf("Encode differs from Append: %v", err)
				}
			})
		})
	}
}

func TestFaultRoundTrip(t *testing.T) {
	in := &Envelope{Header: Header{ID: "7"}, Body: &Fault{Code: InvalidArguments, SetParameterValuesFault: []SetParameterValuesFault{
		{ParameterName: "Device.A", FaultCode: InvalidParameterName, FaultString: "no <such> & name"},
		{ParameterName: "Device.B", FaultCode: NonWritableParameter},
	}}}
	body, err := Append(nil, in)
	if err != nil {
		t.Fatal(err)
	}
	env, err := Decode(body, Options{})
	if err != nil {
		t.Fatal(err)
	}
	f := env.Body.(*Fault)
	want := &Fault{Code: 9003, FaultString: "Invalid arguments", SOAPCode: "Client", SOAPString: "CWMP fault",
		SetParameterValuesFault: in.Body.(*Fault).SetParameterValuesFault}
	if !reflect.DeepEqual(f, want) {
		t.Fatalf("got %+v\nwant %+v", f, want)
	}
	if IsRequest(f) {
		t.Error("a fault is no request")
	}
	if f.Error() != "cwmp fault 9003: Invalid arguments" {
		t.Error(f.Error())
	}
}

func TestIterators(t *testing.T) {
	values := []ParameterValue{{"Device.A", "1", Int}, {"Device.B", "x<y", String}, {"Device.C", "", NoType}}
	names := []ParameterInfo{{"Device.", false}, {"Device.A", true}}
	attributes := []ParameterAttribute{{"Device.A", 2, []string{"Subscriber"}}, {Name: "Device.B"}}
	pairs := []struct{ streamed, plain Message }{
		{&GetParameterValuesResponse{Count: 3, Values: each(values)}, &GetParameterValuesResponse{ParameterList: values}},
		{&GetParameterNamesResponse{Count: 2, Names: each(names)}, &GetParameterNamesResponse{ParameterList: names}},
		{&GetParameterAttributesResponse{Count: 2, Attributes: each(attributes)}, &GetParameterAttributesResponse{ParameterList: attributes}},
		{&GetParameterValuesResponse{Count: 0, Values: each(values[:0])}, &GetParameterValuesResponse{}},
	}
	for _, p := range pairs {
		a, err := Append(nil, &Envelope{Body: p.streamed})
		if err != nil {
			t.Fatal(err)
		}
		b, err := Append(nil, &Envelope{Body: p.plain})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("iterator wrote\n%s\nlist wrote\n%s", a, b)
		}
	}
	for _, count := range []int{2, 4} {
		env := &Envelope{Body: &GetParameterValuesResponse{Count: count, Values: each(values)}}
		if _, err := Append(nil, env); err == nil {
			t.Errorf("Count %d for 3 items was accepted", count)
		}
	}
}

func each[T any](items []T) func(func(T) bool) {
	return func(yield func(T) bool) {
		for _, v := range items {
			if !yield(v) {
				return
			}
		}
	}
}

func bigResponse(n int) *Envelope {
	return &Envelope{Header: Header{ID: "42"}, Body: &GetParameterValuesResponse{Count: n, Values: func(yield func(ParameterValue) bool) {
		for i := range n {
			if !yield(bigValues[i%len(bigValues)]) {
				return
			}
		}
	}}}
}

var bigValues = func() (v []ParameterValue) {
	for i := range 100 {
		v = append(v, ParameterValue{fmt.Sprintf("Device.IP.Interface.%d.IPv4Address.%d.IPAddress", i, i), "192.0.2.1 & more", String})
	}
	return v
}()

// BenchmarkEncodeGPV5000 writes a GetParameterValuesResponse of 5,000 parameters; the budget is 5 ms.
func BenchmarkEncodeGPV5000(b *testing.B) {
	env := bigResponse(5000)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = Append(buf[:0], env); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(buf)))
}

// BenchmarkDecodeSPV5000 reads a SetParameterValues of 5,000 parameters.
func BenchmarkDecodeSPV5000(b *testing.B) {
	spv := &SetParameterValues{}
	for i := range 5000 {
		spv.ParameterList = append(spv.ParameterList, bigValues[i%len(bigValues)])
	}
	body, err := Append(nil, &Envelope{Body: spv})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := Decode(body, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
