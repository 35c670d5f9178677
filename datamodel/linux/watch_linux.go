package linux

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// watcher turns rtnetlink messages about links and addresses into hints. Its goroutine ends in Close.
type watcher struct {
	hint  chan struct{}
	f     *os.File
	done  chan struct{}
	close sync.Once
	err   error
}

func startWatcher() (*watcher, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("rtnetlink socket: %w", err)
	}
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("rtnetlink groups: %w", err)
	}
	w := &watcher{hint: make(chan struct{}, 1), f: os.NewFile(uintptr(fd), "rtnetlink"), done: make(chan struct{})}
	go w.run()
	return w, nil
}

// run only wants to know that something happened: Rows reads what.
func (w *watcher) run() {
	defer close(w.done)
	buf := make([]byte, 8192)
	for {
		_, err := w.f.Read(buf)
		// ENOBUFS: messages were lost, which is as good as a message.
		if err != nil && !errors.Is(err, syscall.ENOBUFS) && !errors.Is(err, syscall.EINTR) {
			return
		}
		select {
		case w.hint <- struct{}{}:
		default: // one is waiting already
		}
	}
}

func (w *watcher) Close() error {
	w.close.Do(func() {
		w.err = w.f.Close() // wakes the reader
		<-w.done
	})
	return w.err
}

// clockSynced asks the kernel whether something keeps its clock in step.
func clockSynced() (bool, error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return false, err
	}
	return state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, nil
}
