package cwmp

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/store"
)

const (
	// maxPendingChanges bounds the parameters that wait to be told; over it the oldest knowledge is dropped and logged.
	maxPendingChanges = 2048
	// maxLiveWatched bounds the live parameters that are compared.
	maxLiveWatched = 2048
)

// pending is a parameter whose value the ACS does not know. Texts are as the journal has them, so secrets are hashes.
type pending struct {
	known  string // what the ACS last set or was told
	cur    string // newest value
	frozen string // value that the Inform in progress carries
	inform bool   // an Inform in progress carries it
	active bool
}

// changes decides what "4 VALUE CHANGE" means (DESIGN invariant 7). Stored values come from the journal: its old value is
// what the ACS knows, because every earlier change was either the ACS's own or told. Values the device serves live are in
// no journal; for those the last told value is kept and compared. Owned by the Run goroutine.
type changes struct {
	pending map[string]*pending // by canonical path
	known   map[string]string   // live parameters: last value told
	told    map[string]string   // stored parameters that an older client told other values of
	live    []liveObject        // what to compare
	stale   bool                // the list must be made anew
	dirty   bool                // known differs from its record
	dropped int                 // pending changes lost to maxPendingChanges
	// rev is the revision up to which the journal was taken in. After a restart it is read again from where something may
	// be missing: entries up to knownAt are in known already, those up to pendingAt leave nothing pending.
	rev, knownAt, pendingAt uint64
}

// liveObject is an object with parameters to compare.
type liveObject struct {
	match datamodel.Match
	names map[string]bool // parameter name -> active
}

// notification is the effective Notification attribute: the model forces it, or somebody set it, or the model's default.
func notification(v *bridge.View, m datamodel.Match) int {
	if m.Param == nil {
		return 0
	}
	f := m.Param.Facts(datamodel.CWMP)
	if f == nil {
		return 0
	}
	if f.ActiveNotify == "forceEnabled" { // TR-181: cannot be changed
		return 2
	}
	if a := v.Attr(m); a.Notification >= 0 {
		return int(a.Notification)
	}
	if f.ActiveNotify == "forceDefaultEnabled" {
		return 2
	}
	return 0
}

// watched and active read a Notification value: 1, 2, 4 and 6 travel in Informs, 2 opens a session (TR-069 A.3.2.4; 4 and 6
// are passive beside their lightweight half, 3 and 5 are lightweight only).
func watched(n int) bool { return n == 1 || n == 2 || n == 4 || n == 6 }
func active(n int) bool  { return n == 2 }

// lightweight and lightActive read a Notification value: 3 to 6 go out as lightweight notifications, 5 and 6 at once
// (TR-069 A.3.2.4, Annex M).
func lightweight(n int) bool { return n >= 3 && n <= 6 }
func lightActive(n int) bool { return n == 5 || n == 6 }

// commit takes one journal entry in and reports whether a session is due for an active change. Entries come in order, each
// once.
func (c *changes) commit(v *bridge.View, e *store.Entry) bool {
	c.rev = e.Rev
	if e.Meta.Kind == "factory" {
		c.stale = true
		return false // a new device: BOOTSTRAP tells everything
	}
	own := len(bridge.Told(bridge.CauseOf(e.Meta.Writer)).Inform) == 0 // DESIGN invariant 7: the ACS is never told of its own change
	due := false
	for _, d := range e.Deltas {
		switch d.Op {
		case store.DeltaSet, store.DeltaUnset:
			if e.Rev > c.knownAt {
				delete(c.known, d.Path) // stored now: the journal tells
			}
			if e.Rev > c.pendingAt {
				due = c.value(v, d, own) || due
			}
		case store.DeltaAddRow, store.DeltaDeleteRow:
			c.stale = true
			c.row(v, d, own, e.Rev > c.knownAt)
		case store.DeltaAttr:
			c.stale = true
		}
	}
	return due
}

func (c *changes) value(v *bridge.View, d store.Delta, own bool) bool {
	m, ok := v.Schema().Lookup(d.Path)
	if !ok || m.Param == nil || m.Param.Facts(datamodel.CWMP) == nil {
		return false
	}
	if own {
		delete(c.pending, d.Path)
		return false
	}
	m.Path = d.Path
	n := notification(v, m)
	if !watched(n) {
		delete(c.pending, d.Path)
		return false
	}
	f := m.Param.Facts(datamodel.CWMP)
	unset := f.Zero()
	if f.HasDefault {
		unset = f.Default
	}
	before, after := d.Old, d.New
	if !d.HadOld {
		before = unset
	}
	if d.Op == store.DeltaUnset {
		after = unset
	}
	return c.note(d.Path, before, after, active(n))
}

