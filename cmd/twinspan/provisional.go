package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"

	"twinspan/bridge"
	"twinspan/bridge/policy"
	"twinspan/bridge/vendor"
	"twinspan/datamodel"
)

// maxEventPaths bounds the paths in one event.
const maxEventPaths = 16

func someOf(paths []string) string { return strings.Join(paths[:min(len(paths), maxEventPaths)], ",") }

// window tells Controllers of a provisional change.
func (o *office) window(w bridge.Window, what string) {
	rev := strconv.FormatUint(w.Revision, 10)
	switch what {
	case bridge.WindowOpened:
		o.event("ConfirmRequired!", w.Writer, "By", w.Writer, "Seconds", strconv.Itoa(seconds(w.Deadline)), "ID", w.ID, "Revision", rev, "Paths", someOf(w.Paths))
	case bridge.WindowConfirmed:
	default:
		o.event("RolledBack!", "sys:rollback", "By", w.Writer, "Cause", what, "ID", w.ID, "Revision", rev, "Paths", someOf(w.Paths))
	}
}

func seconds(until time.Time) int { return max(int((time.Until(until)+time.Second-1)/time.Second), 0) }

// lost tells of ownership that moved by one commit, one event for each former owner.
func (o *office) lost(all []bridge.OwnershipLoss) {
	var told []string
	for _, l := range all {
		if slices.Contains(told, l.Owner) {
			continue
		}
		told = append(told, l.Owner)
		var paths []string
		for _, k := range all {
			if k.Owner == l.Owner {
				paths = append(paths, k.Path)
			}
		}
		o.event("OwnershipLost!", l.Writer, "Owner", l.Owner, "By", l.Writer, "Revision", strconv.FormatUint(l.Revision, 10), "Rule", l.Rule,
			"Count", strconv.Itoa(len(paths)), "Paths", someOf(paths))
	}
}

// reloaded tells of a policy file that was read again.
func (o *office) reloaded(s policy.Status, r policy.Report) {
	o.event("PolicyReloaded!", "", "Name", s.Name, "Hash", s.Hash, "Epoch", strconv.FormatUint(s.Epoch, 10), "Status", s.Status, "Differ", strconv.Itoa(r.Differ), "Error", s.LastError)
}

// confirmationTable shows the changes that wait for their confirmation.
func (o *office) confirmationTable() vendor.Table {
	return vendor.Table{Name: "Confirmation", Key: "ID", Columns: []string{"ID", "Writer", "Revision", "Seconds", "Paths"}, Rows: func() (rows []vendor.Row) {
		for _, w := range o.engine.Windows() {
			rows = append(rows, vendor.Row{Number: uint32(w.Revision), Values: []string{w.ID, w.Writer, strconv.FormatUint(w.Revision, 10), strconv.Itoa(seconds(w.Deadline)), someOf(w.Paths)}})
		}
		return rows
	}}
}

// windowCommand is ConfirmChange() or CancelChange(), as a command parameter of the same name for the ACS. Without an ID
// ("", 1, true) it means what the policy made provisional of the asker's changes.
func (o *office) windowCommand(name string, do func(*bridge.Engine, context.Context, bridge.Writer, string, time.Duration) error) vendor.Command {
	return vendor.Command{Name: name, Inputs: []string{"ID"}, CWMP: name,
		Run: func(ctx context.Context, by datamodel.Caller, args map[string]string) (map[string]string, error) {
			id := args["ID"]
			if id == "1" || id == "true" {
				id = ""
			}
			return map[string]string{}, do(o.engine, ctx, bridge.Writer{Name: by.Name, Class: by.Class, ConnectedAt: by.ConnectedAt}, id, 0)
		}}
}

// urlHash lets Controllers compare the ACS's URL without being told it: it may hold a token.
func urlHash(url string) string {
	if url == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(url))
	return hex.EncodeToString(sum[:8])
}
