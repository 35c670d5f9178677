package firmware

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Hook is a platform whose banks a program handles. It is called with a verb behind its own arguments:
//
//	list               prints a line for each bank, in a fixed order: NAME TAB VERSION TAB FLAGS; flags are words out of
//	                   filled, active, next
//	write NAME FILE    puts an image into a bank; exit status 10: it is no image of this device
//	boot NAME          tells the boot loader which bank to try from now on
//
// Any exit status but 0 is a failure, and the first line of standard error says why. A program that hangs is killed: after a minute, one
// that writes after half an hour.
type Hook struct {
	command []string
	bootID  string
}

// bootIDFile differs after every start of the kernel.
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// NewHook needs a kernel that tells one start from the next.
func NewHook(command []string) (*Hook, error) {
	if len(command) == 0 {
		return nil, errors.New("firmware: no program")
	}
	id, err := os.ReadFile(bootIDFile)
	if err != nil {
		return nil, fmt.Errorf("firmware: %w", err)
	}
	return &Hook{command: command, bootID: strings.TrimSpace(string(id))}, nil
}

const (
	maxHookOutput = 16 << 10    // of what a program may say
	hookTime      = time.Minute // for list and boot
	hookWriteTime = 30 * time.Minute
)

type cutBuffer struct{ bytes.Buffer }

func (c *cutBuffer) Write(p []byte) (int, error) {
	c.Buffer.Write(p[:min(len(p), maxHookOutput-min(c.Len(), maxHookOutput))])
	return len(p), nil
}

func (h *Hook) run(ctx context.Context, limit time.Duration, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, h.command[0], append(append([]string(nil), h.command[1:]...), args...)...)
	cmd.WaitDelay = time.Second // for children of the program that keep its output open
	var out, bad cutBuffer
	cmd.Stdout, cmd.Stderr = &out, &bad
	err := cmd.Run()
	if err == nil {
		return out.String(), nil
	}
	line, _, _ := strings.Cut(bad.String(), "\n")
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 10 {
		return "", fmt.Errorf("%w: %s", ErrImage, line)
	}
	return "", fmt.Errorf("the program for the banks failed: %w: %s", err, line)
}

// Layout implements Banks.
func (h *Hook) Layout(ctx context.Context) (Layout, error) {
	l := Layout{BootID: h.bootID}
	out, err := h.run(ctx, hookTime, "list")
	if err != nil {
		return l, err
	}
	for line := range strings.Lines(out) {
		name, rest, _ := strings.Cut(strings.TrimRight(line, "\n"), "\t")
		version, flags, _ := strings.Cut(rest, "\t")
		b := Bank{Name: name, Version: version}
		for _, f := range strings.Fields(flags) {
			switch f {
			case "filled":
				b.Filled = true
			case "active":
				l.Active = name
			case "next":
				l.Next = name
			}
		}
		l.Banks = append(l.Banks, b)
	}
	if l.Next == "" {
		l.Next = l.Active
	}
	return l, nil
}

// Write implements Banks.
func (h *Hook) Write(ctx context.Context, bank, path string) error {
	_, err := h.run(ctx, hookWriteTime, "write", bank, path)
	return err
}

// SetNext implements Banks.
func (h *Hook) SetNext(ctx context.Context, bank string) error {
	_, err := h.run(ctx, hookTime, "boot", bank)
	return err
}
