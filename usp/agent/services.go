package agent

import (
	"context"
	"log/slog"
	"strings"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/store"
	"twinspan/usp/agent/subscribe"
	"twinspan/usp/agent/trust"
	"twinspan/usp/mtp"
	"twinspan/usp/uspmsg"
	"twinspan/usp/wire"
)

// servicesPath is the table of USP Services, whose rows are not stored.
const servicesPath = "Device.USPServices.USPService."

// Services is a USP Broker (usp/broker): it has what lies outside of the agent's own tree.
type Services interface {
	// Serve answers a request that concerns USP Services, at least in part; mine is false when nothing of it does. A nil
	// message means that nothing is answered. Called on the request's own goroutine.
	Serve(ctx context.Context, q *ServiceRequest) (m *uspmsg.Msg, mine bool)
	// Subscribed tells of a Subscription that is enabled or was changed; s is nil when it is gone. Called on the notifier
	// goroutine; must not block.
	Subscribed(num uint32, s *subscribe.Sub)
}

// ServiceRequest is one request of a Controller on its way to USP Services.
type ServiceRequest struct {
	ID   string
	Body *uspmsg.Request
	r    *request
}

// Allowed asks for one right of the Controller. Paths may lie outside of the agent's own tree.
func (q *ServiceRequest) Allowed(path string, right bridge.Right) bool {
	w := q.r.w
	return w.Rights == nil || w.Rights.Allow(q.r.a.store.Head(), path, right)
}

// Own lets the agent answer a part of the request: one of the same kind with fewer paths. nil: nothing to answer.
func (q *ServiceRequest) Own(ctx context.Context, part *uspmsg.Request) *uspmsg.Msg {
	switch t := part.GetReqType().(type) {
	case *uspmsg.Request_Get:
		payload, err := q.r.get(ctx, t.Get)
		if err != nil {
			return q.r.fault(err)
		}
		m := new(uspmsg.Msg)
		if err := wire.Unmarshal(payload, m); err != nil {
			return q.r.fault(err)
		}
		return m
	case *uspmsg.Request_GetInstances:
		return q.r.getInstances(ctx, t.GetInstances)
	case *uspmsg.Request_GetSupportedDm:
		return q.r.getSupportedDM(t.GetSupportedDm)
	case *uspmsg.Request_Set:
		return q.r.set(ctx, t.Set)
	case *uspmsg.Request_Add:
		return q.r.add(ctx, t.Add)
	case *uspmsg.Request_Delete:
		return q.r.del(ctx, t.Delete)
	}
	return q.r.fault(datamodel.Fail(datamodel.InvalidArgs, "", "this request cannot be split"))
}

// Start makes the Request row of an asynchronous command that a USP Service carries out. begin asks the Service; wait, which
// it returns, ends with the command, or tells the Service to cancel when its ctx ends. Subscribers of OperationComplete are
// told as for the agent's own commands.
func (q *ServiceRequest) Start(command, key string, input map[string]string,
	begin func() (wait func(ctx context.Context) (map[string]string, error), err error)) (row string, err error) {
	a := q.r.a
	req, err := a.requests.begin(q.r.p.endpoint, command, key)
	if err != nil {
		return "", err
	}
	wait, err := begin()
	if err != nil {
		a.requests.drop(req)
		return "", err
	}
	cause := q.r.w.Name
	a.rowChanged(req.row(), true)
	started := a.spawn("command", func(base context.Context) {
		ctx, cancel := context.WithCancel(base)
		defer cancel()
		req.activate(cancel)
		out, err := wait(ctx)
		if err != nil && req.canceled() {
			err = datamodel.Fail(datamodel.CommandCanceled, command, "")
		}
		a.complete(req, bridge.Event{Path: command, Args: out, Cause: cause, Err: err, Input: withoutCredentials(input)})
	})
	if !started {
		a.requests.drop(req)
		return "", datamodel.Fail(datamodel.Resources, command, "the agent is stopping")
	}
	return req.row(), nil
}

// toServices hands a request to the Broker, if there is one and the request concerns a USP Service.
func (r *request) toServices(ctx context.Context, req *uspmsg.Request) (m *uspmsg.Msg, mine bool) {
	if r.a.opt.Services == nil {
		return nil, false
	}
	return r.a.opt.Services.Serve(ctx, &ServiceRequest{ID: r.id, Body: req, r: r})
}

