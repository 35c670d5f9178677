package soap

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/beevik/etree"
)

func (d *decoder) decoding() bool { return true }

func (d *decoder) fail(element, text string) { d.failKind(BadArguments, element, text) }

// child finds the first child by its local name, qualified or not: some ACSs qualify the arguments of an RPC.
func (d *decoder) child(name string) *etree.Element {
	for _, t := range d.cur.Child {
		if e, ok := t.(*etree.Element); ok && e.Tag == name {
			return e
		}
	}
	return nil
}

func (d *decoder) missing(name string) { d.fail(name, "missing") }

func (d *decoder) looseText(name string, v *string) bool {
	e := d.child(name)
	if e == nil {
		return false
	}
	*v = textOf(e)
	return true
}

func (d *decoder) text(name string, v *string, max int) {
	if !d.looseText(name, v) && d.strict {
		d.missing(name)
	}
	if d.strict && max > 0 && len(*v) > max && utf8.RuneCountInString(*v) > max {
		d.fail(name, "longer than "+strconv.Itoa(max)+" characters")
	}
}

func (d *decoder) optText(name string, v *string, max int) {
	if d.child(name) != nil {
		d.text(name, v, max)
	}
}

func (d *decoder) key(name string, v *string) {
	d.text(name, v, 0)
	if len(*v) > maxKey && utf8.RuneCountInString(*v) > maxKey {
		d.fail(name, "longer than 32 characters")
	}
}

func (d *decoder) optKey(name string, v *string) {
	if d.child(name) != nil {
		d.key(name, v)
	}
}

func (d *decoder) value(name string, v *string, t *Type) {
	e := d.child(name)
	if e == nil {
		d.missing(name)
		return
	}
	*v = textOf(e)
	*t = ParseType(xsiType(e))
	if d.strict && (*t == NoType || *t == OtherType) {
		d.fail(name, "xsi:type missing or unknown")
	}
}

// trimmed returns the text of a required child without surrounding white space.
func (d *decoder) trimmed(name string) (string, bool) {
	e := d.child(name)
	if e == nil {
		d.missing(name)
		return "", false
	}
	return strings.TrimSpace(textOf(e)), true
}

func (d *decoder) boolean(name string, v *bool) {
	text, ok := d.trimmed(name)
	if !ok {
		return
	}
	if *v, ok = parseBoolean(text); !ok {
		d.fail(name, "not a boolean")
	}
}

func (d *decoder) integer(name string, v *int, min, max int) {
	text, ok := d.trimmed(name)
	if !ok {
		return
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || int(n) < min || int(n) > max {
		d.fail(name, "not a number from "+strconv.Itoa(min)+" to "+strconv.Itoa(max))
		return
	}
	*v = int(n)
}

func (d *decoder) unsigned(name string, v *uint32) {
	text, ok := d.trimmed(name)
	if !ok {
		return
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		d.fail(name, "not an unsigned number")
		return
	}
	*v = uint32(n)
}

func (d *decoder) optUnsigned(name string, v *uint32) {
	if e := d.child(name); !d.strict && (e == nil || strings.TrimSpace(textOf(e)) == "") {
		return
	}
	d.unsigned(name, v)
}

func (d *decoder) code(name string, v *FaultCode) {
	text, ok := d.trimmed(name)
	if !ok {
		return
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		d.fail(name, "not a fault code")
		return
	}
	*v = FaultCode(n)
}

func (d *decoder) time(name string, v *time.Time) {
	e := d.child(name)
	if e == nil && d.strict {
		d.missing(name)
	}
	if e == nil {
		return
	}
	text := strings.TrimSpace(textOf(e))
	if text == "" && !d.strict {
		return
	}
	t, err := ParseTime(text)
	if err != nil {
		d.fail(name, "not a dateTime")
		return
	}
	*v = t
}

func (d *decoder) optTime(name string, v *time.Time) {
	if d.child(name) != nil {
		d.time(name, v)
	}
}

// ParseTime reads an xsd:dateTime as it is met in the field: with or without fraction, without zone meaning UTC. The
// unknown time of TR-069 is the zero Time.
func ParseTime(text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t, err = time.Parse("2006-01-02T15:04:05", text)
	}
	if err != nil {
		return time.Time{}, err
	}
	if _, offset := t.Zone(); offset > 14*3600 || offset < -14*3600 { // XML Schema part 2, 3.2.7.3
		return time.Time{}, errors.New("zone offset out of range")
	}
	return t, nil
}

