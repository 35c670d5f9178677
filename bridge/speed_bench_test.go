package bridge

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"twinspan/store"
)

// BenchmarkCommit compares a change of 1, 10 and 50 leaves through the whole bridge with the same bytes put into a bare bbolt
// file of the same size and settings with one fsync. Both take turns, so that the disk and the other load are the same. In the end it
// makes sure that both files have the same keys with values of the same lengths.
func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{1, 10, 50} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "db")
			r := bigRig(b, func(o *Options) {
				s, err := store.Open(path, store.Options{})
				if err != nil {
					b.Fatal(err)
				}
				o.Store.Close()
				o.Store = s
			})
			bare := newBare(b, r.store.Head())
			before := r.store.Stats().BytesWritten
			var ours, theirs []time.Duration
			rev := uint64(0)
			for i := 0; b.Loop(); i++ {
				c := Change{Atomic: true, Ref: fmt.Sprint("bench-", i)}
				for row := range n {
					c.Ops = append(c.Ops, set(fmt.Sprintf("Device.DHCPv4.Server.Pool.%d.", row+1), "DomainName", fmt.Sprintf("value%d.example", i)))
				}
				begin := time.Now()
				res, err := r.Apply(context.Background(), mainC, c)
				ours = append(ours, time.Since(begin))
				if err != nil || !res.Changed {
					b.Fatal(err, res.Changed)
				}
				rev = res.Revision
				entries, err := r.Journal(rev-1, 1)
				if err != nil || len(entries) != 1 {
					b.Fatal(err, len(entries))
				}
				theirs = append(theirs, bare.write(entries[0]))
			}
			pages := r.store.Stats().BytesWritten - before
			bare.compare(path, rev)
			slices.Sort(ours)
			slices.Sort(theirs)
			a, z := ours[len(ours)/2], theirs[len(theirs)/2]
			b.ReportMetric(float64(a.Nanoseconds())/1e3, "bridge-µs")
			b.ReportMetric(float64(z.Nanoseconds())/1e3, "bare-µs")
			b.ReportMetric(float64(pages)/float64(len(ours)), "bridge-B")
			b.ReportMetric(float64(bare.pages)/float64(len(ours)), "bare-B")
			b.ReportMetric(float64(a)/float64(z), "ratio")
		})
	}
}

// bareFile is a bbolt file with what the store has, written by hand.
type bareFile struct {
	b     *testing.B
	db    *bbolt.DB
	pages int // bytes written, whole pages
}

func newBare(b *testing.B, v *store.Version) *bareFile {
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "bare"), 0o600,
		&bbolt.Options{NoSync: true, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, PageSize: 4096, InitialMmapSize: 16 << 20})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	if err := db.Update(func(tx *bbolt.Tx) error {
		for _, name := range []string{"val", "jrn", "sys"} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		var err error
		v.Walk("", func(path string, l store.Leaf) bool {
			err = tx.Bucket([]byte("val")).Put([]byte(path), bareLeaf(l.Rev, l.Value))
			return err == nil
		})
		return err
	}); err != nil {
		b.Fatal(err)
	}
	return &bareFile{b: b, db: db}
}

// bareLeaf is as long as a stored value: revision, writer, flags, value, checksum.
func bareLeaf(rev uint64, value string) []byte {
	out := binary.AppendUvarint(nil, rev)
	return append(append(append(out, 1, 0), value...), 0, 0, 0, 0)
}

