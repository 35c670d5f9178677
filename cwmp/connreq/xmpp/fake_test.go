package xmpp

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"twinspan/cwmp/internal/xmpptest"
)

const testDomain = xmpptest.Domain

// faults of the fake server. The zero value behaves.
type faults struct {
	noTLS, requireTLS bool
	mechanisms        []string // SCRAM-SHA-256 and PLAIN
	failure           string   // SASL condition
	iterations        int      // of SCRAM (4096)
	wrongProof        bool
	foreignNonce      bool
	lateSuccess       bool   // the proof comes in a challenge
	bindError         bool   // refuses to bind
	bareJID           bool   // binds no resource
	needSession       bool   // asks for the session of RFC 3921
	features          string // instead of the first features
	head              string // instead of the head of the stream
	inject            string // behind proceed, in the clear
	refuseTLS         bool
	silentPing        bool
	hangUp            bool // closes right after accepting
}

// fakeServer is an XMPP server on loopback for one account.
type fakeServer struct {
	t        testing.TB
	listener net.Listener
	cert     tls.Certificate
	pool     *x509.CertPool
	wg       sync.WaitGroup

	mu     sync.Mutex
	faults faults
	conns  map[net.Conn]bool
	count  int      // connections
	users  []string // authenticated, with mechanism and tls
	closed bool
	live   *fakeStream
	got    []string // stanzas received after binding: name, type, first child
	pings  int
}

type fakeStream struct {
	raw, conn net.Conn
	in        *reader
	tls       bool
}

