// Package wire encodes and decodes the messages of packages uspmsg and usprecord in the binary format of protobuf. It does what the
// protobuf runtime does for a schema like USP's (proto3: strings, bytes, numbers, maps of strings, messages, at most one oneof a message, no
// cycles), driven by the struct tags that protoc-gen-go writes, and nothing else: no descriptors, no registry, no text or JSON format, no kept
// unknown fields. That is a tenth of the runtime's weight (decision 7). Package usp/proto compares it with the runtime in both directions.
//
// Decoding is strict about UTF-8 and lenient where protobuf is: unknown fields, and known ones of another wire type, are passed over;
// a singular message that stands twice is merged, of the alternatives of a oneof the last wins. Who must refuse that calls Scan first, which
// also bounds what decoding may allocate.
//
// Everything here is safe for concurrent use; messages themselves are not.
package wire
