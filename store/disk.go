package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterr "go.etcd.io/bbolt/errors"
)

// Layout of the file. Every value is sealed (see codec.go).
//
//	sys  "state" -> mark; "salt" -> 16 bytes for the hashes of secrets
//	val  parameter path -> leaf
//	obj  object path ("." is the root) -> own revision, instance counter, creator of a row
//	attr path -> CWMP attributes
//	jrn  revision (8 bytes, big endian) -> journal entry
//	cur  consumer -> revision
//	wr   writer id -> name
//	rec  bucket 0 key -> a head's record
var (
	bucketSys  = []byte("sys")
	bucketVal  = []byte("val")
	bucketObj  = []byte("obj")
	bucketAttr = []byte("attr")
	bucketJrn  = []byte("jrn")
	bucketCur  = []byte("cur")
	bucketWr   = []byte("wr")
	bucketRec  = []byte("rec")
	buckets    = [][]byte{bucketSys, bucketVal, bucketObj, bucketAttr, bucketJrn, bucketCur, bucketWr, bucketRec}

	keyState = []byte("state")
	keySalt  = []byte("salt")
	rootKey  = []byte(".")
)

const (
	formatVersion = 1
	pageSize      = 4096 // fixed: kernels with larger pages would multiply every write
	mapSize       = 8 << 20
	fileMode      = 0o600
	modestText    = 16 << 10
)

// mark is the state record: where the file stands.
type mark struct {
	format uint64
	seq    uint64 // of the bbolt commit, its transaction id: a state under another meta page is an older one
	rev    uint64 // newest commit
	first  uint64 // oldest entry of the journal, rev+1 if there is none
	bytes  uint64 // of all journal records
	sum    uint64 // exclusive or of sumOf all records outside of sys: none is missing, none is old
}

