package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"twinspan/datamodel"
	"twinspan/store"
)

// sys is an internal writer.
func sys(part string) Writer { return Writer{Name: sysPrefix + part, Class: ClassSys, System: true} }

// sysRun is a run without a Change, for the engine's own transactions: it lends its key generation and cascade.
func (e *Engine) sysRun(part string, tx *store.Tx) *run {
	return &run{e: e, w: sys(part), c: &Change{}, cat: e.cat.Load(), now: time.Now(), live: &staged{},
		tx: tx, baseV: tx.Base(), base: tx.Base().Rev()}
}

// factory writes the profile's factory values once in the life of a database, in one commit. Rows are created at the
// numbers that the paths name. A value that is there already stays.
func (e *Engine) factory(ctx context.Context) error {
	if _, done := e.store.Head().Record(stateBucket, "factory"); done {
		return nil
	}
	meta, seed := store.Meta{Writer: sysPrefix + "factory", Kind: "factory"}, (*Seed)(nil)
	if e.seed != nil {
		var err error
		if seed, err = e.seed(ctx); err != nil {
			return err
		}
	}
	if seed != nil {
		meta.Writer, meta.Ref = seedWriter, seed.Ref
	}
	_, err := e.store.Update(ctx, meta, func(tx *store.Tx) error {
		if seed != nil {
			return e.stageSeed(tx, seed)
		}
		return e.stageFactory(tx, nil)
	})
	if err != nil && seed != nil && seed.Else != nil && ctx.Err() == nil {
		e.log.Error("nothing was taken over of what was before", "error", err)
		_, err = e.store.Update(ctx, meta, func(tx *store.Tx) error { return e.stageSeed(tx, seed.Else) })
	}
	return err
}

