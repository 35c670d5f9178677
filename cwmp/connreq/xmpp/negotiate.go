package xmpp

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
)

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// negotiate goes from the open connection to the bound resource (RFC 6120 4 to 7) and returns the full Jabber ID.
func (s *session) negotiate(ctx context.Context) (jid string, err error) {
	s.in = newReader(s.conn)
	features, err := s.restart()
	if err != nil {
		return "", err
	}
	offer := features.child(nsTLS, "starttls")
	required := offer != nil && offer.child(nsTLS, "required") != nil
	if !s.c.cfg.UseTLS && offer != nil && !required && features.child(nsSASL, "mechanisms") == nil {
		required = true // nothing else is offered
	}
	switch {
	case s.c.cfg.UseTLS && offer == nil: // never fall back to the clear
		return "", &misconfigured{"UseTLS is set, and the server does not offer TLS"}
	case s.c.cfg.UseTLS || required:
		if err := s.startTLS(ctx); err != nil {
			return "", err
		}
		if features, err = s.restart(); err != nil {
			return "", err
		}
	}
	if err := s.authenticate(features.child(nsSASL, "mechanisms")); err != nil {
		return "", err
	}
	if features, err = s.restart(); err != nil {
		return "", err
	}
	if features.child(nsBind, "bind") == nil {
		return "", protocol("the server does not offer to bind a resource")
	}
	return s.bind(features)
}

// restart opens a stream and returns what the server offers in it.
func (s *session) restart() (*element, error) {
	if err := s.write("<?xml version='1.0'?><stream:stream to='" + esc(s.c.cfg.Domain) + "' version='1.0' xml:lang='en' xmlns='" +
		nsClient + "' xmlns:stream='" + nsStream + "'>"); err != nil {
		return nil, err
	}
	root, err := s.in.open()
	if err != nil {
		return nil, err
	}
	version := ""
	for _, a := range root.Attr {
		if a.Name.Local == "version" && a.Name.Space == "" {
			version = a.Value
		}
	}
	if !strings.HasPrefix(version, "1.") {
		return nil, protocol("the server speaks a version before 1.0")
	}
	features, err := s.in.next()
	if err != nil {
		return nil, err
	}
	if !features.is(nsStream, "features") {
		return nil, protocol("no features")
	}
	return features, nil
}

func (s *session) startTLS(ctx context.Context) error {
	if err := s.write("<starttls xmlns='" + nsTLS + "'/>"); err != nil {
		return err
	}
	e, err := s.in.next()
	if err != nil {
		return err
	}
	if !e.is(nsTLS, "proceed") {
		return &misconfigured{"the server refuses TLS"}
	}
	if s.in.buffered() > 0 { // sent in the clear, to be taken for part of the secured stream
		return protocol("the server sent more behind proceed")
	}
	cfg := s.c.cfg.TLS.Clone()
	cfg.ServerName = s.c.cfg.Domain // RFC 6120 13.7.2.1: the domain, not where SRV led to
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	conn := tls.Client(s.raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		var cert *tls.CertificateVerificationError
		if errors.As(err, &cert) {
			return &misconfigured{"the server's certificate: " + cert.Err.Error()}
		}
		return fmt.Errorf("xmpp: TLS: %w", err)
	}
	s.conn, s.tls = conn, true
	s.in = newReader(conn)
	return nil
}

// authenticate picks the strongest mechanism. RFC 6120 6
func (s *session) authenticate(offer *element) error {
	var names []string
	if offer != nil {
		for _, m := range offer.children {
			if m.is(nsSASL, "mechanism") {
				names = append(names, strings.TrimSpace(m.text))
			}
		}
	}
	for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-1"} {
		if slices.Contains(names, mechanism) {
			return s.scram(mechanism)
		}
	}
	if slices.Contains(names, "PLAIN") && s.tls {
		plain := "\x00" + s.c.cfg.Username + "\x00" + s.c.cfg.Password
		e, err := s.sasl("<auth xmlns='" + nsSASL + "' mechanism='PLAIN'>" + base64.StdEncoding.EncodeToString([]byte(plain)) + "</auth>")
		if err == nil && !e.is(nsSASL, "success") {
			err = notProved("the server asks back in PLAIN")
		}
		return err
	}
	return &misconfigured{"the server offers no mechanism that can be used; the password is not shown without TLS"}
}

