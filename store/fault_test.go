package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
)

var errInjected = errors.New("injected")

// faults fails a commit at a stage as long as it is set.
type faults struct {
	stage atomic.Value
	plain bool // else the disk is full
}

func (f *faults) set(stage string) { f.stage.Store(stage) }

func (f *faults) fail(stage string) error {
	if f.stage.Load() == stage {
		if f.plain {
			return errInjected
		}
		return fmt.Errorf("%w: %w", errInjected, syscall.ENOSPC)
	}
	return nil
}

func TestCommitFails(t *testing.T) {
	for _, stage := range []string{failBegin, failWrite, failCommit} {
		for _, times := range []int{1, 2, 3} {
			t.Run(fmt.Sprint(stage, times), func(t *testing.T) {
				f := &faults{}
				s, path := openTest(t, Options{fail: f.fail})
				must(t, s, func(tx *Tx) error {
					return errors.Join(tx.AddRowAt("Device.T.", 1), tx.Set("Device.T.1.A", "old", 0), tx.Set("Device.B", "old", 0))
				})
				head := s.Head()
				f.set(stage)
				for i := range times {
					_, err := s.Update(bg, Meta{Writer: fmt.Sprint("failing", i)}, func(tx *Tx) error {
						return errors.Join(tx.DeleteRow("Device.T.1."), tx.Set("Device.B", fmt.Sprint("new", i), 0),
							tx.Set(fmt.Sprintf("Device.New%d", i), "x", 0), tx.PutRecord("r", fmt.Sprint(i), []byte("x")))
					})
					if !errors.Is(err, errInjected) || !errors.Is(err, ErrFull) || s.Head() != head {
						t.Fatalf("%v", err)
					}
					if got := s.Stats().Commits; got != 1 {
						t.Fatalf("%d commits", got)
					}
				}
				f.set("")
				c := must(t, s, set("Device.C", "later"))
				if c.Rev != 2 {
					t.Errorf("revision %d", c.Rev)
				}
				want := dump(s.Head())
				closeTest(t, s, path)
				s = reopenTest(t, path, Options{})
				if got := dump(s.Head()); !slices.Equal(got, want) {
					t.Errorf("after reopening\n%s\nbefore\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
			})
		}
	}
}

// TestCommitFailsKeepsHoles: the recovery after a failed commit must not fill the sparse rest of the file, or a disk that was
// full for a moment is full for good.
func TestCommitFailsKeepsHoles(t *testing.T) {
	f := &faults{}
	s, path := openTest(t, Options{fail: f.fail})
	must(t, s, set("Device.A", "old"))
	onDisk := func() int64 {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return st.Sys().(*syscall.Stat_t).Blocks * 512
	}
	before := onDisk()
	f.set(failCommit)
	if _, err := s.Update(bg, Meta{}, func(tx *Tx) error { return tx.Set("Device.A", "new", 0) }); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	f.set("")
	must(t, s, set("Device.A", "later"))
	if after := onDisk(); after > before+64*pageSize {
		t.Errorf("the file took %d bytes of the disk before and %d after", before, after)
	}
}

// TestCommitFailsThenDies: a commit that was reported as failed may be on disk, but only whole.
func TestCommitFailsThenDies(t *testing.T) {
	f := &faults{}
	s, path := openTest(t, Options{fail: f.fail})
	must(t, s, set("Device.A", "old"))
	f.set(failCommit)
	_, err := s.Update(bg, Meta{}, func(tx *Tx) error { return errors.Join(tx.Set("Device.A", "new", 0), tx.Set("Device.B", "new", 0)) })
	if !errors.Is(err, errInjected) {
		t.Fatal(err)
	}
	closeTest(t, s, path)
	s = reopenTest(t, path, Options{})
	a, _ := s.Head().Leaf("Device.A")
	b, _ := s.Head().Leaf("Device.B")
	if a.Value+b.Value != "newnew" || s.Head().Rev() != 2 {
		t.Errorf("%+v %+v", a, b)
	}
}

// TestBatchFails: all transactions of a batch get the error, also one that changed nothing but looked at the others.
func TestBatchFails(t *testing.T) {
	f := &faults{}
	s, _ := openTest(t, Options{fail: f.fail})
	must(t, s, set("Device.A", "0"))
	hold, held := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = s.Update(bg, Meta{}, func(tx *Tx) error { close(held); <-hold; return nil })
	})
	<-held
	var errs [8]error
	for i := range errs {
		wg.Go(func() { _, errs[i] = s.Update(bg, Meta{}, set("Device.A", "1")) })
	}
	for s.waiting.Load() < int64(len(errs)) {
		time.Sleep(time.Millisecond)
	}
	f.set(failWrite)
	close(hold)
	wg.Wait()
	for i, err := range errs {
		if !errors.Is(err, errInjected) {
			t.Errorf("%d: %v", i, err)
		}
	}
	f.set("")
	if l, _ := s.Head().Leaf("Device.A"); l.Value != "0" || s.Head().Rev() != 1 {
		t.Errorf("%+v", l)
	}
}

