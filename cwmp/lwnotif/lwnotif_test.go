package lwnotif

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var device = Device{"00256D", "GW & <1>", "S/1"}

func TestRoundTrip(t *testing.T) {
	m := Message{Timestamp: 1700000000, User: "cpe<1>", Cnonce: "abc", Device: device,
		Params: []Param{{"Device.A.B", "xsd:string", "a & b <c>\r\n\"ü\""}, {"Device.C", "xsd:boolean", "true"}, {"Device.D", "xsd:string", ""}}}
	raw := m.Encode("2001:db8::1", 7547, "secret")
	got, err := Parse(raw)
	if err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	if !got.Signed("secret") || got.Signed("other") || got.Signed("") {
		t.Error("signature")
	}
	got.signature, got.body = nil, nil
	if !reflect.DeepEqual(*got, m) {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(string(raw), "Host: [2001:db8::1]:7547\r\n") {
		t.Errorf("%s", raw)
	}
	raw[len(raw)-20] ^= 1
	if got, err := Parse(raw); err == nil && got.Signed("secret") {
		t.Error("changed text is proved")
	}
}

func TestMalformed(t *testing.T) {
	good := string((&Message{Params: []Param{{"a", "xsd:string", "b"}}}).Encode("h", 1, "p"))
	for name, text := range map[string]string{
		"empty":          "",
		"GET":            strings.Replace(good, "POST", "GET", 1),
		"version":        strings.Replace(good, "HTTP/1.1", "HTTP/1.0", 1),
		"no signature":   strings.Replace(good, "Signature", "X", 1),
		"bad signature":  strings.Replace(good, "Signature: ", "Signature: x", 1),
		"two signatures": strings.Replace(good, "Signature", "Signature: "+strings.Repeat("00", 20)+"\r\nSignature", 1),
		"length":         good + " ",
		"no length":      strings.Replace(good, "Content-Length", "X", 1),
		"namespace":      strings.Replace(good, "lwnotif-1-0", "lwnotif-9-9", 1),
		"broken":         strings.Replace(good, "</Param>", "</Paran>", 1),
		"no time":        strings.Replace(good, "<TS>0</TS>", "<TS>x</TS>", 1),
		"no parameter":   string((&Message{}).Encode("h", 1, "p")),
		"too large":      string((&Message{Params: []Param{{"a", "", strings.Repeat("b", MaxMessage)}}}).Encode("h", 1, "p")),
	} {
		if m, err := Parse([]byte(text)); !errors.Is(err, ErrMalformed) || m != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// wire is a receiver in memory.
type wire struct {
	net.Conn
	mu   sync.Mutex
	got  []*Message
	at   []time.Time
	size []int
	to   string
	fail bool
	t    *testing.T
}

func (w *wire) dial(_ context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.to = network + " " + address
	if w.fail {
		return nil, errors.New("no such host")
	}
	return w, nil
}

func (w *wire) Write(b []byte) (int, error) {
	m, err := Parse(b)
	if err != nil {
		w.t.Error(err)
		return len(b), nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got, w.at, w.size = append(w.got, m), append(w.at, time.Now()), append(w.size, len(b))
	return len(b), nil
}
func (w *wire) Close() error                     { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

func (w *wire) take() []*Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.got
	w.got = nil
	return out
}

// synthetic runs a test with a Sender on synthetic time.
func synthetic(t *testing.T, fn func(t *testing.T, s *Sender, w *wire)) {
	synctest.Test(t, func(t *testing.T) {
		s, w := New(nil), &wire{t: t}
		s.dial = w.dial
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := s.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		fn(t, s, w)
		cancel()
		wg.Wait()
	})
}

var basic = Config{Host: "acs.example", Username: "cpe", Password: "secret", Device: device}

func configure(t *testing.T, s *Sender, change func(*Config)) {
	cfg := basic
	if change != nil {
		change(&cfg)
	}
	if err := s.Configure(cfg); err != nil {
		t.Fatal(err)
	}
}

func TestActive(t *testing.T) {
	synthetic(t, func(t *testing.T, s *Sender, w *wire) {
		configure(t, s, nil)
		s.Changed(Param{"P", "xsd:string", "passive"}, false)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if got := w.take(); len(got) != 0 {
			t.Error("a passive one went out without an interval")
		}
		s.Changed(Param{"A", "xsd:int", "1"}, true)
		synctest.Wait()
		got := w.take()
		if len(got) != 1 || len(got[0].Params) != 2 || got[0].Params[1] != (Param{"A", "xsd:int", "1"}) {
			t.Fatalf("%+v", got)
		}
		m := got[0]
		if m.User != "cpe" || !m.Signed("secret") || m.Device != device || m.Cnonce == "" || m.Timestamp != time.Now().Unix() || w.to != "udp acs.example:7547" {
			t.Errorf("%+v %s", m, w.to)
		}
		for i := range 100 { // a burst: one more datagram, with the newest value
			s.Changed(Param{"A", "xsd:int", fmt.Sprint(i)}, true)
			synctest.Wait()
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := w.take(); len(got) != 1 || got[0].Params[0].Value != "99" {
			t.Errorf("%+v", got)
		}
	})
}

func TestPassive(t *testing.T) {
	synthetic(t, func(t *testing.T, s *Sender, w *wire) {
		reference := time.Now().Add(-time.Hour - 10*time.Minute)
		configure(t, s, func(c *Config) { c.Interval, c.Reference = time.Hour, reference })
		s.Changed(Param{"P", "xsd:string", "1"}, false)
		s.Changed(Param{"P", "xsd:string", "2"}, false)
		time.Sleep(49 * time.Minute)
		synctest.Wait()
		if got := w.take(); len(got) != 0 {
			t.Error("too early")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := w.take(); len(got) != 1 || len(got[0].Params) != 1 || got[0].Params[0].Value != "2" || w.at[0].Sub(reference)%time.Hour != 0 {
			t.Errorf("%+v %v", got, w.at)
		}
		time.Sleep(3 * time.Hour) // nothing changed: nothing sent
		synctest.Wait()
		if got := w.take(); len(got) != 0 {
			t.Errorf("%+v", got)
		}
		configure(t, s, func(c *Config) { c.Interval = time.Minute }) // without a reference
		s.Changed(Param{"P", "xsd:string", "3"}, false)
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if got := w.take(); len(got) != 1 {
			t.Errorf("%+v", got)
		}
		configure(t, s, func(c *Config) { c.Interval, c.Reference = time.Hour, time.Now().Add(100*time.Hour+5*time.Minute) })
		s.Changed(Param{"P", "xsd:string", "4"}, false)
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		if got := w.take(); len(got) != 1 {
			t.Errorf("reference in the future: %+v", got)
		}
	})
}

func TestOff(t *testing.T) {
	synthetic(t, func(t *testing.T, s *Sender, w *wire) {
		s.Changed(Param{"A", "xsd:int", "1"}, true)
		for _, change := range []func(*Config){func(c *Config) { c.Host = "" }, func(c *Config) { c.Username = "" }, func(c *Config) { c.Password = "" }} {
			configure(t, s, change)
			s.Changed(Param{"A", "xsd:int", "1"}, true)
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		configure(t, s, nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := w.take(); len(got) != 0 { // LWN-02
			t.Errorf("%+v", got)
		}
	})
}

func TestLimits(t *testing.T) {
	synthetic(t, func(t *testing.T, s *Sender, w *wire) {
		configure(t, s, nil)
		s.Changed(Param{"long", "xsd:string", strings.Repeat("x", 3000)}, false)
		s.Changed(Param{"too long", "xsd:string", strings.Repeat("x", 2*MaxMessage)}, false)
		for i := range maxPending + 100 {
			s.Changed(Param{fmt.Sprintf("Device.Some.Object.%d.Parameter", i), "xsd:string", strings.Repeat("v", 30)}, false)
		}
		s.Changed(Param{"long", "xsd:string", strings.Repeat("y", 3000)}, true)
		synctest.Wait()
		seen := map[string]bool{}
		for _, m := range w.take() {
			for _, p := range m.Params {
				if seen[p.Name] {
					t.Errorf("%s twice", p.Name)
				}
				seen[p.Name] = true
			}
		}
		if len(seen) != maxPending-1 || !seen["long"] || seen["too long"] {
			t.Errorf("%d values", len(seen))
		}
		for i, n := range w.size {
			if n > DefaultMaxDatagram && i != 0 {
				t.Errorf("datagram %d of %d bytes", i, n)
			}
		}
		if st := s.Stats(); st.Params != maxPending-1 || st.Dropped != 100+2+1 || st.Datagrams != int64(len(w.size)) {
			t.Errorf("%+v", st)
		}
		w.mu.Lock()
		w.fail = true
		w.mu.Unlock()
		s.Changed(Param{"A", "xsd:int", "1"}, true)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if st := s.Stats(); st.Dropped != 104 {
			t.Errorf("%+v", st)
		}
	})
}

// Over a real socket.
func TestSocket(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s := New(nil)
	cfg := basic
	cfg.Host, cfg.Port = "127.0.0.1", conn.LocalAddr().(*net.UDPAddr).Port
	if err := s.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	s.Changed(Param{"A", "xsd:int", "1"}, true)
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, MaxMessage)
	n, _, err := conn.ReadFrom(buf)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := Parse(buf[:n]); err != nil || !m.Signed("secret") {
		t.Errorf("%+v %v", m, err)
	}
	if err := s.Run(ctx); err == nil {
		t.Error("a second Run")
	}
}

func TestValidate(t *testing.T) {
	for name, cfg := range map[string]Config{"Port": {Port: 70000}, "Interval": {Interval: time.Millisecond}, "MaxDatagram": {MaxDatagram: 10}} {
		if err := New(nil).Configure(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add((&Message{Timestamp: 1, User: "u", Device: device, Params: []Param{{"a", "xsd:string", "b"}}}).Encode("h", 1, "p"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Parse(data)
		if err != nil {
			return
		}
		again, err := Parse(m.Encode("h", 1, "p"))
		if err != nil {
			if errors.Is(err, ErrMalformed) && len(m.Encode("h", 1, "p")) > MaxMessage {
				return
			}
			t.Fatal(err)
		}
		if !again.Signed("p") || !reflect.DeepEqual(again.Params, m.Params) || again.User != m.User {
			t.Fatalf("%+v %+v", m, again)
		}
	})
}
