package cwmp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"twinspan/bridge"
	"twinspan/cwmp/soap"
)

const (
	duBucket = "cwmp.du" // one record for each ChangeDUState, and each report of what others did
	// maxModuleJobs bounds the records, maxModuleOps the operations of one ChangeDUState.
	maxModuleJobs = 16
	maxModuleOps  = 16
	// moduleDay is how long a ChangeDUState may take (TR-069 A.4.1.10).
	moduleDay = 24 * time.Hour
	duEvent   = "DUStateChange!"
	duObject  = "Device.SoftwareModules."
)

// SoftwareModules installs, updates and uninstalls software (TR-069 A.4.1.10). Without one ChangeDUState is fault 9000 and not
// in GetRPCMethods.
type SoftwareModules interface {
	// Change carries one operation out and returns what is then known of the deployment unit: UUID, DeploymentUnitRef,
	// Version, CurrentState, Resolved, ExecutionUnitRefList; the CPE fills in the rest. Calls come one at a time and must
	// return when ctx ends. An error that wraps *soap.Fault gives its code (9001, 9003, 9012, 9013, 9015-9018, 9022-9032),
	// others 9001. It should keep the tables of Device.SoftwareModules. in step through the bridge; it must not emit
	// DUStateChange! itself, the CPE does.
	Change(ctx context.Context, op soap.DUOperation) (soap.DUResult, error)
}

// ModuleOutcomes is a SoftwareModules that knows after a restart what became of an operation. Without it the operation in progress
// at a power cut is reported as failed, though it may have been carried out.
type ModuleOutcomes interface {
	// Outcome gives the result of the operation whose Change had this OperationID; ok is false for one that never began.
	Outcome(id string) (res soap.DUResult, err error, ok bool)
	// Forget is called once the result is safely kept.
	Forget(ctx context.Context, id string)
}

type operationID struct{}

// OperationID names the operation that Change is called for: unique, and the same after a restart. "" outside Change.
func OperationID(ctx context.Context) string {
	id, _ := ctx.Value(operationID{}).(string)
	return id
}

// moduleID is the OperationID of the next operation of a job.
func (j *moduleJob) moduleID() string { return j.ID + "-" + strconv.Itoa(len(j.Results)) }

// modules are the jobs for SoftwareModules. The jobs belong to the goroutine in Run.
type modules struct {
	jobs []*moduleJob
	busy bool
	wg   sync.WaitGroup
}

// moduleJob is one ChangeDUState until its DUStateChangeComplete was answered, or one report of what somebody else did.
// Credentials are in it only until their operation ended.
type moduleJob struct {
	ID         string             `json:"id"`
	CommandKey string             `json:"key,omitempty"`
	At         time.Time          `json:"at"`
	Ops        []soap.DUOperation `json:"ops,omitempty"`
	Results    []soap.DUResult    `json:"results,omitempty"`
	Started    bool               `json:"started,omitempty"` // the operation behind the last result
	Auto       bool               `json:"auto,omitempty"`
	Tries      int                `json:"tries,omitempty"`
}

func (j *moduleJob) done() bool { return len(j.Results) >= len(j.Ops) }

func (j *moduleJob) completeEvent() string {
	if j.Auto {
		return evAutonomousDU
	}
	return evDUComplete
}

func (j *moduleJob) message() soap.Message {
	if j.Auto {
		return &soap.AutonomousDUStateChangeComplete{Results: j.Results}
	}
	return &soap.DUStateChangeComplete{Results: j.Results, CommandKey: j.CommandKey}
}

func (j *moduleJob) encode() []byte {
	b, err := json.Marshal(j)
	if err != nil { // only plain fields
		panic(err)
	}
	return b
}

