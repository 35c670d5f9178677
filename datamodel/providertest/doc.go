// Package providertest is the exported suite that every datamodel.Provider must pass. A provider's own test calls
//
//	providertest.Run(t, providertest.Case{Provider: p, Schema: schema})
//
// It plays the bridge: it makes the rows that a Syncer wants in an in-memory tree, asks a Lister for its rows, reads
// every object and parameter that the provider serves and checks each value against the data model's facts, from
// several goroutines at once and with a context that has ended. It checks what the provider says of itself
// (Serves, Lists, Syncs, Applies, Commands) against the schema, runs the commands that a Case names, and that Apply
// can be repeated.
//
// It cannot know whether the values are true: that is for the provider's own tests.
package providertest
