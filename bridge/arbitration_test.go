package bridge

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"twinspan/datamodel"
	"twinspan/store"
)

// withControllers gives main2 and app rows of their own, so that they can own something.
func withControllers(o *Options) {
	for i, id := range []string{"self::app", "self::main2"} {
		o.Profile.Factory[fmt.Sprintf("Device.LocalAgent.Controller.%d.EndpointID", i+2)] = id
		o.Profile.Factory[fmt.Sprintf("Device.LocalAgent.Controller.%d.Enable", i+2)] = "true"
	}
}

var main2 = Writer{Name: "usp:self::main2", Protocol: datamodel.USP, Class: ClassMain}

func testOrders(t testing.TB, initial Phase, rules ...Rule) *Orders {
	t.Helper()
	o, err := NewOrders(initial, 0, func(p Phase) (*ClassOrder, error) { return NewClassOrder(p, rules...) })
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func code(value string) Change { return whole(set("Device.DeviceInfo.", "ProvisioningCode", value)) }

// TestReplay: every verdict in the journal is what the arbiter says again of what the journal tells (P7), and the owners
// that it tells of are those that a plain replay of the lines gives.
func TestReplay(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			replay(t, seed)
		})
	}
}

func replay(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	rules := []Rule{
		{ID: "last", Path: "Device.Time.**", OnConflict: OnLast},
		{ID: "first-come", Path: "Device.IP.Interface.*.MaxMTUSize", OnConflict: OnYield},
		{ID: "made", Path: "Device.DHCPv4.Server.Pool.*.**", OnConflict: OnCreator},
		{ID: "few", Path: "Device.IP.Interface.1.Enable", Writers: []string{"$primary", "cli"}},
	}
	r := newRig(t, withControllers, func(o *Options) { o.Arbiter, o.Wait = testOrders(t, PhaseDualCWMP, rules...), -1 })
	phase := PhaseDualCWMP
	r.SetPhaseSource(func(v *store.Version) Phase {
		p, _ := v.Record("test", "phase")
		return Phase(p)
	})
	ctx := context.Background()
	writers := []Writer{acs, mainC, main2, appC, user}
	var session *Shield
	for range 600 {
		w := writers[rnd.IntN(len(writers))]
		var c Change
		switch rnd.IntN(12) {
		case 0:
			if session == nil {
				session = r.Shield(acs)
			} else {
				session.Close()
				session = nil
			}
			continue
		case 1:
			phase = Phases()[rnd.IntN(5)]
			c = Change{Records: []Record{{Bucket: "test", Key: "phase", Data: []byte(phase)}}}
		case 2:
			_, _ = r.AcquireLease(ctx, w, []string{"Device.Time."}, time.Second*time.Duration(1+rnd.IntN(5)))
			for _, l := range r.Leases() {
				if rnd.IntN(2) == 0 {
					_ = r.ReleaseLease(ctx, Writer{Name: l.Writer}, l.ID)
				}
			}
			continue
		case 3:
			c = whole(add("Device.DHCPv4.Server.Pool."))
		case 4:
			c = partial(del("Device.DHCPv4.Server.Pool.*."))
		case 5:
			_, _ = r.ReleaseOwnership(ctx, w, "Device.Time.")
			continue
		default:
			v := fmt.Sprint(rnd.IntN(3) * 100)
			ops := []Op{
				set("Device.Time.", "LocalTimeZone", "Z"+v), set("Device.DeviceInfo.", "ProvisioningCode", v), set("Device.IP.Interface.1.", "MaxMTUSize", "1"+v),
				set("Device.IP.Interface.1.", "Enable", fmt.Sprint(rnd.IntN(2) == 0)), set("Device.DHCPv4.Server.Pool.*.", "LeaseTime", v),
				set("Device.ManagementServer.", "Password", v),
			}
			rnd.Shuffle(len(ops), func(i, j int) { ops[i], ops[j] = ops[j], ops[i] })
			c = Change{Ops: ops[:1+rnd.IntN(3)], Atomic: rnd.IntN(2) == 0, AllErrors: true}
		}
		if w.Name == acs.Name && session != nil {
			_, _ = session.Apply(ctx, c)
		} else {
			_, _ = r.Apply(ctx, w, c)
		}
	}
	if session != nil {
		session.Close()
	}
	if len(r.Conflicts()) == 0 {
		t.Fatal("nothing was refused")
	}
	time.Sleep(1100 * time.Millisecond) // refusals are journaled lazily
	owner, rules2 := map[string]string{}, r.Arbiter()
	seen := map[string]int{}
	judgedLines, lines := 0, 0
	err := r.store.Journal(0, func(e *store.Entry) bool {
		for i := range e.Deltas {
			d := &e.Deltas[i]
			lines++
			p, _, ok := ProposalOf(e, d)
			if !ok {
				if e.Meta.Protocol != "" && d.Op != store.DeltaNote && d.Rule != "sys" && d.Verdict != "cascade" && d.Verdict != "" {
					t.Fatalf("revision %d: no proposal in %+v", e.Rev, d)
				}
				continue
			}
			judgedLines++
			v := rules2.Decide(p)
			want := v.Kind.String()
			if v.Kind == Yield {
				want = "yield: " + v.Text
			} else if p.Unseen != 0 {
				want += fmt.Sprintf(" overwrote_unseen=%d", p.Unseen)
			}
			want = want[:min(len(want), store.MaxName)]
			if want != d.Verdict || v.Rule != d.Rule {
				t.Fatalf("revision %d %s: recorded %q by %q, replayed %q by %q\n%+v", e.Rev, d.Path, d.Verdict, d.Rule, want, v.Rule, d)
			}
			seen[v.Kind.String()+" "+v.Reason.String()]++
			if p.Owner != "" && owner[d.Path] != "" && !strings.HasSuffix(d.Path, ".") && p.Owner != owner[d.Path] && len(r.owners.released) == 0 && len(p.CoOwners) == 0 {
				t.Fatalf("revision %d %s: owner %s, by replay %s", e.Rev, d.Path, p.Owner, owner[d.Path])
			}
		}
		for i := range e.Deltas {
			if d := &e.Deltas[i]; d.Op == store.DeltaSet {
				owner[d.Path] = e.Meta.Writer
			}
		}
		return true
	})
	if err != nil || judgedLines < 100 {
		t.Fatalf("%v, %d of %d lines judged", err, judgedLines, lines)
	}
	t.Log(judgedLines, "verdicts of", lines, "lines", seen)
}

