package prove

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Options of a run.
type Options struct {
	Agent  string   // the agent binary
	Only   []string // names of proofs; empty: all
	Rounds int      // of kill; the others are scaled with it. 0: DefaultRounds
	Seed   uint64   // of everything that is drawn
	Agents int      // agents side by side in kill; 0: 3
	Out    io.Writer
}

// DefaultRounds of `twinspan-lab prove`.
const DefaultRounds = 2000

// Result of one proof.
type Result struct {
	Name  string   `json:"name"`
	Cases int      `json:"cases"`
	Lines []string `json:"lines"`
	Took  float64  `json:"seconds"`
	Error string   `json:"error,omitempty"`
}

func (r *Result) say(format string, a ...any) { r.Lines = append(r.Lines, fmt.Sprintf(format, a...)) }

type proof struct {
	name, what string
	run        func(ctx context.Context, o Options, rounds int) (*Result, error)
}

var proofs = []proof{
	{"kill", "no acknowledged write is lost, none is half, whenever the agent is killed", kill},
	{"io", "a disk that fails anywhere: a clear error, reads go on, and nothing acknowledged is lost", faults},
	{"image", "the same for every file that a power cut can leave", image},
	{"linear", "concurrent reads and writes over both protocols are one after the other, and a session sees only itself", linear},
	{"fair", "a war of two masters is stopped, and nobody waits for long beside hot writers", fair},
}

// Names of the proofs, in their order.
func Names() []string {
	var out []string
	for _, p := range proofs {
		out = append(out, p.name)
	}
	return out
}

// Run carries proofs out, prints what each counted, and returns an error if any found a violation. All of the chosen ones are run.
func Run(ctx context.Context, o Options) ([]*Result, error) {
	if o.Rounds == 0 {
		o.Rounds = DefaultRounds
	}
	if o.Agents == 0 {
		o.Agents = 3
	}
	for _, n := range o.Only {
		if !slices.Contains(Names(), n) {
			return nil, fmt.Errorf("no proof %q: there are %s", n, strings.Join(Names(), ", "))
		}
	}
	var results []*Result
	var errs []error
	for _, p := range proofs {
		if len(o.Only) > 0 && !slices.Contains(o.Only, p.name) {
			continue
		}
		if o.Out != nil {
			fmt.Fprintf(o.Out, "%-8s %s\n", p.name, p.what)
		}
		began := time.Now()
		r, err := p.run(ctx, o, o.Rounds)
		if r == nil {
			r = &Result{Name: p.name}
		}
		r.Took = time.Since(began).Seconds()
		if err != nil {
			r.Error = err.Error()
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
		}
		results = append(results, r)
		if o.Out != nil {
			for _, line := range r.Lines {
				fmt.Fprintf(o.Out, "           %s\n", line)
			}
			verdict := fmt.Sprintf("no violation in %d cases", r.Cases)
			if err != nil {
				verdict = "FAILED: " + r.Error
			}
			fmt.Fprintf(o.Out, "           %s, %.1f s\n", verdict, r.Took)
		}
	}
	return results, errors.Join(errs...)
}
