package store

import (
	"strconv"
	"strings"
)

// Version is one immutable state of the tree. Safe for concurrent use, costs nothing to hold but memory.
type Version struct {
	rev    uint64
	root   *node
	leaves int
	rows   int
	recs   *sorted[string, *sorted[string, []byte]]
	nRecs  int64 // bytes of all records
	salt   *[16]byte
}

func newVersion(salt *[16]byte) *Version { return &Version{root: &node{}, salt: salt} }

// Rev is the revision of the newest commit in the version. A state staged in a Tx has the revision it would get; an
// Overlay keeps the revision of what it lies on.
func (v *Version) Rev() uint64 { return v.rev }

// Leaf looks up a stored value by canonical instance path.
func (v *Version) Leaf(path string) (Leaf, bool) {
	object, leaf := splitParam(path)
	n := v.root.at(object)
	if n == nil {
		return Leaf{}, false
	}
	i, ok := n.leaf(leaf)
	if !ok {
		return Leaf{}, false
	}
	return n.leaves[i].leaf(), true
}

func (s *slot) leaf() Leaf {
	return Leaf{Value: s.value, Rev: s.rev, Writer: s.writer.Value(), Flags: s.flags}
}

// Instances returns the rows of a table ("Device.IP.Interface.") ascending; the slice must not be changed.
func (v *Version) Instances(table string) []uint32 { return v.root.at(table).instances() }

// HasInstance reports whether the table has row n.
func (v *Version) HasInstance(table string, n uint32) bool {
	t := v.root.at(table)
	if t == nil {
		return false
	}
	_, ok := t.rows.get(n)
	return ok
}

// Row tells who made a row ("Device.IP.Interface.1.") and when.
func (v *Version) Row(path string) (Row, bool) {
	n := v.root.at(path)
	if n == nil || !n.row {
		return Row{}, false
	}
	return Row{Rev: n.born, Writer: n.writer.Value()}, true
}

// SubtreeRev is the newest revision at or below path (object path with dot, or parameter; "" is the whole tree); 0 if
// nothing is stored. Values, rows and removals count, attributes and records do not.
func (v *Version) SubtreeRev(path string) uint64 {
	object, leaf := splitParam(path)
	n := v.root.at(object)
	if n == nil {
		return 0
	}
	if leaf == "" {
		return n.rev
	}
	if i, ok := n.leaf(leaf); ok {
		return n.leaves[i].rev
	}
	return 0
}

// Walk visits every leaf at or below an object path in depth-first order (names sorted, instances ascending; the
// leaves of an object come before its sub-objects) until fn returns false. The empty prefix is the whole tree, a
// parameter path visits that one leaf.
func (v *Version) Walk(prefix string, fn func(path string, l Leaf) bool) {
	object, leaf := splitParam(prefix)
	n := v.root.at(object)
	if n == nil {
		return
	}
	if leaf != "" {
		if i, ok := n.leaf(leaf); ok {
			fn(prefix, n.leaves[i].leaf())
		}
		return
	}
	walk(n, append(make([]byte, 0, 128), object...), fn)
}

func walk(n *node, at []byte, fn func(path string, l Leaf) bool) bool {
	for _, s := range n.leaves {
		if !fn(string(append(at, s.name.Value()...)), s.leaf()) {
			return false
		}
	}
	for _, k := range n.kids {
		if !walk(k.node, append(append(at, k.name.Value()...), '.'), fn) {
			return false
		}
	}
	return n.rows.each(func(num uint32, c *node) bool {
		return walk(c, append(strconv.AppendUint(at, uint64(num), 10), '.'), fn)
	})
}

// eachObject visits every node below n in depth-first order, parents first.
func eachObject(n *node, at []byte, fn func(path []byte, n *node) bool) bool {
	for _, k := range n.kids {
		p := append(append(at, k.name.Value()...), '.')
		if !fn(p, k.node) || !eachObject(k.node, p, fn) {
			return false
		}
	}
	return n.rows.each(func(num uint32, c *node) bool {
		p := append(strconv.AppendUint(at, uint64(num), 10), '.')
		return fn(p, c) && eachObject(c, p, fn)
	})
}

