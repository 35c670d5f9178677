package conformcwmp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ability is what a Driver can do beyond being there.
type ability string

const (
	canFresh   ability = "a factory-fresh CPE for the check"
	canRestart ability = "cutting the power of the CPE"
	canLocal   ability = "changing a parameter locally"
	canTrust   ability = "a CPE that trusts the runner's certificates"
	canUSP     ability = "a USP Controller at the CPE"
	canInstall ability = "a CPE that takes any image as firmware"
	canClock   ability = "a CPE that does not know the time"
	canLease   ability = "a hand on what the CPE's DHCP client leaves"
	canNames   ability = "a CPE with a hosts file of its own: root and unshare"
	canNetwork ability = "a CPE in a network of its own: root, ip and network namespaces"
)

// Driver is the hand on one CPE. Methods are called from one goroutine.
type Driver interface {
	// Name of what is driven, for the report.
	Name() string
	// Abilities beyond Start and Close.
	Abilities() []ability
	// Start makes the CPE contact acsURL, with empty memory if it can canFresh. user and password are for the ACS.
	Start(ctx context.Context, acsURL, user, password, caFile string) error
	// Restart cuts the power and gives it back.
	Restart(ctx context.Context) error
	// Local changes a parameter as the LAN side or another manager would; path in the spelling of TR-181.
	Local(ctx context.Context, settings ...string) error
	// Command runs a command of the CPE from its local side, or from USP ("Device.Reboot()").
	Command(ctx context.Context, command string, args ...string) (string, error)
	// Log returns the last lines the CPE wrote.
	Log() string
	// Close ends the CPE and forgets what it kept.
	Close() error
}

var errUnable = errors.New("the driver cannot do that")

// agentDriver runs the agent of this repository.
type agentDriver struct {
	binary string
	dir    string
	cmd    *exec.Cmd
	log    *os.File
	exited chan struct{}
	world  world
	net    *network // of world.network
}

func newAgentDriver(binary string) (*agentDriver, error) {
	dir, err := os.MkdirTemp("", "twinspan-conform-")
	if err != nil {
		return nil, err
	}
	d := &agentDriver{binary: binary, dir: dir}
	if d.log, err = os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return d, nil
}

func (d *agentDriver) Name() string { return "twinspan agent" }

func (d *agentDriver) Abilities() []ability {
	out := []ability{canFresh, canRestart, canLocal, canTrust, canUSP, canInstall, canClock, canLease}
	if os.Geteuid() == 0 {
		if _, err := exec.LookPath("unshare"); err == nil {
			out = append(out, canNames)
		}
		if _, err := exec.LookPath("ip"); err == nil {
			out = append(out, canNetwork)
		}
	}
	return out
}

// guardedPath is a leaf where the agent is configured to let the ACS outrank the local side; everywhere else the last writer
// wins, so that checks can act for the LAN side.
const guardedPath = "Device.Time.Client.2.Servers"

// Start leaves the user name at the agent's own default, which a check looks at.
func (d *agentDriver) Start(_ context.Context, acsURL, _, password, caFile string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return err
	}
	secret := filepath.Join(d.dir, "password")
	if err := os.WriteFile(secret, []byte(password), 0o600); err != nil {
		return err
	}
	hook := filepath.Join(d.dir, "install")
	// An image that says so is bad; the script leaves the marker that the check looks for.
	script := "#!/bin/sh\ngrep -q corrupt \"$1\" && exit 1\ncp \"$1\" " + filepath.Join(d.dir, "installed") + "\n" + d.world.installScript(d.dir)
	if err := os.WriteFile(hook, []byte(script), 0o700); err != nil {
		return err
	}
	banks, install := d.world.bankKeys(d), fmt.Sprintf("install = [%q]\n", hook)
	if banks != "" {
		install = ""
	}
	listenOn := "127.0.0.1"
	if d.net != nil {
		listenOn = "" // its address may change
	}
	text := fmt.Sprintf(`[device]
profile          = "gateway"
manufacturer     = "Example Networks"
manufacturer_oui = "00005E"
product_class    = "Conform"
serial_number    = "C%d"
software_version = "1.0.0"
%s[bridge]
phase       = "dual-cwmp"
on_conflict = "last"
[[bridge.rule]]
id          = "guarded"
path        = %q
on_conflict = "priority"
[cwmp]
url                       = %q
password_file             = %q
allow_plaintext           = true
connection_request_listen = "%s:%d"
%s[cwmp.tls]
ca_file = %q
%s[usp]
enabled         = false
allow_plaintext = true
%s[hooks]
%s%s[factory]
"Device.Time.Client.1.Enable" = "true"
"Device.Time.Client.2.Enable" = "true"
`, port, d.world.deviceKeys(), guardedPath, acsURL, secret, listenOn, port, d.world.cwmpKeys(d.dir), caFile, d.moduleKeys(), banks, install, d.world.hookKeys())
	if err := os.WriteFile(filepath.Join(d.dir, "agent.toml"), []byte(text), 0o600); err != nil {
		return err
	}
	return d.run()
}

