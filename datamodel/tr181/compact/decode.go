package compact

import (
	"fmt"
	"hash/crc32"
	"math"
	"strings"

	"twinspan/datamodel"
)

// Check verifies the checksum of data that comes from a file. Decode does not: the embedded model cannot be damaged
// apart from the program.
func Check(data string) error {
	if len(data) < headerSize || data[:len(magic)] != magic {
		return fmt.Errorf("not a compiled data model: no %q at its start", magic)
	}
	if crc32.ChecksumIEEE([]byte(data[crcStart:])) != u32(data, crcOffset) {
		return fmt.Errorf("%w: checksum differs", errCorrupt)
	}
	return nil
}

// Decode builds the part of the data model that sel keeps; a Selector without profile keeps everything. Objects above
// something kept are kept, and so is the NumberOfEntries parameter of a kept table unless it is excluded by name.
// Unique keys with a parameter that is not kept are left out. Equal facts are shared.
func Decode(data string, sel *datamodel.Selector) (*datamodel.Schema, error) {
	d := &decoder{}
	if err := d.header(data); err != nil {
		return nil, err
	}
	if sel == nil {
		sel = (*datamodel.Profile)(nil).Selector()
	}
	if err := d.choose(sel); err != nil {
		return nil, err
	}
	root := d.build()
	if d.err != nil {
		return nil, d.err
	}
	return datamodel.NewSchema(d.str(d.name), d.str(d.version), root), nil
}

type decoder struct {
	sections      [sectionCount]string
	count         [sectionCount]int
	name, version uint16
	err           error

	keepObject  []bool
	keepParam   []bool
	keepCommand []bool
	keepEvent   []bool

	facts      []*datamodel.Facts // by number
	factSlab   []datamodel.Facts
	rangeLists [][]datamodel.Range
	enumLists  [][]datamodel.EnumValue
	nameLists  [][]string
	refs       []*datamodel.PathRef
}

func u16(s string, at int) uint16 {
	_ = s[at+1]
	return uint16(s[at]) | uint16(s[at+1])<<8
}

func u32(s string, at int) uint32 { return uint32(u16(s, at)) | uint32(u16(s, at+2))<<16 }

func i64(s string, at int) int64 { return int64(uint64(u32(s, at)) | uint64(u32(s, at+4))<<32) }

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: "+format, append([]any{errCorrupt}, args...)...)
	}
}

func (d *decoder) header(data string) error {
	if len(data) < headerSize || data[:len(magic)] != magic {
		return fmt.Errorf("not a compiled data model: no %q at its start", magic)
	}
	if v := u16(data, 4); v != version {
		return fmt.Errorf("compiled data model has form %d, this program reads form %d: compile it again", v, version)
	}
	d.name, d.version = u16(data, 12), u16(data, 14)
	rest := data[headerSize:]
	for i := range sectionCount {
		n := uint64(u32(data, 16+4*int(i)))
		size := n * uint64(recordSize[i])
		if size > uint64(len(rest)) {
			return fmt.Errorf("%w: section %d ends behind the data", errCorrupt, i)
		}
		if i != secPool && n > math.MaxUint16+1 {
			return fmt.Errorf("%w: section %d has %d records", errCorrupt, i, n)
		}
		d.sections[i], rest = rest[:size], rest[size:]
		d.count[i] = int(n)
	}
	if rest != "" {
		return fmt.Errorf("%w: %d bytes behind the last section", errCorrupt, len(rest))
	}
	if d.count[secObjects] == 0 {
		return fmt.Errorf("%w: no objects", errCorrupt)
	}
	return d.checkLists()
}

// checkLists verifies that strings and lists follow one another without overlap.
func (d *decoder) checkLists() error {
	last := uint32(0)
	for i := range d.count[secStringEnds] {
		end := u32(d.sections[secStringEnds], 4*i)
		if end < last || uint64(end) > uint64(len(d.sections[secPool])) {
			return fmt.Errorf("%w: string %d has no place in the pool", errCorrupt, i)
		}
		last = end
	}
	for _, pair := range [][2]section{{secRangeLists, secRanges}, {secEnumLists, secEnums}, {secNameLists, secNames}} {
		next := 0
		for i := range d.count[pair[0]] {
			rec := d.record(pair[0], i)
			if int(u16(rec, 0)) != next {
				return fmt.Errorf("%w: list %d of section %d does not follow", errCorrupt, i, pair[0])
			}
			_, next = d.span(rec, 0, pair[1])
		}
	}
	return d.err
}

// record returns record n of a section, or a zero record and a noted error.
func (d *decoder) record(sec section, n int) string {
	if n < 0 || n >= d.count[sec] {
		d.fail("record %d of section %d does not exist", n, sec)
		return zeroRecord[:recordSize[sec]]
	}
	size := recordSize[sec]
	return d.sections[sec][n*size : (n+1)*size]
}

var zeroRecord = strings.Repeat("\x00", 64)