func TestFull(t *testing.T) {
	o := Options{MaxSize: 256 << 10, NoSync: true}
	s, path := openTest(t, o)
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		_, err = s.Update(bg, Meta{Writer: "cli"}, set(fmt.Sprintf("Device.P%d", n), strings.Repeat("x", 1000)))
	}
	if !errors.Is(err, ErrFull) {
		t.Fatalf("after %d: %v", n, err)
	}
	head := s.Head()
	if l, _ := head.Len(); l != n-1 {
		t.Errorf("%d leaves after %d Sets", l, n-1)
	}
	if st := s.Stats(); st.FileSize > o.MaxSize {
		t.Errorf("file of %d bytes", st.FileSize)
	}
	if _, err := s.Update(bg, Meta{}, set("Device.Big", strings.Repeat("y", 100000))); !errors.Is(err, ErrFull) {
		t.Errorf("%v", err)
	}
	want := dump(s.Head())
	closeTest(t, s, path)
	s = reopenTest(t, path, Options{})
	if got := dump(s.Head()); !slices.Equal(got, want) {
		t.Error("the store differs after it was full")
	}
	must(t, s, set("Device.Big", "fits now"))
}

func TestFullCanBeEmptied(t *testing.T) {
	s, _ := openTest(t, Options{MaxSize: 256 << 10, NoSync: true})
	var err error
	for n := 0; err == nil && n < 1000; n++ {
		_, err = s.Update(bg, Meta{Writer: "cli"}, set(fmt.Sprintf("Device.P%d", n), strings.Repeat("x", 1000)))
	}
	if !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	for i := range 20 { // a full store can be emptied
		must(t, s, func(tx *Tx) error { return tx.Unset(fmt.Sprint("Device.P", i)) })
	}
	must(t, s, set("Device.Room", strings.Repeat("z", 5000)))
}

// sample makes a small database and returns its bytes and what is in it.
func sample(t testing.TB) (data []byte, want []string) {
	path := filepath.Join(t.TempDir(), "sample.db")
	s, err := Open(path, Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s, 200)
	for i := range 20 {
		must(t, s, set("Device.X.Y", fmt.Sprint(i)))
	}
	must(t, s, func(tx *Tx) error {
		return errors.Join(tx.SetAttr("Device.X.Y", Attr{Notification: 2}), tx.PutRecord("a", "b", []byte("c")))
	})
	want = dump(s.Head())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if data, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	return data[:len(bytes.TrimRight(data, "\x00"))/pageSize*pageSize+pageSize], want
}

// openBad opens a damaged file: it must be healthy, or kept aside as it is.
// wipeMeta takes the newest (0) or the older (1) meta page out of an image.
func wipeMeta(t testing.TB, data []byte, which int) []byte {
	t.Helper()
	m, err := readMeta(data[:pageSize])
	m2, err2 := readMeta(data[pageSize : 2*pageSize])
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	newest := 0
	if m2.txid > m.txid {
		newest = 1
	}
	out := bytes.Clone(data)
	clear(out[(newest^which)*pageSize:][:pageSize])
	return out
}

