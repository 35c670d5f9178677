package cwmp

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"twinspan/cwmp/acs"
	"twinspan/cwmp/soap"
)

// serverRig is a rig against the ACS of package acs.
type serverRig struct {
	*rig
	server *acs.Server
	dev    *acs.Device
}

func newServerRig(t testing.TB, cfg acs.Config, opts func(*Options), extra map[string]string, faults ...acs.Fault) *serverRig {
	t.Helper()
	server, err := acs.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	for _, f := range faults {
		server.Inject(f)
	}
	values := map[string]string{
		"Device.ManagementServer.URL":                       server.URL(),
		"Device.ManagementServer.Username":                  "cpe",
		"Device.ManagementServer.Password":                  "secret",
		"Device.ManagementServer.ConnectionRequestUsername": "acs",
		"Device.ManagementServer.ConnectionRequestPassword": "knock",
	}
	for k, v := range extra {
		values[k] = v
	}
	r := &serverRig{rig: newRig(t, opts, values), server: server}
	if r.dev, err = server.WaitDevice(r.ctx()); err != nil {
		t.Fatal(err)
	}
	r.dev.SetConnectionRequestAuth("acs", "knock")
	return r
}

func (r *serverRig) idle(n int) {
	r.t.Helper()
	if err := r.dev.WaitIdle(r.ctx(), n); err != nil {
		r.t.Fatalf("session %d: %v; violations %v", n, err, r.server.Violations())
	}
}

func (r *serverRig) clean() {
	r.t.Helper()
	if v := r.server.Violations(); len(v) > 0 {
		r.t.Errorf("the CPE broke rules: %v", v)
	}
}

// Digest, cookies, one TCP connection for a session, and no violation of the protocol (SES-20).
func TestDigestSession(t *testing.T) {
	t.Parallel()
	r := newServerRig(t, acs.Config{Auth: acs.Digest, Username: "cpe", Password: "secret", NoncePerConnection: true, Strict: true}, nil, nil)
	r.idle(1)
	before := r.server.Counters()
	release := r.dev.Hold()
	if err := r.dev.ConnectionRequest(r.ctx()); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if _, err := r.dev.Call(r.ctx(), &soap.GetRPCMethods{}); err != nil {
			t.Fatal(err)
		}
	}
	release()
	r.idle(2)
	last, _ := r.dev.LastInform()
	if !last.HasEvent("6 CONNECTION REQUEST") {
		t.Errorf("events %v", last)
	}
	if n := r.server.Counters().Connections - before.Connections; n > 1 {
		t.Errorf("%d connections", n)
	}
	r.clean()
}

// Faults of the transport that a session survives.
func TestSessionSurvives(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]acs.Fault{
		"SES-19 Connection: close":           {Close: true},
		"HTTP-02 chunks of 7 bytes":          {Chunked: 7},
		"HTTP-04 redirect of an RPC answer":  {Stage: acs.OnResponse, Times: 1, Redirect: "?again=1"},
		"HTTP-05 redirect 307 of the Inform": {Stage: acs.OnInform, Times: 1, Status: http.StatusTemporaryRedirect, Redirect: "?x=1"},
		"HTTP-16 challenge in the middle":    {Stage: acs.OnResponse, Times: 1, Unauthorized: true},
		"SES-09 hold and nothing, then 204":  {Stage: acs.OnInform, HoldRequests: true},
		"a big message (half a MiB)":         {Stage: acs.OnResponse, Times: 1, Pad: 500 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if strings.HasPrefix(f.Redirect, "?") {
				f.Redirect = "/acs" + f.Redirect
			}
			r := newServerRig(t, acs.Config{Auth: acs.Digest, Username: "cpe", Password: "secret"}, nil, nil)
			r.idle(1)
			r.server.Inject(f)
			done := make(chan error, 2)
			for range 2 {
				go func() { _, err := r.dev.Call(r.ctx(), &soap.GetRPCMethods{}); done <- err }()
			}
			for r.dev.Queued() < 2 {
				time.Sleep(time.Millisecond)
			}
			if err := r.dev.ConnectionRequest(r.ctx()); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := <-done; err != nil {
					t.Fatal(err)
				}
			}
			r.idle(2)
			if n := r.dev.Sessions(); n != 2 {
				t.Errorf("%d sessions", n)
			}
		})
	}
}

