package prove

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"

	"twinspan/store"
)

// Where the lanes write.
const (
	clients  = "Device.Time.Client."
	mappings = "Device.NAT.PortMapping."
	users    = "Device.Users.User." // the ACS's rows: what a session adds to holds the table for everybody else
	keyPath  = "Device.ManagementServer.ParameterKey"

	defaultBurst = "8" // of Device.Time.Client.{i}.Burst, by the data model
)

// tables are those that rows are added to, with the two parameters that say who a row belongs to.
var tables = map[string][2]string{mappings: {"Description", "InternalClient"}, users: {"Username", "Language"}}

// rowID is a row of one of the tables.
type rowID struct {
	table string
	i     uint32
}

func (r rowID) String() string { return fmt.Sprintf("%s%d.", r.table, r.i) }

// state is what one lane's part of the device holds.
type state struct {
	a, b string            // of its two rows of clients: "name-n", "" before the first write
	key  string            // ParameterKey, the ACS only
	rows map[string]uint32 // by label; instance 0: not known yet
	raw  int64             // a row without label: -1 none, 0 there, its number not known, else the number
}

func (s *state) clone() *state {
	c := *s
	c.rows = maps.Clone(s.rows)
	return &c
}

// outcome of an operation, as its client was told.
type outcome uint8

const (
	unanswered outcome = iota
	done
	refused
	failed // answered as failed, for a reason that may leave it on disk until the next commit takes it back
)

func (o outcome) String() string {
	return [...]string{"unanswered", "acknowledged", "refused", "failed"}[o]
}

// op is one operation of a lane. Times are of the judge's clock.
type op struct {
	what     string
	from, to int64 // sent, answered
	outcome  outcome
	before   *state
	after    *state // nil: it writes the shared pair only
	shared   string // what it writes there
}

// view is what was read of the device, from any side.
type view struct {
	time   map[int][2]string // Servers, Burst
	rows   map[rowID][2]string
	key    string
	hasKey bool
}

func newView() *view { return &view{time: map[int][2]string{}, rows: map[rowID][2]string{}} }

// add takes one parameter.
func (v *view) add(path, value string) {
	if path == keyPath {
		v.key, v.hasKey = value, true
		return
	}
	if rest, ok := strings.CutPrefix(path, clients); ok {
		num, leaf, _ := strings.Cut(rest, ".")
		i, _ := strconv.Atoi(num)
		r := v.time[i]
		switch leaf {
		case "Servers":
			r[0] = value
		case "Burst":
			r[1] = value
		}
		v.time[i] = r
	}
	for table, names := range tables {
		rest, ok := strings.CutPrefix(path, table)
		if !ok {
			continue
		}
		num, leaf, _ := strings.Cut(rest, ".")
		i, _ := strconv.ParseUint(num, 10, 32)
		id := rowID{table, uint32(i)}
		r := v.rows[id]
		switch leaf {
		case names[0]:
			r[0] = value
		case names[1]:
			r[1] = value
		}
		v.rows[id] = r
	}
}

func viewOfValues(values map[string]string) *view {
	v := newView()
	for p, value := range values {
		v.add(p, value)
	}
	return v
}

// viewOfStore reads a database as it lies there.
func viewOfStore(ver *store.Version) *view {
	v := newView()
	for table := range tables {
		for _, i := range ver.Instances(table) {
			v.rows[rowID{table, i}] = [2]string{}
		}
	}
	for _, below := range []string{clients, mappings, users} {
		ver.Walk(below, func(path string, l store.Leaf) bool { v.add(path, l.Value); return true })
	}
	for i, r := range v.time {
		if r[1] == "" {
			v.time[i] = [2]string{r[0], defaultBurst} // not stored as long as nobody wants another value
		}
	}
	if l, ok := ver.Leaf(keyPath); ok {
		v.add(keyPath, l.Value)
	} else {
		v.add(keyPath, "")
	}
	return v
}

// number is the n of "name-n", the value that the second parameter of a row has.
func number(value string) string { return value[strings.LastIndexByte(value, '-')+1:] }

// differs says how the view of a lane's part differs from a state; "" not at all.
func (l *lane) differs(v *view, s *state) string {
	for i, want := range map[int]string{l.rowA: s.a, l.rowB: s.b} {
		got := v.time[i]
		if got[0] != want || want != "" && got[1] != number(want) {
			return fmt.Sprintf("%s%d. is %q/%q, not %q", clients, i, got[0], got[1], want)
		}
	}
	if l.keyed && v.hasKey && v.key != s.key {
		return fmt.Sprintf("ParameterKey is %q, not %q", v.key, s.key)
	}
	found := map[string]uint32{}
	raw := int64(-1)
	for id, r := range v.rows {
		i := id.i
		switch {
		case id.table != l.table:
		case r[0] == "" && r[1] == "":
			if l.keyed { // only the ACS adds rows without parameters
				if raw >= 0 {
					return "two rows without a label"
				}
				raw = int64(i)
			}
		case strings.HasPrefix(r[0], l.name+"-") || strings.HasPrefix(r[1], l.name+"-"):
			if r[0] != r[1] {
				return fmt.Sprintf("%s is half: %q and %q", id, r[0], r[1])
			}
			if _, twice := found[r[0]]; twice {
				return fmt.Sprintf("row %s is there twice", r[0])
			}
			found[r[0]] = i
		}
	}
	for label, i := range s.rows {
		if got, ok := found[label]; !ok || i != 0 && got != i {
			return fmt.Sprintf("row %s (instance %d) is missing or elsewhere (%d)", label, i, got)
		}
	}
	for label, i := range found {
		if _, ok := s.rows[label]; !ok {
			return fmt.Sprintf("row %s (instance %d) should not be there", label, i)
		}
	}
	if (raw >= 0) != (s.raw >= 0) || s.raw > 0 && raw != s.raw {
		return fmt.Sprintf("row without label: %d, not %d", raw, s.raw)
	}
	return ""
}

