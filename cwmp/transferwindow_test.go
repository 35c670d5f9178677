package cwmp

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"twinspan/bridge"
	"twinspan/cwmp/acs"
	"twinspan/cwmp/soap"
)

func scheduleDownload(key, url string, windows ...soap.TimeWindow) *soap.ScheduleDownload {
	return &soap.ScheduleDownload{CommandKey: key, FileType: fileConfig, URL: url, TimeWindowList: windows}
}

func now(start, end uint32, retries int) soap.TimeWindow {
	return soap.TimeWindow{WindowStart: start, WindowEnd: end, WindowMode: modeImmediately, MaxRetries: retries}
}

// SDL-01, SDL-03, SDL-05: windows, tries in them, a restart before them.
func TestSDL01ScheduleDownload(t *testing.T) {
	t.Parallel()
	files := newFileServer(t, configFileWith(t, "Device.DeviceInfo.ProvisioningCode", "scheduled"))
	r := newRig(t, nil, nil)
	var second atomic.Int32
	flaky := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if second.Add(1) < 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Write(files.file)
	}))
	t.Cleanup(flaky.Close)
	answers := r.run(
		scheduleDownload("good", files.URL+"/open", now(1, 60, 0)),
		scheduleDownload("retried", flaky.URL, now(0, 60, 3)),
		scheduleDownload("never", files.URL+"/missing", now(0, 2, 0), now(2, 4, 0)),
		scheduleDownload("later", files.URL+"/open", now(1000, 2000, 0)))
	for i, a := range answers {
		if _, ok := a.(*soap.ScheduleDownloadResponse); !ok {
			t.Fatalf("%d: %#v", i, a)
		}
	}
	r.restart()
	for key, want := range map[string]soap.FaultCode{"good": 0, "retried": 0, "never": soap.TimeWindowsMissed} {
		if m := r.completed(key); m.FaultStruct.FaultCode != want {
			t.Errorf("%s: %+v", key, m.FaultStruct)
		}
	}
	if n := second.Load(); n != 2 {
		t.Errorf("%d tries", n)
	}
	found := false
	for i := range r.acs.count() {
		found = found || slices.Contains(eventCodes(inform(r.acs.session(i))), "M ScheduleDownload never")
	}
	if !found {
		t.Error("no event M ScheduleDownload")
	}
	list := r.rpc(&soap.GetAllQueuedTransfers{}).(*soap.GetAllQueuedTransfersResponse).TransferList
	if len(list) != 1 || list[0].CommandKey != "later" || list[0].State != 1 || !list[0].IsDownload || list[0].FileType != fileConfig {
		t.Errorf("left %+v", list)
	}
}

// SDL-02, SDL-04.
func TestSDL02BadWindows(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	mode := now(0, 10, 0)
	mode.WindowMode = "4 Confirmation Needed"
	for name, m := range map[string]*soap.ScheduleDownload{
		"none":     scheduleDownload("k", "http://h/f"),
		"three":    scheduleDownload("k", "http://h/f", now(0, 1, 0), now(1, 2, 0), now(2, 3, 0)),
		"overlap":  scheduleDownload("k", "http://h/f", now(5, 9, 0), now(0, 6, 0)),
		"end":      scheduleDownload("k", "http://h/f", now(9, 9, 0)),
		"mode":     scheduleDownload("k", "http://h/f", mode),
		"retries":  scheduleDownload("k", "http://h/f", now(0, 1, -2)),
		"type":     {FileType: "4 Tone File", URL: "http://h/f", TimeWindowList: []soap.TimeWindow{now(0, 1, 0)}},
		"long URL": scheduleDownload("k", "http://h/"+strings.Repeat("f", 256), now(0, 1, 0)),
	} {
		if f, ok := r.rpc(m).(*soap.Fault); !ok || f.Code != soap.InvalidArguments {
			t.Errorf("%s: %#v", name, f)
		}
	}
	wantFault(t, r.rpc(scheduleDownload("k", "ftp://h/f", now(0, 1, 0))), soap.UnsupportedTransferProto)
}

