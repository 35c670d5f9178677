package acs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"twinspan/cwmp/httpc"
	"twinspan/cwmp/soap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func run(t *testing.T, cfg Config) *Server {
	t.Helper()
	cfg.Strict = true
	s, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// cpe is the shortest CPE that keeps to the protocol.
type cpe struct {
	t       *testing.T
	client  *httpc.Client
	session *httpc.Session
}

func newCPE(t *testing.T, cfg httpc.Config) *cpe {
	t.Helper()
	client, err := httpc.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c := &cpe{t: t, client: client, session: client.Session()}
	t.Cleanup(func() { c.session.Close() })
	return c
}

func (c *cpe) send(id string, m soap.Message) (*soap.Envelope, error) {
	var body []byte
	if m != nil {
		var err error
		if body, err = soap.Append(nil, &soap.Envelope{Header: soap.Header{ID: id}, Body: m}); err != nil {
			return nil, err
		}
	}
	r, err := c.session.Post(c.t.Context(), body)
	if err != nil || len(r.Body) == 0 {
		return nil, err
	}
	return soap.Decode(r.Body, soap.Options{Strict: true})
}

func (c *cpe) must(id string, m soap.Message) *soap.Envelope {
	c.t.Helper()
	env, err := c.send(id, m)
	if err != nil {
		c.t.Fatal(err)
	}
	return env
}

func inform(events ...string) *soap.Inform {
	in := &soap.Inform{DeviceID: soap.DeviceID{Manufacturer: "m", OUI: "00D09E", ProductClass: "Box", SerialNumber: "1"}, MaxEnvelopes: 1,
		CurrentTime:   time.Now(),
		ParameterList: []soap.ParameterValue{{Name: "Device.DeviceInfo.SoftwareVersion", Value: "1", Type: soap.String}}}
	for _, e := range events {
		in.Event = append(in.Event, soap.Event{EventCode: e})
	}
	return in
}

// answer gives the answer of the test CPE to a request.
func answer(m soap.Message) soap.Message {
	switch m := m.(type) {
	case *soap.GetParameterValues:
		var list []soap.ParameterValue
		for _, n := range m.ParameterNames {
			list = append(list, soap.ParameterValue{Name: n, Value: "v", Type: soap.String})
		}
		return &soap.GetParameterValuesResponse{ParameterList: list}
	case *soap.SetParameterValues:
		return &soap.SetParameterValuesResponse{Status: len(m.ParameterKey)}
	case *soap.Reboot:
		return &soap.RebootResponse{}
	}
	return soap.NewFault(soap.MethodNotSupported, "")
}

// whole plays a session to its end and returns how many requests it answered.
func (c *cpe) whole(events ...string) int {
	c.t.Helper()
	env := c.must("1", inform(events...))
	if _, ok := env.Body.(*soap.InformResponse); !ok || env.Header.ID != "1" {
		c.t.Fatalf("InformResponse expected, got %+v", env)
	}
	n := 0
	env = c.must("", nil)
	for env != nil {
		n++
		env = c.must(env.Header.ID, answer(env.Body))
	}
	c.session.Close()
	c.session = c.client.Session()
	return n
}

func noViolations(t *testing.T, s *Server) {
	t.Helper()
	for _, v := range s.Violations() {
		t.Error(v)
	}
}

