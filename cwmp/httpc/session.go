package httpc

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Errors that callers test with errors.Is. All of them end the session.
var (
	ErrUnauthorized    = errors.New("the ACS does not accept the credentials")
	ErrNoCredentials   = errors.New("the ACS asks for credentials and none may be sent")
	ErrBasicInClear    = errors.New("the ACS asks for Basic authentication over plain HTTP")
	ErrRedirectLimit   = errors.New("too many redirects in a row")
	ErrDowngrade       = errors.New("redirect from https to http")
	ErrStalled         = errors.New("the ACS is silent for too long")
	errBadContentCoded = errors.New("content encoding not supported")
)

// StatusError is an HTTP status that is no answer: anything but 200, 204, 302, 307 (also 301, 308) and 401.
type StatusError struct {
	Code       int
	RetryAfter time.Duration // of a 503, 0 when not given
}

func (e *StatusError) Error() string {
	return "the ACS answers with HTTP status " + strconv.Itoa(e.Code)
}

// Response of an ACS. An empty Body means that the ACS sent an empty message.
type Response struct {
	Body    []byte
	Charset string // of the Content-Type header, may be empty
	// Truncated: the answer is longer than MaxResponseBytes; Body holds the beginning.
	Truncated bool
}

// Stats counts what a Session did.
type Stats struct {
	Posts, Redirects, Challenges int
	Connections                  int
	Sent, Received               int64 // bytes of bodies, before compression
}

// Session carries the messages of one CWMP session.
type Session struct {
	client    *Client
	transport *http.Transport
	jar       *cookiejar.Jar
	cookies   map[string]bool // cookies ever taken, to bound the jar
	target    *url.URL        // where the session goes, after redirects
	auth      authState
	stats     Stats

	// pinned: the request on its way has credentials made for the connection that is open; no other may be opened for it.
	pinned      atomic.Bool
	keepUntil   time.Time    // when the ACS said it closes an idle connection; zero: it did not say
	alive       atomic.Int32 // open connections
	connections atomic.Int32
}

// Session starts a session at the configured URL with no cookies. Nothing is sent yet.
func (c *Client) Session() *Session {
	jar, _ := cookiejar.New(nil) // never fails
	s := &Session{client: c, jar: jar, cookies: map[string]bool{}, target: c.url}
	s.transport = &http.Transport{
		DialContext:            s.dial,
		DialTLSContext:         s.dialTLS,
		MaxConnsPerHost:        1, // TR-069 3.4.2: one connection for the session
		MaxIdleConnsPerHost:    1,
		ResponseHeaderTimeout:  c.cfg.Timeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		DisableCompression:     true,                // done here, under a limit
		Protocols:              new(http.Protocols), // set below: HTTP/1 only
	}
	s.transport.Protocols.SetHTTP1(true)
	s.arrive()
	return s
}

// Close ends the session and its connection. It is idempotent.
func (s *Session) Close() { s.transport.CloseIdleConnections() }

// URL is where the session goes now: the configured URL, or the target of a redirect.
func (s *Session) URL() string { return s.target.String() }

// Stats of the session so far.
func (s *Session) Stats() Stats {
	st := s.stats
	st.Connections = int(s.connections.Load())
	return st
}

// arrive prepares the authentication for the present target.
func (s *Session) arrive() {
	s.auth = authState{}
	if s.target.Scheme == "https" && s.mayAuthenticate() && s.client.knownScheme() != schemeDigest {
		s.auth.scheme = schemeBasic // TR-069 3.4.4: over TLS unasked
	}
}

// mayAuthenticate: credentials are for the host they were configured for.
func (s *Session) mayAuthenticate() bool {
	return s.client.cfg.Username != "" &&
		(s.client.cfg.TrustRedirects || strings.EqualFold(s.target.Hostname(), s.client.url.Hostname()))
}

// Post sends one envelope, or the empty message for an empty body, and returns the answer. After an error the session
// is over and only Close may be called.
func (s *Session) Post(ctx context.Context, body []byte) (*Response, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, exchangeFactor*s.client.cfg.Timeout, ErrStalled)
	defer cancel()
	s.stats.Posts++
	s.stats.Sent += int64(len(body))
	sent, err := compress(body, s.client.cfg.Compression)
	if err != nil {
		return nil, fmt.Errorf("httpc: %w", err)
	}
	redirects, challenges := 0, 0
	fresh := false // the credentials come from a challenge to this very message
	for {
		resp, done, err := s.once(ctx, sent)
		if err != nil {
			return nil, s.explain(ctx, err)
		}
		if done != nil {
			s.stats.Received += int64(len(done.Body))
			return done, nil
		}
		switch resp.StatusCode {
		case http.StatusUnauthorized:
			if challenges++; challenges > maxChallenges {
				return nil, fmt.Errorf("httpc: %w", ErrUnauthorized)
			}
			if err := s.challenged(resp, fresh); err != nil {
				return nil, fmt.Errorf("httpc: %w", err)
			}
			fresh = true
		default:
			if redirects++; redirects > MaxRedirects {
				return nil, fmt.Errorf("httpc: %w", ErrRedirectLimit)
			}
			if err := s.redirect(resp); err != nil {
				return nil, fmt.Errorf("httpc: %w", err)
			}
			fresh = false
		}
	}
}

