package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"twinspan/bridge/migration"
	"twinspan/usp/uspmsg"
)

// agentObject is a connection with the path of the agent's own object.
type agentObject struct {
	c    requester
	path string
	done func()
}

func (o *options) object(ctx context.Context) (*agentObject, error) {
	c, done, err := dial(ctx, o.socket, nil)
	if err != nil {
		return nil, err
	}
	path, err := vendorObject(ctx, c)
	if err != nil {
		done()
		return nil, err
	}
	return &agentObject{c, path, done}, nil
}

// run carries a command of the object out.
func (a *agentObject) run(ctx context.Context, command string, args map[string]string) (map[string]string, error) {
	resp, err := a.c.Request(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Operate{Operate: &uspmsg.Operate{Command: a.path + command, CommandKey: "cli", SendResp: true, InputArgs: args}}})
	if err != nil {
		return nil, err
	}
	results := resp.GetOperateResp().GetOperationResults()
	if len(results) == 0 {
		return nil, nil
	}
	if f := results[0].GetCmdFailure(); f != nil {
		return nil, fmt.Errorf("%d %s", f.GetErrCode(), f.GetErrMsg())
	}
	return results[0].GetReqOutputArgs().GetOutputArgs(), nil
}

// read gets everything below a part of the object: instance -> parameter -> value, in the agent's order.
func (a *agentObject) read(ctx context.Context, part string, depth uint32) (order []string, rows map[string]map[string]string, err error) {
	resp, err := a.c.Request(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: []string{a.path + part}, MaxDepth: depth}}})
	if err != nil {
		return nil, nil, err
	}
	rows = map[string]map[string]string{}
	for _, r := range resp.GetGetResp().GetReqPathResults() {
		if r.GetErrCode() != 0 {
			return nil, nil, pathError(r.GetRequestedPath(), r.GetErrCode(), r.GetErrMsg())
		}
		for _, obj := range r.GetResolvedPathResults() {
			order = append(order, obj.GetResolvedPath())
			rows[obj.GetResolvedPath()] = obj.GetResultParams()
		}
	}
	return order, rows, nil
}

func cliPhase(ctx context.Context, args []string, out io.Writer) error {
	o := newOptions("phase")
	within := o.Duration("confirm-within", 0, "confirm window of a move")
	survive := o.Bool("survive-reboot", false, "a restart does not end the window")
	reason := o.String("reason", "", "why")
	rest, err := o.parse(args, 0, "")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, cliTimeout)
	defer cancel()
	a, err := o.object(ctx)
	if err != nil {
		return err
	}
	defer a.done()
	if len(rest) == 0 {
		return a.show(ctx, o.json, out)
	}
	command, in := "RequestPhase()", map[string]string{"Reason": *reason}
	switch rest[0] {
	case "confirm":
		command = "Confirm()"
		if len(rest) > 1 {
			in = map[string]string{"Token": rest[1]}
		}
	case "rollback", "hold", "release":
		command = strings.ToUpper(rest[0][:1]) + rest[0][1:] + "()"
	default:
		in["Phase"] = rest[0]
		in["SurviveReboot"] = strconv.FormatBool(*survive)
		if *within > 0 {
			in["ConfirmTimeout"] = strconv.Itoa(max(int(*within/time.Second), 1))
		}
	}
	result, err := a.run(ctx, command, in)
	if err != nil {
		return err
	}
	if t := result["Token"]; t != "" && o.json {
		return printJSON(out, result)
	} else if t != "" {
		fmt.Fprintf(out, "token %s: confirm over a new connection\n", t)
	}
	return a.show(ctx, o.json, out)
}

