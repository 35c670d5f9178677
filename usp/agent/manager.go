package agent

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"twinspan/bridge"
	"twinspan/usp"
	"twinspan/usp/mtp"
)

// lingerTime is how long a deleted Controller is still sent what was queued for it.
const lingerTime = 2 * time.Second

// manager keeps the transports as the tree wants them. Its goroutine owns the set of running transports.
type manager struct {
	a     *Agent
	links map[string]*runner
}

// runner is one running transport.
type runner struct {
	a      *Agent
	key    string
	spec   Spec
	t      mtp.Transport
	cancel context.CancelFunc
	done   chan struct{}
	up     atomic.Bool
	topics string // of the spec, as they are now; only for the manager

	greeting sync.Mutex // held while Connect records leave

	mu      sync.Mutex
	dests   map[string]string // Endpoint ID -> topic, for the Connect records of brokers
	greeted map[string]bool   // Connect record sent on the present link
	topic   string
	links   map[uint64]func() // accepted links -> how to forget them
}

func newManager(a *Agent) *manager { return &manager{a: a, links: map[string]*runner{}} }

func (m *manager) run(ctx context.Context) {
	defer m.stopAll()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.a.wakes:
			m.reconcile(ctx)
		case match := <-m.a.resets:
			for key, r := range m.links {
				if match(r.spec) {
					m.stop(key, r)
				}
			}
			m.reconcile(ctx)
		}
	}
}

// reconcile compares what runs with what the newest version wants.
func (m *manager) reconcile(ctx context.Context) {
	a := m.a
	v := a.store.Head()
	// What a commit has to tell is queued before its effect on the links: a Controller hears of its own end. The notifier
	// wakes us again when it gets there.
	var newest uint64
	for _, path := range [...]string{controllerPath, mtpPath, mqttPath, udsPath} {
		newest = max(newest, v.SubtreeRev(path))
	}
	if newest > a.seen.Load() {
		a.held.Store(true)
		if newest > a.seen.Load() {
			return
		}
	}
	d := a.readDirectory(v)
	w := a.desired(v, d)
	a.dropPeers(ctx, d)
	for key, r := range m.links {
		if s, ok := w.specs[key]; !ok || !r.same(s) && !r.update(s) {
			m.stop(key, r)
		}
	}
	a.status.reset(w)
	for key, s := range w.specs {
		if m.links[key] == nil && a.opt.Factory != nil {
			m.start(ctx, key, s)
		}
	}
	m.route(d)
}

// same reports whether a running transport still fits. A client identifier that the broker gave and that the agent
// wrote down is not a reason to connect again. // R-MQTT.9
func (r *runner) same(s Spec) bool {
	have := r.spec
	if have.MQTT.ClientID == "" && s.MQTT.ClientID == r.a.status.get(r.key).clientID {
		have.MQTT.ClientID = s.MQTT.ClientID
	}
	have.MQTT.Topics = r.topics
	return have == s
}

// Updater is an ability that a transport of a Factory may have: to take changed topics over on its live connection. false
// means that it must be replaced.
type Updater interface {
	Update(s Spec) bool
}

// Gate is an ability that a listening transport of a Factory may have: to ask whether an endpoint may open a session.
type Gate interface {
	SetAdmit(func(endpoint string) bool)
}

// update changes the topics of a running transport, if nothing else differs. // R-MQTT.34, TP-469 11.9
func (r *runner) update(s Spec) bool {
	u, can := r.t.(Updater)
	rest := s
	rest.MQTT.Topics = r.topics
	if !can || !r.same(rest) || !u.Update(s) {
		return false
	}
	r.topics = s.MQTT.Topics
	return true
}

