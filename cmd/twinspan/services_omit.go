//go:build omit_broker

package main

import (
	"context"
	"errors"
	"log/slog"

	"twinspan/bridge"
	"twinspan/usp/agent"
)

type serviceBroker struct{}

// newServices refuses: this agent was built without the USP Broker (docs/decisions/0007).
func (c *Config) newServices(*bridge.Engine, *slog.Logger) (serviceBroker, error) {
	if c.Services.Enabled {
		return serviceBroker{}, errors.New("services.enabled = true: the USP Broker is not in this build; make agent OMIT= builds one that has it")
	}
	return serviceBroker{}, nil
}

func (*ServicesConfig) listener() *agent.ServiceListener { return nil }

func (serviceBroker) services() agent.Services                                  { return nil }
func (serviceBroker) start(context.Context, *agent.Agent, *bridge.Engine) error { return nil }
func (serviceBroker) close() error                                              { return nil }
