package proto

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"twinspan/usp/proto/internal/refmsg"
	"twinspan/usp/proto/internal/refrecord"
	"twinspan/usp/uspmsg"
	"twinspan/usp/usprecord"
	"twinspan/usp/wire"
)

// twins are the two roots, in the protobuf runtime's types and in ours.
var twins = []struct {
	name string
	ref  func() proto.Message
	ours func() wire.Message
}{
	{"Msg", func() proto.Message { return new(refmsg.Msg) }, func() wire.Message { return new(uspmsg.Msg) }},
	{"Record", func() proto.Message { return new(refrecord.Record) }, func() wire.Message { return new(usprecord.Record) }},
}

// filler makes messages: every field of every message may be set, lists have up to three elements.
type filler struct {
	rnd   *rand.Rand
	empty int // of a hundred values, how many are left out
	seen  map[protoreflect.FullName]bool
}

func (f *filler) fill(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if f.rnd.IntN(100) < f.empty || fd.ContainingOneof() != nil {
			continue
		}
		f.set(m, fd)
	}
	for i := range m.Descriptor().Oneofs().Len() {
		if f.rnd.IntN(100) >= f.empty {
			all := m.Descriptor().Oneofs().Get(i).Fields()
			f.set(m, all.Get(f.rnd.IntN(all.Len())))
		}
	}
}

func (f *filler) set(m protoreflect.Message, fd protoreflect.FieldDescriptor) {
	f.seen[fd.FullName()] = true
	switch {
	case fd.IsMap():
		for range f.rnd.IntN(4) {
			m.Mutable(fd).Map().Set(protoreflect.ValueOfString(f.text()).MapKey(), protoreflect.ValueOfString(f.text()))
		}
	case fd.IsList():
		l := m.Mutable(fd).List()
		for range f.rnd.IntN(4) {
			if fd.Message() != nil {
				f.fill(l.AppendMutable().Message())
			} else {
				l.Append(f.scalar(fd))
			}
		}
	case fd.Message() != nil:
		f.fill(m.Mutable(fd).Message())
	default:
		m.Set(fd, f.scalar(fd))
	}
}

func (f *filler) text() string {
	return []string{"", "a", "Device.Grüße.", "x\x00y", string(bytes.Repeat([]byte("long "), 60))}[f.rnd.IntN(5)]
}

func (f *filler) scalar(fd protoreflect.FieldDescriptor) protoreflect.Value {
	n := []uint64{0, 1, 127, 128, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1<<64 - 1}[f.rnd.IntN(8)]
	switch fd.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(f.text())
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(f.text() + "\xff")[f.rnd.IntN(2):])
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(n&1 == 1)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(int32(n)))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(n))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(n)
	}
	panic(fmt.Sprintf("%s: the schema has a kind that package wire must learn: %s", fd.FullName(), fd.Kind()))
}

// TestWireAgainstRuntime encodes with the one and decodes with the other, for every field of the schema.
func TestWireAgainstRuntime(t *testing.T) {
	for _, tw := range twins {
		f := &filler{rnd: rand.New(rand.NewPCG(1, 2)), seen: map[protoreflect.FullName]bool{}}
		for n := range 3000 {
			f.empty = n % 3 * 20
			ref := tw.ref()
			f.fill(ref.ProtoReflect())
			b, err := proto.Marshal(ref)
			if err != nil {
				t.Fatal(err)
			}
			ours := tw.ours()
			if err := wire.Unmarshal(b, ours); err != nil {
				t.Fatalf("%s: %v\n%v", tw.name, err, ref)
			}
			out, err := wire.Marshal(ours)
			if err != nil {
				t.Fatalf("%s: %v\n%v", tw.name, err, ref)
			}
			if len(out) != len(b) || cap(out) != len(b) {
				t.Fatalf("%s: %d bytes in a buffer of %d, the runtime writes %d", tw.name, len(out), cap(out), len(b))
			}
			back := tw.ref()
			if err := proto.Unmarshal(out, back); err != nil || !proto.Equal(ref, back) {
				t.Fatalf("%s changed: %v\n%v\n%v", tw.name, err, ref, back)
			}
		}
		for name := range fieldsBelow(tw.ref().ProtoReflect().Descriptor(), map[protoreflect.FullName]bool{}) {
			if !f.seen[name] {
				t.Errorf("%s was never set", name)
			}
		}
	}
}

func fieldsBelow(d protoreflect.MessageDescriptor, out map[protoreflect.FullName]bool) map[protoreflect.FullName]bool {
	for i := range d.Fields().Len() {
		fd := d.Fields().Get(i)
		if out[fd.FullName()] {
			continue
		}
		out[fd.FullName()] = true
		if fd.Message() != nil && !fd.IsMap() {
			fieldsBelow(fd.Message(), out)
		}
	}
	return out
}

