package mqtt

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// bytesConn is a connection on which a broker sent some bytes and hung up.
type bytesConn struct {
	net.Conn
	r *bytes.Reader
}

func (c bytesConn) Read(p []byte) (int, error)       { return c.r.Read(p) }
func (c bytesConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c bytesConn) Close() error                     { return nil }
func (c bytesConn) SetWriteDeadline(time.Time) error { return nil }

// FuzzGuard: whatever a broker sends, reading packets through the guard ends without panic, every packet that passes is
// within the limit, and nothing is read past the first refused one.
func FuzzGuard(f *testing.F) {
	f.Add([]byte{0x20, 0x03, 0, 0, 0})
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0x7f})
	f.Add([]byte{0x34, 0x00})
	f.Add([]byte{0x32, 0x0c, 0, 3, 'a', '/', 'b', 0, 1, 3, 3, 0, 0, 'x'})
	f.Add([]byte{0x90, 0x04, 0, 1, 0, 0, 0xd0, 0x00, 0xe0, 0x00})
	const most = 4096
	f.Fuzz(func(t *testing.T, data []byte) {
		failed := 0
		g := newGuard(bytesConn{r: bytes.NewReader(data)}, most, func(err error) {
			if err != nil {
				failed++
			}
		})
		for {
			p, err := packets.ReadPacket(g)
			if err != nil {
				break
			}
			if p.Type == packets.PUBLISH {
				if pub := p.Content.(*packets.Publish); pub.QoS > 1 || len(pub.Payload) > most {
					t.Fatalf("passed: %+v", pub)
				}
				g.handled()
			}
		}
		if g.left > most && failed == 0 {
			t.Fatalf("a packet of %d bytes passed", g.left)
		}
		if g.inBytes < 0 {
			t.Fatalf("%d bytes are held", g.inBytes)
		}
	})
}
