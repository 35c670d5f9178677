package datamodel_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"twinspan/datamodel"
	"twinspan/datamodel/tr181"
)

// model is the whole of TR-181, loaded once for the tests of this package.
var model = sync.OnceValues(func() (*datamodel.Schema, error) { return tr181.Load(nil) })

func fullModel(t testing.TB) *datamodel.Schema {
	t.Helper()
	s, err := model()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func eachObject(o *datamodel.Object, fn func(*datamodel.Object)) {
	fn(o)
	for _, c := range o.Children {
		eachObject(c, fn)
	}
}

func eachFacts(o *datamodel.Object, fn func(path string, f *datamodel.Facts)) {
	eachObject(o, func(o *datamodel.Object) {
		for _, p := range o.Params {
			for _, proto := range []datamodel.Protocol{datamodel.CWMP, datamodel.USP} {
				if f := p.Facts(proto); f != nil {
					fn(p.Path(), f)
				}
			}
		}
		for _, c := range o.Commands {
			for _, a := range slices.Concat(c.Inputs, c.Outputs) {
				fn(o.Path+c.Name+" "+a.Name, a.Facts)
			}
		}
		for _, e := range o.Events {
			for _, a := range e.Args {
				fn(o.Path+e.Name+" "+a.Name, a.Facts)
			}
		}
	})
}

// TestEveryPatternCompiles: all patterns of TR-181 can be checked, and all of them fit into the cache.
func TestEveryPatternCompiles(t *testing.T) {
	seen := map[string]bool{}
	eachFacts(fullModel(t).Root(), func(path string, f *datamodel.Facts) {
		for _, p := range f.Patterns {
			if !seen[p] {
				seen[p] = true
				if err := datamodel.CheckPattern(p); err != nil {
					t.Errorf("%s: %v", path, err)
				}
			}
		}
	})
	if len(seen) < 30 || len(seen) > 128 {
		t.Errorf("%d different patterns", len(seen))
	}
}

// TestEveryDefaultIsCanonical: what the model gives a new parameter is a value of its type.
func TestEveryDefaultIsCanonical(t *testing.T) {
	n := 0
	eachFacts(fullModel(t).Root(), func(path string, f *datamodel.Facts) {
		if !f.HasDefault || f.Default == "" {
			return
		}
		n++
		if _, err := f.Canonical(f.Default); err != nil {
			t.Errorf("%s: default %q: %v", path, f.Default, err)
		}
	})
	if n < 500 {
		t.Errorf("only %d defaults", n)
	}
}

// modelPaths are all supported paths of the schema as one protocol sees them, in canonical spelling.
func modelPaths(t testing.TB, proto datamodel.Protocol) []string {
	var out []string
	eachObject(fullModel(t).Root(), func(o *datamodel.Object) {
		if o.Protocols.Has(proto) {
			out = append(out, o.Path, o.TablePath())
		}
		for _, p := range o.Params {
			if p.Protocols.Has(proto) {
				out = append(out, p.Path())
			}
		}
		if proto == datamodel.USP {
			for _, c := range o.Commands {
				out = append(out, o.Path+c.Name)
			}
			for _, e := range o.Events {
				out = append(out, o.Path+e.Name)
			}
		}
	})
	slices.Sort(out)
	return slices.Compact(out)
}

// TestProjectionOfTheModel: over every path of TR-181 and for both protocols the projection is defined, undone by its
// inverse and never maps two paths to one; with instance numbers and expressions in place of {i} as well.
func TestProjectionOfTheModel(t *testing.T) {
	for _, proto := range []datamodel.Protocol{datamodel.CWMP, datamodel.USP} {
		paths := modelPaths(t, proto)
		if len(paths) < 6000 {
			t.Fatalf("%v: only %d paths", proto, len(paths))
		}
		spelled := map[string]string{}
		for _, c := range paths {
			p, ok := datamodel.FromCanonical(proto, c)
			if !ok {
				t.Fatalf("%v: %s has no spelling", proto, c)
			}
			if other, taken := spelled[p]; taken {
				t.Fatalf("%v: %s and %s are both %s", proto, c, other, p)
			}
			spelled[p] = c
			if back, ok := datamodel.ToCanonical(proto, p); !ok || back != c {
				t.Fatalf("%v: %s -> %s -> %s %v", proto, c, p, back, ok)
			}
		}
		foreign := map[datamodel.Protocol][]string{
			datamodel.CWMP: {"Device.LocalAgent.", "Device.CWMPManagementServer."},
			datamodel.USP:  {"Device.USPAgent.", "Device.ManagementServer."},
		}[proto]
		for p := range spelled {
			for _, f := range foreign {
				if strings.HasPrefix(p, f) {
					t.Errorf("%v shows %s", proto, p)
				}
			}
		}
		rapid.Check(t, func(t *rapid.T) {
			c := rapid.SampledFrom(paths).Draw(t, "path")
			for strings.Contains(c, "{i}") {
				c = strings.Replace(c, "{i}", rapid.SampledFrom([]string{"1", "*", `[A=="Device.LocalAgent."]`, "[x]"}).Draw(t, "row"), 1)
			}
			p, ok := datamodel.FromCanonical(proto, c)
			if !ok {
				t.Fatalf("%s has no spelling", c)
			}
			if back, ok := datamodel.ToCanonical(proto, p); !ok || back != c {
				t.Fatalf("%s -> %s -> %s %v", c, p, back, ok)
			}
			if _, err := datamodel.ParsePath(p); err != nil {
				t.Fatal(err)
			}
			f := &datamodel.Facts{Type: datamodel.TypeString, List: true, PathRef: &datamodel.PathRef{}}
			list := c + ",Device.IP.Interface.1"
			if back := datamodel.ToCanonicalValue(proto, f, datamodel.FromCanonicalValue(proto, f, list)); back != list {
				t.Fatalf("list %s -> %s", list, back)
			}
		})
	}
}

// TestWalkOverUSP: a walk of Device. over USP shows CWMPManagementServer with its one parameter.
func TestWalkOverUSP(t *testing.T) {
	found := false
	datamodel.ViewChildren(datamodel.USP, fullModel(t).Root(), func(name string, o *datamodel.Object) bool {
		if name == "ManagementServer" || name == "USPAgent" {
			t.Errorf("USP sees %s", name)
		}
		if name == "CWMPManagementServer" {
			found = true
			var params []string
			for _, p := range o.Params {
				if p.Protocols.Has(datamodel.USP) {
					params = append(params, p.Name)
				}
			}
			if !slices.Equal(params, []string{"EnableCWMP"}) {
				t.Errorf("it holds %v", params)
			}
			datamodel.ViewChildren(datamodel.USP, o, func(name string, _ *datamodel.Object) bool {
				t.Errorf("it holds the object %s", name)
				return true
			})
		}
		return true
	})
	if !found {
		t.Error("USP does not see CWMPManagementServer")
	}
}

// TestEveryPathParsesAndResolves: each object and parameter of the model, with one row in every table, is found by its
// own path and nothing else is.
func TestEveryPathParsesAndResolves(t *testing.T) {
	s, tree := fullModel(t), datamodel.NewMemTree()
	for _, proto := range []datamodel.Protocol{datamodel.CWMP, datamodel.USP} {
		for _, c := range modelPaths(t, proto) {
			path := strings.ReplaceAll(c, "{i}", "7")
			tree.AddRow(path[:strings.LastIndexByte(path, '.')+1])
			p, err := datamodel.ParsePath(path)
			if err != nil {
				t.Fatal(err)
			}
			ms, err := datamodel.Resolve(s, tree, proto, p, datamodel.ResolvePolicy{MissingIsError: true, AllowTable: true})
			if err != nil || len(ms) != 1 || ms[0].Path != path {
				t.Fatalf("%v %s: %v %v", proto, path, ms, err)
			}
		}
	}
}
