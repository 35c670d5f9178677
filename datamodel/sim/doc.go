// Package sim is a provider without a device: for the lab, for tests and for trying out a profile. What it serves is
// told to it: constants, counters that count, a status that follows its enable parameter, rows that come and go,
// commands that take a while and end as told. Fault switches make it as bad as a real driver can be: slow, failing,
// panicking, vetoing, unable to apply.
//
//	p := sim.New("sim")
//	p.Set("Device.DeviceInfo.SoftwareVersion", "1.0")
//	p.Counter("Device.Ethernet.Interface.{i}.Stats.BytesSent", 0, 1500)
//	p.Follow("Device.Ethernet.Interface.{i}.Status", "Enable", "Up", "Down")
//	p.Command("Device.IP.Diagnostics.IPPing()", sim.Behaviour{Takes: time.Second, Output: map[string]string{"SuccessCount": "3"}})
//	p.SetFaults(sim.Faults{Veto: errors.New("not now")})
//
// or from the table [providers.sim] of a device profile, see Configure. Paths are canonical; {i} stands for every row,
// and an instance path counts more than a supported one. What is served (new paths, tables and commands) must be told
// before the engine starts, since the engine asks only once; values, rows, behaviours and faults may change at any
// time. A Provider is safe for concurrent use and starts no goroutines.
package sim
