package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"twinspan/bridge"
	"twinspan/bridge/policy"
	"twinspan/usp/uspmsg"
)

// run asks the agent's own object to carry out a command and returns its output arguments.
func (o *options) run(ctx context.Context, command string, args map[string]string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, cliTimeout)
	defer cancel()
	c, done, err := dial(ctx, o.socket, nil)
	if err != nil {
		return nil, err
	}
	defer done()
	object, err := vendorObject(ctx, c)
	if err != nil {
		return nil, err
	}
	resp, err := c.Request(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Operate{Operate: &uspmsg.Operate{
		Command: object + command, CommandKey: "cli", SendResp: true, InputArgs: args}}})
	if err != nil {
		return nil, err
	}
	results := resp.GetOperateResp().GetOperationResults()
	if len(results) == 0 {
		return nil, errors.New("the agent gave no result")
	}
	if f := results[0].GetCmdFailure(); f != nil {
		return nil, pathError(results[0].GetExecutedCommand(), f.GetErrCode(), f.GetErrMsg())
	}
	return results[0].GetReqOutputArgs().GetOutputArgs(), nil
}

// tableOf rebuilds rows from output arguments Name.{i}.Column.
func tableOf(args map[string]string, name string, columns ...string) []map[string]string {
	rows := []map[string]string{}
	for i := 1; ; i++ {
		row := map[string]string{}
		for _, c := range columns {
			if v, ok := args[name+"."+strconv.Itoa(i)+"."+c]; ok {
				row[c] = v
			}
		}
		if len(row) == 0 {
			return rows
		}
		rows = append(rows, row)
	}
}

func cliPolicy(ctx context.Context, args []string, out io.Writer) error {
	o := newOptions("policy")
	config := o.String("config", "", "check: for the device of this configuration")
	rest, err := o.parse(args, 1, "check FILE, simulate FILE, explain PATH|RESOURCE WRITER or reload")
	if err != nil {
		return err
	}
	switch {
	case rest[0] == "check" && len(rest) == 2:
		return policyCheck(*config, rest[1], out)
	case rest[0] == "simulate" && len(rest) == 2:
		text, err := os.ReadFile(rest[1])
		if err != nil {
			return err
		}
		return o.policyReport(ctx, out, "SimulatePolicy()", map[string]string{"Text": string(text)})
	case rest[0] == "reload" && len(rest) == 1:
		return o.policyReport(ctx, out, "ReloadPolicy()", nil)
	case rest[0] == "explain" && len(rest) == 3:
		return o.policyExplain(ctx, out, rest[1], rest[2])
	}
	return usageError{"want check FILE, simulate FILE, explain PATH WRITER or reload"}
}

// policyCheck needs no agent.
func policyCheck(config, file string, out io.Writer) error {
	c := defaultConfig()
	if config != "" {
		var err error
		if c, err = loadConfig(config); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	p, err := policy.Parse(string(text), bridge.Phase(c.Bridge.Phase))
	if err != nil {
		return err
	}
	profile, err := c.loadProfile()
	if err != nil {
		return err
	}
	schema, err := c.loadSchema(profile)
	if err != nil {
		return err
	}
	for _, f := range p.Lint(schema) {
		fmt.Fprintln(out, "warning:", f)
	}
	fmt.Fprintf(out, "%s: policy %q, %d rules, hash %s\n", file, p.File.Name, len(p.File.Rules), p.Hash)
	return nil
}

func (o *options) policyReport(ctx context.Context, out io.Writer, command string, args map[string]string) error {
	res, err := o.run(ctx, command, args)
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(out, res)
	}
	for _, f := range tableOf(res, "Finding", "Text") {
		fmt.Fprintln(out, "warning:", f["Text"])
	}
	for _, d := range tableOf(res, "Difference", "Text") {
		fmt.Fprintln(out, d["Text"])
	}
	fmt.Fprintf(out, "%s of %s verdicts in the last %s entries of the journal would differ\n", res["Differ"], res["Judged"], res["Entries"])
	return nil
}

func (o *options) policyExplain(ctx context.Context, out io.Writer, path, writer string) error {
	res, err := o.run(ctx, "ExplainPolicy()", map[string]string{"Path": path, "Writer": writer})
	if err != nil || o.json {
		return errors.Join(err, jsonIf(out, o.json && err == nil, res))
	}
	if res["Queue"] != "" {
		fmt.Fprintf(out, "phase %s, %s is of class %s: %s by rule %s, up to %s wait %s\n", res["Phase"], writer, res["Class"], res["Verdict"], res["Rule"], res["Queue"], res["Text"])
		return nil
	}
	fmt.Fprintf(out, "phase %s, %s is of class %s, rule %s (on_conflict = %s)\n", res["Phase"], writer, res["Class"], res["Rule"], res["OnConflict"])
	fmt.Fprintf(out, "a value that nobody owns: %s %s\n", res["Verdict"], res["Text"])
	if res["ConfirmWithin"] != "" {
		fmt.Fprintf(out, "what is written counts only once it is confirmed, within %s s\n", res["ConfirmWithin"])
	}
	for _, a := range tableOf(res, "Against", "Owner", "Verdict", "Rule") {
		fmt.Fprintf(out, "a value of another %-6s %s by rule %s\n", a["Owner"]+":", a["Verdict"], a["Rule"])
	}
	return nil
}

func jsonIf(out io.Writer, on bool, v any) error {
	if !on {
		return nil
	}
	return printJSON(out, v)
}

// list prints a table that a command returns.
func (o *options) list(ctx context.Context, out io.Writer, command string, args map[string]string, table string, columns ...string) error {
	res, err := o.run(ctx, command, args)
	if err != nil {
		return err
	}
	rows := tableOf(res, table, columns...)
	if o.json {
		return printJSON(out, rows)
	}
	for _, row := range rows {
		var line []string
		for _, c := range columns {
			if row[c] != "" {
				line = append(line, c+"="+row[c])
			}
		}
		fmt.Fprintln(out, strings.Join(line, "  "))
	}
	if res["More"] == "true" {
		fmt.Fprintln(out, "... and more: use --offset")
	}
	return nil
}

func cliConflicts(ctx context.Context, args []string, out io.Writer) error {
	o := newOptions("conflicts")
	if _, err := o.parse(args, 0, ""); err != nil {
		return err
	}
	return o.list(ctx, out, "ListConflicts()", nil, "Conflict", "ID", "Last", "Count", "Path", "Loser", "Winner", "Rule", "Verdict", "Acknowledged")
}

func cliOwners(ctx context.Context, args []string, out io.Writer) error {
	o := newOptions("owners")
	offset := o.Uint("offset", 0, "leaves to leave out")
	rest, err := o.parse(args, 0, "")
	if err != nil {
		return err
	}
	in := map[string]string{"Offset": strconv.FormatUint(uint64(*offset), 10)}
	if len(rest) > 0 {
		in["Path"] = rest[0]
	}
	return o.list(ctx, out, "ListOwners()", in, "Owner", "Path", "Writer", "Class", "Since", "CoWriters", "Rule")
}

func cliLeases(ctx context.Context, args []string, out io.Writer) error {
	o := newOptions("leases")
	if _, err := o.parse(args, 0, ""); err != nil {
		return err
	}
	return o.list(ctx, out, "ListLeases()", nil, "Lease", "ID", "Writer", "Paths", "Expires", "Contended")
}
