package modules

import "fmt"

// Reason says why an operation failed, without any protocol's numbers.
type Reason uint8

const (
	Denied Reason = iota + 1
	InvalidArguments
	Unauthorized     // the file server refuses the credentials
	BadProtocol      // neither http nor https
	NoServer         // cannot be reached or trusted
	NoFile           // it has no such file
	Incomplete       // the transfer broke off
	Corrupted        // not a package
	InvalidUUID      // not of the form
	UnknownEnv       // no such execution environment
	DisabledEnv      // it is disabled
	Mismatch         // the package is for another type of environment
	Duplicate        // the unit is there in this version
	Exhausted        // of rows, disk or memory
	UnknownUnit      // no such deployment unit
	InvalidState     // another operation changes it
	Downgrade        // the new version is lower
	VersionMissing   // several versions are there, and none was named
	VersionExists    // the new version is there already
	NotSupportedArgs // asks for what is not simulated
)

var meanings = map[Reason]string{
	Denied: "refused", InvalidArguments: "invalid arguments", Unauthorized: "the file server refused the credentials",
	BadProtocol: "only http and https are supported", NoServer: "the file server cannot be reached or trusted", NoFile: "the file server has no such file",
	Incomplete: "the transfer broke off", Corrupted: "the file is not a package of this device", InvalidUUID: "not a UUID",
	UnknownEnv: "no such execution environment", DisabledEnv: "the execution environment is disabled",
	Mismatch: "the package does not fit the execution environment", Duplicate: "the deployment unit is installed already",
	Exhausted: "the execution environment has no room", UnknownUnit: "no such deployment unit", InvalidState: "another operation changes the deployment unit",
	Downgrade: "the version is lower than the installed one", VersionMissing: "several versions are installed, one must be named",
	VersionExists: "the version is installed already", NotSupportedArgs: "an argument asks for what this device does not have",
}

// Fault is how an operation fails. Text is for the manager and holds no secret; Err is for the log.
type Fault struct {
	Reason Reason
	Text   string
	Err    error
}

func (f *Fault) Error() string {
	if f.Text == "" {
		return meanings[f.Reason]
	}
	return meanings[f.Reason] + ": " + f.Text
}

func (f *Fault) Unwrap() error { return f.Err }

func fail(r Reason, format string, args ...any) *Fault {
	return &Fault{Reason: r, Text: fmt.Sprintf(format, args...)}
}

// modelCodes are the numbers that TR-181 gives DUStateChange!.Fault.FaultCode; all others are 7022, command failure.
var modelCodes = map[Reason]int{
	InvalidArguments: 7004, NotSupportedArgs: 7004, NoServer: 7033, Corrupted: 7035, UnknownEnv: 7223, Mismatch: 7225, Duplicate: 7226, Exhausted: 7227,
	InvalidState: 7229, DisabledEnv: 7230, VersionExists: 7226,
}

func (f *Fault) modelCode() int {
	if code, ok := modelCodes[f.Reason]; ok {
		return code
	}
	return 7022
}
