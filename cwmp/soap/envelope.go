package soap

import "strings"

// Envelope is one SOAP envelope: one header block and exactly one RPC or fault (TR-069 3.5).
type Envelope struct {
	// Namespace of the cwmp elements; empty means NSCWMP12 when writing. Decode sets what it met.
	Namespace string
	Header    Header
	Body      Message
}

// Header holds the header elements of CWMP. NoMoreRequests is deprecated: accepted and forgotten (TR-069 3.5).
type Header struct {
	// ID is echoed exactly by a response or fault. HasID tells an empty ID from none; writing needs only one of the two.
	ID    string
	HasID bool
	// HoldRequests is nil when absent. Only the ACS sends it.
	HoldRequests *bool
	// SessionTimeout in seconds, 0 when absent. The CPE's Inform, since CWMP 1.3.
	SessionTimeout uint32
	// SupportedCWMPVersions of the CPE's Inform, since CWMP 1.4; nil when absent.
	SupportedCWMPVersions []string
	// UseCWMPVersion of the InformResponse, since CWMP 1.4; "" when absent.
	UseCWMPVersion string
}

// Held reports whether the sender asked to hold requests; an absent header releases the hold (TR-069 3.4.2).
func (h *Header) Held() bool { return h.HoldRequests != nil && *h.HoldRequests }

// Message is what a Body holds: *Fault, *UnknownMethod or one of the RPC types of this package.
type Message interface {
	// Method is the local name of the element: "GetParameterValues", "GetParameterValuesResponse", "Fault".
	Method() string
	fields(c codec)
}

// UnknownMethod is an RPC that this package does not know. A CPE answers it with fault 9000; it cannot be encoded.
type UnknownMethod struct {
	Name      string
	Namespace string
}

// Method returns the name as received.
func (m *UnknownMethod) Method() string { return m.Name }

func (m *UnknownMethod) fields(c codec) { c.fail(m.Name, "unknown method cannot be written") }

// IsRequest reports whether m asks for an answer: not a response and not a fault.
func IsRequest(m Message) bool {
	if m == nil {
		return false
	}
	if _, fault := m.(*Fault); fault {
		return false
	}
	return !strings.HasSuffix(m.Method(), "Response")
}

// New returns an empty message for a method name, nil for a name that is not in TR-069 Amendment 6.
func New(method string) Message {
	if m := newRequest(method); m != nil {
		return m
	}
	return newResponse(method)
}

func newRequest(method string) Message {
	switch method {
	case "GetRPCMethods":
		return &GetRPCMethods{}
	case "SetParameterValues":
		return &SetParameterValues{}
	case "GetParameterValues":
		return &GetParameterValues{}
	case "GetParameterNames":
		return &GetParameterNames{}
	case "SetParameterAttributes":
		return &SetParameterAttributes{}
	case "GetParameterAttributes":
		return &GetParameterAttributes{}
	case "AddObject":
		return &AddObject{}
	case "DeleteObject":
		return &DeleteObject{}
	case "Reboot":
		return &Reboot{}
	case "Download":
		return &Download{}
	case "FactoryReset":
		return &FactoryReset{}
	case "Upload":
		return &Upload{}
	case "ScheduleInform":
		return &ScheduleInform{}
	case "GetAllQueuedTransfers":
		return &GetAllQueuedTransfers{}
	case "GetQueuedTransfers":
		return &GetQueuedTransfers{}
	case "ScheduleDownload":
		return &ScheduleDownload{}
	case "CancelTransfer":
		return &CancelTransfer{}
	case "ChangeDUState":
		return &ChangeDUState{}
	case "SetVouchers":
		return &SetVouchers{}
	case "GetOptions":
		return &GetOptions{}
	case "Inform":
		return &Inform{}
	case "TransferComplete":
		return &TransferComplete{}
	case "AutonomousTransferComplete":
		return &AutonomousTransferComplete{}
	case "DUStateChangeComplete":
		return &DUStateChangeComplete{}
	case "AutonomousDUStateChangeComplete":
		return &AutonomousDUStateChangeComplete{}
	case "RequestDownload":
		return &RequestDownload{}
	case "Kicked":
		return &Kicked{}
	}
	return nil
}

func newResponse(method string) Message {
	switch method {
	case "GetRPCMethodsResponse":
		return &GetRPCMethodsResponse{}
	case "SetParameterValuesResponse":
		return &SetParameterValuesResponse{}
	case "GetParameterValuesResponse":
		return &GetParameterValuesResponse{}
	case "GetParameterNamesResponse":
		return &GetParameterNamesResponse{}
	case "SetParameterAttributesResponse":
		return &SetParameterAttributesResponse{}
	case "GetParameterAttributesResponse":
		return &GetParameterAttributesResponse{}
	case "AddObjectResponse":
		return &AddObjectResponse{}
	case "DeleteObjectResponse":
		return &DeleteObjectResponse{}
	case "RebootResponse":
		return &RebootResponse{}
	case "DownloadResponse":
		return &DownloadResponse{}
	case "FactoryResetResponse":
		return &FactoryResetResponse{}
	case "UploadResponse":
		return &UploadResponse{}
	case "ScheduleInformResponse":
		return &ScheduleInformResponse{}
	case "GetAllQueuedTransfersResponse":
		return &GetAllQueuedTransfersResponse{}
	case "GetQueuedTransfersResponse":
		return &GetQueuedTransfersResponse{}
	case "ScheduleDownloadResponse":
		return &ScheduleDownloadResponse{}
	case "CancelTransferResponse":
		return &CancelTransferResponse{}
	case "ChangeDUStateResponse":
		return &ChangeDUStateResponse{}
	case "SetVouchersResponse":
		return &SetVouchersResponse{}
	case "GetOptionsResponse":
		return &GetOptionsResponse{}
	case "InformResponse":
		return &InformResponse{}
	case "TransferCompleteResponse":
		return &TransferCompleteResponse{}
	case "AutonomousTransferCompleteResponse":
		return &AutonomousTransferCompleteResponse{}
	case "DUStateChangeCompleteResponse":
		return &DUStateChangeCompleteResponse{}
	case "AutonomousDUStateChangeCompleteResponse":
		return &AutonomousDUStateChangeCompleteResponse{}
	case "RequestDownloadResponse":
		return &RequestDownloadResponse{}
	case "KickedResponse":
		return &KickedResponse{}
	}
	return nil
}
