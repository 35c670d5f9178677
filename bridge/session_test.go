package bridge

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"twinspan/datamodel"
	"twinspan/store"
)

func (s *Shield) get(path string) (string, error) { return s.View().get(path) }

func TestShield(t *testing.T) { // invariant 5
	r := newRig(t)
	ctx := context.Background()
	s := r.Shield(acs)
	defer s.Close()
	is := func(path, want string) {
		t.Helper()
		got, err := s.get(path)
		if err != nil || got != want {
			t.Fatalf("%s is %q (%v) in the session, want %q", path, got, err, want)
		}
	}
	apply := func(c Change) Result {
		t.Helper()
		res, err := s.Apply(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	r.do(mainC, whole(set("Device.Time.", "Enable", "true"), set("Device.DeviceInfo.", "ProvisioningCode", "usp")))
	is("Device.Time.Enable", "false")
	is("Device.DeviceInfo.ProvisioningCode", "factory")
	// An unseen overwrite is allowed while the ACS comes first, and says so.
	res := apply(whole(set("Device.DeviceInfo.", "ProvisioningCode", "acs")))
	is("Device.DeviceInfo.ProvisioningCode", "acs")
	r.is(mainC, "Device.DeviceInfo.ProvisioningCode", "acs")
	if d := r.entry(res.Revision).Deltas[0]; d.Verdict != "take overwrote_unseen=2" {
		t.Fatalf("%+v", d)
	}
	// Setting what is there already, unseen: no commit, but the session sees its own write.
	if res := apply(whole(set("Device.Time.", "Enable", "true"))); res.Changed {
		t.Fatal("commit")
	}
	is("Device.Time.Enable", "true")
	// Rows of others are not seen; own rows have their real numbers.
	r.do(mainC, whole(add("Device.IP.Interface.")))
	is("Device.IP.InterfaceNumberOfEntries", "2")
	if p := apply(whole(add("Device.IP.Interface.", "Enable", "true"))).Outcomes[0].Objects[0].Path; p != "Device.IP.Interface.4." {
		t.Fatal(p)
	}
	is("Device.IP.InterfaceNumberOfEntries", "3")
	is("Device.IP.Interface.4.Enable", "true")
	is("Device.IP.Interface.4.Alias", "cpe-4")
	if _, err := s.get("Device.IP.Interface.3.Enable"); err == nil {
		t.Fatal("a row of somebody else is seen")
	}
	// What somebody else deleted is still seen; writing it is refused, not called missing (never 9005).
	r.do(mainC, whole(del("Device.IP.Interface.2.")))
	is("Device.IP.Interface.2.Alias", "lan")
	_, err := s.Apply(ctx, whole(set("Device.IP.Interface.2.", "Enable", "true")))
	if datamodel.ReasonOf(err) != datamodel.Refused {
		t.Fatal(err)
	}
	apply(whole(del("Device.IP.Interface.4.")))
	is("Device.IP.InterfaceNumberOfEntries", "2")
	n := int8(2)
	apply(whole(Op{Kind: OpAttr, Path: "Device.Time.", Attr: &AttrChange{Notification: &n}}))
	v := s.View()
	ms, _ := v.Resolve("Device.Time.Enable", datamodel.ResolvePolicy{})
	if v.Attr(ms[0]).Notification != 2 {
		t.Fatal("own attributes are not seen")
	}
	if got := v.Revision(); got != 1 {
		t.Fatalf("the session's revision moved to %d", got)
	}
}

func TestShieldWhenUSPIsFirst(t *testing.T) {
	r := newRig(t, atPhase(t, PhaseDualUSP))
	s := r.Shield(acs)
	defer s.Close()
	r.do(acs, whole(set("Device.Time.", "Enable", "true"))) // somebody with the ACS's name: seen as its own
	r.do(user, whole(set("Device.DeviceInfo.", "ProvisioningCode", "local")))
	_, err := s.Apply(context.Background(), whole(set("Device.DeviceInfo.", "ProvisioningCode", "acs")))
	if deepest(err) != datamodel.Refused || !strings.Contains(err.Error(), "since the session began") {
		t.Fatal(err)
	}
}

func TestShieldLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ended := func(s *Shield, want string) {
			t.Helper()
			_, err := s.get("Device.Time.Enable")
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Fatal(err)
			}
			if _, err := s.Apply(context.Background(), whole(set("Device.Time.", "Enable", "true"))); err == nil {
				t.Fatal("an expired session can write")
			}
		}
		s := r.Shield(acs)
		for range 5 {
			time.Sleep(59 * time.Second)
			if _, err := s.get("Device.Time.Enable"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(6 * time.Second)
		ended(s, "older than 5m0s")
		s = r.Shield(acs)
		time.Sleep(61 * time.Second)
		ended(s, "idle for more than 1m0s")
		s = r.Shield(acs)
		s.Close()
		s.Close()
		ended(s, "closed")
	})
	r := newRig(t, func(o *Options) { o.ShieldChanges = 3 })
	s := r.Shield(acs)
	for i := range 4 {
		r.do(mainC, whole(set("Device.DeviceInfo.", "ProvisioningCode", strconv.Itoa(i))))
	}
	if _, err := s.get("Device.Time.Enable"); err == nil || !strings.Contains(err.Error(), "more than 3 revisions") {
		t.Fatal(err)
	}
}