// Attr returns the attributes set exactly at path (parameter, or partial path with final dot). The access list must
// not be changed.
func (v *Version) Attr(path string) (Attr, bool) {
	object, leaf := splitParam(path)
	n := v.root.at(object)
	if n == nil {
		return Attr{}, false
	}
	i, ok := n.attr(leaf)
	if !ok {
		return Attr{}, false
	}
	return *n.attrs[i].attr, true
}

// NearestAttr is what is set at path or above it: of notification and access list each the nearest. Notification is -1 where there is
// none. The access list must not be changed.
func (v *Version) NearestAttr(path string) Attr {
	out := Attr{Notification: -1}
	object, leaf := splitParam(path)
	n := v.root
	for n != nil && n.nAttr > 0 {
		out.over(n, "")
		if object == "" {
			if leaf != "" {
				out.over(n, leaf)
			}
			break
		}
		var elem string
		elem, object, _ = strings.Cut(object, ".")
		n = n.child(elem)
	}
	return out
}

// over replaces what a node says of one of its parameters (or "", itself).
func (a *Attr) over(n *node, name string) {
	i, ok := n.attr(name)
	if !ok {
		return
	}
	s := n.attrs[i].attr
	if s.Notification >= 0 {
		a.Notification = s.Notification
	}
	if s.HasAccess {
		a.HasAccess, a.AccessList = true, s.AccessList
	}
}

// Attrs visits all attributes in depth-first order until fn returns false. It skips what has none.
func (v *Version) Attrs(fn func(path string, a Attr) bool) { attrs(v.root, nil, fn) }

func attrs(n *node, at []byte, fn func(path string, a Attr) bool) bool {
	if n.nAttr == 0 {
		return true
	}
	for _, a := range n.attrs {
		if !fn(string(at)+a.name.Value(), *a.attr) {
			return false
		}
	}
	for _, k := range n.kids {
		if k.node.nAttr > 0 && !attrs(k.node, append(append(at, k.name.Value()...), '.'), fn) {
			return false
		}
	}
	return n.rows.each(func(num uint32, c *node) bool {
		return c.nAttr == 0 || attrs(c, append(strconv.AppendUint(at, uint64(num), 10), '.'), fn)
	})
}

// Record reads a head's own record. The data must not be changed.
func (v *Version) Record(bucket, key string) ([]byte, bool) {
	b, _ := v.recs.get(bucket)
	return b.get(key)
}

// Records visits the records of a bucket in ascending order of keys until fn returns false.
func (v *Version) Records(bucket string, fn func(key string, data []byte) bool) {
	b, _ := v.recs.get(bucket)
	b.each(fn)
}

// Len is the number of stored leaves and of rows.
func (v *Version) Len() (leaves, rows int) { return v.leaves, v.rows }

// Overlay stages changes on top of the version without committing anything: dry runs and the isolated view of a
// session. It returns v itself when nothing was staged, and fn's error without a version. The staged values carry v's
// revision and no writer. It runs on the caller's goroutine; a panic in fn is the caller's.
func (v *Version) Overlay(fn func(tx *Tx) error) (*Version, error) {
	return v.OverlayAs(Meta{}, fn)
}

// OverlayAs is Overlay with a writer for the staged values.
func (v *Version) OverlayAs(m Meta, fn func(tx *Tx) error) (*Version, error) {
	tx := newTx(v, m, v.rev)
	defer tx.end()
	if err := fn(tx); err != nil {
		return nil, err
	}
	if !tx.changed() {
		return v, nil
	}
	return tx.View(), nil
}

func attrText(a Attr) string {
	var b strings.Builder
	if a.Notification >= 0 {
		b.WriteString("n=" + strconv.Itoa(int(a.Notification)))
	}
	if a.HasAccess {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString("a=" + strings.Join(a.AccessList, ","))
	}
	return b.String()
}
