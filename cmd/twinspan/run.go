package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"time"

	"twinspan/bridge"
	"twinspan/bridge/policy"
	"twinspan/bridge/vendor"
	"twinspan/cwmp"
	"twinspan/datamodel"
	"twinspan/datamodel/linux"
	"twinspan/store"
	"twinspan/usp"
	"twinspan/usp/agent"
	"twinspan/usp/agent/transport"
	"twinspan/usp/mtp"
)

// vendorDomain stands for the device maker's own domain until a maker builds with his; it is reserved for documentation.
const vendorDomain = "twinspan.example"

// settleTime is how long a start is given before its memory is handed back.
const settleTime = 3 * time.Second

// databaseName is the file in the data directory.
const databaseName = "twinspan.db"

func runAgent(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("run", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	configFile := fs.String("config", "", "configuration file")
	data := fs.String("data", "", "data directory, instead of the configured one")
	if err := fs.Parse(args); err != nil {
		return usageError{err.Error()}
	}
	if *configFile == "" || fs.NArg() > 0 {
		return usageError{"--config FILE is needed, and nothing else"}
	}
	c, err := loadConfig(*configFile)
	if err != nil {
		return err
	}
	if *data != "" {
		c.Data = *data
	}
	if err := c.checkMachine(); err != nil {
		return fmt.Errorf("%s: %w", *configFile, err)
	}
	tuneMemory()
	boot := &agent.BootInfo{Cause: "LocalReboot"}
	for {
		restart, err := c.serve(ctx, c.logger(), boot)
		if err != nil || restart == nil {
			return err
		}
		boot = restart
	}
}

// Memory of the garbage collector where the environment says nothing: collect rarely while the heap is small, often when it nears
// the limit. Devices with little memory set GOGC and GOMEMLIMIT (configs/systemd/twinspan.service).
const (
	defaultGOGC     = 200
	defaultMemLimit = 48 << 20 // bytes, soft
)

func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(defaultGOGC)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(defaultMemLimit)
	}
}

