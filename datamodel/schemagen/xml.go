package schemagen

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"twinspan/datamodel"
)

// maxXMLExpansions bounds the elements one model is made of, components counted as often as they are used. TR-181 has
// about 20,000 for each protocol.
const maxXMLExpansions = 500_000

// ReadXML reads the data model of one protocol from the Broadband Forum's XML: the last model of the root document,
// with imports, base models, components and data types resolved. Imports are looked for beside the importing file and
// in dirs.
//
// A root document replaces virtual components, and data types it imports under another name, for everything below it
// (that is how Alias differs by protocol). In a chain of base models the outermost document counts.
//
// With base, the model's own base is not read: its elements are added to base instead (rows of proto, the others are
// left out), and what they say of existing elements replaces it. That is how a vendor extension is read without the
// standard's XML at hand.
func ReadXML(root string, dirs []string, proto datamodel.Protocol, base []Row) ([]Row, error) {
	x := &xmlReader{
		files: xmlFiles{dirs: dirs, docs: map[string]*xmlDocument{}}, rows: map[string]*Row{}, proto: proto,
	}
	doc, err := x.files.open(root)
	if err != nil {
		return nil, err
	}
	var model *xmlNode
	for key, n := range doc.defined {
		if strings.HasPrefix(key, "model ") && (model == nil || n.line > model.line) {
			model = n
		}
	}
	if model == nil {
		return nil, fmt.Errorf("%s: no model", root)
	}
	if base != nil {
		if err := x.begin(base); err != nil {
			return nil, err
		}
		x.chain = []*xmlDocument{doc}
		err = x.children(xmlScope{doc: doc, param: KindParam, object: KindObject}, model)
	} else {
		err = x.model(doc, model)
	}
	if err != nil {
		return nil, err
	}
	out := make([]Row, 0, len(x.order))
	for _, path := range x.order {
		r := *x.rows[path]
		r.normalize()
		out = append(out, r)
	}
	return out, nil
}

type xmlReader struct {
	files xmlFiles
	proto datamodel.Protocol
	// chain holds the documents of the model and of its base models, outermost first; they decide what virtual
	// elements are.
	chain []*xmlDocument
	rows  map[string]*Row
	order []string
	steps int
}

// xmlScope is where an element is met.
type xmlScope struct {
	doc     *xmlDocument
	prefix  string // what element names are relative to; empty on top of a model
	version string // of the element around, for elements that have none
	param   Kind
	object  Kind
	depth   int
}

// begin takes over the rows of proto, in its spelling.
func (x *xmlReader) begin(base []Row) error {
	for i := range base {
		if !base[i].Protocols.Has(x.proto) {
			continue
		}
		r := base[i]
		path, ok := datamodel.FromCanonical(x.proto, r.Path)
		if !ok { // in the protocol's own spelling already
			path = r.Path
		}
		r.Path, r.Protocols = path, x.proto
		if _, err := x.add(r); err != nil {
			return err
		}
	}
	return nil
}

func (x *xmlReader) add(r Row) (*Row, error) {
	if x.rows[r.Path] != nil {
		return nil, fmt.Errorf("%s: defined twice", r.Path)
	}
	x.rows[r.Path] = &r
	x.order = append(x.order, r.Path)
	return &r, nil
}

// model expands the base models first, the innermost of them before all others.
func (x *xmlReader) model(doc *xmlDocument, model *xmlNode) error {
	type link struct {
		doc   *xmlDocument
		model *xmlNode
	}
	links := []link{{doc, model}}
	for model.attr["base"] != "" {
		d, m, err := x.find(doc, "model", model.attr["base"])
		if err != nil {
			return err
		}
		if m == nil || len(links) > 16 {
			return model.errorf("base model %q not found, or too many of them", model.attr["base"])
		}
		doc, model = d, m
		links = append(links, link{d, m})
	}
	for _, l := range links {
		x.chain = append(x.chain, l.doc)
	}
	for _, l := range slices.Backward(links) {
		if err := x.children(xmlScope{doc: l.doc, param: KindParam, object: KindObject}, l.model); err != nil {
			return err
		}
	}
	return nil
}

