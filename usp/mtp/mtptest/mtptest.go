// Package mtptest is the suite that every MTP passes, and helpers for tests that need a handler or wait for a state. It
// imports testing and is only for tests.
//
//	func TestSuite(t *testing.T) { mtptest.Run(t, func(t *testing.T) mtptest.Bed { ... }) }
package mtptest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"twinspan/usp/mtp"
)

// Wait is how long a test waits for anything that must happen.
const Wait = 5 * time.Second

// Bed is a fresh pair of transports that can reach each other. Run may be called on each again after it returned.
type Bed struct {
	Client, Server     mtp.Transport
	ToServer, ToClient string // dest arguments of Send
	MaxRecord          int    // largest record that Client and Server take
	// Drop cuts the connection without a goodbye.
	Drop func()
	// Garbage sends bytes to the server that are not the transport's protocol, from a third party, and returns when they
	// are sent. nil where there is no way.
	Garbage func(t *testing.T)
	// Broker: a record that is rejected does not end the link, and a vanished server does not end the client's link.
	Broker bool
}

// Peer runs a transport and records what it does. Its methods fail the test when nothing happens in time.
type Peer struct {
	T      testing.TB
	Tr     mtp.Transport
	in     chan mtp.Inbound
	states chan mtp.State
	cancel context.CancelFunc
	mu     sync.Mutex // of Stop
	done   chan error
	// Handle, if set before Start, gets records instead of In.
	Handle func(ctx context.Context, in mtp.Inbound)
}

// HandleRecord implements mtp.Handler.
func (p *Peer) HandleRecord(ctx context.Context, in mtp.Inbound) {
	if p.Handle != nil {
		p.Handle(ctx, in)
		return
	}
	select {
	case p.in <- in:
	case <-ctx.Done():
	}
}

// Start runs tr until Stop or the end of the test.
func Start(t testing.TB, tr mtp.Transport, handle func(context.Context, mtp.Inbound)) *Peer {
	t.Helper()
	p := &Peer{T: t, Tr: tr, in: make(chan mtp.Inbound, 4096), states: make(chan mtp.State, 4096), Handle: handle}
	p.start()
	t.Cleanup(p.Stop)
	return p
}

func (p *Peer) start() {
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel, p.done = cancel, make(chan error, 1)
	go func() {
		p.done <- p.Tr.Run(ctx, p, func(s mtp.State) {
			select {
			case p.states <- s:
			default:
				p.T.Error("more than 4096 states in one test")
			}
		})
	}()
}

// Stop ends Run and waits for it. Idempotent.
func (p *Peer) Stop() {
	p.T.Helper()
	p.cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done == nil {
		return
	}
	select {
	case err := <-p.done:
		p.done = nil
		if err != nil {
			p.T.Errorf("Run returned %v", err)
		}
	case <-time.After(Wait):
		p.T.Fatal("Run does not return after its context ended")
	}
}

// Restart runs the transport again after Stop.
func (p *Peer) Restart() { p.start() }

// Up waits until a link is up and returns its state.
func (p *Peer) Up() mtp.State { p.T.Helper(); return p.state(true) }

// Down waits until a link is down.
func (p *Peer) Down() mtp.State { p.T.Helper(); return p.state(false) }

func (p *Peer) state(up bool) mtp.State {
	p.T.Helper()
	timeout := time.After(Wait)
	for {
		select {
		case s := <-p.states:
			if s.Up == up && s.LinkID != 0 {
				return s
			}
		case <-timeout:
			p.T.Fatalf("no link with up=%t in %s", up, Wait)
		}
	}
}

// States gives every state that was reported and not yet waited for.
func (p *Peer) States() <-chan mtp.State { return p.states }

// Failed waits for a state that tells of a failed attempt (no link).
func (p *Peer) Failed() mtp.State {
	p.T.Helper()
	timeout := time.After(Wait)
	for {
		select {
		case s := <-p.states:
			if !s.Up && s.LinkID == 0 {
				return s
			}
		case <-timeout:
			p.T.Fatalf("no failed attempt in %s", Wait)
		}
	}
}

