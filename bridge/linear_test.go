package bridge

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"twinspan/datamodel"
)

// The history of what concurrent writers and readers were told is checked for linearizability (P1): there must be one
// order of the operations, within the times of their calls and answers, that a plain map explains. An operation writes up
// to three leaves at once, reads all of them, or writes guarded by a revision.

var linearLeaves = []struct{ object, name string }{
	{"Device.DeviceInfo.", "ProvisioningCode"}, {"Device.Time.", "LocalTimeZone"}, {"Device.IP.Interface.1.", "MaxMTUSize"}, {"Device.IP.Interface.2.", "MaxMTUSize"},
}

type linearState [4]string

type linearIn struct {
	read  bool
	at    []int
	value string
	guard *linearState // all leaves are as the guard's revision had them
}

type linearOut struct {
	state   linearState // of a read
	refused bool        // by the guard
}

var linearModel = porcupine.Model{
	Init: func() any { return linearState{"factory", "", "0", "0"} },
	Step: func(state, input, output any) (bool, any) {
		s, in, out := state.(linearState), input.(linearIn), output.(linearOut)
		switch {
		case in.read:
			return s == out.state, s
		case in.guard != nil && out.refused:
			return true, s // something came between, perhaps there and back again
		case in.guard != nil && s != *in.guard:
			return false, s
		}
		for _, i := range in.at {
			s[i] = in.value
		}
		return true, s
	},
	Equal:             func(a, b any) bool { return a == b },
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
}

// linearHistory runs clients over both faces. fault spoils an answer or an operation, to show that the checker sees it.
func linearHistory(t *testing.T, clients, each int, fault func(client, n int, in *linearIn, out *linearOut)) []porcupine.Operation {
	r := newRig(t, withControllers, atPhase(t, PhaseDualCWMP, Rule{ID: "all", Path: "Device.**", OnConflict: OnLast, NoDamp: true}))
	ctx := context.Background()
	var mu sync.Mutex
	var ops []porcupine.Operation
	read := func(v *View) (s linearState) {
		for i, l := range linearLeaves {
			value, err := v.get(l.object + l.name)
			if err != nil {
				t.Error(err)
			}
			s[i] = value
		}
		return s
	}
	writers := []Writer{acs, mainC, main2, user}
	begin := time.Now()
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			w := writers[c%len(writers)]
			for n := range each {
				in, out := linearIn{value: fmt.Sprint(100 + c*each + n)}, linearOut{}
				call := time.Since(begin)
				switch (n + c) % 4 {
				case 0, 1:
					in.read = true
					call = time.Since(begin)
					out.state = read(r.View(w))
				case 2, 3:
					change := Change{Atomic: true}
					if n%3 == 0 {
						v := r.View(w)
						s := read(v)
						in.guard = &s
						change.Guards = []Guard{{Rev: v.Revision()}}
						call = time.Since(begin)
					}
					for i := range linearLeaves {
						if (n>>i+c)%2 == 0 {
							in.at = append(in.at, i)
							change.Ops = append(change.Ops, set(linearLeaves[i].object, linearLeaves[i].name, in.value))
						}
					}
					_, err := r.Apply(ctx, w, change)
					out.refused = datamodel.ReasonOf(err) == datamodel.Guard
					if err != nil && !out.refused {
						t.Error(err)
						return
					}
				}
				if fault != nil {
					fault(c, n, &in, &out)
				}
				ret := time.Since(begin)
				mu.Lock()
				ops = append(ops, porcupine.Operation{ClientId: c, Input: in, Output: out, Call: int64(call), Return: int64(ret)})
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return ops
}

func TestLinearizable(t *testing.T) {
	for range 5 {
		ops := linearHistory(t, 8, 60, nil)
		if res := porcupine.CheckOperationsTimeout(linearModel, ops, 20*time.Second); res != porcupine.Ok {
			t.Fatalf("%d operations: %v", len(ops), res)
		}
	}
}

// TestLinearizableFindsFaults: what the checker is for.
func TestLinearizableFindsFaults(t *testing.T) {
	var mu sync.Mutex
	var old linearState
	first := true
	for name, fault := range map[string]func(c, n int, in *linearIn, out *linearOut){
		"a stale read": func(c, n int, in *linearIn, out *linearOut) {
			mu.Lock()
			defer mu.Unlock()
			if in.read && first {
				old, first = out.state, false
			} else if in.read && n == 40 {
				out.state = old
			}
		},
		"a lost write": func(c, n int, in *linearIn, out *linearOut) {
			if !in.read && in.guard == nil && len(in.at) > 0 && n >= 10 && c < 3 { // one alone may be overwritten before anybody looks
				in.value = "lost" // was told that this was written
			}
		},
		"half a write": func(c, n int, in *linearIn, out *linearOut) {
			if in.read && n > 30 && out.state[0] != "" {
				out.state[0] = old[0] + "?"
			}
		},
		"a guard that did not hold": func(c, n int, in *linearIn, out *linearOut) {
			if in.guard != nil && !out.refused {
				g := *in.guard
				g[3] = "never"
				in.guard = &g
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			first = true
			ops := linearHistory(t, 6, 50, fault)
			if res := porcupine.CheckOperationsTimeout(linearModel, ops, 20*time.Second); res != porcupine.Illegal {
				t.Fatalf("%d operations: %v, want a fault", len(ops), res)
			}
		})
	}
}

// TestVerdictErrorIsStyled keeps errors.As in reach of the head.
func TestVerdictErrorIsStyled(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Style = datamodel.StyleVendor })
	r.do(acs, code("a"))
	_, err := r.Apply(context.Background(), mainC, whole(optional(set("Device.DeviceInfo.", "ProvisioningCode", "b"))))
	if err != nil {
		t.Fatal(err)
	}
	res, _ := r.Apply(context.Background(), mainC, whole(optional(set("Device.DeviceInfo.", "ProvisioningCode", "b"))))
	var de *datamodel.Error
	if !errors.As(res.Outcomes[0].Objects[0].Params[0].Err, &de) || de.Style != datamodel.StyleVendor {
		t.Fatalf("%+v", res)
	}
}
