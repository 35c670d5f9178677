package bridge

// Causality says who is told of what, whoever caused it: DESIGN invariant 7.
type Causality struct {
	Cause string
	ACS   string // what the ACS sees
	USP   string // what subscribed Controllers see
}

// Causalities is the table that the heads keep to; docs/causality.md is made from it.
var Causalities = []Causality{
	{"SetParameterValues, AddObject, DeleteObject", "nothing: its own change", "ValueChange, ObjectCreation, ObjectDeletion"},
	{"USP Set, Add, Delete; local user; rollback", "4 VALUE CHANGE by attribute (of rows: the number of entries)", "all subscribers, the originator included"},
	{"Reboot RPC", "1 BOOT and M Reboot", "Boot! with Cause RemoteReboot and no CommandKey"},
	{"Device.Reboot()", "1 BOOT", "Boot! with the CommandKey"},
	{"Factory reset by anybody", "0 BOOTSTRAP and 1 BOOT", "Boot! with Cause RemoteFactoryReset, OnBoardRequest"},
	{"ScheduleInform", "3 SCHEDULED and M ScheduleInform", "nothing"},
	{"Device.ScheduleTimer()", "nothing", "OperationComplete"},
	{"Periodic time", "2 PERIODIC", "Periodic!"},
	{"Download and Upload RPC", "7 TRANSFER COMPLETE and M Download or M Upload", "TransferComplete! with empty references"},
	{"Move of the phase", "4 VALUE CHANGE of Phase, active by default", "PhaseChanged!, ConfirmRequired!, RolledBack!, GateFailed!, RescueEntered!"},
}

// TellsACS reports whether the ACS may be told of a change by its writer: of everybody's but its own.
func TellsACS(writer string) bool { return writer != "cwmp" }
