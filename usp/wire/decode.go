package wire

import (
	"reflect"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Unmarshal makes m what b says; what m held before is dropped. On an error m holds a part.
func Unmarshal(b []byte, m Message) error {
	p, v, err := planOf(m)
	if err != nil {
		return err
	}
	v.SetZero()
	return p.decode(b, v)
}

func (p *plan) decode(b []byte, v reflect.Value) error {
	for len(b) > 0 {
		num, typ, n := consumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		f := p.find(num)
		if f == nil || f.typ != typ {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return protowire.ParseError(n)
			}
			b = b[n:]
			continue
		}
		target := v.Field(f.index)
		if f.wrapper != nil {
			target = f.choose(target)
		}
		var err error
		switch typ {
		case protowire.VarintType:
			var x uint64
			if x, n = protowire.ConsumeVarint(b); n > 0 {
				f.setNumber(target, x)
			}
		case protowire.Fixed32Type:
			var x uint32
			if x, n = protowire.ConsumeFixed32(b); n > 0 {
				target.SetUint(uint64(x))
			}
		default:
			var x []byte
			if x, n = protowire.ConsumeBytes(b); n > 0 {
				err = f.setBytes(target, x)
			}
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// choose makes f the alternative of the oneof and returns where its value goes. The same alternative is kept, so that messages merge.
func (f *field) choose(oneof reflect.Value) reflect.Value {
	if !oneof.IsNil() && oneof.Elem().Type() == f.pointer {
		return oneof.Elem().Elem().Field(0)
	}
	w := reflect.New(f.wrapper)
	oneof.Set(w)
	return w.Elem().Field(0)
}

func (f *field) setNumber(v reflect.Value, x uint64) {
	switch f.kind {
	case kindBool:
		v.SetBool(protowire.DecodeBool(x))
	case kindInt32:
		v.SetInt(int64(int32(x)))
	default:
		v.SetUint(x) // a uint32 keeps the low half, as protobuf wants it
	}
}

func (f *field) setBytes(v reflect.Value, b []byte) error {
	switch f.kind {
	case kindString:
		if !utf8.Valid(b) {
			return ErrUTF8
		}
		if f.repeated {
			list := v.Addr().Interface().(*[]string)
			*list = append(*list, string(b))
		} else {
			v.SetString(string(b))
		}
	case kindBytes:
		b = append([]byte{}, b...)
		if f.repeated {
			list := v.Addr().Interface().(*[][]byte)
			*list = append(*list, b)
		} else {
			v.SetBytes(b)
		}
	case kindMap:
		return addEntry(v.Addr().Interface().(*map[string]string), b)
	case kindMessage:
		if f.repeated {
			e := reflect.New(f.message)
			n := v.Len()
			v.Grow(1)
			v.SetLen(n + 1)
			v.Index(n).Set(e)
			v = e
		} else if v.IsNil() {
			v.Set(reflect.New(f.message))
		}
		return f.sub.decode(b, v.Elem())
	}
	return nil
}

// addEntry decodes the entry of a map; what is missing of it is empty.
func addEntry(m *map[string]string, b []byte) error {
	var key, value string
	for len(b) > 0 {
		num, typ, n := consumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if typ != protowire.BytesType || num > 2 {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return protowire.ParseError(n)
			}
			b = b[n:]
			continue
		}
		x, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if !utf8.Valid(x) {
			return ErrUTF8
		}
		if num == 1 {
			key = string(x)
		} else {
			value = string(x)
		}
	}
	if *m == nil {
		*m = make(map[string]string)
	}
	(*m)[key] = value
	return nil
}

// consumeTag refuses field numbers above protobuf's 2^29-1, which protowire lets pass.
func consumeTag(b []byte) (protowire.Number, protowire.Type, int) {
	num, typ, n := protowire.ConsumeTag(b)
	if num > protowire.MaxValidNumber {
		return 0, 0, tooLarge
	}
	return num, typ, n
}

// tooLarge is what protowire returns for an invalid field number.
var tooLarge = func() int {
	_, _, n := protowire.ConsumeTag([]byte{0})
	return n
}()
