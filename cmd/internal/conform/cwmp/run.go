package conformcwmp

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"twinspan/cmd/internal/conform"
)

//go:embed catalogue.tsv
var catalogueText string

// Catalogue lists every check with its id, area, level (M must, S should, O optional, D decided here) and needs.
func Catalogue() ([]conform.Check, error) { return conform.ParseCatalogue(catalogueText) }

// check is how one row of the catalogue is shown.
type check struct {
	raw     bool          // the CPE starts without the runner's settings and no session is held
	world   world         // around the CPE
	needs   []ability     // of the driver; missing ones make it "not shown"
	limit   time.Duration // default defaultLimit
	run     func(ctx context.Context, b *bench) error
	verdict error // instead of run: why there is none
}

// defaultLimit bounds a check; a hanging CPE fails it.
const defaultLimit = 40 * time.Second

// checks of all files; filled once by merge, at the first use.
var checks = sync.OnceValue(func() map[string]check {
	all := map[string]check{}
	for _, part := range []map[string]check{sessionChecks, httpChecks, tlsChecks, informChecks, eventChecks, retryChecks, versionChecks, requestChecks,
		nameChecks, readChecks, writeChecks, attributeChecks, rowChecks, aliasChecks, transferChecks, scheduleChecks, restartChecks, periodicChecks, otherChecks, surroundChecks, moduleChecks, ownHTTPChecks, ownChecks} {
		for id, c := range part {
			if _, twice := all[id]; twice {
				panic("two checks for " + id) // a test runs this
			}
			all[id] = c
		}
	}
	return all
})

// Options of a run.
type Options struct {
	NewDriver func() (Driver, error)
	Parallel  int // benches at a time; above 1 needs drivers that canFresh
	Only      string
	Listen    string        // address the ACS listens on
	Password  string        // of the CPE at the ACS; "": random
	First     time.Duration // waiting for the first Inform
	Progress  io.Writer     // one line for each check as it ends; nil: none

	Module []byte // a deployment unit that the CPE takes; nil: only ours is known

	// Planted faults, for tests of the checks: plant changes what the CPE sent, lenient is authority.lenient.
	plant       func(x *exchange)
	plantAnswer func(x *exchange)
	lenient     bool
}

// Conformance runs the selected checks and returns the report.
func Conformance(ctx context.Context, o Options) (*conform.Report, error) {
	all, err := Catalogue()
	if err != nil {
		return nil, err
	}
	selected, err := conform.Select(all, o.Only)
	if err != nil {
		return nil, err
	}
	probe, err := o.NewDriver()
	if err != nil {
		return nil, err
	}
	r := &runner{o: o, report: conform.NewReport("CWMP", probe.Name(), all)}
	if !has(probe, canFresh) {
		err := r.oneCPE(ctx, probe, selected)
		return r.report, err
	}
	if err := probe.Close(); err != nil {
		return nil, err
	}
	work := make(chan conform.Check)
	var wg sync.WaitGroup
	for range max(1, o.Parallel) {
		wg.Go(func() { // ends when the work is done; joined below
			for c := range work {
				r.fresh(ctx, c)
			}
		})
	}
	// Long ones first, so that they do not stand alone at the end.
	order := slices.Clone(selected)
	slices.SortStableFunc(order, func(a, b conform.Check) int { return int(checks()[b.ID].limit - checks()[a.ID].limit) })
	for _, c := range order {
		work <- c
	}
	close(work)
	wg.Wait()
	return r.report, ctx.Err()
}

type runner struct {
	o      Options
	report *conform.Report
	mu     sync.Mutex
}

