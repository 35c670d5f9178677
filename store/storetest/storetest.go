// Package storetest is the suite that every way of opening a store must pass: the file and its in-memory twin. It is
// for tests only.
//
//	storetest.Run(t, func(t *testing.T, o store.Options) *store.Store { return store.OpenMemory(o) })
//
// The function opens an empty store; the suite closes it. What must survive closing is not part of the suite, since the
// twin forgets everything. The suite promises nothing about its cases but that they hold for both.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"twinspan/store"
)

// Opener opens an empty store.
type Opener func(t *testing.T, o store.Options) *store.Store

var (
	ctx  = context.Background()
	meta = store.Meta{Writer: "usp:proto::c", Protocol: "usp", Ref: "msg-1", Kind: "set"}
)

// Run runs the suite.
func Run(t *testing.T, open Opener) {
	cases := []struct {
		name string
		opt  store.Options
		run  func(t *testing.T, s *store.Store)
	}{
		{"set", store.Options{}, testSet},
		{"rows", store.Options{}, testRows},
		{"deleteNested", store.Options{}, testDeleteNested},
		{"badPaths", store.Options{}, testBadPaths},
		{"attr", store.Options{}, testAttr},
		{"records", store.Options{}, testRecords},
		{"savepoints", store.Options{}, testSavepoints},
		{"failures", store.Options{}, testFailures},
		{"goexit", store.Options{}, testGoexit},
		{"overlay", store.Options{}, testOverlay},
		{"entry", store.Options{}, testEntry},
		{"secrets", store.Options{}, testSecrets},
		{"ring", store.Options{JournalEntries: 16}, testRing},
		{"ringBytes", store.Options{JournalBytes: 2000}, testRingBytes},
		{"journalReenter", store.Options{}, testJournalReenter},
		{"cursors", store.Options{}, testCursors},
		{"changed", store.Options{}, testChanged},
		{"cancel", store.Options{}, testCancel},
		{"limits", store.Options{}, testLimits},
		{"concurrent", store.Options{}, testConcurrent},
		{"closed", store.Options{}, testClosed},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, c.opt)
			defer func() {
				if err := s.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			}()
			c.run(t, s)
		})
	}
	t.Run("refused", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { testRefused(t, open(t, store.Options{})) }) })
}

