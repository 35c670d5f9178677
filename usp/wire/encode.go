package wire

import (
	"errors"
	"reflect"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrUTF8 says that a string is not valid UTF-8, which proto3 demands.
var ErrUTF8 = errors.New("wire: string is not valid UTF-8")

// Sized is a message that was measured and can be encoded without another allocation. The message may not change between.
type Sized struct {
	// Size is the length of the encoding in bytes.
	Size  int
	plan  *plan
	value reflect.Value
	inner []int // sizes of the messages inside in the order in which they are written
}

// Marshal encodes m. It fails only with ErrUTF8 (and for types that are not generated). The order of maps is not defined.
func Marshal(m Message) ([]byte, error) {
	s, err := Measure(m)
	if err != nil {
		return nil, err
	}
	return s.Append(make([]byte, 0, s.Size)), nil
}

// Measure checks m and finds out how long its encoding is.
func Measure(m Message) (*Sized, error) {
	p, v, err := planOf(m)
	if err != nil {
		return nil, err
	}
	s := &Sized{plan: p, value: v, inner: make([]int, 0, 16)}
	if v.IsValid() {
		if s.Size, err = s.measure(p, v); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Append appends the encoding to b.
func (s *Sized) Append(b []byte) []byte {
	if s.value.IsValid() {
		b, _ = s.append(b, s.plan, s.value, s.inner)
	}
	return b
}

func (s *Sized) measure(p *plan, v reflect.Value) (int, error) {
	size := 0
	for i := range p.members {
		m := &p.members[i]
		f, fv := m.single, v.Field(m.index)
		if f == nil {
			if fv.IsNil() {
				continue
			}
			fv = fv.Elem()
			if f = m.alternative(fv); f == nil {
				continue
			}
			fv = fv.Elem().Field(0)
		}
		n, err := s.measureField(f, fv)
		if err != nil {
			return 0, err
		}
		size += n
	}
	return size, nil
}

func (s *Sized) measureField(f *field, v reflect.Value) (int, error) {
	if f.repeated {
		return s.measureList(f, v)
	}
	switch f.kind {
	case kindString:
		t := v.String()
		if t == "" && f.wrapper == nil {
			return 0, nil
		}
		if !utf8.ValidString(t) {
			return 0, ErrUTF8
		}
		return f.tagSize + protowire.SizeBytes(len(t)), nil
	case kindBytes:
		n := v.Len()
		if n == 0 && f.wrapper == nil {
			return 0, nil
		}
		return f.tagSize + protowire.SizeBytes(n), nil
	case kindMessage:
		if v.IsNil() && f.wrapper == nil {
			return 0, nil
		}
		return s.measureMessage(f, v)
	case kindFixed32:
		if v.Uint() == 0 && f.wrapper == nil {
			return 0, nil
		}
		return f.tagSize + 4, nil
	}
	n := f.number64(v)
	if n == 0 && f.wrapper == nil {
		return 0, nil
	}
	return f.tagSize + protowire.SizeVarint(n), nil
}

func (s *Sized) measureMessage(f *field, v reflect.Value) (int, error) {
	at, n := len(s.inner), 0
	s.inner = append(s.inner, 0)
	if !v.IsNil() {
		var err error
		if n, err = s.measure(f.sub, v.Elem()); err != nil {
			return 0, err
		}
	}
	s.inner[at] = n
	return f.tagSize + protowire.SizeBytes(n), nil
}

func (s *Sized) measureList(f *field, v reflect.Value) (int, error) {
	size := 0
	switch f.kind {
	case kindString:
		for _, t := range *v.Addr().Interface().(*[]string) {
			if !utf8.ValidString(t) {
				return 0, ErrUTF8
			}
			size += f.tagSize + protowire.SizeBytes(len(t))
		}
	case kindBytes:
		for _, b := range *v.Addr().Interface().(*[][]byte) {
			size += f.tagSize + protowire.SizeBytes(len(b))
		}
	case kindMap:
		for k, t := range *v.Addr().Interface().(*map[string]string) {
			if !utf8.ValidString(k) || !utf8.ValidString(t) {
				return 0, ErrUTF8
			}
			size += f.tagSize + protowire.SizeBytes(entrySize(k, t))
		}
	case kindMessage:
		for i := range v.Len() {
			n, err := s.measureMessage(f, v.Index(i))
			if err != nil {
				return 0, err
			}
			size += n
		}
	}
	return size, nil
}

// entrySize is that of a map's entry: key 1, value 2, both always written.
func entrySize(k, v string) int {
	return 2 + protowire.SizeBytes(len(k)) + protowire.SizeBytes(len(v))
}

// number64 is the varint of a number, enum or bool.
func (f *field) number64(v reflect.Value) uint64 {
	switch f.kind {
	case kindBool:
		return protowire.EncodeBool(v.Bool())
	case kindInt32:
		return uint64(v.Int()) // negative enums take ten bytes
	}
	return v.Uint()
}

// append writes v; inner are the sizes that are not yet used, and what remains of them is returned.
func (s *Sized) append(b []byte, p *plan, v reflect.Value, inner []int) ([]byte, []int) {
	for i := range p.members {
		m := &p.members[i]
		f, fv := m.single, v.Field(m.index)
		if f == nil {
			if fv.IsNil() {
				continue
			}
			fv = fv.Elem()
			if f = m.alternative(fv); f == nil {
				continue
			}
			fv = fv.Elem().Field(0)
		}
		if f.repeated {
			b, inner = s.appendList(b, f, fv, inner)
		} else {
			b, inner = s.appendField(b, f, fv, inner)
		}
	}
	return b, inner
}

func (s *Sized) appendField(b []byte, f *field, v reflect.Value, inner []int) ([]byte, []int) {
	switch f.kind {
	case kindString:
		if t := v.String(); t != "" || f.wrapper != nil {
			b = protowire.AppendString(protowire.AppendVarint(b, f.tag), t)
		}
	case kindBytes:
		if t := v.Bytes(); len(t) != 0 || f.wrapper != nil {
			b = protowire.AppendBytes(protowire.AppendVarint(b, f.tag), t)
		}
	case kindMessage:
		if !v.IsNil() || f.wrapper != nil {
			return s.appendMessage(b, f, v, inner)
		}
	case kindFixed32:
		if n := v.Uint(); n != 0 || f.wrapper != nil {
			b = protowire.AppendFixed32(protowire.AppendVarint(b, f.tag), uint32(n))
		}
	default:
		if n := f.number64(v); n != 0 || f.wrapper != nil {
			b = protowire.AppendVarint(protowire.AppendVarint(b, f.tag), n)
		}
	}
	return b, inner
}

func (s *Sized) appendMessage(b []byte, f *field, v reflect.Value, inner []int) ([]byte, []int) {
	b = protowire.AppendVarint(protowire.AppendVarint(b, f.tag), uint64(inner[0]))
	inner = inner[1:]
	if v.IsNil() {
		return b, inner
	}
	return s.append(b, f.sub, v.Elem(), inner)
}

func (s *Sized) appendList(b []byte, f *field, v reflect.Value, inner []int) ([]byte, []int) {
	switch f.kind {
	case kindString:
		for _, t := range *v.Addr().Interface().(*[]string) {
			b = protowire.AppendString(protowire.AppendVarint(b, f.tag), t)
		}
	case kindBytes:
		for _, t := range *v.Addr().Interface().(*[][]byte) {
			b = protowire.AppendBytes(protowire.AppendVarint(b, f.tag), t)
		}
	case kindMap:
		for k, t := range *v.Addr().Interface().(*map[string]string) {
			b = protowire.AppendVarint(protowire.AppendVarint(b, f.tag), uint64(entrySize(k, t)))
			b = protowire.AppendString(append(b, keyTag), k)
			b = protowire.AppendString(append(b, valueTag), t)
		}
	case kindMessage:
		for i := range v.Len() {
			b, inner = s.appendMessage(b, f, v.Index(i), inner)
		}
	}
	return b, inner
}

// Tags of key and value in the entry of a map.
const (
	keyTag   = 1<<3 | byte(protowire.BytesType)
	valueTag = 2<<3 | byte(protowire.BytesType)
)
