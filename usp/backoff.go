package usp

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Backoff is the retry formula that USP uses nearly everywhere (WebSocket, MQTT, E2E session, Notify), the same as
// TR-069's: before retry n the wait is random between Min*(k/1000)^(n-1) and Min*(k/1000)^n, where n counts to 10 at most.
type Backoff struct {
	Min        time.Duration // m: 1 s to 65535 s in the data model; smaller in tests
	Multiplier int           // k: 1000 to 65535
	Max        time.Duration // upper bound of any wait, 0: none
}

// DefaultBackoff has the standard's values: 5 s, 2000. R-WS.19, R-NOT.1
func DefaultBackoff() Backoff { return Backoff{Min: 5 * time.Second, Multiplier: 2000} }

// Validate reports values with which no sensible wait can be computed.
func (b Backoff) Validate() error {
	if b.Min <= 0 || b.Min > 65535*time.Second {
		return fmt.Errorf("usp: back-off minimum %s is not within 0 and 65535 s", b.Min)
	}
	if b.Multiplier < 1000 || b.Multiplier > 65535 {
		return fmt.Errorf("usp: back-off multiplier %d is not within 1000 and 65535", b.Multiplier)
	}
	if b.Max < 0 {
		return fmt.Errorf("usp: back-off maximum %s is negative", b.Max)
	}
	return nil
}

// Range gives the bounds of the wait before retry n (1 is the first).
func (b Backoff) Range(n int) (low, high time.Duration) {
	n = min(max(n, 1), 10) // R-NOT.2: from the tenth on the range stays
	k := float64(b.Multiplier) / 1000
	l := float64(b.Min) * math.Pow(k, float64(n-1))
	h := l * k
	limit := float64(math.MaxInt64 / 4) // a multiplier of 65 takes the tenth range out of int64
	if b.Max > 0 {
		limit = float64(b.Max)
	}
	return time.Duration(min(l, limit)), time.Duration(min(h, limit))
}

// Wait gives a random wait before retry n (1 is the first).
func (b Backoff) Wait(n int) time.Duration {
	low, high := b.Range(n)
	if high <= low {
		return low
	}
	return low + rand.N(high-low+1)
}
