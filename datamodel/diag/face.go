package diag

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"twinspan/datamodel"
)

// stateParam is what CWMP calls the output argument Status.
const stateParam = "DiagnosticsState"

// faces are the objects by which CWMP runs a test, with the command that is the same test in USP. All settings, results
// and rows have the names of the arguments of the command; only Status is called DiagnosticsState. What CWMP has in
// addition are the counts of rows and the constants of Serves.
var faces = map[string]string{
	ipDiag + "IPPing.":                     ipDiag + "IPPing()",
	ipDiag + "TraceRoute.":                 ipDiag + "TraceRoute()",
	ipDiag + "DownloadDiagnostics.":        ipDiag + "DownloadDiagnostics()",
	ipDiag + "UploadDiagnostics.":          ipDiag + "UploadDiagnostics()",
	ipDiag + "UDPEchoDiagnostics.":         ipDiag + "UDPEchoDiagnostics()",
	ipDiag + "ServerSelectionDiagnostics.": ipDiag + "ServerSelectionDiagnostics()",
	dnsDiag + "NSLookupDiagnostics.":       dnsDiag + "NSLookupDiagnostics()",
	"Device.SelfTestDiagnostics.":          "Device.SelfTestDiagnostics()",
}

// FaceOf names the command that carries out the test of a CWMP object ("Device.IP.Diagnostics.IPPing."); ok is false
// for objects that are no test of this provider.
func FaceOf(object string) (command string, ok bool) {
	command, ok = faces[object]
	return command, ok
}

// Faces lists the objects that FaceOf knows.
func Faces() []string {
	out := make([]string, 0, len(faces))
	for object := range faces {
		out = append(out, object)
	}
	slices.Sort(out)
	return out
}

// Settings lists the parameters of a CWMP object that are settings of its test: writing one sets DiagnosticsState to
// None and ends a running test. DiagnosticsState itself is not among them.
func Settings(object *datamodel.Object) []string {
	var out []string
	for _, p := range object.Params {
		if f := p.Facts(datamodel.CWMP); f != nil && f.Access == datamodel.ReadWrite && p.Name != stateParam {
			out = append(out, p.Name)
		}
	}
	return out
}

// Results is what to write into a CWMP object when its test ended, as a system writer and in one change.
type Results struct {
	// State is the new DiagnosticsState: Complete or an error word.
	State string
	// Values are all result parameters, relative to the object, those that were not measured with the value of before a
	// run; also the parameters of rows ("RouteHops.1.Host") and the counts of rows. Without DiagnosticsState.
	Values map[string]string
	// Rows are the rows of each table ("RouteHops."): the head deletes what is there and adds rows 1 to n.
	Rows map[string]int
}

// RunObject runs the test of a CWMP object with its settings, by parameter name. object is that of the CWMP model; its
// Stored finds the interface that a setting refers to. When the context ends (Canceled was written, or a setting) the
// error is the context's and there is nothing to write. Every other end is a State, the error then says more for the
// log. Settings that are empty, or 0 where 0 makes no sense, get a default.
//
// The head takes the resource "diag:" + the command (FaceOf) from the bridge around the run, starts it after the
// session in which DiagnosticsState became Requested, and puts "8 DIAGNOSTICS COMPLETE" into the change that writes the
// results. Runs of Controllers leave no trace in the object.
func (p *Provider) RunObject(ctx context.Context, object datamodel.ObjectRef, settings map[string]string) (Results, error) {
	command, ok := faces[object.Path]
	if !ok || object.Schema == nil {
		return Results{}, datamodel.Fail(datamodel.NotSupported, object.Path, "no test of this device")
	}
	inv := datamodel.Invocation{Command: command, Args: map[string]string{},
		Object: datamodel.ObjectRef{Path: command[:strings.LastIndexByte(command, '.')+1], Schema: object.Schema.Parent, Stored: object.Stored}}
	for _, name := range Settings(object.Schema) {
		if v := settings[name]; v != "" {
			inv.Args[name] = v
		}
	}
	out, err := p.Run(ctx, inv)
	if ctx.Err() != nil {
		return Results{}, ctx.Err()
	}
	res := Results{State: out["Status"], Values: empty(object), Rows: map[string]int{}}
	for _, child := range object.Schema.Children {
		if child.Multi {
			res.Rows[child.Name+"."] = 0
		}
	}
	for name, value := range out {
		if name == "Status" {
			continue
		}
		res.Values[name] = value
		if table, rest, ok := strings.Cut(name, "."); ok {
			number, _, _ := strings.Cut(rest, ".")
			n, _ := strconv.Atoi(number)
			res.Rows[table+"."] = max(res.Rows[table+"."], n)
		}
	}
	for _, child := range object.Schema.Children {
		if child.NumEntries != "" {
			res.Values[child.NumEntries] = strconv.Itoa(res.Rows[child.Name+"."])
		}
	}
	if err != nil {
		res.State = errInternal
		if datamodel.ReasonOf(err) == datamodel.InvalidArgs || datamodel.ReasonOf(err) == datamodel.NotImplemented {
			res.State = errOther
		}
	}
	return res, err
}

// empty are the results of an object before a run.
func empty(object datamodel.ObjectRef) map[string]string {
	out := map[string]string{}
	for _, p := range object.Schema.Params {
		f := p.Facts(datamodel.CWMP)
		if f == nil || f.Access != datamodel.ReadOnly || constants[object.Path][p.Name] != "" {
			continue
		}
		out[p.Name] = f.Zero()
	}
	return out
}