func update(t testing.TB, s *store.Store, fn func(tx *store.Tx) error) store.Commit {
	t.Helper()
	c, err := s.Update(ctx, meta, fn)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func set(path, value string) func(tx *store.Tx) error {
	return func(tx *store.Tx) error { return tx.Set(path, value, 0) }
}

func journal(t testing.TB, s *store.Store, after uint64) (out []*store.Entry) {
	t.Helper()
	if err := s.Journal(after, func(e *store.Entry) bool { out = append(out, e); return true }); err != nil {
		t.Fatal(err)
	}
	return out
}

func testSet(t *testing.T, s *store.Store) {
	before := s.Head()
	c := update(t, s, set("Device.A.B", "1"))
	if !c.Changed || c.Rev != 1 || c.Version != s.Head() || s.Head().Rev() != 1 {
		t.Fatalf("%+v", c)
	}
	want := store.Leaf{Value: "1", Rev: 1, Writer: meta.Writer}
	if l, ok := s.Head().Leaf("Device.A.B"); !ok || l != want {
		t.Errorf("%+v %t", l, ok)
	}
	if _, ok := before.Leaf("Device.A.B"); ok {
		t.Error("an old version changed")
	}
	n := s.Stats()
	c, err := s.Update(ctx, store.Meta{Writer: "cwmp"}, set("Device.A.B", "1"))
	if err != nil || c.Changed || c.Rev != 1 || c.Entry != nil {
		t.Errorf("identical value: %+v %v", c, err)
	}
	if m := s.Stats(); m.Batches != n.Batches || m.BytesWritten != n.BytesWritten || m.NoOps != n.NoOps+1 {
		t.Errorf("a no-op was written: %+v", m)
	}
	if l, _ := s.Head().Leaf("Device.A.B"); l != want {
		t.Errorf("a no-op changed %+v", l)
	}
	c = update(t, s, func(tx *store.Tx) error { return tx.Set("Device.A.B", "1", store.Factory) })
	if !c.Changed || c.Rev != 2 {
		t.Errorf("new flags: %+v", c)
	}
	update(t, s, func(tx *store.Tx) error { return errors.Join(tx.Unset("Device.A.B"), tx.Unset("Device.A.Nothing")) })
	if _, ok := s.Head().Leaf("Device.A.B"); ok || s.Head().SubtreeRev("Device.A.") != 0 || s.Head().SubtreeRev("") != 3 {
		t.Errorf("after unset: %t, %d", ok, s.Head().SubtreeRev(""))
	}
}

func testRows(t *testing.T, s *store.Store) {
	const table = "Device.IP.Interface."
	if _, err := s.Update(ctx, meta, set(table+"1.Name", "x")); !errors.Is(err, store.ErrMissing) {
		t.Errorf("leaf of a missing row: %v", err)
	}
	for want := uint32(1); want <= 200; want++ {
		update(t, s, func(tx *store.Tx) error {
			n, err := tx.AddRow(table)
			if n != want {
				t.Errorf("row %d, want %d", n, want)
			}
			return err
		})
	}
	update(t, s, func(tx *store.Tx) error {
		for n := range uint32(200) {
			if n%3 != 0 {
				if err := tx.DeleteRow(fmt.Sprintf("%s%d.", table, n)); err != nil {
					return err
				}
			}
		}
		if err := tx.AddRowAt(table, 100000); err != nil {
			return err
		}
		return tx.AddRowAt(table, 7)
	})
	list := s.Head().Instances(table)
	if !slices.IsSorted(list) || len(list) != 200-133+2 || !s.Head().HasInstance(table, 7) || s.Head().HasInstance(table, 8) {
		t.Errorf("rows %v", list)
	}
	_, err := s.Update(ctx, meta, func(tx *store.Tx) error { return tx.AddRowAt(table, 7) })
	if !errors.Is(err, store.ErrExists) {
		t.Errorf("row twice: %v", err)
	}
	update(t, s, func(tx *store.Tx) error {
		n, err := tx.AddRow(table)
		if n != 100001 {
			t.Errorf("row %d after 100000", n)
		}
		return err
	})
	if r, ok := s.Head().Row(table + "7."); !ok || r.Writer != meta.Writer || r.Rev != 201 {
		t.Errorf("row 7: %+v %t", r, ok)
	}
}

func testDeleteNested(t *testing.T, s *store.Store) {
	update(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.AddRowAt("Device.A.", 1), tx.AddRowAt("Device.A.", 11), tx.AddRowAt("Device.A.1.B.", 2),
			tx.Set("Device.A.1.B.2.X", "1", 0), tx.Set("Device.A.11.X", "1", 0),
			tx.SetAttr("Device.A.1.B.2.X", store.Attr{Notification: 2}))
	})
	c := update(t, s, func(tx *store.Tx) error { return tx.DeleteRow("Device.A.1.") })
	var got []string
	for _, d := range c.Entry.Deltas {
		got = append(got, d.Op.String()+" "+d.Path)
	}
	if want := []string{"delete Device.A.1.", "delete Device.A.1.B.2."}; !slices.Equal(got, want) {
		t.Errorf("lines %v, want %v", got, want)
	}
	if l, r := s.Head().Len(); l != 1 || r != 1 {
		t.Errorf("%d leaves, %d rows left", l, r)
	}
	s.Head().Attrs(func(p string, a store.Attr) bool { t.Errorf("attributes of %s are left", p); return true })
	if _, err := s.Update(ctx, meta, func(tx *store.Tx) error { return tx.DeleteRow("Device.A.1.") }); !errors.Is(err, store.ErrMissing) {
		t.Errorf("deleted twice: %v", err)
	}
}

