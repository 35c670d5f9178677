package compact

import (
	"bytes"
	"testing"

	"twinspan/datamodel"
)

// small is a schema with one of everything.
func small() *datamodel.Schema {
	n := func(v int64) *int64 { return &v }
	name := &datamodel.Facts{
		Type: datamodel.TypeString, Access: datamodel.ReadWrite, Named: "Alias",
		Size: []datamodel.Range{{Min: n(1), Max: n(64)}}, Patterns: []string{"[a-z]+"}, Version: "2.0",
		Enum: []datamodel.EnumValue{{Value: "a", Optional: true}, {Value: "b", Deprecated: true}},
	}
	number := &datamodel.Facts{
		Type: datamodel.TypeInt, List: true, ListLen: []datamodel.Range{{Max: n(9)}}, ListSize: []datamodel.Range{{Min: n(2)}},
		Range: []datamodel.Range{{Min: n(-5), Max: n(5), Step: 5}}, Units: "dB", Default: "0", HasDefault: true,
		PathRef: &datamodel.PathRef{Strong: true, Target: "row", Parents: []string{"Device.T."}},
		EnumRef: "Device.T.{i}.Name", Hidden: true, Secured: true, Command: true, Mandatory: true, ForcedInform: true,
		FactoryOnly: true, ActiveNotify: "canDeny", Status: "deprecated",
	}
	row := &datamodel.Object{
		Path: "Device.T.{i}.", Name: "T", Multi: true, Protocols: datamodel.Both, MinEntries: 1, MaxEntries: -1,
		NumEntries: "TNumberOfEntries", Enable: "Name",
		Params: []*datamodel.Param{datamodel.NewParam("Name", name, name), datamodel.NewParam("Num", nil, number)},
		Keys:   []datamodel.UniqueKey{{Params: []string{"Name", "Num"}, Functional: true}, {Params: []string{"Name"}}},
		Commands: []*datamodel.Command{{Name: "Go()", Async: true,
			Inputs: []datamodel.Argument{{Name: "In.{i}.A", Facts: name}}, Outputs: []datamodel.Argument{{Name: "Out", Facts: number}}}},
		Events: []*datamodel.Event{{Name: "Gone!", Args: []datamodel.Argument{{Name: "Why", Facts: name}}}},
	}
	row.SetAccess(datamodel.CWMP, datamodel.ReadWrite)
	root := &datamodel.Object{
		Path: "Device.", Name: "Device", Protocols: datamodel.Both, MinEntries: 1, MaxEntries: 1,
		Params:   []*datamodel.Param{datamodel.NewParam("TNumberOfEntries", number, number)},
		Children: []*datamodel.Object{row},
	}
	return datamodel.NewSchema("Device", "1.0", root)
}

func encode(t testing.TB, s *datamodel.Schema) []byte {
	t.Helper()
	data, err := Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRoundTripOfEverything(t *testing.T) {
	data := encode(t, small())
	if err := Check(string(data)); err != nil {
		t.Fatal(err)
	}
	s, err := Decode(string(data), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(encode(t, s), data) {
		t.Error("decoding loses something")
	}
	m, ok := s.Lookup("Device.T.1.Num")
	if !ok || m.Param.Facts(datamodel.CWMP) != nil {
		t.Fatal("Device.T.1.Num is for USP only")
	}
	f := m.Param.Facts(datamodel.USP)
	if !f.List || *f.Range[0].Min != -5 || f.Range[0].Step != 5 || f.ListLen[0].Min != nil || !f.FactoryOnly ||
		f.PathRef.Parents[0] != "Device.T." || f.Status != "deprecated" {
		t.Errorf("facts %+v", f)
	}
	if o := m.Object; o.Access(datamodel.CWMP) != datamodel.ReadWrite || o.Access(datamodel.USP) != datamodel.ReadOnly ||
		o.MaxEntries != -1 || o.MinEntries != 1 || len(o.Keys) != 2 {
		t.Errorf("object %+v", o)
	}
}

// TestEveryByteMatters damages each byte in turn: the decoder must give an error or a sound schema, never panic.
func TestEveryByteMatters(t *testing.T) {
	data := encode(t, small())
	errors := 0
	for i := range data {
		for _, flip := range []byte{1, 0x80, 0xff} {
			bad := bytes.Clone(data)
			bad[i] ^= flip
			if s, err := Decode(string(bad), nil); err != nil {
				errors++
			} else {
				encode(t, s)
			}
			if i >= crcStart && Check(string(bad)) == nil {
				t.Fatalf("byte %d changed and the checksum did not notice", i)
			}
		}
	}
	if errors == 0 {
		t.Error("no damage was noticed")
	}
	for i := range data {
		if _, err := Decode(string(data[:i]), nil); err == nil {
			t.Fatalf("%d of %d bytes are accepted", i, len(data))
		}
	}
}

func FuzzDecode(f *testing.F) {
	data := encode(f, small())
	f.Add(data)
	f.Add(data[:headerSize])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Decode(string(data), nil)
		if err != nil {
			return
		}
		again, err := Encode(s)
		if err != nil {
			t.Fatalf("decoded but not encodable: %v", err)
		}
		if _, err := Decode(string(again), nil); err != nil {
			t.Fatalf("encoded but not decodable: %v", err)
		}
	})
}
