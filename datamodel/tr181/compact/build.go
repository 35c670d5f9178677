package compact

import (
	"math"

	"twinspan/datamodel"
)

// build makes the kept objects. Records are allocated in a few slabs: one allocation per element would cost twice the
// memory.
func (d *decoder) build() *datamodel.Object {
	d.facts = make([]*datamodel.Facts, d.count[secFacts])
	d.rangeLists = make([][]datamodel.Range, d.count[secRangeLists])
	d.enumLists = make([][]datamodel.EnumValue, d.count[secEnumLists])
	d.nameLists = make([][]string, d.count[secNameLists])
	d.refs = make([]*datamodel.PathRef, d.count[secRefs])
	d.factSlab = make([]datamodel.Facts, 0, d.countFacts())

	objects := make([]datamodel.Object, 0, countTrue(d.keepObject))
	params := make([]datamodel.Param, 0, countTrue(d.keepParam))
	paramPointers := make([]*datamodel.Param, 0, cap(params))
	commands := make([]datamodel.Command, 0, countTrue(d.keepCommand))
	commandPointers := make([]*datamodel.Command, 0, cap(commands))
	events := make([]datamodel.Event, 0, countTrue(d.keepEvent))
	eventPointers := make([]*datamodel.Event, 0, cap(events))
	byNumber := make([]*datamodel.Object, len(d.keepObject))

	for i, kept := range d.keepObject {
		if !kept {
			continue
		}
		rec := d.record(secObjects, i)
		objects = append(objects, datamodel.Object{})
		o := &objects[len(objects)-1]
		byNumber[i] = o
		d.object(o, rec)
		if i > 0 {
			o.Parent = byNumber[u16(rec, objParent)]
		}

		start := len(paramPointers)
		for p, end := d.span(rec, objParams, secParams); p < end; p++ {
			if d.keepParam[p] {
				params = append(params, d.param(d.record(secParams, p), o))
				paramPointers = append(paramPointers, &params[len(params)-1])
			}
		}
		o.Params = paramPointers[start:len(paramPointers):len(paramPointers)]

		start = len(commandPointers)
		for c, end := d.span(rec, objCommands, secCommands); c < end; c++ {
			if d.keepCommand[c] {
				commands = append(commands, d.command(d.record(secCommands, c), o))
				commandPointers = append(commandPointers, &commands[len(commands)-1])
			}
		}
		o.Commands = commandPointers[start:len(commandPointers):len(commandPointers)]

		start = len(eventPointers)
		for e, end := d.span(rec, objEvents, secEvents); e < end; e++ {
			if d.keepEvent[e] {
				events = append(events, d.event(d.record(secEvents, e), o))
				eventPointers = append(eventPointers, &events[len(events)-1])
			}
		}
		o.Events = eventPointers[start:len(eventPointers):len(eventPointers)]
		d.keys(o, rec)
	}
	d.children(byNumber, len(objects))
	for i := range objects {
		d.dropAbsent(&objects[i])
	}
	return byNumber[0]
}

func countTrue(set []bool) int {
	n := 0
	for _, b := range set {
		if b {
			n++
		}
	}
	return n
}

// countFacts counts the different facts of everything kept, so that their slab never grows.
func (d *decoder) countFacts() int {
	used := make([]bool, d.count[secFacts]+1)
	use := func(n uint16) {
		if int(n) < len(used) {
			used[n] = true
		} else {
			d.fail("facts %d do not exist", n)
		}
	}
	args := func(rec string, at int) {
		for a, end := d.span(rec, at, secArgs); a < end; a++ {
			use(u16(d.record(secArgs, a), 2))
		}
	}
	for p, kept := range d.keepParam {
		if kept {
			rec := d.record(secParams, p)
			use(u16(rec, 2))
			use(u16(rec, 4))
		}
	}
	for c, kept := range d.keepCommand {
		if kept {
			args(d.record(secCommands, c), 4)
			args(d.record(secCommands, c), 8)
		}
	}
	for e, kept := range d.keepEvent {
		if kept {
			args(d.record(secEvents, e), 2)
		}
	}
	used[0] = false
	return countTrue(used)
}

