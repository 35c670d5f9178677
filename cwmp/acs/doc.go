// Package acs is a small auto-configuration server for tests and the sandbox: correct enough to run whole sessions
// with any CPE, strict enough to note what the CPE does wrong, and able to misbehave on request. It is not a
// production ACS: it keeps everything in memory and knows devices only while it runs.
//
// # Use
//
//	server, err := acs.Start(acs.Config{Auth: acs.Digest, Username: "cpe", Password: "secret"})
//	defer server.Close()
//	// point the CPE at server.URL()
//	device, err := server.WaitDevice(ctx)                       // the first one that sends an Inform
//	answer, err := device.Call(ctx, &soap.GetParameterValues{…}) // in the current or the next session
//	release := device.Hold()                                    // later sessions stay open until release()
//	err = device.ConnectionRequest(ctx)
//
// Call returns the *soap.Fault of the CPE as its error. server.Inject makes the server misbehave, Violations lists what
// a CPE did against the protocol, Counters what went over the wire.
//
// # Caveats
//
// A held session keeps an HTTP request waiting, at most Config.MaxHold, because the CPE gives up too. Faults apply to
// all devices. There is one session per device; a new Inform ends the older one.
//
// # Promises
//
// Everything is bounded: devices, queued calls, kept records, body sizes. All methods are safe for concurrent use; Close
// is idempotent, ends waiting calls and joins the server's goroutines.
package acs
