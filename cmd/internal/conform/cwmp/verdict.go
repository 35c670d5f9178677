package conformcwmp

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"twinspan/cmd/internal/conform"
	"twinspan/cwmp/soap"
)

// verdictError is an end of a check that is neither pass nor failure.
type verdictError struct {
	verdict conform.Verdict
	reason  string
}

func (e *verdictError) Error() string { return e.reason }

func notApplicable(format string, args ...any) error {
	return &verdictError{conform.NotApplicable, fmt.Sprintf(format, args...)}
}

func notShown(format string, args ...any) error {
	return &verdictError{conform.NotShown, fmt.Sprintf(format, args...)}
}

// explain puts the faults of single parameters into the text of a fault; the fault stays in the chain.
func explain(err error) error {
	var f *soap.Fault
	if !errors.As(err, &f) || len(f.SetParameterValuesFault) == 0 {
		return err
	}
	var lines []string
	for _, p := range f.SetParameterValuesFault {
		lines = append(lines, fmt.Sprintf("%s: %d", p.ParameterName, p.FaultCode))
	}
	return fmt.Errorf("%w (%s)", err, strings.Join(lines, ", "))
}

// faultCode is the code of a fault, 0 for anything else.
func faultCode(err error) soap.FaultCode {
	var f *soap.Fault
	if errors.As(err, &f) {
		return f.Code
	}
	return 0
}

// wantFault is nil if err is a fault with one of the codes.
func (b *bench) wantFault(err error, what string, codes ...soap.FaultCode) error {
	if err == nil {
		return fmt.Errorf("%s was accepted instead of fault %v", what, numbers(codes))
	}
	if c := faultCode(err); !slices.Contains(codes, c) {
		return fmt.Errorf("%s: wanted fault %v, got: %w", what, numbers(codes), err)
	}
	b.observe("%s: fault %d", what, faultCode(err))
	return nil
}

func numbers(codes []soap.FaultCode) (out []uint16) {
	for _, c := range codes {
		out = append(out, uint16(c))
	}
	return out
}

// wantSetFault is nil if err is fault 9003 that lists exactly the wanted parameters; several codes may be right for one.
func (b *bench) wantSetFault(err error, what string, want map[string][]soap.FaultCode) error {
	if err := b.wantFault(err, what, soap.InvalidArguments); err != nil {
		return err
	}
	var f *soap.Fault
	errors.As(err, &f)
	if len(f.SetParameterValuesFault) != len(want) {
		return fmt.Errorf("%s: %d parameters are blamed instead of %d: %w", what, len(f.SetParameterValuesFault), len(want), err)
	}
	for _, p := range f.SetParameterValuesFault {
		codes, ok := want[p.ParameterName]
		if !ok || !slices.Contains(codes, p.FaultCode) {
			return fmt.Errorf("%s: %s is blamed with %d, wanted %v", what, p.ParameterName, p.FaultCode, numbers(codes))
		}
		b.observe("%s: %d", p.ParameterName, p.FaultCode)
	}
	return nil
}
