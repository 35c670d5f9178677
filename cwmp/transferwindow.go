package cwmp

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"twinspan/bridge"
	"twinspan/cwmp/soap"
	"twinspan/datamodel"
)

// Modes of the windows of ScheduleDownload (TR-069 A.4.1.8). "4 Confirmation Needed" needs a user interface.
const (
	modeAnyTime     = "1 At Any Time"
	modeImmediately = "2 Immediately"
	modeIdle        = "3 When Idle"
)

const (
	// ownRetries is how often a window with MaxRetries -1 is tried again.
	ownRetries = 3
	// maxWindowRetries bounds MaxRetries; each try is a commit.
	maxWindowRetries = 100
	// idleLook is how often a device that is not idle is asked again.
	idleLook = 10 * time.Second
)

// window of a ScheduleDownload.
type window struct {
	Start   time.Time `json:"start"`
	End     time.Time `json:"end"`
	Mode    string    `json:"mode"`
	Retries int       `json:"retries"`
}

// scheduled checks the windows and makes the record. Windows count from the response. SDL-02, SDL-04
func scheduled(m *soap.ScheduleDownload, now time.Time) (*transfer, *soap.Fault) {
	bad := func(text string) (*transfer, *soap.Fault) { return nil, soap.NewFault(soap.InvalidArguments, text) }
	if n := len(m.TimeWindowList); n < 1 || n > 2 {
		return bad("TimeWindowList has one or two windows")
	}
	t := &transfer{Schedule: true, CommandKey: m.CommandKey, FileType: m.FileType, URL: m.URL, Username: m.Username, Password: m.Password,
		FileSize: uint64(m.FileSize), TargetName: m.TargetFileName}
	for _, w := range m.TimeWindowList {
		switch {
		case w.WindowEnd <= w.WindowStart:
			return bad("WindowEnd is not after WindowStart")
		case w.WindowMode != modeAnyTime && w.WindowMode != modeImmediately && w.WindowMode != modeIdle:
			return bad("WindowMode is not supported by this device")
		case w.MaxRetries < -1:
			return bad("MaxRetries is -1 at least")
		}
		n := min(w.MaxRetries, maxWindowRetries)
		if n < 0 {
			n = ownRetries
		}
		t.Windows = append(t.Windows, window{Start: now.Add(time.Duration(w.WindowStart) * time.Second).Round(0),
			End: now.Add(time.Duration(w.WindowEnd) * time.Second).Round(0), Mode: w.WindowMode, Retries: n})
	}
	if w := t.Windows; len(w) == 2 {
		if w[1].Start.Before(w[0].Start) {
			w[0], w[1] = w[1], w[0]
		}
		if w[1].Start.Before(w[0].End) {
			return bad("the windows overlap")
		}
	}
	return t, nil
}

// moment is when the first try in a window begins: at its start, or, when any time is as good, spread over its first half.
func (c *CPE) moment(w window) time.Time {
	if w.Mode != modeAnyTime {
		return w.Start
	}
	return w.Start.Add(time.Duration(float64(w.End.Sub(w.Start)) / 2 * c.random())).Round(0)
}

// inWindow reports whether a try may begin now, and else decides when.
func (c *CPE) inWindow(t *transfer, now time.Time) bool {
	w := t.Windows[0]
	if !now.Before(w.End) { // the device was off, or busy, all through it
		c.nextWindow(t, now)
		return false
	}
	if w.Mode == modeIdle && c.o.Idle != nil && !c.o.Idle() {
		t.NotBefore = now.Add(idleLook).Round(0)
		return false
	}
	return true
}

// tryAgain decides what follows a failed try.
func (c *CPE) tryAgain(t *transfer, now time.Time) {
	w := t.Windows[0]
	t.State = transferQueued
	if t.Attempts++; t.Attempts <= w.Retries {
		t.NotBefore = now.Add(RetryWait(t.Attempts, c.set.retryMinimum, c.set.retryMultiplier, c.random())).Round(0)
		if t.NotBefore.Before(w.End) {
			return
		}
	}
	c.nextWindow(t, now)
}

// nextWindow leaves the window in force; after the last one the transfer has failed (TR-069 A.5.1: 9020). SDL-03
func (c *CPE) nextWindow(t *transfer, now time.Time) {
	t.Windows, t.Attempts = t.Windows[1:], 0
	if len(t.Windows) > 0 {
		t.NotBefore = c.moment(t.Windows[0])
		return
	}
	c.finishTransfer(t, now, soap.NewFault(soap.TimeWindowsMissed, "not completed within the time windows"))
}

// cancelTransfers forgets what was asked for under a key, all or nothing; canceled transfers report nothing. CAN-01 to CAN-04
func (c *CPE) cancelTransfers(ctx context.Context, key string) error {
	var ids []string
	moving := false
	for _, t := range c.transfers {
		if t.Auto || t.CommandKey != key {
			continue
		}
		if t.State == transferDone || t.State == transferInstalled {
			return soap.NewFault(soap.CancelNotPermitted, "the transfer has ended")
		}
		moving = moving || t.ID == c.moving
		ids = append(ids, t.ID)
	}
	if moving && !c.applying.CompareAndSwap(false, true) { // from now on it cannot be applied
		return soap.NewFault(soap.CancelNotPermitted, "the file is being applied")
	}
	if len(ids) == 0 {
		return nil
	}
	before := slices.Clone(c.transfers)
	c.transfers = slices.DeleteFunc(c.transfers, func(t *transfer) bool { return slices.Contains(ids, t.ID) })
	if err := c.save(ctx); err != nil {
		c.transfers = before
		return err
	}
	if moving {
		c.stopMoving()
	}
	return nil
}

