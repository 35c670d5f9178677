package store

import (
	"syscall"

	"go.etcd.io/bbolt"
)

// dropResident gives back the pages of the mapping that opening has read: without a stored freelist bbolt looks at
// every page once, and a full journal would count as 7 MiB of resident memory for ever. The pages stay in the page
// cache and come back when they are needed. Only right after opening, before there is another user.
func dropResident(db *bbolt.DB, size int64) {
	if i := db.Info(); i != nil && i.Data != 0 && size > 0 {
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, i.Data, uintptr(size), syscall.MADV_DONTNEED)
	}
}