func TestWatchOrderAndCursor(t *testing.T) { // invariants 4 and 7
	path := filepath.Join(t.TempDir(), "db")
	p := testProfile()
	schema := loadSchema(t, p)
	open := func() (*Engine, func()) {
		s, err := store.Open(path, store.Options{NoSync: true, JournalEntries: 20})
		if err != nil {
			t.Fatal(err)
		}
		e, err := New(Options{Schema: schema, Profile: p, Store: s})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		return e, func() { e.Close(); s.Close() }
	}
	e, stop := open()
	r := &rig{e, t}
	w, err := e.Watch("cwmp")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Watch("cwmp"); err == nil {
		t.Fatal("one name is open twice")
	}
	r.do(acs, whole(set("Device.Time.", "Enable", "true")))
	e.Emit(Event{Kind: EventModel, Path: "Device.", Name: "Boot!"})
	r.do(mainC, whole(set("Device.DeviceInfo.", "ProvisioningCode", "x")))
	e.Emit(Event{Kind: EventOperated, Path: "Device.Reboot()"})
	next := func(w *Watcher) Event {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		ev, err := w.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return ev
	}
	var trail []string
	for range 4 {
		ev := next(w)
		trail = append(trail, fmt.Sprintf("%d:%d:%s%s", ev.Kind, ev.Rev, ev.Cause, ev.Name))
		if ev.Rev == 2 {
			w.Ack(ev)
		}
	}
	if got := strings.Join(trail, " "); got != "0:2:cwmp 1:2:Boot! 0:3:usp:self::main 2:3:" {
		t.Fatal(got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	if _, err := w.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	cancel()
	w.Close()
	w.Close()
	if _, err := w.Next(t.Context()); err == nil {
		t.Fatal("a closed watcher goes on")
	}
	stop()

	e, stop = open() // what was not acknowledged comes again
	r = &rig{e, t}
	if w, err = e.Watch("cwmp"); err != nil {
		t.Fatal(err)
	}
	if ev := next(w); ev.Rev != 3 || ev.Cause != mainC.Name {
		t.Fatalf("%+v", ev)
	}
	w.Close()
	for i := range 40 {
		r.do(mainC, whole(set("Device.DeviceInfo.", "ProvisioningCode", strconv.Itoa(i))))
	}
	if w, err = e.Watch("cwmp"); err != nil {
		t.Fatal(err)
	}
	ev := next(w)
	if ev.Kind != EventResync || ev.Rev != r.store.Head().Rev() {
		t.Fatalf("a cursor behind the journal: %+v", ev)
	}
	w.Ack(ev)
	for range maxEvents + 10 {
		e.Emit(Event{Kind: EventModel})
	}
	if ev := next(w); ev.Kind != EventResync {
		t.Fatalf("lost events: %+v", ev)
	}
	if ev := next(w); ev.Kind != EventModel {
		t.Fatalf("%+v", ev)
	}
	waiting := make(chan error, 1)
	for range maxEvents {
		if q := w.seq; q >= e.events.end() {
			break
		}
		next(w)
	}
	go func() {
		_, err := w.Next(context.Background())
		waiting <- err
	}()
	stop()
	if err := <-waiting; err == nil {
		t.Fatal("Next went on after Close")
	}
}

func TestJournalOfATrimmedStore(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.Store.Close()
		o.Store = store.OpenMemory(store.Options{JournalEntries: 5})
	})
	for i := range 10 {
		r.do(mainC, whole(set("Device.DeviceInfo.", "ProvisioningCode", strconv.Itoa(i))))
	}
	es, err := r.Journal(0, 3)
	if err != nil || len(es) != 3 || es[0].Rev != 7 {
		t.Fatal(es, err)
	}
	d := es[2].Deltas[0]
	if es[2].Meta.Writer != mainC.Name || es[2].Meta.Protocol != "usp" || d.Old != "6" || d.New != "7" || d.Verdict != "allow" || d.Rule != "default" {
		t.Fatalf("%+v", es[2])
	}
}

