package store

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unique"
)

// errTxOver: the function that the Tx was made for has returned.
var errTxOver = fmt.Errorf("store: transaction is over: %w", ErrClosed)

// Tx stages one transaction on top of the newest version. Only valid inside the function given to Update, and only on
// its goroutine. A method that returns an error has staged nothing.
type Tx struct {
	base   *Version
	meta   Meta
	writer name
	rev    uint64 // what staged values get
	owner  uint64 // mark of the nodes that may be changed in place
	cur    Version
	view   *Version // cur, as given out; nil: not given out since the last change
	log    txLog
	text   strings.Builder // what the paths of the lines lie in: they live and die together
	again  bool            // a path may have more than one line, or a line that sets no value; final after deltas
	over   bool
}

// txLog is what was staged beside the tree; a savepoint remembers its lengths.
type txLog struct {
	lines   []Delta
	sets    []setting // of the lines: what was set, secrets too
	objects []string  // object paths whose own record changed
	records []recordKey
	notes   []Note
}

type setting struct {
	value string
	flags Flags
}

type recordKey struct{ bucket, key string }

func newTx(base *Version, m Meta, rev uint64) *Tx {
	tx := &Tx{base: base, meta: m, writer: unique.Make(m.Writer), rev: rev, owner: newOwner(), cur: *base, view: base}
	tx.cur.rev = rev
	return tx
}

func (tx *Tx) end() { tx.over = true }

// changed reports whether there is anything to commit (annotations alone are not).
func (tx *Tx) changed() bool { return len(tx.log.lines) > 0 || len(tx.log.records) > 0 }

// View is the state as staged so far (own writes included); Base is what the transaction started from.
func (tx *Tx) View() *Version {
	if tx.view == nil {
		v := tx.cur
		tx.view = &v
		tx.owner = newOwner() // what was given out is not changed any more
	}
	return tx.view
}

// Staged is the state as staged so far, like View, to be looked at in passing: it is no copy, but changes with what is staged next.
// What keeps a state takes View, which costs the copies of all that is staged into afterwards.
func (tx *Tx) Staged() *Version { return &tx.cur }

// Expect makes room for n changes and as many notes.
func (tx *Tx) Expect(n int) {
	if n = min(n, MaxTxLines) - len(tx.log.lines); n > 0 {
		tx.log.sets = slices.Grow(tx.log.sets, n)
		tx.log.lines = slices.Grow(tx.log.lines, n)
		tx.log.notes = slices.Grow(tx.log.notes, n)
	}
}

// keepPath returns a copy of a path for the lines of the journal entry.
func (tx *Tx) keepPath(path string) string {
	if have := tx.text.Cap(); have-tx.text.Len() < len(path) {
		tx.text = strings.Builder{} // what was handed out keeps the old one
		tx.text.Grow(max(len(path), min(2*have, 4096)))
	}
	from := tx.text.Len()
	tx.text.WriteString(path)
	return tx.text.String()[from:]
}

// Base is the version that the transaction started from.
func (tx *Tx) Base() *Version { return tx.base }

// Meta is what Update was given.
func (tx *Tx) Meta() Meta { return tx.meta }

// begin checks that one more change may be staged.
func (tx *Tx) begin() error {
	if tx.over {
		return errTxOver
	}
	if len(tx.log.lines)+len(tx.log.records)+len(tx.log.notes) >= MaxTxLines {
		return fmt.Errorf("%w: more than %d changes in one transaction", ErrFull, MaxTxLines)
	}
	return nil
}

// Set stages a leaf. The rows on its path must exist (ErrMissing). Setting the identical value and flags is a no-op
// that leaves revision and writer alone.
func (tx *Tx) Set(path, value string, flags Flags) error {
	if err := tx.begin(); err != nil {
		return err
	}
	object, leaf, err := checkParam(path)
	if err != nil {
		return err
	}
	if len(value) > MaxValue {
		return fmt.Errorf("%w: %s: value of %d bytes, at most %d", ErrFull, path, len(value), MaxValue)
	}
	var n *node
	var buf [16]hop
	if steps, ok := tx.walk(object, buf[:0]); ok {
		n = steps[len(steps)-1].node
		if i, ok := n.leaf(leaf); ok && n.leaves[i].value == value && n.leaves[i].flags == flags {
			return nil
		}
		n = tx.ownSteps(steps)
	} else {
		if err := tx.reach(object); err != nil {
			return err
		}
		spine := tx.spine(object)
		tx.touch(spine)
		n = spine[len(spine)-1]
	}
	tx.setLeaf(n, path, leaf, value, flags)
	return nil
}