// RTY-10, SES-27, EVT-21: what breaks after the acknowledged Inform ends the session; the CPE lives, the delivered events do
// not come again, and the next session works.
func TestSessionBreaks(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]acs.Fault{
		"malformed XML":             {Stage: acs.OnEmpty, Times: 1, Malformed: true},
		"connection cut":            {Stage: acs.OnEmpty, Times: 1, Cut: true},
		"cut in the body":           {Stage: acs.OnEmpty, Times: 1, Raw: []byte("<x>" + strings.Repeat(" ", 100)), CutAfter: 20},
		"HTTP 500":                  {Stage: acs.OnEmpty, Times: 1, Status: 500},
		"SEC-02 no end of a body":   {Stage: acs.OnEmpty, Times: 1, Raw: []byte(strings.Repeat("x", 3<<20))},
		"SEC-01 entity expansion":   {Stage: acs.OnEmpty, Times: 1, Raw: []byte(`<!DOCTYPE a [<!ENTITY x "xx"><!ENTITY y "&x;&x;">]><a>&y;</a>`)},
		"HTTP-06 redirect for ever": {Stage: acs.OnEmpty, Times: 7, Redirect: "/acs"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newServerRig(t, acs.Config{}, nil, nil, f)
			r.rig.wait("the end of the broken session", func() bool {
				idle := false
				r.cpe.call(r.ctx(), func() error { idle = r.cpe.running == nil && !r.cpe.endedAt.IsZero(); return nil })
				return idle
			})
			r.server.ClearFaults()
			if err := r.dev.ConnectionRequest(r.ctx()); err != nil {
				t.Fatal(err)
			}
			if _, err := r.dev.Call(r.ctx(), &soap.GetRPCMethods{}); err != nil {
				t.Fatal(err)
			}
			last, _ := r.dev.LastInform()
			if last.HasEvent("0 BOOTSTRAP") || last.HasEvent("1 BOOT") || last.Inform.RetryCount != 0 {
				t.Errorf("events %v, RetryCount %d", last.Inform.Event, last.Inform.RetryCount)
			}
		})
	}
}

// SES-28, SES-33, SES-35: messages that are SOAP and wrong are answered by faults, in the session.
func TestBadRequestsAreAnswered(t *testing.T) {
	t.Parallel()
	envelope := func(header, body string) []byte {
		return []byte(`<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" xmlns:cwmp="urn:dslforum-org:cwmp-1-2"><s:Header><cwmp:ID s:mustUnderstand="1">77</cwmp:ID>` +
			header + `</s:Header><s:Body>` + body + `</s:Body></s:Envelope>`)
	}
	for name, tt := range map[string]struct {
		raw  []byte
		want func(*soap.Fault) bool
	}{
		"SES-28 no method":       {envelope("", ""), func(f *soap.Fault) bool { return f.Code == 9003 }},
		"RPC-02 unknown method":  {envelope("", "<cwmp:X_Foo/>"), func(f *soap.Fault) bool { return f.Code == 9000 }},
		"unknown header":         {envelope(`<x:H xmlns:x="urn:x" s:mustUnderstand="1"/>`, "<cwmp:GetRPCMethods/>"), func(f *soap.Fault) bool { return f.SOAPCode == "MustUnderstand" }},
		"RB-03 long CommandKey":  {envelope("", "<cwmp:Reboot><CommandKey>"+strings.Repeat("k", 33)+"</CommandKey></cwmp:Reboot>"), func(f *soap.Fault) bool { return f.Code == 9003 }},
		"SES-35 over the limits": {envelope("", "<cwmp:GetParameterValues><ParameterNames>"+strings.Repeat("<string>Device.</string>", 20000)+"</ParameterNames></cwmp:GetParameterValues>"), func(f *soap.Fault) bool { return f.Code == 9004 }},
		"depth of the options":   {envelope("", "<cwmp:GetRPCMethods>"+strings.Repeat("<a>", 20)+strings.Repeat("</a>", 20)+"</cwmp:GetRPCMethods>"), func(f *soap.Fault) bool { return f.Code == 9004 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(o *Options) { o.MaxDepth = 16 }, nil)
			r.ended(1)
			srv := r.acs.srv.Config.Handler
			sent := false
			r.acs.srv.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.ContentLength == 0 && !sent {
					sent = true
					rec := &discard{h: http.Header{}}
					srv.ServeHTTP(rec, req)
					w.Write(tt.raw)
					return
				}
				srv.ServeHTTP(w, req)
			})
			r.cpe.requested()
			r.ended(2)
			msgs := r.acs.session(1)
			if len(msgs) < 3 || msgs[2] == nil {
				t.Fatalf("messages %v", r.acs.methods(1))
			}
			f, ok := msgs[2].Body.(*soap.Fault)
			if !ok || !tt.want(f) {
				t.Fatalf("answer %#v", msgs[2].Body)
			}
			if id := msgs[2].Header.ID; id != "77" {
				t.Errorf("ID %q", id)
			}
		})
	}
}

