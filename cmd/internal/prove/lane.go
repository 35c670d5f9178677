package prove

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"twinspan/cwmp/soap"
	"twinspan/usp/controller"
)

// object is one row and what is to be set in it.
type object struct {
	path   string
	params [][2]string
}

// face is how a lane talks to the agent. An error that answered reports is a refusal; any other means that nobody knows.
type face interface {
	// set writes objects; partial: those that can be, as allow_partial says, and failed counts the others.
	set(ctx context.Context, objs []object, partial bool, key string) (failed int, err error)
	// add makes rows, all or none; it returns their instance numbers.
	add(ctx context.Context, rows []object, key string) ([]uint32, error)
	del(ctx context.Context, table string, rows []uint32, key string) error
}

// answered reports whether an error is the agent's answer, and not the loss of one.
func answered(err error) bool {
	var usp *controller.Error
	var cwmp *soap.Fault
	return errors.As(err, &usp) || errors.As(err, &cwmp)
}

// lane is one sequential client; see the package comment. Not for concurrent use while it runs.
type lane struct {
	name       string
	face       face
	rowA, rowB int
	table      string // where it adds rows
	keyed      bool   // the ACS: ParameterKey, rows without parameters
	bare       bool   // one row in an Add, no allow_partial
	judge      *judge
	clock      func() int64
	rnd        *rand.Rand
	n          int
	now        *state
	hist       []*op
	private    bool  // does not write the shared pair: an open session of the ACS would make the others wait for it
	faulty     bool  // its operations may fail for want of a disk
	lost       error // the last error
	keep       bool  // remember all operations, not only those since the last settle
	uploads    func(ctx context.Context) error
}

func newLane(name string, f face, rowA int, j *judge, clock func() int64, seed uint64) *lane {
	return &lane{name: name, face: f, rowA: rowA, rowB: rowA + 1, table: mappings, judge: j, clock: clock, rnd: rand.New(rand.NewPCG(seed, uint64(rowA))),
		now: &state{rows: map[string]uint32{}, raw: -1}}
}

// possible lists the states that the lane's part may be in at a time.
func (l *lane) possible(at int64) []*state {
	out := []*state{l.now}
	if len(l.hist) > 0 {
		out[0] = l.hist[0].before
	}
	for _, o := range l.hist {
		if o.from > at || o.after == nil {
			continue
		}
		switch {
		case o.outcome == done && o.to <= at:
			out = []*state{o.after}
		case o.outcome == refused:
		default:
			out = append(out, o.after)
		}
	}
	return out
}

// recent describes the last operations sent before a time.
func (l *lane) recent(at int64, n int) string {
	var out []string
	for i := len(l.hist) - 1; i >= 0 && len(out) < n; i-- {
		if o := l.hist[i]; o.from <= at {
			out = append(out, fmt.Sprintf("%s (%s)", o.what, o.outcome))
		}
	}
	return strings.Join(out, ", ")
}

// settle takes what was found after a crash for the truth.
func (l *lane) settle(s *state, v *view) {
	l.now = s.clone()
	l.learn(v, l.now)
	l.hist = nil
}

func (l *lane) next() string {
	l.n++
	return l.name + "-" + strconv.Itoa(l.n)
}

func client(row int, value string) object {
	return object{fmt.Sprintf("%s%d.", clients, row), [][2]string{{"Servers", value}, {"Burst", number(value)}}}
}

func mapping(label string) object {
	return object{mappings, [][2]string{{"RemoteHost", label}, {"Description", label}, {"ExternalPort", "80"}, {"Protocol", "TCP"}, {"InternalClient", label}}}
}

// run steps until the context ends or an answer is lost.
func (l *lane) run(ctx context.Context) {
	for ctx.Err() == nil {
		if !l.step(ctx) {
			return
		}
	}
}

// step does one random operation; false: its answer was lost, and the lane cannot go on.
func (l *lane) step(ctx context.Context) bool {
	if l.keyed && l.now.raw > 0 && l.rnd.IntN(2) == 0 {
		return l.label(ctx)
	}
	switch k := l.rnd.IntN(20); {
	case k < 5:
		return l.setBoth(ctx)
	case k < 7 && !l.bare:
		return l.setPartly(ctx)
	case k < 9:
		return l.setNothing(ctx)
	case k < 14 && len(l.now.rows) < 8 && l.now.raw < 0:
		return l.addRows(ctx)
	case k < 17 && len(l.now.rows) > 0:
		return l.deleteRows(ctx)
	case k < 18 && l.uploads != nil:
		return l.uploads(ctx) == nil
	case l.private:
		return l.setBoth(ctx)
	default:
		return l.setShared(ctx)
	}
}

// begin notes that an operation is on its way.
func (l *lane) begin(what string, after *state) *op {
	o := &op{what: what, from: l.clock(), before: l.now, after: after}
	l.hist = append(l.hist, o)
	return o
}