// TestReplayFindsFaults: a journal that was tampered with does not replay.
func TestReplayFindsFaults(t *testing.T) {
	r := newRig(t)
	r.do(mainC, code("a"))
	e := r.entry(r.do(acs, code("b")).Revision)
	d := e.Deltas[0]
	p, _, ok := ProposalOf(e, &d)
	if !ok || p.Owner != mainC.Name || p.OwnerClass != ClassMain || p.Writer.Class != ClassACS {
		t.Fatalf("%+v", p)
	}
	if v := r.Arbiter().Decide(p); v.Kind != Take {
		t.Fatalf("%+v", v)
	}
	d.Facts = ""
	if p, _, _ := ProposalOf(e, &d); r.Arbiter().Decide(p).Kind == Take {
		t.Fatal("without its facts the line replays all the same")
	}
	d.Facts = "o=x"
	if _, _, ok := ProposalOf(e, &d); ok {
		t.Fatal("broken facts are taken")
	}
}

// TestDamping: two level-triggered masters that set their values for ever are stopped at the third alternation, with one
// conflict row. The second time they are held for twice as long.
func TestDamping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, withControllers)
		ctx := context.Background()
		war := func() (alternations int, refused error) {
			last := ""
			for range 200 {
				for _, w := range []Writer{mainC, main2} {
					res, err := r.Apply(ctx, w, code(w.Name))
					if err != nil {
						refused = err
					} else if res.Changed {
						if last != "" && last != w.Name {
							alternations++
						}
						last = w.Name
					}
				}
				time.Sleep(time.Second)
			}
			return alternations, refused
		}
		n, err := war()
		if n > dampAfter || deepest(err) != datamodel.Damped {
			t.Fatalf("%d alternations, then %v", n, err)
		}
		for _, want := range []string{"until 2000-01-01T00:", "rule default", "left to " + mainC.Name, "settle with a rule"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not say %q", err, want)
			}
		}
		var rows []ConflictRow
		for _, c := range r.Conflicts() {
			if c.Reason == datamodel.Damped {
				rows = append(rows, c)
			}
		}
		if len(rows) != 1 || rows[0].Count < 190 || rows[0].Winner != mainC.Name {
			t.Fatalf("%+v", rows)
		}
		refused := 0
		_ = r.store.Journal(0, func(e *store.Entry) bool {
			for _, d := range e.Deltas {
				if d.Op == store.DeltaRefused {
					refused++
					if d.Old != mainC.Name || d.New != main2.Name {
						t.Errorf("%+v", d)
					}
				}
			}
			return true
		})
		if refused == 0 || refused > 5 {
			t.Fatalf("%d journal lines for one quarrel", refused)
		}
		f := r.Frozen()
		if len(f) != 1 || f[0].Level != 1 || f[0].Winner != mainC.Name {
			t.Fatalf("%+v", f)
		}
		r.do(mainC, code("the winner may go on"))
		time.Sleep(freezeFirst)
		r.do(main2, code("free again"))
		if n, err = war(); n > dampAfter || deepest(err) != datamodel.Damped {
			t.Fatalf("%d alternations, then %v", n, err)
		}
		if f := r.Frozen(); len(f) != 1 || f[0].Level != 2 || time.Until(f[0].Until) < freezeFirst {
			t.Fatalf("%+v", f)
		}
		if !r.Thaw(f[0].Path) || len(r.Frozen()) != 0 {
			t.Fatal("not thawed")
		}
	})
}

