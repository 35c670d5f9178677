// Command cmd compiles the data model: the table of facts, or the Broadband Forum's XML, into the compact form.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"

	"twinspan/datamodel/schemagen"
	"twinspan/datamodel/tr181/compact"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "schemagen:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("schemagen", flag.ContinueOnError)
	table := flags.String("table", "", "read the table of facts from `file`")
	model := flags.String("model", "2.19", "data-model `version`")
	out := flags.String("o", "", "write the compact form to `file`")
	outTable := flags.String("write-table", "", "write the canonical table to `file`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	f, err := os.Open(*table)
	if err != nil {
		return err
	}
	defer f.Close()
	rows, err := schemagen.ReadTable(f, *table)
	if err != nil {
		return err
	}
	schema, err := schemagen.Build("Device", *model, rows)
	if err != nil {
		return err
	}
	data, err := compact.Encode(schema)
	if err != nil {
		return err
	}
	if *outTable != "" {
		w, err := os.Create(*outTable)
		if err != nil {
			return err
		}
		defer w.Close()
		canonical, err := schemagen.Canonical(rows)
		if err != nil {
			return err
		}
		if err := schemagen.WriteTable(w, canonical); err != nil {
			return err
		}
	}
	if *out != "" {
		return os.WriteFile(*out, data, 0o644)
	}
	_, err = fmt.Fprintf(stdout, "%d rows, %d bytes\n", len(rows), len(data))
	return err
}
