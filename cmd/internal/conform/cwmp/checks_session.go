package conformcwmp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"twinspan/cwmp/acs"
	"twinspan/cwmp/soap"
)

var sessionChecks = map[string]check{
	"SES-04": {run: echoedID},
	"SES-07": {run: wrongInformID},
	"SES-08": {run: holdRequests},
	"SES-09": {run: holdThenEmpty},
	"SES-10": {run: silentAfterEmpty},
	"SES-11": {run: backToBack},
	"SES-12": {run: unansweredRequest},
	"SES-14": {run: func(ctx context.Context, b *bench) error {
		if _, err := b.informAnswer(ctx, swap("<MaxEnvelopes>1<", "<MaxEnvelopes>5<")); err != nil {
			return err
		}
		if _, err := b.get(ctx, b.code()); err != nil {
			return err
		}
		return b.oneEnvelopeEach()
	}},
	"SES-15": {run: func(ctx context.Context, b *bench) error {
		if _, err := b.informAnswer(ctx, swap("<MaxEnvelopes>1</MaxEnvelopes>", "")); err != nil {
			return err
		}
		return b.worksOrEnds(ctx)
	}},
	"SES-17": {run: func(ctx context.Context, b *bench) error {
		_, err := b.edited(ctx, &soap.GetParameterValues{ParameterNames: []string{b.code()}},
			swapText("</soap-env:Header>", `<x:Note xmlns:x="urn:example:note">1</x:Note></soap-env:Header>`))
		return err
	}},
	"SES-18": {limit: 4 * time.Minute, run: sessionTimeout},
	"SES-19": {run: func(ctx context.Context, b *bench) error {
		b.tap.onAfter(func(x *exchange) bool { x.RespHeader.Set("Connection", "close"); return false })
		x, err := b.newSession(ctx)
		if err != nil {
			return err
		}
		for range 3 {
			if _, err := b.get(ctx, b.code()); err != nil {
				return err
			}
		}
		conns := b.connections(x)
		if len(conns) < 4 {
			return fmt.Errorf("only %d connections were used for a session whose every answer closed one", len(conns))
		}
		b.observe("one session over %d connections", len(conns))
		return nil
	}},
	"SES-20": {run: func(ctx context.Context, b *bench) error {
		x, err := b.newSession(ctx)
		if err != nil {
			return err
		}
		for range 20 {
			if _, err := b.get(ctx, b.code()); err != nil {
				return err
			}
		}
		if conns := b.connections(x); len(conns) != 1 {
			return fmt.Errorf("%d connections were used for 20 RPCs", len(conns))
		}
		return nil
	}},
	"SES-21": {run: cookies},
	"SES-22": {run: longCookie},
	"SES-23": {run: func(ctx context.Context, b *bench) error {
		return b.retried(ctx, func(x *exchange) { x.Status = http.StatusInternalServerError }, 5*time.Second, 10*time.Second, false)
	}},
	"SES-25": {run: func(ctx context.Context, b *bench) error {
		b.acs.Inject(acs.Fault{Stage: acs.OnInform, FaultCode: soap.ACSRequestDenied, Times: 1, Skip: 0})
		return b.retried(ctx, nil, time.Second, 2*time.Second, true)
	}},
	"SES-26": {needs: []ability{canLocal}, run: reasonInSession},
	"SES-27": {run: func(ctx context.Context, b *bench) error {
		return b.survives(ctx, swapText("</soap-env:Body>", "</soap-env:Bdy>"))
	}},
	"SES-28": {run: func(ctx context.Context, b *bench) error {
		return b.survives(ctx, func(s string) string {
			return regexp.MustCompile(`(?s)(<soap-env:Body>).*(</soap-env:Body>)`).ReplaceAllString(s, "$1$2")
		})
	}},
	"SES-29": {run: otherPrefixes},
	"SES-31": {run: wholeTree},
	"SES-32": {run: strayFault},
	"SES-33": {run: func(ctx context.Context, b *bench) error {
		_, err := b.edited(ctx, &soap.GetParameterNames{ParameterPath: b.root, NextLevel: true}, func(s string) string {
			return strings.Replace(strings.Replace(s, "<NextLevel>", "<Extra>1</Extra><NextLevel>", 1), "<cwmp:GetParameterNames", `<cwmp:GetParameterNames extra="1"`, 1)
		})
		if err != nil && faultCode(err) != soap.InvalidArguments {
			return err
		}
		b.observe("answer: %v", outcome(err))
		return nil
	}},
	"SES-34": {run: qualified},
	"SES-35": {run: manyNames},
}

