package cwmp

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"

	"twinspan/bridge"
	"twinspan/cwmp/connreq"
	"twinspan/datamodel"
	"twinspan/store"
)

// Records of this package in the store.
const (
	recordBucket   = "cwmp"
	transferBucket = "cwmp.transfer"
	recEvents      = "events"
	recMark        = "mark"
	recSchedules   = "schedules"
	recKnown       = "known"
	recTold        = "told" // of an older client
)

// knownRev is the key of the revision up to which the record of known values takes the ACS's own rows into account.
const knownRev = ""

// maxKnownRecord bounds the live values that are remembered across restarts; what is over it is taken as known anew.
const maxKnownRecord = 512

var errTooManySchedules = datamodel.Fail(datamodel.Resources, "", "too many ScheduleInform calls wait")

// restore reads the records. One that cannot be read is an error: silently forgetting that the ACS knows this device would
// send a BOOTSTRAP, which makes an ACS provision everything anew.
func (c *CPE) restore() error {
	c.saved, c.bootRev = map[string]string{}, c.e.Store().Head().Rev()
	c.changes = changes{pending: map[string]*pending{}, known: map[string]string{}}
	var events []event
	for key, into := range map[string]any{recEvents: &events, recMark: &c.mark, recSchedules: &c.schedules, recKnown: &c.changes.known, recTold: &c.changes.told} {
		data, ok, err := c.e.Store().Record(recordBucket, key)
		if err != nil {
			return fmt.Errorf("cwmp: read record %s: %w", key, err)
		}
		if !ok {
			continue
		}
		if err := json.Unmarshal(data, into); err != nil {
			return fmt.Errorf("cwmp: record %s is damaged: %w", key, err)
		}
		c.saved[recordBucket+"/"+key] = string(data)
	}
	if c.changes.known == nil {
		c.changes.known = map[string]string{}
	}
	c.startFrom()
	c.queue.restore(events)
	var bad error
	err := c.e.Store().Records(transferBucket, func(key string, data []byte) bool {
		t := &transfer{}
		if bad = json.Unmarshal(data, t); bad != nil {
			bad = fmt.Errorf("cwmp: transfer record %s is damaged: %w", key, bad)
			return false
		}
		c.transfers = append(c.transfers, t)
		c.saved[transferBucket+"/"+key] = string(data)
		return true
	})
	if bad != nil {
		err = bad
	}
	if err != nil {
		return fmt.Errorf("cwmp: read transfers: %w", err)
	}
	if err := c.restoreModules(); err != nil {
		return err
	}
	sort.Slice(c.transfers, func(i, j int) bool { return c.transfers[i].ID < c.transfers[j].ID })
	if c.mark.Path == "" {
		c.mark.Path = connreq.NewPath() // CR-15: not to be guessed, its own for every device
	}
	return nil
}

// startFrom says from where the journal is to be read again: the change that the ACS made and the record of what it knows are
// two commits, and the power may have gone between them.
func (c *CPE) startFrom() {
	cursor, ok := c.e.Store().Cursor(writerName)
	if !ok {
		cursor = c.bootRev
	}
	c.changes.pendingAt, c.changes.knownAt = cursor, cursor
	if rev, err := strconv.ParseUint(c.changes.known[knownRev], 10, 64); err == nil {
		c.changes.knownAt = min(rev, c.bootRev)
	}
	delete(c.changes.known, knownRev)
	c.changes.rev = min(c.changes.pendingAt, c.changes.knownAt)
}