func openBad(t testing.TB, dir string, data []byte) (dumped []string, err error) {
	path := filepath.Join(dir, "bad.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	problems, cerr := Check(path)
	if cerr != nil {
		t.Fatalf("check: %v", cerr)
	}
	s, err := Open(path, Options{NoSync: true})
	aside, _ := filepath.Glob(path + ".corrupt-*")
	if err == nil {
		dumped = dump(s.Head())
		_ = s.Journal(s.JournalStart()-1, func(*Entry) bool { return true })
		_, _ = s.Update(bg, Meta{Writer: "x"}, set("Device.After", "x"))
		_ = s.Close()
		if len(aside) > 0 {
			t.Errorf("a healthy file was put aside")
		}
		return dumped, os.Remove(path)
	}
	if errors.Is(err, ErrFormat) {
		return nil, err
	}
	if !errors.Is(err, ErrCorrupt) || len(aside) != 1 || len(problems) == 0 {
		t.Fatalf("%v; problems %v; kept aside: %v", err, problems, aside)
	}
	kept, rerr := os.ReadFile(aside[0])
	if rerr != nil || !bytes.Equal(kept, data) || !strings.Contains(err.Error(), aside[0]) {
		t.Fatalf("what was kept aside differs: %v; %v", rerr, err)
	}
	if rerr := os.Remove(aside[0]); rerr != nil {
		t.Fatal(rerr)
	}
	return nil, err
}

// TestCorrupt flips bytes everywhere: the store opens with all its values or reports the damage.
func TestCorrupt(t *testing.T) {
	data, want := sample(t)
	dir := t.TempDir()
	before, err := openBad(t, dir, wipeMeta(t, data, 0))
	if err != nil {
		t.Fatal(err)
	}
	both := data
	data = wipeMeta(t, data, 1) // nothing to fall back to
	reported := 0
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 700 {
		bad := bytes.Clone(data)
		at := rnd.IntN(len(bad))
		if i%3 == 0 { // headers and elements of pages
			at = at/pageSize*pageSize + rnd.IntN(64)
		}
		bad[at] ^= 1 << rnd.IntN(8)
		got, err := openBad(t, dir, bad)
		switch {
		case err != nil:
			reported++
		case !slices.Equal(got, want) && at >= 2*pageSize: // a bad meta page is the state before the last commit
			t.Fatalf("byte %d: the damage went unnoticed", at)
		}
	}
	if reported < 200 {
		t.Errorf("only %d of 700 damages were reported", reported)
	}
	for range 300 { // with the commit before: that one, or the right one, or an error
		bad := bytes.Clone(both)
		at := 2*pageSize + rnd.IntN(len(bad)-2*pageSize)
		bad[at] ^= 1 << rnd.IntN(8)
		if got, err := openBad(t, dir, bad); err == nil && !slices.Equal(got, want) && !slices.Equal(got, before) {
			t.Fatalf("byte %d: the damage went unnoticed", at)
		}
	}
	for _, n := range []int{0, 1, 100, pageSize, 2 * pageSize, len(data) / 2, len(data) - pageSize} {
		if _, err := openBad(t, dir, data[:n]); err == nil {
			t.Errorf("cut to %d of %d bytes: no error", n, len(data))
		}
	}
	for _, text := range []string{"hello", strings.Repeat("not a database ", 1000)} {
		if _, err := openBad(t, dir, []byte(text)); err == nil {
			t.Errorf("%.20q was opened", text)
		}
	}
}

// TestPageTwice: two buckets that share their pages would make bbolt free them twice.
func TestPageTwice(t *testing.T) {
	data, _ := sample(t)
	data = wipeMeta(t, data, 1)
	m, err := readMeta(data[:pageSize])
	if m2, err2 := readMeta(data[pageSize : 2*pageSize]); err != nil || err2 == nil && m2.txid > m.txid {
		m = m2
	}
	root := data[m.root*pageSize:][:pageSize]
	roots := map[string][]byte{} // bucket -> where its root page is written
	for i := range int(order.Uint16(root[10:])) {
		key, val, err := element(root, pageLeaf, i)
		if err != nil {
			t.Fatal(err)
		}
		roots[string(key)] = val[:8]
	}
	copy(roots["obj"], roots["val"])
	path := filepath.Join(t.TempDir(), "twice.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "referred to twice") {
		t.Errorf("%v", err)
	}
}

// TestForeign: databases of other programs, and of newer ones.
func TestForeign(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.db")
	change := func(fn func(tx *bbolt.Tx) error) {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: pageSize})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Update(fn), db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	change(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("other")); return err })
	if _, err := Open(path, Options{}); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "not a database of this program") {
		t.Errorf("%v", err)
	}
	s := reopenTest(t, path, Options{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	state := func(m mark) func(tx *bbolt.Tx) error {
		return func(tx *bbolt.Tx) error {
			m.seq = uint64(tx.ID())
			return tx.Bucket(bucketSys).Put(keyState, seal(keyState, m.encode()))
		}
	}
	change(state(mark{format: formatVersion + 1, first: 1}))
	if _, err := Open(path, Options{}); !errors.Is(err, ErrFormat) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the database of a newer program was moved: %v", err)
	}
	change(state(mark{format: formatVersion, first: 1}))
}

