//go:build race

package prove

// slowdown: the race detector makes opening images ten times slower; `make test` runs the proofs without it, too.
const slowdown = 8
