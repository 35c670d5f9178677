package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/store"
	"twinspan/usp"
	"twinspan/usp/agent/trust"
	"twinspan/usp/mtp"
	"twinspan/usp/uspmsg"
)

// sendTime bounds how long an answer may take to leave.
const sendTime = 10 * time.Second

// linkHandler is the mtp.Handler of one transport: it remembers which configuration the records came by.
type linkHandler struct {
	a     *Agent
	run   *runner // nil when somebody else runs the transport
	local bool    // the local listener of Options
	peer  string  // the only Endpoint ID expected, "" for any
	dial  bool    // we dialled
	// services: the socket of Options.ServiceSocket
	services bool
}

// HandleRecord implements mtp.Handler.
func (h *linkHandler) HandleRecord(ctx context.Context, in mtp.Inbound) { h.a.receive(ctx, h, in) }

// Handler returns a mtp.Handler for a transport that is run by somebody else (tests, embedding). local marks the peers
// as the local Controller of Options.Local.
func (a *Agent) Handler(local bool) mtp.Handler { return &linkHandler{a: a, local: local} }

var (
	errPlaintext = errors.New("the link is not encrypted")
	errIdentity  = errors.New("the certificate does not name the sender")
	errUnknown   = errors.New("no Controller row for the sender")
	errDisabled  = errors.New("the Controller is disabled")
	errBanned    = errors.New("the Controller has the BannedRole")
	errLink      = errors.New("the link belongs to another Controller")
	errSignature = errors.New("the record's signature does not hold")
	errTooMany   = errors.New("too many local connections")
)

// receive is called by the transports, one call at a time for each connection.
func (a *Agent) receive(ctx context.Context, h *linkHandler, in mtp.Inbound) {
	rec, err := usp.OpenRecord(in.Record, a.opt.EndpointID, a.opt.Limits.Message) // R-E2E.1, R-ENC.4
	if err != nil {
		a.refuseRecord(ctx, h, in, err)
		return
	}
	if rec.Raw != nil && len(rec.Raw.GetMacSignature()) > 0 {
		// A signature must hold wherever it is present, whatever the link proves. TP-469 2.7
		if err := a.verifySignature(in.From, rec); err != nil {
			a.counts.refused.Add(1)
			a.slow.Warn("usp_record_refused", "from", rec.From, "transport", in.Transport, "reason", err.Error())
			return
		}
	}
	p, err := a.admit(ctx, h, in, rec.From)
	if err != nil {
		a.counts.refused.Add(1)
		a.slow.Warn("usp_record_refused", "from", rec.From, "transport", in.Transport, "reason", err.Error())
		return // R-MTP.5: an invalid source gets no answer
	}
	if in.Reply == nil {
		in.Reply = h.run.back(rec.From)
	}
	p.heard(ctx, h, in)
	p.saw()
	switch rec.Kind {
	case usp.KindMessage:
		a.message(ctx, p, in, rec.Payload)
	case usp.KindDisconnect:
		d := rec.Raw.GetDisconnect()
		a.slow.Info("usp_peer_disconnects", "from", rec.From, "code", d.GetReasonCode())
	}
}

func (a *Agent) refuseRecord(ctx context.Context, h *linkHandler, in mtp.Inbound, err error) {
	a.counts.refused.Add(1)
	var re *usp.RecordError
	if !errors.As(err, &re) {
		in.Reject("record cannot be used")
		return
	}
	a.slow.Info("usp_record_refused", "from", re.Peer, "transport", in.Transport, "code", re.Code, "reason", re.Text)
	switch re.Action {
	case usp.Reject:
		in.Reject(re.Text)
	case usp.Disconnect:
		// R-E2E.6a. Only a peer that we would listen to is told.
		if _, err := a.admit(ctx, h, in, re.Peer); err != nil || in.Reply == nil {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, sendTime)
		defer cancel()
		if err := in.Reply(ctx, usp.DisconnectRecord(a.opt.EndpointID, re.Peer, re.Code, re.Text)); err != nil {
			a.slow.Info("usp_send_failed", "to", re.Peer, "error", err.Error())
		}
	}
}