func testBadPaths(t *testing.T, s *store.Store) {
	long := "Device." + strings.Repeat("x", store.MaxPath)
	for _, p := range []string{"", ".", "Device.", "Device..A", "Device.1", "Device.A.01.B", "Device.A.0.B", "1.A", "Device.1.2.A",
		"Device.A b", "Device.A.4294967296.B", "Device.{i}.A", "Device.*.A", "Device.A()", "Device.Ä", "Device.A\x00", long,
		strings.Repeat("A.", store.MaxDepth+1) + "B"} {
		_, err := s.Update(ctx, meta, set(p, "x"))
		if !errors.Is(err, store.ErrPath) {
			t.Errorf("set %.40q: %v", p, err)
		}
	}
	for _, p := range []string{"", "Device", "Device.A.1", "1.", "Device..", "Device.A.1.", long + "."} {
		_, err := s.Update(ctx, meta, func(tx *store.Tx) error { return tx.AddRowAt(p, 3) })
		if !errors.Is(err, store.ErrPath) {
			t.Errorf("row of %.40q: %v", p, err)
		}
	}
	for _, p := range []string{"Device.A.", "Device.A", ""} {
		_, err := s.Update(ctx, meta, func(tx *store.Tx) error { return tx.DeleteRow(p) })
		if !errors.Is(err, store.ErrPath) {
			t.Errorf("delete of %q: %v", p, err)
		}
	}
	if s.Head().Rev() != 0 {
		t.Error("something was committed")
	}
}

func testAttr(t *testing.T, s *store.Store) {
	a := store.Attr{Notification: 2, HasAccess: true, AccessList: []string{"Subscriber"}}
	c := update(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.SetAttr("Device.A.", a), tx.SetAttr("Device.A.X", store.Attr{Notification: 1}))
	})
	if d := c.Entry.Deltas[0]; d.Op != store.DeltaAttr || d.New != "n=2 a=Subscriber" || d.HadOld {
		t.Errorf("%+v", d)
	}
	if got, ok := s.Head().Attr("Device.A."); !ok || got.Notification != 2 || !slices.Equal(got.AccessList, a.AccessList) {
		t.Errorf("%+v", got)
	}
	if _, ok := s.Head().Attr("Device.A.Y"); ok {
		t.Error("attributes are not inherited here")
	}
	c = update(t, s, func(tx *store.Tx) error { return tx.SetAttr("Device.A.", a) })
	if c.Changed {
		t.Error("identical attributes were committed")
	}
	update(t, s, func(tx *store.Tx) error { return tx.SetAttr("Device.A.", store.Attr{Notification: -1}) })
	var left []string
	s.Head().Attrs(func(p string, a store.Attr) bool { left = append(left, p); return true })
	if !slices.Equal(left, []string{"Device.A.X"}) {
		t.Errorf("left: %v", left)
	}
	if s.Head().SubtreeRev("") != 0 {
		t.Error("attributes count as values")
	}
	if _, err := s.Update(ctx, meta, func(tx *store.Tx) error { return tx.SetAttr("Device.A.", store.Attr{Notification: 7}) }); err == nil {
		t.Error("notification 7")
	}
}

func testRecords(t *testing.T, s *store.Store) {
	data := []byte("one")
	c := update(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.PutRecord("cwmp/events", "0002", []byte("two")), tx.PutRecord("cwmp/events", "0001", data),
			tx.PutRecord("cwmp/state", "x", []byte{}))
	})
	if !c.Changed || len(c.Entry.Deltas) != 0 {
		t.Errorf("%+v", c)
	}
	data[0] = 'X'
	var got []string
	err := s.Records("cwmp/events", func(k string, d []byte) bool { got = append(got, k+"="+string(d)); return true })
	if err != nil || !slices.Equal(got, []string{"0001=one", "0002=two"}) {
		t.Errorf("%v %v", got, err)
	}
	if d, ok, err := s.Record("cwmp/state", "x"); !ok || d == nil || len(d) != 0 || err != nil {
		t.Errorf("empty record: %q %t %v", d, ok, err)
	}
	if c := update(t, s, func(tx *store.Tx) error { return tx.PutRecord("cwmp/events", "0001", []byte("one")) }); c.Changed {
		t.Error("identical record was committed")
	}
	update(t, s, func(tx *store.Tx) error { return tx.PutRecord("cwmp/events", "0001", nil) })
	if _, ok, _ := s.Record("cwmp/events", "0001"); ok {
		t.Error("record was not deleted")
	}
	for _, k := range []string{"", "a\x00b", strings.Repeat("k", store.MaxName+1)} {
		if _, err := s.Update(ctx, meta, func(tx *store.Tx) error { return tx.PutRecord("b", k, data) }); err == nil {
			t.Errorf("key %.20q", k)
		}
	}
}

