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
// # Use
//
//	s, err := store.Open("/var/lib/twinspan/store.db", store.Options{})
//	if errors.Is(err, store.ErrCorrupt) { // the bad file was kept aside, the error says where
//		s, err = store.Open(...) // begins empty: the owner decides
//	}
//	c, err := s.Update(ctx, store.Meta{Writer: "cli", Kind: "set"}, func(tx *store.Tx) error {
//		row, err := tx.AddRow("Device.IP.Interface.")
//		...
//		return tx.Set("Device.IP.Interface.1.Enable", "true", 0)
//	})
//	v := s.Head() // or c.Version: immutable, to be read for as long as wanted
//
// A dry run or the isolated view of a session is Version.Overlay. A consumer of changes takes Changed, reads Journal
// from its Cursor, moves the cursor, and waits. OpenMemory is the same store without a file; package storetest holds
// the suite that both pass.
//
// # The file
//
// One bbolt file, fixed pages of 4 KiB, no stored freelist. Buckets: sys (state, salt), val (parameters), obj
// (instance counters, rows), attr, jrn (journal by revision), cur (cursors), wr (names of writers), rec (records of
// heads). Every record carries a CRC-32C, and the state a sum over all of them, so that flipped bits and lost pages
// are found when the file is opened, before bbolt maps it. Secret values are in val as they are (the file has mode
// 0600) and in the journal as salted hashes.
//
// A commit of one parameter writes seven pages and syncs once, data and meta page together. A power cut may leave the new
// meta page over missing pages: Open verifies everything, finds that out and goes back to the commit before (Recovered says so),
// which is whole and was the last one acknowledged. Cursors and refused changes wait up to a second for a commit to ride in. The
// journal is trimmed a sixteenth at a time.
//
// # Caveats
//
// A commit that failed in the very last step (the sync) is reported as failed and taken back by the
// next one, but a crash in between may bring it back, whole.
//
// When the file is full, what does not grow the store still works, at the price of the older half of the journal.
// bbolt grows a file by doubling it up to 16 MiB: a MaxSize that is no power of two is not used up.
//
// The function given to Update runs while no other does, on the goroutine of a caller or of the store, against the newest version: it must not block, must
// not call Update itself and must not have effects outside its Tx, since what it staged is lost when the commit fails.
package store
