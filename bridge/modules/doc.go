// Package modules simulates the software modules of a device (TR-181 Device.SoftwareModules., TR-069 A.4.1.10, TR-369
// Appendix I): execution environments, deployment units that are installed from HTTP(S) URLs, and their execution units.
//
// The bookkeeping is real: packages are fetched and checked, UUID and version rules are kept, the tables live in the store,
// operations survive a power cut. What is simulated is the running: an execution unit that is Active runs nothing.
//
// # Use
//
//	m, err := modules.New(modules.Options{Engine: engine, Environments: envs, Fetch: fetch, Dir: dir})
//	err = engine.AddProvider(m)              // before engine.Start
//	...
//	m.Recover(ctx)                           // when both heads listen: tells what a power cut interrupted
//	res := m.Do(ctx, modules.Request{...})   // the CWMP head; USP comes through the commands
//
// # The package file
//
// A text head, an empty line, and anything after it:
//
//	twinspan-module 1
//	name: hello
//	version: 1.2
//	vendor: Example Networks
//	unit: hello-daemon
//
// name and version are needed, one unit at least. uuid, description, environment (the Type of the environments it fits), disk and memory
// (KiB) may be there. The head has 8 KiB at most.
//
// # Rules
//
// One operation at a time; others wait for it. At most one unit of a UUID and version in an environment. An update replaces a unit by a
// higher version, compared by its dotted numbers. A failed Install leaves nothing behind, a failed Update or Uninstall the unit as it was.
// What is begun is in the store before the package is fetched, and the outcome is in the commit that changes the tables: after a
// power cut an operation has either its whole effect and its result, or neither and has failed.
//
// # Caveats
//
// Arguments that ask for what is not simulated (roles, application data, network settings, signatures, privileges, shares of the
// resources) are refused. Whether a unit runs is kept in memory: after a restart those with AutoStart do.
//
// # Promises
//
// A package is read up to Options.MaxSize, there are at most MaxUnits deployment units and 8 execution units in each. No goroutines.
package modules
