package linux

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestWatcherCloses(t *testing.T) {
	w, err := startWatcher()
	if err != nil {
		t.Skip("no rtnetlink socket here: ", err)
	}
	for range 2 { // idempotent
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestKernelLink: a driver that answers gives words of the data model, and the loopback interface does not answer.
func TestKernelLink(t *testing.T) {
	p, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := kernelLink("lo"); err == nil {
		t.Error("loopback has link settings")
	}
	if _, err := kernelLink("no-such-if-0"); err == nil {
		t.Error("an interface that does not exist has link settings")
	}
	all, err := p.netifs()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		if l, err := kernelLink(n.name); err == nil {
			if !slices.Contains([]string{"Auto", "Half", "Full"}, l.duplex) || l.mbit < -1 || l.mbit == 0 {
				t.Errorf("%s: %+v", n.name, l)
			}
		}
	}
}

// TestWatcherHints brings the loopback interface of a new network namespace up and down and waits for the hints.
func TestWatcherHints(t *testing.T) {
	result := make(chan func(*testing.T), 1)
	go func() { // the thread is never unlocked, so that it ends with its namespace
		runtime.LockOSThread()
		result <- hintsInNamespace()
	}()
	(<-result)(t)
}

func hintsInNamespace() func(*testing.T) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return func(t *testing.T) { t.Skip("a network namespace needs root: ", err) }
	}
	w, err := startWatcher()
	if err != nil {
		return func(t *testing.T) { t.Fatal(err) }
	}
	defer w.Close()
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return func(t *testing.T) { t.Fatal(err) }
	}
	defer unix.Close(s)
	for _, flags := range []uint16{unix.IFF_UP, 0} {
		ifr, err := unix.NewIfreq("lo")
		if err != nil {
			return func(t *testing.T) { t.Fatal(err) }
		}
		ifr.SetUint16(flags)
		if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, ifr); err != nil {
			return func(t *testing.T) { t.Fatal(err) }
		}
		select {
		case <-w.hint:
		case <-time.After(5 * time.Second):
			return func(t *testing.T) { t.Errorf("no hint after flags %x", flags) }
		}
		for drained := false; !drained; { // one change makes several messages
			select {
			case <-w.hint:
			case <-time.After(50 * time.Millisecond):
				drained = true
			}
		}
	}
	return func(*testing.T) {}
}
