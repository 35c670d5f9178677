package schemagen

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"twinspan/datamodel"
	"twinspan/datamodel/tr181/compact"
)

// RowsOf writes a schema back as canonical rows, so that a vendor's rows can be added to the embedded model where its
// table is not at hand. Of the kinds of default only factory and object are left, and argument objects are gone;
// Build of the rows gives an equal schema.
func RowsOf(s *datamodel.Schema) []Row {
	var rows []Row
	s.Root().Walk(func(o *datamodel.Object) bool {
		rows = append(rows, objectRows(o)...)
		for _, p := range o.Params {
			for _, proto := range []datamodel.Protocol{datamodel.CWMP, datamodel.USP} {
				if f := p.Facts(proto); f != nil {
					rows = append(rows, factsRow(proto, KindParam, p.Path(), f))
				}
			}
		}
		for _, c := range o.Commands {
			path := o.Path + c.Name
			rows = append(rows, Row{Protocols: datamodel.USP, Kind: KindCommand, Path: path, Async: c.Async})
			rows = append(rows, argumentRows(KindInput, path, c.Inputs)...)
			rows = append(rows, argumentRows(KindOutput, path, c.Outputs)...)
		}
		for _, e := range o.Events {
			path := o.Path + e.Name
			rows = append(rows, Row{Protocols: datamodel.USP, Kind: KindEvent, Path: path})
			rows = append(rows, argumentRows(KindEventArg, path, e.Args)...)
		}
		return true
	})
	return rows
}

func objectRows(o *datamodel.Object) []Row {
	var rows []Row
	for _, proto := range []datamodel.Protocol{datamodel.CWMP, datamodel.USP} {
		if !o.Protocols.Has(proto) {
			continue
		}
		r := Row{
			Protocols: proto, Kind: KindObject, Path: o.Path, MinEntries: o.MinEntries, MaxEntries: o.MaxEntries,
			NumEntries: o.NumEntries, Enable: o.Enable, Keys: o.Keys,
		}
		r.Facts.Access = o.Access(proto)
		rows = append(rows, r)
	}
	return rows
}

func factsRow(proto datamodel.Protocol, kind Kind, path string, f *datamodel.Facts) Row {
	return Row{Protocols: proto, Kind: kind, Path: path, Facts: *f, DefaultKind: defaultKey(f)}
}

func argumentRows(kind Kind, owner string, args []datamodel.Argument) []Row {
	rows := make([]Row, 0, len(args))
	for _, a := range args {
		rows = append(rows, factsRow(datamodel.USP, kind, owner+argumentWord[kind]+a.Name, a.Facts))
	}
	return rows
}

// Import adds vendor files, XML (for the protocols given) or tables, to base and writes the result to w in the compact
// form, for tr181.LoadFile. XML files may import from their own directory and from dirs.
func Import(w io.Writer, base *datamodel.Schema, files, dirs []string, protos datamodel.Protocol) (*datamodel.Schema, error) {
	rows := RowsOf(base)
	for _, file := range files {
		var err error
		if rows, err = AddFile(rows, file, dirs, protos); err != nil {
			return nil, err
		}
	}
	s, err := Build(base.Name, base.Version, rows)
	if err != nil {
		return nil, fmt.Errorf("data model with extensions: %w", err)
	}
	data, err := compact.Encode(s)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(data)
	return s, err
}

// AddFile adds one vendor file to rows: an XML file (name ends in .xml) by Extend, else a table.
func AddFile(rows []Row, file string, dirs []string, protos datamodel.Protocol) ([]Row, error) {
	if strings.HasSuffix(file, ".xml") {
		return Extend(rows, file, append([]string{filepath.Dir(file)}, dirs...), protos)
	}
	more, err := ReadTableFile(file)
	return append(rows, more...), err
}
