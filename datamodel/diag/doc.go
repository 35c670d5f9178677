// Package diag is the provider of commands that do real work on the network and the machine: the tests of
// Device.IP.Diagnostics (IPPing, TraceRoute, DownloadDiagnostics, UploadDiagnostics, UDPEchoDiagnostics,
// ServerSelectionDiagnostics), Device.DNS.Diagnostics.NSLookupDiagnostics, the UDP echo server of UDPEchoConfig, the
// vendor's log and configuration files, SelfTestDiagnostics and Reset of an interface. It stands beside a provider that
// reports the device (datamodel/linux).
//
//	o, err := diag.ParseOptions(profile.Providers["diag"])
//	o.ConfigFiles = []diag.ConfigFile{{Name: "config", Export: export, Import: load}}
//	p, err := diag.New(o)
//	defer p.Close()
//	// ... bridge.New with p among its providers, engine.Start ...
//	p.Attach(func(path string) string { leaf, _ := store.Head().Leaf(path); return leaf.Value })
//
// A test that ran tells its end in the output argument Status, also when it is an error word; only what could not run
// at all (an argument out of bounds, no permission, the end of the context) is an error of Run.
//
// The same runs have a second face for CWMP, where a test is an object with settings, DiagnosticsState and results:
// FaceOf finds it, Provider.RunObject runs it and says what to write back. The rules of DiagnosticsState around it
// (Requested, Canceled, restart when a setting is written, "8 DIAGNOSTICS COMPLETE") belong to the head.
//
// What hurts: TraceRoute needs the right to open raw ICMP sockets (CAP_NET_RAW), IPPing that or a ping_group_range
// that includes the process. Interface chooses the source address, not the outgoing link, which stays with routing.
// FTP is not supported. Bytes "on the interface" are counters of sysfs, and those of the test where there are none.
// Times are taken in user space. A download that is based on time ends early with its file. Uploads are PUT requests
// that ask first (Expect: 100-continue), in chunks when they are based on time. An unprivileged ping does not hear that
// a host is unreachable and waits for its timeout. UDPEchoDiagnostics reports the response time as measured; the time
// that an Echo Plus server took itself is in its time stamps.
//
// Everything is bounded: see the constants and Options. A run has no goroutine that outlives it; the echo server has
// one, which ends when it is disabled and in Close. Close also ends what runs, and waits.
package diag
