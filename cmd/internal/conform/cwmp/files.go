package conformcwmp

import (
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/icholy/digest"
)

// fileServer is what Download and Upload talk to. A path says what it does: /ok, /missing, /basic, /digest, /slow,
// /truncated, /refuse, /broken, /put, /put-digest.
type fileServer struct {
	base   string
	server *http.Server
	done   chan struct{}
	stop   chan struct{}

	mu       sync.Mutex
	content  []byte
	requests []fileRequest
}

// fileRequest is one request that was served with a file or took one.
type fileRequest struct {
	At     time.Time
	Method string
	Path   string
	Body   []byte
	Conn   string
}

const (
	fileUser     = "file"
	filePassword = "file-secret"
)

func (b *bench) fileServer() (*fileServer, error) {
	if b.files != nil {
		return b.files, nil
	}
	host, _, err := net.SplitHostPort(b.base[len("http://"):])
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, err
	}
	f := &fileServer{base: "http://" + l.Addr().String(), done: make(chan struct{}), stop: make(chan struct{}), content: []byte("{}\n")}
	f.server = &http.Server{Handler: f, ReadHeaderTimeout: 10 * time.Second}
	go func() { // ends with close
		defer close(f.done)
		_ = f.server.Serve(l)
	}()
	b.files = f
	return f, nil
}

func (f *fileServer) close() {
	close(f.stop)
	_ = f.server.Close()
	<-f.done
}

// serve sets what is delivered.
func (f *fileServer) serve(content []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.content = content
}

// got lists the requests for a path that were served.
func (f *fileServer) got(path string) (out []fileRequest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.requests {
		if r.Path == path {
			out = append(out, r)
		}
	}
	return out
}

// await waits until a path was served.
func (f *fileServer) await(ctx context.Context, path string) (fileRequest, error) {
	for {
		if got := f.got(path); len(got) > 0 {
			return got[0], nil
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return fileRequest{}, errNothingCame
		}
	}
}

func (f *fileServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 64<<20))
	if !fileAccess(w, r) {
		return
	}
	f.mu.Lock()
	f.requests = append(f.requests, fileRequest{At: time.Now(), Method: r.Method, Path: r.URL.Path, Body: body, Conn: r.RemoteAddr})
	content := f.content
	f.mu.Unlock()
	switch r.URL.Path {
	case "/missing":
		w.WriteHeader(http.StatusNotFound)
		return
	case "/refuse":
		w.WriteHeader(http.StatusForbidden)
		return
	case "/broken":
		w.WriteHeader(http.StatusInternalServerError)
		return
	case "/truncated":
		w.Header().Set("Content-Length", strconv.Itoa(len(content)+1000))
		_, _ = w.Write(content)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case "/slow": // until the server closes or the CPE gives up
		w.Header().Set("Content-Length", strconv.Itoa(len(content)+1))
		_, _ = w.Write(content)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
		case <-f.stop:
		}
		return
	}
	if r.Method == http.MethodPut || r.Method == http.MethodPost {
		w.WriteHeader(http.StatusCreated)
		return
	}
	_, _ = w.Write(content)
}

// fileAccess asks for credentials where the path says so.
func fileAccess(w http.ResponseWriter, r *http.Request) bool {
	switch r.URL.Path {
	case "/basic":
		if user, pass, ok := r.BasicAuth(); ok && user == fileUser && pass == filePassword {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="files"`)
	case "/digest", "/put-digest":
		const nonce = "b7c9d1e3f5"
		if cred, err := digest.ParseCredentials(r.Header.Get("Authorization")); err == nil && cred.Nonce == nonce && cred.Username == fileUser {
			want, err := digest.Digest(&digest.Challenge{Realm: "files", Nonce: nonce, Algorithm: "MD5", QOP: []string{"auth"}},
				digest.Options{Method: r.Method, URI: cred.URI, Username: fileUser, Password: filePassword, Count: cred.Nc, Cnonce: cred.Cnonce})
			if err == nil && want.Response == cred.Response {
				return true
			}
		}
		w.Header().Set("WWW-Authenticate", `Digest realm="files", nonce="`+nonce+`", qop="auth", algorithm=MD5`)
	default:
		return true
	}
	w.WriteHeader(http.StatusUnauthorized)
	return false
}