func startFake(t testing.TB, f faults) *fakeServer {
	s := &fakeServer{t: t, faults: f, conns: map[net.Conn]bool{}}
	s.cert, s.pool = xmpptest.Certificate(t, testDomain)
	var err error
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	s.wg.Go(func() {
		for {
			c, err := s.listener.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.count++
			s.conns[c] = true
			if s.closed {
				c.Close()
			}
			s.mu.Unlock()
			s.wg.Go(func() {
				s.serve(&fakeStream{raw: c, conn: c})
				c.Close()
				s.mu.Lock()
				delete(s.conns, c)
				s.mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		s.listener.Close()
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.cut()
		s.wg.Wait()
	})
	return s
}

// cut closes all connections.
func (s *fakeServer) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

func (s *fakeServer) target() Target {
	return Target{"127.0.0.1", s.listener.Addr().(*net.TCPAddr).Port}
}

func (s *fakeServer) connections() int { s.mu.Lock(); defer s.mu.Unlock(); return s.count }

func (s *fakeServer) logins() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.users)
}

func (s *fakeServer) stanzas() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

// say sends raw text in the live stream.
func (s *fakeServer) say(text string) {
	s.mu.Lock()
	l := s.live
	s.mu.Unlock()
	if l == nil {
		s.t.Error("no stream")
		return
	}
	_, _ = l.conn.Write([]byte(text))
}

func (f *fakeStream) say(format string, args ...any) {
	_, _ = fmt.Fprintf(f.conn, format, args...)
}

func (s *fakeServer) serve(f *fakeStream) {
	s.mu.Lock()
	x := s.faults
	s.mu.Unlock()
	_ = f.raw.SetDeadline(time.Now().Add(20 * time.Second))
	if x.hangUp {
		return
	}
	f.in = newReader(f.conn)
	head := "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='" + nsStream + "' id='1' from='" + testDomain + "' version='1.0'>"
	if x.head != "" {
		head = x.head
	}
	if _, err := f.in.open(); err != nil {
		return
	}
	mechanisms := x.mechanisms
	if mechanisms == nil {
		mechanisms = []string{"SCRAM-SHA-256", "PLAIN"}
	}
	offer := "<mechanisms xmlns='" + nsSASL + "'>"
	for _, m := range mechanisms {
		offer += "<mechanism>" + m + "</mechanism>"
	}
	offer += "</mechanisms>"
	starttls := ""
	if !x.noTLS {
		starttls = "<starttls xmlns='" + nsTLS + "'/>"
		if x.requireTLS {
			starttls = "<starttls xmlns='" + nsTLS + "'><required/></starttls>"
		}
	}
	if x.features != "" {
		f.say("%s%s", head, x.features)
	} else {
		f.say("%s<stream:features>%s%s</stream:features>", head, starttls, offer)
	}
	e, err := f.in.next()
	if err != nil {
		return
	}
	if e.is(nsTLS, "starttls") {
		if x.refuseTLS {
			f.say("<failure xmlns='%s'/></stream:stream>", nsTLS)
			return
		}
		f.say("<proceed xmlns='%s'/>%s", nsTLS, x.inject)
		c := tls.Server(f.raw, &tls.Config{Certificates: []tls.Certificate{s.cert}})
		f.conn, f.tls, f.in = c, true, newReader(c)
		if _, err := f.in.open(); err != nil {
			return
		}
		f.say("%s<stream:features>%s</stream:features>", head, offer)
		if e, err = f.in.next(); err != nil {
			return
		}
	}
	if !s.sasl(f, e, x) {
		return
	}
	if _, err := f.in.open(); err != nil {
		return
	}
	session := ""
	if x.needSession {
		session = "<session xmlns='" + nsSession + "'/>"
	}
	f.say("%s<stream:features><bind xmlns='%s'/>%s</stream:features>", head, nsBind, session)
	s.mu.Lock()
	s.live = f
	s.mu.Unlock()
	_ = f.raw.SetDeadline(time.Time{})
	for {
		e, err := f.in.next()
		if err != nil {
			return
		}
		s.stanza(f, e, x)
	}
}

func (s *fakeServer) stanza(f *fakeStream, e *element, x faults) {
	first := ""
	if len(e.children) > 0 {
		first = e.children[0].name.Local
		if first == "error" {
			first = e.children[0].condition()
		}
	}
	id := e.attr("id")
	switch first {
	case "bind":
		resource := "given"
		if r := e.children[0].child(nsBind, "resource"); r != nil {
			resource = r.text
		}
		jid := "cpe1@" + testDomain + "/" + resource
		if x.bareJID {
			jid = "cpe1@" + testDomain
		}
		if x.bindError {
			f.say("<iq type='error' id='%s'><error type='cancel'><conflict xmlns='%s'/></error></iq>", id, nsStanzas)
			return
		}
		f.say("<message from='x@y'><body>between</body></message><iq type='result' id='%s'><bind xmlns='%s'><jid>%s</jid></bind></iq>", id, nsBind, jid)
		return
	case "session":
		f.say("<iq type='result' id='%s'/>", id)
	case "ping":
		s.mu.Lock()
		s.pings++
		s.mu.Unlock()
		if !x.silentPing {
			f.say("<iq type='error' id='%s'><error type='cancel'><service-unavailable xmlns='%s'/></error></iq>", id, nsStanzas)
		}
	}
	s.mu.Lock()
	s.got = append(s.got, strings.Join([]string{e.name.Local, e.attr("type"), id, e.attr("to"), first}, " "))
	s.mu.Unlock()
}

// sasl authenticates cpe1 with the password "stream secret".
func (s *fakeServer) sasl(f *fakeStream, e *element, x faults) bool {
	mechanism := e.attr("mechanism")
	if x.failure != "" {
		f.say("<failure xmlns='%s'><%s/></failure>", nsSASL, x.failure)
		return false
	}
	raw, _ := base64.StdEncoding.DecodeString(e.text)
	switch mechanism {
	case "PLAIN":
		if string(raw) != "\x00cpe1\x00stream secret" {
			f.say("<failure xmlns='%s'><not-authorized/></failure>", nsSASL)
			return false
		}
		f.say("<success xmlns='%s'/>", nsSASL)
	case "SCRAM-SHA-256":
		if !s.scram(f, string(raw), x) {
			return false
		}
	default:
		return false
	}
	s.mu.Lock()
	s.users = append(s.users, fmt.Sprintf("%s tls=%v", mechanism, f.tls))
	s.mu.Unlock()
	return true
}

func (s *fakeServer) scram(f *fakeStream, first string, x faults) bool {
	bare := strings.TrimPrefix(first, "n,,")
	_, nonce, _ := strings.Cut(bare, ",r=")
	nonce += "server"
	if x.foreignNonce {
		nonce = "another" + nonce
	}
	iterations := 4096
	if x.iterations != 0 {
		iterations = x.iterations
	}
	salt := []byte("salt")
	challenge := fmt.Sprintf("r=%s,s=%s,i=%d", nonce, base64.StdEncoding.EncodeToString(salt), iterations)
	f.say("<challenge xmlns='%s'>%s</challenge>", nsSASL, base64.StdEncoding.EncodeToString([]byte(challenge)))
	e, err := f.in.next()
	if err != nil {
		return false
	}
	raw, _ := base64.StdEncoding.DecodeString(e.text)
	without, proof, _ := strings.Cut(string(raw), ",p=")
	mac := func(key []byte, text string) []byte {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	salted, _ := pbkdf2.Key(sha256.New, "stream secret", salt, iterations, 32)
	client := mac(salted, "Client Key")
	stored := sha256.Sum256(client)
	message := bare + "," + challenge + "," + without
	signature := mac(stored[:], message)
	for i := range signature {
		signature[i] ^= client[i]
	}
	if base64.StdEncoding.EncodeToString(signature) != proof {
		f.say("<failure xmlns='%s'><not-authorized/><text>no</text></failure>", nsSASL)
		return false
	}
	key := mac(salted, "Server Key")
	if x.wrongProof {
		key = []byte("other")
	}
	final := base64.StdEncoding.EncodeToString([]byte("v=" + base64.StdEncoding.EncodeToString(mac(key, message))))
	if x.lateSuccess {
		f.say("<challenge xmlns='%s'>%s</challenge>", nsSASL, final)
		if _, err := f.in.next(); err != nil {
			return false
		}
		final = ""
	}
	f.say("<success xmlns='%s'>%s</success>", nsSASL, final)
	return true
}
