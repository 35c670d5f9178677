// Command twinspan-lab is the test bench of twinspan: what a developer or an operator runs beside the agent, never on a
// device. It brings its own peers (an embedded MQTT broker, a small ACS, USP Controllers) and drives the real agent binary.
//
//	twinspan-lab sandbox [--agent PATH] [--json] [--keep]   the main job as a story with a readable timeline
//	twinspan-lab bench [--agent PATH] [--json]               speed and memory of the real agent binary
//	twinspan-lab conform usp [--mtp mqtt|ws] [--only ID]    TP-469 against any agent
//	twinspan-lab conform cwmp [--only ID] [--json FILE]      a catalogue of TR-069 checks against any CPE
//	twinspan-lab conform diff [--only ROW] [--json FILE]     what both faces of the agent answer and do, compared
//	twinspan-lab prove [--rounds N] [--only NAME]            crashes, failing disks and races against the agent's promises
//	twinspan-lab acs [--listen ADDR] [-e COMMAND]           a small ACS to manage a device by hand, not for production
//	twinspan-lab service [--socket PATH]                    the example of a USP Service, for an agent with [services]
//	twinspan-lab import-convert --from easycwmp|icwmp ...   what another CWMP client left, as a file for the agent's import
//	twinspan-lab version
//
// The exit status is 0 only if every step was observed.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"twinspan/cmd/internal/prove"
)

// version is set by the linker.
var version = "dev"

// verbs in the order of the help text.
var verbs = []struct {
	name, help string
	run        func(ctx context.Context, args []string) error
}{
	{"sandbox", "play the main job: ACS, broker, two Controllers, the real agent", runSandbox},
	{"bench", "measure the real agent binary", runBench},
	{"conform", "run a conformance test plan against an agent", runConform},
	{"prove", "crash the agent, fail its disk and race its writers, and count what broke", runProve},
	{"service", "register the example of a USP Service with an agent", runService},
	{"import-convert", "make a file for the agent's import from the state of easycwmp or icwmp", runImportConvert},
	{"acs", "manage a device by hand or by script from a laboratory ACS", runACS},
}

func main() {
	prove.BecomeAgent()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(dispatch(ctx, os.Args[1:]))
}

func dispatch(ctx context.Context, args []string) int {
	if len(args) > 0 && args[0] == "version" {
		fmt.Println("twinspan-lab", version)
		return 0
	}
	if len(args) > 0 && args[0] == "spin" { // started by bench
		if err := runSpin(ctx, nil); err != nil {
			return 1
		}
		return 0
	}
	for _, v := range verbs {
		if len(args) > 0 && args[0] == v.name {
			if err := v.run(ctx, args[1:]); err != nil {
				fmt.Fprintln(os.Stderr, "twinspan-lab "+v.name+":", err)
				return 1
			}
			return 0
		}
	}
	fmt.Fprintln(os.Stderr, "usage: twinspan-lab VERB [options]")
	for _, v := range verbs {
		fmt.Fprintf(os.Stderr, "  %-9s %s\n", v.name, v.help)
	}
	return 2
}
