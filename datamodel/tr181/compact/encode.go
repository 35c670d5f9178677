package compact

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"twinspan/datamodel"
)

// Encode writes a schema in the compact form. The schema's slices must be sorted as datamodel says. Errors: more than
// 65,535 records of a kind, which no known model comes near.
func Encode(s *datamodel.Schema) ([]byte, error) {
	e := &encoder{
		strings: map[string]uint16{"": 0},
		facts:   map[string]uint16{},
		lists:   map[section]map[string]uint16{},
		refs:    map[string]uint16{},
	}
	e.addString("")
	for _, list := range []section{secRangeLists, secEnumLists, secNameLists} {
		e.lists[list] = map[string]uint16{"": 0}
		e.records(list, 0, 0)
	}
	name, modelVersion := e.str(s.Name), e.str(s.Version)
	e.object(s.Root(), 0)
	if e.err != nil {
		return nil, e.err
	}

	out := []byte(magic)
	out = binary.LittleEndian.AppendUint16(out, version)
	out = binary.LittleEndian.AppendUint16(out, 0)
	out = binary.LittleEndian.AppendUint32(out, 0)
	out = binary.LittleEndian.AppendUint16(out, name)
	out = binary.LittleEndian.AppendUint16(out, modelVersion)
	for i, b := range e.sections {
		out = binary.LittleEndian.AppendUint32(out, uint32(len(b)/recordSize[i]))
	}
	for _, b := range e.sections {
		out = append(out, b...)
	}
	binary.LittleEndian.PutUint32(out[crcOffset:], crc32.ChecksumIEEE(out[crcStart:]))
	return out, nil
}

type encoder struct {
	sections [sectionCount][]byte
	strings  map[string]uint16
	facts    map[string]uint16
	refs     map[string]uint16
	lists    map[section]map[string]uint16
	err      error
}

func (e *encoder) number(sec section) uint16 {
	n := len(e.sections[sec]) / recordSize[sec]
	if n >= math.MaxUint16 {
		if e.err == nil {
			e.err = fmt.Errorf("compact: more than %d records in section %d", math.MaxUint16-1, sec)
		}
		return 0
	}
	return uint16(n)
}

func (e *encoder) records(sec section, values ...uint16) {
	for _, v := range values {
		e.sections[sec] = binary.LittleEndian.AppendUint16(e.sections[sec], v)
	}
}

func (e *encoder) addString(s string) uint16 {
	n := e.number(secStringEnds)
	e.sections[secPool] = append(e.sections[secPool], s...)
	e.sections[secStringEnds] = binary.LittleEndian.AppendUint32(e.sections[secStringEnds], uint32(len(e.sections[secPool])))
	return n
}

func (e *encoder) str(s string) uint16 {
	n, ok := e.strings[s]
	if !ok {
		n = e.addString(s)
		e.strings[s] = n
	}
	return n
}

// object writes o, then everything below it in pre-order.
func (e *encoder) object(o *datamodel.Object, parent uint16) {
	self := e.number(secObjects)
	flags := uint16(o.Protocols&datamodel.Both) | uint16(o.Access(datamodel.CWMP))<<4 | uint16(o.Access(datamodel.USP))<<6
	if o.Multi {
		flags |= objMulti
	}
	maxEntries := uint32(math.MaxUint32)
	if o.MaxEntries >= 0 {
		maxEntries = uint32(o.MaxEntries)
	}
	e.records(secObjects, parent, e.str(o.Name), e.str(o.Path), flags)
	e.sections[secObjects] = binary.LittleEndian.AppendUint32(e.sections[secObjects], uint32(o.MinEntries))
	e.sections[secObjects] = binary.LittleEndian.AppendUint32(e.sections[secObjects], maxEntries)
	e.records(secObjects, e.str(o.NumEntries), e.str(o.Enable))
	e.records(secObjects,
		e.number(secParams), uint16(len(o.Params)),
		e.number(secCommands), uint16(len(o.Commands)),
		e.number(secEvents), uint16(len(o.Events)),
		e.number(secKeys), uint16(len(o.Keys)))
	for _, p := range o.Params {
		e.records(secParams, e.str(p.Name), e.factsOf(p.Facts(datamodel.CWMP)), e.factsOf(p.Facts(datamodel.USP)))
	}
	for _, c := range o.Commands {
		flags := uint16(0)
		if c.Async {
			flags = commandAsync
		}
		in := e.args(c.Inputs)
		out := e.args(c.Outputs)
		e.records(secCommands, e.str(c.Name), flags, in, uint16(len(c.Inputs)), out, uint16(len(c.Outputs)))
	}
	for _, v := range o.Events {
		e.records(secEvents, e.str(v.Name), e.args(v.Args), uint16(len(v.Args)))
	}
	for _, k := range o.Keys {
		flags := uint16(0)
		if k.Functional {
			flags = keyFunctional
		}
		e.records(secKeys, flags, e.names(k.Params))
	}
	for _, c := range o.Children {
		e.object(c, self)
	}
}

