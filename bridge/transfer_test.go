package bridge

import (
	"strings"
	"testing"
	"time"
)

func TestFileTransferEvent(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))
	ev := FileTransfer{Command: "c", CommandKey: "k", Requestor: "r", Upload: true, Affected: "Device.DeviceInfo.VendorLogFile.1", URL: "https://u:p@h/x?token=secret#f",
		CheckSum: "00", CheckSumAlgorithm: "SHA-1", Start: start, FaultCode: 7022, FaultString: strings.Repeat("é", 300)}.Event()
	if ev.Path != "Device.LocalAgent." || ev.Name != "TransferComplete!" || ev.Kind != EventModel {
		t.Errorf("%+v", ev)
	}
	for name, want := range map[string]string{"Command": "c", "CommandKey": "k", "Requestor": "r", "TransferType": "Upload", "TransferURL": "https://h/x", "FaultCode": "7022",
		"FaultString": strings.Repeat("é", 256), "StartTime": "2026-01-02T02:04:05Z", "CompleteTime": "0001-01-01T00:00:00Z", "CheckSum": "00", "CheckSumAlgorithm": "SHA-1",
		"Affected": "Device.DeviceInfo.VendorLogFile.1"} {
		if ev.Args[name] != want {
			t.Errorf("%s is %q, want %q", name, ev.Args[name], want)
		}
	}
	ev = FileTransfer{URL: "http://[bad"}.Event()
	if _, there := ev.Args["CheckSum"]; there || ev.Args["TransferURL"] != "" || ev.Args["TransferType"] != "Download" || ev.Args["FaultCode"] != "0" {
		t.Errorf("%v", ev.Args)
	}
}
