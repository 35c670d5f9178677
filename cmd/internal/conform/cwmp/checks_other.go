package conformcwmp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"twinspan/cwmp/soap"
)

// diagnose runs a test and returns its final DiagnosticsState. pairs are its arguments.
func (b *bench) diagnose(ctx context.Context, object string, patience time.Duration, pairs ...string) (string, error) {
	if err := b.startDiagnosis(ctx, object, pairs...); err != nil {
		return "", err
	}
	mark := b.tap.mark()
	b.endSession(ctx)
	b.holdNext()
	if _, err := b.inform(ctx, mark, "8 DIAGNOSTICS COMPLETE", patience); err != nil {
		return "", err
	}
	state, err := b.get(ctx, object+"DiagnosticsState")
	b.observe("DiagnosticsState %s", state)
	return state, err
}

func (b *bench) startDiagnosis(ctx context.Context, object string, pairs ...string) error {
	if err := b.need(ctx, object+"DiagnosticsState"); err != nil {
		return err
	}
	var full []string
	for i, p := range pairs {
		if i%2 == 0 {
			p = object + p
		}
		full = append(full, p)
	}
	err := b.set(ctx, "", append(slices.Clone(full), object+"DiagnosticsState", "Requested")...)
	if faultCode(err) == 0 {
		return err
	}
	// Refused: if the arguments are fine and the request alone is not, this CPE does not run the test.
	if err := b.set(ctx, "", full...); err != nil {
		return fmt.Errorf("the arguments of %s: %w", object, err)
	}
	alone := b.set(ctx, "", object+"DiagnosticsState", "Requested")
	var f *soap.Fault
	if errors.As(alone, &f) && len(f.SetParameterValuesFault) == 1 {
		return notApplicable("the CPE does not run this test: %d %s", f.SetParameterValuesFault[0].FaultCode, f.SetParameterValuesFault[0].FaultString)
	}
	return err
}

// wantState wants a test to end so.
func (b *bench) wantState(ctx context.Context, want []string, object string, pairs ...string) error {
	state, err := b.diagnose(ctx, object, 30*time.Second, pairs...)
	if err != nil {
		return err
	}
	for _, w := range want {
		if state == w {
			return nil
		}
	}
	return fmt.Errorf("DiagnosticsState is %q instead of %v", state, want)
}

func (b *bench) diag(name string) string {
	if b.root == "InternetGatewayDevice." {
		return b.root + name + "Diagnostics."
	}
	return b.root + "IP.Diagnostics." + name + "."
}

var finished = []string{"Complete", "Completed"}

