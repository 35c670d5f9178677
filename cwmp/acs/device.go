package acs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/icholy/digest"

	"twinspan/cwmp/soap"
)

// Errors of Call.
var (
	ErrSessionLost = errors.New("acs: the session ended before the answer came")
	ErrQueueFull   = errors.New("acs: too many calls are waiting for the device")
)

// Device is one CPE.
type Device struct {
	server *Server
	Key    string

	// guarded by server.mu
	informs   []InformRecord
	transfers []soap.TransferComplete
	requests  []soap.Message // other requests of the CPE, newest last
	queue     []*call
	holds     int
	current   *session
	ended     int // sessions ended in order
	crUser    string
	crPass    string
}

// InformRecord is one Inform as received.
type InformRecord struct {
	At     time.Time
	Header soap.Header
	Inform soap.Inform
}

// HasEvent reports whether the Inform carries an event code, such as "4 VALUE CHANGE".
func (r *InformRecord) HasEvent(code string) bool {
	return slices.ContainsFunc(r.Inform.Event, func(e soap.Event) bool { return e.EventCode == code })
}

// Value returns a parameter of the Inform.
func (r *InformRecord) Value(name string) (string, bool) {
	for _, p := range r.Inform.ParameterList {
		if p.Name == name {
			return p.Value, true
		}
	}
	return "", false
}

// call is one RPC on its way. done gets exactly one result; it has room for it.
type call struct {
	request soap.Message
	id      string
	done    chan result
}

type result struct {
	message soap.Message
	err     error
}

// Call sends a request in the current session, or in the next one, and waits for the answer. A fault of the CPE is
// returned as error of type *soap.Fault. When ctx ends the request is taken back if it was not sent yet.
func (d *Device) Call(ctx context.Context, request soap.Message) (soap.Message, error) {
	c := &call{request: request, done: make(chan result, 1)}
	s := d.server
	s.mu.Lock()
	select {
	case <-s.closed:
		s.mu.Unlock()
		return nil, ErrClosed
	default:
	}
	if len(d.queue) >= maxQueue {
		s.mu.Unlock()
		return nil, ErrQueueFull
	}
	d.queue = append(d.queue, c)
	s.notify()
	s.mu.Unlock()
	select {
	case r := <-c.done:
		return r.message, r.err
	case <-ctx.Done():
		s.mu.Lock()
		d.queue = slices.DeleteFunc(d.queue, func(other *call) bool { return other == c })
		s.mu.Unlock()
		return nil, ctx.Err()
	}
}

// GetValues asks for parameters, or with a partial path for all below it.
func (d *Device) GetValues(ctx context.Context, names ...string) ([]soap.ParameterValue, error) {
	m, err := d.Call(ctx, &soap.GetParameterValues{ParameterNames: names})
	if err != nil {
		return nil, err
	}
	return m.(*soap.GetParameterValuesResponse).ParameterList, nil
}

// SetValues sets parameters, all or none. It returns the Status: 0 applied, 1 not yet applied.
func (d *Device) SetValues(ctx context.Context, parameterKey string, values ...soap.ParameterValue) (status int, err error) {
	m, err := d.Call(ctx, &soap.SetParameterValues{ParameterList: values, ParameterKey: parameterKey})
	if err != nil {
		return 0, err
	}
	return m.(*soap.SetParameterValuesResponse).Status, nil
}

// Queued is the number of calls that wait to be sent.
func (d *Device) Queued() int {
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	return len(d.queue)
}

// Hold keeps the current session and later ones open when there is nothing to send, until release is called (which may
// be called more than once).
func (d *Device) Hold() (release func()) {
	s := d.server
	s.mu.Lock()
	d.holds++
	s.mu.Unlock()
	released := false
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !released {
			released = true
			d.holds--
			s.notify()
		}
	}
}

// failAll ends all calls; the lock is held.
func (d *Device) failAll(err error) {
	for _, c := range d.queue {
		c.done <- result{err: err}
	}
	d.queue = nil
	if d.current != nil {
		d.current.lose(err)
	}
}

