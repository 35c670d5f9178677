package schemagen

import (
	"fmt"
	"sort"
	"strconv"
	"strings"

	"twinspan/datamodel"
)

// Kind is what a Row describes.
type Kind uint8

const (
	KindObject Kind = iota
	KindParam
	KindCommand
	KindEvent
	KindInput
	KindOutput
	KindEventArg
	// Argument objects: "TimeWindow.{i}." of a command. Build needs only what is in them.
	KindInputObject
	KindOutputObject
	KindEventArgObject
)

var kindNames = [...]string{
	"object", "param", "command", "event", "input", "output", "eventarg", "inputobj", "outputobj", "eventargobj",
}

func (k Kind) String() string { return kindNames[k] }

// argument words between the command or event and the argument's name.
var argumentWord = map[Kind]string{
	KindInput: " input ", KindOutput: " output ", KindEventArg: " arg ",
	KindInputObject: " input ", KindOutputObject: " output ", KindEventArgObject: " arg ",
}

// Row is one element of the data model as a source states it.
type Row struct {
	Protocols datamodel.Protocol
	// Path in the spelling of the protocol; arguments are "<command> input <Name>", "<command> output <Name>",
	// "<event> arg <Name>".
	Path string
	Kind Kind
	// Facts of a parameter or argument. Access, Version and Status are used for objects, commands and events too.
	// References are as in the source, relative ones included. Status may be "deleted".
	Facts datamodel.Facts
	// DefaultKind is object, factory, parameter or implementation; empty when there is no default.
	DefaultKind string
	Async       bool // commands

	// Objects.
	MinEntries int
	MaxEntries int // -1: unbounded
	NumEntries string
	Enable     string
	Keys       []datamodel.UniqueKey
}

// normalize brings what sources may say in several ways into one form.
func (r *Row) normalize() {
	f := &r.Facts
	switch r.Kind {
	case KindInput, KindInputObject:
		f.Access = datamodel.ReadWrite
	case KindOutput, KindOutputObject, KindEventArg, KindEventArgObject, KindCommand, KindEvent:
		f.Access = datamodel.ReadOnly
	}
	// The protocols' own variants of a virtual type count as that type: _AliasCWMP and _AliasUSP are Alias.
	if name, ok := strings.CutPrefix(f.Named, "_"); ok {
		for _, variant := range []string{"CWMP", "USP", "Common"} {
			name = strings.TrimSuffix(name, variant)
		}
		f.Named = name
	}
	f.ListLen, f.ListSize, f.Size = closed(f.ListLen), closed(f.ListSize), closed(f.Size)
	f.FactoryOnly = r.DefaultKind == "factory"
	f.HasDefault = r.DefaultKind != ""
	sort.SliceStable(r.Keys, func(i, j int) bool {
		a, b := r.Keys[i], r.Keys[j]
		if a.Functional != b.Functional {
			return b.Functional
		}
		return strings.Join(a.Params, "+") < strings.Join(b.Params, "+")
	})
}

// closed drops ranges of lengths that exclude nothing; if one of them does, none of the others matters.
func closed(ranges []datamodel.Range) []datamodel.Range {
	for _, r := range ranges {
		if (r.Min == nil || *r.Min <= 0) && r.Max == nil && r.Step == 0 {
			return nil
		}
	}
	return ranges
}

// splitPath splits the path of an argument into the path of its command or event and its name.
func (r *Row) splitPath() (owner, argument string) {
	word, ok := argumentWord[r.Kind]
	if !ok {
		return r.Path, ""
	}
	owner, argument, _ = strings.Cut(r.Path, word)
	return owner, argument
}

func formatProtocols(p datamodel.Protocol) string {
	switch p {
	case datamodel.CWMP:
		return "c"
	case datamodel.USP:
		return "u"
	}
	return "cu"
}

var accessNames = [...]string{"readOnly", "readWrite", "writeOnceReadOnly"}

var typeNames = [...]string{
	"string", "boolean", "int", "unsignedInt", "long", "unsignedLong", "decimal", "dateTime", "base64", "hexBinary",
}

