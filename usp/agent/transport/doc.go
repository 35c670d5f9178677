// Package transport builds the real transports (MQTT 5, WebSocket, Unix domain sockets) for the agent from what the data
// model says. It is a package of its own so that the agent's logic and tests know no sockets.
//
//	factory, err := transport.New(transport.Config{TLS: mtp.TLSFiles{CAFile: "ca.pem", CertFile: "agent.pem", KeyFile: "agent.key"}})
//	a, err := agent.New(agent.Options{Factory: factory, ...})
//
// # What hurts
//
// Interfaces parameters are not looked at: servers listen on Config.Listen. MQTT speaks version 5.0 over TCP and TLS; the
// will and user properties of Device.MQTT.Client. are not sent.
package transport
