package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
)

// bbolt trusts the pages it maps: a damaged one makes it panic in a goroutine of its own, or read outside the file,
// and either ends the process. So every page that the newest meta page leads to is verified with plain reads before
// bbolt sees the file.
//
// A commit is made durable by one fsync of its data pages and its meta page together, so after a power cut any of them may
// be missing. The commit before is whole: nothing of it is overwritten until the new one is synced. soundest finds out which of
// the two the file holds.

const (
	metaMagic   = 0xED0CDAED
	metaVersion = 2
	pageHeader  = 16 // id 8, flags 2, count 2, overflow 4
	elemHeader  = 16 // of a branch: position 4, key 4, page 8; of a leaf: flags 4, position 4, key 4, value 4
	metaSum     = 56 // bytes of a meta page before its checksum

	maxDepth = 32 // pages from the root down

	pageBranch = 1
	pageLeaf   = 2
	pageMeta   = 4
	elemBucket = 1
)

var order = binary.NativeEndian // bbolt maps its structures as they are

type pageVerifier struct {
	f       *os.File
	high    uint64 // pages in use
	seen    []uint64
	problem func(where string, err error) error
	sys     bool   // in the bucket of that name
	sum     uint64 // as mark.sum
	state   []byte // the record of the state, sealed
	bufs    [maxDepth + 1][]byte
}

type metaPage struct{ root, high, txid uint64 }

// verifyPages reads all pages that the newest meta page leads to. It calls problem for every finding and ends with the first
// error that problem returns; a finding that leaves nothing to go on with is returned even if problem returns nil. The sum is
// what mark.sum must be.
func verifyPages(f *os.File, problem func(where string, err error) error) (sum uint64, err error) {
	metas, err := metaPages(f)
	if err != nil {
		return 0, err
	}
	v, err := verifyTree(f, metas[0], problem)
	return v.sum, err
}

// soundest verifies the newest commit in the file and, if a power cut left it incomplete, the one before; then it takes the
// newer meta page out, so that bbolt sees only the older. lost says why the newest commit is gone, nil if it is not.
func soundest(f *os.File) (sum uint64, lost, err error) {
	metas, err := metaPages(f)
	if err != nil {
		return 0, nil, err
	}
	sum, ours, err := verifyCommit(f, metas[0])
	if err == nil && ours || len(metas) < 2 || metas[1].txid+1 != metas[0].txid {
		return sum, nil, err
	}
	before, ours, older := verifyCommit(f, metas[1])
	if older != nil || !ours { // not what a power cut leaves
		return sum, nil, err
	}
	sum = before
	if err == nil {
		err = errors.New("meta page: it leads to no state")
	}
	gone := make([]byte, pageSize) // an invalid meta page, but in its place: bbolt's check looks at the header
	order.PutUint64(gone, metas[0].txid%2)
	order.PutUint16(gone[8:], pageMeta)
	if _, werr := f.WriteAt(gone, int64(metas[0].txid%2)*pageSize); werr != nil {
		return 0, nil, errors.Join(err, werr)
	}
	return sum, err, f.Sync()
}

// verifyCommit verifies one tree together with its own checksum over all records, which tells old pages from missing ones. ours
// is false for a sound tree without a state: somebody else's database, of which the loader says so.
func verifyCommit(f *os.File, m metaPage) (sum uint64, ours bool, err error) {
	v, err := verifyTree(f, m, firstProblem)
	if err != nil || v.state == nil {
		return v.sum, false, err
	}
	body, err := unseal(keyState, v.state)
	if err != nil {
		return 0, true, err
	}
	mk, err := decodeMark(body)
	if errors.Is(err, ErrFormat) { // a newer program's: the loader says so
		return v.sum, true, nil
	}
	switch {
	case err != nil:
	case mk.seq != m.txid: // all its pages are old ones
		err = fmt.Errorf("%w: the state of commit %d stands under the meta page of commit %d", errDecode, mk.seq, m.txid)
	case mk.sum != v.sum:
		err = errSum
	}
	return v.sum, true, err
}

// metaPages returns the one or two readable meta pages, the newest first.
func metaPages(f *os.File) ([]metaPage, error) {
	head := make([]byte, 2*pageSize)
	if _, err := f.ReadAt(head, 0); err != nil {
		return nil, fmt.Errorf("meta pages: not a database: %w", err)
	}
	m, err := readMeta(head[:pageSize])
	m2, err2 := readMeta(head[pageSize:])
	switch {
	case err != nil && err2 != nil: // one of them may be half written
		return nil, fmt.Errorf("meta pages: %w; %w", err, err2)
	case err != nil:
		return []metaPage{m2}, nil
	case err2 != nil:
		return []metaPage{m}, nil
	case m2.txid > m.txid:
		return []metaPage{m2, m}, nil
	}
	return []metaPage{m, m2}, nil
}

func verifyTree(f *os.File, m metaPage, problem func(where string, err error) error) (*pageVerifier, error) {
	v := &pageVerifier{f: f, high: m.high, problem: problem}
	st, err := f.Stat()
	if err != nil {
		return v, err
	}
	if m.high < 2 || m.high > uint64(st.Size())/pageSize {
		return v, fmt.Errorf("meta page: %d pages are in use, the file has %d bytes", m.high, st.Size())
	}
	v.seen = make([]uint64, m.high/64+1)
	v.seen[0] = 3 // the meta pages
	return v, v.page(m.root, nil, nil, 0)
}

