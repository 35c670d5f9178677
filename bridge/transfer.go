package bridge

import (
	"net/url"
	"strconv"
	"time"

	"twinspan/datamodel"
)

// FileTransfer is the end of a file transfer that somebody asked for, as Device.LocalAgent.TransferComplete! tells it.
type FileTransfer struct {
	// Command, CommandKey and Requestor (an Endpoint ID) are empty for what no Controller asked for.
	Command, CommandKey, Requestor string
	Upload                         bool
	Affected                       string // the row that the file is about, without final dot
	URL                            string
	CheckSum, CheckSumAlgorithm    string
	Start, Complete                time.Time
	FaultCode                      uint32 // of the protocol that asked; 0: it succeeded
	FaultString                    string
}

// maxFaultString is the length of FaultString in characters.
const maxFaultString = 256

// Event of the transfer. The URL goes without what may be a secret in it.
func (t FileTransfer) Event() Event {
	kind := "Download"
	if t.Upload {
		kind = "Upload"
	}
	if u, err := url.Parse(t.URL); err == nil {
		u.User, u.RawQuery, u.Fragment = nil, "", ""
		t.URL = u.String()
	} else {
		t.URL = ""
	}
	if r := []rune(t.FaultString); len(r) > maxFaultString {
		t.FaultString = string(r[:maxFaultString])
	}
	args := map[string]string{"Command": t.Command, "CommandKey": t.CommandKey, "Requestor": t.Requestor, "TransferType": kind,
		"Affected": t.Affected, "TransferURL": t.URL, "StartTime": moment(t.Start), "CompleteTime": moment(t.Complete),
		"FaultCode": strconv.FormatUint(uint64(t.FaultCode), 10), "FaultString": t.FaultString}
	if t.CheckSum != "" {
		args["CheckSum"], args["CheckSumAlgorithm"] = t.CheckSum, t.CheckSumAlgorithm
	}
	return Event{Kind: EventModel, Path: "Device.LocalAgent.", Name: "TransferComplete!", Args: args}
}

func moment(t time.Time) string {
	if t.IsZero() {
		return datamodel.UnknownTime
	}
	return t.UTC().Format(time.RFC3339)
}
