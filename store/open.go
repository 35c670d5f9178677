package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
	"unique"

	"go.etcd.io/bbolt"
)

// errMoved: the file under the path was replaced while we waited for its lock.
var errMoved = errors.New("store: database was moved while it was opened")

// Open opens or creates the database file (mode 0600). First creation is by temporary file (<path>.new), fsync, rename
// and directory fsync. A file that cannot be opened or does not verify is renamed to <path>.corrupt-<time> and reported
// by an error that wraps ErrCorrupt; Open never replaces it silently: call it again to begin with an empty store. A
// file that another process holds is ErrLocked after LockTimeout, one of a newer program ErrFormat; both are left
// alone, like one that may not be read.
func Open(path string, o Options) (*Store, error) {
	o = o.withDefaults()
	for try := 0; ; try++ {
		s, err := open(path, o)
		if err == nil || !errors.Is(err, errMoved) || try == 3 {
			return s, err
		}
	}
}

func open(path string, o Options) (*Store, error) {
	_, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		d, salt, err := create(path, o)
		if err != nil {
			return nil, err
		}
		return start(o, d, newVersion(salt), nil, d.mark.first), nil
	}
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	d, l, err := load(path, o)
	if err != nil {
		return nil, err
	}
	return start(o, d, l.version(), l.cursors, d.mark.first), nil
}

// boltOptions are the settings that flash wants. openFile gets the file open and locked.
func boltOptions(o Options, openFile func(string, int, os.FileMode) (*os.File, error)) *bbolt.Options {
	initial := mapSize
	for int64(initial) > o.MaxSize {
		initial /= 2
	}
	return &bbolt.Options{
		Timeout:         o.LockTimeout,
		FreelistType:    bbolt.FreelistMapType,
		NoFreelistSync:  true,
		PageSize:        pageSize,
		InitialMmapSize: initial,
		MaxSize:         int(min(o.MaxSize, math.MaxInt32)),
		NoSync:          true, // disk.try syncs once, data and meta pages together
		NoStatistics:    true,
		OpenFile:        openFile,
	}
}

// lock opens a file and takes bbolt's own lock on it before anything is read, so that nobody else's half-written page
// is taken for corruption.
func lock(path string, flag int, how int, timeout time.Duration) (*os.File, error) {
	f, err := os.OpenFile(path, flag, fileMode)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	end := time.Now().Add(timeout)
	for {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if err != syscall.EWOULDBLOCK && err != syscall.EINTR {
			return nil, errors.Join(fmt.Errorf("store: locking %s: %w", path, err), f.Close())
		}
		if time.Now().After(end) {
			return nil, errors.Join(fmt.Errorf("%w: %s", ErrLocked, path), f.Close())
		}
		time.Sleep(20 * time.Millisecond)
	}
	ours, err := f.Stat()
	if err == nil {
		var there os.FileInfo
		if there, err = os.Stat(path); err == nil && os.SameFile(ours, there) {
			return f, nil
		}
	}
	return nil, errors.Join(errMoved, f.Close())
}

// create makes an empty database. It holds the lock of the new file all the way, so of two processes one wins.
func create(path string, o Options) (*disk, *[16]byte, error) {
	d := &disk{opt: o, mark: mark{format: formatVersion, first: 1}, writers: writerIDs{ids: map[string]uint32{}}}
	salt := newSalt()
	temp := path + ".new"
	db, err := bbolt.Open(temp, fileMode, boltOptions(o, func(temp string, _ int, _ os.FileMode) (*os.File, error) {
		f, err := lock(temp, os.O_RDWR|os.O_CREATE, syscall.LOCK_EX, o.LockTimeout)
		if err != nil {
			return nil, err
		}
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			return nil, errors.Join(errMoved, os.Remove(temp), f.Close()) // somebody was faster
		}
		d.file = f
		if err := f.Truncate(0); err != nil { // what a creation that was cut short left
			return nil, errors.Join(fmt.Errorf("store: %w", err), f.Close())
		}
		return f, nil
	}))
	if err != nil {
		return nil, nil, err
	}
	d.db = db
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, b := range buckets {
			if _, err := tx.CreateBucket(b); err != nil {
				return err
			}
		}
		w := &writeTx{tx: tx}
		d.mark.seq = uint64(tx.ID())
		if err := w.put(bucketSys, keySalt, bytes.Clone(salt[:])); err != nil {
			return err
		}
		return w.put(bucketSys, keyState, d.mark.encode())
	})
	if err == nil {
		err = d.file.Sync()
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("store: creating %s: %w", path, full(err)), db.Close(), os.Remove(temp))
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("store: %w", err), db.Close())
	}
	return d, salt, nil
}