func (d *decoder) texts(name string, v *[]string, max int) {
	d.items(name, func(n int) { *v = make([]string, n) }, func(i int) {
		(*v)[i] = textOf(d.cur)
		if d.strict && utf8.RuneCountInString((*v)[i]) > max {
			d.fail(name, "item longer than "+strconv.Itoa(max)+" characters")
		}
	})
}

func (d *decoder) base64s(name string, v *[]string) {
	d.items(name, func(n int) { *v = make([]string, n) }, func(i int) { (*v)[i] = textOf(d.cur) })
}

func (d *decoder) group(name string, inner func()) {
	e := d.child(name)
	if e == nil {
		d.missing(name)
		return
	}
	saved := d.cur
	d.cur = e
	inner()
	d.cur = saved
}

func (d *decoder) array(name, _ string, _ int, alloc func(int), each func(int)) {
	d.items(name, alloc, each)
}

// items reads a SOAP array. Every child element is an item, whatever its name (SOAP 1.1, 5.4.2).
func (d *decoder) items(name string, alloc func(int), each func(int)) {
	array := d.child(name)
	if array == nil {
		d.missing(name)
		return
	}
	n := 0
	for range array.ChildElementsSeq() {
		n++
	}
	if d.strict && !countFits(array, n) {
		d.fail(name, "arrayType does not give the number of items")
	}
	if !d.room(name, n) || n == 0 {
		return
	}
	alloc(n)
	d.walk(array.ChildElementsSeq(), each)
}

func (d *decoder) room(name string, n int) bool {
	if n > d.lim.MaxList {
		d.failKind(TooLarge, name, "more than "+strconv.Itoa(d.lim.MaxList)+" items")
		return false
	}
	return true
}

func (d *decoder) walk(elements func(func(*etree.Element) bool), each func(int)) {
	saved, i := d.cur, 0
	for e := range elements {
		d.cur = e
		each(i)
		if i++; d.err != nil {
			break
		}
	}
	d.cur = saved
}

// named gives the children of the current element that have a name.
func (d *decoder) named(name string) func(func(*etree.Element) bool) {
	parent := d.cur
	return func(yield func(*etree.Element) bool) {
		for e := range parent.ChildElementsSeq() {
			if e.Tag == name && !yield(e) {
				return
			}
		}
	}
}

func (d *decoder) repeated(name string, _ int, alloc func(int), each func(int)) {
	n := 0
	for range d.named(name) {
		n++
	}
	if n == 0 || !d.room(name, n) {
		return
	}
	alloc(n)
	d.walk(d.named(name), each)
}

func (d *decoder) typedRepeated(name string, _ int, alloc func(int), kind func(int) *DUOperationKind, each func(int)) {
	d.repeated(name, 0, alloc, func(i int) {
		typ := xsiType(d.cur)
		typ = typ[strings.LastIndexByte(typ, ':')+1:]
		for k := Install; k <= Uninstall; k++ {
			if duKindNames[k] == typ {
				*kind(i) = k
				each(i)
				return
			}
		}
		d.fail(name, "xsi:type is none of the known operations")
	})
}

// countFits compares the n of arrayType="x[n]" with the number of items.
func countFits(array *etree.Element, n int) bool {
	for i := range array.Attr {
		a := &array.Attr[i]
		if a.Key != "arrayType" || attributeNamespace(array, a) != NSEncoding {
			continue
		}
		open := strings.LastIndexByte(a.Value, '[')
		return open >= 0 && a.Value[open:] == "["+strconv.Itoa(n)+"]"
	}
	return false
}

func xsiType(e *etree.Element) string {
	for i := range e.Attr {
		a := &e.Attr[i]
		if a.Key == "type" && attributeNamespace(e, a) == NSInstance {
			return strings.TrimSpace(a.Value)
		}
	}
	return ""
}

