// Package service makes a USP Service of an engine: an agent whose one Controller is the USP Broker of the device, and that
// registers paths with it.
//
//	s, err := service.New(service.Options{EndpointID: "self::clock", Socket: "/var/run/usp/broker_controller_path",
//		Engine: engine, Paths: []string{"Device.X_EXAMPLE_Clock."}})
//	engine.Start(ctx)
//	err = s.Start(ctx)
//	...
//	s.Close()
//
// The engine's schema needs Device.LocalAgent. with Controller and Subscription, which the Broker uses, and what is registered.
// Everything else is the usual work of a bridge.Engine: values, commands and events come from its providers.
//
// The link is kept up, and the paths are registered anew on each. Options.Role must be the path of a Role that exists in the
// engine's factory values: the Broker gets it.
//
// # Promised
//
// Close returns when every goroutine of the Service has ended. What the Broker sends is bounded as what a Controller sends to any
// agent.
package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/usp"
	"twinspan/usp/agent"
	"twinspan/usp/mtp"
	"twinspan/usp/mtp/uds"
	"twinspan/usp/uspmsg"
)

const controllerPath = "Device.LocalAgent.Controller."

// Options of New. EndpointID, Socket, Engine, Paths and Role are required.
type Options struct {
	EndpointID string
	Socket     string // of the Broker's Controller
	Engine     *bridge.Engine
	Paths      []string // to register; each on its own, so that a taken one does not keep the others out
	Role       string   // that the Broker gets: "Device.LocalAgent.ControllerTrust.Role.1"
	Log        *slog.Logger
	// OnRegistered hears what became of every attempt to register: nil, or what was refused. Must not block.
	OnRegistered func(err error)
	// RetryMin and RetryMax bound the random wait before a reconnect (1 s, 5 s), Again is the wait after a refusal (30 s).
	RetryMin, RetryMax, Again time.Duration
}

