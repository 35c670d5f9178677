// Package usp holds what every part of the USP side shares: Endpoint IDs, opening and wrapping Records, decoding and
// checking Messages under limits, the error codes with the one converter from *datamodel.Error (ErrorFrom), and the
// retry formula of the standard.
//
// # Use
//
//	rec, err := usp.OpenRecord(data, ownID, usp.DefaultLimits())  // transport bytes -> checked record
//	msg, err := usp.DecodeMessage(rec.Payload, usp.DefaultLimits())
//	...
//	out, err := usp.WrapMessage(ownID, rec.From, reply)           // message -> transport bytes
//
// An error of OpenRecord is always a *RecordError; its Action says what the standard wants done: ignore silently, tell
// the transport that it was garbage, or answer with a Disconnect record. An error of DecodeMessage is always a
// *MessageError; if Answer is true the peer gets an Error message (Reply builds it), else silence (R-MTP.5).
//
// The folders below: proto, uspmsg and usprecord are the wire format; mtp and its sub-packages carry records; agent is
// the agent core; controller the client side.
//
// # What hurts
//
// A decoded record shares no memory with its input, but Record.Payload and a Message's bytes are one copy each: a
// record near the limit costs about three times its size while it is looked at. Only records without session context
// are spoken; others are answered with the standard's own refusals (7102, 7103, 7106).
//
// # Promised
//
// Malformed input of any kind gives an error, never a panic, and allocates no more than Limits allow. All functions are
// pure and safe for concurrent use.
package usp
