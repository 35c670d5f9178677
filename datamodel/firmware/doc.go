// Package firmware keeps the firmware images of the device: banks of which one runs, one that is chosen for the next start, and what
// became of the others. It is the provider of Device.DeviceInfo.FirmwareImage. with Download() and Activate(), and the place where
// a Download of an ACS ends, too: both come down to the same steps.
//
//	banks, err := firmware.OpenSimulated(dir, "1.0.0")            // or NewHook(program): a real platform
//	m, err := firmware.New(ctx, firmware.Options{Dir: dir, Banks: banks, Fetch: client.Fetch, Restart: restart})
//	// ... bridge.New with m among its providers, engine.Start ...
//	m.Attach(value)          // how to read a stored parameter
//	m.Start()                // proves the running image, or goes back
//	m.Contact()              // call it for every sign of life of a manager
//	defer m.Close()
//
// # The way of an image
//
// A file is fetched beside the banks, checked against FileSize and CheckSum, and only then written into a bank that neither runs nor is on
// trial. Activating writes a trial down, tells the boot loader, and asks for a restart. The image that starts is on trial until a
// manager was reached; when that takes longer than Options.Confirm, or the third start has come, the boot loader is told the previous bank
// again, the reason goes into BootFailureLog, and the device restarts. BootFirmwareImage keeps what the manager wanted.
//
// # Promises
//
//   - Power may go at any instant: the state is one file, replaced by rename after fsync, and each step is written down before it is
//     taken. At every start what was interrupted is finished, undone or reported.
//   - The bank that runs and the one to fall back to are never written.
//   - One operation at a time.
//
// # Caveats
//
// A command does not survive a restart: an Activate() that waits for its window ends with it, a Download() leaves DownloadFailed. In
// the simulation every start of the agent counts as a start of the device. Behind a broker only what a Controller sends shows that it was
// reached: a Controller that never says anything makes a good image fall back; see Options.Confirm.
//
// # Limits
//
// Options.MaxSize for an image (64 MiB) and as much again for its download, 8 banks, 5 windows of an Activate(), 10 retries in a window.
package firmware