// serve runs the agent once: until the context ends, a part cannot go on, or a manager asks for a restart, which is then
// described by the returned BootInfo.
func (c *Config) serve(ctx context.Context, log *slog.Logger, boot *agent.BootInfo) (restart *agent.BootInfo, err error) {
	if err := dataDir(c.Data); err != nil {
		return nil, err
	}
	reportCorrupt(filepath.Join(c.Data, databaseName), log)
	db, err := store.Open(filepath.Join(c.Data, databaseName), store.Options{MaxSize: c.Limits.DatabaseBytes, JournalEntries: c.Limits.JournalEntries})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if lost := db.Recovered(); lost != nil {
		log.Warn("the newest commit was incomplete, the one before is in force", "reason", lost)
	}

	fw, err := openImages(ctx, c, log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, fw.close()) }()
	mig := &office{log: log.With("part", "migration")}
	engine, providers, live, err := c.newEngine(db, log, mig)
	// Providers outlive the engine, which asks them.
	defer func() { err = errors.Join(err, closeAll(providers)) }()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()

	// Heads and the machine's own commands register before the engine starts.
	m := newMachine(engine)
	if err := engine.AddProvider(m); err != nil {
		return nil, err
	}
	if err := fw.register(engine, m); err != nil {
		return nil, err
	}
	kept := keptBoot(db)
	if kept != nil {
		boot = kept
	}
	boot = fw.boot(boot)
	services, err := c.newServices(engine, log)
	if err != nil {
		return nil, err
	}
	uspAgent, err := c.newUSP(engine, log, boot, live, services.services())
	if err != nil {
		return nil, err
	}
	cpe, restoreModules, err := c.newCWMP(engine, log, fw, providers, uspAgent.Recover)
	if err != nil {
		return nil, err
	}
	if err := engine.Start(ctx); err != nil {
		return nil, err
	}
	if told := keptBoot(db); kept == nil && told != nil { // an import knows why this is the first start
		*boot, kept = *told, told
	}
	if err := restoreModules(ctx); err != nil {
		return nil, err
	}
	if live != nil {
		if err := live.Start(ctx); err != nil {
			return nil, err
		}
	}
	defer reloadOnHangup(ctx, live)()
	// What a restart ends is taken back here, before any manager can connect.
	work, stopWork := context.WithCancel(ctx)
	if err := mig.open(work, c, uspAgent.InContact, fw.slot()); err != nil {
		stopWork()
		return nil, err
	}
	defer func() { stopWork(); mig.close() }()
	if c.Bridge.MetricsListen != "" {
		done, err := serveMetrics(work, c.Bridge.MetricsListen, mig.m.WriteMetrics)
		if err != nil {
			return nil, err
		}
		defer done()
	}
	attachDiag(providers, db, cpe)
	fw.start(engine, db, uspAgent.InContact)
	// What starting took (decoding the model, reading the database) goes back to the system once the first sessions are through.
	settled := time.AfterFunc(settleTime, debug.FreeOSMemory)
	defer settled.Stop()
	if err := uspAgent.Start(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, uspAgent.Close()) }()
	mig.listening()
	if err := services.start(ctx, uspAgent, engine); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, services.close()) }()
	if kept != nil {
		if err := keepBoot(ctx, engine, nil); err != nil {
			log.Error("the reason of this start is told again at the next", "error", err)
		}
	}
	log.Info("agent started", "version", version, "endpoint", c.endpointID(), "phase", mig.m.Phase(), "data", c.Data)

	// The CWMP side runs here; a restart that a Controller or the command line asked for ends it.
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(m.restart, cancel)
	defer stop()
	err = cpe.Run(run)
	var r *cwmp.RestartError
	switch {
	case errors.As(err, &r):
		boot = bootAfter(r)
	case err != nil:
		return nil, err
	case m.restart.Err() != nil && ctx.Err() == nil:
		boot = m.boot
	default:
		log.Info("agent stopped")
		return nil, nil
	}
	log.Info("restarting", "cause", boot.Cause)
	if len(c.Hooks.Reboot) > 0 {
		if err := keepBoot(ctx, engine, boot); err != nil {
			log.Error("the reason of the reboot is not kept", "error", err)
		}
		if err := exec.CommandContext(ctx, c.Hooks.Reboot[0], c.Hooks.Reboot[1:]...).Run(); err != nil {
			log.Error("reboot hook failed, restarting the agent only", "error", err)
		} else {
			fw.awaitReboot(ctx)
		}
	}
	return boot, nil
}

// reportCorrupt tells at every start of databases that were kept aside: the start that met the damage failed with it, later ones
// begin from factory values so that the device stays manageable, but never without a word.
func reportCorrupt(path string, log *slog.Logger) {
	kept, err := filepath.Glob(path + ".corrupt-*")
	if err != nil || len(kept) == 0 {
		return
	}
	log.Error("a damaged database was kept aside; what it held is not in force", "files", kept, "remedy", "restore a backup, or remove the file")
}

// bootAfter says how USP calls a restart that the ACS asked for: to it both RPCs are remote triggers.
func bootAfter(r *cwmp.RestartError) *agent.BootInfo {
	cause := bridge.CauseRebootRPC
	if r.Cause.Kind == cwmp.RestartFactoryReset {
		cause = bridge.CauseFactoryResetRPC
	}
	boot := bootTold(cause, "", r.Error())
	boot.FirmwareUpdated = r.Cause.Kind == cwmp.RestartFirmware
	return boot
}

// newEngine loads profile and schema and builds the bridge. The providers are the caller's to close, also after an error.
func (c *Config) newEngine(db *store.Store, log *slog.Logger, mig *office) (*bridge.Engine, []datamodel.Provider, *policy.Live, error) {
	profile, err := c.loadProfile()
	if err != nil {
		return nil, nil, nil, err
	}
	schema, err := c.loadSchema(profile)
	if err != nil {
		return nil, nil, nil, err
	}
	prefix, err := vendor.Prefix(vendorDomain)
	if err != nil {
		return nil, nil, nil, err
	}
	content := mig.content()
	if err := vendor.Extend(schema.Root(), prefix, content); err != nil {
		return nil, nil, nil, err
	}
	arbiter, err := c.arbiter()
	if err != nil {
		return nil, nil, nil, err
	}
	providers, err := c.providers(profile, log, db)
	if err != nil {
		return nil, providers, nil, err
	}
	o := bridge.Options{Schema: schema, Profile: profile, Store: db, Providers: providers, Arbiter: arbiter, Log: log.With("part", "bridge")}
	c.arbitrationOptions(&o, prefix)
	if err := c.importOptions(&o, log); err != nil {
		return nil, providers, nil, err
	}
	engine, err := bridge.New(o)
	if err != nil {
		return nil, providers, nil, err
	}
	live, err := c.newPolicy(engine, db, log)
	if err != nil {
		return nil, providers, nil, err
	}
	mig.engine, mig.object = engine, vendor.Path(prefix)
	engine.OnConflict(mig.conflict)
	engine.OnWindow(mig.window)
	engine.OnOwnershipLost(mig.lost)
	if live != nil {
		live.OnReload(mig.reloaded)
	}
	own := vendor.New(engine, prefix, content)
	own.SetPolicy(live)
	return engine, providers, live, engine.AddProvider(own)
}

