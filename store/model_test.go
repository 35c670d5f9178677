package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// model is the store as plain maps, written without a look at the tree.
type model struct {
	rev     uint64
	leaves  map[string]Leaf
	rows    map[string]Row
	next    map[string]uint32
	removed map[string]uint64 // object -> revision in which something went from it
	attrs   map[string]Attr
	recs    map[[2]string]string
}

func newModel() *model {
	return &model{
		leaves: map[string]Leaf{}, rows: map[string]Row{}, next: map[string]uint32{}, removed: map[string]uint64{},
		attrs: map[string]Attr{}, recs: map[[2]string]string{},
	}
}

func (m *model) clone() *model {
	return &model{
		m.rev, maps.Clone(m.leaves), maps.Clone(m.rows), maps.Clone(m.next), maps.Clone(m.removed),
		maps.Clone(m.attrs), maps.Clone(m.recs),
	}
}

// reachable reports whether all rows on a path exist.
func (m *model) reachable(path string) bool {
	for i := range path {
		if path[i] == '.' {
			if _, _, isRow := splitRow(path[:i+1]); isRow {
				if _, ok := m.rows[path[:i+1]]; !ok {
					return false
				}
			}
		}
	}
	return true
}

// exists reports whether an object has any reason to be there.
func (m *model) exists(object string) bool {
	below := func(p string) bool { return strings.HasPrefix(p, object) }
	for p := range m.leaves {
		if below(p) {
			return true
		}
	}
	for p := range m.attrs {
		if below(p) {
			return true
		}
	}
	for p := range m.rows {
		if below(p) {
			return true
		}
	}
	for p := range m.next {
		if below(p) {
			return true
		}
	}
	return object == ""
}

// settle moves removals of objects that are no more to what is left above them.
func (m *model) settle() {
	for again := true; again; {
		again = false
		for o, rev := range m.removed {
			if !m.exists(o) {
				delete(m.removed, o)
				up, _ := splitParam(o[:len(o)-1])
				m.removed[up] = max(m.removed[up], rev)
				again = true
			}
		}
	}
}

func (m *model) set(path, value string, flags Flags, writer string) error {
	if !m.reachable(path) {
		return ErrMissing
	}
	if l, ok := m.leaves[path]; ok && l.Value == value && l.Flags == flags {
		return nil
	}
	m.leaves[path] = Leaf{value, m.rev, writer, flags}
	return nil
}

func (m *model) unset(path string) error {
	if !m.reachable(path) {
		return ErrMissing
	}
	if _, ok := m.leaves[path]; ok {
		delete(m.leaves, path)
		o, _ := splitParam(path)
		m.removed[o] = m.rev
		m.settle()
	}
	return nil
}

func (m *model) addRow(table string, at uint32, writer string) (uint32, error) {
	if !m.reachable(table) {
		return 0, ErrMissing
	}
	if at == 0 {
		at = max(m.next[table], 1)
	}
	row := table + strconv.Itoa(int(at)) + "."
	if _, ok := m.rows[row]; ok {
		return 0, ErrExists
	}
	m.rows[row] = Row{m.rev, writer}
	m.next[table] = max(m.next[table], at+1)
	m.removed[table] = m.rev
	delete(m.removed, row)
	return at, nil
}

func (m *model) deleteRow(row string) error {
	if _, ok := m.rows[row]; !ok || !m.reachable(row) {
		return ErrMissing
	}
	drop := func(p string) bool { return strings.HasPrefix(p, row) }
	maps.DeleteFunc(m.leaves, func(p string, _ Leaf) bool { return drop(p) })
	maps.DeleteFunc(m.rows, func(p string, _ Row) bool { return drop(p) })
	maps.DeleteFunc(m.next, func(p string, _ uint32) bool { return drop(p) })
	maps.DeleteFunc(m.removed, func(p string, _ uint64) bool { return drop(p) })
	maps.DeleteFunc(m.attrs, func(p string, _ Attr) bool { return drop(p) })
	table, _, _ := splitRow(row)
	m.removed[table] = m.rev
	return nil
}

func (m *model) setAttr(path string, a Attr) error {
	if !m.reachable(path) {
		return ErrMissing
	}
	if a.unset() {
		delete(m.attrs, path)
		m.settle()
	} else {
		m.attrs[path] = a
	}
	return nil
}

