// Package mqtt carries USP Records over an MQTT 5 broker. One Client serves one broker connection, which several
// Controllers (or, on the side of a Controller, several Agents) share: Send names the topic of the one that is meant, and
// Inbound.Reply answers on the Response Topic of the record that came.
//
//	c, err := mqtt.NewClient(mqtt.Config{Broker: "mqtts://broker.example", EndpointID: id, ResponseTopic: "usp/agent/1", ...})
//	err = c.Run(ctx, handler, onState)
//
// State.ReplyTopic is our own topic, which mqtt_connect must name; State.ClientID the identifier that the broker gave us
// and that the caller keeps for the next start.
//
// The MQTT packets are the work of github.com/eclipse/paho.golang; connecting, subscribing, the outbox and the retry
// formula are ours, since the order of these steps is prescribed. Versions before 5 and MQTT over WebSocket are not
// supported.
//
// # What hurts
//
// nil from Send means queued. With QoS 1 the broker's acknowledgement is awaited by the library, but a refusal in it
// (PUBACK with an error) is not told to the sender; requests have answers and notifications have retries for that.
// Run returns an error, and does not try again, when there is no topic to be reached on (R-MQTT.16): that is a matter of
// configuration.
//
// # Promised
//
// A packet of the broker over the size limit is refused by its header, before memory is spent. A handler may block: it
// holds up this broker's records and nothing else. A broker that reads or answers nothing is left after the keep-alive
// time, at the latest when a write takes ten seconds.
package mqtt
