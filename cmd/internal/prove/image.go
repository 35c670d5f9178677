package prove

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"twinspan/store"
)

// sector is the smallest piece of a write that a disk writes whole.
const sector = 512

// stream is what an agent did to its database, from a file that lay there.
type stream struct {
	base  []byte
	calls []call
}

// piece is a part of a write that reaches the disk whole or not at all; size -1: a truncate to off.
type piece struct {
	off  int64
	data []byte
	cut  bool
}

// disk is what a crash may leave: pieces that are there for sure, applied to bytes, and pieces that may be there.
type disk struct {
	bytes   []byte // up to the last one that was ever written
	size    int64  // of the file, which grows in large steps that hold nothing
	pending []piece
}

func (d *disk) apply(p piece) {
	if p.cut {
		d.size, d.bytes = p.off, d.bytes[:min(p.off, int64(len(d.bytes)))]
		return
	}
	end := p.off + int64(len(p.data))
	if over := end - int64(len(d.bytes)); over > 0 {
		d.bytes = append(d.bytes, make([]byte, over)...)
	}
	d.size = max(d.size, end)
	copy(d.bytes[p.off:], p.data)
}

// do is one call. keep decides of a write before a failed sync whether the disk has it all the same.
func (d *disk) do(c *call, keep func() bool) {
	switch {
	case c.kind == callWrite:
		data := c.data
		if c.errno != 0 {
			data = data[:c.torn]
		}
		if len(data) > 0 {
			d.pending = append(d.pending, piece{off: c.off, data: data})
		}
	case c.kind == callTruncate && c.errno == 0:
		d.pending = append(d.pending, piece{off: c.size, cut: true})
	case c.kind == callSync && c.errno == 0:
		for _, p := range d.pending {
			d.apply(p)
		}
		d.pending = d.pending[:0]
	case c.kind == callSync:
		for _, p := range d.pending {
			if p.cut || keep() {
				d.apply(p)
			}
		}
		d.pending = d.pending[:0]
	}
}

// split cuts the pending writes into pieces of a size; 0 leaves them whole.
func (d *disk) split(size int64) []piece {
	var out []piece
	for _, p := range d.pending {
		if p.cut || size == 0 {
			out = append(out, p)
			continue
		}
		for at := int64(0); at < int64(len(p.data)); at += size {
			end := min(at+size, int64(len(p.data)))
			out = append(out, piece{off: p.off + at, data: p.data[at:end]})
		}
	}
	return out
}

// image is the disk with some of the pieces.
func (d *disk) image(pieces []piece, has func(i int) bool) *disk {
	img := &disk{bytes: append(make([]byte, 0, len(d.bytes)+1<<16), d.bytes...), size: d.size}
	for i, p := range pieces {
		if has(i) {
			img.apply(p)
		}
	}
	return img
}

// write makes the file.
func (d *disk) write(path string) error {
	if err := os.WriteFile(path, d.bytes, 0o600); err != nil {
		return err
	}
	return os.Truncate(path, d.size)
}

// maxExhaustive is how many pieces are tried in all combinations.
const maxExhaustive = 8

// crashes calls visit for files that a power cut after the first n calls may leave: none, all, each one alone, all but each one, and
// random subsets, in pieces of 512 bytes and of pages; all subsets of the pages where they are few and all is set.
func (d *disk) crashes(rnd *rand.Rand, random int, all bool, visit func(kind string, img *disk) error) error {
	try := func(kind string, pieces []piece, has func(i int) bool) error {
		return visit(kind, d.image(pieces, has))
	}
	pages := d.split(4096)
	if all && len(pages) <= maxExhaustive {
		for mask := range 1 << len(pages) {
			if err := try("all subsets of the pages", pages, func(i int) bool { return mask>>i&1 != 0 }); err != nil {
				return err
			}
		}
	} else {
		for _, most := range []bool{false, true} {
			if err := try("none or all", pages, func(int) bool { return most }); err != nil {
				return err
			}
			if len(pages) > 0 {
				other := rnd.IntN(len(pages))
				if err := try("one page alone or missing", pages, func(i int) bool { return most != (i == other) }); err != nil {
					return err
				}
			}
		}
	}
	for range random {
		for _, size := range []int64{sector, 4096} {
			pieces := d.split(size)
			if len(pages) == 0 {
				return nil
			}
			part := []float64{0.1, 0.5, 0.9, 0.98}[rnd.IntN(4)]
			if err := try(fmt.Sprintf("random pieces of %d", size), pieces, func(int) bool { return rnd.Float64() < part }); err != nil {
				return err
			}
		}
		cut := rnd.IntN(len(pages) + 1) // in the order they were written, the last one torn
		if err := try("a torn prefix", d.split(sector), func(i int) bool { return i < cut*4096/sector-rnd.IntN(8) }); err != nil {
			return err
		}
	}
	return nil
}

