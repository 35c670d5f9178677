package prove

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"twinspan/store"
)

// killRun is one agent that is killed again and again.
type killRun struct {
	r      *rig
	rnd    *rand.Rand
	j      *judge
	lanes  []*lane
	clock  atomic.Int64
	up     *uploads
	acs    *acsFace
	hold   func()
	booted bool // it has answered its ACS once: no 0 BOOTSTRAP any more

	// plant spoils the database of the dead agent: for the tests of the judge.
	plant func() error

	counts map[string]int
	slow   time.Duration // slowest start
}

// kill splits the rounds between agents that run side by side.
func kill(ctx context.Context, o Options, rounds int) (*Result, error) {
	agents := min(o.Agents, rounds)
	runs := make([]*killRun, agents)
	errs := make([]error, agents)
	var wg sync.WaitGroup
	for i := range runs {
		n := rounds / agents
		if i < rounds%agents {
			n++
		}
		wg.Go(func() {
			var err error
			if runs[i], err = newKillRun(ctx, o, uint64(i)); err != nil {
				errs[i] = err
				return
			}
			defer runs[i].r.close()
			errs[i] = runs[i].all(ctx, n)
		})
	}
	wg.Wait()
	res := &Result{Name: "kill"}
	counts := map[string]int{}
	var slow time.Duration
	for _, k := range runs {
		if k == nil {
			continue
		}
		for _, m := range []map[string]int{k.counts, k.j.counts} {
			for what, n := range m {
				counts[what] += n
			}
		}
		slow = max(slow, k.slow)
	}
	res.Cases = counts["rounds"]
	delete(counts, "rounds")
	res.say("%d rounds of SIGKILL on %d agents: %s", res.Cases, agents, pick(counts, "killed while writing", "killed while starting", "killed inside the confirm window of a phase", "killed inside the confirm window of a change", "started"))
	res.say("operations: %s", pick(counts, "acknowledged", "unanswered", "refused"))
	res.say("acknowledged in detail: %s", detail(counts))
	res.say("checked: %s", pick(counts, "views over CWMP", "views over USP", "store checks", "uploads whose TransferComplete came"))
	res.say("slowest start to the last protocol's greeting: %.2f s", slow.Seconds())
	return res, errors.Join(errs...)
}

func newKillRun(ctx context.Context, o Options, i uint64) (*killRun, error) {
	journal := 48 // trimmed at every third commit
	if i%2 == 1 {
		journal = 2000
	}
	r, err := newRig(ctx, rigOptions{binary: o.Agent, journal: journal, bridge: quickGates})
	if err != nil {
		return nil, err
	}
	k := &killRun{r: r, rnd: random(o.Seed + i), j: newJudge(39, 40), counts: map[string]int{}, hold: func() {}}
	k.up = &uploads{r: r, owed: map[string]bool{}}
	clock := func() int64 { return k.clock.Add(1) }
	k.acs = &acsFace{device: r.device, every: 12}
	k.acs.renew = func(ctx context.Context) error { return r.newSession(ctx, &k.hold) }
	row := 1
	add := func(name string, f face) *lane {
		l := newLane(name, f, row, k.j, clock, o.Seed*1000+i)
		row += 2
		k.lanes = append(k.lanes, l)
		return l
	}
	l := add("acs", k.acs)
	l.keyed, l.bare, l.table, l.uploads = true, true, users, k.up.ask
	for n := range 3 {
		add(fmt.Sprintf("a%d", n), uspFace{r.a})
		if n < 2 {
			add(fmt.Sprintf("b%d", n), uspFace{r.b})
		}
	}
	add("cli", cliFace{r.agent, r.socket()}).bare = true
	return k, nil
}

// quickGates let a move to dual-usp be asked for at once; its confirm window is long, so that only the crash ends it.
const quickGates = `
[bridge.migration]
check_interval = "1h"
[[bridge.migration.gate.dual-usp]]
kpi = "projection_diff"
max = 1.0
`