// TestOwnerIsGone: who no longer manages the device owns nothing.
func TestOwnerIsGone(t *testing.T) {
	r := newRig(t, atPhase(t, PhaseDualUSP))
	r.do(user, whole(add("Device.LocalAgent.Controller.", "EndpointID", "self::two", "Enable", "true")))
	two := Writer{Name: "usp:self::two", Protocol: datamodel.USP, Class: ClassMain}
	r.do(two, whole(set("Device.DeviceInfo.", "ProvisioningCode", "two"), set("Device.Time.", "LocalTimeZone", "two")))
	c := whole(set("Device.DeviceInfo.", "ProvisioningCode", "acs"))
	r.refuse(acs, c, datamodel.Refused)
	r.do(user, whole(set("Device.LocalAgent.Controller.2.", "Enable", "false")))
	r.do(acs, c)
	r.do(user, whole(set("Device.LocalAgent.Controller.2.", "Enable", "true")))
	r.refuse(acs, whole(set("Device.Time.", "LocalTimeZone", "acs")), datamodel.Refused)
	r.do(user, whole(del("Device.LocalAgent.Controller.2.")))
	r.do(acs, whole(set("Device.Time.", "LocalTimeZone", "acs")))
}

// TestPhaseChange: the next transaction is judged by the new order.
func TestPhaseChange(t *testing.T) {
	r := newRig(t)
	r.do(acs, whole(set("Device.DeviceInfo.", "ProvisioningCode", "acs")))
	c := whole(set("Device.DeviceInfo.", "ProvisioningCode", "usp"))
	r.refuse(mainC, c, datamodel.Refused)
	a, err := NewClassOrder(PhaseDualUSP)
	if err != nil {
		t.Fatal(err)
	}
	r.SetArbiter(a)
	res := r.do(mainC, c)
	if d := r.entry(res.Revision).Deltas[0]; d.Verdict != "take" {
		t.Fatalf("%+v", d)
	}
}

// only grants rights by path prefix.
type only struct {
	deny    map[Right]string
	secured bool
}

func (o only) Allow(_ *store.Version, path string, r Right) bool {
	prefix, ok := o.deny[r]
	return !ok || !strings.HasPrefix(path, prefix)
}
func (o only) Secured(*store.Version) bool { return o.secured }