// Next waits for a record.
func (p *Peer) Next() mtp.Inbound {
	p.T.Helper()
	select {
	case in := <-p.in:
		return in
	case <-time.After(Wait):
		p.T.Fatalf("no record in %s", Wait)
	}
	panic("unreachable")
}

// Quiet fails if a record arrives within d.
func (p *Peer) Quiet(d time.Duration) {
	p.T.Helper()
	select {
	case in := <-p.in:
		p.T.Fatalf("unexpected record of %d bytes", len(in.Record))
	case <-time.After(d):
	}
}

// Send sends and fails the test on error.
func (p *Peer) Send(dest string, record []byte) {
	p.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Wait)
	defer cancel()
	if err := p.Tr.Send(ctx, dest, record); err != nil {
		p.T.Fatalf("Send: %v", err)
	}
}

// Run runs the suite; build is called for every test.
func Run(t *testing.T, build func(t *testing.T) Bed) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, b Bed)
	}{
		{"Order", testOrder},
		{"Reply", testReply},
		{"SizeLimit", testSizeLimit},
		{"NotConnected", testNotConnected},
		{"Reconnect", testReconnect},
		{"PeerVanishes", testPeerVanishes},
		{"Reject", testReject},
		{"Garbage", testGarbage},
		{"CloseJoins", testCloseJoins},
		{"ConcurrentSend", testConcurrentSend},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, build(t)) })
	}
}

func both(t *testing.T, b Bed) (client, server *Peer) {
	t.Helper()
	server = Start(t, b.Server, nil)
	client = Start(t, b.Client, nil)
	client.Up()
	server.Up()
	return client, server
}

func testOrder(t *testing.T, b Bed) {
	client, server := both(t, b)
	const n = 500
	for i := range n {
		client.Send(b.ToServer, fmt.Appendf(nil, "c%d", i))
		server.Send(b.ToClient, fmt.Appendf(nil, "s%d", i))
	}
	for i := range n {
		if got, want := string(server.Next().Record), fmt.Sprintf("c%d", i); got != want {
			t.Fatalf("server got %s, want %s", got, want)
		}
		if got, want := string(client.Next().Record), fmt.Sprintf("s%d", i); got != want {
			t.Fatalf("client got %s, want %s", got, want)
		}
	}
}

func testReply(t *testing.T, b Bed) {
	client, server := both(t, b)
	client.Send(b.ToServer, []byte("question"))
	in := server.Next()
	if in.Reply == nil || in.Reject == nil || in.LinkID == 0 || in.Transport == "" {
		t.Fatalf("incomplete %+v", in)
	}
	if err := in.Reply(t.Context(), []byte("answer")); err != nil {
		t.Fatal(err)
	}
	if got := string(client.Next().Record); got != "answer" {
		t.Fatalf("got %s", got)
	}
}

func testSizeLimit(t *testing.T, b Bed) {
	client, server := both(t, b)
	big := bytes.Repeat([]byte{0xa5}, b.MaxRecord)
	client.Send(b.ToServer, big)
	if got := server.Next().Record; !bytes.Equal(got, big) {
		t.Fatalf("server got %d bytes, want %d", len(got), len(big))
	}
	server.Send(b.ToClient, bytes.Clone(big))
	if got := client.Next().Record; !bytes.Equal(got, big) {
		t.Fatalf("client got %d bytes, want %d", len(got), len(big))
	}
	for _, p := range []*Peer{client, server} {
		dest := b.ToServer
		if p == server {
			dest = b.ToClient
		}
		if err := p.Tr.Send(t.Context(), dest, make([]byte, b.MaxRecord+1)); !errors.Is(err, mtp.ErrTooLarge) {
			t.Errorf("too large: %v", err)
		}
	}
	client.Send(b.ToServer, []byte("still there"))
	if got := string(server.Next().Record); got != "still there" {
		t.Fatalf("got %s", got)
	}
}

