package acs

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"crypto/rand"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"twinspan/cwmp/internal/digestauth"
	"twinspan/cwmp/soap"
)

// Methods is what the server tells a CPE that asks for its methods.
var Methods = []string{"Inform", "GetRPCMethods", "TransferComplete", "AutonomousTransferComplete",
	"DUStateChangeComplete", "AutonomousDUStateChangeComplete", "RequestDownload"}

// session is one CWMP session, found again by its cookie.
type session struct {
	device      *Device
	cookie      string
	namespace   string
	outstanding *call
	held        bool // the last envelope said HoldRequests=1
	silent      bool // the CPE sent an empty POST while not held: it may send no request any more
	nextID      int
}

// lose ends the outstanding call with an error; the lock is held.
func (ss *session) lose(err error) {
	if ss.outstanding != nil {
		ss.outstanding.done <- result{err: err}
		ss.outstanding = nil
	}
}

// reply is what goes back to the CPE.
type reply struct {
	status   int
	envelope *soap.Envelope // nil: empty
	cookie   string
	fault    Fault
	last     *session // the session that this reply ends
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	s.mu.Lock()
	s.counters.Posts++
	s.counters.BytesIn += int64(len(raw))
	s.mu.Unlock()
	if r.URL.Path != s.cfg.Path && s.cfg.Path != "/" {
		s.refuse(w, http.StatusNotFound)
		return
	}
	if r.Method != http.MethodPost {
		s.refuse(w, http.StatusMethodNotAllowed)
		return
	}
	if !s.authenticated(r) {
		s.challenge(w, r)
		return
	}
	var body []byte
	if err == nil {
		body, err = decode(raw, r.Header.Get("Content-Encoding"))
	}
	if err != nil || len(raw) > maxBody {
		s.refuse(w, http.StatusBadRequest)
		return
	}
	rep := s.step(r, body)
	s.write(w, r, rep)
}

func (s *Server) refuse(w http.ResponseWriter, status int) {
	s.mu.Lock()
	s.counters.Refused++
	s.mu.Unlock()
	w.WriteHeader(status)
}

func decode(raw []byte, coding string) ([]byte, error) {
	var in io.Reader
	var err error
	switch strings.ToLower(coding) {
	case "":
		return raw, nil
	case "gzip":
		in, err = gzip.NewReader(bytes.NewReader(raw))
	case "deflate":
		in, err = zlib.NewReader(bytes.NewReader(raw))
	default:
		err = errors.New("acs: unknown coding")
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(in, maxBody))
}

func (s *Server) binding(r *http.Request) string {
	if s.cfg.NoncePerConnection {
		return r.RemoteAddr
	}
	return ""
}

func (s *Server) authenticated(r *http.Request) bool {
	switch s.cfg.Auth {
	case Basic:
		user, password, ok := r.BasicAuth()
		return ok && user == s.cfg.Username && password == s.cfg.Password
	case Digest:
		return s.auth.Check(r, s.binding(r), func(user string) (string, bool) { return s.cfg.Password, user == s.cfg.Username }) == digestauth.OK
	}
	return true
}

func (s *Server) challenge(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.counters.Unauthorized++
	s.mu.Unlock()
	if s.cfg.Auth == Basic {
		w.Header().Set("WWW-Authenticate", `Basic realm="acs"`)
	} else {
		s.auth.Challenge(w.Header(), s.binding(r), r.Header.Get("Authorization") != "")
	}
	w.WriteHeader(http.StatusUnauthorized)
}

// checkHTTP notes what is wrong with the headers of a POST; the lock is held.
func (s *Server) checkHTTP(r *http.Request, body []byte) {
	action, given := r.Header["Soapaction"]
	switch {
	case len(body) == 0 && given:
		s.violation("empty POST with SOAPAction")
	case len(body) == 0 && r.Header.Get("Content-Type") != "":
		s.violation("empty POST with Content-Type")
	case len(body) > 0 && !given:
		s.violation("POST without SOAPAction")
	case len(body) > 0 && action[0] != "":
		s.violation("SOAPAction has the value %q", action[0])
	case len(body) > 0 && !strings.HasPrefix(r.Header.Get("Content-Type"), "text/xml"):
		s.violation("Content-Type %q", r.Header.Get("Content-Type"))
	}
}

