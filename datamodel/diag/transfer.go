package diag

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"twinspan/datamodel"
)

// Error words of throughput tests.
const (
	errConnect    = "Error_InitConnectionFailed"
	errNoResponse = "Error_NoResponse"
	errTransfer   = "Error_TransferFailed"
	errLogin      = "Error_LoginFailed"
	errSize       = "Error_IncorrectSize"
	errNoTransfer = "Error_NoTransferComplete"
)

// Bounds of one HTTP exchange, in addition to the limit of the run.
const (
	dialTime     = 20 * time.Second
	maxRedirects = 5
	chunk        = 64 << 10
)

var errTestOver = errors.New("the time of the test is over")

// transfer is one throughput test.
type transfer struct {
	p      *Provider
	url    *url.URL
	upload bool
	v      via
	size   int64 // of each upload
	m      *meter
	limit  atomic.Int64 // payload bytes left

	duration, interval, offset time.Duration
	perConnection              bool

	mu    sync.Mutex
	local netip.Addr
}

func (p *Provider) download(ctx context.Context, r *run) error { return p.throughput(ctx, r, false) }
func (p *Provider) upload(ctx context.Context, r *run) error   { return p.throughput(ctx, r, true) }

// throughput is DownloadDiagnostics() and UploadDiagnostics().
func (p *Provider) throughput(ctx context.Context, r *run, upload bool) error {
	t := &transfer{p: p, upload: upload}
	connections, err := t.arguments(r)
	if err != nil {
		return err
	}
	if t.v, err = p.via(r); err != nil {
		return err
	}
	t.m = newMeter(connections, p.counters)
	t.limit.Store(p.o.MaxBytes)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	errs := make([]error, connections)
	var wg sync.WaitGroup
	for i, c := range t.m.conns {
		wg.Go(func() {
			if errs[i] = t.connection(ctx, c); errs[i] != nil {
				cancel(errs[i]) // the others' results would not say what was asked
			}
		})
	}
	rows := make(chan []increment, 1)
	go func() { rows <- t.clock(ctx, cancel) }()
	wg.Wait()
	err = context.Cause(ctx)
	cancel(nil)
	incremental(r, <-rows, upload)
	if errors.Is(err, errTestOver) {
		err = nil
	}
	test := "TestBytesReceived"
	if upload {
		test = "TestBytesSent"
	}
	t.m.report(r, test, t.perConnection)
	if t.local.IsValid() {
		r.set("IPAddressUsed", t.local.WithZone("").String())
	}
	return err
}

// arguments reads what is common to both tests, except via.
func (t *transfer) arguments(r *run) (connections int, err error) {
	name := "DownloadURL"
	if t.upload {
		name = "UploadURL"
		size := r.args.number("TestFileLength", 0, 0, 1<<63-1)
		if size > uint64(t.p.o.MaxBytes) {
			r.args.fail("TestFileLength", "is more than this device sends in a test")
		}
		t.size = int64(size)
	}
	connections = int(r.args.number("NumberOfConnections", 1, 1, maxConnections))
	t.duration = time.Duration(r.args.number("TimeBasedTestDuration", 0, 0, 999)) * time.Second
	t.interval = time.Duration(r.args.number("TimeBasedTestMeasurementInterval", 0, 0, 999)) * time.Second
	t.offset = time.Duration(r.args.number("TimeBasedTestMeasurementOffset", 0, 0, 255)) * time.Second
	t.perConnection = r.args.flag("EnablePerConnectionResults")
	if t.duration > 0 && t.interval > 0 && t.duration/t.interval > maxIncrements {
		r.args.fail("TimeBasedTestMeasurementInterval", "would give more than "+strconv.Itoa(maxIncrements)+" results")
	}
	if t.upload && t.duration == 0 && t.size == 0 && r.args.err == nil {
		r.args.fail("TestFileLength", "is needed for a test that is not based on time")
	}
	if t.url, err = httpURL(r.args, name); err != nil {
		return 0, err
	}
	return connections, r.args.err
}

