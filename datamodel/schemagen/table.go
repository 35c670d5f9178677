package schemagen

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"twinspan/datamodel"
)

// tableHeader names the columns of the table, tab separated.
var tableHeader = strings.Join([]string{
	"proto", "path", "kind", "access", "type", "constraints", "default", "version", "status", "extra",
}, "\t")

const tableColumns = 10

// ReadTable reads a table of facts; name is used in error messages, which give the line. One line is one element:
//
//	proto        cu: in both protocols with equal facts; c, u: in one of them
//	path         objects end in ".", commands in "()", events in "!"; see Row.Path for arguments
//	kind         object, param, command, event, input, output, eventarg; inputobj, outputobj, eventargobj
//	access       readOnly (or empty), readWrite, writeOnceReadOnly
//	type         base type or base:NamedType; sync or async for commands
//	constraints  separated by "; ": list[min..max], listsize, size, range (min..max/step), pathRef=strength:target:parents,
//	             enumRef, enum (a|b, :optional, :deprecated, :deleted), units, hidden, secured, command, and last
//	             pattern (a || b)
//	default      kind=value with the kinds object, factory, parameter, implementation; [a,b] for lists
//	version      data-model version that brought it
//	status       empty, deprecated, obsoleted, deleted
//	extra        keyF, keyN (functional or not, + joins), minEntries, maxEntries, numEntriesParameter, enableParameter,
//	             activeNotify, forcedInform, mandatory
func ReadTable(r io.Reader, name string) ([]Row, error) {
	var rows []Row
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), 1<<20)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "#") || line == tableHeader {
			continue
		}
		row, err := parseRow(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		rows = append(rows, row)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return rows, nil
}

// ReadTableFile is ReadTable of a file.
func ReadTableFile(file string) ([]Row, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadTable(f, file)
}

func parseRow(line string) (Row, error) {
	col := strings.Split(line, "\t")
	if len(col) != tableColumns {
		return Row{}, fmt.Errorf("%d columns instead of %d", len(col), tableColumns)
	}
	r := Row{Path: col[1], MaxEntries: 1}
	for _, c := range col[0] {
		switch c {
		case 'c':
			r.Protocols |= datamodel.CWMP
		case 'u':
			r.Protocols |= datamodel.USP
		default:
			return r, fmt.Errorf("unknown protocol %q", col[0])
		}
	}
	kind := slices.Index(kindNames[:], col[2])
	if kind < 0 || r.Protocols == 0 {
		return r, fmt.Errorf("unknown kind %q or no protocol", col[2])
	}
	r.Kind = Kind(kind)
	if col[3] != "" {
		access := slices.Index(accessNames[:], col[3])
		if access < 0 {
			return r, fmt.Errorf("unknown access %q", col[3])
		}
		r.Facts.Access = datamodel.Access(access)
	}
	for _, parse := range []func() error{
		func() error { return parseType(&r, col[4]) },
		func() error { return parseConstraints(&r, col[5]) },
		func() error { return parseDefault(&r, col[6]) },
		func() error { return parseExtra(&r, col[9]) },
	} {
		if err := parse(); err != nil {
			return r, fmt.Errorf("%s: %w", r.Path, err)
		}
	}
	r.Facts.Version = col[7]
	switch col[8] {
	case "", "deprecated", "obsoleted", "deleted":
		r.Facts.Status = col[8]
	default:
		return r, fmt.Errorf("%s: unknown status %q", r.Path, col[8])
	}
	r.normalize()
	return r, nil
}

func parseType(r *Row, text string) error {
	switch r.Kind {
	case KindCommand:
		if text != "sync" && text != "async" {
			return fmt.Errorf("a command is sync or async, not %q", text)
		}
		r.Async = text == "async"
		return nil
	case KindParam, KindInput, KindOutput, KindEventArg:
	default:
		return nil
	}
	base, named, _ := strings.Cut(text, ":")
	typ := slices.Index(typeNames[:], base)
	if typ < 0 {
		return fmt.Errorf("unknown type %q", base)
	}
	r.Facts.Type, r.Facts.Named = datamodel.Type(typ), named
	return nil
}

func parseConstraints(r *Row, text string) error {
	f := &r.Facts
	for text != "" {
		var c string
		if strings.HasPrefix(text, "pattern=") { // last, because a pattern may hold anything
			c, text = text, ""
		} else {
			c, text, _ = strings.Cut(text, "; ")
		}
		name, value, _ := strings.Cut(c, "=")
		var err error
		switch {
		case name == "list":
			f.List = true
		case strings.HasPrefix(name, "list[") && strings.HasSuffix(name, "]"):
			f.List = true
			f.ListSize, err = parseRanges(name[len("list[") : len(name)-1])
		case name == "listsize":
			f.ListLen, err = parseRanges(value)
		case name == "size":
			f.Size, err = parseRanges(value)
		case name == "range":
			f.Range, err = parseRanges(value)
		case name == "enum":
			f.Enum, err = parseEnum(value)
		case name == "pattern":
			f.Patterns = strings.Split(value, " || ")
			for i, p := range f.Patterns {
				f.Patterns[i] = strings.TrimSpace(p)
			}
		case name == "pathRef":
			f.PathRef, err = parseRef(value)
		case name == "enumRef":
			f.EnumRef = value
		case name == "units":
			f.Units = value
		case c == "hidden":
			f.Hidden = true
		case c == "secured":
			f.Secured = true
		case c == "command":
			f.Command = true
		default:
			return fmt.Errorf("unknown constraint %q", c)
		}
		if err != nil {
			return fmt.Errorf("constraint %q: %w", c, err)
		}
	}
	return nil
}

