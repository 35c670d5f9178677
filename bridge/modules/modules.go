package modules

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"twinspan/bridge"
	"twinspan/store"
)

// Paths of the model.
const (
	object = "Device.SoftwareModules."
	envs   = object + "ExecEnv."
	units  = object + "DeploymentUnit."
	execs  = object + "ExecutionUnit."
)

const (
	bucket  = "modules/op" // one record for each operation that began and whose result nobody has taken
	maxKept = 64           // of them; the oldest results go
	// writer of what operations do; not the provider's own name, so that a factory reset takes what was installed, and leaves the environments.
	writer    = "sys:software"
	stampForm = time.RFC3339
)

// Kind of an operation.
type Kind string

// The kinds, in the spelling of OperationPerformed.
const (
	Install   Kind = "Install"
	Update    Kind = "Update"
	Uninstall Kind = "Uninstall"
)

// Environment is an execution environment of the device.
type Environment struct {
	Name, Type, Vendor, Version string
	Disk, Memory                int // KiB for all units together; 0: no limit
}

// Options of New.
type Options struct {
	Engine       *bridge.Engine
	Environments []Environment // 1 to 8, names unique
	// Fetch gets a package; its errors are *Fault. It must honour ctx and write at most max bytes.
	Fetch    func(ctx context.Context, url, user, password string, max int64, to *os.File) error
	Dir      string // for packages on their way; must exist
	MaxSize  int64  // of a package, bytes (16 MiB)
	MaxUnits int    // deployment units (64)
	Log      *slog.Logger
}

// Modules is the software management of one device. Its methods are safe for concurrent use.
type Modules struct {
	o       Options
	turn    chan struct{} // one operation at a time
	changed chan struct{}

	mu      sync.Mutex
	running map[string]string // execution unit -> Active or Idle, where it is not as at a start
	started time.Time
}

// New checks the options; nothing is read or written before the engine starts.
func New(o Options) (*Modules, error) {
	if o.Engine == nil || o.Fetch == nil || o.Dir == "" {
		return nil, errors.New("modules: Engine, Fetch and Dir are needed")
	}
	if len(o.Environments) == 0 || len(o.Environments) > 8 {
		return nil, errors.New("modules: Environments: 1 to 8 are possible")
	}
	for i, e := range o.Environments {
		if e.Name == "" || len(e.Name) > 64 || e.Disk < 0 || e.Memory < 0 ||
			slices.ContainsFunc(o.Environments[:i], func(other Environment) bool { return other.Name == e.Name }) {
			return nil, errors.New("modules: Environments: names must be unique and have 1 to 64 characters, limits cannot be negative")
		}
	}
	if o.MaxSize <= 0 {
		o.MaxSize = 16 << 20
	}
	if o.MaxUnits <= 0 {
		o.MaxUnits = 64
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Modules{o: o, turn: make(chan struct{}, 1), changed: make(chan struct{}, 1), running: map[string]string{}, started: time.Now()}, nil
}

// Request is one operation. Empty fields are not given.
type Request struct {
	ID             string // by which Outcome finds the result after a restart; unique, "": nobody will ask
	By             string // the writer that wants it
	Kind           Kind
	UUID, Version  string
	URL            string
	User, Password string
	Env            string // path of an ExecEnv row, canonical
	Row            string // path of the deployment unit, if it is known by that
	settings       []bridge.Setting
}

// Result of an operation; Fault is nil when it was carried out.
type Result struct {
	UUID, Version string
	Row           string   // of the deployment unit, also of one that is gone
	Execs         []string // its execution units
	Env           string
	State         string // Installed, Uninstalled or Failed
	Began, Ended  time.Time
	Fault         *Fault
}

// References gives the deployment unit and its execution units as the model spells references.
func (r Result) References() (unit, execs string) { return reference(r.Row), references(r.Execs) }

// operation is the record of one that began.
type operation struct {
	By    string    `json:"by"`
	Kind  Kind      `json:"kind"`
	UUID  string    `json:"uuid,omitempty"`
	Began time.Time `json:"began"`
	Done  bool      `json:"done,omitempty"`
	// Of one that is done.
	Version string    `json:"version,omitempty"`
	Row     string    `json:"row,omitempty"`
	Execs   []string  `json:"execs,omitempty"`
	Env     string    `json:"env,omitempty"`
	State   string    `json:"state,omitempty"`
	Ended   time.Time `json:"ended"`
	Reason  Reason    `json:"reason,omitempty"`
	Text    string    `json:"text,omitempty"`
}

func (o *operation) result() Result {
	r := Result{UUID: o.UUID, Version: o.Version, Row: o.Row, Execs: o.Execs, Env: o.Env, State: o.State, Began: o.Began, Ended: o.Ended}
	if o.Reason != 0 {
		r.Fault = &Fault{Reason: o.Reason, Text: o.Text}
	}
	return r
}

// Do carries an operation out and returns when it ended, or ctx did. The result of one with an ID is kept until Forget.
func (m *Modules) Do(ctx context.Context, r Request) Result {
	j := &job{m: m, r: r, op: operation{By: r.By, Kind: r.Kind, UUID: strings.ToLower(r.UUID), Began: time.Now().UTC().Round(0)}}
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		j.fail(fail(Denied, "not done in time"))
		return j.op.result()
	}
	if f := j.run(ctx); f != nil {
		j.undo(f)
	}
	if j.op.Reason == 0 {
		m.o.Log.Info("software module changed", "operation", string(r.Kind), "unit", j.op.UUID, "version", j.op.Version, "by", r.By)
	} else {
		m.o.Log.Warn("software module operation failed", "operation", string(r.Kind), "unit", j.op.UUID, "reason", (&Fault{Reason: j.op.Reason, Text: j.op.Text}).Error(), "by", r.By)
	}
	return j.op.result()
}

