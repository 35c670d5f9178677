package store

import (
	"bytes"
	"strings"

	"go.etcd.io/bbolt"
)

// writeTx is a bbolt transaction that remembers what it overwrites.
type writeTx struct {
	tx     *bbolt.Tx
	undo   []undo
	mem    []byte   // where keys and values lie until the commit
	sum    uint64   // change of mark.sum
	names  []string // writers that got their id here
	bucket *bbolt.Bucket
	name   []byte        // of bucket
	cursor *bbolt.Cursor // of bucket
}

// maxSpare bounds what is kept from one commit for the next.
const maxSpare = 64 << 10

// begin takes the memory that the last commit left.
func (d *disk) begin(tx *bbolt.Tx) *writeTx {
	w := &writeTx{tx: tx, undo: d.spare.undo[:0], mem: d.spare.mem[:0]}
	d.spare = writeTx{}
	return w
}

// ended keeps the memory of a commit that succeeded: neither bbolt nor d.undo has any of it any more.
func (d *disk) ended(w *writeTx) {
	if cap(w.mem) > maxSpare || cap(w.undo) > maxSpare/64 {
		return
	}
	clear(w.undo)
	d.spare = writeTx{undo: w.undo, mem: w.mem}
}

// room is an empty slice for n bytes, which nothing else overwrites before the commit.
func (w *writeTx) room(n int) []byte {
	if cap(w.mem)-len(w.mem) < n {
		w.mem = make([]byte, 0, max(n, min(2*cap(w.mem), maxSpare), 1024))
	}
	from := len(w.mem)
	w.mem = w.mem[:from+n]
	return w.mem[from:from:len(w.mem)]
}

// get returns a bucket and what it has for a key, nil if nothing.
func (w *writeTx) get(bucket, key []byte) (b *bbolt.Bucket, old []byte) {
	if w.bucket == nil || string(w.name) != string(bucket) {
		w.bucket, w.name = w.tx.Bucket(bucket), bucket
		w.cursor = w.bucket.Cursor()
	}
	k, v := w.cursor.Seek(key) // begins at the root whatever was put since
	if k == nil || !bytes.Equal(k, key) {
		return w.bucket, nil
	}
	return w.bucket, v
}

// put takes over key and body, which are kept until the commit.
func (w *writeTx) put(bucket, key, body []byte) error {
	b, old := w.get(bucket, key)
	w.remember(bucket, key, old)
	val := seal(key, body)
	w.sum ^= sumOf(val)
	return b.Put(key, val)
}

// del removes a key, if it is there.
func (w *writeTx) del(bucket, key []byte) error {
	b, old := w.get(bucket, key)
	if old == nil {
		return nil
	}
	w.remember(bucket, key, old)
	return b.Delete(key)
}

// remember keeps what is overwritten.
func (w *writeTx) remember(bucket, key, old []byte) {
	u := undo{bucket: bucket, key: key}
	if old != nil {
		u.old = append(w.room(len(old)), old...)
		w.sum ^= sumOf(old)
	}
	w.undo = append(w.undo, u)
}

// delPrefix removes every key that begins with prefix.
func (w *writeTx) delPrefix(bucket []byte, prefix string) error {
	var keys [][]byte
	c := w.tx.Bucket(bucket).Cursor()
	for k, _ := c.Seek([]byte(prefix)); k != nil && strings.HasPrefix(string(k), prefix); k, _ = c.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	for _, k := range keys {
		if err := w.del(bucket, k); err != nil {
			return err
		}
	}
	return nil
}
