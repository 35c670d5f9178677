// Package broker is the USP Broker of TR-369's appendix on software modularization: other programs of the device, USP Services,
// register parts of the data model with it over a Unix domain socket, and the Controllers of the agent manage those parts as
// if the agent had them.
//
//	b, err := broker.New(broker.Options{EndpointID: eid, Socket: "/var/run/usp/broker_controller_path"})
//	a, err := agent.New(agent.Options{..., Services: b})
//	err = engine.AddProvider(b) // Device.USPServices.
//	engine.Start(ctx); a.Start(ctx)
//	err = b.Start(ctx, a, engine)
//	...
//	b.Close(); a.Close()
//
// # Parts
//
//   - broker.go: options, life, links; service.go: one Service, requests to it and their answers
//   - register.go: who has which path; model.go: what a Service supports; paths.go: which Service a path concerns
//   - read.go, write.go, kinds.go, operate.go: requests of Controllers, split, sent and merged
//   - mirror.go: Subscriptions of Controllers as Subscriptions at the Service, and notifications back
//   - provider.go: Device.USPServices.USPService.
//
// # What is whose
//
// A registered path names an object (with all below it), a parameter, a command or an event. No two Services have paths that are
// equal, above or below each other, and no path may be, or be above, something that the agent itself has (7029). Where the
// table Device.USPServices.Trust. has rows, a Service needs one that covers what it registers.
//
// What a Service has is not in the agent's store: it is not journaled, not arbitrated between managers, and the ACS does not see
// it. The roles of Controllers count for it: the Broker asks for every right before it forwards, and leaves out of every answer
// what may not be read and what the Service had not registered.
//
// # All or nothing
//
// A Set, Add or Delete with allow_partial=false is forwarded when all of its objects belong to one Service, and refused with
// 7002 when they belong to several, or to a Service and the agent: no two of them can promise to do both or nothing. Nothing is
// changed then. With allow_partial=true each does its part and answers for it.
//
// # What hurts
//
// Roles are judged on the paths. A Permission whose Targets hold a search expression over rows of a Service covers none of them,
// since the Broker does not have their values. For a search path in a write the Broker first asks which rows match and judges
// each; a row that appears between this question and the write itself is not judged. Paths that follow references through a
// Service are refused. A Service is believed about its Endpoint ID: who may connect is decided by the mode of the socket.
//
// # Promised
//
// Nothing a Service sends stops the process or grows without bound; Limits names every bound. A Service that does not answer
// costs its own requests their time limit and nobody else anything; after three such in a row its link is closed. When a
// link ends, everything of the Service goes but the Controllers' Subscriptions, which are mirrored again when it returns.
package broker
