package cwmp

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"twinspan/bridge"
	"twinspan/bridge/conversion"
	"twinspan/cwmp/soap"
	"twinspan/datamodel"
	"twinspan/store"
)

// Seed gives the records by which a CPE goes on where an older client ended. v is the tree that they are committed with; they belong
// to the first commit of a database, before any CPE runs.
func Seed(s *datamodel.Schema, v *store.Version, f *conversion.File, found *conversion.Outcome, now time.Time) ([]bridge.Record, error) {
	if len(f.Transfers) > maxTransfers || len(f.Schedules) > maxSchedules || len(f.Events) > maxQueuedEvents/2 {
		return nil, errors.New("cwmp: more operations wait than this device can hold")
	}
	var out []bridge.Record
	put := func(bucket, key string, value any) error {
		data, err := json.Marshal(value)
		out = append(out, bridge.Record{Bucket: bucket, Key: key, Data: data})
		return err
	}
	var queue eventQueue
	for _, e := range f.Events {
		queue.add(e.Code, e.Key)
	}
	for i := range f.Transfers {
		old := &f.Transfers[i]
		t := &transfer{ID: fmt.Sprintf("%016x-import%02d", uint64(now.UnixNano()), i), Upload: old.Kind == "upload", Schedule: old.Kind == "schedule-download",
			CommandKey: old.Key, FileType: old.Type, URL: old.URL, Username: old.User, Password: old.Secret, FileSize: old.Size, TargetName: old.Target,
			State: transferQueued, NotBefore: old.At, Start: old.Start}
		if old.State != "queued" {
			end := old.End
			if end.IsZero() {
				end = now
			}
			t.finish(end.Round(0), nil)
			t.FaultCode, t.FaultString = soap.FaultCode(old.Fault), old.Text
			queue.add(t.completeEvent(), "")
			queue.add(t.event(), t.CommandKey)
		}
		if err := put(transferBucket, t.ID, t); err != nil {
			return nil, err
		}
	}
	var schedules []schedule
	for _, w := range f.Schedules {
		schedules = append(schedules, schedule{CommandKey: w.Key, At: w.At.Round(0)})
	}
	if len(queue.list) > 0 {
		if err := put(recordBucket, recEvents, queue.list); err != nil {
			return nil, err
		}
	}
	if len(schedules) > 0 {
		if err := put(recordBucket, recSchedules, schedules); err != nil {
			return nil, err
		}
	}
	if found.URL != "" {
		if err := put(recordBucket, recMark, bootMark{URL: found.URL}); err != nil {
			return nil, err
		}
	}
	for key, values := range map[string]map[string]string{recKnown: found.Known, recTold: found.Told} {
		if kept := stillWatched(s, v, values); len(kept) > 0 {
			if err := put(recordBucket, key, kept); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// stillWatched are those of values that the ACS wants to be told of, as many and as long ones as a record holds.
func stillWatched(s *datamodel.Schema, v *store.Version, values map[string]string) map[string]string {
	out := map[string]string{}
	for _, path := range slices.Sorted(maps.Keys(values)) {
		m, ok := s.Lookup(path)
		if !ok || m.Param == nil || m.Param.Facts(datamodel.CWMP) == nil || len(values[path]) > 256 || len(out) >= maxKnownRecord {
			continue
		}
		if l, ok := v.Leaf(path); ok && l.Flags&store.Secret != 0 {
			continue // the journal has hashes of such
		}
		if strings.HasPrefix(m.Param.Facts(datamodel.CWMP).ActiveNotify, "force") || watched(int(v.NearestAttr(path).Notification)) {
			out[path] = values[path]
		}
	}
	return out
}

// recall notes the stored values of which an older client had told others.
func (c *changes) recall(v *bridge.View) {
	for path, told := range c.told {
		m, ok := v.Schema().Lookup(path)
		l, stored := v.Version().Leaf(path)
		if !ok || m.Param == nil || !stored {
			continue
		}
		m.Path = path
		if n := notification(v, m); watched(n) {
			c.note(path, told, l.Value, active(n))
		}
	}
}

// recalled forgets what the ACS knows by now.
func (c *changes) recalled() {
	for path := range c.told {
		if c.pending[path] == nil {
			delete(c.told, path)
		}
	}
}