func (k *killRun) all(ctx context.Context, rounds int) error {
	for n := range rounds {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := k.round(ctx); err != nil {
			return fmt.Errorf("round %d: %w%s", n+1, err, k.keep())
		}
		k.counts["rounds"]++
	}
	return k.finish(ctx)
}

// keep copies the database of a violation away before the rig removes it.
func (k *killRun) keep() string {
	data, err := os.ReadFile(k.r.database())
	if err != nil {
		return ""
	}
	f, err := os.CreateTemp("", "twinspan-prove-*.db")
	if err != nil {
		return ""
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		return ""
	}
	return "; the database is kept as " + f.Name()
}

// round is one life of the agent, or several short ones.
func (k *killRun) round(ctx context.Context) error {
	if k.rnd.IntN(6) == 0 { // in the middle of its start
		if err := k.r.agent.Start(); err != nil {
			return err
		}
		time.Sleep(time.Duration(k.rnd.IntN(30_000)) * time.Microsecond)
		k.counts["killed while starting"]++
		if err := errors.Join(k.r.agent.Kill(), k.checkFile()); err != nil {
			return err
		}
		return nil
	}
	if err := k.start(ctx); err != nil {
		return err
	}
	if err := k.verify(ctx); err != nil {
		return err
	}
	if k.rnd.IntN(6) == 0 {
		if err := k.window(ctx); err != nil {
			return err
		}
	}
	k.write(ctx)
	if k.j.seen != nil {
		return k.j.seen
	}
	k.counts["killed while writing"]++
	if k.plant != nil {
		return k.plant()
	}
	return k.checkFile()
}

// start brings the agent up and looks at what it says first.
func (k *killRun) start(ctx context.Context) error {
	began := time.Now()
	release, boot, err := k.r.up(ctx)
	k.hold = release
	if err != nil {
		return err
	}
	k.slow = max(k.slow, time.Since(began))
	k.counts["started"]++
	if boot.HasEvent("0 BOOTSTRAP") && k.booted {
		return errors.New("0 BOOTSTRAP again: the agent forgot that its ACS had answered")
	}
	return nil
}

// verify reads everything over both protocols, judges it and takes it for the truth from now on.
func (k *killRun) verify(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	values, err := k.acs.values(ctx)
	if err != nil {
		return fmt.Errorf("reading over CWMP: %w", err)
	}
	k.booted = true // the session went past the Inform
	k.counts["views over CWMP"]++
	seen := viewOfValues(values)
	at := k.clock.Add(1)
	states, err := k.j.check(seen, k.lanes, at)
	if err != nil {
		return fmt.Errorf("over CWMP: %w", err)
	}
	for name, c := range map[string]uspFace{"A": {k.r.a}, "B": {k.r.b}} {
		values, err := readUSP(ctx, c.c)
		if err != nil {
			return fmt.Errorf("reading as Controller %s: %w", name, err)
		}
		k.counts["views over USP"]++
		other := viewOfValues(values)
		if !maps.Equal(other.time, seen.time) || !maps.Equal(other.rows, seen.rows) {
			return fmt.Errorf("controller %s and the ACS see different values", name)
		}
	}
	for i, r := range seen.rows {
		if err := k.j.take(i, r[0], false); err != nil {
			return err
		}
	}
	shared, _ := k.j.checkShared(seen, at)
	k.j.settle(shared, at)
	for i, l := range k.lanes {
		l.settle(states[i], seen)
	}
	if v := seen.time[confirmRow]; v[0] != "" {
		return fmt.Errorf("a change that nobody confirmed is still there after a restart: %q", v[0])
	}
	if phase, err := k.phase(ctx); err != nil || phase != "dual-cwmp" {
		return fmt.Errorf("the phase is %q after a restart inside the confirm window, not dual-cwmp (%v)", phase, err)
	}
	return nil
}

const migrationObject = "Device.X_TWINSPAN-EXAMPLE_Migration."