// TestCheckFinds changes healthy records, checksums included: Check must find it.
func TestCheckFinds(t *testing.T) {
	put := func(bucket []byte, key string, body []byte) func(tx *bbolt.Tx) error {
		return func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Put([]byte(key), seal([]byte(key), body)) }
	}
	del := func(bucket []byte, key string) func(tx *bbolt.Tx) error {
		return func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Delete([]byte(key)) }
	}
	const table = "Device.WiFi.AccessPoint."
	for name, fn := range map[string]func(tx *bbolt.Tx) error{
		"value":      put(bucketVal, "Device.X.Y", encodeLeaf(nil, 21, 0, 0, "other")),
		"revision":   put(bucketVal, "Device.X.Y", encodeLeaf(nil, 20, 0, 0, "19")),
		"future":     put(bucketVal, "Device.X.Y", encodeLeaf(nil, 99, 0, 0, "19")),
		"writer":     put(bucketVal, "Device.X.Y", encodeLeaf(nil, 21, 7, 0, "19")),
		"unknown":    put(bucketVal, "Device.X.Z", encodeLeaf(nil, 5, 0, 0, "1")),
		"lost":       del(bucketVal, "Device.X.Y"),
		"orphan":     put(bucketVal, table+"999.A", encodeLeaf(nil, 1, 0, 0, "1")),
		"counter":    put(bucketObj, table, encodeObject(nil, objectRecord{own: 1, next: 3})),
		"row":        del(bucketObj, table+"3."),
		"newRow":     put(bucketObj, table+"15.", encodeObject(nil, objectRecord{own: 9, born: 9, row: true})),
		"attr":       put(bucketAttr, "Device.X.Y", encodeAttr(nil, Attr{Notification: 1})),
		"cursor":     put(bucketCur, "c", []byte{99}),
		"journal":    del(bucketJrn, string(revKey(7))),
		"journalEnd": del(bucketJrn, string(revKey(22))),
		"record":     put(bucketRec, "no separator", []byte("x")),
		"salt":       put(bucketSys, "salt", []byte("short")),
	} {
		t.Run(name, func(t *testing.T) {
			data, _ := sample(t)
			path := filepath.Join(t.TempDir(), "c.db")
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			checkTest(t, path)
			db, err := bbolt.Open(path, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(db.Update(fn), db.Close()); err != nil {
				t.Fatal(err)
			}
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			before = wipeMeta(t, before, 1) // nothing to fall back to
			if err := os.WriteFile(path, before, 0o600); err != nil {
				t.Fatal(err)
			}
			problems, err := Check(path)
			problems = slices.DeleteFunc(problems, func(p Problem) bool { return p.Path == "state" }) // said of every foreign commit
			sum := slices.ContainsFunc(problems, func(p Problem) bool { return p.What == errSum.Error() })
			if err != nil || len(problems) < 2 && (sum || len(problems) == 0) && name != "salt" {
				t.Errorf("%v %v", problems, err)
			}
			if _, err := Open(path, Options{}); !errors.Is(err, ErrCorrupt) {
				t.Errorf("open: %v", err)
			}
			if aside, _ := filepath.Glob(path + ".corrupt-*"); len(aside) == 1 {
				path = aside[0]
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Error("Check changed the file")
			}
		})
	}
}

