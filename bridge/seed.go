package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"twinspan/datamodel"
	"twinspan/store"
)

// seedWriter is the writer of the commit that takes over what was before.
const seedWriter = sysPrefix + "import"

// Seed is what another agent left on this device. It is taken over in the commit that writes the factory values, before anything
// else runs: all of it or nothing, and a start that was interrupted begins anew. Paths are canonical.
type Seed struct {
	Ref    string         // where it came from, for the journal
	Values []SeedValue    // in the order in which they are staged
	Rows   []string       // rows that may have no value: "Device.NAT.PortMapping.3."
	Next   map[string]int // table -> lowest number for the next row
	Attrs  map[string]store.Attr
	// Finish is called at the end of staging, perhaps more than once, with the tree as it will be and what was not taken. The
	// records that it returns are in the commit; its error is that of the start.
	Finish func(tx *store.Tx, left []SeedLeft) ([]Record, error)
	// Else, if not nil, is taken instead when this one cannot be.
	Else *Seed
}

// SeedValue is one parameter of a Seed. Factory marks a value that was not set by a manager.
type SeedValue struct {
	Path, Value string
	Factory     bool
}

// SeedLeft is what this device could not take over: a value, or attributes (Value is "" then), with the reason. Live says that the
// device itself reports the parameter: the value is what the ACS was told last. Secret: Value must not be shown.
type SeedLeft struct {
	Path, Value, Reason string
	Attrs, Live, Secret bool
}

// seeding is the staging of one Seed.
type seeding struct {
	e       *Engine
	tx      *store.Tx
	cat     *catalog
	made    map[string]bool            // rows that the profile makes
	synced  map[*datamodel.Object]bool // tables whose rows a provider keeps in step
	left    []SeedLeft
	settled map[string]bool // tables whose rows are known from before
}

// errTrial ends a transaction that was only tried.
var errTrial = errors.New("bridge: a trial")

// TrySeed stages a Seed as the first start would and commits nothing. The engine must not have been started, and its database be new.
func (e *Engine) TrySeed(ctx context.Context, s *Seed) error {
	_, err := e.store.Update(ctx, store.Meta{Writer: seedWriter, Ref: s.Ref, Kind: "factory"}, func(tx *store.Tx) error {
		if err := e.stageSeed(tx, s); err != nil {
			return err
		}
		return errTrial
	})
	if errors.Is(err, errTrial) {
		return nil
	}
	return err
}

func (e *Engine) stageSeed(tx *store.Tx, s *Seed) error {
	g := &seeding{e: e, tx: tx, cat: e.cat.Load(), made: map[string]bool{}, synced: map[*datamodel.Object]bool{}, settled: map[string]bool{}}
	for path := range e.profile.Factory {
		eachRow(path, func(table string, n uint32) bool {
			g.made[rowPath(table, n)] = true
			return true
		})
	}
	for _, p := range e.providers {
		if p.syncer == nil {
			continue
		}
		for _, table := range p.syncer.Syncs() {
			if m, ok := e.schema.Lookup(table); ok && m.Object.Multi {
				g.synced[m.Object] = true
			}
		}
	}
	for _, row := range s.Rows {
		if reason, err := g.row(row); err != nil {
			return err
		} else if reason != "" {
			g.left = append(g.left, SeedLeft{Path: row, Reason: reason})
		}
	}
	for i := range s.Values {
		if err := g.value(&s.Values[i]); err != nil {
			return err
		}
	}
	for _, table := range sortedKeys(s.Next) {
		if err := g.next(table, s.Next[table]); err != nil {
			return err
		}
	}
	if err := e.stageFactory(tx, g.settled); err != nil {
		return err
	}
	for _, path := range sortedKeys(s.Attrs) {
		if err := g.attr(path, s.Attrs[path]); err != nil {
			return err
		}
	}
	if s.Finish == nil {
		return nil
	}
	records, err := s.Finish(tx, g.left)
	if err != nil {
		return err
	}
	for _, rec := range records {
		if err := tx.PutRecord(rec.Bucket, rec.Key, rec.Data); err != nil {
			return err
		}
		if err := tx.PutRecord(bucketsBucket, rec.Bucket, []byte{1}); err != nil { // FactoryReset must find it
			return err
		}
	}
	return nil
}

func rowPath(table string, n uint32) string { return table + strconv.FormatUint(uint64(n), 10) + "." }

// managed are parts of the model that an older agent cannot have had for what they mean here: how USP is reached.
func (g *seeding) managed(path string) bool {
	return slices.ContainsFunc([]string{"Device.LocalAgent.", "Device.MQTT.", "Device.STOMP.", "Device.USPServices."}, func(p string) bool { return strings.HasPrefix(path, p) })
}

const (
	notHere   = "not in the data model of this device"
	ownRows   = "the device makes the rows of this table itself"
	noSuchRow = "no such row"
)