// closeAll closes the providers that have something to close.
func closeAll(providers []datamodel.Provider) error {
	var errs []error
	for _, p := range providers {
		if closer, ok := p.(io.Closer); ok {
			errs = append(errs, closer.Close())
		}
	}
	return errors.Join(errs...)
}

// providers builds those that the profile or the configuration names; without any, the real machine.
func (c *Config) providers(p *datamodel.Profile, log *slog.Logger, db *store.Store) ([]datamodel.Provider, error) {
	if len(p.Providers) == 0 {
		p.Providers = map[string]map[string]any{"linux": {}}
		if haveDiag {
			p.Providers["diag"] = map[string]any{}
		}
	}
	var out []datamodel.Provider
	if _, real := p.Providers["linux"]; !real { // which reports the identity itself
		out = append(out, newIdentity(c))
	}
	for _, name := range sortedKeys(p.Providers) {
		opts := p.Providers[name]
		switch name {
		case "linux":
			l, err := c.linuxProvider(opts, log)
			if err != nil {
				return out, err
			}
			out = append(out, l)
		case "diag":
			d, err := newDiag(opts, log, db)
			if err != nil {
				return out, err
			}
			out = append(out, d)
		case "sim":
			s, err := newSim(opts)
			if err != nil {
				return out, err
			}
			out = append(out, s)
		default:
			return out, fmt.Errorf("profile %s: unknown provider %q (there are linux, diag, sim)", p.Name, name)
		}
	}
	return out, nil
}

// linuxProvider reports the real machine, with the configured identity over what the machine says of itself.
func (c *Config) linuxProvider(opts map[string]any, log *slog.Logger) (datamodel.Provider, error) {
	o, err := linux.ParseOptions(opts)
	if err != nil {
		return nil, err
	}
	for _, v := range []struct {
		to   *string
		text string
	}{
		{&o.Manufacturer, c.Device.Manufacturer}, {&o.ManufacturerOUI, c.Device.ManufacturerOUI}, {&o.ProductClass, c.Device.ProductClass},
		{&o.ModelName, c.Device.ModelName}, {&o.SerialNumber, c.serial()}, {&o.HardwareVersion, c.Device.HardwareVersion}, {&o.SoftwareVersion, c.Device.SoftwareVersion},
	} {
		if v.text != "" {
			*v.to = v.text
		}
	}
	o.Log = log.With("part", "linux")
	return linux.New(o)
}

func (t TLSFiles) mtp() mtp.TLSFiles {
	return mtp.TLSFiles{CAFile: t.CAFile, CertFile: t.CertFile, KeyFile: t.KeyFile}
}

// timeKnown tells whether the clock was ever set.
func (c *Config) timeKnown() bool { return time.Now().After(c.Device.ClockKnownAfter) }

