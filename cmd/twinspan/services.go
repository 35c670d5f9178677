//go:build !omit_broker

package main

import (
	"context"
	"fmt"
	"log/slog"

	"twinspan/bridge"
	"twinspan/usp"
	"twinspan/usp/agent"
	"twinspan/usp/broker"
)

// serviceBroker is the USP Broker, where it is configured.
type serviceBroker struct{ b *broker.Broker }

// newServices builds the USP Broker; without [services] it does nothing.
func (c *Config) newServices(engine *bridge.Engine, log *slog.Logger) (serviceBroker, error) {
	s := &c.Services
	if !s.Enabled {
		return serviceBroker{}, nil
	}
	limits := broker.Limits{Services: s.Max, Message: usp.DefaultLimits()}
	if n := c.Limits.RecordBytes; n > 0 {
		limits.Message.RecordSize = n
	}
	b, err := broker.New(broker.Options{EndpointID: c.endpointID(), Socket: s.Socket, Mode: s.mode(), Log: log.With("part", "services"), Limits: limits})
	if err != nil {
		return serviceBroker{}, fmt.Errorf("services: %w", err)
	}
	return serviceBroker{b}, engine.AddProvider(b)
}

// listener is where Controllers of Services connect, nil for nowhere.
func (s *ServicesConfig) listener() *agent.ServiceListener {
	if !s.Enabled || s.ControllerSocket == "" {
		return nil
	}
	return &agent.ServiceListener{Path: s.ControllerSocket, Mode: uint32(s.mode()), Role: s.ControllerRole}
}

// services is for agent.Options: nil without a Broker.
func (s serviceBroker) services() agent.Services {
	if s.b == nil {
		return nil
	}
	return s.b
}

func (s serviceBroker) start(ctx context.Context, a *agent.Agent, e *bridge.Engine) error {
	if s.b == nil {
		return nil
	}
	return s.b.Start(ctx, a, e)
}

func (s serviceBroker) close() error {
	if s.b == nil {
		return nil
	}
	return s.b.Close()
}
