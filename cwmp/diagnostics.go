package cwmp

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"twinspan/bridge"
	"twinspan/cwmp/soap"
	"twinspan/datamodel"
	"twinspan/store"
)

// This file is CWMP's face of commands: an object with settings, DiagnosticsState and results (TR-181). What USP calls
// <Object>() carries the test out; every argument has the name of the parameter, only its Status is called
// DiagnosticsState here. Runs of Controllers leave no trace in the object, and ours none with them.

const stateParam = "DiagnosticsState"

// The words that every test knows.
const (
	stateNone      = "None"
	stateRequested = "Requested"
	stateCanceled  = "Canceled"
	stateComplete  = "Complete"
	stateOther     = "Error_Other"
	stateInternal  = "Error_Internal"
)

const (
	// maxTests bounds the tests that run at a time.
	maxTests = 16
	// testLimit ends a test that does not end by itself.
	testLimit = time.Hour
	// busyLimit is how long a test waits for another manager's run of the same test.
	busyLimit = 2 * time.Minute
	busyLook  = 200 * time.Millisecond
	// maxResultRows bounds the rows of one result table.
	maxResultRows = 4096
)

// tests are the tests that the ACS asked for, by the canonical path of their object. The map belongs to the goroutine in Run.
type tests struct {
	byPath map[string]*test
	wg     sync.WaitGroup
}

type test struct {
	cancel context.CancelFunc // nil until it runs
	stale  bool               // canceled, or asked for anew: its result does not count
}

// diagnosticTwin finds the command behind a parameter DiagnosticsState.
func diagnosticTwin(schema *datamodel.Schema, path string) (object string, twin *datamodel.Command) {
	object, name := datamodel.SplitParam(path)
	m, ok := schema.Lookup(object)
	if !ok || name != stateParam || m.Table || m.Object.Parent == nil || m.Object.Multi {
		return object, nil
	}
	return object, m.Object.Parent.Command(m.Object.Name + "()")
}

// twinPath is the path of the command that tests what object describes: "Device.IP.Diagnostics.IPPing()".
func twinPath(object string) string { return strings.TrimSuffix(object, ".") + "()" }

// orders is what one SetParameterValues means for tests: the state of each object it touches after it.
type orders map[string]string

// order judges a write in an object with DiagnosticsState; nil where it is fine. DIA-14, DIA-15
func (o orders) order(e *bridge.Engine, path, value string) error {
	object, name := datamodel.SplitParam(path)
	m, ok := e.Schema().Lookup(path)
	if !ok || m.Param == nil || m.Object.Param(stateParam) == nil {
		return nil
	}
	state := m.Object.Param(stateParam).Facts(datamodel.CWMP)
	if f := m.Param.Facts(datamodel.CWMP); state == nil || state.Access != datamodel.ReadWrite || f == nil || f.Access == datamodel.ReadOnly {
		return nil
	}
	if name != stateParam {
		if o[object] == "" { // TR-181: writing a setting ends the test. DIA-04, DIA-05
			o[object] = stateNone
		}
		return nil
	}
	_, twin := diagnosticTwin(e.Schema(), path)
	switch {
	case value != stateRequested && value != stateCanceled:
		return datamodel.Fail(datamodel.InvalidValue, path, "only Requested and Canceled can be written")
	case twin == nil || !e.CarriesOut(twin):
		return datamodel.Fail(datamodel.InvalidValue, path, "this device does not have the test")
	case value == stateCanceled:
		value = stateNone
	}
	o[object] = value
	return nil
}

// system adds the states to a change.
func (o orders) system(into map[string]string) {
	for object, state := range o {
		into[object+stateParam] = state
	}
}

// ordered takes committed orders over: what runs is ended without a word, what was requested starts after the session.
func (c *CPE) ordered(ctx context.Context, o orders) {
	for object, state := range o {
		if t := c.tests.byPath[object]; t != nil {
			if t.stale = true; t.cancel != nil { // its goroutine sees the end of its context
				t.cancel()
			}
			delete(c.tests.byPath, object)
		}
		if c.stored(object+stateParam) != state { // it ended between the commit and now
			c.putSystem(ctx, object+stateParam, state)
		}
		if state != stateRequested {
			continue
		}
		if c.tests.byPath == nil {
			c.tests.byPath = map[string]*test{}
		}
		c.tests.byPath[object] = &test{}
	}
}

// dropTests ends all tests without a word.
func (c *CPE) dropTests() {
	for _, t := range c.tests.byPath {
		if t.stale = true; t.cancel != nil {
			t.cancel()
		}
	}
	c.tests.byPath = nil
}

