// Package uspmsg is the generated code of the USP Messages (protobuf package "usp"). Its source is
// usp/proto/usp-msg.proto; see package proto of this project on how to regenerate it; package wire encodes and decodes. Build and read Messages through package usp
// where it has a helper: it checks limits and one-of rules that the generated code does not.
package uspmsg
