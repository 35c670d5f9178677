package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"syscall"

	"go.etcd.io/bbolt"
)

// Problem is one finding of Check: what is wrong, and at which page, record or path.
type Problem struct{ What, Path string }

// maxProblems is where Check stops looking.
const maxProblems = 1000

var errEnough = errors.New("enough problems")

type checker struct{ found []Problem }

func (c *checker) add(where string, err error) error {
	if len(c.found) == maxProblems {
		return errEnough
	}
	c.found = append(c.found, Problem{What: err.Error(), Path: where})
	return nil
}

func (c *checker) addf(where, format string, a ...any) { _ = c.add(where, fmt.Errorf(format, a...)) }

// Check verifies a database file that no process has open (else ErrLocked): bbolt structure, checksums, journal
// against values, leaf revisions, instance counters, cursors. It changes nothing. The error is nil when the file could
// be checked, however bad it is.
func Check(path string) ([]Problem, error) {
	f, err := lock(path, os.O_RDONLY, syscall.LOCK_SH, Options{}.withDefaults().LockTimeout)
	if err != nil {
		return nil, err
	}
	c := &checker{}
	sum, err := verifyPages(f, c.add)
	if err != nil && !errors.Is(err, errEnough) {
		c.addf("", "%w", err)
	}
	if len(c.found) > 0 { // bbolt must not see it
		return c.found, f.Close()
	}
	o := boltOptions(Options{}.withDefaults(), func(string, int, os.FileMode) (*os.File, error) { return f, nil })
	o.ReadOnly = true
	db, err := bbolt.Open(path, fileMode, o)
	if err != nil {
		c.addf("", "%w", err)
		return c.found, nil
	}
	if err := c.database(db, sum); err != nil && !errors.Is(err, errEnough) {
		c.addf("", "%w", err)
	}
	return c.found, db.Close()
}

// database checks what is in an open database.
func (c *checker) database(db *bbolt.DB, sum uint64) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("reading it: %v", p)
		}
	}()
	err = db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			_ = c.add("bbolt", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	l := newLoader(c.add)
	if err := l.read(db); err != nil {
		return err
	}
	if sum != l.mark.sum {
		_ = c.add("", errSum)
	}
	return db.View(func(tx *bbolt.Tx) error {
		if uint64(tx.ID()) != l.mark.seq {
			c.addf("state", "%s", "it is not the one of the newest commit")
		}
		return c.journal(tx.Bucket(bucketJrn), l)
	})
}

// replay goes through the journal from the newest entry to the oldest, so that the first line met of a path is the
// one that counts.
type replay struct {
	*checker
	v       *Version
	lines   map[string]uint64   // parameter -> revision of its last line
	attrs   map[string]struct{} // paths with attributes seen
	rows    map[string]uint64   // row -> revision of its last line
	deleted map[string]struct{} // rows deleted by a line met already
}

func (c *checker) journal(b *bbolt.Bucket, l *loader) error {
	r := &replay{
		checker: c, v: l.version(), lines: map[string]uint64{}, attrs: map[string]struct{}{}, rows: map[string]uint64{},
		deleted: map[string]struct{}{},
	}
	want, size := l.mark.rev, uint64(0)
	cur := b.Cursor()
	for k, v := cur.Last(); k != nil; k, v = cur.Prev() {
		where := fmt.Sprintf("journal entry %x", k)
		if !bytes.Equal(k, revKey(want)) || want < l.mark.first {
			c.addf(where, "expected entry %d; the journal has %d to %d", want, l.mark.first, l.mark.rev)
			return nil
		}
		e, err := openEntry(k, v)
		if err != nil {
			if err := c.add(where, err); err != nil {
				return err
			}
		} else {
			for i := len(e.Deltas) - 1; i >= 0; i-- {
				r.line(e.Rev, &e.Deltas[i])
			}
		}
		size += uint64(len(v))
		want--
	}
	if want+1 != l.mark.first {
		c.addf("journal", "begins with entry %d, not %d", want+1, l.mark.first)
	}
	if size != l.mark.bytes {
		c.addf("journal", "has %d bytes, not %d", size, l.mark.bytes)
	}
	r.values(l.mark.first)
	return nil
}

// gone reports whether a newer line deleted a row that path lies in.
func (r *replay) gone(path string) bool {
	if len(r.deleted) == 0 {
		return false
	}
	for i := 0; i < len(path); i++ {
		if path[i] == '.' {
			if _, ok := r.deleted[path[:i+1]]; ok {
				return true
			}
		}
	}
	return false
}

func (r *replay) line(rev uint64, d *Delta) {
	if d.Op == DeltaRefused || d.Op == DeltaNote || r.gone(d.Path) {
		return
	}
	switch d.Op {
	case DeltaSet, DeltaUnset:
		if _, ok := r.lines[d.Path]; !ok {
			r.lines[d.Path] = rev
			r.leaf(rev, d)
		}
	case DeltaAddRow, DeltaDeleteRow:
		if _, ok := r.rows[d.Path]; !ok {
			r.rows[d.Path] = rev
			if row, ok := r.v.Row(d.Path); ok != (d.Op == DeltaAddRow) || ok && row.Rev != rev {
				r.addf(d.Path, "last journal line of the row is %s at revision %d; it exists: %t, since revision %d", d.Op, rev, ok, row.Rev)
			}
		}
		if d.Op == DeltaDeleteRow {
			r.deleted[d.Path] = struct{}{}
		}
	case DeltaAttr:
		if _, ok := r.attrs[d.Path]; !ok {
			r.attrs[d.Path] = struct{}{}
			a, ok := r.v.Attr(d.Path)
			if ok && attrText(a) != d.New || !ok && d.New != "" {
				r.addf(d.Path, "attributes differ from journal entry %d", rev)
			}
		}
	}
}

// leaf compares the last line of a parameter with its value; it does not show values.
func (r *replay) leaf(rev uint64, d *Delta) {
	l, ok := r.v.Leaf(d.Path)
	if d.Op == DeltaUnset {
		if ok {
			r.addf(d.Path, "journal entry %d removed it, it is stored with revision %d", rev, l.Rev)
		}
		return
	}
	if !ok {
		r.addf(d.Path, "journal entry %d set it, it is not stored", rev)
		return
	}
	if l.Rev != rev {
		r.addf(d.Path, "its last journal entry is %d, its revision %d", rev, l.Rev)
		return
	}
	value := l.Value
	if d.Secret && strings.HasPrefix(d.New, secretPrefix) {
		value = hashSecret(r.v.salt, d.Path, value)
	}
	if value != d.New {
		r.addf(d.Path, "its value differs from journal entry %d", rev)
	}
}

// values looks for values and rows that should be in the journal and are not.
func (r *replay) values(first uint64) {
	r.v.Walk("", func(path string, l Leaf) bool {
		if l.Rev >= first && r.lines[path] != l.Rev {
			r.addf(path, "revision %d, but its last journal entry is %d", l.Rev, r.lines[path])
		}
		return true
	})
	eachObject(r.v.root, nil, func(path []byte, n *node) bool {
		if n.row && n.born >= first && r.rows[string(path)] != n.born {
			r.addf(string(path), "row of revision %d, but its last journal entry is %d", n.born, r.rows[string(path)])
		}
		return true
	})
}