// startTests starts what was requested; between sessions only (TR-181: after the session).
func (c *CPE) startTests(ctx context.Context) {
	if c.running != nil || c.restart != nil {
		return
	}
	for object, t := range c.tests.byPath {
		if t.cancel != nil {
			continue
		}
		if len(c.tests.byPath) > maxTests {
			c.log.Warn("too many tests are asked for", "object", object)
			c.testEnded(ctx, object, t, map[string]string{"Status": stateOther})
			continue
		}
		tctx, cancel := context.WithTimeout(ctx, testLimit)
		t.cancel = cancel
		args := c.testArgs(object)
		c.tests.wg.Go(func() { // joined by Run; ends with ctx
			defer cancel()
			out := c.runTest(tctx, object, args)
			c.call(ctx, func() error { c.testEnded(ctx, object, t, out); return nil })
		})
	}
}

// ownSettings are what a test gets that nobody set and its command insists on: numbers of which the model leaves the choice to
// the device. Others get the smallest that is allowed.
var ownSettings = map[string]string{"NumberOfRepetitions": "3", "Timeout": "5000", "DataBlockSize": "56", "NumberOfTries": "3", "MaxHopCount": "30",
	"InterTransmissionTime": "1000"}

func ownSetting(a *datamodel.Argument) (value string, ok bool) {
	f := a.Facts
	switch {
	case f.PathRef != nil: // routing decides
		return "", true
	case len(f.Enum) > 0 && !f.List:
		return f.Enum[0].Value, true
	}
	switch f.Type {
	case datamodel.TypeString, datamodel.TypeBase64, datamodel.TypeHexBinary, datamodel.TypeDateTime:
		return "", f.List // a host, a file: nothing can be made up
	}
	candidates := []string{ownSettings[a.Name], f.Zero()}
	if len(f.Range) > 0 && f.Range[0].Min != nil {
		candidates = append(candidates, strconv.FormatInt(*f.Range[0].Min, 10))
	}
	for _, c := range candidates {
		if _, err := f.Canonical(c); err == nil && c != "" {
			return c, true
		}
	}
	return "", false
}

// testArgs reads the settings of a test, secrets included.
func (c *CPE) testArgs(object string) map[string]string {
	m, ok := c.e.Schema().Lookup(object)
	_, twin := diagnosticTwin(c.e.Schema(), object+stateParam)
	if !ok || twin == nil {
		return nil
	}
	args := map[string]string{}
	for i := range twin.Inputs {
		name := twin.Inputs[i].Name
		p := m.Object.Param(name)
		if p == nil {
			continue
		}
		value := c.stored(object + name)
		if value != "" {
			args[name] = value
		} else if twin.Inputs[i].Facts.Mandatory {
			if own, ok := ownSetting(&twin.Inputs[i]); ok {
				args[name] = own
			}
		}
	}
	return args
}

