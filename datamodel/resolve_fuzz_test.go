package datamodel

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// FuzzResolve: whatever the path, resolving it ends with matches that are themselves plain paths to what they say, or
// with an error of one of the promised reasons.
func FuzzResolve(f *testing.F) {
	for _, s := range []string{
		"", "Device.", "Device.IP.Interface.*.Stats.BytesSent", `Device.IP.Interface.[Name=="eth0"&&Enable==true].`,
		"Device.IP.Interface.*.LowerLayers#*+.Name", `Device.IP.Interface.[LowerLayers+.Name=="eth1"].Enable`,
		"Device.IP.Interface.[cpe-wan].Name", "Device.BulkData.Profile.*.Controller+.EndpointID", "Device.Reboot()", "Device.Boot!",
		"Device.IP.Interface.[MaxMTUSize>=1250].IPv4Address.*.IPAddress", "Device.LocalAgent.Subscription.1.Recipient+.",
	} {
		f.Add(s, false, true)
		f.Add(s, true, false)
	}
	s, tree := testSchema(), testTree()
	f.Fuzz(func(t *testing.T, text string, cwmp, strict bool) {
		p, err := ParsePath(text)
		if err != nil {
			return
		}
		proto := USP
		if cwmp {
			proto = CWMP
		}
		pol := ResolvePolicy{MissingIsError: strict, AllowTable: strict, CWMPAlias: cwmp}
		ms, err := Resolve(s, tree, proto, p, pol)
		if err != nil {
			switch ReasonOf(err) {
			case NotSupported, NoInstance, PathSyntax, Resources:
				return
			}
			t.Fatalf("%s: %v", text, err)
		}
		if !p.IsSearch() && len(ms) > 1 {
			t.Fatalf("%s is no search and has %d matches", text, len(ms))
		}
		seen := map[string]bool{}
		for _, m := range ms {
			if seen[m.Path] {
				t.Fatalf("%s: %s twice", text, m.Path)
			}
			seen[m.Path] = true
			q, err := ParsePath(m.Path)
			if err != nil || !q.IsPlain() || q.Kind != p.Kind {
				t.Fatalf("%s -> %s: %v", text, m.Path, err)
			}
			again, err := Resolve(s, tree, proto, q, ResolvePolicy{MissingIsError: true, AllowTable: true})
			if err != nil || len(again) != 1 || again[0] != m {
				t.Fatalf("%s -> %s -> %+v %v, not %+v", text, m.Path, again, err, m)
			}
		}
	})
}

// TestSearchAgainstFilter compares search expressions on random rows with a filter written the plain way.
func TestSearchAgainstFilter(t *testing.T) {
	s := testSchema()
	rapid.Check(t, func(t *rapid.T) {
		type row struct {
			n    uint32
			name string
			mtu  uint32
			on   bool
		}
		tree := NewMemTree()
		var rows []row
		for _, n := range rapid.SliceOfNDistinct(rapid.Uint32Range(1, 50), 0, 8, rapid.ID[uint32]).Draw(t, "numbers") {
			r := row{n, rapid.SampledFrom([]string{"a", "b", `c"%`}).Draw(t, "name"), rapid.Uint32Range(0, 4).Draw(t, "mtu"), rapid.Bool().Draw(t, "on")}
			at := fmt.Sprintf("Device.IP.Interface.%d.", n)
			tree.Set(at+"Name", r.name)
			tree.Set(at+"MaxMTUSize", fmt.Sprint(r.mtu))
			tree.Set(at+"Enable", fmt.Sprint(r.on))
			rows = append(rows, r)
		}
		slices.SortFunc(rows, func(a, b row) int { return int(a.n) - int(b.n) })

		name := rapid.SampledFrom([]string{"a", "b", `c"%`}).Draw(t, "want name")
		mtu := rapid.Uint32Range(0, 4).Draw(t, "want mtu")
		op := rapid.SampledFrom([]Op{OpEq, OpNe, OpLe, OpGe, OpLt, OpGt}).Draw(t, "op")
		quoted := strings.NewReplacer("%", "%25", `"`, "%22").Replace(name)
		path := fmt.Sprintf(`Device.IP.Interface.[Name!="%s"&&MaxMTUSize%v0%d&&Enable==1].Name`, quoted, op, mtu)

		var want []string
		for _, r := range rows {
			holds := map[Op]bool{OpEq: r.mtu == mtu, OpNe: r.mtu != mtu, OpLe: r.mtu <= mtu, OpGe: r.mtu >= mtu, OpLt: r.mtu < mtu, OpGt: r.mtu > mtu}[op]
			if r.name != name && holds && r.on {
				want = append(want, fmt.Sprintf("Device.IP.Interface.%d.Name", r.n))
			}
		}
		p, err := ParsePath(path)
		if err != nil {
			t.Fatal(err)
		}
		ms, err := Resolve(s, tree, USP, p, ResolvePolicy{MissingIsError: true})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range ms {
			got = append(got, m.Path)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s: got %v, want %v", path, got, want)
		}
	})
}

// TestConcurrentUse: schema, parsed paths and the pattern cache are shared by goroutines (run with the race detector).
func TestConcurrentUse(t *testing.T) {
	s, tree := testSchema(), testTree()
	p, err := ParsePath(`Device.IP.Interface.[LowerLayers+.Name=="eth1"].Name`)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 100 {
				if ms, err := Resolve(s, tree, USP, p, ResolvePolicy{}); err != nil || len(ms) != 1 {
					t.Errorf("%v %v", ms, err)
				}
				f := &Facts{Type: TypeString, Patterns: []string{fmt.Sprintf("g%d-%d", g%2, i)}}
				if _, err := f.Canonical(fmt.Sprintf("g%d-%d", g%2, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
