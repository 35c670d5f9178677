package bridge

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// claims are what is held for a while: leases, what the open CWMP session has written, what waits for a confirmation.
// They live in memory: a restart ends the first two, and who keeps confirm windows claims them again. Looked at on the
// store's writer goroutine.
type claims struct {
	mu      sync.Mutex
	all     map[*claim]struct{}
	index   map[string][]*claim // canonical path, as held
	changed chan struct{}       // closed when something ends
	cooling []cooling
}

type claim struct {
	kind      HoldKind
	by        string
	id        uint64
	paths     []string
	since     time.Time
	expires   time.Time
	contended bool // somebody else waited for it
	pending   bool // of a lease whose commit is on its way
}

// cooling keeps a writer from taking again what others waited for while it had it: at most half of the time is one's own.
type cooling struct {
	by    string
	paths []string
	until time.Time
}

const (
	maxCooling      = 64
	maxSessionPaths = 4096 // paths of one claim; above, their parents are held instead
)

func (c *claims) add(cl *claim) {
	if c.all == nil {
		c.all, c.index = map[*claim]struct{}{}, map[string][]*claim{}
	}
	c.all[cl] = struct{}{}
	for _, p := range cl.paths {
		c.index[p] = append(c.index[p], cl)
	}
}

// cover adds paths to a claim.
func (c *claims) cover(cl *claim, paths []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, live := c.all[cl]; !live {
		return
	}
	for _, p := range paths {
		if len(cl.paths) >= maxSessionPaths {
			p = parentPath(parentPath(p))
			if p == "" || len(cl.paths) >= 2*maxSessionPaths {
				p = "Device."
			}
		}
		if !slices.Contains(c.index[p], cl) {
			cl.paths = append(cl.paths, p)
			c.index[p] = append(c.index[p], cl)
		}
	}
}

// end removes a claim and wakes who waits.
func (c *claims) end(cl *claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(cl)
}

func (c *claims) remove(cl *claim) {
	if _, live := c.all[cl]; !live {
		return
	}
	delete(c.all, cl)
	for _, p := range cl.paths {
		left := slices.DeleteFunc(c.index[p], func(o *claim) bool { return o == cl })
		if len(left) == 0 {
			delete(c.index, p)
		} else {
			c.index[p] = left
		}
	}
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// purge drops what has expired.
func (c *claims) purge(now time.Time) {
	for cl := range c.all {
		if !now.Before(cl.expires) {
			c.cool(cl, now)
			c.remove(cl)
		}
	}
}

// cool remembers a contended lease that ends.
func (c *claims) cool(cl *claim, now time.Time) {
	if cl.kind != HeldByLease || !cl.contended {
		return
	}
	c.cooling = slices.DeleteFunc(c.cooling, func(k cooling) bool { return !now.Before(k.until) })
	if len(c.cooling) >= maxCooling {
		c.cooling = c.cooling[1:]
	}
	ended := cl.expires
	if now.Before(ended) {
		ended = now
	}
	c.cooling = append(c.cooling, cooling{cl.by, cl.paths, ended.Add(ended.Sub(cl.since))})
}

// seconds rounds up, so that who comes back after them comes late enough.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// related: one path is the other, or lies below it.
func related(a, b string) bool {
	return a == b || strings.HasSuffix(a, ".") && strings.HasPrefix(b, a) || strings.HasSuffix(b, ".") && strings.HasPrefix(a, b)
}

// find returns the claim of somebody else over a path, its ancestors or what is below it; the oldest if there are more.
func (c *claims) find(path, writer string, now time.Time) *claim {
	var best *claim
	look := func(list []*claim) {
		for _, cl := range list {
			if cl.by != writer && now.Before(cl.expires) && (best == nil || cl.since.Before(best.since)) {
				best = cl
			}
		}
	}
	for p := path; p != ""; p = parentPath(p) {
		look(c.index[p])
	}
	if strings.HasSuffix(path, ".") {
		for p, list := range c.index {
			if strings.HasPrefix(p, path) {
				look(list)
			}
		}
	}
	return best
}

// on fills in who holds a path.
func (c *claims) on(p *Proposal, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) == 0 {
		return
	}
	if cl := c.find(p.Path, p.Writer.Name, now); cl != nil {
		p.Held = Held{By: cl.by, Kind: cl.kind, ID: cl.id, RetryAfter: seconds(cl.expires.Sub(now))}
	}
	for cl := range c.all {
		if cl.kind == HeldBySession && cl.by != p.Writer.Name && now.Before(cl.expires) {
			p.Session = true
		}
	}
}

// contend notes that somebody waits, so that a lease is not renewed over his head.
func (c *claims) contend(path, writer string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cl := c.find(path, writer, now); cl != nil {
		cl.contended = true
	}
}

// ended gives a channel that is closed when a claim ends.
func (c *claims) ended() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.changed
}

// Claim holds paths (canonical; a final dot means everything below) for a writer until a time, or until the returned
// function is called. Others who want to change something there wait for a lease or session and are refused by a
// confirm window. id is told in refusals. At most 64 claims.
func (e *Engine) Claim(kind HoldKind, by string, id uint64, paths []string, until time.Time) (end func(), err error) {
	cl := &claim{kind: kind, by: by, id: id, paths: slices.Clone(paths), since: time.Now(), expires: until}
	c := &e.claims
	c.mu.Lock()
	defer c.mu.Unlock()
	c.purge(cl.since)
	if len(c.all) >= maxClaims {
		return nil, tooMany("claims", maxClaims, 60)
	}
	c.add(cl)
	return func() { c.end(cl) }, nil
}

const maxClaims = 64
