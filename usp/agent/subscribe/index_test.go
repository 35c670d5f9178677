package subscribe

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"twinspan/datamodel"
)

// fakeTree answers expressions and references from sets of texts.
type fakeTree struct {
	holds map[string]bool // row + first constant
	names map[string]string
}

func (f fakeTree) Holds(row string, expr []datamodel.Comparison) bool {
	return f.holds[row+expr[0].Const]
}
func (f fakeTree) Names(ref, path string) bool { return f.names[ref] == path }

func (ix *Index) find(k Kind, path string, ask Ask) []uint32 {
	var out []uint32
	ix.Match(k, path, ask, func(s *Sub) { out = append(out, s.Num) })
	slices.Sort(out)
	return out
}

func TestMatch(t *testing.T) {
	ix := New()
	for i, s := range []Sub{
		{Kind: ValueChange, Refs: []string{"Device.A.B"}},                                          // 0
		{Kind: ValueChange, Refs: []string{"Device.A.", "Device.A.B"}},                             // 1
		{Kind: ValueChange, Refs: []string{"Device.T.*.X"}},                                        // 2
		{Kind: ValueChange, Refs: []string{"Device.T.1."}},                                         // 3
		{Kind: ValueChange, Refs: []string{`Device.T.[N=="y"].X`}},                                 // 4
		{Kind: ObjectCreation, Refs: []string{"Device.T."}},                                        // 5
		{Kind: ObjectCreation, Refs: []string{"Device.T.*.U."}},                                    // 6
		{Kind: ObjectDeletion, Refs: []string{"Device.T.*."}},                                      // 7
		{Kind: ObjectDeletion, Refs: []string{"Device.T.1.U.*."}},                                  // 8
		{Kind: Event, Refs: []string{"Device."}},                                                   // 9
		{Kind: Event, Refs: []string{"Device.Boot!"}},                                              // 10
		{Kind: OperationComplete, Refs: []string{"Device.T."}},                                     // 11
		{Kind: ValueChange, Refs: []string{"Device.A.Ref+.X"}},                                     // 12
		{Kind: ValueChange, Refs: []string{"not a path..", "Device.Z"}, Deadline: time.Unix(9, 0)}, // 13
	} {
		s.Num = uint32(i)
		bad := ix.Put(&s)
		if (len(bad) > 0) != (i == 13) {
			t.Errorf("%d: bad references %v", i, bad)
		}
	}
	ask := fakeTree{map[string]bool{"Device.T.2.y": true}, map[string]string{"Device.A.Ref+.X": "Device.T.9.X"}}
	for _, c := range []struct {
		k    Kind
		path string
		want []uint32
	}{
		{ValueChange, "Device.A.B", []uint32{0, 1}},
		{ValueChange, "Device.A.C.D", []uint32{1}},
		{ValueChange, "Device.AB", nil},
		{ValueChange, "Device.T.1.X", []uint32{2, 3}},
		{ValueChange, "Device.T.2.X", []uint32{2, 4}},
		{ValueChange, "Device.T.11.X", []uint32{2}},
		{ValueChange, "Device.T.9.X", []uint32{2, 12}},
		{ValueChange, "Device.Z", []uint32{13}},
		{ObjectCreation, "Device.T.", []uint32{5}},
		{ObjectCreation, "Device.T.4.U.", []uint32{6}},
		{ObjectCreation, "Device.T.4.", nil},
		{ObjectDeletion, "Device.T.4.", []uint32{7}},
		{ObjectDeletion, "Device.T.1.U.3.", []uint32{8}},
		{Event, "Device.Boot!", []uint32{9, 10}},
		{Event, "Device.T.1.E!", []uint32{9}},
		{OperationComplete, "Device.T.1.C()", []uint32{11}},
	} {
		if got := ix.find(c.k, c.path, ask); !slices.Equal(got, c.want) {
			t.Errorf("%s %s: %v, want %v", c.k, c.path, got, c.want)
		}
	}
	if !ix.Below(ObjectDeletion, "Device.T.1.") || ix.Below(ObjectDeletion, "Device.A.1.") {
		t.Error("Below")
	}
	if ix.Expired(time.Unix(8, 0)) != nil || !slices.Equal(ix.Expired(time.Unix(9, 0)), []uint32{13}) {
		t.Error("Expired")
	}
	for i := range uint32(14) {
		ix.Remove(i)
		ix.Remove(i)
	}
	for k, r := range ix.roots {
		if !r.empty() || len(ix.slow[k]) > 0 {
			t.Errorf("%s: something is left after all were removed", Kind(k))
		}
	}
	if ix.Len() != 0 {
		t.Error("Len")
	}
}

func TestParseKind(t *testing.T) {
	for k := range kinds {
		if got, ok := ParseKind(k.String()); !ok || got != k {
			t.Errorf("%s", k)
		}
	}
	if _, ok := ParseKind("Nothing"); ok {
		t.Error("unknown kind taken")
	}
}

func FuzzPut(f *testing.F) {
	for _, s := range []string{"Device.", "Device.A.*.B", `Device.A.[X=="1"].`, "Device.Ref#*+.X", "Device.A.{i}.", "[]", ".", "Device.T.[A==1&&B==2].C!"} {
		f.Add(s, "Device.A.1.B")
	}
	f.Fuzz(func(t *testing.T, ref, path string) {
		ix := New()
		for k := range kinds {
			ix.Put(&Sub{Num: uint32(k), Kind: k, Refs: []string{ref, ref}})
			n := 0
			ix.Match(k, path, fakeTree{}, func(*Sub) { n++ })
			if n > 1 {
				t.Errorf("%q found %d times by %q", path, n, ref)
			}
			ix.Remove(uint32(k))
			if !ix.roots[k].empty() {
				t.Errorf("%q leaves something behind", ref)
			}
		}
	})
}

func BenchmarkMatchNone(b *testing.B) {
	for _, n := range []int{0, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ix := New()
			for i := range n {
				ix.Put(&Sub{Num: uint32(i), Kind: ValueChange, Refs: []string{fmt.Sprintf("Device.IP.Interface.%d.Status", i)}})
			}
			b.ReportAllocs()
			for b.Loop() {
				ix.Match(ValueChange, "Device.LocalAgent.Controller.1.ProvisioningCode", fakeTree{}, func(*Sub) { b.Fatal("match") })
			}
		})
	}
}
