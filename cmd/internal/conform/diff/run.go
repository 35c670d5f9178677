package diff

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"twinspan/cmd/internal/conform"
	"twinspan/usp/controller"
)

// Config of a run. Binary is required.
type Config struct {
	Binary string
	Dir    string // for working files; empty: the system's
	Only   string // ids or patterns; empty: all
	// Alter changes what a face answered before it is compared: planted faults of tests. nil: not.
	Alter func(face, id, label, outcome string) string
	// Done is called with each result as it comes; nil: not.
	Done func(conform.Result)
}

// row is one entry of the table.
type row struct {
	id, title string
	run       func(s *script)
	// differs declares steps whose outcomes are not the same by the standards, label -> outcomes. The label "state" is what the
	// device holds afterwards: if it is declared, it must differ.
	differs map[string]declared
}

// declared is one difference.
type declared struct{ usp, cwmp, why string }

// script is one row while it runs through one face.
type script struct {
	ctx      context.Context
	f        face
	observer *controller.Controller
	id       string
	alter    func(face, id, label, outcome string) string

	labels []string
	notes  map[string]string // label -> outcome
	wants  map[string]string
	made   []string // rows, in the order in which they were made
}

// broken ends a script: the bench failed, not the agent's answer.
type broken struct{ err error }

func (s *script) check(err error) {
	if err != nil {
		panic(broken{err})
	}
}

// note keeps the outcome of a step; want is what both faces should say, without a declaration.
func (s *script) note(label, want string, err error, more string) string {
	kind, e := outcome(err)
	s.check(e)
	if more = s.plain(more); more != "" && kind == "ok" {
		kind += " " + more
	}
	if s.alter != nil {
		kind = s.alter(s.f.name(), s.id, label, kind)
	}
	if _, twice := s.notes[label]; twice {
		panic(broken{fmt.Errorf("label %q is used twice", label)})
	}
	s.labels = append(s.labels, label)
	s.notes[label], s.wants[label] = kind, want
	return kind
}

var generated = regexp.MustCompile(`cpe-[0-9]+`)

// plain replaces what depends on the run: rows by their place in the script, generated names.
func (s *script) plain(text string) string {
	for i, r := range s.made {
		text = regexp.MustCompile(regexp.QuoteMeta(strings.TrimSuffix(r, "."))+`\b`).ReplaceAllString(text, fmt.Sprintf("{row %d}", i+1))
	}
	return generated.ReplaceAllString(text, "cpe-N")
}

func lines(values map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(values)) {
		out = append(out, k+"="+values[k])
	}
	return strings.Join(out, "; ")
}

func pairs(kv []string) map[string]string {
	m := map[string]string{}
	for i := 0; i+1 < len(kv); i += 2 {
		m[kv[i]] = kv[i+1]
	}
	return m
}

// add makes a row with settings. A row that was made although a setting was refused is remembered, too.
func (s *script) add(label, want, table string, kv ...string) string {
	path, err := s.f.add(s.ctx, table, pairs(kv))
	if path != "" {
		s.made = append(s.made, path)
	}
	s.note(label, want, err, path)
	return path
}

func (s *script) set(label, want string, kv ...string) {
	s.note(label, want, s.f.set(s.ctx, pairs(kv)), "")
}

func (s *script) get(label, want, path string) {
	values, err := s.f.get(s.ctx, path)
	s.note(label, want, err, lines(values))
}

func (s *script) del(label, want, path string) {
	s.note(label, want, s.f.del(s.ctx, path), "")
}

// state reads what the device holds. The face itself tidies up: what an open session wrote is held against all others.
func (s *script) state() string {
	var out []string
	for i, r := range s.made {
		values, err := s.observer.Get(s.ctx, r)
		var u *controller.Error
		switch {
		case errors.As(err, &u) || err == nil && len(values) == 0:
			out = append(out, fmt.Sprintf("{row %d} is gone", i+1))
			continue
		case err != nil:
			s.check(err)
		}
		out = append(out, lines(values))
		s.check(s.f.del(s.ctx, r))
	}
	return s.plain(strings.Join(out, "; "))
}

func runScript(ctx context.Context, b *bench, f face, r *row, alter func(face, id, label, outcome string) string) (s *script, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s = &script{ctx: ctx, f: f, observer: b.observer, id: r.id, alter: alter, notes: map[string]string{}, wants: map[string]string{}}
	defer func() {
		switch p := recover().(type) {
		case nil:
		case broken:
			err = fmt.Errorf("%s: %w", f.name(), p.err)
		default:
			panic(p)
		}
	}()
	r.run(s)
	s.notes["state"] = s.state()
	if alter != nil {
		s.notes["state"] = alter(f.name(), r.id, "state", s.notes["state"])
	}
	return s, nil
}

