package soap

import (
	"errors"
	"strings"
	"testing"
)

func TestTree(t *testing.T) {
	doc, err := readTree(strings.NewReader(`<?xml version="1.0"?><a:x xmlns:a="urn:a" xmlns="urn:d" k="1" k="2">one<!-- c --><y a:k="v">in</y>&amp;<![CDATA[<two>]]></a:x>`), charsetReader, 3)
	if err != nil {
		t.Fatal(err)
	}
	x := doc.children[0]
	y := x.children[0]
	if x.Tag != "x" || x.NamespaceURI() != "urn:a" || y.NamespaceURI() != "urn:d" || attributeNamespace(y, &y.Attr[0]) != "urn:a" {
		t.Errorf("names: %+v", x)
	}
	if got := textOf(x); got != "one&<two>" || textOf(y) != "in" {
		t.Errorf("text %q", got)
	}
	if len(x.Attr) != 3 || x.Attr[2].Value != "2" {
		t.Errorf("attributes %+v", x.Attr)
	}
}

func TestTreeRefuses(t *testing.T) {
	for text, want := range map[string]error{
		"<a><b></a></b>": errUnpaired, "<a>": errUnpaired, "</a>": errUnpaired, "<a></a></a>": errUnpaired, "<a></b>": errUnpaired, "<p:a></q:a>": errUnpaired,
		"<a><!DOCTYPE a></a>": errDTD, "<a><b><c><d/></c></b></a>": errTooDeep,
	} {
		if _, err := readTree(strings.NewReader(text), charsetReader, 3); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", text, err, want)
		}
	}
	if _, err := readTree(strings.NewReader("<a><b/><b/><b><c/></b></a>"), charsetReader, 3); err != nil {
		t.Errorf("depth is counted as breadth: %v", err)
	}
}
