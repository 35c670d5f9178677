package agent

import (
	"context"
	"strings"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/usp"
	"twinspan/usp/uspmsg"
)

// maxRef is how much of a msg_id the journal keeps.
const maxRef = 128

// ref is the wire reference of a request in the journal.
func (r *request) ref() string {
	if len(r.id) > maxRef {
		return strings.ToValidUTF8(r.id[:maxRef], "")
	}
	return r.id
}

// set answers Set. // R-SET.0, R-SET.1, R-SET.2
func (r *request) set(ctx context.Context, m *uspmsg.Set) *uspmsg.Msg {
	c := bridge.Change{Ref: r.ref(), Atomic: !m.GetAllowPartial()}
	for _, o := range m.GetUpdateObjs() {
		op := bridge.Op{Kind: bridge.OpSet, Path: withDot(o.GetObjPath())}
		for _, p := range o.GetParamSettings() {
			op.Settings = append(op.Settings, bridge.Setting{Name: p.GetParam(), Value: p.GetValue(), Required: p.GetRequired()})
		}
		c.Ops = append(c.Ops, op)
	}
	if why := r.checkTrigger(c.Ops); why != nil {
		return r.fault(why)
	}
	res, err := r.a.engine.Apply(ctx, r.w, c)
	if c.Atomic {
		if msg := r.failed(c, res, err, usp.AtSet); msg != nil {
			return msg
		}
	} else if err != nil && !failedAll(res) {
		return r.fault(err)
	}
	resp := &uspmsg.SetResp{}
	for i, o := range m.GetUpdateObjs() {
		out := &uspmsg.SetResp_UpdatedObjectResult{RequestedPath: o.GetObjPath(), OperStatus: &uspmsg.SetResp_UpdatedObjectResult_OperationStatus{}}
		setOutcome(&res.Outcomes[i], out.OperStatus)
		resp.UpdatedObjResults = append(resp.UpdatedObjResults, out)
	}
	return r.response(&uspmsg.Response{RespType: &uspmsg.Response_SetResp{SetResp: resp}})
}

// setOutcome writes one result of Set. // TP-469 1.16, 1.17, 1.21
func setOutcome(o *bridge.Outcome, st *uspmsg.SetResp_UpdatedObjectResult_OperationStatus) {
	if o.Err != nil {
		f := usp.ErrorFrom(o.Err, usp.AtSet)
		fail := &uspmsg.SetResp_UpdatedObjectResult_OperationStatus_OperationFailure{ErrCode: f.Code, ErrMsg: f.Text}
		for _, obj := range o.Objects {
			inst := &uspmsg.SetResp_UpdatedInstanceFailure{AffectedPath: obj.Path, ParamErrs: setErrors(obj.Params)}
			if len(inst.ParamErrs) > 0 || obj.Err != nil { // R-SET.2a
				fail.UpdatedInstFailures = append(fail.UpdatedInstFailures, inst)
			}
		}
		if len(fail.UpdatedInstFailures) > 0 && blamesParam(f.Code) {
			fail.ErrCode = usp.CodeRequiredFailed // the details are with the parameters
		}
		st.OperStatus = &uspmsg.SetResp_UpdatedObjectResult_OperationStatus_OperFailure{OperFailure: fail}
		return
	}
	done := &uspmsg.SetResp_UpdatedObjectResult_OperationStatus_OperationSuccess{}
	for _, obj := range o.Objects {
		inst := &uspmsg.SetResp_UpdatedInstanceResult{AffectedPath: obj.Path, ParamErrs: setErrors(obj.Params),
			UpdatedParams: map[string]string{}}
		for _, p := range obj.Params {
			if p.Err == nil && !p.Hide { // R-SET.3
				inst.UpdatedParams[p.Name] = p.Value
			}
		}
		done.UpdatedInstResults = append(done.UpdatedInstResults, inst)
	}
	st.OperStatus = &uspmsg.SetResp_UpdatedObjectResult_OperationStatus_OperSuccess{OperSuccess: done}
}