func testSavepoints(t *testing.T, s *store.Store) {
	update(t, s, func(tx *store.Tx) error {
		outer := tx.Savepoint()
		if err := tx.Set("Device.A", "1", 0); err != nil {
			return err
		}
		seen := tx.View()
		inner := tx.Savepoint()
		n, err := tx.AddRow("Device.T.")
		if err != nil {
			return err
		}
		tx.RollbackTo(inner)
		if m, _ := tx.AddRow("Device.T."); m != n {
			t.Errorf("a rolled back row kept its number: %d, then %d", n, m)
		}
		tx.RollbackTo(inner)
		if tx.View().HasInstance("Device.T.", n) {
			t.Error("row is still there")
		}
		tx.RollbackTo(outer)
		if _, ok := tx.View().Leaf("Device.A"); ok {
			t.Error("leaf is still there")
		}
		if _, ok := seen.Leaf("Device.A"); !ok {
			t.Error("a view changed")
		}
		return tx.Set("Device.B", "2", 0)
	})
	if l, r := s.Head().Len(); l != 1 || r != 0 {
		t.Errorf("%d leaves, %d rows", l, r)
	}
	if e := journal(t, s, 0); len(e) != 1 || len(e[0].Deltas) != 1 || e[0].Deltas[0].Path != "Device.B" {
		t.Errorf("journal: %+v", e)
	}
}

func testFailures(t *testing.T, s *store.Store) {
	update(t, s, set("Device.A", "1"))
	head := s.Head()
	wanted := errors.New("no")
	var kept *store.Tx
	_, err := s.Update(ctx, meta, func(tx *store.Tx) error { kept = tx; _ = tx.Set("Device.A", "2", 0); return wanted })
	if !errors.Is(err, wanted) || s.Head() != head {
		t.Errorf("%v", err)
	}
	if err := kept.Set("Device.A", "3", 0); err == nil || s.Head() != head {
		t.Errorf("a transaction that is over took a Set: %v", err)
	}
	_, err = s.Update(ctx, meta, func(tx *store.Tx) error { _ = tx.Set("Device.A", "2", 0); panic("geheim") })
	var p *store.PanicError
	if !errors.As(err, &p) || strings.Contains(err.Error(), "geheim") || len(p.Stack) == 0 || s.Head() != head {
		t.Errorf("%v", err)
	}
	update(t, s, set("Device.A", "4"))
}

func testGoexit(t *testing.T, s *store.Store) {
	var wg sync.WaitGroup
	wg.Go(func() {
		tt := &testing.T{}
		if _, err := s.Update(ctx, meta, func(tx *store.Tx) error { tt.FailNow(); return nil }); err == nil {
			t.Error("no error")
		}
	})
	wg.Wait()
	update(t, s, set("Device.A", "1"))
}

func testOverlay(t *testing.T, s *store.Store) {
	update(t, s, set("Device.A", "1"))
	head := s.Head()
	v, err := head.OverlayAs(store.Meta{Writer: "cwmp"}, func(tx *store.Tx) error {
		return errors.Join(tx.Set("Device.A", "2", 0), tx.AddRowAt("Device.T.", 5), tx.Set("Device.T.5.X", "3", 0))
	})
	if err != nil {
		t.Fatal(err)
	}
	v, err = v.Overlay(set("Device.B", "1"))
	if err != nil || v.Rev() != 1 {
		t.Fatalf("%v, revision %d", err, v.Rev())
	}
	for p, want := range map[string]string{"Device.A": "2", "Device.B": "1", "Device.T.5.X": "3"} {
		if l, _ := v.Leaf(p); l.Value != want {
			t.Errorf("%s: %+v", p, l)
		}
	}
	if l, _ := head.Leaf("Device.A"); l.Value != "1" || s.Head() != head {
		t.Error("an overlay changed what it lies on")
	}
	if same, err := head.Overlay(func(*store.Tx) error { return nil }); err != nil || same != head {
		t.Errorf("an empty overlay: %v", err)
	}
	if _, err := head.Overlay(func(tx *store.Tx) error { return tx.DeleteRow("Device.T.5.") }); !errors.Is(err, store.ErrMissing) {
		t.Errorf("%v", err)
	}
}

