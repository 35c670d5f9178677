// Package compact is the binary form of a compiled data model: fixed-width records over one string pool, without
// pointers, so that it can lie in read-only memory of the program and be decoded quickly, restricted to what a device
// supports.
//
//	data, err := compact.Encode(schema)                 // the generator and "schema import"
//	schema, err := compact.Decode(string(data), sel)    // the agent; sel from datamodel.Profile.Selector
//
// Encode is deterministic: equal schemas give equal bytes, and Encode(Decode(data, nil)) is data.
//
// What hurts: the strings of a decoded Schema are parts of the text that was decoded, which therefore stays in memory
// as long as the Schema does. For the embedded model that is read-only memory of the program file and costs no heap.
//
// Decode accepts nothing it has not checked: any bytes give a schema or an error, never a panic, and memory in
// proportion to the input. The form has a version number and no other promise; data of another version is refused and
// has to be compiled again.
package compact
