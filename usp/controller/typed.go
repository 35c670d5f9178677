package controller

import (
	"context"
	"errors"
	"strings"

	"twinspan/usp/uspmsg"
)

// Get reads parameters, one map entry for each parameter path. A path that the agent refuses is an *Error beside what the other
// paths gave.
func (c *Controller) Get(ctx context.Context, paths ...string) (map[string]string, error) {
	return c.GetDepth(ctx, 0, paths...)
}

// GetDepth is Get with max_depth.
func (c *Controller) GetDepth(ctx context.Context, depth uint32, paths ...string) (map[string]string, error) {
	resp, err := c.Request(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: paths, MaxDepth: depth}}})
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	var errs []error
	for _, r := range resp.GetGetResp().GetReqPathResults() {
		if r.GetErrCode() != 0 {
			errs = append(errs, &Error{Code: r.GetErrCode(), Text: r.GetErrMsg(), Path: r.GetRequestedPath()})
		}
		for _, obj := range r.GetResolvedPathResults() {
			for name, v := range obj.GetResultParams() {
				values[obj.GetResolvedPath()+name] = v
			}
		}
	}
	return values, errors.Join(errs...)
}

// Value reads one parameter by its full path.
func (c *Controller) Value(ctx context.Context, path string) (string, error) {
	values, err := c.Get(ctx, path)
	if err != nil {
		return "", err
	}
	for _, v := range values {
		return v, nil
	}
	return "", &Error{Code: 7026, Text: "nothing there", Path: path}
}

// Set writes parameters by full path, all or nothing.
func (c *Controller) Set(ctx context.Context, values map[string]string) error {
	byObject := map[string]*uspmsg.Set_UpdateObject{}
	set := &uspmsg.Set{}
	for path, v := range values {
		i := strings.LastIndexByte(path, '.') + 1
		u := byObject[path[:i]]
		if u == nil {
			u = &uspmsg.Set_UpdateObject{ObjPath: path[:i]}
			byObject[path[:i]] = u
			set.UpdateObjs = append(set.UpdateObjs, u)
		}
		u.ParamSettings = append(u.ParamSettings, &uspmsg.Set_UpdateParamSetting{Param: path[i:], Value: v, Required: true})
	}
	resp, err := c.Request(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Set{Set: set}})
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range resp.GetSetResp().GetUpdatedObjResults() {
		if f := r.GetOperStatus().GetOperFailure(); f != nil {
			errs = append(errs, &Error{Code: f.GetErrCode(), Text: f.GetErrMsg(), Path: r.GetRequestedPath()})
		}
		for _, inst := range r.GetOperStatus().GetOperSuccess().GetUpdatedInstResults() {
			for _, p := range inst.GetParamErrs() {
				errs = append(errs, &Error{Code: p.GetErrCode(), Text: p.GetErrMsg(), Path: inst.GetAffectedPath() + p.GetParam()})
			}
		}
	}
	return errors.Join(errs...)
}

// Add creates one row and returns its instance path and unique keys; every setting is required.
func (c *Controller) Add(ctx context.Context, table string, settings map[string]string) (row string, keys map[string]string, err error) {
	obj := &uspmsg.Add_CreateObject{ObjPath: table}
	for name, v := range settings {
		obj.ParamSettings = append(obj.ParamSettings, &uspmsg.Add_CreateParamSetting{Param: name, Value: v, Required: true})
	}
	resp, err := c.Request(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Add{Add: &uspmsg.Add{CreateObjs: []*uspmsg.Add_CreateObject{obj}}}})
	if err != nil {
		return "", nil, err
	}
	for _, r := range resp.GetAddResp().GetCreatedObjResults() {
		if f := r.GetOperStatus().GetOperFailure(); f != nil {
			return "", nil, &Error{Code: f.GetErrCode(), Text: f.GetErrMsg(), Path: r.GetRequestedPath()}
		}
		if s := r.GetOperStatus().GetOperSuccess(); s != nil {
			row, keys = s.GetInstantiatedPath(), s.GetUniqueKeys()
		}
	}
	return row, keys, nil
}

