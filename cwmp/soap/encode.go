package soap

import (
	"encoding/xml"
	"io"
	"strconv"
	"strings"
	"time"
)

// flushAt is how much text Encode gathers before it writes.
const flushAt = 16 << 10

// Encode writes one envelope to w. After an error part of it may have been written.
func Encode(w io.Writer, env *Envelope) error {
	e := encoder{buf: make([]byte, 0, flushAt+4096), w: w}
	e.envelope(env)
	e.flush()
	return e.result()
}

// Append appends the text of one envelope to dst; on error dst is returned as it was.
func Append(dst []byte, env *Envelope) ([]byte, error) {
	e := encoder{buf: dst}
	e.envelope(env)
	if err := e.result(); err != nil {
		return dst, err
	}
	return e.buf, nil
}

// encoder writes SOAP text. w nil: everything stays in buf.
type encoder struct {
	buf []byte
	w   io.Writer
	err error
}

func (e *encoder) result() error { return e.err }

func (e *encoder) decoding() bool { return false }

func (e *encoder) fail(element, text string) {
	if e.err == nil {
		e.err = &Error{Kind: BadArguments, Element: element, Text: text}
	}
}

func (e *encoder) flush() {
	if e.w == nil || len(e.buf) == 0 {
		return
	}
	if e.err == nil {
		_, e.err = e.w.Write(e.buf)
	}
	e.buf = e.buf[:0]
}

// Write lets xml.EscapeText append to the buffer.
func (e *encoder) Write(p []byte) (int, error) {
	e.buf = append(e.buf, p...)
	return len(p), nil
}

func (e *encoder) open(name string) {
	e.buf = append(e.buf, '<')
	e.buf = append(e.buf, name...)
	e.buf = append(e.buf, '>')
}

func (e *encoder) close(name string) {
	e.buf = append(e.buf, '<', '/')
	e.buf = append(e.buf, name...)
	e.buf = append(e.buf, '>')
	if len(e.buf) >= flushAt {
		e.flush()
	}
}

// escaped writes text so that no value can change the structure. Plain printable ASCII, nearly everything, is copied;
// the rest goes through encoding/xml, which also replaces what XML cannot say at all.
func (e *encoder) escaped(s string) {
	for i := 0; i < len(s); i++ {
		if b := s[i]; b < 0x20 || b >= 0x7f || b == '<' || b == '>' || b == '&' || b == '"' || b == '\'' {
			e.buf = append(e.buf, s[:i]...)
			_ = xml.EscapeText(e, []byte(s[i:])) // Write never fails
			return
		}
	}
	e.buf = append(e.buf, s...)
}

func (e *encoder) text(name string, v *string, _ int) {
	e.open(name)
	e.escaped(*v)
	e.close(name)
}

func (e *encoder) optText(name string, v *string, max int) {
	if *v != "" {
		e.text(name, v, max)
	}
}

func (e *encoder) key(name string, v *string)    { e.text(name, v, maxKey) }
func (e *encoder) optKey(name string, v *string) { e.optText(name, v, maxKey) }

func (e *encoder) value(name string, v *string, t *Type) {
	typ := t.String()
	if typ == "" {
		e.text(name, v, 0)
		return
	}
	e.buf = append(e.buf, '<')
	e.buf = append(e.buf, name...)
	e.buf = append(e.buf, ` xsi:type="`...)
	e.buf = append(e.buf, typ...)
	e.buf = append(e.buf, '"', '>')
	e.escaped(*v)
	e.close(name)
}

func (e *encoder) boolean(name string, v *bool) {
	e.open(name)
	if *v {
		e.buf = append(e.buf, '1')
	} else {
		e.buf = append(e.buf, '0')
	}
	e.close(name)
}

func (e *encoder) integer(name string, v *int, min, max int) {
	if *v < min || *v > max {
		e.fail(name, "out of range: "+strconv.Itoa(*v))
	}
	e.open(name)
	e.buf = strconv.AppendInt(e.buf, int64(*v), 10)
	e.close(name)
}

func (e *encoder) unsigned(name string, v *uint32) {
	e.open(name)
	e.buf = strconv.AppendUint(e.buf, uint64(*v), 10)
	e.close(name)
}

func (e *encoder) optUnsigned(name string, v *uint32) { e.unsigned(name, v) }

func (e *encoder) code(name string, v *FaultCode) {
	n := uint32(*v)
	e.unsigned(name, &n)
}

// time writes whole seconds; the zero time is the unknown time of TR-069, 0001-01-01T00:00:00Z.
func (e *encoder) time(name string, v *time.Time) {
	if y := v.Year(); y < 0 || y > 9999 {
		e.fail(name, "year out of range")
	}
	e.open(name)
	e.buf = v.AppendFormat(e.buf, time.RFC3339)
	e.close(name)
}

func (e *encoder) optTime(name string, v *time.Time) {
	if !v.IsZero() {
		e.time(name, v)
	}
}