// note records that path went from before to after.
func (c *changes) note(path, before, after string, act bool) bool {
	p := c.pending[path]
	if p == nil {
		if before == after {
			return false
		}
		if len(c.pending) >= maxPendingChanges {
			c.dropped++
			return act // a session is due all the same
		}
		p = &pending{known: before, cur: before}
		c.pending[path] = p
	}
	news := p.cur != after
	p.cur, p.active = after, act
	if p.cur == p.known && !p.inform { // went back before anybody was told: ATT-18
		delete(c.pending, path)
		return false
	}
	return act && news
}

// forgotten stands for what a value was before changes that the journal does not hold any more; no value can be it.
const forgotten = "\x00"

// missed makes up for the journal entries after rev and up to start, which are gone: each stored value says who wrote it last
// and when. What somebody else wrote is told, though it may have become what it was; what the ACS wrote last it knows. A value
// that was unset meanwhile cannot be found; the device's own commits unset with the row, or at a factory reset.
func (c *changes) missed(v *bridge.View, start uint64) bool {
	after, due := max(c.rev, c.pendingAt), false
	v.Version().Walk("", func(path string, l store.Leaf) bool {
		if l.Rev > after && l.Rev <= start && l.Flags&store.Factory == 0 {
			own := len(bridge.Told(bridge.CauseOf(l.Writer)).Inform) == 0
			due = c.value(v, store.Delta{Op: store.DeltaSet, Path: path, HadOld: true, Old: forgotten, New: l.Value}, own) || due
		}
		return true
	})
	c.rev, c.stale = start, true
	return due
}

// row keeps what the ACS knows of a ...NumberOfEntries parameter right when it added or deleted the row itself, and forgets
// what was pending below a deleted row.
func (c *changes) row(v *bridge.View, d store.Delta, own, news bool) {
	if d.Op == store.DeltaDeleteRow {
		for path := range c.pending {
			if strings.HasPrefix(path, d.Path) {
				delete(c.pending, path)
			}
		}
	}
	if !news {
		return
	}
	if d.Op == store.DeltaDeleteRow {
		for path := range c.known {
			if strings.HasPrefix(path, d.Path) {
				delete(c.known, path)
			}
		}
	}
	if !own {
		return
	}
	if path := countOf(v, d.Path); c.known[path] != "" {
		c.known[path] = recount(c.known[path], d.Op)
		c.dirty = true
	}
}

// countOf is the ...NumberOfEntries parameter that counts a row, as a canonical path; "" if there is none.
func countOf(v *bridge.View, row string) string {
	m, ok := v.Schema().Lookup(row)
	if !ok || m.Object == nil || m.Object.NumEntries == "" {
		return ""
	}
	table := strings.TrimRight(strings.TrimSuffix(row, "."), "0123456789")
	return strings.TrimSuffix(table, m.Object.Name+".") + m.Object.NumEntries
}

// recount is a number of rows after one came or went.
func recount(count string, op store.DeltaOp) string {
	n, err := strconv.Atoi(count)
	if err != nil {
		return count
	}
	if op == store.DeltaAddRow {
		n++
	} else {
		n--
	}
	return strconv.Itoa(n)
}

// compare reads the live parameters that the ACS watches and reports whether an active one changed. A parameter seen for
// the first time is taken as known. v must be one that takeIn gave: a row that the ACS made is counted by its journal entry.
func (c *changes) compare(ctx context.Context, v *bridge.View) bool {
	if c.stale {
		c.list(v)
		c.stale = false
	}
	version, due := v.Version(), false
	for _, o := range c.live {
		err := v.Params(ctx, o.match, func(p *datamodel.Param, value string) bool {
			act, ok := o.names[p.Name]
			if !ok {
				return true
			}
			path := canonicalPath(o.match.Path) + p.Name
			if _, stored := version.Leaf(path); stored {
				return true
			}
			told, ok := c.known[path]
			if !ok {
				c.known[path] = value
				c.dirty = true
				return true
			}
			due = c.note(path, told, value, act) || due
			return true
		})
		if err != nil {
			continue // the row went, or the platform does not answer: next time
		}
	}
	return due
}

// adopt takes the values of live parameters that are watched now and were not before as known, and looks at no other.
func (c *changes) adopt(ctx context.Context, v *bridge.View) {
	c.list(v)
	c.stale = false
	for _, o := range c.live {
		fresh := false
		for name := range o.names {
			_, told := c.known[canonicalPath(o.match.Path)+name]
			fresh = fresh || !told
		}
		if !fresh {
			continue
		}
		// An object that does not answer now is compared from the next poll on.
		_ = v.Params(ctx, o.match, func(p *datamodel.Param, value string) bool {
			path := canonicalPath(o.match.Path) + p.Name
			if _, watched := o.names[p.Name]; watched {
				if _, told := c.known[path]; !told {
					c.known[path], c.dirty = value, true
				}
			}
			return true
		})
	}
}