func (d *decoder) str(n uint16) string {
	if n == 0 {
		return ""
	}
	start := u32(d.record(secStringEnds, int(n)-1), 0)
	end := u32(d.record(secStringEnds, int(n)), 0)
	if d.err != nil { // the offsets were checked, but the number may have been none
		return ""
	}
	return d.sections[secPool][start:end]
}

// span returns first and end of a run of records, empty if it does not fit.
func (d *decoder) span(record string, at int, sec section) (first, end int) {
	first = int(u16(record, at))
	end = first + int(u16(record, at+2))
	if end > d.count[sec] {
		d.fail("records %d to %d of section %d do not exist", first, end, sec)
		return 0, 0
	}
	return first, end
}

// choose checks the tree of objects and marks what is kept.
func (d *decoder) choose(sel *datamodel.Selector) error {
	d.keepObject = make([]bool, d.count[secObjects])
	d.keepParam = make([]bool, d.count[secParams])
	d.keepCommand = make([]bool, d.count[secCommands])
	d.keepEvent = make([]bool, d.count[secEvents])
	var nextParam, nextCommand, nextEvent, nextKey, nextArg int
	for i := range d.keepObject {
		rec := d.record(secObjects, i)
		path := d.checkObject(i, rec)
		if d.err != nil {
			return d.err
		}
		keep := sel.Keep(path, "") || i == 0
		keep = d.mark(rec, objParams, secParams, &nextParam, d.keepParam, path, sel) || keep
		keep = d.mark(rec, objCommands, secCommands, &nextCommand, d.keepCommand, path, sel) || keep
		keep = d.mark(rec, objEvents, secEvents, &nextEvent, d.keepEvent, path, sel) || keep
		d.follows(rec, objKeys, secKeys, &nextKey)
		d.checkArgs(rec, &nextArg)
		for o := i; keep && !d.keepObject[o]; o = int(u16(d.record(secObjects, o), objParent)) {
			d.keepObject[o] = true
		}
		if d.err != nil {
			return d.err
		}
	}
	d.keepEntryCounts(sel)
	return d.err
}

// checkObject verifies that parents come before children and that paths are made of names.
func (d *decoder) checkObject(i int, rec string) string {
	path, name := d.str(u16(rec, objPath)), d.str(u16(rec, objName))
	above := ""
	if i > 0 {
		parent := int(u16(rec, objParent))
		if parent >= i {
			d.fail("object %d comes before its parent", i)
			return path
		}
		above = d.str(u16(d.record(secObjects, parent), objPath))
	} else if u16(rec, objParent) != 0 || u16(rec, objFlags)&objMulti != 0 {
		d.fail("the root has a parent or is a table")
	}
	end := "."
	if u16(rec, objFlags)&objMulti != 0 {
		end = ".{i}."
	}
	if len(path) > maxPathBytes || name == "" || strings.Contains(name, ".") || len(path) != len(above)+len(name)+len(end) ||
		path[:len(above)] != above || path[len(above):len(above)+len(name)] != name || path[len(above)+len(name):] != end {
		d.fail("object %d: path %q does not fit name %q", i, path, name)
	}
	return path
}

func (d *decoder) mark(rec string, at int, sec section, next *int, keep []bool, path string, sel *datamodel.Selector) bool {
	first, end := d.span(rec, at, sec)
	if first == end {
		return false
	}
	d.follows(rec, at, sec, next)
	found, last := false, ""
	for i := first; i < end; i++ {
		name := d.str(u16(d.record(sec, i), 0))
		if name <= last {
			d.fail("%q is not sorted in %q", name, path)
			return false
		}
		last = name
		if sel.Keep(path, name) {
			keep[i], found = true, true
		}
	}
	return found
}

// follows verifies that every record belongs to exactly one owner.
func (d *decoder) follows(rec string, at int, sec section, next *int) {
	first, end := d.span(rec, at, sec)
	if first == end {
		return
	}
	if first != *next {
		d.fail("record %d of section %d does not follow", first, sec)
	}
	*next = end
}

func (d *decoder) checkArgs(rec string, next *int) {
	for i, end := d.span(rec, objCommands, secCommands); i < end; i++ {
		d.follows(d.record(secCommands, i), 4, secArgs, next)
		d.follows(d.record(secCommands, i), 8, secArgs, next)
	}
	for i, end := d.span(rec, objEvents, secEvents); i < end; i++ {
		d.follows(d.record(secEvents, i), 2, secArgs, next)
	}
}

// keepEntryCounts adds the NumberOfEntries parameters of kept tables.
func (d *decoder) keepEntryCounts(sel *datamodel.Selector) {
	for i, kept := range d.keepObject {
		if !kept || i == 0 {
			continue
		}
		rec := d.record(secObjects, i)
		want := u16(rec, objEntries)
		if want == 0 {
			continue
		}
		parent := d.record(secObjects, int(u16(rec, objParent)))
		first, end := d.span(parent, objParams, secParams)
		for p := first; p < end; p++ {
			if d.keepParam[p] || d.str(u16(d.record(secParams, p), 0)) != d.str(want) {
				continue
			}
			d.keepParam[p] = !sel.Excluded(d.str(u16(parent, objPath)), d.str(want))
			break
		}
	}
}