// TestDampingByClass: the class that goes first wins a fight that a rule allows.
func TestDampingByClass(t *testing.T) {
	r := newRig(t, withControllers, atPhase(t, PhaseDualUSP, Rule{ID: "l", Path: "Device.DeviceInfo.**", OnConflict: OnLast}))
	r.do(mainC, code("1"))
	r.do(acs, code("2"))
	r.do(mainC, code("3"))
	if err := r.refuse(acs, code("4"), datamodel.Damped); !strings.Contains(err.Error(), mainC.Name) {
		t.Fatal(err)
	}
	r.do(mainC, code("5"))
	r = newRig(t, withControllers, atPhase(t, PhaseDualUSP, Rule{ID: "l", Path: "Device.DeviceInfo.**", OnConflict: OnLast}))
	r.do(acs, code("1"))
	r.do(mainC, code("2"))
	r.do(acs, code("3"))
	r.do(mainC, code("4")) // wins by the third alternation
	r.refuse(acs, code("5"), datamodel.Damped)
}

func TestLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, withControllers)
		ctx := context.Background()
		take := func(w Writer, d time.Duration, paths ...string) (Lease, error) {
			return r.AcquireLease(ctx, w, paths, d)
		}
		l, err := take(mainC, 30*time.Second, "Device.DeviceInfo.", "Device.Time.LocalTimeZone")
		if err != nil || l.ID != r.store.Head().Rev() {
			t.Fatalf("%+v %v", l, err)
		}
		r.do(mainC, code("holder"))
		begin := time.Now()
		err = r.refuse(acs, code("acs"), datamodel.Leased)
		if d := time.Since(begin); d != maxPatience {
			t.Errorf("waited %s", d)
		}
		for _, want := range []string{"lease " + fmt.Sprint(l.ID) + " of " + mainC.Name, "retry after 28 s", "rule default"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not say %q", err, want)
			}
		}
		r.do(acs, whole(set("Device.Time.", "Enable", "true"))) // beside it
		// All or nothing.
		if _, err := take(acs, time.Second, "Device.IP.", "Device.DeviceInfo.ProvisioningCode"); datamodel.ReasonOf(err) != datamodel.Leased {
			t.Fatal(err)
		}
		if _, err := take(user, time.Second, "Device.IP."); err != nil {
			t.Fatal("a part of a refused lease is held:", err)
		}
		// A change that waits goes on when the lease ends.
		go func() {
			time.Sleep(time.Second)
			if err := r.ReleaseLease(ctx, mainC, l.ID); err != nil {
				t.Error(err)
			}
		}()
		begin = time.Now()
		r.do(acs, code("acs"))
		if d := time.Since(begin); d != time.Second {
			t.Errorf("waited %s", d)
		}
		// Others waited: not again at once.
		if _, err := take(mainC, time.Second, "Device.DeviceInfo.ProvisioningCode"); datamodel.ReasonOf(err) != datamodel.Leased {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if l, err = take(mainC, 2*time.Second, "Device.DeviceInfo.ProvisioningCode"); err != nil {
			t.Fatal(err)
		}
		if l, err = r.RenewLease(ctx, mainC, l.ID, 5*time.Second); err != nil || time.Until(l.Expires) != 5*time.Second {
			t.Fatal(l, err)
		}
		if _, err := r.RenewLease(ctx, main2, l.ID, time.Second); err == nil {
			t.Fatal("somebody else's lease was renewed")
		}
		time.Sleep(5 * time.Second)
		if len(r.Leases()) != 0 {
			t.Fatal("a lease outlives its time")
		}
		// The lease of a Controller ends with its row.
		if _, err := take(main2, time.Minute, "Device.DeviceInfo."); err != nil {
			t.Fatal(err)
		}
		r.do(user, whole(set("Device.LocalAgent.Controller.3.", "Enable", "false")))
		r.do(acs, code("free"))
	})
}

