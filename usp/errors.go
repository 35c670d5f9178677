package usp

import (
	"errors"

	"twinspan/datamodel"
	"twinspan/usp/uspmsg"
)

// Where says which part of which message failed; a few reasons have another code there.
type Where uint8

const (
	// AtPath is a requested path of GetInstances, GetSupportedDM or anything not named below.
	AtPath Where = iota
	// AtGet is a requested path of Get, where a missing instance is an invalid path (R-GET.0).
	AtGet
	// AtParam is one parameter setting of Add or Set.
	AtParam
	// AtAdd, AtSet, AtDelete are an object of these messages as a whole.
	AtAdd
	AtSet
	AtDelete
	// AtCommand is a command of Operate or its completion.
	AtCommand
)

// Fault is an error as USP tells it.
type Fault struct {
	Code uint32
	Text string // err_msg, never empty, without secrets or the texts of foreign errors
	Path string // what was refused, as far as known
}

// ErrorFrom is the only converter from errors of the core to USP codes. An err that is no *datamodel.Error becomes 7003
// without its text, because texts of foreign errors may hold what a peer must not learn. err must not be nil.
func ErrorFrom(err error, at Where) Fault {
	var e *datamodel.Error
	if !errors.As(err, &e) {
		return Fault{Code: CodeInternal, Text: datamodel.Internal.String()}
	}
	text := e.Reason.String()
	if e.Text != "" {
		text += ": " + e.Text
	}
	code := codeOf(e.Reason, at)
	if e.Style == datamodel.StyleStandard && e.Reason.Arbitrated() {
		if code = CodeRequestDenied; e.Reason == datamodel.Guard {
			code = CodeParameterFailed
		}
	}
	return Fault{Code: code, Text: text, Path: e.Path}
}

// codeByReason holds the codes that do not depend on the place.
var codeByReason = [...]uint32{
	datamodel.Internal:        CodeInternal,
	datamodel.PathSyntax:      CodeInvalidPathSyntax,
	datamodel.NotSupported:    CodeInvalidPath,
	datamodel.NoInstance:      CodeObjectDoesNotExist,
	datamodel.NotTable:        CodeNotATable,
	datamodel.NotCreatable:    CodeNotCreatable,
	datamodel.NotDeletable:    CodeDeleteFailure,
	datamodel.NotWritable:     CodeNotWritable,
	datamodel.InvalidType:     CodeInvalidType,
	datamodel.InvalidValue:    CodeInvalidValue,
	datamodel.DuplicateKey:    CodeDuplicateKey,
	datamodel.ValueConflict:   CodeValueConflict,
	datamodel.RequiredFailed:  CodeRequiredFailed,
	datamodel.Denied:          CodePermissionDenied,
	datamodel.Refused:         CodeOwnedByOther,
	datamodel.Leased:          CodeLeased,
	datamodel.Confirming:      CodeConfirming,
	datamodel.Damped:          CodeDamped,
	datamodel.Shadowed:        CodeShadowed,
	datamodel.Guard:           CodeGuardFailed,
	datamodel.Unrecoverable:   CodeInvalidConfiguration,
	datamodel.Resources:       CodeResourcesExceeded,
	datamodel.InvalidArgs:     CodeInvalidArguments,
	datamodel.CommandFailed:   CodeCommandFailure,
	datamodel.CommandCanceled: CodeCommandCanceled,
	datamodel.NotImplemented:  CodeMessageFailed,
	datamodel.Applying:        CodeOperationError,
}

func codeOf(r datamodel.Reason, at Where) uint32 {
	switch {
	case r == datamodel.NoInstance && at == AtGet:
		return CodeInvalidPath // R-GET.0
	case r == datamodel.NotSupported && at == AtParam:
		return CodeUnsupportedParameter
	case r == datamodel.InvalidArgs && at == AtCommand:
		return CodeInvalidCommandArgs // R-OPR.5
	case r == datamodel.Applying || r == datamodel.NotImplemented:
		switch at {
		case AtParam:
			return CodeParameterFailed
		case AtAdd:
			return CodeObjectNotCreated
		case AtSet:
			return CodeObjectNotUpdated
		case AtDelete:
			return CodeDeleteFailure
		case AtCommand:
			return CodeCommandFailure
		}
	}
	if int(r) < len(codeByReason) {
		return codeByReason[r]
	}
	return CodeInternal
}

// ErrorMessage builds the Error message that answers the request msgID.
func ErrorMessage(msgID string, f Fault, params ...*uspmsg.Error_ParamError) *uspmsg.Msg {
	return &uspmsg.Msg{
		Header: &uspmsg.Header{MsgId: msgID, MsgType: uspmsg.Header_ERROR}, // R-MSG.9
		Body: &uspmsg.Body{MsgBody: &uspmsg.Body_Error{Error: &uspmsg.Error{
			ErrCode: f.Code, ErrMsg: f.Text, ParamErrs: params,
		}}},
	}
}