func (m *model) subtreeRev(object string) uint64 {
	var rev uint64
	if !m.exists(object) {
		return 0
	}
	for p, l := range m.leaves {
		if strings.HasPrefix(p, object) {
			rev = max(rev, l.Rev)
		}
	}
	for p, r := range m.rows {
		if strings.HasPrefix(p, object) {
			rev = max(rev, r.Rev)
		}
	}
	for p, r := range m.removed {
		if strings.HasPrefix(p, object) {
			rev = max(rev, r)
		}
	}
	return rev
}

// before is the order of Walk.
func before(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(as), len(bs)) {
		if as[i] == bs[i] {
			continue
		}
		aLeaf, bLeaf := i == len(as)-1, i == len(bs)-1
		an, aRow := instance(as[i])
		bn, bRow := instance(bs[i])
		switch {
		case aLeaf != bLeaf:
			return map[bool]int{true: -1, false: 1}[aLeaf]
		case aRow != bRow:
			return map[bool]int{true: 1, false: -1}[aRow]
		case aRow:
			return map[bool]int{true: -1, false: 1}[an < bn]
		}
		return strings.Compare(as[i], bs[i])
	}
	return len(as) - len(bs)
}

// compare finds the first difference between a version and the model.
func (m *model) compare(v *Version) error {
	want := slices.SortedFunc(maps.Keys(m.leaves), before)
	var got []string
	var bad error
	v.Walk("", func(p string, l Leaf) bool {
		got = append(got, p)
		if m.leaves[p] != l {
			bad = errors.Join(bad, fmt.Errorf("%s: %+v, want %+v", p, l, m.leaves[p]))
		}
		if k, ok := v.Leaf(p); !ok || k != l || v.SubtreeRev(p) != l.Rev {
			bad = errors.Join(bad, fmt.Errorf("%s: Walk and Leaf differ", p))
		}
		return true
	})
	if !slices.Equal(got, want) {
		bad = errors.Join(bad, fmt.Errorf("walk %v, want %v", got, want))
	}
	if l, r := v.Len(); l != len(m.leaves) || r != len(m.rows) {
		bad = errors.Join(bad, fmt.Errorf("len %d %d, want %d %d", l, r, len(m.leaves), len(m.rows)))
	}
	objects := map[string]bool{"": true, "Device.": true}
	tables := map[string][]uint32{}
	for p, r := range m.rows {
		if row, ok := v.Row(p); !ok || row != r {
			bad = errors.Join(bad, fmt.Errorf("row %s: %+v %t, want %+v", p, row, ok, r))
		}
		t, n, _ := splitRow(p)
		tables[t] = append(tables[t], n)
		objects[p], objects[t] = true, true
	}
	for p := range m.leaves {
		o, _ := splitParam(p)
		objects[o] = true
	}
	for o := range objects {
		if got, want := v.SubtreeRev(o), m.subtreeRev(o); got != want {
			bad = errors.Join(bad, fmt.Errorf("subtree %q: revision %d, want %d", o, got, want))
		}
	}
	for t, want := range tables {
		slices.Sort(want)
		if got := v.Instances(t); !slices.Equal(got, want) {
			bad = errors.Join(bad, fmt.Errorf("%s: rows %v, want %v", t, got, want))
		}
	}
	n := 0
	v.Attrs(func(p string, a Attr) bool {
		n++
		if w, ok := m.attrs[p]; !ok || !sameAttr(a, w) {
			bad = errors.Join(bad, fmt.Errorf("attr %s: %+v, want %+v", p, a, w))
		}
		return true
	})
	if n != len(m.attrs) {
		bad = errors.Join(bad, fmt.Errorf("%d attributes, want %d", n, len(m.attrs)))
	}
	n = 0
	for _, b := range []string{"a", "b"} {
		v.Records(b, func(k string, d []byte) bool {
			n++
			if m.recs[[2]string{b, k}] != string(d) {
				bad = errors.Join(bad, fmt.Errorf("record %s/%s: %q", b, k, d))
			}
			return true
		})
	}
	if n != len(m.recs) {
		bad = errors.Join(bad, fmt.Errorf("%d records, want %d", n, len(m.recs)))
	}
	return bad
}