func TestLeaseLimits(t *testing.T) {
	r := newRig(t, withControllers)
	ctx := context.Background()
	for name, c := range map[string]struct {
		w     Writer
		paths []string
		d     time.Duration
		want  datamodel.Reason
	}{
		"short":       {mainC, []string{"Device.Time."}, time.Millisecond, datamodel.InvalidArgs},
		"long":        {mainC, []string{"Device.Time."}, MaxLease + 1, datamodel.InvalidArgs},
		"none":        {mainC, nil, time.Second, datamodel.InvalidArgs},
		"many":        {mainC, make([]string, MaxLeasePaths+1), time.Second, datamodel.InvalidArgs},
		"unknown":     {mainC, []string{"Device.Tiem."}, time.Second, datamodel.NotSupported},
		"command":     {mainC, []string{"Device.Reboot()"}, time.Second, datamodel.NotSupported},
		"no row":      {mainC, []string{"Device.IP.Interface.9."}, time.Second, datamodel.NoInstance},
		"no dot":      {mainC, []string{"Device.Time"}, time.Second, datamodel.NotSupported},
		"spelling":    {acs, []string{"Device.LocalAgent."}, time.Second, datamodel.NotSupported},
		"not written": {Writer{Name: "usp:x", Class: "nobody", Protocol: datamodel.USP}, []string{"Device.Time."}, time.Second, datamodel.Denied},
	} {
		if _, err := r.AcquireLease(ctx, c.w, c.paths, c.d); datamodel.ReasonOf(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	for i := range MaxLeasesEach + 1 {
		_, err := r.AcquireLease(ctx, mainC, []string{"Device.Time."}, time.Minute)
		if (err == nil) != (i < MaxLeasesEach) {
			t.Fatal(i, err)
		}
	}
	for i := 0; i < MaxLeases; i++ {
		w := Writer{Name: fmt.Sprintf("lan:%d", i/MaxLeasesEach), Protocol: datamodel.USP, Class: ClassUser}
		_, err := r.AcquireLease(ctx, w, []string{fmt.Sprintf("Device.IP.Interface.%d.", 1+i%2)}, time.Minute)
		if i/MaxLeasesEach == 0 && err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.Leases()); n > MaxLeases {
		t.Fatal(n)
	}
}

// TestLeaseModel compares leases with the plainest table of them.
func TestLeaseModel(t *testing.T) {
	paths := []string{"Device.Time.", "Device.Time.Enable", "Device.IP.", "Device.IP.Interface.1.", "Device.IP.Interface.1.Enable", "Device.DeviceInfo."}
	rapid.Check(t, func(rt *rapid.T) {
		e := &Engine{}
		c := &e.claims
		type held struct {
			cl    *claim
			paths []string
		}
		now := time.Unix(1e9, 0)
		table := map[*claim]held{}
		rt.Repeat(map[string]func(*rapid.T){
			"take": func(rt *rapid.T) {
				by := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "by")
				want := rapid.SliceOfNDistinct(rapid.SampledFrom(paths), 1, 3, rapid.ID[string]).Draw(rt, "paths")
				cl := &claim{kind: HeldByLease, by: by, paths: want, since: now, expires: now.Add(time.Duration(rapid.IntRange(1, 20).Draw(rt, "s")) * time.Second)}
				own, clash := 0, false
				for o := range table {
					if o.by == by {
						own++
						continue
					}
					for _, p := range want {
						clash = clash || slices.ContainsFunc(o.paths, func(q string) bool { return related(p, q) })
					}
				}
				err := e.reserve(cl, now)
				for o := range table { // who is asked for is contended
					o.contended = false
				}
				if ok := own < MaxLeasesEach && len(table) < MaxLeases && !clash; (err == nil) != ok {
					rt.Fatalf("%v, model %v", err, ok)
				}
				if err == nil {
					table[cl] = held{cl, want}
				}
			},
			"time": func(rt *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 10).Draw(rt, "s")) * time.Second)
				for o := range table {
					if !now.Before(o.expires) {
						delete(table, o)
					}
				}
				c.purge(now)
			},
			"end": func(rt *rapid.T) {
				for o := range table {
					c.remove(o)
					delete(table, o)
					break
				}
			},
			"": func(rt *rapid.T) {
				for _, p := range paths {
					for _, w := range []string{"a", "b", "c"} {
						want := false
						for o := range table {
							want = want || o.by != w && slices.ContainsFunc(o.paths, func(q string) bool { return related(p, q) })
						}
						if got := c.find(p, w, now) != nil; got != want {
							rt.Fatalf("%s for %s: held %v, model %v", p, w, got, want)
						}
					}
				}
				if n := len(c.all); n != len(table) {
					rt.Fatalf("%d claims, model %d", n, len(table))
				}
			},
		})
	})
}

