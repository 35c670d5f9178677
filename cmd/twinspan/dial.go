package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"twinspan/usp/controller"
	"twinspan/usp/mtp/uds"
	"twinspan/usp/uspmsg"
)

// cliEndpoint is who the command line is to the agent; the socket's file mode decides who may be it.
const cliEndpoint = "self::cli"

// connectTimeout bounds the handshake with the agent on the same machine.
const connectTimeout = 5 * time.Second

// dial connects to the agent's socket. onNotify may be nil. The returned function hangs up and joins what dial started.
func dial(ctx context.Context, socket string, onNotify func(*uspmsg.Notify)) (requester, func(), error) {
	if _, err := os.Stat(socket); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errUnreachable, err)
	}
	cfg := uds.DefaultClientConfig()
	cfg.Path, cfg.EndpointID, cfg.MaxRecord = socket, cliEndpoint, 16<<20
	t, err := uds.NewClient(cfg)
	if err != nil {
		return nil, nil, err
	}
	c, err := controller.New(controller.Config{EndpointID: cliEndpoint, Transport: t, OnNotify: onNotify})
	if err != nil {
		return nil, nil, err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx)) // notifications may be wanted while ctx ends
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(run) }) // a client transport ends with its context only
	done := func() { cancel(); wg.Wait() }
	up, upDone := context.WithTimeout(ctx, connectTimeout)
	defer upDone()
	if err := c.WaitUp(up); err != nil {
		done()
		return nil, nil, fmt.Errorf("%w at %s: %w", errUnreachable, socket, err)
	}
	return c, done, nil
}
