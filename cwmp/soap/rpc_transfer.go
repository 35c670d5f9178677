package soap

import "time"

// GetAllQueuedTransfers has no arguments.
type GetAllQueuedTransfers struct{}

// AllQueuedTransfer is one AllQueuedTransferStruct. State: 1 not started, 2 in progress, 3 completed.
type AllQueuedTransfer struct {
	CommandKey     string
	State          int
	IsDownload     bool
	FileType       string
	FileSize       uint32
	TargetFileName string
}

// GetAllQueuedTransfersResponse holds at most 16 transfers.
type GetAllQueuedTransfersResponse struct{ TransferList []AllQueuedTransfer }

// GetQueuedTransfers is deprecated.
type GetQueuedTransfers struct{}

// QueuedTransfer is one QueuedTransferStruct.
type QueuedTransfer struct {
	CommandKey string
	State      int
}

// GetQueuedTransfersResponse holds at most 16 transfers.
type GetQueuedTransfersResponse struct{ TransferList []QueuedTransfer }

// TimeWindow of a ScheduleDownload, in seconds after the response. MaxRetries -1 leaves it to the CPE.
type TimeWindow struct {
	WindowStart, WindowEnd uint32
	WindowMode             string // <= 64
	UserMessage            string // <= 256
	MaxRetries             int
}

// ScheduleDownload has one or two windows that do not overlap.
type ScheduleDownload struct {
	CommandKey     string
	FileType       string
	URL            string
	Username       string
	Password       string
	FileSize       uint32
	TargetFileName string
	TimeWindowList []TimeWindow
}

// ScheduleDownloadResponse is empty.
type ScheduleDownloadResponse struct{}

// CancelTransfer cancels all transfers with the key.
type CancelTransfer struct{ CommandKey string }

// CancelTransferResponse is empty.
type CancelTransferResponse struct{}

// DUOperationKind tells the operations of ChangeDUState apart; on the wire it is the xsi:type.
type DUOperationKind uint8

// The operations on a deployment unit.
const (
	Install DUOperationKind = iota + 1
	Update
	Uninstall
)

var duKindNames = [...]string{Install: "InstallOpStruct", Update: "UpdateOpStruct", Uninstall: "UninstallOpStruct"}

// DUOperation is one Operations element. Which fields count depends on Kind: Version only for Update and Uninstall,
// URL and credentials only for Install and Update, ExecutionEnvRef only for Install and Uninstall.
type DUOperation struct {
	Kind            DUOperationKind
	UUID            string
	Version         string // <= 32
	URL             string // <= 1024
	Username        string
	Password        string
	ExecutionEnvRef string
}

// ChangeDUState has at least one operation.
type ChangeDUState struct {
	Operations []DUOperation
	CommandKey string
}

// ChangeDUStateResponse is empty.
type ChangeDUStateResponse struct{}

// SetVouchers is deprecated. The vouchers are base64 text as received.
type SetVouchers struct{ VoucherList []string }

// SetVouchersResponse is empty.
type SetVouchersResponse struct{}

// GetOptions is deprecated.
type GetOptions struct{ OptionName string }

// Option is one OptionStruct.
type Option struct {
	OptionName     string
	VoucherSN      uint32
	State          uint32 // 0..3
	Mode           int    // 0..2
	StartDate      time.Time
	ExpirationDate time.Time // zero: left out
	IsTransferable int       // 0 or 1
}

// GetOptionsResponse lists the options.
type GetOptionsResponse struct{ OptionList []Option }

// Method names.
func (*GetAllQueuedTransfers) Method() string         { return "GetAllQueuedTransfers" }
func (*GetAllQueuedTransfersResponse) Method() string { return "GetAllQueuedTransfersResponse" }
func (*GetQueuedTransfers) Method() string            { return "GetQueuedTransfers" }
func (*GetQueuedTransfersResponse) Method() string    { return "GetQueuedTransfersResponse" }
func (*ScheduleDownload) Method() string              { return "ScheduleDownload" }
func (*ScheduleDownloadResponse) Method() string      { return "ScheduleDownloadResponse" }
func (*CancelTransfer) Method() string                { return "CancelTransfer" }
func (*CancelTransferResponse) Method() string        { return "CancelTransferResponse" }
func (*ChangeDUState) Method() string                 { return "ChangeDUState" }
func (*ChangeDUStateResponse) Method() string         { return "ChangeDUStateResponse" }
func (*SetVouchers) Method() string                   { return "SetVouchers" }
func (*SetVouchersResponse) Method() string           { return "SetVouchersResponse" }
func (*GetOptions) Method() string                    { return "GetOptions" }
func (*GetOptionsResponse) Method() string            { return "GetOptionsResponse" }

