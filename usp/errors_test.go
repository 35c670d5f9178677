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
