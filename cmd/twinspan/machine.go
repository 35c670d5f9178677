package main

import (
	"context"
	"encoding/json"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/store"
	"twinspan/usp/agent"
)

// answerTime is left to the answer of a command that cuts the link it came over.
const answerTime = 500 * time.Millisecond

// machine carries out Device.Reboot() and Device.FactoryReset(): it ends the running agent, which then starts anew, through
// the reboot hook if there is one.
type machine struct {
	engine  *bridge.Engine
	restart context.Context // ends when a restart was asked for
	cancel  context.CancelFunc
	boot    *agent.BootInfo // valid after that
}

var (
	_ datamodel.Provider  = (*machine)(nil)
	_ datamodel.Commander = (*machine)(nil)
)

func newMachine(e *bridge.Engine) *machine {
	m := &machine{engine: e}
	m.restart, m.cancel = context.WithCancel(context.Background())
	return m
}

// Name implements datamodel.Provider.
func (*machine) Name() string { return "machine" }

// Serves implements datamodel.Provider.
func (*machine) Serves() []string { return nil }

// Read implements datamodel.Provider.
func (*machine) Read(context.Context, datamodel.ObjectRef, []string, func(name, value string)) error {
	return nil
}

// Commands implements datamodel.Commander.
func (*machine) Commands() []string { return []string{"Device.Reboot()", "Device.FactoryReset()"} }

// Run implements datamodel.Commander. The bridge grants one such command at a time.
func (m *machine) Run(ctx context.Context, inv datamodel.Invocation) (map[string]string, error) {
	if m.restart.Err() != nil {
		return nil, datamodel.Fail(datamodel.Resources, inv.Command, "a restart is under way")
	}
	boot := bootFor(ctx, bridge.CauseReboot, bridge.CauseLocalReboot, inv.Args["Reason"])
	if inv.Command == "Device.FactoryReset()" {
		boot = bootFor(ctx, bridge.CauseFactoryReset, bridge.CauseLocalFactoryReset, inv.Args["Reason"])
		if err := m.engine.FactoryReset(ctx, sysWriter("factory")); err != nil {
			return nil, err
		}
	}
	m.boot = boot
	time.AfterFunc(answerTime, m.cancel)
	return nil, nil
}

// bootFor describes a restart that the command in ctx asks for: a Controller's, or that of somebody at the device, whose key
// the program invented.
func bootFor(ctx context.Context, remote, local bridge.Cause, reason string) *agent.BootInfo {
	endpoint, key, _ := agent.Caller(ctx)
	if endpoint == cliEndpoint {
		remote = local
	}
	return bootTold(remote, key, reason)
}

// bootTold is what Boot! says after a restart with a cause.
func bootTold(c bridge.Cause, key, reason string) *agent.BootInfo {
	row := bridge.Told(c)
	if !row.Key {
		key = ""
	}
	return &agent.BootInfo{Cause: row.Boot, CommandKey: key, Reason: reason}
}

// bootBucket holds, under bootKey, why the next start happens: what Boot! tells must outlive the process when the reboot
// hook really reboots the machine.
const (
	bootBucket = "machine/boot"
	bootKey    = "next"
)

func sysWriter(part string) bridge.Writer {
	return bridge.Writer{Name: "sys:" + part, Class: bridge.ClassSys, System: true}
}

// bootRecord is the reason of the next start as it is kept; nil removes it.
func bootRecord(boot *agent.BootInfo) (rec bridge.Record, err error) {
	rec = bridge.Record{Bucket: bootBucket, Key: bootKey}
	if boot != nil {
		rec.Data, err = json.Marshal(boot)
	}
	return rec, err
}

// keepBoot writes the reason of a restart down; nil removes it.
func keepBoot(ctx context.Context, e *bridge.Engine, boot *agent.BootInfo) error {
	rec, err := bootRecord(boot)
	if err != nil {
		return err
	}
	_, err = e.Apply(ctx, sysWriter("boot"), bridge.Change{Ref: "boot", Atomic: true, Records: []bridge.Record{rec}})
	return err
}

// keptBoot reads the reason that was written down before this start, if there is one.
func keptBoot(db *store.Store) *agent.BootInfo {
	data, ok, err := db.Record(bootBucket, bootKey)
	if err != nil || !ok {
		return nil
	}
	boot := new(agent.BootInfo)
	if json.Unmarshal(data, boot) != nil {
		return nil // of another version: the start is a plain one
	}
	return boot
}
