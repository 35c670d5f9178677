package conformcwmp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"twinspan/cwmp/connreq/udp"
)

// datagrams is a UDP server of one answer to one datagram; close joins it.
type datagrams struct {
	conn net.PacketConn
	wg   sync.WaitGroup
}

func serveDatagrams(address string, answer func(packet []byte, from net.Addr) []byte) (*datagrams, error) {
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		return nil, err
	}
	d := &datagrams{conn: conn}
	d.wg.Go(func() { // ends with close
		buf := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if out := answer(buf[:n], from); out != nil {
				_, _ = conn.WriteTo(out, from) // a lost datagram is asked for again
			}
		}
	})
	return d, nil
}

func (d *datagrams) close() {
	_ = d.conn.Close()
	d.wg.Wait()
}

// stunServer tells everybody the address he comes from.
func stunServer(host string) (*datagrams, error) {
	return serveDatagrams(net.JoinHostPort(host, "0"), func(packet []byte, from net.Addr) []byte {
		m, err := udp.Decode(packet)
		if err != nil {
			return nil
		}
		out, err := (&udp.Message{Type: udp.BindingResponse, Transaction: m.Transaction, Mapped: from.(*net.UDPAddr).AddrPort()}).Encode("")
		if err != nil {
			return nil
		}
		return out
	})
}

func stunRequests(ctx context.Context, b *bench) error {
	if err := b.need(ctx, b.ms("STUNEnable"), b.ms("UDPConnectionRequestAddress")); err != nil {
		return err
	}
	server, err := stunServer(hostOf(b.base))
	if err != nil {
		return err
	}
	defer server.close()
	host, port, err := net.SplitHostPort(server.conn.LocalAddr().String())
	if err != nil {
		return err
	}
	if err := b.set(ctx, "", b.ms("STUNServerAddress"), host, b.ms("STUNServerPort"), port, b.ms("STUNEnable"), "true"); err != nil {
		return notApplicable("STUN cannot be switched on: %v", err)
	}
	if err := b.notify(ctx, 2, b.ms("UDPConnectionRequestAddress")); err != nil {
		return err
	}
	b.endSession(ctx)
	address := ""
	for began := time.Now(); address == ""; {
		if time.Since(began) > 15*time.Second {
			return errors.New("UDPConnectionRequestAddress stays empty")
		}
		if _, err := b.newSession(ctx); err != nil {
			return err
		}
		if address, err = b.get(ctx, b.ms("UDPConnectionRequestAddress")); err != nil {
			return err
		}
	}
	b.endSession(ctx)
	if err := pause(ctx, time.Second); err != nil { // a VALUE CHANGE of the address is a session of its own
		return err
	}
	b.endSession(ctx)
	conn, err := net.Dial("udp", address)
	if err != nil {
		return fmt.Errorf("UDPConnectionRequestAddress %q: %w", address, err)
	}
	defer conn.Close()
	ask := udp.Request{Timestamp: uint64(time.Now().Unix()), ID: 4711, User: b.crUser, Cnonce: "c0ffee"}
	mark := b.tap.mark()
	for range 3 {
		if _, err := conn.Write(ask.Encode(address, "not "+b.crPass)); err != nil {
			return err
		}
	}
	if err := b.quiet(ctx, mark, 1500*time.Millisecond); err != nil {
		return fmt.Errorf("a wrong signature: %w", err)
	}
	mark = b.tap.mark()
	for range 3 {
		if _, err := conn.Write(ask.Encode(address, b.crPass)); err != nil {
			return err
		}
		if err := pause(ctx, 300*time.Millisecond); err != nil {
			return err
		}
	}
	x, err := b.inform(ctx, mark, "6 CONNECTION REQUEST", 5*time.Second)
	if err != nil {
		return fmt.Errorf("a UDP request: %w", err)
	}
	if err := b.quiet(ctx, b.after(x), 2*time.Second); err != nil {
		return fmt.Errorf("the copies of a UDP request: %w", err)
	}
	b.observe("one session for three copies to %s", address)
	return nil
}

// nameServer knows the one host name that lookUpTwice asks for.
const knownHost = "conform.example"

func nameServer() (*datagrams, error) {
	var failed error
	for last := 53; last < 60; last++ { // the port is fixed; of the loopback there are many addresses
		d, err := serveDatagrams(fmt.Sprintf("127.77.0.%d:53", last), answerName)
		if err == nil {
			return d, nil
		}
		failed = err
	}
	return nil, failed
}

func answerName(packet []byte, _ net.Addr) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(packet)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: h.ID, Response: true, Authoritative: true, RecursionDesired: h.RecursionDesired}, Questions: []dnsmessage.Question{q}}
	switch {
	case !strings.EqualFold(q.Name.String(), knownHost+"."):
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60},
			Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 7}}}}
	}
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	return out
}

func lookUpTwice(ctx context.Context, b *bench) error {
	object := b.root + "DNS.Diagnostics.NSLookupDiagnostics."
	if err := b.need(ctx, object+"DiagnosticsState"); err != nil {
		return err
	}
	server, err := nameServer()
	if err != nil {
		return notShown("the runner may not be a name server: %v", err)
	}
	defer server.close()
	host, _, err := net.SplitHostPort(server.conn.LocalAddr().String())
	if err != nil {
		return err
	}
	if err := b.wantState(ctx, finished, object, "DNSServer", host, "HostName", knownHost, "NumberOfRepetitions", "2"); err != nil {
		return err
	}
	for name, want := range map[string]string{"ResultNumberOfEntries": "2", "SuccessCount": "2", "Result.1.Status": "Success", "Result.2.IPAddresses": "192.0.2.7"} {
		if err := b.wantValue(ctx, object+name, want); err != nil {
			return err
		}
	}
	return b.wantState(ctx, finished, object, "HostName", "no-such."+knownHost)
}
