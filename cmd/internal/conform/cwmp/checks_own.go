package conformcwmp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"twinspan/cwmp/soap"
)

// ownChecks fill holes of the catalogue: what an ACS, or somebody in its place, may send.
var ownChecks = map[string]check{
	"OWN-20": {run: func(ctx context.Context, b *bench) error {
		mark := b.tap.mark()
		err := b.untaken(ctx, swapText("</soap-env:Header>", `<x:Deal xmlns:x="urn:example:deal" soap-env:mustUnderstand="1">1</x:Deal></soap-env:Header>`))
		if err != nil {
			return err
		}
		for _, x := range b.tap.since(mark) {
			if x.method() == "Fault" && regexp.MustCompile(`<faultcode>[^<]*:MustUnderstand</faultcode>`).Match(x.Body) {
				return nil
			}
		}
		return errors.New("the answer is no MustUnderstand fault")
	}},
	"OWN-21": {run: twoInOne},
	"OWN-22": {run: func(ctx context.Context, b *bench) error {
		return b.untaken(ctx, func(s string) string {
			i := max(strings.Index(s, "<soap-env:Envelope"), 0)
			return s[:i] + "<!DOCTYPE soap-env:Envelope>" + s[i:]
		})
	}},
	"OWN-23": {run: func(ctx context.Context, b *bench) error {
		return b.taken(ctx, "with-bom", func(s string) string { return "\xef\xbb\xbf" + s })
	}},
	"OWN-24": {run: otherEncoding},
	"OWN-25": {run: func(ctx context.Context, b *bench) error {
		return b.writtenAs(ctx, `a<![CDATA[<b>&amp;]]><!-- no -->c&#x64;&#101;&lt;&gt;&quot;&apos;`, `a<b>&amp;cde<>"'`)
	}},
	"OWN-26": {run: func(ctx context.Context, b *bench) error {
		return b.writtenAs(ctx, "  two  spaces\ttab&#10;line&#13;&#9;end ", "  two  spaces\ttab\nline\r\tend ")
	}},
	"OWN-27": {run: func(ctx context.Context, b *bench) error {
		long := strings.Repeat("Ж🛰é𝄞", 16) // 64 characters, 176 octets
		if err := b.writtenAs(ctx, long, long); err != nil {
			return err
		}
		_, err := b.setRaw(ctx, "", b.code(), long+"x")
		if err := b.wantSetFault(err, "65 characters", map[string][]soap.FaultCode{b.code(): {soap.InvalidParameterValue}}); err != nil {
			return err
		}
		return b.wantValue(ctx, b.code(), long)
	}},
	"OWN-28": {run: func(ctx context.Context, b *bench) error {
		for _, bad := range []string{"a&#1;b", "a\x01b", "a&#xFFFE;b", "a\xffb", "a&#xD800;b"} {
			if err := b.untaken(ctx, swapText(">"+notTaken+"<", ">"+bad+"<")); err != nil {
				return fmt.Errorf("%q: %w", bad, err)
			}
		}
		return nil
	}},
	"OWN-29": {run: func(ctx context.Context, b *bench) error {
		return b.untaken(ctx, swapText("http://schemas.xmlsoap.org/soap/envelope/", "http://www.w3.org/2003/05/soap-envelope"))
	}},
	"OWN-30": {run: func(ctx context.Context, b *bench) error {
		deep := strings.Repeat("<d>", 20000) + strings.Repeat("</d>", 20000)
		if err := b.untaken(ctx, swapText("</cwmp:SetParameterValues>", deep+"</cwmp:SetParameterValues>")); err != nil {
			return fmt.Errorf("20,000 levels: %w", err)
		}
		var wide strings.Builder
		for i := range 70000 {
			fmt.Fprintf(&wide, ` a%d=""`, i)
		}
		if err := b.untaken(ctx, swapText("<ParameterKey", "<Extra"+wide.String()+"/><ParameterKey")); err != nil {
			return fmt.Errorf("70,000 attributes: %w", err)
		}
		return nil
	}},
	"OWN-31": {run: longID},
	"OWN-32": {run: func(ctx context.Context, b *bench) error {
		return b.untaken(ctx, func(s string) string {
			return strings.NewReplacer("<cwmp:SetParameterValues", "<nobody:SetParameterValues", "</cwmp:SetParameterValues", "</nobody:SetParameterValues").Replace(s)
		})
	}},

	"OWN-34": {run: func(ctx context.Context, b *bench) error {
		mark := b.tap.mark()
		short, cancel := brief(ctx)
		defer cancel()
		_, err := b.edited(short, &soap.GetParameterValues{ParameterNames: []string{b.code()}}, func(s string) string {
			return regexp.MustCompile(`(?s)<cwmp:ID.*</cwmp:ID>`).ReplaceAllString(s, "")
		})
		b.observe("the ACS says: %s", cutText(outcome(err), 100))
		for _, x := range b.tap.since(mark) {
			switch x.method() {
			case "GetParameterValuesResponse":
				if x.Envelope.Header.HasID {
					return fmt.Errorf("the answer has the ID %q", x.Envelope.Header.ID)
				}
				return b.alive(ctx)
			case "Fault":
				return errors.New("it was refused")
			}
		}
		return errors.New("it was not answered")
	}},
	"OWN-33": {limit: time.Minute, run: bigTree},

	"OWN-40": {run: func(ctx context.Context, b *bench) error {
		name := b.ms("PeriodicInformInterval")
		if _, err := b.get(ctx, name); err != nil {
			return err
		}
		for _, bad := range []string{"4294967296", "-1", "1.5", "0x10", "", "1e3", "ten", "1 2"} {
			_, err := b.setRaw(ctx, "", name, bad)
			if err := b.wantSetFault(err, fmt.Sprintf("%q", bad), map[string][]soap.FaultCode{name: {soap.InvalidParameterType, soap.InvalidParameterValue}}); err != nil {
				return err
			}
		}
		b.types[name] = soap.Boolean // a wrong xsi:type with a value of it
		_, err := b.setRaw(ctx, "", name, "true")
		delete(b.types, name)
		return b.wantSetFault(err, "a boolean", map[string][]soap.FaultCode{name: {soap.InvalidParameterType, soap.InvalidParameterValue}})
	}},
	"OWN-41": {run: func(ctx context.Context, b *bench) error {
		name := b.ms("PeriodicInformTime")
		before, err := b.get(ctx, name)
		if err != nil {
			return err
		}
		for _, bad := range []string{"2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01T25:00:00Z", "2026-01-01", "now", "2026-01-01T00:00:00+99:00", ""} {
			_, err := b.setRaw(ctx, "", name, bad)
			if err := b.wantSetFault(err, fmt.Sprintf("%q", bad), map[string][]soap.FaultCode{name: {soap.InvalidParameterType, soap.InvalidParameterValue}}); err != nil {
				return err
			}
		}
		return b.wantValue(ctx, name, before)
	}},
	"OWN-42": {run: func(ctx context.Context, b *bench) error {
		key := strings.Repeat("k", 33)
		if err := b.set(ctx, "short", b.code(), "one"); err != nil {
			return err
		}
		_, err := b.setRaw(ctx, key, b.code(), "two")
		want := []string{"short", "one"}
		if err == nil {
			want = []string{key, "two"}
		} else if err := b.wantFault(err, "33 characters", soap.InvalidArguments); err != nil {
			return err
		}
		return errors.Join(b.wantValue(ctx, b.ms("ParameterKey"), want[0]), b.wantValue(ctx, b.code(), want[1]))
	}},
	"OWN-43": {run: oneBad},
	"OWN-44": {run: func(ctx context.Context, b *bench) error {
		name := b.ms("URL")
		for _, bad := range []string{"nonsense", "ftp://127.0.0.1/", "http://", "http://[::1"} {
			_, err := b.setRaw(ctx, "", name, bad)
			if err := b.wantSetFault(err, fmt.Sprintf("%q", bad), map[string][]soap.FaultCode{name: {soap.InvalidParameterValue, soap.InvalidParameterType}}); err != nil {
				return err
			}
		}
		return b.wantValue(ctx, name, b.url())
	}},
	"OWN-45": {run: wrongRows},
	"OWN-46": {run: func(ctx context.Context, b *bench) error {
		before, err := b.attributes(ctx, b.code())
		if err != nil {
			return err
		}
		for _, level := range []int{7, -1, 100} {
			m := &soap.SetParameterAttributes{ParameterList: []soap.SetAttribute{{Name: b.code(), NotificationChange: true, Notification: 2}}}
			_, err := b.edited(ctx, m, swapText("<Notification>2<", fmt.Sprintf("<Notification>%d<", level)))
			if err := b.wantFault(err, fmt.Sprintf("Notification %d", level), soap.InvalidArguments); err != nil {
				return err
			}
		}
		_, err = b.call(ctx, &soap.SetParameterAttributes{})
		if err != nil && faultCode(err) != soap.InvalidArguments {
			return fmt.Errorf("an empty list: %w", err)
		}
		b.observe("an empty list: %s", outcome(err))
		if err := b.wantFault(b.notify(ctx, 1, b.root+"DeviceInfo"), "an object without its dot", soap.InvalidParameterName); err != nil {
			return err
		}
		after, err := b.attributes(ctx, b.code())
		if err == nil && after[b.code()].Notification != before[b.code()].Notification {
			err = errors.New("the notification changed")
		}
		return err
	}},
	"OWN-47": {run: secretShows},

	"OWN-50": {run: refusedReport},
	"OWN-51": {run: requestsInSession},
	"OWN-52": {limit: 2 * time.Minute, run: idleConnections},
	"OWN-53": {needs: []ability{canRestart}, run: cutInstall},
	"OWN-55": {needs: []ability{canTrust}, limit: time.Minute, run: overXMPP},
	"OWN-54": {needs: []ability{canRestart}, limit: time.Minute, run: cutWrites},
}