func testNotConnected(t *testing.T, b Bed) {
	for _, tr := range []mtp.Transport{b.Client, b.Server} {
		if err := tr.Send(t.Context(), "nobody", []byte("x")); !errors.Is(err, mtp.ErrNotConnected) {
			t.Errorf("Send before Run: %v", err)
		}
	}
}

func testReconnect(t *testing.T, b Bed) {
	server := Start(t, b.Server, nil)
	client := Start(t, b.Client, nil)
	first, sfirst := client.Up(), server.Up()
	for range 3 {
		b.Drop()
		if d := client.Down(); d.Reason == "" || d.LinkID != first.LinkID {
			t.Errorf("down without reason or of another link: %+v, up was %+v", d, first)
		}
		second := client.Up()
		if second.LinkID == first.LinkID {
			t.Errorf("LinkID %d stayed", first.LinkID)
		}
		first = second
		if s := server.Up(); s.LinkID == sfirst.LinkID {
			t.Errorf("server's LinkID %d stayed", s.LinkID)
		} else {
			sfirst = s
		}
		client.Send(b.ToServer, []byte("again"))
		if got := string(server.Next().Record); got != "again" {
			t.Fatalf("got %s", got)
		}
	}
}

func testPeerVanishes(t *testing.T, b Bed) {
	client, server := both(t, b)
	server.Stop()
	if !b.Broker {
		client.Down()
		if err := b.Client.Send(t.Context(), b.ToServer, []byte("x")); !errors.Is(err, mtp.ErrNotConnected) {
			t.Errorf("Send after the peer went: %v", err)
		}
	}
	server.Restart()
	server.Up()
	if !b.Broker {
		client.Up()
	}
	client.Send(b.ToServer, []byte("hello"))
	if got := string(server.Next().Record); got != "hello" {
		t.Fatalf("got %s", got)
	}
}

func testReject(t *testing.T, b Bed) {
	client, server := both(t, b)
	client.Send(b.ToServer, []byte("bad"))
	server.Next().Reject("no USP record")
	if !b.Broker {
		client.Down()
		client.Up()
		server.Up()
	}
	client.Send(b.ToServer, []byte("good"))
	if got := string(server.Next().Record); got != "good" {
		t.Fatalf("got %s", got)
	}
}

func testGarbage(t *testing.T, b Bed) {
	if b.Garbage == nil {
		t.Log("this transport has no raw bytes to spoil")
		return
	}
	client, server := both(t, b)
	b.Garbage(t)
	client.Send(b.ToServer, []byte("alive"))
	if got := string(server.Next().Record); got != "alive" {
		t.Fatalf("got %q", got)
	}
}

func testCloseJoins(t *testing.T, b Bed) {
	client, server := both(t, b)
	for range 50 {
		client.Send(b.ToServer, []byte("x"))
	}
	client.Stop()
	client.Stop()
	server.Stop()
	if err := b.Client.Send(t.Context(), b.ToServer, []byte("x")); !errors.Is(err, mtp.ErrNotConnected) {
		t.Errorf("Send after Run: %v", err)
	}
}

func testConcurrentSend(t *testing.T, b Bed) {
	server := Start(t, b.Server, func(ctx context.Context, in mtp.Inbound) {
		if err := in.Reply(ctx, in.Record); err != nil && ctx.Err() == nil {
			t.Errorf("echo: %v", err)
		}
	})
	client := Start(t, b.Client, nil)
	client.Up()
	server.Up()
	const senders, each = 8, 50
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				if err := b.Client.Send(t.Context(), b.ToServer, fmt.Appendf(nil, "%d-%d", s, i)); err != nil {
					t.Errorf("Send: %v", err)
				}
			}
		})
	}
	next := map[string]int{}
	for range senders * each {
		var s string
		var i int
		rec := string(client.Next().Record)
		if _, err := fmt.Sscanf(rec, "%1s-%d", &s, &i); err != nil || next[s] != i {
			t.Fatalf("got %q, next of sender %s is %d (%v)", rec, s, next[s], err)
		}
		next[s]++
	}
	wg.Wait()
}
