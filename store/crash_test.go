package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestRecovered: a commit that lost its pages is told of, and the one before goes on.
func TestRecovered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.db")
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	must(t, s, func(tx *Tx) error { return tx.Set("Device.X", "1", 0) })
	a, err := os.ReadFile(path)
	must(t, s, func(tx *Tx) error { return tx.Set("Device.X", "2", 0) })
	b, err2 := os.ReadFile(path)
	if err := errors.Join(err, err2, s.Recovered(), s.Close()); err != nil {
		t.Fatal(err)
	}
	copy(a[:2*pageSize], b) // the newest meta page over the pages of before
	if err := os.WriteFile(path, a, 0o600); err != nil {
		t.Fatal(err)
	}
	s = reopenTest(t, path, Options{})
	if l, _ := s.Head().Leaf("Device.X"); l.Value != "1" || s.Recovered() == nil {
		t.Errorf("%q, recovered: %v", l.Value, s.Recovered())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	checkTest(t, path) // what was mended is sound, also before the next commit
	s = reopenTest(t, path, Options{})
	must(t, s, func(tx *Tx) error { return tx.Set("Device.X", "3", 0) })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = reopenTest(t, path, Options{})
	if l, _ := s.Head().Leaf("Device.X"); l.Value != "3" || s.Recovered() != nil {
		t.Errorf("%q, recovered: %v", l.Value, s.Recovered())
	}
}

// TestPowerLoss builds the files that a power cut in the middle of a commit can leave: any of the new data pages, under the
// old or the new meta page, since both are synced together, or a half written meta page. What opens is the whole
// state before or the whole state after. DESIGN invariant 3.
func TestPowerLoss(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.db")
	s, err := Open(path, Options{NoSync: true, JournalEntries: 40})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fill(t, s, 300)
	read := func() []byte {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.TrimRight(data, "\x00")
	}
	pad := func(b []byte, n int) []byte { return append(bytes.Clone(b), make([]byte, n-len(b))...) }
	dir, rnd := t.TempDir(), rand.New(rand.NewPCG(3, 4))
	images := 0
	for i := range 25 {
		a, before := read(), dump(s.Head())
		must(t, s, func(tx *Tx) error {
			row, err := tx.AddRow("Device.WiFi.AccessPoint.")
			del := tx.DeleteRow(fmt.Sprintf("Device.WiFi.AccessPoint.%d.", i+1))
			return errors.Join(err, del, tx.Set(fmt.Sprintf("Device.WiFi.AccessPoint.%d.X", row), fmt.Sprint(i), 0))
		})
		b, after := read(), dump(s.Head())
		n := (max(len(a), len(b)) + pageSize - 1) / pageSize * pageSize
		a, b = pad(a, n), pad(b, n)
		var changed []int
		for at := 2 * pageSize; at < n; at += pageSize {
			if !bytes.Equal(a[at:at+pageSize], b[at:at+pageSize]) {
				changed = append(changed, at)
			}
		}
		if len(changed) < 3 {
			t.Fatalf("%d pages changed", len(changed))
		}
		for range 12 {
			img := bytes.Clone(a)
			for _, at := range changed {
				if rnd.IntN(2) == 0 {
					copy(img[at:at+pageSize], b[at:])
				} else if rnd.IntN(4) == 0 { // a page by half
					k := rnd.IntN(pageSize)
					copy(img[at:at+k], b[at:])
				}
			}
			got, err := openBad(t, dir, img)
			if err != nil || !slices.Equal(got, before) {
				t.Fatalf("commit %d: old meta pages: %v", i, err)
			}
			copy(img[:2*pageSize], b) // the same pages under the new meta page
			got, err = openBad(t, dir, img)
			if err != nil || !slices.Equal(got, before) && !slices.Equal(got, after) {
				t.Fatalf("commit %d: new meta page over some of its pages: %v", i, err)
			}
			img = bytes.Clone(b)
			k := rnd.IntN(2 * pageSize)
			copy(img[k:2*pageSize], a[k:])
			got, err = openBad(t, dir, img)
			if err != nil || !slices.Equal(got, before) && !slices.Equal(got, after) {
				t.Fatalf("commit %d: meta pages up to byte %d: %v", i, k, err)
			}
			images += 3
		}
	}
	t.Logf("%d images", images)
}
