// Package httpc is the HTTP side of a CPE: it POSTs envelopes to an ACS by the rules of TR-069 3.4 and knows nothing
// of what is in them.
//
// # Use
//
//	client, err := httpc.New(httpc.Config{URL: acsURL, Username: user, Password: pass})
//	session := client.Session()           // one CWMP session: one TCP connection, own cookies, own redirect target
//	defer session.Close()
//	resp, err := session.Post(ctx, body)  // nil body: the empty POST
//
// A Client lasts as long as its configuration and remembers only the authentication scheme of the ACS and TLS tickets.
// A Session is for one goroutine at a time.
//
// # What a Post does
//
// It answers up to three challenges (Digest MD5, MD5-sess, SHA-256; Basic over TLS, unasked), follows up to five
// redirects in a row with method and body kept, opens a new connection when the ACS closed the old one between two
// messages or announced that it would (Keep-Alive: timeout), undoes gzip and deflate, and stops reading at the limit.
// It never sends a message twice on its own after anything of it may have been processed: that is an error, and the
// session has failed.
//
// # Caveats
//
// The body is held in memory by the caller until Post returns. Credentials go to the host of the configured URL only;
// Config.TrustRedirects extends that. Basic over plain HTTP is refused unless Config.BasicInClear. Proxies and the
// environment are not looked at. There is no HTTP/2. What an ACS sends unasked on an idle connection is reported by
// net/http through the standard log package; a program that must keep its own format redirects that one.
//
// # Promises
//
// Memory for an answer is bounded by Config.MaxResponseBytes, for headers by 64 KiB, for cookies by 64 of 4 KiB. No
// error and no log line holds a credential.
package httpc