func (m *manager) start(ctx context.Context, key string, s Spec) {
	a := m.a
	t, err := a.opt.Factory.New(s)
	if err != nil {
		a.status.update(key, func(st *linkStatus) { st.reason, st.failed = err.Error(), true })
		a.opt.Log.Error("usp_transport_failed", "row", s.Row, "kind", s.Kind, "error", err.Error())
		return
	}
	// The transport ends by stop or stopAll, after its farewell, not with ctx.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &runner{a: a, key: key, spec: s, topics: s.MQTT.Topics, t: t, cancel: cancel, done: make(chan struct{}), greeted: map[string]bool{},
		dests: map[string]string{}, links: map[uint64]func(){}}
	h := &linkHandler{a: a, run: r, local: key == localKey, peer: s.Peer,
		services: key == servicesKey, dial: s.Kind == "WebSocketClient" || s.Kind == "UDSConnect" || s.Kind == "MQTT"}
	m.links[key] = r
	if g, ok := t.(Gate); ok { // one session for each Controller: the one that we dialled stays // R-WS.4, TP-469 7.2
		g.SetAdmit(func(eid string) bool { _, open := a.dialled.Load(eid); return !open })
	}
	started := a.spawn("transport", func(context.Context) {
		defer close(r.done)
		defer r.down()
		if err := t.Run(ctx, h, r.state); err != nil {
			a.status.update(key, func(st *linkStatus) { st.up, st.failed, st.reason = false, true, err.Error() })
			a.opt.Log.Error("usp_transport_failed", "row", s.Row, "kind", s.Kind, "error", err.Error())
		}
	})
	if !started {
		cancel()
		close(r.done)
	}
}

func (m *manager) stop(key string, r *runner) {
	if r.farewell() {
		time.Sleep(farewellTime)
	}
	r.cancel()
	<-r.done
	delete(m.links, key)
}

func (m *manager) stopAll() {
	said := false
	for _, r := range m.links {
		said = r.farewell() || said
	}
	if said {
		time.Sleep(farewellTime)
	}
	for _, r := range m.links {
		r.cancel()
	}
	for key, r := range m.links {
		<-r.done
		delete(m.links, key)
	}
}

// farewellTime is what a transport gets to put Disconnect records on the wire before it is stopped.
const farewellTime = 20 * time.Millisecond

// farewell tells the Controllers behind a link that the agent leaves it. // R-MTP.7
func (r *runner) farewell() (said bool) {
	if !r.up.Swap(false) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), farewellTime)
	defer cancel()
	for eid := range r.greeted {
		dest := r.dests[eid] // a topic; point-to-point transports need none
		if r.spec.Kind == "MQTT" && dest == "" {
			continue
		}
		rec := usp.DisconnectRecord(r.a.opt.EndpointID, eid, usp.CodeSessionTerminated, "the agent leaves this connection")
		said = r.t.Send(ctx, dest, rec) == nil || said
	}
	return said
}

// route tells every Controller's outbox the ways to it, in the order of Controller.MTP.Order.
func (m *manager) route(d *directory) {
	for _, r := range m.links {
		r.mu.Lock()
		clear(r.dests)
		r.mu.Unlock()
	}
	for _, c := range d.list {
		if !c.enabled || c.endpoint == "" {
			continue
		}
		var routes []route
		for _, cm := range c.mtps {
			r := m.links[cm.link]
			if r == nil {
				continue
			}
			dest := c.endpoint
			if cm.protocol == "MQTT" {
				if dest = cm.topic; dest == "" {
					continue // can only answer
				}
				r.mu.Lock()
				r.dests[c.endpoint] = dest
				r.mu.Unlock()
			}
			routes = append(routes, route{up: r.up.Load, send: func(ctx context.Context, rec []byte) error { return r.t.Send(ctx, dest, rec) }})
		}
		m.a.peerOf(c.endpoint).out.configure(routes, c.retry)
	}
	for _, r := range m.links {
		if r.up.Load() {
			r.greet()
		}
	}
}

// state follows the link. It is called by the transport before the first record of a link.
func (r *runner) state(s mtp.State) {
	a := r.a
	server := r.spec.Kind == "WebSocketServer" || r.spec.Kind == "UDSListen"
	peer := r.spec.Peer
	if server && len(s.Peer.EndpointIDs) > 0 {
		peer = s.Peer.EndpointIDs[0]
	}
	a.links.state(s, peer)
	if server {
		r.accepted(s)
		return
	}
	a.status.update(r.key, func(st *linkStatus) {
		st.failed = false
		if st.up = s.Up; s.Up {
			st.topic, st.retries, st.reason = s.ReplyTopic, 0, ""
			if s.ClientID != "" {
				st.clientID = s.ClientID
			}
		} else {
			st.retries++
			st.reason = s.Reason
		}
	})
	if r.spec.Kind == "WebSocketClient" {
		if s.Up {
			a.dialled.Store(r.spec.Peer, r)
		} else {
			a.dialled.CompareAndDelete(r.spec.Peer, r)
		}
	}
	if !s.Up {
		r.down()
		a.slow.Info("usp_link_down", "row", r.spec.Row, "reason", s.Reason)
		return
	}
	a.slow.Info("usp_link_up", "row", r.spec.Row, "kind", r.spec.Kind)
	r.mu.Lock()
	r.topic = s.ReplyTopic
	clear(r.greeted)
	r.mu.Unlock()
	// The Connect record goes first, then the routes open for everything else. // R-MTP.6
	r.greet()
	r.up.Store(true)
	if s.ClientID != "" && r.spec.MQTT.Client != "" && r.spec.MQTT.ClientID == "" {
		client, id := r.spec.MQTT.Client, s.ClientID
		a.background(func(ctx context.Context) { a.keepClientID(ctx, client, id) })
	}
	for _, p := range a.allPeers() {
		p.out.linkUp()
	}
}

