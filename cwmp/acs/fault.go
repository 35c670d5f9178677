package acs

import (
	"slices"
	"time"

	"twinspan/cwmp/soap"
)

// Stage is the point of a session at which a Fault applies: what the CPE has just sent.
type Stage uint8

// The stages.
const (
	OnAny      Stage = iota
	OnInform         // an Inform
	OnRequest        // another request of the CPE
	OnResponse       // a response or fault of the CPE
	OnEmpty          // an empty POST
)

// Fault makes the server misbehave. The first matching one is used; several of its fields may be set together.
type Fault struct {
	Stage Stage
	Skip  int // matching messages to let pass first
	Times int // how often; 0 means for ever

	// Instead of an answer; the message counts as not received, except that an Inform is recorded:
	Cut          bool   // close the connection without one
	Status       int    // an HTTP status, such as 500 or 503
	Redirect     string // Location; with Status 302 (default) or 307
	Unauthorized bool   // 401 with a fresh challenge, whatever the credentials

	// Changes to the answer:
	Delay        time.Duration  // before it
	FaultCode    soap.FaultCode // a fault to the CPE's request, such as 8005
	WrongID      bool           // another cwmp:ID
	HoldRequests bool           // HoldRequests=1 in it
	Empty        bool           // 204 in its place, whatever should be answered
	Malformed    bool           // XML that is not well-formed
	Raw          []byte         // these bytes as body
	Pad          int            // so many bytes of comment inside, for big bodies
	CutAfter     int            // close the connection after so many bytes of the body
	Chunked      int            // in chunks of so many bytes
	Gzip         bool
	Close        bool // Connection: close

	skipped, used int
}

// instead reports whether the message is to be treated as not received.
func (f *Fault) instead() bool {
	return f.Cut || f.Status != 0 || f.Redirect != "" || f.Unauthorized
}

// Inject adds a fault; remove takes it back.
func (s *Server) Inject(f Fault) (remove func()) {
	p := &f
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, p)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.faults = slices.DeleteFunc(s.faults, func(other *Fault) bool { return other == p })
	}
}

// ClearFaults takes all back.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// fault finds the one that applies now and counts its use; the lock is held. The zero Fault changes nothing.
func (s *Server) fault(stage Stage) Fault {
	for _, f := range s.faults {
		if f.Stage != OnAny && f.Stage != stage || f.Times > 0 && f.used >= f.Times {
			continue
		}
		if f.skipped < f.Skip {
			f.skipped++
			continue
		}
		f.used++
		return *f
	}
	return Fault{}
}
