// Command cmd compiles a data model from the table of facts or from the Broadband Forum's XML.
//
//	go run ./datamodel/schemagen/cmd -table device-2.19.tsv -o device-2.19.bin
//	go run ./datamodel/schemagen/cmd -xml DIR -import DIR -write-table device-2.20.tsv
//	go run ./datamodel/schemagen/cmd -xml DIR -import DIR -table device-2.19.tsv -compare
//	go run ./datamodel/schemagen/cmd -table device-2.19.tsv -extension vendor.xml -o vendor.bin
//
// The exit status is 1 after an error and after a comparison that found differences.
package main

import (
	"bufio"
	"bytes"
	"compress/flate"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"twinspan/datamodel"
	"twinspan/datamodel/schemagen"
	"twinspan/datamodel/tr181/compact"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "schemagen:", err)
		os.Exit(1)
	}
}

type options struct {
	table, xmlDir, model, out, outTable string
	imports, extensions                 []string
	extensionProto                      string
	compare, withoutUnits               bool
}

func run(args []string, stdout io.Writer) error {
	var o options
	flags := flag.NewFlagSet("schemagen", flag.ContinueOnError)
	flags.StringVar(&o.table, "table", "", "read the table of facts from `file`")
	flags.StringVar(&o.xmlDir, "xml", "", "read tr-181-2-cwmp.xml and tr-181-2-usp.xml of `directory`")
	flags.StringVar(&o.model, "model", "2.19", "data-model `version`")
	flags.StringVar(&o.out, "o", "", "write the compact form to `file`")
	flags.StringVar(&o.outTable, "write-table", "", "write the canonical table to `file`")
	flags.BoolVar(&o.compare, "compare", false, "compare -xml with -table and print every difference")
	flags.BoolVar(&o.withoutUnits, "without-units", false, "leave units out, for tables that do not have them")
	flags.StringVar(&o.extensionProto, "extension-protocols", "cu", "`protocols` of XML extensions: c, u or cu")
	flags.Func("import", "look for imported XML files in `directory` too (repeatable)", func(s string) error {
		o.imports = append(o.imports, s)
		return nil
	})
	flags.Func("extension", "add a vendor's `file`, XML or table (repeatable)", func(s string) error {
		o.extensions = append(o.extensions, s)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || (o.table == "") == (o.xmlDir == "") && !o.compare {
		return errors.New("one of -table and -xml is needed")
	}
	if o.compare {
		return compare(o, stdout)
	}
	rows, err := source(o)
	if err != nil {
		return err
	}
	schema, err := schemagen.Build("Device", o.model, rows)
	if err != nil {
		return err
	}
	data, err := compact.Encode(schema)
	if err != nil {
		return err
	}
	if o.outTable != "" {
		if err := writeTable(o.outTable, rows); err != nil {
			return err
		}
	}
	if o.out == "" {
		return nil
	}
	if strings.HasSuffix(o.out, ".z") {
		if data, err = deflate(data); err != nil {
			return err
		}
	}
	return os.WriteFile(o.out, data, 0o644)
}

// deflate packs what is embedded; files that a device loads stay as they are.
func deflate(data []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(data)
	err = errors.Join(err, w.Close())
	return b.Bytes(), err
}

func source(o options) ([]schemagen.Row, error) {
	rows, err := readTable(o.table)
	if o.xmlDir != "" {
		rows, err = readXML(o)
	}
	if o.withoutUnits {
		dropUnits(rows)
	}
	for _, file := range o.extensions {
		if err == nil {
			rows, err = extend(rows, file, o)
		}
	}
	return rows, err
}

func readTable(file string) ([]schemagen.Row, error) {
	if file == "" {
		return nil, nil
	}
	return schemagen.ReadTableFile(file)
}

func readXML(o options) ([]schemagen.Row, error) {
	cwmp, usp := schemagen.XMLRoots(o.xmlDir)
	rows, err := schemagen.ReadXML(cwmp, o.imports, datamodel.CWMP, nil)
	if err != nil {
		return nil, err
	}
	uspRows, err := schemagen.ReadXML(usp, o.imports, datamodel.USP, nil)
	if err != nil {
		return nil, err
	}
	return append(rows, uspRows...), nil
}

func extend(rows []schemagen.Row, file string, o options) ([]schemagen.Row, error) {
	var protos datamodel.Protocol
	if strings.Contains(o.extensionProto, "c") {
		protos |= datamodel.CWMP
	}
	if strings.Contains(o.extensionProto, "u") {
		protos |= datamodel.USP
	}
	return schemagen.AddFile(rows, file, o.imports, protos)
}

func writeTable(file string, rows []schemagen.Row) error {
	canonical, err := schemagen.Canonical(rows)
	if err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := schemagen.WriteTable(f, canonical); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func dropUnits(rows []schemagen.Row) {
	for i := range rows {
		rows[i].Facts.Units = ""
	}
}

func compare(o options, stdout io.Writer) error {
	if o.table == "" || o.xmlDir == "" {
		return errors.New("-compare needs -table and -xml")
	}
	table, err := readTable(o.table)
	if err != nil {
		return err
	}
	xml, err := readXML(o)
	if err != nil {
		return err
	}
	if o.withoutUnits {
		dropUnits(table)
		dropUnits(xml)
	}
	out := bufio.NewWriter(stdout)
	differences := 0
	err = schemagen.Diff("table", table, "xml", xml, func(line string) {
		differences++
		fmt.Fprintln(out, line)
	})
	if err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if differences > 0 {
		return fmt.Errorf("%d differences", differences)
	}
	fmt.Fprintln(stdout, "equal")
	return nil
}
