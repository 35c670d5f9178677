// Package agentproc runs the agent binary as a child process: what every black-box program of the laboratory needs.
//
// The child dies with this program. Kill is SIGKILL, Stop is SIGTERM with patience; both wait for the end of the process. What the agent
// prints is kept, the last 64 KiB of it. One goroutine belongs to each started process and ends with it.
package agentproc
