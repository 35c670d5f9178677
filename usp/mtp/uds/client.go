package uds

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"time"

	"twinspan/usp"
	"twinspan/usp/mtp"
)

// maxPath is what a socket address of Linux holds.
const maxPath = 107

// ClientConfig of a side that connects.
type ClientConfig struct {
	Path       string // of the socket
	EndpointID string // our own
	// RetryMin and RetryMax bound the random wait before a reconnect; it does not grow. R-UDS.5
	RetryMin, RetryMax time.Duration
	// HandshakeTimeout is how long the server may take to answer. R-UDS.18
	HandshakeTimeout time.Duration
	MaxRecord        int // bytes, both directions
}

// DefaultClientConfig has everything but Path and EndpointID.
func DefaultClientConfig() ClientConfig {
	return ClientConfig{RetryMin: time.Second, RetryMax: 5 * time.Second, HandshakeTimeout: 30 * time.Second,
		MaxRecord: usp.DefaultLimits().RecordSize}
}

// Validate reports what can never work.
func (c ClientConfig) Validate() error {
	if c.RetryMin <= 0 || c.RetryMax < c.RetryMin {
		return fmt.Errorf("uds: retry from %s to %s is not a range", c.RetryMin, c.RetryMax)
	}
	return checkCommon(c.Path, c.EndpointID, c.HandshakeTimeout, c.MaxRecord)
}

func checkCommon(path, id string, handshake time.Duration, maxRecord int) error {
	if path == "" || len(path) > maxPath {
		return fmt.Errorf("uds: socket path %q is empty or longer than %d bytes", path, maxPath)
	}
	if err := usp.CheckForeignID(id); err != nil {
		return fmt.Errorf("uds: own endpoint id: %w", err)
	}
	if handshake <= 0 {
		return fmt.Errorf("uds: handshake timeout %s is not positive", handshake)
	}
	if maxRecord < 512 {
		return fmt.Errorf("uds: record limit %d is below 512 bytes", maxRecord)
	}
	return nil
}

// Client is one connection that is kept up. It implements mtp.Transport.
type Client struct {
	cfg  ClientConfig
	link atomic.Pointer[link]
}

var _ mtp.Transport = (*Client)(nil)

// NewClient checks the configuration; Run connects.
func NewClient(cfg ClientConfig) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Client{cfg: cfg}, nil
}

// Run implements mtp.Transport.
func (c *Client) Run(ctx context.Context, h mtp.Handler, onState func(mtp.State)) error {
	for ctx.Err() == nil {
		l, err := c.dial(ctx)
		if ctx.Err() != nil {
			if l != nil {
				l.nc.Close()
			}
			break
		}
		if err != nil {
			onState(mtp.State{Reason: err.Error()})
		} else {
			c.link.Store(l)
			l.serve(ctx, h, func(s mtp.State) {
				if !s.Up {
					c.link.Store(nil)
				}
				onState(s)
			})
		}
		select { // R-UDS.5
		case <-time.After(c.cfg.RetryMin + rand.N(c.cfg.RetryMax-c.cfg.RetryMin+1)):
		case <-ctx.Done():
		}
	}
	return nil
}

// Send implements mtp.Transport; dest is ignored.
func (c *Client) Send(ctx context.Context, _ string, record []byte) error {
	l := c.link.Load()
	if l == nil {
		return mtp.ErrNotConnected
	}
	return l.send(ctx, record)
}

func (c *Client) dial(ctx context.Context) (*link, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", c.cfg.Path) // R-UDS.4
	if err != nil {
		return nil, fmt.Errorf("cannot connect: %w", err)
	}
	unhook := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	defer unhook()
	if err := writeNow(nc, tlvHandshake, c.cfg.EndpointID); err != nil { // R-UDS.16
		nc.Close()
		return nil, fmt.Errorf("cannot send the handshake: %w", err)
	}
	nc.SetReadDeadline(time.Now().Add(c.cfg.HandshakeTimeout)) // R-UDS.18
	br := bufio.NewReaderSize(nc, 4096)
	claimed, err := awaitHandshake(br, c.cfg.MaxRecord)
	if err != nil {
		if errors.Is(err, errFrame) {
			writeNow(nc, tlvError, clipText(err.Error())) // R-UDS.21
		}
		nc.Close()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, fmt.Errorf("no handshake within %s", c.cfg.HandshakeTimeout)
		}
		return nil, fmt.Errorf("handshake failed: %w", err)
	}
	nc.SetDeadline(time.Time{})
	return newLink(nc, br, claimed, c.cfg.MaxRecord), nil
}
