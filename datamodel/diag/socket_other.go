//go:build !linux

package diag

import (
	"errors"
	"os/exec"
	"syscall"
)

// markSocket refuses marks, which are only built for Linux.
func markSocket(v via) func(network, address string, c syscall.RawConn) error {
	if v.dscp == 0 && v.priority < 0 {
		return nil
	}
	return func(string, string, syscall.RawConn) error {
		return errors.New("DSCP and EthernetPriority are not supported on this system")
	}
}

// killAll is only built for Linux; elsewhere children of a hook outlive its context.
func killAll(*exec.Cmd) {}
