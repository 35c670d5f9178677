package modules

import (
	"context"
	"crypto/rand"
	"slices"
	"strconv"
	"strings"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/store"
)

// commandPrefix begins the IDs of operations that a command started.
const commandPrefix = "command-"

var (
	_ datamodel.Provider  = (*Modules)(nil)
	_ datamodel.Syncer    = (*Modules)(nil)
	_ datamodel.Applier   = (*Modules)(nil)
	_ datamodel.Commander = (*Modules)(nil)
)

// Name implements datamodel.Provider.
func (*Modules) Name() string { return "modules" }

// Serves implements datamodel.Provider.
func (*Modules) Serves() []string {
	return []string{envs + "{i}.Status", envs + "{i}.AvailableDiskSpace", envs + "{i}.AvailableMemory", envs + "{i}.ActiveExecutionUnits", envs + "{i}.CurrentRunLevel",
		execs + "{i}.Status", execs + "{i}.ExecutionFaultCode"}
}

// Read implements datamodel.Provider.
func (m *Modules) Read(_ context.Context, obj datamodel.ObjectRef, params []string, yield func(name, value string)) error {
	v := m.head()
	if strings.HasPrefix(obj.Path, execs) {
		for _, name := range params {
			status, fault := m.state(v, obj.Path)
			switch name {
			case "Status":
				yield(name, status)
			case "ExecutionFaultCode":
				yield(name, fault)
			}
		}
		return nil
	}
	limit := m.limits(v, obj.Path)
	disk, memory := m.used(v, obj.Path, nil)
	for _, name := range params {
		switch name {
		case "Status":
			if text(v, obj.Path+"Enable") == "true" {
				yield(name, "Up")
			} else {
				yield(name, "Disabled")
			}
		case "AvailableDiskSpace":
			yield(name, room(limit.Disk, disk))
		case "AvailableMemory":
			yield(name, room(limit.Memory, memory))
		case "CurrentRunLevel":
			yield(name, "-1") // run levels are not simulated
		case "ActiveExecutionUnits":
			var active []string
			for _, e := range rows(v, execs) {
				if status, _ := m.state(v, e); status == "Active" && rowOf(text(v, e+"ExecutionEnvRef")) == obj.Path {
					active = append(active, e)
				}
			}
			yield(name, references(active))
		}
	}
	return nil
}

func room(limit, used int) string {
	if limit == 0 {
		return "-1" // not limited
	}
	return strconv.Itoa(max(0, limit-used))
}

// state of an execution unit: what somebody asked for since the start, else what AutoStart says; nothing runs in a disabled environment.
func (m *Modules) state(v *store.Version, row string) (status, fault string) {
	m.mu.Lock()
	status, asked := m.running[row]
	m.mu.Unlock()
	auto := text(v, row+"AutoStart") == "true"
	if !asked {
		status = "Idle"
		if at, err := time.Parse(stampForm, text(v, m.unitOf(v, row)+"Installed")); auto && err == nil && at.Before(m.started) {
			status = "Active"
		}
	}
	if text(v, rowOf(text(v, row+"ExecutionEnvRef"))+"Enable") != "true" {
		if status == "Active" {
			return "Idle", "UnStartable"
		}
		return "Idle", "NoFault"
	}
	return status, "NoFault"
}

// unitOf finds the deployment unit of an execution unit.
func (m *Modules) unitOf(v *store.Version, exec string) string {
	for _, row := range rows(v, units) {
		if slices.Contains(listed(v, row), exec) {
			return row
		}
	}
	return ""
}

func (m *Modules) forgetRunning(row string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.running, row)
}

func (m *Modules) limits(v *store.Version, env string) Environment {
	name := text(v, env+"Name")
	for _, e := range m.o.Environments {
		if e.Name == name {
			return e
		}
	}
	return Environment{}
}

