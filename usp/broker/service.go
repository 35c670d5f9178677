package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"twinspan/datamodel"
	"twinspan/usp"
	"twinspan/usp/uspmsg"
)

// service is one connected Service.
type service struct {
	b        *Broker
	endpoint string
	link     uint64
	send     func(ctx context.Context, record []byte) error
	refused  bool // a second link of the same Endpoint ID
	cancel   context.CancelFunc
	wake     chan struct{} // to keep
	done     chan struct{} // closed when the Service is gone

	// Guarded by Broker.mu.
	row   uint32   // of Device.USPServices.USPService., 0: none
	paths []string // registered, without final dot, in the order of registration
	asked []string // as they were registered
	ended bool

	mu         sync.Mutex
	close      func(reason string)
	pending    map[string]*call
	silences   int
	models     map[string]*model // by registered path
	want       map[uint32]wanted // Subscriptions that should be mirrored
	operations map[string]*operation
	followed   string // references of the Broker's own Subscription as it is at the Service

	have map[uint32]mirrored // Subscriptions that are; only for keep
}

// call is one request that waits for its answer.
type call struct {
	kind   uspmsg.Header_MsgType // of the answer
	answer chan *uspmsg.Msg      // cap 1
}

// name is how errors speak of the Service.
func (s *service) name() string { return "USP Service " + s.endpoint }

// reject remembers how the link is closed.
func (s *service) reject(fn func(reason string)) {
	s.mu.Lock()
	s.close = fn
	s.mu.Unlock()
}

// poke makes keep look at what is to be done.
func (s *service) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// answers gives the type of the response to a request.
func answers(r *uspmsg.Request) uspmsg.Header_MsgType {
	switch r.GetReqType().(type) {
	case *uspmsg.Request_Get:
		return uspmsg.Header_GET_RESP
	case *uspmsg.Request_GetInstances:
		return uspmsg.Header_GET_INSTANCES_RESP
	case *uspmsg.Request_GetSupportedDm:
		return uspmsg.Header_GET_SUPPORTED_DM_RESP
	case *uspmsg.Request_Set:
		return uspmsg.Header_SET_RESP
	case *uspmsg.Request_Add:
		return uspmsg.Header_ADD_RESP
	case *uspmsg.Request_Delete:
		return uspmsg.Header_DELETE_RESP
	}
	return uspmsg.Header_OPERATE_RESP
}

// ask sends a request and waits for its answer: the right response, or an Error message.
func (s *service) ask(ctx context.Context, r *uspmsg.Request, limit time.Duration) (*uspmsg.Msg, error) {
	b := s.b
	c := &call{kind: answers(r), answer: make(chan *uspmsg.Msg, 1)}
	id := "b" + strconv.FormatUint(b.seq.Add(1), 36)
	s.mu.Lock()
	if len(s.pending) >= b.opt.Limits.Requests {
		s.mu.Unlock()
		return nil, datamodel.Fail(datamodel.Resources, "", "too many requests wait for the "+s.name())
	}
	s.pending[id] = c
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.pending, id)
		s.mu.Unlock()
	}()
	rec, err := usp.WrapMessage(b.opt.EndpointID, s.endpoint, usp.NewRequest(id, r))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := s.send(ctx, rec); err != nil {
		return nil, &datamodel.Error{Reason: datamodel.Internal, Text: "the " + s.name() + " cannot be reached", Err: err}
	}
	select {
	case m := <-c.answer:
		s.mu.Lock()
		s.silences = 0
		s.mu.Unlock()
		if e := m.GetBody().GetError(); e == nil && m.GetBody().GetResponse() == nil || e == nil && usp.TypeOf(m) != c.kind {
			return nil, datamodel.Fail(datamodel.Internal, "", "the "+s.name()+" answered something else than it was asked")
		}
		return m, nil
	case <-s.done:
		return nil, datamodel.Fail(datamodel.Internal, "", "the "+s.name()+" went away")
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			s.silent()
		}
		return nil, datamodel.Fail(datamodel.Internal, "", fmt.Sprintf("the %s did not answer within %s", s.name(), limit))
	}
}