// back is the configured way to a Controller over this broker, for answers to records that name no response topic; nil
// when there is none. Many Controllers in the field leave the topic out and wait on the one that was configured.
func (r *runner) back(eid string) func(ctx context.Context, rec []byte) error {
	if r == nil || r.spec.Kind != "MQTT" {
		return nil
	}
	r.mu.Lock()
	dest := r.dests[eid]
	r.mu.Unlock()
	if dest != "" {
		return func(ctx context.Context, rec []byte) error {
			r.greet() // the Connect record goes first // R-MTP.6
			return r.t.Send(ctx, dest, rec)
		}
	}
	// The link may be faster than the manager that routes it.
	c := r.a.controllers().byID[eid]
	if c == nil {
		return nil
	}
	for _, m := range c.mtps {
		if dest = m.topic; m.protocol != "MQTT" || dest == "" || m.agentMTP != "" && m.agentMTP != r.spec.Row {
			continue
		}
		return func(ctx context.Context, rec []byte) error {
			r.mu.Lock()
			r.dests[eid] = dest
			r.mu.Unlock()
			r.greet()
			return r.t.Send(ctx, dest, rec)
		}
	}
	return nil
}

func (r *runner) down() {
	r.a.dialled.CompareAndDelete(r.spec.Peer, r)
	r.up.Store(false)
	r.mu.Lock()
	forget := r.links
	r.links = map[uint64]func(){}
	r.mu.Unlock()
	for _, fn := range forget {
		fn()
	}
}

// greet sends the Connect records of a link that came up: one for each Controller behind it. // R-MTP.6, R-MTP.8
//
// When it returns, also the Connect records of a call that was at it already have left.
func (r *runner) greet() {
	r.greeting.Lock()
	defer r.greeting.Unlock()
	r.mu.Lock()
	todo := map[string]string{}
	add := func(eid, dest string) {
		if !r.greeted[eid] {
			r.greeted[eid], todo[eid] = true, dest
		}
	}
	if r.spec.Kind == "MQTT" {
		for eid, dest := range r.dests {
			add(eid, dest)
		}
	} else if r.spec.Peer != "" {
		add(r.spec.Peer, r.spec.Peer)
	}
	topic := r.topic
	r.mu.Unlock()
	if len(todo) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	self := r.a.opt.EndpointID
	send := func(eid, dest string, rec []byte) {
		if err := r.t.Send(ctx, dest, rec); err != nil {
			r.a.slow.Info("usp_send_failed", "to", eid, "error", err.Error())
			r.mu.Lock()
			delete(r.greeted, eid)
			r.mu.Unlock()
		}
	}
	for eid, dest := range todo {
		switch r.spec.Kind {
		case "MQTT":
			if topic != "" {
				send(eid, dest, usp.MQTTConnect(self, eid, topic))
			}
		case "UDSConnect":
			send(eid, dest, usp.UDSConnect(self, eid))
		default:
			send(eid, dest, usp.WebSocketConnect(self, eid))
		}
	}
}

