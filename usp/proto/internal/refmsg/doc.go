// Package refmsg is usp-msg.proto as protoc-gen-go compiles it, with the protobuf runtime: the reference that tests compare packages uspmsg
// and wire with. Nothing that is shipped imports it.
package refmsg