// Service is a USP Service. Safe for concurrent use.
type Service struct {
	opt    Options
	agent  *agent.Agent
	client *uds.Client
	inner  mtp.Handler

	mu     sync.Mutex
	link   *link
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// link is one connection to the Broker.
type link struct {
	broker string
	send   func(ctx context.Context, record []byte) error
	down   context.CancelFunc
	answer chan *uspmsg.Msg // to Register, cap 1
	id     string
}

// New builds the Service and registers its agent with the engine, which must not be started yet.
func New(o Options) (*Service, error) {
	if o.Engine == nil || len(o.Paths) == 0 || o.Role == "" {
		return nil, errors.New("service: options Engine, Paths and Role are required")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.OnRegistered == nil {
		o.OnRegistered = func(error) {}
	}
	if o.Again <= 0 {
		o.Again = 30 * time.Second
	}
	c := uds.DefaultClientConfig()
	c.Path, c.EndpointID = o.Socket, o.EndpointID
	if o.RetryMin > 0 {
		c.RetryMin, c.RetryMax = o.RetryMin, max(o.RetryMin, o.RetryMax)
	}
	client, err := uds.NewClient(c)
	if err != nil {
		return nil, fmt.Errorf("service: %w", err)
	}
	a, err := agent.New(agent.Options{EndpointID: o.EndpointID, Engine: o.Engine, Log: o.Log, Protocols: []string{"UDS"}})
	if err != nil {
		return nil, fmt.Errorf("service: %w", err)
	}
	return &Service{opt: o, agent: a, client: client, inner: a.Handler(false)}, nil
}

// Start connects and registers; the engine must have been started. The Service works until Close or the end of ctx.
func (s *Service) Start(ctx context.Context) error {
	if err := s.agent.Start(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	s.mu.Lock()
	s.cancel = cancel
	s.mu.Unlock()
	s.wg.Go(func() {
		_ = s.client.Run(ctx, handler{s}, func(st mtp.State) { s.state(ctx, st) }) // ends with ctx only
	})
	return nil
}

// Close says goodbye to the Broker and ends everything. Idempotent.
func (s *Service) Close() error {
	s.mu.Lock()
	cancel, l := s.cancel, s.link
	s.link = nil
	s.mu.Unlock()
	if l != nil { // R-MTP.7
		ctx, done := context.WithTimeout(context.Background(), time.Second)
		_ = l.send(ctx, usp.DisconnectRecord(s.opt.EndpointID, l.broker, usp.CodeSessionTerminated, "the service stops"))
		done()
	}
	if cancel != nil {
		cancel()
	}
	s.wg.Wait()
	return s.agent.Close()
}

// Drop ends the present link without a goodbye, as a crash does; another one is made. For tests.
func (s *Service) Drop() {
	s.mu.Lock()
	l := s.link
	s.mu.Unlock()
	if l != nil {
		_ = l.send(context.Background(), []byte{0xff}) // no record: the Broker closes
	}
}

// state follows the link to the Broker.
func (s *Service) state(ctx context.Context, st mtp.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != nil {
		s.link.down()
		s.link = nil
	}
	if !st.Up {
		s.opt.Log.Info("broker_link_down", "reason", st.Reason)
		return
	}
	ctx, down := context.WithCancel(ctx)
	l := &link{broker: st.Peer.Claimed, send: st.Send, down: down, answer: make(chan *uspmsg.Msg, 1)}
	s.link = l
	s.wg.Go(func() { s.greet(ctx, l) }) // ends with the link
}

// greet makes the Broker a Controller and registers, again and again until nothing is refused.
func (s *Service) greet(ctx context.Context, l *link) {
	if err := s.know(ctx, l.broker); err != nil {
		s.opt.OnRegistered(err)
		return
	}
	if l.send(ctx, usp.UDSConnect(s.opt.EndpointID, l.broker)) != nil { // R-MTP.6
		return
	}
	for n := uint64(1); ; n++ {
		err := s.register(ctx, l, "register-"+strconv.FormatUint(n, 10))
		if ctx.Err() != nil {
			return
		}
		s.opt.OnRegistered(err)
		if err == nil {
			return
		}
		s.opt.Log.Warn("registration_refused", "error", err.Error())
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.opt.Again):
		}
	}
}

// know makes the row of the Broker, which is the Service's one Controller.
func (s *Service) know(ctx context.Context, broker string) error {
	v := s.opt.Engine.Store().Head()
	w := bridge.Writer{Name: "sys:service", Protocol: datamodel.USP, Class: "sys", System: true}
	set := []bridge.Setting{{Name: "EndpointID", Value: broker, Required: true}, {Name: "Enable", Value: "true", Required: true},
		{Name: "AssignedRole", Value: s.opt.Role, Required: true}}
	c := bridge.Change{Atomic: true, Ref: "broker"}
	for _, n := range v.Instances(controllerPath) {
		row := controllerPath + strconv.FormatUint(uint64(n), 10) + "."
		if l, _ := v.Leaf(row + "EndpointID"); l.Value == broker {
			return nil
		}
		c.Ops = append(c.Ops, bridge.Op{Kind: bridge.OpDelete, Path: row}) // a Broker that was here before
	}
	c.Ops = append(c.Ops, bridge.Op{Kind: bridge.OpAdd, Path: controllerPath, Settings: set})
	res, err := s.opt.Engine.Apply(ctx, w, c)
	for _, o := range res.Outcomes {
		if err == nil {
			err = o.Err
		}
	}
	return err
}

// register sends Register once and waits for the answer.
func (s *Service) register(ctx context.Context, l *link, id string) error {
	m := &uspmsg.Register{AllowPartial: true}
	for _, p := range s.opt.Paths {
		m.RegPaths = append(m.RegPaths, &uspmsg.Register_RegistrationPath{Path: p})
	}
	rec, err := usp.WrapMessage(s.opt.EndpointID, l.broker, usp.NewRequest(id, &uspmsg.Request{ReqType: &uspmsg.Request_Register{Register: m}}))
	if err != nil {
		return err
	}
	s.mu.Lock()
	l.id = id
	s.mu.Unlock()
	if err := l.send(ctx, rec); err != nil {
		return err
	}
	select {
	case a := <-l.answer:
		return refused(a)
	case <-time.After(30 * time.Second):
		return errors.New("service: the Broker does not answer Register")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// refused reads an answer to Register.
func refused(m *uspmsg.Msg) error {
	if e := m.GetBody().GetError(); e != nil {
		return fmt.Errorf("service: the Broker refuses: %d %s", e.GetErrCode(), e.GetErrMsg())
	}
	var errs []error
	for _, r := range m.GetBody().GetResponse().GetRegisterResp().GetRegisteredPathResults() {
		// What a Broker has from this Service already is as good as registered.
		if f := r.GetOperStatus().GetOperFailure(); f != nil {
			errs = append(errs, fmt.Errorf("service: %s: %d %s", r.GetRequestedPath(), f.GetErrCode(), f.GetErrMsg()))
		}
	}
	return errors.Join(errs...)
}

// handler receives for a Service without showing HandleRecord among its methods.
type handler struct{ s *Service }

// HandleRecord implements mtp.Handler: the answer to Register is the Service's, the rest its agent's.
func (h handler) HandleRecord(ctx context.Context, in mtp.Inbound) {
	s := h.s
	if rec, err := usp.OpenRecord(in.Record, s.opt.EndpointID, usp.DefaultLimits()); err == nil && rec.Kind == usp.KindMessage {
		m, err := usp.DecodeMessage(rec.Payload, usp.DefaultLimits())
		if err == nil && m.GetBody().GetRequest() == nil {
			s.mu.Lock()
			l := s.link
			ours := l != nil && l.id == m.GetHeader().GetMsgId() && l.broker == rec.From
			s.mu.Unlock()
			if ours {
				select {
				case l.answer <- m:
				default:
				}
				return
			}
		}
	}
	s.inner.HandleRecord(ctx, in)
}
