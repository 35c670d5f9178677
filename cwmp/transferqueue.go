package cwmp

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"twinspan/bridge"
	"twinspan/cwmp/soap"
)

// This file is the transfer queue as the goroutine in Run owns it; transfer.go is the work itself.

// addTransfer queues a Download or Upload; it is in the store before the answer leaves. DL-11, DL-15
func (c *CPE) addTransfer(ctx context.Context, t *transfer) error {
	if len(c.transfers) >= maxTransfers {
		return soap.NewFault(soap.ResourcesExceeded, "the transfer queue is full")
	}
	t.ID, t.State, t.NotBefore = newTransferID(), transferQueued, time.Now().Add(t.Delay).Round(0)
	if len(t.Windows) > 0 {
		t.NotBefore = c.moment(t.Windows[0])
	}
	c.transfers = append(c.transfers, t)
	if err := c.save(ctx); err != nil {
		c.transfers = c.transfers[:len(c.transfers)-1]
		return err
	}
	return nil
}

// addDone queues the report of a transfer that somebody else asked for.
func (c *CPE) addDone(t *transfer, now time.Time, err error) error {
	if len(c.transfers) >= maxTransfers {
		return soap.NewFault(soap.ResourcesExceeded, "the transfer queue is full")
	}
	t.ID = newTransferID()
	c.transfers = append(c.transfers, t)
	c.finishTransfer(t, now, err)
	return nil
}

func newTransferID() string {
	var r [4]byte
	rand.Read(r[:])
	return fmt.Sprintf("%016x-%s", uint64(time.Now().UnixNano()), hex.EncodeToString(r[:]))
}

// releaseTransfers counts the delay of what was asked for in the session from its end. DL-06
func (c *CPE) releaseTransfers(end time.Time) {
	for _, t := range c.transfers {
		if t.State == transferQueued && t.Delay > 0 && t.Starts == 0 {
			t.NotBefore, t.Delay = end.Add(t.Delay).Round(0), 0
		}
	}
}

// nextTransfer is when the next transfer may start, zero if none waits.
func (c *CPE) nextTransfer() time.Time {
	var at time.Time
	if c.moving != "" || !c.set.enabled || c.restart != nil {
		return at
	}
	for _, t := range c.transfers {
		if t.State == transferQueued && (at.IsZero() || t.NotBefore.Before(at)) {
			at = t.NotBefore
		}
	}
	return at
}

// startTransfer starts what is due, one at a time and not during a session. DL-07
func (c *CPE) startTransfer(ctx context.Context, now time.Time) {
	at := c.nextTransfer()
	if at.IsZero() || now.Before(at) || c.running != nil {
		return
	}
	i := slices.IndexFunc(c.transfers, func(t *transfer) bool { return t.State == transferQueued && t.NotBefore.Equal(at) })
	t := c.transfers[i]
	if len(t.Windows) > 0 && !c.inWindow(t, now) {
		c.save(ctx)
		return
	}
	t.State, t.Start = transferRunning, now.UTC().Round(0)
	t.Starts++
	if c.save(ctx) != nil {
		t.State, t.NotBefore = transferQueued, now.Add(time.Minute)
		t.Starts--
		return
	}
	c.moving = t.ID
	work := *t
	ctx, c.stopMoving = context.WithCancel(ctx)
	c.applying.Store(false)
	go func() { // joined by stop through transferDone
		installed, err := c.perform(ctx, work)
		c.transferDone <- transferResult{id: work.ID, installed: installed, err: err, start: work.Start}
	}()
}

