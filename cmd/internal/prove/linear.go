package prove

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"twinspan/usp/controller"
)

// registers are the parameters whose history is kept; every value is written once only.
var registers = [3]string{clients + "1.Servers", clients + "2.Servers", clients + "3.Servers"}

type registerState [3]string

// access is one operation of a history.
type access struct {
	read  bool
	at    []int // of a write: which registers
	value string
}

// history is what all clients of one run were told.
type history struct {
	ops    []porcupine.Operation
	shield []error // what sessions of the ACS saw of others
}

// linearModel: there must be one order of the operations, within the times of their calls and answers, that three variables explain.
var linearModel = porcupine.Model{
	Init: func() any { return registerState{} },
	Step: func(s, in, out any) (bool, any) {
		st, a := s.(registerState), in.(access)
		if a.read {
			return st == out.(registerState), st
		}
		for _, i := range a.at {
			st[i] = a.value
		}
		return true, st
	},
	Equal:             func(a, b any) bool { return a == b },
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %v", in, out) },
}

// checkTime bounds the search for an order; a history that is not decided by then is counted as undecided, and too many are an error.
const checkTime = 20 * time.Second

// linearRun is one agent whose histories are checked one after the other.
type linearRun struct {
	r    *rig
	hold func()
	n    int
}

// anew restarts the agent: connection requests are limited to ten in a row, and each session of a history takes one.
func (l *linearRun) anew(ctx context.Context) (err error) {
	l.hold()
	if err := l.r.agent.Stop(ctx); err != nil {
		return err
	}
	l.hold, _, err = l.r.up(ctx)
	return err
}

func linear(ctx context.Context, o Options, rounds int) (*Result, error) {
	res := &Result{Name: "linear"}
	r, err := newRig(ctx, rigOptions{binary: o.Agent, journal: 200})
	if err != nil {
		return res, err
	}
	defer r.close()
	l := &linearRun{r: r, hold: func() {}}
	defer func() { l.hold() }()
	ops, undecided := 0, 0
	planted, found := map[string]int{}, map[string]int{}
	for h := range max(rounds/50, 2) {
		hist, err := l.run(ctx, o.Seed+uint64(h))
		if err != nil {
			return res, err
		}
		ops += len(hist.ops)
		if err := errors.Join(hist.shield...); err != nil {
			return res, fmt.Errorf("session shield: %w", err)
		}
		switch porcupine.CheckOperationsTimeout(linearModel, hist.ops, checkTime) {
		case porcupine.Illegal:
			return res, fmt.Errorf("history %d of %d operations has no order that explains it", h+1, len(hist.ops))
		case porcupine.Unknown:
			undecided++
			continue
		}
		res.Cases++
		for _, p := range plants {
			bad, ok := p.plant(hist.ops)
			if !ok {
				continue
			}
			planted[p.name]++
			if porcupine.CheckOperationsTimeout(linearModel, bad, checkTime) == porcupine.Illegal {
				found[p.name]++
			}
		}
	}
	for _, p := range plants {
		if planted[p.name] == 0 || found[p.name] < planted[p.name] {
			return res, fmt.Errorf("the checker is blind: %q was planted %d times and found %d times", p.name, planted[p.name], found[p.name])
		}
	}
	leaks, seen, err := l.leaks(ctx)
	if err != nil {
		return res, err
	}
	if leaks == 0 || seen < leaks {
		return res, fmt.Errorf("the checker is blind: a leak of the session shield was planted %d times and found %d times", leaks, seen)
	}
	found["a leak of the session shield"] = seen
	res.say("%d histories of %d reads and writes by five clients over both protocols are linearizable, %d undecided in %s", res.Cases, ops, undecided, checkTime)
	res.say("planted faults, all found: %s", totals(found))
	if undecided > res.Cases/10 {
		return res, fmt.Errorf("%d of %d histories are undecided", undecided, undecided+res.Cases)
	}
	return res, nil
}

// recorder collects operations. Safe for concurrent use.
type recorder struct {
	mu    sync.Mutex
	begin time.Time
	h     history
	err   error
}

func (rec *recorder) now() int64 { return int64(time.Since(rec.begin)) }

