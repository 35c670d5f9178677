package lwnotif

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"
)

// Defaults and limits.
const (
	DefaultPort        = 7547
	DefaultMaxDatagram = 1400
	maxPending         = 1000
	activeGap          = time.Second // between two bursts for active changes
	sendPatience       = 5 * time.Second
)

// Config says where to and when. The zero Config sends nothing and drops what waits.
type Config struct {
	Host string // UDPLightweightNotificationHost, or the ACS's host
	Port int    // 0: 7547
	// Username and Password of this CPE at the ACS.
	Username, Password string
	Device             Device
	// Interval is LightweightNotificationTriggerInterval: passive changes go out at Reference + n·Interval. 0: only
	// together with an active one. Reference zero: counted from Configure.
	Interval    time.Duration
	Reference   time.Time
	MaxDatagram int // bytes; 0: 1400
}

// Default fills in what is not set.
func (c Config) Default() Config {
	if c.Port == 0 {
		c.Port = DefaultPort
	}
	if c.MaxDatagram == 0 {
		c.MaxDatagram = DefaultMaxDatagram
	}
	return c
}

// Validate reports what is wrong with a Config after Default, naming the field.
func (c Config) Validate() error {
	switch {
	case c.Port < 1 || c.Port > 65535:
		return fmt.Errorf("lwnotif: Port: %d", c.Port)
	case c.Interval < 0 || c.Interval > 0 && c.Interval < time.Second:
		return fmt.Errorf("lwnotif: Interval: %v, 0 or at least one second", c.Interval)
	case c.MaxDatagram < 512 || c.MaxDatagram > MaxMessage:
		return fmt.Errorf("lwnotif: MaxDatagram: %d, 512 to %d", c.MaxDatagram, MaxMessage)
	}
	return nil
}

// usable reports whether something can be sent.
func (c Config) usable() bool { return c.Host != "" && c.Username != "" && c.Password != "" }

// Stats counts since New.
type Stats struct {
	Datagrams, Params int64 // sent
	Dropped           int64 // values that found no room, were too long, or could not be sent
}

// Sender collects changed values and sends them. All methods may be called from any goroutine.
type Sender struct {
	log  *slog.Logger
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	wake chan struct{}

	mu      sync.Mutex
	cfg     Config
	pending map[string]int // name -> index in order
	order   []Param
	active  bool      // an active change waits
	lastOut time.Time // of the newest burst
	nextAt  time.Time // of the passive ones
	stats   Stats
	ran     bool
}

// New makes a Sender that sends nothing yet.
func New(log *slog.Logger) *Sender {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Sender{log: log, dial: (&net.Dialer{}).DialContext, wake: make(chan struct{}, 1), pending: map[string]int{}}
}

// Configure takes new settings over. What waits stays, and goes out by the new ones.
func (s *Sender) Configure(cfg Config) error {
	cfg = cfg.Default()
	if err := cfg.Validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg == cfg {
		return nil
	}
	if s.cfg.Interval != cfg.Interval || !s.cfg.Reference.Equal(cfg.Reference) {
		s.nextAt = next(time.Now(), cfg)
	}
	s.cfg = cfg
	if !cfg.usable() {
		s.clear()
	}
	s.poke()
	return nil
}

// next moment for passive changes; zero without an interval.
func next(now time.Time, cfg Config) time.Time {
	if cfg.Interval == 0 {
		return time.Time{}
	}
	if cfg.Reference.IsZero() {
		return now.Add(cfg.Interval)
	}
	// LightweightNotificationTriggerTime may lie in the past or in the future: it is only a phase.
	phase := now.Sub(cfg.Reference) % cfg.Interval
	if phase < 0 {
		phase += cfg.Interval
	}
	return now.Add(cfg.Interval - phase)
}

