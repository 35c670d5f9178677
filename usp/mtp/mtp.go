// Package mtp defines what a Message Transfer Protocol is to twinspan: something that carries USP Records, one byte
// slice each, between this endpoint and its peers. The implementations (mqtt, websocket, uds, memory) know nothing of
// messages; the agent and the controller know nothing of topics, frames and sockets. An exported suite in mtptest is
// passed by every implementation.
package mtp

import (
	"context"
	"crypto/x509"
	"errors"
	"sync/atomic"
)

var linkID atomic.Uint64

// NextLinkID gives every link of this process its own number, beginning with 1.
func NextLinkID() uint64 { return linkID.Add(1) }

// Errors that callers test with errors.Is.
//
// Send returns ErrBusy when the outbound queue stayed full until ctx ended.
var (
	ErrNotConnected = errors.New("mtp: not connected")
	ErrTooLarge     = errors.New("mtp: record is larger than the limit")
	ErrBusy         = errors.New("mtp: outbound queue is full")
)

// Identity is what a transport knows of the other side, before any record is read.
type Identity struct {
	// EndpointIDs that the peer's certificate names (urn:bbf:usp:id: SANs); empty without a client certificate.
	EndpointIDs []string
	// Claimed is the unproved Endpoint ID (WebSocket eid, UDS handshake); a hint only.
	Claimed string
	// Encrypted: the link is protected. Local: a Unix domain socket of this machine (the peer is as trusted as its file
	// mode). Broker: records of several endpoints arrive over this link.
	Encrypted, Local, Broker bool
	// Fingerprint is the SHA-256 of the peer's certificate in hex, or empty.
	Fingerprint string
	// Chain is what the peer showed, its own certificate first. Unverified: the transport did not prove that it leads to
	// a trusted root (TLSFiles.Unknown); whoever takes the records must.
	Chain      []*x509.Certificate
	Unverified bool
}

// Inbound is one received record.
type Inbound struct {
	// Record belongs to the handler; the transport does not touch it again.
	Record    []byte
	From      Identity
	Transport string // "MQTT", "WebSocket", "UDS"
	// Reply sends a record back the way this one came. nil when there is no way back.
	Reply func(ctx context.Context, record []byte) error
	// Reject tells the transport that the record was unusable: WebSocket closes with 1003, UDS sends an Error TLV and
	// closes, MQTT drops. Never nil.
	Reject func(reason string)
	// LinkID names the connection; it changes with every reconnect.
	LinkID uint64
	// Again says that the transport may have delivered this very record before (MQTT: DUP).
	Again bool
}

// Handler receives records. HandleRecord is called from the transport's reader goroutine, one call at a time for each
// connection; it must hand long work to others. ctx ends with the connection.
type Handler interface {
	HandleRecord(ctx context.Context, in Inbound)
}

// State is reported by a Transport whenever a link comes up or goes down. A client or broker transport has at most one
// link; a server reports each accepted link with its own LinkID. A transport that cannot even begin (address in use,
// broker unreachable) reports LinkID 0 with a Reason for each attempt; a server that begins to listen reports LinkID 0 with Up,
// which is no link. The callback is called from the transport's
// goroutines, one call at a time for each link, before the first record of the link is delivered; it must not block.
type State struct {
	Up     bool
	Reason string // why it is down, in a sentence, no secrets
	LinkID uint64
	// Peer is what is known of the other side of a link that came up.
	Peer Identity
	// Send sends on this very link (a broker link has no peer and leaves it nil: use Transport.Send). Set while Up.
	Send func(ctx context.Context, record []byte) error
	// Close ends this link; nil where a transport cannot end one link of several. Set while Up.
	Close func(reason string)
	// ReplyTopic is our own concrete topic on a broker, as mqtt_connect must tell it; empty elsewhere.
	ReplyTopic string
	// ClientID is the client identifier that an MQTT broker assigned to us, to be kept for later connections
	// (R-MQTT.9); empty if we had one.
	ClientID string
}

// Transport is one configured way to reach one peer or one broker. Run blocks until ctx ends, keeping the connection up
// with the standard's back-off; Send may be called from any goroutine and does not wait for the network longer than
// ctx allows.
type Transport interface {
	// Run connects and serves; it returns nil when ctx ended, an error only for configuration that can never work.
	Run(ctx context.Context, h Handler, onState func(State)) error
	// Send sends one record, which the transport owns from then on. dest is a topic for MQTT, the Endpoint ID that a client
	// claimed for a server, and ignored by point-to-point clients. nil means queued in order, not delivered: a record may
	// be lost with its link.
	Send(ctx context.Context, dest string, record []byte) error
}
