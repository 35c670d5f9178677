package broker

import (
	"context"
	"log/slog"
	"strconv"
	"strings"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/usp"
	"twinspan/usp/uspmsg"
)

// maxArgs bounds the output arguments that a Service gives, in bytes.
const maxArgs = 256 << 10

// operation is an asynchronous command that runs at a Service.
type operation struct {
	command, key string
	result       chan finished // cap 1
}

type finished struct {
	args map[string]string
	err  error
}

type opResult = uspmsg.OperateResp_OperationResult

// operate answers Operate; nil when there is nothing to answer. A search is resolved first, so that each command is judged and
// run on its own.
func (b *Broker) operate(ctx context.Context, q *agentRequest, s *service, p place, m *uspmsg.Operate) *uspmsg.Msg {
	fault := func(err error) *uspmsg.Msg { return usp.ErrorMessage(q.ID, usp.ErrorFrom(err, usp.AtPath)) }
	cmd := s.command(p.base)
	switch {
	case p.follow:
		return fault(errFollow(p.text))
	case cmd == nil:
		return fault(datamodel.Fail(datamodel.NotSupported, p.text, ""))
	}
	commands := []string{p.text}
	if p.search {
		for _, name := range p.compared {
			if !q.Allowed(name, bridge.ReadParam) {
				return fault(datamodel.Fail(datamodel.NotSupported, p.text, ""))
			}
		}
		object, name := p.text[:len(p.text)-len(cmd.CommandName)], cmd.CommandName
		rows, err := b.resolve(ctx, s, object)
		if err == nil && len(rows) > b.opt.Limits.Rows {
			err = datamodel.Fail(datamodel.Resources, p.text, "the search matches more than "+strconv.Itoa(b.opt.Limits.Rows)+" rows")
		}
		if err != nil {
			return fault(err)
		}
		commands = commands[:0]
		for _, row := range rows {
			if p.comparable(q, row) {
				commands = append(commands, row+name)
			}
		}
	}
	resp := &uspmsg.OperateResp{}
	failed := false
	for _, command := range commands {
		res := &opResult{ExecutedCommand: command}
		var err error
		switch {
		case !q.Allowed(command, bridge.Operate):
			err = datamodel.Fail(datamodel.Denied, command, "")
		case cmd.CommandType == uspmsg.GetSupportedDMResp_CMD_ASYNC:
			err = s.start(ctx, q, command, m, res)
		default:
			err = s.run(ctx, command, m, res)
		}
		if err != nil { // R-OPR.1
			f := usp.ErrorFrom(err, usp.AtCommand)
			res.OperationResp = &uspmsg.OperateResp_OperationResult_CmdFailure{
				CmdFailure: &uspmsg.OperateResp_OperationResult_CommandFailure{ErrCode: f.Code, ErrMsg: f.Text}}
		}
		failed = failed || res.GetCmdFailure() != nil
		if m.GetSendResp() || res.GetCmdFailure() != nil {
			resp.OperationResults = append(resp.OperationResults, res)
		}
	}
	if !m.GetSendResp() && !failed { // TP-469 1.65
		return nil
	}
	return usp.NewResponse(q.ID, &uspmsg.Response{RespType: &uspmsg.Response_OperateResp{OperateResp: resp}})
}

// command asks the Service to run one command and returns its one result.
func (s *service) askCommand(ctx context.Context, command, key string, args map[string]string) (*opResult, error) {
	m, err := s.ask(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Operate{Operate: &uspmsg.Operate{
		Command: command, CommandKey: key, SendResp: true, InputArgs: args}}}, s.b.opt.Limits.CommandTime)
	if err != nil {
		return nil, err
	}
	if e := m.GetBody().GetError(); e != nil {
		return nil, s.refusal(e)
	}
	list := m.GetBody().GetResponse().GetOperateResp().GetOperationResults()
	if len(list) != 1 || list[0].GetExecutedCommand() != command || sizeOf(list[0].GetReqOutputArgs().GetOutputArgs()) > maxArgs {
		return nil, datamodel.Fail(datamodel.CommandFailed, command, "the "+s.name()+" answered something else than it was asked")
	}
	return list[0], nil
}

func sizeOf(args map[string]string) int {
	n := 0
	for k, v := range args {
		n += len(k) + len(v)
	}
	return n
}

