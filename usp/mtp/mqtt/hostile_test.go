package mqtt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"twinspan/usp"
	"twinspan/usp/mtp/mtptest"
)

// subscribed takes a client's CONNECT and SUBSCRIBE and grants everything.
func subscribed(nc net.Conn) error {
	if _, err := readPacket(nc); err != nil {
		return err
	}
	if _, err := nc.Write([]byte{0x20, 0x03, 0x00, 0x00, 0x00}); err != nil {
		return err
	}
	var h [4]byte // SUBSCRIBE is short: type, one byte of length, packet id
	if _, err := io.ReadFull(nc, h[:]); err != nil {
		return err
	}
	if h[0]>>4 != packets.Subscribe || h[1] > 127 {
		return fmt.Errorf("% x is no short SUBSCRIBE", h)
	}
	if _, err := io.CopyN(io.Discard, nc, int64(h[1])-2); err != nil {
		return err
	}
	_, err := nc.Write([]byte{0x90, 0x04, h[2], h[3], 0x00, 0x01})
	return err
}

// publish is a PUBLISH of a USP record to the agent.
func publish(qos byte, dup bool, id uint16, record []byte) []byte {
	var body bytes.Buffer
	body.Write(binary.BigEndian.AppendUint16(nil, uint16(len(agentTopic))))
	body.WriteString(agentTopic)
	if qos > 0 {
		body.Write(binary.BigEndian.AppendUint16(nil, id))
	}
	props := append([]byte{0x03, 0x00, 0x07}, "usp.msg"...)
	body.WriteByte(byte(len(props)))
	body.Write(props)
	body.Write(record)
	first := byte(packets.Publish<<4) | qos<<1
	if dup {
		first |= 8
	}
	return append([]byte{first, byte(body.Len())}, body.Bytes()...)
}

// A session that somebody else takes over again and again is opened again at the pace of the back-off, not faster.
func TestTakeoverLoop(t *testing.T) {
	var links atomic.Int32
	addr := scripted(t, func(nc net.Conn) {
		if subscribed(nc) == nil {
			links.Add(1)
			nc.Write([]byte{0xe0, 0x02, 0x8e, 0x00}) // session taken over
		}
	})
	const pace = 100 * time.Millisecond
	began := time.Now()
	p := mtptest.Start(t, newClient(t, addr, func(c *Config) { c.Retry = usp.Backoff{Min: pace, Multiplier: 1000} }), nil)
	for range 6 {
		p.Up()
		p.Down()
	}
	if d := time.Since(began); d < 5*pace {
		t.Errorf("six sessions in %s", d)
	}
	p.Stop()
	if n := links.Load(); n < 6 {
		t.Errorf("%d sessions", n)
	}
}

// What a broker sends again counts again with QoS 1, as the protocol has it, and every copy is acknowledged; the client lives.
func TestReplays(t *testing.T) {
	const copies = 200
	acks := make(chan int, 8)
	addr := scripted(t, func(nc net.Conn) {
		if subscribed(nc) != nil {
			return
		}
		go func() {
			for range copies {
				nc.Write(publish(1, true, 7, []byte("again")))
			}
		}()
		for n := 0; n < copies; {
			switch typ, err := readPacket(nc); {
			case err == nil && typ == packets.Pingreq:
				nc.Write([]byte{0xd0, 0x00})
			case err == nil && typ == packets.Puback:
				n++
			default:
				acks <- n
				return
			}
		}
		acks <- copies
		io.Copy(io.Discard, nc)
	})
	p := mtptest.Start(t, newClient(t, addr, nil), nil)
	p.Up()
	for range copies {
		if in := p.Next(); string(in.Record) != "again" || !in.Again {
			t.Fatalf("%q, delivered again: %v", in.Record, in.Again)
		}
	}
	select {
	case n := <-acks:
		if n != copies {
			t.Errorf("%d acknowledgements", n)
		}
	case <-time.After(mtptest.Wait):
		t.Error("acknowledgements are missing")
	}
	p.Stop()
}
