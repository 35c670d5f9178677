package modules

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"twinspan/bridge"
	"twinspan/store"
)

// job is one operation while it runs.
type job struct {
	m       *Modules
	r       Request
	op      operation
	pending []bridge.Op // what puts the tables back when it fails
	begun   bool        // its record is in the store
}

func (j *job) fail(f *Fault) {
	j.op.Done, j.op.State, j.op.Ended, j.op.Reason, j.op.Text = true, "Failed", time.Now().UTC().Round(0), f.Reason, f.Text
	if f.Err != nil {
		j.m.o.Log.Warn("software module operation", "cause", f.Err)
	}
}

func (j *job) run(ctx context.Context) *Fault {
	if j.op.UUID != "" && !ValidUUID(j.op.UUID) {
		return fail(InvalidUUID, "")
	}
	if j.r.URL != "" {
		if u, err := url.Parse(j.r.URL); err != nil || u.Host == "" {
			return fail(InvalidArguments, "URL")
		} else if u.User != nil { // it would be kept in DeploymentUnit.{i}.URL, for all to read
			return fail(InvalidArguments, "URL: user and password have arguments of their own")
		} else if u.Scheme != "http" && u.Scheme != "https" {
			return fail(BadProtocol, "")
		}
	}
	switch j.r.Kind {
	case Install:
		return j.install(ctx)
	case Update:
		return j.update(ctx)
	case Uninstall:
		return j.uninstall(ctx)
	}
	return fail(InvalidArguments, "operation")
}

// record is the operation as it stands.
func (j *job) record() ([]bridge.Record, error) {
	if j.r.ID == "" {
		return nil, nil
	}
	data, err := json.Marshal(&j.op)
	return []bridge.Record{{Bucket: bucket, Key: j.r.ID, Data: data}}, err
}

// begin commits the first step: what a restart has to put right.
func (j *job) begin(ctx context.Context, ops ...bridge.Op) (bridge.Result, *Fault) {
	records, err := j.record()
	if err != nil {
		return bridge.Result{}, &Fault{Reason: Denied, Err: err}
	}
	res, err := j.apply(ctx, bridge.Change{Ops: ops, Records: records})
	if err != nil {
		return res, storeFault(err)
	}
	j.begun = true
	return res, nil
}

func storeFault(err error) *Fault { return &Fault{Reason: Exhausted, Text: "of the store", Err: err} }

func (j *job) apply(ctx context.Context, c bridge.Change) (bridge.Result, error) {
	c.Ref, c.Atomic = "modules", true
	return j.m.o.Engine.Apply(ctx, bridge.Writer{Name: writer, Class: bridge.ClassSys, System: true}, c)
}

// finish commits the last step with the result. seal, if not nil, completes it over the staged rows.
func (j *job) finish(ctx context.Context, ops []bridge.Op, seal func(tx *store.Tx) error) *Fault {
	j.op.Done, j.op.Ended = true, time.Now().UTC().Round(0)
	_, err := j.apply(ctx, bridge.Change{Ops: ops, Seal: func(tx *store.Tx) error {
		if seal != nil {
			if err := seal(tx); err != nil {
				return err
			}
		}
		records, err := j.record() // the result is in the commit that makes it true
		for _, r := range records {
			err = errors.Join(err, tx.PutRecord(r.Bucket, r.Key, r.Data))
		}
		return err
	}})
	if err != nil {
		return storeFault(err)
	}
	return nil
}

// undo ends a failed operation: the tables are as before it.
func (j *job) undo(f *Fault) {
	j.fail(f)
	if !j.begun && j.r.ID == "" {
		return
	}
	records, err := j.record()
	// The context of the operation may have ended; what it began must not stay.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err == nil {
		_, err = j.apply(ctx, bridge.Change{Ops: j.pending, Records: records})
	}
	if err != nil { // the next start puts it right
		j.m.o.Log.Error("a failed software module operation cannot be undone now", "error", err)
	}
}

// environment finds the ExecEnv that is asked for, else the first one.
func (j *job) environment(v *store.Version) (string, *Fault) {
	row := rowOf(j.r.Env)
	if row == "" {
		all := rows(v, envs)
		if len(all) == 0 {
			return "", fail(UnknownEnv, "")
		}
		row = all[0]
	}
	if _, ok := v.Row(row); !ok || !strings.HasPrefix(row, envs) {
		return "", fail(UnknownEnv, "")
	}
	if text(v, row+"Enable") != "true" {
		return row, fail(DisabledEnv, "")
	}
	return row, nil
}

// find gives the deployment units that a request names.
func (j *job) find(v *store.Version) (found []string, f *Fault) {
	env := rowOf(j.r.Env)
	for _, row := range rows(v, units) {
		switch {
		case j.r.Row != "" && row != j.r.Row:
		case j.op.UUID != "" && text(v, row+"UUID") != j.op.UUID:
		case j.r.Row == "" && j.op.UUID == "" && text(v, row+"URL") != j.r.URL:
		case j.r.Version != "" && text(v, row+"Version") != j.r.Version:
		case env != "" && rowOf(text(v, row+"ExecutionEnvRef")) != env:
		default:
			found = append(found, row)
		}
	}
	if len(found) == 0 {
		return nil, fail(UnknownUnit, "")
	}
	for _, row := range found {
		if text(v, row+"Status") != "Installed" {
			return nil, fail(InvalidState, "")
		}
	}
	return found, nil
}

