package providertest

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"twinspan/datamodel"
)

// budget is how long a method may take, with or without a live context (datamodel.Provider).
const budget = time.Second

// Case is one provider under test.
type Case struct {
	Provider datamodel.Provider
	Schema   *datamodel.Schema // the whole model, so that nothing that the provider serves is missing
	// Writes are committed writes that the provider's Apply must accept, twice.
	Writes []datamodel.Write
	// Runs are commands to run to their end.
	Runs []datamodel.Invocation
	// MinValues is how many values the provider must yield at least, so that a silent provider fails.
	MinValues int
}

// Run runs the suite as subtests.
func Run(t *testing.T, c Case) {
	t.Helper()
	t.Run("names", func(t *testing.T) { checkNames(t, c) })
	tree := datamodel.NewMemTree()
	t.Run("rows", func(t *testing.T) { checkRows(t, c, tree) })
	t.Run("lists", func(t *testing.T) { checkLists(t, c, tree) })
	t.Run("read", func(t *testing.T) { checkRead(t, c, tree) })
	t.Run("read concurrently", func(t *testing.T) { checkConcurrent(t, c, tree) })
	t.Run("ended context", func(t *testing.T) { checkEnded(t, c, tree) })
	t.Run("apply", func(t *testing.T) { checkApply(t, c) })
	t.Run("commands", func(t *testing.T) { checkCommands(t, c) })
}

func checkNames(t *testing.T, c Case) {
	if n := c.Provider.Name(); n == "" || strings.ContainsAny(n, " .:/") {
		t.Errorf("the name %q cannot be part of a writer's name", n)
	}
	served := map[string]bool{}
	for _, path := range c.Provider.Serves() {
		m, ok := c.Schema.Lookup(path)
		if !ok || m.Command != nil || m.Event != nil {
			t.Errorf("serves %s, which is neither object nor parameter of the model", path)
		}
		if served[path] {
			t.Errorf("serves %s twice", path)
		}
		served[path] = true
	}
	if a, ok := c.Provider.(datamodel.Applier); ok {
		for _, path := range a.Applies() {
			if m, ok := c.Schema.Lookup(path); !ok || m.Command != nil || m.Event != nil {
				t.Errorf("applies %s, which is neither object nor parameter of the model", path)
			}
		}
	}
	if d, ok := c.Provider.(datamodel.Commander); ok {
		for _, path := range d.Commands() {
			if m, ok := c.Schema.Lookup(path); !ok || m.Command == nil {
				t.Errorf("runs %s, which is no command of the model", path)
			}
		}
	}
}