// Changed takes a changed value in. active is Notification 5 or 6: it goes out at once, and the passive ones with it. An
// older value of the same parameter that still waits is replaced.
func (s *Sender) Changed(p Param, active bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.cfg.usable() {
		return
	}
	if i, ok := s.pending[p.Name]; ok {
		s.order[i] = p
	} else if len(s.order) >= maxPending {
		s.stats.Dropped++
		return
	} else {
		s.pending[p.Name] = len(s.order)
		s.order = append(s.order, p)
	}
	if active && !s.active {
		s.active = true
		s.poke()
	}
}

// Stats so far.
func (s *Sender) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

func (s *Sender) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Sender) clear() {
	clear(s.pending)
	s.order, s.active = nil, false
}

// Run sends until ctx ends; it returns nil then. It can be called once.
func (s *Sender) Run(ctx context.Context) error {
	s.mu.Lock()
	ran := s.ran
	s.ran = true
	s.mu.Unlock()
	if ran {
		return errors.New("lwnotif: Run was called before")
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		cfg, params, wait := s.due(time.Now())
		if len(params) > 0 {
			s.send(ctx, cfg, params)
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-timer.C:
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// due takes out what has to go now, or says how long to wait.
func (s *Sender) due(now time.Time) (Config, []Param, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := time.Minute // a stepped clock is noticed within it
	passive := !s.nextAt.IsZero() && !now.Before(s.nextAt)
	if passive {
		s.nextAt = next(now, s.cfg)
	}
	if len(s.order) > 0 && (passive || s.active && now.Sub(s.lastOut) >= activeGap) {
		out := s.order
		s.clear()
		s.lastOut = now
		return s.cfg, out, 0
	}
	if s.active {
		wait = min(wait, activeGap-now.Sub(s.lastOut))
	}
	if !s.nextAt.IsZero() {
		wait = min(wait, s.nextAt.Sub(now))
	}
	return s.cfg, nil, max(wait, time.Millisecond)
}

// send puts the values into as many datagrams as they need.
func (s *Sender) send(ctx context.Context, cfg Config, params []Param) {
	ctx, cancel := context.WithTimeout(ctx, sendPatience)
	defer cancel()
	var sent, dropped, datagrams int
	conn, err := s.dial(ctx, "udp", net.JoinHostPort(cfg.Host, strconv.Itoa(cfg.Port)))
	if err == nil {
		defer conn.Close()
		_ = conn.SetWriteDeadline(time.Now().Add(sendPatience))
	}
	for len(params) > 0 && err == nil {
		raw, n := s.pack(cfg, params)
		if raw == nil {
			dropped++
			params = params[1:]
			continue
		}
		if _, err = conn.Write(raw); err == nil {
			datagrams, sent, params = datagrams+1, sent+n, params[n:]
		}
	}
	if err != nil { // as lost as a datagram on the way: Annex M knows no repetition
		dropped += len(params)
		s.log.Warn("lightweight notification not sent", "error", err, "params", len(params))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Datagrams += int64(datagrams)
	s.stats.Params += int64(sent)
	s.stats.Dropped += int64(dropped)
}

// pack makes a datagram of the first n parameters, as many as fit; nil if the first alone is too large. LWN-01
func (s *Sender) pack(cfg Config, params []Param) (raw []byte, n int) {
	encode := func(n int) []byte {
		m := Message{Timestamp: time.Now().Unix(), User: cfg.Username, Cnonce: rand.Text(), Device: cfg.Device, Params: params[:n]}
		return m.Encode(cfg.Host, cfg.Port, cfg.Password)
	}
	low, high := 1, min(len(params), maxParams)
	raw = encode(1)
	if len(raw) > MaxMessage {
		return nil, 0
	}
	for low < high { // the largest number that fits; one always goes
		middle := (low + high + 1) / 2
		if b := encode(middle); len(b) <= cfg.MaxDatagram {
			low, raw = middle, b
		} else {
			high = middle - 1
		}
	}
	return raw, low
}