// peer is one remote Controller, or one connection to the local listener.
type peer struct {
	a        *Agent
	endpoint string
	local    bool
	link     uint64 // local only
	rights   *trust.Rights
	slots    chan struct{}

	mu       sync.Mutex
	inflight map[string]struct{}
	writes   []*writeSlot
	answered []*answered // newest last
	out      *outbox
	learned  map[uint64]struct{} // links heard on, for routes back
	seen     time.Time           // when a record was last observed
}

// writer is how the bridge sees the peer.
func (p *peer) writer() bridge.Writer {
	w := bridge.Writer{Name: "usp:" + p.endpoint, Protocol: datamodel.USP, Class: "main"}
	if p.local {
		w.Name, w.Class = "cli", p.a.opt.Local.Class
	}
	if p.rights == nil {
		return w
	}
	w.Rights = p.rights
	if !p.local && p.a.opt.Classify != nil {
		w.Class = p.a.opt.Classify(p.endpoint, p.rights.RoleNames(p.a.store.Head()))
	}
	return w
}

// standing is what a link proves about an Endpoint ID.
type standing struct {
	proven   bool     // not just claimed or vouched for by a broker
	inherit  bool     // roles are known from a certificate
	roles    []string // InheritedRole
	first    bool     // self-signed and unknown: trust on first use
	internal bool     // a program of this device, at Options.ServiceSocket
}

// vouch decides whether a link may speak for an Endpoint ID; c is its row, nil if it has none. // R-SEC.0, R-SEC.22
func (a *Agent) vouch(h *linkHandler, id mtp.Identity, from string, c *controller) (s standing, err error) {
	switch {
	case h.peer != "" && h.peer != from:
		return s, errLink
	case id.Local:
		if id.Claimed != "" && id.Claimed != from {
			return s, errIdentity
		}
		if h.services {
			return a.internal(c)
		}
		return standing{proven: true}, nil // the file mode of the socket decided who may connect
	case !id.Encrypted:
		if !a.opt.Trust.AllowPlaintext {
			return s, errPlaintext
		}
		if !id.Broker && id.Claimed != "" && id.Claimed != from {
			return s, errIdentity // nothing is proven here, but it should at least agree with itself
		}
		return s, nil
	}
	v := a.judge(id.Chain)
	v.trusted = v.trusted || !id.Unverified
	row := ""
	if c != nil {
		row = c.row
	}
	stored, _ := a.pinned(row, id.Chain)
	named := slices.Contains(id.EndpointIDs, from) || namesHost(id, from) // R-SEC.0a
	s = standing{proven: true, inherit: len(id.Chain) > 0, roles: v.roles}
	switch {
	case stored: // R-SEC.4
		return s, nil
	case named && v.trusted:
		return s, nil
	case named && !id.Broker && c == nil && a.anchors().tofu:
		s.first = true
		return s, nil
	case named && !id.Broker:
		return s, errUntrusted // for a known Controller it takes the stored certificate, or one of a trusted CA
	case id.Broker && (v.broker || v.trusted && a.opt.Trust.AllowBroker): // R-SEC.26
		s.proven, s.inherit = false, v.broker
		return s, nil
	case len(id.EndpointIDs) == 0 && h.dial && h.peer == from && v.trusted && a.opt.Trust.AllowServerName:
		return s, nil
	}
	return s, errIdentity
}

// namesHost: an Endpoint ID of the scheme fqdn may be named by its host alone.
func namesHost(id mtp.Identity, from string) bool {
	host, ok := strings.CutPrefix(from, "fqdn::")
	return ok && len(id.Chain) > 0 && id.Chain[0].VerifyHostname(host) == nil
}

