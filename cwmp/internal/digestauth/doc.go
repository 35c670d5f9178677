// Package digestauth is the server side of HTTP Digest authentication (RFC 2617 and RFC 7616) for the connection
// request server and the test ACS.
//
//	auth, err := digestauth.New(digestauth.Options{Realm: "cpe", Algorithms: []string{"MD5", "SHA-256"}})
//	switch auth.Check(request, "", lookup) {
//	case digestauth.OK:
//	case digestauth.Stale: auth.Challenge(header, "", true) // 401
//	default:               auth.Challenge(header, "", false)
//	}
//
// Nonces carry their own time and seal, so that handing them out costs no memory, whoever asks. Only a nonce that came
// back with the right password takes a place in the table of use counts, which has a bound and an expiry; when it is
// full the oldest one is declared stale, so that a nonce pushed out cannot be replayed.
//
// An Authenticator is safe for concurrent use and has no goroutine. It offers qop=auth only; credentials without qop
// (RFC 2069) are accepted once for each nonce.
package digestauth