// used sums what the execution units of an environment take, in KiB.
func (m *Modules) used(v *store.Version, env string, without []string) (disk, memory int) {
	for _, e := range rows(v, execs) {
		if rowOf(text(v, e+"ExecutionEnvRef")) != env || slices.Contains(without, e) {
			continue
		}
		d, _ := strconv.Atoi(text(v, e+"DiskSpaceInUse")) // ours: numbers
		k, _ := strconv.Atoi(text(v, e+"MemoryInUse"))
		disk, memory = disk+max(d, 0), memory+max(k, 0)
	}
	return disk, memory
}

// Syncs implements datamodel.Syncer.
func (*Modules) Syncs() []string { return []string{envs} }

// Changed implements datamodel.Syncer: the environments are those of the configuration.
func (*Modules) Changed() <-chan struct{} { return nil }

// Rows implements datamodel.Syncer.
func (m *Modules) Rows(context.Context) ([]datamodel.Row, error) {
	var out []datamodel.Row
	for _, e := range m.o.Environments {
		limit := func(n int) string {
			if n == 0 {
				return "-1"
			}
			return strconv.Itoa(n)
		}
		out = append(out, datamodel.Row{Table: envs, Key: "Name", Values: map[string]string{"Name": e.Name, "Type": e.Type, "Vendor": e.Vendor, "Version": e.Version,
			"Enable": "true", "AllocatedDiskSpace": limit(e.Disk), "AllocatedMemory": limit(e.Memory)}})
	}
	return out, nil
}

// Applies implements datamodel.Applier.
func (*Modules) Applies() []string {
	return []string{execs + "{i}.RequestedState", execs + "{i}.RunLevel", envs + "{i}.RequestedRunLevel", envs + "{i}.InitialRunLevel"}
}

// Prepare implements datamodel.Applier.
func (m *Modules) Prepare(_ context.Context, writes []datamodel.Write) error {
	for _, w := range writes {
		row, name := datamodel.SplitParam(w.Path)
		switch {
		case w.Deleted || w.Added || w.Value == "":
		case name == "RequestedState":
			if f := m.mayRun(row, w.Value); f != nil {
				return datamodel.Fail(datamodel.InvalidValue, w.Path, f.Error())
			}
		case w.Value != "0" && w.Value != "-1":
			return datamodel.Fail(datamodel.InvalidValue, w.Path, "run levels are not supported by this device")
		}
	}
	return nil
}

// Apply implements datamodel.Applier: RequestedState is CWMP's face of SetRequestedState().
func (m *Modules) Apply(_ context.Context, writes []datamodel.Write) error {
	for _, w := range writes {
		if row, name := datamodel.SplitParam(w.Path); name == "RequestedState" && !w.Deleted && w.Value != "" {
			m.request(row, w.Value)
		}
	}
	return nil
}

func (m *Modules) mayRun(row, state string) *Fault {
	v := m.head()
	switch {
	case state == "Idle":
	case text(v, rowOf(text(v, row+"ExecutionEnvRef"))+"Enable") != "true":
		return fail(DisabledEnv, "")
	case text(v, m.unitOf(v, row)+"Resolved") != "true":
		return fail(InvalidState, "")
	}
	return nil
}

func (m *Modules) request(row, state string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running[row] = state
	for known := range m.running { // rows that are gone
		if _, ok := m.head().Row(known); !ok {
			delete(m.running, known)
		}
	}
}

// Commands implements datamodel.Commander.
func (*Modules) Commands() []string {
	return []string{object + "InstallDU()", units + "{i}.Update()", units + "{i}.Uninstall()", execs + "{i}.SetRequestedState()", execs + "{i}.Restart()"}
}