// setLeaf stages a leaf of a node that may be changed.
func (tx *Tx) setLeaf(n *node, path, leaf, value string, flags Flags) {
	i, had := n.leaf(leaf)
	d := Delta{Op: DeltaSet, Path: tx.keepPath(path), New: keepValue(value), HadOld: had, Secret: flags&Secret != 0}
	s := &slot{value: d.New, rev: tx.rev, writer: tx.writer, flags: flags}
	if had {
		n.ownLeaves()
		old := n.leaves[i]
		tx.again = tx.again || old.rev == tx.rev
		s.name = old.name
		d.Old, d.Secret = old.value, d.Secret || old.flags&Secret != 0
		n.leaves[i] = s
	} else {
		s.name = unique.Make(leaf)
		n.ownLeaves()
		n.leaves = insertAt(n.leaves, i, s)
		tx.cur.leaves++
	}
	tx.lineOf(d, setting{d.New, flags})
}

// line adds a line to the journal entry; secret values become salted hashes here and now. DESIGN invariant 11.
func (tx *Tx) line(d Delta) { tx.lineOf(d, setting{}) }

func (tx *Tx) lineOf(d Delta, s setting) {
	if d.Secret {
		if d.HadOld {
			d.Old = hashSecret(tx.cur.salt, d.Path, d.Old)
		}
		if d.Op == DeltaSet {
			d.New = hashSecret(tx.cur.salt, d.Path, d.New)
		}
	}
	tx.log.lines, tx.log.sets = append(tx.log.lines, d), append(tx.log.sets, s)
}

// Unset removes a stored leaf, so that the default shows again. Nothing stored there is a no-op.
func (tx *Tx) Unset(path string) error {
	if err := tx.begin(); err != nil {
		return err
	}
	object, leaf, err := checkParam(path)
	if err != nil {
		return err
	}
	n := tx.cur.root.at(object)
	if n == nil {
		return tx.reach(object)
	}
	if _, ok := n.leaf(leaf); !ok {
		return nil
	}
	spine := tx.spine(object)
	tx.touch(spine)
	n = spine[len(spine)-1]
	i, _ := n.leaf(leaf)
	old := n.leaves[i]
	n.ownLeaves()
	n.leaves = slices.Delete(n.leaves, i, i+1)
	n.own = tx.rev
	tx.cur.leaves--
	tx.prune(spine, object)
	tx.again = true
	tx.line(Delta{Op: DeltaUnset, Path: strings.Clone(path), Old: old.value, HadOld: true, Secret: old.flags&Secret != 0})
	return nil
}

// prune removes what has become empty at the end of a spine and hands its own revision up, so that a removal stays
// visible in SubtreeRev.
func (tx *Tx) prune(spine []*node, object string) {
	for i := len(spine) - 1; i > 0 && spine[i].empty(); i-- {
		tx.object(object)
		parent, elem := splitParam(object[:len(object)-1])
		p := spine[i-1]
		k, _ := p.kid(elem)
		p.ownKids()
		p.kids = slices.Delete(p.kids, k, k+1)
		p.own = max(p.own, spine[i].own)
		object = parent
	}
	tx.object(object)
}

// object notes that an object's own record must be written.
func (tx *Tx) object(path string) { tx.log.objects = append(tx.log.objects, strings.Clone(path)) }

