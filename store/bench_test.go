package store

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fill stores n parameters, ten in each row of a table.
func fill(t testing.TB, s *Store, n int) {
	must(t, s, func(tx *Tx) error {
		for i := 0; i < n; i += 10 {
			row, err := tx.AddRow("Device.WiFi.AccessPoint.")
			if err != nil {
				return err
			}
			for j := range 10 {
				p := fmt.Sprintf("Device.WiFi.AccessPoint.%d.Parameter%02d", row, j)
				if err := tx.Set(p, fmt.Sprintf("some value %d", i+j), 0); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// benchDir is on the disk that the figures are for: TWINSPAN_BENCH_DIR, or the temporary directory.
func benchDir(b *testing.B) string {
	dir, err := os.MkdirTemp(os.Getenv("TWINSPAN_BENCH_DIR"), "twinspan-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func benchStore(b *testing.B) *Store {
	s, err := Open(filepath.Join(benchDir(b), "bench.db"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	fill(b, s, 3000)
	return s
}

// report adds the median and the flash wear to what the benchmark prints.
func report(b *testing.B, s *Store, before Stats, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "median-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	if s == nil {
		return
	}
	after := s.Stats()
	b.ReportMetric(float64(after.BytesWritten-before.BytesWritten)/float64(after.Commits-before.Commits), "written-B/commit")
	b.ReportMetric(float64(after.Commits-before.Commits)/float64(after.Batches-before.Batches), "commits/batch")
}

// BenchmarkBareFsync is the yardstick: one page overwritten in a file and synced.
func BenchmarkBareFsync(b *testing.B) {
	f, err := os.Create(filepath.Join(benchDir(b), "bare"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, pageSize)
	for i := range 64 {
		if _, err := f.WriteAt(page, int64(i)*pageSize); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		begin := time.Now()
		if _, err := f.WriteAt(page, int64(i%64)*pageSize); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	report(b, nil, Stats{}, took)
}

// BenchmarkUpdateSequential is a durable Set of one parameter among 3,000, one after the other.
func BenchmarkUpdateSequential(b *testing.B) {
	s := benchStore(b)
	before := s.Stats()
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		begin := time.Now()
		must(b, s, set(fmt.Sprintf("Device.WiFi.AccessPoint.%d.Parameter03", i%300+1), fmt.Sprintf("value %d", i)))
		took = append(took, time.Since(begin))
	}
	report(b, s, before, took)
}

// BenchmarkUpdateParallel16 is the same by 16 goroutines, each waiting for its own commit.
func BenchmarkUpdateParallel16(b *testing.B) {
	s := benchStore(b)
	before := s.Stats()
	var n atomic.Int64
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	b.ResetTimer()
	for range 16 {
		wg.Go(func() {
			var took []time.Duration
			for {
				i := int(n.Add(1))
				if i > b.N {
					break
				}
				begin := time.Now()
				if _, err := s.Update(bg, Meta{Writer: "cli"}, set(fmt.Sprintf("Device.WiFi.AccessPoint.%d.Parameter03", i%300+1), fmt.Sprintf("value %d", i))); err != nil {
					b.Error(err)
				}
				took = append(took, time.Since(begin))
			}
			mu.Lock()
			all = append(all, took...)
			mu.Unlock()
		})
	}
	wg.Wait()
	b.StopTimer()
	report(b, s, before, all)
}

// BenchmarkStage is the cost of one staged Set without the disk, among 10,000 rows.
func BenchmarkStage(b *testing.B) {
	s := OpenMemory(Options{})
	defer s.Close()
	fill(b, s, 100000)
	v := s.Head()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		var err error
		if v, err = v.Overlay(set(fmt.Sprintf("Device.WiFi.AccessPoint.%d.Parameter03", i%10000+1), fmt.Sprintf("value %d", i))); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLeaf(b *testing.B) {
	s := OpenMemory(Options{})
	defer s.Close()
	fill(b, s, 3000)
	v := s.Head()
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := v.Leaf("Device.WiFi.AccessPoint.150.Parameter03"); !ok {
			b.Fatal("missing")
		}
	}
}

// BenchmarkWalk3000 visits all of 3,000 parameters.
func BenchmarkWalk3000(b *testing.B) {
	s := OpenMemory(Options{})
	defer s.Close()
	fill(b, s, 3000)
	v := s.Head()
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		v.Walk("", func(string, Leaf) bool { n++; return true })
		if n != 3000 {
			b.Fatal(n)
		}
	}
}

// BenchmarkMemory measures the heap that a tree of 3,000 parameters in 300 rows holds.
func BenchmarkMemory(b *testing.B) {
	s := OpenMemory(Options{})
	fill(b, s, 3000)
	path := filepath.Join(b.TempDir(), "m.db")
	_ = s.Close()
	f, err := Open(path, Options{NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	fill(b, f, 3000)
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var used uint64
	for b.Loop() {
		before := heap()
		if f, err = Open(path, Options{NoSync: true}); err != nil {
			b.Fatal(err)
		}
		used = heap() - before
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
		runtime.KeepAlive(f)
	}
	b.ReportMetric(float64(used)/3000, "heap-B/leaf")
	b.ReportMetric(float64(used), "heap-B")
	if used > 1<<20 {
		b.Errorf("%d bytes for 3,000 parameters, at most 1 MiB", used)
	}
}

// BenchmarkOpen3000 is the time to open a database of 3,000 parameters.
func BenchmarkOpen3000(b *testing.B) {
	path := filepath.Join(b.TempDir(), "o.db")
	for b.Loop() {
		s, err := Open(path, Options{NoSync: true})
		if err != nil {
			b.Fatal(err)
		}
		if s.Head().Rev() == 0 {
			fill(b, s, 3000)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
