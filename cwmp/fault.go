package cwmp

import (
	"context"
	"errors"

	"twinspan/cwmp/soap"
	"twinspan/datamodel"
)

// maxFaultString bounds the text of a fault; the standard sets no limit for RPCs and 256 for TransferComplete.
const maxFaultString = 256

// FaultFrom turns any error into a CWMP fault. It is the only place that maps reasons to CWMP numbers. Arbitration never
// answers 9005: an ACS reads that as a hole in the tree and discovers it again (DESIGN invariant 9).
func FaultFrom(err error) *soap.Fault {
	if err == nil {
		return nil
	}
	var fault *soap.Fault
	if errors.As(err, &fault) {
		return fault
	}
	var bad *soap.Error
	if errors.As(err, &bad) {
		return bad.Fault()
	}
	return soap.NewFault(faultCode(err), cut(faultText(err), maxFaultString))
}

// vendorCodes are the refusals by arbitration for an ACS that can tell them apart (TR-069 A.5.1 leaves 9800-9899 to
// vendors). The last two digits are those of USP's.
var vendorCodes = map[datamodel.Reason]soap.FaultCode{
	datamodel.Refused: 9810, datamodel.Leased: 9811, datamodel.Guard: 9812, datamodel.Confirming: 9813, datamodel.Damped: 9814,
	datamodel.Shadowed: 9815,
}

// faultCode is the number for a whole RPC or for one parameter of SetParameterValues.
func faultCode(err error) soap.FaultCode {
	var e *datamodel.Error
	if errors.As(err, &e) && e.Style == datamodel.StyleVendor {
		if code, ok := vendorCodes[e.Reason]; ok {
			return code
		}
	}
	switch datamodel.ReasonOf(err) {
	case datamodel.PathSyntax, datamodel.NotSupported, datamodel.NoInstance, datamodel.NotTable:
		return soap.InvalidParameterName
	case datamodel.NotWritable:
		return soap.NonWritableParameter
	case datamodel.InvalidType:
		return soap.InvalidParameterType
	case datamodel.InvalidValue, datamodel.DuplicateKey, datamodel.ValueConflict, datamodel.Guard:
		return soap.InvalidParameterValue
	case datamodel.InvalidArgs, datamodel.RequiredFailed:
		return soap.InvalidArguments
	case datamodel.Resources:
		return soap.ResourcesExceeded
	case datamodel.NotCreatable, datamodel.NotDeletable, datamodel.Denied, datamodel.Refused, datamodel.Leased, datamodel.Confirming, datamodel.Damped,
		datamodel.Shadowed, datamodel.Unrecoverable, datamodel.CommandCanceled:
		return soap.RequestDenied
	case datamodel.NotImplemented:
		return soap.MethodNotSupported
	}
	return soap.InternalError // Internal, Applying, CommandFailed, and errors of other packages
}

// faultText is what the ACS's operator reads: the sentence of a *datamodel.Error, never the text of a foreign error, which
// may name files or hold secrets.
func faultText(err error) string {
	var e *datamodel.Error
	if errors.As(err, &e) {
		text := e.Reason.String()
		if e.Text != "" {
			text += ": " + e.Text
		}
		return text
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return "the device was too busy"
	}
	return "internal error"
}

// objectFault is FaultFrom for AddObject, DeleteObject and SetParameterAttributes, which know no per-parameter codes
// (TR-069 A.3.2.4, A.3.2.6, A.3.2.7: 9001-9005 and 9009).
func objectFault(err error) *soap.Fault {
	f := FaultFrom(err)
	switch f.Code {
	case soap.InvalidParameterType, soap.InvalidParameterValue:
		return soap.NewFault(soap.InvalidArguments, f.FaultString)
	case soap.NonWritableParameter:
		return soap.NewFault(soap.RequestDenied, f.FaultString)
	}
	return f
}

// parameterFault is one entry of a SetParameterValues fault. The schema allows 9001, 9002 and 9005 to 9008 there.
func parameterFault(name string, err error) soap.SetParameterValuesFault {
	code := faultCode(err)
	switch code {
	case soap.InvalidArguments, soap.MethodNotSupported:
		code = soap.InvalidParameterValue
	case soap.ResourcesExceeded:
		code = soap.InternalError
	}
	return soap.SetParameterValuesFault{ParameterName: name, FaultCode: code, FaultString: cut(faultText(err), maxFaultString)}
}

// cut shortens text to at most n bytes without breaking a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}
