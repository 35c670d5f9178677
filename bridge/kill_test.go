package bridge

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"twinspan/store"
)

const killEnv = "TWINSPAN_BRIDGE_KILL_DB"

func killEngine(t testing.TB, path string) (*rig, func()) {
	t.Helper()
	s, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := testProfile()
	for i := 1; i <= 3; i++ {
		p.Factory[fmt.Sprintf("Device.DHCPv4.Server.Pool.%d.LeaseTime", i)] = "1"
	}
	e, err := New(Options{Schema: loadSchema(t, p), Profile: p, Store: s})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	return &rig{e, t}, func() { e.Close(); s.Close() }
}

// TestKillChild is the process that gets killed; it does nothing on its own.
func TestKillChild(t *testing.T) {
	path := os.Getenv(killEnv)
	if path == "" {
		return
	}
	r, stop := killEngine(t, path)
	defer stop()
	w, err := r.Watch("consumer")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			ev, err := w.Next(context.Background())
			if err != nil {
				return
			}
			w.Ack(ev)
		}
	}()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i, who := range []Writer{acs, mainC, user} {
		wg.Go(func() {
			first, _ := strconv.Atoi(mustGet(t, r, fmt.Sprintf("Device.DHCPv4.Server.Pool.%d.LeaseTime", i+1)))
			for n := first + 1; n < first+100000; n++ {
				c := whole(set(fmt.Sprintf("Device.DHCPv4.Server.Pool.%d.", i+1), "LeaseTime", strconv.Itoa(n), "DomainName", strconv.Itoa(n)))
				c.Records = []Record{{"test/acked", who.Name, []byte(strconv.Itoa(n))}}
				res, err := r.Apply(context.Background(), who, c)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				fmt.Printf("ACK %d %d %d\n", i, n, res.Revision)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func mustGet(t testing.TB, r *rig, path string) string {
	v, err := r.View(mainC).get(path)
	if err != nil {
		t.Error(err)
	}
	return v
}

// TestKill: after kill -9 at any instant every acknowledged change is there, each whole, with its record (invariants 1,
// 3), the journal replays to the values, and a consumer sees every commit after its position (invariant 4).
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	total := 0
	for round := range 5 {
		acked, lastRev := killOnce(t, path, time.Duration(20+17*round)*time.Millisecond)
		r, stop := killEngine(t, path)
		v := r.store.Head()
		if v.Rev() < lastRev {
			t.Fatalf("round %d: revision %d was acknowledged, %d is there", round, lastRev, v.Rev())
		}
		for i, who := range []Writer{acs, mainC, user} {
			row := fmt.Sprintf("Device.DHCPv4.Server.Pool.%d.", i+1)
			lease, _ := v.Leaf(row + "LeaseTime")
			domain, _ := v.Leaf(row + "DomainName")
			rec, _ := v.Record("test/acked", who.Name)
			n, _ := strconv.Atoi(lease.Value)
			if n < acked[i] {
				t.Fatalf("round %d: %s acknowledged %d, %d is there", round, who.Name, acked[i], n)
			}
			if acked[i] > 0 && (domain.Value != lease.Value || string(rec) != lease.Value || domain.Rev != lease.Rev) {
				t.Fatalf("round %d: half a change: %+v %+v %s", round, lease, domain, rec)
			}
			total += acked[i]
		}
		cursor, _ := r.store.Cursor("consumer")
		w, err := r.Watch("consumer")
		if err != nil {
			t.Fatal(err)
		}
		for rev := cursor + 1; rev <= v.Rev(); rev++ {
			ev, err := w.Next(t.Context())
			if err != nil || ev.Kind != EventCommit || ev.Rev != rev {
				t.Fatalf("round %d: the consumer was to see revision %d: %+v %v", round, rev, ev, err)
			}
		}
		w.Close()
		stop()
		if problems, err := store.Check(path); err != nil || len(problems) > 0 {
			t.Fatal(problems, err)
		}
	}
	if total == 0 {
		t.Fatal("nothing was acknowledged in any round")
	}
}

func killOnce(t *testing.T, path string, after time.Duration) (acked [3]int, rev uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKillChild$")
	cmd.Env = append(os.Environ(), killEnv+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	guard := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer guard.Stop()
	lines := bufio.NewScanner(out)
	var once sync.Once
	for lines.Scan() {
		var i, n int
		var got uint64
		if !strings.HasPrefix(lines.Text(), "ACK ") {
			continue
		}
		if k, _ := fmt.Sscanf(lines.Text(), "ACK %d %d %d", &i, &n, &got); k != 3 {
			continue // cut in the middle
		}
		acked[i] = max(acked[i], n)
		rev = max(rev, got)
		once.Do(func() { time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) })
	}
	_ = cmd.Wait()
	return acked, rev
}
