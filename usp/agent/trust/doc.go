// Package trust decides what a USP Controller may do. It compiles the rows of Device.LocalAgent.ControllerTrust. and
// Device.LocalAgent.Controller. of one version of the tree into permission lists and answers bridge.Rights from them.
//
//	t := trust.New(schema, store.Head)
//	writer := bridge.Writer{Name: "usp:" + eid, Protocol: datamodel.USP, Rights: t.Endpoint(eid)}
//
// Rules (usp.md 7.5): inside one Role the enabled Permission with the highest Order that covers an element decides
// alone; the results of all enabled Roles of a Controller (AssignedRole and InheritedRole) are united; what nothing
// covers is denied. Nothing is cached over a change: compiled lists are keyed by the revision of the two subtrees, so an
// edit of a Permission counts from the next check on.
//
// # Caveats
//
// A Target that cannot be parsed or evaluated makes its Permission cover the literal part of that Target with no right
// at all: a mistyped Target never gives more than was meant.
//
// All exported types are safe for concurrent use.
package trust
