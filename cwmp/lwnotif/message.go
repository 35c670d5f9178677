package lwnotif

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Namespace of the Notification document.
const Namespace = "urn:broadband-forum-org:cwmp:lwnotif-1-0"

// Limits of a message.
const (
	MaxMessage = 8 << 10 // bytes that are taken
	maxParams  = 256
)

// ErrMalformed is wrapped by every error of Parse.
var ErrMalformed = errors.New("lwnotif: malformed notification")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

// Param is a changed parameter with its present value. Type is "xsd:string" and so on.
type Param struct{ Name, Type, Value string }

// Device identifies the sender.
type Device struct{ OUI, ProductClass, SerialNumber string }

// Message is one notification.
type Message struct {
	Timestamp int64  // TS: seconds since 1970
	User      string // UN
	Cnonce    string // CN
	Device    Device
	Params    []Param

	signature []byte // of a parsed message
	body      []byte
}

// Encode makes the datagram. host and port are those of the receiver.
func (m *Message) Encode(host string, port int, password string) []byte {
	var b bytes.Buffer
	text := func(name, value string) {
		b.WriteString("<" + name + ">")
		_ = xml.EscapeText(&b, []byte(value)) // a Buffer does not fail
		b.WriteString("</" + name + ">")
	}
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?><Notification xmlns="` + Namespace + `" xmlns:xsd="http://www.w3.org/2001/XMLSchema"` +
		` xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">`)
	text("TS", strconv.FormatInt(m.Timestamp, 10))
	text("UN", m.User)
	text("CN", m.Cnonce)
	text("OUI", m.Device.OUI)
	text("ProductClass", m.Device.ProductClass)
	text("SerialNumber", m.Device.SerialNumber)
	for _, p := range m.Params {
		b.WriteString("<Param>")
		text("Name", p.Name)
		b.WriteString(`<Value xsi:type="`)
		_ = xml.EscapeText(&b, []byte(p.Type))
		b.WriteString(`">`)
		_ = xml.EscapeText(&b, []byte(p.Value))
		b.WriteString("</Value></Param>")
	}
	b.WriteString("</Notification>")
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	head := fmt.Sprintf("POST / HTTP/1.1\r\nHost: %s:%d\r\nContent-Type: text/xml; charset=\"utf-8\"\r\nContent-Length: %d\r\nSignature: %s\r\n\r\n",
		host, port, b.Len(), strings.ToUpper(hex.EncodeToString(sign(b.Bytes(), password))))
	return append([]byte(head), b.Bytes()...)
}

func sign(body []byte, password string) []byte {
	m := hmac.New(sha1.New, []byte(password))
	m.Write(body)
	return m.Sum(nil)
}

// Signed reports whether a parsed message was signed with the password.
func (m *Message) Signed(password string) bool {
	return password != "" && hmac.Equal(m.signature, sign(m.body, password))
}

// document is the body.
type document struct {
	XMLName      xml.Name `xml:"urn:broadband-forum-org:cwmp:lwnotif-1-0 Notification"`
	TS           string
	UN           string
	CN           string
	OUI          string
	ProductClass string
	SerialNumber string
	Param        []struct {
		Name  string
		Value struct {
			Type string `xml:"http://www.w3.org/2001/XMLSchema-instance type,attr"`
			Text string `xml:",chardata"`
		}
	}
}

// Parse takes a datagram apart: the ACS's side. It does not check the signature.
func Parse(datagram []byte) (*Message, error) {
	if len(datagram) > MaxMessage {
		return nil, malformed("%d bytes", len(datagram))
	}
	head, body, ok := bytes.Cut(datagram, []byte("\r\n\r\n"))
	line, headers, _ := strings.Cut(string(head), "\r\n")
	if method, rest, _ := strings.Cut(line, " "); !ok || method != "POST" || !strings.HasSuffix(rest, " HTTP/1.1") {
		return nil, malformed("not a POST of HTTP/1.1")
	}
	m := &Message{body: append([]byte(nil), body...)}
	length := -1
	for h := range strings.SplitSeq(headers, "\r\n") {
		name, value, _ := strings.Cut(h, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "content-length":
			n, err := strconv.Atoi(value)
			if err != nil || length >= 0 {
				return nil, malformed("Content-Length")
			}
			length = n
		case "signature":
			raw, err := hex.DecodeString(value)
			if err != nil || len(raw) != sha1.Size || m.signature != nil {
				return nil, malformed("Signature")
			}
			m.signature = raw
		}
	}
	if length != len(body) || m.signature == nil {
		return nil, malformed("Content-Length %d for %d bytes, or no Signature", length, len(body))
	}
	var doc document
	if err := xml.Unmarshal(body, &doc); err != nil {
		return nil, malformed("the document")
	}
	var err error
	if m.Timestamp, err = strconv.ParseInt(strings.TrimSpace(doc.TS), 10, 64); err != nil {
		return nil, malformed("TS")
	}
	if len(doc.Param) == 0 || len(doc.Param) > maxParams {
		return nil, malformed("%d parameters", len(doc.Param))
	}
	m.User, m.Cnonce, m.Device = doc.UN, doc.CN, Device{doc.OUI, doc.ProductClass, doc.SerialNumber}
	for _, p := range doc.Param {
		m.Params = append(m.Params, Param{p.Name, p.Value.Type, p.Value.Text})
	}
	return m, nil
}
