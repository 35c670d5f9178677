// Package dhcp decodes the vendor options by which a DHCP server tells a device about its managers: DHCPv4 options 43 and
// 125 (RFC 2132 8.4, RFC 3925) and DHCPv6 option 17 (RFC 8415 21.17), each a list of sub-options of code, length, value.
//
// It knows bytes and files only. What a code means is the business of the reader: ACS discovery (sub-options 1-4 and 11-14)
// is in the CWMP head, Controller discovery (25-29) in the USP head.
//
// # Use
//
//	options, err := dhcp.ReadFile("/tmp/dhcp.wan")       // what a client's hook wrote, or its lease file
//	list, err := dhcp.ParseV4Vendor(options.V4Vendor)    // option 125
//	url, ok := dhcp.Text(list.Of(dhcp.BroadbandForum), 11)
//
// # The file
//
// ReadFile takes what the usual DHCP clients leave: lines of name and value, where the value is hexadecimal, with or
// without colons, 0x, quotes and a final semicolon. Known names are in the table of file.go: those of udhcpc (opt43, opt125),
// odhcp6c (OPTION_17), dhclient (vendor-encapsulated-options, in a lease file or as new_… in a hook), dhcpcd and
// systemd-networkd (OPTION_43, VENDOR_SPECIFIC). Other lines are passed over; of an option that occurs several times, as in
// a file with several leases, the last one counts.
//
// # Promises
//
// A file is read up to 256 KiB, an option up to 64 KiB, a list up to 256 sub-options: what is over that is an error, never
// a cut value. A decoder returns everything or an error and never keeps a reference to its input. Values are taken from the
// access network as it is: whoever uses one has to check it as what it is, text of a stranger.
package dhcp
