// Package bridge is the one door to the device's data model. Every protocol head, the command line and every internal
// writer read and change the tree through its four verbs, and through nothing else:
//
//	View     one consistent version, seen through a writer's protocol and rights
//	Apply    one transaction: project, validate, authorise, arbitrate, commit, apply
//	Command  a command on a resource (Operation.Run)
//	Watch    committed changes and events with their cause, at least once, from a durable position
//
// The bridge knows both protocols' views of the tree (package datamodel declares them) but no wire format: it answers
// with *datamodel.Error and the heads translate. Paths go in and come out in the spelling of the writer's protocol.
//
// # Use
//
//	e, err := bridge.New(bridge.Options{Schema: schema, Profile: profile, Store: st, Providers: providers, Log: log})
//	err = e.AddProvider(head)             // a head's own live values and commands
//	err = e.Start(ctx)                    // factory values, provider rows, background work
//	res, err := e.Apply(ctx, w, bridge.Change{Ref: msgID, Atomic: true, Ops: []bridge.Op{...}})
//	defer e.Close()                       // before the store
//
// A CWMP session reads and writes through a Shield instead: it sees the version of its InformResponse and its own
// writes, while others go on.
//
// # The way of a change
//
// A Change is staged on the store's writer goroutine against the newest version: guards, then each operation as a
// savepoint (resolve, schema and rights, Arbiter, stage), then the final state as a whole (unique keys, strong
// references, a manager that stays reachable), with the blame put on the setting that did it. Nothing there blocks:
// when live values are needed, or a provider must be asked for its veto, the transaction is given up, the provider is
// asked outside, and the change is staged again. After the commit the providers apply it in the order of commits; if
// one fails, everything the change did is put back by sys:rollback.
//
// # Arbitration
//
// Before the store there is a queue for each writer and a deficit round robin between them. On the writer goroutine the
// Arbiter judges every leaf: the rule and the phase, leases and the open session (the change waits up to 2 s and is
// staged again), damping, ownership, class order, arrival. Safety is judged on the final state and overrules all of it.
// A verdict is a pure function of its Proposal, and the journal keeps the Proposal (ProposalOf): verdicts can be
// replayed, and a new policy tried on the past.
//
// Ownership of a leaf is who last wrote it; who sets the value that is there becomes a co-owner, which makes no commit. A
// claim ends when a Controller's row is deleted or disabled, when it is released, or when it was not asserted for the
// policy's owner_ttl; then a co-owner has it. Values of the factory and of sys: writers are owned by nobody.
//
// A leaf that goes from one writer to another for the third time in 10 min is left to the class that goes first (between
// equals to who has it) for 15 min, twice as long each time, up to a day.
//
// # Caveats
//
//   - Rights and Arbiter run on the store's writer goroutine: they must be fast and must not call the engine.
//   - A veto of a provider fails the whole change, also one that need not be whole.
//   - Records of heads are not put back when a provider fails to apply.
//   - Writers without a protocol (sys:) speak canonical paths.
//   - In-memory events (Emit) do not survive a restart; commits do.
//
// # Limits
//
// 16,384 operations and 65,536 settings a change; provider budgets 1 s (read), 2 s (prepare), 5 s (apply, as waited
// for; 60 s in all), 10 s (rows), and 8 overdue calls of one provider; 1,024 in-memory events, 64 consumers; a shield
// lives 300 s, 60 s idle, 4,096 revisions; 256 rules, 256 remembered writers, 256 held resources; 512 live paths of a
// consumer and 2,048 live objects; 32 waiting changes or 256 KiB of a writer, 32 changes at the store at a time; 32 leases
// of 32 paths and 600 s, 4 of a writer; 64 claims in all; 64 conflicts; 128 leaves with co-owners, 128 releases, 128 frozen
// leaves; 1,024 leaves watched for fights.
package bridge