func (d *agentDriver) run() error {
	args, err := d.enter([]string{d.binary, "run", "--config", filepath.Join(d.dir, "agent.toml"), "--data", filepath.Join(d.dir, "data")})
	if err != nil {
		return err
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = d.log, d.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	d.cmd, d.exited = cmd, exited
	go func() { // ends with the process; joined by stop
		_ = cmd.Wait() // killed: that it ends is what counts
		close(exited)
	}()
	return nil
}

// rebooted waits until the reboot hook has ended the process, and starts the next one: the machine's part of a reboot.
func (d *agentDriver) rebooted(ctx context.Context) error {
	select {
	case <-d.exited:
	case <-ctx.Done():
		return errors.New("the CPE does not reboot")
	}
	d.cmd = nil
	return d.run()
}

func (d *agentDriver) stop() {
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Kill() // gone already: fine
	<-d.exited
	d.cmd = nil
}

func (d *agentDriver) Restart(context.Context) error {
	d.stop()
	return d.run()
}

// cli runs a verb of the agent's own command line; the socket may need a moment after a start.
func (d *agentDriver) cli(ctx context.Context, args ...string) (string, error) {
	for {
		cmd := exec.CommandContext(ctx, d.binary, args...)
		cmd.Env = append(os.Environ(), "TWINSPAN_SOCKET="+filepath.Join(d.dir, "data", "twinspan.sock"))
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err == nil || !errors.As(err, &exit) || exit.ExitCode() != 3 { // 3: the agent cannot be reached (yet)
			if err != nil {
				err = fmt.Errorf("%s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
			}
			return string(out), err
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (d *agentDriver) Local(ctx context.Context, settings ...string) error {
	_, err := d.cli(ctx, append([]string{"set"}, settings...)...)
	return err
}

func (d *agentDriver) Command(ctx context.Context, command string, args ...string) (string, error) {
	if strings.HasPrefix(command, "add ") || strings.HasPrefix(command, "del ") {
		return d.cli(ctx, append(strings.Fields(command), args...)...)
	}
	return d.cli(ctx, append([]string{"operate", command}, args...)...)
}

func (d *agentDriver) Log() string { return lastLines(filepath.Join(d.dir, "log"), 12) }

func (d *agentDriver) Close() error {
	d.stop()
	var err error
	if d.net != nil {
		err = d.net.close()
	}
	return errors.Join(err, d.log.Close(), os.RemoveAll(d.dir))
}

func lastLines(name string, n int) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// commandDriver starts any CPE by a shell command, and uses others for what the command line gave.
type commandDriver struct {
	start, reset, local string // shell commands; local gets NAME VALUE as $1 $2
	trusts              bool   // the CPE was given --ca
	env                 []string
	dir                 string
	cmd                 *exec.Cmd
	exited              chan struct{}
}

func (d *commandDriver) Name() string {
	if d.start == "" {
		return "a CPE that was waited for"
	}
	return d.start
}

func (d *commandDriver) Abilities() []ability {
	var out []ability
	if d.start != "" {
		out = append(out, canRestart)
	}
	if d.reset != "" {
		out = append(out, canFresh)
	}
	if d.local != "" {
		out = append(out, canLocal)
	}
	if d.trusts {
		out = append(out, canTrust)
	}
	return out
}

func (d *commandDriver) Start(ctx context.Context, acsURL, user, password, caFile string) error {
	d.env = append(os.Environ(), "ACS_URL="+acsURL, "ACS_USERNAME="+user, "ACS_PASSWORD="+password, "ACS_CA_FILE="+caFile)
	if d.reset != "" {
		d.stop()
		if _, err := d.shell(ctx, d.reset); err != nil {
			return err
		}
	}
	return d.run()
}

func (d *commandDriver) shell(ctx context.Context, command string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", command, "sh"}, args...)...)
	cmd.Env = d.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w: %s", command, err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

func (d *commandDriver) run() error {
	if d.start == "" || d.cmd != nil {
		return nil
	}
	if d.dir == "" {
		var err error
		if d.dir, err = os.MkdirTemp("", "twinspan-conform-"); err != nil {
			return err
		}
	}
	out, err := os.OpenFile(filepath.Join(d.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close() // the process has its own
	d.cmd = exec.Command("/bin/sh", "-c", "exec "+d.start)
	d.cmd.Env, d.cmd.Stdout, d.cmd.Stderr = d.env, out, out
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := d.cmd.Start(); err != nil {
		d.cmd = nil
		return err
	}
	exited := make(chan struct{})
	d.exited = exited
	cmd := d.cmd
	go func() { // ends with the process; joined by stop
		_ = cmd.Wait()
		close(exited)
	}()
	return nil
}

func (d *commandDriver) stop() {
	if d.cmd == nil {
		return
	}
	_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL) // the whole group that this driver started
	<-d.exited
	d.cmd = nil
}

func (d *commandDriver) Restart(context.Context) error {
	if d.start == "" {
		return errUnable
	}
	d.stop()
	return d.run()
}

func (d *commandDriver) Local(ctx context.Context, settings ...string) error {
	if d.local == "" {
		return errUnable
	}
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		if _, err := d.shell(ctx, d.local, name, value); err != nil {
			return err
		}
	}
	return nil
}

func (d *commandDriver) Command(context.Context, string, ...string) (string, error) {
	return "", errUnable
}

func (d *commandDriver) Log() string { return lastLines(filepath.Join(d.dir, "log"), 12) }

func (d *commandDriver) Close() error {
	d.stop()
	if d.dir == "" {
		return nil
	}
	return os.RemoveAll(d.dir)
}

func has(d Driver, a ability) bool { return slices.Contains(d.Abilities(), a) }

// freePort finds a port that nobody listens on now.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	return port, l.Close()
}
