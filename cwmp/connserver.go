package cwmp

import (
	"sync/atomic"

	"twinspan/cwmp/connreq"
)

// connServer runs the connection-request server as long as it is wanted. Owned by the goroutine in Run; the server's own
// goroutines see only the credentials.
type connServer struct {
	c      *CPE
	host   string // of this device, as the ACS reaches it
	peer   string // address of the ACS when it was last resolved, to look at the route again
	server *connreq.Server
	pair   atomic.Pointer[credentials]
	failed bool // the port could not be opened; logged once
}

type credentials struct{ user, password string }

func newConnServer(c *CPE) *connServer {
	s := &connServer{c: c}
	s.pair.Store(&credentials{})
	return s
}

// configure opens or closes the server as the settings say and takes new credentials over. CR-16, CR-17, CR-18
func (s *connServer) configure(set settings) {
	s.pair.Store(&credentials{set.connReqUser, set.connReqSecret})
	want := set.enabled && set.connReqEnable && s.c.o.Listen != "off"
	if want == (s.server != nil) {
		return
	}
	if !want {
		s.close()
		return
	}
	server, err := connreq.Start(connreq.Config{
		Address:     s.c.o.Listen,
		Path:        s.c.mark.Path,
		Credentials: func() (string, string) { p := s.pair.Load(); return p.user, p.password },
		Requested:   s.c.requested,
		PerMinute:   s.c.o.RequestsPerMinute,
		Burst:       s.c.o.RequestsPerMinute,
		Logger:      s.c.log,
	})
	if err != nil { // tried again whenever the settings are looked at; without it the ACS waits for the next Inform
		if !s.failed {
			s.c.log.Error("connection requests cannot be heard", "listen", s.c.o.Listen, "error", err)
		}
		s.failed = true
		return
	}
	s.server, s.failed = server, false
}

// reached notes the address towards the ACS; without a route the old one stays.
func (s *connServer) reached(host, peer string) {
	if host != "" {
		s.host = host
	}
	if peer != "" {
		s.peer = peer
	}
}

// port is what is listened on, 0 when nothing is.
func (s *connServer) port() int {
	if s.server == nil {
		return 0
	}
	return s.server.Port()
}

func (s *connServer) close() {
	if s.server != nil {
		s.server.Close()
		s.server = nil
	}
}