// TestSchemaFitsWire checks what package wire assumes of the schema: field numbers below 64, one oneof a message, no cycles, no groups, every
// singular scalar without explicit presence.
func TestSchemaFitsWire(t *testing.T) {
	var walk func(d protoreflect.MessageDescriptor, depth int)
	walk = func(d protoreflect.MessageDescriptor, depth int) {
		if depth > 20 {
			t.Fatalf("%s: cycle", d.FullName())
		}
		if d.Oneofs().Len() > 1 {
			t.Errorf("%s has %d oneofs", d.FullName(), d.Oneofs().Len())
		}
		for i := range d.Fields().Len() {
			f := d.Fields().Get(i)
			if f.Number() >= 64 {
				t.Errorf("%s has number %d", f.FullName(), f.Number())
			}
			if f.Message() == nil && f.HasPresence() && f.ContainingOneof() == nil || f.Kind() == protoreflect.GroupKind {
				t.Errorf("%s has presence or is a group", f.FullName())
			}
			if f.Kind() == protoreflect.MessageKind {
				walk(f.Message(), depth+1)
			}
		}
	}
	for _, tw := range twins {
		walk(tw.ref().ProtoReflect().Descriptor(), 0)
	}
}

// compareDecoding decodes b with both: they must agree whether it is a message, and on which.
func compareDecoding(t *testing.T, which int, b []byte) {
	tw := twins[which]
	ref, ours := tw.ref(), tw.ours()
	refErr := proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(b, ref)
	err := wire.Unmarshal(b, ours)
	if (refErr == nil) != (err == nil) {
		t.Fatalf("%s of %x: the runtime says %v, we say %v", tw.name, b, refErr, err)
	}
	if err != nil {
		return
	}
	out, err := wire.Marshal(ours)
	if err != nil {
		t.Fatalf("%s of %x cannot be encoded: %v", tw.name, b, err)
	}
	back := tw.ref()
	if err := proto.Unmarshal(out, back); err != nil || !proto.Equal(ref, back) {
		t.Fatalf("%s of %x: %v\nthe runtime reads %v\nwe read          %v", tw.name, b, err, ref, back)
	}
}

// odd are encodings that a correct sender does not write.
var odd = map[string][]byte{
	"empty":                        {},
	"header twice, merged":         hex(0x0a, 3, 0x0a, 1, 'a', 0x0a, 2, 0x10, 5),
	"string of wrong type":         hex(0x0a, 2, 0x08, 1),
	"enum of ten bytes":            hex(0x0a, 11, 0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
	"varint of eleven bytes":       hex(0x0a, 12, 0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
	"long form of a short length":  hex(0x0a, 0x83, 0, 0x0a, 1, 'a'),
	"not UTF-8":                    hex(0x0a, 3, 0x0a, 1, 0xff),
	"a group":                      hex(0x0b, 0x10, 1, 0x0c),
	"an open group":                hex(0x0b, 0x10, 1),
	"an end without a group":       hex(0x0c),
	"number 0":                     hex(0x02, 0),
	"reserved type 6":              hex(0x0e, 0),
	"length beyond the end":        hex(0x0a, 5, 0x0a, 1),
	"cut in a tag":                 hex(0x8a),
	"both sides of a oneof":        hex(0x12, 4, 0x0a, 0, 0x12, 0),
	"a oneof's message twice":      hex(0x12, 8, 0x0a, 2, 0x0a, 0, 0x0a, 2, 0x0a, 0),
	"map entry without key":        mapEntry(protowire.AppendString(protowire.AppendTag(nil, 2, 2), "v")),
	"map entry without value":      mapEntry(protowire.AppendString(protowire.AppendTag(nil, 1, 2), "k")),
	"map entry of wrong types":     mapEntry(hex(0x08, 1, 0x10, 1)),
	"map entry with more":          mapEntry(hex(0x0a, 1, 'k', 0x1a, 1, 'x', 0x12, 1, 'v', 0x0a, 1, 'l')),
	"map key not UTF-8":            mapEntry(hex(0x0a, 1, 0xff)),
	"map value not UTF-8":          mapEntry(hex(0x12, 1, 0xff)),
	"map entry cut":                mapEntry(hex(0x0a, 9)),
	"field number of five bytes":   hex(0xf8, 0xff, 0xff, 0xff, 0x0f, 1),
	"fixed64 unknown, cut fixed32": hex(0x49, 1, 2, 3, 4, 5, 6, 7, 8, 0x4d, 1, 2),
}

func hex(b ...byte) []byte { return b }

// mapEntry puts e where Operate.input_args stands: Msg.body(2).request(1).operate(7).input_args(4).
func mapEntry(e []byte) []byte {
	for _, n := range []protowire.Number{4, 7, 1, 2} {
		e = protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), e)
	}
	return e
}

func TestOddEncodings(t *testing.T) {
	for name, b := range odd {
		t.Run(name, func(t *testing.T) {
			for i := range twins {
				compareDecoding(t, i, b)
			}
		})
	}
}

// FuzzWire lets both decoders read the same bytes.
func FuzzWire(f *testing.F) {
	for _, b := range odd {
		f.Add(byte(0), b)
		f.Add(byte(1), b)
	}
	fill := &filler{rnd: rand.New(rand.NewPCG(3, 4)), empty: 30, seen: map[protoreflect.FullName]bool{}}
	for i, tw := range twins {
		for range 40 {
			m := tw.ref()
			fill.fill(m.ProtoReflect())
			if b, err := proto.Marshal(m); err == nil && len(b) < 1500 {
				f.Add(byte(i), b)
			}
		}
	}
	f.Fuzz(func(t *testing.T, which byte, b []byte) {
		compareDecoding(t, int(which)%len(twins), b)
	})
}