func readMeta(page []byte) (m metaPage, err error) {
	p := page[pageHeader:]
	h := fnv.New64a()
	_, _ = h.Write(p[:metaSum])
	switch {
	case order.Uint32(p) != metaMagic:
		return m, errors.New("not a database")
	case order.Uint32(p[4:]) != metaVersion:
		return m, fmt.Errorf("version %d", order.Uint32(p[4:]))
	case order.Uint64(p[metaSum:]) != h.Sum64():
		return m, errors.New("checksum differs")
	case order.Uint32(p[8:]) != pageSize:
		return m, fmt.Errorf("page size %d", order.Uint32(p[8:]))
	}
	return metaPage{root: order.Uint64(p[16:]), high: order.Uint64(p[40:]), txid: order.Uint64(p[48:])}, nil
}

// page verifies the page id and everything below it; its keys are at least lo and below hi (nil: no bound).
func (v *pageVerifier) page(id uint64, lo, hi []byte, depth int) error {
	fail := func(format string, a ...any) error {
		return v.problem(fmt.Sprintf("page %d", id), fmt.Errorf(format, a...))
	}
	if depth > maxDepth {
		return fail("deeper than %d pages", maxDepth)
	}
	if id < 2 || id >= v.high {
		return fail("outside of the %d pages in use", v.high)
	}
	if v.bufs[depth] == nil {
		v.bufs[depth] = make([]byte, pageSize)
	}
	buf := v.bufs[depth]
	if _, err := v.f.ReadAt(buf, int64(id)*pageSize); err != nil {
		return fail("%w", err)
	}
	if got := order.Uint64(buf); got != id {
		return fail("calls itself %d", got)
	}
	over := uint64(order.Uint32(buf[12:]))
	if over >= v.high-id {
		return fail("overflow of %d pages is outside of the %d in use", over, v.high)
	}
	for i := id; i <= id+over; i++ {
		if v.seen[i/64]&(1<<(i%64)) != 0 {
			return fail("page %d is referred to twice", i)
		}
		v.seen[i/64] |= 1 << (i % 64)
	}
	if over > 0 {
		buf = make([]byte, (over+1)*pageSize)
		if _, err := v.f.ReadAt(buf, int64(id)*pageSize); err != nil {
			return fail("%w", err)
		}
	}
	if err := v.elements(buf, false, lo, hi); err != nil {
		return fail("%w", err)
	}
	return v.below(buf, hi, depth+1)
}

// elements verifies the header and the elements of a page, also of one inside a value (inline bucket).
func (v *pageVerifier) elements(buf []byte, inline bool, lo, hi []byte) error {
	if len(buf) < pageHeader {
		return errors.New("too short")
	}
	flags, count := order.Uint16(buf[8:]), int(order.Uint16(buf[10:]))
	if flags != pageLeaf && (flags != pageBranch || inline || count == 0) {
		return fmt.Errorf("type %#x with %d elements", flags, count)
	}
	if pageHeader+count*elemHeader > len(buf) {
		return fmt.Errorf("%d elements do not fit", count)
	}
	prev := lo
	for i := 0; i < count; i++ {
		key, val, err := element(buf, flags, i)
		if err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
		if len(key) == 0 || prev != nil && bytes.Compare(key, prev) < boolInt(i > 0) || hi != nil && bytes.Compare(key, hi) >= 0 {
			return fmt.Errorf("element %d: key %.40q is out of order", i, key)
		}
		prev = key
		if flags == pageBranch {
			continue
		}
		switch f := order.Uint32(buf[pageHeader+i*elemHeader:]); {
		case f == elemBucket && inline:
			return fmt.Errorf("element %d: bucket in an inline bucket", i)
		case f == elemBucket && len(val) < 16:
			return fmt.Errorf("element %d: bucket header of %d bytes", i, len(val))
		case f == elemBucket && order.Uint64(val) == 0:
			v.sys = string(key) == string(bucketSys)
			if err := v.elements(val[16:], true, nil, nil); err != nil {
				return fmt.Errorf("element %d: inline bucket %.40q: %w", i, key, err)
			}
		case f == 0 && !v.sys:
			if _, err := unseal(key, val); err != nil {
				return fmt.Errorf("element %d, key %.80q: %w", i, key, err)
			}
			v.sum ^= sumOf(val)
		case f == 0 && v.sys && bytes.Equal(key, keyState):
			v.state = bytes.Clone(val)
		case f > elemBucket:
			return fmt.Errorf("element %d: flags %#x", i, f)
		}
	}
	return nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// element returns key and value of element i.
func element(buf []byte, flags uint16, i int) (key, val []byte, err error) {
	at := pageHeader + i*elemHeader
	e := buf[at:]
	pos, k, n := uint64(order.Uint32(e)), uint64(order.Uint32(e[4:])), uint64(0)
	if flags == pageLeaf {
		pos, k, n = uint64(order.Uint32(e[4:])), uint64(order.Uint32(e[8:])), uint64(order.Uint32(e[12:]))
	}
	if pos+k+n > uint64(len(e)) {
		return nil, nil, fmt.Errorf("%d bytes at %d are outside of the page", k+n, uint64(at)+pos)
	}
	return e[pos : pos+k], e[pos+k : pos+k+n], nil
}

// below verifies the pages that a verified page refers to.
func (v *pageVerifier) below(buf []byte, hi []byte, depth int) error {
	flags, count := order.Uint16(buf[8:]), int(order.Uint16(buf[10:]))
	for i := 0; i < count; i++ {
		key, val, _ := element(buf, flags, i)
		var err error
		switch e := buf[pageHeader+i*elemHeader:]; {
		case flags == pageBranch:
			next := hi
			if i+1 < count {
				next, _, _ = element(buf, flags, i+1)
			}
			err = v.page(order.Uint64(e[8:]), key, next, depth)
		case order.Uint32(e) == elemBucket && order.Uint64(val) != 0:
			v.sys = string(key) == string(bucketSys)
			err = v.page(order.Uint64(val), nil, nil, depth)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
