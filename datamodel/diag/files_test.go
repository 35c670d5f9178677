package diag

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"twinspan/datamodel"
)

// depot keeps what is put and gives it back; it may ask for credentials.
type depot struct {
	auth string // "", "basic", "digest"

	mu      sync.Mutex
	content []byte
	puts    int
}

func (d *depot) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch d.auth {
	case "basic":
		if u, p, _ := r.BasicAuth(); u != "user" || p != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="depot"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
	case "digest":
		if !digestOK(r) {
			w.Header().Set("WWW-Authenticate", `Digest realm="depot", nonce="abc", qop="auth"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.Method == http.MethodPut {
		d.content, _ = io.ReadAll(r.Body)
		d.puts++
		w.WriteHeader(http.StatusCreated)
		return
	}
	w.Write(d.content)
}

// digestOK checks RFC 2617 with qop=auth for user:secret.
func digestOK(r *http.Request) bool {
	f := map[string]string{}
	for _, kv := range strings.Split(strings.TrimPrefix(r.Header.Get("Authorization"), "Digest "), ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(kv), "=")
		f[k] = strings.Trim(v, `"`)
	}
	h := func(s string) string { b := md5.Sum([]byte(s)); return hex.EncodeToString(b[:]) }
	want := h(h("user:depot:secret") + ":abc:" + f["nc"] + ":" + f["cnonce"] + ":auth:" + h(r.Method+":"+f["uri"]))
	return f["username"] == "user" && f["uri"] == r.URL.RequestURI() && f["response"] == want
}

const (
	upload1  = logTab + "1.Upload()"
	backup1  = confTab + "1.Backup()"
	restore1 = confTab + "1.Restore()"
)

// runFile runs a command of row 1, whose name is given.
func runFile(p *Provider, row, command string, kv ...string) error {
	inv := invocation(command, kv...)
	inv.Object.Stored = stored(logTab+"1.Name", row, confTab+"1.Name", row)
	_, err := p.Run(context.Background(), inv)
	return err
}

func TestUploadLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "messages")
	want := strings.Repeat("a line\n", 10000)
	if err := os.WriteFile(file, []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
	small := LogFileFrom(file)
	small.Name, small.MaximumSize = "small", 100
	gone := LogFileFrom(file + ".gone")
	p := provider(t, Options{LogFiles: []LogFile{LogFileFrom(file), small, gone}, Spool: t.TempDir()})
	for _, auth := range []string{"", "basic", "digest"} {
		d := &depot{auth: auth}
		s := httptest.NewServer(d)
		if err := runFile(p, file, upload1, "URL", s.URL+"/log?x=1", "Username", "user", "Password", "secret"); err != nil {
			t.Errorf("%s: %v", auth, err)
		}
		if string(d.content) != want || d.puts != 1 {
			t.Errorf("%s: %d bytes in %d uploads", auth, len(d.content), d.puts)
		}
		if auth != "" {
			err := runFile(p, file, upload1, "URL", s.URL, "Username", "user", "Password", "wrong")
			if datamodel.ReasonOf(err) != datamodel.CommandFailed || strings.Contains(err.Error(), "wrong") {
				t.Errorf("%s: %v", auth, err)
			}
		}
		for _, row := range []string{"small", file + ".gone"} {
			if err := runFile(p, row, upload1, "URL", s.URL); err == nil {
				t.Errorf("%s is no error", row)
			}
		}
		s.Close()
		if err := runFile(p, file, upload1, "URL", s.URL); datamodel.ReasonOf(err) != datamodel.CommandFailed {
			t.Errorf("%v", err)
		}
	}
	if err := runFile(p, "other", upload1, "URL", "http://127.0.0.1/"); datamodel.ReasonOf(err) != datamodel.NotImplemented {
		t.Errorf("%v", err)
	}
	if left, err := os.ReadDir(p.o.Spool); err != nil || len(left) != 0 {
		t.Errorf("%v left in the spool, %v", left, err)
	}
}