// runTest carries the test out and gives its outputs; Status is always there.
func (c *CPE) runTest(ctx context.Context, object string, args map[string]string) map[string]string {
	began := time.Now()
	for {
		op, err := c.e.Command(bridge.Writer{Name: systemName, Class: bridge.ClassSys, System: true}, twinPath(object), args)
		var out map[string]string
		if err == nil {
			out, err = op.Run(ctx)
		} else if datamodel.ReasonOf(err) == datamodel.Resources && time.Since(began) < busyLimit {
			select { // somebody else's run of the same test
			case <-ctx.Done():
				return nil
			case <-time.After(busyLook):
			}
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		switch datamodel.ReasonOf(err) {
		case datamodel.InvalidArgs, datamodel.InvalidValue, datamodel.InvalidType, datamodel.NotImplemented, datamodel.Resources:
			if err != nil {
				out["Status"] = stateOther
			}
		default:
			if err != nil && (out["Status"] == "" || out["Status"] == stateComplete) {
				out["Status"] = stateInternal
			}
		}
		if err != nil {
			c.log.Info("a test failed", "object", object, "error", err)
		}
		return out
	}
}

// testEnded writes the results and lets "8 DIAGNOSTICS COMPLETE" be told, also of an error. DIA-01, DIA-02
func (c *CPE) testEnded(ctx context.Context, object string, t *test, out map[string]string) {
	if t.stale || ctx.Err() != nil {
		return
	}
	delete(c.tests.byPath, object)
	change, err := c.testResults(object, out)
	if err == nil {
		var res bridge.Result
		res, err = c.e.Apply(ctx, bridge.Writer{Name: systemName, Class: bridge.ClassSys, System: true}, change)
		err = changeError(res, err)
	}
	if err != nil {
		c.log.Error("results of a test cannot be written", "object", object, "error", err)
		c.putSystem(ctx, object+stateParam, stateInternal)
	}
	c.queue.caused(bridge.CauseDiagnosticsState, "")
	c.wanted = true
}

// testResults makes the change that shows the results: state, parameters, rows. What was not measured gets its value of
// before a run.
func (c *CPE) testResults(object string, out map[string]string) (bridge.Change, error) {
	m, ok := c.e.Schema().Lookup(object)
	if !ok {
		return bridge.Change{}, datamodel.Fail(datamodel.NotSupported, object, "")
	}
	head := c.e.Store().Head()
	set := bridge.Op{Kind: bridge.OpSet, Path: object}
	for _, p := range m.Object.Params {
		f := p.Facts(datamodel.CWMP)
		if f == nil || f.Access != datamodel.ReadOnly || strings.HasSuffix(p.Name, "NumberOfEntries") {
			continue
		}
		value, measured := out[p.Name]
		if _, stored := head.Leaf(object + p.Name); !measured && !stored {
			continue
		}
		if !measured {
			value = f.Zero()
		}
		set.Settings = append(set.Settings, bridge.Setting{Name: p.Name, Value: value})
	}
	state := out["Status"]
	if f := m.Object.Param(stateParam).Any(); state == "" {
		state = stateComplete
	} else if _, err := f.Canonical(state); err != nil {
		state = "Error" // TR-181: stands for whatever has no word of its own
		if _, err := f.Canonical(stateOther); err == nil {
			state = stateOther
		}
	}
	set.Settings = append(set.Settings, bridge.Setting{Name: stateParam, Value: state, Required: true})
	change := bridge.Change{Atomic: true, Ref: "diagnostics"}
	for _, child := range m.Object.Children {
		if child.Multi {
			change.Ops = append(change.Ops, resultRows(head.Instances(object+child.Name+"."), object+child.Name+".", child, out)...)
		}
	}
	change.Ops = append(change.Ops, set)
	return change, nil
}

// resultRows replaces the rows of a table by those of the outputs "Table.<n>.<name>".
func resultRows(old []uint32, table string, obj *datamodel.Object, out map[string]string) []bridge.Op {
	var ops []bridge.Op
	for _, n := range old {
		ops = append(ops, bridge.Op{Kind: bridge.OpDelete, Path: table + strconv.FormatUint(uint64(n), 10) + "."})
	}
	rows, last := map[int][]bridge.Setting{}, 0
	for _, name := range slices.Sorted(maps.Keys(out)) {
		rest, ok := strings.CutPrefix(name, obj.Name+".")
		number, leaf, dotted := strings.Cut(rest, ".")
		n, err := strconv.Atoi(number)
		if ok && dotted && err == nil && n > 0 && n <= maxResultRows && obj.Param(leaf) != nil {
			rows[n] = append(rows[n], bridge.Setting{Name: leaf, Value: out[name]})
			last = max(last, n)
		}
	}
	for n := 1; n <= last; n++ {
		if rows[n] != nil {
			ops = append(ops, bridge.Op{Kind: bridge.OpAdd, Path: table, Settings: rows[n]})
		}
	}
	return ops
}

// resetTests lets no test of before the restart look as if it ran or had results (TR-181). DIA-12
func (c *CPE) resetTests(ctx context.Context) {
	var changed []string
	head := c.e.Store().Head()
	head.Walk(c.e.Schema().Root().Path, func(path string, l store.Leaf) bool {
		if strings.HasSuffix(path, "."+stateParam) && l.Value != stateNone {
			if m, ok := c.e.Schema().Lookup(path); ok && m.Param != nil && m.Param.Protocols == datamodel.CWMP {
				changed = append(changed, path)
			}
		}
		return true
	})
	for _, path := range changed {
		c.putSystem(ctx, path, stateNone)
	}
}

// judge collects the orders of a SetParameterValues; faults go where they belong.
func (s *session) judge(list []soap.ParameterValue, faults map[int]soap.SetParameterValuesFault) orders {
	o := orders{}
	for i := range list {
		if _, bad := faults[i]; bad || strings.Contains(list[i].Name, "[") { // no test is a row
			continue
		}
		path := canonicalPath(list[i].Name)
		if err := o.order(s.c.e, path, strings.TrimSpace(list[i].Value)); err != nil {
			faults[i] = parameterFault(list[i].Name, err)
		}
	}
	return o
}