// newUSP builds the USP agent. With usp.enabled = false it serves the command line only.
func (c *Config) newUSP(engine *bridge.Engine, log *slog.Logger, boot *agent.BootInfo, live *policy.Live, services agent.Services) (*agent.Agent, error) {
	log = log.With("part", "usp")
	if err := c.USP.TLS.check(); err != nil {
		return nil, fmt.Errorf("usp.tls: %w", err)
	}
	roots, err := c.USP.TLS.mtp().Client()
	if err != nil {
		return nil, fmt.Errorf("usp.tls: %w", err)
	}
	limits := agent.Limits{Message: usp.DefaultLimits()}
	if n := c.Limits.RecordBytes; n > 0 {
		limits.Message.RecordSize = n
	}
	var factory agent.Factory
	files := c.USP.TLS.mtp()
	files.ClockSet = c.timeKnown // R-SEC.19
	factory, err = transport.New(transport.Config{TLS: files, MaxRecord: limits.Message.RecordSize, Log: log})
	if err != nil {
		return nil, fmt.Errorf("usp: %w", err)
	}
	if !c.USP.Enabled {
		factory = localOnly{factory}
	}
	return agent.New(agent.Options{
		EndpointID: c.endpointID(), Engine: engine, Factory: factory, Log: log, SoftwareVersion: c.Device.SoftwareVersion, Boot: boot, Limits: limits, Services: services, ServiceSocket: c.Services.listener(),
		Trust:    agent.TrustPolicy{AllowPlaintext: c.USP.AllowPlaintext, AllowBroker: c.USP.TrustBroker, AllowServerName: c.USP.TrustServerName, ClockSet: c.timeKnown, Roots: roots.RootCAs},
		Local:    &agent.LocalListener{Path: c.socket(), EndpointID: cliEndpoint},
		Classify: func(endpoint string, roles []string) string { return c.classOf(live, endpoint, roles) },
	})
}

// localOnly builds no transport to the outside.
type localOnly struct{ agent.Factory }

// New implements agent.Factory.
func (f localOnly) New(s agent.Spec) (mtp.Transport, error) {
	if s.Row != "" {
		return nil, errors.New("USP is switched off in the configuration")
	}
	return f.Factory.New(s)
}

// check reads the files once, so that a wrong one is told at the start.
func (t TLSFiles) check() error {
	if t.KeyFile != "" {
		if _, err := readSecret(t.KeyFile); err != nil {
			return fmt.Errorf("key_file: %w", err)
		}
	}
	_, err := t.mtp().Client()
	return err
}

// newCWMP builds the CPE and the software modules, which it shares with USP; restore is called once the engine runs, and
// recovered when the CPE hears what happens.
func (c *Config) newCWMP(engine *bridge.Engine, log *slog.Logger, fw *images, providers []datamodel.Provider, recovered func(context.Context)) (cpe *cwmp.CPE, restore func(context.Context) error, err error) {
	if err := c.CWMP.TLS.check(); err != nil {
		return nil, nil, fmt.Errorf("cwmp.tls: %w", err)
	}
	cfg, err := c.CWMP.TLS.mtp().Client()
	if err != nil {
		return nil, nil, fmt.Errorf("cwmp.tls: %w", err)
	}
	listen := c.CWMP.ConnectionRequest
	if listen == "" {
		listen = "off"
	}
	o := cwmp.Options{
		Engine: engine, DataDir: c.Data, Log: log, LogFile: logFile(providers), RootCAs: cfg.RootCAs, Certificates: cfg.Certificates, Listen: listen,
		UDPListen: c.CWMP.UDPListen, DiscoveryFiles: c.CWMP.DHCPFiles, MaxBody: int64(c.Limits.SOAPBytes), MaxDepth: c.Limits.SOAPDepth, MaxFileSize: c.Limits.TransferBytes, ReplyTimeout: time.Duration(c.CWMP.Timeout),
		TimeKnown: c.timeKnown, LegacyCiphers: c.CWMP.LegacyCiphers, AllowBasicOverHTTP: c.CWMP.BasicOverHTTP, ConnectionRequestHost: c.CWMP.ConnectionRequestHost,
	}
	if len(c.Hooks.Install) > 0 {
		o.Installer = &cwmp.ExecInstaller{Command: c.Hooks.Install, Restart: true}
	}
	if i := fw.installer(engine); i != nil {
		o.Installer = i
	}
	if o.Started, restore, err = c.newModules(engine, &o, log); err != nil {
		return nil, nil, err
	}
	modules := o.Started
	o.Started = func(ctx context.Context) {
		if modules != nil {
			modules(ctx)
		}
		recovered(ctx)
	}
	cpe, err = cwmp.New(o)
	return cpe, restore, err
}