func testEntry(t *testing.T, s *store.Store) {
	update(t, s, set("Device.A", "0"))
	c := update(t, s, func(tx *store.Tx) error {
		err := errors.Join(tx.Set("Device.A", "1", 0), tx.Set("Device.A", "2", 0), tx.Set("Device.C", "5", 0), tx.Unset("Device.C"))
		_, err2 := tx.AddRow("Device.T.")
		tx.Annotate("Device.A", "take", "rule 1", false)
		tx.Annotate("Device.Z", "yield", "rule 2", true)
		return errors.Join(err, err2)
	})
	want := []store.Delta{
		{Op: store.DeltaSet, Path: "Device.A", Old: "0", New: "2", HadOld: true, Verdict: "take", Rule: "rule 1"},
		{Op: store.DeltaUnset, Path: "Device.C"},
		{Op: store.DeltaAddRow, Path: "Device.T.1."},
		{Op: store.DeltaRefused, Path: "Device.Z", Verdict: "yield", Rule: "rule 2"},
	}
	if !slices.Equal(c.Entry.Deltas, want) {
		t.Errorf("%+v", c.Entry.Deltas)
	}
	got := journal(t, s, 1)
	if len(got) != 1 || got[0].Rev != 2 || got[0].Meta != meta || !slices.Equal(got[0].Deltas, want) || got[0].Time.IsZero() {
		t.Errorf("%+v", got)
	}
}

func testSecrets(t *testing.T, s *store.Store) {
	const p = "Device.Password"
	values := []struct {
		v string
		f store.Flags
	}{{"open-a", 0}, {"geheim-b", store.Secret}, {"geheim-c", store.Secret}, {"open-d", 0}, {"geheim-e", store.Secret}}
	for _, x := range values {
		update(t, s, func(tx *store.Tx) error { return tx.Set(p, x.v, x.f) })
	}
	update(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.Set(p, "between", 0), tx.Set(p, "geheim-f", store.Secret))
	})
	update(t, s, func(tx *store.Tx) error { return tx.Unset(p) })
	for _, e := range journal(t, s, 0) {
		if text := fmt.Sprintf("%+v", e); strings.Contains(text, "geheim") {
			t.Error(text)
		}
		if d := e.Deltas[0]; e.Rev == 3 && (!d.Secret || !strings.HasPrefix(d.New, "sha256:") || d.New == d.Old) {
			t.Errorf("%+v", d)
		}
	}
}

func testRing(t *testing.T, s *store.Store) {
	for i := range 500 {
		update(t, s, set("Device.A", fmt.Sprint(i)))
		start := s.JournalStart()
		if n := s.Head().Rev() + 1 - start; n > 16 || i > 20 && n < 14 {
			t.Fatalf("%d entries", n)
		}
		if got := journal(t, s, start-1); len(got) != int(s.Head().Rev()+1-start) || got[0].Rev != start {
			t.Fatalf("%d entries from %d", len(got), start)
		}
	}
	for _, after := range []uint64{0, s.JournalStart() - 2} {
		err := s.Journal(after, func(*store.Entry) bool { t.Error("an entry"); return true })
		if !errors.Is(err, store.ErrCursorGone) {
			t.Errorf("after %d: %v", after, err)
		}
	}
	if got := journal(t, s, s.Head().Rev()); len(got) != 0 {
		t.Errorf("%d entries after the newest", len(got))
	}
}

func testRingBytes(t *testing.T, s *store.Store) {
	update(t, s, set("Device.Big", strings.Repeat("x", 5000)))
	if got := journal(t, s, 0); len(got) != 1 {
		t.Errorf("the newest entry is gone: %d", len(got))
	}
	for i := range 100 {
		update(t, s, set("Device.A", fmt.Sprint(i, strings.Repeat("y", 100))))
	}
	if n := s.Head().Rev() + 1 - s.JournalStart(); n < 3 || n > 20 {
		t.Errorf("%d entries of more than 200 bytes in 2000 bytes", n)
	}
}

func testJournalReenter(t *testing.T, s *store.Store) {
	for i := range 300 {
		update(t, s, set("Device.A", fmt.Sprint(i)))
	}
	n := 0
	err := s.Journal(0, func(e *store.Entry) bool {
		if n++; e.Rev != uint64(n) {
			t.Fatalf("entry %d has revision %d", n, e.Rev)
		}
		if n%50 == 0 && n <= 300 {
			update(t, s, set("Device.B", fmt.Sprint(n)))
		}
		return n < 305
	})
	if err != nil || n != 305 {
		t.Errorf("%d entries, %v", n, err)
	}
}

