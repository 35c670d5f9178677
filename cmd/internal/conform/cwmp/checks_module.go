package conformcwmp

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"twinspan/cwmp/soap"
)

// moduleKeys switches the software modules of our agent on, where its build has them.
func (d *agentDriver) moduleKeys() string {
	if d.omits("omit_modules") {
		return ""
	}
	return "[[modules.environment]]\nname = \"conform\"\ntype = \"Conform\"\ndisk = 1000\n[[modules.environment]]\nname = \"spare\"\ntype = \"Conform\"\n"
}

// omits tells whether the agent was built with a tag that leaves a part out.
func (d *agentDriver) omits(tag string) bool {
	info, err := buildinfo.ReadFile(d.binary)
	return err != nil || slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool {
		return s.Key == "-tags" && slices.Contains(strings.Split(s.Value, ","), tag)
	})
}

const (
	unitUUID  = "7e2a2ac4-5a51-5ab6-9c4a-111111111111"
	otherUUID = "7e2a2ac4-5a51-5ab6-9c4a-222222222222"
)

// unit serves a deployment unit that this CPE takes.
func (b *bench) unit(ctx context.Context) (*fileServer, error) {
	if err := b.needRPC(ctx, "ChangeDUState"); err != nil {
		return nil, err
	}
	content := b.module
	if _, ours := b.driver.(*agentDriver); ours {
		content = []byte("twinspan-module 1\nname: conform\nversion: 1.0\nvendor: Conform\nunit: daemon\n\n")
	}
	if content == nil {
		return nil, notShown("the runner has no deployment unit that this CPE takes: name one by --du-file")
	}
	f, err := b.fileServer()
	if err == nil {
		f.serve(content)
	}
	return f, err
}

// changeUnits has operations carried out and returns what the CPE reports; the next session is held.
func (b *bench) changeUnits(ctx context.Context, key string, ops ...soap.DUOperation) (*soap.DUStateChangeComplete, error) {
	if _, err := b.newSession(ctx); err != nil {
		return nil, err
	}
	mark := b.tap.mark()
	if _, err := b.call(ctx, &soap.ChangeDUState{Operations: ops, CommandKey: key}); err != nil {
		return nil, err
	}
	b.endSession(ctx)
	b.holdNext()
	x, err := b.tap.wait(ctx, mark, func(x *exchange) bool { return x.method() == "DUStateChangeComplete" && !x.refused })
	if err != nil {
		return nil, errors.New("no DUStateChangeComplete")
	}
	var inform *soap.Inform
	for _, e := range b.tap.since(mark) {
		if e == x {
			break
		}
		if m := e.inform(); m != nil && !e.refused {
			inform = m
		}
	}
	b.observe("the session of DUStateChangeComplete: %s", events(inform))
	if !hasEvent(inform, "11 DU STATE CHANGE COMPLETE") || !hasKey(inform, "M ChangeDUState", key) {
		return nil, fmt.Errorf("DUStateChangeComplete came in a session with %s", events(inform))
	}
	m := x.Envelope.Body.(*soap.DUStateChangeComplete)
	if m.CommandKey != key || len(m.Results) != len(ops) {
		return nil, fmt.Errorf("DUStateChangeComplete %q has %d results instead of %d", m.CommandKey, len(m.Results), len(ops))
	}
	for i, r := range m.Results {
		b.observe("result %d: %s, fault %d %s", i+1, r.CurrentState, r.Fault.FaultCode, r.Fault.FaultString)
	}
	return m, b.tap.answered(ctx, x)
}

func wantUnit(r soap.DUResult, state string, code soap.FaultCode) error {
	if r.CurrentState != state || r.Fault.FaultCode != code {
		return fmt.Errorf("the result is %s with fault %d %s instead of %s with %d", r.CurrentState, r.Fault.FaultCode, r.Fault.FaultString, state, code)
	}
	if r.StartTime.IsZero() || r.CompleteTime.Before(r.StartTime) {
		return fmt.Errorf("the times are %v and %v", r.StartTime, r.CompleteTime)
	}
	return nil
}

