package prove

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"

	"twinspan/cwmp/soap"
	"twinspan/usp/controller"
)

// diskFault is one way in which a disk fails.
type diskFault struct {
	name  string
	errno syscall.Errno
	torn  bool // half of the data is written before the error
	times int  // consecutive calls that fail
}

var diskFaults = []diskFault{
	{"ENOSPC", syscall.ENOSPC, false, 1},
	{"EIO", syscall.EIO, false, 1},
	{"EIO after half a write", syscall.EIO, true, 1},
	{"ENOSPC for a while", syscall.ENOSPC, false, 6},
	{"EIO for a while", syscall.EIO, false, 6},
	{"EDQUOT", syscall.EDQUOT, false, 2},
}

// faultRun fails one agent's disk at every place, one after the other.
type faultRun struct {
	*tapped
	rnd    *rand.Rand
	counts map[string]int
	codes  map[string]int
}

// arm makes the n-th call from now fail, and as many after it as the fault says. met tells, later, the kind of the first.
func (f *faultRun) arm(n int, d diskFault) (met func() string) {
	what := ""
	left := d.times
	f.t.setFault(func(c *call) (syscall.Errno, int) {
		if c.kind == callMap {
			return 0, 0 // see grow
		}
		if n--; n > 0 || left == 0 {
			return 0, 0
		}
		left--
		if what == "" {
			what = c.kind.String()
		}
		if d.torn && c.kind == callWrite {
			return d.errno, len(c.data) / 2
		}
		return d.errno, 0
	})
	return func() string {
		f.t.mu.Lock()
		defer f.t.mu.Unlock()
		return what
	}
}

// io runs operations of all lanes; each operation is repeated with the fault one call later, until it ends without meeting it.
func faults(ctx context.Context, o Options, rounds int) (*Result, error) {
	res := &Result{Name: "io"}
	op, err := newOpener()
	if err != nil {
		return res, err
	}
	defer op.close()
	f := &faultRun{counts: map[string]int{}, codes: map[string]int{}, rnd: random(o.Seed)}
	calls := 0
	for run := 0; f.counts["faults met"] < rounds; run++ {
		if f.tapped, err = newTapped(ctx, o, 24+run%2*1976); err != nil {
			return res, err
		}
		err := f.all(ctx, min(rounds-f.counts["faults met"], 250))
		var st *stream
		if err == nil {
			st, err = f.stream()
		}
		if err == nil {
			calls += len(st.calls)
			err = op.walk(ctx, st, o.Seed+uint64(run), 12, 1, func(at int64) func(v *view) error {
				return func(v *view) error { _, err := f.j.check(v, f.lanes, at); return err }
			})
		}
		f.close()
		if err != nil {
			return res, err
		}
	}
	if err := f.grow(ctx, o); err != nil {
		return res, err
	}
	if err := f.births(ctx, o, max(1, 600/rounds)); err != nil {
		return res, err
	}
	res.Cases = f.counts["faults met"]
	delete(f.counts, "faults met")
	res.say("%d disk faults met by the running or starting agent: %s", res.Cases, totals(f.counts))
	res.say("answers to the writers: %s", totals(f.codes))
	res.say("%d images of power cuts among %d calls, with pages forgotten after failed syncs: %s", op.n, calls, totals(op.counts))
	return res, nil
}

// all fails operations until enough faults were met.
func (f *faultRun) all(ctx context.Context, target int) error {
	begin := f.counts["faults met"]
	for i := 0; f.counts["faults met"]-begin < target; i++ {
		d := diskFaults[i%len(diskFaults)]
		l := f.lanes[f.rnd.IntN(len(f.lanes))]
		l.faulty = true
		for n := 1; ; n++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			met, err := f.one(ctx, l, n, d)
			if err != nil {
				return fmt.Errorf("%s at call %d of an operation of %s: %w", d.name, n, l.name, err)
			}
			if met == "" {
				break
			}
		}
		l.faulty = false
		if !l.step(ctx) || f.j.seen != nil { // the disk works again: so must the agent
			return fmt.Errorf("after %s the agent does not recover: %s: %w", d.name, l.recent(f.t.len(), 1), errors.Join(f.j.seen, l.lost))
		}
		f.counts["operations after the disk was well again"]++
	}
	return nil
}

