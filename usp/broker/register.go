package broker

import (
	"log/slog"
	"strconv"
	"strings"

	"twinspan/datamodel"
	"twinspan/usp"
	"twinspan/usp/uspmsg"
)

const trustPath = "Device.USPServices.Trust."

// reserved are objects that no Service may have a part of, supported by the agent or not: they decide who may do what.
var reserved = []string{"Device.LocalAgent", "Device.USPAgent", "Device.USPServices", "Device.ManagementServer", "Device.CWMPManagementServer"}

// refusal is why one path is not registered or deregistered.
type refusal struct {
	code uint32
	text string
}

// register answers Register. Called on the reader goroutine of the link.
func (b *Broker) register(s *service, id string, m *uspmsg.Register) *uspmsg.Msg {
	b.mu.Lock()
	defer b.mu.Unlock()
	resp := &uspmsg.RegisterResp{}
	var taken, asked []string
	var bad []*uspmsg.Error_ParamError
	for _, p := range m.GetRegPaths() {
		res := &uspmsg.RegisterResp_RegisteredPathResult{RequestedPath: p.GetPath(), OperStatus: &uspmsg.RegisterResp_RegisteredPathResult_OperationStatus{}}
		resp.RegisteredPathResults = append(resp.RegisteredPathResults, res)
		base, why := b.mayRegister(s, p.GetPath(), taken)
		if why != nil {
			res.OperStatus.OperStatus = &uspmsg.RegisterResp_RegisteredPathResult_OperationStatus_OperFailure{
				OperFailure: &uspmsg.RegisterResp_RegisteredPathResult_OperationStatus_OperationFailure{ErrCode: why.code, ErrMsg: why.text}}
			bad = append(bad, &uspmsg.Error_ParamError{ParamPath: p.GetPath(), ErrCode: why.code, ErrMsg: why.text})
		} else {
			if base != "" {
				taken, asked = append(taken, base), append(asked, p.GetPath())
			}
			res.OperStatus.OperStatus = &uspmsg.RegisterResp_RegisteredPathResult_OperationStatus_OperSuccess{
				OperSuccess: &uspmsg.RegisterResp_RegisteredPathResult_OperationStatus_OperationSuccess{RegisteredPath: p.GetPath()}}
		}
	}
	switch {
	case s.ended:
		return usp.ErrorMessage(id, usp.Fault{Code: usp.CodeRegisterFailure, Text: "the USP Service said goodbye"})
	case len(resp.RegisteredPathResults) == 0:
		return usp.ErrorMessage(id, usp.Fault{Code: usp.CodeInvalidArguments, Text: "Register without paths"})
	case len(bad) > 0 && !m.GetAllowPartial(): // R-REG.1
		return usp.ErrorMessage(id, usp.Fault{Code: usp.CodeRegisterFailure, Text: bad[0].ErrMsg}, bad...)
	}
	s.paths, s.asked = append(s.paths, taken...), append(s.asked, asked...) // R-REG.0
	if len(taken) > 0 {
		b.rarely(slog.LevelInfo, "service_registers", s.endpoint, "paths", strings.Join(asked, ","))
		s.poke()
	}
	return usp.NewResponse(id, &uspmsg.Response{RespType: &uspmsg.Response_RegisterResp{RegisterResp: resp}})
}

// mayRegister decides about one path. taken are those of the same message that come before it. base is empty for what the
// Service has registered already, which is no fault. The caller holds mu.
func (b *Broker) mayRegister(s *service, path string, taken []string) (base string, why *refusal) {
	parsed, err := datamodel.ParsePath(path)
	if err != nil || len(parsed.Steps) < 2 {
		return "", &refusal{usp.CodeInvalidPathSyntax, "not a path that can be registered"}
	}
	for _, step := range parsed.Steps {
		if step.Kind != datamodel.StepName { // R-REG.2
			return "", &refusal{usp.CodeInvalidPathSyntax, "instances, searches and references cannot be registered"}
		}
	}
	if parsed.Steps[0].Name != "Device" {
		return "", &refusal{usp.CodeInvalidPath, "only paths below Device. can be registered"}
	}
	base = strings.TrimSuffix(path, ".")
	for _, have := range append(append([]string(nil), s.paths...), taken...) {
		if within(have, base) {
			return "", nil
		}
	}
	for _, top := range reserved {
		if within(top, base) || within(base, top) {
			return "", &refusal{usp.CodeAlreadyInUse, top + ". is the agent's own"}
		}
	}
	if why := b.ownElement(base); why != nil {
		return "", why
	}
	for _, other := range b.byID {
		for _, have := range other.paths {
			if within(have, base) || within(base, have) {
				if other == s {
					return "", &refusal{usp.CodeAlreadyInUse, have + ", which is below it, is registered already"}
				}
				return "", &refusal{usp.CodeAlreadyInUse, have + " is registered by the USP Service " + other.endpoint}
			}
		}
	}
	for _, have := range taken {
		if within(have, base) || within(base, have) {
			return "", &refusal{usp.CodeAlreadyInUse, have + ", which is below it, stands in the same message"}
		}
	}
	if len(s.paths)+len(taken) >= b.opt.Limits.Paths {
		return "", &refusal{usp.CodeResourcesExceeded, "at most " + strconv.Itoa(b.opt.Limits.Paths) + " paths for each USP Service"}
	}
	if !b.trusts(s.endpoint, base) {
		return "", &refusal{usp.CodePermissionDenied, trustPath + " does not let this USP Service register it"}
	}
	return base, nil
}

