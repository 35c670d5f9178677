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
// reference values too (DESIGN invariant 6). Only these two functions know both spellings.
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
// All exported types are safe for concurrent reading once built; a Schema never changes after Load.
package datamodel