// accepted handles the links of a server. A link of a known Controller gets the Connect record and becomes a way to it
// as soon as the transport vouches for it; others only when their first record was believed.
func (r *runner) accepted(s mtp.State) {
	a := r.a
	if s.LinkID == 0 {
		a.status.update(r.key, func(st *linkStatus) { st.failed, st.up, st.reason = !s.Up, s.Up, s.Reason })
		if !s.Up && s.Reason != "" {
			a.slow.Warn("usp_listen_failed", "row", r.spec.Row, "kind", r.spec.Kind, "error", s.Reason)
		}
		return
	}
	a.status.update(r.key, func(st *linkStatus) { st.up, st.failed, st.reason = true, false, "" })
	r.up.Store(false) // there is no single way out of a server
	if !s.Up {
		a.tofu.forget(s.LinkID)
		r.mu.Lock()
		forget := r.links[s.LinkID]
		delete(r.links, s.LinkID)
		r.mu.Unlock()
		if forget != nil {
			forget()
		}
		return
	}
	if s.Send == nil {
		return
	}
	eid := s.Peer.Claimed
	if len(s.Peer.EndpointIDs) > 0 {
		eid = s.Peer.EndpointIDs[0]
	}
	local := r.key == localKey
	proven := false
	if local {
		eid = a.opt.Local.EndpointID
	} else {
		c := a.controllers().byID[eid]
		h := &linkHandler{a: a, services: r.key == servicesKey}
		st, err := a.vouch(h, s.Peer, eid, c)
		if h.services && c == nil && err == nil {
			a.background(func(ctx context.Context) { r.takeIn(ctx, s, eid, st) })
			return
		}
		if c == nil || !c.enabled || err != nil {
			a.tofu.watch(s, a.strangerTime(s.Peer, c, err))
			return
		}
		proven = st.proven || a.opt.Trust.AllowPlaintext
	}
	r.welcome(s, eid, !local && proven)
}

// welcome sends the Connect record over an accepted link, which becomes a way to the Controller if it is proven to be its.
func (r *runner) welcome(s mtp.State, eid string, proven bool) {
	a := r.a
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	rec := usp.WebSocketConnect(a.opt.EndpointID, eid)
	if r.spec.Kind == "UDSListen" {
		rec = usp.UDSConnect(a.opt.EndpointID, eid)
	}
	if err := s.Send(ctx, rec); err != nil {
		a.slow.Info("usp_send_failed", "to", eid, "error", err.Error())
		return
	}
	if !proven {
		return
	}
	p := a.peerOf(eid)
	p.out.learn(s.LinkID, s.Send)
	r.mu.Lock()
	r.links[s.LinkID] = func() { p.out.forget(s.LinkID) }
	r.mu.Unlock()
}

// background runs a job without making the caller wait.
func (a *Agent) background(fn func(ctx context.Context)) {
	select {
	case a.jobs <- fn:
	default:
		a.spawn("job", fn)
	}
}

// keepClientID writes down the identifier that a broker assigned. // R-MQTT.9
func (a *Agent) keepClientID(ctx context.Context, client, id string) {
	_, err := a.engine.Apply(ctx, a.system, bridge.Change{Atomic: true, Ref: "mqtt", Ops: []bridge.Op{{
		Kind: bridge.OpSet, Path: client, Settings: []bridge.Setting{{Name: "ClientID", Value: id, Required: true}}}}})
	if err != nil && ctx.Err() == nil {
		a.opt.Log.Warn("usp_client_id_not_kept", "row", client, "error", err.Error())
	}
}

func (a *Agent) allPeers() []*peer {
	a.peersMu.Lock()
	defer a.peersMu.Unlock()
	out := make([]*peer, 0, len(a.peers))
	for _, p := range a.peers {
		out = append(out, p)
	}
	return out
}

// dropPeers ends the outboxes of Controllers that are gone or disabled, after what was queued has left.
func (a *Agent) dropPeers(ctx context.Context, d *directory) {
	var gone []*peer
	a.peersMu.Lock()
	for eid, p := range a.peers {
		if c := d.byID[eid]; c == nil || !c.enabled {
			gone = append(gone, p)
			delete(a.peers, eid)
		}
	}
	a.peersMu.Unlock()
	flush := false
	for _, p := range gone {
		flush = flush || p.out.reachableNow()
		p.out.close(lingerTime)
	}
	if !flush {
		return
	}
	// Their transports are stopped next: let them send a last time. A transport says when it has taken a record, not
	// when the record is on the wire.
	until := time.Now().Add(lingerTime / 2)
	for _, p := range gone {
		for p.out.reachableNow() && !p.out.idle() && time.Now().Before(until) {
			time.Sleep(5 * time.Millisecond)
		}
	}
	select {
	case <-time.After(flushTime):
	case <-ctx.Done():
	}
}

// flushTime is what a transport gets to put the last records on the wire.
const flushTime = 100 * time.Millisecond

func (o *outbox) reachableNow() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.reachable()
}