// AddRow creates a row with the next free instance number; AddRowAt with a given one (factory, import; ErrExists).
// A number that was ever given out by a committed transaction is not given out again by AddRow, also not after the row
// was deleted.
func (tx *Tx) AddRow(table string) (uint32, error) {
	if err := tx.begin(); err != nil {
		return 0, err
	}
	if err := checkTable(table); err != nil {
		return 0, err
	}
	if err := tx.reach(table); err != nil {
		return 0, err
	}
	num := uint32(1)
	if t := tx.cur.root.at(table); t != nil && t.next > 0 {
		num = t.next
	}
	if num == 1<<32-1 {
		return 0, fmt.Errorf("%w: %s has no instance numbers left", ErrFull, table)
	}
	tx.addRow(table, num)
	return num, nil
}

// AddRowAt creates a row with a given instance number, 1..2^32-2; ErrExists if there is such a row. AddRow goes on
// above it.
func (tx *Tx) AddRowAt(table string, num uint32) error {
	if err := tx.begin(); err != nil {
		return err
	}
	if err := checkTable(table); err != nil {
		return err
	}
	if num == 0 || num == 1<<32-1 {
		return fmt.Errorf("%w: %s: instance number %d", ErrPath, table, num)
	}
	if err := tx.reach(table); err != nil {
		return err
	}
	if tx.cur.HasInstance(table, num) {
		return fmt.Errorf("%w: %s%d.", ErrExists, table, num)
	}
	tx.addRow(table, num)
	return nil
}

// Reserve makes AddRow go on at next or above, for a table whose former numbers are known (import). Less than what the table has
// is a no-op; next is 2..2^32-2.
func (tx *Tx) Reserve(table string, next uint32) error {
	if err := tx.begin(); err != nil {
		return err
	}
	if err := checkTable(table); err != nil {
		return err
	}
	if next < 2 || next == 1<<32-1 {
		return fmt.Errorf("%w: %s: next instance number %d", ErrPath, table, next)
	}
	if err := tx.reach(table); err != nil {
		return err
	}
	if t := tx.cur.root.at(table); t != nil && t.next >= next {
		return nil
	}
	spine := tx.spine(table)
	tx.touch(spine)
	t := spine[len(spine)-1]
	t.next, t.own = next, tx.rev
	tx.object(table)
	return nil
}

func (tx *Tx) addRow(table string, num uint32) {
	spine := tx.spine(table)
	tx.touch(spine)
	t := spine[len(spine)-1]
	row := &node{owner: tx.owner, rev: tx.rev, own: tx.rev, born: tx.rev, writer: tx.writer, row: true}
	t.rows = t.rows.set(tx.owner, num, row)
	t.ids = &idList{}
	t.next = max(t.next, num+1)
	t.own = tx.rev
	tx.cur.rows++
	path := table + strconv.FormatUint(uint64(num), 10) + "."
	tx.object(table)
	tx.object(path)
	tx.line(Delta{Op: DeltaAddRow, Path: path})
}

// DeleteRow removes a row ("Device.IP.Interface.1.") with everything below it; ErrMissing if there is none.
func (tx *Tx) DeleteRow(path string) error {
	if err := tx.begin(); err != nil {
		return err
	}
	if err := checkObject(path); err != nil {
		return err
	}
	table, num, ok := splitRow(path)
	if !ok {
		return fmt.Errorf("%w: %q is not a row", ErrPath, path)
	}
	if err := tx.reach(path); err != nil {
		return err
	}
	row := tx.cur.root.at(path)
	spine := tx.spine(table)
	tx.touch(spine)
	t := spine[len(spine)-1]
	t.rows = t.rows.del(tx.owner, num)
	t.ids = &idList{}
	t.own = tx.rev
	for _, n := range spine {
		n.nAttr -= row.nAttr
	}
	leaves, rows := row.count()
	tx.cur.leaves, tx.cur.rows = tx.cur.leaves-leaves, tx.cur.rows-rows-1
	tx.object(table)
	tx.line(Delta{Op: DeltaDeleteRow, Path: strings.Clone(path)})
	eachObject(row, []byte(path), func(p []byte, n *node) bool {
		if n.row {
			tx.line(Delta{Op: DeltaDeleteRow, Path: string(p)})
		}
		return true
	})
	return nil
}