var otherChecks = map[string]check{

	"DIA-02": {run: func(ctx context.Context, b *bench) error {
		return b.wantState(ctx, []string{"Error_CannotResolveHostName"}, b.diag("IPPing"), "Host", "no-such-host.invalid", "NumberOfRepetitions", "1")
	}},
	"DIA-04": {run: func(ctx context.Context, b *bench) error {
		if err := b.wantState(ctx, finished, b.diag("IPPing"), "Host", "127.0.0.1", "NumberOfRepetitions", "1", "Timeout", "500"); err != nil {
			return err
		}
		if err := b.set(ctx, "", b.diag("IPPing")+"Timeout", "600"); err != nil {
			return err
		}
		return b.wantValue(ctx, b.diag("IPPing")+"DiagnosticsState", "None")
	}},
	"DIA-05": {run: func(ctx context.Context, b *bench) error {
		object := b.diag("IPPing")
		if err := b.startDiagnosis(ctx, object, "Host", "192.0.2.1", "NumberOfRepetitions", "100", "Timeout", "1000"); err != nil {
			return err
		}
		if _, err := b.newSession(ctx); err != nil { // it runs between the sessions
			return err
		}
		mark := b.tap.mark()
		if err := b.set(ctx, "", object+"Timeout", "900"); err != nil {
			return err
		}
		b.endSession(ctx)
		if err := b.quiet(ctx, mark, 2500*time.Millisecond); err != nil {
			return err
		}
		if _, err := b.newSession(ctx); err != nil {
			return err
		}
		return b.wantValue(ctx, object+"DiagnosticsState", "None")
	}},
	"DIA-09": {run: downloadTest},
	"DIA-10": {run: func(ctx context.Context, b *bench) error {
		port, err := freePort()
		if err != nil {
			return err
		}
		return b.wantState(ctx, []string{"Error_InitConnectionFailed"}, b.diag("DownloadDiagnostics"), "DownloadURL", "http://127.0.0.1:"+port+"/x")
	}},
	"DIA-13": {run: lookUpTwice},
	"DIA-15": {run: func(ctx context.Context, b *bench) error {
		object := b.diag("IPPing")
		if err := b.need(ctx, object+"DiagnosticsState"); err != nil {
			return err
		}
		name := object + "DiagnosticsState"
		err := b.set(ctx, "", name, "Canceled")
		if err != nil {
			return b.wantSetFault(err, "Canceled", map[string][]soap.FaultCode{name: {soap.InvalidParameterValue}})
		}
		b.endSession(ctx)
		mark := b.tap.mark()
		if err := b.quiet(ctx, mark, 1500*time.Millisecond); err != nil {
			return err
		}
		if _, err := b.newSession(ctx); err != nil {
			return err
		}
		return b.wantValue(ctx, name, "None")
	}},

	"STUN-04": {run: stunRequests},
	"LWN-01":  {needs: []ability{canLocal}, run: func(ctx context.Context, b *bench) error { return lightweight(ctx, b, "UDP") }},
	"LWN-02":  {needs: []ability{canLocal}, run: func(ctx context.Context, b *bench) error { return lightweight(ctx, b, "") }},
	"BLK-01":  {run: bulkData},
	"SEC-01": {run: func(ctx context.Context, b *bench) error {
		bomb := `<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;">` +
			`<!ENTITY e "&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;"><!ENTITY f "&e;&e;&e;&e;&e;&e;&e;&e;&e;&e;">]>`
		f, err := b.fileServer()
		if err != nil {
			return err
		}
		external := `<!DOCTYPE x SYSTEM "` + f.base + `/dtd">`
		for _, head := range []string{bomb, external} {
			if err := b.survives(ctx, func(s string) string {
				i := strings.Index(s, "<soap-env:Envelope")
				text := head + s[max(i, 0):]
				if head == bomb {
					text = strings.Replace(text, "</soap-env:Header>", "<x>&f;</x></soap-env:Header>", 1)
				}
				return text
			}); err != nil {
				return err
			}
		}
		if len(f.got("/dtd")) > 0 {
			return errors.New("the external DTD was fetched")
		}
		return nil
	}},
	"SEC-02": {run: func(ctx context.Context, b *bench) error {
		var taken atomic.Int64
		b.tap.onAfter(func(x *exchange) bool {
			if x.reply() == "GetRPCMethods" {
				x.RespBody = nil
				x.Stream = func(w io.Writer) {
					block := []byte(strings.Repeat(" ", 64<<10))
					for taken.Load() < 100<<20 {
						n, err := w.Write(block)
						taken.Add(int64(n))
						if err != nil {
							return
						}
					}
				}
			}
			return false
		})
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if _, err := b.call(short, &soap.GetRPCMethods{}); err == nil {
			return errors.New("it was answered")
		}
		b.observe("the CPE closed after at most %d MiB were written", taken.Load()>>20)
		if taken.Load() >= 100<<20 {
			return errors.New("all of it was read")
		}
		b.tap.clearHooks()
		return b.alive(ctx)
	}},
	"SEC-03": {needs: []ability{canLocal}, run: func(ctx context.Context, b *bench) error {
		if err := b.need(ctx, guardedPath); err != nil {
			return notShown("which parameter the ACS may guard on this CPE is not known")
		}
		if err := b.set(ctx, "", guardedPath, "by-the-acs"); err != nil {
			return err
		}
		b.endSession(ctx)
		err := b.driver.Local(ctx, guardedPath+"=by-the-user")
		if err == nil {
			return errors.New("the local side wrote over the ACS")
		}
		b.observe("%v", err)
		if _, err := b.newSession(ctx); err != nil {
			return err
		}
		return b.wantValue(ctx, guardedPath, "by-the-acs")
	}},

	"COEX-01": {needs: []ability{canUSP}, run: func(ctx context.Context, b *bench) error {
		if err := b.set(ctx, "mine", b.ms("PeriodicInformInterval"), "1000"); err != nil {
			return err
		}
		if err := b.notify(ctx, 2, b.code()); err != nil {
			return err
		}
		mark := b.tap.mark()
		b.endSession(ctx)
		if err := b.local(ctx, b.code()+"=by-usp"); err != nil {
			return err
		}
		x, err := b.inform(ctx, mark, "4 VALUE CHANGE", 5*time.Second)
		if err != nil {
			return err
		}
		v, _ := informValue(x.inform(), b.code())
		key, _ := informValue(x.inform(), b.ms("ParameterKey"))
		if v != "by-usp" || key != "mine" {
			return fmt.Errorf("the value is %q, the ParameterKey %q", v, key)
		}
		return nil
	}},
	"COEX-03": {needs: []ability{canUSP}, run: serialised},
	"COEX-04": {needs: []ability{canUSP}, run: func(ctx context.Context, b *bench) error {
		object := b.diag("IPPing")
		if err := b.wantState(ctx, finished, object, "Host", "127.0.0.1", "NumberOfRepetitions", "2"); err != nil {
			return err
		}
		before, err := b.values(ctx, object)
		if err != nil {
			return err
		}
		b.endSession(ctx)
		mark := b.tap.mark()
		if _, err := b.driver.Command(ctx, object[:len(object)-1]+"()", "Host=127.0.0.1", "NumberOfRepetitions=1",
			"Interface=", "ProtocolVersion=Any", "Timeout=1000", "DataBlockSize=64", "DSCP=0"); err != nil {
			return err
		}
		if err := b.quiet(ctx, mark, 1500*time.Millisecond); err != nil {
			return err
		}
		if _, err := b.newSession(ctx); err != nil {
			return err
		}
		after, err := b.values(ctx, object)
		if err != nil {
			return err
		}
		for i := range before {
			if before[i] != after[i] {
				return fmt.Errorf("%s was %q and is %q", before[i].Name, before[i].Value, after[i].Value)
			}
		}
		return nil
	}},
	"COEX-05": {needs: []ability{canUSP}, run: func(ctx context.Context, b *bench) error {
		mark := b.tap.mark()
		b.endSession(ctx)
		short, cancel := brief(ctx)
		_, err := b.driver.Command(short, "Device.Reboot()")
		cancel()
		b.observe("the command: %s", outcome(err)) // the agent may be gone before it answers
		x, err := b.inform(ctx, mark, "1 BOOT", 10*time.Second)
		if err != nil {
			return err
		}
		b.observe("%s", events(x.inform()))
		if hasEvent(x.inform(), "M Reboot") {
			return fmt.Errorf("the Inform has %s", events(x.inform()))
		}
		return nil
	}},
}

