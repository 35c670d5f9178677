// Package cwmp is the CWMP (TR-069 Amendment 6) head of the agent: the CPE that keeps one ACS informed, lets it read and
// write the tree through package bridge, and remembers across restarts what it still owes it.
//
// # Use
//
//	engine, err := bridge.New(...)
//	cpe, err := cwmp.New(cwmp.Options{Engine: engine, DataDir: dir, Log: log}) // before engine.Start: it is a provider too
//	err = engine.Start(ctx)
//	err = cpe.Run(ctx) // until ctx ends, Close, or a restart that the ACS asked for (*RestartError)
//
// Everything an operator sets is read live from Device.ManagementServer.: URL, credentials, periodic Inform, retry values,
// EnableCWMP. A change by anybody takes effect when the session in progress is over.
//
// # Promises
//
//   - One session at a time; it reads the tree as it was at the InformResponse plus its own writes (bridge.Shield).
//   - An event the standard says must not be lost is in the store before the answer that caused it leaves.
//   - The ACS is never told of its own change; every other change of a watched parameter is told with its newest value.
//   - Every write is one RPC, one bridge.Change, one commit; ParameterKey rides in it.
//   - GetRPCMethods lists exactly what works; everything else is fault 9000.
//
// # Caveats
//
// ChangeDUState needs Options.Modules, and is fault 9000 without. SetVouchers, GetOptions and Kicked, which the standard
// deprecates, are not built. ScheduleDownload cannot ask a user (mode 4). A Download of a Controller is reported to the ACS
// when its command ended, not before. A test runs as the USP command of its object; one that the device lacks cannot be
// requested, and the state of tests does not survive a restart. A read of a large subtree is held in memory once while it is
// encoded. A change of a value that the device serves live is seen by comparing, at most every LivePoll, and only for
// parameters that the ACS asked to be told about.
//
// Beside HTTP, an ACS wakes the CPE by UDP (through a NAT with STUN) and XMPP, and is told by lightweight notifications; files
// reach*.go follow the parameters that rule them. An ACS offered by DHCP (Options.DiscoveryFiles) is taken where nobody but
// the factory has set a URL, or where nobody has answered ten sessions in a row. The build tag omit_reach leaves all that out:
// SupportedConnReqMethods is HTTP then, and what would switch the rest on is refused.
//
// # Limits
//
// 16 transfers, 16 ChangeDUState of 16 operations, 64 ScheduleInform, 16 tests at a time (an hour each), 4,096 rows of a result
// table, 100 tries in a download window, 128 events, 64 in one Inform.
//
// One goroutine owns the mutable state (Run); sessions, transfers, tests, software modules and the connection-request server
// send it closures.
package cwmp