func (rec *recorder) add(client int, in access, out registerState, call, ret int64) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.h.ops = append(rec.h.ops, porcupine.Operation{ClientId: client, Input: in, Output: out, Call: call, Return: ret})
}

func (rec *recorder) fail(err error) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.err = errors.Join(rec.err, err)
}

const (
	linearOps      = 40 // of each Controller's client
	linearSessions = 8  // of the ACS
)

// run makes one history: all registers are written, then five clients go on at once, then all are read.
func (l *linearRun) run(ctx context.Context, seed uint64) (*history, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	if err := l.anew(ctx); err != nil {
		return nil, err
	}
	rec := &recorder{begin: time.Now()}
	l.n++
	run := l.n
	value := func(client, n int) string { return fmt.Sprintf("h%d-%d-%d", run, client, n) }
	l.write(ctx, rec, 0, l.r.a, access{at: []int{0, 1, 2}, value: value(0, 0)})
	var wg sync.WaitGroup
	for c, face := range []*controller.Controller{l.r.a, l.r.b, l.r.a, l.r.b} {
		rnd := rand.New(rand.NewPCG(seed, uint64(c)))
		wg.Go(func() {
			for n := 1; n <= linearOps && ctx.Err() == nil; n++ {
				if rnd.IntN(2) == 0 {
					l.read(ctx, rec, c, face)
					continue
				}
				l.write(ctx, rec, c, face, access{at: subset(rnd), value: value(c, n)})
			}
		})
	}
	wg.Go(func() {
		rnd := rand.New(rand.NewPCG(seed, 99))
		for n := range linearSessions {
			if err := l.session(ctx, rec, access{at: subset(rnd), value: value(4, n)}, nil); err != nil {
				rec.fail(err)
				return
			}
		}
		if err := l.r.newSession(ctx, &l.hold); err != nil { // what the last one wrote is held no longer
			rec.fail(err)
		}
	})
	wg.Wait()
	l.read(ctx, rec, 0, l.r.b)
	return &rec.h, rec.err
}

// subset of the registers, not empty.
func subset(rnd *rand.Rand) []int {
	mask := 1 + rnd.IntN(7)
	var out []int
	for i := range registers {
		if mask>>i&1 != 0 {
			out = append(out, i)
		}
	}
	return out
}

func (l *linearRun) read(ctx context.Context, rec *recorder, client int, c *controller.Controller) (s registerState) {
	call := rec.now()
	got, err := c.Get(ctx, registers[:]...)
	if err != nil {
		rec.fail(err)
		return s
	}
	for i, p := range registers {
		s[i] = got[p]
	}
	rec.add(client, access{read: true}, s, call, rec.now())
	return s
}

func (a access) objects() []object {
	var out []object
	for _, i := range a.at {
		out = append(out, object{fmt.Sprintf("%s%d.", clients, i+1), [][2]string{{"Servers", a.value}}})
	}
	return out
}

func (l *linearRun) write(ctx context.Context, rec *recorder, client int, c *controller.Controller, a access) {
	call := rec.now()
	_, err := uspFace{c}.set(ctx, a.objects(), false, "")
	switch {
	case err == nil:
		rec.add(client, a, registerState{}, call, rec.now())
	case !answered(err):
		rec.fail(err)
	} // refused: held by the ACS's session for too long; it has no effect
}

// session is one session of the ACS: two reads, a write, a read. The first read counts from the Inform, since the session sees the device
// as it was when the session began; the others must see that and the session's own write, whatever the Controllers do. leak spoils the
// second read, to show that it is seen.
func (l *linearRun) session(ctx context.Context, rec *recorder, a access, leak func() registerState) error {
	if err := l.r.newSession(ctx, &l.hold); err != nil {
		return err
	}
	face := &acsFace{device: l.r.device}
	read := func() (s registerState, err error) {
		list, err := face.device.GetValues(ctx, registers[:]...)
		for _, p := range list {
			if i := slices.Index(registers[:], p.Name); i >= 0 {
				s[i] = p.Value
			}
		}
		return s, err
	}
	first, err := read()
	if err != nil {
		return err
	}
	inform, _ := l.r.device.LastInform()
	rec.add(4, access{read: true}, first, int64(inform.At.Sub(rec.begin)), rec.now())
	second, err := read()
	if err != nil {
		return err
	}
	if leak != nil {
		second = leak()
	}
	if second != first {
		rec.shield(fmt.Errorf("a session read %v, then %v", first, second))
	}
	call := rec.now()
	if _, err := face.set(ctx, a.objects(), false, ""); err != nil {
		return fmt.Errorf("SetParameterValues: %w", err)
	}
	rec.add(4, a, registerState{}, call, rec.now())
	want := first
	for _, i := range a.at {
		want[i] = a.value
	}
	third, err := read()
	if err == nil && third != want {
		rec.shield(fmt.Errorf("a session that wrote %v over %v read %v", a, first, third))
	}
	return err
}

