package diag

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	downloadTest = ipDiag + "DownloadDiagnostics()"
	uploadTest   = ipDiag + "UploadDiagnostics()"
)

// site is a file server that misbehaves as its paths say.
func site(t *testing.T) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	end := make(chan struct{})
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		w.Header().Set("Content-Length", strconv.Itoa(n))
		io.CopyN(w, endless{}, int64(n))
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) { io.Copy(w, endless{}) })
	mux.HandleFunc("/short", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000")
		w.Write(make([]byte, 1000))
	})
	mux.HandleFunc("/huge", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "999999999999") })
	mux.HandleFunc("/reset", func(w http.ResponseWriter, _ *http.Request) {
		c, _, _ := w.(http.Hijacker).Hijack()
		c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nxxx"))
		time.Sleep(20 * time.Millisecond)
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	})
	mux.HandleFunc("/stall", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000")
		w.Write(make([]byte, 1000))
		w.(http.Flusher).Flush()
		<-end
	})
	mux.HandleFunc("/silent", func(http.ResponseWriter, *http.Request) { <-end })
	mux.HandleFunc("/garbage", func(w http.ResponseWriter, _ *http.Request) {
		c, _, _ := w.(http.Hijacker).Hijack()
		c.Write([]byte("what?\r\n\r\n"))
		c.Close()
	})
	mux.HandleFunc("/status", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		w.WriteHeader(n)
	})
	mux.HandleFunc("/to", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Query().Get("u"), http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/put", http.StatusFound) })
	mux.HandleFunc("/put", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if r.Method != http.MethodPut || err != nil || r.ContentLength >= 0 && n != r.ContentLength {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	mux.HandleFunc("/user", func(_ http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != "u" || p != "p" {
			panic(http.ErrAbortHandler)
		}
	})
	s := httptest.NewServer(mux)
	s.Config.ErrorLog = nil
	t.Cleanup(func() {
		close(end)
		s.Close()
	})
	return s
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

func when(t *testing.T, out map[string]string, name string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02T15:04:05.000000Z", out[name])
	if err != nil || time.Since(at) > time.Minute {
		t.Errorf("%s = %q", name, out[name])
	}
	return at
}

func amount(out map[string]string, name string) int {
	n, _ := strconv.Atoi(out[name])
	return n
}

func inOrder(t *testing.T, out map[string]string, names ...string) {
	t.Helper()
	for i := 1; i < len(names); i++ {
		if when(t, out, names[i]).Before(when(t, out, names[i-1])) {
			t.Errorf("%s %s is before %s %s", names[i], out[names[i]], names[i-1], out[names[i-1]])
		}
	}
}

func TestDownload(t *testing.T) {
	s := site(t)
	p := provider(t, Options{})
	out := runs(t, p, downloadTest, "DownloadURL", s.URL+"/file?n=1000000", "DSCP", "10", "EthernetPriority", "3", "ProtocolVersion", "IPv4")
	if out["Status"] != complete || out["IPAddressUsed"] != "127.0.0.1" {
		t.Fatalf("%v", out)
	}
	inOrder(t, out, "TCPOpenRequestTime", "TCPOpenResponseTime", "ROMTime", "BOMTime", "EOMTime")
	if n := amount(out, "TestBytesReceived"); n < 1000000 || n > 1001000 { // with headers
		t.Errorf("%d bytes received", n)
	}
	if n := amount(out, "TotalBytesReceived"); n < 1000000 { // of the interface
		t.Errorf("%d bytes received by the interface", n)
	}
	if amount(out, "TotalBytesSent") < 50 || amount(out, "PeriodOfFullLoading") < 1 || out["PerConnectionResult.1.BOMTime"] != "" {
		t.Errorf("%v", out)
	}
	// Several connections; the interface chooses the source.
	out = runs(t, p, downloadTest, "DownloadURL", s.URL+"/file?n=3000000", "NumberOfConnections", "3", "EnablePerConnectionResults", "true",
		"Interface", "Device.IP.Interface.1")
	sum := 0
	for i := range 3 {
		row := "PerConnectionResult." + strconv.Itoa(i+1) + "."
		inOrder(t, out, row+"TCPOpenRequestTime", row+"TCPOpenResponseTime", row+"ROMTime", row+"BOMTime", row+"EOMTime")
		sum += amount(out, row+"TestBytesReceived")
	}
	if out["Status"] != complete || sum != amount(out, "TestBytesReceived") || sum < 9000000 || out["PerConnectionResult.4.ROMTime"] != "" ||
		amount(out, "TestBytesReceivedUnderFullLoading") > sum {
		t.Errorf("%v", out)
	}
}

func TestDownloadByTime(t *testing.T) {
	t.Parallel()
	p := provider(t, Options{})
	start := time.Now()
	out := runs(t, p, downloadTest, "DownloadURL", site(t).URL+"/endless", "TimeBasedTestDuration", "3", "TimeBasedTestMeasurementInterval", "1",
		"TimeBasedTestMeasurementOffset", "1", "NumberOfConnections", "2", "EnablePerConnectionResults", "true")
	checkWhole(t, downloadTest, out)
	if d := time.Since(start); d < 3*time.Second || d > 6*time.Second {
		t.Errorf("took %v", d)
	}
	if out["Status"] != complete || out["IncrementalResult.2.StartTime"] != out["IncrementalResult.1.EndTime"] || out["IncrementalResult.3.EndTime"] != "" ||
		amount(out, "IncrementalResult.2.TestBytesReceived") == 0 || amount(out, "TestBytesReceivedUnderFullLoading") == 0 ||
		amount(out, "PeriodOfFullLoading") < 2_500_000 {
		t.Errorf("%v", out)
	}
	offset := when(t, out, "IncrementalResult.1.StartTime").Sub(when(t, out, "BOMTime"))
	length := when(t, out, "IncrementalResult.1.EndTime").Sub(when(t, out, "IncrementalResult.1.StartTime"))
	if offset < 900*time.Millisecond || offset > 1500*time.Millisecond || length < 700*time.Millisecond || length > 1400*time.Millisecond {
		t.Errorf("offset %v, length %v", offset, length)
	}
}

func TestUploadByTime(t *testing.T) {
	t.Parallel()
	p := provider(t, Options{})
	out := runs(t, p, uploadTest, "UploadURL", site(t).URL+"/put", "TimeBasedTestDuration", "2", "TimeBasedTestMeasurementInterval", "1",
		"NumberOfConnections", "2", "EnablePerConnectionResults", "true")
	checkWhole(t, uploadTest, out)
	if d := when(t, out, "EOMTime").Sub(when(t, out, "BOMTime")); out["Status"] != complete || d < 1900*time.Millisecond || d > 4*time.Second ||
		amount(out, "IncrementalResult.1.TestBytesSent") == 0 {
		t.Errorf("%v: %v", d, out)
	}
}

func TestUpload(t *testing.T) {
	s := site(t)
	p := provider(t, Options{})
	for _, path := range []string{"/put", "/to?u=/put"} {
		out := runs(t, p, uploadTest, "UploadURL", s.URL+path, "TestFileLength", "1000000")
		if out["Status"] != complete {
			t.Fatalf("%s: %v", path, out)
		}
		inOrder(t, out, "TCPOpenRequestTime", "TCPOpenResponseTime", "ROMTime", "BOMTime", "EOMTime")
		if n := amount(out, "TestBytesSent"); n < 1000000 || path == "/put" && n > 1001000 {
			t.Errorf("%s: %d bytes sent", path, n)
		}
		if amount(out, "TotalBytesSent") < 1000000 || amount(out, "TotalBytesReceived") == 0 {
			t.Errorf("%v", out)
		}
	}
}

func TestTransferErrors(t *testing.T) {
	s := site(t)
	p := provider(t, Options{MaxBytes: 5_000_000})
	p.idle = 200 * time.Millisecond
	u, _ := url.Parse(s.URL)
	withUser := *u
	withUser.User, withUser.Path = url.UserPassword("u", "p"), "/user"
	gone := httptest.NewServer(nil)
	gone.Close()
	odd := httptest.NewTLSServer(http.NotFoundHandler())
	odd.Config.ErrorLog = nil
	defer odd.Close()
	for path, want := range map[string]string{
		s.URL + "/short": errSize, s.URL + "/reset": errTransfer, s.URL + "/stall": errTimeout, s.URL + "/silent": errNoResponse,
		s.URL + "/garbage": errTransfer, s.URL + "/status?n=404": errTransfer, s.URL + "/status?n=401": errLogin, s.URL + "/endless": errOther,
		s.URL + "/huge": errOther, "http://nowhere.test/": errResolve, gone.URL: errConnect, odd.URL: errConnect,
		s.URL + "/to?u=/to": errTransfer, s.URL + "/to?u=gopher://x/": errTransfer, s.URL + "/to?u=/file%3Fn=10": complete, withUser.String(): complete,
	} {
		if out := runs(t, p, downloadTest, "DownloadURL", path); out["Status"] != want {
			t.Errorf("download %s: %s, want %s", path, out["Status"], want)
		}
	}
	for path, want := range map[string]string{
		s.URL + "/status?n=403": errNoTransfer, s.URL + "/status?n=401": errLogin, s.URL + "/moved": errNoTransfer, gone.URL: errConnect,
		"http://nowhere.test/": errResolve, s.URL + "/silent": errNoTransfer, s.URL + "/garbage": errNoTransfer,
	} {
		out := runs(t, p, uploadTest, "UploadURL", path, "TestFileLength", "1000")
		if got := out["Status"]; got != want && !(want == errNoTransfer && (got == errTimeout || got == errNoResponse)) {
			t.Errorf("upload %s: %s, want %s", path, got, want)
		}
	}
	// One bad connection ends the test.
	if out := runs(t, p, downloadTest, "DownloadURL", s.URL+"/stall", "NumberOfConnections", "3"); out["Status"] != errTimeout {
		t.Errorf("%v", out)
	}
}

func TestTransferLimits(t *testing.T) {
	s := site(t)
	p := provider(t, Options{MaxTransferTime: 150 * time.Millisecond, MaxBytes: 1 << 50})
	if out := runs(t, p, downloadTest, "DownloadURL", s.URL+"/endless"); out["Status"] != errTimeout || amount(out, "TestBytesReceived") == 0 {
		t.Errorf("%v", out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.Run(ctx, invocation(downloadTest, "DownloadURL", s.URL+"/endless")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestDownloadTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 100000)) }))
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	p := provider(t, Options{TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}})
	out := runs(t, p, downloadTest, "DownloadURL", s.URL)
	if n := amount(out, "TestBytesReceived"); out["Status"] != complete || n < 100000 || n > 103000 {
		t.Errorf("%v", out)
	}
	plain := site(t)
	s.Config.Handler = http.RedirectHandler(plain.URL+"/file?n=10", http.StatusFound)
	if out := runs(t, p, downloadTest, "DownloadURL", s.URL); out["Status"] != errTransfer { // never down to plain HTTP
		t.Errorf("%v", out)
	}
}

