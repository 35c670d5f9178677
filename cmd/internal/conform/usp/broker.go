package usp

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

// script is how the embedded broker behaves beyond what a broker does, and what it saw.
type script struct {
	mochi.HookBase
}

// broker is an embedded MQTT broker on loopback.
type broker struct {
	server *mochi.Server
	Host   string
	Port   int
}

func startBroker(conf *tls.Config, s *script) (*broker, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	if conf != nil {
		l = tls.NewListener(l, conf)
	}
	opt := &mochi.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	srv := mochi.New(opt)
	if err := srv.AddHook(new(auth.AllowHook), nil); err != nil {
		return nil, err
	}
	if err := srv.AddHook(s, nil); err != nil {
		return nil, err
	}
	if err := srv.AddListener(listeners.NewNet("loopback", l)); err != nil {
		return nil, err
	}
	if err := srv.Serve(); err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	return &broker{server: srv, Host: "127.0.0.1", Port: port}, nil
}

// Close disconnects all clients and joins the broker's goroutines.
func (b *broker) Close() error { return b.server.Close() }
