package conformcwmp

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/icholy/digest"

	"twinspan/cwmp/soap"
)

// maxTapBody bounds one message; checks that need a longer one from the CPE would show nothing more.
const maxTapBody = 16 << 20

// exchange is one HTTP request of the CPE with its answer. Fields are for reading once it is in the tap's list, and for
// changing inside hooks.
type exchange struct {
	At       time.Time
	Done     time.Time // answer written
	Listener string    // base URL of the listener it came in by
	Conn     string    // remote address: one TCP connection
	TLS      *tls.ConnectionState
	Method   string
	Path     string
	Header   http.Header
	Wire     []byte // body as on the wire
	Body     []byte // decoded
	Envelope *soap.Envelope
	refused  bool // answered 401

	Status     int
	RespHeader http.Header
	RespBody   []byte
	Cut        bool // close the connection instead of answering
	ChunkBytes int  // answer in chunks of so many bytes
	HTTP10     bool // answer raw as HTTP/1.0 without length, close-delimited
	Stream     func(w io.Writer)
	Raw        []byte        // answer with these bytes and close the connection
	RawPause   time.Duration // between one byte and the next
}

// method is the CWMP method the CPE sent, "" for an empty POST.
func (x *exchange) method() string {
	if x.Envelope == nil || x.Envelope.Body == nil {
		return ""
	}
	return x.Envelope.Body.Method()
}

// inform returns the Inform, or nil.
func (x *exchange) inform() *soap.Inform {
	if x.Envelope == nil {
		return nil
	}
	m, _ := x.Envelope.Body.(*soap.Inform)
	return m
}

// reply decodes what went back; "" for nothing.
func (x *exchange) reply() string {
	if len(x.RespBody) == 0 {
		return ""
	}
	env, err := soap.Decode(x.RespBody, soap.Options{Limits: wide})
	if err != nil || env.Body == nil {
		return "?"
	}
	return env.Body.Method()
}

var wide = soap.Limits{MaxBytes: maxTapBody, MaxElements: 500_000, MaxAttributes: 500_000, MaxList: 100_000}

// hook sees an exchange. Before the ACS: returning true answers without it. After it: the answer may be changed and the
// result is ignored.
type hook func(x *exchange) bool

// tap is the front of the ACS: listeners that pass on to it, record, and let hooks interfere. Safe for concurrent use.
type tap struct {
	upstream  *url.URL
	transport *http.Transport

	mu     sync.Mutex
	list   []*exchange
	before []*hookEntry
	after  []*hookEntry
	plant  func(x *exchange) // a planted fault: changes what the CPE sent before anybody sees it
	// plantAnswer is another: it changes what the CPE gets behind the runner's back, so that it does something else than was asked.
	plantAnswer func(x *exchange)
	auth        auth
	// closeRefused sends Connection: close with a 401.
	closeRefused bool
	changed      chan struct{}
	servers      []*http.Server
	conns        int
	served       sync.WaitGroup
	closed       chan struct{}
	once         sync.Once
}

type hookEntry struct{ fn hook }

// auth is how the CPE must authenticate. Any user name is taken: which one a CPE uses is for checks to see.
type auth struct {
	scheme    string // "", Basic, Digest
	algorithm string // of Digest
	password  string
	nonce     string
	old       string // the nonce before: what is right but for it is stale
}

// setAuth changes scheme and algorithm; the nonce is a new one.
func (t *tap) setAuth(scheme, algorithm string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.auth.scheme, t.auth.algorithm = scheme, algorithm
	t.auth.nonce, t.auth.old = rand.Text(), t.auth.nonce
}

// rotate makes the current nonce stale.
func (t *tap) rotate() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.auth.nonce, t.auth.old = rand.Text(), t.auth.nonce
}

// unauthorized answers 401 unless the credentials are right.
func (t *tap) unauthorized(x *exchange) bool {
	t.mu.Lock()
	a, closing := t.auth, t.closeRefused
	t.mu.Unlock()
	defer func() {
		if closing && x.Status == http.StatusUnauthorized {
			x.RespHeader.Set("Connection", "close")
		}
	}()
	given := x.Header.Get("Authorization")
	switch a.scheme {
	case "":
		return false
	case "Basic":
		r := http.Request{Header: x.Header}
		if _, password, ok := r.BasicAuth(); ok && password == a.password {
			return false
		}
		x.challenge(`Basic realm="acs"`)
		return true
	}
	nonce := ""
	if cred, err := digest.ParseCredentials(given); err == nil {
		nonce = cred.Nonce
		want, err := digest.Digest(&digest.Challenge{Realm: "acs", Nonce: a.nonce, Algorithm: a.algorithm, QOP: []string{"auth"}},
			digest.Options{Method: x.Method, URI: cred.URI, Username: cred.Username, Password: a.password, Count: cred.Nc, Cnonce: cred.Cnonce})
		if err == nil && nonce == a.nonce && want.Response == cred.Response {
			return false
		}
	}
	c := digest.Challenge{Realm: "acs", Nonce: a.nonce, Algorithm: a.algorithm, QOP: []string{"auth"}, Stale: nonce != "" && nonce == a.old}
	x.challenge(c.String())
	return true
}