// notTaken is what untaken writes; it must never be read back.
const notTaken = "must-not-be-taken"

// untaken sends a SetParameterValues that edit makes impossible: whatever the CPE answers, it must not be carried out, and the CPE lives.
func (b *bench) untaken(ctx context.Context, edit func(string) string) error {
	short, cancel := brief(ctx)
	defer cancel()
	m := &soap.SetParameterValues{ParameterList: []soap.ParameterValue{{Name: b.code(), Value: notTaken, Type: soap.String}}}
	_, err := b.edited(short, m, edit)
	if err == nil {
		return errors.New("it was carried out")
	}
	b.observe("answer: %s", outcome(err))
	if _, err := b.newSession(ctx); err != nil {
		return fmt.Errorf("afterwards: %w", err)
	}
	v, err := b.get(ctx, b.code())
	if err != nil {
		return fmt.Errorf("afterwards: %w", err)
	}
	if v == notTaken || strings.HasPrefix(v, "a") && strings.HasSuffix(v, "b") {
		return fmt.Errorf("the value is %q", v)
	}
	return nil
}

// taken sends one that must be understood for all that.
func (b *bench) taken(ctx context.Context, value string, edit func(string) string) error {
	m := &soap.SetParameterValues{ParameterList: []soap.ParameterValue{{Name: b.code(), Value: value, Type: soap.String}}}
	if _, err := b.edited(ctx, m, edit); err != nil {
		return explain(err)
	}
	return b.wantValue(ctx, b.code(), value)
}

