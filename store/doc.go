// Package store keeps the configured part of the device: an immutable, versioned tree in memory, made durable by one
// bbolt file. It knows paths as text, values as canonical text and instance numbers; it knows no schema, no protocol
// and no rights.
//
// # Promises
//
//   - Readers never wait: Head returns an immutable Version; no bbolt read transaction outlives a call.
//   - Update is all or nothing, also across kill -9 and power loss, and returns only after fsync.
//   - Commits have one total order; each has its own revision. Concurrent Updates share fsyncs (group commit).
//   - Instance numbers of a table are never used twice, also not after deletion or restart.
//   - The journal record of a commit is in the same bbolt transaction as its values; consumers keep cursors on it.
//
// # Caveats
//
// The function given to Update runs on the one writer goroutine, against the newest version: it must not block, must
// not call Update itself and must not have effects outside its Tx, since what it staged is lost when the commit fails.
package store