// blamesParam tells codes that speak of one parameter from those of an object or message.
func blamesParam(code uint32) bool {
	return code >= usp.CodeParameterFailed && code <= usp.CodeValueConflict || code == usp.CodeDuplicateKey
}

func setErrors(ps []bridge.ParamOutcome) []*uspmsg.SetResp_ParameterError {
	var out []*uspmsg.SetResp_ParameterError
	for _, p := range ps {
		if p.Err != nil {
			f := usp.ErrorFrom(p.Err, usp.AtParam)
			out = append(out, &uspmsg.SetResp_ParameterError{Param: p.Name, ErrCode: f.Code, ErrMsg: f.Text})
		}
	}
	return out
}

// add answers Add. // R-ADD.0, R-ADD.1
func (r *request) add(ctx context.Context, m *uspmsg.Add) *uspmsg.Msg {
	c := bridge.Change{Ref: r.ref(), Atomic: !m.GetAllowPartial()}
	for _, o := range m.GetCreateObjs() {
		op := bridge.Op{Kind: bridge.OpAdd, Path: withDot(o.GetObjPath())}
		for _, p := range o.GetParamSettings() {
			op.Settings = append(op.Settings, bridge.Setting{Name: p.GetParam(), Value: p.GetValue(), Required: p.GetRequired()})
		}
		c.Ops = append(c.Ops, op)
	}
	if why := r.checkTrigger(c.Ops); why != nil {
		return r.fault(why)
	}
	res, err := r.a.engine.Apply(ctx, r.w, c)
	if c.Atomic {
		if msg := r.failed(c, res, err, usp.AtAdd); msg != nil {
			return msg
		}
	} else if err != nil && !failedAll(res) {
		return r.fault(err)
	}
	r.own(res)
	resp := &uspmsg.AddResp{}
	for i, o := range m.GetCreateObjs() {
		r.addOutcome(o.GetObjPath(), &res.Outcomes[i], resp)
	}
	return r.response(&uspmsg.Response{RespType: &uspmsg.Response_AddResp{AddResp: resp}})
}

// own remembers which Subscriptions a local peer made. It has no Controller row that could be their Recipient; they
// belong to its connection and end with it.
func (r *request) own(res bridge.Result) {
	if !r.p.local || !res.Changed {
		return
	}
	for _, o := range res.Outcomes {
		for _, obj := range o.Objects {
			if num := instance(obj.Path, subPath); num != 0 && o.Err == nil && obj.Err == nil {
				r.a.owners.put(num, r.p)
			}
		}
	}
}

