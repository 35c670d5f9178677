package agent

import (
	"context"
	"strconv"
	"strings"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
)

// provider is the agent as a provider of the data model: live values and commands of Device.LocalAgent. and the status
// of the clients that the agent runs.
type provider struct{ a *Agent }

func (p *provider) Name() string { return "usp" }

// Serves implements datamodel.Provider.
func (p *provider) Serves() []string {
	return []string{
		"Device.LocalAgent.EndpointID", "Device.LocalAgent.UpTime", "Device.LocalAgent.SoftwareVersion",
		"Device.LocalAgent.SupportedProtocols", "Device.LocalAgent.SupportedFingerprintAlgorithms",
		"Device.LocalAgent.SupportedNumberOfSubscriptions",
		"Device.LocalAgent.MTP.{i}.Status", "Device.LocalAgent.MTP.{i}.MQTT.ResponseTopicDiscovered",
		"Device.LocalAgent.Controller.{i}.E2ESession.Status", "Device.LocalAgent.Controller.{i}.E2ESession.CurrentRetryCount",
		"Device.LocalAgent.Controller.{i}.MTP.{i}.WebSocket.CurrentRetryCount",
		"Device.LocalAgent.Request.{i}.", "Device.LocalAgent.SupportedThresholdOperator",
		"Device.LocalAgent.Watchdog.{i}.Status", "Device.LocalAgent.Watchdog.{i}.RemainingTimerValue",
		"Device.MQTT.Client.{i}.Status", "Device.MQTT.Client.{i}.ResponseInformation", "Device.MQTT.Client.{i}.Subscription.{i}.Status",
		"Device.MQTT.Capabilities.ProtocolVersionsSupported", "Device.MQTT.Capabilities.TransportProtocolSupported",
		"Device.MQTT.Capabilities.MaxNumberOfClientSubscriptions",
	}
}

// Read implements datamodel.Provider.
func (p *provider) Read(_ context.Context, obj datamodel.ObjectRef, _ []string, yield func(name, value string)) error {
	a := p.a
	path := obj.Path
	switch {
	case path == localAgent:
		yield("EndpointID", a.opt.EndpointID)
		yield("UpTime", strconv.FormatInt(int64(time.Since(a.born)/time.Second), 10))
		yield("SoftwareVersion", a.opt.SoftwareVersion)
		yield("SupportedProtocols", strings.Join(a.opt.Protocols, ","))
		yield("SupportedFingerprintAlgorithms", "SHA-1,SHA-224,SHA-256,SHA-384,SHA-512")
		yield("SupportedNumberOfSubscriptions", "-1")
		yield("SupportedThresholdOperator", operators)
	case strings.HasPrefix(path, watchdogPath):
		a.readWatchdog(path, yield)
	case strings.HasPrefix(path, requestPath):
		p.readRequest(path, yield)
	case strings.HasPrefix(path, mtpPath):
		st := a.status.get(rowOf(path, mtpPath))
		if path == rowOf(path, mtpPath) {
			yield("Status", st.mtp())
		} else {
			yield("ResponseTopicDiscovered", st.topic)
		}
	case strings.HasPrefix(path, controllerPath):
		yield("Status", "Down") // session contexts are not spoken
		yield("CurrentRetryCount", strconv.Itoa(a.status.get(strings.TrimSuffix(path, "WebSocket.")).retries))
	case strings.HasPrefix(path, "Device.MQTT.Capabilities."):
		yield("ProtocolVersionsSupported", "5.0")
		yield("TransportProtocolSupported", "TCP/IP,TLS")
		yield("MaxNumberOfClientSubscriptions", "32")
	case strings.HasPrefix(path, mqttPath):
		st, used := a.status.client(rowOf(path, mqttPath))
		if path == rowOf(path, mqttPath) {
			yield("Status", st.clientStatus(used, obj.Stored(path+"Enable") == "true"))
		} else if used && st.up && obj.Stored(path+"Enable") == "true" {
			yield("Status", "Subscribed")
		} else {
			yield("Status", "Unsubscribed")
		}
	}
	return nil
}

func (p *provider) readRequest(path string, yield func(name, value string)) {
	q := p.a.requests.get(instance(path, requestPath))
	if q == nil {
		return
	}
	yield("Alias", "cpe-"+strconv.FormatUint(uint64(q.num), 10))
	yield("Originator", q.originator)
	yield("Command", q.command)
	yield("CommandKey", q.key)
	yield("Status", q.state())
}

