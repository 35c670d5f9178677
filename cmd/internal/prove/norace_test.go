//go:build !race

package prove

const slowdown = 1