// compare judges one row.
func (r *row) compare(u, c *script) (faults, seen []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if !slices.Equal(u.labels, c.labels) {
		fault("the steps differ: USP %v, CWMP %v", u.labels, c.labels)
	}
	for _, label := range append(slices.Clone(u.labels), "state") {
		a, b := u.notes[label], c.notes[label]
		d, expected := r.differs[label]
		switch {
		case expected && label == "state" && a == b:
			fault("the state is the same, though a difference is declared (%s)", d.why)
		case expected && label == "state":
			seen = append(seen, "the state differs as declared: "+d.why)
		case expected && (!fits(a, d.usp) || !fits(b, d.cwmp)):
			fault("%s: USP %q, CWMP %q; declared are %q and %q", label, a, b, d.usp, d.cwmp)
		case expected:
			seen = append(seen, fmt.Sprintf("%s: USP %s, CWMP %s (%s)", label, d.usp, d.cwmp, d.why))
		case a != b:
			fault("%s: USP %q, CWMP %q", label, a, b)
		case label != "state" && !fits(a, u.wants[label]):
			fault("%s: both say %q instead of %q", label, a, u.wants[label])
		case label != "state":
			seen = append(seen, label+": "+short(a))
		}
	}
	for label := range r.differs {
		if _, there := u.notes[label]; !there {
			fault("a difference is declared for %q, which is no step", label)
		}
	}
	return faults, seen
}

// fits: "ok" fits every ok, whatever was read.
func fits(got, want string) bool {
	return got == want || want == "ok" && strings.HasPrefix(got, "ok ")
}

func short(s string) string {
	if len(s) > 60 {
		return s[:60] + "..."
	}
	return s
}

// Run runs the table and reports one result for each row. The error is about the bench.
func Run(ctx context.Context, cfg Config) (*conform.Report, error) {
	dir, err := os.MkdirTemp(cfg.Dir, "diff-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	var all []conform.Check
	byID := map[string]*row{}
	for i := range table {
		r := &table[i]
		level := "S" // the same
		if len(r.differs) > 0 {
			level = "D" // differs as declared
		}
		all = append(all, conform.Check{ID: r.id, Area: "USP and CWMP", Level: level, Title: r.title})
		byID[r.id] = r
	}
	chosen, err := conform.Select(all, cfg.Only)
	if err != nil {
		return nil, err
	}
	b, err := openBench(ctx, cfg.Binary, dir)
	if err != nil {
		return nil, err
	}
	report := conform.NewReport("USP and CWMP face compared", agentID, all)
	// One face after the other: what the ACS wrote in its open session is held against all others until it ends.
	sides := map[string][2]side{}
	for i, f := range []face{b.usp, b.cwmp} {
		if i == 1 {
			b.cwmp.hold()
		}
		for _, c := range chosen {
			began := time.Now()
			s, err := runScript(ctx, b, f, byID[c.ID], cfg.Alter)
			both := sides[c.ID]
			both[i] = side{s, err, time.Since(began)}
			sides[c.ID] = both
			if i == 1 {
				res := judge(c, byID[c.ID], both)
				report.Add(res)
				if cfg.Done != nil {
					cfg.Done(res)
				}
			}
		}
	}
	return report, errors.Join(ctx.Err(), b.close())
}

// side is one row as one face had it.
type side struct {
	s    *script
	err  error
	took time.Duration
}

func judge(c conform.Check, r *row, both [2]side) conform.Result {
	res := conform.Result{Check: c, Verdict: conform.Pass, Millis: (both[0].took + both[1].took).Milliseconds()}
	err := errors.Join(both[0].err, both[1].err)
	var na notThere
	switch {
	case errors.As(err, &na):
		res.Verdict, res.Reason = conform.NotApplicable, na.Error()
	case err != nil:
		res.Verdict, res.Reason = conform.Fail, err.Error()
	default:
		var faults []string
		faults, res.Observed = r.compare(both[0].s, both[1].s)
		if len(faults) > 0 {
			res.Verdict, res.Reason = conform.Fail, strings.Join(faults, "; ")
		}
	}
	return res
}

// notThere: the device does not have what a row is about.
type notThere string

func (n notThere) Error() string { return string(n) }
