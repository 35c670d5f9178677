package usp

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"twinspan/datamodel/firmware"
	"twinspan/usp/uspmsg"
)

// Objects of the model.
const (
	deviceInfo = "Device.DeviceInfo."
	imageTable = deviceInfo + "FirmwareImage."
)

func firmwareTests() map[string]test {
	return map[string]test{
		"9.3": {run: downloadAndActivate, image: true},
		"9.4": {run: func(t *T) { activateIn(t, "0", "120", "Immediately", 5*time.Second) }, image: true},
		"9.5": {run: func(t *T) { activateIn(t, "1", "20", "AnyTime", 120*time.Second) }, slow: true, image: true},
		"9.6": {run: wrongChecksum, image: true},
		"9.7": {run: downloadToActive, image: true},
		"9.8": {run: cancelActivate, slow: true, image: true},
	}
}

// image is the next image, which differs from the one before. The simulated banks get one that is made here.
func (t *T) image() []byte {
	n := int(t.cfg.images.Add(1))
	if files := t.cfg.Firmware; len(files) > 0 {
		data, err := os.ReadFile(files[n%len(files)])
		t.want(err == nil, "image: %v", err)
		return data
	}
	version := fmt.Sprintf("2.%d.0", n)
	return firmware.Image(version, []byte(strings.Repeat(version+"\n", 1000)), true)
}

// serve gives a file to the agent by HTTP, for as long as the test runs.
func (t *T) serve(data []byte) (url string) {
	addr := t.cfg.FirmwareListen
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	t.want(err == nil, "file server: %v", err)
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data) // an agent that breaks off is what the test sees
	})}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) })
	t.later(func() { _ = srv.Shutdown(context.WithoutCancel(t.ctx)); wg.Wait() })
	return "http://" + l.Addr().String() + "/image"
}

// banks are the rows of the image that runs and of one that does not; the same row where there is only one.
func (t *T) banks() (active, spare string) {
	active = strings.TrimSuffix(t.value(deviceInfo+"ActiveFirmwareImage"), ".") + "."
	spare = active
	for _, row := range t.rows(imageTable + "*.Status") {
		if row != active {
			spare = row
		}
	}
	t.want(strings.HasPrefix(active, imageTable), "ActiveFirmwareImage is %q", active)
	return active, spare
}

// subscribed makes a Subscription that outlives a restart.
func (t *T) subscribed(id, kind, reference string) {
	t.made(obj(subs, req("ID", id), req("Enable", "true"), req("Persistent", "true"), req("NotifType", kind), req("ReferenceList", reference)))
}

// completed waits for the end of a command.
func (t *T) completed(from int, d time.Duration, id, key string) *uspmsg.Notify_OperationComplete {
	o := t.await(t.main, from, d, "OperationComplete", notified(id)).notify().GetOperComplete()
	t.want(o.GetCommandKey() == key, "command_key %q instead of %q", o.GetCommandKey(), key)
	return o
}

func (t *T) succeeded(o *uspmsg.Notify_OperationComplete) {
	f := o.GetCmdFailure()
	t.want(f == nil, "%s failed: %d %s", o.GetCommandName(), f.GetErrCode(), f.GetErrMsg())
}

// transferComplete waits for TransferComplete! and checks what does not depend on the result.
func (t *T) transferComplete(from int, id, row, key string) map[string]string {
	e := t.await(t.main, from, 30*time.Second, "TransferComplete!", notified(id)).notify().GetEvent()
	t.want(e.GetEventName() == "TransferComplete!" && e.GetObjPath() == local, "the event is %v", e)
	p := e.GetParams()
	t.want(p["TransferType"] == "Download" && p["CommandKey"] == key, "TransferComplete! says %v", p)
	t.want(strings.TrimSuffix(p["Affected"], ".")+"." == row, "Affected is %q instead of %q", p["Affected"], row)
	t.see("TransferComplete! FaultCode %s %s", p["FaultCode"], p["FaultString"])
	return p
}

// restartedInto waits for the restart into the image of a row.
func (t *T) restartedInto(row string, from, second int, id string) {
	t.back(from, second)
	e := t.await(t.main, from, 20*time.Second, "Boot!", notified(id)).notify().GetEvent()
	t.want(e.GetEventName() == "Boot!" && e.GetParams()["FirmwareUpdated"] == "true", "Boot! says %v", e.GetParams())
	active, _ := t.banks()
	t.want(active == row, "ActiveFirmwareImage is %s instead of %s", active, row)
	version := t.value(row + "Version")
	t.want(version != "", "the Version of the image is empty")
	t.holds(deviceInfo+"SoftwareVersion", version)
	t.see("SoftwareVersion %s", version)
}

