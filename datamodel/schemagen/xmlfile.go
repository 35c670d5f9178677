package schemagen

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

// Limits on what is read. The largest file of TR-181 has 0.5 MB and 12 levels.
const (
	maxXMLBytes = 16 << 20
	maxXMLDepth = 64
	maxXMLNodes = 1 << 20 // per file
)

// xmlNode is an element. All facts of a data model are in attributes; text is description and is dropped.
type xmlNode struct {
	name     string
	attr     map[string]string // by local name; attributes with a namespace ("dmr:...") are dropped
	children []*xmlNode
	file     string
	line     int
}

func (n *xmlNode) errorf(format string, args ...any) error {
	return fmt.Errorf("%s:%d: <%s>: "+format, append([]any{n.file, n.line, n.name}, args...)...)
}

func (n *xmlNode) number(name string) (*int64, error) {
	text, ok := n.attr[name]
	if !ok {
		return nil, nil
	}
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, n.errorf("%s=%q is not a number", name, text)
	}
	return &v, nil
}

// xmlDocument is one file: what it defines and what it imports.
type xmlDocument struct {
	path    string
	defined map[string]*xmlNode
	imports map[string]xmlImport
	from    []xmlImport // one for each file something is imported from, in the order of the document
}

// xmlImport says where a name comes from. Keys of both maps are kind + " " + name.
type xmlImport struct {
	file, spec, ref string
	at              *xmlNode
}

func parseXML(r io.Reader, file string) (*xmlNode, error) {
	counted := &io.LimitedReader{R: r, N: maxXMLBytes + 1}
	dec := xml.NewDecoder(counted)
	var root *xmlNode
	var open []*xmlNode
	for nodes := 0; ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if counted.N <= 0 {
			return nil, fmt.Errorf("%s: larger than %d bytes", file, maxXMLBytes)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		switch t := token.(type) {
		case xml.Directive:
			dec.Entity = entities(string(t))
		case xml.StartElement:
			line, _ := dec.InputPos()
			n := &xmlNode{name: t.Name.Local, file: file, line: line, attr: make(map[string]string, len(t.Attr))}
			for _, a := range t.Attr {
				if a.Name.Space == "" {
					n.attr[a.Name.Local] = a.Value
				}
			}
			if nodes++; nodes > maxXMLNodes || len(open) >= maxXMLDepth {
				return nil, n.errorf("more than %d elements or %d levels", maxXMLNodes, maxXMLDepth)
			}
			if len(open) > 0 {
				parent := open[len(open)-1]
				parent.children = append(parent.children, n)
			} else {
				root = n
			}
			open = append(open, n)
		case xml.EndElement:
			open = open[:len(open)-1]
		}
	}
	if root == nil || root.name != "document" {
		return nil, fmt.Errorf("%s: not a data-model document", file)
	}
	return root, nil
}

var entityDeclaration = regexp.MustCompile(`<!ENTITY\s+([\w.-]+)\s+(?:"([^"]*)"|'([^']*)')\s*>`)

// entities reads the internal entities of a document type; they stand for parts of patterns. They are not expanded
// inside each other, so that they cannot grow without bound.
func entities(directive string) map[string]string {
	found := make(map[string]string)
	for _, m := range entityDeclaration.FindAllStringSubmatch(directive, -1) {
		found[m[1]] = m[2] + m[3]
	}
	return found
}

// xmlFiles finds and caches documents.
type xmlFiles struct {
	dirs []string
	docs map[string]*xmlDocument
}

func (x *xmlFiles) open(path string) (*xmlDocument, error) {
	if d := x.docs[path]; d != nil {
		return d, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	root, err := parseXML(f, path)
	if err != nil {
		return nil, err
	}
	d := &xmlDocument{
		path: path, defined: map[string]*xmlNode{}, imports: map[string]xmlImport{},
	}
	for _, n := range root.children {
		switch n.name {
		case "component", "dataType", "model":
			d.defined[n.name+" "+n.attr["name"]] = n
		case "import":
			for _, c := range n.children {
				ref := c.attr["ref"]
				if ref == "" {
					ref = c.attr["name"]
				}
				d.imports[c.name+" "+c.attr["name"]] = xmlImport{file: n.attr["file"], spec: n.attr["spec"], ref: ref, at: c}
			}
			if len(n.children) > 0 {
				d.from = append(d.from, xmlImport{file: n.attr["file"], spec: n.attr["spec"], at: n})
			}
		}
	}
	x.docs[path] = d
	return d, nil
}

// imported opens the document an import names. Published files carry version numbers that imports leave out: where
// there is no file of the name, its spec says the version ("tr-181-2-19-ip" is tr-181-2-19-0-ip.xml, the highest
// corrigendum counts).
func (x *xmlFiles) imported(from *xmlDocument, imp xmlImport) (*xmlDocument, error) {
	if strings.ContainsAny(imp.file, `/\`) || imp.file == "" {
		return nil, imp.at.errorf("import of file %q: a plain file name is needed", imp.file)
	}
	dirs := append([]string{filepath.Dir(from.path)}, x.dirs...)
	for _, dir := range dirs {
		path := filepath.Join(dir, imp.file)
		if _, err := os.Stat(path); err == nil {
			return x.open(path)
		}
	}
	for _, dir := range dirs {
		if path := newestOf(dir, imp.spec); path != "" {
			return x.open(path)
		}
	}
	return nil, imp.at.errorf("imported file %q is in none of %s", imp.file, strings.Join(dirs, ", "))
}

var specVersion = regexp.MustCompile(`:(tr-\d+-\d+-\d+)(?:-\d+)?((?:-[a-z]\w*)*)(?:\.xml)?$`)

func newestOf(dir, spec string) string {
	m := specVersion.FindStringSubmatch(spec)
	if m == nil {
		return ""
	}
	corrigendum := func(path string) int {
		text := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), m[1]), m[2]+".xml")
		n, err := strconv.Atoi(strings.TrimPrefix(text, "-"))
		if err != nil {
			return -1
		}
		return n
	}
	found, err := filepath.Glob(filepath.Join(dir, m[1]+"*"+m[2]+".xml"))
	if err != nil || len(found) == 0 {
		return ""
	}
	sort.Slice(found, func(i, j int) bool { return corrigendum(found[i]) < corrigendum(found[j]) })
	newest := found[len(found)-1]
	if corrigendum(newest) < 0 {
		return ""
	}
	return newest
}
