// Package discovery finds the ACS that the access network offers by DHCP (TR-069 3.1): URL, provisioning code and retry
// parameters, from the options that a DHCP client left in a file.
//
// # Use
//
//	result, err := discovery.Read("/tmp/dhcp.wan", "/tmp/dhcp6.wan")
//	w, err := discovery.New(discovery.Config{Files: files, Found: func(r discovery.Result) { … }})
//	err = w.Run(ctx) // calls Found for what is there, and again whenever that changes
//
// # Which option counts
//
// DHCPv4 option 125 with the Broadband Forum's number (sub-options 11 to 14), then DHCPv6 option 17 (1 to 4), then DHCPv4
// option 43 (1 to 4, or a bare URL, as many servers send it). The first of them that has a usable URL gives all four values;
// without one, the first that has any value does.
//
// # Caveats
//
// DHCP is not authenticated: whoever answers on the access network chooses the ACS. The URL is checked for its form, and
// only TLS proves who is there. Whether to follow a result at all is the business of its owner: a URL that the ACS itself
// set goes before it (DISC-05). The request side, option 60 with "dslforum.org" and vendor classes, is configuration of the
// DHCP client.
//
// # Promises
//
// A value that is not what it should be is left out with a note in Result.Refused; it never makes the others unusable.
package discovery
