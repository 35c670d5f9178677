package usp

import (
	"testing"
	"time"
)

func TestBackoffRange(t *testing.T) {
	b := DefaultBackoff()
	for n, want := range map[int][2]int{1: {5, 10}, 2: {10, 20}, 3: {20, 40}, 9: {1280, 2560}, 10: {2560, 5120}, 11: {2560, 5120}, 1000: {2560, 5120}, 0: {5, 10}} {
		low, high := b.Range(n)
		if low != time.Duration(want[0])*time.Second || high != time.Duration(want[1])*time.Second {
			t.Errorf("retry %d: %s to %s, want %v s", n, low, high, want)
		}
	}
	b.Max = 30 * time.Second
	if low, high := b.Range(3); low != 20*time.Second || high != 30*time.Second {
		t.Errorf("capped: %s to %s", low, high)
	}
	if low, high := b.Range(10); low != b.Max || high != b.Max {
		t.Errorf("capped: %s to %s", low, high)
	}
	huge := Backoff{Min: 65535 * time.Second, Multiplier: 65535}
	if low, high := huge.Range(10); low <= 0 || high < low {
		t.Errorf("overflow: %s to %s", low, high)
	}
}

func TestBackoffWaitStaysInRange(t *testing.T) {
	b := Backoff{Min: time.Second, Multiplier: 3000, Max: time.Minute}
	for n := 1; n < 14; n++ {
		low, high := b.Range(n)
		seen := map[time.Duration]bool{}
		for range 200 {
			w := b.Wait(n)
			if w < low || w > high {
				t.Fatalf("retry %d: wait %s is not within %s and %s", n, w, low, high)
			}
			seen[w] = true
		}
		if low != high && len(seen) < 50 {
			t.Errorf("retry %d: %d different waits of 200", n, len(seen))
		}
	}
}

func TestBackoffValidate(t *testing.T) {
	for _, b := range []Backoff{{}, {Min: -1, Multiplier: 2000}, {Min: 1, Multiplier: 999}, {Min: 1, Multiplier: 65536}, {Min: 65536 * time.Second, Multiplier: 2000}, {Min: 1, Multiplier: 1000, Max: -1}} {
		if b.Validate() == nil {
			t.Errorf("%+v is taken for valid", b)
		}
	}
	if err := DefaultBackoff().Validate(); err != nil {
		t.Error(err)
	}
}
