package bridge

import (
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"twinspan/store"
)

// BenchmarkCommit compares a change of 1, 10 and 50 leaves through the whole bridge with the same bytes written to a bare bbolt
// file of the same size and settings with one fsync. Both take turns, so that the disk and the other load are the same.
func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{1, 10, 50} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := bigRig(b, func(o *Options) {
				s, err := store.Open(filepath.Join(b.TempDir(), "db"), store.Options{})
				if err != nil {
					b.Fatal(err)
				}
				o.Store.Close()
				o.Store = s
			})
			bare := newBare(b, r.store.Head())
			var ours, theirs []time.Duration
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
				entries, err := r.Journal(res.Revision-1, 1)
				if err != nil || len(entries) != 1 {
					b.Fatal(err, len(entries))
				}
				theirs = append(theirs, bare.write(entries[0]))
			}
			slices.Sort(ours)
			slices.Sort(theirs)
			a, z := ours[len(ours)/2], theirs[len(theirs)/2]
			b.ReportMetric(float64(a.Nanoseconds())/1e3, "bridge-µs")
			b.ReportMetric(float64(z.Nanoseconds())/1e3, "bare-µs")
			b.ReportMetric(float64(a)/float64(z), "ratio")
		})
	}
}

// bareFile is a bbolt file with what the store has, written by hand.
type bareFile struct {
	b  *testing.B
	db *bbolt.DB
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
	return &bareFile{b, db}
}

// bareLeaf is as long as a stored value: revision, writer, flags, value, checksum.
func bareLeaf(rev uint64, value string) []byte {
	out := binary.AppendUvarint(nil, rev)
	return append(append(append(out, 1, 0), value...), 0, 0, 0, 0)
}

// write stores the values of a commit, its journal entry and its state, and syncs once.
func (f *bareFile) write(e *store.Entry) time.Duration {
	begin := time.Now()
	err := f.db.Update(func(tx *bbolt.Tx) error {
		val := tx.Bucket([]byte("val"))
		record := append(binary.AppendUvarint(nil, uint64(e.Time.UnixNano())), e.Meta.Writer+e.Meta.Protocol+e.Meta.Ref+e.Meta.Kind+e.Meta.Context+"\x00\x00\x00\x00\x00"...)
		for i := range e.Deltas {
			d := &e.Deltas[i]
			if err := val.Put([]byte(d.Path), bareLeaf(e.Rev, d.New)); err != nil {
				return err
			}
			record = append(record, d.Path+d.Old+d.New+d.Verdict+d.Rule+d.Facts+"\x00\x00\x00\x00\x00\x00\x00\x00"...)
		}
		jrn := tx.Bucket([]byte("jrn"))
		jrn.FillPercent = 0.95
		if err := jrn.Put(binary.BigEndian.AppendUint64(nil, e.Rev), record); err != nil {
			return err
		}
		return tx.Bucket([]byte("sys")).Put([]byte("state"), make([]byte, 48))
	})
	if err == nil {
		err = f.db.Sync()
	}
	took := time.Since(begin)
	if err != nil {
		f.b.Fatal(err)
	}
	return took
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
