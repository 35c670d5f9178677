package wire

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

var (
	// ErrOneof says that alternatives of a oneof stand side by side. R-ENC.3
	ErrOneof = errors.New("more than one alternative of a oneof")
	// ErrTwice says that a singular message stands twice.
	ErrTwice = errors.New("a message that may stand once stands twice")
	// ErrItems says that there are more elements than allowed.
	ErrItems = errors.New("too many elements")
)

// Scan reads b, an encoded message of m's type, without allocating: it finds alternatives that stand side by side and singular messages that
// stand twice, and takes the number of elements of lists and maps from *items, which may not become negative. m may be a nil pointer.
func Scan(b []byte, m Message, items *int) error {
	p, _, err := planOf(m)
	if err != nil {
		return err
	}
	return p.scan(b, items)
}

// Has reports whether the type of m has a field of that number. m may be a nil pointer.
func Has(m Message, n protowire.Number) bool {
	p, _, err := planOf(m)
	return err == nil && p.find(n) != nil
}

// scan walks b. Recursion is as deep as the schema, which has no cycles.
func (p *plan) scan(b []byte, items *int) error {
	var chosen protowire.Number // of the oneof; the schema has no message with more than one
	var once uint64             // singular messages met, by field number
	for len(b) > 0 {
		num, typ, n := consumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		f := p.find(num)
		if f == nil || typ != protowire.BytesType {
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
		if f.wrapper != nil {
			if chosen != 0 {
				return fmt.Errorf("%w: fields %d and %d", ErrOneof, chosen, num)
			}
			chosen = num
		}
		if f.repeated {
			if *items--; *items < 0 {
				return ErrItems
			}
		} else if f.sub != nil {
			if once&(1<<num) != 0 {
				return fmt.Errorf("%w: field %d", ErrTwice, num) // R-MSG.6, R-MSG.7
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