// explain adds what ended an exchange: the caller's context, or a silence of the ACS.
func (s *Session) explain(ctx context.Context, err error) error {
	var timeout net.Error
	switch {
	case errors.Is(err, ErrStalled):
	case ctx.Err() != nil:
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	case errors.As(err, &timeout) && timeout.Timeout():
		err = fmt.Errorf("%w: %w", ErrStalled, err)
	}
	return fmt.Errorf("httpc: %w", err)
}

// once makes one HTTP exchange. It returns either the answer, or the header of a 401 or redirect to be dealt with.
func (s *Session) once(ctx context.Context, body []byte) (*http.Response, *Response, error) {
	if !s.keepUntil.IsZero() && time.Now().After(s.keepUntil) {
		s.transport.CloseIdleConnections() // it is being closed at the other end; a message sent now could be lost
	}
	resp, err := s.send(ctx, body)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	s.takeCookies(resp)
	defer func() { s.keepUntil = keepUntil(resp.Header.Get("Keep-Alive")) }()
	switch resp.StatusCode {
	case http.StatusOK, http.StatusNoContent:
		answer, err := s.read(resp)
		return nil, answer, err
	case http.StatusUnauthorized, http.StatusFound, http.StatusTemporaryRedirect, http.StatusMovedPermanently,
		http.StatusPermanentRedirect:
		s.drain(resp) // so that the next request uses the same connection (TR-069 3.4.2)
		return resp, nil, nil
	}
	s.drain(resp)
	return nil, nil, &StatusError{Code: resp.StatusCode, RetryAfter: retryAfter(resp)}
}

// errNewConnection: the connection that the credentials were made for has gone before the request was sent.
var errNewConnection = errors.New("the connection was closed meanwhile")

// send makes one HTTP request. When a new connection has to be opened for credentials that were made for the old one, they are made anew:
// a cnonce is used on one connection only (TR-069 3.4.5). Nothing was sent then.
func (s *Session) send(ctx context.Context, body []byte) (*http.Response, error) {
	defer s.pinned.Store(false)
	for {
		req, err := s.request(ctx, body)
		if err != nil {
			return nil, err
		}
		resp, err := s.transport.RoundTrip(req)
		if !errors.Is(err, errNewConnection) || ctx.Err() != nil {
			return resp, err
		}
		s.auth.renew()
	}
}

func (s *Session) request(ctx context.Context, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", s.client.cfg.UserAgent)
	if len(body) > 0 {
		req.Header.Set("Content-Type", "text/xml; charset=utf-8")
		req.Header["SOAPAction"] = []string{""} // TR-069 3.4.1: no value, not even quotes; the spelling matters to some
		if s.client.cfg.Compression != NoCompression {
			req.Header.Set("Content-Encoding", string(s.client.cfg.Compression))
		}
	}
	if s.client.cfg.Compression != NoCompression {
		req.Header.Set("Accept-Encoding", "gzip, deflate")
	}
	for _, cookie := range s.jar.Cookies(s.target) {
		req.AddCookie(cookie)
	}
	if s.alive.Load() == 0 {
		s.auth.renew()
	}
	s.pinned.Store(s.auth.scheme == schemeDigest && s.auth.cnonce != "" && s.alive.Load() > 0)
	authorization, err := s.auth.header(&s.client.cfg, s.target)
	if err != nil {
		return nil, err
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	return req, nil
}

// challenged takes up the challenge of a 401. fresh: the refused credentials were made for a challenge to this message.
func (s *Session) challenged(resp *http.Response, fresh bool) error {
	s.stats.Challenges++
	o, err := readOffer(resp.Header)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnauthorized, err)
	}
	if !s.mayAuthenticate() {
		return ErrNoCredentials
	}
	if o.digest != nil {
		if fresh && s.auth.scheme == schemeDigest && !o.digest.Stale {
			return ErrUnauthorized
		}
		s.auth = authState{scheme: schemeDigest, challenge: o.digest, sess: o.sess}
		s.client.rememberScheme(schemeDigest)
		return nil
	}
	switch {
	case s.target.Scheme != "https" && !s.client.cfg.BasicInClear:
		return ErrBasicInClear
	case s.auth.scheme == schemeBasic:
		return ErrUnauthorized
	}
	s.auth = authState{scheme: schemeBasic}
	s.client.rememberScheme(schemeBasic)
	return nil
}