// bareEntry is as long as a journal entry: every text has its length before it, every path what it shares with the one before.
func bareEntry(e *store.Entry) []byte {
	text := func(b []byte, s string) []byte { return append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	out := binary.AppendVarint(binary.AppendUvarint([]byte{0}, e.Rev), e.Time.UnixNano())
	for _, s := range []string{e.Meta.Writer, e.Meta.Protocol, e.Meta.Ref, e.Meta.Kind, e.Meta.Context} {
		out = text(out, s)
	}
	out = binary.AppendUvarint(out, uint64(len(e.Deltas)))
	prev := ""
	for _, d := range e.Deltas {
		same := 0
		for same < min(len(prev), len(d.Path)) && prev[same] == d.Path[same] {
			same++
		}
		out = text(append(out, 0, byte(same)), d.Path[same:])
		prev = d.Path
		for _, s := range []string{d.Old, d.New} {
			if s != "" {
				out = text(out, s)
			}
		}
		out = text(text(text(out, d.Verdict), d.Rule), d.Facts)
	}
	return append(out, 0, 0, 0, 0)
}

// write stores the values of a commit, its journal entry and its state, which it has at hand, and syncs once.
func (f *bareFile) write(e *store.Entry) time.Duration {
	values := make([][]byte, len(e.Deltas))
	for i := range e.Deltas {
		values[i] = bareLeaf(e.Rev, e.Deltas[i].New)
	}
	record, key := bareEntry(e), binary.BigEndian.AppendUint64(nil, e.Rev)
	state := make([]byte, 22) // six numbers, one of them a sum of 64 bits, and the checksum
	begin := time.Now()
	tx, err := f.db.Begin(true)
	if err != nil {
		f.b.Fatal(err)
	}
	val := tx.Bucket([]byte("val"))
	for i := range e.Deltas {
		if err = val.Put([]byte(e.Deltas[i].Path), values[i]); err != nil {
			f.b.Fatal(err)
		}
	}
	jrn := tx.Bucket([]byte("jrn"))
	jrn.FillPercent = 0.95
	if err = jrn.Put(key, record); err == nil {
		err = tx.Bucket([]byte("sys")).Put([]byte("state"), state)
	}
	if err == nil {
		err = tx.Commit()
	}
	if err == nil {
		err = f.db.Sync()
	}
	took := time.Since(begin)
	if err != nil {
		f.b.Fatal(err)
	}
	st := tx.Stats()
	f.pages += int(st.GetPageAlloc()) + 4096
	return took
}

// compare makes sure that the bare file has what the store's has: all values, and the entry of the last revision, as long.
func (f *bareFile) compare(path string, rev uint64) {
	data, err := os.ReadFile(path)
	if err == nil {
		path += ".copy"
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		f.b.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		f.b.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(theirs *bbolt.Tx) error {
		return f.db.View(func(tx *bbolt.Tx) error {
			same := func(bucket string, k, v []byte) error {
				if got := tx.Bucket([]byte(bucket)).Get(k); len(got) != len(v) {
					return fmt.Errorf("%s %q has %d bytes in the store, %d in the bare file", bucket, k, len(v), len(got))
				}
				return nil
			}
			key := binary.BigEndian.AppendUint64(nil, rev)
			if err := same("jrn", key, theirs.Bucket([]byte("jrn")).Get(key)); err != nil {
				return err
			}
			if n, m := theirs.Bucket([]byte("sys")).Get([]byte("state")), tx.Bucket([]byte("sys")).Get([]byte("state")); len(n)+3 < len(m) {
				return fmt.Errorf("the state has %d bytes in the store, %d in the bare file", len(n), len(m))
			}
			return theirs.Bucket([]byte("val")).ForEach(func(k, v []byte) error { return same("val", k, v) })
		})
	})
	if err != nil {
		f.b.Fatal(err)
	}
}

// BenchmarkRevert gives how long after its deadline a change of 50 leaves that nobody confirmed is back, and how long a start
// takes that finds one.
func BenchmarkRevert(b *testing.B) {
	change := func(id string, i int) Change {
		c := Change{Atomic: true, Confirm: &Confirm{ID: id, Within: MinConfirm}}
		for row := range 3 {
			c.Ops = append(c.Ops, set(fmt.Sprintf("Device.DHCPv4.Server.Pool.%d.", row+1), "LeaseTime", fmt.Sprint(2+i), "DomainName", fmt.Sprint("d", i)))
		}
		return c
	}
	b.Run("deadline", func(b *testing.B) {
		r, stop := killEngine(b, filepath.Join(b.TempDir(), "db"))
		defer stop()
		var late time.Duration
		for i := 0; b.Loop(); i++ {
			if _, err := r.Apply(context.Background(), mainC, change(fmt.Sprint("c", i), i)); err != nil {
				b.Fatal(err)
			}
			due := time.Now().Add(MinConfirm)
			for len(r.Windows()) > 0 {
				changed := r.store.Changed()
				if len(r.Windows()) == 0 {
					break
				}
				select {
				case <-changed:
				case <-time.After(time.Millisecond):
				}
			}
			late = max(late, time.Since(due))
			r.is(mainC, "Device.DHCPv4.Server.Pool.2.LeaseTime", "1")
		}
		b.ReportMetric(float64(late.Microseconds())/1e3, "ms-worst")
	})
	b.Run("start", func(b *testing.B) {
		path := filepath.Join(b.TempDir(), "db")
		var worst time.Duration
		for i := 0; b.Loop(); i++ {
			r, stop := killEngine(b, path)
			c := change("c", i)
			c.Confirm.Within = time.Hour
			if _, err := r.Apply(context.Background(), mainC, c); err != nil {
				b.Fatal(err)
			}
			stop()
			begin := time.Now()
			r, stop = killEngine(b, path)
			worst = max(worst, time.Since(begin))
			r.is(mainC, "Device.DHCPv4.Server.Pool.2.LeaseTime", "1")
			stop()
		}
		b.ReportMetric(float64(worst.Microseconds())/1e3, "ms-worst")
	})
}