// step takes one message of a CPE and decides what goes back.
func (s *Server) step(r *http.Request, body []byte) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checkHTTP(r, body)
	ss := s.find(r)
	if len(body) == 0 {
		s.counters.EmptyPosts++
		f := s.fault(OnEmpty)
		if f.instead() {
			return reply{fault: f}
		}
		return s.empty(r, ss, f)
	}
	opt := soap.Options{Limits: soap.Limits{MaxBytes: maxBody, MaxElements: 500_000, MaxAttributes: 500_000, MaxList: 100_000}}
	if _, params, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err == nil {
		opt.Charset = params["charset"]
	}
	env, err := soap.Decode(body, opt)
	if err != nil {
		s.violation("envelope refused: %v", err)
		s.counters.Refused++
		return reply{status: http.StatusBadRequest}
	}
	if s.cfg.Strict {
		opt.Strict = true
		if _, err := soap.Decode(body, opt); err != nil {
			s.violation("%s: %v", env.Body.Method(), err)
		}
	}
	inform, isInform := env.Body.(*soap.Inform)
	stage := OnResponse
	switch {
	case isInform:
		s.record(env, inform) // also when it is going to be refused
		stage = OnInform
	case soap.IsRequest(env.Body):
		stage = OnRequest
	}
	f := s.fault(stage)
	if f.instead() { // as if the message had not arrived: it may come again
		return reply{fault: f}
	}
	switch stage {
	case OnInform:
		return s.inform(env, inform, f)
	case OnRequest:
		return s.request(ss, env, f)
	}
	return s.response(r, ss, env, f)
}

func (s *Server) find(r *http.Request) *session {
	for _, c := range r.CookiesNamed(cookieName) {
		if ss := s.sessions[c.Value]; ss != nil {
			return ss
		}
	}
	return nil
}

// record keeps an Inform.
func (s *Server) record(env *soap.Envelope, m *soap.Inform) {
	s.counters.Informs++
	if m.MaxEnvelopes != 1 {
		s.violation("Inform with MaxEnvelopes %d", m.MaxEnvelopes)
	}
	if d := s.device(DeviceKey(m.DeviceID)); d != nil {
		d.informs = keep(d.informs, InformRecord{At: time.Now(), Header: env.Header, Inform: *m})
		s.notify()
	}
}

func (s *Server) inform(env *soap.Envelope, m *soap.Inform, f Fault) reply {
	d := s.device(DeviceKey(m.DeviceID))
	if d == nil {
		s.counters.Refused++
		return reply{status: http.StatusServiceUnavailable}
	}
	answer := &soap.Envelope{Namespace: s.cfg.Namespace, Header: soap.Header{ID: env.Header.ID, HasID: env.Header.HasID}, Body: &soap.InformResponse{MaxEnvelopes: 1}}
	if v := s.cfg.UseCWMPVersion; v != "" && slices.Contains(env.Header.SupportedCWMPVersions, v) {
		answer.Header.UseCWMPVersion = v
	}
	if f.FaultCode != 0 {
		return reply{envelope: answer, fault: f}
	}
	if old := d.current; old != nil {
		old.lose(ErrSessionLost)
		delete(s.sessions, old.cookie)
	}
	s.counters.Sessions++
	ss := &session{device: d, cookie: rand.Text(), namespace: s.cfg.Namespace, held: f.HoldRequests}
	d.current = ss
	s.sessions[ss.cookie] = ss
	s.notify()
	return reply{envelope: answer, cookie: ss.cookie, fault: f}
}