// redirect moves the rest of the session (TR-069 3.4.2); the configured URL stays as it is.
func (s *Session) redirect(resp *http.Response) error {
	location := resp.Header.Get("Location")
	next, err := s.target.Parse(location)
	if err != nil || location == "" {
		return errors.New("redirect without a usable Location")
	}
	next.User, next.Fragment = nil, ""
	if err := checkURL(next); err != nil {
		return fmt.Errorf("redirect: %w", err)
	}
	if s.target.Scheme == "https" && next.Scheme != "https" && !s.client.cfg.AllowDowngrade {
		return ErrDowngrade
	}
	s.stats.Redirects++
	s.client.log.Debug("acs redirects the session", "status", resp.StatusCode, "host", next.Host)
	samePlace := next.Scheme == s.target.Scheme && next.Host == s.target.Host
	s.target = next
	if !samePlace {
		s.transport.CloseIdleConnections()
		s.arrive()
	}
	return nil
}

func (s *Session) takeCookies(resp *http.Response) {
	var keep []*http.Cookie
	for _, cookie := range resp.Cookies() {
		key := cookie.Name + "\x00" + cookie.Domain + "\x00" + cookie.Path
		if len(cookie.Value) > maxCookieBytes || len(key) > maxCookieBytes {
			continue
		}
		if !s.cookies[key] && len(s.cookies) >= maxCookies {
			continue
		}
		s.cookies[key] = true
		keep = append(keep, cookie)
	}
	if len(keep) > 0 {
		s.jar.SetCookies(s.target, keep)
	}
}

// read takes the body under the limit; a silence longer than the timeout ends it.
func (s *Session) read(resp *http.Response) (*Response, error) {
	answer := &Response{}
	if _, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err == nil {
		answer.Charset = params["charset"]
	}
	watched, stop := s.watch(resp.Body)
	defer stop()
	in, err := decompress(watched, resp.Header.Get("Content-Encoding"))
	if errors.Is(err, io.EOF) { // an empty message, whatever coding it claims
		return answer, nil
	}
	if err != nil {
		return nil, err
	}
	limit := s.client.cfg.MaxResponseBytes
	answer.Body, err = io.ReadAll(io.LimitReader(in, int64(limit)+1))
	if len(answer.Body) > limit {
		answer.Body, answer.Truncated = answer.Body[:limit], true
		return answer, nil
	}
	if err != nil {
		return nil, err
	}
	if c, ok := in.(io.Closer); ok && in != watched {
		err = c.Close()
	}
	s.rest(watched) // up to the end, so that the connection can be used again
	if len(bytes.TrimSpace(answer.Body)) == 0 {
		answer.Body = nil
	}
	return answer, err
}

// drain reads what nobody wants, within bounds, so that the connection can be used again.
func (s *Session) drain(resp *http.Response) {
	watched, stop := s.watch(resp.Body)
	defer stop()
	s.rest(watched)
}

func (s *Session) rest(r io.Reader) { _, _ = io.Copy(io.Discard, io.LimitReader(r, maxDrain)) }

// watch closes the body when a read takes longer than the timeout.
func (s *Session) watch(body io.ReadCloser) (io.Reader, func()) {
	w := &watched{in: body, timeout: s.client.cfg.Timeout}
	w.timer = time.AfterFunc(w.timeout, func() {
		w.stalled.Store(true)
		_ = body.Close()
	})
	return w, func() { w.timer.Stop() }
}

type watched struct {
	in      io.Reader
	timeout time.Duration
	timer   *time.Timer
	stalled atomic.Bool
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.in.Read(p)
	if w.stalled.Load() {
		return n, ErrStalled
	}
	w.timer.Reset(w.timeout)
	return n, err
}

func decompress(in io.Reader, coding string) (io.Reader, error) {
	switch strings.ToLower(strings.TrimSpace(coding)) {
	case "", "identity":
		return in, nil
	case "gzip", "x-gzip":
		return gzip.NewReader(in)
	case "deflate":
		return zlib.NewReader(in)
	}
	return nil, fmt.Errorf("%w: %q", errBadContentCoded, coding)
}

func compress(body []byte, coding Compression) ([]byte, error) {
	if len(body) == 0 || coding == NoCompression {
		return body, nil
	}
	var out bytes.Buffer
	var w io.WriteCloser
	if coding == GZIP {
		w = gzip.NewWriter(&out)
	} else {
		w = zlib.NewWriter(&out)
	}
	if _, err := w.Write(body); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// keepUntil reads "timeout=5, max=100": a connection idle for so many seconds is closed by the ACS.
func keepUntil(header string) time.Time {
	for _, part := range strings.Split(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		seconds, err := strconv.Atoi(strings.Trim(value, `" `))
		if strings.EqualFold(name, "timeout") && err == nil && seconds > 0 && seconds < 1<<20 {
			return time.Now().Add(time.Duration(seconds)*time.Second - keepAliveMargin)
		}
	}
	return time.Time{}
}

func retryAfter(resp *http.Response) time.Duration {
	text := resp.Header.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil && seconds > 0 && seconds < 1<<30 {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}
