//go:build omit_modules

package main

import (
	"context"
	"errors"
	"log/slog"

	"twinspan/bridge"
	"twinspan/cwmp"
)

// newModules refuses environments: this agent was built without them (docs/decisions/0007).
func (c *Config) newModules(*bridge.Engine, *cwmp.Options, *slog.Logger) (tell func(context.Context), restore func(context.Context) error, err error) {
	if len(c.Modules) > 0 {
		err = errors.New("modules: software modules are not in this build; make agent OMIT= builds one that has them")
	}
	return func(context.Context) {}, func(context.Context) error { return nil }, err
}