func (rec *recorder) shield(err error) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.h.shield = append(rec.h.shield, err)
}

// leaks plants what a Controller sees into sessions.
func (l *linearRun) leaks(ctx context.Context) (planted, found int, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := l.anew(ctx); err != nil {
		return 0, 0, err
	}
	for n := range 5 {
		rec := &recorder{begin: time.Now()}
		err := l.session(ctx, rec, access{at: []int{1}, value: fmt.Sprintf("leak-acs-%d", n)}, func() registerState {
			l.write(ctx, rec, 0, l.r.a, access{at: []int{0}, value: fmt.Sprintf("leak-a-%d", n)})
			return l.read(ctx, rec, 0, l.r.a)
		})
		if err := errors.Join(err, rec.err); err != nil {
			return planted, found, err
		}
		planted++
		if len(rec.h.shield) > 0 {
			found++
		}
	}
	return planted, found, nil
}

// plants are faults that the checker must find. Each spoils a copy of an honest history in a way that no order explains; ok is false when
// the history has no place for it.
var plants = []struct {
	name  string
	plant func(ops []porcupine.Operation) (bad []porcupine.Operation, ok bool)
}{
	{"a stale read", func(ops []porcupine.Operation) ([]porcupine.Operation, bool) {
		return spoil(ops, func(old, w, r *porcupine.Operation, i int) bool { return true })
	}},
	{"a lost update", func(ops []porcupine.Operation) ([]porcupine.Operation, bool) {
		last := slices.MaxFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) }).Call
		return spoil(ops, func(old, w, r *porcupine.Operation, i int) bool { return r.Call == last }) // nobody ever sees the write again
	}},
	{"half a transaction", func(ops []porcupine.Operation) ([]porcupine.Operation, bool) {
		return spoil(ops, func(old, w, r *porcupine.Operation, i int) bool {
			a := w.Input.(access)
			for _, k := range a.at {
				if k != i && r.Output.(registerState)[k] == a.value && r.Output.(registerState)[i] == a.value {
					return true
				}
			}
			return false
		})
	}},
	{"writes in the wrong order", func(ops []porcupine.Operation) ([]porcupine.Operation, bool) {
		return spoil(ops, func(old, w, r *porcupine.Operation, i int) bool {
			return w.ClientId == r.ClientId && r.Output.(registerState)[i] == w.Input.(access).value // a client that sees its own write undone
		})
	}},
}

// spoil looks for a read r of register i after a write w of it, which began after another read had seen an older value, and gives r that
// older value.
func spoil(ops []porcupine.Operation, fits func(old, w, r *porcupine.Operation, i int) bool) ([]porcupine.Operation, bool) {
	for o := range ops {
		if !ops[o].Input.(access).read {
			continue
		}
		for w := range ops {
			if a := ops[w].Input.(access); a.read || ops[w].Call <= ops[o].Return {
				continue
			}
			for r := range ops {
				if !ops[r].Input.(access).read || ops[r].Call <= ops[w].Return {
					continue
				}
				for _, i := range ops[w].Input.(access).at {
					older := ops[o].Output.(registerState)[i]
					if older == ops[r].Output.(registerState)[i] || !fits(&ops[o], &ops[w], &ops[r], i) {
						continue
					}
					bad := slices.Clone(ops)
					out := bad[r].Output.(registerState)
					out[i] = older
					bad[r].Output = out
					return bad, true
				}
			}
		}
	}
	return nil, false
}
