package usp

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"twinspan/datamodel"
)

func TestErrorFrom(t *testing.T) {
	for _, c := range []struct {
		r    datamodel.Reason
		at   Where
		code uint32
	}{
		{datamodel.NoInstance, AtGet, 7026}, // R-GET.0
		{datamodel.NoInstance, AtPath, 7016},
		{datamodel.NoInstance, AtSet, 7016},
		{datamodel.NotSupported, AtGet, 7026},
		{datamodel.NotSupported, AtParam, 7010},
		{datamodel.InvalidArgs, AtCommand, 7027},
		{datamodel.InvalidArgs, AtPath, 7004},
		{datamodel.Applying, AtAdd, 7017},
		{datamodel.Applying, AtSet, 7020},
		{datamodel.Applying, AtDelete, 7024},
		{datamodel.Applying, AtParam, 7009},
		{datamodel.Applying, AtCommand, 7022},
		{datamodel.Denied, AtParam, 7006},
		{datamodel.DuplicateKey, AtParam, 7025},
		{datamodel.Refused, AtParam, 7810},
		{datamodel.Guard, AtSet, 7812},
		{datamodel.Leased, AtParam, 7811},
		{datamodel.Confirming, AtParam, 7813},
		{datamodel.Damped, AtParam, 7814},
		{datamodel.Shadowed, AtParam, 7815},
		{datamodel.Reason(250), AtSet, 7003},
	} {
		err := fmt.Errorf("wrapped: %w", datamodel.Fail(c.r, "Device.X.", "because"))
		if f := ErrorFrom(err, c.at); f.Code != c.code || f.Path != "Device.X." || !strings.Contains(f.Text, "because") {
			t.Errorf("%v at %d: %+v, want %d", c.r, c.at, f, c.code)
		}
	}
	f := ErrorFrom(errors.New("open /secret: denied"), AtParam)
	if f.Code != CodeInternal || strings.Contains(f.Text, "secret") {
		t.Errorf("foreign error: %+v", f)
	}
	f = ErrorFrom(&datamodel.Error{Reason: datamodel.Internal, Err: errors.New("/secret")}, AtParam)
	if strings.Contains(f.Text, "secret") {
		t.Errorf("cause leaked: %+v", f)
	}
}

// TestFaultStyle: standard codes for what arbitration refuses, where the operator wants them.
func TestFaultStyle(t *testing.T) {
	for r, want := range map[datamodel.Reason]uint32{datamodel.Refused: 7002, datamodel.Leased: 7002, datamodel.Guard: 7009, datamodel.Confirming: 7002,
		datamodel.Damped: 7002, datamodel.Shadowed: 7002, datamodel.Denied: 7006, datamodel.Unrecoverable: 7007} {
		err := datamodel.Fail(r, "Device.X", "")
		usual := ErrorFrom(err, AtParam).Code
		err.Style = datamodel.StyleVendor
		if got := ErrorFrom(err, AtParam).Code; got != usual {
			t.Errorf("%v: vendor style %d, usual %d", r, got, usual)
		}
		err.Style = datamodel.StyleStandard
		if got := ErrorFrom(err, AtParam).Code; got != want {
			t.Errorf("%v: %d, want %d", r, got, want)
		}
	}
}

// TestEveryReasonHasACode finds reasons that were added without a code: they would have code 0, which means success.
func TestEveryReasonHasACode(t *testing.T) {
	unknown := datamodel.Reason(250).String()
	n := 0
	for r := datamodel.Reason(0); r.String() != unknown; r++ {
		n++
		for at := AtPath; at <= AtCommand; at++ {
			if code := ErrorFrom(datamodel.Fail(r, "", ""), at).Code; code < 7000 || code > 7999 {
				t.Errorf("%v at %d has code %d", r, at, code)
			}
		}
	}
	if n != len(codeByReason) {
		t.Errorf("%d reasons, %d codes", n, len(codeByReason))
	}
}