// Outcome finds the result of an operation that ended; after a restart also one that the restart interrupted.
func (m *Modules) Outcome(id string) (Result, bool) {
	data, ok := m.head().Record(bucket, id)
	if !ok {
		return Result{}, false
	}
	var o operation
	if json.Unmarshal(data, &o) != nil || !o.Done {
		return Result{}, false
	}
	return o.result(), true
}

// Forget drops the result of an operation that its asker has safely taken.
func (m *Modules) Forget(ctx context.Context, id string) {
	if _, ok := m.head().Record(bucket, id); !ok {
		return
	}
	if err := m.commit(ctx, bridge.Change{Records: []bridge.Record{{Bucket: bucket, Key: id}}}); err != nil {
		m.o.Log.Error("the result of a software module operation is kept longer", "error", err)
	}
}

// Restore puts right what a power cut left half done; after engine.Start, before any manager can connect. An operation in progress has failed:
// an Install leaves nothing behind, all others leave the unit as it was.
func (m *Modules) Restore(ctx context.Context) error {
	c := bridge.Change{Ref: "modules", Atomic: true}
	v := m.head()
	for _, row := range rows(v, units) {
		switch text(v, row+"Status") {
		case "Installing":
			c.Ops = append(c.Ops, bridge.Op{Kind: bridge.OpDelete, Path: row})
		case "Updating", "Uninstalling":
			c.Ops = append(c.Ops, set(row, "Status", "Installed"))
		}
	}
	var done []string // results of operations that nobody takes any more are bounded
	var bad error
	v.Records(bucket, func(id string, data []byte) bool {
		var o operation
		if json.Unmarshal(data, &o) != nil {
			c.Records = append(c.Records, bridge.Record{Bucket: bucket, Key: id}) // of another version
			return true
		}
		if o.Done {
			done = append(done, id)
			return true
		}
		o.Done, o.State, o.Ended, o.Reason, o.Text = true, "Failed", time.Now().UTC().Round(0), Denied, "interrupted by a restart"
		if data, bad = json.Marshal(&o); bad != nil {
			return false
		}
		c.Records = append(c.Records, bridge.Record{Bucket: bucket, Key: id, Data: data})
		return true
	})
	for len(done) > maxKept {
		c.Records, done = append(c.Records, bridge.Record{Bucket: bucket, Key: done[0]}), done[1:]
	}
	if bad != nil || len(c.Ops)+len(c.Records) == 0 {
		return bad
	}
	return m.commit(ctx, c)
}

// Tell emits DUStateChange! for the operations of commands whose end was not told before a power cut; once both heads listen.
func (m *Modules) Tell(ctx context.Context) {
	var ids []string
	m.head().Records(bucket, func(id string, _ []byte) bool {
		if strings.HasPrefix(id, commandPrefix) {
			ids = append(ids, id)
		}
		return true
	})
	for _, id := range ids {
		data, ok := m.head().Record(bucket, id)
		var o operation
		if !ok || json.Unmarshal(data, &o) != nil || !o.Done {
			continue
		}
		m.emit(o)
		m.Forget(ctx, id)
	}
}

func (m *Modules) head() *store.Version { return m.o.Engine.Store().Head() }

func (m *Modules) commit(ctx context.Context, c bridge.Change) error {
	c.Ref, c.Atomic = "modules", true
	res, err := m.o.Engine.Apply(ctx, bridge.Writer{Name: writer, Class: bridge.ClassSys, System: true}, c)
	if err != nil {
		return err
	}
	for _, out := range res.Outcomes {
		for _, o := range out.Objects {
			for _, p := range o.Params {
				if p.Err != nil {
					return p.Err
				}
			}
		}
	}
	return nil
}

// Rows and values of the store.

func text(v *store.Version, path string) string { l, _ := v.Leaf(path); return l.Value }

func rows(v *store.Version, table string) []string {
	var out []string
	for _, n := range v.Instances(table) {
		out = append(out, table+strconv.FormatUint(uint64(n), 10)+".")
	}
	return out
}

func set(row string, pairs ...string) bridge.Op {
	op := bridge.Op{Kind: bridge.OpSet, Path: row}
	for i := 0; i+1 < len(pairs); i += 2 {
		op.Settings = append(op.Settings, bridge.Setting{Name: pairs[i], Value: pairs[i+1], Required: true})
	}
	return op
}

// reference is how the model spells a reference to a row.
func reference(row string) string { return strings.TrimSuffix(row, ".") }

func references(rows []string) string {
	out := make([]string, len(rows))
	for i, r := range rows {
		out[i] = reference(r)
	}
	return strings.Join(out, ",")
}

func rowOf(ref string) string {
	if ref == "" || strings.HasSuffix(ref, ".") {
		return ref
	}
	return ref + "."
}
