package soap

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/beevik/etree"
)

// Limits bound what Decode accepts. A zero field stands for its default.
type Limits struct {
	MaxBytes      int // of the body; default 1 MiB (TR-069 3.5 asks for 32 KiB at least)
	MaxDepth      int // of nested elements; default 64
	MaxElements   int // elements, comments and instructions in the document; default 32,768
	MaxAttributes int // in the document; default 65,536
	MaxList       int // items in one array; default 10,000
}

// DefaultLimits are the limits used for zero fields.
var DefaultLimits = Limits{MaxBytes: 1 << 20, MaxDepth: 64, MaxElements: 32768, MaxAttributes: 65536, MaxList: 10000}

func (l Limits) orDefault() Limits {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&l.MaxBytes, DefaultLimits.MaxBytes)
	set(&l.MaxDepth, DefaultLimits.MaxDepth)
	set(&l.MaxElements, DefaultLimits.MaxElements)
	set(&l.MaxAttributes, DefaultLimits.MaxAttributes)
	set(&l.MaxList, DefaultLimits.MaxList)
	return l
}

// Options of Decode.
type Options struct {
	Limits Limits
	// Charset is the charset parameter of the Content-Type header, if any; it wins over the XML declaration.
	Charset string
	// Strict refuses what field practice tolerates: missing or unknown xsi:type, missing elements, texts longer than the
	// schema allows, arrayType counts that differ. For certification.
	Strict bool
}

// Decode reads one envelope. The error is always an *Error. With an error the Envelope is non-nil whenever the header
// could be read, so that a fault can echo its ID; for BadArguments its Body is the message as far as it was understood,
// which tells whether it was a request.
func Decode(body []byte, opt Options) (*Envelope, error) {
	lim := opt.Limits.orDefault()
	root, err := parse(body, lim, opt.Charset)
	if err != nil {
		if err.Kind == TooLarge {
			if env := recoverHeader(body, lim, opt.Charset); env != nil {
				return env, err
			}
		}
		return nil, err
	}
	d := decoder{lim: lim, strict: opt.Strict}
	env := d.envelope(root)
	if d.err != nil {
		return env, d.err
	}
	return env, nil
}

// parse builds the document under the limits. Elements and attributes are counted before a tree is built, because a
// tree costs some fifty times the bytes of the shortest element.
func parse(body []byte, lim Limits, charset string) (*etree.Element, *Error) {
	if len(body) > lim.MaxBytes {
		return nil, &Error{Kind: TooLarge, Text: "more than " + strconv.Itoa(lim.MaxBytes) + " bytes"}
	}
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	elements, attributes, dtd := census(body)
	switch {
	case dtd: // SOAP 1.1, 3
		return nil, &Error{Kind: Malformed, Text: "a document type declaration is not allowed"}
	case elements > lim.MaxElements:
		return nil, &Error{Kind: TooLarge, Text: "more than " + strconv.Itoa(lim.MaxElements) + " elements"}
	case attributes > lim.MaxAttributes:
		return nil, &Error{Kind: TooLarge, Text: "more than " + strconv.Itoa(lim.MaxAttributes) + " attributes"}
	case refersToSurrogate(body):
		return nil, &Error{Kind: Malformed, Text: "a reference to half of a surrogate pair"}
	}
	doc := etree.NewDocument()
	doc.ReadSettings.MaxDepth = lim.MaxDepth
	doc.ReadSettings.CharsetReader = charsetReader
	var in io.Reader = bytes.NewReader(body)
	if isLatin1(charset) {
		in = &latin1{in: in}
		doc.ReadSettings.CharsetReader = passThrough
	}
	if _, err := doc.ReadFrom(in); err != nil {
		if errors.Is(err, etree.ErrMaxDepth) {
			return nil, &Error{Kind: TooLarge, Text: "deeper than " + strconv.Itoa(lim.MaxDepth) + " elements"}
		}
		return nil, &Error{Kind: Malformed, Err: err}
	}
	var root *etree.Element
	for _, t := range doc.Child {
		switch t := t.(type) {
		case *etree.Element:
			if root != nil {
				return nil, &Error{Kind: Malformed, Text: "more than one root element"}
			}
			root = t
		case *etree.CharData:
			if !t.IsWhitespace() {
				return nil, &Error{Kind: Malformed, Text: "text outside of the root element"}
			}
		case *etree.Directive:
			return nil, &Error{Kind: Malformed, Text: "a document type declaration is not allowed"}
		}
	}
	if root == nil {
		return nil, &Error{Kind: Malformed, Text: "no root element"}
	}
	return root, nil
}

