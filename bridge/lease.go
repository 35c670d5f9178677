package bridge

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"twinspan/datamodel"
	"twinspan/store"
)

// Limits of leases.
const (
	MaxLeasePaths = 32
	MaxLease      = 600 * time.Second
	MaxLeases     = 32 // of all writers
	MaxLeasesEach = 4  // of one writer
)

// Lease gives a writer some paths for itself for a while. Its ID is the revision of the commit that granted it and grows
// with every grant: whoever wants to be sure that nothing came between guards a change with it (IfRevision ID@path).
// A lease ends with its time, with ReleaseLease, with its Controller's row, and with the process.
type Lease struct {
	ID        uint64
	Writer    string
	Paths     []string // canonical
	Granted   time.Time
	Expires   time.Time
	Contended bool // somebody has waited for it: it will not be renewed
}

func (cl *claim) lease() Lease {
	return Lease{cl.id, cl.by, slices.Clone(cl.paths), cl.since, cl.expires, cl.contended}
}

func tooMany(what string, most, retry int) error {
	return datamodel.Fail(datamodel.Resources, "", fmt.Sprintf("at most %d %s; retry after %d s", most, what, retry))
}

// AcquireLease gives w all of paths (in its spelling: parameters, rows or objects with all below) or none of them, for 1 s
// to MaxLease. It never waits: while somebody else holds one of them the answer is Leased. w must be allowed to write
// there. Who had a lease that others waited for gets nothing of it again for as long as it had it.
func (e *Engine) AcquireLease(ctx context.Context, w Writer, paths []string, d time.Duration) (Lease, error) {
	if err := leaseTime(d); err != nil {
		return Lease{}, err
	}
	canonical, err := e.leasePaths(w, paths)
	if err != nil {
		return Lease{}, err
	}
	now := time.Now()
	cl := &claim{kind: HeldByLease, by: w.Name, paths: canonical, since: now, expires: now.Add(d), pending: true}
	if err := e.reserve(cl, now); err != nil {
		return Lease{}, err
	}
	// From here on nobody else gets in: what the holder reads after the grant stays until the lease ends.
	commit, err := e.noteLease(ctx, w, cl, "grant")
	c := &e.claims
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.remove(cl)
		return Lease{}, err
	}
	cl.id, cl.pending = commit.Rev, false
	return cl.lease(), nil
}

func leaseTime(d time.Duration) error {
	if d < time.Second || d > MaxLease {
		return datamodel.Fail(datamodel.InvalidArgs, "", fmt.Sprintf("a lease lasts 1 s to %d s", MaxLease/time.Second))
	}
	return nil
}

// leasePaths checks what is asked for.
func (e *Engine) leasePaths(w Writer, paths []string) ([]string, error) {
	if len(paths) == 0 || len(paths) > MaxLeasePaths {
		return nil, datamodel.Fail(datamodel.InvalidArgs, "", fmt.Sprintf("1 to %d paths", MaxLeasePaths))
	}
	v := e.View(w)
	arb := e.Arbiter()
	var out []string
	for _, path := range paths {
		canonical, ok := toCanonical(w.Protocol, path)
		if !ok {
			return nil, datamodel.Fail(datamodel.NotSupported, path, "")
		}
		m, ok := e.schema.Lookup(canonical)
		if !ok || m.Command != nil || strings.Contains(canonical, "{i}") || m.Param == nil && !strings.HasSuffix(canonical, ".") {
			return nil, datamodel.Fail(datamodel.NotSupported, path, "not a parameter, row or object")
		}
		if !v.tree().exists(canonical) {
			return nil, datamodel.Fail(datamodel.NoInstance, path, "")
		}
		if !e.mayChange(v, w, m, canonical) {
			return nil, datamodel.Fail(datamodel.Denied, path, "")
		}
		if verdict := arb.Decide(Proposal{Phase: e.PhaseAt(v.v), Writer: w, Path: canonical, New: "\x00"}); verdict.Static || verdict.Reason == datamodel.Shadowed {
			return nil, datamodel.Fail(datamodel.Denied, path, verdict.Text)
		}
		if !slices.Contains(out, canonical) {
			out = append(out, canonical)
		}
	}
	return out, nil
}

// mayChange: the writer may write the parameter, or something of the object.
func (e *Engine) mayChange(v *View, w Writer, m datamodel.Match, path string) bool {
	if m.Param != nil {
		return w.may(v.v, path, WriteParam)
	}
	if w.may(v.v, path, AddRow) || w.may(v.v, path, DeleteRow) {
		return true
	}
	return slices.ContainsFunc(m.Object.Params, func(p *datamodel.Param) bool { return w.may(v.v, path+p.Name, WriteParam) })
}

