//go:build !omit_modules

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"twinspan/bridge"
	"twinspan/bridge/modules"
	"twinspan/cwmp"
	"twinspan/cwmp/soap"
)

// softwareModules joins the simulated software modules to both heads.
type softwareModules struct{ m *modules.Modules }

var _ cwmp.ModuleOutcomes = softwareModules{}

// newModules builds the software modules that the configuration asks for; nil for none. Their commands are registered with the engine.
func (c *Config) newModules(engine *bridge.Engine, o *cwmp.Options, log *slog.Logger) (tell func(context.Context), restore func(context.Context) error, err error) {
	if len(c.Modules) == 0 {
		return func(context.Context) {}, func(context.Context) error { return nil }, nil
	}
	if _, ok := engine.Schema().Lookup("Device.SoftwareModules."); !ok {
		return nil, nil, errors.New("modules.environment: the profile does not have Device.SoftwareModules.")
	}
	dir := filepath.Join(c.Data, "modules")
	if err := os.RemoveAll(dir); err != nil { // packages of before the start
		return nil, nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	files := cwmp.NewTransferer(*o)
	opt := modules.Options{Engine: engine, Dir: dir, MaxSize: c.Limits.TransferBytes, Log: log.With("part", "modules"),
		Fetch: func(ctx context.Context, url, user, password string, limit int64, to *os.File) error {
			return fetchFault(files.Fetch(ctx, cwmp.FileRequest{URL: url, Username: user, Password: password, MaxSize: limit}, to))
		}}
	if opt.Environments, err = environments(c.Modules); err != nil {
		return nil, nil, err
	}
	m, err := modules.New(opt)
	if err != nil {
		return nil, nil, err
	}
	o.Modules = softwareModules{m}
	return m.Tell, m.Restore, engine.AddProvider(m)
}

// environments reads the tables [[modules.environment]]: name, type, vendor, version are texts, disk and memory KiB.
func environments(section map[string][]map[string]any) (out []modules.Environment, err error) {
	for key := range section {
		if key != "environment" {
			return nil, fmt.Errorf("unknown key modules.%s", key)
		}
	}
	for i, table := range section["environment"] {
		var e modules.Environment
		for key, v := range table {
			text, isText := v.(string)
			number, isNumber := v.(int64)
			if (key == "disk" || key == "memory") != isNumber || isNumber == isText || number < 0 || number > 1<<30 {
				return nil, fmt.Errorf("modules.environment[%d].%s = %v: cannot be used", i, key, v)
			}
			switch key {
			case "name":
				e.Name = text
			case "type":
				e.Type = text
			case "vendor":
				e.Vendor = text
			case "version":
				e.Version = text
			case "disk":
				e.Disk = int(number)
			case "memory":
				e.Memory = int(number)
			default:
				return nil, fmt.Errorf("unknown key modules.environment[%d].%s", i, key)
			}
		}
		out = append(out, e)
	}
	return out, nil
}

var fetchReasons = map[cwmp.TransferReason]modules.Reason{cwmp.TransferUnauthorized: modules.Unauthorized, cwmp.TransferNoServer: modules.NoServer,
	cwmp.TransferNoFile: modules.NoFile, cwmp.TransferIncomplete: modules.Incomplete, cwmp.TransferCorrupt: modules.Corrupted}

func fetchFault(err error) error {
	var t *cwmp.TransferError
	if err == nil || !errors.As(err, &t) {
		return err
	}
	reason, ok := fetchReasons[t.Reason]
	if !ok {
		reason = modules.Incomplete
	}
	return &modules.Fault{Reason: reason, Text: t.Text, Err: t.Err}
}

// Change implements cwmp.SoftwareModules.
func (s softwareModules) Change(ctx context.Context, op soap.DUOperation) (soap.DUResult, error) {
	kind := map[soap.DUOperationKind]modules.Kind{soap.Install: modules.Install, soap.Update: modules.Update, soap.Uninstall: modules.Uninstall}[op.Kind]
	return duResult(s.m.Do(ctx, modules.Request{ID: cwmp.OperationID(ctx), By: "cwmp", Kind: kind, UUID: op.UUID, Version: op.Version, URL: op.URL,
		User: op.Username, Password: op.Password, Env: op.ExecutionEnvRef}))
}

// Outcome implements cwmp.ModuleOutcomes.
func (s softwareModules) Outcome(id string) (soap.DUResult, error, bool) {
	res, ok := s.m.Outcome(id)
	out, err := duResult(res)
	return out, err, ok
}

// Forget implements cwmp.ModuleOutcomes.
func (s softwareModules) Forget(ctx context.Context, id string) { s.m.Forget(ctx, id) }

var duFaults = map[modules.Reason]soap.FaultCode{
	modules.InvalidArguments: soap.InvalidArguments, modules.NotSupportedArgs: soap.InvalidArguments, modules.Unauthorized: soap.TransferAuthFailure,
	modules.BadProtocol: soap.UnsupportedTransferProto, modules.NoServer: soap.CannotContactFileServer, modules.NoFile: soap.CannotAccessFile,
	modules.Incomplete: soap.CannotCompleteDownload, modules.Corrupted: soap.FileCorrupted, modules.InvalidUUID: soap.InvalidUUID,
	modules.UnknownEnv: soap.UnknownExecutionEnv, modules.DisabledEnv: soap.DisabledExecutionEnv, modules.Mismatch: soap.DUExecutionEnvMismatch,
	modules.Duplicate: soap.DuplicateDU, modules.Exhausted: soap.SystemResourcesExceeded, modules.UnknownUnit: soap.UnknownDU,
	modules.InvalidState: soap.InvalidDUState, modules.Downgrade: soap.DUDowngradeNotPermitted, modules.VersionMissing: soap.DUVersionNotSpecified,
	modules.VersionExists: soap.DUVersionExists,
}

// duResult gives the CWMP form of a result; the numbers of TR-069 A.5.1 are here only.
func duResult(r modules.Result) (soap.DUResult, error) {
	out := soap.DUResult{UUID: r.UUID, Version: r.Version, CurrentState: r.State, Resolved: r.Fault == nil, StartTime: r.Began, CompleteTime: r.Ended}
	out.DeploymentUnitRef, out.ExecutionUnitRefList = r.References()
	if r.Fault == nil {
		return out, nil
	}
	code, ok := duFaults[r.Fault.Reason]
	if !ok {
		code = soap.RequestDenied
	}
	return out, soap.NewFault(code, r.Fault.Error())
}
