package agent

import (
	"context"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/usp"
	"twinspan/usp/uspmsg"
)

// getInstances answers GetInstances.
func (r *request) getInstances(ctx context.Context, m *uspmsg.GetInstances) *uspmsg.Msg {
	v := r.view()
	resp := &uspmsg.GetInstancesResp{}
	size := 0
	for _, path := range m.GetObjPaths() {
		res := &uspmsg.GetInstancesResp_RequestedPathResult{RequestedPath: path}
		insts, err := r.instances(ctx, v, path, m.GetFirstLevelOnly(), &size)
		if err != nil {
			if datamodel.ReasonOf(err) == datamodel.Resources {
				return r.fault(err)
			}
			f := usp.ErrorFrom(err, usp.AtPath)
			res.ErrCode, res.ErrMsg = f.Code, f.Text
		} else {
			res.CurrInsts = insts
		}
		resp.ReqPathResults = append(resp.ReqPathResults, res)
	}
	return r.response(&uspmsg.Response{RespType: &uspmsg.Response_GetInstancesResp{GetInstancesResp: resp}})
}

func (r *request) instances(ctx context.Context, v *bridge.View, path string, firstOnly bool, size *int) ([]*uspmsg.GetInstancesResp_CurrInstance, error) {
	tables, err := resolve(v, path, datamodel.ResolvePolicy{Want: datamodel.WantObject, MissingIsError: true, AllowTable: true})
	if err != nil {
		return nil, err
	}
	depth := 0
	if firstOnly {
		depth = 1
	}
	var out []*uspmsg.GetInstancesResp_CurrInstance
	var failed error
	for _, t := range tables {
		if !t.Table {
			return nil, datamodel.Fail(datamodel.NotTable, t.Path, "GetInstances wants the path of a table")
		}
		err := v.Objects(t, depth, func(o datamodel.Match) bool {
			if failed = ctx.Err(); failed != nil {
				return false
			}
			if o.Table || !o.Object.Multi || !r.allowed(v, o.Path, bridge.ReadInst) { // R-GIN.0
				return true
			}
			keys := v.Keys(ctx, o) // R-GIN.1
			*size += len(o.Path) + 8
			for k, val := range keys {
				*size += len(k) + len(val) + 8
			}
			if *size > r.a.opt.Limits.ResponseSize {
				failed = datamodel.Fail(datamodel.Resources, path, "the answer is too large; ask for less")
				return false
			}
			out = append(out, &uspmsg.GetInstancesResp_CurrInstance{InstantiatedObjPath: o.Path, UniqueKeys: keys})
			return true
		})
		if failed != nil {
			return nil, failed
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}
