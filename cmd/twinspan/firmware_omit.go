//go:build omit_firmware

package main

import (
	"context"
	"errors"
	"log/slog"

	"twinspan/bridge"
	"twinspan/bridge/migration"
	"twinspan/cwmp"
	"twinspan/store"
	"twinspan/usp/agent"
)

// leftOut is what `twinspan version` says that this build lacks; the conformance runner reads it.
const leftOut = " without firmware"

// images: this agent was built without the banks (docs/decisions/0007).
type images struct{}

func openImages(_ context.Context, c *Config, _ *slog.Logger) (*images, error) {
	if c.Firmware.Banks != "" {
		return nil, errors.New(`firmware.banks: the banks are not in this build, which was made with omit_firmware`)
	}
	return nil, nil
}

func (*images) register(*bridge.Engine, *machine) error         { return nil }
func (*images) boot(b *agent.BootInfo) *agent.BootInfo          { return b }
func (*images) start(*bridge.Engine, *store.Store, func() bool) {}
func (*images) awaitReboot(context.Context)                     {}
func (*images) slot() migration.Slot                            { return nil }
func (*images) close() error                                    { return nil }
func (*images) installer(*bridge.Engine) cwmp.Installer         { return nil }
