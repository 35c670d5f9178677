package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"twinspan/bridge"
	"twinspan/bridge/migration"
	"twinspan/bridge/vendor"
	"twinspan/datamodel"
	"twinspan/store"
)

// MigrationConfig is the pace of the migration. Everything left out has its cautious value.
type MigrationConfig struct {
	CheckInterval duration                   `toml:"check_interval"`
	FailedChecks  int                        `toml:"failed_checks"` // in a row, until the phase is rolled back
	HoldAfter     duration                   `toml:"hold_after"`    // without an answer of the gate
	ContactLife   duration                   `toml:"contact_life"`  // of a sign of a Controller
	Rescue        string                     `toml:"rescue"`        // off, probation, always
	RescueAfter   duration                   `toml:"rescue_after"`  // without a Controller
	RescueStable  duration                   `toml:"rescue_stable"` // with one, until the rescue ends
	Auto          string                     `toml:"auto"`          // last phase that is entered without being asked for
	WAN           string                     `toml:"wan"`           // IP interface whose Status tells of the uplink; empty: the default route; off: always up
	Confirm       map[string]duration        `toml:"confirm"`       // confirm windows by phase
	Gate          map[string][]GateCondition `toml:"gate"`          // by phase; replaces the usual conditions of that phase
}

// GateCondition is one line of a gate.
type GateCondition struct {
	KPI     string   `toml:"kpi"`
	Min     *float64 `toml:"min"`
	Max     *float64 `toml:"max"`
	Window  duration `toml:"window"`
	Samples uint64   `toml:"samples"`
}

// build lays the configuration over the defaults.
func (c *MigrationConfig) build() (migration.Config, error) {
	m := migration.Default()
	for _, v := range []struct {
		to   *time.Duration
		from duration
	}{{&m.CheckEvery, c.CheckInterval}, {&m.UnclearHold, c.HoldAfter}, {&m.ContactLife, c.ContactLife}, {&m.LostAfter, c.RescueAfter}, {&m.StableFor, c.RescueStable}} {
		if v.from != 0 {
			*v.to = time.Duration(v.from)
		}
	}
	if c.FailedChecks != 0 {
		m.FailedChecks = c.FailedChecks
	}
	if c.Rescue != "" {
		m.Rescue = c.Rescue
	}
	m.Auto = migration.Phase(c.Auto)
	for p, d := range c.Confirm {
		m.Windows[migration.Phase(p)] = time.Duration(d)
	}
	var gates []migration.Condition
	for _, p := range sortedKeys(c.Gate) {
		for _, g := range c.Gate[p] {
			gates = append(gates, migration.Condition{Phase: migration.Phase(p), KPI: migration.KPI(g.KPI), Min: g.Min, Max: g.Max, Window: time.Duration(g.Window), Samples: g.Samples})
		}
	}
	m.Replace(gates)
	return m, m.Validate()
}

func (b *BridgeConfig) validateMigration() error {
	var errs []error
	if _, err := b.Migration.build(); err != nil {
		errs = append(errs, fmt.Errorf("bridge.migration: %w", err))
	}
	if w := b.Migration.WAN; w != "" && w != "off" && !strings.HasPrefix(w, "Device.IP.Interface.") {
		errs = append(errs, fmt.Errorf("bridge.migration.wan = %q: must be off or a row of Device.IP.Interface.", w))
	}
	if b.MetricsListen != "" {
		host, _, err := net.SplitHostPort(b.MetricsListen)
		if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			errs = append(errs, fmt.Errorf("bridge.metrics_listen = %q: an address of this machine, such as 127.0.0.1:9190; there is no password on it", b.MetricsListen))
		}
	}
	return errors.Join(errs...)
}

// office is where the migration is run from: it fills the vendor's object and outlives none of its goroutines.
type office struct {
	log *slog.Logger
	m   *migration.Migrator // set by open, before any head runs

	mu     sync.Mutex
	wg     sync.WaitGroup
	closed bool
	engine *bridge.Engine
	object string // path of the vendor's object
	ready  bool   // the heads listen
	early  []bridge.Event
}

// emit hands an event to the heads, or keeps it until they listen: what a start puts back is told after it.
func (o *office) emit(ev bridge.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ready {
		o.engine.Emit(ev)
	} else if len(o.early) < 64 {
		o.early = append(o.early, ev)
	}
}

// listening lets events through.
func (o *office) listening() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ready = true
	for _, ev := range o.early {
		o.engine.Emit(ev)
	}
	o.early = nil
}

