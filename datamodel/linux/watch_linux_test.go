package linux

import (
	"runtime"
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
