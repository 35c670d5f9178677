package usp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Setup is what an agent must be told before a run: which Controllers there are, and how it reaches them.
type Setup struct {
	MTP         string // mqtt, ws
	AgentID     string
	Controllers []Reach
	CAFile      string // PEM, when TLS is used
	CertFile    string // the agent's own certificate
	KeyFile     string
	NoClock     bool // it does not know the time
}

// Reach is how the agent reaches one Controller.
type Reach struct {
	ID         string
	Host       string
	Port       int
	TLS        bool
	Topic      string // MQTT: of the Controller
	AgentTopic string // MQTT: of the agent
	Username   string
	Password   string
}

// Agent is how the runner handles the agent under test. It is called from one goroutine.
type Agent interface {
	// Start starts the agent in factory state.
	Start(ctx context.Context, s Setup) error
	// Restart is a power cycle: what the agent stored stays.
	Restart(ctx context.Context) error
	// Stop ends it; after that Start may be called again.
	Stop(ctx context.Context) error
	// Configurable: Start obeys any Setup, and several agents may run side by side.
	Configurable() bool
	// Log is the last part of what it printed.
	Log() string
}

// NewAgent makes one agent; dir is its own directory.
type NewAgent func(dir string) Agent

// Process is this project's agent binary.
func Process(binary string) NewAgent {
	return func(dir string) Agent { return &process{binary: binary, dir: dir} }
}

// FeaturesOf is what this project's agent claims in the build at hand.
func FeaturesOf(ctx context.Context, binary string) (string, error) {
	out, err := exec.CommandContext(ctx, binary, "version").Output()
	if err != nil {
		return "", fmt.Errorf("%s version: %w", binary, err)
	}
	if strings.Contains(string(out), "without firmware") {
		return noFirmware, nil
	}
	return DefaultFeatures, nil
}

// Command is any other agent: a shell command that runs until it gets SIGTERM. It finds its setting in the environment:
// CONFORM_RESET=1 when it must forget everything, CONFORM_MTP, CONFORM_AGENT_ID, CONFORM_CA_FILE, and for Controllers 1 and 2
// CONFORM_CONTROLLER_1_ID, _HOST, _PORT, _TLS, _TOPIC, _AGENT_TOPIC. An empty command is an agent that runs already.
func Command(line string) NewAgent {
	return func(dir string) Agent { return &command{line: line, dir: dir} }
}

// output keeps the last part of what a process printed.
type output struct {
	mu  sync.Mutex
	buf []byte
}

const outputBytes = 128 << 10

// Write implements io.Writer; it never fails.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf = append(o.buf, p...)
	if over := len(o.buf) - outputBytes; over > 0 {
		o.buf = append(o.buf[:0], o.buf[over:]...)
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.buf)
}

// child is one running program.
type child struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error
}

func spawn(cmd *exec.Cmd, out *output) (*child, error) {
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{cmd: cmd, exited: make(chan struct{})}
	go func() { // ends with the program; joined by stop
		c.err = cmd.Wait()
		close(c.exited)
	}()
	return c, nil
}

// stop asks the program to end, and kills it when it does not.
func (c *child) stop(ctx context.Context) error {
	if c == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // an error means it has ended
	select {
	case <-c.exited:
		return nil
	case <-ctx.Done():
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) // the whole group: it ignored SIGTERM
		<-c.exited
		return errors.New("the agent did not end on SIGTERM and was killed")
	}
}

type process struct {
	binary, dir string
	bare        bool // built without firmware banks
	out         output
	child       *child
	runs        int
}

func (a *process) Configurable() bool { return true }
func (a *process) Log() string        { return a.out.String() }

func (a *process) data() string { return filepath.Join(a.dir, "data"+strconv.Itoa(a.runs)) }

func (a *process) Start(ctx context.Context, s Setup) error {
	if err := a.Stop(ctx); err != nil {
		return err
	}
	a.runs++
	features, err := FeaturesOf(ctx, a.binary)
	if err != nil {
		return err
	}
	a.bare = features == noFirmware
	if err := os.WriteFile(filepath.Join(a.dir, "agent.toml"), []byte(a.config(s)), 0o600); err != nil {
		return err
	}
	return a.launch()
}

