package store

import (
	"cmp"
	"slices"
	"sort"
)

// chunkMax is the number of entries of a chunk: changing one entry of a sorted map copies one chunk and the list of
// chunks, about 2 KB in a table of 10,000 rows.
const chunkMax = 64

type chunk[K cmp.Ordered, V any] struct {
	owner uint64
	keys  []K
	vals  []V
}

// sorted is a persistent sorted map: a list of sorted chunks. A transaction changes what bears its owner mark in place
// and copies everything else, so that older versions stay as they are. A nil *sorted is the empty map.
type sorted[K cmp.Ordered, V any] struct {
	owner  uint64
	n      int
	chunks []*chunk[K, V]
}

func (s *sorted[K, V]) len() int {
	if s == nil {
		return 0
	}
	return s.n
}

// find returns the chunk where k is or would be inserted.
func (s *sorted[K, V]) find(k K) int {
	i := sort.Search(len(s.chunks), func(i int) bool { return s.chunks[i].keys[0] > k })
	return max(i-1, 0)
}

func (s *sorted[K, V]) get(k K) (v V, ok bool) {
	if s == nil || s.n == 0 {
		return v, false
	}
	c := s.chunks[s.find(k)]
	i, ok := slices.BinarySearch(c.keys, k)
	if !ok {
		return v, false
	}
	return c.vals[i], true
}

// own returns a map that owner may change.
func (s *sorted[K, V]) own(owner uint64) *sorted[K, V] {
	if s == nil {
		return &sorted[K, V]{owner: owner}
	}
	if s.owner == owner {
		return s
	}
	return &sorted[K, V]{owner: owner, n: s.n, chunks: slices.Clone(s.chunks)}
}

// ownChunk makes chunk i of an owned map changeable.
func (s *sorted[K, V]) ownChunk(i int) *chunk[K, V] {
	c := s.chunks[i]
	if c.owner != s.owner {
		c = &chunk[K, V]{owner: s.owner, keys: slices.Clone(c.keys), vals: slices.Clone(c.vals)}
		s.chunks[i] = c
	}
	return c
}

// set returns the map with k bound to v.
func (s *sorted[K, V]) set(owner uint64, k K, v V) *sorted[K, V] {
	s = s.own(owner)
	if s.n == 0 {
		s.n, s.chunks = 1, []*chunk[K, V]{{owner: owner, keys: []K{k}, vals: []V{v}}}
		return s
	}
	ci := s.find(k)
	c := s.ownChunk(ci)
	i, ok := slices.BinarySearch(c.keys, k)
	if ok {
		c.vals[i] = v
		return s
	}
	s.n++
	if len(c.keys) < chunkMax {
		c.keys, c.vals = insertAt(c.keys, i, k), insertAt(c.vals, i, v)
		return s
	}
	if i == chunkMax && ci == len(s.chunks)-1 { // ascending insertion fills chunks
		s.chunks = append(s.chunks, &chunk[K, V]{owner: owner, keys: []K{k}, vals: []V{v}})
		return s
	}
	h := chunkMax / 2
	right := &chunk[K, V]{owner: owner, keys: slices.Clone(c.keys[h:]), vals: slices.Clone(c.vals[h:])}
	clear(c.vals[h:])
	c.keys, c.vals = c.keys[:h], c.vals[:h]
	s.chunks = insertAt(s.chunks, ci+1, right)
	if i > h {
		c, i = right, i-h
	}
	c.keys, c.vals = insertAt(c.keys, i, k), insertAt(c.vals, i, v)
	return s
}

// del returns the map without k.
func (s *sorted[K, V]) del(owner uint64, k K) *sorted[K, V] {
	if _, ok := s.get(k); !ok {
		return s
	}
	s = s.own(owner)
	ci := s.find(k)
	c := s.ownChunk(ci)
	i, _ := slices.BinarySearch(c.keys, k)
	c.keys, c.vals = slices.Delete(c.keys, i, i+1), slices.Delete(c.vals, i, i+1)
	s.n--
	switch {
	case s.n == 0:
		return nil
	case len(c.keys) == 0:
		s.chunks = slices.Delete(s.chunks, ci, ci+1)
	case ci > 0 && len(c.keys)+len(s.chunks[ci-1].keys) <= chunkMax/2:
		s.merge(ci - 1)
	case ci+1 < len(s.chunks) && len(c.keys)+len(s.chunks[ci+1].keys) <= chunkMax/2:
		s.merge(ci)
	}
	return s
}

// merge joins chunk i and the one after it, so that deletions leave no list of tiny chunks.
func (s *sorted[K, V]) merge(i int) {
	c, d := s.ownChunk(i), s.chunks[i+1]
	c.keys, c.vals = append(c.keys, d.keys...), append(c.vals, d.vals...)
	s.chunks = slices.Delete(s.chunks, i+1, i+2)
}

// each visits all entries in ascending order until fn returns false, and reports whether it never did.
func (s *sorted[K, V]) each(fn func(k K, v V) bool) bool {
	if s == nil {
		return true
	}
	for _, c := range s.chunks {
		for i, k := range c.keys {
			if !fn(k, c.vals[i]) {
				return false
			}
		}
	}
	return true
}

// insertAt puts v before index i, in place where there is room. slices.Insert does the same for any number of values and weighs five times as
// much for every type that it is used with.
func insertAt[S ~[]E, E any](s S, i int, v E) S {
	s = append(s, v)
	copy(s[i+1:], s[i:])
	s[i] = v
	return s
}
