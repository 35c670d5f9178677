package usp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Mosquitto as Config.Broker starts a mosquitto with TLS for each lane.
const Mosquitto = "mosquitto"

// mosquitto is a real broker as a child process.
type mosquitto struct {
	Port  int
	child *child
	out   output
}

// startMosquitto runs a broker that accepts TLS 1.2 or later only, with a certificate of the authority.
func startMosquitto(ctx context.Context, dir string, a *authority) (*mosquitto, error) {
	binary, err := exec.LookPath("mosquitto")
	if err != nil {
		const debian = "/usr/sbin/mosquitto" // which is not on everybody's PATH
		if _, err := os.Stat(debian); err != nil {
			return nil, errors.New("mosquitto is not installed")
		}
		binary = debian
	}
	m := &mosquitto{}
	if m.Port, err = freePort(); err != nil {
		return nil, err
	}
	cert, key, conf := filepath.Join(dir, "broker.pem"), filepath.Join(dir, "broker.key"), filepath.Join(dir, "mosquitto.conf")
	if err := saveCertificate(a.server.Certificates[0], cert, key); err != nil {
		return nil, err
	}
	text := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\ncafile %s\ncertfile %s\nkeyfile %s\ntls_version tlsv1.2\nlog_type error\nuser root\n",
		m.Port, a.caFile, cert, key)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, err
	}
	if m.child, err = spawn(exec.Command(binary, "-c", conf), &m.out); err != nil {
		return nil, err
	}
	err = within(ctx, 5*time.Second, func(ctx context.Context) error {
		d := tls.Dialer{Config: a.client}
		for {
			c, err := d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", fmt.Sprint(m.Port)))
			if err == nil {
				return c.Close()
			}
			if sleep(ctx, 20*time.Millisecond) != nil {
				return fmt.Errorf("mosquitto does not listen: %w; %s", err, lastBytes(m.out.String(), 300))
			}
		}
	})
	if err != nil {
		_ = m.Close()
		return nil, err
	}
	return m, nil
}

// Close ends the broker.
func (m *mosquitto) Close() error { return m.child.stop(context.Background()) }