// lightweight lets the LAN side change a parameter with notification 5 and listens for the packet.
func lightweight(ctx context.Context, b *bench, protocols string) error {
	if err := b.need(ctx, b.ms("LightweightNotificationProtocolsSupported")); err != nil {
		return err
	}
	v, err := b.get(ctx, b.ms("LightweightNotificationProtocolsSupported"))
	if err != nil {
		return err
	}
	if !strings.Contains(v, "UDP") {
		return notApplicable("LightweightNotificationProtocolsSupported is %q", v)
	}
	conn, err := net.ListenPacket("udp", net.JoinHostPort(hostOf(b.base), "0"))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, port, err := net.SplitHostPort(conn.LocalAddr().String())
	if err != nil {
		return err
	}
	name, err := b.text(ctx)
	if err != nil {
		return err
	}
	if err := b.set(ctx, "", b.ms("UDPLightweightNotificationHost"), hostOf(b.base), b.ms("UDPLightweightNotificationPort"), port,
		b.ms("LightweightNotificationProtocolsUsed"), protocols); err != nil {
		return err
	}
	if err := b.notify(ctx, 5, name); err != nil {
		return err
	}
	b.endSession(ctx)
	if err := b.settled(ctx); err != nil {
		return err
	}
	mark := b.tap.mark()
	if err := b.local(ctx, name+"=light"); err != nil {
		return err
	}
	packets := 0
	packet := make([]byte, 64<<10)
	for deadline := time.Now().Add(3 * time.Second); ; {
		if err := conn.SetReadDeadline(deadline); err != nil {
			return err
		}
		n, _, err := conn.ReadFrom(packet)
		if err != nil {
			break // nothing more within the time
		}
		packets++
		text := string(packet[:n])
		b.observe("a packet of %d bytes", n)
		for _, want := range []string{"TS", "UN", "CN", "OUI", "ProductClass", "SerialNumber", name, "light"} {
			if !strings.Contains(text, want) {
				return fmt.Errorf("the packet has no %s: %q", want, text)
			}
		}
	}
	want := 0
	if protocols != "" {
		want = 1
	}
	if packets != want {
		return fmt.Errorf("%d packets instead of %d", packets, want)
	}
	if len(b.tap.since(mark)) > 0 {
		return errors.New("a session came too")
	}
	return nil
}

