// Package prove tries to break the real agent binary, and counts how often it did not. It is what `twinspan-lab prove` and `make prove` run;
// its tests run the short version.
//
//	kill    SIGKILL at random moments while an ACS, two USP Controllers and the command line write; then everything acknowledged is looked
//	        for over both protocols and in the file
//	image   every page write and barrier of the agent is recorded, and the files that a power cut can leave are built from them and opened
//	io      ENOSPC, EIO and torn writes at every write, sync and growth of the file, one by one, and a disk that forgets pages after a failed sync
//	linear  histories of both protocols' concurrent reads and writes are checked for linearizability and for the session shield
//	fair    two masters that never give in, and sixteen hot writers beside an open session
//
// # How writers are judged
//
// A lane is one sequential client with a part of the data model of its own: two rows of Device.Time.Client. and any rows of
// Device.NAT.PortMapping. that it adds. Each of its operations leads from one state of that part to the next, so after a crash the part
// must be in the state after the last acknowledged operation, or after the one that was on its way, and nothing between: that is "no
// acknowledged write lost" and "no half". A pair of rows that all lanes write is judged as a register: what it holds must not have been
// overwritten by a write that began after it was acknowledged. Instance numbers are kept for the whole run: none may be seen twice.
//
// # The interposer
//
// image and io run the agent under a seccomp filter that hands its file system calls to this process (user notification, Linux 5.5, no
// privileges needed), so that nothing of the agent is changed or rebuilt. A kernel that refuses is an error, not a pass.
//
// What hurts: everything here is for Linux; the rounds of kill and image differ from run to run even with the same seed, since the agent's
// goroutines do.
package prove