// transferEnded takes the result in; event and record are one commit.
func (c *CPE) transferEnded(ctx context.Context, res transferResult) {
	c.moving = ""
	c.stopMoving()
	i := slices.IndexFunc(c.transfers, func(t *transfer) bool { return t.ID == res.id })
	if i < 0 { // dropped by a new ACS meanwhile
		return
	}
	t := c.transfers[i]
	if res.err != nil && ctx.Err() != nil { // shutting down: it begins anew at the next start
		return
	}
	if res.err == nil && res.installed {
		// TR-069 A.3.2.8: TransferComplete goes out after the image was applied. DL-12
		t.State, t.Username, t.Password = transferInstalled, "", ""
		c.restart = &RestartCause{Kind: RestartFirmware, CommandKey: t.CommandKey}
		c.save(ctx)
		return
	}
	if res.err != nil {
		c.log.Warn("transfer failed", "upload", t.Upload, "type", t.FileType, "error", res.err)
		if t.Schedule { // SDL-03
			c.tryAgain(t, time.Now())
			c.save(ctx)
			return
		}
	}
	c.finishTransfer(t, time.Now(), res.err)
	c.save(ctx)
}

func (c *CPE) finishTransfer(t *transfer, now time.Time, err error) {
	t.finish(now, err)
	c.queue.add(t.completeEvent(), "")
	if event := t.event(); event != "" {
		c.queue.add(event, t.CommandKey)
	}
	c.wanted = true
	if !t.Auto { // nobody's command: Command, CommandKey and Requestor stay empty (TR-181)
		ft := bridge.FileTransfer{Upload: t.Upload, URL: t.URL, Start: t.Start, Complete: t.Complete, FaultCode: uint32(t.FaultCode), FaultString: t.FaultString}
		if a, ok := c.o.Installer.(Affecter); ok && !t.Upload && t.FileType == fileFirmware {
			ft.Affected = a.Affected()
		}
		c.e.Emit(ft.Event())
	}
}

// resumeTransfers deals with what a restart interrupted.
func (c *CPE) resumeTransfers(ctx context.Context, now time.Time) {
	for _, t := range c.transfers {
		switch t.State {
		case transferRunning: // DL-11: never lost without report
			if t.Starts >= maxTransferStarts && !t.Schedule {
				c.finishTransfer(t, now, &TransferError{Reason: TransferFailed, Text: "interrupted by restarts"})
				continue
			}
			t.State = transferQueued
		case transferInstalled:
			t.Applied = true
			c.finishTransfer(t, now, c.installed(ctx, t))
		case transferDone: // the image may have been given up since, before the ACS heard that it runs
			if t.Applied && t.FaultCode == 0 {
				if err := c.installed(ctx, t); err != nil {
					t.finish(now, err)
				}
			}
		}
	}
}

// installed asks whether the image of a transfer runs.
func (c *CPE) installed(ctx context.Context, t *transfer) error {
	if c.o.Installer == nil {
		return errors.New("cwmp: no installer to ask whether the image runs")
	}
	return c.o.Installer.Installed(ctx, t.CommandKey)
}

// transferDelivered ends a transfer that the ACS has acknowledged, or keeps it for a later session, a bounded number of
// times. EVT-15, DL-18
func (c *CPE) transferDelivered(ctx context.Context, id string, final bool) error {
	i := slices.IndexFunc(c.transfers, func(t *transfer) bool { return t.ID == id })
	if i < 0 {
		return nil
	}
	t := c.transfers[i]
	if !final {
		if t.Tries++; t.Tries < maxCompleteTries {
			return c.save(ctx)
		}
		c.log.Error("TransferComplete given up", "tries", t.Tries)
	}
	c.transfers = slices.Delete(c.transfers, i, i+1)
	if j := slices.IndexFunc(c.queue.list, func(e event) bool { return e.Code == t.event() && e.Key == t.CommandKey }); j >= 0 {
		c.queue.list = slices.Delete(c.queue.list, j, j+1)
	}
	code := t.completeEvent()
	if !slices.ContainsFunc(c.transfers, func(o *transfer) bool { return o.State == transferDone && o.Auto == t.Auto }) {
		c.queue.drop(func(e event) bool { return e.Code == code })
	}
	return c.save(ctx)
}

// keepMoving is what a new ACS leaves of the queue: nothing; the transfer in progress ends unreported.
func (c *CPE) keepMoving() []*transfer { return nil }