func TestLocked(t *testing.T) {
	s, path := openTest(t, Options{})
	must(t, s, set("Device.A", "1"))
	begin := time.Now()
	if _, err := Open(path, Options{LockTimeout: 50 * time.Millisecond}); !errors.Is(err, ErrLocked) {
		t.Errorf("%v", err)
	}
	if d := time.Since(begin); d < 50*time.Millisecond || d > time.Second {
		t.Errorf("waited %v", d)
	}
	if _, err := Check(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// TestCreateRace: of several that create the same database one wins, the others find it locked. What a creation that
// was cut short left behind does not matter.
func TestCreateRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "race.db")
	if err := os.WriteFile(path+".new", []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			s, err := Open(path, Options{LockTimeout: 300 * time.Millisecond})
			switch {
			case err == nil:
				won.Add(1)
				time.Sleep(600 * time.Millisecond)
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			case !errors.Is(err, ErrLocked):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d have it", won.Load())
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	if _, err := os.Stat(path + ".new"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary file is left: %v", err)
	}
	checkTest(t, path)
}

// TestModeTightened: a file that others can read is closed to them, since it holds secrets.
func TestModeTightened(t *testing.T) {
	s, path := openTest(t, Options{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	reopenTest(t, path, Options{})
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
}

// TestBadDirectory: what cannot be opened for other reasons is an error and nothing else.
func TestBadDirectory(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "none", "x.db"), Options{}); err == nil || errors.Is(err, ErrCorrupt) {
		t.Errorf("%v", err)
	}
	dir := filepath.Join(t.TempDir(), "dir.db")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); err == nil || errors.Is(err, ErrCorrupt) {
		t.Errorf("%v", err)
	}
}

// TestLazyCursor: an acknowledgement costs no commit of its own, and is durable after Close.
func TestLazyCursor(t *testing.T) {
	s, path := openTest(t, Options{})
	must(t, s, set("Device.A", "1"))
	n := s.Stats().Batches
	for range 100 {
		if err := errors.Join(s.SetCursor("a", 0), s.SetCursor("a", 1), s.SetCursor("b", 1)); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.Stats().Batches; got != n {
		t.Errorf("%d commits for cursors", got-n)
	}
	must(t, s, set("Device.A", "2")) // takes them along
	if got := s.Stats().Batches; got != n+1 || s.lazy() {
		t.Errorf("%d commits, lazy %t", got-n, s.lazy())
	}
	if err := errors.Join(s.SetCursor("a", 2), s.DeleteCursor("b")); err != nil {
		t.Fatal(err)
	}
	closeTest(t, s, path)
	s = reopenTest(t, path, Options{})
	if r, ok := s.Cursor("a"); !ok || r != 2 || len(s.Cursors()) != 1 {
		t.Errorf("%d %t %v", r, ok, s.Cursors())
	}
}

// TestWritersReused: names of writers that no value bears any more give their id back.
func TestWritersReused(t *testing.T) {
	s, path := openTest(t, Options{NoSync: true})
	for i := range 20 {
		if _, err := s.Update(bg, Meta{Writer: fmt.Sprint("usp:", i)}, set("Device.A", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	closeTest(t, s, path)
	s = reopenTest(t, path, Options{NoSync: true})
	if n := len(s.disk.writers.ids); n != 1 || len(s.disk.writers.free) != 19 {
		t.Errorf("%d writers, %d free", n, len(s.disk.writers.free))
	}
	for i := range 5 {
		if _, err := s.Update(bg, Meta{Writer: fmt.Sprint("new:", i)}, set(fmt.Sprint("Device.B", i), "x")); err != nil {
			t.Fatal(err)
		}
	}
	want := dump(s.Head())
	closeTest(t, s, path)
	s = reopenTest(t, path, Options{})
	if got := dump(s.Head()); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestLazyFails: what is lazy survives failing commits, and they become rarer.
func TestLazyFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &faults{}
		var tries atomic.Int64
		s := OpenMemory(Options{fail: func(stage string) error {
			if stage == failBegin {
				tries.Add(1)
			}
			return f.fail(stage)
		}})
		defer s.Close()
		f.set(failBegin)
		_, _ = s.Update(bg, Meta{}, func(tx *Tx) error { tx.Annotate("Device.A", "yield", "r", true); return errInjected })
		time.Sleep(10 * time.Minute)
		if n := tries.Load(); n < 10 || n > 20 || s.Head().Rev() != 0 {
			t.Errorf("%d tries in ten minutes, revision %d", n, s.Head().Rev())
		}
		f.set("")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if s.Head().Rev() != 1 || s.JournalStart() != 1 {
			t.Errorf("revision %d", s.Head().Rev())
		}
	})
}