func (k *killRun) phase(ctx context.Context) (string, error) {
	return k.r.a.Value(ctx, migrationObject+"Phase")
}

// window opens a confirm window, that of a move to dual-usp or of an ordinary change: a restart must undo it.
func (k *killRun) window(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if k.rnd.IntN(2) == 0 {
		v := fmt.Sprintf("window-%d", k.clock.Add(1))
		if _, err := (uspFace{k.r.a}).set(ctx, []object{client(confirmRow, v)}, false, ""); err != nil {
			return fmt.Errorf("a change that wants a confirmation: %w", err)
		}
		if got, err := k.r.b.Value(ctx, fmt.Sprintf("%s%d.Servers", clients, confirmRow)); err != nil || got != v {
			return fmt.Errorf("a change in its confirm window reads %q, not %q (%v)", got, v, err)
		}
		k.counts["killed inside the confirm window of a change"]++
		return nil
	}
	out, _, err := k.r.a.Operate(ctx, migrationObject+"RequestPhase()", "prove", map[string]string{"Phase": "dual-usp"})
	if err != nil || out["Token"] == "" {
		return fmt.Errorf("asking for dual-usp: %v (%v)", err, out)
	}
	k.counts["killed inside the confirm window of a phase"]++
	return nil
}

// write lets all lanes write and kills the agent at a random moment.
func (k *killRun) write(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for _, l := range k.lanes {
		wg.Go(func() { l.run(ctx) })
	}
	time.Sleep(time.Duration(1000+k.rnd.IntN(60_000)) * time.Microsecond)
	if err := k.r.agent.Kill(); err != nil {
		k.j.fail(err)
	}
	time.Sleep(5 * time.Millisecond) // answers that had left before the kill arrive
	cancel()
	wg.Wait()
	k.hold()
	k.up.settle()
}

// checkFile is `twinspan store check` on the dead agent's database.
func (k *killRun) checkFile() error {
	if _, err := os.Stat(k.r.database()); errors.Is(err, os.ErrNotExist) && !k.booted {
		return nil // killed before there was one
	}
	problems, err := store.Check(k.r.database())
	if err != nil {
		return fmt.Errorf("store check: %w", err)
	}
	if len(problems) > 0 {
		return fmt.Errorf("store check found %d problems, the first at %s: %s", len(problems), problems[0].Path, problems[0].What)
	}
	k.counts["store checks"]++
	return nil
}

// finish lets one last life of the agent deliver what it owes.
func (k *killRun) finish(ctx context.Context) error {
	if err := k.start(ctx); err != nil {
		return err
	}
	if err := k.verify(ctx); err != nil {
		return err
	}
	k.hold()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	total := len(k.up.owed)
	for total > 0 {
		if k.up.settle(); len(k.up.owed) == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("TransferComplete never came for %d acknowledged uploads", len(k.up.owed))
		case <-time.After(10 * time.Millisecond):
		}
	}
	k.counts["uploads whose TransferComplete came"] = k.up.asked
	// What a killed agent had sent may be read only after its successor's Inform has replaced the session: that is nobody's fault.
	late := func(v string) bool { return strings.HasSuffix(v, "outside of a session") }
	if bad := slices.DeleteFunc(k.r.acs.Violations(), late); len(bad) > 0 {
		return fmt.Errorf("the ACS noted %d violations of TR-069: %s", len(bad), bad[0])
	}
	return k.r.agent.Stop(ctx)
}

// pick lists some counts in words.
func pick(counts map[string]int, names ...string) string {
	var out []string
	for _, n := range names {
		out = append(out, fmt.Sprintf("%d %s", counts[n], n))
	}
	return strings.Join(out, ", ")
}

// detail lists what was acknowledged, by kind.
func detail(counts map[string]int) string {
	kinds := map[string]int{}
	for what, n := range counts {
		if kind, ok := strings.CutPrefix(what, "acknowledged "); ok {
			kinds[kind] = n
		}
	}
	return totals(kinds)
}
