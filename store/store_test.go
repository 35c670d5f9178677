package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var bg = context.Background()

// openTest opens a file store whose file is checked when the test is over.
func openTest(t testing.TB, o Options) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "test.db")
	return reopenTest(t, path, o), path
}

func reopenTest(t testing.TB, path string, o Options) *Store {
	t.Helper()
	s, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeTest(t, s, path) })
	return s
}

// closeTest closes a store and verifies its file.
func closeTest(t testing.TB, s *Store, path string) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	checkTest(t, path)
}

func checkTest(t testing.TB, path string) {
	t.Helper()
	problems, err := Check(path)
	if err != nil {
		t.Errorf("check: %v", err)
	}
	for _, p := range problems {
		t.Errorf("check: %s: %s", p.Path, p.What)
	}
}

// must runs an Update that has to succeed.
func must(t testing.TB, s *Store, fn func(tx *Tx) error) Commit {
	t.Helper()
	c, err := s.Update(bg, Meta{Writer: "cli", Kind: "set"}, fn)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func set(path, value string) func(tx *Tx) error {
	return func(tx *Tx) error { return tx.Set(path, value, 0) }
}

// dump is everything that a version says, one line each.
func dump(v *Version) []string {
	out := []string{fmt.Sprintf("rev %d subtree %d", v.Rev(), v.SubtreeRev(""))}
	l, r := v.Len()
	out = append(out, fmt.Sprintf("len %d %d", l, r))
	v.Walk("", func(p string, l Leaf) bool {
		out = append(out, fmt.Sprintf("leaf %s %+v", p, l))
		return true
	})
	eachObject(v.root, nil, func(p []byte, n *node) bool {
		row, isRow := v.Row(string(p))
		out = append(out, fmt.Sprintf("object %s rev %d next %d rows %v row %v %v", p, v.SubtreeRev(string(p)), n.next, v.Instances(string(p)), row, isRow))
		return true
	})
	v.Attrs(func(p string, a Attr) bool { out = append(out, fmt.Sprintf("attr %s %+v", p, a)); return true })
	v.recs.each(func(b string, s *sorted[string, []byte]) bool {
		return s.each(func(k string, d []byte) bool { out = append(out, fmt.Sprintf("record %s %s %q", b, k, d)); return true })
	})
	return out
}

func TestReopen(t *testing.T) {
	s, path := openTest(t, Options{})
	must(t, s, func(tx *Tx) error {
		n, err := tx.AddRow("Device.IP.Interface.")
		if err != nil || n != 1 {
			return fmt.Errorf("row %d: %w", n, err)
		}
		return errors.Join(
			tx.Set("Device.IP.Interface.1.Enable", "true", Factory),
			tx.Set("Device.IP.Interface.1.Name", "eth0", 0),
			tx.Set("Device.X.Password", "geheim", Secret),
			tx.SetAttr("Device.IP.", Attr{Notification: 2, HasAccess: true, AccessList: []string{"Subscriber"}}),
			tx.PutRecord("cwmp/events", "0001", []byte("boot")))
	})
	must(t, s, func(tx *Tx) error { return tx.Unset("Device.X.Password") })
	must(t, s, func(tx *Tx) error { _, err := tx.AddRow("Device.IP.Interface."); return err })
	must(t, s, func(tx *Tx) error { return tx.DeleteRow("Device.IP.Interface.2.") })
	want := dump(s.Head())
	closeTest(t, s, path)
	s = reopenTest(t, path, Options{})
	if got := dump(s.Head()); !slices.Equal(got, want) {
		t.Fatalf("after reopening:\n%s\nbefore:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	c := must(t, s, func(tx *Tx) error {
		n, err := tx.AddRow("Device.IP.Interface.")
		if n != 3 {
			t.Errorf("instance number %d was used before", n)
		}
		return err
	})
	if c.Rev != 5 {
		t.Errorf("revision %d", c.Rev)
	}
	n := 0
	err := s.Journal(0, func(e *Entry) bool {
		n++
		if e.Rev != uint64(n) {
			t.Errorf("entry %d has revision %d", n, e.Rev)
		}
		for _, d := range e.Deltas {
			if strings.Contains(d.Old+d.New, "geheim") {
				t.Errorf("secret in the journal: %+v", d)
			}
		}
		return true
	})
	if err != nil || n != 5 {
		t.Errorf("%d entries, %v", n, err)
	}
}

// A commit whose fsync is not over may still come to nothing: nobody reads it in the journal, from the file neither.
func TestJournalEndsWithTheDurable(t *testing.T) {
	s, path := openTest(t, Options{})
	must(t, s, set("Device.A", "1"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	synced := false
	s = reopenTest(t, path, Options{fail: func(stage string) error { // nothing is in memory: the journal is read from the file
		if stage != failCommit || s.Head().Rev() != 1 {
			return nil
		}
		synced = true
		return s.Journal(0, func(e *Entry) bool {
			if head := s.Head().Rev(); e.Rev > head {
				t.Errorf("entry %d is read while the newest commit is %d", e.Rev, head)
			}
			return true
		})
	}})
	must(t, s, set("Device.A", "2"))
	if !synced {
		t.Error("no commit was seen on its way to the disk")
	}
}