var moduleChecks = map[string]check{
	"DU-01": {run: installUnit},
	"DU-02": {run: func(ctx context.Context, b *bench) error {
		f, err := b.unit(ctx)
		if err != nil {
			return err
		}
		m, err := b.changeUnits(ctx, "two", soap.DUOperation{Kind: soap.Install, UUID: otherUUID, URL: f.base + "/missing"}, soap.DUOperation{Kind: soap.Install, UUID: unitUUID, URL: f.base + "/ok"})
		if err != nil {
			return err
		}
		if m.Results[0].Fault.FaultCode != soap.CannotAccessFile && m.Results[0].Fault.FaultCode != soap.DownloadFailure {
			return fmt.Errorf("a file that is not there: %d", m.Results[0].Fault.FaultCode)
		}
		return errors.Join(wantUnit(m.Results[0], "Failed", m.Results[0].Fault.FaultCode), wantUnit(m.Results[1], "Installed", 0))
	}},
	"DU-03": {run: func(ctx context.Context, b *bench) error {
		if err := b.needRPC(ctx, "ChangeDUState"); err != nil {
			return err
		}
		m, err := b.changeUnits(ctx, "none", soap.DUOperation{Kind: soap.Uninstall, UUID: otherUUID}, soap.DUOperation{Kind: soap.Uninstall, UUID: "no-uuid"})
		if err != nil {
			return err
		}
		return errors.Join(wantUnit(m.Results[0], "Failed", soap.UnknownDU), wantUnit(m.Results[1], "Failed", soap.InvalidUUID))
	}},
	"DU-04": {run: func(ctx context.Context, b *bench) error {
		f, err := b.unit(ctx)
		if err != nil {
			return err
		}
		envs := b.root + "SoftwareModules.ExecEnv."
		ops := []soap.DUOperation{{Kind: soap.Install, UUID: unitUUID, URL: f.base + "/ok", ExecutionEnvRef: envs + "4711"}}
		disabled := b.has(ctx, envs+"2.Enable")
		if disabled {
			if err := b.set(ctx, "", envs+"2.Enable", "false"); err != nil {
				return err
			}
			ops = append(ops, soap.DUOperation{Kind: soap.Install, UUID: unitUUID, URL: f.base + "/ok", ExecutionEnvRef: envs + "2"})
		}
		m, err := b.changeUnits(ctx, "env", ops...)
		if err != nil {
			return err
		}
		if err := wantUnit(m.Results[0], "Failed", soap.UnknownExecutionEnv); err != nil {
			return err
		}
		if !disabled {
			return notShown("an unknown environment is fault 9023, seen; there is no second one that could be disabled")
		}
		return wantUnit(m.Results[1], "Failed", soap.DisabledExecutionEnv)
	}},
	"DU-08": {needs: []ability{canUSP}, run: reportedUnit},
}

func installUnit(ctx context.Context, b *bench) error {
	f, err := b.unit(ctx)
	if err != nil {
		return err
	}
	m, err := b.changeUnits(ctx, "one", soap.DUOperation{Kind: soap.Install, UUID: unitUUID, URL: f.base + "/ok"})
	if err != nil {
		return err
	}
	r := m.Results[0]
	if err := wantUnit(r, "Installed", 0); err != nil {
		return err
	}
	if !strings.EqualFold(r.UUID, unitUUID) || r.Version == "" || !r.Resolved {
		return fmt.Errorf("the result has UUID %q, version %q, resolved %v", r.UUID, r.Version, r.Resolved)
	}
	row := strings.TrimSuffix(r.DeploymentUnitRef, ".") + "."
	for name, want := range map[string]string{"UUID": r.UUID, "Status": "Installed", "Version": r.Version, "URL": f.base + "/ok", "ExecutionUnitList": r.ExecutionUnitRefList} {
		if err := b.wantValue(ctx, row+name, want); err != nil {
			return fmt.Errorf("DeploymentUnitRef %q: %w", r.DeploymentUnitRef, err)
		}
	}
	// The same again, and away with it.
	if m, err = b.changeUnits(ctx, "twice", soap.DUOperation{Kind: soap.Install, UUID: unitUUID, URL: f.base + "/ok"}, soap.DUOperation{Kind: soap.Uninstall, UUID: unitUUID}); err != nil {
		return err
	}
	if err := errors.Join(wantUnit(m.Results[0], "Failed", soap.DuplicateDU), wantUnit(m.Results[1], "Uninstalled", 0)); err != nil {
		return err
	}
	if b.has(ctx, row+"UUID") {
		return errors.New("an uninstalled unit keeps its row")
	}
	return nil
}

