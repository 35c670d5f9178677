package main

import (
	"context"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
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
	boot := &agent.BootInfo{Cause: "RemoteReboot", Reason: inv.Args["Reason"]}
	if inv.Command == "Device.FactoryReset()" {
		boot.Cause = "RemoteFactoryReset"
		if err := m.engine.FactoryReset(ctx, bridge.Writer{Name: "sys:factory", Class: bridge.ClassSys, System: true}); err != nil {
			return nil, err
		}
	}
	m.boot = boot
	time.AfterFunc(answerTime, m.cancel)
	return nil, nil
}