// SDL-06: a window whose mode is When Idle waits for an idle device; a window that passed gives 9020.
func TestSDL06Idle(t *testing.T) {
	t.Parallel()
	files := newFileServer(t, nil)
	r := newRig(t, func(o *Options) { o.Idle = func() bool { return false } }, nil)
	w := now(0, 1, -1)
	w.WindowMode = modeIdle
	r.rpc(scheduleDownload("busy", files.URL+"/open", w))
	r.wait("the look at the device", func() bool {
		waits := false
		r.cpe.call(r.ctx(), func() error {
			waits = len(r.cpe.transfers) == 1 && time.Until(r.cpe.transfers[0].NotBefore) > time.Second
			return nil
		})
		return waits
	})
	time.Sleep(time.Second)
	r.cpe.call(r.ctx(), func() error { r.cpe.transfers[0].NotBefore = time.Now(); return nil })
	if m := r.completed("busy"); m.FaultStruct.FaultCode != soap.TimeWindowsMissed {
		t.Errorf("%+v", m.FaultStruct)
	}
}

// CAN-01 to CAN-04, QUE-01.
func TestCAN01CancelTransfer(t *testing.T) {
	t.Parallel()
	began, stop := make(chan struct{}), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("{"))
		w.(http.Flusher).Flush()
		close(began)
		select {
		case <-r.Context().Done():
		case <-stop:
		}
	}))
	t.Cleanup(func() { close(stop); srv.Close() })
	r := newRig(t, nil, nil)
	a := r.run(
		&soap.Download{CommandKey: "twice", FileType: fileConfig, URL: srv.URL, FileSize: 5},
		&soap.Download{CommandKey: "twice", FileType: fileConfig, URL: srv.URL, DelaySeconds: 1000},
		&soap.Upload{CommandKey: "other", FileType: "4 Vendor Log File 1", URL: srv.URL, DelaySeconds: 1000},
		&soap.GetQueuedTransfers{})
	if l := a[3].(*soap.GetQueuedTransfersResponse).TransferList; len(l) != 3 || l[0].State != 1 {
		t.Errorf("queued %+v", l)
	}
	<-began
	list := r.rpc(&soap.GetAllQueuedTransfers{}).(*soap.GetAllQueuedTransfersResponse).TransferList
	if len(list) != 3 || list[0].State != 2 || list[0].FileSize != 5 || list[2].IsDownload || list[2].FileType != "7 Vendor Log File 1" {
		t.Errorf("queued %+v", list)
	}
	for _, key := range []string{"nobody", "twice"} {
		if m, ok := r.rpc(&soap.CancelTransfer{CommandKey: key}).(*soap.CancelTransferResponse); !ok {
			t.Fatalf("%s: %#v", key, m)
		}
	}
	r.wait("the end of the canceled download", func() bool {
		idle := false
		r.cpe.call(r.ctx(), func() error { idle = r.cpe.moving == ""; return nil })
		return idle
	})
	list = r.rpc(&soap.GetAllQueuedTransfers{}).(*soap.GetAllQueuedTransfersResponse).TransferList
	if len(list) != 1 || list[0].CommandKey != "other" || len(r.completes()) != 0 {
		t.Errorf("left %+v, reports %v", list, r.completes())
	}
	// CAN-03: what has ended, or is being applied, cannot be canceled.
	r.cpe.call(r.ctx(), func() error { r.cpe.transfers[0].State = transferInstalled; return nil })
	wantFault(t, r.rpc(&soap.CancelTransfer{CommandKey: "other"}), soap.CancelNotPermitted)
	r.cpe.call(r.ctx(), func() error {
		r.cpe.transfers[0].State, r.cpe.moving = transferRunning, r.cpe.transfers[0].ID
		r.cpe.applying.Store(true)
		return nil
	})
	wantFault(t, r.rpc(&soap.CancelTransfer{CommandKey: "other"}), soap.CancelNotPermitted)
	r.cpe.call(r.ctx(), func() error { r.cpe.moving = ""; return nil })
}

