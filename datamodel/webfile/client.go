package webfile

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/icholy/digest"
)

const (
	fileRedirects  = 5
	fileHeaderWait = time.Minute   // for the first byte of an answer
	fileIdle       = time.Minute   // between two reads of a body
	fileTime       = 6 * time.Hour // for a whole body: a server that drips must not hold up all other files for ever
)

// Client gets and puts files. Safe for concurrent use.
type Client struct {
	client *http.Client
	idle   time.Duration // seam of the tests
}

// New makes a client that trusts roots (nil: those of the system) and shows certs to servers that ask.
func New(roots *x509.CertPool, certs []tls.Certificate) *Client {
	transport := &http.Transport{
		DialContext:            (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: roots, Certificates: certs, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    30 * time.Second,
		ResponseHeaderTimeout:  fileHeaderWait,
		MaxResponseHeaderBytes: 64 << 10,
		DisableKeepAlives:      true, // one file, one connection: nothing stays open
		DisableCompression:     true, // FileSize counts what is sent
	}
	return &Client{idle: fileIdle, client: &http.Client{Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// Schemes lists the URL schemes that work.
func (*Client) Schemes() []string { return []string{"http", "https"} }

// Fetch downloads into dst. Errors: *Error, the end of ctx, or trouble with dst.
func (h *Client) Fetch(ctx context.Context, r Request, dst *os.File) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := h.do(ctx, http.MethodGet, r, 0, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return statusError(resp.StatusCode)
	}
	if resp.ContentLength > r.MaxSize {
		return errTooLarge
	}
	idle := time.AfterFunc(h.idle, cancel) // a server that stops in the middle
	defer idle.Stop()
	late := time.AfterFunc(fileTime, cancel)
	defer late.Stop()
	n, err := io.Copy(dst, &activeReader{r: io.LimitReader(resp.Body, r.MaxSize+1), idle: idle, wait: h.idle})
	if n > r.MaxSize {
		return errTooLarge
	}
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			return fmt.Errorf("webfile: store file: %w", err)
		}
		return &Error{Reason: Incomplete, Text: "the transfer broke off", Err: err}
	}
	if resp.ContentLength >= 0 && n != resp.ContentLength {
		return &Error{Reason: Incomplete, Text: "the file is shorter than announced"}
	}
	return nil
}

// activeReader puts the idle limit off as long as something moves.
type activeReader struct {
	r     io.Reader
	close func() error
	idle  *time.Timer
	wait  time.Duration
}

func (a *activeReader) Close() error { return a.close() }

func (a *activeReader) Read(b []byte) (int, error) {
	n, err := a.r.Read(b)
	if n > 0 {
		a.idle.Reset(a.wait)
	}
	return n, err
}

// Store uploads size bytes that open delivers; open is called again when the server asks for authentication.
func (h *Client) Store(ctx context.Context, r Request, size int64, open func() (*os.File, error)) error {
	if size > r.MaxSize {
		return errTooLarge
	}
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	idle := time.AfterFunc(h.idle+fileHeaderWait, cancel) // a server that stops taking, or drips
	defer idle.Stop()
	late := time.AfterFunc(fileTime, cancel)
	defer late.Stop()
	resp, err := h.do(ctx, http.MethodPut, r, size, func() (io.ReadCloser, error) {
		f, err := open()
		if err != nil {
			return nil, err
		}
		return &activeReader{r: f, close: f.Close, idle: idle, wait: h.idle + fileHeaderWait}, nil
	})
	if err != nil {
		if ctx.Err() != nil && outer.Err() == nil {
			return &Error{Reason: Incomplete, Text: "the file server does not take the file", Err: err}
		}
		return err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	switch resp.StatusCode {
	case http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent:
		return nil
	}
	return statusError(resp.StatusCode)
}

// do sends a request, answers one challenge per place and follows redirects. Credentials go to the host that the ACS named
// only, and never from https to http.
func (h *Client) do(ctx context.Context, method string, r Request, size int64, open func() (io.ReadCloser, error)) (*http.Response, error) {
	u, err := url.Parse(r.URL)
	if err != nil {
		return nil, &Error{Reason: Failed, Text: "the URL cannot be parsed"}
	}
	origin := u.Host
	authorization := ""
	tried := false
	for hop := 0; ; {
		req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
		if err != nil {
			return nil, &Error{Reason: Failed, Text: "the URL cannot be used"}
		}
		if open != nil {
			f, err := open()
			if err != nil {
				return nil, fmt.Errorf("webfile: open file: %w", err)
			}
			req.Body, req.ContentLength = f, size // closed by the transport
			req.Header.Set("Content-Type", "application/octet-stream")
			if authorization == "" && r.Username != "" {
				req.Header.Set("Expect", "100-continue") // a challenge comes before the file went
			}
		}
		req.Header.Set("User-Agent", "twinspan")
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		resp, err := h.client.Do(req)
		if err != nil {
			return nil, networkError(ctx, err)
		}
		switch resp.StatusCode {
		case http.StatusUnauthorized:
			resp.Body.Close()
			if tried || r.Username == "" && r.Password == "" || u.Host != origin {
				return nil, &Error{Reason: Unauthorized, Text: "the file server refused the credentials"}
			}
			tried = true
			if authorization, err = authorize(resp.Header, method, u, r); err != nil {
				return nil, err
			}
			continue
		case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
			resp.Body.Close()
			next, err := u.Parse(resp.Header.Get("Location"))
			if hop++; err != nil || hop > fileRedirects || u.Scheme == "https" && next.Scheme != "https" ||
				next.Scheme != "http" && next.Scheme != "https" {
				return nil, &Error{Reason: NoFile, Text: "the file server redirects to where this device does not follow"}
			}
			u, authorization, tried = next, "", false
			continue
		}
		return resp, nil
	}
}

// authorize answers a challenge: Digest when it is offered, else Basic. DL-08
func authorize(header http.Header, method string, u *url.URL, r Request) (string, error) {
	if chal, err := digest.FindChallenge(header); err == nil {
		cred, err := digest.Digest(chal, digest.Options{Method: method, URI: u.RequestURI(), Count: 1, Username: r.Username, Password: r.Password})
		if err == nil {
			return cred.String(), nil
		}
	}
	for _, v := range header.Values("WWW-Authenticate") {
		if strings.HasPrefix(strings.ToLower(strings.TrimSpace(v)), "basic") {
			req := http.Request{Header: http.Header{}}
			req.SetBasicAuth(r.Username, r.Password)
			return req.Header.Get("Authorization"), nil
		}
	}
	return "", &Error{Reason: Unauthorized, Text: "the file server asks for an authentication that is not supported"}
}

// statusError reads an HTTP status as a reason.
func statusError(status int) error {
	text := fmt.Sprintf("the file server answered %d", status)
	switch {
	case status == http.StatusUnauthorized || status == http.StatusProxyAuthRequired:
		return &Error{Reason: Unauthorized, Text: text}
	case status >= 400 && status < 500:
		return &Error{Reason: NoFile, Text: text}
	}
	return &Error{Reason: Failed, Text: text}
}

// networkError tells a server that cannot be reached or trusted from an exchange that broke off. The text names no address:
// the ACS knows the URL, and it may hold a token.
func networkError(ctx context.Context, err error) error {
	var cert *tls.CertificateVerificationError
	var dns *net.DNSError
	var op *net.OpError
	var request *url.Error
	if errors.As(err, &request) { // repeats the URL with its query, and the cause goes to the log
		err = request.Err
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &cert): // DL-09
		return &Error{Reason: NoServer, Text: "the certificate of the file server is not trusted", Err: err}
	case errors.As(err, &dns):
		return &Error{Reason: NoServer, Text: "the name of the file server cannot be resolved", Err: err}
	case errors.As(err, &op) && op.Op == "dial":
		return &Error{Reason: NoServer, Text: "the file server cannot be reached", Err: err}
	}
	return &Error{Reason: Incomplete, Text: "the exchange with the file server broke off", Err: err}
}