// admit decides whether a record from an Endpoint ID may be believed, and finds its peer.
func (a *Agent) admit(ctx context.Context, h *linkHandler, in mtp.Inbound, from string) (*peer, error) {
	if h.local {
		return a.localPeer(ctx, in, from)
	}
	c := a.controllers().byID[from]
	s, err := a.vouch(h, in.From, from, c)
	switch {
	case err != nil:
		return nil, err
	case c == nil:
		if !s.proven && len(s.roles) == 0 && !a.opt.Trust.AllowPlaintext {
			return nil, errUnknown
		}
		if err := a.adopt(ctx, from, s, in.From.Chain); err != nil {
			return nil, err
		}
	case !c.enabled:
		return nil, errDisabled
	case s.inherit:
		if err := a.inherit(ctx, c.row, s.roles); err != nil {
			return nil, err
		}
	}
	p := a.peerOf(from)
	if p.rights.Banned(a.store.Head()) {
		return nil, errBanned
	}
	a.tofu.heard(in.LinkID)
	return p, nil
}

// peerOf returns the peer of a Controller, making it at first sight. Peers without a row are dropped by the manager.
func (a *Agent) peerOf(eid string) *peer {
	a.peersMu.Lock()
	defer a.peersMu.Unlock()
	p := a.peers[eid]
	if p == nil {
		p = &peer{a: a, endpoint: eid, rights: a.trust.Endpoint(eid), slots: make(chan struct{}, a.opt.Limits.PeerRequests),
			inflight: map[string]struct{}{}}
		p.out = newOutbox(a, eid)
		a.peers[eid] = p
		a.spawn("outbox", p.out.run)
	}
	return p
}

// localPeer is the peer of one connection to the local listener. Many command lines use one Endpoint ID, so that the
// connection, not the Endpoint ID, tells them apart.
func (a *Agent) localPeer(ctx context.Context, in mtp.Inbound, from string) (*peer, error) {
	if l := a.opt.Local; l == nil || from != l.EndpointID {
		return nil, errIdentity
	}
	a.peersMu.Lock()
	defer a.peersMu.Unlock()
	if p := a.locals[in.LinkID]; p != nil {
		return p, nil
	}
	if len(a.locals) >= a.opt.Limits.LocalPeers {
		return nil, errTooMany
	}
	p := &peer{a: a, endpoint: from, local: true, link: in.LinkID, slots: make(chan struct{}, a.opt.Limits.PeerRequests),
		inflight: map[string]struct{}{}}
	if a.opt.Local.Role != "" {
		p.rights = a.trust.Role(a.opt.Local.Role)
	}
	p.out = newOutbox(a, from)
	p.out.direct = in.Reply
	a.locals[in.LinkID] = p
	a.spawn("outbox", p.out.run)
	context.AfterFunc(ctx, func() { a.dropLocal(p) })
	return p, nil
}

// dropLocal forgets a local connection and the Subscriptions that it made.
func (a *Agent) dropLocal(p *peer) {
	a.peersMu.Lock()
	delete(a.locals, p.link)
	a.peersMu.Unlock()
	p.out.close(0)
	a.later(func(ctx context.Context) { a.deleteSubs(ctx, a.owners.take(p)) })
}

// heard remembers a point-to-point link that the Controller itself opened as a way to reach it.
func (p *peer) heard(ctx context.Context, h *linkHandler, in mtp.Inbound) {
	if p.local || h.dial || in.From.Broker || in.Reply == nil {
		return
	}
	p.mu.Lock()
	_, known := p.learned[in.LinkID]
	if !known {
		if p.learned == nil {
			p.learned = map[uint64]struct{}{}
		}
		p.learned[in.LinkID] = struct{}{}
	}
	p.mu.Unlock()
	if known {
		return
	}
	p.out.learn(in.LinkID, in.Reply)
	context.AfterFunc(ctx, func() {
		p.out.forget(in.LinkID)
		p.mu.Lock()
		delete(p.learned, in.LinkID)
		p.mu.Unlock()
	})
}