// rowOf cuts a path off behind the first instance number below table.
func rowOf(path, table string) string {
	rest := strings.TrimPrefix(path, table)
	if i := strings.IndexByte(rest, '.'); i >= 0 {
		return table + rest[:i+1]
	}
	return path
}

// instance reads the first instance number below table; 0 when there is none.
func instance(path, table string) uint32 {
	rest, ok := strings.CutPrefix(path, table)
	if !ok {
		return 0
	}
	if i := strings.IndexByte(rest, '.'); i >= 0 {
		rest = rest[:i]
	}
	n, err := strconv.ParseUint(rest, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// Lists implements datamodel.Lister.
func (p *provider) Lists() []string { return []string{requestPath} }

// Instances implements datamodel.Lister.
func (p *provider) Instances(context.Context, string) ([]uint32, error) {
	return p.a.requests.numbers(), nil
}

// Commands implements datamodel.Commander.
func (p *provider) Commands() []string {
	return []string{
		"Device.LocalAgent.Request.{i}.Cancel()",
		"Device.LocalAgent.Controller.{i}.SendOnBoardRequest()",
		"Device.LocalAgent.Controller.{i}.E2ESession.Reset()",
		"Device.LocalAgent.Controller.{i}.MTP.{i}.WebSocket.Reset()",
		"Device.MQTT.Client.{i}.ForceReconnect()",
		"Device.ScheduleTimer()",
		"Device.LocalAgent.Watchdog.{i}.Reset()",
		"Device.LocalAgent.AddCertificate()",
		"Device.LocalAgent.Certificate.{i}.Delete()",
		"Device.LocalAgent.Certificate.{i}.GetFingerprint()",
		"Device.LocalAgent.ControllerTrust.RequestChallenge()",
		"Device.LocalAgent.ControllerTrust.ChallengeResponse()",
	}
}

// Run implements datamodel.Commander.
func (p *provider) Run(ctx context.Context, inv datamodel.Invocation) (map[string]string, error) {
	a := p.a
	object, name := datamodel.SplitParam(inv.Command)
	switch name {
	case "Cancel()":
		if q := a.requests.get(instance(object, requestPath)); q != nil {
			q.stop()
		}
		return nil, nil
	case "SendOnBoardRequest()":
		return nil, a.sendOnBoardRequest(ctx, object)
	case "ForceReconnect()":
		a.reconnect(func(s Spec) bool { return s.MQTT.Client == object })
		return nil, nil
	case "Reset()":
		if strings.HasPrefix(object, watchdogPath) {
			a.do(func(n *notifier) { n.pat(object) })
			return nil, nil
		}
		// There is never an E2E session to reset; a WebSocket is opened anew.
		row := strings.TrimSuffix(object, "WebSocket.")
		a.reconnect(func(s Spec) bool { return s.Row == row })
		return nil, nil
	case "AddCertificate()":
		return nil, a.addCertificate(ctx, inv.Args["Certificate"], inv.Args["Alias"])
	case "Delete()":
		return nil, a.deleteCertificate(ctx, object)
	case "GetFingerprint()":
		return a.certFingerprint(object, inv.Args["FingerprintAlgorithm"])
	case "RequestChallenge()":
		return a.requestChallenge(ctx, inv)
	case "ChallengeResponse()":
		return nil, a.challengeResponse(ctx, inv)
	case "ScheduleTimer()":
		return nil, a.scheduleTimer(ctx, inv.Args["DelaySeconds"])
	}
	return nil, datamodel.Fail(datamodel.NotImplemented, inv.Command, "")
}

// sendOnBoardRequest begins onboarding anew. // R-NOT.5, TP-469 1.60, 1.101
func (a *Agent) sendOnBoardRequest(ctx context.Context, row string) error {
	c := a.controllers().byRow[row]
	if c == nil || !c.enabled {
		return datamodel.Fail(datamodel.CommandFailed, row, "the Controller is disabled")
	}
	if _, ok := a.schema.Lookup(row + "OnBoardingComplete"); ok && !c.onboard {
		res, err := a.engine.Apply(ctx, a.system, bridge.Change{Atomic: true, Ref: "onboarding", Ops: []bridge.Op{{
			Kind: bridge.OpSet, Path: row, Settings: []bridge.Setting{{Name: "OnBoardingComplete", Value: "false", Required: true}}}}})
		if err == nil {
			err = firstError(res)
		}
		return err // the commit begins it
	}
	a.do(func(n *notifier) { n.onboardNow(row) })
	return nil
}

var (
	_ datamodel.Provider  = (*provider)(nil)
	_ datamodel.Lister    = (*provider)(nil)
	_ datamodel.Commander = (*provider)(nil)
)