var (
	genObject = rapid.SampledFrom([]string{
		"Device.", "Device.A.", "Device.A.B.", "Device.T.", "Device.T.1.", "Device.T.2.", "Device.T.11.", "Device.T.1.U.",
		"Device.T.1.U.1.", "Device.T.2.U.1.", "Device.T.1.A.B.", "Device.C.T.3.",
	})
	genTable  = rapid.SampledFrom([]string{"Device.T.", "Device.T.1.U.", "Device.T.2.U.", "Device.C.T."})
	genLeaf   = rapid.SampledFrom([]string{"X", "Y", "A", "Name"})
	genValue  = rapid.SampledFrom([]string{"", "true", "x", "a longer value"})
	genFlags  = rapid.SampledFrom([]Flags{0, 0, Secret, Factory | Written})
	genWriter = rapid.SampledFrom([]string{"cwmp", "usp:a", "usp:b", "cli"})
)

var errWanted = errors.New("wanted")

// step stages one operation in both and compares the outcome.
func step(t *rapid.T, tx *Tx, m *model, writer string) {
	same := func(what string, got, want error) {
		if (want == nil) != (got == nil) || want != nil && !errors.Is(got, want) {
			t.Fatalf("%s: %v, want %v", what, got, want)
		}
	}
	object := genObject.Draw(t, "object")
	leaf := object + genLeaf.Draw(t, "leaf")
	table := genTable.Draw(t, "table")
	switch op := rapid.SampledFrom([]int{0, 1, 2, 3, 3, 4, 4, 6, 7, 8, 8, 9}).Draw(t, "op"); op {
	case 0, 1, 2:
		v, f := genValue.Draw(t, "value"), genFlags.Draw(t, "flags")
		same("set "+leaf, tx.Set(leaf, v, f), m.set(leaf, v, f, writer))
	case 3:
		if have := slices.Sorted(maps.Keys(m.leaves)); len(have) > 0 && rapid.IntRange(0, 4).Draw(t, "any") > 0 {
			leaf = rapid.SampledFrom(have).Draw(t, "unset")
		}
		same("unset "+leaf, tx.Unset(leaf), m.unset(leaf))
	case 4:
		got, err := tx.AddRow(table)
		want, werr := m.addRow(table, 0, writer)
		same("add "+table, err, werr)
		if got != want {
			t.Fatalf("%s: new row %d, want %d", table, got, want)
		}
	case 6:
		n := rapid.SampledFrom([]uint32{1, 2, 3, 11}).Draw(t, "row")
		_, werr := m.addRow(table, n, writer)
		same(fmt.Sprintf("add %s%d", table, n), tx.AddRowAt(table, n), werr)
	case 7:
		row := table + strconv.Itoa(rapid.IntRange(1, 3).Draw(t, "row")) + "."
		if have := slices.Sorted(maps.Keys(m.rows)); len(have) > 0 && rapid.Bool().Draw(t, "any") {
			row = rapid.SampledFrom(have).Draw(t, "delete")
		}
		same("delete "+row, tx.DeleteRow(row), m.deleteRow(row))
	case 8:
		path := rapid.SampledFrom([]string{object, leaf}).Draw(t, "attr")
		if have := slices.Sorted(maps.Keys(m.attrs)); len(have) > 0 && rapid.Bool().Draw(t, "any") {
			path = rapid.SampledFrom(have).Draw(t, "again")
		}
		a := Attr{Notification: int8(rapid.IntRange(-1, 2).Draw(t, "n"))}
		if rapid.Bool().Draw(t, "access") {
			a.HasAccess, a.AccessList = true, []string{"Subscriber"}
		}
		same("attr "+path, tx.SetAttr(path, a), m.setAttr(path, a))
	case 9:
		b, k := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "bucket"), genLeaf.Draw(t, "key")
		if rapid.Bool().Draw(t, "delete") {
			same("delete record", tx.DeleteRecord(b, k), nil)
			delete(m.recs, [2]string{b, k})
		} else {
			d := genValue.Draw(t, "data")
			same("record", tx.PutRecord(b, k, []byte(d)), nil)
			m.recs[[2]string{b, k}] = d
			if got, ok := tx.Record(b, k); !ok || !bytes.Equal(got, []byte(d)) {
				t.Fatalf("record %q %t", got, ok)
			}
		}
	}
}

