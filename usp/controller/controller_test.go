package controller_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"twinspan/usp"
	"twinspan/usp/controller"
	"twinspan/usp/mtp"
	"twinspan/usp/mtp/memory"
	"twinspan/usp/uspmsg"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	agentID = "self::agent"
	ctlID   = "self::controller"
)

// fakeAgent answers what answer gives; nil answers nothing.
type fakeAgent struct {
	t      *testing.T
	end    *memory.End
	answer func(m *uspmsg.Msg) *uspmsg.Msg
	mu     sync.Mutex
	got    []*uspmsg.Msg
}

func (f *fakeAgent) HandleRecord(ctx context.Context, in mtp.Inbound) {
	rec, err := usp.OpenRecord(in.Record, agentID, usp.DefaultLimits())
	if err != nil || rec.Kind != usp.KindMessage {
		return
	}
	m, err := usp.DecodeMessage(rec.Payload, usp.DefaultLimits())
	if err != nil {
		f.t.Error(err)
		return
	}
	f.mu.Lock()
	f.got = append(f.got, m)
	f.mu.Unlock()
	if reply := f.answer(m); reply != nil {
		f.send(ctx, reply)
	}
}

func (f *fakeAgent) send(ctx context.Context, m *uspmsg.Msg) {
	b, err := usp.WrapMessage(agentID, ctlID, m)
	if err == nil {
		err = f.end.Send(ctx, "", b)
	}
	if err != nil {
		f.t.Error(err)
	}
}

func start(t *testing.T, cfg controller.Config, answer func(m *uspmsg.Msg) *uspmsg.Msg) (*controller.Controller, *fakeAgent) {
	t.Helper()
	a, b := memory.New(memory.Default())
	f := &fakeAgent{t: t, end: b, answer: answer}
	cfg.EndpointID, cfg.AgentID, cfg.Transport = ctlID, agentID, a
	c, err := controller.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	wg.Go(func() { _ = b.Run(ctx, f, func(mtp.State) {}) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	up, done := context.WithTimeout(t.Context(), 5*time.Second)
	defer done()
	if err := c.WaitUp(up); err != nil {
		t.Fatal(err)
	}
	return c, f
}

func TestRequestsAreMatchedByTheirIDs(t *testing.T) {
	c, _ := start(t, controller.Config{}, func(m *uspmsg.Msg) *uspmsg.Msg {
		path := m.GetBody().GetRequest().GetGet().GetParamPaths()[0]
		if path == "Device.Bad" {
			return usp.ErrorMessage(m.GetHeader().GetMsgId(), usp.Fault{Code: 7026, Text: "no"})
		}
		return usp.NewResponse(m.GetHeader().GetMsgId(), &uspmsg.Response{RespType: &uspmsg.Response_GetResp{GetResp: &uspmsg.GetResp{ReqPathResults: []*uspmsg.GetResp_RequestedPathResult{{
			RequestedPath: path, ResolvedPathResults: []*uspmsg.GetResp_ResolvedPathResult{{ResolvedPath: "Device.", ResultParams: map[string]string{strings.TrimPrefix(path, "Device."): "value of " + path}}},
		}}}}})
	})
	var wg sync.WaitGroup
	for _, name := range []string{"A", "B", "C", "D", "E", "F"} {
		wg.Go(func() {
			for range 20 {
				if v, err := c.Value(t.Context(), "Device."+name); err != nil || v != "value of Device."+name {
					t.Errorf("%s: %q, %v", name, v, err)
				}
			}
		})
	}
	wg.Wait()
	var e *controller.Error
	if _, err := c.Value(t.Context(), "Device.Bad"); !errors.As(err, &e) || e.Code != 7026 {
		t.Errorf("error message gave %v", err)
	}
}

func TestNotificationsAreAcknowledgedAfterTheyAreTaken(t *testing.T) {
	seen := make(chan *uspmsg.Notify, 8)
	c, f := start(t, controller.Config{OnNotify: func(n *uspmsg.Notify) { seen <- n }}, func(*uspmsg.Msg) *uspmsg.Msg { return nil })
	_ = c
	f.send(t.Context(), usp.NewRequest("n1", &uspmsg.Request{ReqType: &uspmsg.Request_Notify{Notify: &uspmsg.Notify{
		SubscriptionId: "s", SendResp: true, Notification: &uspmsg.Notify_ValueChange_{ValueChange: &uspmsg.Notify_ValueChange{ParamPath: "Device.A", ParamValue: "1"}}}}}))
	select {
	case n := <-seen:
		if n.GetValueChange().GetParamValue() != "1" {
			t.Errorf("got %v", n)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("no notification")
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		f.mu.Lock()
		n := len(f.got)
		f.mu.Unlock()
		if n == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no NotifyResp")
		}
		time.Sleep(time.Millisecond)
	}
	if f.got[0].GetHeader().GetMsgId() != "n1" || f.got[0].GetBody().GetResponse().GetNotifyResp().GetSubscriptionId() != "s" {
		t.Errorf("answered %v", f.got[0])
	}
}

func TestALostLinkFailsWhatIsInFlight(t *testing.T) {
	asked := make(chan struct{})
	c, f := start(t, controller.Config{}, func(*uspmsg.Msg) *uspmsg.Msg { close(asked); return nil })
	go func() { <-asked; f.end.Break() }() // ends with the test's request
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := c.Get(ctx, "Device."); !errors.Is(err, mtp.ErrNotConnected) {
		t.Errorf("got %v", err)
	}
}
