package bridge

import "strings"

// Cause is something that makes one or both sides hear of it: DESIGN invariant 7.
type Cause uint8

// The causes, in the order of the table.
const (
	CauseACSWrite Cause = iota
	CauseWrite
	CauseRebootRPC
	CauseReboot
	CauseLocalReboot
	CauseFactoryResetRPC
	CauseFactoryReset
	CauseLocalFactoryReset
	CauseScheduleInform
	CauseScheduleTimer
	CausePeriodic
	CauseDownloadRPC
	CauseUploadRPC
	CauseTransfer
	CauseChangeDUState
	CauseModule
	CauseDiagnosticsState
	CauseDiagnostics
	CausePhase
)

// Causality says who is told of a cause, whoever it came from.
type Causality struct {
	Cause Cause
	Text  string
	// Inform are the event codes that the ACS sees, in the order in which they are queued; none: it hears nothing.
	Inform []string
	ACS    string // what else there is to say of it
	// Notify are the notifications that subscribed Controllers see; Boot is the argument Cause of Boot!, and Key says that
	// it carries the command_key.
	Notify []string
	USP    string
	Boot   string
	Key    bool
}

var writeNotify = []string{"ValueChange", "ObjectCreation", "ObjectDeletion"}

// Causalities is the table that both heads look up, and that docs/causality.md is made from. Index: Cause.
var Causalities = []Causality{
	{CauseACSWrite, "SetParameterValues, AddObject, DeleteObject", nil, "its own change", writeNotify, "", "", false},
	{CauseWrite, "USP Set, Add, Delete; local user; rollback", []string{"4 VALUE CHANGE"}, "by attribute; of rows: the number of entries", writeNotify, "to all subscribers, the originator included", "", false},
	{CauseRebootRPC, "Reboot RPC", []string{"1 BOOT", "M Reboot"}, "", []string{"Boot!"}, "", "RemoteReboot", false},
	{CauseReboot, "Device.Reboot() of a Controller", []string{"1 BOOT"}, "", []string{"Boot!"}, "", "RemoteReboot", true},
	{CauseLocalReboot, "Device.Reboot() at the device", []string{"1 BOOT"}, "", []string{"Boot!"}, "", "LocalReboot", false},
	{CauseFactoryResetRPC, "FactoryReset RPC", []string{"0 BOOTSTRAP", "1 BOOT"}, "", []string{"Boot!", "OnBoardRequest"}, "", "RemoteFactoryReset", false},
	{CauseFactoryReset, "Device.FactoryReset() of a Controller", []string{"0 BOOTSTRAP", "1 BOOT"}, "", []string{"Boot!", "OnBoardRequest"}, "", "RemoteFactoryReset", true},
	{CauseLocalFactoryReset, "Device.FactoryReset() at the device", []string{"0 BOOTSTRAP", "1 BOOT"}, "", []string{"Boot!", "OnBoardRequest"}, "", "LocalFactoryReset", false},
	{CauseScheduleInform, "ScheduleInform", []string{"3 SCHEDULED", "M ScheduleInform"}, "", nil, "", "", false},
	{CauseScheduleTimer, "Device.ScheduleTimer()", nil, "", []string{"OperationComplete"}, "", "", false},
	{CausePeriodic, "Periodic time of either side", []string{"2 PERIODIC"}, "", []string{"Periodic!"}, "", "", false},
	{CauseDownloadRPC, "Download RPC", []string{"7 TRANSFER COMPLETE", "M Download"}, "", []string{"TransferComplete!"}, "with empty references", "", false},
	{CauseUploadRPC, "Upload RPC", []string{"7 TRANSFER COMPLETE", "M Upload"}, "", []string{"TransferComplete!"}, "with empty references", "", false},
	{CauseTransfer, "Download(), Upload(), Backup(), Restore()", []string{"10 AUTONOMOUS TRANSFER COMPLETE"}, "by its policy", []string{"OperationComplete", "TransferComplete!"}, "", "", false},
	{CauseChangeDUState, "ChangeDUState", []string{"11 DU STATE CHANGE COMPLETE", "M ChangeDUState"}, "", []string{"DUStateChange!"}, "", "", false},
	{CauseModule, "InstallDU(), Update(), Uninstall()", []string{"12 AUTONOMOUS DU STATE CHANGE COMPLETE"}, "by its policy", []string{"DUStateChange!", "OperationComplete"}, "", "", false},
	{CauseDiagnosticsState, "DiagnosticsState = Requested", []string{"8 DIAGNOSTICS COMPLETE"}, "", nil, "", "", false},
	{CauseDiagnostics, "IPPing() and other diagnostics", nil, "", []string{"OperationComplete"}, "", "", false},
	{CausePhase, "Move of the phase", []string{"4 VALUE CHANGE"}, "of Phase, active by default", []string{"PhaseChanged!", "ConfirmRequired!", "RolledBack!", "GateFailed!", "RescueEntered!"}, "", "", false},
}

// Told is the row of a cause.
func Told(c Cause) *Causality { return &Causalities[c] }

// CauseOf a commit is told by its writer: the ACS hears of everybody's writes but its own.
func CauseOf(writer string) Cause {
	if writer == "cwmp" {
		return CauseACSWrite
	}
	return CauseWrite
}

// ACSText and USPText are the two columns of the table.
func (c *Causality) ACSText() string { return told(c.Inform, c.ACS) }

// USPText see ACSText.
func (c *Causality) USPText() string {
	text := c.USP
	switch {
	case c.Key:
		text = "Cause " + c.Boot + " and the CommandKey"
	case c.Boot != "":
		text = "Cause " + c.Boot + " and no CommandKey"
	}
	return told(c.Notify, text)
}

func told(list []string, text string) string {
	s := strings.Join(list, ", ")
	switch {
	case s == "" && text == "":
		return "nothing"
	case s == "":
		return "nothing: " + text
	case text == "":
		return s
	}
	return s + ": " + text
}