// load opens an existing database and reads it whole.
func load(path string, o Options) (d *disk, l *loader, err error) {
	d = &disk{opt: o}
	var sum uint64
	d.db, err = bbolt.Open(path, fileMode, boltOptions(o, func(string, int, os.FileMode) (*os.File, error) {
		f, err := lock(path, os.O_RDWR, syscall.LOCK_EX, o.LockTimeout)
		if err != nil {
			return nil, err
		}
		// bbolt believes what it maps: every page is verified before it sees the file.
		if sum, d.lost, err = soundest(f); err != nil {
			return nil, errors.Join(setAside(path, err), f.Close())
		}
		if st, err := f.Stat(); err == nil && st.Mode().Perm()&0o077 != 0 {
			if err := f.Chmod(fileMode); err != nil {
				return nil, errors.Join(fmt.Errorf("store: %w", err), f.Close())
			}
		}
		d.file = f
		return f, nil
	}))
	if err != nil {
		return nil, nil, err
	}
	l = newLoader(firstProblem)
	err = l.read(d.db)
	if err == nil && l.mark.sum != sum {
		err = errSum
	}
	if err != nil {
		if !errors.Is(err, ErrFormat) {
			err = setAside(path, err)
		}
		return nil, nil, errors.Join(err, d.db.Close())
	}
	d.mark, d.writers = l.mark, l.writerIDs()
	dropResident(d.db, d.size())
	return d, l, nil
}

var errSum = fmt.Errorf("%w: records are missing or old: the checksum of all records differs", errDecode)

// firstProblem ends reading at the first problem.
func firstProblem(where string, err error) error { return fmt.Errorf("%s: %w", where, err) }

// loader builds the newest version from the file. problem decides what becomes of a finding: the error it returns
// ends the reading, nil goes on without the record.
type loader struct {
	problem func(where string, err error) error
	mark    mark
	tx      *Tx
	writers map[uint32]name
	used    map[uint32]bool
	cursors map[string]uint64
	salt    *[16]byte
}

func newLoader(problem func(where string, err error) error) *loader {
	l := &loader{
		problem: problem, writers: map[uint32]name{}, used: map[uint32]bool{}, cursors: map[string]uint64{},
		salt: new([16]byte),
	}
	l.tx = newTx(newVersion(l.salt), Meta{}, 0)
	return l
}

func (l *loader) version() *Version {
	v := *l.tx.View()
	v.rev = l.mark.rev
	return &v
}

