package sim

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"twinspan/datamodel"
)

// maxApplied bounds what Applied remembers; older writes are forgotten first.
const maxApplied = 4096

// Provider is a simulated device part. Make it with New.
type Provider struct {
	name string
	now  func() time.Time

	mu        sync.Mutex
	values    map[string]value // by parameter path, supported or instance
	follows   []follow
	status    map[string]statusChange // by status instance path, once Apply saw its enable parameter
	tables    map[string][]uint32     // listed rows by table path
	syncs     []string
	rows      []datamodel.Row
	commands  map[string]Behaviour
	applies   []string
	applied   []datamodel.Write
	faults    Faults
	calls     Calls
	rowsMoved chan struct{}
}

type value struct {
	text   string
	fn     func(path string, now time.Time) string
	served string // supported path that Serves names
	unset  bool   // reads as what is stored
}

type follow struct {
	status, enable string // supported parameter paths
	on, off        string
	delay          time.Duration
}

type statusChange struct {
	old, now string
	at       time.Time
}

// Behaviour is how a command goes.
type Behaviour struct {
	Takes  time.Duration
	Output map[string]string
	// Fault, if not nil, is the error that the run ends with after Takes.
	Fault error
	// Func, if not nil, makes the output in place of Output; it runs after Takes.
	Func func(inv datamodel.Invocation) (map[string]string, error)
}

// Faults are the switches of everything that goes wrong; the zero value is a healthy device.
type Faults struct {
	SlowRead  time.Duration // Read and Instances take this long, or until the context ends
	Read      error         // Read and Instances fail with it
	Panic     bool          // Read, Instances, Prepare, Apply and Run panic
	Veto      error         // Prepare refuses everything with it
	VetoPath  string        // if set, Veto is only for writes at or below this canonical path
	Apply     error         // Apply fails with it
	SlowApply time.Duration
}

// Calls counts the calls of the engine.
type Calls struct{ Read, Instances, Rows, Prepare, Apply, Run int }

// New returns a provider that serves nothing yet.
func New(name string) *Provider {
	return &Provider{
		name: name, now: time.Now,
		values: map[string]value{}, status: map[string]statusChange{}, tables: map[string][]uint32{},
		commands: map[string]Behaviour{}, rowsMoved: make(chan struct{}, 1),
	}
}

// SetClock replaces the clock of counters and statuses; for tests.
func (p *Provider) SetClock(now func() time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = now
}

// Set makes a parameter read as a constant. It may be called again with another value.
func (p *Provider) Set(path, text string) { p.put(path, value{text: text}) }

// Func makes a parameter read as what fn says; path is the instance path asked for. fn must not call the Provider.
func (p *Provider) Func(path string, fn func(path string, now time.Time) string) {
	p.put(path, value{fn: fn})
}

// Counter makes a parameter count up from start by perSecond from now on.
func (p *Provider) Counter(path string, start uint64, perSecond float64) {
	p.mu.Lock()
	began := p.now()
	p.mu.Unlock()
	p.Func(path, func(_ string, now time.Time) string {
		passed := max(0, now.Sub(began).Seconds())
		return strconv.FormatUint(start+uint64(passed*perSecond), 10)
	})
}

// Unset makes a parameter fall back to its stored value.
func (p *Provider) Unset(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v, ok := p.values[path]; ok {
		p.values[path] = value{served: v.served, unset: true}
	}
}

func (p *Provider) put(path string, v value) {
	v.served = datamodel.SupportedPath(path)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.values[path] = v
}

// Follow makes a status parameter (supported path) read as on or off according to the boolean parameter enable of the
// same object, as soon as Apply has seen it written; before that, as it is stored.
func (p *Provider) Follow(status, enable, on, off string) {
	p.FollowAfter(status, enable, on, off, 0)
}

// FollowAfter is Follow with a delay between the write and the change of the status.
func (p *Provider) FollowAfter(status, enable, on, off string, delay time.Duration) {
	object, _ := datamodel.SplitParam(status)
	p.mu.Lock()
	defer p.mu.Unlock()
	f := follow{status, object + enable, on, off, delay}
	p.follows = append(p.follows, f)
	if !slices.Contains(p.applies, f.enable) {
		p.applies = append(p.applies, f.enable)
	}
}