func TestRights(t *testing.T) {
	r := newRig(t)
	limited := func(deny map[Right]string) Writer {
		w := mainC
		w.Rights = only{deny: deny}
		return w
	}
	// Reading hides.
	w := limited(map[Right]string{ReadObj: "Device.Time.", ReadParam: "Device.DeviceInfo.ProvisioningCode"})
	if _, err := r.View(w).Resolve("Device.Time.", datamodel.ResolvePolicy{}); datamodel.ReasonOf(err) != datamodel.NotSupported { // R-GET.1
		t.Fatal(err)
	}
	if _, err := r.View(w).get("Device.DeviceInfo.ProvisioningCode"); datamodel.ReasonOf(err) != datamodel.NotSupported {
		t.Fatal(err)
	}
	v := r.View(w)
	ms, _ := v.Resolve("Device.DeviceInfo.", datamodel.ResolvePolicy{})
	_ = v.Params(context.Background(), ms[0], func(p *datamodel.Param, _ string) bool { // R-GET.4
		if p.Name == "ProvisioningCode" {
			t.Error("an unreadable parameter is shown")
		}
		return true
	})
	ms, _ = v.Resolve("Device.", datamodel.ResolvePolicy{})
	_ = v.Objects(ms[0], 0, func(m datamodel.Match) bool {
		if m.Path == "Device.Time." {
			t.Error("an unreadable object is shown")
		}
		return true
	})
	if ms, err := v.Resolve(`Device.IP.Interface.[Alias=="lan"].`, datamodel.ResolvePolicy{}); err != nil || len(ms) != 1 {
		t.Fatal(ms, err)
	}
	blind := r.View(limited(map[Right]string{ReadParam: "Device.IP."}))
	if ms, _ := blind.Resolve(`Device.IP.Interface.[Alias=="lan"].`, datamodel.ResolvePolicy{}); len(ms) != 0 {
		t.Fatal("a search over what may not be read matched")
	}
	// Writing says no.
	r.refuse(limited(map[Right]string{WriteParam: "Device.Time."}), whole(set("Device.Time.", "Enable", "true")), datamodel.Denied)
	r.refuse(limited(map[Right]string{AddRow: "Device.IP.Interface."}), whole(add("Device.IP.Interface.")), datamodel.Denied)
	r.refuse(limited(map[Right]string{DeleteRow: "Device.IP."}), whole(del("Device.IP.Interface.1.")), datamodel.Denied)
	if _, err := r.Command(limited(map[Right]string{Operate: "Device."}), "Device.Reboot()", nil); datamodel.ReasonOf(err) != datamodel.Denied {
		t.Fatal(err)
	}
	res := r.do(limited(map[Right]string{ReadParam: "Device.Time."}), whole(set("Device.Time.", "Enable", "true")))
	if !res.Outcomes[0].Objects[0].Params[0].Hide { // R-SET.3
		t.Fatal("an unreadable value is answered")
	}
	res = r.do(limited(map[Right]string{ReadObj: "Device.IP.Interface.2."}), whole(del("Device.IP.Interface.*.")))
	if o := res.Outcomes[0].Objects; len(o) != 1 || o[0].Path != "Device.IP.Interface.1." { // R-DEL.2
		t.Fatalf("what may not be read is answered: %+v", o)
	}
	res = r.do(limited(map[Right]string{ReadParam: "Device.DHCPv4."}), whole(add("Device.DHCPv4.Server.Pool.")))
	if len(res.Outcomes[0].Objects[0].Keys) != 0 { // R-ADD.6
		t.Fatal("unreadable keys are answered")
	}
}

