package broker

import (
	"context"
	"log/slog"
	"strconv"
	"strings"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/usp/agent/subscribe"
	"twinspan/usp/uspmsg"
)

const (
	subPath = "Device.LocalAgent.Subscription."
	// prefix begins the IDs of the Subscriptions that the Broker makes at Services.
	prefix = "twinspan-broker-"
	// completions stands for the one Subscription that is the Broker's own: of all OperationComplete.
	completions = 0
)

// wanted is a Subscription that should be at the Service.
type wanted struct {
	kind subscribe.Kind
	refs string
}

// mirrored is one that is.
type mirrored struct {
	wanted
	row string
}

// Subscribed implements agent.Services.
func (b *Broker) Subscribed(num uint32, sub *subscribe.Sub) {
	rs := *b.routes.Load()
	refs := map[*service][]string{}
	if sub != nil && sub.Kind != subscribe.OperationComplete { // those are told by the agent, as for its own commands
		for _, ref := range sub.Refs {
			concerned(rs, sub.Kind, ref, refs)
		}
	}
	b.mu.Lock()
	all := make([]*service, 0, len(b.byID))
	for _, s := range b.byID {
		all = append(all, s)
	}
	b.mu.Unlock()
	for _, s := range all {
		w := wanted{}
		if list := refs[s]; len(list) > 0 {
			w = wanted{kind: sub.Kind, refs: strings.Join(list, ",")}
		}
		s.wish(num, w)
	}
}

// concerned adds a reference to the lists of the Services that it is about.
func concerned(rs routes, kind subscribe.Kind, ref string, refs map[*service][]string) {
	p, ok := locate(ref)
	if !ok || p.follow {
		return
	}
	if s := rs.at(p.base); s != nil {
		refs[s] = append(refs[s], ref)
		return
	}
	if kind != subscribe.ValueChange && kind != subscribe.Event || !strings.HasSuffix(ref, ".") {
		return
	}
	rs.below(p.base, func(r *route) { // an object stands for all below it
		end := r.base[len(r.base)-1]
		if r.object || kind == subscribe.Event && end == '!' || kind == subscribe.ValueChange && end != '!' && end != ')' {
			refs[r.svc] = append(refs[r.svc], r.asked())
		}
	})
}

// wish notes what Subscription should be at the Service, none for no references.
func (s *service) wish(num uint32, w wanted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	had, there := s.want[num]
	switch {
	case w.refs == "" && !there, w == had && there:
		return
	case w.refs == "":
		delete(s.want, num)
	case !there && len(s.want) >= s.b.opt.Limits.Subscriptions:
		s.b.rarely(slog.LevelWarn, "service_subscriptions_full", s.endpoint, "subscription", num, "limit", s.b.opt.Limits.Subscriptions)
		return
	default:
		s.want[num] = w
	}
	s.poke()
}

// forgetOld removes what an earlier run of the Broker left at the Service; false if that did not work.
func (s *service) forgetOld(ctx context.Context) bool {
	j := &job{svc: s, depth: 1, paths: []string{subPath + "*.ID"}}
	if j.run(ctx, s.b); j.err != nil {
		return false
	}
	var rows []string
	for _, r := range j.got[0].GetResolvedPathResults() {
		if strings.HasPrefix(r.GetResultParams()["ID"], prefix) && strings.HasPrefix(r.GetResolvedPath(), subPath) {
			rows = append(rows, r.GetResolvedPath())
		}
	}
	return len(rows) == 0 || s.drop(ctx, rows...)
}

func (s *service) drop(ctx context.Context, rows ...string) bool {
	m, err := s.ask(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Delete{Delete: &uspmsg.Delete{AllowPartial: true, ObjPaths: rows}}}, s.b.opt.Limits.Time)
	return err == nil && m.GetBody().GetError() == nil
}

// mirror brings the Subscriptions at the Service in step with those wanted; false if something is left to do.
func (s *service) mirror(ctx context.Context) bool {
	want := map[uint32]wanted{}
	s.mu.Lock()
	for num, w := range s.want {
		want[num] = w
	}
	s.mu.Unlock()
	done := s.follow(ctx, nil)
	for num, h := range s.have {
		if num == completions {
			continue
		}
		if w, keep := want[num]; keep && w == h.wanted {
			continue
		}
		if !s.drop(ctx, h.row) {
			done = false
			continue
		}
		delete(s.have, num)
	}
	for num, w := range want {
		if _, there := s.have[num]; there {
			continue
		}
		if ctx.Err() != nil {
			return false
		}
		row, err := s.subscribe(ctx, num, w)
		if err != nil {
			s.b.rarely(slog.LevelWarn, "service_subscription_failed", s.endpoint, "subscription", num, "error", err.Error())
			done = false
			continue
		}
		s.have[num] = mirrored{w, row}
	}
	return done
}