// Forward tells the recipient of one Subscription what a USP Service notified. path and right say what the recipient must be
// allowed to hear of. It waits while the notifier is busy, which slows the Service down.
func (a *Agent) Forward(sub uint32, m *uspmsg.Notify, path string, right bridge.Right) {
	a.do(func(n *notifier) {
		s, ok := n.index.Get(sub)
		if !ok {
			return
		}
		p := n.recipient(s)
		if p == nil {
			return
		}
		t := target{sub: s, out: p.out, writer: p.writer()}
		allow := func(path string, right bridge.Right) bool {
			return t.writer.Rights == nil || t.writer.Rights.Allow(n.rightsVersion(p), path, right)
		}
		if !allow(path, right) {
			return
		}
		if c := m.GetObjCreation(); c != nil {
			for name := range c.UniqueKeys {
				if !allow(c.ObjPath+name, bridge.ReadParam) {
					delete(c.UniqueKeys, name)
				}
			}
		}
		coalesce := ""
		if m.GetValueChange() != nil {
			coalesce = path
		}
		n.notify(t, m, coalesce)
	})
}

// Resubscribe tells Options.Services of all Subscriptions again, later.
func (a *Agent) Resubscribe() {
	if a.resubscribing.Swap(true) {
		return
	}
	a.do(func(n *notifier) {
		a.resubscribing.Store(false)
		n.index.All(func(s *subscribe.Sub) { a.opt.Services.Subscribed(s.Num, s) })
	})
}

// LogRarely logs a message at most once in ten seconds for each first value: a peer must not be able to fill the log.
func (a *Agent) LogRarely(level slog.Level, msg string, args ...any) { a.slow.write(level, msg, args) }

// subscribed tells the Broker of one Subscription; s is nil when it is gone.
func (a *Agent) subscribed(num uint32, s *subscribe.Sub) {
	if a.opt.Services != nil {
		a.opt.Services.Subscribed(num, s)
	}
}

// ServiceRow tells subscribers of a row of Device.USPServices.USPService. that came or went.
func (a *Agent) ServiceRow(row string, added bool) { a.rowChanged(row, added) }

// HasController reports whether an endpoint is connected as a Controller just now.
func (a *Agent) HasController(eid string) bool {
	p := a.knownPeer(eid)
	return p != nil && p.out.reachableNow()
}

// Head is the newest version of the agent's own tree.
func (a *Agent) Head() *store.Version { return a.store.Head() }

// internal decides about a Controller at Options.ServiceSocket: it must not be one that is reached, or proves itself, in another
// way, and it inherits the configured Role.
func (a *Agent) internal(c *controller) (standing, error) {
	r := reader{v: a.store.Head(), s: a.schema}
	if c != nil {
		for _, m := range c.mtps {
			if m.protocol != "UDS" {
				return standing{}, errLink
			}
		}
		if r.str(c.row+"Credential") != "" {
			return standing{}, errLink
		}
	}
	s := standing{proven: true, internal: true}
	name := a.opt.ServiceSocket.Role
	if name != "" {
		const roles = "Device.LocalAgent.ControllerTrust.Role."
		r.rows(roles, func(_ uint32, row string) {
			if len(s.roles) == 0 && r.str(row+"Name") == name {
				s.inherit, s.roles = true, []string{strings.TrimSuffix(row, ".")}
			}
		})
		if len(s.roles) == 0 {
			a.slow.Warn("usp_services_role_missing", "role", name)
		}
	}
	// A row that inherited its roles from a certificate belongs to who has that: a program of this device does not speak for it.
	if c != nil {
		if had := strings.Join(trust.List(r.str(c.row+"InheritedRole")), ","); had != "" && had != strings.Join(s.roles, ",") {
			return standing{}, errLink
		}
	}
	return s, nil
}

// countInternal counts the rows that may have been made for Controllers of this device.
func (a *Agent) countInternal(v *store.Version) int {
	n := 0
	r := reader{v: v, s: a.schema}
	r.rows(controllerPath, func(_ uint32, row string) {
		if r.str(row+"AssignedRole") == "" && r.str(row+"Credential") == "" {
			n++
		}
	})
	return n
}

// takeIn makes the row of a Controller of this device that connected for the first time, and greets it.
func (r *runner) takeIn(ctx context.Context, s mtp.State, eid string, st standing) {
	a := r.a
	if err := a.adopt(ctx, eid, st, nil); err != nil {
		a.slow.Warn("usp_stranger_refused", "from", eid, "reason", err.Error())
		return
	}
	r.welcome(s, eid, true)
	if !a.links.birth(s.LinkID).IsZero() {
		return
	}
	r.mu.Lock() // it is gone already
	forget := r.links[s.LinkID]
	delete(r.links, s.LinkID)
	r.mu.Unlock()
	if forget != nil {
		forget()
	}
}
