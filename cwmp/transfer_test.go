package cwmp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"twinspan/cwmp/soap"
	"twinspan/datamodel"
	"twinspan/datamodel/webfile"
	"twinspan/store"
)

// fileServer serves and takes files and misbehaves by path.
type fileServer struct {
	*httptest.Server
	mu   sync.Mutex
	put  map[string][]byte
	gets map[string]int
	file []byte
}

const fileUser, filePassword = "files", "s3cret"

func newFileServer(t testing.TB, file []byte) *fileServer {
	f := &fileServer{put: map[string][]byte{}, gets: map[string]int{}, file: file}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	return f
}

func (f *fileServer) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gets[r.URL.Path]++
	user, password, _ := r.BasicAuth()
	switch {
	case r.URL.Path == "/missing":
		http.NotFound(w, r)
		return
	case r.URL.Path == "/forbidden":
		w.WriteHeader(http.StatusForbidden)
		return
	case r.URL.Path == "/broken":
		w.WriteHeader(http.StatusInternalServerError)
		return
	case r.URL.Path == "/basic" && (user != fileUser || password != filePassword):
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	case strings.HasPrefix(r.URL.Path, "/digest") && !strings.Contains(r.Header.Get("Authorization"), `username="files"`):
		w.Header().Set("WWW-Authenticate", `Digest realm="x", nonce="abc", qop="auth", algorithm=MD5`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	case r.URL.Path == "/truncated":
		w.Header().Set("Content-Length", fmt.Sprint(len(f.file)+1000))
		w.Write(f.file)
		return
	case r.URL.Path == "/endless":
		for range 100 {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
		return
	case r.URL.Path == "/moved":
		http.Redirect(w, r, "/good", http.StatusFound)
		return
	case r.URL.Path == "/loop":
		http.Redirect(w, r, "/loop", http.StatusFound)
		return
	}
	if r.Method == http.MethodPut {
		body, _ := io.ReadAll(r.Body)
		f.put[r.URL.Path] = body
		w.WriteHeader(http.StatusCreated)
		return
	}
	w.Write(f.file)
}

func (f *fileServer) stored(path string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.put[path]
}

// completes gathers the TransferCompletes of all sessions by CommandKey.
func (r *rig) completes() map[string]*soap.TransferComplete {
	out := map[string]*soap.TransferComplete{}
	for i := range r.acs.count() {
		for _, env := range r.acs.session(i) {
			if env != nil {
				if tc, ok := env.Body.(*soap.TransferComplete); ok {
					out[tc.CommandKey] = tc
				}
			}
		}
	}
	return out
}

func (r *rig) completed(key string) *soap.TransferComplete {
	r.t.Helper()
	r.wait("TransferComplete "+key, func() bool { return r.completes()[key] != nil })
	return r.completes()[key]
}

// deadAddress is where nobody listens.
func deadAddress(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String() + "/file"
}

func configFileWith(t testing.TB, kv ...string) []byte {
	file := configFile{Format: configFormat, Values: map[string]string{}}
	for i := 0; i < len(kv); i += 2 {
		file.Values[kv[i]] = kv[i+1]
	}
	b, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// DL-02, DL-03, DL-08, DL-10, DL-20, DL-21: each way a download can end, with its exact code.
func TestDL03DownloadResults(t *testing.T) {
	t.Parallel()
	good := configFileWith(t, "Device.Time.LocalTimeZone", "from-file")
	fs := newFileServer(t, good)
	tlsServer := httptest.NewUnstartedServer(fs.Config.Handler)
	tlsServer.Config.ErrorLog = log.New(io.Discard, "", 0)
	tlsServer.StartTLS()
	t.Cleanup(tlsServer.Close)
	tests := []struct {
		key, url, user string
		size           uint32
		want           soap.FaultCode
	}{
		{"good", fs.URL + "/good", "", uint32(len(good)), 0},
		{"moved", fs.URL + "/moved", "", 0, 0},
		{"basic", fs.URL + "/basic", fileUser, 0, 0},
		{"digest", fs.URL + "/digest", fileUser, 0, 0},
		{"nocred", fs.URL + "/basic", "", 0, 9012},
		{"badcred", fs.URL + "/digest", "other", 0, 9012},
		{"missing", fs.URL + "/missing", "", 0, 9016},
		{"forbidden", fs.URL + "/forbidden", "", 0, 9016},
		{"broken", fs.URL + "/broken", "", 0, 9010},
		{"refused", deadAddress(t), "", 0, 9015},
		{"name", "http://does-not-exist.invalid/x", "", 0, 9015},
		{"size", fs.URL + "/good", "", 7, 9010},
		{"truncated", fs.URL + "/truncated", "", 0, 9017},
		{"endless", fs.URL + "/endless", "", 0, 9010},
		{"loop", fs.URL + "/loop", "", 0, 9016},
		{"untrusted", tlsServer.URL + "/good", "", 0, 9015}, // DL-09
	}
	r := newRig(t, func(o *Options) { o.MaxFileSize = 1 << 20 }, nil)
	var rpcs []soap.Message
	for _, tt := range tests {
		rpcs = append(rpcs, &soap.Download{CommandKey: tt.key, FileType: fileConfig, URL: tt.url, Username: tt.user, Password: filePassword, FileSize: tt.size})
	}
	rpcs = append(rpcs, &soap.Download{CommandKey: "17", FileType: fileConfig, URL: fs.URL + "/good"}) // DL-15
	answers := r.run(rpcs...)
	for i := range tests {
		if a, ok := answers[i].(*soap.DownloadResponse); !ok || a.Status != 1 {
			t.Fatalf("%s: %#v", tests[i].key, answers[i])
		}
	}
	wantFault(t, answers[16], soap.ResourcesExceeded)
	r.wait("all transfers to be reported", func() bool { return len(r.completes()) == len(tests) })
	got := r.completes()
	for _, tt := range tests {
		tc := got[tt.key]
		if tc.FaultStruct.FaultCode != tt.want || (tt.want == 0) != (tc.FaultStruct.FaultString == "") {
			t.Errorf("%s: %+v, want %d", tt.key, tc.FaultStruct, tt.want)
		}
		if tc.StartTime.After(tc.CompleteTime) || tc.StartTime.IsZero() {
			t.Errorf("%s: started %v, complete %v", tt.key, tc.StartTime, tc.CompleteTime)
		}
	}
	if v := r.get("Device.Time.LocalTimeZone"); v != "from-file" {
		t.Errorf("restored value %q", v)
	}
	left, _ := os.ReadDir(filepath.Join(r.dir, "transfers"))
	if len(left) != 0 {
		t.Errorf("files left: %v", left)
	}
	r.wait("the records to go", func() bool {
		n := 0
		r.store.Records(transferBucket, func(string, []byte) bool { n++; return true })
		return n == 0
	})
}

// DL-01, DL-02: a configuration file that is none changes nothing.
func TestDL01CorruptConfig(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]string{
		"not JSON":       "\x7fELF",
		"other format":   `{"format":"other/1","values":{}}`,
		"trailing text":  `{"format":"twinspan-config/1","values":{}} more`,
		"unknown field":  `{"format":"twinspan-config/1","values":{},"x":1}`,
		"unknown path":   `{"format":"twinspan-config/1","values":{"Device.Time.LocalTimeZone":"bad","Device.Nonsense":"1"}}`,
		"bad value":      `{"format":"twinspan-config/1","values":{"Device.Time.LocalTimeZone":"bad","Device.IP.Interface.1.MaxMTUSize":"many"}}`,
		"the ACS itself": `{"format":"twinspan-config/1","values":{"Device.ManagementServer.URL":"http://evil.example/"}}`,
		"a secret":       `{"format":"twinspan-config/1","values":{"Device.Users.User.1.Password":"x"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs := newFileServer(t, []byte(file))
			r := newRig(t, nil, nil)
			r.rpc(&soap.Download{CommandKey: "K", FileType: fileConfig, URL: fs.URL + "/f"})
			if tc := r.completed("K"); tc.FaultStruct.FaultCode != 9018 {
				t.Errorf("%+v", tc.FaultStruct)
			}
			if v := r.get("Device.Time.LocalTimeZone"); v == "bad" {
				t.Error("part of the file was applied")
			}
		})
	}
}

// The arguments that are refused at once: DL-04, DL-05, UL-04.
func TestDL04Arguments(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	a := r.run(
		&soap.Download{FileType: fileConfig, URL: "gopher://x/"},
		&soap.Download{FileType: "9 Nonsense", URL: "http://x/"},
		&soap.Download{FileType: fileConfig, URL: "http://u:p@x/"},
		&soap.Download{FileType: fileConfig, URL: "/relative"},
		&soap.Download{FileType: "2 Web Content", URL: "http://x/"},
		&soap.Upload{FileType: "3 Vendor Configuration File", URL: "http://x/"},
		&soap.Upload{FileType: "4 Vendor Log File 0", URL: "http://x/"},
		&soap.Upload{FileType: fileFirmware, URL: "http://x/"})
	for i, code := range []soap.FaultCode{9013, 9003, 9003, 9003, 9003, 9003, 9003, 9003} {
		wantFault(t, a[i], code)
	}
}

// UL-01, UL-02, UL-03.
func TestUL01Upload(t *testing.T) {
	t.Parallel()
	fs := newFileServer(t, nil)
	r := newRig(t, nil, map[string]string{"Device.ManagementServer.Password": "geheim"})
	r.rpc(&soap.SetParameterValues{ParameterList: values("Device.Time.LocalTimeZone", "exported")})
	up := func(key, kind, path string) soap.Message {
		return &soap.Upload{CommandKey: key, FileType: kind, URL: fs.URL + path, Username: fileUser, Password: filePassword}
	}
	n := r.acs.count()
	r.run(up("config", uploadConfig, "/digest-config"), up("config1", uploadConfigInst+"1", "/c1"), up("log", uploadLog, "/log"),
		up("log1", uploadLogInst+"1", "/l1"), up("config7", uploadConfigInst+"7", "/c7"), up("forbidden", uploadLog, "/forbidden"),
		up("broken", uploadLog, "/broken"), &soap.Upload{CommandKey: "anon", FileType: uploadLog, URL: fs.URL + "/basic"})
	r.wait("all uploads to be reported", func() bool { return len(r.completes()) == 8 })
	for key, want := range map[string]soap.FaultCode{"config": 0, "config1": 0, "log": 0, "log1": 0, "config7": 9011, "forbidden": 9011, "broken": 9011, "anon": 9012} {
		if got := r.completes()[key].FaultStruct.FaultCode; got != want {
			t.Errorf("%s: %d, want %d", key, got, want)
		}
	}
	if b := fs.stored("/digest-config"); !bytes.Contains(b, []byte(`"Device.Time.LocalTimeZone": "exported"`)) || bytes.Contains(b, []byte("geheim")) ||
		bytes.Contains(b, []byte("ManagementServer")) {
		t.Errorf("configuration file:\n%s", b)
	}
	if b := fs.stored("/log"); !bytes.Contains(b, []byte("writer=cwmp")) || bytes.Contains(b, []byte("geheim")) || bytes.Contains(b, []byte(filePassword)) {
		t.Errorf("log file:\n%s", b)
	}
	var events []string
	for i := n; i < r.acs.count(); i++ {
		events = append(events, eventCodes(inform(r.acs.session(i)))...)
	}
	if !slices.Contains(events, "M Upload config") || !slices.Contains(events, "7 TRANSFER COMPLETE") {
		t.Errorf("events %v", events)
	}
}

// A file that was exported restores what it holds.
func TestConfigRoundTrip(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	r.rpc(&soap.AddObject{ObjectName: "Device.NAT.PortMapping."})
	r.rpc(&soap.SetParameterValues{ParameterList: values("Device.NAT.PortMapping.1.Description", "x<&>", zonePath, "A")})
	var file bytes.Buffer
	if err := r.cpe.exportConfig(&file, acsWriter); err != nil {
		t.Fatal(err)
	}
	r.run(&soap.SetParameterValues{ParameterList: values(zonePath, "B")}, &soap.DeleteObject{ObjectName: "Device.NAT.PortMapping.1."})
	if err := r.cpe.restoreConfig(r.ctx(), bytes.NewReader(file.Bytes()), "test"); err != nil {
		t.Fatal(err)
	}
	if v := r.get(zonePath); v != "A" {
		t.Errorf("value %q", v)
	}
	if v := r.get("Device.NAT.PortMapping.2.Description"); v != "x<&>" {
		t.Errorf("row %q", v)
	}
}

// A file that a Controller restores is arbitrated like its Set: what the ACS owns stays, and so does the rest.
func TestRestoreIsArbitrated(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	r.rpc(&soap.SetParameterValues{ParameterList: values(zonePath, "A")})
	by := controller
	by.Protocol = datamodel.CWMP
	text := `{"format":"` + configFormat + `","values":{"` + ntpPath + `":"true","` + zonePath + `":"B"}}`
	if err := r.cpe.RestoreConfig(r.ctx(), by, strings.NewReader(text), "test"); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("restored over the ACS's value: %v", err)
	}
	if zone, ntp := r.get(zonePath), r.get(ntpPath); zone != "A" || ntp != "false" && ntp != "0" {
		t.Errorf("values %q %q", zone, ntp)
	}
}

// FuzzRestoreConfig: whatever comes as a configuration file, the answer is an error or a change, never a panic.
func FuzzRestoreConfig(f *testing.F) {
	f.Add([]byte(`{"format":"twinspan-config/1","values":{"Device.Time.LocalTimeZone":"x","Device.NAT.PortMapping.9.Enable":"true"}}`))
	f.Add([]byte(`{"format":"twinspan-config/1","values":{"Device.IP.Interface.1..":"x",".":"","Device.NAT.PortMapping.99999999999.Enable":"1"}}`))
	r := newRig(f, func(o *Options) { o.Listen = "off" }, map[string]string{"Device.ManagementServer.EnableCWMP": "false"})
	f.Fuzz(func(t *testing.T, data []byte) {
		err := r.cpe.restoreConfig(context.Background(), bytes.NewReader(data), "fuzz")
		var te *TransferError
		if err != nil && !errors.As(err, &te) {
			t.Errorf("not a TransferError: %v", err)
		}
	})
}

// DL-11: a delayed download survives a restart, and its credentials are gone from the store when it is done.
func TestDL11RestartAndSecrets(t *testing.T) {
	t.Parallel()
	fs := newFileServer(t, configFileWith(t, zonePath, "late"))
	r := newRig(t, nil, nil)
	r.rpc(&soap.Download{CommandKey: "K", FileType: fileConfig, URL: fs.URL + "/digest?token=t0ken", Username: fileUser, Password: filePassword, DelaySeconds: 1})
	held := func() (found bool) {
		r.store.Records(transferBucket, func(_ string, b []byte) bool { found = bytes.Contains(b, []byte(filePassword)); return true })
		return
	}
	if !held() {
		t.Fatal("the queued transfer is not in the store")
	}
	r.acs.script(func(n int, env *soap.Envelope) (int, *soap.Envelope, bool) {
		if env == nil {
			return 0, nil, false
		}
		_, tc := env.Body.(*soap.TransferComplete)
		return 0, nil, tc // SES-12: not answered, so the record stays
	})
	r.restart()
	tc := r.completed("K")
	if tc.FaultStruct.FaultCode != 0 {
		t.Fatalf("%+v", tc.FaultStruct)
	}
	r.store.Records(transferBucket, func(_ string, b []byte) bool {
		if bytes.Contains(b, []byte(filePassword)) || bytes.Contains(b, []byte("t0ken")) {
			t.Errorf("the record still holds the credentials: %s", b)
		}
		return true
	})
	// DL-18, SES-12: it comes again with the same data until it is answered.
	n := r.acs.count()
	r.acs.script(nil)
	r.wait("the repetition", func() bool {
		for i := n; i < r.acs.count(); i++ {
			if slices.Contains(r.acs.methods(i), "TransferComplete") {
				return true
			}
		}
		return false
	})
	again := r.completes()["K"]
	if *again != *tc {
		t.Errorf("first %+v, then %+v", tc, again)
	}
}

// EVT-14, EVT-15: what the ACS answers to TransferComplete.
func TestEVT15TransferCompleteFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		code soap.FaultCode
		same int  // TransferCompletes in the first session
		kept bool // it comes again in a later session
	}{{soap.ACSRetryRequest, 1 + maxRetryRequests, true}, {soap.ACSRequestDenied, 1, false}, {soap.ACSMethodNotSupported, 1, false}, {soap.ACSInternalError, 1, true}} {
		t.Run(fmt.Sprint(int(tt.code)), func(t *testing.T) {
			t.Parallel()
			fs := newFileServer(t, configFileWith(t))
			r := newRig(t, nil, nil)
			r.ended(1)
			r.acs.script(func(n int, env *soap.Envelope) (int, *soap.Envelope, bool) {
				if env != nil && env.Body.Method() == "TransferComplete" {
					return 0, &soap.Envelope{Header: soap.Header{ID: env.Header.ID}, Body: soap.NewFault(tt.code, "")}, true
				}
				return 0, nil, false
			})
			r.rpc(&soap.Download{CommandKey: "K", FileType: fileConfig, URL: fs.URL + "/f"})
			r.ended(3)
			count := 0
			for _, m := range r.acs.methods(2) {
				if m == "TransferComplete" {
					count++
				}
			}
			if count != tt.same {
				t.Errorf("%d TransferCompletes in the session", count)
			}
			left := 0
			r.store.Records(transferBucket, func(string, []byte) bool { left++; return true })
			if (left == 1) != tt.kept {
				t.Errorf("%d records left", left)
			}
		})
	}
}

type testInstaller struct {
	restart bool
	err     error
	image   []byte
	runs    error
}

func (i *testInstaller) Install(_ context.Context, image Image) (bool, error) {
	i.image, _ = os.ReadFile(image.Path)
	return i.restart, i.err
}
func (i *testInstaller) Installed(context.Context, string) error { return i.runs }

// DL-01, DL-12: firmware.
func TestDL12Firmware(t *testing.T) {
	t.Parallel()
	fs := newFileServer(t, []byte("image"))
	download := &soap.Download{CommandKey: "FW", FileType: fileFirmware, URL: fs.URL + "/fw", TargetFileName: "x"}
	t.Run("without installer", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, nil, nil)
		r.rpc(download)
		tc := r.completed("FW")
		if tc.FaultStruct.FaultCode != 9010 || !strings.Contains(tc.FaultStruct.FaultString, "not supported") {
			t.Errorf("%+v", tc.FaultStruct)
		}
		if b, _ := os.ReadFile(filepath.Join(r.dir, "firmware.img")); string(b) != "image" {
			t.Errorf("stored image %q", b)
		}
	})
	t.Run("corrupt", func(t *testing.T) {
		t.Parallel()
		in := &testInstaller{err: &TransferError{Reason: TransferCorrupt, Text: "bad magic"}}
		r := newRig(t, func(o *Options) { o.Installer = in }, nil)
		r.rpc(download)
		if tc := r.completed("FW"); tc.FaultStruct.FaultCode != 9018 {
			t.Errorf("%+v", tc.FaultStruct)
		}
	})
	t.Run("restart into the new image", func(t *testing.T) {
		t.Parallel()
		in := &testInstaller{restart: true}
		r := newRig(t, func(o *Options) { o.Installer = in }, nil)
		r.rpc(download)
		err := <-r.result
		var restart *RestartError
		if !errors.As(err, &restart) || restart.Cause != (RestartCause{Kind: RestartFirmware, CommandKey: "FW"}) {
			t.Fatalf("Run returned %v", err)
		}
		if string(in.image) != "image" || len(r.completes()) != 0 {
			t.Errorf("image %q, %d reports before the restart", in.image, len(r.completes()))
		}
		n := r.acs.count()
		r.software = "sw2"
		r.restart()
		tc := r.completed("FW")
		if tc.FaultStruct.FaultCode != 0 {
			t.Errorf("%+v", tc.FaultStruct)
		}
		m := inform(r.acs.session(n))
		if got := eventCodes(m); !slices.Equal(got, []string{"1 BOOT", "4 VALUE CHANGE", "7 TRANSFER COMPLETE", "M Download FW"}) {
			t.Errorf("events %v", got)
		}
		if v, _ := informed(m, "Device.DeviceInfo.SoftwareVersion"); v != "sw2" {
			t.Errorf("version %q", v)
		}
	})
	// DL-12: what was found good and given up before the ACS heard of it is no success.
	t.Run("given up before the ACS was reached", func(t *testing.T) {
		t.Parallel()
		in := &testInstaller{restart: true}
		r := newRig(t, func(o *Options) { o.Installer = in }, nil)
		r.rpc(download)
		<-r.result
		r.acs.mu.Lock()
		refuse := true
		r.acs.answer = func(int, *soap.Envelope) (int, *soap.Envelope, bool) { return 503, nil, refuse }
		r.acs.mu.Unlock()
		r.restart()
		r.wait("the report of the new image", func() bool {
			done := false
			_ = r.cpe.call(r.ctx(), func() error { done = len(r.cpe.transfers) == 1 && r.cpe.transfers[0].State == transferDone; return nil })
			return done
		})
		in.runs = errors.New("fell back")
		r.acs.mu.Lock()
		refuse = false
		r.acs.mu.Unlock()
		r.restart()
		if tc := r.completed("FW"); tc.FaultStruct.FaultCode != 9010 {
			t.Errorf("%+v", tc.FaultStruct)
		}
		for _, tc := range r.completes() {
			if tc.FaultStruct.FaultCode == 0 {
				t.Error("a success was told")
			}
		}
	})
	t.Run("the new image did not start", func(t *testing.T) {
		t.Parallel()
		in := &testInstaller{restart: true, runs: errors.New("old one runs")}
		r := newRig(t, func(o *Options) { o.Installer = in }, nil)
		r.rpc(download)
		<-r.result
		r.restart()
		if tc := r.completed("FW"); tc.FaultStruct.FaultCode != 9010 {
			t.Errorf("%+v", tc.FaultStruct)
		}
	})
}

func TestExecInstaller(t *testing.T) {
	t.Parallel()
	image := filepath.Join(t.TempDir(), "img")
	if err := os.WriteFile(image, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(script string) error {
		_, err := (&ExecInstaller{Command: []string{"/bin/sh", "-c", script, "sh"}, Restart: true}).Install(t.Context(), Image{Path: image})
		return err
	}
	if err := run(`test -f "$1"`); err != nil {
		t.Error(err)
	}
	var te *TransferError
	if err := run("exit 10"); !errors.As(err, &te) || te.Reason != TransferCorrupt {
		t.Errorf("exit 10: %v", err)
	}
	if err := run("exit 3"); !errors.As(err, &te) || te.Reason != TransferFailed {
		t.Errorf("exit 3: %v", err)
	}
	if err := (&ExecInstaller{Check: []string{"/bin/false"}}).Installed(t.Context(), ""); err == nil {
		t.Error("failing check passed")
	}
}

// A crash at the instant the ACS has an answer in hand: what was promised is in the database already.
func TestCrashAfterAnswer(t *testing.T) {
	t.Parallel()
	fs := newFileServer(t, configFileWith(t, zonePath, "after the crash"))
	f := fakeRebooter{make(chan RestartCause, 1)}
	r := newRig(t, func(o *Options) { o.Rebooter = f }, nil)
	r.ended(1)
	copied := filepath.Join(t.TempDir(), "crashed.db")
	r.acs.script(func(n int, env *soap.Envelope) (int, *soap.Envelope, bool) {
		if env != nil && env.Body.Method() == "RebootResponse" {
			data, err := os.ReadFile(r.file)
			if err == nil {
				err = os.WriteFile(copied, data, 0o600)
			}
			if err != nil {
				t.Error(err)
			}
		}
		return 0, nil, false
	})
	r.run(&soap.SetParameterValues{ParameterKey: "PK", ParameterList: values("Device.DeviceInfo.ProvisioningCode", "set")},
		&soap.Download{CommandKey: "D", FileType: fileConfig, URL: fs.URL + "/f"}, &soap.ScheduleInform{CommandKey: "S", DelaySeconds: 1}, &soap.Reboot{CommandKey: "R"})
	r.stop()
	n := r.acs.count()
	r.file = copied
	r.start()
	if tc := r.completed("D"); tc.FaultStruct.FaultCode != 0 {
		t.Errorf("%+v", tc.FaultStruct)
	}
	r.wait("the scheduled Inform", func() bool {
		for i := n; i < r.acs.count(); i++ {
			if slices.Contains(eventCodes(inform(r.acs.session(i))), "M ScheduleInform S") {
				return true
			}
		}
		return false
	})
	first := inform(r.acs.session(n))
	if got := eventCodes(first); !slices.Contains(got, "M Reboot R") || slices.Contains(got, "0 BOOTSTRAP") {
		t.Errorf("events %v", got)
	}
	if v, _ := informed(first, "Device.ManagementServer.ParameterKey"); v != "PK" {
		t.Errorf("ParameterKey %q", v)
	}
	if v := r.get("Device.DeviceInfo.ProvisioningCode"); v != "set" {
		t.Errorf("ProvisioningCode %q", v)
	}
}

// A damaged record is an error, not a forgotten ACS.
func TestDamagedRecord(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	r.ended(1)
	r.stop()
	s, err := store.Open(r.file, store.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Update(r.ctx(), store.Meta{Writer: "test"}, func(tx *store.Tx) error { return tx.PutRecord(recordBucket, recMark, []byte("{")) })
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	r.start()
	select {
	case err := <-r.result:
		if err == nil || !strings.Contains(err.Error(), "record mark is damaged") {
			t.Errorf("Run returned %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("Run goes on")
	}
	if r.acs.count() != 1 {
		t.Error("an Inform was sent")
	}
}

// The cause of a failed transfer goes to the log; the URL of the ACS, whose query may be a token, must not.
func TestNetworkErrorHidesURL(t *testing.T) {
	h := webfile.New(nil, nil)
	for _, query := range []string{"http://127.0.0.1:1/f?token=t0ken", "http://t0ken.invalid:bad/f"} {
		err := h.Fetch(t.Context(), FileRequest{URL: query, MaxSize: 10}, nil)
		if err == nil || strings.Contains(err.Error(), "t0ken") {
			t.Errorf("%s: %v", query, err)
		}
	}
}