func (d *decoder) object(o *datamodel.Object, rec string) {
	flags := u16(rec, objFlags)
	o.Name, o.Path = d.str(u16(rec, objName)), d.str(u16(rec, objPath))
	o.Protocols = datamodel.Protocol(flags) & datamodel.Both
	o.Multi = flags&objMulti != 0
	for shift, proto := range map[int]datamodel.Protocol{4: datamodel.CWMP, 6: datamodel.USP} {
		access := datamodel.Access(flags >> shift & 3)
		if access > datamodel.WriteOnceReadOnly {
			d.fail("object %q has access %d", o.Path, access)
			access = datamodel.ReadOnly
		}
		o.SetAccess(proto, access)
	}
	o.MinEntries = int(min(u32(rec, objMin), math.MaxInt32))
	o.MaxEntries = -1
	if n := u32(rec, objMax); n != math.MaxUint32 {
		o.MaxEntries = int(min(n, math.MaxInt32))
	}
	o.NumEntries, o.Enable = d.str(u16(rec, objEntries)), d.str(u16(rec, objEnable))
}

func (d *decoder) param(rec string, o *datamodel.Object) datamodel.Param {
	p := datamodel.MakeParam(d.str(u16(rec, 0)), d.fact(u16(rec, 2)), d.fact(u16(rec, 4)))
	p.Object = o
	if p.Protocols == 0 {
		d.fail("parameter %q of %q has no facts", p.Name, o.Path)
	}
	return p
}

func (d *decoder) command(rec string, o *datamodel.Object) datamodel.Command {
	return datamodel.Command{
		Name: d.str(u16(rec, 0)), Object: o, Async: u16(rec, 2)&commandAsync != 0,
		Inputs: d.args(rec, 4), Outputs: d.args(rec, 8),
	}
}

func (d *decoder) event(rec string, o *datamodel.Object) datamodel.Event {
	return datamodel.Event{Name: d.str(u16(rec, 0)), Object: o, Args: d.args(rec, 2)}
}

func (d *decoder) args(rec string, at int) []datamodel.Argument {
	first, end := d.span(rec, at, secArgs)
	if first == end {
		return nil
	}
	args := make([]datamodel.Argument, 0, end-first)
	for a := first; a < end; a++ {
		r := d.record(secArgs, a)
		f := d.fact(u16(r, 2))
		if f == nil {
			d.fail("argument %q has no facts", d.str(u16(r, 0)))
		}
		args = append(args, datamodel.Argument{Name: d.str(u16(r, 0)), Facts: f})
	}
	return args
}

// keys takes over the unique keys whose parameters are all kept.
func (d *decoder) keys(o *datamodel.Object, rec string) {
	for k, end := d.span(rec, objKeys, secKeys); k < end; k++ {
		r := d.record(secKeys, k)
		key := datamodel.UniqueKey{Functional: u16(r, 0)&keyFunctional != 0, Params: d.nameList(u16(r, 2))}
		complete := len(key.Params) > 0
		for _, name := range key.Params {
			complete = complete && o.Param(name) != nil
		}
		if complete {
			o.Keys = append(o.Keys, key)
		}
	}
}

// children fills in the sorted children; numbers grow in pre-order of sorted siblings, which is checked.
func (d *decoder) children(byNumber []*datamodel.Object, kept int) {
	counts := make(map[*datamodel.Object]int, kept)
	for _, o := range byNumber {
		if o != nil && o.Parent != nil {
			counts[o.Parent]++
		}
	}
	slab := make([]*datamodel.Object, 0, kept)
	for _, o := range byNumber {
		if o == nil {
			continue
		}
		if n := counts[o]; n > 0 {
			start := len(slab)
			slab = slab[:start+n]
			o.Children = slab[start:start:len(slab)]
		}
		if p := o.Parent; p != nil {
			if n := len(p.Children); n > 0 && p.Children[n-1].Name >= o.Name {
				d.fail("object %q is not sorted", o.Path)
			}
			p.Children = append(p.Children, o)
		}
	}
}

// dropAbsent forgets the names of parameters that are not kept.
func (d *decoder) dropAbsent(o *datamodel.Object) {
	if o.Parent == nil || o.Parent.Param(o.NumEntries) == nil {
		o.NumEntries = ""
	}
	if o.Param(o.Enable) == nil {
		o.Enable = ""
	}
}