// queuedTransfers lists what is not acknowledged yet, what others asked for included (TR-069 A.4.1.7). QUE-01
func (c *CPE) queuedTransfers() []soap.AllQueuedTransfer {
	var out []soap.AllQueuedTransfer
	for _, t := range c.transfers {
		state := int(t.State)
		if t.State == transferInstalled {
			state = int(transferRunning) // not applied yet
		}
		out = append(out, soap.AllQueuedTransfer{CommandKey: t.CommandKey, State: state, IsDownload: !t.Upload, FileType: t.queueType(),
			FileSize: uint32(min(t.FileSize, 1<<32-1)), TargetFileName: t.TargetName})
	}
	return out
}

// queueType is the FileType in the numbering of reports, which is not that of Upload (TR-069 A.4.1.7).
func (t *transfer) queueType() string {
	if !t.Upload || t.Auto {
		return t.FileType
	}
	kind, n := uploadInstance(t.FileType)
	switch {
	case t.FileType == uploadConfig:
		return fileConfig
	case t.FileType == uploadLog:
		return "4 Vendor Log File"
	case kind == uploadConfigInst:
		return "6 Vendor Configuration File " + strconv.Itoa(n)
	}
	return "7 Vendor Log File " + strconv.Itoa(n)
}

// operated tells the ACS of a transfer that a Controller started, if AutonomousTransferCompletePolicy wants it (TR-181). ATC-01,
// ATC-02
func (c *CPE) operated(ctx context.Context, ev bridge.Event) {
	t := autonomous(ev)
	if t == nil || !c.reports(t, ev.Err) {
		return
	}
	t.Start, t.URL = ev.Start.UTC().Round(0), ev.Input["URL"]
	t.FileSize, _ = strconv.ParseUint(ev.Input["FileSize"], 10, 32)
	t.TargetName = cut(ev.Input["TargetFileName"], 256)
	if err := c.addDone(t, ev.Time, ev.Err); err != nil {
		c.log.Warn("a transfer cannot be reported", "error", err)
		return
	}
	c.save(ctx)
}

// autonomous says what kind of transfer a command is, nil for others.
func autonomous(ev bridge.Event) *transfer {
	row, instance, command := ev.Path, "", ""
	if i := strings.LastIndexByte(row, '.'); i > 0 {
		row, command = row[:i], row[i+1:]
	}
	if i := strings.LastIndexByte(row, '.'); i > 0 {
		row, instance = row[:i], row[i+1:]
	}
	t := &transfer{Auto: true}
	switch row + "." + command {
	case "Device.DeviceInfo.FirmwareImage.Download()":
		t.FileType = fileFirmware
	case "Device.DeviceInfo.VendorConfigFile.Restore()":
		t.FileType = fileConfig
	case "Device.DeviceInfo.VendorConfigFile.Backup()":
		t.Upload, t.FileType = true, "6 Vendor Configuration File "+instance
	case "Device.DeviceInfo.VendorLogFile.Upload()":
		t.Upload, t.FileType = true, "7 Vendor Log File "+instance
	default:
		return nil
	}
	return t
}

// reports applies AutonomousTransferCompletePolicy; a filter without a value filters nothing.
func (c *CPE) reports(t *transfer, failed error) bool {
	const policy = msPath + "AutonomousTransferCompletePolicy."
	direction, result := "Download", "Success"
	if t.Upload {
		direction = "Upload"
	}
	if failed != nil {
		result = "Failure"
	}
	return c.stored(policy+"Enable") == "true" && passes(c.stored(policy+"TransferTypeFilter"), direction) &&
		passes(c.stored(policy+"ResultTypeFilter"), result) && listsFile(c.stored(policy+"FileTypeFilter"), t.FileType)
}

func passes(filter, what string) bool { return filter == "" || filter == "Both" || filter == what }

// listsFile compares by the words behind the number: an instance of a file is a file of its type.
func listsFile(filter, fileType string) bool {
	if filter == "" {
		return true
	}
	words := func(s string) string {
		_, w, _ := strings.Cut(strings.TrimSpace(s), " ")
		return strings.TrimRight(w, "0123456789 ")
	}
	for f := range strings.SplitSeq(filter, ",") {
		if words(f) == words(fileType) {
			return true
		}
	}
	return false
}

// stored is the stored value of a parameter by its canonical path, else the default of the model.
func (c *CPE) stored(path string) string {
	if l, ok := c.e.Store().Head().Leaf(path); ok {
		return l.Value
	}
	if m, ok := c.e.Schema().Lookup(path); ok && m.Param != nil {
		if f := m.Param.Facts(datamodel.CWMP); f != nil && f.HasDefault {
			return f.Default
		}
	}
	return ""
}
