package soap

import (
	"iter"
	"math"
	"time"
)

const (
	minInt32 = math.MinInt32
	maxInt32 = math.MaxInt32
	maxKey   = 32 // characters of CommandKey and ParameterKey
)

// codec is what a message describes its fields to: the encoder or the decoder. Both keep their first error and go on,
// so that descriptions need no error handling. max is in characters, 0 for none.
type codec interface {
	decoding() bool
	text(name string, v *string, max int)
	optText(name string, v *string, max int) // left out when empty
	key(name string, v *string)              // <= 32, always enforced on receipt
	optKey(name string, v *string)
	value(name string, v *string, t *Type)
	boolean(name string, v *bool)
	integer(name string, v *int, min, max int)
	unsigned(name string, v *uint32)
	optUnsigned(name string, v *uint32) // may be absent or empty on receipt; always written
	code(name string, v *FaultCode)
	time(name string, v *time.Time)
	optTime(name string, v *time.Time)
	texts(name string, v *[]string, max int) // array of xsd:string
	base64s(name string, v *[]string)
	group(name string, inner func())
	// array is a SOAP array of cwmp structs; repeated is a plain repeated element; typedRepeated one with xsi:type.
	array(name, item string, n int, alloc func(int), each func(int))
	repeated(name string, n int, alloc func(int), each func(int))
	typedRepeated(name string, n int, alloc func(int), kind func(int) *DUOperationKind, each func(int))
	fail(element, text string)
}

func list[T any](c codec, name, item string, v *[]T, fields func(codec, *T)) {
	c.array(name, item, len(*v), func(n int) { *v = make([]T, n) }, func(i int) { fields(c, &(*v)[i]) })
}

func repeat[T any](c codec, name string, v *[]T, fields func(codec, *T)) {
	c.repeated(name, len(*v), func(n int) { *v = make([]T, n) }, func(i int) { fields(c, &(*v)[i]) })
}

func typed[T any](c codec, name string, v *[]T, kind func(*T) *DUOperationKind, fields func(codec, *T)) {
	c.typedRepeated(name, len(*v), func(n int) { *v = make([]T, n) },
		func(i int) *DUOperationKind { return kind(&(*v)[i]) }, func(i int) { fields(c, &(*v)[i]) })
}

// seq is list with an iterator as the other source when writing: the count has to be known before the first item.
func seq[T any](c codec, name, item string, v *[]T, count int, items iter.Seq[T], fields func(codec, *T)) {
	e, writing := c.(*encoder)
	if !writing || items == nil {
		list(c, name, item, v, fields)
		return
	}
	e.openArray(name, "cwmp:"+item, count)
	n := 0
	var one T // declared once: its address is taken
	for one = range items {
		if n++; n > count || e.err != nil {
			break
		}
		e.open(item)
		fields(e, &one)
		e.close(item)
	}
	if n != count {
		e.fail(name, "the iterator does not give Count items")
	}
	e.close(name)
}
