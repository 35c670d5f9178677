package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func oneOf(key, value string, words ...string) error {
	for _, w := range words {
		if value == w {
			return nil
		}
	}
	return fmt.Errorf("%s = %q: must be one of %s", key, value, strings.Join(words, ", "))
}

// validate checks every key and reports all that is wrong, each with the key's name and value.
func (c *Config) validate() error {
	var errs []error
	add := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	add(oneOf("bridge.phase", c.Bridge.Phase, "cwmp-only", "shadow", "dual-cwmp", "dual-usp", "usp-only"))
	add(oneOf("bridge.fault_style", c.Bridge.FaultStyle, "", "standard", "vendor"))
	if c.Bridge.Policy != "" && len(c.Bridge.Rule) > 0 {
		add(errors.New("bridge.policy and bridge.rule: rules belong into the policy file then"))
	}
	if r := c.Bridge.CommitsPerSecond; r != nil && (*r < 0 || *r > 1e6) {
		add(fmt.Errorf("bridge.commits_per_second = %g: must be 0 to 1000000", *r))
	}
	conflicts := []string{"priority", "yield", "take", "last"}
	add(oneOf("bridge.on_conflict", c.Bridge.OnConflict, conflicts...))
	for i, r := range c.Bridge.Rule {
		key := fmt.Sprintf("bridge.rule[%d]", i)
		add(oneOf(key+".on_conflict", r.OnConflict, conflicts...))
		if r.ID == "" || r.Path == "" {
			add(fmt.Errorf("%s: id and path are needed", key))
		}
	}
	for eid, class := range c.Bridge.Classes {
		add(oneOf("bridge.classes."+eid, class, "main", "apps", "user"))
	}
	add(c.Bridge.validateMigration())
	add(oneOf("import.on_error", c.Import.OnError, "", "stop", "bootstrap"))
	add(oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error"))
	add(oneOf("log.format", c.Log.Format, "text", "json"))
	if c.Data == "" {
		add(errors.New("data: a directory is needed"))
	}
	if oui := c.Device.ManufacturerOUI; len(oui) != 6 || strings.Trim(oui, "0123456789ABCDEF") != "" {
		add(fmt.Errorf("device.manufacturer_oui = %q: must be 6 upper-case hex digits", oui))
	}
	add(c.validateCWMP())
	add(c.validateUSP())
	add(c.Services.validate())
	add(c.Limits.validate())
	add(c.validateFirmware())
	return errors.Join(errs...)
}

// checkMachine reports what the configuration names and this machine lacks; a start that would fail hours later, at the first
// reboot or the first command, fails now.
func (c *Config) checkMachine() error {
	var errs []error
	for _, h := range []struct {
		key     string
		command []string
	}{{"hooks.reboot", c.Hooks.Reboot}, {"hooks.install", c.Hooks.Install}, {"firmware.command", c.Firmware.Command},
		{"firmware.ask", c.Firmware.Ask}, {"firmware.idle", c.Firmware.Idle}} {
		if len(h.command) == 0 {
			continue
		}
		if _, err := exec.LookPath(h.command[0]); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", h.key, err))
		}
	}
	sockets := [][2]string{{"cli.socket", c.CLI.Socket}}
	if c.Services.Enabled {
		sockets = append(sockets, [2]string{"services.socket", c.Services.Socket}, [2]string{"services.controller_socket", c.Services.ControllerSocket})
	}
	for _, s := range sockets {
		if s[1] == "" {
			continue
		}
		if _, err := os.Stat(filepath.Dir(s[1])); err != nil {
			errs = append(errs, fmt.Errorf("%s: its folder must exist: %w", s[0], err))
		}
	}
	return errors.Join(errs...)
}

func (c *Config) validateCWMP() error {
	if a := c.CWMP.ConnectionRequest; a != "" && a != "off" {
		if _, port, err := net.SplitHostPort(a); err != nil {
			return fmt.Errorf("cwmp.connection_request_listen = %q: %w", a, err)
		} else if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return fmt.Errorf("cwmp.connection_request_listen = %q: the port must be 0 to 65535", a)
		}
	}
	if c.CWMP.BasicOverHTTP && !c.CWMP.AllowPlaintext {
		return errors.New("cwmp.basic_over_http needs cwmp.allow_plaintext = true: it shows the password to the network")
	}
	if c.CWMP.URL == "" {
		return nil
	}
	u, err := url.Parse(c.CWMP.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("cwmp.url = %q: must be an http or https URL", c.CWMP.URL)
	}
	if u.Scheme == "http" && !c.CWMP.AllowPlaintext {
		return fmt.Errorf("cwmp.url = %q needs cwmp.allow_plaintext = true: without TLS anybody on the way can manage the device", c.CWMP.URL)
	}
	return nil
}

