// Package house holds the rules of this repository that a machine can check: imports point downwards, every package says
// what it is, only programs may end the process, the agent links nothing it must not pay for and stays within its size,
// and docs/coverage.md is what the requirement ids in the code say. It has no code of its own beside its tests; run
//
//	go test ./cmd/internal/house            # check
//	go test ./cmd/internal/house -update    # write docs/coverage.md and docs/dependencies.md anew
package house