// growStack makes the stack of a new goroutine as large as most requests need it, while there is next to nothing on it that has to be
// moved. Growing by itself, it is copied with all that lies on it, and the last time is behind the fsync, when the answer is encoded.
//
//go:noinline
func growStack() {
	var room [9 << 10]byte
	runtime.KeepAlive(&room)
}

// message decodes a message and hands requests to a goroutine of their own, within bounds.
func (a *Agent) message(ctx context.Context, p *peer, in mtp.Inbound, payload []byte) {
	m, err := usp.DecodeMessage(payload, a.opt.Limits.Message)
	if err != nil {
		var me *usp.MessageError
		if errors.As(err, &me) && me.Answer { // R-MTP.5
			a.answer(ctx, p, in, me.Reply())
		}
		return
	}
	id := m.GetHeader().GetMsgId()
	req := m.GetBody().GetRequest()
	if req == nil {
		a.response(p, m) // R-MSG.9
		return
	}
	if !p.begin(id) {
		return // R-MSG.4: still being processed
	}
	if !a.acquire(ctx, p, in) {
		p.end(id)
		a.answer(ctx, p, in, usp.ErrorMessage(id, usp.Fault{Code: usp.CodeResourcesExceeded, Text: "too many requests at a time"}))
		return
	}
	ticket := p.ticket(req)
	if in.Again && ticket != nil && p.repeated(ctx, in, id, payload) {
		p.leave(ticket)
		a.release(p)
		p.end(id)
		return
	}
	var done *answered
	if ticket != nil && in.From.Broker {
		done = p.remember(id, payload)
	}
	// The msg_id is free again before the answer leaves: a Controller may use it anew as soon as it has the answer.
	free := sync.OnceFunc(func() { p.end(id) })
	if reply := in.Reply; reply != nil {
		in.Reply = func(ctx context.Context, rec []byte) error {
			done.with(rec)
			free()
			return reply(ctx, rec)
		}
	}
	started := a.spawn("request", func(base context.Context) {
		defer free()
		defer a.release(p)
		defer p.leave(ticket)
		ctx, cancel := context.WithTimeout(base, a.opt.Limits.RequestTime)
		defer cancel()
		growStack()
		a.serve(ctx, p, in, id, req, ticket)
	})
	if !started {
		p.leave(ticket)
		a.release(p)
		free()
	}
}

func (p *peer) begin(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, busy := p.inflight[id]; busy {
		return false
	}
	p.inflight[id] = struct{}{}
	return true
}

func (p *peer) end(id string) {
	p.mu.Lock()
	delete(p.inflight, id)
	p.mu.Unlock()
}

// acquire takes a slot of the peer and one of the agent. A point-to-point peer waits, which stops reading from it; over
// a broker, where others would wait with it, the answer is no.
func (a *Agent) acquire(ctx context.Context, p *peer, in mtp.Inbound) bool {
	if in.From.Broker || in.Reply == nil {
		select {
		case p.slots <- struct{}{}:
		default:
			return false
		}
		select {
		case a.slots <- struct{}{}:
			return true
		default:
			<-p.slots
			return false
		}
	}
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return false
	case <-a.stopped:
		return false
	}
	select {
	case a.slots <- struct{}{}:
		return true
	case <-ctx.Done():
	case <-a.stopped:
	}
	<-p.slots
	return false
}

func (a *Agent) release(p *peer) {
	<-a.slots
	<-p.slots
}

// answer sends a message back the way the request came, in the same kind of record. // R-MSG.0a
func (a *Agent) answer(ctx context.Context, p *peer, in mtp.Inbound, m *uspmsg.Msg) {
	rec, err := usp.WrapMessage(a.opt.EndpointID, p.endpoint, m)
	if err != nil {
		a.opt.Log.Error("usp_encode_failed", "to", p.endpoint, "error", err.Error())
		rec, err = usp.WrapMessage(a.opt.EndpointID, p.endpoint,
			usp.ErrorMessage(m.GetHeader().GetMsgId(), usp.Fault{Code: usp.CodeInternal, Text: "the answer cannot be encoded"}))
		if err != nil {
			return
		}
	}
	a.reply(ctx, p, in, m.GetHeader().GetMsgId(), rec)
}

