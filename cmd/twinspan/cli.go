package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
	"time"

	"twinspan/usp/uspmsg"
)

// defaultSocket is where an agent with the default data directory listens.
const defaultSocket = "/var/lib/twinspan/twinspan.sock"

// cliTimeout bounds one request to the agent, commands aside.
const cliTimeout = 30 * time.Second

// requester is the one thing the verbs need of a Controller.
type requester interface {
	Request(ctx context.Context, r *uspmsg.Request) (*uspmsg.Response, error)
}

// options shared by the verbs that talk to the agent.
type options struct {
	*flag.FlagSet
	socket string
	json   bool
}

func newOptions(name string) *options {
	o := &options{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError)}
	o.SetOutput(io.Discard)
	socket := os.Getenv("TWINSPAN_SOCKET")
	if socket == "" {
		socket = defaultSocket
	}
	o.StringVar(&o.socket, "socket", socket, "the agent's socket")
	o.BoolVar(&o.json, "json", false, "print JSON")
	return o
}

// parse accepts options before, between and after the arguments, as people type them.
func (o *options) parse(args []string, least int, what string) ([]string, error) {
	var rest []string
	for {
		if err := o.Parse(args); err != nil {
			return nil, usageError{err.Error()}
		}
		args = o.Args()
		if len(args) == 0 {
			break
		}
		rest, args = append(rest, args[0]), args[1:]
	}
	if len(rest) < least {
		return nil, usageError{what + " is needed"}
	}
	return rest, nil
}

// ask connects, sends one request and hangs up.
func (o *options) ask(ctx context.Context, r *uspmsg.Request) (*uspmsg.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, cliTimeout)
	defer cancel()
	c, done, err := dial(ctx, o.socket, nil)
	if err != nil {
		return nil, err
	}
	defer done()
	return c.Request(ctx, r)
}

func printJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// pathError is one refused path.
func pathError(path string, code uint32, text string) error {
	return fmt.Errorf("%s: %d %s", path, code, text)
}

// split cuts NAME=VALUE; the first = outside brackets counts, since search expressions have == in them.
func split(arg string) (name, value string, err error) {
	depth := 0
	for i := 0; i < len(arg); i++ {
		switch arg[i] {
		case '[':
			depth++
		case ']':
			depth--
		case '=':
			if depth == 0 {
				return arg[:i], arg[i+1:], nil
			}
		}
	}
	return "", "", usageError{fmt.Sprintf("%q: want NAME=VALUE", arg)}
}

// splitObject cuts a parameter path after its object.
func splitObject(path string) (object, param string, err error) {
	i := strings.LastIndexByte(path, '.')
	if i < 0 || i == len(path)-1 {
		return "", "", usageError{fmt.Sprintf("%q: want a parameter path", path)}
	}
	return path[:i+1], path[i+1:], nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

func cliGet(ctx context.Context, args []string, out io.Writer) error {
	o := newOptions("get")
	depth := o.Uint("depth", 0, "levels, 0 for all")
	paths, err := o.parse(args, 1, "a path")
	if err != nil {
		return err
	}
	resp, err := o.ask(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: paths, MaxDepth: uint32(*depth)}}})
	if err != nil {
		return err
	}
	values := map[string]string{}
	var order []string
	var errs []error
	for _, r := range resp.GetGetResp().GetReqPathResults() {
		if r.GetErrCode() != 0 {
			errs = append(errs, pathError(r.GetRequestedPath(), r.GetErrCode(), r.GetErrMsg()))
		}
		for _, obj := range r.GetResolvedPathResults() {
			for _, name := range sortedKeys(obj.GetResultParams()) {
				path := obj.GetResolvedPath() + name
				if _, seen := values[path]; !seen {
					order = append(order, path)
				}
				values[path] = obj.GetResultParams()[name]
			}
		}
	}
	if o.json {
		errs = append(errs, printJSON(out, values))
	} else {
		for _, p := range order {
			fmt.Fprintf(out, "%s = %s\n", p, values[p])
		}
	}
	return errors.Join(errs...)
}

func cliSet(ctx context.Context, args []string, out io.Writer) error {
	o := newOptions("set")
	partial := o.Bool("partial", false, "keep what succeeds")
	within := o.String("confirm", "", "put back unless confirmed in this time")
	settings, err := o.parse(args, 1, "PATH=VALUE")
	if err != nil {
		return err
	}
	set := &uspmsg.Set{AllowPartial: *partial}
	byObject := map[string]*uspmsg.Set_UpdateObject{}
	for _, s := range settings {
		path, value, err := split(s)
		if err != nil {
			return err
		}
		object, param, err := splitObject(path)
		if err != nil {
			return err
		}
		u := byObject[object]
		if u == nil {
			u = &uspmsg.Set_UpdateObject{ObjPath: object}
			byObject[object] = u
			set.UpdateObjs = append(set.UpdateObjs, u)
		}
		u.ParamSettings = append(u.ParamSettings, &uspmsg.Set_UpdateParamSetting{Param: param, Value: value, Required: true})
	}
	if *within != "" {
		if err := o.provisional(ctx, set, *within); err != nil {
			return err
		}
	}
	resp, err := o.ask(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Set{Set: set}})
	if err != nil {
		return err
	}
	values := map[string]string{}
	var errs []error
	for _, r := range resp.GetSetResp().GetUpdatedObjResults() {
		if f := r.GetOperStatus().GetOperFailure(); f != nil {
			errs = append(errs, pathError(r.GetRequestedPath(), f.GetErrCode(), f.GetErrMsg()))
			for _, inst := range f.GetUpdatedInstFailures() {
				for _, p := range inst.GetParamErrs() {
					errs = append(errs, pathError(inst.GetAffectedPath()+p.GetParam(), p.GetErrCode(), p.GetErrMsg()))
				}
			}
		}
		for _, inst := range r.GetOperStatus().GetOperSuccess().GetUpdatedInstResults() {
			for name, v := range inst.GetUpdatedParams() {
				values[inst.GetAffectedPath()+name] = v
			}
			for _, p := range inst.GetParamErrs() {
				errs = append(errs, pathError(inst.GetAffectedPath()+p.GetParam(), p.GetErrCode(), p.GetErrMsg()))
			}
		}
	}
	return errors.Join(append(errs, printValues(out, o.json, values))...)
}

