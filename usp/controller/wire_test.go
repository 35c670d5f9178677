package controller_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"twinspan/usp"
	"twinspan/usp/controller"
	"twinspan/usp/mtp"
	"twinspan/usp/mtp/memory"
	"twinspan/usp/mtp/mtptest"
	"twinspan/usp/mtp/websocket"
	"twinspan/usp/uspmsg"
)

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), mtptest.Wait)
	t.Cleanup(cancel)
	return ctx
}

// TestConnectRecord: WaitConnect waits for the agent's connect record of the present link, and a Disconnect undoes it.
func TestConnectRecord(t *testing.T) {
	kinds := make(chan usp.Kind, 8)
	c, f := start(t, controller.Config{OnRecord: func(r *usp.Record) { kinds <- r.Kind }}, func(*uspmsg.Msg) *uspmsg.Msg { return nil })
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.WaitConnect(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("without a connect record: %v", err)
	}
	send := func(rec []byte, want usp.Kind) {
		t.Helper()
		if err := f.end.Send(within(t), "", rec); err != nil {
			t.Fatal(err)
		}
		if k := <-kinds; k != want {
			t.Fatalf("record of kind %d, want %d", k, want)
		}
	}
	send(usp.WebSocketConnect(agentID, ctlID), usp.KindWebSocketConnect)
	if err := c.WaitConnect(within(t)); err != nil {
		t.Fatal(err)
	}
	send(usp.DisconnectRecord(agentID, ctlID, usp.CodeSessionTerminated, "bye"), usp.KindDisconnect)
	short, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.WaitConnect(short); err == nil {
		t.Error("connected after a Disconnect record")
	}
}

// TestRefusals: what an agent refuses inside a response comes back with code, text and path.
func TestRefusals(t *testing.T) {
	c, _ := start(t, controller.Config{}, func(m *uspmsg.Msg) *uspmsg.Msg {
		r, id := m.GetBody().GetRequest(), m.GetHeader().GetMsgId()
		respond := func(x *uspmsg.Response) *uspmsg.Msg { return usp.NewResponse(id, x) }
		switch {
		case r.GetSet() != nil:
			return usp.ErrorMessage(id, usp.Fault{Code: 7004, Text: "set"}, &uspmsg.Error_ParamError{ParamPath: "Device.X.A", ErrCode: 7810, ErrMsg: "owned by cwmp"})
		case r.GetAdd() != nil:
			return respond(&uspmsg.Response{RespType: &uspmsg.Response_AddResp{AddResp: &uspmsg.AddResp{CreatedObjResults: []*uspmsg.AddResp_CreatedObjectResult{{
				RequestedPath: "Device.X.", OperStatus: &uspmsg.AddResp_CreatedObjectResult_OperationStatus{
					OperStatus: &uspmsg.AddResp_CreatedObjectResult_OperationStatus_OperFailure{
						OperFailure: &uspmsg.AddResp_CreatedObjectResult_OperationStatus_OperationFailure{ErrCode: 7019, ErrMsg: "no rows"}}}}}}}})
		case r.GetOperate() != nil:
			return respond(&uspmsg.Response{RespType: &uspmsg.Response_OperateResp{OperateResp: &uspmsg.OperateResp{OperationResults: []*uspmsg.OperateResp_OperationResult{{
				ExecutedCommand: "Device.X()", OperationResp: &uspmsg.OperateResp_OperationResult_CmdFailure{
					CmdFailure: &uspmsg.OperateResp_OperationResult_CommandFailure{ErrCode: 7027, ErrMsg: "missing"}}}}}}})
		case r.GetGet() != nil: // R-MSG.9: a response with a foreign msg_id is dropped
			return usp.NewResponse("foreign", &uspmsg.Response{RespType: &uspmsg.Response_GetResp{GetResp: &uspmsg.GetResp{}}})
		}
		return nil
	})
	var e *controller.Error
	if err := c.Set(within(t), map[string]string{"Device.X.A": "1"}); !errors.As(err, &e) || e.Code != 7004 ||
		len(e.Params) != 1 || e.Params[0] != (controller.ParamError{Path: "Device.X.A", Code: 7810, Text: "owned by cwmp"}) {
		t.Errorf("Set: %v", err)
	}
	if _, _, err := c.Add(within(t), "Device.X.", nil); !errors.As(err, &e) || e.Code != 7019 || e.Path != "Device.X." {
		t.Errorf("Add: %v", err)
	}
	if _, _, err := c.Operate(within(t), "Device.X()", "", nil); !errors.As(err, &e) || e.Code != 7027 || e.Path != "Device.X()" {
		t.Errorf("Operate: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := c.Get(short, "Device."); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get with a foreign answer: %v", err)
	}
}