func parseRanges(text string) ([]datamodel.Range, error) {
	var ranges []datamodel.Range
	for part := range strings.SplitSeq(text, "|") {
		part, step, hasStep := strings.Cut(part, "/")
		lo, hi, ok := strings.Cut(part, "..")
		if !ok {
			return nil, fmt.Errorf("range %q has no ..", part)
		}
		var r datamodel.Range
		for _, end := range []struct {
			text string
			to   **int64
		}{{lo, &r.Min}, {hi, &r.Max}} {
			if end.text == "" {
				continue
			}
			n, err := strconv.ParseInt(end.text, 10, 64)
			if err != nil {
				return nil, err
			}
			*end.to = &n
		}
		if hasStep {
			n, err := strconv.ParseInt(step, 10, 64)
			if err != nil {
				return nil, err
			}
			r.Step = n
		}
		ranges = append(ranges, r)
	}
	return ranges, nil
}

func parseEnum(text string) ([]datamodel.EnumValue, error) {
	var values []datamodel.EnumValue
	for word := range strings.SplitSeq(text, "|") {
		v := datamodel.EnumValue{}
		deleted := false
		for {
			cut := false
			for flag, set := range map[string]*bool{
				":optional": &v.Optional, ":deprecated": &v.Deprecated, ":obsoleted": &v.Deprecated, ":deleted": &deleted,
			} {
				if w, ok := strings.CutSuffix(word, flag); ok {
					word, *set, cut = w, true, true
				}
			}
			if !cut {
				break
			}
		}
		v.Value = word
		if !deleted {
			values = append(values, v)
		}
	}
	return values, nil
}

func parseRef(text string) (*datamodel.PathRef, error) {
	part := strings.SplitN(text, ":", 3)
	if len(part) != 3 || (part[0] != "strong" && part[0] != "weak") {
		return nil, fmt.Errorf("a reference is strength:target:parents")
	}
	return &datamodel.PathRef{Strong: part[0] == "strong", Target: part[1], Parents: strings.Fields(part[2])}, nil
}

func parseDefault(r *Row, text string) error {
	if text == "" {
		return nil
	}
	kind, value, ok := strings.Cut(text, "=")
	if !ok {
		return fmt.Errorf("default %q has no kind", text)
	}
	switch kind {
	case "object", "factory", "parameter", "implementation":
	default:
		return fmt.Errorf("unknown kind of default %q", kind)
	}
	if r.Facts.List && strings.HasPrefix(value, "[") && strings.HasSuffix(value, "]") {
		value = value[1 : len(value)-1]
	}
	r.DefaultKind, r.Facts.Default = kind, value
	return nil
}

func parseExtra(r *Row, text string) error {
	if text == "" {
		return nil
	}
	for x := range strings.SplitSeq(text, "; ") {
		name, value, _ := strings.Cut(x, "=")
		var err error
		switch name {
		case "keyF", "keyN":
			r.Keys = append(r.Keys, datamodel.UniqueKey{Params: strings.Split(value, "+"), Functional: name == "keyF"})
		case "minEntries":
			r.MinEntries, err = strconv.Atoi(value)
		case "maxEntries":
			if value == "unbounded" {
				r.MaxEntries = -1
			} else {
				r.MaxEntries, err = strconv.Atoi(value)
			}
		case "numEntriesParameter":
			r.NumEntries = value
		case "enableParameter":
			r.Enable = value
		case "activeNotify":
			r.Facts.ActiveNotify = value
		case "forcedInform":
			r.Facts.ForcedInform, err = strconv.ParseBool(value)
		case "mandatory":
			r.Facts.Mandatory, err = strconv.ParseBool(value)
		case "mountType": // where other devices' models are mounted; nothing follows from it here
		default:
			return fmt.Errorf("unknown extra %q", x)
		}
		if err != nil {
			return fmt.Errorf("extra %q: %w", x, err)
		}
	}
	return nil
}

// WriteTable writes rows as a table that ReadTable reads back equal.
func WriteTable(w io.Writer, rows []Row) error {
	out := bufio.NewWriter(w)
	fmt.Fprintln(out, tableHeader)
	for i := range rows {
		line := formatRow(&rows[i])
		if strings.Count(line, "\t") != tableColumns-1 || strings.ContainsAny(line, "\r\n") {
			return fmt.Errorf("%s: a fact holds a tab or a line end", rows[i].Path)
		}
		fmt.Fprintln(out, line)
	}
	return out.Flush()
}
