// Package diff runs one table of operations twice against the same agent, once through its USP face and once through its CWMP face,
// and compares what each face answered and what the device held afterwards.
//
//	report, err := diff.Run(ctx, diff.Config{Binary: "bin/twinspan"})
//	err = report.Err()                                 // nil only when every row agrees or differs as declared
//
// # How
//
// A row is a script (table.go) of steps that both protocols can express. Each step notes an outcome: ok with what was read, or the
// kind of a refusal. A kind is a pair of code sets, one for each protocol (kinds in face.go): that is where errors and faults are
// mapped to each other. After the script a second Controller, which takes no part, reads the rows that the script made. Instance
// numbers and generated names are replaced by placeholders; everything else must be equal.
//
// A difference that the protocols themselves demand (another access, another answer to a missing row) is declared in the row with
// both outcomes and the reason. A declared difference that does not show is a failure as well, so that the list stays true.
//
// # What hurts
//
// The writer that comes second would meet the first one's ownership; so the agent under test lets the last writer win.
package diff