func echoedID(ctx context.Context, b *bench) error {
	const id, text = `a b/<&é-1`, `a b/&lt;&amp;é-1`
	idPattern := regexp.MustCompile(`acs-[0-9]+`)
	var own string
	b.tap.onBefore(func(x *exchange) bool { // the ACS wants the ID it gave
		if x.Envelope != nil && x.Envelope.Header.ID == id && own != "" {
			x.Wire = regexp.MustCompile(`(<cwmp:ID[^>]*>)[^<]*<`).ReplaceAll(x.Wire, []byte("${1}"+own+"<"))
		}
		return false
	})
	if _, err := b.edited(ctx, &soap.GetParameterValues{ParameterNames: []string{b.code()}}, func(s string) string {
		own = idPattern.FindString(s)
		return strings.Replace(s, own, text, 1)
	}); err != nil {
		return err
	}
	x := b.lastExchange("GetParameterValuesResponse")
	if x == nil || x.Envelope.Header.ID != id {
		return errors.New("the answer has another ID")
	}
	if !regexp.MustCompile(`<[A-Za-z0-9_-]+:ID [^>]*mustUnderstand=["']1["']`).Match(x.Body) {
		return errors.New("the ID of the answer is not marked mustUnderstand")
	}
	return nil
}

func wrongInformID(ctx context.Context, b *bench) error {
	b.acs.Inject(acs.Fault{Stage: acs.OnInform, WrongID: true, Times: 1})
	return b.retried(ctx, nil, time.Second, 2*time.Second, true)
}

// pendingTransfer leaves a Download behind whose TransferComplete comes in the next session.
func (b *bench) pendingTransfer(ctx context.Context, key string) error {
	f, err := b.fileServer()
	if err != nil {
		return err
	}
	_, err = b.call(ctx, &soap.Download{CommandKey: key, FileType: "3 Vendor Configuration File", URL: f.base + "/missing"})
	return err
}

// transferSession ends the session and waits for the one with the TransferComplete event, which is held.
func (b *bench) transferSession(ctx context.Context) (*exchange, error) {
	mark := b.tap.mark()
	b.endSession(ctx)
	b.holdNext()
	return b.inform(ctx, mark, "7 TRANSFER COMPLETE", 10*time.Second)
}

func holdRequests(ctx context.Context, b *bench) error {
	if err := b.pendingTransfer(ctx, "held"); err != nil {
		return err
	}
	b.acs.Inject(acs.Fault{Stage: acs.OnInform, HoldRequests: true, Times: 1})
	b.acs.Inject(acs.Fault{Stage: acs.OnEmpty, HoldRequests: true, Times: 1})
	x, err := b.transferSession(ctx)
	if err != nil {
		return err
	}
	for range 2 {
		if _, err := b.get(ctx, b.code()); err != nil {
			return err
		}
	}
	if slices.Contains(b.methodsSince(x), "TransferComplete") {
		return fmt.Errorf("TransferComplete came while requests were held: %v", b.methodsSince(x))
	}
	b.endSession(ctx)
	return b.wantCompleteIn(ctx, x)
}

// wantCompleteIn wants a TransferComplete in the session of x.
func (b *bench) wantCompleteIn(ctx context.Context, x *exchange) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := b.tap.wait(ctx, b.after(x), func(e *exchange) bool { return e.method() == "TransferComplete" })
	list := b.methodsSince(x)
	b.observe("the CPE sent %s", strings.Join(list, ", "))
	if err != nil || slices.Contains(list[1:], "Inform") && slices.Index(list[1:], "Inform") < slices.Index(list[1:], "TransferComplete") {
		return fmt.Errorf("no TransferComplete in the session: %v", list)
	}
	return nil
}

