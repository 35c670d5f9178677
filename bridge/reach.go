package bridge

import (
	"strconv"

	"twinspan/datamodel"
	"twinspan/store"
)

const (
	controllerTable = "Device.LocalAgent.Controller."
	enableCWMP      = "Device.ManagementServer.EnableCWMP"
)

// reachable reports whether some manager could still reach the device in a state of the tree: CWMP is enabled, or a
// Controller is. It is the first form of DESIGN invariant 8.
func (e *Engine) reachable(v *store.Version) bool {
	if m, ok := e.schema.Lookup(enableCWMP); ok && m.Param != nil {
		value := defaultOf(m.Param, m.Param.Any())
		if l, ok := v.Leaf(enableCWMP); ok {
			value = l.Value
		}
		if value == "true" {
			return true
		}
	}
	for _, n := range v.Instances(controllerTable) {
		if l, ok := v.Leaf(controllerTable + strconv.FormatUint(uint64(n), 10) + ".Enable"); ok && l.Value == "true" {
			return true
		}
	}
	return false
}

// checkReachable refuses a change that would leave the device without any manager. The blame falls on the last thing
// that took one away. A device that had none before may be changed freely.
func (r *run) checkReachable() {
	last := -1
	for i := range r.effects {
		ef := &r.effects[i]
		if ef.same {
			continue
		}
		switch {
		case ef.path == enableCWMP && ef.value != "true":
			last = i
		case ef.op == store.DeltaDeleteRow && parentPath(ef.path) == controllerTable:
			last = i
		case ef.op == store.DeltaSet && ef.param != nil && ef.param.Name == "Enable" && ef.value != "true" &&
			parentPath(parentPath(ef.path)) == controllerTable:
			last = i
		}
	}
	if last < 0 || r.e.reachable(r.tx.View()) || !r.e.reachable(r.baseV) {
		return
	}
	ef := &r.effects[last]
	const text = "no manager would be left: enable another Controller or CWMP first; rule reachable"
	r.blamed = append(r.blamed, refusal{path: ef.path, verdict: "yield: " + text, rule: ruleReachable, reason: datamodel.Unrecoverable,
		p: Proposal{Writer: r.w, Path: ef.path, New: ef.value}})
	r.blame(ef.from, datamodel.Unrecoverable, ef.path, text)
}