// event sends an event of the object; args are names and values in turn.
func (o *office) event(name, cause string, args ...string) {
	m := map[string]string{}
	for i := 0; i+1 < len(args); i += 2 {
		m[args[i]] = args[i+1]
	}
	o.emit(bridge.Event{Kind: bridge.EventModel, Path: o.object, Name: name, Cause: cause, Args: m})
}

// beside runs what a CWMP command parameter asked for.
func (o *office) beside(fn func(ctx context.Context) error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cliTimeout)
		defer cancel()
		if err := fn(ctx); err != nil {
			o.log.Error("a command parameter could not be carried out", "error", err)
		}
	})
}

// open starts the migration; close waits for it.
func (o *office) open(ctx context.Context, c *Config, inContact func() bool, slot migration.Slot) error {
	cfg, err := c.Bridge.Migration.build()
	if err != nil {
		return err
	}
	o.m, err = migration.Open(ctx, o.engine, migration.Options{Config: cfg, Initial: bridge.Phase(c.Bridge.Phase), Object: o.object, Log: o.log,
		Emit: o.emit, InContact: inContact, WANUp: o.uplink(c.Bridge.Migration.WAN), Slot: slot, Damped: func() int { return len(o.engine.Frozen()) }})
	if err != nil {
		return err
	}
	o.wg.Go(func() {
		if err := o.m.Run(ctx); err != nil {
			o.log.Error("the migration does not run", "error", err)
		}
	})
	return nil
}

func (o *office) close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.wg.Wait()
}

// conflict tells Controllers of a new conflict.
func (o *office) conflict(c bridge.ConflictRow) {
	o.event("Conflict!", c.Loser, "Path", c.Path, "Loser", c.Loser, "Winner", c.Winner, "Rule", c.Rule, "Count", strconv.FormatUint(c.Count, 10))
}

// content is what the vendor's object shows of the migration.
func (o *office) content() *vendor.Content {
	text := func(name string, read func(s migration.State) string) vendor.Value {
		return vendor.Value{Name: name, Read: func() string { return read(o.m.State()) }}
	}
	phase := text("Phase", func(s migration.State) string { return string(s.Phase) })
	phase.Active = true
	revision := vendor.Value{Name: "Revision", Number: true, Read: func() string { return strconv.FormatUint(o.engine.Store().Head().Rev(), 10) }}
	epoch := text("Epoch", func(s migration.State) string { return strconv.FormatUint(s.Epoch, 10) })
	epoch.Number = true
	acs := func(name string, read func(a migration.ACS) string) vendor.Value {
		return vendor.Value{Name: "CWMP." + name, Read: func() string { return read(o.m.ACS()) }}
	}
	imported, residue := o.imported()
	return &vendor.Content{
		Beside: o.beside,
		Values: append(imported, []vendor.Value{phase, revision, epoch,
			acs("Enabled", func(a migration.ACS) string { return strconv.FormatBool(a.Enabled) }),
			acs("ACSURLHash", func(a migration.ACS) string { return urlHash(a.URL) }),
			acs("RescueReady", func(a migration.ACS) string { return strconv.FormatBool(a.Ready) }),
			acs("LastSession", func(a migration.ACS) string {
				if a.Last.IsZero() {
					return ""
				}
				return a.Last.UTC().Format(time.RFC3339)
			}),
			acs("LastSessionOK", func(a migration.ACS) string { return strconv.FormatBool(a.OK) }),
			text("PrimaryClass", func(s migration.State) string {
				if s.Phase == bridge.PhaseDualUSP || s.Phase == bridge.PhaseUSPOnly {
					return bridge.ClassMain
				}
				return bridge.ClassACS
			}),
			text("PendingFrom", func(s migration.State) string { return string(s.Pending.From) }),
			text("PendingBy", func(s migration.State) string { return s.Pending.By }),
			text("PendingSeconds", func(s migration.State) string { return strconv.Itoa(int(s.Pending.Left.Seconds())) }),
			text("Held", func(s migration.State) string { return strconv.FormatBool(s.Held) }),
			text("HoldReason", func(s migration.State) string { return strings.TrimSpace(s.HoldBy + " " + s.HoldReason) })}...),
		Tables:   append(residue, o.kpiTable(), o.gateTable(), o.transitionTable(), o.driftTable(), o.journalTable(), o.confirmationTable(), o.writerTable(), o.ownerTable(), o.leaseTable(), o.conflictTable()),
		Commands: o.commands(),
	}
}