// learn fills in instance numbers that no answer told.
func (l *lane) learn(v *view, s *state) {
	for id, r := range v.rows {
		if _, ours := s.rows[r[0]]; ours {
			s.rows[r[0]] = id.i
		}
		if r[0] == "" && r[1] == "" && id.table == l.table && l.keyed {
			s.raw = int64(id.i)
		}
	}
}

// judge keeps what all lanes must agree on. Safe for concurrent use.
type judge struct {
	sharedA, sharedB int // rows of clients that everybody writes

	mu     sync.Mutex
	used   map[rowID]string // label of the row that had a number
	writes []*op            // to the shared pair
	counts map[string]int   // of operations, by what and outcome
	seen   error            // the first violation found while writing
}

func newJudge(sharedA, sharedB int) *judge {
	return &judge{sharedA: sharedA, sharedB: sharedB, used: map[rowID]string{}, counts: map[string]int{}}
}

// fail notes a violation.
func (j *judge) fail(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.seen == nil {
		j.seen = err
	}
}

// count notes an answered or lost operation.
func (j *judge) count(o *op) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.counts[o.outcome.String()]++
	if o.outcome == done {
		j.counts["acknowledged "+o.what]++
	}
}

// owner of an instance, as far as its label tells.
func owner(label string) string {
	if label == "" {
		return "acs"
	}
	name, _, _ := strings.Cut(label, "-")
	if name == "acs" {
		return name
	}
	return label
}

// take notes that a row has an instance number; fresh: it was just added, so nobody may have had it. Instance numbers are never reused.
func (j *judge) take(i rowID, label string, fresh bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	was, ok := j.used[i]
	if ok && (fresh || was != owner(label)) {
		return fmt.Errorf("instance number of %s was %q's and is given to %q", i, was, owner(label))
	}
	j.used[i] = owner(label)
	return nil
}

// checkShared judges the pair that everybody writes, at a time: what was sent later does not count. It returns the value found.
func (j *judge) checkShared(v *view, at int64) (string, error) {
	a, b := v.time[j.sharedA], v.time[j.sharedB]
	if a[0] != b[0] || a[1] != b[1] || a[0] != "" && a[1] != number(a[0]) {
		return "", fmt.Errorf("half a write of the shared pair: %q/%q and %q/%q", a[0], a[1], b[0], b[1])
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	var found *op
	for _, w := range j.writes {
		if w.shared == a[0] {
			found = w
		}
	}
	switch {
	case found == nil && a[0] != "" || found != nil && (found.from > at || found.outcome == refused):
		return "", fmt.Errorf("the shared pair holds %q, which nobody wrote", a[0])
	case found != nil && (found.outcome == unanswered || found.to > at):
		return a[0], nil // it may have come into force last
	}
	for _, w := range j.writes {
		if w.outcome == done && w.to <= at && (found == nil || w.from > found.to) {
			return "", fmt.Errorf("the shared pair holds %q; %q was acknowledged later and is lost", a[0], w.shared)
		}
	}
	return a[0], nil
}

// settle begins anew with the value found.
func (j *judge) settle(value string, at int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.writes = []*op{{what: "settled", shared: value, from: at, to: at, outcome: done}}
}

// check judges everything that was read against what the lanes were told, at a time of the clock; it changes nothing.
func (j *judge) check(v *view, lanes []*lane, at int64) ([]*state, error) {
	if _, err := j.checkShared(v, at); err != nil {
		return nil, err
	}
	out := make([]*state, len(lanes))
	for i, l := range lanes {
		var why []string
		for _, s := range l.possible(at) {
			d := l.differs(v, s)
			if d == "" {
				out[i] = s
				break
			}
			why = append(why, d)
		}
		if out[i] == nil {
			return nil, fmt.Errorf("%s: %s; last operations: %s", l.name, strings.Join(why, ", or "), l.recent(at, 3))
		}
	}
	for i, r := range v.rows {
		ours := func(l *lane) bool { return strings.HasPrefix(r[0], l.name+"-") }
		if r[0] != "" && !slices.ContainsFunc(lanes, ours) {
			return nil, fmt.Errorf("%s belongs to nobody: %q", i, r[0])
		}
	}
	return out, nil
}

// totals lists the counts in words, sorted.
func totals(counts map[string]int) string {
	keys := slices.Collect(maps.Keys(counts))
	sort.Strings(keys)
	var b strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&b, "%d %s, ", counts[k], k)
	}
	return strings.TrimSuffix(b.String(), ", ")
}
