package agent

import (
	"context"
	"errors"
	"sort"
	"strconv"
	"sync"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/store"
	"twinspan/usp"
	"twinspan/usp/uspmsg"
)

type opResult = uspmsg.OperateResp_OperationResult

// operate answers Operate; nil when there is nothing to answer. // R-OPR.1, R-OPR.4
func (r *request) operate(ctx context.Context, m *uspmsg.Operate) *uspmsg.Msg {
	matches, err := resolve(r.view(), m.GetCommand(), datamodel.ResolvePolicy{Want: datamodel.WantCommand, MissingIsError: true})
	if err != nil {
		return r.fault(err)
	}
	resp := &uspmsg.OperateResp{}
	failed := false
	for _, match := range matches {
		if match.Command == nil {
			return r.fault(datamodel.Fail(datamodel.NotSupported, m.GetCommand(), "not a command"))
		}
		res := &opResult{ExecutedCommand: match.Path}
		if match.Command.Async {
			err = r.start(ctx, match, m, res)
		} else {
			err = r.run(ctx, match, m, res)
		}
		if err != nil { // never an Error message // R-OPR.1, TP-469 2.18
			failed = true
			f := usp.ErrorFrom(err, usp.AtCommand)
			res.OperationResp = &uspmsg.OperateResp_OperationResult_CmdFailure{
				CmdFailure: &uspmsg.OperateResp_OperationResult_CommandFailure{ErrCode: f.Code, ErrMsg: f.Text}}
		}
		if m.GetSendResp() || err != nil {
			resp.OperationResults = append(resp.OperationResults, res)
		}
	}
	if !m.GetSendResp() && !failed { // TP-469 1.65
		return nil
	}
	return r.response(&uspmsg.Response{RespType: &uspmsg.Response_OperateResp{OperateResp: resp}})
}

// run carries a synchronous command out.
func (r *request) run(ctx context.Context, match datamodel.Match, m *uspmsg.Operate, res *opResult) error {
	op, err := r.a.engine.Command(r.w, match.Path, m.GetInputArgs())
	if err != nil {
		return err
	}
	out, err := op.Run(withCaller(ctx, caller{endpoint: r.p.endpoint, key: m.GetCommandKey()}))
	r.a.engine.Observe(bridge.Observation{Kind: bridge.SawOperation, Writer: r.w.Name, OK: err == nil})
	if err != nil {
		return commandError(err)
	}
	res.OperationResp = &uspmsg.OperateResp_OperationResult_ReqOutputArgs{
		ReqOutputArgs: &uspmsg.OperateResp_OperationResult_OutputArgs{OutputArgs: out}}
	return nil
}

// start begins an asynchronous command. // R-OPR.0, R-OPR.2
func (r *request) start(ctx context.Context, match datamodel.Match, m *uspmsg.Operate, res *opResult) error {
	req, err := r.a.requests.begin(r.p.endpoint, match.Path, m.GetCommandKey())
	if err != nil {
		return err
	}
	// Refused or badly asked commands leave no row behind. // R-OPR.5, TP-469 1.100
	op, err := r.a.engine.Command(r.w, match.Path, m.GetInputArgs())
	if err != nil {
		r.a.requests.drop(req)
		return err
	}
	var timer any
	if r.a.outlives(match.Path) {
		// What was answered must come true even if the power fails now.
		rec, err := r.a.recordTimer(ctx, req.originator, req.key, m.GetInputArgs()["DelaySeconds"])
		if err != nil {
			op.Cancel()
			r.a.requests.drop(req)
			return err
		}
		timer = rec
	}
	res.OperationResp = &uspmsg.OperateResp_OperationResult_ReqObjPath{ReqObjPath: req.row()}
	path, cause := match.Path, r.w.Name
	input, began := withoutCredentials(m.GetInputArgs()), time.Now()
	record := ""
	if timer == nil {
		record = r.a.record(ctx, &recordedCommand{Path: canonicalOf(path), Key: req.key, Originator: req.originator, Cause: cause, Input: forTransfer(input), Start: began})
	}
	r.a.rowChanged(req.row(), true)
	started := r.a.spawn("command", func(base context.Context) {
		ctx := withCaller(base, caller{endpoint: req.originator, key: req.key})
		ctx, cancel := context.WithCancel(context.WithValue(ctx, recordedKey{}, timer))
		defer cancel()
		req.activate(cancel)
		out, err := op.Run(ctx)
		if base.Err() != nil && r.a.outlives(path) {
			return // goes on after the restart
		}
		if err != nil {
			err = commandError(err)
		}
		if req.canceled() && err != nil {
			err = datamodel.Fail(datamodel.CommandCanceled, path, "")
		}
		if base.Err() != nil && err != nil && record != "" {
			r.a.requests.drop(req)
			return // told after the restart
		}
		r.a.complete(req, bridge.Event{Path: path, Args: out, Cause: cause, Err: err, Input: input, Start: began, Record: record})
	})
	if !started {
		if record != "" {
			r.a.putCommand(ctx, record, nil)
		}
		op.Cancel()
		r.a.requests.drop(req)
		return datamodel.Fail(datamodel.Resources, path, "the agent is stopping")
	}
	return nil
}

