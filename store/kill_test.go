package store

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

const (
	childEnv  = "TWINSPAN_STORE_CHILD" // path of the database: the test binary is the child of a kill test
	roundsEnv = "TWINSPAN_KILL_ROUNDS" // for a long run
	killers   = 4                      // goroutines that write in the child
)

var killOptions = Options{JournalEntries: 64, JournalBytes: 16 << 10}

// childMain writes until it is killed, and prints what was acknowledged: goroutine, counter, revision, row.
func childMain() {
	path := os.Getenv(childEnv)
	if path == "" {
		return
	}
	s, err := Open(path, killOptions)
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		os.Exit(1)
	}
	var out sync.Mutex
	for g := range killers {
		go func() {
			for {
				i, c, row, err := killWrite(s, g)
				if err != nil {
					fmt.Fprintln(os.Stderr, "child:", err)
					os.Exit(1)
				}
				out.Lock()
				fmt.Printf("ack %d %d %d %d\n", g, i, c.Rev, row)
				out.Unlock()
				_ = s.SetCursor(fmt.Sprint("c", g), c.Rev)
			}
		}()
	}
	time.Sleep(30 * time.Second)
	os.Exit(2)
}

// killWrite is one transaction: two parameters that are always equal, a record, and a row that replaces the one before.
func killWrite(s *Store, g int) (i int, c Commit, row uint32, err error) {
	base := fmt.Sprintf("Device.W%d.", g)
	c, err = s.Update(bg, Meta{Writer: fmt.Sprint("w", g), Kind: "set"}, func(tx *Tx) error {
		l, _ := tx.View().Leaf(base + "A")
		i, _ = strconv.Atoi(l.Value)
		i++
		for _, n := range tx.View().Instances(base + "T.") {
			if err := tx.DeleteRow(fmt.Sprintf("%sT.%d.", base, n)); err != nil {
				return err
			}
		}
		if row, err = tx.AddRow(base + "T."); err != nil {
			return err
		}
		return errors.Join(tx.Set(base+"A", strconv.Itoa(i), 0), tx.Set(fmt.Sprintf("%sT.%d.X", base, row), strconv.Itoa(i), 0),
			tx.PutRecord("kill", strconv.Itoa(g), []byte(strconv.Itoa(i))), tx.Set(base+"B", strconv.Itoa(i), 0))
	})
	return i, c, row, err
}

// acked is the newest acknowledged transaction of one goroutine.
type acked struct {
	i, rev uint64
	row    uint32
}

// TestKill kills a writing process again and again: every acknowledged transaction must be there, none by half.
// DESIGN invariants 1, 3 and 4.
func TestKill(t *testing.T) {
	rounds := 20
	if n, err := strconv.Atoi(os.Getenv(roundsEnv)); err == nil {
		rounds = n
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kill.db")
	var last [killers]acked
	total := 0
	for round := range rounds {
		total += killRound(t, exe, path, &last)
		if _, err := os.Stat(path); err == nil || total > 0 { // else it was killed before there was a file
			checkTest(t, path)
		}
		s, err := Open(path, killOptions)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		verifyKilled(t, s, last)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	if total < rounds {
		t.Errorf("only %d acknowledged transactions", total)
	}
	t.Logf("%d rounds, %d acknowledged transactions", rounds, total)
}

// killRound starts the child, kills it at a random moment and reads what it acknowledged.
func killRound(t *testing.T, exe, path string, last *[killers]acked) int {
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// Once in a while in the middle of creating the file.
	early := rand.IntN(8) == 0
	kill := func(d time.Duration) { time.Sleep(d); _ = cmd.Process.Kill() }
	var wg sync.WaitGroup
	if early {
		wg.Go(func() { kill(time.Duration(rand.IntN(12000)) * time.Microsecond) })
	}
	n := 0
	for lines := bufio.NewScanner(pipe); lines.Scan(); n++ {
		var g int
		var a acked
		if k, err := fmt.Sscanf(lines.Text(), "ack %d %d %d %d", &g, &a.i, &a.rev, &a.row); k != 4 {
			break // cut short by the kill
		} else if err != nil || g >= killers || a.i <= last[g].i || a.rev <= last[g].rev || a.row <= last[g].row {
			t.Errorf("%q after %+v: %v", lines.Text(), last[g], err)
		}
		last[g] = a
		if n == 0 && !early {
			wg.Go(func() { kill(time.Duration(rand.IntN(60000)) * time.Microsecond) })
		}
	}
	wg.Wait()
	_ = cmd.Wait()
	return n
}

func verifyKilled(t *testing.T, s *Store, last [killers]acked) {
	v := s.Head()
	for g, a := range last {
		base := fmt.Sprintf("Device.W%d.", g)
		l, ok := v.Leaf(base + "A")
		if !ok {
			if a.i > 0 {
				t.Errorf("%s: %+v is lost", base, a)
			}
			continue
		}
		i, _ := strconv.ParseUint(l.Value, 10, 64)
		b, _ := v.Leaf(base + "B")
		rows := v.Instances(base + "T.")
		rec, _ := v.Record("kill", strconv.Itoa(g))
		if i < a.i || l.Rev < a.rev || v.Rev() < a.rev {
			t.Errorf("%s: %+v was acknowledged, %+v is stored", base, a, l)
		}
		if b != l || string(rec) != l.Value || len(rows) != 1 {
			t.Errorf("%s: half a transaction: A %+v, B %+v, record %q, rows %v", base, l, b, rec, rows)
			continue
		}
		if x, _ := v.Leaf(fmt.Sprintf("%sT.%d.X", base, rows[0])); x.Value != l.Value || rows[0] < a.row {
			t.Errorf("%s: row %d holds %+v after %+v", base, rows[0], x, a)
		}
		if cur, ok := s.Cursor(fmt.Sprint("c", g)); ok && cur > v.Rev() {
			t.Errorf("cursor %d of %d", cur, v.Rev())
		}
	}
}