// addOutcome writes the results of one create_obj: one for each parent that a search path matched. // TP-469 1.95, 2.23
func (r *request) addOutcome(path string, o *bridge.Outcome, resp *uspmsg.AddResp) {
	result := func() *uspmsg.AddResp_CreatedObjectResult_OperationStatus {
		st := &uspmsg.AddResp_CreatedObjectResult_OperationStatus{}
		resp.CreatedObjResults = append(resp.CreatedObjResults, &uspmsg.AddResp_CreatedObjectResult{RequestedPath: path, OperStatus: st})
		return st
	}
	fail := func(err error, at usp.Where) {
		f := usp.ErrorFrom(err, at)
		result().OperStatus = &uspmsg.AddResp_CreatedObjectResult_OperationStatus_OperFailure{
			OperFailure: &uspmsg.AddResp_CreatedObjectResult_OperationStatus_OperationFailure{ErrCode: f.Code, ErrMsg: f.Text}}
	}
	if o.Err != nil && len(o.Objects) == 0 {
		fail(o.Err, usp.AtAdd)
		return
	}
	if o.Err == nil && len(o.Objects) == 0 { // R-MSG.4a: a search that matched no parent
		result().OperStatus = &uspmsg.AddResp_CreatedObjectResult_OperationStatus_OperSuccess{
			OperSuccess: &uspmsg.AddResp_CreatedObjectResult_OperationStatus_OperationSuccess{}}
		return
	}
	for _, obj := range o.Objects {
		switch why := objectError(&obj); {
		case obj.Err != nil || o.Err != nil && why != nil: // R-ADD.3
			// There is no place for details here, so that the code is that of the parameter. // TP-469 2.26
			at := usp.AtAdd
			if why != obj.Err {
				at = usp.AtParam
			}
			fail(why, at)
		case o.Err != nil:
			fail(o.Err, usp.AtAdd)
		default:
			done := &uspmsg.AddResp_CreatedObjectResult_OperationStatus_OperationSuccess{InstantiatedPath: obj.Path, UniqueKeys: obj.Keys} // R-ADD.5, R-ADD.6
			for _, p := range obj.Params {
				if p.Err != nil { // R-ADD.4
					f := usp.ErrorFrom(p.Err, usp.AtParam)
					done.ParamErrs = append(done.ParamErrs, &uspmsg.AddResp_ParameterError{Param: p.Name, ErrCode: f.Code, ErrMsg: f.Text})
				}
			}
			result().OperStatus = &uspmsg.AddResp_CreatedObjectResult_OperationStatus_OperSuccess{OperSuccess: done}
		}
	}
}

// objectError is why an object failed: the first parameter's fault, if the object only says that one failed.
func objectError(o *bridge.ObjectOutcome) error {
	if o.Err == nil || datamodel.ReasonOf(o.Err) == datamodel.RequiredFailed {
		for _, p := range o.Params {
			if p.Err != nil {
				return p.Err
			}
		}
	}
	return o.Err
}

// del answers Delete. // R-DEL.0, R-DEL.1, R-DEL.2
func (r *request) del(ctx context.Context, m *uspmsg.Delete) *uspmsg.Msg {
	c := bridge.Change{Ref: r.ref(), Atomic: !m.GetAllowPartial()}
	for _, path := range m.GetObjPaths() {
		// A missing instance is an empty success, R-DEL.2a. The strict reading of R-DEL.1 makes it an Error when nothing
		// may fail; the certification tests want the success there too (TP-469 1.25).
		c.Ops = append(c.Ops, bridge.Op{Kind: bridge.OpDelete, Path: withDot(path),
			MissingOK: !(c.Atomic && r.a.opt.StrictDelete) && !r.notRow(path)})
	}
	res, err := r.a.engine.Apply(ctx, r.w, c)
	if c.Atomic {
		if msg := r.failed(c, res, err, usp.AtDelete); msg != nil {
			return msg
		}
	} else if err != nil && !failedAll(res) {
		return r.fault(err)
	}
	resp := &uspmsg.DeleteResp{}
	for i, path := range m.GetObjPaths() {
		st := &uspmsg.DeleteResp_DeletedObjectResult_OperationStatus{}
		deleteOutcome(&res.Outcomes[i], st)
		resp.DeletedObjResults = append(resp.DeletedObjResults, &uspmsg.DeleteResp_DeletedObjectResult{RequestedPath: path, OperStatus: st})
	}
	return r.response(&uspmsg.Response{RespType: &uspmsg.Response_DeleteResp{DeleteResp: resp}})
}

// notRow reports whether a path names a table or a single object, which no instance is ever missing of.
func (r *request) notRow(path string) bool {
	c, ok := datamodel.ToCanonical(datamodel.USP, withDot(path))
	if !ok {
		return false
	}
	m, ok := r.a.schema.Lookup(c)
	return ok && (m.Table || !m.Object.Multi)
}