// fresh gives a check a CPE of its own.
func (r *runner) fresh(ctx context.Context, c conform.Check) {
	r.judge(ctx, c, func(ctx context.Context, k check) (*bench, func() error, error) {
		d, err := r.o.NewDriver()
		if err != nil {
			return nil, nil, err
		}
		if missing := lacks(d, k); missing != nil {
			return nil, nil, errors.Join(missing, d.Close())
		}
		o := r.benchOptions(k.raw)
		if w, ok := d.(worldly); ok && k.world != (world{}) {
			if o.listen, err = w.Prepare(k.world); err != nil {
				return nil, nil, errors.Join(err, d.Close())
			}
		}
		b, err := newBench(ctx, d, o)
		if err != nil {
			return nil, nil, err // which closed the driver
		}
		b.twin = func(ctx context.Context) (*bench, error) {
			d, err := r.o.NewDriver()
			if err != nil {
				return nil, err
			}
			return newBench(ctx, d, r.benchOptions(false))
		}
		return b, b.close, nil
	})
}

func (r *runner) benchOptions(raw bool) benchOptions {
	first := r.o.First
	if first <= 0 {
		first = 20 * time.Second
	}
	return benchOptions{listen: r.o.Listen, raw: raw, password: r.o.Password, plant: r.o.plant, plantAnswer: r.o.plantAnswer, lenient: r.o.lenient, first: first, module: r.o.Module}
}

// oneCPE runs all checks on one CPE that keeps its memory.
func (r *runner) oneCPE(ctx context.Context, d Driver, selected []conform.Check) error {
	b, err := newBench(ctx, d, r.benchOptions(false))
	if err != nil {
		return err // which closed the driver
	}
	for _, c := range selected {
		r.judge(ctx, c, func(ctx context.Context, k check) (*bench, func() error, error) {
			if missing := lacks(d, k); missing != nil {
				return nil, nil, missing
			}
			if k.raw {
				return nil, nil, notShown("needs %s", canFresh)
			}
			b.tap.clearHooks()
			b.acs.ClearFaults()
			b.observed = nil
			if _, err := b.newSession(ctx); err != nil {
				return nil, nil, err
			}
			return b, func() error { return nil }, nil
		})
	}
	return b.close()
}

func lacks(d Driver, k check) error {
	for _, a := range append(k.world.needs(), k.needs...) {
		if !has(d, a) {
			return notShown("needs %s", a)
		}
	}
	return nil
}

// judge runs one check and adds its result.
func (r *runner) judge(ctx context.Context, c conform.Check, prepare func(context.Context, check) (*bench, func() error, error)) {
	began := time.Now()
	res := conform.Result{Check: c}
	k, ok := checks()[c.ID]
	err := k.verdict
	if !ok {
		err = notShown("there is no check for it")
	}
	if ok && err == nil {
		res.Observed, err = r.perform(ctx, k, prepare)
	}
	var v *verdictError
	switch {
	case err == nil:
		res.Verdict = conform.Pass
	case errors.As(err, &v):
		res.Verdict, res.Reason = v.verdict, v.reason
	default:
		res.Verdict, res.Reason = conform.Fail, err.Error()
	}
	res.Millis = time.Since(began).Milliseconds()
	r.report.Add(res)
	if r.o.Progress != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		_ = conform.Line(r.o.Progress, res) // the report holds it too
	}
}

func (r *runner) perform(ctx context.Context, k check, prepare func(context.Context, check) (*bench, func() error, error)) (observed []string, err error) {
	limit := k.limit
	if limit == 0 {
		limit = defaultLimit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	b, done, err := prepare(ctx, k)
	if err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the check itself broke: %v", p)
		}
		observed = b.observed
		var v *verdictError
		if err != nil && !errors.As(err, &v) {
			observed = append(observed, "violations: "+strings.Join(b.acs.Violations(), "; "), "last lines of the CPE: "+b.driver.Log())
		}
		if cerr := done(); err == nil && cerr != nil {
			err = cerr
		}
	}()
	err = k.run(ctx, b)
	if err == nil && ctx.Err() != nil {
		err = fmt.Errorf("not done within %v", limit)
	}
	return b.observed, err
}

