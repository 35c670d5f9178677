package cwmp

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// RTY-01: the windows of the standard's table with the default values.
func TestRTY01Windows(t *testing.T) {
	lo, hi := 5*time.Second, 10*time.Second
	for n := 1; n <= 14; n++ {
		if got := RetryWait(n, 5, 2000, 0); got != lo {
			t.Errorf("attempt %d: shortest wait %v, want %v", n, got, lo)
		}
		if got := RetryWait(n, 5, 2000, 0.9999999999); hi-got > time.Millisecond || got > hi {
			t.Errorf("attempt %d: longest wait %v, want just under %v", n, got, hi)
		}
		if n < 10 { // the tenth window, 2560 to 5120 s, is the last
			lo, hi = 2*lo, 2*hi
		}
	}
}

// RTY-02: a multiplier of 1000 keeps the wait constant.
func TestRTY02Constant(t *testing.T) {
	for n := 1; n < 12; n++ {
		if got := RetryWait(n, 2, 1000, 0.7); got != 2*time.Second {
			t.Fatalf("attempt %d: %v", n, got)
		}
	}
}

// The wait is always inside its window, grows with the attempt, and nothing overflows.
func TestRetryWaitProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(-3, 1000).Draw(t, "n")
		m := rapid.Uint32().Draw(t, "m")
		k := rapid.Uint32().Draw(t, "k")
		a := rapid.Float64Range(0, 0.999999).Draw(t, "a")
		b := rapid.Float64Range(0, 0.999999).Draw(t, "b")
		if a > b {
			a, b = b, a
		}
		short, long := RetryWait(n, m, k, a), RetryWait(n, m, k, b)
		if short < time.Second || long < short || long > 11*365*24*time.Hour {
			t.Fatalf("waits %v and %v", short, long)
		}
		if next := RetryWait(n+1, m, k, 0); next < RetryWait(n, m, k, 0) {
			t.Fatalf("window %d starts at %v, before window %d", n+1, next, n)
		}
	})
}