func (j *job) install(ctx context.Context) *Fault {
	if j.r.URL == "" {
		return fail(InvalidArguments, "URL is missing")
	}
	v := j.m.head()
	env, f := j.environment(v)
	if f != nil {
		return f
	}
	j.op.Env = env
	if len(rows(v, units)) >= j.m.o.MaxUnits {
		return fail(Exhausted, "at most %d deployment units", j.m.o.MaxUnits)
	}
	add := bridge.Op{Kind: bridge.OpAdd, Path: units, Settings: settings("Status", "Installing", "URL", j.r.URL, "ExecutionEnvRef", reference(env), "Resolved", "false")}
	res, f := j.begin(ctx, add)
	if f != nil {
		return f
	}
	row := res.Outcomes[0].Objects[0].Path
	j.pending = []bridge.Op{{Kind: bridge.OpDelete, Path: row}}
	p, f := j.fetch(ctx, j.r.URL)
	if f != nil {
		return f
	}
	if j.op.UUID == "" { // TR-069 Annex H
		if j.op.UUID = p.uuid; p.uuid == "" {
			j.op.UUID = makeUUID(p.vendor, p.name)
		}
	}
	j.op.Version = p.version
	v = j.m.head()
	for _, other := range rows(v, units) {
		if other != row && text(v, other+"UUID") == j.op.UUID && text(v, other+"Version") == p.version && rowOf(text(v, other+"ExecutionEnvRef")) == env {
			return fail(Duplicate, "")
		}
	}
	if f := j.fits(v, env, p, nil); f != nil {
		return f
	}
	now := time.Now().UTC().Format(stampForm)
	ops := []bridge.Op{set(row, "UUID", j.op.UUID, "DUID", j.op.UUID, "Name", p.name, "Version", p.version, "Vendor", p.vendor, "Description", p.description,
		"Status", "Installed", "Resolved", "true", "Installed", now, "LastUpdate", now)}
	j.op.State, j.op.Row = "Installed", row
	return j.finish(ctx, append(ops, j.addUnits(p, env, 0)...), j.listUnits(v, row, env, nil))
}

// addUnits makes the execution units of a package from number first on; the first one carries what all of them use.
func (j *job) addUnits(p *manifest, env string, first int) (ops []bridge.Op) {
	for i, name := range p.units[first:] {
		disk, memory := 0, 0
		if first+i == 0 {
			disk, memory = p.disk, p.memory
		}
		ops = append(ops, bridge.Op{Kind: bridge.OpAdd, Path: execs, Settings: append(settings("EUID", j.op.UUID+"-"+j.op.Version+"-"+strconv.Itoa(first+i+1), "Name", name, "ExecEnvLabel", name,
			"Vendor", p.vendor, "Version", p.version, "Description", p.description, "ExecutionEnvRef", reference(env), "AutoStart", "false", "RunLevel", "0",
			"Status", "Idle", "ExecutionFaultCode", "NoFault", "DiskSpaceInUse", strconv.Itoa(disk), "MemoryInUse", strconv.Itoa(memory)), j.r.settings...)})
	}
	return ops
}

// listUnits names the new execution units in their deployment unit and in the result, once the rows have numbers.
func (j *job) listUnits(before *store.Version, row, env string, kept []string) func(tx *store.Tx) error {
	return func(tx *store.Tx) error {
		list := slices.Clone(kept)
		for _, e := range rows(tx.View(), execs) {
			if _, old := before.Row(e); !old {
				list = append(list, e)
			}
		}
		j.op.Execs = list
		return tx.Set(row+"ExecutionUnitList", references(list), 0)
	}
}

// fits checks a package against its environment; without are execution units that go.
func (j *job) fits(v *store.Version, env string, p *manifest, without []string) *Fault {
	if kind := text(v, env+"Type"); p.environment != "" && p.environment != kind {
		return fail(Mismatch, "")
	}
	disk, memory := j.m.used(v, env, without)
	limit := j.m.limits(v, env)
	if limit.Disk > 0 && disk+p.disk > limit.Disk || limit.Memory > 0 && memory+p.memory > limit.Memory {
		return fail(Exhausted, "")
	}
	return nil
}

