package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"twinspan/store"
	"twinspan/usp/uspmsg"
)

const subscriptionTable = "Device.LocalAgent.Subscription."

// subscribe adds a subscription that lives as long as this program; the returned function deletes it.
func subscribe(ctx context.Context, c requester, notifType string, paths []string) (remove func(), err error) {
	id := fmt.Sprintf("cli-%d-%d", os.Getpid(), time.Now().UnixNano())
	setting := func(name, value string) *uspmsg.Add_CreateParamSetting {
		return &uspmsg.Add_CreateParamSetting{Param: name, Value: value, Required: true}
	}
	resp, err := c.Request(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Add{Add: &uspmsg.Add{CreateObjs: []*uspmsg.Add_CreateObject{{
		ObjPath: subscriptionTable,
		ParamSettings: []*uspmsg.Add_CreateParamSetting{
			setting("ID", id), setting("NotifType", notifType), setting("ReferenceList", strings.Join(paths, ",")), setting("Enable", "true"),
		},
	}}}}})
	if err != nil {
		return nil, err
	}
	results := resp.GetAddResp().GetCreatedObjResults()
	if len(results) != 1 || results[0].GetOperStatus().GetOperSuccess() == nil {
		return nil, errors.New("the agent did not accept the subscription")
	}
	row := results[0].GetOperStatus().GetOperSuccess().GetInstantiatedPath()
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		// Best effort: a subscription left behind is not persistent and ends with the agent.
		_, _ = c.Request(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Delete{Delete: &uspmsg.Delete{ObjPaths: []string{row}}}})
	}, nil
}

// notification is one Notify in the form that people and programs read.
type notification struct {
	Time  time.Time         `json:"time"`
	Type  string            `json:"type"`
	Path  string            `json:"path"`
	Value string            `json:"value,omitempty"`
	Args  map[string]string `json:"args,omitempty"`
	Code  uint32            `json:"err_code,omitempty"`
	Text  string            `json:"err_msg,omitempty"`
	Key   string            `json:"command_key,omitempty"`
}

func fromNotify(n *uspmsg.Notify) notification {
	out := notification{Time: time.Now().UTC()}
	switch v := n.GetNotification().(type) {
	case *uspmsg.Notify_ValueChange_:
		out.Type, out.Path, out.Value = "ValueChange", v.ValueChange.GetParamPath(), v.ValueChange.GetParamValue()
	case *uspmsg.Notify_ObjCreation:
		out.Type, out.Path, out.Args = "ObjectCreation", v.ObjCreation.GetObjPath(), v.ObjCreation.GetUniqueKeys()
	case *uspmsg.Notify_ObjDeletion:
		out.Type, out.Path = "ObjectDeletion", v.ObjDeletion.GetObjPath()
	case *uspmsg.Notify_Event_:
		out.Type, out.Path, out.Args = "Event", v.Event.GetObjPath()+v.Event.GetEventName(), v.Event.GetParams()
	case *uspmsg.Notify_OperComplete:
		oc := v.OperComplete
		out.Type, out.Path, out.Key = "OperationComplete", oc.GetObjPath()+oc.GetCommandName(), oc.GetCommandKey()
		out.Args = oc.GetReqOutputArgs().GetOutputArgs()
		if f := oc.GetCmdFailure(); f != nil {
			out.Code, out.Text = f.GetErrCode(), f.GetErrMsg()
		}
	}
	return out
}

func (n notification) String() string {
	s := n.Time.Format("15:04:05.000") + " " + n.Type + " " + n.Path
	if n.Type == "ValueChange" {
		s += " = " + n.Value
	}
	for _, k := range sortedKeys(n.Args) {
		s += " " + k + "=" + strconv.Quote(n.Args[k])
	}
	if n.Code != 0 {
		s += fmt.Sprintf(" failed: %d %s", n.Code, n.Text)
	}
	return s
}

func cliWatch(ctx context.Context, args []string, out io.Writer) error {
	o := newOptions("watch")
	notifType := o.String("type", "ValueChange", "kind of notification")
	paths, err := o.parse(args, 1, "a path")
	if err != nil {
		return err
	}
	seen := make(chan notification, 256)
	c, done, err := dial(ctx, o.socket, func(n *uspmsg.Notify) {
		select {
		case seen <- fromNotify(n):
		case <-ctx.Done():
		}
	})
	if err != nil {
		return err
	}
	defer done()
	remove, err := subscribe(ctx, c, *notifType, paths)
	if err != nil {
		return err
	}
	defer remove()
	for {
		select {
		case <-ctx.Done():
			return nil
		case n := <-seen:
			if o.json {
				err = printJSON(out, n)
			} else {
				_, err = fmt.Fprintln(out, n)
			}
			if err != nil {
				return err
			}
		}
	}
}