func (a *process) launch() error {
	cmd := exec.Command(a.binary, "run", "--config", filepath.Join(a.dir, "agent.toml"), "--data", a.data())
	cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
	var err error
	a.child, err = spawn(cmd, &a.out)
	return err
}

func (a *process) Restart(ctx context.Context) error {
	if err := a.Stop(ctx); err != nil {
		return err
	}
	return a.launch()
}

func (a *process) Stop(ctx context.Context) error {
	c := a.child
	a.child = nil
	return c.stop(ctx)
}

// config is the agent's configuration file for a setup.
func (a *process) config(s Setup) string {
	var b strings.Builder
	fmt.Fprintf(&b, `data = %q
[device]
profile          = "gateway"
manufacturer     = "Example Networks"
manufacturer_oui = "00005E"
product_class    = "Conform"
serial_number    = "CONFORM1"
software_version = "1.0.0"
%s
[bridge]
phase = "usp-only"
commits_per_second = 0
[cwmp]
enabled = false
[log]
level = "info"
[usp]
endpoint_id     = %q
allow_plaintext = true
trust_broker = true
`, a.data(), map[bool]string{true: "clock_known_after = 2200-01-01T00:00:00Z"}[s.NoClock], s.AgentID)
	if !a.bare {
		b.WriteString("[firmware]\nbanks = \"simulated\"\n")
	}
	if s.CAFile != "" {
		fmt.Fprintf(&b, "[usp.tls]\nca_file = %q\ncert_file = %q\nkey_file = %q\n", s.CAFile, s.CertFile, s.KeyFile)
	}
	for i, c := range s.Controllers {
		fmt.Fprintf(&b, "[[usp.controller]]\nendpoint_id = %q\n", c.ID)
		if s.MTP == "ws" {
			fmt.Fprintf(&b, "[usp.controller.websocket]\nhost = %q\nport = %d\npath = \"/usp\"\ntls = %v\n", c.Host, c.Port, c.TLS)
			continue
		}
		fmt.Fprintf(&b, "[usp.controller.mqtt]\nhost = %q\nport = %d\ntls = %v\ncontroller_topic = %q\nagent_topic = %q\n", c.Host, c.Port, c.TLS, c.Topic, c.AgentTopic)
		if c.Username != "" {
			file := filepath.Join(a.dir, "password"+strconv.Itoa(i))
			_ = os.WriteFile(file, []byte(c.Password), 0o600) // the agent says that it is missing
			fmt.Fprintf(&b, "username = %q\npassword_file = %q\n", c.Username, file)
		}
	}
	return b.String()
}

type command struct {
	line, dir string
	out       output
	child     *child
	setup     Setup
}

func (a *command) Configurable() bool { return false }
func (a *command) Log() string        { return a.out.String() }

func (a *command) Start(ctx context.Context, s Setup) error {
	a.setup = s
	return a.launch(ctx, true)
}

func (a *command) Restart(ctx context.Context) error { return a.launch(ctx, false) }

func (a *command) Stop(ctx context.Context) error {
	c := a.child
	a.child = nil
	return c.stop(ctx)
}

func (a *command) launch(ctx context.Context, reset bool) error {
	if a.line == "" {
		if reset {
			return nil // it runs already
		}
		return errors.New("the runner has no command that restarts this agent")
	}
	if err := a.Stop(ctx); err != nil {
		return err
	}
	cmd := exec.Command("/bin/sh", "-c", "exec "+a.line)
	cmd.Dir = a.dir
	env := append(os.Environ(), "CONFORM_MTP="+a.setup.MTP, "CONFORM_AGENT_ID="+a.setup.AgentID, "CONFORM_CA_FILE="+a.setup.CAFile)
	if reset {
		env = append(env, "CONFORM_RESET=1")
	}
	for i, c := range a.setup.Controllers {
		p := fmt.Sprintf("CONFORM_CONTROLLER_%d_", i+1)
		env = append(env, p+"ID="+c.ID, p+"HOST="+c.Host, p+"PORT="+strconv.Itoa(c.Port), p+"TLS="+strconv.FormatBool(c.TLS),
			p+"TOPIC="+c.Topic, p+"AGENT_TOPIC="+c.AgentTopic)
	}
	cmd.Env = env
	var err error
	a.child, err = spawn(cmd, &a.out)
	return err
}
