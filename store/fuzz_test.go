package store

import (
	"bytes"
	"reflect"
	"testing"
	"time"
)

// FuzzEntry: whatever decodes, encodes to something that decodes to the same.
func FuzzEntry(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{2, 0})
	f.Add(encodeEntry(nil, &Entry{Rev: 1, Time: time.Unix(0, 0)}))
	f.Add(encodeEntry(nil, &Entry{Rev: 1 << 40, Time: time.Unix(1800000000, 5), Meta: Meta{"usp:a", "usp", "m", "set", "dual-cwmp main 1"}, Deltas: []Delta{
		{Op: DeltaSet, Path: "Device.A.B", Old: "x", New: "y", HadOld: true, Verdict: "take", Rule: "r"},
		{Op: DeltaSet, Path: "Device.A.C", New: "sha256:00", Secret: true},
		{Op: DeltaDeleteRow, Path: "Device.T.1."},
		{Op: DeltaRefused, Path: "Device.A.B", Rule: "r"},
	}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEntry(b)
		if err != nil {
			return
		}
		again, err := decodeEntry(encodeEntry(nil, e))
		if err != nil || !reflect.DeepEqual(e, again) {
			t.Fatalf("%v: %+v, then %+v", err, e, again)
		}
	})
}

// FuzzRecords: the same for leaves, objects, attributes and the state.
func FuzzRecords(f *testing.F) {
	f.Add(encodeLeaf(nil, 7, 3, Secret, "value"))
	f.Add(encodeObject(nil, objectRecord{own: 9, next: 4}))
	f.Add(encodeObject(nil, objectRecord{own: 9, born: 8, row: true, writer: 2}))
	f.Add(encodeAttr(nil, Attr{Notification: 2, HasAccess: true, AccessList: []string{"Subscriber", ""}}))
	f.Add(mark{format: 1, seq: 5, rev: 4, first: 2, bytes: 100, sum: 1 << 31}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if rev, w, fl, v, err := decodeLeaf(b); err == nil {
			r2, w2, f2, v2, err := decodeLeaf(encodeLeaf(nil, rev, w, fl, string(v)))
			if err != nil || rev != r2 || w != w2 || fl != f2 || !bytes.Equal(v, v2) {
				t.Fatalf("leaf: %v", err)
			}
		}
		if o, err := decodeObject(b); err == nil {
			if o2, err := decodeObject(encodeObject(nil, o)); err != nil || o != o2 {
				t.Fatalf("object: %v: %+v, then %+v", err, o, o2)
			}
		}
		if a, err := decodeAttr(b); err == nil {
			if a2, err := decodeAttr(encodeAttr(nil, a)); err != nil || !sameAttr(a, a2) {
				t.Fatalf("attributes: %v: %+v, then %+v", err, a, a2)
			}
		}
		if m, err := decodeMark(b); err == nil {
			if m2, err := decodeMark(m.encode()); err != nil || m != m2 {
				t.Fatalf("state: %v: %+v, then %+v", err, m, m2)
			}
		}
	})
}

// FuzzFile changes a healthy file at two places: it opens, or is kept aside, and the process lives.
func FuzzFile(f *testing.F) {
	data, _ := sample(f)
	f.Add(uint32(0), []byte{1}, uint32(pageSize), []byte("x"))
	f.Add(uint32(2*pageSize+8), []byte{1, 0, 255, 255}, uint32(3*pageSize+12), []byte{9})
	f.Add(uint32(5*pageSize+16), []byte{0, 0, 0, 0, 255, 255, 255, 255}, uint32(20), []byte{2})
	f.Fuzz(func(t *testing.T, at uint32, a []byte, bt uint32, b []byte) {
		bad := bytes.Clone(data)
		copy(bad[int(at)%len(bad):], a)
		copy(bad[int(bt)%len(bad):], b)
		_, _ = openBad(t, t.TempDir(), bad)
	})
}

// FuzzPaths: what the path checks let through can be stored and found.
func FuzzPaths(f *testing.F) {
	f.Add("Device.A.1.B")
	f.Add("Device..B")
	f.Add("A.4294967295.b")
	f.Fuzz(func(t *testing.T, path string) {
		object, _, err := checkParam(path)
		v, serr := newVersion(newSalt()).Overlay(func(tx *Tx) error {
			for i := range object {
				if object[i] != '.' {
					continue
				}
				if table, n, ok := splitRow(object[:i+1]); ok {
					if err := tx.AddRowAt(table, n); err != nil && n != 1<<32-1 {
						return err
					}
				}
			}
			return tx.Set(path, "x", 0)
		})
		if err != nil && serr == nil {
			t.Fatalf("%q was stored: %v", path, err)
		}
		if serr == nil {
			if l, ok := v.Leaf(path); !ok || l.Value != "x" {
				t.Fatalf("%q is not found", path)
			}
		}
	})
}