func cliOperate(ctx context.Context, args []string, out io.Writer) error {
	o := newOptions("operate")
	timeout := o.Duration("timeout", 5*time.Minute, "how long to wait for the result")
	rest, err := o.parse(args, 1, "a command")
	if err != nil {
		return err
	}
	inputs := map[string]string{}
	for _, a := range rest[1:] {
		name, value, err := split(a)
		if err != nil {
			return err
		}
		inputs[name] = value
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	completed := make(chan notification, 16)
	c, done, err := dial(ctx, o.socket, func(n *uspmsg.Notify) {
		select {
		case completed <- fromNotify(n):
		case <-ctx.Done():
		}
	})
	if err != nil {
		return err
	}
	defer done()
	remove, err := subscribe(ctx, c, "OperationComplete", []string{rest[0]})
	if err != nil {
		return err
	}
	defer remove()
	key := fmt.Sprintf("cli-%d", time.Now().UnixNano())
	resp, err := c.Request(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Operate{Operate: &uspmsg.Operate{Command: rest[0], CommandKey: key, SendResp: true, InputArgs: inputs}}})
	if err != nil {
		return err
	}
	results := map[string]map[string]string{}
	var errs []error
	pending := 0
	for _, r := range resp.GetOperateResp().GetOperationResults() {
		switch v := r.GetOperationResp().(type) {
		case *uspmsg.OperateResp_OperationResult_CmdFailure:
			errs = append(errs, pathError(r.GetExecutedCommand(), v.CmdFailure.GetErrCode(), v.CmdFailure.GetErrMsg()))
		case *uspmsg.OperateResp_OperationResult_ReqOutputArgs:
			results[r.GetExecutedCommand()] = v.ReqOutputArgs.GetOutputArgs()
		default: // asynchronous: the Request row was given
			pending++
		}
	}
	for pending > 0 {
		select {
		case n := <-completed:
			if n.Key != key {
				continue
			}
			pending--
			if n.Code != 0 {
				errs = append(errs, pathError(n.Path, n.Code, n.Text))
			} else {
				results[n.Path] = n.Args
			}
		case <-ctx.Done():
			return errors.Join(append(errs, fmt.Errorf("no result yet, the command goes on (see Device.LocalAgent.Request.): %w", ctx.Err()))...)
		}
	}
	if o.json {
		return errors.Join(append(errs, printJSON(out, results))...)
	}
	for _, cmd := range sortedKeys(results) {
		fmt.Fprintln(out, cmd, "done")
		for _, k := range sortedKeys(results[cmd]) {
			fmt.Fprintf(out, "  %s = %s\n", k, results[cmd][k])
		}
	}
	return errors.Join(errs...)
}

func cliSchema(ctx context.Context, args []string, out io.Writer) error {
	o := newOptions("schema")
	all := o.Bool("all", false, "everything below, not only the first level")
	paths, err := o.parse(args, 1, "a path")
	if err != nil {
		return err
	}
	resp, err := o.ask(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_GetSupportedDm{GetSupportedDm: &uspmsg.GetSupportedDM{
		ObjPaths: paths, FirstLevelOnly: !*all, ReturnCommands: true, ReturnEvents: true, ReturnParams: true, ReturnUniqueKeySets: true}}})
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(out, resp.GetGetSupportedDmResp().GetReqObjResults())
	}
	var errs []error
	for _, r := range resp.GetGetSupportedDmResp().GetReqObjResults() {
		if r.GetErrCode() != 0 {
			errs = append(errs, pathError(r.GetReqObjPath(), r.GetErrCode(), r.GetErrMsg()))
		}
		for _, obj := range r.GetSupportedObjs() {
			printObject(out, obj)
		}
	}
	return errors.Join(errs...)
}

// words turns an enumeration's name into what people read: PARAM_READ_WRITE -> read write.
func words(name, prefix string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, prefix), "_", " "))
}

func printObject(out io.Writer, obj *uspmsg.GetSupportedDMResp_SupportedObjectResult) {
	fmt.Fprintf(out, "%s  (%s)\n", obj.GetSupportedObjPath(), words(obj.GetAccess().String(), "OBJ_"))
	for _, k := range obj.GetUniqueKeySets() {
		fmt.Fprintf(out, "  unique %s\n", strings.Join(k.GetKeyNames(), "+"))
	}
	for _, p := range obj.GetSupportedParams() {
		fmt.Fprintf(out, "  %-36s %-13s %s\n", p.GetParamName(), words(p.GetValueType().String(), "PARAM_"), words(p.GetAccess().String(), "PARAM_"))
	}
	for _, c := range obj.GetSupportedCommands() {
		fmt.Fprintf(out, "  %s in(%s) out(%s)\n", c.GetCommandName(), strings.Join(c.GetInputArgNames(), " "), strings.Join(c.GetOutputArgNames(), " "))
	}
	for _, e := range obj.GetSupportedEvents() {
		fmt.Fprintf(out, "  %s (%s)\n", e.GetEventName(), strings.Join(e.GetArgNames(), " "))
	}
}

// cliStore verifies a database file offline.
func cliStore(_ context.Context, args []string, out io.Writer) error {
	o := newOptions("store")
	rest, err := o.parse(args, 2, "check FILE")
	if err != nil {
		return err
	}
	if rest[0] != "check" || len(rest) != 2 {
		return usageError{"only `check FILE` is known"}
	}
	problems, err := store.Check(rest[1])
	if err != nil {
		return err
	}
	if o.json {
		if err := printJSON(out, problems); err != nil {
			return err
		}
	}
	for _, p := range problems {
		if !o.json {
			fmt.Fprintln(out, p.Path, p.What)
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("%s: %d problems", rest[1], len(problems))
	}
	if !o.json {
		fmt.Fprintln(out, rest[1]+": sound")
	}
	return nil
}