// find resolves a name as a document sees it, without regard to what is virtual.
func (x *xmlReader) find(doc *xmlDocument, kind, name string) (*xmlDocument, *xmlNode, error) {
	for range 16 {
		key := kind + " " + name
		if n := doc.defined[key]; n != nil {
			return doc, n, nil
		}
		imp, ok := doc.imports[key]
		if !ok {
			return nil, nil, nil
		}
		next, err := x.files.imported(doc, imp)
		if err != nil {
			return nil, nil, err
		}
		doc, name = next, imp.ref
	}
	return nil, nil, fmt.Errorf("%s: %s %s is imported in a circle", doc.path, kind, name)
}

// resolve is find with the replacements of the chain's documents. A name the document does not know is looked for in
// the chain, then in all of the files the document imports something else from: some use types without importing them.
func (x *xmlReader) resolve(doc *xmlDocument, kind, name string) (*xmlDocument, *xmlNode, error) {
	d, n, err := x.find(doc, kind, name)
	for i := 0; n == nil && err == nil && i < len(x.chain); i++ {
		d, n, err = x.find(x.chain[i], kind, name)
	}
	for i := 0; n == nil && err == nil && i < len(doc.from); i++ {
		if d, err = x.files.imported(doc, doc.from[i]); err == nil {
			n = d.defined[kind+" "+name]
		}
	}
	if err != nil || n == nil {
		return nil, nil, err
	}
	if kind == "component" && n.attr["virtual"] != "true" {
		return d, n, nil
	}
	for _, c := range x.chain {
		imp, ok := c.imports[kind+" "+n.attr["name"]]
		if !ok || imp.ref == n.attr["name"] {
			continue
		}
		from, err := x.files.imported(c, imp)
		if err != nil {
			return nil, nil, err
		}
		if from != d {
			continue // another document's element of the same name
		}
		return x.find(from, kind, imp.ref)
	}
	return d, n, nil
}

