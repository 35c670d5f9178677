package cwmp

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"twinspan/bridge"
	"twinspan/cwmp/httpc"
	"twinspan/cwmp/soap"
)

const (
	// maxRetryRequests bounds the immediate repetitions after fault 8005 (TR-069 A.5.2). EVT-14
	maxRetryRequests = 5
	// maxExchanges bounds the messages of one session; GetParameterNames walks of big trees need some thousands.
	maxExchanges = 20000
	// maxStrayFaults bounds faults of the ACS that answer nothing. SES-32
	maxStrayFaults = 3
)

// supportedVersions of CWMP, oldest first (TR-069 3.7.4). VER-01
var supportedVersions = []string{"1.0", "1.1", "1.2", "1.3", "1.4"}

// link carries messages to the ACS: one POST each. nil bodies are empty messages.
type link interface {
	Post(ctx context.Context, body []byte) (*httpc.Response, error)
	Close()
}

// sessionJob is what one session is to tell the ACS, frozen when its Inform is built.
type sessionJob struct {
	heartbeat  bool // "14 HEARTBEAT" alone
	events     []event
	changed    []string // canonical paths of "4 VALUE CHANGE"
	completes  []delivery
	retryCount int
	offer      int // index into supportedVersions of the newest version offered
}

// sessionResult says how a session ended.
type sessionResult struct {
	informed       bool  // the Inform was acknowledged: events are delivered, the retry count starts anew
	err            error // nil: ended as the standard wants it
	versionRefused bool  // fault 8006
}

// session is one CWMP session, owned by its goroutine.
type session struct {
	c      *CPE
	set    settings
	job    sessionJob
	link   link
	shield *bridge.Shield
	name   string // random; journal reference and prefix of own message IDs

	namespace string // of our envelopes
	nextID    int
	hold      bool // HoldRequests of the newest message of the ACS
	began     time.Time
	sentEmpty bool // an empty message went out while requests were allowed: no own request follows
	strays    int
}

var (
	errNoAnswer = errors.New("cwmp: the ACS answered with an empty message where a response was due")
	errWrongID  = errors.New("cwmp: the ACS answered with a foreign cwmp:ID")
)

// runSession opens one session and carries it through (TR-069 3.7.1, message order as in figure 3). It runs on its own
// goroutine; it changes the CPE's state only through call.
func (c *CPE) runSession(ctx context.Context, set settings) (res sessionResult) {
	ctx, cancel := context.WithTimeout(ctx, c.o.SessionLimit)
	defer cancel()
	var id [6]byte
	rand.Read(id[:])
	s := &session{c: c, set: set, began: time.Now(), name: hex.EncodeToString(id[:]), namespace: soap.NSCWMP12}
	l, err := c.dial(set)
	if err != nil {
		return sessionResult{err: err}
	}
	s.link = l
	defer l.Close()
	c.findAddress(ctx, set.url)
	if err := c.call(ctx, func() error { s.job = c.freeze(ctx); return nil }); err != nil {
		return sessionResult{err: err}
	}
	if err := s.inform(ctx); err != nil {
		var fault *soap.Fault
		refused := errors.As(err, &fault) && fault.Code == soap.ACSVersionIncompatible
		return sessionResult{err: err, versionRefused: refused}
	}
	defer s.shield.Close()
	res.informed = true
	res.err = s.exchange(ctx)
	return res
}

// inform sends the Inform and takes the answer in. The shield opens with the InformResponse (DESIGN invariant 5).
func (s *session) inform(ctx context.Context) error {
	body, err := s.c.buildInform(ctx, s.job)
	if err != nil {
		return err
	}
	env := &soap.Envelope{Header: soap.Header{ID: s.newID()}, Body: body}
	if version := supportedVersions[s.job.offer]; version >= "1.3" { // TR-069 3.7.4
		env.Header.SessionTimeout = uint32(s.c.o.ReplyTimeout / time.Second)
		if version >= "1.4" {
			env.Header.SupportedCWMPVersions = supportedVersions
		}
	} else if version < "1.2" {
		s.namespace = "urn:dslforum-org:cwmp-1-" + version[2:]
	}
	for try := 0; ; try++ {
		reply, err := s.post(ctx, env)
		if err != nil {
			return err
		}
		if reply == nil {
			return errNoAnswer
		}
		switch m := reply.Body.(type) {
		case *soap.InformResponse:
			if !sameID(reply, env) { // SES-07
				return errWrongID
			}
			return s.begin(ctx, reply)
		case *soap.Fault:
			if m.Code == soap.ACSRetryRequest && try < maxRetryRequests { // TR-069 A.5.2
				continue
			}
			return fmt.Errorf("cwmp: Inform refused: %w", m) // SES-25
		default:
			return fmt.Errorf("cwmp: the ACS answered Inform with %s", cut(reply.Body.Method(), 64))
		}
	}
}