// refersToSurrogate finds references such as &#xD800;, which XML forbids (XML 1.0, 2.2) and the parser would turn into U+FFFD. In CDATA and
// comments the same characters are text.
func refersToSurrogate(b []byte) bool {
	if !bytes.Contains(b, []byte("&#")) {
		return false
	}
	for { // forward only: linear whatever comes
		i := bytes.IndexAny(b, "<&")
		if i < 0 {
			return false
		}
		b = b[i:]
		var end []byte
		switch {
		case bytes.HasPrefix(b, []byte("<![CDATA[")):
			end = []byte("]]>")
		case bytes.HasPrefix(b, []byte("<!--")):
			end = []byte("-->")
		case bytes.HasPrefix(b, []byte("&#")) && surrogate(b[2:]):
			return true
		}
		if i = bytes.Index(b, end); i < 0 {
			return false // not well-formed
		}
		b = b[max(i+len(end), 1):]
	}
}

// surrogate reads the digits of a reference.
func surrogate(b []byte) bool {
	digits, base := b[:min(14, len(b))], 10
	if len(digits) > 0 && digits[0] == 'x' {
		digits, base = digits[1:], 16
	}
	end := bytes.IndexByte(digits, ';')
	if end < 0 {
		return false
	}
	n, err := strconv.ParseUint(string(digits[:end]), base, 32)
	return err == nil && n >= 0xD800 && n <= 0xDFFF
}

// census counts the elements (with comments and instructions) and attributes of a text without building anything. Where
// it is not sure, it counts too many: the parser decides what is well-formed.
func census(b []byte) (elements, attributes int, dtd bool) {
	for {
		i := bytes.IndexByte(b, '<')
		if i < 0 || i+1 >= len(b) {
			return elements, attributes, false
		}
		b = b[i+1:]
		switch {
		case b[0] == '/':
		case b[0] == '?':
			elements++
		case b[0] == '!':
			elements++
			end := "-->"
			if bytes.HasPrefix(b, []byte("![CDATA[")) {
				end = "]]>"
			} else if !bytes.HasPrefix(b, []byte("!--")) {
				return elements, attributes, true
			}
			if i = bytes.Index(b, []byte(end)); i < 0 {
				return elements, attributes, false // not well-formed: nothing after it becomes a node
			}
			b = b[i:]
		default:
			elements++
			attributes += attributesOf(&b)
		}
	}
}

// attributesOf counts the attributes of a start tag and moves b to its end.
func attributesOf(b *[]byte) int {
	n, quote := 0, byte(0)
	for i, c := range *b {
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '=':
			n++
		case c == '>':
			*b = (*b)[i:]
			return n
		}
	}
	*b = nil
	return n
}

// decoder reads a document; cur is the element whose children are being read.
type decoder struct {
	lim    Limits
	strict bool
	cur    *etree.Element
	err    *Error
}

func (d *decoder) failKind(kind Kind, element, text string) {
	if d.err == nil {
		d.err = &Error{Kind: kind, Element: element, Text: text}
	}
}

func (d *decoder) envelope(root *etree.Element) *Envelope {
	if root.Tag != "Envelope" || root.NamespaceURI() != NSEnvelope {
		kind := Malformed
		if root.Tag == "Envelope" && root.NamespaceURI() == nsEnvelope12 { // SOAP 1.1, 4.1.2
			kind = VersionMismatch
		}
		d.failKind(kind, "", "the root element is not a SOAP 1.1 Envelope")
		return nil
	}
	var header, body *etree.Element
	for child := range root.ChildElementsSeq() {
		if child.NamespaceURI() != NSEnvelope {
			continue // SOAP 1.1 allows further elements after Body
		}
		switch {
		case child.Tag == "Header" && header == nil && body == nil:
			header = child
		case child.Tag == "Body" && body == nil:
			body = child
		default:
			d.failKind(Malformed, child.Tag, "not expected here")
		}
	}
	if body == nil {
		d.failKind(Malformed, "Body", "missing")
	}
	env := &Envelope{}
	if header != nil {
		d.header(env, header)
	}
	if body != nil {
		d.body(env, body)
	}
	return env
}

