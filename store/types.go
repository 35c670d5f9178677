package store

import (
	"errors"
	"time"
)

// Errors that callers test with errors.Is.
var (
	ErrClosed  = errors.New("store: closed")
	ErrCorrupt = errors.New("store: database is corrupt") // the file was kept aside; the text says where
	ErrLocked  = errors.New("store: database is in use by another process")
	ErrFull    = errors.New("store: size limit reached")
	ErrExists  = errors.New("store: exists")
	ErrMissing = errors.New("store: does not exist")
	// ErrCursorGone: the journal no longer reaches back to the cursor; the consumer must compare with Head instead.
	ErrCursorGone = errors.New("store: journal was trimmed past the cursor")
	// ErrPath: a path that is not a canonical instance path of the kind that was asked for.
	ErrPath = errors.New("store: malformed path")
	// ErrFormat: a healthy database of a newer program. It is left where it is.
	ErrFormat = errors.New("store: database format is newer than this program")
)

// Limits. What is over a limit is refused with an error that wraps ErrFull (ErrPath for paths).
const (
	MaxPath        = 1024      // bytes of a path
	MaxDepth       = 32        // elements of a path
	MaxValue       = 1 << 20   // bytes of a value
	MaxName        = 512       // bytes of a writer, a reference, a kind, a consumer, a bucket or a record key
	MaxTxLines     = 1 << 17   // changes staged by one transaction
	MaxRecord      = 256 << 10 // bytes of a head's record
	MaxRecordBytes = 4 << 20   // bytes of all records together
	MaxWriters     = 1 << 16   // distinct writers of stored values
	MaxCursors     = 256       // consumers
	MaxBatch       = 256       // transactions that share an fsync
	MaxWaiting     = 256       // transactions that wait in the queue; more wait in Update
	MaxRefused     = 256       // refused transactions that wait for their lazy journal commit
)

// Flags of a leaf.
type Flags uint8

const (
	// Secret values are journaled as salted hashes only and never leave the store but through Leaf.Value.
	Secret Flags = 1 << iota
	// Factory marks a value that came from the profile, not from a manager.
	Factory
	// Written marks a writeOnceReadOnly parameter that has had its one write.
	Written
)

// Leaf is a stored value. Rev is the revision of the commit that wrote it.
type Leaf struct {
	Value  string
	Rev    uint64
	Writer string
	Flags  Flags
}

// Row tells of a row of a table: the revision of the commit that created it, and whose commit that was.
type Row struct {
	Rev    uint64
	Writer string
}

// Attr are the CWMP attributes of a parameter or partial path (TR-069 A.3.2.4).
type Attr struct {
	Notification int8 // 0..6, -1 not set
	AccessList   []string
	HasAccess    bool
}

// unset reports whether a says nothing, which removes the attributes of a path.
func (a Attr) unset() bool { return a.Notification < 0 && !a.HasAccess && len(a.AccessList) == 0 }

// Meta says who wants a commit and why; it becomes the head of the journal entry.
type Meta struct {
	Writer   string // "cwmp", "usp:<endpoint>", "cli", "sys:<part>"
	Protocol string // "cwmp", "usp", ""
	Ref      string // session and cwmp:ID, or msg_id
	Kind     string // "set", "add", "delete", "attr", "factory", "sync", ...
	// Context is what all lines were judged under (the bridge: phase, class and epoch); Tx.SetContext may set it late.
	Context string
}

// DeltaOp is what happened to a path in a commit.
type DeltaOp uint8

const (
	DeltaSet DeltaOp = iota
	DeltaUnset
	DeltaAddRow
	DeltaDeleteRow
	DeltaAttr
	DeltaRefused
	DeltaNote // something to remember that changed no value: a lease, a released ownership
	deltaOps  // number of them
)

var deltaNames = [...]string{"set", "unset", "add", "delete", "attr", "refused", "note"}

func (o DeltaOp) String() string {
	if int(o) < len(deltaNames) {
		return deltaNames[o]
	}
	return "unknown"
}

// Delta is one line of a journal entry. Secret values are "sha256:<salted hash>" in Old and New.
//
// Several Sets of one path in one transaction are one line, with the Old of the first and the New of the last; Old
// equals New when only the flags or the writer changed. Deleting a row gives a line for it and for every row below it,
// none for their parameters. Attributes are in Old and New as "n=2 a=Subscriber,X".
type Delta struct {
	Op       DeltaOp
	Path     string
	Old, New string
	HadOld   bool
	Secret   bool
	Verdict  string
	Rule     string
	Facts    string // what else the verdict was made from
}

// Note is what a transaction says of a path for the journal. With DeltaSet it annotates the lines that the transaction
// has for the path; DeltaRefused and DeltaNote make lines of their own, with Old and New.
type Note struct {
	Op                   DeltaOp
	Path                 string
	Old, New             string
	Secret               bool // Old and New become salted hashes
	Verdict, Rule, Facts string
}

// Entry is the journal record of one commit. Revisions have no gaps: every revision has exactly one entry. Entries are
// shared: they must not be changed.
type Entry struct {
	Rev    uint64
	Time   time.Time
	Meta   Meta
	Deltas []Delta
}

// Commit is the result of Update. Changed is false when nothing was staged: then Rev is the revision read, Entry is nil
// and there was no fsync.
type Commit struct {
	Rev     uint64
	Changed bool
	Version *Version
	Entry   *Entry
}

// Options of Open. Zero values mean the defaults in parentheses.
type Options struct {
	MaxSize        int64         // bytes of the database file (256 MiB); at least 64 KiB
	JournalEntries int           // ring size (2000)
	JournalBytes   int64         // (4 MiB); the newest entry is always kept, however large
	LockTimeout    time.Duration // (2 s)
	NoSync         bool          // tests only
	Now            func() time.Time

	// fail is called at the named stages of a commit (see the failpoint constants); tests of this package set it.
	fail func(stage string) error
}

func (o Options) withDefaults() Options {
	if o.MaxSize <= 0 {
		o.MaxSize = 256 << 20
	}
	if o.MaxSize < 64<<10 {
		o.MaxSize = 64 << 10
	}
	if o.JournalEntries <= 0 {
		o.JournalEntries = 2000
	}
	if o.JournalBytes <= 0 {
		o.JournalBytes = 4 << 20
	}
	if o.LockTimeout <= 0 {
		o.LockTimeout = 2 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Stats are counters since Open.
type Stats struct {
	Commits        uint64 // revisions made
	Batches        uint64 // bbolt transactions committed
	Fsyncs         uint64 // batches made durable (bbolt syncs data, then the meta page, in each)
	NoOps          uint64 // Updates that staged nothing
	Refused        uint64 // Updates whose function returned an error
	RefusedDropped uint64 // refused transactions not journaled because too many waited
	BytesWritten   uint64 // to the file, whole pages
	FileSize       int64  // bytes
}
