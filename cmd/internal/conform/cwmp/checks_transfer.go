package conformcwmp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"sync"
	"time"

	"twinspan/cwmp/soap"
)

// File types.
const (
	firmwareType = "1 Firmware Upgrade Image"
	configType   = "3 Vendor Configuration File"
)

// complete asks for a transfer and waits for its TransferComplete; the session with it is held.
func (b *bench) complete(ctx context.Context, request soap.Message) (*soap.TransferComplete, *exchange, error) {
	mark := b.tap.mark()
	if _, err := b.call(ctx, request); err != nil {
		return nil, nil, err
	}
	b.endSession(ctx)
	b.holdNext()
	return b.completed(ctx, mark, keyOf(request))
}

func keyOf(m soap.Message) string {
	switch r := m.(type) {
	case *soap.Download:
		return r.CommandKey
	case *soap.Upload:
		return r.CommandKey
	}
	return ""
}

// transferPatience bounds a transfer of a small file on an idle network.
const transferPatience = 30 * time.Second

func (b *bench) completed(ctx context.Context, mark int, key string) (*soap.TransferComplete, *exchange, error) {
	ctx, cancel := context.WithTimeout(ctx, transferPatience)
	defer cancel()
	x, err := b.tap.wait(ctx, mark, func(x *exchange) bool {
		return x.method() == "TransferComplete" && !x.refused && x.Envelope.Body.(*soap.TransferComplete).CommandKey == key
	})
	if err != nil {
		return nil, nil, fmt.Errorf("no TransferComplete for %q", key)
	}
	m := x.Envelope.Body.(*soap.TransferComplete)
	b.observe("TransferComplete %q: fault %d %s", m.CommandKey, m.FaultStruct.FaultCode, m.FaultStruct.FaultString)
	return m, x, b.tap.answered(ctx, x)
}

// config gets a configuration file that the CPE takes: its own.
func (b *bench) config(ctx context.Context) (*fileServer, []byte, error) {
	f, err := b.fileServer()
	if err != nil {
		return nil, nil, err
	}
	if err := b.needRPC(ctx, "Upload"); err != nil {
		return nil, nil, notShown("no configuration file is known that this CPE takes: it has no Upload")
	}
	m, _, err := b.complete(ctx, &soap.Upload{CommandKey: "own", FileType: "1 Vendor Configuration File", URL: f.base + "/own"})
	if err != nil {
		return nil, nil, err
	}
	got := f.got("/own")
	if m.FaultStruct.FaultCode != 0 || len(got) == 0 {
		return nil, nil, notShown("no configuration file is known that this CPE takes: its Upload ends with fault %d", m.FaultStruct.FaultCode)
	}
	f.serve(got[0].Body)
	return f, got[0].Body, nil
}