// one does one operation with a fault in it.
func (f *faultRun) one(ctx context.Context, l *lane, n int, d diskFault) (met string, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	told := f.arm(n, d)
	ok := l.step(ctx)
	met = told()
	if met != "" {
		f.counts["faults met"]++
		f.counts[fmt.Sprintf("%s at %s", d.name, met)]++
	}
	last := l.hist[len(l.hist)-1]
	if !ok {
		return met, fmt.Errorf("%s got no answer: %w", last.what, l.lost)
	}
	if last.outcome == failed {
		f.codes[code(l.lost)]++
		if err := legal(l.lost); err != nil {
			return met, err
		}
	}
	if f.j.seen != nil {
		return met, f.j.seen
	}
	// Reads go on, also while the disk is bad, and show what was acknowledged and nothing else.
	values, err := readUSP(ctx, f.r.b)
	f.t.setFault(nil)
	if err != nil {
		return met, fmt.Errorf("reading while the disk is bad: %w", err)
	}
	f.counts["reads while the disk was bad"]++
	v := viewOfValues(values)
	for _, l := range f.lanes {
		if d := l.differs(v, l.now); d != "" {
			return met, fmt.Errorf("what is read is not what was acknowledged: %s: %s; last operations: %s", l.name, d, l.recent(f.t.len(), 3))
		}
	}
	return met, nil
}

// code of an answer, in words.
func code(err error) string {
	var u *controller.Error
	var c *soap.Fault
	switch {
	case errors.As(err, &u):
		return fmt.Sprintf("USP %d", u.Code)
	case errors.As(err, &c):
		return fmt.Sprintf("CWMP %d", c.Code)
	}
	return "lost"
}

// legal: a failing disk is an internal error or a lack of resources, and the text says what is wrong.
func legal(err error) error {
	switch c := code(err); c {
	case "USP 7003", "USP 7005", "USP 7004", "CWMP 9002", "CWMP 9004":
	default:
		return fmt.Errorf("a failing disk was answered by %s: %w", c, err)
	}
	if strings.TrimSpace(err.Error()) == "" {
		return errors.New("the answer has no text")
	}
	return nil
}

// grow makes the file grow, and fails the growing: truncations and mappings. After a failed mapping the agent may need a restart; what was
// acknowledged must be there.
func (f *faultRun) grow(ctx context.Context, o Options) error {
	for _, kind := range []callKind{callTruncate, callMap} {
		for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.ENOMEM, syscall.EIO} {
			if err := f.growOnce(ctx, o, kind, errno); err != nil {
				return fmt.Errorf("%s of the database fails with %v: %w", kind, errno, err)
			}
		}
	}
	return nil
}

const bigValue = 400 << 10

func (f *faultRun) growOnce(ctx context.Context, o Options, kind callKind, errno syscall.Errno) error {
	p, err := newTapped(ctx, o, 40)
	if err != nil {
		return err
	}
	defer p.close()
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	met := false
	p.t.setFault(func(c *call) (syscall.Errno, int) {
		if c.kind == kind && !met {
			met = true
			return errno, 0
		}
		return 0, 0
	})
	acked, failures := map[int]string{}, 0
	unsure := map[int]bool{}
	for row := 1; row < confirmRow; row++ {
		v := strings.Repeat(string(rune('a'+row%26)), bigValue)
		_, err := uspFace{p.r.a}.set(ctx, []object{{fmt.Sprintf("%s%d.", clients, row), [][2]string{{"Servers", v}}}}, false, "")
		if err == nil {
			acked[row] = v
			continue
		}
		if !answered(err) {
			return fmt.Errorf("no answer: %w", err)
		}
		if err := legal(err); err != nil {
			return err
		}
		f.codes[code(err)]++
		failures++
		unsure[row] = true
		for row, v := range acked {
			if got, err := p.r.b.Value(ctx, fmt.Sprintf("%s%d.Servers", clients, row)); err != nil || got != v {
				return fmt.Errorf("row %d reads otherwise than acknowledged (%v)", row, err)
			}
			f.counts["reads while the disk was bad"]++
		}
		if failures == 3 {
			break
		}
	}
	if !met {
		return fmt.Errorf("the file did not grow with %d values of %d bytes", len(acked), bigValue)
	}
	f.counts["faults met"]++
	f.counts[fmt.Sprintf("%v at %s, growing", errno, kind)]++
	return p.afterGrowing(ctx, acked, unsure)
}

// afterGrowing restarts the agent and looks for what was acknowledged.
func (p *tapped) afterGrowing(ctx context.Context, acked map[int]string, unsure map[int]bool) error {
	if _, err := p.stream(); err != nil {
		return err
	}
	p.hold()
	release, _, err := p.r.up(ctx)
	defer release()
	if err != nil {
		return fmt.Errorf("starting again: %w", err)
	}
	for row, v := range acked {
		if got, err := p.r.a.Value(ctx, fmt.Sprintf("%s%d.Servers", clients, row)); err != nil || got != v {
			return fmt.Errorf("row %d was acknowledged and is lost (%v)", row, err)
		}
	}
	for row := range unsure {
		if v, err := p.r.a.Value(ctx, fmt.Sprintf("%s%d.Servers", clients, row)); err != nil || v != "" && len(v) != bigValue {
			return fmt.Errorf("row %d has half a value of %d bytes (%v)", row, len(v), err)
		}
	}
	_, err = uspFace{p.r.a}.set(ctx, []object{client(1, "well-1")}, false, "")
	if err != nil {
		return fmt.Errorf("writing after the restart: %w", err)
	}
	return nil
}
