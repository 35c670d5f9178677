package datamodel

import (
	"slices"
	"strconv"
	"strings"
)

// MemTree is the in-memory twin of the bridge's tree: a Tree for tests and small tools. Build it with Set and AddRow,
// then read; building and reading at the same time is not safe.
type MemTree struct {
	values map[string]string
	rows   map[string][]uint32
}

// NewMemTree returns an empty tree.
func NewMemTree() *MemTree {
	return &MemTree{values: map[string]string{}, rows: map[string][]uint32{}}
}

// Set stores a canonical value and creates the rows on the way.
func (t *MemTree) Set(path, value string) {
	t.AddRow(path[:strings.LastIndexByte(path, '.')+1])
	t.values[path] = value
}

// AddRow creates every row that an object path ("Device.IP.Interface.1.IPv4Address.2.") goes through.
func (t *MemTree) AddRow(object string) {
	for start := 0; ; {
		dot := strings.IndexByte(object[start:], '.')
		if dot < 0 {
			return
		}
		if n, err := strconv.ParseUint(object[start:start+dot], 10, 32); err == nil && n > 0 {
			table := object[:start]
			if at, found := slices.BinarySearch(t.rows[table], uint32(n)); !found {
				rows := append(t.rows[table], 0)
				copy(rows[at+1:], rows[at:])
				rows[at] = uint32(n)
				t.rows[table] = rows
			}
		}
		start += dot + 1
	}
}

// DeleteRow removes a row with everything below it.
func (t *MemTree) DeleteRow(row string) {
	for p := range t.values {
		if strings.HasPrefix(p, row) {
			delete(t.values, p)
		}
	}
	for table := range t.rows {
		if strings.HasPrefix(table, row) {
			delete(t.rows, table)
		}
	}
	head := strings.TrimSuffix(row, ".")
	cut := strings.LastIndexByte(head, '.') + 1
	if n, err := strconv.ParseUint(head[cut:], 10, 32); err == nil {
		t.rows[head[:cut]] = slices.DeleteFunc(t.rows[head[:cut]], func(m uint32) bool { return m == uint32(n) })
	}
}

// Instances implements Tree.
func (t *MemTree) Instances(table string) []uint32 { return t.rows[table] }

// HasInstance implements Tree.
func (t *MemTree) HasInstance(table string, n uint32) bool {
	_, found := slices.BinarySearch(t.rows[table], n)
	return found
}

// Value implements Tree.
func (t *MemTree) Value(_ *Param, path string) (string, bool) {
	v, ok := t.values[path]
	return v, ok
}
