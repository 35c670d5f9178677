// Command twinspan is the device agent and its command line.
//
//	twinspan run --config FILE [--data DIR]     the agent
//	twinspan get|set|confirm|add|del|operate|instances|schema|watch|journal|conflicts|owners|leases|policy ...
//	twinspan phase|gates|drift|convergence ...   the migration
//	twinspan import --check FILE                 try what an older client left
//	twinspan store check FILE                    verify a database that no agent has open
//	twinspan version
//
// Every verb but run, import, store and version is a USP Controller with a role of its own, talking to the running agent over a Unix
// domain socket: the command line has no other door to the device than any Controller has. Output is for people; --json
// prints one JSON document. Exit status: 0 done, 1 refused or failed, 2 wrong usage, 3 the agent cannot be reached.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// version is set by the linker.
var version = "dev"

// Exit statuses.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
)

// usageError is a mistake on the command line.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

// errUnreachable wraps failures to reach the agent.
var errUnreachable = errors.New("cannot reach the agent")

// verb is one command of the program.
type verb struct {
	name, args, help string
	run              func(ctx context.Context, args []string, out io.Writer) error
}

// verbs in the order of the help text. A function because completion lists them too.
func verbs() []verb {
	return []verb{
		{"run", "--config FILE [--data DIR]", "run the agent", runAgent},
		{"get", "[--depth N] PATH...", "read parameters; paths may be partial, have * and [expressions]", cliGet},
		{"set", "[--partial] [--confirm D[@ID]] PATH=VALUE...", "write parameters, all or nothing unless --partial; with --confirm until they are confirmed", cliSet},
		{"confirm", "[--cancel] [ID]", "make provisional changes permanent, or put them back; without an ID list them", cliConfirm},
		{"add", "TABLE [NAME=VALUE...]", "add a row", cliAdd},
		{"del", "PATH...", "delete rows", cliDelete},
		{"operate", "[--timeout D] COMMAND [ARG=VALUE...]", "run a command and wait for its result", cliOperate},
		{"instances", "[--all] TABLE...", "list rows with their unique keys", cliInstances},
		{"schema", "[--all] PATH...", "what the device supports below a path", cliSchema},
		{"watch", "[--type T] PATH...", "print changes as they happen (ValueChange, ObjectCreation, ObjectDeletion, OperationComplete, Event)", cliWatch},
		{"journal", "[-n N] [--path PREFIX]", "who changed what, newest last", cliJournal},
		{"conflicts", "", "who was refused what, and why", cliConflicts},
		{"owners", "[--offset N] [PATH]", "who owns which values", cliOwners},
		{"leases", "", "what is held for whom", cliLeases},
		{"policy", "check FILE|simulate FILE|explain PATH|RESOURCE WRITER|reload", "check a policy file, try it on the journal, ask it", cliPolicy},
		{"phase", "[NAME | confirm [TOKEN] | rollback | hold | release] [--confirm-within D]", "where the migration stands, and move it", cliPhase},
		{"gates", "", "what opens the next phase, and what stands in the way", cliGates},
		{"drift", "", "what the ACS and USP do not agree on", cliDrift},
		{"convergence", "", "what each side asserted, and how far they agree", cliConvergence},
		{"import", "--check FILE [--config FILE]", "try what an older client left, as the first start would take it over", cliImport},
		{"store", "check FILE", "verify a database file that no agent has open", cliStore},
		{"completion", "bash", "print a completion script", cliCompletion},
		{"version", "", "print the version", func(_ context.Context, _ []string, out io.Writer) error {
			_, err := fmt.Fprintln(out, "twinspan", version+leftOut)
			return err
		}},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(dispatch(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// dispatch runs one verb and turns its error into an exit status.
func dispatch(ctx context.Context, args []string, out, errOut io.Writer) int {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		usage(errOut)
		return exitUsage
	}
	for _, v := range verbs() {
		if v.name != args[0] {
			continue
		}
		err := v.run(ctx, args[1:], out)
		var usage usageError
		switch {
		case err == nil:
			return exitDone
		case errors.As(err, &usage):
			fmt.Fprintf(errOut, "twinspan %s: %s\nusage: twinspan %s %s\n", v.name, usage.text, v.name, v.args)
			return exitUsage
		case errors.Is(err, errUnreachable):
			fmt.Fprintf(errOut, "twinspan %s: %v\n", v.name, err)
			return exitUnreachable
		default:
			fmt.Fprintf(errOut, "twinspan %s: %v\n", v.name, err)
			return exitFailed
		}
	}
	fmt.Fprintf(errOut, "twinspan: unknown command %q\n", args[0])
	usage(errOut)
	return exitUsage
}

func usage(w io.Writer) {
	fmt.Fprintln(w, "usage: twinspan COMMAND [options]")
	for _, v := range verbs() {
		fmt.Fprintf(w, "  %-40s %s\n", strings.TrimSpace(v.name+" "+v.args), v.help)
	}
	fmt.Fprintln(w, "\nThe commands that talk to the agent take --socket PATH (default $TWINSPAN_SOCKET or "+defaultSocket+") and --json.")
}

// cliCompletion prints a script for bash: verbs, then file names.
func cliCompletion(_ context.Context, args []string, out io.Writer) error {
	if len(args) != 1 || args[0] != "bash" {
		return usageError{"only bash is supported"}
	}
	var names []string
	for _, v := range verbs() {
		names = append(names, v.name)
	}
	_, err := fmt.Fprintf(out, "complete -o default -W %q twinspan\n", strings.Join(names, " "))
	return err
}
