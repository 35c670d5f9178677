// Package connreq is the HTTP connection request server of a CPE (TR-069 3.2.2): an ACS sends an authenticated GET to a
// path that only it knows, and the CPE opens a session.
//
// # Use
//
//	server, err := connreq.Start(connreq.Config{
//		Address: ":7547", Path: connreq.NewPath(),            // keep the path; it is part of ConnectionRequestURL
//		Credentials: func() (user, password string) { … },    // asked for every request
//		Requested:   func() { … },                            // the session may start now; must not block
//	})
//	url := connreq.URL(address, server.Port(), path)
//	defer server.Close()
//
// # What it answers
//
// 200 without body, sent before Requested is called; 401 with Digest challenges for missing or wrong credentials; 404
// for another path and 405 for another method; 503 without a challenge when there are too many requests or connections,
// or during a session with Config.RefuseInSession. The query of the request is ignored.
//
// # Caveats
//
// Plain HTTP only, as the standard has it: Digest protects the password, not the request. Without a user name or
// password everything is refused. Several requests before the session starts call Requested several times; making one
// session of them is the business of its owner.
//
// # Promises
//
// A flood costs neither memory nor much time: at most Config.MaxConnections connections, 8 KiB of header and 5 seconds
// each, a global rate of requests that are looked at, nonces that need no memory. Close is idempotent and returns after
// the accept loop and the last handler, and so the last call of Requested, have ended.
package connreq
