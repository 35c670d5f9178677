package broker

import (
	"strings"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/usp"
	"twinspan/usp/uspmsg"
)

// writingOf describes a Set, an Add or a Delete.
func writingOf(r *uspmsg.Request) *writing {
	switch t := r.GetReqType().(type) {
	case *uspmsg.Request_Set:
		return writingSet(t.Set)
	case *uspmsg.Request_Add:
		return writingAdd(t.Add)
	}
	return writingDelete(r.GetDelete())
}

func writingSet(m *uspmsg.Set) *writing {
	type (
		setResult = uspmsg.SetResp_UpdatedObjectResult
		status    = uspmsg.SetResp_UpdatedObjectResult_OperationStatus
		failure   = uspmsg.SetResp_UpdatedObjectResult_OperationStatus_OperFailure
	)
	w := &writing{partial: m.GetAllowPartial(), at: usp.AtSet}
	for _, o := range m.GetUpdateObjs() {
		w.paths = append(w.paths, o.GetObjPath())
	}
	w.pick = func(at []int) *uspmsg.Request {
		part := &uspmsg.Set{AllowPartial: m.GetAllowPartial()}
		for _, i := range at {
			part.UpdateObjs = append(part.UpdateObjs, m.GetUpdateObjs()[i])
		}
		return &uspmsg.Request{ReqType: &uspmsg.Request_Set{Set: part}}
	}
	w.results = func(r *uspmsg.Response) (out []result) {
		for _, o := range r.GetSetResp().GetUpdatedObjResults() {
			out = append(out, result{o.GetRequestedPath(), o})
		}
		return out
	}
	w.failed = func(path string, f usp.Fault) result {
		return result{path, &setResult{RequestedPath: path, OperStatus: &status{OperStatus: &failure{
			OperFailure: &uspmsg.SetResp_UpdatedObjectResult_OperationStatus_OperationFailure{ErrCode: f.Code, ErrMsg: f.Text}}}}}
	}
	w.build = func(list []result) *uspmsg.Response {
		resp := &uspmsg.SetResp{}
		for _, r := range list {
			resp.UpdatedObjResults = append(resp.UpdatedObjResults, r.any.(*setResult))
		}
		return &uspmsg.Response{RespType: &uspmsg.Response_SetResp{SetResp: resp}}
	}
	w.judge = func(q *agentRequest, s *service, i int, rows []string) error {
		for _, p := range m.GetUpdateObjs()[i].GetParamSettings() {
			if err := mayWrite(q, s, rows, p.GetParam()); err != nil {
				return err
			}
		}
		return nil
	}
	w.strip = func(q *agentRequest, s *service, r *result) {
		done := r.any.(*setResult).GetOperStatus().GetOperSuccess()
		if done == nil {
			return
		}
		keep := done.UpdatedInstResults[:0]
		for _, inst := range done.UpdatedInstResults {
			if p, ok := locate(inst.GetAffectedPath()); !ok || p.search || p.follow || !strings.HasSuffix(p.text, ".") {
				continue
			}
			readableMap(q, inst.GetAffectedPath(), inst.UpdatedParams) // R-SET.3
			keep = append(keep, inst)
		}
		done.UpdatedInstResults = keep
	}
	return w
}

