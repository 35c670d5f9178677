package bridge

import (
	"time"

	"twinspan/datamodel"
	"twinspan/store"
)

// Right is one thing a writer may be allowed to do (TR-181 ControllerTrust.Role.Permission).
type Right uint8

const (
	ReadParam Right = iota
	WriteParam
	NotifyParam
	ReadObj
	AddRow // Obj w
	NotifyObj
	ReadInst
	DeleteRow // InstantiatedObj w
	NotifyInst
	ReadCommand // CommandEvent r
	Operate     // CommandEvent x
	NotifyCommand
)

// Rights decides live what a writer may do. Paths are canonical instance paths (tables by their table path). Called
// concurrently; must be fast, since every element read is asked for.
type Rights interface {
	Allow(v *store.Version, path string, r Right) bool
	// Secured reports whether secured values may be read (SecuredRoles).
	Secured(v *store.Version) bool
}

// Writer is who asks. Heads build one for the ACS session, for each Controller, for the command line.
type Writer struct {
	Name     string             // "cwmp", "usp:<EndpointID>", "cli", "sys:<part>"
	Protocol datamodel.Protocol // whose spelling, access rules and visibility apply; 0 (sys: only) speaks canonical
	Class    string             // "acs", "main", "user", "apps", "sys": its rank comes from the phase
	Rights   Rights             // nil: everything
	// System writers (sys:) bypass rights, arbitration and the schema's access: they may set read-only parameters.
	System bool
	// ConnectedAt is when the connection that the writer speaks over was opened. A confirmation counts only over a
	// connection that is younger than what it confirms; the zero time is younger than nothing.
	ConnectedAt time.Time
}

// OpKind is the kind of an operation of a Change.
type OpKind uint8

const (
	OpSet OpKind = iota
	OpAdd
	OpDelete
	OpAttr // CWMP SetParameterAttributes
)

// Setting is one parameter of an OpSet or OpAdd, relative to the object: "Enable", "Stats.Reset", with dots allowed.
type Setting struct {
	Name     string
	Value    string
	Required bool
}

// Op is one operation. Path is in the writer's spelling: an object, row or search path for OpSet; a table for OpAdd
// (searches in the parents allowed); rows for OpDelete; a parameter or partial path for OpAttr.
type Op struct {
	Kind     OpKind
	Path     string
	Settings []Setting
	Attr     *AttrChange
	// Alias, for CWMP AddObject on Table.[x].: create the row with this alias.
	Alias string
	// MissingOK, for OpDelete and OpSet: an instance that does not exist gives an empty outcome and no error.
	MissingOK bool
}

// AttrChange is one SetParameterAttributes entry; nil fields stay as they are.
type AttrChange struct {
	Notification *int8
	AccessList   *[]string
}

// Record is a head's own record that rides in the commit. nil Data deletes.
type Record struct {
	Bucket, Key string
	Data        []byte
}

// Guard is an If-Revision precondition on a subtree ("" = whole tree, else a path in the writer's spelling): nothing at
// or below Path was changed after revision Rev. A Rev that lies in the future does not hold. Any revision read from a
// View or a Result is a valid Rev.
type Guard struct {
	Path string
	Rev  uint64
}

// Change is one transaction.
type Change struct {
	Ref string // wire reference for the journal
	Ops []Op
	// Atomic: the first failing operation fails the change and nothing is committed (allow_partial=false, every CWMP
	// RPC). Otherwise every operation is a savepoint of its own, survivors commit together.
	Atomic bool
	// AllErrors: go on after a failure to collect every fault (SetParameterValues lists them all).
	AllErrors bool
	Guards    []Guard
	Records   []Record // only committed if the change succeeds
	DryRun    bool     // validate and arbitrate, commit nothing
	// Sets commits in this change of values that heads own: canonical parameter path -> value, written as "sys"
	// (ParameterKey). Applied only on success.
	System map[string]string
	// Confirm makes the change provisional; see Engine.Confirm.
	Confirm *Confirm
	// Seal is called at the end of staging, on the store's writer goroutine and perhaps several times; what it stages
	// commits with the change, its error fails the change. It must not block and have no effects outside tx.
	Seal func(tx *store.Tx) error
}

// ParamOutcome is what became of one setting.
type ParamOutcome struct {
	Name  string // as asked
	Value string // after the change, canonical, in the writer's spelling; "" if not readable
	Err   error  // nil: done
	Hide  bool   // not readable by the writer: leave it out of answers (R-SET.3)
}

// ObjectOutcome is one object that an operation touched.
type ObjectOutcome struct {
	Path   string // instance path, writer's spelling
	Params []ParamOutcome
	Keys   map[string]string // OpAdd: readable unique keys
	Err    error             // this object failed as a whole (not deletable, required parameter failed)
}

// Outcome of one operation, same index as Change.Ops.
type Outcome struct {
	Err     error // the operation failed as a whole
	Objects []ObjectOutcome
}

// Result of Apply. When Apply answers an error it is the first failed operation's; Outcomes is filled all the same,
// so that a head can list every fault, and nothing was committed.
//
// Revision is the commit's, or the one read when nothing changed.
type Result struct {
	Revision uint64
	Changed  bool
	Applied  bool // false: committed, but the device has not carried it out yet (CWMP Status=1)
	Outcomes []Outcome
}
