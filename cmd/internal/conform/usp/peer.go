package usp

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	core "twinspan/usp"
	"twinspan/usp/mtp"
	"twinspan/usp/uspmsg"
)

// Arrival is one record that the agent sent.
type Arrival struct {
	At     time.Time
	Record *core.Record
	Msg    *uspmsg.Msg // nil for records without message
	Bad    error       // why it could not be read
}

func (a *Arrival) notify() *uspmsg.Notify { return a.Msg.GetBody().GetRequest().GetNotify() }

// Peer is a Controller that the runner plays. All methods are safe for concurrent use.
type Peer struct {
	ID, Agent string
	tr        mtp.Transport
	ack       atomic.Bool // answer Notify
	next      atomic.Uint64

	mu    sync.Mutex
	topic string // of the agent on a broker, or what a listener knows it by
	up    int
	lost  int // links that ended
	log   []Arrival
	wake  chan struct{} // closed and replaced at every arrival and change of state
}

// maxArrivals bounds the log of one test; a test starts with an empty log.
const maxArrivals = 20_000

func newPeer(id, agent, topic string, tr mtp.Transport) *Peer {
	p := &Peer{ID: id, Agent: agent, tr: tr, topic: topic, wake: make(chan struct{})}
	p.ack.Store(true)
	return p
}

func (p *Peer) run(ctx context.Context) error { return p.tr.Run(ctx, p, p.state) }

func (p *Peer) state(s mtp.State) {
	if s.LinkID == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.Up {
		p.up++
	} else {
		p.up--
		p.lost++
	}
	close(p.wake)
	p.wake = make(chan struct{})
}

func limits() core.Limits {
	l := core.DefaultLimits()
	l.RecordSize, l.Items = 64<<20, 5_000_000 // an agent may tell its whole model (1.76)
	return l
}

// HandleRecord implements mtp.Handler.
func (p *Peer) HandleRecord(ctx context.Context, in mtp.Inbound) {
	a := Arrival{At: time.Now()}
	a.Record, a.Bad = core.OpenRecord(in.Record, p.ID, limits())
	if a.Bad == nil && a.Record.Kind == core.KindMessage {
		a.Msg, a.Bad = core.DecodeMessage(a.Record.Payload, limits())
	}
	p.mu.Lock()
	if a.Bad == nil && a.Record.Kind == core.KindMQTTConnect {
		p.topic = a.Record.Raw.GetMqttConnect().GetSubscribedTopic()
	}
	if len(p.log) < maxArrivals {
		p.log = append(p.log, a)
	}
	close(p.wake)
	p.wake = make(chan struct{})
	p.mu.Unlock()
	if n := a.notify(); n != nil && n.GetSendResp() && p.ack.Load() {
		resp := core.NewResponse(a.Msg.GetHeader().GetMsgId(), &uspmsg.Response{RespType: &uspmsg.Response_NotifyResp{
			NotifyResp: &uspmsg.NotifyResp{SubscriptionId: n.GetSubscriptionId()}}})
		if rec, err := core.WrapMessage(p.ID, p.Agent, resp); err == nil {
			if in.Reply != nil {
				_ = in.Reply(ctx, rec) // lost with its link: the agent retries, which the test then sees
			}
		}
	}
}

// Mark is the position behind the newest arrival.
func (p *Peer) Mark() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.log)
}

func (p *Peer) clear() {
	p.mu.Lock()
	p.log = nil
	p.mu.Unlock()
}

// errSilence: nothing that fits came in time.
var errSilence = errors.New("nothing came in time")

// Wait returns the first arrival from a position on that fits.
func (p *Peer) Wait(ctx context.Context, from int, fits func(*Arrival) bool) (*Arrival, error) {
	for {
		p.mu.Lock()
		for ; from < len(p.log); from++ {
			if a := p.log[from]; fits(&a) {
				p.mu.Unlock()
				return &a, nil
			}
		}
		wake := p.wake
		p.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, errSilence
		}
	}
}

// All returns every arrival from a position on that fits.
func (p *Peer) All(from int, fits func(*Arrival) bool) []Arrival {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Arrival
	for i := from; i < len(p.log); i++ {
		if a := p.log[i]; fits(&a) {
			out = append(out, a)
		}
	}
	return out
}

func (p *Peer) waitUp(ctx context.Context) error {
	for {
		p.mu.Lock()
		up, wake := p.up > 0, p.wake
		p.mu.Unlock()
		if up {
			return nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return fmt.Errorf("%s: no link: %w", p.ID, ctx.Err())
		}
	}
}

func (p *Peer) isUp() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up > 0
}

// downs is how many links ended.
func (p *Peer) downs() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

func isConnect(a *Arrival) bool {
	return a.Bad == nil && (a.Record.Kind == core.KindMQTTConnect || a.Record.Kind == core.KindWebSocketConnect)
}

// Raw sends the bytes of a record.
func (p *Peer) Raw(ctx context.Context, record []byte) error {
	p.mu.Lock()
	dest := p.topic
	p.mu.Unlock()
	return p.tr.Send(ctx, dest, record)
}

// send sends a message without waiting and returns its msg_id.
func (p *Peer) send(ctx context.Context, r *uspmsg.Request) (string, error) {
	id := p.ID + "/" + strconv.FormatUint(p.next.Add(1), 10)
	rec, err := core.WrapMessage(p.ID, p.Agent, core.NewRequest(id, r))
	if err != nil {
		return id, err
	}
	return id, p.Raw(ctx, rec)
}

// Request sends a request and waits for the message that answers it.
func (p *Peer) Request(ctx context.Context, r *uspmsg.Request) (*uspmsg.Msg, error) {
	from := p.Mark()
	id, err := p.send(ctx, r)
	if err != nil {
		return nil, err
	}
	a, err := p.Wait(ctx, from, func(a *Arrival) bool {
		return a.Msg != nil && a.Msg.GetHeader().GetMsgId() == id && a.Msg.GetBody().GetRequest() == nil
	})
	if err != nil {
		return nil, fmt.Errorf("no answer to %s: %w", core.TypeOf(core.NewRequest("", r)), err)
	}
	return a.Msg, nil
}