// transaction stages operations with nested savepoints and returns the model it leads to.
func transaction(t *rapid.T, tx *Tx, m *model, writer string) *model {
	type save struct {
		s Savepoint
		m *model
	}
	var saves []save
	for range rapid.IntRange(0, 12).Draw(t, "operations") {
		switch k := rapid.IntRange(0, 9).Draw(t, "kind"); {
		case k == 0:
			saves = append(saves, save{tx.Savepoint(), m.clone()})
		case k == 1 && len(saves) > 0:
			i := rapid.IntRange(0, len(saves)-1).Draw(t, "savepoint")
			tx.RollbackTo(saves[i].s)
			m, saves = saves[i].m.clone(), saves[:i+1]
			if err := m.compare(tx.View()); err != nil {
				t.Fatalf("after rolling back: %v", err)
			}
		case k == 2:
			if err := m.compare(tx.View()); err != nil {
				t.Fatalf("staged: %v", err)
			}
		default:
			step(t, tx, m, writer)
		}
	}
	return m
}

// testModel runs random transactions; a store with a file is reopened and its commits fail now and then.
func testModel(t *rapid.T, s *Store, f *faults, reopen func(*Store) *Store) {
	m := newModel()
	var visible *model // what a commit that was reported as failed has left in the file
	again := func() {
		want := dump(s.Head())
		s = reopen(s)
		if visible != nil {
			m, visible = visible, nil
			if err := m.compare(s.Head()); err != nil {
				t.Fatalf("reopened after a failed commit: %v", err)
			}
		} else if got := dump(s.Head()); !slices.Equal(got, want) {
			t.Fatalf("after reopening\n%s\nbefore\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	type old struct {
		v *Version
		m *model
	}
	var kept []old
	for range rapid.IntRange(1, 20).Draw(t, "transactions") {
		before := s.Head()
		next := m.clone()
		next.rev++
		fail := rapid.IntRange(0, 5).Draw(t, "fail") == 0
		writer := genWriter.Draw(t, "writer")
		fn := func(tx *Tx) error {
			next = transaction(t, tx, next, writer)
			if fail {
				return errWanted
			}
			return nil
		}
		if rapid.IntRange(0, 5).Draw(t, "overlay") == 0 { // nothing may come of it
			dry := m.clone()
			v, err := before.OverlayAs(Meta{Writer: writer}, func(tx *Tx) error {
				dry = transaction(t, tx, dry, writer)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := dry.compare(v); err != nil {
				t.Fatalf("overlay: %v", err)
			}
			continue
		}
		stage := ""
		if reopen != nil {
			stage = rapid.SampledFrom([]string{"", "", "", "", failBegin, failWrite, failCommit}).Draw(t, "stage")
		}
		f.set(stage)
		c, err := s.Update(context.Background(), Meta{Writer: writer}, fn)
		f.set("")
		switch {
		case errors.Is(err, errInjected):
			if s.Head() != before {
				t.Fatal("a failed commit moved the head")
			}
			if stage == failCommit {
				visible = next
			}
		case fail && !errors.Is(err, errWanted) || !fail && err != nil:
			t.Fatal(err)
		case fail:
			if s.Head() != before {
				t.Fatal("a failed transaction moved the head")
			}
		case c.Changed:
			m, visible = next, nil
			if c.Rev != m.rev || s.Head().Rev() != m.rev || c.Entry.Rev != m.rev {
				t.Fatalf("revision %d, want %d", c.Rev, m.rev)
			}
		case c.Rev != before.Rev():
			t.Fatalf("nothing changed, revision %d", c.Rev)
		}
		if err := m.compare(s.Head()); err != nil {
			t.Fatal(err)
		}
		kept = append(kept, old{s.Head(), m.clone()})
		if reopen != nil && rapid.IntRange(0, 4).Draw(t, "reopen") == 0 {
			again()
		}
	}
	for _, o := range kept { // versions never change
		if err := o.m.compare(o.v); err != nil {
			t.Fatalf("old version %d: %v", o.v.Rev(), err)
		}
	}
	if reopen != nil {
		again()
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestModelMemory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { testModel(t, OpenMemory(Options{}), &faults{}, nil) })
}

func TestModelFile(t *testing.T) {
	dir, n := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		path := fmt.Sprintf("%s/%d.db", dir, n)
		f := &faults{plain: true}
		o := Options{NoSync: true, JournalEntries: 3, fail: f.fail}
		s, err := Open(path, o)
		if err != nil {
			rt.Fatal(err)
		}
		testModel(rt, s, f, func(s *Store) *Store {
			if err := s.Close(); err != nil {
				rt.Fatal(err)
			}
			problems, err := Check(path)
			if err != nil || len(problems) > 0 {
				rt.Fatalf("check: %v %v", problems, err)
			}
			if s, err = Open(path, o); err != nil {
				rt.Fatal(err)
			}
			return s
		})
	})
}
