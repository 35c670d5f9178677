package sim

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"twinspan/datamodel"
)

// Configure reads the options that a device profile has for this provider:
//
//	[providers.sim.values]      # constants, or counters as "counter <start> <per second>", or "uptime"
//	"Device.DeviceInfo.SoftwareVersion" = "1.0"
//	"Device.DeviceInfo.UpTime" = "uptime"
//	"Device.Ethernet.Interface.{i}.Stats.BytesSent" = "counter 0 1500"
//
//	[providers.sim.follow]      # status = "<enable> <on> <off> [delay]"
//	"Device.Ethernet.Interface.{i}.Status" = "Enable Up Down 50ms"
//
//	[providers.sim.rows]        # listed tables with their rows
//	"Device.Hosts.Host." = [1, 2]
//
//	[providers.sim.commands."Device.IP.Diagnostics.IPPing()"]
//	takes = "2s"
//	fault = ""                  # a text makes the command fail with it
//	output = { Status = "Complete", SuccessCount = "3" }
//
// Errors name the key.
func (p *Provider) Configure(options map[string]any) error {
	var errs []error
	for key, v := range options {
		table, ok := v.(map[string]any)
		if !ok {
			errs = append(errs, fmt.Errorf("sim: %s is not a table", key))
			continue
		}
		for path, v := range table {
			var err error
			switch key {
			case "values":
				err = p.configureValue(path, v)
			case "follow":
				err = p.configureFollow(path, v)
			case "rows":
				err = p.configureRows(path, v)
			case "commands":
				err = p.configureCommand(path, v)
			default:
				err = errors.New("unknown key")
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("sim: %s.%q: %w", key, path, err))
			}
		}
	}
	return errors.Join(errs...)
}

func (p *Provider) configureValue(path string, v any) error {
	text, ok := v.(string)
	if !ok {
		text = fmt.Sprint(v) // numbers and booleans may be written bare
	}
	fields := strings.Fields(text)
	switch {
	case text == "uptime":
		p.Counter(path, 0, 1)
	case len(fields) > 0 && fields[0] == "counter":
		if len(fields) != 3 {
			return fmt.Errorf("%q is not \"counter <start> <per second>\"", text)
		}
		start, err := strconv.ParseUint(fields[1], 10, 64)
		rate, bad := strconv.ParseFloat(fields[2], 64)
		if err != nil || bad != nil || !(rate >= 0) {
			return fmt.Errorf("%q is not \"counter <start> <per second>\"", text)
		}
		p.Counter(path, start, rate)
	default:
		p.Set(path, text)
	}
	return nil
}

func (p *Provider) configureFollow(path string, v any) error {
	text, _ := v.(string)
	f := strings.Fields(text)
	if len(f) != 3 && len(f) != 4 {
		return fmt.Errorf("%q is not \"<enable> <on> <off> [delay]\"", text)
	}
	var delay time.Duration
	if len(f) == 4 {
		var err error
		if delay, err = time.ParseDuration(f[3]); err != nil {
			return err
		}
	}
	p.FollowAfter(path, f[0], f[1], f[2], delay)
	return nil
}

func (p *Provider) configureRows(table string, v any) error {
	list, ok := v.([]any)
	if !ok {
		return errors.New("not a list of instance numbers")
	}
	var rows []uint32
	for _, n := range list {
		i, ok := n.(int64)
		if !ok || i < 1 || i > 1<<32-1 {
			return fmt.Errorf("%v is not an instance number", n)
		}
		rows = append(rows, uint32(i))
	}
	p.Table(table, rows...)
	return nil
}

func (p *Provider) configureCommand(path string, v any) error {
	table, ok := v.(map[string]any)
	if !ok {
		return errors.New("not a table")
	}
	b := Behaviour{Output: map[string]string{}}
	for key, v := range table {
		text, isText := v.(string)
		switch key {
		case "takes":
			var err error
			if b.Takes, err = time.ParseDuration(text); err != nil {
				return err
			}
		case "fault":
			if !isText {
				return errors.New("fault is not a text")
			}
			if text != "" {
				b.Fault = datamodel.Fail(datamodel.CommandFailed, path, text)
			}
		case "output":
			out, ok := v.(map[string]any)
			if !ok {
				return errors.New("output is not a table")
			}
			for name, o := range out {
				b.Output[name] = fmt.Sprint(o)
			}
		default:
			return fmt.Errorf("unknown key %s", key)
		}
	}
	p.Command(path, b)
	return nil
}