// children expands everything inside a model, component, object, command argument list or event.
func (x *xmlReader) children(s xmlScope, parent *xmlNode) error {
	if s.depth > 40 {
		return parent.errorf("components contain each other")
	}
	s.depth++
	for _, n := range parent.children {
		if x.steps++; x.steps > maxXMLExpansions {
			return n.errorf("more than %d elements", maxXMLExpansions)
		}
		var err error
		switch n.name {
		case "component":
			err = x.component(s, n)
		case "object":
			err = x.objectElement(s, n)
		case "parameter":
			err = x.parameter(s, n)
		case "command":
			err = x.command(s, n)
		case "event":
			err = x.event(s, n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (x *xmlReader) component(s xmlScope, n *xmlNode) error {
	doc, def, err := x.resolve(s.doc, "component", n.attr["ref"])
	if err != nil {
		return err
	}
	if def == nil {
		return n.errorf("component %q not found", n.attr["ref"])
	}
	s.doc = doc
	s.prefix += n.attr["path"]
	if v := n.attr["version"]; v != "" {
		s.version = v
	}
	return x.children(s, def)
}

// existing finds the row that an element with a base attribute changes, or makes the one of an element with a name.
func (x *xmlReader) row(s xmlScope, n *xmlNode, kind Kind, prefix string) (*Row, error) {
	if base := n.attr["base"]; base != "" {
		r := x.rows[prefix+base]
		if r == nil {
			return nil, n.errorf("base element %q does not exist", prefix+base)
		}
		return r, nil
	}
	r, err := x.add(Row{Protocols: x.proto, Path: prefix + n.attr["name"], Kind: kind, MaxEntries: 1})
	if err != nil {
		return nil, n.errorf("%v", err)
	}
	r.Facts.Version = s.version
	return r, nil
}

// common takes over the attributes that every kind of element has.
func common(r *Row, n *xmlNode) error {
	if v := n.attr["version"]; v != "" {
		r.Facts.Version = v
	}
	switch v := n.attr["status"]; v {
	case "":
	case "current":
		r.Facts.Status = ""
	case "deprecated", "obsoleted", "deleted":
		r.Facts.Status = v
	default:
		return n.errorf("unknown status %q", v)
	}
	if v := n.attr["access"]; v != "" {
		access := slices.Index(accessNames[:], v)
		if access < 0 {
			return n.errorf("unknown access %q", v)
		}
		r.Facts.Access = datamodel.Access(access)
	}
	return nil
}

func (x *xmlReader) objectElement(s xmlScope, n *xmlNode) error {
	r, err := x.row(s, n, s.object, s.prefix)
	if err != nil {
		return err
	}
	if err := common(r, n); err != nil {
		return err
	}
	if err := entries(r, n); err != nil {
		return err
	}
	for _, c := range n.children {
		if c.name == "uniqueKey" {
			r.addKey(c)
		}
	}
	s.prefix, s.version = r.Path, r.Facts.Version
	return x.children(s, n)
}

func entries(r *Row, n *xmlNode) error {
	for name, to := range map[string]*int{"minEntries": &r.MinEntries, "maxEntries": &r.MaxEntries} {
		text, ok := n.attr[name]
		if !ok {
			continue
		}
		if text == "unbounded" && name == "maxEntries" {
			*to = -1
			continue
		}
		v, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return n.errorf("%s=%q is not a number", name, text)
		}
		*to = int(v)
	}
	if v, ok := n.attr["numEntriesParameter"]; ok {
		r.NumEntries = v
	}
	if v, ok := n.attr["enableParameter"]; ok {
		r.Enable = v
	}
	return nil
}

func (r *Row) addKey(n *xmlNode) {
	k := datamodel.UniqueKey{Functional: n.attr["functional"] != "false"}
	for _, p := range n.children {
		if p.name == "parameter" {
			k.Params = append(k.Params, p.attr["ref"])
		}
	}
	for _, have := range r.Keys {
		if slices.Equal(have.Params, k.Params) {
			return
		}
	}
	r.Keys = append(r.Keys, k)
}

func (x *xmlReader) parameter(s xmlScope, n *xmlNode) error {
	r, err := x.row(s, n, s.param, s.prefix)
	if err != nil {
		return err
	}
	if err := common(r, n); err != nil {
		return err
	}
	for name, to := range map[string]*bool{"forcedInform": &r.Facts.ForcedInform, "mandatory": &r.Facts.Mandatory} {
		if v, ok := n.attr[name]; ok {
			*to = v == "true" || v == "1"
		}
	}
	if v, ok := n.attr["activeNotify"]; ok {
		r.Facts.ActiveNotify = v
		if v == "normal" {
			r.Facts.ActiveNotify = ""
		}
	}
	for _, c := range n.children {
		if c.name == "syntax" {
			if err := x.syntax(s, r, c); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *xmlReader) command(s xmlScope, n *xmlNode) error {
	r, err := x.row(s, n, KindCommand, s.prefix)
	if err != nil {
		return err
	}
	if err := common(r, n); err != nil {
		return err
	}
	if v, ok := n.attr["async"]; ok {
		r.Async = v == "true" || v == "1"
	}
	s.version = r.Facts.Version
	for _, c := range n.children {
		in := s
		switch c.name {
		case "input":
			in.param, in.object = KindInput, KindInputObject
		case "output":
			in.param, in.object = KindOutput, KindOutputObject
		default:
			continue
		}
		in.prefix = r.Path + argumentWord[in.param]
		if err := x.children(in, c); err != nil {
			return err
		}
	}
	return nil
}

func (x *xmlReader) event(s xmlScope, n *xmlNode) error {
	r, err := x.row(s, n, KindEvent, s.prefix)
	if err != nil {
		return err
	}
	if err := common(r, n); err != nil {
		return err
	}
	s.version = r.Facts.Version
	s.param, s.object = KindEventArg, KindEventArgObject
	s.prefix = r.Path + argumentWord[KindEventArg]
	return x.children(s, n)
}

// XMLRoots names the two root documents of a TR-181 directory: CWMP and USP.
func XMLRoots(dir string) (cwmp, usp string) {
	return filepath.Join(dir, "tr-181-2-cwmp.xml"), filepath.Join(dir, "tr-181-2-usp.xml")
}
