package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"twinspan/cmd/internal/agentproc"
	"twinspan/cmd/internal/prove"
)

// runProve tries to break the agent binary.
func runProve(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("prove", flag.ContinueOnError)
	agentPath := fs.String("agent", "", "agent binary, default: next to this program")
	rounds := fs.Int("rounds", prove.DefaultRounds, "rounds of kill; the other proofs are scaled with it")
	seed := fs.Uint64("seed", uint64(time.Now().UnixNano())%1_000_000, "of what is drawn")
	only := fs.String("only", "", "proofs, with commas between: "+strings.Join(prove.Names(), ", "))
	agents := fs.Int("agents", 0, "agents side by side in kill, 0: 3")
	asJSON := fs.Bool("json", false, "print the counts as JSON")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *rounds < 1 || *agents < 0 || *agents > 32 || fs.NArg() > 0 {
		return errors.New("--rounds must be positive, --agents at most 32, and there are no arguments")
	}
	binary, err := agentproc.Find(*agentPath)
	if err != nil {
		return err
	}
	o := prove.Options{Agent: binary, Rounds: *rounds, Seed: *seed, Agents: *agents}
	if *only != "" {
		o.Only = strings.Split(*only, ",")
	}
	var out io.Writer = os.Stdout
	if *asJSON {
		out = nil
	} else {
		fmt.Printf("seed %d, %d rounds\n", *seed, *rounds)
	}
	o.Out = out
	results, err := prove.Run(ctx, o)
	if *asJSON {
		if jerr := writeJSON(os.Stdout, map[string]any{"ok": err == nil, "seed": *seed, "proofs": results}); jerr != nil {
			return jerr
		}
	}
	return err
}
