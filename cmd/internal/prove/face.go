package prove

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"twinspan/cmd/internal/agentproc"
	"twinspan/cwmp/acs"
	"twinspan/cwmp/soap"
	"twinspan/usp/controller"
	"twinspan/usp/uspmsg"
)

// uspFace is a Controller.
type uspFace struct{ c *controller.Controller }

func (f uspFace) set(ctx context.Context, objs []object, partial bool, _ string) (failed int, err error) {
	set := &uspmsg.Set{AllowPartial: partial}
	for _, o := range objs {
		u := &uspmsg.Set_UpdateObject{ObjPath: o.path}
		for _, p := range o.params {
			u.ParamSettings = append(u.ParamSettings, &uspmsg.Set_UpdateParamSetting{Param: p[0], Value: p[1], Required: true})
		}
		set.UpdateObjs = append(set.UpdateObjs, u)
	}
	resp, err := f.c.Request(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Set{Set: set}})
	if err != nil {
		return 0, err
	}
	var first error
	for _, r := range resp.GetSetResp().GetUpdatedObjResults() {
		if e := r.GetOperStatus().GetOperFailure(); e != nil {
			failed++
			if first == nil {
				first = &controller.Error{Code: e.GetErrCode(), Text: e.GetErrMsg(), Path: r.GetRequestedPath()}
			}
		}
	}
	if failed > 0 && (!partial || failed == len(objs)) {
		return failed, first
	}
	return failed, nil
}

func (f uspFace) add(ctx context.Context, rows []object, _ string) ([]uint32, error) {
	add := &uspmsg.Add{}
	for _, o := range rows {
		c := &uspmsg.Add_CreateObject{ObjPath: mappings}
		for _, p := range o.params {
			c.ParamSettings = append(c.ParamSettings, &uspmsg.Add_CreateParamSetting{Param: p[0], Value: p[1], Required: true})
		}
		add.CreateObjs = append(add.CreateObjs, c)
	}
	resp, err := f.c.Request(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Add{Add: add}})
	if err != nil {
		return nil, err
	}
	var nums []uint32
	for _, r := range resp.GetAddResp().GetCreatedObjResults() {
		if e := r.GetOperStatus().GetOperFailure(); e != nil {
			return nil, &controller.Error{Code: e.GetErrCode(), Text: e.GetErrMsg(), Path: r.GetRequestedPath()}
		}
		n, err := instance(r.GetOperStatus().GetOperSuccess().GetInstantiatedPath())
		if err != nil {
			return nil, err
		}
		nums = append(nums, n)
	}
	return nums, nil
}

// instance is the number of a row of mappings.
func instance(row string) (uint32, error) {
	n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(row, mappings), "."), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is no row of %s", row, mappings)
	}
	return uint32(n), nil
}

func (f uspFace) del(ctx context.Context, table string, rows []uint32, _ string) error {
	var paths []string
	for _, n := range rows {
		paths = append(paths, fmt.Sprintf("%s%d.", table, n))
	}
	_, err := f.c.Delete(ctx, paths...)
	return err
}

// acsFace is an ACS with the device in a session.
type acsFace struct {
	device *acs.Device
	calls  int
	// renew begins another session now and then; nil: never.
	renew func(ctx context.Context) error
	every int
}

func (f *acsFace) call(ctx context.Context, m soap.Message) (soap.Message, error) {
	if f.calls++; f.renew != nil && f.calls%f.every == 0 {
		if err := f.renew(ctx); err != nil {
			return nil, err
		}
	}
	return f.device.Call(ctx, m)
}

func (f *acsFace) set(ctx context.Context, objs []object, _ bool, key string) (int, error) {
	req := &soap.SetParameterValues{ParameterKey: key}
	for _, o := range objs {
		for _, p := range o.params {
			req.ParameterList = append(req.ParameterList, soap.ParameterValue{Name: o.path + p[0], Value: p[1]})
		}
	}
	_, err := f.call(ctx, req)
	return 0, err
}

func (f *acsFace) add(ctx context.Context, rows []object, key string) ([]uint32, error) {
	m, err := f.call(ctx, &soap.AddObject{ObjectName: rows[0].path, ParameterKey: key})
	if err != nil {
		return nil, err
	}
	return []uint32{m.(*soap.AddObjectResponse).InstanceNumber}, nil
}

func (f *acsFace) del(ctx context.Context, table string, rows []uint32, key string) error {
	_, err := f.call(ctx, &soap.DeleteObject{ObjectName: fmt.Sprintf("%s%d.", table, rows[0]), ParameterKey: key})
	return err
}

// values reads what the judge wants to see, over CWMP.
func (f *acsFace) values(ctx context.Context) (map[string]string, error) {
	list, err := f.device.GetValues(ctx, clients, mappings, users, keyPath)
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(list))
	for _, p := range list {
		out[p.Name] = p.Value
	}
	return out, nil
}

// cliFace is the command line of the agent binary, one process for each operation.
type cliFace struct {
	agent  *agentproc.Process
	socket string
}

// errCommand is what the command line printed when it failed; it is an answer only if the agent said it.
func (f cliFace) command(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := f.agent.Command(ctx, append([]string{args[0], "--socket", f.socket}, args[1:]...)...)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 && strings.Contains(err.Error(), ": 70") { // "path: 7012 text": the agent's own words
		return out, &controller.Error{Code: 7000, Text: err.Error()}
	}
	return out, err
}

func (f cliFace) set(ctx context.Context, objs []object, _ bool, _ string) (int, error) {
	args := []string{"set"}
	for _, o := range objs {
		for _, p := range o.params {
			args = append(args, o.path+p[0]+"="+p[1])
		}
	}
	_, err := f.command(ctx, args...)
	return 0, err
}

func (f cliFace) add(ctx context.Context, rows []object, _ string) ([]uint32, error) {
	args := []string{"add", mappings}
	for _, p := range rows[0].params {
		args = append(args, p[0]+"="+p[1])
	}
	out, err := f.command(ctx, args...)
	if err != nil {
		return nil, err
	}
	row, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
	row, _, _ = strings.Cut(row, " ")
	n, err := instance(row)
	return []uint32{n}, err
}

func (f cliFace) del(ctx context.Context, table string, rows []uint32, _ string) error {
	_, err := f.command(ctx, "del", fmt.Sprintf("%s%d.", table, rows[0]))
	return err
}
