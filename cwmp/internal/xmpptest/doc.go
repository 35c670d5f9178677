// Package xmpptest starts a real XMPP server, prosody, for the tests of connection requests over XMPP.
//
// It is imported by tests only. The server runs on loopback with a configuration and accounts of its own in a temporary
// folder and is killed when the test ends. Without prosody on the machine the test fails and says how to get it, unless
// TWINSPAN_NO_PEERS=1 says that this machine has no peers to test against.
package xmpptest
