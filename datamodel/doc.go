// Package datamodel knows what a device's data model is: the schema (which objects, parameters, commands and events
// exist for which protocol, with their types and limits), the grammar of paths, typed values, the projection between
// the CWMP and the USP view of one tree, the device profile and the Provider interface through which the real device
// appears. It knows neither protocols' messages nor persistence.
//
// # Canonical paths
//
// Inside twinspan every element has one canonical path. It is the USP spelling, except that what CWMP calls
// Device.ManagementServer. is kept under that name (its EnableCWMP is what USP calls
// Device.CWMPManagementServer.EnableCWMP). ToCanonical and FromCanonical translate; they are bijections and apply to
// reference values too (DESIGN invariant 6). Only the table in project.go knows both
// spellings.
//
// Three spellings of a place in the tree are used throughout:
//
//   - a supported path has {i} for every instance:  Device.IP.Interface.{i}.Enable
//   - an instance path has numbers:                 Device.IP.Interface.1.Enable
//   - a table path names the table itself:          Device.IP.Interface.
//
// Objects, tables and rows end in a dot; parameters do not; commands end in "()", events in "!".
//
// # Use
//
//	schema, err := tr181.Load(profile)          // the compiled TR-181, restricted to what the profile supports
//	p, err := datamodel.ParsePath(`Device.IP.Interface.[Enable==true].Status`)
//	matches, err := datamodel.Resolve(schema, tree, datamodel.USP, p, policy)
//
// A walker goes from object to object with ViewChildren, which leaves out what a protocol does not have and gives each
// object the name that the protocol calls it; parameters, commands and events are filtered by their Protocols.
//
// # What hurts
//
// A path has at most 1,024 bytes, 64 elements and 16 comparisons in one pair of brackets, and visits at most about a
// million places; a value has at most 1 MiB and a list 16,384 items. Search expressions read every row of their table
// (about 0.15 µs a row and comparison in memory): there are no indexes. XML Schema patterns with class subtraction or
// Unicode blocks cannot be checked: CheckPattern finds them, and a value that meets one is refused as Internal.
// References inside constants of expressions and in PathRef values are projected, paths inside other texts
// (Permission.Targets, BulkData names) are not.
//
// All exported types are safe for concurrent reading once built; a Schema never changes after Load.
package datamodel