// writtenAs writes XML text into a value and wants other text read back.
func (b *bench) writtenAs(ctx context.Context, xml, want string) error {
	const mark = "here-it-goes"
	m := &soap.SetParameterValues{ParameterList: []soap.ParameterValue{{Name: b.code(), Value: mark, Type: soap.String}}}
	if _, err := b.edited(ctx, m, swapText(">"+mark+"<", ">"+xml+"<")); err != nil {
		return explain(err)
	}
	return b.wantValue(ctx, b.code(), want)
}

func twoInOne(ctx context.Context, b *bench) error {
	other, err := b.text(ctx)
	if err != nil {
		return err
	}
	if err := b.set(ctx, "", b.code(), "one-before", other, "two.before.example"); err != nil {
		return err
	}
	short, cancel := brief(ctx)
	defer cancel()
	m := &soap.SetParameterValues{ParameterList: []soap.ParameterValue{{Name: b.code(), Value: "one-after", Type: soap.String}}}
	_, err = b.edited(short, m, func(s string) string {
		method := regexp.MustCompile(`(?s)<cwmp:SetParameterValues.*</cwmp:SetParameterValues>`).FindString(s)
		second := strings.NewReplacer(b.code(), other, "one-after", "two.after.example").Replace(method)
		return strings.Replace(s, method, method+second, 1)
	})
	b.observe("answer: %s", outcome(err))
	if _, err := b.newSession(ctx); err != nil {
		return fmt.Errorf("afterwards: %w", err)
	}
	one, err := b.get(ctx, b.code())
	if err != nil {
		return err
	}
	two, err := b.get(ctx, other)
	if err != nil {
		return err
	}
	b.observe("afterwards %q and %q", one, two)
	if two == "two.after.example" {
		return errors.New("the second request was carried out")
	}
	return nil
}