func deleteOutcome(o *bridge.Outcome, st *uspmsg.DeleteResp_DeletedObjectResult_OperationStatus) {
	if o.Err != nil && len(o.Objects) == 0 {
		f := usp.ErrorFrom(o.Err, usp.AtDelete)
		st.OperStatus = &uspmsg.DeleteResp_DeletedObjectResult_OperationStatus_OperFailure{
			OperFailure: &uspmsg.DeleteResp_DeletedObjectResult_OperationStatus_OperationFailure{ErrCode: f.Code, ErrMsg: f.Text}}
		return
	}
	done := &uspmsg.DeleteResp_DeletedObjectResult_OperationStatus_OperationSuccess{}
	for _, obj := range o.Objects {
		err := obj.Err
		if err == nil {
			err = o.Err
		}
		if err == nil {
			done.AffectedPaths = append(done.AffectedPaths, obj.Path)
			continue
		}
		f := usp.ErrorFrom(err, usp.AtDelete)
		done.UnaffectedPathErrs = append(done.UnaffectedPathErrs, &uspmsg.DeleteResp_UnaffectedPathError{ // R-DEL.3
			UnaffectedPath: obj.Path, ErrCode: f.Code, ErrMsg: f.Text})
	}
	st.OperStatus = &uspmsg.DeleteResp_DeletedObjectResult_OperationStatus_OperSuccess{OperSuccess: done}
}

// explained reports whether the outcomes say what went wrong, so that no Error for the whole message is needed.
func explained(res bridge.Result) bool {
	for i := range res.Outcomes {
		if res.Outcomes[i].Err != nil {
			return true
		}
	}
	return false
}

// failedAll reports whether every outcome says what went wrong. When the change came to nothing for another reason (a veto, a full or broken
// disk), an operation without an error of its own would look as if it had been committed.
func failedAll(res bridge.Result) bool {
	for i := range res.Outcomes {
		if res.Outcomes[i].Err == nil {
			return false
		}
	}
	return len(res.Outcomes) > 0
}

// failed builds the Error message of a change that may not fail in part, nil when it did not fail. // TP-469 1.3, 1.14
func (r *request) failed(c bridge.Change, res bridge.Result, err error, at usp.Where) *uspmsg.Msg {
	if err == nil && !explained(res) {
		return nil
	}
	var params []*uspmsg.Error_ParamError
	note := func(path string, err error, at usp.Where) {
		f := usp.ErrorFrom(err, at)
		params = append(params, &uspmsg.Error_ParamError{ParamPath: path, ErrCode: f.Code, ErrMsg: f.Text})
	}
	for i := range res.Outcomes {
		o := &res.Outcomes[i]
		if o.Err == nil {
			continue
		}
		before := len(params)
		for _, obj := range o.Objects {
			base := obj.Path
			if base == "" {
				base = c.Ops[i].Path
			}
			had := len(params)
			for _, p := range obj.Params {
				if p.Err != nil {
					note(base+p.Name, p.Err, usp.AtParam)
				}
			}
			if len(params) == had && obj.Err != nil {
				note(base, obj.Err, at)
			}
		}
		if len(params) == before {
			note(c.Ops[i].Path, o.Err, at)
		}
	}
	if len(params) == 0 {
		if err == nil {
			return nil
		}
		return usp.ErrorMessage(r.id, usp.ErrorFrom(err, at))
	}
	f := usp.Fault{Code: outerCode(params[0].ErrCode), Text: params[0].ErrMsg}
	return usp.ErrorMessage(r.id, f, params...)
}

// outerCode is the code of an Error message for the code of its first detail: faults of what was asked are invalid
// arguments, all others stand for themselves. // TP-469 2.12, 2.14, 2.16, 2.24
func outerCode(inner uint32) uint32 {
	switch inner {
	case usp.CodeUnsupportedParameter, usp.CodeInvalidType, usp.CodeInvalidValue, usp.CodeNotWritable, usp.CodeValueConflict,
		usp.CodeRequiredFailed, usp.CodeDuplicateKey, usp.CodeInvalidPath, usp.CodeInvalidPathSyntax, usp.CodeNotATable:
		return usp.CodeInvalidArguments
	}
	return inner
}