// The URL, which may hold a password, is in no error and no status.
func TestNoSecretInErrors(t *testing.T) {
	p := provider(t, Options{LogFiles: []LogFile{{Name: "log", Write: func(context.Context, io.Writer) error { return nil }}}})
	for _, u := range []string{"http://u:verysecret@nowhere.test/verysecret", "http://u:verysecret@nowhere.test:x/", "ftp://u:verysecret@h/"} {
		inv := invocation(logTab+"1.Upload()", "URL", u, "Username", "verysecret", "Password", "verysecret")
		inv.Object.Stored = stored(logTab+"1.Name", "log")
		if _, err := p.Run(context.Background(), inv); err == nil || strings.Contains(err.Error(), "verysecret") {
			t.Errorf("%v", err)
		}
		if _, err := p.Run(context.Background(), invocation(downloadTest, "DownloadURL", u)); err != nil && strings.Contains(fmt.Sprint(err), "verysecret") {
			t.Errorf("%v", err)
		}
	}
}

func TestCountersOfInterface(t *testing.T) {
	if rx, tx, err := sysfsCounters("lo"); err != nil {
		t.Logf("no counters here: %v", err)
	} else if rx == 0 && tx == 0 {
		t.Log("loopback was never used")
	}
	for _, name := range []string{"", "..", "../lo", "nothing0"} {
		if _, _, err := sysfsCounters(name); err == nil {
			t.Errorf("%q has counters", name)
		}
	}
	// Without counters those of the test stand for them.
	p := provider(t, Options{})
	p.counters = func(string) (uint64, uint64, error) { return 0, 0, errors.New("none") }
	out := runs(t, p, downloadTest, "DownloadURL", site(t).URL+"/file?n=1000")
	if out["TotalBytesReceived"] != out["TestBytesReceived"] || amount(out, "TotalBytesSent") == 0 {
		t.Errorf("%v", out)
	}
}
