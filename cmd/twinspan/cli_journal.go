package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"twinspan/usp/uspmsg"
)

// journalChange is one line of a journal entry.
type journalChange struct {
	Path    string `json:"path"`
	Op      string `json:"op"`
	Old     string `json:"old"`
	New     string `json:"new"`
	Verdict string `json:"verdict,omitempty"`
	Rule    string `json:"rule,omitempty"`
}

// journalEntry is one commit, or one refusal.
type journalEntry struct {
	Revision uint64          `json:"revision"`
	Time     string          `json:"time"`
	Writer   string          `json:"writer"`
	Protocol string          `json:"protocol,omitempty"`
	Ref      string          `json:"reference,omitempty"`
	Kind     string          `json:"kind"`
	Changes  []journalChange `json:"changes"`
}

// vendorObject finds the agent's own object, whose name begins with the vendor's prefix.
func vendorObject(ctx context.Context, c requester) (string, error) {
	resp, err := c.Request(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_GetSupportedDm{GetSupportedDm: &uspmsg.GetSupportedDM{ObjPaths: []string{"Device."}, FirstLevelOnly: true}}})
	if err != nil {
		return "", err
	}
	for _, r := range resp.GetGetSupportedDmResp().GetReqObjResults() {
		for _, obj := range r.GetSupportedObjs() {
			if p := obj.GetSupportedObjPath(); strings.HasPrefix(p, "Device.X_") && strings.HasSuffix(p, "_Migration.") {
				return p, nil
			}
		}
	}
	return "", errors.New("the agent has no migration object, or this role may not see it")
}

func cliJournal(ctx context.Context, args []string, out io.Writer) error {
	o := newOptions("journal")
	n := o.Uint("n", 20, "newest entries")
	path := o.String("path", "", "only changes below this path")
	if _, err := o.parse(args, 0, ""); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, cliTimeout)
	defer cancel()
	c, done, err := dial(ctx, o.socket, nil)
	if err != nil {
		return err
	}
	defer done()
	object, err := vendorObject(ctx, c)
	if err != nil {
		return err
	}
	resp, err := c.Request(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Operate{Operate: &uspmsg.Operate{
		Command: object + "GetJournal()", CommandKey: "cli", SendResp: true,
		InputArgs: map[string]string{"MaxEntries": strconv.FormatUint(uint64(*n), 10), "Path": *path}}}})
	if err != nil {
		return err
	}
	for _, r := range resp.GetOperateResp().GetOperationResults() {
		if f := r.GetCmdFailure(); f != nil {
			return pathError(r.GetExecutedCommand(), f.GetErrCode(), f.GetErrMsg())
		}
		entries := journalFrom(r.GetReqOutputArgs().GetOutputArgs())
		if o.json {
			return printJSON(out, entries)
		}
		for _, e := range entries {
			printEntry(out, e)
		}
	}
	return nil
}

// journalFrom rebuilds entries from output arguments Entry.{i}.Name and Entry.{i}.Change.{i}.Name.
func journalFrom(args map[string]string) []journalEntry {
	entries := []journalEntry{}
	for i := 1; ; i++ {
		p := "Entry." + strconv.Itoa(i) + "."
		rev, ok := args[p+"Revision"]
		if !ok {
			return entries
		}
		e := journalEntry{Time: args[p+"Time"], Writer: args[p+"Writer"], Protocol: args[p+"Protocol"], Ref: args[p+"Reference"], Kind: args[p+"Kind"], Changes: []journalChange{}}
		e.Revision, _ = strconv.ParseUint(rev, 10, 64) // an unsignedLong by the schema
		for j := 1; ; j++ {
			q := p + "Change." + strconv.Itoa(j) + "."
			path, ok := args[q+"Path"]
			if !ok {
				break
			}
			e.Changes = append(e.Changes, journalChange{Path: path, Op: args[q+"Operation"], Old: args[q+"OldValue"], New: args[q+"NewValue"], Verdict: args[q+"Verdict"], Rule: args[q+"Rule"]})
		}
		entries = append(entries, e)
	}
}

func printEntry(out io.Writer, e journalEntry) {
	fmt.Fprintf(out, "%6d  %s  %-24s %s %s\n", e.Revision, e.Time, e.Writer, e.Kind, e.Ref)
	for _, ch := range e.Changes {
		line := ch.Op + " " + ch.Path
		switch ch.Op {
		case "set", "refused":
			line += fmt.Sprintf(": %q -> %q", ch.Old, ch.New)
		case "unset":
			line += fmt.Sprintf(": was %q", ch.Old)
		}
		if ch.Verdict != "" {
			line += "  [" + strings.TrimSpace(ch.Verdict+" by rule "+ch.Rule) + "]"
		}
		fmt.Fprintln(out, "        "+line)
	}
}
