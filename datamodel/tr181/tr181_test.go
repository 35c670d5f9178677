package tr181

import (
	"runtime"
	"testing"

	"twinspan/datamodel"
	"twinspan/datamodel/tr181/compact"
)

func loadAll(t testing.TB) *datamodel.Schema {
	t.Helper()
	s, err := Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEncodeIsInverseOfDecode(t *testing.T) {
	again, err := compact.Encode(loadAll(t))
	if err != nil {
		t.Fatal(err)
	}
	if string(again) != device {
		t.Fatalf("encoding the decoded model gives other bytes (%d instead of %d)", len(again), len(device))
	}
}

func BenchmarkLoadAll(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Load(nil); err != nil {
			b.Fatal(err)
		}
	}
}

func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestHeapBudget(t *testing.T) {
	before := liveHeap()
	s := loadAll(t)
	used := int64(liveHeap()) - int64(before)
	t.Logf("whole model: %d bytes live", used)
	if used > 2_500_000 {
		t.Errorf("the whole model takes %d bytes of heap, budget 2.5 MB", used)
	}
	runtime.KeepAlive(s)
}
