package diff

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"twinspan/cwmp/acs"
	"twinspan/cwmp/soap"
	"twinspan/datamodel"
	"twinspan/usp/controller"
	"twinspan/usp/uspmsg"
)

// kinds are outcomes of a step and the codes by which each protocol says them.
var kinds = []struct {
	name string
	usp  []uint32
	cwmp []soap.FaultCode
}{
	{"bad value", []uint32{7011, 7012}, []soap.FaultCode{9006, 9007}},
	{"read-only", []uint32{7013}, []soap.FaultCode{9008}},
	{"unknown", []uint32{7010, 7016, 7026}, []soap.FaultCode{9005}},
	{"taken", []uint32{7025}, []soap.FaultCode{}}, // a unique key: CWMP has no code of its own and says 9007 (bad value)
	{"no table", []uint32{7018, 7019}, []soap.FaultCode{}},
	{"no room", []uint32{7005}, []soap.FaultCode{9004}},
	{"bad arguments", []uint32{7008, 7027}, []soap.FaultCode{9003}},
	{"denied", []uint32{7006}, []soap.FaultCode{9001}},
}

// outcome names the kind of an error, "ok" for nil. Errors that are no answer of the agent are returned.
func outcome(err error) (string, error) {
	var u *controller.Error
	var f *soap.Fault
	switch {
	case err == nil:
		return "ok", nil
	case errors.As(err, &u):
		code := u.Code
		if len(u.Params) > 0 {
			code = u.Params[0].Code
		}
		for _, k := range kinds {
			if slices.Contains(k.usp, code) {
				return k.name, nil
			}
		}
		return fmt.Sprintf("code %d", code), nil
	case errors.As(err, &f):
		code := f.Code
		if len(f.SetParameterValuesFault) > 0 {
			code = f.SetParameterValuesFault[0].FaultCode
		}
		for _, k := range kinds {
			if slices.Contains(k.cwmp, code) {
				return k.name, nil
			}
		}
		return fmt.Sprintf("code %d", code), nil
	}
	return "", err
}

// face is one protocol as the scripts use it. All paths are spelled as in USP.
type face interface {
	name() string
	get(ctx context.Context, path string) (map[string]string, error)
	// set is all or nothing.
	set(ctx context.Context, values map[string]string) error
	add(ctx context.Context, table string, values map[string]string) (row string, err error)
	del(ctx context.Context, row string) error
	// rows lists the instances of a table.
	rows(ctx context.Context, table string) ([]string, error)
	// access lists the parameters of an object with "w" for those that can be written, "r" for others.
	access(ctx context.Context, object string) (map[string]string, error)
	// watch asks to be told of changes of a parameter; told waits for the next value.
	watch(ctx context.Context, path string) (told func(ctx context.Context) (string, error), err error)
	// test runs a diagnostic command to its end and returns its results.
	test(ctx context.Context, command string, args map[string]string) (map[string]string, error)
	restart(ctx context.Context, factory bool) error
}

// uspFace is a Controller.
type uspFace struct {
	*controller.Controller
	notes chan *uspmsg.Notify
}

func (f *uspFace) name() string { return "USP" }

func (f *uspFace) get(ctx context.Context, path string) (map[string]string, error) {
	return f.Get(ctx, path)
}

func (f *uspFace) set(ctx context.Context, values map[string]string) error { return f.Set(ctx, values) }

func (f *uspFace) add(ctx context.Context, table string, values map[string]string) (string, error) {
	row, _, err := f.Add(ctx, table, values)
	return row, err
}

func (f *uspFace) del(ctx context.Context, row string) error {
	_, err := f.Delete(ctx, row)
	return err
}

func (f *uspFace) rows(ctx context.Context, table string) ([]string, error) {
	list, err := f.Instances(ctx, table, true)
	var out []string
	for _, i := range list {
		out = append(out, i.GetInstantiatedObjPath())
	}
	return out, err
}