// Takes makes the provider see (and be able to veto) the writes to an object or parameter.
func (p *Provider) Takes(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.applies, path) {
		p.applies = append(p.applies, path)
	}
}

// Table makes the provider list the rows of a table ("Device.Hosts.Host."), at first none.
func (p *Provider) Table(table string, rows ...uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	slices.Sort(rows)
	p.tables[table] = slices.Compact(rows)
}

// AddRow and RemoveRow let listed rows come and go.
func (p *Provider) AddRow(table string, n uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	rows := slices.Clone(p.tables[table])
	if at, found := slices.BinarySearch(rows, n); !found {
		rows = append(rows, 0)
		copy(rows[at+1:], rows[at:])
		rows[at] = n
		p.tables[table] = rows
	}
}

func (p *Provider) RemoveRow(table string, n uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tables[table] = slices.DeleteFunc(slices.Clone(p.tables[table]), func(m uint32) bool { return m == n })
}

// SetRows names the tables whose stored rows the provider keeps in step and the rows that they have now, and hints
// the engine. The tables of the first call are the ones that count.
func (p *Provider) SetRows(tables []string, rows ...datamodel.Row) {
	p.mu.Lock()
	if p.syncs == nil {
		p.syncs = slices.Clone(tables)
	}
	p.rows = slices.Clone(rows)
	p.mu.Unlock()
	select {
	case p.rowsMoved <- struct{}{}:
	default: // a hint is waiting already
	}
}

// Command makes the provider carry out a command (supported or instance path).
func (p *Provider) Command(path string, b Behaviour) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commands[path] = b
}

// SetFaults switches faults on, or off with the zero value.
func (p *Provider) SetFaults(f Faults) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = f
}

// Applied returns the writes that Apply has carried out, oldest first, the last 4,096 of them.
func (p *Provider) Applied() []datamodel.Write {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.applied)
}

// Calls returns how often the engine called.
func (p *Provider) Calls() Calls {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

// Name implements datamodel.Provider.
func (p *Provider) Name() string { return p.name }

// Serves implements datamodel.Provider.
func (p *Provider) Serves() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	set := map[string]bool{}
	for _, v := range p.values {
		set[v.served] = true
	}
	for _, f := range p.follows {
		set[f.status] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// Read implements datamodel.Provider.
func (p *Provider) Read(ctx context.Context, obj datamodel.ObjectRef, params []string, yield func(name, value string)) error {
	if err := p.begin(ctx, func(c *Calls) { c.Read++ }); err != nil {
		return err
	}
	for _, name := range params {
		if text, ok := p.read(obj, name); ok {
			yield(name, text)
		}
	}
	return nil
}

// begin counts a reading call and acts out the faults of reading.
func (p *Provider) begin(ctx context.Context, count func(*Calls)) error {
	p.mu.Lock()
	count(&p.calls)
	f := p.faults
	p.mu.Unlock()
	if f.Panic {
		panic("sim: told to panic")
	}
	if err := sleep(ctx, f.SlowRead); err != nil {
		return err
	}
	return f.Read
}

func (p *Provider) read(obj datamodel.ObjectRef, name string) (string, bool) {
	path := obj.Path + name
	supported := datamodel.SupportedPath(path)
	p.mu.Lock()
	now := p.now()
	v, ok := p.values[path]
	if !ok {
		v, ok = p.values[supported]
	}
	sc, changed := p.status[path]
	at := slices.IndexFunc(p.follows, func(f follow) bool { return f.status == supported })
	var f follow
	if at >= 0 {
		f = p.follows[at]
	}
	p.mu.Unlock()
	switch {
	case ok && v.fn != nil:
		return v.fn(path, now), true
	case ok && !v.unset:
		return v.text, true
	case changed && now.Before(sc.at):
		return sc.old, true
	case changed:
		return sc.now, true
	case at >= 0 && obj.Stored != nil:
		_, enable := datamodel.SplitParam(f.enable)
		if obj.Stored(obj.Path+enable) == "true" {
			return f.on, true
		}
		return f.off, true
	}
	return "", false
}

// Lists implements datamodel.Lister.
func (p *Provider) Lists() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	set := map[string]bool{}
	for t := range p.tables {
		set[datamodel.SupportedPath(t)] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// Instances implements datamodel.Lister.
func (p *Provider) Instances(ctx context.Context, table string) ([]uint32, error) {
	if err := p.begin(ctx, func(c *Calls) { c.Instances++ }); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	rows, ok := p.tables[table]
	if !ok {
		rows, ok = p.tables[datamodel.SupportedPath(table)]
	}
	if !ok {
		return nil, fmt.Errorf("sim %s: %s is not a table of mine", p.name, table)
	}
	return slices.Clone(rows), nil
}

// Syncs implements datamodel.Syncer.
func (p *Provider) Syncs() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.syncs)
}

// Rows implements datamodel.Syncer.
func (p *Provider) Rows(ctx context.Context) ([]datamodel.Row, error) {
	if err := p.begin(ctx, func(c *Calls) { c.Rows++ }); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.rows), nil
}

