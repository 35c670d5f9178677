package cwmp

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"twinspan/bridge"
	"twinspan/cwmp/soap"
	"twinspan/datamodel"
)

// acsWriter is the ACS to the bridge, systemWriter the CPE itself.
var (
	acsWriter    = bridge.Writer{Name: writerName, Protocol: datamodel.CWMP, Class: "acs"}
	systemWriter = bridge.Writer{Name: systemName, Protocol: datamodel.CWMP, Class: "sys", System: true}
)

// rpcMethods is what GetRPCMethods answers and dispatch carries out; a test compares the two. RPC-01
var rpcMethods = []string{
	"GetRPCMethods", "SetParameterValues", "GetParameterValues", "GetParameterNames", "SetParameterAttributes",
	"GetParameterAttributes", "AddObject", "DeleteObject", "Reboot", "Download", "FactoryReset", "ScheduleInform", "Upload",
	"ScheduleDownload", "CancelTransfer", "GetAllQueuedTransfers", "GetQueuedTransfers",
}

// methods is what works with these Options.
func (c *CPE) methods() []string {
	if c.o.Modules == nil {
		return rpcMethods
	}
	return append(rpcMethods[:len(rpcMethods):len(rpcMethods)], "ChangeDUState")
}

// maxSchedules bounds the ScheduleInform calls that wait.
const maxSchedules = 64

// dispatch carries out one RPC. Errors become faults; a panic in a handler becomes fault 9002.
func (s *session) dispatch(ctx context.Context, req *soap.Envelope) (answer soap.Message, err error) {
	defer func() {
		if r := recover(); r != nil {
			s.c.log.Error("rpc handler panicked", "method", cut(req.Body.Method(), 64), "panic", fmt.Sprint(r))
			answer, err = nil, soap.NewFault(soap.InternalError, "")
		}
	}()
	ref := s.name + "/" + cut(req.Header.ID, 64)
	switch m := req.Body.(type) {
	case *soap.GetRPCMethods:
		return &soap.GetRPCMethodsResponse{MethodList: s.c.methods()}, nil
	case *soap.GetParameterValues:
		return s.getParameterValues(ctx, m)
	case *soap.GetParameterNames:
		return s.getParameterNames(ctx, m)
	case *soap.SetParameterValues:
		return s.setParameterValues(ctx, m, ref)
	case *soap.GetParameterAttributes:
		return s.getParameterAttributes(ctx, m)
	case *soap.SetParameterAttributes:
		return s.setParameterAttributes(ctx, m, ref)
	case *soap.AddObject:
		return s.addObject(ctx, m, ref)
	case *soap.DeleteObject:
		return s.deleteObject(ctx, m, ref)
	case *soap.Reboot:
		return &soap.RebootResponse{}, s.c.call(ctx, func() error { return s.c.queueReboot(ctx, m.CommandKey) })
	case *soap.FactoryReset:
		return &soap.FactoryResetResponse{}, s.c.call(ctx, func() error { return s.c.queueFactoryReset() })
	case *soap.ScheduleInform:
		if m.DelaySeconds == 0 { // SI-02
			return nil, soap.NewFault(soap.InvalidArguments, "DelaySeconds must be above 0")
		}
		at := time.Now().Add(time.Duration(m.DelaySeconds) * time.Second)
		return &soap.ScheduleInformResponse{}, s.c.call(ctx, func() error { return s.c.queueSchedule(ctx, m.CommandKey, at) })
	case *soap.Download:
		t := &transfer{CommandKey: m.CommandKey, FileType: m.FileType, URL: m.URL, Username: m.Username, Password: m.Password,
			FileSize: uint64(m.FileSize), TargetName: m.TargetFileName, Delay: time.Duration(m.DelaySeconds) * time.Second}
		// TR-069 A.3.2.8: Status 1, TransferComplete follows in every case; SuccessURL and FailureURL have no browser. DL-16
		return &soap.DownloadResponse{Status: 1}, s.queueTransfer(ctx, t)
	case *soap.Upload:
		t := &transfer{Upload: true, CommandKey: m.CommandKey, FileType: m.FileType, URL: m.URL, Username: m.Username,
			Password: m.Password, Delay: time.Duration(m.DelaySeconds) * time.Second}
		return &soap.UploadResponse{Status: 1}, s.queueTransfer(ctx, t)
	case *soap.ScheduleDownload:
		t, fault := scheduled(m, time.Now())
		if fault != nil {
			return nil, fault
		}
		return &soap.ScheduleDownloadResponse{}, s.queueTransfer(ctx, t)
	case *soap.ChangeDUState:
		if s.c.o.Modules == nil {
			break
		}
		return &soap.ChangeDUStateResponse{}, s.c.call(ctx, func() error { return s.c.changeDUState(ctx, m) })
	case *soap.CancelTransfer:
		return &soap.CancelTransferResponse{}, s.c.call(ctx, func() error { return s.c.cancelTransfers(ctx, m.CommandKey) })
	case *soap.GetAllQueuedTransfers:
		out := &soap.GetAllQueuedTransfersResponse{}
		return out, s.c.call(ctx, func() error { out.TransferList = s.c.queuedTransfers(); return nil })
	case *soap.GetQueuedTransfers:
		out := &soap.GetQueuedTransfersResponse{}
		return out, s.c.call(ctx, func() error {
			for _, t := range s.c.queuedTransfers() {
				out.TransferList = append(out.TransferList, soap.QueuedTransfer{CommandKey: t.CommandKey, State: t.State})
			}
			return nil
		})
	}
	// TR-069 A.5.1: unknown, optional and deprecated methods alike. RPC-02, RPC-03
	return nil, soap.NewFault(soap.MethodNotSupported, "")
}

