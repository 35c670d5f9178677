package soap

import "time"

// DeviceID identifies the CPE.
type DeviceID struct {
	Manufacturer string // <= 64
	OUI          string // six of 0-9A-F
	ProductClass string // <= 64
	SerialNumber string // <= 64
}

// Event is one EventStruct.
type Event struct {
	EventCode  string // "0 BOOTSTRAP"; <= 64
	CommandKey string // empty for single events; <= 32
}

// MaxEvents is the largest number of events in one Inform (TR-069 A.3.3.1).
const MaxEvents = 64

// Inform opens a session.
type Inform struct {
	DeviceID      DeviceID
	Event         []Event // 0..64
	MaxEnvelopes  uint32  // 1
	CurrentTime   time.Time
	RetryCount    uint32
	ParameterList []ParameterValue
}

// InformResponse answers it; MaxEnvelopes is 1.
type InformResponse struct{ MaxEnvelopes uint32 }

// TransferFault is a FaultStruct: code 0 and an empty text mean success. It is always present.
type TransferFault struct {
	FaultCode   FaultCode
	FaultString string // <= 256
}

// TransferComplete reports the end of a Download, Upload or ScheduleDownload.
type TransferComplete struct {
	CommandKey              string
	FaultStruct             TransferFault
	StartTime, CompleteTime time.Time
}

// TransferCompleteResponse is empty.
type TransferCompleteResponse struct{}

// AutonomousTransferComplete reports a transfer that no ACS asked for.
type AutonomousTransferComplete struct {
	AnnounceURL             string // <= 1024
	TransferURL             string // <= 1024
	IsDownload              bool
	FileType                string
	FileSize                uint32
	TargetFileName          string
	FaultStruct             TransferFault
	StartTime, CompleteTime time.Time
}

// AutonomousTransferCompleteResponse is empty.
type AutonomousTransferCompleteResponse struct{}

// DUResult is one OpResultStruct. OperationPerformed is only in the autonomous variant.
type DUResult struct {
	UUID                    string
	DeploymentUnitRef       string
	Version                 string
	CurrentState            string // Installed, Uninstalled or Failed
	Resolved                bool
	ExecutionUnitRefList    string
	StartTime, CompleteTime time.Time
	Fault                   TransferFault
	OperationPerformed      string // Install, Update, Uninstall
}

// DUStateChangeComplete has one result per operation, in the order of the request.
type DUStateChangeComplete struct {
	Results    []DUResult
	CommandKey string
}

// DUStateChangeCompleteResponse is empty.
type DUStateChangeCompleteResponse struct{}

// AutonomousDUStateChangeComplete reports changes that no ACS asked for.
type AutonomousDUStateChangeComplete struct{ Results []DUResult }

// AutonomousDUStateChangeCompleteResponse is empty.
type AutonomousDUStateChangeCompleteResponse struct{}

// Arg is one ArgStruct.
type Arg struct {
	Name  string // <= 64
	Value string // <= 256
}

// RequestDownload asks the ACS to send a Download.
type RequestDownload struct {
	FileType    string
	FileTypeArg []Arg // <= 16
}

// RequestDownloadResponse is empty.
type RequestDownloadResponse struct{}

// Kicked is deprecated.
type Kicked struct {
	Command string // <= 32
	Referer string // <= 64
	Arg     string // <= 256
	Next    string // <= 1024
}

// KickedResponse names the page to go to.
type KickedResponse struct{ NextURL string }

// Method names.
func (*Inform) Method() string                     { return "Inform" }
func (*InformResponse) Method() string             { return "InformResponse" }
func (*TransferComplete) Method() string           { return "TransferComplete" }
func (*TransferCompleteResponse) Method() string   { return "TransferCompleteResponse" }
func (*AutonomousTransferComplete) Method() string { return "AutonomousTransferComplete" }
func (*AutonomousTransferCompleteResponse) Method() string {
	return "AutonomousTransferCompleteResponse"
}
func (*DUStateChangeComplete) Method() string           { return "DUStateChangeComplete" }
func (*DUStateChangeCompleteResponse) Method() string   { return "DUStateChangeCompleteResponse" }
func (*AutonomousDUStateChangeComplete) Method() string { return "AutonomousDUStateChangeComplete" }
func (*AutonomousDUStateChangeCompleteResponse) Method() string {
	return "AutonomousDUStateChangeCompleteResponse"
}
func (*RequestDownload) Method() string         { return "RequestDownload" }
func (*RequestDownloadResponse) Method() string { return "RequestDownloadResponse" }
func (*Kicked) Method() string                  { return "Kicked" }
func (*KickedResponse) Method() string          { return "KickedResponse" }