func (o *office) kpiTable() vendor.Table {
	return vendor.Table{Name: "Kpi", Key: "Name", Columns: []string{"Name", "Value", "Samples", "Window"}, Rows: func() (rows []vendor.Row) {
		for i, k := range o.m.KPIs() {
			rows = append(rows, vendor.Row{Number: uint32(i + 1), Values: []string{string(k.KPI), strconv.FormatFloat(k.Value, 'g', 6, 64), strconv.FormatUint(k.Samples, 10), k.Window.String()}})
		}
		return rows
	}}
}

func (o *office) gateTable() vendor.Table {
	return vendor.Table{Name: "Gate", Key: "Phase", Columns: []string{"Phase", "Status", "FailedChecks", "Failed", "Inconclusive"}, Rows: func() (rows []vendor.Row) {
		for i, g := range o.m.Gates() {
			rows = append(rows, vendor.Row{Number: uint32(i + 1), Values: []string{string(g.Phase), g.Status, strconv.Itoa(g.Checks), strings.Join(g.Failed, "; "), strings.Join(g.Unclear, "; ")}})
		}
		return rows
	}}
}

func (o *office) transitionTable() vendor.Table {
	return vendor.Table{Name: "Transition", Key: "Epoch", Columns: []string{"Epoch", "Time", "From", "To", "By", "Cause", "Result"}, Rows: func() (rows []vendor.Row) {
		for _, v := range o.m.Moves() {
			rows = append(rows, vendor.Row{Number: uint32(v.Epoch), Values: []string{strconv.FormatUint(v.Epoch, 10), v.Time.Format(time.RFC3339), string(v.From), string(v.To), v.By, v.Cause, v.Result}})
		}
		return rows
	}}
}

func (o *office) driftTable() vendor.Table {
	return vendor.Table{Name: "Drift", Key: "Path", Columns: []string{"Path", "Kind", "ACSValue", "USPValue", "Since"}, Rows: func() (rows []vendor.Row) {
		for i, d := range o.m.Drift() {
			rows = append(rows, vendor.Row{Number: uint32(i + 1), Values: []string{d.Path, d.Kind, d.ACS, d.USP, strconv.FormatUint(d.Since, 10)}})
		}
		return rows
	}}
}

// journalTable shows the newest commits; GetJournal() and the vendor log have the whole.
func (o *office) journalTable() vendor.Table {
	return vendor.Table{Name: "Journal", Key: "Revision", Columns: []string{"Revision", "Time", "Writer", "Protocol", "Reference", "Kind", "Changes"}, Rows: func() (rows []vendor.Row) {
		st := o.engine.Store()
		head := st.Head().Rev()
		_ = st.Journal(max(head, 64)-64, func(e *store.Entry) bool { // fewer than 64 may be left: then those
			rows = append(rows, vendor.Row{Number: uint32(e.Rev), Values: []string{strconv.FormatUint(e.Rev, 10), e.Time.UTC().Format(time.RFC3339), e.Meta.Writer,
				e.Meta.Protocol, e.Meta.Ref, e.Meta.Kind, strconv.Itoa(len(e.Deltas))}})
			return e.Rev < head
		})
		return rows
	}}
}

func (o *office) writerTable() vendor.Table {
	return vendor.Table{Name: "Writer", Key: "Name", Columns: []string{"Name", "Class", "Queued"}, Rows: func() (rows []vendor.Row) {
		for i, w := range o.engine.Writers() {
			rows = append(rows, vendor.Row{Number: uint32(i + 1), Values: []string{w.Writer, w.Class, strconv.Itoa(o.engine.Waiting(w.Writer))}})
		}
		return rows
	}}
}

// ownerTable shows the first owners by path; ListOwners() has them all.
func (o *office) ownerTable() vendor.Table {
	return vendor.Table{Name: "Owner", Key: "Path", Columns: []string{"Path", "Writer", "Class", "Since", "CoWriters", "Rule"}, Rows: func() (rows []vendor.Row) {
		list, _ := o.engine.Owners("", 0, 64)
		for i, w := range list {
			var co []string
			for _, c := range w.CoOwners {
				co = append(co, c.Writer)
			}
			rows = append(rows, vendor.Row{Number: uint32(i + 1), Values: []string{w.Path, w.Writer, w.Class, strconv.FormatUint(w.Rev, 10), strings.Join(co, ","), w.Rule}})
		}
		return rows
	}}
}

