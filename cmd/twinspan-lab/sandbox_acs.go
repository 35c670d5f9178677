package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"twinspan/cwmp/soap"
)

// inSession asks the device for a session and keeps it open while do runs.
func (sb *sandbox) inSession(ctx context.Context, do func(ctx context.Context) error) error {
	release := sb.device.Hold()
	defer release()
	sb.device.SetConnectionRequestAuth(connReqUser, sb.connReqPassword)
	if err := sb.device.ConnectionRequest(ctx); err != nil {
		return fmt.Errorf("connection request: %w", err)
	}
	return do(ctx)
}

// setValues is one SetParameterValues; pairs are name, value, name, value, ...
func (sb *sandbox) setValues(ctx context.Context, key string, pairs ...string) error {
	req := &soap.SetParameterValues{ParameterKey: key}
	for i := 0; i+1 < len(pairs); i += 2 {
		req.ParameterList = append(req.ParameterList, soap.ParameterValue{Name: pairs[i], Value: pairs[i+1]})
	}
	_, err := sb.device.Call(ctx, req)
	return explain(err)
}

// explain puts the faults of single parameters into the error text.
func explain(err error) error {
	var f *soap.Fault
	if !errors.As(err, &f) || len(f.SetParameterValuesFault) == 0 {
		return err
	}
	var lines []string
	for _, p := range f.SetParameterValuesFault {
		lines = append(lines, fmt.Sprintf("%s: %d %s", p.ParameterName, p.FaultCode, p.FaultString))
	}
	return fmt.Errorf("%w: %s", err, strings.Join(lines, "; "))
}

func (sb *sandbox) getValue(ctx context.Context, name string) (string, error) {
	resp, err := sb.device.Call(ctx, &soap.GetParameterValues{ParameterNames: []string{name}})
	if err != nil {
		return "", err
	}
	r, ok := resp.(*soap.GetParameterValuesResponse)
	if !ok || len(r.ParameterList) != 1 {
		return "", fmt.Errorf("GetParameterValues of %s: unexpected answer %T", name, resp)
	}
	return r.ParameterList[0].Value, nil
}

func (sb *sandbox) addObject(ctx context.Context, table string) (row string, err error) {
	resp, err := sb.device.Call(ctx, &soap.AddObject{ObjectName: table})
	if err != nil {
		return "", fmt.Errorf("AddObject %s: %w", table, err)
	}
	r, ok := resp.(*soap.AddObjectResponse)
	if !ok {
		return "", fmt.Errorf("AddObject %s: unexpected answer %T", table, resp)
	}
	return fmt.Sprintf("%s%d.", table, r.InstanceNumber), nil
}

// fullRole is the Role of the gateway's factory values that may do everything.
const fullRole = "Device.USPAgent.ControllerTrust.Role.1"

// bringUp is what an operator's ACS writes to bring the USP side of a device up: one MQTT client, the agent's MTP on it and
// Controller A behind the broker; then Controller B, which listens for a WebSocket. All paths are CWMP's own.
func (sb *sandbox) bringUp(ctx context.Context) error {
	ref := func(row string) string { return strings.TrimSuffix(row, ".") }
	rows := map[string]string{}
	for _, r := range []struct{ name, table string }{
		{"client", "Device.MQTT.Client."}, {"mtp", "Device.USPAgent.MTP."}, {"a", "Device.USPAgent.Controller."}, {"b", "Device.USPAgent.Controller."},
	} {
		row, err := sb.addObject(ctx, r.table)
		if err != nil {
			return err
		}
		rows[r.name] = row
	}
	for _, name := range []string{"a", "b"} {
		row, err := sb.addObject(ctx, rows[name]+"MTP.")
		if err != nil {
			return err
		}
		rows[name+"mtp"] = row
	}
	wsHost, wsPort, err := sb.webSocketAddress()
	if err != nil {
		return err
	}
	return sb.setValues(ctx, provisionedKey,
		rows["client"]+"BrokerAddress", sb.broker.Host,
		rows["client"]+"BrokerPort", fmt.Sprint(sb.broker.Port),
		rows["client"]+"ProtocolVersion", "5.0",
		rows["client"]+"TransportProtocol", "TCP/IP",
		rows["client"]+"Enable", "1",
		rows["mtp"]+"Protocol", "MQTT",
		rows["mtp"]+"MQTT.Reference", ref(rows["client"]),
		rows["mtp"]+"MQTT.ResponseTopicConfigured", topicAgent,
		rows["mtp"]+"Enable", "1",
		rows["a"]+"EndpointID", controllerA,
		rows["a"]+"AssignedRole", fullRole,
		rows["a"]+"Enable", "1",
		rows["amtp"]+"Protocol", "MQTT",
		rows["amtp"]+"MQTT.AgentMTPReference", ref(rows["mtp"]),
		rows["amtp"]+"MQTT.Topic", topicA,
		rows["amtp"]+"Enable", "1",
		rows["b"]+"EndpointID", controllerB,
		rows["b"]+"AssignedRole", fullRole,
		rows["b"]+"Enable", "1",
		rows["bmtp"]+"Protocol", "WebSocket",
		rows["bmtp"]+"WebSocket.Host", wsHost,
		rows["bmtp"]+"WebSocket.Port", wsPort,
		rows["bmtp"]+"WebSocket.Path", "/usp",
		rows["bmtp"]+"WebSocket.EnableEncryption", "0",
		rows["bmtp"]+"Enable", "1",
	)
}
