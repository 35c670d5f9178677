// Package bridge is the one door to the device's data model. Every protocol head, the command line and every internal
// writer read and change the tree through its four verbs, and through nothing else:
//
//	View   one consistent version, seen through a writer's protocol and rights
//	Apply  one transaction: project, validate, authorise, arbitrate, commit, apply
//	Run    a command on a resource
//	Watch  committed changes and events with their cause, at least once, from a durable position
//
// The bridge knows both protocols' views of the tree (package datamodel declares them) but no wire format: it answers
// with *datamodel.Error and the heads translate. Paths go in and come out in the spelling of the writer's protocol.
package bridge