func (d *decoder) fact(n uint16) *datamodel.Facts {
	if n == 0 || int(n) > len(d.facts) || d.err != nil {
		return nil
	}
	if f := d.facts[n-1]; f != nil {
		return f
	}
	rec := d.record(secFacts, int(n)-1)
	if rec[factType] > byte(datamodel.TypeHexBinary) || rec[factAccess] > byte(datamodel.WriteOnceReadOnly) {
		d.fail("facts %d have type %d, access %d", n, rec[factType], rec[factAccess])
		return nil
	}
	flags := u16(rec, factFlags)
	d.factSlab = append(d.factSlab, datamodel.Facts{
		Type: datamodel.Type(rec[factType]), Access: datamodel.Access(rec[factAccess]),
		List: flags&flagList != 0, Hidden: flags&flagHidden != 0, Secured: flags&flagSecured != 0,
		Command: flags&flagCommand != 0, HasDefault: flags&flagHasDefault != 0,
		FactoryOnly: flags&flagFactoryOnly != 0, Mandatory: flags&flagMandatory != 0,
		ForcedInform: flags&flagForcedInform != 0,
		Named:        d.str(u16(rec, factNamed)),
		ListLen:      d.rangeList(u16(rec, factListLen)),
		ListSize:     d.rangeList(u16(rec, factListSize)),
		Size:         d.rangeList(u16(rec, factSize)),
		Range:        d.rangeList(u16(rec, factRange)),
		Enum:         d.enumList(u16(rec, factEnum)),
		Patterns:     d.nameList(u16(rec, factPatterns)),
		PathRef:      d.ref(u16(rec, factRef)),
		EnumRef:      d.str(u16(rec, factEnumRef)),
		Units:        d.str(u16(rec, factUnits)),
		Default:      d.str(u16(rec, factDefault)),
		ActiveNotify: d.str(u16(rec, factNotify)),
		Version:      d.str(u16(rec, factVersion)),
		Status:       d.str(u16(rec, factStatus)),
	})
	f := &d.factSlab[len(d.factSlab)-1]
	d.facts[n-1] = f
	return f
}

func (d *decoder) rangeList(n uint16) []datamodel.Range {
	if n == 0 {
		return nil
	}
	first, end := d.span(d.record(secRangeLists, int(n)), 0, secRanges)
	if d.err != nil {
		return nil
	}
	if d.rangeLists[n] != nil {
		return d.rangeLists[n]
	}
	list := make([]datamodel.Range, 0, end-first)
	ends := make([]int64, 2*(end-first))
	for i := first; i < end; i++ {
		rec := d.record(secRanges, i)
		r := datamodel.Range{Step: i64(rec, 18)}
		e := ends[2*(i-first):]
		e[0], e[1] = i64(rec, 2), i64(rec, 10)
		if u16(rec, 0)&rangeHasMin != 0 {
			r.Min = &e[0]
		}
		if u16(rec, 0)&rangeHasMax != 0 {
			r.Max = &e[1]
		}
		list = append(list, r)
	}
	d.rangeLists[n] = list
	return list
}

func (d *decoder) enumList(n uint16) []datamodel.EnumValue {
	if n == 0 {
		return nil
	}
	first, end := d.span(d.record(secEnumLists, int(n)), 0, secEnums)
	if d.err != nil {
		return nil
	}
	if d.enumLists[n] != nil {
		return d.enumLists[n]
	}
	list := make([]datamodel.EnumValue, 0, end-first)
	for i := first; i < end; i++ {
		rec := d.record(secEnums, i)
		flags := u16(rec, 2)
		list = append(list, datamodel.EnumValue{
			Value: d.str(u16(rec, 0)), Optional: flags&enumOptional != 0, Deprecated: flags&enumDeprecated != 0,
		})
	}
	d.enumLists[n] = list
	return list
}

func (d *decoder) nameList(n uint16) []string {
	if n == 0 {
		return nil
	}
	first, end := d.span(d.record(secNameLists, int(n)), 0, secNames)
	if d.err != nil {
		return nil
	}
	if d.nameLists[n] != nil {
		return d.nameLists[n]
	}
	list := make([]string, 0, end-first)
	for i := first; i < end; i++ {
		list = append(list, d.str(u16(d.record(secNames, i), 0)))
	}
	d.nameLists[n] = list
	return list
}

func (d *decoder) ref(n uint16) *datamodel.PathRef {
	if n == 0 {
		return nil
	}
	rec := d.record(secRefs, int(n)-1)
	if d.err != nil {
		return nil
	}
	if d.refs[n-1] == nil {
		d.refs[n-1] = &datamodel.PathRef{
			Strong: u16(rec, 0)&refStrong != 0, Target: d.str(u16(rec, 2)), Parents: d.nameList(u16(rec, 4)),
		}
	}
	return d.refs[n-1]
}
