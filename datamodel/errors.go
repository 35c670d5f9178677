package datamodel

import "errors"

// Reason classifies why something was refused, without any protocol's numbers. Each protocol head has exactly one
// converter from Reason to its codes (usp.ErrorFrom, cwmp.FaultFrom).
type Reason uint8

const (
	Internal       Reason = iota // hardware or software failure; the default for foreign errors
	PathSyntax                   // the path cannot be parsed
	NotSupported                 // the path is not in the supported data model
	NoInstance                   // in the supported, not in the instantiated data model
	NotTable                     // a table was needed
	NotCreatable                 // rows of this table cannot be added
	NotDeletable                 // this object cannot be deleted
	NotWritable                  // read-only, write-once already written, or a non-functional key
	InvalidType                  // the text is not of the type
	InvalidValue                 // of the type, but out of range, enumeration, pattern or length
	DuplicateKey                 // a unique key is taken
	ValueConflict                // clashes with other values
	RequiredFailed               // an object failed because a required parameter failed
	Denied                       // the writer lacks the right
	Refused                      // arbitration: another owner, phase or rule stands against it
	Leased                       // arbitration: held by a lease or an open session
	Confirming                   // arbitration: a change that waits for its confirmation covers it
	Damped                       // arbitration: two writers fought over it, it is frozen for a while
	Shadowed                     // arbitration: the shadow phase only compares, and the value differs
	Guard                        // an IfRevision precondition did not hold
	Unrecoverable                // would leave the device without a manager, or in an invalid configuration
	Resources                    // a limit was reached
	InvalidArgs                  // message or command arguments
	CommandFailed                // a command ran and failed
	CommandCanceled
	NotImplemented // supported by the model, not by this device
	Applying       // committed, but the device refused it
)

var reasonText = [...]string{
	Internal: "internal error", PathSyntax: "invalid path syntax", NotSupported: "not in the supported data model",
	NoInstance: "object does not exist", NotTable: "not a table", NotCreatable: "rows cannot be added here",
	NotDeletable: "cannot be deleted", NotWritable: "not writable", InvalidType: "invalid type",
	InvalidValue: "invalid value", DuplicateKey: "duplicate unique key", ValueConflict: "conflicting value",
	RequiredFailed: "required parameter failed", Denied: "permission denied", Refused: "refused",
	Leased: "refused", Confirming: "refused", Damped: "refused", Shadowed: "refused",
	Guard: "precondition failed", Unrecoverable: "invalid configuration", Resources: "resources exceeded",
	InvalidArgs: "invalid arguments", CommandFailed: "command failed", CommandCanceled: "command canceled",
	NotImplemented: "not supported by this device", Applying: "the device could not apply it",
}

func (r Reason) String() string {
	if int(r) < len(reasonText) {
		return reasonText[r]
	}
	return "unknown reason"
}

// Error is the one error type inside twinspan.
type Error struct {
	Reason Reason
	Path   string // what was refused, in the spelling of the asker where known
	Text   string // one sentence for the asker; may be empty; never holds a secret
	Err    error  // cause
	// Style says which codes stand for a refusal by arbitration, where a protocol has the choice.
	Style FaultStyle
}

// FaultStyle of refusals by arbitration.
type FaultStyle uint8

const (
	StyleUsual    FaultStyle = iota // vendor codes in USP, standard ones in CWMP
	StyleStandard                   // standard codes in both
	StyleVendor                     // vendor codes in both: 7810-7815 and 9810-9815
)

// Arbitrated reports whether a reason is a refusal by arbitration: legal in itself, but somebody else has the say.
func (r Reason) Arbitrated() bool {
	switch r {
	case Refused, Leased, Confirming, Damped, Shadowed, Guard:
		return true
	}
	return false
}

func (e *Error) Error() string {
	s := e.Reason.String()
	if e.Path != "" {
		s = e.Path + ": " + s
	}
	if e.Text != "" {
		s += ": " + e.Text
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Errorf-free constructor: reasons, path and a sentence.
func Fail(r Reason, path, text string) *Error { return &Error{Reason: r, Path: path, Text: text} }

// ReasonOf returns the Reason of err, Internal for errors of other packages.
func ReasonOf(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return Internal
}