// ownElement refuses what the agent itself has, what is above that, and what lies in rows of its tables.
func (b *Broker) ownElement(base string) *refusal {
	schema := b.engine.Schema()
	if _, own := schema.Lookup(base); own {
		return &refusal{usp.CodeAlreadyInUse, "the agent itself has it"}
	}
	if _, own := schema.Lookup(base + "."); own {
		return &refusal{usp.CodeAlreadyInUse, "the agent itself has it"}
	}
	for i := range base {
		if base[i] != '.' {
			continue
		}
		m, own := schema.Lookup(base[:i+1])
		if !own {
			break
		}
		if m.Table {
			return &refusal{usp.CodeRegisterFailure, base[:i+1] + " is a table of the agent"}
		}
	}
	return nil
}

// trusts asks Device.USPServices.Trust. Where it has no rows every Service may register everything that is free.
func (b *Broker) trusts(endpoint, base string) bool {
	v := b.agent.Head()
	rows := v.Instances(trustPath)
	for _, n := range rows {
		row := trustPath + strconv.FormatUint(uint64(n), 10) + "."
		if l, _ := v.Leaf(row + "EndpointID"); l.Value != endpoint {
			continue
		}
		l, _ := v.Leaf(row + "TargetPaths")
		for _, top := range strings.Split(l.Value, ",") {
			if top = strings.TrimSuffix(strings.TrimSpace(top), "."); top != "" && within(top, base) {
				return true
			}
		}
	}
	return len(rows) == 0
}

// deregister answers Deregister. // R-DEREG.4
func (b *Broker) deregister(s *service, id string, m *uspmsg.Deregister) *uspmsg.Msg {
	b.mu.Lock()
	resp := &uspmsg.DeregisterResp{}
	add := func(path string, st *uspmsg.DeregisterResp_DeregisteredPathResult_OperationStatus) {
		resp.DeregisteredPathResults = append(resp.DeregisteredPathResults, &uspmsg.DeregisterResp_DeregisteredPathResult{RequestedPath: path, OperStatus: st})
	}
	done := func(paths ...string) *uspmsg.DeregisterResp_DeregisteredPathResult_OperationStatus {
		return &uspmsg.DeregisterResp_DeregisteredPathResult_OperationStatus{OperStatus: &uspmsg.DeregisterResp_DeregisteredPathResult_OperationStatus_OperSuccess{
			OperSuccess: &uspmsg.DeregisterResp_DeregisteredPathResult_OperationStatus_OperationSuccess{DeregisteredPath: paths}}}
	}
	paths := m.GetPaths()
	if len(paths) == 0 {
		paths = []string{""}
	}
	for _, path := range paths {
		if path == "" { // R-DEREG.2
			add(path, done(s.asked...))
			s.paths, s.asked = nil, nil
			continue
		}
		if i := s.registered(path); i >= 0 {
			add(path, done(s.asked[i]))
			s.paths, s.asked = without(s.paths, i), without(s.asked, i)
			continue
		}
		code, text := usp.CodeDeregisterFailure, "it was not registered"
		for _, other := range b.byID {
			if other.registered(path) >= 0 { // R-DEREG.1
				code, text = usp.CodePathAlreadyRegistered, "it was registered by another USP Service"
			}
		}
		add(path, &uspmsg.DeregisterResp_DeregisteredPathResult_OperationStatus{OperStatus: &uspmsg.DeregisterResp_DeregisteredPathResult_OperationStatus_OperFailure{
			OperFailure: &uspmsg.DeregisterResp_DeregisteredPathResult_OperationStatus_OperationFailure{ErrCode: code, ErrMsg: text}}})
	}
	b.rebuild()
	row := uint32(0)
	if len(s.paths) == 0 {
		row, s.row = s.row, 0
	}
	b.mu.Unlock()
	if row != 0 {
		b.agent.ServiceRow(rowPath(row), false)
	}
	s.poke()
	b.agent.Resubscribe()
	return usp.NewResponse(id, &uspmsg.Response{RespType: &uspmsg.Response_DeregisterResp{DeregisterResp: resp}})
}

// registered finds a path among those of the Service, -1 if it is not. The caller holds Broker.mu.
func (s *service) registered(path string) int {
	base := strings.TrimSuffix(path, ".")
	for i, have := range s.paths {
		if have == base {
			return i
		}
	}
	return -1
}

// without is a copy of list that lacks item i: the list itself may be in use.
func without(list []string, i int) []string {
	return append(append(make([]string, 0, len(list)), list[:i]...), list[i+1:]...)
}

// rebuild makes the table of routes anew: of every registered path whose data model is known. The caller holds mu.
func (b *Broker) rebuild() {
	rs := routes{}
	for _, s := range b.byID {
		s.mu.Lock()
		for base := range s.models {
			if s.registered(base) < 0 {
				delete(s.models, base)
			}
		}
		for _, base := range s.paths {
			if m := s.models[base]; m != nil {
				rs = append(rs, route{base: base, object: m.object, svc: s})
			}
		}
		s.mu.Unlock()
	}
	b.routes.Store(&rs)
}