func otherEncoding(ctx context.Context, b *bench) error {
	if err := b.set(ctx, "", b.code(), "before"); err != nil {
		return err
	}
	short, cancel := brief(ctx)
	defer cancel()
	m := &soap.SetParameterValues{ParameterList: []soap.ParameterValue{{Name: b.code(), Value: "caf-e", Type: soap.String}}}
	remove := b.tap.onAfter(func(x *exchange) bool {
		if x.reply() == m.Method() {
			x.RespHeader.Set("Content-Type", "text/xml; charset=iso-8859-1")
		}
		return false
	})
	defer remove()
	_, err := b.edited(short, m, func(s string) string {
		i := max(strings.Index(s, "<soap-env:Envelope"), 0)
		return `<?xml version="1.0" encoding="ISO-8859-1"?>` + strings.Replace(s[i:], "caf-e", "caf\xe9", 1)
	})
	b.observe("answer: %s", outcome(err))
	remove()
	if _, err := b.newSession(ctx); err != nil {
		return fmt.Errorf("afterwards: %w", err)
	}
	v, gerr := b.get(ctx, b.code())
	switch {
	case gerr != nil:
		return gerr
	case err == nil && v != "café", err != nil && v != "before":
		return fmt.Errorf("the value is %q", v)
	}
	return nil
}

func longID(ctx context.Context, b *bench) error {
	id := strings.Repeat("i", 4000)
	short, cancel := brief(ctx)
	defer cancel()
	mark := b.tap.mark()
	_, err := b.edited(short, &soap.GetParameterValues{ParameterNames: []string{b.code()}}, func(s string) string { return strings.Replace(s, idOf(s), id, 1) })
	b.observe("answer: %s", cutText(outcome(err), 100))
	for _, x := range b.tap.since(mark) {
		if m := x.method(); m == "GetParameterValuesResponse" && x.Envelope.Header.ID != id {
			return fmt.Errorf("an ID of %d characters came back", len(x.Envelope.Header.ID))
		}
	}
	return b.alive(ctx)
}

func cutText(s string, n int) string { return s[:min(len(s), n)] }

// oneBad hides one unusable value among good ones.
func oneBad(ctx context.Context, b *bench) error {
	other, err := b.text(ctx)
	if err != nil {
		return err
	}
	bad, value := b.ms("HeartbeatPolicy.ReportingInterval"), "1"
	if !b.has(ctx, bad) {
		bad, value = b.ms("PeriodicInformInterval"), "0"
	}
	if err := b.set(ctx, "before", b.code(), "before"); err != nil {
		return err
	}
	if _, err := b.values(ctx, other, bad); err != nil {
		return err
	}
	_, err = b.setRaw(ctx, "after", b.code(), "after", bad, value, other, "after.example")
	if err := b.wantSetFault(err, bad, map[string][]soap.FaultCode{bad: {soap.InvalidParameterValue}}); err != nil {
		return err
	}
	// What a device does not have is blamed alone, too: here a test, where it lacks it.
	object := b.diag("IPPing")
	if b.has(ctx, object+"DiagnosticsState") {
		_, err := b.setRaw(ctx, "after", object+"Host", "127.0.0.1", object+"DiagnosticsState", "NoSuchState", object+"NumberOfRepetitions", "1")
		if err := b.wantSetFault(err, "a state that is none", map[string][]soap.FaultCode{object + "DiagnosticsState": {soap.InvalidParameterValue}}); err != nil {
			return err
		}
	}
	return errors.Join(b.wantValue(ctx, b.code(), "before"), b.wantValue(ctx, b.ms("ParameterKey"), "before"))
}