// Changed implements datamodel.Syncer.
func (p *Provider) Changed() <-chan struct{} { return p.rowsMoved }

// Applies implements datamodel.Applier.
func (p *Provider) Applies() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.applies)
}

// Prepare implements datamodel.Applier.
func (p *Provider) Prepare(_ context.Context, writes []datamodel.Write) error {
	p.mu.Lock()
	p.calls.Prepare++
	f := p.faults
	p.mu.Unlock()
	if f.Panic {
		panic("sim: told to panic")
	}
	for _, w := range writes {
		if f.Veto != nil && strings.HasPrefix(w.Path, f.VetoPath) {
			return f.Veto
		}
	}
	return nil
}

// Apply implements datamodel.Applier.
func (p *Provider) Apply(ctx context.Context, writes []datamodel.Write) error {
	p.mu.Lock()
	p.calls.Apply++
	f := p.faults
	p.mu.Unlock()
	if f.Panic {
		panic("sim: told to panic")
	}
	if err := sleep(ctx, f.SlowApply); err != nil {
		return err
	}
	if f.Apply != nil {
		return f.Apply
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range writes {
		p.applied = append(p.applied, w)
		if w.Deleted {
			maps.DeleteFunc(p.status, func(path string, _ statusChange) bool { return strings.HasPrefix(path, w.Path) })
			continue
		}
		p.followWrite(w)
	}
	if over := len(p.applied) - maxApplied; over > 0 {
		p.applied = slices.Clone(p.applied[over:])
	}
	return nil
}

func (p *Provider) followWrite(w datamodel.Write) {
	supported := datamodel.SupportedPath(w.Path)
	for _, f := range p.follows {
		if f.enable != supported {
			continue
		}
		object, _ := datamodel.SplitParam(w.Path)
		_, name := datamodel.SplitParam(f.status)
		old, text := f.on, f.off
		if w.Value == "true" {
			old, text = f.off, f.on
		}
		if was, ok := p.status[object+name]; ok {
			if was.now == text {
				continue // the same again: the delay does not begin anew
			}
			old = was.now
		}
		p.status[object+name] = statusChange{old: old, now: text, at: p.now().Add(f.delay)}
	}
}

// Commands implements datamodel.Commander.
func (p *Provider) Commands() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	set := map[string]bool{}
	for c := range p.commands {
		set[datamodel.SupportedPath(c)] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// Run implements datamodel.Commander.
func (p *Provider) Run(ctx context.Context, inv datamodel.Invocation) (map[string]string, error) {
	p.mu.Lock()
	p.calls.Run++
	f := p.faults
	b, ok := p.commands[inv.Command]
	if !ok {
		b, ok = p.commands[datamodel.SupportedPath(inv.Command)]
	}
	p.mu.Unlock()
	if f.Panic {
		panic("sim: told to panic")
	}
	if !ok {
		return nil, datamodel.Fail(datamodel.NotImplemented, inv.Command, "")
	}
	if err := sleep(ctx, b.Takes); err != nil {
		return nil, &datamodel.Error{Reason: datamodel.CommandCanceled, Path: inv.Command, Err: err}
	}
	if b.Func != nil {
		return b.Func(inv)
	}
	return maps.Clone(b.Output), b.Fault
}

// sleep waits, or less if ctx ends; an ended ctx is an error also without waiting.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