func TestSessions(t *testing.T) {
	for _, auth := range []struct {
		mode       AuthMode
		algorithms []string
		bound      bool
	}{{NoAuth, nil, false}, {Digest, nil, false}, {Digest, []string{"MD5-sess"}, true}, {Digest, []string{"SHA-256", "MD5"}, true}, {Basic, nil, false}} {
		s := run(t, Config{Auth: auth.mode, Algorithms: auth.algorithms, NoncePerConnection: auth.bound, Username: "u", Password: "p"})
		c := newCPE(t, httpc.Config{URL: s.URL(), Username: "u", Password: "p", BasicInClear: true})
		if n := c.whole("0 BOOTSTRAP", "1 BOOT"); n != 0 {
			t.Errorf("%d requests", n)
		}
		d, err := s.WaitDevice(t.Context())
		if err != nil || d.Key != "00D09E-Box-1" {
			t.Fatal(d, err)
		}
		done := make(chan error, 2)
		go func() {
			m, err := d.Call(t.Context(), &soap.GetParameterValues{ParameterNames: []string{"Device.A", "Device.B"}})
			want := &soap.GetParameterValuesResponse{ParameterList: []soap.ParameterValue{{Name: "Device.A", Value: "v", Type: soap.String}, {Name: "Device.B", Value: "v", Type: soap.String}}}
			if err == nil && !reflect.DeepEqual(m, want) {
				t.Errorf("got %+v", m)
			}
			done <- err
		}()
		for d.Queued() < 1 {
			time.Sleep(time.Millisecond)
		}
		go func() {
			_, err := d.Call(t.Context(), &soap.FactoryReset{})
			var fault *soap.Fault
			if !errors.As(err, &fault) || fault.Code != soap.MethodNotSupported {
				t.Errorf("fault expected, got %v", err)
			}
			done <- nil
		}()
		for d.Queued() < 2 {
			time.Sleep(time.Millisecond)
		}
		if n := c.whole("6 CONNECTION REQUEST"); n != 2 {
			t.Errorf("%d requests", n)
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if err := d.WaitIdle(t.Context(), 2); err != nil {
			t.Error(err)
		}
		if _, err := d.WaitInform(t.Context(), func(r *InformRecord) bool { return r.HasEvent("6 CONNECTION REQUEST") }); err != nil {
			t.Error(err)
		}
		if k := s.Counters(); k.Sessions != 2 || k.Informs != 2 || k.Connections != 2 {
			t.Errorf("%+v", k)
		}
		noViolations(t, s)
	}
}

func TestWrongCredentials(t *testing.T) {
	for _, mode := range []AuthMode{Digest, Basic} {
		s := run(t, Config{Auth: mode, Username: "u", Password: "p"})
		c := newCPE(t, httpc.Config{URL: s.URL(), Username: "u", Password: "wrong", BasicInClear: true})
		if _, err := c.send("1", inform()); !errors.Is(err, httpc.ErrUnauthorized) {
			t.Error(err)
		}
		if len(s.Devices()) != 0 {
			t.Error("an Inform was taken")
		}
	}
}

func TestHold(t *testing.T) {
	s := run(t, Config{})
	c := newCPE(t, httpc.Config{URL: s.URL()})
	d := s.Device("00D09E-Box-1")
	release := d.Hold()
	result := make(chan int, 1)
	go func() { result <- c.whole("1 BOOT") }()
	for range 3 {
		if _, err := d.Call(t.Context(), &soap.Reboot{CommandKey: "k"}); err != nil {
			t.Fatal(err)
		}
	}
	if v, err := d.GetValues(t.Context(), "Device.A"); err != nil || len(v) != 1 || v[0].Name != "Device.A" {
		t.Error(v, err)
	}
	if status, err := d.SetValues(t.Context(), "k", soap.ParameterValue{Name: "Device.A", Value: "1", Type: soap.Int}); err != nil || status != 1 {
		t.Error(status, err)
	}
	if d.Sessions() != 0 {
		t.Error("the session ended while held")
	}
	release()
	release()
	if n := <-result; n != 5 {
		t.Errorf("%d requests", n)
	}
	if err := d.WaitIdle(t.Context(), 1); err != nil || s.Counters().Sessions != 1 {
		t.Error("more than one session", err)
	}
	noViolations(t, s)
}

func TestCallIsTakenBack(t *testing.T) {
	s := run(t, Config{})
	d := s.Device("x")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := d.Call(ctx, &soap.Reboot{}); !errors.Is(err, context.DeadlineExceeded) || d.Queued() != 0 {
		t.Error(err, d.Queued())
	}
	failed := make(chan error, 1)
	go func() { _, err := d.Call(context.Background(), &soap.Reboot{}); failed <- err }()
	for d.Queued() == 0 {
		time.Sleep(time.Millisecond)
	}
	s.Close()
	s.Close()
	if err := <-failed; !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if _, err := d.Call(t.Context(), &soap.Reboot{}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestLostSession(t *testing.T) {
	s := run(t, Config{})
	c := newCPE(t, httpc.Config{URL: s.URL()})
	d := s.Device("00D09E-Box-1")
	failed := make(chan error, 1)
	go func() { _, err := d.Call(t.Context(), &soap.Reboot{}); failed <- err }()
	for d.Queued() == 0 {
		time.Sleep(time.Millisecond)
	}
	c.must("1", inform("1 BOOT"))
	c.must("", nil) // the Reboot; no answer: a new session instead
	c.must("2", inform("1 BOOT"))
	if err := <-failed; !errors.Is(err, ErrSessionLost) {
		t.Error(err)
	}
}

func TestRequestsOfTheCPE(t *testing.T) {
	s := run(t, Config{UseCWMPVersion: "1.4"})
	c := newCPE(t, httpc.Config{URL: s.URL()})
	c.must("1", inform("7 TRANSFER COMPLETE"))
	for i, m := range []soap.Message{
		&soap.TransferComplete{CommandKey: "k"}, &soap.GetRPCMethods{}, &soap.AutonomousTransferComplete{}, &soap.Kicked{},
	} {
		id := string(rune('a' + i))
		env := c.must(id, m)
		if env.Header.ID != id {
			t.Errorf("ID %q", env.Header.ID)
		}
		f, isFault := env.Body.(*soap.Fault)
		if isFault != (i == 3) || isFault && f.Code != soap.ACSMethodNotSupported {
			t.Errorf("%s gives %+v", m.Method(), env.Body)
		}
	}
	if c.must("", nil) != nil {
		t.Error("the session goes on")
	}
	d := s.Devices()[0]
	if tc := d.TransferCompletes(); len(tc) != 1 || tc[0].CommandKey != "k" || len(d.Requests()) != 2 {
		t.Errorf("%+v %+v", tc, d.Requests())
	}
	noViolations(t, s)
}

func TestViolationsAreNoted(t *testing.T) {
	s := run(t, Config{})
	c := newCPE(t, httpc.Config{URL: s.URL()})
	_, _ = c.send("1", &soap.TransferComplete{})
	c.must("1", inform())
	c.must("", nil)
	c = newCPE(t, httpc.Config{URL: s.URL()})
	in := inform()
	in.MaxEnvelopes, in.ParameterList[0].Type = 2, soap.NoType
	s.Inject(Fault{Stage: OnInform, HoldRequests: true})
	c.must("1", in)
	c.must("2", &soap.TransferComplete{})
	c.must("", nil)
	resp, err := http.Post(s.URL(), "text/plain", strings.NewReader("<x/>"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	all := strings.Join(s.Violations(), "\n")
	for _, want := range []string{"TransferComplete outside of a session", "MaxEnvelopes 2", "xsi:type", "while requests are held",
		"without SOAPAction", "envelope refused"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not among\n%s", want, all)
		}
	}
}

func TestFaultSwitches(t *testing.T) {
	elsewhere := run(t, Config{})
	for name, c := range map[string]struct {
		fault Fault
		check func(env *soap.Envelope, err error) bool
	}{
		"wrong ID":   {Fault{WrongID: true}, func(env *soap.Envelope, err error) bool { return err == nil && env.Header.ID != "1" }},
		"hold":       {Fault{HoldRequests: true}, func(env *soap.Envelope, err error) bool { return err == nil && env.Header.Held() }},
		"8005":       {Fault{FaultCode: 8005}, func(env *soap.Envelope, err error) bool { f, ok := env.Body.(*soap.Fault); return ok && f.Code == 8005 }},
		"slow":       {Fault{Delay: 50 * time.Millisecond}, ok},
		"cut":        {Fault{Cut: true}, failed},
		"cut after":  {Fault{CutAfter: 20}, failed},
		"malformed":  {Fault{Malformed: true}, func(_ *soap.Envelope, err error) bool { var e *soap.Error; return errors.As(err, &e) }},
		"raw":        {Fault{Raw: []byte("hello")}, failed},
		"status":     {Fault{Status: 503}, failed},
		"empty":      {Fault{Empty: true}, func(env *soap.Envelope, err error) bool { return env == nil && err == nil }},
		"chunked":    {Fault{Chunked: 7}, ok},
		"gzip":       {Fault{Gzip: true}, ok},
		"close":      {Fault{Close: true}, ok},
		"big":        {Fault{Pad: 100_000}, ok},
		"too big":    {Fault{Pad: 2 << 20}, func(env *soap.Envelope, err error) bool { return err != nil }},
		"401":        {Fault{Unauthorized: true, Times: 1}, ok},
		"302":        {Fault{Redirect: elsewhere.URL()}, ok},
		"307 to me":  {Fault{Redirect: "/acs", Status: 307, Times: 1}, ok},
		"not now":    {Fault{Cut: true, Skip: 1}, ok},
		"not here":   {Fault{Cut: true, Stage: OnEmpty}, ok},
		"not at all": {Fault{}, ok},
	} {
		t.Run(name, func(t *testing.T) {
			s := run(t, Config{})
			s.Inject(c.fault)
			cpe := newCPE(t, httpc.Config{URL: s.URL(), Username: "u", Password: "p"})
			env, err := cpe.send("1", inform("1 BOOT"))
			if !c.check(env, err) {
				t.Errorf("%+v %v", env, err)
			}
			if got := len(s.Devices()[0].Informs()); got < 1 {
				t.Error("the Inform was not recorded")
			}
		})
	}
}

func ok(env *soap.Envelope, err error) bool {
	if err != nil || env == nil {
		return false
	}
	_, is := env.Body.(*soap.InformResponse)
	return is
}

func failed(_ *soap.Envelope, err error) bool { return err != nil }

func TestFaultIsTakenBack(t *testing.T) {
	s := run(t, Config{})
	remove := s.Inject(Fault{Cut: true})
	remove()
	s.Inject(Fault{Cut: true})
	s.ClearFaults()
	newCPE(t, httpc.Config{URL: s.URL()}).whole("1 BOOT")
	noViolations(t, s)
}

func TestTLSAndCompression(t *testing.T) {
	box := httptest.NewUnstartedServer(nil) // for its certificate
	box.StartTLS()
	cert, leaf := box.TLS.Certificates[0], box.Certificate()
	box.Close()
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	s := run(t, Config{Auth: Basic, Username: "u", Password: "p", TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	newCPE(t, httpc.Config{URL: s.URL(), RootCAs: roots, Username: "u", Password: "p", Compression: httpc.GZIP}).whole("1 BOOT")
	if k := s.Counters(); k.Unauthorized != 0 || k.Sessions != 1 {
		t.Errorf("%+v", k)
	}
	noViolations(t, s)
}

func TestDeviceBound(t *testing.T) {
	s := run(t, Config{})
	for i := range maxDevices {
		if s.Device(strings.Repeat("x", i+1)) == nil {
			t.Fatal("too early")
		}
	}
	if s.Device("one more") != nil {
		t.Error("no bound")
	}
	_, err := newCPE(t, httpc.Config{URL: s.URL()}).send("1", inform())
	var st *httpc.StatusError
	if !errors.As(err, &st) || st.Code != 503 {
		t.Error(err)
	}
}