func downloadTest(ctx context.Context, b *bench) error {
	f, err := b.fileServer()
	if err != nil {
		return err
	}
	f.serve(make([]byte, 200_000))
	object := b.diag("DownloadDiagnostics")
	if err := b.wantState(ctx, finished, object, "DownloadURL", f.base+"/ok"); err != nil {
		return err
	}
	times := map[string]time.Time{}
	for _, n := range []string{"ROMTime", "BOMTime", "EOMTime"} {
		v, err := b.get(ctx, object+n)
		if err != nil {
			return err
		}
		if times[n], err = soap.ParseTime(v); err != nil {
			return fmt.Errorf("%s is %q", n, v)
		}
		if !regexp.MustCompile(`\.[0-9]{6}`).MatchString(v) {
			return fmt.Errorf("%s is %q, without microseconds", n, v)
		}
	}
	if times["BOMTime"].Before(times["ROMTime"]) || times["EOMTime"].Before(times["BOMTime"]) {
		return fmt.Errorf("the times are %v", times)
	}
	var n uint64
	v, err := b.get(ctx, object+"TestBytesReceived")
	if err != nil {
		return err
	}
	if _, err := fmt.Sscan(v, &n); err != nil || n < 200_000 {
		return fmt.Errorf("TestBytesReceived is %q", v)
	}
	return nil
}

func bulkData(ctx context.Context, b *bench) error {
	object := b.root + "BulkData."
	if err := b.need(ctx, object+"Protocols", object+"Profile."); err != nil {
		return err
	}
	v, err := b.get(ctx, object+"Protocols")
	if err != nil {
		return err
	}
	if !strings.Contains(v, "HTTP") {
		return notApplicable("BulkData.Protocols is %q", v)
	}
	f, err := b.fileServer()
	if err != nil {
		return err
	}
	row, err := b.add(ctx, object+"Profile.", "")
	if err != nil {
		return err
	}
	parameter, err := b.add(ctx, row+"Parameter.", "")
	if err != nil {
		return err
	}
	if err := b.set(ctx, "", object+"Enable", "true", row+"Protocol", "HTTP", row+"EncodingType", "JSON", row+"ReportingInterval", "2",
		row+"HTTP.URL", f.base+"/bulk", parameter+"Reference", b.root+"DeviceInfo.UpTime", row+"Enable", "true"); err != nil {
		return err
	}
	b.endSession(ctx)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second) // several intervals
	defer cancel()
	got, err := f.await(ctx, "/bulk")
	if err != nil {
		return fmt.Errorf("no report came: %w", err)
	}
	b.observe("%s of %d bytes", got.Method, len(got.Body))
	return nil
}

// serialised lets a USP Controller write two parameters while a CWMP session writes them too: the result is one of both.
func serialised(ctx context.Context, b *bench) error {
	table, leaf, err := b.table(ctx)
	if err != nil {
		return err
	}
	one, err := b.add(ctx, table, "")
	if err != nil {
		return err
	}
	two, err := b.add(ctx, table, "")
	if err != nil {
		return err
	}
	for i := range 4 {
		usp := make(chan error, 1)
		go func() { // joined below
			usp <- b.driver.Local(ctx, fmt.Sprintf("%s%s=usp%d", one, leaf, i), fmt.Sprintf("%s%s=usp%d", two, leaf, i))
		}()
		err := b.set(ctx, "", one+leaf, fmt.Sprintf("acs%d", i), two+leaf, fmt.Sprintf("acs%d", i))
		refused := <-usp // a session may keep what it writes to itself; then USP is told so
		if err != nil {
			return err
		}
		if _, err := b.newSession(ctx); err != nil { // what the session saw is its own; the next one sees what is
			return err
		}
		list, err := b.values(ctx, one+leaf, two+leaf)
		if err != nil {
			return err
		}
		if list[0].Value != list[1].Value {
			return fmt.Errorf("a mixed result: %q and %q", list[0].Value, list[1].Value)
		}
		if refused != nil && list[0].Value != fmt.Sprintf("acs%d", i) {
			return fmt.Errorf("USP was told %q, and the value is %q", refused, list[0].Value)
		}
		b.observe("%s, USP refused: %v", list[0].Value, refused != nil)
	}
	return nil
}
