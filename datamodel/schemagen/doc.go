// Package schemagen compiles a data model from its sources into a datamodel.Schema. It runs in the generator, in
// "twinspan schema import" and in tests, never in the agent's start.
//
//	rows, err := schemagen.ReadTable(file, "device-2.19.tsv")   // the table of facts
//	schema, err := schemagen.Build("Device", "2.19", rows)
//	data, err := compact.Encode(schema)
//
// There are two sources: a table of facts (ReadTable, WriteTable; its columns are described at ReadTable) and the
// Broadband Forum's XML. Both give Rows in each protocol's own spelling; Build merges them into one tree of canonical
// paths, resolves relative references and drops what is deleted. Rows of a vendor extension are simply appended before
// Build.
//
// What hurts: Build accepts unusual models only where TR-181 has them; a difference between the CWMP and the USP model
// that a Schema cannot hold (a table in one, a single object in the other) is an error.
package schemagen