func TestBackupAndRestore(t *testing.T) {
	current, target := []byte("hostname box\n"), ""
	var broken error
	p := provider(t, Options{ConfigFiles: []ConfigFile{{Name: "config",
		Export: func(_ context.Context, w io.Writer) error { _, err := w.Write(current); return err },
		Import: func(_ context.Context, name string, r io.Reader) error {
			b, err := io.ReadAll(r)
			if err = errors.Join(err, broken); err == nil {
				current, target = b, name
			}
			return err
		}}, {Name: "frozen"}}})
	d := &depot{auth: "digest"}
	s := httptest.NewServer(d)
	defer s.Close()
	kv := []string{"URL", s.URL, "Username", "user", "Password", "secret"}
	if err := runFile(p, "config", backup1, kv...); err != nil || string(d.content) != "hostname box\n" {
		t.Fatalf("%v %q", err, d.content)
	}
	current = nil
	sum := fmt.Sprintf("%X", sha256.Sum256(d.content))
	with := func(more ...string) []string { return append(append([]string(nil), kv...), more...) }
	if err := runFile(p, "config", restore1, with("FileSize", "13", "TargetFileName", "startup", "CheckSumAlgorithm", "SHA-256", "CheckSum", sum)...); err != nil ||
		string(current) != "hostname box\n" || target != "startup" {
		t.Fatalf("%v %q %q", err, current, target)
	}
	current = nil
	for name, c := range map[string]struct {
		kv   []string
		want datamodel.Reason
	}{
		"size":           {with("FileSize", "14"), datamodel.CommandFailed},
		"sum":            {with("CheckSumAlgorithm", "SHA-256", "CheckSum", strings.Repeat("00", 32)), datamodel.CommandFailed},
		"algorithm":      {with("CheckSumAlgorithm", "MD5", "CheckSum", sum), datamodel.InvalidArgs},
		"no algorithm":   {with("CheckSum", sum), datamodel.InvalidArgs},
		"length of sum":  {with("CheckSumAlgorithm", "SHA-512", "CheckSum", sum), datamodel.InvalidArgs},
		"too large":      {with("FileSize", "16777217"), datamodel.InvalidArgs},
		"FTP":            {[]string{"URL", "ftp://127.0.0.1/x"}, datamodel.NotImplemented},
		"no credentials": {[]string{"URL", s.URL}, datamodel.CommandFailed},
	} {
		if err := runFile(p, "config", restore1, c.kv...); datamodel.ReasonOf(err) != c.want || current != nil {
			t.Errorf("%s: %v %q", name, err, current)
		}
	}
	d.content = bytes.Repeat([]byte("x"), maxConfigBytes+1)
	if err := runFile(p, "config", restore1, kv...); datamodel.ReasonOf(err) != datamodel.CommandFailed || current != nil {
		t.Errorf("%v", err)
	}
	d.content, broken = []byte("y"), errors.New("line 1: what?")
	if err := runFile(p, "config", restore1, kv...); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("%v", err)
	}
	for _, command := range []string{backup1, restore1} {
		if err := runFile(p, "frozen", command, kv...); datamodel.ReasonOf(err) != datamodel.NotImplemented {
			t.Errorf("%v", err)
		}
	}
	cut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		w.Write([]byte("half"))
	}))
	defer cut.Close()
	broken = nil
	if err := runFile(p, "config", restore1, "URL", cut.URL); err == nil || current != nil {
		t.Errorf("half a file was put in force: %v", err)
	}
}

func TestSelfTest(t *testing.T) {
	p := provider(t, Options{})
	const command = "Device.SelfTestDiagnostics()"
	out := runs(t, p, command)
	checkWhole(t, command, out)
	if out["Status"] != complete || out["Results"] != "PASS; storage: ok; loopback: ok; clock: ok" {
		t.Errorf("%v", out)
	}
	p = provider(t, Options{Checks: []Check{{"flash", func(context.Context) error { return errors.New("worn\nout") }}}, SelfTest: []string{"/bin/sh", "-c", "echo fan stuck; exit 3"}})
	if out := runs(t, p, command); out["Status"] != complete || out["Results"] != "FAIL; storage: ok; loopback: ok; clock: ok; flash: worn out; device: fan stuck" {
		t.Errorf("%v", out)
	}
	p = provider(t, Options{SelfTest: []string{"/bin/sh", "-c", "yes | head -c 100000"}, Spool: "/nonexistent"})
	if out := runs(t, p, command); !strings.HasPrefix(out["Results"], "FAIL; storage: ") {
		t.Errorf("%v", out)
	}
	p = provider(t, Options{SelfTest: []string{"/nonexistent"}})
	if out := runs(t, p, command); out["Status"] != errInternal {
		t.Errorf("%v", out)
	}
}

func TestReset(t *testing.T) {
	dir := t.TempDir()
	p := provider(t, Options{ResetInterface: []string{"/bin/sh", "-c", `echo "$0 $1" > "$0"`, dir + "/reset"}})
	inv := invocation(ipTab + "1.Reset()")
	if _, err := p.Run(context.Background(), inv); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(dir + "/reset"); err != nil || string(b) != dir+"/reset lo\n" {
		t.Errorf("%q %v", b, err)
	}
	for name, stored := range map[string]func(string) string{"no name": stored(), "an option": stored(ipTab+"1.Name", "-rf"), "a path": stored(ipTab+"1.Name", "a/b")} {
		inv.Object.Stored = stored
		if _, err := p.Run(context.Background(), inv); datamodel.ReasonOf(err) != datamodel.CommandFailed {
			t.Errorf("%s: %v", name, err)
		}
	}
	fails(t, p, datamodel.NotImplemented, ethTab+"1.Stats.Reset()")
	p = provider(t, Options{ResetStats: []string{"/bin/false"}})
	stats := invocation(ethTab + "1.Stats.Reset()")
	stats.Object.Stored = stored(ethTab+"1.Name", "eth0")
	if _, err := p.Run(context.Background(), stats); datamodel.ReasonOf(err) != datamodel.CommandFailed {
		t.Errorf("%v", err)
	}
	// A hook that hangs ends with the context.
	p = provider(t, Options{ResetStats: []string{"/bin/sh", "-c", `echo > "$0"; sleep 30 & wait`, dir + "/started"}})
	ctx, cancel := context.WithCancel(context.Background())
	cancelled := make(chan error)
	go func() { _, err := p.Run(ctx, stats); cancelled <- err }()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err := os.Stat(dir + "/started"); err == nil {
			break
		}
	}
	start := time.Now()
	cancel()
	if err := <-cancelled; !errors.Is(err, context.Canceled) || time.Since(start) > 1500*time.Millisecond { // its child is gone too
		t.Errorf("%v after %v", err, time.Since(start))
	}
}