func (o *office) leaseTable() vendor.Table {
	return vendor.Table{Name: "Lease", Key: "ID", Columns: []string{"ID", "Writer", "Paths", "Expires"}, Rows: func() (rows []vendor.Row) {
		for _, l := range o.engine.Leases() {
			rows = append(rows, vendor.Row{Number: uint32(l.ID), Values: []string{strconv.FormatUint(l.ID, 10), l.Writer, strings.Join(l.Paths, ","), l.Expires.UTC().Format(time.RFC3339)}})
		}
		return rows
	}}
}

func (o *office) conflictTable() vendor.Table {
	return vendor.Table{Name: "Conflict", Key: "ID", Columns: []string{"ID", "Time", "Path", "Loser", "Winner", "Verdict", "Rule", "Count", "Acknowledged"}, Rows: func() (rows []vendor.Row) {
		for _, c := range o.engine.Conflicts() {
			rows = append(rows, vendor.Row{Number: uint32(c.ID), Values: []string{strconv.FormatUint(c.ID, 10), c.Last.UTC().Format(time.RFC3339), c.Path, c.Loser, c.Winner,
				c.Verdict, c.Rule, strconv.FormatUint(c.Count, 10), strconv.FormatBool(c.Acknowledged)}})
		}
		return rows
	}}
}

func (o *office) commands() []vendor.Command {
	none := func(err error) (map[string]string, error) { return map[string]string{}, err }
	return []vendor.Command{
		{Name: "RequestPhase", Inputs: []string{"Phase", "ConfirmTimeout", "SurviveReboot", "Reason"}, Outputs: []string{"Token"}, CWMP: "RequestedPhase",
			Check: func(by datamodel.Caller, to string) error { return o.m.Check(by, migration.Phase(to)) },
			Run: func(ctx context.Context, by datamodel.Caller, args map[string]string) (map[string]string, error) {
				ask := migration.Ask{Reason: args["Reason"], Survive: args["SurviveReboot"] == "true" || args["SurviveReboot"] == "1"}
				if t := args["ConfirmTimeout"]; t != "" {
					n, err := strconv.ParseUint(t, 10, 22)
					if err != nil {
						return nil, datamodel.Fail(datamodel.InvalidArgs, "", "ConfirmTimeout is a number of seconds")
					}
					ask.Within = time.Duration(n) * time.Second
				}
				token, err := o.m.Request(ctx, by, migration.Phase(args["Phase"]), ask)
				if err != nil {
					return nil, err
				}
				return map[string]string{"Token": token}, nil
			}},
		{Name: "Confirm", Inputs: []string{"Token"}, CWMP: "Confirm",
			Run: func(ctx context.Context, by datamodel.Caller, args map[string]string) (map[string]string, error) {
				token := args["Token"]
				if token == "1" || token == "true" { // an ACS that asked for the move needs no token
					token = ""
				}
				return none(o.m.Confirm(ctx, by, token))
			}},
		{Name: "Rollback", Inputs: []string{"Reason"}, CWMP: "Rollback",
			Run: func(ctx context.Context, by datamodel.Caller, _ map[string]string) (map[string]string, error) {
				return none(o.m.Rollback(ctx, by))
			}},
		{Name: "Hold", Inputs: []string{"Reason"}, CWMP: "Hold",
			Run: func(ctx context.Context, by datamodel.Caller, args map[string]string) (map[string]string, error) {
				return none(o.m.Hold(ctx, by, args["Reason"]))
			}},
		{Name: "Release", Inputs: []string{"Reason"}, CWMP: "Release",
			Run: func(ctx context.Context, by datamodel.Caller, _ map[string]string) (map[string]string, error) {
				return none(o.m.Release(ctx, by))
			}},
		o.windowCommand("ConfirmChange", (*bridge.Engine).Confirm),
		o.windowCommand("CancelChange", func(e *bridge.Engine, ctx context.Context, by bridge.Writer, id string, _ time.Duration) error {
			return e.CancelConfirm(ctx, by, id)
		}),
		{Name: "ConvergenceReport", Outputs: []string{"Report"},
			Run: func(ctx context.Context, _ datamodel.Caller, _ map[string]string) (map[string]string, error) {
				r, err := o.m.Convergence(ctx)
				if err != nil {
					return nil, err
				}
				data, err := json.Marshal(r)
				return map[string]string{"Report": string(data)}, err
			}},
	}
}
