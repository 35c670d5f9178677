package cwmp

import (
	"context"
	"strings"

	"twinspan/bridge"
	"twinspan/cwmp/soap"
	"twinspan/datamodel"
)

// setParameterValues is one change, all or nothing; ParameterKey rides in its commit (TR-069 A.3.2.1).
func (s *session) setParameterValues(ctx context.Context, m *soap.SetParameterValues, ref string) (soap.Message, error) {
	list := m.ParameterList
	if len(list) == 0 {
		return nil, soap.NewFault(soap.InvalidArguments, "ParameterList is empty")
	}
	v := s.shield.View()
	seen := make(map[string]bool, len(list))
	faults := make(map[int]soap.SetParameterValuesFault)
	var good []string
	for i := range list {
		name := numbered(v, list[i].Name)
		if seen[name] { // SPV-06
			return nil, soap.NewFault(soap.InvalidArguments, "the same parameter twice: "+cut(name, 200))
		}
		seen[name] = true
		if !fullName(name) { // SPV-11
			faults[i] = soap.SetParameterValuesFault{ParameterName: list[i].Name, FaultCode: soap.InvalidParameterName, FaultString: "not the full name of a parameter"}
			continue
		}
		good = append(good, name)
	}
	tests := s.judge(list, faults)
	adds, rows := autoRows(v, good)
	change := bridge.Change{Ref: ref, Atomic: true, AllErrors: true, Ops: adds, System: map[string]string{parameterKeyPath: m.ParameterKey}}
	var at []int // operation behind the adds -> index in the list
	for i := range list {
		if _, bad := faults[i]; bad {
			continue
		}
		object, name := datamodel.SplitParam(numbered(v, list[i].Name))
		change.Ops = append(change.Ops, bridge.Op{Kind: bridge.OpSet, Path: object,
			Settings: []bridge.Setting{{Name: name, Value: s.lexical(v, list[i]), Required: true}}})
		at = append(at, i)
	}
	if len(faults) > 0 { // the good ones are judged too, so that the fault lists every bad parameter; nothing can be committed
		change.DryRun, change.System = true, nil
	} else {
		tests.system(change.System)
	}
	res, err := s.shield.Apply(ctx, change)
	full := false
	for k, i := range at {
		oerr := rowError(res, rows, change.Ops[len(adds)+k].Path)
		if oerr == nil && len(adds)+k < len(res.Outcomes) {
			oerr = outcomeError(res.Outcomes[len(adds)+k])
		}
		if oerr != nil {
			full = full || datamodel.ReasonOf(oerr) == datamodel.Resources
			faults[i] = s.booleanValue(parameterFault(list[i].Name, oerr))
		}
	}
	if fault := spvFault(len(list), faults, full, err); fault != nil {
		return nil, fault
	}
	if len(tests) > 0 {
		if err := s.c.call(ctx, func() error { s.c.ordered(ctx, tests); return nil }); err != nil {
			return nil, err
		}
	}
	return &soap.SetParameterValuesResponse{Status: status(res)}, nil
}

// rowError is what went wrong with a row that a path needs made.
func rowError(res bridge.Result, rows []string, path string) error {
	for k, row := range rows {
		if k < len(res.Outcomes) && strings.HasPrefix(path, row) {
			if err := outcomeError(res.Outcomes[k]); err != nil {
				return err
			}
		}
	}
	return nil
}

// spvFault lists every bad parameter under fault 9003, in the order of the request (TR-069 A.5; SPV-03, SPV-04).
func spvFault(n int, faults map[int]soap.SetParameterValuesFault, full bool, err error) *soap.Fault {
	switch {
	case err == nil && len(faults) == 0:
		return nil
	case full || datamodel.ReasonOf(err) == datamodel.Resources && err != nil:
		return soap.NewFault(soap.ResourcesExceeded, "") // top level only
	case len(faults) == 0:
		f := FaultFrom(err)
		switch f.Code {
		case soap.RequestDenied, soap.InternalError, soap.InvalidArguments:
			return f
		}
		return soap.NewFault(soap.InvalidArguments, f.FaultString)
	}
	f := soap.NewFault(soap.InvalidArguments, "")
	for i := range n {
		if p, ok := faults[i]; ok {
			f.SetParameterValuesFault = append(f.SetParameterValuesFault, p)
		}
	}
	return f
}

// booleanValue makes a text that is no boolean an invalid value: the four texts of a boolean are like an enumeration. SPV-09
func (s *session) booleanValue(f soap.SetParameterValuesFault) soap.SetParameterValuesFault {
	if f.FaultCode == soap.InvalidParameterType {
		m, ok := s.c.e.Schema().Lookup(schemaPath(f.ParameterName))
		if ok && m.Param != nil && m.Param.Any().Type == datamodel.TypeBoolean {
			f.FaultCode = soap.InvalidParameterValue
		}
	}
	return f
}

// fullName reports whether a name can be that of one parameter: no partial path, no wildcard, no command or event.
func fullName(name string) bool {
	_, ok := aliased(name)
	return ok && name != "" && len(name) <= 256 && !strings.HasSuffix(name, ".") && !strings.ContainsAny(name, "*{}()!#+") &&
		strings.Contains(name, ".")
}

// lexical gives what XSD's whitespace rule leaves of a value (SPV-10: " 5 " is a number), with numbers for the aliases in
// references. The model's type decides, not the xsi:type: many ACSs send xsd:string for everything.
func (s *session) lexical(view *bridge.View, v soap.ParameterValue) string {
	m, ok := s.c.e.Schema().Lookup(schemaPath(v.Name))
	if !ok || m.Param == nil {
		return v.Value
	}
	if m.Param.Any().Type == datamodel.TypeString {
		if strings.Contains(v.Value, "[") {
			return eachReference(m.Param, v.Value, func(ref string) string {
				return strings.TrimSuffix(numbered(view, strings.TrimSuffix(ref, ".")+"."), ".")
			})
		}
		return v.Value
	}
	return strings.TrimSpace(v.Value)
}
