package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// schedIdle is SCHED_IDLE of sched(7): runs only when nothing else wants the processor.
const schedIdle = 5

// keepAwake starts a process that spins on every processor at idle priority, until stop is called. A processor that sleeps, above
// all a virtual one, takes 50 µs and more to wake for each message; that is the machine's figure, not the agent's.
func keepAwake() (stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "spin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() {
		_ = cmd.Process.Kill() // the one way it ends
		_ = cmd.Wait()
	}, nil
}

// runSpin is that process.
func runSpin(ctx context.Context, _ []string) error {
	for range runtime.NumCPU() {
		go func() { // ends with the process
			runtime.LockOSThread()
			if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: schedIdle}, 0); err != nil {
				fmt.Fprintln(os.Stderr, "spin: cannot lower the priority:", err)
				os.Exit(1)
			}
			for ctx.Err() == nil {
				for range 1 << 20 {
					runtime.KeepAlive(ctx)
				}
			}
		}()
	}
	<-ctx.Done()
	return nil
}