func downloadAndActivate(t *T) {
	_, row := t.banks()
	t.subscribed("done93", "OperationComplete", row+"Download()")
	t.subscribed("transfer93", "Event", local+"TransferComplete!")
	t.subscribed("boot93", "Event", "Device.Boot!")
	data := t.image()
	sum := sha256.Sum256(data)
	m, s := t.main.Mark(), t.second.Mark()
	t.operate(t.main, row+"Download()", "test93", map[string]string{"URL": t.serve(data), "AutoActivate": "true", "FileSize": strconv.Itoa(len(data)),
		"CheckSumAlgorithm": "SHA-256", "CheckSum": hex.EncodeToString(sum[:])})
	t.succeeded(t.completed(m, 60*time.Second, "done93", "test93"))
	p := t.transferComplete(m, "transfer93", row, "test93")
	t.want(p["FaultCode"] == "0", "FaultCode is %q", p["FaultCode"])
	t.restartedInto(row, m, s, "boot93")
}

// loaded is a row with an image that can be activated.
func (t *T) loaded() string {
	active, row := t.banks()
	t.want(row != active, "the agent has only one FirmwareImage")
	if t.value(row+"Status") == "Available" && t.value(row+"Version") != t.value(active+"Version") {
		return row
	}
	t.operate(t.main, row+"Download()", "load", map[string]string{"URL": t.serve(t.image()), "AutoActivate": "false"})
	t.eventually(60*time.Second, func() bool {
		return t.value(row+"Status") == "Available" && len(t.rows(local+`Request.[Command=="`+row+`Download()"].Status`)) == 0
	}, "the second image did not become Available")
	return row
}

func timeWindow(start, end, mode string) map[string]string {
	return map[string]string{"TimeWindow.1.Start": start, "TimeWindow.1.End": end, "TimeWindow.1.Mode": mode}
}

func activateIn(t *T, start, end, mode string, within time.Duration) {
	row := t.loaded()
	t.subscribed("done-"+mode, "OperationComplete", row+"Activate()")
	t.subscribed("boot-"+mode, "Event", "Device.Boot!")
	m, s := t.main.Mark(), t.second.Mark()
	t.operate(t.main, row+"Activate()", "activate", timeWindow(start, end, mode))
	t.succeeded(t.completed(m, within, "done-"+mode, "activate"))
	t.restartedInto(row, m, s, "boot-"+mode)
}

func wrongChecksum(t *T) {
	_, row := t.banks()
	t.subscribed("transfer96", "Event", local+"TransferComplete!")
	data := t.image()
	sum := sha256.Sum256(append(data, 'x'))
	m := t.main.Mark()
	t.operate(t.main, row+"Download()", "test96", map[string]string{"URL": t.serve(data), "AutoActivate": "false", "CheckSumAlgorithm": "SHA-256", "CheckSum": hex.EncodeToString(sum[:])})
	p := t.transferComplete(m, "transfer96", row, "test96")
	t.want(p["FaultCode"] != "" && p["FaultCode"] != "0", "FaultCode is %q for a file with a wrong checksum", p["FaultCode"])
	t.eventually(t.cfg.wait(10*time.Second), func() bool { return t.value(row+"Status") == "ValidationFailed" }, "the Status is not ValidationFailed")
}

func downloadToActive(t *T) {
	row, spare := t.banks()
	t.subscribed("done97", "OperationComplete", row+"Download()")
	t.subscribed("transfer97", "Event", local+"TransferComplete!")
	t.subscribed("boot97", "Event", "Device.Boot!")
	m, s := t.main.Mark(), t.second.Mark()
	r := t.operation(t.main, row+"Download()", "test97", map[string]string{"URL": t.serve(t.image()), "AutoActivate": "true"})
	if f := r.GetCmdFailure(); f != nil {
		t.want(row != spare, "the only image was refused: %d %s", f.GetErrCode(), f.GetErrMsg())
		t.see("refused: %d %s", f.GetErrCode(), f.GetErrMsg())
		return
	}
	if f := t.completed(m, 60*time.Second, "done97", "test97").GetCmdFailure(); f != nil {
		t.want(row != spare, "the only image was refused: %d %s", f.GetErrCode(), f.GetErrMsg())
		t.see("refused: %d %s", f.GetErrCode(), f.GetErrMsg())
		return
	}
	t.want(t.transferComplete(m, "transfer97", row, "test97")["FaultCode"] == "0", "the transfer failed")
	t.restartedInto(row, m, s, "boot97")
}

// cancelActivate waits less than the 500 s of the plan: its window is shorter in the same measure.
func cancelActivate(t *T) {
	row := t.loaded()
	t.subscribed("boot98", "Event", "Device.Boot!")
	m := t.main.Mark()
	path := t.operate(t.main, row+"Activate()", "test98", timeWindow("15", "25", "Immediately")).GetReqObjPath()
	t.want(strings.HasPrefix(path, local+"Request."), "req_obj_path %q", path)
	t.operate(t.main, path+"Cancel()", "", nil)
	gone := func() bool {
		for _, o := range t.ok(t.get(local + "Request.*.Status")[0], -1) { // in one answer: the row may go at any moment
			if o.GetResolvedPath() == path && !strings.HasPrefix(o.GetResultParams()["Status"], "Cancel") {
				return false
			}
		}
		return true
	}
	t.eventually(5*time.Second, gone, "the Request is still there")
	t.silence(t.main, m, 45*time.Second, "Boot! of a canceled Activate()", notified("boot98"))
}

// errNoImages: see Config.Firmware.
var errNoImages = errors.New("the runner has no firmware images for this agent (--firmware)")