func holdThenEmpty(ctx context.Context, b *bench) error {
	if err := b.pendingTransfer(ctx, "held"); err != nil {
		return err
	}
	b.acs.Inject(acs.Fault{Stage: acs.OnInform, HoldRequests: true, Times: 1})
	mark := b.tap.mark()
	b.endSession(ctx)
	x, err := b.inform(ctx, mark, "7 TRANSFER COMPLETE", 10*time.Second)
	if err != nil {
		return err
	}
	if err := b.wantCompleteIn(ctx, x); err != nil {
		return err
	}
	empties := 0
	for _, m := range b.methodsSince(x) {
		if m == "empty" {
			empties++
		}
	}
	if empties > 3 {
		return fmt.Errorf("%d empty POSTs in one session", empties)
	}
	return nil
}

func silentAfterEmpty(ctx context.Context, b *bench) error {
	if _, err := b.newSession(ctx); err != nil { // its empty POST is the last thing before the ACS's requests
		return err
	}
	if _, err := b.get(ctx, b.code()); err != nil {
		return err
	}
	x := b.lastExchange("Inform")
	if err := b.pendingTransfer(ctx, "later"); err != nil {
		return err
	}
	if err := pause(ctx, 700*time.Millisecond); err != nil {
		return err
	}
	if _, err := b.get(ctx, b.code()); err != nil {
		return err
	}
	mark := b.tap.mark()
	if slices.Contains(b.methodsSince(x), "TransferComplete") {
		return fmt.Errorf("a request came after the empty POST: %v", b.methodsSince(x))
	}
	b.endSession(ctx)
	if _, err := b.inform(ctx, mark, "7 TRANSFER COMPLETE", 10*time.Second); err != nil {
		return err
	}
	for _, v := range b.acs.Violations() {
		if strings.Contains(v, "after an empty POST") {
			return errors.New(v)
		}
	}
	return nil
}

func backToBack(ctx context.Context, b *bench) error {
	x, err := b.newSession(ctx)
	if err != nil {
		return err
	}
	if _, err := b.get(ctx, b.code()); err != nil {
		return err
	}
	if err := b.set(ctx, "k", b.code(), "back-to-back"); err != nil {
		return err
	}
	n := b.dev.Sessions()
	b.endSession(ctx)
	if b.dev.Sessions() != n+1 {
		return errors.New("the session did not end with empty messages from both sides")
	}
	list := b.tap.since(b.after(x) - 1)
	for i := 1; i < len(list); i++ {
		if list[i].At.Before(list[i-1].Done.Add(-time.Millisecond)) {
			return fmt.Errorf("%s was sent before the answer to %s was complete", list[i].method(), list[i-1].method())
		}
	}
	got := strings.Join(b.methodsSince(x), ", ")
	b.observe("the CPE sent %s", got)
	if !strings.Contains(got, "empty, GetParameterValuesResponse, SetParameterValuesResponse") {
		return fmt.Errorf("the order is %s", got)
	}
	return nil
}

func unansweredRequest(ctx context.Context, b *bench) error {
	if err := b.fastRetry(ctx); err != nil {
		return err
	}
	if err := b.pendingTransfer(ctx, "again"); err != nil {
		return err
	}
	b.acs.Inject(acs.Fault{Stage: acs.OnRequest, Empty: true, Times: 1})
	mark := b.tap.mark()
	b.endSession(ctx)
	x, err := b.inform(ctx, mark, "7 TRANSFER COMPLETE", 10*time.Second)
	if err != nil {
		return err
	}
	again, err := b.inform(ctx, b.after(x), "7 TRANSFER COMPLETE", 10*time.Second)
	if err != nil {
		return fmt.Errorf("after an unanswered TransferComplete: %w", err)
	}
	return b.wantCompleteIn(ctx, again)
}

