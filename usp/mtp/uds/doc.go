// Package uds carries USP Records over Unix domain sockets of this machine: the command line, local programs and USP
// services reach the agent this way.
//
//	s, err := uds.NewServer(uds.ServerConfig{Path: "/run/twinspan/usp.sock", EndpointID: id, ...})
//	c, err := uds.NewClient(uds.ClientConfig{Path: "/run/twinspan/usp.sock", EndpointID: id, ...})
//
// Both sides exchange Endpoint IDs in a handshake before the link counts as up. The ID is a claim; who may connect at all is
// decided by the mode of the socket, 0600 by default.
//
// # What hurts
//
// There is no keep-alive: a peer that hangs is noticed when its queue is full. TLS over the socket (an option of USP 1.4)
// is not supported. Several connections may claim one Endpoint ID, as two calls of a command line do; Send by
// Endpoint ID reaches the newest, replies reach the one that asked.
//
// # Promised
//
// The socket never exists with a wider mode than configured. Only a socket that nobody listens on is removed, never
// another kind of file, and only one process listens: it holds a lock on PATH.lock. A frame over the limit costs no
// memory.
package uds