func (f *uspFace) access(ctx context.Context, object string) (map[string]string, error) {
	res, err := f.SupportedDM(ctx, true, object)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, r := range res {
		if r.GetErrCode() != 0 {
			return nil, &controller.Error{Code: r.GetErrCode(), Text: r.GetErrMsg(), Path: object}
		}
		for _, o := range r.GetSupportedObjs() {
			for _, p := range o.GetSupportedParams() {
				out[p.GetParamName()] = "w"
				if p.GetAccess() == uspmsg.GetSupportedDMResp_PARAM_READ_ONLY {
					out[p.GetParamName()] = "r"
				}
			}
		}
	}
	return out, nil
}

func (f *uspFace) next(ctx context.Context, fits func(*uspmsg.Notify) bool) (*uspmsg.Notify, error) {
	for {
		select {
		case n := <-f.notes:
			if fits(n) {
				return n, nil
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("no Notify: %w", ctx.Err())
		}
	}
}

func (f *uspFace) watch(ctx context.Context, path string) (func(context.Context) (string, error), error) {
	row, err := f.Subscribe(ctx, fmt.Sprintf("diff-%d", time.Now().UnixNano()), "ValueChange", false, path)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (string, error) {
		n, err := f.next(ctx, func(n *uspmsg.Notify) bool { return n.GetValueChange().GetParamPath() == path })
		if err != nil {
			return "", err
		}
		_, err = f.Delete(ctx, row)
		return n.GetValueChange().GetParamValue(), err
	}, nil
}

func (f *uspFace) test(ctx context.Context, command string, args map[string]string) (map[string]string, error) {
	row, err := f.Subscribe(ctx, fmt.Sprintf("diff-%d", time.Now().UnixNano()), "OperationComplete", false, command)
	if err != nil {
		return nil, err
	}
	key := fmt.Sprintf("diff-%d", time.Now().UnixNano())
	if _, _, err := f.Operate(ctx, command, key, args); err != nil {
		return nil, err
	}
	n, err := f.next(ctx, func(n *uspmsg.Notify) bool { return n.GetOperComplete().GetCommandKey() == key })
	if err != nil {
		return nil, err
	}
	if c := n.GetOperComplete().GetCmdFailure(); c != nil {
		return nil, &controller.Error{Code: c.GetErrCode(), Text: c.GetErrMsg(), Path: command}
	}
	_, err = f.Delete(ctx, row)
	return n.GetOperComplete().GetReqOutputArgs().GetOutputArgs(), err
}

func (f *uspFace) restart(ctx context.Context, factory bool) error {
	command := "Device.Reboot()"
	if factory {
		command = "Device.FactoryReset()"
	}
	f.Forget()
	if _, _, err := f.Operate(ctx, command, "diff", nil); err != nil {
		return err
	}
	return f.WaitConnect(ctx)
}

// cwmpFace is an ACS that holds a session open.
type cwmpFace struct {
	dev     *acs.Device
	release func()
}

func (f *cwmpFace) name() string { return "CWMP" }

func spelled(path string) string {
	p, _ := datamodel.FromCanonical(datamodel.CWMP, path) // a path that CWMP has not is refused by the agent
	return p
}

func canonical(path string) string {
	p, _ := datamodel.ToCanonical(datamodel.CWMP, path)
	return p
}

func (f *cwmpFace) get(ctx context.Context, path string) (map[string]string, error) {
	list, err := f.dev.GetValues(ctx, spelled(path))
	out := map[string]string{}
	for _, v := range list {
		if v.Type == soap.Boolean && v.Value == "1" {
			v.Value = "true"
		} else if v.Type == soap.Boolean && v.Value == "0" {
			v.Value = "false"
		}
		out[canonical(v.Name)] = v.Value
	}
	return out, err
}

func (f *cwmpFace) set(ctx context.Context, values map[string]string) error {
	var list []soap.ParameterValue
	for _, path := range slices.Sorted(maps.Keys(values)) {
		list = append(list, soap.ParameterValue{Name: spelled(path), Value: values[path]})
	}
	_, err := f.dev.SetValues(ctx, "", list...)
	return err
}

// add is what an ACS does: it adds the row and writes its settings, two commits.
func (f *cwmpFace) add(ctx context.Context, table string, values map[string]string) (string, error) {
	m, err := f.dev.Call(ctx, &soap.AddObject{ObjectName: spelled(table)})
	if err != nil {
		return "", err
	}
	row := fmt.Sprintf("%s%d.", table, m.(*soap.AddObjectResponse).InstanceNumber)
	if len(values) == 0 {
		return row, nil
	}
	full := map[string]string{}
	for name, v := range values {
		full[row+name] = v
	}
	return row, f.set(ctx, full)
}

func (f *cwmpFace) del(ctx context.Context, row string) error {
	_, err := f.dev.Call(ctx, &soap.DeleteObject{ObjectName: spelled(row)})
	return err
}

func (f *cwmpFace) names(ctx context.Context, path string) ([]soap.ParameterInfo, error) {
	m, err := f.dev.Call(ctx, &soap.GetParameterNames{ParameterPath: spelled(path), NextLevel: true})
	if err != nil {
		return nil, err
	}
	return m.(*soap.GetParameterNamesResponse).ParameterList, nil
}

func (f *cwmpFace) rows(ctx context.Context, table string) ([]string, error) {
	list, err := f.names(ctx, table)
	var out []string
	for _, p := range list {
		out = append(out, canonical(p.Name))
	}
	return out, err
}

func (f *cwmpFace) access(ctx context.Context, object string) (map[string]string, error) {
	list, err := f.names(ctx, object)
	out := map[string]string{}
	for _, p := range list {
		if strings.HasSuffix(p.Name, ".") {
			continue
		}
		_, name := datamodel.SplitParam(canonical(p.Name))
		out[name] = map[bool]string{true: "w", false: "r"}[p.Writable]
	}
	return out, err
}

// hold opens the next session and keeps it open.
func (f *cwmpFace) hold() { f.release = f.dev.Hold() }

// between runs do while no session is held, from the moment on when the present one has ended.
func (f *cwmpFace) between(ctx context.Context, do func() error) error {
	n := f.dev.Sessions()
	f.release()
	defer f.hold()
	if err := f.dev.WaitIdle(ctx, n+1); err != nil {
		return err
	}
	return do()
}

func (f *cwmpFace) watch(ctx context.Context, path string) (func(context.Context) (string, error), error) {
	attr := func(n int) error {
		_, err := f.dev.Call(ctx, &soap.SetParameterAttributes{ParameterList: []soap.SetAttribute{{Name: spelled(path), NotificationChange: true, Notification: n}}})
		return err
	}
	since := time.Now()
	if err := attr(2); err != nil {
		return nil, err
	}
	return func(ctx context.Context) (value string, err error) {
		err = f.between(ctx, func() error {
			_, err := f.dev.WaitInform(ctx, func(r *acs.InformRecord) bool {
				v, there := r.Value(spelled(path))
				value = v
				return r.At.After(since) && r.HasEvent("4 VALUE CHANGE") && there
			})
			return err
		})
		return value, errors.Join(err, attr(0))
	}, nil
}

func (f *cwmpFace) test(ctx context.Context, command string, args map[string]string) (map[string]string, error) {
	object := strings.TrimSuffix(command, "()") + "."
	values := map[string]string{object + "DiagnosticsState": "Requested"}
	for name, v := range args {
		values[object+name] = v
	}
	since := time.Now()
	if err := f.set(ctx, values); err != nil {
		return nil, err
	}
	err := f.between(ctx, func() error {
		_, err := f.dev.WaitEvent(ctx, since, "8 DIAGNOSTICS COMPLETE")
		return err
	})
	if err != nil {
		return nil, err
	}
	list, err := f.get(ctx, object)
	out := map[string]string{}
	for path, v := range list {
		out[strings.TrimPrefix(path, object)] = v
	}
	return out, err
}

func (f *cwmpFace) restart(ctx context.Context, factory bool) error {
	since := time.Now()
	event := "1 BOOT"
	var m soap.Message = &soap.Reboot{CommandKey: "diff"}
	if factory {
		m, event = &soap.FactoryReset{}, "0 BOOTSTRAP"
	}
	if _, err := f.dev.Call(ctx, m); err != nil {
		return err
	}
	f.release()
	defer f.hold()
	_, err := f.dev.WaitEvent(ctx, since, event)
	return err
}