func sessionTimeout(ctx context.Context, b *bench) error {
	timeout := b.lastExchange("Inform").Envelope.Header.SessionTimeout
	switch {
	case timeout == 0:
		return notApplicable("the Inform announces no SessionTimeout")
	case timeout < 30:
		return fmt.Errorf("SessionTimeout is %d s, less than 30", timeout)
	case timeout > 180:
		return notShown("SessionTimeout is %d s; waiting that long is not worth it", timeout)
	}
	if _, err := b.newSession(ctx); err != nil {
		return err
	}
	if _, err := b.get(ctx, b.code()); err != nil {
		return err
	}
	silence := time.Duration(timeout-5) * time.Second
	if err := pause(ctx, silence); err != nil {
		return err
	}
	b.observe("SessionTimeout %d s, silent for %v", timeout, silence)
	_, err := b.get(ctx, b.code())
	return err
}

func cookieOf(x *exchange, name string) (string, bool) {
	r := http.Request{Header: x.Header}
	c, err := r.Cookie(name)
	if err != nil {
		return "", false
	}
	return c.Value, true
}

func cookies(ctx context.Context, b *bench) error {
	if _, err := b.informAnswer(ctx, func(x *exchange) {
		x.RespHeader.Add("Set-Cookie", "one=1; Path=/")
		x.RespHeader.Add("Set-Cookie", "two=2; Path=/")
	}); err != nil {
		return err
	}
	if _, err := b.get(ctx, b.code()); err != nil {
		return err
	}
	x := b.lastExchange("GetParameterValuesResponse")
	v1, ok1 := cookieOf(x, "one")
	v2, ok2 := cookieOf(x, "two")
	if !ok1 || !ok2 || v1 != "1" || v2 != "2" {
		return fmt.Errorf("the cookies did not come back: %q", x.Header.Get("Cookie"))
	}
	var once sync.Once
	b.tap.onAfter(func(x *exchange) bool {
		once.Do(func() { x.RespHeader.Add("Set-Cookie", "two=; Path=/; Max-Age=0") })
		return false
	})
	for range 2 {
		if _, err := b.get(ctx, b.code()); err != nil {
			return err
		}
	}
	x = b.lastExchange("GetParameterValuesResponse")
	if _, there := cookieOf(x, "two"); there {
		return errors.New("a deleted cookie came back")
	}
	if _, there := cookieOf(x, "one"); !there {
		return errors.New("a cookie was lost")
	}
	next, err := b.newSession(ctx)
	if err != nil {
		return err
	}
	if c := next.Header.Get("Cookie"); c != "" {
		return fmt.Errorf("the next session starts with the cookies %q", c)
	}
	return nil
}

func longCookie(ctx context.Context, b *bench) error {
	value := strings.Repeat("0123456789abcdef", 31) + "0123456789a" // name, = and value are 512 bytes
	if _, err := b.informAnswer(ctx, func(x *exchange) { x.RespHeader.Add("Set-Cookie", "long="+value+"; Path=/") }); err != nil {
		return err
	}
	for range 2 {
		if _, err := b.get(ctx, b.code()); err != nil {
			return err
		}
		if got, _ := cookieOf(b.lastExchange("GetParameterValuesResponse"), "long"); got != value {
			return fmt.Errorf("the cookie came back as %d bytes instead of %d", len(got), len(value))
		}
	}
	return nil
}

func reasonInSession(ctx context.Context, b *bench) error {
	if err := b.notify(ctx, 2, b.code()); err != nil {
		return err
	}
	mark := b.tap.mark()
	if err := b.local(ctx, b.code()+"=in-session"); err != nil {
		return err
	}
	if err := b.quiet(ctx, mark, 1500*time.Millisecond); err != nil {
		return fmt.Errorf("during the session: %w", err)
	}
	b.endSession(ctx)
	x, err := b.inform(ctx, mark, "4 VALUE CHANGE", 5*time.Second)
	if err != nil {
		return err
	}
	if v, _ := informValue(x.inform(), b.code()); v != "in-session" {
		return fmt.Errorf("the changed value is reported as %q", v)
	}
	return nil
}

// idOf finds the ID in an envelope of the ACS.
func idOf(text string) string {
	m := regexp.MustCompile(`<cwmp:ID[^>]*>([^<]*)<`).FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	return m[1]
}