// row makes the rows on a path where this device lets it; reason says why not.
func (g *seeding) row(path string) (reason string, err error) {
	if g.managed(path) {
		return "configured on this device", nil
	}
	eachRow(path, func(table string, n uint32) bool {
		m, ok := g.e.schema.Lookup(table)
		row := rowPath(table, n)
		switch {
		case !ok || !m.Object.Multi || !m.Table:
			reason = notHere
		case g.tx.Staged().HasInstance(table, n):
		case g.cat.lists[m.Object] != nil:
			reason = ownRows
		case m.Object.Access(datamodel.CWMP) != datamodel.ReadWrite && !g.made[row] && !g.isSynced(m.Object):
			reason = ownRows
		case g.full(m.Object, table):
			reason = "more rows than this device has room for"
		default:
			if m.Object.Access(datamodel.CWMP) == datamodel.ReadWrite {
				g.settled[table] = true
			}
			err = g.tx.AddRowAt(table, n)
		}
		return reason == "" && err == nil
	})
	return reason, err
}

func (g *seeding) full(o *datamodel.Object, table string) bool {
	limit, ok := g.e.maxRows[o]
	return ok && len(g.tx.Staged().Instances(table)) >= limit
}

// isSynced reports whether a provider keeps the rows of o, or of a table around it, in step.
func (g *seeding) isSynced(o *datamodel.Object) bool {
	for ; o != nil; o = o.Parent {
		if g.synced[o] {
			return true
		}
	}
	return false
}

func (g *seeding) value(v *SeedValue) error {
	m, ok := g.e.schema.Lookup(v.Path)
	hidden := ok && m.Param != nil && secretFlag(m.Param) != 0
	leave := func(reason string, live bool) error {
		g.left = append(g.left, SeedLeft{Path: v.Path, Value: v.Value, Reason: reason, Live: live, Secret: hidden})
		return nil
	}
	if !ok || m.Param == nil || strings.Contains(v.Path, "{i}") {
		return leave(notHere, false)
	}
	f := m.Param.Facts(datamodel.CWMP)
	if f == nil || f.Command {
		return leave("not a setting of the ACS", false)
	}
	object, _ := datamodel.SplitParam(v.Path)
	inRow := strings.ContainsAny(object, "0123456789") && inTable(m.Object)
	if f.Access != datamodel.ReadWrite && v.Path != "Device.ManagementServer.ParameterKey" && (!inRow || g.cat.liveFor(m.Param) != nil || g.cat.counts[m.Param] != nil) {
		return leave("reported by the device itself", true)
	}
	value, err := m.Param.Any().Canonical(v.Value)
	if err != nil {
		if hidden { // the text may hold the value
			return leave("not a value of this parameter", false)
		}
		return leave(err.Error(), false)
	}
	if v.Path == "Device.ManagementServer.URL" && value != v.Value { // another text would be another ACS
		return fmt.Errorf("bridge: %s cannot be kept byte for byte", v.Path)
	}
	reason, err := g.row(object)
	if err != nil {
		return err
	}
	if reason != "" {
		return leave(reason, false)
	}
	flags := secretFlag(m.Param)
	if v.Factory {
		flags |= store.Factory
	}
	return g.tx.Set(v.Path, value, flags)
}

func (g *seeding) next(table string, n int) error {
	m, ok := g.e.schema.Lookup(table)
	if !ok || !m.Table || m.Object.Access(datamodel.CWMP) != datamodel.ReadWrite || g.managed(table) || !g.reachable(table) {
		return nil // nobody gets a number from a table that is not there
	}
	g.settled[table] = true
	if n < 2 {
		return nil
	}
	return g.tx.Reserve(table, uint32(n))
}

// reachable reports whether the rows on a path exist.
func (g *seeding) reachable(path string) bool {
	there := true
	eachRow(path, func(table string, n uint32) bool {
		there = g.tx.Staged().HasInstance(table, n)
		return there
	})
	return there
}

func (g *seeding) attr(path string, a store.Attr) error {
	m, ok := g.e.schema.Lookup(path)
	reason := ""
	switch {
	case !ok || m.Command != nil || m.Event != nil || m.Param != nil && m.Param.Facts(datamodel.CWMP) == nil:
		reason = notHere
	case !g.reachable(path):
		reason = noSuchRow
	default:
		return g.tx.SetAttr(path, a)
	}
	g.left = append(g.left, SeedLeft{Path: path, Reason: reason, Attrs: true})
	return nil
}

// inSettled reports whether a path names a row that is missing in a table whose rows are known from before.
func inSettled(tx *store.Tx, path string, settled map[string]bool) bool {
	missing := false
	eachRow(path, func(table string, n uint32) bool {
		missing = settled[table] && !tx.Staged().HasInstance(table, n)
		return !missing
	})
	return missing
}
