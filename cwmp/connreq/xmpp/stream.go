package xmpp

import (
	"bufio"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Namespaces.
const (
	nsStream   = "http://etherx.jabber.org/streams"
	nsClient   = "jabber:client"
	nsTLS      = "urn:ietf:params:xml:ns:xmpp-tls"
	nsSASL     = "urn:ietf:params:xml:ns:xmpp-sasl"
	nsBind     = "urn:ietf:params:xml:ns:xmpp-bind"
	nsSession  = "urn:ietf:params:xml:ns:xmpp-session"
	nsStanzas  = "urn:ietf:params:xml:ns:xmpp-stanzas"
	nsPing     = "urn:xmpp:ping"
	nsConnReq  = "urn:broadband-forum-org:cwmp:xmppConnReq-1-0"
	maxStanza  = 64 << 10
	maxDepth   = 16
	maxNodes   = 512
	maxStreams = "stanza is larger than the limit"
)

// ErrProtocol is wrapped when the other side does not speak XMPP as it should.
var ErrProtocol = errors.New("xmpp: protocol error")

func protocol(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrProtocol}, args...)...)
}

// errClosed is the orderly end of a stream by the server.
var errClosed = errors.New("xmpp: the server closed the stream")

// element is a stanza or a part of one.
type element struct {
	name     xml.Name
	attrs    []xml.Attr
	children []*element
	text     string
}

func (e *element) is(space, local string) bool { return e.name.Space == space && e.name.Local == local }

func (e *element) attr(local string) string {
	for _, a := range e.attrs {
		if a.Name.Local == local && a.Name.Space == "" {
			return a.Value
		}
	}
	return ""
}

func (e *element) child(space, local string) *element {
	for _, c := range e.children {
		if c.is(space, local) {
			return c
		}
	}
	return nil
}

// condition names the first child, which is what errors and failures are told by. It comes from outside: only names that
// could be one are shown.
func (e *element) condition() string {
	for _, c := range e.children {
		if n := c.name.Local; len(n) <= 64 && n != "text" && !strings.ContainsFunc(n, func(r rune) bool { return r > '~' || r <= ' ' }) {
			return n
		}
	}
	return "unknown"
}

// reader reads one XML stream, element by element, with bounded memory. The byte source is kept over a restart of the
// stream; the decoder never reads ahead of what it returns.
type reader struct {
	src *limitedSource
	dec *xml.Decoder
}

// limitedSource counts what the decoder takes.
type limitedSource struct {
	*bufio.Reader
	left int
}

var errStanzaSize = fmt.Errorf("%w: "+maxStreams, ErrProtocol)

// ReadByte makes the decoder read bytewise, and so not ahead.
func (l *limitedSource) ReadByte() (byte, error) {
	if l.left <= 0 {
		return 0, errStanzaSize
	}
	l.left--
	return l.Reader.ReadByte()
}

func newReader(r io.Reader) *reader {
	return &reader{src: &limitedSource{Reader: bufio.NewReaderSize(r, 2048)}}
}

// open reads the head of a new stream and returns its root.
func (r *reader) open() (xml.StartElement, error) {
	r.src.left = maxStanza
	r.dec = xml.NewDecoder(r.src)
	for first := true; ; first = false {
		t, err := r.dec.Token()
		if err != nil {
			return xml.StartElement{}, readError(err)
		}
		switch t := t.(type) {
		case xml.ProcInst:
			if t.Target != "xml" || !first {
				return xml.StartElement{}, protocol("processing instruction")
			}
		case xml.CharData:
			if len(strings.TrimSpace(string(t))) != 0 {
				return xml.StartElement{}, protocol("text before the stream")
			}
		case xml.StartElement:
			if t.Name.Space != nsStream || t.Name.Local != "stream" {
				return xml.StartElement{}, protocol("no stream")
			}
			return t.Copy(), nil
		default:
			return xml.StartElement{}, protocol("forbidden XML before the stream") // RFC 6120 11.1
		}
	}
}

// next reads one element of the stream. Blanks between stanzas, which keep connections alive for weeks, are passed over
// without counting.
func (r *reader) next() (*element, error) {
	for {
		b, err := r.src.Reader.ReadByte()
		if err != nil {
			return nil, readError(err)
		}
		if b != ' ' && b != '\n' && b != '\r' && b != '\t' {
			if b != '<' { // the decoder would wait for the end of the text
				return nil, protocol("text between stanzas")
			}
			_ = r.src.UnreadByte() // cannot fail after ReadByte
			break
		}
	}
	r.src.left = maxStanza
	t, err := r.dec.Token()
	if err != nil {
		return nil, readError(err)
	}
	switch t := t.(type) {
	case xml.StartElement:
		nodes := 0
		e, err := r.element(t, 1, &nodes)
		if err != nil {
			return nil, err
		}
		if e.is(nsStream, "error") {
			return nil, protocol("stream error %s", e.condition())
		}
		return e, nil
	case xml.EndElement:
		return nil, errClosed
	}
	return nil, protocol("forbidden XML between stanzas")
}

func (r *reader) element(start xml.StartElement, depth int, nodes *int) (*element, error) {
	if *nodes++; depth > maxDepth || *nodes > maxNodes {
		return nil, protocol("stanza with more than %d levels or %d elements", maxDepth, maxNodes)
	}
	e := &element{name: start.Name, attrs: start.Copy().Attr}
	var text strings.Builder
	for {
		t, err := r.dec.Token()
		if err != nil {
			return nil, readError(err)
		}
		switch t := t.(type) {
		case xml.StartElement:
			c, err := r.element(t, depth+1, nodes)
			if err != nil {
				return nil, err
			}
			e.children = append(e.children, c)
		case xml.EndElement:
			e.text = text.String()
			return e, nil
		case xml.CharData:
			text.Write(t)
		default:
			return nil, protocol("forbidden XML in a stanza")
		}
	}
}

// buffered tells how much was received beyond what was read.
func (r *reader) buffered() int { return r.src.Buffered() }

// readError tells bad XML from a lost connection, and repeats nothing of what was sent.
func readError(err error) error {
	var syntax *xml.SyntaxError
	if errors.As(err, &syntax) {
		if strings.Contains(syntax.Msg, "unexpected EOF") {
			return fmt.Errorf("xmpp: %w", io.ErrUnexpectedEOF)
		}
		return protocol("malformed XML")
	}
	if errors.Is(err, ErrProtocol) {
		return err
	}
	return fmt.Errorf("xmpp: %w", err)
}

// esc escapes text for content and attribute values.
func esc(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder does not fail
	return b.String()
}
