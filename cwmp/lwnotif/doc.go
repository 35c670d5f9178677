// Package lwnotif sends lightweight notifications (TR-069 Annex M): one UDP datagram that tells an ACS changed values,
// without a session, without an answer.
//
// # Use
//
//	s := lwnotif.New(log)
//	s.Configure(lwnotif.Config{Host: "acs.example", Port: 7547, Username: …, Password: …, Device: id, Interval: time.Hour})
//	go s.Run(ctx)
//	s.Changed(lwnotif.Param{Name: …, Type: "xsd:string", Value: …}, true) // active: goes out at once, with the passive ones
//
// Message with Encode and Parse is the format, for both sides.
//
// # The datagram
//
// An HTTP/1.1 POST with Host, Content-Type, Content-Length and Signature, and a Notification document of the namespace
// urn:broadband-forum-org:cwmp:lwnotif-1-0 as its body. Signature is HMAC-SHA1 over the body, in hexadecimal, with the
// password by which the CPE authenticates to the ACS; UN in the body is the user name that belongs to it.
//
// # Caveats
//
// UDP loses datagrams, and nobody notices: a value that must arrive wants Notification 1, 2, 4 or 6 as well. Values travel
// in the clear. Without a user name and password nothing is sent, because nobody could trust it.
//
// # Promises
//
// A value waits at most once, the newest; at most 1,000 wait, more are dropped and counted. A datagram has up to
// Config.MaxDatagram bytes (1,400), so that it is not fragmented; what does not fit goes into the next one. A single
// value may make one larger, up to 8 KiB; above that it is dropped and counted. Active changes go out at most once a second.
package lwnotif
