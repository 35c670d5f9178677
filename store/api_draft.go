package store

import (
	"context"
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

// Attr are the CWMP attributes of a parameter or partial path (TR-069 A.3.2.4).
type Attr struct {
	Notification int8 // 0..6, -1 not set
	AccessList   []string
	HasAccess    bool
}

// Version is one immutable state of the tree. Safe for concurrent use, costs nothing to hold but memory.
type Version struct{ draft }

type draft struct{}

func (v *Version) Rev() uint64 { panic("draft") }

// Leaf looks up a stored value by canonical instance path.
func (v *Version) Leaf(path string) (Leaf, bool) { panic("draft") }

// Instances returns the rows of a table ("Device.IP.Interface.") ascending; the slice must not be changed.
func (v *Version) Instances(table string) []uint32         { panic("draft") }
func (v *Version) HasInstance(table string, n uint32) bool { panic("draft") }

// SubtreeRev is the newest revision at or below path (object path with dot, or parameter); 0 if nothing is stored.
func (v *Version) SubtreeRev(path string) uint64 { panic("draft") }

// Walk visits every leaf at or below an object path in depth-first order (names sorted, instances ascending).
func (v *Version) Walk(prefix string, fn func(path string, l Leaf) bool) { panic("draft") }

// Attr returns the attributes set exactly at path (parameter, or partial path with final dot).
func (v *Version) Attr(path string) (Attr, bool)           { panic("draft") }
func (v *Version) Attrs(fn func(path string, a Attr) bool) { panic("draft") }

// Len is the number of stored leaves and of rows.
func (v *Version) Len() (leaves, rows int) { panic("draft") }

// Meta says who wants a commit and why; it becomes the head of the journal entry.
type Meta struct {
	Writer   string // "cwmp", "usp:<endpoint>", "cli", "sys:<part>"
	Protocol string // "cwmp", "usp", ""
	Ref      string // session and cwmp:ID, or msg_id
	Kind     string // "set", "add", "delete", "attr", "factory", "sync", ...
}

// Tx stages one transaction on top of the newest version. Only valid inside the function given to Update.
type Tx struct{ draft }

// View is the state as staged so far (own writes included); Base is what the transaction started from.
func (tx *Tx) View() *Version { panic("draft") }
func (tx *Tx) Base() *Version { panic("draft") }

// Set stages a leaf. The rows on its path must exist (ErrMissing). Setting the identical value and flags is a no-op
// that leaves revision and writer alone.
func (tx *Tx) Set(path, value string, flags Flags) error { panic("draft") }

// Unset removes a stored leaf, so that the default shows again.
func (tx *Tx) Unset(path string) error { panic("draft") }

// AddRow creates a row with the next free instance number; AddRowAt with a given one (factory, import; ErrExists).
func (tx *Tx) AddRow(table string) (uint32, error)   { panic("draft") }
func (tx *Tx) AddRowAt(table string, n uint32) error { panic("draft") }

// DeleteRow removes a row ("Device.IP.Interface.1.") with everything below it.
func (tx *Tx) DeleteRow(path string) error { panic("draft") }

// SetAttr stages attributes; a zero Attr with Notification -1 and no access list removes them.
func (tx *Tx) SetAttr(path string, a Attr) error { panic("draft") }

// PutRecord and DeleteRecord keep a head's own records ("cwmp/events", "0007") in the same commit. nil data deletes.
func (tx *Tx) PutRecord(bucket, key string, data []byte) error { panic("draft") }

// Record reads a record as staged so far.
func (tx *Tx) Record(bucket, key string) ([]byte, bool) { panic("draft") }

// Annotate adds a verdict and rule to the journal lines of path, or (with refused=true) a line for a change that did
// not happen.
func (tx *Tx) Annotate(path, verdict, rule string, refused bool) { panic("draft") }

// Savepoint and RollbackTo nest; rolling back to s discards everything staged since.
func (tx *Tx) Savepoint() Savepoint   { panic("draft") }
func (tx *Tx) RollbackTo(s Savepoint) { panic("draft") }

// Savepoint is a state of a Tx.
type Savepoint struct{ draft }

// DeltaOp is what happened to a path in a commit.
type DeltaOp uint8

const (
	DeltaSet DeltaOp = iota
	DeltaUnset
	DeltaAddRow
	DeltaDeleteRow
	DeltaAttr
	DeltaRefused
)

// Delta is one line of a journal entry. Secret values are "sha256:<salted hash>" in Old and New.
type Delta struct {
	Op       DeltaOp
	Path     string
	Old, New string
	HadOld   bool
	Secret   bool
	Verdict  string
	Rule     string
}

// Entry is the journal record of one commit.
type Entry struct {
	Rev    uint64
	Time   time.Time
	Meta   Meta
	Deltas []Delta
}

// Commit is the result of Update. Changed is false when nothing was staged: then Rev is the revision read and there
// was no fsync.
type Commit struct {
	Rev     uint64
	Changed bool
	Version *Version
	Entry   *Entry
}

// Options of Open. Zero values mean the defaults in parentheses.
type Options struct {
	MaxSize        int64         // bytes of the database file (256 MiB)
	JournalEntries int           // ring size (2000)
	JournalBytes   int64         // (4 MiB)
	LockTimeout    time.Duration // (2 s)
	NoSync         bool          // tests only
	// OpenFile lets tests inject a faulty file layer.
	Now func() time.Time
}

// Store is an open database. Safe for concurrent use.
type Store struct{ draft }

// Open opens or creates the database file (mode 0600). First creation is by temporary file, fsync, rename and
// directory fsync. A file that cannot be opened or does not verify is renamed to <path>.corrupt-<time> and reported
// by an error that wraps ErrCorrupt; Open never replaces it silently.
func Open(path string, o Options) (*Store, error) { panic("draft") }

// OpenMemory is the same store without a file: the in-memory twin for tests and tools.
func OpenMemory(o Options) *Store { panic("draft") }

// Head is the newest committed version. It never blocks.
func (s *Store) Head() *Version { panic("draft") }

// Update runs fn on the writer goroutine and commits what it staged. If fn returns an error nothing is committed and
// that error is returned. A panic in fn is returned as an error. Returns after fsync.
func (s *Store) Update(ctx context.Context, m Meta, fn func(tx *Tx) error) (Commit, error) {
	panic("draft")
}

// Record and Records read a head's own records from the newest commit.
func (s *Store) Record(bucket, key string) ([]byte, bool, error)                    { panic("draft") }
func (s *Store) Records(bucket string, fn func(key string, data []byte) bool) error { panic("draft") }

// Journal calls fn for the entries after revision `after`, oldest first. ErrCursorGone if they were trimmed.
func (s *Store) Journal(after uint64, fn func(e *Entry) bool) error { panic("draft") }

// Cursor and SetCursor keep a consumer's durable position. SetCursor is lazy: it is made durable with the next commit
// or within a second, so that acknowledging costs no fsync of its own.
func (s *Store) Cursor(consumer string) (uint64, bool)       { panic("draft") }
func (s *Store) SetCursor(consumer string, rev uint64) error { panic("draft") }

// Changed returns a channel that is closed at the next commit.
func (s *Store) Changed() <-chan struct{} { panic("draft") }

// Stats are counters since Open.
type Stats struct {
	Commits, Batches, Fsyncs, NoOps, Refused uint64
	BytesWritten                             uint64
	FileSize                                 int64
}

func (s *Store) Stats() Stats { panic("draft") }

// Close waits for running Updates, makes cursors durable and closes the file. Idempotent.
func (s *Store) Close() error { panic("draft") }

// Problem is one finding of Check.
type Problem struct{ What, Path string }

// Check verifies a database file that no process has open: bbolt structure, journal against values, leaf revisions,
// instance counters, cursors within the ring. It changes nothing.
func Check(path string) ([]Problem, error) { panic("draft") }