// Run is the command `conform cwmp`: it parses args, runs the checks and writes table and files. The error is nil only when
// every applicable check passed.
func Run(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("conform cwmp", flag.ContinueOnError)
	fs.SetOutput(out)
	only := fs.String("only", "", "comma-separated ids or patterns, such as SPV-03,GPN-*")
	jsonFile := fs.String("json", "", "write the report as JSON to this `FILE` (- is standard output)")
	markdown := fs.String("markdown", "", "write the section of docs/conformance.md to this `FILE`")
	list := fs.Bool("list", false, "list the catalogue and run nothing")
	agent := fs.String("agent", "", "agent binary, default: next to this program")
	parallel := fs.Int("parallel", 6, "checks at a time; only with CPEs that can be reset")
	command := fs.String("cpe-command", "", "shell command that runs another CPE in the foreground; it finds ACS_URL, ACS_USERNAME, ACS_PASSWORD and ACS_CA_FILE in its environment")
	reset := fs.String("reset-command", "", "shell command that brings that CPE back to factory values while it is not running")
	local := fs.String("local-command", "", "shell command that sets parameter $1 to $2 on the local side of that CPE")
	wait := fs.Bool("wait", false, "start nothing: wait for the Inform of a CPE that somebody points here")
	trusts := fs.Bool("trusts-ca", false, "the CPE started by --cpe-command trusts ACS_CA_FILE")
	listen := fs.String("listen", "", "address of the ACS, default: a free port of the loopback")
	password := fs.String("password", "", "password of the user cpe at the ACS, default: random")
	module := fs.String("du-file", "", "a deployment unit that another CPE takes, for DU-*; without one they are not shown")
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if *list {
		return listChecks(out, *only)
	}
	o := Options{Parallel: *parallel, Only: *only, Listen: *listen, Password: *password, Progress: out}
	if *module != "" {
		var err error
		if o.Module, err = os.ReadFile(*module); err != nil {
			return err
		}
	}
	switch {
	case *wait || *command != "":
		o.Parallel = 1
		if *wait {
			o.First = 30 * time.Minute
			if *listen == "" || *password == "" {
				return errors.New("--wait needs --listen and --password, so that somebody can configure the CPE")
			}
			fmt.Fprintf(out, "waiting for a CPE at http://%s/acs, user %s\n", *listen, acsUser)
		}
		o.NewDriver = func() (Driver, error) {
			return &commandDriver{start: *command, reset: *reset, local: *local, trusts: *trusts}, nil
		}
	default:
		binary, err := findAgent(*agent)
		if err != nil {
			return err
		}
		if *listen != "" {
			return errors.New("--listen goes with --wait and --cpe-command")
		}
		o.NewDriver = func() (Driver, error) { return newAgentDriver(binary) }
	}
	report, err := Conformance(ctx, o)
	if report == nil {
		return err
	}
	if err == nil {
		fmt.Fprintf(out, "\n%s\n", report.Summary())
	}
	return errors.Join(err, writeFile(*jsonFile, out, report.JSON), writeFile(*markdown, out, report.Markdown), report.Err())
}

func listChecks(out io.Writer, only string) error {
	all, err := Catalogue()
	if err != nil {
		return err
	}
	if all, err = conform.Select(all, only); err != nil {
		return err
	}
	for _, c := range all {
		if _, err := fmt.Fprintf(out, "%-8s %s %-15s %s\n", c.ID, c.Level, c.Needs, c.Title); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(name string, out io.Writer, write func(io.Writer) error) error {
	switch name {
	case "":
		return nil
	case "-":
		return write(out)
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// findAgent looks for the agent: the given path, else next to this program, else on PATH.
func findAgent(given string) (string, error) {
	if given != "" {
		return filepath.Abs(given)
	}
	if self, err := os.Executable(); err == nil {
		p := filepath.Join(filepath.Dir(self), "twinspan")
		if st, err := os.Stat(p); err == nil && !st.IsDir() && st.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	if p, err := exec.LookPath("twinspan"); err == nil {
		return p, nil
	}
	return "", errors.New("no agent binary: run `make build`, or name it with --agent")
}
