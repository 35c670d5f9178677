// Package usp runs the certification test plan of USP agents, TP-469 1.4.0, against any agent from outside: it plays the
// Controllers, sends what the plan says over a real MTP, and compares what comes back on the wire with the plan's metric.
//
//	report, err := usp.Run(ctx, usp.Config{MTP: "ws", Agent: usp.Process("bin/twinspan"), Features: usp.DefaultFeatures})
//	err = report.Err()                                 // nil only when no applicable test failed
//
// # Parts
//
//   - tp469.tsv: every test of the plan as a fact (id, area, level, features, title in our words)
//   - peer.go: a Controller with a log of everything that arrived, which answers nothing by itself but Notify
//   - driver.go: how an agent is started, reset and restarted: this project's binary, or any command
//   - bench.go, run.go: broker, listeners and lanes; one verdict for each test
//   - the other files: the tests, one function for each id, ordered as the plan is
//
// # Lanes
//
// A third of the plan is waiting. Every lane has an agent of its own, so that slow tests wait beside each other. An
// agent that the runner cannot start several times has one lane.
//
// # Substitutions
//
// The plan lets a tester substitute parameters and commands. Here: rights are tested with a second Controller whose
// Role changes, while the first one keeps full access; asynchronous commands are Device.ScheduleTimer(); subscriptions that must
// survive a restart are made Persistent, which the plan forgets (9.10).
//
// # What hurts
//
// A test that passes shows what the plan's metric asks for, not more. What the bench simulates (TLS certificates of its
// own authority, a reboot that restarts the process) is named in docs/conformance.md.
package usp
