package agent

import (
	"context"
	"strings"
	"testing"
	"time"

	"twinspan/datamodel"
	"twinspan/usp"
)

// gatedBox takes firmware downloads and activations, which end when the test lets them.
type gatedBox struct {
	imageBox
	gate chan error
}

func (*gatedBox) Commands() []string {
	return []string{"Device.DeviceInfo.FirmwareImage.{i}.Download()", "Device.DeviceInfo.FirmwareImage.{i}.Activate()"}
}

func (b *gatedBox) Run(ctx context.Context, inv datamodel.Invocation) (map[string]string, error) {
	b.got <- inv
	select {
	case err := <-b.gate:
		return nil, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

const imageRow = "Device.DeviceInfo.FirmwareImage.1."

func newGated(t *testing.T) (*rig, *gatedBox) {
	box := &gatedBox{imageBox: imageBox{got: make(chan datamodel.Invocation, 2)}, gate: make(chan error)}
	r := newRig(t, func(p *datamodel.Profile, _ *Options) { p.Factory[imageRow+"Version"] = "0.9" })
	r.stop()
	r.devices = []datamodel.Provider{box}
	r.start()
	r.c1.waitUp()
	r.c1.subscribe("ended", "OperationComplete", "Device.DeviceInfo.FirmwareImage.", "Persistent", "true", "NotifRetry", "true")
	r.c1.subscribe("moved", "Event", "Device.LocalAgent.TransferComplete!", "Persistent", "true", "NotifRetry", "true")
	return r, box
}

// records are those of commands that somebody may still have to be told of.
func (r *rig) records() (list []string) {
	if err := r.store.Records(commandBucket, func(_ string, data []byte) bool { list = append(list, string(data)); return true }); err != nil {
		r.t.Error(err)
	}
	return list
}

func (r *rig) noRecords() {
	r.t.Helper()
	for deadline := time.Now().Add(soon); len(r.records()) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("records are left: %v", r.records())
		}
	}
}

// ends takes n notifications and sorts them by what they tell.
func (c *ctl) ends(n int) (ops, transfers []string) {
	c.t.Helper()
	for range n {
		m := c.note(soon)
		if o := m.GetOperComplete(); o != nil {
			text := o.GetCommandName() + " " + o.GetCommandKey()
			if f := o.GetCmdFailure(); f != nil {
				if f.ErrCode != usp.CodeCommandFailure {
					c.t.Errorf("%v", f)
				}
				text += " failed"
			}
			ops = append(ops, text)
		} else if e := m.GetEvent(); e != nil {
			transfers = append(transfers, e.Params["CommandKey"]+" "+e.Params["FaultCode"]+" "+e.Params["TransferURL"])
		}
	}
	return ops, transfers
}

// A restart ends the commands that run: each is told as failed, once, and a transfer as a failed one.
func TestRestartEndsCommands(t *testing.T) {
	t.Parallel()
	r, box := newGated(t)
	for _, c := range []struct {
		args      []string
		transfers string
	}{
		{[]string{"Download()", "d", "URL", "http://files.example/image?token=secret", "Password", "secret", "AutoActivate", "false"},
			"d 7022 http://files.example/image"},
		{[]string{"Activate()", "a"}, ""},
	} {
		if res := r.c1.operateResp(imageRow+c.args[0], c.args[1], c.args[2:]...); res.GetReqObjPath() == "" {
			t.Fatal(res)
		}
		<-box.got
		if l := r.records(); len(l) != 1 || strings.Contains(l[0], "secret") {
			t.Fatalf("records %v", l)
		}
		r.restart()
		r.c1.quiet(0) // not before everybody listens
		r.agent.Recover(context.Background())
		n := 1
		if c.transfers != "" {
			n = 2
		}
		ops, transfers := r.c1.ends(n)
		if len(ops) != 1 || ops[0] != c.args[0]+" "+c.args[1]+" failed" || strings.Join(transfers, ",") != c.transfers {
			t.Errorf("told %q %q", ops, transfers)
		}
		r.noRecords()
	}
	r.restart()
	r.agent.Recover(context.Background())
	r.c1.quiet(while)
}

// What has ended is told after a restart, too, as long as it was not heard; then no more.
func TestEndOfCommandSurvivesRestart(t *testing.T) {
	t.Parallel()
	r, box := newGated(t)
	r.c1.setAck(false)
	if res := r.c1.operateResp(imageRow+"Download()", "d", "URL", "http://files.example/image", "AutoActivate", "false"); res.GetReqObjPath() == "" {
		t.Fatal(res)
	}
	<-box.got
	box.gate <- nil
	r.c1.ends(2)
	r.restart()
	r.c1.setAck(true)
	r.agent.Recover(context.Background())
	ops, transfers := r.c1.ends(2)
	if len(ops) != 1 || ops[0] != "Download() d" || len(transfers) != 1 || transfers[0] != "d 0 http://files.example/image" {
		t.Errorf("told %q %q", ops, transfers)
	}
	r.noRecords()
	r.restart()
	r.agent.Recover(context.Background())
	r.c1.quiet(while)
}