// TestRawReachesTheAgentAsItIs: the bytes are not looked at.
func TestRawReachesTheAgentAsItIs(t *testing.T) {
	a, b := memory.New(memory.Default())
	c, err := controller.New(controller.Config{EndpointID: ctlID, AgentID: agentID, Transport: a})
	if err != nil {
		t.Fatal(err)
	}
	far := mtptest.Start(t, b, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	if err := c.WaitUp(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := c.Raw(within(t), []byte("\xffno record")); err != nil {
		t.Fatal(err)
	}
	if got := string(far.Next().Record); got != "\xffno record" {
		t.Errorf("got %q", got)
	}
	// What comes back and is no record, or not for us, or not from the agent, does no harm.
	for _, rec := range [][]byte{[]byte("garbage"), usp.WebSocketConnect(agentID, "self::other"), usp.WebSocketConnect("self::other", ctlID)} {
		far.Send("", rec)
	}
	far.Send("", usp.WebSocketConnect(agentID, ctlID))
	if err := c.WaitConnect(within(t)); err != nil {
		t.Error(err)
	}
}

func TestTooManyInFlight(t *testing.T) {
	c, _ := start(t, controller.Config{}, func(*uspmsg.Msg) *uspmsg.Msg { return nil })
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error, 2000)
	var wg sync.WaitGroup
	for range 1100 {
		wg.Go(func() {
			_, err := c.Get(ctx, "Device.")
			errs <- err
		})
	}
	refused := 0
	for range 1100 - 1024 {
		select {
		case err := <-errs:
			if errors.Is(err, controller.ErrTooManyRequests) {
				refused++
			} else {
				t.Errorf("got %v", err)
			}
		case <-time.After(mtptest.Wait):
			t.Fatal("too many requests were taken")
		}
	}
	cancel()
	wg.Wait()
	if refused != 1100-1024 {
		t.Errorf("%d refused", refused)
	}
}

// TestListeningController: an agent that dials in twice replaces its session; the end of the older one is not taken for
// the end of the newer.
func TestListeningController(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	cfg := websocket.DefaultServerConfig()
	cfg.Addr, cfg.EndpointID, cfg.AllowPlain = addr, ctlID, true
	srv, err := websocket.NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c, err := controller.New(controller.Config{EndpointID: ctlID, AgentID: agentID, Transport: srv})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	agent := func() *mtptest.Peer {
		cc := websocket.DefaultClientConfig()
		cc.URL, cc.EndpointID = "ws://"+addr+"/usp", agentID
		cc.Backoff = usp.Backoff{Min: 50 * time.Millisecond, Multiplier: 1000}
		cl, err := websocket.NewClient(cc)
		if err != nil {
			t.Fatal(err)
		}
		p := mtptest.Start(t, cl, func(ctx context.Context, in mtp.Inbound) {
			rec, err := usp.OpenRecord(in.Record, agentID, usp.DefaultLimits())
			if err != nil {
				t.Error(err)
				return
			}
			m, err := usp.DecodeMessage(rec.Payload, usp.DefaultLimits())
			if err != nil {
				t.Error(err)
				return
			}
			out, err := usp.WrapMessage(agentID, ctlID, usp.NewResponse(m.GetHeader().GetMsgId(), &uspmsg.Response{RespType: &uspmsg.Response_GetSupportedProtocolResp{
				GetSupportedProtocolResp: &uspmsg.GetSupportedProtocolResp{AgentSupportedProtocolVersions: usp.SupportedVersions}}}))
			if err == nil {
				err = in.Reply(ctx, out)
			}
			if err != nil {
				t.Error(err)
			}
		})
		p.Up()
		return p
	}
	first := agent()
	if err := c.WaitUp(within(t)); err != nil {
		t.Fatal(err)
	}
	first.Stop()
	agent()
	if err := c.WaitUp(within(t)); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		deadline := time.Now().Add(mtptest.Wait)
		for {
			v, err := c.Protocols(within(t), usp.SupportedVersions)
			if err == nil && v == usp.SupportedVersions {
				break
			}
			if !errors.Is(err, mtp.ErrNotConnected) || time.Now().After(deadline) {
				t.Fatalf("request %d: %q %v", i, v, fmt.Sprint(err))
			}
			time.Sleep(time.Millisecond)
		}
	}
}