func wrongRows(ctx context.Context, b *bench) error {
	table, _, err := b.table(ctx)
	if err != nil {
		return err
	}
	row, err := b.add(ctx, table, "")
	if err != nil {
		return err
	}
	for _, name := range []string{b.root + "DeviceInfo.", table + "4711.", strings.TrimSuffix(table, "."), b.root + "NoSuchTable.", "", b.code()} {
		_, err := b.add(ctx, name, "")
		if err := b.wantFault(err, fmt.Sprintf("AddObject %q", name), soap.InvalidParameterName, soap.InvalidArguments, soap.RequestDenied); err != nil {
			return err
		}
	}
	for _, name := range []string{table, strings.TrimSuffix(row, "."), table + "4711.", table + "*.", "", b.code()} {
		if err := b.wantFault(b.del(ctx, name, ""), fmt.Sprintf("DeleteObject %q", name), soap.InvalidParameterName, soap.InvalidArguments, soap.RequestDenied); err != nil {
			return err
		}
	}
	if !b.has(ctx, row) {
		return errors.New("the row is gone")
	}
	return nil
}

// secretShows writes secrets and looks for them in everything the CPE tells.
func secretShows(ctx context.Context, b *bench) error {
	secret := "S3cret-" + rand.Text()
	if err := b.set(ctx, "", b.ms("ConnectionRequestPassword"), secret); err != nil {
		return err
	}
	b.crPass = secret
	b.dev.SetConnectionRequestAuth(b.crUser, secret)
	if _, err := b.values(ctx, b.root); err != nil {
		return err
	}
	if _, err := b.newSession(ctx); err != nil {
		return err
	}
	for _, x := range b.tap.since(0) {
		if strings.Contains(string(x.Body), secret) {
			return fmt.Errorf("%s shows it", x.method())
		}
	}
	if strings.Contains(b.driver.Log(), secret) {
		return errors.New("the log shows it")
	}
	if b.needRPC(ctx, "Upload") == nil {
		f, err := b.fileServer()
		if err != nil {
			return err
		}
		if _, _, err := b.complete(ctx, &soap.Upload{CommandKey: "log", FileType: "2 Vendor Log File", URL: f.base + "/log"}); err != nil {
			return err
		}
		for _, r := range f.got("/log") {
			if strings.Contains(string(r.Body), secret) {
				return errors.New("the uploaded log shows it")
			}
			b.observe("a log of %d bytes does not show it", len(r.Body))
		}
	}
	return nil
}

func refusedReport(ctx context.Context, b *bench) error {
	if err := b.fastRetry(ctx); err != nil {
		return err
	}
	var mu sync.Mutex
	refused := 0
	b.tap.onBefore(func(x *exchange) bool {
		mu.Lock()
		defer mu.Unlock()
		if x.method() != "TransferComplete" || refused == 2 {
			return false
		}
		refused++
		x.Status, x.RespHeader = http.StatusServiceUnavailable, http.Header{}
		return true
	})
	if err := b.pendingTransfer(ctx, "busy"); err != nil {
		return err
	}
	mark := b.tap.mark()
	b.endSession(ctx)
	var first *soap.TransferComplete
	for i := range 3 {
		m, x, err := b.completed(ctx, mark, "busy")
		if err != nil {
			return fmt.Errorf("after %d times 503: %w", i, err)
		}
		if first == nil {
			first = m
		}
		if *m != *first {
			return fmt.Errorf("it was repeated as %v instead of %v", *m, *first)
		}
		mark = b.after(x)
	}
	if m, _, err := func() (*soap.TransferComplete, *exchange, error) {
		short, cancel := brief(ctx)
		defer cancel()
		return b.completed(short, mark, "busy")
	}(); err == nil {
		return fmt.Errorf("it came again after it was acknowledged: %v", *m)
	}
	return nil
}