func testCursors(t *testing.T, s *store.Store) {
	if _, ok := s.Cursor("a"); ok {
		t.Error("a cursor out of nothing")
	}
	update(t, s, set("Device.A", "1"))
	if err := errors.Join(s.SetCursor("a", 1), s.SetCursor("b", 0)); err != nil {
		t.Fatal(err)
	}
	if r, ok := s.Cursor("a"); !ok || r != 1 {
		t.Errorf("%d %t", r, ok)
	}
	if err := s.SetCursor("a", 2); err == nil {
		t.Error("a cursor in the future")
	}
	if err := s.SetCursor("", 1); err == nil {
		t.Error("a consumer without a name")
	}
	if err := s.DeleteCursor("b"); err != nil || !slices.Equal(s.Cursors(), []string{"a"}) {
		t.Errorf("%v %v", s.Cursors(), err)
	}
	var err error
	for i := 0; err == nil && i <= store.MaxCursors; i++ {
		err = s.SetCursor(fmt.Sprint("c", i), 1)
	}
	if !errors.Is(err, store.ErrFull) {
		t.Errorf("too many consumers: %v", err)
	}
}

func testChanged(t *testing.T, s *store.Store) {
	ch := s.Changed()
	update(t, s, func(tx *store.Tx) error { return nil })
	select {
	case <-ch:
		t.Error("nothing changed")
	default:
	}
	update(t, s, set("Device.A", "1"))
	select {
	case <-ch:
	case <-time.After(10 * time.Second):
		t.Error("the change is not told")
	}
	if got := journal(t, s, 0); len(got) != 1 {
		t.Error("told before the journal had it")
	}
}

func testCancel(t *testing.T, s *store.Store) {
	hold, held := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = s.Update(ctx, meta, func(tx *store.Tx) error { close(held); <-hold; return nil })
	})
	<-held
	c, cancel := context.WithCancel(ctx)
	wg.Go(func() {
		if _, err := s.Update(c, meta, set("Device.A", "1")); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
	time.Sleep(5 * time.Millisecond)
	cancel()
	time.Sleep(5 * time.Millisecond)
	close(hold)
	wg.Wait()
	update(t, s, func(tx *store.Tx) error { return nil })
	if s.Head().Rev() != 0 {
		t.Error("a cancelled transaction was committed")
	}
	if _, err := s.Update(c, meta, set("Device.A", "1")); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func testLimits(t *testing.T, s *store.Store) {
	refused := func(what string, fn func(tx *store.Tx) error) {
		t.Helper()
		if _, err := s.Update(ctx, meta, fn); !errors.Is(err, store.ErrFull) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("value", set("Device.A", strings.Repeat("x", store.MaxValue+1)))
	refused("record", func(tx *store.Tx) error { return tx.PutRecord("b", "k", make([]byte, store.MaxRecord+1)) })
	refused("records", func(tx *store.Tx) error {
		for i := range store.MaxRecordBytes/store.MaxRecord + 1 {
			if err := tx.PutRecord("b", fmt.Sprint(i), make([]byte, store.MaxRecord)); err != nil {
				return err
			}
		}
		return nil
	})
	refused("lines", func(tx *store.Tx) error {
		for i := range store.MaxTxLines + 1 {
			if err := tx.Set("Device.A", fmt.Sprint(i), 0); err != nil {
				return err
			}
		}
		return nil
	})
	refused("rows", func(tx *store.Tx) error {
		if err := tx.AddRowAt("Device.T.", 1<<32-2); err != nil {
			return err
		}
		_, err := tx.AddRow("Device.T.")
		return err
	})
	if _, err := s.Update(ctx, store.Meta{Writer: strings.Repeat("w", store.MaxName+1)}, set("Device.A", "1")); !errors.Is(err, store.ErrFull) {
		t.Errorf("writer: %v", err)
	}
	if s.Head().Rev() != 0 {
		t.Error("something was committed")
	}
}

func testConcurrent(t *testing.T, s *store.Store) {
	const writers, each = 8, 40
	var wg sync.WaitGroup
	var mu sync.Mutex
	revs := map[uint64]bool{}
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				path := fmt.Sprintf("Device.W%d.Value", w)
				c, err := s.Update(ctx, store.Meta{Writer: fmt.Sprint("w", w)}, func(tx *store.Tx) error {
					l, _ := tx.View().Leaf("Device.Count")
					var n int
					_, _ = fmt.Sscan(l.Value, &n)
					return errors.Join(tx.Set("Device.Count", fmt.Sprint(n+1), 0), tx.Set(path, fmt.Sprint(i), 0))
				})
				if err != nil {
					t.Error(err)
					return
				}
				if l, _ := s.Head().Leaf(path); l.Value != fmt.Sprint(i) {
					t.Errorf("an acknowledged write is not to be seen: %q, want %d", l.Value, i)
				}
				mu.Lock()
				if revs[c.Rev] {
					t.Errorf("revision %d twice", c.Rev)
				}
				revs[c.Rev] = true
				mu.Unlock()
			}
		})
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	readers.Go(func() { // a reader sees only whole transactions
		for {
			select {
			case <-stop:
				return
			default:
			}
			v, sum := s.Head(), 0
			v.Walk("Device.", func(p string, l store.Leaf) bool {
				var n int
				_, _ = fmt.Sscan(l.Value, &n)
				if p == "Device.Count" {
					sum -= n
				} else {
					sum += n + 1
				}
				return true
			})
			if sum != 0 {
				t.Errorf("revision %d is half a transaction: %d", v.Rev(), sum)
				return
			}
		}
	})
	wg.Wait()
	close(stop)
	readers.Wait()
	if l, _ := s.Head().Leaf("Device.Count"); l.Value != fmt.Sprint(writers*each) || len(revs) != writers*each {
		t.Errorf("count %s, %d revisions", l.Value, len(revs))
	}
	if st := s.Stats(); st.Commits != writers*each || st.Batches > st.Commits {
		t.Errorf("%+v", st)
	}
}