func TestSecrets(t *testing.T) { // invariant 11
	const secret = "correct horse"
	r := newRig(t)
	r.do(mainC, whole(add("Device.MQTT.Client.", "Name", "c", "Password", secret)))
	res := r.do(mainC, whole(set("Device.MQTT.Client.1.", "Password", secret+"2")))
	if v := res.Outcomes[0].Objects[0].Params[0].Value; v != "" {
		t.Fatalf("the outcome tells %q", v)
	}
	r.is(mainC, "Device.MQTT.Client.1.Password", "")
	r.is(acs, "Device.MQTT.Client.1.Password", "")
	trusted := mainC
	trusted.Rights = only{secured: true}
	r.is(trusted, "Device.MQTT.Client.1.Password", secret+"2")
	// A search cannot be used to guess it.
	if ms, err := r.View(mainC).Resolve(`Device.MQTT.Client.[Password=="`+secret+`2"].`, datamodel.ResolvePolicy{}); err != nil || len(ms) != 0 {
		t.Fatal("a search over a secret matched", ms, err)
	}
	if ms, err := r.View(trusted).Resolve(`Device.MQTT.Client.[Password=="`+secret+`2"].`, datamodel.ResolvePolicy{}); err != nil || len(ms) != 1 {
		t.Fatal(ms, err)
	}
	for _, w := range []Writer{mainC, acs} {
		ms, _ := r.View(w).Resolve("Device.MQTT.Client.", datamodel.ResolvePolicy{AllowTable: true})
		_ = r.View(w).Objects(ms[0], 0, func(m datamodel.Match) bool {
			return r.View(w).Params(context.Background(), m, func(p *datamodel.Param, v string) bool {
				if strings.Contains(v, secret) {
					t.Errorf("%s%s is shown", m.Path, p.Name)
				}
				return true
			}) == nil
		})
	}
	if _, err := r.Apply(context.Background(), mainC, whole(set("Device.MQTT.Client.1.", "Password", secret+strings.Repeat("x", 300)))); err == nil || strings.Contains(err.Error(), secret) {
		t.Fatalf("error: %v", err)
	}
	r.refuse(appC, whole(set("Device.MQTT.Client.1.", "Password", "another")), datamodel.Refused)
	r.do(acs, whole(set("Device.Time.", "Enable", "true")))
	entries, _ := r.Journal(0, 0)
	if all := fmt.Sprintf("%+v", func() (out []store.Entry) {
		for _, en := range entries {
			out = append(out, *en)
		}
		return
	}()); strings.Contains(all, secret) || strings.Contains(all, "another") || strings.Contains(all, "geheim") {
		t.Fatal("the journal holds a secret")
	}
}

// TestOneDoor: many writers at once; each accepted change is one commit with its own revision (invariant 1), and the
// journal replays to the values (invariant 4).
func TestOneDoor(t *testing.T) {
	for _, kind := range []string{"memory", "file"} {
		t.Run(kind, func(t *testing.T) {
			var change []func(*Options)
			if kind == "file" {
				change = append(change, onFile(t, filepath.Join(t.TempDir(), "db")))
			}
			r := newRig(t, append(change, atPhase(t, PhaseDualCWMP, Rule{ID: "all", Path: "Device.**", OnConflict: OnLast, NoDamp: true}))...)
			var mu sync.Mutex
			revs := map[uint64]int{}
			var wg sync.WaitGroup
			for i, w := range []Writer{acs, mainC, appC, user} {
				wg.Go(func() {
					for k := range 50 {
						res, err := r.Apply(context.Background(), w, whole(
							set("Device.DeviceInfo.", "ProvisioningCode", fmt.Sprintf("%d-%d", i, k)),
							set("Device.Time.", "LocalTimeZone", fmt.Sprintf("%d-%d", i, k))))
						if err != nil {
							t.Error(err)
							return
						}
						if res.Changed {
							mu.Lock()
							revs[res.Revision]++
							mu.Unlock()
						}
						v := r.View(mainC)
						a, _ := v.get("Device.DeviceInfo.ProvisioningCode")
						b, _ := v.get("Device.Time.LocalTimeZone")
						if a != b { // invariant 3
							t.Errorf("half a change is seen: %s %s", a, b)
						}
					}
				})
			}
			wg.Wait()
			if len(revs) != 200 {
				t.Fatalf("%d commits of 200 changes", len(revs))
			}
			for rev, n := range revs {
				if n != 1 {
					t.Errorf("revision %d was given %d times", rev, n)
				}
			}
			replayed := map[string]string{}
			entries, err := r.Journal(0, 1000)
			if err != nil {
				t.Fatal(err)
			}
			for _, en := range entries {
				for _, d := range en.Deltas {
					if d.Op == store.DeltaSet {
						if d.HadOld && replayed[d.Path] != d.Old {
							t.Fatalf("revision %d: %s was %q, the journal says %q", en.Rev, d.Path, replayed[d.Path], d.Old)
						}
						replayed[d.Path] = d.New
					}
				}
			}
			r.store.Head().Walk("Device.DeviceInfo.", func(path string, l store.Leaf) bool {
				if replayed[path] != l.Value {
					t.Errorf("%s is %q, replayed %q", path, l.Value, replayed[path])
				}
				return true
			})
		})
	}
}