func printValues(out io.Writer, asJSON bool, values map[string]string) error {
	if asJSON {
		return printJSON(out, values)
	}
	for _, p := range sortedKeys(values) {
		fmt.Fprintf(out, "%s = %s\n", p, values[p])
	}
	return nil
}

func cliAdd(ctx context.Context, args []string, out io.Writer) error {
	o := newOptions("add")
	rest, err := o.parse(args, 1, "a table")
	if err != nil {
		return err
	}
	obj := &uspmsg.Add_CreateObject{ObjPath: rest[0]}
	for _, s := range rest[1:] {
		name, value, err := split(s)
		if err != nil {
			return err
		}
		obj.ParamSettings = append(obj.ParamSettings, &uspmsg.Add_CreateParamSetting{Param: name, Value: value, Required: true})
	}
	resp, err := o.ask(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Add{Add: &uspmsg.Add{CreateObjs: []*uspmsg.Add_CreateObject{obj}}}})
	if err != nil {
		return err
	}
	rows := map[string]map[string]string{}
	var errs []error
	for _, r := range resp.GetAddResp().GetCreatedObjResults() {
		if f := r.GetOperStatus().GetOperFailure(); f != nil {
			errs = append(errs, pathError(r.GetRequestedPath(), f.GetErrCode(), f.GetErrMsg()))
		}
		if s := r.GetOperStatus().GetOperSuccess(); s.GetInstantiatedPath() != "" {
			rows[s.GetInstantiatedPath()] = s.GetUniqueKeys()
		}
	}
	return errors.Join(append(errs, printRows(out, o.json, rows))...)
}

// printRows prints instance paths with their unique keys.
func printRows(out io.Writer, asJSON bool, rows map[string]map[string]string) error {
	if asJSON {
		return printJSON(out, rows)
	}
	for _, path := range sortedKeys(rows) {
		var keys []string
		for _, k := range sortedKeys(rows[path]) {
			keys = append(keys, k+"="+rows[path][k])
		}
		fmt.Fprintln(out, strings.TrimSpace(path+"  "+strings.Join(keys, " ")))
	}
	return nil
}

func cliDelete(ctx context.Context, args []string, out io.Writer) error {
	o := newOptions("del")
	paths, err := o.parse(args, 1, "a row")
	if err != nil {
		return err
	}
	resp, err := o.ask(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Delete{Delete: &uspmsg.Delete{ObjPaths: paths}}})
	if err != nil {
		return err
	}
	gone := []string{}
	var errs []error
	for _, r := range resp.GetDeleteResp().GetDeletedObjResults() {
		if f := r.GetOperStatus().GetOperFailure(); f != nil {
			errs = append(errs, pathError(r.GetRequestedPath(), f.GetErrCode(), f.GetErrMsg()))
		}
		s := r.GetOperStatus().GetOperSuccess()
		gone = append(gone, s.GetAffectedPaths()...)
		for _, u := range s.GetUnaffectedPathErrs() {
			errs = append(errs, pathError(u.GetUnaffectedPath(), u.GetErrCode(), u.GetErrMsg()))
		}
	}
	if o.json {
		errs = append(errs, printJSON(out, gone))
	} else {
		for _, p := range gone {
			fmt.Fprintln(out, "deleted", p)
		}
	}
	return errors.Join(errs...)
}

func cliInstances(ctx context.Context, args []string, out io.Writer) error {
	o := newOptions("instances")
	all := o.Bool("all", false, "rows of sub-tables too")
	paths, err := o.parse(args, 1, "a table")
	if err != nil {
		return err
	}
	resp, err := o.ask(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_GetInstances{GetInstances: &uspmsg.GetInstances{ObjPaths: paths, FirstLevelOnly: !*all}}})
	if err != nil {
		return err
	}
	rows := map[string]map[string]string{}
	var order []string
	var errs []error
	for _, r := range resp.GetGetInstancesResp().GetReqPathResults() {
		if r.GetErrCode() != 0 {
			errs = append(errs, pathError(r.GetRequestedPath(), r.GetErrCode(), r.GetErrMsg()))
		}
		for _, inst := range r.GetCurrInsts() {
			order = append(order, inst.GetInstantiatedObjPath())
			rows[inst.GetInstantiatedObjPath()] = inst.GetUniqueKeys()
		}
	}
	if o.json {
		return errors.Join(append(errs, printJSON(out, rows))...)
	}
	for _, p := range order { // the agent's order is by instance number, not by text
		errs = append(errs, printRows(out, false, map[string]map[string]string{p: rows[p]}))
	}
	return errors.Join(errs...)
}
