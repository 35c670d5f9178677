package prove

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	conformcwmp "twinspan/cmd/internal/conform/cwmp"
	"twinspan/store"
)

var build struct {
	once sync.Once
	path string
	err  error
}

func TestMain(m *testing.M) {
	BecomeAgent() // the agent is started through this binary
	code := m.Run()
	if build.path != "" {
		_ = os.RemoveAll(strings.TrimSuffix(build.path, "/twinspan"))
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// agent builds the real agent once for all tests.
func agent(t testing.TB) string {
	t.Helper()
	build.once.Do(func() {
		dir, err := os.MkdirTemp("", "twinspan-prove-agent-")
		if err != nil {
			build.err = err
			return
		}
		build.path, build.err = conformcwmp.BuildAgent(dir)
	})
	if build.err != nil {
		t.Fatal(build.err)
	}
	return build.path
}

func short(t *testing.T, run func(context.Context, Options, int) (*Result, error), rounds int) {
	t.Helper()
	r, err := run(t.Context(), Options{Agent: agent(t), Seed: 1, Agents: 3}, rounds)
	if r != nil {
		t.Logf("%d cases\n%s", r.Cases, strings.Join(r.Lines, "\n"))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The short versions of what `make prove` runs for long. DESIGN invariants 1 to 5.

func TestKill(t *testing.T)   { short(t, kill, 200/slowdown) }
func TestFaults(t *testing.T) { short(t, faults, 60/slowdown) }
func TestImages(t *testing.T) { short(t, image, 120/slowdown) }
func TestLinear(t *testing.T) { short(t, linear, 200/slowdown) }
func TestFair(t *testing.T)   { short(t, fair, 200) }

// TestKillFindsFaults: a database that lost acknowledged writes, and one with half of a write, are found out.
func TestKillFindsFaults(t *testing.T) {
	for name, plant := range map[string]func(k *killRun, before []byte) error{
		"lost writes": func(k *killRun, before []byte) error { return os.WriteFile(k.r.database(), before, 0o600) },
		"half a write": func(k *killRun, _ []byte) error {
			return spoilStore(k, func(tx *store.Tx) error {
				return tx.Set(fmt.Sprintf("%s%d.Burst", clients, k.lanes[1].rowB), "4711", 0)
			})
		},
		"half a row": func(k *killRun, _ []byte) error {
			return spoilStore(k, func(tx *store.Tx) error {
				for _, i := range tx.View().Instances(mappings) {
					return tx.Set(fmt.Sprintf("%s%d.InternalClient", mappings, i), "other", 0)
				}
				_, err := tx.AddRow(mappings) // a row that nobody asked for
				return err
			})
		},
		"half of what all write": func(k *killRun, _ []byte) error {
			return spoilStore(k, func(tx *store.Tx) error { return tx.Set(clients+"39.Burst", "4711", 0) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := newKillRun(t.Context(), Options{Agent: agent(t), Seed: 7}, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer k.r.close()
			for range 5 {
				if err := k.round(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			for k.j.counts["acknowledged"] < 50 { // so that there is something to lose
				if err := k.round(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			before, err := os.ReadFile(k.r.database())
			if err != nil {
				t.Fatal(err)
			}
			base, planted := k.j.counts["acknowledged"], false
			k.plant = func() error {
				if k.j.counts["acknowledged"] < base+10 {
					return nil
				}
				planted = true
				return plant(k, before)
			}
			for range 40 {
				if err = k.round(t.Context()); err != nil {
					break
				}
			}
			if !planted || err == nil {
				t.Fatalf("planted: %t, found: %v", planted, err)
			}
			t.Log(err)
		})
	}
}

// spoilStore changes a dead agent's database behind its back.
func spoilStore(k *killRun, fn func(tx *store.Tx) error) error {
	s, err := store.Open(k.r.database(), store.Options{})
	if err != nil {
		return err
	}
	_, err = s.Update(context.Background(), store.Meta{Writer: "spoiler"}, fn)
	return errors.Join(err, s.Close())
}

func TestInstanceNumbersAreKept(t *testing.T) {
	j := newJudge(1, 2)
	row := rowID{mappings, 7}
	if err := j.take(row, "a-1", true); err != nil {
		t.Fatal(err)
	}
	if err := j.take(row, "a-1", false); err != nil {
		t.Errorf("the same row seen again: %v", err)
	}
	if j.take(row, "a-1", true) == nil || j.take(row, "b-1", false) == nil {
		t.Error("a number that was given twice goes unnoticed")
	}
}

// TestImagesFindFaults: a disk that loses what was synced, and one that forgets pages of a failed sync, are found out.
func TestImagesFindFaults(t *testing.T) {
	p, err := newTapped(t.Context(), Options{Agent: agent(t), Seed: 3}, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	st, err := p.record(t.Context())
	if err := errors.Join(err, p.j.seen); err != nil {
		t.Fatal(err)
	}
	op, err := newOpener()
	if err != nil {
		t.Fatal(err)
	}
	defer op.close()
	op.kept = t.TempDir()
	judge := func(at int64) func(v *view) error {
		return func(v *view) error { _, err := p.j.check(v, p.lanes, at); return err }
	}
	if err := op.walk(t.Context(), st, 1, 20*slowdown, 1, judge); err != nil {
		t.Fatal(err)
	}
	syncs := 0
	for i := range st.calls {
		if st.calls[i].kind == callSync {
			if syncs++; syncs%3 == 0 { // the disk says yes and does nothing
				st.calls[i].errno = syscall.EIO
			}
		}
	}
	err = op.walk(t.Context(), st, 1, 2, 1, judge)
	if err == nil {
		t.Fatal("a disk that does not write what it says goes unnoticed")
	}
	t.Log(err)
}

// TestOnly: an unknown proof is an error that names those there are.
func TestOnly(t *testing.T) {
	if _, err := Run(t.Context(), Options{Only: []string{"none"}}); err == nil || !strings.Contains(err.Error(), "kill") {
		t.Errorf("%v", err)
	}
}