func (e *encoder) args(args []datamodel.Argument) uint16 {
	// Facts first: writing them must not come between the records of the list.
	for i := range args {
		e.factsOf(args[i].Facts)
	}
	first := e.number(secArgs)
	for i := range args {
		e.records(secArgs, e.str(args[i].Name), e.factsOf(args[i].Facts))
	}
	return first
}

// list writes the elements once for every different content.
func (e *encoder) list(lists, elements section, content []byte) uint16 {
	if n, ok := e.lists[lists][string(content)]; ok {
		return n
	}
	n, first := e.number(lists), e.number(elements)
	e.sections[elements] = append(e.sections[elements], content...)
	e.records(lists, first, uint16(len(content)/recordSize[elements]))
	e.lists[lists][string(content)] = n
	return n
}

func (e *encoder) names(names []string) uint16 {
	var b []byte
	for _, s := range names {
		b = binary.LittleEndian.AppendUint16(b, e.str(s))
	}
	return e.list(secNameLists, secNames, b)
}

func (e *encoder) ranges(ranges []datamodel.Range) uint16 {
	var b []byte
	for _, r := range ranges {
		var flags uint16
		var lo, hi int64
		if r.Min != nil {
			flags, lo = flags|rangeHasMin, *r.Min
		}
		if r.Max != nil {
			flags, hi = flags|rangeHasMax, *r.Max
		}
		b = binary.LittleEndian.AppendUint16(b, flags)
		b = binary.LittleEndian.AppendUint64(b, uint64(lo))
		b = binary.LittleEndian.AppendUint64(b, uint64(hi))
		b = binary.LittleEndian.AppendUint64(b, uint64(r.Step))
	}
	return e.list(secRangeLists, secRanges, b)
}

func (e *encoder) enum(values []datamodel.EnumValue) uint16 {
	var b []byte
	for _, v := range values {
		var flags uint16
		if v.Optional {
			flags |= enumOptional
		}
		if v.Deprecated {
			flags |= enumDeprecated
		}
		b = binary.LittleEndian.AppendUint16(b, e.str(v.Value))
		b = binary.LittleEndian.AppendUint16(b, flags)
	}
	return e.list(secEnumLists, secEnums, b)
}

func (e *encoder) ref(r *datamodel.PathRef) uint16 {
	if r == nil {
		return 0
	}
	var flags uint16
	if r.Strong {
		flags = refStrong
	}
	var b []byte
	for _, v := range []uint16{flags, e.str(r.Target), e.names(r.Parents)} {
		b = binary.LittleEndian.AppendUint16(b, v)
	}
	return e.intern(e.refs, secRefs, b)
}

// intern appends a record unless an equal one exists, and returns its number plus one.
func (e *encoder) intern(known map[string]uint16, sec section, record []byte) uint16 {
	n, ok := known[string(record)]
	if !ok {
		n = e.number(sec) + 1
		e.sections[sec] = append(e.sections[sec], record...)
		known[string(record)] = n
	}
	return n
}

func (e *encoder) factsOf(f *datamodel.Facts) uint16 {
	if f == nil {
		return 0
	}
	var flags uint16
	for _, is := range []struct {
		set  bool
		flag uint16
	}{
		{f.List, flagList}, {f.Hidden, flagHidden}, {f.Secured, flagSecured}, {f.Command, flagCommand},
		{f.HasDefault, flagHasDefault}, {f.FactoryOnly, flagFactoryOnly}, {f.Mandatory, flagMandatory},
		{f.ForcedInform, flagForcedInform},
	} {
		if is.set {
			flags |= is.flag
		}
	}
	b := []byte{byte(f.Type), byte(f.Access)}
	for _, v := range []uint16{
		flags, e.str(f.Named), e.ranges(f.ListLen), e.ranges(f.ListSize), e.ranges(f.Size), e.ranges(f.Range),
		e.enum(f.Enum), e.names(f.Patterns), e.ref(f.PathRef), e.str(f.EnumRef), e.str(f.Units), e.str(f.Default),
		e.str(f.ActiveNotify), e.str(f.Version), e.str(f.Status),
	} {
		b = binary.LittleEndian.AppendUint16(b, v)
	}
	return e.intern(e.facts, secFacts, b)
}
