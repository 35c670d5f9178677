// Package proto holds our own spelling of the two USP 1.4 protobuf files, from which packages uspmsg and usprecord are
// generated, and compares package wire with the protobuf runtime. To regenerate: `go generate ./usp/proto` (or run usp/proto/generate.sh); protoc 3.21 must be installed, the
// Go plugin is pinned in go.mod. The generated files are checked in, since users build without protoc.
//
// Names, numbers and types are the wire format and may not be changed; testdata/fields.tsv states them once more, taken
// from the standard, and the test of this package compares.
package proto

//go:generate ./generate.sh
