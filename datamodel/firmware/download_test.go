package firmware

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"twinspan/datamodel"
	"twinspan/datamodel/webfile"
)

// site serves one image, and misbehaves as its paths say. begun tells that a stalled answer has begun.
func site(t *testing.T, image []byte) (plain, secure *httptest.Server, begun chan struct{}) {
	t.Helper()
	end := make(chan struct{})
	begun = make(chan struct{}, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("/image", func(w http.ResponseWriter, _ *http.Request) { w.Write(image) })
	mux.HandleFunc("/short", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(image)+1000))
		w.Write(image)
	})
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 1<<20+1)) })
	mux.HandleFunc("/announced", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "99999999999") })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, q *http.Request) { http.Redirect(w, q, "/image", http.StatusFound) })
	mux.HandleFunc("/circle", func(w http.ResponseWriter, q *http.Request) { http.Redirect(w, q, "/circle", http.StatusFound) })
	mux.HandleFunc("/gone", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	mux.HandleFunc("/junk", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("not an image\n")) })
	mux.HandleFunc("/damaged", func(w http.ResponseWriter, _ *http.Request) { w.Write(append(bytes.Clone(image), 'x')) })
	mux.HandleFunc("/login", func(w http.ResponseWriter, q *http.Request) {
		if user, pw, _ := q.BasicAuth(); user != "u" || pw != "p" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Write(image)
	})
	mux.HandleFunc("/stall", func(w http.ResponseWriter, _ *http.Request) {
		w.Write(image[:10])
		w.(http.Flusher).Flush()
		begun <- struct{}{}
		<-end
	})
	plain, secure = httptest.NewServer(mux), httptest.NewTLSServer(mux)
	mux.HandleFunc("/downgrade", func(w http.ResponseWriter, q *http.Request) {
		http.Redirect(w, q, plain.URL+"/image", http.StatusFound)
	})
	secure.Config.ErrorLog = nil
	t.Cleanup(func() { close(end); plain.Close(); secure.Close() })
	return plain, secure, begun
}

func hexSum(h crypto.Hash, data []byte) string {
	d := h.New()
	d.Write(data)
	return hex.EncodeToString(d.Sum(nil))
}

func TestDownload(t *testing.T) {
	image := Image("2.0.0", []byte("payload"), true)
	plain, secure, _ := site(t, image)
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	type kv = map[string]string
	cases := []struct {
		name, url string
		args      kv
		status    string // "" when the order is refused before anything is fetched
		text      string // of the error; "" for success
	}{
		{"plain", plain.URL + "/image", nil, available, ""},
		{"tls", secure.URL + "/image", nil, available, ""},
		{"redirect", plain.URL + "/moved", nil, available, ""},
		{"login", plain.URL + "/login", kv{"Username": "u", "Password": "p"}, available, ""},
		{"size", plain.URL + "/image", kv{"FileSize": strconv.Itoa(len(image))}, available, ""},
		{"algorithm without sum", plain.URL + "/image", kv{"CheckSumAlgorithm": "SHA-1"}, available, ""},
		{"wrong login", plain.URL + "/login", kv{"Username": "u", "Password": "q"}, downloadFailed, "refused the credentials"},
		{"404", plain.URL + "/gone", nil, downloadFailed, "404"},
		{"truncated", plain.URL + "/short", nil, downloadFailed, "broke off"},
		{"too large", plain.URL + "/large", nil, downloadFailed, "larger than this device takes"},
		{"announced too large", plain.URL + "/announced", nil, downloadFailed, "larger than this device takes"},
		{"redirected in circles", plain.URL + "/circle", nil, downloadFailed, "does not follow"},
		{"redirected away from TLS", secure.URL + "/downgrade", nil, downloadFailed, "does not follow"},
		{"nobody there", "http://127.0.0.1:1/image", nil, downloadFailed, "cannot be reached"},
		{"another size", plain.URL + "/image", kv{"FileSize": "7"}, downloadFailed, "FileSize says 7"},
		{"wrong checksum", plain.URL + "/image", kv{"CheckSumAlgorithm": "SHA-256", "CheckSum": hexSum(crypto.SHA256, nil)}, validationFailed, "not CheckSum"},
		{"no image", plain.URL + "/junk", nil, validationFailed, "no image of this device"},
		{"damaged image", plain.URL + "/damaged", nil, validationFailed, "no image of this device"},
		{"another scheme", "gopher://127.0.0.1/image", nil, "", "http:// or https://"},
		{"no host", "http:///image", nil, "", "host"},
		{"user information", "http://u:secret@127.0.0.1/image", nil, "", "user information"},
		{"announced size too large", plain.URL + "/image", kv{"FileSize": "1048577"}, "", "more than the 1048576 bytes"},
		{"checksum without algorithm", plain.URL + "/image", kv{"CheckSum": "00"}, "", "CheckSumAlgorithm"},
		{"checksum of another length", plain.URL + "/image", kv{"CheckSumAlgorithm": "SHA-1", "CheckSum": "00"}, "", "length"},
	}
	for name, h := range hashes {
		cases = append(cases, struct {
			name, url    string
			args         kv
			status, text string
		}{name, plain.URL + "/image", kv{"CheckSumAlgorithm": name, "CheckSum": strings.ToUpper(hexSum(h, image))}, available, ""})
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, func(o *Options) { o.Fetch = webfile.New(roots, nil).Fetch })
			args := kv{"URL": c.url, "AutoActivate": "false"}
			for k, v := range c.args {
				args[k] = v
			}
			err := r.run(t.Context(), "2", "Download()", args)
			if c.text == "" && err != nil || c.text != "" && (err == nil || !strings.Contains(err.Error(), c.text)) {
				t.Errorf("error %v, want %q", err, c.text)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells a secret: %v", err)
			}
			want, version := c.status, ""
			if want == "" {
				if want = noImage; reason(err) != datamodel.InvalidArgs {
					t.Errorf("reason %v", reason(err))
				}
			}
			if want == available {
				version = "2.0.0"
			}
			r.wants("2", want, version)
			r.wants("1", active, "1.0.0")
			r.tidy()
			r.start()
			r.wants("2", want, version)
		})
	}
}

