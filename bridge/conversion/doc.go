// Package conversion reads what an older CWMP client left on a device (docs/import.md), so that the ACS finds the device that it
// knows: same ACS URL, bootstrapped as before, same row numbers, attributes and pending operations.
//
//	f, err := conversion.Parse(data)     // strict: the first mistake fails, with its line
//	seed := f.Seed()                     // for bridge.Options.Seed
//
// Paths of TR-098 (InternetGatewayDevice.) become those of TR-181 where that is a renaming. What is left over is residue: it is
// kept and reported, never dropped without a word; values that look secret appear as salted hashes only.
//
// A file that was cut off is recognised by its missing last line. The limits are constants of this package. Nothing here is safe
// for concurrent use, and nothing here writes: the bridge does.
package conversion