func (a *Agent) reply(ctx context.Context, p *peer, in mtp.Inbound, id string, rec []byte) {
	if in.Reply == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	err := in.Reply(ctx, rec)
	if errors.Is(err, mtp.ErrTooLarge) { // better a refusal than silence
		if e, werr := usp.WrapMessage(a.opt.EndpointID, p.endpoint, usp.ErrorMessage(id, usp.Fault{Code: usp.CodeResourcesExceeded,
			Text: "the answer is larger than the transport takes; ask for less"})); werr == nil {
			err = in.Reply(ctx, e)
		}
	}
	if err != nil {
		a.counts.unsent.Add(1)
		a.slow.Info("usp_send_failed", "to", p.endpoint, "error", err.Error())
	}
}

// response takes what a Controller answered: a NotifyResp or an Error ends the retries of a Notify. Other responses
// answer nothing that an agent asks.
func (a *Agent) response(p *peer, m *uspmsg.Msg) {
	id := m.GetHeader().GetMsgId()
	if m.GetBody().GetResponse().GetNotifyResp() != nil || m.GetBody().GetError() != nil {
		p.out.answered(id) // R-NOT.9: found by msg_id, whatever subscription_id says
	}
}

// adopt makes a row for an unknown Controller: with the Roles that its certificate inherits, else with the
// UntrustedRole, where there is one. // R-SEC.6, TP-469 2.9
func (a *Agent) adopt(ctx context.Context, eid string, s standing, chain []*x509.Certificate) error {
	a.adoptMu.Lock()
	defer a.adoptMu.Unlock()
	v := a.store.Head()
	if usp.CheckForeignID(eid) != nil {
		return errUnknown
	}
	if trust.FindController(v, eid) != "" {
		return nil
	}
	settings := []bridge.Setting{{Name: "EndpointID", Value: eid, Required: true}, {Name: "Enable", Value: "true", Required: true}}
	if s.internal && a.countInternal(v) >= a.opt.Limits.LocalPeers {
		return errTooMany
	}
	if len(s.roles) > 0 {
		settings = append(settings, bridge.Setting{Name: "InheritedRole", Value: strings.Join(s.roles, ","), Required: true})
	} else {
		role := a.trust.Untrusted(v)
		if role == "" || a.countUntrusted(v, role) >= a.opt.Limits.Untrusted {
			return errUnknown
		}
		settings = append(settings, bridge.Setting{Name: "AssignedRole", Value: role, Required: true})
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.opt.Limits.RequestTime)
	defer cancel()
	if s.first {
		cert, err := a.keepCertificate(ctx, chain[0], "")
		if err != nil {
			return err
		}
		settings = append(settings, bridge.Setting{Name: "Credential", Value: cert, Required: true})
	}
	res, err := a.engine.Apply(ctx, a.system, bridge.Change{Atomic: true, Ref: "untrusted", Ops: []bridge.Op{{
		Kind: bridge.OpAdd, Path: controllerPath, Settings: settings}}})
	if err == nil {
		err = firstError(res)
	}
	return err
}

func (a *Agent) countUntrusted(v *store.Version, role string) int {
	n := 0
	r := reader{v: v, s: a.schema}
	r.rows(controllerPath, func(_ uint32, row string) {
		if l := trust.List(r.str(row + "AssignedRole")); len(l) == 1 && l[0] == role {
			n++
		}
	})
	return n
}

// firstError finds the first failure in the outcomes of a change.
func firstError(res bridge.Result) error {
	for _, o := range res.Outcomes {
		if o.Err != nil {
			return o.Err
		}
		for _, obj := range o.Objects {
			if obj.Err != nil {
				return obj.Err
			}
			for _, p := range obj.Params {
				if p.Err != nil {
					return p.Err
				}
			}
		}
	}
	return nil
}
