package usp

import (
	"errors"
	"fmt"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"twinspan/usp/uspmsg"
	"twinspan/usp/usprecord"
)

// The generated decoder keeps the last of several alternatives of a oneof, merges repeated singular messages and
// allocates whatever the bytes ask for. The scan below looks at the raw bytes first: it needs no memory, finds
// alternatives that stand side by side, and counts elements.

var (
	errOneof = errors.New("more than one alternative of a oneof") // R-ENC.3
	errTwice = errors.New("a message that may stand once stands twice")
	errItems = errors.New("too many elements")
)

// shape is what the scan must know of a message type.
type shape struct {
	fields map[protowire.Number]fieldShape
}

type fieldShape struct {
	sub      *shape // nil: a scalar, string or bytes
	repeated bool
	oneof    int8 // index within the message + 1, 0: not in a oneof
}

var (
	msgShape = sync.OnceValue(func() *shape {
		return shapeOf((*uspmsg.Msg)(nil).ProtoReflect().Descriptor(), map[protoreflect.FullName]*shape{})
	})
	recordShape = sync.OnceValue(func() *shape {
		return shapeOf((*usprecord.Record)(nil).ProtoReflect().Descriptor(), map[protoreflect.FullName]*shape{})
	})
)

func shapeOf(d protoreflect.MessageDescriptor, seen map[protoreflect.FullName]*shape) *shape {
	if s, ok := seen[d.FullName()]; ok {
		return s
	}
	s := &shape{fields: map[protowire.Number]fieldShape{}}
	seen[d.FullName()] = s
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		fs := fieldShape{repeated: f.Cardinality() == protoreflect.Repeated}
		if f.Kind() == protoreflect.MessageKind {
			fs.sub = shapeOf(f.Message(), seen)
		}
		if o := f.ContainingOneof(); o != nil {
			fs.oneof = int8(o.Index()) + 1
		}
		s.fields[f.Number()] = fs
	}
	return s
}

// scan walks b. items is what may still be spent. Recursion is as deep as the schema, which has no cycles.
func (s *shape) scan(b []byte, items *int) error {
	var chosen [2]protowire.Number // of each oneof; the schema has no message with more than one
	var once uint64                // singular messages met, by field number; the schema's numbers are below 64
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		f, known := s.fields[num]
		if !known || typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return protowire.ParseError(n)
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if f.oneof > 0 {
			if c := chosen[f.oneof-1]; c != 0 {
				return fmt.Errorf("%w: fields %d and %d", errOneof, c, num)
			}
			chosen[f.oneof-1] = num
		}
		if f.repeated {
			if *items--; *items < 0 {
				return errItems
			}
		} else if f.sub != nil {
			if once&(1<<num) != 0 {
				return fmt.Errorf("%w: field %d", errTwice, num) // R-MSG.6, R-MSG.7
			}
			once |= 1 << num
		}
		if f.sub != nil {
			if err := f.sub.scan(v, items); err != nil {
				return err
			}
		}
	}
	return nil
}