// end notes its answer. mustFail: the operation cannot succeed.
func (l *lane) end(o *op, err error, mustFail bool) bool {
	o.to = l.clock()
	l.lost = err
	switch {
	case answered(err) && l.faulty && !mustFail:
		o.outcome = failed
	case err == nil && mustFail:
		l.judge.fail(fmt.Errorf("%s: %s was acknowledged, and cannot be", l.name, o.what))
		o.outcome = done
	case err == nil:
		o.outcome = done
		if o.after != nil {
			l.now = o.after
		}
	case answered(err):
		o.outcome = refused
		if !mustFail && o.shared == "" {
			l.judge.fail(fmt.Errorf("%s: %s was refused: %w", l.name, o.what, err))
		}
	}
	l.judge.count(o)
	if o.outcome == unanswered {
		return false
	}
	if !l.keep && len(l.hist) > 4 {
		l.hist = l.hist[1:]
	}
	return true
}

func (l *lane) setBoth(ctx context.Context) bool {
	v, after := l.next(), l.now.clone()
	after.a, after.b = v, v
	if l.keyed {
		after.key = v
	}
	o := l.begin("set of two objects", after)
	_, err := l.face.set(ctx, []object{client(l.rowA, v), client(l.rowB, v)}, false, after.key)
	return l.end(o, err, false)
}

// bad is an object with a value that its type does not take.
func (l *lane) bad(v string) object {
	o := client(l.rowB, v)
	o.params = append(o.params, [2]string{"Port", "0"})
	return o
}

// setPartly sends one good and one bad object with allow_partial.
func (l *lane) setPartly(ctx context.Context) bool {
	v, after := l.next(), l.now.clone()
	after.a = v
	o := l.begin("set with allow_partial", after)
	failed, err := l.face.set(ctx, []object{client(l.rowA, v), l.bad(v)}, true, "")
	if err == nil && failed != 1 {
		l.judge.fail(fmt.Errorf("%s: allow_partial with one bad object of two: %d failed", l.name, failed))
	}
	return l.end(o, err, false)
}

// setNothing sends one good and one bad object that belong together: nothing may change.
func (l *lane) setNothing(ctx context.Context) bool {
	v := l.next()
	o := l.begin("set that must fail whole", l.now)
	_, err := l.face.set(ctx, []object{client(l.rowA, v), l.bad(v)}, false, v)
	return l.end(o, err, true)
}

func (l *lane) addRows(ctx context.Context) bool {
	after := l.now.clone()
	if l.keyed {
		after.raw, after.key = 0, l.next()
		o := l.begin("add of a row", after)
		nums, err := l.face.add(ctx, []object{{path: l.table}}, after.key)
		if err == nil {
			if err := l.judge.take(rowID{l.table, nums[0]}, "", true); err != nil {
				l.judge.fail(err)
			}
			after.raw = int64(nums[0])
		}
		return l.end(o, err, false)
	}
	var rows []object
	var labels []string
	for range 1 + l.rnd.IntN(2) {
		if l.bare && len(rows) > 0 {
			break
		}
		label := l.next()
		rows, labels = append(rows, mapping(label)), append(labels, label)
		after.rows[label] = 0
	}
	o := l.begin(fmt.Sprintf("add of %d rows", len(rows)), after)
	nums, err := l.face.add(ctx, rows, "")
	if err == nil && len(nums) == len(labels) {
		for i, label := range labels {
			if err := l.judge.take(rowID{l.table, nums[i]}, label, true); err != nil {
				l.judge.fail(err)
			}
			after.rows[label] = nums[i]
		}
	}
	return l.end(o, err, false)
}

// label gives the ACS's row its parameters.
func (l *lane) label(ctx context.Context) bool {
	v, after := l.next(), l.now.clone()
	row := uint32(after.raw)
	after.rows[v], after.raw, after.key = row, -1, v
	o := l.begin("set of a new row", after)
	names := tables[l.table]
	obj := object{fmt.Sprintf("%s%d.", l.table, row), [][2]string{{names[0], v}, {names[1], v}}}
	_, err := l.face.set(ctx, []object{obj}, false, v)
	return l.end(o, err, false)
}

func (l *lane) deleteRows(ctx context.Context) bool {
	after := l.now.clone()
	var nums []uint32
	for label, i := range l.now.rows {
		if i == 0 || len(nums) == 2 || l.bare && len(nums) == 1 {
			break
		}
		delete(after.rows, label)
		nums = append(nums, i)
	}
	if len(nums) == 0 {
		return true
	}
	if l.keyed {
		after.key = l.next()
	}
	o := l.begin(fmt.Sprintf("delete of %d rows", len(nums)), after)
	return l.end(o, l.face.del(ctx, l.table, nums, after.key), false)
}

func (l *lane) setShared(ctx context.Context) bool {
	v := l.next()
	after := l.now
	if l.keyed {
		after = l.now.clone()
		after.key = v
	}
	o := l.begin("set of the shared pair", after)
	o.shared = v
	l.judge.mu.Lock()
	l.judge.writes = append(l.judge.writes, o)
	l.judge.mu.Unlock()
	_, err := l.face.set(ctx, []object{client(l.judge.sharedA, v), client(l.judge.sharedB, v)}, false, v)
	if !l.end(o, err, false) {
		return false
	}
	if f, ok := l.face.(*acsFace); ok && f.renew != nil { // what a session has written is held until its end
		return f.renew(ctx) == nil
	}
	return true
}