// read reads all buckets but the journal.
func (l *loader) read(db *bbolt.DB) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("reading it: %v", p)
		}
	}()
	return db.View(func(tx *bbolt.Tx) error {
		for _, b := range buckets {
			if tx.Bucket(b) == nil {
				return fmt.Errorf("bucket %q is missing: not a database of this program", b)
			}
		}
		if err := l.readSys(tx.Bucket(bucketSys)); err != nil {
			return err
		}
		for _, part := range []struct {
			bucket []byte
			read   func(key string, body []byte) error
		}{
			{bucketWr, l.writer}, {bucketObj, l.object}, {bucketVal, l.leaf}, {bucketAttr, l.attr},
			{bucketCur, l.cursor}, {bucketRec, l.record},
		} {
			err := tx.Bucket(part.bucket).ForEach(func(k, v []byte) error {
				body, err := unseal(k, v)
				if err == nil {
					err = part.read(string(k), body)
				}
				if err != nil {
					return l.problem(fmt.Sprintf("bucket %s, key %q", part.bucket, k), err)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (l *loader) readSys(b *bbolt.Bucket) error {
	body, err := unseal(keyState, b.Get(keyState))
	if err == nil {
		l.mark, err = decodeMark(body)
	}
	if err != nil {
		return fmt.Errorf("bucket sys, key %q: %w", keyState, err)
	}
	salt, err := unseal(keySalt, b.Get(keySalt))
	if err == nil && len(salt) != len(l.salt) {
		err = errDecode
	}
	if err != nil {
		return fmt.Errorf("bucket sys, key %q: %w", keySalt, err)
	}
	copy(l.salt[:], salt)
	return nil
}

func (l *loader) writer(key string, body []byte) error {
	if len(key) != 4 || len(body) > MaxName {
		return fmt.Errorf("%w: writer", errDecode)
	}
	l.writers[binary.BigEndian.Uint32([]byte(key))] = unique.Make(string(body))
	return nil
}

func (l *loader) writerName(id uint32) (name, error) {
	w, ok := l.writers[id]
	if !ok {
		return name{}, fmt.Errorf("%w: writer %d is unknown", errDecode, id)
	}
	l.used[id] = true
	return w, nil
}

// writerIDs is the interning of the writers that are in use; the other ids are free.
func (l *loader) writerIDs() writerIDs {
	w := writerIDs{ids: make(map[string]uint32, len(l.used))}
	for id := range l.used {
		w.ids[l.writers[id].Value()] = id
		w.next = max(w.next, id+1)
	}
	for id := uint32(0); id < w.next; id++ {
		if !l.used[id] {
			w.free = append(w.free, id)
		}
	}
	return w
}

// grow makes the revision of a spine at least rev.
func (l *loader) grow(spine []*node, rev uint64) error {
	if rev == 0 || rev > l.mark.rev {
		return fmt.Errorf("%w: revision %d, the newest commit is %d", errDecode, rev, l.mark.rev)
	}
	for _, n := range spine {
		n.rev = max(n.rev, rev)
	}
	return nil
}

// object reads tables before their rows and rows before what is below them, since keys are sorted.
func (l *loader) object(key string, body []byte) error {
	o, err := decodeObject(body)
	if err != nil {
		return err
	}
	if key == string(rootKey) {
		key = ""
	} else if err := checkObject(key); err != nil {
		return err
	}
	table, num, isRow := splitRow(key)
	if isRow != o.row {
		return fmt.Errorf("%w: a row and no row", errDecode)
	}
	if !isRow {
		if err := l.tx.reach(key); err != nil {
			return err
		}
		spine := l.tx.spine(key)
		n := spine[len(spine)-1]
		n.own, n.next = o.own, o.next
		return l.grow(spine, o.own)
	}
	if err := l.tx.reach(table); err != nil {
		return err
	}
	t := l.tx.cur.root.at(table)
	if t == nil || num >= t.next {
		return fmt.Errorf("%w: instance number is not below its table's counter", errDecode)
	}
	w, err := l.writerName(o.writer)
	if err != nil {
		return err
	}
	spine := l.tx.spine(table)
	t = spine[len(spine)-1]
	row := &node{owner: l.tx.owner, own: o.own, born: o.born, writer: w, row: true}
	t.rows, t.ids = t.rows.set(l.tx.owner, num, row), &idList{}
	l.tx.cur.rows++
	return l.grow(append(spine, row), o.own)
}

func (l *loader) leaf(key string, body []byte) error {
	rev, id, flags, value, err := decodeLeaf(body)
	if err != nil {
		return err
	}
	object, leaf, err := checkParam(key)
	if err != nil {
		return err
	}
	w, err := l.writerName(id)
	if err != nil {
		return err
	}
	if l.tx.cur.root.at(object) == nil {
		if err := l.tx.reach(object); err != nil {
			return err
		}
	}
	spine := l.tx.spine(object)
	n := spine[len(spine)-1]
	i, _ := n.leaf(leaf)
	n.ownLeaves()
	n.leaves = insertAt(n.leaves, i, &slot{unique.Make(leaf), keepBytes(value), rev, w, flags})
	l.tx.cur.leaves++
	return l.grow(spine, rev)
}

func (l *loader) attr(key string, body []byte) error {
	a, err := decodeAttr(body)
	if err != nil {
		return err
	}
	l.tx.log = txLog{}
	return l.tx.SetAttr(key, a)
}

func (l *loader) cursor(key string, body []byte) error {
	r := reader{b: body}
	rev := r.uvarint()
	if err := r.end(); err != nil {
		return err
	}
	if len(l.cursors) >= MaxCursors || rev > l.mark.rev {
		return fmt.Errorf("%w: cursor at revision %d of %d", errDecode, rev, l.mark.rev)
	}
	l.cursors[key] = rev
	return nil
}

func (l *loader) record(key string, body []byte) error {
	bucket, key, ok := strings.Cut(key, "\x00")
	if !ok {
		return fmt.Errorf("%w: key of a record", errDecode)
	}
	l.tx.log = txLog{}
	return l.tx.PutRecord(bucket, key, append([]byte{}, body...))
}