// Run implements datamodel.Commander.
func (m *Modules) Run(ctx context.Context, inv datamodel.Invocation) (map[string]string, error) {
	if strings.HasPrefix(inv.Command, execs) {
		state := inv.Args["RequestedState"]
		if state == "" { // Restart()
			state = "Active"
		}
		if f := m.mayRun(inv.Object.Path, state); f != nil {
			return nil, datamodel.Fail(datamodel.InvalidValue, inv.Command, f.Error())
		}
		m.request(inv.Object.Path, state)
		return nil, nil
	}
	r, err := m.asked(inv)
	if err != nil {
		return nil, err
	}
	res := m.Do(ctx, r)
	m.emit(resultOperation(r, res))
	if ctx.Err() == nil { // else the agent may be stopping: it is told again after the start
		m.Forget(ctx, r.ID)
	}
	if res.Fault != nil {
		reason, text := datamodel.CommandFailed, res.Fault.Error()
		if res.Fault.Reason == InvalidArguments {
			reason, text = datamodel.InvalidArgs, res.Fault.Text
		}
		return nil, &datamodel.Error{Reason: reason, Path: inv.Command, Text: text, Err: res.Fault.Err}
	}
	if r.Kind != Install {
		return nil, nil
	}
	return map[string]string{"UUID": res.UUID, "Version": res.Version, "ExecEnvRef": reference(res.Env)}, nil
}

// accepted are the arguments that mean something here; the others ask for what is not simulated.
var accepted = map[string]string{"URL": "", "UUID": "", "Username": "", "Password": "", "ExecutionEnvRef": "", "ShutdownDelay": "", "ModuleVersion": "",
	"RetainData": "false", "Privileged": "false", "NumRequiredUIDs": "1", "Resources.AllocatedCPUPercent": "-1", "Resources.AllocatedDiskSpace": "-1", "Resources.AllocatedMemory": "-1"}

// asked reads the arguments of a command.
func (m *Modules) asked(inv datamodel.Invocation) (Request, error) {
	r := Request{ID: commandPrefix + rand.Text(), By: inv.By.Name, URL: inv.Args["URL"], UUID: inv.Args["UUID"], User: inv.Args["Username"], Password: inv.Args["Password"],
		Env: inv.Args["ExecutionEnvRef"]}
	for name, value := range inv.Args {
		only, ok := accepted[name]
		switch {
		case strings.HasPrefix(name, "AutoRestart."): // kept; a simulated unit never fails
			if strings.HasPrefix(inv.Command, object+"InstallDU") {
				r.settings = append(r.settings, bridge.Setting{Name: name, Value: value, Required: true})
			}
		case !ok && value != "", ok && only != "" && value != only:
			return r, datamodel.Fail(datamodel.InvalidArgs, inv.Command, "argument "+name+": not supported by this device")
		case name == "ShutdownDelay":
			r.settings = append(r.settings, bridge.Setting{Name: name, Value: value, Required: true})
		}
	}
	switch {
	case strings.HasSuffix(inv.Command, ".Update()"):
		r.Kind, r.Row = Update, inv.Object.Path
	case strings.HasSuffix(inv.Command, ".Uninstall()"):
		r.Kind, r.Row = Uninstall, inv.Object.Path
	default:
		r.Kind = Install
	}
	return r, nil
}

func resultOperation(r Request, res Result) operation {
	o := operation{By: r.By, Kind: r.Kind, UUID: res.UUID, Began: res.Began, Version: res.Version, Row: res.Row, Execs: res.Execs, Env: res.Env, State: res.State, Ended: res.Ended}
	if res.Fault != nil {
		o.Reason, o.Text = res.Fault.Reason, res.Fault.Text
	}
	return o
}

// emit tells DUStateChange! to every Controller that asked for it, and to the ACS by its policy.
func (m *Modules) emit(o operation) {
	args := map[string]string{"UUID": o.UUID, "DeploymentUnitRef": reference(o.Row), "Version": o.Version, "CurrentState": o.State, "Resolved": strconv.FormatBool(o.Reason == 0),
		"ExecutionUnitRefList": references(o.Execs), "OperationPerformed": string(o.Kind), "StartTime": o.Began.Format(stampForm), "CompleteTime": o.Ended.Format(stampForm),
		"Fault.FaultCode": "0", "Fault.FaultString": ""}
	if o.Reason != 0 {
		f := &Fault{Reason: o.Reason, Text: o.Text}
		args["Fault.FaultCode"], args["Fault.FaultString"] = strconv.Itoa(f.modelCode()), f.Error()
	}
	m.o.Engine.Emit(bridge.Event{Kind: bridge.EventModel, Path: object, Name: "DUStateChange!", Cause: o.By, Args: args})
}