// Informs received, oldest first.
func (d *Device) Informs() []InformRecord {
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	return slices.Clone(d.informs)
}

// LastInform returns the newest Inform; ok is false before the first.
func (d *Device) LastInform() (r InformRecord, ok bool) {
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	if len(d.informs) == 0 {
		return r, false
	}
	return d.informs[len(d.informs)-1], true
}

// WaitInform waits for an Inform that match accepts, among those received already and later ones. match runs under a
// lock and must not call methods of this package except those of the record.
func (d *Device) WaitInform(ctx context.Context, match func(*InformRecord) bool) (InformRecord, error) {
	var found InformRecord
	err := d.server.wait(ctx, func() bool {
		for i := range d.informs {
			if match(&d.informs[i]) {
				found = d.informs[i]
				return true
			}
		}
		return false
	})
	return found, err
}

// WaitEvent waits for an Inform with an event code received after the time since.
func (d *Device) WaitEvent(ctx context.Context, since time.Time, code string) (InformRecord, error) {
	return d.WaitInform(ctx, func(r *InformRecord) bool { return r.At.After(since) && r.HasEvent(code) })
}

// WaitIdle waits until n sessions have ended in order and none is open.
func (d *Device) WaitIdle(ctx context.Context, n int) error {
	return d.server.wait(ctx, func() bool { return d.current == nil && d.ended >= n })
}

// Sessions is the number of sessions that ended in order: with an empty message from both sides.
func (d *Device) Sessions() int {
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	return d.ended
}

// TransferCompletes received, oldest first.
func (d *Device) TransferCompletes() []soap.TransferComplete {
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	return slices.Clone(d.transfers)
}

// Requests of the CPE other than Inform and TransferComplete, oldest first.
func (d *Device) Requests() []soap.Message {
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	return slices.Clone(d.requests)
}

// SetConnectionRequestAuth sets the credentials of ConnectionRequest: what the ACS has set in the device.
func (d *Device) SetConnectionRequestAuth(user, password string) {
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	d.crUser, d.crPass = user, password
}

// ConnectionRequest asks the CPE to open a session, at the ConnectionRequestURL of its last Inform.
func (d *Device) ConnectionRequest(ctx context.Context) error {
	last, ok := d.LastInform()
	if !ok {
		return errors.New("acs: the device sent no Inform yet")
	}
	url, ok := last.Value("Device.ManagementServer.ConnectionRequestURL")
	if !ok {
		url, ok = last.Value("InternetGatewayDevice.ManagementServer.ConnectionRequestURL")
	}
	if !ok || url == "" {
		return errors.New("acs: the last Inform has no ConnectionRequestURL")
	}
	d.server.mu.Lock()
	user, pass := d.crUser, d.crPass
	d.server.mu.Unlock()
	code, err := ConnectionRequest(ctx, url, user, pass)
	if err != nil {
		return err
	}
	if code != http.StatusOK && code != http.StatusNoContent {
		return fmt.Errorf("acs: connection request: HTTP status %d", code)
	}
	return nil
}

// ConnectionRequest makes one connection request with digest authentication and returns the final HTTP status.
func ConnectionRequest(ctx context.Context, url, user, password string) (status int, err error) {
	transport := &http.Transport{DisableKeepAlives: false, MaxConnsPerHost: 1, ResponseHeaderTimeout: 30 * time.Second}
	defer transport.CloseIdleConnections()
	authorization := ""
	for range 2 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return 0, fmt.Errorf("acs: %w", err)
		}
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return 0, fmt.Errorf("acs: %w", err)
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
		_ = resp.Body.Close()
		status = resp.StatusCode
		if status != http.StatusUnauthorized || authorization != "" {
			return status, nil
		}
		chal, err := digest.FindChallenge(resp.Header)
		if err != nil {
			return status, nil // nothing that can be answered: 401 it is
		}
		cred, err := digest.Digest(chal, digest.Options{Method: http.MethodGet, URI: req.URL.RequestURI(), Username: user, Password: password, Count: 1})
		if err != nil {
			return status, fmt.Errorf("acs: %w", err)
		}
		authorization = cred.String()
	}
	return status, nil
}
