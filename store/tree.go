package store

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"unique"
)

// name is an interned string: the names of parameters, objects and writers repeat thousands of times.
type name = unique.Handle[string]

// slot is a stored leaf inside its object. It never changes: versions share it.
type slot struct {
	name   name
	value  string
	rev    uint64
	writer name
	flags  Flags
}

type kid struct {
	name name
	node *node
}

// attrSlot holds the attributes of one parameter of an object, or of the object itself (name "").
type attrSlot struct {
	name name
	attr *Attr
}

// What of a node its owner may change in place (the slices are shared until they are first changed).
const (
	mineLeaves = 1 << iota
	mineKids
	mineAttrs
)

// node is one object instance, row or table. It never changes once the transaction whose mark it bears has ended.
type node struct {
	owner uint64
	rev   uint64 // newest revision at or below
	own   uint64 // newest revision in which the node itself came, lost a leaf or child, or got or lost a row
	// Only rows: the revision that created it, and whose that was.
	born   uint64
	writer name
	leaves []*slot
	kids   []kid
	rows   *sorted[uint32, *node]
	ids    *idList
	attrs  []attrSlot
	nAttr  int32  // attributes at or below
	next   uint32 // next instance number, 0: not a table
	row    bool
	mine   uint8
}

// idList caches the ascending instance numbers of a table; versions with the same rows share it.
type idList struct{ list atomic.Pointer[[]uint32] }

var ownerMarks atomic.Uint64

// newOwner returns a mark that no other transaction has.
func newOwner() uint64 { return ownerMarks.Add(1) }

func (n *node) owned(owner uint64) *node {
	if n.owner == owner {
		return n
	}
	c := *n
	c.owner, c.mine = owner, 0
	return &c
}

func (n *node) ownLeaves() {
	if n.mine&mineLeaves == 0 {
		n.leaves, n.mine = slices.Clone(n.leaves), n.mine|mineLeaves
	}
}

func (n *node) ownKids() {
	if n.mine&mineKids == 0 {
		n.kids, n.mine = slices.Clone(n.kids), n.mine|mineKids
	}
}

func (n *node) ownAttrs() {
	if n.mine&mineAttrs == 0 {
		n.attrs, n.mine = slices.Clone(n.attrs), n.mine|mineAttrs
	}
}

func (n *node) leaf(s string) (int, bool) {
	return slices.BinarySearchFunc(n.leaves, s, func(a *slot, s string) int { return strings.Compare(a.name.Value(), s) })
}

func (n *node) kid(s string) (int, bool) {
	return slices.BinarySearchFunc(n.kids, s, func(a kid, s string) int { return strings.Compare(a.name.Value(), s) })
}

func (n *node) attr(s string) (int, bool) {
	return slices.BinarySearchFunc(n.attrs, s, func(a attrSlot, s string) int { return strings.Compare(a.name.Value(), s) })
}

// empty nodes are dropped from their parent.
func (n *node) empty() bool {
	return len(n.leaves) == 0 && len(n.kids) == 0 && len(n.attrs) == 0 && n.next == 0 && !n.row
}

// child goes one element down; nil if there is nothing.
func (n *node) child(elem string) *node {
	if num, ok := instance(elem); ok {
		c, _ := n.rows.get(num)
		return c
	}
	if i, ok := n.kid(elem); ok {
		return n.kids[i].node
	}
	return nil
}

// at finds the node of an object path; "" is the node itself.
func (n *node) at(object string) *node {
	for object != "" && n != nil {
		elem, rest, ok := strings.Cut(object, ".")
		if !ok {
			return nil
		}
		n, object = n.child(elem), rest
	}
	return n
}

// instances returns the ascending instance numbers; the list is built once for all versions that have the same rows.
func (n *node) instances() []uint32 {
	if n == nil || n.rows.len() == 0 {
		return nil
	}
	if l := n.ids.list.Load(); l != nil {
		return *l
	}
	l := make([]uint32, 0, n.rows.len())
	n.rows.each(func(k uint32, _ *node) bool { l = append(l, k); return true })
	n.ids.list.Store(&l)
	return l
}