func requestsInSession(ctx context.Context, b *bench) error {
	x, err := b.newSession(ctx)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	status := make([]int, 5)
	for i := range status {
		wg.Go(func() { status[i], _ = b.connect(ctx, b.crUser, b.crPass) }) // 0: no answer
	}
	wg.Wait()
	b.observe("answered %v", status)
	accepted := false
	for _, s := range status {
		switch s {
		case http.StatusOK, http.StatusNoContent:
			accepted = true
		case http.StatusServiceUnavailable:
		default:
			return fmt.Errorf("answered %v", status)
		}
	}
	if _, err := b.get(ctx, b.code()); err != nil {
		return fmt.Errorf("the session does not go on: %w", err)
	}
	if n := len(b.tap.since(b.after(x))); n == 0 {
		return errors.New("nothing came")
	}
	mark := b.tap.mark()
	b.endSession(ctx)
	if !accepted {
		return b.quiet(ctx, mark, time.Second)
	}
	next, err := b.inform(ctx, mark, "6 CONNECTION REQUEST", 10*time.Second)
	if err != nil {
		return err
	}
	b.observe("%s", events(next.inform()))
	return b.quiet(ctx, b.after(next), 2*time.Second)
}

func idleConnections(ctx context.Context, b *bench) error {
	b.endSession(ctx)
	address, err := b.crURL()
	if err != nil {
		return err
	}
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	for i := range 60 {
		conn, err := net.DialTimeout("tcp", u.Host, 2*time.Second)
		if err != nil {
			b.observe("after %d connections no more were taken", i)
			break
		}
		defer conn.Close() // all of them until the check ends
		if i%2 == 0 {
			_, _ = conn.Write([]byte("GET " + u.Path + " HTTP/1.1\r\nHost: x\r\nX-Slow: ")) // and never the rest
		}
	}
	began := time.Now()
	for {
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err = b.newSession(short)
		cancel()
		if err == nil {
			b.observe("a request was served %.1f s later", time.Since(began).Seconds())
			return nil
		}
		if time.Since(began) > time.Minute {
			return fmt.Errorf("for a minute no request was served: %w", err)
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

// cutInstall cuts the power while a deployment unit is fetched.
func cutInstall(ctx context.Context, b *bench) error {
	f, err := b.unit(ctx)
	if err != nil {
		return err
	}
	if err := b.fastRetry(ctx); err != nil {
		return err
	}
	mark := b.tap.mark()
	if _, err := b.call(ctx, &soap.ChangeDUState{CommandKey: "cut", Operations: []soap.DUOperation{{Kind: soap.Install, UUID: unitUUID, URL: f.base + "/slow"}}}); err != nil {
		return err
	}
	b.endSession(ctx)
	if _, err := f.await(ctx, "/slow"); err != nil {
		return errors.New("the file was not asked for")
	}
	if _, err := b.restart(ctx); err != nil {
		return err
	}
	x, err := b.tap.wait(ctx, mark, func(x *exchange) bool { return x.method() == "DUStateChangeComplete" && !x.refused })
	if err != nil {
		return errors.New("no DUStateChangeComplete after the power cut")
	}
	m := x.Envelope.Body.(*soap.DUStateChangeComplete)
	if m.CommandKey != "cut" || len(m.Results) != 1 {
		return fmt.Errorf("the report is %+v", m)
	}
	r := m.Results[0]
	b.observe("%s, fault %d %s", r.CurrentState, r.Fault.FaultCode, r.Fault.FaultString)
	if _, err := b.newSession(ctx); err != nil {
		return err
	}
	n, err := b.get(ctx, b.root+"SoftwareModules.DeploymentUnitNumberOfEntries")
	if err != nil {
		return err
	}
	if installed := r.CurrentState == "Installed"; installed != (n == "1") || !installed && n != "0" || !installed && r.Fault.FaultCode == 0 {
		return fmt.Errorf("the report says %s with fault %d, and there are %s deployment units", r.CurrentState, r.Fault.FaultCode, n)
	}
	b.endSession(ctx)
	short, cancel := brief(ctx)
	defer cancel()
	if _, err := b.tap.wait(short, b.after(x), func(x *exchange) bool { return x.method() == "DUStateChangeComplete" }); err == nil {
		return errors.New("the report came twice")
	}
	return nil
}

// cutWrites cuts the power at moments around a SetParameterValues of several parameters.
func cutWrites(ctx context.Context, b *bench) error {
	other, err := b.text(ctx)
	if err != nil {
		return err
	}
	last := "base.example"
	if err := b.set(ctx, last, b.code(), last, other, last); err != nil {
		return err
	}
	for i := range 6 {
		value := fmt.Sprintf("cut%d.example", i)
		if _, err := b.values(ctx, b.code(), other); err != nil {
			return err
		}
		done := make(chan error, 1)
		go func() { // joined below
			short, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			_, err := b.setRaw(short, value, b.code(), value, other, value)
			done <- err
		}()
		if err := pause(ctx, time.Duration(i)*700*time.Microsecond); err != nil {
			return errors.Join(err, <-done)
		}
		if _, err := b.restart(ctx); err != nil {
			return errors.Join(err, <-done)
		}
		acknowledged := <-done == nil // by then, perhaps because the ACS asked again
		list, err := b.values(ctx, b.code(), other, b.ms("ParameterKey"))
		if err != nil {
			return err
		}
		got := list[0].Value
		if got != value && got != last || list[1].Value != got || list[2].Value != got || acknowledged && got != value {
			return fmt.Errorf("after cut %d: %q, %q, key %q; acknowledged %v", i, got, list[1].Value, list[2].Value, acknowledged)
		}
		b.observe("cut %d: written %v, acknowledged %v", i, got == value, acknowledged)
		if got == value {
			last = value
		}
	}
	return nil
}

// bigTree makes a table long and compares what the two ways of reading say of it.
func bigTree(ctx context.Context, b *bench) error {
	table, _, err := b.table(ctx)
	if err != nil {
		return err
	}
	rows := 0
	for ; rows < 400; rows++ {
		if _, err := b.add(ctx, table, ""); faultCode(err) == soap.ResourcesExceeded {
			break
		} else if err != nil {
			return err
		}
	}
	began := time.Now()
	names, err := b.names(ctx, b.root, false)
	if err != nil {
		return err
	}
	values, err := b.values(ctx, b.root)
	if err != nil {
		return err
	}
	again, err := b.names(ctx, b.root, false)
	if err != nil {
		return err
	}
	b.observe("%d rows more: %d names, %d values in %.0f ms", rows, len(names), len(values), float64(time.Since(began).Microseconds())/1000)
	stays, valued := map[string]bool{}, map[string]bool{} // processes come and go
	for _, n := range again {
		stays[n.Name] = true
	}
	for _, v := range values {
		valued[v.Name] = true
	}
	for _, n := range names {
		if stays[n.Name] && !strings.HasSuffix(n.Name, ".") && !valued[n.Name] {
			return fmt.Errorf("%s has a name and no value", n.Name)
		}
	}
	next, err := b.names(ctx, b.root, true)
	if err != nil {
		return err
	}
	for _, n := range next {
		if rest := strings.TrimPrefix(n.Name, b.root); strings.Contains(strings.TrimSuffix(rest, "."), ".") {
			return fmt.Errorf("NextLevel of the root lists %s", n.Name)
		}
	}
	if next, err = b.names(ctx, table, true); err == nil && len(next) < rows {
		err = fmt.Errorf("NextLevel of the table lists %d of %d rows", len(next), rows)
	}
	return err
}