// wantComplete wants a transfer to end with one of the codes.
func (b *bench) wantComplete(ctx context.Context, what string, request soap.Message, codes ...soap.FaultCode) error {
	m, _, err := b.complete(ctx, request)
	if faultCode(err) != 0 {
		return b.wantFault(err, what, codes...)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if !slices.Contains(codes, m.FaultStruct.FaultCode) {
		return fmt.Errorf("%s: TransferComplete has fault %d (%s) instead of %v", what, m.FaultStruct.FaultCode, m.FaultStruct.FaultString, numbers(codes))
	}
	if (m.FaultStruct.FaultCode == 0) != (m.FaultStruct.FaultString == "") {
		return fmt.Errorf("%s: FaultCode %d with the text %q", what, m.FaultStruct.FaultCode, m.FaultStruct.FaultString)
	}
	return nil
}

var transferChecks = map[string]check{
	"DL-01": {needs: []ability{canInstall}, run: func(ctx context.Context, b *bench) error {
		f, err := b.fileServer()
		if err != nil {
			return err
		}
		f.serve([]byte("corrupt image"))
		before, err := b.get(ctx, b.root+"DeviceInfo.SoftwareVersion")
		if err != nil {
			return err
		}
		if err := b.wantComplete(ctx, "a bad image", &soap.Download{CommandKey: "bad", FileType: firmwareType, URL: f.base + "/ok"},
			soap.FileCorrupted, soap.DownloadFailure); err != nil {
			return err
		}
		return b.wantValue(ctx, b.root+"DeviceInfo.SoftwareVersion", before)
	}},
	"DL-02": {run: func(ctx context.Context, b *bench) error {
		f, _, err := b.config(ctx)
		if err != nil {
			return err
		}
		m, x, err := b.complete(ctx, &soap.Download{CommandKey: "D1", FileType: configType, URL: f.base + "/ok"})
		if err != nil {
			return err
		}
		inform := b.lastExchange("Inform").inform()
		switch {
		case m.FaultStruct.FaultCode != 0:
			return fmt.Errorf("its own file is refused with %d", m.FaultStruct.FaultCode)
		case m.CompleteTime.Before(m.StartTime) || m.StartTime.IsZero():
			return fmt.Errorf("StartTime %v, CompleteTime %v", m.StartTime, m.CompleteTime)
		case !hasEvent(inform, "7 TRANSFER COMPLETE") || !hasKey(inform, "M Download", "D1"):
			return fmt.Errorf("the Inform has %s", events(inform))
		case x == nil:
			return errNothingCame
		}
		return nil
	}},
	"DL-03": {limit: 2 * time.Minute, run: waysOfFailing},
	"DL-04": {run: func(ctx context.Context, b *bench) error {
		return b.wantComplete(ctx, "gopher://", &soap.Download{CommandKey: "g", FileType: configType, URL: "gopher://127.0.0.1/x"}, soap.UnsupportedTransferProto)
	}},
	"DL-05": {run: func(ctx context.Context, b *bench) error {
		_, err := b.call(ctx, &soap.Download{CommandKey: "n", FileType: "9 Nonsense", URL: b.base + "/x"})
		return b.wantFault(err, "9 Nonsense", soap.InvalidArguments)
	}},
	"DL-06": {run: func(ctx context.Context, b *bench) error {
		f, err := b.fileServer()
		if err != nil {
			return err
		}
		if _, err := b.call(ctx, &soap.Download{CommandKey: "late", FileType: configType, URL: f.base + "/missing", DelaySeconds: 3}); err != nil {
			return err
		}
		if err := pause(ctx, 1500*time.Millisecond); err != nil { // the session lasts
			return err
		}
		n := b.dev.Sessions()
		b.endSession(ctx)
		ended := time.Now()
		if b.dev.Sessions() != n+1 {
			return errors.New("the session did not end at once")
		}
		got, err := f.await(ctx, "/missing")
		if err != nil {
			return err
		}
		b.observe("with DelaySeconds 3 the file was asked for %.2f s after the session", got.At.Sub(ended).Seconds())
		if got.At.Sub(ended) < 2900*time.Millisecond {
			return fmt.Errorf("the transfer started %v after the session", got.At.Sub(ended))
		}
		return nil
	}},
	"DL-07": {run: func(ctx context.Context, b *bench) error {
		f, err := b.fileServer()
		if err != nil {
			return err
		}
		if _, err := b.call(ctx, &soap.Download{CommandKey: "now", FileType: configType, URL: f.base + "/missing"}); err != nil {
			return err
		}
		b.endSession(ctx)
		short, cancel := brief(ctx)
		defer cancel()
		_, err = f.await(short, "/missing")
		return err
	}},
	"DL-08": {run: func(ctx context.Context, b *bench) error {
		f, _, err := b.config(ctx)
		if err != nil {
			return err
		}
		for _, path := range []string{"/basic", "/digest", "/ok"} {
			d := &soap.Download{CommandKey: path, FileType: configType, URL: f.base + path}
			if path != "/ok" {
				d.Username, d.Password = fileUser, filePassword
			}
			if err := b.wantComplete(ctx, path, d, 0); err != nil {
				return err
			}
		}
		return nil
	}},
	"DL-09": {run: func(ctx context.Context, b *bench) error {
		port, err := b.secure(leaf{dns: []string{"localhost"}, selfSigned: true}, nil)
		if err != nil {
			return err
		}
		mark := b.tap.mark()
		if err := b.wantComplete(ctx, "an untrusted file server", &soap.Download{CommandKey: "tls", FileType: configType, URL: "https://localhost:" + port + "/ok"},
			soap.CannotContactFileServer, soap.DownloadFailure); err != nil {
			return err
		}
		for _, x := range b.tap.since(mark) {
			if x.Method == http.MethodGet {
				return errors.New("the file was asked for")
			}
		}
		return nil
	}},
	"DL-10": {run: func(ctx context.Context, b *bench) error {
		f, content, err := b.config(ctx)
		if err != nil {
			return err
		}
		for _, size := range []uint32{0, uint32(len(content))} {
			if err := b.wantComplete(ctx, fmt.Sprint("FileSize ", size),
				&soap.Download{CommandKey: fmt.Sprint(size), FileType: configType, URL: f.base + "/ok", FileSize: size}, 0); err != nil {
				return err
			}
		}
		return nil
	}},
	"DL-11": {needs: []ability{canRestart}, run: func(ctx context.Context, b *bench) error {
		f, err := b.fileServer()
		if err != nil {
			return err
		}
		if _, err := b.call(ctx, &soap.Download{CommandKey: "survives", FileType: configType, URL: f.base + "/missing", DelaySeconds: 2}); err != nil {
			return err
		}
		mark := b.tap.mark()
		b.endSession(ctx)
		if _, err := b.restart(ctx); err != nil {
			return err
		}
		b.endSession(ctx)
		_, _, err = b.completed(ctx, mark, "survives")
		return err
	}},
	"DL-12": {needs: []ability{canInstall}, world: world{reboots: true}, run: goodFirmware},
	"DL-14": {run: threeDownloads},
	"DL-15": {run: func(ctx context.Context, b *bench) error {
		for i := range 17 {
			_, err := b.call(ctx, &soap.Download{CommandKey: fmt.Sprint(i), FileType: configType, URL: b.base + "/x", DelaySeconds: 3600})
			if i < 16 && err != nil {
				return fmt.Errorf("transfer %d: %w", i+1, err)
			}
			if i == 16 {
				return b.wantFault(err, "the 17th transfer", soap.ResourcesExceeded)
			}
		}
		return nil
	}},
	"DL-16": {run: func(ctx context.Context, b *bench) error {
		f, err := b.fileServer()
		if err != nil {
			return err
		}
		return b.wantComplete(ctx, "with SuccessURL", &soap.Download{CommandKey: "urls", FileType: configType, URL: f.base + "/missing",
			SuccessURL: f.base + "/good", FailureURL: f.base + "/bad"}, soap.CannotAccessFile)
	}},
	"DL-17": {run: func(ctx context.Context, b *bench) error {
		_, content, err := b.config(ctx)
		if err != nil {
			return err
		}
		b.tap.setAuth("", "")
		b.tap.onBefore(func(x *exchange) bool {
			if x.Method != http.MethodGet {
				return false
			}
			x.RespHeader, x.RespBody = http.Header{}, content
			return true
		})
		return b.wantComplete(ctx, "a file at the ACS's address", &soap.Download{CommandKey: "same", FileType: configType, URL: b.base + "/file"}, 0)
	}},
	"DL-18": {run: func(ctx context.Context, b *bench) error {
		if err := b.fastRetry(ctx); err != nil {
			return err
		}
		var once sync.Once
		b.tap.onBefore(func(x *exchange) bool {
			cut := false
			if x.method() == "TransferComplete" {
				once.Do(func() { cut = true })
			}
			x.Cut = cut
			return cut
		})
		if err := b.pendingTransfer(ctx, "cut"); err != nil {
			return err
		}
		mark := b.tap.mark()
		b.endSession(ctx)
		first, x, err := b.completed(ctx, mark, "cut")
		if err != nil {
			return err
		}
		again, _, err := b.completed(ctx, b.after(x), "cut")
		if err != nil {
			return fmt.Errorf("after a cut: %w", err)
		}
		if *first != *again {
			return fmt.Errorf("it was repeated as %v instead of %v", *again, *first)
		}
		return nil
	}},
	"DL-20": {run: func(ctx context.Context, b *bench) error {
		if err := b.pendingTransfer(ctx, "order"); err != nil {
			return err
		}
		mark := b.tap.mark()
		b.endSession(ctx)
		_, x, err := b.completed(ctx, mark, "order")
		if err != nil {
			return err
		}
		if !regexp.MustCompile(`(?s)<CommandKey>order</CommandKey>\s*<FaultStruct>.*</FaultStruct>\s*<StartTime>.*</StartTime>\s*<CompleteTime>`).Match(x.Body) {
			return fmt.Errorf("the elements are %s", x.Body)
		}
		return nil
	}},
	"DL-21": {run: func(ctx context.Context, b *bench) error {
		f, _, err := b.config(ctx)
		if err != nil {
			return err
		}
		_, x, err := b.complete(ctx, &soap.Download{CommandKey: "fine", FileType: configType, URL: f.base + "/ok"})
		if err != nil {
			return err
		}
		if !regexp.MustCompile(`<FaultStruct>\s*<FaultCode>0</FaultCode>\s*(<FaultString></FaultString>|<FaultString/>)\s*</FaultStruct>`).Match(x.Body) {
			return fmt.Errorf("the FaultStruct of a success is %s", x.Body)
		}
		return nil
	}},
	"UL-01": {run: func(ctx context.Context, b *bench) error {
		if err := b.needRPC(ctx, "Upload"); err != nil {
			return err
		}
		f, err := b.fileServer()
		if err != nil {
			return err
		}
		if err := b.wantComplete(ctx, "an upload", &soap.Upload{CommandKey: "U1", FileType: "1 Vendor Configuration File", URL: f.base + "/put-digest",
			Username: fileUser, Password: filePassword}, 0); err != nil {
			return err
		}
		got := f.got("/put-digest")
		if len(got) != 1 || got[0].Method != http.MethodPut || len(got[0].Body) == 0 {
			return fmt.Errorf("%d requests were served", len(got))
		}
		b.observe("%d bytes by PUT", len(got[0].Body))
		if inform := b.lastExchange("Inform").inform(); !hasKey(inform, "M Upload", "U1") {
			return fmt.Errorf("the Inform has %s", events(inform))
		}
		return nil
	}},
	"UL-02": {run: func(ctx context.Context, b *bench) error {
		if err := b.needRPC(ctx, "Upload"); err != nil {
			return err
		}
		f, err := b.fileServer()
		if err != nil {
			return err
		}
		for i, fileType := range []string{"2 Vendor Log File", "3 Vendor Configuration File 1", "4 Vendor Log File 1"} {
			path := fmt.Sprintf("/put%d", i)
			if err := b.wantComplete(ctx, fileType, &soap.Upload{CommandKey: path, FileType: fileType, URL: f.base + path}, 0); err != nil {
				return err
			}
			if len(f.got(path)) != 1 {
				return fmt.Errorf("%s did not arrive", fileType)
			}
		}
		return b.wantComplete(ctx, "an unknown instance", &soap.Upload{CommandKey: "i", FileType: "3 Vendor Configuration File 4711", URL: f.base + "/none"},
			soap.InvalidArguments, soap.UploadFailure)
	}},
	"UL-03": {run: func(ctx context.Context, b *bench) error {
		if err := b.needRPC(ctx, "Upload"); err != nil {
			return err
		}
		f, err := b.fileServer()
		if err != nil {
			return err
		}
		for _, path := range []string{"/refuse", "/broken"} {
			if err := b.wantComplete(ctx, path, &soap.Upload{CommandKey: path, FileType: "1 Vendor Configuration File", URL: f.base + path}, soap.UploadFailure); err != nil {
				return err
			}
		}
		return nil
	}},
	"UL-04": {run: func(ctx context.Context, b *bench) error {
		if err := b.needRPC(ctx, "Upload"); err != nil {
			return err
		}
		_, err := b.call(ctx, &soap.Upload{CommandKey: "n", FileType: "9 Nonsense", URL: b.base + "/x"})
		return b.wantFault(err, "9 Nonsense", soap.InvalidArguments)
	}},
	"ATC-02": {needs: []ability{canUSP}, world: world{banks: true}, run: autonomousTransfer},
}

func waysOfFailing(ctx context.Context, b *bench) error {
	f, content, err := b.config(ctx)
	if err != nil {
		var v *verdictError
		if !errors.As(err, &v) {
			return err
		}
		if f, err = b.fileServer(); err != nil { // no matter for what is not going to be used
			return err
		}
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	for i, c := range []struct {
		what string
		d    soap.Download
		want []soap.FaultCode
	}{
		{"an unknown host", soap.Download{URL: "http://no-such-host.invalid/x"}, []soap.FaultCode{soap.CannotContactFileServer}},
		{"a closed port", soap.Download{URL: "http://127.0.0.1:" + port + "/x"}, []soap.FaultCode{soap.CannotContactFileServer}},
		{"404", soap.Download{URL: f.base + "/missing"}, []soap.FaultCode{soap.CannotAccessFile}},
		{"a wrong password", soap.Download{URL: f.base + "/digest", Username: fileUser, Password: "wrong"}, []soap.FaultCode{soap.TransferAuthFailure}},
		{"a wrong FileSize", soap.Download{URL: f.base + "/ok", FileSize: uint32(len(content)) + 7}, []soap.FaultCode{soap.DownloadFailure, soap.FileCorrupted}},
		{"a truncated file", soap.Download{URL: f.base + "/truncated"}, []soap.FaultCode{soap.CannotCompleteDownload}},
	} {
		c.d.CommandKey, c.d.FileType = fmt.Sprint("fail-", i), configType
		if err := b.wantComplete(ctx, c.what, &c.d, c.want...); err != nil {
			return err
		}
	}
	return nil
}

func goodFirmware(ctx context.Context, b *bench) error {
	f, err := b.fileServer()
	if err != nil {
		return err
	}
	f.serve(bytes.Repeat([]byte("image "), 1000))
	mark := b.tap.mark()
	if _, err := b.call(ctx, &soap.Download{CommandKey: "FW", FileType: firmwareType, URL: f.base + "/ok"}); err != nil {
		return err
	}
	b.endSession(ctx)
	b.holdNext()
	if d, ok := b.driver.(*agentDriver); ok {
		if err := d.rebooted(ctx); err != nil {
			return err
		}
	}
	m, x, err := b.completed(ctx, mark, "FW")
	if err != nil {
		return err
	}
	if m.FaultStruct.FaultCode != 0 {
		return fmt.Errorf("a good image ends with fault %d %s", m.FaultStruct.FaultCode, m.FaultStruct.FaultString)
	}
	list := b.tap.since(mark)
	var inform *soap.Inform
	for _, e := range list[:slices.Index(list, x)] {
		if e.inform() != nil {
			inform = e.inform()
		}
	}
	b.observe("the Inform before TransferComplete: %s", events(inform))
	for _, want := range []string{"1 BOOT", "7 TRANSFER COMPLETE", "M Download"} {
		if !hasEvent(inform, want) {
			return fmt.Errorf("TransferComplete came in a session with %s", events(inform))
		}
	}
	if v, ok := informValue(inform, b.root+"DeviceInfo.SoftwareVersion"); ok {
		b.observe("SoftwareVersion %s", v)
	}
	if !hasEvent(inform, "4 VALUE CHANGE") {
		if d, ok := b.driver.(*agentDriver); ok && d.world.reboots {
			return errors.New("the new SoftwareVersion is no VALUE CHANGE")
		}
		return notShown("applied before TransferComplete, with BOOT: seen; the image of the bench brings no new SoftwareVersion, so there is no VALUE CHANGE")
	}
	return nil
}

func threeDownloads(ctx context.Context, b *bench) error {
	f, err := b.fileServer()
	if err != nil {
		return err
	}
	mark := b.tap.mark()
	for i := range 3 {
		d := &soap.Download{CommandKey: fmt.Sprint("K", i+1), FileType: configType, URL: f.base + "/missing", DelaySeconds: uint32(3 - i)}
		if _, err := b.call(ctx, d); err != nil {
			return err
		}
	}
	if b.needRPC(ctx, "GetAllQueuedTransfers") == nil {
		m, err := b.call(ctx, &soap.GetAllQueuedTransfers{})
		if err != nil {
			return err
		}
		if n := len(m.(*soap.GetAllQueuedTransfersResponse).TransferList); n != 3 {
			return fmt.Errorf("%d transfers are in the queue", n)
		}
	} else {
		b.observe("GetAllQueuedTransfers is not there")
	}
	b.endSession(ctx)
	for _, key := range []string{"K1", "K2", "K3"} {
		if _, _, err := b.completed(ctx, mark, key); err != nil {
			return err
		}
	}
	return nil
}

// autonomousTransfer lets USP start a transfer with the policy off, and then on.
func autonomousTransfer(ctx context.Context, b *bench) error {
	policy := b.ms("AutonomousTransferCompletePolicy.")
	if err := b.need(ctx, policy+"Enable"); err != nil {
		return err
	}
	f, err := b.fileServer()
	if err != nil {
		return err
	}
	if err := b.set(ctx, "", policy+"Enable", "false"); err != nil {
		return err
	}
	start := func() error {
		var refused error
		for _, c := range [][]string{{"Device.DeviceInfo.FirmwareImage.2.Download()", "URL=" + f.base + "/missing", "AutoActivate=false"},
			{"Device.DeviceInfo.FirmwareImage.1.Download()", "URL=" + f.base + "/missing", "AutoActivate=false"},
			{"Device.DeviceInfo.VendorLogFile.1.Upload()", "URL=" + f.base + "/missing"}} {
			_, err := b.driver.Command(ctx, c[0], c[1:]...)
			if len(f.got("/missing")) > 0 { // begun, however it ended
				return nil
			}
			refused = err
		}
		return notShown("no command of this CPE lets another party start a transfer: %v", refused)
	}
	b.endSession(ctx)
	mark := b.tap.mark()
	if err := start(); err != nil {
		return err
	}
	report := func(x *exchange) bool {
		return x.method() == "AutonomousTransferComplete" || x.inform() != nil && hasEvent(x.inform(), "10 AUTONOMOUS TRANSFER COMPLETE")
	}
	short, cancel := brief(ctx)
	defer cancel()
	if x, err := b.tap.wait(short, mark, report); err == nil {
		return fmt.Errorf("with the policy off %s came", x.method())
	}
	if _, err := b.newSession(ctx); err != nil {
		return err
	}
	if err := b.set(ctx, "", policy+"Enable", "true", policy+"ResultTypeFilter", "Both", policy+"TransferTypeFilter", "Both", policy+"FileTypeFilter", ""); err != nil {
		return err
	}
	b.endSession(ctx)
	mark = b.tap.mark()
	if err := start(); err != nil {
		return err
	}
	if _, err := b.tap.wait(ctx, mark, report); err != nil {
		return errors.New("with the policy on there is no report either, so that nothing is shown")
	}
	b.observe("no report with the policy off, one with the policy on")
	return nil
}