// attributeNamespace resolves the prefix of an attribute; one without prefix is in no namespace.
func attributeNamespace(e *etree.Element, a *etree.Attr) string {
	if a.Space == "" || a.Space == "xmlns" {
		return ""
	}
	return a.NamespaceURI()
}

// textOf joins all character data directly inside e; comments and unknown elements between are ignored.
func textOf(e *etree.Element) string {
	if len(e.Child) == 1 {
		if c, ok := e.Child[0].(*etree.CharData); ok {
			return c.Data
		}
	}
	var b strings.Builder
	for _, t := range e.Child {
		if c, ok := t.(*etree.CharData); ok {
			b.WriteString(c.Data)
		}
	}
	return b.String()
}

func parseBoolean(text string) (value, ok bool) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "1", "true":
		return true, true
	case "0", "false":
		return false, true
	}
	return false, false
}

// recoverHeader reads the cwmp:ID and the name of the RPC from the beginning of a body that is over a limit, so that
// the fault can echo the ID. It returns nil when there is none.
func recoverHeader(body []byte, lim Limits, charset string) *Envelope {
	body = body[:min(len(body), lim.MaxBytes, 64<<10)]
	dec := xml.NewDecoder(bytes.NewReader(body))
	dec.CharsetReader = charsetReader
	if isLatin1(charset) {
		dec = xml.NewDecoder(&latin1{in: bytes.NewReader(body)})
		dec.CharsetReader = passThrough
	}
	env := &Envelope{}
	path := make([]xml.Name, 0, 4)
	for {
		token, err := dec.Token()
		if err != nil {
			return nil
		}
		switch t := token.(type) {
		case xml.StartElement:
			if len(path) >= lim.MaxDepth {
				return nil
			}
			path = append(path, t.Name)
			if len(path) == 1 && t.Name != (xml.Name{Space: NSEnvelope, Local: "Envelope"}) {
				return nil
			}
			if len(path) == 3 && path[1] == (xml.Name{Space: NSEnvelope, Local: "Body"}) {
				return recovered(env, t.Name)
			}
			if len(path) == 3 && isCWMP(t.Name.Space) && t.Name.Local == "ID" {
				env.Header.ID, env.Header.HasID = "", true
			}
		case xml.EndElement:
			path = path[:len(path)-1]
		case xml.CharData:
			if len(path) == 3 && path[1].Local == "Header" && path[2].Local == "ID" && isCWMP(path[2].Space) {
				env.Header.ID += string(t)
			}
		}
	}
}

func recovered(env *Envelope, name xml.Name) *Envelope {
	if isCWMP(name.Space) {
		env.Namespace = name.Space
	}
	if name == (xml.Name{Space: NSEnvelope, Local: "Fault"}) {
		env.Body = &Fault{}
		return env
	}
	if env.Body = New(name.Local); env.Body == nil || !isCWMP(name.Space) {
		env.Body = &UnknownMethod{Name: name.Local, Namespace: name.Space}
	}
	return env
}

func passThrough(_ string, in io.Reader) (io.Reader, error) { return in, nil }

func charsetReader(charset string, in io.Reader) (io.Reader, error) {
	switch {
	case isLatin1(charset):
		return &latin1{in: in}, nil
	case strings.EqualFold(charset, "utf-8"), strings.EqualFold(charset, "us-ascii"), strings.EqualFold(charset, "utf8"):
		return in, nil
	}
	return nil, errors.New("charset not supported: " + strconv.Quote(charset))
}

func isLatin1(charset string) bool {
	charset = strings.ToLower(strings.Trim(charset, `"' `))
	return charset == "iso-8859-1" || charset == "latin1" || charset == "iso8859-1"
}

// latin1 turns ISO-8859-1 into UTF-8.
type latin1 struct {
	in   io.Reader
	rest []byte
	raw  [2048]byte
	out  [4096]byte
}

func (l *latin1) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(l.rest) == 0 {
		n, err := l.in.Read(l.raw[:])
		if n == 0 {
			return 0, err
		}
		out := l.out[:0]
		for _, b := range l.raw[:n] {
			out = utf8.AppendRune(out, rune(b))
		}
		l.rest = out
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}
