package prove

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tapEnv tells this program that it is only to install the filter and to become the agent.
const tapEnv = "TWINSPAN_PROVE_TAP"

// BecomeAgent must be the first thing that a program using this package does. If the program was started as the wrapper of an agent, it
// installs the seccomp filter, sends the listener to its parent over descriptor 3, and becomes the agent; it does not return then.
func BecomeAgent() {
	if os.Getenv(tapEnv) == "" {
		return
	}
	runtime.LockOSThread() // the filter belongs to this thread, and exec keeps it
	err := becomeAgent(os.Args[1:])
	fmt.Fprintln(os.Stderr, "interposer:", err)
	os.Exit(1)
}

func becomeAgent(line []string) error {
	if err := os.Unsetenv(tapEnv); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	prog, err := tapFilter()
	if err != nil {
		return err
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	const waitKillable = 1 << 5 // Linux 5.19: a signal does not repeat a call that is being looked at
	var fd uintptr
	var errno syscall.Errno
	for _, flags := range []uintptr{unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | waitKillable, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER} {
		fd, _, errno = syscall.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&fprog)))
		if errno != syscall.EINVAL {
			break
		}
	}
	if errno != 0 {
		return fmt.Errorf("this kernel takes no seccomp filter with a listener: %w", errno)
	}
	if err := unix.Sendmsg(3, []byte{1}, unix.UnixRights(int(fd)), nil, 0); err != nil {
		return fmt.Errorf("sending the listener: %w", err)
	}
	unix.CloseOnExec(3)
	unix.CloseOnExec(int(fd))
	return syscall.Exec(line[0], line, os.Environ())
}

// tapFilter stops the calls that change a file, and mappings of files.
func tapFilter() ([]unix.SockFilter, error) {
	arch, ok := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	if !ok {
		return nil, fmt.Errorf("no interposer for %s", runtime.GOARCH)
	}
	stop := []uint32{unix.SYS_PWRITE64, unix.SYS_FDATASYNC, unix.SYS_FSYNC, unix.SYS_FTRUNCATE}
	ld := func(off uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: off}
	}
	jeq := func(k uint32, yes, no int) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: uint8(yes), Jf: uint8(no)}
	}
	ret := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	// 0 arch, 1 jump, 2 number, 3... jumps, then for mmap: 3+n jump, 4+n descriptor (low half of the fifth argument), 5+n jump
	n := len(stop)
	allow, notify := 6+n, 7+n
	prog := []unix.SockFilter{ld(4), jeq(arch, 0, allow-2), ld(0)}
	for i, nr := range stop {
		prog = append(prog, jeq(nr, notify-(3+i)-1, 0))
	}
	prog = append(prog, jeq(unix.SYS_MMAP, 0, allow-(3+n)-1), ld(16+4*8), jeq(0xffffffff, 0, 1), // -1: memory without a file
		ret(unix.SECCOMP_RET_ALLOW), ret(unix.SECCOMP_RET_USER_NOTIF))
	return prog, nil
}

// callKind is what the agent does to its database file.
type callKind uint8

const (
	callWrite callKind = iota
	callSync
	callTruncate
	callMap
)

func (k callKind) String() string { return [...]string{"write", "sync", "truncate", "mmap"}[k] }

// call is one of them. A failed one was answered with an error instead of being done; of a torn write half was done.
type call struct {
	kind  callKind
	off   int64  // of a write
	data  []byte // of a write: all that was to be written
	size  int64  // of a truncate
	errno syscall.Errno
	torn  int // bytes that a failed write wrote all the same
}

// tap sees every call of an agent to its database file.
type tap struct {
	dir      string
	parent   *os.File
	child    *os.File
	listener int
	wg       sync.WaitGroup
	ready    chan error

	mu    sync.Mutex
	calls []call
	// fault decides about the next call, before it is done: 0 lets it through. Called with mu held.
	fault func(c *call) (errno syscall.Errno, torn int)
	// quick: syncs are not done, only noted; the file system of the test needs no real ones.
	quick bool
}

// newTap prepares the agent of a rig to be started under the interposer. The agent's process must be started next, then attach called.
func newTap(r *rig) (*tap, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	t := &tap{dir: r.agent.Data, parent: os.NewFile(uintptr(fds[0]), "tap"), child: os.NewFile(uintptr(fds[1]), "tap of the agent"), quick: true, ready: make(chan error, 1)}
	r.agent.Wrap, r.agent.Files, r.agent.Env = []string{self}, []*os.File{t.child}, []string{tapEnv + "=1"}
	t.wg.Go(t.serve) // ends with the agent, or with close before there was one
	return t, nil
}