func (x *exchange) challenge(text string) {
	x.Status, x.RespHeader, x.RespBody = http.StatusUnauthorized, http.Header{"Www-Authenticate": {text}}, nil
}

// digestField reads one field of the credentials, "" if there is none.
func (x *exchange) digestField(name string) string {
	cred, err := digest.ParseCredentials(x.Header.Get("Authorization"))
	if err != nil {
		return ""
	}
	switch name {
	case "username":
		return cred.Username
	case "nonce":
		return cred.Nonce
	case "cnonce":
		return cred.Cnonce
	}
	return ""
}

func newTap(acsURL string) (*tap, error) {
	u, err := url.Parse(acsURL)
	if err != nil {
		return nil, err
	}
	return &tap{upstream: u, changed: make(chan struct{}), closed: make(chan struct{}),
		transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 8}}, nil
}

// listen opens one more way in and returns its base URL; config nil is plain HTTP.
func (t *tap) listen(address string, config *tls.Config) (string, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "", err
	}
	base := "http://" + l.Addr().String()
	if config != nil {
		base = "https://" + l.Addr().String()
		l = tls.NewListener(l, config)
	}
	s := &http.Server{ReadHeaderTimeout: 30 * time.Second, MaxHeaderBytes: 64 << 10, ErrorLog: log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.serve(w, r, base) }),
		ConnState: func(_ net.Conn, st http.ConnState) {
			if st == http.StateNew {
				t.mu.Lock()
				t.conns++
				t.mu.Unlock()
			}
		}}
	s.Protocols = new(http.Protocols)
	s.Protocols.SetHTTP1(true)
	t.mu.Lock()
	t.servers = append(t.servers, s)
	t.mu.Unlock()
	t.served.Go(func() { _ = s.Serve(l) }) // ends with close
	return base, nil
}

func (t *tap) close() {
	t.once.Do(func() {
		close(t.closed)
		t.mu.Lock()
		servers := t.servers
		t.mu.Unlock()
		for _, s := range servers {
			ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
			if s.Shutdown(ctx) != nil {
				_ = s.Close()
			}
			cancel()
		}
		t.transport.CloseIdleConnections()
	})
	t.served.Wait()
}

func (t *tap) serve(w http.ResponseWriter, r *http.Request, base string) {
	x := &exchange{At: time.Now(), Listener: base, Conn: r.RemoteAddr, TLS: r.TLS, Method: r.Method, Path: r.URL.Path, Header: r.Header.Clone()}
	x.Wire, _ = io.ReadAll(io.LimitReader(r.Body, maxTapBody)) // what came is judged by who looks at it
	t.mu.Lock()
	plant := t.plant
	t.mu.Unlock()
	x.decode()
	if plant != nil {
		plant(x)
		x.Wire = x.Body
		x.Header.Del("Content-Encoding")
		x.decode()
	}
	handled := t.unauthorized(x)
	x.refused = handled
	t.mu.Lock()
	t.list = append(t.list, x)
	t.notify()
	t.mu.Unlock()
	for _, h := range t.hooks(&t.before) {
		if handled {
			break
		}
		handled = h.fn(x)
	}
	if !handled {
		t.forward(r.Context(), x)
		for _, h := range t.hooks(&t.after) {
			h.fn(x)
		}
		if t.plantAnswer != nil {
			t.plantAnswer(x)
		}
	}
	t.answer(w, x)
}

func (x *exchange) decode() {
	x.Body = x.Wire
	if strings.EqualFold(x.Header.Get("Content-Encoding"), "gzip") {
		if z, err := gzip.NewReader(bytes.NewReader(x.Wire)); err == nil {
			x.Body, _ = io.ReadAll(io.LimitReader(z, maxTapBody))
		}
	}
	x.Envelope = nil
	if len(x.Body) > 0 {
		x.Envelope, _ = soap.Decode(x.Body, soap.Options{Limits: wide})
	}
}

func (t *tap) hooks(list *[]*hookEntry) []*hookEntry {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]*hookEntry(nil), *list...)
}

// forward asks the ACS.
func (t *tap) forward(ctx context.Context, x *exchange) {
	x.RespHeader = http.Header{}
	req, err := http.NewRequestWithContext(ctx, x.Method, t.upstream.String(), bytes.NewReader(x.Wire))
	if err != nil {
		x.Status = http.StatusBadGateway
		return
	}
	req.Header = x.Header.Clone()
	req.Header.Del("Connection")
	req.Header.Del("Accept-Encoding")
	req.Header.Del("Authorization")
	resp, err := t.transport.RoundTrip(req)
	if err != nil {
		x.Cut = true // the ACS cut the connection
		return
	}
	defer resp.Body.Close()
	x.Status, x.RespHeader = resp.StatusCode, resp.Header.Clone()
	if x.RespBody, err = io.ReadAll(io.LimitReader(resp.Body, 2*maxTapBody)); err != nil {
		x.Cut = true
	}
}