// httpURL reads a URL argument; only http and https are built.
func httpURL(a *args, name string) (*url.URL, error) {
	u, err := url.Parse(a.m[name])
	switch {
	case err != nil || u.Host == "" && u.Scheme != "ftp":
		a.fail(name, "is not a URL with a host") // the parser's error would repeat it, with a password perhaps
	case strings.EqualFold(u.Scheme, "ftp"):
		return nil, datamodel.Fail(datamodel.NotImplemented, a.command, "FTP transfers are not supported, HTTP and HTTPS are")
	case !strings.EqualFold(u.Scheme, "http") && !strings.EqualFold(u.Scheme, "https"):
		a.fail(name, "must begin with http:// or https://")
	}
	return u, a.err
}

// connection runs the test on one connection.
func (t *transfer) connection(ctx context.Context, c *connMeter) error {
	tr := t.p.transport(t.v, !t.upload, c, func(local netip.Addr) {
		t.mu.Lock()
		t.local = local
		t.mu.Unlock()
	})
	defer tr.CloseIdleConnections()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { c.request() },
		GotFirstResponseByte: func() {
			if !t.upload {
				c.transfer()
			}
		},
	})
	req, err := t.request(ctx, c)
	if err != nil {
		return status(errInternal, err)
	}
	client := http.Client{Transport: tr, CheckRedirect: t.redirect}
	resp, err := client.Do(req)
	if err == nil {
		err = t.response(ctx, c, resp)
		resp.Body.Close()
	}
	c.m.mu.Lock()
	began := !c.bom.IsZero()
	c.m.mu.Unlock()
	if began {
		c.done()
	}
	switch over := errors.Is(context.Cause(ctx), errTestOver); {
	case err == nil || over && began:
		return nil
	case over:
		return status(errNoResponse, errTestOver)
	}
	return t.classify(err, c, began)
}

func (t *transfer) request(ctx context.Context, c *connMeter) (*http.Request, error) {
	if !t.upload {
		return http.NewRequestWithContext(ctx, http.MethodGet, t.url.String(), nil)
	}
	body := func() (io.ReadCloser, error) { return &payload{ctx: ctx, t: t, c: c, left: t.size, data: noise()}, nil }
	b, _ := body()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, t.url.String(), b)
	if err != nil {
		return nil, err
	}
	req.GetBody = body
	req.ContentLength = t.size
	if t.duration > 0 {
		req.ContentLength = -1 // in chunks, until the time is over
	}
	req.Header.Set("Expect", "100-continue") // a refusal or redirection then comes before the content
	return req, nil
}

