// Package soap is the CWMP wire format: SOAP 1.1 envelopes with the RPCs of TR-069 Amendment 6 in both directions, so
// that the device and a test ACS share one codec.
//
// # Use
//
//	env, err := soap.Decode(body, soap.Options{})         // body as received, bounded by Options.Limits
//	buf, err := soap.Append(buf[:0], &soap.Envelope{      // or Encode(w, env) to stream
//		Header: soap.Header{ID: env.Header.ID},
//		Body:   &soap.GetParameterValuesResponse{Count: n, Values: seq},
//	})
//
// Every RPC is a struct with the element names of the schema as field names; each describes itself once (its fields
// method), and that description both reads and writes, so element order cannot differ between the two.
//
// In: a bounded etree document. Names are compared by namespace URI, never by prefix; cwmp-1-0 to cwmp-1-4 are accepted;
// unknown elements and attributes are ignored; arrayType counts and array item names are not looked at; the children of
// an RPC may be qualified. Out: a streaming writer, unqualified children in schema order, namespace cwmp-1-2 unless the
// Envelope says otherwise.
//
// # Errors
//
// Decode returns *Error. Its Kind says what the receiver owes the sender, Error.Fault builds that answer, and the
// Envelope returned beside it carries the header (and so the ID to echo) whenever it could be read.
//
// # Caveats
//
// A decoded Message keeps no reference to the input. Messages are plain data without locks. Values given as an iterator
// are walked once per Encode; a wrong Count is an error, after part of the text may have been written.
//
// # Promises
//
// Decode never panics. With the default limits the worst document it accepts needs 11 MiB while it is read; a
// SetParameterValues of 5,000 parameters needs 4 MiB. What Decode accepts, Encode can write, and that text decodes to
// the same message.
package soap
