// Package websocket carries USP Records over WebSockets: a Client that dials one Controller (or, for a Controller, one
// Agent) and keeps the connection, and a Server that accepts many.
//
//	c, err := websocket.NewClient(websocket.ClientConfig{URL: "wss://acs.example/usp", EndpointID: id, ...})
//	s, err := websocket.NewServer(websocket.ServerConfig{Addr: ":8443", Path: "/usp", EndpointID: id, TLS: cfg, ...})
//	err = c.Run(ctx, handler, onState)
//
// Reading is done by github.com/gorilla/websocket. Frames are written by this package: the library splits what a client
// sends at its buffer size, which R-WS.14a discourages, and needs one system call for each record; the writer here puts
// all waiting records into one write.
//
// # What hurts
//
// A Server knows a peer by what it claims in ?eid= until a record is checked, and closes an older session of the same
// claim (R-WS.4); it never lets an unproved claim close a session that a certificate proved. A browser that sends a
// foreign Origin is refused.
//
// # Promised
//
// One goroutine reads and one writes for each connection; both have ended when Run returns. A peer that stops reading
// costs at most the outbound queue (256 records, 4 MiB); one that is silent for two ping intervals is dropped.
package websocket
