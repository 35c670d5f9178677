// Package linux is the provider that reports the real machine from procfs, sysfs, the kernel's addresses and a DHCP
// server's leases: DeviceInfo with memory, load and processes, Time, Ethernet and IP interfaces with addresses and
// statistics, and the hosts that the kernel knows.
//
//	o, err := linux.ParseOptions(profile.Providers["linux"])
//	p, err := linux.New(o)
//	defer p.Close()
//
// Ethernet and IP interfaces are stored rows found again by Name, so their instance numbers survive restarts;
// processes (numbered by PID) and hosts (numbered in the order they were first seen, until they are forgotten or the
// agent restarts) are live rows. Everything is read when it is asked for; nothing is polled.
//
// It only reports. A manager's write to something it reads live from the system (Enable, DuplexMode, MaxMTUSize,
// addresses) is refused with NotImplemented, unless it asks for what is so already. LowerLayers of an IP interface is
// derived from the kernel as long as no manager has written it.
//
// What hurts: LastChange counts from what the provider saw; virtual interfaces do not tell DuplexMode and MaxBitRate;
// counters of unicast and broadcast packets do not exist in sysfs; hosts known by IPv6 only are missing; procfs does
// not tell for how long an address is valid, nor whether an IPv4 address came by DHCP.
//
// A Provider has at most one goroutine, which waits for rtnetlink messages about links and addresses and ends in
// Close. Where such a socket cannot be had there are no change hints and rows are synced at the start only.
package linux