func (d *decoder) header(env *Envelope, header *etree.Element) {
	for e := range header.ChildElementsSeq() {
		uri := e.NamespaceURI()
		if isCWMP(uri) {
			if env.Namespace == "" {
				env.Namespace = uri
			}
			if d.headerElement(&env.Header, e) {
				continue
			}
		}
		if must, mine := headerAttributes(e); must && mine { // TR-069 3.5, SOAP 1.1 4.2.3
			d.failKind(MustUnderstand, e.Tag, "header not understood")
		}
	}
}

func (d *decoder) headerElement(h *Header, e *etree.Element) (known bool) {
	text := textOf(e)
	switch e.Tag {
	case "ID":
		h.ID, h.HasID = text, true
	case "HoldRequests":
		v, ok := parseBoolean(text)
		if !ok {
			d.failKind(BadArguments, e.Tag, "not a boolean")
			return true
		}
		h.HoldRequests = &v
	case "NoMoreRequests": // deprecated: ignored
	case "SessionTimeout":
		v, err := strconv.ParseUint(strings.TrimSpace(text), 10, 32)
		if err != nil {
			d.failKind(BadArguments, e.Tag, "not an unsigned number")
			return true
		}
		h.SessionTimeout = uint32(v)
	case "SupportedCWMPVersions":
		h.SupportedCWMPVersions = []string{}
		for _, v := range strings.Split(text, ",") {
			if v = strings.TrimSpace(v); v != "" {
				h.SupportedCWMPVersions = append(h.SupportedCWMPVersions, v)
			}
		}
	case "UseCWMPVersion":
		h.UseCWMPVersion = strings.TrimSpace(text)
	default:
		return false
	}
	return true
}

// headerAttributes reports mustUnderstand, and whether the header is addressed to this receiver.
func headerAttributes(e *etree.Element) (must, mine bool) {
	mine = true
	for i := range e.Attr {
		a := &e.Attr[i]
		switch {
		case a.Key == "mustUnderstand" && attributeNamespace(e, a) == NSEnvelope:
			must, _ = parseBoolean(a.Value)
		case a.Key == "actor" && attributeNamespace(e, a) == NSEnvelope:
			mine = a.Value == "" || a.Value == actorNext
		}
	}
	return must, mine
}

func (d *decoder) body(env *Envelope, body *etree.Element) {
	var method *etree.Element
	for e := range body.ChildElementsSeq() {
		switch {
		case method == nil:
			method = e
		case isCWMP(e.NamespaceURI()) || e.NamespaceURI() == NSEnvelope: // one RPC or fault per envelope
			d.failKind(Malformed, e.Tag, "more than one message in the Body")
			return
		}
	}
	if method == nil {
		d.failKind(BadArguments, "Body", "holds no message")
		return
	}
	uri := method.NamespaceURI()
	switch {
	case uri == NSEnvelope && method.Tag == "Fault":
		env.Body = d.fault(env, method)
		return
	case isCWMP(uri):
		env.Namespace = uri
		if m := New(method.Tag); m != nil {
			d.cur = method
			m.fields(d)
			env.Body = m
			return
		}
	}
	env.Body = &UnknownMethod{Name: method.Tag, Namespace: uri}
}

func (d *decoder) fault(env *Envelope, e *etree.Element) *Fault {
	f := &Fault{}
	d.cur = e
	d.looseText("faultcode", &f.SOAPCode)
	f.SOAPCode = strings.TrimSpace(f.SOAPCode[strings.LastIndexByte(f.SOAPCode, ':')+1:])
	d.looseText("faultstring", &f.SOAPString)
	detail := d.child("detail")
	if detail == nil {
		return f
	}
	d.cur = detail
	if inner := d.child("Fault"); inner != nil {
		if uri := inner.NamespaceURI(); isCWMP(uri) && env.Namespace == "" {
			env.Namespace = uri
		}
		d.cur = inner
		f.fields(d)
	}
	return f
}
