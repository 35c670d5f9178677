// Package udp hears UDP connection requests and keeps the NAT binding that they come through alive (TR-069 Annex G, the
// former TR-111 part 2), with a client for classic STUN (RFC 3489).
//
// # Use
//
//	l, err := udp.Listen(udp.Config{
//		Address: ":7547", Server: "stun.example:3478",          // no Server: requests only, no STUN
//		Credentials: func() (user, password string) { … },      // of connection requests; asked for every datagram
//		Requested:   func() { … },                              // the session may start now; must not block
//		Changed:     func(s udp.State) { … },                   // NATDetected and UDPConnectionRequestAddress
//	})
//	err = l.Run(ctx)                                            // until ctx ends; joins everything it started
//
// Request with its Encode is the other side, for an ACS; Message is the STUN codec for both.
//
// # What it does
//
// One socket hears the requests and sends the Binding Requests, so that both share one NAT binding. Each of them carries
// CONNECTION-REQUEST-BINDING, the one after a change of the mapped address BINDING-CHANGE too, and with a user name USERNAME
// and MESSAGE-INTEGRITY. Between KeepAliveMin and KeepAliveMax the longest silence that the binding survives is searched: a
// second socket asks the server to answer to the mapped address of the first (RESPONSE-ADDRESS), and when no answer comes,
// the binding was gone. A server that does not do RESPONSE-ADDRESS ends the search: the minimum is used then.
//
// A request is one datagram, GET with ts, id, un, cn and sig in the query. It is dropped without an answer when anything is
// wrong with it, when it was seen before, and when it is older than the newest good one.
//
// # Caveats
//
// Classic STUN knows IPv4 only. It is not STUN of RFC 5389: no cookie, and integrity over text padded to 64 bytes. What was
// seen is remembered in memory, so that after a restart one old request may be played back once; all it causes is a session.
// With Config.Now the clock of the ACS may be a day ahead of ours, not more: one wrong datagram must not lock the right
// ones out for ever.
//
// # Promises
//
// Datagrams are read up to 2 KiB, 100 of them a second are looked at, 64 wait at most, and at most Config.PerMinute requests
// are accepted. Nothing that a stranger sends causes an answer, so that the port cannot be used to amplify a flood.
package udp
