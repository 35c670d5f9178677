// Package tr181 holds the compiled TR-181 data model, Device:2.19, and loads it restricted to what a device supports.
//
//	profile, err := datamodel.LoadProfile("gateway.toml")
//	schema, err := tr181.Load(profile)        // the embedded model
//	schema, err := tr181.LoadFile(file, profile) // a vendor's own compiled model
//
// device-2.19.tsv is the source: one line for each element, facts only, in canonical paths (its columns are described
// at schemagen.ReadTable). device-2.19.bin.z is made from it by "go generate" and is what the program embeds, packed; a test
// compares the two. To move to the next amendment, make a new table from the Broadband Forum's XML with
// datamodel/schemagen/cmd.
//
// What hurts: a full tree costs about 2 MB of heap and 10 ms on a slow core; devices load a profile. Load it once
// and share the Schema, which never changes.
package tr181

//go:generate go run ../schemagen/cmd -table device-2.19.tsv -model 2.19 -o device-2.19.bin.z
