package main

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Whatever is written to the socket of the command line, the agent lives, frees the place and serves the next one.
func TestHostileBytesOnTheSocket(t *testing.T) {
	r := configure(t, "")
	r.start()
	random := rand.New(rand.NewPCG(1, 2))
	junk := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	frame := func(typ byte, value []byte) []byte {
		b := binary.BigEndian.AppendUint32([]byte{0x5f, 0x55, 0x53, 0x50}, uint32(len(value)+5))
		return append(binary.BigEndian.AppendUint32(append(b, typ), uint32(len(value))), value...)
	}
	hello := frame(1, []byte("self::cli"))
	for i := range 200 {
		nc, err := net.Dial("unix", filepath.Join(r.data, "twinspan.sock"))
		if err != nil {
			t.Fatal(err)
		}
		nc.SetDeadline(time.Now().Add(20 * time.Second))
		switch i % 5 {
		case 0: // no protocol at all
			nc.Write(junk(1 + random.IntN(5000)))
		case 1: // a frame of random length
			nc.Write(append([]byte{0x5f, 0x55, 0x53, 0x50}, junk(8+random.IntN(100))...))
		case 2: // a session, then a record of noise
			nc.Write(append(hello, frame(3, junk(1+random.IntN(3000)))...))
		case 3: // a session, then half a frame
			nc.Write(append(hello, frame(3, junk(500))[:random.IntN(400)]...))
		case 4: // a session, then frames of unknown kinds
			nc.Write(append(hello, frame(byte(4+random.IntN(250)), junk(20))...))
		}
		if i%2 == 0 {
			nc.(*net.UnixConn).CloseWrite()
			io.Copy(io.Discard, nc)
		}
		nc.Close()
	}
	for late := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		status, out, errOut := r.do("get", "Device.DeviceInfo.SerialNumber")
		if status == exitDone && strings.Contains(out, "TEST1") {
			break
		} else if time.Now().After(late) {
			t.Fatalf("exit %d: %s %s", status, out, errOut)
		}
	}
}