// complete ends an asynchronous command: its subscribers are told, its row goes. // R-OPR.0
func (a *Agent) complete(req *asyncRequest, ev bridge.Event) {
	req.finish(ev.Err)
	a.engine.Observe(bridge.Observation{Kind: bridge.SawOperation, Writer: ev.Cause, OK: ev.Err == nil})
	ev.Path = canonicalOf(ev.Path)
	ev.Record = a.ended(ev.Record, req, &ev)
	a.requests.drop(req) // first, so that who was told finds it gone
	a.tellEnd(a.engine.Emit, req, ev)
	a.rowChanged(req.row(), false)
}

// tellEnd tells of the end of an asynchronous command, and of the transfer, if it was one.
func (a *Agent) tellEnd(tell func(bridge.Event), req *asyncRequest, ev bridge.Event) {
	ev.Kind, ev.Key = bridge.EventOperated, req.key
	tell(ev)
	if movesFile(ev.Path) {
		a.transferred(tell, req, ev) // TP-469 9.3, 9.6
	}
}

func canonicalOf(path string) string {
	if c, ok := datamodel.ToCanonical(datamodel.USP, path); ok {
		return c
	}
	return path
}

// movesFile reports whether TransferComplete! belongs to a command.
func movesFile(path string) bool {
	switch datamodel.SupportedPath(path) {
	case "Device.DeviceInfo.FirmwareImage.{i}.Download()", "Device.DeviceInfo.VendorConfigFile.{i}.Restore()",
		"Device.DeviceInfo.VendorConfigFile.{i}.Backup()", "Device.DeviceInfo.VendorLogFile.{i}.Upload()":
		return true
	}
	return false
}

// transferred tells of the end of a command that moves a file.
func (a *Agent) transferred(tell func(bridge.Event), req *asyncRequest, ev bridge.Event) {
	row, name := datamodel.SplitParam(ev.Path)
	ft := bridge.FileTransfer{Command: ev.Path, CommandKey: ev.Key, Requestor: req.originator, Upload: name == "Backup()" || name == "Upload()",
		Affected: row[:len(row)-1], URL: ev.Input["URL"], CheckSum: ev.Input["CheckSum"], CheckSumAlgorithm: ev.Input["CheckSumAlgorithm"],
		Start: ev.Start, Complete: time.Now()}
	if !ev.Time.IsZero() {
		ft.Complete = ev.Time
	}
	if ev.Err != nil {
		f := usp.ErrorFrom(ev.Err, usp.AtCommand)
		ft.FaultCode, ft.FaultString = f.Code, f.Text
	}
	done := ft.Event()
	done.Record = ev.Record
	tell(done)
}

