package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"time"

	"twinspan/usp/service/clock"
)

// runService runs the example of a USP Service until it is interrupted.
func runService(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("service", flag.ContinueOnError)
	socket := fs.String("socket", "/var/run/usp/broker_controller_path", "socket of the agent's USP Broker ([services] of its configuration)")
	endpoint := fs.String("endpoint", "self::clock", "Endpoint ID of the service")
	tick := fs.Duration("tick", 10*time.Second, "time between two Tick! events, 0 for none")
	verbose := fs.Bool("v", false, "log what happens")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unknown argument %q", fs.Arg(0))
	}
	level := slog.LevelError
	if *verbose {
		level = slog.LevelDebug
	}
	k, err := clock.New(clock.Config{EndpointID: *endpoint, Socket: *socket, Tick: *tick,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})),
		OnRegistered: func(err error) {
			if err != nil {
				fmt.Println(err)
				return
			}
			fmt.Println("registered", clock.Path)
		}})
	if err != nil {
		return err
	}
	if err := k.Start(context.WithoutCancel(ctx)); err != nil { // Close says goodbye to the Broker
		return err
	}
	<-ctx.Done()
	return k.Close()
}
