// Package conformcwmp runs the catalogue of CWMP checks (catalogue.tsv) against any CPE over real HTTP: package cwmp/acs is
// the ACS, and a tap in front of it sees, keeps and may change every HTTP message.
//
// # Use
//
//	err := conformcwmp.Run(ctx, []string{"--agent", "bin/twinspan", "--only", "SPV-*"}, os.Stdout)
//
// A Driver starts, kills, resets and locally changes the CPE. There are three: the agent of this repository (a new process
// with new data for every check, several at a time), a command that starts some CPE, and none at all (--wait: the runner
// listens and waits for the Inform of a CPE that somebody configured).
//
// # How a check is written
//
// A check is a function that returns nil for a pass, an error for a failure, and notApplicable or notShown with a reason.
// It looks at the wire only: what the ACS or the tap saw. Every row of the catalogue has a check or a reason why there is
// none; a test holds that true.
//
// # Caveats
//
// Waits of a minute and more are shortened by setting the parameters that rule them; the observation says so. With one CPE
// that cannot be reset, checks that want a factory-fresh device are not shown. The runner is for a laboratory: it changes
// settings, adds rows and restarts the CPE.
//
// # Promises
//
// Nothing of a run stays behind: processes are killed, directories removed, listeners closed and goroutines joined when Run
// returns.
package conformcwmp
