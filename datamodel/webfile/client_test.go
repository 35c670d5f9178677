package webfile

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A server that takes the head of an upload, then reads no more, or that sends half a file and stops, does not hold the device up.
func TestServerStops(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 2 {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			defer nc.Close() // at the end of the test: until then the connection is open and silent
			line, _ := bufio.NewReader(nc).ReadString('\n')
			if line[:3] == "GET" {
				_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
			}
		}
	}()
	defer func() { ln.Close(); <-done }()
	c := New(nil, nil)
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	const size = 32 << 20 // more than the system's buffers take
	if err := file.Truncate(size); err != nil {
		t.Fatal(err)
	}
	r := Request{URL: "http://" + ln.Addr().String() + "/", MaxSize: size}
	var we *Error
	c.idle = 50*time.Millisecond - fileHeaderWait
	if err := c.Store(t.Context(), r, size, func() (*os.File, error) { return os.Open(file.Name()) }); !errors.As(err, &we) || we.Reason != Incomplete {
		t.Errorf("upload: %v", err)
	}
	c.idle = 50 * time.Millisecond
	if err := c.Fetch(t.Context(), r, file); !errors.As(err, &we) || we.Reason != Incomplete {
		t.Errorf("download: %v", err)
	}
}