func testClosed(t *testing.T, s *store.Store) {
	update(t, s, set("Device.A", "1"))
	ch := s.Changed()
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	<-ch
	if _, err := s.Update(ctx, meta, set("Device.A", "2")); !errors.Is(err, store.ErrClosed) {
		t.Errorf("update: %v", err)
	}
	if err := s.Journal(0, func(*store.Entry) bool { return true }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("journal: %v", err)
	}
	if err := s.SetCursor("a", 0); !errors.Is(err, store.ErrClosed) {
		t.Errorf("cursor: %v", err)
	}
	if l, ok := s.Head().Leaf("Device.A"); !ok || l.Value != "1" {
		t.Error("the head is gone")
	}
}

// testRefused runs in a bubble with a clock of its own.
func testRefused(t *testing.T, s *store.Store) {
	defer s.Close()
	no := errors.New("no")
	for i := range 20 {
		_, err := s.Update(ctx, meta, func(tx *store.Tx) error {
			tx.Annotate("Device.A", "yield", fmt.Sprint("rule ", i), true)
			if i%2 == 0 {
				return no
			}
			return nil
		})
		if (i%2 == 0) != errors.Is(err, no) {
			t.Fatal(err)
		}
	}
	if st := s.Stats(); st.Batches != 0 || s.Head().Rev() != 0 {
		t.Errorf("refusals were written at once: %+v", st)
	}
	ch := s.Changed()
	time.Sleep(1100 * time.Millisecond)
	synctest.Wait()
	<-ch
	if st := s.Stats(); st.Batches != 1 || s.Head().Rev() != 20 {
		t.Errorf("refusals were not written together: %+v, revision %d", st, s.Head().Rev())
	}
	got := journal(t, s, 0)
	if len(got) != 20 || got[7].Rev != 8 || got[7].Meta != meta || got[7].Deltas[0].Rule != "rule 7" || got[7].Deltas[0].Op != store.DeltaRefused {
		t.Errorf("%+v", got)
	}
	for range store.MaxRefused + 5 {
		_, _ = s.Update(ctx, meta, func(tx *store.Tx) error { tx.Annotate("Device.A", "yield", "r", true); return no })
	}
	if st := s.Stats(); st.RefusedDropped != 5 {
		t.Errorf("%+v", st)
	}
	c := update(t, s, set("Device.A", "1")) // takes the waiting ones along
	if c.Rev != 21 || s.Head().Rev() != 21+store.MaxRefused || s.Stats().Batches != 2 {
		t.Errorf("revision %d, head %d, %+v", c.Rev, s.Head().Rev(), s.Stats())
	}
}
