package cwmp

import (
	"math"
	"time"
)

// maxRetryStep is where the windows stop growing (TR-069 3.2.1.1, table 3).
const maxRetryStep = 10

// RetryWait is how long to wait before attempt n (1 is the first repetition) of something that failed: uniform in
// [m*(k/1000)^(n-1), m*(k/1000)^n] seconds, n counted up to ten. m is CWMPRetryMinimumWaitInterval in seconds, k is
// CWMPRetryIntervalMultiplier in thousandths; random is uniform in [0, 1). Values outside their ranges are drawn into them.
// The result is never above ten years, so that the largest legal m and k cannot overflow.
func RetryWait(n int, m, k uint32, random float64) time.Duration { // TR-069 3.2.1.1
	n = min(max(n, 1), maxRetryStep)
	base := math.Max(1, math.Min(65535, float64(m)))
	factor := math.Max(1, math.Min(65.535, float64(k)/1000))
	lo := base * math.Pow(factor, float64(n-1))
	hi := lo * factor
	const limit = 10 * 365 * 24 * 3600.0
	seconds := math.Min(lo+(hi-lo)*random, limit)
	return time.Duration(seconds * float64(time.Second))
}