// request answers another request of the CPE.
func (s *Server) request(ss *session, env *soap.Envelope, f Fault) reply {
	if ss == nil {
		return s.stray(env.Body.Method())
	}
	if ss.outstanding != nil {
		s.violation("%s while an answer is owed to %s", env.Body.Method(), ss.outstanding.request.Method())
	}
	if ss.held {
		s.violation("%s while requests are held", env.Body.Method())
	}
	if ss.silent {
		s.violation("%s after an empty POST", env.Body.Method())
	}
	answer := &soap.Envelope{Namespace: ss.namespace, Header: soap.Header{ID: env.Header.ID, HasID: env.Header.HasID}}
	ss.held = f.HoldRequests
	switch m := env.Body.(type) {
	case *soap.GetRPCMethods:
		answer.Body = &soap.GetRPCMethodsResponse{MethodList: Methods}
	case *soap.TransferComplete:
		if f.FaultCode == 0 {
			ss.device.transfers = keep(ss.device.transfers, *m)
		}
		answer.Body = &soap.TransferCompleteResponse{}
	default:
		ss.device.requests = keep(ss.device.requests, env.Body)
		if answer.Body = soap.New(m.Method() + "Response"); answer.Body == nil || !slices.Contains(Methods, m.Method()) {
			answer.Body = soap.NewFault(soap.ACSMethodNotSupported, "")
		}
	}
	s.notify()
	return reply{envelope: answer, fault: f}
}

func (s *Server) stray(what string) reply {
	s.violation("%s outside of a session", what)
	s.counters.Refused++
	return reply{status: http.StatusBadRequest}
}

// response gives an answer of the CPE to who waits for it.
func (s *Server) response(r *http.Request, ss *session, env *soap.Envelope, f Fault) reply {
	if ss == nil {
		return s.stray(env.Body.Method())
	}
	c := ss.outstanding
	if c == nil {
		s.violation("%s answers nothing", env.Body.Method())
		return s.next(r, ss, f)
	}
	ss.outstanding = nil
	fault, isFault := env.Body.(*soap.Fault)
	switch {
	case env.Header.ID != c.id:
		s.violation("%s has the ID %q instead of %q", env.Body.Method(), env.Header.ID, c.id)
		c.done <- result{err: errors.New("acs: the answer has another ID")}
	case isFault:
		c.done <- result{err: fault}
	case env.Body.Method() != c.request.Method()+"Response":
		s.violation("%s answers %s", env.Body.Method(), c.request.Method())
		c.done <- result{err: errors.New("acs: the answer is " + env.Body.Method())}
	default:
		c.done <- result{message: env.Body}
	}
	s.notify()
	return s.next(r, ss, f)
}

// empty takes an empty POST.
func (s *Server) empty(r *http.Request, ss *session, f Fault) reply {
	if ss == nil {
		return s.stray("empty POST")
	}
	if c := ss.outstanding; c != nil {
		s.violation("empty POST instead of the answer to %s", c.request.Method())
		ss.lose(errors.New("acs: the CPE sent no answer"))
	}
	if !ss.held {
		ss.silent = true
	}
	return s.next(r, ss, f)
}

// next sends the next call of the queue, waits in a held session, or ends the session. The lock is held, and let go
// while waiting.
func (s *Server) next(r *http.Request, ss *session, f Fault) reply {
	d := ss.device
	deadline := time.NewTimer(s.cfg.MaxHold)
	defer deadline.Stop()
	for {
		if d.current != ss { // a newer Inform took over
			return reply{status: http.StatusBadRequest}
		}
		if len(d.queue) > 0 && !f.Empty {
			c := d.queue[0]
			d.queue = d.queue[1:]
			ss.nextID++
			c.id = "acs-" + strconv.Itoa(ss.nextID)
			ss.outstanding, ss.held = c, f.HoldRequests
			return reply{envelope: &soap.Envelope{Namespace: ss.namespace, Header: soap.Header{ID: c.id}, Body: c.request}, fault: f}
		}
		if d.holds == 0 || f.Empty {
			break
		}
		changed := s.changed
		s.mu.Unlock()
		stop := false
		select {
		case <-changed:
		case <-deadline.C:
			stop = true
		case <-r.Context().Done():
			stop = true
		case <-s.closed:
			stop = true
		}
		s.mu.Lock()
		if stop {
			break
		}
	}
	held := ss.held
	ss.held = false // an empty message releases the hold (TR-069 3.4.2)
	if ss.silent && !held {
		return reply{status: http.StatusNoContent, fault: f, last: ss}
	}
	return reply{status: http.StatusNoContent, fault: f}
}

// finish ends a session in order, before its last 204 leaves.
func (s *Server) finish(ss *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ss.device.current == ss {
		ss.device.current = nil
		ss.device.ended++
	}
	delete(s.sessions, ss.cookie)
	s.notify()
}