// formatRow writes a row as a line of the table, without the line end.
func formatRow(r *Row) string {
	f := &r.Facts
	typ, access, def := "", accessNames[f.Access], ""
	switch r.Kind {
	case KindParam, KindInput, KindOutput, KindEventArg:
		typ = typeNames[f.Type]
		if f.Named != "" {
			typ += ":" + f.Named
		}
		if r.DefaultKind != "" {
			def = r.DefaultKind + "=" + f.Default
			if f.List {
				def = r.DefaultKind + "=[" + f.Default + "]"
			}
		}
	case KindCommand:
		typ, access = "sync", ""
		if r.Async {
			typ = "async"
		}
	case KindEvent:
		access = ""
	}
	return strings.Join([]string{
		formatProtocols(r.Protocols), r.Path, r.Kind.String(), access, typ, formatConstraints(f), def, f.Version, f.Status,
		formatExtra(r),
	}, "\t")
}

func formatConstraints(f *datamodel.Facts) string {
	var c []string
	if f.List {
		s := "list"
		if len(f.ListSize) > 0 {
			s += "[" + formatRanges(f.ListSize) + "]"
		}
		c = append(c, s)
	}
	if len(f.ListLen) > 0 {
		c = append(c, "listsize="+formatRanges(f.ListLen))
	}
	if f.Hidden {
		c = append(c, "hidden")
	}
	if f.Secured {
		c = append(c, "secured")
	}
	if f.Command {
		c = append(c, "command")
	}
	if len(f.Size) > 0 {
		c = append(c, "size="+formatRanges(f.Size))
	}
	if len(f.Range) > 0 {
		c = append(c, "range="+formatRanges(f.Range))
	}
	if f.PathRef != nil {
		strength := "weak"
		if f.PathRef.Strong {
			strength = "strong"
		}
		c = append(c, "pathRef="+strength+":"+f.PathRef.Target+":"+strings.Join(f.PathRef.Parents, " "))
	}
	if f.EnumRef != "" {
		c = append(c, "enumRef="+f.EnumRef)
	}
	if len(f.Enum) > 0 {
		var words []string
		for _, v := range f.Enum {
			w := v.Value
			if v.Optional {
				w += ":optional"
			}
			if v.Deprecated {
				w += ":deprecated"
			}
			words = append(words, w)
		}
		c = append(c, "enum="+strings.Join(words, "|"))
	}
	if f.Units != "" {
		c = append(c, "units="+f.Units)
	}
	if len(f.Patterns) > 0 {
		c = append(c, "pattern="+strings.Join(f.Patterns, " || "))
	}
	return strings.Join(c, "; ")
}

func formatRanges(ranges []datamodel.Range) string {
	var parts []string
	for _, r := range ranges {
		lo, hi := "", ""
		if r.Min != nil {
			lo = strconv.FormatInt(*r.Min, 10)
		}
		if r.Max != nil {
			hi = strconv.FormatInt(*r.Max, 10)
		}
		s := lo + ".." + hi
		if r.Step != 0 {
			s += "/" + strconv.FormatInt(r.Step, 10)
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, "|")
}

func formatExtra(r *Row) string {
	var x []string
	if r.Kind == KindObject {
		maxEntries := "unbounded"
		if r.MaxEntries >= 0 {
			maxEntries = strconv.Itoa(r.MaxEntries)
		}
		x = append(x, fmt.Sprintf("minEntries=%d", r.MinEntries), "maxEntries="+maxEntries)
		if r.NumEntries != "" {
			x = append(x, "numEntriesParameter="+r.NumEntries)
		}
		if r.Enable != "" {
			x = append(x, "enableParameter="+r.Enable)
		}
		for _, k := range r.Keys {
			name := "keyN="
			if k.Functional {
				name = "keyF="
			}
			x = append(x, name+strings.Join(k.Params, "+"))
		}
	}
	if r.Facts.ActiveNotify != "" {
		x = append(x, "activeNotify="+r.Facts.ActiveNotify)
	}
	if r.Facts.ForcedInform {
		x = append(x, "forcedInform=true")
	}
	if r.Facts.Mandatory {
		x = append(x, "mandatory=true")
	}
	return strings.Join(x, "; ")
}