func (*TransferCompleteResponse) fields(codec)                {}
func (*AutonomousTransferCompleteResponse) fields(codec)      {}
func (*DUStateChangeCompleteResponse) fields(codec)           {}
func (*AutonomousDUStateChangeCompleteResponse) fields(codec) {}
func (*RequestDownloadResponse) fields(codec)                 {}

func (m *Inform) fields(c codec) {
	c.group("DeviceId", func() {
		c.text("Manufacturer", &m.DeviceID.Manufacturer, 64)
		c.text("OUI", &m.DeviceID.OUI, 6)
		c.text("ProductClass", &m.DeviceID.ProductClass, 64)
		c.text("SerialNumber", &m.DeviceID.SerialNumber, 64)
	})
	list(c, "Event", "EventStruct", &m.Event, func(c codec, v *Event) {
		c.text("EventCode", &v.EventCode, 64)
		c.key("CommandKey", &v.CommandKey)
	})
	if len(m.Event) > MaxEvents { // TR-069 A.3.3.1
		c.fail("Event", "more than 64 events")
	}
	c.optUnsigned("MaxEnvelopes", &m.MaxEnvelopes)
	c.time("CurrentTime", &m.CurrentTime)
	c.optUnsigned("RetryCount", &m.RetryCount)
	list(c, "ParameterList", "ParameterValueStruct", &m.ParameterList, func(c codec, v *ParameterValue) { v.fields(c) })
}

func (m *InformResponse) fields(c codec) { c.optUnsigned("MaxEnvelopes", &m.MaxEnvelopes) }

func (f *TransferFault) fields(c codec) {
	c.code("FaultCode", &f.FaultCode)
	c.text("FaultString", &f.FaultString, 256)
}

func (m *TransferComplete) fields(c codec) {
	c.key("CommandKey", &m.CommandKey)
	c.group("FaultStruct", func() { m.FaultStruct.fields(c) })
	c.time("StartTime", &m.StartTime)
	c.time("CompleteTime", &m.CompleteTime)
}

func (m *AutonomousTransferComplete) fields(c codec) {
	c.text("AnnounceURL", &m.AnnounceURL, 1024)
	c.text("TransferURL", &m.TransferURL, 1024)
	c.boolean("IsDownload", &m.IsDownload)
	c.text("FileType", &m.FileType, 64)
	c.optUnsigned("FileSize", &m.FileSize)
	c.text("TargetFileName", &m.TargetFileName, 256)
	c.group("FaultStruct", func() { m.FaultStruct.fields(c) })
	c.time("StartTime", &m.StartTime)
	c.time("CompleteTime", &m.CompleteTime)
}

func (r *DUResult) fields(c codec) {
	c.text("UUID", &r.UUID, 36)
	c.text("DeploymentUnitRef", &r.DeploymentUnitRef, 0)
	c.text("Version", &r.Version, 32)
	c.text("CurrentState", &r.CurrentState, 0)
	c.boolean("Resolved", &r.Resolved)
	c.text("ExecutionUnitRefList", &r.ExecutionUnitRefList, 0)
	c.time("StartTime", &r.StartTime)
	c.time("CompleteTime", &r.CompleteTime)
	c.group("Fault", func() { r.Fault.fields(c) })
}

func (m *DUStateChangeComplete) fields(c codec) {
	repeat(c, "Results", &m.Results, func(c codec, v *DUResult) { v.fields(c) })
	c.optKey("CommandKey", &m.CommandKey)
}

func (m *AutonomousDUStateChangeComplete) fields(c codec) {
	repeat(c, "Results", &m.Results, func(c codec, v *DUResult) {
		v.fields(c)
		c.text("OperationPerformed", &v.OperationPerformed, 0)
	})
}

func (m *RequestDownload) fields(c codec) {
	c.text("FileType", &m.FileType, 64)
	list(c, "FileTypeArg", "ArgStruct", &m.FileTypeArg, func(c codec, v *Arg) {
		c.text("Name", &v.Name, 64)
		c.text("Value", &v.Value, 256)
	})
}

func (m *Kicked) fields(c codec) {
	c.text("Command", &m.Command, 32)
	c.text("Referer", &m.Referer, 64)
	c.text("Arg", &m.Arg, 256)
	c.text("Next", &m.Next, 1024)
}

func (m *KickedResponse) fields(c codec) { c.text("NextURL", &m.NextURL, 1024) }
