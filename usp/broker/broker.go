package broker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"twinspan/bridge"
	"twinspan/usp"
	"twinspan/usp/agent"
	"twinspan/usp/mtp"
	"twinspan/usp/mtp/uds"
)

// Limits bound what Services can make the agent spend. Zero values mean the defaults in parentheses.
type Limits struct {
	Services      int           // connected at a time (16)
	Paths         int           // registered by one Service (32)
	Objects       int           // in the supported data model of one Service (2000)
	Elements      int           // parameters, commands and events in it, and their arguments (20000)
	Requests      int           // waiting for one Service (64)
	Subscriptions int           // mirrored at one Service (256)
	Rows          int           // that a search path of an Operate may match (64)
	Response      int           // bytes of a merged answer (8 MiB)
	Message       usp.Limits    // of what a Service sends (usp.DefaultLimits)
	Time          time.Duration // to answer a request (10 s)
	CommandTime   time.Duration // to answer a synchronous command (50 s)
}

func (l *Limits) fill() {
	def := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	def(&l.Services, 16)
	def(&l.Paths, 32)
	def(&l.Objects, 2000)
	def(&l.Elements, 20_000)
	def(&l.Requests, 64)
	def(&l.Subscriptions, 256)
	def(&l.Rows, 64)
	def(&l.Response, 8<<20)
	if l.Message.RecordSize <= 0 || l.Message.Items <= 0 {
		l.Message = usp.DefaultLimits()
	}
	if l.Time <= 0 {
		l.Time = 10 * time.Second
	}
	if l.CommandTime <= 0 {
		l.CommandTime = 50 * time.Second
	}
}

// retryTime is after how long a Service that did not take a Subscription is asked again; the time doubles up to retryMost.
const (
	retryTime = 5 * time.Second
	retryMost = 5 * time.Minute
)

// maxSilences is after how many requests without an answer, one after the other, a Service is given up.
const maxSilences = 3

// Options of New. EndpointID and Socket are required.
type Options struct {
	EndpointID string      // of the agent, which is the Broker's, too
	Socket     string      // where the agents of Services connect
	Mode       fs.FileMode // of the socket, 0: 0600
	Log        *slog.Logger
	Limits     Limits
}

// Broker implements agent.Services and datamodel.Provider. Safe for concurrent use.
type Broker struct {
	opt    Options
	log    *slog.Logger
	server *uds.Server
	agent  *agent.Agent
	engine *bridge.Engine
	routes atomic.Pointer[routes] // of the Services in operation
	seq    atomic.Uint64          // of msg_ids

	mu     sync.Mutex
	links  map[uint64]*service // by link
	byID   map[string]*service
	next   uint32 // number of the newest row
	cancel context.CancelFunc
	closed bool
	wg     sync.WaitGroup
}