func writingAdd(m *uspmsg.Add) *writing {
	type (
		addResult = uspmsg.AddResp_CreatedObjectResult
		status    = uspmsg.AddResp_CreatedObjectResult_OperationStatus
		failure   = uspmsg.AddResp_CreatedObjectResult_OperationStatus_OperFailure
	)
	w := &writing{partial: m.GetAllowPartial(), at: usp.AtAdd, parent: true}
	for _, o := range m.GetCreateObjs() {
		w.paths = append(w.paths, o.GetObjPath())
	}
	w.pick = func(at []int) *uspmsg.Request {
		part := &uspmsg.Add{AllowPartial: m.GetAllowPartial()}
		for _, i := range at {
			part.CreateObjs = append(part.CreateObjs, m.GetCreateObjs()[i])
		}
		return &uspmsg.Request{ReqType: &uspmsg.Request_Add{Add: part}}
	}
	w.results = func(r *uspmsg.Response) (out []result) {
		for _, o := range r.GetAddResp().GetCreatedObjResults() {
			out = append(out, result{o.GetRequestedPath(), o})
		}
		return out
	}
	w.failed = func(path string, f usp.Fault) result {
		return result{path, &addResult{RequestedPath: path, OperStatus: &status{OperStatus: &failure{
			OperFailure: &uspmsg.AddResp_CreatedObjectResult_OperationStatus_OperationFailure{ErrCode: f.Code, ErrMsg: f.Text}}}}}
	}
	w.build = func(list []result) *uspmsg.Response {
		resp := &uspmsg.AddResp{}
		for _, r := range list {
			resp.CreatedObjResults = append(resp.CreatedObjResults, r.any.(*addResult))
		}
		return &uspmsg.Response{RespType: &uspmsg.Response_AddResp{AddResp: resp}}
	}
	w.judge = func(q *agentRequest, s *service, i int, rows []string) error {
		for _, table := range rows {
			if !q.Allowed(table, bridge.AddRow) {
				return datamodel.Fail(datamodel.Denied, table, "")
			}
		}
		inside := make([]string, len(rows))
		for n, table := range rows {
			inside[n] = table + "{i}."
		}
		for _, p := range m.GetCreateObjs()[i].GetParamSettings() {
			if err := mayWrite(q, s, inside, p.GetParam()); err != nil {
				return err
			}
		}
		return nil
	}
	w.strip = func(q *agentRequest, s *service, r *result) {
		done := r.any.(*addResult).GetOperStatus().GetOperSuccess()
		if done == nil {
			return
		}
		if !s.instancePath(done.InstantiatedPath) {
			done.InstantiatedPath, done.UniqueKeys = "", nil
		}
		readableMap(q, done.InstantiatedPath, done.UniqueKeys) // R-ADD.6
	}
	return w
}

func writingDelete(m *uspmsg.Delete) *writing {
	type (
		delResult = uspmsg.DeleteResp_DeletedObjectResult
		status    = uspmsg.DeleteResp_DeletedObjectResult_OperationStatus
		failure   = uspmsg.DeleteResp_DeletedObjectResult_OperationStatus_OperFailure
	)
	w := &writing{partial: m.GetAllowPartial(), at: usp.AtDelete, paths: m.GetObjPaths()}
	w.pick = func(at []int) *uspmsg.Request {
		part := &uspmsg.Delete{AllowPartial: m.GetAllowPartial()}
		for _, i := range at {
			part.ObjPaths = append(part.ObjPaths, m.GetObjPaths()[i])
		}
		return &uspmsg.Request{ReqType: &uspmsg.Request_Delete{Delete: part}}
	}
	w.results = func(r *uspmsg.Response) (out []result) {
		for _, o := range r.GetDeleteResp().GetDeletedObjResults() {
			out = append(out, result{o.GetRequestedPath(), o})
		}
		return out
	}
	w.failed = func(path string, f usp.Fault) result {
		return result{path, &delResult{RequestedPath: path, OperStatus: &status{OperStatus: &failure{
			OperFailure: &uspmsg.DeleteResp_DeletedObjectResult_OperationStatus_OperationFailure{ErrCode: f.Code, ErrMsg: f.Text}}}}}
	}
	w.build = func(list []result) *uspmsg.Response {
		resp := &uspmsg.DeleteResp{}
		for _, r := range list {
			resp.DeletedObjResults = append(resp.DeletedObjResults, r.any.(*delResult))
		}
		return &uspmsg.Response{RespType: &uspmsg.Response_DeleteResp{DeleteResp: resp}}
	}
	w.judge = func(q *agentRequest, _ *service, _ int, rows []string) error {
		for _, row := range rows {
			if !q.Allowed(row, bridge.DeleteRow) {
				return datamodel.Fail(datamodel.Denied, row, "")
			}
		}
		return nil
	}
	w.strip = func(_ *agentRequest, s *service, r *result) {
		done := r.any.(*delResult).GetOperStatus().GetOperSuccess()
		if done == nil {
			return
		}
		keep := done.AffectedPaths[:0]
		for _, path := range done.AffectedPaths {
			if s.instancePath(path) {
				keep = append(keep, path)
			}
		}
		done.AffectedPaths = keep
	}
	return w
}
