package diag

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"twinspan/datamodel"
)

// Both faces of a test have the same names: settings are input arguments, results are output arguments.
func TestFacesCoincide(t *testing.T) {
	for _, object := range Faces() {
		command, ok := FaceOf(object)
		o, found := loadSchema().Lookup(object)
		c, there := loadSchema().Lookup(command)
		if !ok || !found || !there || c.Command == nil {
			t.Errorf("%s, %s: not in the model", object, command)
			continue
		}
		var inputs, outputs, results []string
		for _, a := range c.Command.Inputs {
			inputs = append(inputs, a.Name)
		}
		for _, a := range c.Command.Outputs {
			if !strings.HasSuffix(a.Name, ".") && a.Name != "Status" {
				outputs = append(outputs, a.Name)
			}
		}
		settings := Settings(o.Object)
		o.Object.Walk(func(below *datamodel.Object) bool {
			for _, p := range below.Params {
				f := p.Facts(datamodel.CWMP)
				if f != nil && f.Access == datamodel.ReadOnly && constants[object][p.Name] == "" && !strings.HasSuffix(p.Name, "NumberOfEntries") {
					results = append(results, strings.TrimPrefix(p.Path(), object))
				}
			}
			return true
		})
		for _, s := range [][]string{inputs, outputs, settings, results} {
			slices.Sort(s)
		}
		if !slices.Equal(inputs, settings) {
			t.Errorf("%s: settings %v, arguments %v", object, settings, inputs)
		}
		if !slices.Equal(outputs, results) {
			t.Errorf("%s: results %v, output arguments %v", object, results, outputs)
		}
		// The words of Status are those of DiagnosticsState that end a test.
		state := o.Object.Param(stateParam).Facts(datamodel.CWMP)
		words := map[string]bool{}
		for _, e := range state.Enum {
			words[e.Value] = true
		}
		p := provider(t, Options{})
		for _, w := range append([]string{complete, errOther}, p.commands[command].states...) {
			if !words[w] {
				t.Errorf("%s: %s is no DiagnosticsState", object, w)
			}
			i := slices.IndexFunc(c.Command.Outputs, func(a datamodel.Argument) bool { return a.Name == "Status" })
			if !slices.ContainsFunc(c.Command.Outputs[i].Facts.Enum, func(e datamodel.EnumValue) bool { return e.Value == w }) {
				t.Errorf("%s: %s is no Status", command, w)
			}
		}
	}
}

func object(t *testing.T, path string) datamodel.ObjectRef {
	t.Helper()
	m, ok := loadSchema().Lookup(path)
	if !ok {
		t.Fatal(path)
	}
	return datamodel.ObjectRef{Path: path, Schema: m.Object, Stored: stored("Device.IP.Interface.1.Name", "lo")}
}

// checkResults checks that a head can write the results.
func checkResults(t *testing.T, o datamodel.ObjectRef, r Results) {
	t.Helper()
	for name, value := range r.Values {
		m, ok := loadSchema().Lookup(o.Path + name)
		if !ok || m.Param == nil || m.Param.Facts(datamodel.CWMP) == nil {
			t.Errorf("%s%s is no parameter", o.Path, name)
		} else if _, err := m.Param.Facts(datamodel.CWMP).Canonical(value); err != nil {
			t.Errorf("%s%s = %q: %v", o.Path, name, value, err)
		}
	}
	if _, err := o.Schema.Param(stateParam).Facts(datamodel.CWMP).Canonical(r.State); err != nil {
		t.Errorf("%s: %v", r.State, err)
	}
}

func TestRunObject(t *testing.T) {
	p := provider(t, Options{})
	ctx := context.Background()
	p.dnsPort = nameServer(t, (&zone{addrs: []string{"192.0.2.1"}}).answer)
	o := object(t, dnsDiag+"NSLookupDiagnostics.")
	r, err := p.RunObject(ctx, o, map[string]string{"HostName": "a.b", "DNSServer": "127.0.0.1", "NumberOfRepetitions": "2", "Timeout": "0", "Interface": "", stateParam: "Requested"})
	checkResults(t, o, r)
	if err != nil || r.State != complete || r.Values["SuccessCount"] != "2" || r.Rows["Result."] != 2 || r.Values["ResultNumberOfEntries"] != "2" || r.Values["Result.2.IPAddresses"] != "192.0.2.1" {
		t.Errorf("%v %+v", err, r)
	}
	// A test that fails early clears what the last one left.
	o = object(t, ipDiag+"DownloadDiagnostics.")
	r, err = p.RunObject(ctx, o, map[string]string{"DownloadURL": "http://nowhere.test/"})
	checkResults(t, o, r)
	if n, ok := r.Rows["PerConnectionResult."]; err != nil || r.State != errResolve || !ok || n != 0 || r.Values["EOMTime"] != datamodel.UnknownTime || r.Values["PerConnectionResultNumberOfEntries"] != "0" {
		t.Errorf("%v %+v", err, r)
	}
	if _, ok := r.Values["DownloadTransports"]; ok {
		t.Error("a constant is among the results")
	}
	o = object(t, ipDiag+"IPPing.")
	r, err = p.RunObject(ctx, o, map[string]string{"Host": ""})
	checkResults(t, o, r)
	if err == nil || r.State != errOther || r.Values["SuccessCount"] != "0" {
		t.Errorf("%v %+v", err, r)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if r, err := p.RunObject(ended, o, map[string]string{"Host": "four.test"}); !errors.Is(err, context.Canceled) || r.State != "" {
		t.Errorf("%v %+v", err, r)
	}
	if _, err := p.RunObject(ctx, object(t, "Device.IP."), nil); datamodel.ReasonOf(err) != datamodel.NotSupported {
		t.Errorf("%v", err)
	}
}