func (m mark) encode() []byte {
	var b []byte
	for _, v := range [...]uint64{m.format, m.seq, m.rev, m.first, m.bytes, m.sum} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func decodeMark(b []byte) (m mark, err error) {
	r := reader{b: b}
	if m.format = r.uvarint(); r.err == nil && m.format > formatVersion {
		return m, fmt.Errorf("%w: format %d, known is %d", ErrFormat, m.format, formatVersion)
	}
	m.seq, m.rev, m.first, m.bytes, m.sum = r.uvarint(), r.uvarint(), r.uvarint(), r.uvarint(), r.uvarint()
	if err := r.end(); err != nil {
		return m, err
	}
	if m.format == 0 || m.first == 0 || m.first > m.rev+1 {
		return m, fmt.Errorf("%w: state", errDecode)
	}
	return m, nil
}

// batch is what becomes durable together.
type batch struct {
	staged  []*request
	entries []*Entry
	top     *Version
	cursors map[string]uint64
	gone    []string // cursors to be forgotten
	relief  bool     // nothing but the older half of the journal goes
}

// modest reports whether a batch should fit into a full file, given the pages of some old journal entries: it adds no
// value, no row, no records, and little text.
func (b *batch) modest(m mark) bool {
	if len(b.staged) == 0 || m.first >= m.rev {
		return false
	}
	from, to := b.staged[0].tx.base, b.top
	text := 0
	for _, e := range b.entries {
		for i := range e.Deltas {
			text += len(e.Deltas[i].New)
		}
	}
	return to.leaves <= from.leaves && to.rows <= from.rows && to.nRecs <= from.nRecs && text <= modestText
}

// disk is the file. Who has the store's turn owns it; entries alone may be called by others.
type disk struct {
	db      *bbolt.DB
	file    *os.File // of db, which closes it
	opt     Options
	mark    mark
	writers writerIDs
	suspect bool              // the last commit failed: what is on disk is to be looked at
	lost    error             // why the newest commit in the file could not be used when it was opened
	undo    map[uint64][]undo // by seq of a failed commit: what takes it back
	broken  error             // bbolt panicked and cannot be used any more
	spare   writeTx           // memory of the last commit, for the next
}

// undo puts one key back; old nil removes it.
type undo struct{ bucket, key, old []byte }

// writerIDs interns writers on disk. Names that no value bears any more lose their id when the file is opened.
type writerIDs struct {
	ids  map[string]uint32
	free []uint32
	next uint32
}

// commit makes a batch durable. It returns the bytes written and the encoded sizes of the entries. What does not grow
// the store is not refused for want of room as long as there are old journal entries to give up: a full store can be
// emptied.
func (d *disk) commit(b *batch) (written int, sizes []int, err error) {
	written, sizes, err = d.try(b)
	if !errors.Is(err, ErrFull) || !b.modest(d.mark) {
		return written, sizes, err
	}
	n, _, rerr := d.try(&batch{relief: true})
	if written += n; rerr != nil {
		return written, nil, err
	}
	n, sizes, err = d.try(b)
	return written + n, sizes, err
}

// try writes a batch in one bbolt transaction. DESIGN invariants 3 and 4.
func (d *disk) try(b *batch) (written int, sizes []int, err error) {
	if d.broken != nil {
		return 0, nil, d.broken
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // an I/O error in the mapping is a panic, not the end
	defer func() {
		if p := recover(); p != nil {
			d.broken = fmt.Errorf("%w: writing it failed beyond repair, restart to have it verified: %v", ErrCorrupt, p)
			err = d.broken
		}
	}()
	if err := failpoint(d.opt, failBegin); err != nil {
		return 0, nil, full(err)
	}
	if d.suspect {
		if err := d.rewrite(); err != nil {
			return 0, nil, err
		}
	}
	tx, err := d.db.Begin(true)
	if err != nil {
		return 0, nil, err
	}
	w := d.begin(tx)
	m, sizes, err := d.fill(w, b)
	if err == nil {
		err = failpoint(d.opt, failWrite)
	}
	if err != nil {
		_ = tx.Rollback()
		d.forget(w)
		return 0, nil, full(err)
	}
	err = tx.Commit()
	st := tx.Stats()
	written = int(st.GetPageAlloc()) + pageSize
	if err == nil {
		err = failpoint(d.opt, failCommit)
	}
	if err == nil && !d.opt.NoSync {
		err = d.db.Sync()
	}
	if err != nil {
		// The new meta page may have reached the file all the same: the next commit looks, and takes it back.
		d.suspect = true
		if d.undo == nil {
			d.undo = map[uint64][]undo{}
		}
		d.undo[m.seq] = w.undo
		d.forget(w)
		return written, nil, full(err)
	}
	d.mark, d.suspect, d.undo = m, false, nil
	d.ended(w)
	return written, sizes, nil
}

// full makes the errors of a full disk or quota ErrFull.
func full(err error) error {
	if errors.Is(err, bolterr.ErrMaxSizeReached) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// rewrite makes every page in use dirty again, syncs, and verifies what the file then holds: after a failed fsync the kernel
// takes pages for clean that never reached the disk, and may forget them. What lies behind the last page in use is left alone:
// the file grows in large sparse steps, and filling those holes would eat the rest of a disk that is full.
func (d *disk) rewrite() error {
	if d.opt.NoSync {
		return nil
	}
	st, err := d.file.Stat()
	if err != nil {
		return err
	}
	metas, err := metaPages(d.file)
	if err != nil {
		return d.giveUp(err)
	}
	var high uint64 // of the commit in force and of the failed one, whose meta page may be there
	for _, m := range metas {
		high = max(high, m.high)
	}
	end := st.Size()
	if high < uint64(end)/pageSize {
		end = int64(high) * pageSize
	}
	buf := make([]byte, 64*pageSize)
	for at := int64(0); at < end; at += int64(len(buf)) {
		n := min(int64(len(buf)), end-at)
		if _, err := d.file.ReadAt(buf[:n], at); err != nil {
			return err
		}
		if _, err := d.file.WriteAt(buf[:n], at); err != nil {
			return full(err)
		}
	}
	if err := d.file.Sync(); err != nil {
		return full(err)
	}
	metas, err = metaPages(d.file)
	if err == nil {
		_, _, err = verifyCommit(d.file, metas[0])
	}
	if err != nil {
		return d.giveUp(err)
	}
	return nil
}

// giveUp leaves the file alone until a restart.
func (d *disk) giveUp(err error) error {
	d.broken = fmt.Errorf("%w: pages were lost when the disk failed, restart to have it verified: %w", ErrCorrupt, err)
	return d.broken
}

// fill puts a batch into a transaction and returns the mark it leads to.
func (d *disk) fill(w *writeTx, b *batch) (m mark, sizes []int, err error) {
	m = d.mark
	if d.suspect {
		if err := d.takeBack(w.tx); err != nil {
			return m, nil, err
		}
	}
	m.seq = uint64(w.tx.ID())
	for _, r := range b.staged {
		if err := d.apply(w, r.tx, r.res.Version); err != nil {
			return m, nil, err
		}
	}
	w.tx.Bucket(bucketJrn).FillPercent = 0.95 // revisions only grow
	for _, e := range b.entries {
		rec := encodeEntry(w.room(entryRoom(e)), e)
		sizes = append(sizes, len(rec)+4)
		if err := w.put(bucketJrn, revKey(e.Rev), rec); err != nil {
			return m, nil, err
		}
		m.bytes += uint64(len(rec) + 4)
		m.rev = e.Rev
	}
	if err := d.trim(w, &m, b.relief); err != nil {
		return m, nil, err
	}
	for c, rev := range b.cursors {
		if err := w.put(bucketCur, []byte(c), binary.AppendUvarint(nil, rev)); err != nil {
			return m, nil, err
		}
	}
	for _, c := range b.gone {
		if err := w.del(bucketCur, []byte(c)); err != nil {
			return m, nil, err
		}
	}
	m.sum ^= w.sum
	return m, sizes, w.put(bucketSys, keyState, m.encode())
}

// takeBack undoes a failed commit that is on disk nevertheless.
func (d *disk) takeBack(tx *bbolt.Tx) error {
	body, err := unseal(keyState, tx.Bucket(bucketSys).Get(keyState))
	if err != nil {
		return err
	}
	m, err := decodeMark(body)
	if err != nil {
		return err
	}
	if m.seq == d.mark.seq {
		d.undo = nil
		return nil
	}
	ops, ok := d.undo[m.seq]
	if !ok {
		return fmt.Errorf("%w: commit %d on disk is not ours", ErrCorrupt, m.seq)
	}
	for i := len(ops) - 1; i >= 0; i-- {
		b := tx.Bucket(ops[i].bucket)
		if ops[i].old == nil {
			err = b.Delete(ops[i].key)
		} else {
			err = b.Put(ops[i].key, ops[i].old)
		}
		if err != nil {
			return err
		}
	}
	d.undo = map[uint64][]undo{m.seq: ops}
	return nil
}

// trim removes the oldest entries when the ring is over its size; a sixteenth at a time, since each removal touches a
// page of its own.
func (d *disk) trim(w *writeTx, m *mark, relief bool) error {
	maxN, maxB := uint64(d.opt.JournalEntries), uint64(d.opt.JournalBytes)
	switch n := m.rev + 1 - m.first; {
	case relief:
		maxN = n / 2
	case n <= maxN && m.bytes <= maxB:
		return nil
	default:
		maxN, maxB = maxN-maxN/16, maxB-maxB/16
	}
	b := w.tx.Bucket(bucketJrn)
	for m.first < m.rev && (m.rev+1-m.first > maxN || m.bytes > maxB) {
		key := revKey(m.first)
		m.bytes -= uint64(len(b.Get(key)))
		if err := w.del(bucketJrn, key); err != nil {
			return err
		}
		m.first++
	}
	return nil
}

// apply writes what one transaction staged; v is the state it led to.
func (d *disk) apply(w *writeTx, tx *Tx, v *Version) error {
	deleted := ""
	if !tx.again && len(tx.log.lines) > 0 { // nothing but values, each of them as it was set
		if err := d.putValues(w, tx); err != nil {
			return err
		}
		return d.putRecords(w, tx, v)
	}
	for i := range tx.log.lines {
		l := &tx.log.lines[i]
		var err error
		switch l.Op {
		case DeltaSet, DeltaUnset:
			err = d.putLeaf(w, v, l.Path)
		case DeltaDeleteRow:
			if deleted != "" && strings.HasPrefix(l.Path, deleted) {
				continue // went with the row above it
			}
			deleted = l.Path
			for _, bucket := range [][]byte{bucketVal, bucketObj, bucketAttr} {
				if err = w.delPrefix(bucket, l.Path); err != nil {
					break
				}
			}
		case DeltaAttr:
			if a, ok := v.Attr(l.Path); ok {
				err = w.put(bucketAttr, []byte(l.Path), encodeAttr(nil, a))
			} else {
				err = w.del(bucketAttr, []byte(l.Path))
			}
		case DeltaAddRow:
			deleted = ""
		}
		if err != nil {
			return err
		}
	}
	for _, path := range tx.log.objects {
		if err := d.putObject(w, v, path); err != nil {
			return err
		}
	}
	return d.putRecords(w, tx, v)
}

func (d *disk) putRecords(w *writeTx, tx *Tx, v *Version) error {
	for _, k := range tx.log.records {
		key := []byte(k.bucket + "\x00" + k.key)
		data, ok := v.Record(k.bucket, k.key)
		var err error
		if ok {
			err = w.put(bucketRec, key, append(make([]byte, 0, len(data)+4), data...))
		} else {
			err = w.del(bucketRec, key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) putLeaf(w *writeTx, v *Version, path string) error {
	l, ok := v.Leaf(path)
	if !ok {
		return w.del(bucketVal, []byte(path))
	}
	id, err := d.writer(w, l.Writer)
	if err != nil {
		return err
	}
	return w.putLeaf(path, l.Rev, id, l.Flags, l.Value)
}

// putValues writes the values of a transaction that set every path once and did nothing else.
func (d *disk) putValues(w *writeTx, tx *Tx) error {
	id, err := d.writer(w, tx.meta.Writer)
	for i := 0; i < len(tx.log.lines) && err == nil; i++ {
		s := &tx.log.sets[i]
		err = w.putLeaf(tx.log.lines[i].Path, tx.rev, id, s.flags, s.value)
	}
	return err
}

func (w *writeTx) putLeaf(path string, rev uint64, id uint32, flags Flags, value string) error {
	key := append(w.room(len(path)), path...)
	return w.put(bucketVal, key, encodeLeaf(w.room(len(value)+leafRoom), rev, id, flags, value))
}

func (d *disk) putObject(w *writeTx, v *Version, path string) error {
	key := objectKey(path)
	n := v.root.at(path)
	if n == nil || n.own == 0 {
		return w.del(bucketObj, key)
	}
	o := objectRecord{own: n.own, born: n.born, next: n.next, row: n.row}
	if n.row {
		id, err := d.writer(w, n.writer.Value())
		if err != nil {
			return err
		}
		o.writer = id
	}
	return w.put(bucketObj, key, encodeObject(make([]byte, 0, 32), o))
}

func objectKey(path string) []byte {
	if path == "" {
		return rootKey
	}
	return []byte(path)
}

func revKey(rev uint64) []byte { return binary.BigEndian.AppendUint64(nil, rev) }

// writer returns the id of a writer, giving it one if need be.
func (d *disk) writer(w *writeTx, name string) (uint32, error) {
	if id, ok := d.writers.ids[name]; ok {
		return id, nil
	}
	if len(d.writers.ids) >= MaxWriters {
		return 0, fmt.Errorf("%w: more than %d writers", ErrFull, MaxWriters)
	}
	var id uint32
	if n := len(d.writers.free); n > 0 {
		id, d.writers.free = d.writers.free[n-1], d.writers.free[:n-1]
	} else {
		id = d.writers.next
		d.writers.next++
	}
	d.writers.ids[name] = id
	w.names = append(w.names, name)
	return id, w.put(bucketWr, binary.BigEndian.AppendUint32(nil, id), []byte(name))
}

// forget takes back the ids that a failed transaction gave out.
func (d *disk) forget(w *writeTx) {
	for _, n := range w.names {
		d.writers.free = append(d.writers.free, d.writers.ids[n])
		delete(d.writers.ids, n)
	}
}

// entries reads up to n journal entries after a revision. The bbolt transaction ends before it returns. DESIGN
// invariant 2.
func (d *disk) entries(after uint64, n int) (out []*Entry, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: reading the journal: %v", ErrCorrupt, p)
		}
	}()
	err = d.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketJrn).Cursor()
		want := after + 1
		for k, v := c.Seek(revKey(want)); k != nil && len(out) < n; k, v = c.Next() {
			if !bytes.Equal(k, revKey(want)) {
				if len(out) == 0 {
					return ErrCursorGone // trimmed since the caller looked
				}
				return fmt.Errorf("%w: journal entry %d is missing", ErrCorrupt, want)
			}
			e, err := openEntry(k, v)
			if err != nil {
				return fmt.Errorf("%w: journal entry %d: %w", ErrCorrupt, want, err)
			}
			out = append(out, e)
			want++
		}
		return nil
	})
	if errors.Is(err, bolterr.ErrDatabaseNotOpen) {
		err = ErrClosed
	}
	return out, err
}

func openEntry(key, val []byte) (*Entry, error) {
	body, err := unseal(key, val)
	if err != nil {
		return nil, err
	}
	e, err := decodeEntry(body)
	if err == nil && !bytes.Equal(key, revKey(e.Rev)) {
		err = fmt.Errorf("%w: it says revision %d", errDecode, e.Rev)
	}
	return e, err
}

func (d *disk) size() int64 {
	st, err := d.file.Stat()
	if err != nil {
		return 0
	}
	return st.Size()
}

func (d *disk) close() error {
	if d.broken != nil {
		return d.broken // bbolt's own lock is lost; the end of the process frees the file
	}
	return d.db.Close()
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
		return err
	}
	return nil
}

// setAside renames a bad file and says where it is now.
func setAside(path string, cause error) error {
	at := path + ".corrupt-" + time.Now().UTC().Format("20060102T150405Z")
	for i := 1; ; i++ {
		if _, err := os.Lstat(at); errors.Is(err, os.ErrNotExist) {
			break
		}
		at = fmt.Sprintf("%s.corrupt-%s-%d", path, time.Now().UTC().Format("20060102T150405Z"), i)
	}
	if err := os.Rename(path, at); err != nil {
		return fmt.Errorf("%w: %s: %w; it could not be kept aside: %w", ErrCorrupt, path, cause, err)
	}
	err := fmt.Errorf("%w: %s: %w; kept aside as %s", ErrCorrupt, path, cause, at)
	return errors.Join(err, syncDir(filepath.Dir(path)))
}
