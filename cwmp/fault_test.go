package cwmp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"twinspan/cwmp/soap"
	"twinspan/datamodel"
)

func TestFaultFrom(t *testing.T) {
	for _, tt := range []struct {
		reason datamodel.Reason
		code   soap.FaultCode
	}{
		{datamodel.Internal, soap.InternalError},
		{datamodel.PathSyntax, soap.InvalidParameterName},
		{datamodel.NotSupported, soap.InvalidParameterName},
		{datamodel.NoInstance, soap.InvalidParameterName},
		{datamodel.NotTable, soap.InvalidParameterName},
		{datamodel.NotCreatable, soap.RequestDenied},
		{datamodel.NotDeletable, soap.RequestDenied},
		{datamodel.NotWritable, soap.NonWritableParameter},
		{datamodel.InvalidType, soap.InvalidParameterType},
		{datamodel.InvalidValue, soap.InvalidParameterValue},
		{datamodel.DuplicateKey, soap.InvalidParameterValue},
		{datamodel.ValueConflict, soap.InvalidParameterValue},
		{datamodel.RequiredFailed, soap.InvalidArguments},
		{datamodel.Denied, soap.RequestDenied},
		{datamodel.Refused, soap.RequestDenied}, // DESIGN invariant 9: a conflict is never 9005
		{datamodel.Leased, soap.RequestDenied},
		{datamodel.Confirming, soap.RequestDenied},
		{datamodel.Damped, soap.RequestDenied},
		{datamodel.Shadowed, soap.RequestDenied},
		{datamodel.Guard, soap.InvalidParameterValue},
		{datamodel.Unrecoverable, soap.RequestDenied},
		{datamodel.Resources, soap.ResourcesExceeded},
		{datamodel.InvalidArgs, soap.InvalidArguments},
		{datamodel.CommandFailed, soap.InternalError},
		{datamodel.CommandCanceled, soap.RequestDenied},
		{datamodel.NotImplemented, soap.MethodNotSupported},
		{datamodel.Applying, soap.InternalError},
	} {
		err := fmt.Errorf("wrapped: %w", datamodel.Fail(tt.reason, "Device.X", "usp:self::A owns it"))
		f := FaultFrom(err)
		if f.Code != tt.code {
			t.Errorf("%v: fault %d, want %d", tt.reason, f.Code, tt.code)
		}
		if !strings.Contains(f.FaultString, "usp:self::A owns it") {
			t.Errorf("%v: the text %q does not say why", tt.reason, f.FaultString)
		}
	}
	if FaultFrom(nil) != nil {
		t.Error("no error gave a fault")
	}
	if f := FaultFrom(errors.New("open /etc/shadow: password=secret")); f.Code != soap.InternalError || strings.Contains(f.FaultString, "secret") {
		t.Errorf("foreign error gave %d %q", f.Code, f.FaultString)
	}
	if f := FaultFrom(context.DeadlineExceeded); f.Code != soap.InternalError {
		t.Errorf("deadline gave %d", f.Code)
	}
}

func TestParameterFaultCodes(t *testing.T) {
	for r := datamodel.Internal; r <= datamodel.Applying; r++ {
		code := parameterFault("Device.X", datamodel.Fail(r, "", "")).FaultCode
		switch code {
		case 9001, 9002, 9005, 9006, 9007, 9008:
		default:
			t.Errorf("%v: %d is not allowed for one parameter", r, code)
		}
		object := objectFault(datamodel.Fail(r, "", "")).Code
		switch object {
		case 9000, 9001, 9002, 9003, 9004, 9005:
		default:
			t.Errorf("%v: %d is not allowed for AddObject", r, object)
		}
	}
}

func TestHTTP21DefaultUsername(t *testing.T) {
	for _, tt := range []struct {
		id   deviceID
		want string
	}{
		{deviceID{oui: "00D09E", productClass: "Gate way", serial: "A/1"}, "00D09E-Gate%20way-A%2F1"},
		{deviceID{oui: "00D09E", serial: "a_B-ü"}, "00D09E-a_B%2D%C3%BC"},
	} {
		if got := tt.id.defaultUsername(); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}

func TestCheckACSURL(t *testing.T) {
	for _, good := range []string{"", "http://acs.example/x", "https://[2001:db8::1]:7548/"} {
		if err := checkACSURL(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"acs.example", "ftp://acs.example/", "http://", "http://u:p@acs.example/", "http://%zz/"} {
		if err := checkACSURL(bad); datamodel.ReasonOf(err) != datamodel.InvalidValue {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestTransferFault(t *testing.T) {
	for _, tt := range []struct {
		err      error
		down, up soap.FaultCode
	}{
		{&TransferError{Reason: TransferFailed}, 9010, 9011},
		{&TransferError{Reason: TransferUnauthorized}, 9012, 9012},
		{&TransferError{Reason: TransferNoServer}, 9015, 9015},
		{&TransferError{Reason: TransferNoFile}, 9016, 9011},
		{&TransferError{Reason: TransferIncomplete}, 9017, 9011},
		{&TransferError{Reason: TransferCorrupt}, 9018, 9018},
		{&TransferError{Reason: TransferUnsupported}, 9010, 9011},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), 9017, 9011},
		{errors.New("disk"), 9010, 9011},
	} {
		if got := transferFault(false, tt.err).Code; got != tt.down {
			t.Errorf("download, %v: %d, want %d", tt.err, got, tt.down)
		}
		if got := transferFault(true, tt.err).Code; got != tt.up {
			t.Errorf("upload, %v: %d, want %d", tt.err, got, tt.up)
		}
	}
}

// TestFaultStyle: the vendor codes end like those of USP, also for one parameter.
func TestFaultStyle(t *testing.T) {
	for reason, want := range map[datamodel.Reason]soap.FaultCode{datamodel.Refused: 9810, datamodel.Leased: 9811, datamodel.Guard: 9812,
		datamodel.Confirming: 9813, datamodel.Damped: 9814, datamodel.Shadowed: 9815, datamodel.Denied: 9001, datamodel.NotWritable: 9008} {
		err := datamodel.Fail(reason, "Device.X", "")
		err.Style = datamodel.StyleVendor
		if got := FaultFrom(err).Code; got != want {
			t.Errorf("%v: %d, want %d", reason, got, want)
		}
		if got := parameterFault("Device.X", fmt.Errorf("wrapped: %w", err)).FaultCode; got != want {
			t.Errorf("%v: %d for a parameter, want %d", reason, got, want)
		}
	}
}
