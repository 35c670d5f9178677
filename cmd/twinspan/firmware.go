//go:build !omit_firmware

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"twinspan/bridge"
	"twinspan/bridge/migration"
	"twinspan/cwmp"
	"twinspan/datamodel/firmware"
	"twinspan/datamodel/webfile"
	"twinspan/store"
	"twinspan/usp/agent"
)

// leftOut is what `twinspan version` says that this build lacks.
const leftOut = ""

// images are the device's firmware banks; nil where none are configured.
type images struct {
	m         *firmware.Manager
	engine    *bridge.Engine
	machine   *machine
	inContact func() bool
	simulated bool
}

// tellTime is left to what has to be told before a restart into another image: the end of the command and of its transfer.
const tellTime = 2 * time.Second

// hookTime bounds one call of the program for the banks at the start.
const hookTime = time.Minute

// openImages looks at the banks. The version of the running image becomes that of the device.
func openImages(ctx context.Context, c *Config, log *slog.Logger) (*images, error) {
	if c.Firmware.Banks == "" {
		return nil, nil
	}
	tls, err := c.Firmware.TLS.mtp().Client()
	if err == nil {
		err = c.Firmware.TLS.check()
	}
	if err != nil {
		return nil, fmt.Errorf("firmware.tls: %w", err)
	}
	i := &images{simulated: c.Firmware.Banks == "simulated"}
	dir := filepath.Join(c.Data, "firmware")
	o := firmware.Options{Dir: dir, MaxSize: c.Limits.TransferBytes, Confirm: firmware.DefaultConfirm, Restart: i.restart,
		Fetch: webfile.New(tls.RootCAs, tls.Certificates).Fetch, Reached: func() bool { return i.inContact() }, Log: log.With("part", "firmware")}
	if d := c.Firmware.ConfirmWithin; d != nil {
		o.Confirm = time.Duration(*d)
	}
	if ask := c.Firmware.Ask; len(ask) > 0 {
		o.Ask = func(ctx context.Context, message string) (bool, error) {
			if strings.HasPrefix(message, "-") { // a manager's text must not become an option of the program
				message = " " + message
			}
			return yes(ctx, ask, message)
		}
	}
	if idle := c.Firmware.Idle; len(idle) > 0 {
		o.Idle = func(ctx context.Context) bool {
			is, err := yes(ctx, idle)
			if err != nil {
				o.Log.Warn("the program that knows whether the device is idle does not run", "error", err)
			}
			return is
		}
	}
	if i.simulated {
		o.Banks, err = firmware.OpenSimulated(filepath.Join(dir, "banks"), c.Device.SoftwareVersion)
	} else {
		o.Banks, err = firmware.NewHook(c.Firmware.Command)
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, hookTime)
	defer cancel()
	if i.m, err = firmware.New(ctx, o); err != nil {
		return nil, err
	}
	if v := i.m.Version(); v != "" {
		c.Device.SoftwareVersion = v
	}
	return i, nil
}

// yes runs a program; exit status 0 is a yes, others are a no.
func yes(ctx context.Context, command []string, args ...string) (bool, error) {
	cmd := exec.CommandContext(ctx, command[0], append(append([]string(nil), command[1:]...), args...)...)
	cmd.WaitDelay = time.Second // for children that keep its output open
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return false, nil
	}
	return err == nil, err
}

// register makes the banks a provider of the engine, which has not started.
func (i *images) register(e *bridge.Engine, m *machine) error {
	if i == nil {
		return nil
	}
	i.engine, i.machine = e, m
	return e.AddProvider(i.m)
}

// boot says in Boot! whether another image runs.
func (i *images) boot(b *agent.BootInfo) *agent.BootInfo {
	if i == nil {
		return b
	}
	c := *b
	c.FirmwareUpdated = i.m.Updated()
	return &c
}

// start proves a new image: a manager must be reached.
func (i *images) start(e *bridge.Engine, db *store.Store, inContact func() bool) {
	if i == nil {
		return
	}
	i.inContact = inContact
	i.m.Attach(func(path string) string { l, _ := db.Head().Leaf(path); return l.Value })
	e.AlsoObserve(func(o bridge.Observation) {
		if o.OK && (o.Kind == bridge.SawSession || o.Kind == bridge.SawController && o.Class == bridge.ClassMain) {
			i.m.Contact()
		}
	})
	i.m.Start()
}

// slot is the firmware before this one for a migration that has lost its Controllers; nil without banks.
func (i *images) slot() migration.Slot {
	if i == nil {
		return nil
	}
	return i.m
}

// restart implements firmware.Options.Restart.
func (i *images) restart(ctx context.Context, reason string, fallback bool) {
	boot := bootFor(ctx, bridge.CauseReboot, bridge.CauseLocalReboot, reason)
	if fallback {
		boot.Cause = "LocalReboot"
	}
	i.machine.boot = boot
	time.AfterFunc(tellTime, i.machine.cancel)
}

// awaitReboot gives the reboot hook time to do what it was called for: an agent that starts meanwhile would take the old image for the
// verdict on the new one.
func (i *images) awaitReboot(ctx context.Context) {
	if i == nil || i.simulated || !i.m.Pending() {
		return
	}
	t := time.NewTimer(2 * time.Minute)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func (i *images) close() error {
	if i == nil {
		return nil
	}
	return i.m.Close()
}

// bankInstaller puts what the ACS downloads into the same banks.
type bankInstaller struct {
	*firmware.Manager
	engine *bridge.Engine
}

var _ cwmp.Affecter = bankInstaller{}

func (i *images) installer(e *bridge.Engine) cwmp.Installer {
	if i == nil {
		return nil
	}
	return bankInstaller{i.m, e}
}

// Install implements cwmp.Installer.
func (b bankInstaller) Install(ctx context.Context, image cwmp.Image) (bool, error) {
	free, err := b.engine.Hold("fw", "cwmp")
	if err != nil {
		return false, &cwmp.TransferError{Reason: cwmp.TransferFailed, Text: "somebody else is working on the firmware", Err: err}
	}
	defer free()
	restart, err := b.Manager.Install(ctx, image.Path, image.CommandKey)
	switch {
	case errors.Is(err, firmware.ErrImage):
		return false, &cwmp.TransferError{Reason: cwmp.TransferCorrupt, Text: "the file is no image of this device", Err: err}
	case err != nil:
		return false, &cwmp.TransferError{Reason: cwmp.TransferFailed, Text: err.Error(), Err: err}
	}
	return restart, nil
}

// Installed implements cwmp.Installer.
func (b bankInstaller) Installed(_ context.Context, commandKey string) error {
	if err := b.Manager.Installed(commandKey); err != nil {
		return &cwmp.TransferError{Reason: cwmp.TransferFailed, Text: err.Error()}
	}
	return nil
}
