package soap

import (
	"fmt"
	"strconv"
)

// FaultCode is a CWMP fault code: 9000-9032 and 9800-9899 from a CPE, 8000-8006 and 8800-8899 from an ACS (TR-069 A.5).
type FaultCode uint16

// Fault codes of a CPE.
const (
	MethodNotSupported        FaultCode = 9000
	RequestDenied             FaultCode = 9001
	InternalError             FaultCode = 9002
	InvalidArguments          FaultCode = 9003
	ResourcesExceeded         FaultCode = 9004
	InvalidParameterName      FaultCode = 9005
	InvalidParameterType      FaultCode = 9006
	InvalidParameterValue     FaultCode = 9007
	NonWritableParameter      FaultCode = 9008
	NotificationRejected      FaultCode = 9009
	DownloadFailure           FaultCode = 9010
	UploadFailure             FaultCode = 9011
	TransferAuthFailure       FaultCode = 9012
	UnsupportedTransferProto  FaultCode = 9013
	CannotJoinMulticast       FaultCode = 9014
	CannotContactFileServer   FaultCode = 9015
	CannotAccessFile          FaultCode = 9016
	CannotCompleteDownload    FaultCode = 9017
	FileCorrupted             FaultCode = 9018
	FileAuthenticationFailure FaultCode = 9019
	TimeWindowsMissed         FaultCode = 9020
	CancelNotPermitted        FaultCode = 9021
	InvalidUUID               FaultCode = 9022
	UnknownExecutionEnv       FaultCode = 9023
	DisabledExecutionEnv      FaultCode = 9024
	DUExecutionEnvMismatch    FaultCode = 9025
	DuplicateDU               FaultCode = 9026
	SystemResourcesExceeded   FaultCode = 9027
	UnknownDU                 FaultCode = 9028
	InvalidDUState            FaultCode = 9029
	DUDowngradeNotPermitted   FaultCode = 9030
	DUVersionNotSpecified     FaultCode = 9031
	DUVersionExists           FaultCode = 9032
	ACSMethodNotSupported     FaultCode = 8000
	ACSRequestDenied          FaultCode = 8001
	ACSInternalError          FaultCode = 8002
	ACSInvalidArguments       FaultCode = 8003
	ACSResourcesExceeded      FaultCode = 8004
	ACSRetryRequest           FaultCode = 8005
	ACSVersionIncompatible    FaultCode = 8006
)

var cpeMeanings = [...]string{
	"Method not supported", "Request denied", "Internal error", "Invalid arguments", "Resources exceeded",
	"Invalid parameter name", "Invalid parameter type", "Invalid parameter value",
	"Attempt to set a non-writable parameter", "Notification request rejected", "File transfer failure",
	"Upload failure", "File transfer server authentication failure", "Unsupported protocol for file transfer",
	"Unable to join multicast group", "Unable to contact file server", "Unable to access file",
	"Unable to complete download", "File corrupted or otherwise unusable", "File authentication failure",
	"Unable to complete download within the time windows", "Cancellation of file transfer not permitted in the present state",
	"Invalid UUID format", "Unknown execution environment", "Disabled execution environment",
	"Deployment unit does not fit the execution environment", "Duplicate deployment unit", "System resources exceeded",
	"Unknown deployment unit", "Invalid deployment unit state", "Downgrade of a deployment unit not permitted",
	"Version of the deployment unit not specified", "Version of the deployment unit exists",
}

var acsMeanings = [...]string{
	"Method not supported", "Request denied", "Internal error", "Invalid arguments", "Resources exceeded",
	"Retry request", "ACS version incompatible with CPE",
}

// String returns the meaning of the code, or "Fault <n>" for vendor and reserved codes.
func (c FaultCode) String() string {
	switch {
	case c >= MethodNotSupported && c <= DUVersionExists:
		return cpeMeanings[c-MethodNotSupported]
	case c >= ACSMethodNotSupported && c <= ACSVersionIncompatible:
		return acsMeanings[c-ACSMethodNotSupported]
	}
	return "Fault " + strconv.Itoa(int(c))
}