// ATC-01, ATC-02: transfers that a Controller started.
func TestATC01Autonomous(t *testing.T) {
	t.Parallel()
	r := newServerRig(t, acs.Config{Strict: true}, nil, nil)
	r.idle(1)
	operated := func(path string, input map[string]string, err error) {
		r.engine.Emit(bridge.Event{Kind: bridge.EventOperated, Path: path, Cause: "usp:self::ctl", Input: input, Start: time.Now().Add(-time.Second), Err: err})
	}
	const firmware, backup, restore = "Device.DeviceInfo.FirmwareImage.1.Download()", "Device.DeviceInfo.VendorConfigFile.2.Backup()", "Device.DeviceInfo.VendorConfigFile.1.Restore()"
	r.cpe.call(r.ctx(), func() error { // the policy is off
		r.cpe.operated(r.ctx(), bridge.Event{Kind: bridge.EventOperated, Path: firmware, Cause: "usp:self::ctl", Time: time.Now()})
		return nil
	})
	const policy = msPath + "AutonomousTransferCompletePolicy."
	r.sys(policy+"Enable", "true")
	r.sys(policy+"FileTypeFilter", "1 Firmware Upgrade Image,3 Vendor Configuration File")
	r.sys(policy+"TransferTypeFilter", "Both")
	operated(firmware, map[string]string{"URL": "http://h/img", "FileSize": "77"}, nil)
	operated("Device.DeviceInfo.VendorLogFile.1.Upload()", nil, nil) // not in the filter
	operated(backup, map[string]string{"URL": "http://h/put"}, errors.New("no route"))
	operated("Device.IP.Diagnostics.IPPing()", nil, nil) // no transfer
	in, err := r.dev.WaitInform(r.ctx(), func(in *acs.InformRecord) bool { return in.HasEvent(evAutonomous) })
	if err != nil || in.HasEvent(evTransferComplete) {
		t.Fatalf("%v, events %v", err, in.Inform.Event)
	}
	reports := func() (out []*soap.AutonomousTransferComplete) {
		for _, m := range r.dev.Requests() {
			if a, ok := m.(*soap.AutonomousTransferComplete); ok {
				out = append(out, a)
			}
		}
		return out
	}
	r.rig.wait("two reports", func() bool { return len(reports()) == 2 })
	a, b := reports()[0], reports()[1]
	if !a.IsDownload || a.TransferURL != "http://h/img" || a.FileSize != 77 || a.FaultStruct.FaultCode != 0 || !a.CompleteTime.After(a.StartTime) || a.FileType != fileFirmware {
		t.Errorf("download %+v", a)
	}
	if b.IsDownload || b.FaultStruct.FaultCode != soap.UploadFailure || b.FileType != "6 Vendor Configuration File 2" {
		t.Errorf("upload %+v", b)
	}
	r.sys(policy+"ResultTypeFilter", "Failure")
	operated(restore, nil, nil)
	r.rig.wait("nothing to be left", func() bool {
		left := -1
		r.cpe.call(r.ctx(), func() error { left = len(r.cpe.transfers) + len(r.cpe.queue.list); return nil })
		return left == 0
	})
	if len(reports()) != 2 {
		t.Errorf("reports %v", reports())
	}
	r.clean()
}

// RequestDownload goes out once, beside its event; an ACS that lacks it is not bothered.
func TestRequestDownload(t *testing.T) {
	t.Parallel()
	r := newServerRig(t, acs.Config{Strict: true}, nil, nil)
	r.idle(1)
	r.server.Inject(acs.Fault{Stage: acs.OnRequest, Times: 1, HoldRequests: true}) // the answer to GetRPCMethods puts requests off
	if err := r.cpe.RequestDownload(r.ctx(), fileConfig, soap.Arg{Name: "Version", Value: "2"}); err != nil {
		t.Fatal(err)
	}
	r.idle(2)
	last, _ := r.dev.LastInform()
	requests := r.dev.Requests()
	if m, ok := requests[len(requests)-1].(*soap.RequestDownload); !ok || !last.HasEvent(evRequestDownload) || m.FileTypeArg[0].Value != "2" {
		t.Errorf("events %v, request %#v", last.Inform.Event, requests)
	}
	r.cpe.call(r.ctx(), func() error { r.cpe.acsMethods = []string{"Inform"}; return nil })
	if err := r.cpe.RequestDownload(r.ctx(), fileConfig); err != nil {
		t.Fatal(err)
	}
	r.idle(3)
	if n := len(r.dev.Requests()); n != len(requests) {
		t.Errorf("%d requests more", n-len(requests))
	}
	r.clean()
}