// response consumes a response.
func (t *transfer) response(ctx context.Context, c *connMeter, resp *http.Response) error {
	switch {
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusProxyAuthRequired:
		return status(errLogin, errors.New(resp.Status))
	case (resp.StatusCode < 200 || resp.StatusCode > 299) && t.upload:
		return status(errNoTransfer, errors.New(resp.Status))
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return status(errTransfer, errors.New(resp.Status))
	case t.upload:
		return nil
	case resp.ContentLength > t.p.o.MaxBytes:
		return status(errOther, errors.New("the file is larger than this device accepts in a test"))
	}
	buf := make([]byte, chunk)
	for {
		n, err := resp.Body.Read(buf)
		if t.limit.Add(-int64(n)) < 0 {
			return status(errOther, errors.New("more bytes than this device accepts in a test"))
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// redirect follows a few redirections that change neither the method nor the protection.
func (t *transfer) redirect(req *http.Request, via []*http.Request) error {
	first := via[0]
	if len(via) > maxRedirects || first.URL.Scheme == "https" && req.URL.Scheme != "https" || req.Method != first.Method {
		return http.ErrUseLastResponse
	}
	return nil
}

// classify finds the word for an error of a connection.
func (t *transfer) classify(err error, c *connMeter, began bool) error {
	var known *statusError
	if errors.As(err, &known) {
		return known
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // without the URL, which may hold credentials
	}
	c.m.mu.Lock()
	asked := !c.rom.IsZero()
	c.m.mu.Unlock()
	var late net.Error
	timeout := errors.As(err, &late) && late.Timeout()
	switch {
	case !asked: // TLS failed
		return status(errConnect, err)
	case began && timeout:
		return status(errTimeout, err)
	case began && t.upload:
		return status(errNoTransfer, err)
	case began && errors.Is(err, io.ErrUnexpectedEOF):
		return status(errSize, err)
	case began:
		return status(errTransfer, err)
	}
	return status(errNoResponse, err)
}

// payload is the body of an upload: noise, of a given length or until the time of the test is over.
type payload struct {
	ctx  context.Context
	t    *transfer
	c    *connMeter
	left int64
	data []byte
}

func (b *payload) Read(p []byte) (int, error) {
	b.c.transfer()
	if b.t.duration > 0 {
		began := b.t.m.began()
		if b.ctx.Err() != nil || time.Since(began) >= b.t.duration {
			return 0, io.EOF
		}
	} else if b.left == 0 {
		return 0, io.EOF
	} else if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n := copy(p, b.data)
	if b.t.limit.Add(-int64(n)) < 0 {
		return 0, status(errOther, errors.New("more bytes than this device sends in a test"))
	}
	b.left -= int64(n)
	return n, nil
}

func (b *payload) Close() error { return nil }

// noise does not compress.
func noise() []byte {
	b := make([]byte, chunk)
	rand.Read(b) //nolint:errcheck // never fails
	return b
}

func (m *meter) began() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bom.at
}

// increment is one row of IncrementalResult.
type increment struct{ from, to reading }

// responseGrace is how long an upload may take from the end of its time to the response.
const responseGrace = 5 * time.Second

// clock ends a test that is based on time and takes its increments. It returns when ctx ends.
func (t *transfer) clock(ctx context.Context, cancel context.CancelCauseFunc) []increment {
	select {
	case <-t.m.begin:
	case <-ctx.Done():
		return nil
	}
	if t.duration == 0 {
		return nil
	}
	start := t.m.began()
	at := func(d time.Duration) bool { return sleep(ctx, time.Until(start.Add(d))) == nil }
	var out []increment
	if t.interval > 0 && t.offset+t.interval <= t.duration && at(t.offset) {
		from := t.m.reading()
		for next := t.offset + t.interval; next <= t.duration && len(out) < maxIncrements && at(next); next += t.interval {
			to := t.m.reading()
			out = append(out, increment{from, to})
			from = to
		}
	}
	end := t.duration
	if t.upload {
		end += responseGrace // the body ends by itself at its time
	}
	if at(end) {
		cancel(errTestOver)
	}
	return out
}

func incremental(r *run, rows []increment, upload bool) {
	for i, inc := range rows {
		row := "IncrementalResult." + strconv.Itoa(i+1) + "."
		r.time(row+"StartTime", inc.from.at)
		r.time(row+"EndTime", inc.to.at)
		if upload {
			r.number(row+"TestBytesSent", sub(inc.to.testTx, inc.from.testTx))
		} else {
			r.number(row+"TestBytesReceived", sub(inc.to.testRx, inc.from.testRx))
		}
		r.number(row+"TotalBytesReceived", sub(inc.to.totalRx, inc.from.totalRx))
		r.number(row+"TotalBytesSent", sub(inc.to.totalTx, inc.from.totalTx))
	}
}

// transport is an HTTP/1.1 transport for one request. With c it measures; reading says that the peer may not be silent
// (while something is sent it may).
func (p *Provider) transport(v via, reading bool, c *connMeter, used func(local netip.Addr)) *http.Transport {
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if p.o.TLS != nil {
		tlsConfig = p.o.TLS.Clone()
	}
	return &http.Transport{
		DisableKeepAlives: true, DisableCompression: true, TLSClientConfig: tlsConfig, TLSHandshakeTimeout: dialTime,
		ResponseHeaderTimeout: p.idle, ExpectContinueTimeout: time.Second, MaxResponseHeaderBytes: 64 << 10,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, status(errConnect, err)
			}
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil {
				return nil, status(errConnect, err)
			}
			at, err := p.find(ctx, host, v)
			if err != nil {
				return nil, err
			}
			d := net.Dialer{Timeout: dialTime, Control: markSocket(v)}
			if at.src.IsValid() {
				d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(at.src, 0))
			}
			asked := time.Now()
			conn, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(at.dst, uint16(n)).String())
			if unreachable(err) {
				return nil, status(errNoRoute, err)
			} else if err != nil {
				return nil, status(errConnect, fmt.Errorf("connecting: %w", err))
			}
			m := &meteredConn{Conn: conn, c: c, writeIdle: p.idle}
			if reading {
				m.readIdle = p.idle
			}
			if c == nil {
				m.c = &connMeter{}
			} else {
				c.opened(asked, conn)
				used(at.local)
			}
			return m, nil
		},
	}
}