// SOAPCode is the faultcode that goes with c: Client when the sender of the request is to blame, else Server.
func (c FaultCode) SOAPCode() string {
	switch {
	case c == InvalidArguments, c >= InvalidParameterName && c <= NonWritableParameter, c == ACSInvalidArguments,
		c >= CancelNotPermitted && c <= DuplicateDU, c >= UnknownDU && c <= DUVersionExists:
		return "Client"
	}
	return "Server"
}

// SetParameterValuesFault is one bad parameter of a SetParameterValues; all of them are listed (TR-069 A.5).
type SetParameterValuesFault struct {
	ParameterName string
	FaultCode     FaultCode
	FaultString   string
}

func (f *SetParameterValuesFault) fields(c codec) {
	c.text("ParameterName", &f.ParameterName, 256)
	c.code("FaultCode", &f.FaultCode)
	c.optText("FaultString", &f.FaultString, 0)
}

// Fault is a SOAP fault. With Code it is a CWMP fault: faultcode, the text "CWMP fault" and the detail are then
// written from the standard. Without Code (0) it is a plain SOAP fault, such as MustUnderstand.
type Fault struct {
	Code                    FaultCode
	FaultString             string // empty: the meaning of Code is written
	SetParameterValuesFault []SetParameterValuesFault

	SOAPCode   string // Client, Server, MustUnderstand or VersionMismatch, without prefix; empty: derived from Code
	SOAPString string // empty: "CWMP fault"
}

// NewFault makes a CWMP fault; an empty text stands for the meaning of the code.
func NewFault(code FaultCode, text string) *Fault { return &Fault{Code: code, FaultString: text} }

// Method returns "Fault".
func (f *Fault) Method() string { return "Fault" }

// Error makes a received fault usable as an error.
func (f *Fault) Error() string {
	if f.Code == 0 {
		return fmt.Sprintf("soap fault %s: %s", f.SOAPCode, f.SOAPString)
	}
	text := f.FaultString
	if text == "" {
		text = f.Code.String()
	}
	return fmt.Sprintf("cwmp fault %d: %s", f.Code, text)
}

// fields describes the cwmp:Fault of the detail.
func (f *Fault) fields(c codec) {
	c.code("FaultCode", &f.Code)
	c.optText("FaultString", &f.FaultString, 0)
	repeat(c, "SetParameterValuesFault", &f.SetParameterValuesFault, func(c codec, v *SetParameterValuesFault) { v.fields(c) })
}

// Kind says what is wrong with a received message, and so what the receiver owes the sender.
type Kind uint8

const (
	// Malformed: not well-formed XML or not a SOAP envelope. The session is over for a CPE.
	Malformed Kind = iota
	// TooLarge: a limit was passed. Fault 9004.
	TooLarge
	// VersionMismatch: an envelope of another SOAP version.
	VersionMismatch
	// MustUnderstand: an unknown header that must be understood.
	MustUnderstand
	// BadArguments: the method is known, its arguments are not usable. Fault 9003.
	BadArguments
)

var kindText = [...]string{"malformed", "too large", "soap version mismatch", "header not understood", "invalid arguments"}

func (k Kind) String() string {
	if int(k) < len(kindText) {
		return kindText[k]
	}
	return "error"
}

// Error is returned by Decode and Encode.
type Error struct {
	Kind    Kind
	Element string // the element at fault, where known
	Text    string
	Err     error
}

func (e *Error) Error() string {
	s := "soap: " + e.Kind.String()
	if e.Element != "" {
		s += ": " + e.Element
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

// Fault is the answer that the error calls for from a CPE.
func (e *Error) Fault() *Fault {
	text := e.Text
	if e.Element != "" {
		text = e.Element + ": " + text
	}
	switch e.Kind {
	case TooLarge:
		return NewFault(ResourcesExceeded, text)
	case BadArguments:
		return NewFault(InvalidArguments, text)
	case VersionMismatch:
		return &Fault{SOAPCode: "VersionMismatch", SOAPString: text}
	case MustUnderstand:
		return &Fault{SOAPCode: "MustUnderstand", SOAPString: text}
	}
	return &Fault{SOAPCode: "Client", SOAPString: text}
}
