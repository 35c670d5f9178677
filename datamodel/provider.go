package datamodel

import (
	"context"
	"time"
)

// Provider makes a part of the real device appear in the data model. Values it serves are read live and are never
// written to flash. Optional abilities are the one-method interfaces below; the bridge finds them by type assertion.
//
// The bridge calls Read, Instances and Run from many goroutines at once; Apply from one goroutine at a time. A method
// must return within a second or honour ctx; a panic is turned into an error.
type Provider interface {
	// Name identifies the provider in logs, in the profile and as writer "sys:<name>".
	Name() string
	// Serves lists the canonical supported paths whose values it reads live: an object path stands for all
	// parameters of that object (not of its sub-objects), a parameter path for one. Called once.
	Serves() []string
	// Read calls yield with the canonical lexical value of each wanted parameter of obj that it knows. A parameter it
	// does not yield falls back to the stored value, then to the default.
	Read(ctx context.Context, obj ObjectRef, params []string, yield func(name, value string)) error
}

// ObjectRef names one object instance of the device to a Provider.
type ObjectRef struct {
	Path   string // instance path, "Device.Ethernet.Interface.2.Stats."
	Schema *Object
	// Stored returns a stored value by canonical parameter path relative to Path's nearest row; ParentRow walks up.
	// Providers use it to find their own key: Stored("Device.Ethernet.Interface.2.Name").
	Stored func(paramPath string) string
}

// Lister is a Provider with tables whose rows come and go without being stored (processes, ARP neighbours).
type Lister interface {
	// Lists names the canonical tables (TablePath form) whose rows it lists. Called once.
	Lists() []string
	// Instances returns the present instance numbers of a table in ascending order. A number must keep meaning the
	// same thing as long as that thing exists.
	Instances(ctx context.Context, table string) ([]uint32, error)
}

// Row is a row that a Syncer wants to exist.
type Row struct {
	Table  string            // "Device.Ethernet.Interface."
	Key    string            // name of the parameter that identifies the row: "Name"
	Values map[string]string // values to store when the row is created, Key included; relative paths allowed
	// Sub are rows of tables inside this row (addresses of an interface); Table is then relative: "IPv4Address.".
	Sub []Row
}

// Syncer is a Provider whose rows are stored, so that instance numbers survive restarts (Ethernet.Interface by Name).
// The bridge adds missing rows and deletes vanished ones as writer "sys:<name>".
type Syncer interface {
	// Rows returns the complete present set of rows of the tables named by Syncs.
	Rows(ctx context.Context) ([]Row, error)
	Syncs() []string
	// Changed delivers a hint that Rows would answer differently; may be nil. Closed never.
	Changed() <-chan struct{}
}

// Write is one committed value on its way to the device.
type Write struct {
	Path    string // canonical instance path of a parameter, or of a row (with final dot) that was added or deleted
	Value   string
	Deleted bool
	Added   bool
	By      Caller // of a command parameter, whose writing acts
}

// Caller is who wants something done.
type Caller struct {
	Name  string // "cwmp", "usp:<EndpointID>", "cli", "sys:<part>"
	Class string
	// ConnectedAt is when its connection was opened; zero if unknown.
	ConnectedAt time.Time
}

// Applier is a Provider that takes part in writes.
type Applier interface {
	// Applies lists canonical supported paths (objects with everything below them, or parameters) it wants to see.
	Applies() []string
	// Prepare vetoes a candidate without side effects; its error text reaches the manager. At most 2 s.
	Prepare(ctx context.Context, writes []Write) error
	// Apply carries out committed writes; idempotent, may be repeated after a restart.
	Apply(ctx context.Context, writes []Write) error
}

// Invocation is one run of a command.
type Invocation struct {
	Command string            // canonical instance path with "()": "Device.IP.Diagnostics.IPPing()"
	Args    map[string]string // input arguments, defaults filled in, validated
	Object  ObjectRef
	By      Caller
}

// Commander is a Provider that carries out commands.
type Commander interface {
	// Commands lists canonical supported paths with "()".
	Commands() []string
	// Run carries the command out and returns its output arguments. It ends early when ctx does.
	Run(ctx context.Context, inv Invocation) (map[string]string, error)
}
