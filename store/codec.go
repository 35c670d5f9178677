package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"
)

// Every value in the file is a body followed by the CRC-32C of key and body, so that a flipped bit of the flash is
// found rather than configured. Bodies are varints and length-prefixed texts.

var crcTable = crc32.MakeTable(crc32.Castagnoli)

var errDecode = errors.New("cannot be decoded")

// seal appends the checksum to a body.
func seal(key, body []byte) []byte {
	c := crc32.Update(crc32.Update(0, crcTable, key), crcTable, body)
	return binary.BigEndian.AppendUint32(body, c)
}

// unseal checks the checksum and returns the body, which is a part of val.
func unseal(key, val []byte) ([]byte, error) {
	if len(val) < 4 {
		return nil, fmt.Errorf("%w: %d bytes", errDecode, len(val))
	}
	body := val[:len(val)-4]
	if c := crc32.Update(crc32.Update(0, crcTable, key), crcTable, body); c != binary.BigEndian.Uint32(val[len(val)-4:]) {
		return nil, fmt.Errorf("%w: checksum differs", errDecode)
	}
	return body, nil
}

// sumOf is what a record counts for in mark.sum. The checksums of the records themselves would not do: a CRC is linear, so those of
// like records (a row's parameters) cancel each other out. nil, no record, counts nothing.
func sumOf(val []byte) uint64 {
	if val == nil { // no record
		return 0
	}
	sum := uint64(14695981039346656037) // FNV-1a, without the allocation of hash/fnv
	for _, b := range val {
		sum = (sum ^ uint64(b)) * 1099511628211
	}
	return sum
}

// reader takes a body apart; after the first failure it returns zero values and keeps the error.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", errDecode, what)
	}
	r.b = nil
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail("number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail("end")
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail("length")
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) text() string { return string(r.bytes(r.uvarint())) }

// end is the error of the whole decoding: nothing may be left over.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("bytes left over")
	}
	return r.err
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// Leaf: revision, writer id, flags, value to the end.
func encodeLeaf(b []byte, rev uint64, writer uint32, flags Flags, value string) []byte {
	b = binary.AppendUvarint(b, rev)
	b = binary.AppendUvarint(b, uint64(writer))
	b = append(b, byte(flags))
	return append(b, value...)
}

func decodeLeaf(b []byte) (rev uint64, writer uint32, flags Flags, value []byte, err error) {
	r := reader{b: b}
	rev = r.uvarint()
	w := r.uvarint()
	flags = Flags(r.byte())
	if r.err == nil && w > math.MaxUint32 {
		r.fail("writer")
	}
	if r.err == nil && flags > Secret|Factory|Written {
		r.fail("flags")
	}
	return rev, uint32(w), flags, r.b, r.err
}

// objectRecord is what the file keeps of an object beside its leaves.
type objectRecord struct {
	own, born uint64
	next      uint32
	row       bool
	writer    uint32 // of a row
}

// Object: kind (1 = row), own revision, next instance number, and for rows revision of creation and writer.
func encodeObject(b []byte, o objectRecord) []byte {
	kind := byte(0)
	if o.row {
		kind = 1
	}
	b = append(b, kind)
	b = binary.AppendUvarint(b, o.own)
	b = binary.AppendUvarint(b, uint64(o.next))
	if o.row {
		b = binary.AppendUvarint(b, o.born)
		b = binary.AppendUvarint(b, uint64(o.writer))
	}
	return b
}

func decodeObject(b []byte) (o objectRecord, err error) {
	r := reader{b: b}
	kind := r.byte()
	o.row, o.own = kind == 1, r.uvarint()
	next := r.uvarint()
	var w uint64
	if o.row {
		o.born, w = r.uvarint(), r.uvarint()
	}
	if kind > 1 || next > math.MaxUint32 || w > math.MaxUint32 {
		r.fail("object")
	}
	o.next, o.writer = uint32(next), uint32(w)
	return o, r.end()
}

// Attributes: notification, whether there is an access list, its entries.
func encodeAttr(b []byte, a Attr) []byte {
	b = binary.AppendVarint(b, int64(a.Notification))
	if !a.HasAccess {
		return append(b, 0)
	}
	b = append(b, 1)
	for _, e := range a.AccessList {
		b = appendText(b, e)
	}
	return b
}

func decodeAttr(b []byte) (a Attr, err error) {
	r := reader{b: b}
	n, has := r.varint(), r.byte()
	if n < -1 || n > 6 || has > 1 || has == 0 && len(r.b) > 0 {
		r.fail("attributes")
	}
	a.Notification, a.HasAccess = int8(n), has == 1
	for len(r.b) > 0 && r.err == nil {
		a.AccessList = append(a.AccessList, r.text())
	}
	return a, r.end()
}

