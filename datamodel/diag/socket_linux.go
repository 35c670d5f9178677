package diag

import (
	"os/exec"
	"syscall"
)

// markSocket sets what packets of a socket carry: DSCP, and the priority that a VLAN maps to its PCP bits.
func markSocket(v via) func(network, address string, c syscall.RawConn) error {
	if v.dscp == 0 && v.priority < 0 {
		return nil
	}
	return func(network, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) {
			if v.dscp != 0 {
				if network[len(network)-1] == '6' {
					err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_TCLASS, v.dscp<<2)
				} else {
					err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_TOS, v.dscp<<2)
				}
			}
			if v.priority >= 0 && err == nil { // after IP_TOS, which sets a priority too
				err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_PRIORITY, v.priority)
			}
		}); e != nil {
			return e
		}
		return err
	}
}

// killAll makes the end of a hook's context end its children too.
func killAll(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
}
