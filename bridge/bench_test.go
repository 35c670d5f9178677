package bridge

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"twinspan/datamodel"
	"twinspan/store"
)

// bigRig stores about 3,000 parameters in 100 pools and 60 interfaces.
func bigRig(b testing.TB, change ...func(*Options)) *rig {
	b.Helper()
	r := newRig(b, append([]func(*Options){func(o *Options) { o.Profile.MaxRows = nil }}, change...)...)
	_, err := r.store.Update(context.Background(), store.Meta{Writer: "sys:test"}, func(tx *store.Tx) error {
		for _, table := range []string{"Device.DHCPv4.Server.Pool.", "Device.IP.Interface.", "Device.Ethernet.Interface."} {
			m, _ := r.schema.Lookup(table)
			for range 60 {
				n, err := tx.AddRow(table)
				if err != nil {
					return err
				}
				for _, p := range m.Object.Params {
					v := defaultOf(p, p.Any())
					if p.Name == "Alias" {
						v = fmt.Sprintf("cpe-%d", n)
					}
					if err := tx.Set(fmt.Sprintf("%s%d.%s", table, n, p.Name), v, 0); err != nil {
						return err
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return r
}

func BenchmarkGetAll(b *testing.B) {
	r := bigRig(b)
	for _, w := range []Writer{mainC, acs} {
		b.Run(w.Protocol.String(), func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n = 0
				v := r.View(w)
				ms, err := v.Resolve("Device.", datamodel.ResolvePolicy{})
				if err != nil {
					b.Fatal(err)
				}
				if err := v.Objects(ms[0], 0, func(m datamodel.Match) bool {
					return v.Params(context.Background(), m, func(p *datamodel.Param, value string) bool {
						n++
						return true
					}) == nil
				}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/param")
			b.ReportMetric(float64(n), "params")
		})
	}
}

func BenchmarkValue(b *testing.B) {
	r := bigRig(b)
	v := r.View(mainC)
	ms, err := v.Resolve("Device.IP.Interface.30.Enable", datamodel.ResolvePolicy{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Value(context.Background(), ms[0]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkResolveAndValue(b *testing.B) {
	r := bigRig(b)
	b.ReportAllocs()
	for b.Loop() {
		v := r.View(mainC)
		ms, err := v.Resolve("Device.IP.Interface.30.Enable", datamodel.ResolvePolicy{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := v.Value(context.Background(), ms[0]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSet(b *testing.B) {
	for _, kind := range []string{"memory", "file"} {
		b.Run(kind, func(b *testing.B) {
			var change []func(*Options)
			if kind == "file" {
				change = append(change, onFile(b, filepath.Join(b.TempDir(), "db")))
			}
			r := bigRig(b, change...)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				if _, err := r.Apply(context.Background(), mainC, whole(set("Device.IP.Interface.30.", "MaxMTUSize", fmt.Sprint(100+i%1000)))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNoop(b *testing.B) {
	r := bigRig(b)
	c := whole(set("Device.IP.Interface.30.", "Enable", "false"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Apply(context.Background(), mainC, c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDeleteCascade(b *testing.B) {
	r := bigRig(b)
	c := whole(del("Device.IP.Interface.30."))
	c.DryRun = true
	for b.Loop() {
		if _, err := r.Apply(context.Background(), mainC, c); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSetMany is a SetParameterValues of 1,000 parameters as the CWMP session sends it.
func BenchmarkSetMany(b *testing.B) {
	r := bigRig(b)
	i := 0
	names := []string{"MinAddress", "MaxAddress", "DomainName", "LeaseTime"}
	b.ReportAllocs()
	for b.Loop() {
		i++
		c := Change{Atomic: true, AllErrors: true}
		for n := 1; n <= 50; n++ {
			for _, name := range names {
				v := fmt.Sprintf("10.0.%d.%d", n, i%250)
				if name == "LeaseTime" {
					v = fmt.Sprint(i)
				}
				for range 5 {
					c.Ops = append(c.Ops, set(fmt.Sprintf("Device.DHCPv4.Server.Pool.%d.", n), name, v))
				}
			}
		}
		if _, err := r.Apply(context.Background(), acs, c); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/param")
}

// BenchmarkWritable asks for every parameter what GetParameterNames does.
func BenchmarkWritable(b *testing.B) {
	r := bigRig(b)
	v := r.View(acs)
	ms, err := v.Resolve("Device.", datamodel.ResolvePolicy{})
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	for b.Loop() {
		n = 0
		_ = v.Objects(ms[0], 0, func(o datamodel.Match) bool {
			for _, p := range o.Object.Params {
				v.Writable(datamodel.Match{Path: o.Path + p.Name, Object: o.Object, Param: p})
				n++
			}
			return true
		})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/param")
}
