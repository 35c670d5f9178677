// Package usprecord is the generated code of the USP Record (protobuf package "usp_record"). Its source is
// usp/proto/usp-record.proto; see package proto of this project on how to regenerate it. Package usp wraps and opens Records with the
// checks of the standard; use that instead of package wire.
package usprecord
