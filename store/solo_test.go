package store

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Many callers, contexts that end, transactions that panic or end their goroutine, and Close in the middle of it: every call
// returns, what was answered with success is in the file, and nothing else of that caller is.
func TestUpdatesWhileClosing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s, err := Open(path, Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	acked := map[string]bool{}
	var many atomic.Int64
	for g := range 200 {
		wg.Go(func() {
			for i := range 50 {
				ctx, cancel := context.WithCancel(t.Context())
				if (g+i)%3 == 0 {
					time.AfterFunc(time.Duration(i)*time.Microsecond, cancel)
				}
				key := "Device.G" + strconv.Itoa(g) + ".I" + strconv.Itoa(i)
				done := make(chan error, 1)
				go func() { // Goexit ends only this goroutine
					defer close(done)
					_, err := s.Update(ctx, Meta{Writer: "w", Kind: "set"}, func(tx *Tx) error {
						switch {
						case (g+i)%17 == 3:
							panic("a bug")
						case g == 7 && i == 3: // fails all that are in one batch with it
							runtime.Goexit()
						}
						return tx.Set(key, "v", 0)
					})
					done <- err
				}()
				select {
				case err, ended := <-done:
					if ended && err == nil {
						mu.Lock()
						acked[key] = true
						mu.Unlock()
						many.Add(1)
					}
					if errors.Is(err, ErrClosed) {
						cancel()
						return
					}
				case <-time.After(60 * time.Second):
					t.Errorf("Update %s does not return", key)
				}
				cancel()
			}
		})
	}
	for deadline := time.Now().Add(20 * time.Second); many.Load() < 500; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("only %d calls succeed", many.Load())
			break
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	s, err = Open(path, Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for key := range acked {
		if _, ok := s.Head().Leaf(key); !ok {
			t.Errorf("%s was acknowledged and is not there", key)
		}
	}
}
