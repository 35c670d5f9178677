package bridge

import (
	"fmt"
	"sort"
	"testing"
	"time"
)

// BenchmarkVerdict judges 50 leaves under 256 rules, with an owner, a lease table and damping in the way, and reports the
// 99th percentile of a change. The target is 0.5 ms.
func BenchmarkVerdict(b *testing.B) {
	var rules []Rule
	for i := range 128 {
		rules = append(rules, Rule{ID: fmt.Sprintf("row%d", i), Path: fmt.Sprintf("Device.IP.Interface.%d.**", i+1), OnConflict: OnLast},
			Rule{ID: fmt.Sprintf("leaf%d", i), Path: fmt.Sprintf("Device.IP.Interface.%d.MaxMTUSize", i+1), OnConflict: OnYield})
	}
	order, err := NewClassOrder(PhaseDualUSP, rules[:maxRules]...)
	if err != nil {
		b.Fatal(err)
	}
	r := newRig(b, withControllers)
	for i := range 16 {
		w := Writer{Name: fmt.Sprintf("lan:%d", i/4)}
		if _, err := r.Claim(HeldByLease, w.Name, uint64(i), []string{fmt.Sprintf("Device.DHCPv4.Server.Pool.%d.", i)}, time.Now().Add(time.Hour)); err != nil {
			b.Fatal(err)
		}
	}
	paths := make([]string, 50)
	for i := range paths {
		paths[i] = fmt.Sprintf("Device.IP.Interface.%d.%s", i+1, []string{"MaxMTUSize", "Enable"}[i%2])
		r.fights.took(paths[i], time.Now())
	}
	var took []time.Duration
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		begin := time.Now()
		for _, path := range paths {
			p := Proposal{Phase: PhaseDualUSP, Writer: acs, Path: path, Old: "1", New: "2", Owner: mainC.Name, OwnerClass: ClassMain, OwnerRev: 7}
			r.claims.on(&p, now)
			r.fights.on(&p, now)
			order.Decide(p)
		}
		took = append(took, time.Since(begin))
	}
	sort.Slice(took, func(i, j int) bool { return took[i] < took[j] })
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e6, "ms-p99")
}

// BenchmarkSixteenHotWriters gives the slowest of sixteen hot writers beside an open session and leases.
func BenchmarkSixteenHotWriters(b *testing.B) {
	var worst time.Duration
	n := 0
	for b.Loop() {
		slowest, k := hotWriters(b, 3*time.Second)
		worst, n = max(worst, slowest), n+k
	}
	b.ReportMetric(worst.Seconds(), "s-slowest")
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "changes/s")
}