// TestSessionHolds: what the ACS has written in its open session waits for the end of it.
func TestSessionHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, withControllers, atPhase(t, PhaseDualUSP, Rule{ID: "claims", Path: "Device.IP.**", SessionClaims: true}))
		s := r.Shield(acs)
		if _, err := s.Apply(context.Background(), code("session")); err != nil {
			t.Fatal(err)
		}
		err := r.refuse(mainC, code("main"), datamodel.Leased)
		if !strings.Contains(err.Error(), "an open session of cwmp") {
			t.Fatal(err)
		}
		_, err = r.Apply(context.Background(), mainC, whole(set("Device.IP.Interface.1.", "Enable", "true"))) // never written, but claimed
		if deepest(err) != datamodel.Leased {
			t.Fatal(err)
		}
		r.do(mainC, whole(set("Device.Time.", "Enable", "true")))
		begin := time.Now()
		go func() {
			time.Sleep(time.Second)
			s.Close()
		}()
		r.do(mainC, code("main"))
		if d := time.Since(begin); d != time.Second {
			t.Errorf("waited %s", d)
		}
		// A session that nobody closes ends by itself.
		s = r.Shield(acs)
		if _, err := s.Apply(context.Background(), whole(set("Device.Time.", "LocalTimeZone", "UTC"))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(60 * time.Second)
		r.do(mainC, whole(set("Device.Time.", "LocalTimeZone", "CET")))
		s.Close()
	})
}

func TestCoOwners(t *testing.T) {
	r := newRig(t, withControllers, atPhase(t, PhaseDualUSP))
	r.do(acs, code("shared"))
	rev := r.store.Head().Rev()
	r.do(mainC, code("shared"))
	if r.store.Head().Rev() != rev {
		t.Fatal("relying on a value made a commit")
	}
	list, _ := r.Owners("Device.DeviceInfo.", 0, 10)
	if len(list) != 1 || list[0].Writer != acs.Name || len(list[0].CoOwners) != 1 || list[0].CoOwners[0].Writer != mainC.Name {
		t.Fatalf("%+v", list)
	}
	// The owner is weaker than who relies on it.
	if err := r.refuse(acs, code("alone"), datamodel.Refused); !strings.Contains(err.Error(), "class main goes before acs") {
		t.Fatal(err)
	}
	// The owner's claim given up, the co-owner has it.
	if n, err := r.ReleaseOwnership(context.Background(), acs, ""); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if list, _ = r.Owners("", 0, 10); len(list) != 1 || list[0].Writer != mainC.Name {
		t.Fatalf("%+v", list)
	}
	if n, _ := r.ReleaseOwnership(context.Background(), acs, "Device.IP."); n != 0 {
		t.Fatal(n)
	}
	r.refuse(user, code("user"), datamodel.Refused)
	r.do(mainC, code("its own now"))
	if list, _ = r.Owners("", 0, 10); list[0].CoOwners != nil {
		t.Fatalf("a new value has old co-owners: %+v", list)
	}
}