func (*GetAllQueuedTransfers) fields(codec)    {}
func (*GetQueuedTransfers) fields(codec)       {}
func (*ScheduleDownloadResponse) fields(codec) {}
func (*CancelTransferResponse) fields(codec)   {}
func (*ChangeDUStateResponse) fields(codec)    {}
func (*SetVouchersResponse) fields(codec)      {}

func (m *GetAllQueuedTransfersResponse) fields(c codec) {
	list(c, "TransferList", "AllQueuedTransferStruct", &m.TransferList, func(c codec, v *AllQueuedTransfer) {
		c.key("CommandKey", &v.CommandKey)
		c.integer("State", &v.State, 1, 3)
		c.boolean("IsDownload", &v.IsDownload)
		c.text("FileType", &v.FileType, 64)
		c.optUnsigned("FileSize", &v.FileSize)
		c.text("TargetFileName", &v.TargetFileName, 256)
	})
}

func (m *GetQueuedTransfersResponse) fields(c codec) {
	list(c, "TransferList", "QueuedTransferStruct", &m.TransferList, func(c codec, v *QueuedTransfer) {
		c.key("CommandKey", &v.CommandKey)
		c.integer("State", &v.State, 1, 3)
	})
}

func (m *ScheduleDownload) fields(c codec) {
	c.key("CommandKey", &m.CommandKey)
	c.text("FileType", &m.FileType, 64)
	c.text("URL", &m.URL, 256)
	c.text("Username", &m.Username, 256)
	c.text("Password", &m.Password, 256)
	c.optUnsigned("FileSize", &m.FileSize)
	c.text("TargetFileName", &m.TargetFileName, 256)
	list(c, "TimeWindowList", "TimeWindowStruct", &m.TimeWindowList, func(c codec, v *TimeWindow) {
		c.unsigned("WindowStart", &v.WindowStart)
		c.unsigned("WindowEnd", &v.WindowEnd)
		c.text("WindowMode", &v.WindowMode, 64)
		c.text("UserMessage", &v.UserMessage, 256)
		c.integer("MaxRetries", &v.MaxRetries, minInt32, maxInt32)
	})
}

func (m *CancelTransfer) fields(c codec) { c.key("CommandKey", &m.CommandKey) }

func (m *ChangeDUState) fields(c codec) {
	typed(c, "Operations", &m.Operations, func(v *DUOperation) *DUOperationKind { return &v.Kind }, func(c codec, v *DUOperation) {
		switch v.Kind {
		case Install:
			c.text("URL", &v.URL, 1024)
			c.optText("UUID", &v.UUID, 36)
			c.optText("Username", &v.Username, 256)
			c.optText("Password", &v.Password, 256)
			c.optText("ExecutionEnvRef", &v.ExecutionEnvRef, 256)
		case Update:
			c.optText("UUID", &v.UUID, 36)
			c.optText("Version", &v.Version, 32)
			c.optText("URL", &v.URL, 1024)
			c.optText("Username", &v.Username, 256)
			c.optText("Password", &v.Password, 256)
		case Uninstall:
			c.text("UUID", &v.UUID, 36)
			c.optText("Version", &v.Version, 32)
			c.optText("ExecutionEnvRef", &v.ExecutionEnvRef, 256)
		}
	})
	c.optKey("CommandKey", &m.CommandKey)
}

func (m *SetVouchers) fields(c codec) { c.base64s("VoucherList", &m.VoucherList) }

func (m *GetOptions) fields(c codec) { c.text("OptionName", &m.OptionName, 64) }

func (m *GetOptionsResponse) fields(c codec) {
	list(c, "OptionList", "OptionStruct", &m.OptionList, func(c codec, v *Option) {
		c.text("OptionName", &v.OptionName, 64)
		c.unsigned("VoucherSN", &v.VoucherSN)
		c.unsigned("State", &v.State)
		c.integer("Mode", &v.Mode, 0, 2)
		c.time("StartDate", &v.StartDate)
		c.optTime("ExpirationDate", &v.ExpirationDate)
		c.integer("IsTransferable", &v.IsTransferable, 0, 1)
	})
}