// opener opens images and judges what is in them. Safe for concurrent use.
type opener struct {
	dir    string
	kept   string // where images that show a violation stay
	mu     sync.Mutex
	n      int
	counts map[string]int
}

// newOpener keeps its files in memory where it can.
func newOpener() (*opener, error) {
	parent := ""
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() {
		parent = "/dev/shm"
	}
	dir, err := os.MkdirTemp(parent, "twinspan-image-")
	return &opener{dir: dir, kept: os.TempDir(), counts: map[string]int{}}, err
}

func (o *opener) close() { _ = os.RemoveAll(o.dir) }

// open opens one image as the agent would, judges it, writes to it sometimes, and checks the file that is left.
func (o *opener) open(kind string, img *disk, judge func(v *view) error) error {
	o.mu.Lock()
	o.n++
	n := o.n
	o.counts[kind]++
	o.mu.Unlock()
	path := filepath.Join(o.dir, fmt.Sprintf("%d.db", n))
	if err := img.write(path); err != nil {
		return err
	}
	bad := func(err error) error {
		kept := filepath.Join(o.kept, fmt.Sprintf("twinspan-image-%d.db", n))
		if werr := img.write(kept); werr != nil {
			return errors.Join(err, werr)
		}
		return fmt.Errorf("%s: %w; the image is kept as %s", kind, err, kept)
	}
	s, err := store.Open(path, store.Options{})
	if err != nil {
		return bad(err)
	}
	err = judge(viewOfStore(s.Head()))
	if err == nil && n%8 == 0 {
		_, err = s.Update(context.Background(), store.Meta{Writer: "prove"}, func(tx *store.Tx) error { return tx.Set("Device.X_Prove", "after", 0) })
	}
	lost := s.Recovered() != nil
	if err := errors.Join(err, s.Close()); err != nil {
		return bad(err)
	}
	problems, err := store.Check(path)
	if err != nil || len(problems) > 0 {
		return bad(errors.Join(err, fmt.Errorf("store check: %d problems: %v", len(problems), problems)))
	}
	if lost {
		o.mu.Lock()
		o.counts["went back to the commit before"]++
		o.mu.Unlock()
	}
	return os.Remove(path)
}

// job is one image to be opened.
type job struct {
	kind string
	img  *disk
	at   int64
	what callKind
}

