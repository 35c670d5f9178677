package bridge

import (
	"slices"
	"sort"
	"sync"
	"time"
)

// Limits of damping.
const (
	flipWindow  = 10 * time.Minute // in which alternations count
	freezeFirst = 15 * time.Minute
	freezeMost  = 24 * time.Hour
	maxFights   = 1024 // leaves that are watched
	maxFrozen   = 128
)

// fights remembers which leaves went from one writer to another lately, and which are frozen therefore. A leaf that was
// frozen is frozen for twice as long the next time, up to a day; a day of peace forgets that.
type fights struct {
	mu    sync.Mutex
	leafs map[string]*fight
}

type fight struct {
	flips  []time.Time // at most dampAfter
	winner string
	until  time.Time
	level  int
	last   time.Time
}

// FrozenLeaf is one leaf that damping has left to a writer.
type FrozenLeaf struct {
	Path   string
	Winner string
	Until  time.Time
	Level  int // how often in a row, from 1
}

// on fills in what a Proposal must know.
func (f *fights) on(p *Proposal, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.leafs[p.Path]
	if l == nil {
		return
	}
	if now.Before(l.until) {
		p.Frozen = Frozen{l.winner, l.until.Unix()}
	}
	for _, t := range l.flips {
		if now.Sub(t) < flipWindow {
			p.Flips++
		}
	}
}

func (f *fights) leaf(path string, now time.Time) *fight {
	l := f.leafs[path]
	if l == nil {
		if f.leafs == nil {
			f.leafs = map[string]*fight{}
		}
		if len(f.leafs) >= maxFights {
			f.evict(now)
		}
		l = &fight{}
		f.leafs[path] = l
	}
	l.last = now
	return l
}

// evict forgets a leaf that is not frozen, the longest quiet; failing that any.
func (f *fights) evict(now time.Time) {
	worst := ""
	for path, l := range f.leafs {
		w := f.leafs[worst]
		if w == nil || !now.Before(l.until) && (now.Before(w.until) || l.last.Before(w.last)) {
			worst = path
		}
	}
	delete(f.leafs, worst)
}

// took notes that a leaf went to another writer.
func (f *fights) took(path string, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.leaf(path, now)
	l.flips = slices.DeleteFunc(l.flips, func(t time.Time) bool { return now.Sub(t) >= flipWindow })
	if l.flips = append(l.flips, now); len(l.flips) > dampAfter {
		l.flips = l.flips[1:]
	}
}

// freeze leaves a leaf to a writer.
func (f *fights) freeze(path, winner string, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.leaf(path, now)
	if now.Sub(l.until) > freezeMost {
		l.level = 0
	}
	d := freezeMost
	if l.level < 7 {
		d = min(freezeFirst<<l.level, freezeMost)
	}
	l.level++
	l.winner, l.until, l.flips = winner, now.Add(d), nil
	frozen := 0
	first := path
	for p, o := range f.leafs {
		if now.Before(o.until) {
			if frozen++; p != path && (first == path || o.until.Before(f.leafs[first].until)) {
				first = p
			}
		}
	}
	if frozen > maxFrozen {
		delete(f.leafs, first)
	}
}

func (f *fights) frozen(now time.Time) []FrozenLeaf {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []FrozenLeaf
	for path, l := range f.leafs {
		if now.Before(l.until) {
			out = append(out, FrozenLeaf{path, l.winner, l.until, l.level})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Until.Before(out[j].Until) })
	return out
}

func (f *fights) thaw(path string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.leafs[path]
	delete(f.leafs, path)
	return l != nil
}

// Frozen lists the leaves that damping holds, those first that are free first.
func (e *Engine) Frozen() []FrozenLeaf { return e.fights.frozen(time.Now()) }

// Thaw ends the damping of a leaf (canonical path); false if there was none.
func (e *Engine) Thaw(path string) bool {
	ok := e.fights.thaw(path)
	if ok {
		e.owners.touch()
	}
	return ok
}