// SetAttr stages attributes of a parameter or a partial path (final dot) whose rows exist; the parameter need not be
// stored. A zero Attr with Notification -1 and no access list removes them. Identical attributes are a no-op.
func (tx *Tx) SetAttr(path string, a Attr) error {
	if err := tx.begin(); err != nil {
		return err
	}
	object, leaf := splitParam(path)
	var err error
	if leaf == "" {
		err = checkObject(path)
	} else {
		_, _, err = checkParam(path)
	}
	if err == nil {
		err = checkAttr(path, a)
	}
	if err == nil {
		err = tx.reach(object)
	}
	if err != nil {
		return err
	}
	old, had := tx.cur.Attr(path)
	if !had && a.unset() || had && !a.unset() && sameAttr(old, a) {
		return nil
	}
	d := Delta{Op: DeltaAttr, Path: strings.Clone(path), HadOld: had, New: attrText(a)}
	if had {
		d.Old = attrText(old)
	}
	spine := tx.spine(object)
	n := spine[len(spine)-1]
	n.ownAttrs()
	i, _ := n.attr(leaf)
	change := int32(0)
	switch {
	case a.unset():
		n.attrs, change = slices.Delete(n.attrs, i, i+1), -1
	default:
		s := attrSlot{unique.Make(leaf), &Attr{a.Notification, slices.Clone(a.AccessList), a.HasAccess}}
		if had {
			n.attrs[i] = s
		} else {
			n.attrs, change = insertAt(n.attrs, i, s), 1
		}
	}
	for _, n := range spine {
		n.nAttr += change
	}
	if change < 0 {
		tx.prune(spine, object)
	}
	tx.line(d)
	return nil
}

func checkAttr(path string, a Attr) error {
	if a.Notification < -1 || a.Notification > 6 {
		return fmt.Errorf("store: %s: notification %d is not in -1..6", path, a.Notification)
	}
	size := 0
	for _, e := range a.AccessList {
		size += len(e) + 1
	}
	if size > MaxValue {
		return fmt.Errorf("%w: %s: access list of %d bytes", ErrFull, path, size)
	}
	return nil
}

func sameAttr(a, b Attr) bool {
	return a.Notification == b.Notification && a.HasAccess == b.HasAccess && slices.Equal(a.AccessList, b.AccessList)
}

// PutRecord and DeleteRecord keep a head's own records ("cwmp/events", "0007") in the same commit. nil data deletes.
// Identical data is a no-op. A commit of records alone has a revision and a journal entry without lines.
func (tx *Tx) PutRecord(bucket, key string, data []byte) error {
	if err := tx.begin(); err != nil {
		return err
	}
	for _, s := range [2]string{bucket, key} {
		if s == "" || len(s) > MaxName || strings.IndexByte(s, 0) >= 0 {
			return fmt.Errorf("%w: record %.40q/%.40q: names have 1 to %d bytes, none of them 0", ErrPath, bucket, key, MaxName)
		}
	}
	if len(data) > MaxRecord {
		return fmt.Errorf("%w: record %s/%s of %d bytes, at most %d", ErrFull, bucket, key, len(data), MaxRecord)
	}
	b, _ := tx.cur.recs.get(bucket)
	old, had := b.get(key)
	if !had && data == nil || had && data != nil && bytes.Equal(old, data) {
		return nil
	}
	size := tx.cur.nRecs
	if had {
		size -= recordSize(bucket, key, old)
	}
	if data == nil {
		b = b.del(tx.owner, key)
	} else {
		if size += recordSize(bucket, key, data); size > MaxRecordBytes {
			return fmt.Errorf("%w: record %s/%s: all records together may have %d bytes", ErrFull, bucket, key, MaxRecordBytes)
		}
		b = b.set(tx.owner, strings.Clone(key), bytes.Clone(data))
	}
	tx.view, tx.cur.nRecs = nil, size
	if b.len() == 0 {
		tx.cur.recs = tx.cur.recs.del(tx.owner, bucket)
	} else {
		tx.cur.recs = tx.cur.recs.set(tx.owner, strings.Clone(bucket), b)
	}
	tx.log.records = append(tx.log.records, recordKey{strings.Clone(bucket), strings.Clone(key)})
	return nil
}

func recordSize(bucket, key string, data []byte) int64 {
	return int64(len(bucket) + len(key) + len(data))
}

