package outbox

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"twinspan/usp/mtp"
)

func TestBoundsAndOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(DefaultBytes)
		for i := range DefaultItems {
			if err := q.Send(t.Context(), Item{Record: []byte{byte(i)}}); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := q.Send(ctx, Item{Record: []byte{1}})
		if !errors.Is(err, mtp.ErrBusy) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("full queue: %v", err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := q.Send(t.Context(), Item{Record: []byte{255}}); err != nil {
				t.Errorf("after room: %v", err)
			}
		})
		synctest.Wait()
		<-q.Wake()
		got := q.Take(nil)
		for i, it := range got {
			if it.Record[0] != byte(i) {
				t.Fatalf("item %d is %d", i, it.Record[0])
			}
		}
		if len(got) != DefaultItems {
			t.Fatalf("took %d", len(got))
		}
		wg.Wait()
		if got = q.Take(got); len(got) != 1 || got[0].Record[0] != 255 {
			t.Fatalf("second take: %v", got)
		}
	})
}

func TestBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(DefaultBytes)
		if err := q.Send(t.Context(), Item{Record: make([]byte, DefaultBytes)}); err != nil {
			t.Fatal(err) // one always fits
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := q.Send(ctx, Item{Record: []byte{1}}); !errors.Is(err, mtp.ErrBusy) {
			t.Fatalf("byte limit: %v", err)
		}
		if err := q.Send(t.Context(), Item{Record: make([]byte, DefaultBytes+1)}); !errors.Is(err, mtp.ErrTooLarge) {
			t.Fatalf("record limit: %v", err)
		}
		if err := q.Send(t.Context(), Item{}); err == nil {
			t.Fatal("an empty record was taken")
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(DefaultBytes)
		q.Send(t.Context(), Item{Record: make([]byte, DefaultBytes)})
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := q.Send(t.Context(), Item{Record: []byte{1}}); !errors.Is(err, mtp.ErrNotConnected) {
				t.Errorf("waiting sender: %v", err)
			}
		})
		synctest.Wait()
		q.Close()
		q.Close()
		wg.Wait()
		if len(q.Take(nil)) != 1 {
			t.Error("what was queued before Close is lost")
		}
	})
}