func (j *job) update(ctx context.Context) *Fault {
	if j.op.UUID == "" && j.r.URL == "" && j.r.Row == "" {
		return fail(InvalidArguments, "UUID or URL is needed")
	}
	v := j.m.head()
	found, f := j.find(v)
	if f != nil {
		return f
	}
	if len(found) > 1 {
		return fail(VersionMissing, "")
	}
	row := found[0]
	env, old := rowOf(text(v, row+"ExecutionEnvRef")), text(v, row+"Version")
	j.op.Row, j.op.Env, j.op.UUID, j.op.Version = row, env, text(v, row+"UUID"), old
	if text(v, env+"Enable") != "true" {
		return fail(DisabledEnv, "")
	}
	from := j.r.URL
	if from == "" {
		from = text(v, row+"URL")
	}
	if _, f := j.begin(ctx, set(row, "Status", "Updating")); f != nil {
		return f
	}
	j.pending = []bridge.Op{set(row, "Status", "Installed")}
	p, f := j.fetch(ctx, from)
	if f != nil {
		return f
	}
	if p.uuid != "" && p.uuid != j.op.UUID || p.uuid == "" && p.name != text(v, row+"Name") {
		return fail(Corrupted, "it is another deployment unit")
	}
	v = j.m.head()
	switch c := compareVersions(p.version, old); {
	case c < 0:
		return fail(Downgrade, "")
	case c == 0:
		return fail(VersionExists, "")
	}
	for _, other := range rows(v, units) {
		if other != row && text(v, other+"UUID") == j.op.UUID && text(v, other+"Version") == p.version && rowOf(text(v, other+"ExecutionEnvRef")) == env {
			return fail(VersionExists, "")
		}
	}
	had := listed(v, row)
	if f := j.fits(v, env, p, had); f != nil {
		return f
	}
	j.op.Version, j.op.State = p.version, "Installed"
	ops := []bridge.Op{set(row, "URL", from, "Version", p.version, "Vendor", p.vendor, "Description", p.description, "Status", "Installed",
		"LastUpdate", time.Now().UTC().Format(stampForm))}
	more, kept := j.renew(v, p, env, had)
	return j.finish(ctx, append(ops, more...), j.listUnits(v, row, env, kept))
}

// renew changes the execution units to those of a new version; rows keep their place in the list.
func (j *job) renew(v *store.Version, p *manifest, env string, had []string) (ops []bridge.Op, kept []string) {
	for i, e := range had {
		if i >= len(p.units) {
			ops = append(ops, bridge.Op{Kind: bridge.OpDelete, Path: e})
			continue
		}
		disk, memory := 0, 0
		if i == 0 {
			disk, memory = p.disk, p.memory
		}
		kept = append(kept, e)
		ops = append(ops, set(e, "EUID", j.op.UUID+"-"+p.version+"-"+strconv.Itoa(i+1), "Name", p.units[i], "ExecEnvLabel", p.units[i], "Version", p.version,
			"DiskSpaceInUse", strconv.Itoa(disk), "MemoryInUse", strconv.Itoa(memory)))
	}
	if len(had) < len(p.units) {
		ops = append(ops, j.addUnits(p, env, len(had))...)
	}
	return ops, kept
}

func (j *job) uninstall(ctx context.Context) *Fault {
	if j.op.UUID == "" && j.r.Row == "" {
		return fail(InvalidUUID, "UUID is missing")
	}
	v := j.m.head()
	found, f := j.find(v)
	if f != nil {
		return f
	}
	// Without a version every version goes (TR-069 A.4.1.10); the result names the first.
	var mark, ops []bridge.Op
	for _, row := range found {
		mark, j.pending = append(mark, set(row, "Status", "Uninstalling")), append(j.pending, set(row, "Status", "Installed"))
		ops = append(ops, bridge.Op{Kind: bridge.OpDelete, Path: row})
		for _, e := range listed(v, row) {
			ops = append(ops, bridge.Op{Kind: bridge.OpDelete, Path: e, MissingOK: true})
			j.m.forgetRunning(e)
		}
	}
	j.op.Row, j.op.Env = found[0], rowOf(text(v, found[0]+"ExecutionEnvRef"))
	j.op.UUID, j.op.Version = text(v, found[0]+"UUID"), text(v, found[0]+"Version")
	if _, f := j.begin(ctx, mark...); f != nil {
		return f
	}
	j.op.State = "Uninstalled"
	return j.finish(ctx, ops, nil)
}

// listed gives the execution units of a deployment unit.
func listed(v *store.Version, row string) (out []string) {
	for _, ref := range strings.Split(text(v, row+"ExecutionUnitList"), ",") {
		if ref != "" {
			out = append(out, rowOf(ref))
		}
	}
	return out
}

// fetch gets a package and reads its head; the file does not stay.
func (j *job) fetch(ctx context.Context, from string) (*manifest, *Fault) {
	file, err := os.CreateTemp(j.m.o.Dir, "module-")
	if err != nil {
		return nil, &Fault{Reason: Exhausted, Text: "no space for the package", Err: err}
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if err := j.m.o.Fetch(ctx, from, j.r.User, j.r.Password, j.m.o.MaxSize, file); err != nil {
		var f *Fault
		if errors.As(err, &f) {
			return nil, f
		}
		var disk *fs.PathError
		if errors.As(err, &disk) {
			return nil, &Fault{Reason: Exhausted, Text: "no space for the package", Err: err}
		}
		return nil, &Fault{Reason: Incomplete, Err: err}
	}
	if _, err := file.Seek(0, 0); err != nil {
		return nil, &Fault{Reason: Denied, Err: err}
	}
	return readManifest(file)
}

func settings(pairs ...string) (out []bridge.Setting) {
	return set("", pairs...).Settings
}