func (s *session) queueTransfer(ctx context.Context, t *transfer) error {
	if fault := s.c.checkTransfer(t); fault != nil {
		return fault
	}
	return s.c.call(ctx, func() error { return s.c.addTransfer(ctx, t) })
}

// outcomeError is the most exact thing that went wrong with an operation: a parameter before its object before the whole.
func outcomeError(o bridge.Outcome) error {
	for _, obj := range o.Objects {
		for _, p := range obj.Params {
			if p.Err != nil {
				return p.Err
			}
		}
	}
	for _, obj := range o.Objects {
		if obj.Err != nil {
			return obj.Err
		}
	}
	return o.Err
}

// changeError is outcomeError over a whole change.
func changeError(res bridge.Result, err error) error {
	for _, o := range res.Outcomes {
		if oerr := outcomeError(o); oerr != nil {
			return oerr
		}
	}
	return err
}

// status is 1 when the change is committed and the device has not carried it out yet (TR-069 A.3.2.1).
func status(res bridge.Result) int {
	if res.Applied || !res.Changed {
		return 0
	}
	return 1
}

// addObject makes one row (TR-069 A.3.2.6).
func (s *session) addObject(ctx context.Context, m *soap.AddObject, ref string) (soap.Message, error) {
	if !objectName(m.ObjectName) {
		return nil, soap.NewFault(soap.InvalidParameterName, "ObjectName is not the path of a table")
	}
	op := bridge.Op{Kind: bridge.OpAdd, Path: m.ObjectName}
	if table, alias, ok := splitAlias(m.ObjectName); ok { // ALI-02, ALI-03
		op.Path, op.Alias = table, alias
	}
	res, err := s.shield.Apply(ctx, bridge.Change{Ref: ref, Atomic: true,
		Ops:    []bridge.Op{op},
		System: map[string]string{parameterKeyPath: m.ParameterKey}})
	if err := changeError(res, err); err != nil { // ADD-07: nothing was committed
		return nil, objectFault(err)
	}
	if len(res.Outcomes) != 1 || len(res.Outcomes[0].Objects) != 1 {
		return nil, soap.NewFault(soap.InternalError, "")
	}
	row := strings.TrimSuffix(res.Outcomes[0].Objects[0].Path, ".")
	n, err := strconv.ParseUint(row[strings.LastIndexByte(row, '.')+1:], 10, 32)
	if err != nil {
		return nil, soap.NewFault(soap.InternalError, "")
	}
	return &soap.AddObjectResponse{InstanceNumber: uint32(n), Status: status(res)}, nil
}

// deleteObject deletes one row with everything below it (TR-069 A.3.2.7).
func (s *session) deleteObject(ctx context.Context, m *soap.DeleteObject, ref string) (soap.Message, error) {
	if !objectName(m.ObjectName) {
		return nil, soap.NewFault(soap.InvalidParameterName, "ObjectName is not the path of a row")
	}
	ms, err := s.shield.View().Resolve(m.ObjectName, aliasPolicy)
	if err != nil {
		return nil, objectFault(err)
	}
	if len(ms) != 1 || ms[0].Table || !ms[0].Object.Multi { // ADD-06
		return nil, soap.NewFault(soap.InvalidParameterName, "ObjectName is not the path of a row")
	}
	res, err := s.shield.Apply(ctx, bridge.Change{Ref: ref, Atomic: true,
		Ops:    []bridge.Op{{Kind: bridge.OpDelete, Path: ms[0].Path}},
		System: map[string]string{parameterKeyPath: m.ParameterKey}})
	if err := changeError(res, err); err != nil {
		return nil, objectFault(err)
	}
	return &soap.DeleteObjectResponse{Status: status(res)}, nil
}

// objectName reports whether a name can be that of one object: it ends in a dot and is no search.
func objectName(name string) bool {
	_, ok := aliased(name)
	return ok && strings.HasSuffix(name, ".") && len(name) <= 256 && !strings.ContainsAny(name, "*{}()!#+")
}