// TestModel compares the engine with a plain map under random writers and a session shield.
func TestModel(t *testing.T) {
	schema := loadSchema(t, testProfile())
	rapid.Check(t, func(rt *rapid.T) {
		p := testProfile()
		s := store.OpenMemory(store.Options{})
		defer s.Close()
		phase := rapid.SampledFrom([]Phase{PhaseShadow, PhaseDualCWMP, PhaseDualUSP, PhaseUSPOnly}).Draw(rt, "phase")
		arb, _ := NewClassOrder(phase)
		e, err := New(Options{Schema: schema, Profile: p, Store: s, Arbiter: arb, Wait: -1})
		if err != nil {
			rt.Fatal(err)
		}
		defer e.Close()
		if err := e.Start(context.Background()); err != nil {
			rt.Fatal(err)
		}
		m := newModel(arb)
		var shield *Shield
		var frozenAt map[string]string
		read := func(v *View, path string) string {
			got, err := v.get(path)
			if err != nil {
				return "!" + datamodel.ReasonOf(err).String()
			}
			return got
		}
		rt.Repeat(map[string]func(*rapid.T){
			"write": func(rt *rapid.T) {
				w := rapid.SampledFrom([]Writer{acs, mainC, appC, user}).Draw(rt, "writer")
				values := map[string]string{}
				var ops []Op
				for _, leaf := range rapid.SliceOfNDistinct(rapid.SampledFrom(modelLeaves), 1, 3, rapid.ID[string]).Draw(rt, "leaves") {
					values[leaf] = rapid.SampledFrom([]string{"100", "200", "300"}).Draw(rt, "value")
					obj, name := datamodel.SplitParam(leaf)
					if name == "Alias" {
						values[leaf] = "a" + values[leaf]
					}
					ops = append(ops, set(obj, name, values[leaf]))
				}
				c := Change{Ops: ops, Atomic: rapid.Bool().Draw(rt, "atomic")}
				var res Result
				inSession := w.Name == acs.Name && shield != nil
				if inSession {
					res, err = shield.Apply(context.Background(), c)
				} else {
					res, err = e.Apply(context.Background(), w, c)
				}
				since := uint64(0)
				if inSession {
					since = shield.Since()
				}
				done := m.write(w, ops, values, c.Atomic, since, res.Revision)
				if inSession {
					for leaf, ok := range done {
						if ok {
							m.session[leaf] = true
						}
					}
				}
				for i := range ops {
					ok := err == nil && res.Outcomes[i].Err == nil
					leaf := ops[i].Path + ops[i].Settings[0].Name
					if ok != done[leaf] {
						rt.Fatalf("%s %s=%s: engine %v (%v), model %v", w.Name, leaf, values[leaf], ok, res.Outcomes[i].Err, done[leaf])
					}
					if ok && inSession {
						frozenAt[leaf] = values[leaf]
					}
				}
			},
			"open": func(rt *rapid.T) {
				if shield == nil {
					shield = e.Shield(acs)
					frozenAt = map[string]string{}
					for _, leaf := range modelLeaves {
						frozenAt[leaf] = read(e.View(acs), leaf)
					}
				}
			},
			"close": func(rt *rapid.T) {
				if shield != nil {
					shield.Close()
					shield = nil
					clear(m.session)
				}
			},
			"": func(rt *rapid.T) {
				for _, leaf := range modelLeaves {
					want := m.value(leaf)
					for _, w := range []Writer{acs, mainC} {
						if got := read(e.View(w), leaf); got != want {
							rt.Fatalf("%s is %q for %s, model %q", leaf, got, w.Name, want)
						}
					}
					if shield != nil {
						if got := read(shield.View(), leaf); got != frozenAt[leaf] {
							rt.Fatalf("%s is %q in the session, want %q", leaf, got, frozenAt[leaf])
						}
					}
				}
			},
		})
	})
}

var modelLeaves = []string{"Device.DeviceInfo.ProvisioningCode", "Device.Time.LocalTimeZone", "Device.IP.Interface.1.MaxMTUSize",
	"Device.IP.Interface.2.MaxMTUSize", "Device.IP.Interface.1.Alias"}

