// Package acstool is `twinspan-lab acs`: the small ACS of package cwmp/acs as a tool for somebody who has a CPE and no ACS.
// It reads commands from standard input or from its arguments and prints answers and faults as text.
//
// # Use
//
//	twinspan-lab acs --listen 192.0.2.1:7547 --user cpe --password secret
//	acs> devices
//	acs> get Device.DeviceInfo.
//	twinspan-lab acs --listen :7547 -e 'wait' -e 'set Device.DeviceInfo.ProvisioningCode=x' -e 'get Device.DeviceInfo.ProvisioningCode'
//
// A command that needs the device asks for a session by a connection request, with the credentials given by --cr-user and
// --cr-password or by the command connreq; if that cannot be done, it waits for the device's next session. The session stays open for a few seconds after a command;
// what the device does after a session (transfers, restarts) begins with wait, sleep or inform, or when those seconds are over.
//
// # Caveats
//
// It is a laboratory tool, not a production ACS: it keeps everything in memory, knows one account for all devices and has
// no rights. Without --tls everything, the values included, goes over the network in clear.
//
// # Promises
//
// A script ends at the first command that fails and Run returns its error; an interactive session goes on. Passwords are
// not printed, but for one that it made itself and somebody must enter into the device.
package acstool
