package agentproc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is the real agent binary with its own data directory. Not for concurrent use, but for Log, Command and Exited.
type Process struct {
	Binary string
	Config string // path of its TOML file
	Data   string
	// Wrap is a program with arguments that runs the agent, as an interposer does; empty: none.
	Wrap []string
	// Files are handed to the started program as descriptors 3, 4, ...
	Files []*os.File
	// Env is added to the environment.
	Env []string

	cmd    *exec.Cmd
	log    tail
	exited chan struct{}
	err    error
}

// tail keeps the last part of what a process printed, so that a failed step can show it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailBytes = 64 << 10

// Write implements io.Writer; it never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailBytes; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

// Last returns the last n lines.
func (t *tail) Last(n int) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := bytes.Split(bytes.TrimRight(t.buf, "\n"), []byte("\n"))
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return string(bytes.Join(lines, []byte("\n")))
}

// Find looks for the agent binary: the given path, else next to this program, else on PATH.
func Find(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	if self, err := os.Executable(); err == nil {
		if p := filepath.Join(filepath.Dir(self), "twinspan"); executable(p) {
			return p, nil
		}
	}
	if p, err := exec.LookPath("twinspan"); err == nil {
		return p, nil
	}
	return "", errors.New("no agent binary: run `make build`, or name it with --agent")
}

func executable(p string) bool {
	st, err := os.Stat(p)
	return err == nil && !st.IsDir() && st.Mode()&0o111 != 0
}

// Start runs the agent. It dies with this program, also if that is killed.
func (a *Process) Start() error {
	line := append(slices.Clone(a.Wrap), a.Binary, "run", "--config", a.Config, "--data", a.Data)
	a.cmd = exec.Command(line[0], line[1:]...)
	a.cmd.ExtraFiles = a.Files
	a.cmd.Stdout, a.cmd.Stderr = &a.log, &a.log
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	a.cmd.Env = append(append(os.Environ(), "GOMAXPROCS=2"), a.Env...)
	if err := a.cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	a.exited = exited
	go func() { // ends with the process; joined by Stop, Kill and Wait
		a.err = a.cmd.Wait()
		close(exited)
	}()
	return nil
}

// Log returns the last n lines that the agent printed, over all its runs.
func (a *Process) Log(n int) string { return a.log.Last(n) }

// Pid of the running agent.
func (a *Process) Pid() int { return a.cmd.Process.Pid }

// Done is closed when the started agent has ended.
func (a *Process) Done() <-chan struct{} { return a.exited }

// Running tells whether the agent was started and has not ended.
func (a *Process) Running() bool { return a.cmd != nil && a.exited != nil && !a.Exited() }

// Exited tells whether the agent ended by itself.
func (a *Process) Exited() bool {
	select {
	case <-a.exited:
		return true
	default:
		return false
	}
}

// Kill is a power cut for the process: SIGKILL, no warning.
func (a *Process) Kill() error {
	if err := a.cmd.Process.Kill(); err != nil {
		return err
	}
	<-a.exited
	return nil
}

// Stop asks the agent to end and waits; after the context it is killed.
func (a *Process) Stop(ctx context.Context) error {
	if !a.Running() {
		return nil
	}
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-a.exited:
		return a.err
	case <-ctx.Done():
		_ = a.cmd.Process.Kill() // it ignored SIGTERM: that is the error to report
		<-a.exited
		return fmt.Errorf("agent did not end on SIGTERM: %w", ctx.Err())
	}
}

// Command runs another verb of the agent binary against its socket and returns what it printed.
func (a *Process) Command(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, a.Binary, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("twinspan %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// ResidentKiB reads VmRSS of the running agent.
func (a *Process) ResidentKiB() (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.Pid()))
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(string(b), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
		}
	}
	return 0, errors.New("no VmRSS in /proc status")
}

// clockTick is USER_HZ, 100 on every Linux architecture Go supports.
const clockTick = 10 * time.Millisecond

// CPU is the processor time the agent has used, in user and kernel mode.
func (a *Process) CPU() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", a.Pid()))
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if !ok || len(f) < 13 {
		return 0, errors.New("unreadable /proc stat")
	}
	user, err1 := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	return time.Duration(user+system) * clockTick, errors.Join(err1, err2)
}
