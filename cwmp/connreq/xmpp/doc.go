// Package xmpp hears connection requests over XMPP (TR-069 Annex K): a client that keeps one stream to its server open,
// answers the connectionRequest IQ and nothing else. It goes through every NAT that lets TCP out.
//
// # Use
//
//	c, err := xmpp.New(xmpp.Config{
//		Domain: "xmpp.example", Username: "cpe1", Password: "…", Resource: "cwmp", UseTLS: true, TLS: tlsConfig,
//		Credentials: func() (user, password string) { … },  // of connection requests; asked for every one
//		Allowed:     func() []string { … },                 // ConnReqAllowedJabberIDs
//		Requested:   func() { … },                          // the session may start now; must not block
//		Changed:     func(s xmpp.State) { … },              // Status, ConnReqJabberID, TLS
//	})
//	err = c.Run(ctx) // until ctx ends; connects anew for ever
//
// # What it does
//
// SRV lookup or a given list of servers, STARTTLS, SASL (SCRAM-SHA-256, SCRAM-SHA-1, PLAIN only inside TLS), resource
// binding, pings. After a failure it waits a random time between nothing and RetryInitial·(RetryMultiplier/1000)^(n-1), at
// most RetryMax, so that a fleet does not come back at once.
//
// A request from a Jabber ID that is not allowed gets service-unavailable, wrong credentials get not-authorized, too many
// requests resource-constraint. A good one gets its empty result before Requested is called.
//
// # Caveats
//
// With UseTLS false, TLS is used only when the server demands it, as TR-181 has it: the credentials of connection requests
// travel inside the stream then. The server's certificate must be for Domain. There is no channel binding, no WebSocket, no
// TLS from the first byte on, and no preparation of passwords outside ASCII (they go as they are).
//
// # Promises
//
// A stanza is at most 64 KiB, 16 levels and 512 elements; DTDs, entities, comments and processing instructions end the
// stream (RFC 6120 11.1). A server cannot make the client count more than 600,000 rounds of hashing, downgrade it out of
// TLS when UseTLS is set, or inject plaintext behind STARTTLS. Credentials never appear in errors or logs.
package xmpp