// follow keeps the Broker's own Subscription, to the ends of all asynchronous commands that the Service has, those of new
// models included.
func (s *service) follow(ctx context.Context, more map[string]*model) bool {
	var objects []string
	add := func(models map[string]*model) {
		for base, m := range models {
			if m.object {
				base += "."
			}
			if m.async && indexOf(objects, base) < 0 {
				objects = append(objects, base)
			}
		}
	}
	s.mu.Lock()
	add(s.models)
	s.mu.Unlock()
	add(more)
	w := wanted{kind: subscribe.OperationComplete, refs: sorted(objects)}
	h, there := s.have[completions]
	if there && h.wanted == w || !there && len(objects) == 0 {
		return true
	}
	s.setFollowed("")
	if there {
		if !s.drop(ctx, h.row) {
			return false
		}
		delete(s.have, completions)
	}
	if len(objects) == 0 {
		return true
	}
	row, err := s.subscribe(ctx, completions, w)
	if err != nil {
		s.b.rarely(slog.LevelWarn, "service_commands_not_followed", s.endpoint, "error", err.Error())
		return false
	}
	s.have[completions] = mirrored{w, row}
	s.setFollowed(w.refs)
	return true
}

func (s *service) setFollowed(refs string) {
	s.mu.Lock()
	s.followed = refs
	s.mu.Unlock()
}

// follows reports whether the end of a command will be told.
func (s *service) follows(command string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ref := range strings.Split(s.followed, ",") {
		if ref != "" && strings.HasPrefix(command, ref) {
			return true
		}
	}
	return false
}

// sorted joins a list in an order that does not change by itself.
func sorted(list []string) string {
	for i := range list {
		for j := i; j > 0 && list[j] < list[j-1]; j-- {
			list[j], list[j-1] = list[j-1], list[j]
		}
	}
	return strings.Join(list, ",")
}

// subscribe makes one Subscription at the Service. The Broker's own notifications are repeated, those of the Service need not be.
func (s *service) subscribe(ctx context.Context, num uint32, w wanted) (row string, err error) {
	o := &uspmsg.Add_CreateObject{ObjPath: subPath}
	for _, kv := range [...][2]string{{"Enable", "true"}, {"ID", prefix + strconv.FormatUint(uint64(num), 10)}, {"NotifType", w.kind.String()},
		{"ReferenceList", w.refs}, {"Persistent", "false"}, {"NotifRetry", "false"}} {
		o.ParamSettings = append(o.ParamSettings, &uspmsg.Add_CreateParamSetting{Param: kv[0], Value: kv[1], Required: true})
	}
	m, err := s.ask(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Add{Add: &uspmsg.Add{CreateObjs: []*uspmsg.Add_CreateObject{o}}}}, s.b.opt.Limits.Time)
	if err != nil {
		return "", err
	}
	if e := m.GetBody().GetError(); e != nil {
		return "", s.refusal(e)
	}
	for _, r := range m.GetBody().GetResponse().GetAddResp().GetCreatedObjResults() {
		if f := r.GetOperStatus().GetOperFailure(); f != nil {
			return "", reasoned(f.GetErrCode(), f.GetErrMsg())
		}
		if path := r.GetOperStatus().GetOperSuccess().GetInstantiatedPath(); strings.HasPrefix(path, subPath) && len(path) <= datamodel.MaxPathLen {
			return path, nil
		}
	}
	return "", datamodel.Fail(datamodel.Internal, "", "the "+s.name()+" does not say which row it made")
}

// notified takes a notification of the Service, on the reader goroutine of its link. What the Broker did not subscribe to, or
// what is not the Service's, is dropped.
func (s *service) notified(m *uspmsg.Notify) {
	text, ours := strings.CutPrefix(m.GetSubscriptionId(), prefix)
	n, err := strconv.ParseUint(text, 10, 32)
	if !ours || err != nil {
		return
	}
	num := uint32(n)
	if c := m.GetOperComplete(); c != nil {
		if num == completions {
			s.completed(c)
		}
		return
	}
	kind, path, right := about(m)
	s.mu.Lock()
	w, there := s.want[num]
	s.mu.Unlock()
	if !there || path == "" || w.kind != kind {
		return
	}
	p, ok := locate(path)
	if !ok || p.search || p.follow || !s.owns(p.base) {
		s.b.rarely(slog.LevelWarn, "service_notification_refused", s.endpoint, "path", clip(path))
		return
	}
	s.b.agent.Forward(num, m, path, right)
}

// about tells what a notification is about, and which right its recipient needs.
func about(m *uspmsg.Notify) (kind subscribe.Kind, path string, right bridge.Right) {
	switch t := m.GetNotification().(type) {
	case *uspmsg.Notify_ValueChange_:
		return subscribe.ValueChange, t.ValueChange.GetParamPath(), bridge.NotifyParam
	case *uspmsg.Notify_ObjCreation:
		table, _ := parentOf(t.ObjCreation.GetObjPath())
		return subscribe.ObjectCreation, table, bridge.NotifyObj
	case *uspmsg.Notify_ObjDeletion:
		return subscribe.ObjectDeletion, t.ObjDeletion.GetObjPath(), bridge.NotifyInst
	case *uspmsg.Notify_Event_:
		return subscribe.Event, t.Event.GetObjPath() + t.Event.GetEventName(), bridge.NotifyCommand
	}
	return 0, "", 0
}