// count returns the leaves and rows below n, n itself not counted.
func (n *node) count() (leaves, rows int) {
	leaves, rows = len(n.leaves), n.rows.len()
	add := func(c *node) {
		l, r := c.count()
		leaves, rows = leaves+l, rows+r
	}
	for _, k := range n.kids {
		add(k.node)
	}
	n.rows.each(func(_ uint32, c *node) bool { add(c); return true })
	return leaves, rows
}

// instance reads a path element as an instance number: decimal, 1..2^32-1, without leading zeros.
func instance(elem string) (uint32, bool) {
	if elem == "" || len(elem) > 10 || elem[0] < '1' || elem[0] > '9' {
		return 0, false
	}
	var n uint64
	for i := 0; i < len(elem); i++ {
		if elem[i] < '0' || elem[i] > '9' {
			return 0, false
		}
		n = n*10 + uint64(elem[i]-'0')
	}
	return uint32(n), n <= 1<<32-1
}

// splitParam splits "Device.A.1.B" into "Device.A.1." and "B".
func splitParam(path string) (object, leaf string) {
	i := strings.LastIndexByte(path, '.') + 1
	return path[:i], path[i:]
}

// splitRow splits "Device.A.1." into "Device.A." and 1.
func splitRow(path string) (table string, n uint32, ok bool) {
	if !strings.HasSuffix(path, ".") {
		return "", 0, false
	}
	table, elem := splitParam(path[:len(path)-1])
	n, ok = instance(elem)
	return table, n, ok && table != ""
}

// checkObject checks an object path: elements of letters, digits, '_' and '-' that begin with none of '-' and a digit,
// or instance numbers, each followed by a dot; an instance number follows a name.
func checkObject(path string) error {
	if len(path) > MaxPath {
		return fmt.Errorf("%w: %.40q...: %d bytes, at most %d", ErrPath, path, len(path), MaxPath)
	}
	if path == "" || path[len(path)-1] != '.' {
		return fmt.Errorf("%w: %q: an object path ends in a dot", ErrPath, path)
	}
	depth, number := 0, true
	for rest := path; rest != ""; depth++ {
		var elem string
		elem, rest, _ = strings.Cut(rest, ".")
		if _, ok := instance(elem); ok {
			if number {
				return fmt.Errorf("%w: %q: instance number %s follows no table", ErrPath, path, elem)
			}
			number = true
			continue
		}
		if !isName(elem) {
			return fmt.Errorf("%w: %q: element %q", ErrPath, path, elem)
		}
		number = false
	}
	if depth > MaxDepth {
		return fmt.Errorf("%w: %.40q...: %d elements, at most %d", ErrPath, path, depth, MaxDepth)
	}
	return nil
}

func isName(s string) bool {
	if s == "" || s[0] == '-' || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

// checkParam checks the path of a parameter and splits it.
func checkParam(path string) (object, leaf string, err error) {
	object, leaf = splitParam(path)
	if !isName(leaf) {
		return "", "", fmt.Errorf("%w: %.80q is not the path of a parameter", ErrPath, path)
	}
	if len(path) > MaxPath {
		return "", "", fmt.Errorf("%w: %.40q...: %d bytes, at most %d", ErrPath, path, len(path), MaxPath)
	}
	return object, leaf, checkObject(object)
}

// checkTable checks the path of a table itself.
func checkTable(path string) error {
	if err := checkObject(path); err != nil {
		return err
	}
	if _, _, isRow := splitRow(path); isRow {
		return fmt.Errorf("%w: %q is a row, not a table", ErrPath, path)
	}
	return nil
}

// keepValue returns a value that pins nothing but itself: callers pass parts of whole messages.
func keepValue(v string) string {
	if c, ok := common(v); ok {
		return c
	}
	return strings.Clone(v)
}

// keepBytes is keepValue for what lies in the file's mapping.
func keepBytes(v []byte) string {
	if c, ok := common(string(v)); ok { // does not allocate
		return c
	}
	return string(v)
}

// common returns a constant for the values of most parameters.
func common(v string) (string, bool) {
	switch v {
	case "":
		return "", true
	case "true":
		return "true", true
	case "false":
		return "false", true
	case "0":
		return "0", true
	case "1":
		return "1", true
	}
	return "", false
}
