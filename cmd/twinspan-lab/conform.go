package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"twinspan/cmd/internal/acstool"
	"twinspan/cmd/internal/agentproc"
	"twinspan/cmd/internal/conform"
	conformcwmp "twinspan/cmd/internal/conform/cwmp"
	"twinspan/cmd/internal/conform/diff"
	"twinspan/cmd/internal/conform/usp"
)

// conformSuites are the test plans of `conform`.
var conformSuites = map[string]func(ctx context.Context, args []string) error{"usp": conformUSP, "cwmp": conformCWMP, "diff": conformDiff}

func runConform(ctx context.Context, args []string) error {
	if len(args) > 0 && conformSuites[args[0]] != nil {
		return conformSuites[args[0]](ctx, args[1:])
	}
	return errors.New("name the test plan: conform usp [options], conform cwmp [options] or conform diff [options]")
}

// conformCWMP runs the catalogue of TR-069 checks against a CPE.
func conformCWMP(ctx context.Context, args []string) error {
	return conformcwmp.Run(ctx, args, os.Stdout)
}

// runACS is the ACS as a tool.
func runACS(ctx context.Context, args []string) error {
	return acstool.Run(ctx, args, os.Stdin, os.Stdout)
}

// conformDiff compares the two faces of the agent.
func conformDiff(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("conform diff", flag.ContinueOnError)
	var cfg diff.Config
	fs.StringVar(&cfg.Only, "only", "", "rows or patterns, separated by commas: set-*,add")
	agentPath := fs.String("agent", "", "twinspan's agent binary, default: next to this program")
	jsonFile := fs.String("json", "", "write the report as JSON to this file, - for standard output")
	mdFile := fs.String("markdown", "", "write the report as Markdown to this file, - for standard output")
	if err := fs.Parse(args); err != nil {
		return err
	}
	binary, err := agentproc.Find(*agentPath)
	if err != nil {
		return err
	}
	out := io.Writer(os.Stdout)
	if *jsonFile == "-" || *mdFile == "-" {
		out = os.Stderr
	}
	cfg.Binary, cfg.Done = binary, usp.Print(out)
	report, err := diff.Run(ctx, cfg)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%s, %s: %s\n", report.Name, report.Target, report.Summary())
	return errors.Join(toFile(*jsonFile, report.JSON), toFile(*mdFile, report.Markdown), report.Err())
}

// conformUSP runs TP-469 against an agent.
func conformUSP(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("conform usp", flag.ContinueOnError)
	var cfg usp.Config
	fs.StringVar(&cfg.MTP, "mtp", "mqtt", "MTP to test over: mqtt or ws")
	fs.StringVar(&cfg.Only, "only", "", "ids or patterns, separated by commas: 1.20,2.*")
	fs.StringVar(&cfg.Features, "features", "", "optional features that the agent claims, by the plan's numbers; default: those of twinspan")
	fs.StringVar(&cfg.Broker, "broker", "", "host:port of a broker that runs already, or mosquitto to start one with TLS (mqtt); default: an embedded one")
	fs.StringVar(&cfg.BrokerCA, "broker-ca", "", "PEM file of the authority of the broker's certificate; the broker then speaks TLS")
	fs.IntVar(&cfg.Lanes, "lanes", 0, "agents that wait beside each other in slow tests, default 6")
	fs.BoolVar(&cfg.Quick, "quick", false, "leave out tests that wait for longer than a few seconds")
	listen := fs.String("listen", "", "addresses where Controllers 1 and 2 listen (ws), separated by a comma; default: any on loopback")
	agentPath := fs.String("agent", "", "twinspan's agent binary, default: next to this program")
	command := fs.String("agent-command", "", "shell command that runs another agent until SIGTERM; its setting comes in CONFORM_ variables")
	running := fs.Bool("agent-running", false, "the agent runs already and is not restarted by the runner")
	fs.StringVar(&cfg.AgentID, "agent-id", "os::00005E-CONFORM1", "Endpoint ID of the agent")
	fs.StringVar(&cfg.AgentTopic, "agent-topic", "", "topic where an agent that the runner does not configure listens (mqtt)")
	images := fs.String("firmware", "", "files with two different firmware images for another agent, separated by a comma (9.3 to 9.8); default: those of simulated banks")
	fs.StringVar(&cfg.FirmwareListen, "firmware-listen", "", "address where images are served, default: any on loopback")
	list := fs.Bool("list", false, "list the tests of the plan and end")
	jsonFile := fs.String("json", "", "write the report as JSON to this file, - for standard output")
	mdFile := fs.String("markdown", "", "write the report as Markdown to this file, - for standard output")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *list {
		return listChecks(os.Stdout)
	}
	if *listen != "" {
		cfg.Listen = strings.Split(*listen, ",")
	}
	if *images != "" {
		cfg.Firmware = strings.Split(*images, ",")
	}
	switch {
	case *command != "" || *running:
		cfg.Agent = usp.Command(*command)
	default:
		binary, err := agentproc.Find(*agentPath)
		if err != nil {
			return err
		}
		cfg.Agent = usp.Process(binary)
		if cfg.Features == "" {
			if cfg.Features, err = usp.FeaturesOf(ctx, binary); err != nil {
				return err
			}
		}
	}
	out := io.Writer(os.Stdout)
	if *jsonFile == "-" || *mdFile == "-" {
		out = os.Stderr
	}
	cfg.Done = usp.Print(out)
	report, err := usp.Run(ctx, cfg)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%s, %s: %s\n", report.Name, report.Target, report.Summary())
	return errors.Join(toFile(*jsonFile, report.JSON), toFile(*mdFile, report.Markdown), report.Err())
}

func listChecks(w io.Writer) error {
	all, err := usp.Catalogue()
	if err != nil {
		return err
	}
	for _, c := range all {
		if err := conform.Line(w, conform.Result{Check: c}); err != nil {
			return err
		}
	}
	return nil
}

// toFile writes a report; an empty name writes nothing.
func toFile(name string, write func(io.Writer) error) error {
	switch name {
	case "":
		return nil
	case "-":
		return write(os.Stdout)
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
