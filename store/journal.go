package store

import "fmt"

// What a store with a file keeps of its journal in memory, for consumers that keep up.
const (
	recentEntries = 128
	recentBytes   = 128 << 10
	readChunk     = 64 // entries read from the file at a time
)

// recent is the end of the journal in memory; without a file it is the whole journal.
type recent struct {
	entries    []*Entry // without gaps
	sizes      []int
	bytes      int64
	maxEntries int
	maxBytes   int64
	disk       bool
	first      uint64 // oldest revision in the whole journal; last+1 when it is empty
	last       uint64
}

func (r *recent) init(o Options, disk bool, rev, first uint64) {
	r.maxEntries, r.maxBytes, r.disk = o.JournalEntries, o.JournalBytes, disk
	if disk {
		r.maxEntries, r.maxBytes = recentEntries, recentBytes
	}
	r.first, r.last = first, rev
	if first == 0 {
		r.first = rev + 1
	}
}

// add appends an entry and lets the oldest go; the newest is always kept.
func (r *recent) add(e *Entry, size int) {
	r.entries, r.sizes = append(r.entries, e), append(r.sizes, size)
	r.bytes += int64(size)
	r.last = e.Rev
	n := 0
	for len(r.entries)-n > 1 && (len(r.entries)-n > r.maxEntries || r.bytes > r.maxBytes) {
		r.bytes -= int64(r.sizes[n])
		r.entries[n] = nil
		n++
	}
	if n > 0 {
		r.entries, r.sizes = r.entries[n:], r.sizes[n:]
	}
	if !r.disk {
		r.first = r.entries[0].Rev
	}
}

// after returns the entries after a revision; ok is false if they are not all in memory.
func (r *recent) after(rev uint64) (out []*Entry, ok bool) {
	if rev >= r.last {
		return nil, true
	}
	if len(r.entries) == 0 || rev+1 < r.entries[0].Rev {
		return nil, false
	}
	return r.entries[rev+1-r.entries[0].Rev:], true
}

// Journal calls fn for the entries after revision `after`, oldest first, until fn returns false; it ends with the
// newest durable entry at the time it gets there. ErrCursorGone if entries after `after` were trimmed. fn runs on the caller's
// goroutine without any lock and outside any transaction of the file; it may call Update.
func (s *Store) Journal(after uint64, fn func(e *Entry) bool) error {
	for {
		s.mu.Lock()
		closed, first, last := s.closed, s.recent.first, s.recent.last
		list, ok := s.recent.after(after)
		if ok {
			list = append([]*Entry(nil), list...)
		}
		s.mu.Unlock()
		if closed {
			return ErrClosed
		}
		if after+1 < first {
			return fmt.Errorf("%w: it begins with revision %d, the cursor is %d", ErrCursorGone, first, after)
		}
		if !ok {
			var err error
			if list, err = s.disk.entries(after, readChunk); err != nil {
				return err
			}
		}
		if len(list) == 0 {
			return nil
		}
		for _, e := range list {
			if e.Rev > last { // in the file, but the disk does not have it yet: it may still come to nothing
				return nil
			}
			if e.Rev != after+1 { // trimmed while we were reading
				break
			}
			if !fn(e) {
				return nil
			}
			after = e.Rev
		}
	}
}

// JournalStart is the oldest revision that Journal can give; Head().Rev()+1 if the journal is empty.
func (s *Store) JournalStart() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recent.first
}