// Hash is what stands for a secret value in the journal of this database, for records that must not hold it either.
func (tx *Tx) Hash(path, value string) string { return hashSecret(tx.cur.salt, path, value) }

// DeleteRecord removes a record; one that does not exist is a no-op.
func (tx *Tx) DeleteRecord(bucket, key string) error { return tx.PutRecord(bucket, key, nil) }

// Record reads a record as staged so far. The data must not be changed.
func (tx *Tx) Record(bucket, key string) ([]byte, bool) { return tx.cur.Record(bucket, key) }

// maxNoteValue is how much of a value a line for a change that did not happen keeps.
const maxNoteValue = 256

// Annotate is Note with a verdict and a rule only, for a line of a change (or, with refused=true, for one of a change
// that did not happen).
func (tx *Tx) Annotate(path, verdict, rule string, refused bool) {
	n := Note{Path: path, Verdict: verdict, Rule: rule}
	if refused {
		n.Op = DeltaRefused
	}
	tx.Note(n)
}

// Note adds to the journal entry. Refused lines are journaled also when the transaction stages nothing else or its
// function returns an error: then within about a second, together with others, so that a refused writer cannot wear the
// flash. Notes made after a savepoint are discarded with it: note after RollbackTo.
func (tx *Tx) Note(n Note) {
	if tx.begin() != nil || len(n.Path) > MaxPath {
		return
	}
	cut := func(s string, most int) string { return strings.Clone(s[:min(len(s), most)]) }
	var last Note // most notes of a transaction say the same
	if k := len(tx.log.notes); k > 0 {
		last = tx.log.notes[k-1]
	}
	like := func(s, last string) string {
		if s == last {
			return last
		}
		return cut(s, MaxName)
	}
	if k := len(tx.log.notes); k < len(tx.log.lines) && tx.log.lines[k].Path == n.Path {
		n.Path = tx.log.lines[k].Path
	} else {
		n.Path = strings.Clone(n.Path)
	}
	n.Verdict, n.Rule, n.Facts = like(n.Verdict, last.Verdict), like(n.Rule, last.Rule), like(n.Facts, last.Facts)
	if n.Op == DeltaSet {
		n.Old, n.New = "", ""
	} else if n.Secret {
		n.Old, n.New = hashSecret(tx.cur.salt, n.Path, n.Old), hashSecret(tx.cur.salt, n.Path, n.New)
	} else {
		n.Old, n.New = cut(n.Old, maxNoteValue), cut(n.New, maxNoteValue)
	}
	tx.log.notes = append(tx.log.notes, n)
}

// SetContext replaces the Context of Meta, which may depend on the version that the transaction runs against.
func (tx *Tx) SetContext(c string) { tx.meta.Context = c[:min(len(c), MaxName)] }

// Staging counts what was staged: unchanged, nothing was; RollbackTo sets it back.
func (tx *Tx) Staging() int {
	return len(tx.log.lines) + len(tx.log.objects) + len(tx.log.records) + len(tx.log.notes)
}

// Savepoint is a state of a Tx.
type Savepoint struct {
	cur                            Version
	lines, objects, records, notes int
}

// Savepoint and RollbackTo nest; rolling back to s discards everything staged since.
func (tx *Tx) Savepoint() Savepoint {
	v := tx.View()
	return Savepoint{*v, len(tx.log.lines), len(tx.log.objects), len(tx.log.records), len(tx.log.notes)}
}

// RollbackTo discards everything staged since s was taken; s stays usable, savepoints taken after it do not.
func (tx *Tx) RollbackTo(s Savepoint) {
	if tx.over || s.lines > len(tx.log.lines) || s.records > len(tx.log.records) || s.notes > len(tx.log.notes) {
		return
	}
	v := s.cur
	tx.cur, tx.view = v, &v
	tx.cur.rev = tx.rev
	clear(tx.log.lines[s.lines:])
	tx.log = txLog{tx.log.lines[:s.lines], tx.log.sets[:s.lines], tx.log.objects[:s.objects], tx.log.records[:s.records], tx.log.notes[:s.notes]}
}
