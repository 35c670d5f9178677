package wire

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
)

// Message is a pointer to a generated struct.
type Message interface{ ProtoMessage() }

// oneofMessage is a Message that holds a oneof.
type oneofMessage interface{ OneofWrappers() []any }

// kind says how one value stands on the wire.
type kind uint8

const (
	kindString kind = iota
	kindBytes
	kindBool
	kindInt32 // enums
	kindUint  // uint32 and uint64
	kindFixed32
	kindMessage
	kindMap // string to string
)

// plan is what is known of a message type.
type plan struct {
	members  []member // in the order of the struct, which is that of the numbers
	byNumber []*field // nil: not known
}

// member is a field of the Go struct: one field of the message, or a oneof with its alternatives.
type member struct {
	index  int
	single *field   // nil: a oneof
	oneof  []*field // its alternatives
}

// field is a field of the message.
type field struct {
	number   protowire.Number
	typ      protowire.Type
	tag      uint64 // number and type as they stand on the wire
	tagSize  int
	kind     kind
	repeated bool
	index    int          // of the Go field: of the value or, in a oneof, of the interface
	wrapper  reflect.Type // in a oneof: the struct that holds the value as its only field
	pointer  reflect.Type // to wrapper
	sub      *plan        // kindMessage
	message  reflect.Type // kindMessage: the struct
}

type planned struct {
	plan *plan
	err  error
}

// plans by type of struct; there are two root types and whatever tests take.
var plans sync.Map // reflect.Type -> planned

// planOf returns the plan of m and the struct to read or write, invalid for a nil pointer. It fails only for types that
// protoc-gen-go does not write for a schema like ours.
func planOf(m Message) (*plan, reflect.Value, error) {
	v := reflect.ValueOf(m)
	t := v.Type()
	p, ok := plans.Load(t)
	if !ok {
		made := planned{}
		if t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
			made.err = fmt.Errorf("wire: %s is no generated message", t)
		} else {
			made.plan, made.err = build(t.Elem(), map[reflect.Type]*plan{})
		}
		p, _ = plans.LoadOrStore(t, made)
	}
	known := p.(planned)
	return known.plan, v.Elem(), known.err
}

func build(t reflect.Type, seen map[reflect.Type]*plan) (*plan, error) {
	if p := seen[t]; p != nil {
		return p, nil
	}
	p := &plan{}
	seen[t] = p
	for i := range t.NumField() {
		sf := t.Field(i)
		if sf.Tag.Get("protobuf_oneof") == "" {
			f, err := fieldOf(sf, i, seen)
			if err != nil {
				return nil, err
			}
			p.members = append(p.members, member{index: i, single: f})
			p.know(f)
			continue
		}
		alternatives, err := oneofOf(t, i, seen)
		if err != nil {
			return nil, err
		}
		p.members = append(p.members, member{index: i, oneof: alternatives})
		for _, f := range alternatives {
			p.know(f)
		}
	}
	return p, nil
}

func (p *plan) know(f *field) {
	for len(p.byNumber) <= int(f.number) {
		p.byNumber = append(p.byNumber, nil)
	}
	p.byNumber[f.number] = f
}

func oneofOf(t reflect.Type, index int, seen map[reflect.Type]*plan) ([]*field, error) {
	m, ok := reflect.Zero(reflect.PointerTo(t)).Interface().(oneofMessage)
	if !ok {
		return nil, fmt.Errorf("wire: %s does not list the alternatives of its oneof", t)
	}
	var out []*field
	for _, w := range m.OneofWrappers() {
		pointer := reflect.TypeOf(w)
		f, err := fieldOf(pointer.Elem().Field(0), index, seen)
		if err != nil {
			return nil, err
		}
		f.pointer, f.wrapper = pointer, pointer.Elem()
		out = append(out, f)
	}
	return out, nil
}

// maxNumber bounds the table of fields of a message, and lets a scan note what it met in one word.
const maxNumber = 63

func fieldOf(sf reflect.StructField, index int, seen map[reflect.Type]*plan) (*field, error) {
	typ, rest, _ := strings.Cut(sf.Tag.Get("protobuf"), ",")
	num, rest, _ := strings.Cut(rest, ",")
	label, _, _ := strings.Cut(rest, ",")
	n, err := strconv.Atoi(num)
	if err != nil || n < 1 || n > maxNumber {
		return nil, fmt.Errorf("wire: field %s has no number in 1..%d", sf.Name, maxNumber)
	}
	f := &field{number: protowire.Number(n), index: index, repeated: label == "rep"}
	goType := sf.Type
	if f.repeated && goType.Kind() == reflect.Slice {
		goType = goType.Elem()
	}
	switch k := goType.Kind(); {
	case k == reflect.String && typ == "bytes":
		f.kind = kindString
	case k == reflect.Slice && goType.Elem().Kind() == reflect.Uint8 && typ == "bytes":
		f.kind = kindBytes
	case k == reflect.Bool && typ == "varint" && !f.repeated:
		f.kind = kindBool
	case k == reflect.Int32 && typ == "varint" && !f.repeated:
		f.kind = kindInt32
	case (k == reflect.Uint32 || k == reflect.Uint64) && typ == "varint" && !f.repeated:
		f.kind = kindUint
	case k == reflect.Uint32 && typ == "fixed32" && !f.repeated:
		f.kind = kindFixed32
	case k == reflect.Map && goType.Key().Kind() == reflect.String && goType.Elem().Kind() == reflect.String:
		f.kind = kindMap
	case k == reflect.Pointer && goType.Elem().Kind() == reflect.Struct && typ == "bytes":
		f.kind, f.message = kindMessage, goType.Elem()
		if f.sub, err = build(f.message, seen); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("wire: field %s is of an unknown kind", sf.Name)
	}
	switch f.kind {
	case kindBool, kindInt32, kindUint:
		f.typ = protowire.VarintType
	case kindFixed32:
		f.typ = protowire.Fixed32Type
	default:
		f.typ = protowire.BytesType
	}
	f.tag = protowire.EncodeTag(f.number, f.typ)
	f.tagSize = protowire.SizeVarint(f.tag)
	return f, nil
}

// find returns the field of a number, nil if it is not known.
func (p *plan) find(n protowire.Number) *field {
	if int(n) >= len(p.byNumber) {
		return nil
	}
	return p.byNumber[n]
}

// alternative returns the field that the value of a oneof, a pointer to its wrapper, stands for; nil for none.
func (m *member) alternative(pointer reflect.Value) *field {
	if pointer.IsNil() {
		return nil
	}
	t := pointer.Type()
	for _, f := range m.oneof {
		if f.pointer == t {
			return f
		}
	}
	return nil
}