// New checks the options; Start listens.
func New(o Options) (*Broker, error) {
	if _, err := usp.ParseEndpointID(o.EndpointID); err != nil {
		return nil, fmt.Errorf("broker: option EndpointID: %w", err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Mode == 0 {
		o.Mode = 0o600
	}
	o.Limits.fill()
	c := uds.DefaultServerConfig()
	c.Path, c.EndpointID, c.Mode, c.Log = o.Socket, o.EndpointID, o.Mode, o.Log
	c.MaxConnections, c.MaxRecord = o.Limits.Services, o.Limits.Message.RecordSize
	server, err := uds.NewServer(c)
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	b := &Broker{opt: o, log: o.Log, server: server, links: map[uint64]*service{}, byID: map[string]*service{}}
	b.routes.Store(&routes{})
	return b, nil
}

// Start begins to listen for Services. a and e must have been started, and a built with the Broker in its Options.
func (b *Broker) Start(ctx context.Context, a *agent.Agent, e *bridge.Engine) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.cancel != nil {
		return errors.New("broker: Start after Start or Close")
	}
	b.agent, b.engine = a, e
	ctx, b.cancel = context.WithCancel(ctx)
	b.wg.Go(func() {
		_ = b.server.Run(ctx, handler{b}, b.state) // ends with ctx only
	})
	return nil
}

// Close ends all links and waits. The agent must still run. Idempotent.
func (b *Broker) Close() error {
	b.mu.Lock()
	b.closed = true
	cancel := b.cancel
	b.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	b.wg.Wait()
	return nil
}

// state follows the links of the socket.
func (b *Broker) state(s mtp.State) {
	switch {
	case s.LinkID == 0:
		if !s.Up {
			b.log.Warn("service_listen_failed", "socket", b.opt.Socket, "error", s.Reason)
		}
	case s.Up:
		b.connected(s)
	default:
		b.mu.Lock()
		svc := b.links[s.LinkID]
		delete(b.links, s.LinkID)
		b.mu.Unlock()
		if svc != nil {
			b.rarely(slog.LevelInfo, "service_link_down", svc.endpoint, "reason", s.Reason)
			b.gone(svc)
		}
	}
}

// connected makes a link that came up the one of its Endpoint ID, unless that has one already.
func (b *Broker) connected(s mtp.State) {
	svc := &service{b: b, endpoint: s.Peer.Claimed, link: s.LinkID, send: s.Send, pending: map[string]*call{}, models: map[string]*model{},
		want: map[uint32]wanted{}, have: map[uint32]mirrored{}, operations: map[string]*operation{}, wake: make(chan struct{}, 1), done: make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.links[s.LinkID] = svc
	if b.byID[svc.endpoint] != nil {
		svc.refused = true // by its first record; the older link stays, nobody can push a Service out
		return
	}
	b.byID[svc.endpoint] = svc
	ctx, cancel := context.WithCancel(context.Background())
	svc.cancel = cancel
	b.wg.Go(func() { svc.keep(ctx) }) // ends by gone, at the latest when the server ends the link
}

// gone takes a Service out of operation for good. Idempotent.
func (b *Broker) gone(svc *service) {
	b.mu.Lock()
	if b.byID[svc.endpoint] == svc {
		delete(b.byID, svc.endpoint)
	}
	ended := svc.ended
	svc.ended = true
	row := svc.row
	svc.row = 0
	svc.paths = nil
	b.rebuild()
	b.mu.Unlock()
	if ended {
		return
	}
	if svc.cancel != nil {
		svc.cancel()
	}
	close(svc.done) // everything that waits for it
	if row != 0 {
		b.agent.ServiceRow(rowPath(row), false)
	}
}

// handler receives for a Broker without showing HandleRecord among its methods.
type handler struct{ b *Broker }

// HandleRecord implements mtp.Handler.
func (h handler) HandleRecord(ctx context.Context, in mtp.Inbound) {
	b := h.b
	b.mu.Lock()
	svc := b.links[in.LinkID]
	b.mu.Unlock()
	if svc == nil {
		return
	}
	svc.reject(in.Reject)
	rec, err := usp.OpenRecord(in.Record, b.opt.EndpointID, b.opt.Limits.Message)
	switch {
	case err != nil:
		var re *usp.RecordError
		if errors.As(err, &re) && re.Action == usp.Reject {
			in.Reject(re.Text)
		}
		b.rarely(slog.LevelWarn, "service_record_refused", svc.endpoint, "error", err.Error())
	case rec.From != svc.endpoint:
		in.Reject("the record comes from another Endpoint ID than the handshake")
	case svc.refused:
		in.Reject("a USP Service with this Endpoint ID is connected already")
	case rec.Kind == usp.KindDisconnect:
		b.rarely(slog.LevelInfo, "service_disconnects", svc.endpoint)
		b.gone(svc)
		in.Reject("goodbye")
	case rec.Kind == usp.KindMessage:
		svc.message(ctx, rec.Payload)
	}
}

// rarely logs what one Service did, at most once in ten seconds for each kind.
func (b *Broker) rarely(level slog.Level, msg, endpoint string, args ...any) {
	b.agent.LogRarely(level, msg, append([]any{"endpoint", endpoint}, args...)...)
}

// Endpoints lists the connected Services.
func (b *Broker) Endpoints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]string, 0, len(b.byID))
	for id := range b.byID {
		out = append(out, id)
	}
	return out
}