// restoreModules reads the records; the job in progress when the device stopped has failed, since nobody knows how far it came.
func (c *CPE) restoreModules() error {
	var bad error
	err := c.e.Store().Records(duBucket, func(key string, data []byte) bool {
		j := &moduleJob{}
		if bad = json.Unmarshal(data, j); bad != nil {
			bad = fmt.Errorf("cwmp: module record %s is damaged: %w", key, bad)
			return false
		}
		i := 0
		for i < len(c.modules.jobs) && c.modules.jobs[i].ID < j.ID { // IDs begin with the time
			i++
		}
		c.modules.jobs = append(c.modules.jobs, j)
		copy(c.modules.jobs[i+1:], c.modules.jobs[i:])
		c.modules.jobs[i] = j
		c.saved[duBucket+"/"+key] = string(data)
		return true
	})
	if bad != nil {
		return bad
	}
	return err
}

// changeDUState keeps the request; it is in the store before the answer leaves. DU-01
func (c *CPE) changeDUState(ctx context.Context, m *soap.ChangeDUState) error {
	if len(m.Operations) == 0 {
		return soap.NewFault(soap.InvalidArguments, "no operation")
	}
	if len(m.Operations) > maxModuleOps || len(c.modules.jobs) >= maxModuleJobs {
		return soap.NewFault(soap.ResourcesExceeded, "at most "+strconv.Itoa(maxModuleOps)+" operations, and requests that wait")
	}
	j := &moduleJob{ID: newTransferID(), CommandKey: m.CommandKey, At: time.Now().Round(0), Ops: m.Operations}
	c.modules.jobs = append(c.modules.jobs, j)
	if err := c.save(ctx); err != nil {
		c.modules.jobs = c.modules.jobs[:len(c.modules.jobs)-1]
		return err
	}
	return nil
}

// startModules starts the next operation, one at a time and not during a session.
func (c *CPE) startModules(ctx context.Context) {
	for c.startModule(ctx) {
	}
}

// startModule reports whether an operation has ended at once.
func (c *CPE) startModule(ctx context.Context) bool {
	if c.running != nil || c.modules.busy || c.restart != nil || !c.set.enabled {
		return false
	}
	i := slices.IndexFunc(c.modules.jobs, func(j *moduleJob) bool { return !j.done() })
	if i < 0 {
		return false
	}
	j := c.modules.jobs[i]
	op, began := j.Ops[len(j.Results)], time.Now().UTC()
	switch {
	case j.Started: // DU-05
		if o, ok := c.o.Modules.(ModuleOutcomes); ok {
			if res, err, known := o.Outcome(j.moduleID()); known {
				if !res.StartTime.IsZero() {
					began = res.StartTime
				}
				c.moduleEnded(ctx, j, began, res, err)
				return true
			}
		}
		c.moduleEnded(ctx, j, began, soap.DUResult{}, soap.NewFault(soap.RequestDenied, "interrupted by a restart"))
		return true
	case c.o.Modules == nil || time.Since(j.At) > moduleDay:
		c.moduleEnded(ctx, j, began, soap.DUResult{}, soap.NewFault(soap.RequestDenied, "not done in time"))
		return true
	}
	if fault := checkModuleOp(op); fault != nil {
		c.moduleEnded(ctx, j, began, soap.DUResult{}, fault)
		return true
	}
	if j.Started = true; c.save(ctx) != nil {
		j.Started = false
		return false
	}
	c.modules.busy = true
	id := j.moduleID()
	c.modules.wg.Go(func() { // joined by Run; ends with ctx
		octx, cancel := context.WithTimeout(context.WithValue(ctx, operationID{}, id), c.o.TransferTimeout)
		defer cancel()
		res, err := c.changeModule(octx, op)
		c.call(ctx, func() error {
			c.modules.busy = false
			if ctx.Err() == nil { // else it is told after the restart
				c.moduleEnded(ctx, j, began, res, err)
			}
			return nil
		})
	})
	return false
}

func (c *CPE) changeModule(ctx context.Context, op soap.DUOperation) (res soap.DUResult, err error) {
	defer func() {
		if r := recover(); r != nil { // a vendor's code must not take the agent down
			err = fmt.Errorf("cwmp: software modules panicked: %v", r)
		}
	}()
	return c.o.Modules.Change(ctx, op)
}

