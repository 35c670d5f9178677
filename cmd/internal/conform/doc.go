// Package conform is what conformance runners of any protocol share: a catalogue of checks, the verdict on each, and the
// report as table, JSON and Markdown. It knows no protocol.
//
// # Use
//
//	catalogue, err := conform.ParseCatalogue(tsv)                 // id, area, level, needs, title
//	report := conform.NewReport("CWMP", target, catalogue)
//	report.Add(conform.Result{Check: row, Verdict: conform.Pass, Observed: []string{"fault 9003"}})
//	err = report.Table(os.Stdout)                                 // also JSON, Markdown
//	err = report.Err()                                            // nil only when every applicable check passed
//
// # Caveats
//
// NotShown is a debt, not a pass: the check applies, but this run could not show it. It does not fail the run, because
// the reason (a missing server, a driver that cannot cut the power) is no fault of the device; the report counts it
// apart and says why.
package conform
