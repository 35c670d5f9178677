package store

import (
	"fmt"
	"strings"
	"unique"
)

// reach checks that the rows on an object path exist, without changing anything.
func (tx *Tx) reach(object string) error {
	n := tx.cur.root
	for rest := object; rest != ""; {
		var elem string
		elem, rest, _ = strings.Cut(rest, ".")
		_, isRow := instance(elem)
		if n != nil {
			n = n.child(elem)
		}
		if n == nil && isRow {
			return fmt.Errorf("%w: %s", ErrMissing, object[:len(object)-len(rest)])
		}
	}
	return nil
}

// spine makes every node on an object path changeable, creating objects that are missing, and returns them from the
// root to the object.
func (tx *Tx) spine(object string) []*node {
	tx.view = nil
	n := tx.cur.root.owned(tx.owner)
	tx.cur.root = n
	path := append(make([]*node, 0, 12), n)
	for rest := object; rest != ""; {
		var elem string
		elem, rest, _ = strings.Cut(rest, ".")
		var c *node
		if num, ok := instance(elem); ok {
			old, _ := n.rows.get(num)
			if c = old.owned(tx.owner); c != old {
				n.rows = n.rows.set(tx.owner, num, c)
			}
		} else {
			i, ok := n.kid(elem)
			n.ownKids()
			if !ok {
				n.kids = insertAt(n.kids, i, kid{unique.Make(elem), &node{owner: tx.owner}})
			}
			c = n.kids[i].node.owned(tx.owner)
			n.kids[i].node = c
		}
		path, n = append(path, c), c
	}
	return path
}

// touch notes that every node of a spine has something new at or below it.
func (tx *Tx) touch(spine []*node) {
	for _, n := range spine {
		n.rev = tx.rev
	}
}

// hop is one node on the way to an object: a row of the node before it, or one of its kids.
type hop struct {
	node *node
	kid  int    // index, -1: a row
	row  uint32 // number
}

// walk finds the nodes on an object path; ok is false if one is missing.
func (tx *Tx) walk(object string, steps []hop) (_ []hop, ok bool) {
	n := tx.cur.root
	steps = append(steps, hop{node: n})
	for object != "" {
		var elem string
		elem, object, _ = strings.Cut(object, ".")
		s := hop{kid: -1}
		if num, isRow := instance(elem); isRow {
			s.row = num
			s.node, ok = n.rows.get(num)
		} else if s.kid, ok = n.kid(elem); ok {
			s.node = n.kids[s.kid].node
		}
		if !ok {
			return nil, false
		}
		steps, n = append(steps, s), s.node
	}
	return steps, true
}

// ownSteps makes the nodes of a walk changeable, touches them and returns the last.
func (tx *Tx) ownSteps(steps []hop) *node {
	tx.view = nil
	n := steps[0].node.owned(tx.owner)
	n.rev = tx.rev
	tx.cur.root = n
	for i := range steps[1:] {
		s := &steps[i+1]
		c := s.node
		if c.owner != tx.owner {
			c = c.owned(tx.owner)
			if s.kid < 0 {
				n.rows = n.rows.set(tx.owner, s.row, c)
			} else {
				n.ownKids()
				n.kids[s.kid].node = c
			}
		}
		c.rev = tx.rev
		n = c
	}
	return n
}