// openArray opens a SOAP array; n is the true number of items, 0 for an empty one.
func (e *encoder) openArray(name, itemType string, n int) {
	e.buf = append(e.buf, '<')
	e.buf = append(e.buf, name...)
	e.buf = append(e.buf, ` soap-enc:arrayType="`...)
	e.buf = append(e.buf, itemType...)
	e.buf = append(e.buf, '[')
	e.buf = strconv.AppendInt(e.buf, int64(n), 10)
	e.buf = append(e.buf, ']', '"', '>')
}

func (e *encoder) texts(name string, v *[]string, _ int) {
	e.openArray(name, "xsd:string", len(*v))
	for i := range *v {
		e.text("string", &(*v)[i], 0)
	}
	e.close(name)
}

func (e *encoder) base64s(name string, v *[]string) {
	e.openArray(name, "soap-enc:base64", len(*v))
	for i := range *v {
		e.text("base64", &(*v)[i], 0)
	}
	e.close(name)
}

func (e *encoder) group(name string, inner func()) {
	e.open(name)
	inner()
	e.close(name)
}

func (e *encoder) array(name, item string, n int, _ func(int), each func(int)) {
	e.openArray(name, "cwmp:"+item, n)
	e.repeated(item, n, nil, each)
	e.close(name)
}

func (e *encoder) repeated(name string, n int, _ func(int), each func(int)) {
	for i := range n {
		if e.err != nil {
			return
		}
		e.open(name)
		each(i)
		e.close(name)
	}
}

func (e *encoder) typedRepeated(name string, n int, _ func(int), kind func(int) *DUOperationKind, each func(int)) {
	for i := range n {
		k := *kind(i)
		if k < Install || k > Uninstall {
			e.fail(name, "unknown operation")
			return
		}
		e.open(name + ` xsi:type="cwmp:` + duKindNames[k] + `"`)
		each(i)
		e.close(name)
	}
}

func (e *encoder) envelope(env *Envelope) {
	ns := env.Namespace
	if ns == "" {
		ns = NSCWMP12
	}
	if !isCWMP(ns) {
		e.fail("Envelope", "not a cwmp namespace: "+ns)
		return
	}
	if env.Body == nil {
		e.fail("Body", "no message")
		return
	}
	e.buf = append(e.buf, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+
		`<soap-env:Envelope xmlns:soap-env="`+NSEnvelope+`" xmlns:soap-enc="`+NSEncoding+
		`" xmlns:xsd="`+NSSchema+`" xmlns:xsi="`+NSInstance+`" xmlns:cwmp="`...)
	e.buf = append(e.buf, ns...)
	e.buf = append(e.buf, `">`...)
	e.header(&env.Header)
	e.open("soap-env:Body")
	if f, isFault := env.Body.(*Fault); isFault {
		e.fault(f)
	} else {
		method := "cwmp:" + env.Body.Method()
		e.open(method)
		env.Body.fields(e)
		e.close(method)
	}
	e.buf = append(e.buf, "</soap-env:Body></soap-env:Envelope>\n"...)
}

// header writes the header elements with the mustUnderstand each must have (TR-069 3.5).
func (e *encoder) header(h *Header) {
	e.open("soap-env:Header")
	if h.ID != "" || h.HasID {
		e.headerText("cwmp:ID", '1', h.ID)
	}
	if h.HoldRequests != nil {
		v := "0"
		if *h.HoldRequests {
			v = "1"
		}
		e.headerText("cwmp:HoldRequests", '1', v)
	}
	if h.SessionTimeout != 0 {
		e.headerText("cwmp:SessionTimeout", '0', strconv.FormatUint(uint64(h.SessionTimeout), 10))
	}
	if h.SupportedCWMPVersions != nil {
		e.headerText("cwmp:SupportedCWMPVersions", '0', strings.Join(h.SupportedCWMPVersions, ","))
	}
	if h.UseCWMPVersion != "" {
		e.headerText("cwmp:UseCWMPVersion", '1', h.UseCWMPVersion)
	}
	e.close("soap-env:Header")
}

func (e *encoder) headerText(name string, mustUnderstand byte, text string) {
	e.buf = append(e.buf, '<')
	e.buf = append(e.buf, name...)
	e.buf = append(e.buf, ` soap-env:mustUnderstand="`...)
	e.buf = append(e.buf, mustUnderstand, '"', '>')
	e.escaped(text)
	e.close(name)
}

// fault writes faultcode without prefix for the two that CWMP uses, and the SOAP-level ones qualified (TR-069 3.5).
func (e *encoder) fault(f *Fault) {
	code, text := f.SOAPCode, f.SOAPString
	if code == "" {
		code = f.Code.SOAPCode()
	}
	if text == "" {
		text = "CWMP fault" // TR-069 3.5: this literal
	}
	if code == "MustUnderstand" || code == "VersionMismatch" {
		code = "soap-env:" + code
	}
	e.open("soap-env:Fault")
	e.text("faultcode", &code, 0)
	e.text("faultstring", &text, 0)
	if f.Code != 0 {
		g := *f
		if g.FaultString == "" {
			g.FaultString = g.Code.String()
		}
		e.open("detail")
		e.open("cwmp:Fault")
		g.fields(e)
		e.close("cwmp:Fault")
		e.close("detail")
	}
	e.close("soap-env:Fault")
}
