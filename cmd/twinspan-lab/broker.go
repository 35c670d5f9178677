package main

import (
	"fmt"
	"io"
	"log/slog"
	"net"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

// broker is an embedded MQTT 5 broker on loopback, for the sandbox and the benches only: it lets everybody in.
type broker struct {
	server *mqtt.Server
	Host   string
	Port   int
}

func startBroker() (*broker, error) {
	// The listener is opened here so that its port is known and taken before anybody is told.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	// Quality of service 0 only: this broker can lock itself up under QoS 1 load in both directions. A client lowers its own to what
	// CONNACK says; over loopback nothing is lost.
	capabilities := mqtt.NewDefaultServerCapabilities()
	capabilities.MaximumQos = 0
	s := mqtt.New(&mqtt.Options{Capabilities: capabilities, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := s.AddHook(new(auth.AllowHook), nil); err != nil {
		return nil, err
	}
	if err := s.AddListener(listeners.NewNet("loopback", l)); err != nil {
		return nil, err
	}
	if err := s.Serve(); err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	return &broker{server: s, Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port}, nil
}

// Close disconnects all clients and joins the broker's goroutines.
func (b *broker) Close() error { return b.server.Close() }
