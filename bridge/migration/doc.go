// Package migration moves a device from CWMP to USP, and back when that does not work out: the phase machine, the gates
// that open a phase, the KPIs that the gates look at, the confirm windows, the rescue, and the report of what the two
// sides agree on.
//
//	m, err := migration.Open(ctx, engine, migration.Options{Config: c, Initial: bridge.PhaseDualCWMP, Arbiter: arbiterOf})
//	go m.Run(ctx)                                   // after engine.Start, before the heads are told to go
//	token, err := m.Request(ctx, caller, bridge.PhaseDualUSP, migration.Ask{})
//	err = m.Confirm(ctx, caller, token)             // over a new connection
//
// # The machine
//
// Next is a pure function from a state, an event and facts to a state; a test explores it exhaustively. The rest of the
// package finds out the facts, and commits each move with its record, its line of history and EnableCWMP in one commit,
// so that a power cut leaves a move made or not made. The hand-over follows P4Runtime: the managers' writes are stopped
// first, what was under way commits or is refused, then the move commits, then the new order is in force, then all are
// told.
//
// A move forward waits for its confirmation over a connection that is younger than the move, and is taken back at its
// deadline and by a restart. EnableCWMP, written directly, is a request for the edge between dual-usp and usp-only: it
// is refused wherever the edge would be, and otherwise opens the same window.
//
// # What hurts
//
// Windows of KPIs live in memory and are kept every hour: a restart may cost a gate up to an hour of what it had seen.
// In cwmp-only the USP side still answers reads; its writes are refused. Rescue goes to the stored https ACS only, and
// only where policy says so (by default while usp-only is not confirmed).
//
// # Limits
//
// 16 moves of history, 120 slots for each KPI, 64 gate conditions, 4,096 asserted leaves in the convergence report, of
// which at most 500 differences are listed; requests for moves are served one at a time.
package migration