// run carries a synchronous command out.
func (s *service) run(ctx context.Context, command string, m *uspmsg.Operate, res *opResult) error {
	got, err := s.askCommand(ctx, command, m.GetCommandKey(), m.GetInputArgs())
	if err != nil {
		return err
	}
	if got.GetReqObjPath() != "" {
		return datamodel.Fail(datamodel.CommandFailed, command, "the "+s.name()+" made an asynchronous command of it")
	}
	res.OperationResp = got.OperationResp
	return nil
}

// start begins an asynchronous command: the Service's Request row is its own affair, the Controller sees one of the agent.
func (s *service) start(ctx context.Context, q *agentRequest, command string, m *uspmsg.Operate, res *opResult) error {
	if !s.follows(command) {
		return datamodel.Fail(datamodel.CommandFailed, command, "the "+s.name()+" does not let the Broker follow its commands")
	}
	row, err := q.Start(command, m.GetCommandKey(), m.GetInputArgs(), func() (func(context.Context) (map[string]string, error), error) {
		op := s.expect(command, m.GetCommandKey())
		got, err := s.askCommand(ctx, command, op.key, m.GetInputArgs())
		if err == nil && got.GetCmdFailure() != nil {
			f := got.GetCmdFailure()
			err = reasoned(f.GetErrCode(), f.GetErrMsg())
		}
		if err != nil {
			s.unexpect(op)
			return nil, err
		}
		if out := got.GetReqOutputArgs(); out != nil { // it was done at once
			op.end(finished{args: out.GetOutputArgs()})
		}
		return func(ctx context.Context) (map[string]string, error) {
			defer s.unexpect(op)
			return s.await(ctx, op, got.GetReqObjPath())
		}, nil
	})
	if err != nil {
		return err
	}
	res.OperationResp = &uspmsg.OperateResp_OperationResult_ReqObjPath{ReqObjPath: row}
	return nil
}

// await waits for the end of a command. When ctx ends first the Service is asked to cancel it.
func (s *service) await(ctx context.Context, op *operation, request string) (map[string]string, error) {
	select {
	case f := <-op.result:
		return f.args, f.err
	case <-s.done:
		return nil, datamodel.Fail(datamodel.CommandFailed, op.command, "the "+s.name()+" went away")
	case <-ctx.Done():
	}
	if strings.HasPrefix(request, "Device.LocalAgent.Request.") && strings.HasSuffix(request, ".") { // R-OPR.3
		c, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.b.opt.Limits.Time)
		defer cancel()
		if _, err := s.askCommand(c, request+"Cancel()", "", nil); err != nil {
			s.b.rarely(slog.LevelInfo, "service_cancel_failed", s.endpoint, "command", op.command, "error", err.Error())
		}
	}
	return nil, datamodel.Fail(datamodel.CommandCanceled, op.command, "")
}

// expect makes an operation with a key that tells its completion from that of others: two Controllers may use the same one.
func (s *service) expect(command, key string) *operation {
	s.mu.Lock()
	defer s.mu.Unlock()
	op := &operation{command: command, key: key, result: make(chan finished, 1)}
	for s.operations[op.id()] != nil {
		op.key = key + "#" + strconv.FormatUint(s.b.seq.Add(1), 36)
	}
	s.operations[op.id()] = op
	return op
}

func (o *operation) id() string { return o.command + "\x00" + o.key }

func (o *operation) end(f finished) {
	select {
	case o.result <- f:
	default: // told twice
	}
}

func (s *service) unexpect(op *operation) {
	s.mu.Lock()
	delete(s.operations, op.id())
	s.mu.Unlock()
}

// completed takes an OperationComplete: for one of our operations, or of a command that the Service began by itself.
func (s *service) completed(m *uspmsg.Notify_OperationComplete) {
	command := m.GetObjPath() + m.GetCommandName()
	args := m.GetReqOutputArgs().GetOutputArgs()
	p, ok := locate(command)
	if !ok || p.search || p.follow || !s.owns(p.base) || sizeOf(args) > maxArgs {
		return
	}
	var err error
	if f := m.GetCmdFailure(); f != nil {
		err = reasoned(f.GetErrCode(), f.GetErrMsg())
	}
	s.mu.Lock()
	op := s.operations[(&operation{command: command, key: m.GetCommandKey()}).id()]
	s.mu.Unlock()
	if op != nil {
		op.end(finished{args, err})
		return
	}
	s.b.engine.Emit(bridge.Event{Kind: bridge.EventOperated, Path: command, Key: clip(m.GetCommandKey()), Args: args, Err: err, Cause: "sys:services"})
}