func otherPrefixes(ctx context.Context, b *bench) error {
	m, err := b.edited(ctx, &soap.GetParameterValues{ParameterNames: []string{b.code()}}, func(s string) string {
		return `<?xml version="1.0"?><!-- by hand --><Envelope xmlns="` + soap.NSEnvelope + `"><Header><ns7:ID xmlns:ns7="` + soap.NSCWMP12 +
			`" ns8:mustUnderstand="1" xmlns:ns8="` + soap.NSEnvelope + `">` + idOf(s) + `</ns7:ID></Header><Body><!-- one --><ns7:GetParameterValues xmlns:ns7="` +
			soap.NSCWMP12 + `"><ParameterNames xmlns="" xmlns:e="` + soap.NSEncoding + `" e:arrayType="xsd:string[1]"><string><![CDATA[` + b.code() +
			`]]></string></ParameterNames></ns7:GetParameterValues></Body></Envelope>`
	})
	if err != nil {
		return err
	}
	if r, ok := m.(*soap.GetParameterValuesResponse); !ok || len(r.ParameterList) != 1 || r.ParameterList[0].Name != b.code() {
		return errors.New("another parameter was answered")
	}
	return nil
}

func wholeTree(ctx context.Context, b *bench) error {
	list, err := b.names(ctx, "", false)
	if err != nil {
		return err
	}
	leaves := 0
	for _, n := range list {
		if !strings.HasSuffix(n.Name, ".") {
			leaves++
		}
	}
	values, err := b.values(ctx, b.root)
	if err != nil {
		return err
	}
	size := len(b.lastExchange("GetParameterValuesResponse").Body)
	b.observe("%d values in %d KiB", len(values), size>>10)
	if diff := leaves - len(values); diff > leaves/20 || diff < -leaves/20 { // live rows come and go
		return fmt.Errorf("%d values for %d parameters", len(values), leaves)
	}
	return nil
}

func strayFault(ctx context.Context, b *bench) error {
	mark := b.tap.mark()
	short, cancel := brief(ctx)
	defer cancel()
	_, err := b.edited(short, &soap.GetRPCMethods{}, func(s string) string {
		body, encErr := soap.Append(nil, &soap.Envelope{Header: soap.Header{ID: idOf(s), HasID: true}, Body: soap.NewFault(soap.ACSInternalError, "")})
		if encErr != nil {
			return s
		}
		return string(body)
	})
	if err == nil {
		return errors.New("a fault was answered as if it were a request")
	}
	for _, x := range b.tap.since(mark) {
		if x.method() == "Fault" {
			return errors.New("a fault was answered by a fault")
		}
	}
	b.observe("the CPE sent %v", len(b.tap.since(mark)))
	return b.alive(ctx)
}

func qualified(ctx context.Context, b *bench) error {
	inform := string(b.lastExchange("Inform").Body)
	if !strings.Contains(inform, "<DeviceId>") || !strings.Contains(inform, "<MaxEnvelopes>") {
		return errors.New("the CPE's Inform has qualified elements where the schema has none")
	}
	_, err := b.edited(ctx, &soap.GetParameterValues{ParameterNames: []string{b.code()}}, func(s string) string {
		return strings.NewReplacer("<ParameterNames", "<cwmp:ParameterNames", "</ParameterNames", "</cwmp:ParameterNames").Replace(s)
	})
	return err
}

func manyNames(ctx context.Context, b *bench) error {
	list, err := b.names(ctx, b.root+"DeviceInfo.", false)
	if err != nil {
		return err
	}
	m := &soap.GetParameterValues{}
	for i := 0; len(m.ParameterNames) < 5000; i++ {
		if n := list[i%len(list)].Name; !strings.HasSuffix(n, ".") && !strings.Contains(n, "ProcessStatus.") {
			m.ParameterNames = append(m.ParameterNames, n)
		}
	}
	answer, err := b.edited(ctx, m, func(s string) string { // padding to 1 MiB would only test the reader of comments
		b.observe("a request of %d KiB", len(s)>>10)
		return s
	})
	switch {
	case err == nil:
		b.observe("%d values", len(answer.(*soap.GetParameterValuesResponse).ParameterList))
	case faultCode(err) != soap.ResourcesExceeded:
		return err
	default:
		b.observe("fault 9004")
	}
	_, err = b.get(ctx, b.code())
	return err
}
