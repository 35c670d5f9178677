// Package refrecord is usp-record.proto as protoc-gen-go compiles it; see refmsg.
package refrecord