// stageFactory stages the profile's values; in a table of settled no row is made.
func (e *Engine) stageFactory(tx *store.Tx, settled map[string]bool) error {
	r := e.sysRun("factory", tx)
	var bad []error
	for _, path := range sortedKeys(e.profile.Factory) {
		m, ok := e.schema.Lookup(path)
		if !ok || m.Param == nil || strings.Contains(path, "{i}") {
			bad = append(bad, fmt.Errorf("factory value %s: not a parameter of this device", path))
			continue
		}
		value, err := m.Param.Any().Canonical(e.profile.Factory[path])
		if err != nil {
			bad = append(bad, fmt.Errorf("factory value %s: %w", path, err))
			continue
		}
		if len(settled) > 0 && inSettled(tx, path, settled) {
			continue
		}
		if err := makeRows(tx, path); err != nil {
			return err
		}
		if _, there := tx.Staged().Leaf(path); there {
			continue
		}
		flags := store.Factory | secretFlag(m.Param)
		if err := tx.Set(path, value, flags); err != nil {
			return err
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("bridge: device profile %s: %w", e.profile.Name, errors.Join(bad...))
	}
	if err := e.fillRows(r, e.schema.Root(), e.schema.Root().Path); err != nil {
		return err
	}
	return tx.PutRecord(stateBucket, "factory", []byte("1"))
}

// makeRows creates every row that a path names.
func makeRows(tx *store.Tx, path string) error {
	var err error
	eachRow(path, func(table string, n uint32) bool {
		if !tx.Staged().HasInstance(table, n) {
			err = tx.AddRowAt(table, n)
		}
		return err == nil
	})
	return err
}

// eachRow calls fn for every row that an instance path names, outermost first, until it returns false.
func eachRow(path string, fn func(table string, n uint32) bool) {
	for from := 0; ; {
		dot := strings.IndexByte(path[from:], '.')
		if dot < 0 {
			return
		}
		if n, err := strconv.ParseUint(path[from:from+dot], 10, 32); err == nil && !fn(path[:from], uint32(n)) {
			return
		}
		from += dot + 1
	}
}

// fillRows gives the rows that have no unique key yet a generated one.
func (e *Engine) fillRows(r *run, o *datamodel.Object, path string) error {
	for _, c := range o.Children {
		below := path + c.Name + "."
		if !c.Multi {
			if err := e.fillRows(r, c, below); err != nil {
				return err
			}
			continue
		}
		for _, n := range r.tx.View().Instances(below) {
			row := below + strconv.FormatUint(uint64(n), 10) + "."
			if err := r.fill(maskKey{op: -1}, c, below, row, n, nil); err != nil {
				return err
			}
			if err := e.fillRows(r, c, row); err != nil {
				return err
			}
		}
	}
	return nil
}

// FactoryReset puts the tree back to factory values in one commit; the records of heads in the buckets of keep
// survive, all others that came with a Change go. Rows that a provider keeps in step with the device stay, so that
// their numbers stay, with the values the provider gave them. The journal and the consumers' positions stay. Providers
// hear of all that changed, but are not asked: they cannot refuse it.
func (e *Engine) FactoryReset(ctx context.Context, w Writer, keep ...string) error {
	syncers := map[string]bool{}
	for _, p := range e.providers {
		if p.syncer != nil {
			syncers[sysPrefix+p.Name()] = true
		}
	}
	meta := store.Meta{Writer: w.Name, Kind: "factory-reset"}
	if w.Protocol != 0 {
		meta.Protocol = w.Protocol.String()
	}
	var job *applyJob
	commit, err := e.store.Update(ctx, meta, func(tx *store.Tx) error {
		if err := e.clear(tx, e.schema.Root(), e.schema.Root().Path, syncers); err != nil {
			return err
		}
		var drop []string
		tx.View().Walk("", func(path string, l store.Leaf) bool {
			if !syncers[l.Writer] {
				drop = append(drop, path)
			}
			return true
		})
		for _, path := range drop {
			if err := tx.Unset(path); err != nil {
				return err
			}
		}
		var attrs []string
		tx.View().Attrs(func(path string, _ store.Attr) bool {
			attrs = append(attrs, path)
			return true
		})
		for _, path := range attrs {
			if err := tx.SetAttr(path, store.Attr{Notification: -1}); err != nil {
				return err
			}
		}
		if err := dropRecords(tx, keep); err != nil {
			return err
		}
		if err := e.stageFactory(tx, nil); err != nil {
			return err
		}
		if e.cat.Load().hasAppliers() {
			job = e.applies.stage(nil, nil, tx.Base())
		}
		return nil
	})
	if err != nil || !commit.Changed {
		e.applies.drop(job)
		return err
	}
	if job != nil {
		job.writes = e.writesOf(commit.Entry.Deltas, commit.Version)
		e.applies.commit(job, commit.Rev)
	}
	e.mu.Lock()
	resync := e.resync
	e.mu.Unlock()
	for _, again := range resync {
		select {
		case again <- struct{}{}:
		default:
		}
	}
	return nil
}

// clear deletes all rows but those of the syncers.
func (e *Engine) clear(tx *store.Tx, o *datamodel.Object, path string, syncers map[string]bool) error {
	for _, c := range o.Children {
		below := path + c.Name + "."
		if !c.Multi {
			if err := e.clear(tx, c, below, syncers); err != nil {
				return err
			}
			continue
		}
		for _, n := range slices.Clone(tx.View().Instances(below)) {
			row := below + strconv.FormatUint(uint64(n), 10) + "."
			made, _ := tx.View().Row(row)
			var err error
			if syncers[made.Writer] {
				err = e.clear(tx, c, row, syncers)
			} else {
				err = tx.DeleteRow(row)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func dropRecords(tx *store.Tx, keep []string) error {
	var buckets []string
	tx.View().Records(bucketsBucket, func(bucket string, _ []byte) bool {
		if !slices.Contains(keep, bucket) {
			buckets = append(buckets, bucket)
		}
		return true
	})
	for _, b := range buckets {
		var keys []string
		tx.View().Records(b, func(key string, _ []byte) bool {
			keys = append(keys, key)
			return true
		})
		for _, k := range keys {
			if err := tx.DeleteRecord(b, k); err != nil {
				return err
			}
		}
	}
	return nil
}

const (
	// resyncDelay collects the hints of a provider: a link that flaps must not wear the flash.
	resyncDelay = 200 * time.Millisecond
	// A provider that could not tell its rows is asked again, ever more rarely.
	retryFirst = 5 * time.Second
	retryMost  = 5 * time.Minute
)

// syncLoop follows a provider's rows until ctx ends. failed: they could not be had at the start.
func (e *Engine) syncLoop(ctx context.Context, p *provided, again <-chan struct{}, failed bool) {
	defer e.wg.Done()
	hints := p.syncer.Changed()
	delay := retryFirst
	var retry <-chan time.Time
	if failed {
		retry = time.After(delay)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-hints:
			if !ok {
				hints = nil // against the contract, but no reason to spin
				continue
			}
		case <-again:
		case <-retry:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(resyncDelay):
		}
		drain(hints)
		drain(again)
		if err := e.syncRows(ctx, p); err == nil {
			delay, retry = retryFirst, nil
		} else if ctx.Err() == nil {
			e.log.Error("provider rows could not be synced", "provider", p.Name(), "retry_in", delay, "error", err)
			retry = time.After(delay)
			delay = min(2*delay, retryMost)
		}
		e.hintLive() // what it tells live has probably changed too
	}
}

// drain takes the hints that came in the meantime.
func drain(c <-chan struct{}) {
	for {
		select {
		case _, ok := <-c:
			if !ok {
				return
			}
		default:
			return
		}
	}
}

// syncRows makes the stored rows of a Syncer equal to what it has, in one commit by sys:<name>. Rows are found by
// their key, whoever made them; only rows that this provider made are deleted.
func (e *Engine) syncRows(ctx context.Context, p *provided) error {
	res := make(chan []datamodel.Row, 1)
	if err := e.call(ctx, p, "Rows", rowsBudget, func(ctx context.Context) error {
		rows, err := p.syncer.Rows(ctx)
		res <- rows
		return err
	}); err != nil {
		return err
	}
	rows := <-res
	_, err := e.store.Update(ctx, store.Meta{Writer: sysPrefix + p.Name(), Kind: "sync"}, func(tx *store.Tx) error {
		r := e.sysRun(p.Name(), tx)
		return r.syncTables("", p.syncer.Syncs(), rows)
	})
	return err
}

// syncTables brings the tables of one parent (prefix: a row, or "") in step with rows.
func (r *run) syncTables(prefix string, tables []string, rows []datamodel.Row) error {
	for _, table := range tables {
		m, ok := r.e.schema.Lookup(prefix + table)
		if !ok || !m.Object.Multi || !m.Table || strings.Contains(table, "{i}") {
			continue // not on this device, or a table inside rows, which comes with their Sub
		}
		present := map[string]bool{}
		keyName := ""
		for i := range rows {
			row := &rows[i]
			if row.Table != table {
				continue
			}
			keyName = row.Key
			present[row.Values[row.Key]] = true
			if err := r.syncRow(m.Object, prefix+table, row); err != nil {
				return err
			}
		}
		if err := r.dropVanished(m.Object, prefix+table, keyName, present); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) syncRow(obj *datamodel.Object, table string, row *datamodel.Row) error {
	path := ""
	for _, n := range r.tx.View().Instances(table) {
		at := table + strconv.FormatUint(uint64(n), 10) + "."
		if l, ok := r.tx.Staged().Leaf(at + row.Key); ok && l.Value == row.Values[row.Key] {
			path = at
			break
		}
	}
	if path == "" {
		n, err := r.tx.AddRow(table)
		if err != nil {
			return err
		}
		path = table + strconv.FormatUint(uint64(n), 10) + "."
		for _, name := range sortedKeys(row.Values) {
			if err := r.syncValue(path+name, row.Values[name]); err != nil {
				return err
			}
		}
		if err := r.fill(maskKey{op: -1}, obj, table, path, n, nil); err != nil {
			return err
		}
	}
	var subs []string
	for _, c := range obj.Children {
		if c.Multi && slices.ContainsFunc(row.Sub, func(s datamodel.Row) bool { return s.Table == c.Name+"." }) {
			subs = append(subs, c.Name+".")
		} else if c.Multi && r.syncsBelow(path+c.Name+".") {
			subs = append(subs, c.Name+".")
		}
	}
	return r.syncTables(path, subs, row.Sub)
}

// syncsBelow reports whether the provider has rows of its own in a table: then an empty Sub means that they vanished.
func (r *run) syncsBelow(table string) bool {
	return slices.ContainsFunc(r.tx.View().Instances(table), func(n uint32) bool {
		made, _ := r.tx.Staged().Row(table + strconv.FormatUint(uint64(n), 10) + ".")
		return made.Writer == r.w.Name
	})
}

func (r *run) syncValue(path, value string) error {
	m, ok := r.e.schema.Lookup(path)
	if !ok || m.Param == nil {
		return nil // not supported by this profile
	}
	value, err := m.Param.Any().Canonical(value)
	if err != nil {
		return asAsked(err, path)
	}
	return r.tx.Set(path, value, secretFlag(m.Param))
}

func (r *run) dropVanished(obj *datamodel.Object, table, keyName string, present map[string]bool) error {
	for _, n := range slices.Clone(r.tx.View().Instances(table)) {
		row := table + strconv.FormatUint(uint64(n), 10) + "."
		made, ok := r.tx.Staged().Row(row)
		// Rows of an older agent that nobody but the device could delete go, too, when the device has no such thing.
		if !ok || made.Writer != r.w.Name && (made.Writer != seedWriter || obj.Access(datamodel.CWMP) == datamodel.ReadWrite) {
			continue
		}
		if keyName != "" {
			if l, ok := r.tx.Staged().Leaf(row + keyName); ok && (present[l.Value] || made.Writer != r.w.Name && l.Flags&store.Factory != 0) {
				continue
			}
		}
		if err := r.remove(maskKey{op: -1}, obj, row, "vanished", "sync"); err != nil {
			return err
		}
	}
	return nil
}