type model struct {
	rank  map[string]int
	phase Phase
	leafs map[string]modelLeaf
	// session: written by the ACS in its open session, others keep off.
	session map[string]bool
	frozen  map[string]string // leaf -> who may write it
}

type modelLeaf struct {
	value, owner, class string
	by                  string // who wrote it, with a claim or without
	rev                 uint64
	co                  map[string]string // co-owner -> class
	flips               int
}

func newModel(a *ClassOrder) *model {
	return &model{rank: a.rank, phase: a.phase, session: map[string]bool{}, frozen: map[string]string{}, leafs: map[string]modelLeaf{
		modelLeaves[0]: {value: "factory"}, modelLeaves[1]: {}, modelLeaves[2]: {value: "0"}, modelLeaves[3]: {value: "0"}, modelLeaves[4]: {value: "cpe-1"}}}
}

func (m *model) value(leaf string) string { return m.leafs[leaf].value }

// write says which leaves a writer may change, in the plainest words of bridge.md 2.5 for the default rule.
func (m *model) write(w Writer, ops []Op, values map[string]string, whole bool, since, rev uint64) map[string]bool {
	done := map[string]bool{}
	all := true
	winner := map[string]string{}
	for leaf, v := range values {
		ok := m.may(w, leaf, v, since)
		ok = ok && m.damp(w, leaf, v, winner)
		done[leaf] = ok
		all = all && ok
	}
	for leaf, who := range winner {
		if who != w.Name || !whole || all { // who lost is told of it also when the rest fails
			m.frozen[leaf] = who
		}
	}
	if whole && !all {
		return map[string]bool{}
	}
	for leaf, ok := range done {
		old := m.leafs[leaf]
		switch {
		case !ok:
		case old.value != values[leaf]:
			n := modelLeaf{value: values[leaf], owner: w.Name, class: w.Class, rev: rev, flips: old.flips}
			if old.owner != "" && old.owner != w.Name {
				n.flips++
			}
			if w.Name == appC.Name { // no row, no claim
				n.owner, n.class = "", ""
			}
			n.by = w.Name
			if winner[leaf] != "" {
				n.flips = 0
			}
			m.leafs[leaf] = n
		case old.owner != "" && old.owner != w.Name:
			if old.co == nil {
				old.co = map[string]string{}
			}
			old.co[w.Name] = w.Class
			m.leafs[leaf] = old
		}
	}
	return done
}

// damp says whether damping lets a write through that all else allows, and who wins a fight that begins here.
func (m *model) damp(w Writer, leaf, v string, winner map[string]string) bool {
	old := m.leafs[leaf]
	if old.value == v {
		return true
	}
	if who := m.frozen[leaf]; who != "" {
		return who == w.Name
	}
	if old.owner == "" || old.owner == w.Name || old.flips < 2 {
		return true
	}
	if k, known := m.rank[old.class]; known && k <= m.rank[w.Class] {
		winner[leaf] = old.owner
		return false
	}
	winner[leaf] = w.Name
	return true
}

func (m *model) may(w Writer, leaf, v string, since uint64) bool {
	old := m.leafs[leaf]
	if strings.HasSuffix(leaf, "Alias") && (w.Protocol == datamodel.USP) {
		return false
	}
	if old.value == v {
		return true
	}
	rank, ranked := m.rank[w.Class]
	if !ranked {
		return false
	}
	if since != 0 && old.rev > since && old.by != w.Name && (m.phase == PhaseDualUSP || m.phase == PhaseUSPOnly) {
		return false
	}
	if m.session[leaf] && w.Class != ClassACS {
		return false
	}
	if old.owner == w.Name {
		for _, class := range old.co {
			if k, ok := m.rank[class]; ok && k < rank {
				return false
			}
		}
	}
	if old.owner == "" || old.owner == w.Name {
		return true
	}
	if since != 0 && old.rev > since && (m.phase == PhaseDualUSP || m.phase == PhaseUSPOnly) {
		return false
	}
	ownerRank, known := m.rank[old.class]
	return !known || ownerRank >= rank
}