// withoutCredentials is what others may know of a command's arguments.
func withoutCredentials(args map[string]string) map[string]string {
	out := make(map[string]string, len(args))
	for name, value := range args {
		if name != "Username" && name != "Password" {
			out[name] = value
		}
	}
	return out
}

// commandError makes foreign errors of commands a command failure.
func commandError(err error) error {
	var e *datamodel.Error
	if errors.As(err, &e) {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return &datamodel.Error{Reason: datamodel.CommandFailed, Text: "the command took too long or was stopped", Err: err}
	}
	return &datamodel.Error{Reason: datamodel.CommandFailed, Err: err}
}

// caller tells a command who asked for it.
type caller struct{ endpoint, key string }

type callerKey struct{}

func withCaller(ctx context.Context, c caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// Caller returns the Endpoint ID of the Controller that a command runs for, and its command_key. Providers use it for
// the arguments of Boot! and TransferComplete!; ok is false for commands of other origin.
func Caller(ctx context.Context) (endpoint, commandKey string, ok bool) {
	c, ok := ctx.Value(callerKey{}).(caller)
	return c.endpoint, c.key, ok
}

// asyncRequest is one row of Device.LocalAgent.Request. The rows live in memory only: a command does not survive a
// restart, so neither does its row; what is left to tell of it is in a record.
type asyncRequest struct {
	num        uint32
	originator string
	command    string
	key        string

	mu     sync.Mutex
	status string
	cancel context.CancelFunc
}

func (q *asyncRequest) row() string {
	return requestPath + strconv.FormatUint(uint64(q.num), 10) + "."
}

func (q *asyncRequest) state() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.status
}

func (q *asyncRequest) activate(cancel context.CancelFunc) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cancel = cancel
	if q.status == "Canceling" {
		cancel()
		return
	}
	q.status = "Active"
}

func (q *asyncRequest) canceled() bool { return q.state() == "Canceling" }

func (q *asyncRequest) finish(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case err == nil:
		q.status = "Success"
	case q.status == "Canceling":
		q.status = "Canceled"
	default:
		q.status = "Error"
	}
}

// stop asks the command to end. // R-OPR.3
func (q *asyncRequest) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.status != "Requested" && q.status != "Active" {
		return
	}
	q.status = "Canceling"
	if q.cancel != nil {
		q.cancel()
	}
}

// requestTable is Device.LocalAgent.Request.
type requestTable struct {
	mu      sync.Mutex
	next    uint32
	rows    map[uint32]*asyncRequest
	all     int // limits
	perPeer int
}

func (t *requestTable) begin(originator, command, key string) (*asyncRequest, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	own := 0
	for _, q := range t.rows {
		if q.originator != originator {
			continue
		}
		own++
		if q.command == command && q.key == key { // the unique key of the table
			return nil, datamodel.Fail(datamodel.Resources, command, "this command with this command_key is running already")
		}
	}
	if len(t.rows) >= t.all || own >= t.perPeer {
		return nil, datamodel.Fail(datamodel.Resources, command, "too many commands are running")
	}
	t.next++
	q := &asyncRequest{num: t.next, originator: originator, command: command, key: key, status: "Requested"}
	t.rows[q.num] = q
	return q, nil
}

func (t *requestTable) drop(q *asyncRequest) {
	t.mu.Lock()
	delete(t.rows, q.num)
	t.mu.Unlock()
}

func (t *requestTable) get(num uint32) *asyncRequest {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rows[num]
}

func (t *requestTable) numbers() []uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]uint32, 0, len(t.rows))
	for n := range t.rows {
		out = append(out, n)
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out
}

// rowChanged tells subscribers of a row that is not stored.
func (a *Agent) rowChanged(row string, added bool) {
	op := store.DeltaDeleteRow
	if added {
		op = store.DeltaAddRow
	}
	a.inject(bridge.Event{Kind: bridge.EventCommit, Time: time.Now(),
		Entry: &store.Entry{Deltas: []store.Delta{{Op: op, Path: row}}}})
}
