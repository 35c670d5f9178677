package bridge

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"twinspan/datamodel"
)

// Budgets of provider calls. A provider that exceeds one is not waited for; its late answer is thrown away.
const (
	readBudget    = time.Second      // Read, Instances
	prepareBudget = 2 * time.Second  // Prepare
	applyBudget   = 5 * time.Second  // Apply: how long a writer waits for it before it gets Applied=false
	applyHard     = 60 * time.Second // Apply: when it counts as failed
	rowsBudget    = 10 * time.Second // Rows
	// maxStuck is how many calls of one provider may be over budget before further ones are refused at once, so that
	// a hanging provider costs a bounded number of goroutines.
	maxStuck = 8
)

// provided is a registered provider with the abilities found by type assertion.
type provided struct {
	datamodel.Provider
	applier   datamodel.Applier
	commander datamodel.Commander
	lister    datamodel.Lister
	syncer    datamodel.Syncer
	stuck     atomic.Int32
	warned    atomic.Int64 // when its trouble was last logged, Unix nanoseconds
}

// warnEvery bounds the log lines about one provider's reads.
const warnEvery = 10 * time.Second

func (p *provided) mayWarn() bool {
	now, last := time.Now().UnixNano(), p.warned.Load()
	return now-last >= int64(warnEvery) && p.warned.CompareAndSwap(last, now)
}

func newProvided(p datamodel.Provider) *provided {
	d := &provided{Provider: p}
	d.applier, _ = p.(datamodel.Applier)
	d.commander, _ = p.(datamodel.Commander)
	d.lister, _ = p.(datamodel.Lister)
	d.syncer, _ = p.(datamodel.Syncer)
	return d
}

// catalog says which provider serves what, by schema element. Immutable.
type catalog struct {
	objects  map[*datamodel.Object]*provided   // all parameters of the object
	params   map[*datamodel.Param]*provided    // one parameter
	partly   map[*datamodel.Object]bool        // objects with an entry in params
	lists    map[*datamodel.Object]*provided   // tables whose rows are not stored
	commands map[*datamodel.Command]*provided  //
	applyObj map[*datamodel.Object][]*provided // with everything below
	applyPar map[*datamodel.Param][]*provided
	// counts maps a NumberOfEntries parameter to the table it counts.
	counts map[*datamodel.Param]*datamodel.Object
	// strong are the parameters that are strong references.
	strong []*datamodel.Param
}

// newCatalog resolves what providers say of themselves. Paths that the profile leaves out are skipped; two providers
// for one element are an error, since nobody could say which one counts.
func newCatalog(s *datamodel.Schema, ps []*provided) (*catalog, error) {
	c := &catalog{
		objects: map[*datamodel.Object]*provided{}, params: map[*datamodel.Param]*provided{},
		partly: map[*datamodel.Object]bool{}, lists: map[*datamodel.Object]*provided{},
		commands: map[*datamodel.Command]*provided{},
		applyObj: map[*datamodel.Object][]*provided{}, applyPar: map[*datamodel.Param][]*provided{},
		counts: map[*datamodel.Param]*datamodel.Object{},
	}
	c.scan(s.Root())
	for _, p := range ps {
		if err := c.add(s, p); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *catalog) scan(o *datamodel.Object) {
	for _, p := range o.Params {
		if isStrong(p) {
			c.strong = append(c.strong, p)
		}
	}
	for _, child := range o.Children {
		if child.NumEntries != "" {
			if p := o.Param(child.NumEntries); p != nil {
				c.counts[p] = child
			}
		}
		c.scan(child)
	}
}

func isStrong(p *datamodel.Param) bool {
	f := p.Any()
	return f != nil && f.PathRef != nil && f.PathRef.Strong
}

func (c *catalog) add(s *datamodel.Schema, p *provided) error {
	clash := func(path string, old *provided) error {
		return fmt.Errorf("bridge: providers %s and %s both serve %s", old.Name(), p.Name(), path)
	}
	for _, path := range p.Serves() {
		m, ok := s.Lookup(path)
		switch {
		case !ok || m.Command != nil || m.Event != nil: // not on this device
		case m.Param != nil:
			if old := c.params[m.Param]; old != nil {
				return clash(path, old)
			}
			c.params[m.Param] = p
			c.partly[m.Object] = true
		default:
			if old := c.objects[m.Object]; old != nil {
				return clash(path, old)
			}
			c.objects[m.Object] = p
		}
	}
	if p.lister != nil {
		for _, path := range p.lister.Lists() {
			if m, ok := s.Lookup(path); ok && m.Object.Multi {
				if old := c.lists[m.Object]; old != nil {
					return clash(path, old)
				}
				c.lists[m.Object] = p
			}
		}
	}
	if p.commander != nil {
		for _, path := range p.commander.Commands() {
			if m, ok := s.Lookup(path); ok && m.Command != nil {
				if old := c.commands[m.Command]; old != nil {
					return clash(path, old)
				}
				c.commands[m.Command] = p
			}
		}
	}
	if p.applier != nil {
		for _, path := range p.applier.Applies() {
			if m, ok := s.Lookup(path); ok && m.Param != nil {
				c.applyPar[m.Param] = append(c.applyPar[m.Param], p)
			} else if ok && m.Command == nil && m.Event == nil {
				c.applyObj[m.Object] = append(c.applyObj[m.Object], p)
			}
		}
	}
	return nil
}

func (c *catalog) hasAppliers() bool { return len(c.applyObj)+len(c.applyPar) > 0 }

// liveFor returns the provider that reads p, nil for stored ones.
func (c *catalog) liveFor(p *datamodel.Param) *provided {
	if c.partly[p.Object] {
		if d := c.params[p]; d != nil {
			return d
		}
	}
	return c.objects[p.Object]
}

// appliers calls fn for every provider that wants to see writes to o (and p, which may be nil). A provider may be
// named more than once.
func (c *catalog) appliers(o *datamodel.Object, p *datamodel.Param, fn func(*provided)) {
	if p != nil {
		for _, d := range c.applyPar[p] {
			fn(d)
		}
	}
	for ; o != nil; o = o.Parent {
		for _, d := range c.applyObj[o] {
			fn(d)
		}
	}
}

// call runs one provider method under a budget and turns a panic into an error. A method that does not come back in
// time is left to itself; fn must therefore hand over its results only through what it returns to after().
func (e *Engine) call(ctx context.Context, p *provided, what string, budget time.Duration, fn func(context.Context) error) error {
	if p.stuck.Load() >= maxStuck {
		return datamodel.Fail(datamodel.Resources, "", "provider "+p.Name()+" does not answer")
	}
	if !e.enter() {
		return errClosed
	}
	ctx, cancel := context.WithTimeout(ctx, budget)
	done := make(chan error, 1)
	go func() {
		defer e.wg.Done()
		defer cancel()
		defer func() {
			if r := recover(); r != nil {
				e.log.Error("provider panicked", "provider", p.Name(), "method", what, "panic", fmt.Sprint(r))
				done <- fmt.Errorf("provider %s: %s failed", p.Name(), what)
			}
		}()
		done <- fn(ctx)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select { // both may be ready
	case err := <-done:
		return err
	default:
	}
	p.stuck.Add(1)
	if e.enter() {
		go func() { // gives the slot back once the provider came to its senses
			defer e.wg.Done()
			<-done
			p.stuck.Add(-1)
		}()
	}
	return fmt.Errorf("provider %s: %s took longer than %s", p.Name(), what, budget)
}