// checkRows builds the rows of a Syncer in the tree, numbered as they come.
func checkRows(t *testing.T, c Case, tree *datamodel.MemTree) {
	s, ok := c.Provider.(datamodel.Syncer)
	if !ok {
		return
	}
	for _, table := range s.Syncs() {
		if m, ok := c.Schema.Lookup(table); !ok || !m.Object.Multi {
			t.Errorf("syncs %s, which is no table of the model", table)
		}
	}
	rows, err := s.Rows(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	addRows(t, c.Schema, tree, "", rows)
	for _, r := range rows {
		if !slices.Contains(s.Syncs(), r.Table) {
			t.Errorf("a row of %s, which Syncs does not name", r.Table)
		}
	}
	again, err := s.Rows(context.Background())
	if err != nil || len(again) != len(rows) {
		t.Errorf("the second call gives %d rows instead of %d: %v", len(again), len(rows), err)
	}
	if ch := s.Changed(); ch != nil {
		select {
		case _, open := <-ch:
			if !open {
				t.Error("Changed is closed")
			}
		default:
		}
	}
}

func addRows(t *testing.T, s *datamodel.Schema, tree *datamodel.MemTree, parent string, rows []datamodel.Row) {
	keys := map[string]bool{}
	for _, r := range rows {
		table := parent + r.Table
		m, ok := s.Lookup(table)
		if !ok || !m.Object.Multi {
			t.Errorf("a row of %s, which is no table of the model", table)
			continue
		}
		key := r.Values[r.Key]
		if key == "" || keys[table+key] {
			t.Errorf("%s: the key %s=%q is empty or not unique", table, r.Key, key)
		}
		keys[table+key] = true
		n := uint32(1)
		if have := tree.Instances(table); len(have) > 0 {
			n = have[len(have)-1] + 1
		}
		row := table + strconv.FormatUint(uint64(n), 10) + "."
		tree.AddRow(row)
		for name, value := range r.Values {
			m, ok := s.Lookup(row + name)
			if !ok || m.Param == nil {
				t.Errorf("%s%s is no parameter of the model", row, name)
				continue
			}
			checkValue(t, m.Param, row+name, value)
			tree.Set(row+name, value)
		}
		addRows(t, s, tree, row, r.Sub)
	}
}

// checkLists asks a Lister for its rows, outer tables first, and puts them into the tree.
func checkLists(t *testing.T, c Case, tree *datamodel.MemTree) {
	l, ok := c.Provider.(datamodel.Lister)
	if !ok {
		return
	}
	tables := slices.Clone(l.Lists())
	slices.SortFunc(tables, func(a, b string) int { return strings.Count(a, ".") - strings.Count(b, ".") })
	for _, supported := range tables {
		m, ok := c.Schema.Lookup(supported)
		if !ok || !m.Object.Multi {
			t.Errorf("lists %s, which is no table of the model", supported)
			continue
		}
		for _, table := range instances(tree, supported) {
			first, err := l.Instances(context.Background(), table)
			if err != nil {
				t.Errorf("%s: %v", table, err)
			}
			if !slices.IsSorted(first) || len(slices.Compact(slices.Clone(first))) != len(first) || len(first) > 0 && first[0] == 0 {
				t.Errorf("%s: numbers are not ascending from 1: %v", table, first)
			}
			for _, n := range first {
				tree.AddRow(table + strconv.FormatUint(uint64(n), 10) + ".")
			}
		}
	}
	if _, err := l.Instances(context.Background(), "Device.NoSuchTable."); err == nil {
		t.Error("a foreign table is no error")
	}
}

// instances replaces each {i} of a supported path by the rows that the tree has; a final table stays a table.
func instances(tree *datamodel.MemTree, supported string) []string {
	at := strings.Index(supported, "{i}.")
	if at < 0 {
		return []string{supported}
	}
	var out []string
	for _, n := range tree.Instances(supported[:at]) {
		out = append(out, instances(tree, supported[:at]+strconv.FormatUint(uint64(n), 10)+supported[at+len("{i}"):])...)
	}
	return out
}

// target is one Read: an object instance and the parameters wanted of it.
type target struct {
	ref    datamodel.ObjectRef
	params []string
}

func targets(c Case, tree *datamodel.MemTree) []target {
	var out []target
	for _, path := range c.Provider.Serves() {
		m, ok := c.Schema.Lookup(path)
		if !ok {
			continue
		}
		var names []string
		if m.Param != nil {
			names = []string{m.Param.Name}
		} else {
			for _, p := range m.Object.Params {
				names = append(names, p.Name)
			}
		}
		for _, object := range instances(tree, m.Object.Path) {
			out = append(out, target{ref(tree, m.Object, object), names})
		}
	}
	return out
}

func ref(tree *datamodel.MemTree, o *datamodel.Object, path string) datamodel.ObjectRef {
	return datamodel.ObjectRef{Path: path, Schema: o, Stored: func(p string) string {
		v, _ := tree.Value(nil, p)
		return v
	}}
}

func checkRead(t *testing.T, c Case, tree *datamodel.MemTree) {
	values := 0
	for _, tg := range targets(c, tree) {
		start := time.Now()
		err := c.Provider.Read(context.Background(), tg.ref, tg.params, func(name, value string) {
			values++
			p := tg.ref.Schema.Param(name)
			switch {
			case p == nil:
				t.Errorf("%s%s is no parameter of the model", tg.ref.Path, name)
			case !slices.Contains(tg.params, name):
				t.Errorf("%s%s was not asked for", tg.ref.Path, name)
			default:
				checkValue(t, p, tg.ref.Path+name, value)
			}
		})
		if err != nil {
			t.Errorf("%s: %v", tg.ref.Path, err)
		}
		if d := time.Since(start); d > budget {
			t.Errorf("%s: took %v", tg.ref.Path, d)
		}
	}
	if values < c.MinValues {
		t.Errorf("%d values were read, expected %d", values, c.MinValues)
	}
	// A row that is gone since the bridge listed it is no reason to panic.
	for _, path := range c.Provider.Serves() {
		if m, ok := c.Schema.Lookup(path); ok && strings.Contains(path, "{i}") {
			gone := strings.ReplaceAll(m.Object.Path, "{i}", "4000000000")
			_ = c.Provider.Read(context.Background(), ref(tree, m.Object, gone), nil, func(string, string) {})
		}
	}
}

// checkValue: of the type and canonical. A dateTime may carry an offset, since some parameters are local times.
func checkValue(t *testing.T, p *datamodel.Param, path, value string) {
	t.Helper()
	canonical, err := p.Any().Canonical(value)
	if err != nil {
		t.Errorf("%s = %q: %v", path, value, err)
	} else if canonical != value && p.Any().Type != datamodel.TypeDateTime {
		t.Errorf("%s = %q is not canonical, that would be %q", path, value, canonical)
	}
}

func checkConcurrent(t *testing.T, c Case, tree *datamodel.MemTree) {
	tgs := targets(c, tree)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for _, tg := range tgs {
				if err := c.Provider.Read(context.Background(), tg.ref, tg.params, func(string, string) {}); err != nil {
					t.Errorf("%s: %v", tg.ref.Path, err)
				}
			}
			if l, ok := c.Provider.(datamodel.Lister); ok {
				for _, table := range l.Lists() {
					if !strings.Contains(table, "{i}") {
						_, _ = l.Instances(context.Background(), table)
					}
				}
			}
			if s, ok := c.Provider.(datamodel.Syncer); ok {
				_, _ = s.Rows(context.Background())
			}
		})
	}
	wg.Wait()
}

