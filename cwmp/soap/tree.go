package soap

import (
	"encoding/xml"
	"errors"
	"io"
	"iter"
	"strings"
)

// element is a parsed element. Prefixes are as they stood in the text; NamespaceURI resolves them.
type element struct {
	Space, Tag string // prefix and local name
	Attr       []attribute
	parent     *element
	children   []*element
	text       []string // pieces of character data directly inside
}

type attribute struct {
	Space, Key, Value string
}

var (
	errTooDeep  = errors.New("too many nested elements")
	errUnpaired = errors.New("start and end of elements do not match")
	errDTD      = errors.New("a document type declaration is not allowed") // SOAP 1.1, 3
)

// readTree reads a document. What it returns holds the root elements as children and the text outside of them.
func readTree(in io.Reader, charset func(string, io.Reader) (io.Reader, error), maxDepth int) (*element, error) {
	dec := xml.NewDecoder(in)
	dec.CharsetReader = charset
	doc := &element{}
	known := map[xml.Name]int{}
	for top, depth := doc, 0; ; {
		t, err := dec.RawToken()
		switch {
		case err == io.EOF && top == doc:
			return doc, nil
		case err == io.EOF:
			return nil, errUnpaired
		case err != nil:
			return nil, err
		}
		switch t := t.(type) {
		case xml.StartElement:
			if depth++; depth > maxDepth {
				return nil, errTooDeep
			}
			e := &element{Space: t.Name.Space, Tag: t.Name.Local, parent: top}
			e.addAttributes(t.Attr, known)
			top.children = append(top.children, e)
			top = e
		case xml.EndElement:
			if top == doc || top.Tag != t.Name.Local || top.Space != t.Name.Space {
				return nil, errUnpaired
			}
			top = top.parent
			depth--
		case xml.CharData:
			top.text = append(top.text, string(t))
		case xml.Directive:
			return nil, errDTD
		}
	}
}

// addAttributes takes the last of those with the same name. known is empty before and after.
func (e *element) addAttributes(list []xml.Attr, known map[xml.Name]int) {
	if len(list) == 0 {
		return
	}
	e.Attr = make([]attribute, 0, len(list))
	for _, a := range list {
		if len(list) > 1 {
			if i, twice := known[a.Name]; twice {
				e.Attr[i].Value = a.Value
				continue
			}
			known[a.Name] = len(e.Attr)
		}
		e.Attr = append(e.Attr, attribute{Space: a.Name.Space, Key: a.Name.Local, Value: a.Value})
	}
	clear(known)
}

// NamespaceURI is the namespace of the element, "" for none.
func (e *element) NamespaceURI() string {
	if e.Space == "" {
		return e.declared("", "xmlns")
	}
	return e.declared("xmlns", e.Space)
}

// declared finds the innermost declaration of a namespace.
func (e *element) declared(space, key string) string {
	for ; e != nil; e = e.parent {
		for i := range e.Attr {
			if a := &e.Attr[i]; a.Space == space && a.Key == key {
				return a.Value
			}
		}
	}
	return ""
}

// ChildElementsSeq gives the elements directly inside.
func (e *element) ChildElementsSeq() iter.Seq[*element] {
	return func(yield func(*element) bool) {
		for _, c := range e.children {
			if !yield(c) {
				return
			}
		}
	}
}

// attributeNamespace resolves the prefix of an attribute; one without prefix is in no namespace.
func attributeNamespace(e *element, a *attribute) string {
	if a.Space == "" || a.Space == "xmlns" {
		return ""
	}
	return e.declared("xmlns", a.Space)
}

// textOf joins all character data directly inside e; comments and unknown elements between are ignored.
func textOf(e *element) string {
	if len(e.text) == 1 {
		return e.text[0]
	}
	return strings.Join(e.text, "")
}
