// Package webfile gets files from servers and puts them there, by HTTP and HTTPS, for whoever moves files for a manager: the
// transfers that an ACS asks for and the firmware images of both protocols.
//
//	c := webfile.New(roots, certs)
//	err := c.Fetch(ctx, webfile.Request{URL: url, Username: user, Password: secret, MaxSize: 64 << 20}, file)
//
// Errors are *Error with a Reason, so that each protocol finds its own numbers. Their texts are for the manager: they hold no
// address and no secret.
//
// Authentication is Basic or Digest, as the server asks (Digest where both are offered). Five redirects are followed, never from https to
// http; credentials go only to the host that was named. One connection for each file. The certificate of the server is always
// verified. Bounds: Request.MaxSize bytes, a minute of silence, six hours for a body, 30 s to connect and as long for TLS, 64 KiB of headers.
package webfile