// TestArbitrationSurvives: co-owners, releases and damping are there after a restart.
func TestArbitrationSurvives(t *testing.T) {
	s := store.OpenMemory(store.Options{})
	defer s.Close()
	p := testProfile()
	withControllers(&Options{Profile: p})
	open := func() *rig {
		e, err := New(Options{Schema: loadSchema(t, p), Profile: p, Store: s})
		if err == nil {
			err = e.Start(context.Background())
		}
		if err != nil {
			t.Fatal(err)
		}
		return &rig{e, t}
	}
	r := open()
	for i := range 4 {
		_, _ = r.Apply(context.Background(), []Writer{mainC, main2}[i%2], whole(set("Device.Time.", "LocalTimeZone", fmt.Sprint(i))))
	}
	r.do(acs, code("x"))
	r.do(mainC, code("x"))
	if len(r.Frozen()) != 1 {
		t.Fatal("no fight")
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = open()
	defer r.Close()
	if f := r.Frozen(); len(f) != 1 || f[0].Winner != mainC.Name {
		t.Fatalf("%+v", f)
	}
	if l, _ := r.Owners("Device.DeviceInfo.", 0, 1); len(l) != 1 || len(l[0].CoOwners) != 1 {
		t.Fatalf("%+v", l)
	}
}

func TestOwnerAge(t *testing.T) {
	var o owners
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ttl := 90 * 24 * time.Hour
	for day := range 400 {
		o.age(now.Add(time.Duration(day)*24*time.Hour), ttl, uint64(1000+day), true)
	}
	now = now.Add(399 * 24 * time.Hour)
	old := o.age(now, ttl, 2000, false)
	if old > 1000+399-90 || old < 1000+399-90-5 {
		t.Fatalf("revisions up to %d are 90 days old", old)
	}
	if len(o.marks) > maxMarks {
		t.Fatal(len(o.marks))
	}
	if !o.ended("p", "w", old, old) || o.ended("p", "w", old+1, old) {
		t.Fatal("age is not what counts")
	}
	o.asserts("p", old, &Proposal{Writer: Writer{Name: "w"}, Owner: "w"}, 1399, old)
	if o.ended("p", "w", old, old) {
		t.Fatal("asserted again, and yet too old")
	}
	if got := o.age(time.Unix(0, 0), ttl, 1, true); got != 0 {
		t.Fatal("ages by a clock that is not set")
	}
}

func TestIfRevision(t *testing.T) {
	const guard = "Device.ManagementServer.Username" // stands in for the vendor's parameter
	r := newRig(t, func(o *Options) { o.GuardParam = guard })
	rev := r.do(acs, code("a")).Revision
	guarded := func(value string) Change {
		c := code("b" + value)
		c.Ops = append(c.Ops, set("Device.ManagementServer.", "Username", value))
		return c
	}
	r.do(acs, guarded(fmt.Sprint(rev)))
	r.refuse(acs, guarded(fmt.Sprint(rev)), datamodel.Guard)
	r.do(acs, guarded(fmt.Sprint(rev, "@Device.Time.")))
	r.refuse(acs, guarded("99999"), datamodel.Guard)
	r.refuse(acs, guarded("soon"), datamodel.InvalidValue)
	r.refuse(acs, guarded("1@Device.Tiem."), datamodel.InvalidValue)
	r.is(acs, guard, "") // acts, is not kept
	c := guarded("0@Device.DeviceInfo.")
	c.Atomic = false
	before := r.store.Head().Rev()
	res, err := r.Apply(context.Background(), acs, c)
	if deepest(err) != datamodel.Guard || res.Outcomes[0].Err == nil || r.store.Head().Rev() != before {
		t.Fatalf("survivors of a failed guard: %v %+v", err, res)
	}
}

// TestSixteenHotWriters: sixteen writers as fast as they can, a session, and leases: nobody waits for more than 5 s.
func TestSixteenHotWriters(t *testing.T) {
	slowest, n := hotWriters(t, 1500*time.Millisecond)
	t.Logf("%d changes, slowest %s", n, slowest)
	if slowest > 5*time.Second || n < 50 {
		t.Fatal("too slow")
	}
}

func hotWriters(t testing.TB, during time.Duration) (slowest time.Duration, n int) {
	r := newRig(t, onFile(t, t.TempDir()+"/db"), func(o *Options) { o.ShieldChanges = 1 << 20 },
		atPhase(t, PhaseDualCWMP, Rule{ID: "hot", Path: "Device.IP.**", OnConflict: OnLast, NoDamp: true}))
	ctx := context.Background()
	s := r.Shield(acs)
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	end := time.Now().Add(during)
	for i := range 16 {
		wg.Go(func() {
			w := Writer{Name: fmt.Sprintf("usp:self::hot%d", i), Protocol: datamodel.USP, Class: []string{ClassMain, ClassApps}[i%2]}
			for k := 0; time.Now().Before(end); k++ {
				begin := time.Now()
				_, err := r.Apply(ctx, w, whole(set("Device.IP.Interface.1.", "MaxMTUSize", fmt.Sprint(100+i+16*(k%9))), set("Device.IP.Interface.2.", "MaxMTUSize", fmt.Sprint(100+k%900))))
				d := time.Since(begin)
				if err != nil && !deepest(err).Arbitrated() {
					t.Error(err)
					return
				}
				mu.Lock()
				all = append(all, d)
				mu.Unlock()
			}
		})
	}
	wg.Go(func() {
		for k := 0; time.Now().Before(end); k++ {
			begin := time.Now()
			_, err := s.Apply(ctx, code(fmt.Sprint(k)))
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			all = append(all, time.Since(begin))
			mu.Unlock()
		}
	})
	wg.Go(func() {
		for time.Now().Before(end) {
			l, err := r.AcquireLease(ctx, user, []string{"Device.IP.Interface.2."}, time.Second)
			if err == nil {
				time.Sleep(20 * time.Millisecond)
				_ = r.ReleaseLease(ctx, user, l.ID)
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	wg.Wait()
	s.Close()
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	if len(all) == 0 {
		return 0, 0
	}
	return all[len(all)-1], len(all)
}

// TestQueues: the deficit round robin against its promises: each writer's changes in their order, bounded queues, and
// between writers that always have something, leaves by weight.
func TestQueues(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := scheduler{most: 1, queues: map[string]*writerQueue{}, inflight: 1}
		weights := map[string]int{"a": 4, "b": 2, "c": 1}
		now := time.Now()
		cost := rapid.IntRange(16, 200).Draw(rt, "cost")
		put := func(w string, n int) {
			q := s.queues[w]
			if q == nil {
				q = &writerQueue{name: w}
				s.queues[w] = q
			}
			q.weight = weights[w]
			if len(q.list) == 0 {
				s.ring = append(s.ring, q)
			}
			q.list = append(q.list, &ticket{cost: n, since: now, ready: make(chan struct{})})
		}
		order := rapid.Permutation([]string{"a", "b", "c"}).Draw(rt, "order")
		for _, w := range order {
			for range 3 {
				put(w, cost)
			}
		}
		served := map[string]int{}
		for range 3000 {
			heads := map[*ticket]string{}
			for w, q := range s.queues {
				heads[q.list[0]] = w
			}
			got := s.next(now)
			w, first := heads[got]
			if !first {
				rt.Fatal("not the first of its writer")
			}
			served[w] += got.cost
			put(w, cost)
		}
		unit := float64(served["c"])
		for w, k := range weights {
			if got := float64(served[w]) / unit; got < 0.85*float64(k) || got > 1.15*float64(k) {
				rt.Fatalf("%s got %.2f of c's share, want %d: %v", w, got, k, served)
			}
		}
		// What is old goes first, whoever it is.
		old := s.queues["c"].list[0]
		old.since = now.Add(-3 * time.Second)
		if s.next(now) != old {
			rt.Fatal("an old change waits on")
		}
	})
}

func TestQueueBounds(t *testing.T) {
	s := scheduler{most: 1, queues: map[string]*writerQueue{}}
	ctx, cancel := context.WithCancel(context.Background())
	leave, err := s.enter(ctx, "a", 1, 1, 1, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range maxQueued {
		wg.Go(func() {
			if _, err := s.enter(ctx, "a", 1, 1, 1, time.Now()); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	for s.waiting("a") < maxQueued {
		time.Sleep(time.Millisecond)
	}
	if _, err := s.enter(ctx, "a", 1, 1, 1, time.Now()); datamodel.ReasonOf(err) != datamodel.Resources || !strings.Contains(err.Error(), "retry after") {
		t.Fatal(err)
	}
	cancel()
	wg.Wait()
	leave()
	if s.inflight != 0 || len(s.ring) != 0 || len(s.queues) != 0 {
		t.Fatal("something is left")
	}
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.Rate, o.Burst = 20, 100 })
		begin := time.Now()
		for i := range 100 {
			r.do(mainC, code(fmt.Sprint(i)))
		}
		if d := time.Since(begin); d > 0 {
			t.Fatalf("the burst took %s", d)
		}
		for i := range 20 {
			r.do(mainC, code(fmt.Sprint(1000+i)))
		}
		if d := time.Since(begin); d < 900*time.Millisecond || d > 1100*time.Millisecond {
			t.Fatalf("20 more took %s", d)
		}
		time.Sleep(time.Minute)
		for range 500 { // commit nothing, cost nothing
			r.do(mainC, code("1019"))
		}
		for i := range 300 {
			r.do(acs, code(fmt.Sprint(i))) // not a Controller
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		refused := 0
		for i := range 200 {
			wg.Go(func() {
				if _, err := r.Apply(context.Background(), mainC, whole(set("Device.Time.", "LocalTimeZone", fmt.Sprint(i)))); datamodel.ReasonOf(err) == datamodel.Resources {
					mu.Lock()
					refused++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if refused == 0 {
			t.Fatal("200 at once were all taken")
		}
	})
}

// TestHandedToUSP: the ACS names USP in an AccessList and USP owns what was the ACS's.
func TestHandedToUSP(t *testing.T) {
	r := newRig(t)
	r.do(acs, code("acs"))
	r.refuse(mainC, code("main"), datamodel.Refused)
	list := []string{"X_TWINSPAN-EXAMPLE_USP"}
	r.do(acs, whole(Op{Kind: OpAttr, Path: "Device.DeviceInfo.ProvisioningCode", Attr: &AttrChange{AccessList: &list}}))
	r.do(mainC, code("main"))
	r.refuse(user, code("user"), datamodel.Denied)
	r.do(acs, code("acs again"))
}

func TestFaultStyle(t *testing.T) {
	for style, want := range map[datamodel.FaultStyle]datamodel.FaultStyle{0: 0, datamodel.StyleStandard: datamodel.StyleStandard} {
		r := newRig(t, func(o *Options) { o.Style = style })
		r.do(acs, code("acs"))
		err := r.refuse(mainC, code("main"), datamodel.Refused)
		var de *datamodel.Error
		for e := err; errors.As(e, &de) && de.Reason != datamodel.Refused; e = de.Err {
		}
		if de.Style != want {
			t.Errorf("%v: %+v", style, de)
		}
	}
}

// TestConfirmHolds: a confirm window refuses at once.
func TestConfirmHolds(t *testing.T) {
	r := newRig(t)
	end, err := r.Claim(HeldByConfirm, mainC.Name, 7, []string{"Device.DeviceInfo."}, time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := r.refuse(acs, code("acs"), datamodel.Confirming); !strings.Contains(err.Error(), "confirmation 7 by "+mainC.Name) || time.Since(begin) > time.Second {
		t.Fatal(err)
	}
	end()
	r.do(acs, code("acs"))
}