func TestDownloadIsCanceled(t *testing.T) {
	image := Image("2.0.0", []byte("payload"), true)
	plain, _, begun := site(t, image)
	r := newRig(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- r.run(ctx, "2", "Download()", map[string]string{"URL": plain.URL + "/stall", "AutoActivate": "false"})
	}()
	<-begun
	r.wants("2", downloading, "")
	// One at a time.
	if err := r.run(t.Context(), "2", "Download()", map[string]string{"URL": plain.URL + "/image", "AutoActivate": "false"}); reason(err) != datamodel.Resources {
		t.Errorf("a second Download: %v", err)
	}
	if _, err := r.m.Install(t.Context(), "x", "key"); reason(err) != datamodel.Resources {
		t.Errorf("an image of the ACS beside it: %v", err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	r.wants("2", downloadFailed, "")
	r.tidy()
}

// TP-469 9.7: the image that runs is not overwritten, nor is one that is needed to fall back to.
func TestWhatIsNotOverwritten(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Fetch = give(Image("2.0.0", nil, true)) })
	load := map[string]string{"URL": "http://h/x", "AutoActivate": "true"}
	before, _ := os.ReadFile(filepath.Join(r.dir, "banks", "bank1.img"))
	if err := r.run(t.Context(), "1", "Download()", load); err == nil || !strings.Contains(err.Error(), "runs and is not overwritten") {
		t.Errorf("over the active image: %v", err)
	}
	if err := r.run(t.Context(), "2", "Download()", load); err != nil {
		t.Fatal(err)
	}
	if err := r.run(t.Context(), "2", "Activate()", nil); reason(err) != datamodel.Resources {
		t.Errorf("while a restart is under way: %v", err)
	}
	r.restarted()
	r.boot()
	r.runs("2")
	if err := r.run(t.Context(), "1", "Download()", load); err == nil || !strings.Contains(err.Error(), "not proven yet") {
		t.Errorf("over the image to fall back to: %v", err)
	}
	if after, _ := os.ReadFile(filepath.Join(r.dir, "banks", "bank1.img")); !bytes.Equal(before, after) {
		t.Error("the first bank was written")
	}
	r.proven()
	if err := r.run(t.Context(), "1", "Download()", map[string]string{"URL": "http://h/x", "AutoActivate": "false"}); err != nil {
		t.Errorf("once it is proven: %v", err)
	}
}

// A full disk or a broken flash is told as what it is.
type brokenBanks struct {
	Banks
	write, next error
}

func (b brokenBanks) Write(ctx context.Context, bank, path string) error {
	if b.write != nil {
		return b.write
	}
	return b.Banks.Write(ctx, bank, path)
}

func (b brokenBanks) SetNext(ctx context.Context, bank string) error {
	if b.next != nil {
		return b.next
	}
	return b.Banks.SetNext(ctx, bank)
}

func TestBrokenPlatform(t *testing.T) {
	load := map[string]string{"URL": "http://h/x", "AutoActivate": "true"}
	r := newRig(t, func(o *Options) { o.Fetch = give(Image("2.0.0", nil, true)) })
	whole := r.m.o.Banks
	r.m.o.Banks = brokenBanks{Banks: whole, write: errors.New("/dev/flash: bad block")}
	err := r.run(t.Context(), "2", "Download()", load)
	if err == nil || strings.Contains(err.Error(), "/dev/flash") {
		t.Errorf("the flash: %v", err)
	}
	r.wants("2", installationFailed, "")
	r.m.o.Banks = brokenBanks{Banks: whole, next: errors.New("no boot loader")}
	if err := r.run(t.Context(), "2", "Download()", load); err == nil {
		t.Error("the boot loader: no error")
	}
	r.wants("2", activationFailed, "2.0.0")
	if got := r.read("")["BootFirmwareImage"]; got != table+"1" {
		t.Errorf("BootFirmwareImage is %s", got)
	}
	r.start()
	r.runs("1")
	if len(r.restarts) != 0 {
		t.Error("a restart was asked for")
	}
}

// A disk that is full says so, and the Status is kept all the same.
func TestDiskIsFull(t *testing.T) {
	r := newRig(t, nil)
	r.boot()
	r.m.o.Fetch = func(_ context.Context, _ webfile.Request, dst *os.File) error {
		_, _ = dst.WriteString("a part")
		return &os.PathError{Op: "write", Path: dst.Name(), Err: syscall.ENOSPC}
	}
	err := r.run(t.Context(), "2", "Download()", map[string]string{"URL": "http://h/x"})
	if err == nil || !strings.Contains(err.Error(), "disk may be full") {
		t.Error(err)
	}
	if s, err := loadState(r.m.o.Dir); err != nil || s.Banks[simBanks[1]].Status != downloadFailed {
		t.Errorf("%+v %v", s, err)
	}
	if _, err := os.Stat(r.m.spool()); err == nil {
		t.Error("the part is left")
	}
}