// show prints where the migration stands.
func (a *agentObject) show(ctx context.Context, asJSON bool, out io.Writer) error {
	_, rows, err := a.read(ctx, "", 1)
	if err != nil {
		return err
	}
	v := rows[a.path]
	order, moves, err := a.read(ctx, "Transition.", 0)
	if err != nil {
		return err
	}
	if asJSON {
		list := []map[string]string{}
		for _, p := range order {
			if p != a.path {
				list = append(list, moves[p])
			}
		}
		return printJSON(out, map[string]any{"phase": v["Phase"], "epoch": v["Epoch"], "primary": v["PrimaryClass"], "pending_from": v["PendingFrom"], "pending_by": v["PendingBy"],
			"pending_seconds": v["PendingSeconds"], "held": v["Held"] == "true", "hold_reason": v["HoldReason"], "transitions": list})
	}
	fmt.Fprintf(out, "phase %s, epoch %s, %s goes first\n", v["Phase"], v["Epoch"], v["PrimaryClass"])
	if v["PendingFrom"] != "" {
		fmt.Fprintf(out, "waits %s s for the confirmation of the move from %s that %s asked for\n", v["PendingSeconds"], v["PendingFrom"], v["PendingBy"])
	}
	if v["Held"] == "true" {
		fmt.Fprintf(out, "held: %s\n", v["HoldReason"])
	}
	for _, p := range order {
		if m := moves[p]; m["Epoch"] != "" {
			fmt.Fprintf(out, "%4s  %s  %s -> %s by %s: %s, %s\n", m["Epoch"], m["Time"], m["From"], m["To"], m["By"], m["Cause"], m["Result"])
		}
	}
	return nil
}

func cliGates(ctx context.Context, args []string, out io.Writer) error {
	return cliTables(ctx, "gates", []string{"Gate.", "Kpi."}, args, out, func(m map[string]string) string {
		if m["Status"] == "" {
			return fmt.Sprintf("  %-16s %-10s %6s samples in %s", m["Name"], m["Value"], m["Samples"], m["Window"])
		}
		line := m["Phase"] + ": " + m["Status"]
		for _, why := range []string{m["Failed"], m["Inconclusive"]} {
			if why != "" {
				line += "\n    " + strings.ReplaceAll(why, "; ", "\n    ")
			}
		}
		return line
	})
}

func cliDrift(ctx context.Context, args []string, out io.Writer) error {
	return cliTables(ctx, "drift", []string{"Drift."}, args, out, func(m map[string]string) string {
		return fmt.Sprintf("%s: %s since revision %s (acs %s, usp %s)", m["Path"], m["Kind"], m["Since"], m["ACSValue"], m["USPValue"])
	})
}

// cliTables prints tables of the agent's own object, one line for each row.
func cliTables(ctx context.Context, verb string, tables, args []string, out io.Writer, line func(map[string]string) string) error {
	o := newOptions(verb)
	if _, err := o.parse(args, 0, ""); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, cliTimeout)
	defer cancel()
	a, err := o.object(ctx)
	if err != nil {
		return err
	}
	defer a.done()
	list := []map[string]string{}
	for _, t := range tables {
		order, rows, err := a.read(ctx, t, 0)
		if err != nil {
			return err
		}
		for _, p := range order {
			if p != a.path && len(rows[p]) > 0 {
				list = append(list, rows[p])
			}
		}
	}
	if o.json {
		return printJSON(out, list)
	}
	for _, m := range list {
		fmt.Fprintln(out, line(m))
	}
	return nil
}

func cliConvergence(ctx context.Context, args []string, out io.Writer) error {
	o := newOptions("convergence")
	if _, err := o.parse(args, 0, ""); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, cliTimeout)
	defer cancel()
	a, err := o.object(ctx)
	if err != nil {
		return err
	}
	defer a.done()
	result, err := a.run(ctx, "ConvergenceReport()", nil)
	if err != nil {
		return err
	}
	var r migration.Report
	if err := json.Unmarshal([]byte(result["Report"]), &r); err != nil {
		return fmt.Errorf("convergence report: %w", err)
	}
	if o.json {
		return printJSON(out, r)
	}
	fmt.Fprintf(out, "phase %s, revision %d\nthe ACS asserted %d leaves, USP %d, both %d; they agree on %d\ncoverage %.1f %%, agreement %.1f %%, %d of %d leaves differ between the two views\n",
		r.Phase, r.Revision, r.ACS, r.USP, r.Both, r.Agree, r.Coverage*100, r.Agreement*100, r.Projection, r.Compared)
	for _, d := range r.Differences {
		text := fmt.Sprintf("%-10s %s", d.Kind, d.Path)
		switch d.Kind {
		case "acs-only":
			text += fmt.Sprintf(" = %q", d.ACS)
		case "usp-only":
			text += fmt.Sprintf(" = %q (%s)", d.USP, d.By)
		default:
			text += fmt.Sprintf(": acs %q, usp %q", d.ACS, d.USP)
			if d.Refused != "" {
				text += ", " + d.Refused + " was refused"
			}
		}
		fmt.Fprintln(out, text)
	}
	if r.More > 0 {
		fmt.Fprintf(out, "and %d more\n", r.More)
	}
	return nil
}