// Delete removes rows, all or nothing, and returns the paths that are gone.
func (c *Controller) Delete(ctx context.Context, paths ...string) ([]string, error) {
	resp, err := c.Request(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Delete{Delete: &uspmsg.Delete{ObjPaths: paths}}})
	if err != nil {
		return nil, err
	}
	var gone []string
	var errs []error
	for _, r := range resp.GetDeleteResp().GetDeletedObjResults() {
		if f := r.GetOperStatus().GetOperFailure(); f != nil {
			errs = append(errs, &Error{Code: f.GetErrCode(), Text: f.GetErrMsg(), Path: r.GetRequestedPath()})
		}
		s := r.GetOperStatus().GetOperSuccess()
		gone = append(gone, s.GetAffectedPaths()...)
		for _, u := range s.GetUnaffectedPathErrs() {
			errs = append(errs, &Error{Code: u.GetErrCode(), Text: u.GetErrMsg(), Path: u.GetUnaffectedPath()})
		}
	}
	return gone, errors.Join(errs...)
}

// Instances lists the rows of a table with their unique keys, in the agent's order.
func (c *Controller) Instances(ctx context.Context, table string, firstLevelOnly bool) ([]*uspmsg.GetInstancesResp_CurrInstance, error) {
	resp, err := c.Request(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_GetInstances{GetInstances: &uspmsg.GetInstances{ObjPaths: []string{table}, FirstLevelOnly: firstLevelOnly}}})
	if err != nil {
		return nil, err
	}
	var rows []*uspmsg.GetInstancesResp_CurrInstance
	for _, r := range resp.GetGetInstancesResp().GetReqPathResults() {
		if r.GetErrCode() != 0 {
			return nil, &Error{Code: r.GetErrCode(), Text: r.GetErrMsg(), Path: r.GetRequestedPath()}
		}
		rows = append(rows, r.GetCurrInsts()...)
	}
	return rows, nil
}

// Operate runs one command. An asynchronous command gives the path of its Request row instead of output arguments.
func (c *Controller) Operate(ctx context.Context, command, key string, args map[string]string) (outputs map[string]string, requestRow string, err error) {
	resp, err := c.Request(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Operate{Operate: &uspmsg.Operate{Command: command, CommandKey: key, SendResp: true, InputArgs: args}}})
	if err != nil {
		return nil, "", err
	}
	for _, r := range resp.GetOperateResp().GetOperationResults() {
		if f := r.GetCmdFailure(); f != nil {
			return nil, "", &Error{Code: f.GetErrCode(), Text: f.GetErrMsg(), Path: r.GetExecutedCommand()}
		}
		outputs, requestRow = r.GetReqOutputArgs().GetOutputArgs(), r.GetReqObjPath()
	}
	return outputs, requestRow, nil
}

// Subscribe adds an enabled Subscription and returns its row. Notifications arrive at OnNotify with the given ID.
func (c *Controller) Subscribe(ctx context.Context, id, notifType string, retry bool, paths ...string) (row string, err error) {
	settings := map[string]string{"ID": id, "NotifType": notifType, "ReferenceList": strings.Join(paths, ","), "Enable": "true"}
	if retry {
		settings["NotifRetry"] = "true"
	}
	row, _, err = c.Add(ctx, "Device.LocalAgent.Subscription.", settings)
	return row, err
}

// Protocols asks which versions of USP the agent speaks.
func (c *Controller) Protocols(ctx context.Context, own string) (string, error) {
	resp, err := c.Request(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_GetSupportedProtocol{GetSupportedProtocol: &uspmsg.GetSupportedProtocol{ControllerSupportedProtocolVersions: own}}})
	if err != nil {
		return "", err
	}
	return resp.GetGetSupportedProtocolResp().GetAgentSupportedProtocolVersions(), nil
}

// SupportedDM asks what the agent supports, with everything the message can give.
func (c *Controller) SupportedDM(ctx context.Context, firstLevelOnly bool, paths ...string) ([]*uspmsg.GetSupportedDMResp_RequestedObjectResult, error) {
	resp, err := c.Request(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_GetSupportedDm{GetSupportedDm: &uspmsg.GetSupportedDM{ObjPaths: paths, FirstLevelOnly: firstLevelOnly,
		ReturnCommands: true, ReturnEvents: true, ReturnParams: true, ReturnUniqueKeySets: true}}})
	if err != nil {
		return nil, err
	}
	return resp.GetGetSupportedDmResp().GetReqObjResults(), nil
}