func (c *Config) validateUSP() error {
	var errs []error
	for i, ctl := range c.USP.Controller {
		key := fmt.Sprintf("usp.controller[%d]", i)
		if ctl.EndpointID == "" {
			errs = append(errs, fmt.Errorf("%s: endpoint_id is needed", key))
		}
		if (ctl.MQTT == nil) == (ctl.WebSocket == nil) {
			errs = append(errs, fmt.Errorf("%s: exactly one of mqtt and websocket is needed", key))
		}
		if m := ctl.MQTT; m != nil {
			if m.Host == "" || m.Topic == "" {
				errs = append(errs, fmt.Errorf("%s.mqtt: host and controller_topic are needed", key))
			}
			if !m.TLS && !c.USP.AllowPlaintext {
				errs = append(errs, fmt.Errorf("%s.mqtt.tls = false needs usp.allow_plaintext = true", key))
			}
		}
		if w := ctl.WebSocket; w != nil {
			if w.Host == "" {
				errs = append(errs, fmt.Errorf("%s.websocket: host is needed", key))
			}
			if !w.TLS && !c.USP.AllowPlaintext {
				errs = append(errs, fmt.Errorf("%s.websocket.tls = false needs usp.allow_plaintext = true", key))
			}
		}
	}
	return errors.Join(errs...)
}

func (s *ServicesConfig) validate() error {
	if n, err := strconv.ParseUint(s.Mode, 8, 32); err != nil || n&^0o777 != 0 || n&0o600 != 0o600 {
		return fmt.Errorf("services.mode = %q: must be octal, between 0600 and 0777", s.Mode)
	}
	if d := defaultConfig().Services; !s.Enabled && *s != d {
		return errors.New("services: its keys mean nothing without services.enabled = true")
	}
	if s.Socket == "" {
		return errors.New("services.socket: a path is needed")
	}
	if s.ControllerRole != "" && s.ControllerSocket == "" {
		return fmt.Errorf("services.controller_role = %q needs services.controller_socket", s.ControllerRole)
	}
	if s.ControllerSocket != "" && s.ControllerSocket == s.Socket {
		return fmt.Errorf("services.controller_socket = %q: must not be services.socket", s.Socket)
	}
	if s.Max < 1 || s.Max > 256 {
		return fmt.Errorf("services.max = %d: must be 1 to 256", s.Max)
	}
	return nil
}

func (c *Config) validateFirmware() error {
	f := &c.Firmware
	errs := []error{oneOf("firmware.banks", f.Banks, "", "simulated", "command")}
	if (f.Banks == "command") != (len(f.Command) > 0) {
		errs = append(errs, errors.New(`firmware.command and firmware.banks = "command" need each other`))
	}
	if f.Banks == "" && (len(f.Ask) > 0 || len(f.Idle) > 0 || f.ConfirmWithin != nil && *f.ConfirmWithin != duration(10*time.Minute) || f.TLS != TLSFiles{}) {
		errs = append(errs, errors.New("firmware: its keys mean nothing without firmware.banks"))
	}
	if f.Banks != "" && len(c.Hooks.Install) > 0 {
		errs = append(errs, errors.New("hooks.install and firmware.banks: an image has only one place to go to"))
	}
	if d := f.ConfirmWithin; d != nil && *d < 0 {
		errs = append(errs, errors.New("firmware.confirm_within: must be 0 (for ever) or more"))
	}
	return errors.Join(errs...)
}

func (l *LimitsConfig) validate() error {
	var errs []error
	for _, v := range []struct {
		key   string
		value int64
		least int64
	}{
		{"soap_bytes", int64(l.SOAPBytes), 32 << 10}, // TR-069 3.5: a CPE accepts envelopes of at least 32 KiB
		{"soap_depth", int64(l.SOAPDepth), 16},
		{"record_bytes", int64(l.RecordBytes), 4 << 10},
		{"database_bytes", l.DatabaseBytes, 1 << 20},
		{"journal_entries", int64(l.JournalEntries), 16},
		{"transfer_bytes", l.TransferBytes, 1 << 10},
	} {
		if v.value != 0 && v.value < v.least {
			errs = append(errs, fmt.Errorf("limits.%s = %d: must be at least %d (or 0 for the default)", v.key, v.value, v.least))
		}
	}
	return errors.Join(errs...)
}