// checkModuleOp judges what needs no look at the device. DU-03
func checkModuleOp(op soap.DUOperation) *soap.Fault {
	switch {
	case op.UUID != "" && !validUUID(op.UUID), op.Kind == soap.Uninstall && op.UUID == "":
		return soap.NewFault(soap.InvalidUUID, "not a UUID")
	case op.Kind == soap.Install && op.URL == "":
		return soap.NewFault(soap.InvalidArguments, "URL is missing")
	}
	return nil
}

// validUUID checks the form of RFC 4122.
func validUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (s[i] == '-') || !dash && !strings.ContainsRune("0123456789abcdefABCDEF", rune(s[i])) {
			return false
		}
	}
	return true
}

var operationNames = map[soap.DUOperationKind]string{soap.Install: "Install", soap.Update: "Update", soap.Uninstall: "Uninstall"}

// moduleEnded takes a result in, one for each operation in their order; Controllers are told by DUStateChange!. DU-02
func (c *CPE) moduleEnded(ctx context.Context, j *moduleJob, began time.Time, res soap.DUResult, err error) {
	if len(j.Results) >= len(j.Ops) {
		return
	}
	op, id := &j.Ops[len(j.Results)], j.moduleID()
	res.StartTime, res.CompleteTime, res.OperationPerformed = began, time.Now().UTC().Round(0), operationNames[op.Kind]
	if res.UUID == "" {
		res.UUID = op.UUID
	}
	if res.Version == "" {
		res.Version = op.Version
	}
	res.UUID, res.Version, res.Fault = cut(res.UUID, 36), cut(res.Version, 32), soap.TransferFault{}
	if err != nil {
		res.CurrentState, res.Fault = "Failed", moduleFault(err)
		c.log.Warn("software module operation failed", "operation", res.OperationPerformed, "error", err)
	}
	op.Username, op.Password = "", ""
	j.Results, j.Started = append(j.Results, res), false
	if j.done() {
		c.queue.caused(bridge.CauseChangeDUState, j.CommandKey)
		c.wanted = true
	}
	if o, ok := c.o.Modules.(ModuleOutcomes); c.save(ctx) == nil && ok {
		o.Forget(ctx, id)
	}
	c.e.Emit(bridge.Event{Kind: bridge.EventModel, Path: duObject, Name: duEvent, Cause: writerName, Args: moduleArgs(res)})
}

// moduleFault gives a code that DU results may carry (TR-069 A.4.2.3).
func moduleFault(err error) soap.TransferFault {
	var f *soap.Fault
	if errors.As(err, &f) && f.Code != soap.InternalError {
		return soap.TransferFault{FaultCode: f.Code, FaultString: cut(f.FaultString, 256)}
	}
	return soap.TransferFault{FaultCode: soap.RequestDenied, FaultString: "the device could not do it"}
}

const duTime = "2006-01-02T15:04:05Z"

// modelCodes pairs the numbers of CWMP with those of TR-181 DUStateChange!.Fault.FaultCode; the others are 7022, command failure.
var modelCodes = [...][2]uint16{{0, 0}, {9003, 7004}, {9015, 7033}, {9018, 7035}, {9023, 7223}, {9025, 7225}, {9026, 7226}, {9027, 7227}, {9029, 7229}, {9024, 7230}}

func modelCode(code soap.FaultCode) int {
	for _, p := range modelCodes {
		if p[0] == uint16(code) {
			return int(p[1])
		}
	}
	return 7022
}

// moduleCode is the way back; what CWMP has no number for is 9001.
func moduleCode(code int) soap.FaultCode {
	for _, p := range modelCodes {
		if int(p[1]) == code {
			return soap.FaultCode(p[0])
		}
	}
	if code >= 9000 && code <= 9032 { // of an implementation that speaks CWMP's
		return soap.FaultCode(code)
	}
	return soap.RequestDenied
}