// walk goes through a stream and opens what power cuts leave of it: after every call, or after one of every so many.
func (o *opener) walk(ctx context.Context, st *stream, seed uint64, every, random int, judge func(at int64) func(v *view) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	jobs := make(chan job)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for j := range jobs {
				if err := o.open(j.kind, j.img, judge(j.at)); err != nil {
					cancel(fmt.Errorf("power cut after call %d of %d (%s): %w", j.at, len(st.calls), j.what, err))
				}
			}
		})
	}
	rnd := rand.New(rand.NewPCG(seed, 7))
	d := &disk{bytes: bytes.TrimRight(bytes.Clone(st.base), "\x00"), size: int64(len(st.base))}
	for i := range st.calls {
		d.do(&st.calls[i], func() bool { return rnd.IntN(2) == 0 })
		if every > 1 && rnd.IntN(every) != 0 || ctx.Err() != nil {
			continue
		}
		_ = d.crashes(rnd, random, rnd.IntN(16) == 0, func(kind string, img *disk) error {
			select {
			case jobs <- job{kind, img, int64(i + 1), st.calls[i].kind}:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}
	close(jobs)
	wg.Wait()
	return context.Cause(ctx)
}

// tapped is an agent under the interposer with lanes that remember everything.
type tapped struct {
	r     *rig
	t     *tap
	j     *judge
	lanes []*lane
	base  []byte
	hold  func()
	acs   *acsFace
}

// newTapped starts an agent once to make its database, and then under the interposer.
func newTapped(ctx context.Context, o Options, journal int) (_ *tapped, err error) {
	p := &tapped{j: newJudge(39, 40), hold: func() {}}
	if p.r, err = newRig(ctx, rigOptions{binary: o.Agent, journal: journal}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	release, _, err := p.r.up(ctx)
	if release != nil {
		release()
	}
	if err != nil {
		return nil, err
	}
	stop, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := errors.Join(p.r.device.WaitIdle(stop, 0), p.r.agent.Stop(stop)); err != nil {
		return nil, err
	}
	if p.base, err = os.ReadFile(p.r.database()); err != nil {
		return nil, err
	}
	if p.t, err = newTap(p.r); err != nil {
		return nil, err
	}
	if p.hold, _, err = p.r.up(ctx); err != nil {
		return nil, err
	}
	p.acs = &acsFace{device: p.r.device, every: 25}
	p.acs.renew = func(ctx context.Context) error { return p.r.newSession(ctx, &p.hold) }
	row := 1
	for _, f := range []struct {
		name string
		face face
	}{{"acs", p.acs}, {"a0", uspFace{p.r.a}}, {"a1", uspFace{p.r.a}}, {"b0", uspFace{p.r.b}}} {
		l := newLane(f.name, f.face, row, p.j, p.t.len, o.Seed)
		l.keep = true
		row += 2
		p.lanes = append(p.lanes, l)
	}
	acs := p.lanes[0]
	acs.keyed, acs.bare, acs.private, acs.table = true, true, true, users
	return p, nil
}

// stream ends the agent as a power cut does, and returns what it did.
func (p *tapped) stream() (*stream, error) {
	err := p.r.agent.Kill()
	err = errors.Join(err, p.t.close(p.r))
	st := &stream{base: p.base, calls: p.t.calls}
	p.t = nil
	return st, err
}

func (p *tapped) close() {
	p.hold()
	if p.r.agent.Running() {
		_ = p.r.agent.Kill()
	}
	if p.t != nil {
		_ = p.t.close(p.r)
	}
	p.r.close()
}

// imagesPerRound of the proof kill, which sets the pace.
const imagesPerRound = 5

// fullWalk is about how many images one workload gives when every fourth call is looked at.
const fullWalk = 900

// image records workloads and opens what power cuts leave of them.
func image(ctx context.Context, o Options, rounds int) (*Result, error) {
	res := &Result{Name: "image"}
	op, err := newOpener()
	if err != nil {
		return res, err
	}
	defer op.close()
	target := imagesPerRound * rounds
	counts := map[string]int{}
	calls, runs := 0, 0
	for op.n < target {
		if err := ctx.Err(); err != nil {
			return res, err
		}
		p, err := newTapped(ctx, o, 24+runs%2*1976)
		if err != nil {
			return res, err
		}
		st, err := p.record(ctx)
		if err == nil {
			err = p.j.seen
		}
		if err == nil {
			err = op.walk(ctx, st, o.Seed+uint64(runs), max(4, 4*fullWalk/target), 1, func(at int64) func(v *view) error {
				return func(v *view) error { _, err := p.j.check(v, p.lanes, at); return err }
			})
		}
		p.close()
		for what, n := range p.j.counts {
			counts[what] += n
		}
		runs++
		if err != nil {
			return res, err
		}
		calls += len(st.calls)
		o.Seed++
	}
	res.Cases = op.n
	res.say("%d images of %d recorded workloads with %d writes, syncs and truncations: %s", op.n, runs, calls, totals(op.counts))
	res.say("operations behind them: %s", pick(counts, "acknowledged", "unanswered", "refused"))
	return res, nil
}

// record lets the lanes write for a while and cuts the power.
func (p *tapped) record(ctx context.Context) (*stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for _, l := range p.lanes {
		wg.Go(func() { l.run(ctx) })
	}
	for began := p.t.len(); p.t.len() < began+400 && ctx.Err() == nil && !p.r.agent.Exited(); {
		time.Sleep(time.Millisecond)
	}
	st, err := p.stream()
	time.Sleep(5 * time.Millisecond)
	cancel()
	wg.Wait()
	return st, err
}