func (t *tap) answer(w http.ResponseWriter, x *exchange) {
	defer func() {
		t.mu.Lock()
		x.Done = time.Now()
		t.notify()
		t.mu.Unlock()
	}()
	if x.Cut {
		panic(http.ErrAbortHandler)
	}
	h := w.Header()
	for k, v := range x.RespHeader {
		if k != "Content-Length" && k != "Date" {
			h[k] = v
		}
	}
	if x.HTTP10 {
		t.answer10(w, x)
		return
	}
	if x.Raw != nil {
		t.answerRaw(w, x)
		return
	}
	if x.Status == 0 {
		x.Status = http.StatusOK
	}
	w.WriteHeader(x.Status)
	if x.Stream != nil {
		x.Stream(w)
		return
	}
	n := x.ChunkBytes
	for body := x.RespBody; len(body) > 0; {
		part := body
		if n > 0 {
			part = body[:min(n, len(body))]
		}
		if _, err := w.Write(part); err != nil {
			return
		}
		if n > 0 {
			_ = http.NewResponseController(w).Flush()
		}
		body = body[len(part):]
	}
}

// answer10 writes the answer as an HTTP/1.0 server without Content-Length does: the end of the connection ends it.
func (t *tap) answer10(w http.ResponseWriter, x *exchange) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = buf.WriteString("HTTP/1.0 200 OK\r\nContent-Type: text/xml; charset=utf-8\r\n")
	for _, c := range x.RespHeader["Set-Cookie"] {
		_, _ = buf.WriteString("Set-Cookie: " + c + "\r\n")
	}
	_, _ = buf.WriteString("\r\n")
	_, _ = buf.Write(x.RespBody)
	_ = buf.Flush()
}

// answerRaw writes bytes that no HTTP server would.
func (t *tap) answerRaw(w http.ResponseWriter, x *exchange) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	for i := 0; i < len(x.Raw); i++ {
		if x.RawPause == 0 {
			_, _ = buf.Write(x.Raw)
			break
		}
		_ = buf.WriteByte(x.Raw[i])
		if buf.Flush() != nil {
			return
		}
		time.Sleep(x.RawPause)
	}
	_ = buf.Flush()
}

// notify wakes waiters; the lock is held.
func (t *tap) notify() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// onBefore and onAfter add a hook; the returned function takes it away.
func (t *tap) onBefore(fn hook) (remove func()) { return t.hook(&t.before, fn) }
func (t *tap) onAfter(fn hook) (remove func())  { return t.hook(&t.after, fn) }

func (t *tap) hook(list *[]*hookEntry, fn hook) func() {
	e := &hookEntry{fn}
	t.mu.Lock()
	defer t.mu.Unlock()
	*list = append(*list, e)
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		for i, o := range *list {
			if o == e {
				*list = append((*list)[:i:i], (*list)[i+1:]...)
				return
			}
		}
	}
}

// clearHooks takes all away, as after a check.
func (t *tap) clearHooks() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.before, t.after = nil, nil
}

// mark is a place in the list of exchanges; since gives what came after it.
func (t *tap) mark() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.list)
}

func (t *tap) since(mark int) []*exchange {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]*exchange(nil), t.list[mark:]...)
}

var errNothingCame = errors.New("nothing came in time")

// wait returns the first exchange after mark that match accepts, at the time its request is in.
func (t *tap) wait(ctx context.Context, mark int, match func(*exchange) bool) (*exchange, error) {
	for {
		t.mu.Lock()
		for ; mark < len(t.list); mark++ {
			if x := t.list[mark]; match(x) {
				t.mu.Unlock()
				return x, nil
			}
		}
		changed := t.changed
		t.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, errNothingCame
		}
	}
}

// waitInform waits for an Inform after mark, with the right credentials, that match accepts, and for its answer to be sent;
// nil accepts any.
func (t *tap) waitInform(ctx context.Context, mark int, match func(*soap.Inform) bool) (*exchange, error) {
	x, err := t.wait(ctx, mark, func(x *exchange) bool { m := x.inform(); return m != nil && !x.refused && (match == nil || match(m)) })
	if err != nil {
		return nil, err
	}
	return x, t.answered(ctx, x)
}

// answered waits until the answer was sent.
func (t *tap) answered(ctx context.Context, x *exchange) error {
	for {
		t.mu.Lock()
		done, changed := !x.Done.IsZero(), t.changed
		t.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errNothingCame
		}
	}
}