type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

// CR-09, CR-15, CR-16, CR-17, CR-18 and requests during a session.
func TestConnectionRequests(t *testing.T) {
	t.Parallel()
	r := newServerRig(t, acs.Config{}, nil, nil)
	r.idle(1)
	last, _ := r.dev.LastInform()
	url, _ := last.Value("Device.ManagementServer.ConnectionRequestURL")
	if !strings.HasPrefix(url, "http://127.0.0.1:") || len(url) < 40 {
		t.Fatalf("URL %q", url)
	}
	ask := func(user, password string) int {
		code, err := acs.ConnectionRequest(r.ctx(), url, user, password)
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	if code := ask("acs", "wrong"); code != 401 {
		t.Errorf("wrong password: %d", code)
	}
	release := r.dev.Hold()
	for range 5 {
		if code := ask("acs", "knock"); code != 200 {
			t.Errorf("request: %d", code)
		}
	}
	if _, err := r.dev.Call(r.ctx(), &soap.SetParameterValues{ParameterList: values("Device.ManagementServer.ConnectionRequestPassword", "new")}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	n := r.dev.Sessions()
	if code := ask("acs", "knock"); code != 200 { // still the old pair, and a session is running
		t.Errorf("request in a session: %d", code)
	}
	release()
	r.idle(n + 1) // the request in the session gave one more, after it
	if got := r.dev.Sessions(); got > n+1 || n > 3 {
		t.Errorf("%d sessions before, %d after", n, got)
	}
	r.rig.wait("the new password to be taken over", func() bool {
		now := ""
		r.cpe.call(r.ctx(), func() error { now = r.cpe.set.connReqSecret; return nil })
		return now == "new"
	})
	if code := ask("acs", "knock"); code != 401 {
		t.Errorf("old password: %d", code)
	}
	if code := ask("acs", "new"); code != 200 {
		t.Errorf("new password: %d", code)
	}
	r.idle(n + 2)
	r.sys("Device.ManagementServer.HTTPConnectionRequestEnable", "false")
	r.rig.wait("the port to close", func() bool {
		_, err := acs.ConnectionRequest(r.ctx(), url, "acs", "new")
		return err != nil
	})
}

// TLS: the ACS is trusted by the given roots, and only by them; Basic is fine there (HTTP-13).
func TestTLS(t *testing.T) {
	t.Parallel()
	plain := httptest.NewTLSServer(nil) // for its certificate, which is for 127.0.0.1
	t.Cleanup(plain.Close)
	roots := x509.NewCertPool()
	roots.AddCert(plain.Certificate())
	cfg := acs.Config{TLS: plain.TLS.Clone(), Auth: acs.Basic, Username: "cpe", Password: "secret"}
	cfg.TLS.NextProtos = nil
	r := newServerRig(t, cfg, func(o *Options) { o.RootCAs = roots }, nil)
	r.idle(1)
	r.clean()

	server, err := acs.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	strange := newRig(t, nil, map[string]string{"Device.ManagementServer.URL": server.URL()})
	strange.wait("the refused certificate", func() bool {
		failures := 0
		strange.cpe.call(strange.ctx(), func() error { failures = strange.cpe.failures; return nil })
		return failures > 0
	})
	if n := server.Counters().Informs; n != 0 {
		t.Errorf("%d Informs went to an untrusted server", n)
	}
}

// A session without news costs no write to flash, a periodic one neither.
func TestNoCommits(t *testing.T) {
	t.Parallel()
	r := newServerRig(t, acs.Config{}, nil, map[string]string{"Device.ManagementServer.PeriodicInformEnable": "true", "Device.ManagementServer.PeriodicInformInterval": "1"})
	r.idle(2)
	before := r.store.Stats().Commits
	r.idle(4)
	if n := r.store.Stats().Commits - before; n != 0 {
		t.Errorf("%d commits in idle sessions", n)
	}
}

// CR-14: a new address is told at once.
func TestCR14NewAddress(t *testing.T) {
	t.Parallel()
	r := newServerRig(t, acs.Config{}, nil, nil)
	r.idle(1)
	r.cpe.call(r.ctx(), func() error {
		r.cpe.o.ConnectionRequestHost, r.cpe.server.peer, r.cpe.server.host = "192.0.2.1", "", "192.0.2.1"
		r.cpe.showAddress()
		return nil
	})
	r.idle(2)
	last, _ := r.dev.LastInform()
	if v, _ := last.Value("Device.ManagementServer.ConnectionRequestURL"); !last.HasEvent("4 VALUE CHANGE") || !strings.HasPrefix(v, "http://192.0.2.1:") {
		t.Errorf("Inform %+v, URL %s", last.Inform.Event, v)
	}
}

// Many CPEs' worth of sessions in a row leave nothing behind (goleak looks at the end), and events are in order.
func TestSessionsInARow(t *testing.T) {
	t.Parallel()
	r := newServerRig(t, acs.Config{Strict: true}, func(o *Options) { o.RequestsPerMinute = 1000 }, nil)
	r.idle(1)
	for i := range 5 {
		r.cpe.requested()
		r.idle(i + 2)
	}
	r.clean()
	var got []string
	for _, in := range r.dev.Informs() {
		for _, e := range in.Inform.Event {
			got = append(got, e.EventCode)
		}
	}
	want := []string{"0 BOOTSTRAP", "1 BOOT"}
	for range 5 {
		want = append(want, "6 CONNECTION REQUEST")
	}
	if !slices.Equal(got, want) {
		t.Errorf("events %v", got)
	}
}

// BenchmarkEmptySession measures a whole session with nothing to do: connect, Inform, InformResponse, empty message, 204.
func BenchmarkEmptySession(b *testing.B) {
	r := newServerRig(b, acs.Config{}, nil, nil)
	r.idle(1)
	ctx := r.ctx()
	var set settings
	r.cpe.call(ctx, func() error { set = r.cpe.set; r.cpe.running = func() {}; return nil })
	b.ResetTimer()
	for b.Loop() {
		if res := r.cpe.runSession(b.Context(), set); res.err != nil || !res.informed {
			b.Fatal(res.err)
		}
	}
	b.StopTimer()
	r.cpe.call(r.ctx(), func() error { r.cpe.running = nil; return nil })
}

// BenchmarkSession5000 is a whole session over HTTP in which the ACS reads 5,000 parameters and more; the greater part of the
// time is the ACS's, which decodes them.
func BenchmarkSession5000(b *testing.B) {
	extra := map[string]string{}
	for i := 1; len(extra) < 500; i++ {
		extra[fmt.Sprintf("Device.Users.User.%d.Username", i)] = fmt.Sprintf("user%d", i)
	}
	r := newServerRig(b, acs.Config{}, nil, extra)
	r.idle(1)
	var set settings
	r.cpe.call(r.ctx(), func() error { set = r.cpe.set; r.cpe.running = func() {}; return nil })
	for b.Loop() {
		done := make(chan error, 1)
		go func() {
			_, err := r.dev.Call(b.Context(), &soap.GetParameterValues{ParameterNames: []string{"Device.Users.User."}})
			done <- err
		}()
		for r.dev.Queued() == 0 {
			time.Sleep(10 * time.Microsecond)
		}
		if res := r.cpe.runSession(b.Context(), set); res.err != nil {
			b.Fatal(res.err)
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	r.cpe.call(r.ctx(), func() error { r.cpe.running = nil; return nil })
}

// BenchmarkGetParameterValues5000 measures reading, and encoding 5,000 parameters as the session does.
func BenchmarkGetParameterValues5000(b *testing.B) {
	extra := map[string]string{}
	for i := 1; len(extra) < 600; i++ {
		extra[fmt.Sprintf("Device.Users.User.%d.Username", i)] = fmt.Sprintf("user%d", i)
	}
	r := newRig(b, nil, extra)
	r.ended(1)
	s := &session{c: r.cpe, shield: r.engine.Shield(acsWriter), namespace: soap.NSCWMP12}
	defer s.shield.Close()
	req := &soap.Envelope{Header: soap.Header{ID: "1"}, Body: &soap.GetParameterValues{ParameterNames: []string{"Device.Users.User."}}}
	var buf []byte
	count := 0
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		answer := s.serve(b.Context(), req)
		m, ok := answer.Body.(*soap.GetParameterValuesResponse)
		if !ok {
			b.Fatalf("%#v", answer.Body)
		}
		count = m.Count
		var err error
		if buf, err = soap.Append(buf[:0], answer); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(count), "params/op")
	b.ReportMetric(float64(len(buf)), "bytes/op")
}