// moduleArgs are the arguments of DUStateChange!.
func moduleArgs(r soap.DUResult) map[string]string {
	return map[string]string{"UUID": r.UUID, "DeploymentUnitRef": r.DeploymentUnitRef, "Version": r.Version, "CurrentState": r.CurrentState,
		"Resolved": strconv.FormatBool(r.Resolved), "ExecutionUnitRefList": r.ExecutionUnitRefList, "OperationPerformed": r.OperationPerformed,
		"StartTime": r.StartTime.Format(duTime), "CompleteTime": r.CompleteTime.Format(duTime),
		"Fault.FaultCode": strconv.Itoa(modelCode(r.Fault.FaultCode)), "Fault.FaultString": r.Fault.FaultString}
}

// moduleChanged tells the ACS what somebody else did, if DUStateChangeComplPolicy wants it (TR-181). DU-08
func (c *CPE) moduleChanged(ctx context.Context, ev bridge.Event) {
	if ev.Name != duEvent || ev.Cause == writerName || !c.reportsModule(ev.Args) {
		return
	}
	if len(c.modules.jobs) >= maxModuleJobs {
		c.log.Warn("a change of software modules cannot be reported: too many wait")
		return
	}
	moment := func(name string) time.Time {
		if t := knownTime(ev.Args[name]); !t.IsZero() {
			return t.UTC()
		}
		return ev.Time.UTC().Round(0)
	}
	code, _ := strconv.Atoi(ev.Args["Fault.FaultCode"])
	r := soap.DUResult{UUID: cut(ev.Args["UUID"], 36), DeploymentUnitRef: ev.Args["DeploymentUnitRef"], Version: cut(ev.Args["Version"], 32),
		CurrentState: ev.Args["CurrentState"], Resolved: ev.Args["Resolved"] == "true", ExecutionUnitRefList: ev.Args["ExecutionUnitRefList"],
		StartTime: moment("StartTime"), CompleteTime: moment("CompleteTime"), OperationPerformed: ev.Args["OperationPerformed"],
		Fault: soap.TransferFault{FaultString: cut(ev.Args["Fault.FaultString"], 256)}}
	r.Fault.FaultCode = moduleCode(code) // the model numbers faults its own way
	c.modules.jobs = append(c.modules.jobs, &moduleJob{ID: newTransferID(), At: time.Now().Round(0), Auto: true, Results: []soap.DUResult{r}})
	c.queue.add(evAutonomousDU, "")
	c.wanted = true
	c.save(ctx)
}

func faultNumber(code string) string {
	n, _ := strconv.Atoi(code)
	return strconv.Itoa(int(moduleCode(n)))
}

func (c *CPE) reportsModule(args map[string]string) bool {
	const policy = msPath + "DUStateChangeComplPolicy."
	lists := func(name, what string) bool {
		filter := c.stored(policy + name)
		return filter == "" || slices.Contains(strings.Split(filter, ","), what)
	}
	result, code := "Success", args["Fault.FaultCode"]
	if code != "" && code != "0" {
		result = "Failure"
	}
	return c.stored(policy+"Enable") == "true" && lists("OperationTypeFilter", args["OperationPerformed"]) &&
		passes(c.stored(policy+"ResultTypeFilter"), result) && (result == "Success" || lists("FaultCodeFilter", faultNumber(code)))
}

// moduleDelivered ends a job that the ACS has acknowledged, or keeps it for a later session.
func (c *CPE) moduleDelivered(ctx context.Context, j *moduleJob, final bool) error {
	i := slices.Index(c.modules.jobs, j)
	if i < 0 {
		return nil
	}
	if !final {
		if j.Tries++; j.Tries < maxCompleteTries {
			return c.save(ctx)
		}
		c.log.Error("DUStateChangeComplete given up", "tries", j.Tries)
	}
	c.modules.jobs = slices.Delete(c.modules.jobs, i, i+1)
	if k := slices.IndexFunc(c.queue.list, func(e event) bool { return e.Code == evMChangeDUState && e.Key == j.CommandKey }); k >= 0 && !j.Auto {
		c.queue.list = slices.Delete(c.queue.list, k, k+1)
	}
	code := j.completeEvent()
	if !slices.ContainsFunc(c.modules.jobs, func(o *moduleJob) bool { return o.done() && o.Auto == j.Auto }) {
		c.queue.drop(func(e event) bool { return e.Code == code })
	}
	return c.save(ctx)
}