// sasl sends a step and reads the answer; a failure is an error.
func (s *session) sasl(text string) (*element, error) {
	if err := s.write(text); err != nil {
		return nil, err
	}
	e, err := s.in.next()
	if err != nil {
		return nil, err
	}
	if e.is(nsSASL, "failure") {
		condition := e.condition()
		if condition == "temporary-auth-failure" {
			return nil, errors.New("xmpp: " + condition)
		}
		return nil, notProved(condition)
	}
	if e.name.Space != nsSASL {
		return nil, protocol("no answer to the authentication")
	}
	return e, nil
}

func (s *session) scram(mechanism string) error {
	x, err := newSCRAM(mechanism, s.c.cfg.Username, s.c.cfg.Password, rand.Text())
	if err != nil {
		return err
	}
	e, err := s.sasl("<auth xmlns='" + nsSASL + "' mechanism='" + mechanism + "'>" + base64.StdEncoding.EncodeToString([]byte(x.first())) + "</auth>")
	if err != nil {
		return err
	}
	challenge, err := base64.StdEncoding.DecodeString(strings.TrimSpace(e.text))
	if err != nil || e.name.Local != "challenge" {
		return notProved("no challenge")
	}
	final, err := x.final(string(challenge))
	if err != nil {
		return err
	}
	const respond, end = "<response xmlns='" + nsSASL + "'>", "</response>"
	if e, err = s.sasl(respond + base64.StdEncoding.EncodeToString([]byte(final)) + end); err != nil {
		return err
	}
	proof, err := base64.StdEncoding.DecodeString(strings.TrimSpace(e.text))
	if err != nil {
		return notProved("the server's proof is malformed")
	}
	if err := x.verify(string(proof)); err != nil {
		return err
	}
	if e.name.Local == "challenge" { // the proof came before the success (RFC 6120 6.4.6 allows both)
		if e, err = s.sasl(respond + end); err != nil {
			return err
		}
	}
	if e.name.Local != "success" {
		return notProved("no success")
	}
	return nil
}

// bind asks for the resource and tells the server that this one takes no messages. RFC 6120 7
func (s *session) bind(features *element) (string, error) {
	resource := ""
	if r := s.c.cfg.Resource; r != "" {
		resource = "<resource>" + esc(r) + "</resource>"
	}
	e, err := s.ask("<bind xmlns='" + nsBind + "'>" + resource + "</bind>")
	if err != nil {
		return "", err
	}
	jid := ""
	if b := e.child(nsBind, "bind"); b != nil {
		if j := b.child(nsBind, "jid"); j != nil {
			jid = strings.TrimSpace(j.text)
		}
	}
	if bare, resource, ok := strings.Cut(jid, "/"); !ok || bare == "" || resource == "" || len(jid) > 3071 {
		return "", protocol("the server binds no full Jabber ID")
	}
	if old := features.child(nsSession, "session"); old != nil && old.child(nsSession, "optional") == nil { // RFC 3921 3
		if _, err := s.ask("<session xmlns='" + nsSession + "'/>"); err != nil {
			return "", err
		}
	}
	return jid, s.send("<presence><priority>-1</priority></presence>")
}

// ask sends an IQ set and waits for its result; other stanzas that come in between are passed over.
func (s *session) ask(body string) (*element, error) {
	id := s.id()
	if err := s.send("<iq type='set' id='" + id + "'>" + body + "</iq>"); err != nil {
		return nil, err
	}
	for range maxNodes {
		e, err := s.in.next()
		if err != nil {
			return nil, err
		}
		s.c.received.Add(1)
		if !e.is(nsClient, "iq") || e.attr("id") != id {
			continue
		}
		if e.attr("type") != "result" {
			condition := "unknown"
			if x := e.child(nsClient, "error"); x != nil {
				condition = x.condition()
			}
			return nil, &misconfigured{"the server refuses to bind: " + condition}
		}
		return e, nil
	}
	return nil, protocol("no answer to a request")
}
