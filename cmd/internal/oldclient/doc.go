// Package oldclient reads the state that other CWMP clients keep on a device and writes it as a file for the agent's import
// (docs/import.md). Only what those clients are known to write is read: the UCI configuration and the backup file of easycwmp, and of
// icwmp as of 2017. It belongs to the laboratory and to firmware builds; the agent itself reads only the neutral file.
//
//	text, err := oldclient.Convert(oldclient.Easycwmp, uci, backup, oldclient.Options{})
//
// What cannot be taken over becomes a comment in the result. Nothing is written by this package.
package oldclient