// silent counts a request without an answer; a Service that has stopped answering is let go, so that it can begin anew.
func (s *service) silent() {
	s.mu.Lock()
	s.silences++
	n, end := s.silences, s.close
	s.mu.Unlock()
	s.b.rarely(slog.LevelWarn, "service_silent", s.endpoint, "requests", n)
	if n >= maxSilences {
		s.b.gone(s)
		if end != nil {
			end("no answer to several requests")
		}
	}
}

// message takes one message of the Service, on the reader goroutine of its link.
func (s *service) message(ctx context.Context, payload []byte) {
	m, err := usp.DecodeMessage(payload, s.b.opt.Limits.Message)
	if err != nil {
		var me *usp.MessageError
		if !errors.As(err, &me) {
			return
		}
		s.b.rarely(slog.LevelWarn, "service_message_refused", s.endpoint, "error", me.Error())
		if me.Answer { // R-MTP.5
			s.tell(ctx, me.Reply())
		} else if me.MsgID != "" {
			s.answered(me.MsgID, usp.ErrorMessage(me.MsgID, usp.Fault{Code: usp.CodeInternal, Text: "the answer of the " + s.name() + " cannot be used: " + me.Text}))
		}
		return
	}
	id := m.GetHeader().GetMsgId()
	req := m.GetBody().GetRequest()
	switch t := req.GetReqType().(type) {
	case nil:
		s.answered(id, m)
	case *uspmsg.Request_Register:
		s.tell(ctx, s.b.register(s, id, t.Register))
	case *uspmsg.Request_Deregister:
		s.tell(ctx, s.b.deregister(s, id, t.Deregister))
	case *uspmsg.Request_Notify:
		wants, sub := t.Notify.GetSendResp(), t.Notify.GetSubscriptionId()
		s.notified(t.Notify) // which gives it away
		if wants {
			s.tell(ctx, usp.NewResponse(id, &uspmsg.Response{RespType: &uspmsg.Response_NotifyResp{NotifyResp: &uspmsg.NotifyResp{SubscriptionId: sub}}}))
		}
	default:
		// A Service's Controller has a socket of its own. // R-MSG.1
		s.tell(ctx, usp.ErrorMessage(id, usp.Fault{Code: usp.CodeMessageNotSupported, Text: "this socket is for the agents of USP Services"}))
	}
}

// answered hands an answer to who waits for it; what nobody waits for is dropped. // R-MSG.9
func (s *service) answered(id string, m *uspmsg.Msg) {
	s.mu.Lock()
	c := s.pending[id]
	delete(s.pending, id)
	s.mu.Unlock()
	if c != nil {
		c.answer <- m
	}
}

// tell sends a message without waiting longer than a moment: the reader of the link is the caller.
func (s *service) tell(ctx context.Context, m *uspmsg.Msg) {
	rec, err := usp.WrapMessage(s.b.opt.EndpointID, s.endpoint, m)
	if err != nil {
		s.b.log.Error("service_encode_failed", "endpoint", s.endpoint, "error", err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.b.opt.Limits.Time)
	defer cancel()
	if err := s.send(ctx, rec); err != nil {
		s.b.rarely(slog.LevelInfo, "service_send_failed", s.endpoint, "error", err.Error())
	}
}

// keep is the Service's own goroutine: it asks what was registered for its data model and keeps the mirrored Subscriptions in
// step. It ends when the Service is gone.
func (s *service) keep(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	fresh, retry := true, retryTime
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
			retry = retryTime
		case <-timer.C:
		}
		if fresh && s.forgetOld(ctx) {
			fresh = false
		}
		s.learn(ctx)
		wait := time.Hour
		if fresh || !s.mirror(ctx) {
			wait = retry
			retry = min(2*retry, retryMost)
		}
		timer.Reset(wait)
	}
}
