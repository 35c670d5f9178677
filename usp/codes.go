package usp

// Error codes of USP 1.4. 7000-7099 belong to Messages, 7100-7199 to Records and Disconnect, 7200-7299 to data-model
// definitions, 7800-7999 to vendors.
const (
	CodeMessageFailed         uint32 = 7000
	CodeMessageNotSupported   uint32 = 7001
	CodeRequestDenied         uint32 = 7002
	CodeInternal              uint32 = 7003
	CodeInvalidArguments      uint32 = 7004
	CodeResourcesExceeded     uint32 = 7005
	CodePermissionDenied      uint32 = 7006
	CodeInvalidConfiguration  uint32 = 7007
	CodeInvalidPathSyntax     uint32 = 7008
	CodeParameterFailed       uint32 = 7009
	CodeUnsupportedParameter  uint32 = 7010
	CodeInvalidType           uint32 = 7011
	CodeInvalidValue          uint32 = 7012
	CodeNotWritable           uint32 = 7013
	CodeValueConflict         uint32 = 7014
	CodeOperationError        uint32 = 7015
	CodeObjectDoesNotExist    uint32 = 7016
	CodeObjectNotCreated      uint32 = 7017
	CodeNotATable             uint32 = 7018
	CodeNotCreatable          uint32 = 7019
	CodeObjectNotUpdated      uint32 = 7020
	CodeRequiredFailed        uint32 = 7021
	CodeCommandFailure        uint32 = 7022
	CodeCommandCanceled       uint32 = 7023
	CodeDeleteFailure         uint32 = 7024
	CodeDuplicateKey          uint32 = 7025
	CodeInvalidPath           uint32 = 7026
	CodeInvalidCommandArgs    uint32 = 7027
	CodeRegisterFailure       uint32 = 7028
	CodeAlreadyInUse          uint32 = 7029
	CodeDeregisterFailure     uint32 = 7030
	CodePathAlreadyRegistered uint32 = 7031

	CodeRecordUnparsable        uint32 = 7100
	CodeSecureSessionRequired   uint32 = 7101
	CodeSecureSessionUnsupp     uint32 = 7102
	CodeSARUnsupported          uint32 = 7103
	CodeInvalidRecordValue      uint32 = 7104
	CodeSessionTerminated       uint32 = 7105
	CodeSessionContextForbidden uint32 = 7106
)

// Vendor codes of the arbitration between protocols: the request is legal, but somebody else has the say just now.
const (
	// CodeOwnedByOther: another manager owns what was to be changed; the text names it.
	CodeOwnedByOther uint32 = 7810
	// CodeLeased: a lease or an open session of another manager holds it.
	CodeLeased uint32 = 7811
	// CodeGuardFailed: an If-Revision precondition did not hold.
	CodeGuardFailed uint32 = 7812
	// CodeConfirming: a change that waits for its confirmation covers it.
	CodeConfirming uint32 = 7813
	// CodeDamped: two managers fought over it; it is frozen for a while.
	CodeDamped uint32 = 7814
	// CodeShadowed: in the shadow phase writes are compared only, and this one differs.
	CodeShadowed uint32 = 7815
)