// reserve holds the paths before the commit; all or nothing.
func (e *Engine) reserve(cl *claim, now time.Time) error {
	c := &e.claims
	c.mu.Lock()
	defer c.mu.Unlock()
	c.purge(now)
	own, all := 0, 0
	for o := range c.all {
		if o.kind != HeldByLease {
			continue
		}
		if all++; o.by == cl.by {
			own++
		}
	}
	if own >= MaxLeasesEach || all >= MaxLeases {
		return tooMany(fmt.Sprintf("leases of a writer, and %d of all", MaxLeases), MaxLeasesEach, 60)
	}
	for _, p := range cl.paths {
		if o := c.find(p, cl.by, now); o != nil {
			o.contended = true
			return e.styled(datamodel.Fail(datamodel.Leased, p, fmt.Sprintf("held by %s (%s %d); retry after %d s", o.by, o.kind, o.id,
				seconds(o.expires.Sub(now)))))
		}
		for _, k := range c.cooling {
			if k.by == cl.by && now.Before(k.until) && slices.ContainsFunc(k.paths, func(q string) bool { return related(p, q) }) {
				return e.styled(datamodel.Fail(datamodel.Leased, p, fmt.Sprintf("others waited for your last lease; retry after %d s",
					seconds(k.until.Sub(now)))))
			}
		}
	}
	c.add(cl)
	return nil
}

// noteLease makes the commit that tells of a lease. A record makes it one; its content is of no use later.
func (e *Engine) noteLease(ctx context.Context, w Writer, cl *claim, what string) (store.Commit, error) {
	meta := store.Meta{Writer: w.Name, Kind: "lease"}
	if w.Protocol != 0 {
		meta.Protocol = w.Protocol.String()
	}
	return e.store.Update(ctx, meta, func(tx *store.Tx) error {
		for _, p := range cl.paths {
			tx.Note(store.Note{Op: store.DeltaNote, Path: p, Verdict: what, Rule: "lease",
				New: strconv.FormatInt(int64(cl.expires.Sub(cl.since)/time.Second), 10)})
		}
		return tx.PutRecord(stateBucket, "lease", strconv.AppendUint(nil, tx.Base().Rev()+1, 10))
	})
}

// RenewLease lets a lease of w last d from now on. One that others wait for is not renewed.
func (e *Engine) RenewLease(ctx context.Context, w Writer, id uint64, d time.Duration) (Lease, error) {
	if err := leaseTime(d); err != nil {
		return Lease{}, err
	}
	c := &e.claims
	c.mu.Lock()
	cl, err := c.leaseOf(w, id)
	if err == nil && cl.contended {
		err = e.styled(datamodel.Fail(datamodel.Leased, "", "others wait for it"))
	}
	if err != nil {
		c.mu.Unlock()
		return Lease{}, err
	}
	old := cl.expires
	cl.expires = time.Now().Add(d)
	renewed := *cl
	c.mu.Unlock()
	if _, err := e.noteLease(ctx, w, &renewed, "renew"); err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		cl.expires = old
		return Lease{}, err
	}
	return renewed.lease(), nil
}

// ReleaseLease ends a lease of w before its time.
func (e *Engine) ReleaseLease(ctx context.Context, w Writer, id uint64) error {
	c := &e.claims
	c.mu.Lock()
	cl, err := c.leaseOf(w, id)
	if err == nil {
		c.cool(cl, time.Now())
		c.remove(cl)
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	_, err = e.noteLease(ctx, w, cl, "release")
	return err
}

func (c *claims) leaseOf(w Writer, id uint64) (*claim, error) {
	c.purge(time.Now())
	for cl := range c.all {
		if cl.kind == HeldByLease && cl.id == id && !cl.pending && (cl.by == w.Name || w.System || w.Class == ClassUser) {
			return cl, nil
		}
	}
	return nil, datamodel.Fail(datamodel.InvalidArgs, "", "no lease "+strconv.FormatUint(id, 10)+" of "+w.Name)
}

// Leases lists those in force, oldest first.
func (e *Engine) Leases() []Lease {
	c := &e.claims
	c.mu.Lock()
	defer c.mu.Unlock()
	c.purge(time.Now())
	var out []Lease
	for cl := range c.all {
		if cl.kind == HeldByLease && !cl.pending {
			out = append(out, cl.lease())
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out
}