// checkEnded: with an ended context every method comes back at once, with or without an error.
func checkEnded(t *testing.T, c Case, tree *datamodel.MemTree) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	start := time.Now()
	if tgs := targets(c, tree); len(tgs) > 0 {
		_ = c.Provider.Read(ctx, tgs[0].ref, tgs[0].params, func(string, string) {})
	}
	if l, ok := c.Provider.(datamodel.Lister); ok && len(l.Lists()) > 0 {
		_, _ = l.Instances(ctx, l.Lists()[0])
	}
	if s, ok := c.Provider.(datamodel.Syncer); ok {
		_, _ = s.Rows(ctx)
	}
	if d, ok := c.Provider.(datamodel.Commander); ok {
		for _, inv := range c.Runs {
			if _, err := d.Run(ctx, inv); err == nil {
				t.Errorf("%s ran to its end although its context had ended", inv.Command)
			}
		}
	}
	if d := time.Since(start); d > budget {
		t.Errorf("the methods took %v", d)
	}
}

func checkApply(t *testing.T, c Case) {
	a, ok := c.Provider.(datamodel.Applier)
	if !ok {
		return
	}
	ctx := context.Background()
	if err := a.Prepare(ctx, nil); err != nil {
		t.Errorf("nothing was vetoed: %v", err)
	}
	if len(c.Writes) == 0 {
		return
	}
	if err := a.Prepare(ctx, c.Writes); err != nil {
		t.Errorf("prepare: %v", err)
	}
	for range 2 { // idempotent
		if err := a.Apply(ctx, c.Writes); err != nil {
			t.Errorf("apply: %v", err)
		}
	}
}

func checkCommands(t *testing.T, c Case) {
	d, ok := c.Provider.(datamodel.Commander)
	if !ok {
		return
	}
	for _, inv := range c.Runs {
		m, ok := c.Schema.Lookup(inv.Command)
		if !ok || m.Command == nil {
			t.Errorf("%s is no command of the model", inv.Command)
			continue
		}
		out, err := d.Run(context.Background(), inv)
		if err != nil {
			t.Errorf("%s: %v", inv.Command, err)
		}
		for name, value := range out {
			arg := slices.IndexFunc(m.Command.Outputs, func(a datamodel.Argument) bool {
				return a.Name == datamodel.SupportedPath(name)
			})
			if arg < 0 {
				t.Errorf("%s: %s is no output argument", inv.Command, name)
			} else if _, err := m.Command.Outputs[arg].Facts.Canonical(value); err != nil {
				t.Errorf("%s: %s = %q: %v", inv.Command, name, value, err)
			}
		}
	}
	if _, err := d.Run(context.Background(), datamodel.Invocation{Command: "Device.NoSuchCommand()"}); err == nil {
		t.Error("a foreign command is no error")
	}
}