// reportedUnit lets USP install and uninstall, with the policy off, on, and on for something else.
func reportedUnit(ctx context.Context, b *bench) error {
	f, err := b.unit(ctx)
	if err != nil {
		return err
	}
	policy := b.ms("DUStateChangeComplPolicy.")
	if err := b.need(ctx, policy+"Enable"); err != nil {
		return err
	}
	install := func(uuid string) error {
		_, err := b.driver.Command(ctx, "Device.SoftwareModules.InstallDU()", "URL="+f.base+"/ok", "UUID="+uuid)
		return err
	}
	b.endSession(ctx)
	mark := b.tap.mark()
	if err := install(unitUUID); err != nil {
		return err
	}
	if err := b.noReport(ctx, mark); err != nil {
		return fmt.Errorf("with the policy off: %w", err)
	}
	if _, err := b.newSession(ctx); err != nil {
		return err
	}
	if err := b.set(ctx, "", policy+"Enable", "true", policy+"OperationTypeFilter", "Install", policy+"ResultTypeFilter", "Both"); err != nil {
		return err
	}
	b.endSession(ctx)
	mark = b.tap.mark()
	b.holdNext()
	if err := install(otherUUID); err != nil {
		return err
	}
	inform, err := b.inform(ctx, mark, "12 AUTONOMOUS DU STATE CHANGE COMPLETE", 10*time.Second)
	if err != nil {
		return err
	}
	x, err := b.tap.wait(ctx, b.after(inform), func(x *exchange) bool { return x.method() == "AutonomousDUStateChangeComplete" })
	if err != nil {
		return errors.New("no AutonomousDUStateChangeComplete")
	}
	list := x.Envelope.Body.(*soap.AutonomousDUStateChangeComplete).Results
	if len(list) != 1 || !strings.EqualFold(list[0].UUID, otherUUID) || list[0].OperationPerformed != "Install" {
		return fmt.Errorf("the report is %+v", list)
	}
	if err := wantUnit(list[0], "Installed", 0); err != nil {
		return err
	}
	b.observe("%s for a unit that USP installed", events(inform.inform()))
	b.endSession(ctx)
	mark = b.tap.mark()
	row := strings.TrimSuffix(list[0].DeploymentUnitRef, ".")
	if _, err := b.driver.Command(ctx, row+".Uninstall()"); err != nil {
		return err
	}
	if err := b.noReport(ctx, mark); err != nil {
		return fmt.Errorf("an operation that the filter leaves out: %w", err)
	}
	return nil
}

// noReport fails if the CPE reports a change of units on its own within a while; the status of an execution unit may well be a VALUE CHANGE.
func (b *bench) noReport(ctx context.Context, mark int) error {
	ctx, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
	defer cancel()
	x, err := b.tap.wait(ctx, mark, func(x *exchange) bool {
		return x.method() == "AutonomousDUStateChangeComplete" || x.inform() != nil && hasEvent(x.inform(), "12 AUTONOMOUS DU STATE CHANGE COMPLETE")
	})
	if err == nil {
		return fmt.Errorf("%s came", x.method())
	}
	return nil
}