// list makes the list of watched parameters that are not stored.
func (c *changes) list(v *bridge.View) {
	c.live = c.live[:0]
	count := 0
	version := v.Version()
	index := map[string]int{}
	add := func(obj datamodel.Match, p *datamodel.Param) {
		m := obj
		m.Param = p
		m.Path = obj.Path + p.Name
		n := notification(v, m)
		if !watched(n) || count >= maxLiveWatched {
			return
		}
		if _, stored := version.Leaf(canonicalPath(m.Path)); stored {
			return
		}
		i, ok := index[obj.Path]
		if !ok {
			i = len(c.live)
			index[obj.Path] = i
			obj.Param = nil
			c.live = append(c.live, liveObject{match: obj, names: map[string]bool{}})
		}
		if _, ok := c.live[i].names[p.Name]; !ok {
			count++
			c.live[i].names[p.Name] = active(n)
		}
	}
	for _, path := range c.interesting(v) {
		ms, err := v.Resolve(path, datamodel.ResolvePolicy{AllowTable: true})
		if err != nil {
			continue
		}
		for _, m := range ms {
			if m.Param != nil {
				obj := m
				obj.Param = nil
				obj.Path, _ = datamodel.SplitParam(m.Path)
				add(obj, m.Param)
				continue
			}
			v.Objects(m, 0, func(o datamodel.Match) bool {
				for _, p := range o.Object.Params {
					if p.Protocols.Has(datamodel.CWMP) {
						add(o, p)
					}
				}
				return count < maxLiveWatched
			})
		}
	}
	kept := make(map[string]string, count) // what is no longer watched is forgotten
	for _, o := range c.live {
		for name := range o.names {
			path := canonicalPath(o.match.Path) + name
			if told, ok := c.known[path]; ok {
				kept[path] = told
			}
		}
	}
	c.dirty = c.dirty || len(kept) != len(c.known)
	c.known = kept
}

// interesting lists the paths, in CWMP's spelling, with attributes of their own and those that the model makes active.
func (c *changes) interesting(v *bridge.View) []string {
	paths := forcedActive(v.Schema())
	v.Version().Attrs(func(path string, a store.Attr) bool {
		if watched(int(a.Notification)) {
			if p, ok := datamodel.FromCanonical(datamodel.CWMP, path); ok {
				paths = append(paths, p)
			}
		}
		return true
	})
	slices.Sort(paths)
	return slices.Compact(paths)
}

// forcedActive lists the parameters that are active without anybody's asking, as wildcard paths in CWMP's spelling.
func forcedActive(s *datamodel.Schema) []string {
	var out []string
	walkParams(s.Root(), func(p *datamodel.Param, f *datamodel.Facts) {
		if strings.HasPrefix(f.ActiveNotify, "force") {
			if path, ok := datamodel.FromCanonical(datamodel.CWMP, strings.ReplaceAll(p.Path(), "{i}", "*")); ok {
				out = append(out, path)
			}
		}
	})
	return out
}

// walkParams visits every parameter that CWMP has.
func walkParams(o *datamodel.Object, fn func(*datamodel.Param, *datamodel.Facts)) {
	if o == nil {
		return
	}
	for _, p := range o.Params {
		if f := p.Facts(datamodel.CWMP); f != nil {
			fn(p, f)
		}
	}
	for _, c := range o.Children {
		walkParams(c, fn)
	}
}

// due reports whether there is anything to tell, and whether anything active.
func (c *changes) due() (any, act bool) {
	for _, p := range c.pending {
		if p.cur != p.known {
			any = true
			act = act || p.active
		}
	}
	return any, act
}

// freeze marks what the next Inform carries and returns the canonical paths, sorted.
func (c *changes) freeze(limit int) []string {
	var paths []string
	for path, p := range c.pending {
		if p.cur != p.known {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	if len(paths) > limit { // the rest goes with the next Inform
		paths = paths[:limit]
	}
	for _, path := range paths {
		c.pending[path].inform, c.pending[path].frozen = true, c.pending[path].cur
	}
	return paths
}

// thaw ends an Inform: what an acknowledged one carried is known now, what went on changing meanwhile stays pending.
func (c *changes) thaw(acknowledged bool) {
	for path, p := range c.pending {
		if p.inform && acknowledged {
			p.known = p.frozen
			if _, live := c.known[path]; live && c.known[path] != p.frozen {
				c.known[path] = p.frozen
				c.dirty = true
			}
		}
		p.inform = false
		if p.cur == p.known {
			delete(c.pending, path)
		}
	}
}

func canonicalPath(path string) string {
	if c, ok := datamodel.ToCanonical(datamodel.CWMP, path); ok {
		return c
	}
	return path
}