// begin takes over what the InformResponse decides.
func (s *session) begin(ctx context.Context, reply *soap.Envelope) error {
	switch use := reply.Header.UseCWMPVersion; use {
	case "": // an older ACS: its namespace tells. VER-03
		if reply.Namespace == soap.NSCWMP10 || reply.Namespace == soap.NSCWMP11 {
			s.namespace = reply.Namespace
		}
	case "1.0", "1.1", "1.2", "1.3", "1.4": // VER-02
		if use > supportedVersions[s.job.offer] {
			return fmt.Errorf("cwmp: the ACS chose version %s, which was not offered", use)
		}
		s.namespace = soap.NSCWMP12
		if use < "1.2" {
			s.namespace = "urn:dslforum-org:cwmp-1-" + use[2:]
		}
	default: // VER-04
		return fmt.Errorf("cwmp: the ACS chose version %q", cut(use, 16))
	}
	s.hold = reply.Header.Held()
	w := acsWriter
	w.ConnectedAt = s.began
	s.shield = s.c.e.Shield(w)
	if err := s.c.call(ctx, func() error { return s.c.informed(ctx, s.job) }); err != nil {
		s.shield.Close()
		return err
	}
	return nil
}

// exchange is the session after the InformResponse (TR-069 3.7.1.3, 3.7.1.4).
func (s *session) exchange(ctx context.Context) error {
	var answer *soap.Envelope // response that the ACS waits for
	for range maxExchanges {
		if answer == nil && !s.hold && !s.sentEmpty && len(s.job.completes) > 0 {
			// TR-069 3.7.1.3: a request of our own only without hold, and never after an empty message. SES-08, SES-10
			put, err := s.deliver(ctx, s.job.completes[0])
			if err != nil {
				return err
			}
			if !put {
				s.job.completes = s.job.completes[1:]
			}
			continue
		}
		if answer == nil && !s.hold {
			s.sentEmpty = true
		}
		reply, err := s.post(ctx, answer)
		answer = nil
		var bad *soap.Error
		switch {
		case errors.As(err, &bad) && bad.Kind != soap.Malformed:
			answer = s.refuse(reply, bad)
			continue
		case err != nil:
			return err // malformed text ends the session: SES-27
		case reply == nil:
			s.hold = false // an empty message releases the hold: SES-09
			if s.sentEmpty {
				return nil // TR-069 3.7.1.4: neither side has anything more
			}
			continue
		}
		s.hold = reply.Header.Held()
		if _, fault := reply.Body.(*soap.Fault); fault { // SES-32: answers nothing, is answered by nothing
			if s.strays++; s.strays > maxStrayFaults {
				return errors.New("cwmp: the ACS keeps sending faults that answer nothing")
			}
			continue
		}
		if !soap.IsRequest(reply.Body) {
			return fmt.Errorf("cwmp: the ACS sent %s without having been asked", cut(reply.Body.Method(), 64))
		}
		answer = s.serve(ctx, reply)
	}
	return fmt.Errorf("cwmp: more than %d messages in one session", maxExchanges)
}

// post sends one message, nil for an empty one, and returns the decoded answer, nil for an empty one. With a *soap.Error
// the envelope may hold the header that could be read.
func (s *session) post(ctx context.Context, env *soap.Envelope) (*soap.Envelope, error) {
	var body []byte
	if env != nil {
		if env.Namespace == "" {
			env.Namespace = s.namespace
		}
		var err error
		if body, err = soap.Append(nil, env); err != nil {
			return nil, fmt.Errorf("cwmp: encode %s: %w", env.Body.Method(), err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.c.o.ReplyTimeout)
	defer cancel()
	answer, err := s.link.Post(ctx, body)
	if err != nil {
		return nil, fmt.Errorf("cwmp: post: %w", err)
	}
	if len(answer.Body) == 0 {
		return nil, nil
	}
	limits := soap.Limits{MaxBytes: int(s.c.o.MaxBody), MaxDepth: s.c.o.MaxDepth}
	if answer.Truncated { // over the limit already: SES-35, SEC-02
		limits.MaxBytes = len(answer.Body) - 1
	}
	reply, err := soap.Decode(answer.Body, soap.Options{Limits: limits, Charset: answer.Charset})
	var bad *soap.Error
	if answer.Truncated && errors.As(err, &bad) && bad.Kind == soap.TooLarge {
		bad.Text = "more than " + strconv.FormatInt(s.c.o.MaxBody, 10) + " bytes"
	}
	return reply, err
}

// refuse answers a message that could not be decoded but was a SOAP message.
func (s *session) refuse(reply *soap.Envelope, bad *soap.Error) *soap.Envelope {
	env := &soap.Envelope{Namespace: s.namespace, Body: bad.Fault()}
	if reply != nil {
		s.hold = reply.Header.Held()
		env.Header.ID, env.Header.HasID = reply.Header.ID, reply.Header.HasID
	}
	return env
}

// serve carries out one RPC of the ACS and makes its answer. The ID comes back exactly (TR-069 3.5). SES-04
func (s *session) serve(ctx context.Context, req *soap.Envelope) *soap.Envelope {
	answer, err := s.dispatch(ctx, req)
	if err != nil {
		fault := FaultFrom(err)
		s.c.log.Info("rpc refused", "method", cut(req.Body.Method(), 64), "fault", int(fault.Code), "error", err)
		answer = fault
	}
	return &soap.Envelope{Namespace: s.namespace, Header: soap.Header{ID: req.Header.ID, HasID: req.Header.HasID}, Body: answer}
}

func (s *session) newID() string {
	s.nextID++
	return s.name + "-" + strconv.Itoa(s.nextID)
}

// sameID reports whether an answer belongs to a request. A missing ID is let pass: some servers never send one.
func sameID(answer, request *soap.Envelope) bool {
	return !answer.Header.HasID || answer.Header.ID == request.Header.ID
}
