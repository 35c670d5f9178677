// Package agent is the USP agent core: it takes records from transports, answers their messages out of the bridge, tells
// subscribers what happened, and keeps the transports up that the data model configures.
//
//	a, err := agent.New(agent.Options{EndpointID: eid, Engine: engine, Factory: factory, Log: log})
//	engine.Start(ctx)
//	err = a.Start(ctx)
//	...
//	a.Close()
//
// New must come before Engine.Start, because the agent is also a provider: it serves the live values and commands of
// Device.LocalAgent. and the status of its own clients.
//
// # Parts
//
//   - record.go, message.go: records in, who sent them, dispatch under bounds, answers out
//   - get.go, instances.go, supported.go, write.go, operate.go: the messages
//   - order.go: which requests of one peer may run at the same time
//   - notifier.go, timers.go, outbox.go: subscriptions, events, Periodic!, onboarding, Notify with retry; one goroutine
//     decides, one per recipient sends
//   - manager.go, config.go: transports as Device.LocalAgent. and Device.MQTT. say, whoever wrote it there
//   - certs.go, challenge.go, tofu.go: whom certificates make trusted, and how strangers are let in and lifted
//   - rules.go, monitor.go: thresholds, watchdogs and monitors that Controllers order
//   - services.go: what the USP Broker (usp/broker) needs, and the socket for Controllers of this device
//   - provider.go, schedule.go: live values and commands
//   - trust and subscribe: permissions and the subscription index; transport: the real transports
//
// # Configuration is the tree
//
// Controllers, transports, roles and subscriptions are rows of the data model. Whoever commits a change there, an ACS
// through Device.USPAgent. included, changes the agent at once; there is no second configuration. The one exception is
// the local listener of Options for the command line, which needs no row.
//
// # Ordering
//
// Requests of one peer run at the same time, up to a bound, because waiting for each fsync in turn would waste group
// commit; but writes that touch the same place, and commands after writes, run in the order of arrival. Notifications to
// one recipient leave in the order of the commits.
//
// # What hurts
//
// Session contexts are refused (7106). A record's signature is verified where there is one, but proves nothing alone: it
// does not cover the payload. Certificates are not checked for revocation. A commit is told to
// subscribers at least once: after a crash a notification can come twice. Sixteen Sets in flight of one Controller share
// fsyncs only as long as they write different leaves. A transport that cannot be built (a missing certificate file, say)
// is tried again when its rows change or the agent starts.
//
// # Promised
//
// Nothing a peer sends stops the process or grows without bound; Limits names every bound. Close returns when every
// goroutine of the agent has ended.
package agent