const entryVersion = 2 // 1 had no context and no facts

// Bits above the operation in the first byte of a line.
const (
	lineOp     = 0x07
	lineHadOld = 0x08
	lineSecret = 0x10
	lineOld    = 0x20 // Old is not empty
	lineNew    = 0x40
	lineNote   = 0x80
)

// leafRoom is how much longer than its value a sealed leaf is at most.
const leafRoom = 24

// entryRoom is at least the length of a sealed entry.
func entryRoom(e *Entry) int {
	n := 64 + len(e.Meta.Writer) + len(e.Meta.Protocol) + len(e.Meta.Ref) + len(e.Meta.Kind) + len(e.Meta.Context)
	for i := range e.Deltas {
		d := &e.Deltas[i]
		n += 24 + len(d.Path) + len(d.Old) + len(d.New) + len(d.Verdict) + len(d.Rule) + len(d.Facts)
	}
	return n
}

// Entry: version, revision, time (ns since 1970), five texts, number of lines; a line is a byte of bits, the length of
// what its path has in common with the path before it, the rest of the path, and the texts that its bits announce.
func encodeEntry(b []byte, e *Entry) []byte {
	b = append(b, entryVersion)
	b = binary.AppendUvarint(b, e.Rev)
	b = binary.AppendVarint(b, e.Time.UnixNano())
	for _, s := range [5]string{e.Meta.Writer, e.Meta.Protocol, e.Meta.Ref, e.Meta.Kind, e.Meta.Context} {
		b = appendText(b, s)
	}
	b = binary.AppendUvarint(b, uint64(len(e.Deltas)))
	prev := ""
	for i := range e.Deltas {
		d := &e.Deltas[i]
		bits := byte(d.Op)
		set := func(on bool, bit byte) {
			if on {
				bits |= bit
			}
		}
		set(d.HadOld, lineHadOld)
		set(d.Secret, lineSecret)
		set(d.Old != "", lineOld)
		set(d.New != "", lineNew)
		set(d.Verdict != "" || d.Rule != "" || d.Facts != "", lineNote)
		b = append(b, bits)
		common := 0
		for common < len(prev) && common < len(d.Path) && prev[common] == d.Path[common] {
			common++
		}
		b = binary.AppendUvarint(b, uint64(common))
		b = appendText(b, d.Path[common:])
		prev = d.Path
		if d.Old != "" {
			b = appendText(b, d.Old)
		}
		if d.New != "" {
			b = appendText(b, d.New)
		}
		if bits&lineNote != 0 {
			b = appendText(appendText(appendText(b, d.Verdict), d.Rule), d.Facts)
		}
	}
	return b
}

// decodeEntry copies everything it keeps. Its memory is bounded by the length of b times MaxPath.
func decodeEntry(b []byte) (*Entry, error) {
	r := reader{b: b}
	v := r.byte()
	if v < 1 || v > entryVersion {
		return nil, fmt.Errorf("%w: journal entry of version %d", errDecode, v)
	}
	e := &Entry{Rev: r.uvarint(), Time: time.Unix(0, r.varint()).UTC()}
	e.Meta = Meta{Writer: r.text(), Protocol: r.text(), Ref: r.text(), Kind: r.text()}
	if v > 1 {
		e.Meta.Context = r.text()
	}
	n := r.uvarint()
	if n > uint64(len(r.b))/3 { // a line has three bytes at least
		r.fail("number of lines")
		n = 0
	}
	if n > 0 {
		e.Deltas = make([]Delta, 0, n)
	}
	prev := ""
	for ; n > 0 && r.err == nil; n-- {
		bits := r.byte()
		d := Delta{Op: DeltaOp(bits & lineOp), HadOld: bits&lineHadOld != 0, Secret: bits&lineSecret != 0}
		common := r.uvarint()
		rest := r.bytes(r.uvarint())
		if d.Op >= deltaOps || common > uint64(len(prev)) || common+uint64(len(rest)) > MaxPath {
			r.fail("line")
			break
		}
		d.Path = prev[:common] + string(rest)
		prev = d.Path
		if bits&lineOld != 0 {
			d.Old = r.text()
		}
		if bits&lineNew != 0 {
			d.New = r.text()
		}
		if bits&lineNote != 0 {
			d.Verdict, d.Rule = r.text(), r.text()
			if v > 1 {
				d.Facts = r.text()
			}
		}
		e.Deltas = append(e.Deltas, d)
	}
	return e, r.end()
}
