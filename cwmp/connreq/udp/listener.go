package udp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Stats counts datagrams since Listen.
type Stats struct {
	Accepted, Repeated, Refused int64 // connection requests
	Limited                     int64 // datagrams not looked at, and good requests over PerMinute
}

// Listener hears connection requests while Run runs.
type Listener struct {
	cfg     Config
	log     *slog.Logger
	conn    net.PacketConn
	local   netip.AddrPort // of conn; the address may be unspecified
	packets chan packet
	ran     atomic.Bool

	accepted, repeated, refused, limited atomic.Int64

	// The rest belongs to the goroutine in Run.
	looks  *rate.Limiter
	accept *rate.Limiter
	guard  guard
	stun   *client
}

type packet struct {
	data   []byte
	second bool // came to the second socket
}

// Listen opens the socket; nothing is read before Run. Close is for a Listener that never ran.
func Listen(cfg Config) (*Listener, error) {
	cfg = cfg.Default()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	conn, err := cfg.ListenPacket("udp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("udp: %w", err)
	}
	l := &Listener{cfg: cfg, log: cfg.Logger, conn: conn, local: addrPort(conn.LocalAddr()), packets: make(chan packet, waiting),
		looks:  rate.NewLimiter(looksPerSecond, looksPerSecond),
		accept: rate.NewLimiter(rate.Limit(float64(cfg.PerMinute)/60), cfg.PerMinute)}
	return l, nil
}

func addrPort(a net.Addr) netip.AddrPort {
	if u, ok := a.(*net.UDPAddr); ok {
		ap := u.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// Port that is listened on.
func (l *Listener) Port() int { return int(l.local.Port()) }

// Stats so far.
func (l *Listener) Stats() Stats {
	return Stats{Accepted: l.accepted.Load(), Repeated: l.repeated.Load(), Refused: l.refused.Load(), Limited: l.limited.Load()}
}

// Close closes the socket of a Listener that never ran, and ends a running one with an error. Idempotent.
func (l *Listener) Close() error {
	if err := l.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("udp: %w", err)
	}
	return nil
}

// Run hears requests and keeps the binding alive until ctx ends, closes the socket and joins everything it started. It
// returns nil then, and an error when the socket fails. It can be called once.
func (l *Listener) Run(ctx context.Context) error {
	if l.ran.Swap(true) {
		return errors.New("udp: Run was called before")
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	failed := make(chan error, 1)
	wg.Go(func() { l.read(l.conn, false, failed) })
	if l.cfg.Server != "" {
		l.stun = newClient(l, &wg)
		l.stun.start(ctx, time.Now())
	}
	err := l.loop(ctx, failed)
	cancel()
	_ = l.conn.Close()
	if l.stun != nil {
		l.stun.endSearch()
	}
	wg.Wait()
	return err
}

func (l *Listener) loop(ctx context.Context, failed <-chan error) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var resolved <-chan resolution
	for {
		if l.stun != nil {
			resolved = l.stun.resolved
			timer.Reset(max(0, time.Until(l.stun.at)))
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return fmt.Errorf("udp: %w", err)
		case p := <-l.packets:
			l.handle(ctx, p)
		case r := <-resolved:
			l.stun.serverFound(r, time.Now())
		case <-timer.C:
			if l.stun != nil {
				l.stun.tick(ctx, time.Now())
			}
		}
	}
}

// read hands datagrams to the loop until the socket is closed: goroutine of Run. What the loop cannot take is dropped.
func (l *Listener) read(conn net.PacketConn, second bool, failed chan<- error) {
	buf := make([]byte, maxDatagram+1)
	for errorsInARow := 0; ; {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			errorsInARow++
			if closed := errors.Is(err, net.ErrClosed); closed || errorsInARow > 10 {
				select {
				case failed <- err:
				default:
				}
				return
			}
			time.Sleep(10 * time.Millisecond)
			continue
		}
		errorsInARow = 0
		if n > maxDatagram || n == 0 {
			continue
		}
		select {
		case l.packets <- packet{append([]byte(nil), buf[:n]...), second}:
		default:
			l.limited.Add(1)
		}
	}
}

func (l *Listener) handle(ctx context.Context, p packet) {
	if !l.looks.Allow() {
		l.limited.Add(1)
		return
	}
	if IsSTUN(p.data) {
		if l.stun == nil {
			return
		}
		if m, err := Decode(p.data); err == nil {
			l.stun.response(ctx, m, p.second, time.Now())
		} else {
			l.log.Debug("stun message refused", "error", err)
		}
		return
	}
	if !p.second {
		l.request(p.data)
	}
}

// request takes a connection request. There is no answer, whatever it is. TR-069 G.2.2.3
func (l *Listener) request(datagram []byte) {
	r, err := ParseRequest(datagram)
	if err == nil {
		user, password := l.cfg.Credentials()
		var now time.Time
		if l.cfg.Now != nil {
			now = l.cfg.Now()
		}
		err = l.guard.check(r, user, password, now)
	}
	switch {
	case errors.Is(err, errRepeated): // STUN-04
		l.repeated.Add(1)
	case err != nil:
		l.refused.Add(1)
		l.log.Debug("udp connection request refused", "error", err)
	case !l.accept.Allow():
		l.limited.Add(1)
		l.log.Warn("udp connection request refused by the rate limit", "per_minute", l.cfg.PerMinute)
	default:
		l.accepted.Add(1)
		l.cfg.Requested()
	}
}
