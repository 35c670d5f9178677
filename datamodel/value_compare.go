package datamodel

import (
	"strconv"
	"strings"
	"time"
)

// Compare compares two canonical values by type for the operators of search expressions. The constant is checked and
// brought to its canonical form first; an operator or constant that does not fit the type is a PathSyntax error. A
// value that is not canonical (a provider's mistake) satisfies no comparison.
func (f *Facts) Compare(op Op, value, constant string, quoted bool) (bool, error) {
	m, err := f.matcher(op, constant, quoted)
	if err != nil {
		return false, err
	}
	return m(value), nil
}

var opText = [...]string{OpEq: "==", OpNe: "!=", OpHas: "~=", OpLe: "<=", OpGe: ">=", OpLt: "<", OpGt: ">"}

func (op Op) String() string {
	if int(op) < len(opText) {
		return opText[op]
	}
	return "?"
}

// matcher prepares a comparison, so that the constant is read once for many rows.
func (f *Facts) matcher(op Op, constant string, quoted bool) (func(value string) bool, error) {
	if f.List {
		return f.listMatcher(op, constant, quoted)
	}
	if op == OpHas {
		return nil, Fail(PathSyntax, "", "~= needs a parameter that is a list")
	}
	if err := f.checkQuotes(quoted); err != nil {
		return nil, err
	}
	want, err := f.lexical(constant)
	switch f.Type {
	case TypeInt, TypeUnsignedInt, TypeLong, TypeUnsignedLong, TypeDecimal:
		d, ok := parseDecimal(constant)
		if !ok {
			return nil, Fail(PathSyntax, "", "the constant is not a number")
		}
		return numberMatcher(op, d), nil // by value, also beyond the range of the type
	}
	if err != nil {
		return nil, &Error{Reason: PathSyntax, Text: "the constant does not fit the type", Err: err}
	}
	if f.Type == TypeDateTime && op != OpEq && op != OpNe {
		return timeMatcher(op, want)
	}
	switch op {
	case OpEq:
		return func(v string) bool { return v == want }, nil
	case OpNe:
		return func(v string) bool { return v != want }, nil
	}
	return nil, Fail(PathSyntax, "", op.String()+" does not apply to this type of parameter")
}

// checkQuotes: strings are quoted, numbers, booleans and times are not, binary values may be either way.
func (f *Facts) checkQuotes(quoted bool) error {
	switch f.Type {
	case TypeString:
		if !quoted {
			return Fail(PathSyntax, "", "a string constant needs double quotes")
		}
	case TypeBase64, TypeHexBinary:
	default:
		if quoted {
			return Fail(PathSyntax, "", "only string constants have double quotes")
		}
	}
	return nil
}

// listMatcher: ~= is an exact match of one item, == and != compare the whole list.
func (f *Facts) listMatcher(op Op, constant string, quoted bool) (func(string) bool, error) {
	item := *f
	item.List = false
	switch op {
	case OpHas:
		is, err := item.matcher(OpEq, constant, quoted)
		if err != nil {
			return nil, err
		}
		return func(v string) bool {
			for _, it := range f.Items(v) {
				if is(it) {
					return true
				}
			}
			return false
		}, nil
	case OpEq, OpNe:
		if !quoted && f.Type == TypeString {
			return nil, Fail(PathSyntax, "", "a string constant needs double quotes")
		}
		items := f.Items(constant)
		for i := range items {
			c, err := item.lexical(items[i])
			if err != nil {
				return nil, &Error{Reason: PathSyntax, Text: "the constant does not fit the type", Err: err}
			}
			items[i] = c
		}
		want := strings.Join(items, ",")
		return func(v string) bool { return (v == want) == (op == OpEq) }, nil
	}
	return nil, Fail(PathSyntax, "", op.String()+" does not apply to a list")
}

func holds(op Op, c int) bool {
	switch op {
	case OpEq:
		return c == 0
	case OpNe:
		return c != 0
	case OpLe:
		return c <= 0
	case OpGe:
		return c >= 0
	case OpLt:
		return c < 0
	case OpGt:
		return c > 0
	}
	return false
}

func numberMatcher(op Op, want decimal) func(string) bool {
	small, err := strconv.ParseInt(want.String(), 10, 64)
	isSmall := err == nil
	return func(v string) bool {
		if isSmall && len(v) < 19 { // the common case without allocation
			if n, err := strconv.ParseInt(v, 10, 64); err == nil {
				switch {
				case n < small:
					return holds(op, -1)
				case n > small:
					return holds(op, 1)
				}
				return holds(op, 0)
			}
		}
		d, ok := parseDecimal(v)
		return ok && holds(op, d.cmp(want))
	}
}

// timeMatcher orders times. The unknown time has no place in the order, and a time relative to boot has none among
// absolute times.
func timeMatcher(op Op, want string) (func(string) bool, error) {
	if want == UnknownTime {
		return nil, Fail(PathSyntax, "", "the unknown time can only be compared with == and !=")
	}
	w, err := time.Parse(time.RFC3339Nano, want)
	if err != nil {
		return nil, Fail(PathSyntax, "", "the constant is not a dateTime")
	}
	return func(v string) bool {
		t, err := time.Parse(time.RFC3339Nano, v)
		if err != nil || v == UnknownTime || (t.Year() < 1000) != (w.Year() < 1000) {
			return false
		}
		return holds(op, t.Compare(w))
	}, nil
}