// records is the durable part of the state, as it should be in the store. An empty text means no record.
func (c *CPE) records() map[string]string {
	out := map[string]string{}
	put := func(bucket, key string, v any, empty bool) {
		out[bucket+"/"+key] = ""
		if empty {
			return
		}
		b, err := json.Marshal(v)
		if err != nil { // only plain data
			panic(err)
		}
		out[bucket+"/"+key] = string(b)
	}
	events := c.queue.persistent()
	if c.failures == 0 {
		// "2 PERIODIC" is written when its session failed: a commit for each periodic Inform would wear the flash out, and
		// a restart before tells the ACS more than the event does.
		events = slices.DeleteFunc(events, func(e event) bool { return e.Code == evPeriodic })
	}
	put(recordBucket, recEvents, events, len(events) == 0)
	put(recordBucket, recMark, c.mark, false)
	put(recordBucket, recSchedules, c.schedules, len(c.schedules) == 0)
	put(recordBucket, recTold, c.changes.told, len(c.changes.told) == 0)
	if c.changes.dirty && c.running == nil || c.saved[recordBucket+"/"+recKnown] == "" {
		put(recordBucket, recKnown, c.knownRecord(), len(c.changes.known) == 0)
	}
	for key := range c.saved {
		if strings.HasPrefix(key, transferBucket+"/") || strings.HasPrefix(key, duBucket+"/") {
			out[key] = ""
		}
	}
	for _, t := range c.transfers {
		out[transferBucket+"/"+t.ID] = string(t.encode())
	}
	for _, j := range c.modules.jobs {
		out[duBucket+"/"+j.ID] = string(j.encode())
	}
	return out
}

// knownRecord is what is remembered of live values: the short ones, and no more than the record may hold.
func (c *CPE) knownRecord() map[string]string {
	out := map[string]string{knownRev: strconv.FormatUint(c.changes.rev, 10)}
	for _, path := range slices.Sorted(maps.Keys(c.changes.known)) { // in order, so that the same state is the same record
		if value := c.changes.known[path]; len(value) <= 256 && len(out) <= maxKnownRecord {
			out[path] = value
		}
	}
	return out
}

// save writes what differs from the store, in one commit; nothing if nothing does.
func (c *CPE) save(ctx context.Context) error {
	if c.halted {
		return nil
	}
	want := c.records()
	var puts []bridge.Record
	for at, data := range want {
		if c.saved[at] == data {
			continue
		}
		i := strings.LastIndexByte(at, '/')
		r := bridge.Record{Bucket: at[:i], Key: at[i+1:]}
		if data != "" {
			r.Data = []byte(data)
		}
		puts = append(puts, r)
	}
	if len(puts) == 0 {
		return nil
	}
	// A record that an event depends on must not be lost because the session that caused it is being cancelled.
	_, err := c.e.Apply(context.WithoutCancel(ctx), systemWriter, bridge.Change{Atomic: true, Records: puts})
	if err != nil {
		c.log.Error("records cannot be written", "error", err)
		return fmt.Errorf("cwmp: write records: %w", err)
	}
	for at, data := range want {
		if data == "" {
			delete(c.saved, at)
		} else {
			c.saved[at] = data
		}
	}
	if _, ok := want[recordBucket+"/"+recKnown]; ok {
		c.changes.dirty = false
	}
	return nil
}

// ensureUsername gives the ACS user name its standard value when nobody ever set one. HTTP-21
func (c *CPE) ensureUsername(ctx context.Context) {
	const path = msPath + "Username"
	if _, ok := c.e.Store().Head().Leaf(path); ok {
		return
	}
	if _, ok := c.e.Schema().Lookup(path); !ok {
		return
	}
	id := c.deviceID(ctx, c.e.View(acsWriter))
	if id.oui == "" || id.serial == "" {
		return
	}
	c.putSystem(ctx, path, id.defaultUsername())
}

// ensureModelVersion lets Device.RootDataModelVersion, which is in every Inform, say which model the schema was made from, unless
// a provider says it.
func (c *CPE) ensureModelVersion(ctx context.Context) {
	const path = "Device.RootDataModelVersion"
	v := c.e.View(acsWriter)
	ms, err := v.Resolve(path, datamodel.ResolvePolicy{Want: datamodel.WantParam, MissingIsError: true})
	if err != nil || len(ms) != 1 {
		return
	}
	value, err := v.Value(ctx, ms[0])
	l, stored := v.Version().Leaf(path)
	if err != nil || value == c.e.Schema().Version || value != "" && !(stored && l.Writer == systemName) {
		return
	}
	c.putSystem(ctx, path, c.e.Schema().Version)
}

// touchesManagement reports whether a commit changed what drives the CPE.
func touchesManagement(e *store.Entry) bool {
	for _, d := range e.Deltas {
		if strings.HasPrefix(d.Path, msPath) {
			return true
		}
	}
	return false
}
