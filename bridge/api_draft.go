package bridge

import (
	"context"
	"log/slog"
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
	Protocol datamodel.Protocol // whose spelling, access rules and visibility apply
	Class    string             // "acs", "main", "user", "apps", "sys": its rank comes from the phase
	Rights   Rights             // nil: everything
	// Unshielded writers (sys:) bypass access checks of the schema: they may set read-only parameters.
	System bool
}

// View is one consistent version seen through a writer. Cheap to make; safe for concurrent use; hold it as long as
// wanted (it pins memory only).
type View struct{ draft }
type draft struct{}

func (v *View) Revision() uint64          { panic("draft") }
func (v *View) Schema() *datamodel.Schema { panic("draft") }
func (v *View) Version() *store.Version   { panic("draft") }

// Resolve parses and resolves a path in the writer's spelling. Match.Path is in the writer's spelling too.
func (v *View) Resolve(path string, pol datamodel.ResolvePolicy) ([]datamodel.Match, error) {
	panic("draft")
}

// Value reads one parameter: live value, else stored, else default, else the type's zero. Secured and hidden values
// read as "". Denied parameters answer NotSupported (R-GET.1).
func (v *View) Value(ctx context.Context, m datamodel.Match) (string, error) { panic("draft") }

// Params yields the readable parameters of one object instance in name order with their values. Parameters without
// read right are left out (R-GET.4). One provider call serves the whole object.
func (v *View) Params(ctx context.Context, obj datamodel.Match, yield func(p *datamodel.Param, value string) bool) error {
	panic("draft")
}

// Objects yields obj itself and the object instances below it, depth first; tables are not yielded, their rows are.
// depth 0 is unlimited, 1 obj only (a table: its rows), as Get.max_depth counts (R-GET.*).
func (v *View) Objects(obj datamodel.Match, depth int, yield func(m datamodel.Match) bool) error {
	panic("draft")
}

// Keys returns the readable unique-key parameters of a row.
func (v *View) Keys(ctx context.Context, row datamodel.Match) map[string]string { panic("draft") }

// Attr returns the effective CWMP attributes of a parameter: set on itself, on the nearest partial path, or default.
func (v *View) Attr(m datamodel.Match) store.Attr { panic("draft") }

// Writable reports what GetParameterNames calls Writable: parameter settable, table addable, row deletable.
func (v *View) Writable(m datamodel.Match) bool { panic("draft") }

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

// Guard is an If-Revision precondition on a subtree ("" = whole tree): its newest revision must be Rev.
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

// Result of Apply. Revision is the commit's, or the one read when nothing changed.
type Result struct {
	Revision uint64
	Changed  bool
	Applied  bool // false: committed, but the device has not carried it out yet (CWMP Status=1)
	Outcomes []Outcome
}

// EventKind of Watch.
type EventKind uint8

const (
	EventCommit   EventKind = iota // Entry is set
	EventModel                     // a data-model event: Path "Device.", Name "Boot!"
	EventOperated                  // an asynchronous command ended
	EventLive                      // a live value changed that somebody asked to watch: Path, Value
)

// Event is something a head may have to tell its managers. Paths are canonical.
type Event struct {
	Kind  EventKind
	Entry *store.Entry
	Path  string
	Name  string
	Args  map[string]string
	// ArgsFor computes arguments that differ by recipient (Boot! ParameterMap); nil for most.
	ArgsFor func(recipient string) map[string]string
	Only    string // the one recipient Endpoint ID, "" = everybody subscribed
	Cause   string // writer that caused it, "" for the device itself
	Key     string // command key
	Err     error  // EventOperated: the command failed
	Time    time.Time
	Rev     uint64 // revision of the newest commit when it happened
}

// Watcher reads events in order. One goroutine uses it.
type Watcher struct{ draft }

// Next returns the next event after the durable position, waiting for it.
func (w *Watcher) Next(ctx context.Context) (Event, error) { panic("draft") }

// Ack makes everything up to ev delivered: it is not seen again after a restart.
func (w *Watcher) Ack(ev Event) { panic("draft") }
func (w *Watcher) Close()       { panic("draft") }

// Operation is a validated, authorised command whose resource is granted; call Run exactly once.
type Operation struct {
	Path    string // instance path of the command, writer's spelling
	Command *datamodel.Command
	draft
}

// Run carries the command out, blocks until it ended or ctx was cancelled, and frees the resource.
func (o *Operation) Run(ctx context.Context) (map[string]string, error) { panic("draft") }

// Shield is the isolated view of one CWMP session (DESIGN invariant 5): the version at the InformResponse plus the
// session's own writes. Others write on meanwhile.
type Shield struct{ draft }

func (s *Shield) View() *View                                         { panic("draft") }
func (s *Shield) Apply(ctx context.Context, c Change) (Result, error) { panic("draft") }
func (s *Shield) Close()                                              { panic("draft") }

// Options of New.
type Options struct {
	Schema    *datamodel.Schema
	Profile   *datamodel.Profile
	Store     *store.Store
	Providers []datamodel.Provider
	Arbiter   Arbiter // nil: NewClassOrder(PhaseDualCWMP, ...)
	Log       *slog.Logger
}

// Proposal is one leaf that somebody wants to change, with all an Arbiter may look at.
type Proposal struct {
	Writer   Writer
	Path     string // canonical
	New, Old string
	Owner    string // writer name that last asserted the leaf, "" = factory or default
	OwnerRev uint64
	Create   bool // part of a new row
	Delete   bool
}

// VerdictKind of an Arbiter.
type VerdictKind uint8

const (
	Allow VerdictKind = iota
	NoOp              // same value: the writer becomes co-owner
	Take              // allowed, ownership moves
	Yield             // refused
)

// Verdict with the rule that gave it. Text tells a refused writer who owns the path and what to do.
type Verdict struct {
	Kind VerdictKind
	Rule string
	Text string
}

// Arbiter is a pure function of its arguments, so that verdicts can be replayed from the journal. It runs on the
// store's writer goroutine and must not block.
type Arbiter interface {
	Decide(p Proposal) Verdict
}

// Engine is the bridge. Safe for concurrent use.
type Engine struct{ draft }

// New builds the engine; Start initialises factory values and provider rows and begins to work.
func New(o Options) (*Engine, error)              { panic("draft") }
func (e *Engine) Start(ctx context.Context) error { panic("draft") }
func (e *Engine) Close() error                    { panic("draft") }

// AddProvider registers a head's own live values and commands; before Start.
func (e *Engine) AddProvider(p datamodel.Provider) error { panic("draft") }

func (e *Engine) View(w Writer) *View                                           { panic("draft") }
func (e *Engine) Shield(w Writer) *Shield                                       { panic("draft") }
func (e *Engine) Apply(ctx context.Context, w Writer, c Change) (Result, error) { panic("draft") }

// Command resolves nothing: path is an instance path from View.Resolve.
func (e *Engine) Command(w Writer, path string, args map[string]string) (*Operation, error) {
	panic("draft")
}
func (e *Engine) Watch(consumer string) (*Watcher, error) { panic("draft") }
func (e *Engine) Emit(ev Event)                           { panic("draft") }
func (e *Engine) Schema() *datamodel.Schema               { panic("draft") }
func (e *Engine) Store() *store.Store                     { panic("draft") }

// FactoryReset puts the tree back to factory values in one commit; heads' records in keep survive.
func (e *Engine) FactoryReset(ctx context.Context, w Writer, keep ...string) error { panic("draft") }