// close joins the tap after its agent has ended, and undoes newTap.
func (t *tap) close(r *rig) error {
	_ = t.child.Close()
	t.wg.Wait()
	r.agent.Wrap, r.agent.Files, r.agent.Env = nil, nil, nil
	select {
	case err := <-t.ready:
		return err
	default:
		return nil
	}
}

// len is the judge's clock: how many calls there were.
func (t *tap) len() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return int64(len(t.calls))
}

func (t *tap) setFault(f func(c *call) (syscall.Errno, int)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fault = f
}

type notification struct {
	id    uint64
	pid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

type response struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

const (
	ioctlReceive = 0xC0502100
	ioctlSend    = 0xC0182101
	flagContinue = 1
)

// serve takes the listener over and answers until the agent has ended.
func (t *tap) serve() {
	defer t.parent.Close()
	if err := t.receive(); err != nil {
		t.ready <- err
		return
	}
	defer unix.Close(t.listener)
	for {
		fds := []unix.PollFd{{Fd: int32(t.listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, 1000); err != nil && err != unix.EINTR {
			t.ready <- err
			return
		}
		switch {
		case fds[0].Revents&unix.POLLIN != 0:
			t.one()
		case fds[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0:
			return // no process has the filter any more
		}
	}
}

func (t *tap) receive() error {
	buf, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	for {
		_, n, _, _, err := unix.Recvmsg(int(t.parent.Fd()), buf, oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		msgs, err := unix.ParseSocketControlMessage(oob[:n])
		if err != nil || len(msgs) != 1 {
			return fmt.Errorf("the interposer did not start: %w", errors.Join(err, errNoListener))
		}
		got, err := unix.ParseUnixRights(&msgs[0])
		if err != nil || len(got) != 1 {
			return errors.Join(err, errNoListener)
		}
		t.listener = got[0]
		return nil
	}
}

var errNoListener = errors.New("no listener came")

func (t *tap) one() {
	var n notification
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(t.listener), ioctlReceive, uintptr(unsafe.Pointer(&n))); errno != 0 {
		return // its thread was killed
	}
	r := t.decide(&n)
	r.id = n.id
	_, _, _ = syscall.Syscall(syscall.SYS_IOCTL, uintptr(t.listener), ioctlSend, uintptr(unsafe.Pointer(&r)))
}

// decide notes a call to the database and says what becomes of it.
func (t *tap) decide(n *notification) response {
	pass := response{flags: flagContinue}
	fd := n.args[0]
	if n.nr == unix.SYS_MMAP {
		fd = n.args[4]
	}
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", n.pid, int32(fd)))
	if err != nil || filepath.Dir(path) != t.dir || !strings.HasPrefix(filepath.Base(path), "twinspan.db") {
		return pass
	}
	c := call{}
	switch n.nr {
	case unix.SYS_PWRITE64:
		c.kind, c.off, c.data = callWrite, int64(n.args[3]), make([]byte, n.args[2])
		local := []unix.Iovec{{Base: &c.data[0]}}
		local[0].SetLen(len(c.data))
		if got, err := unix.ProcessVMReadv(int(n.pid), local, []unix.RemoteIovec{{Base: uintptr(n.args[1]), Len: len(c.data)}}, 0); err != nil || got != len(c.data) {
			return response{err: -int32(unix.EFAULT)}
		}
	case unix.SYS_FTRUNCATE:
		c.kind, c.size = callTruncate, int64(n.args[1])
	case unix.SYS_MMAP:
		c.kind = callMap
	default:
		c.kind = callSync
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fault != nil {
		c.errno, c.torn = t.fault(&c)
	}
	if c.torn > 0 {
		if f, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/%d", n.pid, int32(fd)), os.O_WRONLY, 0); err == nil {
			_, _ = f.WriteAt(c.data[:c.torn], c.off)
			_ = f.Close()
		}
	}
	t.calls = append(t.calls, c)
	switch {
	case c.errno != 0:
		return response{err: -int32(c.errno)}
	case c.kind == callSync && t.quick:
		return response{}
	}
	return pass
}
